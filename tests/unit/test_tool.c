/* SPDX-License-Identifier: Apache-2.0 */
/* The tools that are built in, but for fetching, and the names that models see. */
#include "worker/tool/tool.h"

#include <string.h>

#include "lib/buf.h"
#include "lib/json.h"
#include "tests/unit/harness.h"
#include "worker/tool/decimal.h"
#include "worker/tool/html_text.h"

/* --- calculating --- */

static const struct {
	int line;
	const char *expression, *result;
} sums[] = {
	{__LINE__, "0.1 + 0.2", "0.3"},
	{__LINE__, "1/3", "0.3333333333333333333333333333333333"},
	{__LINE__, "100/3", "33.33333333333333333333333333333333"},
	{__LINE__, "2/3", "0.6666666666666666666666666666666667"},
	{__LINE__, "-2/3", "-0.6666666666666666666666666666666667"},
	{__LINE__, "1/7e20", "0.0000000000000000000014285714285714285714285714285714286"},
	{__LINE__, "123456789012345678901234567890123456789.5+0", "123456789012345678901234567890123456789.5"},
	{__LINE__, "2^10", "1024"},
	{__LINE__, "2^-2", "0.25"},
	{__LINE__, "-2^2", "-4"},
	{__LINE__, "(-2)^2", "4"},
	{__LINE__, "2^3^2", "512"},
	{__LINE__, "10 % 3", "1"},
	{__LINE__, "-7 % 3", "2"},
	{__LINE__, "5.5 % 2", "1.5"},
	{__LINE__, "2 + 3 * 4", "14"},
	{__LINE__, "(2 + 3) * 4", "20"},
	{__LINE__, "8 / 4 / 2", "1"},
	{__LINE__, "8 - 4 - 2", "2"},
	{__LINE__, "- - 3", "3"},
	{__LINE__, "1e-3 * 5", "0.005"},
	{__LINE__, ".5 + .25", "0.75"},
	{__LINE__, "0.000", "0"},
	{__LINE__, "-0", "0"},
	{__LINE__, "1.10", "1.1"},
	{__LINE__, "((((7))))", "7"},
};

static void sums_are_exact(void)
{
	char text[DECIMAL_TEXT_SIZE];

	for (unsigned i = 0; i < sizeof(sums) / sizeof(sums[0]); i++) {
		struct err e = {0};
		CHECK_ROW(&sums[i],
			  decimal_evaluate(sums[i].expression, text, &e) && strcmp(text, sums[i].result) == 0);
	}
}

static const struct {
	int line;
	const char *expression, *says;
} wrong_sums[] = {
	{__LINE__, "", "a number is expected at position 1"},
	{__LINE__, "1 +", "a number is expected"},
	{__LINE__, "1 2", "no operator at position 3"},
	{__LINE__, "2*(3+4", "parenthesis"},
	{__LINE__, "1/0", "division by zero"},
	{__LINE__, "1%0", "division by zero"},
	{__LINE__, "0^-1", "division by zero"},
	{__LINE__, "2^0.5", "no whole number"},
	{__LINE__, "2^1000", "too large"},
	{__LINE__, "1e1000", "too large"},
	{__LINE__, "1e", "without digits"},
	{__LINE__, "9^999^9", "too large"},
	{__LINE__, "(9^999)^999", "too large"},
	{__LINE__, "9^900*9^900*9^900*9^900*9^900*9^900*9^900", "too large"},
	{__LINE__, "system(1)", "a number is expected at position 1"},
	{__LINE__, "1;2", "no operator"},
	{__LINE__, "\xc3\x97", "a number is expected"},
};

static void what_is_no_sum_is_told_where(void)
{
	char text[DECIMAL_TEXT_SIZE];

	for (unsigned i = 0; i < sizeof(wrong_sums) / sizeof(wrong_sums[0]); i++) {
		struct err e = {0};
		CHECK_ROW(&wrong_sums[i], !decimal_evaluate(wrong_sums[i].expression, text, &e));
		CHECK_ROW(&wrong_sums[i], strstr(e.text, wrong_sums[i].says) != NULL);
	}
}

