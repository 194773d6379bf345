/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Also holds the sample and the manual to the table: an option that is missing
 * in conf/hearth.conf.sample or docs/hearth.conf.5.md fails here.
 */
#include "core/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/macros.h"
#include "tests/unit/harness.h"

static char conf_path[] = "test_settings.XXXXXX";
static char secret_path[] = "test_settings_secret.XXXXXX";

static int make_files(void)
{
	int conf = mkstemp(conf_path), secret = mkstemp(secret_path);

	if (conf < 0 || secret < 0)
		return 1;
	(void)unsetenv("HEARTH_CONFIG");
	(void)unsetenv("HEARTH_DATABASE_PASSWORD");
	(void)unsetenv("HEARTH_NATS_PASSWORD");
	return close(conf) != 0 || close(secret) != 0;
}

static int remove_files(void)
{
	return unlink(conf_path) + unlink(secret_path);
}

static void write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	CU_ASSERT_TRUE(fputs(text, file) >= 0);
	CU_ASSERT_EQUAL(fclose(file), 0);
}

static bool load(const char *text, enum settings_program program, struct settings *s, struct err *e)
{
	write_text(conf_path, text);
	return settings_load(conf_path, program, s, NULL, e);
}

/* A file of the source tree; borrowed until the next call. */
static char *source_text(const char *name)
{
	static char text[64 * 1024];
	const char *srcdir = getenv("srcdir");
	char path[4096];

	(void)snprintf(path, sizeof(path), "%s/%s", srcdir ? srcdir : ".", name);
	FILE *file = fopen(path, "r");
	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	(void)fclose(file);
	return text;
}

static char *dump_text(const struct settings *s)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	CU_ASSERT_PTR_NOT_NULL_FATAL(out);
	settings_dump(s, out);
	CU_ASSERT_EQUAL(fclose(out), 0);
	return text;
}

/* --- the table, the sample, the manual --- */

/* Takes "[section]" and "key = value", commented or not, off the dump; false for a help line. */
static bool read_option(const char *line, char section[64], char name[128])
{
	char key[64], rest[16];

	if (sscanf(line, "[%63[a-z]]", section) == 1)
		return false;
	if (line[0] != '#' && sscanf(line, "%63[a-z0-9_] =", key) == 1) {
		(void)snprintf(name, 128, "%s.%s", section, key);
		return true;
	}
	if (sscanf(line, "# %63[a-z0-9_] =%1[ ]", key, rest) == 2 ||
	    sscanf(line, "# %63[a-z0-9_] is %3[not]", key, rest) == 2) {
		(void)snprintf(name, 128, "%s.%s", section, key);
		return true;
	}
	return false;
}

/* Calls fn with each option's name, returns how many there are. */
static int each_option(void (*fn)(const char *name))
{
	struct settings s;
	struct err e;
	char section[64] = "", name[128];
	int count = 0;

	CU_ASSERT_TRUE_FATAL(load("", SETTINGS_CTL, &s, &e));
	char *text = dump_text(&s);
	for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
		if (!read_option(line, section, name))
			continue;
		fn(name);
		count++;
	}
	free(text);
	settings_clear(&s);
	return count;
}

static char *manual;

static void expect_in_manual(const char *name)
{
	char entry[140];

	(void)snprintf(entry, sizeof(entry), "**%s**", name);
	if (!strstr(manual, entry))
		printf("%s is missing in docs/hearth.conf.5.md\n", name);
	CU_ASSERT_PTR_NOT_NULL(strstr(manual, entry));
}

static void the_manual_has_every_option(void)
{
	manual = source_text("docs/hearth.conf.5.md");
	CU_ASSERT_TRUE(each_option(expect_in_manual) > 50);
}

static char *sample;

