/* SPDX-License-Identifier: Apache-2.0 */
/* core/llm_config against a real server: its rows, what a change asks of the pool, and what a claim hands to a build.
 */
#include "core/llm_config.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/instance.h"
#include "core/keyring.h"
#include "core/operation.h"
#include "core/sealed_value.h"
#include "core/sealing_key.h"
#include "lib/arena.h"
#include "tests/fake/servers.h"
#include "tests/unit/harness.h"
#include "tests/unit/placement_one.h"
#include "tests/unit/sql_fixture.h"

#define KEY "sk-0123456789abcdef-wxyz"
#define URL "https://api.example.com/v1"

static struct err err;
static struct keyring *ring;
static struct id org;
static struct worker_identity w1;

/* Adds a key to the text and a row for it. */
static bool add_key(char **text, const char *key_id)
{
	struct keyring_key key = {.key_id = ""};
	enum sealing_key_state state;
	struct secret_key fresh;
	enum problem problem;
	char *longer;

	secret_key_new(&fresh);
	secret_key_fingerprint(&fresh, key.fingerprint);
	(void)snprintf(key.key_id, sizeof(key.key_id), "%s", key_id);
	if (!keyring_text_add(*text, key_id, &fresh, &longer, &err))
		return false;
	free(*text);
	*text = longer;
	return sealing_key_add(fx.db, &key, &state, &problem, &err);
}

/* k1, which is the current one, and k2. */
static bool write_ring(const char *path)
{
	char *text = NULL;
	bool ok = add_key(&text, "k1") && add_key(&text, "k2");
	FILE *f = fopen(path, "w");

	ok = ok && f && fputs(text, f) >= 0 && fclose(f) == 0 && chmod(path, 0600) == 0;
	free(text);
	return ok;
}

static int start(void)
{
	char path[256];

	(void)fixture_start();
	(void)snprintf(path, sizeof(path), "%s/keys", server_dir_make());
	ring = keyring_new(path);
	return write_ring(path) ? 0 : 1;
}

static int stop(void)
{
	keyring_free(&ring);
	return fixture_stop();
}

static void set_up(void)
{
	fixture_run(fx.db, "DELETE FROM placements; DELETE FROM workers");
	org = fixture_org();
	(void)snprintf(w1.worker_id, sizeof(w1.worker_id), "w1");
	w1.incarnation = w1.process_id = fixture_worker("w1");
	err_clear(&err);
}

/* --- the calls, each in its transaction, which rolls back on a problem --- */

static const struct llm_config_change no_change = {.provider = -1};

struct call {
	struct id org, id;
	struct llm_config_change change;
	struct llm_config_changed changed;
	enum problem problem;
};

static bool end(const struct call *c, struct err *e)
{
	return c->problem == PROBLEM_NONE || err_set(e, ERR_INPUT, "refused");
}

static bool create_body(struct db *db, void *closure, struct err *e)
{
	struct call *c = closure;

	return llm_config_create(db, ring, &c->id, &c->org, &c->change, &c->problem, e) && end(c, e);
}

static bool change_body(struct db *db, void *closure, struct err *e)
{
	struct call *c = closure;

	return llm_config_change(db, fx.mem, ring, &c->org, &c->id, &c->change, "req-1", &c->changed, &c->problem, e) &&
	       end(c, e);
}

static bool delete_body(struct db *db, void *closure, struct err *e)
{
	struct call *c = closure;

	return llm_config_delete(db, &c->org, &c->id, &c->problem, e) && end(c, e);
}

static enum problem run(db_body body, struct call *c)
{
	c->problem = PROBLEM_NONE;
	bool ok = db_transaction(fx.db, body, c, &err);

	CU_ASSERT_EQUAL(ok, c->problem == PROBLEM_NONE);
	return c->problem;
}

static struct call new_values(const struct id *of, const char *name)
{
	return (struct call){
		.org = *of,
		.id = id_new(),
		.change =
			{
				.name = name,
				.provider = LLM_OPENAI,
				.base_url = URL "/",
				.defaults = "{\"temperature\":0}",
				.key_step = LLM_SECRET_SET,
				.key = KEY,
				.key_len = strlen(KEY),
			},
	};
}

/* With a key, of that org. */
static struct id made_in(const struct id *of)
{
	struct id name = id_new();
	struct call c = new_values(of, name.text);

	CU_ASSERT_EQUAL_FATAL(run(create_body, &c), PROBLEM_NONE);
	return c.id;
}

static struct llm_config_view get(const struct id *id)
{
	enum problem problem = PROBLEM_INTERNAL;
	struct llm_config_view view = {0};

	CU_ASSERT_TRUE_FATAL(llm_config_get(fx.db, fx.mem, &org, id, &view, &problem, &err));
	CU_ASSERT_EQUAL_FATAL(problem, PROBLEM_NONE);
	return view;
}

static struct llm_config_changed changed; /* of the last change */

static enum problem change(const struct id *id, struct llm_config_change what)
{
	struct call c = {.org = org, .id = *id, .change = what};
	enum problem problem = run(change_body, &c);

	changed = c.changed;
	return problem;
}

static int64_t secrets_of(const struct id *id)
{
	return fixture_number("SELECT COUNT(*) FROM sealed_values WHERE owner_id = ?", id);
}

static int64_t generations_of(const struct id *id)
{
	return fixture_number("SELECT COUNT(*) FROM llm_config_generations WHERE llm_config_id = ?", id);
}

