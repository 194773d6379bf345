/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hearth's own face of a chat: what the worker sends is passed on as it is, event for event. Failures in the middle of
 * a stream are `error` events.
 */
#include "fcgi-app/handlers.h"

#include "fcgi-app/app.h"
#include "fcgi-app/chat_run.h"
#include "fcgi-app/fields.h"
#include "fcgi-app/request.h"
#include "fcgi-app/sse.h"
#include "lib/arena.h"
#include "lib/json.h"

struct chat_fields {
	struct id instance_id;
	struct span message;
	struct id conversation_id;
	bool stream;
};

static const struct field chat_table[] = {
	{.name = "instance_id",
	 .type = FIELD_ID,
	 .flags = FIELD_REQUIRED | FIELD_LAX,
	 .offset = offsetof(struct chat_fields, instance_id)},
	{.name = "message",
	 .type = FIELD_STRING,
	 .flags = FIELD_REQUIRED,
	 .offset = offsetof(struct chat_fields, message),
	 .min = 1,
	 .max = CHAT_MESSAGE_BYTES_MAX},
	{.name = "conversation_id",
	 .type = FIELD_ID,
	 .flags = FIELD_NULLABLE,
	 .offset = offsetof(struct chat_fields, conversation_id)},
	{.name = "stream", .type = FIELD_BOOL, .offset = offsetof(struct chat_fields, stream)},
};

/* --- what the client sees --- */

static void on_event(struct chat *c, const struct chat_reply *event, struct buf *out)
{
	(void)c;
	sse_event(out, event->arg, event->arg_len, event->body, event->body_len);
}

/* The worker's last `metadata` has said it. */
static void on_end(struct chat *c, const struct chat_reply *end, struct buf *out)
{
	(void)c;
	(void)end;
	(void)out;
}

static void on_failure(struct chat *c, const struct chat_failure *f, struct buf *out)
{
	struct jval *data = jval_new_object();
	const char *text;
	size_t len;

	(void)c;
	jval_add_string(data, "code", problem_code(f->problem));
	jval_add_string(data, "detail", f->detail ? f->detail : problem_title(f->problem));
	jval_add_int(data, "status", problem_status(f->problem));
	text = jval_text(data, &len);
	sse_event(out, "error", 5, text, len);
	jval_free(&data);
}

static enum next on_answer(struct chat *c, const struct chat_reply *end)
{
	c->res->status = 200;
	c->res->raw = arena_memdup(c->req->mem, end->body, end->body_len);
	c->res->raw_len = end->body_len;
	c->res->raw_type = "application/json";
	return c->res->raw ? NEXT_SEND
			   : refuse(c->res, PROBLEM_INTERNAL, "The answer is larger than one request may hold.");
}

static const struct chat_face own_face = {.event = on_event, .end = on_end, .failure = on_failure, .answer = on_answer};

/* --- the request --- */

static void fill_request(struct chat *c, const struct chat_fields *fields)
{
	c->request = (struct chat_request){
		.instance_id = fields->instance_id,
		.org_id = c->req->org_id,
		.session_id = id_is_set(&fields->conversation_id) ? fields->conversation_id : id_new(),
		.message = fields->message.data,
		.message_len = fields->message.len,
		.stream = fields->stream,
		.is_new_session = !id_is_set(&fields->conversation_id),
		.token_id = c->known.token_id,
		.request_id = c->req->request_id,
	};
}

/* Reads and checks the body; the caller's right to chat in this org is known. */
static bool read_chat(struct request *req, struct response *res, struct chat_fields *ret_fields, enum next *ret_next)
{
	struct field_errors *errors = arena_alloc(req->mem, sizeof(*errors));
	const char *detail = NULL;
	enum problem problem = request_read_body(req, false, &detail);

	*ret_fields = (struct chat_fields){.stream = true};
	if (!errors || problem != PROBLEM_NONE) {
		*ret_next = refuse(res, problem != PROBLEM_NONE ? problem : PROBLEM_INTERNAL, detail);
		return false;
	}
	errors->mem = req->mem;
	if (fields_read(req->body, "", chat_table, ARRAY_LEN(chat_table), ret_fields, errors))
		return true;
	*ret_next = refuse_fields(res, errors);
	return false;
}

static enum next chat(struct chat *c, struct err *e)
{
	struct request *req = c->req;
	struct chat_fields fields;
	enum next next = NEXT_FAIL;

	if (!chat_may(c, NULL, NULL, &next, e) || !read_chat(req, c->res, &fields, &next))
		return next;
	req->instance_id = fields.instance_id; /* for the log */
	if (!chat_may(c, &fields.instance_id, NULL, &next, e))
		return next;
	fill_request(c, &fields);
	return chat_run(c, e);
}

enum next h_chat(struct request *req, struct response *res, struct err *e)
{
	struct chat c;

	chat_begin(&c, req, res, &own_face);
	enum next next = chat(&c, e);
	chat_end(&c);
	return next;
}
