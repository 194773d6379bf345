/* SPDX-License-Identifier: Apache-2.0 */
/* core/stats against a real server. */
#include "core/stats.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/xalloc.h"
#include "tests/unit/harness.h"
#include "tests/unit/sql_fixture.h"

#define MANY 10000
#define RACES 20

static struct err err;
static struct id org;
static struct worker_identity w1;

static struct worker_identity worker(const char *name)
{
	struct worker_identity who = {.incarnation = fixture_worker(name)};

	(void)snprintf(who.worker_id, sizeof(who.worker_id), "%s", name);
	who.process_id = who.incarnation;
	return who;
}

static void set_up(void)
{
	fixture_run(fx.db, "DELETE FROM placements; DELETE FROM workers; DELETE FROM worker_stats;"
			   "DELETE FROM instance_stats");
	org = fixture_org();
	w1 = worker("w1");
	err_clear(&err);
}

static struct instance_delta delta(void)
{
	return (struct instance_delta){
		.instance_id = id_new(),
		.org_id = org,
		.turns = 1,
		.errors = 2,
		.loads = 3,
		.cold_starts = 4,
		.reloads = 5,
		.failed_builds = 6,
		.evicted_idle = 7,
		.evicted_room = 8,
		.evicted_quota = 9,
		.tokens_in = 10,
		.tokens_out = UINT64_C(5000000000),
		.latency_us_sum = 12,
		.latency_us_max = 13,
		.build_us_sum = 14,
	};
}

static enum lease_result flush(const struct worker_identity *who, uint64_t number, const struct instance_delta *deltas,
			       unsigned count)
{
	struct worker_stats stats = {
		.hot_count = 1,
		.demand_count = 2,
		.loading_count = 3,
		.failed_count = 4,
		.model_count = 5,
		.bundle_count = 6,
		.memory_bytes = UINT64_C(7000000000),
		.turns_in_flight = 8,
		.turns_total = 9,
		.errors_total = 10,
		.loads_total = 11,
		.evictions_total = 12,
		.events_waiting = 13,
		.events_redelivered = 14,
	};

	return stats_flush(fx.db, who, number, &stats, deltas, count, &err);
}

static int64_t turns(const struct instance_delta *d)
{
	return fixture_number("SELECT COALESCE(SUM(turns), 0) FROM instance_stats WHERE instance_id = ?",
			      &d->instance_id);
}

static const char *counts(const struct instance_delta *d)
{
	return fixture_text("SELECT CONCAT_WS(' ', turns, errors, loads, cold_starts, reloads, failed_builds,"
			    " evicted_idle, evicted_room, evicted_quota, tokens_in, tokens_out, latency_us_sum,"
			    " latency_us_max, build_us_sum, last_turn_at IS NOT NULL) FROM instance_stats"
			    " WHERE instance_id = ?",
			    &d->instance_id);
}

static void deltas_add_up(void)
{
	struct instance_delta d = delta();

	CU_ASSERT_EQUAL(flush(&w1, 1, &d, 1), LEASE_HELD);
	CU_ASSERT_STRING_EQUAL(counts(&d), "1 2 3 4 5 6 7 8 9 10 5000000000 12 13 14 1");
	d.latency_us_max = 5;
	CU_ASSERT_EQUAL(flush(&w1, 2, &d, 1), LEASE_HELD);
	CU_ASSERT_STRING_EQUAL(counts(&d), "2 4 6 8 10 12 14 16 18 20 10000000000 24 13 28 1");
	CU_ASSERT_STRING_EQUAL(fixture_text("SELECT org_id FROM instance_stats WHERE instance_id = ?", &d.instance_id),
			       org.text);
	/* Without a turn the moment of the last one stays. */
	d.turns = 0;
	fixture_run(fx.db, "UPDATE instance_stats SET last_turn_at = '2026-01-01'");
	CU_ASSERT_EQUAL(flush(&w1, 3, &d, 1), LEASE_HELD);
	CU_ASSERT_STRING_EQUAL(
		fixture_text("SELECT DATE(last_turn_at) FROM instance_stats WHERE instance_id = ?", &d.instance_id),
		"2026-01-01");
	CU_ASSERT_EQUAL(flush(&w1, 4, NULL, 0), LEASE_HELD);
}

