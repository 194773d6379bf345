/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics. A flush is one transaction whose last write is the guard: it raises
 * workers.last_flush to the flush's number, and only from below, so a flush whose
 * commit got lost on the way back counts once however often it is repeated.
 * The guard comes last because it locks the row that the lease is renewed on.
 *
 * Deltas go in as JSON arrays of a few hundred rows each, which JSON_TABLE
 * turns into an upsert: numbers and checked ids only, so the text needs no escaping.
 */
#include "core/stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/sql.h"
#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/db.h"
#include "lib/xalloc.h"

#define DELTA_ROWS 500      /* in one statement */
#define DELTA_BYTES_MAX 512 /* of one row's JSON */

static const char SQL_LAST_FLUSH[] = "SELECT last_flush FROM workers WHERE worker_id = ? AND incarnation = ?";
static const char SQL_GUARD[] =
	"UPDATE workers SET last_flush = ? WHERE worker_id = ? AND incarnation = ? AND last_flush < ?";

static const char SQL_WORKER_STATS[] =
	"INSERT INTO worker_stats (worker_id, flushed_at, incarnation, flush_number, hot_count, demand_count,"
	" loading_count, failed_count, model_count, bundle_count, memory_bytes, turns_in_flight, turns_total,"
	" errors_total, loads_total, evictions_total, events_waiting, events_redelivered, breakers)"
	" VALUES (?, UTC_TIMESTAMP(3), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	" ON DUPLICATE KEY UPDATE incarnation = VALUES(incarnation), flush_number = VALUES(flush_number),"
	" hot_count = VALUES(hot_count), demand_count = VALUES(demand_count), loading_count = VALUES(loading_count),"
	" failed_count = VALUES(failed_count), model_count = VALUES(model_count), bundle_count = VALUES(bundle_count),"
	" memory_bytes = VALUES(memory_bytes), turns_in_flight = VALUES(turns_in_flight),"
	" turns_total = VALUES(turns_total), errors_total = VALUES(errors_total), loads_total = VALUES(loads_total),"
	" evictions_total = VALUES(evictions_total), events_waiting = VALUES(events_waiting),"
	" events_redelivered = VALUES(events_redelivered), breakers = VALUES(breakers)";

/* The columns of a delta: their place in a row's JSON array. */
#define N(place, name) #name " BIGINT UNSIGNED PATH '$[" #place "]'"
#define ADD(name) #name " = instance_stats." #name " + VALUES(" #name ")"
static const char SQL_DELTAS[] =
	"INSERT INTO instance_stats (instance_id, org_id, turns, errors, loads, cold_starts, reloads, failed_builds,"
	" evicted_idle, evicted_room, evicted_quota, tokens_in, tokens_out, latency_us_sum, latency_us_max,"
	" provider_us_sum, tools_us_sum, build_us_sum, last_turn_at, updated_at)"
	" SELECT j.instance_id, j.org_id, j.turns, j.errors, j.loads, j.cold_starts, j.reloads, j.failed_builds,"
	" j.evicted_idle, j.evicted_room, j.evicted_quota, j.tokens_in, j.tokens_out, j.latency_us_sum,"
	" j.latency_us_max, j.provider_us_sum, j.tools_us_sum, j.build_us_sum, IF(j.turns > 0, UTC_TIMESTAMP(3), "
	"NULL), UTC_TIMESTAMP(3)"
	" FROM JSON_TABLE(?, '$[*]' COLUMNS (instance_id CHAR(36) PATH '$[0]', org_id CHAR(36) PATH '$[1]',"   //
	N(2, turns) "," N(3, errors) "," N(4, loads) "," N(5, cold_starts) "," N(6, reloads) ","               //
	N(7, failed_builds) "," N(8, evicted_idle) "," N(9, evicted_room) "," N(10, evicted_quota) ","         //
	N(11, tokens_in) "," N(12, tokens_out) "," N(13, latency_us_sum) "," N(14, latency_us_max) ","         //
	N(15, provider_us_sum) "," N(16, tools_us_sum) "," N(17, build_us_sum) ")) j ON DUPLICATE KEY UPDATE " //
	ADD(turns) "," ADD(errors) "," ADD(loads) "," ADD(cold_starts) "," ADD(reloads) ","                    //
	ADD(failed_builds) "," ADD(evicted_idle) "," ADD(evicted_room) "," ADD(evicted_quota) ","              //
	ADD(tokens_in) "," ADD(tokens_out) "," ADD(latency_us_sum) "," ADD(provider_us_sum) "," ADD(
		tools_us_sum) "," ADD(build_us_sum) "," //
						    "latency_us_max = GREATEST(instance_stats.latency_us_max, "
						    "VALUES(latency_us_max)),"
						    " last_turn_at = COALESCE(VALUES(last_turn_at), "
						    "instance_stats.last_turn_at), updated_at "
						    "= VALUES(updated_at)";
