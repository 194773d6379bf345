/* SPDX-License-Identifier: Apache-2.0 */
/* Two counters under one lock. */
#include "fcgi-app/gate.h"

#include <pthread.h>
#include <stdlib.h>

#include "lib/xalloc.h"

#define SMALL_THREADS 4 /* with so few, as under mod_fcgid, none is kept back */
#define KEPT_MIN 2
#define KEPT_MAX 16

struct gate {
	pthread_mutex_t lock;
	unsigned threads, waits_max, long_max;
	unsigned waits, turns;
	unsigned held; /* threads in a wait, a turn or both */
};

static unsigned kept_free(unsigned threads)
{
	unsigned kept = threads / 8;

	if (threads < SMALL_THREADS)
		return 0;
	if (kept < KEPT_MIN)
		return KEPT_MIN;
	return kept > KEPT_MAX ? KEPT_MAX : kept;
}

struct gate *gate_new(unsigned threads)
{
	struct gate *gate = xcalloc(1, sizeof(*gate));

	pthread_mutex_init(&gate->lock, NULL);
	gate->threads = threads;
	gate->waits_max = threads > 1 ? threads / 2 : 1;
	gate->long_max = threads - kept_free(threads);
	return gate;
}

void gate_free(struct gate **gate)
{
	if (!*gate)
		return;
	pthread_mutex_destroy(&(*gate)->lock);
	free(*gate);
	*gate = NULL;
}

bool gate_enter(struct gate *gate, enum gate_kind kind, bool is_held)
{
	pthread_mutex_lock(&gate->lock);
	bool ok = (kind != GATE_WAIT || gate->waits < gate->waits_max) && (is_held || gate->held < gate->long_max);
	if (ok) {
		gate->waits += kind == GATE_WAIT;
		gate->turns += kind == GATE_TURN;
		gate->held += !is_held;
	}
	pthread_mutex_unlock(&gate->lock);
	return ok;
}

void gate_leave(struct gate *gate, enum gate_kind kind, bool is_held)
{
	pthread_mutex_lock(&gate->lock);
	gate->waits -= kind == GATE_WAIT;
	gate->turns -= kind == GATE_TURN;
	gate->held -= !is_held;
	pthread_mutex_unlock(&gate->lock);
}

struct gate_counts gate_counts(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	struct gate_counts counts = {
		.threads = gate->threads,
		.waits = gate->waits,
		.turns = gate->turns,
		.waits_max = gate->waits_max,
		.long_max = gate->long_max,
	};
	pthread_mutex_unlock(&gate->lock);
	return counts;
}
