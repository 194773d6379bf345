/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No statement of the API's modules reads more rows than it needs, however long
 * the tables grow: each runs once on tables of thousands of rows while the server logs
 * how many rows it examined. So the optimizer's real plan is judged, not a
 * wish. The number of statements prepared is compared with the number of
 * SQL constants in the sources: a new one that is not run here fails the test.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/access.h"
#include "core/audit.h"
#include "core/conversation.h"
#include "core/instance.h"
#include "core/keyring.h"
#include "core/lifecycle.h"
#include "core/llm_config.h"
#include "core/operation.h"
#include "core/org.h"
#include "core/sealed_value.h"
#include "core/sealing_key.h"
#include "core/sql.h"
#include "core/token.h"
#include "core/version.h"
#include "lib/arena.h"
#include "tests/fake/servers.h"
#include "tests/unit/harness.h"
#include "tests/unit/sql_fixture.h"

#define ROWS 4000        /* in every growing table, of one org and one App */
#define PAGE 10          /* of every list */
#define EXAMINED_MAX 100 /* a page, an org's few Apps, and what belongs to them */

static struct err err;
static struct db *db; /* runs nothing but what is tested */
static struct id org, app;
static uint8_t admin[SECRET_HASH_BYTES], sys[SECRET_HASH_BYTES];
/* In the middle of long lists: a page from there must not cost what lies before it. */
static struct {
	struct id org, token, sys_token, audit, operation, llm_config;
} middle;

/* The org and the App under test have a long history; the org holds few living Apps among many deleted ones. */
static void fill(void)
{
	struct id other = fixture_org(), w1 = fixture_worker("w1");

	org = fixture_org();
	app = fixture_app(&org, "hot", "loaded");
	(void)fixture_token(&org, "org_admin", admin);
	(void)fixture_token(NULL, "sys_admin", sys);
	fixture_run(fx.db,
		    "INSERT INTO organizations (org_id, name, created_at, updated_at) "
		    "SELECT UUID(), CONCAT('o', seq), NOW(3), NOW(3) FROM seq_1_to_%d; "
		    "INSERT INTO api_tokens (token_id, org_id, name, role, token_hash, created_at) "
		    "SELECT UUID(), IF(seq %% 2, '%s', NULL), 't', IF(seq %% 2, 'member', 'sys_admin'), "
		    "UNHEX(SHA2(seq, 256)), NOW(3) "
		    "FROM seq_1_to_%d; "
		    "INSERT INTO orchestrator_instances (instance_id, org_id, name, framework_type, mode, tier, "
		    "desired_state, config, "
		    "config_hash, created_at, updated_at, deleted_at) SELECT UUID(), IF(seq %% 2, '%s', '%s'), "
		    "CONCAT('a', seq), 'echo', "
		    "'single', 'hot', 'loaded', '{}', REPEAT('0', 64), NOW(3), NOW(3), IF(seq %% 2, NOW(3), NULL) FROM "
		    "seq_1_to_%d",
		    ROWS, org.text, ROWS, org.text, other.text, ROWS);
	fixture_run(fx.db,
		    "INSERT INTO operations (operation_id, instance_id, org_id, action, tier, generation, source, "
		    "state, next_publish_at, "
		    "accepted_at) SELECT UUID(), '%s', '%s', 'load', 'hot', 1, 'demand', 'succeeded', NOW(3), NOW(3) "
		    "FROM seq_1_to_%d; "
		    "INSERT INTO operations (operation_id, instance_id, org_id, action, tier, generation, source, "
		    "next_publish_at, "
		    "accepted_at) SELECT UUID(), instance_id, org_id, 'load', 'hot', 1, 'demand', NOW(3), NOW(3) "
		    "FROM orchestrator_instances WHERE org_id = '%s'; "
		    "INSERT INTO placements (instance_id, worker_id, incarnation, org_id, tier, generation, state, "
		    "placed_at, changed_at) "
		    "SELECT instance_id, 'w1', '%s', org_id, 'hot', 1, 'ready', NOW(3), NOW(3) FROM "
		    "orchestrator_instances; "
		    "INSERT INTO audit_log (audit_id, at, org_id, action, result) "
		    "SELECT UUID(), NOW(3), IF(seq %% 2, '%s', NULL), 'x', 'ok' FROM seq_1_to_%d; "
		    "ANALYZE TABLE organizations, api_tokens, orchestrator_instances, operations, placements, "
		    "audit_log, workers",
		    app.text, org.text, ROWS, other.text, w1.text, org.text, ROWS);
}

