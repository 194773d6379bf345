/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The face that clients of OpenAI's API speak to: POST /v1/chat/completions and GET /v1/models, with a Hearth token as
 * the key. A "model" is an AI App, by its id or its name in the token's org. Errors have that API's shape: response.c
 * sees to it for every route below /v1.
 */
#include "fcgi-app/handlers.h"

#include <stdio.h>
#include <string.h>

#include "core/instance.h"
#include "fcgi-app/app.h"
#include "fcgi-app/auth.h"
#include "fcgi-app/chat_run.h"
#include "fcgi-app/openai_doc.h"
#include "fcgi-app/openai_request.h"
#include "fcgi-app/request.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/json.h"

#define REPLY_BYTES_MAX ((size_t)1024 * 1024)
#define REPLY_DEPTH_MAX 16
#define MODELS_MAX 1000
#define COMPLETION_ID_SIZE (sizeof("chatcmpl-") + ID_TEXT_LEN)

struct completion {
	struct openai_request request;
	struct openai_frame frame;
	char id[COMPLETION_ID_SIZE];
	bool has_text; /* of the stream: the first chunk names the role */
};

/* --- what the client sees --- */

/* NULL: it cannot be read, which is the worker's fault. The caller frees it. */
static struct jval *parse_body(const struct chat_reply *reply)
{
	const struct json_limits limits = {.bytes_max = REPLY_BYTES_MAX, .depth_max = REPLY_DEPTH_MAX};
	struct jval *root = NULL;

	return jval_parse(reply->body, reply->body_len, &limits, &root, NULL) ? root : NULL;
}

/* Text alone: that API knows no others. */
static void on_event(struct chat *c, const struct chat_reply *event, struct buf *out)
{
	struct completion *completion = c->face_data;
	struct jval *body;
	size_t len;

	if (event->arg_len != strlen("message") || memcmp(event->arg, "message", event->arg_len) != 0)
		return;
	body = parse_body(event);
	const char *text = jval_string(jval_get(body, "content"), &len);
	if (text) {
		openai_chunk_text(&completion->frame, text, len, !completion->has_text, out);
		completion->has_text = true;
	}
	jval_free(&body);
}

static void on_end(struct chat *c, const struct chat_reply *end, struct buf *out)
{
	const struct completion *completion = c->face_data;
	struct jval *body = parse_body(end);

	openai_chunk_end(&completion->frame, body, completion->request.include_usage, out);
	jval_free(&body);
}

static void on_failure(struct chat *c, const struct chat_failure *f, struct buf *out)
{
	(void)c;
	openai_chunk_error(f->problem, f->detail, out);
}

static enum next on_answer(struct chat *c, const struct chat_reply *end)
{
	const struct completion *completion = c->face_data;
	struct jval *body = parse_body(end);

	if (!body)
		return refuse(c->res, PROBLEM_INTERNAL, NULL);
	enum next next = answer(c->res, 200, openai_completion(&completion->frame, body));
	jval_free(&body);
	return next;
}

static const struct chat_face openai_face = {
	.event = on_event, .end = on_end, .failure = on_failure, .answer = on_answer};

/* --- which App --- */

/* *ret_id "": none of that name, or the token is no org's. db NULL: one is borrowed where it is needed. */
static bool find_app(struct request *req, struct db *db, const char *model, const struct id *org_id, struct id *ret_id,
		     struct err *e)
{
	struct db *own = NULL;
	bool ok;

	*ret_id = (struct id){""};
	if (id_parse(model, strlen(model), ret_id) || !id_is_set(org_id))
		return true;
	ok = (db || app_db_take(req->app, APP_ANY, &own, e)) &&
	     instance_find_name(db ? db : own, org_id, model, ret_id, e);
	app_db_give(req->app, &own);
	return ok;
}

/* --- POST /v1/chat/completions --- */

static bool read_body(struct request *req, struct response *res, struct openai_request *ret_request,
		      enum next *ret_next)
{
	const char *detail = NULL, *param = NULL, *reason = NULL;
	enum problem problem = request_read_body(req, false, &detail);

	if (problem != PROBLEM_NONE) {
		*ret_next = refuse(res, problem, detail);
		return false;
	}
	if (openai_request_read(req->body, req->mem, ret_request, &param, &reason))
		return true;
	res->param = param;
	*ret_next = refuse(res, PROBLEM_INVALID, reason);
	return false;
}

