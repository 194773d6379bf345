/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the pool holds: Apps by id, their copies and turns, the organizations
 * with their idle heaps, counters, timers, and the queue of actions. What
 * happens to one App, step by step, is steps.c.
 *
 * Invariants: an App counts in exactly one class; it is in the idle heaps exactly while it may be evicted; its timer
 * stands at its earliest deadline; it is removed only at rest with nothing held; a copy that is neither the one that
 * serves nor the next one has turns.
 */
#include "worker/pool/pool.h"

#include <stdlib.h>
#include <string.h>

#include "lib/macros.h"
#include "lib/xalloc.h"
#include "worker/pool/private.h"

struct pool *pool_new(const struct pool_config *config)
{
	struct pool *pool = xcalloc(1, sizeof(*pool));

	pool->config = *config;
	return pool;
}

static void copies_drop(struct pool_app *app)
{
	while (app->copies != NULL) {
		struct pool_copy *copy = app->copies;
		app->copies = copy->sibling;
		free(copy);
	}
}

void pool_free(struct pool **pool_p)
{
	struct pool *pool = *pool_p;
	struct pool_app *app, *next;

	if (pool == NULL)
		return;
	HASH_ITER (hh, pool->apps, app, next) {
		copies_drop(app);
		while (app->events != NULL) {
			struct pool_event *event = app->events;
			app->events = event->next;
			free(event);
		}
		timers_set(&pool->timers, &app->timer, TIMER_NEVER);
		pool_app_remove(pool, app);
	}
	timers_clear(&pool->timers);
	timers_clear(&pool->idle);
	free(pool->actions);
	free(pool);
	*pool_p = NULL;
}

void pool_configure(struct pool *pool, const struct pool_config *config)
{
	pool->config = *config;
	step_grant_slots(pool);
}

/* --- actions --- */

static void grow_ring(struct pool *pool)
{
	size_t cap = pool->action_cap == 0 ? 64 : 2 * pool->action_cap;
	struct pool_action *ring = xcalloc(cap, sizeof(*ring));

	for (size_t i = 0; i < pool->action_count; i++)
		ring[i] = pool->actions[(pool->action_first + i) % pool->action_cap];
	free(pool->actions);
	pool->actions = ring;
	pool->action_first = 0;
	pool->action_cap = cap;
}

struct pool_action *pool_emit(struct pool *pool, enum pool_action_kind kind, struct pool_app *app)
{
	if (pool->action_count == pool->action_cap)
		grow_ring(pool);
	struct pool_action *a = &pool->actions[(pool->action_first + pool->action_count++) % pool->action_cap];
	*a = (struct pool_action){.kind = kind, .app = kind < PA_CUT ? app : NULL};
	if (app != NULL) {
		a->instance_id = id_from_bin(&app->id);
		a->org_id = id_from_bin(&app->org->id);
	}
	return a;
}

bool pool_next_action(struct pool *pool, struct pool_action *ret_action)
{
	if (pool->action_count == 0)
		return false;
	*ret_action = pool->actions[pool->action_first];
	pool->action_first = (pool->action_first + 1) % pool->action_cap;
	pool->action_count--;
	return true;
}

void pool_events_done(struct pool *pool, struct pool_app *app)
{
	while (app->events != NULL) {
		struct pool_event *event = app->events;
		app->events = event->next;
		pool_emit(pool, PA_EVENT_DONE, app)->event = event->event;
		free(event);
	}
}

void pool_events_back(struct pool *pool, struct pool_app *app, int64_t delay_ms)
{
	while (app->events != NULL) {
		struct pool_event *event = app->events;
		app->events = event->next;
		struct pool_action *a = pool_emit(pool, PA_EVENT_BACK, app);
		a->event = event->event;
		a->delay_ms = delay_ms;
		free(event);
	}
}

/* --- Apps --- */

struct pool_app *pool_find(struct pool *pool, const struct id_bin *id)
{
	struct pool_app *app;

	HASH_FIND(hh, pool->apps, id, sizeof(*id), app);
	return app;
}

static struct pool_app *find_text(const struct pool *pool, const struct id *instance_id)
{
	struct id_bin id = id_to_bin(instance_id);

	return pool_find((struct pool *)pool, &id);
}

static struct pool_org *org_of(struct pool *pool, const struct id_bin *id)
{
	struct pool_org *org;

	HASH_FIND(hh, pool->orgs, id, sizeof(*id), org);
	if (org == NULL) {
		org = xcalloc(1, sizeof(*org));
		org->id = *id;
		HASH_ADD(hh, pool->orgs, id, sizeof(org->id), org);
	}
	return org;
}

