/* SPDX-License-Identifier: Apache-2.0 */
/* The closed sets of words that rows, events and JSON share. Each name equals its column's ENUM value. */
#ifndef CORE_NAMES_H
#define CORE_NAMES_H

#include <stdbool.h>

enum tier { TIER_HOT, TIER_DEMAND };
enum status { STATUS_ACTIVE, STATUS_SUSPENDED }; /* of organizations and AI Apps */
enum desired { DESIRED_UNLOADED, DESIRED_LOADED };
enum role { ROLE_MEMBER, ROLE_ORG_ADMIN, ROLE_SYS_ADMIN }; /* in rising order */
enum action { ACTION_LOAD, ACTION_UNLOAD, ACTION_RELOAD };
enum source {
	SOURCE_API_LOAD,
	SOURCE_API_UNLOAD,
	SOURCE_API_RELOAD,
	SOURCE_CONFIG_CHANGE,
	SOURCE_STATUS_CHANGE,
	SOURCE_DEMAND,
	SOURCE_RECOVERY
};
enum op_state { OP_ACCEPTED, OP_RUNNING, OP_SUCCEEDED, OP_FAILED, OP_SUPERSEDED };
enum place_state { PLACE_LOADING, PLACE_READY, PLACE_DRAINING, PLACE_FAILED };
/* What an App's JSON shows as its state. */
enum app_state { APP_UNLOADED, APP_LOADING, APP_READY, APP_DRAINING, APP_FAILED };

const char *tier_name(enum tier v);
const char *status_name(enum status v);
const char *desired_name(enum desired v);
const char *role_name(enum role v);
const char *action_name(enum action v);
const char *source_name(enum source v);
const char *op_state_name(enum op_state v);
const char *place_state_name(enum place_state v);
const char *app_state_name(enum app_state v);

/* False for NULL and for a word that is not in the set; *ret_v is then untouched. */
bool tier_parse(const char *s, enum tier *ret_v);
bool status_parse(const char *s, enum status *ret_v);
bool desired_parse(const char *s, enum desired *ret_v);
bool role_parse(const char *s, enum role *ret_v);
bool action_parse(const char *s, enum action *ret_v);
bool source_parse(const char *s, enum source *ret_v);
bool op_state_parse(const char *s, enum op_state *ret_v);
bool place_state_parse(const char *s, enum place_state *ret_v);

static inline bool op_is_open(enum op_state s)
{
	return s == OP_ACCEPTED || s == OP_RUNNING;
}

#endif
