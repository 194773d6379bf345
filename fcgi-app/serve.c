/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an accepted connection to its log line. A handler's failure is logged
 * here, once, with its text; the client is told what the table of problems says
 * about its code, never the text.
 *
 * Threads are made when they are needed: whoever takes a request while all others
 * have one too makes the next, so that one more always waits. Under a manager that
 * sends a process one request at a time (mod_fcgid) there are never more than two.
 */
#include "fcgi-app/serve.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/settings.h"
#include "fcgi-app/app.h"
#include "fcgi-app/auth.h"
#include "fcgi-app/fcgi.h"
#include "fcgi-app/request.h"
#include "fcgi-app/response.h"
#include "fcgi-app/router.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/cond.h"
#include "lib/log.h"
#include "lib/xalloc.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_BYTES (2 * 1024 * 1024) /* sanitizers need room of their own */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define STACK_BYTES (2 * 1024 * 1024)
#endif
#endif
#ifndef STACK_BYTES
#define STACK_BYTES (256 * 1024)
#endif
#define WARN_INTERVAL_MS 1000
#define STATUS_GONE 499 /* in the log only: the client hung up before it was told anything */

struct server { /* one thread and what it serves with */
	struct servers *all;
	struct fcgi_conn *conn;
	pthread_t thread;
};

struct servers {
	struct app *app;
	struct fcgi *fcgi;
	pthread_mutex_t lock;
	pthread_cond_t has_ended;
	unsigned running; /* under lock */
	struct server *list;
	_Atomic unsigned count; /* of list; changed under lock */
	unsigned max;
	_Atomic int64_t warned_ms; /* when trouble was last logged */
};

/* --- one request --- */

static enum next dispatch(struct request *req, struct response *res, bool is_target, struct err *e)
{
	enum problem problem = is_target ? router_match(req, &res->allow) : PROBLEM_NOT_FOUND;

	if (problem != PROBLEM_NONE)
		return refuse(res, problem, NULL);
	return req->route->handler(req, res, e);
}

static enum next fail(struct request *req, struct response *res, const struct err *e)
{
	enum problem problem = e->code == ERR_NONE ? PROBLEM_INTERNAL : problem_of_err(e);

	log_write(problem == PROBLEM_INTERNAL ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN, "a request failed",
		  "route=%s code=%s error=\"%s\"", req->route ? req->route->pattern : "-", problem_code(problem),
		  e->text);
	return refuse(res, problem, NULL);
}

static const char *text_of(const struct id *id)
{
	return id_is_set(id) ? id->text : "-";
}

static void log_request(const struct request *req, const struct response *res, enum next next, bool is_sent)
{
	int64_t us = clock_now_us() - req->started_us;
	bool is_gone = !is_sent || (next == NEXT_SENT && res->status == 0);

	log_write(res->is_quiet ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, "request",
		  "method=%s route=%s status=%d code=%s org=%s instance=%s token=%s ms=%" PRId64 ".%03d",
		  req->is_head ? "HEAD" : router_method_name(req->method), req->route ? req->route->pattern : "-",
		  is_gone ? STATUS_GONE : res->status, is_gone ? "client_gone" : problem_code(res->problem),
		  text_of(&req->org_id), text_of(&req->instance_id), req->has_caller ? req->caller.token_id.text : "-",
		  us / 1000, (int)(us % 1000));
}

static void answer_request(struct app *app, struct fcgi_conn *conn, struct arena *mem)
{
	struct response res = {0};
	struct request req;
	struct err e = {0};
	enum next next;
	bool is_sent = true;

	bool is_target = request_begin(&req, app, conn, mem);
	log_set_context("request=%s", req.request_id);
	next = dispatch(&req, &res, is_target, &e);
	if (next == NEXT_FAIL)
		next = fail(&req, &res, &e);
	if (res.problem != PROBLEM_NONE && req.route)
		auth_audit_refusal(&req, res.problem);
	if (next == NEXT_SEND)
		is_sent = response_send(&req, &res);
	log_request(&req, &res, next, is_sent);
	response_clear(&res);
	request_end(&req);
	log_set_context(NULL);
}

/* --- the threads --- */

