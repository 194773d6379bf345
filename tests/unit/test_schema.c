/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Migrations against a real server. Each case has a database and a folder of
 * SQL files of its own; only the_schema_is_applied_once and the privileges use
 * the files of the source tree.
 */
#include "core/schema.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/db.h"
#include "lib/secret.h"
#include "lib/xalloc.h"
#include "tests/fake/servers.h"
#include "tests/unit/harness.h"

#define ONE "CREATE TABLE one (n INT);\nINSERT INTO one VALUES (1);\n"
#define TWO "CREATE TABLE two (n INT)"

static struct server *server;
static const char *root; /* of the files */
static char dir[4096];   /* of this case's */
static char database[32];
static struct db *db; /* on this case's database */
static int report_count;

/* --- fixture --- */

static struct db *connect_as(const char *user, const char *password, const char *name)
{
	const struct db_options options = {.socket = server_socket(server),
					   .user = user,
					   .password = password,
					   .database = name,
					   .connect_timeout_s = 10,
					   .io_timeout_s = 120};
	struct db *made = NULL;
	struct err e = {0};

	if (db_open(&options, &made, &e))
		return made;
	(void)fprintf(stderr, "%s: %s\n", user, e.text);
	exit(EXIT_FAILURE);
}

static void run_sql(struct db *on, const char *sql)
{
	struct err e = {0};

	if (db_run_script(on, sql, strlen(sql), &e))
		return;
	(void)fprintf(stderr, "%s: %s\n", sql, e.text);
	exit(EXIT_FAILURE);
}

static int start(void)
{
	struct err e;

	if (!db_library_init(&e) || !secret_init(&e))
		return 1;
	root = server_dir_make();
	server = server_mariadb_start(root);
	return 0;
}

static int stop(void)
{
	server_stop(&server);
	db_library_end();
	return 0;
}

/* A new database and an empty folder. */
static void set_up(void)
{
	static int number;
	struct db *plain = connect_as("root", NULL, NULL);
	char sql[64];

	(void)snprintf(database, sizeof(database), "case%d", ++number);
	(void)snprintf(sql, sizeof(sql), "CREATE DATABASE %s", database);
	run_sql(plain, sql);
	db_close(&plain);
	db = connect_as("root", NULL, database);
	(void)snprintf(dir, sizeof(dir), "%s/sql%d", root, number);
	CU_ASSERT_EQUAL_FATAL(mkdir(dir, 0700), 0);
	report_count = 0;
}

static void tear_down(void)
{
	db_close(&db);
}

static void put_file(const char *name, const char *text)
{
	char *path = xasprintf("%s/%s", dir, name);
	FILE *file = fopen(path, "w");

	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	CU_ASSERT_TRUE(fputs(text, file) >= 0);
	CU_ASSERT_EQUAL(fclose(file), 0);
	free(path);
}

static void remove_file(const char *name)
{
	char *path = xasprintf("%s/%s", dir, name);

	CU_ASSERT_EQUAL(unlink(path), 0);
	free(path);
}

static void count_report(const char *file)
{
	(void)file;
	report_count++;
}

/* How many were applied, or -1 with the error. */
static int migrate(struct err *e)
{
	unsigned applied = 99;

	*e = (struct err){0};
	return schema_migrate(db, dir, count_report, &applied, e) ? (int)applied : -1;
}

static int64_t number_of(const char *sql)
{
	struct err e;
	int64_t n = -1;

	db_use(db, sql);
	if (db_step(db, &e) == DB_ROW)
		n = db_col_i64(db, 0);
	db_done(db);
	return n;
}

static int64_t count_tables(void)
{
	return number_of("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()");
}

static const char *source_path(const char *name)
{
	static char path[4096];
	const char *srcdir = getenv("srcdir");

	(void)snprintf(path, sizeof(path), "%s/%s", srcdir ? srcdir : ".", name);
	return path;
}

/* --- cases --- */

static void an_empty_database_is_told_what_to_do(void)
{
	struct err e = {0};

	CU_ASSERT_FALSE(schema_check(db, &e));
	CU_ASSERT_EQUAL(e.code, ERR_MISSING);
	CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "hearthctl migrate"));
}

