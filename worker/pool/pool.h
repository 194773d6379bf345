/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool: every AI App that this worker holds or is bringing up, in both
 * tiers, and the rules of DESIGN 6. Pure: no I/O, no clock, no threads. Time comes
 * in as now_ms; what must be done comes out as actions.
 *
 *   an input (an event, a row, a finished step, a turn) → pool_… (…, now_ms)
 *   while (pool_next_action(pool, &a)) perform(a);
 *
 * Each App has at most one step in flight: an action that expects an answer is answered by exactly one call of
 * the function named beside it, and what comes meanwhile marks the App dirty, so that its row is read again
 * afterwards. That makes the pool level-triggered: events may come twice, late, out of order or never.
 *
 * A copy is one built orchestrator (`runtime`, opaque here). A reload builds the next copy beside the present one and
 * swaps; the old one is freed when its last turn has ended.
 */
#ifndef WORKER_POOL_POOL_H
#define WORKER_POOL_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/names.h"
#include "core/placement.h"
#include "lib/id.h"

struct pool;
struct pool_app;  /* one App; valid while a step of it is in flight or it is held */
struct pool_copy; /* one copy; valid until its PA_FREE */

struct pool_config {
	unsigned builds_max; /* build slots */
	uint32_t hot_ceiling, demand_ceiling;
	int64_t ttl_ms;   /* demand Apps whose App and org set none */
	int64_t drain_ms; /* unload waits so long for turns in flight */
	int64_t pin_ms; /* a copy loaded for a waiting chat is not evicted for so long, or until its first turn is over
			 */
	int64_t room_retry_ms; /* a move into a full tier is tried again after: 10 s */
	int64_t step_retry_ms; /* a step that failed (database, bus) is tried again after: 1 s */
};

struct pool *pool_new(const struct pool_config *config);
/* Only when empty (pool_is_empty), or at the very end: runtimes still held are not freed. */
void pool_free(struct pool **pool);
/* Ceilings, TTL, drain and slots; takes effect from the next decision on. */
void pool_configure(struct pool *pool, const struct pool_config *config);

/* --- what must be done --- */
enum pool_action_kind {
	PA_READ,        /* read the App's row                               → pool_row_read */
	PA_CLAIM,       /* placement_claim with `how`                       → pool_claimed */
	PA_BUILD,       /* build it (fallback: from the last good version), probe it → pool_built */
	PA_SUBSCRIBE,   /* queue-subscribe its chat subject, flush          → pool_subscribed */
	PA_READY,       /* placement_ready(generation, tier, hash or NULL, reason or NULL) → pool_recorded */
	PA_FAILED,      /* placement_failed(generation, reason, keep, retry_s) → pool_recorded */
	PA_GIVE_BACK,   /* placement_give_back                              → pool_recorded */
	PA_DRAINING,    /* placement_draining(hand_over)                    → pool_recorded */
	PA_UNSUBSCRIBE, /* drain the subscription                           → pool_unsubscribed */
	PA_GONE,        /* placement_gone                                   → pool_recorded */
	PA_CEILING,     /* the tier is full here: is there room elsewhere?  → pool_ceiling_answer */
	/* Without an answer; app is NULL, since it may be gone by the time this is done: */
	PA_CUT,        /* cancel the turns of `copy`: its drain time is over; each still ends with pool_turn_end */
	PA_FREE,       /* free `runtime`: its last turn is over */
	PA_EVENT_DONE, /* ack `event` */
	PA_EVENT_BACK, /* nak `event`, delay_ms */
	PA_PASS_ON,    /* publish a load event as a change: who holds a copy below `generation` is to look at the row */
	PA_REMOVED     /* the App is no longer here and its slot was in use: free `slot` (app is NULL) */
};

/* EVICT_SURPLUS: placement_drop_surplus instead of placement_draining; POOL_CHANGED where it is none after all. */
enum pool_evict { EVICT_NONE, EVICT_IDLE, EVICT_ROOM, EVICT_QUOTA, EVICT_SURPLUS };

struct pool_action {
	enum pool_action_kind kind;
	struct pool_app *app;
	struct id instance_id, org_id;
	unsigned how;           /* PA_CLAIM */
	bool fallback;          /* PA_BUILD; PA_FAILED: a PA_BUILD of the fallback follows, from the same claim */
	uint64_t generation;    /* PA_READY, PA_FAILED, PA_PASS_ON */
	enum tier tier;         /* PA_READY, PA_CEILING, PA_PASS_ON */
	const char *hash;       /* PA_READY: hex, valid until the answer */
	const char *reason;     /* PA_READY, PA_FAILED: valid until the answer */
	bool keep;              /* PA_FAILED */
	int retry_s;            /* PA_FAILED */
	bool hand_over;         /* PA_DRAINING */
	enum pool_evict evict;  /* PA_DRAINING: why, for the statistics */
	struct pool_copy *copy; /* PA_CUT */
	void *runtime;          /* PA_FREE */
	void *slot;             /* PA_REMOVED */
	void *event;            /* PA_EVENT_DONE, PA_EVENT_BACK */
	int64_t delay_ms;       /* PA_EVENT_BACK */
};

