/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/pool_check.h"

#include <stdio.h>

#include "tests/unit/harness.h"
#include "worker/pool/private.h"

char pool_context[80] = "";

bool pool_expect_failed(unsigned line, const char *condition, const char *file)
{
	if (pool_context[0] != '\0')
		printf("    %s\n", pool_context);
	return CU_assertImplementation(CU_FALSE, line, condition, file, "", CU_FALSE);
}

static bool is_evictable(const struct pool_app *app)
{
	return app->step == STEP_NONE && app->cur != NULL && app->tier == TIER_DEMAND && app->row_tier == TIER_DEMAND &&
	       app->turns == 0 && !app->is_pinned && !app->is_leaving && !app->is_lost && !app->is_dirty;
}

static bool is_in_heap(const struct timers *t, const struct timer_node *node)
{
	return node->place != 0 && node->place <= t->count && t->nodes[node->place - 1] == node;
}

static bool is_class_right(const struct pool_app *app)
{
	enum tier tier = app->step == STEP_READY ? app->load_tier : app->tier;

	if (app->is_lost)
		return app->class == (app->copies != NULL ? CLASS_DRAINING : CLASS_NONE);
	switch ((enum app_class)app->class) {
	case CLASS_HOT:
	case CLASS_DEMAND:
		return app->cur != NULL && !app->is_leaving && (app->class == CLASS_HOT) == (tier == TIER_HOT);
	case CLASS_LOADING_HOT:
	case CLASS_LOADING_DEMAND:
		return app->cur == NULL && app->is_bringing_up &&
		       (app->class == CLASS_LOADING_HOT) == (app->load_tier == TIER_HOT);
	case CLASS_DRAINING:
		return app->is_leaving || app->step == STEP_DRAINING;
	case CLASS_FAILED:
		return app->is_failed && app->cur == NULL;
	default:
		return app->cur == NULL && !app->is_bringing_up && !app->is_failed;
	}
}

static void check_copies(const struct pool_app *app)
{
	uint32_t turns = 0;
	bool has_cur = app->cur == NULL, has_next = app->next == NULL;

	for (const struct pool_copy *copy = app->copies; copy != NULL; copy = copy->sibling) {
		turns += copy->turns;
		has_cur |= copy == app->cur;
		has_next |= copy == app->next;
		EXPECT(copy->app == app);
		EXPECT(copy == app->cur || copy == app->next || copy->turns > 0);
		EXPECT(copy != app->next || copy->turns == 0);
	}
	EXPECT(turns == app->turns);
	EXPECT(has_cur && has_next);
}

/* What an App at rest may look like. */
static void check_rest(const struct pool *pool, const struct pool_app *app)
{
	EXPECT(app->events == NULL);
	EXPECT(app->next == NULL && !app->is_bringing_up && !app->has_slot);
	EXPECT(app->copies != NULL || app->is_failed);
	EXPECT(!app->is_dirty || pool->is_stopping || app->is_lost);
	EXPECT(!app->is_leaving || app->turns > 0 || app->is_handing_over);
}

static void check_app(const struct pool *pool, const struct pool_app *app)
{
	bool is_waiting = app->step == STEP_WAIT_SLOT || app->step == STEP_WAIT_ALONE || app->step == STEP_WAIT_ROOM;

	check_copies(app);
	EXPECT(is_class_right(app));
	EXPECT(is_in_heap(&pool->idle, &app->idle) == is_evictable(app));
	EXPECT(is_in_heap(&app->org->idle, &app->org_idle) == is_evictable(app));
	EXPECT((app->timer.place != 0) == (is_in_heap(&pool->timers, &app->timer)));
	EXPECT((app->step == STEP_WAIT_ROOM) == (app->waits_for != NULL));
	EXPECT(app->waits_for == NULL || app->waits_for->evicting_for == app);
	EXPECT(app->evicting_for == NULL || app->evicting_for->waits_for == app);
	EXPECT(!is_waiting || !app->has_slot);
	EXPECT(!is_waiting || !app->is_lost);
	if (app->step == STEP_NONE)
		check_rest(pool, app);
}

static void check_heap(const struct timers *t)
{
	for (size_t i = 0; i < t->count; i++) {
		EXPECT(t->nodes[i]->place == i + 1);
		EXPECT(i == 0 || t->nodes[(i - 1) / 2]->at_ms <= t->nodes[i]->at_ms);
	}
}

static uint32_t queue_length(const struct app_queue *q, enum step step)
{
	uint32_t count = 0;

	for (const struct pool_app *app = q->first; app != NULL; app = app->queue_next) {
		EXPECT(app->step == step);
		count++;
	}
	EXPECT(count == q->count);
	return count;
}

static void check_slots(const struct pool *pool, uint32_t used, uint32_t alone)
{
	uint32_t waiting = queue_length(&pool->slot_queue, STEP_WAIT_SLOT);
	uint32_t waiting_alone = queue_length(&pool->alone_queue, STEP_WAIT_ALONE);
	struct pool_counts counts = pool_counts(pool);

	EXPECT(used == pool->slots_used);
	EXPECT(used <= pool->config.builds_max);
	EXPECT(alone == (pool->is_alone_running ? 1u : 0u));
	EXPECT(alone == 0 || used == 1);        /* a suspect takes nobody with it */
	EXPECT(waiting_alone == 0 || used > 0); /* nobody waits for a slot that is free */
	EXPECT(waiting == 0 || waiting_alone > 0 || alone > 0 || used == pool->config.builds_max);
	EXPECT(counts.builds == used);
	EXPECT(counts.slots_free <= pool->config.builds_max - used);
}

static void check_counts(const struct pool *pool, const uint32_t classes[CLASS_COUNT], uint32_t turns)
{
	struct pool_counts counts = pool_counts(pool);

	for (int i = 0; i < CLASS_COUNT; i++)
		EXPECT(classes[i] == pool->counts[i]);
	EXPECT(turns == pool->turns && turns == counts.turns_in_flight);
	EXPECT(counts.hot == classes[CLASS_HOT] && counts.demand == classes[CLASS_DEMAND]);
	EXPECT(counts.loading == classes[CLASS_LOADING_HOT] + classes[CLASS_LOADING_DEMAND]);
	EXPECT(counts.failed == classes[CLASS_FAILED] && counts.draining == classes[CLASS_DRAINING]);
}

void pool_check(struct pool *pool)
{
	uint32_t classes[CLASS_COUNT] = {0}, turns = 0, used = 0, alone = 0, orgs_apps = 0;
	int64_t wake_ms = TIMER_NEVER;

	for (const struct pool_app *app = pool->apps; app != NULL; app = app->hh.next) {
		check_app(pool, app);
		classes[app->class]++;
		turns += app->turns;
		used += app->has_slot;
		alone += app->is_alone;
		if (app->timer.place != 0 && app->timer.at_ms < wake_ms)
			wake_ms = app->timer.at_ms;
	}
	for (const struct pool_org *org = pool->orgs; org != NULL; org = org->hh.next) {
		check_heap(&org->idle);
		orgs_apps += org->app_count;
	}
	check_heap(&pool->idle);
	check_heap(&pool->timers);
	check_counts(pool, classes, turns);
	check_slots(pool, used, alone);
	EXPECT(orgs_apps == HASH_COUNT(pool->apps));
	EXPECT(wake_ms == pool_next_wake(pool));
}
