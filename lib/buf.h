/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing byte buffer with a maximum given when it is made. An append that
 * would pass the maximum adds nothing and marks the buffer as failed; check
 * once at the end with buf_has_failed(). data always ends with a NUL that is
 * not counted in len, once anything was appended.
 */
#ifndef LIB_BUF_H
#define LIB_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/macros.h"

struct buf {
	char *data; /* NULL while nothing was appended */
	size_t len;
	size_t cap;
	size_t max_bytes;
	bool failed;
	bool is_secret; /* what it held is wiped when it grows, and by buf_clear */
};

void buf_init(struct buf *b, size_t max_bytes);
void buf_init_secret(struct buf *b, size_t max_bytes);
/* Frees the memory; the buffer can be used again with the same maximum. */
void buf_clear(struct buf *b);
/* Forgets the content, keeps the memory. */
void buf_reset(struct buf *b);
/* Keeps the first len bytes, which are there. */
void buf_truncate(struct buf *b, size_t len);
void buf_append(struct buf *b, const void *data, size_t len);
void buf_append_str(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The content as a string, "" where nothing was appended. Borrowed. */
const char *buf_str(const struct buf *b);
bool buf_has_failed(const struct buf *b);

#endif
