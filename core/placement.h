/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placements: which worker holds which App, and every write a worker makes
 * about a copy. Each function is one short transaction that locks the App's row first,
 * carries the worker's incarnation, and settles the operations that it fulfils. What must be told to waiters comes back
 * as `ended`: the caller publishes a hearth.event for the App when it is above 0. Blocking; runs on the loop's thread
 * pool.
 */
#ifndef CORE_PLACEMENT_H
#define CORE_PLACEMENT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/lease.h"
#include "core/names.h"
#include "lib/err.h"
#include "lib/id.h"
#include "lib/secret.h"

struct arena;
struct db;

#define PLACE_ATTEMPTS_MAX 3 /* builds without a result before failed(poison) */
#define REASON_MAX 255

/* What a worker needs to know of an App's row, in one read. */
struct app_row {
	bool is_found;
	struct id instance_id, org_id;
	bool is_active; /* org and App active, not deleted */
	enum tier tier;
	enum desired desired_state;
	uint64_t generation, rebuild_generation, unload_generation;
	int64_t ttl_seconds;  /* App, else org; -1: neither */
	bool has_load_wanted; /* an open load, reload, demand or recovery operation asks for a copy */
	bool fresh;           /* one of them is a reload with fresh */
	int64_t drain_s;      /* of the youngest unload operation at this generation; -1: none said */
	uint32_t replicas;
	uint32_t attempts;
	int64_t retry_in_ms; /* > 0: backoff */
	bool is_surplus; /* only from placement_read_batch: more copies are ready than replicas (placement_drop_surplus
			    decides) */
	char hash[SECRET_HASH_HEX_SIZE]; /* of the configuration */
	/* Only from placement_claim, in the arena: */
	const char *framework_type, *mode, *config;
	const char *good_mode, *good_config; /* NULL: no version was ever ready */
	char good_hash[SECRET_HASH_HEX_SIZE];
};

/* A plain read, no lock. ret_row->is_found false: gone. */
bool placement_read(struct db *db, const struct id *instance_id, struct app_row *ret_row, struct err *e) MUST_CHECK;

enum claim_result {
	CLAIM_BUILD,      /* the placement is `loading` in our name: build it */
	CLAIM_ENOUGH,     /* as many copies as wanted are ready, at the row's generation: nothing to do, operations are
			     settled */
	CLAIM_PASS_ON,    /* enough are ready but some below the row's generation: publish the event as a change */
	CLAIM_LOADING,    /* enough are live, some still loading: their builder ends the operation */
	CLAIM_NOT_WANTED, /* no open operation asks for it, or org or App is not active */
	CLAIM_BACKOFF,    /* retry_in_ms says when */
	CLAIM_QUOTA,     /* demand quota is met by copies that are not idle here: demand_quota; evict_mine tells whether
			    freeing helps */
	CLAIM_QUOTA_HOT, /* quota_hot is over-run: the operation has failed */
	CLAIM_ALONE,     /* an attempt had no result (its worker died): nothing was written; claim again with
			  * CLAIM_HOW_ALONE     when nothing else is being built on this worker, so that it can take nobody
			  * with     it */
	CLAIM_POISON,    /* three builds had no result: the operation has failed */
	CLAIM_LOST,      /* this incarnation was declared dead */
	CLAIM_FAIL       /* the database: e says why; try again */
};

enum claim_how {
	CLAIM_HOW_REBUILD = 1, /* we hold a ready copy and build beside it: the placement stays `ready`; claimed even
				  where no operation is open */
	CLAIM_HOW_ALONE = 2    /* nothing else is being built on this worker */
};

struct claim {
	struct app_row row;
	bool want_more;           /* copies are still missing beside ours: publish the load once more */
	unsigned org_demand_held; /* CLAIM_QUOTA: the org's live demand copies */
	unsigned ended;
};

/*
 * DESIGN 6 "A load is claimed": locks the row, and only while an open operation asks for it. Inserts or takes over our
 * own placement row (loading, generation, incarnation), raises attempts. how: enum claim_how, or'ed. ret_claim->row is
 * the row as it stands after the claim. A claim that is repeated because its commit was uncertain goes on with the same
 * attempt. A worker that is leaving, or has not renewed its lease in time, gets CLAIM_FAIL (ERR_BUSY).
 */
