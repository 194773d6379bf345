/* SPDX-License-Identifier: Apache-2.0 */
/* The query of a list. */
#include "fcgi-app/page.h"

#include "fcgi-app/fields.h"
#include "lib/arena.h"

bool page_read(struct request *req, struct response *res, struct page *ret_page, enum next *ret_next)
{
	struct field_errors *errors = arena_alloc(req->mem, sizeof(*errors));
	struct field_error error = {"", ""};

	if (request_page(req, ret_page, &error))
		return true;
	if (errors) {
		errors->mem = req->mem;
		fields_fail(errors, error.field, error.reason);
	}
	*ret_next = refuse_fields(res, errors);
	return false;
}

const struct id *page_after(const struct page *page)
{
	return id_is_set(&page->after) ? &page->after : NULL;
}
