/* SPDX-License-Identifier: Apache-2.0 */
/* The versions of an AI App: listed, read, compared. Going back to one is a change of the App: h_instance.c. */
#include "fcgi-app/handlers.h"

#include "core/version.h"
#include "fcgi-app/auth.h"
#include "fcgi-app/fields.h"
#include "fcgi-app/page.h"
#include "fcgi-app/render.h"
#include "fcgi-app/request.h"
#include "lib/arena.h"
#include "lib/json.h"
#include "lib/json_diff.h"

/* Two configurations as large as a body may be are told apart by one value each. */
static const struct json_diff_limits diff_limits = {.count_max = 1000, .bytes_max = (size_t)4 * 1024 * 1024};

enum next h_version_list(struct request *req, struct response *res, struct err *e)
{
	struct version *list = NULL;
	struct numbered_page page;
	unsigned count = 0;
	struct visit v = {0};
	enum next next = NEXT_FAIL;

	if (!auth_enter(req, res, &v, &next, e) || !page_read_numbered(req, res, "a version", &page, &next))
		goto out;
	next = NEXT_FAIL;
	if (!version_list(v.db, req->mem, &req->instance_id, page.after, page.limit + 1, &list, &count, e))
		goto out;
	struct jval *o = jval_new_object(), *items = jval_new_array();
	unsigned shown = count > page.limit ? page.limit : count;
	for (unsigned i = 0; i < shown; i++)
		jval_push(items, render_version(&list[i]));
	jval_add(o, "items", items);
	if (count > shown)
		jval_add_int(o, "next", list[shown - 1].version);
	else
		jval_add(o, "next", NULL);
	next = answer(res, 200, o);
out:
	auth_leave(req, &v);
	return next;
}

/* What made the other one into this. */
static void add_differences(struct jval *o, const struct version *other, const struct version *this)
{
	struct jval *from = render_stored(other->config), *to = render_stored(this->config);
	bool is_complete;

	jval_add_int(o, "compared_with", other->version);
	jval_add(o, "differences", json_diff(from, to, &diff_limits, &is_complete));
	jval_add_bool(o, "differences_complete", is_complete);
	jval_free(&from);
	jval_free(&to);
}

/* A number that cannot be one names no version, as a malformed id names nothing. */
static bool find_version(struct request *req, struct db *db, const char *number, struct version *ret_version,
			 enum problem *ret_problem, struct err *e)
{
	uint32_t n;

	*ret_problem = PROBLEM_VERSION_NOT_FOUND;
	return !page_parse_number(number, &n) ||
	       version_get(db, req->mem, &req->instance_id, n, ret_version, ret_problem, e);
}

/* ?compare=<number>; NULL: not asked for. False: *ret_next. */
static bool read_compare(struct request *req, struct response *res, const char **ret_compare, enum next *ret_next)
{
	struct field_errors *errors = arena_alloc(req->mem, sizeof(*errors));
	bool is_good;

	*ret_compare = request_query(req, "compare", &is_good);
	if (is_good)
		return true;
	if (errors) {
		*errors = (struct field_errors){.mem = req->mem};
		fields_fail(errors, "compare", "must be the number of a version");
	}
	*ret_next = refuse_fields(res, errors);
	return false;
}

enum next h_version_get(struct request *req, struct response *res, struct err *e)
{
	enum problem problem = PROBLEM_NONE;
	struct version version, other;
	const char *compare;
	struct visit v = {0};
	enum next next = NEXT_FAIL;

	if (!auth_enter(req, res, &v, &next, e) || !read_compare(req, res, &compare, &next))
		goto out;
	next = NEXT_FAIL;
	if (!find_version(req, v.db, req->file, &version, &problem, e))
		goto out;
	if (problem == PROBLEM_NONE && compare && !find_version(req, v.db, compare, &other, &problem, e))
		goto out;
	if (problem != PROBLEM_NONE) {
		next = refuse(res, problem, NULL);
		goto out;
	}
	struct jval *o = render_version(&version);
	if (compare)
		add_differences(o, &other, &version);
	next = answer(res, 200, o);
out:
	auth_leave(req, &v);
	return next;
}