static void nesting_and_length_have_an_end(void)
{
	char expression[DECIMAL_EXPRESSION_MAX + 2], text[DECIMAL_TEXT_SIZE];
	struct err e = {0};

	memset(expression, '(', 500);
	expression[500] = '\0';
	CU_ASSERT_FALSE(decimal_evaluate(expression, text, &e));
	CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "too deeply"));
	memset(expression, '1', sizeof(expression));
	expression[sizeof(expression) - 1] = '\0';
	CU_ASSERT_FALSE(decimal_evaluate(expression, text, &e));
	CU_ASSERT_EQUAL(e.code, ERR_LIMIT);
}

/* --- pages --- */

static const struct {
	int line;
	const char *html, *text;
} pages[] = {
	{__LINE__, "", ""},
	{__LINE__, "plain", "plain"},
	{__LINE__, "<p>One\n  two</p><p>three</p>", "One two\nthree"},
	{__LINE__, "<title>T</title><script>var x = '<p>';</script><style>p{}</style>a", "T\na"},
	{__LINE__, "a<!-- b <p> -->c", "ac"},
	{__LINE__, "a<a href=\"x>y\">b</a>c", "abc"},
	{__LINE__, "1 &lt; 2 &amp;&amp; 3&nbsp;&gt; 2 &quot;&#65;&#x1F525;&apos;",
	 "1 < 2 && 3 > 2 \"A\xf0\x9f\x94\xa5'"},
	{__LINE__, "&unknown; &#; &#xd800; &", "&unknown; &#;   &"},
	{__LINE__, "a<br>b<br/>c", "a\nb\nc"},
	{__LINE__, "a<", "a"},
	{__LINE__, "a<script>b", "a"},
	{__LINE__, "a<!--b", "a"},
	{__LINE__, "h\xc3\xa4", "h\xc3\xa4"},
};

static void a_page_is_read_as_text(void)
{
	for (unsigned i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		struct buf out;

		buf_init(&out, 4096);
		html_text(pages[i].html, strlen(pages[i].html), &out);
		CHECK_ROW(&pages[i], strcmp(buf_str(&out), pages[i].text) == 0);
		buf_clear(&out);
	}
}

/* --- names --- */

static const struct tool_impl no_impl;

static void add(struct tool_box *box, const char *name)
{
	struct tool tool = {.impl = &no_impl, .name = name, .description = "", .parameters = jval_new_object()};
	struct err e = {0};

	CU_ASSERT_TRUE(tool_box_add(box, &tool, &e));
}

