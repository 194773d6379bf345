/* SPDX-License-Identifier: Apache-2.0 */
/* What a body of /v1/chat/completions becomes. Whether it is taken at all is fuzzed, and told in a story. */
#include "fcgi-app/openai_request.h"

#include <stdlib.h>
#include <string.h>

#include "lib/arena.h"
#include "lib/json.h"
#include "lib/xalloc.h"
#include "tests/unit/harness.h"

#define PART_BYTES ((size_t)1024 * 1024)

static void add_part(struct jval *content, const char *text, size_t len)
{
	struct jval *part = jval_new_object();

	jval_add_string(part, "type", "text");
	jval_add(part, "text", jval_new_string(text, len));
	jval_push(content, part);
}

/* Of one message. */
static struct jval *body_with(struct jval *content)
{
	struct jval *body = jval_new_object(), *messages = jval_new_array(), *message = jval_new_object();

	jval_add_string(message, "role", "assistant");
	jval_add(message, "content", content);
	jval_push(messages, message);
	jval_add_string(body, "model", "m");
	jval_add(body, "messages", messages);
	return body;
}

/* How much an application takes is the operator's; what is too much for the bus is refused there. */
static void parts_become_one_text_however_long_they_are(void)
{
	struct jval *content = jval_new_array(), *body = body_with(content);
	struct arena *mem = arena_new(1 << 20);
	struct openai_request request;
	const char *param = NULL, *reason = NULL, *text;
	char *part = xmalloc(PART_BYTES);
	size_t len = 0;

	memset(part, 'x', PART_BYTES);
	add_part(content, "first", 5);
	add_part(content, part, PART_BYTES);
	add_part(content, part, PART_BYTES);
	add_part(content, "last", 4);
	CU_ASSERT_TRUE_FATAL(openai_request_read(body, mem, &request, &param, &reason));
	text = jval_string(jval_get(jval_array_at(request.messages, 0), "content"), &len);
	CU_ASSERT_EQUAL_FATAL(len, 2 * PART_BYTES + 9);
	CU_ASSERT_EQUAL(memcmp(text, "firstx", 6), 0);
	CU_ASSERT_STRING_EQUAL(text + len - 5, "xlast");
	openai_request_clear(&request);
	jval_free(&body);
	arena_free(&mem);
	free(part);
}

static CU_TestInfo cases[] = {
	CASE(parts_become_one_text_however_long_they_are),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"openai_request", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
