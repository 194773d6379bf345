/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/placement, core/copies and core/quota against a real server. Workers are
 * identities only: what a worker would do between two writes is what a case says.
 */
#include "core/placement.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/operation.h"
#include "core/sql.h"
#include "lib/arena.h"
#include "tests/unit/harness.h"
#include "tests/unit/placement_one.h"
#include "tests/unit/sql_fixture.h"

#define RACES 30
#define HASH_0 "0000000000000000000000000000000000000000000000000000000000000000"
#define HASH_1 "1111111111111111111111111111111111111111111111111111111111111111"

static struct err err;
static struct id org;
static struct worker_identity w1, w2, w3;

static struct worker_identity worker(const char *name)
{
	struct worker_identity who = {.incarnation = fixture_worker(name)};

	(void)snprintf(who.worker_id, sizeof(who.worker_id), "%s", name);
	who.process_id = who.incarnation;
	return who;
}

/* Each case has its own org and the workers w1, w2 and w3, all live, and no others. */
static void set_up(void)
{
	fixture_run(fx.db, "DELETE FROM placements; DELETE FROM workers");
	org = fixture_org();
	w1 = worker("w1");
	w2 = worker("w2");
	w3 = worker("w3");
	err_clear(&err);
}

static void change(const struct id *app, const char *set)
{
	fixture_run(fx.db, "UPDATE orchestrator_instances SET %s WHERE instance_id = '%s'", set, app->text);
}

static void change_org(const char *set)
{
	fixture_run(fx.db, "UPDATE organizations SET %s WHERE org_id = '%s'", set, org.text);
}

static void change_worker(const struct worker_identity *who, const char *set)
{
	fixture_run(fx.db, "UPDATE workers SET %s WHERE worker_id = '%s'", set, who->worker_id);
}

static enum claim_result claim_how(const struct worker_identity *who, const struct id *app, unsigned how,
				   struct claim *ret_claim)
{
	memset(ret_claim, 0, sizeof(*ret_claim));
	return one_claim(fx.db, fx.mem, who, app, how, ret_claim, &err);
}

static enum claim_result claim(const struct worker_identity *who, const struct id *app)
{
	struct claim c;

	return claim_how(who, app, 0, &c);
}

static enum place_result ready(const struct worker_identity *who, const struct id *app, uint64_t generation)
{

	return one_ready(fx.db, who, app, generation, TIER_HOT, HASH_0, NULL, &err);
}

static void place(const struct id *app, const struct worker_identity *who, const char *state, unsigned generation)
{
	fixture_place(app, who->worker_id, &who->incarnation, state, generation, NULL);
}

/* A hot App that is wanted, and an open load of it. */
static struct id wanted(struct id *ret_op)
{
	struct id app = fixture_app(&org, "hot", "loaded");
	struct id op = fixture_operation(&app, "load", 1);

	if (ret_op)
		*ret_op = op;
	return app;
}

static const char *text(const char *sql, const struct id *id)
{
	return fixture_text(sql, id);
}

static const char *placed(const struct id *app)
{
	return text(
		"SELECT COALESCE(GROUP_CONCAT(CONCAT(worker_id, ' ', state, ' ', generation) ORDER BY worker_id), '')"
		" FROM placements WHERE instance_id = ?",
		app);
}

static int64_t attempts(const struct id *app)
{
	return fixture_number("SELECT attempts FROM orchestrator_instances WHERE instance_id = ?", app);
}

/* --- claims --- */

static void a_wanted_app_is_claimed(void)
{
	struct claim c;
	struct id op;
	struct id app = wanted(&op);

	change_org("ttl_seconds = 70");
	change(&app, "config = '{\"prefix\":\"x\"}'");
	CU_ASSERT_EQUAL(claim_how(&w1, &app, 0, &c), CLAIM_BUILD);
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 loading 1");
	CU_ASSERT_STRING_EQUAL(text("SELECT incarnation FROM placements WHERE instance_id = ?", &app),
			       w1.incarnation.text);
	CU_ASSERT_EQUAL(attempts(&app), 1);
	CU_ASSERT_STRING_EQUAL(text("SELECT CONCAT(state, ' ', worker_id, ' ', started_at IS NOT NULL) FROM operations"
				    " WHERE operation_id = ?",
				    &op),
			       "running w1 1");
	CU_ASSERT_STRING_EQUAL(c.row.config, "{\"prefix\":\"x\"}");
	CU_ASSERT_STRING_EQUAL(c.row.framework_type, "echo");
	CU_ASSERT_STRING_EQUAL(c.row.mode, "single");
	CU_ASSERT_PTR_NULL(c.row.good_config);
	CU_ASSERT_STRING_EQUAL(c.row.good_hash, "");
	CU_ASSERT_EQUAL(c.row.ttl_seconds, 70);
	CU_ASSERT_TRUE(c.row.has_load_wanted);
	CU_ASSERT_FALSE(c.want_more);
}

static void nothing_is_claimed_that_nobody_asks_for(void)
{
	struct id unknown = id_new();
	struct id app = wanted(NULL);
	struct id idle = fixture_app(&org, "hot", "loaded");
	struct id unload = fixture_operation(&idle, "unload", 1);

	CU_ASSERT_EQUAL(claim(&w1, &unknown), CLAIM_NOT_WANTED);
	change(&app, "status = 'suspended'");
	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_NOT_WANTED);
	change(&app, "status = 'active', deleted_at = NOW(3)");
	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_NOT_WANTED);
	change(&app, "deleted_at = NULL");
	change_org("status = 'suspended'");
	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_NOT_WANTED);
	change_org("status = 'active'");
	CU_ASSERT_EQUAL(claim(&w1, &idle), CLAIM_NOT_WANTED);
	CU_ASSERT_STRING_EQUAL(placed(&app), "");
	/* What is fulfilled already ends on the way. */
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&unload), "succeeded");
}

static void a_rebuild_needs_no_operation_and_the_copy_serves_on(void)
{
	struct id app = fixture_app(&org, "hot", "loaded");
	struct claim c;

	place(&app, &w1, "ready", 1);
	change(&app, "generation = 2, rebuild_generation = 2");
	CU_ASSERT_EQUAL(claim_how(&w1, &app, CLAIM_HOW_REBUILD, &c), CLAIM_BUILD);
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 ready 1");
	CU_ASSERT_EQUAL(fixture_number("SELECT build_generation FROM placements WHERE instance_id = ?", &app), 2);
	CU_ASSERT_EQUAL(attempts(&app), 1);
	CU_ASSERT_EQUAL(ready(&w1, &app, 2), PLACE_OK);
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 ready 2");
	CU_ASSERT_STRING_EQUAL(text("SELECT build_generation FROM placements WHERE instance_id = ?", &app), "NULL");
}

static void what_was_unloaded_meanwhile_is_not_rebuilt(void)
{
	struct id app = fixture_app(&org, "hot", "unloaded");
	struct claim c;

	place(&app, &w1, "ready", 1);
	change(&app, "generation = 3, rebuild_generation = 2, unload_generation = 3");
	CU_ASSERT_EQUAL(claim_how(&w1, &app, CLAIM_HOW_REBUILD, &c), CLAIM_NOT_WANTED);
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 ready 1");
	/* A load that is asked for behind the unload waits until it drains, or the unload would end while it serves. */
	(void)fixture_operation(&app, "load", 3);
	CU_ASSERT_EQUAL(claim_how(&w1, &app, CLAIM_HOW_REBUILD, &c), CLAIM_NOT_WANTED);
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 ready 1");
	CU_ASSERT_EQUAL(attempts(&app), 0);
}

static void a_backoff_is_waited_out(void)
{
	struct id app = wanted(NULL);
	struct claim c;

	fixture_time_stop();
	change(&app, "next_attempt_at = NOW(3) + INTERVAL 20 SECOND");
	CU_ASSERT_EQUAL(claim_how(&w1, &app, 0, &c), CLAIM_BACKOFF);
	CU_ASSERT_EQUAL(c.row.retry_in_ms, 20000);
	change(&app, "next_attempt_at = NOW(3) - INTERVAL 1 SECOND");
	CU_ASSERT_EQUAL(claim_how(&w1, &app, 0, &c), CLAIM_BUILD);
	fixture_time_go_on();
}

