/* SPDX-License-Identifier: Apache-2.0 */
/*
 * curl closes a socket right after it said that it need not be watched, and the next one may get its number: so a poll
 * handle is stopped and given back at once, and is never used for another socket. All handles are counted; the last one
 * that libuv gives back frees the whole.
 */
#include "worker/http_loop.h"

#include <stdlib.h>

#include "lib/clock.h"
#include "lib/xalloc.h"

#define TICK_MS 100

struct http_loop {
	uv_loop_t *loop;
	struct http *http;
	uv_timer_t alarm, tick;
	unsigned handles; /* that libuv still knows */
	bool is_closing;
};

struct watched {
	uv_poll_t poll; /* first: it is given back as this */
	struct http_loop *owner;
	int fd, events; /* of libuv */
};

static void on_handle_gone(struct http_loop *h)
{
	if (--h->handles == 0 && h->is_closing)
		free(h);
}

static void on_timer_closed(uv_handle_t *handle)
{
	on_handle_gone(handle->data);
}

static void on_poll_closed(uv_handle_t *handle)
{
	struct watched *w = (struct watched *)handle;
	struct http_loop *h = w->owner;

	free(w);
	on_handle_gone(h);
}

/* --- the client's hooks --- */

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct watched *w = (struct watched *)poll;
	int what = (events & UV_READABLE ? HTTP_READ : 0) | (events & UV_WRITABLE ? HTTP_WRITE : 0);

	http_socket_ready(w->owner->http, w->fd, status < 0 ? HTTP_READ | HTTP_WRITE : what);
	/* libuv stops watching at an error; the client believes it goes on until it says otherwise. */
	if (status < 0 && !uv_is_closing((uv_handle_t *)poll))
		(void)uv_poll_start(poll, w->events, on_poll);
}

static struct watched *watched_new(struct http_loop *h, int fd)
{
	struct watched *w = xcalloc(1, sizeof(*w));

	w->owner = h;
	w->fd = fd;
	if (uv_poll_init(h->loop, &w->poll, fd) != 0)
		abort(); /* a socket of curl's that is watched twice, or is none */
	h->handles++;
	return w;
}

static void watch(void *closure, int fd, int events, void **slot)
{
	struct watched *w = *slot;

	if (events == 0) {
		if (w)
			uv_close((uv_handle_t *)&w->poll, on_poll_closed); /* stops it, too */
		*slot = NULL;
		return;
	}
	if (!w)
		*slot = w = watched_new(closure, fd);
	w->events = (events & HTTP_READ ? UV_READABLE : 0) | (events & HTTP_WRITE ? UV_WRITABLE : 0);
	(void)uv_poll_start(&w->poll, w->events, on_poll);
}

static void on_alarm(uv_timer_t *timer)
{
	struct http_loop *h = timer->data;

	http_alarm(h->http);
}

static void set_alarm(void *closure, int64_t ms)
{
	struct http_loop *h = closure;

	if (ms < 0)
		(void)uv_timer_stop(&h->alarm);
	else
		(void)uv_timer_start(&h->alarm, on_alarm, (uint64_t)ms, 0);
}

static void on_tick(uv_timer_t *timer)
{
	struct http_loop *h = timer->data;

	http_tick(h->http, clock_now_ms());
}

static void set_ticks(void *closure, bool is_wanted)
{
	struct http_loop *h = closure;

	if (is_wanted)
		(void)uv_timer_start(&h->tick, on_tick, TICK_MS, TICK_MS);
	else
		(void)uv_timer_stop(&h->tick);
}

/* --- the whole --- */

struct http_loop *http_loop_new(uv_loop_t *loop, const struct http_options *options, struct err *e)
{
	struct http_loop *h = xcalloc(1, sizeof(*h));
	struct http_options mine = *options;

	h->loop = loop;
	mine.hooks = (struct http_hooks){.closure = h, .watch = watch, .alarm = set_alarm, .ticks = set_ticks};
	(void)uv_timer_init(loop, &h->alarm);
	(void)uv_timer_init(loop, &h->tick);
	h->alarm.data = h->tick.data = h;
	h->handles = 2;
	h->http = http_new(&mine, e);
	if (!h->http)
		http_loop_close(&h);
	return h;
}

struct http *http_loop_client(const struct http_loop *h)
{
	return h->http;
}

void http_loop_close(struct http_loop **h)
{
	struct http_loop *mine = *h;

	*h = NULL;
	if (!mine)
		return;
	http_free(&mine->http);
	mine->is_closing = true;
	uv_close((uv_handle_t *)&mine->alarm, on_timer_closed);
	uv_close((uv_handle_t *)&mine->tick, on_timer_closed);
}
