/* SPDX-License-Identifier: Apache-2.0 */
/* core/token and core/audit against a real server. */
#include "core/token.h"

#include <string.h>

#include "core/audit.h"
#include "lib/arena.h"
#include "tests/unit/harness.h"
#include "tests/unit/sql_fixture.h"

static struct err err;

static enum problem create(struct token *token)
{
	uint8_t hash[SECRET_HASH_BYTES];
	enum problem problem = PROBLEM_INTERNAL;

	token->token_id = id_new();
	secret_hash(token->token_id.text, ID_TEXT_LEN, hash);
	CU_ASSERT_TRUE(token_create(fx.db, token, hash, &problem, &err));
	return problem;
}

static void what_was_created_is_listed(void)
{
	struct id org = fixture_org();
	struct token made = {
		.org_id = org, .name = "ci", .role = ROLE_ORG_ADMIN, .expires_at = "2031-02-03 04:05:06.789"};
	struct token plain = {.org_id = org, .name = "chat", .role = ROLE_MEMBER};
	struct token *tokens;
	unsigned count;

	CU_ASSERT_EQUAL(create(&made), PROBLEM_NONE);
	CU_ASSERT_EQUAL(create(&plain), PROBLEM_NONE);
	CU_ASSERT_TRUE_FATAL(token_list(fx.db, fx.mem, &org, NULL, 10, &tokens, &count, &err));
	CU_ASSERT_EQUAL_FATAL(count, 2);
	CU_ASSERT_TRUE(id_equal(&tokens[0].token_id, &made.token_id));
	CU_ASSERT_STRING_EQUAL(tokens[0].name, "ci");
	CU_ASSERT_EQUAL(tokens[0].role, ROLE_ORG_ADMIN);
	CU_ASSERT_STRING_EQUAL(tokens[0].expires_at, "2031-02-03T04:05:06.789Z");
	CU_ASSERT_PTR_NULL(tokens[0].revoked_at);
	CU_ASSERT_PTR_NULL(tokens[0].last_used_at);
	CU_ASSERT_PTR_NULL(tokens[1].expires_at);
	CU_ASSERT_TRUE_FATAL(token_list(fx.db, fx.mem, &org, &made.token_id, 10, &tokens, &count, &err));
	CU_ASSERT_EQUAL(count, 1);
}

static void the_empty_org_lists_sys_admin_tokens(void)
{
	struct token sys = {.name = "root", .role = ROLE_SYS_ADMIN};
	struct id none = {""};
	struct token *tokens;
	unsigned count;

	CU_ASSERT_EQUAL(create(&sys), PROBLEM_NONE);
	CU_ASSERT_TRUE_FATAL(token_list(fx.db, fx.mem, &none, NULL, 10, &tokens, &count, &err));
	CU_ASSERT_EQUAL_FATAL(count, 1);
	CU_ASSERT_FALSE(id_is_set(&tokens[0].org_id));
	CU_ASSERT_EQUAL(tokens[0].role, ROLE_SYS_ADMIN);
}

static void an_org_belongs_to_exactly_the_roles_below_sys_admin(void)
{
	struct token bound = {.token_id = id_new(), .org_id = fixture_org(), .name = "x", .role = ROLE_SYS_ADMIN};
	struct token loose = {.token_id = id_new(), .name = "x", .role = ROLE_MEMBER};
	uint8_t hash[SECRET_HASH_BYTES] = {1};
	enum problem problem;

	CU_ASSERT_FALSE(token_create(fx.db, &bound, hash, &problem, &err));
	CU_ASSERT_EQUAL(err.code, ERR_INPUT);
	CU_ASSERT_FALSE(token_create(fx.db, &loose, hash, &problem, &err));
	CU_ASSERT_EQUAL(err.code, ERR_INPUT);
}

static void a_token_of_no_org_is_not_made(void)
{
	struct token token = {.org_id = id_new(), .name = "x", .role = ROLE_MEMBER};

	CU_ASSERT_EQUAL(create(&token), PROBLEM_ORG_NOT_FOUND);
}

static enum problem revoke(const struct id *org, const struct id *token)
{
	enum problem problem = PROBLEM_INTERNAL;

	CU_ASSERT_TRUE(token_revoke(fx.db, org, token, &problem, &err));
	return problem;
}

static void revoking_twice_keeps_the_first_time(void)
{
	uint8_t hash[SECRET_HASH_BYTES];
	struct id org = fixture_org(), token = fixture_token(&org, "member", hash);
	char first[64];

	CU_ASSERT_EQUAL(revoke(&org, &token), PROBLEM_NONE);
	(void)strcpy(first, fixture_text("SELECT revoked_at FROM api_tokens WHERE token_id = ?", &token));
	CU_ASSERT_STRING_NOT_EQUAL(first, "NULL");
	CU_ASSERT_EQUAL(revoke(NULL, &token), PROBLEM_NONE);
	CU_ASSERT_STRING_EQUAL(fixture_text("SELECT revoked_at FROM api_tokens WHERE token_id = ?", &token), first);
}

