/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load, unload, reload: DESIGN 4. Commit first, publish after, with no database
 * connection held meanwhile. 202 means accepted and durable; with
 * `Prefer: wait=N` the finished operation, if it finishes in time.
 */
#include "fcgi-app/handlers.h"

#include <poll.h>

#include "core/lifecycle.h"
#include "core/settings.h"
#include "fcgi-app/accept_line.h"
#include "fcgi-app/app.h"
#include "fcgi-app/auth.h"
#include "fcgi-app/body.h"
#include "fcgi-app/fcgi.h"
#include "fcgi-app/gate.h"
#include "fcgi-app/publish.h"
#include "fcgi-app/render.h"
#include "fcgi-app/request.h"
#include "fcgi-app/waits.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"

#define REREAD_MS 1000
#define LOOK_COUNT 5
#define LOOK_PAUSE_MS 300
#define DRAIN_MAX_S 3600

struct lifecycle_fields {
	int tier;
	int64_t drain_s;
	bool fresh;
};

static const char *const tier_words[] = {[TIER_HOT] = "hot", [TIER_DEMAND] = "demand", NULL};

#define TIER_FIELD                                                                                                     \
	{                                                                                                              \
		.name = "tier", .type = FIELD_WORD, .offset = offsetof(struct lifecycle_fields, tier),                 \
		.words = tier_words                                                                                    \
	}

static const struct field load_table[] = {TIER_FIELD};
static const struct field unload_table[] = {
	TIER_FIELD,
	{.name = "drain_s",
	 .type = FIELD_INT,
	 .offset = offsetof(struct lifecycle_fields, drain_s),
	 .min = 0,
	 .max = DRAIN_MAX_S},
};
static const struct field reload_table[] = {
	TIER_FIELD,
	{.name = "fresh", .type = FIELD_BOOL, .offset = offsetof(struct lifecycle_fields, fresh)},
};

static const struct {
	const struct field *table;
	size_t count;
	const char *published, *kept;
} kinds[] = {
	[ACTION_LOAD] = {load_table, ARRAY_LEN(load_table), "Load event published",
			 "Load accepted; its event is published when the bus is back"},
	[ACTION_UNLOAD] = {unload_table, ARRAY_LEN(unload_table), "Unload event published",
			   "Unload accepted; its event is published when the bus is back"},
	[ACTION_RELOAD] = {reload_table, ARRAY_LEN(reload_table), "Reload event published",
			   "Reload accepted; its event is published when the bus is back"},
};

static void fill_request(struct request *req, enum action action, const struct lifecycle_fields *fields,
			 struct lifecycle_request *ret_request)
{
	*ret_request = (struct lifecycle_request){
		.action = action,
		.tier = fields->tier,
		.fresh = fields->fresh,
		.drain_s = fields->drain_s,
		.operation_id = id_new(),
		.origin = request_origin(req),
	};
	auth_ask(req, &ret_request->access);
	ret_request->access.must_be_active = action != ACTION_UNLOAD;
}

static bool read_operation(struct request *req, const struct id *operation_id, struct operation *ret_op,
			   enum problem *ret_problem, struct err *e)
{
	struct db *db = NULL;
	bool ok = app_db_take(req->app, APP_ANY, &db, e) &&
		  operation_get(db, req->mem, &req->org_id, operation_id, ret_op, ret_problem, e);

	app_db_give(req->app, &db);
	return ok;
}

/*
 * The connection was lost during COMMIT. Looks several times: the server may still be at it, or on its way back.
 * PROBLEM_NONE: it was done. PROBLEM_DB_UNAVAILABLE: nothing happened.
 */
static enum problem look_up(struct request *req, const struct lifecycle_request *request,
			    struct lifecycle_accepted *ret_accepted)
{
	enum problem outcome = PROBLEM_OUTCOME_UNKNOWN;

	for (int i = 0; i < LOOK_COUNT; i++) {
		enum problem problem = PROBLEM_NONE;
		struct err e = {0};
		if (i > 0)
			(void)poll(NULL, 0, LOOK_PAUSE_MS);
		if (!read_operation(req, &request->operation_id, &ret_accepted->op, &problem, &e))
			continue;
		if (problem == PROBLEM_NONE) {
			ret_accepted->use_loads = request->action != ACTION_UNLOAD;
			return PROBLEM_NONE;
		}
		outcome = PROBLEM_DB_UNAVAILABLE;
	}
	return outcome;
}

static const char *location_of(struct request *req, const struct id *operation_id)
{
	return arena_printf(req->mem, "/api/orgs/%s/operations/%s", req->org_id.text, operation_id->text);
}

/* Steps 1 and 2. False: *ret_next. */
static bool accept_request(struct request *req, struct response *res, const struct lifecycle_request *request,
			   struct lifecycle_accepted *accepted, enum next *ret_next, struct err *e)
{
	struct lifecycle_step step = {.request = request, .mem = req->mem};
	enum problem problem;
	bool ok;