static void a_repeated_flush_counts_once(void)
{
	struct instance_delta d = delta();

	CU_ASSERT_EQUAL(flush(&w1, 7, &d, 1), LEASE_HELD);
	CU_ASSERT_EQUAL(flush(&w1, 7, &d, 1), LEASE_HELD);
	CU_ASSERT_EQUAL(flush(&w1, 6, &d, 1), LEASE_HELD);
	CU_ASSERT_EQUAL(turns(&d), 1);
	CU_ASSERT_EQUAL(flush(&w1, 8, &d, 1), LEASE_HELD);
	CU_ASSERT_EQUAL(turns(&d), 2);
}

static void a_dead_incarnation_flushes_nothing(void)
{
	struct instance_delta d = delta();
	struct worker_identity dead = w1;

	w1 = worker("w1");
	CU_ASSERT_EQUAL(flush(&dead, 1, &d, 1), LEASE_LOST);
	CU_ASSERT_EQUAL(turns(&d), 0);
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM worker_stats", NULL), 0);
	CU_ASSERT_EQUAL(flush(&w1, 1, &d, 1), LEASE_HELD);
	CU_ASSERT_EQUAL(turns(&d), 1);
}

/* Of this session so far, those that read this included. */
static int64_t statements(void)
{
	return fixture_number("SELECT CAST(VARIABLE_VALUE AS SIGNED) FROM information_schema.SESSION_STATUS"
			      " WHERE VARIABLE_NAME = 'QUESTIONS'",
			      NULL);
}

static void ten_thousand_deltas_are_a_few_statements(void)
{
	struct instance_delta *deltas = xcalloc(MANY, sizeof(*deltas));

	for (int i = 0; i < MANY; i++)
		deltas[MANY - 1 - i] = delta(); /* in no order that helps */
	for (uint64_t number = 1; number <= 2; number++) {
		int64_t before = statements();

		CU_ASSERT_EQUAL(flush(&w1, number, deltas, MANY), LEASE_HELD);
		CU_ASSERT(statements() - before < MANY / 100);
	}
	CU_ASSERT_EQUAL(fixture_number("SELECT SUM(turns) FROM instance_stats", NULL), 2 * MANY);
	free(deltas);
}

struct racer {
	pthread_barrier_t *barrier;
	struct db *db;
	const struct instance_delta *deltas;
	enum lease_result result;
};

static void *race_flush(void *closure)
{
	struct racer *racer = closure;
	struct worker_stats stats = {0};
	struct err e = {0};

	(void)pthread_barrier_wait(racer->barrier);
	do {
		racer->result = stats_flush(racer->db, &w1, 1, &stats, racer->deltas, 3, &e);
	} while (racer->result == LEASE_FAIL && e.code == ERR_BUSY);
	return NULL;
}

/* The first try still runs on the server while the process, cut off from it, repeats it. */
static void the_same_flush_twice_at_once_counts_once(void)
{
	pthread_barrier_t barrier;
	struct racer racers[2] = {{.barrier = &barrier, .db = fixture_connect()},
				  {.barrier = &barrier, .db = fixture_connect()}};

	(void)pthread_barrier_init(&barrier, NULL, 2);
	for (int round = 0; round < RACES; round++) {
		struct instance_delta deltas[3] = {delta(), delta(), delta()};
		pthread_t threads[2];

		w1 = worker("w1");
		for (int i = 0; i < 2; i++) {
			racers[i].deltas = deltas;
			(void)pthread_create(&threads[i], NULL, race_flush, &racers[i]);
		}
		for (int i = 0; i < 2; i++) {
			(void)pthread_join(threads[i], NULL);
			CU_ASSERT_EQUAL(racers[i].result, LEASE_HELD);
		}
		CU_ASSERT_EQUAL(turns(&deltas[0]) + turns(&deltas[1]) + turns(&deltas[2]), 3);
	}
	(void)pthread_barrier_destroy(&barrier);
	db_close(&racers[0].db);
	db_close(&racers[1].db);
}

