/* SPDX-License-Identifier: Apache-2.0 */
/* A chat's messages: the same bytes as a request and as a reply. */
#include "core/chat_wire.h"

#include <string.h>

#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/json.h"
#include "tests/fuzz/fuzz.h"

#define UNTOUCHED 0xa5
#define MEMORY_MAX (4 * CHAT_MESSAGE_BYTES_MAX)
#define ENCODED_MAX (8 * CHAT_MESSAGE_BYTES_MAX)

static bool is_same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static void check_request(const struct chat_request *request)
{
	struct arena *mem = arena_new(MEMORY_MAX);
	struct chat_request again;
	struct buf out;
	struct err e = {0};
	struct id id;

	MUST(id_parse(request->instance_id.text, strlen(request->instance_id.text), &id));
	MUST(id_parse(request->org_id.text, strlen(request->org_id.text), &id));
	MUST(id_parse(request->session_id.text, strlen(request->session_id.text), &id));
	MUST(request->message_len <= CHAT_MESSAGE_BYTES_MAX && strlen(request->message) == request->message_len &&
	     utf8_is_valid(request->message, request->message_len));
	buf_init(&out, ENCODED_MAX);
	chat_request_encode(request, &out);
	MUST(!buf_has_failed(&out));
	MUST(chat_request_parse(out.data, out.len, mem, &again, &e));
	MUST(id_equal(&again.instance_id, &request->instance_id) && id_equal(&again.org_id, &request->org_id) &&
	     id_equal(&again.session_id, &request->session_id));
	MUST(again.stream == request->stream && again.deadline_unix_ms == request->deadline_unix_ms);
	MUST(is_same_text(again.request_id, request->request_id));
	MUST(again.message_len == request->message_len && strcmp(again.message, request->message) == 0);
	buf_clear(&out);
	arena_free(&mem);
}

static void check_reply(const uint8_t *data, size_t size, const struct chat_reply *reply)
{
	struct chat_reply again;
	char *arg = strndup(reply->arg, reply->arg_len);
	struct buf out;
	struct err e = {0};

	MUST(reply->arg_len > 0 && !memchr(reply->arg, ' ', reply->arg_len) &&
	     !memchr(reply->arg, '\n', reply->arg_len));
	MUST((const uint8_t *)reply->body + reply->body_len == data + size);
	MUST(reply->kind != CHAT_END || (reply->status >= 200 && reply->status <= 599));
	buf_init(&out, size + 64);
	chat_reply_encode(reply->n, reply->kind, arg, reply->body, reply->body_len, &out);
	MUST(arg && !buf_has_failed(&out));
	if (strlen(arg) == reply->arg_len && *arg) { /* our own never hold a NUL */
		MUST(chat_reply_parse(out.data, out.len, &again, &e));
		MUST(again.n == reply->n && again.kind == reply->kind && again.status == reply->status);
		MUST(again.body_len == reply->body_len && memcmp(again.body, reply->body, again.body_len) == 0);
	}
	buf_clear(&out);
	free(arg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *mem = arena_new(MEMORY_MAX);
	struct chat_request request, untouched_request;
	struct chat_reply reply, untouched_reply;
	struct err e = {0};

	memset(&request, UNTOUCHED, sizeof(request));
	memset(&untouched_request, UNTOUCHED, sizeof(request));
	memset(&reply, UNTOUCHED, sizeof(reply));
	memset(&untouched_reply, UNTOUCHED, sizeof(reply));
	if (chat_request_parse((const char *)data, size, mem, &request, &e))
		check_request(&request);
	else
		MUST(e.code == ERR_INPUT && memcmp(&request, &untouched_request, sizeof(request)) == 0);
	if (chat_reply_parse((const char *)data, size, &reply, &e))
		check_reply(data, size, &reply);
	else
		MUST(e.code == ERR_INPUT && memcmp(&reply, &untouched_reply, sizeof(reply)) == 0);
	arena_free(&mem);
	return 0;
}
