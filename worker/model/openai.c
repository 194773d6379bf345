/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chat completions, as OpenAI and the many servers that are compatible with it speak them. They differ in what they
 * leave out: `choices` in the chunk with the usage, `index` or `id` of a tool call, the last [DONE]. What can be
 * understood is; a stream that gives no finish reason is not.
 */
#include <string.h>

#include "core/llm_check.h"
#include "lib/buf.h"
#include "lib/json.h"
#include "worker/model/answer.h"
#include "worker/model/dialect.h"

/* --- the request --- */

struct overriding {
	struct jval *body;
};

static bool override(void *closure, const char *key, struct jval *value)
{
	struct overriding *o = closure;

	if (jval_type(value) == JVAL_NULL)
		jval_remove(o->body, key);
	else
		jval_add(o->body, key, jval_ref(value));
	return true;
}

static bool encode(const struct model_request *request, struct buf *out, struct err *e)
{
	struct jval *body = jval_new_object(), *options = jval_new_object();
	struct overriding o = {.body = body};
	size_t len;

	jval_add_bool(options, "include_usage", true);
	jval_add_bool(body, "stream", true);
	jval_add(body, "stream_options", options);
	if (request->parameters)
		jval_each(request->parameters, override, &o);
	jval_add_string(body, "model", request->model);
	jval_add(body, "messages", jval_ref(request->messages));
	if (request->tools && jval_array_len(request->tools) > 0) {
		jval_add(body, "tools", jval_ref(request->tools));
		if (request->tool_choice)
			jval_add(body, "tool_choice", jval_ref(request->tool_choice));
	}
	const char *text = jval_text(body, &len);
	buf_append(out, text, len);
	jval_free(&body);
	return !buf_has_failed(out) || err_set(e, ERR_LIMIT, "the request is larger than it may be");
}

/* --- the answer --- */

static bool read_content(struct answer *a, const struct jval *content, struct err *e)
{
	size_t len;
	const char *text = jval_string(content, &len);

	if (text)
		return answer_add_text(a, text, len, e);
	for (size_t i = 0; i < jval_array_len(content); i++) {
		text = jval_string(jval_get(jval_array_at(content, i), "text"), &len);
		if (text && !answer_add_text(a, text, len, e))
			return false;
	}
	return true;
}

/* Which call a piece belongs to. Without a number, a piece with a new id or a name begins the next call. A number that
 * comes again with another id is another call: some servers number them all 0. */
static struct answer_call *call_of(struct answer *a, const struct jval *piece, const char *id, const char *name,
				   struct err *e)
{
	const struct jval *number = jval_get(piece, "index");
	bool has_index = jval_type(number) == JVAL_INT;
	int index = has_index ? (int)jval_int(number) : -1;
	struct answer_call *call;

	if (has_index)
		call = answer_call_by_index(a, index);
	else if (id && id[0])
		call = answer_call_by_id(a, id);
	else
		call = name && name[0] ? NULL : answer_call_by_index(a, -1);
	if (call && id && id[0] && call->id[0] && strcmp(call->id, id) != 0)
		call = NULL;
	if (!call)
		return answer_add_call(a, index, id, name, e);
	return answer_name_call(call, id, name, e) ? call : NULL;
}

static bool read_arguments(struct answer *a, struct answer_call *call, struct jval *arguments, struct err *e)
{
	size_t len;
	const char *text = jval_string(arguments, &len);

	if (!text && jval_type(arguments) == JVAL_OBJECT) /* not as text: some servers spare themselves that */
		text = jval_text(arguments, &len);
	return !text || answer_add_arguments(a, call, text, len, e);
}

static bool read_function(struct answer *a, const struct jval *piece, const struct jval *function, struct err *e)
{
	const char *id = jval_string(jval_get(piece, "id"), NULL);
	const char *name = jval_string(jval_get(function, "name"), NULL);
	struct answer_call *call = call_of(a, piece, id, name, e);

	return call && read_arguments(a, call, jval_get(function, "arguments"), e);
}

