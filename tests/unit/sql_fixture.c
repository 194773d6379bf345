/* SPDX-License-Identifier: Apache-2.0 */
/* One server, one schema, one session and one arena; rows by plain SQL text, so that no module under test makes them.
 */
#include "tests/unit/sql_fixture.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/schema.h"
#include "lib/arena.h"
#include "lib/xalloc.h"
#include "tests/fake/servers.h"

struct fixture fx;

static struct server *server;

static void give_up(const char *what, const struct err *e)
{
	(void)fprintf(stderr, "%s: %s\n", what, e->text);
	exit(EXIT_FAILURE);
}

static struct db_options options_of(const char *database)
{
	return (struct db_options){.socket = server_socket(server),
				   .user = "root",
				   .database = database,
				   .connect_timeout_s = 10,
				   .io_timeout_s = 60,
				   .lock_wait_timeout_s = 10};
}

static struct db *connect_to(const char *database)
{
	struct db_options options = options_of(database);
	struct err e = {0};
	struct db *db = NULL;

	if (!db_open(&options, &db, &e))
		give_up("connecting", &e);
	return db;
}

struct db *fixture_connect(void)
{
	return connect_to("hearth");
}

struct db_pool *fixture_pool(unsigned size)
{
	struct db_options options = options_of("hearth");

	return db_pool_new(&options, size);
}

static void apply_schema(void)
{
	const char *srcdir = getenv("srcdir");
	char path[4096];
	struct err e = {0};
	unsigned applied;

	(void)snprintf(path, sizeof(path), "%s/schema", srcdir ? srcdir : ".");
	if (!schema_migrate(fx.db, path, NULL, &applied, &e))
		give_up(path, &e);
}

static void stop_server(void)
{
	server_stop(&server);
}

int fixture_start(void)
{
	struct err e = {0};
	struct db *plain;

	if (server) {
		fx.db = fixture_connect();
	} else {
		if (!db_library_init(&e) || !secret_init(&e))
			give_up("starting", &e);
		server = server_mariadb_start(server_dir_make());
		(void)atexit(stop_server);
		plain = connect_to(NULL);
		fixture_run(plain, "CREATE DATABASE hearth");
		db_close(&plain);
		fx.db = fixture_connect();
		apply_schema();
	}
	fx.mem = arena_new((size_t)64 << 20);
	return 0;
}

int fixture_stop(void)
{
	arena_free(&fx.mem);
	db_close(&fx.db);
	return 0;
}

void fixture_run(struct db *db, const char *fmt, ...)
{
	struct err e = {0};
	va_list args;
	char *sql;

	va_start(args, fmt);
	if (vasprintf(&sql, fmt, args) < 0)
		xalloc_die();
	va_end(args);
	if (!db_run_script(db, sql, strlen(sql), &e))
		give_up(sql, &e);
	free(sql);
}

void fixture_time_stop(void)
{
	fixture_run(fx.db, "SET timestamp = UNIX_TIMESTAMP(NOW(3))");
}

void fixture_time_go_on(void)
{
	fixture_run(fx.db, "SET timestamp = DEFAULT");
}

static void query(const char *sql, const struct id *id)
{
	struct err e = {0};

	db_use(fx.db, sql);
	if (id)
		db_bind_id(fx.db, id);
	if (db_step(fx.db, &e) != DB_ROW)
		give_up(sql, &e);
	db_done(fx.db);
}

int64_t fixture_number(const char *sql, const struct id *id)
{
	query(sql, id);
	return db_col_i64(fx.db, 0);
}

const char *fixture_text(const char *sql, const struct id *id)
{
	static char text[512];
	const char *value;

	query(sql, id);
	value = db_col_str(fx.db, 0);
	(void)snprintf(text, sizeof(text), "%s", value ? value : "NULL");
	return text;
}

struct id fixture_org(void)
{
	struct id org = id_new();

	fixture_run(
		fx.db,
		"INSERT INTO organizations (org_id, name, created_at, updated_at) VALUES ('%s', '%s', NOW(3), NOW(3))",
		org.text, org.text);
	return org;
}

struct id fixture_token(const struct id *org, const char *role, uint8_t ret_hash[SECRET_HASH_BYTES])
{
	struct id token = id_new();
	char hex[SECRET_HASH_HEX_SIZE];

	secret_hash(token.text, ID_TEXT_LEN, ret_hash);
	secret_hash_hex(token.text, ID_TEXT_LEN, hex);
	fixture_run(fx.db,
		    "INSERT INTO api_tokens (token_id, org_id, name, role, token_hash, created_at) "
		    "VALUES ('%s', NULLIF('%s', ''), 'test', '%s', UNHEX('%s'), NOW(3))",
		    token.text, org ? org->text : "", role, hex);
	return token;
}

struct id fixture_app(const struct id *org, const char *tier, const char *desired)
{
	struct id app = id_new();

	fixture_run(
		fx.db,
		"INSERT INTO orchestrator_instances (instance_id, org_id, name, framework_type, mode, tier, "
		"desired_state, "
		"config, config_hash, created_at, updated_at) VALUES ('%s', '%s', '%s', 'echo', 'single', '%s', '%s', "
		"'{}', REPEAT('0', 64), NOW(3), NOW(3))",
		app.text, org->text, app.text, tier, desired);
	return app;
}

struct id fixture_worker(const char *name)
{
	struct id incarnation = id_new();

	fixture_run(
		fx.db,
		"REPLACE INTO workers (worker_id, incarnation, process_id, host, machine_id, lease_until, hot_ceiling, "
		"demand_ceiling, started_at) VALUES ('%s', '%s', '%s', 'h', 'm', NOW(3) + INTERVAL 1 HOUR, 100, 100, "
		"NOW(3))",
		name, incarnation.text, incarnation.text);
	return incarnation;
}

void fixture_place(const struct id *app, const char *worker, const struct id *incarnation, const char *state,
		   unsigned generation, const char *reason)
{
	fixture_run(fx.db,
		    "REPLACE INTO placements (instance_id, worker_id, incarnation, org_id, tier, generation, state, "
		    "reason, "
		    "placed_at, changed_at) SELECT instance_id, '%s', '%s', org_id, tier, %u, '%s', NULLIF('%s', ''), "
		    "NOW(3), NOW(3) FROM orchestrator_instances WHERE instance_id = '%s'",
		    worker, incarnation->text, generation, state, reason ? reason : "", app->text);
}

struct id fixture_operation(const struct id *app, const char *action, unsigned generation)
{
	struct id operation = id_new();

	fixture_run(fx.db,
		    "INSERT INTO operations (operation_id, instance_id, org_id, action, tier, generation, source, "
		    "next_publish_at, accepted_at) SELECT '%s', instance_id, org_id, '%s', tier, %u, 'api_%s', NOW(3), "
		    "NOW(3) FROM orchestrator_instances WHERE instance_id = '%s'",
		    operation.text, action, generation, action, app->text);
	return operation;
}

const char *fixture_operation_state(const struct id *operation)
{
	return fixture_text("SELECT state FROM operations WHERE operation_id = ?", operation);
}
