/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encoding and parsing of a chat's messages. A reply's head is text, so that a
 * stream can be watched with any NATS client, and its body is passed on to the
 * HTTP client byte for byte, without a second parse.
 */
#include "core/chat_wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/json.h"

#define REQUEST_VERSION 1
#define REQUEST_DEPTH_MAX 40 /* messages and the schemas of tools */

static const char *const kinds[] = {
	[CHAT_ACCEPTED] = "accepted",
	[CHAT_EVENT] = "event",
	[CHAT_KEEPALIVE] = "keepalive",
	[CHAT_END] = "end",
};

void chat_subject(const struct id *instance_id, char ret_subject[CHAT_SUBJECT_SIZE])
{
	snprintf(ret_subject, CHAT_SUBJECT_SIZE, CHAT_SUBJECT_PREFIX "%s", instance_id->text);
}

static void add_optional(struct jval *root, const char *key, struct jval *value)
{
	if (value)
		jval_add(root, key, jval_ref(value));
}

void chat_request_encode(const struct chat_request *request, struct buf *out)
{
	struct jval *root = jval_new_object();
	size_t len;

	jval_add_int(root, "v", REQUEST_VERSION);
	jval_add_string(root, "instance_id", request->instance_id.text);
	jval_add_string(root, "org_id", request->org_id.text);
	jval_add_string(root, "session_id", request->session_id.text);
	jval_add_bool(root, "stream", request->stream);
	if (id_is_set(&request->token_id)) {
		jval_add_string(root, "token_id", request->token_id.text);
		jval_add_bool(root, "is_new_session", request->is_new_session);
	}
	jval_add_int(root, "deadline_unix_ms", request->deadline_unix_ms);
	jval_add_string(root, "request_id", request->request_id);
	jval_add(root, "message", jval_new_string(request->message, request->message_len));
	add_optional(root, "messages", request->messages);
	add_optional(root, "tools", request->tools);
	add_optional(root, "tool_choice", request->tool_choice);
	add_optional(root, "parameters", request->parameters);
	const char *text = jval_text(root, &len);
	buf_append(out, text, len);
	jval_free(&root);
}

static bool read_id(const struct jval *root, const char *key, struct id *ret_id, struct err *e)
{
	size_t len;
	const char *s = jval_string(jval_get(root, key), &len);

	if (!s || !id_parse(s, len, ret_id))
		return err_set(e, ERR_INPUT, "%s is not an id", key);
	return true;
}

static bool read_owner(const struct jval *root, struct chat_request *request, struct err *e)
{
	request->is_new_session = jval_bool(jval_get(root, "is_new_session"));
	return !jval_get(root, "token_id") || read_id(root, "token_id", &request->token_id, e);
}

static bool read_message(const struct jval *root, struct arena *mem, struct chat_request *request, struct err *e)
{
	size_t len;
	const char *s = jval_string(jval_get(root, "message"), &len);

	if (!s || len > CHAT_MESSAGE_BYTES_MAX)
		return err_set(e, ERR_INPUT, "message is not a string of at most %d bytes", CHAT_MESSAGE_BYTES_MAX);
	request->message = arena_memdup(mem, s, len);
	request->message_len = len;
	return true;
}

static bool read_request_id(const struct jval *root, struct arena *mem, struct chat_request *request, struct err *e)
{
	const struct jval *v = jval_get(root, "request_id");
	const char *s = jval_string(v, NULL);

	if (jval_type(v) == JVAL_NULL)
		return true;
	if (!s)
		return err_set(e, ERR_INPUT, "request_id is not a string");
	request->request_id = arena_strdup(mem, s);
	return true;
}

/* The worker hands them to a model as they are; what they hold was checked by the application. */
static bool read_openai(struct jval *root, struct chat_request *request, struct err *e)
{
	request->messages = jval_get(root, "messages");
	request->tools = jval_get(root, "tools");
	request->tool_choice = jval_get(root, "tool_choice");
	request->parameters = jval_get(root, "parameters");
	if ((request->messages && jval_type(request->messages) != JVAL_ARRAY) ||
	    (request->tools && jval_type(request->tools) != JVAL_ARRAY) ||
	    (request->parameters && jval_type(request->parameters) != JVAL_OBJECT))
		return err_set(e, ERR_INPUT, "messages, tools or parameters have another type than they must");
	if (request->messages || request->tools || request->parameters)
		request->root = jval_ref(root);
	else
		request->tool_choice = NULL;
	return true;
}

