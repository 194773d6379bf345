/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery. Every step first finds candidates with a plain read by an index, then locks their rows, SQL_SET_MAX of them
 * in one transaction, decides each, and writes what was decided in sets. A row that somebody else holds is skipped: it
 * is being dealt with, and the next pass comes soon.
 *
 * Declaring a worker dead is giving its workers row another incarnation while
 * its lease has run out: from that statement on its writes find no row, and its
 * placements belong to no incarnation, which is what the reaping looks for. A placement that such
 * a worker still commits at that moment is found by the next pass.
 */
#include "core/recovery.h"

#include <stdio.h>
#include <string.h>

#include "core/copies.h"
#include "core/placement.h"
#include "core/recovery_private.h"
#include "core/sql.h"
#include "lib/db.h"

#define DEAD_BATCH 32    /* incarnations looked at in one pass */
#define PRUNE_BATCH 5000 /* rows of worker_stats removed in one pass */

/*
 * Scalar subqueries and no EXISTS, here and below: those the optimizer may turn into a join that reads all placements
 * or operations first.
 */
static const char SQL_EXPIRED[] =
	"SELECT w.worker_id, w.incarnation FROM workers w WHERE w.lease_until <= UTC_TIMESTAMP(3) AND"
	" (SELECT 1 FROM placements p WHERE p.worker_id = w.worker_id AND p.incarnation = w.incarnation LIMIT 1) = 1"
	" LIMIT ?";
/* The lease is read again here, under the row's lock. */
static const char SQL_DECLARE_DEAD[] = "UPDATE workers SET incarnation = ? WHERE worker_id = ? AND incarnation = ? AND "
				       "lease_until <= UTC_TIMESTAMP(3)";
/*
 * The next incarnation that has placements, in one step of the index however many it has; DISTINCT reads them all
 * whenever the optimizer thinks so.
 */
static const char SQL_NEXT_INCARNATION[] =
	"SELECT p.worker_id, p.incarnation, (SELECT COUNT(*) FROM workers w"
	" WHERE w.worker_id = p.worker_id AND w.incarnation = p.incarnation)"
	" FROM placements p FORCE INDEX (placements_worker)"
	" WHERE p.worker_id > ? OR (p.worker_id = ? AND p.incarnation > ?) ORDER BY p.worker_id, p.incarnation LIMIT 1";
enum { NEXT_WORKER_ID, NEXT_INCARNATION, NEXT_STANDS };
static const char SQL_PLACED[] =
	"SELECT instance_id FROM placements WHERE worker_id = ? AND incarnation = ? ORDER BY instance_id LIMIT ?";
/* Of several tables, though there is one: only then may the index be named. */
SQL_SET(SQL_REMOVE_PLACEMENTS,
	"DELETE p FROM placements p FORCE INDEX (PRIMARY) WHERE p.worker_id = ? AND p.incarnation = ?"
	" AND p.instance_id IN ",
	"");
SQL_SET(SQL_PUBLISH_NOW,
	"UPDATE operations FORCE INDEX (operations_open) SET next_publish_at = UTC_TIMESTAMP(3) WHERE instance_id IN ",
	" AND is_open = 1 AND next_publish_at > UTC_TIMESTAMP(3)");

static const char SQL_BACKOFF_OVER[] =
	"SELECT instance_id FROM orchestrator_instances WHERE wanted_hot = 1 AND next_attempt_at <= UTC_TIMESTAMP(3)"
	" ORDER BY next_attempt_at LIMIT ?";
SQL_SET(SQL_CLEAR_BACKOFF,
	"UPDATE orchestrator_instances FORCE INDEX (PRIMARY) SET next_attempt_at = NULL WHERE instance_id IN ", "");
/* Rather too many than too few: the decision is made under the lock. */
static const char SQL_SWEEP[] =
	"SELECT i.instance_id,"
	" (SELECT COUNT(*) FROM placements p JOIN workers w ON w.worker_id = p.worker_id"
	" WHERE p.instance_id = i.instance_id AND " SQL_IS_LIVE ") < i.replicas"
	" AND (SELECT COUNT(*) FROM operations op"
	" WHERE op.instance_id = i.instance_id AND op.is_open = 1 AND op.action <> 'unload') = 0"
	" AND (SELECT o.status FROM organizations o WHERE o.org_id = i.org_id) = 'active'"
	" FROM orchestrator_instances i WHERE i.wanted_hot = 1 AND i.instance_id > ? ORDER BY i.instance_id LIMIT ?";
