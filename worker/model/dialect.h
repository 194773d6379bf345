/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a kind of provider is spoken to: the request's body and headers, and what its events mean. Pure. One file per
 * kind; inside Hearth messages, tools and parameters have the shape of OpenAI's chat completions API.
 */
#ifndef WORKER_MODEL_DIALECT_H
#define WORKER_MODEL_DIALECT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/llm_config.h"
#include "lib/err.h"

struct answer;
struct buf;
struct jval;

/* One event of a provider's stream. */
#define STREAM_EVENT_BYTES_MAX ((size_t)1024 * 1024)
#define STREAM_EVENT_DEPTH_MAX 32

struct model_request {
	const char *model;
	struct jval *messages; /* array */
	struct jval
		*tools; /* array of {"type":"function","function":{"name","description","parameters"}}; NULL: none */
	struct jval *tool_choice; /* NULL: the model decides */
	struct jval *parameters;  /* object: what else goes into the request; a null takes a field out. NULL: none */
};

struct dialect {
	const char *chat_path;   /* behind the base URL */
	const char *models_path; /* answers a GET by whoever has a good key */
	/* The header that carries the key: name, and what stands before it. */
	const char *key_header, *key_prefix;
	const char *version_header, *version; /* NULL: none */
	/* Appends the body of a streamed request. ERR_INPUT: it cannot be said in this dialect. */
	bool (*encode)(const struct model_request *request, struct buf *out, struct err *e);
	/* One event of the stream. ERR_INPUT: not understood; ERR_DOWN: it says that the provider failed; ERR_LIMIT.
	 * *ret_is_over: nothing follows. */
	bool (*read_event)(struct answer *answer, const char *name, const char *data, size_t len, bool *ret_is_over,
			   struct err *e);
	/* A whole answer, of a server that does not stream. */
	bool (*read_whole)(struct answer *answer, const struct jval *root, struct err *e);
};

const struct dialect *dialect_of(enum llm_provider provider);
/* The text of an error object ({"error":{"message"}} in its variants), copied and cut; "" where there is none. */
void dialect_error_text(const struct jval *root, char *ret_text, size_t size);

extern const struct dialect dialect_openai, dialect_anthropic;

#endif
