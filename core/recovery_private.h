/* SPDX-License-Identifier: Apache-2.0 */
/* What recovery.c (Apps that lost copies) and recovery_publish.c (operations nobody acted on) share. Private to them.
 */
#ifndef CORE_RECOVERY_PRIVATE_H
#define CORE_RECOVERY_PRIVATE_H

#include <stdbool.h>

#include "core/copies.h"
#include "core/sql.h"
#include "lib/err.h"

struct db;

/* The Apps of one transaction that were locked. */
struct recovery_locked {
	struct copies copies[SQL_SET_MAX];
	unsigned ended[SQL_SET_MAX]; /* operations ended here, of each */
	unsigned count;
};

/* Ends what is fulfilled. */
bool recovery_settle(struct db *db, struct recovery_locked *apps, struct err *e) MUST_CHECK;
/* Ends what can never be. is_open_needed: only where an operation asks for it. */
bool recovery_fail_poisoned(struct db *db, struct recovery_locked *apps, bool is_open_needed, struct err *e) MUST_CHECK;

#endif
