/* SPDX-License-Identifier: Apache-2.0 */
/* core/access against a real server: the order of refusals, and what the one statement locks. */
#include "core/access.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/arena.h"
#include "tests/unit/harness.h"
#include "tests/unit/sql_fixture.h"

static struct err err;

/* Two orgs; ours has an App and tokens of each role. */
static struct {
	struct id org, other_org, app, other_app, deleted_app, suspended_app;
	uint8_t member[SECRET_HASH_BYTES], admin[SECRET_HASH_BYTES], sys[SECRET_HASH_BYTES];
	uint8_t revoked[SECRET_HASH_BYTES], expired[SECRET_HASH_BYTES], unknown[SECRET_HASH_BYTES];
	struct id suspended_org, app_of_suspended;
	uint8_t of_suspended[SECRET_HASH_BYTES];
} w;

static int make_world(void)
{
	struct id token;

	(void)fixture_start();
	w.org = fixture_org();
	w.other_org = fixture_org();
	w.suspended_org = fixture_org();
	w.app = fixture_app(&w.org, "hot", "unloaded");
	w.deleted_app = fixture_app(&w.org, "hot", "unloaded");
	w.suspended_app = fixture_app(&w.org, "hot", "unloaded");
	w.other_app = fixture_app(&w.other_org, "hot", "unloaded");
	w.app_of_suspended = fixture_app(&w.suspended_org, "hot", "unloaded");
	(void)fixture_token(&w.org, "member", w.member);
	(void)fixture_token(&w.org, "org_admin", w.admin);
	(void)fixture_token(NULL, "sys_admin", w.sys);
	(void)fixture_token(&w.suspended_org, "org_admin", w.of_suspended);
	token = fixture_token(&w.org, "org_admin", w.revoked);
	fixture_run(fx.db, "UPDATE api_tokens SET revoked_at = NOW(3) WHERE token_id = '%s'", token.text);
	token = fixture_token(&w.org, "org_admin", w.expired);
	fixture_run(fx.db, "UPDATE api_tokens SET expires_at = NOW(3) - INTERVAL 1 SECOND WHERE token_id = '%s'",
		    token.text);
	fixture_run(fx.db, "UPDATE organizations SET status = 'suspended' WHERE org_id = '%s'", w.suspended_org.text);
	fixture_run(fx.db, "UPDATE orchestrator_instances SET status = 'suspended' WHERE instance_id = '%s'",
		    w.suspended_app.text);
	fixture_run(
		fx.db,
		"UPDATE orchestrator_instances SET deleted_at = NOW(3), status = 'suspended' WHERE instance_id = '%s'",
		w.deleted_app.text);
	secret_hash("nobody", 6, w.unknown);
	return 0;
}

static struct access_request request_for(const uint8_t *hash, const struct id *org, const struct id *app)
{
	struct access_request q = {.permission = PERM_INSTANCES_LIFECYCLE, .must_be_active = true};

	memcpy(q.token_hash, hash, SECRET_HASH_BYTES);
	q.has_org = org != NULL;
	if (org)
		q.org_id = *org;
	q.has_instance = app != NULL;
	if (app)
		q.instance_id = *app;
	return q;
}

static enum problem check(struct db *db, const struct access_request *q, struct access *ret_access)
{
	enum problem problem = PROBLEM_INTERNAL;
	struct access access;

	CU_ASSERT_TRUE_FATAL(access_check(db, fx.mem, q, ret_access ? ret_access : &access, &problem, &err));
	return problem;
}