/* False when there is nothing to do. */
bool pool_next_action(struct pool *pool, struct pool_action *ret_action);

/* --- inputs: events --- */
/* A load event. `event` comes back once, in PA_EVENT_DONE or PA_EVENT_BACK; NULL: none to settle. */
void pool_load_event(struct pool *pool, const struct id *instance_id, const struct id *org_id, enum tier tier,
		     bool is_demand, void *event, int64_t now_ms);
/* Something about the App may have changed: look at its row again if it is held here. */
void pool_look(struct pool *pool, const struct id *instance_id, int64_t now_ms);
/* The same for every held App of an org; org_id "": all. */
void pool_look_org(struct pool *pool, const struct id *org_id, int64_t now_ms);
/* A placement of this incarnation that the pool knew nothing of: PA_GONE ends it. What comes for the App meanwhile
 * waits.
 */
void pool_orphan(struct pool *pool, const struct id *instance_id, const struct id *org_id, int64_t now_ms);
/* A row that reconcile read without being asked: looked at again only if it differs from what is held. */
void pool_compare(struct pool *pool, const struct app_row *row, int64_t now_ms);
/* Time has passed. Call at pool_next_wake(). */
void pool_tick(struct pool *pool, int64_t now_ms);
/* INT64_MAX: nothing is waiting for time. */
int64_t pool_next_wake(const struct pool *pool);

/* --- inputs: answers --- */
enum pool_done {
	POOL_DONE,
	POOL_SHORT /* PA_READY: done, but copies are missing that only others can make */,
	POOL_CHANGED /* the row is another now */,
	POOL_LOST /* this incarnation is dead */,
	POOL_RETRY /* it failed; try later */
};

/* row NULL: the read failed. */
void pool_row_read(struct pool *pool, struct pool_app *app, const struct app_row *row, int64_t now_ms);
void pool_claimed(struct pool *pool, struct pool_app *app, enum claim_result result, const struct claim *claim,
		  int64_t now_ms);
/* runtime is the pool's from here on (PA_FREE gives it back). NULL: failed, and reason says why. */
void pool_built(struct pool *pool, struct pool_app *app, void *runtime, const char *reason, int64_t now_ms);
void pool_subscribed(struct pool *pool, struct pool_app *app, bool ok, int64_t now_ms);
void pool_recorded(struct pool *pool, struct pool_app *app, enum pool_done done, int64_t now_ms);
void pool_unsubscribed(struct pool *pool, struct pool_app *app, int64_t now_ms);
/* Only PA_CEILING: elsewhere true: the event goes back for another worker. */
void pool_ceiling_answer(struct pool *pool, struct pool_app *app, bool elsewhere, int64_t now_ms);

/* --- inputs: turns --- */
/* NULL: not held here. Else the turn holds the copy until pool_turn_end; *ret_runtime is borrowed for as long. */
struct pool_copy *pool_turn_begin(struct pool *pool, const struct id *instance_id, void **ret_runtime, int64_t now_ms);
void pool_turn_end(struct pool *pool, struct pool_copy *copy, int64_t now_ms);
const struct id_bin *pool_copy_instance(const struct pool_copy *copy);
struct id pool_copy_org(const struct pool_copy *copy);

/* --- the worker as a whole --- */
/* This incarnation was declared dead: everything drains, nothing is written. Events that come after are served by the
 * next incarnation. */
void pool_lose_all(struct pool *pool, int64_t now_ms);
/* SIGTERM. has_others: hot Apps are handed over and served until pool_handed_over or the deadline; else turns end and
 * it is empty. Again with has_others false: the others are gone by now, nothing more is handed over. */
void pool_stop(struct pool *pool, bool has_others, int64_t deadline_ms, int64_t now_ms);
void pool_handed_over(struct pool *pool, const struct id *instance_id, int64_t now_ms);
bool pool_is_empty(const struct pool *pool);
bool pool_is_stopping(const struct pool *pool);

/* --- looking (never touches a TTL) --- */
struct pool_counts {
	uint32_t hot, demand; /* ready copies that serve */
	uint32_t loading, failed, draining;
	uint32_t turns_in_flight;
	uint32_t builds;     /* claims and builds that take a slot */
	uint32_t slots_free; /* load events that may be asked for */
};
struct pool_counts pool_counts(const struct pool *pool);
/* Is a step, a copy or a failure of it here? */
bool pool_has(const struct pool *pool, const struct id *instance_id);
/* Ids of all Apps here, malloc'd, for reconcile's walk. */
size_t pool_ids(const struct pool *pool, struct id_bin **ret_ids);
struct id pool_app_instance(const struct pool_app *app);
struct id pool_app_org(const struct pool_app *app);
/* A place for the engine's own data of an App (its subscription, its claim); NULL at first. The pool never reads it. */
void **pool_app_slot(struct pool_app *app);
bool pool_app_is_waited_for(const struct pool_app *app); /* by a chat that asked for the load */

#endif
