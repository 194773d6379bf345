/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ids. The upper 60 free bits of a UUIDv7 are 48 of time in milliseconds and 12
 * of counter (RFC 9562 section 6.2, method 1). Here they are one number that only
 * grows: each millisecond starts at a random place in the counter's lower half;
 * a full counter runs over into the time, and a clock set back is waited out.
 */
#include "lib/id.h"

#include <stdatomic.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/secret.h"

#define COUNTER_BITS 12
#define COUNTER_START_MASK 0x7ff

static _Atomic uint64_t last_mark; /* time << 12 | counter of the newest id */

static uint64_t next_mark(uint64_t start)
{
	uint64_t last = atomic_load(&last_mark);
	uint64_t next;

	do {
		next = start > last ? start : last + 1;
	} while (!atomic_compare_exchange_weak(&last_mark, &last, next));
	return next;
}

struct id id_new(void)
{
	struct id_bin bin;
	uint16_t start;

	secret_random(bin.b, sizeof(bin.b));
	memcpy(&start, bin.b, sizeof(start));
	uint64_t mark = next_mark((uint64_t)clock_unix_ms() << COUNTER_BITS | (start & COUNTER_START_MASK));
	uint64_t unix_ms = mark >> COUNTER_BITS;
	for (int i = 0; i < 6; i++)
		bin.b[i] = (uint8_t)(unix_ms >> (40 - 8 * i));
	bin.b[6] = (uint8_t)(0x70 | (mark >> 8 & 0x0f));
	bin.b[7] = (uint8_t)mark;
	bin.b[8] = (uint8_t)(0x80 | (bin.b[8] & 0x3f));
	return id_from_bin(&bin);
}

static bool is_dash_place(size_t i)
{
	return i == 8 || i == 13 || i == 18 || i == 23;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool id_parse(const char *s, size_t len, struct id *ret_id)
{
	if (!s || len != ID_TEXT_LEN)
		return false;
	for (size_t i = 0; i < ID_TEXT_LEN; i++) {
		if (is_dash_place(i) ? s[i] != '-' : hex_value(s[i]) < 0)
			return false;
	}
	memcpy(ret_id->text, s, ID_TEXT_LEN);
	ret_id->text[ID_TEXT_LEN] = '\0';
	return true;
}

bool id_is_set(const struct id *id)
{
	return id->text[0] != '\0';
}

bool id_equal(const struct id *a, const struct id *b)
{
	return strcmp(a->text, b->text) == 0;
}

struct id_bin id_to_bin(const struct id *id)
{
	struct id_bin bin = {{0}};
	size_t at = 0;

	if (!id_is_set(id))
		return bin;
	for (size_t i = 0; i < sizeof(bin.b); i++) {
		if (is_dash_place(at))
			at++;
		bin.b[i] = (uint8_t)(hex_value(id->text[at]) << 4 | hex_value(id->text[at + 1]));
		at += 2;
	}
	return bin;
}

struct id id_from_bin(const struct id_bin *bin)
{
	static const char hex[] = "0123456789abcdef";
	struct id id;
	size_t at = 0;

	for (size_t i = 0; i < sizeof(bin->b); i++) {
		if (is_dash_place(at))
			id.text[at++] = '-';
		id.text[at++] = hex[bin->b[i] >> 4];
		id.text[at++] = hex[bin->b[i] & 0x0f];
	}
	id.text[at] = '\0';
	return id;
}
