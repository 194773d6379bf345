/* SPDX-License-Identifier: Apache-2.0 */
/* core/instance against a real server: rows, derived states, and what a change asks of the pool. */
#include "core/instance.h"

#include <stdio.h>
#include <string.h>

#include "core/access.h"
#include "core/operation.h"
#include "lib/arena.h"
#include "tests/unit/harness.h"
#include "tests/unit/sql_fixture.h"

static struct err err;
static struct id w1;

static int make_world(void)
{
	(void)fixture_start();
	w1 = fixture_worker("w1");
	return 0;
}

static struct instance get(const struct id *app)
{
	enum problem problem = PROBLEM_INTERNAL;
	struct instance instance = {0};

	CU_ASSERT_TRUE_FATAL(instance_get(fx.db, fx.mem, app, &instance, &problem, &err));
	CU_ASSERT_EQUAL_FATAL(problem, PROBLEM_NONE);
	return instance;
}

/* --- creating --- */

static struct instance new_app(const struct id *org, const char *name)
{
	struct instance i = {.instance_id = id_new(),
			     .org_id = *org,
			     .name = name,
			     .framework_type = "echo",
			     .mode = "single",
			     .tier = TIER_DEMAND,
			     .replicas = 2,
			     .ttl_seconds = 90,
			     .config = "{\"prefix\":\"ü\"}",
			     .active_plugin_ids = "[]"};

	instance_config_hash(i.framework_type, i.mode, i.config, i.active_plugin_ids, i.config_hash);
	return i;
}

struct creation {
	const struct instance *instance;
	struct id token_id;
	enum problem problem;
};

static bool create_body(struct db *db, void *closure, struct err *e)
{
	struct creation *c = closure;

	return instance_create(db, c->instance, &c->token_id, &c->problem, e);
}

static enum problem create(const struct instance *instance)
{
	struct creation c = {.instance = instance, .problem = PROBLEM_INTERNAL};

	CU_ASSERT_TRUE(db_transaction(fx.db, create_body, &c, &err));
	return c.problem;
}

static void what_was_created_is_read_back(void)
{
	struct id org = fixture_org();
	struct instance made = new_app(&org, "Bücher"), i;

	CU_ASSERT_EQUAL(create(&made), PROBLEM_NONE);
	i = get(&made.instance_id);
	CU_ASSERT_STRING_EQUAL(i.name, "Bücher");
	CU_ASSERT_STRING_EQUAL(i.config, made.config);
	CU_ASSERT_STRING_EQUAL(i.config_hash, made.config_hash);
	CU_ASSERT_EQUAL(i.replicas, 2);
	CU_ASSERT_EQUAL(i.ttl_seconds, 90);
	CU_ASSERT_EQUAL(i.generation, 1);
	CU_ASSERT_EQUAL(i.desired_state, DESIRED_UNLOADED);
	CU_ASSERT_EQUAL(i.state, APP_UNLOADED);
	CU_ASSERT_PTR_NULL(i.state_reason);
	CU_ASSERT_FALSE(i.is_deleted);
}

static void a_large_config_survives(void)
{
	enum { LEN = 1 << 20 };
	struct id org = fixture_org();
	struct instance made = new_app(&org, "large"), *list;
	char *text = arena_alloc(fx.mem, LEN + 1);
	unsigned count;

	memset(text, ' ', LEN);
	memcpy(text, "{\"a\":1", 6);
	text[LEN - 1] = '}';
	made.config = text;
	CU_ASSERT_EQUAL(create(&made), PROBLEM_NONE);
	CU_ASSERT_EQUAL(strcmp(get(&made.instance_id).config, text), 0);
	CU_ASSERT_TRUE_FATAL(instance_list(fx.db, fx.mem, &org, NULL, 10, &list, &count, &err));
	CU_ASSERT_EQUAL_FATAL(count, 1);
	CU_ASSERT_PTR_NULL(list[0].config);
}

