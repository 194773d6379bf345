/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One chat turn over the bus, as seen by the requester: the request, then
 * numbered replies. Every way in which they can stop coming ends here in a
 * problem: a gap in the numbers, a full queue, silence, a lost connection, the end of
 * the time. Belongs to one thread.
 *
 *   turn_begin → TURN_BEGUN → turn_next … TURN_END → turn_end
 */
#ifndef FCGI_APP_TURN_H
#define FCGI_APP_TURN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/chat_wire.h"
#include "core/problem.h"

struct app;
struct bus;
struct bus_call;
struct bus_msg;
struct fcgi_conn;

/* Lives on the caller's stack; its fields are turn.c's. */
struct turn {
	struct app *app;
	struct fcgi_conn *conn; /* to notice that the client hung up */
	struct bus *bus;
	struct bus_call *call;
	struct bus_msg *msg; /* what the last reply borrows from */
	struct chat_reply first;
	bool has_first; /* `first` was not handed out yet */
	bool is_over;   /* the end was seen: nothing to cancel */
	uint64_t next_n;
	int64_t heard_ms, deadline_ms;
	char cancel[CHAT_CANCEL_SUBJECT_SIZE]; /* "": not known yet */
};

enum turn_begin {
	TURN_BEGUN,
	TURN_NOBODY, /* no worker holds the App */
	TURN_REFUSED /* *ret_problem */
};
enum turn_next {
	TURN_EVENT, /* ret_reply->arg names it */
	TURN_END,   /* ret_reply->status */
	TURN_QUIET, /* wait_ms are over, or the worker said that it is still at it */
	TURN_GONE,  /* the client hung up */
	TURN_BROKEN /* *ret_problem */
};

/* Sends the request and waits for the first reply. turn_end in any case. */
enum turn_begin turn_begin(struct turn *t, struct app *app, struct fcgi_conn *conn, const struct chat_request *request,
			   enum problem *ret_problem);
/* ret_reply borrows from the turn until the next call. wait_ms 0: only look. */
enum turn_next turn_next(struct turn *t, int wait_ms, struct chat_reply *ret_reply, enum problem *ret_problem);
/* Cancels the turn where it is not over. */
void turn_end(struct turn *t);

#endif
