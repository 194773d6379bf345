/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values from the command line, the connection, audited changes, messages. Who
 * made a change is the system's user: hearthctl has no token, it is whoever may
 * read the database's password.
 */
#include "ctl/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/schema.h"
#include "lib/json.h"

#define AUDIT_ROLE "ctl"

/* --- values --- */

enum ctl_exit ctl_usage(const struct ctl_args *args, const char *fmt, ...)
{
	const struct ctl_command *c = args->command;
	va_list ap;

	fprintf(stderr, "hearthctl: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nTry 'hearthctl %s%s%s --help'.\n", c->noun, c->verb ? " " : "", c->verb ? c->verb : "");
	return CTL_USAGE;
}

bool ctl_number(const struct ctl_args *args, unsigned option, int64_t min, int64_t max, int64_t *ret_n)
{
	const char *text = args->values[option];
	char *end;

	if (!text)
		return true;
	errno = 0;
	long long n = strtoll(text, &end, 10);
	if (end == text || *end || errno == ERANGE || n < min || n > max) {
		ctl_usage(args, "--%s: '%s' is not a whole number from %" PRId64 " to %" PRId64,
			  args->command->options[option].name, text, min, max);
		return false;
	}
	*ret_n = n;
	return true;
}

bool ctl_name(const struct ctl_args *args, size_t chars_max)
{
	const char *name = args->operand;
	size_t len = strlen(name), chars = 0;
	bool ok = utf8_is_valid(name, len);

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];
		chars += (c & 0xc0) != 0x80;
		ok = ok && c >= 0x20 && c != 0x7f;
	}
	if (ok && chars > 0 && chars <= chars_max)
		return true;
	ctl_usage(args, "%s must be 1 to %zu characters of UTF-8, without control characters", args->command->operand,
		  chars_max);
	return false;
}

bool ctl_id(const struct ctl_args *args, const char *text, struct id *ret_id)
{
	if (id_parse(text, strlen(text), ret_id))
		return true;
	ctl_usage(args, "'%s' is not an id: a UUID in lower case", text);
	return false;
}

/* --- messages --- */

enum ctl_exit ctl_fail(const char *what, const struct err *e)
{
	fprintf(stderr, "hearthctl: %s: %s\n", what, e->text);
	switch (e->code) {
	case ERR_DOWN:
	case ERR_DENIED:
		return CTL_NO_DATABASE;
	case ERR_UNCERTAIN:
		fprintf(stderr, "hearthctl: it may have been done: look before you repeat it\n");
		return CTL_UNCERTAIN;
	default:
		return CTL_FAILED;
	}
}

void ctl_print_json(struct jval **object)
{
	printf("%s\n", jval_text(*object, NULL));
	jval_free(object);
}

/* --- the database --- */

/* "database hearth on db1:3306 as user hearth_ctl" */
static enum ctl_exit fail_open(const struct db_options *o, const struct err *e)
{
	char what[400], port[16] = "";

	if (!o->socket)
		(void)snprintf(port, sizeof(port), ":%u", o->port);
	(void)snprintf(what, sizeof(what), "database %s on %s%s as user %s", o->database,
		       o->socket ? o->socket : o->host, port, o->user ? o->user : "?");
	enum ctl_exit status = ctl_fail(what, e);
	if (e->code == ERR_MISSING)
		fprintf(stderr, "hearthctl: make it first: CREATE DATABASE %s CHARACTER SET utf8mb4\n", o->database);
	return e->code == ERR_MISSING ? CTL_NO_DATABASE : status;
}

enum ctl_exit ctl_connect(struct ctl *ctl, bool with_schema)
{
	struct db_options options;
	struct err e = {0};

	settings_db_options(&ctl->settings, SETTINGS_CTL, &options);
	if (!db_open(&options, &ctl->db, &e))
		return fail_open(&options, &e);
	if (!with_schema || schema_check(ctl->db, &e))
		return CTL_OK;
	enum ctl_exit status = ctl_fail("schema", &e);
	return e.code == ERR_MISSING || e.code == ERR_CONFLICT ? CTL_WRONG_SCHEMA : status;
}

/* --- changes --- */

struct running_change {
	const struct ctl_change *change;
	enum problem problem;
};

/* The name that was logged in with, also behind sudo. */
static void describe(const struct ctl_change *change, char *ret_detail, size_t size)
{
	const struct passwd *pw = getpwuid(getuid());
	const char *sudo = getuid() == 0 ? getenv("SUDO_USER") : NULL;
	const char *user = sudo && *sudo ? sudo : pw ? pw->pw_name : "?";

	(void)snprintf(ret_detail, size, "by %s: %s", user, change->text);
}

static bool run_body(struct db *db, void *closure, struct err *e)
{
	struct running_change *r = closure;
	const struct ctl_change *c = r->change;
	char detail[600];

	if (!c->body(db, c->closure, &r->problem, e))
		return false;
	describe(c, detail, sizeof(detail));
	const struct audit_entry entry = {
		.org_id = r->problem == PROBLEM_NONE ? c->org_id : (struct id){""},
		.role = AUDIT_ROLE,
		.action = c->action,
		.target = id_is_set(&c->target) ? c->target.text : NULL,
		.result = r->problem,
		.detail = detail,
	};
	return audit_write(db, &entry, e);
}

enum ctl_exit ctl_change_run(struct ctl *ctl, const struct ctl_change *change)
{
	struct running_change r = {.change = change};
	struct err e = {0};
	char what[600];

	(void)snprintf(what, sizeof(what), "%s %s", change->doing, change->text);
	if (!db_transaction(ctl->db, run_body, &r, &e))
		return ctl_fail(what, &e);
	if (r.problem == PROBLEM_NONE)
		return CTL_OK;
	fprintf(stderr, "hearthctl: %s: %s (%s)\n", what, problem_title(r.problem), problem_code(r.problem));
	return CTL_FAILED;
}
