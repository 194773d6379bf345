/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to one App, step by step (DESIGN 6).
 *
 *   bring up:  claim → build → check (the row again) → subscribe → ready
 *   reload:    claim → build → check, swap → ready            beside the copy that serves
 *   adopt:     ready with the row's number, or in the other tier
 *   leave:     draining → unsubscribe → (turns end, or are cut) → gone
 *   failure:   failed → (fallback: build → …)
 *
 * One step is in flight at a time; its answer comes to one of the functions at the end. A step that could not be done
 * now (POOL_RETRY) is emitted again after step_retry_ms. A function that calls step_advance, rest or step_lose does
 * it last, since they may remove the App.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/xalloc.h"
#include "worker/pool/private.h"

#define DEMAND_RETRY_S 1
#define PASS_ON_MS 250
#define PASSES_MAX 20
#define REASON_FALLBACK "running_previous_version"

/* --- emitting --- */

static void emit_ready(struct pool *pool, struct pool_app *app)
{
	struct pool_action *a = pool_emit(pool, PA_READY, app);

	a->generation = app->generation;
	a->tier = app->load_tier;
	a->hash = app->is_version_new && !app->cur->is_fallback ? app->cur->hash : NULL;
	a->reason = app->cur->is_fallback ? REASON_FALLBACK : NULL;
}

static void emit_failed(struct pool *pool, struct pool_app *app)
{
	struct pool_action *a = pool_emit(pool, PA_FAILED, app);

	a->generation = app->generation;
	a->reason = app->reason;
	a->keep = app->is_failure_kept;
	a->fallback = app->try_fallback;
	a->retry_s = app->retry_s;
}

static void emit_draining(struct pool *pool, struct pool_app *app)
{
	struct pool_action *a = pool_emit(pool, PA_DRAINING, app);

	app->is_handing_over =
		pool->is_stopping && pool->has_others && app->tier == TIER_HOT && app->evict == EVICT_NONE;
	a->hand_over = app->is_handing_over;
	a->evict = app->evict;
}

static void emit_step(struct pool *pool, struct pool_app *app)
{
	switch ((enum step)app->step) {
	case STEP_READ:
	case STEP_CHECK:
		pool_emit(pool, PA_READ, app);
		break;
	case STEP_CEILING:
		pool_emit(pool, PA_CEILING, app)->tier = app->load_tier;
		break;
	case STEP_CLAIM:
		pool_emit(pool, PA_CLAIM, app)->how = app->how;
		break;
	case STEP_BUILD:
		pool_emit(pool, PA_BUILD, app)->fallback = app->try_fallback;
		break;
	case STEP_SUBSCRIBE:
		app->is_subscribed = true;
		pool_emit(pool, PA_SUBSCRIBE, app);
		break;
	case STEP_READY:
		emit_ready(pool, app);
		break;
	case STEP_FAILED:
		emit_failed(pool, app);
		break;
	case STEP_GIVE_BACK:
	case STEP_UNDO:
		pool_emit(pool, PA_GIVE_BACK, app);
		break;
	case STEP_DRAINING:
		emit_draining(pool, app);
		break;
	case STEP_UNSUBSCRIBE:
		pool_emit(pool, PA_UNSUBSCRIBE, app);
		break;
	case STEP_GONE:
		pool_emit(pool, PA_GONE, app);
		break;
	case STEP_NONE:
	case STEP_WAIT_SLOT:
	case STEP_WAIT_ALONE:
	case STEP_WAIT_ROOM:
		break;
	}
}

static void begin(struct pool *pool, struct pool_app *app, enum step step)
{
	app->step = step;
	app->resume_at_ms = TIMER_NEVER;
	emit_step(pool, app);
	pool_app_settle(pool, app);
}

/* Where a stop may take no longer, what could not be written stays unwritten: the lease's end tells the others. */
static void retry_later(struct pool *pool, struct pool_app *app, int64_t now_ms)
{
	if (pool->is_stopping && now_ms >= pool->stop_deadline_ms) {
		app->is_lost = true;
		app->step = STEP_NONE;
		step_lose(pool, app, now_ms);
		return;
	}
	app->resume_at_ms = now_ms + pool->config.step_retry_ms;
	pool_app_settle(pool, app);
}