#undef N
#undef ADD

/* The newest row of each worker by the primary key, from its end. */
static const char SQL_POOL[] =
	"SELECT w.worker_id, w.state, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(3), w.lease_until) DIV 1000,"
	" w.hot_ceiling, w.demand_ceiling,"
	" TIMESTAMPDIFF(MICROSECOND, s.flushed_at, UTC_TIMESTAMP(3)) DIV 1000, " SQL_UTC("s.flushed_at") //
	", s.hot_count, s.demand_count, s.loading_count, s.failed_count, s.model_count, s.bundle_count,"
	" s.memory_bytes, s.turns_in_flight, s.turns_total, s.errors_total, s.loads_total, s.evictions_total,"
	" s.events_waiting, s.events_redelivered, s.breakers"
	" FROM workers w LEFT JOIN worker_stats s ON s.worker_id = w.worker_id AND s.incarnation = w.incarnation"
	" AND s.flushed_at = (SELECT n.flushed_at FROM worker_stats n WHERE n.worker_id = w.worker_id"
	" ORDER BY n.flushed_at DESC LIMIT 1)"
	" WHERE w.lease_until > UTC_TIMESTAMP(3) ORDER BY w.worker_id LIMIT ?";
enum {
	POOL_WORKER_ID,
	POOL_STATE,
	POOL_LEASE_LEFT_MS,
	POOL_HOT_CEILING,
	POOL_DEMAND_CEILING,
	POOL_FLUSHED_AGE_MS,
	POOL_FLUSHED_AT,
	POOL_HOT,
	POOL_DEMAND,
	POOL_LOADING,
	POOL_FAILED,
	POOL_MODELS,
	POOL_BUNDLES,
	POOL_MEMORY,
	POOL_IN_FLIGHT,
	POOL_TURNS,
	POOL_ERRORS,
	POOL_LOADS,
	POOL_EVICTIONS,
	POOL_WAITING,
	POOL_REDELIVERED,
	POOL_BREAKERS
};
#define POOL_WORKERS_MAX 1000
#define EXPIRED_WORKERS_MAX 50

static const char SQL_EXPIRED[] =
	"SELECT worker_id, host, TIMESTAMPDIFF(MICROSECOND, lease_until, UTC_TIMESTAMP(3)) DIV 1000 FROM workers"
	" WHERE lease_until <= UTC_TIMESTAMP(3) ORDER BY lease_until DESC LIMIT ?";
enum { EXPIRED_WORKER_ID, EXPIRED_HOST, EXPIRED_AGE_MS };

static const char SQL_ORG[] =
	"SELECT COALESCE(SUM(p.state = 'ready' AND p.tier = 'hot'), 0),"
	" COALESCE(SUM(p.state = 'ready' AND p.tier = 'demand'), 0), COALESCE(SUM(p.state = 'loading'), 0),"
	" COALESCE(SUM(p.state = 'failed'), 0), COALESCE(SUM(p.state = 'draining'), 0),"
	" (SELECT COUNT(*) FROM orchestrator_instances i WHERE i.org_id = ? AND i.living_name IS NOT NULL)"
	" FROM placements p JOIN workers w ON w.worker_id = p.worker_id AND w.incarnation = p.incarnation"
	" WHERE p.org_id = ? AND w.lease_until > UTC_TIMESTAMP(3)";
enum { ORG_HOT, ORG_DEMAND, ORG_LOADING, ORG_FAILED, ORG_DRAINING, ORG_INSTANCES };

static const char SQL_APP[] =
	"SELECT turns, errors, loads, cold_starts, reloads, failed_builds, evicted_idle, evicted_room, evicted_quota,"
	" tokens_in, tokens_out, latency_us_sum, latency_us_max, provider_us_sum, tools_us_sum, build_us_sum, " SQL_UTC(
		"last_turn_at") " FROM instance_stats WHERE instance_id = ?";
