/* SPDX-License-Identifier: Apache-2.0 */
/* The query of a list. */
#include "fcgi-app/page.h"

#include "fcgi-app/fields.h"
#include "lib/arena.h"

bool page_read(struct request *req, struct response *res, struct page *ret_page, enum next *ret_next)
{
	struct field_errors *errors = arena_alloc(req->mem, sizeof(*errors));
	struct field_error error = {.field = ""};

	if (request_page(req, ret_page, &error))
		return true;
	if (errors) {
		errors->mem = req->mem;
		fields_fail(errors, error.field, error.reason);
	}
	*ret_next = refuse_fields(res, errors);
	return false;
}

bool page_parse_number(const char *text, uint32_t *ret_n)
{
	uint64_t n = 0;

	if (*text == '\0')
		return false;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return false;
		n = n * 10 + (uint64_t)(*text - '0');
		if (n > UINT32_MAX)
			return false;
	}
	*ret_n = (uint32_t)n;
	return true;
}

/* The parameter's number; what is absent stays. False: it is no number. */
static bool read_number(const struct request *req, const char *name, uint32_t *n)
{
	bool is_good;
	const char *text = request_query(req, name, &is_good);

	return is_good && (!text || page_parse_number(text, n));
}

bool page_read_numbered(struct request *req, struct response *res, const char *what, struct numbered_page *ret_page,
			enum next *ret_next)
{
	struct field_errors *errors = arena_alloc(req->mem, sizeof(*errors));
	uint32_t limit = PAGE_LIMIT_DEFAULT, after = 0;

	if (!errors) {
		*ret_next = refuse(res, PROBLEM_INTERNAL, NULL);
		return false;
	}
	errors->mem = req->mem;
	errors->count = 0;
	if (!read_number(req, "limit", &limit) || limit < 1 || limit > PAGE_LIMIT_MAX)
		fields_fail(errors, "limit", "must be an integer from 1 to 200");
	if (!read_number(req, "after", &after))
		fields_fail(errors, "after", arena_printf(req->mem, "must be the number of %s", what));
	if (errors->count > 0) {
		*ret_next = refuse_fields(res, errors);
		return false;
	}
	*ret_page = (struct numbered_page){.after = after, .limit = limit};
	return true;
}

const struct id *page_after(const struct page *page)
{
	return id_is_set(&page->after) ? &page->after : NULL;
}
