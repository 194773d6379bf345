# SPDX-License-Identifier: Apache-2.0
# A story is one file; make dist takes what is named here.
INTEGRATION_STORIES = %D%/test_access.py %D%/test_agent.py %D%/test_bad_input.py %D%/test_bus_stopped.py \
	%D%/test_ceilings_and_quotas.py %D%/test_chaos.py %D%/test_conversation.py %D%/test_ctl.py %D%/test_database_stopped.py %D%/test_demand.py \
	%D%/test_hang_up.py %D%/test_happy_path.py %D%/test_hostile_bus.py %D%/test_hostile_clients.py \
	%D%/test_hostile_secrets.py %D%/test_keys.py %D%/test_llm_change_many.py %D%/test_llm_configs.py %D%/test_llm_reload.py %D%/test_many_workers_cluster.py %D%/test_many_workers_lease.py \
	%D%/test_many_workers_replicas.py %D%/test_many_workers_share.py %D%/test_many_workers_stop.py \
	%D%/test_mixed_events.py %D%/test_openai.py %D%/test_openapi.py %D%/test_poison.py %D%/test_provider.py %D%/test_quickstart.py %D%/test_reload.py %D%/test_scale.py %D%/test_statements.py %D%/test_statuses.py \
	%D%/test_stopping.py %D%/test_tenant_isolation.py %D%/test_tier_moves.py %D%/test_uncertain_commit.py \
	%D%/test_unload_while_streaming.py %D%/test_version_reload.py %D%/test_versions.py %D%/test_web_servers.py %D%/test_worker_killed.py
EXTRA_DIST += %D%/api.py %D%/basics.py %D%/conftest.py %D%/fastcgi.py %D%/fronts.py \
	%D%/harness.py %D%/nats_proxies.py %D%/openai_client.mjs %D%/programs.py %D%/proxy.py %D%/pytest.ini $(INTEGRATION_STORIES)

# STORIES="test_happy_path.py -k word" runs a part; pytest's last line has the counts, results.xml the cases.
STORIES =
.PHONY: check-integration
check-integration: all
	$(AM_V_at)mkdir -p %D%
	$(AM_V_at)cd $(srcdir)/%D% && HEARTH_BUILD=$(abs_top_builddir) PYTHONDONTWRITEBYTECODE=1 $(PYTHON3) -m pytest \
		--junitxml=$(abs_top_builddir)/%D%/results.xml $(STORIES)
