
/* SPDX-License-Identifier: Apache-2.0 */
/* What the client sends, what it makes of answers, and where it goes. How calls end early: test_http_end.c. */
#include "lib/http.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/macros.h"
#include "lib/netaddr.h"
#include "lib/xalloc.h"
#include "tests/fake/servers.h"
#include "tests/unit/harness.h"
#include "tests/unit/http_stage.h"

/* --- answers --- */

static const struct {
	int line;
	const char *path;
	enum http_outcome outcome;
	int status; /* 0: no head */
	const char *content_type, *body;
} answers[] = {
	{__LINE__, "/hello", HTTP_COMPLETE, 200, "text/plain", "hello"},
	{__LINE__, "/bytes", HTTP_COMPLETE, 200, "text/event-stream; charset=utf-8", "hello world"},
	{__LINE__, "/chunked", HTTP_COMPLETE, 200, "", "hello world"},
	{__LINE__, "/until-close", HTTP_COMPLETE, 200, "", "all of it"},
	{__LINE__, "/early", HTTP_COMPLETE, 200, "", "ok"},
	{__LINE__, "/status/204", HTTP_COMPLETE, 204, "", ""},
	{__LINE__, "/status/301", HTTP_COMPLETE, 301, "", ""}, /* is not followed */
	{__LINE__, "/status/307", HTTP_COMPLETE, 307, "", ""},
	{__LINE__, "/status/401", HTTP_COMPLETE, 401, "", ""},
	{__LINE__, "/status/500", HTTP_COMPLETE, 500, "", ""},
	{__LINE__, "/none", HTTP_COMPLETE, 404, "", ""},
	{__LINE__, "/cut", HTTP_BROKEN, 200, "", "hello"},
	{__LINE__, "/cut-chunk", HTTP_BROKEN, 200, "", "hello"},
	{__LINE__, "/bad-chunk", HTTP_BROKEN, 200, "", "hello"},
	{__LINE__, "/nothing", HTTP_BROKEN, 0, "", ""},
	{__LINE__, "/garbage", HTTP_BROKEN, 0, "", ""},
	{__LINE__, "/endless-head", HTTP_TOO_LARGE, 0, "", ""},
	{__LINE__, "/endless-early", HTTP_TOO_LARGE, 0, "", ""},
};

static void an_answer_comes_as_it_was_said(void)
{
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		struct call call = {0};
		unsigned before = fake_http_requests(stage.server);
		call_get(&call, answers[i].path);
		CHECK_ROW(&answers[i], call.outcome == answers[i].outcome);
		CHECK_ROW(&answers[i], call.heads == (answers[i].status ? 1 : 0));
		CHECK_ROW(&answers[i], call.head.status == answers[i].status);
		CHECK_ROW(&answers[i], strcmp(call.content_type, answers[i].content_type) == 0);
		CHECK_ROW(&answers[i], strcmp(buf_str(&call.body), answers[i].body) == 0);
		CHECK_ROW(&answers[i], fake_http_requests(stage.server) == before + 1);
		CHECK_ROW(&answers[i], http_calls(stage.http) == 0);
		buf_clear(&call.body);
	}
	call_hello();
}

static void a_line_without_an_end_is_refused(void)
{
	struct call call = {0};

	call_get(&call, "/endless-line");
	CU_ASSERT_EQUAL(call.outcome, HTTP_TOO_LARGE);
	CU_ASSERT_STRING_EQUAL(call.detail, "head");
	CU_ASSERT_EQUAL(call.heads, 0);
	buf_clear(&call.body);
}

static void a_body_larger_than_allowed_is_cut_off(void)
{
	struct call call = {0}, exact = {0}, less = {0}, parts = {0};

	call_get_with(&call, "/endless-body", (struct http_request){.body_max = 1000});
	CU_ASSERT_EQUAL(call.outcome, HTTP_TOO_LARGE);
	CU_ASSERT(call.body.len <= 1000);
	buf_clear(&call.body);
	call_get_with(&exact, "/hello", (struct http_request){.body_max = 5});
	call_check_hello(&exact);
	call_get_with(&less, "/hello", (struct http_request){.body_max = 4});
	CU_ASSERT_EQUAL(less.outcome, HTTP_TOO_LARGE);
	CU_ASSERT_EQUAL(less.body.len, 0);
	buf_clear(&less.body);
	call_get_with(&parts, "/chunked", (struct http_request){.body_max = 10});
	CU_ASSERT_EQUAL(parts.outcome, HTTP_TOO_LARGE);
	CU_ASSERT_STRING_EQUAL(parts.detail, "body");
	CU_ASSERT(parts.body.len <= 10);
	buf_clear(&parts.body);
}

