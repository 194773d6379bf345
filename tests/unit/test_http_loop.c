/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client on a real libuv loop. UV_RUN_DEFAULT returns when no handle is active any more: so each of its returns
 * says that the client leaves nothing behind that would keep a loop awake.
 */
#include "worker/http_loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/macros.h"
#include "lib/xalloc.h"
#include "tests/fake/servers.h"
#include "tests/unit/harness.h"
#include "tests/unit/http_stage.h"

static uv_loop_t loop;
static struct http_loop *client;

static void set_up(void)
{
	const struct http_options options = {0};
	struct err e = {0};

	stage.server = fake_http_start(stage_answer, &stage);
	CU_ASSERT_EQUAL_FATAL(uv_loop_init(&loop), 0);
	client = http_loop_new(&loop, &options, &e);
	CU_ASSERT_PTR_NOT_NULL_FATAL(client);
	stage.http = http_loop_client(client);
}

static void tear_down(void)
{
	http_loop_close(&client);
	CU_ASSERT_PTR_NULL(client);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	CU_ASSERT_EQUAL(uv_loop_close(&loop), 0); /* UV_EBUSY where a handle is left */
	stage.http = NULL;
	fake_http_stop(&stage.server);
}

static void run_all(void)
{
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	CU_ASSERT_EQUAL(http_calls(stage.http), 0);
}

static void calls_come_through(void)
{
	struct call calls[32];

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
			calls[i] = (struct call){0};
			call_start(&calls[i], "/hello");
		}
		run_all();
		for (size_t i = 0; i < ARRAY_LEN(calls); i++)
			call_check_hello(&calls[i]);
	}
	/* Fewer, where a call began when another one was over. */
	CU_ASSERT(fake_http_connections(stage.server) <= ARRAY_LEN(calls));
}

static void calls_at_the_same_time_have_connections_of_their_own(void)
{
	struct call calls[32] = {0}, before[8] = {0};

	for (size_t i = 0; i < ARRAY_LEN(before); i++)
		call_start(&before[i], "/hello");
	run_all();
	for (size_t i = 0; i < ARRAY_LEN(before); i++)
		call_check_hello(&before[i]);
	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		call_start(&calls[i], "/hang-body");
	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		while (calls[i].parts == 0)
			(void)uv_run(&loop, UV_RUN_ONCE);
	CU_ASSERT_EQUAL(fake_http_connections(stage.server), ARRAY_LEN(calls));
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		http_cancel(calls[i].handle);
		buf_clear(&calls[i].body);
	}
	run_all();
}

static void an_answer_in_pieces_comes_through(void)
{
	struct call call = {0};

	call_start(&call, "/chunked");
	run_all();
	CU_ASSERT_EQUAL(call.outcome, HTTP_COMPLETE);
	CU_ASSERT_STRING_EQUAL(buf_str(&call.body), "hello world");
	buf_clear(&call.body);
}

static void a_request_that_fills_the_socket_comes_through(void)
{
	const size_t len = (size_t)8 << 20;
	char *body = xmalloc(len);
	struct call call = {0};

	memset(body, 'x', len);
	call_start_with(&call, "/hello", (struct http_request){.method = "POST", .body = body, .body_len = len});
	free(body);
	run_all();
	call_check_hello(&call);
}

static void a_silent_server_is_given_up_without_a_word_from_outside(void)
{
	struct call head = {0}, body = {0}, whole = {0};

	call_start_with(&head, "/hang-head", (struct http_request){.first_byte_ms = 30});
	call_start_with(&body, "/hang-body", (struct http_request){.idle_ms = 30});
	call_start_with(&whole, "/hang-body", (struct http_request){.total_ms = 30});
	run_all();
	CU_ASSERT(head.outcome == HTTP_TIMEOUT && body.outcome == HTTP_TIMEOUT && whole.outcome == HTTP_TIMEOUT);
	CU_ASSERT_STRING_EQUAL(head.detail, "first byte");
	CU_ASSERT_STRING_EQUAL(body.detail, "idle");
	CU_ASSERT_STRING_EQUAL(whole.detail, "total");
	buf_clear(&head.body);
	buf_clear(&body.body);
	buf_clear(&whole.body);
}

static void a_port_where_nobody_listens_is_unreachable(void)
{
	struct call calls[8] = {0};
	char url[64];

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/", server_port_free());
	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		call_start_with(&calls[i], "", (struct http_request){.url = url});
	run_all();
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		CU_ASSERT_EQUAL(calls[i].outcome, HTTP_UNREACHABLE);
		buf_clear(&calls[i].body);
	}
}

static void a_connection_that_breaks_ends_its_call(void)
{
	static const char *const paths[] = {"/cut", "/cut-chunk", "/nothing", "/garbage"};
	struct call calls[ARRAY_LEN(paths)] = {0};

	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		call_start(&calls[i], paths[i]);
	run_all();
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		CU_ASSERT_EQUAL(calls[i].outcome, HTTP_BROKEN);
		buf_clear(&calls[i].body);
	}
}

static void a_call_that_is_cancelled_leaves_the_loop_asleep(void)
{
	struct call call = {0}, before = {0};

	call_start(&before, "/hello");
	http_cancel(before.handle);
	run_all();
	call_start(&call, "/hang-body");
	while (call.parts == 0)
		(void)uv_run(&loop, UV_RUN_ONCE);
	http_cancel(call.handle);
	run_all();
	CU_ASSERT(call.ends == 0 && before.ends == 0);
	buf_clear(&call.body);
	buf_clear(&before.body);
}

static void it_is_closed_in_the_middle_of_calls(void)
{
	struct call hanging[8] = {0}, fresh = {0};

	for (size_t i = 0; i < ARRAY_LEN(hanging); i++)
		call_start(&hanging[i], "/hang-body");
	while (hanging[ARRAY_LEN(hanging) - 1].parts == 0)
		(void)uv_run(&loop, UV_RUN_ONCE);
	call_start(&fresh, "/hello");
	tear_down();
	for (size_t i = 0; i < ARRAY_LEN(hanging); i++) {
		CU_ASSERT_EQUAL(hanging[i].ends, 0);
		buf_clear(&hanging[i].body);
	}
	CU_ASSERT_EQUAL(fresh.ends, 0);
	buf_clear(&fresh.body);
	set_up();
}

static CU_TestInfo cases[] = {
	CASE(calls_come_through),
	CASE(calls_at_the_same_time_have_connections_of_their_own),
	CASE(an_answer_in_pieces_comes_through),
	CASE(a_request_that_fills_the_socket_comes_through),
	CASE(a_silent_server_is_given_up_without_a_word_from_outside),
	CASE(a_port_where_nobody_listens_is_unreachable),
	CASE(a_connection_that_breaks_ends_its_call),
	CASE(a_call_that_is_cancelled_leaves_the_loop_asleep),
	CASE(it_is_closed_in_the_middle_of_calls),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"http_loop", stage_init, stage_clean, set_up, tear_down, cases},
	CU_SUITE_INFO_NULL,
};
