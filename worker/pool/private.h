/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by pool.c (what is held: Apps, copies, turns, lists, counts) and
 * steps.c (what happens to one App: the state machine). Nobody else includes it.
 */
#ifndef WORKER_POOL_PRIVATE_H
#define WORKER_POOL_PRIVATE_H

#include <uthash.h>

#include "worker/pool/pool.h"
#include "worker/pool/timers.h"

enum step {
	STEP_NONE,       /* at rest */
	STEP_READ,       /* … and decide */
	STEP_WAIT_SLOT,  /* in pool->slot_queue */
	STEP_WAIT_ALONE, /* in pool->alone_queue */
	STEP_WAIT_ROOM,  /* until `evicting_for` of a victim comes back */
	STEP_CEILING,
	STEP_CLAIM,
	STEP_UNDO, /* the claim failed, or its answer was lost: a build that is ours is given back */
	STEP_BUILD,
	STEP_CHECK, /* built: the row is read again before it may serve */
	STEP_SUBSCRIBE,
	STEP_READY,
	STEP_FAILED,
	STEP_GIVE_BACK,
	STEP_DRAINING,
	STEP_UNSUBSCRIBE,
	STEP_GONE
};

/* What an App counts as; one of the pool's counters each. */
enum app_class {
	CLASS_NONE,
	CLASS_LOADING_HOT,
	CLASS_LOADING_DEMAND,
	CLASS_HOT,
	CLASS_DEMAND,
	CLASS_FAILED,
	CLASS_DRAINING,
	CLASS_COUNT
};

struct pool_org {
	struct id_bin id;
	uint32_t app_count;
	struct timers idle; /* evictable demand Apps by their last use */
	UT_hash_handle hh;
};

struct pool_copy {
	struct pool_app *app;
	void *runtime;
	uint64_t generation;
	uint32_t turns;
	bool is_fallback; /* the last good version, not the row's */
	bool is_cut;
	char hash[SECRET_HASH_HEX_SIZE];
	struct pool_copy *sibling; /* list of all copies of the App */
};

struct pool_event {
	void *event;
	struct pool_event *next;
};

struct pool_app {
	struct id_bin id;
	struct pool_org *org;
	void *slot;                    /* the engine's */
	struct pool_copy *cur;         /* the one that gets new turns; NULL: none */
	struct pool_copy *next;        /* built, not yet checked */
	struct pool_copy *copies;      /* these two and retired ones that finish their turns */
	struct pool_event *events;     /* settled at rest */
	struct pool_app *evicting_for; /* goes on when our eviction has ended … */
	struct pool_app *waits_for;    /* … and the other end of it */
	char *reason;                  /* of the failure being recorded */
	struct timer_node timer;
	struct timer_node idle, org_idle; /* at its last use, while it is evictable */
	struct pool_app *queue_next;      /* slot_queue or alone_queue */

	/* what the row said last */
	uint64_t row_generation;
	int64_t ttl_ms;   /* -1: the pool's */
	int64_t drain_ms; /* -1: the pool's */
	uint8_t row_tier;
	char row_hash[SECRET_HASH_HEX_SIZE];
	char good_hash[SECRET_HASH_HEX_SIZE]; /* "" where there is no last good version */

	uint64_t generation;        /* that the step in flight writes */
	uint64_t failed_generation; /* while is_failed: of the build that failed */
	int64_t last_used_ms, retry_at_ms, cut_at_ms, pin_until_ms, resume_at_ms; /* TIMER_NEVER: not set */
	uint32_t turns;                                                           /* of all copies */
	unsigned how;    /* enum claim_how of the claim under way */
	unsigned passes; /* of its events to other workers, in a row */
	int retry_s;
	uint8_t step, class, tier, load_tier, evict;
	bool is_dirty;
	bool is_new;         /* no row was read yet */
	bool is_subscribed;  /* asked to be: only PA_UNSUBSCRIBE ends it, not a failed answer */
	bool is_bringing_up; /* no copy yet: claim to ready */
	bool has_slot, is_alone;
	bool is_leaving;      /* its placement is draining; ends with its turns */
	bool is_handing_over; /* leaving, but serves until another worker does */
	bool is_cut;          /* the turns of what leaves were told to end */
	bool is_failed;
	bool is_failure_kept; /* PA_FAILED with keep */
	bool try_fallback;    /* after the failure is recorded */
	bool is_pinned, wants_pin;
	bool is_version_new; /* the copy being recorded is freshly built */
	bool has_placement;  /* a row in our name, of any state */
	bool is_lost;        /* belongs to a dead incarnation, or a stop's deadline has passed: write nothing */
	UT_hash_handle hh;
};

struct app_queue {
	struct pool_app *first, *last;
	uint32_t count;
};

struct pool {
	struct pool_config config;
	struct pool_app *apps; /* uthash by id */
	struct pool_org *orgs; /* uthash by id */
	struct timers timers;
	uint32_t counts[CLASS_COUNT];
	uint32_t turns;
	uint32_t slots_used;
	bool is_alone_running;
	struct app_queue slot_queue, alone_queue;
	struct timers idle;          /* as in pool_org, of all orgs */
	struct pool_action *actions; /* a ring */
	size_t action_first, action_count, action_cap;
	bool is_stopping, has_others;
	int64_t stop_deadline_ms;
};

/* pool.c */
struct pool_action *pool_emit(struct pool *pool, enum pool_action_kind kind, struct pool_app *app);
struct pool_app *pool_find(struct pool *pool, const struct id_bin *id);
struct pool_app *pool_app_new(struct pool *pool, const struct id_bin *id, const struct id_bin *org_id);
void pool_app_remove(struct pool *pool, struct pool_app *app); /* nothing may be held or in flight */
struct pool_copy *pool_copy_new(struct pool_app *app, void *runtime);
void pool_copy_free(struct pool *pool, struct pool_copy *copy); /* emits PA_FREE */
void pool_events_done(struct pool *pool, struct pool_app *app);
void pool_events_back(struct pool *pool, struct pool_app *app, int64_t delay_ms);
bool pool_has_room(const struct pool *pool, enum tier tier);
struct pool_app *pool_victim(struct pool *pool, const struct pool_org *org, bool only_org);
/* Nothing uses it and nothing speaks against its eviction but a step in flight. */
bool pool_app_is_idle(const struct pool_app *app);
int64_t pool_app_ttl_ms(const struct pool *pool, const struct pool_app *app);
/* After every input that touched it: its class, its place in the idle heaps, its timer. */
void pool_app_settle(struct pool *pool, struct pool_app *app);

/* steps.c */
/* Goes on where nothing is in flight: leave, read, or rest. May remove the App. */
void step_advance(struct pool *pool, struct pool_app *app, int64_t now_ms);
void step_bring_up(struct pool *pool, struct pool_app *app, unsigned how, enum tier tier);
void step_due(struct pool *pool, struct pool_app *app, int64_t now_ms);
void step_lose(struct pool *pool, struct pool_app *app, int64_t now_ms);
void step_grant_slots(struct pool *pool);
/* Nobody waits for a slot or for room any more; each App is dealt with next. */
void step_end_waits(struct pool *pool);
/* More copies are ready than wanted: if the database agrees that ours is the one too many, it leaves. */
void step_drop_surplus(struct pool *pool, struct pool_app *app);
/* What has this number is to leave. */
bool step_is_unloaded(uint64_t generation, const struct app_row *row);
/* The copy serves on, and is written as it is held, whatever its row says (draining, or nothing). */
void step_record(struct pool *pool, struct pool_app *app);

#endif
