/* SPDX-License-Identifier: Apache-2.0 */
/* What clients of OpenAI's chat completions API are shown: completions, chunks of a stream, errors. Pure. */
#ifndef FCGI_APP_OPENAI_DOC_H
#define FCGI_APP_OPENAI_DOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/problem.h"

struct buf;
struct jval;

/* What every object of one completion says. */
struct openai_frame {
	const char *id;    /* "chatcmpl-…" */
	const char *model; /* as it was asked for */
	int64_t created_unix_s;
};

/* The status of that API for a problem of ours: its clients know fewer, and try some again. */
int openai_status(enum problem problem);
/* {"error":{"message","type","param","code"}}; detail and param may be NULL. New. */
struct jval *openai_error(enum problem problem, const char *detail, const char *param);

/* From the end of a turn, as the worker tells it (core/chat_wire.h). New. */
struct jval *openai_completion(const struct openai_frame *frame, const struct jval *end);

/* Each appends one "data:" event. */
void openai_chunk_text(const struct openai_frame *frame, const char *text, size_t len, bool is_first, struct buf *out);
/* The calls that are the caller's, the finish reason, where it is wanted the usage, and [DONE]. */
void openai_chunk_end(const struct openai_frame *frame, const struct jval *end, bool with_usage, struct buf *out);
void openai_chunk_error(enum problem problem, const char *detail, struct buf *out);

#endif
