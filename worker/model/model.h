/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Models: one per (LLM config generation, model name, parameters), shared by all Apps of this worker that name the
 * same, counted, with its key opened once and one circuit breaker. A call is one streamed request: tried again while
 * nothing of an answer has come (429, 5xx, no connection), never afterwards.
 *
 * Everything runs on the worker's loop. A model stays until its last _unref; its calls end or are cancelled before.
 * (One whose end was told may still read what the server sends behind it, so that the connection can be used again.)
 */
#ifndef WORKER_MODEL_MODEL_H
#define WORKER_MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "core/llm_config.h"
#include "lib/err.h"
#include "worker/model/answer.h"
#include "worker/model/breaker.h"

struct http;
struct jval;
struct model;
struct model_call;
struct models;

/* A model's secrets, opened; the strings are malloc'd, and the model's from then on: it wipes them. */
struct model_secrets {
	char *key;            /* NULL: none */
	struct jval *headers; /* object of strings; NULL: none */
};

struct models_config {
	uv_loop_t *loop;
	struct http *http;
	int64_t connect_ms, first_byte_ms, idle_ms;
	size_t answer_max, request_max; /* bytes */
	unsigned attempts_max;          /* of one call */
	int64_t retry_ms, retry_max_ms; /* the first pause, and the longest, also of a Retry-After that is honoured */
	struct breaker_config breaker;
	/* Opens what is sealed. Called once for each model. */
	bool (*open)(void *closure, const struct llm_config *llm, struct model_secrets *ret_secrets, struct err *e);
	void *closure;
};

struct models *models_new(const struct models_config *config);
/* New limits, from the next attempt on. Loop, http and what opens secrets stay. */
void models_configure(struct models *models, const struct models_config *config);
void models_free(struct models **models); /* no model is referred to any more; before http_free */
unsigned models_count(const struct models *models);

/* parameters: an object, canonical; NULL: none. The LLM config's defaults stand below them. ERR_DENIED: the key cannot
 * be opened; ERR_INPUT: what is stored cannot be used. */
struct model *model_ref(struct models *models, const struct llm_config *llm, const char *name,
			const struct jval *parameters, struct err *e);
void model_unref(struct model **model);
size_t model_memory_bytes(const struct model *model); /* all of it, however many share it */
unsigned model_refs(const struct model *model);

enum model_trouble {
	MODEL_REFUSED,     /* the provider answered 4xx: asking again is no use */
	MODEL_UNAVAILABLE, /* not reached, 5xx, or left alone by its breaker */
	MODEL_LIMITED,     /* 429 */
	MODEL_TIMEOUT,
	MODEL_BROKEN,   /* what it answered is no answer */
	MODEL_TOO_LARGE /* the request or the answer */
};

struct model_failure {
	enum model_trouble trouble;
	int status;             /* the provider's; 0: none */
	int64_t retry_after_ms; /* -1: not known */
	char text[160];         /* for clients: without anything that the provider wrote */
};

struct model_ask {
	struct jval
		*messages;  /* array, the shape of OpenAI's chat completions; borrowed during the call of model_call */
	struct jval *tools; /* NULL: none */
	struct jval *tool_choice; /* NULL: the model decides */
	struct jval *parameters;  /* above the model's own; NULL: none */
	int64_t deadline_ms;      /* by clock_now_ms(); 0: none */
};

struct model_sink {
	void *closure;
	/* Text as it comes; may cancel the call. NULL: not wanted. */
	void (*text)(void *closure, const char *text, size_t len);
	/* Once, the last. Exactly one of both is not NULL; borrowed. Never before model_call has returned. */
	void (*end)(void *closure, const struct answer *answer, const struct model_failure *failure);
};

/* NULL: it could not begin, *ret_failure says why, the sink is not called. */
struct model_call *model_call(struct model *model, const struct model_ask *ask, const struct model_sink *sink,
			      struct model_failure *ret_failure);
/* The sink is not called any more. Also from within its `text`. */
void model_call_cancel(struct model_call *call);

enum model_probe { MODEL_PROBE_NONE, MODEL_PROBE_CONNECT, MODEL_PROBE_CALL };
/* Whether the provider takes the key: a question for its list of models, or a call of one token. failure NULL: it does.
 */
typedef void (*model_probed)(void *closure, const struct model_failure *failure);
/* Not for MODEL_PROBE_NONE. NULL: as with model_call. `probed` is never called before it has returned. */
struct model_call *model_probe(struct model *model, enum model_probe kind, int64_t deadline_ms, model_probed probed,
			       void *closure, struct model_failure *ret_failure);

/* For statistics. */
struct model_look {
	struct id llm_config_id, org_id;
	uint64_t generation;
	const char *name;
	unsigned refs, calls_open;
	uint64_t calls, tokens_in, tokens_out;
	enum breaker_state breaker;
	unsigned failures;       /* attempts in a row, as the breaker counts them */
	int64_t breaker_wait_ms; /* BREAKER_OPEN: until the next try */
};
void models_each(const struct models *models, int64_t now_ms,
		 void (*each)(void *closure, const struct model_look *look), void *closure);

#endif