static void an_app_whose_builder_died_is_built_alone_and_at_last_not_at_all(void)
{
	struct id op;
	struct id app = wanted(&op);
	struct claim c;

	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_BUILD);
	w1 = worker("w1");
	CU_ASSERT_EQUAL(claim(&w2, &app), CLAIM_ALONE);
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 loading 1"); /* of the dead incarnation; w2 wrote nothing */
	CU_ASSERT_EQUAL(claim_how(&w2, &app, CLAIM_HOW_ALONE, &c), CLAIM_BUILD);
	w2 = worker("w2");
	CU_ASSERT_EQUAL(claim_how(&w2, &app, CLAIM_HOW_ALONE, &c), CLAIM_BUILD); /* takes over its own dead row */
	w2 = worker("w2");
	CU_ASSERT_EQUAL(attempts(&app), 3);
	CU_ASSERT_EQUAL(claim_how(&w2, &app, CLAIM_HOW_ALONE, &c), CLAIM_POISON);
	CU_ASSERT_EQUAL(c.ended, 1);
	CU_ASSERT_STRING_EQUAL(text("SELECT CONCAT(state, ' ', reason) FROM operations WHERE operation_id = ?", &op),
			       "failed poison");
	CU_ASSERT_STRING_EQUAL(text("SELECT failure_reason FROM orchestrator_instances WHERE instance_id = ?", &app),
			       "poison");
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 loading 1"); /* the reaper's */
}

static void builds_under_way_are_not_dead_attempts(void)
{
	struct worker_identity workers[6] = {w1, w2, w3, worker("w4"), worker("w5"), worker("w6")};
	struct id app = wanted(NULL);
	struct id held = fixture_app(&org, "hot", "loaded");
	struct claim c;

	change(&app, "replicas = 6");
	change(&held, "replicas = 6, generation = 2, rebuild_generation = 2");
	for (int i = 0; i < 6; i++) {
		CU_ASSERT_EQUAL(claim_how(&workers[i], &app, 0, &c), CLAIM_BUILD);
		CU_ASSERT_EQUAL(c.want_more, i < 5);
		place(&held, &workers[i], "ready", 1);
	}
	for (int i = 0; i < 6; i++)
		CU_ASSERT_EQUAL(claim_how(&workers[i], &held, CLAIM_HOW_REBUILD, &c), CLAIM_BUILD);
	CU_ASSERT_EQUAL(attempts(&app), 6);
	CU_ASSERT_EQUAL(attempts(&held), 6);
}

static void a_repeated_claim_is_one_attempt(void)
{
	struct id app = wanted(NULL);
	struct id held = fixture_app(&org, "hot", "loaded");
	struct claim c;

	place(&held, &w1, "ready", 1);
	for (int i = 0; i < 5; i++) {
		CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_BUILD);
		CU_ASSERT_EQUAL(claim_how(&w1, &held, CLAIM_HOW_REBUILD, &c), CLAIM_BUILD);
	}
	CU_ASSERT_EQUAL(attempts(&app), 1);
	CU_ASSERT_EQUAL(attempts(&held), 1);
}

/* What others hold, in rows: their state and generation, the row's generation, and what a claim of w3 then says. */
static void what_others_hold_decides(void)
{
	static const struct {
		int line;
		int replicas, generation;
		const char *w1_state;
		int w1_generation;
		const char *w2_state;
		int w2_generation;
		const char *w1_reason;
		enum claim_result result;
		bool want_more;
	} rows[] = {
		{__LINE__, 1, 2, "ready", 2, NULL, 0, NULL, CLAIM_ENOUGH, false},
		{__LINE__, 1, 2, "ready", 1, NULL, 0, NULL, CLAIM_PASS_ON, false},
		{__LINE__, 1, 2, "ready", 3, NULL, 0, NULL, CLAIM_PASS_ON, false},
		{__LINE__, 1, 2, "ready", 2, NULL, 0, "running_previous_version", CLAIM_PASS_ON, false},
		{__LINE__, 1, 2, "loading", 2, NULL, 0, NULL, CLAIM_LOADING, false},
		{__LINE__, 1, 2, "draining", 2, NULL, 0, NULL, CLAIM_BUILD, false},
		{__LINE__, 1, 2, "failed", 2, NULL, 0, NULL, CLAIM_BUILD, false},
		{__LINE__, 2, 2, "ready", 2, NULL, 0, NULL, CLAIM_BUILD, false},
		{__LINE__, 2, 2, "ready", 2, "loading", 2, NULL, CLAIM_LOADING, false},
		{__LINE__, 2, 2, "ready", 2, "ready", 2, NULL, CLAIM_ENOUGH, false},
		{__LINE__, 2, 2, "ready", 2, "ready", 1, NULL, CLAIM_PASS_ON, false},
		{__LINE__, 3, 2, NULL, 0, NULL, 0, NULL, CLAIM_BUILD, true},
		{__LINE__, 9, 2, "ready", 2, "ready", 2, NULL, CLAIM_BUILD, false}, /* three live workers */
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct id app = fixture_app(&org, "hot", "loaded");
		struct claim c;

		(void)fixture_operation(&app, "load", 2);
		fixture_run(fx.db,
			    "UPDATE orchestrator_instances SET replicas = %d, generation = %d WHERE instance_id = '%s'",
			    rows[i].replicas, rows[i].generation, app.text);
		if (rows[i].w1_state)
			fixture_place(&app, "w1", &w1.incarnation, rows[i].w1_state, (unsigned)rows[i].w1_generation,
				      rows[i].w1_reason);
		if (rows[i].w2_state)
			place(&app, &w2, rows[i].w2_state, (unsigned)rows[i].w2_generation);
		CHECK_ROW(&rows[i], claim_how(&w3, &app, 0, &c) == rows[i].result);
		CHECK_ROW(&rows[i], c.want_more == rows[i].want_more);
		CHECK_ROW(&rows[i], c.ended == (rows[i].result == CLAIM_ENOUGH ? 1 : 0));
	}
}

static void copies_of_the_dead_and_of_the_leaving_are_not_counted(void)
{
	struct id expired = wanted(NULL);
	struct id leaving = wanted(NULL);
	struct id restarted = wanted(NULL);
	struct id removed = wanted(NULL);
	struct id nobody = id_new();

	place(&expired, &w1, "ready", 1);
	place(&leaving, &w2, "ready", 1);
	place(&removed, &w2, "ready", 1);
	fixture_place(&restarted, "w3", &nobody, "ready", 1, NULL);
	fixture_place(&removed, "w-unknown", &nobody, "ready", 1, NULL);
	fixture_run(fx.db, "DELETE FROM placements WHERE instance_id = '%s' AND worker_id = 'w2'", removed.text);
	change_worker(&w1, "lease_until = NOW(3) - INTERVAL 1 SECOND");
	change_worker(&w2, "state = 'leaving'");
	CU_ASSERT_EQUAL(claim(&w3, &expired), CLAIM_BUILD);
	CU_ASSERT_EQUAL(claim(&w3, &leaving), CLAIM_BUILD);
	CU_ASSERT_EQUAL(claim(&w3, &restarted), CLAIM_BUILD);
	CU_ASSERT_EQUAL(claim(&w3, &removed), CLAIM_BUILD);
}

static void a_draining_copy_of_ours_hands_its_row_over(void)
{
	struct id app = wanted(NULL);

	place(&app, &w1, "draining", 1);
	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_BUILD);
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 loading 1");
}

/* Its row was the last below the unload. */
static void a_row_that_is_handed_over_ends_the_unload(void)
{
	struct id app = fixture_app(&org, "demand", "unloaded");
	struct claim c;

	place(&app, &w1, "draining", 1);
	change(&app, "generation = 2, unload_generation = 2");
	struct id unload = fixture_operation(&app, "unload", 2);
	struct id load = fixture_operation(&app, "load", 2);
	CU_ASSERT_EQUAL(claim_how(&w1, &app, 0, &c), CLAIM_BUILD);
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&unload), "succeeded");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&load), "running");
	CU_ASSERT_EQUAL(c.ended, 1);
}

