/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small fake of what core/placement.h does with rows, placements and
 * operations: one worker, no SQL, no time of its own. Other workers are hints (is_elsewhere, has_others). The
 * requests that change a row stand first, the worker's writes after them.
 */
#ifndef TESTS_UNIT_POOL_FAKE_H
#define TESTS_UNIT_POOL_FAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/placement.h"
#include "worker/pool/pool.h"

#define FAKE_APPS_MAX 32
#define FAKE_ORGS 4
#define FAKE_BAD 'x' /* a version whose letter it is cannot be built */

struct fake_app {
	struct app_row row;       /* has_load_wanted and retry_in_ms are made when it is read */
	uint64_t last_generation; /* before a backup was restored: no number is used twice */
	int64_t next_attempt_ms;
	unsigned failures, dead_attempts;
	uint64_t load_op, unload_op; /* generation of the open one; 0: none */
	bool is_elsewhere;           /* another worker holds a ready copy of it, at the row's generation … */
	bool is_elsewhere_behind;    /* … or below it */
	bool is_elsewhere_loading;   /* another worker builds it */
	/* our placement */
	bool has_place, is_fallback, is_own_build;
	enum place_state place;
	enum tier place_tier;
	uint64_t place_generation;
	/* how operations ended */
	unsigned loads_done, loads_failed, unloads_done, recoveries;
	char reason[REASON_MAX + 1]; /* of the last that failed */
};

struct fake {
	struct fake_app apps[FAKE_APPS_MAX];
	unsigned count;
	unsigned quota_demand[FAKE_ORGS];
	uint64_t incarnation;
	bool is_dead;            /* the present incarnation was declared dead */
	bool has_others;         /* other live workers … */
	bool has_room_elsewhere; /* … with room */
};

void fake_init(struct fake *f);
/* A new App at generation 1, unloaded, version 'a'. Returns its number. */
unsigned fake_add(struct fake *f, unsigned org, enum tier tier);
struct id fake_org_id(unsigned org);

/* Requests. Each raises the generation, but for the demand load. */
void fake_load(struct fake_app *a);
void fake_demand(struct fake_app *a);
void fake_reload(struct fake_app *a);
void fake_unload(struct fake_app *a, int64_t drain_s);
void fake_config(struct fake_app *a, char letter);
void fake_tier(struct fake_app *a, enum tier tier);
void fake_ttl(struct fake_app *a, int64_t ttl_seconds);
void fake_suspend(struct fake_app *a, bool is_suspended);
/* The database comes back from a backup in which the App stood at `generation`. */
void fake_restore(struct fake_app *a, uint64_t generation);

/* What a worker reads and writes. */
bool fake_is_wanted_hot(const struct fake_app *a);
void fake_read(const struct fake_app *a, int64_t now_ms, struct app_row *ret_row);
enum claim_result fake_claim(struct fake *f, struct fake_app *a, unsigned how, int64_t now_ms, struct claim *ret_claim);
/* READY, FAILED, GIVE_BACK, DRAINING, GONE. */
enum pool_done fake_write(struct fake *f, struct fake_app *a, const struct pool_action *w, int64_t now_ms);
/* The incarnation is dead: another begins, with no placement. */
void fake_new_incarnation(struct fake *f);
/* Ends what is fulfilled. */
void fake_settle(struct fake_app *a);

#endif
