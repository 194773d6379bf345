/* SPDX-License-Identifier: Apache-2.0 */
/* One struct goes through the jobs of a turn: begin, and then end or abandon. */
#include "worker/history.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "core/chat_wire.h"
#include "core/conversation.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/xalloc.h"
#include "worker/engine.h"
#include "worker/framework/framework.h"

#define LIMIT_S_MIN 1
#define GRACE_S 30 /* for reading and saving, beside the turn itself */

struct history {
	struct engine *engine;
	struct conversation_turn turn;
	struct jval *messages; /* what was read */
	struct conversation_said said;
	char *texts; /* of said */
	enum problem problem;
	history_begun begun;
	history_ended ended;
	void *closure;
	int64_t free_until_ms;       /* giving it free is tried again until then: past it, it is free by itself */
	struct history *prev, *next; /* in engine->histories, while it waits to be given free */
};

static void history_free(struct history *h)
{
	jval_free(&h->messages);
	free(h->texts);
	free(h);
}

/* --- begin --- */

static bool work_begin(struct db *db, void *data, struct err *e)
{
	struct history *h = data;

	return conversation_begin(db, &h->turn, &h->messages, &h->problem, e);
}

static enum problem problem_of(const struct history *h, bool ok, const struct err *e, const char *what)
{
	if (ok)
		return h->problem;
	log_warn(what, "conversation=%s error=%s", h->turn.conversation_id.text, e->text);
	return problem_of_err(e);
}

static void done_begin(struct engine *engine, void *data, bool ok, const struct err *e)
{
	struct history *h = data;
	struct jval *messages = h->messages;
	enum problem problem = problem_of(h, ok, e, "conversation not begun");

	(void)engine;
	h->messages = NULL;
	h->begun(h->closure, problem, messages);
}

/* What ends first: the time that the App gives a turn, or the request's. */
static int64_t limit_s(const struct chat_request *request, int64_t seconds)
{
	int64_t left_s = (request->deadline_unix_ms - clock_unix_ms()) / 1000;

	if (request->deadline_unix_ms != 0 && left_s < seconds)
		seconds = left_s;
	return (seconds > LIMIT_S_MIN ? seconds : LIMIT_S_MIN) + GRACE_S;
}

struct history *history_begin(struct engine *engine, const struct chat_request *request,
			      const struct history_limits *limits, history_begun begun, void *closure)
{
	struct history *h = xcalloc(1, sizeof(*h));

	h->engine = engine;
	h->turn = (struct conversation_turn){
		.conversation_id = request->session_id,
		.org_id = request->org_id,
		.token_id = request->token_id,
		.instance_id = request->instance_id,
		.turn_id = id_new(),
		.is_new = request->is_new_session,
		.limit_s = limit_s(request, limits->seconds),
		.messages_max = limits->messages,
		.tokens_max = limits->tokens,
	};
	h->begun = begun;
	h->closure = closure;
	engine_job(engine, work_begin, done_begin, h);
	return h;
}

static void give_free(struct history *h);

/* --- end --- */

static bool work_end(struct db *db, void *data, struct err *e)
{
	struct history *h = data;

	return conversation_end(db, &h->turn, &h->said, &h->problem, e);
}

static void done_end(struct engine *engine, void *data, bool ok, const struct err *e)
{
	struct history *h = data;

	(void)engine;
	h->ended(h->closure, problem_of(h, ok, e, "conversation not saved"));
	h->ended = NULL;
	if (ok)
		history_free(h);
	else
		give_free(h);
}

void history_end(struct history **handle, const char *user, size_t user_len, const char *assistant,
		 size_t assistant_len, uint64_t tokens_in, uint64_t tokens_out, history_ended ended, void *closure)
{
	struct history *h = *handle;

	*handle = NULL;
	h->texts = xmalloc(user_len + assistant_len + 1);
	memcpy(h->texts, user, user_len);
	memcpy(h->texts + user_len, assistant, assistant_len);
	h->said = (struct conversation_said){
		.user = h->texts,
		.user_len = user_len,
		.assistant = h->texts + user_len,
		.assistant_len = assistant_len,
		.tokens_in = tokens_in,
		.tokens_out = tokens_out,
	};
	h->ended = ended;
	h->closure = closure;
	engine_job(h->engine, work_end, done_end, h);
}

/* --- giving it free --- */

static bool work_abandon(struct db *db, void *data, struct err *e)
{
	const struct history *h = data;

	return conversation_abandon(db, &h->turn, e);
}

/* A database that is away for a moment shall not lock a conversation for minutes. */
static void done_abandon(struct engine *engine, void *data, bool ok, const struct err *e)
{
	struct history *h = data;

	if (h->ended != NULL)
		h->ended(h->closure, PROBLEM_NONE);
	h->ended = NULL;
	if (!ok && clock_now_ms() < h->free_until_ms) {
		log_debug("conversation not given free; trying again", "error=%s", e->text);
		DL_APPEND(engine->histories, h);
		return;
	}
	history_free(h);
}

static void give_free(struct history *h)
{
	h->free_until_ms = clock_now_ms() + h->turn.limit_s * 1000;
	engine_job(h->engine, work_abandon, done_abandon, h);
}

void history_abandon(struct history **handle, history_ended ended, void *closure)
{
	struct history *h = *handle;

	*handle = NULL;
	h->ended = ended;
	h->closure = closure;
	give_free(h);
}

void histories_second(struct engine *engine)
{
	struct history *h = engine->histories;

	if (h == NULL || engine->is_stopping)
		return;
	DL_DELETE(engine->histories, h);
	engine_job(engine, work_abandon, done_abandon, h);
}

void histories_free(struct engine *engine)
{
	struct history *h, *next;

	DL_FOREACH_SAFE (engine->histories, h, next)
		history_free(h);
	engine->histories = NULL;
}