static void a_dead_worker_claims_nothing(void)
{
	struct id app = wanted(NULL);
	struct worker_identity dead = w1;

	change_worker(&w1, "lease_until = NOW(3) - INTERVAL 1 SECOND");
	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_FAIL); /* not dead yet: the lease may be renewed, its copies serve on */
	w1 = worker("w1");
	CU_ASSERT_EQUAL(claim(&dead, &app), CLAIM_LOST);
	change_worker(&w1, "state = 'leaving'");
	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_FAIL);
	CU_ASSERT_EQUAL(err.code, ERR_BUSY);
	CU_ASSERT_STRING_EQUAL(placed(&app), "");
	CU_ASSERT_EQUAL(attempts(&app), 0);
}

static void a_lowered_hot_quota_fails_the_operation_for_a_while(void)
{
	struct id op;
	struct id other = fixture_app(&org, "hot", "loaded");
	struct id app = wanted(&op);
	struct claim c;

	(void)other;
	change_org("quota_hot = 1");
	fixture_time_stop();
	CU_ASSERT_EQUAL(claim_how(&w1, &app, 0, &c), CLAIM_QUOTA_HOT);
	CU_ASSERT_EQUAL(c.ended, 1);
	CU_ASSERT_STRING_EQUAL(text("SELECT CONCAT(state, ' ', reason) FROM operations WHERE operation_id = ?", &op),
			       "failed quota_hot");
	CU_ASSERT_EQUAL(fixture_number("SELECT next_attempt_at = NOW(3) + INTERVAL 10 SECOND AND failures = 0"
				       " FROM orchestrator_instances WHERE instance_id = ?",
				       &app),
			1);
	fixture_time_go_on();
	CU_ASSERT_STRING_EQUAL(placed(&app), "");
	/* A large quota takes the other way to the same answer. */
	change_org("quota_hot = 2000");
	change(&app, "next_attempt_at = NULL");
	(void)fixture_operation(&app, "load", 1);
	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_BUILD);
}

static struct id demand_app(void)
{
	struct id app = fixture_app(&org, "demand", "unloaded");

	(void)fixture_operation(&app, "load", 1);
	return app;
}

static void the_demand_quota_counts_the_live_copies_of_others(void)
{
	struct id held = fixture_app(&org, "demand", "unloaded");
	struct id dead = fixture_app(&org, "demand", "unloaded");
	struct id app = demand_app();
	struct id nobody = id_new();
	struct claim c;

	change_org("quota_demand = 1");
	fixture_place(&dead, "w3", &nobody, "ready", 1, NULL);
	place(&held, &w2, "ready", 1);
	CU_ASSERT_EQUAL(claim_how(&w1, &app, 0, &c), CLAIM_QUOTA);
	CU_ASSERT_EQUAL(c.org_demand_held, 1);
	CU_ASSERT_STRING_EQUAL(placed(&app), "");
	place(&held, &w2, "draining", 1);
	CU_ASSERT_EQUAL(claim_how(&w1, &app, 0, &c), CLAIM_BUILD);
	/* Our own copy is not in its own way. */
	CU_ASSERT_EQUAL(claim_how(&w1, &app, 0, &c), CLAIM_BUILD);
}

static void far_from_the_demand_quota_no_lock_is_needed(void)
{
	struct db *other = fixture_connect();
	struct id near = demand_app();
	struct err e = {0};
	struct claim c;

	change_org("quota_demand = 901");
	/* Somebody holds the org's lock, as every request that raises a count does. */
	fixture_run(other, "START TRANSACTION; SELECT 1 FROM organizations WHERE org_id = '%s' FOR UPDATE", org.text);
	fixture_run(fx.db, "SET innodb_lock_wait_timeout = 0");
	CU_ASSERT_EQUAL(claim(&w1, &near), CLAIM_BUILD);
	place(&near, &w1, "failed", 1);
	fixture_run(other,
		    "COMMIT; UPDATE organizations SET quota_demand = 900 WHERE org_id = '%s'; START TRANSACTION;"
		    "SELECT 1 FROM organizations WHERE org_id = '%s' FOR UPDATE",
		    org.text, org.text);
	/* Three workers may have 300 claims each under way. */
	CU_ASSERT_EQUAL(one_claim(fx.db, fx.mem, &w1, &near, CLAIM_HOW_ALONE, &c, &e), CLAIM_FAIL);
	CU_ASSERT_EQUAL(e.code, ERR_BUSY);
	fixture_run(fx.db, "SET innodb_lock_wait_timeout = 10");
	db_close(&other);
}

/* --- ready --- */

static void a_ready_copy_says_that_others_are_to_hold_more(void)
{
	struct id op;
	struct id app = wanted(&op);

	change(&app, "replicas = 3");
	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_BUILD);
	CU_ASSERT_EQUAL(ready(&w1, &app, 1), PLACE_SHORT);
	CU_ASSERT_EQUAL(claim(&w2, &app), CLAIM_BUILD);
	CU_ASSERT_EQUAL(ready(&w1, &app, 1), PLACE_SHORT); /* its event came back to it */
	CU_ASSERT_EQUAL(claim(&w3, &app), CLAIM_BUILD);
	CU_ASSERT_EQUAL(ready(&w2, &app, 1), PLACE_OK); /* the third is on its way */
	CU_ASSERT_EQUAL(ready(&w3, &app, 1), PLACE_OK);
	CU_ASSERT_STRING_EQUAL(text("SELECT state FROM operations WHERE operation_id = ?", &op), "succeeded");
	change(&app, "replicas = 4"); /* as many as there are workers */
	CU_ASSERT_EQUAL(ready(&w1, &app, 1), PLACE_OK);
}

static void ready_ends_operations_and_troubles(void)
{
	struct id op;
	struct id app = wanted(&op);

	change(&app, "attempts = 1, failures = 3, failure_reason = 'old', config = '{\"a\":1}'");
	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_ALONE);
	change(&app, "attempts = 0");
	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_BUILD);
	CU_ASSERT_EQUAL(one_ready(fx.db, &w1, &app, 1, TIER_HOT, HASH_0, NULL, &err), PLACE_OK);
	CU_ASSERT_STRING_EQUAL(text("SELECT CONCAT(state, ' ', worker_id) FROM operations WHERE operation_id = ?", &op),
			       "succeeded w1");
	CU_ASSERT_EQUAL(fixture_number("SELECT attempts + failures + (next_attempt_at IS NOT NULL)"
				       " + (failure_reason IS NOT NULL) FROM orchestrator_instances"
				       " WHERE instance_id = ?",
				       &app),
			0);
	CU_ASSERT_STRING_EQUAL(text("SELECT CONCAT(good_mode, good_config, good_config_hash) FROM"
				    " orchestrator_instances WHERE instance_id = ?",
				    &app),
			       "single{\"a\":1}" HASH_0);
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 ready 1");
}

static void a_number_and_a_tier_are_taken_over(void)
{
	struct id app = fixture_app(&org, "demand", "unloaded");
	struct id op;

	place(&app, &w1, "ready", 1);
	fixture_run(fx.db, "UPDATE placements SET placed_at = '2026-01-01' WHERE instance_id = '%s'", app.text);
	change(&app, "generation = 2, tier = 'hot', desired_state = 'loaded'");
	op = fixture_operation(&app, "load", 2);
	CU_ASSERT_EQUAL(one_ready(fx.db, &w1, &app, 2, TIER_HOT, NULL, NULL, &err), PLACE_OK);
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&op), "succeeded");
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 ready 2");
	CU_ASSERT_STRING_EQUAL(
		text("SELECT CONCAT(tier, ' ', DATE(placed_at)) FROM placements WHERE instance_id = ?", &app),
		"hot 2026-01-01");
	CU_ASSERT_STRING_EQUAL(text("SELECT good_config FROM orchestrator_instances WHERE instance_id = ?", &app),
			       "NULL");
}

