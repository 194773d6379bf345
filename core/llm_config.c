/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of LLM configs. Whoever changes or removes one holds its row; whoever makes an App use it holds it shared,
 * with the App's row locked before; so a change locks the Apps that use it first, too. A generation is never changed.
 * An App's last good version may hold an older one: it is written under the App's row lock, which a change takes as
 * well, so that what is not good for anybody then will not be.
 */
#include "core/llm_config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/keyring.h"
#include "core/sealed_value.h"
#include "core/sql.h"
#include "lib/arena.h"
#include "lib/db.h"
#include "lib/secret.h"

#define PURPOSE_KEY "llm_key"
#define PURPOSE_HEADERS "llm_headers"
#define HINT_LEN 4
#define DROPPED_MAX 100 /* generations, with one change */

static const char SQL_LLM_LOCK_ORG[] = "SELECT 1 FROM organizations WHERE org_id = ? FOR UPDATE";
static const char SQL_LLM_COUNT[] = "SELECT COUNT(*) FROM llm_configs WHERE org_id = ?";
static const char SQL_LLM_INSERT[] = "INSERT INTO llm_configs (llm_config_id, org_id, name, created_at, updated_at) "
				     "VALUES (?, ?, ?, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))";
static const char SQL_LLM_GENERATION_INSERT[] =
	"INSERT INTO llm_config_generations (llm_config_id, generation, provider, base_url, key_sealed_id, key_hint, "
	"headers_sealed_id, header_names, defaults, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3))";

#define VIEW_COLUMNS                                                                                                   \
	"c.llm_config_id, c.org_id, c.name, c.generation, g.provider, g.base_url, g.key_sealed_id IS NOT NULL, "       \
	"g.key_hint, g.header_names, g.defaults, (SELECT COUNT(*) FROM orchestrator_instances i "                      \
	"WHERE i.org_id = c.org_id AND i.llm_config_id = c.llm_config_id), " SQL_UTC("c.created_at") ", " SQL_UTC(     \
		"c.updated_at") " FROM llm_configs c JOIN llm_config_generations g ON g.llm_config_id = "              \
				"c.llm_config_id AND g.generation = c.generation "
static const char SQL_LLM_GET[] = "SELECT " VIEW_COLUMNS "WHERE c.llm_config_id = ? AND c.org_id = ?";
static const char SQL_LLM_LIST[] =
	"SELECT " VIEW_COLUMNS "WHERE c.org_id = ? AND c.llm_config_id > ? ORDER BY c.llm_config_id LIMIT ?";
static const char SQL_LLM_LOCK[] = "SELECT 1 FROM llm_configs WHERE llm_config_id = ? AND org_id = ? FOR UPDATE";
static const char SQL_LLM_NEWEST[] =
	"SELECT c.generation, c.name, g.provider, g.base_url, g.key_sealed_id, g.key_hint, g.headers_sealed_id, "
	"g.header_names, "
	"g.defaults FROM llm_configs c JOIN llm_config_generations g ON g.llm_config_id = c.llm_config_id "
	"AND g.generation = c.generation WHERE c.llm_config_id = ? AND c.org_id = ?";
static const char SQL_LLM_UPDATE[] =
	"UPDATE llm_configs SET name = ?, generation = ?, updated_at = UTC_TIMESTAMP(3) WHERE llm_config_id = ?";

#define APPS_OF_IT "orchestrator_instances i FORCE INDEX (instances_llm) "
/* By the primary key: whoever holds an App's row may be about to change its entry in another index. */
static const char SQL_LLM_LOCK_APPS[] =
	"SELECT COUNT(*) FROM (SELECT i.instance_id FROM " APPS_OF_IT
	"WHERE i.org_id = ? AND i.llm_config_id = ? LIMIT 10000000) u "
	"STRAIGHT_JOIN orchestrator_instances a FORCE INDEX (PRIMARY) ON a.instance_id = u.instance_id FOR UPDATE";
static const char SQL_LLM_RAISE_APPS[] =
	"UPDATE " APPS_OF_IT "SET i.generation = i.generation + 1, i.attempts = 0, i.failures = 0, "
	"i.next_attempt_at = NULL, i.failure_reason = NULL WHERE i.org_id = ? AND i.llm_config_id = ?";