static void a_name_is_unique_among_the_living_apps_of_an_org(void)
{
	struct id org = fixture_org(), other = fixture_org();
	struct instance a = new_app(&org, "same"), b = new_app(&org, "same"), c = new_app(&other, "same");

	CU_ASSERT_EQUAL(create(&a), PROBLEM_NONE);
	CU_ASSERT_EQUAL(create(&b), PROBLEM_NAME_TAKEN);
	CU_ASSERT_EQUAL(create(&c), PROBLEM_NONE);
	fixture_run(fx.db, "UPDATE orchestrator_instances SET deleted_at = NOW(3) WHERE instance_id = '%s'",
		    a.instance_id.text);
	CU_ASSERT_EQUAL(create(&b), PROBLEM_NONE);
}

static void an_org_has_room_for_its_quota_of_living_apps(void)
{
	struct id org = fixture_org(), unknown = id_new();
	struct instance a = new_app(&org, "a"), b = new_app(&org, "b"), c = new_app(&org, "c"),
			lost = new_app(&unknown, "x");

	fixture_run(fx.db, "UPDATE organizations SET quota_instances = 2 WHERE org_id = '%s'", org.text);
	CU_ASSERT_EQUAL(create(&a), PROBLEM_NONE);
	CU_ASSERT_EQUAL(create(&b), PROBLEM_NONE);
	CU_ASSERT_EQUAL(create(&c), PROBLEM_QUOTA_INSTANCES);
	fixture_run(fx.db, "UPDATE orchestrator_instances SET deleted_at = NOW(3) WHERE instance_id = '%s'",
		    a.instance_id.text);
	CU_ASSERT_EQUAL(create(&c), PROBLEM_NONE);
	fixture_run(fx.db, "UPDATE organizations SET status = 'suspended' WHERE org_id = '%s'", org.text);
	CU_ASSERT_EQUAL(create(&c), PROBLEM_ORG_SUSPENDED);
	CU_ASSERT_EQUAL(create(&lost), PROBLEM_ORG_NOT_FOUND);
}

static void the_hash_keeps_its_parts_apart(void)
{
	char a[SECRET_HASH_HEX_SIZE], b[SECRET_HASH_HEX_SIZE];

	instance_config_hash("echo", "single", "{}", "[]", a);
	instance_config_hash("echo", "single", "{}", "[]", b);
	CU_ASSERT_STRING_EQUAL(a, b);
	instance_config_hash("echos", "ingle", "{}", "[]", b);
	CU_ASSERT_STRING_NOT_EQUAL(a, b);
	instance_config_hash("echo", "single", "{}", "[1]", b);
	CU_ASSERT_STRING_NOT_EQUAL(a, b);
}

/* --- reading --- */

