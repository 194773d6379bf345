/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a stream of server-sent events (WHATWG HTML, 9.2.6), fed in pieces split at any byte: lines end with LF, CRLF
 * or CR, a BOM at the start is skipped, comments and unknown fields are ignored, data lines are joined with LF. An
 * event without a blank line behind it at the end is given by sse_parse_end() (servers forget it). Bounded: what it
 * holds is at most a line and an event.
 */
#ifndef LIB_SSE_PARSE_H
#define LIB_SSE_PARSE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/buf.h"
#include "lib/err.h"

#define SSE_NAME_SIZE 64

/* name: "" where the stream gives none. Both NUL-terminated, borrowed. False: enough, feeding ends. The parser must not
 * be cleared from within. */
typedef bool (*sse_parse_event)(void *closure, const char *name, const char *data, size_t len);

struct sse_parse {
	struct buf line, data;    /* of a line that is not whole yet; of an event that is not */
	char name[SSE_NAME_SIZE]; /* a longer one is cut */
	bool has_data;            /* also where it is empty: "data" is an event, "event: x" alone is none */
	bool skip_lf;             /* a CR ended the last line: an LF now belongs to it */
	bool is_past_start;       /* no BOM any more */
	bool is_over, has_failed;
	sse_parse_event event;
	void *closure;
};

/* event_max: bytes of one line, and of one event's data. */
void sse_parse_init(struct sse_parse *p, size_t event_max, sse_parse_event event, void *closure);
void sse_parse_clear(struct sse_parse *p);
/* ERR_LIMIT: a line or an event is larger than it may be; from then on each call says so. After the callback said
 * enough nothing more is read, and that is no error. */
bool sse_parse_feed(struct sse_parse *p, const char *data, size_t len, struct err *e) MUST_CHECK;
/* The stream came to its end. Not for one that broke: what it left half-said must not be taken for an event. */
bool sse_parse_end(struct sse_parse *p, struct err *e) MUST_CHECK;

#endif
