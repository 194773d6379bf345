/* SPDX-License-Identifier: Apache-2.0 */
/*
 * API tokens. Found by their hash alone (access.c); here they are made, listed,
 * revoked. A revoked token stays as a row: the audit log names it.
 */
#include "core/token.h"

#include "core/sql.h"
#include "lib/arena.h"
#include "lib/db.h"

static const char SQL_TOKEN_INSERT[] =
	"INSERT INTO api_tokens (token_id, org_id, name, role, token_hash, created_at, expires_at) "
	"VALUES (?, ?, ?, ?, ?, UTC_TIMESTAMP(3), ?)";
static const char SQL_TOKEN_LIST[] =
	"SELECT token_id, org_id, name, role, " SQL_UTC("created_at") ", " SQL_UTC("expires_at") ", " SQL_UTC(
		"revoked_at") ", " SQL_UTC("last_used_at") " FROM api_tokens WHERE org_id <=> ? AND token_id > ? "
							   "ORDER BY token_id LIMIT ?";
static const char SQL_TOKEN_REVOKE[] = "UPDATE api_tokens SET revoked_at = COALESCE(revoked_at, UTC_TIMESTAMP(3)) "
				       "WHERE token_id = ? AND (? OR org_id <=> ?)";
static const char SQL_TOKEN_TOUCH[] =
	"UPDATE api_tokens SET last_used_at = UTC_TIMESTAMP(3) WHERE token_id = ? "
	"AND (last_used_at IS NULL OR last_used_at < UTC_TIMESTAMP(3) - INTERVAL 1 MINUTE)";

enum { TOKEN_ID, TOKEN_ORG, TOKEN_NAME, TOKEN_ROLE, TOKEN_CREATED, TOKEN_EXPIRES, TOKEN_REVOKED, TOKEN_USED };

bool token_create(struct db *db, const struct token *token, const uint8_t hash[SECRET_HASH_BYTES],
		  enum problem *ret_problem, struct err *e)
{
	struct err reason = {0};

	if (id_is_set(&token->org_id) == (token->role == ROLE_SYS_ADMIN))
		return err_set(e, ERR_INPUT, "a token of role %s %s an org", role_name(token->role),
			       token->role == ROLE_SYS_ADMIN ? "has not" : "needs");
	db_use(db, SQL_TOKEN_INSERT);
	db_bind_id(db, &token->token_id);
	db_bind_id(db, &token->org_id);
	db_bind_str(db, token->name);
	db_bind_str(db, role_name(token->role));
	db_bind_bytes(db, hash, SECRET_HASH_BYTES);
	db_bind_str(db, token->expires_at);
	*ret_problem = PROBLEM_NONE;
	if (db_exec(db, &reason))
		return true;
	/* Its id and 256 random bits are new, so what is missing is the org. */
	if (reason.code != ERR_CONFLICT)
		return err_set(e, reason.code, "%s", reason.text);
	*ret_problem = PROBLEM_ORG_NOT_FOUND;
	return true;
}

static void token_from_row(struct db *db, struct arena *mem, void *ret_row)
{
	struct token *token = ret_row;

	token->token_id = db_col_id(db, TOKEN_ID);
	token->org_id = db_col_id(db, TOKEN_ORG);
	token->name = sql_str(db, mem, TOKEN_NAME);
	(void)role_parse(db_col_str(db, TOKEN_ROLE), &token->role);
	token->created_at = sql_str(db, mem, TOKEN_CREATED);
	token->expires_at = sql_str(db, mem, TOKEN_EXPIRES);
	token->revoked_at = sql_str(db, mem, TOKEN_REVOKED);
	token->last_used_at = sql_str(db, mem, TOKEN_USED);
}

bool token_list(struct db *db, struct arena *mem, const struct id *org_id, const struct id *after, unsigned limit,
		struct token **ret_tokens, unsigned *ret_count, struct err *e)
{
	void *rows;

	db_use(db, SQL_TOKEN_LIST);
	db_bind_id(db, org_id);
	sql_bind_after(db, after, SQL_ID_FIRST);
	db_bind_u64(db, sql_page(limit));
	if (!sql_collect(db, mem, token_from_row, sizeof(struct token), limit, &rows, ret_count, e))
		return false;
	*ret_tokens = rows;
	return true;
}

bool token_revoke(struct db *db, const struct id *org_id, const struct id *token_id, enum problem *ret_problem,
		  struct err *e)
{
	db_use(db, SQL_TOKEN_REVOKE);
	db_bind_id(db, token_id);
	db_bind_i64(db, org_id == NULL);
	db_bind_id(db, org_id);
	if (!db_exec(db, e))
		return false;
	*ret_problem = db_affected(db) > 0 ? PROBLEM_NONE : PROBLEM_TOKEN_NOT_FOUND;
	return true;
}

void token_touch(struct db *db, const struct id *token_id)
{
	db_use(db, SQL_TOKEN_TOUCH);
	db_bind_id(db, token_id);
	(void)!db_exec(db, NULL);
}
