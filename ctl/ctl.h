/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the commands of hearthctl share. A command is one row of a table: its
 * words, its operand, its options, its function. main.c finds the row, reads the
 * command line by it, loads the configuration and calls the function, which
 * checks its values first and connects then.
 *
 * stdout carries results only, stderr everything else. With --json a result is
 * one JSON object on one line. To add a command: a row in a cmd_<noun>.c, its
 * table in main.c, docs/hearthctl.8.md.
 */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <stdbool.h>
#include <stdint.h>

#include "core/audit.h"
#include "core/problem.h"
#include "core/settings.h"
#include "lib/db.h"
#include "lib/err.h"
#include "lib/macros.h"

struct arena;
struct jval;

enum ctl_exit {
	CTL_OK,
	CTL_FAILED,       /* refused, or failed otherwise */
	CTL_USAGE,        /* the command line is wrong */
	CTL_NO_DATABASE,  /* not reachable, or it refuses the login */
	CTL_NO_BUS,       /* not reachable (status) */
	CTL_WRONG_SCHEMA, /* older or newer than this program */
	CTL_UNCERTAIN     /* the connection was lost during a commit: look before repeating */
};

#define CTL_OPTIONS_MAX 8

struct ctl_option {
	const char *name;  /* "ttl" */
	const char *value; /* how usage calls it: "SECONDS"; NULL: it takes none, and is "" where it was given */
	const char *help;
};

struct ctl {
	struct settings settings;
	bool json;
	struct arena *mem; /* for one page or one command */
	struct db *db;     /* NULL before ctl_connect */
};

struct ctl_args {
	const struct ctl_command *command;
	const char *operand;                 /* NULL: the command takes none */
	const char *values[CTL_OPTIONS_MAX]; /* by the place in options; NULL: not given */
};

struct ctl_command {
	const char *noun, *verb; /* verb NULL: the noun is all */
	const char *operand;     /* "NAME"; NULL: none */
	const char *help;
	struct ctl_option options[CTL_OPTIONS_MAX]; /* ended by one without a name */
	enum ctl_exit (*run)(struct ctl *ctl, const struct ctl_args *args);
};

/* Each ended by a row without a noun. */
extern const struct ctl_command ctl_migrate_commands[];
extern const struct ctl_command ctl_org_commands[];
extern const struct ctl_command ctl_token_commands[];
extern const struct ctl_command ctl_keys_commands[];
extern const struct ctl_command ctl_status_commands[];

/* --- values: false says on stderr what is wrong; end with CTL_USAGE then --- */

bool ctl_number(const struct ctl_args *args, unsigned option, int64_t min, int64_t max, int64_t *ret_n) MUST_CHECK;
/* A name for people: UTF-8, 1 to chars_max characters, no control characters. */
bool ctl_name(const struct ctl_args *args, size_t chars_max) MUST_CHECK;
bool ctl_id(const struct ctl_args *args, const char *text, struct id *ret_id) MUST_CHECK;
/* "hearthctl: <message>" and the command's usage on stderr; CTL_USAGE. */
enum ctl_exit ctl_usage(const struct ctl_args *args, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* --- the database --- */

/* Opens it; with_schema: only where the schema is this program's. CTL_OK, or it has said why not. */
enum ctl_exit ctl_connect(struct ctl *ctl, bool with_schema) MUST_CHECK;

/* One administrative change with its record in the audit log, in one transaction. */
struct ctl_change {
	const char *action; /* "org.create", for the record */
	const char *doing;  /* "making organization": messages begin with it and text */
	struct id org_id;   /* "": none */
	struct id target;   /* "": none */
	const char *text;   /* what it is called, for both */
	bool (*body)(struct db *db, void *closure, enum problem *ret_problem, struct err *e);
	void *closure;
};
/* CTL_OK, or it has said what was refused or failed. */
enum ctl_exit ctl_change_run(struct ctl *ctl, const struct ctl_change *change) MUST_CHECK;

/* --- what is said --- */

/* "hearthctl: <what>: <text of e>" on stderr; the status that belongs to e. */
enum ctl_exit ctl_fail(const char *what, const struct err *e);
/* Prints and frees the object. */
void ctl_print_json(struct jval **object);

#endif
