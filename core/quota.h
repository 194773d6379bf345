/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a claim asks about its organization's quotas. An exact count costs time in proportion to
 * the count, and claims come by the thousand: up to QUOTA_HOT_EXACT_MAX and QUOTA_DEMAND_EXACT_MAX they are exact; for
 * a larger quota a count may be a second old, kept per process.
 */
#ifndef CORE_QUOTA_H
#define CORE_QUOTA_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/err.h"
#include "lib/id.h"
#include "lib/macros.h"

struct db;

#define QUOTA_HOT_EXACT_MAX 1000
#define QUOTA_DEMAND_EXACT_MAX 10000 /* its count is of an index alone, once for a set of claims */
/* Claims that one worker may have under way without the org's lock, its lines of steps full. */
#define QUOTA_NEAR 300

/* More hot Apps are to be held than the quota allows (it was lowered after they were accepted). */
bool quota_hot_is_overrun(struct db *db, const struct id *org_id, uint32_t quota, bool *ret_is_overrun,
			  struct err *e) MUST_CHECK;
/* The org's demand copies, with what all workers may have under way, are so many that a further one needs the org's
 * lock and quota_demand_held. */
bool quota_demand_is_near(struct db *db, const struct id *org_id, uint32_t quota, bool *ret_is_near,
			  struct err *e) MUST_CHECK;
/* The org's live demand copies on all workers, without the one that worker_id has of instance_id. */
bool quota_demand_held(struct db *db, const struct id *org_id, const struct id *instance_id, const char *worker_id,
		       unsigned *ret_held, struct err *e) MUST_CHECK;
/* Locks the org's row: first of all locks. */
bool quota_lock_org(struct db *db, const struct id *org_id, struct err *e) MUST_CHECK;

#endif
