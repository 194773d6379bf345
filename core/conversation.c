/* SPDX-License-Identifier: Apache-2.0 */
/*
 * turn_id is the lock: whoever wrote it may end the turn, and nobody else may begin one before turn_until. It is a
 * row's value and not a lock of the database, since a turn lasts for minutes and its worker may die.
 */
#include "core/conversation.h"

#include <string.h>

#include "core/sql.h"
#include "lib/arena.h"
#include "lib/json.h"

#define BYTES_PER_TOKEN 4 /* an estimate that holds for English text; others have fewer */
#define TOKENS_PER_MESSAGE 4

static const char SQL_NEW[] =
	"INSERT INTO conversations (conversation_id, org_id, token_id, instance_id, turn_id, turn_until, created_at,"
	" updated_at) VALUES (?, ?, ?, ?, ?, UTC_TIMESTAMP(3) + INTERVAL ? SECOND, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))"
	" ON DUPLICATE KEY UPDATE updated_at = conversations.updated_at";
static const char SQL_LOOK[] =
	"SELECT org_id, token_id, instance_id, turn_id, COALESCE(turn_until > UTC_TIMESTAMP(3), 0)"
	" FROM conversations WHERE conversation_id = ? FOR UPDATE";
enum { LOOK_ORG, LOOK_TOKEN, LOOK_INSTANCE, LOOK_TURN, LOOK_IS_RUNNING };
static const char SQL_TAKE[] = "UPDATE conversations SET turn_id = ?, turn_until = UTC_TIMESTAMP(3) + INTERVAL ? SECOND"
			       " WHERE conversation_id = ?";
/* How long they are, the newest first: what is not taken is not fetched. */
static const char SQL_WINDOW_SIZES[] =
	"SELECT n, LENGTH(content) FROM conversation_messages WHERE conversation_id = ? ORDER BY n DESC LIMIT ?";
enum { SIZE_N, SIZE_BYTES };
static const char SQL_WINDOW[] =
	"SELECT role, content FROM conversation_messages WHERE conversation_id = ? AND n >= ? ORDER BY n";
enum { WINDOW_ROLE, WINDOW_CONTENT };

static const char SQL_IS_SAVED[] = "SELECT message_count, turn_id <=> ?, saved_turn_id <=> ? FROM conversations WHERE "
				   "conversation_id = ? FOR UPDATE";
enum { SAVED_COUNT, SAVED_IS_OURS, SAVED_IS_DONE };
static const char SQL_ADD[] =
	"INSERT INTO conversation_messages (conversation_id, n, role, content, tokens_in, tokens_out, created_at)"
	" VALUES (?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3))";
static const char SQL_FREE[] =
	"UPDATE conversations SET message_count = message_count + ?, saved_turn_id = IF(? > 0, turn_id, saved_turn_id),"
	" turn_id = NULL, turn_until = NULL, updated_at = IF(? > 0, UTC_TIMESTAMP(3), updated_at)"
	" WHERE conversation_id = ? AND turn_id = ?";
static const char SQL_FORGET_EMPTY[] =
	"DELETE FROM conversations WHERE conversation_id = ? AND turn_id = ? AND message_count = 0";

/* Found first, then each by itself: the DELETE would lock the index before the row, others do it the other way. */
static const char SQL_FIND_DEAD[] =
	"SELECT conversation_id FROM conversations WHERE empty_until <= UTC_TIMESTAMP(3) ORDER BY empty_until LIMIT ?";
static const char SQL_DROP_DEAD[] =
	"DELETE FROM conversations WHERE conversation_id = ? AND empty_until <= UTC_TIMESTAMP(3)";

#define CONVERSATION_COLUMNS                                                                                           \
	"conversation_id, instance_id, message_count, " SQL_UTC("created_at") ", " SQL_UTC("updated_at")
