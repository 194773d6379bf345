/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations. Each ending is one UPDATE on the open operations of one App, under
 * that App's row lock; the index operations_open holds only few rows per App, so the
 * length of its history does not matter.
 *
 * A demand load takes no row lock that outlives its INSERT: operations_open is unique by what is open and, for demand
 * loads alone, the generation; so only one of many chats makes the operation, the others meet the duplicate and join.
 */
#include "core/operation.h"

#include "core/sql.h"
#include "lib/arena.h"
#include "lib/db.h"

#define REASON_CHARS_MAX 255
#define DEMAND_ATTEMPTS_MAX 4 /* an operation that ends between our INSERT and our look is rare */

static const char SQL_OPERATION_INSERT[] =
	"INSERT INTO operations (operation_id, instance_id, org_id, action, tier, generation, source, state, "
	"worker_id, request_id, fresh, drain_s, next_publish_at, accepted_at, finished_at) "
	"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3) + INTERVAL 5 SECOND, UTC_TIMESTAMP(3), "
	"IF(?, NULL, UTC_TIMESTAMP(3)))";

static const char SQL_OPERATION_SUPERSEDE[] =
	"UPDATE operations SET state = 'superseded', finished_at = UTC_TIMESTAMP(3) "
	"WHERE instance_id = ? AND is_open = 1 AND (action = 'unload') <> ? AND operation_id <> ?";

static const char SQL_OPERATION_BY_ID[] = "SELECT " OPERATION_COLUMNS " FROM operations op WHERE op.operation_id = ?";
/* Without the hint it reads from the newest down to the page. */
static const char SQL_OPERATION_LIST[] =
	"SELECT " OPERATION_COLUMNS " FROM operations op FORCE INDEX (operations_instance) "
	"WHERE op.instance_id = ? AND op.operation_id < ? ORDER BY op.operation_id DESC LIMIT ?";

/*
 * The rules of operation.h. A copy above the row's generation (a restored backup) counts as below; one that
 * fell back to the previous version fulfils nothing; a failed placement holds nothing.
 */
#define FULFILS                                                                                                        \
	SQL_IS_LIVE " AND p.state = 'ready' AND NOT p.reason <=> 'running_previous_version'"                           \
		    " AND p.generation >= op.generation AND p.generation <= i.generation"
/* A lease that has run out may be renewed: until its worker is declared dead, what it holds may serve again. */
#define MAY_SERVE "w.incarnation = p.incarnation AND p.state IN ('loading', 'ready')"
#define IS_BELOW "(p.generation < op.generation OR p.generation > i.generation)"

/*
 * An UPDATE of one table, because InnoDB then reads the others without locks: leases are renewed meanwhile. One look at
 * the copies, whatever the action: each subquery is planned anew with every execution.
 */
SQL_SET(SQL_OPERATION_SETTLE,
	"UPDATE operations op FORCE INDEX (operations_open) "
	"SET op.state = 'succeeded', op.worker_id = COALESCE(?, op.worker_id), op.finished_at = UTC_TIMESTAMP(3) "
	"WHERE op.instance_id IN ",
	" AND op.is_open = 1 AND (SELECT CASE op.action "
	"WHEN 'unload' THEN COALESCE(SUM(p.state <> 'failed' AND " IS_BELOW "), 0) = 0 "
	"WHEN 'reload' THEN COALESCE(SUM(" FULFILS "), 0) > 0 AND COALESCE(SUM(" MAY_SERVE " AND " IS_BELOW "), 0) = 0 "
	"ELSE COALESCE(SUM(" FULFILS "), 0) >= GREATEST(1, LEAST(MAX(i.replicas), "
	"(SELECT COUNT(*) FROM workers WHERE state = 'active' AND lease_until > UTC_TIMESTAMP(3)))) END "
	"FROM orchestrator_instances i LEFT JOIN placements p ON p.instance_id = i.instance_id "
	"LEFT JOIN workers w ON w.worker_id = p.worker_id WHERE i.instance_id = op.instance_id)");

static const char SQL_OPERATION_FAIL[] =
	"UPDATE operations SET state = 'failed', reason = ?, worker_id = COALESCE(?, worker_id), "
	"finished_at = UTC_TIMESTAMP(3) "
	"WHERE instance_id = ? AND is_open = 1 AND action <> 'unload' AND generation <= ?";

