/* SPDX-License-Identifier: Apache-2.0 */
/* Conversations against a real MariaDB. */
#include "core/conversation.h"

#include <string.h>

#include "lib/arena.h"
#include "lib/json.h"
#include "tests/unit/harness.h"
#include "tests/unit/sql_fixture.h"

static struct id org, app, owner;
static struct err err;

static struct conversation_turn turn_of(const struct id *conversation_id, bool is_new)
{
	return (struct conversation_turn){
		.conversation_id = *conversation_id,
		.org_id = org,
		.token_id = owner,
		.instance_id = app,
		.turn_id = id_new(),
		.is_new = is_new,
		.limit_s = 60,
		.messages_max = 100,
		.tokens_max = 100000,
	};
}

/* Which problem, and how many messages the turn was given; -1: none. */
static enum problem begin(const struct conversation_turn *turn, int *ret_count)
{
	enum problem problem = PROBLEM_INTERNAL;
	struct jval *history = NULL;

	CU_ASSERT_TRUE(conversation_begin(fx.db, turn, &history, &problem, &err));
	*ret_count = history ? (int)jval_array_len(history) : -1;
	jval_free(&history);
	return problem;
}

static enum problem end(const struct conversation_turn *turn, const char *user, const char *assistant)
{
	struct conversation_said said = {
		.user = user,
		.user_len = strlen(user),
		.assistant = assistant,
		.assistant_len = strlen(assistant),
		.tokens_in = 3,
		.tokens_out = 4,
	};
	enum problem problem = PROBLEM_INTERNAL;

	CU_ASSERT_TRUE(conversation_end(fx.db, turn, &said, &problem, &err));
	return problem;
}

static int64_t messages_of(const struct id *conversation_id)
{
	return fixture_number("SELECT COUNT(*) FROM conversation_messages WHERE conversation_id = ?", conversation_id);
}

static void both_messages_are_added_once(void)
{
	struct id id = id_new();
	struct conversation_turn first = turn_of(&id, true), second = turn_of(&id, false);
	int count;

	CU_ASSERT_EQUAL(begin(&first, &count), PROBLEM_NONE);
	CU_ASSERT_EQUAL(count, 0);
	CU_ASSERT_EQUAL(messages_of(&id), 0);
	CU_ASSERT_EQUAL(end(&first, "a", "b"), PROBLEM_NONE);
	CU_ASSERT_EQUAL(end(&first, "a", "b"), PROBLEM_NONE); /* as after an uncertain commit */
	CU_ASSERT_EQUAL(messages_of(&id), 2);
	CU_ASSERT_EQUAL(begin(&second, &count), PROBLEM_NONE);
	CU_ASSERT_EQUAL(count, 2);
	CU_ASSERT_EQUAL(end(&second, "c", "d"), PROBLEM_NONE);
	CU_ASSERT_STRING_EQUAL(
		fixture_text("SELECT GROUP_CONCAT(n, role, content ORDER BY n) FROM conversation_messages "
			     "WHERE conversation_id = ?",
			     &id),
		"1usera,2assistantb,3userc,4assistantd");
}

static void two_turns_never_have_it_at_once(void)
{
	struct id id = id_new();
	struct conversation_turn first = turn_of(&id, true), second = turn_of(&id, false), third = turn_of(&id, false);
	int count;

	CU_ASSERT_EQUAL(begin(&first, &count), PROBLEM_NONE);
	CU_ASSERT_EQUAL(begin(&first, &count), PROBLEM_NONE); /* as after an uncertain commit */
	CU_ASSERT_EQUAL(begin(&second, &count), PROBLEM_CONVERSATION_BUSY);
	CU_ASSERT_EQUAL(count, -1);
	CU_ASSERT_EQUAL(end(&second, "x", "y"), PROBLEM_CONVERSATION_NOT_FOUND);
	/* The first one's time is over: whoever comes has it, and the first adds nothing any more. */
	fixture_run(fx.db, "UPDATE conversations SET turn_until = UTC_TIMESTAMP(3) WHERE conversation_id = '%s'",
		    id.text);
	CU_ASSERT_EQUAL(begin(&third, &count), PROBLEM_NONE);
	CU_ASSERT_EQUAL(end(&first, "x", "y"), PROBLEM_CONVERSATION_NOT_FOUND);
	CU_ASSERT_EQUAL(end(&third, "a", "b"), PROBLEM_NONE);
	CU_ASSERT_EQUAL(messages_of(&id), 2);
}

