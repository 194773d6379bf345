/* SPDX-License-Identifier: Apache-2.0 */
/* Condition variables that wait by the monotonic clock, so that setting the wall clock neither wakes nor delays anyone.
 */
#ifndef LIB_COND_H
#define LIB_COND_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

void cond_init(pthread_cond_t *cond);
/* For pthread_cond_timedwait on such a condition: timeout_ms from now; below 0 counts as 0. */
struct timespec cond_deadline(int64_t timeout_ms);

#endif
