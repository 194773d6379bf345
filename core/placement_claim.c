/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Claims (placement.h). Many at once are one transaction: the rows are locked in one statement, the copies read in
 * a second, each App decided by itself, and what those that will be built have in common is written in one statement
 * for all. An App that another transaction holds, or that needs its organization's lock, is left over and claimed on
 * its own afterwards; so is every App of a set that failed.
 *
 * Attempts: a claim raises attempts on the App's row and marks the placement with build_generation; a
 * result clears both, giving back takes one off (placement.c). What stays when the placement is gone is
 * an attempt whose worker died.
 */
#include "core/placement.h"

#include <stdio.h>
#include <string.h>

#include "core/copies.h"
#include "core/llm_config.h"
#include "core/operation.h"
#include "core/placement_private.h"
#include "core/quota.h"
#include "core/sql.h"
#include "lib/arena.h"
#include "lib/db.h"

#define QUOTA_RETRY_S 10
#define VERSIONS_SET_BYTES_MAX 16384 /* of one App, to be read with others; larger ones are read on their own */

/* What a copy is built from: up to some megabytes, so only a claim that builds reads it. */
#define SELECT_VERSIONS                                                                                                \
	"SELECT instance_id, framework_type, mode, config, good_mode, good_config, attempts FROM "                     \
	"orchestrator_instances FORCE INDEX (PRIMARY) WHERE instance_id IN "
SQL_SET(SQL_VERSIONS_SMALL, SELECT_VERSIONS, " AND LENGTH(config) + COALESCE(LENGTH(good_config), 0) <= ?");
static const char SQL_VERSIONS[] = SELECT_VERSIONS "(?)";
enum {
	VERSION_INSTANCE_ID,
	VERSION_FRAMEWORK,
	VERSION_MODE,
	VERSION_CONFIG,
	VERSION_GOOD_MODE,
	VERSION_GOOD_CONFIG,
	VERSION_ATTEMPTS
};

/* The LLM configs of those that have one: the newest generation, and the one of the last good version. */
#define SELECT_LLM(of)                                                                                                 \
	"SELECT i.instance_id, " LLM_CONFIG_COLUMNS                                                                    \
	" FROM orchestrator_instances i FORCE INDEX (PRIMARY)" of LLM_CONFIG_SECRETS " WHERE i.instance_id IN "
SQL_SET(SQL_LLM_NEWEST,
	SELECT_LLM(" STRAIGHT_JOIN llm_configs l ON l.llm_config_id = i.llm_config_id"
		   " STRAIGHT_JOIN llm_config_generations g ON g.llm_config_id = l.llm_config_id"
		   " AND g.generation = l.generation"),
	"");
SQL_SET(SQL_LLM_GOOD,
	SELECT_LLM(" STRAIGHT_JOIN llm_config_generations g ON g.llm_config_id = i.good_llm_config_id"
		   " AND g.generation = i.good_llm_generation"),
	"");

/* A placement row of ours that is there already, of this or an earlier incarnation, is taken over. */
SQL_SET(SQL_PLACE_LOADING,
	"INSERT INTO placements (instance_id, worker_id, incarnation, org_id, tier, generation, state,"
	" build_generation, placed_at, changed_at)"
	" SELECT i.instance_id, ?, ?, i.org_id, i.tier, i.generation, 'loading', i.generation, UTC_TIMESTAMP(3),"
	" UTC_TIMESTAMP(3) FROM orchestrator_instances i FORCE INDEX (PRIMARY) WHERE i.instance_id IN ",
	" ON DUPLICATE KEY UPDATE incarnation = VALUES(incarnation), org_id = VALUES(org_id), tier = VALUES(tier),"
	" generation = VALUES(generation), state = 'loading', reason = NULL,"
	" build_generation = VALUES(build_generation), placed_at = VALUES(placed_at), changed_at = VALUES(changed_at)");
static const char SQL_PLACE_BUILD[] = "UPDATE placements SET build_generation = ?, changed_at = UTC_TIMESTAMP(3)"
				      " WHERE instance_id = ? AND worker_id = ? AND incarnation = ?";
/* Whatever does not serve, also of an earlier incarnation. */
static const char SQL_PLACE_POISONED[] = "DELETE FROM placements WHERE instance_id = ? AND worker_id = ?"
					 " AND (incarnation <> ? OR state IN ('loading', 'failed'))";
