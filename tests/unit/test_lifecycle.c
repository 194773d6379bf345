/* SPDX-License-Identifier: Apache-2.0 */
/* core/lifecycle against a real server: what an accepted request writes, and what a refused one does not. */
#include "core/lifecycle.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "lib/arena.h"
#include "tests/unit/harness.h"
#include "tests/unit/sql_fixture.h"

static struct err err;
static struct id org, w1;
static uint8_t admin[SECRET_HASH_BYTES], member[SECRET_HASH_BYTES];

static int make_world(void)
{
	(void)fixture_start();
	org = fixture_org();
	w1 = fixture_worker("w1");
	(void)fixture_token(&org, "org_admin", admin);
	(void)fixture_token(&org, "member", member);
	return 0;
}

static struct lifecycle_request request_for(const uint8_t *hash, enum action action, const struct id *app)
{
	struct lifecycle_request r = {.action = action,
				      .tier = -1,
				      .drain_s = -1,
				      .operation_id = id_new(),
				      .origin = {.source_ip = "192.0.2.1", .request_id = "r-1"},
				      .access = {.permission = PERM_INSTANCES_LIFECYCLE,
						 .has_org = true,
						 .org_id = org,
						 .has_instance = true,
						 .instance_id = *app}};

	memcpy(r.access.token_hash, hash, SECRET_HASH_BYTES);
	return r;
}

static struct lifecycle_accepted accept_on(struct db *db, struct arena *mem, const struct lifecycle_request *r,
					   enum problem *ret_problem)
{
	struct lifecycle_step step = {.request = r, .mem = mem}, *steps = &step;

	lifecycle_accept(db, &steps, 1);
	if (!step.ok)
		(void)fprintf(stderr, "accept: %s\n", step.e.text);
	*ret_problem = step.ok ? step.problem : PROBLEM_INTERNAL;
	return step.accepted;
}

static struct lifecycle_accepted accepted_now(enum action action, const struct id *app)
{
	struct lifecycle_request r = request_for(admin, action, app);
	enum problem problem;
	struct lifecycle_accepted accepted = accept_on(fx.db, fx.mem, &r, &problem);

	CU_ASSERT_EQUAL(problem, PROBLEM_NONE);
	return accepted;
}

static const char *column(const char *sql, const struct id *app)
{
	return fixture_text(sql, app);
}

/* desired, tier, generation, rebuild_generation, unload_generation */
static void check_row(const struct id *app, const char *expected)
{
	CU_ASSERT_STRING_EQUAL(
		column("SELECT CONCAT_WS(' ', desired_state, tier, generation, rebuild_generation, unload_generation) "
		       "FROM orchestrator_instances WHERE instance_id = ?",
		       app),
		expected);
}

static int64_t audit_rows(const struct id *app)
{
	return fixture_number("SELECT COUNT(*) FROM audit_log WHERE target = ?", app);
}

/* --- accepted --- */

