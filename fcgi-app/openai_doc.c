/* SPDX-License-Identifier: Apache-2.0 */
/* The shapes of that API, built anew: nothing a worker sent is passed on unread. */
#include "fcgi-app/openai_doc.h"

#include <string.h>

#include "fcgi-app/sse.h"
#include "lib/buf.h"
#include "lib/json.h"

#define MESSAGE_BYTES_MAX 4096 /* of an error; those that we write are a sentence or two */

/* --- errors --- */

int openai_status(enum problem problem)
{
	int status = problem_status(problem);

	if (problem == PROBLEM_PROVIDER_REFUSED) /* clients try a 5xx again */
		return 400;
	switch (status) {
	case 422:
		return 400;
	case 409: /* clients try a conflict again; these do not go away by themselves */
		return 403;
	case 410:
		return 404;
	default:
		return status;
	}
}

static const char *type_of(int status)
{
	switch (status) {
	case 401:
		return "authentication_error";
	case 403:
		return "permission_error";
	case 429:
		return "rate_limit_error";
	default:
		return status >= 500 ? "server_error" : "invalid_request_error";
	}
}

static const char *code_of(enum problem problem)
{
	if (problem == PROBLEM_UNAUTHORIZED)
		return "invalid_api_key";
	if (problem == PROBLEM_INSTANCE_NOT_FOUND || problem == PROBLEM_INSTANCE_DELETED)
		return "model_not_found";
	return problem_code(problem);
}

/* Clients show the message alone, so the parameter stands in it. */
struct jval *openai_error(enum problem problem, const char *detail, const char *param)
{
	struct jval *root = jval_new_object(), *error = jval_new_object(), *message;
	struct buf text;

	buf_init(&text, MESSAGE_BYTES_MAX);
	if (param && *param)
		buf_printf(&text, "%s: ", param);
	buf_append_str(&text, detail ? detail : problem_title(problem));
	message = jval_new_string(buf_str(&text), text.len);
	buf_clear(&text);
	jval_add(error, "message", message);
	jval_add_string(error, "type", type_of(openai_status(problem)));
	jval_add_string(error, "param", param);
	jval_add_string(error, "code", code_of(problem));
	jval_add(root, "error", error);
	return root;
}

/* --- completions --- */

static struct jval *frame_value(const struct openai_frame *frame, const char *object)
{
	struct jval *root = jval_new_object();

	jval_add_string(root, "id", frame->id);
	jval_add_string(root, "object", object);
	jval_add_int(root, "created", frame->created_unix_s);
	jval_add_string(root, "model", frame->model);
	return root;
}

static void add_choice(struct jval *root, const char *name, struct jval *content, const char *finish)
{
	struct jval *choice = jval_new_object(), *choices = jval_new_array();

	jval_add_int(choice, "index", 0);
	jval_add(choice, name, content);
	jval_add_string(choice, "finish_reason", finish);
	jval_push(choices, choice);
	jval_add(root, "choices", choices);
}

static const char *finish_of(const struct jval *end)
{
	const char *finish = jval_string(jval_get(end, "finish_reason"), NULL);

	return finish ? finish : "stop";
}

static struct jval *ref_or_null(struct jval *v)
{
	return v ? jval_ref(v) : NULL;
}

struct jval *openai_completion(const struct openai_frame *frame, const struct jval *end)
{
	struct jval *root = frame_value(frame, "chat.completion"), *message = jval_new_object();
	struct jval *calls = jval_get(end, "tool_calls"), *text = jval_get(end, "response");
	size_t len = 0;

	(void)jval_string(text, &len);
	jval_add_string(message, "role", "assistant");
	jval_add(message, "content", calls && len == 0 ? NULL : ref_or_null(text));
	if (calls)
		jval_add(message, "tool_calls", jval_ref(calls));
	add_choice(root, "message", message, finish_of(end));
	jval_add(root, "usage", ref_or_null(jval_get(end, "usage")));
	return root;
}

/* --- chunks --- */

static void append(struct buf *out, struct jval *root)
{
	size_t len;
	const char *text = jval_text(root, &len);

	sse_event(out, NULL, 0, text, len);
	jval_free(&root);
}

static void append_delta(const struct openai_frame *frame, struct jval *delta, const char *finish, struct buf *out)
{
	struct jval *root = frame_value(frame, "chat.completion.chunk");

	add_choice(root, "delta", delta, finish);
	append(out, root);
}

void openai_chunk_text(const struct openai_frame *frame, const char *text, size_t len, bool is_first, struct buf *out)
{
	struct jval *delta = jval_new_object();

	if (is_first)
		jval_add_string(delta, "role", "assistant");
	jval_add(delta, "content", jval_new_string(text, len));
	append_delta(frame, delta, NULL, out);
}

/* In a stream each call carries its number. */
static struct jval *calls_delta(const struct jval *calls)
{
	struct jval *delta = jval_new_object(), *list = jval_new_array();

	for (size_t i = 0; i < jval_array_len(calls); i++) {
		const struct jval *call = jval_array_at(calls, i);
		struct jval *item = jval_new_object();

		jval_add_int(item, "index", (int64_t)i);
		jval_add(item, "id", ref_or_null(jval_get(call, "id")));
		jval_add_string(item, "type", "function");
		jval_add(item, "function", ref_or_null(jval_get(call, "function")));
		jval_push(list, item);
	}
	jval_add_string(delta, "role", "assistant");
	jval_add(delta, "tool_calls", list);
	return delta;
}

void openai_chunk_end(const struct openai_frame *frame, const struct jval *end, bool with_usage, struct buf *out)
{
	const struct jval *calls = jval_get(end, "tool_calls");

	if (calls)
		append_delta(frame, calls_delta(calls), NULL, out);
	append_delta(frame, jval_new_object(), finish_of(end), out);
	if (with_usage) {
		struct jval *root = frame_value(frame, "chat.completion.chunk");
		jval_add(root, "choices", jval_new_array());
		jval_add(root, "usage", ref_or_null(jval_get(end, "usage")));
		append(out, root);
	}
	sse_event(out, NULL, 0, "[DONE]", 6);
}

void openai_chunk_error(enum problem problem, const char *detail, struct buf *out)
{
	append(out, openai_error(problem, detail, NULL));
}
