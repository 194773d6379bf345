/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LLM configs of an organization. The key goes from the body into its seal, inside the transaction, and is shown
 * nowhere; body, headers and what they were parsed into are overwritten when the request ends. Where a base_url leads
 * is looked up before the transaction begins, and only for those who may save it: a name server may be slow.
 */
#include "fcgi-app/handlers.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "core/llm_config.h"
#include "fcgi-app/app.h"
#include "fcgi-app/auth.h"
#include "fcgi-app/body.h"
#include "fcgi-app/gate.h"
#include "fcgi-app/page.h"
#include "fcgi-app/publish.h"
#include "fcgi-app/render.h"
#include "fcgi-app/request.h"
#include "fcgi-app/write.h"
#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/netaddr.h"

#define USERS_SHOWN_MAX 20

struct llm_fields {
	const char *name;
	int provider;
	struct span base_url, api_key;
	const struct jval *extra_headers, *defaults;
};

static const char *const provider_words[] = {[LLM_OPENAI] = "openai", [LLM_ANTHROPIC] = "anthropic", NULL};

#define AT(member) .offset = offsetof(struct llm_fields, member)
#define FIELDS(flag)                                                                                                   \
	{.name = "name", .type = FIELD_TEXT, .flags = flag, AT(name), .min = 1, .max = LLM_NAME_MAX},                  \
		{.name = "provider", .type = FIELD_WORD, .flags = flag, AT(provider), .words = provider_words},        \
		{.name = "base_url", .type = FIELD_STRING, .flags = flag, AT(base_url), .max = LLM_URL_MAX},           \
		{.name = "api_key", .type = FIELD_STRING, .flags = FIELD_NULLABLE, AT(api_key), .max = LLM_KEY_MAX},   \
		{.name = "extra_headers", .type = FIELD_OBJECT, .flags = FIELD_NULLABLE, AT(extra_headers)},           \
	{                                                                                                              \
		.name = "defaults", .type = FIELD_OBJECT, AT(defaults)                                                 \
	}

/* clang-format off */
static const struct field create_table[] = {FIELDS(FIELD_REQUIRED)};
static const struct field change_table[] = {FIELDS(0)};
/* clang-format on */

/* What a body asks for. */
struct asked {
	struct llm_fields fields;
	struct llm_config_change change;
	struct llm_origin origin; /* of base_url; its host is "" where it stays */
	struct buf headers;       /* canonical; wiped with the rest */
};

/* --- the body's values --- */

struct header_check {
	struct field_errors *errors;
	struct jval *names;
	size_t count, bytes;
};

static bool is_there(const struct jval *names, const char *name)
{
	for (size_t i = 0; i < jval_array_len(names); i++)
		if (strcasecmp(jval_string(jval_array_at(names, i), NULL), name) == 0)
			return true;
	return false;
}

static bool check_header(void *closure, const char *name, struct jval *v)
{
	struct header_check *c = closure;
	size_t len = 0;
	const char *value = jval_string(v, &len);
	const char *reason = value ? llm_header_check(name, value, len) : "must be a string";

	if (!reason && is_there(c->names, name))
		reason = "names a header twice; upper and lower case are the same";
	if (reason)
		fields_fail_member(c->errors, "extra_headers", name, reason);
	jval_push(c->names, jval_new_string(name, strlen(name)));
	c->count++;
	c->bytes += strlen(name) + len;
	return c->count <= LLM_HEADERS_MAX;
}

/* An object without members is the same as null: there are none. */
static void read_headers(struct request *req, struct asked *a, struct field_errors *errors)
{
	struct header_check c = {.errors = errors, .names = jval_new_array()};

	jval_each(a->fields.extra_headers, check_header, &c);
	if (c.count > LLM_HEADERS_MAX || c.bytes > LLM_HEADERS_BYTES_MAX)
		fields_fail(errors, "extra_headers", "must be at most 16 headers of 8192 bytes together");
	a->change.headers_step = c.count > 0 ? LLM_SECRET_SET : LLM_SECRET_REMOVE;
	jval_canonical(a->fields.extra_headers, &a->headers);
	a->change.headers = buf_str(&a->headers);
	a->change.header_names = arena_strdup(req->mem, jval_text(c.names, NULL));
	jval_free(&c.names);
}

static void read_key(struct asked *a, struct field_errors *errors)
{
	const char *reason = llm_key_check(a->fields.api_key.data, a->fields.api_key.len);

	if (reason)
		fields_fail(errors, "api_key", reason);
	a->change.key_step = LLM_SECRET_SET;
	a->change.key = a->fields.api_key.data;
	a->change.key_len = a->fields.api_key.len;
}

