/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prepared statements. Life of one: db_use finds or prepares it, the binds
 * collect parameters in db->params, the first db_step binds and executes it and
 * reads the whole result into memory (so the session is free again and a lost
 * connection shows at once), each step copies one row into the statement's
 * column buffers. These stay until the next db_use, also after db_done.
 *
 * Parameters are text (also for UUID columns: a binary parameter would have
 * to be their 16 bytes) or 64-bit integers.
 */
#include "lib/db_private.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "lib/clock.h"
#include "lib/xalloc.h"

#define COLUMN_SIZE_MIN 64    /* enough for every date and number */
#define COLUMN_SIZE_MAX 512   /* bound at most so long; what is longer is fetched on its own */
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
	char *text;      /* bound: the value, or the number's text; NUL-terminated */
	size_t size;     /* of text */
	char *large;     /* a value that text has no room for, fetched on its own; NULL: none yet */
	size_t large_size;
	bool is_large; /* the present row's value stands in large */
	unsigned long len;
};

struct stmt {
	const char *sql; /* its address is the key */
	MYSQL_STMT *handle;
	unsigned param_count;
	unsigned bulk_rows; /* as the library was told last; 0: single */
	unsigned column_count;
	struct column *columns;
	MYSQL_BIND *binds; /* of the columns */
	bool is_write;
	UT_hash_handle hh;
};

/* --- statements --- */

/* Losing the connection before the answer to what had been sent. CR_SERVER_GONE_ERROR comes before or while sending:
 * the server then never had a whole command. */
static bool is_answer_lost(unsigned number)
{
	return db_is_client_error(number) && number != CR_SERVER_GONE_ERROR;
}

static void column_clear(struct column *c)
{
	free(c->text);
	free(c->large);
}

static void stmt_free(struct stmt *stmt)
{
	if (stmt->handle)
		(void)mysql_stmt_close(stmt->handle);
	for (unsigned i = 0; i < stmt->column_count; i++)
		column_clear(&stmt->columns[i]);
	free(stmt->columns);
	free(stmt->binds);
	free(stmt);
}

void db_stmts_free(struct db *db)
{
	struct stmt *stmt, *next;

	HASH_ITER (hh, db->stmts, stmt, next) {
		HASH_DEL(db->stmts, stmt);
		stmt_free(stmt);
	}
	db->current = NULL;
	db->has_rows = db->has_row = false;
}

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
		c->size = field->length + 1 < COLUMN_SIZE_MAX ? field->length + 1 : COLUMN_SIZE_MAX;
		if (c->size < COLUMN_SIZE_MIN)
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
	enum err_code code = db_error_code(number);

	if (was_sent && stmt->is_write && !db->in_transaction && is_answer_lost(number))
		code = ERR_UNCERTAIN;
	err_set(e, code, "%.60s: %s (error %u)", stmt->sql, mysql_stmt_error(stmt->handle), number);
	db->is_retryable = db_is_lost_race(number);
	if (db->in_transaction && (number == ER_LOCK_DEADLOCK || number == ER_CHECKREAD))
		db->is_rolled_back = true;
	if (code == ERR_DOWN || db_is_client_error(number))
		db_disconnect(db); /* frees stmt where it is in the cache */
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

