/* SPDX-License-Identifier: Apache-2.0 */
/* A line ends with CR, LF or CRLF; each line of data gets its own "data: ". */
#include "fcgi-app/sse.h"

#include <string.h>

#include "lib/buf.h"

static size_t line_len(const char *data, size_t len)
{
	size_t n = 0;

	while (n < len && data[n] != '\n' && data[n] != '\r')
		n++;
	return n;
}

/* The event's name is one line: what follows a line end is dropped. */
static void append_name(struct buf *out, const char *name, size_t len)
{
	buf_append_str(out, "event: ");
	buf_append(out, name, line_len(name, len));
	buf_append_str(out, "\n");
}

void sse_event(struct buf *out, const char *name, size_t name_len, const char *data, size_t len)
{
	size_t at = 0;

	if (name_len > 0)
		append_name(out, name, name_len);
	for (;;) {
		size_t line = line_len(data + at, len - at);
		buf_append_str(out, "data: ");
		buf_append(out, data + at, line);
		buf_append_str(out, "\n");
		at += line;
		if (at == len)
			break;
		at += data[at] == '\r' && at + 1 < len && data[at + 1] == '\n' ? 2 : 1;
	}
	buf_append_str(out, "\n");
}

void sse_comment(struct buf *out, const char *text)
{
	buf_append_str(out, ": ");
	buf_append(out, text, line_len(text, strlen(text)));
	buf_append_str(out, "\n\n");
}
