/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool under a seeded random life: requests, events late, twice and never,
 * steps answered in any order, failing, or failing although they happened, turns, time, a dead
 * incarnation, a stop. After each step the books are checked, and what must never happen; at the end, when all is
 * delivered and nothing fails, the pool holds what the rows say. A failure prints its seed and step.
 */
#include <stdio.h>
#include <string.h>

#include "tests/unit/harness.h"
#include "tests/unit/pool_check.h"
#include "tests/unit/pool_driver.h"
#include "worker/pool/private.h"

#define APPS 20
#define LETTERS_MAX 64 /* events under way */
#define SEEDS 300
#define STEPS 2000

struct letter {
	unsigned app;
	bool is_load, is_demand;
};

struct sim {
	struct driver d;
	uint64_t random;
	struct letter letters[LETTERS_MAX];
	unsigned letter_count;
	struct app_row stale[APPS]; /* rows as a slow reconcile read them */
	unsigned backs_seen[APPS];
	uint32_t hot, demand; /* counts before the step */
	unsigned fails_percent;
};

/* splitmix64 */
static uint64_t next_random(struct sim *s)
{
	uint64_t z = s->random += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static unsigned below(struct sim *s, unsigned limit)
{
	return (unsigned)(next_random(s) % limit);
}

static bool chance(struct sim *s, unsigned percent)
{
	return below(s, 100) < percent;
}

/* --- events --- */

static void send_letter(struct sim *s, unsigned app, bool is_load, bool is_demand)
{
	if (s->letter_count < LETTERS_MAX)
		s->letters[s->letter_count++] = (struct letter){.app = app, .is_load = is_load, .is_demand = is_demand};
}

/* Sent as the application would, or the other way, or twice, or not at all. */
static void announce(struct sim *s, unsigned app, bool is_demand)
{
	bool is_load = !s->d.fake.apps[app].has_place;

	if (chance(s, 10))
		return;
	if (chance(s, 10))
		is_load = !is_load;
	send_letter(s, app, is_load, is_demand);
	if (chance(s, 15))
		send_letter(s, app, is_load, is_demand);
}

static void deliver(struct sim *s, unsigned i)
{
	struct letter letter = s->letters[i];

	s->letters[i] = s->letters[--s->letter_count];
	if (letter.is_load)
		driver_event(&s->d, letter.app, letter.is_demand);
	else
		driver_look(&s->d, letter.app);
}

static void deliver_one(struct sim *s)
{
	if (s->letter_count > 0)
		deliver(s, below(s, s->letter_count));
}

/* What came back is delivered again, mostly. */
static void redeliver(struct sim *s)
{
	for (unsigned i = 0; i < APPS; i++) {
		unsigned backs = s->d.apps[i].seen[PA_EVENT_BACK];
		if (backs != s->backs_seen[i] && chance(s, 70))
			send_letter(s, i, true, false);
		s->backs_seen[i] = backs;
	}
}

/* --- requests --- */

static void request_change(struct sim *s, struct fake_app *a)
{
	static const char versions[] = {'a', 'b', 'c', FAKE_BAD};

	switch (below(s, 6)) {
	case 0:
	case 1:
		fake_config(a, versions[below(s, sizeof(versions))]);
		break;
	case 2:
	case 3:
		fake_tier(a, a->row.tier == TIER_HOT ? TIER_DEMAND : TIER_HOT);
		break;
	case 4:
		fake_ttl(a, chance(s, 50) ? 2 : 1000000);
		break;
	default:
		if (a->row.generation > 3 && chance(s, 10))
			fake_restore(a, a->row.generation - 1 - below(s, 2));
		else
			fake_suspend(a, true);
		break;
	}
}

static void request(struct sim *s)
{
	static const int64_t drains_s[] = {-1, 0, 1};
	unsigned app = below(s, APPS);
	struct fake_app *a = &s->d.fake.apps[app];
	unsigned what = below(s, 100);
	bool is_demand = false;

	if (!a->row.is_active)
		fake_suspend(a, chance(s, 50));
	else if (what < 25)
		fake_load(a);
	else if (what < 50 && a->row.tier == TIER_DEMAND && driver_serves(&s->d, app) == 0)
		fake_demand(a), is_demand = true;
	else if (what < 65)
		fake_unload(a, drains_s[below(s, 3)]);
	else if (what < 75)
		fake_reload(a);
	else
		request_change(s, a);
	announce(s, app, is_demand);
}

/* --- other workers, recovery, reconcile --- */

static void other_worker(struct sim *s)
{
	struct fake_app *a = &s->d.fake.apps[below(s, APPS)];

	if (a->is_elsewhere_behind || a->is_elsewhere_loading || (a->load_op != 0 && chance(s, 30))) {
		a->is_elsewhere = true;
		a->is_elsewhere_behind = a->is_elsewhere_loading = false;
	} else if (a->load_op != 0) {
		a->is_elsewhere_loading = chance(s, 50);
	} else if (chance(s, 50)) {
		a->is_elsewhere = false;
	}
	fake_settle(a);
}

static void recover_app(struct sim *s, unsigned app)
{
	struct fake_app *a = &s->d.fake.apps[app];
	bool is_live = a->has_place && (a->place == PLACE_LOADING || a->place == PLACE_READY);
	bool is_busy = a->has_place && (a->place == PLACE_LOADING || a->place == PLACE_DRAINING);

	if (fake_is_wanted_hot(a) && a->load_op == 0 && !a->is_elsewhere && !a->is_elsewhere_behind && !is_live &&
	    a->next_attempt_ms <= s->d.now_ms && a->dead_attempts < PLACE_ATTEMPTS_MAX) {
		a->load_op = a->row.generation;
		a->recoveries++;
	}
	fake_settle(a);
	if ((a->load_op != 0 || a->unload_op != 0) && !is_busy)
		send_letter(s, app, a->load_op != 0 && !is_live, false);
}

/* What reconcile has read may be over by now. */
static void remove_orphan(struct sim *s, unsigned app)
{
	if (s->d.fake.apps[app].has_place || chance(s, 10))
		driver_orphan(&s->d, app);
}

static void reconcile_app(struct sim *s, unsigned app)
{
	if (chance(s, 50)) {
		driver_compare_row(&s->d, &s->stale[app]);
		fake_read(&s->d.fake.apps[app], s->d.now_ms, &s->stale[app]);
	} else {
		driver_compare(&s->d, app);
	}
	remove_orphan(s, app);
}

/* --- steps and turns --- */

static void answer_one(struct sim *s)
{
	unsigned open[APPS], count = 0;

	for (unsigned i = 0; i < APPS; i++) {
		if (s->d.apps[i].step.is_open)
			open[count++] = i;
	}
	if (count == 0)
		return;
	unsigned app = open[below(s, count)];
	struct driver_app *x = &s->d.apps[app];
	bool fails = !x->step.is_performed && chance(s, s->fails_percent);
	s->d.fails_uncertain = chance(s, 50);
	driver_fail(&s->d, app, x->step.action.kind, fails);
	if (chance(s, 25))
		driver_perform(&s->d, app);
	else
		driver_answer(&s->d, app);
}

static void begin_turn(struct sim *s)
{
	unsigned app = below(s, APPS);
	const struct driver_app *x = &s->d.apps[app];

	if (!x->is_subscribed && !chance(s, 10))
		return;
	unsigned turn = driver_turn(&s->d, app);
	if (turn == DRIVER_NO_TURN)
		return;
	EXPECT(!x->has_left);
	EXPECT(!s->d.turns[turn].copy->app->is_lost);
}

static void end_turn(struct sim *s)
{
	driver_turn_end(&s->d, below(s, DRIVER_TURNS_MAX / 8));
}

/* --- one step --- */

/* Loads never bring a tier above its ceiling; only a revived App may be one too many. */
static void check_ceilings(struct sim *s, unsigned revived)
{
	struct pool_counts counts = pool_counts(s->d.pool);
	uint32_t hot = s->d.pool->counts[CLASS_HOT] + s->d.pool->counts[CLASS_LOADING_HOT];
	uint32_t demand = counts.hot + counts.demand + counts.loading - hot;

	EXPECT(hot <= s->hot || hot <= s->d.config.hot_ceiling);
	EXPECT(demand <= s->demand || demand <= s->d.config.demand_ceiling || revived > 0);
	s->hot = hot;
	s->demand = demand;
}

static void note_steps(const struct sim *s, enum pool_action_kind kinds[APPS])
{
	for (unsigned i = 0; i < APPS; i++)
		kinds[i] = s->d.apps[i].step.is_open ? s->d.apps[i].step.action.kind : PA_REMOVED;
}

static unsigned count_revived(const struct sim *s, const enum pool_action_kind before[APPS])
{
	unsigned revived = 0;

	for (unsigned i = 0; i < APPS; i++)
		revived += before[i] == PA_DRAINING && driver_is_at(&s->d, i, PA_READY);
	return revived;
}

static void die_or_learn_it(struct sim *s)
{
	if (!s->d.fake.is_dead)
		s->d.fake.is_dead = chance(s, 20);
	else
		driver_lose(&s->d);
}

static void change_settings(struct sim *s)
{
	driver_configure(&s->d, 3 + below(s, 6), 3 + below(s, 6), s->d.config.builds_max + below(s, 2));
}

static void one_step(struct sim *s)
{
	enum pool_action_kind before[APPS];
	unsigned what = below(s, 1000);

	note_steps(s, before);
	if (what < 100)
		request(s);
	else if (what < 103)
		driver_look_org(&s->d, below(s, FAKE_ORGS + 1));
	else if (what < 250)
		deliver_one(s);
	else if (what < 600)
		answer_one(s);
	else if (what < 720)
		begin_turn(s);
	else if (what < 840)
		end_turn(s);
	else if (what < 910)
		driver_advance(&s->d, below(s, 1500));
	else if (what < 950)
		reconcile_app(s, below(s, APPS));
	else if (what < 980)
		recover_app(s, below(s, APPS));
	else if (what < 988)
		other_worker(s);
	else if (what < 993)
		s->d.fake.has_room_elsewhere = chance(s, 50);
	else if (what < 996)
		change_settings(s);
	else
		die_or_learn_it(s);
	redeliver(s);
	check_ceilings(s, count_revived(s, before));
}

/* --- the end --- */

static void settle_round(struct sim *s)
{
	while (s->letter_count > 0)
		deliver(s, s->letter_count - 1);
	for (unsigned i = 0; i < APPS; i++) {
		s->d.fake.apps[i].is_elsewhere |= s->d.fake.apps[i].is_elsewhere_behind;
		s->d.fake.apps[i].is_elsewhere_behind = s->d.fake.apps[i].is_elsewhere_loading = false;
		driver_compare(&s->d, i);
		remove_orphan(s, i);
		recover_app(s, i);
	}
	driver_advance(&s->d, 20000);
	redeliver(s);
}

/* Nothing fails any more, everything is delivered, and enough time passes for every backoff. */
static void settle_all(struct sim *s)
{
	if (s->d.fake.is_dead)
		driver_lose(&s->d);
	s->fails_percent = 0;
	s->d.is_manual = s->d.fake.has_room_elsewhere = false;
	s->d.config.ttl_ms = 1000000000;
	for (unsigned i = 0; i < APPS; i++)
		memset(s->d.apps[i].fails, 0, sizeof(s->d.apps[i].fails));
	driver_configure(&s->d, s->d.config.hot_ceiling, s->d.config.demand_ceiling, s->d.config.builds_max);
	for (unsigned i = 0; i < DRIVER_TURNS_MAX; i++)
		driver_turn_end(&s->d, i);
	for (unsigned i = 0; i < 40; i++)
		settle_round(s);
	while (s->letter_count > 0)
		deliver(s, s->letter_count - 1);
}

static bool is_full(const struct sim *s, enum tier tier)
{
	return !pool_has_room(s->d.pool, tier);
}

static bool is_bad(const struct fake_app *a)
{
	return a->row.hash[0] == FAKE_BAD;
}

static void check_held(const struct sim *s, unsigned app)
{
	const struct fake_app *a = &s->d.fake.apps[app];
	uint64_t generation = driver_serves(&s->d, app);
	enum tier tier = driver_tier(&s->d, app);
	bool is_blocked = tier != a->row.tier && is_full(s, a->row.tier);

	EXPECT(a->row.is_active);
	EXPECT(generation >= a->row.unload_generation && generation <= a->row.generation);
	EXPECT(generation == a->row.generation || is_bad(a) || is_blocked);
	EXPECT(driver_version(&s->d, app) == a->row.hash[0] || is_bad(a));
	EXPECT(tier == a->row.tier || is_bad(a) || is_blocked);
	EXPECT(a->has_place && a->place == PLACE_READY && a->place_generation == generation && a->place_tier == tier);
	EXPECT(s->d.apps[app].is_subscribed);
	EXPECT(driver_runtimes(&s->d, app) == 1);
}

static void check_not_held(const struct sim *s, unsigned app)
{
	const struct fake_app *a = &s->d.fake.apps[app];
	bool cannot_build = is_bad(a) && (a->row.good_hash[0] == '\0' || a->row.good_hash[0] == FAKE_BAD);

	EXPECT(!fake_is_wanted_hot(a) || a->is_elsewhere || cannot_build || is_full(s, TIER_HOT) ||
	       a->dead_attempts >= PLACE_ATTEMPTS_MAX);
	EXPECT(!a->has_place || (a->place == PLACE_FAILED && driver_has(&s->d, app)));
	EXPECT(!s->d.apps[app].is_subscribed);
	EXPECT(driver_runtimes(&s->d, app) == 0);
}

static void check_settled(const struct sim *s)
{
	for (unsigned i = 0; i < APPS; i++) {
		const struct fake_app *a = &s->d.fake.apps[i];
		EXPECT(!s->d.apps[i].step.is_open);
		EXPECT(a->unload_op == 0);
		EXPECT(a->load_op == 0 || a->next_attempt_ms > s->d.now_ms);
		if (driver_serves(&s->d, i) != 0)
			check_held(s, i);
		else
			check_not_held(s, i);
	}
}

/* SIGTERM in the middle of it: at the deadline every turn was told to end. */
static void stop_in_between(struct sim *s)
{
	driver_stop(&s->d, chance(s, 50), 5000);
	for (unsigned i = 0; i < 300; i++) {
		switch (below(s, 6)) {
		case 0:
			deliver_one(s);
			break;
		case 1:
			driver_advance(&s->d, below(s, 50));
			break;
		case 2:
			driver_handed_over(&s->d, below(s, APPS));
			break;
		case 3:
			end_turn(s);
			break;
		case 4:
			begin_turn(s);
			break;
		default:
			answer_one(s);
			break;
		}
	}
	driver_advance(&s->d, 10000);
	for (unsigned i = 0; i < 1000; i++)
		answer_one(s);
	driver_advance(&s->d, 10000);
	for (unsigned i = 0; i < DRIVER_TURNS_MAX; i++)
		EXPECT(s->d.turns[i].copy == NULL || s->d.turns[i].is_cut);
}

static void open_sim(struct sim *s, uint64_t seed)
{
	*s = (struct sim){.random = seed * 1000003};
	driver_open(&s->d);
	s->d.is_manual = true;
	s->d.config.ttl_ms = 4000;
	s->d.config.drain_ms = 2000;
	s->d.config.pin_ms = 1000;
	driver_configure(&s->d, 3 + below(s, 6), 3 + below(s, 6), 1 + below(s, 4));
	s->fails_percent = below(s, 3) * 5;
	for (unsigned i = 0; i < APPS; i++) {
		(void)driver_add(&s->d, below(s, FAKE_ORGS), below(s, 2) ? TIER_HOT : TIER_DEMAND);
		fake_read(&s->d.fake.apps[i], s->d.now_ms, &s->stale[i]);
	}
	for (unsigned i = 0; i < FAKE_ORGS; i++)
		s->d.fake.quota_demand[i] = 1 + below(s, 6);
}

static void live(uint64_t seed)
{
	struct sim s;
	unsigned failures = CU_get_number_of_failures();

	open_sim(&s, seed);
	for (unsigned i = 0; i < STEPS && CU_get_number_of_failures() == failures; i++) {
		(void)snprintf(pool_context, sizeof(pool_context), "seed %llu step %u", (unsigned long long)seed, i);
		one_step(&s);
	}
	(void)snprintf(pool_context, sizeof(pool_context), "seed %llu, at the end", (unsigned long long)seed);
	if (seed % 3 == 0) {
		stop_in_between(&s);
	} else if (CU_get_number_of_failures() == failures) {
		settle_all(&s);
		check_settled(&s);
	}
	driver_close(&s.d);
	pool_context[0] = '\0';
}

static void whatever_happens_the_pool_becomes_what_the_rows_say(void)
{
	for (uint64_t seed = 1; seed <= SEEDS && CU_get_number_of_failures() == 0; seed++)
		live(seed);
}

static CU_TestInfo cases[] = {
	CASE(whatever_happens_the_pool_becomes_what_the_rows_say),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{.pName = "pool_sim", .pTests = cases},
	CU_SUITE_INFO_NULL,
};
