/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The token and the org are checked before the body is read, the App after; both may come from the access cache. Then
 * the turn runs over the bus. Where nobody holds the App, a hot one is explained and a demand one is loaded: the
 * request joins the one open demand operation, waits for its end, and asks again.
 *
 * Until the first byte of a stream every failure is a problem document, after it the face says how it looks.
 */
#include "fcgi-app/chat_run.h"

#include <poll.h>
#include <string.h>

#include "core/instance.h"
#include "core/settings.h"
#include "fcgi-app/app.h"
#include "fcgi-app/auth.h"
#include "fcgi-app/fcgi.h"
#include "fcgi-app/gate.h"
#include "fcgi-app/publish.h"
#include "fcgi-app/request.h"
#include "fcgi-app/router.h"
#include "fcgi-app/sse.h"
#include "fcgi-app/waits.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/json.h"

#define REREAD_MS 1000
#define COLLECT_MS 10000 /* nothing is done then; the turn itself looks after time and client */
#define BATCH_BYTES 32768
#define STREAM_BYTES_MAX ((size_t)8 * 1024 * 1024) /* one batch; a message of the bus is far below */
#define TURNED_AWAY_FIRST_MS 5
/* So 1.3 s in all: a worker that comes back from a long sleep renews its lease first. */
#define TURNED_AWAY_MAX_MS 640
#define AGAIN_FIRST_MS 50
#define AGAIN_MAX_MS 1000

void chat_begin(struct chat *c, struct request *req, struct response *res, const struct chat_face *face)
{
	*c = (struct chat){.req = req, .res = res, .face = face, .load.state = OP_SUCCEEDED};
	buf_init(&c->out, STREAM_BYTES_MAX);
}

void chat_end(struct chat *c)
{
	buf_clear(&c->out);
}

/* --- access --- */

static void make_key(struct chat *c, const struct id *instance_id)
{
	memcpy(c->key.token_hash, c->req->token_hash, sizeof(c->key.token_hash));
	c->key.org_id = c->req->org_id;
	c->key.instance_id = *instance_id;
}

static void keep_access(struct chat *c, const struct access *access, int64_t read_ms)
{
	c->known = (struct access_known){
		.token_id = access->caller.token_id,
		.token_org_id = access->caller.org_id,
		.role = access->caller.role,
		.tier = access->instance.tier,
		.org_id = access->instance.org_id,
		.read_ms = read_ms,
	};
	access_cache_put(c->req->app->cache, &c->key, &c->known);
}

/* Asks the database on v, whose connection is taken here. False: *ret_next. */
static bool check_in_database(struct chat *c, bool has_instance, struct visit *v, enum next *ret_next, struct err *e)
{
	int64_t read_ms = clock_now_ms();
	struct access_request ask;
	enum problem problem;

	*ret_next = NEXT_FAIL;
	auth_ask(c->req, &ask);
	ask.has_instance = has_instance;
	ask.instance_id = c->key.instance_id;
	ask.org_is_instances = has_instance && !ask.has_org;
	ask.must_be_active = has_instance;
	if ((!v->db && !app_db_take(c->req->app, APP_ANY, &v->db, e)) ||
	    !auth_check(c->req, v->db, &ask, &v->access, &problem, e))
		return false;
	if (problem != PROBLEM_NONE) {
		*ret_next = refuse(c->res, problem, NULL);
		return false;
	}
	keep_access(c, &v->access, read_ms);
	app_touch_token(v->db, &v->access.caller);
	return true;
}

/* instance_id NULL: the token and the org alone. */
static bool check_access(struct chat *c, const struct id *instance_id, enum next *ret_next, struct err *e)
{
	struct visit v = {0};
	bool ok;

	if (!c->req->has_token) {
		*ret_next = refuse(c->res, PROBLEM_UNAUTHORIZED, NULL);
		return false;
	}
	make_key(c, instance_id ? instance_id : &(struct id){""});
	if ((!instance_id || id_is_set(instance_id)) &&
	    access_cache_get(c->req->app->cache, &c->key, clock_now_ms(), &c->known))
		return true;
	ok = check_in_database(c, instance_id != NULL, &v, ret_next, e);
	auth_leave(c->req, &v);
	return ok;
}

bool chat_may(struct chat *c, const struct id *instance_id, struct id *ret_org_id, enum next *ret_next, struct err *e)
{
	if (!check_access(c, instance_id, ret_next, e))
		return false;
	if (ret_org_id)
		*ret_org_id = instance_id ? c->known.org_id : c->known.token_org_id;
	return true;
}

/* --- nobody holds the App --- */