/* --- reading --- */

static void the_pool_shows_the_newest_row_of_each_live_worker(void)
{
	struct worker_identity w3 = worker("w3");
	struct pool_worker *workers = NULL;
	unsigned count = 0;

	(void)worker("w2");
	CU_ASSERT_EQUAL(flush(&w1, 1, NULL, 0), LEASE_HELD);
	CU_ASSERT_EQUAL(flush(&w3, 1, NULL, 0), LEASE_HELD);
	fixture_run(fx.db, "UPDATE worker_stats SET flushed_at = flushed_at - INTERVAL 1 MINUTE, hot_count = 99;"
			   "UPDATE workers SET lease_until = NOW(3) + INTERVAL 10 SECOND, state = 'leaving'"
			   " WHERE worker_id = 'w1';"
			   "UPDATE workers SET lease_until = NOW(3) - INTERVAL 1 SECOND WHERE worker_id = 'w3'");
	CU_ASSERT_EQUAL(flush(&w1, 2, NULL, 0), LEASE_HELD);
	CU_ASSERT_TRUE_FATAL(stats_pool(fx.db, fx.mem, 15, &workers, &count, &err));
	CU_ASSERT_EQUAL_FATAL(count, 2);
	CU_ASSERT_STRING_EQUAL(workers[0].worker_id, "w1");
	CU_ASSERT_STRING_EQUAL(workers[0].state, "leaving");
	CU_ASSERT(workers[0].lease_age_ms >= 5000 && workers[0].lease_age_ms < 10000);
	CU_ASSERT(workers[0].flushed_age_ms >= 0 && workers[0].flushed_age_ms < 30000);
	CU_ASSERT_EQUAL(strlen(workers[0].flushed_at), strlen("2026-01-02T03:04:05.678Z"));
	CU_ASSERT_EQUAL(workers[0].hot_ceiling, 100);
	CU_ASSERT(workers[0].stats.hot_count == 1 && workers[0].stats.demand_count == 2);
	CU_ASSERT(workers[0].stats.loading_count == 3 && workers[0].stats.failed_count == 4);
	CU_ASSERT(workers[0].stats.model_count == 5 && workers[0].stats.bundle_count == 6);
	CU_ASSERT(workers[0].stats.memory_bytes == UINT64_C(7000000000) && workers[0].stats.turns_in_flight == 8);
	CU_ASSERT(workers[0].stats.turns_total == 9 && workers[0].stats.errors_total == 10);
	CU_ASSERT(workers[0].stats.loads_total == 11 && workers[0].stats.evictions_total == 12);
	CU_ASSERT(workers[0].stats.events_waiting == 13 && workers[0].stats.events_redelivered == 14);
	CU_ASSERT_STRING_EQUAL(workers[1].worker_id, "w2");
	CU_ASSERT_EQUAL(workers[1].flushed_age_ms, -1);
	CU_ASSERT_PTR_NULL(workers[1].flushed_at);
	struct expired_worker *expired = NULL;
	CU_ASSERT_TRUE_FATAL(stats_expired(fx.db, fx.mem, 15, &expired, &count, &err));
	CU_ASSERT_EQUAL_FATAL(count, 1);
	CU_ASSERT_STRING_EQUAL(expired[0].worker_id, "w3");
	CU_ASSERT(expired[0].lease_age_ms >= 16000 && expired[0].lease_age_ms < 26000);
	/* What an earlier incarnation flushed says nothing about this one. */
	(void)worker("w1");
	CU_ASSERT_TRUE(stats_pool(fx.db, fx.mem, 15, &workers, &count, &err));
	CU_ASSERT_EQUAL(workers[0].flushed_age_ms, -1);
}