static void fill_request(struct chat *c, const struct id *instance_id, const struct id *org_id)
{
	struct completion *completion = c->face_data;
	const struct openai_request *asked = &completion->request;
	struct id session_id = id_new();

	(void)snprintf(completion->id, sizeof(completion->id), "chatcmpl-%s", session_id.text);
	completion->frame = (struct openai_frame){
		.id = completion->id,
		.model = asked->model,
		.created_unix_s = clock_unix_ms() / 1000,
	};
	c->request = (struct chat_request){
		.instance_id = *instance_id,
		.org_id = *org_id,
		.session_id = session_id,
		.message = asked->message,
		.message_len = asked->message_len,
		.stream = asked->stream,
		.request_id = c->req->request_id,
		.messages = asked->messages,
		.tools = asked->tools,
		.tool_choice = asked->tool_choice,
		.parameters = asked->parameters,
	};
}

static enum next complete(struct chat *c, struct err *e)
{
	struct completion *completion = c->face_data;
	struct request *req = c->req;
	struct id org_id, instance_id;
	enum next next = NEXT_FAIL;

	if (!chat_may(c, NULL, &org_id, &next, e) || !read_body(req, c->res, &completion->request, &next) ||
	    !find_app(req, NULL, completion->request.model, &org_id, &instance_id, e))
		return next;
	req->instance_id = instance_id; /* for the log */
	if (!chat_may(c, &instance_id, &org_id, &next, e))
		return next;
	req->org_id = org_id;
	fill_request(c, &instance_id, &org_id);
	return chat_run(c, e);
}

enum next h_openai_complete(struct request *req, struct response *res, struct err *e)
{
	struct completion completion = {0};
	struct chat c;

	chat_begin(&c, req, res, &openai_face);
	c.face_data = &completion;
	enum next next = complete(&c, e);
	chat_end(&c);
	openai_request_clear(&completion.request);
	return next;
}

/* --- GET /v1/models --- */

static struct jval *model_value(const struct instance *app)
{
	struct jval *model = jval_new_object();
	int64_t created_ms = 0;

	(void)clock_parse_rfc3339(app->created_at, &created_ms);
	jval_add_string(model, "id", app->name);
	jval_add_string(model, "object", "model");
	jval_add_int(model, "created", created_ms / 1000);
	jval_add_string(model, "owned_by", "hearth");
	jval_add_string(model, "instance_id", app->instance_id.text);
	return model;
}

static bool list_models(struct request *req, struct db *db, const struct id *org_id, struct jval *data, struct err *e)
{
	struct id after = {""};
	struct instance *apps;
	unsigned count = PAGE_LIMIT_MAX;

	while (count == PAGE_LIMIT_MAX && jval_array_len(data) < MODELS_MAX) {
		if (!instance_list(db, req->mem, org_id, &after, PAGE_LIMIT_MAX, &apps, &count, e))
			return false;
		for (unsigned i = 0; i < count; i++) {
			if (apps[i].status == STATUS_ACTIVE)
				jval_push(data, model_value(&apps[i]));
			after = apps[i].instance_id;
		}
	}
	return true;
}

enum next h_openai_models(struct request *req, struct response *res, struct err *e)
{
	struct visit v = {0};
	struct jval *root, *data;
	enum next next = NEXT_FAIL;

	if (auth_enter(req, res, &v, &next, e)) {
		root = jval_new_object();
		data = jval_new_array();
		jval_add_string(root, "object", "list");
		jval_add(root, "data", data);
		/* A sys_admin has no Apps of its own. */
		if (!id_is_set(&v.access.caller.org_id) || list_models(req, v.db, &v.access.caller.org_id, data, e))
			next = answer(res, 200, root);
		else
			jval_free(&root);
	}
	auth_leave(req, &v);
	return next;
}

enum next h_openai_model(struct request *req, struct response *res, struct err *e)
{
	struct visit v = {0};
	struct instance app;
	enum problem problem = PROBLEM_INSTANCE_NOT_FOUND;
	struct id id = {""};
	enum next next = NEXT_FAIL;
	bool ok = auth_enter(req, res, &v, &next, e);

	if (ok) {
		const struct id *org_id = &v.access.caller.org_id;
		ok = find_app(req, v.db, req->file, org_id, &id, e) &&
		     (!id_is_set(&id) || instance_get(v.db, req->mem, &id, &app, &problem, e));
		/* Of another org: as if it were not there. */
		if (ok && problem == PROBLEM_NONE && id_is_set(org_id) && !id_equal(&app.org_id, org_id))
			problem = PROBLEM_INSTANCE_NOT_FOUND;
		if (ok && problem == PROBLEM_NONE && app.is_deleted)
			problem = PROBLEM_INSTANCE_DELETED;
		if (ok)
			next = problem == PROBLEM_NONE ? answer(res, 200, model_value(&app))
						       : refuse(res, problem, NULL);
	}
	auth_leave(req, &v);
	return next;
}