struct pool_app *pool_app_new(struct pool *pool, const struct id_bin *id, const struct id_bin *org_id)
{
	struct pool_app *app = xcalloc(1, sizeof(*app));

	app->id = *id;
	app->org = org_of(pool, org_id);
	app->org->app_count++;
	app->is_new = true;
	pool->counts[CLASS_NONE]++;
	app->ttl_ms = app->drain_ms = -1;
	app->retry_at_ms = app->cut_at_ms = app->pin_until_ms = app->resume_at_ms = TIMER_NEVER;
	app->timer.at_ms = TIMER_NEVER;
	HASH_ADD(hh, pool->apps, id, sizeof(app->id), app);
	return app;
}

static void set_idle(struct pool *pool, struct pool_app *app, bool is_evictable)
{
	int64_t at_ms = is_evictable ? app->last_used_ms : TIMER_NEVER;

	timers_set(&pool->idle, &app->idle, at_ms);
	timers_set(&app->org->idle, &app->org_idle, at_ms);
}

void pool_app_remove(struct pool *pool, struct pool_app *app)
{
	struct pool_org *org = app->org;

	if (app->slot != NULL)
		pool_emit(pool, PA_REMOVED, NULL)->slot = app->slot;
	set_idle(pool, app, false);
	timers_set(&pool->timers, &app->timer, TIMER_NEVER);
	pool->counts[app->class]--;
	HASH_DELETE(hh, pool->apps, app);
	if (--org->app_count == 0) {
		HASH_DELETE(hh, pool->orgs, org);
		timers_clear(&org->idle);
		free(org);
	}
	free(app->reason);
	free(app);
}

/* A move counts where it goes to from the moment its room was found. */
static enum app_class class_of(const struct pool_app *app)
{
	enum tier tier = app->step == STEP_READY ? app->load_tier : app->tier;

	bool is_going = app->is_leaving || (app->step == STEP_DRAINING && app->evict != EVICT_SURPLUS);

	if (app->is_lost)
		return app->copies != NULL ? CLASS_DRAINING : CLASS_NONE;
	if (is_going)
		return CLASS_DRAINING;
	if (app->cur != NULL)
		return tier == TIER_HOT ? CLASS_HOT : CLASS_DEMAND;
	if (app->is_bringing_up)
		return app->load_tier == TIER_HOT ? CLASS_LOADING_HOT : CLASS_LOADING_DEMAND;
	return app->is_failed ? CLASS_FAILED : CLASS_NONE;
}

