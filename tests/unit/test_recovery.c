/* SPDX-License-Identifier: Apache-2.0 */
/* core/recovery against a real server. */
#include "core/recovery.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/lease.h"
#include "core/placement.h"
#include "lib/arena.h"
#include "lib/macros.h"
#include "tests/unit/harness.h"
#include "tests/unit/placement_one.h"
#include "tests/unit/sql_fixture.h"

#define SEEN_MAX 1200
#define RACES 30
#define HASH_0 "0000000000000000000000000000000000000000000000000000000000000000"

static struct err err;
static struct id org;
static struct worker_identity w1, w2;

/* What the callbacks were given. */
static struct recovered recovered[SEEN_MAX];
static struct republish republished[SEEN_MAX];
static unsigned seen;

static struct worker_identity worker(const char *name)
{
	struct worker_identity who = {.incarnation = fixture_worker(name)};

	(void)snprintf(who.worker_id, sizeof(who.worker_id), "%s", name);
	who.process_id = who.incarnation;
	return who;
}

static void set_up(void)
{
	fixture_run(fx.db, "DELETE FROM placements; DELETE FROM workers; DELETE FROM operations;"
			   "DELETE FROM orchestrator_instances");
	org = fixture_org();
	w1 = worker("w1");
	w2 = worker("w2");
	err_clear(&err);
}

static void change(const struct id *app, const char *set)
{
	fixture_run(fx.db, "UPDATE orchestrator_instances SET %s WHERE instance_id = '%s'", set, app->text);
}

static void change_operation(const struct id *op, const char *set)
{
	fixture_run(fx.db, "UPDATE operations SET %s WHERE operation_id = '%s'", set, op->text);
}

static void expire(const struct worker_identity *who)
{
	fixture_run(fx.db, "UPDATE workers SET lease_until = NOW(3) - INTERVAL 1 SECOND WHERE worker_id = '%s'",
		    who->worker_id);
}

static void place(const struct id *app, const struct worker_identity *who, const char *state)
{
	fixture_place(app, who->worker_id, &who->incarnation, state, 1, NULL);
}

static struct id hot(void)
{
	return fixture_app(&org, "hot", "loaded");
}

static int64_t placements(const struct id *app)
{
	return fixture_number("SELECT COUNT(*) FROM placements WHERE instance_id = ?", app);
}

static int64_t open_operations(const struct id *app)
{
	return fixture_number("SELECT COUNT(*) FROM operations WHERE is_open = 1 AND instance_id = ?", app);
}

static void on_recovered(void *closure, const struct recovered *r)
{
	(void)closure;
	if (seen < SEEN_MAX)
		recovered[seen] = *r;
	seen++;
}

static void on_republish(void *closure, const struct republish *r)
{
	(void)closure;
	if (seen < SEEN_MAX)
		republished[seen] = *r;
	seen++;
}

/* The operation that the App was given; "": none. */
static struct id recovery_of(const struct id *app)
{
	for (unsigned i = 0; i < seen && i < SEEN_MAX; i++)
		if (id_equal(&recovered[i].instance_id, app))
			return recovered[i].op.operation_id;
	CU_FAIL("not seen");
	return (struct id){""};
}

static bool reap(void)
{
	bool has_more = true;

	seen = 0;
	CU_ASSERT_TRUE_FATAL(recovery_reap(fx.db, NULL, NULL, on_recovered, NULL, &has_more, &err));
	return has_more;
}

static bool retry(void)
{
	bool has_more = true;

	seen = 0;
	CU_ASSERT_TRUE_FATAL(recovery_retry(fx.db, on_recovered, NULL, &has_more, &err));
	return has_more;
}

/* Publishes again what is due; how many. */
static unsigned republish(void)
{
	unsigned count = 99999;

	seen = 0;
	CU_ASSERT_TRUE_FATAL(recovery_republish(fx.db, RECOVERY_PUBLISH_MAX, on_republish, NULL, &count, &err));
	return count;
}

/* --- reaping --- */

