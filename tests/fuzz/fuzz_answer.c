/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams of model providers: any split gives the same answer, and no more is kept than was allowed. The first byte
 * says which provider and how large an answer may be, the second the split.
 */
#include <string.h>

#include "lib/json.h"
#include "lib/sse_parse.h"
#include "tests/fuzz/fuzz.h"
#include "worker/model/answer.h"
#include "worker/model/dialect.h"

#define EVENT_MAX ((size_t)65536)
#define SEEN_MAX ((size_t)8 << 20)

struct reading {
	const struct dialect *dialect;
	struct answer answer;
	struct err e;
	size_t text_len; /* as it was reported */
};

static void on_text(void *closure, const char *text, size_t len)
{
	struct reading *r = closure;

	MUST(len > 0 && utf8_is_valid(text, len));
	r->text_len += len;
}

static bool on_event(void *closure, const char *name, const char *data, size_t len)
{
	struct reading *r = closure;
	bool is_over = false;

	return r->dialect->read_event(&r->answer, name, data, len, &is_over, &r->e) && !is_over;
}

/* All that came of it, as text. */
static void write_answer(struct reading *r, struct buf *seen)
{
	struct err e = {0};
	bool is_whole = r->e.code == ERR_NONE && answer_complete(&r->answer, &e);

	buf_printf(seen, "%d %d %s %zu\n", is_whole, (int)r->e.code, answer_finish_name(r->answer.finish),
		   r->answer.text.len);
	buf_append(seen, buf_str(&r->answer.text), r->answer.text.len);
	if (is_whole) {
		struct jval *message = answer_message(&r->answer);
		jval_canonical(message, seen);
		jval_free(&message);
	}
}

static void read_stream(const struct dialect *dialect, const char *data, size_t size, size_t bytes_max, size_t step,
			struct buf *seen)
{
	struct reading r = {.dialect = dialect};
	struct sse_parse sse;
	size_t kept = 0;
	bool ok = true;

	buf_init(seen, SEEN_MAX);
	answer_init(&r.answer, bytes_max);
	r.answer.on_text = on_text;
	r.answer.closure = &r;
	sse_parse_init(&sse, EVENT_MAX, on_event, &r);
	for (size_t at = 0; ok && at < size; at += step)
		ok = sse_parse_feed(&sse, data + at, size - at < step ? size - at : step, &r.e) && r.e.code == ERR_NONE;
	if (ok)
		ok = sse_parse_end(&sse, &r.e);
	kept = r.answer.text.len;
	for (unsigned i = 0; i < r.answer.calls_count; i++)
		kept += r.answer.calls[i]->arguments.len;
	MUST(kept <= bytes_max && r.text_len == r.answer.text.len);
	write_answer(&r, seen);
	sse_parse_clear(&sse);
	answer_clear(&r.answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole, pieces;

	if (size < 2)
		return 0;
	const struct dialect *dialect = data[0] & 1 ? &dialect_anthropic : &dialect_openai;
	size_t bytes_max = (size_t)1 << (4 + data[0] % 12);
	const char *stream = (const char *)data + 2;

	read_stream(dialect, stream, size - 2, bytes_max, size, &whole);
	read_stream(dialect, stream, size - 2, bytes_max, 1 + data[1] % 64, &pieces);
	MUST(whole.len == pieces.len && memcmp(whole.data, pieces.data, whole.len) == 0);
	buf_clear(&whole);
	buf_clear(&pieces);
	return 0;
}
