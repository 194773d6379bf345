/* SPDX-License-Identifier: Apache-2.0 */
/* Reads field by field; the first that is wrong ends it, as that API says one at a time. */
#include "fcgi-app/openai_request.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/chat_wire.h"
#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/json.h"
#include "lib/macros.h"

#define PARAM_SIZE 64
#define NAME_MAX_BYTES 64
#define ID_MAX_BYTES 256

struct reading {
	struct arena *mem;
	struct openai_request *request;
	const char *param, *reason;
	char place[PARAM_SIZE]; /* "messages[3]" */
};

static bool fail(struct reading *r, const char *param, const char *reason)
{
	r->param = arena_strdup(r->mem, param);
	r->reason = reason;
	return false;
}

/* A field of the message or tool that is being read. */
static bool fail_in(struct reading *r, const char *field, const char *reason)
{
	char param[2 * PARAM_SIZE];

	(void)snprintf(param, sizeof(param), "%s.%s", r->place, field);
	return fail(r, param, reason);
}

static const char *text_of(const struct jval *object, const char *key)
{
	return jval_string(jval_get(object, key), NULL);
}

static bool is_one_of(const char *const *names, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static void copy_member(struct jval *to, const struct jval *from, const char *key)
{
	if (jval_get(from, key))
		jval_add(to, key, jval_ref(jval_get(from, key)));
}

/* --- messages --- */

static bool is_text_parts(const struct jval *content)
{
	if (jval_type(content) != JVAL_ARRAY || jval_array_len(content) == 0)
		return false;
	for (size_t i = 0; i < jval_array_len(content); i++) {
		const struct jval *part = jval_array_at(content, i);
		const char *type = text_of(part, "type");
		if (!type || strcmp(type, "text") != 0 || !text_of(part, "text"))
			return false;
	}
	return true;
}

static size_t parts_bytes(const struct jval *content)
{
	size_t bytes = 0, len = 0;

	for (size_t i = 0; i < jval_array_len(content); i++) {
		(void)jval_string(jval_get(jval_array_at(content, i), "text"), &len);
		bytes += len;
	}
	return bytes;
}

/* The text of parts becomes one string: not every provider takes parts. */
static struct jval *content_value(const struct jval *content)
{
	struct jval *value;
	struct buf text;
	size_t len;

	if (jval_type(content) != JVAL_ARRAY)
		return content ? jval_ref((struct jval *)content) : NULL;
	buf_init(&text, parts_bytes(content));
	for (size_t i = 0; i < jval_array_len(content); i++) {
		const char *part = jval_string(jval_get(jval_array_at(content, i), "text"), &len);
		buf_append(&text, part, len);
	}
	value = jval_new_string(buf_str(&text), text.len);
	buf_clear(&text);
	return value;
}

static bool is_short_text(const struct jval *object, const char *key, size_t max)
{
	size_t len;

	return jval_string(jval_get(object, key), &len) && len > 0 && len <= max;
}

static bool read_call(struct reading *r, const struct jval *call, struct jval *calls)
{
	const struct jval *function = jval_get(call, "function");
	const char *type = text_of(call, "type");
	struct jval *value, *inner;

	if ((type && strcmp(type, "function") != 0) || !is_short_text(call, "id", ID_MAX_BYTES) ||
	    !is_short_text(function, "name", NAME_MAX_BYTES) || !text_of(function, "arguments"))
		return fail_in(r, "tool_calls", "must be function calls with an id, a name and arguments");
	value = jval_new_object();
	inner = jval_new_object();
	copy_member(inner, function, "name");
	copy_member(inner, function, "arguments");
	copy_member(value, call, "id");
	jval_add_string(value, "type", "function");
	jval_add(value, "function", inner);
	jval_push(calls, value);
	return true;
}

static bool read_calls(struct reading *r, const struct jval *from, struct jval *message)
{
	const struct jval *calls = jval_get(from, "tool_calls");
	struct jval *list;

	if (jval_type(calls) == JVAL_NULL)
		return true;
	if (jval_type(calls) != JVAL_ARRAY || jval_array_len(calls) == 0 || jval_array_len(calls) > OPENAI_TOOLS_MAX)
		return fail_in(r, "tool_calls", "must be an array of 1 to 128 calls");
	list = jval_new_array();
	jval_add(message, "tool_calls", list);
	for (size_t i = 0; i < jval_array_len(calls); i++)
		if (!read_call(r, jval_array_at(calls, i), list))
			return false;
	return true;
}

static bool read_message(struct reading *r, const struct jval *from, struct jval *message)
{
	static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
	const char *role = text_of(from, "role");
	const struct jval *content = jval_get(from, "content");
	bool is_assistant, is_tool;

	if (!role || !is_one_of(roles, ARRAY_LEN(roles), role))
		return fail_in(r, "role", "must be system, developer, user, assistant or tool");
	is_assistant = strcmp(role, "assistant") == 0;
	is_tool = strcmp(role, "tool") == 0;
	if (jval_type(content) != JVAL_STRING && !is_text_parts(content) &&
	    !(is_assistant && jval_type(content) == JVAL_NULL && jval_get(from, "tool_calls")))
		return fail_in(r, "content", "must be a string or an array of text parts");
	if (is_tool && !is_short_text(from, "tool_call_id", ID_MAX_BYTES))
		return fail_in(r, "tool_call_id", "must be the id of the call that it answers");
	/* What a newer client calls its instructions, older servers call system. */
	jval_add_string(message, "role", strcmp(role, "developer") == 0 ? "system" : role);
	jval_add(message, "content", content_value(content));
	if (is_tool)
		copy_member(message, from, "tool_call_id");
	return !is_assistant || read_calls(r, from, message);
}

static bool read_messages(struct reading *r, const struct jval *body)
{
	const struct jval *messages = jval_get(body, "messages");
	const struct jval *last = NULL;
	struct openai_request *request = r->request;

	if (jval_type(messages) != JVAL_ARRAY || jval_array_len(messages) == 0 ||
	    jval_array_len(messages) > OPENAI_MESSAGES_MAX)
		return fail(r, "messages", "must be an array of 1 to 2048 messages");
	request->messages = jval_new_array();
	for (size_t i = 0; i < jval_array_len(messages); i++) {
		struct jval *message = jval_new_object();

		(void)snprintf(r->place, sizeof(r->place), "messages[%zu]", i);
		jval_push(request->messages, message);
		if (!read_message(r, jval_array_at(messages, i), message))
			return false;
		if (strcmp(text_of(message, "role"), "user") == 0)
			last = message;
	}
	request->message = "";
	if (last)
		request->message = jval_string(jval_get(last, "content"), &request->message_len);
	if (request->message_len > CHAT_MESSAGE_BYTES_MAX)
		return fail(r, "messages", "the last message of the user is longer than 262144 bytes");
	return true;
}

/* --- tools --- */

static bool is_tool_name(const char *name)
{
	size_t len = 0;

	for (; name && name[len]; len++)
		if (!isalnum((unsigned char)name[len]) && name[len] != '_' && name[len] != '-')
			return false;
	return len > 0 && len <= NAME_MAX_BYTES;
}

static bool read_tool(struct reading *r, const struct jval *from)
{
	const struct jval *function = jval_get(from, "function"), *parameters = jval_get(function, "parameters");
	const struct jval *description = jval_get(function, "description");
	const char *type = text_of(from, "type");
	struct jval *tool, *inner;

	if (!type || strcmp(type, "function") != 0)
		return fail_in(r, "type", "must be function");
	if (!is_tool_name(text_of(function, "name")))
		return fail_in(r, "function.name", "must be 1 to 64 letters, digits, '_' and '-'");
	if (jval_type(parameters) != JVAL_NULL && jval_type(parameters) != JVAL_OBJECT)
		return fail_in(r, "function.parameters", "must be an object");
	if (jval_type(description) != JVAL_NULL && jval_type(description) != JVAL_STRING)
		return fail_in(r, "function.description", "must be a string");
	tool = jval_new_object();
	inner = jval_new_object();
	copy_member(inner, function, "name");
	copy_member(inner, function, "description");
	copy_member(inner, function, "parameters");
	jval_add_string(tool, "type", "function");
	jval_add(tool, "function", inner);
	jval_push(r->request->tools, tool);
	return true;
}

static bool is_brought(const struct jval *tools, const char *name)
{
	for (size_t i = 0; i < jval_array_len(tools); i++)
		if (strcmp(text_of(jval_get(jval_array_at(tools, i), "function"), "name"), name) == 0)
			return true;
	return false;
}

static bool read_choice(struct reading *r, const struct jval *body)
{
	struct jval *choice = jval_get(body, "tool_choice");
	const char *word = jval_string(choice, NULL);
	bool is_word =
		word && (strcmp(word, "auto") == 0 || strcmp(word, "none") == 0 || strcmp(word, "required") == 0);

	if (jval_type(choice) == JVAL_NULL)
		return true;
	if (!r->request->tools)
		return (is_word && strcmp(word, "required") != 0) ||
		       fail(r, "tool_choice", "is for a request with tools");
	if (!is_word && !is_tool_name(text_of(jval_get(choice, "function"), "name")))
		return fail(r, "tool_choice", "must be auto, none, required or a function's name");
	if (!is_word && !is_brought(r->request->tools, text_of(jval_get(choice, "function"), "name")))
		return fail(r, "tool_choice", "names a function that is not among the tools");
	r->request->tool_choice = jval_ref(choice);
	return true;
}

static bool read_tools(struct reading *r, const struct jval *body)
{
	const struct jval *tools = jval_get(body, "tools");

	if (jval_type(tools) != JVAL_NULL &&
	    (jval_type(tools) != JVAL_ARRAY || jval_array_len(tools) > OPENAI_TOOLS_MAX))
		return fail(r, "tools", "must be an array of at most 128 tools");
	if (jval_array_len(tools) > 0)
		r->request->tools = jval_new_array();
	for (size_t i = 0; i < jval_array_len(tools); i++) {
		(void)snprintf(r->place, sizeof(r->place), "tools[%zu]", i);
		if (!read_tool(r, jval_array_at(tools, i)))
			return false;
	}
	return read_choice(r, body);
}

/* --- parameters --- */

static bool is_number_between(const struct jval *v, double min, double max)
{
	return (jval_type(v) == JVAL_INT || jval_type(v) == JVAL_DOUBLE) && jval_double(v) >= min &&
	       jval_double(v) <= max;
}

static bool is_count(const struct jval *v)
{
	return jval_type(v) == JVAL_INT && jval_int(v) > 0 && jval_int(v) <= INT32_MAX;
}

static bool is_stop(const struct jval *v)
{
	if (jval_type(v) == JVAL_STRING)
		return true;
	if (jval_type(v) != JVAL_ARRAY || jval_array_len(v) > 4)
		return false;
	for (size_t i = 0; i < jval_array_len(v); i++)
		if (jval_type(jval_array_at(v, i)) != JVAL_STRING)
			return false;
	return true;
}

static bool is_temperature(const struct jval *v)
{
	return is_number_between(v, 0, 2);
}

static bool is_share(const struct jval *v)
{
	return is_number_between(v, 0, 1);
}

static bool is_integer(const struct jval *v)
{
	return jval_type(v) == JVAL_INT;
}

static const struct {
	const char *name;
	bool (*is_good)(const struct jval *v);
	const char *reason;
} parameters[] = {
	{"temperature", is_temperature, "must be a number from 0 to 2"},
	{"top_p", is_share, "must be a number from 0 to 1"},
	{"max_tokens", is_count, "must be a positive integer"},
	{"max_completion_tokens", is_count, "must be a positive integer"},
	{"stop", is_stop, "must be a string or an array of at most 4 strings"},
	{"seed", is_integer, "must be an integer"},
};

static bool read_parameters(struct reading *r, const struct jval *body)
{
	struct jval *taken = jval_new_object();
	unsigned count = 0;

	r->request->parameters = taken;
	for (size_t i = 0; i < ARRAY_LEN(parameters); i++) {
		struct jval *value = jval_get(body, parameters[i].name);

		if (jval_type(value) == JVAL_NULL)
			continue;
		if (!parameters[i].is_good(value))
			return fail(r, parameters[i].name, parameters[i].reason);
		jval_add(taken, parameters[i].name, jval_ref(value));
		count++;
	}
	if (count == 0)
		jval_free(&r->request->parameters);
	return true;
}

/* --- fields that are not for the App --- */

static bool note_member(void *closure, const char *key, struct jval *v)
{
	(void)key;
	(void)v;
	*(bool *)closure = false;
	return false;
}

/* As if it were absent: null, false, 0, "", an empty list or object. */
static bool says_nothing(const struct jval *v)
{
	bool is_empty = true;
	size_t len = 0;

	switch (jval_type(v)) {
	case JVAL_NULL:
		return true;
	case JVAL_BOOL:
		return !jval_bool(v);
	case JVAL_INT:
	case JVAL_DOUBLE:
		return jval_double(v) == 0;
	case JVAL_STRING:
		(void)jval_string(v, &len);
		return len == 0;
	case JVAL_ARRAY:
		return jval_array_len(v) == 0;
	case JVAL_OBJECT:
		jval_each(v, note_member, &is_empty);
		return is_empty;
	}
	return false;
}

static bool is_parameter(const char *key)
{
	for (size_t i = 0; i < ARRAY_LEN(parameters); i++)
		if (strcmp(parameters[i].name, key) == 0)
			return true;
	return false;
}

/* What would change the answer is refused rather than dropped without a word. */
static bool is_taken(void *closure, const char *key, struct jval *v)
{
	static const char *const read[] = {"model", "messages",        "stream", "stream_options",
					   "n",     "response_format", "tools",  "tool_choice"};
	/* Of accounts, caches and billing: without them the answer is the same. */
	static const char *const ignored[] = {
		"user",
		"metadata",
		"store",
		"service_tier",
		"safety_identifier",
		"prompt_cache_key",
		"prompt_cache_retention",
		"parallel_tool_calls",
		"prediction",
	};
	struct reading *r = closure;

	if (is_one_of(read, ARRAY_LEN(read), key) || is_one_of(ignored, ARRAY_LEN(ignored), key) || is_parameter(key) ||
	    says_nothing(v))
		return true;
	return fail(r, key, "is not taken here");
}

static bool read_others(struct reading *r, const struct jval *body)
{
	jval_each(body, is_taken, r);
	return !r->param;
}

/* --- the rest --- */

static bool read_bool(struct reading *r, const struct jval *object, const char *key, const char *param, bool *ret_value)
{
	const struct jval *value = jval_get(object, key);

	if (jval_type(value) != JVAL_NULL && jval_type(value) != JVAL_BOOL)
		return fail(r, param, "must be true or false");
	*ret_value = jval_bool(value);
	return true;
}

static bool read_head(struct reading *r, const struct jval *body)
{
	struct openai_request *request = r->request;
	const struct jval *n = jval_get(body, "n"), *format = jval_get(body, "response_format");
	const struct jval *options = jval_get(body, "stream_options");
	const char *type = text_of(format, "type");

	if (jval_type(body) != JVAL_OBJECT)
		return fail(r, "", "the body must be an object");
	request->model = text_of(body, "model");
	if (jval_type(jval_get(body, "model")) == JVAL_NULL)
		return fail(r, "model", "is required: the id or the name of an AI App");
	if (!request->model || !request->model[0])
		return fail(r, "model", "must be the id or the name of an AI App");
	if (jval_type(n) != JVAL_NULL && (jval_type(n) != JVAL_INT || jval_int(n) != 1))
		return fail(r, "n", "must be 1");
	if (jval_type(format) != JVAL_NULL && (!type || strcmp(type, "text") != 0))
		return fail(r, "response_format", "must be text");
	if (jval_type(options) != JVAL_NULL && jval_type(options) != JVAL_OBJECT)
		return fail(r, "stream_options", "must be an object");
	return read_bool(r, body, "stream", "stream", &request->stream) &&
	       read_bool(r, options, "include_usage", "stream_options.include_usage", &request->include_usage);
}

bool openai_request_read(const struct jval *body, struct arena *mem, struct openai_request *ret_request,
			 const char **ret_param, const char **ret_reason)
{
	struct reading r = {.mem = mem, .request = ret_request};

	*ret_request = (struct openai_request){0};
	if (read_head(&r, body) && read_messages(&r, body) && read_tools(&r, body) && read_parameters(&r, body) &&
	    read_others(&r, body))
		return true;
	*ret_param = r.param;
	*ret_reason = r.reason;
	return false;
}

void openai_request_clear(struct openai_request *request)
{
	jval_free(&request->messages);
	jval_free(&request->tools);
	jval_free(&request->tool_choice);
	jval_free(&request->parameters);
}