enum { SWEEP_INSTANCE_ID, SWEEP_IS_SHORT };

static const char SQL_PRUNE_STATS[] =
	"DELETE FROM worker_stats WHERE flushed_at < UTC_TIMESTAMP(3) - INTERVAL ? HOUR LIMIT ?";
static const char SQL_OLD_WORKERS[] =
	"SELECT worker_id, incarnation FROM workers WHERE lease_until < UTC_TIMESTAMP(3) - INTERVAL 1 DAY LIMIT ?";
static const char SQL_PRUNE_WORKER[] = "DELETE FROM workers WHERE worker_id = ? AND incarnation = ? AND lease_until < "
				       "UTC_TIMESTAMP(3) - INTERVAL 1 DAY";

/* --- one transaction --- */

enum step { STEP_REAP, STEP_RETRY, STEP_SWEEP };

struct incarnation {
	char worker_id[WORKER_ID_MAX + 1];
	struct id id;
};

struct chunk {
	enum step step;
	const struct incarnation *dead; /* STEP_REAP */
	struct id_set ids;
	struct recovered done[SQL_SET_MAX];
	unsigned done_count;
};

static bool is_poisoned(const struct copies *c)
{
	return copies_dead_attempts(c) >= PLACE_ATTEMPTS_MAX && c->live == 0;
}

bool recovery_settle(struct db *db, struct recovery_locked *apps, struct err *e)
{
	struct id_set open = {.count = 0};
	unsigned ended = 0;

	for (unsigned i = 0; i < apps->count; i++)
		if (apps->copies[i].has_open)
			id_set_add(&open, &apps->copies[i].instance_id);
	if (open.count > 0 && !operation_settle_set(db, &open, NULL, &ended, e))
		return false;
	/* Whose they were is not known: who waits for one of these Apps looks again. */
	for (unsigned i = 0; i < apps->count; i++)
		apps->ended[i] = apps->copies[i].has_open ? ended : 0;
	return true;
}

bool recovery_fail_poisoned(struct db *db, struct recovery_locked *apps, bool is_open_needed, struct err *e)
{
	for (unsigned i = 0; i < apps->count; i++) {
		const struct copies *c = &apps->copies[i];
		unsigned failed;

		if (!is_poisoned(c) || (is_open_needed && !c->has_open_load))
			continue;
		if (!copies_poison(db, c, NULL, &failed, e))
			return false;
		apps->ended[i] += failed;
	}
	return true;
}

/* What the step changes before the Apps are looked at. */
static bool prepare(struct db *db, const struct chunk *chunk, const struct recovery_locked *apps, struct err *e)
{
	struct id_set set = {.count = 0};

	for (unsigned i = 0; i < apps->count; i++)
		id_set_add(&set, &apps->copies[i].instance_id);
	switch (chunk->step) {
	case STEP_REAP:
		sql_use_set(db, SQL_REMOVE_PLACEMENTS, &set);
		db_bind_str(db, chunk->dead->worker_id);
		db_bind_id(db, &chunk->dead->id);
		sql_bind_set(db, &set);
		return db_exec(db, e);
	case STEP_RETRY:
		return sql_exec_set(db, SQL_CLEAR_BACKOFF, &set, e);
	case STEP_SWEEP:
		break;
	}
	return true;
}

/* Recovery operations for those that need one; all come to chunk->done. */
static bool bring_back(struct db *db, struct chunk *chunk, const struct recovery_locked *apps, struct err *e)
{
	const struct operation *ops[SQL_SET_MAX];
	unsigned count = 0;

	for (unsigned i = 0; i < apps->count; i++) {
		const struct copies *c = &apps->copies[i];
		struct recovered *r = &chunk->done[i];

		*r = (struct recovered){.instance_id = c->instance_id, .org_id = c->org_id, .ended = apps->ended[i]};
		if (!copies_need_recovery(c))
			continue;
		copies_recovery(c, &r->op);
		ops[count++] = &r->op;
	}
	chunk->done_count = apps->count;
	return count == 0 || operation_insert_set(db, ops, count, e);
}

static bool publish_now(struct db *db, const struct recovery_locked *apps, struct err *e)
{
	struct id_set set = {.count = 0};

	for (unsigned i = 0; i < apps->count; i++)
		if (apps->copies[i].has_open_load)
			id_set_add(&set, &apps->copies[i].instance_id);
	return sql_exec_set(db, SQL_PUBLISH_NOW, &set, e);
}