static void copies_of_an_expired_lease_go_and_hot_apps_come_back(void)
{
	struct id app = hot();
	struct id demand = fixture_app(&org, "demand", "loaded");

	place(&app, &w1, "ready");
	place(&demand, &w1, "ready");
	expire(&w1);
	CU_ASSERT_FALSE(reap());
	CU_ASSERT_EQUAL(placements(&app) + placements(&demand), 0);
	CU_ASSERT_EQUAL_FATAL(seen, 2);
	struct id op = recovery_of(&app), none = recovery_of(&demand);
	CU_ASSERT_STRING_EQUAL(recovered[0].org_id.text, org.text);
	CU_ASSERT_TRUE(id_is_set(&op));
	CU_ASSERT_FALSE(id_is_set(&none));
	CU_ASSERT_EQUAL(fixture_number("SELECT action = 'load' AND source = 'recovery' AND state = 'accepted' AND"
				       " tier = 'hot' FROM operations WHERE operation_id = ?",
				       &op),
			1);
	CU_ASSERT_FALSE(reap());
	CU_ASSERT_EQUAL(seen, 0);
}

static void who_was_declared_dead_cannot_come_back(void)
{
	struct id app = hot();

	place(&app, &w1, "ready");
	expire(&w1);
	(void)reap();
	CU_ASSERT_EQUAL(lease_renew(fx.db, &w1, 15, &err), LEASE_LOST);
	CU_ASSERT_EQUAL(one_ready(fx.db, &w1, &app, 1, TIER_HOT, HASH_0, NULL, &err), PLACE_LOST);
	CU_ASSERT_EQUAL(placements(&app), 0);
}

static void who_renews_in_time_is_left_alone(void)
{
	struct id app = hot();
	struct id other = hot();

	place(&app, &w1, "ready");
	place(&other, &w2, "draining");
	fixture_run(fx.db, "UPDATE workers SET state = 'leaving' WHERE worker_id = 'w2'");
	expire(&w1);
	CU_ASSERT_EQUAL(lease_renew(fx.db, &w1, 15, &err), LEASE_HELD);
	CU_ASSERT_FALSE(reap());
	CU_ASSERT_EQUAL(seen, 0);
	CU_ASSERT_EQUAL(placements(&app) + placements(&other), 2);
}

static void a_start_reaps_its_own_earlier_incarnation(void)
{
	struct worker_identity old = w1;
	struct id app = hot();
	struct id present = hot();
	struct id other = hot();
	bool has_more = true;

	place(&app, &old, "ready");
	place(&other, &w2, "ready");
	expire(&w2);
	w1 = worker("w1");
	place(&present, &w1, "ready");
	seen = 0;
	CU_ASSERT_TRUE(recovery_reap(fx.db, "w1", &w1.incarnation, on_recovered, NULL, &has_more, &err));
	CU_ASSERT_FALSE(has_more);
	CU_ASSERT_EQUAL(seen, 1);
	CU_ASSERT_STRING_EQUAL(recovered[0].instance_id.text, app.text);
	CU_ASSERT_EQUAL(placements(&app), 0);
	CU_ASSERT_EQUAL(placements(&present) + placements(&other), 2);
}

static void placements_without_a_workers_row_are_reaped(void)
{
	struct id app = hot();
	struct id nobody = id_new();

	fixture_place(&app, "gone", &nobody, "loading", 1, NULL);
	CU_ASSERT_FALSE(reap());
	CU_ASSERT_EQUAL(placements(&app), 0);
	CU_ASSERT_TRUE(id_is_set(&recovered[0].op.operation_id));
}

