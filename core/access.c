/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One statement reads token, org and App; the checks follow in C, in the order
 * that DESIGN 4 gives, so that each refusal has one line.
 *
 * The locking statement names the App first, for two reasons that were looked
 * at in MariaDB 10.11 (test_access holds them): only the derived table carries
 * FOR UPDATE, so token and org, which many requests share, are read without a lock; and
 * the snapshot for these two is taken when the first of them is read, which is
 * after the wait for the App's row. So an org that was suspended meanwhile is seen as
 * suspended. Where there is no such App it finds no row at all, and the
 * plain statement tells what to answer.
 */
#include "core/access.h"

#include <assert.h>
#include <string.h>

#include "core/sql.h"
#include "lib/arena.h"
#include "lib/db.h"

#define ACCESS_COLUMNS(config)                                                                                         \
	"SELECT t.token_id, t.org_id, t.role, t.name, "                                                                \
	"t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > UTC_TIMESTAMP(3)), "                         \
	"t.last_used_at IS NULL OR t.last_used_at < UTC_TIMESTAMP(3) - INTERVAL 1 MINUTE, " ORG_COLUMNS                \
	", " INSTANCE_COLUMNS(config)

#define FROM_PLAIN                                                                                                     \
	" FROM api_tokens t LEFT JOIN organizations o ON o.org_id = ? "                                                \
	"LEFT JOIN orchestrator_instances i ON i.instance_id = ? WHERE t.token_hash = ?"
#define FROM_OWN_ORG                                                                                                   \
	" FROM api_tokens t LEFT JOIN orchestrator_instances i ON i.instance_id = ? "                                  \
	"LEFT JOIN organizations o ON o.org_id = i.org_id WHERE t.token_hash = ?"
#define FROM_LOCKED                                                                                                    \
	" FROM (SELECT * FROM orchestrator_instances WHERE instance_id = ? FOR UPDATE) i "                             \
	"LEFT JOIN api_tokens t ON t.token_hash = ? LEFT JOIN organizations o ON o.org_id = ?"

static const char SQL_ACCESS[] = ACCESS_COLUMNS("NULL") FROM_PLAIN;
static const char SQL_ACCESS_CONFIG[] = ACCESS_COLUMNS("i.config") FROM_PLAIN;
static const char SQL_ACCESS_OWN_ORG[] = ACCESS_COLUMNS("NULL") FROM_OWN_ORG;
static const char SQL_ACCESS_LOCKED[] = ACCESS_COLUMNS("NULL") FROM_LOCKED;
static const char SQL_ACCESS_LOCKED_CONFIG[] = ACCESS_COLUMNS("i.config") FROM_LOCKED;
SQL_SET(SQL_LOCK_SET,
	"SELECT " INSTANCE_COLUMNS(
		"NULL") " FROM orchestrator_instances i FORCE INDEX (PRIMARY) WHERE i.instance_id IN ",
	" FOR UPDATE SKIP LOCKED");
static const char SQL_ORG_LOCK[] = "SELECT 1 FROM organizations WHERE org_id = ? FOR UPDATE";

enum { TOKEN_ID, TOKEN_ORG, TOKEN_ROLE, TOKEN_NAME, TOKEN_IS_VALID, TOKEN_TOUCH_DUE, ORG_FIRST };
enum { INSTANCE_FIRST = ORG_FIRST + ORG_COLUMN_COUNT };

/* What the statement found, beside what went into struct access. */
struct found {
	bool is_valid; /* the token */
	bool has_org, has_instance;
};

static void use_plain(struct db *db, const struct access_request *q)
{
	db_use(db, q->with_config ? SQL_ACCESS_CONFIG : SQL_ACCESS);
	db_bind_id(db, q->has_org ? &q->org_id : NULL);
	db_bind_id(db, q->has_instance ? &q->instance_id : NULL);
	db_bind_bytes(db, q->token_hash, SECRET_HASH_BYTES);
}

static void use_own_org(struct db *db, const struct access_request *q)
{
	db_use(db, SQL_ACCESS_OWN_ORG);
	db_bind_id(db, &q->instance_id);
	db_bind_bytes(db, q->token_hash, SECRET_HASH_BYTES);
}

static void use_locked(struct db *db, const struct access_request *q)
{
	db_use(db, q->with_config ? SQL_ACCESS_LOCKED_CONFIG : SQL_ACCESS_LOCKED);
	db_bind_id(db, &q->instance_id);
	db_bind_bytes(db, q->token_hash, SECRET_HASH_BYTES);
	db_bind_id(db, q->has_org ? &q->org_id : NULL);
}

static bool lock_org(struct db *db, const struct access_request *q, struct err *e)
{
	db_use(db, SQL_ORG_LOCK);
	db_bind_id(db, &q->org_id);
	return db_exec(db, e);
}

/* Runs the statement that fits; its row stays readable. */
static enum db_result find(struct db *db, const struct access_request *q, struct err *e)
{
	enum db_result result;

	assert(!(q->org_is_instances && q->lock_instance));
	if (q->has_org && q->lock_org && !lock_org(db, q, e))
		return DB_FAIL;
	if (q->has_instance && q->lock_instance) {
		use_locked(db, q);
		result = sql_first(db, e);
		if (result != DB_DONE)
			return result;
	}
	if (q->org_is_instances && !q->has_org)
		use_own_org(db, q);
	else
		use_plain(db, q);
	return sql_first(db, e);
}

