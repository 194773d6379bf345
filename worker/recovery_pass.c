/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass: reap dead incarnations and sweep on through the wanted hot Apps (both only after this worker renewed its
 * own lease without a gap for a lease, so that after a database outage nobody replaces the healthy), retry hot Apps
 * whose backoff is over, publish again what was not acted on, prune. Each step is bounded; what is left waits for the
 * next pass, or follows at once where a step says there is more. The session's wait_timeout is one lease: a frozen
 * leader loses its lock.
 */
#include "worker/recovery_pass.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/conversation.h"
#include "core/event.h"
#include "core/recovery.h"
#include "lib/buf.h"
#include "lib/bus.h"
#include "lib/clock.h"
#include "lib/cond.h"
#include "lib/log.h"
#include "lib/xalloc.h"
#include "worker/engine.h"
#include "worker/lease_keeper.h"

#define PUBLISH_TIMEOUT_MS 1000
#define PUBLISHING_MAX 64 /* events on their way to the stream at once */
#define ROUNDS_MAX 50     /* of one step in one pass */
#define PRUNE_EVERY_MS 60000

struct publishing {
	struct bus_call *call;
	struct id operation_id;
};

struct recovery_pass {
	struct engine *engine;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool is_stopping; /* under lock, as the next two */
	bool has_own_start;
	struct worker_identity own;
	/* the thread's own */
	struct db *db;
	struct id sweep_cursor;
	int64_t pruned_ms;
	bool is_leader, was_down;
	bool is_bus_stalled; /* no ack came in this pass: the rest is published again later */
	struct publishing publishing[PUBLISHING_MAX];
	unsigned publishing_count;
	unsigned recovered, republished;
};

/* What came of a publication; ours to end. */
static void published(struct recovery_pass *p, const struct id *operation_id, bool ok, const struct err *e)
{
	if (!ok)
		log_debug("event not published; it is published again", "operation=%s error=%s", operation_id->text,
			  e->text);
	p->is_bus_stalled |= !ok && e->code == ERR_UNCERTAIN;
}

/* Waits for all that are under way: after the first that was not acknowledged in time only looks. */
static void collect(struct recovery_pass *p)
{
	for (unsigned i = 0; i < p->publishing_count; i++) {
		struct err e = {0};
		bool ok = bus_stream_publish_end(&p->publishing[i].call, p->is_bus_stalled ? 0 : PUBLISH_TIMEOUT_MS,
						 NULL, &e);

		published(p, &p->publishing[i].operation_id, ok, &e);
	}
	p->publishing_count = 0;
}

static void publish(struct recovery_pass *p, const struct operation *op, bool use_loads, unsigned publish_count)
{
	struct event event;
	struct buf body;
	char subject[EVENT_SUBJECT_SIZE], msg_id[EVENT_MSG_ID_SIZE];
	struct publishing *slot = &p->publishing[p->publishing_count];
	struct err e = {0};
	bool ok;

	if (use_loads && p->is_bus_stalled)
		return;
	event_of_operation(op, &event);
	event_subject(use_loads ? EVENT_LOAD : EVENT_CHANGE, &op->org_id, &op->instance_id, subject);
	event_msg_id(&op->operation_id, publish_count, msg_id);
	buf_init(&body, EVENT_BYTES_MAX);
	event_encode(&event, &body);
	if (use_loads)
		ok = bus_stream_publish_start(p->engine->bus, subject, msg_id, body.data, body.len, &slot->call, &e);
	else
		ok = bus_publish(p->engine->bus, subject, NULL, body.data, body.len, &e);
	buf_clear(&body);
	if (!ok || !use_loads) {
		published(p, &op->operation_id, ok, &e);
		return;
	}
	slot->operation_id = op->operation_id;
	if (++p->publishing_count == PUBLISHING_MAX)
		collect(p);
}

static void on_recovered(void *closure, const struct recovered *r)
{
	struct recovery_pass *p = closure;

	p->recovered += r->ended > 0 || id_is_set(&r->op.operation_id);
	if (r->ended > 0)
		engine_report(p->engine, &r->org_id, &r->instance_id, "unloaded", NULL);
	if (id_is_set(&r->op.operation_id) && atomic_load(&p->engine->bus_is_up))
		publish(p, &r->op, true, 0);
}

static void on_republish(void *closure, const struct republish *r)
{
	struct recovery_pass *p = closure;

	if (r->ended > 0)
		engine_report(p->engine, &r->op.org_id, &r->op.instance_id, "unloaded", NULL);
	if (!op_is_open(r->op.state))
		return;
	p->republished++;
	publish(p, &r->op, r->use_loads, r->publish_count);
}

static bool is_ending(struct recovery_pass *p)
{
	pthread_mutex_lock(&p->lock);
	bool is_stopping = p->is_stopping;
	pthread_mutex_unlock(&p->lock);
	return is_stopping;
}

static bool reap(struct recovery_pass *p, const char *only_worker, const struct id *incarnation, struct err *e)
{
	bool has_more = true;

	for (int i = 0; i < ROUNDS_MAX && has_more && !is_ending(p); i++) {
		if (!recovery_reap(p->db, only_worker, incarnation, on_recovered, p, &has_more, e))
			return false;
	}
	return true;
}

