/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chat on the bus. The request is a JSON object on hearth.chat.<instance>; the replies are messages on the
 * requester's inbox, each one head line and a body:
 *
 *   <n> accepted <cancel subject>\n                    soon; an empty message to that subject cancels the turn
 *   <n> event <metadata|agent|tool|message>\n<JSON>    in the order they are to be sent to the client
 *   <n> keepalive -\n                                  while the turn is silent, every CHAT_KEEPALIVE_MS
 *   <n> end <HTTP status>\n<JSON>                      the last
 *
 * n counts from 0 without a gap. Where a turn is over soon `end` may be the first message. The end's JSON is, for
 * 200,
 * {"session_id","response","agent_hops","current_agent","usage"} ("response" only for a request with stream false),
 * else {"code","detail"}.
 */
#ifndef CORE_CHAT_WIRE_H
#define CORE_CHAT_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"
#include "lib/id.h"

struct arena;
struct buf;
struct jval;

#define CHAT_SUBJECT_PREFIX "hearth.chat."
#define CHAT_SUBJECT_SIZE 56
#define CHAT_REPLY_PREFIX "_INBOX_APP."     /* a worker answers nowhere else */
#define CHAT_CANCEL_PREFIX "hearth.cancel." /* hearth.cancel.<incarnation>.<turn>, listened to by that worker */
#define CHAT_CANCEL_SUBJECT_SIZE 96
#define CHAT_KEEPALIVE_MS 10000
#define CHAT_FIRST_REPLY_MS 2000
#define CHAT_SILENCE_MAX_MS 25000     /* two keep-alives lost */
#define CHAT_MESSAGE_BYTES_MAX 262144 /* of the user's message */
/* Of a whole request, as JSON: the longest message fits, however much of it is escaped. The bus may take less. */
#define CHAT_REQUEST_BYTES_MAX ((size_t)2 * 1024 * 1024)

struct chat_request {
	struct id instance_id, org_id;
	struct id session_id; /* the conversation; made by the app where the client gave none … */
	bool is_new_session;  /* … and this is the turn it begins with */
	struct id token_id;   /* whose it is; "": the turn belongs to no conversation */
	const char *message;  /* UTF-8 */
	size_t message_len;
	bool stream;
	int64_t deadline_unix_ms; /* dropped when it has passed */
	const char *request_id;
	/* What a caller of /v1/chat/completions brings, in the shapes of that API; NULL: nothing. `messages` are the
	 * whole conversation, and `message` its last user's text. Borrowed where the request is made, from `root` where
	 * it was parsed. */
	struct jval *messages, *tools, *tool_choice, *parameters;
	struct jval *history; /* not on the bus: messages of the conversation, read by the worker; owned */
	struct jval *root;    /* owned; only where it was parsed */
};

enum chat_kind { CHAT_ACCEPTED, CHAT_EVENT, CHAT_KEEPALIVE, CHAT_END };

struct chat_reply {
	uint64_t n;
	enum chat_kind kind;
	const char *arg; /* points into the message, arg_len bytes: the cancel subject, event name, status */
	size_t arg_len;
	int status;       /* CHAT_END */
	const char *body; /* points into the message */
	size_t body_len;
};

void chat_subject(const struct id *instance_id, char ret_subject[CHAT_SUBJECT_SIZE]);
void chat_request_encode(const struct chat_request *request, struct buf *out);
/* Strings live in mem. ERR_INPUT. What it owns is freed by chat_request_clear. */
bool chat_request_parse(const char *data, size_t len, struct arena *mem, struct chat_request *ret_request,
			struct err *e) MUST_CHECK;
void chat_request_clear(struct chat_request *request);
/* arg: as above, without blanks or newlines; body may be NULL. */
void chat_reply_encode(uint64_t n, enum chat_kind kind, const char *arg, const char *body, size_t body_len,
		       struct buf *out);
/* Borrows from data. ERR_INPUT. */
bool chat_reply_parse(const char *data, size_t len, struct chat_reply *ret_reply, struct err *e) MUST_CHECK;

#endif
