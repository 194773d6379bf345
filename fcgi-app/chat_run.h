/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chat, whichever face asks for it: the caller's right, the turn over the bus, the load of an App that nobody holds,
 * and the answer, whole or as a stream. A face (h_chat.c, h_openai.c) reads the request and says how what the worker
 * sends looks to its client.
 *
 *   chat_may() → chat_may() with the App → fill c->request → chat_run()
 */
#ifndef FCGI_APP_CHAT_RUN_H
#define FCGI_APP_CHAT_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/chat_wire.h"
#include "core/operation.h"
#include "fcgi-app/access_cache.h"
#include "fcgi-app/response.h"
#include "fcgi-app/turn.h"
#include "lib/buf.h"
#include "lib/err.h"

struct chat;
struct request;

/* Why a turn failed. */
struct chat_failure {
	enum problem problem;
	const char *detail; /* NULL: the problem's title is enough */
	int retry_after_s;  /* 0: as for every such problem */
};

struct chat_face {
	/* Appends what the client of a stream is to see of an event, if anything. */
	void (*event)(struct chat *c, const struct chat_reply *event, struct buf *out);
	/* The same of an end with status 200, after which nothing comes. */
	void (*end)(struct chat *c, const struct chat_reply *end, struct buf *out);
	/* The same of a failure, when the stream has begun. */
	void (*failure)(struct chat *c, const struct chat_failure *failure, struct buf *out);
	/* The response to a request that is not streamed, from an end with status 200. */
	enum next (*answer)(struct chat *c, const struct chat_reply *end);
};

struct chat {
	struct request *req;
	struct response *res;
	const struct chat_face *face;
	void *face_data;
	struct chat_request request; /* the face fills it; deadline and ids of the bus are chat_run's */
	/* chat_run.c's own */
	struct access_key key;
	struct access_known known;
	struct turn turn;
	int64_t load_until_ms; /* a demand load is waited for so long; 0: not begun */
	struct operation load; /* the last one that was joined */
	unsigned rounds;       /* loads that were waited for */
	bool is_streaming;     /* the head is out */
	int64_t sent_ms;
	struct buf out;
};

void chat_begin(struct chat *c, struct request *req, struct response *res, const struct chat_face *face);
/* instance_id NULL: the token and the route's org alone. Where the route has no org, the App's own is meant, and stands
 * in *ret_org_id (NULL: not asked for). False: *ret_next. */
bool chat_may(struct chat *c, const struct id *instance_id, struct id *ret_org_id, enum next *ret_next, struct err *e);
enum next chat_run(struct chat *c, struct err *e);
void chat_end(struct chat *c);

#endif
