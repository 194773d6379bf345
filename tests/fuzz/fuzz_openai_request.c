/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of /v1/chat/completions: what is taken can be sent to a worker and read there; what is not is named. */
#include "fcgi-app/openai_request.h"

#include <string.h>

#include "core/chat_wire.h"
#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/json.h"
#include "tests/fuzz/fuzz.h"

#define WIRE_MAX ((size_t)4 << 20)

static void send(const struct openai_request *asked)
{
	struct chat_request request = {
		.instance_id = {"0192f0c1-0000-7000-8000-000000000001"},
		.org_id = {"0192f0c1-0000-7000-8000-000000000002"},
		.session_id = {"0192f0c1-0000-7000-8000-000000000003"},
		.message = asked->message,
		.message_len = asked->message_len,
		.messages = asked->messages,
		.tools = asked->tools,
		.tool_choice = asked->tool_choice,
		.parameters = asked->parameters,
	};
	struct arena *mem = arena_new(WIRE_MAX);
	struct chat_request back = {0};
	struct buf out;
	struct err e = {0};

	buf_init(&out, WIRE_MAX);
	chat_request_encode(&request, &out);
	MUST(!buf_has_failed(&out));
	MUST(chat_request_parse(out.data, out.len, mem, &back, &e));
	MUST(jval_array_len(back.messages) == jval_array_len(asked->messages));
	MUST(back.message_len == asked->message_len && memcmp(back.message, asked->message, back.message_len) == 0);
	chat_request_clear(&back);
	buf_clear(&out);
	arena_free(&mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct json_limits limits = {.bytes_max = 65536, .depth_max = 32};
	struct openai_request request;
	struct jval *body = NULL;
	const char *param = NULL, *reason = NULL;

	if (!jval_parse((const char *)data, size, &limits, &body, NULL))
		return 0;
	struct arena *mem = arena_new(1 << 20);
	if (openai_request_read(body, mem, &request, &param, &reason)) {
		MUST(request.model[0] != '\0' && jval_array_len(request.messages) > 0);
		send(&request);
	} else {
		MUST(param && reason);
	}
	openai_request_clear(&request);
	jval_free(&body);
	arena_free(&mem);
	return 0;
}