/* A hot App that lost its copy, in rows: is a recovery operation made? */
static void only_what_is_wanted_and_nobody_brings_back_is_recovered(void)
{
	static const struct {
		int line;
		const char *set;
		bool has_open_load, is_elsewhere;
		bool is_made;
	} rows[] = {
		{__LINE__, "tier = 'hot'", false, false, true},
		{__LINE__, "tier = 'hot'", true, false, false},
		{__LINE__, "tier = 'hot'", false, true, false},
		{__LINE__, "replicas = 2", false, true, false}, /* one live worker: one copy is all there can be */
		{__LINE__, "desired_state = 'unloaded'", false, false, false},
		{__LINE__, "status = 'suspended'", false, false, false},
		{__LINE__, "deleted_at = NOW(3)", false, false, false},
		{__LINE__, "next_attempt_at = NOW(3) + INTERVAL 1 HOUR", false, false, false},
		{__LINE__, "next_attempt_at = NOW(3) - INTERVAL 1 HOUR", false, false, true},
		{__LINE__, "attempts = 2", false, false, true},
		{__LINE__, "attempts = 3", false, false, false},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct id app = hot();

		place(&app, &w1, "loading");
		change(&app, rows[i].set);
		if (rows[i].is_elsewhere)
			place(&app, &w2, "ready");
		if (rows[i].has_open_load)
			(void)fixture_operation(&app, "load", 1);
		expire(&w1);
		(void)reap();
		CHECK_ROW(&rows[i], seen == 1);
		CHECK_ROW(&rows[i], id_is_set(&recovered[0].op.operation_id) == rows[i].is_made);
		CHECK_ROW(&rows[i], open_operations(&app) == (rows[i].is_made || rows[i].has_open_load));
		w1 = worker("w1");
	}
}

static void an_operation_whose_builder_died_is_published_at_once(void)
{
	struct id app = hot();
	struct id op = fixture_operation(&app, "load", 1);

	change_operation(&op, "next_publish_at = NOW(3) + INTERVAL 1 HOUR, state = 'running'");
	place(&app, &w1, "loading");
	change(&app, "attempts = 1");
	expire(&w1);
	(void)reap();
	CU_ASSERT_EQUAL(republish(), 1);
	CU_ASSERT_STRING_EQUAL(republished[0].op.operation_id.text, op.text);
	CU_ASSERT_EQUAL(fixture_number("SELECT attempts FROM orchestrator_instances WHERE instance_id = ?", &app), 1);
}

static void an_unload_ends_with_the_worker_it_waited_for(void)
{
	struct id app = hot();
	struct id unload;

	place(&app, &w1, "draining");
	change(&app, "generation = 2, unload_generation = 2, desired_state = 'unloaded'");
	unload = fixture_operation(&app, "unload", 2);
	expire(&w1);
	(void)reap();
	CU_ASSERT_EQUAL(recovered[0].ended, 1);
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&unload), "succeeded");
}

static void an_app_that_killed_three_workers_is_poison(void)
{
	struct id app = hot();
	struct id op = fixture_operation(&app, "load", 1);

	place(&app, &w1, "loading");
	change(&app, "attempts = 3");
	expire(&w1);
	(void)reap();
	CU_ASSERT_EQUAL(recovered[0].ended, 1);
	CU_ASSERT_STRING_EQUAL(
		fixture_text("SELECT CONCAT(state, ' ', reason) FROM operations WHERE operation_id = ?", &op),
		"failed poison");
	CU_ASSERT_STRING_EQUAL(
		fixture_text("SELECT failure_reason FROM orchestrator_instances WHERE instance_id = ?", &app),
		"poison");
}

static void many_copies_go_in_bounded_steps(void)
{
	unsigned total = 0;

	fixture_run(fx.db,
		    "INSERT INTO orchestrator_instances (instance_id, org_id, name, framework_type, mode, tier,"
		    " desired_state, config, config_hash, created_at, updated_at)"
		    " SELECT CONCAT('0198c0de-0000-7000-9000-', LPAD(HEX(seq), 12, '0')), '%s', seq, 'echo', 'single',"
		    " 'hot', 'loaded', '{}', REPEAT('0', 64), NOW(3), NOW(3) FROM seq_1_to_450;"
		    "INSERT INTO placements (instance_id, worker_id, incarnation, org_id, tier, generation, state,"
		    " placed_at, changed_at) SELECT instance_id, IF(name %% 2, 'w1', 'w2'), IF(name %% 2, '%s', '%s'),"
		    " org_id, 'hot', 1, 'ready', NOW(3), NOW(3) FROM orchestrator_instances",
		    org.text, w1.incarnation.text, w2.incarnation.text);
	expire(&w1);
	expire(&w2);
	CU_ASSERT_TRUE(reap());
	CU_ASSERT_EQUAL(seen, RECOVERY_BATCH);
	total += seen;
	CU_ASSERT_TRUE(reap());
	total += seen;
	CU_ASSERT_FALSE(reap());
	total += seen;
	CU_ASSERT_EQUAL(total, 450);
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM operations WHERE is_open = 1", NULL), 450);
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM placements", NULL), 0);
}