static const struct {
	int line;
	const char *path;
	int64_t retry_after_ms;
} retries[] = {
	{__LINE__, "/status/429", -1},
	{__LINE__, "/status/429/0", 0},
	{__LINE__, "/status/429/17", 17000},
	{__LINE__, "/status/503/99999999999999999999999", 7 * 24 * 3600 * 1000},
	{__LINE__, "/status/503/Fri,_02_Jan_2026_03:04:15_GMT", 10000},
	{__LINE__, "/status/503/Friday,_02-Jan-26_03:05:05_GMT", 60000},
	{__LINE__, "/status/503/Fri_Jan_02_03:04:06_2026", 1000},
	{__LINE__, "/status/503/Fri,_02_Jan_2026_03:04:04_GMT", 0}, /* is over */
	{__LINE__, "/status/503/Fri,_02_Jan_2126_03:04:04_GMT", 7 * 24 * 3600 * 1000},
	{__LINE__, "/status/503/-5", -1},
	{__LINE__, "/status/503/5s", -1},
	{__LINE__, "/status/503/soon", -1},
};

static void retry_after_is_understood(void)
{
	clock_set_for_test(1000, STAGE_UNIX_MS);
	for (size_t i = 0; i < ARRAY_LEN(retries); i++) {
		struct call call = {0};
		call_get(&call, retries[i].path);
		CHECK_ROW(&retries[i], call.outcome == HTTP_COMPLETE);
		CHECK_ROW(&retries[i], call.head.retry_after_ms == retries[i].retry_after_ms);
		buf_clear(&call.body);
	}
}

/* --- requests --- */

static void a_request_says_what_it_should_and_nothing_else(void)
{
	static const struct http_header headers[] = {
		{"Authorization", "Bearer k"}, {"Content-Type", "application/json"}, {"X-Empty", ""}};
	struct call call = {0}, deleted = {0};
	char *body = xmalloc(3 << 20), expected[512];

	memset(body, 'x', 3 << 20); /* beyond what curl would ask leave for */
	call_get_with(
		&call, "/echo",
		(struct http_request){
			.method = "POST", .headers = headers, .headers_count = 3, .body = body, .body_len = 3 << 20});
	call_check_hello(&call);
	(void)snprintf(expected, sizeof(expected),
		       "POST /echo HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\nAuthorization: Bearer k\r\n"
		       "Content-Type: application/json\r\nX-Empty:\r\nContent-Length: %d\r\n\r\n",
		       fake_http_port(stage.server), 3 << 20);
	CU_ASSERT_STRING_EQUAL(buf_str(&stage.last_head), expected);
	CU_ASSERT_EQUAL(stage.last_body.len, 3 << 20);
	CU_ASSERT(stage.last_body.len == 3 << 20 && memcmp(stage.last_body.data, body, 3 << 20) == 0);
	free(body);

	call_get_with(&deleted, "/echo", (struct http_request){.method = "DELETE"});
	call_check_hello(&deleted);
	(void)snprintf(expected, sizeof(expected), "DELETE /echo HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\n\r\n",
		       fake_http_port(stage.server));
	CU_ASSERT_STRING_EQUAL(buf_str(&stage.last_head), expected);
}

static void a_post_without_a_body_has_length_zero(void)
{
	struct call call = {0};

	call_get_with(&call, "/echo", (struct http_request){.method = "POST"});
	call_check_hello(&call);
	CU_ASSERT_PTR_NOT_NULL(strstr(buf_str(&stage.last_head), "\r\nContent-Length: 0\r\n"));
	CU_ASSERT_PTR_NULL(strstr(buf_str(&stage.last_head), "Content-Type"));
}

