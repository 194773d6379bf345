/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Anthropic's messages API. Its requests differ in shape: system text stands beside the messages, results of tools are
 * blocks of a user's message, and messages of one role that follow each other are joined. Its stream is of named
 * events; unknown ones are passed over, as the API asks.
 */
#include <string.h>

#include "core/llm_check.h"
#include "lib/buf.h"
#include "lib/json.h"
#include "worker/model/answer.h"
#include "worker/model/dialect.h"

#define API_VERSION "2023-06-01"
#define TOKENS_MAX_DEFAULT 4096 /* the API demands a limit */
#define ARGUMENTS_BYTES_MAX ((size_t)1024 * 1024)
#define ARGUMENTS_DEPTH_MAX 32

/* --- the request: messages --- */

static struct jval *text_block(const char *text, size_t len)
{
	struct jval *block = jval_new_object();

	jval_add_string(block, "type", "text");
	jval_add(block, "text", jval_new_string(text, len));
	return block;
}

/* A message's content, a string or parts of text, as blocks behind `blocks`. The API refuses empty ones. */
static bool add_content(struct jval *blocks, const struct jval *content, struct err *e)
{
	size_t len;
	const char *text = jval_string(content, &len);

	if (text && len > 0)
		jval_push(blocks, text_block(text, len));
	for (size_t i = 0; i < jval_array_len(content); i++) {
		text = jval_string(jval_get(jval_array_at(content, i), "text"), &len);
		if (!text)
			return err_set(e, ERR_INPUT, "a part of a message that is no text");
		if (len > 0)
			jval_push(blocks, text_block(text, len));
	}
	return true;
}

static struct jval *call_block(const struct jval *call)
{
	const struct json_limits limits = {.bytes_max = ARGUMENTS_BYTES_MAX, .depth_max = ARGUMENTS_DEPTH_MAX};
	const struct jval *function = jval_get(call, "function");
	struct jval *block = jval_new_object(), *input = NULL;
	size_t len;
	const char *text = jval_string(jval_get(function, "arguments"), &len);

	/* What the model wrote may be no object; the API takes nothing else back. */
	if (!text || !jval_parse(text, len, &limits, &input, NULL) || jval_type(input) != JVAL_OBJECT) {
		jval_free(&input);
		input = jval_new_object();
	}
	jval_add_string(block, "type", "tool_use");
	jval_add_string(block, "id", jval_string(jval_get(call, "id"), NULL));
	jval_add_string(block, "name", jval_string(jval_get(function, "name"), NULL));
	jval_add(block, "input", input);
	return block;
}

static struct jval *result_block(const struct jval *message, struct err *e)
{
	struct jval *block = jval_new_object(), *content = jval_new_array();

	if (!add_content(content, jval_get(message, "content"), e)) {
		jval_free(&content);
		jval_free(&block);
		return NULL;
	}
	jval_add_string(block, "type", "tool_result");
	jval_add_string(block, "tool_use_id", jval_string(jval_get(message, "tool_call_id"), NULL));
	jval_add(block, "content", content);
	return block;
}

struct conversation {
	struct buf system;
	struct jval *messages;
	struct jval *blocks; /* of the last message; borrowed from messages */
	const char *role;    /* of the last message */
};

/* The blocks to add to, of a message of this role. */
static struct jval *blocks_of(struct conversation *c, const char *role)
{
	if (c->role && strcmp(c->role, role) == 0)
		return c->blocks;
	struct jval *message = jval_new_object();
	c->blocks = jval_new_array();
	c->role = role;
	jval_add_string(message, "role", role);
	jval_add(message, "content", c->blocks);
	jval_push(c->messages, message);
	return c->blocks;
}

static bool add_system(struct conversation *c, const struct jval *content, struct err *e)
{
	struct jval *blocks = jval_new_array();
	bool ok = add_content(blocks, content, e);

	for (size_t i = 0; ok && i < jval_array_len(blocks); i++) {
		size_t len;
		const char *text = jval_string(jval_get(jval_array_at(blocks, i), "text"), &len);
		if (c->system.len > 0)
			buf_append_str(&c->system, "\n\n");
		buf_append(&c->system, text, len);
	}
	jval_free(&blocks);
	return ok;
}

/* The API refuses a message without blocks, such as an answer that was empty: there is none then. */
static bool add_blocks(struct conversation *c, const char *role, const struct jval *message, struct err *e)
{
	const struct jval *calls = jval_get(message, "tool_calls");
	struct jval *blocks = jval_new_array();
	bool ok = add_content(blocks, jval_get(message, "content"), e);

	for (size_t i = 0; ok && i < jval_array_len(calls); i++)
		jval_push(blocks, call_block(jval_array_at(calls, i)));
	for (size_t i = 0; ok && i < jval_array_len(blocks); i++)
		jval_push(blocks_of(c, role), jval_ref(jval_array_at(blocks, i)));
	jval_free(&blocks);
	return ok;
}

