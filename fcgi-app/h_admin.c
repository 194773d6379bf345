/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator looks at first: is everything there, and who did what. */
#include "fcgi-app/handlers.h"

#include <string.h>

#include "core/audit.h"
#include "core/event.h"
#include "core/schema.h"
#include "core/settings.h"
#include "core/stats.h"
#include "fcgi-app/app.h"
#include "fcgi-app/auth.h"
#include "fcgi-app/busline.h"
#include "fcgi-app/fields.h"
#include "fcgi-app/gate.h"
#include "fcgi-app/page.h"
#include "fcgi-app/render.h"
#include "fcgi-app/request.h"
#include "lib/arena.h"
#include "lib/bus.h"
#include "lib/db.h"
#include "lib/json.h"

#define BUS_INFO_TIMEOUT_MS 500

/* --- health --- */

static struct jval *render_database(struct app *app)
{
	struct db_pool_stats stats = db_pool_stats(app->db_pool);
	struct jval *o = jval_new_object();

	jval_add_bool(o, "connected", true); /* the caller's token was just read from it */
	jval_add_int(o, "schema_version", SCHEMA_VERSION);
	jval_add_int(o, "connections_max", stats.size);
	jval_add_int(o, "connections_open", stats.open);
	jval_add_int(o, "connections_lent", stats.lent);
	jval_add_int(o, "waits", (int64_t)stats.waits);
	return o;
}

/* *ret_is_good: connected, and the stream and its consumer are there. */
static struct jval *render_bus(struct app *app, bool *ret_is_good)
{
	struct bus *bus = busline_take(app->bus);
	struct bus_consumer_info info = {0};
	struct jval *o = jval_new_object();
	struct err e = {0};
	bool is_up = bus_is_up(bus);
	bool has_consumer =
		is_up && bus_consumer_info(bus, EVENT_STREAM, EVENT_CONSUMER, BUS_INFO_TIMEOUT_MS, &info, &e);

	jval_add_bool(o, "connected", is_up);
	jval_add_bool(o, "clustered", is_up && bus_is_clustered(bus));
	jval_add_string(o, "stream", EVENT_STREAM);
	jval_add_string(o, "consumer", EVENT_CONSUMER);
	jval_add_bool(o, "consumer_found", has_consumer);
	if (has_consumer) {
		jval_add_int(o, "events_waiting", (int64_t)info.waiting);
		jval_add_int(o, "in_flight", (int64_t)info.in_flight);
		jval_add_int(o, "redelivered", (int64_t)info.redelivered);
	}
	busline_give(app->bus, bus);
	*ret_is_good = has_consumer;
	return o;
}

static struct jval *render_workers(const struct pool_worker *workers, unsigned count)
{
	struct jval *list = jval_new_array();

	for (unsigned i = 0; i < count; i++) {
		struct jval *o = jval_new_object();
		jval_add_string(o, "worker_id", workers[i].worker_id);
		jval_add_string(o, "state", workers[i].state);
		jval_add_int(o, "lease_age_ms", workers[i].lease_age_ms);
		jval_push(list, o);
	}
	return list;
}

static struct jval *render_app(struct app *app)
{
	struct gate_counts counts = gate_counts(app->gate);
	struct jval *o = jval_new_object();

	jval_add_int(o, "threads_max", counts.threads);
	jval_add_int(o, "threads_in_use", atomic_load(&app->requests_in_hand));
	jval_add_int(o, "turns", counts.turns);
	jval_add_int(o, "waits", counts.waits);
	jval_add_int(o, "waits_max", counts.waits_max);
	jval_add_int(o, "turns_and_waits_max", counts.long_max);
	return o;
}

static bool has_active(const struct pool_worker *workers, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (strcmp(workers[i].state, "active") == 0)
			return true;
	return false;
}

enum next h_admin_health(struct request *req, struct response *res, struct err *e)
{
	struct pool_worker *workers = NULL;
	unsigned count = 0;
	struct visit v = {0};
	enum next next;
	bool ok, is_bus_good;

	ok = auth_enter(req, res, &v, &next, e);
	if (ok)
		next = NEXT_FAIL;
	ok = ok && stats_pool(v.db, req->mem, (int)req->app->settings->worker.lease_s, &workers, &count, e);
	auth_leave(req, &v); /* before the bus is asked */
	if (!ok)
		return next;
	struct jval *o = jval_new_object();
	struct jval *bus = render_bus(req->app, &is_bus_good);
	jval_add_string(o, "status", is_bus_good && has_active(workers, count) ? "ok" : "degraded");
	jval_add(o, "database", render_database(req->app));
	jval_add(o, "bus", bus);
	jval_add(o, "workers", render_workers(workers, count));
	jval_add(o, "app", render_app(req->app));
	return answer(res, 200, o);
}

/* --- audit --- */

/* ?org_id= narrows it. False: *ret_next. */
static bool read_filter(struct request *req, struct response *res, struct id *ret_org, enum next *ret_next)
{
	struct field_errors *errors = arena_alloc(req->mem, sizeof(*errors));
	bool is_good;
	const char *text = request_query(req, "org_id", &is_good);

	*ret_org = (struct id){""};
	if (is_good && (!text || id_parse(text, strlen(text), ret_org)))
		return true;
	if (errors) {
		errors->mem = req->mem;
		fields_fail(errors, "org_id", "must be an id: a UUID in lower case");
	}
	*ret_next = refuse_fields(res, errors);
	return false;
}

enum next h_admin_audit(struct request *req, struct response *res, struct err *e)
{
	struct audit_entry *entries = NULL;
	unsigned count = 0;
	struct page page;
	struct id org_id;
	struct visit v = {0};
	enum next next;

	if (!auth_enter(req, res, &v, &next, e) || !page_read(req, res, &page, &next) ||
	    !read_filter(req, res, &org_id, &next))
		goto out;
	next = NEXT_FAIL;
	if (!audit_list(v.db, req->mem, &org_id, page_after(&page), page.limit + 1, &entries, &count, e))
		goto out;
	struct jval *items = jval_new_array();
	unsigned shown = count > page.limit ? page.limit : count;
	for (unsigned i = 0; i < shown; i++)
		jval_push(items, render_audit(&entries[i]));
	next = answer(res, 200, render_page(items, count > shown ? &entries[shown - 1].audit_id : NULL));
out:
	auth_leave(req, &v);
	return next;
}