static void what_the_caller_gave_may_be_gone(void)
{
	char name[] = "X-Key", value[] = "secret", body[] = "body", url[64];
	struct http_header *header = xmalloc(sizeof(*header));
	struct call call = {0};

	*header = (struct http_header){name, value};
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/echo", fake_http_port(stage.server));
	call_start_with(&call, "",
			(struct http_request){.method = "POST",
					      .url = url,
					      .headers = header,
					      .headers_count = 1,
					      .body = body,
					      .body_len = 4});
	free(header);
	memset(name, 'n', sizeof(name) - 1);
	memset(value, 'v', sizeof(value) - 1);
	memset(body, 'b', sizeof(body) - 1);
	memset(url, 'u', sizeof(url) - 1);
	call_run(&call);
	call_check_hello(&call);
	CU_ASSERT_PTR_NOT_NULL(strstr(buf_str(&stage.last_head), "\r\nX-Key: secret\r\n"));
	CU_ASSERT_STRING_EQUAL(buf_str(&stage.last_body), "body");
}

static const struct {
	int line;
	const char *method, *url, *name, *value;
} wrong[] = {
	{__LINE__, "GET", "", NULL, NULL},
	{__LINE__, "GET", "/hello", NULL, NULL},
	{__LINE__, "GET", "127.0.0.1/hello", NULL, NULL},
	{__LINE__, "GET", "http://", NULL, NULL},
	{__LINE__, "GET", "http:///hello", NULL, NULL},
	{__LINE__, "GET", "file:///etc/passwd", NULL, NULL},
	{__LINE__, "GET", "ftp://127.0.0.1/", NULL, NULL},
	{__LINE__, "GET", "gopher://127.0.0.1/", NULL, NULL},
	{__LINE__, "GET", "http://user@127.0.0.1/", NULL, NULL},
	{__LINE__, "GET", "http://user:word@127.0.0.1/", NULL, NULL},
	{__LINE__, "GET", "http://127.0.0.1:99999/", NULL, NULL},
	{__LINE__, "GET", "http://127.0.0.1/a b", NULL, NULL},
	{__LINE__, "GET", "http://127.0.0.1/a\r\nX: y", NULL, NULL},
	{__LINE__, "GET", " http://127.0.0.1/", NULL, NULL},
	{__LINE__, "HEAD", "http://127.0.0.1/", NULL, NULL},
	{__LINE__, "get", "http://127.0.0.1/", NULL, NULL},
	{__LINE__, "GET /x HTTP/1.1\r\nX:", "http://127.0.0.1/", NULL, NULL},
	{__LINE__, "GET", "http://127.0.0.1/", "X-A\r\nX-B", "y"},
	{__LINE__, "GET", "http://127.0.0.1/", "X A", "y"},
	{__LINE__, "GET", "http://127.0.0.1/", "X:A", "y"},
	{__LINE__, "GET", "http://127.0.0.1/", "", "y"},
	{__LINE__, "GET", "http://127.0.0.1/", "X-A", "y\r\nX-B: z"},
	{__LINE__, "GET", "http://127.0.0.1/", "X-A", "y\nX-B: z"},
	{__LINE__, "GET", "http://127.0.0.1/", "X-A", "\x7f"},
	{__LINE__, "GET", "http://127.0.0.1/", "host", "other"},
	{__LINE__, "POST", "http://127.0.0.1/", "Content-length", "7"},
	{__LINE__, "POST", "http://127.0.0.1/", "Transfer-Encoding", "chunked"},
	{__LINE__, "GET", "http://127.0.0.1/", "Connection", "close"},
};

static void what_may_not_be_sent_is_refused_at_once(void)
{
	const struct http_sink never = {0};

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		const struct http_header header = {wrong[i].name, wrong[i].value};
		const struct http_request request = {.method = wrong[i].method,
						     .url = wrong[i].url,
						     .headers = &header,
						     .headers_count = wrong[i].name ? 1 : 0};
		struct err e = {0};
		CHECK_ROW(&wrong[i], !http_start(stage.http, &request, &never, &e));
		CHECK_ROW(&wrong[i], e.code == ERR_INPUT && e.text[0]);
		CHECK_ROW(&wrong[i], http_calls(stage.http) == 0);
	}
}

/* --- connections --- */

