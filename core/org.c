/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Organizations. The org row is the first in the lock order; whoever raises a
 * count that a quota bounds holds it. Suspending and reactivating is set-based:
 * one UPDATE for the org, one for its Apps, one for their open operations.
 */
#include "core/org.h"

#include "core/sql.h"
#include "lib/arena.h"
#include "lib/db.h"

static const char SQL_ORG_INSERT[] = "INSERT INTO organizations (org_id, name, status, quota_instances, quota_hot, "
				     "quota_demand, ttl_seconds, created_at, "
				     "updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))";
static const char SQL_ORG_BY_ID[] = "SELECT " ORG_COLUMNS " FROM organizations o WHERE o.org_id = ?";
static const char SQL_ORG_LIST[] =
	"SELECT " ORG_COLUMNS " FROM organizations o WHERE o.org_id > ? ORDER BY o.org_id LIMIT ?";
static const char SQL_ORG_CHANGE[] =
	"UPDATE organizations SET name = COALESCE(?, name), quota_instances = COALESCE(?, quota_instances), "
	"quota_hot = COALESCE(?, quota_hot), quota_demand = COALESCE(?, quota_demand), "
	"ttl_seconds = IF(?, ?, ttl_seconds), updated_at = UTC_TIMESTAMP(3) WHERE org_id = ?";

static const char SQL_ORG_LOCK_STATUS[] = "SELECT status FROM organizations WHERE org_id = ? FOR UPDATE";
static const char SQL_ORG_SET_STATUS[] =
	"UPDATE organizations SET status = ?, updated_at = UTC_TIMESTAMP(3) WHERE org_id = ?";
/* next_attempt_at: of a reactivated org, now: recovery's next passes bring its hot Apps back by that index. */
static const char SQL_ORG_RAISE_APPS[] =
	"UPDATE orchestrator_instances SET unload_generation = IF(?, generation + 1, unload_generation), "
	"generation = generation + 1, attempts = 0, failures = 0, failure_reason = NULL, "
	"next_attempt_at = IF(? AND wanted_hot = 1, UTC_TIMESTAMP(3), NULL) "
	"WHERE org_id = ? AND deleted_at IS NULL";
/* By the index of each App: operations of an org are not found otherwise without its whole history. */
static const char SQL_ORG_SUPERSEDE[] =
	"UPDATE orchestrator_instances i STRAIGHT_JOIN operations op FORCE INDEX (operations_open) "
	"ON op.instance_id = i.instance_id AND op.is_open = 1 "
	"SET op.state = 'superseded', op.reason = 'org_suspended', op.finished_at = UTC_TIMESTAMP(3) "
	"WHERE i.org_id = ? AND i.deleted_at IS NULL";

enum {
	ORG_ID,
	ORG_NAME,
	ORG_STATUS,
	ORG_QUOTA_INSTANCES,
	ORG_QUOTA_HOT,
	ORG_QUOTA_DEMAND,
	ORG_TTL,
	ORG_CREATED,
	ORG_UPDATED
};
_Static_assert(ORG_UPDATED + 1 == ORG_COLUMN_COUNT, "ORG_COLUMNS and their enum");

void org_from_row(struct db *db, struct arena *mem, unsigned first, struct org *ret_org)
{
	ret_org->org_id = db_col_id(db, first + ORG_ID);
	ret_org->name = sql_str(db, mem, first + ORG_NAME);
	(void)status_parse(db_col_str(db, first + ORG_STATUS), &ret_org->status);
	ret_org->quota_instances = (uint32_t)db_col_u64(db, first + ORG_QUOTA_INSTANCES);
	ret_org->quota_hot = (uint32_t)db_col_u64(db, first + ORG_QUOTA_HOT);
	ret_org->quota_demand = (uint32_t)db_col_u64(db, first + ORG_QUOTA_DEMAND);
	ret_org->ttl_seconds = db_col_is_null(db, first + ORG_TTL) ? -1 : db_col_i64(db, first + ORG_TTL);
	ret_org->created_at = sql_str(db, mem, first + ORG_CREATED);
	ret_org->updated_at = sql_str(db, mem, first + ORG_UPDATED);
}

bool org_create(struct db *db, const struct org *org, enum problem *ret_problem, struct err *e)
{
	db_use(db, SQL_ORG_INSERT);
	db_bind_id(db, &org->org_id);
	db_bind_str(db, org->name);
	db_bind_str(db, status_name(org->status));
	db_bind_u64(db, org->quota_instances);
	db_bind_u64(db, org->quota_hot);
	db_bind_u64(db, org->quota_demand);
	sql_bind_from(db, org->ttl_seconds, 0);
	return sql_exec_named(db, ret_problem, e);
}

