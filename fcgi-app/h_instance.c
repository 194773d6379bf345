/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AI Apps: create, read, change, go back to a version, delete. A change that concerns the pool comes
 * out of core/ with an operation; it is published after the commit. Every
 * change answers the App with `operation_id`, null where none was needed.
 */
#include "fcgi-app/handlers.h"

#include <inttypes.h>
#include <string.h>

#include "core/framework.h"
#include "core/operation.h"
#include "fcgi-app/app.h"
#include "fcgi-app/auth.h"
#include "fcgi-app/body.h"
#include "fcgi-app/page.h"
#include "fcgi-app/publish.h"
#include "fcgi-app/render.h"
#include "fcgi-app/request.h"
#include "fcgi-app/write.h"
#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/json.h"

#define PLUGINS_MAX 32
#define WORD_MAX 32

struct instance_fields {
	const char *name, *framework_type, *mode;
	int tier, status;
	int64_t ttl_seconds, replicas;
	const struct jval *config, *active_plugin_ids;
	int64_t version;
};

static const char *const tier_words[] = {[TIER_HOT] = "hot", [TIER_DEMAND] = "demand", NULL};
static const char *const status_words[] = {[STATUS_ACTIVE] = "active", [STATUS_SUSPENDED] = "suspended", NULL};

#define AT(member) .offset = offsetof(struct instance_fields, member)
#define NAME(flag)                                                                                                     \
	{                                                                                                              \
		.name = "name", .type = FIELD_TEXT, .flags = flag, AT(name), .min = 1, .max = INSTANCE_NAME_MAX        \
	}
#define MODE                                                                                                           \
	{                                                                                                              \
		.name = "mode", .type = FIELD_TEXT, AT(mode), .min = 1, .max = WORD_MAX                                \
	}
#define TIER                                                                                                           \
	{                                                                                                              \
		.name = "tier", .type = FIELD_WORD, AT(tier), .words = tier_words                                      \
	}
/* null: the organization's, which a new App and a change say differently */
#define TTL(null)                                                                                                      \
	{                                                                                                              \
		.name = "ttl_seconds", .type = FIELD_INT, .flags = FIELD_NULLABLE, AT(ttl_seconds), .min = 1,          \
		.max = INSTANCE_TTL_MAX, .null_value = null                                                            \
	}
#define REPLICAS                                                                                                       \
	{                                                                                                              \
		.name = "replicas", .type = FIELD_INT, AT(replicas), .min = 1, .max = INSTANCE_REPLICAS_MAX            \
	}
#define PLUGINS                                                                                                        \
	{                                                                                                              \
		.name = "active_plugin_ids", .type = FIELD_ARRAY, AT(active_plugin_ids), .max = PLUGINS_MAX            \
	}

static const struct field create_table[] = {
	NAME(FIELD_REQUIRED),
	{.name = "framework_type", .type = FIELD_TEXT, AT(framework_type), .min = 1, .max = WORD_MAX},
	MODE,
	TIER,
	{.name = "config", .type = FIELD_OBJECT, AT(config)},
	TTL(-1),
	REPLICAS,
	PLUGINS,
};
static const struct field change_table[] = {NAME(0), MODE, TIER, TTL(0), REPLICAS, PLUGINS};
static const struct field config_table[] = {
	{.name = "config", .type = FIELD_OBJECT, .flags = FIELD_REQUIRED, AT(config)},
};
static const struct field status_table[] = {
	{.name = "status", .type = FIELD_WORD, .flags = FIELD_REQUIRED, AT(status), .words = status_words},
};
static const struct field rollback_table[] = {
	{.name = "version", .type = FIELD_INT, .flags = FIELD_REQUIRED, AT(version), .min = 1, .max = UINT32_MAX},
};

/* --- checks that need more than one field --- */

static const char *canonical(struct request *req, const struct jval *v)
{
	const char *text = NULL;
	struct buf out;

	buf_init(&out, (size_t)16 * 1024 * 1024);
	jval_canonical(v, &out);
	if (!buf_has_failed(&out))
		text = arena_memdup(req->mem, buf_str(&out), out.len);
	buf_clear(&out);
	return text;
}