static bool read_request(struct jval *root, struct arena *mem, struct chat_request *request, struct err *e)
{
	const struct jval *stream = jval_get(root, "stream");
	const struct jval *deadline = jval_get(root, "deadline_unix_ms");

	if (jval_type(root) != JVAL_OBJECT || jval_int(jval_get(root, "v")) != REQUEST_VERSION)
		return err_set(e, ERR_INPUT, "not an object of version %d", REQUEST_VERSION);
	if (jval_type(stream) != JVAL_BOOL || jval_type(deadline) != JVAL_INT)
		return err_set(e, ERR_INPUT, "stream or deadline_unix_ms is missing");
	request->stream = jval_bool(stream);
	request->deadline_unix_ms = jval_int(deadline);
	return read_id(root, "instance_id", &request->instance_id, e) && read_id(root, "org_id", &request->org_id, e) &&
	       read_id(root, "session_id", &request->session_id, e) && read_owner(root, request, e) &&
	       read_request_id(root, mem, request, e) && read_message(root, mem, request, e) &&
	       read_openai(root, request, e);
}

bool chat_request_parse(const char *data, size_t len, struct arena *mem, struct chat_request *ret_request,
			struct err *e)
{
	const struct json_limits limits = {
		.bytes_max = CHAT_REQUEST_BYTES_MAX,
		.depth_max = REQUEST_DEPTH_MAX,
	};
	struct chat_request request = {0};
	struct jval *root = NULL;
	bool ok = false;

	if (!jval_parse(data, len, &limits, &root, e)) {
		if (e) /* too long or too deep is as broken as the rest */
			e->code = ERR_INPUT;
		goto out;
	}
	if (!read_request(root, mem, &request, e))
		goto out;
	if (arena_has_failed(mem)) {
		err_set(e, ERR_INPUT, "larger than the memory it may take");
		goto out;
	}
	*ret_request = request;
	ok = true;
out:
	if (!ok) {
		chat_request_clear(&request);
		err_ctx(e, "chat request");
	}
	jval_free(&root);
	return ok;
}

void chat_request_clear(struct chat_request *request)
{
	jval_free(&request->root);
	jval_free(&request->history);
	request->messages = request->tools = request->tool_choice = request->parameters = NULL;
}

void chat_reply_encode(uint64_t n, enum chat_kind kind, const char *arg, const char *body, size_t body_len,
		       struct buf *out)
{
	buf_printf(out, "%" PRIu64 " %s %s\n", n, kinds[kind], arg ? arg : "-");
	if (body)
		buf_append(out, body, body_len);
}

/* Takes what stands before the next `end` off the front; false where that is empty or there is no `end`. */
static bool take_word(const char **rest, const char *limit, char end, const char **ret_word, size_t *ret_len)
{
	const char *stop = memchr(*rest, end, (size_t)(limit - *rest));

	if (!stop || stop == *rest)
		return false;
	*ret_word = *rest;
	*ret_len = (size_t)(stop - *rest);
	*rest = stop + 1;
	return true;
}

static bool read_number(const char *s, size_t len, uint64_t max, uint64_t *ret_n)
{
	uint64_t n = 0;

	for (size_t i = 0; i < len; i++) {
		uint64_t digit = (uint64_t)(s[i] - '0');
		if (s[i] < '0' || s[i] > '9' || n > (max - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*ret_n = n;
	return len > 0;
}

static bool read_kind(const char *s, size_t len, enum chat_kind *ret_kind)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		if (strlen(kinds[i]) == len && memcmp(kinds[i], s, len) == 0) {
			*ret_kind = (enum chat_kind)i;
			return true;
		}
	}
	return false;
}

/* What an argument must be for its kind. */
static bool check_arg(struct chat_reply *reply)
{
	uint64_t status;

	if (memchr(reply->arg, ' ', reply->arg_len))
		return false;
	if (reply->kind != CHAT_END)
		return true;
	if (!read_number(reply->arg, reply->arg_len, 599, &status) || status < 200)
		return false;
	reply->status = (int)status;
	return true;
}

bool chat_reply_parse(const char *data, size_t len, struct chat_reply *ret_reply, struct err *e)
{
	struct chat_reply reply = {0};
	const char *rest = data, *limit = data + len;
	const char *word;
	size_t word_len;

	if (len == 0)
		return err_set(e, ERR_INPUT, "chat reply: empty");
	if (!take_word(&rest, limit, ' ', &word, &word_len) || !read_number(word, word_len, UINT64_MAX, &reply.n))
		return err_set(e, ERR_INPUT, "chat reply: it begins with no number");
	if (!take_word(&rest, limit, ' ', &word, &word_len) || !read_kind(word, word_len, &reply.kind))
		return err_set(e, ERR_INPUT, "chat reply %" PRIu64 ": its kind is not known", reply.n);
	if (!take_word(&rest, limit, '\n', &reply.arg, &reply.arg_len) || !check_arg(&reply))
		return err_set(e, ERR_INPUT, "chat reply %" PRIu64 ": its head line is broken", reply.n);
	reply.body = rest;
	reply.body_len = (size_t)(limit - rest);
	*ret_reply = reply;
	return true;
}