static void an_abandoned_turn_leaves_nothing(void)
{
	struct id id = id_new();
	struct conversation_turn first = turn_of(&id, true), second, third;
	int count;

	CU_ASSERT_EQUAL(begin(&first, &count), PROBLEM_NONE);
	CU_ASSERT_TRUE(conversation_abandon(fx.db, &first, &err));
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM conversations WHERE conversation_id = ?", &id), 0);
	CU_ASSERT_EQUAL(begin(&first, &count), PROBLEM_NONE);
	CU_ASSERT_EQUAL(end(&first, "a", "b"), PROBLEM_NONE);
	second = turn_of(&id, false);
	third = turn_of(&id, false);
	CU_ASSERT_EQUAL(begin(&second, &count), PROBLEM_NONE);
	CU_ASSERT_TRUE(conversation_abandon(fx.db, &third, &err)); /* of another turn: changes nothing */
	CU_ASSERT_EQUAL(begin(&third, &count), PROBLEM_CONVERSATION_BUSY);
	CU_ASSERT_TRUE(conversation_abandon(fx.db, &second, &err));
	CU_ASSERT_EQUAL(begin(&third, &count), PROBLEM_NONE);
	CU_ASSERT_EQUAL(messages_of(&id), 2);
}

static void what_a_dead_first_turn_left_is_removed(void)
{
	struct id dead = id_new(), running = id_new(), said = id_new();
	struct conversation_turn turns[] = {turn_of(&dead, true), turn_of(&running, true), turn_of(&said, true)};
	struct conversation_turn again = turn_of(&said, false), late = turn_of(&dead, false);
	int count;

	for (size_t i = 0; i < ARRAY_LEN(turns); i++)
		CU_ASSERT_EQUAL(begin(&turns[i], &count), PROBLEM_NONE);
	CU_ASSERT_EQUAL(end(&turns[2], "a", "b"), PROBLEM_NONE);
	CU_ASSERT_EQUAL(begin(&again, &count), PROBLEM_NONE);
	fixture_run(fx.db,
		    "UPDATE conversations SET turn_until = UTC_TIMESTAMP(3) WHERE conversation_id IN ('%s', '%s')",
		    dead.text, said.text);
	CU_ASSERT_TRUE(conversation_prune(fx.db, &err));
	CU_ASSERT_EQUAL(begin(&late, &count), PROBLEM_CONVERSATION_NOT_FOUND);
	CU_ASSERT_EQUAL(end(&turns[0], "a", "b"), PROBLEM_CONVERSATION_NOT_FOUND);
	CU_ASSERT_EQUAL(end(&turns[1], "a", "b"), PROBLEM_NONE);
	CU_ASSERT_EQUAL(messages_of(&said), 2);
	again = turn_of(&said, false);
	CU_ASSERT_EQUAL(begin(&again, &count), PROBLEM_NONE);
	CU_ASSERT_EQUAL(count, 2);
}

static void so_many_are_removed_at_a_time(void)
{
	const char *sql = "SELECT COUNT(*) FROM conversations WHERE token_id = ?";
	struct id owner_of_many = id_new();

	fixture_run(fx.db,
		    "INSERT INTO conversations (conversation_id, org_id, token_id, instance_id, turn_id, turn_until, "
		    "created_at, updated_at) SELECT UUID(), '%s', '%s', '%s', UUID(), NOW(3) - INTERVAL seq MINUTE, "
		    "NOW(3), "
		    "NOW(3) FROM seq_1_to_%d",
		    org.text, owner_of_many.text, app.text, CONVERSATION_PRUNE_MAX + 3);
	CU_ASSERT_TRUE(conversation_prune(fx.db, &err));
	CU_ASSERT_EQUAL(fixture_number(sql, &owner_of_many), 3);
	CU_ASSERT_TRUE(conversation_prune(fx.db, &err));
	CU_ASSERT_EQUAL(fixture_number(sql, &owner_of_many), 0);
}

