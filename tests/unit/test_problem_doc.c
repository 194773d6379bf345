/* SPDX-License-Identifier: Apache-2.0 */
#include "fcgi-app/problem_doc.h"

#include <string.h>

#include "core/framework.h"
#include "lib/json.h"
#include "lib/macros.h"
#include "tests/unit/harness.h"

static const char *text_of(const struct jval *doc, const char *key)
{
	const char *s = jval_string(jval_get(doc, key), NULL);

	return s ? s : "(none)";
}

static void every_problem_has_all_members(void)
{
	for (int p = PROBLEM_NONE + 1; p < PROBLEM_COUNT; p++) {
		struct jval *doc =
			problem_doc_new(&(struct problem_doc){.problem = (enum problem)p, .request_id = "r1"});
		CU_ASSERT_EQUAL(jval_int(jval_get(doc, "status")), problem_status((enum problem)p));
		CU_ASSERT_STRING_EQUAL(text_of(doc, "code"), problem_code((enum problem)p));
		CU_ASSERT_STRING_EQUAL(text_of(doc, "title"), problem_title((enum problem)p));
		CU_ASSERT_STRING_EQUAL(text_of(doc, "request_id"), "r1");
		CU_ASSERT_TRUE(strlen(text_of(doc, "detail")) > 8);
		CU_ASSERT_PTR_NOT_NULL(strstr(text_of(doc, "type"), problem_code((enum problem)p)));
		CU_ASSERT_EQUAL(jval_has(doc, "errors"), p == PROBLEM_INVALID);
		CU_ASSERT_FALSE(jval_has(doc, "reason"));
		jval_free(&doc);
	}
}

static void errors_name_field_and_reason(void)
{
	const struct field_error errors[] = {{"name", "is required"}, {"config.prefix", "must be a string"}};
	struct jval *doc =
		problem_doc_new(&(struct problem_doc){.problem = PROBLEM_INVALID, .errors = errors, .error_count = 2});
	const struct jval *list = jval_get(doc, "errors");

	CU_ASSERT_EQUAL(jval_array_len(list), 2);
	CU_ASSERT_STRING_EQUAL(text_of(jval_array_at(list, 1), "field"), "config.prefix");
	CU_ASSERT_STRING_EQUAL(text_of(jval_array_at(list, 1), "reason"), "must be a string");
	jval_free(&doc);
}

static void one_more_member_may_stand_in_it(void)
{
	struct jval *extra = jval_new_array(), *doc;

	jval_push(extra, jval_new_string("x", 1));
	doc = problem_doc_new(
		&(struct problem_doc){.problem = PROBLEM_LLM_CONFIG_IN_USE, .extra_name = "used_by", .extra = extra});
	CU_ASSERT_EQUAL(jval_array_len(jval_get(doc, "used_by")), 1);
	jval_free(&extra);
	CU_ASSERT_EQUAL(jval_array_len(jval_get(doc, "used_by")), 1);
	jval_free(&doc);
}

static void a_detail_of_its_own_goes_first_and_a_reason_is_told(void)
{
	struct jval *doc =
		problem_doc_new(&(struct problem_doc){.problem = PROBLEM_INSTANCE_FAILED, .reason = "no \"model\""});

	CU_ASSERT_STRING_EQUAL(text_of(doc, "reason"), "no \"model\"");
	CU_ASSERT_PTR_NOT_NULL(strstr(text_of(doc, "detail"), "no \"model\""));
	jval_free(&doc);
	doc = problem_doc_new(
		&(struct problem_doc){.problem = PROBLEM_INSTANCE_FAILED, .reason = "r", .detail = "own"});
	CU_ASSERT_STRING_EQUAL(text_of(doc, "detail"), "own");
	jval_free(&doc);
}

static void a_reason_that_is_cut_inside_a_character_is_left_out(void)
{
	char reason[1001];

	for (size_t i = 0; i < 1000; i += 2)
		memcpy(reason + i, "\xc3\xa4", 2);
	reason[1000] = '\0';
	memmove(reason + 1, reason, 999); /* an odd number of bytes before the cut */
	reason[0] = 'x';
	reason[999] = '\0';
	struct jval *doc = problem_doc_new(&(struct problem_doc){.problem = PROBLEM_INSTANCE_FAILED, .reason = reason});
	const char *detail = text_of(doc, "detail");
	CU_ASSERT_TRUE(utf8_is_valid(detail, strlen(detail)));
	jval_free(&doc);
}

static void what_passes_by_itself_says_when_to_come_back(void)
{
	for (int p = PROBLEM_NONE + 1; p < PROBLEM_COUNT; p++) {
		int status = problem_status((enum problem)p);
		CU_ASSERT_EQUAL(problem_retry_after_s((enum problem)p) > 0,
				status == 503 || status == 429 || p == PROBLEM_CONVERSATION_BUSY);
	}
}

static CU_TestInfo cases[] = {
	{"every_problem_has_all_members", every_problem_has_all_members},
	{"errors_name_field_and_reason", errors_name_field_and_reason},
	{"one_more_member_may_stand_in_it", one_more_member_may_stand_in_it},
	{"a_detail_of_its_own_goes_first_and_a_reason_is_told", a_detail_of_its_own_goes_first_and_a_reason_is_told},
	{"a_reason_that_is_cut_inside_a_character_is_left_out", a_reason_that_is_cut_inside_a_character_is_left_out},
	{"what_passes_by_itself_says_when_to_come_back", what_passes_by_itself_says_when_to_come_back},
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"problem_doc", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
