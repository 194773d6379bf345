/* SPDX-License-Identifier: Apache-2.0 */
/* API tokens: only their hashes are stored. Token functions never see more than the hash. */
#ifndef CORE_TOKEN_H
#define CORE_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/names.h"
#include "core/problem.h"
#include "lib/id.h"
#include "lib/secret.h"

struct arena;
struct db;

#define TOKEN_NAME_MAX 100 /* characters */

struct token {
	struct id token_id;
	struct id org_id; /* "": sys_admin */
	const char *name;
	enum role role;
	const char *created_at, *expires_at, *revoked_at, *last_used_at; /* RFC 3339, NULL: never */
};

/* expires_at: "YYYY-MM-DD HH:MM:SS.mmm" UTC or NULL. PROBLEM_ORG_NOT_FOUND. org_id must be set exactly for roles below
 * sys_admin. */
bool token_create(struct db *db, const struct token *token, const uint8_t hash[SECRET_HASH_BYTES],
		  enum problem *ret_problem, struct err *e) MUST_CHECK;
/* org_id "" lists the sys_admin tokens. */
bool token_list(struct db *db, struct arena *mem, const struct id *org_id, const struct id *after, unsigned limit,
		struct token **ret_tokens, unsigned *ret_count, struct err *e) MUST_CHECK;
/* Revoked at once; again is no error. PROBLEM_TOKEN_NOT_FOUND also for a token of another org (org_id NULL: any). */
bool token_revoke(struct db *db, const struct id *org_id, const struct id *token_id, enum problem *ret_problem,
		  struct err *e) MUST_CHECK;
/* Records the use, at most once a minute; best effort. */
void token_touch(struct db *db, const struct id *token_id);

#endif
