# SPDX-License-Identifier: Apache-2.0
# A unit test is test_<module>.c here and one block of four lines below.
UNIT_TESTS =
check_PROGRAMS += $(UNIT_TESTS)
TESTS += $(UNIT_TESTS)
UNIT_HARNESS = %D%/harness.c %D%/harness.h
UNIT_CFLAGS = $(AM_CFLAGS) $(CUNIT_CFLAGS)
UNIT_LIBS = $(LIBHEARTH_LIBS) $(CUNIT_LIBS)

UNIT_TESTS += %D%/test_arena
%C%_test_arena_SOURCES = %D%/test_arena.c $(UNIT_HARNESS)
%C%_test_arena_CFLAGS = $(UNIT_CFLAGS)
%C%_test_arena_LDADD = $(UNIT_LIBS)

UNIT_TESTS += %D%/test_buf
%C%_test_buf_SOURCES = %D%/test_buf.c $(UNIT_HARNESS)
%C%_test_buf_CFLAGS = $(UNIT_CFLAGS)
%C%_test_buf_LDADD = $(UNIT_LIBS)

UNIT_TESTS += %D%/test_clock
%C%_test_clock_SOURCES = %D%/test_clock.c $(UNIT_HARNESS)
%C%_test_clock_CFLAGS = $(UNIT_CFLAGS)
%C%_test_clock_LDADD = $(UNIT_LIBS)

UNIT_TESTS += %D%/test_conf
%C%_test_conf_SOURCES = %D%/test_conf.c $(UNIT_HARNESS)
%C%_test_conf_CFLAGS = $(UNIT_CFLAGS)
%C%_test_conf_LDADD = $(UNIT_LIBS)

UNIT_TESTS += %D%/test_err
%C%_test_err_SOURCES = %D%/test_err.c $(UNIT_HARNESS)
%C%_test_err_CFLAGS = $(UNIT_CFLAGS)
%C%_test_err_LDADD = $(UNIT_LIBS)

UNIT_TESTS += %D%/test_id
%C%_test_id_SOURCES = %D%/test_id.c $(UNIT_HARNESS)
%C%_test_id_CFLAGS = $(UNIT_CFLAGS)
%C%_test_id_LDADD = $(UNIT_LIBS)

UNIT_TESTS += %D%/test_json
%C%_test_json_SOURCES = %D%/test_json.c $(UNIT_HARNESS)
%C%_test_json_CFLAGS = $(UNIT_CFLAGS)
%C%_test_json_LDADD = $(UNIT_LIBS)

UNIT_TESTS += %D%/test_json_diff
%C%_test_json_diff_SOURCES = %D%/test_json_diff.c $(UNIT_HARNESS)
%C%_test_json_diff_CFLAGS = $(UNIT_CFLAGS)
%C%_test_json_diff_LDADD = $(UNIT_LIBS)

UNIT_TESTS += %D%/test_log
%C%_test_log_SOURCES = %D%/test_log.c $(UNIT_HARNESS)
%C%_test_log_CFLAGS = $(UNIT_CFLAGS)
%C%_test_log_LDADD = $(UNIT_LIBS)

UNIT_TESTS += %D%/test_secret
%C%_test_secret_SOURCES = %D%/test_secret.c $(UNIT_HARNESS)
%C%_test_secret_CFLAGS = $(UNIT_CFLAGS)
%C%_test_secret_LDADD = $(UNIT_LIBS)

UNIT_TESTS += %D%/test_sse_parse
%C%_test_sse_parse_SOURCES = %D%/test_sse_parse.c $(UNIT_HARNESS)
%C%_test_sse_parse_CFLAGS = $(UNIT_CFLAGS)
%C%_test_sse_parse_LDADD = $(UNIT_LIBS)

UNIT_TESTS += %D%/test_netaddr
%C%_test_netaddr_SOURCES = %D%/test_netaddr.c $(UNIT_HARNESS)
%C%_test_netaddr_CFLAGS = $(UNIT_CFLAGS)
%C%_test_netaddr_LDADD = $(UNIT_LIBS)

