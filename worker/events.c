/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pull loop. One request at a time is open at the consumer, for as many events as there are slots free; it ends
 * when they have come, when the server says so, by its expiry, or when nothing is heard of it any more: a request that
 * falls between two leaders of a cluster is known to nobody. A pulled event is held until the pool has done with it,
 * and kept from redelivery every PROGRESS_MS. An event that cannot be read is logged and ended.
 */
#include "worker/events.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "core/event.h"
#include "lib/bus.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/xalloc.h"
#include "worker/engine.h"
#include "worker/inbox.h"
#include "worker/lease_keeper.h"
#include "worker/pool/pool.h"

#define PULL_EXPIRES_MS 15000 /* a request of a lost connection stays open so long beside its successor */
#define PULL_BATCH_MAX 256
#define PULL_PAUSE_MS 200 /* after a status, so that nothing spins */
#define PULL_SILENCE_MS (5 * BUS_PULL_HEARTBEAT_MS / 2)
#define NAK_DELAY_MS 200
#define ACK_WAIT_S 30
#define PROGRESS_MS 10000
#define MAX_ACK_PENDING 20000
#define STREAM_MAX_AGE_S 3600
#define DUPLICATE_WINDOW_S 120
#define MANAGE_TIMEOUT_MS 3000
/* A cluster answers nothing, or that it is not there, while it elects; of several workers that make the stream at once
 * it may answer only one. More tries than this in a row without an answer are worth a warning. */
#define SILENT_TRIES_MAX 2
#define INFO_EVERY_MS 5000
#define ENSURE_EVERY_MS 30000 /* a store wiped under a running server shows only when the consumer is made again */
#define CHANGES_PENDING_MAX 65536

struct held {
	struct bus_msg *msg;
	struct held *prev, *next;
};

struct events {
	struct bus_sub *changes, *pulls, *reports;
	/* Each request has a subject of its own, of which the last word is its number: the end of one that a lost
	 * connection left behind says nothing of its successor. */
	char pulls_subject[128];
	char pull_subject[sizeof("12345678901234567890") + 128];
	uint64_t pull_number;
	struct held *held;
	int pulls_open; /* events that the open request may still bring */
	int64_t pull_ends_ms, heard_ms, pause_until_ms, progress_ms, info_ms, ensure_ms;
	int silent_tries; /* to make stream and consumer, in a row, that nobody answered */
	bool has_stream;  /* stream and consumer were there when last looked */
	bool is_ensuring, is_asking_info;
	uint64_t waiting, redelivered;
};

static void put(struct engine *engine, enum inbox_kind kind, struct bus_msg *m)
{
	inbox_put(engine->inbox, &(struct inbox_item){.kind = kind, .msg = m});
}

static void on_pulled(void *closure, struct bus_msg *m)
{
	put(closure, INBOX_PULLED, m);
}

static void on_change(void *closure, struct bus_msg *m)
{
	put(closure, INBOX_CHANGE, m);
}

static void on_report(void *closure, struct bus_msg *m)
{
	put(closure, INBOX_REPORT, m);
}

struct events *events_new(struct engine *engine)
{
	struct events *events = xcalloc(1, sizeof(*events));
	struct err e = {0};

	bus_inbox_subject(engine->bus, "pull.*", events->pulls_subject, sizeof(events->pulls_subject));
	if (!bus_subscribe(engine->bus, events->pulls_subject, NULL, 0, on_pulled, engine, &events->pulls, &e) ||
	    !bus_subscribe(engine->bus, EVENT_CHANGES_ALL, NULL, CHANGES_PENDING_MAX, on_change, engine,
			   &events->changes, &e))
		log_error("subscription failed", "error=%s", e.text);
	return events;
}

void events_free(struct events **events)
{
	struct held *held, *next;

	if (*events == NULL)
		return;
	DL_FOREACH_SAFE ((*events)->held, held, next) {
		bus_msg_free(&held->msg);
		free(held);
	}
	free(*events);
	*events = NULL;
}

/* --- stream and consumer --- */

struct ensure {
	struct engine *engine;
};

static bool work_ensure(struct db *db, void *data, struct err *e)
{
	const struct engine *engine = ((struct ensure *)data)->engine;
	struct bus_stream_config stream = {
		.name = EVENT_STREAM,
		.subjects = EVENT_LOADS_ALL,
		.max_age_s = STREAM_MAX_AGE_S,
		.duplicate_window_s = DUPLICATE_WINDOW_S,
		.replicas = (int)engine->settings->nats.stream_replicas,
		.max_bytes = engine->settings->nats.stream_max_bytes,
	};
	struct bus_consumer_config consumer = {
		.stream = EVENT_STREAM,
		.durable = EVENT_CONSUMER,
		.ack_wait_s = ACK_WAIT_S,
		.max_ack_pending = MAX_ACK_PENDING,
	};

	(void)db;
	return bus_stream_ensure(engine->bus, &stream, MANAGE_TIMEOUT_MS, e) &&
	       bus_consumer_ensure(engine->bus, &consumer, MANAGE_TIMEOUT_MS, e);
}