static void the_version_hash_tells_llm_configs_and_generations_apart(void)
{
	const char *config = "0000000000000000000000000000000000000000000000000000000000000000";
	char plain[SECRET_HASH_HEX_SIZE], a[SECRET_HASH_HEX_SIZE], b[SECRET_HASH_HEX_SIZE];
	const struct id none = {""}, one = id_new(), two = id_new();

	llm_version_hash(config, &none, 0, plain);
	CU_ASSERT_STRING_EQUAL(plain, config);
	llm_version_hash(config, &one, 1, a);
	llm_version_hash(config, &one, 1, b);
	CU_ASSERT_STRING_EQUAL(a, b);
	CU_ASSERT_STRING_NOT_EQUAL(a, plain);
	llm_version_hash(config, &one, 11, b);
	CU_ASSERT_STRING_NOT_EQUAL(a, b);
	llm_version_hash(config, &two, 1, b);
	CU_ASSERT_STRING_NOT_EQUAL(a, b);
}

/* --- rows --- */

static void what_was_created_is_read_back_without_its_key(void)
{
	struct call c = new_values(&org, "main");
	struct llm_config_view view;

	c.change.headers_step = LLM_SECRET_SET;
	c.change.headers = "{\"X-Team\":\"seven\"}";
	c.change.header_names = "[\"X-Team\"]";
	CU_ASSERT_EQUAL(run(create_body, &c), PROBLEM_NONE);
	view = get(&c.id);
	CU_ASSERT_STRING_EQUAL(view.name, "main");
	CU_ASSERT_EQUAL(view.generation, 1);
	CU_ASSERT_EQUAL(view.provider, LLM_OPENAI);
	CU_ASSERT_STRING_EQUAL(view.base_url, URL);
	CU_ASSERT_TRUE(view.has_key);
	CU_ASSERT_STRING_EQUAL(view.key_hint, "wxyz");
	CU_ASSERT_STRING_EQUAL(view.header_names, "[\"X-Team\"]");
	CU_ASSERT_STRING_EQUAL(view.defaults, "{\"temperature\":0}");
	CU_ASSERT_EQUAL(view.used_by, 0);
	CU_ASSERT_EQUAL(strlen(view.created_at), strlen("2026-01-02T03:04:05.678Z"));
	CU_ASSERT_EQUAL(secrets_of(&c.id), 2);
	CU_ASSERT_EQUAL(
		fixture_number("SELECT COUNT(*) FROM sealed_values WHERE sealed LIKE '%0123%' AND owner_id = ?", &c.id),
		0);
}

static void of_a_short_key_nothing_is_shown(void)
{
	struct call c = new_values(&org, "short");

	c.change.key = "123456789012345";
	c.change.key_len = 15;
	CU_ASSERT_EQUAL(run(create_body, &c), PROBLEM_NONE);
	CU_ASSERT_TRUE(get(&c.id).has_key);
	CU_ASSERT_PTR_NULL(get(&c.id).key_hint);
	c.change = no_change;
	c.change.key_step = LLM_SECRET_SET;
	c.change.key = "1234567890123456";
	c.change.key_len = 16;
	CU_ASSERT_EQUAL(run(change_body, &c), PROBLEM_NONE);
	CU_ASSERT_STRING_EQUAL(get(&c.id).key_hint, "3456");
}

static void a_name_is_given_once_in_an_org(void)
{
	struct id other = fixture_org();
	struct call a = new_values(&org, "twice"), b = new_values(&org, "twice"), c = new_values(&other, "twice");
	struct llm_config_change rename = no_change;

	CU_ASSERT_EQUAL(run(create_body, &a), PROBLEM_NONE);
	CU_ASSERT_EQUAL(run(create_body, &b), PROBLEM_NAME_TAKEN);
	CU_ASSERT_EQUAL(secrets_of(&b.id), 0);
	CU_ASSERT_EQUAL(run(create_body, &c), PROBLEM_NONE);
	struct id third = made_in(&org);
	rename.name = "twice";
	CU_ASSERT_EQUAL(change(&third, rename), PROBLEM_NAME_TAKEN);
}

static void an_org_has_so_many_and_no_more(void)
{
	struct id other = fixture_org(), last = id_new();
	struct call c = new_values(&org, "one more");

	fixture_run(fx.db,
		    "INSERT INTO llm_configs (llm_config_id, org_id, name, created_at, updated_at) "
		    "SELECT UUID(), '%s', CONCAT('llm ', seq), NOW(3), NOW(3) FROM seq_2_to_%d",
		    org.text, LLM_CONFIGS_MAX);
	last = made_in(&org);
	CU_ASSERT_EQUAL(run(create_body, &c), PROBLEM_QUOTA_LLM_CONFIGS);
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM llm_configs WHERE org_id = ?", &org), LLM_CONFIGS_MAX);
	(void)made_in(&other);
	struct call gone = {.org = org, .id = last};
	CU_ASSERT_EQUAL(run(delete_body, &gone), PROBLEM_NONE);
	CU_ASSERT_EQUAL(run(create_body, &c), PROBLEM_NONE);
}

