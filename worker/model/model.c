/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared models. A model holds what each of its requests begins with: address, headers, parameters, the names it is
 * shared by. How a call runs stands in model_call.c.
 */
#include "worker/model/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/secret.h"
#include "lib/xalloc.h"
#include "worker/model/private.h"

#define PARAMETERS_BYTES_MAX ((size_t)65536)
#define PARAMETERS_DEPTH_MAX 16
#define KEY_BYTES_MAX ((size_t)4 * 1024 * 1024)

struct models *models_new(const struct models_config *config)
{
	struct models *models = xcalloc(1, sizeof(*models));

	models->config = *config;
	return models;
}

void models_configure(struct models *models, const struct models_config *config)
{
	models->config = *config;
}

void models_free(struct models **models)
{
	if (*models == NULL)
		return;
	while ((*models)->calls)
		model_call_cancel((*models)->calls);
	free(*models);
	*models = NULL;
}

unsigned models_count(const struct models *models)
{
	return HASH_COUNT(models->by_key);
}

/* --- headers --- */

static void add_header(struct model *model, const char *name, const char *prefix, const char *value)
{
	size_t size = strlen(prefix) + strlen(value) + 1;
	char *whole = xmalloc(size);

	(void)snprintf(whole, size, "%s%s", prefix, value);
	model->headers[model->headers_count++] = (struct http_header){.name = xstrdup(name), .value = whole};
}

static bool add_extra_header(void *closure, const char *name, struct jval *value)
{
	struct model *model = closure;
	const char *text = jval_string(value, NULL);

	if (!text || model->headers_count == MODEL_HEADERS_MAX)
		return false;
	add_header(model, name, "", text);
	model->extra_headers++;
	return true;
}

static void make_headers(struct model *model, const struct model_secrets *secrets)
{
	const struct dialect *d = model->dialect;

	add_header(model, "Content-Type", "", "application/json");
	add_header(model, "Accept", "", "text/event-stream, application/json");
	if (d->version_header)
		add_header(model, d->version_header, "", d->version);
	if (secrets->key)
		add_header(model, d->key_header, d->key_prefix, secrets->key);
	if (secrets->headers)
		jval_each(secrets->headers, add_extra_header, model);
}

static void wipe_text(char *text)
{
	if (text)
		secret_wipe(text, strlen(text));
	free(text);
}

static void secrets_clear(struct model_secrets *secrets)
{
	wipe_text(secrets->key);
	jval_wipe(secrets->headers);
	jval_free(&secrets->headers);
}

/* --- parameters --- */

static bool put_parameter(void *closure, const char *key, struct jval *value)
{
	jval_add(closure, key, jval_type(value) == JVAL_NULL ? NULL : jval_ref(value));
	return true;
}

struct jval *model_merge(const struct jval *below, const struct jval *above)
{
	struct jval *merged = jval_new_object();

	if (below)
		jval_each(below, put_parameter, merged);
	if (above)
		jval_each(above, put_parameter, merged);
	return merged;
}

static bool read_defaults(const struct llm_config *llm, struct jval **ret_defaults, struct err *e)
{
	const struct json_limits limits = {.bytes_max = PARAMETERS_BYTES_MAX, .depth_max = PARAMETERS_DEPTH_MAX};
	const char *text = llm->defaults ? llm->defaults : "{}";

	if (!jval_parse(text, strlen(text), &limits, ret_defaults, e))
		return err_ctx(e, "the defaults of LLM config %s", llm->llm_config_id.text);
	return true;
}

/* --- sharing --- */

/* Yours. NULL: the parameters are too many. */
static char *key_of(const struct llm_config *llm, const char *name, const struct jval *parameters, struct err *e)
{
	struct buf key;

	buf_init(&key, KEY_BYTES_MAX);
	buf_printf(&key, "%s %" PRIu64 " %s\n", llm->llm_config_id.text, llm->generation, name);
	jval_canonical(parameters, &key);
	if (buf_has_failed(&key)) {
		buf_clear(&key);
		err_set(e, ERR_INPUT, "the model's parameters are longer than they may be");
	}
	return key.data;
}

