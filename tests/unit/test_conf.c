/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/conf.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/harness.h"

struct settings {
	char *name;
	char *password;
	char *ca;
	int64_t port;
	bool is_on;
	int level;
};

static const char *const level_names[] = {"debug", "info", "warn", NULL};

static const struct conf_option table[] = {
	{"server.name", CONF_STRING, offsetof(struct settings, name), "hearth", 0, 20, NULL, 0, "What it is called."},
	{"server.port", CONF_INT, offsetof(struct settings, port), "8080", 1, 65535, NULL, 0, "TCP port."},
	{"server.is_on", CONF_BOOL, offsetof(struct settings, is_on), "yes", 0, 0, NULL, CONF_RELOAD,
	 "Whether it runs."},
	{"database.password", CONF_STRING, offsetof(struct settings, password), NULL, 0, 64, NULL, CONF_SECRET,
	 "Password."},
	{"database.tls_ca", CONF_STRING, offsetof(struct settings, ca), NULL, 0, 255, NULL, 0, "CA file."},
	{"log.level", CONF_ENUM, offsetof(struct settings, level), "info", 0, 0, level_names, CONF_RELOAD,
	 "Least level."},
};

static char path[] = "test_conf.XXXXXX";

static int make_file(void)
{
	int fd = mkstemp(path);

	return fd < 0 || close(fd) != 0;
}

static int remove_file(void)
{
	return unlink(path);
}

static void write_file(const char *text, size_t len)
{
	FILE *file = fopen(path, "w");

	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	CU_ASSERT_EQUAL(fwrite(text, 1, len, file), len);
	CU_ASSERT_EQUAL(fclose(file), 0);
}

static bool read_text(const char *text, struct settings *settings, struct err *e)
{
	write_file(text, strlen(text));
	return conf_defaults(table, ARRAY_LEN(table), settings, e) &&
	       conf_read_file(table, ARRAY_LEN(table), path, settings, e);
}

static void defaults_fill_every_field(void)
{
	struct settings s = {0};
	struct err e;

	CU_ASSERT_TRUE(conf_defaults(table, ARRAY_LEN(table), &s, &e));
	CU_ASSERT_STRING_EQUAL(s.name, "hearth");
	CU_ASSERT_PTR_NULL(s.password);
	CU_ASSERT_EQUAL(s.port, 8080);
	CU_ASSERT_TRUE(s.is_on);
	CU_ASSERT_EQUAL(s.level, 1);
	conf_clear(table, ARRAY_LEN(table), &s);
	CU_ASSERT_PTR_NULL(s.name);
}

static void a_default_out_of_range_is_an_error(void)
{
	static const struct conf_option bad = {"a.b", CONF_INT, 0, "5", 6, 7, NULL, 0, ""};
	int64_t n;
	struct err e;

	CU_ASSERT_FALSE(conf_defaults(&bad, 1, &n, &e));
}

static void a_file_stands_over_the_defaults(void)
{
	struct settings s = {0};
	struct err e;

	bool ok = read_text(
		"\xef\xbb\xbf# comment\n; another\n\n[server]\nname = a b=c  \r\n\tport=1\n is_on = Off ; why\n"
		"[database]\npassword = p#w\ntls_ca =\n[log]\nlevel = warn",
		&s, &e);
	CU_ASSERT_TRUE_FATAL(ok);
	CU_ASSERT_STRING_EQUAL(s.name, "a b=c");
	CU_ASSERT_EQUAL(s.port, 1);
	CU_ASSERT_FALSE(s.is_on);
	CU_ASSERT_STRING_EQUAL(s.password, "p#w");
	CU_ASSERT_STRING_EQUAL(s.ca, "");
	CU_ASSERT_EQUAL(s.level, 2);
	conf_clear(table, ARRAY_LEN(table), &s);
}

static void a_section_may_come_twice_and_keys_are_kept_between_files(void)
{
	struct settings s = {0};
	struct err e;

	CU_ASSERT_TRUE(read_text("[server]\nport = 5\n[log]\n[server]\nname = x\n", &s, &e));
	write_file("[server]\nport = 6\n", 18);
	CU_ASSERT_TRUE(conf_read_file(table, ARRAY_LEN(table), path, &s, &e));
	CU_ASSERT_EQUAL(s.port, 6);
	CU_ASSERT_STRING_EQUAL(s.name, "x");
	conf_clear(table, ARRAY_LEN(table), &s);
}

