/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MariaDB over Connector/C. A struct db is one session; it is opened, closed
 * and opened again by the functions here, while its owner keeps the pointer.
 *
 * Life of a statement: db_use finds or prepares it, the binds collect
 * parameters in db->params, the first db_step binds and executes it and reads the whole
 * result into memory (so the session is free again and a lost connection shows
 * at once), each step copies one row into the statement's column buffers. These
 * stay until the next db_use, also after db_done.
 *
 * Invariants: a connection that reported a client error (2xxx) or the server's
 * farewell is closed at once, with all its prepared statements, and
 * db->mysql is NULL until it is opened again; a session that was lost within
 * a transaction is not opened again before db_transaction has ended it; a
 * session that was lost with an advisory lock says so once before.
 *
 * Parameters are text (also for UUID columns: a binary parameter would have
 * to be their 16 bytes) or 64-bit integers.
 */
#include "lib/db.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <errmsg.h>
#include <mysql.h>
#include <mysqld_error.h>
#include <uthash.h>

#include "lib/clock.h"
#include "lib/xalloc.h"

#define ATTEMPTS_MAX 6        /* of a transaction: once and five times again */
#define IDLE_TRUST_MS 60000   /* longer unused: ask the server before use */
#define COLUMN_SIZE_MIN 64    /* enough for every date and number, so that only texts grow */
#define COLUMN_SIZE_KEEP 4096 /* larger buffers are given back at the next use */

struct param {
	enum { PARAM_NULL, PARAM_TEXT, PARAM_BYTES, PARAM_I64, PARAM_U64 } kind;
	const void *data;
	unsigned long len;
	uint64_t number;
	char id[ID_TEXT_LEN + 1]; /* where data points for an id */
};

struct column {
	bool is_number;
	my_bool is_unsigned;
	my_bool is_null;
	uint64_t number; /* is_number */
	char *text;      /* the value, or the number's text; NUL-terminated */
	size_t size;     /* of text */
	unsigned long len;
};

struct stmt {
	const char *sql; /* its address is the key */
	MYSQL_STMT *handle;
	unsigned param_count;
	unsigned column_count;
	struct column *columns;
	MYSQL_BIND *binds; /* of the columns */
	bool is_write;
	UT_hash_handle hh;
};

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
	unsigned param_count, param_cap;
	uint64_t affected;
	bool in_transaction;
	bool is_rolled_back; /* the server undid the transaction: it must not be committed */
	bool is_retryable;   /* the last statement lost against another transaction */
	unsigned lock_count; /* advisory locks held */
};

/* --- errors --- */

/* What a caller can do about an error of the server or of the client library. */
static enum err_code code_of(unsigned number)
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

static bool is_client_error(unsigned number)
{
	return number >= CR_MIN_ERROR && number < 3000;
}

/* Losing the connection before the answer to what had been sent. CR_SERVER_GONE_ERROR comes before or while sending:
 * the server then never had a whole command. */
static bool is_answer_lost(unsigned number)
{
	return is_client_error(number) && number != CR_SERVER_GONE_ERROR;
}

static bool is_lost_race(unsigned number)
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

static void stmt_free(struct stmt *stmt)
{
	if (stmt->handle)
		(void)mysql_stmt_close(stmt->handle);
	for (unsigned i = 0; i < stmt->column_count; i++)
		free(stmt->columns[i].text);
	free(stmt->columns);
	free(stmt->binds);
	free(stmt);
}

static void disconnect(struct db *db)
{
	struct stmt *stmt, *next;

	HASH_ITER (hh, db->stmts, stmt, next) {
		HASH_DEL(db->stmts, stmt);
		stmt_free(stmt);
	}
	db->current = NULL;
	db->has_rows = db->has_row = false;
	if (db->mysql)
		mysql_close(db->mysql);
	db->mysql = NULL;
}

/* Takes over the connection's last error, and ends the connection where it is of no more use. */
static bool connection_failed(struct db *db, const char *what, struct err *e)
{
	unsigned number = mysql_errno(db->mysql);
	enum err_code code = code_of(number);

	err_set(e, code, "%s: %s (error %u)", what, mysql_error(db->mysql), number);
	db->is_retryable = is_lost_race(number);
	if (code == ERR_DOWN || is_client_error(number))
		disconnect(db);
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
	disconnect(db);
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
	disconnect(d);
	options_clear(&d->options);
	free(d->params);
	free(d->param_binds);
	free(d);
}