static void an_unknown_app_is_a_problem(void)
{
	struct id unknown = id_new();
	struct instance i;
	enum problem problem = PROBLEM_NONE;

	CU_ASSERT_TRUE(instance_get(fx.db, fx.mem, &unknown, &i, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_INSTANCE_NOT_FOUND);
}

static void pages_show_the_living_apps_of_one_org(void)
{
	struct id org = fixture_org(), other = fixture_org(), apps[3], gone;
	struct instance *list;
	unsigned count;

	(void)fixture_app(&other, "hot", "loaded");
	for (size_t i = 0; i < ARRAY_LEN(apps); i++)
		apps[i] = fixture_app(&org, "hot", "loaded");
	gone = fixture_app(&org, "hot", "loaded");
	fixture_run(fx.db, "UPDATE orchestrator_instances SET deleted_at = NOW(3) WHERE instance_id = '%s'", gone.text);
	fixture_place(&apps[1], "w1", &w1, "ready", 1, NULL);
	CU_ASSERT_TRUE_FATAL(instance_list(fx.db, fx.mem, &org, NULL, 2, &list, &count, &err));
	CU_ASSERT_EQUAL_FATAL(count, 2);
	CU_ASSERT_TRUE(id_equal(&list[0].instance_id, &apps[0]));
	CU_ASSERT_EQUAL(list[0].state, APP_UNLOADED);
	CU_ASSERT_EQUAL(list[1].state, APP_READY);
	CU_ASSERT_STRING_EQUAL(list[0].config, "{}");
	CU_ASSERT_TRUE_FATAL(instance_list(fx.db, fx.mem, &org, &apps[1], 2, &list, &count, &err));
	CU_ASSERT_EQUAL_FATAL(count, 1);
	CU_ASSERT_TRUE(id_equal(&list[0].instance_id, &apps[2]));
}

static void the_best_placement_gives_the_state(void)
{
	static const struct {
		int line;
		const char *on_w1, *on_w2, *reason, *failure;
		enum app_state state;
		const char *state_reason;
	} rows[] = {
		{__LINE__, NULL, NULL, NULL, NULL, APP_UNLOADED, NULL},
		{__LINE__, NULL, NULL, NULL, "poison", APP_FAILED, "poison"},
		{__LINE__, "ready", "loading", NULL, NULL, APP_READY, NULL},
		{__LINE__, "loading", "draining", NULL, NULL, APP_LOADING, NULL},
		{__LINE__, "draining", "failed", NULL, NULL, APP_DRAINING, NULL},
		{__LINE__, "failed", NULL, "no key", "older", APP_FAILED, "no key"},
		{__LINE__, "ready", NULL, "running_previous_version", "no key", APP_READY, "running_previous_version"},
		{__LINE__, "ready", NULL, NULL, "no key", APP_READY, "no key"},
		{__LINE__, "ready", "ready", "running_previous_version", NULL, APP_READY, NULL},
	};
	struct id org = fixture_org(), w2 = fixture_worker("w2");

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct id app = fixture_app(&org, "hot", "loaded");
		struct instance got;

		if (rows[i].on_w1)
			fixture_place(&app, "w1", &w1, rows[i].on_w1, 1, rows[i].reason);
		if (rows[i].on_w2)
			fixture_place(&app, "w2", &w2, rows[i].on_w2, 1, NULL);
		if (rows[i].failure)
			fixture_run(fx.db,
				    "UPDATE orchestrator_instances SET failure_reason = '%s' WHERE instance_id = '%s'",
				    rows[i].failure, app.text);
		got = get(&app);
		CHECK_ROW(&rows[i], got.state == rows[i].state);
		CHECK_ROW(&rows[i], rows[i].state_reason
					    ? got.state_reason && strcmp(got.state_reason, rows[i].state_reason) == 0
					    : !got.state_reason);
	}
}

static void a_dead_workers_placement_is_no_state(void)
{
	struct id org = fixture_org(), app = fixture_app(&org, "hot", "loaded"), old = id_new();

	fixture_place(&app, "w1", &old, "ready", 1, NULL);
	CU_ASSERT_EQUAL(get(&app).state, APP_UNLOADED);
}

/* --- changing --- */

struct application {
	struct id org, app, operation_id;
	uint8_t hash[SECRET_HASH_BYTES];
	struct instance_change change;
	struct instance_changed changed;
	enum problem problem;
};

static bool apply_body(struct db *db, void *closure, struct err *e)
{
	struct application *a = closure;
	struct access_request q = {.permission = PERM_INSTANCES_WRITE,
				   .has_org = true,
				   .org_id = a->org,
				   .has_instance = true,
				   .instance_id = a->app,
				   .lock_org = true,
				   .lock_instance = true};
	struct access access;

	memcpy(q.token_hash, a->hash, sizeof(a->hash));
	return access_check(db, fx.mem, &q, &access, &a->problem, e) &&
	       instance_apply(db, &access.instance, &a->change, &a->operation_id, "r-9", &a->changed, &a->problem, e);
}