static void the_schema_is_applied_once(void)
{
	struct err e;

	(void)snprintf(dir, sizeof(dir), "%s", source_path("schema"));
	CU_ASSERT_EQUAL(migrate(&e), SCHEMA_VERSION); /* so SCHEMA_VERSION is the last file's */
	CU_ASSERT_STRING_EQUAL(e.text, "");
	CU_ASSERT_EQUAL(report_count, SCHEMA_VERSION);
	CU_ASSERT_TRUE(schema_check(db, &e));
	CU_ASSERT_EQUAL(number_of("SELECT COUNT(*) FROM audit_log"), 0);
	int64_t tables = count_tables();
	CU_ASSERT_EQUAL(migrate(&e), 0);
	CU_ASSERT_EQUAL(report_count, SCHEMA_VERSION);
	CU_ASSERT_EQUAL(count_tables(), tables);
}

static void link_source(const char *name)
{
	char cwd[2048];
	char *path = xasprintf("%s/%s", dir, name), *from;

	from = xasprintf("schema/%s", name);
	const char *source = source_path(from);
	CU_ASSERT_PTR_NOT_NULL_FATAL(getcwd(cwd, sizeof(cwd)));
	char *whole = source[0] == '/' ? xstrdup(source) : xasprintf("%s/%s", cwd, source);
	CU_ASSERT_EQUAL_FATAL(symlink(whole, path), 0);
	free(whole);
	free(from);
	free(path);
}

static void apps_that_were_there_before_versions_get_their_first(void)
{
	struct err e;

	link_source("001_init.sql");
	link_source("002_operations_indexes.sql");
	link_source("003_llm_configs.sql");
	link_source("004_turn_costs.sql");
	link_source("005_conversations.sql");
	CU_ASSERT_EQUAL_FATAL(migrate(&e), 5);
	run_sql(db,
		"INSERT INTO organizations (org_id, name, created_at, updated_at) VALUES (UUID(), 'o', NOW(), NOW()); "
		"INSERT INTO orchestrator_instances (instance_id, org_id, name, framework_type, mode, config, "
		"config_hash, created_at, updated_at) SELECT UUID(), org_id, seq, 'echo', 'single', "
		"CONCAT('{\"prefix\":\"', seq, '\"}'), seq, '2026-01-02', NOW() FROM organizations, seq_1_to_3");
	link_source("006_versions.sql");
	CU_ASSERT_EQUAL_FATAL(migrate(&e), 1);
	CU_ASSERT_EQUAL(number_of("SELECT COUNT(*) FROM instance_versions"), 3);
	CU_ASSERT_EQUAL(number_of("SELECT COUNT(*) FROM instance_versions v JOIN orchestrator_instances i USING "
				  "(instance_id, org_id, framework_type, mode, config, config_hash, active_plugin_ids, "
				  "version, created_at) WHERE version = 1 AND token_id IS NULL AND source = 'create'"),
			3);
}

static void a_new_file_comes_after_the_old_ones(void)
{
	struct err e;

	put_file("001_one.sql", ONE);
	put_file("README.md", "no SQL");
	CU_ASSERT_EQUAL(migrate(&e), 1);
	put_file("002_two.sql", TWO);
	CU_ASSERT_EQUAL(migrate(&e), 1);
	CU_ASSERT_EQUAL(migrate(&e), 0);
	CU_ASSERT_EQUAL(number_of("SELECT COUNT(*) FROM one"), 1);
	CU_ASSERT_EQUAL(number_of("SELECT COUNT(*) FROM two"), 0);
	CU_ASSERT_EQUAL(number_of("SELECT COUNT(*) FROM schema_migrations WHERE applied_at >= begun_at AND "
				  "checksum REGEXP '^[0-9a-f]{64}$'"),
			2);
}

static void a_changed_file_is_refused_before_anything_is_applied(void)
{
	struct err e;

	put_file("001_one.sql", ONE);
	CU_ASSERT_EQUAL(migrate(&e), 1);
	put_file("001_one.sql", ONE " ");
	put_file("002_two.sql", TWO);
	int64_t tables = count_tables();
	CU_ASSERT_EQUAL(migrate(&e), -1);
	CU_ASSERT_EQUAL(e.code, ERR_CONFLICT);
	CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "001_one.sql was changed"));
	CU_ASSERT_EQUAL(count_tables(), tables);
}

static void a_newer_database_is_refused(void)
{
	struct err e;

	put_file("001_one.sql", ONE);
	put_file("002_two.sql", TWO);
	CU_ASSERT_EQUAL(migrate(&e), 2);
	remove_file("002_two.sql");
	CU_ASSERT_EQUAL(migrate(&e), -1);
	CU_ASSERT_EQUAL(e.code, ERR_CONFLICT);
	CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "install the newer program"));
}

