/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may do what: one statement authenticates the token and reads organization
 * and App, locking the App's row where asked. Checks in the order of DESIGN 4:
 * 401; 403 token of another org, role lacks the permission; 404 no such org or App;
 * 403 the App is another org's; 410 deleted; 409 org or App suspended.
 */
#ifndef CORE_ACCESS_H
#define CORE_ACCESS_H

#include <stdbool.h>

#include "core/instance.h"
#include "core/names.h"
#include "core/org.h"
#include "core/permission.h"
#include "core/problem.h"
#include "lib/id.h"
#include "lib/secret.h"

struct arena;
struct db;

struct access_request {
	uint8_t token_hash[SECRET_HASH_BYTES];
	enum permission permission;
	bool has_org;          /* the route names an org … */
	struct id org_id;      /* … "": its text was no id, so it is nobody's */
	bool org_is_instances; /* no org in the route: the App's own org is meant (chat) */
	bool has_instance;
	struct id instance_id; /* "": malformed, a 404 */
	bool lock_instance;    /* SELECT … FOR UPDATE of the App's row, inside a transaction */
	bool lock_org;         /* of the org's row, before the App's; a statement of its own */
	bool must_be_active; /* 409 for suspended org or App (chat, load, reload); reads and unload do not ask for it */
	bool with_config;    /* read config too (up to 1 MiB) */
};

struct caller {
	struct id token_id;
	struct id org_id; /* "": sys_admin */
	enum role role;
	const char *token_name;
	bool touch_due; /* its last use was noted over a minute ago: call token_touch, outside of the transaction */
};

struct access {
	struct caller caller;     /* valid unless PROBLEM_UNAUTHORIZED */
	struct org org;           /* valid where has_org or org_is_instances, and found */
	struct instance instance; /* valid where has_instance and found; without state */
};

/* Strings live in mem. */
bool access_check(struct db *db, struct arena *mem, const struct access_request *request, struct access *ret_access,
		  enum problem *ret_problem, struct err *e) MUST_CHECK;

/* One of several. */
struct access_step {
	const struct access_request
		*request;  /* has_org, has_instance and lock_instance, without lock_org and with_config */
	struct arena *mem; /* of the answer's strings */
	/* the answer */
	bool is_left_over; /* its row is held by another transaction, or there is none: access_check tells */
	struct access access;
	enum problem problem;
};
/* access_check for at most SQL_SET_MAX (core/sql.h) different Apps, inside a transaction: all rows are locked first. */
bool access_check_set(struct db *db, struct access_step *steps, unsigned count, struct err *e) MUST_CHECK;

#endif
