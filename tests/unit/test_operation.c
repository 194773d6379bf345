/* SPDX-License-Identifier: Apache-2.0 */
/* core/operation against a real server: how operations end, and who joins whom. */
#include "core/operation.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "lib/arena.h"
#include "tests/unit/harness.h"
#include "tests/unit/sql_fixture.h"

static struct err err;
static struct id org, w1, w2;
static struct id dead; /* its lease has run out */
static struct id gone; /* its worker has another incarnation by now */

static int make_world(void)
{
	(void)fixture_start();
	org = fixture_org();
	w1 = fixture_worker("w1");
	w2 = fixture_worker("w2");
	dead = fixture_worker("dead");
	gone = id_new();
	(void)fixture_worker("gone");
	fixture_run(fx.db, "UPDATE workers SET lease_until = NOW(3) - INTERVAL 1 SECOND"
			   " WHERE worker_id IN ('dead', 'gone')");
	return 0;
}

static const struct id *incarnation(const char *worker)
{
	return strcmp(worker, "w1") == 0     ? &w1
	       : strcmp(worker, "w2") == 0   ? &w2
	       : strcmp(worker, "dead") == 0 ? &dead
					     : &gone;
}

static struct id app_at(unsigned generation, unsigned replicas)
{
	struct id app = fixture_app(&org, "demand", "loaded");

	fixture_run(fx.db, "UPDATE orchestrator_instances SET generation = %u, replicas = %u WHERE instance_id = '%s'",
		    generation, replicas, app.text);
	return app;
}

static unsigned settle(const struct id *app, const char *worker)
{
	unsigned ended = 99;

	CU_ASSERT_TRUE(operation_settle(fx.db, app, worker, &ended, &err));
	return ended;
}

/* --- endings --- */

struct place {
	const char *worker, *state;
	unsigned generation;
	const char *reason;
};

/* One open operation of generation 3, the App at generation 4, and what is placed. */
static const struct ending {
	int line;
	const char *action;
	unsigned replicas;
	struct place places[3];
	bool ends;
} endings[] = {
	{__LINE__, "load", 1, {{0}}, false},
	{__LINE__, "load", 1, {{"w1", "ready", 3, NULL}}, true},
	{__LINE__, "load", 1, {{"w1", "ready", 4, NULL}}, true},
	{__LINE__, "load", 1, {{"w1", "ready", 2, NULL}}, false},
	{__LINE__, "load", 1, {{"w1", "ready", 5, NULL}}, false}, /* a restored backup */
	{__LINE__, "load", 1, {{"w1", "loading", 3, NULL}}, false},
	{__LINE__, "load", 1, {{"w1", "draining", 3, NULL}}, false},
	{__LINE__, "load", 1, {{"dead", "ready", 3, NULL}}, false},
	{__LINE__, "load", 1, {{"w1", "ready", 3, "running_previous_version"}}, false},
	{__LINE__, "load", 2, {{"w1", "ready", 3, NULL}}, false},
	{__LINE__, "load", 2, {{"w1", "ready", 3, NULL}, {"w2", "ready", 4, NULL}}, true},
	{__LINE__, "load", 9, {{"w1", "ready", 3, NULL}, {"w2", "ready", 4, NULL}}, true}, /* two workers live */
	{__LINE__, "unload", 1, {{0}}, true},
	{__LINE__, "unload", 1, {{"w1", "draining", 2, NULL}}, false},
	{__LINE__, "unload", 1, {{"w1", "ready", 2, NULL}}, false},
	{__LINE__, "unload", 1, {{"dead", "ready", 2, NULL}}, false}, /* recovery removes it */
	{__LINE__, "unload", 1, {{"w1", "failed", 2, NULL}}, true},
	{__LINE__, "unload", 1, {{"w1", "ready", 3, NULL}}, true},
	{__LINE__, "unload", 1, {{"w1", "ready", 5, NULL}}, false}, /* a restored backup */
	{__LINE__, "reload", 1, {{0}}, false},
	{__LINE__, "reload", 2, {{"w1", "ready", 3, NULL}}, true}, /* one is enough where no older one lives */
	{__LINE__, "reload", 1, {{"w1", "ready", 3, NULL}, {"w2", "ready", 2, NULL}}, false},
	{__LINE__, "reload", 1, {{"w1", "ready", 3, NULL}, {"w2", "loading", 2, NULL}}, false},
	{__LINE__, "reload", 1, {{"w1", "ready", 3, NULL}, {"w2", "draining", 2, NULL}}, true},
	{__LINE__, "reload", 1, {{"w1", "ready", 3, NULL}, {"dead", "ready", 2, NULL}}, false}, /* it may come back */
	{__LINE__, "reload", 1, {{"w1", "ready", 3, NULL}, {"gone", "ready", 2, NULL}}, true},
	{__LINE__, "reload", 1, {{"w1", "ready", 3, "running_previous_version"}}, false},
	{__LINE__, "reload", 1, {{"w1", "ready", 3, NULL}, {"w2", "ready", 5, NULL}}, false},
};