static void expect_in_sample(const char *name)
{
	char entry[140];
	const char *dot = strchr(name, '.');

	(void)snprintf(entry, sizeof(entry), "\n[%.*s]\n", (int)(dot - name), name);
	const char *at = strstr(sample, entry);
	CU_ASSERT_PTR_NOT_NULL_FATAL(at);
	const char *end = strstr(at + 2, "\n[");
	(void)snprintf(entry, sizeof(entry), "\n#%s =", dot + 1);
	const char *option = strstr(at, entry);
	bool is_there = option && (!end || option < end);
	if (!is_there)
		printf("%s is missing in conf/hearth.conf.sample\n", name);
	CU_ASSERT_TRUE(is_there);
}

static void the_sample_has_every_option(void)
{
	sample = source_text("conf/hearth.conf.sample");
	CU_ASSERT_TRUE(each_option(expect_in_sample) > 50);
}

/* "#key = value" becomes "key = value"; prose has a blank behind the '#'. */
static void uncomment(char *text, struct buf *out)
{
	static const char datadir[] = "/usr/share/hearth/"; /* as the sample names it */

	for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
		bool is_option = line[0] == '#' && line[1] != ' ' && line[1] != '\0';
		char *path = is_option ? strstr(line, datadir) : NULL;
		if (path)
			*path = '\0';
		buf_printf(out, "%s%s%s\n", is_option ? line + 1 : line, path ? HEARTH_DATADIR "/" : "",
			   path ? path + strlen(datadir) : "");
	}
}

static void the_sample_shows_the_defaults(void)
{
	struct settings s;
	struct err e = {0};
	struct buf text;

	CU_ASSERT_TRUE_FATAL(load("", SETTINGS_CTL, &s, &e));
	char *expected = dump_text(&s);
	settings_clear(&s);
	buf_init(&text, 1 << 20);
	uncomment(source_text("conf/hearth.conf.sample"), &text);
	bool ok = load(buf_str(&text), SETTINGS_CTL, &s, &e);
	if (!ok)
		printf("%s\n", e.text);
	CU_ASSERT_TRUE_FATAL(ok);
	char *dumped = dump_text(&s);
	CU_ASSERT_STRING_EQUAL(dumped, expected);
	free(dumped);
	free(expected);
	buf_clear(&text);
	settings_clear(&s);
}

/* --- values --- */

static void an_empty_file_gives_the_defaults(void)
{
	struct settings s;
	struct err e;

	CU_ASSERT_TRUE_FATAL(load("", SETTINGS_APP, &s, &e));
	CU_ASSERT_STRING_EQUAL(s.database.socket, "/run/mysqld/mysqld.sock");
	CU_ASSERT_PTR_NULL(s.database.host);
	CU_ASSERT_EQUAL(s.database.port, 3306);
	CU_ASSERT_STRING_EQUAL(s.database.name, "hearth");
	CU_ASSERT_STRING_EQUAL(s.nats.url, "nats://127.0.0.1:4222");
	CU_ASSERT_EQUAL(s.log.level, LOG_LEVEL_INFO);
	CU_ASSERT_EQUAL(s.log.target, LOG_TARGET_STDERR);
	CU_ASSERT_PTR_NULL(s.app.socket);
	CU_ASSERT_STRING_EQUAL(s.app.base_path, "");
	CU_ASSERT_EQUAL(s.app.threads_max, 64);
	CU_ASSERT_EQUAL(s.app.body_max_bytes, 1048576);
	CU_ASSERT_EQUAL(s.worker.lease_s, 15);
	CU_ASSERT_EQUAL(s.worker.ttl_s, 300);
	CU_ASSERT_STRING_EQUAL(s.ctl.schema_dir, HEARTH_DATADIR "/schema");
	CU_ASSERT_PTR_NOT_NULL(s.app.database.user); /* who we are */
	CU_ASSERT_PTR_NULL(s.worker.database.user);
	settings_clear(&s);
	CU_ASSERT_PTR_NULL(s.nats.url);
}

