/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One function per action of the pool. What needs the database is a `struct step`: it runs core/placement.h on the
 * thread pool and brings the answer back to the loop. Builds and turns run on the loop itself.
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
#include "worker/stats_book.h"

#define CLAIM_MEMORY_MAX (8 * 1024 * 1024) /* two configurations of at most 1 MiB, parsed */
#define CONFIG_DEPTH_MAX 32
#define CHAT_PENDING_MAX 1024
#define FLUSH_TIMEOUT_MS 2000
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
	struct id next_op;
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

static struct step *step_new(struct engine *engine, const struct pool_action *a)
{
	struct step *s = xcalloc(1, sizeof(*s));

	s->engine = engine;
	s->app = a->app;
	s->action = *a;
	s->who = engine->who;
	if (a->hash != NULL)
		s->action.hash = memcpy(s->hash, a->hash, sizeof(s->hash));
	if (a->reason != NULL) {
		(void)snprintf(s->reason, sizeof(s->reason), "%s", a->reason);
		s->action.reason = s->reason;
	}
	return s;
}

static void step_free(struct step *s)
{
	arena_free(&s->mem);
	free(s);
}

static void log_step_failed(const struct step *s, const char *what, const struct err *e)
{
	if (atomic_load(&s->engine->gave_up_ms) != 0)
		return; /* said once, for all */
	log_warn(what, "instance=%s error=%s next=retry", s->action.instance_id.text, e->text);
}

/* --- reading the row --- */

static bool work_read(struct db *db, void *data, struct err *e)
{
	struct step *s = data;

	return placement_read(db, &s->action.instance_id, &s->row, e);
}

static void done_read(struct engine *engine, void *data, bool ok, const struct err *e)
{
	struct step *s = data;

	if (!ok)
		log_step_failed(s, "row not read", e);
	pool_row_read(engine->pool, s->app, ok ? &s->row : NULL, clock_now_ms());
	step_free(s);
}

/* --- claiming --- */

static bool work_claim(struct db *db, void *data, struct err *e)
{
	struct step *s = data;

	s->mem = arena_new(CLAIM_MEMORY_MAX);
	s->claim_result = placement_claim(db, s->mem, &s->who, &s->action.instance_id, s->action.how, &s->claim, e);
	return s->claim_result != CLAIM_FAIL;
}

/* An event for everyone who may hold a copy, or who may make one more. */
static void publish_event(struct engine *engine, const struct step *s, bool use_loads)
{
	struct event event = {
		.operation_id = s->next_op,
		.instance_id = s->action.instance_id,
		.org_id = s->action.org_id,
		.action = ACTION_LOAD,
		.tier = s->claim.row.tier,
		.generation = s->claim.row.generation,
		.source = SOURCE_RECOVERY,
	};
	char subject[EVENT_SUBJECT_SIZE];
	struct buf body;
	struct err e = {0};

	event_subject(use_loads ? EVENT_LOAD : EVENT_CHANGE, &event.org_id, &event.instance_id, subject);
	buf_init(&body, EVENT_BYTES_MAX);
	event_encode(&event, &body);
	if (!bus_publish(engine->bus, subject, NULL, body.data, body.len, &e))
		log_debug("event not passed on; reconcile finds it", "instance=%s error=%s", event.instance_id.text,
			  e.text);
	buf_clear(&body);
}

static const char *claim_failure(enum claim_result result)
{
	switch (result) {
	case CLAIM_QUOTA_HOT:
		return "quota_hot";
	case CLAIM_POISON:
		return "poison";
	default:
		return NULL;
	}
}