static const char SQL_LIST[] = "SELECT " CONVERSATION_COLUMNS " FROM conversations"
			       " WHERE org_id = ? AND token_id = ? AND conversation_id > ? AND message_count > 0"
			       " ORDER BY conversation_id LIMIT ?";
static const char SQL_GET[] = "SELECT " CONVERSATION_COLUMNS " FROM conversations"
			      " WHERE conversation_id = ? AND org_id = ? AND token_id = ?";
enum { ROW_ID, ROW_INSTANCE, ROW_COUNT, ROW_CREATED, ROW_UPDATED };
static const char SQL_PAGE_SIZES[] =
	"SELECT n, LENGTH(content) FROM conversation_messages WHERE conversation_id = ? AND n > ? ORDER BY n LIMIT ?";
static const char SQL_MESSAGES[] = "SELECT n, role, content, tokens_in, tokens_out, " SQL_UTC("created_at") //
	" FROM conversation_messages WHERE conversation_id = ? AND n > ? AND n <= ? ORDER BY n";
enum { MESSAGE_N, MESSAGE_ROLE, MESSAGE_CONTENT, MESSAGE_IN, MESSAGE_OUT, MESSAGE_CREATED };
static const char SQL_DELETE[] = "DELETE FROM conversations WHERE conversation_id = ? AND org_id = ? AND token_id = ?";

/* --- a turn begins --- */

struct beginning {
	const struct conversation_turn *turn;
	enum problem problem;
	struct jval *history;
};

/* Repeated after an uncertain commit it is there already, and is looked at like any other. */
static bool make(struct db *db, const struct conversation_turn *t, struct err *e)
{
	db_use(db, SQL_NEW);
	db_bind_id(db, &t->conversation_id);
	db_bind_id(db, &t->org_id);
	db_bind_id(db, &t->token_id);
	db_bind_id(db, &t->instance_id);
	db_bind_id(db, &t->turn_id);
	db_bind_i64(db, t->limit_s);
	return db_exec(db, e);
}

static enum problem look_at_columns(struct db *db, const struct conversation_turn *t)
{
	struct id org_id = db_col_id(db, LOOK_ORG), token_id = db_col_id(db, LOOK_TOKEN);
	struct id instance_id = db_col_id(db, LOOK_INSTANCE), turn_id = db_col_id(db, LOOK_TURN);

	if (!id_equal(&org_id, &t->org_id) || !id_equal(&token_id, &t->token_id) ||
	    !id_equal(&instance_id, &t->instance_id))
		return PROBLEM_CONVERSATION_NOT_FOUND;
	if (db_col_i64(db, LOOK_IS_RUNNING) != 0 && !id_equal(&turn_id, &t->turn_id))
		return PROBLEM_CONVERSATION_BUSY;
	return PROBLEM_NONE;
}

static bool take(struct db *db, struct beginning *b, struct err *e)
{
	const struct conversation_turn *t = b->turn;

	db_use(db, SQL_LOOK);
	db_bind_id(db, &t->conversation_id);
	switch (sql_first(db, e)) {
	case DB_ROW:
		b->problem = look_at_columns(db, t);
		break;
	case DB_DONE:
		b->problem = PROBLEM_CONVERSATION_NOT_FOUND;
		break;
	case DB_FAIL:
		return false;
	}
	db_done(db);
	if (b->problem != PROBLEM_NONE)
		return true;
	db_use(db, SQL_TAKE);
	db_bind_id(db, &t->turn_id);
	db_bind_i64(db, t->limit_s);
	db_bind_id(db, &t->conversation_id);
	return db_exec(db, e);
}