static void another_orgs_is_not_there(void)
{
	struct id other = fixture_org(), id = made_in(&other);
	struct llm_config_view view, *views;
	struct call c = {.org = org, .id = id, .change = {.name = "mine", .provider = -1}};
	enum problem problem;
	unsigned count;

	CU_ASSERT_TRUE(llm_config_get(fx.db, fx.mem, &org, &id, &view, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_LLM_CONFIG_NOT_FOUND);
	CU_ASSERT_EQUAL(run(change_body, &c), PROBLEM_LLM_CONFIG_NOT_FOUND);
	CU_ASSERT_EQUAL(run(delete_body, &c), PROBLEM_LLM_CONFIG_NOT_FOUND);
	CU_ASSERT_TRUE(llm_config_list(fx.db, fx.mem, &org, NULL, 10, &views, &count, &err));
	CU_ASSERT_EQUAL(count, 0);
	CU_ASSERT_EQUAL(generations_of(&id), 1);
}

static void pages_show_all_of_an_org_once(void)
{
	struct id made[5], after = {""};
	struct llm_config_view *views;
	unsigned count, total = 0;

	for (unsigned i = 0; i < ARRAY_LEN(made); i++)
		made[i] = made_in(&org);
	do {
		CU_ASSERT_TRUE_FATAL(llm_config_list(fx.db, fx.mem, &org, &after, 2, &views, &count, &err));
		for (unsigned i = 0; i < count; i++) {
			CU_ASSERT_TRUE(id_equal(&views[i].llm_config_id, &made[total + i]));
			after = views[i].llm_config_id;
		}
		total += count;
	} while (count == 2);
	CU_ASSERT_EQUAL(total, ARRAY_LEN(made));
}

/* --- changes --- */

static void a_change_that_changes_nothing_writes_nothing(void)
{
	struct id id = made_in(&org);
	struct llm_config_view before = get(&id), after;
	struct llm_config_change same = {
		.name = before.name,
		.provider = LLM_OPENAI,
		.base_url = URL "//",
		.defaults = "{\"temperature\":0}",
		.headers_step = LLM_SECRET_REMOVE, /* there are none */
	};

	fixture_run(fx.db, "UPDATE llm_configs SET updated_at = '2020-01-01' WHERE llm_config_id = '%s'", id.text);
	CU_ASSERT_EQUAL(change(&id, same), PROBLEM_NONE);
	CU_ASSERT_EQUAL(change(&id, no_change), PROBLEM_NONE);
	after = get(&id);
	CU_ASSERT_EQUAL(after.generation, 1);
	CU_ASSERT_STRING_EQUAL(after.updated_at, "2020-01-01T00:00:00.000Z");
}

static void a_change_leaves_the_rest(void)
{
	struct id id = made_in(&org);
	struct llm_config_change what = no_change;
	struct llm_config_view view;

	what.base_url = "https://API.example.com:443/v2";
	CU_ASSERT_EQUAL(change(&id, what), PROBLEM_NONE);
	view = get(&id);
	CU_ASSERT_EQUAL(view.generation, 2);
	CU_ASSERT_STRING_EQUAL(view.base_url, "https://API.example.com:443/v2");
	CU_ASSERT_STRING_EQUAL(view.defaults, "{\"temperature\":0}");
	CU_ASSERT_STRING_EQUAL(view.key_hint, "wxyz");
	/* The same sealed key, which was not opened for it. */
	CU_ASSERT_EQUAL(fixture_number("SELECT generation FROM sealed_values WHERE owner_id = ?", &id), 1);
	what = no_change;
	what.key_step = LLM_SECRET_REMOVE;
	CU_ASSERT_EQUAL(change(&id, what), PROBLEM_NONE);
	view = get(&id);
	CU_ASSERT_EQUAL(view.generation, 3);
	CU_ASSERT_FALSE(view.has_key);
	CU_ASSERT_PTR_NULL(view.key_hint);
	CU_ASSERT_EQUAL(secrets_of(&id), 0);
	CU_ASSERT_EQUAL(generations_of(&id), 1);
}

/* What is given with the change, and what is said to be missing. */
static const struct {
	int line;
	int provider;
	const char *base_url;
	enum llm_secret_step key_step, headers_step;
	bool is_key_missing, are_headers_missing;
} moves[] = {
	{__LINE__, LLM_ANTHROPIC, NULL, LLM_SECRET_KEEP, LLM_SECRET_KEEP, true, true},
	{__LINE__, -1, "https://other.example.com/v1", LLM_SECRET_KEEP, LLM_SECRET_KEEP, true, true},
	{__LINE__, -1, "https://api.example.com.other.com/v1", LLM_SECRET_KEEP, LLM_SECRET_KEEP, true, true},
	{__LINE__, -1, "http://api.example.com/v1", LLM_SECRET_KEEP, LLM_SECRET_KEEP, true, true},
	{__LINE__, -1, "http://api.example.com:443/v1", LLM_SECRET_KEEP, LLM_SECRET_KEEP, true, true},
	{__LINE__, -1, "https://api.example.com:444/v1", LLM_SECRET_KEEP, LLM_SECRET_KEEP, true, true},
	{__LINE__, -1, "https://other.example.com/v1", LLM_SECRET_SET, LLM_SECRET_KEEP, false, true},
	{__LINE__, -1, "https://other.example.com/v1", LLM_SECRET_KEEP, LLM_SECRET_SET, true, false},
	{__LINE__, -1, "https://other.example.com/v1", LLM_SECRET_SET, LLM_SECRET_REMOVE, false, false},
	{__LINE__, LLM_ANTHROPIC, NULL, LLM_SECRET_REMOVE, LLM_SECRET_SET, false, false},
	{__LINE__, LLM_OPENAI, "https://API.example.com:443/other", LLM_SECRET_KEEP, LLM_SECRET_KEEP, false, false},
};

static struct id made_with_headers(const char *name)
{
	struct call c = new_values(&org, name);

	c.change.headers_step = LLM_SECRET_SET;
	c.change.headers = "{\"X-Team\":\"seven\"}";
	c.change.header_names = "[\"X-Team\"]";
	CU_ASSERT_EQUAL_FATAL(run(create_body, &c), PROBLEM_NONE);
	return c.id;
}

static void a_saved_secret_does_not_follow_to_another_place(void)
{
	for (size_t i = 0; i < ARRAY_LEN(moves); i++) {
		struct id id = made_with_headers(id_new().text);
		bool is_refused = moves[i].is_key_missing || moves[i].are_headers_missing;
		struct llm_config_change what = {
			.provider = moves[i].provider,
			.base_url = moves[i].base_url,
			.key_step = moves[i].key_step,
			.key = "another",
			.key_len = 7,
			.headers_step = moves[i].headers_step,
			.headers = "{\"X-Team\":\"eight\"}",
			.header_names = "[\"X-Team\"]",
		};

		CHECK_ROW(&moves[i], change(&id, what) == (is_refused ? PROBLEM_INVALID : PROBLEM_NONE));
		CHECK_ROW(&moves[i], changed.is_key_missing == moves[i].is_key_missing);
		CHECK_ROW(&moves[i], changed.are_headers_missing == moves[i].are_headers_missing);
		CHECK_ROW(&moves[i], get(&id).generation == (is_refused ? 1 : 2));
	}
}

static void without_a_secret_it_may_lead_anywhere(void)
{
	struct call c = new_values(&org, "open");
	struct llm_config_change what = no_change;

	c.change.key_step = LLM_SECRET_KEEP;
	CU_ASSERT_EQUAL(run(create_body, &c), PROBLEM_NONE);
	what.provider = LLM_ANTHROPIC;
	what.base_url = "https://other.example.com";
	CU_ASSERT_EQUAL(change(&c.id, what), PROBLEM_NONE);
	CU_ASSERT_EQUAL(get(&c.id).generation, 2);
}

static void a_new_name_is_no_new_version(void)
{
	struct id id = made_in(&org);
	struct llm_config_change what = no_change;

	what.name = "renamed";
	CU_ASSERT_EQUAL(change(&id, what), PROBLEM_NONE);
	CU_ASSERT_EQUAL(get(&id).generation, 1);
	CU_ASSERT_STRING_EQUAL(get(&id).name, "renamed");
}

/* --- Apps --- */

/* An App of the framework agent that uses it. */
static struct id app_with(const struct id *llm_config_id, const char *tier, const char *desired)
{
	struct id app = fixture_app(&org, tier, desired);

	fixture_run(fx.db,
		    "UPDATE orchestrator_instances SET framework_type = 'agent', llm_config_id = '%s' "
		    "WHERE instance_id = '%s'",
		    llm_config_id->text, app.text);
	return app;
}

static struct llm_config_change new_defaults(const char *defaults)
{
	struct llm_config_change what = no_change;

	what.defaults = defaults;
	return what;
}

static void exactly_the_apps_that_use_it_are_reloaded(void)
{
	struct id used = made_in(&org), unused = made_in(&org);

	fixture_run(
		fx.db,
		"INSERT INTO orchestrator_instances (instance_id, org_id, name, framework_type, mode, tier, "
		"desired_state, config, config_hash, llm_config_id, attempts, failures, next_attempt_at, "
		"failure_reason, created_at, updated_at) "
		"SELECT UUID(), '%s', CONCAT('a', seq), 'agent', 'single', 'hot', 'loaded', '{}', REPEAT('0', 64), "
		"IF(seq <= 10, '%s', '%s'), 1, 2, NOW(3) + INTERVAL 1 HOUR, 'x', NOW(3), NOW(3) FROM seq_1_to_1000; "
		"INSERT INTO placements (instance_id, worker_id, incarnation, org_id, tier, generation, state, "
		"placed_at, changed_at) SELECT instance_id, 'w1', '%s', org_id, tier, generation, 'ready', NOW(3), "
		"NOW(3) FROM orchestrator_instances WHERE org_id = '%s'",
		org.text, used.text, unused.text, w1.incarnation.text, org.text);
	CU_ASSERT_EQUAL(get(&used).used_by, 10);
	CU_ASSERT_EQUAL(change(&used, new_defaults("{}")), PROBLEM_NONE);
	CU_ASSERT_EQUAL(changed.apps, 10);
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM operations WHERE org_id = ?", &org), 10);
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(DISTINCT o.operation_id) FROM operations o JOIN "
				       "orchestrator_instances i USING (instance_id) WHERE o.action = 'reload' AND "
				       "o.source = 'config_change' AND o.state = 'accepted' AND o.generation = 2 AND "
				       "o.request_id = 'req-1' AND o.next_publish_at > UTC_TIMESTAMP(3) AND "
				       "i.llm_config_id = ?",
				       &used),
			10);
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM orchestrator_instances WHERE generation = 2 AND "
				       "attempts = 0 AND failures = 0 AND next_attempt_at IS NULL AND "
				       "failure_reason IS NULL AND llm_config_id = ?",
				       &used),
			10);
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM orchestrator_instances WHERE generation = 1 AND "
				       "failures = 2 AND llm_config_id = ?",
				       &unused),
			990);
}

