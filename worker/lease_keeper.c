/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease thread: take the name, register, then renew three times a lease. A renewal counts from the
 * moment before its query was sent. Where the row is gone the worker was declared dead: a new incarnation is
 * registered at once and told to the loop, which lets the old one's copies go; until it has, the new lease is not valid
 * here, or a turn could begin on one of them.
 */
#include "worker/lease_keeper.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/lease.h"
#include "lib/clock.h"
#include "lib/cond.h"
#include "lib/log.h"
#include "lib/xalloc.h"
#include "worker/engine.h"
#include "worker/inbox.h"

#define AGAIN_MS 500          /* what could not be done now */
#define REFUSED_GRACE_MS 2000 /* beside a lease, after which a name that is in use is given up */

struct lease_keeper {
	struct engine *engine;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool is_stopping, is_orderly; /* under lock */
	atomic_bool wants_leave;
	_Atomic int64_t valid_until_ms;     /* 0: not registered */
	_Atomic int64_t steady_since_ms;    /* 0: not */
	atomic_uint registered, taken_over; /* incarnations: made, and known to the loop */
	/* the thread's own */
	struct db *db;
	struct worker_identity who;
	uint64_t ticks_seen;
	int64_t refused_since_ms; /* 0: not */
	bool has_name, is_registered, has_left, was_down, is_withheld;
};

static int64_t lease_ms(const struct lease_keeper *k)
{
	return k->engine->settings->worker.lease_s * 1000;
}

bool lease_keeper_is_valid(const struct lease_keeper *k)
{
	return clock_now_ms() < atomic_load(&k->valid_until_ms) &&
	       atomic_load(&k->registered) == atomic_load(&k->taken_over);
}

bool lease_keeper_is_steady(const struct lease_keeper *k)
{
	int64_t since_ms = atomic_load(&k->steady_since_ms);

	return since_ms != 0 && clock_now_ms() - since_ms >= lease_ms(k) && lease_keeper_is_valid(k);
}

static void renewed(struct lease_keeper *k, int64_t sent_ms)
{
	/* A gap: the lease had run out before this renewal. */
	if (atomic_load(&k->steady_since_ms) == 0 || atomic_load(&k->valid_until_ms) <= sent_ms)
		atomic_store(&k->steady_since_ms, sent_ms);
	atomic_store(&k->valid_until_ms, sent_ms + lease_ms(k));
}

/* The session is the name's: its wait_timeout gives the name back where this host is gone without a word. */
static bool connect_database(struct lease_keeper *k, struct err *e)
{
	struct db_options options;

	if (k->db != NULL)
		return true; /* every statement looks after the connection, and tells when the name went with it */
	settings_db_options(k->engine->settings, SETTINGS_WORKER, &options);
	options.wait_timeout_s = (unsigned)k->engine->settings->worker.lease_s;
	return db_open(&options, &k->db, e);
}

static bool take_name(struct lease_keeper *k, struct err *e)
{
	if (k->has_name)
		return true;
	switch (lease_take_name(k->db, k->who.worker_id, e)) {
	case DB_ROW:
		k->has_name = true;
		return true;
	case DB_DONE:
		return err_set(e, ERR_CONFLICT, "another process runs under the name %s", k->who.worker_id);
	case DB_FAIL:
		break;
	}
	return false;
}

static bool register_anew(struct lease_keeper *k, struct err *e)
{
	const struct settings *s = k->engine->settings;
	struct worker_registration r = {
		.who = k->who,
		.host = k->engine->host,
		.machine_id = k->engine->machine_id,
		.hot_ceiling = (uint32_t)s->worker.hot_ceiling,
		.demand_ceiling = (uint32_t)s->worker.demand_ceiling,
		.lease_s = (int)s->worker.lease_s,
	};
	uint64_t last_flush;
	int64_t sent_ms = clock_now_ms();

	r.who.incarnation = id_new();
	if (!lease_register(k->db, &r, &last_flush, e))
		return false;
	k->who = r.who;
	k->is_registered = true;
	k->has_left = false;
	atomic_store(&k->steady_since_ms, 0);
	atomic_fetch_add(&k->registered, 1);
	renewed(k, sent_ms);
	log_info("registered", "worker=%s incarnation=%s", k->who.worker_id, k->who.incarnation.text);
	inbox_put(k->engine->inbox, &(struct inbox_item){.kind = INBOX_LEASE, .identity = k->who});
	return true;
}

/* The loop goes round, and the bus is there or has not been away for a lease. */
static bool is_healthy(struct lease_keeper *k)
{
	uint64_t ticks = atomic_load(&k->engine->ticks);
	int64_t down_ms = atomic_load(&k->engine->bus_down_since_ms);
	bool is_ticking = ticks != k->ticks_seen;

	k->ticks_seen = ticks;
	return is_ticking && (down_ms == 0 || clock_now_ms() - down_ms < lease_ms(k));
}

