/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool of db.h: a fixed number of connections, opened when they are first
 * needed, lent last in, first out, so that few of them serve a quiet hour
 * while the others stay closed or grow old unused.
 *
 * Opening and pinging happen outside the mutex, on the borrower's thread, with
 * a connection that already counts as lent. When that fails the server is known
 * to be down: for DOWN_MS everybody is refused at once, and after that one
 * borrower at a time tries while the others go on being refused. A further
 * connection that cannot be had while others are open (the server's limit of
 * connections) is its borrower's trouble alone.
 */
#include "lib/db.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/cond.h"
#include "lib/xalloc.h"

#define DOWN_MS 1000

struct slot {
	struct db *db;
	struct slot *next; /* in the stack of free ones */
	bool is_open;
	bool is_lent;
	unsigned share_max; /* as lent */
};

struct db_pool {
	pthread_mutex_t mutex;
	pthread_cond_t changed; /* a slot became free, or the server turned out to be down */
	struct slot *slots;
	unsigned size;
	struct slot *free;
	unsigned lent;
	unsigned share_waiters; /* those that wait with a limit of their own */
	uint64_t waits;
	bool is_down, is_probing;
	int64_t retry_ms; /* is_down: no attempt before */
	struct err down;  /* is_down: what the last attempt said */
};

struct db_pool *db_pool_new(const struct db_options *options, unsigned size)
{
	struct db_pool *pool = xcalloc(1, sizeof(*pool));

	pool->slots = xcalloc(size, sizeof(*pool->slots));
	pool->size = size;
	for (unsigned i = 0; i < size; i++) {
		pool->slots[i].db = db_new(options);
		pool->slots[i].next = pool->free;
		pool->free = &pool->slots[i];
	}
	(void)pthread_mutex_init(&pool->mutex, NULL);
	cond_init(&pool->changed);
	return pool;
}

void db_pool_free(struct db_pool **pool)
{
	struct db_pool *p = *pool;

	*pool = NULL;
	if (!p)
		return;
	assert(p->lent == 0);
	for (unsigned i = 0; i < p->size; i++)
		db_close(&p->slots[i].db);
	free(p->slots);
	(void)pthread_cond_destroy(&p->changed);
	(void)pthread_mutex_destroy(&p->mutex);
	free(p);
}

static bool is_refusing(const struct db_pool *pool)
{
	return pool->is_down && (pool->is_probing || clock_now_ms() < pool->retry_ms);
}

static bool can_lend(const struct db_pool *pool, unsigned share_max)
{
	unsigned held = 0;

	if (!pool->free)
		return false;
	for (unsigned i = 0; i < pool->size && share_max > 0; i++)
		held += pool->slots[i].is_lent && pool->slots[i].share_max == share_max;
	return share_max == 0 || held < share_max;
}

/* With the mutex held. */
static void wait_for_slot(struct db_pool *pool, unsigned share_max, int timeout_ms)
{
	struct timespec deadline = cond_deadline(timeout_ms);
	int rc = 0;

	if (timeout_ms <= 0 || is_refusing(pool) || can_lend(pool, share_max))
		return;
	pool->waits++;
	pool->share_waiters += share_max > 0;
	while (rc != ETIMEDOUT && !is_refusing(pool) && !can_lend(pool, share_max))
		rc = pthread_cond_timedwait(&pool->changed, &pool->mutex, &deadline);
	pool->share_waiters -= share_max > 0;
}

/* With the mutex held. Whoever has a limit may be unable to use what another could: then all are woken. */
static void announce(struct db_pool *pool)
{
	if (pool->share_waiters > 0 || pool->is_down)
		(void)pthread_cond_broadcast(&pool->changed);
	else
		(void)pthread_cond_signal(&pool->changed);
}

static void slot_lend(struct db_pool *pool, struct slot *slot, unsigned share_max)
{
	pool->free = slot->next;
	slot->is_lent = true;
	slot->share_max = share_max;
	pool->lent++;
}

static void slot_return(struct db_pool *pool, struct slot *slot, bool is_open)
{
	struct slot **place = &pool->free;

	while (!is_open && *place)
		place = &(*place)->next;
	slot->next = *place;
	*place = slot;
	slot->is_open = is_open;
	slot->is_lent = false;
	pool->lent--;
	announce(pool);
}

static struct slot *slot_reserve(struct db_pool *pool, unsigned share_max, int timeout_ms, bool *ret_is_probe,
				 struct err *e)
{
	struct slot *slot = NULL;

	(void)pthread_mutex_lock(&pool->mutex);
	wait_for_slot(pool, share_max, timeout_ms);
	if (is_refusing(pool)) {
		err_set(e, pool->down.code, "%s", pool->down.text);
	} else if (!can_lend(pool, share_max)) {
		err_set(e, ERR_BUSY, "no MariaDB connection became free within %d ms", timeout_ms);
	} else {
		slot = pool->free;
		slot_lend(pool, slot, share_max);
		*ret_is_probe = pool->is_down;
		pool->is_probing |= pool->is_down;
	}
	(void)pthread_mutex_unlock(&pool->mutex);
	return slot;
}

static unsigned open_count(const struct db_pool *pool)
{
	unsigned count = 0;

	for (unsigned i = 0; i < pool->size; i++)
		count += pool->slots[i].is_open;
	return count;
}

/* What came of opening the slot's connection. */
static void slot_settle(struct db_pool *pool, struct slot *slot, bool is_open, bool is_probe, const struct err *reason)
{
	(void)pthread_mutex_lock(&pool->mutex);
	if (is_probe)
		pool->is_probing = false;
	if (is_open) {
		slot->is_open = true;
		pool->is_down = false;
	} else {
		pool->is_down = pool->is_down || slot->is_open || open_count(pool) == 0;
		pool->down = *reason;
		pool->retry_ms = clock_now_ms() + DOWN_MS;
		slot_return(pool, slot, false);
	}
	(void)pthread_mutex_unlock(&pool->mutex);
}

bool db_take(struct db_pool *pool, unsigned share_max, int timeout_ms, struct db **ret_db, struct err *e)
{
	struct err reason = {0};
	bool is_probe = false;
	struct slot *slot = slot_reserve(pool, share_max, timeout_ms, &is_probe, e);
	bool is_open;

	if (!slot)
		return false;
	is_open = db_ensure(slot->db, &reason);
	slot_settle(pool, slot, is_open, is_probe, &reason);
	if (!is_open)
		return err_set(e, reason.code, "%s", reason.text);
	*ret_db = slot->db;
	return true;
}

static struct slot *slot_of(struct db_pool *pool, const struct db *db)
{
	for (unsigned i = 0; i < pool->size; i++)
		if (pool->slots[i].db == db)
			return &pool->slots[i];
	return NULL;
}

void db_give(struct db_pool *pool, struct db **db)
{
	struct slot *slot;
	bool is_open;

	if (!*db)
		return;
	slot = slot_of(pool, *db);
	assert(slot && slot->is_lent);
	is_open = db_settle(*db);
	*db = NULL;
	(void)pthread_mutex_lock(&pool->mutex);
	slot_return(pool, slot, is_open);
	(void)pthread_mutex_unlock(&pool->mutex);
}

struct db_pool_stats db_pool_stats(struct db_pool *pool)
{
	struct db_pool_stats stats = {.size = pool->size};

	(void)pthread_mutex_lock(&pool->mutex);
	stats.open = open_count(pool);
	stats.lent = pool->lent;
	stats.waits = pool->waits;
	stats.is_down = pool->is_down;
	(void)pthread_mutex_unlock(&pool->mutex);
	return stats;
}
