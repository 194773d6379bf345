/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placements: which worker holds which App, and every write a worker makes about a copy. Each write locks the App's row
 * first, carries the worker's incarnation, and settles in the same short transaction the operations that it fulfils.
 * Writes about many Apps share transactions. Blocking; runs on the loop's thread pool.
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
struct llm_config;

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
	bool is_surplus;     /* only from placement_read_held: more copies are ready than replicas (the step decides) */
	bool is_recorded;    /* only from there: our placement is `ready`, at the row's generation and tier */
	char hash[SECRET_HASH_HEX_SIZE]; /* of the configuration, the LLM config and its generation: llm_version_hash */
	/* Only from placement_claim, in the arena: */
	const char *framework_type, *mode, *config;
	const char *good_mode, *good_config; /* NULL: no version was ever ready */
	char good_hash[SECRET_HASH_HEX_SIZE];
	const struct llm_config *llm, *good_llm; /* NULL: none */
};

/* A plain read of different Apps, any count, no lock; ret_rows[i] is that of ids[i]. is_found false: gone. */
bool placement_read(struct db *db, const struct id *ids, unsigned count, struct app_row *ret_rows,
		    struct err *e) MUST_CHECK;
/* The same of what this worker holds, with is_surplus and is_recorded: after a backup was restored, what it holds may
 * be written nowhere. */
bool placement_read_held(struct db *db, const struct worker_identity *who, const struct id *ids, unsigned count,
			 struct app_row *ret_rows, struct err *e) MUST_CHECK;

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
	unsigned ended;           /* operations: their waiters are to be told */
};

/* One App to be claimed. */
struct claim_step {
	struct id instance_id;
	unsigned how;      /* enum claim_how, or'ed */
	struct arena *mem; /* for what the answer's row holds */
	/* the answer */
	enum claim_result result;
	struct claim claim;
	struct err e; /* CLAIM_FAIL */
	/* placement_claim.c's own */
	struct id org_to_lock;
	bool is_left_over, serves;
};

/*
 * DESIGN 6 "A load is claimed": locks the row, and only while an open operation asks for it. Inserts or takes over our
 * own placement row (loading, generation, incarnation), raises attempts. claim.row is the row as it stands after the
 * claim. A claim that is repeated because its commit was uncertain goes on with the same attempt. A worker that is
 * leaving, or has not renewed its lease in time, gets CLAIM_FAIL (ERR_BUSY). Different Apps, any count; the more at
 * once, the less each costs.
 */
void placement_claim_set(struct db *db, const struct worker_identity *who, struct claim_step **steps, unsigned count);

enum place_result {
	PLACE_OK,
	PLACE_SHORT,   /* READY: done, but a load is open that wants more copies, and those are for others */
	PLACE_CHANGED, /* the row's generation is another now: look again */
	PLACE_LOST,    /* this incarnation was declared dead */
	PLACE_FAIL     /* the database: e says why; try again */
};

enum place_step_kind {
	/*
	 * The copy serves: state ready at `generation` in `tier`; attempts, failures, backoff and failure_reason
	 * cleared; the version is the last good one (hash NULL: it already was, or this is the fallback). reason: NULL
	 * or "running_previous_version", which fulfils no operation. The adoption of a number (a load of a loaded App)
	 * and the move between tiers are the same write. PLACE_CHANGED: the row has another generation. Where a copy of
	 * `generation` may not serve it (inactive, g < unload_generation, g > the row's) nothing was written; else it
	 * is ready at `generation` until the caller has looked again, also where it must be rebuilt. A placement row of
	 * ours that is missing (a restored backup) is made again.
	 */
	PLACE_STEP_READY,
	/*
	 * A build failed at `generation`: ends every open load and reload up to it with the reason, counts the failure,
	 * sets next_attempt_at. keep: an older copy serves on or the fallback will (the placement is not touched); else
	 * the placement becomes failed. retry_s > 0: a fixed delay (ceilings, quotas) that counts no failure; 0:
	 * doubling, 1 s to 5 min. PLACE_CHANGED: the row has another generation by now, whose attempts and backoff stay
	 * as they are.
	 */
	PLACE_STEP_FAILED,
	/*
	 * Given back without a result (an orderly stop, a changed row): the attempt is not counted, our `loading`
	 * placement goes; a ready one that was being rebuilt stays. Operations that waited for it to be gone (an
	 * unload) end.
	 */
	PLACE_STEP_GIVE_BACK,
	/*
	 * The copy stops taking turns. hand_over: where it is hot and wanted, copies elsewhere do not suffice, and
	 * other live workers exist, next_op is what brings the App up there and is to be published: an operation that
	 * is open already, or a recovery operation made in the same transaction. "": it need not be waited for.
	 */
	PLACE_STEP_DRAINING,
	/* Nothing of it is left here: the row goes, operations that waited for it end. */
	PLACE_STEP_GONE,
	/* Where more copies are ready than wanted and ours is the youngest of them, it becomes `draining`: let it go as
	 * after PLACE_STEP_DRAINING. PLACE_CHANGED: it is none too many. */
	PLACE_STEP_SURPLUS
};

/* One write about one App's copy. */
struct place_step {
	enum place_step_kind kind;
	struct id instance_id;
	uint64_t generation; /* READY, FAILED */
	enum tier tier;      /* READY */
	const char *hash;    /* READY */
	const char *reason;  /* READY, FAILED */
	bool keep;           /* FAILED */
	int retry_s;         /* FAILED */
	bool hand_over;      /* DRAINING */
	/* the answer */
	enum place_result result;
	struct id next_op; /* DRAINING */
	struct err e;      /* PLACE_FAIL */
	/* placement.c's own */
	bool is_left_over;
};

/* Different Apps, any kinds and count; the more at once, the less each costs. */
void placement_record_set(struct db *db, const struct worker_identity *who, struct place_step **steps, unsigned count);

#define PLACE_BATCH 200
/* Reconcile: ids of placements of our incarnation in order of id after `after` (NULL: start), up to PLACE_BATCH, with
 * their generation and state. */
struct placed {
	struct id instance_id, org_id;
	uint64_t generation;
	enum place_state state;
};
bool placement_mine(struct db *db, const struct worker_identity *who, const struct id *after, struct placed *ret_placed,
		    unsigned *ret_count, struct err *e) MUST_CHECK;

#endif