enum {
	APP_TURNS,
	APP_ERRORS,
	APP_LOADS,
	APP_COLD_STARTS,
	APP_RELOADS,
	APP_FAILED_BUILDS,
	APP_EVICTED_IDLE,
	APP_EVICTED_ROOM,
	APP_EVICTED_QUOTA,
	APP_TOKENS_IN,
	APP_TOKENS_OUT,
	APP_LATENCY_SUM,
	APP_LATENCY_MAX,
	APP_PROVIDER_SUM,
	APP_TOOLS_SUM,
	APP_BUILD_SUM,
	APP_LAST_TURN
};

/* --- flush --- */

struct flush {
	const struct worker_identity *who;
	uint64_t number;
	const struct worker_stats *stats;
	const struct instance_delta *
		*deltas; /* in order of id: two flushes that meet never wait for each other crosswise */
	unsigned count;
	struct buf json;
	enum lease_result result;
};

static int by_instance(const void *a, const void *b)
{
	const struct instance_delta *const *left = a;
	const struct instance_delta *const *right = b;

	return strcmp((*left)->instance_id.text, (*right)->instance_id.text);
}

static const struct instance_delta **sorted(const struct instance_delta *deltas, unsigned count)
{
	const struct instance_delta **rows = xcalloc(count > 0 ? count : 1, sizeof(*rows));

	for (unsigned i = 0; i < count; i++)
		rows[i] = &deltas[i];
	qsort(rows, count, sizeof(*rows), by_instance);
	return rows;
}

static void append_delta(struct buf *json, const struct instance_delta *d)
{
	buf_printf(json, "[\"%s\",\"%s\",%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu32,
		   d->instance_id.text, d->org_id.text, d->turns, d->errors, d->loads, d->cold_starts, d->reloads,
		   d->failed_builds);
	buf_printf(json, ",%" PRIu32 ",%" PRIu32 ",%" PRIu32 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64,
		   d->evicted_idle, d->evicted_room, d->evicted_quota, d->tokens_in, d->tokens_out, d->latency_us_sum,
		   d->latency_us_max);
	buf_printf(json, ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 "]", d->provider_us_sum, d->tools_us_sum, d->build_us_sum);
}

static bool write_deltas(struct db *db, struct flush *f, struct err *e)
{
	for (unsigned at = 0; at < f->count; at += DELTA_ROWS) {
		buf_reset(&f->json);
		for (unsigned i = at; i < f->count && i < at + DELTA_ROWS; i++) {
			buf_append_str(&f->json, i > at ? "," : "[");
			append_delta(&f->json, f->deltas[i]);
		}
		buf_append_str(&f->json, "]");
		if (buf_has_failed(&f->json))
			return err_set(e, ERR_LIMIT, "a statistics delta is too long");
		db_use(db, SQL_DELTAS);
		db_bind_strn(db, f->json.data, f->json.len);
		if (!db_exec(db, e))
			return false;
	}
	return true;
}

static bool write_worker_stats(struct db *db, const struct flush *f, struct err *e)
{
	const struct worker_stats *s = f->stats;

	db_use(db, SQL_WORKER_STATS);
	db_bind_str(db, f->who->worker_id);
	db_bind_id(db, &f->who->incarnation);
	db_bind_u64(db, f->number);
	db_bind_u64(db, s->hot_count);
	db_bind_u64(db, s->demand_count);
	db_bind_u64(db, s->loading_count);
	db_bind_u64(db, s->failed_count);
	db_bind_u64(db, s->model_count);
	db_bind_u64(db, s->bundle_count);
	db_bind_u64(db, s->memory_bytes);
	db_bind_u64(db, s->turns_in_flight);
	db_bind_u64(db, s->turns_total);
	db_bind_u64(db, s->errors_total);
	db_bind_u64(db, s->loads_total);
	db_bind_u64(db, s->evictions_total);
	db_bind_u64(db, s->events_waiting);
	db_bind_u64(db, s->events_redelivered);
	db_bind_str(db, s->breakers);
	return db_exec(db, e);
}

/* *ret_counted: this number, or a later one, has counted already. */
static bool look_at_last(struct db *db, struct flush *f, bool *ret_counted, struct err *e)
{
	db_use(db, SQL_LAST_FLUSH);
	db_bind_str(db, f->who->worker_id);
	db_bind_id(db, &f->who->incarnation);
	switch (sql_first(db, e)) {
	case DB_ROW:
		f->result = LEASE_HELD;
		*ret_counted = db_col_u64(db, 0) >= f->number;
		return true;
	case DB_DONE:
		f->result = LEASE_LOST;
		*ret_counted = false;
		return true;
	case DB_FAIL:
		break;
	}
	return false;
}

