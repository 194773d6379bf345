/* SPDX-License-Identifier: Apache-2.0 */
#include "core/version.h"

#include <inttypes.h>
#include <string.h>

#include "core/access.h"
#include "core/instance.h"
#include "lib/arena.h"
#include "lib/db.h"
#include "tests/unit/harness.h"
#include "tests/unit/sql_fixture.h"

#define LIST_MAX 500

static struct err err;
static struct id org, token;

static int make_world(void)
{
	uint8_t hash[SECRET_HASH_BYTES];

	if (fixture_start() != 0)
		return 1;
	org = fixture_org();
	token = fixture_token(&org, "org_admin", hash);
	return 0;
}

/* --- changing an App as the API does --- */

struct call {
	struct id app;
	struct instance_change change;
	struct instance_changed changed;
	enum problem problem;
	bool is_given_up; /* the transaction fails at its end */
};

static bool create_body(struct db *db, void *closure, struct err *e)
{
	struct call *c = closure;
	struct instance made = {
		.instance_id = c->app,
		.org_id = org,
		.name = c->app.text,
		.framework_type = "echo",
		.mode = "single",
		.tier = TIER_HOT,
		.replicas = 1,
		.ttl_seconds = -1,
		.config = "{\"v\":1}",
		.active_plugin_ids = "[]",
	};

	instance_config_hash(made.framework_type, made.mode, made.config, made.active_plugin_ids, made.config_hash);
	return instance_create(db, &made, &token, &c->problem, e);
}

static bool change_body(struct db *db, void *closure, struct err *e)
{
	const struct id operation_id = id_new();
	struct call *c = closure;
	struct instance current;

	if (!instance_get(db, fx.mem, &c->app, &current, &c->problem, e) ||
	    !instance_apply(db, &current, &c->change, &operation_id, NULL, &c->changed, &c->problem, e))
		return false;
	return !c->is_given_up || err_set(e, ERR_INTERNAL, "on purpose");
}

static struct id new_app(void)
{
	struct call c = {.app = id_new()};

	CU_ASSERT_TRUE(db_transaction(fx.db, create_body, &c, &err));
	CU_ASSERT_EQUAL_FATAL(c.problem, PROBLEM_NONE);
	return c.app;
}

static struct call change_of(const struct id *app)
{
	return (struct call){
		.app = *app,
		.change = {.tier = -1, .ttl_seconds = -1, .replicas = -1, .status = -1, .token_id = token},
	};
}

static void run(struct call *c)
{
	CU_ASSERT_EQUAL(db_transaction(fx.db, change_body, c, &err), !c->is_given_up);
	CU_ASSERT_EQUAL(c->problem, PROBLEM_NONE);
}

static void configure(const struct id *app, int v)
{
	struct call c = change_of(app);

	c.change.config = arena_printf(fx.mem, "{\"v\":%d}", v);
	run(&c);
}

/* As the worker does once a copy is ready. */
static void note_good(const struct id *app)
{
	fixture_run(fx.db, "UPDATE orchestrator_instances SET good_config_hash = config_hash WHERE instance_id = '%s'",
		    app->text);
}

/* --- looking --- */

static unsigned list(const struct id *app, struct version **ret_list)
{
	unsigned count = 0;

	arena_clear(fx.mem);
	CU_ASSERT_TRUE_FATAL(version_list(fx.db, fx.mem, app, 0, LIST_MAX, ret_list, &count, &err));
	return count;
}

static unsigned count_of(const struct id *app)
{
	struct version *versions;

	return list(app, &versions);
}

static uint32_t present(const struct id *app)
{
	return (uint32_t)fixture_number("SELECT version FROM orchestrator_instances WHERE instance_id = ?", app);
}

static struct version get(const struct id *app, uint32_t n)
{
	enum problem problem = PROBLEM_INTERNAL;
	struct version v = {0};

	CU_ASSERT_TRUE_FATAL(version_get(fx.db, fx.mem, app, n, &v, &problem, &err));
	CU_ASSERT_EQUAL_FATAL(problem, PROBLEM_NONE);
	return v;
}