/* What nobody holds must be published on hearth.load, which recovery does: at once. */
static const char SQL_LLM_RELOAD_APPS[] =
	"INSERT INTO operations (operation_id, instance_id, org_id, action, tier, generation, source, request_id, "
	"next_publish_at, accepted_at) SELECT " SQL_NEW_ID ", a.instance_id, a.org_id, 'reload', a.tier, a.generation, "
	"'config_change', ?, UTC_TIMESTAMP(3) + INTERVAL IF(a.is_held, 5, 0) SECOND, UTC_TIMESTAMP(3) FROM "
	"(SELECT i.instance_id, i.org_id, i.tier, i.generation, i.wanted_hot, EXISTS (SELECT 1 FROM placements p "
	"JOIN workers w ON w.worker_id = p.worker_id WHERE p.instance_id = i.instance_id "
	"AND p.generation >= i.unload_generation AND " SQL_IS_LIVE ") AS is_held FROM " APPS_OF_IT
	"JOIN organizations o ON o.org_id = i.org_id WHERE i.org_id = ? AND i.llm_config_id = ? "
	"AND o.status = 'active' AND i.status = 'active' AND i.deleted_at IS NULL) a WHERE a.is_held OR a.wanted_hot = "
	"1";
/* Of the Apps that have just got an operation: by each App's index, and no row is locked that is not theirs. */
static const char SQL_LLM_SUPERSEDE[] =
	"UPDATE " APPS_OF_IT "STRAIGHT_JOIN operations mine FORCE INDEX (operations_open) "
	"ON mine.instance_id = i.instance_id AND mine.is_open = 1 AND mine.source = 'config_change' "
	"AND mine.generation = i.generation STRAIGHT_JOIN operations op FORCE INDEX (operations_open) "
	"ON op.instance_id = i.instance_id AND op.is_open = 1 AND op.action = 'unload' "
	"SET op.state = 'superseded', op.finished_at = UTC_TIMESTAMP(3) WHERE i.org_id = ? AND i.llm_config_id = ?";

/* Looked for by themselves: a DELETE would lock what its subqueries read. */
static const char SQL_LLM_OLD_GENERATIONS[] =
	"SELECT g.generation FROM llm_config_generations g WHERE g.llm_config_id = ? AND g.generation <> ? "
	"AND NOT EXISTS (SELECT 1 FROM orchestrator_instances i WHERE i.good_llm_config_id = g.llm_config_id "
	"AND i.good_llm_generation = g.generation) LIMIT ?";
static const char SQL_LLM_DROP_GENERATION[] =
	"DELETE FROM llm_config_generations WHERE llm_config_id = ? AND generation = ?";
static const char SQL_LLM_DROP_SECRETS[] =
	"DELETE FROM sealed_values WHERE owner_id = ? AND NOT EXISTS (SELECT 1 FROM llm_config_generations g "
	"WHERE g.llm_config_id = sealed_values.owner_id AND (g.key_sealed_id = sealed_values.sealed_id "
	"OR g.headers_sealed_id = sealed_values.sealed_id))";

static const char SQL_LLM_USERS[] = "SELECT i.instance_id, i.name FROM " APPS_OF_IT
				    "WHERE i.org_id = ? AND i.llm_config_id = ? ORDER BY i.instance_id LIMIT ?";
static const char SQL_LLM_FORGET_GOOD[] =
	"UPDATE orchestrator_instances FORCE INDEX (instances_good_llm) SET good_mode = NULL, good_config = NULL, "
	"good_config_hash = NULL, good_llm_config_id = NULL, good_llm_generation = NULL WHERE good_llm_config_id = ?";
static const char SQL_LLM_DELETE_GENERATIONS[] = "DELETE FROM llm_config_generations WHERE llm_config_id = ?";
static const char SQL_LLM_DELETE[] = "DELETE FROM llm_configs WHERE llm_config_id = ?";
static const char SQL_LLM_OF_ORG[] =
	"SELECT 1 FROM llm_configs WHERE llm_config_id = ? AND org_id = ? LOCK IN SHARE MODE";

