/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plain reads of placement.h: an App's row as a worker looks at it, one or
 * many at once, and what stands in a worker's name. No locks: what is read may have changed since,
 * and every write looks again under the lock (placement.c).
 */
#include "core/placement.h"

#include <stdio.h>

#include "core/llm_config.h"
#include "core/sql.h"
#include "lib/db.h"

#define APP_COLUMNS                                                                                                    \
	"i.instance_id, i.org_id, i.status = 'active' AND i.deleted_at IS NULL AND o.status = 'active', i.tier,"       \
	" i.desired_state, i.generation, i.rebuild_generation, i.unload_generation,"                                   \
	" COALESCE(i.ttl_seconds, o.ttl_seconds, -1), i.replicas, i.attempts,"                                         \
	" IF(i.next_attempt_at > UTC_TIMESTAMP(3),"                                                                    \
	" TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(3), i.next_attempt_at) DIV 1000, 0),"                               \
	" i.config_hash, i.llm_config_id, l.generation,"                                                               \
	" (SELECT MAX(op.fresh) FROM operations op"                                                                    \
	" WHERE op.instance_id = i.instance_id AND op.is_open = 1 AND op.action <> 'unload'),"                         \
	" (SELECT MAX(op.drain_s) FROM operations op WHERE op.instance_id = i.instance_id AND op.is_open = 1"          \
	" AND op.action = 'unload' AND op.generation = i.generation)"

enum {
	APP_INSTANCE_ID,
	APP_ORG_ID,
	APP_IS_ACTIVE,
	APP_TIER,
	APP_DESIRED_STATE,
	APP_GENERATION,
	APP_REBUILD,
	APP_UNLOAD,
	APP_TTL,
	APP_REPLICAS,
	APP_ATTEMPTS,
	APP_RETRY_IN_MS,
	APP_HASH,
	APP_LLM_CONFIG,
	APP_LLM_GENERATION,
	APP_FRESH, /* NULL: no open load or reload */
	APP_DRAIN_S,
	APP_IS_SURPLUS,
	APP_IS_RECORDED
};

#define APPS                                                                                                           \
	" FROM orchestrator_instances i FORCE INDEX (PRIMARY) STRAIGHT_JOIN organizations o ON o.org_id = i.org_id"    \
	" LEFT JOIN llm_configs l ON l.llm_config_id = i.llm_config_id"                                                \
	" WHERE i.instance_id IN "
SQL_SET(SQL_APPS, "SELECT " APP_COLUMNS ", 0, 0" APPS, "");
SQL_SET(SQL_APPS_HELD,
	"SELECT " APP_COLUMNS ","
	" (SELECT COUNT(*) FROM placements p JOIN workers w ON w.worker_id = p.worker_id"
	" WHERE p.instance_id = i.instance_id AND p.state = 'ready' AND " SQL_IS_LIVE ") > i.replicas,"
	" (SELECT COUNT(*) FROM placements p WHERE p.instance_id = i.instance_id AND p.worker_id = ?"
	" AND p.incarnation = ? AND p.state = 'ready' AND p.generation = i.generation AND p.tier = i.tier"
	" AND p.build_generation IS NULL)" APPS,
	"");

static const char SQL_MINE[] =
	"SELECT instance_id, org_id, generation, state FROM placements"
	" WHERE worker_id = ? AND incarnation = ? AND instance_id > ? ORDER BY instance_id LIMIT ?";
enum { MINE_INSTANCE_ID, MINE_ORG_ID, MINE_GENERATION, MINE_STATE };

