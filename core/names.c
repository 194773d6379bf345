/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The closed sets of words. A set is one array indexed by its enum; the name
 * and parse functions of each are the same three lines, made by one macro.
 * To add a word: the enum in names.h, the array here, the column's ENUM in a
 * new schema file.
 */
#include "core/names.h"

#include <stddef.h>
#include <string.h>

#include "lib/macros.h"

static const char *const tiers[] = {[TIER_HOT] = "hot", [TIER_DEMAND] = "demand"};
static const char *const statuses[] = {[STATUS_ACTIVE] = "active", [STATUS_SUSPENDED] = "suspended"};
static const char *const desireds[] = {[DESIRED_UNLOADED] = "unloaded", [DESIRED_LOADED] = "loaded"};
static const char *const roles[] = {
	[ROLE_MEMBER] = "member", [ROLE_ORG_ADMIN] = "org_admin", [ROLE_SYS_ADMIN] = "sys_admin"};
static const char *const actions[] = {[ACTION_LOAD] = "load", [ACTION_UNLOAD] = "unload", [ACTION_RELOAD] = "reload"};
static const char *const sources[] = {
	[SOURCE_API_LOAD] = "api_load",           [SOURCE_API_UNLOAD] = "api_unload",
	[SOURCE_API_RELOAD] = "api_reload",       [SOURCE_CONFIG_CHANGE] = "config_change",
	[SOURCE_STATUS_CHANGE] = "status_change", [SOURCE_DEMAND] = "demand",
	[SOURCE_RECOVERY] = "recovery",
};
static const char *const op_states[] = {
	[OP_ACCEPTED] = "accepted", [OP_RUNNING] = "running",       [OP_SUCCEEDED] = "succeeded",
	[OP_FAILED] = "failed",     [OP_SUPERSEDED] = "superseded",
};
static const char *const place_states[] = {
	[PLACE_LOADING] = "loading",
	[PLACE_READY] = "ready",
	[PLACE_DRAINING] = "draining",
	[PLACE_FAILED] = "failed",
};
static const char *const app_states[] = {
	[APP_UNLOADED] = "unloaded", [APP_LOADING] = "loading", [APP_READY] = "ready",
	[APP_DRAINING] = "draining", [APP_FAILED] = "failed",
};

/* The index of the word, -1 where it is not in the set. */
static int find(const char *const *set, size_t count, const char *s)
{
	for (size_t i = 0; s && i < count; i++)
		if (strcmp(set[i], s) == 0)
			return (int)i;
	return -1;
}

#define DEFINE_NAME(word, set)                                                                                         \
	const char *word##_name(enum word v)                                                                           \
	{                                                                                                              \
		return (size_t)v < ARRAY_LEN(set) ? (set)[v] : "unknown";                                              \
	}

#define DEFINE_PARSE(word, set)                                                                                        \
	bool word##_parse(const char *s, enum word *ret_v)                                                             \
	{                                                                                                              \
		int i = find(set, ARRAY_LEN(set), s);                                                                  \
		if (i >= 0)                                                                                            \
			*ret_v = (enum word)i;                                                                         \
		return i >= 0;                                                                                         \
	}

DEFINE_NAME(tier, tiers)
DEFINE_NAME(status, statuses)
DEFINE_NAME(desired, desireds)
DEFINE_NAME(role, roles)
DEFINE_NAME(action, actions)
DEFINE_NAME(source, sources)
DEFINE_NAME(op_state, op_states)
DEFINE_NAME(place_state, place_states)
DEFINE_NAME(app_state, app_states)

DEFINE_PARSE(tier, tiers)
DEFINE_PARSE(status, statuses)
DEFINE_PARSE(desired, desireds)
DEFINE_PARSE(role, roles)
DEFINE_PARSE(action, actions)
DEFINE_PARSE(source, sources)
DEFINE_PARSE(op_state, op_states)
DEFINE_PARSE(place_state, place_states)