CORE_LIBS = core/libcore.a $(UNIT_LIBS)

UNIT_TESTS += %D%/test_keyring
%C%_test_keyring_SOURCES = %D%/test_keyring.c $(UNIT_HARNESS)
%C%_test_keyring_CFLAGS = $(UNIT_CFLAGS)
%C%_test_keyring_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_names
%C%_test_names_SOURCES = %D%/test_names.c $(UNIT_HARNESS)
%C%_test_names_CFLAGS = $(UNIT_CFLAGS)
%C%_test_names_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_problem
%C%_test_problem_SOURCES = %D%/test_problem.c $(UNIT_HARNESS)
%C%_test_problem_CFLAGS = $(UNIT_CFLAGS)
%C%_test_problem_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_permission
%C%_test_permission_SOURCES = %D%/test_permission.c $(UNIT_HARNESS)
%C%_test_permission_CFLAGS = $(UNIT_CFLAGS)
%C%_test_permission_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_event
%C%_test_event_SOURCES = %D%/test_event.c $(UNIT_HARNESS)
%C%_test_event_CFLAGS = $(UNIT_CFLAGS)
%C%_test_event_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_chat_wire
%C%_test_chat_wire_SOURCES = %D%/test_chat_wire.c $(UNIT_HARNESS)
%C%_test_chat_wire_CFLAGS = $(UNIT_CFLAGS)
%C%_test_chat_wire_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_framework
%C%_test_framework_SOURCES = %D%/test_framework.c $(UNIT_HARNESS)
%C%_test_framework_CFLAGS = $(UNIT_CFLAGS)
%C%_test_framework_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_llm_check
%C%_test_llm_check_SOURCES = %D%/test_llm_check.c $(UNIT_HARNESS)
%C%_test_llm_check_CFLAGS = $(UNIT_CFLAGS)
%C%_test_llm_check_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_page_url
%C%_test_page_url_SOURCES = %D%/test_page_url.c $(UNIT_HARNESS)
%C%_test_page_url_CFLAGS = $(UNIT_CFLAGS)
%C%_test_page_url_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_settings
%C%_test_settings_SOURCES = %D%/test_settings.c $(UNIT_HARNESS)
%C%_test_settings_CFLAGS = $(UNIT_CFLAGS)
%C%_test_settings_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_schema
%C%_test_schema_SOURCES = %D%/test_schema.c tests/fake/servers.c tests/fake/servers.h $(UNIT_HARNESS)
%C%_test_schema_CFLAGS = $(UNIT_CFLAGS)
%C%_test_schema_LDADD = $(CORE_LIBS)

# These start real servers.
UNIT_SERVERS = tests/fake/servers.c tests/fake/servers.h

UNIT_TESTS += %D%/test_db
%C%_test_db_SOURCES = %D%/test_db.c $(UNIT_SERVERS) $(UNIT_HARNESS)
%C%_test_db_CFLAGS = $(UNIT_CFLAGS)
%C%_test_db_LDADD = $(UNIT_LIBS)

UNIT_TESTS += %D%/test_bus
%C%_test_bus_SOURCES = %D%/test_bus.c $(UNIT_SERVERS) $(UNIT_HARNESS)
%C%_test_bus_CFLAGS = $(UNIT_CFLAGS)
%C%_test_bus_LDADD = $(UNIT_LIBS)

HTTP_STAGE = %D%/http_stage.c %D%/http_stage.h tests/fake/http_server.c tests/fake/http_server.h

UNIT_TESTS += %D%/test_http
%C%_test_http_SOURCES = %D%/test_http.c $(HTTP_STAGE) $(UNIT_SERVERS) $(UNIT_HARNESS)
%C%_test_http_CFLAGS = $(UNIT_CFLAGS)
%C%_test_http_LDADD = $(UNIT_LIBS) $(CURL_LIBS)

