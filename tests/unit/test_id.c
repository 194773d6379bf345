/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/id.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/macros.h"
#include "tests/unit/harness.h"

#define PER_THREAD 20000
#define THREADS 4

static void a_new_id_is_a_version_7_uuid_of_now(void)
{
	struct id parsed;

	clock_set_for_test(0, 1767323045678);
	struct id id = id_new();
	clock_set_for_test(-1, 0);
	CU_ASSERT_EQUAL(strlen(id.text), ID_TEXT_LEN);
	CU_ASSERT_EQUAL(strncmp(id.text, "019b7ca9-8f2e-7", 15), 0);
	CU_ASSERT_PTR_NOT_NULL(strchr("89ab", id.text[19]));
	CU_ASSERT_TRUE(id_parse(id.text, strlen(id.text), &parsed));
	CU_ASSERT_TRUE(id_equal(&id, &parsed));
}

static void ids_grow_when_the_clock_stands_or_goes_back(void)
{
	struct id last = id_new();

	for (int i = 0; i < 10000; i++) {
		clock_set_for_test(0, 1900000000000 - i / 5000);
		struct id next = id_new();
		CU_ASSERT_FATAL(strcmp(next.text, last.text) > 0);
		last = next;
	}
	clock_set_for_test(-1, 0);
}

static void *make_ids(void *closure)
{
	struct id *ids = closure;

	for (int i = 0; i < PER_THREAD; i++)
		ids[i] = id_new();
	return NULL;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(((const struct id *)a)->text, ((const struct id *)b)->text);
}

static void ids_of_many_threads_differ(void)
{
	struct id *ids = calloc(THREADS * PER_THREAD, sizeof(*ids));
	pthread_t threads[THREADS];

	CU_ASSERT_PTR_NOT_NULL_FATAL(ids);
	for (int i = 0; i < THREADS; i++)
		(void)pthread_create(&threads[i], NULL, make_ids, ids + i * PER_THREAD);
	for (int i = 0; i < THREADS; i++)
		(void)pthread_join(threads[i], NULL);
	for (int i = 1; i < PER_THREAD; i++)
		CU_ASSERT_FATAL(by_text(&ids[i - 1], &ids[i]) < 0);
	qsort(ids, THREADS * PER_THREAD, sizeof(*ids), by_text);
	for (int i = 1; i < THREADS * PER_THREAD; i++)
		CU_ASSERT_FALSE_FATAL(id_equal(&ids[i - 1], &ids[i]));
	free(ids);
}

static void only_the_exact_text_form_is_an_id(void)
{
	static const struct {
		int line;
		const char *text;
		bool is_id;
	} rows[] = {
		{__LINE__, "019b7cac-172e-7abc-8def-0123456789ab", true},
		{__LINE__, "00000000-0000-0000-0000-000000000000", true},
		{__LINE__, "019B7cac-172e-7abc-8def-0123456789ab", false},
		{__LINE__, "019b7cac-172e-7abc-8def-0123456789a", false},
		{__LINE__, "019b7cac-172e-7abc-8def-0123456789abc", false},
		{__LINE__, "019b7cac0172e-7abc-8def-0123456789ab", false},
		{__LINE__, "019b7cac-172e-7abc-8def-01234567-9ab", false},
		{__LINE__, "019b7cac-172e-7abc-8def-0123456789a.", false},
		{__LINE__, "019b7cac-172e-7abc-8def-0123456789a\n", false},
		{__LINE__, "019b7cac-172e-7abc-8def-0123456789ag", false},
		{__LINE__, "{19b7cac-172e-7abc-8def-0123456789a}", false},
		{__LINE__, "", false},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct id id = {""};
		CHECK_ROW(&rows[i], id_parse(rows[i].text, strlen(rows[i].text), &id) == rows[i].is_id);
		CHECK_ROW(&rows[i], id_is_set(&id) == rows[i].is_id);
	}
	CU_ASSERT_FALSE(id_parse(NULL, 0, NULL));
}

static void sixteen_bytes_and_back_are_the_same_id(void)
{
	static const uint8_t bytes[16] = {0x01, 0x9b, 0x7c, 0xac, 0x17, 0x2e, 0x7a, 0xbc,
					  0x8d, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab};
	struct id id = {"019b7cac-172e-7abc-8def-0123456789ab"}, none = {""};
	struct id_bin bin = id_to_bin(&id);
	struct id back = id_from_bin(&bin);

	CU_ASSERT_EQUAL(memcmp(bin.b, bytes, sizeof(bytes)), 0);
	CU_ASSERT_TRUE(id_equal(&id, &back));
	bin = id_to_bin(&none);
	for (size_t i = 0; i < sizeof(bin.b); i++)
		CU_ASSERT_EQUAL(bin.b[i], 0);
}

static CU_TestInfo cases[] = {
	CASE(a_new_id_is_a_version_7_uuid_of_now),
	CASE(ids_grow_when_the_clock_stands_or_goes_back),
	CASE(ids_of_many_threads_differ),
	CASE(only_the_exact_text_form_is_an_id),
	CASE(sixteen_bytes_and_back_are_the_same_id),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"id", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
