/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words of each set are compared with the ENUM of its column, as it stands
 * in schema/001_init.sql, so neither can change alone.
 */
#include "core/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/macros.h"
#include "tests/unit/harness.h"

static char *schema;

static int read_schema(void)
{
	const char *srcdir = getenv("srcdir");
	char path[4096];
	static char text[64 * 1024];

	(void)snprintf(path, sizeof(path), "%s/schema/001_init.sql", srcdir ? srcdir : ".");
	FILE *file = fopen(path, "r");
	if (!file)
		return 1;
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	(void)fclose(file);
	schema = text;
	return 0;
}

/* ENUM('a','b') as the names of 0, 1, … until one is unknown. */
#define ENUM_OF(word, out)                                                                                             \
	do {                                                                                                           \
		buf_append_str(out, "ENUM(");                                                                          \
		for (int i = 0; strcmp(word##_name((enum word)i), "unknown") != 0; i++)                                \
			buf_printf(out, "%s'%s'", i > 0 ? "," : "", word##_name((enum word)i));                        \
		buf_append_str(out, ")");                                                                              \
	} while (0)

#define CHECK_COLUMN(word, table, column)                                                                              \
	do {                                                                                                           \
		struct buf expected;                                                                                   \
		buf_init(&expected, 1024);                                                                             \
		ENUM_OF(word, &expected);                                                                              \
		check_column(table, column, buf_str(&expected));                                                       \
		buf_clear(&expected);                                                                                  \
	} while (0)

static void check_column(const char *table, const char *column, const char *expected)
{
	char head[64];

	(void)snprintf(head, sizeof(head), "CREATE TABLE %s (", table);
	const char *at = strstr(schema, head);
	CU_ASSERT_PTR_NOT_NULL_FATAL(at);
	(void)snprintf(head, sizeof(head), "\n  %s ", column);
	at = strstr(at, head);
	CU_ASSERT_PTR_NOT_NULL_FATAL(at);
	at += strlen(head);
	at += strspn(at, " ");
	CU_ASSERT_EQUAL(strncmp(at, expected, strlen(expected)), 0);
}

static void each_set_equals_its_columns(void)
{
	CHECK_COLUMN(status, "organizations", "status");
	CHECK_COLUMN(role, "api_tokens", "role");
	CHECK_COLUMN(status, "orchestrator_instances", "status");
	CHECK_COLUMN(tier, "orchestrator_instances", "tier");
	CHECK_COLUMN(desired, "orchestrator_instances", "desired_state");
	CHECK_COLUMN(action, "operations", "action");
	CHECK_COLUMN(tier, "operations", "tier");
	CHECK_COLUMN(source, "operations", "source");
	CHECK_COLUMN(op_state, "operations", "state");
	CHECK_COLUMN(tier, "placements", "tier");
	CHECK_COLUMN(place_state, "placements", "state");
}

/* Each word parses to itself, and how many there are. */
#define COUNT_ROUND_TRIPS(word)                                                                                        \
	static int count_##word(void)                                                                                  \
	{                                                                                                              \
		int i = 0;                                                                                             \
		for (; strcmp(word##_name((enum word)i), "unknown") != 0; i++) {                                       \
			enum word v = (enum word)(i + 1);                                                              \
			CU_ASSERT_TRUE(word##_parse(word##_name((enum word)i), &v));                                   \
			CU_ASSERT_EQUAL((int)v, i);                                                                    \
		}                                                                                                      \
		return i;                                                                                              \
	}

COUNT_ROUND_TRIPS(tier)
COUNT_ROUND_TRIPS(status)
COUNT_ROUND_TRIPS(desired)
COUNT_ROUND_TRIPS(role)
COUNT_ROUND_TRIPS(action)
COUNT_ROUND_TRIPS(source)
COUNT_ROUND_TRIPS(op_state)
COUNT_ROUND_TRIPS(place_state)

static void every_word_parses_to_itself(void)
{
	CU_ASSERT_EQUAL(count_tier(), 2);
	CU_ASSERT_EQUAL(count_status(), 2);
	CU_ASSERT_EQUAL(count_desired(), 2);
	CU_ASSERT_EQUAL(count_role(), 3);
	CU_ASSERT_EQUAL(count_action(), 3);
	CU_ASSERT_EQUAL(count_source(), 7);
	CU_ASSERT_EQUAL(count_op_state(), 5);
	CU_ASSERT_EQUAL(count_place_state(), 4);
	CU_ASSERT_STRING_EQUAL(app_state_name(APP_UNLOADED), "unloaded");
	CU_ASSERT_STRING_EQUAL(app_state_name(APP_FAILED), "failed");
}

static void other_words_are_refused_and_leave_the_output(void)
{
	static const char *const bad[] = {NULL, "", "Hot", "hot ", "ho", "hott", "unknown"};
	enum tier v = TIER_DEMAND;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		CU_ASSERT_FALSE(tier_parse(bad[i], &v));
	CU_ASSERT_EQUAL(v, TIER_DEMAND);
}

static void a_value_outside_the_set_has_no_name(void)
{
	CU_ASSERT_STRING_EQUAL(tier_name((enum tier)(-1)), "unknown");
	CU_ASSERT_STRING_EQUAL(app_state_name((enum app_state)99), "unknown");
}

static void open_operations_are_those_without_an_outcome(void)
{
	CU_ASSERT_TRUE(op_is_open(OP_ACCEPTED));
	CU_ASSERT_TRUE(op_is_open(OP_RUNNING));
	CU_ASSERT_FALSE(op_is_open(OP_SUCCEEDED));
	CU_ASSERT_FALSE(op_is_open(OP_FAILED));
	CU_ASSERT_FALSE(op_is_open(OP_SUPERSEDED));
}

static CU_TestInfo cases[] = {
	CASE(each_set_equals_its_columns),
	CASE(every_word_parses_to_itself),
	CASE(other_words_are_refused_and_leave_the_output),
	CASE(a_value_outside_the_set_has_no_name),
	CASE(open_operations_are_those_without_an_outcome),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{.pName = "names", .pInitFunc = read_schema, .pTests = cases},
	CU_SUITE_INFO_NULL,
};