static void operations_end_when_the_placements_fulfil_them(void)
{
	for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
		const struct ending *row = &endings[i];
		struct id app = app_at(4, row->replicas), op = fixture_operation(&app, row->action, 3);

		for (const struct place *p = row->places; p->worker; p++)
			fixture_place(&app, p->worker, incarnation(p->worker), p->state, p->generation, p->reason);
		CHECK_ROW(row, settle(&app, "w1") == row->ends);
		CHECK_ROW(row, strcmp(fixture_operation_state(&op), row->ends ? "succeeded" : "accepted") == 0);
		CHECK_ROW(row, settle(&app, "w1") == 0);
	}
}

static void an_earlier_incarnation_or_a_leaving_worker_is_not_live(void)
{
	struct id app = app_at(1, 1), op = fixture_operation(&app, "load", 1), old = id_new();

	fixture_place(&app, "w1", &old, "ready", 1, NULL);
	CU_ASSERT_EQUAL(settle(&app, NULL), 0);
	fixture_place(&app, "w1", &w1, "ready", 1, NULL);
	fixture_run(fx.db, "UPDATE workers SET state = 'leaving' WHERE worker_id = 'w1'");
	CU_ASSERT_EQUAL(settle(&app, NULL), 0);
	fixture_run(fx.db, "UPDATE workers SET state = 'active' WHERE worker_id = 'w1'");
	CU_ASSERT_EQUAL(settle(&app, NULL), 1);
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&op), "succeeded");
}

static void all_that_is_fulfilled_ends_at_once_and_names_who_did_it(void)
{
	struct id app = app_at(3, 1), a = fixture_operation(&app, "load", 2), b = fixture_operation(&app, "reload", 3);
	struct id other = app_at(1, 1), theirs = fixture_operation(&other, "unload", 1);
	struct operation op = {0};
	enum problem problem;

	fixture_place(&app, "w2", &w2, "ready", 3, NULL);
	CU_ASSERT_EQUAL(settle(&app, "w2"), 2);
	CU_ASSERT_TRUE(operation_get(fx.db, fx.mem, &org, &a, &op, &problem, &err));
	CU_ASSERT_STRING_EQUAL(op.worker_id, "w2");
	CU_ASSERT_PTR_NOT_NULL(op.finished_at);
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&b), "succeeded");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&theirs), "accepted");
}

static bool settle_and_renew(struct db *db, void *closure, struct err *e)
{
	struct db *second = fixture_connect();
	unsigned ended;
	bool ok = operation_settle(db, closure, "w1", &ended, e);

	/* Lock waits are long here: a lock would show as a test that hangs and fails. */
	fixture_run(second, "SET innodb_lock_wait_timeout = 1; UPDATE workers SET lease_until = lease_until + INTERVAL "
			    "1 SECOND WHERE worker_id = 'w1'");
	db_close(&second);
	return ok;
}

static void settling_does_not_lock_the_leases(void)
{
	struct id app = app_at(1, 1);

	(void)fixture_operation(&app, "load", 1);
	fixture_place(&app, "w1", &w1, "ready", 1, NULL);
	CU_ASSERT_TRUE(db_transaction(fx.db, settle_and_renew, &app, &err));
}