static struct application apply(const struct id *org, const struct id *app, struct instance_change change)
{
	struct application a = {
		.org = *org, .app = *app, .operation_id = id_new(), .change = change, .problem = PROBLEM_INTERNAL};

	(void)fixture_token(org, "org_admin", a.hash);
	if (!db_transaction(fx.db, apply_body, &a, &err))
		CU_FAIL(err.text);
	return a;
}

#define LEAVE .tier = -1, .ttl_seconds = -1, .replicas = -1, .status = -1
static const struct instance_change no_change = {LEAVE};
static const struct instance_change same = {.tier = TIER_HOT, .ttl_seconds = 0, .replicas = 1, .status = STATUS_ACTIVE};
static const struct instance_change config = {LEAVE, .config = "{\"a\":1}"};
static const struct instance_change mode = {LEAVE, .mode = "other"};
static const struct instance_change plugins = {LEAVE, .active_plugin_ids = "[\"x\"]"};
static const struct instance_change removal = {LEAVE, .is_delete = true};
static const struct instance_change to_hot = {.tier = TIER_HOT, .ttl_seconds = -1, .replicas = -1, .status = -1};
static const struct instance_change to_demand = {.tier = TIER_DEMAND, .ttl_seconds = -1, .replicas = -1, .status = -1};
static const struct instance_change three = {.tier = -1, .ttl_seconds = -1, .replicas = 3, .status = -1};
static const struct instance_change ttl = {.tier = -1, .ttl_seconds = 7, .replicas = -1, .status = -1};
static const struct instance_change off = {.tier = -1, .ttl_seconds = -1, .replicas = -1, .status = STATUS_SUSPENDED};
static const struct instance_change on = {.tier = -1, .ttl_seconds = -1, .replicas = -1, .status = STATUS_ACTIVE};

enum subject { NO_OP, ON_LOADS, ON_CHANGE };

/* What a change of a row makes, and what it asks of the pool. */
static const struct effect {
	int line;
	const char *tier, *desired, *status; /* before */
	const char *placed;                  /* a copy at generation 1 */
	const struct instance_change *change;
	bool raises, dooms;
	enum subject subject;
	enum action action;
} effects[] = {
	{__LINE__, "demand", "unloaded", "active", NULL, &no_change, false, false, NO_OP, 0},
	{__LINE__, "hot", "loaded", "active", "ready", &same, false, false, NO_OP, 0},
	{__LINE__, "demand", "unloaded", "active", NULL, &config, true, false, NO_OP, 0},
	{__LINE__, "demand", "unloaded", "active", "ready", &config, true, false, ON_CHANGE, ACTION_RELOAD},
	{__LINE__, "demand", "unloaded", "active", "draining", &config, true, false, NO_OP, 0},
	{__LINE__, "demand", "loaded", "active", "loading", &mode, true, false, ON_CHANGE, ACTION_RELOAD},
	{__LINE__, "hot", "loaded", "active", NULL, &config, true, false, ON_LOADS, ACTION_RELOAD},
	{__LINE__, "hot", "unloaded", "active", NULL, &plugins, true, false, NO_OP, 0},
	{__LINE__, "demand", "loaded", "active", "ready", &to_hot, true, false, ON_LOADS, ACTION_LOAD},
	{__LINE__, "demand", "loaded", "active", NULL, &to_hot, true, false, ON_LOADS, ACTION_LOAD},
	{__LINE__, "demand", "unloaded", "active", NULL, &to_hot, true, false, NO_OP, 0},
	{__LINE__, "hot", "loaded", "active", NULL, &to_demand, true, false, NO_OP, 0},
	{__LINE__, "hot", "loaded", "active", "ready", &three, true, false, ON_LOADS, ACTION_LOAD},
	{__LINE__, "demand", "unloaded", "active", "ready", &ttl, true, false, ON_LOADS, ACTION_LOAD},
	{__LINE__, "hot", "loaded", "active", "ready", &off, true, true, ON_CHANGE, ACTION_UNLOAD},
	{__LINE__, "hot", "loaded", "active", "failed", &off, true, true, NO_OP, 0},
	{__LINE__, "hot", "loaded", "suspended", "draining", &config, true, false, NO_OP, 0},
	{__LINE__, "hot", "loaded", "suspended", "draining", &on, true, false, ON_LOADS, ACTION_LOAD},
	{__LINE__, "demand", "loaded", "suspended", NULL, &on, true, false, NO_OP, 0},
	{__LINE__, "hot", "loaded", "active", "draining", &removal, true, true, ON_CHANGE, ACTION_UNLOAD},
	{__LINE__, "hot", "loaded", "active", NULL, &removal, true, true, NO_OP, 0},
};

