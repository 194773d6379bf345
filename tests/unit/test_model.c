/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Models against a server whose every byte the test says: sharing, retries, the breaker, timeouts, cancelling at every
 * stage. AddressSanitizer tells what is left behind.
 */
#include "worker/model/model.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/http.h"
#include "lib/json.h"
#include "lib/xalloc.h"
#include "tests/fake/http_server.h"
#include "tests/unit/harness.h"
#include "worker/http_loop.h"

#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
#define HI "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n"
#define BYE                                                                                                            \
	"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"                                          \
	"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n"

/* What the server does with each request, in order; the last one again and again. */
enum act {
	ACT_ANSWER,
	ACT_503,
	ACT_429,
	ACT_429_LATER, /* Retry-After far beyond what may be waited */
	ACT_401,
	ACT_404,
	ACT_HTML,
	ACT_WHOLE,        /* a JSON answer */
	ACT_HANG_UP,      /* before a head */
	ACT_HANG,         /* before a head */
	ACT_HANG_IN_BODY, /* after some text */
	ACT_BREAK,        /* after some text */
	ACT_ERROR_INSIDE,
	ACT_NEVER_ENDS, /* after [DONE] */
	ACT_DRIP,       /* an answer, and then comments without end */
	ACT_LONG_LIST,  /* of models */
	ACT_SAY,        /* `said`, of `said_type`; with status 401 where it holds an error */
	ACT_ENDLESS     /* text without end */
};

static struct server {
	pthread_mutex_t mutex;
	enum act acts[8];
	unsigned count, next;
	char path[64], body[2048], head[2048];
	struct fake_http *http;
} server = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static const char *said, *said_type = "application/json";
static const char *secret_key = "sk-secret-key-1";

static bool say_chunk(struct fake_http_conn *conn, const char *text)
{
	return fake_http_say(conn, "%zx\r\n%s\r\n", strlen(text), text);
}

static bool say_status(struct fake_http_conn *conn, int status, const char *header)
{
	static const char body[] = "{\"error\":{\"message\":\"no, sk-secret-key-1\"}}";

	return fake_http_say(conn, "HTTP/1.1 %d X\r\n%sContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
			     status, header, strlen(body), body);
}

static bool endless(struct fake_http_conn *conn)
{
	while (say_chunk(conn, HI))
		;
	return false;
}

