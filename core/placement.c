/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a worker writes about its copies once they are claimed (placement_claim.c). Each step is of the same shape:
 * lock the App's row, read the copies (copies.h), see whether our incarnation still stands, decide, write our own
 * placement (never another worker's), settle. Steps of many Apps are one transaction: rows are locked and read
 * together, what is the same for all is written in one statement. An App that another transaction holds is left over
 * and done on its own afterwards; so is every App of a set that failed.
 *
 * A body sets the answers of its steps afresh, since it may run again.
 */
#include "core/placement.h"

#include <string.h>

#include "core/copies.h"
#include "core/operation.h"
#include "core/placement_private.h"
#include "core/sql.h"
#include "lib/db.h"
#include "lib/json.h"

/* Inserts too: a copy that serves while its row was lost (a restored backup) gets its row back. */
#define READY_INTO                                                                                                     \
	"INSERT INTO placements (instance_id, worker_id, incarnation, org_id, tier, generation, state, reason, "       \
	"placed_at, changed_at)"
#define READY_OVER                                                                                                     \
	" ON DUPLICATE KEY UPDATE placed_at = IF(incarnation = VALUES(incarnation), placed_at, VALUES(placed_at)),"    \
	" incarnation = VALUES(incarnation), org_id = VALUES(org_id), tier = VALUES(tier),"                            \
	" generation = VALUES(generation), state = 'ready', reason = VALUES(reason), build_generation = NULL,"         \
	" changed_at = VALUES(changed_at)"
static const char SQL_PLACE_READY[] =
	READY_INTO " VALUES (?, ?, ?, ?, ?, ?, 'ready', ?, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))" READY_OVER;
/* Those that are ready as their rows want them. */
SQL_SET(SQL_PLACE_READY_AS_WANTED,
	READY_INTO " SELECT i.instance_id, ?, ?, i.org_id, i.tier, i.generation, 'ready', NULL, UTC_TIMESTAMP(3),"
		   " UTC_TIMESTAMP(3) FROM orchestrator_instances i FORCE INDEX (PRIMARY) WHERE i.instance_id IN ",
	READY_OVER);

#define OWN " WHERE instance_id = ? AND worker_id = ? AND incarnation = ?"
static const char SQL_PLACE_BUILT[] =
	"UPDATE placements SET build_generation = NULL, changed_at = UTC_TIMESTAMP(3)" OWN;
static const char SQL_PLACE_FAILED[] = "UPDATE placements SET state = 'failed', reason = ?, build_generation = NULL, "
				       "changed_at = UTC_TIMESTAMP(3)" OWN;
static const char SQL_PLACE_DRAINING[] =
	"UPDATE placements SET state = 'draining', build_generation = NULL, changed_at = UTC_TIMESTAMP(3)" OWN;
static const char SQL_PLACE_GONE[] = "DELETE FROM placements" OWN;
static const char SQL_NEWEST_OPEN_LOAD[] =
	"SELECT operation_id FROM operations WHERE instance_id = ? AND is_open = 1 AND action <> 'unload'"
	" ORDER BY operation_id DESC LIMIT 1";
/* The youngest of the live ready ones. */
static const char SQL_YOUNGEST[] = "SELECT p.worker_id FROM placements p JOIN workers w ON w.worker_id = p.worker_id"
				   " WHERE p.instance_id = ? AND p.state = 'ready' AND " SQL_IS_LIVE
				   " ORDER BY p.placed_at DESC, p.worker_id DESC LIMIT 1";

static const char SQL_ATTEMPT_BACK[] =
	"UPDATE orchestrator_instances SET attempts = attempts - 1 WHERE instance_id = ? AND attempts > 0";
#define UPDATE_ROWS "UPDATE orchestrator_instances FORCE INDEX (PRIMARY) SET "
#define TROUBLE_OVER "attempts = 0, failures = 0, next_attempt_at = NULL, failure_reason = NULL"
/* Of the LLM config the newest generation, which cannot change while we hold the App's row. */
#define VERSION_GOOD                                                                                                   \
	"good_mode = mode, good_config = config, good_config_hash = config_hash, good_llm_config_id = llm_config_id,"  \
	" good_llm_generation = (SELECT l.generation FROM llm_configs l"                                               \
	" WHERE l.llm_config_id = orchestrator_instances.llm_config_id)"
SQL_SET(SQL_TROUBLE_OVER, UPDATE_ROWS TROUBLE_OVER " WHERE instance_id IN ", "");
SQL_SET(SQL_VERSION_GOOD, UPDATE_ROWS VERSION_GOOD " WHERE instance_id IN ", "");
SQL_SET(SQL_ALL_GOOD, UPDATE_ROWS TROUBLE_OVER ", " VERSION_GOOD " WHERE instance_id IN ", "");
/* Assignments run from left to right: the first failure waits 1 s, the tenth 5 min. */
static const char SQL_FAILED[] =
	"UPDATE orchestrator_instances SET attempts = 0, failure_reason = ?,"
	" next_attempt_at = UTC_TIMESTAMP(3) + INTERVAL LEAST(300, 1 << LEAST(failures, 9)) SECOND,"
	" failures = failures + 1 WHERE instance_id = ?";
/* Not the App's fault: an attempt that began is taken back. */
static const char SQL_FAILED_FOR_NOW[] =
	"UPDATE orchestrator_instances SET attempts = IF(attempts > ?, attempts - ?, 0), failure_reason = ?,"
	" next_attempt_at = UTC_TIMESTAMP(3) + INTERVAL ? SECOND WHERE instance_id = ?";

/* One transaction. */
struct recording {
	const struct worker_identity *who;
	struct place_step **steps;
	unsigned count;
	struct id_set all; /* the Apps, in the order of the steps */
	/* What is written for many at the end. */
	struct id_set ready, trouble_over, version_good, all_good, to_settle;
};

static void bind_own(struct db *db, const struct worker_identity *who, const struct id *instance_id)
{
	db_bind_id(db, instance_id);
	db_bind_str(db, who->worker_id);
	db_bind_id(db, &who->incarnation);
}

static bool write_own(struct db *db, const char *sql, const struct recording *job, const struct place_step *step,
		      struct err *e)
{
	db_use(db, sql);
	bind_own(db, job->who, &step->instance_id);
	return db_exec(db, e);
}

/* At the end of the transaction, for all. Without an open operation there is nothing to settle. */
static void settle_later(struct recording *job, const struct copies *c)
{
	if (c->has_open)
		id_set_add(&job->to_settle, &c->instance_id);
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

/* --- ready --- */

/* May a copy of `generation` serve the row as it is now? One that must be rebuilt serves until then, and its
 * placement says so: of a `loading` one, giving the rebuild back would leave nothing. */
static bool may_serve(const struct place_step *step, const struct copies *c)
{
	return c->is_active && step->generation <= c->generation && step->generation >= c->unload_generation;
}

static bool place_ready(struct db *db, struct recording *job, const struct place_step *step, const struct copies *c,
			struct err *e)
{
	if (step->generation == c->generation && step->tier == c->tier && !step->reason) {
		id_set_add(&job->ready, &step->instance_id);
		return true;
	}
	db_use(db, SQL_PLACE_READY);
	bind_own(db, job->who, &step->instance_id);
	db_bind_id(db, &c->org_id);
	db_bind_str(db, tier_name(step->tier));
	db_bind_u64(db, step->generation);
	db_bind_str(db, step->reason);
	return db_exec(db, e);
}

/* Usually the first ready of a version does both, and every further one the first. */
static void row_succeeded(struct recording *job, const struct place_step *step, const struct copies *c, bool is_now)
{
	bool is_trouble_over = is_now && c->has_trouble;
	bool is_newly_good = step->hash && !c->is_good && strcmp(step->hash, c->hash) == 0;

	if (is_newly_good)
		id_set_add(is_trouble_over ? &job->all_good : &job->version_good, &step->instance_id);
	else if (is_trouble_over)
		id_set_add(&job->trouble_over, &step->instance_id);
}

static bool do_ready(struct db *db, struct recording *job, struct place_step *step, const struct copies *c,
		     struct err *e)
{
	bool is_now = step->generation == c->generation;

	if (!is_now || !may_serve(step, c))
		step->result = PLACE_CHANGED;
	if (!may_serve(step, c))
		return true;
	if (!place_ready(db, job, step, c, e))
		return false;
	if (step->reason) /* the last good version: it fulfils nothing, and the new one's failures stand */
		return true;
	if (is_now && c->has_open_load && c->live + 1 < copies_wanted(c))
		step->result = PLACE_SHORT;
	row_succeeded(job, step, c, is_now);
	settle_later(job, c);
	return true;
}

/* --- failed, given back --- */

bool placement_fail_for_now(struct db *db, const struct copies *c, const char *reason, int retry_s, struct err *e)
{
	db_use(db, SQL_FAILED_FOR_NOW);
	db_bind_u64(db, c->is_own_build);
	db_bind_u64(db, c->is_own_build);
	db_bind_str(db, reason);
	db_bind_i64(db, retry_s);
	db_bind_id(db, &c->instance_id);
	return db_exec(db, e);
}

static bool row_failed(struct db *db, const struct place_step *step, const struct copies *c, const char *reason,
		       struct err *e)
{
	if (step->retry_s > 0)
		return placement_fail_for_now(db, c, reason, step->retry_s, e);
	db_use(db, SQL_FAILED);
	db_bind_str(db, reason);
	db_bind_id(db, &step->instance_id);
	return db_exec(db, e);
}

static bool place_failed(struct db *db, const struct recording *job, const struct place_step *step, const char *reason,
			 struct err *e)
{
	if (step->keep)
		return write_own(db, SQL_PLACE_BUILT, job, step, e);
	db_use(db, SQL_PLACE_FAILED);
	db_bind_str(db, reason);
	bind_own(db, job->who, &step->instance_id);
	return db_exec(db, e);
}

/* Backoff and failures belong to the row's generation: a build of an older one says nothing about it. */
static bool do_failed(struct db *db, struct recording *job, struct place_step *step, const struct copies *c,
		      struct err *e)
{
	char text[REASON_MAX + 1];
	const char *reason = clean_reason(step->reason, text);
	unsigned failed;

	if (step->generation != c->generation)
		step->result = PLACE_CHANGED;
	else if (!row_failed(db, step, c, reason, e))
		return false;
	if (!place_failed(db, job, step, reason, e) ||
	    !operation_fail(db, &step->instance_id, step->generation, reason, job->who->worker_id, &failed, e))
		return false;
	settle_later(job, c);
	return true;
}

/* An attempt of ours that ends without a result. */
static bool attempt_back(struct db *db, const struct copies *c, struct err *e)
{
	if (!c->is_own_build)
		return true;
	db_use(db, SQL_ATTEMPT_BACK);
	db_bind_id(db, &c->instance_id);
	return db_exec(db, e);
}

static bool do_give_back(struct db *db, struct recording *job, struct place_step *step, const struct copies *c,
			 struct err *e)
{
	const char *sql = c->own_state == PLACE_LOADING ? SQL_PLACE_GONE : SQL_PLACE_BUILT;

	if (c->has_own && (!attempt_back(db, c, e) || !write_own(db, sql, job, step, e)))
		return false;
	settle_later(job, c);
	return true;
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
static bool hand_over(struct db *db, const struct recording *job, struct place_step *step, const struct copies *c,
		      struct err *e)
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
		return newest_open_load(db, &c->instance_id, &step->next_op, e);
	copies_recovery(c, &op);
	if (!operation_insert(db, &op, e))
		return false;
	step->next_op = op.operation_id;
	return true;
}

static bool do_draining(struct db *db, struct recording *job, struct place_step *step, const struct copies *c,
			struct err *e)
{
	if (!attempt_back(db, c, e) || !write_own(db, SQL_PLACE_DRAINING, job, step, e))
		return false;
	settle_later(job, c);
	return !step->hand_over || hand_over(db, job, step, c, e);
}

static bool do_gone(struct db *db, struct recording *job, struct place_step *step, const struct copies *c,
		    struct err *e)
{
	if (!attempt_back(db, c, e) || !write_own(db, SQL_PLACE_GONE, job, step, e))
		return false;
	settle_later(job, c);
	return true;
}

/* Only a copy like all others goes: while some are behind, the next reconcile looks again. */
static bool is_surplus(const struct copies *c)
{
	return c->has_own && c->own_state == PLACE_READY && !c->is_own_build && c->own_generation == c->generation &&
	       c->behind == 0 && c->ready >= copies_wanted(c);
}

static bool do_surplus(struct db *db, struct recording *job, struct place_step *step, const struct copies *c,
		       struct err *e)
{
	step->result = PLACE_CHANGED;
	if (!is_surplus(c))
		return true;
	db_use(db, SQL_YOUNGEST);
	db_bind_id(db, &step->instance_id);
	enum db_result found = sql_first(db, e);
	if (found != DB_ROW || strcmp(db_col_str(db, 0), job->who->worker_id) != 0)
		return found != DB_FAIL;
	step->result = PLACE_OK;
	if (!write_own(db, SQL_PLACE_DRAINING, job, step, e))
		return false;
	settle_later(job, c);
	return true;
}

/* --- one transaction --- */

static bool record_one(struct db *db, struct recording *job, struct place_step *step, const struct copies *c,
		       struct err *e)
{
	step->result = PLACE_OK;
	if (!c->is_registered) {
		step->result = PLACE_LOST;
		return true;
	}
	switch (step->kind) {
	case PLACE_STEP_READY:
		return do_ready(db, job, step, c, e);
	case PLACE_STEP_FAILED:
		return do_failed(db, job, step, c, e);
	case PLACE_STEP_GIVE_BACK:
		return do_give_back(db, job, step, c, e);
	case PLACE_STEP_DRAINING:
		return do_draining(db, job, step, c, e);
	case PLACE_STEP_GONE:
		return do_gone(db, job, step, c, e);
	case PLACE_STEP_SURPLUS:
		return do_surplus(db, job, step, c, e);
	}
	return err_set(e, ERR_INTERNAL, "not a step: %d", (int)step->kind);
}

static bool write_sets(struct db *db, const struct recording *job, struct err *e)
{
	unsigned ended;

	if (job->ready.count > 0) {
		sql_use_set(db, SQL_PLACE_READY_AS_WANTED, &job->ready);
		db_bind_str(db, job->who->worker_id);
		db_bind_id(db, &job->who->incarnation);
		sql_bind_set(db, &job->ready);
		if (!db_exec(db, e))
			return false;
	}
	return sql_exec_set(db, SQL_TROUBLE_OVER, &job->trouble_over, e) &&
	       sql_exec_set(db, SQL_VERSION_GOOD, &job->version_good, e) &&
	       sql_exec_set(db, SQL_ALL_GOOD, &job->all_good, e) &&
	       (job->to_settle.count == 0 || operation_settle_set(db, &job->to_settle, job->who->worker_id, &ended, e));
}

static bool record_body(struct db *db, void *closure, struct err *e)
{
	struct recording *job = closure;
	struct copies copies[SQL_SET_MAX];
	unsigned count;

	job->all.count = job->ready.count = job->trouble_over.count = job->version_good.count = job->all_good.count = 0;
	job->to_settle.count = 0;
	for (unsigned i = 0; i < job->count; i++) {
		struct place_step *step = job->steps[i];
		id_set_add(&job->all, &step->instance_id);
		step->next_op = (struct id){""};
		step->is_left_over = job->count > 1; /* until its row was locked */
		/* Rows of Apps are never removed: a restored backup knows nothing of it. */
		step->result = PLACE_CHANGED;
	}
	if (!copies_lock(db, &job->all, job->count > 1, copies, &count, e))
		return false;
	if (count == 0)
		return true;
	if (!copies_read(db, job->who, copies, count, e))
		return false;
	for (unsigned i = 0; i < count; i++) {
		struct place_step *step = job->steps[id_set_find(&job->all, &copies[i].instance_id)];

		step->is_left_over = false;
		if (!record_one(db, job, step, &copies[i], e))
			return false;
	}
	return write_sets(db, job, e);
}

/* --- the calls --- */

static void record_alone(struct db *db, const struct worker_identity *who, struct place_step *step)
{
	struct recording job = {.who = who, .steps = &step, .count = 1};

	err_clear(&step->e);
	if (!db_transaction(db, record_body, &job, &step->e))
		step->result = PLACE_FAIL;
}

static void record_set(struct db *db, const struct worker_identity *who, struct place_step **steps, unsigned count)
{
	struct recording job = {.who = who, .steps = steps, .count = count};
	struct err e = {0};
	bool ok = count > 1 && db_transaction(db, record_body, &job, &e);
	bool is_away = e.code == ERR_DOWN || e.code == ERR_UNCERTAIN;

	for (unsigned i = 0; i < count; i++) {
		err_clear(&steps[i]->e);
		if (is_away) {
			steps[i]->result = PLACE_FAIL;
			steps[i]->e = e;
		} else if (!ok || steps[i]->is_left_over) {
			record_alone(db, who, steps[i]);
		}
	}
}

void placement_record_set(struct db *db, const struct worker_identity *who, struct place_step **steps, unsigned count)
{
	for (unsigned at = 0; at < count; at += SQL_SET_MAX)
		record_set(db, who, steps + at, count - at < SQL_SET_MAX ? count - at : SQL_SET_MAX);
}