/* Plugins are not there yet, so no id names one. */
static void check_plugins(const struct jval *list, struct field_errors *errors)
{
	for (size_t i = 0; i < jval_array_len(list); i++) {
		const char *name = arena_printf(errors->mem, "active_plugin_ids[%zu]", i);
		fields_fail(errors, name ? name : "active_plugin_ids", "there is no such plugin");
	}
}

static void check_config(const struct framework *f, const struct jval *config, struct field_errors *errors)
{
	struct field_error found[FIELD_ERRORS_MAX];
	size_t count = f->check(config, found, FIELD_ERRORS_MAX);

	for (size_t i = 0; i < count && i < FIELD_ERRORS_MAX; i++)
		fields_fail_member(errors, found[i].field, found[i].member, found[i].reason);
}

static void check_mode(const struct framework *f, const char *mode, struct field_errors *errors)
{
	const char *names = "";

	if (framework_has_mode(f, mode))
		return;
	for (size_t i = 0; f->modes[i]; i++)
		names = arena_list(errors->mem, names, ", ", f->modes[i]);
	fields_fail(errors, "mode", arena_printf(errors->mem, "must be one of %s", names));
}

static void refuse_framework(struct field_errors *errors)
{
	const char *names = "";

	for (size_t i = 0; framework_at(i); i++)
		names = arena_list(errors->mem, names, ", ", framework_at(i)->name);
	fields_fail(errors, "framework_type", arena_printf(errors->mem, "must be one of %s", names));
}

/* A configuration's mistake that only the database can tell is a field's, as all others. */
static enum next refuse_write(struct response *res, const struct write *w, struct field_errors *errors)
{
	if (w->problem == PROBLEM_LLM_CONFIG_NOT_FOUND)
		fields_fail(errors, "config.llm_config_id", "there is no such LLM config in this organization");
	if (w->problem == PROBLEM_LLM_CONFIG_NOT_FOUND || w->problem == PROBLEM_INVALID)
		return refuse_fields(res, errors);
	return refuse(res, w->problem, NULL);
}

/* --- create --- */

struct create {
	struct instance instance;
	struct instance after;
};

static bool create_body(struct db *db, struct write *w, struct err *e)
{
	struct create *c = w->closure;

	w->target = c->instance.instance_id;
	if (!instance_create(db, &c->instance, &w->access.caller.token_id, &w->problem, e))
		return false;
	return w->problem != PROBLEM_NONE ||
	       instance_get(db, w->req->mem, &c->instance.instance_id, &c->after, &w->problem, e);
}

/* Fills in what was not given. False: the errors say why. */
static bool make_instance(struct request *req, const struct instance_fields *fields, struct field_errors *errors,
			  struct instance *ret_instance, struct jval **ret_empty)
{
	const struct framework *f = framework_find(fields->framework_type);
	const struct jval *config = fields->config ? fields->config : (*ret_empty = jval_new_object());

	if (!f) {
		refuse_framework(errors);
		return false;
	}
	*ret_instance = (struct instance){
		.instance_id = id_new(),
		.org_id = req->org_id,
		.name = fields->name,
		.framework_type = f->name,
		.mode = fields->mode ? fields->mode : f->modes[0],
		.tier = fields->tier < 0 ? TIER_DEMAND : (enum tier)fields->tier,
		.replicas = (uint32_t)fields->replicas,
		.ttl_seconds = fields->ttl_seconds,
		.config = canonical(req, config),
		.active_plugin_ids = "[]",
		.generation = 1,
	};
	check_mode(f, ret_instance->mode, errors);
	check_config(f, config, errors);
	check_plugins(fields->active_plugin_ids, errors);
	if (ret_instance->config)
		instance_config_hash(f->name, ret_instance->mode, ret_instance->config, ret_instance->active_plugin_ids,
				     ret_instance->config_hash);
	else
		fields_fail(errors, "config", "is too large");
	return errors->count == 0;
}

