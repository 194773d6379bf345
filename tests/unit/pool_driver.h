/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives a pool in tests: performs its actions against the fake of pool_fake.h
 * with a clock of its own. Each step is done in two halves, as in life: its effect on the rows, and its
 * answer. A test may hold back a kind of action of an App (driver_hold), let only its effect happen (driver_perform),
 * let it fail (driver_fail), and change rows in between. After every input the pool's books are recomputed
 * (pool_check.h).
 *
 * driver_close ends everything and checks that each runtime was freed once and each event settled once.
 */
#ifndef TESTS_UNIT_POOL_DRIVER_H
#define TESTS_UNIT_POOL_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/unit/pool_fake.h"
#include "worker/pool/pool.h"

#define DRIVER_TURNS_MAX 128
#define DRIVER_NO_TURN DRIVER_TURNS_MAX
#define DRIVER_KINDS (PA_REMOVED + 1)
#define DRIVER_TTL_MS 300000
#define DRIVER_DRAIN_MS 30000
#define DRIVER_PIN_MS 20000
#define DRIVER_ROOM_RETRY_MS 10000
#define DRIVER_STEP_RETRY_MS 1000

struct runtime {
	unsigned app, turns;
	char version;
	bool is_freed;
};

/* The step in flight of an App. */
struct driver_step {
	struct pool_action action;
	bool is_open, is_performed;
	uint64_t number, incarnation;
	/* the answer */
	bool ok;
	struct app_row row;
	enum claim_result claimed;
	struct claim claim;
	struct runtime *runtime;
	enum pool_done done;
};

struct driver_app {
	struct driver_step step;
	struct app_row claimed_row;
	unsigned held;                /* bits: 1 << kind */
	unsigned fails[DRIVER_KINDS]; /* so many more of the kind fail */
	unsigned seen[DRIVER_KINDS];  /* actions so far */
	unsigned evicted[EVICT_SURPLUS + 1];
	unsigned last_how;   /* of PA_CLAIM */
	bool last_hand_over; /* of PA_DRAINING */
	bool is_retried;     /* the last step was answered "try later" */
	bool is_subscribed;
	bool has_left; /* it was unsubscribed, and not subscribed again since */
};

struct driver_turn {
	struct pool_copy *copy; /* NULL: free */
	struct runtime *runtime;
	unsigned app;
	bool is_cut;
};

struct driver {
	struct pool *pool;
	struct pool_config config;
	struct fake fake;
	int64_t now_ms;
	struct driver_app apps[FAKE_APPS_MAX];
	struct driver_turn turns[DRIVER_TURNS_MAX];
	struct runtime **runtimes;
	size_t runtime_count, runtime_cap;
	uint8_t *events; /* how often each was settled */
	size_t event_count, event_cap;
	size_t events_done, events_back, slots;
	uint64_t steps;
	bool is_manual;       /* nothing is answered but by driver_answer */
	bool fails_uncertain; /* what fails has happened nevertheless */
};

/* Opens a pool with ceilings of 8 and two slots. */
void driver_open(struct driver *d);
void driver_configure(struct driver *d, uint32_t hot_ceiling, uint32_t demand_ceiling, unsigned builds_max);
void driver_close(struct driver *d);
/* A new App's number. */
unsigned driver_add(struct driver *d, unsigned org, enum tier tier);

/* --- what comes in --- */
void driver_event(struct driver *d, unsigned app, bool is_demand);
void driver_look(struct driver *d, unsigned app);
/* Every App of the org, or, FAKE_ORGS, of all. */
void driver_look_org(struct driver *d, unsigned org);
/* What reconcile does for one App. */
void driver_compare(struct driver *d, unsigned app);
void driver_compare_row(struct driver *d, const struct app_row *row);
/* Reconcile found its placement in our name. */
void driver_orphan(struct driver *d, unsigned app);
void driver_advance(struct driver *d, int64_t ms);
/* DRIVER_NO_TURN: refused. */
unsigned driver_turn(struct driver *d, unsigned app);
void driver_turn_end(struct driver *d, unsigned turn);
void driver_stop(struct driver *d, bool has_others, int64_t in_ms);
void driver_handed_over(struct driver *d, unsigned app);
/* The incarnation is declared dead; the worker learns it, and begins another one. */
void driver_lose(struct driver *d);
/* The request is made and its event delivered. */
void driver_load(struct driver *d, unsigned app);
void driver_demand(struct driver *d, unsigned app);

/* --- steps --- */
void driver_hold(struct driver *d, unsigned app, enum pool_action_kind kind);
void driver_release(struct driver *d, unsigned app, enum pool_action_kind kind);
void driver_fail(struct driver *d, unsigned app, enum pool_action_kind kind, unsigned times);
/* Is a step of this kind in flight? */
bool driver_is_at(const struct driver *d, unsigned app, enum pool_action_kind kind);
/* The effect of the step in flight, without the answer; nothing where it has happened. */
void driver_perform(struct driver *d, unsigned app);
/* Effect and answer. */
void driver_answer(struct driver *d, unsigned app);

/* --- looking --- */
/* The generation of the copy that takes new turns, 0: none; its version's letter; its tier. */
uint64_t driver_serves(const struct driver *d, unsigned app);
char driver_version(const struct driver *d, unsigned app);
enum tier driver_tier(const struct driver *d, unsigned app);
bool driver_has(const struct driver *d, unsigned app);
unsigned driver_turns(const struct driver *d, unsigned app);
/* Runtimes of the App that are not freed. */
unsigned driver_runtimes(const struct driver *d, unsigned app);

#endif
