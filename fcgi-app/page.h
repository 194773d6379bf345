/* SPDX-License-Identifier: Apache-2.0 */
/* What the lists share: ?limit=&after=, one row more than shown tells whether there is a next page. */
#ifndef FCGI_APP_PAGE_H
#define FCGI_APP_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "fcgi-app/request.h"
#include "fcgi-app/response.h"

/* False: *ret_next is a refusal that names the parameter. */
bool page_read(struct request *req, struct response *res, struct page *ret_page, enum next *ret_next);
/* Of a list whose rows are numbered from 1; what they are ("a message") is for the refusal. */
struct numbered_page {
	uint32_t after; /* 0: from the start */
	unsigned limit;
};
bool page_read_numbered(struct request *req, struct response *res, const char *what, struct numbered_page *ret_page,
			enum next *ret_next);
/* Decimal digits and nothing else. */
bool page_parse_number(const char *text, uint32_t *ret_n);
/* NULL from the start, as the list functions of core/ take it. */
const struct id *page_after(const struct page *page);

#endif