static void read_defaults(struct request *req, struct asked *a, struct field_errors *errors)
{
	struct buf text;

	buf_init(&text, LLM_DEFAULTS_BYTES_MAX);
	jval_canonical(a->fields.defaults, &text);
	if (buf_has_failed(&text))
		fields_fail(errors, "defaults", "must be an object of at most 8192 bytes");
	for (size_t i = 0; llm_own_fields[i]; i++)
		if (jval_has(a->fields.defaults, llm_own_fields[i]))
			fields_fail_member(errors, "defaults", llm_own_fields[i], "is set by Hearth itself");
	a->change.defaults = arena_strdup(req->mem, buf_str(&text));
	buf_clear(&text);
}

/* Everything that can be said without asking anybody. */
static void read_values(struct request *req, struct asked *a, struct field_errors *errors)
{
	const struct llm_fields *f = &a->fields;
	const char *reason;

	a->change.name = f->name;
	a->change.provider = f->provider;
	if (f->base_url.data) {
		a->change.base_url = f->base_url.data;
		reason = llm_url_check(f->base_url.data, f->base_url.len, &a->origin);
		if (reason)
			fields_fail(errors, "base_url", reason);
	}
	if (f->api_key.data)
		read_key(a, errors);
	else if (jval_has(req->body, "api_key"))
		a->change.key_step = LLM_SECRET_REMOVE;
	if (f->extra_headers)
		read_headers(req, a, errors);
	else if (jval_has(req->body, "extra_headers"))
		a->change.headers_step = LLM_SECRET_REMOVE;
	if (f->defaults)
		read_defaults(req, a, errors);
}

/* --- where it leads --- */

/* Only for those who may save it: nobody else shall make us look names up. */
static bool may_save(struct request *req, struct response *res, enum next *ret_next, struct err *e)
{
	struct visit v = {0};
	bool ok = auth_enter(req, res, &v, ret_next, e);

	auth_leave(req, &v);
	return ok;
}

static enum next refuse_host(struct response *res, const struct llm_origin *origin, struct field_errors *errors,
			     const struct err *e)
{
	switch (e->code) {
	case ERR_DENIED:
		fields_fail(errors, "base_url",
			    origin->has_tls ? "leads to an address that is not allowed: it is reserved, and not in "
					      "llm.allowed_networks"
					    : "leads to an address that is not allowed with http: use https for a "
					      "public one, or an administrator allows it in llm.allowed_networks");
		return refuse_fields(res, errors);
	case ERR_MISSING:
	case ERR_INPUT:
		fields_fail(errors, "base_url", "names a host that is not known");
		return refuse_fields(res, errors);
	case ERR_DOWN:
	case ERR_BUSY:
	case ERR_TIMEOUT:
		return refuse(res, PROBLEM_BUSY, "The host of base_url could not be looked up. Try again.");
	default:
		return NEXT_FAIL;
	}
}

/* A look-up holds this thread for some seconds at most, and counts as a wait. False: *ret_next. */
static bool check_host(struct request *req, struct response *res, const struct llm_origin *origin,
		       struct field_errors *errors, enum next *ret_next, struct err *e)
{
	struct app *app = req->app;

	if (!may_save(req, res, ret_next, e))
		return false;
	if (!gate_enter(app->gate, GATE_WAIT, false)) {
		*ret_next = refuse(res, PROBLEM_BUSY, NULL);
		return false;
	}
	struct netaddr_list *networks = app_llm_networks(app);
	bool ok = netaddr_check_host(networks, llm_address_rule(origin->has_tls), origin->host, e);
	netaddr_list_free(&networks);
	gate_leave(app->gate, GATE_WAIT, false);
	if (ok)
		return true;
	log_info("a base_url was not taken", "host=%s reason=\"%s\"", origin->host, e->text);
	*ret_next = refuse_host(res, origin, errors, e);
	return false;
}

/* Body, values, host. False: *ret_next. */
static bool read_asked(struct request *req, struct response *res, const struct field *table, size_t count,
		       struct asked *a, struct field_errors *errors, enum next *ret_next, struct err *e)
{
	if (!body_read(req, res, table, count, false, &a->fields, errors, ret_next, e))
		return false;
	read_values(req, a, errors);
	if (errors->count > 0) {
		*ret_next = auth_refuse_fields(req, res, errors, e);
		return false;
	}
	return a->origin.host[0] == '\0' || check_host(req, res, &a->origin, errors, ret_next, e);
}

