/* SPDX-License-Identifier: Apache-2.0 */
/* What model.c (sharing) and model_call.c (calling) have in common. Private to them. */
#ifndef WORKER_MODEL_PRIVATE_H
#define WORKER_MODEL_PRIVATE_H

#include <uthash.h>

#include "lib/http.h"
#include "worker/model/dialect.h"
#include "worker/model/model.h"

#define MODEL_HEADERS_MAX (LLM_HEADERS_MAX + 4)

struct models {
	struct models_config config;
	struct model *by_key;
	struct model_call *calls; /* open ones, those included that only read on */
};

struct model {
	struct models *models;
	const struct dialect *dialect;
	struct id llm_config_id, org_id;
	uint64_t generation;
	char *base_url, *name;
	char *key;               /* what it is shared by */
	char *secret;            /* the provider's key, to be kept out of logs; NULL: none */
	struct jval *parameters; /* an object */
	struct http_header headers[MODEL_HEADERS_MAX];
	unsigned headers_count, extra_headers; /* the last ones are the organization's own, and secret */
	unsigned refs, calls_open;
	uint64_t calls, tokens_in, tokens_out;
	struct breaker breaker;
	UT_hash_handle hh;
};

/* A call of it is over: frees it where nobody refers to it any more. */
void model_call_gone(struct model *model);
/* A new object of both; what is in `above` hides what is below. */
struct jval *model_merge(const struct jval *below, const struct jval *above);

#endif
