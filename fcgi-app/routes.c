/* SPDX-License-Identifier: Apache-2.0 */
/* The table of routes: the whole HTTP surface on one page. */
#include "fcgi-app/router.h"

#include "fcgi-app/handlers.h"
#include "lib/macros.h"

#define GET METHOD_GET
#define POST METHOD_POST
#define PATCH METHOD_PATCH
#define DELETE METHOD_DELETE
#define APPS "/api/orgs/{org}/orchestrators"

/* clang-format off */
const struct route routes[] = {
	{GET, "/healthz", PERM_NONE, h_probe_health, NULL, false},
	{GET, "/readyz", PERM_NONE, h_probe_ready, NULL, false},
	{GET, "/admin", PERM_NONE, h_dashboard_redirect, NULL, false},
	{GET, "/admin/", PERM_NONE, h_dashboard_file, NULL, false},
	{GET, "/admin/{file}", PERM_NONE, h_dashboard_file, NULL, false},

	{POST, "/api/orgs/{org}/chat/completion", PERM_CHAT, h_chat, NULL, false},
	{GET, "/api/orgs/{org}/conversations", PERM_CHAT, h_conversation_list, NULL, false},
	{GET, "/api/orgs/{org}/conversations/{item}", PERM_CHAT, h_conversation_get, NULL, false},
	{DELETE, "/api/orgs/{org}/conversations/{item}", PERM_CHAT, h_conversation_delete, "conversation.delete", false},
	{POST, "/v1/chat/completions", PERM_CHAT, h_openai_complete, NULL, false},
	{GET, "/v1/models", PERM_CHAT, h_openai_models, NULL, false},
	{GET, "/v1/models/{file}", PERM_CHAT, h_openai_model, NULL, false},

	{POST, APPS "/{id}/load", PERM_INSTANCES_LIFECYCLE, h_lifecycle_load, "instance.load", true},
	{POST, APPS "/{id}/unload", PERM_INSTANCES_LIFECYCLE, h_lifecycle_unload, "instance.unload", true},
	{POST, APPS "/{id}/reload", PERM_INSTANCES_LIFECYCLE, h_lifecycle_reload, "instance.reload", true},
	{GET, APPS "/{id}/operations", PERM_INSTANCES_READ, h_operation_list, NULL, false},
	{GET, APPS "/{id}/stats", PERM_INSTANCES_READ, h_stats_app, NULL, false},
	{GET, "/api/orgs/{org}/operations/{item}", PERM_INSTANCES_READ, h_operation_get, NULL, false},

	{POST, APPS, PERM_INSTANCES_WRITE, h_instance_create, "instance.create", false},
	{GET, APPS, PERM_INSTANCES_READ, h_instance_list, NULL, false},
	{GET, APPS "/{id}", PERM_INSTANCES_READ, h_instance_get, NULL, false},
	{PATCH, APPS "/{id}", PERM_INSTANCES_WRITE, h_instance_change, "instance.change", false},
	{DELETE, APPS "/{id}", PERM_INSTANCES_WRITE, h_instance_delete, "instance.delete", false},
	{PATCH, APPS "/{id}/config", PERM_INSTANCES_WRITE, h_instance_config, "instance.config", false},
	{PATCH, APPS "/{id}/status", PERM_INSTANCES_WRITE, h_instance_status, "instance.status", false},
	{GET, APPS "/{id}/versions", PERM_INSTANCES_READ, h_version_list, NULL, false},
	{GET, APPS "/{id}/versions/{version}", PERM_INSTANCES_READ, h_version_get, NULL, false},
	{POST, APPS "/{id}/rollback", PERM_INSTANCES_WRITE, h_instance_rollback, "instance.rollback", false},

	{POST, "/api/orgs/{org}/tokens", PERM_TOKENS, h_token_create, "token.create", false},
	{GET, "/api/orgs/{org}/tokens", PERM_TOKENS, h_token_list, NULL, false},
	{DELETE, "/api/orgs/{org}/tokens/{item}", PERM_TOKENS, h_token_revoke, "token.revoke", false},
	/* What could lead a key elsewhere is for the org's own people. */
	{POST, "/api/orgs/{org}/llm-configs", PERM_LLM_KEYS, h_llm_config_create, "llm_config.create", false},
	{GET, "/api/orgs/{org}/llm-configs", PERM_LLM_CONFIGS, h_llm_config_list, NULL, false},
	{GET, "/api/orgs/{org}/llm-configs/{item}", PERM_LLM_CONFIGS, h_llm_config_get, NULL, false},
	{PATCH, "/api/orgs/{org}/llm-configs/{item}", PERM_LLM_KEYS, h_llm_config_change, "llm_config.change", false},
	{DELETE, "/api/orgs/{org}/llm-configs/{item}", PERM_LLM_CONFIGS, h_llm_config_delete, "llm_config.delete", false},

	{GET, "/api/orgs/{org}/pool/stats", PERM_ORG_STATS, h_stats_org, NULL, false},

	{POST, "/api/admin/orgs", PERM_ADMIN, h_org_create, "org.create", false},
	{GET, "/api/admin/orgs", PERM_ADMIN, h_org_list, NULL, false},
	{GET, "/api/admin/orgs/{org}", PERM_ADMIN, h_org_get, NULL, false},
	{PATCH, "/api/admin/orgs/{org}", PERM_ADMIN, h_org_change, "org.change", false},
	{PATCH, "/api/admin/orgs/{org}/status", PERM_ADMIN, h_org_status, "org.status", false},
	{POST, "/api/admin/tokens", PERM_ADMIN, h_token_create, "token.create", false},
	{GET, "/api/admin/tokens", PERM_ADMIN, h_token_list, NULL, false},
	{DELETE, "/api/admin/tokens/{item}", PERM_ADMIN, h_token_revoke, "token.revoke", false},
	{GET, "/api/admin/pool/stats", PERM_ADMIN, h_stats_pool, NULL, false},
	{GET, "/api/admin/health", PERM_ADMIN, h_admin_health, NULL, false},
	{GET, "/api/admin/audit", PERM_ADMIN, h_admin_audit, NULL, false},
};
/* clang-format on */

const size_t route_count = ARRAY_LEN(routes);