static void a_change_asks_of_the_pool_what_it_needs(void)
{
	static const char number[] = "SELECT COUNT(*) FROM operations WHERE instance_id = ?";
	static const char doomed[] =
		"SELECT unload_generation = generation FROM orchestrator_instances WHERE instance_id = ?";

	for (size_t i = 0; i < ARRAY_LEN(effects); i++) {
		const struct effect *row = &effects[i];
		struct id org = fixture_org(), app = fixture_app(&org, row->tier, row->desired);
		struct application a;

		fixture_run(fx.db, "UPDATE orchestrator_instances SET status = '%s' WHERE instance_id = '%s'",
			    row->status, app.text);
		if (row->placed)
			fixture_place(&app, "w1", &w1, row->placed, 1, NULL);
		a = apply(&org, &app, *row->change);
		CHECK_ROW(row, a.problem == PROBLEM_NONE);
		CHECK_ROW(row, a.changed.is_changed == row->raises);
		CHECK_ROW(row, a.changed.generation == (row->raises ? 2 : 1));
		CHECK_ROW(row, get(&app).generation == a.changed.generation);
		CHECK_ROW(row, fixture_number(doomed, &app) == row->dooms);
		CHECK_ROW(row, id_is_set(&a.changed.operation_id) == (row->subject != NO_OP));
		CHECK_ROW(row, fixture_number(number, &app) == (row->subject != NO_OP));
		CHECK_ROW(row, row->subject == NO_OP || a.changed.action == row->action);
		CHECK_ROW(row, a.changed.use_loads == (row->subject == ON_LOADS));
	}
}

/* Else nobody would bring it back after the loss of its worker. */
static void what_a_chat_loaded_is_wanted_once_it_is_made_hot(void)
{
	struct id org = fixture_org(), held = fixture_app(&org, "demand", "unloaded");
	struct id idle = fixture_app(&org, "demand", "unloaded");

	fixture_place(&held, "w1", &w1, "ready", 1, NULL);
	(void)apply(&org, &held, to_hot);
	(void)apply(&org, &idle, to_hot);
	CU_ASSERT_EQUAL(get(&held).desired_state, DESIRED_LOADED);
	CU_ASSERT_EQUAL(get(&idle).desired_state, DESIRED_UNLOADED);
}

static void the_operation_says_what_happened(void)
{
	struct id org = fixture_org(), app = fixture_app(&org, "hot", "loaded");
	struct instance_change change = no_change;
	struct operation op = {0};
	struct application a;
	enum problem problem;

	fixture_place(&app, "w1", &w1, "ready", 1, NULL);
	change.config = "{\"prefix\":\"x\"}";
	a = apply(&org, &app, change);
	CU_ASSERT_TRUE_FATAL(operation_get(fx.db, fx.mem, &org, &a.changed.operation_id, &op, &problem, &err));
	CU_ASSERT_EQUAL(op.source, SOURCE_CONFIG_CHANGE);
	CU_ASSERT_EQUAL(op.action, ACTION_RELOAD);
	CU_ASSERT_EQUAL(op.generation, 2);
	CU_ASSERT_EQUAL(op.tier, TIER_HOT);
	CU_ASSERT_STRING_EQUAL(op.request_id, "r-9");
	CU_ASSERT_STRING_EQUAL(get(&app).config, "{\"prefix\":\"x\"}");
	change = no_change;
	change.status = STATUS_SUSPENDED;
	a = apply(&org, &app, change);
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&op.operation_id), "superseded");
	CU_ASSERT_TRUE_FATAL(operation_get(fx.db, fx.mem, &org, &a.changed.operation_id, &op, &problem, &err));
	CU_ASSERT_EQUAL(op.source, SOURCE_STATUS_CHANGE);
	CU_ASSERT_EQUAL(op.action, ACTION_UNLOAD);
}

