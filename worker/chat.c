/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A turn: begun on the copy that the pool gives, driven by its framework, ended with one `end` reply. Every turn holds
 * its copy until then, also while it waits at the turnstile and while its conversation is read and written. A turn that
 * is not streamed and over within ACCEPT_AFTER_MS is answered by its end alone; every other one is accepted first, with
 * its cancel subject.
 *
 * Turns are kept by number (for cancelling) in one table; keep-alives and deadlines are looked after once a second.
 */
#include "worker/chat.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#include "core/chat_wire.h"
#include "core/problem.h"
#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/bus.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/xalloc.h"
#include "worker/engine.h"
#include "worker/framework/framework.h"
#include "worker/history.h"
#include "worker/inbox.h"
#include "worker/lease_keeper.h"
#include "worker/lifecycle.h"
#include "worker/pool/pool.h"
#include "worker/stats_book.h"
#include "worker/turnstile.h"

#define REQUEST_MEMORY_MAX (4 * CHAT_MESSAGE_BYTES_MAX)
#define REPLY_BYTES_MAX (1024 * 1024)
#define RETRY_AFTER_MS 1000 /* of a turn that was turned away */
#define ACCEPT_AFTER_MS 50  /* so long the client's side does not look whether its client is there anyhow */

struct live_turn {
	struct engine *engine;
	uint64_t number;
	char *reply;
	struct arena *mem;
	struct chat_request request;
	struct pool_copy *copy;
	void *runtime;
	struct turn *turn; /* NULL: it has ended, or not begun */
	bool has_run;      /* it got as far as the App */
	struct turnstile_pass pass;
	uint64_t sent; /* replies */
	int64_t sent_ms, began_us;
	bool is_accepted, is_in_line;
	struct history *history;       /* its conversation; NULL: it keeps none */
	bool is_reading;               /* of the conversation: the turn begins when it is read */
	bool is_saving;                /* … and its end is told when it is written */
	bool is_stopped;               /* while it was read */
	struct turn_result result;     /* is_saving */
	char *kept;                    /* what result borrows */
	bool is_timed_out, is_cut;     /* why it was cancelled, where not by its client */
	struct live_turn *prev, *next; /* is_in_line */
	UT_hash_handle hh;
};

struct chats {
	struct live_turn *turns; /* by number */
	struct live_turn *line;  /* that are to be accepted when they have lasted so long; the oldest first */
	uv_timer_t acceptance;   /* of the first in line */
	uint64_t next_number;
	struct bus_sub *cancels;
	struct buf scratch; /* one reply at a time */
	struct turnstile *turnstile;
	bool is_letting_in; /* turns that waited are being begun, further up the stack */
};

static struct turnstile_config turnstile_config_of(const struct settings *s)
{
	return (struct turnstile_config){
		.org_max = (unsigned)s->worker.org_turns_max,
		.queue_max = (unsigned)s->worker.turn_queue_max,
		.wait_ms = s->worker.turn_queue_wait_s * 1000,
	};
}

struct chats *chats_new(struct engine *engine)
{
	struct chats *chats = xcalloc(1, sizeof(*chats));
	struct turnstile_config config = turnstile_config_of(engine->settings);

	chats->turnstile = turnstile_new(&config);
	buf_init(&chats->scratch, REPLY_BYTES_MAX);
	uv_timer_init(&engine->loop, &chats->acceptance);
	chats->acceptance.data = chats;
	return chats;
}

void chats_close(struct chats *chats)
{
	uv_close((uv_handle_t *)&chats->acceptance, NULL);
}

void chats_free(struct chats **chats)
{
	if (*chats == NULL)
		return;
	buf_clear(&(*chats)->scratch);
	turnstile_free(&(*chats)->turnstile);
	free(*chats);
	*chats = NULL;
}

void chats_configure(struct engine *engine)
{
	struct turnstile_config config = turnstile_config_of(engine->settings);

	turnstile_configure(engine->chats->turnstile, &config);
}

/* --- replies --- */