/* --- words --- */

static const char *const providers[] = {[LLM_OPENAI] = "openai", [LLM_ANTHROPIC] = "anthropic"};

const char *llm_provider_name(enum llm_provider provider)
{
	return (size_t)provider < ARRAY_LEN(providers) ? providers[provider] : "unknown";
}

bool llm_provider_parse(const char *s, enum llm_provider *ret_provider)
{
	for (size_t i = 0; s && i < ARRAY_LEN(providers); i++) {
		if (strcmp(providers[i], s) == 0) {
			*ret_provider = (enum llm_provider)i;
			return true;
		}
	}
	return false;
}

void llm_version_hash(const char *config_hash, const struct id *llm_config_id, uint64_t generation,
		      char ret_hex[SECRET_HASH_HEX_SIZE])
{
	char text[SECRET_HASH_HEX_SIZE + ID_TEXT_LEN + 32];
	int len;

	if (!id_is_set(llm_config_id)) {
		(void)snprintf(ret_hex, SECRET_HASH_HEX_SIZE, "%s", config_hash);
		return;
	}
	len = snprintf(text, sizeof(text), "%.64s|%s|%" PRIu64, config_hash, llm_config_id->text, generation);
	secret_hash_hex(text, (size_t)len, ret_hex);
}

/* --- secrets --- */

static bool open_secret(struct keyring *ring, const struct llm_config *llm, const char *purpose, uint64_t generation,
			const char *sealed, char **ret_text, size_t *ret_len, struct err *e)
{
	const struct sealed_place place = {
		.purpose = purpose,
		.org_id = llm->org_id,
		.owner_id = llm->llm_config_id,
		.generation = generation,
	};

	*ret_text = NULL;
	*ret_len = 0;
	return !sealed || sealed_value_open(ring, &place, sealed, ret_text, ret_len, e);
}

bool llm_config_open_key(struct keyring *ring, const struct llm_config *llm, char **ret_text, size_t *ret_len,
			 struct err *e)
{
	return open_secret(ring, llm, PURPOSE_KEY, llm->key_generation, llm->sealed_key, ret_text, ret_len, e);
}

bool llm_config_open_headers(struct keyring *ring, const struct llm_config *llm, char **ret_text, size_t *ret_len,
			     struct err *e)
{
	return open_secret(ring, llm, PURPOSE_HEADERS, llm->headers_generation, llm->sealed_headers, ret_text, ret_len,
			   e);
}

/* --- reading --- */

void llm_config_from_row(struct db *db, struct arena *mem, unsigned first, struct llm_config *ret_llm)
{
	enum {
		LLM_ID,
		LLM_ORG,
		LLM_GENERATION,
		LLM_PROVIDER,
		LLM_URL,
		LLM_KEY,
		LLM_KEY_OF,
		LLM_HEADERS,
		LLM_HEADERS_OF,
		LLM_DEFAULTS
	};

	ret_llm->llm_config_id = db_col_id(db, first + LLM_ID);
	ret_llm->org_id = db_col_id(db, first + LLM_ORG);
	ret_llm->generation = db_col_u64(db, first + LLM_GENERATION);
	(void)llm_provider_parse(db_col_str(db, first + LLM_PROVIDER), &ret_llm->provider);
	ret_llm->base_url = sql_str(db, mem, first + LLM_URL);
	ret_llm->sealed_key = sql_str(db, mem, first + LLM_KEY);
	ret_llm->key_generation = db_col_u64(db, first + LLM_KEY_OF);
	ret_llm->sealed_headers = sql_str(db, mem, first + LLM_HEADERS);
	ret_llm->headers_generation = db_col_u64(db, first + LLM_HEADERS_OF);
	ret_llm->defaults = sql_str(db, mem, first + LLM_DEFAULTS);
}

