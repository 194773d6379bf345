/* SPDX-License-Identifier: Apache-2.0 */
/* Reading operations: one by its id, those of an App with the newest first. */
#include "fcgi-app/handlers.h"

#include "core/operation.h"
#include "fcgi-app/auth.h"
#include "fcgi-app/page.h"
#include "fcgi-app/render.h"
#include "fcgi-app/request.h"
#include "lib/json.h"

enum next h_operation_get(struct request *req, struct response *res, struct err *e)
{
	enum problem problem = PROBLEM_OPERATION_NOT_FOUND;
	struct operation op;
	struct visit v = {0};
	enum next next = NEXT_FAIL;

	if (!auth_enter(req, res, &v, &next, e))
		goto out;
	if (id_is_set(&req->item_id) && !operation_get(v.db, req->mem, &req->org_id, &req->item_id, &op, &problem, e))
		goto out;
	if (problem == PROBLEM_NONE)
		next = answer(res, 200, render_operation(&op));
	else
		next = refuse(res, problem, NULL);
out:
	auth_leave(req, &v);
	return next;
}

enum next h_operation_list(struct request *req, struct response *res, struct err *e)
{
	struct operation *ops = NULL;
	unsigned count = 0;
	struct page page;
	struct visit v = {0};
	enum next next = NEXT_FAIL;

	if (!auth_enter(req, res, &v, &next, e) || !page_read(req, res, &page, &next))
		goto out;
	next = NEXT_FAIL;
	if (!operation_list(v.db, req->mem, &req->instance_id, page_after(&page), page.limit + 1, &ops, &count, e))
		goto out;
	struct jval *items = jval_new_array();
	unsigned shown = count > page.limit ? page.limit : count;
	for (unsigned i = 0; i < shown; i++)
		jval_push(items, render_operation(&ops[i]));
	next = answer(res, 200, render_page(items, count > shown ? &ops[shown - 1].operation_id : NULL));
out:
	auth_leave(req, &v);
	return next;
}
