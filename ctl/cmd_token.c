/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hearthctl token create, token list, token revoke. A new token is printed once,
 * alone on stdout, so that a script can keep it; the database has its hash only.
 */
#include "ctl/ctl.h"

#include <stdio.h>
#include <string.h>

#include "core/token.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/secret.h"

#define PAGE 500
#define DATETIME_SIZE 24 /* "2026-01-02 03:04:05.678" and its NUL */

/* --- create --- */

enum { CREATE_ORG, CREATE_ROLE, CREATE_EXPIRES };

struct creation {
	struct token token;
	uint8_t hash[SECRET_HASH_BYTES];
	char expires_at[DATETIME_SIZE]; /* as the column wants it */
	char expires_json[CLOCK_RFC3339_SIZE];
};

/* Role and org belong together: a sys_admin has no org, all others have one. */
static bool read_role(const struct ctl_args *args, struct token *token)
{
	const char *role = args->values[CREATE_ROLE], *org = args->values[CREATE_ORG];

	if (!role) {
		ctl_usage(args, "--role is missing: member, org_admin or sys_admin");
		return false;
	}
	if (!role_parse(role, &token->role)) {
		ctl_usage(args, "--role: '%s' is not member, org_admin or sys_admin", role);
		return false;
	}
	if (token->role == ROLE_SYS_ADMIN && org) {
		ctl_usage(args, "a sys_admin belongs to no organization: leave --org away");
		return false;
	}
	if (token->role != ROLE_SYS_ADMIN && !org) {
		ctl_usage(args, "role %s needs --org ID ('hearthctl org list' shows them)", role);
		return false;
	}
	return !org || ctl_id(args, org, &token->org_id);
}

static bool read_expiry(const struct ctl_args *args, struct creation *c)
{
	const char *text = args->values[CREATE_EXPIRES];
	int64_t unix_ms;

	if (!text)
		return true;
	if (!clock_parse_rfc3339(text, &unix_ms) || unix_ms <= clock_unix_ms()) {
		ctl_usage(args, "--expires: '%s' is not a time to come, like 2030-01-31T12:00:00Z", text);
		return false;
	}
	clock_rfc3339(unix_ms, c->expires_json);
	memcpy(c->expires_at, c->expires_json, DATETIME_SIZE - 1);
	c->expires_at[10] = ' ';
	c->token.expires_at = c->expires_at;
	return true;
}

static bool create_body(struct db *db, void *closure, enum problem *ret_problem, struct err *e)
{
	const struct creation *c = closure;

	return token_create(db, &c->token, c->hash, ret_problem, e);
}

static void print_token(const struct ctl *ctl, const struct creation *c, const char *text)
{
	const struct token *t = &c->token;

	if (!ctl->json) {
		fprintf(stderr, "hearthctl: token %s, role %s; it is shown only now\n", t->token_id.text,
			role_name(t->role));
		printf("%s\n", text);
		return;
	}
	struct jval *o = jval_new_object();
	jval_add_string(o, "token_id", t->token_id.text);
	jval_add_string(o, "token", text);
	jval_add_string(o, "name", t->name);
	jval_add_string(o, "role", role_name(t->role));
	jval_add_string(o, "org_id", id_is_set(&t->org_id) ? t->org_id.text : NULL);
	jval_add_string(o, "expires_at", t->expires_at ? c->expires_json : NULL);
	ctl_print_json(&o);
}

static enum ctl_exit create(struct ctl *ctl, const struct ctl_args *args)
{
	struct creation c = {.token = {.token_id = id_new(), .name = args->operand}};
	char text[SECRET_TOKEN_SIZE];

	if (!ctl_name(args, TOKEN_NAME_MAX) || !read_role(args, &c.token) || !read_expiry(args, &c))
		return CTL_USAGE;
	struct ctl_change change = {
		.action = "token.create",
		.doing = "making token",
		.org_id = c.token.org_id,
		.target = c.token.token_id,
		.text = c.token.name,
		.body = create_body,
		.closure = &c,
	};
	enum ctl_exit status = ctl_connect(ctl, true);
	if (status != CTL_OK)
		return status;
	secret_token_new(text);
	secret_hash(text, SECRET_TOKEN_LEN, c.hash);
	status = ctl_change_run(ctl, &change);
	if (status == CTL_OK)
		print_token(ctl, &c, text);
	secret_wipe(text, sizeof(text));
	return status;
}

/* --- list --- */

enum { LIST_ORG };

static struct jval *token_json(const struct token *t)
{
	struct jval *o = jval_new_object();