/* What a chat finds: the App, its backoff, and the oldest open operation that brings it up. */
static const char SQL_DEMAND_LOOK[] =
	"SELECT o.status, i.status, i.deleted_at IS NOT NULL, i.failure_reason, "
	"IF(i.next_attempt_at > UTC_TIMESTAMP(3), "
	"TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(3), i.next_attempt_at), 0), i.tier, " OPERATION_COLUMNS
	" FROM orchestrator_instances i JOIN organizations o ON o.org_id = i.org_id "
	"LEFT JOIN operations op ON op.instance_id = i.instance_id AND op.is_open = 1 AND op.action <> 'unload' "
	"AND op.generation <= i.generation WHERE i.instance_id = ? ORDER BY op.operation_id LIMIT 1";

/* The shared lock makes an unload either come before, and be seen, or after, and supersede this. */
static const char SQL_DEMAND_INSERT[] =
	"INSERT INTO operations (operation_id, instance_id, org_id, action, tier, generation, source, request_id, "
	"next_publish_at, accepted_at) SELECT ?, i.instance_id, i.org_id, 'load', i.tier, i.generation, 'demand', ?, "
	"UTC_TIMESTAMP(3) + INTERVAL 5 SECOND, UTC_TIMESTAMP(3) FROM orchestrator_instances i "
	"WHERE i.instance_id = ? AND i.deleted_at IS NULL AND i.status = 'active' AND i.tier = 'demand' "
	"AND (i.next_attempt_at IS NULL OR i.next_attempt_at <= UTC_TIMESTAMP(3)) LOCK IN SHARE MODE";

enum {
	OP_ID,
	OP_INSTANCE,
	OP_ORG,
	OP_ACTION,
	OP_TIER,
	OP_GENERATION,
	OP_STATE,
	OP_REASON,
	OP_SOURCE,
	OP_WORKER,
	OP_REQUEST,
	OP_FRESH,
	OP_DRAIN,
	OP_ACCEPTED_AT,
	OP_STARTED_AT,
	OP_FINISHED_AT
};
_Static_assert(OP_FINISHED_AT + 1 == OPERATION_COLUMN_COUNT, "OPERATION_COLUMNS and their enum");

void operation_from_row(struct db *db, struct arena *mem, unsigned first, struct operation *ret_op)
{
	ret_op->operation_id = db_col_id(db, first + OP_ID);
	ret_op->instance_id = db_col_id(db, first + OP_INSTANCE);
	ret_op->org_id = db_col_id(db, first + OP_ORG);
	(void)action_parse(db_col_str(db, first + OP_ACTION), &ret_op->action);
	(void)tier_parse(db_col_str(db, first + OP_TIER), &ret_op->tier);
	ret_op->generation = db_col_u64(db, first + OP_GENERATION);
	(void)op_state_parse(db_col_str(db, first + OP_STATE), &ret_op->state);
	ret_op->reason = sql_str(db, mem, first + OP_REASON);
	(void)source_parse(db_col_str(db, first + OP_SOURCE), &ret_op->source);
	ret_op->worker_id = sql_str(db, mem, first + OP_WORKER);
	ret_op->request_id = sql_str(db, mem, first + OP_REQUEST);
	ret_op->fresh = db_col_i64(db, first + OP_FRESH) != 0;
	ret_op->drain_s = db_col_is_null(db, first + OP_DRAIN) ? -1 : db_col_i64(db, first + OP_DRAIN);
	ret_op->accepted_at = sql_str(db, mem, first + OP_ACCEPTED_AT);
	ret_op->started_at = sql_str(db, mem, first + OP_STARTED_AT);
	ret_op->finished_at = sql_str(db, mem, first + OP_FINISHED_AT);
}

static void bind_insert(struct db *db, const struct operation *op)
{
	db_bind_id(db, &op->operation_id);
	db_bind_id(db, &op->instance_id);
	db_bind_id(db, &op->org_id);
	db_bind_str(db, action_name(op->action));
	db_bind_str(db, tier_name(op->tier));
	db_bind_u64(db, op->generation);
	db_bind_str(db, source_name(op->source));
	db_bind_str(db, op_state_name(op->state));
	db_bind_str(db, op->worker_id);
	sql_bind_text(db, op->request_id, 64);
	db_bind_i64(db, op->fresh);
	sql_bind_from(db, op->drain_s, 0);
	db_bind_i64(db, op_is_open(op->state));
}

bool operation_insert_set(struct db *db, const struct operation *const *ops, unsigned count, struct err *e)
{
	db_use(db, SQL_OPERATION_INSERT);
	for (unsigned i = 0; i < count; i++) {
		if (i > 0)
			db_next_row(db);
		bind_insert(db, ops[i]);
	}
	return db_exec(db, e);
}

