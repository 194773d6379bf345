/* SPDX-License-Identifier: Apache-2.0 */
/* Texts are parsed from a heap copy of their exact length, so a sanitizer sees a read past the end. */
#include "lib/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buf.h"
#include "tests/unit/harness.h"

static const struct json_limits limits = {.bytes_max = 1 << 20, .depth_max = 8};

static bool parse_bytes(const char *text, size_t len, struct jval **ret_root, struct err *e)
{
	char *copy = malloc(len ? len : 1);

	memcpy(copy, text, len);
	bool ok = jval_parse(copy, len, &limits, ret_root, e);
	free(copy);
	return ok;
}

static struct jval *parse(const char *text)
{
	struct jval *root = NULL;
	struct err e;

	if (!parse_bytes(text, strlen(text), &root, &e))
		CU_FAIL_FATAL(e.text);
	return root;
}

static const struct wrong {
	int line;
	const char *text;
	const char *expected; /* the error's text behind "JSON: " */
} wrong_rows[] = {
	{__LINE__, "", "unexpected end at byte 0"},
	{__LINE__, " ", "unexpected end at byte 1"},
	{__LINE__, "{", "unexpected end at byte 1"},
	{__LINE__, "[", "unexpected end at byte 1"},
	{__LINE__, "[1", "unexpected end at byte 2"},
	{__LINE__, "[1,", "unexpected end at byte 3"},
	{__LINE__, "[1,]", "not a value at byte 3"},
	{__LINE__, "[,1]", "not a value at byte 1"},
	{__LINE__, "[1 2]", "',' or ']' is missing at byte 3"},
	{__LINE__, "{\"a\":1 \"b\":2}", "',' or '}' is missing at byte 7"},
	{__LINE__, "{\"a\":1,}", "a key in double quotes is missing at byte 7"},
	{__LINE__, "{,}", "a key in double quotes is missing at byte 1"},
	{__LINE__, "{a:1}", "a key in double quotes is missing at byte 1"},
	{__LINE__, "{'a':1}", "a key in double quotes is missing at byte 1"},
	{__LINE__, "{1:1}", "a key in double quotes is missing at byte 1"},
	{__LINE__, "{\"a\"}", "':' is missing at byte 4"},
	{__LINE__, "{\"a\":}", "not a value at byte 5"},
	{__LINE__, "{\"a\"", "unexpected end at byte 4"},
	{__LINE__, "'a'", "not a value at byte 0"},
	{__LINE__, "a", "not a value at byte 0"},
	{__LINE__, "/**/1", "not a value at byte 0"},
	{__LINE__, "1 //", "text after the value at byte 2"},
	{__LINE__, "{} x", "text after the value at byte 3"},
	{__LINE__, "{}{}", "text after the value at byte 2"},
	{__LINE__, "1 1", "text after the value at byte 2"},
	{__LINE__, "]", "not a value at byte 0"},
	{__LINE__, "[1}", "',' or ']' is missing at byte 2"},
	{__LINE__, "\xef\xbb\xbf{}", "not a value at byte 0"},
	{__LINE__, "\v1", "not a value at byte 0"},
	/* words */
	{__LINE__, "True", "not a value at byte 0"},
	{__LINE__, "tru", "not a value at byte 0"},
	{__LINE__, "nul", "not a value at byte 0"},
	{__LINE__, "falsey", "text after the value at byte 5"},
	{__LINE__, "NaN", "not a value at byte 0"},
	{__LINE__, "Infinity", "not a value at byte 0"},
	{__LINE__, "-Infinity", "a digit is missing at byte 1"},
	{__LINE__, "-NaN", "a digit is missing at byte 1"},
	/* numbers */
	{__LINE__, "-", "unexpected end at byte 1"},
	{__LINE__, "+1", "not a value at byte 0"},
	{__LINE__, ".5", "not a value at byte 0"},
	{__LINE__, "1.", "unexpected end at byte 2"},
	{__LINE__, "[1.]", "a digit is missing at byte 3"},
	{__LINE__, "1e", "unexpected end at byte 2"},
	{__LINE__, "[1e+]", "a digit is missing at byte 4"},
	{__LINE__, "01", "number with a leading zero at byte 0"},
	{__LINE__, "-00", "number with a leading zero at byte 1"},
	{__LINE__, "0x10", "text after the value at byte 1"},
	{__LINE__, "1_000", "text after the value at byte 1"},
	{__LINE__, "9223372036854775808", "number out of range at byte 0"},
	{__LINE__, "[-9223372036854775809]", "number out of range at byte 1"},
	{__LINE__, "18446744073709551615", "number out of range at byte 0"},
	{__LINE__, "1e309", "number out of range at byte 0"},
	{__LINE__, "-1e309", "number out of range at byte 0"},
	/* strings */
	{__LINE__, "\"", "unexpected end at byte 1"},
	{__LINE__, "\"a", "unexpected end at byte 2"},
	{__LINE__, "\"\\", "unexpected end at byte 2"},
	{__LINE__, "\"\\\"", "unexpected end at byte 3"},
	{__LINE__, "\"\\x\"", "unknown escape at byte 2"},
	{__LINE__, "\"\\'\"", "unknown escape at byte 2"},
	{__LINE__, "\"a\nb\"", "control character in a string at byte 2"},
	{__LINE__, "\"\t\"", "control character in a string at byte 1"},
	{__LINE__, "\"\\u0000\"", "NUL in a string at byte 1"},
	{__LINE__, "{\"a\\u0000\":1}", "NUL in a string at byte 3"},
	{__LINE__, "\"\\u12\"", "four hex digits are missing at byte 5"},
	{__LINE__, "\"\\u12g4\"", "four hex digits are missing at byte 5"},
	{__LINE__, "\"\\ud800\"", "half of a surrogate pair at byte 1"},
	{__LINE__, "\"\\ud800x\"", "half of a surrogate pair at byte 1"},
	{__LINE__, "\"\\ud800\\n\"", "half of a surrogate pair at byte 1"},
	{__LINE__, "\"\\ud800\\u0041\"", "half of a surrogate pair at byte 1"},
	{__LINE__, "\"\\ud800\\ud800\"", "half of a surrogate pair at byte 1"},
	{__LINE__, "\"x\\udc00\"", "half of a surrogate pair at byte 2"},
	{__LINE__, "\"\x80\"", "invalid UTF-8 at byte 1"},
	{__LINE__, "\"\xc0\xaf\"", "invalid UTF-8 at byte 1"},
	{__LINE__, "\"a\xed\xa0\x80\"", "invalid UTF-8 at byte 2"},
	{__LINE__, "{\"\xff\":1}", "invalid UTF-8 at byte 2"},
	/* duplicate keys */
	{__LINE__, "{\"a\":1,\"a\":2}", "duplicate key at byte 7"},
	{__LINE__, "{\"a\":null,\"a\":null}", "duplicate key at byte 10"},
	{__LINE__, "{\"a\":1,\"\\u0061\":2}", "duplicate key at byte 7"},
	{__LINE__, "{\"\":1,\"\":2}", "duplicate key at byte 6"},
	{__LINE__, "[{\"x\":{\"b\":1,\"c\":2,\"b\":3}}]", "duplicate key at byte 19"},
};