static void view_from_row(struct db *db, struct arena *mem, void *ret_row)
{
	enum {
		VIEW_ID,
		VIEW_ORG,
		VIEW_NAME,
		VIEW_GENERATION,
		VIEW_PROVIDER,
		VIEW_URL,
		VIEW_HAS_KEY,
		VIEW_HINT,
		VIEW_HEADERS,
		VIEW_DEFAULTS,
		VIEW_USED_BY,
		VIEW_CREATED,
		VIEW_UPDATED
	};
	struct llm_config_view *view = ret_row;

	view->llm_config_id = db_col_id(db, VIEW_ID);
	view->org_id = db_col_id(db, VIEW_ORG);
	view->name = sql_str(db, mem, VIEW_NAME);
	view->generation = db_col_u64(db, VIEW_GENERATION);
	(void)llm_provider_parse(db_col_str(db, VIEW_PROVIDER), &view->provider);
	view->base_url = sql_str(db, mem, VIEW_URL);
	view->has_key = db_col_i64(db, VIEW_HAS_KEY) != 0;
	view->key_hint = sql_str(db, mem, VIEW_HINT);
	view->header_names = sql_str(db, mem, VIEW_HEADERS);
	view->defaults = sql_str(db, mem, VIEW_DEFAULTS);
	view->used_by = db_col_u64(db, VIEW_USED_BY);
	view->created_at = sql_str(db, mem, VIEW_CREATED);
	view->updated_at = sql_str(db, mem, VIEW_UPDATED);
}

/* A failure is no refusal. */
static bool found_or_not(enum db_result result, enum problem *ret_problem)
{
	if (result != DB_FAIL)
		*ret_problem = result == DB_ROW ? PROBLEM_NONE : PROBLEM_LLM_CONFIG_NOT_FOUND;
	return result != DB_FAIL;
}

bool llm_config_get(struct db *db, struct arena *mem, const struct id *org_id, const struct id *llm_config_id,
		    struct llm_config_view *ret_view, enum problem *ret_problem, struct err *e)
{
	enum db_result result;

	db_use(db, SQL_LLM_GET);
	db_bind_id(db, llm_config_id);
	db_bind_id(db, org_id);
	result = sql_first(db, e);
	if (result == DB_ROW)
		view_from_row(db, mem, ret_view);
	return found_or_not(result, ret_problem) && sql_mem_ok(mem, e);
}

bool llm_config_list(struct db *db, struct arena *mem, const struct id *org_id, const struct id *after, unsigned limit,
		     struct llm_config_view **ret_views, unsigned *ret_count, struct err *e)
{
	void *rows;

	db_use(db, SQL_LLM_LIST);
	db_bind_id(db, org_id);
	sql_bind_after(db, after, SQL_ID_FIRST);
	db_bind_u64(db, sql_page(limit));
	if (!sql_collect(db, mem, view_from_row, sizeof(struct llm_config_view), limit, &rows, ret_count, e))
		return false;
	*ret_views = rows;
	return true;
}

static void user_from_row(struct db *db, struct arena *mem, void *ret_row)
{
	struct llm_config_user *user = ret_row;

	user->instance_id = db_col_id(db, 0);
	user->name = sql_str(db, mem, 1);
}

bool llm_config_users(struct db *db, struct arena *mem, const struct id *org_id, const struct id *llm_config_id,
		      unsigned limit, struct llm_config_user **ret_users, unsigned *ret_count, struct err *e)
{
	void *rows;

	db_use(db, SQL_LLM_USERS);
	db_bind_id(db, org_id);
	db_bind_id(db, llm_config_id);
	db_bind_u64(db, sql_page(limit));
	if (!sql_collect(db, mem, user_from_row, sizeof(struct llm_config_user), limit, &rows, ret_count, e))
		return false;
	*ret_users = rows;
	return true;
}

bool llm_config_is_of_org(struct db *db, const struct id *org_id, const struct id *llm_config_id,
			  enum problem *ret_problem, struct err *e)
{
	db_use(db, SQL_LLM_OF_ORG);
	db_bind_id(db, llm_config_id);
	db_bind_id(db, org_id);
	return found_or_not(sql_first(db, e), ret_problem);
}

/* --- one generation, as it is written --- */

