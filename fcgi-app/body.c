/* SPDX-License-Identifier: Apache-2.0 */
/* Body → fields → refusals. */
#include "fcgi-app/body.h"

#include "fcgi-app/auth.h"
#include "fcgi-app/request.h"
#include "lib/arena.h"

struct field_errors *body_errors(struct request *req)
{
	struct field_errors *errors = arena_alloc(req->mem, sizeof(*errors));

	if (errors)
		errors->mem = req->mem;
	return errors;
}

bool body_read(struct request *req, struct response *res, const struct field *table, size_t count, bool is_optional,
	       void *ret_fields, struct field_errors *errors, enum next *ret_next, struct err *e)
{
	*ret_next = NEXT_FAIL;
	if (!errors)
		return err_set(e, ERR_LIMIT, "the memory of a request is too small");
	if (!auth_body(req, res, is_optional, ret_next, e))
		return false;
	if (!req->has_body)
		return true;
	if (fields_read(req->body, "", table, count, ret_fields, errors))
		return true;
	*ret_next = auth_refuse_fields(req, res, errors, e);
	return false;
}
