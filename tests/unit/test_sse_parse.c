/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/sse_parse.h"

#include <string.h>

#include "lib/macros.h"
#include "tests/unit/harness.h"

#define EVENT_MAX 64

/* What a stream gave, as one text: "name|data;" for each event, data with its NULs as '0'. */
struct seen {
	struct buf text;
	unsigned count, enough_after; /* 0: never */
};

static bool note(void *closure, const char *name, const char *data, size_t len)
{
	struct seen *seen = closure;

	buf_append_str(&seen->text, name);
	buf_append(&seen->text, "|", 1);
	for (size_t i = 0; i < len; i++)
		buf_append(&seen->text, data[i] ? &data[i] : "0", 1);
	CU_ASSERT_EQUAL(data[len], '\0');
	buf_append(&seen->text, ";", 1);
	seen->count++;
	return seen->count != seen->enough_after;
}

struct row {
	int line;
	const char *stream;
	size_t len; /* 0: strlen */
	const char *events;
	enum err_code code;
};

#define STREAM(s) s, sizeof(s) - 1

static const struct row rows[] = {
	{__LINE__, "data: hello\n\n", 0, "|hello;", ERR_NONE},
	{__LINE__, "data:hello\n\n", 0, "|hello;", ERR_NONE},
	{__LINE__, "data:  hello \n\n", 0, "| hello ;", ERR_NONE},
	{__LINE__, "event: delta\ndata: {}\n\n", 0, "delta|{};", ERR_NONE},
	{__LINE__, "data: {}\nevent: delta\n\n", 0, "delta|{};", ERR_NONE},
	{__LINE__, "event: a\nevent: b\ndata: x\n\n", 0, "b|x;", ERR_NONE},
	{__LINE__, "data: a\ndata: b\ndata\ndata: c\n\n", 0, "|a\nb\n\nc;", ERR_NONE},
	/* line ends */
	{__LINE__, "data: a\r\ndata: b\r\n\r\n", 0, "|a\nb;", ERR_NONE},
	{__LINE__, "data: a\rdata: b\r\r", 0, "|a\nb;", ERR_NONE},
	{__LINE__, "data: a\r\rdata: b\n\ndata: c\r\n\r\n", 0, "|a;|b;|c;", ERR_NONE},
	{__LINE__, "data: a\n\rdata: b\n\n", 0, "|a;|b;", ERR_NONE},
	{__LINE__, "data: a\r\n\ndata: b\n\n", 0, "|a;|b;", ERR_NONE},
	{__LINE__, "\n\r\n\r\n\ndata: a\n\n\n\n", 0, "|a;", ERR_NONE},
	/* a BOM at the start, and only there */
	{__LINE__,
	 "\xef\xbb\xbf"
	 "data: a\n\n",
	 0, "|a;", ERR_NONE},
	{__LINE__,
	 "\xef\xbb\xbf\xef\xbb\xbf"
	 "data: a\n\n",
	 0, "", ERR_NONE},
	{__LINE__,
	 "\n\xef\xbb\xbf"
	 "data: a\n\n",
	 0, "", ERR_NONE},
	{__LINE__,
	 "\xef\xbb"
	 "data: a\n\n",
	 0, "", ERR_NONE},
	{__LINE__, "\xef\xbb\xbf", 0, "", ERR_NONE},
	/* what is no data */
	{__LINE__, ": keep-alive\n\n", 0, "", ERR_NONE},
	{__LINE__, ":\ndata: a\n: b\n\n", 0, "|a;", ERR_NONE},
	{__LINE__, "event: ping\n\ndata: a\n\n", 0, "|a;", ERR_NONE},
	{__LINE__, "id: 7\nretry: 10\nother: x\nDATA: y\n data: z\ndata : w\nunknown\n\n", 0, "", ERR_NONE},
	{__LINE__, "data: [DONE]\n\n", 0, "|[DONE];", ERR_NONE},
	/* an event may be empty */
	{__LINE__, "data\n\n", 0, "|;", ERR_NONE},
	{__LINE__, "data:\n\n", 0, "|;", ERR_NONE},
	{__LINE__, "data: \ndata\n\n", 0, "|\n;", ERR_NONE},
	{__LINE__, "event\ndata: a\n\n", 0, "|a;", ERR_NONE},
	{__LINE__, "", 0, "", ERR_NONE},
	/* colons and bytes of all kinds in the value */
	{__LINE__, "data: a:b: c\n\n", 0, "|a:b: c;", ERR_NONE},
	{__LINE__, STREAM("data: a\0b\n\n"), "|a0b;", ERR_NONE},
	{__LINE__, "data: \xf0\x9f\x94\xa5\xff\n\n", 0, "|\xf0\x9f\x94\xa5\xff;", ERR_NONE},
	/* the end came without a blank line, or within a line */
	{__LINE__, "data: a\n\ndata: b\n", 0, "|a;|b;", ERR_NONE},
	{__LINE__, "data: a\n\ndata: b", 0, "|a;|b;", ERR_NONE},
	{__LINE__, "data: a\r", 0, "|a;", ERR_NONE},
	{__LINE__, "event: x", 0, "", ERR_NONE},
	/* limits: 64 bytes of a line, of an event's data; a name is cut at 63 */
	{__LINE__, "data:56789 123456789 123456789 123456789 123456789 123456789 123\n\n", 0,
	 "|56789 123456789 123456789 123456789 123456789 123456789 123;", ERR_NONE},
	{__LINE__, "data: x\n\ndata:56789 123456789 123456789 123456789 123456789 123456789 1234\n\n", 0, "|x;",
	 ERR_LIMIT},
	{__LINE__, "data: x\n\n:123456789 123456789 123456789 123456789 123456789 123456789 1234", 0, "|x;", ERR_LIMIT},
	{__LINE__, "data: 123456789 123456789 123456789\ndata: 123456789 12345678\n\n", 0,
	 "|123456789 123456789 123456789\n123456789 12345678;", ERR_NONE},
	{__LINE__, "data: 123456789 123456789 123456789 12\ndata: 123456789 123456789 123456789 \ndata\n\n", 0,
	 "|123456789 123456789 123456789 12\n123456789 123456789 123456789 \n;", ERR_NONE},
	{__LINE__, "data: 123456789 123456789 123456789 123\ndata: 123456789 123456789 123456789 \ndata\n\n", 0, "",
	 ERR_LIMIT},
	{__LINE__, "event:6789 123456789 123456789 123456789 123456789 123456789 123\ndata: a\n\n", 0,
	 "6789 123456789 123456789 123456789 123456789 123456789 123|a;", ERR_NONE},
};

