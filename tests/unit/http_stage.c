/* SPDX-License-Identifier: Apache-2.0 */
/* The loop checks what the client asks of it: one slot for each socket, ticks just while calls are open. */
#include "tests/unit/http_stage.h"

#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "lib/clock.h"
#include "tests/unit/harness.h"

#define TURN_MS 5       /* a turn without anything to do: another thread has to */
#define HANGS_MS 120000 /* no test takes that long: something hangs */
#define BODY_MAX 4096

struct stage stage;

/* --- the loop --- */

int64_t stage_real_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The slot holds the socket's number and one, to see that each keeps its own. */
static void watch(void *closure, int fd, int events, void **slot)
{
	struct stage_loop *loop = closure;
	short wanted = (short)((events & HTTP_READ ? POLLIN : 0) | (events & HTTP_WRITE ? POLLOUT : 0));
	nfds_t i = 0;

	CU_ASSERT(!*slot || (intptr_t)*slot == fd + 1);
	while (i < loop->count && loop->fds[i].fd != fd)
		i++;
	CU_ASSERT_EQUAL(*slot != NULL, i < loop->count);
	if (events == 0) {
		if (i < loop->count)
			loop->fds[i] = loop->fds[--loop->count];
		*slot = NULL;
		return;
	}
	if (i == loop->count)
		CU_ASSERT_FATAL(loop->count++ < STAGE_SOCKETS_MAX);
	loop->fds[i] = (struct pollfd){.fd = fd, .events = wanted};
	*slot = (void *)(intptr_t)(fd + 1);
}

static void set_alarm(void *closure, int64_t ms)
{
	struct stage_loop *loop = closure;

	loop->alarm_ms = ms < 0 ? -1 : stage_real_ms() + ms;
}

static void set_ticks(void *closure, bool is_wanted)
{
	struct stage_loop *loop = closure;

	CU_ASSERT_NOT_EQUAL(loop->is_ticking, is_wanted);
	loop->is_ticking = is_wanted;
}

void stage_turn(void)
{
	struct stage_loop *loop = &stage.loop;
	struct pollfd ready[STAGE_SOCKETS_MAX];
	nfds_t count = loop->count;
	int64_t wait_ms = loop->alarm_ms < 0 ? TURN_MS : loop->alarm_ms - stage_real_ms();

	CU_ASSERT_EQUAL(loop->is_ticking, http_calls(loop->http) > 0);
	memcpy(ready, loop->fds, count * sizeof(ready[0]));
	(void)poll(ready, count, (int)(wait_ms < 0 ? 0 : wait_ms > TURN_MS ? TURN_MS : wait_ms));
	for (nfds_t i = 0; i < count; i++) {
		short got = ready[i].revents;
		if (got & (POLLERR | POLLHUP | POLLNVAL))
			got |= ready[i].events;
		if (got)
			http_socket_ready(loop->http, ready[i].fd,
					  (got & POLLIN ? HTTP_READ : 0) | (got & POLLOUT ? HTTP_WRITE : 0));
	}
	if (loop->alarm_ms >= 0 && stage_real_ms() >= loop->alarm_ms) {
		loop->alarm_ms = -1;
		http_alarm(loop->http);
	}
}

/* --- the server --- */