static int room_retry_s(const struct pool *pool)
{
	return pool->config.room_retry_ms > 1000 ? (int)(pool->config.room_retry_ms / 1000) : 1;
}

static void begin_failed(struct pool *pool, struct pool_app *app, const char *reason, bool keep, int retry_s)
{
	free(app->reason);
	app->reason = xstrdup(reason);
	app->is_failure_kept = keep;
	app->retry_s = retry_s;
	begin(pool, app, STEP_FAILED);
}

/* --- slots --- */

static void enqueue(struct app_queue *q, struct pool_app *app)
{
	app->queue_next = NULL;
	if (q->last != NULL)
		q->last->queue_next = app;
	else
		q->first = app;
	q->last = app;
	q->count++;
}

static struct pool_app *dequeue(struct app_queue *q)
{
	struct pool_app *app = q->first;

	q->first = app->queue_next;
	if (q->first == NULL)
		q->last = NULL;
	q->count--;
	return app;
}

void step_end_waits(struct pool *pool)
{
	pool->slot_queue = pool->alone_queue = (struct app_queue){0};
	for (struct pool_app *app = pool->apps; app != NULL; app = app->hh.next) {
		if (app->step != STEP_WAIT_SLOT && app->step != STEP_WAIT_ALONE && app->step != STEP_WAIT_ROOM)
			continue;
		if (app->waits_for != NULL)
			app->waits_for->evicting_for = NULL;
		app->waits_for = NULL;
		app->step = STEP_NONE;
		app->is_bringing_up = false;
	}
}

/* Whoever waits for a slot gets it, in order. A suspect (an earlier build of it killed its worker) builds alone. */
void step_grant_slots(struct pool *pool)
{
	while (!pool->is_alone_running) {
		bool is_alone = pool->alone_queue.first != NULL;
		struct app_queue *q = is_alone ? &pool->alone_queue : &pool->slot_queue;
		unsigned limit = is_alone ? 1 : pool->config.builds_max;

		if (q->first == NULL || pool->slots_used >= limit)
			return;
		struct pool_app *app = dequeue(q);
		pool->slots_used++;
		app->has_slot = true;
		app->is_alone = pool->is_alone_running = is_alone;
		if (is_alone)
			app->how |= CLAIM_HOW_ALONE;
		begin(pool, app, STEP_CLAIM);
	}
}

static void release_slot(struct pool *pool, struct pool_app *app)
{
	if (!app->has_slot)
		return;
	app->has_slot = false;
	pool->slots_used--;
	if (app->is_alone)
		app->is_alone = pool->is_alone_running = false;
	step_grant_slots(pool);
}

/* --- leaving --- */

static void cut(struct pool *pool, struct pool_app *app)
{
	app->cut_at_ms = TIMER_NEVER;
	app->is_handing_over = false;
	app->is_cut = true;
	for (struct pool_copy *copy = app->copies; copy != NULL; copy = copy->sibling) {
		if (copy->turns > 0 && !copy->is_cut) {
			copy->is_cut = true;
			pool_emit(pool, PA_CUT, app)->copy = copy;
		}
	}
}

/* Our eviction has ended, one way or the other: who waited for the room tries again. */
static void resume_waiter(struct pool *pool, struct pool_app *app)
{
	struct pool_app *waiter = app->evicting_for;

	if (waiter == NULL)
		return;
	app->evicting_for = waiter->waits_for = NULL;
	step_bring_up(pool, waiter, waiter->how, waiter->load_tier);
}

static void remove_app(struct pool *pool, struct pool_app *app)
{
	resume_waiter(pool, app);
	pool_app_remove(pool, app);
}

static void free_copies(struct pool *pool, struct pool_app *app)
{
	app->cur = app->next = NULL;
	while (app->copies != NULL)
		pool_copy_free(pool, app->copies);
}

static void evict(struct pool *pool, struct pool_app *app, enum pool_evict why)
{
	app->evict = why;
	begin(pool, app, STEP_DRAINING);
}

void step_drop_surplus(struct pool *pool, struct pool_app *app)
{
	evict(pool, app, EVICT_SURPLUS);
}