static void the_990_others_are_the_same_for_their_workers(void)
{
	enum { COUNT = 100 };
	struct id used = made_in(&org), unused = made_in(&org), ids[COUNT];
	struct app_row before[COUNT], after[COUNT];

	for (unsigned i = 0; i < COUNT; i++)
		ids[i] = app_with(i % 10 == 0 ? &used : &unused, "hot", "loaded");
	CU_ASSERT_TRUE(placement_read(fx.db, ids, COUNT, before, &err));
	CU_ASSERT_EQUAL(change(&used, new_defaults("{}")), PROBLEM_NONE);
	CU_ASSERT_TRUE(placement_read(fx.db, ids, COUNT, after, &err));
	for (unsigned i = 0; i < COUNT; i++) {
		bool is_same =
			before[i].generation == after[i].generation && strcmp(before[i].hash, after[i].hash) == 0;

		CU_ASSERT_EQUAL(is_same, i % 10 != 0);
	}
	CU_ASSERT_STRING_NOT_EQUAL(before[0].hash, before[1].hash);
}

static void an_operation_is_made_where_it_is_needed(void)
{
	static const struct {
		int line;
		const char *tier, *desired, *set; /* of the App */
		const char *placed;               /* NULL: nothing is */
		bool is_wanted, is_held;
	} rows[] = {
		{__LINE__, "hot", "loaded", "status = 'active'", "ready", true, true},
		{__LINE__, "hot", "loaded", "status = 'active'", "loading", true, true},
		{__LINE__, "hot", "loaded", "status = 'active'", "failed", true, false},
		{__LINE__, "hot", "loaded", "status = 'active'", NULL, true, false},
		{__LINE__, "hot", "unloaded", "status = 'active'", NULL, false, false},
		{__LINE__, "demand", "loaded", "status = 'active'", "ready", true, true},
		{__LINE__, "demand", "loaded", "status = 'active'", "draining", false, false},
		{__LINE__, "demand", "unloaded", "status = 'active'", NULL, false, false},
		{__LINE__, "hot", "loaded", "status = 'suspended'", "ready", false, false},
		{__LINE__, "hot", "unloaded", "unload_generation = 2, generation = 2", "ready", false, false},
	};

	fixture_time_stop();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct id id = made_in(&org), app = app_with(&id, rows[i].tier, rows[i].desired);

		fixture_run(fx.db, "UPDATE orchestrator_instances SET %s WHERE instance_id = '%s'", rows[i].set,
			    app.text);
		if (rows[i].placed)
			fixture_place(&app, "w1", &w1.incarnation, rows[i].placed, 1, NULL);
		CHECK_ROW(&rows[i], change(&id, new_defaults("{}")) == PROBLEM_NONE);
		CHECK_ROW(&rows[i], fixture_number("SELECT COUNT(*) FROM operations WHERE instance_id = ?", &app) ==
					    rows[i].is_wanted);
		/* What nobody holds hears nothing of a change: it is to be published on hearth.load, soon. */
		CHECK_ROW(&rows[i], fixture_number("SELECT COUNT(*) FROM operations WHERE instance_id = ? AND "
						   "next_publish_at > UTC_TIMESTAMP(3) + INTERVAL 2 SECOND",
						   &app) == rows[i].is_held);
	}
	fixture_time_go_on();
}