static void a_connection_is_used_again(void)
{
	for (int i = 0; i < 10; i++)
		call_hello();
	CU_ASSERT_EQUAL(fake_http_requests(stage.server), 10);
	CU_ASSERT_EQUAL(fake_http_connections(stage.server), 1);
}

static void calls_at_the_same_time_have_connections_of_their_own(void)
{
	struct call calls[8], hanging[ARRAY_LEN(calls)] = {0};

	for (int round = 0; round < 3; round++) {
		memset(calls, 0, sizeof(calls));
		for (size_t i = 0; i < ARRAY_LEN(calls); i++)
			call_start(&calls[i], "/hello");
		CU_ASSERT_EQUAL(http_calls(stage.http), ARRAY_LEN(calls));
		for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
			call_run(&calls[i]);
			call_check_hello(&calls[i]);
		}
	}
	/* Fewer, where a call began when another one was over. Those that do not end need one each, old or new. */
	CU_ASSERT(fake_http_connections(stage.server) <= ARRAY_LEN(calls));
	for (size_t i = 0; i < ARRAY_LEN(hanging); i++)
		call_start(&hanging[i], "/hang-body");
	for (size_t i = 0; i < ARRAY_LEN(hanging); i++)
		call_run_to_body(&hanging[i]);
	CU_ASSERT_EQUAL(fake_http_connections(stage.server), ARRAY_LEN(hanging));
	for (size_t i = 0; i < ARRAY_LEN(hanging); i++) {
		http_cancel(hanging[i].handle);
		buf_clear(&hanging[i].body);
	}
}

static void calls_beyond_the_limit_wait_for_a_connection(void)
{
	const struct http_options options = {.connections_per_host_max = 2};
	struct call calls[8] = {0}, hanging[2] = {0};

	stage_client_free();
	stage_client_new(&options);
	for (size_t i = 0; i < ARRAY_LEN(hanging); i++)
		call_start(&hanging[i], "/hang-body");
	for (size_t i = 0; i < ARRAY_LEN(hanging); i++)
		call_run_to_body(&hanging[i]);
	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		call_start(&calls[i], "/hello");
	for (int i = 0; i < 20; i++)
		stage_turn();
	CU_ASSERT_EQUAL(fake_http_connections(stage.server), 2);
	for (size_t i = 0; i < ARRAY_LEN(hanging); i++) {
		http_cancel(hanging[i].handle);
		buf_clear(&hanging[i].body);
	}
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		call_run(&calls[i]);
		call_check_hello(&calls[i]);
	}
	CU_ASSERT(fake_http_connections(stage.server) <= 4); /* those of the cancelled are gone */
}

static void a_fresh_call_has_a_connection_of_its_own(void)
{
	struct call call = {0};

	call_hello();
	call_get_with(&call, "/hello", (struct http_request){.is_fresh = true});
	call_check_hello(&call);
	CU_ASSERT_EQUAL(fake_http_connections(stage.server), 2);
	stage_run_until(fake_http_hangups, 1);
	call_hello();
	CU_ASSERT_EQUAL(fake_http_connections(stage.server), 2);
}

static void a_kept_connection_that_the_server_closed_costs_nothing(void)
{
	for (int i = 0; i < 5; i++) {
		struct call call = {0};
		call_get_with(&call, "/closes", (struct http_request){.method = "POST", .body = "x", .body_len = 1});
		call_check_hello(&call);
	}
	CU_ASSERT_EQUAL(fake_http_requests(stage.server), 5);
	CU_ASSERT_EQUAL(fake_http_connections(stage.server), 5);
}

/* --- where calls may go --- */

static bool may_connect(void *closure, bool has_tls, const struct sockaddr *address)
{
	CU_ASSERT_FALSE(has_tls);
	return netaddr_may_connect(closure, NETADDR_NOT_RESERVED, address);
}

static const struct {
	int line;
	const char *host, *allowed;
	bool is_refused;
} destinations[] = {
	{__LINE__, "127.0.0.1", NULL, true},
	{__LINE__, "localhost", NULL, true},
	{__LINE__, "127.1", NULL, true},
	{__LINE__, "0x7f.0x1", NULL, true},
	{__LINE__, "2130706433", NULL, true},
	{__LINE__, "[::ffff:127.0.0.1]", NULL, true},
	{__LINE__, "0.0.0.0", NULL, true},
	{__LINE__, "127.0.0.1", "10.0.0.0/8", true},
	{__LINE__, "127.0.0.1", "127.0.0.0/8", false},
	{__LINE__, "localhost", "127.0.0.0/8", false},
	{__LINE__, "[::ffff:127.0.0.1]", "127.0.0.0/8", false},
};

