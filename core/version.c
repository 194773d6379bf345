/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A version is copied from the App's row by the database itself, so that a configuration crosses the wire once and the
 * two cannot differ. Which version was last ready is told by the content: the worker records the content, and knows no
 * numbers.
 */
#include "core/version.h"

#include <stdio.h>
#include <string.h>

#include "core/sql.h"
#include "lib/arena.h"
#include "lib/db.h"

static const char SQL_VERSION_INSERT[] =
	"INSERT INTO instance_versions (instance_id, version, org_id, framework_type, mode, config, config_hash, "
	"active_plugin_ids, token_id, source, of_version, created_at) SELECT instance_id, version, org_id, "
	"framework_type, mode, config, config_hash, active_plugin_ids, ?, ?, ?, UTC_TIMESTAMP(3) "
	"FROM orchestrator_instances WHERE instance_id = ?";
/* Of the old ones the one that was last ready. */
static const char SQL_VERSION_OLD_GOOD[] =
	"SELECT v.version FROM orchestrator_instances i JOIN instance_versions v ON v.instance_id = i.instance_id "
	"AND v.config_hash = i.good_config_hash WHERE i.instance_id = ? AND v.version <= ? "
	"ORDER BY v.version DESC LIMIT 1";
static const char SQL_VERSION_DROP[] =
	"DELETE FROM instance_versions WHERE instance_id = ? AND version <= ? AND version <> ?";

/* Another org's name for its token (the operator's) is not this org's to see. */
#define VERSION_COLUMNS(framework, mode, config, plugins)                                                              \
	"SELECT v.version, " framework ", " mode ", " config ", " plugins                                              \
	", v.config_hash, v.source, v.of_version, v.token_id, t.name, " SQL_UTC(                                       \
		"v.created_at") ", "                                                                                   \
				"v.version = i.version, COALESCE(v.config_hash = i.good_config_hash, 0) FROM "         \
				"orchestrator_instances i "                                                            \
				"JOIN instance_versions v ON v.instance_id = i.instance_id "                           \
				"LEFT JOIN api_tokens t ON t.token_id = v.token_id AND t.org_id = v.org_id WHERE "     \
				"i.instance_id = ? "

static const char SQL_VERSION_LIST[] =
	VERSION_COLUMNS("NULL", "NULL", "NULL", "NULL") "AND v.version < ? ORDER BY v.version DESC LIMIT ?";
static const char SQL_VERSION_GET[] =
	VERSION_COLUMNS("v.framework_type", "v.mode", "v.config", "v.active_plugin_ids") "AND v.version = ?";

static const char *const source_names[] = {
	[VERSION_CREATE] = "create",
	[VERSION_CONFIG] = "config",
	[VERSION_ROLLBACK] = "rollback",
};

const char *version_source_name(enum version_source source)
{
	return source_names[source];
}

/* --- writing --- */

/* All up to this one, but what a copy may have to fall back to. */
static bool drop_old(struct db *db, const struct id *instance_id, uint32_t last, struct err *e)
{
	enum db_result result;
	uint64_t good = 0;

	db_use(db, SQL_VERSION_OLD_GOOD);
	db_bind_id(db, instance_id);
	db_bind_u64(db, last);
	result = sql_first(db, e);
	if (result == DB_FAIL)
		return false;
	if (result == DB_ROW)
		good = db_col_u64(db, 0);
	db_use(db, SQL_VERSION_DROP);
	db_bind_id(db, instance_id);
	db_bind_u64(db, last);
	db_bind_u64(db, good);
	return db_exec(db, e);
}

bool version_record(struct db *db, const struct id *instance_id, uint32_t version, const struct version_mark *mark,
		    struct err *e)
{
	db_use(db, SQL_VERSION_INSERT);
	db_bind_id(db, &mark->token_id);
	db_bind_str(db, version_source_name(mark->source));
	sql_bind_from(db, mark->of_version, 1);
	db_bind_id(db, instance_id);
	if (!db_exec(db, e))
		return false;
	return version < VERSIONS_KEPT || drop_old(db, instance_id, version - (VERSIONS_KEPT - 1), e);
}

/* --- reading --- */

static void version_from_row(struct db *db, struct arena *mem, void *ret_row)
{
	enum {
		VERSION_NUMBER,
		VERSION_FRAMEWORK,
		VERSION_MODE,
		VERSION_CONFIG_TEXT,
		VERSION_PLUGINS,
		VERSION_HASH,
		VERSION_SOURCE,
		VERSION_OF,
		VERSION_TOKEN,
		VERSION_TOKEN_NAME,
		VERSION_CREATED,
		VERSION_IS_CURRENT,
		VERSION_IS_GOOD
	};
	struct version *v = ret_row;
	const char *source = db_col_str(db, VERSION_SOURCE);

	memset(v, 0, sizeof(*v));
	v->version = (uint32_t)db_col_u64(db, VERSION_NUMBER);
	v->framework_type = sql_str(db, mem, VERSION_FRAMEWORK);
	v->mode = sql_str(db, mem, VERSION_MODE);
	v->config = sql_str(db, mem, VERSION_CONFIG_TEXT);
	v->active_plugin_ids = sql_str(db, mem, VERSION_PLUGINS);
	(void)snprintf(v->config_hash, sizeof(v->config_hash), "%s", db_col_str(db, VERSION_HASH));
	for (size_t i = 0; i < ARRAY_LEN(source_names); i++)
		if (strcmp(source, source_names[i]) == 0)
			v->source = (enum version_source)i;
	v->of_version = (uint32_t)db_col_u64(db, VERSION_OF);
	v->token_id = db_col_id(db, VERSION_TOKEN);
	v->token_name = sql_str(db, mem, VERSION_TOKEN_NAME);
	v->created_at = sql_str(db, mem, VERSION_CREATED);
	v->is_current = db_col_i64(db, VERSION_IS_CURRENT) != 0;
	v->is_good = db_col_i64(db, VERSION_IS_GOOD) != 0;
}

bool version_list(struct db *db, struct arena *mem, const struct id *instance_id, uint32_t before, unsigned limit,
		  struct version **ret_versions, unsigned *ret_count, struct err *e)
{
	void *rows;

	db_use(db, SQL_VERSION_LIST);
	db_bind_id(db, instance_id);
	db_bind_u64(db, before > 0 ? before : (uint64_t)UINT32_MAX + 1);
	db_bind_u64(db, sql_page(limit));
	if (!sql_collect(db, mem, version_from_row, sizeof(struct version), limit, &rows, ret_count, e))
		return false;
	*ret_versions = rows;
	return true;
}

bool version_get(struct db *db, struct arena *mem, const struct id *instance_id, uint32_t version,
		 struct version *ret_version, enum problem *ret_problem, struct err *e)
{
	enum db_result result;

	db_use(db, SQL_VERSION_GET);
	db_bind_id(db, instance_id);
	db_bind_u64(db, version);
	result = sql_first(db, e);
	if (result == DB_FAIL)
		return false;
	if (result == DB_ROW)
		version_from_row(db, mem, ret_version);
	*ret_problem = result == DB_ROW ? PROBLEM_NONE : PROBLEM_VERSION_NOT_FOUND;
	return sql_mem_ok(mem, e);
}