static void a_row_that_somebody_holds_waits_for_the_next_pass(void)
{
	struct db *other = fixture_connect();
	struct id held = hot();
	struct id app = hot();

	place(&held, &w1, "ready");
	place(&app, &w1, "ready");
	expire(&w1);
	fixture_run(other,
		    "START TRANSACTION; SELECT 1 FROM orchestrator_instances WHERE instance_id = '%s' FOR UPDATE",
		    held.text);
	CU_ASSERT_FALSE(reap());
	CU_ASSERT_EQUAL(seen, 1);
	CU_ASSERT_STRING_EQUAL(recovered[0].instance_id.text, app.text);
	fixture_run(other, "ROLLBACK");
	CU_ASSERT_FALSE(reap());
	CU_ASSERT_EQUAL(seen, 1);
	CU_ASSERT_STRING_EQUAL(recovered[0].instance_id.text, held.text);
	db_close(&other);
}

struct racer {
	pthread_barrier_t *barrier;
	struct db *db;
	struct id app;
	bool ok;
};

static void count_made(void *closure, const struct recovered *r)
{
	(void)closure;
	(void)r;
}

static void *race_reap(void *closure)
{
	struct racer *racer = closure;
	struct err e = {0};
	bool has_more;

	(void)pthread_barrier_wait(racer->barrier);
	racer->ok = recovery_reap(racer->db, NULL, NULL, count_made, NULL, &has_more, &e);
	return NULL;
}

static void *race_ready(void *closure)
{
	struct racer *racer = closure;
	struct err e = {0};
	enum place_result result;

	(void)pthread_barrier_wait(racer->barrier);
	result = one_ready(racer->db, &w1, &racer->app, 1, TIER_HOT, HASH_0, NULL, &e);
	racer->ok = result == PLACE_OK || result == PLACE_LOST;
	return NULL;
}

static void race(struct racer racers[2], void *(*second)(void *))
{
	pthread_t threads[2];

	(void)pthread_create(&threads[0], NULL, race_reap, &racers[0]);
	(void)pthread_create(&threads[1], NULL, second, &racers[1]);
	for (int i = 0; i < 2; i++) {
		(void)pthread_join(threads[i], NULL);
		CU_ASSERT_TRUE(racers[i].ok);
	}
}

/* Two leaders (one was frozen), or the dead worker itself, which goes on writing: one recovery, no copy of the dead. */
static void reaping_is_done_once_whoever_else_writes(void)
{
	pthread_barrier_t barrier;
	struct racer racers[2] = {{.barrier = &barrier, .db = fixture_connect()},
				  {.barrier = &barrier, .db = fixture_connect()}};

	(void)pthread_barrier_init(&barrier, NULL, 2);
	for (int round = 0; round < RACES; round++) {
		struct id app = hot();

		w1 = worker("w1");
		place(&app, &w1, "ready");
		expire(&w1);
		racers[1].app = app;
		race(racers, round % 2 ? race_reap : race_ready);
		(void)reap();
		CU_ASSERT_EQUAL(placements(&app), 0);
		CU_ASSERT_EQUAL(open_operations(&app), 1);
	}
	(void)pthread_barrier_destroy(&barrier);
	db_close(&racers[0].db);
	db_close(&racers[1].db);
}

/* --- hot Apps that lack copies --- */

