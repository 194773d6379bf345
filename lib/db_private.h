/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the database share: db.c (connection, transactions,
 * scripts, locks) and db_stmt.c (prepared statements, parameters, rows). Only
 * these include the MariaDB header; db_pool.c needs no more than db.h.
 */
#ifndef LIB_DB_PRIVATE_H
#define LIB_DB_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include <errmsg.h>
#include <mysql.h>
#include <mysqld_error.h>

#include "lib/db.h"

#define DB_ATTEMPTS_MAX 6 /* of a transaction: once and five times again */

struct param;
struct stmt;

struct db {
	struct db_options options; /* strings are ours */
	MYSQL *mysql;              /* NULL: not connected */
	int64_t used_ms;           /* of the last answer */
	struct stmt *stmts;        /* prepared on this connection */
	struct stmt *current;      /* of the last db_use; NULL where that failed */
	bool is_run, has_rows, has_row;
	struct err fault; /* of db_use or a bind, for the next step */
	struct param *params;
	MYSQL_BIND *param_binds;
	char *bulk; /* arrays that param_binds point into */
	unsigned param_count, param_cap;
	unsigned row_count; /* of parameters: ended by db_next_row, and the present one */
	uint64_t affected;
	bool in_transaction;
	bool is_rolled_back; /* the server undid the transaction: it must not be committed */
	bool is_retryable;   /* the last statement lost against another transaction */
	unsigned lock_count; /* advisory locks held */
};

/* --- db.c --- */

/* What a caller can do about an error of the server or of the client library. */
enum err_code db_error_code(unsigned number);
/* The client library's own errors: after these the connection is of no more use. */
bool db_is_client_error(unsigned number);
/* Lost against another transaction. */
bool db_is_lost_race(unsigned number);
/* Closes the connection, with all its statements. */
void db_disconnect(struct db *db);
/* A connection for the next statement: opened again where that loses nothing the caller relies on. */
bool db_make_ready(struct db *db, struct err *e) MUST_CHECK;
/* Some milliseconds, more with each attempt, at random. */
void db_pause_before_retry(unsigned attempt);

/* --- db_stmt.c --- */

/* Closes and forgets all statements of the connection. */
void db_stmts_free(struct db *db);

#endif
