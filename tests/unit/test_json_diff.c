/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/json_diff.h"

#include <string.h>

#include "lib/buf.h"
#include "lib/json.h"
#include "lib/macros.h"
#include "tests/unit/harness.h"

static const struct json_diff_limits wide = {.count_max = 100, .bytes_max = 1 << 20};

static struct jval *parse(const char *text)
{
	const struct json_limits limits = {.bytes_max = 1 << 20, .depth_max = 64};
	struct jval *root = NULL;
	struct err e;

	if (!jval_parse(text, strlen(text), &limits, &root, &e))
		CU_FAIL_FATAL(e.text);
	return root;
}

static const struct row {
	int line;
	const char *from, *to, *expected;
} rows[] = {
	{__LINE__, "{}", "{}", "[]"},
	{__LINE__, "{\"a\":{\"b\":[1,{\"c\":null}]}}", "{\"a\":{\"b\":[1,{\"c\":null}]}}", "[]"},
	{__LINE__, "{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}", "[]"},
	{__LINE__, "{\"a\":1}", "{\"a\":2}", "[{\"path\":\"/a\",\"from\":1,\"to\":2}]"},
	/* absent and null are not the same */
	{__LINE__, "{}", "{\"a\":null}", "[{\"path\":\"/a\",\"to\":null}]"},
	{__LINE__, "{\"a\":null}", "{}", "[{\"path\":\"/a\",\"from\":null}]"},
	{__LINE__, "{\"a\":null}", "{\"a\":0}", "[{\"path\":\"/a\",\"from\":null,\"to\":0}]"},
	{__LINE__, "{\"a\":null}", "{\"a\":null}", "[]"},
	/* kinds */
	{__LINE__, "{\"a\":1}", "{\"a\":1.0}", "[{\"path\":\"/a\",\"from\":1,\"to\":1.0}]"},
	{__LINE__, "{\"a\":\"1\"}", "{\"a\":1}", "[{\"path\":\"/a\",\"from\":\"1\",\"to\":1}]"},
	{__LINE__, "{\"a\":true}", "{\"a\":false}", "[{\"path\":\"/a\",\"from\":true,\"to\":false}]"},
	{__LINE__, "{\"a\":{}}", "{\"a\":[]}", "[{\"path\":\"/a\",\"from\":{},\"to\":[]}]"},
	{__LINE__, "{\"a\":\"x\"}", "{\"a\":\"xy\"}", "[{\"path\":\"/a\",\"from\":\"x\",\"to\":\"xy\"}]"},
	{__LINE__, "1", "[1]", "[{\"path\":\"\",\"from\":1,\"to\":[1]}]"},
	/* the smallest values that differ, those of the first in order, then what is new */
	{__LINE__, "{\"a\":{\"b\":{\"c\":1,\"d\":2}},\"z\":0}", "{\"a\":{\"b\":{\"c\":1,\"d\":3,\"e\":4}}}",
	 "[{\"path\":\"/a/b/d\",\"from\":2,\"to\":3},{\"path\":\"/a/b/e\",\"to\":4},{\"path\":\"/z\",\"from\":0}]"},
	{__LINE__, "{\"a\":{\"b\":1}}", "{\"a\":2}", "[{\"path\":\"/a\",\"from\":{\"b\":1},\"to\":2}]"},
	/* arrays by place */
	{__LINE__, "[1,2,3]", "[1,9,3]", "[{\"path\":\"/1\",\"from\":2,\"to\":9}]"},
	{__LINE__, "[1]", "[1,2,null]", "[{\"path\":\"/1\",\"to\":2},{\"path\":\"/2\",\"to\":null}]"},
	{__LINE__, "[1,[2]]", "[1]", "[{\"path\":\"/1\",\"from\":[2]}]"},
	{__LINE__, "[0,1,2,3,4,5,6,7,8,9,[1]]", "[0,1,2,3,4,5,6,7,8,9,[2]]",
	 "[{\"path\":\"/10/0\",\"from\":1,\"to\":2}]"},
	/* RFC 6901, 5: keys that need escapes, or look as if they were none */
	{__LINE__, "{\"a/b\":1,\"m~n\":1,\"~1\":1,\"\":1,\" \":1,\"ü\\\"\":1}", "{}",
	 "[{\"path\":\"/a~1b\",\"from\":1},{\"path\":\"/m~0n\",\"from\":1},{\"path\":\"/~01\",\"from\":1},"
	 "{\"path\":\"/\",\"from\":1},{\"path\":\"/ \",\"from\":1},{\"path\":\"/ü\\\"\",\"from\":1}]"},
	{__LINE__, "{\"\":{\"\":1}}", "{\"\":{\"\":2}}", "[{\"path\":\"//\",\"from\":1,\"to\":2}]"},
};