static bool add_message(struct conversation *c, const struct jval *message, struct err *e)
{
	const char *role = jval_string(jval_get(message, "role"), NULL);

	if (!role)
		return err_set(e, ERR_INPUT, "a message without a role");
	if (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0)
		return add_system(c, jval_get(message, "content"), e);
	if (strcmp(role, "assistant") == 0)
		return add_blocks(c, "assistant", message, e);
	if (strcmp(role, "tool") == 0) {
		struct jval *block = result_block(message, e);
		if (block)
			jval_push(blocks_of(c, "user"), block);
		return block != NULL;
	}
	return add_blocks(c, "user", message, e);
}

/* --- the request: the rest --- */

static struct jval *tools_value(const struct jval *tools)
{
	struct jval *out = jval_new_array();

	for (size_t i = 0; i < jval_array_len(tools); i++) {
		const struct jval *function = jval_get(jval_array_at(tools, i), "function");
		struct jval *tool = jval_new_object(), *schema = jval_get(function, "parameters");

		jval_add_string(tool, "name", jval_string(jval_get(function, "name"), NULL));
		if (jval_has(function, "description"))
			jval_add(tool, "description", jval_ref(jval_get(function, "description")));
		if (schema) {
			jval_add(tool, "input_schema", jval_ref(schema));
		} else {
			struct jval *any = jval_new_object();
			jval_add_string(any, "type", "object");
			jval_add(tool, "input_schema", any);
		}
		jval_push(out, tool);
	}
	return out;
}

/* "auto", "none", "required" or {"type":"function","function":{"name"}}. */
static struct jval *choice_value(const struct jval *choice)
{
	const char *word = jval_string(choice, NULL);
	struct jval *value = jval_new_object();

	if (!word) {
		jval_add_string(value, "type", "tool");
		jval_add_string(value, "name", jval_string(jval_get(jval_get(choice, "function"), "name"), NULL));
	} else {
		jval_add_string(value, "type", strcmp(word, "required") == 0 ? "any" : word);
	}
	return value;
}

static bool add_parameter(void *closure, const char *key, struct jval *value)
{
	struct jval *body = closure;

	if (jval_type(value) == JVAL_NULL)
		return true;
	if (strcmp(key, "stop") == 0) {
		struct jval *stops = jval_type(value) == JVAL_ARRAY ? jval_ref(value) : jval_new_array();
		if (jval_type(value) == JVAL_STRING)
			jval_push(stops, jval_ref(value));
		jval_add(body, "stop_sequences", stops);
	} else if (strcmp(key, "max_completion_tokens") == 0) {
		jval_add(body, "max_tokens", jval_ref(value));
	} else if (strcmp(key, "stream_options") != 0) {
		jval_add(body, key, jval_ref(value));
	}
	return true;
}

static struct jval *body_of(const struct model_request *request, struct conversation *c)
{
	struct jval *body = jval_new_object();

	jval_add_int(body, "max_tokens", TOKENS_MAX_DEFAULT);
	if (request->parameters)
		jval_each(request->parameters, add_parameter, body);
	jval_add_bool(body, "stream", true);
	jval_add_string(body, "model", request->model);
	if (c->system.len > 0)
		jval_add(body, "system", jval_new_string(buf_str(&c->system), c->system.len));
	jval_add(body, "messages", c->messages);
	c->messages = NULL;
	if (request->tools && jval_array_len(request->tools) > 0) {
		jval_add(body, "tools", tools_value(request->tools));
		if (request->tool_choice)
			jval_add(body, "tool_choice", choice_value(request->tool_choice));
	}
	return body;
}

static bool encode(const struct model_request *request, struct buf *out, struct err *e)
{
	struct conversation c = {.messages = jval_new_array()};
	bool ok = true;
	size_t len;

	buf_init(&c.system, out->max_bytes);
	for (size_t i = 0; ok && i < jval_array_len(request->messages); i++)
		ok = add_message(&c, jval_array_at(request->messages, i), e);
	if (ok) {
		struct jval *body = body_of(request, &c);
		const char *text = jval_text(body, &len);
		buf_append(out, text, len);
		jval_free(&body);
		ok = !buf_has_failed(out) || err_set(e, ERR_LIMIT, "the request is larger than it may be");
	}
	jval_free(&c.messages);
	buf_clear(&c.system);
	return ok;
}

/* --- the answer --- */

static void read_usage(struct answer *a, const struct jval *usage)
{
	int64_t in = jval_int(jval_get(usage, "input_tokens")) +
		     jval_int(jval_get(usage, "cache_creation_input_tokens")) +
		     jval_int(jval_get(usage, "cache_read_input_tokens"));
	int64_t out = jval_int(jval_get(usage, "output_tokens"));

	if (in > 0)
		a->tokens_in = (uint64_t)in;
	if (out > 0)
		a->tokens_out = (uint64_t)out;
}

