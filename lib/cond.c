/* SPDX-License-Identifier: Apache-2.0 */
/* Condition variables on CLOCK_MONOTONIC; see cond.h. */
#include "lib/cond.h"

void cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(cond, &attr);
	(void)pthread_condattr_destroy(&attr);
}

struct timespec cond_deadline(int64_t timeout_ms)
{
	struct timespec t;

	if (timeout_ms < 0)
		timeout_ms = 0;
	(void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail for this clock */
	t.tv_sec += (time_t)(timeout_ms / 1000);
	t.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	return t;
}