/* Token and org. */
static void read_caller(struct db *db, struct arena *mem, struct access *access, struct found *found)
{
	struct caller *caller = &access->caller;

	found->is_valid = db_col_i64(db, TOKEN_IS_VALID) && role_parse(db_col_str(db, TOKEN_ROLE), &caller->role);
	found->has_org = !db_col_is_null(db, ORG_FIRST);
	if (!found->is_valid)
		return;
	caller->token_id = db_col_id(db, TOKEN_ID);
	caller->org_id = db_col_id(db, TOKEN_ORG);
	caller->token_name = sql_str(db, mem, TOKEN_NAME);
	caller->touch_due = db_col_i64(db, TOKEN_TOUCH_DUE) != 0;
	if (found->has_org)
		org_from_row(db, mem, ORG_FIRST, &access->org);
}

static void read_row(struct db *db, struct arena *mem, struct access *access, struct found *found)
{
	read_caller(db, mem, access, found);
	found->has_instance = !db_col_is_null(db, INSTANCE_FIRST);
	if (found->is_valid && found->has_instance)
		instance_from_row(db, mem, INSTANCE_FIRST, &access->instance);
}

static enum problem judge_instance(const struct access_request *q, const struct access *access,
				   const struct found *found)
{
	const struct id *owner = q->has_org ? &q->org_id : &access->caller.org_id;

	if (!found->has_instance)
		return PROBLEM_INSTANCE_NOT_FOUND;
	if (id_is_set(owner) && !id_equal(owner, &access->instance.org_id))
		return PROBLEM_INSTANCE_FORBIDDEN;
	return access->instance.is_deleted ? PROBLEM_INSTANCE_DELETED : PROBLEM_NONE;
}

static enum problem judge(const struct access_request *q, const struct access *access, const struct found *found)
{
	const struct id *bound_to = &access->caller.org_id;
	enum problem problem = PROBLEM_NONE;

	if (!found->is_valid)
		return PROBLEM_UNAUTHORIZED;
	if (q->has_org && id_is_set(bound_to) && !id_equal(bound_to, &q->org_id))
		return PROBLEM_ORG_MISMATCH;
	if (!role_may(access->caller.role, q->permission))
		return PROBLEM_FORBIDDEN;
	if (q->has_org && !found->has_org)
		return PROBLEM_ORG_NOT_FOUND;
	if (q->has_instance)
		problem = judge_instance(q, access, found);
	if (problem != PROBLEM_NONE || !q->must_be_active)
		return problem;
	if (found->has_org && access->org.status == STATUS_SUSPENDED)
		return PROBLEM_ORG_SUSPENDED;
	if (q->has_instance && access->instance.status == STATUS_SUSPENDED)
		return PROBLEM_INSTANCE_SUSPENDED;
	return PROBLEM_NONE;
}

bool access_check(struct db *db, struct arena *mem, const struct access_request *request, struct access *ret_access,
		  enum problem *ret_problem, struct err *e)
{
	struct found found = {0};
	struct access access;
	enum db_result result;

	memset(&access, 0, sizeof(access));
	result = find(db, request, e);
	if (result == DB_FAIL)
		return false;
	if (result == DB_ROW)
		read_row(db, mem, &access, &found);
	if (!sql_mem_ok(mem, e))
		return false;
	*ret_access = access;
	*ret_problem = judge(request, &access, &found);
	return true;
}

/* --- several at once --- */

static bool lock_set(struct db *db, struct access_step *steps, struct found *founds, unsigned count, struct err *e)
{
	struct id_set set = {.count = 0};
	enum db_result result;

	for (unsigned i = 0; i < count; i++)
		id_set_add(&set, &steps[i].request->instance_id);
	sql_use_set(db, SQL_LOCK_SET, &set);
	sql_bind_set(db, &set);
	while ((result = db_step(db, e)) == DB_ROW) {
		struct id id = db_col_id(db, 0);

		for (unsigned i = 0; i < count; i++) {
			if (!id_equal(&steps[i].request->instance_id, &id))
				continue;
			instance_from_row(db, steps[i].mem, 0, &steps[i].access.instance);
			founds[i].has_instance = true;
			steps[i].is_left_over = false;
		}
	}
	return result == DB_DONE;
}

static bool is_same_caller(const struct access_request *a, const struct access_request *b)
{
	return memcmp(a->token_hash, b->token_hash, SECRET_HASH_BYTES) == 0 && id_equal(&a->org_id, &b->org_id);
}

/* After the locks, so that an org that was suspended meanwhile is seen as suspended. Callers that are the same are read
 * once. */
static bool read_callers(struct db *db, struct access_step *steps, struct found *founds, unsigned count, struct err *e)
{
	bool is_read[SQL_SET_MAX] = {false};

	for (unsigned i = 0; i < count; i++) {
		struct access_request plain = *steps[i].request;
		if (is_read[i] || steps[i].is_left_over)
			continue;
		plain.has_instance = false;
		use_plain(db, &plain);
		enum db_result result = sql_first(db, e);
		if (result == DB_FAIL)
			return false;
		for (unsigned j = i; j < count; j++) {
			if (!is_same_caller(&plain, steps[j].request))
				continue;
			is_read[j] = true;
			if (result == DB_ROW)
				read_caller(db, steps[j].mem, &steps[j].access, &founds[j]);
		}
	}
	return true;
}

bool access_check_set(struct db *db, struct access_step *steps, unsigned count, struct err *e)
{
	struct found founds[SQL_SET_MAX] = {{0}};

	for (unsigned i = 0; i < count; i++) {
		memset(&steps[i].access, 0, sizeof(steps[i].access));
		steps[i].is_left_over = true;
	}
	if (!lock_set(db, steps, founds, count, e) || !read_callers(db, steps, founds, count, e))
		return false;
	for (unsigned i = 0; i < count; i++) {
		if (!sql_mem_ok(steps[i].mem, e))
			return false;
		if (!steps[i].is_left_over)
			steps[i].problem = judge(steps[i].request, &steps[i].access, &founds[i]);
	}
	return true;
}