static void a_suspended_org_gets_no_operation(void)
{
	struct id id = made_in(&org), app = app_with(&id, "hot", "loaded");

	fixture_run(fx.db, "UPDATE organizations SET status = 'suspended' WHERE org_id = '%s'", org.text);
	CU_ASSERT_EQUAL(change(&id, new_defaults("{}")), PROBLEM_NONE);
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM operations WHERE instance_id = ?", &app), 0);
}

static void an_open_unload_of_such_an_app_is_superseded(void)
{
	struct id id = made_in(&org), other = made_in(&org);
	struct id app = app_with(&id, "hot", "loaded"), idle = app_with(&id, "hot", "unloaded"),
		  stranger = app_with(&other, "hot", "loaded");
	struct id unload = fixture_operation(&app, "unload", 1), kept = fixture_operation(&idle, "unload", 1),
		  others = fixture_operation(&stranger, "unload", 1), load = fixture_operation(&app, "load", 1);

	CU_ASSERT_EQUAL(change(&id, new_defaults("{}")), PROBLEM_NONE);
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&unload), "superseded");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&load), "accepted");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&kept), "accepted");
	CU_ASSERT_STRING_EQUAL(fixture_operation_state(&others), "accepted");
}

static void ids_that_the_database_makes_are_as_ours(void)
{
	struct id id = made_in(&org), app = app_with(&id, "hot", "loaded"), ours = id_new(), made;

	CU_ASSERT_EQUAL(change(&id, new_defaults("{}")), PROBLEM_NONE);
	const char *text = fixture_text("SELECT operation_id FROM operations WHERE instance_id = ?", &app);
	struct id after = id_new();
	CU_ASSERT_TRUE(id_parse(text, strlen(text), &made));
	CU_ASSERT_EQUAL(made.text[14], '7');
	CU_ASSERT_PTR_NOT_NULL(strchr("89ab", made.text[19]));
	/* The first twelve digits are its time. */
	CU_ASSERT(strncmp(ours.text, made.text, 13) <= 0 && strncmp(made.text, after.text, 13) <= 0);
}

/* --- claims and good versions --- */

static struct app_row claimed(const struct id *app)
{
	struct claim c = {0};

	CU_ASSERT_EQUAL_FATAL(one_claim(fx.db, fx.mem, &w1, app, 0, &c, &err), CLAIM_BUILD);
	return c.row;
}

static bool opens(const struct llm_config *llm, const char *expected)
{
	char *text = NULL;
	size_t len = 0;
	bool ok = llm_config_open_key(ring, llm, &text, &len, &err) && text && strcmp(text, expected) == 0;

	secret_free(&text, len);
	return ok;
}

static void a_claim_hands_the_llm_config_to_the_build(void)
{
	struct id id = made_with_headers("claimed"), app = app_with(&id, "hot", "loaded");

	(void)fixture_operation(&app, "load", 1);

	struct app_row row = claimed(&app);
	CU_ASSERT_PTR_NOT_NULL_FATAL(row.llm);
	CU_ASSERT_TRUE(id_equal(&row.llm->llm_config_id, &id));
	CU_ASSERT_TRUE(id_equal(&row.llm->org_id, &org));
	CU_ASSERT_EQUAL(row.llm->generation, 1);
	CU_ASSERT_EQUAL(row.llm->provider, LLM_OPENAI);
	CU_ASSERT_STRING_EQUAL(row.llm->base_url, URL);
	CU_ASSERT_STRING_EQUAL(row.llm->defaults, "{\"temperature\":0}");
	CU_ASSERT_PTR_NULL(row.good_llm);
	CU_ASSERT_TRUE(opens(row.llm, KEY));
	char *text = NULL;
	size_t len;
	CU_ASSERT_TRUE(llm_config_open_headers(ring, row.llm, &text, &len, &err));
	CU_ASSERT_STRING_EQUAL(text, "{\"X-Team\":\"seven\"}");
	secret_free(&text, len);

	struct app_row read;
	CU_ASSERT_TRUE(placement_read(fx.db, &app, 1, &read, &err));
	CU_ASSERT_STRING_EQUAL(read.hash, row.hash);
}

