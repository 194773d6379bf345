/* SPDX-License-Identifier: Apache-2.0 */
#include "fcgi-app/sse.h"

#include <stdio.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/macros.h"
#include "tests/unit/harness.h"

static const struct {
	int line;
	const char *name, *data, *text;
} events[] = {
	{__LINE__, "message", "{}", "event: message\ndata: {}\n\n"},
	{__LINE__, "message", "", "event: message\ndata: \n\n"},
	{__LINE__, "m", "a\nb", "event: m\ndata: a\ndata: b\n\n"},
	{__LINE__, "m", "a\r\nb", "event: m\ndata: a\ndata: b\n\n"},
	{__LINE__, "m", "a\rb", "event: m\ndata: a\ndata: b\n\n"},
	{__LINE__, "m", "a\n\n\nevent: forged", "event: m\ndata: a\ndata: \ndata: \ndata: event: forged\n\n"},
	{__LINE__, "m", "a\n", "event: m\ndata: a\ndata: \n\n"},
	{__LINE__, "m\ndata: x", "a", "event: m\ndata: a\n\n"},
	{__LINE__, "m", "\xf0\x9f\x94\xa5", "event: m\ndata: \xf0\x9f\x94\xa5\n\n"},
};

static void an_event_is_one_event_whatever_its_data(void)
{
	struct buf out;

	buf_init(&out, 4096);
	for (size_t i = 0; i < ARRAY_LEN(events); i++) {
		buf_reset(&out);
		sse_event(&out, events[i].name, strlen(events[i].name), events[i].data, strlen(events[i].data));
		if (strcmp(buf_str(&out), events[i].text) != 0)
			printf("row of line %d: %s\n", events[i].line, buf_str(&out));
		CU_ASSERT_STRING_EQUAL(buf_str(&out), events[i].text);
	}
	buf_clear(&out);
}

static void a_name_is_as_long_as_it_says(void)
{
	struct buf out;

	buf_init(&out, 4096);
	sse_event(&out, "message metadata", 7, "x", 1);
	CU_ASSERT_STRING_EQUAL(buf_str(&out), "event: message\ndata: x\n\n");
	buf_clear(&out);
}

static void a_comment_is_one_line(void)
{
	struct buf out;

	buf_init(&out, 4096);
	sse_comment(&out, "keep-alive");
	sse_comment(&out, "a\ndata: forged");
	CU_ASSERT_STRING_EQUAL(buf_str(&out), ": keep-alive\n\n: a\n\n");
	buf_clear(&out);
}

static CU_TestInfo cases[] = {
	{"an_event_is_one_event_whatever_its_data", an_event_is_one_event_whatever_its_data},
	{"a_name_is_as_long_as_it_says", a_name_is_as_long_as_it_says},
	{"a_comment_is_one_line", a_comment_is_one_line},
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"sse", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