static void an_address_that_is_refused_is_not_connected_to(void)
{
	for (size_t i = 0; i < ARRAY_LEN(destinations); i++) {
		struct call call = {0};
		struct netaddr_list *allowed = NULL;
		struct err e = {0};
		char url[64];
		CU_ASSERT_FATAL(netaddr_list_parse(destinations[i].allowed, &allowed, &e));
		stage_client_free();
		const struct http_options options = {.may_connect = may_connect, .may_connect_closure = allowed};
		stage_client_new(&options);
		unsigned before = fake_http_connections(stage.server);
		(void)snprintf(url, sizeof(url), "http://%s:%d/hello", destinations[i].host,
			       fake_http_port(stage.server));
		call_get_with(&call, "", (struct http_request){.url = url});
		bool is_refused = destinations[i].is_refused;
		CHECK_ROW(&destinations[i], call.outcome == (is_refused ? HTTP_REFUSED : HTTP_COMPLETE));
		CHECK_ROW(&destinations[i], call.heads == (is_refused ? 0 : 1));
		CHECK_ROW(&destinations[i], fake_http_connections(stage.server) == before + !is_refused);
		buf_clear(&call.body);
		stage_client_free();
		netaddr_list_free(&allowed);
		stage_client_new(&(struct http_options){0});
	}
}

static bool may_connect_now(void *closure, bool has_tls, const struct sockaddr *address)
{
	(void)has_tls;
	return netaddr_may_connect(*(struct netaddr_list **)closure, NETADDR_NOT_RESERVED, address);
}

static void a_kept_connection_is_judged_anew(void)
{
	static const char *const hosts[] = {"127.0.0.1", "[::ffff:127.0.0.1]"};

	for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
		struct netaddr_list *local, *none, *allowed;
		struct call before = {0}, call = {0}, after = {0};
		struct err e = {0};
		char url[64];
		CU_ASSERT_TRUE_FATAL(netaddr_list_parse("127.0.0.0/8", &local, &e));
		CU_ASSERT_TRUE_FATAL(netaddr_list_parse("10.0.0.0/8", &none, &e));
		allowed = local;
		stage_client_free();
		const struct http_options options = {.may_connect = may_connect_now, .may_connect_closure = &allowed};
		stage_client_new(&options);
		unsigned connections = fake_http_connections(stage.server), requests = fake_http_requests(stage.server);
		(void)snprintf(url, sizeof(url), "http://%s:%d/hello", hosts[i], fake_http_port(stage.server));
		call_get_with(&before, "", (struct http_request){.url = url});
		call_check_hello(&before);
		allowed = none;
		call_get_with(&call, "", (struct http_request){.url = url});
		CU_ASSERT_EQUAL(call.outcome, HTTP_REFUSED);
		CU_ASSERT_EQUAL(call.heads, 0);
		CU_ASSERT_EQUAL(fake_http_connections(stage.server), connections + 1);
		CU_ASSERT_EQUAL(fake_http_requests(stage.server), requests + 1);
		allowed = local;
		call_get_with(&after, "", (struct http_request){.url = url});
		call_check_hello(&after);
		CU_ASSERT_EQUAL(fake_http_connections(stage.server), connections + 2); /* the other one is gone */
		buf_clear(&call.body);
		stage_client_free();
		netaddr_list_free(&local);
		netaddr_list_free(&none);
		stage_client_new(&(struct http_options){0});
	}
}

static bool note_tls(void *closure, bool has_tls, const struct sockaddr *address)
{
	int *asked = closure;

	(void)address;
	asked[has_tls]++;
	return false;
}

