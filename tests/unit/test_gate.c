/* SPDX-License-Identifier: Apache-2.0 */
#include "fcgi-app/gate.h"

#include <pthread.h>
#include <time.h>

#include "lib/clock.h"
#include "tests/unit/harness.h"

/* How many get in, one after the other, before the first refusal. */
static unsigned fill(struct gate *gate, enum gate_kind kind)
{
	unsigned n = 0;

	while (n < 10000 && gate_enter(gate, kind, false))
		n++;
	return n;
}

/* Turns that began long ago: nothing moves, so none is waited for. */
static unsigned fill_with_old_turns(struct gate *gate)
{
	unsigned n = 0;

	for (; n < 10000; n++) {
		clock_set_for_test(1000000 + 1000 * (int64_t)n, 0);
		if (!gate_enter(gate, GATE_TURN, false))
			break;
	}
	clock_set_for_test(-1, 0);
	return n;
}

static void waits_take_half_turns_leave_a_few(void)
{
	static const struct {
		unsigned threads, waits, turns;
	} rows[] = {{1, 1, 1}, {2, 1, 2}, {4, 2, 2}, {8, 4, 6}, {64, 32, 56}, {128, 64, 112}, {1024, 512, 1008}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct gate *gate = gate_new(rows[i].threads);
		CU_ASSERT_EQUAL(fill(gate, GATE_WAIT), rows[i].waits);
		gate_free(&gate);
		gate = gate_new(rows[i].threads);
		CU_ASSERT_EQUAL(fill_with_old_turns(gate), rows[i].turns);
		gate_free(&gate);
	}
}

static void both_together_leave_a_few(void)
{
	struct gate *gate = gate_new(64);

	CU_ASSERT_EQUAL(fill(gate, GATE_WAIT), 32);
	CU_ASSERT_EQUAL(fill_with_old_turns(gate), 24);
	CU_ASSERT_FALSE(gate_enter(gate, GATE_WAIT, true)); /* half of the threads wait already */
	gate_leave(gate, GATE_WAIT, false);
	CU_ASSERT_TRUE(gate_enter(gate, GATE_WAIT, true)); /* a turn that waits holds its thread already */
	struct gate_counts counts = gate_counts(gate);
	CU_ASSERT_EQUAL(counts.waits, 32);
	CU_ASSERT_EQUAL(counts.turns, 24);
	gate_free(&gate);
}

static void *leave_soon(void *closure)
{
	const struct timespec soon = {.tv_nsec = 20000000};

	(void)nanosleep(&soon, NULL);
	gate_leave(closure, GATE_TURN, false);
	return NULL;
}

/* A refused turn: how long that took, whatever clock is set. */
static int64_t refusal_ms(struct gate *gate)
{
	struct timespec from, to;

	(void)clock_gettime(CLOCK_MONOTONIC, &from);
	CU_ASSERT_FALSE(gate_enter(gate, GATE_TURN, false));
	(void)clock_gettime(CLOCK_MONOTONIC, &to);
	return (int64_t)(to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000;
}

/* The machine may stop anybody for a moment, but not each time. */
#define TRIES 10

static void among_short_turns_one_waits_for_its_place(void)
{
	struct gate *gate = gate_new(8);
	bool has_entered = false, is_at_once = false;

	clock_set_for_test(1000000, 0); /* so all of it is of one moment */
	for (int i = 0; i < 5; i++)
		CU_ASSERT_TRUE(gate_enter(gate, GATE_TURN, false));
	for (int i = 0; i < TRIES && !has_entered; i++) {
		pthread_t thread;
		CU_ASSERT_TRUE(gate_enter(gate, GATE_TURN, false));
		CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, leave_soon, gate), 0);
		has_entered = gate_enter(gate, GATE_TURN, false);
		pthread_join(thread, NULL);
	}
	CU_ASSERT_TRUE_FATAL(has_entered);
	CU_ASSERT_TRUE(refusal_ms(gate) >= 200); /* a moment, and no longer */
	clock_set_for_test(1001000, 0);          /* nothing moves any more */
	for (int i = 0; i < TRIES && !is_at_once; i++)
		is_at_once = refusal_ms(gate) < 200;
	CU_ASSERT_TRUE(is_at_once);
	clock_set_for_test(-1, 0);
	gate_free(&gate);
}

static CU_TestInfo cases[] = {
	{"waits_take_half_turns_leave_a_few", waits_take_half_turns_leave_a_few},
	{"both_together_leave_a_few", both_together_leave_a_few},
	{"among_short_turns_one_waits_for_its_place", among_short_turns_one_waits_for_its_place},
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"gate", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