/* The number of the window's oldest message; 0: it is empty. */
static bool find_window(struct db *db, const struct conversation_turn *t, uint64_t *ret_first, struct err *e)
{
	int64_t tokens_left = t->tokens_max;
	enum db_result result;

	*ret_first = 0;
	db_use(db, SQL_WINDOW_SIZES);
	db_bind_id(db, &t->conversation_id);
	db_bind_i64(db, t->messages_max < CONVERSATION_WINDOW_MAX ? t->messages_max : CONVERSATION_WINDOW_MAX);
	while ((result = db_step(db, e)) == DB_ROW) {
		tokens_left -= db_col_i64(db, SIZE_BYTES) / BYTES_PER_TOKEN + TOKENS_PER_MESSAGE;
		if (tokens_left < 0)
			break;
		*ret_first = db_col_u64(db, SIZE_N);
	}
	db_done(db);
	return result != DB_FAIL;
}

static bool read_window(struct db *db, struct beginning *b, struct err *e)
{
	enum db_result result;
	uint64_t first;

	if (!find_window(db, b->turn, &first, e))
		return false;
	if (first == 0)
		return true;
	db_use(db, SQL_WINDOW);
	db_bind_id(db, &b->turn->conversation_id);
	db_bind_u64(db, first);
	while ((result = db_step(db, e)) == DB_ROW) {
		const char *role = db_col_str(db, WINDOW_ROLE);
		struct jval *message;

		/* Where the window was cut between a question and its answer, the answer goes too. */
		if (jval_array_len(b->history) == 0 && strcmp(role, "user") != 0)
			continue;
		message = jval_new_object();
		jval_add_string(message, "role", role);
		jval_add_string(message, "content", db_col_str(db, WINDOW_CONTENT));
		jval_push(b->history, message);
	}
	db_done(db);
	return result != DB_FAIL;
}

static bool begin_body(struct db *db, void *closure, struct err *e)
{
	struct beginning *b = closure;

	b->problem = PROBLEM_NONE;
	jval_free(&b->history);
	b->history = jval_new_array();
	if ((b->turn->is_new && !make(db, b->turn, e)) || !take(db, b, e))
		return false;
	return b->problem != PROBLEM_NONE || b->turn->is_new || read_window(db, b, e);
}

bool conversation_begin(struct db *db, const struct conversation_turn *turn, struct jval **ret_history,
			enum problem *ret_problem, struct err *e)
{
	struct beginning b = {.turn = turn};
	bool ok = db_transaction(db, begin_body, &b, e);

	/* The same again finds its own turn, if it was written. */
	if (!ok && e && e->code == ERR_UNCERTAIN) {
		err_clear(e);
		ok = db_transaction(db, begin_body, &b, e);
	}
	if (ok && b.problem == PROBLEM_NONE) {
		*ret_history = b.history;
		b.history = NULL;
	}
	if (ok)
		*ret_problem = b.problem;
	jval_free(&b.history);
	return ok;
}

/* --- it ends --- */

struct ending {
	const struct conversation_turn *turn;
	const struct conversation_said *said;
	enum problem problem;
};

static bool set_free(struct db *db, const struct conversation_turn *t, unsigned added, struct err *e)
{
	db_use(db, SQL_FREE);
	db_bind_u64(db, added);
	db_bind_u64(db, added);
	db_bind_u64(db, added);
	db_bind_id(db, &t->conversation_id);
	db_bind_id(db, &t->turn_id);
	return db_exec(db, e);
}

static bool add(struct db *db, const struct ending *end, uint64_t n, struct err *e)
{
	const struct conversation_said *said = end->said;

	db_use(db, SQL_ADD);
	db_bind_id(db, &end->turn->conversation_id);
	db_bind_u64(db, n + 1);
	db_bind_str(db, "user");
	db_bind_strn(db, said->user, said->user_len);
	db_bind_null(db);
	db_bind_null(db);
	if (!db_exec(db, e))
		return false;
	db_use(db, SQL_ADD);
	db_bind_id(db, &end->turn->conversation_id);
	db_bind_u64(db, n + 2);
	db_bind_str(db, "assistant");
	db_bind_strn(db, said->assistant, said->assistant_len);
	db_bind_u64(db, said->tokens_in);
	db_bind_u64(db, said->tokens_out);
	return db_exec(db, e);
}

