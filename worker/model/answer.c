/* SPDX-License-Identifier: Apache-2.0 */
/* Collects an answer. Text and arguments share one allowance of bytes, so that a model that never ends is cut. */
#include "worker/model/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/xalloc.h"

void answer_init(struct answer *a, size_t bytes_max)
{
	*a = (struct answer){.bytes_left = bytes_max};
	buf_init(&a->text, bytes_max);
}

void answer_clear(struct answer *a)
{
	buf_clear(&a->text);
	for (unsigned i = 0; i < a->calls_count; i++) {
		buf_clear(&a->calls[i]->arguments);
		free(a->calls[i]);
	}
	a->calls_count = 0;
}

static bool take_bytes(struct answer *a, size_t len, struct err *e)
{
	if (len > a->bytes_left)
		return err_set(e, ERR_LIMIT, "the answer is longer than it may be");
	a->bytes_left -= len;
	return true;
}

bool answer_add_text(struct answer *a, const char *text, size_t len, struct err *e)
{
	if (len == 0)
		return true;
	if (!take_bytes(a, len, e))
		return false;
	buf_append(&a->text, text, len);
	if (a->on_text)
		a->on_text(a->closure, text, len);
	return true;
}

static bool copy_word(char *to, size_t max, const char *from, const char *what, struct err *e)
{
	if (strlen(from) > max)
		return err_set(e, ERR_LIMIT, "a tool call's %s is longer than %zu bytes", what, max);
	(void)snprintf(to, max + 1, "%s", from);
	return true;
}

bool answer_name_call(struct answer_call *call, const char *id, const char *name, struct err *e)
{
	if (id && id[0] && !call->id[0] && !copy_word(call->id, ANSWER_ID_MAX, id, "id", e))
		return false;
	return !name || !name[0] || call->name[0] || copy_word(call->name, ANSWER_NAME_MAX, name, "name", e);
}

struct answer_call *answer_add_call(struct answer *a, int index, const char *id, const char *name, struct err *e)
{
	if (a->calls_count == ANSWER_CALLS_MAX) {
		err_set(e, ERR_LIMIT, "more than %d tool calls in one answer", ANSWER_CALLS_MAX);
		return NULL;
	}
	struct answer_call *call = xcalloc(1, sizeof(*call));
	call->index = index;
	buf_init(&call->arguments, a->text.max_bytes);
	a->calls[a->calls_count++] = call;
	return answer_name_call(call, id, name, e) ? call : NULL;
}

bool answer_add_arguments(struct answer *a, struct answer_call *call, const char *text, size_t len, struct err *e)
{
	if (!take_bytes(a, len, e))
		return false;
	buf_append(&call->arguments, text, len);
	return true;
}

struct answer_call *answer_call_by_index(struct answer *a, int index)
{
	for (unsigned i = a->calls_count; i-- > 0;)
		if (a->calls[i]->index == index)
			return a->calls[i];
	return NULL;
}

struct answer_call *answer_call_by_id(struct answer *a, const char *id)
{
	for (unsigned i = a->calls_count; i-- > 0;)
		if (strcmp(a->calls[i]->id, id) == 0)
			return a->calls[i];
	return NULL;
}

bool answer_complete(struct answer *a, struct err *e)
{
	if (a->finish == FINISH_NONE)
		return err_set(e, ERR_INPUT, "the answer ended without a finish reason");
	for (unsigned i = 0; i < a->calls_count; i++) {
		struct answer_call *call = a->calls[i];

		if (!call->name[0])
			return err_set(e, ERR_INPUT, "a tool call without a name");
		if (!call->id[0])
			(void)snprintf(call->id, sizeof(call->id), "call_%u", i + 1);
		if (call->arguments.len == 0)
			buf_append_str(&call->arguments, "{}");
	}
	return true;
}

static struct jval *call_value(const struct answer_call *call)
{
	struct jval *value = jval_new_object(), *function = jval_new_object();

	jval_add_string(function, "name", call->name);
	jval_add(function, "arguments", jval_new_string(buf_str(&call->arguments), call->arguments.len));
	jval_add_string(value, "id", call->id);
	jval_add_string(value, "type", "function");
	jval_add(value, "function", function);
	return value;
}

struct jval *answer_message(const struct answer *a)
{
	struct jval *message = jval_new_object();

	jval_add_string(message, "role", "assistant");
	/* Some servers refuse an empty string beside tool calls. */
	jval_add(message, "content",
		 a->text.len > 0 || a->calls_count == 0 ? jval_new_string(buf_str(&a->text), a->text.len) : NULL);
	if (a->calls_count > 0) {
		struct jval *calls = jval_new_array();
		for (unsigned i = 0; i < a->calls_count; i++)
			jval_push(calls, call_value(a->calls[i]));
		jval_add(message, "tool_calls", calls);
	}
	return message;
}

const char *answer_finish_name(enum answer_finish finish)
{
	static const char *const names[] = {
		[FINISH_NONE] = "",
		[FINISH_STOP] = "stop",
		[FINISH_LENGTH] = "length",
		[FINISH_TOOL_CALLS] = "tool_calls",
		[FINISH_FILTER] = "content_filter",
	};

	return names[finish];
}