static void an_app_without_one_gets_none(void)
{
	struct id app = fixture_app(&org, "hot", "loaded");

	(void)fixture_operation(&app, "load", 1);
	struct app_row row = claimed(&app);
	CU_ASSERT_PTR_NULL(row.llm);
	CU_ASSERT_PTR_NULL(row.good_llm);
	CU_ASSERT_STRING_EQUAL(row.hash, "0000000000000000000000000000000000000000000000000000000000000000");
}

static void a_key_copied_to_another_place_does_not_open(void)
{
	struct id mine = made_in(&org), app = app_with(&mine, "hot", "loaded"), stranger = fixture_org();
	struct id theirs = made_in(&stranger);

	(void)fixture_operation(&app, "load", 1);
	/* Somebody who may write rows makes ours refer to theirs, or copies the text. */
	fixture_run(fx.db,
		    "UPDATE llm_config_generations a JOIN llm_config_generations b ON b.llm_config_id = '%s' "
		    "SET a.key_sealed_id = b.key_sealed_id WHERE a.llm_config_id = '%s'",
		    theirs.text, mine.text);
	CU_ASSERT_FALSE(opens(claimed(&app).llm, KEY));
	CU_ASSERT_EQUAL(err.code, ERR_DENIED);
	fixture_run(fx.db,
		    "UPDATE llm_config_generations g JOIN sealed_values v ON v.owner_id = g.llm_config_id "
		    "SET g.key_sealed_id = v.sealed_id WHERE g.llm_config_id = '%s'; "
		    "UPDATE sealed_values a JOIN sealed_values b ON b.owner_id = '%s' SET a.sealed = b.sealed "
		    "WHERE a.owner_id = '%s'",
		    mine.text, theirs.text, mine.text);
	struct claim c = {0};
	CU_ASSERT_EQUAL_FATAL(one_claim(fx.db, fx.mem, &w1, &app, 0, &c, &err), CLAIM_BUILD);
	CU_ASSERT_FALSE(opens(c.row.llm, KEY));
	/* Nobody else shall find it. */
	fixture_run(fx.db,
		    "UPDATE llm_config_generations SET key_sealed_id = NULL WHERE llm_config_id = '%s'; "
		    "DELETE FROM sealed_values WHERE owner_id = '%s'",
		    mine.text, mine.text);
}

/* --- while keys change --- */

/* A worker that builds and builds, on a connection of its own. */
struct builder {
	pthread_t thread;
	struct id app;
	atomic_bool is_stopping;
	atomic_uint builds;
	struct err e; /* of the build that failed */
};

static bool build_once(struct db *db, struct arena *mem, struct builder *b)
{
	struct claim c = {0};
	char *text = NULL;
	size_t len = 0;

	arena_clear(mem);
	if (one_claim(db, mem, &w1, &b->app, 0, &c, &b->e) != CLAIM_BUILD)
		return err_set(&b->e, ERR_CONFLICT, "not claimed");
	bool ok = llm_config_open_key(ring, c.row.llm, &text, &len, &b->e) && strcmp(text, KEY) == 0;
	secret_free(&text, len);
	return ok;
}

static void *build_on(void *closure)
{
	struct builder *b = closure;
	struct arena *mem = arena_new(1 << 20);
	struct db *db = fixture_connect();

	while (!atomic_load(&b->is_stopping) && build_once(db, mem, b))
		atomic_fetch_add(&b->builds, 1);
	db_close(&db);
	arena_free(&mem);
	return NULL;
}

static void a_build_opens_its_key_while_all_is_sealed_anew(void)
{
	struct id id = made_in(&org);
	struct builder b = {.app = app_with(&id, "hot", "loaded")};
	const char *names[] = {"k1", "k2"};
	unsigned rounds = 0;

	(void)fixture_operation(&b.app, "load", 1);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&b.thread, NULL, build_on, &b), 0);
	for (; rounds < 200 || (atomic_load(&b.builds) < 200 && b.e.code == ERR_NONE); rounds++) {
		struct resealing r = {.from = names[rounds % 2], .to = names[(rounds + 1) % 2]};

		do {
			CU_ASSERT_TRUE_FATAL(sealed_value_reseal(fx.db, ring, &r, &err));
		} while (r.seen > 0);
		CU_ASSERT_EQUAL(r.failed, 0);
	}
	atomic_store(&b.is_stopping, true);
	CU_ASSERT_EQUAL(pthread_join(b.thread, NULL), 0);
	CU_ASSERT_STRING_EQUAL(b.e.text, "");
	CU_ASSERT_TRUE(atomic_load(&b.builds) >= 200);
}

static void ready(const struct id *app, const struct app_row *row)
{
	CU_ASSERT_EQUAL(one_ready(fx.db, &w1, app, row->generation, TIER_HOT, row->hash, NULL, &err), PLACE_OK);
}

