/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A circuit breaker: a server that fails again and again is left alone for a while, so that those who wait for it learn
 * at once that it does not answer. Pure: time comes in.
 *
 *   closed     calls pass; `failures_max` failures in a row open it
 *   open       no call passes until the pause is over; each pause is twice the one before, up to a maximum
 *   half open  one call passes, the others do not; its success closes the breaker, its failure opens it again
 *
 * Every call that breaker_may_call() let pass ends with exactly one of breaker_succeeded, breaker_failed and
 * breaker_gave_up, with the ticket that it was given.
 */
#ifndef WORKER_MODEL_BREAKER_H
#define WORKER_MODEL_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

struct breaker_config {
	unsigned failures_max;          /* in a row; 0: it never opens */
	int64_t pause_ms, pause_max_ms; /* the first, the longest */
};

struct breaker {
	enum breaker_state state;
	unsigned failures;     /* in a row */
	unsigned pauses;       /* in a row */
	int64_t open_until_ms; /* BREAKER_OPEN */
	uint32_t round;        /* calls of a round before say nothing any more */
	bool is_trying;        /* BREAKER_HALF_OPEN: the one call is under way */
};

/* Which call it was. */
struct breaker_ticket {
	uint32_t round;
	bool is_trial;
};

/* False: *ret_wait_ms says when it is worth asking again. */
bool breaker_may_call(struct breaker *b, int64_t now_ms, struct breaker_ticket *ret_ticket, int64_t *ret_wait_ms);
/* True: the state is another now. */
bool breaker_succeeded(struct breaker *b, struct breaker_ticket ticket);
bool breaker_failed(struct breaker *b, const struct breaker_config *config, struct breaker_ticket ticket,
		    int64_t now_ms);
/* It was cancelled, or ended in a way that says nothing of the server. */
void breaker_gave_up(struct breaker *b, struct breaker_ticket ticket);
const char *breaker_state_name(enum breaker_state state); /* "closed", "open", "half_open" */

#endif