	*ret_next = NEXT_FAIL;
	if (!req->has_token) {
		*ret_next = refuse(res, PROBLEM_UNAUTHORIZED, NULL);
		return false;
	}
	accept_line_pass(req->app, &step);
	ok = step.ok;
	problem = step.problem;
	*accepted = step.accepted;
	if (!ok)
		*e = step.e;
	req->caller = accepted->access.caller;
	req->has_caller = ok && id_is_set(&req->caller.token_id);
	if (!ok && e->code == ERR_UNCERTAIN) {
		log_warn("the connection was lost during COMMIT", "operation=%s", request->operation_id.text);
		problem = look_up(req, request, accepted);
		ok = true;
	}
	if (!ok || problem == PROBLEM_NONE)
		return ok;
	if (problem == PROBLEM_OUTCOME_UNKNOWN)
		res->location = location_of(req, &request->operation_id);
	*ret_next = refuse(res, problem, NULL);
	return false;
}

/* Waits for the operation's end; true when it came. The row is read before the first wait: it may be over already. */
static bool wait_for_end(struct request *req, struct wait *w, struct operation *op, int wait_s)
{
	int64_t until_ms = clock_now_ms() + (int64_t)wait_s * 1000;

	for (;;) {
		enum problem problem = PROBLEM_NONE;
		struct err e = {0};
		bool ok = read_operation(req, &op->operation_id, op, &problem, &e);
		int64_t left_ms = until_ms - clock_now_ms();
		if (ok && problem == PROBLEM_NONE && !op_is_open(op->state))
			return true;
		if (left_ms <= 0 || atomic_load(&req->app->is_stopping) || fcgi_client_is_gone(req->conn))
			return false;
		(void)waits_for(req->app->waits, w, left_ms < REREAD_MS ? (int)left_ms : REREAD_MS);
	}
}

static enum next answer_accepted(struct request *req, struct response *res, const struct operation *op,
				 bool is_published)
{
	struct jval *o = jval_new_object();

	jval_add_string(o, "message", is_published ? kinds[op->action].published : kinds[op->action].kept);
	jval_add_string(o, "instance_id", op->instance_id.text);
	jval_add_string(o, "tier", tier_name(op->tier));
	jval_add_string(o, "operation_id", op->operation_id.text);
	jval_add_int(o, "generation", (int64_t)op->generation);
	jval_add_bool(o, "published", is_published);
	res->location = location_of(req, &op->operation_id);
	return answer(res, 202, o);
}

/* Step 3 and 4, where the client prefers to wait. The wait begins before the event can have any effect. */
static enum next publish_and_wait(struct request *req, struct response *res, struct lifecycle_accepted *accepted,
				  int wait_s)
{
	struct operation *op = &accepted->op;
	struct wait w;

	waits_begin(req->app->waits, &w, &op->instance_id);
	bool is_published = publish_operation(req->app, op, accepted->use_loads);
	bool has_ended = wait_for_end(req, &w, op, wait_s);
	waits_end(req->app->waits, &w);
	res->preference_applied = arena_printf(req->mem, "wait=%d", wait_s);
	if (!has_ended)
		return answer_accepted(req, res, op, is_published);
	res->location = location_of(req, &op->operation_id);
	return answer(res, 200, render_operation(op));
}

static enum next lifecycle(struct request *req, struct response *res, enum action action, struct err *e)
{
	struct lifecycle_accepted accepted = {0};
	struct lifecycle_fields fields = {.tier = -1, .drain_s = -1};
	struct lifecycle_request request;
	enum next next;
	int wait_s = request_prefer_wait(req);

	if (!body_read(req, res, kinds[action].table, kinds[action].count, true, &fields, body_errors(req), &next, e))
		return next;
	fill_request(req, action, &fields, &request);
	if (!accept_request(req, res, &request, &accepted, &next, e))
		return next;
	if (wait_s > 0 && gate_enter(req->app->gate, GATE_WAIT, false)) {
		next = publish_and_wait(req, res, &accepted, wait_s);
		gate_leave(req->app->gate, GATE_WAIT, false);
		return next;
	}
	return answer_accepted(req, res, &accepted.op, publish_operation(req->app, &accepted.op, accepted.use_loads));
}

enum next h_lifecycle_load(struct request *req, struct response *res, struct err *e)
{
	return lifecycle(req, res, ACTION_LOAD, e);
}

enum next h_lifecycle_unload(struct request *req, struct response *res, struct err *e)
{
	return lifecycle(req, res, ACTION_UNLOAD, e);
}

enum next h_lifecycle_reload(struct request *req, struct response *res, struct err *e)
{
	return lifecycle(req, res, ACTION_RELOAD, e);
}