SQL_SET(SQL_ATTEMPT_BEGUN,
	"UPDATE orchestrator_instances FORCE INDEX (PRIMARY) SET attempts = attempts + 1 WHERE instance_id IN ", "");
/* Where somebody else builds too, an operation that runs stays with its first worker. */
SQL_SET(SQL_OPERATIONS_RUN,
	"UPDATE operations FORCE INDEX (operations_open) SET state = 'running', worker_id = ?, started_at = "
	"COALESCE(started_at, UTC_TIMESTAMP(3))"
	" WHERE instance_id IN ",
	" AND is_open = 1 AND action <> 'unload' AND (state = 'accepted' OR ?)");

/* --- one transaction --- */

struct claiming {
	const struct worker_identity *who;
	struct claim_step **steps;
	unsigned count;
	struct id_set all;            /* the Apps, in the order of the steps */
	const struct id *org_to_lock; /* NULL: none; only with a single step */

	struct id quota_org; /* the org and tier that were looked at last, and what was found */
	enum tier quota_tier;
	bool is_quota_met;
};

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
	if (c->good_config_hash[0] != '\0')
		llm_version_hash(c->good_config_hash, &c->good_llm_config_id, c->good_llm_generation,
				 ret_row->good_hash);
}

/* --- deciding one App --- */

static bool settled(struct db *db, const struct claiming *job, struct claim_step *step, const struct copies *c,
		    enum claim_result result, struct err *e)
{
	step->result = result;
	return !c->has_open || operation_settle(db, &step->instance_id, job->who->worker_id, &step->claim.ended, e);
}

static bool poisoned(struct db *db, const struct claiming *job, struct claim_step *step, const struct copies *c,
		     struct err *e)
{
	step->result = CLAIM_POISON;
	db_use(db, SQL_PLACE_POISONED);
	db_bind_id(db, &step->instance_id);
	db_bind_str(db, job->who->worker_id);
	db_bind_id(db, &job->who->incarnation);
	return db_exec(db, e) && copies_poison(db, c, job->who->worker_id, &step->claim.ended, e);
}

static bool over_hot(struct db *db, const struct claiming *job, struct claim_step *step, const struct copies *c,
		     struct err *e)
{
	step->result = CLAIM_QUOTA_HOT;
	return placement_fail_for_now(db, c, "quota_hot", QUOTA_RETRY_S, e) &&
	       operation_fail(db, &step->instance_id, c->generation, "quota_hot", job->who->worker_id,
			      &step->claim.ended, e);
}

/* Once for many Apps of an org in a row: nothing that is counted changes while we decide. */
static bool look_at_quota(struct db *db, struct claiming *job, const struct copies *c, struct err *e)
{
	if (id_equal(&job->quota_org, &c->org_id) && job->quota_tier == c->tier)
		return true;
	if (!(c->tier == TIER_HOT ? quota_hot_is_overrun(db, &c->org_id, c->quota_hot, &job->is_quota_met, e)
				  : quota_demand_is_near(db, &c->org_id, c->quota_demand, &job->is_quota_met, e)))
		return false;
	job->quota_org = c->org_id;
	job->quota_tier = c->tier;
	return true;
}

/* *ret_may: the org has room for one more copy. Else the result is set, or the claim begins again with the org's lock.
 */
static bool within_quota(struct db *db, struct claiming *job, struct claim_step *step, const struct copies *c,
			 bool *ret_may, struct err *e)
{
	*ret_may = false;
	if (c->tier == TIER_DEMAND && job->org_to_lock) {
		if (!quota_demand_held(db, &c->org_id, &c->instance_id, job->who->worker_id,
				       &step->claim.org_demand_held, e))
			return false;
		step->result = CLAIM_QUOTA;
		*ret_may = step->claim.org_demand_held < c->quota_demand;
		return true;
	}
	if (!look_at_quota(db, job, c, e))
		return false;
	*ret_may = !job->is_quota_met;
	if (*ret_may)
		return true;
	if (c->tier == TIER_HOT)
		return over_hot(db, job, step, c, e);
	step->org_to_lock = c->org_id;
	return true;
}

/* What drains, or was unloaded since the row was read, is not built anew for its own sake: at the row's generation the
 * new copy would outlive the unload. */
static bool is_own_ending(const struct copies *c)
{
	return c->has_own && (c->own_state == PLACE_DRAINING || c->own_generation < c->unload_generation ||
			      c->own_generation > c->generation);
}

