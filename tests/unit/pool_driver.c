/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/pool_driver.h"

#include <stdlib.h>
#include <string.h>

#include "lib/xalloc.h"
#include "tests/unit/pool_check.h"
#include "worker/pool/private.h"

#define LONG_MS 3600000

static unsigned number_of(const struct id *instance_id)
{
	return (unsigned)strtoul(instance_id->text + 28, NULL, 16);
}

static struct fake_app *row_of(struct driver *d, unsigned app)
{
	return &d->fake.apps[app];
}

/* --- actions --- */

static void note_draining(struct driver *d, unsigned app, const struct pool_action *a)
{
	struct driver_app *x = &d->apps[app];
	bool is_eviction = a->evict == EVICT_IDLE || a->evict == EVICT_ROOM || a->evict == EVICT_QUOTA;

	x->last_hand_over = a->hand_over;
	if (x->is_retried)
		return;
	x->evicted[a->evict]++;
	EXPECT(!is_eviction || driver_turns(d, app) == 0);
	EXPECT(!is_eviction || d->fake.apps[app].place_tier == TIER_DEMAND || d->fake.is_dead);
}

static void open_step(struct driver *d, const struct pool_action *a)
{
	unsigned app = number_of(&a->instance_id);
	struct driver_app *x = &d->apps[app];
	void **slot = pool_app_slot(a->app);

	if (*slot == NULL) {
		*slot = xmalloc(1);
		d->slots++;
	}
	EXPECT(!x->step.is_open);
	if (a->kind == PA_DRAINING)
		note_draining(d, app, a);
	if (a->kind == PA_CLAIM)
		x->last_how = a->how;
	if (a->kind == PA_SUBSCRIBE)
		x->has_left = false;
	x->is_retried = false;
	x->step = (struct driver_step){
		.action = *a, .is_open = true, .number = d->steps++, .incarnation = d->fake.incarnation};
}

static void cut_turns(struct driver *d, const struct pool_copy *copy)
{
	bool is_known = false;

	for (unsigned i = 0; i < DRIVER_TURNS_MAX; i++) {
		if (d->turns[i].copy == copy)
			is_known = d->turns[i].is_cut = true;
	}
	EXPECT(is_known);
}

static void free_runtime(struct driver *d, unsigned app, struct runtime *runtime)
{
	(void)d;
	EXPECT(!runtime->is_freed);
	EXPECT(runtime->turns == 0);
	EXPECT(runtime->app == app);
	runtime->is_freed = true;
}

static void settle_event(struct driver *d, const void *event)
{
	size_t i = (size_t)(uintptr_t)event;

	if (EXPECT(i >= 1 && i <= d->event_count))
		EXPECT(++d->events[i - 1] == 1);
}

static void take_action(struct driver *d, const struct pool_action *a)
{
	EXPECT((a->app != NULL) == (a->kind < PA_CUT));
	if (a->kind != PA_REMOVED)
		d->apps[number_of(&a->instance_id)].seen[a->kind]++;
	switch (a->kind) {
	case PA_CUT:
		cut_turns(d, a->copy);
		break;
	case PA_FREE:
		free_runtime(d, number_of(&a->instance_id), a->runtime);
		break;
	case PA_EVENT_DONE:
		d->events_done++;
		settle_event(d, a->event);
		break;
	case PA_EVENT_BACK:
		d->events_back++;
		EXPECT(a->delay_ms <= 1000); /* naks are only for waits up to a second */
		settle_event(d, a->event);
		break;
	case PA_PASS_ON:
		break; /* counted; a test brings the change where it wants it */
	case PA_REMOVED:
		d->slots--;
		free(a->slot);
		break;
	default:
		open_step(d, a);
		break;
	}
}

static void take_actions(struct driver *d)
{
	struct pool_action a;

	while (pool_next_action(d->pool, &a))
		take_action(d, &a);
	pool_check(d->pool);
}

/* The step to answer next: the oldest that is not held. */
static bool next_step(const struct driver *d, unsigned *ret_app)
{
	uint64_t oldest = UINT64_MAX;

	for (unsigned i = 0; i < d->fake.count; i++) {
		const struct driver_step *s = &d->apps[i].step;
		if (!s->is_open || d->apps[i].held & 1u << s->action.kind || s->number >= oldest)
			continue;
		oldest = s->number;
		*ret_app = i;
	}
	return oldest != UINT64_MAX;
}

/* --- performing --- */

