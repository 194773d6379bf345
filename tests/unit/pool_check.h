/* SPDX-License-Identifier: Apache-2.0 */
/* Recomputes a pool's books from what it holds and compares: classes, counts, heaps, timers, slots, copies. */
#ifndef TESTS_UNIT_POOL_CHECK_H
#define TESTS_UNIT_POOL_CHECK_H

#include <stdbool.h>

struct pool;

/* A check that speaks only when it fails; pool_context tells where a simulation stood. */
#define EXPECT(condition) ((condition) ? true : pool_expect_failed((unsigned)__LINE__, #condition, __FILE__))
extern char pool_context[80];
bool pool_expect_failed(unsigned line, const char *condition, const char *file);

void pool_check(struct pool *pool);

#endif