/* False: it is larger than the bus takes. */
static bool publish_reply(struct engine *engine, const char *reply, uint64_t n, enum chat_kind kind, const char *arg,
			  const char *body, size_t len)
{
	struct buf *scratch = &engine->chats->scratch;
	struct err e = {0};

	buf_reset(scratch);
	chat_reply_encode(n, kind, arg, body, len, scratch);
	if (buf_has_failed(scratch))
		err_set(&e, ERR_LIMIT, "larger than a reply may be");
	else if (bus_publish(engine->bus, reply, NULL, scratch->data, scratch->len, &e))
		return true;
	log_debug("reply not sent; the client's side ends by the gap", "error=%s", e.text);
	return e.code != ERR_LIMIT;
}

static void send_reply(struct live_turn *t, enum chat_kind kind, const char *arg, const char *body, size_t len)
{
	(void)publish_reply(t->engine, t->reply, t->sent++, kind, arg, body, len);
	t->sent_ms = clock_now_ms();
}

/* retry_after_ms 0: not known. */
static struct jval *failure(const char *code, const char *detail, int64_t retry_after_ms)
{
	struct jval *body = jval_new_object();

	jval_add_string(body, "code", code);
	if (detail != NULL)
		jval_add_string(body, "detail", detail);
	if (retry_after_ms > 0)
		jval_add_int(body, "retry_after_s", (retry_after_ms + 999) / 1000);
	return body;
}

/* Nothing comes behind an end that would show a gap, so one that is too large is replaced. */
static void send_end(struct engine *engine, const char *reply, uint64_t n, int status, struct jval *body)
{
	char arg[16];
	size_t len;
	const char *text = jval_text(body, &len);

	(void)snprintf(arg, sizeof(arg), "%d", status);
	bool is_too_large = !publish_reply(engine, reply, n, CHAT_END, arg, text, len);
	jval_free(&body);
	if (is_too_large && status == 200)
		send_end(engine, reply, n, problem_status(PROBLEM_INTERNAL),
			 failure(problem_code(PROBLEM_INTERNAL), "The answer is larger than the bus takes.", 0));
}

static void refuse(struct engine *engine, const struct bus_msg *msg, enum problem problem, const char *detail)
{
	int64_t retry_after_ms = problem == PROBLEM_TOO_MANY_TURNS ? RETRY_AFTER_MS : 0;

	send_end(engine, bus_msg_reply(msg), 0, problem_status(problem),
		 failure(problem_code(problem), detail, retry_after_ms));
}

static struct jval *usage_of(const struct turn_result *result)
{
	struct jval *usage = jval_new_object();

	jval_add_int(usage, "prompt_tokens", (int64_t)result->tokens_in);
	jval_add_int(usage, "completion_tokens", (int64_t)result->tokens_out);
	jval_add_int(usage, "total_tokens", (int64_t)(result->tokens_in + result->tokens_out));
	return usage;
}

static const char *finish_of(const struct turn_result *result)
{
	return result->finish ? result->finish : "stop";
}

static void send_metadata(struct live_turn *t, const struct turn_result *result)
{
	struct jval *data = jval_new_object();
	size_t len;

	jval_add_string(data, "session_id", t->request.session_id.text);
	if (result != NULL) {
		jval_add_bool(data, "done", true);
		jval_add_string(data, "finish_reason", finish_of(result));
		jval_add(data, "usage", usage_of(result));
	}
	const char *text = jval_text(data, &len);
	send_reply(t, CHAT_EVENT, "metadata", text, len);
	jval_free(&data);
}

static struct jval *answer_of(const struct live_turn *t, const struct turn_result *result)
{
	struct jval *body = jval_new_object();

	jval_add_string(body, "session_id", t->request.session_id.text);
	if (result->response != NULL && !t->request.stream)
		jval_add(body, "response", jval_new_string(result->response, result->response_len));
	jval_add_int(body, "agent_hops", result->agent_hops);
	jval_add_string(body, "current_agent", result->current_agent);
	jval_add_string(body, "finish_reason", finish_of(result));
	if (result->tool_calls)
		jval_add(body, "tool_calls", jval_ref((struct jval *)result->tool_calls));
	jval_add(body, "usage", usage_of(result));
	return body;
}

/* --- accepting --- */

static void leave_line(struct live_turn *t)
{
	if (t->is_in_line)
		DL_DELETE(t->engine->chats->line, t);
	t->is_in_line = false;
}

