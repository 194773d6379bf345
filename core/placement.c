/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's writes about its copies. Every function is one transaction of the
 * same shape: lock the App's row, read the copies (copies.h), see whether our
 * incarnation still stands, decide, write our own placement (never another
 * worker's), settle. A body sets its job's outputs afresh, since it may run again.
 *
 * Attempts: a claim raises attempts on the App's row and marks the placement with build_generation; a
 * result clears both, giving back takes one off. What stays when the placement is gone is
 * an attempt whose worker died.
 */
#include "core/placement.h"

#include <stdio.h>
#include <string.h>

#include "core/copies.h"
#include "core/operation.h"
#include "core/quota.h"
#include "core/sql.h"
#include "lib/arena.h"
#include "lib/db.h"
#include "lib/json.h"

#define QUOTA_RETRY_S 10

/* What a copy is built from: up to some megabytes, so only a claim that builds reads it. */
static const char SQL_VERSIONS[] =
	"SELECT framework_type, mode, config, good_mode, good_config, COALESCE(good_config_hash, ''), attempts"
	" FROM orchestrator_instances WHERE instance_id = ?";
enum {
	VERSION_FRAMEWORK,
	VERSION_MODE,
	VERSION_CONFIG,
	VERSION_GOOD_MODE,
	VERSION_GOOD_CONFIG,
	VERSION_GOOD_HASH,
	VERSION_ATTEMPTS
};

/* --- writes --- */

/* A placement row of ours that is there already, of this or an earlier incarnation, is taken over. */
static const char SQL_PLACE_LOADING[] =
	"INSERT INTO placements (instance_id, worker_id, incarnation, org_id, tier, generation, state, "
	"build_generation,"
	" placed_at, changed_at)"
	" VALUES (?, ?, ?, ?, ?, ?, 'loading', ?, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))"
	" ON DUPLICATE KEY UPDATE incarnation = VALUES(incarnation), org_id = VALUES(org_id), tier = VALUES(tier),"
	" generation = VALUES(generation), state = 'loading', reason = NULL,"
	" build_generation = VALUES(build_generation), placed_at = VALUES(placed_at), changed_at = VALUES(changed_at)";
/* Inserts too: a copy that serves while its row was lost (a restored backup) gets its row back. */
static const char SQL_PLACE_READY[] =
	"INSERT INTO placements (instance_id, worker_id, incarnation, org_id, tier, generation, state, reason, "
	"placed_at,"
	" changed_at)"
	" VALUES (?, ?, ?, ?, ?, ?, 'ready', ?, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))"
	" ON DUPLICATE KEY UPDATE placed_at = IF(incarnation = VALUES(incarnation), placed_at, VALUES(placed_at)),"
	" incarnation = VALUES(incarnation), org_id = VALUES(org_id), tier = VALUES(tier),"
	" generation = VALUES(generation), state = 'ready', reason = VALUES(reason), build_generation = NULL,"
	" changed_at = VALUES(changed_at)";

#define OWN " WHERE instance_id = ? AND worker_id = ? AND incarnation = ?"
static const char SQL_PLACE_BUILD[] = "UPDATE placements SET build_generation = ?, changed_at = UTC_TIMESTAMP(3)" OWN;
static const char SQL_PLACE_BUILT[] =
	"UPDATE placements SET build_generation = NULL, changed_at = UTC_TIMESTAMP(3)" OWN;
static const char SQL_PLACE_FAILED[] = "UPDATE placements SET state = 'failed', reason = ?, build_generation = NULL, "
				       "changed_at = UTC_TIMESTAMP(3)" OWN;
static const char SQL_PLACE_DRAINING[] =
	"UPDATE placements SET state = 'draining', build_generation = NULL, changed_at = UTC_TIMESTAMP(3)" OWN;
static const char SQL_PLACE_GONE[] = "DELETE FROM placements" OWN;
/* Whatever does not serve, also of an earlier incarnation. */
static const char SQL_PLACE_POISONED[] = "DELETE FROM placements WHERE instance_id = ? AND worker_id = ?"
					 " AND (incarnation <> ? OR state IN ('loading', 'failed'))";
static const char SQL_NEWEST_OPEN_LOAD[] =
	"SELECT operation_id FROM operations WHERE instance_id = ? AND is_open = 1 AND action <> 'unload'"
	" ORDER BY operation_id DESC LIMIT 1";
/* The youngest of the live ready ones. */
static const char SQL_YOUNGEST[] = "SELECT p.worker_id FROM placements p JOIN workers w ON w.worker_id = p.worker_id"
				   " WHERE p.instance_id = ? AND p.state = 'ready' AND " SQL_IS_LIVE
				   " ORDER BY p.placed_at DESC, p.worker_id DESC LIMIT 1";

static const char SQL_ATTEMPT_BEGUN[] =
	"UPDATE orchestrator_instances SET attempts = attempts + 1 WHERE instance_id = ?";
static const char SQL_ATTEMPT_BACK[] =
	"UPDATE orchestrator_instances SET attempts = attempts - 1 WHERE instance_id = ? AND attempts > 0";
#define TROUBLE_OVER "attempts = 0, failures = 0, next_attempt_at = NULL, failure_reason = NULL"
#define VERSION_GOOD "good_mode = mode, good_config = config, good_config_hash = config_hash"
static const char SQL_TROUBLE_OVER[] = "UPDATE orchestrator_instances SET " TROUBLE_OVER " WHERE instance_id = ?";
static const char SQL_VERSION_GOOD[] = "UPDATE orchestrator_instances SET " VERSION_GOOD " WHERE instance_id = ?";
static const char SQL_ALL_GOOD[] =
	"UPDATE orchestrator_instances SET " TROUBLE_OVER ", " VERSION_GOOD " WHERE instance_id = ?";
/* Assignments run from left to right: the first failure waits 1 s, the tenth 5 min. */
static const char SQL_FAILED[] =
	"UPDATE orchestrator_instances SET attempts = 0, failure_reason = ?,"
	" next_attempt_at = UTC_TIMESTAMP(3) + INTERVAL LEAST(300, 1 << LEAST(failures, 9)) SECOND,"
	" failures = failures + 1 WHERE instance_id = ?";
/* Not the App's fault: an attempt that began is taken back. */
static const char SQL_FAILED_FOR_NOW[] =
	"UPDATE orchestrator_instances SET attempts = IF(attempts > ?, attempts - ?, 0), failure_reason = ?,"
	" next_attempt_at = UTC_TIMESTAMP(3) + INTERVAL ? SECOND WHERE instance_id = ?";
/* Where somebody else builds too, an operation that runs stays with its first worker. */
static const char SQL_OPERATIONS_RUN[] =
	"UPDATE operations SET state = 'running', worker_id = ?, started_at = COALESCE(started_at, UTC_TIMESTAMP(3))"
	" WHERE instance_id = ? AND is_open = 1 AND action <> 'unload' AND (state = 'accepted' OR ?)";

/* The row as the claim's transaction has read it. */
static void row_from_copies(const struct copies *c, struct app_row *ret_row)
{
	*ret_row = (struct app_row){
		.is_found = true,
		.instance_id = c->instance_id,
		.org_id = c->org_id,
		.is_active = c->is_active,
		.tier = c->tier,
		.desired_state = c->desired_state,
		.generation = c->generation,
		.rebuild_generation = c->rebuild_generation,
		.unload_generation = c->unload_generation,
		.ttl_seconds = c->ttl_seconds >= 0 ? c->ttl_seconds : c->org_ttl_seconds,
		.has_load_wanted = c->has_open_load,
		.fresh = c->fresh,
		.drain_s = -1,
		.replicas = c->replicas,
		.retry_in_ms = c->retry_in_ms,
	};
	memcpy(ret_row->hash, c->hash, sizeof(ret_row->hash));
}

static bool read_versions(struct db *db, struct arena *mem, const struct id *instance_id, struct app_row *row,
			  struct err *e)
{
	db_use(db, SQL_VERSIONS);
	db_bind_id(db, instance_id);
	switch (sql_first(db, e)) {
	case DB_ROW:
		break;
	case DB_DONE:
		return err_set(e, ERR_MISSING, "instance %s is gone", instance_id->text);
	case DB_FAIL:
		return false;
	}
	row->framework_type = sql_str(db, mem, VERSION_FRAMEWORK);
	row->mode = sql_str(db, mem, VERSION_MODE);
	row->config = sql_str(db, mem, VERSION_CONFIG);
	row->good_mode = sql_str(db, mem, VERSION_GOOD_MODE);
	row->good_config = sql_str(db, mem, VERSION_GOOD_CONFIG);
	(void)snprintf(row->good_hash, sizeof(row->good_hash), "%s", db_col_str(db, VERSION_GOOD_HASH));
	row->attempts = (uint32_t)db_col_u64(db, VERSION_ATTEMPTS);
	return sql_mem_ok(mem, e);
}

/* --- what all writes share --- */

/* One function's call: what it was given, and what comes out of the transaction. */
struct job {
	const struct worker_identity *who;
	const struct id *instance_id;
	uint64_t generation;
	enum tier tier;
	const char *hash, *reason;
	bool keep, hand_over;
	int retry_s;

	enum place_result result;
	unsigned ended;
	struct id next_op;
	bool is_dropped;
};

static void bind_own(struct db *db, const struct worker_identity *who, const struct id *instance_id)
{
	db_bind_id(db, instance_id);
	db_bind_str(db, who->worker_id);
	db_bind_id(db, &who->incarnation);
}

static bool write_own(struct db *db, const char *sql, const struct job *job, struct err *e)
{
	db_use(db, sql);
	bind_own(db, job->who, job->instance_id);
	return db_exec(db, e);
}

static bool write_row(struct db *db, const char *sql, const struct id *instance_id, struct err *e)
{
	db_use(db, sql);
	db_bind_id(db, instance_id);
	return db_exec(db, e);
}

static bool settle(struct db *db, struct job *job, const struct copies *c, struct err *e)
{
	return !c->has_open || operation_settle(db, job->instance_id, job->who->worker_id, &job->ended, e);
}

/* Locks and reads. DB_ROW: go on; DB_DONE: job->result says it all. */
static enum db_result open_app(struct db *db, struct job *job, struct copies *ret_copies, struct err *e)
{
	job->ended = 0;
	job->result = PLACE_OK;
	switch (copies_lock(db, job->instance_id, false, ret_copies, e)) {
	case DB_ROW:
		break;
	case DB_DONE:
		job->result = PLACE_CHANGED; /* rows of Apps are never removed: a restored backup knows nothing of it */
		return DB_DONE;
	case DB_FAIL:
		return DB_FAIL;
	}
	if (!copies_read(db, job->who, ret_copies, e))
		return DB_FAIL;
	if (ret_copies->is_registered)
		return DB_ROW;
	job->result = PLACE_LOST;
	return DB_DONE;
}

static enum place_result run(struct db *db, db_body body, struct job *job, struct err *e)
{
	return db_transaction(db, body, job, e) ? job->result : PLACE_FAIL;
}

/* Valid UTF-8 of at most REASON_MAX bytes: providers and plugins say anything, and the database takes nothing else. */
static const char *clean_reason(const char *reason, char ret_text[REASON_MAX + 1])
{
	size_t len = strnlen(reason, REASON_MAX + 1);

	if (len > REASON_MAX)
		for (len = REASON_MAX; len > 0 && ((unsigned char)reason[len] & 0xC0) == 0x80;)
			len--;
	bool is_valid = utf8_is_valid(reason, len);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)reason[i];

		ret_text[i] = (char)(c < ' ' || c == 0x7F || (c > 0x7F && !is_valid) ? '?' : c);
	}
	ret_text[len] = '\0';
	return ret_text;
}