static bool flush_body(struct db *db, void *closure, struct err *e)
{
	struct flush *f = closure;
	bool is_counted;

	if (!look_at_last(db, f, &is_counted, e))
		return false;
	if (f->result == LEASE_LOST || is_counted)
		return true;
	if (!write_worker_stats(db, f, e) || !write_deltas(db, f, e))
		return false;
	db_use(db, SQL_GUARD);
	db_bind_u64(db, f->number);
	db_bind_str(db, f->who->worker_id);
	db_bind_id(db, &f->who->incarnation);
	db_bind_u64(db, f->number);
	if (!db_exec(db, e))
		return false;
	/* Counted or declared dead since the look above: all of it is undone, and the next try sees which. */
	return db_affected(db) > 0 || err_set(e, ERR_BUSY, "flush %" PRIu64 " was overtaken", f->number);
}

enum lease_result stats_flush(struct db *db, const struct worker_identity *who, uint64_t number,
			      const struct worker_stats *stats, const struct instance_delta *deltas, unsigned count,
			      struct err *e)
{
	struct flush f = {
		.who = who, .number = number, .stats = stats, .deltas = sorted(deltas, count), .count = count};

	buf_init(&f.json, DELTA_ROWS * DELTA_BYTES_MAX);
	if (!db_transaction(db, flush_body, &f, e))
		f.result = LEASE_FAIL;
	buf_clear(&f.json);
	free(f.deltas);
	return f.result;
}

/* --- reading --- */

static void worker_stats_from_row(struct db *db, struct worker_stats *ret_stats)
{
	ret_stats->hot_count = (uint32_t)db_col_u64(db, POOL_HOT);
	ret_stats->demand_count = (uint32_t)db_col_u64(db, POOL_DEMAND);
	ret_stats->loading_count = (uint32_t)db_col_u64(db, POOL_LOADING);
	ret_stats->failed_count = (uint32_t)db_col_u64(db, POOL_FAILED);
	ret_stats->model_count = (uint32_t)db_col_u64(db, POOL_MODELS);
	ret_stats->bundle_count = (uint32_t)db_col_u64(db, POOL_BUNDLES);
	ret_stats->memory_bytes = db_col_u64(db, POOL_MEMORY);
	ret_stats->turns_in_flight = (uint32_t)db_col_u64(db, POOL_IN_FLIGHT);
	ret_stats->turns_total = db_col_u64(db, POOL_TURNS);
	ret_stats->errors_total = db_col_u64(db, POOL_ERRORS);
	ret_stats->loads_total = db_col_u64(db, POOL_LOADS);
	ret_stats->evictions_total = db_col_u64(db, POOL_EVICTIONS);
	ret_stats->events_waiting = db_col_u64(db, POOL_WAITING);
	ret_stats->events_redelivered = db_col_u64(db, POOL_REDELIVERED);
}

static void pool_worker_from_row(struct db *db, struct arena *mem, void *ret_row)
{
	struct pool_worker *w = ret_row;

	(void)snprintf(w->worker_id, sizeof(w->worker_id), "%s", db_col_str(db, POOL_WORKER_ID));
	w->state = sql_str(db, mem, POOL_STATE);
	w->lease_age_ms = -db_col_i64(db, POOL_LEASE_LEFT_MS); /* and the lease's length, added by stats_pool */
	w->hot_ceiling = (uint32_t)db_col_u64(db, POOL_HOT_CEILING);
	w->demand_ceiling = (uint32_t)db_col_u64(db, POOL_DEMAND_CEILING);
	w->flushed_age_ms = db_col_is_null(db, POOL_FLUSHED_AGE_MS) ? -1 : db_col_i64(db, POOL_FLUSHED_AGE_MS);
	w->flushed_at = sql_str(db, mem, POOL_FLUSHED_AT);
	worker_stats_from_row(db, &w->stats);
	w->stats.breakers = sql_str(db, mem, POOL_BREAKERS);
}

bool stats_pool(struct db *db, struct arena *mem, int lease_s, struct pool_worker **ret_workers, unsigned *ret_count,
		struct err *e)
{
	struct pool_worker *workers;
	void *rows;