/* One that the row wants hot, but for which the hot tier has no room yet, is none. */
bool pool_app_is_idle(const struct pool_app *app)
{
	return app->class == CLASS_DEMAND && app->row_tier == TIER_DEMAND && app->turns == 0 && !app->is_pinned;
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t deadline_of(const struct pool *pool, const struct pool_app *app)
{
	int64_t at_ms = app->resume_at_ms;

	if (app->is_leaving || app->is_lost || pool->is_stopping)
		at_ms = earlier(at_ms, app->cut_at_ms);
	if (app->step != STEP_NONE)
		return at_ms;
	at_ms = earlier(at_ms, app->retry_at_ms);
	if (app->is_pinned)
		at_ms = earlier(at_ms, app->pin_until_ms);
	if ((app->class == CLASS_FAILED && app->turns == 0) || pool_app_is_idle(app))
		at_ms = earlier(at_ms, app->last_used_ms + pool_app_ttl_ms(pool, app));
	return at_ms;
}

void pool_app_settle(struct pool *pool, struct pool_app *app)
{
	enum app_class class = class_of(app);

	pool->counts[app->class]--;
	pool->counts[class]++;
	app->class = class;
	set_idle(pool, app, app->step == STEP_NONE && !app->is_dirty && pool_app_is_idle(app));
	timers_set(&pool->timers, &app->timer, deadline_of(pool, app));
}

int64_t pool_app_ttl_ms(const struct pool *pool, const struct pool_app *app)
{
	return app->ttl_ms >= 0 ? app->ttl_ms : pool->config.ttl_ms;
}

bool pool_has_room(const struct pool *pool, enum tier tier)
{
	if (tier == TIER_HOT)
		return pool->counts[CLASS_HOT] + pool->counts[CLASS_LOADING_HOT] < pool->config.hot_ceiling;
	return pool->counts[CLASS_DEMAND] + pool->counts[CLASS_LOADING_DEMAND] < pool->config.demand_ceiling;
}

/* The least recently used idle demand App, of this org first. */
struct pool_app *pool_victim(struct pool *pool, const struct pool_org *org, bool only_org)
{
	const struct timer_node *of_org = timers_first(&org->idle), *of_all = timers_first(&pool->idle);

	if (of_org != NULL)
		return (struct pool_app *)((char *)of_org - offsetof(struct pool_app, org_idle));
	if (of_all == NULL || only_org)
		return NULL;
	return (struct pool_app *)((char *)of_all - offsetof(struct pool_app, idle));
}

/* --- copies --- */

struct pool_copy *pool_copy_new(struct pool_app *app, void *runtime)
{
	struct pool_copy *copy = xcalloc(1, sizeof(*copy));

	copy->app = app;
	copy->runtime = runtime;
	copy->sibling = app->copies;
	app->copies = copy;
	return copy;
}

void pool_copy_free(struct pool *pool, struct pool_copy *copy)
{
	struct pool_copy **at = &copy->app->copies;

	while (*at != copy)
		at = &(*at)->sibling;
	*at = copy->sibling;
	pool_emit(pool, PA_FREE, copy->app)->runtime = copy->runtime;
	free(copy);
}

/* --- inputs --- */

void pool_load_event(struct pool *pool, const struct id *instance_id, const struct id *org_id, enum tier tier,
		     bool is_demand, void *event, int64_t now_ms)
{
	struct id_bin id = id_to_bin(instance_id), org = id_to_bin(org_id);
	struct pool_app *app = pool_find(pool, &id);
	bool is_fresh = app == NULL;

	if (is_fresh)
		app = pool_app_new(pool, &id, &org);
	if (event != NULL) {
		struct pool_event *held = xcalloc(1, sizeof(*held));
		held->event = event;
		held->next = app->events;
		app->events = held;
	}
	if (pool->is_stopping) {
		pool_events_back(pool, app, pool->config.step_retry_ms);
		if (is_fresh)
			pool_app_remove(pool, app);
		return;
	}
	app->wants_pin |= is_demand;
	if (is_fresh) {
		step_bring_up(pool, app, 0, tier);
	} else {
		app->is_dirty = true;
		step_advance(pool, app, now_ms);
	}
}

static void look(struct pool *pool, struct pool_app *app, int64_t now_ms)
{
	app->is_dirty = true;
	step_advance(pool, app, now_ms);
}

void pool_look(struct pool *pool, const struct id *instance_id, int64_t now_ms)
{
	struct pool_app *app = find_text(pool, instance_id);

	if (app != NULL)
		look(pool, app, now_ms);
}

void pool_look_org(struct pool *pool, const struct id *org_id, int64_t now_ms)
{
	struct id_bin id = {{0}};
	struct pool_app *app, *next;

	if (id_is_set(org_id))
		id = id_to_bin(org_id);
	HASH_ITER (hh, pool->apps, app, next) {
		if (!id_is_set(org_id) || memcmp(&app->org->id, &id, sizeof(id)) == 0)
			look(pool, app, now_ms);
	}
}

void pool_orphan(struct pool *pool, const struct id *instance_id, const struct id *org_id, int64_t now_ms)
{
	struct id_bin id = id_to_bin(instance_id), org = id_to_bin(org_id);

	if (pool->is_stopping || pool_find(pool, &id) != NULL)
		return;
	struct pool_app *app = pool_app_new(pool, &id, &org);
	app->has_placement = true;
	step_advance(pool, app, now_ms);
}

void pool_compare(struct pool *pool, const struct app_row *row, int64_t now_ms)
{
	struct pool_app *app = find_text(pool, &row->instance_id);

	if (app == NULL || app->step != STEP_NONE || app->is_lost)
		return;
	bool is_same = app->cur != NULL && !app->is_leaving && row->is_found && row->is_active &&
		       app->cur->generation == row->generation && app->tier == row->tier &&
		       !step_is_unloaded(app->cur->generation, row) &&
		       (app->cur->is_fallback || strcmp(app->cur->hash, row->hash) == 0);
	if (!is_same)
		look(pool, app, now_ms);
	else if (!row->is_recorded && !pool->is_stopping)
		step_record(pool, app);
	else if (row->is_surplus && !pool->is_stopping)
		step_drop_surplus(pool, app);
}

void pool_tick(struct pool *pool, int64_t now_ms)
{
	struct timer_node *node;

	while ((node = timers_first(&pool->timers)) != NULL && node->at_ms <= now_ms) {
		struct pool_app *app = (struct pool_app *)((char *)node - offsetof(struct pool_app, timer));
		step_due(pool, app, now_ms);
	}
}

int64_t pool_next_wake(const struct pool *pool)
{
	const struct timer_node *node = timers_first(&pool->timers);

	return node != NULL ? node->at_ms : INT64_MAX;
}

/* --- turns --- */

struct pool_copy *pool_turn_begin(struct pool *pool, const struct id *instance_id, void **ret_runtime, int64_t now_ms)
{
	struct pool_app *app = find_text(pool, instance_id);

	if (app == NULL || app->cur == NULL || app->is_lost || (app->is_leaving && !app->is_subscribed))
		return NULL;
	app->cur->turns++;
	app->cur->is_cut = false;
	app->turns++;
	pool->turns++;
	app->last_used_ms = now_ms;
	pool_app_settle(pool, app);
	*ret_runtime = app->cur->runtime;
	return app->cur;
}

void pool_turn_end(struct pool *pool, struct pool_copy *copy, int64_t now_ms)
{
	struct pool_app *app = copy->app;

	copy->turns--;
	app->turns--;
	pool->turns--;
	app->last_used_ms = now_ms;
	if (copy == app->cur)
		app->is_pinned = app->wants_pin = false;
	if (copy->turns == 0 && copy != app->cur && copy != app->next)
		pool_copy_free(pool, copy);
	step_advance(pool, app, now_ms);
}

const struct id_bin *pool_copy_instance(const struct pool_copy *copy)
{
	return &copy->app->id;
}

struct id pool_copy_org(const struct pool_copy *copy)
{
	return pool_app_org(copy->app);
}

/* --- the worker as a whole --- */

void pool_lose_all(struct pool *pool, int64_t now_ms)
{
	struct pool_app *app, *next;

	for (app = pool->apps; app != NULL; app = app->hh.next)
		app->is_lost = true;
	step_end_waits(pool);
	HASH_ITER (hh, pool->apps, app, next)
		step_lose(pool, app, now_ms);
}

void pool_stop(struct pool *pool, bool has_others, int64_t deadline_ms, int64_t now_ms)
{
	struct pool_app *app, *next;

	pool->is_stopping = true;
	pool->has_others = has_others;
	pool->stop_deadline_ms = deadline_ms;
	step_end_waits(pool);
	HASH_ITER (hh, pool->apps, app, next) {
		app->cut_at_ms = app->is_leaving || app->is_lost ? earlier(app->cut_at_ms, deadline_ms) : deadline_ms;
		app->is_handing_over &= has_others;
		step_advance(pool, app, now_ms);
	}
}

void pool_handed_over(struct pool *pool, const struct id *instance_id, int64_t now_ms)
{
	struct pool_app *app = find_text(pool, instance_id);

	if (app == NULL || !app->is_handing_over)
		return;
	app->is_handing_over = false;
	step_advance(pool, app, now_ms);
}

bool pool_is_empty(const struct pool *pool)
{
	return pool->apps == NULL;
}

bool pool_is_stopping(const struct pool *pool)
{
	return pool->is_stopping;
}

/* --- looking --- */

struct pool_counts pool_counts(const struct pool *pool)
{
	const uint32_t *n = pool->counts;
	uint32_t taken = pool->slots_used + pool->slot_queue.count + pool->alone_queue.count;

	return (struct pool_counts){
		.hot = n[CLASS_HOT],
		.demand = n[CLASS_DEMAND],
		.loading = n[CLASS_LOADING_HOT] + n[CLASS_LOADING_DEMAND],
		.failed = n[CLASS_FAILED],
		.draining = n[CLASS_DRAINING],
		.turns_in_flight = pool->turns,
		.builds = pool->slots_used,
		.slots_free = taken < pool->config.builds_max ? pool->config.builds_max - taken : 0,
	};
}

bool pool_has(const struct pool *pool, const struct id *instance_id)
{
	return find_text(pool, instance_id) != NULL;
}

size_t pool_ids(const struct pool *pool, struct id_bin **ret_ids)
{
	size_t count = HASH_COUNT(pool->apps), i = 0;
	struct id_bin *ids = xcalloc(count + 1, sizeof(*ids));
	struct pool_app *app, *next;

	HASH_ITER (hh, pool->apps, app, next)
		ids[i++] = app->id;
	*ret_ids = ids;
	return count;
}

struct id pool_app_instance(const struct pool_app *app)
{
	return id_from_bin(&app->id);
}

struct id pool_app_org(const struct pool_app *app)
{
	return id_from_bin(&app->org->id);
}

bool pool_app_is_waited_for(const struct pool_app *app)
{
	return app->wants_pin;
}

void **pool_app_slot(struct pool_app *app)
{
	return &app->slot;
}