static void only_a_copy_that_may_serve_the_row_is_ready(void)
{
	static const struct {
		int line;
		const char *set;
		const char *hash;
		const char *placed;
	} rows[] = {
		{__LINE__, "generation = 3", HASH_0, "w1 ready 2"}, /* only the number differs */
		{__LINE__, "generation = 3", NULL, "w1 ready 2"},
		/* until it is rebuilt */
		{__LINE__, "generation = 3, config_hash = '" HASH_1 "'", HASH_0, "w1 ready 2"},
		{__LINE__, "generation = 3, rebuild_generation = 3", HASH_0, "w1 ready 2"},
		{__LINE__, "generation = 3, unload_generation = 3", HASH_0, "w1 loading 2"},
		{__LINE__, "generation = 1", HASH_0, "w1 loading 2"}, /* a restored backup */
		{__LINE__, "status = 'suspended'", HASH_0, "w1 loading 2"},
		{__LINE__, "deleted_at = NOW(3)", HASH_0, "w1 loading 2"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct id app = fixture_app(&org, "hot", "loaded");

		place(&app, &w1, "loading", 2);
		change(&app, "generation = 2");
		change(&app, rows[i].set);
		CHECK_ROW(&rows[i],
			  one_ready(fx.db, &w1, &app, 2, TIER_HOT, rows[i].hash, NULL, &err) == PLACE_CHANGED);
		CHECK_ROW(&rows[i], strcmp(placed(&app), rows[i].placed) == 0);
	}
}

static void a_config_that_came_after_the_build_is_not_the_last_good_one(void)
{
	struct id app = wanted(NULL);

	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_BUILD);
	change(&app, "generation = 2, config_hash = '" HASH_1 "'");
	CU_ASSERT_EQUAL(ready(&w1, &app, 1), PLACE_CHANGED);
	CU_ASSERT_STRING_EQUAL(text("SELECT good_config FROM orchestrator_instances WHERE instance_id = ?", &app),
			       "NULL");
}

static void the_previous_version_serves_and_fulfils_nothing(void)
{
	struct id app = wanted(NULL);
	struct id later;

	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_BUILD);
	fixture_time_stop();
	CU_ASSERT_EQUAL(one_failed(fx.db, &w1, &app, 1, "broken", true, 0, &err), PLACE_OK);
	later = fixture_operation(&app, "load", 1);
	CU_ASSERT_EQUAL(one_ready(fx.db, &w1, &app, 1, TIER_HOT, NULL, "running_previous_version", &err), PLACE_OK);
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 ready 1");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&later), "accepted");
	CU_ASSERT_STRING_EQUAL(text("SELECT CONCAT(failures, failure_reason, next_attempt_at > NOW(3)) FROM"
				    " orchestrator_instances WHERE instance_id = ?",
				    &app),
			       "1broken1");
	fixture_time_go_on();
}

static void a_dead_incarnation_writes_nothing(void)
{
	struct worker_identity dead = w1;
	struct id app = wanted(NULL);
	struct id recovery_op;

	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_BUILD);
	w1 = worker("w1");
	CU_ASSERT_EQUAL(ready(&dead, &app, 1), PLACE_LOST);
	CU_ASSERT_EQUAL(one_failed(fx.db, &dead, &app, 1, "x", false, 0, &err), PLACE_LOST);
	CU_ASSERT_EQUAL(one_step(fx.db, &dead, &app, PLACE_STEP_GIVE_BACK, &err), PLACE_LOST);
	CU_ASSERT_EQUAL(one_draining(fx.db, &dead, &app, true, &recovery_op, &err), PLACE_LOST);
	CU_ASSERT_EQUAL(one_step(fx.db, &dead, &app, PLACE_STEP_GONE, &err), PLACE_LOST);
	CU_ASSERT_EQUAL(one_step(fx.db, &dead, &app, PLACE_STEP_SURPLUS, &err), PLACE_LOST);
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 loading 1");
	CU_ASSERT_EQUAL(attempts(&app), 1);
	CU_ASSERT_FALSE(id_is_set(&recovery_op));
}

static void a_lost_placement_row_is_made_again(void)
{
	struct id app = fixture_app(&org, "hot", "loaded");

	CU_ASSERT_EQUAL(ready(&w1, &app, 1), PLACE_OK);
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 ready 1");
}

/* --- failed, given back --- */

/* Of a time that stands still. */
static int64_t retry_s(const struct id *app)
{
	return fixture_number("SELECT TIMESTAMPDIFF(SECOND, NOW(3), next_attempt_at)"
			      " FROM orchestrator_instances WHERE instance_id = ?",
			      app);
}

static void failures_wait_twice_as_long_each_time(void)
{
	static const int delays[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300};
	struct id app = wanted(NULL);

	fixture_time_stop();
	for (size_t i = 0; i < ARRAY_LEN(delays); i++) {
		(void)fixture_operation(&app, "load", 1);
		change(&app, "next_attempt_at = NULL");
		CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_BUILD);
		CU_ASSERT_EQUAL(one_failed(fx.db, &w1, &app, 1, "broken", false, 0, &err), PLACE_OK);
		CU_ASSERT_EQUAL(retry_s(&app), delays[i]);
		CU_ASSERT_EQUAL(attempts(&app), 0);
	}
	fixture_time_go_on();
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 failed 1");
	CU_ASSERT_STRING_EQUAL(text("SELECT CONCAT(failures, ' ', failure_reason) FROM orchestrator_instances"
				    " WHERE instance_id = ?",
				    &app),
			       "11 broken");
}

static void a_failed_build_fails_what_it_was_for(void)
{
	struct id load;
	struct id app = wanted(&load);
	struct id reload, later;

	change(&app, "generation = 2");
	reload = fixture_operation(&app, "reload", 2);
	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_BUILD);
	change(&app, "generation = 3, attempts = 0");
	later = fixture_operation(&app, "load", 3);
	CU_ASSERT_EQUAL(one_failed(fx.db, &w1, &app, 2, "broken", false, 0, &err), PLACE_CHANGED);
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&load), "failed");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&reload), "failed");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&later), "accepted");
	CU_ASSERT_EQUAL(fixture_number("SELECT failures + (next_attempt_at IS NOT NULL) FROM orchestrator_instances"
				       " WHERE instance_id = ?",
				       &app),
			0);
}

static void want_of_room_is_no_failure_of_the_app(void)
{
	struct id app = wanted(NULL);

	change(&app, "attempts = 1"); /* somebody died on it before */
	place(&app, &w1, "ready", 1);
	fixture_time_stop();
	CU_ASSERT_EQUAL(one_failed(fx.db, &w1, &app, 1, "hot_ceiling", true, 10, &err), PLACE_OK);
	CU_ASSERT_EQUAL(retry_s(&app), 10);
	fixture_time_go_on();
	CU_ASSERT_EQUAL(attempts(&app), 1);
	CU_ASSERT_EQUAL(fixture_number("SELECT failures FROM orchestrator_instances WHERE instance_id = ?", &app), 0);
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 ready 1");
}

static void any_reason_fits(void)
{
	char reason[600];
	struct id app = wanted(NULL);

	memset(reason, 'x', sizeof(reason));
	memcpy(reason + 254, "\xC3\xA4\xC3\xA4", 4); /* the cut is within a character */
	reason[sizeof(reason) - 1] = '\0';
	CU_ASSERT_EQUAL(one_failed(fx.db, &w1, &app, 1, reason, true, 0, &err), PLACE_OK);
	CU_ASSERT_EQUAL(fixture_number("SELECT LENGTH(failure_reason) FROM orchestrator_instances"
				       " WHERE instance_id = ?",
				       &app),
			254);
	CU_ASSERT_EQUAL(one_failed(fx.db, &w1, &app, 1, "bad \xFF\n\xC3", true, 0, &err), PLACE_OK);
	CU_ASSERT_STRING_EQUAL(text("SELECT failure_reason FROM orchestrator_instances WHERE instance_id = ?", &app),
			       "bad ???");
	CU_ASSERT_EQUAL(one_failed(fx.db, &w1, &app, 1, "für später", true, 0, &err), PLACE_OK);
	CU_ASSERT_STRING_EQUAL(text("SELECT failure_reason FROM orchestrator_instances WHERE instance_id = ?", &app),
			       "für später");
}

static void what_is_given_back_was_no_attempt(void)
{
	struct id app = wanted(NULL);
	struct id held = fixture_app(&org, "hot", "loaded");
	struct claim c;

	place(&held, &w1, "ready", 1);
	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_BUILD);
	CU_ASSERT_EQUAL(claim_how(&w1, &held, CLAIM_HOW_REBUILD, &c), CLAIM_BUILD);
	CU_ASSERT_EQUAL(one_step(fx.db, &w1, &app, PLACE_STEP_GIVE_BACK, &err), PLACE_OK);
	CU_ASSERT_EQUAL(one_step(fx.db, &w1, &held, PLACE_STEP_GIVE_BACK, &err), PLACE_OK);
	CU_ASSERT_EQUAL(attempts(&app), 0);
	CU_ASSERT_EQUAL(attempts(&held), 0);
	CU_ASSERT_STRING_EQUAL(placed(&app), "");
	CU_ASSERT_STRING_EQUAL(placed(&held), "w1 ready 1");
	CU_ASSERT_EQUAL(claim(&w2, &app), CLAIM_BUILD);
}