static void another_orgs_token_is_not_found(void)
{
	uint8_t hash[SECRET_HASH_BYTES];
	struct id org = fixture_org(), other = fixture_org(), none = {""};
	struct id token = fixture_token(&org, "member", hash), sys = fixture_token(NULL, "sys_admin", hash);
	struct id unknown = id_new();

	CU_ASSERT_EQUAL(revoke(&other, &token), PROBLEM_TOKEN_NOT_FOUND);
	CU_ASSERT_EQUAL(revoke(&org, &sys), PROBLEM_TOKEN_NOT_FOUND);
	CU_ASSERT_EQUAL(revoke(NULL, &unknown), PROBLEM_TOKEN_NOT_FOUND);
	CU_ASSERT_EQUAL(revoke(&none, &token), PROBLEM_TOKEN_NOT_FOUND);
	CU_ASSERT_EQUAL(revoke(&none, &sys), PROBLEM_NONE);
	CU_ASSERT_EQUAL(fixture_number("SELECT revoked_at IS NULL FROM api_tokens WHERE token_id = ?", &token), 1);
}

static void a_use_is_noted_once_a_minute(void)
{
	static const char is_fresh[] =
		"SELECT last_used_at > NOW(3) - INTERVAL 1 MINUTE FROM api_tokens WHERE token_id = ?";
	uint8_t hash[SECRET_HASH_BYTES];
	struct id org = fixture_org(), token = fixture_token(&org, "member", hash);
	char first[64];

	token_touch(fx.db, &token);
	(void)strcpy(first, fixture_text("SELECT last_used_at FROM api_tokens WHERE token_id = ?", &token));
	CU_ASSERT_EQUAL(fixture_number(is_fresh, &token), 1);
	token_touch(fx.db, &token);
	CU_ASSERT_STRING_EQUAL(fixture_text("SELECT last_used_at FROM api_tokens WHERE token_id = ?", &token), first);
	fixture_run(fx.db, "UPDATE api_tokens SET last_used_at = NOW(3) - INTERVAL 2 MINUTE WHERE token_id = '%s'",
		    token.text);
	token_touch(fx.db, &token);
	CU_ASSERT_EQUAL(fixture_number(is_fresh, &token), 1);
}

static void the_audit_log_shows_the_newest_first(void)
{
	struct id org = fixture_org(), other = fixture_org();
	struct audit_entry entry = {.org_id = org,
				    .token_id = id_new(),
				    .role = "member",
				    .action = "instance.load",
				    .target = "t",
				    .result = PROBLEM_FORBIDDEN,
				    .origin = {.source_ip = "::1", .request_id = "r"},
				    .detail = "d"};
	struct audit_entry bare = {.action = "org.create"}, *entries;
	unsigned count;

	CU_ASSERT_TRUE(audit_write(fx.db, &entry, &err));
	entry.org_id = other;
	CU_ASSERT_TRUE(audit_write(fx.db, &entry, &err));
	CU_ASSERT_TRUE(audit_write(fx.db, &bare, &err));
	CU_ASSERT_TRUE_FATAL(audit_list(fx.db, fx.mem, NULL, NULL, 2, &entries, &count, &err));
	CU_ASSERT_EQUAL_FATAL(count, 2);
	CU_ASSERT_STRING_EQUAL(entries[0].action, "org.create");
	CU_ASSERT_STRING_EQUAL(entries[0].result_code, "ok");
	CU_ASSERT_PTR_NULL(entries[0].detail);
	CU_ASSERT_TRUE(id_equal(&entries[1].org_id, &other));
	CU_ASSERT_TRUE_FATAL(audit_list(fx.db, fx.mem, NULL, &entries[1].audit_id, 2, &entries, &count, &err));
	CU_ASSERT_EQUAL_FATAL(count, 1);
	CU_ASSERT_TRUE_FATAL(audit_list(fx.db, fx.mem, &org, NULL, 10, &entries, &count, &err));
	CU_ASSERT_EQUAL_FATAL(count, 1);
	CU_ASSERT_EQUAL(entries[0].result, PROBLEM_FORBIDDEN);
	CU_ASSERT_STRING_EQUAL(entries[0].role, "member");
	CU_ASSERT_STRING_EQUAL(entries[0].origin.source_ip, "::1");
	CU_ASSERT_STRING_EQUAL(entries[0].detail, "d");
	CU_ASSERT_PTR_NOT_NULL(entries[0].at);
}

static void a_long_text_is_cut_between_characters(void)
{
	char detail[1024];
	struct id org = fixture_org();
	struct audit_entry entry = {.org_id = org, .action = "x", .detail = detail}, *entries;
	unsigned count;

	for (size_t i = 0; i < sizeof(detail) - 2; i += 2)
		memcpy(detail + i, "ü", 3);
	CU_ASSERT_TRUE(audit_write(fx.db, &entry, &err));
	CU_ASSERT_TRUE_FATAL(audit_list(fx.db, fx.mem, &org, NULL, 1, &entries, &count, &err));
	CU_ASSERT_EQUAL(strlen(entries[0].detail), 255 * 2);
}

static CU_TestInfo cases[] = {
	CASE(what_was_created_is_listed),
	CASE(the_empty_org_lists_sys_admin_tokens),
	CASE(an_org_belongs_to_exactly_the_roles_below_sys_admin),
	CASE(a_token_of_no_org_is_not_made),
	CASE(revoking_twice_keeps_the_first_time),
	CASE(another_orgs_token_is_not_found),
	CASE(a_use_is_noted_once_a_minute),
	CASE(the_audit_log_shows_the_newest_first),
	CASE(a_long_text_is_cut_between_characters),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"token", fixture_start, fixture_stop, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