static void a_name_alone_does_not_concern_the_pool(void)
{
	struct id org = fixture_org(), app = fixture_app(&org, "hot", "loaded"),
		  taken = fixture_app(&org, "hot", "loaded");
	struct instance_change change = no_change;
	struct application a;

	change.name = "renamed";
	a = apply(&org, &app, change);
	CU_ASSERT_TRUE(a.changed.is_changed);
	CU_ASSERT_EQUAL(a.changed.generation, 1);
	CU_ASSERT_STRING_EQUAL(get(&app).name, "renamed");
	change.name = taken.text;
	a = apply(&org, &app, change);
	CU_ASSERT_EQUAL(a.problem, PROBLEM_NAME_TAKEN);
	CU_ASSERT_STRING_EQUAL(get(&app).name, "renamed");
}

static void a_change_forgets_failures(void)
{
	struct id org = fixture_org(), app = fixture_app(&org, "demand", "loaded");
	struct instance_change change = no_change;

	fixture_run(fx.db,
		    "UPDATE orchestrator_instances SET attempts = 1, failures = 2, failure_reason = 'x', "
		    "next_attempt_at = NOW(3) WHERE instance_id = '%s'",
		    app.text);
	change.replicas = 2;
	(void)apply(&org, &app, change);
	CU_ASSERT_EQUAL(
		fixture_number(
			"SELECT attempts = 0 AND failures = 0 AND failure_reason IS NULL AND next_attempt_at IS NULL "
			"FROM orchestrator_instances WHERE instance_id = ?",
			&app),
		1);
}

static void the_hash_follows_mode_config_and_plugins(void)
{
	struct id org = fixture_org();
	struct instance made = new_app(&org, "hashed"), got;
	struct instance_change change = no_change;
	char expected[SECRET_HASH_HEX_SIZE];

	CU_ASSERT_EQUAL(create(&made), PROBLEM_NONE);
	change.mode = "multi";
	(void)apply(&org, &made.instance_id, change);
	got = get(&made.instance_id);
	instance_config_hash("echo", "multi", made.config, "[]", expected);
	CU_ASSERT_STRING_EQUAL(got.config_hash, expected);
	CU_ASSERT_STRING_EQUAL(got.config, made.config);
	change.mode = "multi";
	CU_ASSERT_FALSE(apply(&org, &made.instance_id, change).changed.is_changed);
}

static void a_ttl_of_nothing_goes_back_to_the_orgs(void)
{
	struct id org = fixture_org(), app = fixture_app(&org, "demand", "unloaded");
	struct instance_change change = no_change;

	change.ttl_seconds = 40;
	(void)apply(&org, &app, change);
	CU_ASSERT_EQUAL(get(&app).ttl_seconds, 40);
	change.ttl_seconds = 0;
	(void)apply(&org, &app, change);
	CU_ASSERT_EQUAL(get(&app).ttl_seconds, -1);
}