static void a_value_that_is_empty_is_not_set(void)
{
	struct settings s;
	struct err e;

	CU_ASSERT_TRUE_FATAL(
		load("[database]\nsocket =\nhost = db1\ntls_ca =\n[app]\nsocket =\n", SETTINGS_APP, &s, &e));
	CU_ASSERT_PTR_NULL(s.database.socket);
	CU_ASSERT_STRING_EQUAL(s.database.host, "db1");
	CU_ASSERT_PTR_NULL(s.database.tls_ca);
	CU_ASSERT_PTR_NULL(s.app.socket);
	settings_clear(&s);
}

static const struct {
	int line;
	const char *text, *expected; /* part of the message; NULL: it is valid */
} rows[] = {
	{__LINE__, "[database]\nhost = h\ntls_ca = /ca\n", NULL},
	{__LINE__, "[database]\nsocket = /s\nhost = h\n", "keep one"},
	{__LINE__, "[database]\nsocket = s\n", "absolute"},
	{__LINE__, "[database]\nsocket = /s\ntls_ca = /ca\n", "database.tls_ca needs database.host"},
	{__LINE__, "[database]\ntls_ca = /ca\n", "database.tls_ca needs database.host"},
	{__LINE__, "[database]\nname =\n", "database.name"},
	{__LINE__, "[database]\nport = 0\n", ":2: database.port"},
	{__LINE__, "[nats]\nurl = nats://a:4222, tls://b:4222,nats://[::1]:4222\n", NULL},
	{__LINE__, "[nats]\nurl = nats://me:secret@a:4222\n", "nats.url holds a user or password"},
	{__LINE__, "[nats]\nurl = nats://a, nats://token@b\n", "nats.url holds a user or password"},
	{__LINE__, "[nats]\nurl = a:4222\n", "nats.url"},
	{__LINE__, "[nats]\nurl = nats://\n", "nats.url"},
	{__LINE__, "[nats]\nurl = nats://a,\n", "nats.url"},
	{__LINE__, "[nats]\nurl =\n", "nats.url"},
	{__LINE__, "[app]\nnats_user = u\nnats_password = p\n", NULL},
	{__LINE__, "[app]\nnats_user = u\n", "has no password"},
	{__LINE__, "[app]\nnats_password = p\n", "no nats_user"},
	{__LINE__, "[app]\nnats_user = u\nnats_password = p\n[nats]\ncreds_file = /c\n", "keep one"},
	{__LINE__, "[worker]\nnats_user = u\n", NULL}, /* the worker's own matter */
	{__LINE__, "[app]\nsocket = /run/hearth/fcgi.sock\nsocket_mode = 0660\n", NULL},
	{__LINE__, "[app]\nsocket = 127.0.0.1:9000\n", NULL},
	{__LINE__, "[app]\nsocket = :9000\n", "app.socket"},
	{__LINE__, "[app]\nsocket = 127.0.0.1:0\n", "app.socket"},
	{__LINE__, "[app]\nsocket = 127.0.0.1:65536\n", "app.socket"},
	{__LINE__, "[app]\nsocket = 127.0.0.1:90x\n", "app.socket"},
	{__LINE__, "[app]\nsocket = 300.0.0.1:90\n", "app.socket"},
	{__LINE__, "[app]\nsocket = hearth.sock\n", "app.socket"},
	{__LINE__, "[app]\nsocket_mode = 680\n", "app.socket_mode"},
	{__LINE__, "[app]\nbase_path = /ai/hearth\n", NULL},
	{__LINE__, "[app]\nbase_path = ai\n", "app.base_path"},
	{__LINE__, "[app]\nbase_path = /\n", "app.base_path"},
	{__LINE__, "[app]\nbase_path = /ai/\n", "app.base_path"},
	{__LINE__, "[app]\nbase_path = /a//b\n", "app.base_path"},
	{__LINE__, "[app]\nbase_path = /a?b\n", "app.base_path"},
	{__LINE__, "[app]\nbody_max_bytes = 8388608\n", "app.request_memory_max_bytes"},
	{__LINE__, "[app]\nthreads_max = 3\n", "app.threads_max"},
	{__LINE__, "[worker]\nname = pool-1.example_x\n", NULL},
	{__LINE__, "[worker]\nname = a b\n", "worker.name"},
	{__LINE__, "[worker]\nlease_s = 2\nrecovery_s = 2\n", NULL},
	{__LINE__, "[worker]\nlease_s = 2\nrecovery_s = 3\n", "worker.recovery_s"},
	{__LINE__, "[worker]\nlease_s = 1\n", "worker.lease_s"},
	{__LINE__, "[app]\nthread_max = 8\n", "did you mean 'app.threads_max'"},
};