static bool renew(struct lease_keeper *k, struct err *e)
{
	int64_t sent_ms = clock_now_ms();

	if (atomic_load(&k->wants_leave) && !k->has_left) {
		if (lease_leave(k->db, &k->who, e) == LEASE_FAIL)
			return false;
		k->has_left = true; /* or dead, as the renewal is told */
	}
	k->is_withheld = !is_healthy(k);
	if (k->is_withheld)
		return true; /* on purpose: whoever hangs lets go */
	switch (lease_renew(k->db, &k->who, (int)k->engine->settings->worker.lease_s, e)) {
	case LEASE_HELD:
		renewed(k, sent_ms);
		return true;
	case LEASE_LOST:
		log_warn("declared dead; registering anew", "worker=%s incarnation=%s", k->who.worker_id,
			 k->who.incarnation.text);
		k->is_registered = false;
		return register_anew(k, e);
	case LEASE_FAIL:
		break;
	}
	return false;
}

/* The one before may be ending, or be dead and its host with it: a lease later both are over. */
static void note_refusal(struct lease_keeper *k, bool is_refused)
{
	int64_t now_ms = clock_now_ms();

	if (!is_refused)
		k->refused_since_ms = 0;
	else if (k->refused_since_ms == 0)
		k->refused_since_ms = now_ms;
	else if (now_ms - k->refused_since_ms > lease_ms(k) + REFUSED_GRACE_MS)
		inbox_put(k->engine->inbox, &(struct inbox_item){.kind = INBOX_LEASE_REFUSED});
}

static void round_once(struct lease_keeper *k)
{
	struct err e = {0};
	bool is_ok =
		connect_database(k, &e) && take_name(k, &e) && (k->is_registered ? renew(k, &e) : register_anew(k, &e));

	if (is_ok && k->was_down)
		log_info("the lease is renewed again", "worker=%s", k->who.worker_id);
	if (!is_ok && !k->was_down)
		log_warn("lease not renewed; trying again", "worker=%s error=%s", k->who.worker_id, e.text);
	k->was_down = !is_ok;
	k->has_name &= is_ok; /* the session may be another one by now */
	note_refusal(k, !is_ok && e.code == ERR_CONFLICT);
}

/* False when it is time to stop. */
static bool wait_ms(struct lease_keeper *k, int64_t ms)
{
	const struct timespec until = cond_deadline(ms);

	pthread_mutex_lock(&k->lock);
	while (!k->is_stopping && pthread_cond_timedwait(&k->wake, &k->lock, &until) == 0)
		;
	bool is_stopping = k->is_stopping;
	pthread_mutex_unlock(&k->lock);
	return !is_stopping;
}

static int64_t pause_ms(const struct lease_keeper *k)
{
	bool wants_more = atomic_load(&k->wants_leave) && !k->has_left;
	bool is_again = !k->is_registered || k->was_down || k->is_withheld || wants_more;

	return is_again ? AGAIN_MS : lease_ms(k) / 3;
}

static void *run(void *closure)
{
	struct lease_keeper *k = closure;
	struct err e = {0};

	do {
		round_once(k);
	} while (wait_ms(k, pause_ms(k)));
	if (k->is_orderly && k->is_registered && k->db != NULL && !lease_remove(k->db, &k->who, &e))
		log_warn("lease not given back; it runs out by itself", "worker=%s error=%s", k->who.worker_id, e.text);
	db_close(&k->db);
	return NULL;
}

struct lease_keeper *lease_keeper_start(struct engine *engine)
{
	struct lease_keeper *k = xcalloc(1, sizeof(*k));

	k->engine = engine;
	k->who = engine->who;
	pthread_mutex_init(&k->lock, NULL);
	cond_init(&k->wake);
	if (pthread_create(&k->thread, NULL, run, k) != 0)
		abort();
	return k;
}

void lease_keeper_taken_over(struct lease_keeper *k)
{
	atomic_fetch_add(&k->taken_over, 1);
}

void lease_keeper_leave(struct lease_keeper *k)
{
	atomic_store(&k->wants_leave, true);
}

void lease_keeper_stop(struct lease_keeper **keeper, bool is_orderly)
{
	struct lease_keeper *k = *keeper;

	if (k == NULL)
		return;
	pthread_mutex_lock(&k->lock);
	k->is_stopping = true;
	k->is_orderly = is_orderly;
	pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->lock);
	pthread_join(k->thread, NULL);
	pthread_cond_destroy(&k->wake);
	pthread_mutex_destroy(&k->lock);
	free(k);
	*keeper = NULL;
}