static bool end_body(struct db *db, void *closure, struct err *e)
{
	struct ending *end = closure;
	bool is_ours = false, is_done = false;
	uint64_t count = 0;

	db_use(db, SQL_IS_SAVED);
	db_bind_id(db, &end->turn->turn_id);
	db_bind_id(db, &end->turn->turn_id);
	db_bind_id(db, &end->turn->conversation_id);
	enum db_result result = sql_first(db, e);
	if (result == DB_ROW) {
		count = db_col_u64(db, SAVED_COUNT);
		is_ours = db_col_i64(db, SAVED_IS_OURS) != 0;
		is_done = db_col_i64(db, SAVED_IS_DONE) != 0;
	}
	db_done(db);
	if (result == DB_FAIL)
		return false;
	end->problem = is_ours || is_done ? PROBLEM_NONE : PROBLEM_CONVERSATION_NOT_FOUND;
	return !is_ours || (add(db, end, count, e) && set_free(db, end->turn, 2, e));
}

bool conversation_end(struct db *db, const struct conversation_turn *turn, const struct conversation_said *said,
		      enum problem *ret_problem, struct err *e)
{
	struct ending end = {.turn = turn, .said = said};
	bool ok = db_transaction(db, end_body, &end, e);

	/* The same again finds its own messages, if they were written. */
	if (!ok && e && e->code == ERR_UNCERTAIN) {
		err_clear(e);
		ok = db_transaction(db, end_body, &end, e);
	}
	if (ok)
		*ret_problem = end.problem;
	return ok;
}

bool conversation_abandon(struct db *db, const struct conversation_turn *turn, struct err *e)
{
	db_use(db, SQL_FORGET_EMPTY);
	db_bind_id(db, &turn->conversation_id);
	db_bind_id(db, &turn->turn_id);
	return db_exec(db, e) && (db_affected(db) > 0 || set_free(db, turn, 0, e));
}

bool conversation_prune(struct db *db, struct err *e)
{
	struct id dead[CONVERSATION_PRUNE_MAX];
	enum db_result result = DB_DONE;
	unsigned count = 0;

	db_use(db, SQL_FIND_DEAD);
	db_bind_u64(db, CONVERSATION_PRUNE_MAX);
	while (count < CONVERSATION_PRUNE_MAX && (result = db_step(db, e)) == DB_ROW)
		dead[count++] = db_col_id(db, 0);
	db_done(db);
	if (result == DB_FAIL)
		return false;
	for (unsigned i = 0; i < count; i++) {
		db_use(db, SQL_DROP_DEAD);
		db_bind_id(db, &dead[i]);
		if (!db_exec(db, e))
			return false;
	}
	return true;
}

/* --- for its owner --- */

static void conversation_from_row(struct db *db, struct arena *mem, void *ret_row)
{
	struct conversation *c = ret_row;

	c->conversation_id = db_col_id(db, ROW_ID);
	c->instance_id = db_col_id(db, ROW_INSTANCE);
	c->message_count = (uint32_t)db_col_u64(db, ROW_COUNT);
	c->created_at = sql_str(db, mem, ROW_CREATED);
	c->updated_at = sql_str(db, mem, ROW_UPDATED);
}

bool conversation_list(struct db *db, struct arena *mem, const struct id *org_id, const struct id *token_id,
		       const struct id *after, unsigned limit, struct conversation **ret_list, unsigned *ret_count,
		       struct err *e)
{
	void *rows = NULL;

	limit = sql_page(limit);
	db_use(db, SQL_LIST);
	db_bind_id(db, org_id);
	db_bind_id(db, token_id);
	sql_bind_after(db, after, SQL_ID_FIRST);
	db_bind_u64(db, limit);
	if (!sql_collect(db, mem, conversation_from_row, sizeof(**ret_list), limit, &rows, ret_count, e))
		return false;
	*ret_list = rows;
	return true;
}