static bool perform(struct fake_http_conn *conn, enum act act)
{
	static const char whole[] = "{\"choices\":[{\"message\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}";

	switch (act) {
	case ACT_ANSWER: /* its two ends in one go: the first one has begun the time that a stream may linger */
		return fake_http_say(conn, OK_HEAD) && say_chunk(conn, HI) &&
		       fake_http_say(conn, "%zx\r\n%s\r\n0\r\n\r\n", strlen(BYE), BYE);
	case ACT_503:
		return say_status(conn, 503, "");
	case ACT_429:
		return say_status(conn, 429, "Retry-After: 0\r\n");
	case ACT_429_LATER:
		return say_status(conn, 429, "Retry-After: 77\r\n");
	case ACT_401:
		return say_status(conn, 401, "");
	case ACT_404:
		return say_status(conn, 404, "");
	case ACT_HTML:
		return fake_http_say(conn,
				     "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>");
	case ACT_WHOLE:
		return fake_http_say(
			conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
			strlen(whole), whole);
	case ACT_HANG_UP:
		return false;
	case ACT_HANG:
		return fake_http_hang(conn);
	case ACT_HANG_IN_BODY:
		return fake_http_say(conn, OK_HEAD) && say_chunk(conn, HI) && fake_http_hang(conn);
	case ACT_BREAK:
		(void)(fake_http_say(conn, OK_HEAD) && say_chunk(conn, HI));
		return false;
	case ACT_ERROR_INSIDE:
		return fake_http_say(conn, OK_HEAD) && say_chunk(conn, HI) &&
		       say_chunk(conn, "data: {\"error\":{\"message\":\"overloaded\"}}\n\n") &&
		       fake_http_say(conn, "0\r\n\r\n");
	case ACT_NEVER_ENDS:
		return fake_http_say(conn, OK_HEAD) && say_chunk(conn, HI) && say_chunk(conn, BYE) &&
		       fake_http_hang(conn);
	case ACT_DRIP:
		if (!fake_http_say(conn, OK_HEAD) || !say_chunk(conn, HI) || !say_chunk(conn, BYE))
			return false;
		while (say_chunk(conn, ": still here\n"))
			usleep(50000);
		return false;
	case ACT_LONG_LIST:
		(void)fake_http_say(
			conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n");
		for (int i = 0; i < 1000; i++)
			if (!fake_http_say(conn, "%-100s", "model"))
				return false;
		return true;
	case ACT_SAY:
		return fake_http_say(conn, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s",
				     strstr(said, "\"error\"") ? "401 X" : "200 OK", said_type, strlen(said), said);
	case ACT_ENDLESS:
		return fake_http_say(conn, OK_HEAD) && endless(conn);
	}
	return false;
}

static bool handle(void *closure, struct fake_http_conn *conn, const struct fake_http_request *request)
{
	struct server *s = closure;

	pthread_mutex_lock(&s->mutex);
	enum act act = s->acts[s->next < s->count ? s->next : s->count - 1];
	s->next++;
	(void)snprintf(s->path, sizeof(s->path), "%s", request->path);
	(void)snprintf(s->head, sizeof(s->head), "%s", request->head);
	(void)snprintf(s->body, sizeof(s->body), "%.*s", (int)request->body_len, request->body);
	pthread_mutex_unlock(&s->mutex);
	return perform(conn, act);
}

/* --- the client's side --- */

static uv_loop_t loop;
static struct http_loop *http;
static struct models *models;
static struct llm_config llm;
static char base_url[64];
static int opened;
static bool is_open_refused;

static struct seen {
	bool is_over, is_good, is_cancelling;
	char text[256];
	struct model_failure failure;
	uint64_t tokens_in, tokens_out;
	struct model_call *call;
} seen;

static bool open_secrets(void *closure, const struct llm_config *config, struct model_secrets *ret_secrets,
			 struct err *e)
{
	(void)closure;
	(void)config;
	opened++;
	if (is_open_refused)
		return err_set(e, ERR_DENIED, "no");
	ret_secrets->key = xstrdup(secret_key);
	ret_secrets->headers = jval_new_object();
	jval_add_string(ret_secrets->headers, "X-Team", "blue");
	return true;
}

static void on_text(void *closure, const char *text, size_t len)
{
	(void)closure;
	size_t at = strlen(seen.text);
	(void)snprintf(seen.text + at, sizeof(seen.text) - at, "%.*s", (int)len, text);
	if (seen.is_cancelling) {
		model_call_cancel(seen.call);
		seen.is_over = true;
	}
}

static void on_end(void *closure, const struct answer *answer, const struct model_failure *failure)
{
	(void)closure;
	CU_ASSERT_FALSE(seen.is_over);
	seen.is_over = true;
	seen.is_good = answer != NULL;
	if (answer) {
		seen.tokens_in = answer->tokens_in;
		seen.tokens_out = answer->tokens_out;
	} else {
		seen.failure = *failure;
	}
}

static void on_probed(void *closure, const struct model_failure *failure)
{
	(void)closure;
	seen.is_over = true;
	seen.is_good = failure == NULL;
	if (failure)
		seen.failure = *failure;
}

static void set_up_with(struct models_config config)
{
	struct http_options options = {0};
	struct err e = {0};

	server.count = server.next = 0;
	server.http = fake_http_start(handle, &server);
	(void)snprintf(base_url, sizeof(base_url), "http://127.0.0.1:%d/v1", fake_http_port(server.http));
	llm = (struct llm_config){
		.llm_config_id = {"0192f0c1-0000-7000-8000-000000000001"},
		.org_id = {"0192f0c1-0000-7000-8000-000000000002"},
		.generation = 1,
		.provider = LLM_OPENAI,
		.base_url = base_url,
		.defaults = "{\"temperature\":0.5}",
	};
	CU_ASSERT_EQUAL_FATAL(uv_loop_init(&loop), 0);
	http = http_loop_new(&loop, &options, &e);
	CU_ASSERT_PTR_NOT_NULL_FATAL(http);
	config.loop = &loop;
	config.http = http_loop_client(http);
	config.open = open_secrets;
	models = models_new(&config);
	opened = 0;
	is_open_refused = false;
	seen = (struct seen){0};
}

static const struct models_config plain = {
	.connect_ms = 5000,
	.first_byte_ms = 20000,
	.idle_ms = 20000,
	.answer_max = 4096,
	.request_max = 65536,
	.attempts_max = 3,
	.retry_ms = 2,
	.retry_max_ms = 1000,
	.breaker = {.failures_max = 3, .pause_ms = 50, .pause_max_ms = 100},
};

static void set_up(void)
{
	set_up_with(plain);
}

static void tear_down(void)
{
	clock_set_for_test(-1, 0);
	CU_ASSERT_EQUAL(models_count(models), 0);
	models_free(&models);
	http_loop_close(&http);
	uv_run(&loop, UV_RUN_DEFAULT);
	CU_ASSERT_EQUAL(uv_loop_close(&loop), 0);
	fake_http_stop(&server.http);
}

static void acts(unsigned count, const enum act *list)
{
	pthread_mutex_lock(&server.mutex);
	memcpy(server.acts, list, count * sizeof(*list));
	server.count = count;
	server.next = 0;
	pthread_mutex_unlock(&server.mutex);
}
#define ACTS(...) acts(sizeof((enum act[]){__VA_ARGS__}) / sizeof(enum act), (enum act[]){__VA_ARGS__})

static struct model *model_of(const char *name)
{
	struct err e = {0};
	struct model *model = model_ref(models, &llm, name, NULL, &e);

	CU_ASSERT_PTR_NOT_NULL_FATAL(model);
	return model;
}

static struct model_call *begin(struct model *model, int64_t deadline_ms)
{
	struct jval *messages = jval_new_array(), *message = jval_new_object();
	struct model_ask ask = {.messages = messages, .deadline_ms = deadline_ms};
	struct model_sink sink = {.text = on_text, .end = on_end};

	jval_add_string(message, "role", "user");
	jval_add_string(message, "content", "hello");
	jval_push(messages, message);
	seen = (struct seen){.is_cancelling = seen.is_cancelling};
	seen.call = model_call(model, &ask, &sink, &seen.failure);
	jval_free(&messages);
	return seen.call;
}

/* So much of the caller's time is left when it begins, however slow this machine is: the clock stands. */
static struct model_call *begin_with_left(struct model *model, int64_t left_ms)
{
	clock_set_for_test(1000, 0);
	return begin(model, 1000 + left_ms);
}

static unsigned asked(void)
{
	pthread_mutex_lock(&server.mutex);
	unsigned n = server.next;
	pthread_mutex_unlock(&server.mutex);
	return n;
}

/* What the server's threads have written may be read afterwards. */
static void run_until_over(void)
{
	while (!seen.is_over)
		uv_run(&loop, UV_RUN_ONCE);
	(void)asked();
}

static void call(struct model *model)
{
	CU_ASSERT_PTR_NOT_NULL_FATAL(begin(model, 0));
	run_until_over();
}

static struct model_look look;

static void on_look(void *closure, const struct model_look *its)
{
	(void)closure;
	look = *its;
}

static enum breaker_state breaker_now(void)
{
	models_each(models, clock_now_ms(), on_look, NULL);
	return look.breaker;
}

/* --- cases --- */

static void an_answer_is_streamed_and_counted(void)
{
	struct model *model = model_of("m");

	ACTS(ACT_ANSWER);
	call(model);
	CU_ASSERT_TRUE(seen.is_good);
	CU_ASSERT_STRING_EQUAL(seen.text, "hi");
	CU_ASSERT_EQUAL(seen.tokens_in, 4);
	CU_ASSERT_EQUAL(seen.tokens_out, 1);
	CU_ASSERT_STRING_EQUAL(server.path, "/v1/chat/completions");
	CU_ASSERT_PTR_NOT_NULL(strstr(server.head, "Authorization: Bearer sk-secret-key-1\r\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(server.head, "X-Team: blue\r\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(server.body, "\"temperature\":0.5"));
	(void)breaker_now();
	CU_ASSERT_EQUAL(look.calls, 1);
	CU_ASSERT_EQUAL(look.tokens_in, 4);
	model_unref(&model);
}

static void calls_that_follow_use_one_connection(void)
{
	struct model *model = model_of("m");

	ACTS(ACT_ANSWER);
	for (int i = 0; i < 10; i++) {
		call(model);
		CU_ASSERT_TRUE(seen.is_good);
		while (look.calls_open > 0 || (breaker_now(), look.calls_open > 0))
			uv_run(&loop, UV_RUN_ONCE), (void)breaker_now();
	}
	CU_ASSERT_EQUAL(fake_http_connections(server.http), 1);
	model_unref(&model);
}

static void a_model_is_shared_by_what_names_the_same(void)
{
	struct model *first = model_of("m"), *same = model_of("m"), *other = model_of("n"), *newer;
	struct err e = {0};

	CU_ASSERT_PTR_EQUAL(first, same);
	CU_ASSERT_PTR_NOT_EQUAL(first, other);
	CU_ASSERT_EQUAL(models_count(models), 2);
	CU_ASSERT_EQUAL(opened, 2);
	llm.generation = 2;
	newer = model_of("m");
	CU_ASSERT_PTR_NOT_EQUAL(first, newer);
	struct jval *parameters = jval_new_object();
	jval_add_int(parameters, "max_tokens", 5);
	struct model *with = model_ref(models, &llm, "m", parameters, &e);
	CU_ASSERT_PTR_NOT_EQUAL(newer, with);
	CU_ASSERT_EQUAL(models_count(models), 4);
	CU_ASSERT_EQUAL(model_refs(first), 2);
	CU_ASSERT_TRUE(model_memory_bytes(first) > 0);
	model_unref(&same);
	CU_ASSERT_EQUAL(models_count(models), 4);
	model_unref(&first);
	CU_ASSERT_EQUAL(models_count(models), 3);
	jval_free(&parameters);
	model_unref(&other);
	model_unref(&newer);
	model_unref(&with);
}

static void secrets_that_do_not_open_make_no_model(void)
{
	struct err e = {0};

	is_open_refused = true;
	CU_ASSERT_PTR_NULL(model_ref(models, &llm, "m", NULL, &e));
	CU_ASSERT_EQUAL(e.code, ERR_DENIED);
	is_open_refused = false;
	llm.defaults = "[";
	CU_ASSERT_PTR_NULL(model_ref(models, &llm, "m", NULL, &e));
	CU_ASSERT_EQUAL(models_count(models), 0);
}

static const struct {
	int line;
	enum act first;
	bool is_tried_again;
	enum model_trouble trouble; /* where it stays so */
} troubles[] = {
	/* clang-format off */
	{__LINE__, ACT_HANG_UP, false, MODEL_BROKEN}, /* on its first connection: it may have worked, and cost */
	/* clang-format on */
	{__LINE__, ACT_503, true, MODEL_UNAVAILABLE},
	{__LINE__, ACT_429, true, MODEL_LIMITED},
	{__LINE__, ACT_429_LATER, false, MODEL_LIMITED},
	{__LINE__, ACT_401, false, MODEL_REFUSED},
	{__LINE__, ACT_HTML, false, MODEL_BROKEN},
	{__LINE__, ACT_BREAK, false, MODEL_BROKEN},
	{__LINE__, ACT_ERROR_INSIDE, false, MODEL_UNAVAILABLE},
	{__LINE__, ACT_ENDLESS, false, MODEL_TOO_LARGE},
};

static void only_what_had_not_begun_is_tried_again(void)
{
	for (unsigned i = 0; i < sizeof(troubles) / sizeof(troubles[0]); i++) {
		struct model *model = model_of("m");

		ACTS(troubles[i].first, ACT_ANSWER);
		call(model);
		CHECK_ROW(&troubles[i], seen.is_good == troubles[i].is_tried_again);
		CHECK_ROW(&troubles[i], seen.is_good || seen.failure.trouble == troubles[i].trouble);
		CHECK_ROW(&troubles[i], strstr(seen.failure.text, "secret") == NULL);
		model_unref(&model);
	}
}

static void attempts_have_an_end(void)
{
	for (unsigned i = 1; i < 3; i++) {
		struct model *model = model_of("m");

		ACTS(troubles[i].first);
		call(model);
		CHECK_ROW(&troubles[i], !seen.is_good && seen.failure.trouble == troubles[i].trouble);
		CU_ASSERT_EQUAL(server.next, 3);
		model_unref(&model);
	}
}

static void a_retry_after_that_is_too_long_is_passed_on(void)
{
	struct model *model = model_of("m");

	ACTS(ACT_429_LATER);
	call(model);
	CU_ASSERT_EQUAL(seen.failure.retry_after_ms, 77000);
	CU_ASSERT_EQUAL(seen.failure.status, 429);
	model_unref(&model);
}

static void a_whole_answer_is_taken_too(void)
{
	struct model *model = model_of("m");

	ACTS(ACT_WHOLE);
	call(model);
	CU_ASSERT_TRUE(seen.is_good);
	CU_ASSERT_STRING_EQUAL(seen.text, "hi");
	model_unref(&model);
}

/* The server says that it is over, and stays. */
static void the_end_is_told_when_the_stream_says_so(void)
{
	struct model *model = model_of("m");

	ACTS(ACT_NEVER_ENDS);
	call(model);
	CU_ASSERT_TRUE(seen.is_good);
	model_unref(&model); /* the transfer still reads; models_free ends it */
}

static void the_breaker_opens_tries_and_closes(void)
{
	struct model_failure failure;
	struct models_config once = plain;
	struct model *model;

	tear_down();
	once.attempts_max = 1;
	set_up_with(once);
	clock_set_for_test(1000, 0);
	model = model_of("m");
	ACTS(ACT_503);
	for (int i = 0; i < 3; i++)
		call(model);
	CU_ASSERT_EQUAL(breaker_now(), BREAKER_OPEN);
	CU_ASSERT_PTR_NULL(begin(model, 0));
	failure = seen.failure;
	CU_ASSERT_EQUAL(failure.trouble, MODEL_UNAVAILABLE);
	CU_ASSERT_EQUAL(failure.retry_after_ms, 50);
	CU_ASSERT_EQUAL(server.next, 3);
	ACTS(ACT_503, ACT_ANSWER);
	clock_set_for_test(1049, 0);
	CU_ASSERT_PTR_NULL(begin(model, 0));
	clock_set_for_test(1050, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(begin(model, 0));
	CU_ASSERT_EQUAL(breaker_now(), BREAKER_HALF_OPEN);
	run_until_over();
	CU_ASSERT_FALSE(seen.is_good);
	CU_ASSERT_EQUAL(breaker_now(), BREAKER_OPEN);
	clock_set_for_test(1149, 0); /* the second pause is twice as long */
	CU_ASSERT_PTR_NULL(begin(model, 0));
	clock_set_for_test(1150, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(begin(model, 0));
	run_until_over();
	CU_ASSERT_TRUE(seen.is_good);
	CU_ASSERT_EQUAL(breaker_now(), BREAKER_CLOSED);
	model_unref(&model);
}

static void what_is_the_callers_fault_opens_no_breaker(void)
{
	struct model *model = model_of("m");

	ACTS(ACT_401);
	for (int i = 0; i < 10; i++)
		call(model);
	CU_ASSERT_EQUAL(breaker_now(), BREAKER_CLOSED);
	model_unref(&model);
}

static void each_silence_has_an_end(void)
{
	static const enum act silences[] = {ACT_HANG, ACT_HANG_IN_BODY};
	struct models_config impatient = plain;

	tear_down();
	impatient.first_byte_ms = impatient.idle_ms = 30;
	impatient.attempts_max = 1;
	set_up_with(impatient);
	for (unsigned i = 0; i < 2; i++) {
		struct model *model = model_of("m");
		ACTS(silences[i]);
		call(model);
		CU_ASSERT_FALSE(seen.is_good);
		CU_ASSERT_EQUAL(seen.failure.trouble, MODEL_TIMEOUT);
		model_unref(&model);
	}
}

static void a_deadline_ends_a_call_at_every_stage(void)
{
	static const enum act silences[] = {ACT_HANG, ACT_HANG_IN_BODY};
	struct model *model = model_of("m");

	for (unsigned i = 0; i < 2; i++) {
		ACTS(silences[i]);
		CU_ASSERT_PTR_NOT_NULL_FATAL(begin_with_left(model, 50));
		run_until_over();
		CU_ASSERT_EQUAL(seen.failure.trouble, MODEL_TIMEOUT);
	}
	CU_ASSERT_PTR_NULL(begin_with_left(model, -1));
	CU_ASSERT_EQUAL(seen.failure.trouble, MODEL_TIMEOUT);
	model_unref(&model);
}

static void nobody_there_is_told(void)
{
	struct model *model;

	llm.base_url = "http://127.0.0.1:1/v1";
	model = model_of("m");
	call(model);
	CU_ASSERT_EQUAL(seen.failure.trouble, MODEL_UNAVAILABLE);
	model_unref(&model);
}

static void a_call_can_be_cancelled_at_every_stage(void)
{
	struct model *model = model_of("m");

	ACTS(ACT_HANG);
	model_call_cancel(begin(model, 0)); /* before the connection */
	CU_ASSERT_PTR_NOT_NULL_FATAL(begin(model, 0));
	while (asked() == 0) /* before the head */
		uv_run(&loop, UV_RUN_NOWAIT);
	model_call_cancel(seen.call);
	ACTS(ACT_HANG_IN_BODY);
	CU_ASSERT_PTR_NOT_NULL_FATAL(begin(model, 0));
	while (seen.text[0] == '\0') /* in the body */
		uv_run(&loop, UV_RUN_ONCE);
	model_call_cancel(seen.call);
	seen.is_cancelling = true; /* from within its sink */
	CU_ASSERT_PTR_NOT_NULL_FATAL(begin(model, 0));
	run_until_over();
	seen.is_cancelling = false;
	ACTS(ACT_503);
	CU_ASSERT_PTR_NOT_NULL_FATAL(begin(model, 0));
	while (asked() == 0 || look.calls_open == 0) { /* in the pause, or on the way to it */
		uv_run(&loop, UV_RUN_NOWAIT);
		(void)breaker_now();
	}
	model_call_cancel(seen.call);
	(void)breaker_now();
	CU_ASSERT_EQUAL(look.calls_open, 0);
	/* The provider is not left working: of all connections only that of the 503 may be kept. */
	while (fake_http_hangups(server.http) < 3 ||
	       fake_http_connections(server.http) - fake_http_hangups(server.http) > 1)
		uv_run(&loop, UV_RUN_NOWAIT);
	model_unref(&model);
}

static const struct {
	int line;
	enum model_probe kind;
	enum act act;
	bool is_good;
} probes[] = {
	{__LINE__, MODEL_PROBE_CONNECT, ACT_WHOLE, true},
	{__LINE__, MODEL_PROBE_CONNECT, ACT_404, true}, /* no list of models */
	{__LINE__, MODEL_PROBE_CONNECT, ACT_401, false},
	{__LINE__, MODEL_PROBE_CONNECT, ACT_503, false},
	{__LINE__, MODEL_PROBE_CONNECT, ACT_HANG_UP, false},
	{__LINE__, MODEL_PROBE_CALL, ACT_ANSWER, true},
	{__LINE__, MODEL_PROBE_CALL, ACT_WHOLE, true},
	{__LINE__, MODEL_PROBE_CALL, ACT_401, false},
	{__LINE__, MODEL_PROBE_CALL, ACT_404, false},
	{__LINE__, MODEL_PROBE_CALL, ACT_HTML, false},
};

static void a_probe_asks_once_on_a_connection_of_its_own(void)
{
	for (unsigned i = 0; i < sizeof(probes) / sizeof(probes[0]); i++) {
		struct model *model = model_of("m");
		unsigned before = fake_http_connections(server.http);

		ACTS(probes[i].act);
		seen = (struct seen){0};
		CU_ASSERT_PTR_NOT_NULL_FATAL(
			model_probe(model, probes[i].kind, clock_now_ms() + 20000, on_probed, NULL, &seen.failure));
		run_until_over();
		CHECK_ROW(&probes[i], seen.is_good == probes[i].is_good);
		CHECK_ROW(&probes[i], server.next == 1 && fake_http_connections(server.http) == before + 1);
		CHECK_ROW(&probes[i],
			  strcmp(server.path,
				 probes[i].kind == MODEL_PROBE_CONNECT ? "/v1/models" : "/v1/chat/completions") == 0);
		model_unref(&model);
	}
}

static void anthropic_gets_its_own_headers(void)
{
	struct model *model;

	llm.provider = LLM_ANTHROPIC;
	model = model_of("m");
	ACTS(ACT_401);
	call(model);
	CU_ASSERT_STRING_EQUAL(server.path, "/v1/messages");
	CU_ASSERT_PTR_NOT_NULL(strstr(server.head, "x-api-key: sk-secret-key-1\r\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(server.head, "anthropic-version: 2023-06-01\r\n"));
	model_unref(&model);
}

static void a_call_can_be_cancelled_by_the_last_it_said(void)
{
	static const struct {
		const char *type, *text;
	} ends[] = {
		{"application/json", "{\"choices\":[{\"message\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}"},
		{"Text/Event-Stream", "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n"}, /* no blank line */
	};

	for (unsigned i = 0; i < 2; i++) {
		struct model *model = model_of("m");
		said_type = ends[i].type;
		said = ends[i].text;
		ACTS(ACT_SAY);
		seen.is_cancelling = true;
		call(model);
		seen.is_cancelling = false;
		CU_ASSERT_STRING_EQUAL(seen.text, "hi");
		(void)breaker_now();
		CU_ASSERT_EQUAL(look.calls_open, 0);
		model_unref(&model);
	}
	said_type = "application/json";
}

/* What a call that fails writes to the log. */
static void call_and_read_log(struct model *model, char *ret_log, size_t size)
{
	FILE *log = tmpfile();
	int saved = dup(2);

	CU_ASSERT_PTR_NOT_NULL_FATAL(log);
	(void)dup2(fileno(log), 2);
	call(model);
	(void)dup2(saved, 2);
	(void)close(saved);
	rewind(log);
	ret_log[fread(ret_log, 1, size - 1, log)] = '\0';
	(void)fclose(log);
}

static void the_log_holds_no_secret_wherever_it_is_cut(void)
{
	char text[600], log[4096];
	struct model *model;

	for (int at = 100; at < 170; at++) {
		model = model_of("m");
		(void)snprintf(text, sizeof(text), "{\"error\":{\"message\":\"%0*d%s and more\"}}", at, 0, secret_key);
		said = text;
		ACTS(ACT_SAY);
		call_and_read_log(model, log, sizeof(log));
		CU_ASSERT_PTR_NOT_NULL(strstr(log, "000"));
		CU_ASSERT_PTR_NULL(strstr(log, "sk-s"));
		model_unref(&model);
	}
	model = model_of("m");
	said = "{\"error\":{\"message\":\"X-Team is blue\\\" next=\\\"x\"}}";
	ACTS(ACT_SAY);
	call_and_read_log(model, log, sizeof(log));
	CU_ASSERT_PTR_NOT_NULL(strstr(log, "error=\"X-Team is ****' next='x\""));
	model_unref(&model);
	secret_key = "********"; /* masked with itself */
	model = model_of("n");
	said = "{\"error\":{\"message\":\"bad key ********\"}}";
	ACTS(ACT_SAY);
	call(model);
	CU_ASSERT_FALSE(seen.is_good);
	model_unref(&model);
	secret_key = "sk-secret-key-1";
}

static void a_callers_own_deadline_opens_no_breaker(void)
{
	struct model *model = model_of("m");

	ACTS(ACT_HANG);
	for (int i = 0; i < 4; i++) {
		CU_ASSERT_PTR_NOT_NULL_FATAL(begin_with_left(model, 30));
		run_until_over();
		CU_ASSERT_EQUAL(seen.failure.trouble, MODEL_TIMEOUT);
	}
	CU_ASSERT_EQUAL(breaker_now(), BREAKER_CLOSED);
	ACTS(ACT_ANSWER);
	call(model);
	CU_ASSERT_TRUE(seen.is_good);
	model_unref(&model);
}

static void a_list_of_models_of_any_length_will_do(void)
{
	struct model *model = model_of("m");

	ACTS(ACT_LONG_LIST);
	CU_ASSERT_PTR_NOT_NULL_FATAL(
		model_probe(model, MODEL_PROBE_CONNECT, clock_now_ms() + 20000, on_probed, NULL, &seen.failure));
	run_until_over();
	CU_ASSERT_TRUE(seen.is_good);
	model_unref(&model);
}

static void what_drips_behind_its_end_is_cut(void)
{
	struct model *model = model_of("m");

	ACTS(ACT_DRIP);
	for (int i = 0; i < 5; i++) {
		call(model);
		CU_ASSERT_TRUE(seen.is_good);
	}
	while (breaker_now() == BREAKER_CLOSED && look.calls_open > 0) /* without end, were it not cut */
		uv_run(&loop, UV_RUN_ONCE);
	model_unref(&model);
}

static void a_trial_that_streams_has_shown_that_the_provider_answers(void)
{
	struct models_config once = plain;
	struct model_call *trial;
	struct model *model;

	tear_down();
	once.attempts_max = 1;
	set_up_with(once);
	clock_set_for_test(1000, 0);
	model = model_of("m");
	ACTS(ACT_503, ACT_503, ACT_503, ACT_HANG_IN_BODY, ACT_ANSWER);
	for (int i = 0; i < 3; i++)
		call(model);
	CU_ASSERT_EQUAL(breaker_now(), BREAKER_OPEN);
	clock_set_for_test(1050, 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(begin(model, 0));
	trial = seen.call;
	while (seen.text[0] == '\0')
		uv_run(&loop, UV_RUN_ONCE);
	call(model);
	CU_ASSERT_TRUE(seen.is_good);
	model_call_cancel(trial);
	model_unref(&model);
}

static CU_TestInfo cases[] = {
	CASE(a_call_can_be_cancelled_by_the_last_it_said),
	CASE(the_log_holds_no_secret_wherever_it_is_cut),
	CASE(a_callers_own_deadline_opens_no_breaker),
	CASE(a_list_of_models_of_any_length_will_do),
	CASE(what_drips_behind_its_end_is_cut),
	CASE(a_trial_that_streams_has_shown_that_the_provider_answers),
	CASE(an_answer_is_streamed_and_counted),
	CASE(calls_that_follow_use_one_connection),
	CASE(a_model_is_shared_by_what_names_the_same),
	CASE(secrets_that_do_not_open_make_no_model),
	CASE(only_what_had_not_begun_is_tried_again),
	CASE(attempts_have_an_end),
	CASE(a_retry_after_that_is_too_long_is_passed_on),
	CASE(a_whole_answer_is_taken_too),
	CASE(the_end_is_told_when_the_stream_says_so),
	CASE(the_breaker_opens_tries_and_closes),
	CASE(what_is_the_callers_fault_opens_no_breaker),
	CASE(each_silence_has_an_end),
	CASE(a_deadline_ends_a_call_at_every_stage),
	CASE(nobody_there_is_told),
	CASE(a_call_can_be_cancelled_at_every_stage),
	CASE(a_probe_asks_once_on_a_connection_of_its_own),
	CASE(anthropic_gets_its_own_headers),
	CU_TEST_INFO_NULL,
};

static int start(void)
{
	struct err e = {0};

	return http_library_init(&e) ? 0 : 1;
}

static int stop(void)
{
	http_library_end();
	return 0;
}

CU_SuiteInfo suites[] = {
	{"model", start, stop, set_up, tear_down, cases},
	CU_SUITE_INFO_NULL,
};