/* Where many events wait, ours may be among them; where there is no consumer, nobody would hear it. */
static bool has_room(struct recovery_pass *p)
{
	struct bus_consumer_info info;
	struct err e = {0};

	collect(p);
	if (!atomic_load(&p->engine->bus_is_up) || p->is_bus_stalled || is_ending(p))
		return false;
	if (bus_consumer_info(p->engine->bus, EVENT_STREAM, EVENT_CONSUMER, PUBLISH_TIMEOUT_MS, &info, &e))
		return info.waiting < RECOVERY_PUBLISH_MAX;
	log_debug("nothing published again: the consumer is not known", "error=%s", e.text);
	return false;
}

static bool publish_again(struct recovery_pass *p, struct err *e)
{
	unsigned count;

	if (!has_room(p))
		return true;
	return recovery_republish(p->db, RECOVERY_PUBLISH_MAX, on_republish, p, &count, e);
}

static bool prune(struct recovery_pass *p, struct err *e)
{
	if (p->pruned_ms != 0 && clock_now_ms() - p->pruned_ms < PRUNE_EVERY_MS)
		return true;
	p->pruned_ms = clock_now_ms();
	return recovery_prune(p->db, (int)p->engine->settings->worker.history_hours, e) && conversation_prune(p->db, e);
}

static bool retry_hot(struct recovery_pass *p, struct err *e)
{
	bool has_more = true;

	for (int i = 0; i < ROUNDS_MAX && has_more && !is_ending(p); i++) {
		if (!recovery_retry(p->db, on_recovered, p, &has_more, e))
			return false;
	}
	return true;
}

static bool lead(struct recovery_pass *p, struct err *e)
{
	/* What only looks dead, only seems to lack copies. */
	if (lease_keeper_is_steady(p->engine->lease) &&
	    (!reap(p, NULL, NULL, e) || !recovery_sweep(p->db, &p->sweep_cursor, on_recovered, p, e)))
		return false;
	return retry_hot(p, e) && publish_again(p, e) && prune(p, e);
}

static bool connect_database(struct recovery_pass *p, struct err *e)
{
	struct db_options options;

	if (p->db != NULL)
		return db_ensure(p->db, e);
	settings_db_options(p->engine->settings, SETTINGS_WORKER, &options);
	options.wait_timeout_s = (unsigned)p->engine->settings->worker.lease_s;
	return db_open(&options, &p->db, e);
}

static bool own_start(struct recovery_pass *p, struct err *e)
{
	pthread_mutex_lock(&p->lock);
	bool has = p->has_own_start;
	struct worker_identity own = p->own;
	pthread_mutex_unlock(&p->lock);
	if (!has)
		return true;
	if (!reap(p, own.worker_id, &own.incarnation, e))
		return false;
	pthread_mutex_lock(&p->lock);
	if (id_equal(&own.incarnation, &p->own.incarnation))
		p->has_own_start = false;
	pthread_mutex_unlock(&p->lock);
	return true;
}

static bool pass_once(struct recovery_pass *p, struct err *e)
{
	if (!connect_database(p, e) || !own_start(p, e))
		return false;
	if (!lease_keeper_is_valid(p->engine->lease))
		return true;
	switch (db_lock(p->db, RECOVERY_LOCK, 0, e)) {
	case DB_ROW:
		break;
	case DB_DONE:
		p->is_leader = false;
		return true;
	case DB_FAIL:
		return false;
	}
	if (!p->is_leader)
		log_info("leading recovery", NULL);
	p->is_leader = true;
	bool ok = lead(p, e);
	db_unlock(p->db, RECOVERY_LOCK);
	return ok;
}

static void round_once(struct recovery_pass *p)
{
	struct err e = {0};
	p->is_bus_stalled = false;
	bool ok = pass_once(p, &e);

	collect(p);
	if (!ok && !p->was_down)
		log_warn("recovery pass failed; trying again", "error=%s", e.text);
	if (ok && p->recovered + p->republished > 0)
		log_info("recovery pass", "recovered=%u republished=%u", p->recovered, p->republished);
	p->recovered = p->republished = 0;
	p->was_down = !ok;
}

/* Until the next pass is due or something is up. False when it is time to stop. */
static bool wait_for_work(struct recovery_pass *p)
{
	const struct timespec until = cond_deadline(p->engine->settings->worker.recovery_s * 1000);

	pthread_mutex_lock(&p->lock);
	while (!p->is_stopping && !(p->has_own_start && !p->was_down)) {
		if (pthread_cond_timedwait(&p->wake, &p->lock, &until) != 0)
			break;
	}
	bool is_stopping = p->is_stopping;
	pthread_mutex_unlock(&p->lock);
	return !is_stopping;
}

static void *run(void *closure)
{
	struct recovery_pass *p = closure;

	while (wait_for_work(p))
		round_once(p);
	db_close(&p->db);
	return NULL;
}

void recovery_pass_own_start(struct recovery_pass *p, const struct worker_identity *who)
{
	pthread_mutex_lock(&p->lock);
	p->own = *who;
	p->has_own_start = true;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

struct recovery_pass *recovery_pass_start(struct engine *engine)
{
	struct recovery_pass *p = xcalloc(1, sizeof(*p));

	p->engine = engine;
	pthread_mutex_init(&p->lock, NULL);
	cond_init(&p->wake);
	if (pthread_create(&p->thread, NULL, run, p) != 0)
		abort();
	return p;
}

void recovery_pass_end(struct recovery_pass *p)
{
	pthread_mutex_lock(&p->lock);
	p->is_stopping = true;
	pthread_cond_signal(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

void recovery_pass_stop(struct recovery_pass **pass)
{
	struct recovery_pass *p = *pass;

	if (p == NULL)
		return;
	recovery_pass_end(p);
	pthread_join(p->thread, NULL);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
	*pass = NULL;
}
