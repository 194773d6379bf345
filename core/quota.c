/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quotas at claim time. Hot: requests that raise the count are checked when they
 * are accepted, under the org's lock; here only a quota that was lowered is
 * found, so no lock is needed. Demand: copies come and go without requests, so the last
 * places are given under the org's lock. Far from the limit nobody takes it, or
 * all loads of an org would queue.
 *
 * The table of counts is small and may forget: an org that collides with another is counted again. Any thread.
 */
#include "core/quota.h"

#include <pthread.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/db.h"

#define COUNT_AGE_MS 1000
#define COUNT_SLOTS 256

static const char SQL_HOT_ONE_MORE[] =
	"SELECT 1 FROM orchestrator_instances WHERE org_id = ? AND wanted_hot = 1 LIMIT 1 OFFSET ?";
static const char SQL_HOT_COUNT[] = "SELECT COUNT(*) FROM orchestrator_instances WHERE org_id = ? AND wanted_hot = 1";
/* Not less than the live ones: those of dead workers count until they are reaped. Only the index is read. */
static const char SQL_DEMAND_COUNT[] = "SELECT COUNT(*) + " STRINGIFY(
	QUOTA_NEAR) " * (SELECT COUNT(*) FROM workers WHERE lease_until > UTC_TIMESTAMP(3))"
		    " FROM placements WHERE org_id = ? AND tier = 'demand' AND state IN ('loading', 'ready')";
static const char SQL_DEMAND_HELD[] =
	"SELECT COUNT(*) FROM placements p"
	" JOIN workers w ON w.worker_id = p.worker_id AND w.incarnation = p.incarnation"
	" WHERE p.org_id = ? AND p.tier = 'demand' AND p.state IN ('loading', 'ready')"
	" AND w.lease_until > UTC_TIMESTAMP(3) AND w.state = 'active' AND NOT (p.instance_id = ? AND p.worker_id = ?)";
static const char SQL_LOCK_ORG[] = "SELECT 1 FROM organizations WHERE org_id = ? FOR UPDATE";

struct counted {
	const char *sql; /* what was counted; NULL: nothing yet */
	struct id org_id;
	uint64_t count;
	int64_t at_ms;
};

static struct counted counts[COUNT_SLOTS];
static pthread_mutex_t counts_lock = PTHREAD_MUTEX_INITIALIZER;

static struct counted *slot_of(const char *sql, const struct id *org_id)
{
	uint32_t hash = sql == SQL_HOT_COUNT ? 2166136261u : 2166136262u;

	for (const char *s = org_id->text; *s; s++)
		hash = (hash ^ (unsigned char)*s) * 16777619u;
	return &counts[hash % COUNT_SLOTS];
}

static bool recall(const char *sql, const struct id *org_id, uint64_t *ret_count)
{
	bool is_known;

	(void)pthread_mutex_lock(&counts_lock);
	const struct counted *slot = slot_of(sql, org_id);
	is_known = slot->sql == sql && id_equal(&slot->org_id, org_id) && clock_now_ms() - slot->at_ms < COUNT_AGE_MS;
	if (is_known)
		*ret_count = slot->count;
	(void)pthread_mutex_unlock(&counts_lock);
	return is_known;
}

static void remember(const char *sql, const struct id *org_id, uint64_t count)
{
	(void)pthread_mutex_lock(&counts_lock);
	*slot_of(sql, org_id) =
		(struct counted){.sql = sql, .org_id = *org_id, .count = count, .at_ms = clock_now_ms()};
	(void)pthread_mutex_unlock(&counts_lock);
}

static bool count_now(struct db *db, const char *sql, const struct id *org_id, uint64_t *ret_count, struct err *e)
{
	db_use(db, sql);
	db_bind_id(db, org_id);
	if (db_step(db, e) != DB_ROW)
		return false;
	*ret_count = db_col_u64(db, 0);
	db_done(db);
	return true;
}

static bool count_recent(struct db *db, const char *sql, const struct id *org_id, uint64_t *ret_count, struct err *e)
{
	if (recall(sql, org_id, ret_count))
		return true;
	if (!count_now(db, sql, org_id, ret_count, e))
		return false;
	remember(sql, org_id, *ret_count);
	return true;
}

bool quota_hot_is_overrun(struct db *db, const struct id *org_id, uint32_t quota, bool *ret_is_overrun, struct err *e)
{
	uint64_t count;

	if (quota > QUOTA_HOT_EXACT_MAX) {
		if (!count_recent(db, SQL_HOT_COUNT, org_id, &count, e))
			return false;
		*ret_is_overrun = count > quota;
		return true;
	}
	db_use(db, SQL_HOT_ONE_MORE);
	db_bind_id(db, org_id);
	db_bind_u64(db, quota);
	enum db_result result = db_step(db, e);
	if (result == DB_FAIL)
		return false;
	*ret_is_overrun = result == DB_ROW;
	db_done(db);
	return true;
}

bool quota_demand_is_near(struct db *db, const struct id *org_id, uint32_t quota, bool *ret_is_near, struct err *e)
{
	uint64_t room = 0;
	uint64_t count;

	if (quota <= QUOTA_NEAR) {
		*ret_is_near = true;
		return true;
	}
	if (quota > QUOTA_DEMAND_EXACT_MAX)
		room = quota / 4; /* more than is loaded while a count is remembered */
	if (!(quota > QUOTA_DEMAND_EXACT_MAX ? count_recent(db, SQL_DEMAND_COUNT, org_id, &count, e)
					     : count_now(db, SQL_DEMAND_COUNT, org_id, &count, e)))
		return false;
	*ret_is_near = count + room >= quota;
	return true;
}

bool quota_demand_held(struct db *db, const struct id *org_id, const struct id *instance_id, const char *worker_id,
		       unsigned *ret_held, struct err *e)
{
	db_use(db, SQL_DEMAND_HELD);
	db_bind_id(db, org_id);
	db_bind_id(db, instance_id);
	db_bind_str(db, worker_id);
	if (db_step(db, e) != DB_ROW)
		return false;
	*ret_held = (unsigned)db_col_u64(db, 0);
	db_done(db);
	return true;
}

bool quota_lock_org(struct db *db, const struct id *org_id, struct err *e)
{
	db_use(db, SQL_LOCK_ORG);
	db_bind_id(db, org_id);
	return db_exec(db, e);
}
