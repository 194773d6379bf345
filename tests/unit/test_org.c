/* SPDX-License-Identifier: Apache-2.0 */
/* core/org against a real server. */
#include "core/org.h"

#include <stdio.h>
#include <string.h>

#include "lib/arena.h"
#include "tests/unit/harness.h"
#include "tests/unit/sql_fixture.h"

static struct err err;

static struct org new_org(const char *name)
{
	return (struct org){.org_id = id_new(),
			    .name = name,
			    .status = STATUS_ACTIVE,
			    .quota_instances = 5,
			    .quota_hot = 2,
			    .quota_demand = 3,
			    .ttl_seconds = -1};
}

static enum problem create(const struct org *org)
{
	enum problem problem = PROBLEM_INTERNAL;

	CU_ASSERT_TRUE(org_create(fx.db, org, &problem, &err));
	return problem;
}

static struct org get(const struct id *org_id)
{
	enum problem problem = PROBLEM_INTERNAL;
	struct org org = {0};

	CU_ASSERT_TRUE_FATAL(org_get(fx.db, fx.mem, org_id, &org, &problem, &err));
	CU_ASSERT_EQUAL_FATAL(problem, PROBLEM_NONE);
	return org;
}

static void what_was_created_is_read_back(void)
{
	struct org made = new_org("Müller & Söhne"), org;

	CU_ASSERT_EQUAL(create(&made), PROBLEM_NONE);
	org = get(&made.org_id);
	CU_ASSERT_STRING_EQUAL(org.name, made.name);
	CU_ASSERT_EQUAL(org.status, STATUS_ACTIVE);
	CU_ASSERT_EQUAL(org.quota_instances, 5);
	CU_ASSERT_EQUAL(org.quota_hot, 2);
	CU_ASSERT_EQUAL(org.quota_demand, 3);
	CU_ASSERT_EQUAL(org.ttl_seconds, -1);
	CU_ASSERT_EQUAL(strlen(org.created_at), strlen("2026-01-02T03:04:05.678Z"));
	CU_ASSERT_EQUAL(org.created_at[10], 'T');
	CU_ASSERT_EQUAL(org.created_at[23], 'Z');
}

