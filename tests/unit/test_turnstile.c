/* SPDX-License-Identifier: Apache-2.0 */
/* Limits and the queue of turns, with the clock in the test's hand. */
#include "worker/turnstile.h"

#include <string.h>

#include "tests/unit/harness.h"

static const struct id org = {"0192f0c1-0000-7000-8000-000000000001"};
static const struct id other_org = {"0192f0c1-0000-7000-8000-000000000002"};
static const struct id app = {"0192f0c1-0000-7000-8000-000000000011"};
static const struct id other_app = {"0192f0c1-0000-7000-8000-000000000012"};
static struct turnstile *ts;
static struct turnstile_pass pass[8];

static void begin(unsigned org_max, unsigned queue_max)
{
	const struct turnstile_config config = {.org_max = org_max, .queue_max = queue_max, .wait_ms = 1000};

	memset(pass, 0, sizeof(pass));
	ts = turnstile_new(&config);
}

/* Leaves none behind, so that a leak shows. */
static void end(void)
{
	for (unsigned i = 0; i < 8; i++)
		turnstile_leave(ts, &pass[i]);
	while (turnstile_next(ts) != NULL)
		CU_FAIL("somebody was still waiting");
	CU_ASSERT_EQUAL(turnstile_waiting(ts), 0);
	turnstile_free(&ts);
}

static void without_limits_everybody_goes_in(void)
{
	begin(0, 0);
	for (unsigned i = 0; i < 8; i++)
		CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[i], &app, &org, 0, 0), TURNSTILE_IN);
	end();
}

static void beyond_the_apps_limit_turns_wait_in_order(void)
{
	begin(0, 8);
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[0], &app, &org, 1, 0), TURNSTILE_IN);
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[1], &app, &org, 1, 0), TURNSTILE_WAITS);
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[2], &app, &org, 1, 0), TURNSTILE_WAITS);
	CU_ASSERT_PTR_NULL(turnstile_next(ts));
	turnstile_leave(ts, &pass[0]);
	CU_ASSERT_PTR_EQUAL(turnstile_next(ts), &pass[1]);
	CU_ASSERT_PTR_NULL(turnstile_next(ts));
	turnstile_leave(ts, &pass[1]);
	CU_ASSERT_PTR_EQUAL(turnstile_next(ts), &pass[2]);
	end();
}

static void an_app_that_is_full_holds_up_no_other_app_of_its_org(void)
{
	begin(0, 8);
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[0], &app, &org, 1, 0), TURNSTILE_IN);
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[1], &other_app, &org, 1, 0), TURNSTILE_IN);
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[2], &app, &org, 1, 0), TURNSTILE_WAITS);
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[3], &other_app, &org, 1, 0), TURNSTILE_WAITS);
	turnstile_leave(ts, &pass[1]);
	CU_ASSERT_PTR_EQUAL(turnstile_next(ts), &pass[3]); /* past the first, whose App is full */
	CU_ASSERT_PTR_NULL(turnstile_next(ts));
	turnstile_leave(ts, &pass[0]);
	CU_ASSERT_PTR_EQUAL(turnstile_next(ts), &pass[2]);
	end();
}

static void an_orgs_limit_counts_all_its_apps_and_no_others(void)
{
	begin(2, 8);
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[0], &app, &org, 0, 0), TURNSTILE_IN);
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[1], &other_app, &org, 0, 0), TURNSTILE_IN);
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[2], &app, &org, 0, 0), TURNSTILE_WAITS);
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[3], &app, &other_org, 0, 0), TURNSTILE_IN);
	turnstile_leave(ts, &pass[3]);
	CU_ASSERT_PTR_NULL(turnstile_next(ts));
	turnstile_leave(ts, &pass[0]);
	CU_ASSERT_PTR_EQUAL(turnstile_next(ts), &pass[2]);
	end();
}

static void a_full_queue_turns_away(void)
{
	begin(1, 1);
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[0], &app, &org, 0, 0), TURNSTILE_IN);
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[1], &app, &org, 0, 0), TURNSTILE_WAITS);
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[2], &app, &org, 0, 0), TURNSTILE_FULL);
	turnstile_leave(ts, &pass[2]); /* changes nothing */
	CU_ASSERT_EQUAL(turnstile_waiting(ts), 1);
	turnstile_leave(ts, &pass[1]); /* it gave up */
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[2], &app, &org, 0, 0), TURNSTILE_WAITS);
	turnstile_leave(ts, &pass[0]);
	CU_ASSERT_PTR_EQUAL(turnstile_next(ts), &pass[2]);
	end();
}

static void who_waited_too_long_leaves(void)
{
	begin(1, 8);
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[0], &app, &org, 0, 0), TURNSTILE_IN);
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[1], &app, &org, 0, 100), TURNSTILE_WAITS);
	CU_ASSERT_EQUAL(turnstile_enter(ts, &pass[2], &app, &org, 0, 200), TURNSTILE_WAITS);
	CU_ASSERT_PTR_NULL(turnstile_expired(ts, 1099));
	CU_ASSERT_PTR_EQUAL(turnstile_expired(ts, 1100), &pass[1]);
	CU_ASSERT_PTR_NULL(turnstile_expired(ts, 1199));
	turnstile_leave(ts, &pass[0]);
	CU_ASSERT_PTR_EQUAL(turnstile_expired(ts, 1200), &pass[2]);
	CU_ASSERT_PTR_NULL(turnstile_next(ts));
	end();
}

static void a_higher_limit_lets_more_in(void)
{
	const struct turnstile_config wider = {.org_max = 3, .queue_max = 8, .wait_ms = 1000};

	begin(1, 8);
	for (unsigned i = 0; i < 4; i++)
		(void)turnstile_enter(ts, &pass[i], &app, &org, 0, 0);
	turnstile_configure(ts, &wider);
	turnstile_leave(ts, &pass[0]);
	CU_ASSERT_PTR_EQUAL(turnstile_next(ts), &pass[1]);
	CU_ASSERT_PTR_EQUAL(turnstile_next(ts), &pass[2]);
	CU_ASSERT_PTR_EQUAL(turnstile_next(ts), &pass[3]);
	end();
}

static CU_TestInfo cases[] = {
	CASE(without_limits_everybody_goes_in),
	CASE(beyond_the_apps_limit_turns_wait_in_order),
	CASE(an_app_that_is_full_holds_up_no_other_app_of_its_org),
	CASE(an_orgs_limit_counts_all_its_apps_and_no_others),
	CASE(a_full_queue_turns_away),
	CASE(who_waited_too_long_leaves),
	CASE(a_higher_limit_lets_more_in),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"turnstile", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