static bool has_failed(struct driver *d, unsigned app)
{
	unsigned *fails = &d->apps[app].fails[d->apps[app].step.action.kind];

	if (*fails == 0)
		return false;
	(*fails)--;
	return true;
}

static struct runtime *make_runtime(struct driver *d, unsigned app, bool is_fallback)
{
	const struct app_row *row = &d->apps[app].claimed_row;
	char version = is_fallback ? row->good_hash[0] : row->hash[0];
	struct runtime *runtime;

	EXPECT(!is_fallback || row->good_hash[0] != '\0');
	if (version == FAKE_BAD)
		return NULL;
	runtime = xcalloc(1, sizeof(*runtime));
	runtime->app = app;
	runtime->version = version;
	if (d->runtime_count == d->runtime_cap) {
		d->runtime_cap = d->runtime_cap == 0 ? 64 : 2 * d->runtime_cap;
		d->runtimes = xrealloc(d->runtimes, d->runtime_cap * sizeof(struct runtime *));
	}
	d->runtimes[d->runtime_count++] = runtime;
	return runtime;
}

static void perform_claim(struct driver *d, unsigned app, bool fails)
{
	struct driver_step *s = &d->apps[app].step;

	s->claimed = CLAIM_FAIL;
	if (s->incarnation != d->fake.incarnation)
		s->claimed = CLAIM_LOST;
	else if (!fails || d->fails_uncertain)
		s->claimed = fake_claim(&d->fake, row_of(d, app), s->action.how, d->now_ms, &s->claim);
	if (fails && s->claimed != CLAIM_LOST)
		s->claimed = CLAIM_FAIL;
	if (s->claimed == CLAIM_BUILD)
		d->apps[app].claimed_row = s->claim.row;
}

static void perform_write(struct driver *d, unsigned app, bool fails)
{
	struct driver_step *s = &d->apps[app].step;

	s->done = POOL_RETRY;
	if (s->incarnation != d->fake.incarnation)
		s->done = POOL_LOST;
	else if (!fails || d->fails_uncertain)
		s->done = fake_write(&d->fake, row_of(d, app), &s->action, d->now_ms);
	if (fails && s->done != POOL_LOST)
		s->done = POOL_RETRY;
}

void driver_perform(struct driver *d, unsigned app)
{
	struct driver_step *s = &d->apps[app].step;

	if (!s->is_open || s->is_performed)
		return;
	bool fails = has_failed(d, app);
	s->is_performed = true;
	switch (s->action.kind) {
	case PA_READ:
		s->ok = !fails;
		fake_read(row_of(d, app), d->now_ms, &s->row);
		break;
	case PA_CLAIM:
		perform_claim(d, app, fails);
		break;
	case PA_BUILD:
		s->runtime = fails ? NULL : make_runtime(d, app, s->action.fallback);
		break;
	case PA_SUBSCRIBE:
		s->ok = !fails;
		break;
	case PA_CEILING:
		s->ok = d->fake.has_room_elsewhere;
		break;
	case PA_UNSUBSCRIBE:
		break;
	default:
		perform_write(d, app, fails);
		break;
	}
}

/* Effect and answer. */
static void answer(struct driver *d, unsigned app)
{
	struct driver_app *x = &d->apps[app];
	struct driver_step *s = &x->step;

	driver_perform(d, app);
	s->is_open = false;
	switch (s->action.kind) {
	case PA_READ:
		pool_row_read(d->pool, s->action.app, s->ok ? &s->row : NULL, d->now_ms);
		break;
	case PA_CLAIM:
		pool_claimed(d->pool, s->action.app, s->claimed, &s->claim, d->now_ms);
		break;
	case PA_BUILD:
		pool_built(d->pool, s->action.app, s->runtime, s->runtime ? NULL : "build failed", d->now_ms);
		break;
	case PA_SUBSCRIBE:
		x->is_subscribed |= s->ok;
		pool_subscribed(d->pool, s->action.app, s->ok, d->now_ms);
		break;
	case PA_CEILING:
		pool_ceiling_answer(d->pool, s->action.app, s->ok, d->now_ms);
		break;
	case PA_UNSUBSCRIBE:
		x->is_subscribed = false;
		x->has_left = true;
		pool_unsubscribed(d->pool, s->action.app, d->now_ms);
		break;
	default:
		x->is_retried = s->done == POOL_RETRY;
		pool_recorded(d->pool, s->action.app, s->done, d->now_ms);
		break;
	}
}

/* Every input ends with this. */
static void run(struct driver *d)
{
	unsigned app, count = 0;

	take_actions(d);
	while (!d->is_manual && next_step(d, &app) && EXPECT(++count < 1000)) {
		answer(d, app);
		take_actions(d);
	}
}