bool operation_insert(struct db *db, const struct operation *op, struct err *e)
{
	return operation_insert_set(db, &op, 1, e);
}

static void bind_supersede(struct db *db, const struct id *instance_id, enum action wanted, const struct id *except)
{
	db_bind_id(db, instance_id);
	db_bind_i64(db, wanted == ACTION_UNLOAD);
	sql_bind_after(db, except, SQL_ID_FIRST);
}

bool operation_supersede(struct db *db, const struct id *instance_id, enum action wanted, const struct id *except,
			 struct err *e)
{
	db_use(db, SQL_OPERATION_SUPERSEDE);
	bind_supersede(db, instance_id, wanted, except);
	return db_exec(db, e);
}

bool operation_supersede_set(struct db *db, const struct operation *const *ops, unsigned count, struct err *e)
{
	db_use(db, SQL_OPERATION_SUPERSEDE);
	for (unsigned i = 0; i < count; i++) {
		if (i > 0)
			db_next_row(db);
		bind_supersede(db, &ops[i]->instance_id, ops[i]->action, NULL);
	}
	return db_exec(db, e);
}

bool operation_get(struct db *db, struct arena *mem, const struct id *org_id, const struct id *operation_id,
		   struct operation *ret_op, enum problem *ret_problem, struct err *e)
{
	enum db_result result;
	struct operation op;

	db_use(db, SQL_OPERATION_BY_ID);
	db_bind_id(db, operation_id);
	result = sql_first(db, e);
	if (result == DB_FAIL)
		return false;
	if (result == DB_ROW)
		operation_from_row(db, mem, 0, &op);
	if (!sql_mem_ok(mem, e))
		return false;
	*ret_problem = PROBLEM_OPERATION_NOT_FOUND;
	if (result == DB_DONE || (org_id && !id_equal(&op.org_id, org_id)))
		return true;
	*ret_op = op;
	*ret_problem = PROBLEM_NONE;
	return true;
}

static void read_operation(struct db *db, struct arena *mem, void *ret_row)
{
	operation_from_row(db, mem, 0, ret_row);
}

bool operation_list(struct db *db, struct arena *mem, const struct id *instance_id, const struct id *after,
		    unsigned limit, struct operation **ret_ops, unsigned *ret_count, struct err *e)
{
	void *rows;

	db_use(db, SQL_OPERATION_LIST);
	db_bind_id(db, instance_id);
	sql_bind_after(db, after, SQL_ID_LAST);
	db_bind_u64(db, sql_page(limit));
	if (!sql_collect(db, mem, read_operation, sizeof(struct operation), limit, &rows, ret_count, e))
		return false;
	*ret_ops = rows;
	return true;
}

bool operation_settle_set(struct db *db, const struct id_set *instance_ids, const char *worker_id, unsigned *ret_ended,
			  struct err *e)
{
	sql_use_set(db, SQL_OPERATION_SETTLE, instance_ids);
	db_bind_str(db, worker_id);
	sql_bind_set(db, instance_ids);
	if (!db_exec(db, e))
		return false;
	*ret_ended = (unsigned)db_affected(db);
	return true;
}

bool operation_settle(struct db *db, const struct id *instance_id, const char *worker_id, unsigned *ret_ended,
		      struct err *e)
{
	struct id_set one = {.count = 0};

	id_set_add(&one, instance_id);
	return operation_settle_set(db, &one, worker_id, ret_ended, e);
}

bool operation_fail(struct db *db, const struct id *instance_id, uint64_t generation, const char *reason,
		    const char *worker_id, unsigned *ret_ended, struct err *e)
{
	db_use(db, SQL_OPERATION_FAIL);
	sql_bind_text(db, reason, REASON_CHARS_MAX);
	db_bind_str(db, worker_id);
	db_bind_id(db, instance_id);
	db_bind_u64(db, generation);
	if (!db_exec(db, e))
		return false;
	*ret_ended = (unsigned)db_affected(db);
	return true;
}

struct demand {
	struct arena *mem;
	const struct id *instance_id;
	const char *request_id;
	struct operation op; /* open_id set: the open one */
	struct id own_id;    /* "" until an INSERT was tried */
	enum problem problem;
	int64_t backoff_us;
	const char *reason;
	bool is_ended; /* nothing is open and nothing stands in the way: insert one */
};