/* --- create and change --- */

struct saving {
	struct asked asked;
	struct id llm_config_id;
	struct llm_config_changed changed;
	struct field_errors *errors; /* that only the database can tell */
	struct llm_config_view after;
};

static void saving_init(struct saving *s, struct request *req)
{
	*s = (struct saving){
		.asked.fields.provider = -1,
		.asked.change.provider = -1,
		.errors = body_errors(req),
	};
	buf_init_secret(&s->asked.headers, LLM_HEADERS_TEXT_MAX);
	req->has_secrets = true;
}

static const char *location_of(struct request *req, const struct id *llm_config_id)
{
	return arena_printf(req->mem, "/api/orgs/%s/llm-configs/%s", req->org_id.text, llm_config_id->text);
}

/* What the operator must do is not the client's to know. */
static void log_no_key(const struct write *w, const struct err *e)
{
	if (w->problem == PROBLEM_NO_SEALING_KEY)
		log_warn("an LLM config was not saved", "reason=\"%s\"", e->text);
}

/* What was given, by name, for the audit log. */
static const char *given(struct request *req)
{
	const char *list = "";

	for (size_t i = 0; i < ARRAY_LEN(change_table); i++)
		if (jval_has(req->body, change_table[i].name))
			list = arena_list(req->mem, list, " ", change_table[i].name);
	return *list ? list : NULL;
}

static bool save_body(struct db *db, struct write *w, struct err *e)
{
	struct saving *s = w->closure;
	struct request *req = w->req;
	bool is_new = id_is_set(&s->llm_config_id);
	const struct id *id = is_new ? &s->llm_config_id : &req->item_id;
	bool ok;

	w->target = *id;
	if (w->access.org.status == STATUS_SUSPENDED) {
		w->problem = PROBLEM_ORG_SUSPENDED;
		return true;
	}
	if (!is_new)
		w->audit_detail = given(req);
	if (is_new)
		ok = llm_config_create(db, req->app->keys, id, &req->org_id, &s->asked.change, &w->problem, e);
	else
		ok = llm_config_change(db, req->mem, req->app->keys, &req->org_id, id, &s->asked.change,
				       req->request_id, &s->changed, &w->problem, e);
	if (!ok)
		return false;
	log_no_key(w, e);
	return w->problem != PROBLEM_NONE || llm_config_get(db, req->mem, &req->org_id, id, &s->after, &w->problem, e);
}

/* The connection was lost during COMMIT: is it there? Not found is no proof: the server may still be at it. */
static enum next look_up_created(struct request *req, struct response *res, const struct id *made)
{
	struct llm_config_view found;
	enum problem problem = PROBLEM_NONE;
	struct db *db = NULL;
	struct err e = {0};
	bool ok = app_db_take(req->app, APP_ANY, &db, &e) &&
		  llm_config_get(db, req->mem, &req->org_id, made, &found, &problem, &e);

	app_db_give(req->app, &db);
	res->location = location_of(req, made);
	if (ok && problem == PROBLEM_NONE)
		return answer(res, 201, render_llm_config(&found));
	return refuse(res, PROBLEM_OUTCOME_UNKNOWN, NULL);
}

static enum next answer_uncertain(struct request *req, struct response *res, const struct saving *s, bool is_new)
{
	if (is_new)
		return look_up_created(req, res, &s->llm_config_id);
	res->location = location_of(req, &req->item_id);
	return refuse(res, PROBLEM_OUTCOME_UNKNOWN, NULL);
}

static enum next refuse_save(struct response *res, const struct write *w, struct saving *s)
{
	static const char again[] = "must be given again, or null, where provider or the scheme, host or port of "
				    "base_url changes: a saved one is not sent elsewhere";

	if (w->problem != PROBLEM_INVALID)
		return refuse(res, w->problem, NULL);
	if (s->changed.is_key_missing)
		fields_fail(s->errors, "api_key", again);
	if (s->changed.are_headers_missing)
		fields_fail(s->errors, "extra_headers", again);
	return refuse_fields(res, s->errors);
}

static enum next save(struct request *req, struct response *res, struct saving *s, struct err *e)
{
	bool is_new = id_is_set(&s->llm_config_id);
	struct write w;

