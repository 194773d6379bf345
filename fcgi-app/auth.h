/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is asking, and may they: every handler passes through here first. What a
 * route needs follows from its row in the table, so no handler can forget it.
 *
 *   struct visit v = {0};
 *   enum next next = NEXT_FAIL;
 *   if (auth_enter(req, res, &v, &next, e)) { … v.db … v.access … }
 *   auth_leave(req, &v);
 *   return next;
 */
#ifndef FCGI_APP_AUTH_H
#define FCGI_APP_AUTH_H

#include <stdbool.h>

#include "core/access.h"
#include "fcgi-app/response.h"
#include "lib/err.h"

struct db;
struct request;

struct visit {
	struct db *db;
	struct access access;
};

/* What the request's route and token ask for: without locks, must_be_active false. */
void auth_ask(const struct request *req, struct access_request *ret_ask);
/* access_check, and what is known of the caller is kept for the log and the audit row. */
bool auth_check(struct request *req, struct db *db, const struct access_request *ask, struct access *ret_access,
		enum problem *ret_problem, struct err *e) MUST_CHECK;
/* For reads: takes a connection and checks. False: *ret_next says what to return. auth_leave in any case. */
bool auth_enter(struct request *req, struct response *res, struct visit *v, enum next *ret_next, struct err *e);
void auth_leave(struct request *req, struct visit *v);

/*
 * Before the body is looked at by anyone without a right to send one: reads and parses it into req->body. Where it is
 * wrong but the caller may not do this at all, the latter is what is answered. False: *ret_next.
 */
bool auth_body(struct request *req, struct response *res, bool is_optional, enum next *ret_next, struct err *e);
/* The same for fields that were found wrong. */
enum next auth_refuse_fields(struct request *req, struct response *res, const struct field_errors *errors,
			     struct err *e);

/* Writes the audit row of a refused change, where its route is audited; best effort. */
void auth_audit_refusal(struct request *req, enum problem problem);

#endif
