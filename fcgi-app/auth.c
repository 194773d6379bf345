/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order of DESIGN 4 is kept also where a body is wrong: somebody without a
 * token learns 401 and nothing about what the body should look like.
 */
#include "fcgi-app/auth.h"

#include <string.h>

#include "core/audit.h"
#include "fcgi-app/app.h"
#include "fcgi-app/fields.h"
#include "fcgi-app/request.h"
#include "fcgi-app/router.h"
#include "lib/log.h"

void auth_ask(const struct request *req, struct access_request *ret_ask)
{
	*ret_ask = (struct access_request){
		.permission = req->route->permission,
		.has_org = route_has_org(req->route),
		.org_id = req->org_id,
		.has_instance = route_has_instance(req->route),
		.instance_id = req->instance_id,
	};
	memcpy(ret_ask->token_hash, req->token_hash, sizeof(ret_ask->token_hash));
}

bool auth_check(struct request *req, struct db *db, const struct access_request *ask, struct access *ret_access,
		enum problem *ret_problem, struct err *e)
{
	if (!req->has_token) {
		*ret_problem = PROBLEM_UNAUTHORIZED;
		return true;
	}
	if (!access_check(db, req->mem, ask, ret_access, ret_problem, e))
		return err_ctx(e, "checking access");
	if (*ret_problem != PROBLEM_UNAUTHORIZED) {
		req->caller = ret_access->caller;
		req->has_caller = true;
	}
	return true;
}

bool auth_enter(struct request *req, struct response *res, struct visit *v, enum next *ret_next, struct err *e)
{
	enum problem problem = PROBLEM_UNAUTHORIZED;
	struct access_request ask;

	*ret_next = NEXT_FAIL;
	if (req->has_token) { /* else no connection is spent on it */
		auth_ask(req, &ask);
		if (!app_db_take(req->app, APP_ANY, &v->db, e) ||
		    !auth_check(req, v->db, &ask, &v->access, &problem, e))
			return false;
	}
	if (problem == PROBLEM_NONE) {
		app_touch_token(v->db, &v->access.caller);
		return true;
	}
	*ret_next = refuse(res, problem, NULL);
	return false;
}

void auth_leave(struct request *req, struct visit *v)
{
	app_db_give(req->app, &v->db);
}

/* What is wrong with the body counts only for those who may send one. */
static enum next refuse_in_order(struct request *req, struct response *res, enum problem problem, const char *detail,
				 struct err *e)
{
	struct visit v = {0};
	enum next next;

	if (auth_enter(req, res, &v, &next, e))
		next = refuse(res, problem, detail);
	auth_leave(req, &v);
	return next;
}

bool auth_body(struct request *req, struct response *res, bool is_optional, enum next *ret_next, struct err *e)
{
	const char *detail = NULL;
	enum problem problem = request_read_body(req, is_optional, &detail);

	if (problem == PROBLEM_NONE)
		return true;
	*ret_next = refuse_in_order(req, res, problem, detail, e);
	return false;
}

enum next auth_refuse_fields(struct request *req, struct response *res, const struct field_errors *errors,
			     struct err *e)
{
	enum next next = refuse_in_order(req, res, PROBLEM_INVALID, NULL, e);

	if (res->problem == PROBLEM_INVALID)
		res->errors = errors;
	return next;
}

/* Refusals of a right or a rule; what was merely malformed is no act. */
static bool is_worth_a_row(enum problem problem)
{
	int status = problem_status(problem);

	return status == 401 || status == 403 || status == 404 || status == 409 || status == 410;
}

static struct audit_entry refusal_entry(const struct request *req, enum problem problem)
{
	struct audit_entry entry = {
		.org_id = req->org_id,
		.action = req->route->audited,
		.result = problem,
		.origin = request_origin(req),
	};

	if (req->has_caller) {
		entry.token_id = req->caller.token_id;
		entry.role = role_name(req->caller.role);
	}
	if (id_is_set(&req->instance_id))
		entry.target = req->instance_id.text;
	else if (id_is_set(&req->item_id))
		entry.target = req->item_id.text;
	return entry;
}

void auth_audit_refusal(struct request *req, enum problem problem)
{
	struct db *db = NULL;
	struct err e = {0};

	/* Without any token nobody did anything: strangers shall not be able to fill the log. */
	if (!req->route->audited || req->route->is_self_audited || !req->has_token || !is_worth_a_row(problem))
		return;
	struct audit_entry entry = refusal_entry(req, problem);
	if (!app_db_take(req->app, APP_ANY, &db, &e) || !audit_write(db, &entry, &e))
		log_warn("a refusal was not written to the audit log", "error=\"%s\"", e.text);
	app_db_give(req->app, &db);
}