static bool app_from_columns(struct db *db, struct app_row *ret_row, struct err *e)
{
	struct app_row row = {.is_found = true};

	row.instance_id = db_col_id(db, APP_INSTANCE_ID);
	row.org_id = db_col_id(db, APP_ORG_ID);
	row.is_active = db_col_i64(db, APP_IS_ACTIVE) != 0;
	if (!tier_parse(db_col_str(db, APP_TIER), &row.tier) ||
	    !desired_parse(db_col_str(db, APP_DESIRED_STATE), &row.desired_state))
		return err_set(e, ERR_INTERNAL, "instance %s: an unknown tier or desired state", row.instance_id.text);
	row.generation = db_col_u64(db, APP_GENERATION);
	row.rebuild_generation = db_col_u64(db, APP_REBUILD);
	row.unload_generation = db_col_u64(db, APP_UNLOAD);
	row.ttl_seconds = db_col_i64(db, APP_TTL);
	row.replicas = (uint32_t)db_col_u64(db, APP_REPLICAS);
	row.attempts = (uint32_t)db_col_u64(db, APP_ATTEMPTS);
	row.retry_in_ms = db_col_i64(db, APP_RETRY_IN_MS);
	const struct id llm_config_id = db_col_id(db, APP_LLM_CONFIG);
	llm_version_hash(db_col_str(db, APP_HASH), &llm_config_id, db_col_u64(db, APP_LLM_GENERATION), row.hash);
	row.has_load_wanted = !db_col_is_null(db, APP_FRESH);
	row.fresh = db_col_i64(db, APP_FRESH) != 0;
	row.drain_s = db_col_is_null(db, APP_DRAIN_S) ? -1 : db_col_i64(db, APP_DRAIN_S);
	row.is_surplus = db_col_i64(db, APP_IS_SURPLUS) != 0;
	row.is_recorded = db_col_i64(db, APP_IS_RECORDED) != 0;
	*ret_row = row;
	return true;
}

/* who: of SQL_APPS_HELD, else NULL. */
static bool read_set(struct db *db, const struct worker_identity *who, const struct id_set *set,
		     struct app_row *ret_rows, struct err *e)
{
	enum db_result result;

	sql_use_set(db, who ? SQL_APPS_HELD : SQL_APPS, set);
	if (who) {
		db_bind_str(db, who->worker_id);
		db_bind_id(db, &who->incarnation);
	}
	sql_bind_set(db, set);
	while ((result = db_step(db, e)) == DB_ROW) {
		struct id id = db_col_id(db, APP_INSTANCE_ID);
		int at = id_set_find(set, &id);

		if (at < 0 || !app_from_columns(db, &ret_rows[at], e))
			break;
	}
	db_done(db);
	return result == DB_DONE;
}

static bool read_all(struct db *db, const struct worker_identity *who, const struct id *ids, unsigned count,
		     struct app_row *ret_rows, struct err *e)
{
	for (unsigned at = 0; at < count; at += SQL_SET_MAX) {
		struct id_set set = {.count = 0};

		for (unsigned i = at; i < count && i < at + SQL_SET_MAX; i++) {
			ret_rows[i] = (struct app_row){.instance_id = ids[i], .ttl_seconds = -1, .drain_s = -1};
			id_set_add(&set, &ids[i]);
		}
		if (!read_set(db, who, &set, ret_rows + at, e))
			return false;
	}
	return true;
}

bool placement_read(struct db *db, const struct id *ids, unsigned count, struct app_row *ret_rows, struct err *e)
{
	return read_all(db, NULL, ids, count, ret_rows, e);
}

bool placement_read_held(struct db *db, const struct worker_identity *who, const struct id *ids, unsigned count,
			 struct app_row *ret_rows, struct err *e)
{
	return read_all(db, who, ids, count, ret_rows, e);
}

bool placement_mine(struct db *db, const struct worker_identity *who, const struct id *after, struct placed *ret_placed,
		    unsigned *ret_count, struct err *e)
{
	enum db_result result;
	unsigned count = 0;

	db_use(db, SQL_MINE);
	db_bind_str(db, who->worker_id);
	db_bind_id(db, &who->incarnation);
	sql_bind_after(db, after, SQL_ID_FIRST);
	db_bind_u64(db, PLACE_BATCH);
	while ((result = db_step(db, e)) == DB_ROW && count < PLACE_BATCH) {
		struct placed *p = &ret_placed[count++];

		p->instance_id = db_col_id(db, MINE_INSTANCE_ID);
		p->org_id = db_col_id(db, MINE_ORG_ID);
		p->generation = db_col_u64(db, MINE_GENERATION);
		(void)place_state_parse(db_col_str(db, MINE_STATE), &p->state);
	}
	db_done(db);
	if (result == DB_FAIL)
		return false;
	*ret_count = count;
	return true;
}