static void accept_turn(struct live_turn *t)
{
	char subject[CHAT_CANCEL_SUBJECT_SIZE];

	leave_line(t);
	if (t->is_accepted)
		return;
	t->is_accepted = true;
	(void)snprintf(subject, sizeof(subject), CHAT_CANCEL_PREFIX "%s.%llu", t->engine->who.incarnation.text,
		       (unsigned long long)t->number);
	send_reply(t, CHAT_ACCEPTED, subject, NULL, 0);
}

static void accept_line(uv_timer_t *timer);

static void arm_acceptance(struct chats *chats, int64_t now_ms)
{
	int64_t left_ms = chats->line->began_us / 1000 + ACCEPT_AFTER_MS - now_ms;

	(void)uv_timer_start(&chats->acceptance, accept_line, left_ms > 0 ? (uint64_t)left_ms : 1, 0);
}

static void accept_line(uv_timer_t *timer)
{
	struct chats *chats = timer->data;
	int64_t now_ms = clock_now_ms();

	while (chats->line && chats->line->began_us / 1000 + ACCEPT_AFTER_MS <= now_ms)
		accept_turn(chats->line);
	if (chats->line)
		arm_acceptance(chats, now_ms);
}

/* A message for each that is over sooner would be a third of what the turn costs on the bus. */
static void accept_soon(struct live_turn *t)
{
	struct chats *chats = t->engine->chats;

	if (t->is_accepted || t->is_in_line)
		return;
	t->is_in_line = true;
	DL_APPEND(chats->line, t);
	if (!uv_is_active((uv_handle_t *)&chats->acceptance))
		arm_acceptance(chats, clock_now_ms());
}

/* --- the sink --- */

static void on_event(void *closure, const char *name, const char *data, size_t len)
{
	struct live_turn *t = closure;

	if (t->request.stream)
		send_reply(t, CHAT_EVENT, name, data, len);
}

static void count_turn(struct live_turn *t, const struct turn_result *result)
{
	uint64_t took_us = (uint64_t)(clock_now_us() - t->began_us);
	struct instance_delta *d = stats_book_app(t->engine, &t->request.instance_id, &t->request.org_id);
	struct worker_stats *totals = stats_book_totals(t->engine);
	bool is_error = result->status != 200 && result->status != 499;

	d->turns++;
	d->errors += is_error;
	d->tokens_in += result->tokens_in;
	d->tokens_out += result->tokens_out;
	d->latency_us_sum += took_us;
	d->provider_us_sum += (uint64_t)result->provider_us;
	d->tools_us_sum += (uint64_t)result->tools_us;
	if (took_us > d->latency_us_max)
		d->latency_us_max = took_us;
	totals->turns_total++;
	totals->errors_total += is_error;
}

static void let_in(struct engine *engine);

static void turn_finish(struct live_turn *t, const struct turn_result *result)
{
	struct engine *engine = t->engine;

	if (result->status == 200) {
		if (t->request.stream)
			send_metadata(t, result);
		send_end(engine, t->reply, t->sent++, 200, answer_of(t, result));
	} else if (t->is_timed_out) {
		send_end(engine, t->reply, t->sent++, problem_status(PROBLEM_TURN_TIMEOUT),
			 failure(problem_code(PROBLEM_TURN_TIMEOUT), "The turn took longer than it may.", 0));
	} else if (t->is_cut) {
		send_end(engine, t->reply, t->sent++, problem_status(PROBLEM_INSTANCE_NOT_LOADED),
			 failure(problem_code(PROBLEM_INSTANCE_NOT_LOADED),
				 "The AI App was unloaded before the turn had ended.", 0));
	} else {
		send_end(engine, t->reply, t->sent++, result->status,
			 failure(result->code, result->detail, result->retry_after_ms));
	}
	if (t->has_run)
		count_turn(t, result);
	log_debug("turn ended", "instance=%s request=%s status=%d", t->request.instance_id.text,
		  t->request.request_id ? t->request.request_id : "-", result->status);
	HASH_DELETE(hh, engine->chats->turns, t);
	leave_line(t);
	turnstile_leave(engine->chats->turnstile, &t->pass);
	pool_turn_end(engine->pool, t->copy, clock_now_ms());
	chat_request_clear(&t->request);
	arena_free(&t->mem);
	free(t->kept);
	free(t->reply);
	free(t);
	let_in(engine);
	engine_pump(engine);
}

