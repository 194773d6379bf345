/* SPDX-License-Identifier: Apache-2.0 */
/* What placement.c (results of builds, leaving) and placement_claim.c share. Private to them. */
#ifndef CORE_PLACEMENT_PRIVATE_H
#define CORE_PLACEMENT_PRIVATE_H

#include <stdbool.h>

#include "lib/err.h"

struct copies;
struct db;

/* What failed for want of room is tried again soon, and is not counted as a failure of the App. */
bool placement_fail_for_now(struct db *db, const struct copies *c, const char *reason, int retry_s,
			    struct err *e) MUST_CHECK;

#endif