void step_record(struct pool *pool, struct pool_app *app)
{
	app->generation = app->cur->generation;
	app->load_tier = app->tier;
	begin(pool, app, STEP_READY);
}

static void leave(struct pool *pool, struct pool_app *app)
{
	app->evict = EVICT_NONE;
	begin(pool, app, STEP_DRAINING);
}

static int64_t drain_ms(const struct pool *pool, const struct pool_app *app)
{
	return app->drain_ms >= 0 ? app->drain_ms : pool->config.drain_ms;
}

/* The time by which turns must have ended that run now. */
static int64_t drain_until(const struct pool *pool, const struct pool_app *app, int64_t now_ms)
{
	int64_t until_ms = now_ms + drain_ms(pool, app);

	return pool->is_stopping && pool->stop_deadline_ms < until_ms ? pool->stop_deadline_ms : until_ms;
}

/* From now on it only ends. */
static void begin_leaving(struct pool_app *app, int64_t cut_at_ms)
{
	app->is_leaving = true;
	app->is_cut = false;
	app->cut_at_ms = cut_at_ms;
}

/* Its turns are over. */
static void end_leaving(struct pool *pool, struct pool_app *app, int64_t now_ms)
{
	free_copies(pool, app);
	app->is_leaving = app->is_handing_over = false;
	if (pool->is_stopping && !pool->has_others) {
		/* The rows stay for the next start, which brings the hot ones back. */
		pool_events_back(pool, app, pool->config.step_retry_ms);
		remove_app(pool, app);
	} else if (app->has_placement) {
		begin(pool, app, STEP_GONE);
	} else {
		step_advance(pool, app, now_ms);
	}
}

static void advance_leaving(struct pool *pool, struct pool_app *app, int64_t now_ms)
{
	if (app->is_subscribed && !app->is_handing_over) {
		begin(pool, app, STEP_UNSUBSCRIBE);
	} else if (!app->is_subscribed && app->turns == 0) {
		end_leaving(pool, app, now_ms);
	} else if (app->is_dirty && !pool->is_stopping) {
		app->is_dirty = false;
		begin(pool, app, STEP_READ);
	} else {
		pool_events_done(pool, app);
		pool_app_settle(pool, app);
	}
}

/* SIGTERM reached an App at rest. */
static void advance_stopping(struct pool *pool, struct pool_app *app, int64_t now_ms)
{
	pool_events_back(pool, app, pool->config.step_retry_ms);
	if (app->cur != NULL && pool->has_others) {
		leave(pool, app);
	} else if (app->copies != NULL) {
		begin_leaving(app, pool->stop_deadline_ms);
		advance_leaving(pool, app, now_ms);
	} else {
		remove_app(pool, app);
	}
}

static void rest(struct pool *pool, struct pool_app *app, int64_t now_ms)
{
	pool_events_done(pool, app);
	app->wants_pin = false;
	if (app->cur == NULL && app->copies != NULL && !app->is_failed)
		begin_leaving(app,
			      drain_until(pool, app, now_ms)); /* turns of a copy that was unloaded are all there is */
	if (app->copies != NULL || app->is_failed)
		pool_app_settle(pool, app);
	else if (app->has_placement)
		begin(pool, app, STEP_GONE);
	else
		remove_app(pool, app);
}

void step_advance(struct pool *pool, struct pool_app *app, int64_t now_ms)
{
	if (app->step != STEP_NONE) {
		pool_app_settle(pool, app);
	} else if (app->is_lost) {
		step_lose(pool, app, now_ms);
	} else if (app->is_leaving) {
		advance_leaving(pool, app, now_ms);
	} else if (pool->is_stopping) {
		advance_stopping(pool, app, now_ms);
	} else if (app->is_dirty) {
		app->is_dirty = false;
		begin(pool, app, STEP_READ);
	} else {
		rest(pool, app, now_ms);
	}
}

