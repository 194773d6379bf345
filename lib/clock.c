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

/* count digits and, behind them, the separator (NUL: none wanted); *s goes on behind both. */
static bool take_number(const char **s, int count, char separator, int max, int *ret_n)
{
	int n = 0;

	for (int i = 0; i < count; i++, (*s)++) {
		if (**s < '0' || **s > '9')
			return false;
		n = n * 10 + (**s - '0');
	}
	if (separator && *(*s)++ != separator)
		return false;
	*ret_n = n;
	return n <= max;
}

/* ".123", or nothing. */
static bool take_fraction(const char **s, int *ret_ms)
{
	int weight = 100;

	*ret_ms = 0;
	if (**s != '.')
		return true;
	for ((*s)++; **s >= '0' && **s <= '9'; (*s)++, weight /= 10)
		*ret_ms += (**s - '0') * weight;
	return weight < 100;
}

/* "Z" or "+01:00", to the end. */
static bool take_zone(const char *s, int *ret_minutes)
{
	int sign = *s == '-' ? -1 : 1;
	int hours, minutes;

	*ret_minutes = 0;
	if (*s == 'Z')
		return s[1] == '\0';
	if (*s != '+' && *s != '-')
		return false;
	s++;
	if (!take_number(&s, 2, ':', 23, &hours) || !take_number(&s, 2, '\0', 59, &minutes))
		return false;
	*ret_minutes = sign * (hours * 60 + minutes);
	return *s == '\0';
}

bool clock_parse_rfc3339(const char *s, int64_t *ret_unix_ms)
{
	struct tm tm = {0};
	int ms, zone_minutes;

	if (!take_number(&s, 4, '-', 9999, &tm.tm_year) || !take_number(&s, 2, '-', 12, &tm.tm_mon) ||
	    !take_number(&s, 2, 'T', 31, &tm.tm_mday) || !take_number(&s, 2, ':', 23, &tm.tm_hour) ||
	    !take_number(&s, 2, ':', 59, &tm.tm_min) || !take_number(&s, 2, '\0', 59, &tm.tm_sec) ||
	    !take_fraction(&s, &ms) || !take_zone(s, &zone_minutes))
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	int month = tm.tm_mon, day = tm.tm_mday;
	int64_t seconds = timegm(&tm) - zone_minutes * 60;
	if (tm.tm_mon != month || tm.tm_mday != day || seconds < 0)
		return false; /* before 1970, or a 30th of February: timegm made another day of it */
	*ret_unix_ms = seconds * 1000 + ms;
	return true;
}

void clock_set_for_test(int64_t now_ms, int64_t unix_ms)
{
	atomic_store(&test_unix_ms, unix_ms);
	atomic_store(&test_now_ms, now_ms);
}
