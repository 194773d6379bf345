/* SPDX-License-Identifier: Apache-2.0 */
#include "fcgi-app/request.h"

#include <stdio.h>
#include <string.h>

#include "core/framework.h"
#include "lib/arena.h"
#include "lib/macros.h"
#include "tests/unit/harness.h"

#define ID "0192f0c1-0000-7000-8000-000000000001"

static struct arena *mem;

static void set_up(void)
{
	mem = arena_new(1 << 20);
}

static void tear_down(void)
{
	arena_free(&mem);
}

/* --- the target --- */

static const struct {
	int line;
	const char *uri, *base;
	bool is_good;
	const char *path; /* the segments, joined by | */
	const char *query;
} targets[] = {
	{__LINE__, "/a/b", "", true, "a|b", ""},
	{__LINE__, "/a/b?x=1&y", "", true, "a|b", "x=1&y"},
	{__LINE__, "/a%20b/%C3%A4", "", true, "a b|\xc3\xa4", ""},
	{__LINE__, "/a%2Fb", "", true, "a/b", ""},
	{__LINE__, "/a#x", "", true, "a", ""},
	{__LINE__, "/", "", false, "", ""},
	{__LINE__, "/a/", "", true, "a", ""},
	{__LINE__, "/a//b", "", false, NULL, NULL},
	{__LINE__, "a", "", false, NULL, NULL},
	{__LINE__, "", "", false, NULL, NULL},
	{__LINE__, "*", "", false, NULL, NULL},
	{__LINE__, "http://host:80/a", "", true, "a", ""},
	{__LINE__, "HTTPS://host/a?b", "", true, "a", "b"},
	{__LINE__, "/base/a", "/base", true, "a", ""},
	{__LINE__, "/basement/a", "/base", false, NULL, NULL},
	{__LINE__, "/base", "/base", false, NULL, NULL},
	{__LINE__, "/a", "/base", false, NULL, NULL},
	{__LINE__, "http://host/base/a", "/base", true, "a", ""},
	/* What cannot be decoded stands there as what no route or id is. */
	{__LINE__, "/%", "", true, "%", ""},
	{__LINE__, "/%4", "", true, "%", ""},
	{__LINE__, "/%zz/b", "", true, "%|b", ""},
	{__LINE__, "/%00", "", true, "%", ""},
	{__LINE__, "/%0a", "", true, "%", ""},
	{__LINE__, "/%ff", "", true, "%", ""},
	{__LINE__, "/1/2/3/4/5/6/7/8", "", true, "1|2|3|4|5|6|7|8", ""},
	{__LINE__, "/1/2/3/4/5/6/7/8/9", "", false, NULL, NULL},
};

static void join(const struct request *req, char *out, size_t size)
{
	out[0] = '\0';
	for (unsigned i = 0; i < req->segment_count; i++) {
		size_t len = strlen(out);
		snprintf(out + len, size - len, "%s%s", i > 0 ? "|" : "", req->segments[i]);
	}
}

static void targets_are_split_and_decoded(void)
{
	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		struct request req = {.mem = mem};
		char path[256];
		bool is_good = request_parse_target(&req, targets[i].uri, targets[i].base);
		join(&req, path, sizeof(path));
		if (is_good != targets[i].is_good || (is_good && strcmp(path, targets[i].path) != 0))
			printf("row of line %d: %s\n", targets[i].line, path);
		CU_ASSERT_EQUAL(is_good, targets[i].is_good);
		if (is_good && targets[i].is_good) {
			CU_ASSERT_STRING_EQUAL(path, targets[i].path);
			CU_ASSERT_STRING_EQUAL(req.query, targets[i].query);
		}
	}
}

static void a_target_that_is_missing_or_endless_is_none(void)
{
	struct request req = {.mem = mem};
	static char endless[20000];

	memset(endless, 'a', sizeof(endless) - 1);
	endless[0] = '/';
	CU_ASSERT_FALSE(request_parse_target(&req, NULL, ""));
	CU_ASSERT_FALSE(request_parse_target(&req, endless, ""));
}

/* --- headers --- */

static void methods_are_exact(void)
{
	bool is_head;

	CU_ASSERT_EQUAL(request_parse_method("GET", &is_head), METHOD_GET);
	CU_ASSERT_FALSE(is_head);
	CU_ASSERT_EQUAL(request_parse_method("HEAD", &is_head), METHOD_GET);
	CU_ASSERT_TRUE(is_head);
	CU_ASSERT_EQUAL(request_parse_method("DELETE", &is_head), METHOD_DELETE);
	CU_ASSERT_EQUAL(request_parse_method("get", &is_head), METHOD_OTHER);
	CU_ASSERT_EQUAL(request_parse_method("", &is_head), METHOD_OTHER);
	CU_ASSERT_EQUAL(request_parse_method(NULL, &is_head), METHOD_OTHER);
}