static void model_free(struct model *model)
{
	for (unsigned i = 0; i < model->headers_count; i++) {
		free((char *)model->headers[i].name);
		wipe_text((char *)model->headers[i].value);
	}
	wipe_text(model->secret);
	jval_free(&model->parameters);
	free(model->base_url);
	free(model->name);
	free(model->key);
	free(model);
}

static struct model *model_new(struct models *models, const struct llm_config *llm, const char *name, char *key,
			       struct jval *parameters, struct err *e)
{
	struct model *model = xcalloc(1, sizeof(*model));
	struct model_secrets secrets = {0};

	model->models = models;
	model->dialect = dialect_of(llm->provider);
	model->llm_config_id = llm->llm_config_id;
	model->org_id = llm->org_id;
	model->generation = llm->generation;
	model->base_url = xstrdup(llm->base_url);
	model->name = xstrdup(name);
	model->key = key;
	model->parameters = parameters;
	if (!models->config.open(models->config.closure, llm, &secrets, e)) {
		model_free(model);
		return NULL;
	}
	make_headers(model, &secrets);
	model->secret = secrets.key;
	secrets.key = NULL;
	secrets_clear(&secrets);
	HASH_ADD_KEYPTR(hh, models->by_key, model->key, strlen(model->key), model);
	log_debug("model", "llm_config=%s generation=%" PRIu64 " model=%s", llm->llm_config_id.text, llm->generation,
		  name);
	return model;
}

struct model *model_ref(struct models *models, const struct llm_config *llm, const char *name,
			const struct jval *parameters, struct err *e)
{
	struct jval *defaults = NULL;
	struct model *model = NULL;

	if (!read_defaults(llm, &defaults, e))
		return NULL;
	struct jval *merged = model_merge(defaults, parameters);
	char *key = key_of(llm, name, merged, e);
	jval_free(&defaults);
	if (!key) {
		jval_free(&merged);
		return NULL;
	}
	HASH_FIND(hh, models->by_key, key, strlen(key), model);
	if (model) {
		free(key);
		jval_free(&merged);
	} else {
		model = model_new(models, llm, name, key, merged, e);
	}
	if (model)
		model->refs++;
	return model;
}

void model_unref(struct model **handle)
{
	struct model *model = *handle;

	*handle = NULL;
	if (!model || --model->refs > 0)
		return;
	HASH_DELETE(hh, model->models->by_key, model);
	if (model->calls_open == 0)
		model_free(model);
}

void model_call_gone(struct model *model)
{
	model->calls_open--;
	if (model->refs == 0 && model->calls_open == 0)
		model_free(model);
}

unsigned model_refs(const struct model *model)
{
	return model->refs;
}

size_t model_memory_bytes(const struct model *model)
{
	size_t bytes = sizeof(*model) + strlen(model->key) + strlen(model->base_url) + strlen(model->name), len;

	(void)jval_text(model->parameters, &len);
	for (unsigned i = 0; i < model->headers_count; i++)
		bytes += strlen(model->headers[i].name) + strlen(model->headers[i].value);
	return bytes + len;
}

void models_each(const struct models *models, int64_t now_ms,
		 void (*each)(void *closure, const struct model_look *look), void *closure)
{
	struct model *model, *next;

	HASH_ITER (hh, models->by_key, model, next) {
		const struct breaker *b = &model->breaker;
		struct model_look look = {
			.llm_config_id = model->llm_config_id,
			.org_id = model->org_id,
			.generation = model->generation,
			.name = model->name,
			.refs = model->refs,
			.calls_open = model->calls_open,
			.calls = model->calls,
			.failures = b->failures,
			.tokens_in = model->tokens_in,
			.tokens_out = model->tokens_out,
			.breaker = b->state,
			.breaker_wait_ms =
				b->state == BREAKER_OPEN && b->open_until_ms > now_ms ? b->open_until_ms - now_ms : 0,
		};
		each(closure, &look);
	}
}