static enum problem absence_of(const struct instance *instance)
{
	if (instance->is_deleted)
		return PROBLEM_INSTANCE_DELETED;
	if (instance->state == APP_LOADING)
		return PROBLEM_INSTANCE_LOADING;
	if (instance->state == APP_FAILED)
		return PROBLEM_INSTANCE_FAILED;
	return PROBLEM_INSTANCE_NOT_LOADED;
}

/* Why a hot App does not answer. Only the plain "not loaded" is kept, until a change of the App or the end of its
 * second. */
static enum next explain_absence(struct chat *c, struct err *e)
{
	struct instance instance = {0};
	struct db *db = NULL;
	enum problem problem = c->known.absence;
	bool ok = true;

	if (problem == PROBLEM_NONE) {
		ok = app_db_take(c->req->app, APP_ANY, &db, e) &&
		     instance_get(db, c->req->mem, &c->request.instance_id, &instance, &problem, e);
		app_db_give(c->req->app, &db);
		if (ok && problem == PROBLEM_NONE)
			problem = absence_of(&instance);
	}
	if (!ok)
		return NEXT_FAIL;
	if (problem == PROBLEM_INSTANCE_NOT_LOADED && c->known.absence == PROBLEM_NONE) {
		c->known.absence = problem;
		access_cache_put(c->req->app->cache, &c->key, &c->known);
	}
	if (problem == PROBLEM_INSTANCE_FAILED)
		c->res->reason = instance.state_reason;
	return refuse(c->res, problem, NULL);
}

/* What a load that ended says to the chat that waited for it. */
static bool read_outcome(struct chat *c, const struct operation *op, enum next *ret_next)
{
	if (op->state == OP_FAILED) {
		c->res->reason = op->reason;
		*ret_next = refuse(c->res, PROBLEM_INSTANCE_FAILED, NULL);
		return false;
	}
	return true; /* succeeded, or superseded: look again */
}

/* What has become of the load that was joined. False: *ret_next. */
static bool look_at_load(struct chat *c, enum next *ret_next, struct err *e)
{
	enum problem problem = PROBLEM_NONE;
	struct db *db = NULL;
	bool ok = app_db_take(c->req->app, APP_ANY, &db, e) &&
		  operation_get(db, c->req->mem, &c->load.org_id, &c->load.operation_id, &c->load, &problem, e);

	app_db_give(c->req->app, &db);
	*ret_next = NEXT_FAIL;
	if (ok && problem != PROBLEM_NONE) {
		*ret_next = refuse(c->res, problem, NULL);
		ok = false;
	}
	return ok;
}

/* For news of the App, at most a second. True: it is worth another question, also while the load is open: one copy of
 * several may serve already. */
static bool wait_for_news(struct chat *c, struct wait *w, enum next *ret_next)
{
	struct app *app = c->req->app;
	int64_t left_ms = c->load_until_ms - clock_now_ms();

	if (fcgi_client_is_gone(c->req->conn)) {
		*ret_next = NEXT_SENT;
		return false;
	}
	if (left_ms <= 0 || atomic_load(&app->is_stopping)) {
		*ret_next = refuse(c->res, PROBLEM_INSTANCE_LOADING, NULL);
		return false;
	}
	(void)waits_for(app->waits, w, left_ms < REREAD_MS ? (int)left_ms : REREAD_MS);
	return true;
}

/* Joins or makes the demand operation. False: *ret_next. */
static bool join_load(struct chat *c, enum next *ret_next, struct err *e)
{
	enum problem problem = PROBLEM_NONE;
	struct visit v = {0};
	const char *reason = NULL;
	int retry_after_s = 0;
	bool is_new = false;
	bool ok;

	ok = check_in_database(c, true, &v, ret_next, e); /* it may have been suspended meanwhile, or become hot */
	if (ok && c->known.tier == TIER_DEMAND) {
		ok = operation_demand(v.db, c->req->mem, &c->request.instance_id, c->req->request_id, &c->load, &is_new,
				      &retry_after_s, &reason, &problem, e);
		*ret_next = NEXT_FAIL;
	}
	auth_leave(c->req, &v);
	if (ok && problem != PROBLEM_NONE) {
		c->res->reason = reason;
		c->res->retry_after_s = retry_after_s;
		*ret_next = refuse(c->res, problem, NULL);
		ok = false;
	}
	if (ok && is_new)
		(void)publish_operation(c->req->app, &c->load, true);
	/* A load that may have been asked for is joined by whoever comes next: no outcome that a client must look up.
	 */
	if (!ok && e && e->code == ERR_UNCERTAIN)
		e->code = ERR_DOWN;
	return ok;
}