static void set_version(unsigned version)
{
	char sql[128];

	(void)snprintf(sql, sizeof(sql), "UPDATE schema_migrations SET version = %u", version);
	run_sql(db, sql);
}

static void the_check_knows_older_and_newer(void)
{
	struct err e = {0};

	put_file("001_one.sql", ONE);
	CU_ASSERT_EQUAL(migrate(&e), 1);
	set_version(SCHEMA_VERSION);
	CU_ASSERT_TRUE(schema_check(db, &e));
	set_version(SCHEMA_VERSION + 1);
	CU_ASSERT_FALSE(schema_check(db, &e));
	CU_ASSERT_EQUAL(e.code, ERR_CONFLICT);
	CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "install the newer program"));
	set_version(SCHEMA_VERSION - 1);
	CU_ASSERT_FALSE(schema_check(db, &e));
	CU_ASSERT_EQUAL(e.code, ERR_MISSING);
	CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "hearthctl migrate"));
}

static void a_file_that_fails_stops_everything_until_someone_looked(void)
{
	struct err e;

	put_file("001_one.sql", ONE "CREATE TABLE one (n INT);\n");
	CU_ASSERT_EQUAL(migrate(&e), -1);
	CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "001_one.sql: statement 3"));
	CU_ASSERT_FALSE(schema_check(db, &e));
	CU_ASSERT_EQUAL(e.code, ERR_CONFLICT);
	CU_ASSERT_EQUAL(migrate(&e), -1);
	CU_ASSERT_EQUAL(e.code, ERR_CONFLICT);
	CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "begun and not finished"));
	/* What the message says to do. */
	run_sql(db, "DROP TABLE one; DELETE FROM schema_migrations WHERE version = 1");
	put_file("001_one.sql", ONE);
	CU_ASSERT_EQUAL(migrate(&e), 1);
}

static void a_hole_in_the_database_is_refused(void)
{
	struct err e;

	put_file("001_one.sql", ONE);
	put_file("002_two.sql", TWO);
	CU_ASSERT_EQUAL(migrate(&e), 2);
	run_sql(db, "DELETE FROM schema_migrations WHERE version = 1");
	CU_ASSERT_EQUAL(migrate(&e), -1);
	CU_ASSERT_EQUAL(e.code, ERR_CONFLICT);
	CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "lacks migration 001"));
}

static const struct {
	int line;
	const char *names[3];
	const char *expected; /* part of the message */
} folders[] = {
	{__LINE__, {NULL}, "holds 0 files"},
	{__LINE__, {"002_two.sql"}, "expected a file 001_*.sql"},
	{__LINE__, {"001_one.sql", "003_two.sql"}, "expected a file 002_*.sql"},
	{__LINE__, {"001_one.sql", "001_two.sql"}, "expected a file 002_*.sql"},
	{__LINE__, {"000_zero.sql", "001_one.sql"}, "expected a file 001_*.sql"},
	{__LINE__, {"01_one.sql"}, "expected a file 001_*.sql"},
	{__LINE__, {"001one.sql"}, "expected a file 001_*.sql"},
	{__LINE__, {"one.sql"}, "expected a file 001_*.sql"},
};

static void a_folder_with_gaps_is_refused(void)
{
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		for (size_t j = 0; folders[i].names[j]; j++)
			put_file(folders[i].names[j], TWO);
		CHECK_ROW(&folders[i], migrate(&e) == -1);
		CHECK_ROW(&folders[i], e.code == ERR_INPUT && strstr(e.text, folders[i].expected));
		for (size_t j = 0; folders[i].names[j]; j++)
			remove_file(folders[i].names[j]);
	}
	put_file("001_one.sql", "");
	CU_ASSERT_EQUAL(migrate(&e), -1);
	CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "001_one.sql: empty"));
	(void)snprintf(dir, sizeof(dir), "/nonexistent/schema");
	CU_ASSERT_EQUAL(migrate(&e), -1);
	CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "/nonexistent/schema"));
	CU_ASSERT_EQUAL(count_tables(), 0);
}

static void *migrate_beside(void *ret_applied)
{
	struct db *own = connect_as("root", NULL, database);
	struct err e = {0};

	if (!schema_migrate(own, dir, NULL, ret_applied, &e))
		(void)fprintf(stderr, "%s\n", e.text);
	db_close(&own);
	return NULL;
}

