/* SPDX-License-Identifier: Apache-2.0 */
/* Each case turns stderr into a file for the lines it logs, then reads them back. */
#include "lib/log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "tests/unit/harness.h"

static FILE *capture;
static int saved_stderr;
static char captured[65536];

static void capture_start(void)
{
	capture = tmpfile();
	CU_ASSERT_PTR_NOT_NULL_FATAL(capture);
	saved_stderr = dup(STDERR_FILENO);
	(void)dup2(fileno(capture), STDERR_FILENO);
}

static const char *capture_end(void)
{
	(void)dup2(saved_stderr, STDERR_FILENO);
	(void)close(saved_stderr);
	rewind(capture);
	captured[fread(captured, 1, sizeof(captured) - 1, capture)] = '\0';
	(void)fclose(capture);
	return captured;
}

static void open_plain(void)
{
	(void)unsetenv("JOURNAL_STREAM");
	clock_set_for_test(0, 1767323045678);
	log_open("prog", LOG_LEVEL_INFO, LOG_TARGET_STDERR);
}

static void a_line_has_time_level_program_message_and_fields(void)
{
	open_plain();
	capture_start();
	log_info("operation finished", "operation=%d state=%s", 7, "done");
	log_error("no fields", NULL);
	CU_ASSERT_STRING_EQUAL(capture_end(),
			       "2026-01-02T03:04:05.678Z info prog: operation finished operation=7 state=done\n"
			       "2026-01-02T03:04:05.678Z error prog: no fields\n");
}

static void levels_below_the_set_one_are_silent(void)
{
	open_plain();
	capture_start();
	log_debug("a", NULL);
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("b", NULL);
	log_set_level(LOG_LEVEL_ERROR);
	log_warn("c", NULL);
	CU_ASSERT_STRING_EQUAL(capture_end(), "2026-01-02T03:04:05.678Z debug prog: b\n");
}

static void the_context_stands_on_each_line_until_it_ends(void)
{
	open_plain();
	capture_start();
	log_set_context("request=%s", "r\n1");
	log_info("a", "x=1");
	log_set_context(NULL);
	log_info("b", NULL);
	CU_ASSERT_STRING_EQUAL(capture_end(), "2026-01-02T03:04:05.678Z info prog: a request=r?1 x=1\n"
					      "2026-01-02T03:04:05.678Z info prog: b\n");
}

static void outside_text_cannot_forge_a_line(void)
{
	open_plain();
	capture_start();
	log_info("a", "name=%s", "x\n<3>evil\r\x1b[2J\x7f");
	CU_ASSERT_STRING_EQUAL(capture_end(), "2026-01-02T03:04:05.678Z info prog: a name=x?<3>evil??[2J?\n");
}

static void a_long_line_is_cut_but_ends(void)
{
	open_plain();
	capture_start();
	log_info("a", "x=%9000d", 1);
	log_info("b", NULL);
	const char *text = capture_end();
	size_t first = strcspn(text, "\n");
	CU_ASSERT(first > 2000 && first < 2048);
	CU_ASSERT_STRING_EQUAL(text + first, "\n2026-01-02T03:04:05.678Z info prog: b\n");
}

static void the_journal_gets_a_level_prefix_and_no_time(void)
{
	char stream[64];
	struct stat st;

	capture_start();
	(void)fstat(STDERR_FILENO, &st);
	(void)snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		       (unsigned long long)st.st_ino);
	(void)setenv("JOURNAL_STREAM", stream, 1);
	log_open("prog", LOG_LEVEL_DEBUG, LOG_TARGET_STDERR);
	log_debug("d", NULL);
	log_info("i", "x=%d", 1);
	log_warn("w", NULL);
	log_error("e", NULL);
	CU_ASSERT_STRING_EQUAL(capture_end(), "<7>d\n<6>i x=1\n<4>w\n<3>e\n");
}

static void another_stream_than_the_journals_gets_the_time(void)
{
	capture_start();
	(void)setenv("JOURNAL_STREAM", "1:1", 1);
	log_open("prog", LOG_LEVEL_INFO, LOG_TARGET_STDERR);
	log_info("i", NULL);
	CU_ASSERT_PTR_NOT_NULL(strstr(capture_end(), " info prog: i\n"));
}

static void *log_from_a_thread(void *closure)
{
	log_set_context("thread=%d", *(const int *)closure);
	for (int i = 0; i < 100; i++)
		log_info("line", "i=%d", i);
	return NULL;
}

static void threads_keep_their_context_and_their_lines_whole(void)
{
	static const int numbers[] = {1, 2, 3, 4};
	pthread_t threads[ARRAY_LEN(numbers)];
	size_t count = 0;

	open_plain();
	capture_start();
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		(void)pthread_create(&threads[i], NULL, log_from_a_thread, (void *)&numbers[i]);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		(void)pthread_join(threads[i], NULL);
	(void)capture_end();
	for (char *rest = captured, *line; (line = strsep(&rest, "\n")) && *line; count++) {
		int thread, i, end = 0;
		(void)sscanf(line, "2026-01-02T03:04:05.678Z info prog: line thread=%d i=%d%n", &thread, &i, &end);
		CU_ASSERT(end > 0 && line[end] == '\0');
	}
	CU_ASSERT_EQUAL(count, 400);
}

static CU_TestInfo cases[] = {
	CASE(a_line_has_time_level_program_message_and_fields),
	CASE(levels_below_the_set_one_are_silent),
	CASE(the_context_stands_on_each_line_until_it_ends),
	CASE(outside_text_cannot_forge_a_line),
	CASE(a_long_line_is_cut_but_ends),
	CASE(the_journal_gets_a_level_prefix_and_no_time),
	CASE(another_stream_than_the_journals_gets_the_time),
	CASE(threads_keep_their_context_and_their_lines_whole),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"log", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