static void mistakes_are_named_with_their_line(void)
{
	static const struct {
		int line;
		const char *text;
		const char *expected; /* behind the file's name */
	} rows[] = {
		{__LINE__, "[server]\n\nprot = 1\n", ":3: unknown key 'server.prot', did you mean 'server.port'?"},
		{__LINE__, "[server]\nsomething = 1\n", ":2: unknown key 'server.something'"},
		{__LINE__, "port = 1\n", ":1: unknown key '.port'"},
		{__LINE__, "[servre]\n", ":1: unknown section 'servre'"},
		{__LINE__, "[server]\nport = 1\n[serv]\nport = 2\n", ":3: unknown section 'serv'"},
		{__LINE__, "[server\n", ":1: neither 'key = value' nor '[section]'"},
		{__LINE__, "[server]\nport = 1\n  junk\n", ":3: neither 'key = value' nor '[section]'"},
		{__LINE__, "[server]\nport = 1\nname = x\nport = 1\n", ":4: server.port: given twice"},
		{__LINE__, "[server]\nport = 0\n", ":2: server.port: not a whole number from 1 to 65535: '0'"},
		{__LINE__, "[server]\nport = 65536\n", ":2: server.port: not a whole number from 1 to 65535: '65536'"},
		{__LINE__, "[server]\nport = 10s\n", ":2: server.port: not a whole number from 1 to 65535: '10s'"},
		{__LINE__, "[server]\nport =\n", ":2: server.port: not a whole number from 1 to 65535: ''"},
		{__LINE__, "[server]\nport = 99999999999999999999\n",
		 ":2: server.port: not a whole number from 1 to 65535: '99999999999999999999'"},
		{__LINE__, "[server]\nis_on = maybe\n", ":2: server.is_on: neither yes nor no: 'maybe'"},
		{__LINE__, "[server]\nname = 123456789012345678901\n", ":2: server.name: longer than 20 characters"},
		{__LINE__, "[log]\nlevel = loud\n", ":2: log.level: 'loud' is none of: debug, info, warn"},
		{__LINE__, "[server]\nport = x\nport = y\nfoo\n",
		 ":2: server.port: not a whole number from 1 to 65535: 'x'"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct settings s = {0};
		struct err e = {0};
		CHECK_ROW(&rows[i], !read_text(rows[i].text, &s, &e));
		CHECK_ROW(&rows[i], e.code == ERR_INPUT);
		CHECK_ROW(&rows[i], strcmp(e.text + strlen(path), rows[i].expected) == 0);
		conf_clear(table, ARRAY_LEN(table), &s);
	}
}

static void a_line_too_long_for_the_parser_is_refused_not_split(void)
{
	struct settings s = {0};
	char text[1100];
	struct err e;

	(void)snprintf(text, sizeof(text), "[server]\n# %01000d\n", 0);
	CU_ASSERT_FALSE(read_text(text, &s, &e));
	CU_ASSERT_PTR_NOT_NULL(strstr(e.text, ":2: longer than "));
	conf_clear(table, ARRAY_LEN(table), &s);
}

static void a_secret_value_is_never_in_a_message_or_dump(void)
{
	struct settings s = {0};
	char text[200], *dump = NULL;
	size_t size = 0;
	struct err e;

	(void)snprintf(text, sizeof(text), "[database]\npassword = hush%070d\n", 1);
	CU_ASSERT_FALSE(read_text(text, &s, &e));
	CU_ASSERT_PTR_NULL(strstr(e.text, "hush"));
	CU_ASSERT_TRUE(read_text("[database]\npassword = hush\n", &s, &e));
	FILE *out = open_memstream(&dump, &size);
	conf_dump(table, ARRAY_LEN(table), &s, out);
	(void)fclose(out);
	CU_ASSERT_PTR_NULL(strstr(dump, "hush"));
	CU_ASSERT_PTR_NOT_NULL(strstr(dump, "\n# password is set\n"));
	free(dump);
	conf_clear(table, ARRAY_LEN(table), &s);
}

static void a_dump_can_be_read_again(void)
{
	struct settings s = {0}, again = {0};
	char *dump = NULL;
	size_t size = 0;
	struct err e;

	CU_ASSERT_TRUE(read_text("[server]\nname = x y\nis_on = 0\nport = 77\n[log]\nlevel = debug\n", &s, &e));
	FILE *out = open_memstream(&dump, &size);
	conf_dump(table, ARRAY_LEN(table), &s, out);
	(void)fclose(out);
	CU_ASSERT_STRING_EQUAL(dump, "[server]\n# What it is called.\nname = x y\n# TCP port.\nport = 77\n"
				     "# Whether it runs.\nis_on = no\n\n[database]\n# Password.\n"
				     "# password is not set\n# CA file.\n# tls_ca = \n\n"
				     "[log]\n# Least level.\nlevel = debug\n");
	CU_ASSERT_TRUE(read_text(dump, &again, &e));
	CU_ASSERT_STRING_EQUAL(again.name, "x y");
	CU_ASSERT_EQUAL(again.port, 77);
	CU_ASSERT_FALSE(again.is_on);
	CU_ASSERT_EQUAL(again.level, 0);
	free(dump);
	conf_clear(table, ARRAY_LEN(table), &s);
	conf_clear(table, ARRAY_LEN(table), &again);
}

static void a_file_that_is_not_there_is_missing(void)
{
	struct settings s = {0};
	char *secret;
	struct err e;

	CU_ASSERT_FALSE(conf_read_file(table, ARRAY_LEN(table), "no/such/file", &s, &e));
	CU_ASSERT_EQUAL(e.code, ERR_MISSING);
	CU_ASSERT_FALSE(conf_read_file(table, ARRAY_LEN(table), ".", &s, &e));
	CU_ASSERT_FALSE(conf_read_secret("no/such/file", &secret, &e));
	CU_ASSERT_EQUAL(e.code, ERR_MISSING);
	CU_ASSERT_FALSE(conf_read_secret(".", &secret, &e));
}

static void a_secret_is_the_first_line(void)
{
	static const struct {
		int line;
		const char *text;
		size_t len;
		const char *expected; /* NULL: refused */
	} rows[] = {
		{__LINE__, "abc", 3, "abc"},
		{__LINE__, "abc\n", 4, "abc"},
		{__LINE__, " a b \r\nsecond\n", 14, " a b "},
		{__LINE__, "", 0, NULL},
		{__LINE__, "\n", 1, NULL},
		{__LINE__, "\r\n", 2, NULL},
		{__LINE__, "a\0b\n", 4, NULL},
	};

	(void)chmod(path, 0600);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *secret = NULL;
		struct err e = {0};
		write_file(rows[i].text, rows[i].len);
		CHECK_ROW(&rows[i], conf_read_secret(path, &secret, &e) == (rows[i].expected != NULL));
		CHECK_ROW(&rows[i], !rows[i].expected || (secret && strcmp(secret, rows[i].expected) == 0));
		free(secret);
	}
}