static bool is_there(const struct id *app, uint32_t n)
{
	enum problem problem = PROBLEM_INTERNAL;
	struct version v;

	CU_ASSERT_TRUE_FATAL(version_get(fx.db, fx.mem, app, n, &v, &problem, &err));
	CU_ASSERT_TRUE(problem == PROBLEM_NONE || problem == PROBLEM_VERSION_NOT_FOUND);
	return problem == PROBLEM_NONE;
}

/* --- */

static void a_new_app_has_version_1(void)
{
	struct id app = new_app();
	struct version v = get(&app, 1);

	CU_ASSERT_EQUAL(count_of(&app), 1);
	CU_ASSERT_EQUAL(present(&app), 1);
	v = get(&app, 1);
	CU_ASSERT_EQUAL(v.source, VERSION_CREATE);
	CU_ASSERT_EQUAL(v.of_version, 0);
	CU_ASSERT_STRING_EQUAL(v.token_id.text, token.text);
	CU_ASSERT_STRING_EQUAL(v.token_name, "test");
	CU_ASSERT_STRING_EQUAL(v.framework_type, "echo");
	CU_ASSERT_STRING_EQUAL(v.mode, "single");
	CU_ASSERT_STRING_EQUAL(v.config, "{\"v\":1}");
	CU_ASSERT_STRING_EQUAL(v.active_plugin_ids, "[]");
	CU_ASSERT_TRUE(v.is_current);
	CU_ASSERT_FALSE(v.is_good);
	CU_ASSERT_EQUAL(strlen(v.created_at), strlen("2026-01-02T03:04:05.678Z"));
}

/* One row per thing that a change may hold. */
static const struct kind {
	int line;
	struct instance_change change;
	bool makes_one;
} kinds[] = {
#define LEAVE .tier = -1, .ttl_seconds = -1, .replicas = -1, .status = -1
	{__LINE__, {LEAVE, .config = "{\"v\":2}"}, true},
	{__LINE__, {LEAVE, .config = "{\"v\":1}"}, false},
	{__LINE__, {LEAVE, .mode = "other"}, true},
	{__LINE__, {LEAVE, .mode = "single"}, false},
	{__LINE__, {LEAVE, .active_plugin_ids = "[\"x\"]"}, true},
	{__LINE__, {LEAVE, .name = "other"}, false},
	{__LINE__, {.tier = TIER_DEMAND, .ttl_seconds = 7, .replicas = 3, .status = STATUS_SUSPENDED}, false},
	{__LINE__, {LEAVE, .is_delete = true}, false},
	{__LINE__, {LEAVE}, false},
};

static void a_change_of_what_copies_are_built_from_is_a_version(void)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct id app = new_app();
		struct call c = change_of(&app);

		c.change = kinds[i].change;
		run(&c);
		CHECK_ROW(&kinds[i], count_of(&app) == 1U + kinds[i].makes_one);
		CHECK_ROW(&kinds[i], present(&app) == 1U + kinds[i].makes_one);
		CHECK_ROW(&kinds[i], is_there(&app, present(&app)));
		CHECK_ROW(&kinds[i], strcmp(get(&app, present(&app)).config_hash,
					    fixture_text("SELECT config_hash FROM orchestrator_instances "
							 "WHERE instance_id = ?",
							 &app)) == 0);
	}
}

static void what_was_not_committed_is_none(void)
{
	struct id app = new_app();
	struct call c = change_of(&app);

	c.change.config = "{\"v\":2}";
	c.is_given_up = true;
	run(&c);
	CU_ASSERT_EQUAL(count_of(&app), 1);
	CU_ASSERT_EQUAL(present(&app), 1);
}

static void a_rollback_says_what_it_went_back_to(void)
{
	struct id app = new_app();
	struct call c = change_of(&app);
	struct version v;

	configure(&app, 2);
	v = get(&app, 1);
	c.change.config = v.config;
	c.change.mode = v.mode;
	c.change.active_plugin_ids = v.active_plugin_ids;
	c.change.of_version = 1;
	run(&c);
	v = get(&app, 3);
	CU_ASSERT_EQUAL(v.source, VERSION_ROLLBACK);
	CU_ASSERT_EQUAL(v.of_version, 1);
	CU_ASSERT_STRING_EQUAL(v.config, "{\"v\":1}");
	run(&c); /* once more: it is so already */
	CU_ASSERT_EQUAL(count_of(&app), 3);
	CU_ASSERT_EQUAL(get(&app, 2).source, VERSION_CONFIG);
}