static void a_load_writes_row_operation_and_audit(void)
{
	struct id app = fixture_app(&org, "demand", "unloaded");
	struct lifecycle_accepted accepted;
	struct operation op = {0};
	enum problem problem;

	fixture_run(fx.db,
		    "UPDATE orchestrator_instances SET attempts = 3, failures = 1, failure_reason = 'poison', "
		    "next_attempt_at = NOW(3) WHERE instance_id = '%s'",
		    app.text);
	accepted = accepted_now(ACTION_LOAD, &app);
	check_row(&app, "loaded demand 2 0 0");
	CU_ASSERT_EQUAL(
		fixture_number(
			"SELECT attempts = 0 AND failures = 0 AND failure_reason IS NULL AND next_attempt_at IS NULL "
			"FROM orchestrator_instances WHERE instance_id = ?",
			&app),
		1);
	CU_ASSERT_TRUE(accepted.use_loads);
	CU_ASSERT_EQUAL(accepted.op.generation, 2);
	CU_ASSERT_EQUAL(accepted.access.instance.generation, 2);
	CU_ASSERT_TRUE_FATAL(operation_get(fx.db, fx.mem, &org, &accepted.op.operation_id, &op, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_NONE);
	CU_ASSERT_EQUAL(op.state, OP_ACCEPTED);
	CU_ASSERT_EQUAL(op.source, SOURCE_API_LOAD);
	CU_ASSERT_EQUAL(op.generation, 2);
	CU_ASSERT_STRING_EQUAL(op.request_id, "r-1");
	CU_ASSERT_STRING_EQUAL(column("SELECT CONCAT_WS(' ', action, result, role, source_ip, request_id) FROM "
				      "audit_log WHERE target = ?",
				      &app),
			       "instance.load ok org_admin 192.0.2.1 r-1");
}

static void the_bodys_tier_changes_the_record(void)
{
	struct id app = fixture_app(&org, "demand", "unloaded");
	struct lifecycle_request r = request_for(admin, ACTION_LOAD, &app);
	struct lifecycle_accepted accepted;
	enum problem problem;

	r.tier = TIER_HOT;
	accepted = accept_on(fx.db, fx.mem, &r, &problem);
	CU_ASSERT_EQUAL(problem, PROBLEM_NONE);
	CU_ASSERT_EQUAL(accepted.op.tier, TIER_HOT);
	check_row(&app, "loaded hot 2 0 0");
}

static void an_unload_of_what_is_not_held_has_succeeded_already(void)
{
	struct id app = fixture_app(&org, "hot", "loaded"), load = fixture_operation(&app, "load", 1);
	struct lifecycle_accepted accepted;

	fixture_place(&app, "w1", &w1, "failed", 1, "no key");
	accepted = accepted_now(ACTION_UNLOAD, &app);
	check_row(&app, "unloaded hot 2 0 2");
	CU_ASSERT_EQUAL(accepted.op.state, OP_SUCCEEDED);
	CU_ASSERT_PTR_NOT_NULL(accepted.op.finished_at);
	CU_ASSERT_FALSE(accepted.use_loads);
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&accepted.op.operation_id), "succeeded");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&load), "superseded");
}

static void an_unload_of_a_copy_waits_for_it(void)
{
	struct id app = fixture_app(&org, "hot", "loaded");
	struct lifecycle_request r = request_for(admin, ACTION_UNLOAD, &app);
	struct lifecycle_accepted accepted;
	enum problem problem;

	fixture_place(&app, "w1", &w1, "ready", 1, NULL);
	r.drain_s = 0;
	accepted = accept_on(fx.db, fx.mem, &r, &problem);
	CU_ASSERT_EQUAL(accepted.op.state, OP_ACCEPTED);
	CU_ASSERT_FALSE(accepted.use_loads);
	CU_ASSERT_EQUAL(fixture_number("SELECT drain_s FROM operations WHERE instance_id = ?", &app), 0);
}

static void a_reload_of_a_copy_is_a_change(void)
{
	struct id app = fixture_app(&org, "demand", "unloaded");
	struct lifecycle_request r = request_for(admin, ACTION_RELOAD, &app);
	struct lifecycle_accepted accepted;
	enum problem problem;

	fixture_place(&app, "w1", &w1, "ready", 1, NULL);
	r.fresh = true;
	accepted = accept_on(fx.db, fx.mem, &r, &problem);
	CU_ASSERT_FALSE(accepted.use_loads);
	CU_ASSERT_TRUE(accepted.op.fresh);
	check_row(&app, "unloaded demand 2 2 0");
}

static void a_reload_of_nothing_is_a_load(void)
{
	struct id app = fixture_app(&org, "hot", "unloaded");
	struct lifecycle_accepted accepted = accepted_now(ACTION_RELOAD, &app);

	CU_ASSERT_TRUE(accepted.use_loads);
	CU_ASSERT_EQUAL(accepted.op.action, ACTION_RELOAD);
	check_row(&app, "loaded hot 2 2 0");
}

