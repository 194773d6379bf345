/* SPDX-License-Identifier: Apache-2.0 */
/* A refusal inside the transaction travels as an error, so that it rolls back; w->problem tells it from a failure. */
#include "fcgi-app/write.h"

#include "core/audit.h"
#include "fcgi-app/app.h"
#include "fcgi-app/auth.h"
#include "fcgi-app/request.h"
#include "fcgi-app/router.h"
#include "lib/db.h"

void write_init(struct write *w, struct request *req, write_body body, void *closure)
{
	*w = (struct write){.req = req, .body = body, .closure = closure};
	auth_ask(req, &w->ask);
}

static bool write_audit(struct db *db, struct write *w, struct err *e)
{
	const struct request *req = w->req;
	struct audit_entry entry = {
		.org_id = w->org_id,
		.token_id = w->access.caller.token_id,
		.role = role_name(w->access.caller.role),
		.action = req->route->audited,
		.target = id_is_set(&w->target) ? w->target.text : NULL,
		.result = PROBLEM_NONE,
		.origin = request_origin(req),
		.detail = w->audit_detail,
	};

	return audit_write(db, &entry, e);
}

static bool transaction(struct db *db, void *closure, struct err *e)
{
	struct write *w = closure;

	w->problem = PROBLEM_NONE;
	w->detail = NULL;
	w->org_id = w->req->org_id;
	w->target = w->req->instance_id;
	if (!auth_check(w->req, db, &w->ask, &w->access, &w->problem, e))
		return false;
	if (w->problem == PROBLEM_NONE && !w->body(db, w, e))
		return false;
	if (w->problem != PROBLEM_NONE)
		return err_set(e, ERR_DENIED, "refused: %s", problem_code(w->problem));
	return write_audit(db, w, e);
}

enum write_result write_run(struct write *w, struct err *e)
{
	struct db *db = NULL;
	bool ok;

	if (!w->req->has_token) {
		w->problem = PROBLEM_UNAUTHORIZED;
		return WRITE_REFUSED;
	}
	if (!app_db_take(w->req->app, APP_ANY, &db, e))
		return WRITE_FAILED;
	ok = db_transaction(db, transaction, w, e);
	if (ok)
		app_touch_token(db, &w->access.caller);
	app_db_give(w->req->app, &db);
	if (ok)
		return WRITE_DONE;
	return w->problem != PROBLEM_NONE ? WRITE_REFUSED : WRITE_FAILED;
}