	jval_add_string(o, "token_id", t->token_id.text);
	jval_add_string(o, "name", t->name);
	jval_add_string(o, "role", role_name(t->role));
	jval_add_string(o, "org_id", id_is_set(&t->org_id) ? t->org_id.text : NULL);
	jval_add_string(o, "created_at", t->created_at);
	jval_add_string(o, "expires_at", t->expires_at);
	jval_add_string(o, "revoked_at", t->revoked_at);
	jval_add_string(o, "last_used_at", t->last_used_at);
	return o;
}

static const char *or_dash(const char *s)
{
	return s ? s : "-";
}

static void print_token_row(const struct token *t)
{
	printf("%-36s  %-9s  %-24s  %-24s  %-24s  %s\n", t->token_id.text, role_name(t->role), or_dash(t->expires_at),
	       or_dash(t->revoked_at), or_dash(t->last_used_at), t->name);
}

/* items NULL: as lines. */
static bool list_all(struct ctl *ctl, const struct id *org_id, struct jval *items, struct err *e)
{
	struct id after = {""};
	struct token *tokens;
	unsigned count;

	do {
		arena_clear(ctl->mem);
		if (!token_list(ctl->db, ctl->mem, org_id, &after, PAGE, &tokens, &count, e))
			return false;
		for (unsigned i = 0; i < count; i++) {
			if (items)
				jval_push(items, token_json(&tokens[i]));
			else
				print_token_row(&tokens[i]);
			after = tokens[i].token_id;
		}
	} while (count == PAGE);
	return true;
}

static enum ctl_exit list(struct ctl *ctl, const struct ctl_args *args)
{
	struct jval *o = NULL, *items = NULL;
	struct id org_id = {""};
	struct err e = {0};

	if (args->values[LIST_ORG] && !ctl_id(args, args->values[LIST_ORG], &org_id))
		return CTL_USAGE;
	enum ctl_exit status = ctl_connect(ctl, true);
	if (status != CTL_OK)
		return status;
	if (ctl->json) {
		o = jval_new_object();
		items = jval_new_array();
		jval_add(o, "items", items);
	} else {
		printf("%-36s  %-9s  %-24s  %-24s  %-24s  %s\n", "TOKEN", "ROLE", "EXPIRES", "REVOKED", "LAST USED",
		       "NAME");
	}
	if (!list_all(ctl, &org_id, items, &e))
		status = ctl_fail("token list", &e);
	else if (ctl->json)
		ctl_print_json(&o);
	jval_free(&o);
	return status;
}

/* --- revoke --- */

static bool revoke_body(struct db *db, void *closure, enum problem *ret_problem, struct err *e)
{
	return token_revoke(db, NULL, closure, ret_problem, e);
}

static enum ctl_exit revoke(struct ctl *ctl, const struct ctl_args *args)
{
	struct id token_id;

	if (!ctl_id(args, args->operand, &token_id))
		return CTL_USAGE;
	struct ctl_change change = {
		.action = "token.revoke",
		.doing = "revoking token",
		.target = token_id,
		.text = token_id.text,
		.body = revoke_body,
		.closure = &token_id,
	};
	enum ctl_exit status = ctl_connect(ctl, true);
	if (status == CTL_OK)
		status = ctl_change_run(ctl, &change);
	if (status == CTL_OK && ctl->json) {
		struct jval *o = jval_new_object();
		jval_add_string(o, "token_id", token_id.text);
		jval_add_bool(o, "revoked", true);
		ctl_print_json(&o);
	}
	return status;
}

const struct ctl_command ctl_token_commands[] = {
	{
		.noun = "token",
		.verb = "create",
		.operand = "NAME",
		.help = "make an API token; prints it, once",
		.options =
			{
				[CREATE_ORG] = {"org", "ID", "its organization (member and org_admin)"},
				[CREATE_ROLE] = {"role", "ROLE", "member, org_admin or sys_admin"},
				[CREATE_EXPIRES] = {"expires", "TIME", "as in 2030-01-31T12:00:00Z (default: never)"},
			},
		.run = create,
	},
	{
		.noun = "token",
		.verb = "list",
		.help = "show the tokens of an organization, or those of the sys_admins",
		.options = {[LIST_ORG] = {"org", "ID", "the organization (default: the sys_admins' tokens)"}},
		.run = list,
	},
	{.noun = "token", .verb = "revoke", .operand = "TOKEN_ID", .help = "end a token's validity", .run = revoke},
	{.noun = NULL},
};