static void names_are_what_every_provider_allows_and_each_its_own(void)
{
	char longest[200];
	struct tool_box *box = tool_box_new();

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	add(box, "files.read");
	add(box, "files/read");
	add(box, "files_read");
	add(box, longest);
	add(box, longest);
	add(box, "");
	add(box, "h\xc3\xa4");
	CU_ASSERT_STRING_EQUAL(tool_box_find(box, "files_read")->name, "files.read");
	CU_ASSERT_STRING_EQUAL(tool_box_find(box, "files_read_2")->name, "files/read");
	CU_ASSERT_STRING_EQUAL(tool_box_find(box, "files_read_3")->name, "files_read");
	CU_ASSERT_PTR_NOT_NULL(tool_box_find(box, "_"));
	CU_ASSERT_PTR_NOT_NULL(tool_box_find(box, "h__"));
	CU_ASSERT_EQUAL(jval_array_len(tool_box_value(box)), 7);
	for (size_t i = 0; i < 7; i++) {
		size_t len;
		const char *name = jval_string(
			jval_get(jval_get(jval_array_at(tool_box_value(box), i), "function"), "name"), &len);
		CU_ASSERT_TRUE(len >= 1 && len <= TOOL_WIRE_NAME_MAX);
		CU_ASSERT_EQUAL(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-"), len);
	}
	tool_box_free(&box);
}

static void more_tools_than_a_box_holds_are_refused(void)
{
	struct tool_box *box = tool_box_new();
	struct err e = {0};

	for (int i = 0; i < 128; i++)
		add(box, "x");
	struct tool tool = {.impl = &no_impl, .name = "y", .description = "", .parameters = jval_new_object()};
	CU_ASSERT_FALSE(tool_box_add(box, &tool, &e));
	CU_ASSERT_EQUAL(e.code, ERR_LIMIT);
	tool_box_free(&box);
}

/* --- calling --- */

struct result {
	bool is_error;
	unsigned count;
	char text[256];
};

static void on_done(void *closure, bool is_error, const char *text, size_t len)
{
	struct result *r = closure;

	r->is_error = is_error;
	r->count++;
	(void)snprintf(r->text, sizeof(r->text), "%.*s", (int)len, text);
}

static struct result call(const char *tool_name, const char *arguments, const char *config)
{
	const struct json_limits limits = {.bytes_max = 4096, .depth_max = 16};
	struct tool_box *box = tool_box_new();
	struct jval *config_value = NULL, *arguments_value = NULL;
	struct tool_env env = {0};
	struct result r = {0};
	struct tool_sink sink = {.closure = &r, .done = on_done};
	struct err e = {0};

	CU_ASSERT_TRUE_FATAL(jval_parse(config, strlen(config), &limits, &config_value, &e));
	CU_ASSERT_TRUE_FATAL(jval_parse(arguments, strlen(arguments), &limits, &arguments_value, &e));
	CU_ASSERT_TRUE(tools_builtin_add(box, config_value, &e));
	const struct tool *tool = tool_box_find(box, tool_name);
	CU_ASSERT_PTR_NOT_NULL_FATAL(tool);
	CU_ASSERT_PTR_NULL(tool->impl->call(tool, &env, arguments_value, 0, &sink));
	CU_ASSERT_EQUAL(r.count, 1);
	jval_free(&config_value);
	jval_free(&arguments_value);
	tool_box_free(&box);
	return r;
}

static void the_built_in_tools_answer(void)
{
	static const char config[] = "{\"tools\":[\"current_time\",\"calculator\"]}";
	struct result r = call("calculator", "{\"expression\":\"6*7\"}", config);

	CU_ASSERT_FALSE(r.is_error);
	CU_ASSERT_STRING_EQUAL(r.text, "42");
	r = call("calculator", "{\"expression\":\"6*\"}", config);
	CU_ASSERT_TRUE(r.is_error);
	r = call("calculator", "[]", config);
	CU_ASSERT_TRUE(r.is_error);
	r = call("current_time", "{}", config);
	CU_ASSERT_FALSE(r.is_error);
	CU_ASSERT_PTR_NOT_NULL(strstr(r.text, "Z ("));
}

/* Nothing of these reaches the network: there is no client in the test. */
static void an_address_that_is_not_allowed_is_not_fetched(void)
{
	static const char *const urls[] = {
		"https://docs.example.com.evil.net/a",
		"https://docs.example.com@evil.net/",
		"https://evil.net/https://docs.example.com/public/",
		"https://docs.example.com/",
		"https://docs.example.com/publicity",
		"https://docs.example.com/public/../secret",
		"https://docs.example.com/public/%2e%2e/secret",
		"https://docs.example.com/public/%2E%2E%2Fsecret",
		"https://docs.example.com/public/..%2fsecret",
		"https://docs.example.com\\\\@evil.net/public/",
		"https://docs.example.com/public/ x",
		"http://docs.example.com/public/",
		"HTTPS://docs.example.com/public/",
		"file:///etc/passwd",
		"https://docs.example.com:444/public/",
		"",
	};
	static const char config[] =
		"{\"tools\":[\"fetch_url\"],\"fetch_url\":{\"allow\":[\"https://docs.example.com/public/\"]}}";

	for (unsigned i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
		char arguments[256];
		(void)snprintf(arguments, sizeof(arguments), "{\"url\":\"%s\"}", urls[i]);
		struct result r = call("fetch_url", arguments, config);
		CU_ASSERT_TRUE(r.is_error);
		CU_ASSERT_STRING_EQUAL(r.text, "The address is not one that this App may fetch.");
	}
	CU_ASSERT_TRUE(call("fetch_url", "{}", config).is_error);
}

static CU_TestInfo cases[] = {
	CASE(sums_are_exact),
	CASE(what_is_no_sum_is_told_where),
	CASE(nesting_and_length_have_an_end),
	CASE(a_page_is_read_as_text),
	CASE(names_are_what_every_provider_allows_and_each_its_own),
	CASE(more_tools_than_a_box_holds_are_refused),
	CASE(the_built_in_tools_answer),
	CASE(an_address_that_is_not_allowed_is_not_fetched),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"tool", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