static void what_does_not_fit_together_is_named(void)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct settings s;
		struct err e = {0};
		bool ok = load(rows[i].text, SETTINGS_APP, &s, &e);
		bool is_expected = rows[i].expected ? !ok && strstr(e.text, rows[i].expected) : ok;
		if (!is_expected)
			printf("line %d: %s\n", rows[i].line, ok ? "was valid" : e.text);
		CU_ASSERT_TRUE(is_expected);
		CU_ASSERT_EQUAL(e.code, ok ? ERR_NONE : ERR_INPUT);
		CU_ASSERT_PTR_NULL(strstr(e.text, "secret"));
		if (ok)
			settings_clear(&s);
	}
}

/* --- passwords --- */

static void check_password(const char *text, enum settings_program program, const char *expected)
{
	struct settings s;
	struct err e = {0};
	bool ok = load(text, program, &s, &e);

	if (!ok)
		printf("%s\n", e.text);
	CU_ASSERT_TRUE_FATAL(ok);
	CU_ASSERT_STRING_EQUAL(settings_database_login(&s, program)->password, expected);
	settings_clear(&s);
}

static void a_password_comes_from_environment_then_file_then_key(void)
{
	char text[300];

	write_text(secret_path, "from-file\n");
	(void)snprintf(text, sizeof(text), "[worker]\ndatabase_password = from-key\ndatabase_password_file = %s\n",
		       secret_path);
	check_password("[worker]\ndatabase_password = from-key\n", SETTINGS_WORKER, "from-key");
	check_password(text, SETTINGS_WORKER, "from-file");
	CU_ASSERT_EQUAL(setenv("HEARTH_DATABASE_PASSWORD", "from-env", 1), 0);
	check_password(text, SETTINGS_WORKER, "from-env");
	CU_ASSERT_EQUAL(setenv("HEARTH_DATABASE_PASSWORD", "", 1), 0);
	check_password(text, SETTINGS_WORKER, "from-file");
	(void)unsetenv("HEARTH_DATABASE_PASSWORD");
}

static void a_password_file_concerns_only_its_program(void)
{
	static const char text[] = "[worker]\ndatabase_password_file = /nonexistent/secret\n";
	struct settings s;
	struct err e;

	CU_ASSERT_FALSE(load(text, SETTINGS_WORKER, &s, &e));
	CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "/nonexistent/secret"));
	CU_ASSERT_TRUE_FATAL(load(text, SETTINGS_APP, &s, &e));
	settings_clear(&s);
}

static void the_bus_password_comes_from_the_environment_too(void)
{
	struct settings s;
	struct bus_options bus;
	struct err e;

	CU_ASSERT_EQUAL(setenv("HEARTH_NATS_PASSWORD", "n", 1), 0);
	CU_ASSERT_TRUE_FATAL(load("[worker]\nnats_user = w\n", SETTINGS_WORKER, &s, &e));
	(void)unsetenv("HEARTH_NATS_PASSWORD");
	settings_bus_options(&s, SETTINGS_WORKER, &bus);
	CU_ASSERT_STRING_EQUAL(bus.user, "w");
	CU_ASSERT_STRING_EQUAL(bus.password, "n");
	CU_ASSERT_STRING_EQUAL(bus.inbox_prefix, "_INBOX_WORKER");
	settings_clear(&s);
}