struct version {
	struct id llm_config_id, org_id;
	uint64_t generation;
	const char *name;
	enum llm_provider provider;
	const char *base_url;
	struct id key_sealed_id;
	const char *key_hint;
	struct id headers_sealed_id;
	const char *header_names;
	const char *defaults;
};

/* Without the slashes at its end. */
static size_t url_len(const char *url)
{
	size_t len = strlen(url);

	while (len > 0 && url[len - 1] == '/')
		len--;
	return len;
}

static bool seal(struct db *db, struct keyring *ring, const struct version *v, const char *purpose, const char *text,
		 size_t len, struct id *ret_sealed_id, enum problem *ret_problem, struct err *e)
{
	const struct sealed_place place = {
		.purpose = purpose,
		.org_id = v->org_id,
		.owner_id = v->llm_config_id,
		.generation = v->generation,
	};

	return sealed_value_put(db, ring, &place, text, len, ret_sealed_id, ret_problem, e);
}

/* The hint lies in the key, which outlives the statement that writes it. */
static bool seal_key(struct db *db, struct keyring *ring, struct version *v, const struct llm_config_change *change,
		     enum problem *ret_problem, struct err *e)
{
	if (change->key_step == LLM_SECRET_KEEP)
		return true;
	v->key_sealed_id = (struct id){""};
	v->key_hint = NULL;
	if (change->key_step == LLM_SECRET_REMOVE)
		return true;
	if (change->key_len >= LLM_HINT_KEY_LEN_MIN)
		v->key_hint = change->key + change->key_len - HINT_LEN;
	return seal(db, ring, v, PURPOSE_KEY, change->key, change->key_len, &v->key_sealed_id, ret_problem, e);
}

static bool seal_headers(struct db *db, struct keyring *ring, struct version *v, const struct llm_config_change *change,
			 enum problem *ret_problem, struct err *e)
{
	if (change->headers_step == LLM_SECRET_KEEP)
		return true;
	v->headers_sealed_id = (struct id){""};
	v->header_names = "[]";
	if (change->headers_step == LLM_SECRET_REMOVE)
		return true;
	v->header_names = change->header_names;
	return seal(db, ring, v, PURPOSE_HEADERS, change->headers, strlen(change->headers), &v->headers_sealed_id,
		    ret_problem, e);
}

/* Secrets first: the generation refers to them. */
static bool write_version(struct db *db, struct keyring *ring, struct version *v,
			  const struct llm_config_change *change, enum problem *ret_problem, struct err *e)
{
	if (!seal_key(db, ring, v, change, ret_problem, e))
		return false;
	if (*ret_problem == PROBLEM_NONE && !seal_headers(db, ring, v, change, ret_problem, e))
		return false;
	if (*ret_problem != PROBLEM_NONE)
		return true;
	db_use(db, SQL_LLM_GENERATION_INSERT);
	db_bind_id(db, &v->llm_config_id);
	db_bind_u64(db, v->generation);
	db_bind_str(db, llm_provider_name(v->provider));
	db_bind_strn(db, v->base_url, url_len(v->base_url));
	db_bind_id(db, &v->key_sealed_id);
	db_bind_str(db, v->key_hint);
	db_bind_id(db, &v->headers_sealed_id);
	db_bind_str(db, v->header_names);
	db_bind_str(db, v->defaults);
	return db_exec(db, e);
}

/* Who makes one more at the same time waits for the org's lock. */
static bool check_room(struct db *db, const struct id *org_id, enum problem *ret_problem, struct err *e)
{
	db_use(db, SQL_LLM_LOCK_ORG);
	db_bind_id(db, org_id);
	if (!db_exec(db, e))
		return false;
	db_use(db, SQL_LLM_COUNT);
	db_bind_id(db, org_id);
	if (sql_first(db, e) != DB_ROW)
		return false;
	*ret_problem = db_col_u64(db, 0) < LLM_CONFIGS_MAX ? PROBLEM_NONE : PROBLEM_QUOTA_LLM_CONFIGS;
	return true;
}