/* --- claim --- */

struct claiming {
	const struct worker_identity *who;
	const struct id *instance_id;
	unsigned how; /* enum claim_how */
	struct arena *mem;
	struct id org_to_lock; /* "": none; set by the first try where the last places of a quota are asked for */

	bool needs_org_lock;
	enum claim_result result;
	struct claim claim;
};

static bool claim_settled(struct db *db, struct claiming *job, const struct copies *c, enum claim_result result,
			  struct err *e)
{
	job->result = result;
	return !c->has_open || operation_settle(db, job->instance_id, job->who->worker_id, &job->claim.ended, e);
}

static bool claim_poisoned(struct db *db, struct claiming *job, const struct copies *c, struct err *e)
{
	job->result = CLAIM_POISON;
	db_use(db, SQL_PLACE_POISONED);
	bind_own(db, job->who, job->instance_id);
	return db_exec(db, e) && copies_poison(db, c, job->who->worker_id, &job->claim.ended, e);
}

/* What failed for want of room is tried again soon, and is not counted as a failure of the App. */
static bool fail_for_now(struct db *db, const struct copies *c, const char *reason, int retry_s, struct err *e)
{
	db_use(db, SQL_FAILED_FOR_NOW);
	db_bind_u64(db, c->is_own_build);
	db_bind_u64(db, c->is_own_build);
	db_bind_str(db, reason);
	db_bind_i64(db, retry_s);
	db_bind_id(db, &c->instance_id);
	return db_exec(db, e);
}