UNIT_TESTS += %D%/test_http_end
%C%_test_http_end_SOURCES = %D%/test_http_end.c $(HTTP_STAGE) $(UNIT_HARNESS)
%C%_test_http_end_CFLAGS = $(UNIT_CFLAGS)
%C%_test_http_end_LDADD = $(UNIT_LIBS) $(CURL_LIBS)

# The SQL modules of core/, on a server with the schema.
SQL_FIXTURE = %D%/sql_fixture.c %D%/sql_fixture.h $(UNIT_SERVERS)

UNIT_TESTS += %D%/test_version
%C%_test_version_SOURCES = %D%/test_version.c $(SQL_FIXTURE) $(UNIT_HARNESS)
%C%_test_version_CFLAGS = $(UNIT_CFLAGS)
%C%_test_version_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_conversation
%C%_test_conversation_SOURCES = %D%/test_conversation.c $(SQL_FIXTURE) $(UNIT_HARNESS)
%C%_test_conversation_CFLAGS = $(UNIT_CFLAGS)
%C%_test_conversation_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_org
%C%_test_org_SOURCES = %D%/test_org.c $(SQL_FIXTURE) $(UNIT_HARNESS)
%C%_test_org_CFLAGS = $(UNIT_CFLAGS)
%C%_test_org_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_sealing
%C%_test_sealing_SOURCES = %D%/test_sealing.c $(SQL_FIXTURE) $(UNIT_HARNESS)
%C%_test_sealing_CFLAGS = $(UNIT_CFLAGS)
%C%_test_sealing_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_llm_config
%C%_test_llm_config_SOURCES = %D%/test_llm_config.c %D%/placement_one.c %D%/placement_one.h $(SQL_FIXTURE) $(UNIT_HARNESS)
%C%_test_llm_config_CFLAGS = $(UNIT_CFLAGS)
%C%_test_llm_config_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_token
%C%_test_token_SOURCES = %D%/test_token.c $(SQL_FIXTURE) $(UNIT_HARNESS)
%C%_test_token_CFLAGS = $(UNIT_CFLAGS)
%C%_test_token_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_access
%C%_test_access_SOURCES = %D%/test_access.c $(SQL_FIXTURE) $(UNIT_HARNESS)
%C%_test_access_CFLAGS = $(UNIT_CFLAGS)
%C%_test_access_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_instance
%C%_test_instance_SOURCES = %D%/test_instance.c $(SQL_FIXTURE) $(UNIT_HARNESS)
%C%_test_instance_CFLAGS = $(UNIT_CFLAGS)
%C%_test_instance_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_operation
%C%_test_operation_SOURCES = %D%/test_operation.c $(SQL_FIXTURE) $(UNIT_HARNESS)
%C%_test_operation_CFLAGS = $(UNIT_CFLAGS)
%C%_test_operation_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_lifecycle
%C%_test_lifecycle_SOURCES = %D%/test_lifecycle.c $(SQL_FIXTURE) $(UNIT_HARNESS)
%C%_test_lifecycle_CFLAGS = $(UNIT_CFLAGS)
%C%_test_lifecycle_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_explain
%C%_test_explain_SOURCES = %D%/test_explain.c $(SQL_FIXTURE) $(UNIT_HARNESS)
%C%_test_explain_CFLAGS = $(UNIT_CFLAGS)
%C%_test_explain_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_lease
%C%_test_lease_SOURCES = %D%/test_lease.c $(SQL_FIXTURE) $(UNIT_HARNESS)
%C%_test_lease_CFLAGS = $(UNIT_CFLAGS)
%C%_test_lease_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_placement
%C%_test_placement_SOURCES = %D%/test_placement.c %D%/placement_one.c %D%/placement_one.h $(SQL_FIXTURE) $(UNIT_HARNESS)
%C%_test_placement_CFLAGS = $(UNIT_CFLAGS)
%C%_test_placement_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_recovery
%C%_test_recovery_SOURCES = %D%/test_recovery.c %D%/placement_one.c %D%/placement_one.h $(SQL_FIXTURE) $(UNIT_HARNESS)
%C%_test_recovery_CFLAGS = $(UNIT_CFLAGS)
%C%_test_recovery_LDADD = $(CORE_LIBS)

