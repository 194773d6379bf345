/* SPDX-License-Identifier: Apache-2.0 */
#include "core/framework.h"

#include <stdio.h>
#include <string.h>

#include "lib/json.h"
#include "lib/macros.h"
#include "tests/unit/harness.h"

static struct jval *parse(const char *text)
{
	const struct json_limits limits = {.bytes_max = 1 << 20, .depth_max = 16};
	struct jval *root = NULL;
	struct err e;

	CU_ASSERT_TRUE_FATAL(jval_parse(text, strlen(text), &limits, &root, &e));
	return root;
}

static void echo_is_there_and_unknown_names_are_not(void)
{
	const struct framework *f = framework_find(FRAMEWORK_DEFAULT);

	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	CU_ASSERT_PTR_EQUAL(framework_at(0), f);
	CU_ASSERT_STRING_EQUAL(f->modes[0], "single");
	CU_ASSERT_TRUE(framework_has_mode(f, "single"));
	CU_ASSERT_FALSE(framework_has_mode(f, "swarm"));
	CU_ASSERT_FALSE(framework_has_mode(f, NULL));
	CU_ASSERT_PTR_NULL(framework_find("nothing"));
	CU_ASSERT_PTR_NULL(framework_find(NULL));
}

static void every_framework_is_whole_and_fits_its_columns(void)
{
	for (size_t i = 0; framework_at(i); i++) {
		const struct framework *f = framework_at(i);
		CU_ASSERT_PTR_EQUAL(framework_find(f->name), f);
		CU_ASSERT_TRUE(strlen(f->name) <= 32);
		CU_ASSERT_PTR_NOT_NULL_FATAL(f->modes[0]);
		CU_ASSERT_PTR_NOT_NULL(f->check);
		for (size_t m = 0; f->modes[m]; m++)
			CU_ASSERT_TRUE(strlen(f->modes[m]) <= 32);
	}
}

static const struct {
	int line;
	const char *config;
	const char *fields; /* of the errors, blanks between them */
} rows[] = {
	{__LINE__, "{}", ""},
	{__LINE__, "{\"prefix\":\"\",\"word_delay_ms\":0,\"build_delay_ms\":0,\"build_fail\":null}", ""},
	{__LINE__, "{\"prefix\":\"> \",\"word_delay_ms\":60000,\"build_delay_ms\":600000,\"build_fail\":\"no\"}", ""},
	{__LINE__, "{\"perfix\":\"> \",\"delay\":1}", "config.perfix config.delay"},
	{__LINE__, "{\"prefix\":null}", "config.prefix"},
	{__LINE__, "{\"prefix\":7}", "config.prefix"},
	{__LINE__, "{\"word_delay_ms\":-1}", "config.word_delay_ms"},
	{__LINE__, "{\"word_delay_ms\":60001}", "config.word_delay_ms"},
	{__LINE__, "{\"word_delay_ms\":1.5}", "config.word_delay_ms"},
	{__LINE__, "{\"word_delay_ms\":\"5\"}", "config.word_delay_ms"},
	{__LINE__, "{\"build_delay_ms\":600001}", "config.build_delay_ms"},
	{__LINE__, "{\"build_fail\":\"\"}", "config.build_fail"},
	{__LINE__, "{\"build_fail\":true}", "config.build_fail"},
	{__LINE__, "{\"prefix\":[],\"word_delay_ms\":null,\"build_delay_ms\":{},\"build_fail\":0}",
	 "config.prefix config.word_delay_ms config.build_delay_ms config.build_fail"},
};

/* "field.member field …" */
static void check_row(const char *framework, int line, const char *text, const char *wanted)
{
	struct jval *config = parse(text);
	struct field_error errors[8];
	char fields[400] = "";
	size_t count = framework_find(framework)->check(config, errors, ARRAY_LEN(errors));

	for (size_t j = 0; j < count; j++) {
		size_t used = strlen(fields);
		(void)snprintf(fields + used, sizeof(fields) - used, "%s%s%s%s", j ? " " : "", errors[j].field,
			       errors[j].member ? "." : "", errors[j].member ? errors[j].member : "");
		CU_ASSERT_TRUE(strlen(errors[j].reason) > 0);
	}
	if (strcmp(fields, wanted) != 0)
		printf("line %d: '%s'\n", line, fields);
	CU_ASSERT_STRING_EQUAL(fields, wanted);
	jval_free(&config);
}

static void echo_names_each_wrong_field(void)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		check_row("echo", rows[i].line, rows[i].config, rows[i].fields);
}