bool db_ensure(struct db *db, struct err *e)
{
	assert(!db->in_transaction);
	if (db->mysql && is_doubtful(db)) {
		if (mysql_ping(db->mysql) == 0)
			db->used_ms = clock_now_ms();
		else
			disconnect(db);
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

/* --- statements --- */

static bool is_write_sql(const char *sql)
{
	sql += strspn(sql, " \t\r\n(");
	return strncasecmp(sql, "SELECT", 6) != 0 && strncasecmp(sql, "WITH", 4) != 0 &&
	       strncasecmp(sql, "SHOW", 4) != 0;
}

static bool is_number_type(enum enum_field_types type)
{
	switch (type) {
	case MYSQL_TYPE_TINY:
	case MYSQL_TYPE_SHORT:
	case MYSQL_TYPE_INT24:
	case MYSQL_TYPE_LONG:
	case MYSQL_TYPE_LONGLONG:
	case MYSQL_TYPE_YEAR:
		return true;
	default:
		return false;
	}
}

static void column_bind(struct column *c, MYSQL_BIND *bind)
{
	memset(bind, 0, sizeof(*bind));
	bind->is_null = &c->is_null;
	bind->length = &c->len;
	bind->is_unsigned = c->is_unsigned;
	bind->buffer_type = c->is_number ? MYSQL_TYPE_LONGLONG : MYSQL_TYPE_STRING;
	bind->buffer = c->is_number ? (void *)&c->number : c->text;
	bind->buffer_length = c->is_number ? sizeof(c->number) : c->size - 1;
}

static bool columns_make(struct stmt *stmt)
{
	MYSQL_RES *meta = mysql_stmt_result_metadata(stmt->handle);

	if (!meta)
		return mysql_stmt_errno(stmt->handle) == 0; /* a statement without rows */
	stmt->column_count = mysql_num_fields(meta);
	stmt->columns = xcalloc(stmt->column_count, sizeof(*stmt->columns));
	stmt->binds = xcalloc(stmt->column_count, sizeof(*stmt->binds));
	for (unsigned i = 0; i < stmt->column_count; i++) {
		const MYSQL_FIELD *field = mysql_fetch_field_direct(meta, i);
		struct column *c = &stmt->columns[i];

		c->is_number = is_number_type(field->type);
		c->is_unsigned = (field->flags & UNSIGNED_FLAG) != 0;
		c->size = COLUMN_SIZE_MIN;
		c->text = xcalloc(1, c->size);
		column_bind(c, &stmt->binds[i]);
	}
	mysql_free_result(meta);
	return mysql_stmt_bind_result(stmt->handle, stmt->binds) == 0;
}

/* Takes over a statement's error; ends the connection, or the statement, where it is of no more use. */
static bool stmt_failed(struct db *db, struct stmt *stmt, bool was_sent, struct err *e)
{
	unsigned number = mysql_stmt_errno(stmt->handle);
	enum err_code code = code_of(number);

	if (was_sent && stmt->is_write && !db->in_transaction && is_answer_lost(number))
		code = ERR_UNCERTAIN;
	err_set(e, code, "%.60s: %s (error %u)", stmt->sql, mysql_stmt_error(stmt->handle), number);
	db->is_retryable = is_lost_race(number);
	if (db->in_transaction && (number == ER_LOCK_DEADLOCK || number == ER_CHECKREAD))
		db->is_rolled_back = true;
	if (code == ERR_DOWN || is_client_error(number))
		disconnect(db); /* frees stmt where it is in the cache */
	return false;
}

static struct stmt *stmt_prepare(struct db *db, const char *sql, struct err *e)
{
	struct stmt *stmt = xcalloc(1, sizeof(*stmt));

	stmt->sql = sql;
	stmt->is_write = is_write_sql(sql);
	stmt->handle = mysql_stmt_init(db->mysql);
	if (!stmt->handle) {
		err_set(e, ERR_INTERNAL, "out of memory for a statement");
		goto failed;
	}
	if (mysql_stmt_prepare(stmt->handle, sql, strlen(sql)) != 0 || !columns_make(stmt)) {
		(void)stmt_failed(db, stmt, false, e);
		goto failed;
	}
	stmt->param_count = (unsigned)mysql_stmt_param_count(stmt->handle);
	HASH_ADD_KEYPTR(hh, db->stmts, &stmt->sql, sizeof(stmt->sql), stmt);
	return stmt;
failed:
	stmt_free(stmt);
	return NULL;
}

static void stmt_forget(struct db *db, struct stmt *stmt)
{
	HASH_DEL(db->stmts, stmt);
	stmt_free(stmt);
	db->current = NULL;
	db->has_rows = db->has_row = false;
}

/* Gives back the room that a large value took. */
static void stmt_trim(struct stmt *stmt)
{
	bool is_changed = false;

	for (unsigned i = 0; i < stmt->column_count; i++) {
		struct column *c = &stmt->columns[i];

		if (c->size <= COLUMN_SIZE_KEEP)
			continue;
		free(c->text);
		c->size = COLUMN_SIZE_MIN;
		c->text = xcalloc(1, c->size);
		column_bind(c, &stmt->binds[i]);
		is_changed = true;
	}
	if (is_changed)
		(void)mysql_stmt_bind_result(stmt->handle, stmt->binds);
}

/* A connection for the next statement: opened again where that loses nothing the caller relies on. */
static bool make_ready(struct db *db, struct err *e)
{
	if (db->in_transaction)
		return db->mysql || err_set(e, ERR_DOWN, "the connection to MariaDB was lost within a transaction");
	if (db->lock_count > 0 && (!db->mysql || (is_doubtful(db) && mysql_ping(db->mysql) != 0))) {
		disconnect(db);
		db->lock_count = 0;
		return err_set(e, ERR_DOWN, "the connection to MariaDB was lost together with its advisory lock");
	}
	return db_ensure(db, e);
}

void db_use(struct db *db, const char *sql)
{
	db_done(db);
	if (db->current)
		stmt_trim(db->current);
	db->current = NULL;
	db->is_run = false;
	db->is_retryable = false;
	db->param_count = 0;
	db->affected = 0;
	err_clear(&db->fault);
	if (!make_ready(db, &db->fault))
		return;
	HASH_FIND(hh, db->stmts, &sql, sizeof(sql), db->current);
	if (!db->current)
		db->current = stmt_prepare(db, sql, &db->fault);
}

static struct param *param_add(struct db *db)
{
	if (db->param_count == db->param_cap) {
		db->param_cap = db->param_cap > 0 ? 2 * db->param_cap : 16;
		db->params = xrealloc(db->params, db->param_cap * sizeof(*db->params));
		db->param_binds = xrealloc(db->param_binds, db->param_cap * sizeof(*db->param_binds));
	}
	return memset(&db->params[db->param_count++], 0, sizeof(*db->params));
}

void db_bind_null(struct db *db)
{
	param_add(db)->kind = PARAM_NULL;
}

void db_bind_id(struct db *db, const struct id *id)
{
	struct param *p = param_add(db);

	if (!id || !id->text[0])
		return;
	p->kind = PARAM_TEXT;
	memcpy(p->id, id->text, sizeof(p->id));
	p->len = strnlen(p->id, ID_TEXT_LEN);
}

void db_bind_str(struct db *db, const char *s)
{
	db_bind_strn(db, s, s ? strlen(s) : 0);
}

void db_bind_strn(struct db *db, const char *s, size_t len)
{
	struct param *p = param_add(db);

	if (!s)
		return;
	p->kind = PARAM_TEXT;
	p->data = s;
	p->len = len;
}

void db_bind_bytes(struct db *db, const void *data, size_t len)
{
	struct param *p = param_add(db);

	if (!data)
		return;
	p->kind = PARAM_BYTES;
	p->data = data;
	p->len = len;
}

void db_bind_i64(struct db *db, int64_t n)
{
	struct param *p = param_add(db);

	p->kind = PARAM_I64;
	p->number = (uint64_t)n;
}

void db_bind_u64(struct db *db, uint64_t n)
{
	struct param *p = param_add(db);

	p->kind = PARAM_U64;
	p->number = n;
}

static void param_bind(struct param *p, MYSQL_BIND *bind)
{
	memset(bind, 0, sizeof(*bind));
	switch (p->kind) {
	case PARAM_NULL:
		bind->buffer_type = MYSQL_TYPE_NULL;
		break;
	case PARAM_TEXT:
	case PARAM_BYTES:
		bind->buffer_type = p->kind == PARAM_TEXT ? MYSQL_TYPE_STRING : MYSQL_TYPE_BLOB;
		bind->buffer = p->data ? (void *)p->data : p->id;
		bind->buffer_length = p->len;
		bind->length = &p->len;
		break;
	case PARAM_I64:
	case PARAM_U64:
		bind->buffer_type = MYSQL_TYPE_LONGLONG;
		bind->buffer = &p->number;
		bind->is_unsigned = p->kind == PARAM_U64;
		break;
	}
}

static bool params_bind(struct db *db, struct err *e)
{
	struct stmt *stmt = db->current;

	if (db->param_count != stmt->param_count)
		return err_set(e, ERR_INTERNAL, "%.60s: %u parameters bound, %u wanted", stmt->sql, db->param_count,
			       stmt->param_count);
	for (unsigned i = 0; i < db->param_count; i++)
		param_bind(&db->params[i], &db->param_binds[i]);
	if (db->param_count > 0 && mysql_stmt_bind_param(stmt->handle, db->param_binds) != 0)
		return stmt_failed(db, stmt, false, e);
	return true;
}

static void pause_before_retry(unsigned attempt)
{
	unsigned limit_us = 4000u << attempt;
	unsigned us = 1000 + (unsigned)((uint64_t)clock_now_us() * 2654435761u >> 7) % limit_us;
	struct timespec t = {.tv_nsec = (long)us * 1000};

	(void)nanosleep(&t, NULL);
}

static bool execute(struct stmt *stmt)
{
	return mysql_stmt_execute(stmt->handle) == 0 &&
	       (stmt->column_count == 0 || mysql_stmt_store_result(stmt->handle) == 0);
}

/* A single statement outside a transaction that lost a deadlock is repeated here. */
static bool run(struct db *db, struct err *e)
{
	struct stmt *stmt = db->current;

	if (!params_bind(db, e))
		return false;
	for (unsigned attempt = 1; !execute(stmt); attempt++) {
		bool may_repeat = !db->in_transaction && mysql_stmt_errno(stmt->handle) == ER_LOCK_DEADLOCK;

		if (!may_repeat || attempt == ATTEMPTS_MAX)
			return stmt_failed(db, stmt, true, e);
		pause_before_retry(attempt);
	}
	db->used_ms = clock_now_ms();
	db->is_run = true;
	db->has_rows = stmt->column_count > 0;
	db->affected = mysql_stmt_affected_rows(stmt->handle);
	return true;
}

/* Values longer than their buffer are fetched again into a larger one, which then is bound for the next rows. */
static bool refetch_long(struct stmt *stmt)
{
	bool is_changed = false;

	for (unsigned i = 0; i < stmt->column_count; i++) {
		struct column *c = &stmt->columns[i];

		if (c->is_number || c->is_null || c->len < c->size)
			continue;
		c->size = c->len + 1;
		free(c->text);
		c->text = xmalloc(c->size);
		column_bind(c, &stmt->binds[i]);
		if (mysql_stmt_fetch_column(stmt->handle, &stmt->binds[i], i, 0) != 0)
			return false;
		is_changed = true;
	}
	return !is_changed || mysql_stmt_bind_result(stmt->handle, stmt->binds) == 0;
}

static enum db_result fetch(struct db *db, struct err *e)
{
	struct stmt *stmt = db->current;
	int rc = mysql_stmt_fetch(stmt->handle);

	db->has_row = false;
	if (rc == MYSQL_NO_DATA) {
		db_done(db);
		return DB_DONE;
	}
	if ((rc != 0 && rc != MYSQL_DATA_TRUNCATED) || !refetch_long(stmt)) {
		(void)stmt_failed(db, stmt, false, e);
		return DB_FAIL;
	}
	for (unsigned i = 0; i < stmt->column_count; i++) {
		struct column *c = &stmt->columns[i];

		if (!c->is_number && !c->is_null)
			c->text[c->len] = '\0';
	}
	db->has_row = true;
	return DB_ROW;
}

enum db_result db_step(struct db *db, struct err *e)
{
	if (db->fault.code != ERR_NONE) {
		err_set(e, db->fault.code, "%s", db->fault.text);
		return DB_FAIL;
	}
	if (!db->current) {
		err_set(e, ERR_INTERNAL, "a step without a statement");
		return DB_FAIL;
	}
	if (!db->is_run && !run(db, &db->fault)) {
		if (db->fault.code == ERR_INTERNAL && db->current)
			stmt_forget(db, db->current); /* prepared anew next time: the table may have changed */
		err_set(e, db->fault.code, "%s", db->fault.text);
		return DB_FAIL;
	}
	return db->has_rows ? fetch(db, e) : DB_DONE;
}

bool db_exec(struct db *db, struct err *e)
{
	if (db_step(db, e) == DB_FAIL)
		return false;
	db_done(db);
	return true;
}

void db_done(struct db *db)
{
	if (db->current && db->has_rows)
		(void)mysql_stmt_free_result(db->current->handle);
	db->has_rows = false;
}

uint64_t db_affected(const struct db *db)
{
	return db->affected;
}

/* --- columns --- */

static struct column *column(struct db *db, unsigned i)
{
	assert(db->current && db->has_row && i < db->current->column_count);
	return &db->current->columns[i];
}

bool db_col_is_null(struct db *db, unsigned i)
{
	return column(db, i)->is_null;
}

const char *db_col_str(struct db *db, unsigned i)
{
	struct column *c = column(db, i);

	if (c->is_null)
		return NULL;
	if (c->is_number)
		(void)snprintf(c->text, c->size, c->is_unsigned ? "%" PRIu64 : "%" PRId64, c->number);
	return c->text;
}

const void *db_col_bytes(struct db *db, unsigned i, size_t *ret_len)
{
	struct column *c = column(db, i);
	const char *s = db_col_str(db, i);

	*ret_len = !s ? 0 : c->is_number ? strlen(s) : c->len;
	return s;
}

int64_t db_col_i64(struct db *db, unsigned i)
{
	struct column *c = column(db, i);

	if (c->is_null)
		return 0;
	return c->is_number ? (int64_t)c->number : strtoll(c->text, NULL, 10);
}

uint64_t db_col_u64(struct db *db, unsigned i)
{
	struct column *c = column(db, i);

	if (c->is_null)
		return 0;
	return c->is_number ? c->number : strtoull(c->text, NULL, 10);
}

struct id db_col_id(struct db *db, unsigned i)
{
	const char *s = db_col_str(db, i);
	struct id id = {""};

	if (s)
		(void)snprintf(id.text, sizeof(id.text), "%s", s);
	return id;
}

/* --- transactions --- */

static bool transaction_start(struct db *db, struct err *e)
{
	db_done(db);
	/* A connection that dies between the look at it and the statement is worth a second try: nothing has begun. */
	if (!make_ready(db, e))
		return false;
	if (!query(db, "START TRANSACTION", e) &&
	    (db->mysql || db->lock_count > 0 || !db_ensure(db, e) || !query(db, "START TRANSACTION", e)))
		return false;
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
		if (attempt == ATTEMPTS_MAX) {
			error->code = ERR_BUSY;
			return err_ctx(error, "gave up after %u attempts", attempt);
		}
		pause_before_retry(attempt);
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
	if (!make_ready(db, e))
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

	db_use(db, "SELECT GET_LOCK(?, ?)");
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
	db_use(db, "DO RELEASE_LOCK(?)");
	db_bind_str(db, name);
	(void)!db_exec(db, NULL);
	if (db->lock_count > 0)
		db->lock_count--;
}
