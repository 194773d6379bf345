/* SPDX-License-Identifier: Apache-2.0 */
/* A binary heap of points in time: one node per App, embedded in it, moved as its next deadline changes. */
#ifndef WORKER_POOL_TIMERS_H
#define WORKER_POOL_TIMERS_H

#include <stddef.h>
#include <stdint.h>

#define TIMER_NEVER INT64_MAX

struct timer_node {
	int64_t at_ms;
	size_t place; /* 1 + index in the heap; 0: not in it */
};

struct timers {
	struct timer_node **nodes;
	size_t count, cap;
};

void timers_clear(struct timers *t);
/* Sets or moves it; TIMER_NEVER takes it out. */
void timers_set(struct timers *t, struct timer_node *node, int64_t at_ms);
/* The earliest, NULL where there is none. Stays in the heap. */
struct timer_node *timers_first(const struct timers *t);

#endif
