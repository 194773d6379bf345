/* SPDX-License-Identifier: Apache-2.0 */
/* A refusal as the client sees it: application/problem+json (RFC 9457). */
#ifndef FCGI_APP_PROBLEM_DOC_H
#define FCGI_APP_PROBLEM_DOC_H

#include <stddef.h>

#include "core/problem.h"

struct field_error;
struct jval;

#define PROBLEM_DOC_TYPE "application/problem+json"

struct problem_doc {
	enum problem problem;
	const char *detail;     /* NULL: what can be said of every such problem */
	const char *reason;     /* why an App failed, from its row; NULL: none */
	const char *request_id; /* NULL: none */
	const char *extra_name; /* one more member; NULL: none */
	struct jval *extra;     /* borrowed: the document becomes its second owner */
	const struct field_error *errors;
	size_t error_count;
};

/* A new object: type, title, status, detail, code, request_id, and where there are some errors and reason. */
struct jval *problem_doc_new(const struct problem_doc *doc);
/* How many seconds a client should wait before it tries again; 0: no Retry-After. */
int problem_retry_after_s(enum problem problem);

#endif