/* The incarnation is dead: end what is held without writing a word. Goes on at the answer of a step in flight. */
void step_lose(struct pool *pool, struct pool_app *app, int64_t now_ms)
{
	if (app->resume_at_ms != TIMER_NEVER) {
		app->resume_at_ms = TIMER_NEVER;
		app->step = STEP_NONE;
	}
	if (app->step != STEP_NONE) {
		pool_app_settle(pool, app);
		return;
	}
	pool_events_back(pool, app, pool->config.step_retry_ms);
	app->is_failed = app->is_bringing_up = app->has_placement = app->is_handing_over = false;
	release_slot(pool, app);
	if (app->next != NULL) {
		struct pool_copy *next = app->next;
		app->next = NULL;
		pool_copy_free(pool, next);
	}
	if (app->is_subscribed) {
		begin(pool, app, STEP_UNSUBSCRIBE);
	} else if (app->turns == 0) {
		free_copies(pool, app);
		remove_app(pool, app);
	} else {
		if (app->cut_at_ms == TIMER_NEVER && !app->is_cut)
			app->cut_at_ms = drain_until(pool, app, now_ms);
		pool_app_settle(pool, app);
	}
}

/* --- bringing up --- */

/* Room in the tier, where need be in the place of idle demand Apps. */
static bool make_room(struct pool *pool, const struct pool_app *app, enum tier tier)
{
	while (!pool_has_room(pool, tier)) {
		struct pool_app *victim = tier == TIER_DEMAND ? pool_victim(pool, app->org, false) : NULL;

		if (victim == NULL)
			return false;
		evict(pool, victim, EVICT_ROOM);
	}
	return true;
}

void step_bring_up(struct pool *pool, struct pool_app *app, unsigned how, enum tier tier)
{
	app->how = how & CLAIM_HOW_REBUILD;
	if (!(how & CLAIM_HOW_REBUILD)) {
		app->load_tier = tier;
		app->is_bringing_up = false;
		pool_app_settle(pool, app);
		/* No other is evicted for an event that may be late, and who fails an operation must know its
		 * generation. */
		if (app->is_new && !pool_has_room(pool, tier)) {
			begin(pool, app, STEP_READ);
			return;
		}
		if (!make_room(pool, app, tier)) {
			begin(pool, app, STEP_CEILING);
			return;
		}
		app->is_bringing_up = true;
	}
	app->step = STEP_WAIT_SLOT;
	enqueue(&pool->slot_queue, app);
	pool_app_settle(pool, app);
	step_grant_slots(pool);
}

/* What the row asks of a copy that serves: nothing, a new number, the other tier. */
static void adopt(struct pool *pool, struct pool_app *app, const struct app_row *row)
{
	app->generation = row->generation;
	if (row->tier != app->tier && !make_room(pool, app, row->tier)) {
		begin_failed(pool, app, row->tier == TIER_HOT ? "hot_ceiling" : "demand_ceiling", true,
			     room_retry_s(pool));
		return;
	}
	app->load_tier = row->tier;
	begin(pool, app, STEP_READY);
}

/*
 * No load has asked for a hot App since its unload: a copy that has the unload's own number got it in a time that a
 * restored backup has taken back.
 */
static bool is_of_the_unload(uint64_t generation, const struct app_row *row)
{
	return generation == row->unload_generation && generation == row->generation && row->tier == TIER_HOT &&
	       row->desired_state == DESIRED_UNLOADED && !row->has_load_wanted;
}

bool step_is_unloaded(uint64_t generation, const struct app_row *row)
{
	return generation < row->unload_generation || generation > row->generation || is_of_the_unload(generation, row);
}

static bool is_rebuild_due(const struct pool_copy *copy, const struct app_row *row)
{
	return copy->generation < row->rebuild_generation || strcmp(copy->hash, row->hash) != 0;
}

static bool is_load_wanted(const struct app_row *row)
{
	return row->is_found && row->is_active && row->has_load_wanted && row->retry_in_ms <= 0;
}