bool org_get(struct db *db, struct arena *mem, const struct id *org_id, struct org *ret_org, enum problem *ret_problem,
	     struct err *e)
{
	struct org org;

	db_use(db, SQL_ORG_BY_ID);
	db_bind_id(db, org_id);
	switch (sql_first(db, e)) {
	case DB_ROW:
		org_from_row(db, mem, 0, &org);
		if (!sql_mem_ok(mem, e))
			return false;
		*ret_org = org;
		*ret_problem = PROBLEM_NONE;
		return true;
	case DB_DONE:
		*ret_problem = PROBLEM_ORG_NOT_FOUND;
		return true;
	case DB_FAIL:
		break;
	}
	return false;
}

static void read_org(struct db *db, struct arena *mem, void *ret_row)
{
	org_from_row(db, mem, 0, ret_row);
}

bool org_list(struct db *db, struct arena *mem, const struct id *after, unsigned limit, struct org **ret_orgs,
	      unsigned *ret_count, struct err *e)
{
	void *rows;

	db_use(db, SQL_ORG_LIST);
	sql_bind_after(db, after, SQL_ID_FIRST);
	db_bind_u64(db, sql_page(limit));
	if (!sql_collect(db, mem, read_org, sizeof(struct org), limit, &rows, ret_count, e))
		return false;
	*ret_orgs = rows;
	return true;
}

bool org_change(struct db *db, const struct id *org_id, const struct org_change *change, enum problem *ret_problem,
		struct err *e)
{
	db_use(db, SQL_ORG_CHANGE);
	db_bind_str(db, change->name);
	sql_bind_from(db, change->quota_instances, 0);
	sql_bind_from(db, change->quota_hot, 0);
	sql_bind_from(db, change->quota_demand, 0);
	db_bind_i64(db, change->ttl_seconds >= 0);
	sql_bind_from(db, change->ttl_seconds, 1);
	db_bind_id(db, org_id);
	if (!sql_exec_named(db, ret_problem, e))
		return false;
	if (*ret_problem == PROBLEM_NONE && db_affected(db) == 0)
		*ret_problem = PROBLEM_ORG_NOT_FOUND;
	return true;
}

struct status_change {
	const struct id *org_id;
	enum status status;
	bool is_changed;
	enum problem problem;
};

/* Locks the row and finds out whether there is anything to do. */
static bool status_differs(struct db *db, struct status_change *c, bool *ret_differs, struct err *e)
{
	enum status now = STATUS_ACTIVE;

	db_use(db, SQL_ORG_LOCK_STATUS);
	db_bind_id(db, c->org_id);
	switch (sql_first(db, e)) {
	case DB_ROW:
		(void)status_parse(db_col_str(db, 0), &now);
		*ret_differs = now != c->status;
		return true;
	case DB_DONE:
		c->problem = PROBLEM_ORG_NOT_FOUND;
		*ret_differs = false;
		return true;
	case DB_FAIL:
		break;
	}
	return false;
}

static bool set_status(struct db *db, void *closure, struct err *e)
{
	struct status_change *c = closure;
	bool differs;

	c->problem = PROBLEM_NONE;
	c->is_changed = false;
	if (!status_differs(db, c, &differs, e))
		return false;
	if (!differs)
		return true;
	db_use(db, SQL_ORG_SET_STATUS);
	db_bind_str(db, status_name(c->status));
	db_bind_id(db, c->org_id);
	if (!db_exec(db, e))
		return false;
	db_use(db, SQL_ORG_RAISE_APPS);
	db_bind_i64(db, c->status == STATUS_SUSPENDED);
	db_bind_i64(db, c->status == STATUS_ACTIVE);
	db_bind_id(db, c->org_id);
	if (!db_exec(db, e))
		return false;
	c->is_changed = true;
	if (c->status != STATUS_SUSPENDED)
		return true;
	db_use(db, SQL_ORG_SUPERSEDE);
	db_bind_id(db, c->org_id);
	return db_exec(db, e);
}

bool org_set_status(struct db *db, const struct id *org_id, enum status status, bool *ret_changed,
		    enum problem *ret_problem, struct err *e)
{
	struct status_change c = {.org_id = org_id, .status = status};

	if (!sql_atomic(db, set_status, &c, e))
		return err_ctx(e, "status of org %s", org_id->text);
	*ret_changed = c.is_changed;
	*ret_problem = c.problem;
	return true;
}
