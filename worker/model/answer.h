/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a model answers, as it comes in: text, tool calls in pieces, why it ended, tokens used. A dialect
 * (dialect.h) puts it together; everything in it came from outside and is bounded.
 */
#ifndef WORKER_MODEL_ANSWER_H
#define WORKER_MODEL_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/err.h"

#define ANSWER_CALLS_MAX 64
#define ANSWER_NAME_MAX 128
#define ANSWER_ID_MAX 256

struct jval;

enum answer_finish {
	FINISH_NONE, /* not said: the answer is not whole */
	FINISH_STOP,
	FINISH_LENGTH, /* cut at a limit of tokens */
	FINISH_TOOL_CALLS,
	FINISH_FILTER /* the provider would not say it */
};

struct answer_call {
	int index; /* the provider's number of it; -1: it gives none */
	char id[ANSWER_ID_MAX + 1];
	char name[ANSWER_NAME_MAX + 1];
	struct buf arguments; /* should be JSON, may be anything */
};

struct answer {
	struct buf text;
	struct answer_call *calls[ANSWER_CALLS_MAX];
	unsigned calls_count;
	enum answer_finish finish;
	uint64_t tokens_in, tokens_out; /* 0 where the provider does not say */
	size_t bytes_left;              /* of text and arguments together */
	/* New text, as it comes; not NUL-terminated. May be NULL. */
	void (*on_text)(void *closure, const char *text, size_t len);
	void *closure;
};

void answer_init(struct answer *a, size_t bytes_max);
void answer_clear(struct answer *a);
/* ERR_LIMIT */
bool answer_add_text(struct answer *a, const char *text, size_t len, struct err *e) MUST_CHECK;
/* A new call, the last one. NULL: ERR_LIMIT. id or name NULL: not said (yet). */
struct answer_call *answer_add_call(struct answer *a, int index, const char *id, const char *name, struct err *e);
/* ERR_LIMIT where longer than it may be. */
bool answer_name_call(struct answer_call *call, const char *id, const char *name, struct err *e) MUST_CHECK;
bool answer_add_arguments(struct answer *a, struct answer_call *call, const char *text, size_t len,
			  struct err *e) MUST_CHECK;
struct answer_call *answer_call_by_index(struct answer *a, int index); /* the last with it; NULL: none */
struct answer_call *answer_call_by_id(struct answer *a, const char *id);
/* At the end of the stream: gives an id to calls that have none and `{}` to those without arguments. ERR_INPUT: a call
 * without a name, or it did not say why it ended. */
bool answer_complete(struct answer *a, struct err *e) MUST_CHECK;
/* The message of the model for the next request, in the shape of OpenAI's chat completions. Yours. */
struct jval *answer_message(const struct answer *a);
const char *answer_finish_name(enum answer_finish finish); /* as OpenAI names it; "" for FINISH_NONE */

#endif
