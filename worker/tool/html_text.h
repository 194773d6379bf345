/* SPDX-License-Identifier: Apache-2.0 */
/* The text of an HTML page, as a model reads it: without tags, scripts, styles and comments. Not a browser: what is
 * no good HTML comes out as some text, bounded by what went in. */
#ifndef WORKER_TOOL_HTML_TEXT_H
#define WORKER_TOOL_HTML_TEXT_H

#include <stddef.h>

struct buf;

/* Any bytes; appends at most len + 1 bytes to out. */
void html_text(const char *html, size_t len, struct buf *out);

#endif