static void request_ids_hold_no_surprise(void)
{
	char longest[REQUEST_ID_MAX + 2];

	memset(longest, 'a', sizeof(longest));
	longest[REQUEST_ID_MAX + 1] = '\0';
	CU_ASSERT_FALSE(request_id_is_good(longest));
	longest[REQUEST_ID_MAX] = '\0';
	CU_ASSERT_TRUE(request_id_is_good(longest));
	CU_ASSERT_TRUE(request_id_is_good("a.B_c-9"));
	CU_ASSERT_FALSE(request_id_is_good(""));
	CU_ASSERT_FALSE(request_id_is_good(NULL));
	CU_ASSERT_FALSE(request_id_is_good("a b"));
	CU_ASSERT_FALSE(request_id_is_good("a\nb"));
	CU_ASSERT_FALSE(request_id_is_good("\xc3\xa4"));
}

static const struct {
	int line;
	const char *header;
	int wait_s;
} preferences[] = {
	{__LINE__, NULL, -1},
	{__LINE__, "", -1},
	{__LINE__, "wait=10", 10},
	{__LINE__, "wait=0", 0},
	{__LINE__, "WAIT = \"5\"", 5},
	{__LINE__, "respond-async, wait=7", 7},
	{__LINE__, "wait=3; foo=bar, x", 3},
	{__LINE__, "wait=61", REQUEST_WAIT_MAX_S},
	{__LINE__, "wait=99999999999999999999", REQUEST_WAIT_MAX_S},
	{__LINE__, "wait=-1", -1},
	{__LINE__, "wait=1.5", -1},
	{__LINE__, "wait", -1},
	{__LINE__, "wait=", -1},
	{__LINE__, "wait=\"5", -1},
	{__LINE__, "wait=5x", -1},
	{__LINE__, "await=5", -1},
	{__LINE__, "waiting=5", -1},
	{__LINE__, ",,wait=2", 2},
};

static void preferences_to_wait_are_understood_or_ignored(void)
{
	for (size_t i = 0; i < ARRAY_LEN(preferences); i++) {
		int wait_s = request_parse_prefer(preferences[i].header);
		if (wait_s != preferences[i].wait_s)
			printf("row of line %d: %d\n", preferences[i].line, wait_s);
		CU_ASSERT_EQUAL(wait_s, preferences[i].wait_s);
	}
}

static void json_is_the_only_type(void)
{
	CU_ASSERT_TRUE(request_is_json_type(NULL));
	CU_ASSERT_TRUE(request_is_json_type(""));
	CU_ASSERT_TRUE(request_is_json_type("application/json"));
	CU_ASSERT_TRUE(request_is_json_type("Application/JSON; charset=utf-8"));
	CU_ASSERT_FALSE(request_is_json_type("application/jsonx"));
	CU_ASSERT_FALSE(request_is_json_type("application/problem+json"));
	CU_ASSERT_FALSE(request_is_json_type("text/plain"));
}

/* --- the query --- */

static const struct {
	int line;
	const char *query;
	bool is_good;
	unsigned limit;
	const char *after;
} pages[] = {
	{__LINE__, "", true, PAGE_LIMIT_DEFAULT, ""},
	{__LINE__, "limit=1", true, 1, ""},
	{__LINE__, "limit=200&after=" ID, true, 200, ID},
	{__LINE__, "x=1&li%6dit=5&limit=7", true, 7, ""},
	{__LINE__, "limit=%37", true, 7, ""},
	{__LINE__, "limit=201", false, 0, ""},
	{__LINE__, "limit=0", false, 0, ""},
	{__LINE__, "limit=", false, 0, ""},
	{__LINE__, "limit", false, 0, ""},
	{__LINE__, "limit=1x", false, 0, ""},
	{__LINE__, "limit=-1", false, 0, ""},
	{__LINE__, "limit=5&limit=5", false, 0, ""},
	{__LINE__, "limit=%zz", false, 0, ""},
	{__LINE__, "after=x", false, 0, ""},
	{__LINE__, "after=" ID "&after=" ID, false, 0, ""},
};

static void pages_are_strict(void)
{
	for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
		const struct request req = {.mem = mem, .query = pages[i].query};
		struct field_error error;
		struct page page;
		bool is_good = request_page(&req, &page, &error);
		if (is_good != pages[i].is_good)
			printf("row of line %d\n", pages[i].line);
		CU_ASSERT_EQUAL(is_good, pages[i].is_good);
		if (is_good && pages[i].is_good) {
			CU_ASSERT_EQUAL(page.limit, pages[i].limit);
			CU_ASSERT_STRING_EQUAL(page.after.text, pages[i].after);
		}
	}
}

static CU_TestInfo cases[] = {
	{"targets_are_split_and_decoded", targets_are_split_and_decoded},
	{"a_target_that_is_missing_or_endless_is_none", a_target_that_is_missing_or_endless_is_none},
	{"methods_are_exact", methods_are_exact},
	{"request_ids_hold_no_surprise", request_ids_hold_no_surprise},
	{"preferences_to_wait_are_understood_or_ignored", preferences_to_wait_are_understood_or_ignored},
	{"json_is_the_only_type", json_is_the_only_type},
	{"pages_are_strict", pages_are_strict},
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"request", NULL, NULL, set_up, tear_down, cases},
	CU_SUITE_INFO_NULL,
};