static bool say_hello(struct fake_http_conn *conn)
{
	return fake_http_say(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello");
}

static bool say_in_bytes(struct fake_http_conn *conn, const char *text)
{
	for (; *text; text++) {
		if (!fake_http_send(conn, text, 1))
			return false;
	}
	return true;
}

static bool say_endless(struct fake_http_conn *conn, const char *start, const char *more)
{
	if (!fake_http_say(conn, "%s", start))
		return false;
	while (fake_http_say(conn, "%s", more))
		;
	return false;
}

#define CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

bool stage_answer(void *closure, struct fake_http_conn *conn, const struct fake_http_request *request)
{
	struct stage *site = closure;
	const char *path = request->path;
	unsigned status;
	char retry_after[64];

	if (strcmp(path, "/hello") == 0)
		return say_hello(conn);
	if (strcmp(path, "/echo") == 0) {
		buf_reset(&site->last_head);
		buf_append_str(&site->last_head, request->head);
		buf_reset(&site->last_body);
		buf_append(&site->last_body, request->body, request->body_len);
		return say_hello(conn);
	}
	if (strcmp(path, "/bytes") == 0)
		return say_in_bytes(conn, "HTTP/1.1 200 OK\r\nContent-Type:  text/event-stream; charset=utf-8 \r\n"
					  "Content-Length: 11\r\n\r\nhello world");
	if (strcmp(path, "/chunked") == 0)
		return say_in_bytes(conn, CHUNKED "5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nX-Trailer: x\r\n\r\n");
	if (sscanf(path, "/status/%u/%63s", &status, retry_after) == 2) {
		for (char *c = retry_after; *c; c++)
			*c = (char)(*c == '_' ? ' ' : *c);
		return fake_http_say(conn, "HTTP/1.1 %u X\r\nretry-after: %s\r\nContent-Length: 0\r\n\r\n", status,
				     retry_after);
	}
	if (sscanf(path, "/status/%u", &status) == 1)
		return fake_http_say(conn, "HTTP/1.1 %u X\r\nLocation: /hello\r\nContent-Length: 0\r\n\r\n", status);
	if (strcmp(path, "/early") == 0)
		return fake_http_say(conn, "HTTP/1.1 103 Early Hints\r\nContent-Type: x/y\r\nRetry-After: 9\r\n\r\n") &&
		       fake_http_say(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	if (strcmp(path, "/closes") == 0) { /* without having said so */
		(void)say_hello(conn);
		return false;
	}
	if (strcmp(path, "/until-close") == 0) {
		(void)fake_http_say(conn, "HTTP/1.0 200 OK\r\n\r\nall of it");
		return false;
	}
	if (strcmp(path, "/cut") == 0) {
		(void)fake_http_say(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
		return false;
	}
	if (strcmp(path, "/cut-chunk") == 0) {
		(void)fake_http_say(conn, CHUNKED "5\r\nhello\r\n");
		return false;
	}
	if (strcmp(path, "/bad-chunk") == 0)
		return fake_http_say(conn, CHUNKED "5\r\nhello\r\nzz\r\n") && fake_http_hang(conn);
	if (strcmp(path, "/nothing") == 0)
		return false;
	if (strcmp(path, "/garbage") == 0) {
		(void)fake_http_say(conn, "SSH-2.0-OpenSSH_9.2\r\n");
		return fake_http_hang(conn);
	}
	if (strcmp(path, "/hang-head") == 0)
		return fake_http_hang(conn);
	if (strcmp(path, "/hang-in-head") == 0)
		return fake_http_say(conn, "HTTP/1.1 200 OK\r\nContent-") && fake_http_hang(conn);
	if (strcmp(path, "/hang-body") == 0)
		return fake_http_say(conn, CHUNKED "5\r\nhello\r\n") && fake_http_hang(conn);
	if (strcmp(path, "/endless-head") == 0)
		return say_endless(conn, "HTTP/1.1 200 OK\r\n", "X-More: of the same\r\n");
	if (strcmp(path, "/endless-line") == 0)
		return say_endless(conn, "HTTP/1.1 200 OK\r\nX-More: ", "of the same ");
	if (strcmp(path, "/endless-early") == 0)
		return say_endless(conn, "", "HTTP/1.1 103 Early Hints\r\n\r\n");
	if (strcmp(path, "/endless-body") == 0)
		return say_endless(conn, "HTTP/1.1 200 OK\r\n\r\n", "of the same ");
	return fake_http_say(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
}

/* --- the stage --- */

void stage_client_new(const struct http_options *wanted)
{
	struct http_options options = *wanted;
	struct err e = {0};

	options.hooks = (struct http_hooks){&stage.loop, watch, set_alarm, set_ticks};
	stage.loop = (struct stage_loop){.alarm_ms = -1};
	stage.loop.http = stage.http = http_new(&options, &e);
	CU_ASSERT_PTR_NOT_NULL_FATAL(stage.http);
}

void stage_client_free(void)
{
	http_free(&stage.http);
	CU_ASSERT_EQUAL(stage.loop.count, 0);
	CU_ASSERT_FALSE(stage.loop.is_ticking);
}

int stage_init(void)
{
	struct err e = {0};

	(void)signal(SIGPIPE, SIG_IGN);
	return http_library_init(&e) ? 0 : 1;
}

int stage_clean(void)
{
	http_library_end();
	return 0;
}

void stage_set_up(void)
{
	const struct http_options options = {0};

	buf_init(&stage.last_head, 65536);
	buf_init(&stage.last_body, (size_t)4 << 20);
	stage.server = fake_http_start(stage_answer, &stage);
	stage_client_new(&options);
}

void stage_tear_down(void)
{
	clock_set_for_test(-1, 0);
	stage_client_free();
	fake_http_stop(&stage.server);
	buf_clear(&stage.last_head);
	buf_clear(&stage.last_body);
}

int stage_full_port(int fds[3])
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);

	for (int i = 0; i < 3; i++)
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (i > 0 ? SOCK_NONBLOCK : 0), 0);
	CU_ASSERT_EQUAL_FATAL(bind(fds[0], (const struct sockaddr *)&address, len), 0);
	CU_ASSERT_EQUAL_FATAL(listen(fds[0], 0), 0);
	CU_ASSERT_EQUAL_FATAL(getsockname(fds[0], (struct sockaddr *)&address, &len), 0);
	for (int i = 1; i < 3; i++)
		(void)connect(fds[i], (const struct sockaddr *)&address, len);
	return ntohs(address.sin_port);
}

/* --- a call --- */

static void cancel_or_start(struct call *other)
{
	if (other && other->handle)
		http_cancel(other->handle);
	else if (other)
		call_start(other, "/hello");
}

static void on_head(void *closure, const struct http_head *head)
{
	struct call *call = closure;

	CU_ASSERT(call->parts == 0 && call->ends == 0);
	call->heads++;
	call->head = *head;
	(void)snprintf(call->content_type, sizeof(call->content_type), "%s", head->content_type);
	if (call->clock_ms)
		clock_set_for_test(call->clock_ms, STAGE_UNIX_MS);
	cancel_or_start(call->other);
	if (call->plan == CANCEL_OTHER_TOO)
		http_cancel(call->other->handle);
	if (call->plan == CANCEL_IN_HEAD)
		http_cancel(call->handle);
}

static bool on_body(void *closure, const char *data, size_t len)
{
	struct call *call = closure;

	CU_ASSERT(call->heads == 1 && call->ends == 0);
	call->parts++;
	buf_append(&call->body, data, len);
	if (call->plan == CANCEL_IN_BODY)
		http_cancel(call->handle);
	return call->plan != ENOUGH;
}

static void on_end(void *closure, enum http_outcome outcome, const char *detail)
{
	struct call *call = closure;

	call->ends++;
	call->outcome = outcome;
	(void)snprintf(call->detail, sizeof(call->detail), "%s", detail);
	call->handle = NULL;
	cancel_or_start(call->next);
}

void call_start_with(struct call *call, const char *path, struct http_request request)
{
	const struct http_sink sink = {call, on_head, on_body, on_end};
	char url[256];
	struct err e = {0};

	buf_init(&call->body, 65536);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", fake_http_port(stage.server), path);
	if (!request.url)
		request.url = url;
	if (!request.method)
		request.method = "GET";
	if (!request.body_max)
		request.body_max = BODY_MAX;
	call->handle = http_start(stage.http, &request, &sink, &e);
	CU_ASSERT_PTR_NOT_NULL_FATAL(call->handle);
	CU_ASSERT(call->heads == 0 && call->ends == 0);
}

void call_start(struct call *call, const char *path)
{
	call_start_with(call, path, (struct http_request){0});
}

void call_run(struct call *call)
{
	int64_t start_ms = stage_real_ms();

	while (call->ends == 0) {
		stage_turn();
		CU_ASSERT_FATAL(stage_real_ms() - start_ms < HANGS_MS);
	}
	CU_ASSERT_EQUAL(call->ends, 1);
}

void call_run_to_body(struct call *call)
{
	int64_t start_ms = stage_real_ms();

	while (call->parts == 0) {
		stage_turn();
		CU_ASSERT_FATAL(stage_real_ms() - start_ms < HANGS_MS);
	}
}

void stage_run_until(unsigned (*count)(struct fake_http *), unsigned wanted)
{
	int64_t start_ms = stage_real_ms();

	while (count(stage.server) < wanted) {
		stage_turn();
		CU_ASSERT_FATAL(stage_real_ms() - start_ms < HANGS_MS);
	}
}

/* One call to its end; the caller clears call->body. */
void call_get_with(struct call *call, const char *path, struct http_request request)
{
	call_start_with(call, path, request);
	call_run(call);
}

void call_get(struct call *call, const char *path)
{
	call_get_with(call, path, (struct http_request){0});
}

void call_check_hello(struct call *call)
{
	CU_ASSERT_EQUAL(call->outcome, HTTP_COMPLETE);
	CU_ASSERT_EQUAL(call->head.status, 200);
	CU_ASSERT_STRING_EQUAL(buf_str(&call->body), "hello");
	buf_clear(&call->body);
}

void call_hello(void)
{
	struct call call = {0};

	call_get(&call, "/hello");
	call_check_hello(&call);
}

void call_check_silent(struct call *call)
{
	for (int i = 0; i < 5; i++)
		stage_turn();
	CU_ASSERT_EQUAL(call->ends, 0);
	buf_clear(&call->body);
}
