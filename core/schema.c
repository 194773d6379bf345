/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Schema versions. The files NNN_*.sql are numbered from 001 without a gap; the
 * table schema_migrations has a row for each that was begun, with its SHA-256.
 * Everything is compared before anything is applied. MariaDB commits each DDL
 * statement by itself, so a file that fails half-way cannot be rolled back: its
 * row then has no applied_at, and nothing goes on until a person has looked.
 * The advisory lock lets a second migration wait and then find nothing to do.
 */
#include "core/schema.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/db.h"
#include "lib/secret.h"
#include "lib/xalloc.h"

#define LOCK "hearth.migrate"
#define LOCK_WAIT_S 60
#define FILES_MAX 999
#define FILE_BYTES_MAX ((size_t)4 << 20)

static const char SQL_CREATE[] =
	"CREATE TABLE IF NOT EXISTS schema_migrations ("
	"version INT UNSIGNED NOT NULL PRIMARY KEY, name VARCHAR(255) NOT NULL, "
	"checksum CHAR(64) NOT NULL, begun_at DATETIME(3) NOT NULL, applied_at DATETIME(3) NULL"
	") ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin";
static const char SQL_EXISTS[] = "SELECT COUNT(*) FROM information_schema.tables "
				 "WHERE table_schema = DATABASE() AND table_name = 'schema_migrations'";
static const char SQL_STATE[] = "SELECT MAX(version), COUNT(*) - COUNT(applied_at) FROM schema_migrations";
static const char SQL_ALL[] =
	"SELECT version, name, checksum, applied_at IS NOT NULL FROM schema_migrations ORDER BY version";
static const char SQL_BEGIN[] = "INSERT INTO schema_migrations (version, name, checksum, begun_at) "
				"VALUES (?, ?, ?, UTC_TIMESTAMP(3))";
static const char SQL_END[] = "UPDATE schema_migrations SET applied_at = UTC_TIMESTAMP(3) WHERE version = ?";

struct migration {
	unsigned version;
	char *name; /* of the file */
	struct buf text;
	char checksum[SECRET_HASH_HEX_SIZE];
};

struct migrations {
	struct migration *list; /* list[i].version is i + 1 */
	unsigned count;
};

/* --- check --- */

static bool has_table(struct db *db, bool *ret_has, struct err *e)
{
	db_use(db, SQL_EXISTS);
	if (db_step(db, e) != DB_ROW)
		return err_ctx(e, "looking for the schema");
	*ret_has = db_col_u64(db, 0) > 0;
	db_done(db);
	return true;
}

bool schema_check(struct db *db, struct err *e)
{
	unsigned version, unfinished;
	bool has = false;

	if (!has_table(db, &has, e))
		return false;
	if (!has)
		return err_set(e, ERR_MISSING,
			       "the database has no schema, or this user may not read schema_migrations: run "
			       "`hearthctl migrate`");
	db_use(db, SQL_STATE);
	if (db_step(db, e) != DB_ROW)
		return err_ctx(e, "reading the schema's version");
	version = (unsigned)db_col_u64(db, 0);
	unfinished = (unsigned)db_col_u64(db, 1);
	db_done(db);
	if (unfinished > 0)
		return err_set(e, ERR_CONFLICT,
			       "migration %03u of the database was begun and not finished: "
			       "run `hearthctl migrate` to see what to do",
			       version);
	if (version < SCHEMA_VERSION)
		return err_set(e, ERR_MISSING,
			       "the schema is version %u, this program needs %u: run `hearthctl migrate`", version,
			       SCHEMA_VERSION);
	if (version > SCHEMA_VERSION)
		return err_set(e, ERR_CONFLICT,
			       "the schema is version %u, this program knows %u: install the newer program", version,
			       SCHEMA_VERSION);
	return true;
}

/* --- the files --- */

static int is_sql(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name);

	return len > 4 && strcmp(entry->d_name + len - 4, ".sql") == 0;
}

static bool read_file(const char *dir, struct migration *m, struct err *e)
{
	char *path = xasprintf("%s/%s", dir, m->name);
	char chunk[16384];
	bool ok = false;
	size_t n;

	FILE *file = fopen(path, "re");
	if (!file) {
		err_set(e, ERR_INPUT, "%s: %s", path, strerror(errno));
		goto out;
	}
	while ((n = fread(chunk, 1, sizeof(chunk), file)) > 0)
		buf_append(&m->text, chunk, n);
	ok = !ferror(file) && !buf_has_failed(&m->text) && m->text.len > 0;
	if (!ok)
		err_set(e, ERR_INPUT, "%s: empty, larger than %zu bytes, or not readable", path, FILE_BYTES_MAX);
	(void)fclose(file);
out:
	free(path);
	return ok;
}

/* "012_words.sql" is 12; 0 where the name is not of that form. */
static unsigned version_of(const char *name)
{
	unsigned version = 0;

	for (int i = 0; i < 3; i++) {
		if (name[i] < '0' || name[i] > '9')
			return 0;
		version = version * 10 + (unsigned)(name[i] - '0');
	}
	return name[3] == '_' ? version : 0;
}

