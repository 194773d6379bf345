/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MariaDB over Connector/C: sessions, transactions, scripts, advisory locks.
 * db_private.h tells what lies in which file.
 *
 * A struct db is one session; it is opened, closed and opened again by the
 * functions here, while its owner keeps the pointer.
 *
 * Invariants: a connection that reported a client error (2xxx) or the server's
 * farewell is closed at once, with all its prepared statements, and
 * db->mysql is NULL until it is opened again; a session that was lost within
 * a transaction is not opened again before db_transaction has ended it; a
 * session that was lost with an advisory lock says so once before.
 */
#include "lib/db_private.h"

#include <assert.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/xalloc.h"

#define IDLE_TRUST_MS 60000 /* longer unused: ask the server before use */

/* --- errors --- */

enum err_code db_error_code(unsigned number)
{
	switch (number) {
	case ER_DUP_ENTRY:
	case ER_ROW_IS_REFERENCED_2:
	case ER_NO_REFERENCED_ROW_2:
		return ERR_CONFLICT;
	case ER_LOCK_WAIT_TIMEOUT:
	case ER_LOCK_DEADLOCK:
	case ER_CHECKREAD:
	case ER_NEED_REPREPARE:
		return ERR_BUSY;
	case ER_DBACCESS_DENIED_ERROR:
	case ER_ACCESS_DENIED_ERROR:
	case ER_ACCESS_DENIED_NO_PASSWORD_ERROR:
	case ER_TABLEACCESS_DENIED_ERROR:
	case ER_COLUMNACCESS_DENIED_ERROR:
	case ER_SPECIFIC_ACCESS_DENIED_ERROR:
	case ER_HOST_NOT_PRIVILEGED:
		return ERR_DENIED;
	case ER_BAD_DB_ERROR:
		return ERR_MISSING;
	case ER_STATEMENT_TIMEOUT:
	case ER_QUERY_INTERRUPTED:
	case 3024: /* MySQL's name for the statement timeout */
		return ERR_TIMEOUT;
	case ER_CON_COUNT_ERROR:
	case ER_TOO_MANY_USER_CONNECTIONS:
	case ER_USER_LIMIT_REACHED:
	case ER_UNKNOWN_COM_ERROR: /* Galera: not in the primary component */
	case ER_SERVER_SHUTDOWN:
	case ER_NORMAL_SHUTDOWN:
	case ER_ABORTING_CONNECTION:
	case ER_NEW_ABORTING_CONNECTION:
	case ER_CONNECTION_KILLED:
	case ER_NET_READ_ERROR:
	case ER_NET_READ_INTERRUPTED:
	case ER_NET_ERROR_ON_WRITE:
	case ER_NET_WRITE_INTERRUPTED:
	case ER_OPTION_PREVENTS_STATEMENT: /* read only: another server is the primary now */
	case CR_CONNECTION_ERROR:
	case CR_CONN_HOST_ERROR:
	case CR_UNKNOWN_HOST:
	case CR_SERVER_GONE_ERROR:
	case CR_SERVER_LOST:
	case CR_SERVER_LOST_EXTENDED:
	case CR_SSL_CONNECTION_ERROR:
	case CR_SERVER_HANDSHAKE_ERR:
	case CR_MALFORMED_PACKET:
	case CR_UNKNOWN_ERROR:
		return ERR_DOWN;
	default:
		return ERR_INTERNAL;
	}
}

bool db_is_client_error(unsigned number)
{
	return number >= CR_MIN_ERROR && number < 3000;
}

bool db_is_lost_race(unsigned number)
{
	return number == ER_LOCK_WAIT_TIMEOUT || number == ER_LOCK_DEADLOCK || number == ER_CHECKREAD;
}

/* --- connection --- */

static void options_copy(struct db_options *to, const struct db_options *from)
{
	*to = *from;
	to->socket = from->socket && *from->socket ? xstrdup(from->socket) : NULL;
	to->host = from->host && *from->host ? xstrdup(from->host) : NULL;
	to->user = from->user ? xstrdup(from->user) : NULL;
	to->password = from->password ? xstrdup(from->password) : NULL;
	to->database = from->database ? xstrdup(from->database) : NULL;
	to->tls_ca = from->tls_ca && *from->tls_ca ? xstrdup(from->tls_ca) : NULL;
}