void driver_answer(struct driver *d, unsigned app)
{
	if (!d->apps[app].step.is_open)
		return;
	answer(d, app);
	run(d);
}

void driver_hold(struct driver *d, unsigned app, enum pool_action_kind kind)
{
	d->apps[app].held |= 1u << kind;
}

void driver_release(struct driver *d, unsigned app, enum pool_action_kind kind)
{
	d->apps[app].held &= ~(1u << kind);
	run(d);
}

void driver_fail(struct driver *d, unsigned app, enum pool_action_kind kind, unsigned times)
{
	d->apps[app].fails[kind] = times;
}

bool driver_is_at(const struct driver *d, unsigned app, enum pool_action_kind kind)
{
	return d->apps[app].step.is_open && d->apps[app].step.action.kind == kind;
}

/* --- inputs --- */

void driver_event(struct driver *d, unsigned app, bool is_demand)
{
	const struct app_row *row = &d->fake.apps[app].row;

	if (d->event_count == d->event_cap) {
		d->event_cap = d->event_cap == 0 ? 64 : 2 * d->event_cap;
		d->events = xrealloc(d->events, d->event_cap);
	}
	d->events[d->event_count++] = 0;
	pool_load_event(d->pool, &row->instance_id, &row->org_id, row->tier, is_demand,
			(void *)(uintptr_t)d->event_count, d->now_ms);
	run(d);
}

void driver_look(struct driver *d, unsigned app)
{
	pool_look(d->pool, &d->fake.apps[app].row.instance_id, d->now_ms);
	run(d);
}

void driver_look_org(struct driver *d, unsigned org)
{
	struct id id = org < FAKE_ORGS ? fake_org_id(org) : (struct id){""};

	pool_look_org(d->pool, &id, d->now_ms);
	run(d);
}

void driver_compare_row(struct driver *d, const struct app_row *row)
{
	pool_compare(d->pool, row, d->now_ms);
	run(d);
}

void driver_compare(struct driver *d, unsigned app)
{
	const struct fake_app *a = &d->fake.apps[app];
	struct app_row row;

	fake_read(a, d->now_ms, &row);
	row.is_surplus = a->is_elsewhere && a->has_place && a->place == PLACE_READY;
	driver_compare_row(d, &row);
}

void driver_orphan(struct driver *d, unsigned app)
{
	const struct app_row *row = &d->fake.apps[app].row;

	pool_orphan(d->pool, &row->instance_id, &row->org_id, d->now_ms);
	run(d);
}

void driver_advance(struct driver *d, int64_t ms)
{
	int64_t until_ms = d->now_ms + ms;
	unsigned count = 0;

	while (pool_next_wake(d->pool) <= until_ms && EXPECT(++count < 10000)) {
		if (pool_next_wake(d->pool) > d->now_ms)
			d->now_ms = pool_next_wake(d->pool);
		pool_tick(d->pool, d->now_ms);
		run(d);
	}
	d->now_ms = until_ms;
}

unsigned driver_turn(struct driver *d, unsigned app)
{
	unsigned turn = 0;
	void *runtime = NULL;

	while (turn < DRIVER_TURNS_MAX && d->turns[turn].copy != NULL)
		turn++;
	if (turn == DRIVER_TURNS_MAX)
		return DRIVER_NO_TURN;
	struct pool_copy *copy = pool_turn_begin(d->pool, &d->fake.apps[app].row.instance_id, &runtime, d->now_ms);
	if (copy != NULL) {
		struct id_bin id = id_to_bin(&d->fake.apps[app].row.instance_id);
		d->turns[turn] = (struct driver_turn){.copy = copy, .runtime = runtime, .app = app};
		d->turns[turn].runtime->turns++;
		EXPECT(!d->turns[turn].runtime->is_freed);
		EXPECT(memcmp(pool_copy_instance(copy), &id, sizeof(id)) == 0);
	}
	run(d);
	return copy != NULL ? turn : DRIVER_NO_TURN;
}

void driver_turn_end(struct driver *d, unsigned turn)
{
	if (!EXPECT(turn < DRIVER_TURNS_MAX)) /* it was refused */
		return;
	struct pool_copy *copy = d->turns[turn].copy;
	if (copy == NULL)
		return;
	d->turns[turn].copy = NULL;
	EXPECT(!d->turns[turn].runtime->is_freed);
	d->turns[turn].runtime->turns--;
	pool_turn_end(d->pool, copy, d->now_ms);
	run(d);
}

