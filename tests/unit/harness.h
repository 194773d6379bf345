/* SPDX-License-Identifier: Apache-2.0 */
/* Each test program defines suites[], ended by CU_SUITE_INFO_NULL; harness.c has main. */
#ifndef TESTS_UNIT_HARNESS_H
#define TESTS_UNIT_HARNESS_H

#include <CUnit/CUnit.h>
#include <CUnit/TestDB.h>

extern CU_SuiteInfo suites[];

/* An entry of a suite's cases: the function's name is the sentence. */
/* clang-format off */
#define CASE(sentence) {#sentence, sentence}
/* clang-format on */

/* CU_ASSERT for tables of rows: a failure names the row's line. */
#define CHECK_ROW(row, condition)                                                                                      \
	(void)CU_assertImplementation((condition), (unsigned)(row)->line, #condition, __FILE__, "", CU_FALSE)

#endif