bool llm_config_create(struct db *db, struct keyring *ring, const struct id *llm_config_id, const struct id *org_id,
		       const struct llm_config_change *values, enum problem *ret_problem, struct err *e)
{
	struct version v = {
		.llm_config_id = *llm_config_id,
		.org_id = *org_id,
		.generation = 1,
		.provider = (enum llm_provider)values->provider,
		.base_url = values->base_url,
		.header_names = "[]",
		.defaults = values->defaults,
	};

	if (!check_room(db, org_id, ret_problem, e))
		return false;
	if (*ret_problem != PROBLEM_NONE)
		return true;
	db_use(db, SQL_LLM_INSERT);
	db_bind_id(db, llm_config_id);
	db_bind_id(db, org_id);
	db_bind_str(db, values->name);
	if (!sql_exec_named(db, ret_problem, e))
		return false;
	return *ret_problem != PROBLEM_NONE || write_version(db, ring, &v, values, ret_problem, e);
}

/* --- changing --- */

static bool lock(struct db *db, const struct id *org_id, const struct id *llm_config_id, enum problem *ret_problem,
		 struct err *e)
{
	db_use(db, SQL_LLM_LOCK);
	db_bind_id(db, llm_config_id);
	db_bind_id(db, org_id);
	return found_or_not(sql_first(db, e), ret_problem);
}

static bool read_newest(struct db *db, struct arena *mem, struct version *v, enum problem *ret_problem, struct err *e)
{
	enum {
		NEWEST_GENERATION,
		NEWEST_NAME,
		NEWEST_PROVIDER,
		NEWEST_URL,
		NEWEST_KEY,
		NEWEST_HINT,
		NEWEST_HEADERS,
		NEWEST_HEADER_NAMES,
		NEWEST_DEFAULTS
	};

	db_use(db, SQL_LLM_NEWEST);
	db_bind_id(db, &v->llm_config_id);
	db_bind_id(db, &v->org_id);
	enum db_result result = sql_first(db, e);
	if (result != DB_ROW)
		return found_or_not(result, ret_problem);
	*ret_problem = PROBLEM_NONE;
	v->generation = db_col_u64(db, NEWEST_GENERATION);
	v->name = sql_str(db, mem, NEWEST_NAME);
	(void)llm_provider_parse(db_col_str(db, NEWEST_PROVIDER), &v->provider);
	v->base_url = sql_str(db, mem, NEWEST_URL);
	v->key_sealed_id = db_col_id(db, NEWEST_KEY);
	v->key_hint = sql_str(db, mem, NEWEST_HINT);
	v->headers_sealed_id = db_col_id(db, NEWEST_HEADERS);
	v->header_names = sql_str(db, mem, NEWEST_HEADER_NAMES);
	v->defaults = sql_str(db, mem, NEWEST_DEFAULTS);
	return sql_mem_ok(mem, e);
}

/* Takes what is given. */
static void apply(const struct llm_config_change *change, struct version *v)
{
	if (change->name)
		v->name = change->name;
	if (change->provider >= 0)
		v->provider = (enum llm_provider)change->provider;
	if (change->base_url)
		v->base_url = change->base_url;
	if (change->defaults)
		v->defaults = change->defaults;
}

/* More than the name. */
static bool is_other_version(const struct llm_config_change *change, const struct version *old, const struct version *v)
{
	return v->provider != old->provider || url_len(v->base_url) != strlen(old->base_url) ||
	       strncmp(v->base_url, old->base_url, strlen(old->base_url)) != 0 ||
	       strcmp(v->defaults, old->defaults) != 0 || change->key_step == LLM_SECRET_SET ||
	       (change->key_step == LLM_SECRET_REMOVE && id_is_set(&old->key_sealed_id)) ||
	       change->headers_step == LLM_SECRET_SET ||
	       (change->headers_step == LLM_SECRET_REMOVE && id_is_set(&old->headers_sealed_id));
}

static bool is_same_origin(const char *a, const char *b)
{
	struct llm_origin x, y;

	return !llm_url_check(a, strlen(a), &x) && !llm_url_check(b, strlen(b), &y) && x.has_tls == y.has_tls &&
	       strcasecmp(x.host, y.host) == 0 && x.port == y.port;
}

