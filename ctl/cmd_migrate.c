/* SPDX-License-Identifier: Apache-2.0 */
/* hearthctl migrate: brings the schema to this program's version. A second run changes nothing. */
#include "ctl/ctl.h"

#include <stdio.h>

#include "core/schema.h"
#include "lib/json.h"

static void report(const char *file)
{
	fprintf(stderr, "hearthctl: applied %s\n", file);
}

/* The log is there only now; what was applied is in schema_migrations anyway. */
static bool nothing_more(struct db *db, void *closure, enum problem *ret_problem, struct err *e)
{
	(void)db;
	(void)closure;
	(void)e;
	*ret_problem = PROBLEM_NONE;
	return true;
}

static enum ctl_exit record(struct ctl *ctl, unsigned applied)
{
	char text[64];
	struct ctl_change change = {
		.action = "schema.migrate", .doing = "recording schema", .text = text, .body = nothing_more};

	(void)snprintf(text, sizeof(text), "version %d, %u applied", SCHEMA_VERSION, applied);
	return ctl_change_run(ctl, &change);
}

static enum ctl_exit migrate(struct ctl *ctl, const struct ctl_args *args)
{
	unsigned applied = 0;
	struct err e = {0};

	(void)args;
	enum ctl_exit status = ctl_connect(ctl, false);
	if (status != CTL_OK)
		return status;
	if (!schema_migrate(ctl->db, ctl->settings.ctl.schema_dir, report, &applied, &e))
		return ctl_fail("migrate", &e);
	if (!schema_check(ctl->db, &e)) {
		(void)ctl_fail(ctl->settings.ctl.schema_dir, &e);
		return CTL_WRONG_SCHEMA;
	}
	if (applied > 0)
		status = record(ctl, applied);
	if (ctl->json) {
		struct jval *o = jval_new_object();
		jval_add_int(o, "version", SCHEMA_VERSION);
		jval_add_int(o, "applied", applied);
		ctl_print_json(&o);
	} else {
		printf("schema version %d, %u applied\n", SCHEMA_VERSION, applied);
	}
	return status;
}

const struct ctl_command ctl_migrate_commands[] = {
	{.noun = "migrate", .help = "make or upgrade the database's tables", .run = migrate},
	{.noun = NULL},
};
