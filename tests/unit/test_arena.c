/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>

#include "tests/unit/harness.h"

static void memory_is_zeroed_and_aligned_even_after_a_clear(void)
{
	struct arena *arena = arena_new(100000);

	for (int round = 0; round < 2; round++) {
		for (size_t size = 0; size < 300; size++) {
			unsigned char *p = arena_alloc(arena, size);
			CU_ASSERT_PTR_NOT_NULL_FATAL(p);
			CU_ASSERT_EQUAL((uintptr_t)p % alignof(max_align_t), 0);
			for (size_t i = 0; i < size; i++)
				CU_ASSERT_EQUAL_FATAL(p[i], 0);
			memset(p, 0xff, size);
		}
		arena_clear(arena);
	}
	arena_free(&arena);
	CU_ASSERT_PTR_NULL(arena);
	arena_free(&arena);
}

static void pieces_do_not_overlap(void)
{
	static const size_t sizes[] = {1, 5000, 17, 40000, 16384, 3, 4096, 4097, 100};
	struct arena *arena = arena_new(1 << 20);
	char *pieces[ARRAY_LEN(sizes)];

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		pieces[i] = arena_alloc(arena, sizes[i]);
		CU_ASSERT_PTR_NOT_NULL_FATAL(pieces[i]);
		memset(pieces[i], (int)i + 1, sizes[i]);
	}
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		CU_ASSERT_EQUAL(pieces[i][0], (char)(i + 1));
		CU_ASSERT_EQUAL(pieces[i][sizes[i] - 1], (char)(i + 1));
	}
	arena_free(&arena);
}

static void past_the_cap_it_answers_null_and_remembers(void)
{
	struct arena *arena = arena_new(1000);
	size_t count = 0;

	while (arena_alloc(arena, 100))
		count++;
	CU_ASSERT(count >= 8 && count <= 10);
	CU_ASSERT_TRUE(arena_has_failed(arena));
	arena_clear(arena);
	CU_ASSERT_FALSE(arena_has_failed(arena));
	CU_ASSERT_PTR_NOT_NULL(arena_alloc(arena, 100));
	CU_ASSERT_PTR_NULL(arena_alloc(arena, 1001));
	CU_ASSERT_TRUE(arena_has_failed(arena));
	arena_free(&arena);
}

static void huge_sizes_do_not_wrap_around(void)
{
	struct arena *arena = arena_new(SIZE_MAX);

	CU_ASSERT_PTR_NULL(arena_alloc(arena, SIZE_MAX));
	CU_ASSERT_PTR_NULL(arena_alloc(arena, SIZE_MAX - 3));
	CU_ASSERT_PTR_NULL(arena_memdup(arena, "", SIZE_MAX));
	CU_ASSERT_TRUE(arena_has_failed(arena));
	arena_free(&arena);
}

static void an_arena_of_nothing_gives_nothing(void)
{
	struct arena *arena = arena_new(0);

	CU_ASSERT_PTR_NULL(arena_alloc(arena, 0));
	CU_ASSERT_PTR_NULL(arena_strdup(arena, ""));
	CU_ASSERT_PTR_NULL(arena_printf(arena, "%d", 1));
	arena_free(&arena);
}

static void copies_end_with_a_nul(void)
{
	struct arena *arena = arena_new(100000);

	CU_ASSERT_STRING_EQUAL(arena_memdup(arena, "abcdef", 3), "abc");
	CU_ASSERT_STRING_EQUAL(arena_memdup(arena, NULL, 0), "");
	CU_ASSERT_STRING_EQUAL(arena_strdup(arena, "text"), "text");
	CU_ASSERT_STRING_EQUAL(arena_printf(arena, "%s-%d", "a", 5), "a-5");
	CU_ASSERT_EQUAL(strlen(arena_printf(arena, "%20000s", "")), 20000);
	CU_ASSERT_FALSE(arena_has_failed(arena));
	arena_free(&arena);
}

static CU_TestInfo cases[] = {
	CASE(memory_is_zeroed_and_aligned_even_after_a_clear),
	CASE(pieces_do_not_overlap),
	CASE(past_the_cap_it_answers_null_and_remembers),
	CASE(huge_sizes_do_not_wrap_around),
	CASE(an_arena_of_nothing_gives_nothing),
	CASE(copies_end_with_a_nul),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"arena", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