static void done_ensure(struct engine *engine, void *data, bool ok, const struct err *e)
{
	struct events *events = engine->events;

	free(data);
	events->is_ensuring = false;
	events->has_stream = ok;
	events->pause_until_ms = ok ? 0 : clock_now_ms() + 1000;
	if (ok) {
		events->silent_tries = 0;
		return;
	}
	if ((e->code == ERR_TIMEOUT || e->code == ERR_DOWN) && events->silent_tries++ < SILENT_TRIES_MAX)
		log_debug("stream or consumer not made yet; trying again", "stream=%s error=%s", EVENT_STREAM, e->text);
	else
		log_warn("stream or consumer not made; trying again", "stream=%s error=%s", EVENT_STREAM, e->text);
}

static void ensure(struct engine *engine)
{
	struct ensure *data = xcalloc(1, sizeof(*data));

	engine->events->is_ensuring = true;
	engine->events->ensure_ms = clock_now_ms() + ENSURE_EVERY_MS;
	data->engine = engine;
	engine_job_without_db(engine, work_ensure, done_ensure, data);
}

void events_bus_up(struct engine *engine)
{
	engine->events->has_stream = false;
	engine->events->pulls_open = 0;
	engine->events->pause_until_ms = 0;
}

/* --- asking --- */

static bool is_pull_open(const struct events *events, int64_t now_ms)
{
	return events->pulls_open > 0 && now_ms < events->pull_ends_ms && now_ms - events->heard_ms < PULL_SILENCE_MS;
}

void events_ask(struct engine *engine)
{
	struct events *events = engine->events;
	int64_t now_ms = clock_now_ms();
	int batch = (int)pool_counts(engine->pool).slots_free;
	struct err e = {0};

	if (!atomic_load(&engine->bus_is_up) || !engine->is_registered || engine->is_stopping ||
	    !lease_keeper_is_valid(engine->lease) || now_ms < events->pause_until_ms)
		return;
	if (!events->has_stream) {
		if (!events->is_ensuring)
			ensure(engine);
		return;
	}
	if (batch == 0 || is_pull_open(events, now_ms))
		return;
	if (batch > PULL_BATCH_MAX)
		batch = PULL_BATCH_MAX;
	(void)snprintf(events->pull_subject, sizeof(events->pull_subject), "%.*s%" PRIu64,
		       (int)strlen(events->pulls_subject) - 1, events->pulls_subject, ++events->pull_number);
	if (!bus_pull(engine->bus, EVENT_STREAM, EVENT_CONSUMER, events->pull_subject, batch, PULL_EXPIRES_MS, &e)) {
		events->pause_until_ms = now_ms + PULL_PAUSE_MS;
		return;
	}
	events->pulls_open = batch;
	events->heard_ms = now_ms;
	events->pull_ends_ms = now_ms + PULL_EXPIRES_MS + 1000;
}

static void pull_status(struct engine *engine, int status)
{
	struct events *events = engine->events;

	events->heard_ms = clock_now_ms();
	if (status == 100)
		return; /* a heartbeat */
	events->pulls_open = 0;
	events->pause_until_ms = clock_now_ms() + (status == 408 || status == 404 ? 0 : PULL_PAUSE_MS);
	/* 503: nobody answers for the consumer; 409: it was deleted, or the leader changed. */
	if (status == 503 || status == 409)
		events->has_stream = false;
}

void events_pulled(struct engine *engine, struct bus_msg **msg)
{
	struct events *events = engine->events;
	struct event event;
	struct err e = {0};
	size_t len;
	const char *data = bus_msg_data(*msg, &len);

	if (bus_msg_status(*msg) != 0) {
		if (strcmp(bus_msg_subject(*msg), events->pull_subject) == 0)
			pull_status(engine, bus_msg_status(*msg));
		return;
	}
	events->heard_ms = clock_now_ms();
	if (events->pulls_open > 0)
		events->pulls_open--;
	if (!event_parse(bus_msg_subject(*msg), data, len, &event, &e) || !id_is_set(&event.instance_id) ||
	    !id_is_set(&event.org_id)) {
		log_warn("broken event ended", "subject=%s error=%s", bus_msg_subject(*msg), e.text);
		if (!bus_term(engine->bus, *msg, &e))
			log_debug("broken event not ended; it comes again", "error=%s", e.text);
		return;
	}
	if (!lease_keeper_is_valid(engine->lease)) { /* it could not be claimed: for another worker */
		if (!bus_nak(engine->bus, *msg, NAK_DELAY_MS, &e))
			log_debug("event not given back; it comes again by itself", "error=%s", e.text);
		return;
	}
	struct held *held = xcalloc(1, sizeof(*held));
	held->msg = *msg;
	*msg = NULL;
	DL_APPEND(events->held, held);
	log_debug("event", "instance=%s action=%s request=%s", event.instance_id.text, action_name(event.action),
		  event.request_id);
	pool_load_event(engine->pool, &event.instance_id, &event.org_id, event.tier, event.source == SOURCE_DEMAND,
			held, clock_now_ms());
}

