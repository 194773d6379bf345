/* SPDX-License-Identifier: Apache-2.0 */
#include "fcgi-app/fields.h"

#include <string.h>

#include "lib/arena.h"
#include "lib/id.h"
#include "lib/json.h"
#include "lib/macros.h"
#include "tests/unit/harness.h"

#define ID "0192f0c1-0000-7000-8000-000000000001"

struct thing {
	const char *name;
	struct span text;
	int64_t count, ttl, at;
	bool flag;
	int word;
	struct id id, lax;
	const struct jval *object, *list;
};

static const char *const words[] = {"hot", "demand", NULL};

#define AT(member) .offset = offsetof(struct thing, member)

static const struct field table[] = {
	{.name = "name", .type = FIELD_TEXT, .flags = FIELD_REQUIRED, AT(name), .min = 1, .max = 5},
	{.name = "text", .type = FIELD_STRING, AT(text), .min = 1, .max = 4},
	{.name = "count", .type = FIELD_INT, AT(count), .min = -2, .max = 10},
	{.name = "ttl", .type = FIELD_INT, .flags = FIELD_NULLABLE, AT(ttl), .min = 1, .max = 9, .null_value = -1},
	{.name = "at", .type = FIELD_TIME, .flags = FIELD_NULLABLE, AT(at), .null_value = -1},
	{.name = "flag", .type = FIELD_BOOL, AT(flag)},
	{.name = "word", .type = FIELD_WORD, AT(word), .words = words},
	{.name = "id", .type = FIELD_ID, AT(id)},
	{.name = "lax", .type = FIELD_ID, .flags = FIELD_LAX, AT(lax)},
	{.name = "object", .type = FIELD_OBJECT, AT(object)},
	{.name = "list", .type = FIELD_ARRAY, AT(list), .max = 2},
};

static struct arena *mem;
static struct field_errors errors;
static struct jval *root;

static bool read(const char *json, struct thing *thing)
{
	const struct json_limits limits = {.bytes_max = 65536, .depth_max = 8};

	errors = (struct field_errors){.mem = mem};
	jval_free(&root);
	CU_ASSERT_TRUE_FATAL(jval_parse(json, strlen(json), &limits, &root, NULL));
	return fields_read(root, "", table, ARRAY_LEN(table), thing, &errors);
}

static void every_type_is_read(void)
{
	struct thing t = {0};

	CU_ASSERT_TRUE(
		read("{\"name\":\"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\",\"text\":\"a\\nb\",\"count\":-2,\"ttl\":9,"
		     "\"at\":\"1970-01-01T00:00:01Z\",\"flag\":true,\"word\":\"demand\",\"id\":\"" ID
		     "\",\"lax\":\"x\",\"object\":{},\"list\":[1,2]}",
		     &t));
	CU_ASSERT_STRING_EQUAL(t.name, "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"); /* five characters */
	CU_ASSERT_EQUAL(t.text.len, 3);
	CU_ASSERT_EQUAL(t.count, -2);
	CU_ASSERT_EQUAL(t.ttl, 9);
	CU_ASSERT_EQUAL(t.at, 1000);
	CU_ASSERT_TRUE(t.flag);
	CU_ASSERT_EQUAL(t.word, 1);
	CU_ASSERT_STRING_EQUAL(t.id.text, ID);
	CU_ASSERT_FALSE(id_is_set(&t.lax));
	CU_ASSERT_EQUAL(jval_type(t.object), JVAL_OBJECT);
	CU_ASSERT_EQUAL(jval_array_len(t.list), 2);
}

static void a_long_unknown_name_is_cut_between_characters(void)
{
	struct thing t = {0};
	char json[256] = "{\"name\":\"a\",\"x";

	for (size_t i = 0; i < 60; i++)
		strcat(json, "\xc3\xa4");
	strcat(json, "\":1}");
	CU_ASSERT_FALSE(read(json, &t));
	CU_ASSERT_EQUAL_FATAL(errors.count, 1);
	CU_ASSERT_EQUAL(strlen(errors.list[0].field), 63);
	CU_ASSERT_TRUE(utf8_is_valid(errors.list[0].field, strlen(errors.list[0].field)));
}

static void what_is_absent_keeps_its_default_and_null_sets_its_own(void)
{
	struct thing t = {.ttl = 7, .count = 3, .word = 5};

	CU_ASSERT_TRUE(read("{\"name\":\"a\"}", &t));
	CU_ASSERT_EQUAL(t.ttl, 7);
	CU_ASSERT_EQUAL(t.count, 3);
	CU_ASSERT_EQUAL(t.word, 5);
	CU_ASSERT_TRUE(read("{\"name\":\"a\",\"ttl\":null,\"at\":null}", &t));
	CU_ASSERT_EQUAL(t.ttl, -1);
	CU_ASSERT_EQUAL(t.at, -1);
}