static bool read_delta(struct answer *a, const struct jval *delta, struct err *e)
{
	const struct jval *calls = jval_get(delta, "tool_calls");
	const struct jval *function = jval_get(delta, "function_call"); /* the form before tool_calls */

	if (!read_content(a, jval_get(delta, "content"), e) || !read_content(a, jval_get(delta, "refusal"), e))
		return false;
	for (size_t i = 0; i < jval_array_len(calls); i++) {
		const struct jval *piece = jval_array_at(calls, i);
		if (!read_function(a, piece, jval_get(piece, "function"), e))
			return false;
	}
	return jval_type(function) != JVAL_OBJECT || read_function(a, NULL, function, e);
}

static enum answer_finish finish_of(const char *reason)
{
	if (strcmp(reason, "length") == 0 || strcmp(reason, "max_tokens") == 0)
		return FINISH_LENGTH;
	if (strcmp(reason, "tool_calls") == 0 || strcmp(reason, "function_call") == 0)
		return FINISH_TOOL_CALLS;
	if (strcmp(reason, "content_filter") == 0)
		return FINISH_FILTER;
	return FINISH_STOP; /* "stop", and words of their own for it */
}

static void read_usage(struct answer *a, const struct jval *usage)
{
	int64_t in = jval_int(jval_get(usage, "prompt_tokens")), out = jval_int(jval_get(usage, "completion_tokens"));

	if (in > 0)
		a->tokens_in = (uint64_t)in;
	if (out > 0)
		a->tokens_out = (uint64_t)out;
}

/* A chunk, or a whole answer: they differ in the name of what a choice holds. */
static bool read_object(struct answer *a, const struct jval *root, const char *part, struct err *e)
{
	const struct jval *choice = jval_array_at(jval_get(root, "choices"), 0);
	const char *reason = jval_string(jval_get(choice, "finish_reason"), NULL);
	char text[160];

	if (jval_type(jval_get(root, "error")) != JVAL_NULL) {
		dialect_error_text(root, text, sizeof(text));
		return err_set(e, ERR_DOWN, "the stream holds an error: %s", text);
	}
	read_usage(a, jval_get(root, "usage"));
	if (jval_int(jval_get(choice, "index")) == 0 && !read_delta(a, jval_get(choice, part), e))
		return false;
	if (reason && reason[0])
		a->finish = finish_of(reason);
	return true;
}

static bool read_event(struct answer *a, const char *name, const char *data, size_t len, bool *ret_is_over,
		       struct err *e)
{
	const struct json_limits limits = {.bytes_max = STREAM_EVENT_BYTES_MAX, .depth_max = STREAM_EVENT_DEPTH_MAX};
	struct jval *root = NULL;
	char text[160];
	bool ok;

	*ret_is_over = len == 6 && memcmp(data, "[DONE]", 6) == 0;
	if (*ret_is_over || len == 0)
		return true;
	if (!jval_parse(data, len, &limits, &root, e)) {
		if (e)
			e->code = ERR_INPUT;
		return err_ctx(e, "an event of the stream");
	}
	if (strcmp(name, "error") == 0) {
		dialect_error_text(root, text, sizeof(text));
		ok = err_set(e, ERR_DOWN, "the stream holds an error: %s", text);
	} else {
		ok = read_object(a, root, "delta", e);
	}
	jval_free(&root);
	return ok;
}

static bool read_whole(struct answer *a, const struct jval *root, struct err *e)
{
	return read_object(a, root, "message", e);
}

const struct dialect dialect_openai = {
	.chat_path = LLM_OPENAI_PATH,
	.models_path = "/models",
	.key_header = "Authorization",
	.key_prefix = "Bearer ",
	.encode = encode,
	.read_event = read_event,
	.read_whole = read_whole,
};