static bool update_row(struct db *db, const struct version *v, enum problem *ret_problem, struct err *e)
{
	db_use(db, SQL_LLM_UPDATE);
	db_bind_str(db, v->name);
	db_bind_u64(db, v->generation);
	db_bind_id(db, &v->llm_config_id);
	return sql_exec_named(db, ret_problem, e);
}

static bool reload_apps(struct db *db, const struct version *v, const char *request_id, uint64_t *ret_apps,
			struct err *e)
{
	db_use(db, SQL_LLM_RAISE_APPS);
	db_bind_id(db, &v->org_id);
	db_bind_id(db, &v->llm_config_id);
	if (!db_exec(db, e))
		return false;
	*ret_apps = db_affected(db);
	if (*ret_apps == 0)
		return true;
	db_use(db, SQL_LLM_RELOAD_APPS);
	sql_bind_text(db, request_id, 64);
	db_bind_id(db, &v->org_id);
	db_bind_id(db, &v->llm_config_id);
	if (!db_exec(db, e))
		return false;
	db_use(db, SQL_LLM_SUPERSEDE);
	db_bind_id(db, &v->org_id);
	db_bind_id(db, &v->llm_config_id);
	return db_exec(db, e);
}

static bool find_old(struct db *db, const struct version *v, uint64_t ret_old[DROPPED_MAX], unsigned *ret_count,
		     struct err *e)
{
	enum db_result result = DB_DONE;
	unsigned count = 0;

	db_use(db, SQL_LLM_OLD_GENERATIONS);
	db_bind_id(db, &v->llm_config_id);
	db_bind_u64(db, v->generation);
	db_bind_u64(db, DROPPED_MAX);
	while (count < DROPPED_MAX && (result = db_step(db, e)) == DB_ROW)
		ret_old[count++] = db_col_u64(db, 0);
	db_done(db);
	*ret_count = count;
	return result != DB_FAIL;
}

/* What nothing goes back to. So many at a time: what is left over goes with the next change. */
static bool drop_old(struct db *db, const struct version *v, struct err *e)
{
	uint64_t old[DROPPED_MAX];
	unsigned count;

	if (!find_old(db, v, old, &count, e))
		return false;
	if (count == 0)
		return true;
	db_use(db, SQL_LLM_DROP_GENERATION);
	for (unsigned i = 0; i < count; i++) {
		if (i > 0)
			db_next_row(db);
		db_bind_id(db, &v->llm_config_id);
		db_bind_u64(db, old[i]);
	}
	if (!db_exec(db, e))
		return false;
	db_use(db, SQL_LLM_DROP_SECRETS);
	db_bind_id(db, &v->llm_config_id);
	return db_exec(db, e);
}

struct outlook {
	bool is_renamed, is_new;
	bool is_key_missing, are_headers_missing;
};

/* A secret was given for whom it went to then. */
static void look_for_secrets(const struct llm_config_change *change, const struct version *old, const struct version *v,
			     struct outlook *o)
{
	bool is_elsewhere = v->provider != old->provider || !is_same_origin(v->base_url, old->base_url);

	o->is_key_missing = is_elsewhere && id_is_set(&old->key_sealed_id) && change->key_step == LLM_SECRET_KEEP;
	o->are_headers_missing =
		is_elsewhere && id_is_set(&old->headers_sealed_id) && change->headers_step == LLM_SECRET_KEEP;
}

/* What the change would make of it as it stands. */
static bool look(struct db *db, struct arena *mem, const struct llm_config_change *change, struct version *v,
		 struct outlook *ret_outlook, enum problem *ret_problem, struct err *e)
{
	if (!read_newest(db, mem, v, ret_problem, e))
		return false;
	if (*ret_problem != PROBLEM_NONE)
		return true;
	const struct version old = *v;
	apply(change, v);
	ret_outlook->is_renamed = strcmp(v->name, old.name) != 0;
	ret_outlook->is_new = is_other_version(change, &old, v);
	look_for_secrets(change, &old, v, ret_outlook);
	if (ret_outlook->is_key_missing || ret_outlook->are_headers_missing)
		*ret_problem = PROBLEM_INVALID;
	return true;
}

