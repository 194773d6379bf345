/* SPDX-License-Identifier: Apache-2.0 */
/* fcgi-app/accept_line on a real server, with many threads. */
#include "fcgi-app/accept_line.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/lifecycle.h"
#include "fcgi-app/app.h"
#include "lib/arena.h"
#include "tests/unit/harness.h"
#include "tests/unit/sql_fixture.h"

#define THREADS 24
#define ROUNDS 20
#define APPS 8

static struct app app;
static struct id org, apps[APPS];
static uint8_t admin[SECRET_HASH_BYTES];

struct client {
	pthread_t thread;
	pthread_barrier_t *barrier;
	unsigned number;
	unsigned accepted, failed;
	uint64_t generations; /* sum over what was accepted */
};

static int start(void)
{
	int status = fixture_start();

	if (status == 0) {
		org = fixture_org();
		fixture_run(fx.db, "UPDATE organizations SET quota_hot = 1000 WHERE org_id = '%s'", org.text);
		(void)fixture_token(&org, "org_admin", admin);
		app.db_pool = fixture_pool(4);
		app.accepts = accept_line_new();
		app.is_schema_good = true;
	}
	return status;
}

static int stop(void)
{
	accept_line_free(&app.accepts);
	db_pool_free(&app.db_pool);
	return fixture_stop();
}

static void load(struct client *c, const struct id *instance_id)
{
	struct lifecycle_request request = {.action = ACTION_LOAD,
					    .tier = -1,
					    .drain_s = -1,
					    .operation_id = id_new(),
					    .origin = {.source_ip = "192.0.2.1", .request_id = "r"},
					    .access = {.permission = PERM_INSTANCES_LIFECYCLE,
						       .has_org = true,
						       .org_id = org,
						       .has_instance = true,
						       .instance_id = *instance_id}};
	struct lifecycle_step step = {.request = &request, .mem = arena_new(1 << 16)};

	memcpy(request.access.token_hash, admin, sizeof(admin));
	accept_line_pass(&app, &step);
	bool is_accepted = step.ok && step.problem == PROBLEM_NONE &&
			   id_equal(&step.accepted.op.instance_id, instance_id) &&
			   id_equal(&step.accepted.op.operation_id, &request.operation_id);
	c->accepted += is_accepted;
	c->failed += !is_accepted;
	c->generations += is_accepted ? step.accepted.op.generation : 0;
	arena_free(&step.mem);
}

static void *client_main(void *closure)
{
	struct client *c = closure;

	(void)pthread_barrier_wait(c->barrier);
	for (unsigned i = 0; i < ROUNDS; i++)
		load(c, &apps[(c->number + i) % APPS]);
	return NULL;
}

static int64_t commits(void)
{
	return fixture_number("SELECT CAST(VARIABLE_VALUE AS SIGNED) FROM information_schema.GLOBAL_STATUS"
			      " WHERE VARIABLE_NAME = 'COM_COMMIT'",
			      NULL);
}

/* Each App's generations are one sequence, whoever shared a transaction with whom; and sharing there was. */
static void who_comes_together_is_written_together(void)
{
	struct client clients[THREADS];
	pthread_barrier_t barrier;
	uint64_t generations = 0, expected = 0;
	unsigned accepted = 0, failed = 0;

	for (unsigned i = 0; i < APPS; i++)
		apps[i] = fixture_app(&org, "hot", "loaded");
	int64_t before = commits();
	CU_ASSERT_EQUAL_FATAL(pthread_barrier_init(&barrier, NULL, THREADS), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		clients[i] = (struct client){.barrier = &barrier, .number = i};
		CU_ASSERT_EQUAL_FATAL(pthread_create(&clients[i].thread, NULL, client_main, &clients[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		(void)pthread_join(clients[i].thread, NULL);
		accepted += clients[i].accepted;
		failed += clients[i].failed;
		generations += clients[i].generations;
	}
	(void)pthread_barrier_destroy(&barrier);
	CU_ASSERT_EQUAL(failed, 0);
	CU_ASSERT_EQUAL(accepted, THREADS * ROUNDS);
	for (unsigned i = 0; i < APPS; i++) {
		uint64_t last = (uint64_t)fixture_number(
			"SELECT generation FROM orchestrator_instances WHERE instance_id = ?", &apps[i]);
		CU_ASSERT_EQUAL(last, 1 + THREADS * ROUNDS / APPS);
		expected += last * (last + 1) / 2 - 1;
	}
	CU_ASSERT_EQUAL(generations, expected);
	CU_ASSERT(commits() - before < THREADS * ROUNDS);
}

static void one_alone_is_not_kept_waiting(void)
{
	struct client c = {0};

	apps[0] = fixture_app(&org, "hot", "loaded");
	load(&c, &apps[0]);
	CU_ASSERT_EQUAL(c.accepted, 1);
}

/* Everyone in line learns that there is no database, and the next ones are served again. */
static void without_a_connection_everyone_is_told(void)
{
	struct db *taken[4] = {NULL};
	struct client c = {0};
	struct err e = {0};

	for (int i = 0; i < 4; i++)
		CU_ASSERT_TRUE_FATAL(db_take(app.db_pool, 0, 1000, &taken[i], &e));
	load(&c, &apps[0]);
	CU_ASSERT_EQUAL(c.failed, 1);
	for (int i = 0; i < 4; i++)
		db_give(app.db_pool, &taken[i]);
	load(&c, &apps[0]);
	CU_ASSERT_EQUAL(c.accepted, 1);
}

static CU_TestInfo cases[] = {
	CASE(one_alone_is_not_kept_waiting),
	CASE(who_comes_together_is_written_together),
	CASE(without_a_connection_everyone_is_told),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"accept line", start, stop, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