enum {
	DEMAND_ORG_STATUS,
	DEMAND_STATUS,
	DEMAND_IS_DELETED,
	DEMAND_REASON,
	DEMAND_BACKOFF_US,
	DEMAND_TIER,
	DEMAND_OPERATION
};

/* What stands in the way of a load, from the row. */
static enum problem demand_problem(struct db *db)
{
	enum status org_status = STATUS_ACTIVE, status = STATUS_ACTIVE;
	enum tier tier = TIER_DEMAND;

	(void)status_parse(db_col_str(db, DEMAND_ORG_STATUS), &org_status);
	(void)status_parse(db_col_str(db, DEMAND_STATUS), &status);
	if (db_col_i64(db, DEMAND_IS_DELETED))
		return PROBLEM_INSTANCE_DELETED;
	if (org_status == STATUS_SUSPENDED)
		return PROBLEM_ORG_SUSPENDED;
	if (status == STATUS_SUSPENDED)
		return PROBLEM_INSTANCE_SUSPENDED;
	if (db_col_i64(db, DEMAND_BACKOFF_US) > 0)
		return PROBLEM_INSTANCE_FAILED;
	/* It has become hot: no chat loads it behind the operator's back. */
	(void)tier_parse(db_col_str(db, DEMAND_TIER), &tier);
	return tier == TIER_HOT && db_col_is_null(db, DEMAND_OPERATION) ? PROBLEM_INSTANCE_NOT_LOADED : PROBLEM_NONE;
}

static bool demand_look(struct db *db, struct demand *d, struct err *e)
{
	enum db_result result;

	d->is_ended = false;
	db_use(db, SQL_DEMAND_LOOK);
	db_bind_id(db, d->instance_id);
	result = sql_first(db, e);
	if (result == DB_FAIL)
		return false;
	d->problem = result == DB_ROW ? demand_problem(db) : PROBLEM_INSTANCE_NOT_FOUND;
	if (result == DB_DONE)
		return true;
	d->backoff_us = db_col_i64(db, DEMAND_BACKOFF_US);
	d->reason = sql_str(db, d->mem, DEMAND_REASON);
	d->is_ended = d->problem == PROBLEM_NONE && db_col_is_null(db, DEMAND_OPERATION);
	if (d->problem == PROBLEM_NONE && !d->is_ended)
		operation_from_row(db, d->mem, DEMAND_OPERATION, &d->op);
	return sql_mem_ok(d->mem, e);
}

static bool demand_insert(struct db *db, void *closure, struct err *e)
{
	struct demand *d = closure;
	struct err reason = {0};

	d->own_id = id_new();
	db_use(db, SQL_DEMAND_INSERT);
	db_bind_id(db, &d->own_id);
	sql_bind_text(db, d->request_id, 64);
	db_bind_id(db, d->instance_id);
	/* A duplicate: another chat was quicker, and its operation is committed. */
	if (!db_exec(db, &reason) && reason.code != ERR_CONFLICT)
		return err_set(e, reason.code, "%s", reason.text);
	if (!demand_look(db, d, e))
		return false;
	/* Refused after all: what was inserted goes again. */
	return d->problem == PROBLEM_NONE || err_set(e, ERR_CONFLICT, "the App was changed meanwhile");
}

bool operation_demand(struct db *db, struct arena *mem, const struct id *instance_id, const char *request_id,
		      struct operation *ret_op, bool *ret_is_new, int *ret_retry_after_s, const char **ret_reason,
		      enum problem *ret_problem, struct err *e)
{
	struct demand d = {.mem = mem, .instance_id = instance_id, .request_id = request_id};
	struct err reason = {0};

	if (!demand_look(db, &d, e))
		return false;
	for (int attempt = 0; d.is_ended; attempt++) {
		if (attempt == DEMAND_ATTEMPTS_MAX)
			return err_set(e, ERR_BUSY, "demand loads of App %s end as soon as they begin",
				       instance_id->text);
		if (!db_transaction(db, demand_insert, &d, &reason) && d.problem == PROBLEM_NONE)
			return err_set(e, reason.code, "%s", reason.text);
	}
	*ret_problem = d.problem;
	*ret_reason = d.reason;
	*ret_retry_after_s = (int)((d.backoff_us + 999999) / 1000000);
	if (d.problem != PROBLEM_NONE)
		return true;
	*ret_op = d.op;
	*ret_is_new = id_equal(&d.op.operation_id, &d.own_id);
	return true;
}
