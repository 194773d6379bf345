/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A MariaDB with Hearth's schema for one test program, and rows to test
 * against. Every maker makes a new row with a new id, so cases do not meet.
 * A statement that fails ends the program: the fixture is not what is tested.
 */
#ifndef TESTS_UNIT_SQL_FIXTURE_H
#define TESTS_UNIT_SQL_FIXTURE_H

#include <stdint.h>

#include "lib/db.h"
#include "lib/id.h"
#include "lib/secret.h"

/* As a suite's init and cleanup. The server runs until the program ends. */
int fixture_start(void);
int fixture_stop(void);

struct fixture {
	struct db *db;
	struct arena *mem;
};
extern struct fixture fx; /* both live between start and stop */

/* A session of its own, set up as fx.db is. */
struct db *fixture_connect(void);
/* A pool of so many. */
struct db_pool *fixture_pool(unsigned size);

/* Any SQL text, with its arguments formatted in. */
void fixture_run(struct db *db, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* NOW() and UTC_TIMESTAMP() of fx.db stand still, and go on: what was written with them can be compared with them. */
void fixture_time_stop(void);
void fixture_time_go_on(void);
/* The first column of the only row; sql is a constant with one ? for the id, or none and id NULL. */
int64_t fixture_number(const char *sql, const struct id *id);
/* The same as text, valid until the next call. */
const char *fixture_text(const char *sql, const struct id *id);

struct id fixture_org(void);
/* org NULL: a sys_admin's. */
struct id fixture_token(const struct id *org, const char *role, uint8_t ret_hash[SECRET_HASH_BYTES]);
/* tier and desired as in the columns. Generation 1. */
struct id fixture_app(const struct id *org, const char *tier, const char *desired);
/* A live worker; its incarnation. */
struct id fixture_worker(const char *name);
/* reason NULL: none. */
void fixture_place(const struct id *app, const char *worker, const struct id *incarnation, const char *state,
		   unsigned generation, const char *reason);
/* An open operation. */
struct id fixture_operation(const struct id *app, const char *action, unsigned generation);
/* Its state: "accepted", … */
const char *fixture_operation_state(const struct id *operation);

#endif