static void a_reload_after_an_unload_is_a_load(void)
{
	struct id app = fixture_app(&org, "hot", "loaded");
	struct lifecycle_accepted unload, reload;

	fixture_place(&app, "w1", &w1, "ready", 1, NULL);
	unload = accepted_now(ACTION_UNLOAD, &app);
	reload = accepted_now(ACTION_RELOAD, &app);
	CU_ASSERT_TRUE(reload.use_loads);
	check_row(&app, "loaded hot 3 3 2");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&unload.op.operation_id), "superseded");
}

static void requests_that_want_the_same_stay_open_together(void)
{
	struct id app = fixture_app(&org, "demand", "unloaded");
	struct lifecycle_accepted first = accepted_now(ACTION_LOAD, &app), second = accepted_now(ACTION_LOAD, &app);

	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&first.op.operation_id), "accepted");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&second.op.operation_id), "accepted");
	CU_ASSERT_EQUAL(second.op.generation, 3);
}

static void a_suspended_app_may_be_unloaded(void)
{
	struct id app = fixture_app(&org, "hot", "loaded");

	fixture_run(fx.db, "UPDATE orchestrator_instances SET status = 'suspended' WHERE instance_id = '%s'", app.text);
	(void)accepted_now(ACTION_UNLOAD, &app);
	check_row(&app, "unloaded hot 2 0 2");
}

/* --- refused --- */

static void a_refusal_is_audited_and_writes_nothing_else(void)
{
	struct id app = fixture_app(&org, "hot", "unloaded"), off = fixture_app(&org, "hot", "unloaded");
	uint8_t unknown[SECRET_HASH_BYTES] = {7};
	const struct {
		int line;
		const uint8_t *hash;
		const struct id *app;
		enum problem problem;
		const char *audited;
	} rows[] = {
		{__LINE__, member, &app, PROBLEM_FORBIDDEN, "forbidden member token"},
		{__LINE__, unknown, &app, PROBLEM_UNAUTHORIZED, "unauthorized - -"},
		{__LINE__, admin, &off, PROBLEM_INSTANCE_SUSPENDED, "instance_suspended org_admin token"},
	};

	fixture_run(fx.db, "UPDATE orchestrator_instances SET status = 'suspended' WHERE instance_id = '%s'", off.text);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct lifecycle_request r = request_for(rows[i].hash, ACTION_LOAD, rows[i].app);
		enum problem problem;

		(void)accept_on(fx.db, fx.mem, &r, &problem);
		CHECK_ROW(&rows[i], problem == rows[i].problem);
		CHECK_ROW(&rows[i], strcmp(column("SELECT CONCAT_WS(' ', result, COALESCE(role, '-'), IF(token_id IS "
						  "NULL, '-', 'token')) "
						  "FROM audit_log WHERE target = ? ORDER BY audit_id DESC LIMIT 1",
						  rows[i].app),
					   rows[i].audited) == 0);
		CHECK_ROW(&rows[i],
			  fixture_number("SELECT COUNT(*) FROM operations WHERE instance_id = ?", rows[i].app) == 0);
		check_row(rows[i].app, "unloaded hot 1 0 0");
	}
}

static void malformed_ids_are_refused_and_audited(void)
{
	struct id none = {""};
	struct lifecycle_request r = request_for(admin, ACTION_LOAD, &none);
	int64_t before = fixture_number("SELECT COUNT(*) FROM audit_log", NULL);
	enum problem problem;

	(void)accept_on(fx.db, fx.mem, &r, &problem);
	CU_ASSERT_EQUAL(problem, PROBLEM_INSTANCE_NOT_FOUND);
	r.access.org_id = none;
	(void)accept_on(fx.db, fx.mem, &r, &problem);
	CU_ASSERT_EQUAL(problem, PROBLEM_ORG_MISMATCH);
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM audit_log", NULL), before + 2);
}

