/* SPDX-License-Identifier: Apache-2.0 */
/* Matching a path against the table, segment by segment; the table is short enough to be walked. */
#include "fcgi-app/router.h"

#include <string.h>

#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/json.h"

static const struct {
	enum method method;
	const char *name;
} method_names[] = {
	{METHOD_GET, "GET"},
	{METHOD_POST, "POST"},
	{METHOD_PATCH, "PATCH"},
	{METHOD_DELETE, "DELETE"},
};

const char *router_method_name(enum method method)
{
	for (size_t i = 0; i < ARRAY_LEN(method_names); i++)
		if (method_names[i].method == method)
			return method_names[i].name;
	return "?";
}

bool route_has_org(const struct route *route)
{
	return strstr(route->pattern, "{org}") != NULL;
}

bool route_has_instance(const struct route *route)
{
	return strstr(route->pattern, "{id}") != NULL;
}

static bool is_part(const char *part, size_t len, const char *text)
{
	return strlen(text) == len && memcmp(part, text, len) == 0;
}

/* A malformed id leaves "": the route is found, the id names nothing. */
static void take_id(const char *segment, struct id *ret_id)
{
	if (!id_parse(segment, strlen(segment), ret_id))
		*ret_id = (struct id){""};
}

/* part is one segment of a pattern; req may be NULL: only tell whether it fits. */
static bool take_segment(const char *part, size_t len, const char *segment, struct request *req)
{
	if (part[0] != '{')
		return is_part(part, len, segment);
	if (!req)
		return true;
	if (is_part(part, len, "{org}"))
		take_id(segment, &req->org_id);
	else if (is_part(part, len, "{id}"))
		take_id(segment, &req->instance_id);
	else if (is_part(part, len, "{item}"))
		take_id(segment, &req->item_id);
	else
		req->file = segment;
	return true;
}

static bool match(const char *pattern, const struct request *seen, struct request *req)
{
	unsigned i = 0;

	while (*pattern == '/') {
		size_t len = strcspn(++pattern, "/");
		if (len == 0) /* a pattern that ends with a slash */
			return i == seen->segment_count && seen->ends_with_slash;
		if (i == seen->segment_count || !take_segment(pattern, len, seen->segments[i++], req))
			return false;
		pattern += len;
	}
	return i == seen->segment_count && !seen->ends_with_slash;
}

static const char *append_allowed(struct arena *mem, const char *list, enum method method)
{
	list = arena_list(mem, list, ", ", router_method_name(method));
	return method == METHOD_GET ? arena_list(mem, list, ", ", "HEAD") : list;
}

enum problem router_match(struct request *req, const char **ret_allow)
{
	const char *allow = "";

	for (size_t i = 0; i < route_count; i++) {
		const struct route *route = &routes[i];
		if (!match(route->pattern, req, NULL))
			continue;
		if (route->method == req->method) {
			(void)match(route->pattern, req, req);
			req->route = route;
			return PROBLEM_NONE;
		}
		allow = append_allowed(req->mem, allow, route->method);
	}
	*ret_allow = allow;
	return *allow ? PROBLEM_METHOD_NOT_ALLOWED : PROBLEM_NOT_FOUND;
}

static const char *scope_of(const struct route *route)
{
	if (route_has_instance(route))
		return "instance";
	if (route->permission == PERM_ADMIN)
		return "admin";
	return route_has_org(route) ? "org" : "none";
}

void router_print(struct buf *out)
{
	struct jval *list = jval_new_array();
	size_t len;

	for (size_t i = 0; i < route_count; i++) {
		struct jval *one = jval_new_object();
		jval_add_string(one, "method", router_method_name(routes[i].method));
		jval_add_string(one, "path", routes[i].pattern);
		jval_add_string(one, "permission", permission_name(routes[i].permission));
		jval_add_string(one, "scope", scope_of(&routes[i]));
		jval_push(list, one);
	}
	const char *text = jval_text(list, &len);
	buf_append(out, text, len);
	jval_free(&list);
}