static enum next answer_instance(struct request *req, struct response *res, int status, const struct instance *instance,
				 const struct id *operation_id)
{
	struct jval *o = render_instance(instance);

	render_add_id(o, "operation_id", operation_id);
	if (status == 201)
		res->location = arena_printf(req->mem, "/api/orgs/%s/orchestrators/%s", instance->org_id.text,
					     instance->instance_id.text);
	return answer(res, status, o);
}

/* The connection was lost during COMMIT: is the App there? */
static enum next look_up_created(struct request *req, struct response *res, const struct instance *made)
{
	struct instance found;
	enum problem problem;
	struct db *db = NULL;
	struct err e = {0};
	bool ok = app_db_take(req->app, APP_ANY, &db, &e) &&
		  instance_get(db, req->mem, &made->instance_id, &found, &problem, &e);

	app_db_give(req->app, &db);
	if (ok && problem == PROBLEM_NONE)
		return answer_instance(req, res, 201, &found, &(struct id){""});
	/* Not found is no proof: the server may still be at it. */
	res->location =
		arena_printf(req->mem, "/api/orgs/%s/orchestrators/%s", req->org_id.text, made->instance_id.text);
	return refuse(res, PROBLEM_OUTCOME_UNKNOWN, NULL);
}

enum next h_instance_create(struct request *req, struct response *res, struct err *e)
{
	struct instance_fields fields = {
		.framework_type = FRAMEWORK_DEFAULT, .tier = -1, .ttl_seconds = -1, .replicas = 1};
	struct field_errors *errors = body_errors(req);
	struct jval *empty = NULL;
	struct create c = {0};
	struct write w;
	enum next next;

	if (!body_read(req, res, create_table, ARRAY_LEN(create_table), false, &fields, errors, &next, e))
		return next;
	bool is_good = make_instance(req, &fields, errors, &c.instance, &empty);
	jval_free(&empty);
	if (!is_good)
		return auth_refuse_fields(req, res, errors, e);
	write_init(&w, req, create_body, &c);
	switch (write_run(&w, e)) {
	case WRITE_DONE:
		return answer_instance(req, res, 201, &c.after, &(struct id){""});
	case WRITE_REFUSED:
		return refuse_write(res, &w, errors);
	case WRITE_FAILED:
		break;
	}
	return e->code == ERR_UNCERTAIN ? look_up_created(req, res, &c.instance) : NEXT_FAIL;
}

/* --- change --- */

struct change {
	const struct instance_fields *fields;
	struct instance_change change;
	struct id operation_id; /* should one be needed */
	struct field_errors *errors;
	struct instance_changed changed;
	struct instance after;
};

/* What only the stored framework can tell. */
static void check_against_row(struct change *c, const struct instance *current)
{
	const struct framework *f = framework_find(current->framework_type);

	c->errors->count = 0;
	if (c->fields->config && f)
		check_config(f, c->fields->config, c->errors);
	if (c->change.mode && f)
		check_mode(f, c->change.mode, c->errors);
	check_plugins(c->fields->active_plugin_ids, c->errors);
}

/* Makes what the version says the change, and checks it as what a client sent: much may have changed since. */
static bool take_version(struct db *db, struct write *w, struct err *e)
{
	struct change *c = w->closure;
	struct version v;

	if (!version_get(db, w->req->mem, &w->req->instance_id, c->change.of_version, &v, &w->problem, e))
		return false;
	if (w->problem != PROBLEM_NONE)
		return true;
	c->change.mode = v.mode;
	c->change.config = v.config;
	c->change.active_plugin_ids = v.active_plugin_ids;
	struct jval *config = render_stored(v.config), *plugins = render_stored(v.active_plugin_ids);
	const struct instance_fields fields = {.config = config, .active_plugin_ids = plugins};
	c->fields = &fields;
	check_against_row(c, &w->access.instance);
	c->fields = NULL;
	jval_free(&config);
	jval_free(&plugins);
	return true;
}