enum claim_result placement_claim(struct db *db, struct arena *mem, const struct worker_identity *who,
				  const struct id *instance_id, unsigned how, struct claim *ret_claim,
				  struct err *e) MUST_CHECK;

enum place_result {
	PLACE_OK,
	PLACE_SHORT /* placement_ready: done, but a load is open that wants more copies, and those are for others */,
	PLACE_CHANGED /* the row's generation is another now: look again */,
	PLACE_LOST,
	PLACE_FAIL
};

/*
 * The copy serves: state ready at `generation`; attempts, failures, backoff and failure_reason cleared; the version is
 * the last good one (hash NULL: it already was, or this is the fallback). reason: NULL or "running_previous_version",
 * which fulfils no operation. The adoption of a number (a load of a loaded App) and the move between tiers are the same
 * write. PLACE_CHANGED: the row has another generation. Where a copy of `generation` may not serve it (inactive, g <
 * unload_generation, g > the row's) nothing was written; else it is ready at `generation` until the caller has looked
 * again, also where it must be rebuilt. A placement row of ours that is missing (a restored backup) is made again.
 */
enum place_result placement_ready(struct db *db, const struct worker_identity *who, const struct id *instance_id,
				  uint64_t generation, enum tier tier, const char *hash, const char *reason,
				  unsigned *ret_ended, struct err *e) MUST_CHECK;
/*
 * A build failed at `generation`: ends every open load and reload up to it with the reason, counts the failure, sets
 * next_attempt_at. keep: an older copy serves on or the fallback will (the placement is not touched); else the
 * placement becomes failed. retry_s > 0: a fixed delay (ceilings, quotas) that counts no failure; 0: doubling, 1 s to 5
 * min. PLACE_CHANGED: the row has another generation by now, whose attempts and backoff stay as they are.
 */
enum place_result placement_failed(struct db *db, const struct worker_identity *who, const struct id *instance_id,
				   uint64_t generation, const char *reason, bool keep, int retry_s, unsigned *ret_ended,
				   struct err *e) MUST_CHECK;
/*
 * Given back without a result (an orderly stop, a changed row): the attempt is not counted, our `loading` placement
 * goes; a ready one that was being rebuilt stays. Operations that waited for it to be gone (an unload) end.
 */
enum place_result placement_give_back(struct db *db, const struct worker_identity *who, const struct id *instance_id,
				      unsigned *ret_ended, struct err *e) MUST_CHECK;
/* The copy stops taking turns. hand_over: where it is hot and wanted, copies elsewhere do not suffice, and other live
 * workers exist, *ret_next_op is what brings the App up there and is to be published: an operation that is open
 * already, or a recovery operation made in the same transaction. "": it need not be waited for. */
enum place_result placement_draining(struct db *db, const struct worker_identity *who, const struct id *instance_id,
				     bool hand_over, struct id *ret_next_op, unsigned *ret_ended,
				     struct err *e) MUST_CHECK;
/* Nothing of it is left here: the row goes, operations that waited for it end. */
enum place_result placement_gone(struct db *db, const struct worker_identity *who, const struct id *instance_id,
				 unsigned *ret_ended, struct err *e) MUST_CHECK;

/*
 * Reconcile: where more copies are ready than wanted and ours is the youngest of them, it becomes `draining` and
 * *ret_is_dropped is true: let it go as after placement_draining.
 */
enum place_result placement_drop_surplus(struct db *db, const struct worker_identity *who, const struct id *instance_id,
					 bool *ret_is_dropped, struct err *e) MUST_CHECK;

/* Reconcile: for each of count ids (at most PLACE_BATCH) fills rows[i]; those not found have is_found false. One query.
 */
#define PLACE_BATCH 200
bool placement_read_batch(struct db *db, const struct id *ids, unsigned count, struct app_row *ret_rows,
			  struct err *e) MUST_CHECK;
/* Reconcile: ids of placements of our incarnation in order of id after `after` (NULL: start), up to PLACE_BATCH, with
 * their generation and state. */
struct placed {
	struct id instance_id;
	uint64_t generation;
	enum place_state state;
};
bool placement_mine(struct db *db, const struct worker_identity *who, const struct id *after, struct placed *ret_placed,
		    unsigned *ret_count, struct err *e) MUST_CHECK;

#endif
