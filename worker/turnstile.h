/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns at once, by App and by organization: beyond a limit a turn waits in its organization's queue, in order, until
 * one has ended; the queue and the waiting are bounded. Pure: time comes in. What has no limit is not counted.
 */
#ifndef WORKER_TURNSTILE_H
#define WORKER_TURNSTILE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/id.h"

struct turnstile;

struct turnstile_config {
	unsigned org_max;   /* turns of one organization at once; 0: no limit */
	unsigned queue_max; /* that wait, of one organization */
	int64_t wait_ms;
};

enum turnstile_result {
	TURNSTILE_IN,
	TURNSTILE_WAITS, /* turnstile_next gives it later, or turnstile_expired */
	TURNSTILE_FULL   /* nothing is to be left */
};

struct turnstile_group;

/* One turn. Embedded by its owner; zeroed before it enters. */
struct turnstile_pass {
	struct turnstile_group *app, *org; /* NULL: not counted */
	unsigned app_max;
	bool is_in, is_waiting;
	int64_t until_ms;
	struct turnstile_pass *prev, *next;
};

struct turnstile *turnstile_new(const struct turnstile_config *config);
void turnstile_free(struct turnstile **turnstile); /* empty */
void turnstile_configure(struct turnstile *turnstile, const struct turnstile_config *config);

/* app_max: 0: the App has no limit of its own. */
enum turnstile_result turnstile_enter(struct turnstile *turnstile, struct turnstile_pass *pass, const struct id *app,
				      const struct id *org, unsigned app_max, int64_t now_ms);
/* It has ended, or waits no longer. Of one that is neither in nor waiting: nothing. */
void turnstile_leave(struct turnstile *turnstile, struct turnstile_pass *pass);
/* Ask until NULL after each turnstile_leave: one that waited is in now. */
struct turnstile_pass *turnstile_next(struct turnstile *turnstile);
/* Ask until NULL from time to time: one that waited too long; it has left. */
struct turnstile_pass *turnstile_expired(struct turnstile *turnstile, int64_t now_ms);
unsigned turnstile_waiting(const struct turnstile *turnstile);

#endif
