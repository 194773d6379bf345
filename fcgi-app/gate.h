/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many threads may be held for long. A wait (Prefer, a demand load) and a
 * turn each hold one; waits take at most half of the threads, both together
 * leave a few free, so that lifecycle requests and probes are always answered.
 * A turn that waits for its load counts as both. All threads.
 *
 * A burst of short turns shall queue and not be refused: while turns come and go,
 * one that finds no place waits for one, a moment at most. Among long ones, where
 * nothing moves, it is refused at once.
 */
#ifndef FCGI_APP_GATE_H
#define FCGI_APP_GATE_H

#include <stdbool.h>

struct gate;

enum gate_kind { GATE_WAIT, GATE_TURN };

struct gate_counts {
	unsigned threads, waits, turns, waits_max, long_max;
};

struct gate *gate_new(unsigned threads);
void gate_free(struct gate **gate);
/* False: that would be one too many. held: this thread holds the other kind already. */
bool gate_enter(struct gate *gate, enum gate_kind kind, bool is_held);
void gate_leave(struct gate *gate, enum gate_kind kind, bool is_held);
struct gate_counts gate_counts(struct gate *gate);

#endif
