/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One App's copies. Sessions are READ COMMITTED: a plain read inside the
 * transaction sees all that was committed before that statement began, and since every
 * writer of placements and operations of an App holds its row lock, what
 * copies_read finds cannot change before our commit. Leases are read without a
 * lock: one that ends meanwhile is found by recovery's next pass.
 */
#include "core/copies.h"

#include <stdio.h>
#include <string.h>

#include "core/llm_config.h"
#include "core/placement.h"
#include "core/sql.h"

#define ROW_COLUMNS                                                                                                    \
	"org_id, status = 'active' AND deleted_at IS NULL, wanted_hot IS NOT NULL, tier, desired_state, generation,"   \
	" rebuild_generation, unload_generation, replicas, attempts, COALESCE(ttl_seconds, -1),"                       \
	" IF(next_attempt_at > UTC_TIMESTAMP(3), TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(3), next_attempt_at) DIV "   \
	"1000, 0),"                                                                                                    \
	" attempts > 0 OR failures > 0 OR next_attempt_at IS NOT NULL OR failure_reason IS NOT NULL,"                  \
	" config_hash, COALESCE(good_config_hash, ''), llm_config_id, good_llm_config_id, good_llm_generation"

#define SELECT_ROWS                                                                                                    \
	"SELECT instance_id, " ROW_COLUMNS " FROM orchestrator_instances FORCE INDEX (PRIMARY) WHERE instance_id IN "
SQL_SET(SQL_LOCK, SELECT_ROWS, " FOR UPDATE");
SQL_SET(SQL_LOCK_SKIP, SELECT_ROWS, " FOR UPDATE SKIP LOCKED");

enum {
	ROW_INSTANCE_ID,
	ROW_ORG_ID,
	ROW_IS_ACTIVE,
	ROW_IS_WANTED_HOT,
	ROW_TIER,
	ROW_DESIRED_STATE,
	ROW_GENERATION,
	ROW_REBUILD,
	ROW_UNLOAD,
	ROW_REPLICAS,
	ROW_ATTEMPTS,
	ROW_TTL,
	ROW_RETRY_IN_MS,
	ROW_HAS_TROUBLE,
	ROW_HASH,
	ROW_GOOD_HASH,
	ROW_LLM_CONFIG,
	ROW_GOOD_LLM_CONFIG,
	ROW_GOOD_LLM_GENERATION
};

/* Which kinds of operations are open, in one look: a bit for each action, by its place in the ENUM, and one for fresh.
 */
#define OPEN_KINDS                                                                                                     \
	"(SELECT BIT_OR(1 << op.action | op.fresh << 4) FROM operations op"                                            \
	" WHERE op.instance_id = i.instance_id AND op.is_open = 1)"
enum { OPEN_LOAD = 1 << 1, OPEN_RELOAD = 1 << 3, OPEN_FRESH = 1 << 4 };

/*
 * One row for each placement, at least one of each App. me: the asking worker's row; w: the placement's, where its
 * incarnation stands. With and without the count of workers, because a subquery costs even where it is not run, and
 * most Apps have one replica.
 */
#define COPIES_OF(live_workers)                                                                                        \
	"SELECT i.instance_id, o.status = 'active', o.quota_hot, o.quota_demand, " live_workers ", " OPEN_KINDS        \
	", COALESCE(o.ttl_seconds, -1), l.generation,"                                                                 \
	" me.worker_id IS NOT NULL, me.lease_until > UTC_TIMESTAMP(3), me.state = 'leaving',"                          \
	" p.state, p.generation, p.build_generation,"                                                                  \
	" p.worker_id = me.worker_id AND p.incarnation = me.incarnation,"                                              \
	" w.lease_until > UTC_TIMESTAMP(3), w.state = 'leaving', p.reason <=> 'running_previous_version'"              \
	" FROM orchestrator_instances i FORCE INDEX (PRIMARY)"                                                         \
	" STRAIGHT_JOIN organizations o ON o.org_id = i.org_id"                                                        \
	" LEFT JOIN llm_configs l ON l.llm_config_id = i.llm_config_id"                                                \
	" LEFT JOIN workers me ON me.worker_id = ? AND me.incarnation = ?"                                             \
	" LEFT JOIN placements p ON p.instance_id = i.instance_id"                                                     \
	" LEFT JOIN workers w ON w.worker_id = p.worker_id AND w.incarnation = p.incarnation"                          \
	" WHERE i.instance_id IN "
SQL_SET(SQL_COPIES, COPIES_OF("1"), "");
SQL_SET(SQL_COPIES_AND_WORKERS,
	COPIES_OF("(SELECT COUNT(*) FROM workers WHERE lease_until > UTC_TIMESTAMP(3) AND state = 'active')"), "");