static void nobody_elses_is_found(void)
{
	struct id id = id_new(), other = id_new();
	struct conversation_turn mine = turn_of(&id, true), turn;
	int count;

	CU_ASSERT_EQUAL(begin(&mine, &count), PROBLEM_NONE);
	CU_ASSERT_EQUAL(end(&mine, "a", "b"), PROBLEM_NONE);
	turn = turn_of(&id, false);
	turn.token_id = other;
	CU_ASSERT_EQUAL(begin(&turn, &count), PROBLEM_CONVERSATION_NOT_FOUND);
	turn = turn_of(&id, false);
	turn.instance_id = other;
	CU_ASSERT_EQUAL(begin(&turn, &count), PROBLEM_CONVERSATION_NOT_FOUND);
	turn = turn_of(&id, false);
	turn.org_id = other;
	CU_ASSERT_EQUAL(begin(&turn, &count), PROBLEM_CONVERSATION_NOT_FOUND);
	turn = turn_of(&other, false);
	CU_ASSERT_EQUAL(begin(&turn, &count), PROBLEM_CONVERSATION_NOT_FOUND);
	/* Not even by pretending that it begins here. */
	turn = turn_of(&id, true);
	turn.token_id = other;
	CU_ASSERT_EQUAL(begin(&turn, &count), PROBLEM_CONVERSATION_NOT_FOUND);
}

static void the_window_ends_at_messages_or_tokens(void)
{
	struct id id = id_new();
	struct conversation_turn turn = turn_of(&id, true);
	int count;

	for (int i = 0; i < 5; i++) {
		CU_ASSERT_EQUAL(begin(&turn, &count), PROBLEM_NONE);
		CU_ASSERT_EQUAL(end(&turn, "12345678", "12345678"), PROBLEM_NONE); /* 2 + 4 tokens each */
		turn = turn_of(&id, false);
	}
	turn.messages_max = 4;
	CU_ASSERT_EQUAL(begin(&turn, &count), PROBLEM_NONE);
	CU_ASSERT_EQUAL(count, 4);
	turn.messages_max = 5; /* the fifth is an answer without its question */
	CU_ASSERT_EQUAL(begin(&turn, &count), PROBLEM_NONE);
	CU_ASSERT_EQUAL(count, 4);
	turn.messages_max = 100;
	turn.tokens_max = 12;
	CU_ASSERT_EQUAL(begin(&turn, &count), PROBLEM_NONE);
	CU_ASSERT_EQUAL(count, 2);
	turn.tokens_max = 5;
	CU_ASSERT_EQUAL(begin(&turn, &count), PROBLEM_NONE);
	CU_ASSERT_EQUAL(count, 0);
}

static void a_deleted_one_is_gone_with_its_messages(void)
{
	struct id id = id_new();
	struct conversation_turn turn = turn_of(&id, true);
	enum problem problem;
	int count;

	CU_ASSERT_EQUAL(begin(&turn, &count), PROBLEM_NONE);
	CU_ASSERT_EQUAL(end(&turn, "a", "b"), PROBLEM_NONE);
	CU_ASSERT_TRUE(conversation_delete(fx.db, &org, &app, &id, &problem, &err)); /* another owner's */
	CU_ASSERT_EQUAL(problem, PROBLEM_CONVERSATION_NOT_FOUND);
	CU_ASSERT_TRUE(conversation_delete(fx.db, &org, &owner, &id, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_NONE);
	CU_ASSERT_EQUAL(messages_of(&id), 0);
	CU_ASSERT_EQUAL(end(&turn, "a", "b"), PROBLEM_CONVERSATION_NOT_FOUND);
}

static int start(void)
{
	uint8_t hash[SECRET_HASH_BYTES];

	(void)fixture_start();
	org = fixture_org();
	app = fixture_app(&org, "hot", "loaded");
	owner = fixture_token(&org, "member", hash);
	return 0;
}

static CU_TestInfo cases[] = {
	CASE(both_messages_are_added_once),
	CASE(two_turns_never_have_it_at_once),
	CASE(an_abandoned_turn_leaves_nothing),
	CASE(what_a_dead_first_turn_left_is_removed),
	CASE(so_many_are_removed_at_a_time),
	CASE(nobody_elses_is_found),
	CASE(the_window_ends_at_messages_or_tokens),
	CASE(a_deleted_one_is_gone_with_its_messages),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"conversation", start, fixture_stop, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
