/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/buf.h"

#include <string.h>

#include "tests/unit/harness.h"

static void an_empty_buffer_is_an_empty_string(void)
{
	struct buf b;

	buf_init(&b, 10);
	CU_ASSERT_PTR_NULL(b.data);
	CU_ASSERT_STRING_EQUAL(buf_str(&b), "");
	buf_append(&b, NULL, 0);
	CU_ASSERT_STRING_EQUAL(b.data, "");
	buf_clear(&b);
}

static void appends_follow_each_other(void)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	buf_append(&b, "ab\0c", 4);
	CU_ASSERT_EQUAL(b.len, 4);
	buf_reset(&b);
	CU_ASSERT_STRING_EQUAL(buf_str(&b), "");
	buf_append_str(&b, "one ");
	buf_printf(&b, "%d %s", 2, "three");
	CU_ASSERT_STRING_EQUAL(buf_str(&b), "one 2 three");
	for (int i = 0; i < 100; i++)
		buf_printf(&b, "%1000d", i);
	CU_ASSERT_EQUAL(b.len, 11 + 100 * 1000);
	CU_ASSERT_EQUAL(strlen(b.data), b.len);
	CU_ASSERT_FALSE(buf_has_failed(&b));
	buf_clear(&b);
	CU_ASSERT_PTR_NULL(b.data);
}

static void the_maximum_itself_fits(void)
{
	struct buf b;

	buf_init(&b, 5);
	buf_append_str(&b, "12345");
	CU_ASSERT_FALSE(buf_has_failed(&b));
	CU_ASSERT_STRING_EQUAL(buf_str(&b), "12345");
	buf_clear(&b);
}

static void what_is_cut_off_is_written_anew(void)
{
	struct buf b;

	buf_init(&b, 10);
	buf_truncate(&b, 0);
	CU_ASSERT_STRING_EQUAL(buf_str(&b), "");
	buf_append_str(&b, "abcdef");
	buf_truncate(&b, 2);
	CU_ASSERT_STRING_EQUAL(buf_str(&b), "ab");
	buf_append_str(&b, "x");
	CU_ASSERT_STRING_EQUAL(buf_str(&b), "abx");
	buf_clear(&b);
}

static void past_the_maximum_nothing_is_added_any_more(void)
{
	struct buf b;

	buf_init(&b, 5);
	buf_append_str(&b, "123");
	buf_append_str(&b, "456");
	CU_ASSERT_TRUE(buf_has_failed(&b));
	buf_append_str(&b, "4");
	buf_printf(&b, "%d", 4);
	CU_ASSERT_STRING_EQUAL(buf_str(&b), "123");
	buf_reset(&b);
	CU_ASSERT_FALSE(buf_has_failed(&b));
	buf_printf(&b, "%d", 123456);
	CU_ASSERT_TRUE(buf_has_failed(&b));
	CU_ASSERT_STRING_EQUAL(buf_str(&b), "");
	buf_clear(&b);
	CU_ASSERT_FALSE(buf_has_failed(&b));
	CU_ASSERT_EQUAL(b.max_bytes, 5);
	buf_clear(&b);
}

static void a_secret_buffer_grows_as_any_other(void)
{
	struct buf b;

	buf_init_secret(&b, 100000);
	for (unsigned i = 0; i < 20000; i++)
		buf_printf(&b, "%c", 'a' + (char)(i % 26));
	CU_ASSERT_FALSE(buf_has_failed(&b));
	CU_ASSERT_EQUAL(b.len, 20000);
	for (unsigned i = 0; i < 20000; i++)
		CU_ASSERT_TRUE_FATAL(b.data[i] == 'a' + (char)(i % 26));
	buf_clear(&b);
	CU_ASSERT_TRUE(b.is_secret);
	buf_append_str(&b, "again");
	CU_ASSERT_STRING_EQUAL(buf_str(&b), "again");
	buf_clear(&b);
}

static CU_TestInfo cases[] = {
	CASE(an_empty_buffer_is_an_empty_string),
	CASE(appends_follow_each_other),
	CASE(the_maximum_itself_fits),
	CASE(what_is_cut_off_is_written_anew),
	CASE(past_the_maximum_nothing_is_added_any_more),
	CASE(a_secret_buffer_grows_as_any_other),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"buf", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