static void a_failure_ends_loads_and_reloads_up_to_its_generation(void)
{
	struct id app = app_at(3, 1), load = fixture_operation(&app, "load", 1),
		  reload = fixture_operation(&app, "reload", 2);
	struct id later = fixture_operation(&app, "load", 3), unload = fixture_operation(&app, "unload", 1);
	struct operation op = {0};
	enum problem problem;
	unsigned ended;

	CU_ASSERT_TRUE(operation_fail(fx.db, &app, 2, "build failed", "w1", &ended, &err));
	CU_ASSERT_EQUAL(ended, 2);
	CU_ASSERT_TRUE(operation_get(fx.db, fx.mem, &org, &load, &op, &problem, &err));
	CU_ASSERT_EQUAL(op.state, OP_FAILED);
	CU_ASSERT_STRING_EQUAL(op.reason, "build failed");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&reload), "failed");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&later), "accepted");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&unload), "accepted");
	CU_ASSERT_TRUE(operation_fail(fx.db, &app, 2, "again", "w1", &ended, &err));
	CU_ASSERT_EQUAL(ended, 0);
}

static void what_wanted_something_else_is_superseded(void)
{
	struct id app = app_at(3, 1), load = fixture_operation(&app, "load", 1),
		  reload = fixture_operation(&app, "reload", 2);
	struct id unload = fixture_operation(&app, "unload", 3);

	CU_ASSERT_TRUE(operation_supersede(fx.db, &app, ACTION_RELOAD, NULL, &err));
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&unload), "superseded");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&load), "accepted");
	CU_ASSERT_TRUE(operation_supersede(fx.db, &app, ACTION_UNLOAD, &load, &err));
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&load), "accepted");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&reload), "superseded");
}

/* --- reading --- */