static void refusals_come_in_order(void)
{
	static const struct id none = {""};
	struct id unknown = id_new();
	const struct {
		int line;
		const uint8_t *hash;
		const struct id *org, *app;
		enum problem expected;
	} rows[] = {
		{__LINE__, w.unknown, &unknown, &unknown, PROBLEM_UNAUTHORIZED},
		{__LINE__, w.revoked, &w.org, &w.app, PROBLEM_UNAUTHORIZED},
		{__LINE__, w.expired, &w.org, &w.app, PROBLEM_UNAUTHORIZED},
		{__LINE__, w.member, &w.other_org, &w.other_app, PROBLEM_ORG_MISMATCH},
		{__LINE__, w.admin, &unknown, &w.app, PROBLEM_ORG_MISMATCH},
		{__LINE__, w.admin, &none, &w.app, PROBLEM_ORG_MISMATCH},
		{__LINE__, w.member, &w.org, &unknown, PROBLEM_FORBIDDEN},
		{__LINE__, w.sys, &unknown, &w.app, PROBLEM_ORG_NOT_FOUND},
		{__LINE__, w.sys, &none, &w.app, PROBLEM_ORG_NOT_FOUND},
		{__LINE__, w.admin, &w.org, &unknown, PROBLEM_INSTANCE_NOT_FOUND},
		{__LINE__, w.admin, &w.org, &none, PROBLEM_INSTANCE_NOT_FOUND},
		{__LINE__, w.admin, &w.org, &w.other_app, PROBLEM_INSTANCE_FORBIDDEN},
		{__LINE__, w.sys, &w.org, &w.other_app, PROBLEM_INSTANCE_FORBIDDEN},
		{__LINE__, w.admin, &w.org, &w.deleted_app, PROBLEM_INSTANCE_DELETED},
		{__LINE__, w.of_suspended, &w.suspended_org, &w.app_of_suspended, PROBLEM_ORG_SUSPENDED},
		{__LINE__, w.admin, &w.org, &w.suspended_app, PROBLEM_INSTANCE_SUSPENDED},
		{__LINE__, w.admin, &w.org, &w.app, PROBLEM_NONE},
		{__LINE__, w.sys, &w.org, &w.app, PROBLEM_NONE},
		{__LINE__, w.sys, &w.org, NULL, PROBLEM_NONE},
		{__LINE__, w.sys, NULL, NULL, PROBLEM_NONE},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct access_request q = request_for(rows[i].hash, rows[i].org, rows[i].app);

		CHECK_ROW(&rows[i], check(fx.db, &q, NULL) == rows[i].expected);
		q.lock_instance = q.has_instance;
		CHECK_ROW(&rows[i], check(fx.db, &q, NULL) == rows[i].expected);
		q.lock_org = q.has_org;
		CHECK_ROW(&rows[i], check(fx.db, &q, NULL) == rows[i].expected);
	}
}

static void what_need_not_be_active_may_be_suspended(void)
{
	struct access_request q = request_for(w.admin, &w.org, &w.suspended_app);

	q.must_be_active = false;
	CU_ASSERT_EQUAL(check(fx.db, &q, NULL), PROBLEM_NONE);
	q = request_for(w.of_suspended, &w.suspended_org, &w.app_of_suspended);
	q.must_be_active = false;
	CU_ASSERT_EQUAL(check(fx.db, &q, NULL), PROBLEM_NONE);
}

static void a_chat_without_org_means_the_apps_own(void)
{
	struct access_request q = request_for(w.member, NULL, &w.app);
	struct access access;

	q.permission = PERM_CHAT;
	q.org_is_instances = true;
	CU_ASSERT_EQUAL(check(fx.db, &q, &access), PROBLEM_NONE);
	CU_ASSERT_TRUE(id_equal(&access.org.org_id, &w.org));
	q.instance_id = w.other_app;
	CU_ASSERT_EQUAL(check(fx.db, &q, &access), PROBLEM_INSTANCE_FORBIDDEN);
	q.instance_id = w.suspended_app;
	CU_ASSERT_EQUAL(check(fx.db, &q, &access), PROBLEM_INSTANCE_SUSPENDED);
	q.instance_id = id_new();
	CU_ASSERT_EQUAL(check(fx.db, &q, &access), PROBLEM_INSTANCE_NOT_FOUND);
	memcpy(q.token_hash, w.of_suspended, SECRET_HASH_BYTES);
	q.instance_id = w.app_of_suspended;
	CU_ASSERT_EQUAL(check(fx.db, &q, &access), PROBLEM_ORG_SUSPENDED);
	memcpy(q.token_hash, w.sys, SECRET_HASH_BYTES);
	q.instance_id = w.other_app;
	CU_ASSERT_EQUAL(check(fx.db, &q, &access), PROBLEM_NONE);
	CU_ASSERT_TRUE(id_equal(&access.org.org_id, &w.other_org));
}

static void all_that_was_read_comes_back(void)
{
	struct access_request q = request_for(w.admin, &w.org, &w.app);
	struct access access;

	CU_ASSERT_EQUAL(check(fx.db, &q, &access), PROBLEM_NONE);
	CU_ASSERT_EQUAL(access.caller.role, ROLE_ORG_ADMIN);
	CU_ASSERT_TRUE(id_equal(&access.caller.org_id, &w.org));
	CU_ASSERT_STRING_EQUAL(access.caller.token_name, "test");
	CU_ASSERT_TRUE(access.caller.touch_due);
	CU_ASSERT_EQUAL(access.org.quota_hot, 100);
	CU_ASSERT_EQUAL(access.instance.tier, TIER_HOT);
	CU_ASSERT_EQUAL(access.instance.generation, 1);
	CU_ASSERT_EQUAL(access.instance.ttl_seconds, -1);
	CU_ASSERT_STRING_EQUAL(access.instance.active_plugin_ids, "[]");
	CU_ASSERT_PTR_NULL(access.instance.config);
	q.with_config = true;
	CU_ASSERT_EQUAL(check(fx.db, &q, &access), PROBLEM_NONE);
	CU_ASSERT_STRING_EQUAL(access.instance.config, "{}");
	q.lock_instance = true;
	CU_ASSERT_EQUAL(check(fx.db, &q, &access), PROBLEM_NONE);
	CU_ASSERT_STRING_EQUAL(access.instance.config, "{}");
}