/* Gives back the room that large values took. */
static void stmt_trim(struct stmt *stmt)
{
	for (unsigned i = 0; i < stmt->column_count; i++) {
		struct column *c = &stmt->columns[i];

		if (c->large_size <= COLUMN_SIZE_KEEP)
			continue;
		free(c->large);
		c->large = NULL;
		c->large_size = 0;
	}
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
	db->row_count = 1;
	db->affected = 0;
	err_clear(&db->fault);
	if (!db_make_ready(db, &db->fault))
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

/* One parameter of all rows, as the library wants it: arrays of values, of lengths, and of what is NULL. */
struct bulk {
	const void **texts;
	int64_t *numbers;
	unsigned long *lens;
	char *indicators;
};

static void *bulk_alloc(char **room, size_t size)
{
	void *p = *room;

	*room += (size + 15) / 16 * 16;
	return p;
}

static bool bulk_column(const struct db *db, unsigned column, char **room, MYSQL_BIND *bind, struct err *e)
{
	unsigned rows = db->row_count, step = db->current->param_count;
	struct bulk b = {
		.texts = bulk_alloc(room, rows * sizeof(*b.texts)),
		.numbers = bulk_alloc(room, rows * sizeof(*b.numbers)),
		.lens = bulk_alloc(room, rows * sizeof(*b.lens)),
		.indicators = bulk_alloc(room, rows),
	};
	const struct param *first = NULL; /* that is not NULL: its kind is the column's */

	for (unsigned row = 0; row < rows; row++) {
		const struct param *p = &db->params[row * step + column];

		b.indicators[row] = p->kind == PARAM_NULL ? STMT_INDICATOR_NULL : STMT_INDICATOR_NONE;
		b.texts[row] = p->data ? p->data : p->id;
		b.lens[row] = p->len;
		b.numbers[row] = (int64_t)p->number;
		if (p->kind == PARAM_NULL)
			continue;
		if (first && first->kind != p->kind)
			return err_set(e, ERR_INTERNAL, "%.60s: parameter %u is of several kinds", db->current->sql,
				       column);
		first = p;
	}
	memset(bind, 0, sizeof(*bind));
	bind->u.indicator = b.indicators;
	bind->length = b.lens;
	bind->buffer = (void *)b.texts;
	bind->buffer_type = first && first->kind == PARAM_BYTES ? MYSQL_TYPE_BLOB : MYSQL_TYPE_STRING;
	if (first && (first->kind == PARAM_I64 || first->kind == PARAM_U64)) {
		bind->buffer = b.numbers;
		bind->buffer_type = MYSQL_TYPE_LONGLONG;
		bind->is_unsigned = first->kind == PARAM_U64;
	}
	return true;
}

static size_t bulk_size(const struct db *db)
{
	size_t one = sizeof(void *) + sizeof(int64_t) + sizeof(unsigned long) + 1;

	return db->current->param_count * (db->row_count * one + 4 * 16);
}

/* Several rows of parameters. What is bound lives in db->bulk until the next ones. */
static bool params_bind_bulk(struct db *db, struct err *e)
{
	struct stmt *stmt = db->current;
	char *room;

	free(db->bulk);
	room = db->bulk = xcalloc(1, bulk_size(db));
	for (unsigned i = 0; i < stmt->param_count; i++)
		if (!bulk_column(db, i, &room, &db->param_binds[i], e))
			return false;
	return true;
}

static bool params_bind(struct db *db, struct err *e)
{
	struct stmt *stmt = db->current;
	unsigned rows = db->row_count > 1 ? db->row_count : 0;

	if (db->param_count != stmt->param_count * db->row_count)
		return err_set(e, ERR_INTERNAL, "%.60s: %u parameters bound, %u wanted", stmt->sql, db->param_count,
			       stmt->param_count * db->row_count);
	if (rows > 0 && !params_bind_bulk(db, e))
		return false;
	for (unsigned i = 0; rows == 0 && i < db->param_count; i++)
		param_bind(&db->params[i], &db->param_binds[i]);
	if (rows != stmt->bulk_rows && mysql_stmt_attr_set(stmt->handle, STMT_ATTR_ARRAY_SIZE, &rows) != 0)
		return stmt_failed(db, stmt, false, e);
	stmt->bulk_rows = rows;
	if (db->param_count > 0 && mysql_stmt_bind_param(stmt->handle, db->param_binds) != 0)
		return stmt_failed(db, stmt, false, e);
	return true;
}

void db_next_row(struct db *db)
{
	db->row_count++;
}

static bool execute(struct stmt *stmt)
{
	if (mysql_stmt_execute(stmt->handle) != 0)
		return false;
	/* INSERT … RETURNING tells its columns only now. */
	if (stmt->column_count == 0 && mysql_stmt_field_count(stmt->handle) > 0 && !columns_make(stmt))
		return false;
	return stmt->column_count == 0 || mysql_stmt_store_result(stmt->handle) == 0;
}

/* A single statement outside a transaction that lost a deadlock is repeated here. */
static bool run(struct db *db, struct err *e)
{
	struct stmt *stmt = db->current;

	if (!params_bind(db, e))
		return false;
	for (unsigned attempt = 1; !execute(stmt); attempt++) {
		bool may_repeat = !db->in_transaction && mysql_stmt_errno(stmt->handle) == ER_LOCK_DEADLOCK;

		if (!may_repeat || attempt == DB_ATTEMPTS_MAX)
			return stmt_failed(db, stmt, true, e);
		db_pause_before_retry(attempt);
	}
	db->used_ms = clock_now_ms();
	db->is_run = true;
	db->has_rows = stmt->column_count > 0;
	db->affected = mysql_stmt_affected_rows(stmt->handle);
	return true;
}

/* The value of the present row, on its own. The columns' binding stays as it is: binding anew between two rows of a
 * result is not the same in all versions of the library. */
static bool fetch_large(struct stmt *stmt, unsigned i)
{
	struct column *c = &stmt->columns[i];
	unsigned long len = 0;
	my_bool is_null = 0, is_cut = 0;
	MYSQL_BIND bind = {.buffer_type = MYSQL_TYPE_STRING, .length = &len, .is_null = &is_null, .error = &is_cut};

	if (c->large_size < c->len + 1) {
		free(c->large);
		c->large_size = c->len + 1;
		c->large = xmalloc(c->large_size);
	}
	bind.buffer = c->large;
	bind.buffer_length = c->large_size;
	if (mysql_stmt_fetch_column(stmt->handle, &bind, i, 0) != 0)
		return false;
	c->large[c->len] = '\0';
	c->is_large = true;
	return true;
}

/* Ends each value with its NUL; fetches those that are longer than their buffer. */
static bool finish_row(struct stmt *stmt)
{
	for (unsigned i = 0; i < stmt->column_count; i++) {
		struct column *c = &stmt->columns[i];

		c->is_large = false;
		if (c->is_number || c->is_null)
			continue;
		if (c->len < c->size)
			c->text[c->len] = '\0';
		else if (!fetch_large(stmt, i))
			return false;
	}
	return true;
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
	if ((rc != 0 && rc != MYSQL_DATA_TRUNCATED) || !finish_row(stmt)) {
		(void)stmt_failed(db, stmt, false, e);
		return DB_FAIL;
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
	return c->is_large ? c->large : c->text;
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
