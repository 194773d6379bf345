/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tokens: of an organization under its own path, of sys_admins under
 * /api/admin. The token itself is made here, shown once in the answer, and wiped;
 * only its hash goes anywhere else.
 */
#include "fcgi-app/handlers.h"

#include <string.h>

#include "core/permission.h"
#include "core/token.h"
#include "fcgi-app/app.h"
#include "fcgi-app/auth.h"
#include "fcgi-app/body.h"
#include "fcgi-app/page.h"
#include "fcgi-app/publish.h"
#include "fcgi-app/render.h"
#include "fcgi-app/request.h"
#include "fcgi-app/router.h"
#include "fcgi-app/write.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/json.h"

struct token_fields {
	const char *name;
	int role;
	int64_t expires_unix_ms; /* -1: never */
};

static const char *const role_words[] = {
	[ROLE_MEMBER] = "member", [ROLE_ORG_ADMIN] = "org_admin", [ROLE_SYS_ADMIN] = "sys_admin", NULL};

#define AT(member) .offset = offsetof(struct token_fields, member)

static const struct field create_table[] = {
	{.name = "name", .type = FIELD_TEXT, .flags = FIELD_REQUIRED, AT(name), .min = 1, .max = TOKEN_NAME_MAX},
	{.name = "role", .type = FIELD_WORD, AT(role), .words = role_words},
	{.name = "expires_at", .type = FIELD_TIME, .flags = FIELD_NULLABLE, AT(expires_unix_ms), .null_value = -1},
};

struct create {
	struct token token;
	uint8_t hash[SECRET_HASH_BYTES];
};

static bool create_body(struct db *db, struct write *w, struct err *e)
{
	struct create *c = w->closure;

	w->target = c->token.token_id;
	w->audit_detail = role_name(c->token.role);
	if (!role_may_grant(w->access.caller.role, c->token.role)) {
		w->problem = PROBLEM_FORBIDDEN;
		return true;
	}
	return token_create(db, &c->token, c->hash, &w->problem, e);
}

/* The role belongs to the path: org tokens are below sys_admin, the others are sys_admin. */
static void check_fields(const struct request *req, struct token_fields *fields, struct field_errors *errors)
{
	bool is_org = route_has_org(req->route);

	if (fields->role < 0 && !is_org)
		fields->role = ROLE_SYS_ADMIN;
	if (fields->role < 0)
		fields_fail(errors, "role", "is required");
	else if (!is_org && fields->role != ROLE_SYS_ADMIN)
		fields_fail(errors, "role",
			    "must be sys_admin here; tokens of an organization are made under its own path");
	if (fields->expires_unix_ms >= 0 && fields->expires_unix_ms <= clock_unix_ms())
		fields_fail(errors, "expires_at", "must be in the future");
}

/* "2026-01-02T03:04:05.678Z", and "2026-01-02 03:04:05.678" for the database. */
static void write_times(struct request *req, int64_t unix_ms, const char **ret_rfc3339, const char **ret_sql)
{
	char text[CLOCK_RFC3339_SIZE];

	*ret_rfc3339 = *ret_sql = NULL;
	if (unix_ms < 0)
		return;
	clock_rfc3339(unix_ms, text);
	*ret_rfc3339 = arena_strdup(req->mem, text);
	text[10] = ' ';
	text[CLOCK_RFC3339_SIZE - 2] = '\0';
	*ret_sql = arena_strdup(req->mem, text);
}

static enum next answer_created(struct request *req, struct response *res, const struct token *token,
				const char *secret)
{
	struct jval *o = jval_new_object();
	const bool is_org = id_is_set(&token->org_id);

	jval_add_string(o, "token_id", token->token_id.text);
	jval_add_string(o, "token", secret);
	jval_add_string(o, "name", token->name);
	jval_add_string(o, "role", role_name(token->role));
	render_add_id(o, "org_id", &token->org_id);
	jval_add_string(o, "expires_at", token->expires_at);
	if (is_org)
		res->location =
			arena_printf(req->mem, "/api/orgs/%s/tokens/%s", token->org_id.text, token->token_id.text);
	else
		res->location = arena_printf(req->mem, "/api/admin/tokens/%s", token->token_id.text);
	return answer(res, 201, o);
}

static enum next create(struct request *req, struct response *res, const struct token_fields *fields, struct err *e)
{
	struct create c = {.token = {.token_id = id_new(),
				     .org_id = req->org_id,
				     .name = fields->name,
				     .role = (enum role)fields->role}};
	char secret[SECRET_TOKEN_SIZE];
	enum next next = NEXT_FAIL;
	const char *rfc3339;
	struct write w;