enum {
	COPY_INSTANCE_ID,
	COPY_ORG_ACTIVE,
	COPY_QUOTA_HOT,
	COPY_QUOTA_DEMAND,
	COPY_LIVE_WORKERS,
	COPY_OPEN_KINDS,
	COPY_ORG_TTL,
	COPY_LLM_GENERATION,
	COPY_IS_REGISTERED,
	COPY_IS_LEASE_VALID,
	COPY_IS_LEAVING,
	COPY_STATE,
	COPY_GENERATION,
	COPY_BUILD,
	COPY_IS_OWN,
	COPY_LEASE_VALID,
	COPY_WORKER_LEAVING,
	COPY_IS_FALLBACK
};

static const char SQL_POISON[] =
	"UPDATE orchestrator_instances SET failure_reason = 'poison', next_attempt_at = NULL WHERE instance_id = ?";

static bool row_from_columns(struct db *db, struct copies *c, struct err *e)
{
	if (!tier_parse(db_col_str(db, ROW_TIER), &c->tier) ||
	    !desired_parse(db_col_str(db, ROW_DESIRED_STATE), &c->desired_state))
		return err_set(e, ERR_INTERNAL, "instance %s: an unknown tier or desired state", c->instance_id.text);
	c->org_id = db_col_id(db, ROW_ORG_ID);
	c->is_app_active = db_col_i64(db, ROW_IS_ACTIVE) != 0;
	c->is_wanted_hot = db_col_i64(db, ROW_IS_WANTED_HOT) != 0;
	c->generation = db_col_u64(db, ROW_GENERATION);
	c->rebuild_generation = db_col_u64(db, ROW_REBUILD);
	c->unload_generation = db_col_u64(db, ROW_UNLOAD);
	c->replicas = (uint32_t)db_col_u64(db, ROW_REPLICAS);
	c->attempts = (uint32_t)db_col_u64(db, ROW_ATTEMPTS);
	c->ttl_seconds = db_col_i64(db, ROW_TTL);
	c->retry_in_ms = db_col_i64(db, ROW_RETRY_IN_MS);
	c->has_trouble = db_col_i64(db, ROW_HAS_TROUBLE) != 0;
	(void)snprintf(c->config_hash, sizeof(c->config_hash), "%s", db_col_str(db, ROW_HASH));
	(void)snprintf(c->good_config_hash, sizeof(c->good_config_hash), "%s", db_col_str(db, ROW_GOOD_HASH));
	c->llm_config_id = db_col_id(db, ROW_LLM_CONFIG);
	c->good_llm_config_id = db_col_id(db, ROW_GOOD_LLM_CONFIG);
	c->good_llm_generation = db_col_u64(db, ROW_GOOD_LLM_GENERATION);
	return true;
}

/* Reads the rows of the statement that is bound, at most max. */
static bool lock_rows(struct db *db, struct copies *ret_copies, unsigned max, unsigned *ret_count, struct err *e)
{
	enum db_result result = DB_DONE;
	unsigned count = 0;

	while (count < max && (result = db_step(db, e)) == DB_ROW) {
		struct copies c = {.instance_id = db_col_id(db, ROW_INSTANCE_ID)};

		if (!row_from_columns(db, &c, e)) {
			result = DB_FAIL;
			break;
		}
		ret_copies[count++] = c;
	}
	db_done(db);
	*ret_count = count;
	return result != DB_FAIL;
}

bool copies_lock(struct db *db, const struct id_set *set, bool skip_locked, struct copies *ret_copies,
		 unsigned *ret_count, struct err *e)
{
	sql_use_set(db, skip_locked ? SQL_LOCK_SKIP : SQL_LOCK, set);
	sql_bind_set(db, set);
	return lock_rows(db, ret_copies, set->count, ret_count, e);
}

/* An LLM config's generation may not be older than the lock either. */
static void set_version(struct copies *c, uint64_t llm_generation)
{
	llm_version_hash(c->config_hash, &c->llm_config_id, llm_generation, c->hash);
	c->is_good = strcmp(c->config_hash, c->good_config_hash) == 0 &&
		     id_equal(&c->llm_config_id, &c->good_llm_config_id) &&
		     (!id_is_set(&c->llm_config_id) || c->good_llm_generation == llm_generation);
}

static void surroundings_from_columns(struct db *db, struct copies *c)
{
	uint64_t open = db_col_u64(db, COPY_OPEN_KINDS);

	c->is_active = c->is_app_active && db_col_i64(db, COPY_ORG_ACTIVE) != 0;
	c->quota_hot = (uint32_t)db_col_u64(db, COPY_QUOTA_HOT);
	c->quota_demand = (uint32_t)db_col_u64(db, COPY_QUOTA_DEMAND);
	c->live_workers = (unsigned)db_col_u64(db, COPY_LIVE_WORKERS);
	c->has_open = open != 0;
	c->has_open_load = (open & (OPEN_LOAD | OPEN_RELOAD)) != 0;
	c->fresh = (open & OPEN_FRESH) != 0;
	c->org_ttl_seconds = db_col_i64(db, COPY_ORG_TTL);
	set_version(c, db_col_u64(db, COPY_LLM_GENERATION));
	c->is_registered = db_col_i64(db, COPY_IS_REGISTERED) != 0;
	c->is_lease_valid = db_col_i64(db, COPY_IS_LEASE_VALID) != 0;
	c->is_leaving = db_col_i64(db, COPY_IS_LEAVING) != 0;
}

