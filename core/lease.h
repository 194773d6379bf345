/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The workers table: a start registers a new incarnation and renews its lease.
 * Every write of a worker carries its identity; where no row is found the worker was
 * declared dead (LEASE_LOST): it drains everything and registers anew.
 */
#ifndef CORE_LEASE_H
#define CORE_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/names.h"
#include "lib/db.h"
#include "lib/err.h"
#include "lib/id.h"
#include "lib/macros.h"

#define WORKER_ID_MAX 64

/* Who a worker is in this incarnation. */
struct worker_identity {
	char worker_id[WORKER_ID_MAX + 1];
	struct id incarnation;
	struct id process_id;
};

struct worker_registration {
	struct worker_identity who;
	const char *host, *machine_id;
	uint32_t hot_ceiling, demand_ceiling;
	int lease_s;
};

/*
 * Only one process may run under a name: the session that takes it keeps it until it ends, however that comes about.
 * DB_DONE: another one has it.
 */
enum db_result lease_take_name(struct db *db, const char *worker_id, struct err *e) MUST_CHECK;

/*
 * Registers under the name. ERR_CONFLICT while a live lease of it stands from another machine. On the same machine the
 * earlier incarnation counts as expired at once (its placements are what recovery_reap finds).
 * *ret_last_flush: the number of the last flush of this process that counted.
 */
bool lease_register(struct db *db, const struct worker_registration *r, uint64_t *ret_last_flush,
		    struct err *e) MUST_CHECK;

enum lease_result { LEASE_HELD, LEASE_LOST, LEASE_FAIL /* e says why; try again */ };
enum lease_result lease_renew(struct db *db, const struct worker_identity *who, int lease_s, struct err *e) MUST_CHECK;
/* New ceilings of a running worker (SIGHUP), for the statistics and for the others. */
enum lease_result lease_set_ceilings(struct db *db, const struct worker_identity *who, uint32_t hot_ceiling,
				     uint32_t demand_ceiling, struct err *e) MUST_CHECK;
/* Leaving: no new claims; counted as not live. */
enum lease_result lease_leave(struct db *db, const struct worker_identity *who, struct err *e) MUST_CHECK;
/* At the end of an orderly stop, when nothing is held any more: the row goes. */
bool lease_remove(struct db *db, const struct worker_identity *who, struct err *e) MUST_CHECK;
/* Does another live worker's newest statistics row show room in the tier? (hot: else the operation fails with
 * hot_ceiling) */
bool lease_has_room_elsewhere(struct db *db, const char *worker_id, enum tier tier, bool *ret_has_room,
			      struct err *e) MUST_CHECK;
/* Workers with a valid lease that are not leaving; except may be NULL. */
bool lease_count_live(struct db *db, const char *except, unsigned *ret_count, struct err *e) MUST_CHECK;

#endif
