/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting has two shapes. At first on the call alone, in slices: most turns answer
 * at once, and a descriptor for poll() costs system calls. A turn that is
 * longer is waited for with poll(), on its replies and the client's connection together.
 */
#include "fcgi-app/turn.h"

#include <poll.h>
#include <string.h>

#include "core/settings.h"
#include "fcgi-app/app.h"
#include "fcgi-app/busline.h"
#include "fcgi-app/fcgi.h"
#include "lib/buf.h"
#include "lib/bus.h"
#include "lib/clock.h"
#include "lib/log.h"

#define SMALL_BYTES 65536      /* every server takes as much */
#define SHORT_WAIT_MS 50       /* on the call alone */
#define SLICE_MS 1000          /* poll no longer than this: a stop, the deadline */
#define SLICE_BLIND_MS 100     /* where no descriptor can be had */
#define CLUSTER_RETRY_MS 5     /* interest may still be on its way between servers */
#define DEADLINE_GRACE_MS 2000 /* the worker says turn_timeout itself; we only when it does not */

/* Takes the next message, whatever it is. BUS_MSG: t->msg. */
static enum bus_next receive(struct turn *t, int wait_ms)
{
	if (t->msg)
		bus_msg_free(&t->msg);
	return bus_call_next(t->call, wait_ms, &t->msg);
}

/* Reads t->msg. False: it is no reply, or not the next one. */
static bool read_reply(struct turn *t, struct chat_reply *ret_reply)
{
	struct err e = {0};
	size_t len;
	const char *data = bus_msg_data(t->msg, &len);

	if (!chat_reply_parse(data, len, ret_reply, &e)) {
		log_warn("a worker's reply could not be read", "error=\"%s\"", e.text);
		return false;
	}
	if (ret_reply->n != t->next_n) {
		log_warn("replies of a worker were lost", "expected=%llu got=%llu", (unsigned long long)t->next_n,
			 (unsigned long long)ret_reply->n);
		return false;
	}
	t->next_n++;
	t->heard_ms = clock_now_ms();
	if (ret_reply->kind == CHAT_END)
		t->is_over = true;
	if (ret_reply->kind == CHAT_ACCEPTED && ret_reply->arg_len < sizeof(t->cancel)) {
		memcpy(t->cancel, ret_reply->arg, ret_reply->arg_len);
		t->cancel[ret_reply->arg_len] = '\0';
	}
	return true;
}

/* Is this a subject that a worker listens to for cancels, and nothing else that we would be made to publish to? */
static bool is_cancel_subject(const char *subject)
{
	return strncmp(subject, CHAT_CANCEL_PREFIX, strlen(CHAT_CANCEL_PREFIX)) == 0;
}

static bool start_call(struct turn *t, const struct chat_request *request, enum problem *ret_problem)
{
	char subject[CHAT_SUBJECT_SIZE];
	struct err e = {0};
	struct buf data;
	bool ok;

	*ret_problem = PROBLEM_NONE;
	buf_init(&data, CHAT_REQUEST_BYTES_MAX);
	chat_request_encode(request, &data);
	chat_subject(&request->instance_id, subject);
	/* Asking for the limit takes the connection's lock, so only a large request does. */
	if (buf_has_failed(&data) || (data.len > SMALL_BYTES && data.len > bus_payload_max(t->bus)))
		*ret_problem = PROBLEM_TOO_LARGE;
	ok = *ret_problem == PROBLEM_NONE && bus_call_start(t->bus, subject, data.data, data.len, &t->call, &e);
	buf_clear(&data);
	if (!ok && *ret_problem == PROBLEM_NONE) {
		*ret_problem = e.code == ERR_LIMIT ? PROBLEM_TOO_LARGE : PROBLEM_BUS_UNAVAILABLE;
		log_warn("a chat request was not sent", "error=\"%s\"", e.text);
	}
	return ok;
}

/* One request and its first reply. */
static enum turn_begin attempt(struct turn *t, const struct chat_request *request, enum problem *ret_problem)
{
	if (!start_call(t, request, ret_problem))
		return TURN_REFUSED;
	switch (receive(t, CHAT_FIRST_REPLY_MS)) {
	case BUS_MSG:
		t->has_first = read_reply(t, &t->first);
		*ret_problem = PROBLEM_WORKER_UNRESPONSIVE;
		return t->has_first ? TURN_BEGUN : TURN_REFUSED;
	case BUS_NO_RESPONDERS:
		return TURN_NOBODY;
	case BUS_DOWN:
		*ret_problem = PROBLEM_BUS_UNAVAILABLE;
		return TURN_REFUSED;
	case BUS_TIMEOUT:
	case BUS_OVERFLOW:
		break;
	}
	*ret_problem = PROBLEM_WORKER_UNRESPONSIVE;
	return TURN_REFUSED;
}

enum turn_begin turn_begin(struct turn *t, struct app *app, struct fcgi_conn *conn, const struct chat_request *request,
			   enum problem *ret_problem)
{
	enum turn_begin begin = TURN_REFUSED;
	int64_t left_ms = request->deadline_unix_ms - clock_unix_ms();