UNIT_TESTS += %D%/test_stats
%C%_test_stats_SOURCES = %D%/test_stats.c $(SQL_FIXTURE) $(UNIT_HARNESS)
%C%_test_stats_CFLAGS = $(UNIT_CFLAGS)
%C%_test_stats_LDADD = $(CORE_LIBS)

# The parts of hearth.fcgi that need no server.
APP_LIBS = fcgi-app/libapp.a $(CORE_LIBS) $(FCGI_LIBS)

UNIT_TESTS += %D%/test_router
%C%_test_router_SOURCES = %D%/test_router.c $(UNIT_HARNESS)
%C%_test_router_CFLAGS = $(UNIT_CFLAGS)
%C%_test_router_LDADD = $(APP_LIBS)

UNIT_TESTS += %D%/test_request
%C%_test_request_SOURCES = %D%/test_request.c $(UNIT_HARNESS)
%C%_test_request_CFLAGS = $(UNIT_CFLAGS)
%C%_test_request_LDADD = $(APP_LIBS)

UNIT_TESTS += %D%/test_fcgi
%C%_test_fcgi_SOURCES = %D%/test_fcgi.c tests/fake/fcgi_client.c tests/fake/fcgi_client.h $(UNIT_HARNESS)
%C%_test_fcgi_CFLAGS = $(UNIT_CFLAGS)
%C%_test_fcgi_LDADD = $(APP_LIBS)

UNIT_TESTS += %D%/test_openai_request
%C%_test_openai_request_SOURCES = %D%/test_openai_request.c $(UNIT_HARNESS)
%C%_test_openai_request_CFLAGS = $(UNIT_CFLAGS)
%C%_test_openai_request_LDADD = $(APP_LIBS)
UNIT_TESTS += %D%/test_fields
%C%_test_fields_SOURCES = %D%/test_fields.c $(UNIT_HARNESS)
%C%_test_fields_CFLAGS = $(UNIT_CFLAGS)
%C%_test_fields_LDADD = $(APP_LIBS)

UNIT_TESTS += %D%/test_problem_doc
%C%_test_problem_doc_SOURCES = %D%/test_problem_doc.c $(UNIT_HARNESS)
%C%_test_problem_doc_CFLAGS = $(UNIT_CFLAGS)
%C%_test_problem_doc_LDADD = $(APP_LIBS)

UNIT_TESTS += %D%/test_accept_line
%C%_test_accept_line_SOURCES = %D%/test_accept_line.c $(SQL_FIXTURE) $(UNIT_HARNESS)
%C%_test_accept_line_CFLAGS = $(UNIT_CFLAGS)
%C%_test_accept_line_LDADD = $(APP_LIBS)

UNIT_TESTS += %D%/test_access_cache
%C%_test_access_cache_SOURCES = %D%/test_access_cache.c $(UNIT_HARNESS)
%C%_test_access_cache_CFLAGS = $(UNIT_CFLAGS)
%C%_test_access_cache_LDADD = $(APP_LIBS)

UNIT_TESTS += %D%/test_sse
%C%_test_sse_SOURCES = %D%/test_sse.c $(UNIT_HARNESS)
%C%_test_sse_CFLAGS = $(UNIT_CFLAGS)
%C%_test_sse_LDADD = $(APP_LIBS)

UNIT_TESTS += %D%/test_gate
%C%_test_gate_SOURCES = %D%/test_gate.c $(UNIT_HARNESS)
%C%_test_gate_CFLAGS = $(UNIT_CFLAGS)
%C%_test_gate_LDADD = $(APP_LIBS)