static bool read_migration(const char *dir, const char *name, unsigned expected, struct migration *m, struct err *e)
{
	m->version = version_of(name);
	m->name = xstrdup(name);
	buf_init(&m->text, FILE_BYTES_MAX);
	if (m->version != expected)
		return err_set(e, ERR_INPUT, "%s/%s: expected a file %03u_*.sql in its place", dir, name, expected);
	if (!read_file(dir, m, e))
		return false;
	secret_hash_hex(m->text.data, m->text.len, m->checksum);
	return true;
}

static bool read_migrations(const char *dir, struct migrations *ms, struct err *e)
{
	struct dirent **entries = NULL;
	bool ok = true;

	int count = scandir(dir, &entries, is_sql, alphasort);
	if (count < 0)
		return err_set(e, ERR_INPUT, "%s: %s", dir, strerror(errno));
	if (count == 0 || count > FILES_MAX)
		ok = err_set(e, ERR_INPUT, "%s: holds %d files NNN_*.sql, not 1 to %d", dir, count, FILES_MAX);
	ms->list = xcalloc((size_t)count + 1, sizeof(*ms->list));
	for (int i = 0; ok && i < count; i++) {
		ms->count++;
		ok = read_migration(dir, entries[i]->d_name, ms->count, &ms->list[i], e);
	}
	for (int i = 0; i < count; i++)
		free(entries[i]);
	free(entries);
	return ok;
}

static void clear_migrations(struct migrations *ms)
{
	for (unsigned i = 0; i < ms->count; i++) {
		free(ms->list[i].name);
		buf_clear(&ms->list[i].text);
	}
	free(ms->list);
}

/* --- migrate --- */

/* One row of the database against the file that has its place. */
static bool compare(struct db *db, const struct migrations *ms, unsigned place, struct err *e)
{
	unsigned version = (unsigned)db_col_u64(db, 0);
	const char *name = db_col_str(db, 1);

	if (version != place)
		return err_set(e, ERR_CONFLICT, "the database lacks migration %03u, though it has %03u", place,
			       version);
	if (!db_col_u64(db, 3))
		return err_set(e, ERR_CONFLICT,
			       "%s was begun and not finished: restore the database, or undo it by hand, then "
			       "DELETE FROM schema_migrations WHERE version = %u, and run again",
			       name, version);
	if (version > ms->count)
		return err_set(e, ERR_CONFLICT,
			       "the database has %s, this program ends at %03u: install the newer program", name,
			       ms->count);
	if (strcmp(db_col_str(db, 2), ms->list[place - 1].checksum) != 0)
		return err_set(e, ERR_CONFLICT,
			       "%s was changed after it was applied: put the old file back and add a new one",
			       ms->list[place - 1].name);
	return true;
}

/* *ret_present: how many of the files the database has. */
static bool compare_all(struct db *db, const struct migrations *ms, unsigned *ret_present, struct err *e)
{
	unsigned present = 0;
	enum db_result result;
	bool ok = true;

	db_use(db, SQL_ALL);
	while (ok && (result = db_step(db, e)) != DB_DONE) {
		ok = result == DB_ROW && compare(db, ms, present + 1, e);
		present++;
	}
	db_done(db);
	*ret_present = present;
	return ok;
}

static bool apply(struct db *db, const struct migration *m, struct err *e)
{
	db_use(db, SQL_BEGIN);
	db_bind_u64(db, m->version);
	db_bind_str(db, m->name);
	db_bind_str(db, m->checksum);
	if (!db_exec(db, e))
		return err_ctx(e, "%s: recording it", m->name);
	if (!db_run_script(db, buf_str(&m->text), m->text.len, e))
		return err_ctx(e, "%s", m->name);
	db_use(db, SQL_END);
	db_bind_u64(db, m->version);
	return db_exec(db, e) || err_ctx(e, "%s: applied, but not recorded as such", m->name);
}

static bool migrate_locked(struct db *db, const struct migrations *ms, void (*report)(const char *file),
			   unsigned *ret_applied, struct err *e)
{
	unsigned present;

	db_use(db, SQL_CREATE);
	if (!db_exec(db, e))
		return err_ctx(e, "making schema_migrations");
	if (!compare_all(db, ms, &present, e))
		return false;
	for (unsigned i = present; i < ms->count; i++) {
		if (!apply(db, &ms->list[i], e))
			return false;
		if (report)
			report(ms->list[i].name);
	}
	*ret_applied = ms->count - present;
	return true;
}

bool schema_migrate(struct db *db, const char *dir, void (*report)(const char *file), unsigned *ret_applied,
		    struct err *e)
{
	struct migrations ms = {0};
	bool ok = false;

	if (!read_migrations(dir, &ms, e))
		goto out;
	switch (db_lock(db, LOCK, LOCK_WAIT_S, e)) {
	case DB_ROW:
		ok = migrate_locked(db, &ms, report, ret_applied, e);
		db_unlock(db, LOCK);
		break;
	case DB_DONE:
		err_set(e, ERR_BUSY, "another migration has been running for %d s", LOCK_WAIT_S);
		break;
	case DB_FAIL:
		break;
	}
out:
	clear_migrations(&ms);
	return ok;
}