static bool change_body(struct db *db, struct write *w, struct err *e)
{
	struct change *c = w->closure;

	/* A suspended org changes nothing; it may only take away. */
	if (w->access.org.status == STATUS_SUSPENDED && !c->change.is_delete && c->change.status != STATUS_SUSPENDED) {
		w->problem = PROBLEM_ORG_SUSPENDED;
		return true;
	}
	if (c->change.of_version == 0)
		check_against_row(c, &w->access.instance);
	else if (!take_version(db, w, e))
		return false;
	if (w->problem == PROBLEM_NONE && c->errors->count > 0)
		w->problem = PROBLEM_INVALID;
	if (w->problem != PROBLEM_NONE)
		return true;
	c->change.token_id = w->access.caller.token_id;
	if (!instance_apply(db, &w->access.instance, &c->change, &c->operation_id, w->req->request_id, &c->changed,
			    &w->problem, e))
		return false;
	return w->problem != PROBLEM_NONE ||
	       instance_get(db, w->req->mem, &w->req->instance_id, &c->after, &w->problem, e);
}

static void publish(struct request *req, const struct change *c)
{
	const enum source source =
		c->change.status >= 0 || c->change.is_delete ? SOURCE_STATUS_CHANGE : SOURCE_CONFIG_CHANGE;
	const struct instance_changed *changed = &c->changed;
	const struct operation op = {
		.operation_id = changed->operation_id,
		.instance_id = c->after.instance_id,
		.org_id = c->after.org_id,
		.action = changed->action,
		.tier = c->after.tier,
		.generation = changed->generation,
		.source = source,
		.request_id = req->request_id,
	};

	if (!changed->is_changed)
		return;
	if (id_is_set(&changed->operation_id))
		(void)publish_operation(req->app, &op, changed->use_loads);
	if (!id_is_set(&changed->operation_id) || changed->use_loads) /* whoever holds a copy shall look as well */
		(void)publish_change(req->app, &op.org_id, &op.instance_id, op.action, source, req->request_id);
}

/* The connection was lost during COMMIT. Only an operation that is found is proof. */
static enum next look_up_changed(struct request *req, struct response *res, const struct change *c)
{
	enum problem problem = PROBLEM_OUTCOME_UNKNOWN;
	struct operation op;
	struct instance found;
	struct db *db = NULL;
	struct err e = {0};
	bool ok = app_db_take(req->app, APP_ANY, &db, &e) &&
		  operation_get(db, req->mem, &req->org_id, &c->operation_id, &op, &problem, &e) &&
		  problem == PROBLEM_NONE && instance_get(db, req->mem, &req->instance_id, &found, &problem, &e) &&
		  problem == PROBLEM_NONE;

	app_db_give(req->app, &db);
	if (ok)
		return answer_instance(req, res, 200, &found, &op.operation_id);
	res->location =
		arena_printf(req->mem, "/api/orgs/%s/orchestrators/%s", req->org_id.text, req->instance_id.text);
	return refuse(res, PROBLEM_OUTCOME_UNKNOWN, NULL);
}

static enum next apply(struct request *req, struct response *res, struct change *c, struct err *e)
{
	struct write w;

	c->operation_id = id_new();
	write_init(&w, req, change_body, c);
	w.ask.with_config = true;
	w.ask.lock_instance = true;
	/* Whatever may raise the count of hot Apps that are held locks the org, which counts them. */
	w.ask.lock_org = c->change.tier == TIER_HOT || c->change.status == STATUS_ACTIVE;
	if (c->change.of_version > 0)
		w.audit_detail = arena_printf(req->mem, "version=%" PRIu32, c->change.of_version);
	switch (write_run(&w, e)) {
	case WRITE_DONE:
		publish(req, c);
		return answer_instance(req, res, 200, &c->after, &c->changed.operation_id);
	case WRITE_REFUSED:
		return refuse_write(res, &w, c->errors);
	case WRITE_FAILED:
		break;
	}
	return e->code == ERR_UNCERTAIN ? look_up_changed(req, res, c) : NEXT_FAIL;
}