static void a_hot_app_is_retried_when_its_backoff_is_over(void)
{
	struct id over = hot();
	struct id waiting = hot();
	struct id served = hot();
	struct id demand = fixture_app(&org, "demand", "loaded");

	change(&over, "next_attempt_at = NOW(3) - INTERVAL 1 SECOND, failures = 3, failure_reason = 'broken'");
	change(&served, "next_attempt_at = NOW(3) - INTERVAL 2 SECOND");
	change(&demand, "next_attempt_at = NOW(3) - INTERVAL 3 SECOND");
	change(&waiting, "next_attempt_at = NOW(3) + INTERVAL 1 HOUR");
	place(&served, &w1, "ready");
	CU_ASSERT_FALSE(retry());
	CU_ASSERT_EQUAL_FATAL(seen, 2);
	struct id none = recovery_of(&served), op = recovery_of(&over);
	CU_ASSERT_FALSE(id_is_set(&none));
	CU_ASSERT_TRUE(id_is_set(&op));
	CU_ASSERT_EQUAL(open_operations(&over), 1);
	CU_ASSERT_EQUAL(open_operations(&waiting) + open_operations(&demand) + open_operations(&served), 0);
	/* It does not come twice, and its failures go on counting. */
	CU_ASSERT_FALSE(retry());
	CU_ASSERT_EQUAL(seen, 0);
	CU_ASSERT_EQUAL(fixture_number("SELECT failures FROM orchestrator_instances WHERE instance_id = ?", &over), 3);
}

static void the_sweep_finds_every_hot_app_that_nobody_holds(void)
{
	struct id cursor = {""};
	unsigned rounds = 0;
	unsigned total = 0;
	struct id app;

	for (int i = 0; i < RECOVERY_BATCH + 50; i++) {
		app = hot();
		if (i % 5)
			place(&app, &w1, "ready");
		(void)fixture_app(&org, "hot", "unloaded");
	}
	do {
		seen = 0;
		CU_ASSERT_TRUE_FATAL(recovery_sweep(fx.db, &cursor, on_recovered, NULL, &err));
		total += seen;
		rounds++;
	} while (id_is_set(&cursor) && rounds < 10);
	CU_ASSERT_EQUAL(rounds, 2);
	CU_ASSERT_EQUAL(total, (RECOVERY_BATCH + 50) / 5);
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM operations WHERE source = 'recovery'", NULL), total);
	/* Once more finds nothing: the operations are open. */
	seen = 0;
	CU_ASSERT_TRUE(recovery_sweep(fx.db, &cursor, on_recovered, NULL, &err));
	CU_ASSERT_EQUAL(seen, 0);
}

static void the_sweep_leaves_a_suspended_org_alone(void)
{
	struct id cursor = {""};
	struct id suspended = fixture_org();
	struct id app = fixture_app(&suspended, "hot", "loaded");

	fixture_run(fx.db, "UPDATE organizations SET status = 'suspended' WHERE org_id = '%s'", suspended.text);
	seen = 0;
	CU_ASSERT_TRUE(recovery_sweep(fx.db, &cursor, on_recovered, NULL, &err));
	CU_ASSERT_EQUAL(seen, 0);
	fixture_run(fx.db, "UPDATE organizations SET status = 'active' WHERE org_id = '%s'", suspended.text);
	CU_ASSERT_TRUE(recovery_sweep(fx.db, &cursor, on_recovered, NULL, &err));
	CU_ASSERT_EQUAL(seen, 1);
	CU_ASSERT_EQUAL(open_operations(&app), 1);
}

/* --- publishing again --- */

static void an_open_operation_is_published_again_ever_more_rarely(void)
{
	static const int delays[] = {10, 20, 40, 80, 160, 300, 300};
	struct id app = hot();
	struct id op = fixture_operation(&app, "load", 1);

	change_operation(&op, "request_id = 'request-1'");
	fixture_time_stop();
	for (size_t i = 0; i < ARRAY_LEN(delays); i++) {
		CU_ASSERT_EQUAL(republish(), 1);
		CU_ASSERT_EQUAL(seen, 1);
		CU_ASSERT_STRING_EQUAL(republished[0].op.operation_id.text, op.text);
		CU_ASSERT_STRING_EQUAL(republished[0].op.org_id.text, org.text);
		CU_ASSERT_EQUAL(republished[0].publish_count, i + 1);
		CU_ASSERT_TRUE(republished[0].use_loads);
		CU_ASSERT_EQUAL(fixture_number("SELECT TIMESTAMPDIFF(SECOND, NOW(3), next_publish_at)"
					       " FROM operations WHERE operation_id = ?",
					       &op),
				delays[i]);
		CU_ASSERT_EQUAL(republish(), 0);
		change_operation(&op, "next_publish_at = NOW(3)");
	}
	fixture_time_go_on();
}

