/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocation that does not fail: when memory is out, one line is written to
 * stderr and the process aborts (its supervisor restarts it). Safe because
 * every size that comes from outside is compared with a limit before.
 */
#ifndef LIB_XALLOC_H
#define LIB_XALLOC_H

#include <stddef.h>

#include "lib/macros.h"

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size); /* zeroed */
void *xrealloc(void *ptr, size_t size);
char *xstrdup(const char *s);
char *xmemdup(const void *data, size_t len); /* adds a NUL behind the copy */
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* How they end; also for a library that was refused memory. */
NORETURN void xalloc_die(void);

#endif
