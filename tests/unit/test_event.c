/* SPDX-License-Identifier: Apache-2.0 */
#include "core/event.h"

#include <stdio.h>
#include <string.h>

#include "core/operation.h"
#include "lib/buf.h"
#include "lib/macros.h"
#include "tests/unit/harness.h"

#define ORG "0192f0c1-0000-7000-8000-000000000001"
#define APP "0192f0c1-0000-7000-8000-000000000002"
#define OP "0192f0c1-0000-7000-8000-000000000003"
#define SUBJECT "hearth.load." ORG "." APP
#define HEAD "{\"v\":1,\"operation_id\":\"" OP "\",\"instance_id\":\"" APP "\",\"org_id\":\"" ORG "\""
#define WORDS ",\"action\":\"load\",\"tier\":\"hot\",\"generation\":7,\"source\":\"api_load\""

static const struct operation op = {
	.operation_id = {OP},
	.instance_id = {APP},
	.org_id = {ORG},
	.action = ACTION_LOAD,
	.tier = TIER_HOT,
	.generation = 7,
	.source = SOURCE_API_LOAD,
	.request_id = "req-1",
};

static void subjects_name_org_and_app(void)
{
	const struct id org = {ORG}, app = {APP}, none = {""};
	char subject[EVENT_SUBJECT_SIZE];

	event_subject(EVENT_LOAD, &org, &app, subject);
	CU_ASSERT_STRING_EQUAL(subject, SUBJECT);
	event_subject(EVENT_REPORT, &org, &app, subject);
	CU_ASSERT_STRING_EQUAL(subject, "hearth.event." ORG "." APP);
	event_subject(EVENT_CHANGE, &org, &none, subject);
	CU_ASSERT_STRING_EQUAL(subject, "hearth.change." ORG "._all");
	event_subject(EVENT_CHANGE, NULL, NULL, subject);
	CU_ASSERT_STRING_EQUAL(subject, "hearth.change._all._all");
}

static void the_json_is_the_contract(void)
{
	struct event event;
	struct buf out;

	buf_init(&out, EVENT_BYTES_MAX);
	event_of_operation(&op, &event);
	event_encode(&event, &out);
	CU_ASSERT_STRING_EQUAL(buf_str(&out), HEAD WORDS ",\"request_id\":\"req-1\"}");
	buf_clear(&out);
}

static void what_is_encoded_parses_back(void)
{
	struct event event, back;
	struct buf out;
	struct err e;

	buf_init(&out, EVENT_BYTES_MAX);
	event_of_operation(&op, &event);
	(void)snprintf(event.state, sizeof(event.state), "failed");
	memset(event.reason, '\n', sizeof(event.reason) - 1);
	event_encode(&event, &out);
	CU_ASSERT_FALSE(buf_has_failed(&out));
	CU_ASSERT_TRUE_FATAL(event_parse(SUBJECT, out.data, out.len, &back, &e));
	CU_ASSERT_EQUAL(memcmp(&event, &back, sizeof(event)), 0);
	buf_clear(&out);
}

static void an_event_for_many_apps_has_null_ids(void)
{
	struct event event = {.org_id = {ORG}, .action = ACTION_UNLOAD, .source = SOURCE_STATUS_CHANGE}, back;
	struct buf out;
	struct err e;

	buf_init(&out, EVENT_BYTES_MAX);
	event_encode(&event, &out);
	CU_ASSERT_PTR_NOT_NULL(strstr(buf_str(&out), "\"operation_id\":null,\"instance_id\":null"));
	CU_ASSERT_TRUE_FATAL(event_parse("hearth.change." ORG "._all", out.data, out.len, &back, &e));
	CU_ASSERT_FALSE(id_is_set(&back.instance_id));
	CU_ASSERT_TRUE(id_is_set(&back.org_id));
	buf_clear(&out);
}

static void a_text_cut_within_a_character_loses_it(void)
{
	struct event event, back;
	struct buf out;
	struct err e;

	buf_init(&out, EVENT_BYTES_MAX);
	event_of_operation(&op, &event);
	(void)snprintf(event.reason, sizeof(event.reason), "na\xc3\xaf\xe2\x82");
	event_encode(&event, &out);
	CU_ASSERT_TRUE_FATAL(event_parse(SUBJECT, out.data, out.len, &back, &e));
	CU_ASSERT_STRING_EQUAL(back.reason, "na\xc3\xaf");
	buf_clear(&out);
}