void driver_stop(struct driver *d, bool has_others, int64_t in_ms)
{
	d->fake.has_others = has_others;
	pool_stop(d->pool, has_others, d->now_ms + in_ms, d->now_ms);
	run(d);
}

void driver_handed_over(struct driver *d, unsigned app)
{
	pool_handed_over(d->pool, &d->fake.apps[app].row.instance_id, d->now_ms);
	run(d);
}

void driver_lose(struct driver *d)
{
	fake_new_incarnation(&d->fake);
	pool_lose_all(d->pool, d->now_ms);
	run(d);
}

void driver_load(struct driver *d, unsigned app)
{
	fake_load(row_of(d, app));
	driver_event(d, app, false);
}

void driver_demand(struct driver *d, unsigned app)
{
	fake_demand(row_of(d, app));
	driver_event(d, app, true);
}

/* --- looking --- */

static const struct pool_app *held_app(const struct driver *d, unsigned app)
{
	struct id_bin id = id_to_bin(&d->fake.apps[app].row.instance_id);

	return pool_find(d->pool, &id);
}

uint64_t driver_serves(const struct driver *d, unsigned app)
{
	const struct pool_app *held = held_app(d, app);

	return held != NULL && held->cur != NULL && !held->is_leaving && !held->is_lost ? held->cur->generation : 0;
}

char driver_version(const struct driver *d, unsigned app)
{
	return driver_serves(d, app) != 0 ? ((const struct runtime *)held_app(d, app)->cur->runtime)->version : '\0';
}

enum tier driver_tier(const struct driver *d, unsigned app)
{
	return held_app(d, app)->tier;
}

bool driver_has(const struct driver *d, unsigned app)
{
	return pool_has(d->pool, &d->fake.apps[app].row.instance_id);
}

unsigned driver_turns(const struct driver *d, unsigned app)
{
	unsigned count = 0;

	for (unsigned i = 0; i < DRIVER_TURNS_MAX; i++)
		count += d->turns[i].copy != NULL && d->turns[i].app == app;
	return count;
}

unsigned driver_runtimes(const struct driver *d, unsigned app)
{
	unsigned count = 0;

	for (size_t i = 0; i < d->runtime_count; i++)
		count += d->runtimes[i]->app == app && !d->runtimes[i]->is_freed;
	return count;
}

/* --- opening and closing --- */

void driver_open(struct driver *d)
{
	*d = (struct driver){
		.config =
			{
				.builds_max = 2,
				.hot_ceiling = 8,
				.demand_ceiling = 8,
				.ttl_ms = DRIVER_TTL_MS,
				.drain_ms = DRIVER_DRAIN_MS,
				.pin_ms = DRIVER_PIN_MS,
				.room_retry_ms = DRIVER_ROOM_RETRY_MS,
				.step_retry_ms = DRIVER_STEP_RETRY_MS,
			},
		.now_ms = 1000,
	};
	fake_init(&d->fake);
	d->pool = pool_new(&d->config);
}

void driver_configure(struct driver *d, uint32_t hot_ceiling, uint32_t demand_ceiling, unsigned builds_max)
{
	d->config.hot_ceiling = hot_ceiling;
	d->config.demand_ceiling = demand_ceiling;
	d->config.builds_max = builds_max;
	pool_configure(d->pool, &d->config);
	run(d);
}

unsigned driver_add(struct driver *d, unsigned org, enum tier tier)
{
	return fake_add(&d->fake, org, tier);
}

static void end_everything(struct driver *d)
{
	d->is_manual = d->fails_uncertain = false;
	for (unsigned i = 0; i < d->fake.count; i++) {
		d->apps[i].held = 0;
		memset(d->apps[i].fails, 0, sizeof(d->apps[i].fails));
	}
	run(d);
	driver_stop(d, false, 0);
	for (unsigned i = 0; i < DRIVER_TURNS_MAX; i++)
		driver_turn_end(d, i);
	driver_advance(d, LONG_MS);
}

void driver_close(struct driver *d)
{
	end_everything(d);
	EXPECT(pool_is_empty(d->pool));
	EXPECT(d->slots == 0);
	for (size_t i = 0; i < d->runtime_count; i++) {
		EXPECT(d->runtimes[i]->is_freed);
		free(d->runtimes[i]);
	}
	for (size_t i = 0; i < d->event_count; i++)
		EXPECT(d->events[i] == 1);
	pool_free(&d->pool);
	free(d->runtimes);
	free(d->events);
}