/* It was to be rebuilt before it was recorded, and unloaded before that was done: its copy serves until it drains. */
static void an_unload_waits_for_a_copy_whose_rebuild_is_given_back(void)
{
	struct id app = wanted(NULL);
	struct id unload;
	struct claim c;

	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_BUILD);
	change(&app, "generation = 2, rebuild_generation = 2, attempts = 0");
	CU_ASSERT_EQUAL(ready(&w1, &app, 1), PLACE_CHANGED);
	CU_ASSERT_EQUAL(claim_how(&w1, &app, CLAIM_HOW_REBUILD, &c), CLAIM_BUILD);
	change(&app, "generation = 3, unload_generation = 3, desired_state = 'unloaded', attempts = 0");
	unload = fixture_operation(&app, "unload", 3);
	CU_ASSERT_EQUAL(one_step(fx.db, &w1, &app, PLACE_STEP_GIVE_BACK, &err), PLACE_OK);
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 ready 1");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&unload), "accepted");
}

static void giving_back_ends_the_unload_that_waited_for_it(void)
{
	struct id app = wanted(NULL);
	struct id unload;

	CU_ASSERT_EQUAL(claim(&w1, &app), CLAIM_BUILD);
	/* The unload clears the attempts; another worker's attempt at the new generation is not ours to take back. */
	change(&app, "generation = 2, unload_generation = 2, desired_state = 'unloaded', attempts = 1");
	unload = fixture_operation(&app, "unload", 2);
	CU_ASSERT_EQUAL(ready(&w1, &app, 1), PLACE_CHANGED);
	CU_ASSERT_EQUAL(one_step(fx.db, &w1, &app, PLACE_STEP_GIVE_BACK, &err), PLACE_OK);
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&unload), "succeeded");
	CU_ASSERT_EQUAL(attempts(&app), 1);
}

/* --- leaving --- */

static void an_unload_ends_when_the_last_copy_is_gone(void)
{
	struct id app = fixture_app(&org, "hot", "unloaded");
	struct id recovery_op, unload;

	place(&app, &w1, "ready", 1);
	place(&app, &w2, "ready", 1);
	change(&app, "generation = 2, unload_generation = 2");
	unload = fixture_operation(&app, "unload", 2);
	CU_ASSERT_EQUAL(one_draining(fx.db, &w1, &app, false, &recovery_op, &err), PLACE_OK);
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&unload), "accepted");
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 draining 1,w2 ready 1");
	CU_ASSERT_EQUAL(one_step(fx.db, &w1, &app, PLACE_STEP_GONE, &err), PLACE_OK);
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&unload), "accepted");
	CU_ASSERT_EQUAL(one_step(fx.db, &w2, &app, PLACE_STEP_GONE, &err), PLACE_OK);
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&unload), "succeeded");
	CU_ASSERT_EQUAL(one_step(fx.db, &w2, &app, PLACE_STEP_GONE, &err), PLACE_OK); /* once more does no harm */
}

/* A copy that is handed over, in rows: whether the App is waited for, and whether a recovery operation is made for it.
 */
static void hot_apps_are_handed_over_where_somebody_can_take_them(void)
{
	static const struct {
		int line;
		const char *set;
		bool has_open_load, others_leave, is_elsewhere;
		bool is_awaited, is_made;
	} rows[] = {
		{__LINE__, "tier = 'hot'", false, false, false, true, true},
		{__LINE__, "tier = 'demand'", false, false, false, false, false},
		{__LINE__, "desired_state = 'unloaded'", false, false, false, false, false},
		{__LINE__, "status = 'suspended'", false, false, false, false, false},
		{__LINE__, "tier = 'hot'", true, false, false, true, false},
		{__LINE__, "tier = 'hot'", true, true, false, false, false},
		{__LINE__, "tier = 'hot'", true, false, true, false, false},
		{__LINE__, "next_attempt_at = NOW(3) + INTERVAL 1 HOUR", true, false, false, false, false},
		{__LINE__, "tier = 'hot'", false, true, false, false, false},
		{__LINE__, "tier = 'hot'", false, false, true, false, false},
		{__LINE__, "replicas = 2", false, false, true, true, true},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct id app = fixture_app(&org, "hot", "loaded");
		struct id op = {""}, open = {""};

		fixture_run(fx.db, "UPDATE workers SET state = '%s' WHERE worker_id <> 'w1'",
			    rows[i].others_leave ? "leaving" : "active");
		place(&app, &w1, "ready", 1);
		change(&app, rows[i].set);
		if (rows[i].is_elsewhere)
			place(&app, &w2, "ready", 1);
		if (rows[i].has_open_load)
			open = fixture_operation(&app, "load", 9);
		CHECK_ROW(&rows[i], one_draining(fx.db, &w1, &app, true, &op, &err) == PLACE_OK);
		CHECK_ROW(&rows[i], id_is_set(&op) == rows[i].is_awaited);
		if (rows[i].is_awaited)
			CHECK_ROW(&rows[i], id_equal(&op, &open) == !rows[i].is_made);
		if (rows[i].is_made)
			CHECK_ROW(&rows[i], fixture_number("SELECT action = 'load' AND source = 'recovery' AND"
							   " state = 'accepted' AND generation = 1 FROM operations"
							   " WHERE operation_id = ?",
							   &op) == 1);
	}
}

static void of_surplus_copies_the_youngest_goes(void)
{
	struct id app = fixture_app(&org, "hot", "loaded");
	struct app_row row;

	place(&app, &w1, "ready", 1);
	place(&app, &w2, "ready", 1);
	fixture_run(fx.db, "UPDATE placements SET placed_at = placed_at - INTERVAL 1 HOUR WHERE worker_id = 'w2'");
	CU_ASSERT_TRUE(placement_read_held(fx.db, &w1, &app, 1, &row, &err));
	CU_ASSERT_TRUE(row.is_surplus);
	CU_ASSERT_EQUAL(one_step(fx.db, &w2, &app, PLACE_STEP_SURPLUS, &err), PLACE_CHANGED);
	CU_ASSERT_EQUAL(one_step(fx.db, &w1, &app, PLACE_STEP_SURPLUS, &err), PLACE_OK);
	CU_ASSERT_STRING_EQUAL(placed(&app), "w1 draining 1,w2 ready 1");
	CU_ASSERT_EQUAL(one_step(fx.db, &w2, &app, PLACE_STEP_SURPLUS, &err), PLACE_CHANGED);
	CU_ASSERT_TRUE(placement_read_held(fx.db, &w1, &app, 1, &row, &err));
	CU_ASSERT_FALSE(row.is_surplus);
}

/* --- reading --- */

static void what_is_held_is_recorded_where_the_placement_says_so(void)
{
	struct id app = fixture_app(&org, "hot", "loaded");
	struct app_row row;

	CU_ASSERT_TRUE(placement_read_held(fx.db, &w1, &app, 1, &row, &err));
	CU_ASSERT_FALSE(row.is_recorded);
	place(&app, &w1, "ready", 1);
	CU_ASSERT_TRUE(placement_read_held(fx.db, &w1, &app, 1, &row, &err));
	CU_ASSERT_TRUE(row.is_recorded);
	CU_ASSERT_TRUE(placement_read_held(fx.db, &w2, &app, 1, &row, &err));
	CU_ASSERT_FALSE(row.is_recorded);
	fixture_run(fx.db, "UPDATE placements SET state = 'loading'");
	CU_ASSERT_TRUE(placement_read_held(fx.db, &w1, &app, 1, &row, &err));
	CU_ASSERT_FALSE(row.is_recorded);
	fixture_run(fx.db, "UPDATE placements SET state = 'ready', build_generation = 1");
	CU_ASSERT_TRUE(placement_read_held(fx.db, &w1, &app, 1, &row, &err));
	CU_ASSERT_FALSE(row.is_recorded);
	fixture_run(fx.db, "UPDATE placements SET build_generation = NULL, generation = 2");
	CU_ASSERT_TRUE(placement_read_held(fx.db, &w1, &app, 1, &row, &err));
	CU_ASSERT_FALSE(row.is_recorded);
}

