/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/err.h"

#include <string.h>

#include "tests/unit/harness.h"

static void a_set_error_has_code_and_text_and_is_false(void)
{
	struct err e = {0};

	CU_ASSERT_FALSE(err_set(&e, ERR_CONFLICT, "org %d", 7));
	CU_ASSERT_EQUAL(e.code, ERR_CONFLICT);
	CU_ASSERT_STRING_EQUAL(e.text, "org 7");
}

static void context_stands_in_front_and_keeps_the_code(void)
{
	struct err e = {0};

	err_set(&e, ERR_DOWN, "refused");
	CU_ASSERT_FALSE(err_ctx(&e, "connect to %s", "db"));
	CU_ASSERT_FALSE(err_ctx(&e, "start"));
	CU_ASSERT_EQUAL(e.code, ERR_DOWN);
	CU_ASSERT_STRING_EQUAL(e.text, "start: connect to db: refused");
}

static void the_old_text_may_be_an_argument(void)
{
	struct err e = {0};

	err_set(&e, ERR_INPUT, "inner");
	err_set(&e, ERR_LIMIT, "outer (%s)", e.text);
	CU_ASSERT_STRING_EQUAL(e.text, "outer (inner)");
}

static void a_long_text_is_cut_and_terminated(void)
{
	char text[1000];
	struct err e;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	err_set(&e, ERR_INPUT, "%s", text);
	CU_ASSERT_EQUAL(strlen(e.text), sizeof(e.text) - 1);
	err_ctx(&e, "ctx");
	CU_ASSERT_EQUAL(strlen(e.text), sizeof(e.text) - 1);
	CU_ASSERT_EQUAL(strncmp(e.text, "ctx: xxx", 8), 0);
	err_ctx(&e, "%s", text);
	CU_ASSERT_EQUAL(strlen(e.text), sizeof(e.text) - 1);
}

static void no_error_struct_is_accepted(void)
{
	CU_ASSERT_FALSE(err_set(NULL, ERR_INPUT, "x"));
	CU_ASSERT_FALSE(err_ctx(NULL, "x"));
	err_clear(NULL);
}

static void a_cleared_error_is_none(void)
{
	struct err e;

	err_set(&e, ERR_INPUT, "x");
	err_clear(&e);
	CU_ASSERT_EQUAL(e.code, ERR_NONE);
	CU_ASSERT_STRING_EQUAL(e.text, "");
}

static void every_code_has_a_name(void)
{
	for (int code = ERR_NONE; code <= ERR_INTERNAL; code++)
		CU_ASSERT_STRING_NOT_EQUAL(err_name((enum err_code)code), "unknown");
	CU_ASSERT_STRING_EQUAL(err_name(ERR_UNCERTAIN), "uncertain");
	CU_ASSERT_STRING_EQUAL(err_name((enum err_code)99), "unknown");
}

static CU_TestInfo cases[] = {
	CASE(a_set_error_has_code_and_text_and_is_false),
	CASE(context_stands_in_front_and_keeps_the_code),
	CASE(the_old_text_may_be_an_argument),
	CASE(a_long_text_is_cut_and_terminated),
	CASE(no_error_struct_is_accepted),
	CASE(a_cleared_error_is_none),
	CASE(every_code_has_a_name),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"err", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
