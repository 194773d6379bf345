/* SPDX-License-Identifier: Apache-2.0 */
/* A request's body read into a struct in one call, with every refusal in the order of DESIGN 4. */
#ifndef FCGI_APP_BODY_H
#define FCGI_APP_BODY_H

#include <stdbool.h>
#include <stddef.h>

#include "fcgi-app/fields.h"
#include "fcgi-app/response.h"
#include "lib/err.h"

struct request;

/* For further errors that only the handler can find. NULL past the request's memory. */
struct field_errors *body_errors(struct request *req);
/* ret_fields holds the defaults. is_optional: an empty body leaves them. False: *ret_next. */
bool body_read(struct request *req, struct response *res, const struct field *table, size_t count, bool is_optional,
	       void *ret_fields, struct field_errors *errors, enum next *ret_next, struct err *e);

#endif
