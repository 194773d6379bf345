/* SPDX-License-Identifier: Apache-2.0 */
/* Roles map to permissions in one table (permission.c). */
#ifndef CORE_PERMISSION_H
#define CORE_PERMISSION_H

#include <stdbool.h>

#include "core/names.h"

enum permission {
	PERM_NONE,                /* a probe: no token needed */
	PERM_CHAT,                /* org.chat */
	PERM_INSTANCES_READ,      /* org.orchestrators.read, and their operations */
	PERM_INSTANCES_WRITE,     /* org.orchestrators.write */
	PERM_INSTANCES_LIFECYCLE, /* org.orchestrators.lifecycle */
	PERM_TOKENS,              /* org.tokens */
	PERM_LLM_CONFIGS,         /* org.llm_configs: see them (never a key), remove them */
	PERM_LLM_KEYS,            /* org.llm_keys: make and change them; of the org's own people alone */
	PERM_ORG_STATS,           /* org.stats */
	PERM_ADMIN,               /* admin: sys_admin only */
	PERM_COUNT
};

const char *permission_name(enum permission p);
bool role_may(enum role role, enum permission p);
/* The role that a token maker may give at most is the own one. */
bool role_may_grant(enum role maker, enum role granted);

#endif