static void who_judges_an_address_knows_whether_there_is_tls(void)
{
	static const char *const urls[] = {"http://127.0.0.1:1/", "https://127.0.0.1:1/", "HTTPS://127.0.0.1:1/",
					   "HTTP://127.0.0.1:1/https://"};
	int asked[2] = {0};
	const struct http_options options = {.may_connect = note_tls, .may_connect_closure = asked};

	stage_client_free();
	stage_client_new(&options);
	for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
		struct call call = {0};
		call_get_with(&call, "", (struct http_request){.url = urls[i]});
		CU_ASSERT_EQUAL(call.outcome, HTTP_REFUSED);
		buf_clear(&call.body);
	}
	CU_ASSERT_EQUAL(asked[false], 2);
	CU_ASSERT_EQUAL(asked[true], 2);
}

static void a_port_where_nobody_listens_is_unreachable(void)
{
	struct call call = {0};
	char url[64];

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/", server_port_free());
	call_get_with(&call, "", (struct http_request){.url = url});
	CU_ASSERT_EQUAL(call.outcome, HTTP_UNREACHABLE);
	buf_clear(&call.body);
}

/* localhost is ::1 too, which is not looked at for what is wrong. */
static void of_several_addresses_the_one_that_may_be_tried_counts(void)
{
	struct netaddr_list *allowed = NULL;
	struct call call = {0};
	struct err e = {0};
	char url[64];

	CU_ASSERT_FATAL(netaddr_list_parse("127.0.0.0/8", &allowed, &e));
	stage_client_free();
	const struct http_options options = {.may_connect = may_connect, .may_connect_closure = allowed};
	stage_client_new(&options);
	(void)snprintf(url, sizeof(url), "http://localhost:%d/", server_port_free());
	call_get_with(&call, "", (struct http_request){.url = url});
	CU_ASSERT_EQUAL(call.outcome, HTTP_UNREACHABLE);
	buf_clear(&call.body);
	stage_client_free();
	netaddr_list_free(&allowed);
	stage_client_new(&(struct http_options){0});
}

static void a_name_that_nobody_has_is_no_host(void)
{
	struct call call = {0};

	call_get_with(&call, "", (struct http_request){.url = "http://no-such-host.invalid/"});
	CU_ASSERT_EQUAL(call.outcome, HTTP_NO_HOST);
	buf_clear(&call.body);
}

static void a_proxy_of_the_environment_is_not_asked(void)
{
	static const char *const names[] = {"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"};
	struct fake_http *proxy = fake_http_start(stage_answer, &stage);
	char url[64];

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d", fake_http_port(proxy));
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		(void)setenv(names[i], url, 1);
	call_hello();
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		(void)unsetenv(names[i]);
	CU_ASSERT_EQUAL(fake_http_connections(proxy), 0);
	CU_ASSERT_EQUAL(fake_http_connections(stage.server), 1);
	fake_http_stop(&proxy);
}

/* --- TLS: openssl makes the certificate and is the server --- */