/* In the order of the results' importance: what ends the App first, then what others do already, then what is asked
 * for. CLAIM_BUILD: still to be written. */
static bool decide(struct db *db, struct claiming *job, struct claim_step *step, const struct copies *c, struct err *e)
{
	bool is_rebuild = step->how & CLAIM_HOW_REBUILD;
	bool may = true;

	if (!c->is_registered) {
		step->result = CLAIM_LOST;
		return true;
	}
	if (!c->is_lease_valid) {
		/* Nobody has declared it dead yet: what it holds serves on, and the claim is tried again. */
		step->result = CLAIM_FAIL;
		err_set(&step->e, ERR_BUSY, "the lease of worker %s has run out", job->who->worker_id);
		return true;
	}
	if (c->is_leaving) {
		step->result = CLAIM_FAIL;
		err_set(&step->e, ERR_BUSY, "worker %s is leaving", job->who->worker_id);
		return true;
	}
	if (!c->is_active)
		return settled(db, job, step, c, CLAIM_NOT_WANTED, e);
	if (c->retry_in_ms > 0) {
		step->result = CLAIM_BACKOFF;
		return true;
	}
	if (copies_dead_attempts(c) >= PLACE_ATTEMPTS_MAX)
		return poisoned(db, job, step, c, e);
	/* Nor is its row taken over for a new load: it serves until it drains. */
	if (is_rebuild && is_own_ending(c))
		return settled(db, job, step, c, CLAIM_NOT_WANTED, e);
	if (!is_rebuild && c->ready >= copies_wanted(c))
		return settled(db, job, step, c, c->behind > 0 ? CLAIM_PASS_ON : CLAIM_ENOUGH, e);
	if (!is_rebuild && c->live >= copies_wanted(c)) {
		step->result = CLAIM_LOADING;
		return true;
	}
	if (!is_rebuild && !c->has_open_load)
		return settled(db, job, step, c, CLAIM_NOT_WANTED, e);
	if (copies_dead_attempts(c) > 0 && !(step->how & CLAIM_HOW_ALONE)) {
		step->result = CLAIM_ALONE;
		return true;
	}
	if (!is_rebuild && !within_quota(db, job, step, c, &may, e))
		return false;
	if (may) {
		step->result = CLAIM_BUILD;
		step->serves = is_rebuild && c->has_own && c->own_state == PLACE_READY;
		step->claim.want_more = c->live + 1 < copies_wanted(c);
	}
	return true;
}

/* --- writing those that are built --- */

static bool place_build(struct db *db, const struct claiming *job, const struct copies *c, struct err *e)
{
	db_use(db, SQL_PLACE_BUILD);
	db_bind_u64(db, c->generation);
	db_bind_id(db, &c->instance_id);
	db_bind_str(db, job->who->worker_id);
	db_bind_id(db, &job->who->incarnation);
	return db_exec(db, e);
}

static bool place_loading(struct db *db, const struct claiming *job, const struct id_set *set, struct err *e)
{
	if (set->count == 0)
		return true;
	sql_use_set(db, SQL_PLACE_LOADING, set);
	db_bind_str(db, job->who->worker_id);
	db_bind_id(db, &job->who->incarnation);
	sql_bind_set(db, set);
	return db_exec(db, e);
}

static bool operations_run(struct db *db, const struct claiming *job, const struct id_set *set, bool is_first,
			   struct err *e)
{
	if (set->count == 0)
		return true;
	sql_use_set(db, SQL_OPERATIONS_RUN, set);
	db_bind_str(db, job->who->worker_id);
	sql_bind_set(db, set);
	db_bind_i64(db, is_first);
	return db_exec(db, e);
}

static bool versions_from_columns(struct db *db, struct claim_step *step, struct err *e)
{
	struct app_row *row = &step->claim.row;

	row->framework_type = sql_str(db, step->mem, VERSION_FRAMEWORK);
	row->mode = sql_str(db, step->mem, VERSION_MODE);
	row->config = sql_str(db, step->mem, VERSION_CONFIG);
	row->good_mode = sql_str(db, step->mem, VERSION_GOOD_MODE);
	row->good_config = sql_str(db, step->mem, VERSION_GOOD_CONFIG);
	row->attempts = (uint32_t)db_col_u64(db, VERSION_ATTEMPTS);
	return sql_mem_ok(step->mem, e);
}

static struct claim_step *step_of(const struct claiming *job, const struct id *instance_id)
{
	int at = id_set_find(&job->all, instance_id);

