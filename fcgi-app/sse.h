/* SPDX-License-Identifier: Apache-2.0 */
/* Server-sent events as text (WHATWG HTML, "Server-sent events"). Pure. */
#ifndef FCGI_APP_SSE_H
#define FCGI_APP_SSE_H

#include <stddef.h>

struct buf;

#define SSE_TYPE "text/event-stream"

/* Appends one event; name_len 0: without a name. A line end inside data begins a further data line, so no data can
 * forge an event. */
void sse_event(struct buf *out, const char *name, size_t name_len, const char *data, size_t len);
/* Appends a comment, which clients ignore: it keeps proxies from giving up. */
void sse_comment(struct buf *out, const char *text);

#endif
