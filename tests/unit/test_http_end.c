/* SPDX-License-Identifier: Apache-2.0 */
/* How calls end before their time: limits, cancelling at every stage, and what may be done from within. */
#include "lib/http.h"

#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/macros.h"
#include "tests/unit/harness.h"
#include "tests/unit/http_stage.h"

/* --- limits of time --- */

static void a_silent_server_is_given_up(void)
{
	static const char *const paths[] = {"/hang-head", "/hang-in-head"};

	for (unsigned i = 0; i < ARRAY_LEN(paths); i++) {
		struct call call = {0};
		clock_set_for_test(1000, STAGE_UNIX_MS);
		call_start_with(&call, paths[i], (struct http_request){.first_byte_ms = 500, .idle_ms = 100});
		stage_run_until(fake_http_requests, i + 1);
		http_tick(stage.http, 1499);
		CU_ASSERT_EQUAL(call.ends, 0);
		http_tick(stage.http, 1500);
		CU_ASSERT_EQUAL(call.ends, 1);
		CU_ASSERT_EQUAL(call.outcome, HTTP_TIMEOUT);
		CU_ASSERT_STRING_EQUAL(call.detail, "first byte");
		CU_ASSERT_EQUAL(http_calls(stage.http), 0);
		stage_run_until(fake_http_hangups, i + 1);
		buf_clear(&call.body);
	}
}

static void a_server_that_falls_silent_is_given_up(void)
{
	struct call call = {.clock_ms = 1600}; /* the body is later than the head */

	clock_set_for_test(1000, STAGE_UNIX_MS);
	call_start_with(&call, "/hang-body", (struct http_request){.first_byte_ms = 500, .idle_ms = 100});
	while (call.parts == 0)
		stage_turn();
	http_tick(stage.http, 1699);
	CU_ASSERT_EQUAL(call.ends, 0);
	http_tick(stage.http, 1700);
	CU_ASSERT_EQUAL(call.ends, 1);
	CU_ASSERT_EQUAL(call.outcome, HTTP_TIMEOUT);
	CU_ASSERT_STRING_EQUAL(call.detail, "idle");
	CU_ASSERT_STRING_EQUAL(buf_str(&call.body), "hello");
	stage_run_until(fake_http_hangups, 1);
	buf_clear(&call.body);
}

static void many_are_given_up_at_once_though_their_ends_cancel_and_start_others(void)
{
	struct call calls[4] = {0}, next = {0};

	clock_set_for_test(1000, STAGE_UNIX_MS);
	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		call_start_with(&calls[i], "/hang-head", (struct http_request){.first_byte_ms = 500});
	calls[0].next = &calls[1];
	calls[2].next = &next;
	stage_run_until(fake_http_requests, ARRAY_LEN(calls));
	http_tick(stage.http, 1500);
	CU_ASSERT(calls[0].ends == 1 && calls[1].ends == 0 && calls[2].ends == 1 && calls[3].ends == 1);
	call_run(&next);
	call_check_hello(&next);
	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		buf_clear(&calls[i].body);
}

static void a_call_has_a_limit_for_the_whole(void)
{
	struct call call = {0};

	call_get_with(&call, "/hang-body", (struct http_request){.connect_ms = 60000, .total_ms = 60});
	CU_ASSERT_EQUAL(call.outcome, HTTP_TIMEOUT);
	CU_ASSERT_STRING_EQUAL(call.detail, "total");
	buf_clear(&call.body);
}

static void a_connection_that_does_not_come_is_given_up(void)
{
	struct call call = {0};
	char url[64];
	int fds[3];

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/", stage_full_port(fds));
	call_get_with(&call, "", (struct http_request){.url = url, .connect_ms = 60, .total_ms = 60000});
	CU_ASSERT_EQUAL(call.outcome, HTTP_TIMEOUT);
	CU_ASSERT_STRING_EQUAL(call.detail, "connect");
	buf_clear(&call.body);
	for (int i = 0; i < 3; i++)
		(void)close(fds[i]);
}

/* --- cancelling, and calls from within --- */

static void a_call_is_cancelled_before_it_began(void)
{
	struct call call = {0};

	call_start(&call, "/hello");
	http_cancel(call.handle);
	CU_ASSERT_EQUAL(http_calls(stage.http), 0);
	call_check_silent(&call);
	CU_ASSERT_EQUAL(fake_http_requests(stage.server), 0);
	call_hello();
}