static void the_last_good_version_keeps_its_generation(void)
{
	struct id id = made_in(&org), app = app_with(&id, "hot", "loaded");
	struct llm_config_change what = no_change;
	struct app_row row, next;
	struct claim c = {0};

	(void)fixture_operation(&app, "load", 1);
	row = claimed(&app);
	ready(&app, &row);
	CU_ASSERT_EQUAL(
		fixture_number("SELECT good_llm_generation FROM orchestrator_instances WHERE instance_id = ?", &app),
		1);
	what.key_step = LLM_SECRET_SET;
	what.key = "sk-another-key-0123456789";
	what.key_len = strlen(what.key);
	CU_ASSERT_EQUAL(change(&id, what), PROBLEM_NONE);
	CU_ASSERT_EQUAL(generations_of(&id), 2);
	CU_ASSERT_EQUAL(secrets_of(&id), 2);
	CU_ASSERT_EQUAL_FATAL(one_claim(fx.db, fx.mem, &w1, &app, CLAIM_HOW_REBUILD, &c, &err), CLAIM_BUILD);
	next = c.row;
	CU_ASSERT_STRING_NOT_EQUAL(next.hash, row.hash);
	CU_ASSERT_STRING_EQUAL(next.good_hash, row.hash);
	CU_ASSERT_EQUAL(next.llm->generation, 2);
	CU_ASSERT_TRUE(opens(next.llm, what.key));
	CU_ASSERT_PTR_NOT_NULL_FATAL(next.good_llm);
	CU_ASSERT_EQUAL(next.good_llm->generation, 1);
	CU_ASSERT_TRUE(opens(next.good_llm, KEY));
	/* A build of the old one, that comes late, is not good for the new one. */
	CU_ASSERT_EQUAL(one_ready(fx.db, &w1, &app, 1, TIER_HOT, row.hash, NULL, &err), PLACE_CHANGED);
	CU_ASSERT_EQUAL(
		fixture_number("SELECT good_llm_generation FROM orchestrator_instances WHERE instance_id = ?", &app),
		1);
	ready(&app, &next);
	CU_ASSERT_EQUAL(
		fixture_number("SELECT good_llm_generation FROM orchestrator_instances WHERE instance_id = ?", &app),
		2);
	/* The next change finds that nothing goes back to the first. */
	CU_ASSERT_EQUAL(change(&id, new_defaults("{}")), PROBLEM_NONE);
	CU_ASSERT_EQUAL(generations_of(&id), 2);
	CU_ASSERT_EQUAL(secrets_of(&id), 1);
	CU_ASSERT_EQUAL(
		fixture_number("SELECT MIN(generation) FROM llm_config_generations WHERE llm_config_id = ?", &id), 2);
}

static void a_ready_copy_of_the_same_version_is_good_already(void)
{
	struct id id = made_in(&org), app = app_with(&id, "hot", "loaded");
	struct app_row row;

	(void)fixture_operation(&app, "load", 1);
	row = claimed(&app);
	ready(&app, &row);
	fixture_run(fx.db, "UPDATE orchestrator_instances SET good_mode = 'kept' WHERE instance_id = '%s'", app.text);
	ready(&app, &row);
	CU_ASSERT_STRING_EQUAL(fixture_text("SELECT good_mode FROM orchestrator_instances WHERE instance_id = ?", &app),
			       "kept");
}

/* --- removing --- */

static void one_that_is_used_is_not_removed(void)
{
	struct id id = made_in(&org), app = app_with(&id, "demand", "unloaded");
	struct call c = {.org = org, .id = id};
	struct llm_config_user *users;
	unsigned count;

	CU_ASSERT_EQUAL(run(delete_body, &c), PROBLEM_LLM_CONFIG_IN_USE);
	CU_ASSERT_TRUE_FATAL(llm_config_users(fx.db, fx.mem, &org, &id, 20, &users, &count, &err));
	CU_ASSERT_EQUAL_FATAL(count, 1);
	CU_ASSERT_TRUE(id_equal(&users[0].instance_id, &app));
	CU_ASSERT_STRING_EQUAL(users[0].name, app.text);
	fixture_run(fx.db, "UPDATE orchestrator_instances SET llm_config_id = NULL WHERE instance_id = '%s'", app.text);
	CU_ASSERT_EQUAL(run(delete_body, &c), PROBLEM_NONE);
	CU_ASSERT_EQUAL(generations_of(&id) + secrets_of(&id), 0);
	CU_ASSERT_EQUAL(run(delete_body, &c), PROBLEM_LLM_CONFIG_NOT_FOUND);
}

static void what_was_good_with_it_is_good_no_more(void)
{
	struct id id = made_in(&org), app = app_with(&id, "hot", "loaded");
	struct call c = {.org = org, .id = id};
	struct app_row row;

	(void)fixture_operation(&app, "load", 1);
	row = claimed(&app);
	ready(&app, &row);
	fixture_run(fx.db, "UPDATE orchestrator_instances SET llm_config_id = NULL WHERE instance_id = '%s'", app.text);
	CU_ASSERT_EQUAL(run(delete_body, &c), PROBLEM_NONE);
	CU_ASSERT_STRING_EQUAL(fixture_text("SELECT CONCAT_WS(',', good_mode, good_config, good_config_hash, "
					    "good_llm_config_id, good_llm_generation) FROM orchestrator_instances "
					    "WHERE instance_id = ?",
					    &app),
			       "");
}

/* --- Apps' own changes --- */

struct app_call {
	struct instance instance;
	struct instance_change change;
	struct instance_changed changed;
	enum problem problem;
};

static bool create_app_body(struct db *db, void *closure, struct err *e)
{
	struct app_call *c = closure;

	return instance_create(db, &c->instance, &(struct id){""}, &c->problem, e);
}

