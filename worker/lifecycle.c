/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One function per action of the pool. What needs the database is a step (step_lines.c). Builds and turns run on the
 * loop itself.
 *
 * The slot of an App holds its subscription, and from a claim that is to be built until the build's end the claim with
 * its arena (a configuration may be 1 MiB). PA_REMOVED frees the slot.
 */
#include "worker/lifecycle.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "core/chat_wire.h"
#include "core/event.h"
#include "core/placement.h"
#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/bus.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/xalloc.h"
#include "worker/chat.h"
#include "worker/engine.h"
#include "worker/events.h"
#include "worker/framework/framework.h"
#include "worker/inbox.h"
#include "worker/pool/pool.h"
#include "worker/runtime.h"
#include "worker/stats_book.h"
#include "worker/step_lines.h"

#define CONFIG_BYTES_MAX (8 * 1024 * 1024)
#define CONFIG_DEPTH_MAX 32
#define CHAT_PENDING_MAX 1024
#define LEAVE_BATCH 64 /* subscriptions that are drained together */

/* What a copy's runtime pointer is to the pool. */
struct built {
	const struct framework_impl *impl;
	void *runtime;
};

/* The engine's data of an App. */
struct app_slot {
	struct bus_sub *sub;
	struct arena *mem; /* of the claim; NULL where none is under way */
	struct claim claim;
};

/* One database step of an App. */
struct step {
	struct engine *engine;
	struct pool_app *app;
	struct pool_action action;
	struct worker_identity who;
	char hash[SECRET_HASH_HEX_SIZE], reason[REASON_MAX + 1];
	/* answers */
	struct app_row row;
	struct arena *mem;
	struct claim claim;
	enum claim_result claim_result;
	enum place_result place_result;
	struct id recovery_op;
	bool elsewhere;
	unsigned ended;
};

/* One build. */
struct build {
	struct engine *engine;
	struct pool_app *app;
	const struct framework_impl *impl;
	struct jval *config;
	int64_t began_us;
	uv_timer_t timeout;
	void *handle;
	bool is_done;
	struct build *prev, *next; /* in engine->builds until it is done */
};

static struct app_slot *slot_of(struct pool_app *app)
{
	void **slot = pool_app_slot(app);

	if (*slot == NULL)
		*slot = xcalloc(1, sizeof(struct app_slot));
	return *slot;
}

static void slot_forget_claim(struct app_slot *slot)
{
	arena_free(&slot->mem);
	slot->claim = (struct claim){0};
}

/* No build of it follows. */
static void forget_claim(struct pool_app *app)
{
	struct app_slot *slot = *pool_app_slot(app);

	if (slot != NULL)
		slot_forget_claim(slot);
}

void lifecycle_take_claim(struct pool_app *app, struct arena **mem, const struct claim *claim)
{
	struct app_slot *slot = slot_of(app);

	slot_forget_claim(slot);
	slot->mem = *mem;
	slot->claim = *claim;
	*mem = NULL;
}

bool lifecycle_is_subscribed(struct pool_app *app)
{
	const struct app_slot *slot = *pool_app_slot(app);

	return slot != NULL && slot->sub != NULL;
}

/* --- building --- */

static void build_closed(uv_handle_t *handle)
{
	struct build *b = handle->data;

	jval_free(&b->config);
	free(b);
}

static void build_finished(void *closure, void *runtime, const char *reason)
{
	struct build *b = closure;
	struct engine *engine = b->engine;
	struct app_slot *slot = slot_of(b->app);
	struct built *built = NULL;

	b->is_done = true;
	DL_DELETE(engine->builds, b);
	if (runtime != NULL) {
		struct instance_delta *delta =
			stats_book_app(engine, &slot->claim.row.instance_id, &slot->claim.row.org_id);
		built = xcalloc(1, sizeof(*built));
		built->impl = b->impl;
		built->runtime = runtime;
		bool is_reload = lifecycle_is_subscribed(b->app); /* beside the copy that serves */
		delta->loads += !is_reload;
		delta->cold_starts += !is_reload && pool_app_is_waited_for(b->app);
		delta->reloads += is_reload;
		delta->build_us_sum += (uint64_t)(clock_now_us() - b->began_us);
		stats_book_totals(engine)->loads_total++;
		slot_forget_claim(slot);
	}
	pool_built(engine->pool, b->app, built, reason, clock_now_ms());
	uv_close((uv_handle_t *)&b->timeout, build_closed);
	engine_pump(engine);
}