static void migrations_at_the_same_time_apply_each_file_once(void)
{
	unsigned applied[4] = {99, 99, 99, 99};
	pthread_t threads[4];
	unsigned sum = 0;

	put_file("001_one.sql", "CREATE TABLE one (n INT); DO SLEEP(0.2); INSERT INTO one VALUES (1);");
	put_file("002_two.sql", TWO);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, migrate_beside, &applied[i]), 0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		CU_ASSERT_EQUAL(pthread_join(threads[i], NULL), 0);
		sum += applied[i];
	}
	CU_ASSERT_EQUAL(sum, 2);
	CU_ASSERT_EQUAL(number_of("SELECT COUNT(*) FROM one"), 1);
}

static void run_source(struct db *on, const char *name)
{
	struct buf text;
	char chunk[4096];
	size_t n;
	FILE *file = fopen(source_path(name), "r");

	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	buf_init(&text, 1 << 20);
	while ((n = fread(chunk, 1, sizeof(chunk), file)) > 0)
		buf_append(&text, chunk, n);
	(void)fclose(file);
	run_sql(on, buf_str(&text));
	buf_clear(&text);
}

static bool may(const char *sql)
{
	struct err e = {0};

	db_use(db, sql);
	return db_exec(db, &e);
}

/* Whoever takes over hearth.fcgi, which holds the keys, finds nothing to open with them. */
static void check_rights_to_sealed_values(void)
{
	CU_ASSERT_TRUE(may("SELECT sealed_id, purpose, org_id, owner_id, generation, key_id FROM sealed_values"));
	CU_ASSERT_FALSE(may("SELECT sealed FROM sealed_values"));
	CU_ASSERT_FALSE(may("SELECT * FROM sealed_values"));
	CU_ASSERT_FALSE(may("UPDATE sealed_values SET sealed = ''"));
	CU_ASSERT_FALSE(may("INSERT INTO llm_config_generations (llm_config_id, generation, provider, base_url, "
			    "header_names, defaults, created_at) SELECT owner_id, 1, 'openai', sealed, '', '', NOW(3) "
			    "FROM sealed_values"));
	CU_ASSERT_FALSE(may("DELETE FROM sealing_keys"));
	CU_ASSERT_FALSE(may("UPDATE sealing_keys SET state = 'old'"));
}

/* With conf/mariadb-setup.sql and mariadb-grants.sql, as an operator runs them. */
static void the_users_of_the_programs_have_the_rights_they_need(void)
{
	struct db *plain = connect_as("root", NULL, NULL);
	struct err e = {0};

	run_source(plain, "conf/mariadb-setup.sql");
	db_close(&db);
	db = connect_as("hearth_ctl", "change-me-ctl", "hearth");
	(void)snprintf(dir, sizeof(dir), "%s", source_path("schema"));
	CU_ASSERT_EQUAL(migrate(&e), SCHEMA_VERSION);
	CU_ASSERT_STRING_EQUAL(e.text, "");
	run_source(plain, "conf/mariadb-grants.sql");
	run_source(plain, "conf/mariadb-grants.sql");
	db_close(&plain);
	db_close(&db);
	db = connect_as("hearth_app", "change-me-app", "hearth");
	CU_ASSERT_TRUE(schema_check(db, &e));
	check_rights_to_sealed_values();
	db_close(&db);
	db = connect_as("hearth_worker", "change-me-worker", "hearth");
	CU_ASSERT_TRUE(schema_check(db, &e));
	CU_ASSERT_TRUE(may("SELECT sealed FROM sealed_values"));
	CU_ASSERT_FALSE(may("UPDATE sealed_values SET sealed = ''"));
}

static CU_TestInfo cases[] = {
	CASE(an_empty_database_is_told_what_to_do),
	CASE(the_schema_is_applied_once),
	CASE(apps_that_were_there_before_versions_get_their_first),
	CASE(a_new_file_comes_after_the_old_ones),
	CASE(a_changed_file_is_refused_before_anything_is_applied),
	CASE(a_newer_database_is_refused),
	CASE(the_check_knows_older_and_newer),
	CASE(a_file_that_fails_stops_everything_until_someone_looked),
	CASE(a_hole_in_the_database_is_refused),
	CASE(a_folder_with_gaps_is_refused),
	CASE(migrations_at_the_same_time_apply_each_file_once),
	CASE(the_users_of_the_programs_have_the_rights_they_need),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{.pName = "schema",
	 .pInitFunc = start,
	 .pCleanupFunc = stop,
	 .pSetUpFunc = set_up,
	 .pTearDownFunc = tear_down,
	 .pTests = cases},
	CU_SUITE_INFO_NULL,
};
