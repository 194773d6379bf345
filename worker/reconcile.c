/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A round in two halves. First every App that the pool has, PLACE_BATCH at a time: its row, and whether its placement
 * is written, are read and compared. Then every placement of this incarnation: one that the pool knows nothing of is
 * given to it, to be ended.
 */
#include "worker/reconcile.h"

#include <stdlib.h>
#include <string.h>

#include "core/placement.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/xalloc.h"
#include "worker/engine.h"
#include "worker/pool/pool.h"

struct reconcile {
	struct id_bin *ids; /* the walk of the first half; NULL: not in it */
	size_t count, at;
	int64_t due_ms;
	bool is_running;
};

struct compare {
	struct worker_identity who;
	struct id ids[PLACE_BATCH];
	struct app_row rows[PLACE_BATCH];
	unsigned count;
};

struct orphans {
	struct worker_identity who;
	struct id after;
	struct placed placed[PLACE_BATCH];
	unsigned count;
};

struct reconcile *reconcile_new(void)
{
	return xcalloc(1, sizeof(struct reconcile));
}

void reconcile_free(struct reconcile **reconcile)
{
	if (*reconcile == NULL)
		return;
	free((*reconcile)->ids);
	free(*reconcile);
	*reconcile = NULL;
}

static void end_round(struct engine *engine, bool ok, const char *error)
{
	struct reconcile *r = engine->reconcile;

	if (!ok)
		log_warn("reconcile round broken off; the next one begins anew", "error=%s", error);
	free(r->ids);
	r->ids = NULL;
	r->is_running = false;
	r->due_ms = clock_now_ms() + engine->settings->worker.reconcile_s * 1000;
}

/* --- second half: placements that nobody holds --- */

static void next_orphans(struct engine *engine, const struct id *after);

static bool work_mine(struct db *db, void *data, struct err *e)
{
	struct orphans *o = data;

	return placement_mine(db, &o->who, id_is_set(&o->after) ? &o->after : NULL, o->placed, &o->count, e);
}

static void done_mine(struct engine *engine, void *data, bool ok, const struct err *e)
{
	struct orphans *o = data;

	if (!ok || o->count == 0 || engine->is_stopping) {
		end_round(engine, ok, e->text);
		free(o);
		return;
	}
	for (unsigned i = 0; i < o->count; i++) {
		if (pool_has(engine->pool, &o->placed[i].instance_id) ||
		    !id_equal(&o->who.incarnation, &engine->who.incarnation))
			continue;
		log_warn("placement that is not held goes", "instance=%s", o->placed[i].instance_id.text);
		pool_orphan(engine->pool, &o->placed[i].instance_id, &o->placed[i].org_id, clock_now_ms());
	}
	next_orphans(engine, &o->placed[o->count - 1].instance_id);
	free(o);
}

static void next_orphans(struct engine *engine, const struct id *after)
{
	struct orphans *o = xcalloc(1, sizeof(*o));

	o->who = engine->who;
	o->after = *after;
	engine_job(engine, work_mine, done_mine, o);
}

/* --- first half: rows of what is held --- */

static void next_batch(struct engine *engine);

static bool work_compare(struct db *db, void *data, struct err *e)
{
	struct compare *c = data;

	return placement_read_held(db, &c->who, c->ids, c->count, c->rows, e);
}

static void done_compare(struct engine *engine, void *data, bool ok, const struct err *e)
{
	struct compare *c = data;

	for (unsigned i = 0; ok && i < c->count; i++)
		pool_compare(engine->pool, &c->rows[i], clock_now_ms());
	free(c);
	if (ok && !engine->is_stopping)
		next_batch(engine);
	else
		end_round(engine, ok, e->text);
}

static void next_batch(struct engine *engine)
{
	struct reconcile *r = engine->reconcile;

	if (r->at == r->count) {
		next_orphans(engine, &(struct id){""});
		return;
	}
	struct compare *c = xcalloc(1, sizeof(*c));

	c->who = engine->who;
	while (r->at < r->count && c->count < PLACE_BATCH)
		c->ids[c->count++] = id_from_bin(&r->ids[r->at++]);
	engine_job(engine, work_compare, done_compare, c);
}

void reconcile_second(struct engine *engine)
{
	struct reconcile *r = engine->reconcile;

	if (r->is_running || engine->is_stopping || !engine->is_registered || clock_now_ms() < r->due_ms)
		return;
	r->is_running = true;
	r->count = pool_ids(engine->pool, &r->ids);
	r->at = 0;
	next_batch(engine);
}

void reconcile_soon(struct engine *engine)
{
	engine->reconcile->due_ms = 0;
}