	db_use(db, SQL_POOL);
	db_bind_u64(db, POOL_WORKERS_MAX);
	if (!sql_collect(db, mem, pool_worker_from_row, sizeof(*workers), POOL_WORKERS_MAX, &rows, ret_count, e))
		return false;
	workers = rows;
	for (unsigned i = 0; i < *ret_count; i++)
		workers[i].lease_age_ms += (int64_t)lease_s * 1000;
	*ret_workers = workers;
	return true;
}

static void expired_from_row(struct db *db, struct arena *mem, void *ret_row)
{
	struct expired_worker *w = ret_row;

	(void)snprintf(w->worker_id, sizeof(w->worker_id), "%s", db_col_str(db, EXPIRED_WORKER_ID));
	w->host = sql_str(db, mem, EXPIRED_HOST);
	w->lease_age_ms = db_col_i64(db, EXPIRED_AGE_MS); /* as above */
}

bool stats_expired(struct db *db, struct arena *mem, int lease_s, struct expired_worker **ret_workers,
		   unsigned *ret_count, struct err *e)
{
	struct expired_worker *workers;
	void *rows;

	db_use(db, SQL_EXPIRED);
	db_bind_u64(db, EXPIRED_WORKERS_MAX);
	if (!sql_collect(db, mem, expired_from_row, sizeof(*workers), EXPIRED_WORKERS_MAX, &rows, ret_count, e))
		return false;
	workers = rows;
	for (unsigned i = 0; i < *ret_count; i++)
		workers[i].lease_age_ms += (int64_t)lease_s * 1000;
	*ret_workers = workers;
	return true;
}

bool stats_org(struct db *db, const struct id *org_id, struct org_stats *ret_stats, struct err *e)
{
	db_use(db, SQL_ORG);
	db_bind_id(db, org_id);
	db_bind_id(db, org_id);
	if (sql_first(db, e) != DB_ROW)
		return false;
	ret_stats->hot_count = (uint32_t)db_col_u64(db, ORG_HOT);
	ret_stats->demand_count = (uint32_t)db_col_u64(db, ORG_DEMAND);
	ret_stats->loading_count = (uint32_t)db_col_u64(db, ORG_LOADING);
	ret_stats->failed_count = (uint32_t)db_col_u64(db, ORG_FAILED);
	ret_stats->draining_count = (uint32_t)db_col_u64(db, ORG_DRAINING);
	ret_stats->instances = (uint32_t)db_col_u64(db, ORG_INSTANCES);
	return true;
}

bool stats_app(struct db *db, struct arena *mem, const struct id *instance_id, struct app_stats *ret_stats,
	       struct err *e)
{
	struct app_stats s = {0};

	db_use(db, SQL_APP);
	db_bind_id(db, instance_id);
	enum db_result result = sql_first(db, e);
	if (result == DB_ROW) {
		s.turns = db_col_u64(db, APP_TURNS);
		s.errors = db_col_u64(db, APP_ERRORS);
		s.loads = db_col_u64(db, APP_LOADS);
		s.cold_starts = db_col_u64(db, APP_COLD_STARTS);
		s.reloads = db_col_u64(db, APP_RELOADS);
		s.failed_builds = db_col_u64(db, APP_FAILED_BUILDS);
		s.evicted_idle = db_col_u64(db, APP_EVICTED_IDLE);
		s.evicted_room = db_col_u64(db, APP_EVICTED_ROOM);
		s.evicted_quota = db_col_u64(db, APP_EVICTED_QUOTA);
		s.tokens_in = db_col_u64(db, APP_TOKENS_IN);
		s.tokens_out = db_col_u64(db, APP_TOKENS_OUT);
		s.latency_us_sum = db_col_u64(db, APP_LATENCY_SUM);
		s.latency_us_max = db_col_u64(db, APP_LATENCY_MAX);
		s.provider_us_sum = db_col_u64(db, APP_PROVIDER_SUM);
		s.tools_us_sum = db_col_u64(db, APP_TOOLS_SUM);
		s.build_us_sum = db_col_u64(db, APP_BUILD_SUM);
		s.last_turn_at = sql_str(db, mem, APP_LAST_TURN);
	}
	db_done(db);
	*ret_stats = s;
	return result != DB_FAIL && sql_mem_ok(mem, e);
}