static void a_call_is_cancelled_at_each_turn_of_its_way(void)
{
	for (int turns = 1; turns < 6; turns++) {
		struct call call = {0};
		call_start(&call, "/hang-body");
		for (int i = 0; i < turns; i++)
			stage_turn();
		http_cancel(call.handle);
		CU_ASSERT_EQUAL(http_calls(stage.http), 0);
		call_check_silent(&call);
	}
	call_hello();
}

static void a_call_is_cancelled_while_it_connects(void)
{
	struct call call = {0}, named = {0};
	char url[64];
	int fds[3], port = stage_full_port(fds);

	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/", port);
	call_start_with(&call, "", (struct http_request){.url = url});
	stage_turn();
	stage_turn();
	CU_ASSERT(stage.loop.count > 0);
	http_cancel(call.handle);
	call_check_silent(&call);
	(void)snprintf(url, sizeof(url), "http://localhost:%d/", port); /* its name may be in the resolver's hands */
	call_start_with(&named, "", (struct http_request){.url = url});
	stage_turn();
	http_cancel(named.handle);
	call_check_silent(&named);
	CU_ASSERT_EQUAL(stage.loop.count, 0);
	for (int i = 0; i < 3; i++)
		(void)close(fds[i]);
}

/*
 * Stands in for the library's function in this program, for curl too: "hangs.test" has no answer until it is let go, as
 * with a name server that does not speak.
 */
static struct {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	unsigned asked, answered;
	bool is_let_go;
} names = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **ret)
{
	typedef int (*function)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

	if (strcmp(node, "hangs.test") != 0)
		return ((function)dlsym(RTLD_NEXT, "getaddrinfo"))(node, service, hints, ret);
	pthread_mutex_lock(&names.mutex);
	names.asked++;
	while (!names.is_let_go)
		pthread_cond_wait(&names.changed, &names.mutex);
	names.answered++;
	pthread_mutex_unlock(&names.mutex);
	return EAI_AGAIN;
}

static unsigned names_asked(struct fake_http *ignored)
{
	(void)ignored;
	pthread_mutex_lock(&names.mutex);
	unsigned count = names.asked;
	pthread_mutex_unlock(&names.mutex);
	return count;
}

static unsigned names_answered(struct fake_http *ignored)
{
	(void)ignored;
	pthread_mutex_lock(&names.mutex);
	unsigned count = names.answered;
	pthread_mutex_unlock(&names.mutex);
	return count;
}

static void a_call_whose_name_server_is_silent_ends_at_once(void)
{
	const struct http_options options = {0};
	const struct http_request request = {.url = "http://hangs.test/", .first_byte_ms = 500};
	struct call cancelled = {0}, late = {0}, unconnected = {0}, left = {0};

	clock_set_for_test(1000, STAGE_UNIX_MS);
	names.is_let_go = false;
	call_start_with(&cancelled, "", request);
	stage_run_until(names_asked, 1);
	http_cancel(cancelled.handle);
	call_check_silent(&cancelled);

	call_start_with(&late, "", request);
	stage_run_until(names_asked, 2);
	http_tick(stage.http, 1500);
	CU_ASSERT(late.ends == 1 && late.outcome == HTTP_TIMEOUT);

	call_get_with(&unconnected, "", (struct http_request){.url = "http://hangs.test/", .connect_ms = 20});
	CU_ASSERT_EQUAL(unconnected.outcome, HTTP_TIMEOUT);
	CU_ASSERT_STRING_EQUAL(unconnected.detail, "connect");

	call_start_with(&left, "", request);
	stage_run_until(names_asked, 4);
	stage_client_free();
	stage_client_new(&options);

	/* Everything above did not wait: the names have no answer to this moment. */
	CU_ASSERT_EQUAL(names_answered(NULL), 0);
	pthread_mutex_lock(&names.mutex);
	names.is_let_go = true;
	pthread_cond_broadcast(&names.changed);
	pthread_mutex_unlock(&names.mutex);
	stage_run_until(names_answered, 4);
	CU_ASSERT_EQUAL(left.ends, 0);
}

static void a_call_is_cancelled_before_the_head(void)
{
	struct call call = {0};

	call_start(&call, "/hang-head");
	stage_run_until(fake_http_requests, 1);
	http_cancel(call.handle);
	stage_run_until(fake_http_hangups, 1);
	call_check_silent(&call);
	CU_ASSERT_EQUAL(call.heads, 0);
}

static void a_call_is_cancelled_in_the_body(void)
{
	struct call call = {0};

	call_start(&call, "/hang-body");
	while (call.parts == 0)
		stage_turn();
	http_cancel(call.handle);
	stage_run_until(fake_http_hangups, 1);
	call_check_silent(&call);
}