static void done_claim(struct engine *engine, void *data, bool ok, const struct err *e)
{
	struct step *s = data;
	const char *failure = claim_failure(s->claim_result);

	if (!ok) {
		s->claim_result = CLAIM_FAIL;
		log_step_failed(s, "App not claimed", e);
	}
	if (s->claim_result == CLAIM_PASS_ON || (s->claim_result == CLAIM_BUILD && s->claim.want_more))
		publish_event(engine, s, s->claim_result == CLAIM_BUILD);
	if (s->claim.ended > 0 || failure != NULL)
		engine_report(engine, &s->action.org_id, &s->action.instance_id, failure != NULL ? "failed" : "ready",
			      failure);
	if (s->claim_result == CLAIM_BUILD) {
		struct app_slot *slot = slot_of(s->app);
		slot_forget_claim(slot);
		slot->mem = s->mem;
		slot->claim = s->claim;
		s->mem = NULL;
	}
	pool_claimed(engine->pool, s->app, s->claim_result, &s->claim, clock_now_ms());
	step_free(s);
}

/* --- placements --- */

static bool drop_surplus(struct db *db, struct step *s, struct err *e)
{
	bool is_dropped = false;

	s->place_result = placement_drop_surplus(db, &s->who, &s->action.instance_id, &is_dropped, e);
	if (s->place_result == PLACE_OK && !is_dropped)
		s->place_result = PLACE_CHANGED;
	return s->place_result != PLACE_FAIL;
}

static bool work_place(struct db *db, void *data, struct err *e)
{
	struct step *s = data;
	const struct pool_action *a = &s->action;

	switch (a->kind) {
	case PA_READY:
		s->place_result = placement_ready(db, &s->who, &a->instance_id, a->generation, a->tier, a->hash,
						  a->reason, &s->ended, e);
		break;
	case PA_FAILED:
		s->place_result = placement_failed(db, &s->who, &a->instance_id, a->generation, a->reason, a->keep,
						   a->retry_s, &s->ended, e);
		break;
	case PA_GIVE_BACK:
		s->place_result = placement_give_back(db, &s->who, &a->instance_id, &s->ended, e);
		break;
	case PA_DRAINING:
		if (a->evict == EVICT_SURPLUS)
			return drop_surplus(db, s, e);
		s->place_result =
			placement_draining(db, &s->who, &a->instance_id, a->hand_over, &s->next_op, &s->ended, e);
		break;
	case PA_GONE:
		s->place_result = placement_gone(db, &s->who, &a->instance_id, &s->ended, e);
		break;
	default:
		return err_set(e, ERR_INTERNAL, "not a placement action: %d", (int)a->kind);
	}
	return s->place_result != PLACE_FAIL;
}

static enum pool_done pool_done_of(enum place_result result)
{
	switch (result) {
	case PLACE_OK:
		return POOL_DONE;
	case PLACE_SHORT:
		return POOL_SHORT;
	case PLACE_CHANGED:
		return POOL_CHANGED;
	case PLACE_LOST:
		return POOL_LOST;
	case PLACE_FAIL:
		break;
	}
	return POOL_RETRY;
}

static void count_eviction(struct engine *engine, const struct step *s)
{
	struct instance_delta *delta = stats_book_app(engine, &s->action.instance_id, &s->action.org_id);

	if (s->action.evict == EVICT_NONE || s->action.evict == EVICT_SURPLUS)
		return;
	stats_book_totals(engine)->evictions_total++;
	delta->evicted_idle += s->action.evict == EVICT_IDLE;
	delta->evicted_room += s->action.evict == EVICT_ROOM;
	delta->evicted_quota += s->action.evict == EVICT_QUOTA;
}

static bool is_subscribed(struct pool_app *app)
{
	const struct app_slot *slot = *pool_app_slot(app);

	return slot != NULL && slot->sub != NULL;
}

