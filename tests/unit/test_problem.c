/* SPDX-License-Identifier: Apache-2.0 */
#include "core/problem.h"

#include <stdio.h>
#include <string.h>

#include "lib/macros.h"
#include "tests/unit/harness.h"

/* What clients were promised. */
static const struct {
	int line, status;
	const char *codes; /* blanks between them */
} promised[] = {
	{__LINE__, 200, "ok"},
	{__LINE__, 400, "bad_json"},
	{__LINE__, 413, "too_large"},
	{__LINE__, 415, "unsupported_type"},
	{__LINE__, 422, "invalid"},
	{__LINE__, 401, "unauthorized"},
	{__LINE__, 403, "forbidden org_mismatch instance_forbidden"},
	{__LINE__, 404, "not_found org_not_found instance_not_found operation_not_found token_not_found"},
	{__LINE__, 404, "llm_config_not_found conversation_not_found version_not_found"},
	{__LINE__, 410, "instance_deleted"},
	{__LINE__, 405, "method_not_allowed"},
	{__LINE__, 409, "org_suspended instance_suspended quota_instances quota_hot name_taken"},
	{__LINE__, 409, "quota_llm_configs llm_config_in_use no_sealing_key"},
	{__LINE__, 409, "conversation_busy"},
	{__LINE__, 429, "too_many_turns provider_limited"},
	{__LINE__, 500, "turn_limit"},
	{__LINE__, 502, "provider_failed provider_refused"},
	{__LINE__, 503, "provider_unavailable"},
	{__LINE__, 503, "db_unavailable bus_unavailable outcome_unknown instance_not_loaded instance_loading"},
	{__LINE__, 503, "instance_failed worker_unresponsive busy"},
	{__LINE__, 504, "turn_timeout provider_timeout"},
	{__LINE__, 500, "internal"},
};

static int check_codes(int line, const char *codes, int status)
{
	char list[200];
	int count = 0;
	enum problem p;

	(void)snprintf(list, sizeof(list), "%s", codes);
	for (char *rest = list, *code; (code = strsep(&rest, " "));) {
		if (problem_parse(code, &p) && problem_status(p) == status && strcmp(problem_code(p), code) == 0)
			count++;
		else
			printf("line %d: %s is not %d\n", line, code, status);
	}
	return count;
}

static void every_code_has_its_promised_status(void)
{
	int count = 0;

	for (size_t i = 0; i < ARRAY_LEN(promised); i++)
		count += check_codes(promised[i].line, promised[i].codes, promised[i].status);
	CU_ASSERT_EQUAL(count, PROBLEM_COUNT);
}

static void every_problem_has_a_code_that_fits_the_audit_log(void)
{
	for (int i = 0; i < PROBLEM_COUNT; i++) {
		enum problem p = PROBLEM_COUNT;
		CU_ASSERT_TRUE(problem_parse(problem_code((enum problem)i), &p));
		CU_ASSERT_EQUAL((int)p, i);
		CU_ASSERT_TRUE(strlen(problem_code(p)) <= 32);
		CU_ASSERT_TRUE(strlen(problem_title(p)) > 0);
	}
}

static void an_unknown_code_is_refused_and_an_unknown_problem_is_internal(void)
{
	enum problem p = PROBLEM_BUSY;

	CU_ASSERT_FALSE(problem_parse(NULL, &p));
	CU_ASSERT_FALSE(problem_parse("", &p));
	CU_ASSERT_FALSE(problem_parse("BUSY", &p));
	CU_ASSERT_EQUAL(p, PROBLEM_BUSY);
	CU_ASSERT_EQUAL(problem_status(PROBLEM_COUNT), 500);
	CU_ASSERT_STRING_EQUAL(problem_code((enum problem)(-1)), "internal");
}

static const struct {
	enum err_code code;
	enum problem problem;
} told[] = {
	{ERR_NONE, PROBLEM_NONE},
	{ERR_INPUT, PROBLEM_INVALID},
	{ERR_DENIED, PROBLEM_DB_UNAVAILABLE},
	{ERR_MISSING, PROBLEM_DB_UNAVAILABLE},
	{ERR_CONFLICT, PROBLEM_BUSY},
	{ERR_LIMIT, PROBLEM_TOO_LARGE},
	{ERR_BUSY, PROBLEM_BUSY},
	{ERR_TIMEOUT, PROBLEM_BUSY},
	{ERR_DOWN, PROBLEM_DB_UNAVAILABLE},
	{ERR_UNCERTAIN, PROBLEM_OUTCOME_UNKNOWN},
	{ERR_INTERNAL, PROBLEM_INTERNAL},
	{(enum err_code)99, PROBLEM_INTERNAL},
};

static void every_error_has_one_answer(void)
{
	for (size_t i = 0; i < ARRAY_LEN(told); i++) {
		struct err e = {.code = told[i].code, .text = "not for clients"};
		CU_ASSERT_EQUAL(problem_of_err(&e), told[i].problem);
	}
}

static CU_TestInfo cases[] = {
	CASE(every_code_has_its_promised_status),
	CASE(every_problem_has_a_code_that_fits_the_audit_log),
	CASE(an_unknown_code_is_refused_and_an_unknown_problem_is_internal),
	CASE(every_error_has_one_answer),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{.pName = "problem", .pTests = cases},
	CU_SUITE_INFO_NULL,
};
