/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An arena holds what dies together: all memory of one request or one job.
 * It is capped; past the cap every call returns NULL and the arena remembers
 * it, so a caller may check once at the end with arena_has_failed().
 * One thread at a time.
 */
#ifndef LIB_ARENA_H
#define LIB_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/macros.h"

struct arena;

struct arena *arena_new(size_t max_bytes);
/* Frees all that was allocated from it and the arena. Accepts NULL. */
void arena_free(struct arena **arena);
/* Empties it and forgets a failure; keeps one block for the next use. */
void arena_clear(struct arena *arena);
bool arena_has_failed(const struct arena *arena);

/* Zeroed, aligned for any type. NULL past the cap. */
void *arena_alloc(struct arena *arena, size_t size);
/* Copy of len bytes with a NUL behind. data may be NULL when len is 0. */
char *arena_memdup(struct arena *arena, const void *data, size_t len);
char *arena_strdup(struct arena *arena, const char *s);
char *arena_printf(struct arena *arena, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* list, between and word behind each other; word alone where list is "". Past the cap list as it is. */
const char *arena_list(struct arena *arena, const char *list, const char *between, const char *word);

#endif