static bool chunk_body(struct db *db, void *closure, struct err *e)
{
	struct chunk *chunk = closure;
	struct recovery_locked apps;

	chunk->done_count = 0;
	if (!copies_lock(db, &chunk->ids, true, apps.copies, &apps.count, e))
		return false;
	if (apps.count == 0)
		return true;
	return prepare(db, chunk, &apps, e) && copies_read(db, NULL, apps.copies, apps.count, e) &&
	       recovery_settle(db, &apps, e) && recovery_fail_poisoned(db, &apps, chunk->step != STEP_REAP, e) &&
	       bring_back(db, chunk, &apps, e) && (chunk->step == STEP_SWEEP || publish_now(db, &apps, e));
}

static bool recover_apps(struct db *db, enum step step, const struct incarnation *dead, const struct id *ids,
			 unsigned count, recovered_fn fn, void *closure, struct err *e)
{
	struct chunk chunk;

	for (unsigned at = 0; at < count;) {
		chunk = (struct chunk){.step = step, .dead = dead};
		while (at < count && chunk.ids.count < SQL_SET_MAX)
			id_set_add(&chunk.ids, &ids[at++]);
		if (!db_transaction(db, chunk_body, &chunk, e))
			return false;
		for (unsigned i = 0; i < chunk.done_count; i++)
			fn(closure, &chunk.done[i]);
	}
	return true;
}

/* Reads the ids in the first column of the statement that is bound. */
static bool read_ids(struct db *db, struct id *ret_ids, unsigned max, unsigned *ret_count, struct err *e)
{
	enum db_result result = DB_DONE;
	unsigned count = 0;

	while (count < max && (result = db_step(db, e)) == DB_ROW)
		ret_ids[count++] = db_col_id(db, 0);
	db_done(db);
	*ret_count = count;
	return result != DB_FAIL;
}

/* --- reaping --- */

static void incarnation_from_columns(struct db *db, unsigned worker_id, unsigned incarnation, struct incarnation *ret_i)
{
	(void)snprintf(ret_i->worker_id, sizeof(ret_i->worker_id), "%s", db_col_str(db, worker_id));
	ret_i->id = db_col_id(db, incarnation);
}

/* Reads worker_id and incarnation from the statement that is bound. */
static bool read_incarnations(struct db *db, struct incarnation *ret_found, unsigned max, unsigned *ret_count,
			      struct err *e)
{
	enum db_result result = DB_DONE;
	unsigned count = 0;

	while (count < max && (result = db_step(db, e)) == DB_ROW)
		incarnation_from_columns(db, 0, 1, &ret_found[count++]);
	db_done(db);
	*ret_count = count;
	return result != DB_FAIL;
}

static bool declare_dead(struct db *db, struct err *e)
{
	struct incarnation expired[DEAD_BATCH];
	unsigned count;

	db_use(db, SQL_EXPIRED);
	db_bind_u64(db, DEAD_BATCH);
	if (!read_incarnations(db, expired, DEAD_BATCH, &count, e))
		return false;
	for (unsigned i = 0; i < count; i++) {
		struct id nobody = id_new();

		db_use(db, SQL_DECLARE_DEAD);
		db_bind_id(db, &nobody);
		db_bind_str(db, expired[i].worker_id);
		db_bind_id(db, &expired[i].id);
		if (!db_exec(db, e))
			return false;
	}
	return true;
}

/* *at: the one before, then the next. DB_DONE: there is none. */
static enum db_result next_incarnation(struct db *db, struct incarnation *at, bool *ret_stands, struct err *e)
{
	enum db_result result;

	db_use(db, SQL_NEXT_INCARNATION);
	db_bind_str(db, at->worker_id);
	db_bind_str(db, at->worker_id);
	sql_bind_after(db, &at->id, SQL_ID_FIRST);
	result = sql_first(db, e);
	if (result == DB_ROW) {
		incarnation_from_columns(db, NEXT_WORKER_ID, NEXT_INCARNATION, at);
		*ret_stands = db_col_i64(db, NEXT_STANDS) > 0;
	}
	return result;
}

/* The incarnations that stand no more but have placements; of only_worker all but `incarnation`. */
static bool find_dead(struct db *db, const char *only_worker, const struct id *incarnation,
		      struct incarnation ret_dead[DEAD_BATCH], unsigned *ret_count, struct err *e)
{
	struct incarnation at = {.worker_id = ""};
	enum db_result result = DB_DONE;
	unsigned count = 0;
	bool stands;

