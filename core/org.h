/* SPDX-License-Identifier: Apache-2.0 */
/* Organizations. Functions run on a borrowed connection, in the transaction that is open or in one of their own. */
#ifndef CORE_ORG_H
#define CORE_ORG_H

#include <stdbool.h>
#include <stdint.h>

#include "core/names.h"
#include "core/problem.h"
#include "lib/id.h"

struct arena;
struct db;

#define ORG_NAME_MAX 100 /* characters */
#define ORG_QUOTA_MAX 10000000
#define ORG_QUOTA_INSTANCES_DEFAULT 1000 /* as the columns' */
#define ORG_QUOTA_TIER_DEFAULT 100

struct org {
	struct id org_id;
	const char *name;
	enum status status;
	uint32_t quota_instances, quota_hot, quota_demand;
	int64_t ttl_seconds;                 /* -1: none */
	const char *created_at, *updated_at; /* RFC 3339 */
};

struct org_change { /* -1 / NULL: leave as it is */
	const char *name;
	int64_t quota_instances, quota_hot, quota_demand;
	int64_t ttl_seconds; /* 0: none */
};

/* org->org_id is made by the caller. PROBLEM_NAME_TAKEN. */
bool org_create(struct db *db, const struct org *org, enum problem *ret_problem, struct err *e) MUST_CHECK;
/* PROBLEM_ORG_NOT_FOUND. Strings live in mem. */
bool org_get(struct db *db, struct arena *mem, const struct id *org_id, struct org *ret_org, enum problem *ret_problem,
	     struct err *e) MUST_CHECK;
/* Up to limit, in order of id, after the given one (NULL: from the start). */
bool org_list(struct db *db, struct arena *mem, const struct id *after, unsigned limit, struct org **ret_orgs,
	      unsigned *ret_count, struct err *e) MUST_CHECK;
bool org_change(struct db *db, const struct id *org_id, const struct org_change *change, enum problem *ret_problem,
		struct err *e) MUST_CHECK;
/*
 * Suspends or reactivates. One set-based UPDATE raises the generation of all its Apps (suspend: unload_generation too),
 * supersedes their open operations; the caller publishes one `_all` change after the commit. Hot, loaded Apps of a
 * reactivated org are brought back by recovery. *ret_changed false: it had that status already.
 */
bool org_set_status(struct db *db, const struct id *org_id, enum status status, bool *ret_changed,
		    enum problem *ret_problem, struct err *e) MUST_CHECK;

#endif