static void the_smallest_values_that_differ_are_told_with_their_pointers(void)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct jval *from = parse(rows[i].from), *to = parse(rows[i].to);
		bool is_complete = false;
		struct jval *list = json_diff(from, to, &wide, &is_complete);

		/* The two may go first: what the list shows of them is its own. */
		jval_free(&from);
		jval_free(&to);
		CHECK_ROW(&rows[i], is_complete);
		CHECK_ROW(&rows[i], strcmp(jval_text(list, NULL), rows[i].expected) == 0);
		jval_free(&list);
	}
}

static void what_is_absent_counts_as_null(void)
{
	struct jval *to = parse("1");
	bool is_complete;
	struct jval *list = json_diff(NULL, to, &wide, &is_complete);

	CU_ASSERT_STRING_EQUAL(jval_text(list, NULL), "[{\"path\":\"\",\"from\":null,\"to\":1}]");
	jval_free(&list);
	jval_free(&to);
}

/* The differences of {"a":1,"b":22,"c":3} and {} that fit. */
static size_t fitting(size_t count_max, size_t bytes_max, bool *ret_is_complete)
{
	const struct json_diff_limits limits = {count_max, bytes_max};
	struct jval *from = parse("{\"a\":1,\"b\":22,\"c\":3}"), *to = parse("{}");
	struct jval *list = json_diff(from, to, &limits, ret_is_complete);
	size_t count = jval_array_len(list);

	jval_free(&from);
	jval_free(&to);
	jval_free(&list);
	return count;
}

static void it_ends_before_the_difference_that_passes_a_limit(void)
{
	bool is_complete;

	CU_ASSERT_EQUAL(fitting(3, 10, &is_complete), 3);
	CU_ASSERT_TRUE(is_complete);
	CU_ASSERT_EQUAL(fitting(2, 10, &is_complete), 2);
	CU_ASSERT_FALSE(is_complete);
	CU_ASSERT_EQUAL(fitting(3, 9, &is_complete), 2);
	CU_ASSERT_FALSE(is_complete);
	CU_ASSERT_EQUAL(fitting(3, 6, &is_complete), 1); /* and none of those behind it, though /c would fit */
	CU_ASSERT_FALSE(is_complete);
	CU_ASSERT_EQUAL(fitting(0, 0, &is_complete), 0);
	CU_ASSERT_FALSE(is_complete);
}

/* A long key above many values would be told again and again. */
static void long_paths_count_too(void)
{
	const struct json_diff_limits limits = {.count_max = 1000, .bytes_max = 10000};
	struct buf text;
	bool is_complete;

	buf_init(&text, 1 << 20);
	buf_printf(&text, "{\"%01000d\":[0", 0);
	for (int i = 1; i < 900; i++)
		buf_append_str(&text, ",0");
	buf_append_str(&text, "]}");
	struct jval *from = parse(buf_str(&text));
	for (size_t i = 1004; i < text.len - 1; i++)
		if (text.data[i] == '0')
			text.data[i] = '1';
	struct jval *to = parse(buf_str(&text));
	struct jval *list = json_diff(from, to, &limits, &is_complete);
	CU_ASSERT_FALSE(is_complete);
	CU_ASSERT_EQUAL(jval_array_len(list), 9);
	jval_free(&list);
	jval_free(&from);
	jval_free(&to);
	buf_clear(&text);
}

static CU_TestInfo cases[] = {
	CASE(the_smallest_values_that_differ_are_told_with_their_pointers),
	CASE(what_is_absent_counts_as_null),
	CASE(it_ends_before_the_difference_that_passes_a_limit),
	CASE(long_paths_count_too),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"json_diff", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
