/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Healing, in bounded, indexed steps of short transactions, each over some dozen Apps; rows that others have locked
 * are left for the next pass. Called by the one worker that holds the advisory lock RECOVERY_LOCK. Each step that may
 * have more to do says so. The callbacks run after the commit.
 */
#ifndef CORE_RECOVERY_H
#define CORE_RECOVERY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/operation.h"
#include "lib/err.h"
#include "lib/id.h"

struct arena;
struct db;

#define RECOVERY_LOCK "hearth.recovery"
#define RECOVERY_BATCH 200
#define RECOVERY_PUBLISH_MAX 1000

/* One App that lost or lacks copies; recovery_op "" where none was needed. */
struct recovered {
	struct id instance_id, org_id;
	struct operation op; /* to publish where op.operation_id is set */
	unsigned ended;      /* as in struct republish */
};
typedef void (*recovered_fn)(void *closure, const struct recovered *r);

/*
 * Removes placements of expired leases and of incarnations that are not the workers row's, up to RECOVERY_BATCH Apps,
 * and gives in the same transaction every hot, loaded, active App with too few live placements and no open operation or
 * backoff a recovery operation. only_worker NULL: all; else only placements of that worker_id whose incarnation is not
 * `incarnation` (a worker's own start).
 */
bool recovery_reap(struct db *db, const char *only_worker, const struct id *incarnation, recovered_fn fn, void *closure,
		   bool *ret_more, struct err *e) MUST_CHECK;
/* Hot Apps whose backoff is over: it is cleared, and where copies are missing there comes a recovery operation. */
bool recovery_retry(struct db *db, recovered_fn fn, void *closure, bool *ret_more, struct err *e) MUST_CHECK;
/* The slow sweep: the next RECOVERY_BATCH wanted hot Apps after *cursor; at the end *cursor becomes "". */
bool recovery_sweep(struct db *db, struct id *cursor, recovered_fn fn, void *closure, struct err *e) MUST_CHECK;
/*
 * Open operations whose next_publish_at has passed and whose App has no live `loading` and no `draining` placement:
 * settled first; those still open get their delay doubled (5 s to 5 min) and come to fn with publish_count raised, to
 * be published with id ".<n>". use_loads: on hearth.load where copies are missing, else on hearth.change. At most max.
 * ended > 0: operations of the App, or of another of its set, ended here: tell its waiters (hearth.event), who look
 * again; op.state tells whether this one did: only open ones are published again. Strings of op live until fn returns.
 */
struct republish {
	struct operation op;
	unsigned publish_count;
	bool use_loads;
	unsigned ended;
};
typedef void (*republish_fn)(void *closure, const struct republish *r);
bool recovery_republish(struct db *db, unsigned max, republish_fn fn, void *closure, unsigned *ret_count,
			struct err *e) MUST_CHECK;
/* Removes worker_stats rows older than the hours, and workers rows dead for a day; bounded. */
bool recovery_prune(struct db *db, int history_hours, struct err *e) MUST_CHECK;

#endif
