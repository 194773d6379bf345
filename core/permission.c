/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each role may do. Roles rise: whatever a role may, the next one may too, so one row per permission names the
 * lowest role that has it. What belongs to an organization alone, its LLM keys, also has a highest one.
 */
#include "core/permission.h"

#include <stddef.h>

#include "lib/macros.h"

static const struct {
	const char *name;
	enum role lowest;
	bool is_orgs_own; /* not for a sys_admin */
} permissions[PERM_COUNT] = {
	[PERM_NONE] = {"none", ROLE_MEMBER, false},
	[PERM_CHAT] = {"org.chat", ROLE_MEMBER, false},
	[PERM_INSTANCES_READ] = {"org.orchestrators.read", ROLE_MEMBER, false},
	[PERM_INSTANCES_WRITE] = {"org.orchestrators.write", ROLE_ORG_ADMIN, false},
	[PERM_INSTANCES_LIFECYCLE] = {"org.orchestrators.lifecycle", ROLE_ORG_ADMIN, false},
	[PERM_TOKENS] = {"org.tokens", ROLE_ORG_ADMIN, false},
	[PERM_LLM_CONFIGS] = {"org.llm_configs", ROLE_ORG_ADMIN, false},
	[PERM_LLM_KEYS] = {"org.llm_keys", ROLE_ORG_ADMIN, true},
	[PERM_ORG_STATS] = {"org.stats", ROLE_ORG_ADMIN, false},
	[PERM_ADMIN] = {"admin", ROLE_SYS_ADMIN, false},
};

static bool is_role(enum role role)
{
	return (int)role >= ROLE_MEMBER && role <= ROLE_SYS_ADMIN;
}

const char *permission_name(enum permission p)
{
	return (size_t)p < ARRAY_LEN(permissions) ? permissions[p].name : "unknown";
}

bool role_may(enum role role, enum permission p)
{
	return is_role(role) && (size_t)p < ARRAY_LEN(permissions) && role >= permissions[p].lowest &&
	       !(permissions[p].is_orgs_own && role == ROLE_SYS_ADMIN);
}

bool role_may_grant(enum role maker, enum role granted)
{
	return is_role(maker) && is_role(granted) && granted <= maker && role_may(maker, PERM_TOKENS);
}