/* A load that ended well and yet nobody answers: a dead worker's lease may still stand. Asks less and less often. */
static void pause_between_rounds(struct chat *c)
{
	int64_t left_ms = c->load_until_ms - clock_now_ms();
	int pause_ms = AGAIN_MAX_MS;

	if (c->rounds == 0)
		return;
	if (c->rounds < 5)
		pause_ms = AGAIN_FIRST_MS << (c->rounds - 1);
	if (left_ms > 0)
		(void)poll(NULL, 0, left_ms < pause_ms ? (int)left_ms : pause_ms);
}

/* True: ask again. False: *ret_next. */
static bool load_and_wait(struct chat *c, enum next *ret_next, struct err *e)
{
	struct app *app = c->req->app;
	struct wait w;
	bool ok;

	if (!gate_enter(app->gate, GATE_WAIT, true)) {
		*ret_next = refuse(c->res, PROBLEM_BUSY, "Too many requests wait for their App to load.");
		return false;
	}
	waits_begin(app->waits, &w, &c->request.instance_id);
	ok = op_is_open(c->load.state) ? look_at_load(c, ret_next, e) : join_load(c, ret_next, e);
	if (ok && op_is_open(c->load.state)) {
		ok = wait_for_news(c, &w, ret_next);
	} else if (ok) {
		ok = read_outcome(c, &c->load, ret_next);
		c->rounds++;
	}
	waits_end(app->waits, &w);
	gate_leave(app->gate, GATE_WAIT, true);
	return ok;
}

/* True: ask again. */
static bool handle_absence(struct chat *c, enum next *ret_next, struct err *e)
{
	int64_t now_ms = clock_now_ms();

	if (c->known.tier == TIER_HOT) {
		*ret_next = explain_absence(c, e);
		return false;
	}
	if (c->load_until_ms == 0)
		c->load_until_ms = now_ms + c->req->app->settings->app.demand_wait_s * 1000;
	if (!op_is_open(c->load.state))
		pause_between_rounds(c);
	if (c->rounds > 0 && clock_now_ms() >= c->load_until_ms) {
		*ret_next = refuse(c->res, PROBLEM_INSTANCE_LOADING, NULL);
		return false;
	}
	return load_and_wait(c, ret_next, e);
}

/* --- the end of a turn --- */

/* The body of an end that is no success: {"code","detail","retry_after_s"?}. */
static struct chat_failure read_failure(struct chat *c, const struct chat_reply *end)
{
	const struct json_limits limits = {.bytes_max = 65536, .depth_max = 8};
	struct chat_failure f = {.problem = end->status == 504 ? PROBLEM_TURN_TIMEOUT : PROBLEM_INTERNAL};
	struct jval *root = NULL;

	if (!jval_parse(end->body, end->body_len, &limits, &root, NULL))
		return f;
	(void)problem_parse(jval_string(jval_get(root, "code"), NULL), &f.problem);
	if (f.problem == PROBLEM_NONE)
		f.problem = PROBLEM_INTERNAL;
	const char *detail = jval_string(jval_get(root, "detail"), NULL);
	int64_t retry_after_s = jval_int(jval_get(root, "retry_after_s"));
	f.detail = detail ? arena_strdup(c->req->mem, detail) : NULL;
	f.retry_after_s = retry_after_s > 0 && retry_after_s < INT32_MAX ? (int)retry_after_s : 0;
	jval_free(&root);
	return f;
}

static enum next refuse_by_failure(struct chat *c, const struct chat_failure *f)
{
	c->res->retry_after_s = f->retry_after_s;
	return refuse(c->res, f->problem, f->detail);
}

static enum next collect(struct chat *c)
{
	struct chat_failure f;
	enum problem problem;
	struct chat_reply reply;

	for (;;) {
		switch (turn_next(&c->turn, COLLECT_MS, &reply, &problem)) {
		case TURN_EVENT:
		case TURN_QUIET:
			break;
		case TURN_END:
			if (reply.status == 200)
				return c->face->answer(c, &reply);
			f = read_failure(c, &reply);
			return refuse_by_failure(c, &f);
		case TURN_GONE:
			return NEXT_SENT;
		case TURN_BROKEN:
			return refuse(c->res, problem, NULL);
		}
	}
}

/* --- streaming --- */

/* Sends what is in c->out, after the head where that is not out yet. False: the client is gone. */
static bool send_out(struct chat *c)
{
	bool ok = true;

	if (!c->is_streaming)
		ok = response_begin_stream(c->req, c->res);
	c->is_streaming = true;
	ok = ok && !buf_has_failed(&c->out) && fcgi_write(c->req->conn, c->out.data, c->out.len) &&
	     fcgi_flush(c->req->conn);
	buf_reset(&c->out);
	c->sent_ms = clock_now_ms();
	return ok;
}

