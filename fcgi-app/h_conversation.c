/* SPDX-License-Identifier: Apache-2.0 */
/* The conversations of the token that asks: listed, read, deleted. Nobody sees another token's. */
#include "fcgi-app/handlers.h"

#include "core/conversation.h"
#include "fcgi-app/auth.h"
#include "fcgi-app/page.h"
#include "fcgi-app/render.h"
#include "fcgi-app/request.h"
#include "fcgi-app/write.h"
#include "lib/json.h"

static struct jval *render(const struct conversation *c)
{
	struct jval *o = jval_new_object();

	jval_add_string(o, "conversation_id", c->conversation_id.text);
	jval_add_string(o, "instance_id", c->instance_id.text);
	jval_add_int(o, "message_count", c->message_count);
	jval_add_string(o, "created_at", c->created_at);
	jval_add_string(o, "updated_at", c->updated_at);
	return o;
}

enum next h_conversation_list(struct request *req, struct response *res, struct err *e)
{
	struct conversation *list = NULL;
	unsigned count = 0;
	struct page page;
	struct visit v = {0};
	enum next next = NEXT_FAIL;

	if (!auth_enter(req, res, &v, &next, e) || !page_read(req, res, &page, &next))
		goto out;
	next = NEXT_FAIL;
	if (!conversation_list(v.db, req->mem, &req->org_id, &v.access.caller.token_id, page_after(&page),
			       page.limit + 1, &list, &count, e))
		goto out;
	struct jval *items = jval_new_array();
	unsigned shown = count > page.limit ? page.limit : count;
	for (unsigned i = 0; i < shown; i++)
		jval_push(items, render(&list[i]));
	next = answer(res, 200, render_page(items, count > shown ? &list[shown - 1].conversation_id : NULL));
out:
	auth_leave(req, &v);
	return next;
}

static struct jval *render_message(const struct conversation_message *m)
{
	struct jval *o = jval_new_object();

	jval_add_int(o, "n", m->n);
	jval_add_string(o, "role", m->role);
	jval_add_string(o, "content", m->content);
	if (m->tokens_in >= 0 && m->tokens_out >= 0) {
		struct jval *usage = jval_new_object();
		jval_add_int(usage, "prompt_tokens", m->tokens_in);
		jval_add_int(usage, "completion_tokens", m->tokens_out);
		jval_add_int(usage, "total_tokens", m->tokens_in + m->tokens_out);
		jval_add(o, "usage", usage);
	}
	jval_add_string(o, "created_at", m->created_at);
	return o;
}

/* The conversation with a page of its messages. */
static struct jval *render_whole(const struct conversation *c, const struct conversation_message *messages,
				 unsigned count, bool has_more)
{
	struct jval *o = render(c), *items = jval_new_array();

	for (unsigned i = 0; i < count; i++)
		jval_push(items, render_message(&messages[i]));
	jval_add(o, "messages", items);
	if (has_more && count > 0)
		jval_add_int(o, "next", messages[count - 1].n);
	else
		jval_add(o, "next", NULL);
	return o;
}

enum next h_conversation_get(struct request *req, struct response *res, struct err *e)
{
	enum problem problem = PROBLEM_CONVERSATION_NOT_FOUND;
	struct conversation_message *messages = NULL;
	struct conversation conversation;
	struct numbered_page page;
	unsigned count = 0;
	bool has_more;
	struct visit v = {0};
	enum next next = NEXT_FAIL;

	if (!auth_enter(req, res, &v, &next, e) || !page_read_numbered(req, res, "a message", &page, &next))
		goto out;
	next = NEXT_FAIL;
	if (id_is_set(&req->item_id) && !conversation_get(v.db, req->mem, &req->org_id, &v.access.caller.token_id,
							  &req->item_id, &conversation, &problem, e))
		goto out;
	if (problem != PROBLEM_NONE)
		next = refuse(res, problem, NULL);
	else if (conversation_messages(v.db, req->mem, &req->item_id, page.after, page.limit, &messages, &count,
				       &has_more, e))
		next = answer(res, 200, render_whole(&conversation, messages, count, has_more));
out:
	auth_leave(req, &v);
	return next;
}

static bool delete_body(struct db *db, struct write *w, struct err *e)
{
	w->problem = PROBLEM_CONVERSATION_NOT_FOUND;
	w->target = w->req->item_id;
	return !id_is_set(&w->req->item_id) ||
	       conversation_delete(db, &w->req->org_id, &w->access.caller.token_id, &w->req->item_id, &w->problem, e);
}

enum next h_conversation_delete(struct request *req, struct response *res, struct err *e)
{
	struct write w;

	write_init(&w, req, delete_body, NULL);
	switch (write_run(&w, e)) {
	case WRITE_DONE:
		return answer(res, 204, NULL);
	case WRITE_REFUSED:
		return refuse(res, w.problem, NULL);
	case WRITE_FAILED: /* where it is uncertain, deleting again tells */
		break;
	}
	return NEXT_FAIL;
}
