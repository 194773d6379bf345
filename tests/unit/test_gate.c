/* SPDX-License-Identifier: Apache-2.0 */
#include "fcgi-app/gate.h"

#include <pthread.h>

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
	gate_leave(closure, GATE_TURN, false);
	return NULL;
}

static void among_short_turns_one_waits_for_its_place(void)
{
	struct gate *gate = gate_new(8);
	pthread_t thread;

	for (int i = 0; i < 6; i++)
		CU_ASSERT_TRUE(gate_enter(gate, GATE_TURN, false));
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, leave_soon, gate), 0);
	CU_ASSERT_TRUE(gate_enter(gate, GATE_TURN, false));
	pthread_join(thread, NULL);
	int64_t before_ms = clock_now_ms();
	CU_ASSERT_FALSE(gate_enter(gate, GATE_TURN, false)); /* a moment, and no longer */
	CU_ASSERT_TRUE(clock_now_ms() - before_ms >= 200);
	/* Now nothing moves any more. The machine may stop us for a moment, but not each time. */
	bool is_at_once = false;
	for (int i = 0; i < 10 && !is_at_once; i++) {
		before_ms = clock_now_ms();
		CU_ASSERT_FALSE(gate_enter(gate, GATE_TURN, false));
		is_at_once = clock_now_ms() - before_ms < 200;
	}
	CU_ASSERT_TRUE(is_at_once);
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