static void the_newest_comes_first_page_by_page(void)
{
	struct id app = new_app(), other = new_app();
	struct version *versions;
	unsigned count;

	for (int v = 2; v <= 7; v++)
		configure(&app, v);
	configure(&other, 2);
	CU_ASSERT_EQUAL(list(&app, &versions), 7);
	for (unsigned i = 0; i < 7; i++) {
		CU_ASSERT_EQUAL(versions[i].version, 7 - i);
		CU_ASSERT_EQUAL(versions[i].is_current, i == 0);
		CU_ASSERT_PTR_NULL(versions[i].config);
	}
	CU_ASSERT_TRUE(version_list(fx.db, fx.mem, &app, 5, 3, &versions, &count, &err));
	CU_ASSERT_EQUAL_FATAL(count, 3);
	CU_ASSERT_EQUAL(versions[0].version, 4);
	CU_ASSERT_EQUAL(versions[2].version, 2);
	CU_ASSERT_TRUE(version_list(fx.db, fx.mem, &app, 1, 3, &versions, &count, &err));
	CU_ASSERT_EQUAL(count, 0);
}

static void what_was_last_ready_is_good(void)
{
	struct id app = new_app();

	note_good(&app);
	configure(&app, 2);
	CU_ASSERT_TRUE(get(&app, 1).is_good);
	CU_ASSERT_FALSE(get(&app, 2).is_good);
	note_good(&app);
	CU_ASSERT_FALSE(get(&app, 1).is_good);
	CU_ASSERT_TRUE(get(&app, 2).is_good);
}

static void another_orgs_name_for_its_token_is_not_shown(void)
{
	uint8_t hash[SECRET_HASH_BYTES];
	struct id sys = fixture_token(NULL, "sys_admin", hash), app = new_app();
	struct call c = change_of(&app);

	c.change.config = "{\"v\":2}";
	c.change.token_id = sys;
	run(&c);
	CU_ASSERT_STRING_EQUAL(get(&app, 2).token_id.text, sys.text);
	CU_ASSERT_PTR_NULL(get(&app, 2).token_name);
}

static void at_most_so_many_are_kept(void)
{
	struct id app = new_app();

	for (int v = 2; v <= VERSIONS_KEPT + 20; v++) {
		configure(&app, v);
		if (v == 5)
			note_good(&app);
		CU_ASSERT_TRUE(count_of(&app) <= VERSIONS_KEPT);
	}
	/* The good one is the oldest that is left. */
	CU_ASSERT_EQUAL(count_of(&app), VERSIONS_KEPT);
	CU_ASSERT_TRUE(is_there(&app, 5) && get(&app, 5).is_good);
	CU_ASSERT_FALSE(is_there(&app, 4) || is_there(&app, 6) || is_there(&app, 21));
	CU_ASSERT_TRUE(is_there(&app, 22) && get(&app, VERSIONS_KEPT + 20).is_current);
	/* And goes when another is good. */
	note_good(&app);
	configure(&app, 0);
	CU_ASSERT_FALSE(is_there(&app, 5) || is_there(&app, 22));
	CU_ASSERT_EQUAL(count_of(&app), VERSIONS_KEPT - 1);
}

static CU_TestInfo cases[] = {
	CASE(a_new_app_has_version_1),
	CASE(a_change_of_what_copies_are_built_from_is_a_version),
	CASE(what_was_not_committed_is_none),
	CASE(a_rollback_says_what_it_went_back_to),
	CASE(the_newest_comes_first_page_by_page),
	CASE(what_was_last_ready_is_good),
	CASE(another_orgs_name_for_its_token_is_not_shown),
	CASE(at_most_so_many_are_kept),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"version", make_world, fixture_stop, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
