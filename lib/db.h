/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MariaDB: connections, prepared statements, transactions, a small pool of
 * connections. The only file that includes the MariaDB header is db.c.
 *
 * A connection belongs to one thread at a time. Sessions are UTC, utf8mb4,
 * READ COMMITTED, strict SQL mode, with short lock waits and
 * idle_transaction_timeout. Statements are prepared once per connection and
 * kept under the address of their SQL text, so SQL is always a constant.
 *
 *   db_use(db, SQL_ORG_BY_ID);          prepares at first use
 *   db_bind_id(db, &org_id);            parameters in order
 *   switch (db_step(db, e)) { case DB_ROW: … db_col_str(db, 0) … }
 *   db_done(db);                        ends a result before its last row
 *
 * One statement at a time per connection. A failed use or bind is reported by
 * the step. Column pointers live until the next step or db_use. A lost
 * connection fails with ERR_DOWN outside of a transaction's commit and is opened
 * again by the next db_take, or the next db_use outside a transaction.
 */
#ifndef LIB_DB_H
#define LIB_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"
#include "lib/id.h"
#include "lib/json.h"

struct db;
struct db_pool;

struct db_options {
	const char *socket; /* NULL or "" for TCP */
	const char *host;
	unsigned port;
	const char *user;
	const char *password; /* NULL for none (unix_socket authentication) */
	const char *database;
	const char *tls_ca; /* NULL or "": no TLS; set: TLS with chain and host name verified */
	unsigned connect_timeout_s;
	unsigned io_timeout_s;               /* read and write */
	unsigned lock_wait_timeout_s;        /* innodb_lock_wait_timeout, 0 = server's */
	unsigned idle_transaction_timeout_s; /* 0 = server's */
	unsigned wait_timeout_s;             /* 0 = server's; recovery sets one lease */
};

enum db_result { DB_ROW, DB_DONE, DB_FAIL };

/* Once in main, before threads / at the very end. */
bool db_library_init(struct err *e) MUST_CHECK;
void db_library_end(void);

/* options are copied. ERR_DOWN when not reachable, ERR_DENIED for a refused login, ERR_MISSING for an unknown database.
 */
bool db_open(const struct db_options *options, struct db **ret_db, struct err *e) MUST_CHECK;
/* The same without connecting: the first db_ensure, db_use or db_transaction does. */
struct db *db_new(const struct db_options *options);
void db_close(struct db **db);
/* Cheap when used a moment ago; pings and opens again when needed. */
bool db_ensure(struct db *db, struct err *e) MUST_CHECK;
/* Ends a result and rolls back what is open. False when the connection is lost. */
bool db_settle(struct db *db);

/* --- statements --- */
void db_use(struct db *db, const char *sql);         /* sql: a constant, kept by pointer */
void db_bind_id(struct db *db, const struct id *id); /* NULL or "" binds NULL */
void db_bind_str(struct db *db, const char *s);      /* NULL binds NULL; text must live until the step */
void db_bind_strn(struct db *db, const char *s, size_t len);
void db_bind_bytes(struct db *db, const void *data, size_t len); /* BINARY columns */
void db_bind_i64(struct db *db, int64_t n);
void db_bind_u64(struct db *db, uint64_t n);
void db_bind_null(struct db *db);
/*
 * The parameters bound since the last one are a whole row, and another one follows: after the last row's parameters
 * comes db_exec, which runs the statement for each row, in order, in one round trip. For INSERT, UPDATE and DELETE; the
 * same kind of value (or NULL) in each row's place. db_affected is the sum. One that fails fails the statement, with
 * rows before it written: use it inside a transaction.
 */
void db_next_row(struct db *db);
/* Runs at the first call, then fetches. DB_DONE: no (more) rows, the statement is finished. */
enum db_result db_step(struct db *db, struct err *e) MUST_CHECK;
/* db_step for a statement without rows (or whose rows are not wanted): true when it ran. */
bool db_exec(struct db *db, struct err *e) MUST_CHECK;
void db_done(struct db *db);
/* Rows matched (found rows, not changed rows) by the last db_exec/db_step of a write. */
uint64_t db_affected(const struct db *db);

bool db_col_is_null(struct db *db, unsigned i);
const char *db_col_str(struct db *db, unsigned i); /* NULL where NULL; NUL-terminated */
const void *db_col_bytes(struct db *db, unsigned i, size_t *ret_len);
int64_t db_col_i64(struct db *db, unsigned i); /* 0 where NULL */
uint64_t db_col_u64(struct db *db, unsigned i);
struct id db_col_id(struct db *db, unsigned i); /* "" where NULL */

/* --- transactions --- */
/*
 * Runs body inside a transaction and commits when it returns true. Errors 1205, 1213 and
 * 1020 roll back and run body again (with jitter, at most 5 times), so body sets its
 * outputs afresh each time. body returning false rolls back and its error is returned.
 * ERR_UNCERTAIN: the connection was lost during COMMIT.
 */
typedef bool (*db_body)(struct db *db, void *closure, struct err *e);
bool db_transaction(struct db *db, db_body body, void *closure, struct err *e) MUST_CHECK;
bool db_in_transaction(const struct db *db);

/* Text that may hold several statements, for migrations only: runs each in turn. */
bool db_run_script(struct db *db, const char *sql, size_t len, struct err *e) MUST_CHECK;

/* Advisory lock of this session, within its database (the server's names are of all databases). DB_ROW: held, DB_DONE:
 * someone else has it (after timeout_s), DB_FAIL. */
enum db_result db_lock(struct db *db, const char *name, unsigned timeout_s, struct err *e) MUST_CHECK;
void db_unlock(struct db *db, const char *name);

/* --- pool: all threads --- */
/* Opens connections lazily. Never fails because the server is away. */
struct db_pool *db_pool_new(const struct db_options *options, unsigned size);
void db_pool_free(struct db_pool **pool); /* all must have been given back */
/*
 * Lends a live connection. ERR_BUSY when none is free within timeout_ms; ERR_DOWN when the
 * server is away (known-down answers come at once for 1 s). share_max: refuses to let callers that
 * pass the same non-zero limit hold more than that many together (a lifecycle request: half the pool); 0: no limit.
 */
bool db_take(struct db_pool *pool, unsigned share_max, int timeout_ms, struct db **ret_db, struct err *e) MUST_CHECK;
void db_give(struct db_pool *pool, struct db **db); /* rolls back what is open */
struct db_pool_stats {
	unsigned size, open, lent;
	uint64_t waits;
	bool is_down;
};
struct db_pool_stats db_pool_stats(struct db_pool *pool);

#endif