static void one_more_hot_app_needs_room(void)
{
	struct id small = fixture_org(), first = fixture_app(&small, "hot", "unloaded"),
		  second = fixture_app(&small, "hot", "unloaded");
	struct id third = fixture_app(&small, "demand", "unloaded");
	uint8_t hash[SECRET_HASH_BYTES];
	struct lifecycle_request r;
	enum problem problem;

	(void)fixture_token(&small, "org_admin", hash);
	fixture_run(fx.db, "UPDATE organizations SET quota_hot = 1 WHERE org_id = '%s'", small.text);
#define TRY(what, app, to)                                                                                             \
	(r = request_for(hash, what, app), r.access.org_id = small, r.tier = to,                                       \
	 (void)accept_on(fx.db, fx.mem, &r, &problem), problem)
	CU_ASSERT_EQUAL(TRY(ACTION_LOAD, &first, -1), PROBLEM_NONE);
	CU_ASSERT_EQUAL(TRY(ACTION_LOAD, &second, -1), PROBLEM_QUOTA_HOT);
	check_row(&second, "unloaded hot 1 0 0");
	CU_ASSERT_EQUAL(audit_rows(&second), 1);
	CU_ASSERT_EQUAL(TRY(ACTION_RELOAD, &second, -1), PROBLEM_QUOTA_HOT);
	CU_ASSERT_EQUAL(TRY(ACTION_LOAD, &third, TIER_HOT), PROBLEM_QUOTA_HOT);
	CU_ASSERT_EQUAL(TRY(ACTION_LOAD, &first, -1), PROBLEM_NONE);
	CU_ASSERT_EQUAL(TRY(ACTION_LOAD, &second, TIER_DEMAND), PROBLEM_NONE);
	CU_ASSERT_EQUAL(TRY(ACTION_UNLOAD, &first, -1), PROBLEM_NONE);
	CU_ASSERT_EQUAL(TRY(ACTION_LOAD, &third, TIER_HOT), PROBLEM_NONE);
#undef TRY
}

static void a_failure_is_no_refusal(void)
{
	struct id app = fixture_app(&org, "hot", "unloaded");
	struct lifecycle_request r = request_for(admin, ACTION_LOAD, &app);
	struct arena *small = arena_new(16);
	struct lifecycle_step step = {.request = &r, .mem = small}, *steps = &step;

	lifecycle_accept(fx.db, &steps, 1);
	CU_ASSERT_FALSE(step.ok);
	CU_ASSERT_EQUAL(step.e.code, ERR_LIMIT);
	CU_ASSERT_EQUAL(audit_rows(&app), 0);
	check_row(&app, "unloaded hot 1 0 0");
	arena_free(&small);
}

/* --- many at once --- */

struct client {
	pthread_t thread;
	uint8_t hash[SECRET_HASH_BYTES];
	struct id org;
	const struct id *apps;
	unsigned count, accepted, refused, failed;
};

static void *client_run(void *closure)
{
	struct client *c = closure;
	struct db *db = fixture_connect();
	struct arena *mem = arena_new((size_t)1 << 20);

	for (unsigned i = 0; i < c->count; i++) {
		static const enum action actions[] = {ACTION_LOAD, ACTION_RELOAD, ACTION_LOAD};
		struct lifecycle_request r = request_for(c->hash, actions[i % ARRAY_LEN(actions)], &c->apps[i]);
		enum problem problem;

		r.access.org_id = c->org;
		(void)accept_on(db, mem, &r, &problem);
		c->accepted += problem == PROBLEM_NONE;
		c->refused += problem == PROBLEM_QUOTA_HOT;
		c->failed += problem != PROBLEM_NONE && problem != PROBLEM_QUOTA_HOT;
		arena_clear(mem);
	}
	arena_free(&mem);
	db_close(&db);
	return NULL;
}

