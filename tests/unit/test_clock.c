/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/clock.h"

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

static void rfc_3339_is_read_and_nothing_else(void)
{
	static const struct {
		int line;
		const char *text;
		int64_t unix_ms; /* -1: it is none */
	} rows[] = {
		{__LINE__, "1970-01-01T00:00:00Z", 0},
		{__LINE__, "2026-01-02T03:04:05.678Z", 1767323045678},
		{__LINE__, "2026-01-02T03:04:05.6789Z", 1767323045678},
		{__LINE__, "2026-01-02T04:04:05.6+01:00", 1767323045600},
		{__LINE__, "2026-01-01T21:34:05-05:30", 1767323045000},
		{__LINE__, "2000-02-29T00:00:00.999Z", 951782400999},
		{__LINE__, "2001-02-29T00:00:00Z", -1},
		{__LINE__, "2001-00-01T00:00:00Z", -1},
		{__LINE__, "2001-13-01T00:00:00Z", -1},
		{__LINE__, "2001-01-00T00:00:00Z", -1},
		{__LINE__, "2001-01-01T24:00:00Z", -1},
		{__LINE__, "2001-01-01T00:60:00Z", -1},
		{__LINE__, "2001-01-01T00:00:00", -1},
		{__LINE__, "2001-01-01T00:00:00.Z", -1},
		{__LINE__, "2001-01-01T00:00:00Zx", -1},
		{__LINE__, "2001-01-01T00:00:00+24:00", -1},
		{__LINE__, "2001-01-01T00:00:00+01:00x", -1},
		{__LINE__, "2001-01-01T00:00:00+0100", -1},
		{__LINE__, "2001-01-01 00:00:00Z", -1},
		{__LINE__, "2001-01-01", -1},
		{__LINE__, "1969-12-31T23:59:59Z", -1},
		{__LINE__, "1970-01-01T00:00:00+00:01", -1},
		{__LINE__, "", -1},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t unix_ms = -1;
		bool ok = clock_parse_rfc3339(rows[i].text, &unix_ms);
		CHECK_ROW(&rows[i], ok == (rows[i].unix_ms >= 0));
		CHECK_ROW(&rows[i], unix_ms == rows[i].unix_ms);
	}
}

/* Not time(), which may lag behind by a tick. */
static int64_t system_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
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
	int64_t before_ms = system_ms(), now_ms = clock_unix_ms();
	CU_ASSERT(before_ms <= now_ms && now_ms <= system_ms());
}

static void the_monotonic_clock_does_not_go_back(void)
{
	int64_t last = clock_now_us();

	for (int i = 0; i < 1000; i++) {
		int64_t now = clock_now_us();
		CU_ASSERT_FATAL(now >= last);
		last = now;
	}
	int64_t now_ms = clock_now_ms();
	CU_ASSERT(last / 1000 <= now_ms && now_ms <= clock_now_us() / 1000);
}

static CU_TestInfo cases[] = {
	CASE(times_are_written_as_rfc_3339),
	CASE(rfc_3339_is_read_and_nothing_else),
	CASE(a_set_clock_stands_still_until_given_back),
	CASE(the_monotonic_clock_does_not_go_back),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"clock", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