static enum next end_stream(struct chat *c, const struct chat_failure *f)
{
	if (!c->is_streaming && c->out.len == 0)
		return refuse_by_failure(c, f);
	c->face->failure(c, f, &c->out);
	c->res->problem = f->problem; /* for the log: the status is out already */
	(void)send_out(c);
	return NEXT_SENT;
}

static enum next end_stream_by_worker(struct chat *c, const struct chat_reply *end)
{
	if (end->status != 200) {
		struct chat_failure f = read_failure(c, end);
		return end_stream(c, &f);
	}
	c->face->end(c, end, &c->out);
	(void)send_out(c);
	return NEXT_SENT;
}

static int64_t keepalive_ms(const struct chat *c)
{
	return c->req->app->settings->app.keepalive_s * 1000;
}

/* Nothing came for a while. False: the client is gone. */
static bool keep_alive(struct chat *c)
{
	if (c->out.len == 0 && clock_now_ms() - c->sent_ms < keepalive_ms(c))
		return true;
	if (c->out.len == 0)
		sse_comment(&c->out, "keep-alive");
	return send_out(c);
}

static int quiet_ms(const struct chat *c)
{
	int64_t left_ms = c->sent_ms + keepalive_ms(c) - clock_now_ms();

	if (c->out.len > 0) /* send it as soon as nothing more is there */
		return 0;
	return left_ms > 0 ? (int)left_ms : 0;
}

static enum next stream(struct chat *c)
{
	struct chat_reply reply;
	struct chat_failure f = {0};

	c->sent_ms = clock_now_ms();
	for (;;) {
		switch (turn_next(&c->turn, quiet_ms(c), &reply, &f.problem)) {
		case TURN_EVENT:
			c->face->event(c, &reply, &c->out);
			if (c->out.len >= BATCH_BYTES && !send_out(c))
				return NEXT_SENT;
			break;
		case TURN_QUIET:
			if (!keep_alive(c))
				return NEXT_SENT;
			break;
		case TURN_END:
			return end_stream_by_worker(c, &reply);
		case TURN_GONE:
			return NEXT_SENT;
		case TURN_BROKEN:
			return end_stream(c, &f);
		}
	}
}

/* --- the turn --- */

/* A worker that began no turn: it holds the App no more, or has lost its lease. PROBLEM_NONE: none of these. */
static enum problem turned_away(struct chat *c)
{
	const struct turn *t = &c->turn;
	enum problem problem;

	if (!t->has_first || t->first.kind != CHAT_END || t->first.status != 503)
		return PROBLEM_NONE;
	problem = read_failure(c, &t->first).problem;
	return problem == PROBLEM_INSTANCE_NOT_LOADED || problem == PROBLEM_WORKER_UNRESPONSIVE ? problem
												: PROBLEM_NONE;
}

/* Another worker may hold the App: one that was declared dead is still asked until it knows of it. */
static enum turn_begin begin_turn(struct chat *c, enum problem *ret_problem)
{
	enum problem away = PROBLEM_NONE;
	enum turn_begin begin;

	c->request.deadline_unix_ms = clock_unix_ms() + c->req->app->settings->app.turn_timeout_s * 1000;
	for (int pause_ms = TURNED_AWAY_FIRST_MS;; pause_ms *= 2) {
		begin = turn_begin(&c->turn, c->req->app, c->req->conn, &c->request, ret_problem);
		away = begin == TURN_BEGUN ? turned_away(c) : PROBLEM_NONE;
		if (away == PROBLEM_NONE || pause_ms > TURNED_AWAY_MAX_MS)
			break;
		turn_end(&c->turn);
		(void)poll(NULL, 0, pause_ms);
	}
	/* As if nobody had answered. */
	return away == PROBLEM_INSTANCE_NOT_LOADED && c->known.tier == TIER_DEMAND ? TURN_NOBODY : begin;
}

static enum next run(struct chat *c, struct err *e)
{
	enum problem problem = PROBLEM_NONE;
	enum next next = NEXT_FAIL;
	bool ask_again = true;

	while (ask_again) {
		ask_again = false;
		switch (begin_turn(c, &problem)) {
		case TURN_BEGUN:
			next = c->request.stream ? stream(c) : collect(c);
			break;
		case TURN_REFUSED:
			next = refuse(c->res, problem, NULL);
			break;
		case TURN_NOBODY:
			turn_end(&c->turn);
			ask_again = handle_absence(c, &next, e);
			break;
		}
		turn_end(&c->turn);
	}
	return next;
}

enum next chat_run(struct chat *c, struct err *e)
{
	enum next next;

	if (!gate_enter(c->req->app->gate, GATE_TURN, false))
		return refuse(c->res, PROBLEM_BUSY, "Too many turns run in this process.");
	next = run(c, e);
	gate_leave(c->req->app->gate, GATE_TURN, false);
	return next;
}