static void the_row_says_what_is_asked_for(void)
{
	struct id app = fixture_app(&org, "demand", "unloaded");
	struct id unknown = id_new();
	struct app_row row;

	CU_ASSERT_TRUE(placement_read(fx.db, &unknown, 1, &row, &err));
	CU_ASSERT_FALSE(row.is_found);
	CU_ASSERT_TRUE(placement_read(fx.db, &app, 1, &row, &err));
	CU_ASSERT_TRUE(row.is_found && row.is_active && !row.has_load_wanted && !row.fresh);
	CU_ASSERT(row.ttl_seconds == -1 && row.drain_s == -1 && row.tier == TIER_DEMAND);
	CU_ASSERT_STRING_EQUAL(row.hash, HASH_0);
	fixture_run(fx.db, "UPDATE operations SET fresh = 1 WHERE operation_id = '%s'",
		    fixture_operation(&app, "reload", 1).text);
	fixture_run(fx.db, "UPDATE operations SET drain_s = 7 WHERE operation_id = '%s'",
		    fixture_operation(&app, "unload", 1).text);
	fixture_run(fx.db, "UPDATE operations SET drain_s = 0 WHERE operation_id = '%s'",
		    fixture_operation(&app, "unload", 0).text);
	change_org("ttl_seconds = 70");
	CU_ASSERT_TRUE(placement_read(fx.db, &app, 1, &row, &err));
	CU_ASSERT(row.has_load_wanted && row.fresh && row.drain_s == 7 && row.ttl_seconds == 70);
	change(&app, "ttl_seconds = 5");
	change_org("status = 'suspended'");
	CU_ASSERT_TRUE(placement_read(fx.db, &app, 1, &row, &err));
	CU_ASSERT(!row.is_active && row.ttl_seconds == 5);
}

static void the_rows_come_in_the_order_of_the_ids(void)
{
	static const unsigned counts[] = {0, 1, SQL_SET_FEW, SQL_SET_FEW + 1, SQL_SET_MAX, 2 * SQL_SET_MAX + 3};
	static struct app_row rows[2 * SQL_SET_MAX + 3];
	static struct id ids[ARRAY_LEN(rows)];

	/* Every second one is there, and the later ones have the lower ids. */
	for (size_t i = ARRAY_LEN(ids); i-- > 0;)
		ids[i] = i % 2 ? id_new() : fixture_app(&org, "hot", "loaded");
	for (size_t k = 0; k < ARRAY_LEN(counts); k++) {
		memset(rows, 0xff, sizeof(rows));
		CU_ASSERT_TRUE(placement_read(fx.db, ids, counts[k], rows, &err));
		for (unsigned i = 0; i < counts[k]; i++) {
			CU_ASSERT_EQUAL(rows[i].is_found, i % 2 == 0);
			CU_ASSERT_STRING_EQUAL(rows[i].instance_id.text, ids[i].text);
			CU_ASSERT_FALSE(rows[i].is_surplus);
		}
	}
}

static void the_own_placements_come_in_pages(void)
{
	struct placed found[PLACE_BATCH];
	struct id last = {""};
	unsigned total = 0;
	unsigned count;

	for (int i = 0; i < PLACE_BATCH + 10; i++) {
		struct id app = fixture_app(&org, "hot", "loaded");

		place(&app, i % 10 ? &w1 : &w2, "ready", 3);
	}
	do {
		CU_ASSERT_TRUE_FATAL(placement_mine(fx.db, &w1, &last, found, &count, &err));
		for (unsigned i = 0; i < count; i++) {
			CU_ASSERT(strcmp(found[i].instance_id.text, last.text) > 0);
			CU_ASSERT(found[i].generation == 3 && found[i].state == PLACE_READY);
			last = found[i].instance_id;
		}
		total += count;
	} while (count > 0);
	CU_ASSERT_EQUAL(total, (PLACE_BATCH + 10) / 10 * 9);
}

/* --- races --- */

struct racer {
	pthread_barrier_t *barrier;
	struct db *db;
	struct arena *mem;
	const struct worker_identity *who;
	struct id app;
	enum claim_result result;
	struct err err;
};

static void *race_claim(void *closure)
{
	struct racer *racer = closure;
	struct claim c;

	(void)pthread_barrier_wait(racer->barrier);
	racer->result = one_claim(racer->db, racer->mem, racer->who, &racer->app, 0, &c, &racer->err);
	return NULL;
}

static void racers_open(struct racer racers[2], pthread_barrier_t *barrier)
{
	(void)pthread_barrier_init(barrier, NULL, 2);
	for (int i = 0; i < 2; i++)
		racers[i] = (struct racer){
			.barrier = barrier, .db = fixture_connect(), .mem = arena_new(1 << 20), .who = i ? &w1 : &w2};
}

static void racers_run(struct racer racers[2], void *(*second)(void *))
{
	pthread_t threads[2];

	(void)pthread_create(&threads[0], NULL, race_claim, &racers[0]);
	(void)pthread_create(&threads[1], NULL, second, &racers[1]);
	for (int i = 0; i < 2; i++)
		(void)pthread_join(threads[i], NULL);
}

static void racers_close(struct racer racers[2], pthread_barrier_t *barrier)
{
	for (int i = 0; i < 2; i++) {
		db_close(&racers[i].db);
		arena_free(&racers[i].mem);
	}
	(void)pthread_barrier_destroy(barrier);
}

static void of_two_claims_at_once_one_builds(void)
{
	pthread_barrier_t barrier;
	struct racer racers[2];

	racers_open(racers, &barrier);
	for (int round = 0; round < RACES; round++) {
		racers[0].app = racers[1].app = wanted(NULL);
		racers_run(racers, race_claim);
		CU_ASSERT_EQUAL((racers[0].result == CLAIM_BUILD) + (racers[1].result == CLAIM_BUILD), 1);
		CU_ASSERT_EQUAL((racers[0].result == CLAIM_LOADING) + (racers[1].result == CLAIM_LOADING), 1);
		CU_ASSERT_EQUAL(attempts(&racers[0].app), 1);
	}
	racers_close(racers, &barrier);
}

static void the_last_place_of_a_quota_is_given_once(void)
{
	pthread_barrier_t barrier;
	struct racer racers[2];

	change_org("quota_demand = 1");
	racers_open(racers, &barrier);
	for (int round = 0; round < RACES; round++) {
		racers[0].app = demand_app();
		racers[1].app = demand_app();
		racers_run(racers, race_claim);
		CU_ASSERT_EQUAL((racers[0].result == CLAIM_BUILD) + (racers[1].result == CLAIM_BUILD), 1);
		CU_ASSERT_EQUAL((racers[0].result == CLAIM_QUOTA) + (racers[1].result == CLAIM_QUOTA), 1);
		fixture_run(fx.db, "DELETE FROM placements");
	}
	racers_close(racers, &barrier);
}

/* What accepting an unload writes. */
static void *race_unload(void *closure)
{
	struct racer *racer = closure;

	(void)pthread_barrier_wait(racer->barrier);
	fixture_run(racer->db,
		    "START TRANSACTION; SELECT 1 FROM orchestrator_instances WHERE instance_id = '%s' FOR UPDATE;"
		    "UPDATE orchestrator_instances SET generation = 2, unload_generation = 2, attempts = 0,"
		    " desired_state = 'unloaded' WHERE instance_id = '%s';"
		    "UPDATE operations SET state = 'superseded' WHERE instance_id = '%s' AND is_open = 1;"
		    "COMMIT",
		    racer->app.text, racer->app.text, racer->app.text);
	return NULL;
}

static void a_claim_comes_before_an_unload_or_after_it(void)
{
	pthread_barrier_t barrier;
	struct racer racers[2];

	racers_open(racers, &barrier);
	for (int round = 0; round < RACES; round++) {

		racers[0].app = racers[1].app = wanted(NULL);
		racers_run(racers, race_unload);
		if (racers[0].result == CLAIM_BUILD) {
			CU_ASSERT_STRING_EQUAL(placed(&racers[0].app), "w2 loading 1");
			CU_ASSERT_EQUAL(ready(&w2, &racers[0].app, 1), PLACE_CHANGED);
			CU_ASSERT_EQUAL(one_step(fx.db, &w2, &racers[0].app, PLACE_STEP_GIVE_BACK, &err), PLACE_OK);
		}
		CU_ASSERT(racers[0].result == CLAIM_BUILD || racers[0].result == CLAIM_NOT_WANTED);
		CU_ASSERT_STRING_EQUAL(placed(&racers[0].app), "");
	}
	racers_close(racers, &barrier);
}