static void a_dump_holds_no_secret(void)
{
	struct settings s;
	struct err e;

	CU_ASSERT_TRUE_FATAL(load("[app]\ndatabase_password = hunter2\nnats_user = u\nnats_password = hunter2\n"
				  "[ctl]\ndatabase_password = hunter2\n",
				  SETTINGS_APP, &s, &e));
	char *text = dump_text(&s);
	CU_ASSERT_PTR_NULL(strstr(text, "hunter2"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "# database_password is set"));
	free(text);
	settings_clear(&s);
}

/* --- what programs get --- */

static void options_of_the_database_are_the_programs_own(void)
{
	struct settings s;
	struct db_options db;
	struct err e;

	CU_ASSERT_TRUE_FATAL(load("[database]\nhost = h\nport = 3307\ntls_ca = /ca\nio_timeout_s = 7\n"
				  "[app]\ndatabase_user = a\n[ctl]\ndatabase_user = c\n",
				  SETTINGS_CTL, &s, &e));
	settings_db_options(&s, SETTINGS_APP, &db);
	CU_ASSERT_STRING_EQUAL(db.user, "a");
	CU_ASSERT_STRING_EQUAL(db.host, "h");
	CU_ASSERT_PTR_NULL(db.socket);
	CU_ASSERT_EQUAL(db.port, 3307);
	CU_ASSERT_STRING_EQUAL(db.tls_ca, "/ca");
	CU_ASSERT_EQUAL(db.io_timeout_s, 7);
	CU_ASSERT_TRUE(db.lock_wait_timeout_s > 0 && db.lock_wait_timeout_s < db.io_timeout_s);
	settings_db_options(&s, SETTINGS_CTL, &db);
	CU_ASSERT_STRING_EQUAL(db.user, "c");
	CU_ASSERT_TRUE(db.io_timeout_s > 600); /* a migration takes its time */
	settings_clear(&s);
}

static void the_path_comes_from_the_environment(void)
{
	struct settings s;
	struct err e;
	char *path = NULL;

	write_text(conf_path, "[database]\nname = other\n");
	CU_ASSERT_EQUAL(setenv("HEARTH_CONFIG", conf_path, 1), 0);
	CU_ASSERT_TRUE_FATAL(settings_load(NULL, SETTINGS_CTL, &s, &path, &e));
	CU_ASSERT_STRING_EQUAL(path, conf_path);
	CU_ASSERT_STRING_EQUAL(s.database.name, "other");
	free(path);
	settings_clear(&s);
	CU_ASSERT_EQUAL(setenv("HEARTH_CONFIG", "/nonexistent/hearth.conf", 1), 0);
	CU_ASSERT_FALSE(settings_load(NULL, SETTINGS_CTL, &s, NULL, &e));
	CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "/nonexistent/hearth.conf"));
	(void)unsetenv("HEARTH_CONFIG");
}

static void a_reload_takes_over_what_may_change(void)
{
	struct settings s;
	struct err e;

	CU_ASSERT_TRUE_FATAL(load("[worker]\nhot_ceiling = 5\nlease_s = 9\n[tools]\nallowed_networks = 10.1.0.0/16\n",
				  SETTINGS_WORKER, &s, &e));
	write_text(conf_path, "[log]\nlevel = debug\n[worker]\nhot_ceiling = 7\nlease_s = 12\nname = other\n"
			      "[llm]\nallowed_networks = 10.0.0.0/8\nca_file = /x\n");
	CU_ASSERT_TRUE(settings_reload(&s, SETTINGS_WORKER, &e));
	CU_ASSERT_EQUAL(s.log.level, LOG_LEVEL_DEBUG);
	CU_ASSERT_EQUAL(s.worker.hot_ceiling, 7);
	CU_ASSERT_EQUAL(s.worker.lease_s, 9);
	CU_ASSERT_PTR_NULL(s.worker.name);
	CU_ASSERT_STRING_EQUAL(s.llm.allowed_networks, "10.0.0.0/8");
	CU_ASSERT_PTR_NULL(s.tools.allowed_networks);
	CU_ASSERT_PTR_NULL(s.llm.ca_file);
	write_text(conf_path, "[worker]\nhot_ceiling = 8\ndemand_ceiling = many\n");
	CU_ASSERT_FALSE(settings_reload(&s, SETTINGS_WORKER, &e));
	CU_ASSERT_EQUAL(s.worker.hot_ceiling, 7); /* all or nothing */
	settings_clear(&s);
}