static bool claim_over_hot(struct db *db, struct claiming *job, const struct copies *c, struct err *e)
{
	job->result = CLAIM_QUOTA_HOT;
	return fail_for_now(db, c, "quota_hot", QUOTA_RETRY_S, e) &&
	       operation_fail(db, job->instance_id, c->generation, "quota_hot", job->who->worker_id, &job->claim.ended,
			      e);
}

/* *ret_may: the org has room for one more copy. Else the result is set, or the claim begins again with the org's lock.
 */
static bool claim_within_quota(struct db *db, struct claiming *job, const struct copies *c, bool *ret_may,
			       struct err *e)
{
	bool is_over;

	*ret_may = false;
	if (c->tier == TIER_HOT) {
		if (!quota_hot_is_overrun(db, &c->org_id, c->quota_hot, &is_over, e))
			return false;
		*ret_may = !is_over;
		return !is_over || claim_over_hot(db, job, c, e);
	}
	if (!id_is_set(&job->org_to_lock)) {
		if (!quota_demand_is_near(db, &c->org_id, c->quota_demand, &job->needs_org_lock, e))
			return false;
		job->org_to_lock = job->needs_org_lock ? c->org_id : (struct id){""};
		*ret_may = !job->needs_org_lock;
		return true;
	}
	if (!quota_demand_held(db, &c->org_id, &c->instance_id, job->who->worker_id, &job->claim.org_demand_held, e))
		return false;
	job->result = CLAIM_QUOTA;
	*ret_may = job->claim.org_demand_held < c->quota_demand;
	return true;
}