/* The table of DESIGN 6, "What a worker does with its copy". */
static void decide_held(struct pool *pool, struct pool_app *app, const struct app_row *row, int64_t now_ms)
{
	struct pool_copy *cur = app->cur;
	bool is_rebuild = is_rebuild_due(cur, row);
	bool is_move = row->tier != app->tier;

	cur->is_fallback &= strcmp(cur->hash, row->hash) != 0; /* the row may have come back to it */
	app->retry_at_ms = TIMER_NEVER;
	if (!row->is_found || !row->is_active || step_is_unloaded(cur->generation, row)) {
		app->is_dirty |= is_load_wanted(row); /* built anew beside what drains */
		leave(pool, app);
	} else if ((is_rebuild || is_move) && row->retry_in_ms > 0) {
		app->retry_at_ms = now_ms + row->retry_in_ms;
		step_advance(pool, app, now_ms);
	} else if (is_rebuild) {
		step_bring_up(pool, app, CLAIM_HOW_REBUILD, row->tier);
	} else if (cur->generation != row->generation || is_move || row->has_load_wanted) {
		adopt(pool, app, row);
	} else {
		step_advance(pool, app, now_ms);
	}
}

/* Wanted again while it drains: what is left ends with its turns, a new copy is built beside it. */
static void decide_leaving(struct pool *pool, struct pool_app *app, const struct app_row *row, int64_t now_ms)
{
	if (is_load_wanted(row) && !app->is_subscribed && !pool->is_stopping) {
		struct pool_copy *old = app->cur;

		app->is_leaving = false;
		app->cut_at_ms = TIMER_NEVER;
		app->cur = NULL;
		if (old != NULL && old->turns == 0)
			pool_copy_free(pool, old);
		step_bring_up(pool, app, 0, row->tier);
		resume_waiter(pool, app); /* the quota's room was not made after all */
		return;
	}
	int64_t cut_at_ms = drain_until(pool, app, now_ms);
	if (cut_at_ms < app->cut_at_ms && !app->is_cut)
		app->cut_at_ms = cut_at_ms;
	advance_leaving(pool, app, now_ms);
}

static void decide_not_held(struct pool *pool, struct pool_app *app, const struct app_row *row, int64_t now_ms)
{
	bool is_unwanted = !row->is_found || !row->is_active || step_is_unloaded(app->failed_generation, row);

	if (is_load_wanted(row)) {
		step_bring_up(pool, app, 0, row->tier);
		return;
	}
	if (is_unwanted)
		app->is_failed = false; /* resting without a copy or a failure, it goes */
	step_advance(pool, app, now_ms);
}

static void note_row(struct pool_app *app, const struct app_row *row)
{
	app->is_new = false;
	if (!row->is_found)
		return;
	app->row_generation = row->generation;
	app->row_tier = row->tier;
	app->ttl_ms = row->ttl_seconds >= 0 ? row->ttl_seconds * 1000 : -1;
	app->drain_ms = row->drain_s >= 0 ? row->drain_s * 1000 : -1;
	memcpy(app->row_hash, row->hash, sizeof(app->row_hash));
}

/* --- answers --- */

/* Built: may it serve? The row decides again. */
static void check(struct pool *pool, struct pool_app *app, const struct app_row *row)
{
	struct pool_copy *copy = app->next, *old = app->cur;
	bool is_same = copy->is_fallback ? row->generation == copy->generation : strcmp(copy->hash, row->hash) == 0;

	app->next = NULL;
	if (!row->is_found || !row->is_active || step_is_unloaded(copy->generation, row) ||
	    copy->generation < row->rebuild_generation || !is_same || pool->is_stopping) {
		pool_copy_free(pool, copy);
		app->is_dirty = true;
		begin(pool, app, STEP_GIVE_BACK);
		return;
	}
	copy->generation = app->generation = row->generation;
	app->cur = copy;
	app->is_version_new = true;
	if (old != NULL)
		app->load_tier = app->tier;
	else
		app->tier = app->load_tier;
	app->is_dirty |= row->tier != app->tier;
	if (old != NULL && old->turns == 0)
		pool_copy_free(pool, old);
	begin(pool, app, app->is_subscribed ? STEP_READY : STEP_SUBSCRIBE);
}