	return at < 0 ? NULL : job->steps[at];
}

/* The rows of the statement that is bound. */
static bool take_versions(struct db *db, const struct claiming *job, struct err *e)
{
	enum db_result result;

	while ((result = db_step(db, e)) == DB_ROW) {
		struct id id = db_col_id(db, VERSION_INSTANCE_ID);
		struct claim_step *step = step_of(job, &id);

		if (step && !versions_from_columns(db, step, e)) {
			db_done(db);
			return false;
		}
	}
	return result == DB_DONE;
}

static bool read_versions(struct db *db, const struct claiming *job, const struct id_set *set, struct err *e)
{
	if (set->count == 0)
		return true;
	if (set->count > 1) {
		sql_use_set(db, SQL_VERSIONS_SMALL, set);
		sql_bind_set(db, set);
		db_bind_u64(db, VERSIONS_SET_BYTES_MAX);
		if (!take_versions(db, job, e))
			return false;
	}
	for (unsigned i = 0; i < set->count; i++) {
		if (step_of(job, &set->ids[i])->claim.row.config)
			continue;
		db_use(db, SQL_VERSIONS);
		db_bind_id(db, &set->ids[i]);
		if (!take_versions(db, job, e))
			return false;
	}
	return true;
}

/* The rows of the statement. */
static bool take_llm_configs(struct db *db, const struct claiming *job, const char *const *sql,
			     const struct id_set *set, bool is_good, struct err *e)
{
	enum db_result result;
	bool ok = true;

	if (set->count == 0)
		return true;
	sql_use_set(db, sql, set);
	sql_bind_set(db, set);
	while (ok && (result = db_step(db, e)) == DB_ROW) {
		struct id id = db_col_id(db, 0);
		struct claim_step *step = step_of(job, &id);
		struct llm_config *llm = step ? arena_alloc(step->mem, sizeof(*llm)) : NULL;

		if (llm) {
			llm_config_from_row(db, step->mem, 1, llm);
			*(is_good ? &step->claim.row.good_llm : &step->claim.row.llm) = llm;
		}
		ok = !step || sql_mem_ok(step->mem, e);
	}
	db_done(db);
	return ok && result == DB_DONE;
}

/* The row of a copy of ours that drains was what an unload waited for. */
static bool settle_taken_over(struct db *db, const struct claiming *job, const struct id_set *taken, struct err *e)
{
	unsigned ended;

	if (taken->count == 0)
		return true;
	if (!operation_settle_set(db, taken, job->who->worker_id, &ended, e))
		return false;
	/* Whose they were is not known: who waits for one of these Apps looks again. */
	for (unsigned i = 0; i < taken->count; i++)
		step_of(job, &taken->ids[i])->claim.ended = ended;
	return true;
}

/* A claim that is repeated because its commit's outcome was unknown finds its own build and counts no second attempt.
 */
static bool write_builds(struct db *db, const struct claiming *job, const struct copies *copies, unsigned count,
			 struct err *e)
{
	struct id_set built = {.count = 0}, loading = {.count = 0}, taken = {.count = 0}, begun = {.count = 0};
	struct id_set first = {.count = 0}, further = {.count = 0}; /* by whether somebody else has a live copy */
	struct id_set with_llm = {.count = 0}, with_good_llm = {.count = 0};

	for (unsigned i = 0; i < count; i++) {
		const struct copies *c = &copies[i];
		struct claim_step *step = step_of(job, &c->instance_id);

		if (step->result != CLAIM_BUILD)
			continue;
		row_from_copies(c, &step->claim.row);
		id_set_add(&built, &c->instance_id);
		id_set_add(c->live == 0 ? &first : &further, &c->instance_id);
		if (id_is_set(&c->llm_config_id))
			id_set_add(&with_llm, &c->instance_id);
		if (id_is_set(&c->good_llm_config_id))
			id_set_add(&with_good_llm, &c->instance_id);
		if (!c->is_own_build)
			id_set_add(&begun, &c->instance_id);
		if (!step->serves && c->has_own && c->has_open)
			id_set_add(&taken, &c->instance_id);
		if (!step->serves)
			id_set_add(&loading, &c->instance_id);
		else if (!place_build(db, job, c, e))
			return false;
	}
	return place_loading(db, job, &loading, e) && settle_taken_over(db, job, &taken, e) &&
	       sql_exec_set(db, SQL_ATTEMPT_BEGUN, &begun, e) && operations_run(db, job, &first, true, e) &&
	       operations_run(db, job, &further, false, e) && read_versions(db, job, &built, e) &&
	       take_llm_configs(db, job, SQL_LLM_NEWEST, &with_llm, false, e) &&
	       take_llm_configs(db, job, SQL_LLM_GOOD, &with_good_llm, true, e);
}

