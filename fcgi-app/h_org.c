/* SPDX-License-Identifier: Apache-2.0 */
/* Organizations, for the sys_admin. Suspending one speaks to all workers by one `_all` event. */
#include "fcgi-app/handlers.h"

#include "core/org.h"
#include "fcgi-app/app.h"
#include "fcgi-app/auth.h"
#include "fcgi-app/body.h"
#include "fcgi-app/page.h"
#include "fcgi-app/publish.h"
#include "fcgi-app/render.h"
#include "fcgi-app/request.h"
#include "fcgi-app/write.h"
#include "lib/arena.h"
#include "lib/json.h"

#define QUOTA_MAX 10000000
#define QUOTA_INSTANCES_DEFAULT 1000
#define QUOTA_TIER_DEFAULT 100
#define TTL_MAX 31536000

struct org_fields {
	const char *name;
	const struct jval *quotas;
	int64_t instances, hot, demand;
	int64_t ttl_seconds;
	int status;
};

static const char *const status_words[] = {[STATUS_ACTIVE] = "active", [STATUS_SUSPENDED] = "suspended", NULL};

#define AT(member) .offset = offsetof(struct org_fields, member)
#define NAME(flag)                                                                                                     \
	{                                                                                                              \
		.name = "name", .type = FIELD_TEXT, .flags = flag, AT(name), .min = 1, .max = ORG_NAME_MAX             \
	}
#define QUOTAS                                                                                                         \
	{                                                                                                              \
		.name = "quotas", .type = FIELD_OBJECT, AT(quotas)                                                     \
	}
#define QUOTA(word, member)                                                                                            \
	{                                                                                                              \
		.name = word, .type = FIELD_INT, AT(member), .min = 0, .max = QUOTA_MAX                                \
	}
#define TTL(null)                                                                                                      \
	{                                                                                                              \
		.name = "ttl_seconds", .type = FIELD_INT, .flags = FIELD_NULLABLE, AT(ttl_seconds), .min = 1,          \
		.max = TTL_MAX, .null_value = null                                                                     \
	}

static const struct field create_table[] = {NAME(FIELD_REQUIRED), QUOTAS, TTL(-1)};
static const struct field change_table[] = {NAME(0), QUOTAS, TTL(0)};
static const struct field quota_table[] = {QUOTA("instances", instances), QUOTA("hot", hot), QUOTA("demand", demand)};
static const struct field status_table[] = {
	{.name = "status", .type = FIELD_WORD, .flags = FIELD_REQUIRED, AT(status), .words = status_words},
};

static bool read_body(struct request *req, struct response *res, const struct field *table, size_t count,
		      struct org_fields *fields, enum next *ret_next, struct err *e)
{
	struct field_errors *errors = body_errors(req);

	if (!body_read(req, res, table, count, false, fields, errors, ret_next, e))
		return false;
	if (!fields->quotas ||
	    fields_read(fields->quotas, "quotas.", quota_table, ARRAY_LEN(quota_table), fields, errors))
		return true;
	*ret_next = auth_refuse_fields(req, res, errors, e);
	return false;
}

/* --- create --- */

struct create {
	struct org org, after;
};

static bool create_body(struct db *db, struct write *w, struct err *e)
{
	struct create *c = w->closure;

	w->org_id = w->target = c->org.org_id;
	if (!org_create(db, &c->org, &w->problem, e))
		return false;
	return w->problem != PROBLEM_NONE || org_get(db, w->req->mem, &c->org.org_id, &c->after, &w->problem, e);
}

static const char *location_of(struct request *req, const struct id *org_id)
{
	return arena_printf(req->mem, "/api/admin/orgs/%s", org_id->text);
}

static enum next answer_write(struct response *res, const struct write *w, enum write_result result, int status,
			      const struct org *after, const char *location, struct err *e)
{
	switch (result) {
	case WRITE_DONE:
		res->location = status == 201 ? location : NULL;
		return answer(res, status, render_org(after));
	case WRITE_REFUSED:
		return refuse(res, w->problem, NULL);
	case WRITE_FAILED:
		if (e->code == ERR_UNCERTAIN)
			res->location = location;
		break;
	}
	return NEXT_FAIL;
}

enum next h_org_create(struct request *req, struct response *res, struct err *e)
{
	struct org_fields fields = {
		.instances = QUOTA_INSTANCES_DEFAULT,
		.hot = QUOTA_TIER_DEFAULT,
		.demand = QUOTA_TIER_DEFAULT,
		.ttl_seconds = -1,
	};
	struct create c = {0};
	struct write w;
	enum next next;

