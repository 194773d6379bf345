/* SPDX-License-Identifier: Apache-2.0 */
/* Names and order of members follow DESIGN 9; more may stand beside them, none may go. */
#include "fcgi-app/render.h"

#include <stdio.h>
#include <string.h>

#include "lib/json.h"

#define STORED_BYTES_MAX ((size_t)16 * 1024 * 1024)
#define STORED_DEPTH_MAX 64

void render_add_id(struct jval *obj, const char *key, const struct id *id)
{
	jval_add_string(obj, key, id_is_set(id) ? id->text : NULL);
}

struct jval *render_stored(const char *text)
{
	const struct json_limits limits = {.bytes_max = STORED_BYTES_MAX, .depth_max = STORED_DEPTH_MAX};
	struct jval *v = NULL;

	if (!text || !jval_parse(text, strlen(text), &limits, &v, NULL))
		return NULL;
	return v;
}

static void add_stored(struct jval *obj, const char *key, const char *text)
{
	jval_add(obj, key, render_stored(text));
}

static void add_count(struct jval *obj, const char *key, int64_t n)
{
	if (n < 0)
		jval_add(obj, key, NULL);
	else
		jval_add_int(obj, key, n);
}

struct jval *render_org(const struct org *org)
{
	struct jval *o = jval_new_object();
	struct jval *quotas = jval_new_object();

	jval_add_string(o, "org_id", org->org_id.text);
	jval_add_string(o, "name", org->name);
	jval_add_string(o, "status", status_name(org->status));
	jval_add_int(quotas, "instances", org->quota_instances);
	jval_add_int(quotas, "hot", org->quota_hot);
	jval_add_int(quotas, "demand", org->quota_demand);
	jval_add(o, "quotas", quotas);
	add_count(o, "ttl_seconds", org->ttl_seconds);
	jval_add_string(o, "created_at", org->created_at);
	jval_add_string(o, "updated_at", org->updated_at);
	return o;
}

struct jval *render_token(const struct token *token)
{
	struct jval *o = jval_new_object();

	jval_add_string(o, "token_id", token->token_id.text);
	jval_add_string(o, "name", token->name);
	jval_add_string(o, "role", role_name(token->role));
	render_add_id(o, "org_id", &token->org_id);
	jval_add_string(o, "created_at", token->created_at);
	jval_add_string(o, "expires_at", token->expires_at);
	jval_add_string(o, "revoked_at", token->revoked_at);
	jval_add_string(o, "last_used_at", token->last_used_at);
	return o;
}

struct jval *render_instance(const struct instance *in)
{
	struct jval *o = jval_new_object();

	jval_add_string(o, "instance_id", in->instance_id.text);
	jval_add_string(o, "org_id", in->org_id.text);
	jval_add_string(o, "name", in->name);
	jval_add_string(o, "framework_type", in->framework_type);
	jval_add_string(o, "mode", in->mode);
	jval_add_string(o, "status", status_name(in->status));
	add_stored(o, "config", in->config);
	jval_add_string(o, "tier", tier_name(in->tier));
	add_count(o, "ttl_seconds", in->ttl_seconds);
	jval_add_int(o, "replicas", in->replicas);
	add_stored(o, "active_plugin_ids", in->active_plugin_ids);
	jval_add_string(o, "config_hash", in->config_hash);
	jval_add_int(o, "version", in->version);
	jval_add_int(o, "generation", (int64_t)in->generation);
	jval_add_string(o, "desired_state", desired_name(in->desired_state));
	jval_add_bool(o, "is_ready", in->state == APP_READY);
	jval_add_string(o, "state", app_state_name(in->state));
	jval_add_string(o, "state_reason", in->state_reason);
	add_count(o, "llm_config_generation", in->llm_generation > 0 ? (int64_t)in->llm_generation : -1);
	jval_add_string(o, "created_at", in->created_at);
	jval_add_string(o, "updated_at", in->updated_at);
	if (in->is_deleted)
		jval_add_bool(o, "is_deleted", true);
	return o;
}