/* What people and waiters are told when a placement has changed. */
static void tell(struct engine *engine, const struct step *s)
{
	const struct pool_action *a = &s->action;
	static const char *const evictions[] = {"none", "idle", "room", "quota", "surplus"};

	switch (a->kind) {
	case PA_READY:
		log_info("App ready", "instance=%s org=%s tier=%s generation=%llu%s%s", a->instance_id.text,
			 a->org_id.text, tier_name(a->tier), (unsigned long long)a->generation,
			 a->reason ? " reason=" : "", a->reason ? a->reason : "");
		/* Stopping, it is about to leave, and a "ready" that we hear ends our hand-over. */
		engine_report(engine, &a->org_id, &a->instance_id, engine->is_stopping ? "draining" : "ready",
			      a->reason);
		break;
	case PA_FAILED:
		log_warn("App failed", "instance=%s org=%s generation=%llu reason=%s", a->instance_id.text,
			 a->org_id.text, (unsigned long long)a->generation, a->reason);
		stats_book_app(engine, &a->instance_id, &a->org_id)->failed_builds += a->retry_s == 0;
		engine_report(engine, &a->org_id, &a->instance_id, "failed", a->reason);
		break;
	case PA_DRAINING:
		log_info("App draining", "instance=%s org=%s evicted=%s", a->instance_id.text, a->org_id.text,
			 evictions[a->evict]);
		count_eviction(engine, s);
		break;
	case PA_GIVE_BACK:
		log_debug("build given back", "instance=%s", a->instance_id.text);
		engine_report(engine, &a->org_id, &a->instance_id, is_subscribed(s->app) ? "loading" : "unloaded",
			      NULL);
		break;
	case PA_GONE:
		log_info("App unloaded", "instance=%s org=%s", a->instance_id.text, a->org_id.text);
		engine_report(engine, &a->org_id, &a->instance_id, "unloaded", NULL);
		break;
	default:
		break;
	}
}

static void done_place(struct engine *engine, void *data, bool ok, const struct err *e)
{
	struct step *s = data;
	int64_t now_ms = clock_now_ms();

	if (!ok) {
		s->place_result = PLACE_FAIL;
		log_step_failed(s, "placement not written", e);
	} else if (s->place_result == PLACE_OK || s->place_result == PLACE_SHORT) {
		tell(engine, s);
	}
	bool hands_nothing_over = s->action.kind == PA_DRAINING && !id_is_set(&s->next_op);
	if (ok && id_is_set(&s->next_op))
		publish_event(engine, s, true);
	struct id instance_id = s->action.instance_id;
	pool_recorded(engine->pool, s->app, pool_done_of(s->place_result), now_ms);
	if (hands_nothing_over)
		pool_handed_over(engine->pool, &instance_id, now_ms);
	step_free(s);
}

/* --- ceilings --- */

static bool work_ceiling(struct db *db, void *data, struct err *e)
{
	struct step *s = data;

	return lease_has_room_elsewhere(db, s->who.worker_id, s->action.tier, &s->elsewhere, e);
}

