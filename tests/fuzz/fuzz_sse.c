/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server-sent events: any split of a stream gives the same events and the same end, no more memory is held than was
 * allowed, and no event holds a line end that is not a joint. The first byte sets the limit, the second the split.
 */
#include "lib/sse_parse.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

#define LIMIT_STEP 16
#define SEEN_MAX ((size_t)8 << 20)

/* Everything that came, with lengths: two streams of events are the same if this is. */
static bool note(void *closure, const char *name, const char *data, size_t len)
{
	struct buf *seen = closure;

	MUST(data[len] == '\0' && !memchr(data, '\r', len));
	MUST(strlen(name) < SSE_NAME_SIZE && !strpbrk(name, "\r\n"));
	buf_printf(seen, "%s %zu ", name, len);
	buf_append(seen, data, len);
	return len == 0 || data[0] != '!'; /* "!": enough */
}

/* step 0: whole; 1: byte by byte; else pieces of lengths that depend on it. */
static void read_stream(const char *data, size_t size, size_t event_max, unsigned step, struct buf *seen)
{
	struct sse_parse p;
	struct err e = {0};
	unsigned state = step;
	bool ok = true;

	buf_init(seen, SEEN_MAX);
	sse_parse_init(&p, event_max, note, seen);
	while (ok && size > 0) {
		state = state * 1103515245 + 12345;
		size_t piece = step == 0 ? size : step == 1 ? 1 : 1 + (state >> 16) % step;
		if (piece > size)
			piece = size;
		ok = sse_parse_feed(&p, data, piece, &e);
		data += piece;
		size -= piece;
		MUST(p.line.cap <= event_max + 1 && p.data.cap <= event_max + 1);
	}
	ok = ok && sse_parse_end(&p, &e);
	MUST(ok == (e.code == ERR_NONE) && (ok || e.code == ERR_LIMIT));
	sse_parse_clear(&p);
	buf_printf(seen, "%s", err_name(e.code));
	MUST(!buf_has_failed(seen));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole, bytes, pieces;

	if (size < 2)
		return 0;
	size_t event_max = LIMIT_STEP * (1 + (size_t)data[0]);
	unsigned step = 2 + data[1] % 64;
	const char *stream = (const char *)data + 2;

	read_stream(stream, size - 2, event_max, 0, &whole);
	read_stream(stream, size - 2, event_max, 1, &bytes);
	read_stream(stream, size - 2, event_max, step, &pieces);
	MUST(whole.len == bytes.len && memcmp(whole.data, bytes.data, whole.len) == 0);
	MUST(whole.len == pieces.len && memcmp(whole.data, pieces.data, whole.len) == 0);
	buf_clear(&whole);
	buf_clear(&bytes);
	buf_clear(&pieces);
	return 0;
}
