/* SPDX-License-Identifier: Apache-2.0 */
/* fetch_url on a real server whose page does not end: the turn's deadline is the page's. */
#include <stdio.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "tests/unit/harness.h"
#include "tests/unit/http_stage.h"
#include "worker/tool/tool.h"

struct fetched {
	unsigned count;
	bool is_error;
	char text[64];
};

static void on_done(void *closure, bool is_error, const char *text, size_t len)
{
	struct fetched *f = closure;

	f->count++;
	f->is_error = is_error;
	(void)snprintf(f->text, sizeof(f->text), "%.*s", (int)len, text);
}

static bool begin_a_page(void *closure, struct fake_http_conn *conn, const struct fake_http_request *request)
{
	(void)closure;
	(void)request;
	return fake_http_say(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
				   "5\r\nhello\r\n") &&
	       fake_http_hang(conn);
}

static struct jval *value(const char *text)
{
	const struct json_limits limits = {.bytes_max = 4096, .depth_max = 8};
	struct jval *v = NULL;

	CU_ASSERT_TRUE_FATAL(jval_parse(text, strlen(text), &limits, &v, NULL));
	return v;
}

/* So much time is left of the turn. */
static struct fetched fetch(struct fake_http *server, int64_t left_ms)
{
	struct tool_env env = {.http = stage.http};
	struct tool_box *box = tool_box_new();
	struct fetched f = {0};
	struct tool_sink sink = {.closure = &f, .done = on_done};
	char text[128];

	(void)snprintf(text, sizeof(text),
		       "{\"tools\":[\"fetch_url\"],\"fetch_url\":{\"allow\":[\"http://127.0.0.1:%d/\"]}}",
		       fake_http_port(server));
	struct jval *config = value(text);
	(void)snprintf(text, sizeof(text), "{\"url\":\"http://127.0.0.1:%d/page\"}", fake_http_port(server));
	struct jval *arguments = value(text);
	CU_ASSERT_TRUE_FATAL(tools_builtin_add(box, config, NULL));
	const struct tool *tool = tool_box_find(box, "fetch_url");
	struct tool_run *run = tool->impl->call(tool, &env, arguments, clock_now_ms() + left_ms, &sink);
	CU_ASSERT_EQUAL(run == NULL, f.count > 0);
	while (f.count == 0)
		stage_turn();
	CU_ASSERT_EQUAL(f.count, 1);
	tool_box_free(&box);
	jval_free(&config);
	jval_free(&arguments);
	return f;
}

static void a_page_that_does_not_end_is_an_error_when_the_time_is_over(void)
{
	struct fake_http *server = fake_http_start(begin_a_page, NULL);
	int64_t began_ms = stage_real_ms();
	struct fetched f = fetch(server, 2000);

	CU_ASSERT(stage_real_ms() - began_ms < 10000); /* so long it would wait for a page that falls silent */
	CU_ASSERT_TRUE(f.is_error);
	CU_ASSERT_STRING_EQUAL(f.text, "The server took too long.");
	while (fake_http_hangups(server) < 1)
		stage_turn();
	CU_ASSERT_EQUAL(fake_http_requests(server), 1);
	fake_http_stop(&server);
}

static void without_time_nothing_is_asked_for(void)
{
	struct fake_http *server = fake_http_start(begin_a_page, NULL);
	struct fetched f = fetch(server, 0);

	CU_ASSERT_TRUE(f.is_error);
	CU_ASSERT_STRING_EQUAL(f.text, "The turn's time is over.");
	CU_ASSERT_EQUAL(fake_http_connections(server), 0);
	fake_http_stop(&server);
}

static CU_TestInfo cases[] = {
	CASE(a_page_that_does_not_end_is_an_error_when_the_time_is_over),
	CASE(without_time_nothing_is_asked_for),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"fetch_url", stage_init, stage_clean, stage_set_up, stage_tear_down, cases},
	CU_SUITE_INFO_NULL,
};
