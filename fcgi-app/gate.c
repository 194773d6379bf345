/* SPDX-License-Identifier: Apache-2.0 */
/* Two counters under one lock. */
#include "fcgi-app/gate.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/cond.h"
#include "lib/xalloc.h"

#define SMALL_THREADS 4 /* with so few, as under mod_fcgid, none is kept back */
#define KEPT_MIN 2
#define KEPT_MAX 16
#define MOMENT_MS 250

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t has_place;
	int64_t moved_ms; /* when a turn last began or ended */
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
	cond_init(&gate->has_place);
	gate->threads = threads;
	gate->waits_max = threads > 1 ? threads / 2 : 1;
	gate->long_max = threads - kept_free(threads);
	return gate;
}

void gate_free(struct gate **gate)
{
	if (!*gate)
		return;
	pthread_cond_destroy(&(*gate)->has_place);
	pthread_mutex_destroy(&(*gate)->lock);
	free(*gate);
	*gate = NULL;
}

static bool has_place(const struct gate *gate, enum gate_kind kind, bool is_held)
{
	return (kind != GATE_WAIT || gate->waits < gate->waits_max) && (is_held || gate->held < gate->long_max);
}

/* With the lock held. */
static void wait_for_place(struct gate *gate)
{
	const struct timespec until = cond_deadline(MOMENT_MS);
	int result = 0;

	while (gate->held >= gate->long_max && result != ETIMEDOUT)
		result = pthread_cond_timedwait(&gate->has_place, &gate->lock, &until);
}

bool gate_enter(struct gate *gate, enum gate_kind kind, bool is_held)
{
	int64_t now_ms = clock_now_ms();

	pthread_mutex_lock(&gate->lock);
	if (kind == GATE_TURN && !has_place(gate, kind, is_held) && now_ms - gate->moved_ms < MOMENT_MS)
		wait_for_place(gate);
	bool ok = has_place(gate, kind, is_held);
	if (ok) {
		gate->waits += kind == GATE_WAIT;
		gate->turns += kind == GATE_TURN;
		gate->held += !is_held;
		gate->moved_ms = now_ms;
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
	gate->moved_ms = clock_now_ms();
	pthread_cond_signal(&gate->has_place);
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