static bool place_loading(struct db *db, const struct claiming *job, const struct copies *c, struct err *e)
{
	db_use(db, SQL_PLACE_LOADING);
	bind_own(db, job->who, job->instance_id);
	db_bind_id(db, &c->org_id);
	db_bind_str(db, tier_name(c->tier));
	db_bind_u64(db, c->generation);
	db_bind_u64(db, c->generation);
	return db_exec(db, e);
}

static bool place_build(struct db *db, const struct claiming *job, const struct copies *c, struct err *e)
{
	db_use(db, SQL_PLACE_BUILD);
	db_bind_u64(db, c->generation);
	bind_own(db, job->who, job->instance_id);
	return db_exec(db, e);
}

/* A claim that is repeated because its commit's outcome was unknown finds its own build and counts no second attempt.
 */
static bool claim_build(struct db *db, struct claiming *job, const struct copies *c, bool is_rebuild, struct err *e)
{
	bool serves = is_rebuild && c->has_own && c->own_state == PLACE_READY;

	job->result = CLAIM_BUILD;
	job->claim.want_more = c->live + 1 < copies_wanted(c);
	if (!(serves ? place_build(db, job, c, e) : place_loading(db, job, c, e)))
		return false;
	if (!c->is_own_build && !write_row(db, SQL_ATTEMPT_BEGUN, job->instance_id, e))
		return false;
	db_use(db, SQL_OPERATIONS_RUN);
	db_bind_str(db, job->who->worker_id);
	db_bind_id(db, job->instance_id);
	db_bind_i64(db, c->live == 0);
	row_from_copies(c, &job->claim.row);
	return db_exec(db, e) && read_versions(db, job->mem, job->instance_id, &job->claim.row, e);
}

/* What drains, or was unloaded since the row was read, is not built anew for its own sake: at the row's generation the
 * new copy would outlive the unload. */
static bool is_own_ending(const struct copies *c)
{
	return c->has_own && (c->own_state == PLACE_DRAINING || c->own_generation < c->unload_generation ||
			      c->own_generation > c->generation);
}

/* In the order of the results' importance: what ends the App first, then what others do already, then what is asked
 * for. */
