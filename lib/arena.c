/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of blocks, the newest first; allocation moves a mark in the first one.
 * The cap counts whole blocks, so it bounds the memory really taken. A large
 * request gets a block of its own behind the first, which keeps its free rest.
 */
#include "lib/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/xalloc.h"

#define BLOCK_BYTES ((size_t)16 * 1024)
#define LARGE_BYTES (BLOCK_BYTES / 4)

struct block {
	struct block *next;
	size_t size;
	size_t used;
	alignas(max_align_t) char bytes[];
};

struct arena {
	struct block *blocks; /* the first is the one with room */
	size_t max_bytes;
	size_t total_bytes; /* of all blocks */
	bool failed;
};

struct arena *arena_new(size_t max_bytes)
{
	struct arena *arena = xcalloc(1, sizeof(*arena));

	arena->max_bytes = max_bytes;
	return arena;
}

static void free_blocks(struct block *block)
{
	while (block) {
		struct block *next = block->next;
		free(block);
		block = next;
	}
}

void arena_free(struct arena **arena)
{
	if (!*arena)
		return;
	free_blocks((*arena)->blocks);
	free(*arena);
	*arena = NULL;
}

void arena_clear(struct arena *arena)
{
	struct block *kept = arena->blocks;

	if (kept) {
		free_blocks(kept->next);
		kept->next = NULL;
		kept->used = 0;
	}
	arena->total_bytes = kept ? kept->size : 0;
	arena->failed = false;
}

bool arena_has_failed(const struct arena *arena)
{
	return arena->failed;
}

/* A block with room for size bytes, put where its size belongs; NULL past the cap. */
static struct block *add_block(struct arena *arena, size_t size)
{
	size_t left = arena->max_bytes - arena->total_bytes;
	size_t block_size = BLOCK_BYTES < left ? BLOCK_BYTES : left;

	if (size > left)
		return NULL;
	if (size > LARGE_BYTES || size > block_size)
		block_size = size;
	struct block *block = xmalloc(sizeof(*block) + block_size);
	block->size = block_size;
	block->used = 0;
	arena->total_bytes += block_size;
	if (size > LARGE_BYTES && arena->blocks) {
		block->next = arena->blocks->next;
		arena->blocks->next = block;
	} else {
		block->next = arena->blocks;
		arena->blocks = block;
	}
	return block;
}

/* Size bytes rounded up to the alignment, not yet zeroed. */
static char *take(struct arena *arena, size_t size)
{
	const size_t mask = alignof(max_align_t) - 1;
	struct block *block = arena->blocks;

	if (size > arena->max_bytes || size > SIZE_MAX - mask) {
		arena->failed = true;
		return NULL;
	}
	size = ((size ? size : 1) + mask) & ~mask;
	if (!block || block->size - block->used < size)
		block = add_block(arena, size);
	if (!block) {
		arena->failed = true;
		return NULL;
	}
	char *ptr = block->bytes + block->used;
	block->used += size;
	return ptr;
}

void *arena_alloc(struct arena *arena, size_t size)
{
	char *ptr = take(arena, size);

	return ptr ? memset(ptr, 0, size) : NULL;
}

char *arena_memdup(struct arena *arena, const void *data, size_t len)
{
	char *copy = take(arena, len < SIZE_MAX ? len + 1 : len);

	if (!copy)
		return NULL;
	if (len > 0)
		memcpy(copy, data, len);
	copy[len] = '\0';
	return copy;
}

char *arena_strdup(struct arena *arena, const char *s)
{
	return arena_memdup(arena, s, strlen(s));
}

char *arena_printf(struct arena *arena, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	int len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	char *text = len < 0 ? NULL : take(arena, (size_t)len + 1);
	if (!text) {
		arena->failed = true;
		return NULL;
	}
	va_start(args, fmt);
	(void)vsnprintf(text, (size_t)len + 1, fmt, args);
	va_end(args);
	return text;
}

const char *arena_list(struct arena *arena, const char *list, const char *between, const char *word)
{
	const char *longer = arena_printf(arena, "%s%s%s", list, *list ? between : "", word);

	return longer ? longer : list;
}