struct jval *render_operation(const struct operation *op)
{
	struct jval *o = jval_new_object();

	jval_add_string(o, "operation_id", op->operation_id.text);
	jval_add_string(o, "instance_id", op->instance_id.text);
	jval_add_string(o, "action", action_name(op->action));
	jval_add_string(o, "tier", tier_name(op->tier));
	jval_add_int(o, "generation", (int64_t)op->generation);
	jval_add_string(o, "state", op_state_name(op->state));
	jval_add_string(o, "reason", op->reason);
	jval_add_string(o, "source", source_name(op->source));
	jval_add_string(o, "worker_id", op->worker_id);
	jval_add_string(o, "accepted_at", op->accepted_at);
	jval_add_string(o, "started_at", op->started_at);
	jval_add_string(o, "finished_at", op->finished_at);
	return o;
}

struct jval *render_llm_config(const struct llm_config_view *view)
{
	struct jval *o = jval_new_object();
	char hint[16] = "";

	if (view->key_hint)
		(void)snprintf(hint, sizeof(hint), "…%.4s", view->key_hint);
	jval_add_string(o, "llm_config_id", view->llm_config_id.text);
	jval_add_string(o, "org_id", view->org_id.text);
	jval_add_string(o, "name", view->name);
	jval_add_string(o, "provider", llm_provider_name(view->provider));
	jval_add_string(o, "base_url", view->base_url);
	jval_add_bool(o, "has_key", view->has_key);
	jval_add_string(o, "key_hint", view->key_hint ? hint : NULL);
	add_stored(o, "extra_headers", view->header_names);
	add_stored(o, "defaults", view->defaults);
	jval_add_int(o, "generation", (int64_t)view->generation);
	jval_add_int(o, "used_by", (int64_t)view->used_by);
	jval_add_string(o, "created_at", view->created_at);
	jval_add_string(o, "updated_at", view->updated_at);
	return o;
}

struct jval *render_version(const struct version *v)
{
	struct jval *o = jval_new_object();

	jval_add_int(o, "version", v->version);
	jval_add_string(o, "source", version_source_name(v->source));
	add_count(o, "of_version", v->of_version > 0 ? (int64_t)v->of_version : -1);
	render_add_id(o, "token_id", &v->token_id);
	jval_add_string(o, "token_name", v->token_name);
	jval_add_string(o, "config_hash", v->config_hash);
	jval_add_bool(o, "is_current", v->is_current);
	jval_add_bool(o, "is_good", v->is_good);
	jval_add_string(o, "created_at", v->created_at);
	if (!v->config)
		return o;
	jval_add_string(o, "framework_type", v->framework_type);
	jval_add_string(o, "mode", v->mode);
	add_stored(o, "config", v->config);
	add_stored(o, "active_plugin_ids", v->active_plugin_ids);
	return o;
}

struct jval *render_audit(const struct audit_entry *entry)
{
	struct jval *o = jval_new_object();

	jval_add_string(o, "audit_id", entry->audit_id.text);
	jval_add_string(o, "at", entry->at);
	render_add_id(o, "org_id", &entry->org_id);
	render_add_id(o, "token_id", &entry->token_id);
	jval_add_string(o, "role", entry->role);
	jval_add_string(o, "action", entry->action);
	jval_add_string(o, "target", entry->target);
	jval_add_string(o, "result", entry->result_code);
	jval_add_string(o, "source_ip", entry->origin.source_ip);
	jval_add_string(o, "request_id", entry->origin.request_id);
	jval_add_string(o, "detail", entry->detail);
	return o;
}

struct jval *render_page(struct jval *items, const struct id *next)
{
	struct jval *o = jval_new_object();

	jval_add(o, "items", items);
	jval_add_string(o, "next", next && id_is_set(next) ? next->text : NULL);
	return o;
}
