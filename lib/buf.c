/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing byte buffer. Capacity doubles up to max_bytes and one byte for the
 * NUL. Once an append did not fit, later ones add nothing either, so the
 * content is always a prefix of what was meant.
 */
#include "lib/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/xalloc.h"

#define FIRST_BYTES 256

void buf_init(struct buf *b, size_t max_bytes)
{
	*b = (struct buf){.max_bytes = max_bytes};
}

void buf_init_secret(struct buf *b, size_t max_bytes)
{
	*b = (struct buf){.max_bytes = max_bytes, .is_secret = true};
}

static void release(struct buf *b)
{
	if (b->data && b->is_secret)
		explicit_bzero(b->data, b->cap);
	free(b->data);
}

void buf_clear(struct buf *b)
{
	release(b);
	*b = (struct buf){.max_bytes = b->max_bytes, .is_secret = b->is_secret};
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->failed = false;
	if (b->data)
		b->data[0] = '\0';
}

void buf_truncate(struct buf *b, size_t len)
{
	assert(len <= b->len);
	b->len = len;
	if (b->data)
		b->data[len] = '\0';
}

/* In another place, so that nothing stays in the old one. */
static char *move(struct buf *b, size_t cap)
{
	char *data = xmalloc(cap);

	if (b->data)
		memcpy(data, b->data, b->len + 1);
	release(b);
	return data;
}

/* Makes room for len more bytes and a NUL; false and failed past the maximum. */
static bool reserve(struct buf *b, size_t len)
{
	if (b->failed || len > b->max_bytes - b->len) {
		b->failed = true;
		return false;
	}
	size_t need = b->len + len + 1;
	if (need <= b->cap)
		return true;
	size_t cap = b->cap < FIRST_BYTES ? FIRST_BYTES : b->cap * 2;
	if (cap > b->max_bytes)
		cap = b->max_bytes + 1;
	if (cap < need)
		cap = need;
	b->data = b->is_secret ? move(b, cap) : xrealloc(b->data, cap);
	b->cap = cap;
	return true;
}

void buf_append(struct buf *b, const void *data, size_t len)
{
	if (!reserve(b, len))
		return;
	if (len > 0)
		memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void buf_append_str(struct buf *b, const char *s)
{
	buf_append(b, s, strlen(s));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	int len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (len < 0) {
		b->failed = true;
		return;
	}
	if (!reserve(b, (size_t)len))
		return;
	va_start(args, fmt);
	(void)vsnprintf(b->data + b->len, (size_t)len + 1, fmt, args);
	va_end(args);
	b->len += (size_t)len;
}

const char *buf_str(const struct buf *b)
{
	return b->data ? b->data : "";
}

bool buf_has_failed(const struct buf *b)
{
	return b->failed;
}