static const struct {
	int line;
	bool is_good;
	const char *subject, *data;
} rows[] = {
	{__LINE__, true, SUBJECT, HEAD WORDS "}"},
	{__LINE__, true, "hearth.event." ORG "." APP, HEAD WORDS "}"},
	{__LINE__, true, SUBJECT, HEAD WORDS ",\"later\":{\"a\":[1]},\"request_id\":null}"},
	{__LINE__, true, "hearth.change._all._all", "{\"v\":1" WORDS "}"},
	{__LINE__, false, "hearth.load." ORG "." ORG, HEAD WORDS "}"},
	{__LINE__, false, "hearth.load." APP "." ORG, HEAD WORDS "}"},
	{__LINE__, false, "hearth.chat." APP, HEAD WORDS "}"},
	{__LINE__, false, SUBJECT ".x", HEAD WORDS "}"},
	{__LINE__, false, "", HEAD WORDS "}"},
	{__LINE__, false, SUBJECT, ""},
	{__LINE__, false, SUBJECT, "[]"},
	{__LINE__, false, SUBJECT, "null"},
	{__LINE__, false, SUBJECT, "{\"v\":1}"},
	{__LINE__, false, SUBJECT, HEAD WORDS},
	{__LINE__, false, SUBJECT, "{\"v\":2,\"instance_id\":\"" APP "\",\"org_id\":\"" ORG "\"" WORDS "}"},
	{__LINE__, false, SUBJECT, "{\"v\":1,\"instance_id\":\"*\",\"org_id\":\"" ORG "\"" WORDS "}"},
	{__LINE__, false, SUBJECT, "{\"v\":1,\"instance_id\":3,\"org_id\":\"" ORG "\"" WORDS "}"},
	{__LINE__, false, SUBJECT, HEAD ",\"action\":\"x\",\"tier\":\"hot\",\"generation\":7,\"source\":\"api_load\"}"},
	{__LINE__, false, SUBJECT, HEAD ",\"action\":\"load\",\"tier\":1,\"generation\":7,\"source\":\"api_load\"}"},
	{__LINE__, false, SUBJECT, HEAD ",\"action\":\"load\",\"tier\":\"hot\",\"generation\":7}"},
	{__LINE__, false, SUBJECT,
	 HEAD ",\"action\":\"load\",\"tier\":\"hot\",\"generation\":-1,\"source\":\"api_load\"}"},
	{__LINE__, false, SUBJECT,
	 HEAD ",\"action\":\"load\",\"tier\":\"hot\",\"generation\":\"7\",\"source\":\"api_load\"}"},
	{__LINE__, false, SUBJECT, HEAD WORDS ",\"state\":\"a-word-that-is-too-long\"}"},
	{__LINE__, false, SUBJECT, HEAD WORDS ",\"reason\":7}"},
};

static void an_event_is_taken_only_whole_and_on_its_subject(void)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct event event = {.generation = 99};
		struct err e = {0};
		bool ok = event_parse(rows[i].subject, rows[i].data, strlen(rows[i].data), &event, &e);
		if (ok != rows[i].is_good)
			printf("line %d: %s\n", rows[i].line, e.text);
		CU_ASSERT_EQUAL(ok, rows[i].is_good);
		CU_ASSERT_EQUAL(e.code, rows[i].is_good ? ERR_NONE : ERR_INPUT);
		CU_ASSERT_EQUAL(event.generation, ok ? 7 : 99);
	}
}

static void too_long_is_broken_too(void)
{
	static char data[EVENT_BYTES_MAX + 2];
	struct event event;
	struct err e;

	memset(data, ' ', sizeof(data));
	memcpy(data, HEAD WORDS "}", strlen(HEAD WORDS "}"));
	CU_ASSERT_TRUE(event_parse(SUBJECT, data, EVENT_BYTES_MAX, &event, &e));
	CU_ASSERT_FALSE(event_parse(SUBJECT, data, EVENT_BYTES_MAX + 1, &event, &e));
	CU_ASSERT_EQUAL(e.code, ERR_INPUT);
}

static void a_repeat_has_its_own_message_id(void)
{
	const struct id id = {OP};
	char msg_id[EVENT_MSG_ID_SIZE];

	event_msg_id(&id, 0, msg_id);
	CU_ASSERT_STRING_EQUAL(msg_id, OP);
	event_msg_id(&id, 4294967295u, msg_id);
	CU_ASSERT_STRING_EQUAL(msg_id, OP ".4294967295");
}

static CU_TestInfo cases[] = {
	CASE(subjects_name_org_and_app),
	CASE(the_json_is_the_contract),
	CASE(what_is_encoded_parses_back),
	CASE(an_event_for_many_apps_has_null_ids),
	CASE(a_text_cut_within_a_character_loses_it),
	CASE(an_event_is_taken_only_whole_and_on_its_subject),
	CASE(too_long_is_broken_too),
	CASE(a_repeat_has_its_own_message_id),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{.pName = "event", .pTests = cases},
	CU_SUITE_INFO_NULL,
};
