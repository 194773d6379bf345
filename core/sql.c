/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small steps that every SQL module of core/ takes. Nothing here knows a
 * table; the readers of shared rows stand in the modules that own them.
 */
#include "core/sql.h"

#include <assert.h>
#include <string.h>

#include "lib/arena.h"

bool sql_atomic(struct db *db, db_body body, void *closure, struct err *e)
{
	return db_in_transaction(db) ? body(db, closure, e) : db_transaction(db, body, closure, e);
}

void sql_bind_text(struct db *db, const char *s, size_t chars_max)
{
	size_t len = 0;

	if (!s) {
		db_bind_null(db);
		return;
	}
	/* A byte that is not 10xxxxxx begins a character. */
	for (size_t chars = 0; s[len] != '\0'; len++)
		if (((unsigned char)s[len] & 0xC0) != 0x80 && ++chars > chars_max)
			break;
	db_bind_strn(db, s, len);
}

void sql_bind_from(struct db *db, int64_t n, int64_t least)
{
	if (n < least)
		db_bind_null(db);
	else
		db_bind_i64(db, n);
}

void sql_bind_after(struct db *db, const struct id *after, const char *end)
{
	db_bind_str(db, after && id_is_set(after) ? after->text : end);
}

void id_set_add(struct id_set *set, const struct id *id)
{
	assert(set->count < SQL_SET_MAX);
	set->ids[set->count++] = *id;
}

int id_set_find(const struct id_set *set, const struct id *id)
{
	for (unsigned i = 0; i < set->count; i++)
		if (id_equal(&set->ids[i], id))
			return (int)i;
	return -1;
}

static enum sql_set set_size(const struct id_set *set)
{
	return set->count == 1 ? SET_ONE : set->count <= SQL_SET_FEW ? SET_FEW : SET_MANY;
}

void sql_use_set(struct db *db, const char *const *sql, const struct id_set *set)
{
	assert(set->count >= 1 && set->count <= SQL_SET_MAX);
	db_use(db, sql[set_size(set)]);
}

void sql_bind_set(struct db *db, const struct id_set *set)
{
	static const unsigned all[] = {[SET_ONE] = 1, [SET_FEW] = SQL_SET_FEW, [SET_MANY] = SQL_SET_MAX};
	unsigned places = all[set_size(set)];

	for (unsigned i = 0; i < places; i++)
		db_bind_id(db, &set->ids[i < set->count ? i : set->count - 1]);
}

bool sql_exec_set(struct db *db, const char *const *sql, const struct id_set *set, struct err *e)
{
	if (set->count == 0)
		return true;
	sql_use_set(db, sql, set);
	sql_bind_set(db, set);
	return db_exec(db, e);
}

bool sql_exec_named(struct db *db, enum problem *ret_problem, struct err *e)
{
	struct err reason = {0};

	*ret_problem = PROBLEM_NONE;
	if (db_exec(db, &reason))
		return true;
	if (reason.code != ERR_CONFLICT)
		return err_set(e, reason.code, "%s", reason.text);
	*ret_problem = PROBLEM_NAME_TAKEN;
	return true;
}

enum db_result sql_first(struct db *db, struct err *e)
{
	enum db_result result = db_step(db, e);

	if (result == DB_ROW)
		db_done(db);
	return result;
}

const char *sql_str(struct db *db, struct arena *mem, unsigned i)
{
	size_t len;
	const void *text = db_col_bytes(db, i, &len);

	return text ? arena_memdup(mem, text, len) : NULL;
}

bool sql_mem_ok(const struct arena *mem, struct err *e)
{
	if (arena_has_failed(mem))
		return err_set(e, ERR_LIMIT, "the rows do not fit into the memory of one request");
	return true;
}

unsigned sql_page(unsigned limit)
{
	return limit < SQL_PAGE_MAX ? limit : SQL_PAGE_MAX;
}

bool sql_collect(struct db *db, struct arena *mem, sql_row_fn read, size_t row_size, unsigned limit, void **ret_rows,
		 unsigned *ret_count, struct err *e)
{
	char *rows = arena_alloc(mem, sql_page(limit) * row_size);
	enum db_result result = DB_DONE;
	unsigned count = 0;

	while (rows && count < sql_page(limit) && (result = db_step(db, e)) == DB_ROW) {
		read(db, mem, rows + count * row_size);
		count++;
	}
	db_done(db);
	if (result == DB_FAIL || !sql_mem_ok(mem, e))
		return false;
	*ret_rows = rows;
	*ret_count = count;
	return true;
}