static void on_saved(void *closure, enum problem problem)
{
	struct live_turn *t = closure;
	struct turn_result *result = &t->result;

	if (problem != PROBLEM_NONE) {
		result->status = problem_status(problem);
		result->code = problem_code(problem);
		result->detail = problem == PROBLEM_CONVERSATION_NOT_FOUND
					 ? "The conversation was deleted, or taken over, before the turn had ended."
					 : "The answer could not be saved in its conversation.";
	}
	t->is_timed_out = t->is_cut = false; /* it was in time */
	turn_finish(t, result);
}

static void on_abandoned(void *closure, enum problem problem)
{
	struct live_turn *t = closure;

	(void)problem;
	turn_finish(t, &t->result);
}

/* Keeps the result until the conversation was seen to. text: of it, that is borrowed. */
static void keep_result(struct live_turn *t, const struct turn_result *result, const char *text, size_t len)
{
	t->turn = NULL;
	t->is_saving = true;
	t->result = *result;
	t->kept = xmalloc(len + 1);
	memcpy(t->kept, text, len);
	t->kept[len] = '\0';
}

/* The client is told of the end when both messages stand in the conversation, or when it is free again: whoever is told
 * may begin the next turn. */
static void on_end(void *closure, const struct turn_result *result)
{
	struct live_turn *t = closure;

	if (t->history == NULL) {
		turn_finish(t, result);
	} else if (result->status != 200) {
		const char *detail = result->detail ? result->detail : "";
		keep_result(t, result, detail, strlen(detail));
		t->result.detail = result->detail ? t->kept : NULL;
		history_abandon(&t->history, on_abandoned, t);
	} else {
		keep_result(t, result, result->response, result->response_len);
		t->result.response = t->kept;
		history_end(&t->history, t->request.message, t->request.message_len, t->kept, result->response_len,
			    result->tokens_in, result->tokens_out, on_saved, t);
	}
}

static void fail_waiting(struct live_turn *t, enum problem problem, const char *detail)
{
	on_end(t, &(struct turn_result){
			  .status = problem_status(problem),
			  .code = problem_code(problem),
			  .detail = detail,
			  .retry_after_ms = RETRY_AFTER_MS,
		  });
}

/* --- requests --- */

static void turn_run(struct engine *engine, struct live_turn *t)
{
	struct turn_sink sink = {.closure = t, .event = on_event, .end = on_end};
	uint64_t number = t->number;

	t->has_run = true;
	if (t->request.stream) {
		accept_turn(t);
		send_metadata(t, NULL);
	}
	struct turn *turn = lifecycle_turn(engine, t->runtime, &t->request, &sink);
	if (turn == NULL)
		return; /* over, and t with it, or about to be */
	HASH_FIND(hh, engine->chats->turns, &number, sizeof(number), t);
	t->turn = turn;
	accept_soon(t);
}

static void end_cancelled(struct live_turn *t)
{
	on_end(t, &(struct turn_result){.status = 499, .code = "cancelled", .detail = "The turn was cancelled."});
}

static void on_history(void *closure, enum problem problem, struct jval *messages)
{
	struct live_turn *t = closure;

	t->is_reading = false;
	t->request.history = messages;
	if (problem != PROBLEM_NONE)
		fail_waiting(t, problem, NULL);
	else if (t->is_stopped)
		end_cancelled(t);
	else
		turn_run(t->engine, t);
}

static void turn_start(struct engine *engine, struct live_turn *t)
{
	struct history_limits limits;

	lifecycle_history(t->runtime, &limits);
	if (limits.messages == 0 || !id_is_set(&t->request.token_id) || t->request.messages != NULL) {
		turn_run(engine, t);
		return;
	}
	accept_soon(t);
	t->is_reading = true;
	t->history = history_begin(engine, &t->request, &limits, on_history, t);
}

#define turn_of(its_pass) ((struct live_turn *)((char *)(its_pass)-offsetof(struct live_turn, pass)))

