/* SPDX-License-Identifier: Apache-2.0 */
/* Prefixes: what may be saved, and what they let through. */
#include "core/page_url.h"

#include <stdio.h>
#include <string.h>

#include "core/framework.h"
#include "lib/json.h"
#include "lib/macros.h"
#include "tests/unit/harness.h"

static const struct {
	int line;
	const char *prefix;
	bool is_good;
} prefixes[] = {
	{__LINE__, "https://docs.example.com/", true},
	{__LINE__, "http://docs.example.com:8080/public", true},
	{__LINE__, "https://[2001:db8::1]/~a/b;c=d,e!f$g&h'(i)*+j", true},
	{__LINE__, "https://docs.example.com", false},
	{__LINE__, "https://", false},
	{__LINE__, "https:///a", false},
	{__LINE__, "ftp://docs.example.com/", false},
	{__LINE__, "x://https://docs.example.com/", false},
	{__LINE__, "HTTPS://docs.example.com/", false},
	{__LINE__, "https://user@docs.example.com/", false},
	{__LINE__, "https://docs.example.com/@a", false},
	{__LINE__, "https://docs.example.com/a/../b", false},
	{__LINE__, "https://docs.example.com/a%20b", false},
	{__LINE__, "https://docs.example.com/a?b", false},
	{__LINE__, "https://docs.example.com/#a", false},
	{__LINE__, "https://docs.example.com?/", false},
	{__LINE__, "https://docs.example.com\\\\@evil.net/", false},
	{__LINE__, "https://docs.example.com/a b", false},
	{__LINE__, "https://docs.example.com/a\\u0001", false},
	{__LINE__, "https://docs.example.com/a\\u007f", false},
	{__LINE__,
	 "https://d\xc3\xb6"
	 "cs.example.com/",
	 false},
	{__LINE__, "https://docs.example.com/caf\xc3\xa9", false},
	{__LINE__, "", false},
};

/* As the configuration of an App says it; what can be saved can be used. */
static bool is_saved(const char *prefix)
{
	const struct json_limits limits = {.bytes_max = 4096, .depth_max = 8};
	char text[2048];
	struct field_error errors[4];
	struct jval *config = NULL;
	struct err e = {0};

	(void)snprintf(text, sizeof(text),
		       "{\"llm_config_id\":\"01a221d8-bfe3-77e8-9e2a-24e2bc1bada7\",\"model\":\"m\","
		       "\"tools\":[\"fetch_url\"],\"fetch_url\":{\"allow\":[\"%s\"]}}",
		       prefix);
	CU_ASSERT_TRUE_FATAL(jval_parse(text, strlen(text), &limits, &config, &e));
	size_t count = framework_find("agent")->check(config, errors, ARRAY_LEN(errors));
	CU_ASSERT(count <= 1);
	CU_ASSERT(count == 0 || strcmp(errors[0].field, "config.fetch_url.allow") == 0);
	jval_free(&config);
	return count == 0;
}

static void what_is_saved_can_be_used(void)
{
	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
		const char *prefix = prefixes[i].prefix;

		CHECK_ROW(&prefixes[i], is_saved(prefix) == prefixes[i].is_good);
		CHECK_ROW(&prefixes[i], page_url_is_prefix(prefix, strlen(prefix)) == prefixes[i].is_good);
		if (prefixes[i].is_good)
			CHECK_ROW(&prefixes[i], page_url_is_plain(prefix) && page_url_is_below(prefix, prefix));
	}
	CU_ASSERT_FALSE(page_url_is_prefix("https://host/\0evil", 18));
}

static void a_prefix_has_a_longest_length(void)
{
	char longest[1026] = "https://host/";

	memset(longest + 13, 'a', sizeof(longest) - 14);
	longest[1024] = '\0';
	CU_ASSERT_TRUE(page_url_is_prefix(longest, 1024));
	CU_ASSERT_TRUE(is_saved(longest));
	longest[1024] = 'a';
	longest[1025] = '\0';
	CU_ASSERT_FALSE(page_url_is_prefix(longest, 1025));
	CU_ASSERT_FALSE(is_saved(longest));
}

static const struct {
	int line;
	const char *url, *prefix;
	bool is_below;
} pages[] = {
	{__LINE__, "https://host/a", "https://host/a", true},
	{__LINE__, "https://host/a/b", "https://host/a", true},
	{__LINE__, "https://host/a?b", "https://host/a", true},
	{__LINE__, "https://host/a#b", "https://host/a", true},
	{__LINE__, "https://host/a/b", "https://host/a/", true},
	{__LINE__, "https://host/ab", "https://host/a", false},
	{__LINE__, "https://host/a", "https://host/a/", false},
	{__LINE__, "https://host/A", "https://host/a", false},
	{__LINE__, "http://host/a", "https://host/a", false},
	{__LINE__, "https://host.evil/a", "https://host/", false},
};

static void a_prefix_ends_at_a_boundary(void)
{
	for (size_t i = 0; i < ARRAY_LEN(pages); i++)
		CHECK_ROW(&pages[i], page_url_is_below(pages[i].url, pages[i].prefix) == pages[i].is_below);
}

static CU_TestInfo cases[] = {
	CASE(what_is_saved_can_be_used),
	CASE(a_prefix_has_a_longest_length),
	CASE(a_prefix_ends_at_a_boundary),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"page_url", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