/* --- many at once --- */

#define MANY (SQL_SET_MAX + 6) /* more than one set */

struct many {
	struct id apps[MANY], ops[MANY];
	struct claim_step claims[MANY], *claim_steps[MANY];
	struct place_step places[MANY], *place_steps[MANY];
};

static void many_wanted(struct many *m)
{
	memset(m, 0, sizeof(*m));
	for (unsigned i = 0; i < MANY; i++) {
		m->apps[i] = wanted(&m->ops[i]);
		m->claims[i].instance_id = m->places[i].instance_id = m->apps[i];
		m->claims[i].mem = fx.mem;
		m->claim_steps[i] = &m->claims[i];
		m->place_steps[i] = &m->places[i];
	}
}

#define COUNT_OF_ORG(table, condition)                                                                                 \
	fixture_number("SELECT COUNT(*) FROM " table " WHERE org_id = ? AND " condition, &org)

static void many_are_claimed_and_made_ready_as_one_would_be(void)
{
	static struct many m;

	many_wanted(&m);
	change(&m.apps[3], "status = 'suspended'");
	change(&m.apps[4], "next_attempt_at = NOW(3) + INTERVAL 1 HOUR");
	change(&m.apps[5], "attempts = 1");
	change(&m.apps[6], "config = CONCAT('{\"prefix\":\"', REPEAT('x', 20000), '\"}')");
	change(&m.apps[7], "tier = 'demand'");
	place(&m.apps[8], &w2, "ready", 1);
	place(&m.apps[9], &w2, "loading", 1);
	place(&m.apps[10], &w1, "ready", 1);
	m.claims[10].how = CLAIM_HOW_REBUILD;
	m.claims[11].instance_id = id_new(); /* not there at all */
	placement_claim_set(fx.db, &w1, m.claim_steps, MANY);
	for (unsigned i = 0; i < MANY; i++) {
		enum claim_result expected = i == 3    ? CLAIM_NOT_WANTED
					     : i == 4  ? CLAIM_BACKOFF
					     : i == 5  ? CLAIM_ALONE
					     : i == 8  ? CLAIM_ENOUGH
					     : i == 9  ? CLAIM_LOADING
					     : i == 11 ? CLAIM_NOT_WANTED
						       : CLAIM_BUILD;
		CU_ASSERT_EQUAL(m.claims[i].result, expected);
		CU_ASSERT_EQUAL(m.claims[i].claim.row.is_found, i != 11);
		CU_ASSERT_EQUAL(m.claims[i].claim.row.config != NULL, expected == CLAIM_BUILD);
		CU_ASSERT_STRING_EQUAL(m.claims[i].claim.row.instance_id.text, m.claims[i].instance_id.text);
		m.places[i].kind = PLACE_STEP_READY;
		m.places[i].generation = 1;
		m.places[i].tier = i == 7 ? TIER_DEMAND : TIER_HOT;
		m.places[i].hash = HASH_0;
	}
	CU_ASSERT_EQUAL(strlen(m.claims[6].claim.row.config), 20000 + strlen("{\"prefix\":\"\"}"));
	CU_ASSERT_EQUAL(COUNT_OF_ORG("placements", "worker_id = 'w1' AND state = 'loading'"), MANY - 7);
	CU_ASSERT_EQUAL(COUNT_OF_ORG("operations", "state = 'running' AND worker_id = 'w1'"), MANY - 6);
	CU_ASSERT_EQUAL(COUNT_OF_ORG("orchestrator_instances", "attempts = 1"), MANY - 5);
	m.places[12].kind = PLACE_STEP_FAILED;
	m.places[12].reason = "broken";
	m.places[13].kind = PLACE_STEP_GIVE_BACK;
	change(&m.apps[14], "generation = 2"); /* a load came meanwhile */
	placement_record_set(fx.db, &w1, m.place_steps + 12, MANY - 12);
	CU_ASSERT_EQUAL(m.places[12].result, PLACE_OK);
	CU_ASSERT_EQUAL(m.places[13].result, PLACE_OK);
	CU_ASSERT_EQUAL(m.places[14].result, PLACE_CHANGED);
	for (unsigned i = 15; i < MANY; i++)
		CU_ASSERT_EQUAL(m.places[i].result, PLACE_OK);
	CU_ASSERT_STRING_EQUAL(placed(&m.apps[12]), "w1 failed 1");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&m.ops[12]), "failed");
	CU_ASSERT_STRING_EQUAL(placed(&m.apps[13]), "");
	CU_ASSERT_STRING_EQUAL(placed(&m.apps[14]), "w1 ready 1");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&m.ops[14]), "succeeded");
	CU_ASSERT_EQUAL(COUNT_OF_ORG("placements", "worker_id = 'w1' AND state = 'ready' AND build_generation IS NULL"),
			MANY - 14);
	CU_ASSERT_EQUAL(COUNT_OF_ORG("operations", "state = 'succeeded'"), MANY - 14 + 1); /* … and the enough one's */
	CU_ASSERT_EQUAL(COUNT_OF_ORG("orchestrator_instances", "good_config_hash = config_hash AND attempts = 0"),
			MANY - 15);
}

/* A row that somebody holds delays its own App and no other: the others of the set are committed before it. */
static void who_is_held_up_holds_up_nobody_else(void)
{
	static struct many m;
	struct db *other = fixture_connect();

	many_wanted(&m);
	fixture_run(other, "SET innodb_lock_wait_timeout = 50");
	fixture_run(fx.db, "SET innodb_lock_wait_timeout = 1");
	fixture_run(other,
		    "START TRANSACTION; SELECT 1 FROM orchestrator_instances WHERE instance_id = '%s' FOR UPDATE",
		    m.apps[2].text);
	placement_claim_set(fx.db, &w1, m.claim_steps, 10);
	for (unsigned i = 0; i < 10; i++)
		CU_ASSERT_EQUAL(m.claims[i].result, i == 2 ? CLAIM_FAIL : CLAIM_BUILD);
	CU_ASSERT_EQUAL(COUNT_OF_ORG("placements", "worker_id = 'w1' AND state = 'loading'"), 9);
	fixture_run(other, "ROLLBACK");
	placement_claim_set(fx.db, &w1, m.claim_steps, 10); /* what is ours already goes on with the same attempt */
	for (unsigned i = 0; i < 10; i++)
		CU_ASSERT_EQUAL(m.claims[i].result, CLAIM_BUILD);
	CU_ASSERT_EQUAL(COUNT_OF_ORG("orchestrator_instances", "attempts = 1"), 10);
	db_close(&other);
}

static void a_set_of_a_dead_incarnation_writes_nothing(void)
{
	static struct many m;
	struct worker_identity dead = w1;

	many_wanted(&m);
	dead.incarnation = id_new();
	placement_claim_set(fx.db, &dead, m.claim_steps, MANY);
	placement_record_set(fx.db, &dead, m.place_steps, MANY);
	for (unsigned i = 0; i < MANY; i++) {
		CU_ASSERT_EQUAL(m.claims[i].result, CLAIM_LOST);
		CU_ASSERT_EQUAL(m.places[i].result, PLACE_LOST);
	}
	CU_ASSERT_EQUAL(COUNT_OF_ORG("placements", "TRUE"), 0);
}

/* The last places of a quota are given one by one, also within a set. */
static void a_set_keeps_within_the_quotas(void)
{
	static struct many m;
	unsigned built = 0, refused = 0;

	many_wanted(&m);
	change_org("quota_demand = 7");
	for (unsigned i = 0; i < 20; i++)
		change(&m.apps[i], "tier = 'demand'");
	placement_claim_set(fx.db, &w1, m.claim_steps, 20);
	for (unsigned i = 0; i < 20; i++) {
		built += m.claims[i].result == CLAIM_BUILD;
		refused += m.claims[i].result == CLAIM_QUOTA;
	}
	CU_ASSERT_EQUAL(built, 7);
	CU_ASSERT_EQUAL(refused, 13);
	change_org("quota_hot = 3");
	placement_claim_set(fx.db, &w1, m.claim_steps + 20, 20);
	for (unsigned i = 20; i < 40; i++)
		CU_ASSERT_EQUAL(m.claims[i].result, CLAIM_QUOTA_HOT);
}

