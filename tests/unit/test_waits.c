/* SPDX-License-Identifier: Apache-2.0 */
#include "fcgi-app/waits.h"

#include <pthread.h>

#include "lib/clock.h"
#include "tests/unit/harness.h"

static const struct id app = {"0192f0c1-0000-7000-8000-000000000001"};
static const struct id other = {"0192f0c1-0000-7000-8000-000000000002"};
static struct waits *waits;

static void a_wake_before_the_wait_counts(void)
{
	struct wait w;

	waits_begin(waits, &w, &app);
	waits_wake(waits, &app);
	CU_ASSERT_TRUE(waits_for(waits, &w, 5000));
	CU_ASSERT_FALSE(waits_for(waits, &w, 10)); /* once */
	waits_end(waits, &w);
}

static void only_its_app_wakes_it(void)
{
	struct wait w;

	waits_begin(waits, &w, &app);
	waits_wake(waits, &other);
	CU_ASSERT_FALSE(waits_for(waits, &w, 10));
	waits_wake_all(waits);
	CU_ASSERT_TRUE(waits_for(waits, &w, 10));
	waits_end(waits, &w);
}

static void all_waiters_of_an_app_are_woken_and_leave_in_any_order(void)
{
	struct wait w[3];

	for (int i = 0; i < 3; i++)
		waits_begin(waits, &w[i], &app);
	waits_end(waits, &w[1]);
	waits_wake(waits, &app);
	CU_ASSERT_TRUE(waits_for(waits, &w[0], 10));
	CU_ASSERT_TRUE(waits_for(waits, &w[2], 10));
	waits_end(waits, &w[2]);
	waits_end(waits, &w[0]);
	waits_wake(waits, &app);
}

static void *wake_app(void *closure)
{
	(void)closure;
	waits_wake(waits, &app);
	return NULL;
}

static void a_wake_from_another_thread_ends_the_wait(void)
{
	struct wait w;
	pthread_t thread;
	int64_t before_ms = clock_now_ms();

	waits_begin(waits, &w, &app);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, wake_app, NULL), 0);
	CU_ASSERT_TRUE(waits_for(waits, &w, 20000));
	CU_ASSERT_TRUE(clock_now_ms() - before_ms < 10000);
	pthread_join(thread, NULL);
	waits_end(waits, &w);
}

static void set_up(void)
{
	waits = waits_new();
}

static void tear_down(void)
{
	waits_free(&waits);
}

static CU_TestInfo cases[] = {
	{"a_wake_before_the_wait_counts", a_wake_before_the_wait_counts},
	{"only_its_app_wakes_it", only_its_app_wakes_it},
	{"all_waiters_of_an_app_are_woken_and_leave_in_any_order",
	 all_waiters_of_an_app_are_woken_and_leave_in_any_order},
	{"a_wake_from_another_thread_ends_the_wait", a_wake_from_another_thread_ends_the_wait},
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"waits", NULL, NULL, set_up, tear_down, cases},
	CU_SUITE_INFO_NULL,
};