void pool_row_read(struct pool *pool, struct pool_app *app, const struct app_row *row, int64_t now_ms)
{
	bool is_check = app->step == STEP_CHECK;

	if (app->is_lost) {
		app->step = STEP_NONE;
		step_lose(pool, app, now_ms);
		return;
	}
	if (row == NULL) {
		retry_later(pool, app, now_ms);
		return;
	}
	note_row(app, row);
	if (is_check) {
		check(pool, app, row);
		return;
	}
	app->step = STEP_NONE;
	if (app->is_leaving)
		decide_leaving(pool, app, row, now_ms);
	else if (pool->is_stopping)
		step_advance(pool, app, now_ms);
	else if (app->cur != NULL)
		decide_held(pool, app, row, now_ms);
	else
		decide_not_held(pool, app, row, now_ms);
}

static void end_bring_up(struct pool *pool, struct pool_app *app, int64_t now_ms)
{
	app->step = STEP_NONE;
	app->is_bringing_up = false;
	release_slot(pool, app);
	step_advance(pool, app, now_ms);
}

static void claimed_build(struct pool *pool, struct pool_app *app, const struct app_row *row)
{
	bool is_rebuild = app->how & CLAIM_HOW_REBUILD;
	bool is_wrong_tier = !is_rebuild && row->tier != app->load_tier && !pool_has_room(pool, row->tier);

	app->has_placement = true;
	app->is_failed = false; /* its row has become this claim's */
	app->generation = row->generation;
	memcpy(app->good_hash, row->good_hash, sizeof(app->good_hash));
	app->try_fallback = false;
	app->is_dirty |= is_wrong_tier; /* room is looked for again, in the right one */
	if (!is_rebuild && !is_wrong_tier)
		app->load_tier = row->tier;
	begin(pool, app, is_wrong_tier || pool->is_stopping ? STEP_GIVE_BACK : STEP_BUILD);
}

/* The org holds as many demand copies as it may: its own least recently used idle one makes room. */
static void claimed_quota(struct pool *pool, struct pool_app *app)
{
	struct pool_app *victim = pool_victim(pool, app->org, true);

	app->generation = app->row_generation;
	if (victim == NULL) {
		begin_failed(pool, app, "demand_quota", true, DEMAND_RETRY_S);
		return;
	}
	app->step = STEP_WAIT_ROOM;
	app->waits_for = victim;
	victim->evicting_for = app;
	pool_app_settle(pool, app);
	evict(pool, victim, EVICT_QUOTA);
	release_slot(pool, app);
}

/*
 * Others hold it, but below the row's number: the event tells them as a change. Once: we hear that change as they do,
 * and until they have taken the number over, our answer to it would be another one.
 */
static void pass_to_holders(struct pool *pool, struct pool_app *app)
{
	if (app->events == NULL)
		return;
	struct pool_action *a = pool_emit(pool, PA_PASS_ON, app);
	a->generation = app->row_generation;
	a->tier = app->row_tier;
	pool_events_done(pool, app);
}

void pool_claimed(struct pool *pool, struct pool_app *app, enum claim_result result, const struct claim *claim,
		  int64_t now_ms)
{
	if (app->is_lost || result == CLAIM_LOST) {
		app->is_lost = true;
		app->step = STEP_NONE;
		step_lose(pool, app, now_ms);
		return;
	}
	if (result != CLAIM_FAIL)
		note_row(app, &claim->row);
	if (pool->is_stopping && result != CLAIM_BUILD && result != CLAIM_FAIL)
		result = CLAIM_NOT_WANTED; /* waits for nothing more */
	switch (result) {
	case CLAIM_BUILD:
		claimed_build(pool, app, &claim->row);
		return;
	case CLAIM_QUOTA:
		claimed_quota(pool, app);
		return;
	case CLAIM_ALONE:
		app->step = STEP_WAIT_ALONE;
		enqueue(&pool->alone_queue, app);
		release_slot(pool, app);
		step_grant_slots(pool);
		return;
	case CLAIM_FAIL:
		pool_events_back(pool, app, pool->config.step_retry_ms);
		app->retry_at_ms = now_ms + pool->config.step_retry_ms;
		begin(pool, app, STEP_UNDO);
		return;
	case CLAIM_BACKOFF:
		app->retry_at_ms = now_ms + claim->row.retry_in_ms;
		break;
	case CLAIM_NOT_WANTED:
		/* A copy that serves was unloaded since its row was read. */
		app->is_dirty |= (app->how & CLAIM_HOW_REBUILD) != 0;
		break;
	case CLAIM_PASS_ON:
		pass_to_holders(pool, app);
		break;
	case CLAIM_ENOUGH:
	case CLAIM_LOADING:
	case CLAIM_QUOTA_HOT:
	case CLAIM_POISON:
	case CLAIM_LOST:
		break;
	}
	end_bring_up(pool, app, now_ms);
}