/* What the others are told of their rows. */
static bool read_others(struct db *db, const struct claiming *job, const struct copies *copies, unsigned count,
			struct err *e)
{
	struct app_row rows[SQL_SET_MAX];
	struct id ids[SQL_SET_MAX];
	unsigned other_count = 0;

	for (unsigned i = 0; i < count; i++) {
		const struct claim_step *step = step_of(job, &copies[i].instance_id);
		if (step->result != CLAIM_BUILD && !id_is_set(&step->org_to_lock))
			ids[other_count++] = step->instance_id;
	}
	if (!placement_read(db, ids, other_count, rows, e))
		return false;
	for (unsigned i = 0; i < other_count; i++)
		step_of(job, &ids[i])->claim.row = rows[i];
	return true;
}

static bool claim_body(struct db *db, void *closure, struct err *e)
{
	struct claiming *job = closure;
	struct copies copies[SQL_SET_MAX];
	unsigned count;

	job->all.count = 0;
	job->quota_org = (struct id){""};
	for (unsigned i = 0; i < job->count; i++) {
		struct claim_step *step = job->steps[i];
		id_set_add(&job->all, &step->instance_id);
		step->result = CLAIM_NOT_WANTED;
		step->claim = (struct claim){.row.instance_id = step->instance_id};
		step->serves = false;
		step->is_left_over = job->count > 1; /* until its row was locked */
		step->org_to_lock = (struct id){""};
	}
	if (job->org_to_lock && !quota_lock_org(db, job->org_to_lock, e))
		return false;
	if (!copies_lock(db, &job->all, job->count > 1, copies, &count, e))
		return false;
	if (count == 0)
		return true;
	if (!copies_read(db, job->who, copies, count, e))
		return false;
	for (unsigned i = 0; i < count; i++) {
		struct claim_step *step = step_of(job, &copies[i].instance_id);

		if (!decide(db, job, step, &copies[i], e))
			return false;
		step->is_left_over = id_is_set(&step->org_to_lock);
	}
	return write_builds(db, job, copies, count, e) && read_others(db, job, copies, count, e);
}

/* --- the calls --- */

static void claim_one(struct db *db, const struct worker_identity *who, struct claim_step *step)
{
	struct claiming job = {.who = who, .steps = &step, .count = 1};
	struct id org_to_lock = step->org_to_lock;

	if (id_is_set(&org_to_lock))
		job.org_to_lock = &org_to_lock;
	err_clear(&step->e);
	while (db_transaction(db, claim_body, &job, &step->e)) {
		if (!step->is_left_over)
			return;
		org_to_lock = step->org_to_lock;
		job.org_to_lock = &org_to_lock;
	}
	step->result = CLAIM_FAIL;
}

static void all_failed(struct claim_step **steps, unsigned count, const struct err *e)
{
	for (unsigned i = 0; i < count; i++) {
		steps[i]->result = CLAIM_FAIL;
		steps[i]->e = *e;
	}
}

static void claim_set(struct db *db, const struct worker_identity *who, struct claim_step **steps, unsigned count)
{
	struct claiming job = {.who = who, .steps = steps, .count = count};
	struct err e = {0};
	bool ok = false;

	for (unsigned i = 0; i < count; i++) {
		err_clear(&steps[i]->e);
		steps[i]->org_to_lock = (struct id){""};
	}
	if (count > 1) {
		ok = db_transaction(db, claim_body, &job, &e);
		if (!ok && (e.code == ERR_DOWN || e.code == ERR_UNCERTAIN)) {
			all_failed(steps, count, &e);
			return;
		}
	}
	for (unsigned i = 0; i < count; i++)
		if (!ok || steps[i]->is_left_over)
			claim_one(db, who, steps[i]);
}

void placement_claim_set(struct db *db, const struct worker_identity *who, struct claim_step **steps, unsigned count)
{
	for (unsigned at = 0; at < count; at += SQL_SET_MAX)
		claim_set(db, who, steps + at, count - at < SQL_SET_MAX ? count - at : SQL_SET_MAX);
}