/* At most once a second: all threads meet it at once. */
static void warn_seldom(struct servers *s, const char *what, const struct err *e)
{
	int64_t now_ms = clock_now_ms();
	int64_t warned_ms = atomic_load(&s->warned_ms);

	if ((warned_ms == 0 || now_ms - warned_ms >= WARN_INTERVAL_MS) &&
	    atomic_compare_exchange_strong(&s->warned_ms, &warned_ms, now_ms))
		log_warn(what, "error=\"%s\"", e->text);
}

static void *run(void *closure);

/* With the lock held. */
static bool start_server(struct servers *s, struct err *e)
{
	unsigned count = atomic_load(&s->count);
	struct server *server = &s->list[count];
	pthread_attr_t attr;

	server->all = s;
	if (!fcgi_conn_new(s->fcgi, &server->conn, e))
		return false;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	int error = pthread_create(&server->thread, &attr, run, server);
	pthread_attr_destroy(&attr);
	if (error != 0) {
		fcgi_conn_free(&server->conn);
		return err_set(e, ERR_INTERNAL, "pthread_create: %s", strerror(error));
	}
	s->running++;
	atomic_store(&s->count, count + 1);
	return true;
}

static bool is_another_needed(const struct servers *s, unsigned in_hand)
{
	unsigned count = atomic_load(&s->count);

	return in_hand >= count && count < s->max;
}

static void keep_one_waiting(struct servers *s, unsigned in_hand)
{
	struct err e = {0};

	if (!is_another_needed(s, in_hand))
		return;
	pthread_mutex_lock(&s->lock);
	bool ok = !is_another_needed(s, in_hand) || start_server(s, &e);
	pthread_mutex_unlock(&s->lock);
	if (!ok)
		warn_seldom(s, "no further thread could be made, going on with those that are there", &e);
}

static void serve_until_stopped(struct servers *s, struct fcgi_conn *conn, struct arena *mem)
{
	struct err e = {0};

	for (;;) {
		switch (fcgi_accept(conn, &e)) {
		case ACCEPT_STOPPED:
			return;
		case ACCEPT_AGAIN:
			warn_seldom(s, "no connection could be accepted, trying again", &e);
			break;
		case ACCEPT_REQUEST:
			keep_one_waiting(s, atomic_fetch_add(&s->app->requests_in_hand, 1) + 1);
			answer_request(s->app, conn, mem);
			fcgi_finish(conn);
			arena_clear(mem);
			atomic_fetch_sub(&s->app->requests_in_hand, 1);
			break;
		}
	}
}

static void *run(void *closure)
{
	struct server *server = closure;
	struct servers *s = server->all;
	struct arena *mem = arena_new((size_t)s->app->settings->app.request_memory_max_bytes);

	serve_until_stopped(s, server->conn, mem);
	fcgi_conn_free(&server->conn);
	arena_free(&mem);
	pthread_mutex_lock(&s->lock);
	s->running--;
	pthread_cond_signal(&s->has_ended);
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

bool servers_start(struct app *app, struct fcgi *fcgi, unsigned max, struct servers **ret_servers, struct err *e)
{
	struct servers *s = xcalloc(1, sizeof(*s));

	s->app = app;
	s->fcgi = fcgi;
	s->max = max;
	s->list = xcalloc(max, sizeof(*s->list));
	pthread_mutex_init(&s->lock, NULL);
	cond_init(&s->has_ended);
	pthread_mutex_lock(&s->lock);
	bool ok = start_server(s, e);
	pthread_mutex_unlock(&s->lock);
	*ret_servers = s;
	return ok;
}

bool servers_wait(struct servers *servers, int timeout_ms)
{
	const struct timespec until = cond_deadline(timeout_ms);
	int result = 0;

	pthread_mutex_lock(&servers->lock);
	while (servers->running > 0 && result != ETIMEDOUT)
		result = pthread_cond_timedwait(&servers->has_ended, &servers->lock, &until);
	bool is_done = servers->running == 0;
	pthread_mutex_unlock(&servers->lock);
	return is_done;
}

void servers_free(struct servers **servers)
{
	struct servers *s = *servers;

	if (!s)
		return;
	for (unsigned i = 0; i < s->count; i++)
		(void)pthread_join(s->list[i].thread, NULL);
	pthread_cond_destroy(&s->has_ended);
	pthread_mutex_destroy(&s->lock);
	free(s->list);
	free(s);
	*servers = NULL;
}