void pool_built(struct pool *pool, struct pool_app *app, void *runtime, const char *reason, int64_t now_ms)
{
	if (runtime != NULL) {
		struct pool_copy *copy = pool_copy_new(app, runtime);
		copy->generation = app->generation;
		copy->is_fallback = app->try_fallback;
		memcpy(copy->hash, app->try_fallback ? app->good_hash : app->row_hash, sizeof(copy->hash));
		app->next = copy;
		app->try_fallback = false;
	}
	if (app->is_lost) {
		app->step = STEP_NONE;
		step_lose(pool, app, now_ms);
		return;
	}
	if (runtime != NULL) {
		begin(pool, app, STEP_CHECK);
		return;
	}
	bool can_fall_back = app->cur == NULL && !app->try_fallback && app->good_hash[0] != '\0' &&
			     strcmp(app->good_hash, app->row_hash) != 0;
	app->try_fallback = can_fall_back;
	begin_failed(pool, app, reason, app->cur != NULL || can_fall_back, 0);
}

void pool_subscribed(struct pool *pool, struct pool_app *app, bool ok, int64_t now_ms)
{
	if (app->is_lost) {
		app->step = STEP_NONE;
		step_lose(pool, app, now_ms);
	} else if (ok) {
		begin(pool, app, STEP_READY);
	} else {
		retry_later(pool, app, now_ms);
	}
}

/*
 * Any worker may get the event of an App whose copies are not enough, also one that holds its copy already: it lets
 * the next one have it. Not without end: who could make a copy may have no room, and recovery publishes it again.
 */
static void pass_on(struct pool *pool, struct pool_app *app, bool is_short)
{
	bool may_pass = is_short && app->passes < PASSES_MAX;

	if (may_pass && app->events == NULL)
		return;
	app->passes = may_pass ? app->passes + 1 : 0;
	if (may_pass)
		pool_events_back(pool, app, PASS_ON_MS);
}

static void ready_done(struct pool *pool, struct pool_app *app, int64_t now_ms)
{
	app->cur->generation = app->generation;
	app->tier = app->load_tier;
	if (app->is_bringing_up)
		app->last_used_ms = now_ms;
	app->is_version_new = app->is_failed = false;
	app->is_dirty |= app->cur->is_fallback; /* the row says when the new version may be tried again */
	if (app->wants_pin && app->cur->turns == 0) {
		app->is_pinned = true;
		app->pin_until_ms = now_ms + pool->config.pin_ms;
	}
	app->wants_pin = false;
	end_bring_up(pool, app, now_ms);
}

static void failed_done(struct pool *pool, struct pool_app *app, int64_t now_ms)
{
	if (app->try_fallback) {
		app->try_fallback = !pool->is_stopping;
		begin(pool, app, pool->is_stopping ? STEP_GIVE_BACK : STEP_BUILD);
		return;
	}
	if (!app->is_failure_kept) {
		app->is_failed = true;
		app->failed_generation = app->generation;
		app->last_used_ms = now_ms;
	}
	/* A copy that serves on learns from the row when the next attempt may be. */
	app->is_dirty |= app->cur != NULL;
	end_bring_up(pool, app, now_ms);
}

/* A turn came while the eviction was being recorded. Its place may be taken by now: another's serves. */
static void revive(struct pool *pool, struct pool_app *app)
{
	(void)make_room(pool, app, app->tier);
	step_record(pool, app);
	resume_waiter(pool, app);
}