/* One that ends at once makes room for the next: this loop, not a deeper one, begins it. */
static void let_in(struct engine *engine)
{
	struct chats *chats = engine->chats;
	struct turnstile_pass *pass;

	if (chats->is_letting_in)
		return;
	chats->is_letting_in = true;
	while ((pass = turnstile_next(chats->turnstile)) != NULL)
		turn_start(engine, turn_of(pass));
	chats->is_letting_in = false;
}

/* While the table of turns is walked none is begun: it could end at once, and be the next. */
static void hold_back(struct engine *engine)
{
	engine->chats->is_letting_in = true;
}

static void let_go_on(struct engine *engine)
{
	engine->chats->is_letting_in = false;
	let_in(engine);
}

/* A turn that is to wait is accepted, so that its client's side does. */
static void turn_enter(struct engine *engine, struct live_turn *t)
{
	switch (turnstile_enter(engine->chats->turnstile, &t->pass, &t->request.instance_id, &t->request.org_id,
				lifecycle_turns_max(t->runtime), clock_now_ms())) {
	case TURNSTILE_IN:
		turn_start(engine, t);
		break;
	case TURNSTILE_WAITS:
		accept_turn(t);
		break;
	case TURNSTILE_FULL:
		fail_waiting(t, PROBLEM_TOO_MANY_TURNS, "Too many turns of this AI App or organization wait already.");
		break;
	}
}

static struct live_turn *turn_new(struct engine *engine, const struct bus_msg *msg, struct arena *mem,
				  const struct chat_request *request)
{
	struct live_turn *t = xcalloc(1, sizeof(*t));

	t->engine = engine;
	t->number = ++engine->chats->next_number;
	t->reply = xstrdup(bus_msg_reply(msg));
	t->mem = mem;
	t->request = *request;
	t->began_us = clock_now_us();
	t->sent_ms = clock_now_ms();
	return t;
}

static bool may_begin(struct engine *engine, const struct bus_msg *msg, const struct chat_request *request)
{
	if (request->deadline_unix_ms != 0 && clock_unix_ms() > request->deadline_unix_ms) {
		log_debug("chat dropped: its deadline has passed here", "instance=%s", request->instance_id.text);
		return false; /* nobody waits any more */
	}
	if (!lease_keeper_is_valid(engine->lease)) {
		refuse(engine, msg, PROBLEM_WORKER_UNRESPONSIVE, "The worker has lost its lease and is renewing it.");
		return false;
	}
	if (pool_counts(engine->pool).turns_in_flight >= engine->settings->worker.turns_max) {
		refuse(engine, msg, PROBLEM_TOO_MANY_TURNS, "The worker runs as many turns as it may.");
		return false;
	}
	return true;
}

/* Only an application asks. A reply subject of any other kind would make us publish for a stranger, in our name. */
static bool is_from_app(const struct bus_msg *msg)
{
	const char *reply = bus_msg_reply(msg);

	return reply != NULL && strncmp(reply, CHAT_REPLY_PREFIX, strlen(CHAT_REPLY_PREFIX)) == 0;
}

/* NULL: not here, or of another organization than the request's. Both look alike from outside. */
static struct pool_copy *begin_on_copy(struct engine *engine, const struct chat_request *request, void **ret_runtime)
{
	struct pool_copy *copy = pool_turn_begin(engine->pool, &request->instance_id, ret_runtime, clock_now_ms());

	if (copy == NULL)
		return NULL;
	const struct id org_id = pool_copy_org(copy);
	if (id_equal(&org_id, &request->org_id))
		return copy;
	log_warn("chat request for an App of another organization", "instance=%s org=%s", request->instance_id.text,
		 request->org_id.text);
	pool_turn_end(engine->pool, copy, clock_now_ms());
	return NULL;
}