static void at_most_max_and_the_oldest_first(void)
{
	unsigned count;

	for (int i = 0; i < 120; i++) {
		struct id app = hot();
		struct id op = fixture_operation(&app, "load", 1);

		fixture_run(fx.db,
			    "UPDATE operations SET next_publish_at = NOW(3) - INTERVAL %d MINUTE WHERE"
			    " operation_id = '%s'",
			    i, op.text);
	}
	seen = 0;
	CU_ASSERT_TRUE(recovery_republish(fx.db, 70, on_republish, NULL, &count, &err));
	CU_ASSERT_EQUAL(count, 70);
	CU_ASSERT_EQUAL(seen, 70);
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM operations WHERE next_publish_at < NOW(3)"
				       " - INTERVAL 51 MINUTE",
				       NULL),
			0);
	CU_ASSERT_EQUAL(republish(), 50);
}

/* What stands when an operation is due, in rows: what comes to the callback. */
static void what_is_due_is_settled_first(void)
{
	static const struct {
		int line;
		const char *action;
		unsigned generation;
		const char *set;
		const char *w1_state; /* at generation 1 */
		bool is_dead;         /* w1 */
		const char *state;    /* of the operation after it; NULL: not touched */
		bool is_published, use_loads;
		unsigned ended;
	} rows[] = {
		{__LINE__, "load", 1, "tier = 'hot'", NULL, false, "accepted", true, true, 0},
		{__LINE__, "reload", 1, "tier = 'hot'", NULL, false, "accepted", true, true, 0},
		{__LINE__, "load", 1, "tier = 'hot'", "ready", false, "succeeded", false, false, 1},
		{__LINE__, "load", 2, "generation = 2", "ready", false, "accepted", true, false, 0},
		{__LINE__, "load", 2, "generation = 2, replicas = 2", "ready", false, "accepted", true, true, 0},
		{__LINE__, "reload", 2, "generation = 2", "ready", false, "accepted", true, false, 0},
		{__LINE__, "load", 1, "tier = 'hot'", "loading", false, NULL, false, false, 0},
		{__LINE__, "load", 1, "tier = 'hot'", "loading", true, "accepted", true, true, 0},
		{__LINE__, "load", 1, "tier = 'hot'", "draining", false, NULL, false, false, 0},
		{__LINE__, "load", 1, "tier = 'hot'", "failed", false, "accepted", true, true, 0},
		{__LINE__, "unload", 2, "generation = 2", NULL, false, "succeeded", false, false, 1},
		{__LINE__, "unload", 2, "generation = 2", "ready", false, "accepted", true, false, 0},
		{__LINE__, "load", 1, "attempts = 3", NULL, false, "failed", false, false, 1},
		{__LINE__, "load", 1, "attempts = 3", "ready", false, "succeeded", false, false, 1},
		{__LINE__, "load", 1, "next_attempt_at = NOW(3) + INTERVAL 100 SECOND", NULL, false, "accepted", false,
		 false, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct id app = hot();
		struct id op = fixture_operation(&app, rows[i].action, rows[i].generation);

		change(&app, rows[i].set);
		if (rows[i].w1_state)
			place(&app, &w1, rows[i].w1_state);
		if (rows[i].is_dead)
			expire(&w1);
		CHECK_ROW(&rows[i], republish() == rows[i].is_published);
		CHECK_ROW(&rows[i], seen == (rows[i].is_published || rows[i].ended > 0));
		if (seen == 1) {
			CHECK_ROW(&rows[i], republished[0].ended == rows[i].ended);
			CHECK_ROW(&rows[i], strcmp(op_state_name(republished[0].op.state), rows[i].state) == 0);
		}
		if (rows[i].is_published)
			CHECK_ROW(&rows[i], republished[0].use_loads == rows[i].use_loads);
		CHECK_ROW(&rows[i],
			  strcmp(fixture_operation_state(&op), rows[i].state ? rows[i].state : "accepted") == 0);
		fixture_run(fx.db, "DELETE FROM operations");
		w1 = worker("w1");
	}
}

static void a_rebuild_beside_a_ready_copy_is_not_disturbed(void)
{
	struct id app = hot();
	struct claim claim;

	place(&app, &w1, "ready");
	change(&app, "generation = 2, rebuild_generation = 2");
	(void)fixture_operation(&app, "reload", 2);
	CU_ASSERT_EQUAL(one_claim(fx.db, fx.mem, &w1, &app, CLAIM_HOW_REBUILD, &claim, &err), CLAIM_BUILD);
	CU_ASSERT_EQUAL(republish(), 0);
	CU_ASSERT_EQUAL(seen, 0);
	expire(&w1);
	CU_ASSERT_EQUAL(republish(), 1);
}

/* --- pruning, cost --- */

static void old_rows_are_pruned(void)
{
	struct id app = hot();
	struct id old;

	old = fixture_worker("old");
	fixture_place(&app, "old", &old, "ready", 1, NULL);
	fixture_run(fx.db, "UPDATE workers SET lease_until = NOW(3) - INTERVAL 25 HOUR WHERE worker_id = 'old';"
			   "UPDATE workers SET lease_until = NOW(3) - INTERVAL 23 HOUR WHERE worker_id = 'w2';"
			   "INSERT INTO worker_stats SELECT 'w1', NOW(3) - INTERVAL 60 * seq - 30 MINUTE, incarnation, "
			   "seq, 0, 0, 0, 0,"
			   " 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL FROM seq_1_to_30, workers WHERE worker_id = 'w1'");
	CU_ASSERT_TRUE(recovery_prune(fx.db, 24, &err));
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM worker_stats", NULL), 24);
	CU_ASSERT_STRING_EQUAL(fixture_text("SELECT GROUP_CONCAT(worker_id ORDER BY worker_id) FROM workers", NULL),
			       "w1,w2");
	/* What it held is found without its row. */
	(void)reap();
	CU_ASSERT_EQUAL(placements(&app), 0);
}

static int64_t rows_read(void)
{
	return fixture_number("SELECT CAST(SUM(VARIABLE_VALUE) AS SIGNED) FROM information_schema.SESSION_STATUS"
			      " WHERE VARIABLE_NAME LIKE 'HANDLER_READ%'",
			      NULL);
}

/* A pass over a healthy pool reads no row of its Apps; one that finds something reads only that. */
static void a_pass_costs_what_it_finds(void)
{
	struct id cursor = {""};

	fixture_run(
		fx.db,
		"INSERT INTO orchestrator_instances (instance_id, org_id, name, framework_type, mode, tier,"
		" desired_state, config, config_hash, next_attempt_at, created_at, updated_at)"
		" SELECT CONCAT('0198c0de-0000-7000-9000-', LPAD(HEX(seq), 12, '0')), '%s', seq, 'echo', 'single',"
		" IF(seq %% 2, 'hot', 'demand'), 'loaded', '{}', REPEAT('0', 64),"
		" IF(seq %% 2, NOW(3) + INTERVAL 1 HOUR, NOW(3) - INTERVAL 1 HOUR), NOW(3), NOW(3) FROM seq_1_to_8000;"
		"INSERT INTO placements (instance_id, worker_id, incarnation, org_id, tier, generation, state,"
		" placed_at, changed_at) SELECT instance_id, 'w1', '%s', org_id, tier, 1, 'ready', NOW(3), NOW(3)"
		" FROM orchestrator_instances;"
		"INSERT INTO operations (operation_id, instance_id, org_id, action, tier, generation, source, state,"
		" next_publish_at, accepted_at) SELECT CONCAT('0198c0de-0000-7000-9001-', LPAD(HEX(seq), 12, '0')),"
		" CONCAT('0198c0de-0000-7000-9000-', LPAD(HEX(1 + seq DIV 5), 12, '0')), '%s', 'load', 'hot', 1,"
		" 'api_load', IF(seq %% 2, 'succeeded', 'accepted'),"
		" NOW(3) + INTERVAL IF(seq %% 2, -1, 1) HOUR, NOW(3) FROM seq_1_to_20000;"
		"INSERT IGNORE INTO worker_stats SELECT 'w2', NOW(3) - INTERVAL seq SECOND, '%s', seq, 0, 0, 0, 0,"
		" 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL FROM seq_1_to_5000;"
		"ANALYZE TABLE orchestrator_instances, placements, operations, worker_stats",
		org.text, w1.incarnation.text, org.text, w2.incarnation.text);
	int64_t before = rows_read();
	int64_t own = rows_read() - before; /* of looking itself */
	before = rows_read();
	CU_ASSERT_FALSE(reap());
	CU_ASSERT_EQUAL(seen, 0);
	CU_ASSERT_FALSE(retry());
	CU_ASSERT_EQUAL(seen, 0);
	CU_ASSERT_EQUAL(republish(), 0);
	CU_ASSERT_TRUE(recovery_prune(fx.db, 24, &err));
	CU_ASSERT(rows_read() - before - own < 100);
	/* Many due at once: a few rows for each of them, none for the others. */
	fixture_run(fx.db, "UPDATE operations SET next_publish_at = NOW(3) WHERE is_open = 1 LIMIT 500");
	before = rows_read();
	CU_ASSERT(republish() <= 500);
	CU_ASSERT(rows_read() - before - own < 500 * 40);
	before = rows_read();
	CU_ASSERT_TRUE(recovery_sweep(fx.db, &cursor, on_recovered, NULL, &err));
	CU_ASSERT(rows_read() - before - own < 10 * RECOVERY_BATCH);
	/* The copies of a dead worker, some at a time. */
	expire(&w1);
	before = rows_read();
	CU_ASSERT_TRUE(reap());
	CU_ASSERT_EQUAL(seen, RECOVERY_BATCH);
	CU_ASSERT(rows_read() - before - own < 30 * RECOVERY_BATCH);
	fixture_run(fx.db, "UPDATE orchestrator_instances SET next_attempt_at = NOW(3) WHERE wanted_hot = 1 LIMIT 300");
	before = rows_read();
	CU_ASSERT_TRUE(retry());
	CU_ASSERT_EQUAL(seen, RECOVERY_BATCH);
	CU_ASSERT(rows_read() - before - own < 30 * RECOVERY_BATCH);
}

static CU_TestInfo reap_cases[] = {
	CASE(copies_of_an_expired_lease_go_and_hot_apps_come_back),
	CASE(who_was_declared_dead_cannot_come_back),
	CASE(who_renews_in_time_is_left_alone),
	CASE(a_start_reaps_its_own_earlier_incarnation),
	CASE(placements_without_a_workers_row_are_reaped),
	CASE(only_what_is_wanted_and_nobody_brings_back_is_recovered),
	CASE(an_operation_whose_builder_died_is_published_at_once),
	CASE(an_unload_ends_with_the_worker_it_waited_for),
	CASE(an_app_that_killed_three_workers_is_poison),
	CASE(many_copies_go_in_bounded_steps),
	CASE(a_row_that_somebody_holds_waits_for_the_next_pass),
	CASE(reaping_is_done_once_whoever_else_writes),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo hot_cases[] = {
	CASE(a_hot_app_is_retried_when_its_backoff_is_over),
	CASE(the_sweep_finds_every_hot_app_that_nobody_holds),
	CASE(the_sweep_leaves_a_suspended_org_alone),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo publish_cases[] = {
	CASE(an_open_operation_is_published_again_ever_more_rarely),
	CASE(at_most_max_and_the_oldest_first),
	CASE(what_is_due_is_settled_first),
	CASE(a_rebuild_beside_a_ready_copy_is_not_disturbed),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo upkeep_cases[] = {
	CASE(old_rows_are_pruned),
	CASE(a_pass_costs_what_it_finds),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"reaping", fixture_start, fixture_stop, set_up, NULL, reap_cases},
	{"hot Apps that lack copies", fixture_start, fixture_stop, set_up, NULL, hot_cases},
	{"publishing again", fixture_start, fixture_stop, set_up, NULL, publish_cases},
	{"upkeep", fixture_start, fixture_stop, set_up, NULL, upkeep_cases},
	CU_SUITE_INFO_NULL,
};
