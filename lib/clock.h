/* SPDX-License-Identifier: Apache-2.0 */
/* The two clocks. Tests set them; programs do not. All threads. */
#ifndef LIB_CLOCK_H
#define LIB_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int64_t clock_now_ms(void);  /* monotonic: for timeouts and ages */
int64_t clock_now_us(void);  /* monotonic, microseconds: for latencies */
int64_t clock_unix_ms(void); /* wall clock, UTC */

#define CLOCK_RFC3339_SIZE 25 /* "2026-01-02T03:04:05.678Z" and its NUL */
/* Writes unix_ms as RFC 3339 in UTC with milliseconds. */
void clock_rfc3339(int64_t unix_ms, char ret_text[CLOCK_RFC3339_SIZE]);
/* Reads RFC 3339 from 1970 on, with any zone; what is finer than a millisecond is dropped. False: it is none. */
bool clock_parse_rfc3339(const char *s, int64_t *ret_unix_ms);

/* Tests only: from here on both clocks stand at these values until set again;
 * a negative now_ms gives the real clocks back. */
void clock_set_for_test(int64_t now_ms, int64_t unix_ms);

#endif