void events_change(struct engine *engine, const struct bus_msg *msg)
{
	struct event event;
	struct err e = {0};
	size_t len;
	const char *data = bus_msg_data(msg, &len);

	if (!event_parse(bus_msg_subject(msg), data, len, &event, &e)) {
		log_warn("broken change ignored", "subject=%s error=%s", bus_msg_subject(msg), e.text);
	} else if (id_is_set(&event.instance_id)) {
		pool_look(engine->pool, &event.instance_id, clock_now_ms());
	} else {
		pool_look_org(engine->pool, &event.org_id, clock_now_ms());
	}
}

/* --- handing over --- */

void events_hear_reports(struct engine *engine)
{
	struct err e = {0};

	if (!bus_subscribe(engine->bus, EVENT_EVENTS_ALL, NULL, CHANGES_PENDING_MAX, on_report, engine,
			   &engine->events->reports, &e))
		log_warn("reports not heard; the deadline ends the hand-over", "error=%s", e.text);
}

void events_report(struct engine *engine, const struct bus_msg *msg)
{
	struct event event;
	struct err e = {0};
	size_t len;
	const char *data = bus_msg_data(msg, &len);

	if (event_parse(bus_msg_subject(msg), data, len, &event, &e) && strcmp(event.state, "ready") == 0)
		pool_handed_over(engine->pool, &event.instance_id, clock_now_ms());
}

/* --- held events --- */

static void held_free(struct events *events, struct held *held)
{
	DL_DELETE(events->held, held);
	bus_msg_free(&held->msg);
	free(held);
}

void events_done(struct engine *engine, void *event)
{
	struct held *held = event;
	struct err e = {0};

	if (!bus_ack(engine->bus, held->msg, &e))
		log_debug("event not acked; it comes again and finds nothing to do", "error=%s", e.text);
	held_free(engine->events, held);
}

void events_back(struct engine *engine, void *event, int64_t delay_ms)
{
	struct held *held = event;
	struct err e = {0};

	if (!bus_nak(engine->bus, held->msg, delay_ms, &e))
		log_debug("event not given back; it comes again by itself", "error=%s", e.text);
	held_free(engine->events, held);
}

/* --- every second --- */

struct backlog {
	struct engine *engine;
	struct bus_consumer_info info;
};

static bool work_backlog(struct db *db, void *data, struct err *e)
{
	struct backlog *b = data;

	(void)db;
	return bus_consumer_info(b->engine->bus, EVENT_STREAM, EVENT_CONSUMER, MANAGE_TIMEOUT_MS, &b->info, e);
}

static void done_backlog(struct engine *engine, void *data, bool ok, const struct err *e)
{
	struct events *events = engine->events;
	struct backlog *b = data;

	(void)e;
	events->is_asking_info = false;
	if (ok) {
		events->waiting = b->info.waiting;
		events->redelivered = b->info.redelivered;
	} else {
		events->has_stream = false; /* wiped, perhaps: look, and make it again */
	}
	free(b);
}

static void look_at_backlog(struct engine *engine, int64_t now_ms)
{
	struct events *events = engine->events;

	if (events->is_asking_info || !events->has_stream || now_ms < events->info_ms ||
	    !atomic_load(&engine->bus_is_up))
		return;
	struct backlog *b = xcalloc(1, sizeof(*b));
	b->engine = engine;
	events->is_asking_info = true;
	events->info_ms = now_ms + INFO_EVERY_MS;
	engine_job_without_db(engine, work_backlog, done_backlog, b);
}

void events_second(struct engine *engine)
{
	struct events *events = engine->events;
	int64_t now_ms = clock_now_ms();
	struct held *held;
	struct err e = {0};

	look_at_backlog(engine, now_ms);
	if (now_ms >= events->ensure_ms && events->has_stream && !events->is_ensuring &&
	    atomic_load(&engine->bus_is_up))
		ensure(engine);
	if (now_ms < events->progress_ms)
		return;
	events->progress_ms = now_ms + PROGRESS_MS;
	DL_FOREACH (events->held, held) {
		if (!bus_in_progress(engine->bus, held->msg, &e))
			break; /* the bus is away; the event comes again */
	}
}

void events_waiting(const struct engine *engine, uint64_t *ret_waiting, uint64_t *ret_redelivered)
{
	*ret_waiting = engine->events->waiting;
	*ret_redelivered = engine->events->redelivered;
}