	if (only_worker)
		(void)snprintf(at.worker_id, sizeof(at.worker_id), "%s", only_worker);
	else if (!declare_dead(db, e))
		return false;
	while (count < DEAD_BATCH && (result = next_incarnation(db, &at, &stands, e)) == DB_ROW) {
		if (only_worker && strcmp(at.worker_id, only_worker) != 0)
			break;
		if (only_worker ? !id_equal(&at.id, incarnation) : !stands)
			ret_dead[count++] = at;
	}
	*ret_count = count;
	return result != DB_FAIL;
}

bool recovery_reap(struct db *db, const char *only_worker, const struct id *incarnation, recovered_fn fn, void *closure,
		   bool *ret_more, struct err *e)
{
	struct incarnation dead[DEAD_BATCH];
	struct id ids[RECOVERY_BATCH];
	unsigned room = RECOVERY_BATCH;
	unsigned dead_count;

	if (!find_dead(db, only_worker, incarnation, dead, &dead_count, e))
		return false;
	for (unsigned i = 0; i < dead_count && room > 0; i++) {
		unsigned count;

		db_use(db, SQL_PLACED);
		db_bind_str(db, dead[i].worker_id);
		db_bind_id(db, &dead[i].id);
		db_bind_u64(db, room);
		if (!read_ids(db, ids, room, &count, e) ||
		    !recover_apps(db, STEP_REAP, &dead[i], ids, count, fn, closure, e))
			return false;
		room -= count;
	}
	*ret_more = room == 0 || dead_count == DEAD_BATCH;
	return true;
}

/* --- hot Apps that lack copies --- */

bool recovery_retry(struct db *db, recovered_fn fn, void *closure, bool *ret_more, struct err *e)
{
	struct id ids[RECOVERY_BATCH];
	unsigned count;

	db_use(db, SQL_BACKOFF_OVER);
	db_bind_u64(db, RECOVERY_BATCH);
	if (!read_ids(db, ids, RECOVERY_BATCH, &count, e) ||
	    !recover_apps(db, STEP_RETRY, NULL, ids, count, fn, closure, e))
		return false;
	*ret_more = count == RECOVERY_BATCH;
	return true;
}

/* The ids among the next RECOVERY_BATCH wanted hot Apps that seem to lack copies. */
static bool sweep_read(struct db *db, struct id *cursor, struct id ret_ids[RECOVERY_BATCH], unsigned *ret_count,
		       struct err *e)
{
	enum db_result result;
	struct id last = {""};
	unsigned seen = 0;
	unsigned count = 0;

	db_use(db, SQL_SWEEP);
	sql_bind_after(db, cursor, SQL_ID_FIRST);
	db_bind_u64(db, RECOVERY_BATCH);
	while ((result = db_step(db, e)) == DB_ROW) {
		last = db_col_id(db, SWEEP_INSTANCE_ID);
		seen++;
		if (db_col_i64(db, SWEEP_IS_SHORT))
			ret_ids[count++] = last;
	}
	if (result == DB_FAIL)
		return false;
	*cursor = seen == RECOVERY_BATCH ? last : (struct id){""};
	*ret_count = count;
	return true;
}

bool recovery_sweep(struct db *db, struct id *cursor, recovered_fn fn, void *closure, struct err *e)
{
	struct id ids[RECOVERY_BATCH];
	unsigned count;

	return sweep_read(db, cursor, ids, &count, e) && recover_apps(db, STEP_SWEEP, NULL, ids, count, fn, closure, e);
}

/* --- pruning --- */

bool recovery_prune(struct db *db, int history_hours, struct err *e)
{
	struct incarnation old[DEAD_BATCH];
	unsigned count;

	db_use(db, SQL_PRUNE_STATS);
	db_bind_i64(db, history_hours);
	db_bind_u64(db, PRUNE_BATCH);
	if (!db_exec(db, e))
		return false;
	db_use(db, SQL_OLD_WORKERS);
	db_bind_u64(db, DEAD_BATCH);
	if (!read_incarnations(db, old, DEAD_BATCH, &count, e))
		return false;
	for (unsigned i = 0; i < count; i++) {
		db_use(db, SQL_PRUNE_WORKER);
		db_bind_str(db, old[i].worker_id);
		db_bind_id(db, &old[i].id);
		if (!db_exec(db, e))
			return false;
	}
	return true;
}