static void a_call_is_cancelled_from_within(void)
{
	static const enum call_plan plans[] = {CANCEL_IN_HEAD, CANCEL_IN_BODY};

	for (unsigned i = 0; i < ARRAY_LEN(plans); i++) {
		struct call call = {.plan = plans[i]};
		call_start(&call, "/hang-body");
		stage_run_until(fake_http_hangups, i + 1);
		CU_ASSERT_EQUAL(http_calls(stage.http), 0);
		CU_ASSERT_EQUAL(call.parts, i);
		call_check_silent(&call);
	}
	call_hello();
}

static void a_whole_answer_is_cancelled_from_within(void)
{
	static const enum call_plan plans[] = {CANCEL_IN_HEAD, CANCEL_IN_BODY};

	for (unsigned i = 0; i < ARRAY_LEN(plans); i++) {
		struct call call = {.plan = plans[i]};
		call_start(&call, "/hello"); /* the body's end is in curl's hands already */
		while (http_calls(stage.http) > 0)
			stage_turn();
		CU_ASSERT_EQUAL(call.parts, i);
		call_check_silent(&call);
	}
	call_hello();
}

static void enough_ends_the_call_with_its_word(void)
{
	struct call call = {.plan = ENOUGH};

	call_get_with(&call, "/endless-body", (struct http_request){.body_max = 1 << 20});
	CU_ASSERT_EQUAL(call.outcome, HTTP_CANCELLED);
	CU_ASSERT_EQUAL(call.parts, 1);
	buf_clear(&call.body);
	call_hello();
}

static void a_call_cancels_another_from_within(void)
{
	struct call other = {0}, call = {.other = &other};

	call_start(&other, "/hang-body");
	while (other.parts == 0)
		stage_turn();
	call_get(&call, "/hello");
	call_check_hello(&call);
	CU_ASSERT_EQUAL(http_calls(stage.http), 0);
	stage_run_until(fake_http_hangups, 1);
	call_check_silent(&other);
}

static void a_call_starts_another_from_within(void)
{
	struct call inner = {0}, next = {0}, call = {.other = &inner, .next = &next};

	call_get(&call, "/hello");
	call_check_hello(&call);
	call_run(&inner);
	call_check_hello(&inner);
	call_run(&next);
	call_check_hello(&next);
	CU_ASSERT_EQUAL(fake_http_requests(stage.server), 3);
}

static void a_call_that_was_started_within_can_be_cancelled_there(void)
{
	struct call inner = {0}, call = {.other = &inner, .plan = CANCEL_OTHER_TOO};

	call_get(&call, "/hello");
	call_check_hello(&call);
	call_check_silent(&inner);
	CU_ASSERT_EQUAL(fake_http_requests(stage.server), 1);
}

static void the_end_of_the_client_is_silent(void)
{
	const struct http_options options = {0};
	struct call hanging = {0}, fresh = {0};

	call_start(&hanging, "/hang-body");
	while (hanging.parts == 0)
		stage_turn();
	call_start(&fresh, "/hello");
	stage_client_free();
	CU_ASSERT(hanging.ends == 0 && fresh.ends == 0);
	stage_client_new(&options);
	stage_run_until(fake_http_hangups, 1);
	buf_clear(&hanging.body);
	buf_clear(&fresh.body);
}

static CU_TestInfo cases[] = {
	CASE(a_silent_server_is_given_up),
	CASE(a_server_that_falls_silent_is_given_up),
	CASE(many_are_given_up_at_once_though_their_ends_cancel_and_start_others),
	CASE(a_call_has_a_limit_for_the_whole),
	CASE(a_connection_that_does_not_come_is_given_up),
	CASE(a_call_is_cancelled_before_it_began),
	CASE(a_call_is_cancelled_at_each_turn_of_its_way),
	CASE(a_call_is_cancelled_while_it_connects),
	CASE(a_call_whose_name_server_is_silent_ends_at_once),
	CASE(a_call_is_cancelled_before_the_head),
	CASE(a_call_is_cancelled_in_the_body),
	CASE(a_call_is_cancelled_from_within),
	CASE(a_whole_answer_is_cancelled_from_within),
	CASE(enough_ends_the_call_with_its_word),
	CASE(a_call_cancels_another_from_within),
	CASE(a_call_starts_another_from_within),
	CASE(a_call_that_was_started_within_can_be_cancelled_there),
	CASE(the_end_of_the_client_is_silent),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"http_end", stage_init, stage_clean, stage_set_up, stage_tear_down, cases},
	CU_SUITE_INFO_NULL,
};
