/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log: append-only. */
#ifndef CORE_AUDIT_H
#define CORE_AUDIT_H

#include <stdbool.h>

#include "core/names.h"
#include "core/problem.h"
#include "lib/id.h"

struct arena;
struct db;

/* Where a request came from; strings may be NULL. */
struct audit_origin {
	const char *source_ip;
	const char *request_id;
};

struct audit_entry {
	struct id audit_id;         /* made by audit_write */
	struct id org_id, token_id; /* "": none */
	const char *role;           /* NULL: not known */
	const char *action;         /* "instance.load", "org.create", "token.revoke", … */
	const char *target;         /* NULL: none */
	enum problem result;
	const char *result_code; /* from audit_list only */
	struct audit_origin origin;
	const char *detail; /* NULL: none; never a secret */
	const char *at;     /* from audit_list only, RFC 3339 */
};

/* In the caller's transaction, else by itself. */
bool audit_write(struct db *db, const struct audit_entry *entry, struct err *e) MUST_CHECK;
/* Several in one round trip; at least one. */
bool audit_write_set(struct db *db, const struct audit_entry *entries, unsigned count, struct err *e) MUST_CHECK;
/* Newest first. org_id "" or NULL: all orgs. */
bool audit_list(struct db *db, struct arena *mem, const struct id *org_id, const struct id *after, unsigned limit,
		struct audit_entry **ret_entries, unsigned *ret_count, struct err *e) MUST_CHECK;

#endif
