/* SPDX-License-Identifier: Apache-2.0 */
/* Pool statistics: what a worker writes at each flush, and what the API reads. */
#ifndef CORE_STATS_H
#define CORE_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/lease.h"
#include "lib/err.h"
#include "lib/id.h"

struct arena;
struct db;

struct worker_stats {
	uint32_t hot_count, demand_count, loading_count,
		failed_count; /* hot and demand: ready copies; draining ones are not counted */
	uint32_t model_count, bundle_count;
	uint64_t memory_bytes;
	uint32_t turns_in_flight;
	uint64_t turns_total, errors_total, loads_total, evictions_total;
	uint64_t events_waiting, events_redelivered;
	/* JSON array of {"llm_config_id","org_id","model","state","retry_in_ms","failures"}, of models whose circuit
	 * breaker is not closed; NULL: none. Borrowed. */
	const char *breakers;
};

/* What changed for one App since the last flush that counted. */
struct instance_delta {
	struct id instance_id, org_id;
	uint32_t turns, errors, loads, cold_starts, reloads, failed_builds, evicted_idle, evicted_room, evicted_quota;
	uint64_t tokens_in, tokens_out, latency_us_sum, latency_us_max, provider_us_sum, tools_us_sum, build_us_sum;
};

/*
 * One transaction: a worker_stats row and the deltas (batched upserts). number is one more than the last; a repeat with
 * the same number after an uncertain commit counts once. LEASE_LOST: keep the deltas, register anew.
 */
enum lease_result stats_flush(struct db *db, const struct worker_identity *who, uint64_t number,
			      const struct worker_stats *stats, const struct instance_delta *deltas, unsigned count,
			      struct err *e) MUST_CHECK;

struct pool_worker {
	char worker_id[WORKER_ID_MAX + 1];
	const char *state;    /* "active" or "leaving" */
	int64_t lease_age_ms; /* since its last renewal */
	uint32_t hot_ceiling, demand_ceiling;
	int64_t flushed_age_ms; /* -1: it has not flushed yet */
	const char *flushed_at; /* RFC 3339, NULL */
	struct worker_stats stats;
};
/* The live workers with their newest row each; lease_s as configured gives lease_age_ms. */
bool stats_pool(struct db *db, struct arena *mem, int lease_s, struct pool_worker **ret_workers, unsigned *ret_count,
		struct err *e) MUST_CHECK;

/* Workers that ended without a word in the last day: their lease has run out. The longest gone last. */
struct expired_worker {
	char worker_id[WORKER_ID_MAX + 1];
	const char *host;
	int64_t lease_age_ms;
};
bool stats_expired(struct db *db, struct arena *mem, int lease_s, struct expired_worker **ret_workers,
		   unsigned *ret_count, struct err *e) MUST_CHECK;

/* The same counts from the org's placements on live workers; instances: the living Apps of the org, held or not. */
struct org_stats {
	uint32_t hot_count, demand_count, loading_count, failed_count, draining_count;
	uint32_t instances;
};
bool stats_org(struct db *db, const struct id *org_id, struct org_stats *ret_stats, struct err *e) MUST_CHECK;

/* What one App has done since it was made; all 0 where nothing was flushed yet. Times are sums over its turns, or its
 * builds. */
struct app_stats {
	uint64_t turns, errors, loads, cold_starts, reloads, failed_builds, evicted_idle, evicted_room, evicted_quota;
	uint64_t tokens_in, tokens_out, latency_us_sum, latency_us_max, provider_us_sum, tools_us_sum, build_us_sum;
	const char *last_turn_at; /* RFC 3339; NULL: none yet */
};
bool stats_app(struct db *db, struct arena *mem, const struct id *instance_id, struct app_stats *ret_stats,
	       struct err *e) MUST_CHECK;

#endif