static void done_ceiling(struct engine *engine, void *data, bool ok, const struct err *e)
{
	struct step *s = data;

	if (!ok)
		log_step_failed(s, "other workers' room not read", e);
	pool_ceiling_answer(engine->pool, s->app, !ok || s->elsewhere, clock_now_ms());
	step_free(s);
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
		bool is_reload = is_subscribed(b->app); /* beside the copy that serves */
		delta->loads += !is_reload;
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

static void build_start(struct engine *engine, struct pool_app *app, const char *mode, struct jval *config,
			const struct framework_impl *impl)
{
	const struct app_row *row = &slot_of(app)->claim.row;
	struct build *b = xcalloc(1, sizeof(*b));
	struct build_request request = {
		.instance_id = row->instance_id,
		.org_id = row->org_id,
		.mode = mode,
		.config = config,
		.fresh = row->fresh,
	};

	b->engine = engine;
	b->app = app;
	b->impl = impl;
	b->config = config;
	b->began_us = clock_now_us();
	uv_timer_init(&engine->loop, &b->timeout);
	b->timeout.data = b;
	DL_APPEND(engine->builds, b);
	b->handle = impl->build(&engine->loop, &request, build_finished, b);
	if (!b->is_done)
		uv_timer_start(&b->timeout, build_timed_out, (uint64_t)engine->settings->worker.build_timeout_s * 1000,
			       0);
}

static void perform_build(struct engine *engine, const struct pool_action *a)
{
	const struct app_row *row = &slot_of(a->app)->claim.row;
	const char *mode = a->fallback ? row->good_mode : row->mode;
	const char *text = a->fallback ? row->good_config : row->config;
	const struct framework_impl *impl = row->framework_type != NULL ? framework_impl(row->framework_type) : NULL;
	struct json_limits limits = {.bytes_max = CLAIM_MEMORY_MAX, .depth_max = CONFIG_DEPTH_MAX};
	struct jval *config = NULL;
	struct err e = {0};

	if (impl == NULL) {
		pool_built(engine->pool, a->app, NULL, "framework_unknown", clock_now_ms());
	} else if (text == NULL || !jval_parse(text, strlen(text), &limits, &config, &e)) {
		log_error("stored configuration cannot be read", "instance=%s error=%s", a->instance_id.text, e.text);
		pool_built(engine->pool, a->app, NULL, "config_unreadable", clock_now_ms());
	} else {
		build_start(engine, a->app, mode, config, impl);
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

/* Subscribing is asynchronous; the flush, which waits for the server, runs on the thread pool. */
static bool work_flush(struct db *db, void *data, struct err *e)
{
	struct step *s = data;

	(void)db;
	return bus_flush(s->engine->bus, FLUSH_TIMEOUT_MS, e);
}

static void done_flush(struct engine *engine, void *data, bool ok, const struct err *e)
{
	struct step *s = data;

	if (!ok)
		log_step_failed(s, "chat subject not subscribed", e);
	pool_subscribed(engine->pool, s->app, ok, clock_now_ms());
	step_free(s);
}

static void perform_subscribe(struct engine *engine, const struct pool_action *a)
{
	struct app_slot *slot = slot_of(a->app);
	struct step *s = step_new(engine, a);
	char subject[CHAT_SUBJECT_SIZE];
	struct err e = {0};

	chat_subject(&a->instance_id, subject);
	/* Tried again after a failed flush: the subscription stands. */
	if (slot->sub == NULL &&
	    !bus_subscribe(engine->bus, subject, "workers", CHAT_PENDING_MAX, on_chat, engine, &slot->sub, &e))
		done_flush(engine, s, false, &e);
	else
		engine_job_without_db(engine, work_flush, done_flush, s);
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

static void perform_removed(void *data)
{
	struct app_slot *slot = data;

	slot_forget_claim(slot);
	free(slot);
}

void lifecycle_perform(struct engine *engine, const struct pool_action *a)
{
	switch (a->kind) {
	case PA_READ:
		engine_job(engine, work_read, done_read, step_new(engine, a));
		break;
	case PA_CLAIM:
		engine_job(engine, work_claim, done_claim, step_new(engine, a));
		break;
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
		engine_job(engine, work_place, done_place, step_new(engine, a));
		break;
	case PA_READY:
	case PA_DRAINING:
	case PA_GONE:
		engine_job(engine, work_place, done_place, step_new(engine, a));
		break;
	case PA_UNSUBSCRIBE:
		perform_unsubscribe(engine, a);
		break;
	case PA_CEILING:
		engine_job(engine, work_ceiling, done_ceiling, step_new(engine, a));
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
	case PA_REMOVED:
		perform_removed(a->slot);
		break;
	}
}

struct turn *lifecycle_turn(struct engine *engine, void *runtime, const struct chat_request *request,
			    const struct turn_sink *sink)
{
	struct built *built = runtime;

	return built->impl->turn(built->runtime, &engine->loop, request, sink);
}

void lifecycle_turn_cancel(void *runtime, struct turn *turn)
{
	struct built *built = runtime;

	built->impl->turn_cancel(turn);
}
