/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes for supervisors and load balancers. /healthz: the process answers;
 * it asks nobody, so an outage elsewhere never gets us restarted. /readyz: the
 * database has the right schema and the bus is there.
 */
#include "fcgi-app/handlers.h"

#include "fcgi-app/app.h"
#include "fcgi-app/busline.h"
#include "fcgi-app/request.h"
#include "lib/db.h"
#include "lib/json.h"

enum next h_probe_health(struct request *req, struct response *res, struct err *e)
{
	struct jval *o = jval_new_object();

	(void)req;
	(void)e;
	res->is_quiet = true;
	jval_add_string(o, "status", "ok");
	return answer(res, 200, o);
}

/* A connection that could be had is a database that answers: the pool looks. */
static bool is_database_ready(struct app *app)
{
	struct db *db = NULL;
	struct err e = {0};
	bool ok = app_db_take(app, APP_ANY, &db, &e);

	app_db_give(app, &db);
	return ok || e.code == ERR_BUSY;
}

enum next h_probe_ready(struct request *req, struct response *res, struct err *e)
{
	bool has_database = is_database_ready(req->app);
	bool has_bus = busline_is_up(req->app->bus);
	bool is_ready = has_database && has_bus && !atomic_load(&req->app->is_stopping);
	struct jval *o = jval_new_object();

	(void)e;
	res->is_quiet = true;
	jval_add_string(o, "status", is_ready ? "ready" : "not_ready");
	jval_add_bool(o, "database", has_database);
	jval_add_bool(o, "bus", has_bus);
	return answer(res, is_ready ? 200 : 503, o);
}