static void build_timed_out(uv_timer_t *timer)
{
	struct build *b = timer->data;

	b->impl->build_cancel(b->handle);
	build_finished(b, NULL, "build_timeout");
}

void lifecycle_stop_builds(struct engine *engine)
{
	while (engine->builds != NULL) {
		struct build *b = engine->builds;
		b->impl->build_cancel(b->handle);
		build_finished(b, NULL, "stopped");
	}
}

static void build_start(struct engine *engine, const struct pool_action *a, struct jval *config,
			const struct framework_impl *impl)
{
	const struct app_row *row = &slot_of(a->app)->claim.row;
	struct build *b = xcalloc(1, sizeof(*b));
	struct build_request request = {
		.instance_id = row->instance_id,
		.org_id = row->org_id,
		.mode = a->fallback ? row->good_mode : row->mode,
		.config = config,
		.llm = a->fallback ? row->good_llm : row->llm,
		.fresh = row->fresh,
	};

	b->engine = engine;
	b->app = a->app;
	b->impl = impl;
	b->config = config;
	b->began_us = clock_now_us();
	uv_timer_init(&engine->loop, &b->timeout);
	b->timeout.data = b;
	DL_APPEND(engine->builds, b);
	b->handle = impl->build(runtime_env(engine->runtime), &request, build_finished, b);
	if (!b->is_done)
		uv_timer_start(&b->timeout, build_timed_out, (uint64_t)engine->settings->worker.build_timeout_s * 1000,
			       0);
}

static void perform_build(struct engine *engine, const struct pool_action *a)
{
	const struct app_row *row = &slot_of(a->app)->claim.row;
	const char *text = a->fallback ? row->good_config : row->config;
	const struct framework_impl *impl = row->framework_type != NULL ? framework_impl(row->framework_type) : NULL;
	struct json_limits limits = {.bytes_max = CONFIG_BYTES_MAX, .depth_max = CONFIG_DEPTH_MAX};
	struct jval *config = NULL;
	struct err e = {0};

	if (impl == NULL) {
		pool_built(engine->pool, a->app, NULL, "framework_unknown", clock_now_ms());
	} else if (text == NULL || !jval_parse(text, strlen(text), &limits, &config, &e)) {
		log_error("stored configuration cannot be read", "instance=%s error=%s", a->instance_id.text, e.text);
		pool_built(engine->pool, a->app, NULL, "config_unreadable", clock_now_ms());
	} else {
		build_start(engine, a, config, impl);
	}
}

static void perform_free(void *runtime)
{
	struct built *built = runtime;

	built->impl->free(built->runtime);
	free(built);
}

/* --- the chat subject --- */

static void on_chat(void *closure, struct bus_msg *m)
{
	struct engine *engine = closure;

	inbox_put(engine->inbox, &(struct inbox_item){.kind = INBOX_CHAT, .msg = m});
}

/* Subscribing is asynchronous; the step's line waits for the server to have taken it. */
static void perform_subscribe(struct engine *engine, const struct pool_action *a)
{
	struct app_slot *slot = slot_of(a->app);
	char subject[CHAT_SUBJECT_SIZE];
	struct err e = {0};

	chat_subject(&a->instance_id, subject);
	/* Tried again after a failed flush: the subscription stands. */
	if (slot->sub == NULL &&
	    !bus_subscribe(engine->bus, subject, "workers", CHAT_PENDING_MAX, on_chat, engine, &slot->sub, &e)) {
		log_warn("chat subject not subscribed", "instance=%s error=%s next=retry", a->instance_id.text, e.text);
		pool_subscribed(engine->pool, a->app, false, clock_now_ms());
		return;
	}
	step_lines_add(engine, a);
}

/* One bus_drain. */
struct drained {
	struct engine *engine;
	unsigned count;
	struct pool_app *apps[LEAVE_BATCH];
	struct bus_sub *subs[LEAVE_BATCH];
};

static void on_drained(void *closure)
{
	struct drained *d = closure;

	inbox_put(d->engine->inbox, &(struct inbox_item){.kind = INBOX_DRAINED, .data = d});
}