	write_times(req, fields->expires_unix_ms, &rfc3339, &c.token.expires_at);
	secret_token_new(secret);
	secret_hash(secret, SECRET_TOKEN_LEN, c.hash);
	write_init(&w, req, create_body, &c);
	switch (write_run(&w, e)) {
	case WRITE_DONE:
		c.token.expires_at = rfc3339;
		next = answer_created(req, res, &c.token, secret);
		break;
	case WRITE_REFUSED:
		next = refuse(res, w.problem, NULL);
		break;
	case WRITE_FAILED: /* where it is uncertain the token may be there, but nobody knows it: harmless */
		break;
	}
	secret_wipe(secret, sizeof(secret));
	return next;
}

/* For an org token the role sys_admin is refused by right (403) before it is refused as a value. */
static enum next refuse_sys_admin(struct request *req, struct response *res, struct field_errors *errors, struct err *e)
{
	struct visit v = {0};
	enum next next;

	if (auth_enter(req, res, &v, &next, e)) {
		fields_fail(errors, "role",
			    "must be member or org_admin here; sys_admin tokens are made under /api/admin/tokens");
		if (role_may_grant(v.access.caller.role, ROLE_SYS_ADMIN))
			next = refuse_fields(res, errors);
		else
			next = refuse(res, PROBLEM_FORBIDDEN, "Nobody makes a token above the own role.");
	}
	auth_leave(req, &v);
	return next;
}

enum next h_token_create(struct request *req, struct response *res, struct err *e)
{
	struct token_fields fields = {.role = -1, .expires_unix_ms = -1};
	struct field_errors *errors = body_errors(req);
	enum next next;

	if (!body_read(req, res, create_table, ARRAY_LEN(create_table), false, &fields, errors, &next, e))
		return next;
	check_fields(req, &fields, errors);
	if (errors->count > 0)
		return auth_refuse_fields(req, res, errors, e);
	if (route_has_org(req->route) && fields.role == ROLE_SYS_ADMIN)
		return refuse_sys_admin(req, res, errors, e);
	return create(req, res, &fields, e);
}

enum next h_token_list(struct request *req, struct response *res, struct err *e)
{
	struct token *tokens = NULL;
	unsigned count = 0;
	struct page page;
	struct visit v = {0};
	enum next next;

	if (!auth_enter(req, res, &v, &next, e) || !page_read(req, res, &page, &next))
		goto out;
	next = NEXT_FAIL;
	if (!token_list(v.db, req->mem, &req->org_id, page_after(&page), page.limit + 1, &tokens, &count, e))
		goto out;
	struct jval *items = jval_new_array();
	unsigned shown = count > page.limit ? page.limit : count;
	for (unsigned i = 0; i < shown; i++)
		jval_push(items, render_token(&tokens[i]));
	next = answer(res, 200, render_page(items, count > shown ? &tokens[shown - 1].token_id : NULL));
out:
	auth_leave(req, &v);
	return next;
}

static bool revoke_body(struct db *db, struct write *w, struct err *e)
{
	const struct request *req = w->req;

	w->target = req->item_id;
	if (!id_is_set(&req->item_id)) {
		w->problem = PROBLEM_TOKEN_NOT_FOUND;
		return true;
	}
	return token_revoke(db, route_has_org(req->route) ? &req->org_id : NULL, &req->item_id, &w->problem, e);
}

/*
 * Every app process forgets what it knew of the org's tokens. A sys_admin's token may be known under every org; for it
 * only our own cache is emptied and the second that others may keep it is waited out, as a change event of all orgs
 * would make every worker compare everything.
 */
static void tell_everyone(struct request *req)
{
	if (route_has_org(req->route))
		(void)publish_change(req->app, &req->org_id, &(struct id){""}, ACTION_RELOAD, SOURCE_CONFIG_CHANGE,
				     req->request_id);
	else
		publish_forget(req->app);
}

enum next h_token_revoke(struct request *req, struct response *res, struct err *e)
{
	struct write w;

	write_init(&w, req, revoke_body, NULL);
	switch (write_run(&w, e)) {
	case WRITE_DONE:
		tell_everyone(req);
		return answer(res, 204, NULL);
	case WRITE_REFUSED:
		return refuse(res, w.problem, NULL);
	case WRITE_FAILED:
		break;
	}
	return NEXT_FAIL;
}