static void options_clear(struct db_options *options)
{
	if (options->password)
		explicit_bzero((char *)options->password, strlen(options->password));
	free((char *)options->socket);
	free((char *)options->host);
	free((char *)options->user);
	free((char *)options->password);
	free((char *)options->database);
	free((char *)options->tls_ca);
}

void db_disconnect(struct db *db)
{
	db_stmts_free(db);
	if (db->mysql)
		mysql_close(db->mysql);
	db->mysql = NULL;
}

/* Takes over the connection's last error, and ends the connection where it is of no more use. */
static bool connection_failed(struct db *db, const char *what, struct err *e)
{
	unsigned number = mysql_errno(db->mysql);
	enum err_code code = db_error_code(number);

	err_set(e, code, "%s: %s (error %u)", what, mysql_error(db->mysql), number);
	db->is_retryable = db_is_lost_race(number);
	if (code == ERR_DOWN || db_is_client_error(number))
		db_disconnect(db);
	return false;
}

static bool query(struct db *db, const char *sql, struct err *e)
{
	if (!db->mysql)
		return err_set(e, ERR_DOWN, "%s: the connection to MariaDB was lost", sql);
	if (mysql_real_query(db->mysql, sql, strlen(sql)) != 0)
		return connection_failed(db, sql, e);
	db->used_ms = clock_now_ms();
	return true;
}