/* What it says is read from *ret_out. */
static pid_t run(const char *command, FILE **ret_out)
{
	int out[2];

	CU_ASSERT_EQUAL_FATAL(pipe(out), 0);
	pid_t pid = fork();
	CU_ASSERT_FATAL(pid >= 0);
	if (pid == 0) {
		(void)dup2(out[1], STDOUT_FILENO);
		(void)close(out[0]);
		(void)close(out[1]);
		(void)execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	(void)close(out[1]);
	*ret_out = fdopen(out[0], "r");
	return pid;
}

/* dir/key.pem, dir/cert.pem. */
static void make_certificate(const char *dir)
{
	char *command = xasprintf("cd %s && exec openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
				  "-keyout key.pem -out cert.pem -days 2 -subj /CN=localhost "
				  "-addext subjectAltName=DNS:localhost 2>err",
				  dir);
	FILE *out;
	int status;
	pid_t pid = run(command, &out);

	free(command);
	CU_ASSERT_EQUAL_FATAL(waitpid(pid, &status, 0), pid);
	(void)fclose(out);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		exit(77); /* openssl is not installed */
	CU_ASSERT_EQUAL_FATAL(status, 0);
}

static pid_t start_tls_server(const char *dir, int *ret_port, FILE **ret_out)
{
	char *command = xasprintf("cd %s && exec openssl s_server -accept 127.0.0.1:0 -key key.pem -cert cert.pem -www "
				  "</dev/null 2>err",
				  dir);
	char line[256];
	pid_t pid = run(command, ret_out);

	free(command);
	*ret_port = 0;
	while (*ret_port == 0 && fgets(line, sizeof(line), *ret_out))
		(void)sscanf(line, "ACCEPT 127.0.0.1:%d", ret_port);
	CU_ASSERT_FATAL(*ret_port > 0);
	return pid;
}

static void a_certificate_is_verified(void)
{
	const char *dir = server_dir_make();
	char *certificate = xasprintf("%s/cert.pem", dir), url[64];
	struct call unknown = {0}, known = {0}, again = {0}, other_name = {0};
	FILE *out;
	int port;

	make_certificate(dir);
	pid_t pid = start_tls_server(dir, &port, &out);
	(void)snprintf(url, sizeof(url), "https://localhost:%d/", port);
	call_get_with(&unknown, "", (struct http_request){.url = url, .body_max = 65536});
	CU_ASSERT_EQUAL(unknown.outcome, HTTP_NO_TLS);
	CU_ASSERT_EQUAL(unknown.heads, 0);

	stage_client_free();
	stage_client_new(&(struct http_options){.ca_file = certificate});
	call_get_with(&known, "", (struct http_request){.url = url, .body_max = 65536});
	CU_ASSERT_EQUAL(known.outcome, HTTP_COMPLETE);
	CU_ASSERT_EQUAL(known.head.status, 200);
	CU_ASSERT_PTR_NOT_NULL(strstr(buf_str(&known.body), "TLS"));
	call_get_with(&again, "", (struct http_request){.url = url, .body_max = 65536});
	CU_ASSERT_EQUAL(again.outcome, HTTP_COMPLETE);

	(void)snprintf(url, sizeof(url), "https://127.0.0.1:%d/", port);
	call_get_with(&other_name, "", (struct http_request){.url = url, .body_max = 65536});
	CU_ASSERT_EQUAL(other_name.outcome, HTTP_NO_TLS);
	CU_ASSERT_EQUAL(other_name.heads, 0);

	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	(void)fclose(out);
	buf_clear(&unknown.body);
	buf_clear(&known.body);
	buf_clear(&again.body);
	buf_clear(&other_name.body);
	free(certificate);
}

static void tls_with_a_server_that_has_none_is_unreachable(void)
{
	struct call call = {0};
	char url[64];

	(void)snprintf(url, sizeof(url), "https://127.0.0.1:%d/", fake_http_port(stage.server));
	call_get_with(&call, "", (struct http_request){.url = url, .total_ms = 500});
	CU_ASSERT(call.outcome == HTTP_UNREACHABLE || call.outcome == HTTP_TIMEOUT);
	CU_ASSERT_EQUAL(call.heads, 0);
	buf_clear(&call.body);
}

static CU_TestInfo cases[] = {
	CASE(an_answer_comes_as_it_was_said),
	CASE(a_line_without_an_end_is_refused),
	CASE(a_body_larger_than_allowed_is_cut_off),
	CASE(retry_after_is_understood),
	CASE(a_request_says_what_it_should_and_nothing_else),
	CASE(a_post_without_a_body_has_length_zero),
	CASE(what_the_caller_gave_may_be_gone),
	CASE(what_may_not_be_sent_is_refused_at_once),
	CASE(a_connection_is_used_again),
	CASE(calls_at_the_same_time_have_connections_of_their_own),
	CASE(calls_beyond_the_limit_wait_for_a_connection),
	CASE(a_fresh_call_has_a_connection_of_its_own),
	CASE(a_kept_connection_that_the_server_closed_costs_nothing),
	CASE(an_address_that_is_refused_is_not_connected_to),
	CASE(a_kept_connection_is_judged_anew),
	CASE(who_judges_an_address_knows_whether_there_is_tls),
	CASE(a_port_where_nobody_listens_is_unreachable),
	CASE(of_several_addresses_the_one_that_may_be_tried_counts),
	CASE(a_name_that_nobody_has_is_no_host),
	CASE(a_proxy_of_the_environment_is_not_asked),
	CASE(a_certificate_is_verified),
	CASE(tls_with_a_server_that_has_none_is_unreachable),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"http", stage_init, stage_clean, stage_set_up, stage_tear_down, cases},
	CU_SUITE_INFO_NULL,
};