static int64_t rows_read(void)
{
	return fixture_number("SELECT CAST(SUM(VARIABLE_VALUE) AS SIGNED) FROM information_schema.SESSION_STATUS"
			      " WHERE VARIABLE_NAME LIKE 'HANDLER_READ%'",
			      NULL);
}

static void the_pool_costs_the_same_with_a_long_history_and_many_apps(void)
{
	struct pool_worker *workers;
	unsigned count;
	int64_t before, own;

	fixture_run(
		fx.db,
		"INSERT INTO worker_stats SELECT 'w1', NOW(3) - INTERVAL seq * 5 SECOND, '%s', seq, 0, 0, 0, 0, 0, 0,"
		" 0, 0, 0, 0, 0, 0, 0, 0, NULL FROM seq_1_to_17280; ANALYZE TABLE worker_stats",
		w1.incarnation.text);
	before = rows_read();
	own = rows_read() - before;
	before = rows_read();
	CU_ASSERT_TRUE(stats_pool(fx.db, fx.mem, 15, &workers, &count, &err));
	CU_ASSERT(count == 1 && workers[0].flushed_age_ms > 0);
	CU_ASSERT(rows_read() - before - own < 20);
}

static void an_org_counts_its_copies_on_live_workers(void)
{
	struct id other = fixture_org();
	struct id nobody = id_new();
	struct org_stats stats;
	static const char *const states[] = {"ready", "ready", "loading", "failed", "draining"};

	CU_ASSERT_TRUE(stats_org(fx.db, &org, &stats, &err));
	CU_ASSERT(stats.hot_count + stats.demand_count + stats.loading_count + stats.failed_count +
			  stats.draining_count + stats.instances ==
		  0);
	for (size_t i = 0; i < ARRAY_LEN(states); i++) {
		struct id app = fixture_app(&org, i == 1 ? "demand" : "hot", "loaded");
		struct id foreign = fixture_app(&other, "hot", "loaded");

		fixture_place(&app, "w1", &w1.incarnation, states[i], 1, NULL);
		fixture_place(&app, "dead", &nobody, states[i], 1, NULL);
		fixture_place(&foreign, "w1", &w1.incarnation, states[i], 1, NULL);
	}
	struct id deleted = fixture_app(&org, "hot", "loaded");
	fixture_run(fx.db, "UPDATE orchestrator_instances SET deleted_at = NOW(3) WHERE instance_id = '%s'",
		    deleted.text);
	CU_ASSERT_TRUE(stats_org(fx.db, &org, &stats, &err));
	CU_ASSERT(stats.hot_count == 1 && stats.demand_count == 1 && stats.loading_count == 1);
	CU_ASSERT(stats.failed_count == 1 && stats.draining_count == 1 && stats.instances == ARRAY_LEN(states));
}

static CU_TestInfo flush_cases[] = {
	CASE(deltas_add_up),
	CASE(a_repeated_flush_counts_once),
	CASE(a_dead_incarnation_flushes_nothing),
	CASE(ten_thousand_deltas_are_a_few_statements),
	CASE(the_same_flush_twice_at_once_counts_once),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo read_cases[] = {
	CASE(the_pool_shows_the_newest_row_of_each_live_worker),
	CASE(the_pool_costs_the_same_with_a_long_history_and_many_apps),
	CASE(an_org_counts_its_copies_on_live_workers),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"flushes", fixture_start, fixture_stop, set_up, NULL, flush_cases},
	{"reads", fixture_start, fixture_stop, set_up, NULL, read_cases},
	CU_SUITE_INFO_NULL,
};