void lifecycle_leave_subjects(struct engine *engine)
{
	struct drained *d = engine->leaving;

	engine->leaving = NULL;
	if (d != NULL)
		bus_drain(engine->bus, d->subs, d->count, on_drained, d);
}

static void perform_unsubscribe(struct engine *engine, const struct pool_action *a)
{
	struct app_slot *slot = slot_of(a->app);
	struct drained *d = engine->leaving;

	if (slot->sub == NULL) { /* the bus has not taken it */
		pool_unsubscribed(engine->pool, a->app, clock_now_ms());
		return;
	}
	if (d == NULL) {
		d = engine->leaving = xcalloc(1, sizeof(*d));
		d->engine = engine;
	}
	d->apps[d->count] = a->app;
	d->subs[d->count++] = slot->sub;
	slot->sub = NULL;
	if (d->count == LEAVE_BATCH)
		lifecycle_leave_subjects(engine);
}

void lifecycle_drained(struct engine *engine, void *data)
{
	struct drained *d = data;

	for (unsigned i = 0; i < d->count; i++)
		pool_unsubscribed(engine->pool, d->apps[i], clock_now_ms());
	free(d);
}

/* --- events --- */

void lifecycle_publish(struct engine *engine, bool use_loads, const struct event *what)
{
	struct event event = *what;
	char subject[EVENT_SUBJECT_SIZE];
	struct buf body;
	struct err e = {0};

	event.action = ACTION_LOAD;
	event.source = SOURCE_RECOVERY;
	event_subject(use_loads ? EVENT_LOAD : EVENT_CHANGE, &event.org_id, &event.instance_id, subject);
	buf_init(&body, EVENT_BYTES_MAX);
	event_encode(&event, &body);
	if (!bus_publish(engine->bus, subject, NULL, body.data, body.len, &e))
		log_debug("event not passed on; reconcile finds it", "instance=%s error=%s", event.instance_id.text,
			  e.text);
	buf_clear(&body);
}

static void perform_pass_on(struct engine *engine, const struct pool_action *a)
{
	lifecycle_publish(engine, false,
			  &(struct event){
				  .instance_id = a->instance_id,
				  .org_id = a->org_id,
				  .tier = a->tier,
				  .generation = a->generation,
			  });
}

static void perform_removed(void *data)
{
	struct app_slot *slot = data;

	slot_forget_claim(slot);
	free(slot);
}

void lifecycle_perform(struct engine *engine, const struct pool_action *a)
{
	switch (a->kind) {
	case PA_BUILD:
		perform_build(engine, a);
		break;
	case PA_SUBSCRIBE:
		perform_subscribe(engine, a);
		break;
	case PA_FAILED:
	case PA_GIVE_BACK:
		if (!a->fallback)
			forget_claim(a->app);
		step_lines_add(engine, a);
		break;
	case PA_READ:
	case PA_CLAIM:
	case PA_READY:
	case PA_DRAINING:
	case PA_GONE:
	case PA_CEILING:
		step_lines_add(engine, a);
		break;
	case PA_UNSUBSCRIBE:
		perform_unsubscribe(engine, a);
		break;
	case PA_CUT:
		chat_cut(engine, a->copy);
		break;
	case PA_FREE:
		perform_free(a->runtime);
		break;
	case PA_EVENT_DONE:
		events_done(engine, a->event);
		break;
	case PA_EVENT_BACK:
		events_back(engine, a->event, a->delay_ms);
		break;
	case PA_PASS_ON:
		perform_pass_on(engine, a);
		break;
	case PA_REMOVED:
		perform_removed(a->slot);
		break;
	}
}

struct turn *lifecycle_turn(struct engine *engine, void *runtime, const struct chat_request *request,
			    const struct turn_sink *sink)
{
	struct built *built = runtime;

	return built->impl->turn(built->runtime, runtime_env(engine->runtime), request, sink);
}

void lifecycle_history(const void *runtime, struct history_limits *ret_limits)
{
	const struct built *built = runtime;

	*ret_limits = (struct history_limits){0};
	if (built->impl->history)
		built->impl->history(built->runtime, ret_limits);
}

unsigned lifecycle_turns_max(const void *runtime)
{
	const struct built *built = runtime;

	return built->impl->turns_max ? built->impl->turns_max(built->runtime) : 0;
}

void lifecycle_turn_cancel(void *runtime, struct turn *turn)
{
	struct built *built = runtime;

	built->impl->turn_cancel(turn);
}