static enum err_code read_in_pieces(const struct row *row, size_t piece, struct seen *seen)
{
	size_t len = row->len ? row->len : strlen(row->stream);
	struct sse_parse p;
	struct err e = {0};

	*seen = (struct seen){0};
	buf_init(&seen->text, 4096);
	sse_parse_init(&p, EVENT_MAX, note, seen);
	bool ok = true;
	for (size_t at = 0; at < len && ok; at += piece)
		ok = sse_parse_feed(&p, row->stream + at, piece < len - at ? piece : len - at, &e);
	ok = ok && sse_parse_end(&p, &e);
	CHECK_ROW(row, ok == (e.code == ERR_NONE));
	sse_parse_clear(&p);
	return e.code;
}

static void a_stream_gives_its_events_however_it_is_split(void)
{
	static const size_t pieces[] = {1, 2, 3, 5, 7, 4096};
	struct seen seen;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (size_t j = 0; j < ARRAY_LEN(pieces); j++) {
			CHECK_ROW(&rows[i], read_in_pieces(&rows[i], pieces[j], &seen) == rows[i].code);
			CHECK_ROW(&rows[i], strcmp(buf_str(&seen.text), rows[i].events) == 0);
			buf_clear(&seen.text);
		}
	}
}

static void a_long_name_is_cut(void)
{
	struct seen seen = {0};
	struct sse_parse p;
	struct err e = {0};
	char stream[] = "event: 123456789 123456789 123456789 123456789 123456789 123456789 123456789\ndata: a\n\n";

	buf_init(&seen.text, 4096);
	sse_parse_init(&p, 1024, note, &seen);
	CU_ASSERT(sse_parse_feed(&p, stream, strlen(stream), &e));
	CU_ASSERT_STRING_EQUAL(buf_str(&seen.text),
			       "123456789 123456789 123456789 123456789 123456789 123456789 123|a;");
	sse_parse_clear(&p);
	buf_clear(&seen.text);
}

static void enough_ends_the_reading(void)
{
	struct seen seen = {.enough_after = 2};
	struct sse_parse p;
	struct err e = {0};
	const char *stream = "data: a\n\ndata: b\n\ndata: c\n\n";

	buf_init(&seen.text, 4096);
	sse_parse_init(&p, EVENT_MAX, note, &seen);
	CU_ASSERT(sse_parse_feed(&p, stream, strlen(stream), &e));
	CU_ASSERT(sse_parse_feed(&p, stream, strlen(stream), &e));
	CU_ASSERT(sse_parse_end(&p, &e));
	CU_ASSERT_STRING_EQUAL(buf_str(&seen.text), "|a;|b;");
	sse_parse_clear(&p);
	buf_clear(&seen.text);
}

static void nothing_is_read_after_a_failure(void)
{
	struct seen seen = {0};
	struct sse_parse p;
	struct err e = {0};

	buf_init(&seen.text, 4096);
	sse_parse_init(&p, 8, note, &seen);
	CU_ASSERT_FALSE(sse_parse_feed(&p, "data: too large\n\n", 17, &e));
	CU_ASSERT_EQUAL(e.code, ERR_LIMIT);
	err_clear(&e);
	CU_ASSERT_FALSE(sse_parse_feed(&p, "data: a\n\n", 9, &e));
	CU_ASSERT_EQUAL(e.code, ERR_LIMIT);
	err_clear(&e);
	CU_ASSERT_FALSE(sse_parse_end(&p, &e));
	CU_ASSERT_EQUAL(e.code, ERR_LIMIT);
	CU_ASSERT_EQUAL(seen.count, 0);
	sse_parse_clear(&p);
	buf_clear(&seen.text);
}

static void what_is_held_is_bounded(void)
{
	struct seen seen = {0};
	struct sse_parse p;
	struct err e = {0};
	char block[4096];

	memset(block, ':', sizeof(block));
	for (size_t i = 99; i < sizeof(block); i += 100)
		block[i] = '\n';
	buf_init(&seen.text, 4096);
	sse_parse_init(&p, 100, note, &seen);
	for (int i = 0; i < 1000; i++)
		CU_ASSERT_FATAL(sse_parse_feed(&p, block, sizeof(block) - 96, &e));
	CU_ASSERT(p.line.cap <= 101 && p.data.cap <= 101);
	sse_parse_clear(&p);
	buf_clear(&seen.text);
}

static CU_TestInfo cases[] = {
	CASE(a_stream_gives_its_events_however_it_is_split),
	CASE(a_long_name_is_cut),
	CASE(enough_ends_the_reading),
	CASE(nothing_is_read_after_a_failure),
	CASE(what_is_held_is_bounded),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"sse_parse", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
