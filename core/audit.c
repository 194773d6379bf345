/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One INSERT and two SELECTs: nothing here changes or removes a row, and the
 * programs' database users may not either. Texts from outside are cut to their
 * columns, so that a long request id never costs the record.
 */
#include "core/audit.h"

#include "core/sql.h"
#include "lib/arena.h"
#include "lib/db.h"

static const char SQL_AUDIT_INSERT[] = "INSERT INTO audit_log (audit_id, at, org_id, token_id, role, action, target, "
				       "result, source_ip, request_id, detail) "
				       "VALUES (?, UTC_TIMESTAMP(3), ?, ?, ?, ?, ?, ?, ?, ?, ?)";

#define AUDIT_SELECT                                                                                                   \
	"SELECT audit_id, org_id, token_id, role, action, target, result, source_ip, request_id, detail, " SQL_UTC(    \
		"at") " FROM audit_log "

static const char SQL_AUDIT_ALL[] = AUDIT_SELECT "WHERE audit_id < ? ORDER BY audit_id DESC LIMIT ?";
/* Without the hint it reads from the newest down to the page. */
static const char SQL_AUDIT_OF_ORG[] =
	AUDIT_SELECT "FORCE INDEX (audit_org) WHERE org_id = ? AND audit_id < ? ORDER BY audit_id DESC LIMIT ?";

enum {
	AUDIT_ID,
	AUDIT_ORG,
	AUDIT_TOKEN,
	AUDIT_ROLE,
	AUDIT_ACTION,
	AUDIT_TARGET,
	AUDIT_RESULT,
	AUDIT_IP,
	AUDIT_REQUEST,
	AUDIT_DETAIL,
	AUDIT_AT
};

static void bind_entry(struct db *db, const struct audit_entry *entry)
{
	struct id audit_id = id_new();

	db_bind_id(db, &audit_id);
	db_bind_id(db, &entry->org_id);
	db_bind_id(db, &entry->token_id);
	db_bind_str(db, entry->role);
	sql_bind_text(db, entry->action, 64);
	sql_bind_text(db, entry->target, 64);
	db_bind_str(db, problem_code(entry->result));
	sql_bind_text(db, entry->origin.source_ip, 45);
	sql_bind_text(db, entry->origin.request_id, 64);
	sql_bind_text(db, entry->detail, 255);
}

bool audit_write_set(struct db *db, const struct audit_entry *entries, unsigned count, struct err *e)
{
	db_use(db, SQL_AUDIT_INSERT);
	for (unsigned i = 0; i < count; i++) {
		if (i > 0)
			db_next_row(db);
		bind_entry(db, &entries[i]);
	}
	return db_exec(db, e) || err_ctx(e, "audit");
}

bool audit_write(struct db *db, const struct audit_entry *entry, struct err *e)
{
	return audit_write_set(db, entry, 1, e);
}

static void entry_from_row(struct db *db, struct arena *mem, void *ret_row)
{
	struct audit_entry *entry = ret_row;

	entry->audit_id = db_col_id(db, AUDIT_ID);
	entry->org_id = db_col_id(db, AUDIT_ORG);
	entry->token_id = db_col_id(db, AUDIT_TOKEN);
	entry->role = sql_str(db, mem, AUDIT_ROLE);
	entry->action = sql_str(db, mem, AUDIT_ACTION);
	entry->target = sql_str(db, mem, AUDIT_TARGET);
	entry->result_code = sql_str(db, mem, AUDIT_RESULT);
	entry->origin.source_ip = sql_str(db, mem, AUDIT_IP);
	entry->origin.request_id = sql_str(db, mem, AUDIT_REQUEST);
	entry->detail = sql_str(db, mem, AUDIT_DETAIL);
	entry->at = sql_str(db, mem, AUDIT_AT);
	/* A code of a later version stays readable as result_code. */
	if (!entry->result_code || !problem_parse(entry->result_code, &entry->result))
		entry->result = PROBLEM_NONE;
}

bool audit_list(struct db *db, struct arena *mem, const struct id *org_id, const struct id *after, unsigned limit,
		struct audit_entry **ret_entries, unsigned *ret_count, struct err *e)
{
	bool is_of_org = org_id && id_is_set(org_id);
	void *rows;

	db_use(db, is_of_org ? SQL_AUDIT_OF_ORG : SQL_AUDIT_ALL);
	if (is_of_org)
		db_bind_id(db, org_id);
	sql_bind_after(db, after, SQL_ID_LAST);
	db_bind_u64(db, sql_page(limit));
	if (!sql_collect(db, mem, entry_from_row, sizeof(struct audit_entry), limit, &rows, ret_count, e))
		return false;
	*ret_entries = rows;
	return true;
}