/* --- locks: a second session tries NOWAIT what the first may hold --- */

static bool is_locked(struct db *db, const char *sql, const void *key, size_t key_len)
{
	struct err e = {0};
	bool ok;

	db_use(db, sql);
	if (key_len == SECRET_HASH_BYTES)
		db_bind_bytes(db, key, key_len);
	else
		db_bind_strn(db, key, key_len);
	ok = db_exec(db, &e);
	CU_ASSERT_TRUE(ok || e.code == ERR_BUSY);
	return !ok;
}

struct looking {
	struct access_request q;
	struct db *second;
	bool org, token, app;
};

static bool look_at_locks(struct db *db, void *closure, struct err *e)
{
	struct looking *l = closure;

	(void)e;
	CU_ASSERT_EQUAL(check(db, &l->q, NULL), PROBLEM_NONE);
	l->org = is_locked(l->second, "SELECT 1 FROM organizations WHERE org_id = ? FOR UPDATE NOWAIT", w.org.text,
			   ID_TEXT_LEN);
	l->token = is_locked(l->second, "SELECT 1 FROM api_tokens WHERE token_hash = ? FOR UPDATE NOWAIT", w.admin,
			     SECRET_HASH_BYTES);
	l->app = is_locked(l->second, "SELECT 1 FROM orchestrator_instances WHERE instance_id = ? FOR UPDATE NOWAIT",
			   w.app.text, ID_TEXT_LEN);
	return true;
}

static void only_the_app_is_locked_and_only_when_asked(void)
{
	struct looking l = {.q = request_for(w.admin, &w.org, &w.app), .second = fixture_connect()};

	CU_ASSERT_TRUE(db_transaction(fx.db, look_at_locks, &l, &err));
	CU_ASSERT_FALSE(l.org || l.token || l.app);
	l.q.lock_instance = true;
	CU_ASSERT_TRUE(db_transaction(fx.db, look_at_locks, &l, &err));
	CU_ASSERT_TRUE(l.app);
	CU_ASSERT_FALSE(l.org || l.token);
	l.q.lock_org = true;
	CU_ASSERT_TRUE(db_transaction(fx.db, look_at_locks, &l, &err));
	CU_ASSERT_TRUE(l.app && l.org);
	CU_ASSERT_FALSE(l.token);
	db_close(&l.second);
}

/* Suspends the org and changes the App in one transaction that the request has to wait for. The name stays taken until
 * the session ends, so that it cannot be missed. */
static void *hold_and_change(void *closure)
{
	struct db *db = closure;

	fixture_run(db,
		    "START TRANSACTION; UPDATE organizations SET status = 'suspended' WHERE org_id = '%s'; "
		    "UPDATE orchestrator_instances SET generation = 7 WHERE instance_id = '%s'; "
		    "SELECT GET_LOCK('held', 0); SELECT SLEEP(0.5); COMMIT",
		    w.org.text, w.app.text);
	return NULL;
}

static bool read_locked(struct db *db, void *closure, struct err *e)
{
	struct access *access = closure;
	struct access_request q = request_for(w.admin, &w.org, &w.app);
	enum problem problem;

	q.lock_instance = true;
	CU_ASSERT_TRUE(access_check(db, fx.mem, &q, access, &problem, e));
	CU_ASSERT_EQUAL(problem, PROBLEM_ORG_SUSPENDED);
	return true;
}

static void what_is_read_is_not_older_than_the_lock(void)
{
	const struct timespec pause = {.tv_nsec = 1000000};
	struct db *second = fixture_connect();
	struct access access = {0};
	pthread_t thread;

	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, hold_and_change, second), 0);
	while (fixture_number("SELECT IS_USED_LOCK('held') IS NULL", NULL))
		(void)nanosleep(&pause, NULL);
	CU_ASSERT_TRUE(db_transaction(fx.db, read_locked, &access, &err));
	CU_ASSERT_EQUAL(access.instance.generation, 7);
	CU_ASSERT_EQUAL(access.org.status, STATUS_SUSPENDED);
	(void)pthread_join(thread, NULL);
	fixture_run(fx.db, "UPDATE organizations SET status = 'active' WHERE org_id = '%s'", w.org.text);
	db_close(&second);
}

static CU_TestInfo cases[] = {
	CASE(refusals_come_in_order),
	CASE(what_need_not_be_active_may_be_suspended),
	CASE(a_chat_without_org_means_the_apps_own),
	CASE(all_that_was_read_comes_back),
	CASE(only_the_app_is_locked_and_only_when_asked),
	CASE(what_is_read_is_not_older_than_the_lock),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"access", make_world, fixture_stop, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