void chat_request(struct engine *engine, const struct bus_msg *msg)
{
	struct arena *mem = arena_new(REQUEST_MEMORY_MAX);
	struct chat_request request = {0};
	struct err e = {0};
	size_t len;
	const char *data = bus_msg_data(msg, &len);
	char subject[CHAT_SUBJECT_SIZE];
	void *runtime = NULL;
	struct pool_copy *copy = NULL;

	if (!is_from_app(msg))
		goto out;
	if (!chat_request_parse(data, len, mem, &request, &e)) {
		log_warn("broken chat request", "subject=%s error=%s", bus_msg_subject(msg), e.text);
		refuse(engine, msg, PROBLEM_INVALID, "The chat request could not be read.");
		goto out;
	}
	chat_subject(&request.instance_id, subject);
	if (strcmp(subject, bus_msg_subject(msg)) != 0) {
		log_warn("chat request for another App than its subject's", "subject=%s", bus_msg_subject(msg));
		refuse(engine, msg, PROBLEM_INVALID, "The chat request could not be read.");
		goto out;
	}
	if (!may_begin(engine, msg, &request))
		goto out;
	copy = begin_on_copy(engine, &request, &runtime);
	if (copy == NULL) {
		refuse(engine, msg, PROBLEM_INSTANCE_NOT_LOADED, "The AI App is not loaded.");
		goto out;
	}
	struct live_turn *t = turn_new(engine, msg, mem, &request);
	mem = NULL;
	t->copy = copy;
	t->runtime = runtime;
	request.root = NULL;
	HASH_ADD(hh, engine->chats->turns, number, sizeof(t->number), t);
	turn_enter(engine, t);
out:
	chat_request_clear(&request);
	arena_free(&mem);
}

/* --- cancelling --- */

static void turn_stop(struct live_turn *t)
{
	struct turn *turn = t->turn;

	if (t->pass.is_waiting) {
		end_cancelled(t);
	} else if (t->is_reading) {
		t->is_stopped = true;
	} else if (turn != NULL) {
		t->turn = NULL;
		lifecycle_turn_cancel(t->runtime, turn);
	}
}

void chat_cancel(struct engine *engine, const struct bus_msg *msg)
{
	const char *last = strrchr(bus_msg_subject(msg), '.');
	uint64_t number = last != NULL ? strtoull(last + 1, NULL, 10) : 0;
	struct live_turn *t;

	HASH_FIND(hh, engine->chats->turns, &number, sizeof(number), t);
	if (t == NULL)
		return; /* it has ended */
	log_debug("turn cancelled", "instance=%s", t->request.instance_id.text);
	turn_stop(t);
}

void chat_cut(struct engine *engine, const struct pool_copy *copy)
{
	struct live_turn *t, *next;

	hold_back(engine);
	HASH_ITER (hh, engine->chats->turns, t, next) {
		if (t->copy != copy)
			continue;
		t->is_cut = true;
		turn_stop(t);
	}
	let_go_on(engine);
}

static void on_cancel(void *closure, struct bus_msg *m)
{
	struct engine *engine = closure;

	inbox_put(engine->inbox, &(struct inbox_item){.kind = INBOX_CANCEL, .msg = m});
}

void chats_new_incarnation(struct engine *engine)
{
	char subject[CHAT_CANCEL_SUBJECT_SIZE];
	struct err e = {0};

	/* The subscription of an incarnation before stays: its turns may still be cancelled. */
	(void)snprintf(subject, sizeof(subject), CHAT_CANCEL_PREFIX "%s.*", engine->who.incarnation.text);
	if (!bus_subscribe(engine->bus, subject, NULL, 0, on_cancel, engine, &engine->chats->cancels, &e))
		log_error("cancel subject not subscribed", "error=%s", e.text);
}

void chats_second(struct engine *engine)
{
	int64_t now_ms = clock_now_ms(), unix_ms = clock_unix_ms();
	struct turnstile_pass *pass;
	struct live_turn *t, *next;

	hold_back(engine);
	while ((pass = turnstile_expired(engine->chats->turnstile, now_ms)) != NULL)
		fail_waiting(turn_of(pass), PROBLEM_TOO_MANY_TURNS, "The turn waited as long as it may.");

	HASH_ITER (hh, engine->chats->turns, t, next) {
		if (t->request.deadline_unix_ms != 0 && unix_ms > t->request.deadline_unix_ms) {
			t->is_timed_out = true;
			turn_stop(t);
		} else if (now_ms - t->sent_ms >= CHAT_KEEPALIVE_MS) {
			send_reply(t, CHAT_KEEPALIVE, "-", NULL, 0);
		}
	}
	let_go_on(engine);
}