/* Beside what each must have. */
static const struct {
	int line;
	const char *config;
	const char *fields;
} agent_rows[] = {
	{__LINE__, "\"tools\":[]", ""},
	{__LINE__, "\"systemprompt\":\"x\",\"temperature\":1", "config.systemprompt config.temperature"},
	{__LINE__, "\"system_prompt\":7,\"probe\":\"maybe\"", "config.system_prompt config.probe"},
	{__LINE__, "\"parameters\":{\"model\":\"x\",\"stream\":null,\"top_k\":5}",
	 "config.parameters.model config.parameters.stream"},
	{__LINE__, "\"parameters\":[]", "config.parameters"},
	{__LINE__, "\"tools\":[\"shell\"]", "config.tools"},
	{__LINE__, "\"tools\":[\"calculator\",\"calculator\"]", "config.tools"},
	{__LINE__, "\"tools\":[\"fetch_url\"]", "config.fetch_url.allow"},
	{__LINE__, "\"fetch_url\":7", "config.fetch_url"},
	{__LINE__, "\"fetch_url\":{\"allow\":[\"https://a.example/\"],\"deny\":[]}", "config.fetch_url.deny"},
	{__LINE__, "\"limits\":{\"hops\":51,\"hop\":1,\"seconds\":0}",
	 "config.limits.hop config.limits.hops config.limits.seconds"},
	{__LINE__, "\"limits\":[],\"history\":{\"words\":1}", "config.limits config.history.words"},
	{__LINE__, "\"history\":{\"messages\":1001,\"tokens\":0}", "config.history.messages config.history.tokens"},
	{__LINE__, "\"openai\":{\"parameters\":[\"top_k\"],\"client_tools\":1,\"x\":1}",
	 "config.openai.x config.openai.parameters config.openai.client_tools"},
};

static void an_agent_names_each_wrong_field(void)
{
	char text[512];

	for (size_t i = 0; i < ARRAY_LEN(agent_rows); i++) {
		(void)snprintf(text, sizeof(text),
			       "{\"llm_config_id\":\"01a221d8-bfe3-77e8-9e2a-24e2bc1bada7\",\"model\":\"m\",%s}",
			       agent_rows[i].config);
		check_row("agent", agent_rows[i].line, text, agent_rows[i].fields);
	}
	check_row("agent", __LINE__, "{}", "config.llm_config_id config.model");
	check_row("agent", __LINE__, "{\"llm_config_id\":\"x\",\"model\":\"\"}", "config.llm_config_id config.model");
}

static void errors_beyond_the_room_are_counted(void)
{
	struct jval *config = parse("{\"prefix\":0,\"build_fail\":0}");
	struct field_error errors[2] = {{.field = ""}, {.field = "mine"}};

	CU_ASSERT_EQUAL(framework_find("echo")->check(config, errors, 1), 2);
	CU_ASSERT_STRING_EQUAL(errors[0].field, "config.prefix");
	CU_ASSERT_STRING_EQUAL(errors[1].field, "mine");
	CU_ASSERT_EQUAL(framework_find("echo")->check(config, NULL, 0), 2);
	jval_free(&config);
}

static void echo_reads_its_configuration_with_defaults(void)
{
	struct jval *full = parse("{\"prefix\":\"> \",\"word_delay_ms\":5,\"build_delay_ms\":6,\"build_fail\":\"no\"}");
	struct jval *empty = parse("{\"build_fail\":null}");
	struct echo_config c;

	echo_config_read(full, &c);
	CU_ASSERT_STRING_EQUAL(c.prefix, "> ");
	CU_ASSERT_EQUAL(c.word_delay_ms, 5);
	CU_ASSERT_EQUAL(c.build_delay_ms, 6);
	CU_ASSERT_STRING_EQUAL(c.build_fail, "no");
	echo_config_read(empty, &c);
	CU_ASSERT_STRING_EQUAL(c.prefix, "");
	CU_ASSERT_EQUAL(c.word_delay_ms, 0);
	CU_ASSERT_EQUAL(c.build_delay_ms, 0);
	CU_ASSERT_PTR_NULL(c.build_fail);
	jval_free(&full);
	jval_free(&empty);
}

static void the_llm_config_of_an_agent_is_found(void)
{
	static const struct {
		int line;
		const char *framework, *config, *expected;
	} found[] = {
		{__LINE__, "agent", "{\"llm_config_id\":\"01a221d8-bfe3-77e8-9e2a-24e2bc1bada7\",\"model\":\"m\"}",
		 "01a221d8-bfe3-77e8-9e2a-24e2bc1bada7"},
		{__LINE__, "echo", "{\"llm_config_id\":\"01a221d8-bfe3-77e8-9e2a-24e2bc1bada7\"}", ""},
		{__LINE__, "agent", "{}", ""},
		{__LINE__, "agent", "{\"llm_config_id\":7}", ""},
		{__LINE__, "agent", "{\"llm_config_id\":\"01a221d8\"}", ""},
		{__LINE__, "agent", "[", ""},
	};

	for (size_t i = 0; i < ARRAY_LEN(found); i++)
		CHECK_ROW(&found[i], strcmp(framework_llm_config_of(found[i].framework, found[i].config).text,
					    found[i].expected) == 0);
}

static CU_TestInfo cases[] = {
	CASE(echo_is_there_and_unknown_names_are_not),
	CASE(every_framework_is_whole_and_fits_its_columns),
	CASE(echo_names_each_wrong_field),
	CASE(an_agent_names_each_wrong_field),
	CASE(errors_beyond_the_room_are_counted),
	CASE(the_llm_config_of_an_agent_is_found),
	CASE(echo_reads_its_configuration_with_defaults),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{.pName = "framework", .pTests = cases},
	CU_SUITE_INFO_NULL,
};