static void what_was_inserted_is_read_back(void)
{
	struct id app = app_at(5, 1);
	struct operation made = {.operation_id = id_new(),
				 .instance_id = app,
				 .org_id = org,
				 .action = ACTION_UNLOAD,
				 .tier = TIER_HOT,
				 .generation = 5,
				 .source = SOURCE_STATUS_CHANGE,
				 .request_id = "r-1",
				 .drain_s = 0},
			 op = {0};
	enum problem problem = PROBLEM_INTERNAL;

	CU_ASSERT_TRUE(operation_insert(fx.db, &made, &err));
	CU_ASSERT_TRUE(operation_get(fx.db, fx.mem, &org, &made.operation_id, &op, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_NONE);
	CU_ASSERT_EQUAL(op.action, ACTION_UNLOAD);
	CU_ASSERT_EQUAL(op.tier, TIER_HOT);
	CU_ASSERT_EQUAL(op.generation, 5);
	CU_ASSERT_EQUAL(op.state, OP_ACCEPTED);
	CU_ASSERT_EQUAL(op.source, SOURCE_STATUS_CHANGE);
	CU_ASSERT_STRING_EQUAL(op.request_id, "r-1");
	CU_ASSERT_EQUAL(op.drain_s, 0);
	CU_ASSERT_PTR_NULL(op.finished_at);
	made.operation_id = id_new();
	made.state = OP_SUCCEEDED;
	CU_ASSERT_TRUE(operation_insert(fx.db, &made, &err));
	CU_ASSERT_TRUE(operation_get(fx.db, fx.mem, &org, &made.operation_id, &op, &problem, &err));
	CU_ASSERT_EQUAL(op.state, OP_SUCCEEDED);
	CU_ASSERT_PTR_NOT_NULL(op.finished_at);
}

static void another_orgs_operation_is_not_found(void)
{
	struct id app = app_at(1, 1), id = fixture_operation(&app, "load", 1), other = fixture_org(),
		  unknown = id_new();
	struct operation op;
	enum problem problem = PROBLEM_NONE;

	CU_ASSERT_TRUE(operation_get(fx.db, fx.mem, &other, &id, &op, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_OPERATION_NOT_FOUND);
	CU_ASSERT_TRUE(operation_get(fx.db, fx.mem, NULL, &id, &op, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_NONE);
	CU_ASSERT_TRUE(operation_get(fx.db, fx.mem, NULL, &unknown, &op, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_OPERATION_NOT_FOUND);
}

static void the_newest_operations_come_first(void)
{
	struct id app = app_at(1, 1), ids[3];
	struct operation *ops;
	unsigned count;

	for (unsigned i = 0; i < ARRAY_LEN(ids); i++)
		ids[i] = fixture_operation(&app, "load", i);
	CU_ASSERT_TRUE_FATAL(operation_list(fx.db, fx.mem, &app, NULL, 2, &ops, &count, &err));
	CU_ASSERT_EQUAL_FATAL(count, 2);
	CU_ASSERT_TRUE(id_equal(&ops[0].operation_id, &ids[2]));
	CU_ASSERT_TRUE_FATAL(operation_list(fx.db, fx.mem, &app, &ops[1].operation_id, 2, &ops, &count, &err));
	CU_ASSERT_EQUAL_FATAL(count, 1);
	CU_ASSERT_TRUE(id_equal(&ops[0].operation_id, &ids[0]));
}

/* --- demand --- */

struct demanded {
	struct operation op;
	bool is_new;
	int retry_after_s;
	const char *reason;
	enum problem problem;
};

static struct demanded demand_on(struct db *db, struct arena *mem, const struct id *app)
{
	struct demanded d = {.problem = PROBLEM_INTERNAL};
	struct err e = {0};

	if (!operation_demand(db, mem, app, "chat-1", &d.op, &d.is_new, &d.retry_after_s, &d.reason, &d.problem, &e))
		(void)fprintf(stderr, "demand: %s\n", e.text);
	return d;
}

static void the_first_chat_makes_the_operation_and_the_next_joins(void)
{
	struct id app = app_at(3, 1);
	struct demanded first = demand_on(fx.db, fx.mem, &app), second = demand_on(fx.db, fx.mem, &app);

	CU_ASSERT_EQUAL(first.problem, PROBLEM_NONE);
	CU_ASSERT_TRUE(first.is_new);
	CU_ASSERT_EQUAL(first.op.source, SOURCE_DEMAND);
	CU_ASSERT_EQUAL(first.op.action, ACTION_LOAD);
	CU_ASSERT_EQUAL(first.op.generation, 3);
	CU_ASSERT_EQUAL(first.op.tier, TIER_DEMAND);
	CU_ASSERT_STRING_EQUAL(first.op.request_id, "chat-1");
	CU_ASSERT_FALSE(second.is_new);
	CU_ASSERT_TRUE(id_equal(&second.op.operation_id, &first.op.operation_id));
}

static void a_chat_joins_a_load_but_never_an_unload(void)
{
	struct id app = app_at(1, 1), other = app_at(1, 1), load = fixture_operation(&app, "load", 1);
	struct demanded joined = demand_on(fx.db, fx.mem, &app), own;

	CU_ASSERT_FALSE(joined.is_new);
	CU_ASSERT_TRUE(id_equal(&joined.op.operation_id, &load));
	(void)fixture_operation(&other, "unload", 1);
	own = demand_on(fx.db, fx.mem, &other);
	CU_ASSERT_TRUE(own.is_new);
}

static void an_ended_operation_makes_room_for_the_next(void)
{
	struct id app = app_at(1, 1);
	struct demanded first = demand_on(fx.db, fx.mem, &app), second;
	unsigned ended;

	CU_ASSERT_TRUE(operation_fail(fx.db, &app, 1, "x", NULL, &ended, &err));
	second = demand_on(fx.db, fx.mem, &app);
	CU_ASSERT_TRUE(second.is_new);
	CU_ASSERT_FALSE(id_equal(&second.op.operation_id, &first.op.operation_id));
}

static void a_backoff_refuses_with_the_reason_and_the_time(void)
{
	struct id app = app_at(1, 1);
	struct demanded d;

	fixture_time_stop();
	fixture_run(fx.db,
		    "UPDATE orchestrator_instances SET failure_reason = 'no key', next_attempt_at = NOW(3) + INTERVAL "
		    "30 SECOND WHERE instance_id = '%s'",
		    app.text);
	d = demand_on(fx.db, fx.mem, &app);
	CU_ASSERT_EQUAL(d.problem, PROBLEM_INSTANCE_FAILED);
	CU_ASSERT_STRING_EQUAL(d.reason, "no key");
	CU_ASSERT_EQUAL(d.retry_after_s, 30);
	fixture_run(fx.db,
		    "UPDATE orchestrator_instances SET next_attempt_at = NOW(3) - INTERVAL 1 SECOND WHERE instance_id "
		    "= '%s'",
		    app.text);
	CU_ASSERT_EQUAL(demand_on(fx.db, fx.mem, &app).problem, PROBLEM_NONE);
	fixture_time_go_on();
}

static void what_is_gone_or_suspended_is_not_loaded(void)
{
	struct id deleted = app_at(1, 1), idle = app_at(1, 1), unknown = id_new(), other = fixture_org(),
		  theirs = fixture_app(&other, "demand", "unloaded"), hot = fixture_app(&org, "hot", "unloaded");

	fixture_run(fx.db, "UPDATE orchestrator_instances SET deleted_at = NOW(3) WHERE instance_id = '%s'",
		    deleted.text);
	fixture_run(fx.db, "UPDATE orchestrator_instances SET status = 'suspended' WHERE instance_id = '%s'",
		    idle.text);
	fixture_run(fx.db, "UPDATE organizations SET status = 'suspended' WHERE org_id = '%s'", other.text);
	CU_ASSERT_EQUAL(demand_on(fx.db, fx.mem, &deleted).problem, PROBLEM_INSTANCE_DELETED);
	CU_ASSERT_EQUAL(demand_on(fx.db, fx.mem, &idle).problem, PROBLEM_INSTANCE_SUSPENDED);
	CU_ASSERT_EQUAL(demand_on(fx.db, fx.mem, &unknown).problem, PROBLEM_INSTANCE_NOT_FOUND);
	CU_ASSERT_EQUAL(demand_on(fx.db, fx.mem, &hot).problem, PROBLEM_INSTANCE_NOT_LOADED);
	CU_ASSERT_EQUAL(demand_on(fx.db, fx.mem, &theirs).problem, PROBLEM_ORG_SUSPENDED);
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM operations WHERE instance_id = ?", &theirs), 0);
}

struct chat {
	pthread_t thread;
	struct id app;
	unsigned made, failed;
	pthread_barrier_t *start;
};

static void *chat_run(void *closure)
{
	struct chat *chat = closure;
	struct db *db = fixture_connect();
	struct arena *mem = arena_new((size_t)4 << 20);

	(void)pthread_barrier_wait(chat->start);
	for (int i = 0; i < 20; i++) {
		struct demanded d = demand_on(db, mem, &chat->app);

		chat->made += d.is_new;
		chat->failed += d.problem != PROBLEM_NONE;
	}
	arena_free(&mem);
	db_close(&db);
	return NULL;
}

static void of_many_chats_at_once_one_makes_the_operation(void)
{
	struct chat chats[8] = {0};
	struct id app = app_at(1, 1);
	pthread_barrier_t start;
	unsigned made = 0, failed = 0;

	(void)pthread_barrier_init(&start, NULL, ARRAY_LEN(chats));
	for (size_t i = 0; i < ARRAY_LEN(chats); i++) {
		chats[i].app = app;
		chats[i].start = &start;
		CU_ASSERT_EQUAL_FATAL(pthread_create(&chats[i].thread, NULL, chat_run, &chats[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(chats); i++) {
		(void)pthread_join(chats[i].thread, NULL);
		made += chats[i].made;
		failed += chats[i].failed;
	}
	CU_ASSERT_EQUAL(made, 1);
	CU_ASSERT_EQUAL(failed, 0);
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM operations WHERE instance_id = ?", &app), 1);
	(void)pthread_barrier_destroy(&start);
}

static CU_TestInfo cases[] = {
	CASE(operations_end_when_the_placements_fulfil_them),
	CASE(an_earlier_incarnation_or_a_leaving_worker_is_not_live),
	CASE(all_that_is_fulfilled_ends_at_once_and_names_who_did_it),
	CASE(settling_does_not_lock_the_leases),
	CASE(a_failure_ends_loads_and_reloads_up_to_its_generation),
	CASE(what_wanted_something_else_is_superseded),
	CASE(what_was_inserted_is_read_back),
	CASE(another_orgs_operation_is_not_found),
	CASE(the_newest_operations_come_first),
	CASE(the_first_chat_makes_the_operation_and_the_next_joins),
	CASE(a_chat_joins_a_load_but_never_an_unload),
	CASE(an_ended_operation_makes_room_for_the_next),
	CASE(a_backoff_refuses_with_the_reason_and_the_time),
	CASE(what_is_gone_or_suspended_is_not_loaded),
	CASE(of_many_chats_at_once_one_makes_the_operation),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"operation", make_world, fixture_stop, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