/* --- cost --- */

/* Rows and index entries that this session has looked at so far. */
static int64_t rows_read(void)
{
	return fixture_number("SELECT CAST(SUM(VARIABLE_VALUE) AS SIGNED) FROM information_schema.SESSION_STATUS"
			      " WHERE VARIABLE_NAME LIKE 'HANDLER_READ%'",
			      NULL);
}

/* Many Apps of one org, held and with a history; every statement must find its few rows by an index. */
static void no_write_looks_at_the_rows_of_other_apps(void)
{
	struct id app, recovery_op;
	struct app_row row;
	struct claim c;

	change_org("quota_hot = 100000, quota_demand = 100000");
	fixture_run(
		fx.db,
		"INSERT INTO orchestrator_instances (instance_id, org_id, name, framework_type, mode, tier,"
		" desired_state, config, config_hash, created_at, updated_at)"
		" SELECT CONCAT('0198c0de-0000-7000-9000-', LPAD(HEX(seq), 12, '0')), '%s', seq, 'echo', 'single',"
		" 'hot', 'loaded', '{}', REPEAT('0', 64), NOW(3), NOW(3) FROM seq_1_to_5000;"
		"INSERT INTO placements (instance_id, worker_id, incarnation, org_id, tier, generation, state,"
		" placed_at, changed_at) SELECT instance_id, 'w1', '%s', org_id, 'demand', 1, 'ready', NOW(3), NOW(3)"
		" FROM orchestrator_instances WHERE org_id = '%s';"
		"INSERT INTO operations (operation_id, instance_id, org_id, action, tier, generation, source, state,"
		" next_publish_at, accepted_at) SELECT CONCAT('0198c0de-0000-7000-9001-', LPAD(HEX(seq), 12, '0')),"
		" CONCAT('0198c0de-0000-7000-9000-', LPAD(HEX(1 + seq DIV 10), 12, '0')), '%s', 'load', 'hot', 1,"
		" 'api_load', IF(seq %% 10, 'succeeded', 'accepted'), NOW(3), NOW(3) FROM seq_1_to_20000;"
		"ANALYZE TABLE orchestrator_instances, placements, operations",
		org.text, w1.incarnation.text, org.text, org.text);
	app = wanted(NULL);
	CU_ASSERT_EQUAL(claim(&w2, &app), CLAIM_BUILD); /* the first one counts the org's hot Apps */
	int64_t before = rows_read();
	int64_t own = rows_read() - before; /* of looking itself */
	before = rows_read();
	CU_ASSERT_EQUAL(claim_how(&w2, &app, 0, &c), CLAIM_BUILD);
	CU_ASSERT_TRUE(placement_read(fx.db, &app, 1, &row, &err));
	CU_ASSERT_TRUE(placement_read_held(fx.db, &w1, &app, 1, &row, &err));
	CU_ASSERT_EQUAL(ready(&w2, &app, 1), PLACE_OK);
	CU_ASSERT_EQUAL(one_failed(fx.db, &w2, &app, 1, "x", true, 0, &err), PLACE_OK);
	CU_ASSERT_EQUAL(one_step(fx.db, &w2, &app, PLACE_STEP_SURPLUS, &err), PLACE_CHANGED);
	CU_ASSERT_EQUAL(one_draining(fx.db, &w2, &app, true, &recovery_op, &err), PLACE_OK);
	CU_ASSERT_EQUAL(one_step(fx.db, &w2, &app, PLACE_STEP_GIVE_BACK, &err), PLACE_OK);
	CU_ASSERT_EQUAL(one_step(fx.db, &w2, &app, PLACE_STEP_GONE, &err), PLACE_OK);
	int64_t cost = rows_read() - before - own;
	CU_ASSERT(cost < 400);
	if (cost >= 400)
		(void)fprintf(stderr, "%lld rows read\n", (long long)cost);
	static struct many m;
	many_wanted(&m);
	before = rows_read();
	placement_claim_set(fx.db, &w2, m.claim_steps, SQL_SET_MAX);
	for (unsigned i = 0; i < SQL_SET_MAX; i++) {
		m.places[i].kind = PLACE_STEP_READY;
		m.places[i].generation = 1;
		m.places[i].hash = HASH_0;
	}
	placement_record_set(fx.db, &w2, m.place_steps, SQL_SET_MAX);
	cost = (rows_read() - before - own) / SQL_SET_MAX;
	CU_ASSERT(cost < 50);
	if (cost >= 50)
		(void)fprintf(stderr, "%lld rows read for each App of a set\n", (long long)cost);
}

static CU_TestInfo claim_cases[] = {
	CASE(a_wanted_app_is_claimed),
	CASE(nothing_is_claimed_that_nobody_asks_for),
	CASE(a_rebuild_needs_no_operation_and_the_copy_serves_on),
	CASE(what_was_unloaded_meanwhile_is_not_rebuilt),
	CASE(a_backoff_is_waited_out),
	CASE(an_app_whose_builder_died_is_built_alone_and_at_last_not_at_all),
	CASE(builds_under_way_are_not_dead_attempts),
	CASE(a_repeated_claim_is_one_attempt),
	CASE(what_others_hold_decides),
	CASE(copies_of_the_dead_and_of_the_leaving_are_not_counted),
	CASE(a_draining_copy_of_ours_hands_its_row_over),
	CASE(a_row_that_is_handed_over_ends_the_unload),
	CASE(a_dead_worker_claims_nothing),
	CASE(a_lowered_hot_quota_fails_the_operation_for_a_while),
	CASE(the_demand_quota_counts_the_live_copies_of_others),
	CASE(far_from_the_demand_quota_no_lock_is_needed),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo write_cases[] = {
	CASE(a_ready_copy_says_that_others_are_to_hold_more),
	CASE(ready_ends_operations_and_troubles),
	CASE(a_number_and_a_tier_are_taken_over),
	CASE(only_a_copy_that_may_serve_the_row_is_ready),
	CASE(a_config_that_came_after_the_build_is_not_the_last_good_one),
	CASE(the_previous_version_serves_and_fulfils_nothing),
	CASE(a_dead_incarnation_writes_nothing),
	CASE(a_lost_placement_row_is_made_again),
	CASE(failures_wait_twice_as_long_each_time),
	CASE(a_failed_build_fails_what_it_was_for),
	CASE(want_of_room_is_no_failure_of_the_app),
	CASE(any_reason_fits),
	CASE(what_is_given_back_was_no_attempt),
	CASE(an_unload_waits_for_a_copy_whose_rebuild_is_given_back),
	CASE(giving_back_ends_the_unload_that_waited_for_it),
	CASE(an_unload_ends_when_the_last_copy_is_gone),
	CASE(hot_apps_are_handed_over_where_somebody_can_take_them),
	CASE(of_surplus_copies_the_youngest_goes),
	CASE(what_is_held_is_recorded_where_the_placement_says_so),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo read_cases[] = {
	CASE(the_row_says_what_is_asked_for),
	CASE(the_rows_come_in_the_order_of_the_ids),
	CASE(the_own_placements_come_in_pages),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo many_cases[] = {
	CASE(many_are_claimed_and_made_ready_as_one_would_be),
	CASE(who_is_held_up_holds_up_nobody_else),
	CASE(a_set_of_a_dead_incarnation_writes_nothing),
	CASE(a_set_keeps_within_the_quotas),
	CU_TEST_INFO_NULL,
};

static CU_TestInfo race_cases[] = {
	CASE(of_two_claims_at_once_one_builds),
	CASE(the_last_place_of_a_quota_is_given_once),
	CASE(a_claim_comes_before_an_unload_or_after_it),
	CASE(no_write_looks_at_the_rows_of_other_apps),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"claims", fixture_start, fixture_stop, set_up, NULL, claim_cases},
	{"writes", fixture_start, fixture_stop, set_up, NULL, write_cases},
	{"reads", fixture_start, fixture_stop, set_up, NULL, read_cases},
	{"many at once", fixture_start, fixture_stop, set_up, NULL, many_cases},
	{"races and cost", fixture_start, fixture_stop, set_up, NULL, race_cases},
	CU_SUITE_INFO_NULL,
};
