/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two clocks. A test's values stand in atomics: other threads of the
 * program under test read the clock while the test moves it.
 */
#include "lib/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#define LAST_UNIX_MS INT64_C(253402300799999) /* the end of year 9999 */

static _Atomic int64_t test_now_ms = -1; /* negative: the real clocks */
static _Atomic int64_t test_unix_ms;

static int64_t read_us(clockid_t clock)
{
	struct timespec t;

	(void)clock_gettime(clock, &t); /* cannot fail for the two clocks used here */
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64_t clock_now_ms(void)
{
	return clock_now_us() / 1000;
}

int64_t clock_now_us(void)
{
	int64_t set_ms = atomic_load(&test_now_ms);

	return set_ms >= 0 ? set_ms * 1000 : read_us(CLOCK_MONOTONIC);
}

int64_t clock_unix_ms(void)
{
	if (atomic_load(&test_now_ms) >= 0)
		return atomic_load(&test_unix_ms);
	return read_us(CLOCK_REALTIME) / 1000;
}

void clock_rfc3339(int64_t unix_ms, char ret_text[CLOCK_RFC3339_SIZE])
{
	struct tm tm;

	if (unix_ms < 0)
		unix_ms = 0;
	if (unix_ms > LAST_UNIX_MS)
		unix_ms = LAST_UNIX_MS;
	time_t seconds = (time_t)(unix_ms / 1000);
	(void)gmtime_r(&seconds, &tm);
	size_t len = strftime(ret_text, CLOCK_RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(ret_text + len, CLOCK_RFC3339_SIZE - len, ".%03uZ", (unsigned)(unix_ms % 1000));
}

void clock_set_for_test(int64_t now_ms, int64_t unix_ms)
{
	atomic_store(&test_unix_ms, unix_ms);
	atomic_store(&test_now_ms, now_ms);
}