/* Many LLM configs, some dozen of them of the org, each with its key, and many Apps with another one of these. */
static void fill_llm_configs(void)
{
	fixture_run(
		fx.db,
		"INSERT INTO sealing_keys (key_id, fingerprint, state, created_at, changed_at) "
		"SELECT CONCAT('k', seq), REPEAT('0', 32), IF(seq = 1, 'current', 'old'), NOW(3), NOW(3) "
		"FROM seq_1_to_3; "
		"INSERT INTO sealing_key_holders (process_id, key_id, program, host, fingerprint, seen_at) "
		"SELECT UUID(), '', 'p', 'h', '', NOW(3) - INTERVAL 1 HOUR FROM seq_1_to_%d; "
		"INSERT INTO llm_configs (llm_config_id, org_id, name, created_at, updated_at) "
		"SELECT UUID(), IF(seq <= 60, '%s', (SELECT MAX(org_id) FROM organizations WHERE org_id <> '%s')), "
		"CONCAT('l', seq), NOW(3), NOW(3) FROM seq_1_to_%d; "
		"INSERT INTO sealed_values (sealed_id, purpose, org_id, owner_id, generation, key_id, sealed, "
		"sealed_at) SELECT UUID(), 'llm_key', org_id, llm_config_id, 1, 'k2', 'x', NOW(3) FROM llm_configs; "
		"INSERT INTO llm_config_generations (llm_config_id, generation, provider, base_url, key_sealed_id, "
		"header_names, defaults, created_at) SELECT owner_id, 1, 'openai', 'http://h', sealed_id, '[]', '{}', "
		"NOW(3) FROM sealed_values; "
		"UPDATE orchestrator_instances i SET good_llm_generation = 1, "
		"good_llm_config_id = (SELECT MIN(llm_config_id) FROM llm_configs WHERE org_id = '%s'); "
		"UPDATE orchestrator_instances i SET llm_config_id = good_llm_config_id WHERE org_id = '%s'; "
		"ANALYZE TABLE sealing_keys, sealing_key_holders, llm_configs, sealed_values, "
		"llm_config_generations, orchestrator_instances",
		ROWS, org.text, org.text, ROWS, org.text, org.text);
}

/* The App has had many versions, of which two are too old once there is a 201st; its good one is an old one. */
static void fill_versions(void)
{
	fixture_run(fx.db,
		    "INSERT INTO instance_versions (instance_id, version, org_id, framework_type, mode, config, "
		    "config_hash, active_plugin_ids, source, created_at) SELECT instance_id, IF(seq <= 2, seq, seq + "
		    "1000), org_id, 'echo', 'single', '{}', IF(seq = 1, 'good', 'x'), '[]', 'config', NOW(3) "
		    "FROM orchestrator_instances, seq_1_to_%d WHERE instance_id = '%s'; "
		    "UPDATE orchestrator_instances SET version = 200, good_config_hash = 'good' "
		    "WHERE instance_id = '%s'; ANALYZE TABLE instance_versions",
		    ROWS, app.text, app.text);
}

static struct id id_at(const char *sql, const struct id *of);

/* One token's many conversations, each with messages. */
static void fill_conversations(void)
{
	const struct id token =
		id_at("SELECT token_id FROM api_tokens WHERE org_id = ? ORDER BY token_id LIMIT 1 OFFSET 1000", &org);

	fixture_run(
		fx.db,
		"INSERT INTO conversations (conversation_id, org_id, token_id, instance_id, message_count, created_at, "
		"updated_at) SELECT UUID(), '%s', '%s', '%s', 2, NOW(3), NOW(3) FROM seq_1_to_%d; "
		"INSERT INTO conversation_messages (conversation_id, n, role, content, created_at) "
		"SELECT conversation_id, seq, 'user', 'x', NOW(3) FROM conversations, seq_1_to_2; "
		"ANALYZE TABLE conversations, conversation_messages",
		org.text, token.text, app.text, ROWS);
}