bool conversation_get(struct db *db, struct arena *mem, const struct id *org_id, const struct id *token_id,
		      const struct id *conversation_id, struct conversation *ret_conversation,
		      enum problem *ret_problem, struct err *e)
{
	db_use(db, SQL_GET);
	db_bind_id(db, conversation_id);
	db_bind_id(db, org_id);
	db_bind_id(db, token_id);
	enum db_result result = sql_first(db, e);
	if (result == DB_ROW)
		conversation_from_row(db, mem, ret_conversation);
	db_done(db);
	*ret_problem = result == DB_ROW ? PROBLEM_NONE : PROBLEM_CONVERSATION_NOT_FOUND;
	return result != DB_FAIL && sql_mem_ok(mem, e);
}

static void message_from_row(struct db *db, struct arena *mem, void *ret_row)
{
	struct conversation_message *m = ret_row;

	m->n = (uint32_t)db_col_u64(db, MESSAGE_N);
	m->role = sql_str(db, mem, MESSAGE_ROLE);
	m->content = sql_str(db, mem, MESSAGE_CONTENT);
	m->tokens_in = db_col_is_null(db, MESSAGE_IN) ? -1 : db_col_i64(db, MESSAGE_IN);
	m->tokens_out = db_col_is_null(db, MESSAGE_OUT) ? -1 : db_col_i64(db, MESSAGE_OUT);
	m->created_at = sql_str(db, mem, MESSAGE_CREATED);
}

/* The number of the page's last message, at least one where there is one; *ret_next: more follow. */
static bool find_page(struct db *db, const struct id *conversation_id, uint32_t after_n, unsigned limit,
		      uint64_t *ret_last, bool *ret_has_more, struct err *e)
{
	uint64_t bytes = 0;
	unsigned count = 0;
	enum db_result result;

	*ret_last = 0;
	*ret_has_more = false;
	db_use(db, SQL_PAGE_SIZES);
	db_bind_id(db, conversation_id);
	db_bind_u64(db, after_n);
	db_bind_u64(db, limit + 1);
	while ((result = db_step(db, e)) == DB_ROW) {
		bytes += db_col_u64(db, SIZE_BYTES);
		*ret_has_more = count == limit || (count > 0 && bytes > CONVERSATION_PAGE_BYTES);
		if (*ret_has_more)
			break;
		*ret_last = db_col_u64(db, SIZE_N);
		count++;
	}
	db_done(db);
	return result != DB_FAIL;
}

bool conversation_messages(struct db *db, struct arena *mem, const struct id *conversation_id, uint32_t after_n,
			   unsigned limit, struct conversation_message **ret_messages, unsigned *ret_count,
			   bool *ret_has_more, struct err *e)
{
	void *rows = NULL;
	uint64_t last;

	limit = sql_page(limit);
	if (!find_page(db, conversation_id, after_n, limit, &last, ret_has_more, e))
		return false;
	db_use(db, SQL_MESSAGES);
	db_bind_id(db, conversation_id);
	db_bind_u64(db, after_n);
	db_bind_u64(db, last);
	if (!sql_collect(db, mem, message_from_row, sizeof(**ret_messages), limit, &rows, ret_count, e))
		return false;
	*ret_messages = rows;
	return true;
}

bool conversation_delete(struct db *db, const struct id *org_id, const struct id *token_id,
			 const struct id *conversation_id, enum problem *ret_problem, struct err *e)
{
	db_use(db, SQL_DELETE);
	db_bind_id(db, conversation_id);
	db_bind_id(db, org_id);
	db_bind_id(db, token_id);
	if (!db_exec(db, e))
		return false;
	*ret_problem = db_affected(db) > 0 ? PROBLEM_NONE : PROBLEM_CONVERSATION_NOT_FOUND;
	return true;
}