	*t = (struct turn){.app = app, .conn = conn};
	t->bus = busline_take(app->bus);
	t->heard_ms = clock_now_ms();
	t->deadline_ms = t->heard_ms + left_ms + DEADLINE_GRACE_MS;
	*ret_problem = PROBLEM_BUS_UNAVAILABLE;
	if (bus_is_up(t->bus))
		begin = attempt(t, request, ret_problem);
	if (begin == TURN_NOBODY && busline_is_clustered(app->bus)) {
		bus_call_end(&t->call);
		(void)poll(NULL, 0, CLUSTER_RETRY_MS);
		begin = attempt(t, request, ret_problem);
	}
	return begin;
}

/* --- the turn itself --- */

static bool wait_for_more(struct turn *t, int wait_ms)
{
	struct pollfd fds[2] = {
		{.fd = fcgi_fd(t->conn), .events = POLLRDHUP},
		{.fd = bus_call_fd(t->call), .events = POLLIN},
	};
	int slice_ms = fds[1].fd >= 0 ? SLICE_MS : SLICE_BLIND_MS;

	(void)poll(fds, 2, wait_ms < slice_ms ? wait_ms : slice_ms);
	return !fcgi_client_is_gone(t->conn);
}

/* What time itself decides. */
static bool check_time(const struct turn *t, int64_t now_ms, enum problem *ret_problem)
{
	if (atomic_load(&t->app->is_cutting) || now_ms - t->heard_ms > CHAT_SILENCE_MAX_MS)
		*ret_problem = PROBLEM_WORKER_UNRESPONSIVE;
	else if (now_ms > t->deadline_ms)
		*ret_problem = PROBLEM_TURN_TIMEOUT;
	else
		return true;
	return false;
}

/* A message, or the reason why there will be none; BUS_TIMEOUT: nothing within wait_ms. *ret_is_gone: the client. */
static enum bus_next wait_message(struct turn *t, int wait_ms, bool *ret_is_gone, enum problem *ret_problem)
{
	int64_t now_ms = clock_now_ms();
	int64_t until_ms = now_ms + wait_ms;
	enum bus_next next = receive(t, wait_ms < SHORT_WAIT_MS ? wait_ms : SHORT_WAIT_MS);

	*ret_is_gone = false;
	while (next == BUS_TIMEOUT) {
		now_ms = clock_now_ms();
		if (!check_time(t, now_ms, ret_problem) || now_ms >= until_ms)
			break;
		*ret_is_gone = !wait_for_more(t, (int)(until_ms - now_ms));
		if (*ret_is_gone)
			break;
		next = receive(t, 0);
	}
	return next;
}

static enum turn_next next_reply(struct turn *t, int wait_ms, struct chat_reply *ret_reply, enum problem *ret_problem)
{
	bool is_gone;

	*ret_problem = PROBLEM_NONE;
	switch (wait_message(t, wait_ms, &is_gone, ret_problem)) {
	case BUS_MSG:
		if (read_reply(t, ret_reply))
			return TURN_EVENT;
		*ret_problem = PROBLEM_WORKER_UNRESPONSIVE;
		return TURN_BROKEN;
	case BUS_TIMEOUT:
		if (is_gone)
			return TURN_GONE;
		return *ret_problem == PROBLEM_NONE ? TURN_QUIET : TURN_BROKEN;
	case BUS_DOWN:
		*ret_problem = PROBLEM_BUS_UNAVAILABLE;
		return TURN_BROKEN;
	case BUS_NO_RESPONDERS:
	case BUS_OVERFLOW:
		break;
	}
	*ret_problem = PROBLEM_WORKER_UNRESPONSIVE;
	return TURN_BROKEN;
}

enum turn_next turn_next(struct turn *t, int wait_ms, struct chat_reply *ret_reply, enum problem *ret_problem)
{
	enum turn_next next = TURN_EVENT;

	do {
		if (t->has_first)
			*ret_reply = t->first;
		else
			next = next_reply(t, wait_ms, ret_reply, ret_problem);
		t->has_first = false;
	} while (next == TURN_EVENT && ret_reply->kind == CHAT_ACCEPTED);
	if (next != TURN_EVENT)
		return next;
	if (ret_reply->kind == CHAT_END)
		return TURN_END;
	if (!check_time(t, clock_now_ms(), ret_problem)) /* also a turn that never falls silent ends */
		return TURN_BROKEN;
	return ret_reply->kind == CHAT_KEEPALIVE ? TURN_QUIET : TURN_EVENT;
}

void turn_end(struct turn *t)
{
	struct err e = {0};

	if (t->call && !t->is_over && is_cancel_subject(t->cancel) && !bus_publish(t->bus, t->cancel, NULL, "", 0, &e))
		log_debug("a turn was not cancelled", "error=\"%s\"", e.text);
	if (t->msg)
		bus_msg_free(&t->msg);
	bus_call_end(&t->call);
	if (t->bus)
		busline_give(t->app->bus, t->bus);
	t->bus = NULL;
}
