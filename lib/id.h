/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ids are UUIDs, version 7 (RFC 9562 section 5.7), in lower case. In memory
 * that is kept for long they are 16 bytes; elsewhere the 36 characters.
 */
#ifndef LIB_ID_H
#define LIB_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ID_TEXT_LEN 36

/* The text form, always NUL-terminated. A value, copied freely; "" is no id. */
struct id {
	char text[ID_TEXT_LEN + 1];
};

struct id_bin {
	uint8_t b[16];
};

/* A new id. Ids of one process never go backwards. Any thread. */
struct id id_new(void);
/* True and *ret_id set only for exactly 36 characters, lower-case hex, dashes in place
 * (any version: restored data may hold others). Nothing else may become part of a subject or path. */
bool id_parse(const char *s, size_t len, struct id *ret_id);
bool id_is_set(const struct id *id);
bool id_equal(const struct id *a, const struct id *b);
struct id_bin id_to_bin(const struct id *id);
struct id id_from_bin(const struct id_bin *bin);

#endif