static void count_placement(struct db *db, struct copies *c, enum place_state state)
{
	uint64_t generation = db_col_u64(db, COPY_GENERATION);
	bool is_build = !db_col_is_null(db, COPY_BUILD) && db_col_u64(db, COPY_BUILD) == c->generation;
	bool is_valid = db_col_i64(db, COPY_LEASE_VALID) != 0; /* false too where the incarnation stands no more */
	bool is_live = is_valid && db_col_i64(db, COPY_WORKER_LEAVING) == 0 &&
		       (state == PLACE_LOADING || state == PLACE_READY);

	c->builds += is_valid && is_build;
	c->is_busy |=
		state == PLACE_DRAINING || (is_valid && (state == PLACE_LOADING || !db_col_is_null(db, COPY_BUILD)));
	if (db_col_i64(db, COPY_IS_OWN) != 0) {
		c->has_own = true;
		c->own_state = state;
		c->own_generation = generation;
		c->is_own_build = is_build;
	} else if (is_live) {
		c->live++;
		c->ready += state == PLACE_READY;
		c->behind += generation != c->generation || db_col_i64(db, COPY_IS_FALLBACK) != 0;
	}
}

struct copies *copies_find(struct copies *copies, unsigned count, const struct id *instance_id)
{
	for (unsigned i = 0; i < count; i++)
		if (id_equal(&copies[i].instance_id, instance_id))
			return &copies[i];
	return NULL;
}

/* One App's placement, or that it has none. */
static bool copy_from_columns(struct db *db, struct copies *copies, unsigned count, struct err *e)
{
	struct id instance_id = db_col_id(db, COPY_INSTANCE_ID);
	struct copies *c = copies_find(copies, count, &instance_id);
	enum place_state state;

	if (!c)
		return err_set(e, ERR_INTERNAL, "instance %s was not asked for", instance_id.text);
	surroundings_from_columns(db, c);
	if (db_col_is_null(db, COPY_STATE))
		return true;
	if (!place_state_parse(db_col_str(db, COPY_STATE), &state))
		return err_set(e, ERR_INTERNAL, "instance %s: an unknown state of a placement", instance_id.text);
	count_placement(db, c, state);
	return true;
}

bool copies_read(struct db *db, const struct worker_identity *who, struct copies *copies, unsigned count, struct err *e)
{
	struct id_set set = {.count = 0};
	bool has_replicas = false;
	enum db_result result;

	for (unsigned i = 0; i < count; i++) {
		id_set_add(&set, &copies[i].instance_id);
		has_replicas |= copies[i].replicas > 1;
	}
	sql_use_set(db, has_replicas ? SQL_COPIES_AND_WORKERS : SQL_COPIES, &set);
	db_bind_str(db, who ? who->worker_id : NULL);
	db_bind_id(db, who ? &who->incarnation : NULL);
	sql_bind_set(db, &set);
	while ((result = db_step(db, e)) == DB_ROW && copy_from_columns(db, copies, count, e))
		;
	db_done(db);
	return result == DB_DONE;
}

unsigned copies_wanted(const struct copies *c)
{
	unsigned wanted = c->replicas < c->live_workers ? c->replicas : c->live_workers;

	return wanted > 0 ? wanted : 1;
}

unsigned copies_dead_attempts(const struct copies *c)
{
	return c->attempts > c->builds ? c->attempts - c->builds : 0;
}

bool copies_need_recovery(const struct copies *c)
{
	return c->is_active && c->is_wanted_hot && !c->has_open_load && c->retry_in_ms <= 0 &&
	       copies_dead_attempts(c) < PLACE_ATTEMPTS_MAX && c->live < copies_wanted(c);
}

void copies_recovery(const struct copies *c, struct operation *ret_op)
{
	*ret_op = (struct operation){
		.operation_id = id_new(),
		.instance_id = c->instance_id,
		.org_id = c->org_id,
		.action = ACTION_LOAD,
		.tier = c->tier,
		.generation = c->generation,
		.state = OP_ACCEPTED,
		.source = SOURCE_RECOVERY,
		.drain_s = -1,
	};
}

bool copies_poison(struct db *db, const struct copies *c, const char *worker_id, unsigned *ret_ended, struct err *e)
{
	db_use(db, SQL_POISON);
	db_bind_id(db, &c->instance_id);
	return db_exec(db, e) && operation_fail(db, &c->instance_id, c->generation, "poison", worker_id, ret_ended, e);
}