/* A block at its beginning, or whole. */
static bool read_block(struct answer *a, const struct jval *block, int index, struct err *e)
{
	const char *type = jval_string(jval_get(block, "type"), NULL);
	struct jval *input = jval_get(block, "input");
	size_t len;
	const char *text = jval_string(jval_get(block, "text"), &len);

	if (!type)
		return err_set(e, ERR_INPUT, "a block without a type");
	if (strcmp(type, "text") == 0)
		return !text || answer_add_text(a, text, len, e);
	if (strcmp(type, "tool_use") != 0)
		return true; /* thinking and the like */
	struct answer_call *call = answer_add_call(a, index, jval_string(jval_get(block, "id"), NULL),
						   jval_string(jval_get(block, "name"), NULL), e);
	if (!call)
		return false;
	text = jval_type(input) == JVAL_OBJECT ? jval_text(input, &len) : NULL;
	return !text || strcmp(text, "{}") == 0 || answer_add_arguments(a, call, text, len, e);
}

static bool read_delta(struct answer *a, const struct jval *root, struct err *e)
{
	const struct jval *delta = jval_get(root, "delta");
	size_t len;
	const char *text = jval_string(jval_get(delta, "text"), &len);

	if (text)
		return answer_add_text(a, text, len, e);
	text = jval_string(jval_get(delta, "partial_json"), &len);
	if (!text)
		return true; /* thinking, signatures, citations */
	struct answer_call *call = answer_call_by_index(a, (int)jval_int(jval_get(root, "index")));
	return call ? answer_add_arguments(a, call, text, len, e)
		    : err_set(e, ERR_INPUT, "arguments of a call that was not begun");
}

static void read_reason(struct answer *a, const struct jval *holder)
{
	const char *reason = jval_string(jval_get(holder, "stop_reason"), NULL);

	if (!reason || !reason[0])
		return;
	if (strcmp(reason, "max_tokens") == 0 || strcmp(reason, "model_context_window_exceeded") == 0)
		a->finish = FINISH_LENGTH;
	else if (strcmp(reason, "tool_use") == 0)
		a->finish = FINISH_TOOL_CALLS;
	else if (strcmp(reason, "refusal") == 0)
		a->finish = FINISH_FILTER;
	else
		a->finish = FINISH_STOP;
}

static bool read_object(struct answer *a, const char *type, const struct jval *root, bool *ret_is_over, struct err *e)
{
	char text[160];

	if (strcmp(type, "message_start") == 0) {
		read_usage(a, jval_get(jval_get(root, "message"), "usage"));
	} else if (strcmp(type, "content_block_start") == 0) {
		return read_block(a, jval_get(root, "content_block"), (int)jval_int(jval_get(root, "index")), e);
	} else if (strcmp(type, "content_block_delta") == 0) {
		return read_delta(a, root, e);
	} else if (strcmp(type, "message_delta") == 0) {
		read_reason(a, jval_get(root, "delta"));
		read_usage(a, jval_get(root, "usage"));
	} else if (strcmp(type, "message_stop") == 0) {
		*ret_is_over = true;
	} else if (strcmp(type, "error") == 0) {
		dialect_error_text(root, text, sizeof(text));
		return err_set(e, ERR_DOWN, "the stream holds an error: %s", text);
	}
	return true;
}

static bool read_event(struct answer *a, const char *name, const char *data, size_t len, bool *ret_is_over,
		       struct err *e)
{
	const struct json_limits limits = {.bytes_max = STREAM_EVENT_BYTES_MAX, .depth_max = STREAM_EVENT_DEPTH_MAX};
	struct jval *root = NULL;

	*ret_is_over = false;
	if (len == 0)
		return true;
	if (!jval_parse(data, len, &limits, &root, e)) {
		if (e)
			e->code = ERR_INPUT;
		return err_ctx(e, "an event of the stream");
	}
	const char *type = jval_string(jval_get(root, "type"), NULL);
	bool ok = read_object(a, type ? type : name, root, ret_is_over, e);
	jval_free(&root);
	return ok;
}

static bool read_whole(struct answer *a, const struct jval *root, struct err *e)
{
	const struct jval *content = jval_get(root, "content");
	bool is_over;

	if (jval_type(jval_get(root, "error")) != JVAL_NULL)
		return read_object(a, "error", root, &is_over, e);
	read_usage(a, jval_get(root, "usage"));
	for (size_t i = 0; i < jval_array_len(content); i++)
		if (!read_block(a, jval_array_at(content, i), (int)i, e))
			return false;
	read_reason(a, root);
	return true;
}

const struct dialect dialect_anthropic = {
	.chat_path = LLM_ANTHROPIC_PATH,
	.models_path = "/models",
	.key_header = "x-api-key",
	.key_prefix = "",
	.version_header = "anthropic-version",
	.version = API_VERSION,
	.encode = encode,
	.read_event = read_event,
	.read_whole = read_whole,
};