static bool claim_decide(struct db *db, struct claiming *job, const struct copies *c, struct err *e)
{
	bool is_rebuild = job->how & CLAIM_HOW_REBUILD;
	bool may = true;

	if (!c->is_registered) {
		job->result = CLAIM_LOST;
		return true;
	}
	/* Nobody has declared it dead yet: what it holds serves on, and the claim is tried again. */
	if (!c->is_lease_valid)
		return err_set(e, ERR_BUSY, "the lease of worker %s has run out", job->who->worker_id);
	if (c->is_leaving)
		return err_set(e, ERR_BUSY, "worker %s is leaving", job->who->worker_id);
	if (!c->is_active)
		return claim_settled(db, job, c, CLAIM_NOT_WANTED, e);
	if (c->retry_in_ms > 0) {
		job->result = CLAIM_BACKOFF;
		return true;
	}
	if (copies_dead_attempts(c) >= PLACE_ATTEMPTS_MAX)
		return claim_poisoned(db, job, c, e);
	/* Nor is its row taken over for a new load: it serves until it drains. */
	if (is_rebuild && is_own_ending(c))
		return claim_settled(db, job, c, CLAIM_NOT_WANTED, e);
	if (!is_rebuild && c->ready >= copies_wanted(c))
		return claim_settled(db, job, c, c->behind > 0 ? CLAIM_PASS_ON : CLAIM_ENOUGH, e);
	if (!is_rebuild && c->live >= copies_wanted(c)) {
		job->result = CLAIM_LOADING;
		return true;
	}
	if (!is_rebuild && !c->has_open_load)
		return claim_settled(db, job, c, CLAIM_NOT_WANTED, e);
	if (copies_dead_attempts(c) > 0 && !(job->how & CLAIM_HOW_ALONE)) {
		job->result = CLAIM_ALONE;
		return true;
	}
	if (!is_rebuild && !claim_within_quota(db, job, c, &may, e))
		return false;
	return !may || claim_build(db, job, c, is_rebuild, e);
}

static bool claim_body(struct db *db, void *closure, struct err *e)
{
	struct claiming *job = closure;
	struct copies c;

	job->needs_org_lock = false;
	job->result = CLAIM_NOT_WANTED;
	job->claim = (struct claim){.row.instance_id = *job->instance_id};
	if (id_is_set(&job->org_to_lock) && !quota_lock_org(db, &job->org_to_lock, e))
		return false;
	switch (copies_lock(db, job->instance_id, false, &c, e)) {
	case DB_ROW:
		break;
	case DB_DONE:
		return true;
	case DB_FAIL:
		return false;
	}
	if (!copies_read(db, job->who, &c, e) || !claim_decide(db, job, &c, e))
		return false;
	return job->result == CLAIM_BUILD || job->needs_org_lock ||
	       placement_read(db, job->instance_id, &job->claim.row, e);
}

enum claim_result placement_claim(struct db *db, struct arena *mem, const struct worker_identity *who,
				  const struct id *instance_id, unsigned how, struct claim *ret_claim, struct err *e)
{
	struct claiming job = {.who = who, .instance_id = instance_id, .how = how, .mem = mem};

	do {
		if (!db_transaction(db, claim_body, &job, e))
			return CLAIM_FAIL;
	} while (job.needs_org_lock);
	*ret_claim = job.claim;
	return job.result;
}

/* --- ready --- */

/* May a copy of `generation` serve the row as it is now? One that must be rebuilt serves until then, and its
 * placement says so: of a `loading` one, giving the rebuild back would leave nothing. */
static bool may_serve(const struct job *job, const struct copies *c)
{
	return c->is_active && job->generation <= c->generation && job->generation >= c->unload_generation;
}

static bool place_ready(struct db *db, const struct job *job, const struct copies *c, struct err *e)
{
	db_use(db, SQL_PLACE_READY);
	bind_own(db, job->who, job->instance_id);
	db_bind_id(db, &c->org_id);
	db_bind_str(db, tier_name(job->tier));
	db_bind_u64(db, job->generation);
	db_bind_str(db, job->reason);
	return db_exec(db, e);
}

/* Usually the first ready of a version does both, and every further one the first. */
static bool row_succeeded(struct db *db, const struct job *job, const struct copies *c, bool is_now, struct err *e)
{
	bool is_trouble_over = is_now && c->has_trouble;
	bool is_newly_good = job->hash && !c->is_good && strcmp(job->hash, c->hash) == 0;

	if (!is_trouble_over && !is_newly_good)
		return true;
	return write_row(db,
			 !is_newly_good    ? SQL_TROUBLE_OVER
			 : is_trouble_over ? SQL_ALL_GOOD
					   : SQL_VERSION_GOOD,
			 job->instance_id, e);
}