static void draining_done(struct pool *pool, struct pool_app *app, enum pool_done done, int64_t now_ms)
{
	if (done == POOL_CHANGED && app->evict == EVICT_SURPLUS) {
		step_record(pool, app); /* another one went first; or ours was to go, and the first answer was lost */
		return;
	}
	bool can_revive = app->evict != EVICT_NONE && app->evict != EVICT_SURPLUS && !pool->is_stopping;
	if (can_revive && app->turns > 0) {
		revive(pool, app);
		return;
	}
	app->step = STEP_NONE;
	begin_leaving(app, pool->is_stopping ? pool->stop_deadline_ms : drain_until(pool, app, now_ms));
	advance_leaving(pool, app, now_ms);
}

static void gone_done(struct pool *pool, struct pool_app *app, int64_t now_ms)
{
	app->step = STEP_NONE;
	app->has_placement = app->is_failed = false;
	app->is_dirty |= app->events != NULL;
	resume_waiter(pool, app);
	step_advance(pool, app, now_ms);
}

void pool_recorded(struct pool *pool, struct pool_app *app, enum pool_done done, int64_t now_ms)
{
	if (app->is_lost || done == POOL_LOST) {
		app->is_lost = true;
		app->step = STEP_NONE;
		step_lose(pool, app, now_ms);
		return;
	}
	if (done == POOL_RETRY) {
		retry_later(pool, app, now_ms);
		return;
	}
	app->is_dirty |= done == POOL_CHANGED;
	switch ((enum step)app->step) {
	case STEP_READY:
		pass_on(pool, app, done == POOL_SHORT);
		ready_done(pool, app, now_ms);
		break;
	case STEP_FAILED:
		failed_done(pool, app, now_ms);
		break;
	case STEP_GIVE_BACK:
		app->has_placement = app->cur != NULL;
		end_bring_up(pool, app, now_ms);
		break;
	case STEP_UNDO:
		end_bring_up(pool, app, now_ms);
		break;
	case STEP_DRAINING:
		draining_done(pool, app, done, now_ms);
		break;
	case STEP_GONE:
		gone_done(pool, app, now_ms);
		break;
	default:
		abort(); /* an answer to a step that was not asked */
	}
}

void pool_unsubscribed(struct pool *pool, struct pool_app *app, int64_t now_ms)
{
	app->step = STEP_NONE;
	app->is_subscribed = false;
	if (app->is_leaving && app->is_cut)
		cut(pool, app); /* those too that came after the first cut */
	step_advance(pool, app, now_ms);
}

void pool_ceiling_answer(struct pool *pool, struct pool_app *app, bool elsewhere, int64_t now_ms)
{
	app->step = STEP_NONE;
	if (app->is_lost || elsewhere || pool->is_stopping) {
		pool_events_back(pool, app, pool->config.step_retry_ms);
		step_advance(pool, app, now_ms);
		return;
	}
	app->generation = app->row_generation;
	if (app->load_tier == TIER_HOT)
		begin_failed(pool, app, "hot_ceiling", true, room_retry_s(pool));
	else /* idle ones leave at any moment: the next chat may try soon */
		begin_failed(pool, app, "demand_ceiling", true, DEMAND_RETRY_S);
}

/* --- time --- */

void step_due(struct pool *pool, struct pool_app *app, int64_t now_ms)
{
	bool is_ttl_over = app->last_used_ms + pool_app_ttl_ms(pool, app) <= now_ms;

	if (app->resume_at_ms <= now_ms) {
		app->resume_at_ms = TIMER_NEVER;
		emit_step(pool, app);
		pool_app_settle(pool, app);
		return;
	}
	if ((app->is_leaving || app->is_lost || pool->is_stopping) && app->cut_at_ms <= now_ms) {
		cut(pool, app);
		step_advance(pool, app, now_ms);
		return;
	}
	if (app->is_pinned && app->pin_until_ms <= now_ms)
		app->is_pinned = false;
	if (app->retry_at_ms <= now_ms) {
		app->retry_at_ms = TIMER_NEVER;
		app->is_dirty = true;
		step_advance(pool, app, now_ms);
	} else if (app->class == CLASS_FAILED && app->turns == 0 && is_ttl_over) {
		begin(pool, app, STEP_GONE);
	} else if (pool_app_is_idle(app) && is_ttl_over) {
		evict(pool, app, EVICT_IDLE);
	} else {
		pool_app_settle(pool, app);
	}
}