static void every_breach_of_the_grammar_is_refused_with_its_place(void)
{
	for (size_t i = 0; i < ARRAY_LEN(wrong_rows); i++) {
		const struct wrong *row = &wrong_rows[i];
		struct jval *root = NULL;
		struct err e = {0};
		bool ok = parse_bytes(row->text, strlen(row->text), &root, &e);
		CHECK_ROW(row, !ok && root == NULL);
		CHECK_ROW(row, e.code == ERR_INPUT);
		CHECK_ROW(row, strncmp(e.text, "JSON: ", 6) == 0 && strcmp(e.text + 6, row->expected) == 0);
	}
}

static void a_raw_nul_is_refused_anywhere(void)
{
	static const char *const texts[] = {"@1", "1@", "\"@\"", "[1,@2]", "\"\\@\""};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		char text[16];
		struct jval *root;
		size_t len = strlen(texts[i]);
		memcpy(text, texts[i], len);
		*(char *)memchr(text, '@', len) = '\0';
		CU_ASSERT_FALSE(parse_bytes(text, len, &root, NULL));
	}
}

static const struct right {
	int line;
	const char *text;
	const char *compact; /* jval_text of it */
} right_rows[] = {
	{__LINE__, "null", "null"},
	{__LINE__, " \t\r\n true \n", "true"},
	{__LINE__, "false", "false"},
	{__LINE__, "0", "0"},
	{__LINE__, "-0", "0"},
	{__LINE__, "9223372036854775807", "9223372036854775807"},
	{__LINE__, "-9223372036854775808", "-9223372036854775808"},
	{__LINE__, "1.50", "1.50"},
	{__LINE__, "-1E+2", "-1E+2"},
	{__LINE__, "0e0", "0e0"},
	{__LINE__, "1e-999", "1e-999"},
	{__LINE__, "\"\"", "\"\""},
	{__LINE__, "\"a/b \\/ \\u002f\"", "\"a/b / /\""},
	{__LINE__, "\"\\\"\\\\\\b\\f\\n\\r\\t\"", "\"\\\"\\\\\\b\\f\\n\\r\\t\""},
	{__LINE__, "\"\\u00e9\\u20AC\\ud83d\\uDE00\"", "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""},
	{__LINE__, "\"\\uffff\\ue000\"", "\"\xef\xbf\xbf\xee\x80\x80\""},
	{__LINE__, "[]", "[]"},
	{__LINE__, "[ ]", "[]"},
	{__LINE__, "{ }", "{}"},
	{__LINE__, "[ 1 , [ null ] , { \"a\" : [ ] } ]", "[1,[null],{\"a\":[]}]"},
	{__LINE__, "{\"b\":1,\"a\":2,\"\":{\"b\":3}}", "{\"b\":1,\"a\":2,\"\":{\"b\":3}}"},
	{__LINE__, "[[[[[[[[]]]]]]]]", "[[[[[[[[]]]]]]]]"},
	{__LINE__, "[[],[],[[],[]],{}]", "[[],[],[[],[]],{}]"},
};

static void what_the_grammar_allows_is_read_and_written_back(void)
{
	for (size_t i = 0; i < ARRAY_LEN(right_rows); i++) {
		const struct right *row = &right_rows[i];
		struct jval *root = NULL;
		struct err e = {0};
		size_t len = 0;
		CHECK_ROW(row, parse_bytes(row->text, strlen(row->text), &root, &e));
		CHECK_ROW(row, strcmp(jval_text(root, &len), row->compact) == 0);
		CHECK_ROW(row, len == strlen(row->compact));
		jval_free(&root);
		CHECK_ROW(row, root == NULL);
	}
}

static void limits_are_told_apart_from_errors(void)
{
	struct json_limits small = {.bytes_max = 10, .depth_max = 2}, wide = {.bytes_max = 1 << 20, .depth_max = 999};
	struct jval *root = NULL;
	char deep[65];
	struct err e;

	CU_ASSERT_TRUE(jval_parse("[{},[], 1]", 10, &small, &root, &e));
	jval_free(&root);
	CU_ASSERT_FALSE(jval_parse("[{},[], 11]", 11, &small, &root, &e));
	CU_ASSERT_EQUAL(e.code, ERR_LIMIT);
	CU_ASSERT_FALSE(jval_parse("[[[]]]", 6, &small, &root, &e));
	CU_ASSERT_EQUAL(e.code, ERR_LIMIT);
	small.depth_max = 0;
	CU_ASSERT_FALSE(jval_parse("[]", 2, &small, &root, &e));
	CU_ASSERT_TRUE(jval_parse("1", 1, &small, &root, &e));
	jval_free(&root);
	memset(deep, '[', sizeof(deep));
	CU_ASSERT_FALSE(jval_parse(deep, 64, &wide, &root, &e));
	CU_ASSERT_EQUAL(e.code, ERR_INPUT);
	CU_ASSERT_FALSE(jval_parse(deep, 65, &wide, &root, &e));
	CU_ASSERT_EQUAL(e.code, ERR_LIMIT);
}

static void too_many_values_are_refused(void)
{
	struct jval *root = NULL;
	struct buf b;
	struct err e;

	buf_init(&b, limits.bytes_max);
	buf_append_str(&b, "[1");
	for (int i = 2; i < 65536; i++)
		buf_append_str(&b, ",1");
	buf_append_str(&b, "]");
	CU_ASSERT_TRUE(jval_parse(b.data, b.len, &limits, &root, &e));
	CU_ASSERT_EQUAL(jval_array_len(root), 65535);
	jval_free(&root);
	b.len--;
	buf_append_str(&b, ",1]");
	CU_ASSERT_FALSE(jval_parse(b.data, b.len, &limits, &root, &e));
	CU_ASSERT_EQUAL(e.code, ERR_LIMIT);
	buf_clear(&b);
}

static void values_answer_only_for_their_own_type(void)
{
	struct jval *root =
		parse("{\"n\":null,\"b\":true,\"i\":-5,\"d\":2.5,\"s\":\"x\\u00e9\",\"a\":[1,null],\"o\":{}}");
	size_t len = 0;

	CU_ASSERT_EQUAL(jval_type(root), JVAL_OBJECT);
	CU_ASSERT_EQUAL(jval_type(NULL), JVAL_NULL);
	CU_ASSERT_TRUE(jval_has(root, "n"));
	CU_ASSERT_PTR_NULL(jval_get(root, "n"));
	CU_ASSERT_FALSE(jval_has(root, "absent"));
	CU_ASSERT_TRUE(jval_bool(jval_get(root, "b")));
	CU_ASSERT_FALSE(jval_bool(jval_get(root, "i")));
	CU_ASSERT_EQUAL(jval_int(jval_get(root, "i")), -5);
	CU_ASSERT_EQUAL(jval_int(jval_get(root, "d")), 0);
	CU_ASSERT_EQUAL(jval_type(jval_get(root, "d")), JVAL_DOUBLE);
	CU_ASSERT(fabs(jval_double(jval_get(root, "d")) - 2.5) < 1e-12);
	CU_ASSERT(fabs(jval_double(jval_get(root, "i")) + 5) < 1e-12);
	CU_ASSERT_STRING_EQUAL(jval_string(jval_get(root, "s"), &len), "x\xc3\xa9");
	CU_ASSERT_EQUAL(len, 3);
	CU_ASSERT_PTR_NULL(jval_string(jval_get(root, "i"), NULL));
	CU_ASSERT_EQUAL(jval_array_len(jval_get(root, "a")), 2);
	CU_ASSERT_EQUAL(jval_int(jval_array_at(jval_get(root, "a"), 0)), 1);
	CU_ASSERT_PTR_NULL(jval_array_at(jval_get(root, "a"), 1));
	CU_ASSERT_PTR_NULL(jval_array_at(jval_get(root, "a"), 2));
	CU_ASSERT_EQUAL(jval_array_len(root), 0);
	CU_ASSERT_PTR_NULL(jval_get(jval_get(root, "a"), "x"));
	CU_ASSERT_PTR_NULL(jval_get(NULL, "x"));
	jval_free(&root);
	jval_free(&root);
}

static bool collect(void *closure, const char *key, struct jval *v)
{
	struct buf *out = closure;

	buf_printf(out, "%s%d ", key, (int)jval_int(v));
	return strcmp(key, "stop") != 0;
}

static void each_member_comes_in_order_until_stopped(void)
{
	struct jval *root = parse("{\"z\":1,\"a\":2,\"stop\":3,\"b\":4}");
	struct buf out;

	buf_init(&out, 100);
	jval_each(root, collect, &out);
	jval_each(NULL, collect, &out);
	CU_ASSERT_STRING_EQUAL(buf_str(&out), "z1 a2 stop3 ");
	buf_clear(&out);
	jval_free(&root);
}

static void built_values_are_written_compactly(void)
{
	struct jval *obj = jval_new_object(), *array = jval_new_array();
	struct jval *again;

	jval_add_string(obj, "url", "http://x/\"y\"");
	jval_add_string(obj, "none", NULL);
	jval_add_int(obj, "n", INT64_MIN);
	jval_add_bool(obj, "b", false);
	jval_push(array, jval_new_string("abc", 2));
	jval_push(array, NULL);
	jval_add(obj, "list", array);
	again = jval_ref(array);
	jval_add(obj, "again", again);
	jval_add(obj, "nothing", NULL);
	CU_ASSERT_STRING_EQUAL(jval_text(obj, NULL),
			       "{\"url\":\"http://x/\\\"y\\\"\",\"none\":null,\"n\":-9223372036854775808,\"b\":false,"
			       "\"list\":[\"ab\",null],\"again\":[\"ab\",null],\"nothing\":null}");
	jval_free(&obj);
}

static void equal_values_have_equal_canonical_text(void)
{
	static const struct {
		int line;
		const char *text;
		const char *canonical;
	} rows[] = {
		{__LINE__, "{\"b\":1,\"a\":{\"d\":[2,1],\"c\":null}}", "{\"a\":{\"c\":null,\"d\":[2,1]},\"b\":1}"},
		{__LINE__, "{\"a\":{\"c\":null,\"d\":[2,1]},\"b\":1}", "{\"a\":{\"c\":null,\"d\":[2,1]},\"b\":1}"},
		{__LINE__, "[1.50, 15e-1, 1.5]", "[1.5,1.5,1.5]"},
		{__LINE__, "\"\\u000a\\\"\\\\/\\u00e9\\u007f\"", "\"\\u000a\\\"\\\\/\xc3\xa9\x7f\""},
		{__LINE__, "[true,false,null,{},[],\"\"]", "[true,false,null,{},[],\"\"]"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct jval *root = parse(rows[i].text);
		struct buf out;
		buf_init(&out, 1000);
		jval_canonical(root, &out);
		CHECK_ROW(&rows[i], strcmp(buf_str(&out), rows[i].canonical) == 0);
		buf_clear(&out);
		jval_free(&root);
	}
}

static void utf8_is_judged_by_rfc_3629(void)
{
	static const struct {
		int line;
		const char *text;
		bool is_valid;
	} rows[] = {
		{__LINE__, "", true},
		{__LINE__, "plain\x7f", true},
		{__LINE__, "\xc2\x80\xdf\xbf", true},
		{__LINE__, "\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf", true},
		{__LINE__, "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", true},
		{__LINE__, "\x80", false},
		{__LINE__, "\xc1\xbf", false},
		{__LINE__, "\xc2", false},
		{__LINE__, "\xc2\x41", false},
		{__LINE__, "\xe0\x9f\xbf", false},
		{__LINE__, "\xed\xa0\x80", false},
		{__LINE__, "\xe2\x82", false},
		{__LINE__, "\xe2\x82\x41", false},
		{__LINE__, "\xf0\x8f\xbf\xbf", false},
		{__LINE__, "\xf4\x90\x80\x80", false},
		{__LINE__, "\xf5\x80\x80\x80", false},
		{__LINE__, "\xf0\x90\x80", false},
		{__LINE__, "\xff", false},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		CHECK_ROW(&rows[i], utf8_is_valid(rows[i].text, strlen(rows[i].text)) == rows[i].is_valid);
}

static void wiping_overwrites_strings_at_every_level(void)
{
	struct jval *root = parse("{\"a\":\"secret\",\"b\":[1,\"secret\",{\"c\":\"secret\"}],\"d\":null}");
	const struct jval *b = jval_get(root, "b");
	const char *const found[] = {jval_string(jval_get(root, "a"), NULL), jval_string(jval_array_at(b, 1), NULL),
				     jval_string(jval_get(jval_array_at(b, 2), "c"), NULL)};

	jval_wipe(root);
	for (size_t i = 0; i < ARRAY_LEN(found); i++)
		CU_ASSERT_EQUAL(memcmp(found[i], "\0\0\0\0\0\0", 6), 0);
	jval_free(&root);
	jval_wipe(NULL);
}

static CU_TestInfo cases[] = {
	CASE(every_breach_of_the_grammar_is_refused_with_its_place),
	CASE(a_raw_nul_is_refused_anywhere),
	CASE(what_the_grammar_allows_is_read_and_written_back),
	CASE(limits_are_told_apart_from_errors),
	CASE(too_many_values_are_refused),
	CASE(values_answer_only_for_their_own_type),
	CASE(each_member_comes_in_order_until_stopped),
	CASE(built_values_are_written_compactly),
	CASE(equal_values_have_equal_canonical_text),
	CASE(utf8_is_judged_by_rfc_3629),
	CASE(wiping_overwrites_strings_at_every_level),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"json", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