static bool change_app_body(struct db *db, void *closure, struct err *e)
{
	const struct id operation_id = id_new();
	struct app_call *c = closure;

	return instance_get(db, fx.mem, &c->instance.instance_id, &c->instance, &c->problem, e) &&
	       instance_apply(db, &c->instance, &c->change, &operation_id, NULL, &c->changed, &c->problem, e);
}

static const char *config_with(const struct id *llm_config_id)
{
	return arena_printf(fx.mem, "{\"llm_config_id\":\"%s\",\"model\":\"m\"}", llm_config_id->text);
}

static struct app_call new_app(const struct id *llm_config_id)
{
	return (struct app_call){
		.instance =
			{
				.instance_id = id_new(),
				.org_id = org,
				.name = "agent",
				.framework_type = "agent",
				.mode = "single",
				.tier = TIER_DEMAND,
				.replicas = 1,
				.ttl_seconds = -1,
				.config = config_with(llm_config_id),
				.active_plugin_ids = "[]",
			},
		.change = {.tier = -1, .ttl_seconds = -1, .replicas = -1, .status = -1},
	};
}

static const char *llm_of(const struct app_call *c)
{
	return fixture_text("SELECT llm_config_id FROM orchestrator_instances WHERE instance_id = ?",
			    &c->instance.instance_id);
}

static void an_app_uses_those_of_its_own_org_only(void)
{
	struct id mine = made_in(&org), second = made_in(&org), stranger = fixture_org(), theirs = made_in(&stranger);
	struct app_call c = new_app(&theirs);

	CU_ASSERT_TRUE(db_transaction(fx.db, create_app_body, &c, &err));
	CU_ASSERT_EQUAL(c.problem, PROBLEM_LLM_CONFIG_NOT_FOUND);
	c = new_app(&mine);
	CU_ASSERT_TRUE(db_transaction(fx.db, create_app_body, &c, &err));
	CU_ASSERT_EQUAL(c.problem, PROBLEM_NONE);
	CU_ASSERT_STRING_EQUAL(llm_of(&c), mine.text);
	c.change.config = config_with(&theirs);
	CU_ASSERT_TRUE(db_transaction(fx.db, change_app_body, &c, &err));
	CU_ASSERT_EQUAL(c.problem, PROBLEM_LLM_CONFIG_NOT_FOUND);
	CU_ASSERT_STRING_EQUAL(llm_of(&c), mine.text);
	c.change.config = config_with(&second);
	CU_ASSERT_TRUE(db_transaction(fx.db, change_app_body, &c, &err));
	CU_ASSERT_EQUAL(c.problem, PROBLEM_NONE);
	CU_ASSERT_STRING_EQUAL(llm_of(&c), second.text);
	/* What leaves the configuration alone leaves it as well. */
	c.change.config = NULL;
	c.change.name = "renamed";
	CU_ASSERT_TRUE(db_transaction(fx.db, change_app_body, &c, &err));
	CU_ASSERT_STRING_EQUAL(llm_of(&c), second.text);
	/* And the schema holds it, whatever a program does. */
	db_use(fx.db, "UPDATE orchestrator_instances SET llm_config_id = ? WHERE instance_id = ?");
	db_bind_id(fx.db, &theirs);
	db_bind_id(fx.db, &c.instance.instance_id);
	CU_ASSERT_FALSE(db_exec(fx.db, &err));
}

static void a_deleted_app_uses_nothing(void)
{
	struct id id = made_in(&org);
	struct app_call c = new_app(&id);
	struct call removal = {.org = org, .id = id};

	CU_ASSERT_TRUE(db_transaction(fx.db, create_app_body, &c, &err));
	c.change.is_delete = true;
	CU_ASSERT_TRUE(db_transaction(fx.db, change_app_body, &c, &err));
	CU_ASSERT_EQUAL(c.problem, PROBLEM_NONE);
	CU_ASSERT_STRING_EQUAL(llm_of(&c), "NULL");
	CU_ASSERT_EQUAL(run(delete_body, &removal), PROBLEM_NONE);
}

static CU_TestInfo cases[] = {
	CASE(the_version_hash_tells_llm_configs_and_generations_apart),
	CASE(what_was_created_is_read_back_without_its_key),
	CASE(of_a_short_key_nothing_is_shown),
	CASE(a_name_is_given_once_in_an_org),
	CASE(an_org_has_so_many_and_no_more),
	CASE(another_orgs_is_not_there),
	CASE(pages_show_all_of_an_org_once),
	CASE(a_change_that_changes_nothing_writes_nothing),
	CASE(a_change_leaves_the_rest),
	CASE(a_saved_secret_does_not_follow_to_another_place),
	CASE(without_a_secret_it_may_lead_anywhere),
	CASE(a_new_name_is_no_new_version),
	CASE(exactly_the_apps_that_use_it_are_reloaded),
	CASE(the_990_others_are_the_same_for_their_workers),
	CASE(an_operation_is_made_where_it_is_needed),
	CASE(a_suspended_org_gets_no_operation),
	CASE(an_open_unload_of_such_an_app_is_superseded),
	CASE(ids_that_the_database_makes_are_as_ours),
	CASE(a_claim_hands_the_llm_config_to_the_build),
	CASE(an_app_without_one_gets_none),
	CASE(a_key_copied_to_another_place_does_not_open),
	CASE(a_build_opens_its_key_while_all_is_sealed_anew),
	CASE(the_last_good_version_keeps_its_generation),
	CASE(a_ready_copy_of_the_same_version_is_good_already),
	CASE(one_that_is_used_is_not_removed),
	CASE(what_was_good_with_it_is_good_no_more),
	CASE(an_app_uses_those_of_its_own_org_only),
	CASE(a_deleted_app_uses_nothing),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"llm_config", start, stop, set_up, NULL, cases},
	CU_SUITE_INFO_NULL,
};