UNIT_TESTS += %D%/test_waits
%C%_test_waits_SOURCES = %D%/test_waits.c $(UNIT_HARNESS)
%C%_test_waits_CFLAGS = $(UNIT_CFLAGS)
%C%_test_waits_LDADD = $(APP_LIBS)

# The pool's own tests share a driver: a pool, a fake of the rows, and every answer in the test's hand.
POOL_DRIVER = %D%/pool_check.c %D%/pool_check.h %D%/pool_driver.c %D%/pool_driver.h %D%/pool_fake.c %D%/pool_fake.h

UNIT_TESTS += %D%/test_pool
%C%_test_pool_SOURCES = %D%/test_pool.c $(POOL_DRIVER) $(UNIT_HARNESS)
%C%_test_pool_CFLAGS = $(UNIT_CFLAGS)
%C%_test_pool_LDADD = worker/libpool.a $(CORE_LIBS)

UNIT_TESTS += %D%/test_pool_sim
%C%_test_pool_sim_SOURCES = %D%/test_pool_sim.c $(POOL_DRIVER) $(UNIT_HARNESS)
%C%_test_pool_sim_CFLAGS = $(UNIT_CFLAGS)
%C%_test_pool_sim_LDADD = worker/libpool.a $(CORE_LIBS)

UNIT_TESTS += %D%/test_http_loop
%C%_test_http_loop_SOURCES = %D%/test_http_loop.c $(HTTP_STAGE) $(UNIT_SERVERS) $(UNIT_HARNESS)
%C%_test_http_loop_CFLAGS = $(UNIT_CFLAGS) $(UV_CFLAGS)
%C%_test_http_loop_LDADD = worker/libmodel.a $(UNIT_LIBS) $(CURL_LIBS) $(UV_LIBS)

UNIT_TESTS += %D%/test_breaker
%C%_test_breaker_SOURCES = %D%/test_breaker.c $(UNIT_HARNESS)
%C%_test_breaker_CFLAGS = $(UNIT_CFLAGS)
%C%_test_breaker_LDADD = $(LIBFRAMEWORK_LIBS) $(CUNIT_LIBS)

UNIT_TESTS += %D%/test_turnstile
%C%_test_turnstile_SOURCES = %D%/test_turnstile.c $(UNIT_HARNESS)
%C%_test_turnstile_CFLAGS = $(UNIT_CFLAGS)
%C%_test_turnstile_LDADD = $(LIBFRAMEWORK_LIBS) $(CUNIT_LIBS)

UNIT_TESTS += %D%/test_dialect
%C%_test_dialect_SOURCES = %D%/test_dialect.c $(UNIT_HARNESS)
%C%_test_dialect_CFLAGS = $(UNIT_CFLAGS)
%C%_test_dialect_LDADD = $(LIBFRAMEWORK_LIBS) $(CUNIT_LIBS)

UNIT_TESTS += %D%/test_tool
%C%_test_tool_SOURCES = %D%/test_tool.c $(UNIT_HARNESS)
%C%_test_tool_CFLAGS = $(UNIT_CFLAGS)
%C%_test_tool_LDADD = $(LIBFRAMEWORK_LIBS) $(CUNIT_LIBS)

UNIT_TESTS += %D%/test_fetch_url
%C%_test_fetch_url_SOURCES = %D%/test_fetch_url.c $(HTTP_STAGE) $(UNIT_HARNESS)
%C%_test_fetch_url_CFLAGS = $(UNIT_CFLAGS) $(UV_CFLAGS)
%C%_test_fetch_url_LDADD = $(LIBFRAMEWORK_LIBS) $(CUNIT_LIBS)

UNIT_TESTS += %D%/test_model
%C%_test_model_SOURCES = %D%/test_model.c tests/fake/http_server.c tests/fake/http_server.h $(UNIT_HARNESS)
%C%_test_model_CFLAGS = $(UNIT_CFLAGS) $(UV_CFLAGS)
%C%_test_model_LDADD = $(LIBFRAMEWORK_LIBS) $(CUNIT_LIBS)