static void a_secret_has_at_most_four_kib(void)
{
	static char text[4098];
	char *secret = NULL;
	struct err e;

	memset(text, 'x', sizeof(text));
	write_file(text, 4096);
	CU_ASSERT_TRUE(conf_read_secret(path, &secret, &e));
	CU_ASSERT_EQUAL(strlen(secret), 4096);
	free(secret);
	write_file(text, 4097);
	CU_ASSERT_FALSE(conf_read_secret(path, &secret, &e));
	text[4096] = '\n';
	write_file(text, 4098);
	CU_ASSERT_TRUE(conf_read_secret(path, &secret, &e));
	free(secret);
}

static void a_secret_that_others_may_read_is_refused(void)
{
	static const struct {
		int line;
		mode_t mode;
		bool ok;
	} rows[] = {
		{__LINE__, 0600, true},  {__LINE__, 0400, true},  {__LINE__, 0640, true},  {__LINE__, 0660, false},
		{__LINE__, 0604, false}, {__LINE__, 0644, false}, {__LINE__, 0601, false},
	};

	write_file("abc\n", 4);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char *secret = NULL;
		struct err e = {0};
		(void)chmod(path, rows[i].mode);
		CHECK_ROW(&rows[i], conf_read_secret(path, &secret, &e) == rows[i].ok);
		CHECK_ROW(&rows[i], rows[i].ok || e.code == ERR_DENIED);
		free(secret);
	}
	(void)chmod(path, 0600);
}

static CU_TestInfo cases[] = {
	CASE(defaults_fill_every_field),
	CASE(a_default_out_of_range_is_an_error),
	CASE(a_file_stands_over_the_defaults),
	CASE(a_section_may_come_twice_and_keys_are_kept_between_files),
	CASE(mistakes_are_named_with_their_line),
	CASE(a_line_too_long_for_the_parser_is_refused_not_split),
	CASE(a_secret_value_is_never_in_a_message_or_dump),
	CASE(a_dump_can_be_read_again),
	CASE(a_file_that_is_not_there_is_missing),
	CASE(a_secret_is_the_first_line),
	CASE(a_secret_has_at_most_four_kib),
	CASE(a_secret_that_others_may_read_is_refused),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"conf", make_file, remove_file, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