static const struct {
	int line;
	const char *json, *field;
} wrong[] = {
	{__LINE__, "{}", "name"},
	{__LINE__, "{\"name\":null}", "name"},
	{__LINE__, "{\"name\":\"\"}", "name"},
	{__LINE__, "{\"name\":\"abcdef\"}", "name"},
	{__LINE__, "{\"name\":\"a\\u0007\"}", "name"},
	{__LINE__, "{\"name\":\"a\\u007f\"}", "name"},
	{__LINE__, "{\"name\":\"a\\u0085\"}", "name"},
	{__LINE__, "{\"name\":1}", "name"},
	{__LINE__, "{\"name\":\"a\",\"text\":\"\"}", "text"},
	{__LINE__, "{\"name\":\"a\",\"text\":\"abcde\"}", "text"},
	{__LINE__, "{\"name\":\"a\",\"count\":11}", "count"},
	{__LINE__, "{\"name\":\"a\",\"count\":1.0}", "count"},
	{__LINE__, "{\"name\":\"a\",\"count\":\"1\"}", "count"},
	{__LINE__, "{\"name\":\"a\",\"count\":null}", "count"},
	{__LINE__, "{\"name\":\"a\",\"ttl\":0}", "ttl"},
	{__LINE__, "{\"name\":\"a\",\"at\":\"tomorrow\"}", "at"},
	{__LINE__, "{\"name\":\"a\",\"flag\":1}", "flag"},
	{__LINE__, "{\"name\":\"a\",\"word\":\"HOT\"}", "word"},
	{__LINE__, "{\"name\":\"a\",\"id\":\"x\"}", "id"},
	{__LINE__, "{\"name\":\"a\",\"lax\":1}", "lax"},
	{__LINE__, "{\"name\":\"a\",\"object\":[]}", "object"},
	{__LINE__, "{\"name\":\"a\",\"list\":{}}", "list"},
	{__LINE__, "{\"name\":\"a\",\"list\":[1,2,3]}", "list"},
	{__LINE__, "{\"name\":\"a\",\"more\":1}", "more"},
	{__LINE__, "[]", ""},
	{__LINE__, "null", ""},
};

static void what_is_wrong_is_named(void)
{
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct thing t = {0};
		bool ok = read(wrong[i].json, &t);
		if (ok || errors.count != 1 || strcmp(errors.list[0].field, wrong[i].field) != 0)
			printf("row of line %d\n", wrong[i].line);
		CU_ASSERT_FALSE_FATAL(ok);
		CU_ASSERT_EQUAL(errors.count, 1);
		CU_ASSERT_STRING_EQUAL(errors.list[0].field, wrong[i].field);
		CU_ASSERT_TRUE(strlen(errors.list[0].reason) > 5);
	}
}

static void all_errors_are_told_up_to_a_limit(void)
{
	struct thing t = {0};
	char json[2048] = "{";

	CU_ASSERT_FALSE(read("{\"count\":\"x\",\"word\":1,\"zz\":1}", &t));
	CU_ASSERT_EQUAL(errors.count, 4);
	for (int i = 0; i < 100; i++) {
		size_t len = strlen(json);
		snprintf(json + len, sizeof(json) - len, "%s\"k%d\":1", i > 0 ? "," : "", i);
	}
	strcat(json, "}");
	CU_ASSERT_FALSE(read(json, &t));
	CU_ASSERT_EQUAL(errors.count, FIELD_ERRORS_MAX);
}

static const struct {
	int line;
	const char *text;
	int64_t unix_ms; /* -1: not a time */
} times[] = {
	{__LINE__, "1970-01-01T00:00:00Z", 0},
	{__LINE__, "2026-01-02T03:04:05.678Z", INT64_C(1767323045678)},
	{__LINE__, "2026-01-02T03:04:05.6789999Z", INT64_C(1767323045678)},
	{__LINE__, "2026-01-02t03:04:05.6z", INT64_C(1767323045600)},
	{__LINE__, "2026-01-02T05:04:05+02:00", INT64_C(1767323045000)},
	{__LINE__, "2026-01-01T21:34:05-05:30", INT64_C(1767323045000)},
	{__LINE__, "2024-02-29T00:00:00Z", INT64_C(1709164800000)},
	{__LINE__, "2026-02-29T00:00:00Z", -1},
	{__LINE__, "2026-13-01T00:00:00Z", -1},
	{__LINE__, "2026-00-01T00:00:00Z", -1},
	{__LINE__, "2026-01-00T00:00:00Z", -1},
	{__LINE__, "2026-01-01T24:00:00Z", -1},
	{__LINE__, "2026-01-01T00:60:00Z", -1},
	{__LINE__, "2026-01-01T00:00:00", -1},
	{__LINE__, "2026-01-01 00:00:00Z", -1},
	{__LINE__, "2026-01-01T00:00:00.Z", -1},
	{__LINE__, "2026-01-01T00:00:00ZZ", -1},
	{__LINE__, "2026-01-01T00:00:00+0200", -1},
	{__LINE__, "2026-01-01T00:00:00+24:00", -1},
	{__LINE__, "+026-01-01T00:00:00Z", -1},
	{__LINE__, "", -1},
};

static void times_are_rfc_3339(void)
{
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		int64_t unix_ms = -1;
		bool ok = fields_parse_time(times[i].text, strlen(times[i].text), &unix_ms);
		if (unix_ms != times[i].unix_ms)
			printf("row of line %d: %lld\n", times[i].line, (long long)unix_ms);
		CU_ASSERT_EQUAL(ok, times[i].unix_ms >= 0);
		CU_ASSERT_EQUAL(unix_ms, times[i].unix_ms);
	}
}

static CU_TestInfo cases[] = {
	{"every_type_is_read", every_type_is_read},
	{"what_is_absent_keeps_its_default_and_null_sets_its_own",
	 what_is_absent_keeps_its_default_and_null_sets_its_own},
	{"a_long_unknown_name_is_cut_between_characters", a_long_unknown_name_is_cut_between_characters},
	{"what_is_wrong_is_named", what_is_wrong_is_named},
	{"all_errors_are_told_up_to_a_limit", all_errors_are_told_up_to_a_limit},
	{"times_are_rfc_3339", times_are_rfc_3339},
	CU_TEST_INFO_NULL,
};

static void set_up(void)
{
	mem = arena_new(1 << 20);
}

static void tear_down(void)
{
	jval_free(&root);
	arena_free(&mem);
}

CU_SuiteInfo suites[] = {
	{"fields", NULL, NULL, set_up, tear_down, cases},
	CU_SUITE_INFO_NULL,
};