/* Of a reload with that file, what was logged; borrowed until the next call. */
static const char *log_of_reload(const char *text, enum settings_program program, struct settings *s)
{
	static char logged[4096];
	FILE *file = tmpfile();
	int saved = dup(STDERR_FILENO);
	struct err e;

	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	write_text(conf_path, text);
	log_open("test", LOG_LEVEL_INFO, LOG_TARGET_STDERR);
	(void)dup2(fileno(file), STDERR_FILENO);
	CU_ASSERT_TRUE(settings_reload(s, program, &e));
	(void)dup2(saved, STDERR_FILENO);
	(void)close(saved);
	rewind(file);
	logged[fread(logged, 1, sizeof(logged) - 1, file)] = '\0';
	(void)fclose(file);
	return logged;
}

static void a_reload_names_what_needs_a_restart(void)
{
	struct settings s;
	struct err e;

	CU_ASSERT_TRUE_FATAL(load("[worker]\nlease_s = 9\n", SETTINGS_WORKER, &s, &e));
	CU_ASSERT_STRING_EQUAL(log_of_reload("[worker]\nlease_s = 9\nhot_ceiling = 3\n", SETTINGS_WORKER, &s), "");
	const char *logged = log_of_reload("[llm]\nca_file = /x\nconnections_max = 4\nattempts_max = 2\n"
					   "[log]\ntarget = syslog\n[app]\nthreads_max = 8\ndemand_wait_s = 3\n"
					   "[worker]\ndatabase_password = hidden\nlease_s = 9\n[ctl]\nnats_user = c\n",
					   SETTINGS_WORKER, &s);
	CU_ASSERT_PTR_NOT_NULL(strstr(logged, " warn test: configuration: these options take effect with a restart "
					      "options=\"llm.connections_max llm.ca_file log.target app.demand_wait_s "
					      "worker.database_password\"\n"));
	CU_ASSERT_PTR_EQUAL(strchr(logged, '\n'), strrchr(logged, '\n')); /* one line */
	settings_clear(&s);
}

static void each_program_is_told_of_its_own_options(void)
{
	static const char text[] = "[llm]\nca_file = /x\n[app]\nkeepalive_s = 2\n[worker]\nlease_s = 9\nstats_s = 1\n";
	struct settings s;
	struct err e;

	CU_ASSERT_TRUE_FATAL(load("", SETTINGS_APP, &s, &e));
	CU_ASSERT_PTR_NOT_NULL(
		strstr(log_of_reload(text, SETTINGS_APP, &s), "options=\"app.keepalive_s worker.lease_s\"\n"));
	settings_clear(&s);
	CU_ASSERT_TRUE_FATAL(load("", SETTINGS_WORKER, &s, &e));
	CU_ASSERT_PTR_NOT_NULL(strstr(log_of_reload(text, SETTINGS_WORKER, &s),
				      "options=\"llm.ca_file worker.lease_s worker.stats_s\"\n"));
	settings_clear(&s);
}

