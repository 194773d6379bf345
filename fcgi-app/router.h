/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Routes: one static table (routes.c) of method, pattern, permission and
 * handler. To add one: a row there, a handler in the h_<noun>.c of its resource,
 * its prototype in handlers.h.
 *
 * A pattern's {org}, {id} (an AI App), {item}, {version} and {file} take one segment each, the last two as text. What a
 * route needs to be
 * authorized follows from it: an organization where it has {org}, an App where it has {id}.
 */
#ifndef FCGI_APP_ROUTER_H
#define FCGI_APP_ROUTER_H

#include <stdbool.h>
#include <stddef.h>

#include "core/permission.h"
#include "core/problem.h"
#include "fcgi-app/request.h"
#include "fcgi-app/response.h"
#include "lib/err.h"

struct buf;

typedef enum next (*route_handler)(struct request *req, struct response *res, struct err *e);

struct route {
	enum method method;
	const char *pattern;
	enum permission permission;
	route_handler handler;
	const char *audited;  /* the action in the audit log; NULL: a read */
	bool is_self_audited; /* the handler writes the row of a refusal too */
};

extern const struct route routes[];
extern const size_t route_count;

bool route_has_org(const struct route *route);
bool route_has_instance(const struct route *route);

/*
 * Finds the route of the request's path and method and sets req->route and what the pattern took. PROBLEM_NOT_FOUND;
 * PROBLEM_METHOD_NOT_ALLOWED with *ret_allow, in the request's arena.
 */
enum problem router_match(struct request *req, const char **ret_allow);
/* "GET"; "?" for one that no route has. */
const char *router_method_name(enum method method);
/* The table as JSON: [{"method","path","permission","scope"}]; scope is none, admin, org or instance. */
void router_print(struct buf *out);

#endif