static void a_name_is_given_once(void)
{
	struct org a = new_org("twice"), b = new_org("twice");
	struct org_change rename = {
		.name = "twice", .quota_instances = -1, .quota_hot = -1, .quota_demand = -1, .ttl_seconds = -1};
	struct id other = fixture_org();
	enum problem problem;

	CU_ASSERT_EQUAL(create(&a), PROBLEM_NONE);
	CU_ASSERT_EQUAL(create(&b), PROBLEM_NAME_TAKEN);
	CU_ASSERT_TRUE(org_change(fx.db, &other, &rename, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_NAME_TAKEN);
	CU_ASSERT_TRUE(org_change(fx.db, &a.org_id, &rename, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_NONE);
}

static void an_unknown_org_is_a_problem_everywhere(void)
{
	struct org_change change = {.quota_instances = 1, .quota_hot = -1, .quota_demand = -1, .ttl_seconds = -1};
	struct id unknown = id_new();
	enum problem problem = PROBLEM_NONE;
	struct org org;
	bool changed;

	CU_ASSERT_TRUE(org_get(fx.db, fx.mem, &unknown, &org, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_ORG_NOT_FOUND);
	CU_ASSERT_TRUE(org_change(fx.db, &unknown, &change, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_ORG_NOT_FOUND);
	problem = PROBLEM_NONE;
	CU_ASSERT_TRUE(org_set_status(fx.db, &unknown, STATUS_SUSPENDED, &changed, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_ORG_NOT_FOUND);
	CU_ASSERT_FALSE(changed);
}

static void a_change_leaves_the_rest(void)
{
	struct org made = new_org("changed"), org;
	struct org_change change = {.quota_instances = -1, .quota_hot = 0, .quota_demand = -1, .ttl_seconds = 60};
	enum problem problem;

	CU_ASSERT_EQUAL(create(&made), PROBLEM_NONE);
	CU_ASSERT_TRUE(org_change(fx.db, &made.org_id, &change, &problem, &err));
	org = get(&made.org_id);
	CU_ASSERT_STRING_EQUAL(org.name, "changed");
	CU_ASSERT_EQUAL(org.quota_instances, 5);
	CU_ASSERT_EQUAL(org.quota_hot, 0);
	CU_ASSERT_EQUAL(org.ttl_seconds, 60);
	change.ttl_seconds = 0;
	CU_ASSERT_TRUE(org_change(fx.db, &made.org_id, &change, &problem, &err));
	CU_ASSERT_EQUAL(get(&made.org_id).ttl_seconds, -1);
}

static void pages_cover_all_orgs_once(void)
{
	struct id after = {""};
	struct org *orgs;
	unsigned count, total = 0;
	int64_t expected = fixture_number("SELECT COUNT(*) FROM organizations", NULL);

	do {
		CU_ASSERT_TRUE_FATAL(org_list(fx.db, fx.mem, &after, 2, &orgs, &count, &err));
		for (unsigned i = 0; i < count; i++) {
			CU_ASSERT_TRUE(strcmp(orgs[i].org_id.text, after.text) > 0);
			after = orgs[i].org_id;
		}
		total += count;
	} while (count == 2);
	CU_ASSERT_EQUAL(total, expected);
}

static int64_t generation(const struct id *app)
{
	return fixture_number("SELECT generation FROM orchestrator_instances WHERE instance_id = ?", app);
}

static int64_t unload_generation(const struct id *app)
{
	return fixture_number("SELECT unload_generation FROM orchestrator_instances WHERE instance_id = ?", app);
}

static bool set_status(const struct id *org, enum status status)
{
	enum problem problem = PROBLEM_INTERNAL;
	bool changed = false;

	CU_ASSERT_TRUE(org_set_status(fx.db, org, status, &changed, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_NONE);
	return changed;
}

static void suspending_dooms_the_copies_of_all_apps(void)
{
	struct id org = fixture_org(), other = fixture_org();
	struct id app = fixture_app(&org, "hot", "loaded"), foreign = fixture_app(&other, "hot", "loaded");
	struct id load = fixture_operation(&app, "load", 1), theirs = fixture_operation(&foreign, "load", 1);

	fixture_run(fx.db,
		    "UPDATE orchestrator_instances SET failures = 3, failure_reason = 'x', next_attempt_at = NOW(3)");
	CU_ASSERT_TRUE(set_status(&org, STATUS_SUSPENDED));
	CU_ASSERT_EQUAL(get(&org).status, STATUS_SUSPENDED);
	CU_ASSERT_EQUAL(generation(&app), 2);
	CU_ASSERT_EQUAL(unload_generation(&app), 2);
	CU_ASSERT_EQUAL(fixture_number("SELECT failures = 0 AND failure_reason IS NULL AND next_attempt_at IS NULL "
				       "FROM orchestrator_instances WHERE instance_id = ?",
				       &app),
			1);
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&load), "superseded");
	CU_ASSERT_EQUAL(generation(&foreign), 1);
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&theirs), "accepted");
}

static void the_same_status_again_changes_nothing(void)
{
	struct id org = fixture_org(), app = fixture_app(&org, "hot", "loaded");

	CU_ASSERT_FALSE(set_status(&org, STATUS_ACTIVE));
	CU_ASSERT_EQUAL(generation(&app), 1);
}

static void reactivating_raises_the_generation_and_dooms_nothing(void)
{
	struct id org = fixture_org(), app = fixture_app(&org, "hot", "loaded");

	CU_ASSERT_TRUE(set_status(&org, STATUS_SUSPENDED));
	CU_ASSERT_TRUE(set_status(&org, STATUS_ACTIVE));
	CU_ASSERT_EQUAL(generation(&app), 3);
	CU_ASSERT_EQUAL(unload_generation(&app), 2);
	CU_ASSERT_STRING_EQUAL(
		fixture_text("SELECT desired_state FROM orchestrator_instances WHERE instance_id = ?", &app), "loaded");
}

static bool suspend_and_fail(struct db *db, void *closure, struct err *e)
{
	enum problem problem;
	bool changed;

	CU_ASSERT_TRUE(org_set_status(db, closure, STATUS_SUSPENDED, &changed, &problem, e));
	return err_set(e, ERR_INTERNAL, "on purpose");
}

static void a_status_change_joins_the_callers_transaction(void)
{
	struct id org = fixture_org();

	CU_ASSERT_FALSE(db_transaction(fx.db, suspend_and_fail, &org, &err));
	CU_ASSERT_EQUAL(get(&org).status, STATUS_ACTIVE);
}

static void rows_that_do_not_fit_are_a_limit(void)
{
	struct arena *small = arena_new(64);
	struct org *orgs;
	unsigned count;

	CU_ASSERT_FALSE(org_list(fx.db, small, NULL, 10, &orgs, &count, &err));
	CU_ASSERT_EQUAL(err.code, ERR_LIMIT);
	arena_free(&small);
}

static CU_TestInfo cases[] = {
	CASE(what_was_created_is_read_back),
	CASE(a_name_is_given_once),
	CASE(an_unknown_org_is_a_problem_everywhere),
	CASE(a_change_leaves_the_rest),
	CASE(pages_cover_all_orgs_once),
	CASE(suspending_dooms_the_copies_of_all_apps),
	CASE(the_same_status_again_changes_nothing),
	CASE(reactivating_raises_the_generation_and_dooms_nothing),
	CASE(a_status_change_joins_the_callers_transaction),
	CASE(rows_that_do_not_fit_are_a_limit),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"org", fixture_start, fixture_stop, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