/* Clients load the same hot Apps of an org with less room: the quota holds exactly, no request fails. */
static void the_quota_holds_against_clients_at_once(void)
{
	enum { APPS = 12, QUOTA = 5 };
	struct id own = fixture_org(), apps[APPS];
	struct client clients[6] = {0};
	uint8_t hash[SECRET_HASH_BYTES];
	unsigned failed = 0;

	(void)fixture_token(&own, "org_admin", hash);
	fixture_run(fx.db, "UPDATE organizations SET quota_hot = %d WHERE org_id = '%s'", QUOTA, own.text);
	for (size_t i = 0; i < APPS; i++)
		apps[i] = fixture_app(&own, "hot", "unloaded");
	for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
		clients[i] = (struct client){.org = own, .apps = apps, .count = APPS};
		memcpy(clients[i].hash, hash, sizeof(hash));
		CU_ASSERT_EQUAL_FATAL(pthread_create(&clients[i].thread, NULL, client_run, &clients[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
		(void)pthread_join(clients[i].thread, NULL);
		failed += clients[i].failed;
	}
	CU_ASSERT_EQUAL(failed, 0);
	CU_ASSERT_EQUAL(
		fixture_number("SELECT COUNT(*) FROM orchestrator_instances WHERE org_id = ? AND wanted_hot = 1", &own),
		QUOTA);
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM audit_log WHERE org_id = ?", &own), 6 * APPS);
}

/* Every accepted request has a generation of its own, in one sequence without gaps. */
static void generations_are_one_sequence(void)
{
	enum { ROUNDS = 20 };
	struct id app = fixture_app(&org, "demand", "unloaded"), apps[ROUNDS];
	struct client clients[4] = {0};

	for (size_t i = 0; i < ROUNDS; i++)
		apps[i] = app;
	for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
		clients[i] = (struct client){.org = org, .apps = apps, .count = ROUNDS};
		memcpy(clients[i].hash, admin, sizeof(admin));
		CU_ASSERT_EQUAL_FATAL(pthread_create(&clients[i].thread, NULL, client_run, &clients[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(clients); i++) {
		(void)pthread_join(clients[i].thread, NULL);
		CU_ASSERT_EQUAL(clients[i].accepted, ROUNDS);
	}
	CU_ASSERT_EQUAL(fixture_number("SELECT generation FROM orchestrator_instances WHERE instance_id = ?", &app),
			1 + 4 * ROUNDS);
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(DISTINCT generation) FROM operations WHERE instance_id = ?", &app),
			4 * ROUNDS);
}

/* --- many at once --- */

#define MANY 70

struct many {
	struct lifecycle_request requests[MANY];
	struct lifecycle_step steps[MANY], *pointers[MANY];
	struct id apps[MANY];
};

static void many_loads(struct many *m)
{
	memset(m, 0, sizeof(*m));
	for (unsigned i = 0; i < MANY; i++) {
		m->apps[i] = fixture_app(&org, "hot", "loaded");
		m->requests[i] = request_for(admin, ACTION_LOAD, &m->apps[i]);
		m->requests[i].origin.request_id = "many";
		m->steps[i] = (struct lifecycle_step){.request = &m->requests[i], .mem = fx.mem};
		m->pointers[i] = &m->steps[i];
	}
}

static void requests_that_come_together_are_answered_as_each_would_be(void)
{
	static struct many m;
	struct id other_org = fixture_org();
	struct id foreign = fixture_app(&other_org, "hot", "loaded");

	fixture_run(fx.db, "UPDATE organizations SET quota_hot = 1000 WHERE org_id = '%s'", org.text);
	many_loads(&m);
	m.requests[1].access.instance_id = (struct id){""};
	m.requests[2].access.instance_id = id_new();
	m.requests[3].access.instance_id = foreign;
	memset(m.requests[4].access.token_hash, 1, SECRET_HASH_BYTES);
	fixture_run(fx.db, "UPDATE orchestrator_instances SET status = 'suspended' WHERE instance_id = '%s'",
		    m.apps[5].text);
	m.requests[6].action = ACTION_UNLOAD; /* of what is not held: over at once */
	m.requests[7].action = ACTION_RELOAD;
	m.requests[8].access.instance_id = m.apps[9]; /* two about one App */
	fixture_run(fx.db, "UPDATE orchestrator_instances SET desired_state = 'unloaded' WHERE instance_id = '%s'",
		    m.apps[10].text); /* one more wanted hot: needs the org's lock */
	m.requests[11].tier = TIER_DEMAND;
	lifecycle_accept(fx.db, m.pointers, MANY);
	for (unsigned i = 0; i < MANY; i++) {
		static const enum problem problems[] = {[1] = PROBLEM_INSTANCE_NOT_FOUND,
							[2] = PROBLEM_INSTANCE_NOT_FOUND,
							[3] = PROBLEM_INSTANCE_FORBIDDEN,
							[4] = PROBLEM_UNAUTHORIZED,
							[5] = PROBLEM_INSTANCE_SUSPENDED};
		enum problem problem = i < ARRAY_LEN(problems) ? problems[i] : PROBLEM_NONE;
		const struct lifecycle_step *step = &m.steps[i];

		CU_ASSERT_TRUE(step->ok);
		CU_ASSERT_EQUAL(step->problem, problem);
		if (problem != PROBLEM_NONE)
			continue;
		CU_ASSERT_EQUAL(step->accepted.op.state, i == 6 ? OP_SUCCEEDED : OP_ACCEPTED);
		CU_ASSERT_EQUAL(step->accepted.op.tier, i == 11 ? TIER_DEMAND : TIER_HOT);
		CU_ASSERT_EQUAL(step->accepted.use_loads, i != 6);
		CU_ASSERT_STRING_EQUAL(step->accepted.access.org.org_id.text, org.text);
		CU_ASSERT_STRING_EQUAL(fixture_operation_state(&step->accepted.op.operation_id),
				       i == 6 ? "succeeded" : "accepted");
		CU_ASSERT_EQUAL(fixture_number("SELECT generation FROM operations WHERE operation_id = ?",
					       &step->accepted.op.operation_id),
				(int64_t)step->accepted.op.generation);
		CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM audit_log WHERE result = 'ok' AND target = ?",
					       &step->accepted.op.instance_id),
				i == 8 || i == 9 ? 2 : 1);
	}
	CU_ASSERT_EQUAL(
		fixture_number("SELECT generation FROM orchestrator_instances WHERE instance_id = ?", &m.apps[9]), 3);
	CU_ASSERT_EQUAL(m.steps[8].accepted.op.generation + m.steps[9].accepted.op.generation, 2 + 3);
	CU_ASSERT_EQUAL(
		fixture_number(
			"SELECT COUNT(*) FROM audit_log WHERE result <> 'ok' AND request_id = 'many' AND org_id = ?",
			&org),
		5);
}

/* Nobody waits for another's App. */
static void a_row_that_is_held_delays_only_its_own_request(void)
{
	static struct many m;
	struct db *other = fixture_connect();

	many_loads(&m);
	fixture_run(fx.db, "SET innodb_lock_wait_timeout = 1");
	fixture_run(other,
		    "START TRANSACTION; SELECT 1 FROM orchestrator_instances WHERE instance_id = '%s' FOR UPDATE",
		    m.apps[2].text);
	lifecycle_accept(fx.db, m.pointers, 10);
	for (unsigned i = 0; i < 10; i++)
		CU_ASSERT_EQUAL(m.steps[i].ok, i != 2);
	fixture_run(other, "ROLLBACK");
	db_close(&other);
}

static CU_TestInfo cases[] = {
	CASE(a_load_writes_row_operation_and_audit),
	CASE(the_bodys_tier_changes_the_record),
	CASE(an_unload_of_what_is_not_held_has_succeeded_already),
	CASE(an_unload_of_a_copy_waits_for_it),
	CASE(a_reload_of_a_copy_is_a_change),
	CASE(a_reload_of_nothing_is_a_load),
	CASE(a_reload_after_an_unload_is_a_load),
	CASE(requests_that_want_the_same_stay_open_together),
	CASE(a_suspended_app_may_be_unloaded),
	CASE(a_refusal_is_audited_and_writes_nothing_else),
	CASE(malformed_ids_are_refused_and_audited),
	CASE(one_more_hot_app_needs_room),
	CASE(a_failure_is_no_refusal),
	CASE(the_quota_holds_against_clients_at_once),
	CASE(generations_are_one_sequence),
	CASE(requests_that_come_together_are_answered_as_each_would_be),
	CASE(a_row_that_is_held_delays_only_its_own_request),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"lifecycle", make_world, fixture_stop, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