static bool ready_body(struct db *db, void *closure, struct err *e)
{
	struct job *job = closure;
	struct copies c;
	enum db_result opened = open_app(db, job, &c, e);

	if (opened != DB_ROW)
		return opened == DB_DONE;
	bool is_now = job->generation == c.generation;
	if (!is_now)
		job->result = PLACE_CHANGED;
	if (!may_serve(job, &c)) {
		job->result = PLACE_CHANGED;
		return true;
	}
	if (!place_ready(db, job, &c, e))
		return false;
	if (job->reason) /* the last good version: it fulfils nothing, and the new one's failures stand */
		return true;
	if (is_now && c.has_open_load && c.live + 1 < copies_wanted(&c))
		job->result = PLACE_SHORT;
	if (!row_succeeded(db, job, &c, is_now, e))
		return false;
	return settle(db, job, &c, e);
}

enum place_result placement_ready(struct db *db, const struct worker_identity *who, const struct id *instance_id,
				  uint64_t generation, enum tier tier, const char *hash, const char *reason,
				  unsigned *ret_ended, struct err *e)
{
	struct job job = {
		.who = who,
		.instance_id = instance_id,
		.generation = generation,
		.tier = tier,
		.hash = hash,
		.reason = reason,
	};
	enum place_result result = run(db, ready_body, &job, e);

	*ret_ended = job.ended;
	return result;
}

/* --- failed, given back --- */

static bool row_failed(struct db *db, const struct job *job, const struct copies *c, struct err *e)
{
	if (job->retry_s > 0)
		return fail_for_now(db, c, job->reason, job->retry_s, e);
	db_use(db, SQL_FAILED);
	db_bind_str(db, job->reason);
	db_bind_id(db, job->instance_id);
	return db_exec(db, e);
}

static bool place_failed(struct db *db, const struct job *job, struct err *e)
{
	if (job->keep)
		return write_own(db, SQL_PLACE_BUILT, job, e);
	db_use(db, SQL_PLACE_FAILED);
	db_bind_str(db, job->reason);
	bind_own(db, job->who, job->instance_id);
	return db_exec(db, e);
}

/* Backoff and failures belong to the row's generation: a build of an older one says nothing about it. */
static bool failed_body(struct db *db, void *closure, struct err *e)
{
	struct job *job = closure;
	struct copies c;
	enum db_result opened = open_app(db, job, &c, e);

	if (opened != DB_ROW)
		return opened == DB_DONE;
	if (job->generation != c.generation)
		job->result = PLACE_CHANGED;
	else if (!row_failed(db, job, &c, e))
		return false;
	if (!place_failed(db, job, e))
		return false;
	unsigned failed = 0;
	if (!operation_fail(db, job->instance_id, job->generation, job->reason, job->who->worker_id, &failed, e) ||
	    !settle(db, job, &c, e))
		return false;
	job->ended += failed;
	return true;
}

enum place_result placement_failed(struct db *db, const struct worker_identity *who, const struct id *instance_id,
				   uint64_t generation, const char *reason, bool keep, int retry_s, unsigned *ret_ended,
				   struct err *e)
{
	char text[REASON_MAX + 1];
	struct job job = {
		.who = who,
		.instance_id = instance_id,
		.generation = generation,
		.reason = clean_reason(reason, text),
		.keep = keep,
		.retry_s = retry_s,
	};
	enum place_result result = run(db, failed_body, &job, e);

	*ret_ended = job.ended;
	return result;
}

/* An attempt of ours that ends without a result. */
static bool attempt_back(struct db *db, const struct job *job, const struct copies *c, struct err *e)
{
	return !c->is_own_build || write_row(db, SQL_ATTEMPT_BACK, job->instance_id, e);
}

static bool give_back_body(struct db *db, void *closure, struct err *e)
{
	struct job *job = closure;
	struct copies c;
	enum db_result opened = open_app(db, job, &c, e);

	if (opened != DB_ROW)
		return opened == DB_DONE;
	if (!c.has_own)
		return settle(db, job, &c, e);
	return attempt_back(db, job, &c, e) &&
	       write_own(db, c.own_state == PLACE_LOADING ? SQL_PLACE_GONE : SQL_PLACE_BUILT, job, e) &&
	       settle(db, job, &c, e);
}

enum place_result placement_give_back(struct db *db, const struct worker_identity *who, const struct id *instance_id,
				      unsigned *ret_ended, struct err *e)
{
	struct job job = {.who = who, .instance_id = instance_id};
	enum place_result result = run(db, give_back_body, &job, e);

	*ret_ended = job.ended;
	return result;
}