	if (!read_body(req, res, create_table, ARRAY_LEN(create_table), &fields, &next, e))
		return next;
	c.org = (struct org){
		.org_id = id_new(),
		.name = fields.name,
		.status = STATUS_ACTIVE,
		.quota_instances = (uint32_t)fields.instances,
		.quota_hot = (uint32_t)fields.hot,
		.quota_demand = (uint32_t)fields.demand,
		.ttl_seconds = fields.ttl_seconds,
	};
	write_init(&w, req, create_body, &c);
	enum write_result result = write_run(&w, e);
	return answer_write(res, &w, result, 201, &c.after, location_of(req, &c.org.org_id), e);
}

/* --- change --- */

struct change {
	struct org_change change;
	enum status status;
	bool is_changed;
	struct org after;
};

static bool change_body(struct db *db, struct write *w, struct err *e)
{
	struct change *c = w->closure;

	w->target = w->req->org_id;
	if (!org_change(db, &w->req->org_id, &c->change, &w->problem, e))
		return false;
	return w->problem != PROBLEM_NONE || org_get(db, w->req->mem, &w->req->org_id, &c->after, &w->problem, e);
}

/* "Look at all your Apps of this org." */
static void publish_all(struct request *req, enum status status)
{
	enum action action = status == STATUS_SUSPENDED ? ACTION_UNLOAD : ACTION_LOAD;

	(void)publish_change(req->app, &req->org_id, &(struct id){""}, action, SOURCE_STATUS_CHANGE, req->request_id);
}

enum next h_org_change(struct request *req, struct response *res, struct err *e)
{
	struct org_fields fields = {.instances = -1, .hot = -1, .demand = -1, .ttl_seconds = -1};
	struct change c = {0};
	struct write w;
	enum next next;

	if (!read_body(req, res, change_table, ARRAY_LEN(change_table), &fields, &next, e))
		return next;
	c.change = (struct org_change){
		.name = fields.name,
		.quota_instances = fields.instances,
		.quota_hot = fields.hot,
		.quota_demand = fields.demand,
		.ttl_seconds = fields.ttl_seconds,
	};
	write_init(&w, req, change_body, &c);
	enum write_result result = write_run(&w, e);
	if (result == WRITE_DONE && fields.ttl_seconds >= 0) /* copies keep the TTL that they were given */
		publish_all(req, c.after.status);
	return answer_write(res, &w, result, 200, &c.after, location_of(req, &req->org_id), e);
}

static bool status_body(struct db *db, struct write *w, struct err *e)
{
	struct change *c = w->closure;

	w->target = w->req->org_id;
	w->audit_detail = status_words[c->status];
	if (!org_set_status(db, &w->req->org_id, c->status, &c->is_changed, &w->problem, e))
		return false;
	return w->problem != PROBLEM_NONE || org_get(db, w->req->mem, &w->req->org_id, &c->after, &w->problem, e);
}

enum next h_org_status(struct request *req, struct response *res, struct err *e)
{
	struct org_fields fields = {0};
	struct change c = {0};
	struct write w;
	enum next next;

	if (!read_body(req, res, status_table, ARRAY_LEN(status_table), &fields, &next, e))
		return next;
	c.status = (enum status)fields.status;
	write_init(&w, req, status_body, &c);
	w.ask.lock_org = true;
	enum write_result result = write_run(&w, e);
	if (result == WRITE_DONE && c.is_changed)
		publish_all(req, c.status);
	return answer_write(res, &w, result, 200, &c.after, location_of(req, &req->org_id), e);
}

/* --- read --- */

enum next h_org_get(struct request *req, struct response *res, struct err *e)
{
	struct visit v = {0};
	enum next next;

	if (auth_enter(req, res, &v, &next, e))
		next = answer(res, 200, render_org(&v.access.org));
	auth_leave(req, &v);
	return next;
}

enum next h_org_list(struct request *req, struct response *res, struct err *e)
{
	struct org *orgs = NULL;
	unsigned count = 0;
	struct page page;
	struct visit v = {0};
	enum next next;

	if (!auth_enter(req, res, &v, &next, e) || !page_read(req, res, &page, &next))
		goto out;
	next = NEXT_FAIL;
	if (!org_list(v.db, req->mem, page_after(&page), page.limit + 1, &orgs, &count, e))
		goto out;
	struct jval *items = jval_new_array();
	unsigned shown = count > page.limit ? page.limit : count;
	for (unsigned i = 0; i < shown; i++)
		jval_push(items, render_org(&orgs[i]));
	next = answer(res, 200, render_page(items, count > shown ? &orgs[shown - 1].org_id : NULL));
out:
	auth_leave(req, &v);
	return next;
}