/* As where a new folder is put in the old one's place. */
static void a_reload_follows_a_link_anew(void)
{
	char link[64];
	struct settings s;
	struct err e;

	(void)snprintf(link, sizeof(link), "%s.link", conf_path);
	write_text(conf_path, "[worker]\nhot_ceiling = 5\n");
	write_text(secret_path, "[worker]\nhot_ceiling = 7\n");
	CU_ASSERT_EQUAL_FATAL(symlink(conf_path, link), 0);
	CU_ASSERT_TRUE_FATAL(settings_load(link, SETTINGS_WORKER, &s, NULL, &e));
	CU_ASSERT_EQUAL(s.path[0], '/');
	CU_ASSERT_EQUAL(unlink(link), 0);
	CU_ASSERT_EQUAL_FATAL(symlink(secret_path, link), 0);
	CU_ASSERT_TRUE(settings_reload(&s, SETTINGS_WORKER, &e));
	CU_ASSERT_EQUAL(s.worker.hot_ceiling, 7);
	CU_ASSERT_EQUAL(unlink(link), 0);
	settings_clear(&s);
}

/* --- the command line --- */

/* With stdout and stderr away; -1: main is to go on. */
static int run_args(char **argv, struct settings *s)
{
	int argc = 0, ret_exit = 99;
	int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);

	while (argv[argc])
		argc++;
	(void)fflush(stdout);
	CU_ASSERT_PTR_NOT_NULL(freopen("/dev/null", "w", stdout));
	CU_ASSERT_PTR_NOT_NULL(freopen("/dev/null", "w", stderr));
	bool is_on = settings_from_args(argc, argv, SETTINGS_APP, "usage\n", s, &ret_exit);
	(void)fflush(stdout);
	(void)fflush(stderr);
	(void)dup2(out, STDOUT_FILENO);
	(void)dup2(err, STDERR_FILENO);
	(void)close(out);
	(void)close(err);
	return is_on ? -1 : ret_exit;
}

static void arguments_decide_what_happens(void)
{
	char *const bad = (char *)"/nonexistent/hearth.conf";
	char *const rows_of_args[][6] = {
		{(char *)"p", (char *)"--help"},
		{(char *)"p", (char *)"--version"},
		{(char *)"p", (char *)"--check", conf_path},
		{(char *)"p", (char *)"-c", conf_path, (char *)"--check"},
		{(char *)"p", (char *)"--config", conf_path, (char *)"--dump"},
		{(char *)"p", (char *)"--check", bad},
		{(char *)"p", (char *)"--config", bad},
		{(char *)"p", (char *)"--unknown"},
		{(char *)"p", (char *)"-c", conf_path, (char *)"more"},
		{(char *)"p", (char *)"-c", conf_path},
	};
	static const int expected[] = {0, 0, 0, 0, 0, 1, 1, 2, 2, -1};
	struct settings s;

	write_text(conf_path, "");
	for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
		int status = run_args((char **)(void *)rows_of_args[i], &s);
		if (status != expected[i])
			printf("row %zu: %d\n", i, status);
		CU_ASSERT_EQUAL(status, expected[i]);
		if (status == -1)
			settings_clear(&s);
	}
}

static CU_TestInfo cases[] = {
	CASE(the_manual_has_every_option),
	CASE(the_sample_has_every_option),
	CASE(the_sample_shows_the_defaults),
	CASE(an_empty_file_gives_the_defaults),
	CASE(a_value_that_is_empty_is_not_set),
	CASE(what_does_not_fit_together_is_named),
	CASE(a_password_comes_from_environment_then_file_then_key),
	CASE(a_password_file_concerns_only_its_program),
	CASE(the_bus_password_comes_from_the_environment_too),
	CASE(a_dump_holds_no_secret),
	CASE(options_of_the_database_are_the_programs_own),
	CASE(the_path_comes_from_the_environment),
	CASE(a_reload_takes_over_what_may_change),
	CASE(a_reload_names_what_needs_a_restart),
	CASE(each_program_is_told_of_its_own_options),
	CASE(a_reload_follows_a_link_anew),
	CASE(arguments_decide_what_happens),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{.pName = "settings", .pInitFunc = make_files, .pCleanupFunc = remove_files, .pTests = cases},
	CU_SUITE_INFO_NULL,
};