/* Reads the body by the table and applies what it says. */
static enum next change_by(struct request *req, struct response *res, const struct field *table, size_t count,
			   struct err *e)
{
	struct instance_fields fields = {.tier = -1, .status = -1, .ttl_seconds = -1, .replicas = -1};
	struct change c = {.fields = &fields, .errors = body_errors(req)};
	enum next next;

	if (!body_read(req, res, table, count, false, &fields, c.errors, &next, e))
		return next;
	c.change = (struct instance_change){
		.name = fields.name,
		.tier = fields.tier,
		.ttl_seconds = fields.ttl_seconds,
		.replicas = fields.replicas,
		.mode = fields.mode,
		.config = fields.config ? canonical(req, fields.config) : NULL,
		.active_plugin_ids = fields.active_plugin_ids ? canonical(req, fields.active_plugin_ids) : NULL,
		.status = fields.status,
	};
	return apply(req, res, &c, e);
}

enum next h_instance_change(struct request *req, struct response *res, struct err *e)
{
	return change_by(req, res, change_table, ARRAY_LEN(change_table), e);
}

enum next h_instance_config(struct request *req, struct response *res, struct err *e)
{
	return change_by(req, res, config_table, ARRAY_LEN(config_table), e);
}

enum next h_instance_status(struct request *req, struct response *res, struct err *e)
{
	return change_by(req, res, status_table, ARRAY_LEN(status_table), e);
}

enum next h_instance_delete(struct request *req, struct response *res, struct err *e)
{
	const struct instance_fields none = {0};
	struct change c = {
		.fields = &none,
		.errors = body_errors(req),
		.change = {.tier = -1, .ttl_seconds = -1, .replicas = -1, .status = -1, .is_delete = true},
	};

	if (!c.errors)
		return refuse(res, PROBLEM_INTERNAL, NULL);
	return apply(req, res, &c, e);
}

enum next h_instance_rollback(struct request *req, struct response *res, struct err *e)
{
	struct instance_fields fields = {0};
	struct change c = {
		.errors = body_errors(req),
		.change = {.tier = -1, .ttl_seconds = -1, .replicas = -1, .status = -1},
	};
	enum next next;

	if (!body_read(req, res, rollback_table, ARRAY_LEN(rollback_table), false, &fields, c.errors, &next, e))
		return next;
	c.change.of_version = (uint32_t)fields.version;
	return apply(req, res, &c, e);
}

/* --- read --- */

enum next h_instance_get(struct request *req, struct response *res, struct err *e)
{
	struct instance instance;
	enum problem problem;
	struct visit v = {0};
	enum next next;

	if (!auth_enter(req, res, &v, &next, e))
		goto out;
	next = NEXT_FAIL;
	if (!instance_get(v.db, req->mem, &req->instance_id, &instance, &problem, e))
		goto out;
	if (problem == PROBLEM_NONE)
		next = answer(res, 200, render_instance(&instance));
	else
		next = refuse(res, problem, NULL);
out:
	auth_leave(req, &v);
	return next;
}

enum next h_instance_list(struct request *req, struct response *res, struct err *e)
{
	struct instance *list = NULL;
	unsigned count = 0;
	struct page page;
	struct visit v = {0};
	enum next next;

	if (!auth_enter(req, res, &v, &next, e) || !page_read(req, res, &page, &next))
		goto out;
	next = NEXT_FAIL;
	if (!instance_list(v.db, req->mem, &req->org_id, page_after(&page), page.limit + 1, &list, &count, e))
		goto out;
	struct jval *items = jval_new_array();
	unsigned shown = count > page.limit ? page.limit : count;
	for (unsigned i = 0; i < shown; i++)
		jval_push(items, render_instance(&list[i]));
	next = answer(res, 200, render_page(items, count > shown ? &list[shown - 1].instance_id : NULL));
out:
	auth_leave(req, &v);
	return next;
}