static struct id id_at(const char *sql, const struct id *of)
{
	const char *text = fixture_text(sql, of);
	struct id id = {""};

	if (!id_parse(text, strlen(text), &id))
		abort();
	return id;
}

static void find_middles(void)
{
	middle.org = id_at("SELECT org_id FROM organizations ORDER BY org_id LIMIT 1 OFFSET 2000", NULL);
	middle.token =
		id_at("SELECT token_id FROM api_tokens WHERE org_id = ? ORDER BY token_id LIMIT 1 OFFSET 1000", &org);
	middle.sys_token = id_at(
		"SELECT token_id FROM api_tokens WHERE org_id IS NULL ORDER BY token_id LIMIT 1 OFFSET 1000", NULL);
	middle.audit =
		id_at("SELECT audit_id FROM audit_log WHERE org_id = ? ORDER BY audit_id LIMIT 1 OFFSET 1000", &org);
	middle.llm_config =
		id_at("SELECT llm_config_id FROM llm_configs WHERE org_id = ? ORDER BY llm_config_id LIMIT 1 OFFSET 30",
		      &org);
	middle.operation = id_at(
		"SELECT operation_id FROM operations WHERE instance_id = ? ORDER BY operation_id LIMIT 1 OFFSET 2000",
		&app);
}

static int make_world(void)
{
	(void)fixture_start();
	fill();
	fill_llm_configs();
	fill_conversations();
	fill_versions();
	find_middles();
	db = fixture_connect();
	return 0;
}

static int end_world(void)
{
	db_close(&db);
	return fixture_stop();
}

#define RUN(call) CU_ASSERT_TRUE(call)

static void run_orgs(void)
{
	struct org made = {.org_id = id_new(), .name = "made", .ttl_seconds = -1}, got, *list;
	struct org_change change = {.quota_instances = -1, .quota_hot = -1, .quota_demand = -1, .ttl_seconds = 5};
	enum problem problem;
	unsigned count;
	bool changed;

	RUN(org_create(db, &made, &problem, &err));
	RUN(org_get(db, fx.mem, &org, &got, &problem, &err));
	RUN(org_list(db, fx.mem, NULL, PAGE, &list, &count, &err));
	RUN(org_list(db, fx.mem, &middle.org, PAGE, &list, &count, &err));
	RUN(org_change(db, &org, &change, &problem, &err));
	RUN(org_set_status(db, &org, STATUS_SUSPENDED, &changed, &problem, &err));
	RUN(org_set_status(db, &org, STATUS_ACTIVE, &changed, &problem, &err));
}

static void run_tokens_and_audit(void)
{
	struct token made = {.token_id = id_new(), .org_id = org, .name = "made", .role = ROLE_MEMBER}, *tokens;
	struct audit_entry entry = {.org_id = org, .action = "x"}, *entries;
	uint8_t hash[SECRET_HASH_BYTES] = {9};
	struct id none = {""};
	enum problem problem;
	unsigned count;

	RUN(token_create(db, &made, hash, &problem, &err));
	RUN(token_list(db, fx.mem, &org, NULL, PAGE, &tokens, &count, &err));
	RUN(token_list(db, fx.mem, &org, &middle.token, PAGE, &tokens, &count, &err));
	RUN(token_list(db, fx.mem, &none, &middle.sys_token, PAGE, &tokens, &count, &err));
	RUN(token_revoke(db, &org, &made.token_id, &problem, &err));
	token_touch(db, &made.token_id);
	RUN(audit_write(db, &entry, &err));
	RUN(audit_list(db, fx.mem, NULL, NULL, PAGE, &entries, &count, &err));
	RUN(audit_list(db, fx.mem, NULL, &middle.audit, PAGE, &entries, &count, &err));
	RUN(audit_list(db, fx.mem, &org, NULL, PAGE, &entries, &count, &err));
	RUN(audit_list(db, fx.mem, &org, &middle.audit, PAGE, &entries, &count, &err));
}

static struct access_request request_of(const uint8_t *hash)
{
	struct access_request q = {
		.permission = PERM_CHAT, .has_org = true, .org_id = org, .has_instance = true, .instance_id = app};

