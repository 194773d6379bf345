/* SPDX-License-Identifier: Apache-2.0 */
/* Makes them from the settings. Providers may be reached where the operator's list of networks, or their being public,
 * allows it (without TLS the list alone); what tools read likewise, by a list and with connections of its own. */
#include "worker/runtime.h"

#include <stdlib.h>
#include <string.h>

#include "core/keyring.h"
#include "core/llm_config.h"
#include "core/settings.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/netaddr.h"
#include "lib/secret.h"
#include "lib/xalloc.h"
#include "worker/engine.h"
#include "worker/framework/framework.h"
#include "worker/http_loop.h"
#include "worker/model/model.h"

#define RETRY_FIRST_MS 250
#define REQUEST_BYTES_MAX ((size_t)8 * 1024 * 1024) /* of a model's: history and results of tools */
#define HEADERS_DEPTH_MAX 2
#define PAGES_MAX 1000 /* read at once; more wait */

/* A client, and where it may go. */
struct reach {
	struct netaddr_list *allowed;
	struct http_loop *http;
};

struct runtime {
	struct engine *engine;
	struct reach providers, pages;
	struct framework_env env;
};

static bool may_connect_provider(void *closure, bool has_tls, const struct sockaddr *address)
{
	const struct reach *reach = closure;

	return netaddr_may_connect(reach->allowed, llm_address_rule(has_tls), address);
}

/* A page is asked for without a secret. */
static bool may_connect_page(void *closure, bool has_tls, const struct sockaddr *address)
{
	const struct reach *reach = closure;

	(void)has_tls;
	return netaddr_may_connect(reach->allowed, NETADDR_NOT_RESERVED, address);
}

static bool read_headers(struct keyring *keys, const struct llm_config *llm, struct jval **ret_headers, struct err *e)
{
	const struct json_limits limits = {.bytes_max = LLM_HEADERS_TEXT_MAX, .depth_max = HEADERS_DEPTH_MAX};
	char *text = NULL;
	size_t len = 0;

	if (!llm_config_open_headers(keys, llm, &text, &len, e))
		return false;
	bool ok = !text || jval_parse(text, len, &limits, ret_headers, e);
	secret_free(&text, len);
	return ok;
}

static bool open_secrets(void *closure, const struct llm_config *llm, struct model_secrets *ret_secrets, struct err *e)
{
	struct runtime *runtime = closure;
	struct model_secrets secrets = {0};
	size_t len;

	if (!llm_config_open_key(runtime->engine->keys, llm, &secrets.key, &len, e))
		goto failed;
	if (!read_headers(runtime->engine->keys, llm, &secrets.headers, e))
		goto failed;
	*ret_secrets = secrets;
	return true;
failed:
	secret_free(&secrets.key, secrets.key ? strlen(secrets.key) : 0);
	log_error("LLM config's secrets cannot be opened", "llm_config=%s error=%s", llm->llm_config_id.text, e->text);
	return err_set(e, ERR_DENIED, "the secrets of LLM config %s cannot be opened", llm->llm_config_id.text);
}

static struct models_config models_config_of(struct runtime *runtime)
{
	const struct settings *s = runtime->engine->settings;

	return (struct models_config){
		.loop = &runtime->engine->loop,
		.http = http_loop_client(runtime->providers.http),
		.connect_ms = s->llm.connect_timeout_s * 1000,
		.first_byte_ms = s->llm.first_byte_timeout_s * 1000,
		.idle_ms = s->llm.idle_timeout_s * 1000,
		.answer_max = (size_t)s->llm.answer_max_bytes,
		.request_max = REQUEST_BYTES_MAX,
		.attempts_max = (unsigned)s->llm.attempts_max,
		.retry_ms = RETRY_FIRST_MS,
		.retry_max_ms = s->llm.retry_max_s * 1000,
		.breaker =
			{
				.failures_max = (unsigned)s->llm.breaker_failures,
				.pause_ms = s->llm.breaker_pause_s * 1000,
				.pause_max_ms = s->llm.breaker_pause_max_s * 1000,
			},
		.open = open_secrets,
		.closure = runtime,
	};
}

/* Where it may go: connections that are kept are judged by it too. */
static bool set_networks(struct reach *reach, const char *networks, struct err *e)
{
	struct netaddr_list *allowed = NULL;

	if (!netaddr_list_parse(networks, &allowed, e))
		return false;
	netaddr_list_free(&reach->allowed);
	reach->allowed = allowed;
	return true;
}

/* options: where it may go, and the connections. */
static bool open_reach(struct reach *reach, struct engine *engine, const char *networks, struct http_options options,
		       struct err *e)
{
	options.may_connect_closure = reach;
	options.ca_file = engine->settings->llm.ca_file;
	if (!set_networks(reach, networks, e))
		return false;
	reach->http = http_loop_new(&engine->loop, &options, e);
	return reach->http != NULL;
}

static void close_reach(struct reach *reach)
{
	http_loop_close(&reach->http);
	netaddr_list_free(&reach->allowed);
}

struct runtime *runtime_new(struct engine *engine, struct err *e)
{
	const struct settings *s = engine->settings;
	const struct http_options providers = {
		.may_connect = may_connect_provider,
		.connections_max = s->llm.connections_max,
	};
	const struct http_options pages = {.may_connect = may_connect_page, .connections_max = PAGES_MAX};
	struct runtime *runtime = xcalloc(1, sizeof(*runtime));

	runtime->engine = engine;
	if (!open_reach(&runtime->providers, engine, s->llm.allowed_networks, providers, e) ||
	    !open_reach(&runtime->pages, engine, s->tools.allowed_networks, pages, e)) {
		runtime_close(&runtime);
		return NULL;
	}
	runtime->env.loop = &engine->loop;
	const struct models_config models = models_config_of(runtime);
	runtime->env.models = models_new(&models);
	runtime->env.tools = (struct tool_env){.loop = &engine->loop, .http = http_loop_client(runtime->pages.http)};
	return runtime;
}

void runtime_configure(struct runtime *runtime)
{
	const struct settings *s = runtime->engine->settings;
	const struct models_config models = models_config_of(runtime);
	struct err e = {0};

	/* Both have been looked at with the file. */
	if (!set_networks(&runtime->providers, s->llm.allowed_networks, &e) ||
	    !set_networks(&runtime->pages, s->tools.allowed_networks, &e))
		log_error("networks not taken over", "error=%s", e.text);
	models_configure(runtime->env.models, &models);
}

void runtime_close(struct runtime **handle)
{
	struct runtime *runtime = *handle;

	if (runtime == NULL)
		return;
	models_free(&runtime->env.models);
	close_reach(&runtime->providers);
	close_reach(&runtime->pages);
	free(runtime);
	*handle = NULL;
}

const struct framework_env *runtime_env(const struct runtime *runtime)
{
	return &runtime->env;
}

struct models *runtime_models(const struct runtime *runtime)
{
	return runtime->env.models;
}
