/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Problem documents. `type` is an identifier, not an address: the code under a
 * tag: URI (RFC 4151), so that nobody has to keep a web site for it.
 */
#include "fcgi-app/problem_doc.h"

#include <stdio.h>
#include <string.h>

#include "core/framework.h"
#include "lib/json.h"

static struct jval *errors_of(const struct problem_doc *doc)
{
	struct jval *list = jval_new_array();

	for (size_t i = 0; i < doc->error_count; i++) {
		struct jval *one = jval_new_object();
		jval_add_string(one, "field", doc->errors[i].field);
		jval_add_string(one, "reason", doc->errors[i].reason);
		jval_push(list, one);
	}
	return list;
}

/* What helps a person beyond the title, where there is something to say. */
static const char *hint_of(enum problem problem)
{
	switch (problem) {
	case PROBLEM_UNAUTHORIZED:
		return "Send \"Authorization: Bearer hrt_…\" with a token that was not revoked and has not expired.";
	case PROBLEM_INVALID:
		return "See errors for the fields and what is wrong with them.";
	case PROBLEM_INSTANCE_NOT_LOADED:
		return "The AI App is not in the pool. Load it and wait for the operation to succeed.";
	case PROBLEM_INSTANCE_LOADING:
		return "The AI App is still loading. Try again in a moment.";
	case PROBLEM_OUTCOME_UNKNOWN:
		return "The connection to the database was lost while the change was being committed. "
		       "Look at Location before you repeat it.";
	default:
		return problem_title(problem);
	}
}

static void add_detail(struct jval *root, const struct problem_doc *doc)
{
	char detail[512];

	if (doc->detail || !doc->reason) {
		jval_add_string(root, "detail", doc->detail ? doc->detail : hint_of(doc->problem));
		return;
	}
	snprintf(detail, sizeof(detail), "%s: %.400s", problem_title(doc->problem), doc->reason);
	if (utf8_is_valid(detail, strlen(detail))) /* it may have been cut */
		jval_add_string(root, "detail", detail);
	else
		jval_add_string(root, "detail", problem_title(doc->problem));
}

struct jval *problem_doc_new(const struct problem_doc *doc)
{
	struct jval *root = jval_new_object();
	char type[64];

	snprintf(type, sizeof(type), "tag:hearth,2026:%s", problem_code(doc->problem));
	jval_add_string(root, "type", type);
	jval_add_string(root, "title", problem_title(doc->problem));
	jval_add_int(root, "status", problem_status(doc->problem));
	add_detail(root, doc);
	jval_add_string(root, "code", problem_code(doc->problem));
	if (doc->reason)
		jval_add_string(root, "reason", doc->reason);
	if (doc->request_id)
		jval_add_string(root, "request_id", doc->request_id);
	if (doc->extra_name)
		jval_add(root, doc->extra_name, doc->extra ? jval_ref(doc->extra) : NULL);
	if (doc->problem == PROBLEM_INVALID)
		jval_add(root, "errors", errors_of(doc));
	return root;
}

int problem_retry_after_s(enum problem problem)
{
	switch (problem) {
	case PROBLEM_BUSY:
	case PROBLEM_TOO_MANY_TURNS:
	case PROBLEM_CONVERSATION_BUSY:
		return 1;
	case PROBLEM_DB_UNAVAILABLE:
	case PROBLEM_BUS_UNAVAILABLE:
	case PROBLEM_OUTCOME_UNKNOWN:
	case PROBLEM_INSTANCE_LOADING:
	case PROBLEM_WORKER_UNRESPONSIVE:
	case PROBLEM_PROVIDER_UNAVAILABLE:
	case PROBLEM_PROVIDER_LIMITED:
		return 2;
	case PROBLEM_INSTANCE_NOT_LOADED:
		return 5;
	case PROBLEM_INSTANCE_FAILED:
		return 10;
	default:
		return 0;
	}
}
