/* SPDX-License-Identifier: Apache-2.0 */
/* The circuit breaker, with the clock in the test's hand. */
#include "worker/model/breaker.h"

#include "tests/unit/harness.h"

static const struct breaker_config config = {.failures_max = 3, .pause_ms = 1000, .pause_max_ms = 3000};

static struct breaker b;

static bool may(int64_t now_ms, struct breaker_ticket *ret_ticket)
{
	int64_t wait_ms;

	return breaker_may_call(&b, now_ms, ret_ticket, &wait_ms);
}

static void fail_once(int64_t now_ms)
{
	struct breaker_ticket ticket;

	CU_ASSERT_TRUE_FATAL(may(now_ms, &ticket));
	(void)breaker_failed(&b, &config, ticket, now_ms);
}

static void open_it(int64_t now_ms)
{
	b = (struct breaker){0};
	for (int i = 0; i < 3; i++)
		fail_once(now_ms);
	CU_ASSERT_EQUAL(b.state, BREAKER_OPEN);
}

static void failures_in_a_row_open_it(void)
{
	struct breaker_ticket ticket;
	int64_t wait_ms = 0;

	open_it(0);
	CU_ASSERT_FALSE(breaker_may_call(&b, 400, &ticket, &wait_ms));
	CU_ASSERT_EQUAL(wait_ms, 600);
}

static void a_success_between_starts_the_count_anew(void)
{
	struct breaker_ticket ticket;

	b = (struct breaker){0};
	fail_once(0);
	fail_once(0);
	CU_ASSERT_TRUE(may(0, &ticket));
	CU_ASSERT_FALSE(breaker_succeeded(&b, ticket));
	fail_once(0);
	fail_once(0);
	CU_ASSERT_EQUAL(b.state, BREAKER_CLOSED);
}

static void after_the_pause_one_call_tries(void)
{
	struct breaker_ticket trial, other;

	open_it(0);
	CU_ASSERT_FALSE(may(999, &trial));
	CU_ASSERT_TRUE(may(1000, &trial));
	CU_ASSERT_EQUAL(b.state, BREAKER_HALF_OPEN);
	CU_ASSERT_FALSE(may(1000, &other));
	CU_ASSERT_TRUE(breaker_succeeded(&b, trial));
	CU_ASSERT_EQUAL(b.state, BREAKER_CLOSED);
	CU_ASSERT_TRUE(may(1000, &other));
}

static void each_pause_is_twice_as_long_up_to_the_longest(void)
{
	struct breaker_ticket trial;
	const int64_t pauses_ms[] = {1000, 2000, 3000, 3000};
	int64_t now_ms = 0;

	open_it(now_ms);
	for (unsigned i = 0; i < 4; i++) {
		CU_ASSERT_FALSE(may(now_ms + pauses_ms[i] - 1, &trial));
		now_ms += pauses_ms[i];
		CU_ASSERT_TRUE_FATAL(may(now_ms, &trial));
		CU_ASSERT_TRUE(breaker_failed(&b, &config, trial, now_ms));
	}
	now_ms += 3000;
	CU_ASSERT_TRUE_FATAL(may(now_ms, &trial));
	CU_ASSERT_TRUE(breaker_succeeded(&b, trial));
	for (int i = 0; i < 3; i++) /* a success makes the next pause the first again */
		fail_once(now_ms);
	CU_ASSERT_TRUE(may(now_ms + 1000, &trial));
}

static void a_trial_that_is_given_up_lets_another_one_try(void)
{
	struct breaker_ticket trial;

	open_it(0);
	CU_ASSERT_TRUE(may(1000, &trial));
	breaker_gave_up(&b, trial);
	CU_ASSERT_EQUAL(b.state, BREAKER_HALF_OPEN);
	CU_ASSERT_TRUE(may(1000, &trial));
}

static void calls_from_before_it_opened_say_nothing(void)
{
	struct breaker_ticket early, trial;

	b = (struct breaker){0};
	CU_ASSERT_TRUE(may(0, &early));
	for (int i = 0; i < 3; i++)
		fail_once(0);
	CU_ASSERT_FALSE(breaker_succeeded(&b, early));
	CU_ASSERT_EQUAL(b.state, BREAKER_OPEN);
	CU_ASSERT_TRUE(may(1000, &trial));
	CU_ASSERT_FALSE(breaker_failed(&b, &config, early, 1000));
	breaker_gave_up(&b, early);
	CU_ASSERT_EQUAL(b.state, BREAKER_HALF_OPEN);
	CU_ASSERT_TRUE(b.is_trying);
}

static void one_without_a_limit_never_opens(void)
{
	const struct breaker_config none = {.failures_max = 0, .pause_ms = 1, .pause_max_ms = 1};
	struct breaker_ticket ticket;

	b = (struct breaker){0};
	for (int i = 0; i < 1000; i++) {
		CU_ASSERT_TRUE_FATAL(may(0, &ticket));
		CU_ASSERT_FALSE(breaker_failed(&b, &none, ticket, 0));
	}
}

static CU_TestInfo cases[] = {
	CASE(failures_in_a_row_open_it),
	CASE(a_success_between_starts_the_count_anew),
	CASE(after_the_pause_one_call_tries),
	CASE(each_pause_is_twice_as_long_up_to_the_longest),
	CASE(a_trial_that_is_given_up_lets_another_one_try),
	CASE(calls_from_before_it_opened_say_nothing),
	CASE(one_without_a_limit_never_opens),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {{"breaker", NULL, NULL, NULL, NULL, cases}, CU_SUITE_INFO_NULL};