	memcpy(q.token_hash, hash, SECRET_HASH_BYTES);
	return q;
}

static void run_access(void)
{
	struct access_request q = request_of(admin), chat = request_of(sys);
	struct access access;
	enum problem problem;

	chat.has_org = false;
	chat.org_is_instances = true;
	RUN(access_check(db, fx.mem, &chat, &access, &problem, &err));
	for (unsigned bits = 0; bits < 8; bits++) {
		q.with_config = bits & 1;
		q.lock_instance = bits & 2;
		q.lock_org = bits & 4;
		RUN(access_check(db, fx.mem, &q, &access, &problem, &err));
		CU_ASSERT_EQUAL(problem, PROBLEM_NONE);
	}
}

static bool change_app(struct db *d, void *closure, struct err *e)
{
	struct instance_change change = {.tier = -1, .ttl_seconds = -1, .replicas = 2, .status = -1, .mode = "other"};
	struct access_request q = request_of(admin);
	struct instance_changed changed;
	struct id operation_id = id_new();
	struct access access;
	enum problem problem;

	(void)closure;
	q.lock_org = q.lock_instance = true;
	return access_check(d, fx.mem, &q, &access, &problem, e) &&
	       instance_apply(d, &access.instance, &change, &operation_id, NULL, &changed, &problem, e);
}

static bool create_app(struct db *d, void *closure, struct err *e)
{
	struct instance made = {.instance_id = id_new(),
				.org_id = org,
				.name = "made",
				.framework_type = "echo",
				.mode = "single",
				.tier = TIER_DEMAND,
				.replicas = 1,
				.ttl_seconds = -1,
				.config = "{}",
				.active_plugin_ids = "[]"};
	enum problem problem;

	(void)closure;
	return instance_create(d, &made, &middle.token, &problem, e);
}

static void run_instances(void)
{
	struct instance got, *list;
	enum problem problem;
	unsigned count;

	struct id found;

	RUN(db_transaction(db, create_app, NULL, &err));
	RUN(instance_find_name(db, &org, "made", &found, &err));
	CU_ASSERT_TRUE(id_is_set(&found));
	RUN(instance_get(db, fx.mem, &app, &got, &problem, &err));
	RUN(instance_list(db, fx.mem, &org, NULL, PAGE, &list, &count, &err));
	RUN(instance_list(db, fx.mem, &list[0].instance_id, NULL, PAGE, &list, &count, &err));
	RUN(db_transaction(db, change_app, NULL, &err));
}

