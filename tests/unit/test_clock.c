/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/macros.h"
#include "tests/unit/harness.h"

static void times_are_written_as_rfc_3339(void)
{
	static const struct {
		int line;
		int64_t unix_ms;
		const char *text;
	} rows[] = {
		{__LINE__, 0, "1970-01-01T00:00:00.000Z"},
		{__LINE__, 1, "1970-01-01T00:00:00.001Z"},
		{__LINE__, 951782400999, "2000-02-29T00:00:00.999Z"},
		{__LINE__, 1767323045678, "2026-01-02T03:04:05.678Z"},
		{__LINE__, 253402300799999, "9999-12-31T23:59:59.999Z"},
		{__LINE__, -1, "1970-01-01T00:00:00.000Z"},
		{__LINE__, INT64_MAX, "9999-12-31T23:59:59.999Z"},
	};
	char text[CLOCK_RFC3339_SIZE];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		clock_rfc3339(rows[i].unix_ms, text);
		CHECK_ROW(&rows[i], strcmp(text, rows[i].text) == 0);
	}
}

static void a_set_clock_stands_still_until_given_back(void)
{
	clock_set_for_test(5000, 1767323045678);
	CU_ASSERT_EQUAL(clock_now_ms(), 5000);
	CU_ASSERT_EQUAL(clock_now_us(), 5000000);
	CU_ASSERT_EQUAL(clock_unix_ms(), 1767323045678);
	clock_set_for_test(0, 0);
	CU_ASSERT_EQUAL(clock_now_ms(), 0);
	CU_ASSERT_EQUAL(clock_unix_ms(), 0);
	clock_set_for_test(-1, 0);
	CU_ASSERT(llabs((long long)(clock_unix_ms() / 1000 - time(NULL))) <= 1);
}

static void the_monotonic_clock_does_not_go_back(void)
{
	int64_t last = clock_now_us();

	for (int i = 0; i < 1000; i++) {
		int64_t now = clock_now_us();
		CU_ASSERT_FATAL(now >= last);
		last = now;
	}
	CU_ASSERT(llabs((long long)(clock_now_ms() - last / 1000)) < 1000);
}

static CU_TestInfo cases[] = {
	CASE(times_are_written_as_rfc_3339),
	CASE(a_set_clock_stands_still_until_given_back),
	CASE(the_monotonic_clock_does_not_go_back),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"clock", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