static bool lock_all(struct db *db, const struct version *v, bool with_apps, enum problem *ret_problem, struct err *e)
{
	if (with_apps) {
		db_use(db, SQL_LLM_LOCK_APPS);
		db_bind_id(db, &v->org_id);
		db_bind_id(db, &v->llm_config_id);
		if (sql_first(db, e) != DB_ROW)
			return false;
	}
	return lock(db, &v->org_id, &v->llm_config_id, ret_problem, e);
}

/* Under the locks; v is what it becomes. */
static bool write_change(struct db *db, struct keyring *ring, const struct llm_config_change *change, struct version *v,
			 bool is_new, enum problem *ret_problem, struct err *e)
{
	v->generation += is_new;
	if (is_new && !write_version(db, ring, v, change, ret_problem, e))
		return false;
	return *ret_problem != PROBLEM_NONE || update_row(db, v, ret_problem, e);
}

/* Nothing to write, or not to be written. */
static bool is_settled(const struct outlook *o, enum problem problem)
{
	return problem != PROBLEM_NONE || (!o->is_new && !o->is_renamed);
}

bool llm_config_change(struct db *db, struct arena *mem, struct keyring *ring, const struct id *org_id,
		       const struct id *llm_config_id, const struct llm_config_change *change, const char *request_id,
		       struct llm_config_changed *ret_changed, enum problem *ret_problem, struct err *e)
{
	struct version v = {.llm_config_id = *llm_config_id, .org_id = *org_id};
	struct outlook o = {0};

	*ret_changed = (struct llm_config_changed){0};
	if (!look(db, mem, change, &v, &o, ret_problem, e))
		return false;
	if (!is_settled(&o, *ret_problem)) {
		if (!lock_all(db, &v, o.is_new, ret_problem, e))
			return false;
		/* Somebody may have changed it before we had the lock: what counts is what is found now. */
		if (*ret_problem == PROBLEM_NONE && !look(db, mem, change, &v, &o, ret_problem, e))
			return false;
	}
	ret_changed->is_key_missing = o.is_key_missing;
	ret_changed->are_headers_missing = o.are_headers_missing;
	if (is_settled(&o, *ret_problem))
		return true;
	if (!write_change(db, ring, change, &v, o.is_new, ret_problem, e))
		return false;
	if (*ret_problem != PROBLEM_NONE || !o.is_new)
		return true;
	return reload_apps(db, &v, request_id, &ret_changed->apps, e) && drop_old(db, &v, e);
}

/* --- removing --- */

static bool exec_of(struct db *db, const char *sql, const struct id *llm_config_id, struct err *e)
{
	db_use(db, sql);
	db_bind_id(db, llm_config_id);
	return db_exec(db, e);
}

static bool is_used(struct db *db, const struct id *org_id, const struct id *llm_config_id, bool *ret_used,
		    struct err *e)
{
	db_use(db, SQL_LLM_USERS);
	db_bind_id(db, org_id);
	db_bind_id(db, llm_config_id);
	db_bind_u64(db, 1);
	enum db_result result = sql_first(db, e);
	*ret_used = result == DB_ROW;
	return result != DB_FAIL;
}

bool llm_config_delete(struct db *db, const struct id *org_id, const struct id *llm_config_id,
		       enum problem *ret_problem, struct err *e)
{
	bool used;

	if (!lock(db, org_id, llm_config_id, ret_problem, e))
		return false;
	if (*ret_problem != PROBLEM_NONE)
		return true;
	if (!is_used(db, org_id, llm_config_id, &used, e))
		return false;
	if (used) {
		*ret_problem = PROBLEM_LLM_CONFIG_IN_USE;
		return true;
	}
	return exec_of(db, SQL_LLM_FORGET_GOOD, llm_config_id, e) &&
	       exec_of(db, SQL_LLM_DELETE_GENERATIONS, llm_config_id, e) &&
	       exec_of(db, SQL_LLM_DROP_SECRETS, llm_config_id, e) && exec_of(db, SQL_LLM_DELETE, llm_config_id, e);
}