	write_init(&w, req, save_body, s);
	switch (write_run(&w, e)) {
	case WRITE_DONE:
		if (s->changed.apps > 0) /* whoever holds one of them shall look at it */
			(void)publish_change(req->app, &req->org_id, &(struct id){""}, ACTION_RELOAD,
					     SOURCE_CONFIG_CHANGE, req->request_id);
		if (is_new)
			res->location = location_of(req, &s->llm_config_id);
		return answer(res, is_new ? 201 : 200, render_llm_config(&s->after));
	case WRITE_REFUSED:
		return refuse_save(res, &w, s);
	case WRITE_FAILED:
		break;
	}
	return e->code == ERR_UNCERTAIN ? answer_uncertain(req, res, s, is_new) : NEXT_FAIL;
}

enum next h_llm_config_create(struct request *req, struct response *res, struct err *e)
{
	struct saving s;
	enum next next;

	saving_init(&s, req);
	s.asked.change.defaults = "{}";
	s.llm_config_id = id_new();
	if (read_asked(req, res, create_table, ARRAY_LEN(create_table), &s.asked, s.errors, &next, e))
		next = save(req, res, &s, e);
	buf_clear(&s.asked.headers);
	return next;
}

enum next h_llm_config_change(struct request *req, struct response *res, struct err *e)
{
	struct saving s;
	enum next next;

	saving_init(&s, req);
	if (read_asked(req, res, change_table, ARRAY_LEN(change_table), &s.asked, s.errors, &next, e))
		next = save(req, res, &s, e);
	buf_clear(&s.asked.headers);
	return next;
}

/* --- remove --- */

struct removal {
	struct llm_config_user *users;
	unsigned count;
};

static bool remove_body(struct db *db, struct write *w, struct err *e)
{
	const struct request *req = w->req;
	struct removal *r = w->closure;

	w->target = req->item_id;
	if (!llm_config_delete(db, &req->org_id, &req->item_id, &w->problem, e))
		return false;
	return w->problem != PROBLEM_LLM_CONFIG_IN_USE ||
	       llm_config_users(db, req->mem, &req->org_id, &req->item_id, USERS_SHOWN_MAX, &r->users, &r->count, e);
}

static struct jval *render_users(const struct removal *r)
{
	struct jval *list = jval_new_array();

	for (unsigned i = 0; i < r->count; i++) {
		struct jval *one = jval_new_object();
		jval_add_string(one, "instance_id", r->users[i].instance_id.text);
		jval_add_string(one, "name", r->users[i].name);
		jval_push(list, one);
	}
	return list;
}

enum next h_llm_config_delete(struct request *req, struct response *res, struct err *e)
{
	struct removal r = {0};
	struct write w;

	write_init(&w, req, remove_body, &r);
	switch (write_run(&w, e)) {
	case WRITE_DONE:
		return answer(res, 204, NULL);
	case WRITE_REFUSED:
		if (w.problem == PROBLEM_LLM_CONFIG_IN_USE) {
			res->extra_name = "used_by";
			res->extra = render_users(&r);
		}
		return refuse(res, w.problem, NULL);
	case WRITE_FAILED:
		break;
	}
	return NEXT_FAIL;
}

/* --- read --- */

enum next h_llm_config_get(struct request *req, struct response *res, struct err *e)
{
	struct llm_config_view view;
	enum problem problem;
	struct visit v = {0};
	enum next next;

	if (!auth_enter(req, res, &v, &next, e))
		goto out;
	next = NEXT_FAIL;
	if (!llm_config_get(v.db, req->mem, &req->org_id, &req->item_id, &view, &problem, e))
		goto out;
	next = problem == PROBLEM_NONE ? answer(res, 200, render_llm_config(&view)) : refuse(res, problem, NULL);
out:
	auth_leave(req, &v);
	return next;
}

enum next h_llm_config_list(struct request *req, struct response *res, struct err *e)
{
	struct llm_config_view *views = NULL;
	unsigned count = 0;
	struct page page;
	struct visit v = {0};
	enum next next;

	if (!auth_enter(req, res, &v, &next, e) || !page_read(req, res, &page, &next))
		goto out;
	next = NEXT_FAIL;
	if (!llm_config_list(v.db, req->mem, &req->org_id, page_after(&page), page.limit + 1, &views, &count, e))
		goto out;
	struct jval *items = jval_new_array();
	unsigned shown = count > page.limit ? page.limit : count;
	for (unsigned i = 0; i < shown; i++)
		jval_push(items, render_llm_config(&views[i]));
	next = answer(res, 200, render_page(items, count > shown ? &views[shown - 1].llm_config_id : NULL));
out:
	auth_leave(req, &v);
	return next;
}
