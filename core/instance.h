/* SPDX-License-Identifier: Apache-2.0 */
/*
 * AI Apps: the rows that say what the pool should hold. Every change of such a
 * row that concerns the pool raises its generation in the same transaction and
 * clears attempts, failures, next_attempt_at and failure_reason.
 */
#ifndef CORE_INSTANCE_H
#define CORE_INSTANCE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/names.h"
#include "core/problem.h"
#include "core/version.h"
#include "lib/id.h"
#include "lib/secret.h"

struct arena;
struct db;

#define INSTANCE_NAME_MAX 100
#define INSTANCE_REPLICAS_MAX 64
#define INSTANCE_TTL_MAX 31536000      /* seconds: one year */
#define INSTANCE_LIST_CONFIG_MAX 65536 /* bytes of each config in a list */

struct instance {
	struct id instance_id, org_id;
	const char *name, *framework_type, *mode;
	enum status status;
	enum tier tier;
	enum desired desired_state;
	uint32_t replicas;
	int64_t ttl_seconds; /* -1: the org's, else the default */
	const char *config;  /* canonical JSON text */
	char config_hash[SECRET_HASH_HEX_SIZE];
	struct id llm_config_id;       /* that the configuration names; "": none; instance_create finds it out */
	const char *active_plugin_ids; /* JSON array text */
	uint32_t version;              /* of what its copies are built from: core/version.h */
	uint64_t generation, rebuild_generation, unload_generation;
	bool is_deleted;
	const char *failure_reason;          /* NULL: none */
	const char *created_at, *updated_at; /* RFC 3339 */
	/* Only from instance_get and instance_list: derived from the placements. */
	enum app_state state;
	const char *state_reason; /* NULL: none */
	uint64_t llm_generation;  /* of its LLM config, that it was last ready with; 0: none yet, or no LLM config */
};

/* The hash of all that a copy is built from. */
void instance_config_hash(const char *framework, const char *mode, const char *config, const char *plugin_ids,
			  char ret_hex[SECRET_HASH_HEX_SIZE]);

/* Inside a transaction of the caller, whose token it is. Locks the org row and counts; writes version 1.
 * PROBLEM_QUOTA_INSTANCES, PROBLEM_NAME_TAKEN, PROBLEM_ORG_SUSPENDED, PROBLEM_LLM_CONFIG_NOT_FOUND (not one of its
 * org).
 */
bool instance_create(struct db *db, const struct instance *instance, const struct id *token_id,
		     enum problem *ret_problem, struct err *e) MUST_CHECK;
/* With state. PROBLEM_INSTANCE_NOT_FOUND where there is none; a deleted one is returned with is_deleted. */
bool instance_get(struct db *db, struct arena *mem, const struct id *instance_id, struct instance *ret_instance,
		  enum problem *ret_problem, struct err *e) MUST_CHECK;
/* The living ones of an org, in order of id. config is NULL where it is longer than INSTANCE_LIST_CONFIG_MAX: read the
 * App itself. */
bool instance_list(struct db *db, struct arena *mem, const struct id *org_id, const struct id *after, unsigned limit,
		   struct instance **ret_instances, unsigned *ret_count, struct err *e) MUST_CHECK;

/* The living App of that name; "" where there is none. */
bool instance_find_name(struct db *db, const struct id *org_id, const char *name, struct id *ret_instance_id,
			struct err *e) MUST_CHECK;

struct instance_change { /* NULL / -1: leave */
	const char *name;
	int tier;            /* enum tier */
	int64_t ttl_seconds; /* 0: back to the org's */
	int64_t replicas;
	const char *mode, *config; /* canonical; config replaces the whole */
	const char *active_plugin_ids;
	int status; /* enum status */
	bool is_delete;
	struct id token_id;  /* whose change it is */
	uint32_t of_version; /* mode, config and plugins are this version's: a rollback; 0: they are not */
};

struct instance_changed {
	bool is_changed;        /* false: nothing differed, nothing was written */
	uint64_t generation;    /* after the change */
	struct id operation_id; /* "": no operation was needed */
	enum action action;     /* of the operation */
	bool use_loads;         /* publish it on hearth.load, else on hearth.change (where operation_id is "" too) */
};

/*
 * Inside a transaction of the caller, `current` read and locked by access_check in the same one. Writes the change, a
 * new version where it changes what copies are built from, and where it concerns the pool raises the generation and
 * makes an operation (source config_change for config, tier and replicas, status_change for status and delete) if a
 * copy exists or a hot App is wanted; older open operations of the App that wanted something else become superseded.
 * Suspend and delete raise unload_generation. Moving to hot checks quota_hot (org row locked first by the caller's
 * access_check with lock_org). PROBLEM_NAME_TAKEN, PROBLEM_QUOTA_HOT, PROBLEM_LLM_CONFIG_NOT_FOUND. operation_id is
 * made by the caller, so that it can be looked up when the commit's outcome is unknown.
 */
bool instance_apply(struct db *db, const struct instance *current, const struct instance_change *change,
		    const struct id *operation_id, const char *request_id, struct instance_changed *ret_changed,
		    enum problem *ret_problem, struct err *e) MUST_CHECK;

/* --- for lifecycle.c: in the caller's transaction, the App's row locked --- */

/* What is held of an App. */
struct holding {
	bool is_org_active;
	unsigned live;      /* live copies that no unload has doomed */
	unsigned held;      /* placements that hold anything: all but failed ones */
	bool has_open_load; /* an open operation asks for a copy */
};
bool instance_holding(struct db *db, const struct instance *instance, struct holding *ret_holding,
		      struct err *e) MUST_CHECK;
/* Hot, to be loaded, active, not deleted. */
bool instance_is_wanted_hot(const struct instance *instance);
/* Whether the org's other wanted hot Apps meet its quota_hot already. The org's row is locked, else the answer is a
 * hint. */
bool instance_hot_quota_is_met(struct db *db, const struct instance *instance, bool *ret_is_met,
			       struct err *e) MUST_CHECK;
/* Writes desired_state, tier and the three generations as they stand in `instance`, and forgets failures. */
bool instance_write_wanted(struct db *db, const struct instance *instance, struct err *e) MUST_CHECK;
/* Several in one round trip; at least one. */
bool instance_write_wanted_set(struct db *db, const struct instance *instances, unsigned count,
			       struct err *e) MUST_CHECK;

#endif