static void set_connect_options(MYSQL *mysql, const struct db_options *o)
{
	unsigned protocol = MYSQL_PROTOCOL_TCP;
	unsigned no_infile = 0;
	my_bool no = 0, yes = 1;

	(void)mysql_options(mysql, MYSQL_OPT_CONNECT_TIMEOUT, &o->connect_timeout_s);
	(void)mysql_options(mysql, MYSQL_OPT_READ_TIMEOUT, &o->io_timeout_s);
	(void)mysql_options(mysql, MYSQL_OPT_WRITE_TIMEOUT, &o->io_timeout_s);
	(void)mysql_options(mysql, MYSQL_OPT_LOCAL_INFILE, &no_infile);
	(void)mysql_options(mysql, MYSQL_OPT_RECONNECT, &no);
	(void)mysql_options(mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4");
	if (o->socket)
		return;
	/* The library takes "localhost" for its default socket otherwise. */
	(void)mysql_options(mysql, MYSQL_OPT_PROTOCOL, &protocol);
	if (o->tls_ca) {
		(void)mysql_options(mysql, MYSQL_OPT_SSL_CA, o->tls_ca);
		(void)mysql_options(mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &yes);
	}
}

/* All in one statement, one round trip. */
static bool set_session(struct db *db, struct err *e)
{
	const struct db_options *o = &db->options;
	bool is_new_name = mysql_get_server_version(db->mysql) >= 110101;
	char sql[512];
	int n = snprintf(sql, sizeof(sql),
			 "SET SESSION time_zone='+00:00', sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', "
			 "%s='READ-COMMITTED'",
			 is_new_name ? "transaction_isolation" : "tx_isolation");

	if (o->lock_wait_timeout_s > 0)
		n += snprintf(sql + n, sizeof(sql) - (size_t)n, ", innodb_lock_wait_timeout=%u, lock_wait_timeout=%u",
			      o->lock_wait_timeout_s, o->lock_wait_timeout_s);
	if (o->idle_transaction_timeout_s > 0)
		n += snprintf(sql + n, sizeof(sql) - (size_t)n, ", idle_transaction_timeout=%u",
			      o->idle_transaction_timeout_s);
	if (o->wait_timeout_s > 0)
		n += snprintf(sql + n, sizeof(sql) - (size_t)n, ", wait_timeout=%u", o->wait_timeout_s);
	return query(db, sql, e);
}

static bool connect_now(struct db *db, struct err *e)
{
	const struct db_options *o = &db->options;

	assert(!db->mysql);
	db->mysql = mysql_init(NULL);
	if (!db->mysql)
		return err_set(e, ERR_INTERNAL, "out of memory for a MariaDB connection");
	set_connect_options(db->mysql, o);
	if (!mysql_real_connect(db->mysql, o->socket ? "localhost" : o->host, o->user, o->password, o->database,
				o->port, o->socket, CLIENT_FOUND_ROWS)) {
		(void)connection_failed(db, "connecting to MariaDB", e);
		goto failed;
	}
	if (!o->socket && o->tls_ca && !mysql_get_ssl_cipher(db->mysql)) {
		err_set(e, ERR_DOWN, "connecting to MariaDB: the server does not offer TLS");
		goto failed;
	}
	(void)fcntl((int)mysql_get_socket(db->mysql), F_SETFD, FD_CLOEXEC);
	if (!set_session(db, e))
		goto failed;
	return true;
failed:
	db_disconnect(db);
	return false;
}

/* A session between two statements has nothing to read, except when the server said farewell. */
static bool has_word_from_server(struct db *db)
{
	struct pollfd p = {.fd = (int)mysql_get_socket(db->mysql), .events = POLLIN};

	return poll(&p, 1, 0) != 0;
}

static bool is_doubtful(struct db *db)
{
	int64_t idle_ms = clock_now_ms() - db->used_ms;
	int64_t wait_ms = (int64_t)db->options.wait_timeout_s * 1000;

	return idle_ms > IDLE_TRUST_MS || (wait_ms > 0 && idle_ms > wait_ms / 2) || has_word_from_server(db);
}

bool db_library_init(struct err *e)
{
	if (mysql_library_init(0, NULL, NULL) != 0)
		return err_set(e, ERR_INTERNAL, "the MariaDB client library cannot be initialised");
	return true;
}

void db_library_end(void)
{
	mysql_library_end();
}

struct db *db_new(const struct db_options *options)
{
	struct db *db = xcalloc(1, sizeof(*db));

	options_copy(&db->options, options);
	return db;
}

bool db_open(const struct db_options *options, struct db **ret_db, struct err *e)
{
	struct db *db = db_new(options);

	if (!connect_now(db, e)) {
		db_close(&db);
		return false;
	}
	*ret_db = db;
	return true;
}

void db_close(struct db **db)
{
	struct db *d = *db;

	*db = NULL;
	if (!d)
		return;
	db_disconnect(d);
	options_clear(&d->options);
	free(d->params);
	free(d->param_binds);
	free(d->bulk);
	free(d);
}

bool db_ensure(struct db *db, struct err *e)
{
	assert(!db->in_transaction);
	if (db->mysql && is_doubtful(db)) {
		if (mysql_ping(db->mysql) == 0)
			db->used_ms = clock_now_ms();
		else
			db_disconnect(db);
	}
	if (db->mysql)
		return true;
	db->lock_count = 0;
	return connect_now(db, e);
}

bool db_settle(struct db *db)
{
	db_done(db);
	if (db->in_transaction && db->mysql)
		(void)query(db, "ROLLBACK", NULL);
	db->in_transaction = false;
	return db->mysql != NULL;
}

bool db_make_ready(struct db *db, struct err *e)
{
	if (db->in_transaction)
		return db->mysql || err_set(e, ERR_DOWN, "the connection to MariaDB was lost within a transaction");
	if (db->lock_count > 0 && (!db->mysql || (is_doubtful(db) && mysql_ping(db->mysql) != 0))) {
		db_disconnect(db);
		db->lock_count = 0;
		return err_set(e, ERR_DOWN, "the connection to MariaDB was lost together with its advisory lock");
	}
	return db_ensure(db, e);
}

/* --- transactions --- */

void db_pause_before_retry(unsigned attempt)
{
	unsigned limit_us = 4000u << attempt;
	unsigned us = 1000 + (unsigned)((uint64_t)clock_now_us() * 2654435761u >> 7) % limit_us;
	struct timespec t = {.tv_nsec = (long)us * 1000};

	(void)nanosleep(&t, NULL);
}

static bool transaction_start(struct db *db, struct err *e)
{
	db_done(db);
	if (!db_make_ready(db, e))
		return false;
	if (!query(db, "START TRANSACTION", e)) {
		/* A connection that died after the look at it is worth a second try: nothing has begun. */
		if (db->mysql || !db_make_ready(db, e) || !query(db, "START TRANSACTION", e))
			return false;
		err_clear(e);
	}
	db->in_transaction = true;
	db->is_rolled_back = false;
	db->is_retryable = false;
	return true;
}

static bool commit(struct db *db, struct err *e)
{
	if (!db->mysql)
		return err_set(e, ERR_DOWN, "the connection to MariaDB was lost within a transaction");
	if (query(db, "COMMIT", e))
		return true;
	if (!db->mysql && e)
		e->code = ERR_UNCERTAIN;
	return false;
}

enum outcome { OUTCOME_OK, OUTCOME_AGAIN, OUTCOME_FAIL };

static enum outcome transaction_try(struct db *db, db_body body, void *closure, struct err *e)
{
	bool ok;

	if (!transaction_start(db, e))
		return OUTCOME_FAIL;
	ok = body(db, closure, e);
	if (ok && !db->is_rolled_back)
		ok = commit(db, e);
	else if (ok)
		ok = err_set(e, ERR_BUSY, "the server rolled the transaction back");
	if (ok) {
		db->in_transaction = false;
		return OUTCOME_OK;
	}
	bool is_again = db->mysql && (db->is_rolled_back || db->is_retryable);
	return db_settle(db) && is_again ? OUTCOME_AGAIN : OUTCOME_FAIL;
}

bool db_transaction(struct db *db, db_body body, void *closure, struct err *e)
{
	struct err local = {0};
	struct err *error = e ? e : &local; /* commit changes a code in place */

	assert(!db->in_transaction);
	for (unsigned attempt = 1;; attempt++) {
		err_clear(error);
		switch (transaction_try(db, body, closure, error)) {
		case OUTCOME_OK:
			return true;
		case OUTCOME_FAIL:
			return false;
		case OUTCOME_AGAIN:
			break;
		}
		if (attempt == DB_ATTEMPTS_MAX) {
			error->code = ERR_BUSY;
			return err_ctx(error, "gave up after %u attempts", attempt);
		}
		db_pause_before_retry(attempt);
	}
}

bool db_in_transaction(const struct db *db)
{
	return db->in_transaction;
}

/* --- scripts and locks --- */

/* Reads the answers of all statements; *ret_count counts those that were read. */
static bool script_results(struct db *db, unsigned *ret_count, struct err *e)
{
	int rc = 0;

	while (rc == 0) {
		MYSQL_RES *rows = mysql_store_result(db->mysql);

		if (rows)
			mysql_free_result(rows);
		else if (mysql_errno(db->mysql) != 0)
			return connection_failed(db, "script", e);
		(*ret_count)++;
		rc = mysql_next_result(db->mysql);
	}
	/* What stands behind the last semicolon may be blank or a comment. */
	return rc < 0 || mysql_errno(db->mysql) == ER_EMPTY_QUERY || connection_failed(db, "script", e);
}

bool db_run_script(struct db *db, const char *sql, size_t len, struct err *e)
{
	unsigned count = 0;
	bool ok;

	db_done(db);
	if (!db_make_ready(db, e))
		return false;
	if (mysql_set_server_option(db->mysql, MYSQL_OPTION_MULTI_STATEMENTS_ON) != 0)
		return connection_failed(db, "script", e);
	ok = mysql_real_query(db->mysql, sql, len) == 0 ? script_results(db, &count, e)
							: connection_failed(db, "script", e);
	if (!ok && !db->mysql && e)
		e->code = ERR_UNCERTAIN;
	if (db->mysql)
		(void)mysql_set_server_option(db->mysql, MYSQL_OPTION_MULTI_STATEMENTS_OFF);
	return ok || err_ctx(e, "statement %u", count + 1);
}

enum db_result db_lock(struct db *db, const char *name, unsigned timeout_s, struct err *e)
{
	enum db_result result = DB_DONE;

	db_use(db, "SELECT GET_LOCK(CONCAT(LEFT(DATABASE(), 32), '.', ?), ?)");
	db_bind_str(db, name);
	db_bind_u64(db, timeout_s);
	if (db_step(db, e) != DB_ROW)
		return DB_FAIL;
	if (db_col_is_null(db, 0)) {
		err_set(e, ERR_INTERNAL, "the advisory lock %s cannot be taken", name);
		result = DB_FAIL;
	} else if (db_col_i64(db, 0) == 1) {
		db->lock_count++;
		result = DB_ROW;
	}
	db_done(db);
	return result;
}

void db_unlock(struct db *db, const char *name)
{
	if (db->lock_count == 0)
		return;
	db_use(db, "DO RELEASE_LOCK(CONCAT(LEFT(DATABASE(), 32), '.', ?))");
	db_bind_str(db, name);
	(void)!db_exec(db, NULL);
	if (db->lock_count > 0)
		db->lock_count--;
}