static void run_versions(void)
{
	struct version version, *list;
	enum problem problem;
	unsigned count;

	RUN(version_list(db, fx.mem, &app, 0, PAGE, &list, &count, &err));
	RUN(version_list(db, fx.mem, &app, 2000, PAGE, &list, &count, &err));
	CU_ASSERT_EQUAL(count, PAGE);
	RUN(version_get(db, fx.mem, &app, 2000, &version, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_NONE);
}

static void run_conversations(void)
{
	struct conversation_turn turn = {
		.conversation_id = id_new(),
		.org_id = org,
		.token_id = middle.token,
		.instance_id = app,
		.turn_id = id_new(),
		.is_new = true,
		.limit_s = 60,
		.messages_max = PAGE,
		.tokens_max = 1000000,
	};
	struct conversation_said said = {.user = "a", .user_len = 1, .assistant = "b", .assistant_len = 1};
	struct conversation got, *list;
	struct conversation_message *messages;
	struct jval *history = NULL;
	enum problem problem;
	unsigned count;
	bool has_more;

	RUN(conversation_begin(db, &turn, &history, &problem, &err));
	jval_free(&history);
	RUN(conversation_end(db, &turn, &said, &problem, &err));
	turn.is_new = false;
	RUN(conversation_begin(db, &turn, &history, &problem, &err));
	CU_ASSERT_EQUAL(jval_array_len(history), 2);
	jval_free(&history);
	RUN(conversation_abandon(db, &turn, &err));
	RUN(conversation_list(db, fx.mem, &org, &middle.token, NULL, PAGE, &list, &count, &err));
	CU_ASSERT_EQUAL(count, PAGE);
	RUN(conversation_get(db, fx.mem, &org, &middle.token, &turn.conversation_id, &got, &problem, &err));
	RUN(conversation_messages(db, fx.mem, &turn.conversation_id, 0, PAGE, &messages, &count, &has_more, &err));
	CU_ASSERT_FALSE(has_more);
	RUN(conversation_delete(db, &org, &middle.token, &turn.conversation_id, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_NONE);
	turn.is_new = true;
	turn.limit_s = 0; /* dead at once */
	RUN(conversation_begin(db, &turn, &history, &problem, &err));
	jval_free(&history);
	RUN(conversation_prune(db, &err));
	RUN(conversation_get(db, fx.mem, &org, &middle.token, &turn.conversation_id, &got, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_CONVERSATION_NOT_FOUND);
}

static void run_lifecycle(void)
{
	static const enum action actions[] = {ACTION_LOAD, ACTION_RELOAD, ACTION_UNLOAD, ACTION_LOAD};

	for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
		struct lifecycle_request r = {.action = actions[i],
					      .tier = -1,
					      .drain_s = -1,
					      .operation_id = id_new(),
					      .access = request_of(admin)};
		struct lifecycle_step step = {.request = &r, .mem = fx.mem}, *steps = &step;

		lifecycle_accept(db, &steps, 1);
		RUN(step.ok);
		CU_ASSERT_EQUAL(step.problem, PROBLEM_NONE);
	}
}

#define MANY (SQL_SET_FEW + 2)

/* Statements for some Apps at once. */
static void run_set(unsigned count)
{
	struct lifecycle_request requests[MANY];
	struct lifecycle_step steps[MANY], *pointers[MANY];
	struct id_set all = {.count = 0};
	unsigned ended;

	for (unsigned i = 0; i < count; i++) {
		struct id own = fixture_app(&org, "demand", "loaded");

		id_set_add(&all, i == 0 ? &app : &own);
		requests[i] = (struct lifecycle_request){.action = ACTION_LOAD, .tier = -1, .drain_s = -1};
		requests[i].access = request_of(admin);
		requests[i].access.instance_id = all.ids[i];
		requests[i].operation_id = id_new();
		steps[i] = (struct lifecycle_step){.request = &requests[i], .mem = fx.mem};
		pointers[i] = &steps[i];
	}
	lifecycle_accept(db, pointers, count);
	for (unsigned i = 0; i < count; i++)
		CU_ASSERT_TRUE(steps[i].ok && steps[i].problem == PROBLEM_NONE && !steps[i].is_left_over);
	requests[1].access.instance_id = app; /* the second one about it is left over */
	for (unsigned i = 0; i < count; i++)
		requests[i].operation_id = id_new();
	lifecycle_accept(db, pointers, count);
	CU_ASSERT_TRUE(steps[0].ok && steps[1].ok);
	RUN(operation_settle_set(db, &all, "w1", &ended, &err));
}

static void run_sets(void)
{
	run_set(2);
	run_set(MANY);
}

static void run_operations(void)
{
	struct operation op, *list;
	enum problem problem;
	unsigned count;
	const char *reason;
	int retry_after_s;
	bool is_new = false;

	fixture_run(db, "UPDATE orchestrator_instances SET tier = 'demand' WHERE instance_id = '%s'", app.text);
	RUN(operation_list(db, fx.mem, &app, NULL, PAGE, &list, &count, &err));
	RUN(operation_list(db, fx.mem, &app, &middle.operation, PAGE, &list, &count, &err));
	RUN(operation_get(db, fx.mem, &org, &list[0].operation_id, &op, &problem, &err));
	RUN(operation_settle(db, &app, "w1", &count, &err));
	RUN(operation_fail(db, &app, 1000, "x", "w1", &count, &err));
	RUN(operation_demand(db, fx.mem, &app, NULL, &op, &is_new, &retry_after_s, &reason, &problem, &err));
	CU_ASSERT_TRUE(is_new);
	RUN(operation_demand(db, fx.mem, &app, NULL, &op, &is_new, &retry_after_s, &reason, &problem, &err));
}

/* --- LLM configs and what seals their keys --- */

/* Of two keys, k1 and k4; the first one's fingerprint is put where its row is. */
static struct keyring *make_ring(void)
{
	struct keyring_key keys[KEYRING_KEYS_MAX];
	char path[256], *one, *both;
	struct secret_key key;

	secret_key_new(&key);
	CU_ASSERT_TRUE_FATAL(keyring_text_add(NULL, "k1", &key, &one, &err));
	CU_ASSERT_TRUE_FATAL(keyring_text_add(one, "k4", &key, &both, &err));
	(void)snprintf(path, sizeof(path), "%s/keys", server_dir_make());
	FILE *f = fopen(path, "w");
	CU_ASSERT_TRUE_FATAL(f && fputs(both, f) >= 0 && fclose(f) == 0 && chmod(path, 0600) == 0);
	free(one);
	free(both);
	struct keyring *ring = keyring_new(path);
	RUN(keyring_refresh(ring, NULL, &err));
	CU_ASSERT_EQUAL_FATAL(keyring_list(ring, keys), 2);
	fixture_run(fx.db, "UPDATE sealing_keys SET fingerprint = '%s' WHERE key_id = 'k1'", keys[0].fingerprint);
	return ring;
}

struct llm_steps {
	struct keyring *ring;
	struct id made;
};

static bool llm_steps(struct db *d, void *closure, struct err *e)
{
	const struct llm_config_change made = {.name = "made", .base_url = "http://h", .defaults = "{}"};
	struct llm_config_change change = {.provider = -1, .defaults = "{\"a\":1}"};
	const struct llm_steps *s = closure;
	struct llm_config_user *users;
	enum problem problem;
	struct llm_config_changed changed;
	unsigned count;

	fixture_run(d, "UPDATE orchestrator_instances SET llm_config_id = NULL WHERE instance_id = '%s'", app.text);
	if (!llm_config_create(d, s->ring, &s->made, &org, &made, &problem, e) ||
	    !llm_config_is_of_org(d, &org, &s->made, &problem, e))
		return false;
	fixture_run(d, "UPDATE orchestrator_instances SET llm_config_id = '%s' WHERE instance_id = '%s'", s->made.text,
		    app.text);
	if (!llm_config_change(d, fx.mem, s->ring, &org, &s->made, &change, NULL, &changed, &problem, e))
		return false;
	CU_ASSERT_EQUAL(changed.apps, 1);
	CU_ASSERT_EQUAL(problem, PROBLEM_NONE);
	if (!llm_config_users(d, fx.mem, &org, &s->made, PAGE, &users, &count, e))
		return false;
	CU_ASSERT_EQUAL(count, 1);
	fixture_run(d, "UPDATE orchestrator_instances SET llm_config_id = NULL WHERE instance_id = '%s'", app.text);
	return llm_config_delete(d, &org, &s->made, &problem, e);
}

static void run_llm_configs(struct keyring *ring)
{
	struct llm_steps s = {.ring = ring, .made = id_new()};
	struct llm_config_view view, *views;
	enum problem problem;
	unsigned count;

	RUN(db_transaction(db, llm_steps, &s, &err));
	RUN(llm_config_get(db, fx.mem, &org, &middle.llm_config, &view, &problem, &err));
	RUN(llm_config_list(db, fx.mem, &org, &middle.llm_config, PAGE, &views, &count, &err));
}

static bool key_steps(struct db *d, void *closure, struct err *e)
{
	const struct sealed_place place = {.purpose = "test", .org_id = org, .owner_id = id_new(), .generation = 1};
	const struct keyring_key key = {.key_id = "k4", .fingerprint = "x"};
	enum sealing_key_state state;
	enum retirement retirement;
	struct id sealed_id;
	enum problem problem;

	return sealed_value_put(d, closure, &place, "x", 1, &sealed_id, &problem, e) && problem == PROBLEM_NONE &&
	       sealing_key_add(d, &key, &state, &problem, e) && sealing_key_make_current(d, "k4", e) &&
	       sealing_key_retire(d, "k3", &retirement, e) && retirement == RETIRED;
}

static void run_sealing(struct keyring *ring)
{
	const struct key_holder holder = {.process_id = id_new(), .program = "p", .host = "h"};
	struct resealing r = {.from = "k1", .to = "k4"}, broken = {.from = "k2", .to = "k4"};
	struct key_held *held;
	unsigned count;

	RUN(db_transaction(db, key_steps, ring, &err));
	RUN(key_holder_report(db, &holder, NULL, 0, &err));
	RUN(key_holder_list(db, fx.mem, &held, &count, &err));
	RUN(key_holder_forget(db, &holder.process_id, &err));
	RUN(sealed_value_reseal(db, ring, &r, &err));
	CU_ASSERT_EQUAL(r.resealed, 1);
	RUN(sealed_value_reseal(db, ring, &broken, &err));
	CU_ASSERT_EQUAL(broken.failed, RESEAL_BATCH);
}

/* --- */

static unsigned constants_in(const char *module)
{
	const char *srcdir = getenv("srcdir");
	char path[4096], line[1024];
	unsigned count = 0;
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/core/%s.c", srcdir ? srcdir : ".", module);
	f = fopen(path, "r");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	while (fgets(line, sizeof(line), f))
		count += strncmp(line, "static const char SQL_", 22) == 0 ? 1
			 : strncmp(line, "SQL_SET(SQL_", 12) == 0         ? SET_MANY + 1
									  : 0;
	(void)fclose(f);
	return count;
}

static unsigned constants(void)
{
	static const char *const modules[] = {"access",       "audit",       "conversation", "instance",
					      "lifecycle",    "llm_config",  "operation",    "org",
					      "sealed_value", "sealing_key", "token",        "version"};
	unsigned count = 0;

	for (size_t i = 0; i < ARRAY_LEN(modules); i++)
		count += constants_in(modules[i]);
	return count;
}

static int64_t prepared(void)
{
	return fixture_number("SELECT CAST(VARIABLE_VALUE AS SIGNED) FROM information_schema.GLOBAL_STATUS "
			      "WHERE VARIABLE_NAME = 'PREPARED_STMT_COUNT'",
			      NULL);
}

static void report(void)
{
	struct err e = {0};

	db_use(fx.db,
	       "SELECT rows_examined, CONVERT(sql_text USING utf8mb4) FROM mysql.slow_log WHERE rows_examined > ?");
	db_bind_i64(fx.db, EXAMINED_MAX);
	while (db_step(fx.db, &e) == DB_ROW)
		(void)fprintf(stderr, "%s rows examined: %s\n", db_col_str(fx.db, 0), db_col_str(fx.db, 1));
}

static void no_statement_examines_more_rows_than_it_needs(void)
{
	struct keyring *ring = make_ring();
	int64_t before = prepared();
	struct sealing_key *keys;
	unsigned count;

	/* An operator may wait until all is counted. */
	RUN(sealing_key_list(db, fx.mem, &keys, &count, &err));

	fixture_run(db, "SET GLOBAL log_output = 'TABLE', GLOBAL slow_query_log = 1, SESSION slow_query_log = 1, "
			"SESSION long_query_time = 0, "
			"SESSION min_examined_row_limit = 0, SESSION log_slow_rate_limit = 1");
	run_orgs();
	run_tokens_and_audit();
	run_access();
	run_instances();
	run_versions();
	run_conversations();
	run_lifecycle();
	run_sets();
	run_operations();
	run_llm_configs(ring);
	run_sealing(ring);
	keyring_free(&ring);
	fixture_run(db, "SET GLOBAL slow_query_log = 0");
	CU_ASSERT_EQUAL(prepared() - before, constants());
	CU_ASSERT_EQUAL(
		fixture_number("SELECT COUNT(*) FROM instance_versions WHERE instance_id = ? AND version <= 200", &app),
		1); /* run_instances has changed the App, so that the other one went */
	CU_ASSERT_TRUE(fixture_number("SELECT COUNT(*) FROM mysql.slow_log WHERE sql_text LIKE '%api_tokens%'", NULL) >
		       0);
	CU_ASSERT_EQUAL(fixture_number("SELECT MAX(rows_examined) > 100 FROM mysql.slow_log", NULL), 0);
	report();
}

static CU_TestInfo cases[] = {
	CASE(no_statement_examines_more_rows_than_it_needs),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"explain", make_world, end_world, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