/* --- leaving --- */

static bool newest_open_load(struct db *db, const struct id *instance_id, struct id *ret_operation, struct err *e)
{
	db_use(db, SQL_NEWEST_OPEN_LOAD);
	db_bind_id(db, instance_id);
	enum db_result result = sql_first(db, e);
	if (result == DB_ROW)
		*ret_operation = db_col_id(db, 0);
	return result != DB_FAIL;
}

/* Who brings the App up elsewhere: an operation that is open already, else a recovery operation. */
static bool hand_over(struct db *db, struct job *job, const struct copies *c, struct err *e)
{
	bool is_awaited = c->has_open_load && c->is_active && c->is_wanted_hot && c->retry_in_ms <= 0 &&
			  c->live < copies_wanted(c);
	struct operation op;
	unsigned others;

	if (!is_awaited && !copies_need_recovery(c))
		return true;
	if (!lease_count_live(db, job->who->worker_id, &others, e))
		return false;
	if (others == 0)
		return true;
	if (is_awaited)
		return newest_open_load(db, &c->instance_id, &job->next_op, e);
	if (!copies_recover(db, c, &op, e))
		return false;
	job->next_op = op.operation_id;
	return true;
}

static bool draining_body(struct db *db, void *closure, struct err *e)
{
	struct job *job = closure;
	struct copies c;
	enum db_result opened = open_app(db, job, &c, e);

	job->next_op = (struct id){""};
	if (opened != DB_ROW)
		return opened == DB_DONE;
	if (!attempt_back(db, job, &c, e) || !write_own(db, SQL_PLACE_DRAINING, job, e) || !settle(db, job, &c, e))
		return false;
	return !job->hand_over || hand_over(db, job, &c, e);
}

enum place_result placement_draining(struct db *db, const struct worker_identity *who, const struct id *instance_id,
				     bool hand_over, struct id *ret_next_op, unsigned *ret_ended, struct err *e)
{
	struct job job = {.who = who, .instance_id = instance_id, .hand_over = hand_over};
	enum place_result result = run(db, draining_body, &job, e);

	*ret_next_op = job.next_op;
	*ret_ended = job.ended;
	return result;
}

static bool gone_body(struct db *db, void *closure, struct err *e)
{
	struct job *job = closure;
	struct copies c;
	enum db_result opened = open_app(db, job, &c, e);

	if (opened != DB_ROW)
		return opened == DB_DONE;
	return attempt_back(db, job, &c, e) && write_own(db, SQL_PLACE_GONE, job, e) && settle(db, job, &c, e);
}

enum place_result placement_gone(struct db *db, const struct worker_identity *who, const struct id *instance_id,
				 unsigned *ret_ended, struct err *e)
{
	struct job job = {.who = who, .instance_id = instance_id};
	enum place_result result = run(db, gone_body, &job, e);

	*ret_ended = job.ended;
	return result;
}

/* Only a copy like all others goes: while some are behind, the next reconcile looks again. */
static bool is_surplus(const struct copies *c)
{
	return c->has_own && c->own_state == PLACE_READY && !c->is_own_build && c->own_generation == c->generation &&
	       c->behind == 0 && c->ready >= copies_wanted(c);
}

static bool surplus_body(struct db *db, void *closure, struct err *e)
{
	struct job *job = closure;
	struct copies c;
	enum db_result opened = open_app(db, job, &c, e);

	job->is_dropped = false;
	if (opened != DB_ROW)
		return opened == DB_DONE;
	if (!is_surplus(&c))
		return true;
	db_use(db, SQL_YOUNGEST);
	db_bind_id(db, job->instance_id);
	enum db_result found = sql_first(db, e);
	if (found != DB_ROW || strcmp(db_col_str(db, 0), job->who->worker_id) != 0)
		return found != DB_FAIL;
	job->is_dropped = true;
	return write_own(db, SQL_PLACE_DRAINING, job, e) && settle(db, job, &c, e);
}

enum place_result placement_drop_surplus(struct db *db, const struct worker_identity *who, const struct id *instance_id,
					 bool *ret_is_dropped, struct err *e)
{
	struct job job = {.who = who, .instance_id = instance_id};
	enum place_result result = run(db, surplus_body, &job, e);

	*ret_is_dropped = result == PLACE_OK && job.is_dropped;
	return result;
}