static void one_more_hot_app_needs_room(void)
{
	static const char quota_one[] = "UPDATE organizations SET quota_hot = 1 WHERE org_id = '%s'";
	struct id org = fixture_org(), first = fixture_app(&org, "demand", "loaded"),
		  second = fixture_app(&org, "demand", "loaded");
	struct id idle = fixture_app(&org, "demand", "unloaded"), asleep = fixture_app(&org, "hot", "loaded");

	fixture_run(fx.db, quota_one, org.text);
	fixture_run(fx.db, "UPDATE orchestrator_instances SET status = 'suspended' WHERE instance_id = '%s'",
		    asleep.text);
	CU_ASSERT_EQUAL(apply(&org, &first, to_hot).problem, PROBLEM_NONE);
	CU_ASSERT_EQUAL(apply(&org, &second, to_hot).problem, PROBLEM_QUOTA_HOT);
	CU_ASSERT_EQUAL(get(&second).tier, TIER_DEMAND);
	CU_ASSERT_EQUAL(apply(&org, &asleep, on).problem, PROBLEM_QUOTA_HOT);
	CU_ASSERT_EQUAL(apply(&org, &first, three).problem, PROBLEM_NONE);
	/* It is not held, so it may become one that is hot once it is loaded. */
	CU_ASSERT_EQUAL(apply(&org, &idle, to_hot).problem, PROBLEM_NONE);
	fixture_place(&second, "w1", &w1, "ready", 1, NULL);
	fixture_run(fx.db, "UPDATE orchestrator_instances SET desired_state = 'unloaded' WHERE instance_id = '%s'",
		    second.text);
	CU_ASSERT_EQUAL(apply(&org, &second, to_hot).problem, PROBLEM_QUOTA_HOT);
}

static void a_doomed_copy_is_not_reloaded(void)
{
	struct id org = fixture_org(), app = fixture_app(&org, "demand", "unloaded"), unload;
	struct instance_change change = no_change;

	fixture_place(&app, "w1", &w1, "ready", 1, NULL);
	fixture_run(fx.db,
		    "UPDATE orchestrator_instances SET generation = 2, unload_generation = 2 WHERE instance_id = '%s'",
		    app.text);
	unload = fixture_operation(&app, "unload", 2);
	change.config = "{\"a\":2}";
	CU_ASSERT_STRING_EQUAL(apply(&org, &app, change).changed.operation_id.text, "");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&unload), "accepted");
}

static void an_app_of_a_suspended_org_asks_nothing_of_the_pool(void)
{
	struct id org = fixture_org(), app = fixture_app(&org, "hot", "loaded");
	struct instance_change change = no_change;

	fixture_run(fx.db, "UPDATE organizations SET status = 'suspended' WHERE org_id = '%s'", org.text);
	change.config = "{\"a\":2}";
	CU_ASSERT_STRING_EQUAL(apply(&org, &app, change).changed.operation_id.text, "");
	CU_ASSERT_EQUAL(get(&app).generation, 2);
}

static CU_TestInfo cases[] = {
	CASE(what_was_created_is_read_back),
	CASE(a_large_config_survives),
	CASE(a_name_is_unique_among_the_living_apps_of_an_org),
	CASE(an_org_has_room_for_its_quota_of_living_apps),
	CASE(the_hash_keeps_its_parts_apart),
	CASE(an_unknown_app_is_a_problem),
	CASE(pages_show_the_living_apps_of_one_org),
	CASE(the_best_placement_gives_the_state),
	CASE(a_dead_workers_placement_is_no_state),
	CASE(a_change_asks_of_the_pool_what_it_needs),
	CASE(what_a_chat_loaded_is_wanted_once_it_is_made_hot),
	CASE(the_operation_says_what_happened),
	CASE(a_name_alone_does_not_concern_the_pool),
	CASE(a_change_forgets_failures),
	CASE(the_hash_follows_mode_config_and_plugins),
	CASE(a_ttl_of_nothing_goes_back_to_the_orgs),
	CASE(one_more_hot_app_needs_room),
	CASE(a_doomed_copy_is_not_reloaded),
	CASE(an_app_of_a_suspended_org_asks_nothing_of_the_pool),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"instance", make_world, fixture_stop, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
