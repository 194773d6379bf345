/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conversations: the history that an App's turns go on from. A turn takes its conversation (one turn at a time), reads
 * a window of what was said, and adds both of its messages in one transaction, or none. A turn that dies gives it free
 * when its time is over. Blocking.
 */
#ifndef CORE_CONVERSATION_H
#define CORE_CONVERSATION_H

#include <stdbool.h>
#include <stdint.h>

#include "core/problem.h"
#include "lib/err.h"
#include "lib/id.h"

struct arena;
struct db;
struct jval;

#define CONVERSATION_WINDOW_MAX 1000               /* messages */
#define CONVERSATION_PRUNE_MAX 200                 /* rows removed at once */
#define CONVERSATION_PAGE_BYTES ((uint64_t)524288) /* of text in one page; a longer message has one to itself */

struct conversation_turn {
	struct id conversation_id, org_id, token_id, instance_id;
	struct id turn_id;                /* made by the caller */
	bool is_new;                      /* the conversation begins with this turn */
	int64_t limit_s;                  /* the turn is dead when so long has passed */
	int64_t messages_max, tokens_max; /* of the window; tokens are estimated */
};

/* Takes it and reads the window, the oldest first: an array of {"role","content"}, yours. It begins with a user's
 * message. PROBLEM_CONVERSATION_NOT_FOUND: no such one of this owner and App; PROBLEM_CONVERSATION_BUSY: another turn
 * has it. */
bool conversation_begin(struct db *db, const struct conversation_turn *turn, struct jval **ret_history,
			enum problem *ret_problem, struct err *e) MUST_CHECK;

struct conversation_said {
	const char *user, *assistant;
	size_t user_len, assistant_len;
	uint64_t tokens_in, tokens_out;
};
/* Adds both messages and gives it free. Again after an uncertain commit: once. PROBLEM_CONVERSATION_NOT_FOUND: it was
 * deleted, or the turn took so long that another one has it: nothing was added. */
bool conversation_end(struct db *db, const struct conversation_turn *turn, const struct conversation_said *said,
		      enum problem *ret_problem, struct err *e) MUST_CHECK;
/* Gives it free without a message; one that began with this turn goes. */
bool conversation_abandon(struct db *db, const struct conversation_turn *turn, struct err *e) MUST_CHECK;

/* Removes those whose first turn died and left no message, CONVERSATION_PRUNE_MAX at most. */
bool conversation_prune(struct db *db, struct err *e) MUST_CHECK;

/* --- for its owner --- */

struct conversation {
	struct id conversation_id, instance_id;
	uint32_t message_count;
	const char *created_at, *updated_at; /* RFC 3339 */
};
struct conversation_message {
	uint32_t n;
	const char *role, *content;
	int64_t tokens_in, tokens_out; /* -1: not the assistant's, or not known */
	const char *created_at;
};

/* In order of id, those that hold a message. Strings live in mem. */
bool conversation_list(struct db *db, struct arena *mem, const struct id *org_id, const struct id *token_id,
		       const struct id *after, unsigned limit, struct conversation **ret_list, unsigned *ret_count,
		       struct err *e) MUST_CHECK;
/* PROBLEM_CONVERSATION_NOT_FOUND, also for another owner's. */
bool conversation_get(struct db *db, struct arena *mem, const struct id *org_id, const struct id *token_id,
		      const struct id *conversation_id, struct conversation *ret_conversation,
		      enum problem *ret_problem, struct err *e) MUST_CHECK;
/* Messages with n above after_n, in order: limit of them, or as many as CONVERSATION_PAGE_BYTES hold. */
bool conversation_messages(struct db *db, struct arena *mem, const struct id *conversation_id, uint32_t after_n,
			   unsigned limit, struct conversation_message **ret_messages, unsigned *ret_count,
			   bool *ret_has_more, struct err *e) MUST_CHECK;
/* With its messages; a turn under way is not saved. PROBLEM_CONVERSATION_NOT_FOUND. */
bool conversation_delete(struct db *db, const struct id *org_id, const struct id *token_id,
			 const struct id *conversation_id, enum problem *ret_problem, struct err *e) MUST_CHECK;

#endif
