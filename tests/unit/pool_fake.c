/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/pool_fake.h"

#include <stdio.h>
#include <string.h>

#define DEAD_ATTEMPTS_MAX PLACE_ATTEMPTS_MAX

static struct id number_id(unsigned kind, unsigned number)
{
	struct id id;

	(void)snprintf(id.text, sizeof(id.text), "0192f0c1-0000-7000-8000-%04x%08x", kind & 0xffffu, number);
	return id;
}

static void set_version(char hash[SECRET_HASH_HEX_SIZE], char letter)
{
	memset(hash, letter, SECRET_HASH_HEX_SIZE - 1);
	hash[SECRET_HASH_HEX_SIZE - 1] = '\0';
}

void fake_init(struct fake *f)
{
	*f = (struct fake){.incarnation = 1};
	for (unsigned i = 0; i < FAKE_ORGS; i++)
		f->quota_demand[i] = FAKE_APPS_MAX;
}

struct id fake_org_id(unsigned org)
{
	return number_id(2, org);
}

unsigned fake_add(struct fake *f, unsigned org, enum tier tier)
{
	struct fake_app *a = &f->apps[f->count];

	*a = (struct fake_app){
		.row =
			{
				.is_found = true,
				.instance_id = number_id(1, f->count),
				.org_id = fake_org_id(org),
				.is_active = true,
				.tier = tier,
				.generation = 1,
				.ttl_seconds = -1,
				.drain_s = -1,
				.replicas = 1,
			},
	};
	set_version(a->row.hash, 'a');
	return f->count++;
}

/* --- requests --- */

static void raise_generation(struct fake_app *a)
{
	if (a->row.generation < a->last_generation)
		a->row.generation = a->last_generation;
	a->row.generation++;
	a->row.drain_s = -1;
	a->failures = a->dead_attempts = 0;
	a->next_attempt_ms = 0;
}

bool fake_is_wanted_hot(const struct fake_app *a)
{
	return a->row.is_found && a->row.is_active && a->row.tier == TIER_HOT && a->row.desired_state == DESIRED_LOADED;
}

static void ask_for_copy(struct fake_app *a)
{
	a->load_op = a->row.generation;
	a->unload_op = 0;
	a->is_elsewhere_behind |= a->is_elsewhere;
	a->is_elsewhere = false;
}

/* A change of a copy: an operation where there is one, or should be. */
static void ask_where_held(struct fake_app *a)
{
	if (a->row.is_active &&
	    ((a->has_place && a->place != PLACE_FAILED) || a->load_op != 0 || fake_is_wanted_hot(a)))
		ask_for_copy(a);
}

void fake_load(struct fake_app *a)
{
	raise_generation(a);
	a->row.desired_state = DESIRED_LOADED;
	ask_for_copy(a);
}

void fake_demand(struct fake_app *a)
{
	if (a->load_op == 0)
		a->load_op = a->row.generation;
}

void fake_reload(struct fake_app *a)
{
	fake_load(a);
	a->row.rebuild_generation = a->row.generation;
}

static void want_nothing(struct fake_app *a)
{
	raise_generation(a);
	a->row.unload_generation = a->row.generation;
	a->load_op = 0;
	a->unload_op = a->row.generation;
	a->is_elsewhere = a->is_elsewhere_behind = a->is_elsewhere_loading = false;
	fake_settle(a);
}

void fake_unload(struct fake_app *a, int64_t drain_s)
{
	a->row.desired_state = DESIRED_UNLOADED;
	want_nothing(a);
	a->row.drain_s = drain_s;
}

void fake_config(struct fake_app *a, char letter)
{
	raise_generation(a);
	set_version(a->row.hash, letter);
	ask_where_held(a);
}

void fake_tier(struct fake_app *a, enum tier tier)
{
	raise_generation(a);
	a->row.tier = tier;
	ask_where_held(a);
}

void fake_ttl(struct fake_app *a, int64_t ttl_seconds)
{
	raise_generation(a);
	a->row.ttl_seconds = ttl_seconds;
	ask_where_held(a);
}

void fake_suspend(struct fake_app *a, bool is_suspended)
{
	a->row.is_active = !is_suspended;
	if (is_suspended) {
		want_nothing(a);
		return;
	}
	raise_generation(a);
	ask_where_held(a);
}

void fake_restore(struct fake_app *a, uint64_t generation)
{
	if (a->last_generation < a->row.generation)
		a->last_generation = a->row.generation;
	a->row.generation = generation;
	if (a->row.unload_generation > generation)
		a->row.unload_generation = generation;
	if (a->row.rebuild_generation > generation)
		a->row.rebuild_generation = generation;
	a->load_op = a->unload_op = 0;
}

/* --- what a worker reads --- */

void fake_read(const struct fake_app *a, int64_t now_ms, struct app_row *ret_row)
{
	*ret_row = (struct app_row){.instance_id = a->row.instance_id, .ttl_seconds = -1, .drain_s = -1};
	if (!a->row.is_found)
		return;
	*ret_row = a->row;
	ret_row->good_hash[0] = '\0'; /* only from a claim */
	ret_row->has_load_wanted = a->load_op != 0;
	ret_row->is_recorded = a->has_place && a->place == PLACE_READY && a->place_generation == a->row.generation &&
			       a->place_tier == a->row.tier;
	ret_row->retry_in_ms = a->next_attempt_ms > now_ms ? a->next_attempt_ms - now_ms : 0;
}

/* --- what a worker writes --- */

void fake_settle(struct fake_app *a)
{
	bool is_fulfilled =
		a->has_place && a->place == PLACE_READY && !a->is_fallback && a->place_generation >= a->load_op;

	if (a->load_op != 0 && (is_fulfilled || a->is_elsewhere)) {
		a->load_op = 0;
		a->loads_done++;
	}
	if (a->unload_op != 0 && !(a->has_place && a->place_generation < a->unload_op)) {
		a->unload_op = 0;
		a->unloads_done++;
	}
}

static void fail_load(struct fake_app *a, uint64_t generation, const char *reason)
{
	(void)snprintf(a->reason, sizeof(a->reason), "%s", reason);
	if (a->load_op == 0 || a->load_op > generation)
		return;
	a->load_op = 0;
	a->loads_failed++;
}

static void remove_place(struct fake_app *a)
{
	a->has_place = a->is_own_build = false;
	fake_settle(a);
}

static bool is_over_demand_quota(const struct fake *f, const struct fake_app *a)
{
	unsigned org = 0, held = 0;

	(void)sscanf(a->row.org_id.text + 28, "%8x", &org);
	for (unsigned i = 0; i < f->count; i++) {
		const struct fake_app *b = &f->apps[i];
		held += b != a && id_equal(&b->row.org_id, &a->row.org_id) && b->has_place &&
			b->place_tier == TIER_DEMAND && (b->place == PLACE_LOADING || b->place == PLACE_READY);
	}
	return held >= f->quota_demand[org];
}

static enum claim_result decide_claim(const struct fake *f, struct fake_app *a, unsigned how, int64_t now_ms)
{
	bool is_rebuild = how & CLAIM_HOW_REBUILD;
	bool is_ending =
		a->has_place && (a->place == PLACE_DRAINING || a->place_generation < a->row.unload_generation ||
				 a->place_generation > a->row.generation);

	if (!a->row.is_found || !a->row.is_active)
		return CLAIM_NOT_WANTED;
	if (a->next_attempt_ms > now_ms)
		return CLAIM_BACKOFF;
	if (a->dead_attempts >= DEAD_ATTEMPTS_MAX)
		return CLAIM_POISON;
	if (is_rebuild && is_ending)
		return CLAIM_NOT_WANTED;
	if (!is_rebuild && (a->is_elsewhere || a->is_elsewhere_behind))
		return a->is_elsewhere ? CLAIM_ENOUGH : CLAIM_PASS_ON;
	if (!is_rebuild && a->is_elsewhere_loading)
		return CLAIM_LOADING;
	if (!is_rebuild && a->load_op == 0)
		return CLAIM_NOT_WANTED;
	if (a->dead_attempts > 0 && !(how & CLAIM_HOW_ALONE))
		return CLAIM_ALONE;
	if (!is_rebuild && a->row.tier == TIER_DEMAND && is_over_demand_quota(f, a))
		return CLAIM_QUOTA;
	return CLAIM_BUILD;
}

static void place_build(struct fake_app *a, bool is_rebuild)
{
	a->is_own_build = true;
	if (is_rebuild && a->has_place && a->place == PLACE_READY)
		return;
	a->has_place = true;
	a->place = PLACE_LOADING;
	a->place_tier = a->row.tier;
	a->place_generation = a->row.generation;
	a->is_fallback = false;
}

enum claim_result fake_claim(struct fake *f, struct fake_app *a, unsigned how, int64_t now_ms, struct claim *ret_claim)
{
	enum claim_result result = CLAIM_LOST;

	if (!f->is_dead)
		result = decide_claim(f, a, how, now_ms);
	if (result == CLAIM_POISON) {
		fail_load(a, a->row.generation, "poison");
		if (a->has_place && (a->place == PLACE_LOADING || a->place == PLACE_FAILED))
			remove_place(a);
	}
	if (result == CLAIM_BUILD)
		place_build(a, how & CLAIM_HOW_REBUILD);
	else if (result != CLAIM_LOST)
		fake_settle(a);
	*ret_claim = (struct claim){0};
	fake_read(a, now_ms, &ret_claim->row);
	if (result == CLAIM_BUILD)
		memcpy(ret_claim->row.good_hash, a->row.good_hash, sizeof(a->row.good_hash));
	return result;
}

/* What serves is recorded whatever the row asks for by now; the answer tells the worker to look again. */
static enum pool_done write_ready(struct fake_app *a, const struct pool_action *w)
{
	bool is_now = w->generation == a->row.generation && a->row.is_active;

	a->has_place = true;
	a->is_own_build = false;
	a->place = PLACE_READY;
	a->place_tier = w->tier;
	a->place_generation = w->generation;
	a->is_fallback = w->reason != NULL;
	if (is_now && !a->is_fallback) {
		a->failures = a->dead_attempts = 0;
		a->next_attempt_ms = 0;
	}
	if (w->hash != NULL && strcmp(w->hash, a->row.hash) == 0)
		memcpy(a->row.good_hash, a->row.hash, sizeof(a->row.hash));
	if (w->generation <= a->row.generation)
		fake_settle(a);
	return is_now ? POOL_DONE : POOL_CHANGED;
}

static enum pool_done write_failed(struct fake_app *a, const struct pool_action *w, int64_t now_ms)
{
	bool is_now = w->generation == a->row.generation;

	if (is_now && w->retry_s > 0) {
		a->next_attempt_ms = now_ms + (int64_t)w->retry_s * 1000;
	} else if (is_now) {
		int64_t wait_s = 1 << (a->failures < 9 ? a->failures : 9);
		a->next_attempt_ms = now_ms + (wait_s < 300 ? wait_s : 300) * 1000;
		a->failures++;
		a->dead_attempts = 0;
	}
	a->is_own_build = false;
	if (!w->keep && a->has_place)
		a->place = PLACE_FAILED;
	fail_load(a, w->generation, w->reason);
	fake_settle(a);
	return is_now ? POOL_DONE : POOL_CHANGED;
}

static void hand_over(const struct fake *f, struct fake_app *a, int64_t now_ms)
{
	if (!f->has_others || !fake_is_wanted_hot(a) || a->load_op != 0 || a->next_attempt_ms > now_ms ||
	    a->is_elsewhere)
		return;
	a->load_op = a->row.generation;
	a->recoveries++;
}

enum pool_done fake_write(struct fake *f, struct fake_app *a, const struct pool_action *w, int64_t now_ms)
{
	if (!a->row.is_found)
		return POOL_CHANGED;
	if (f->is_dead)
		return POOL_LOST;
	switch (w->kind) {
	case PA_READY:
		return write_ready(a, w);
	case PA_FAILED:
		return write_failed(a, w, now_ms);
	case PA_GIVE_BACK:
		a->is_own_build = false;
		if (a->has_place && a->place == PLACE_LOADING)
			a->has_place = false;
		break;
	case PA_DRAINING:
		if (w->evict == EVICT_SURPLUS &&
		    !(a->is_elsewhere && a->has_place && a->place == PLACE_READY && !a->is_own_build))
			return POOL_CHANGED;
		a->is_own_build = false;
		if (a->has_place)
			a->place = PLACE_DRAINING;
		if (w->hand_over)
			hand_over(f, a, now_ms);
		break;
	default: /* PA_GONE */
		a->has_place = a->is_own_build = false;
		break;
	}
	fake_settle(a);
	return POOL_DONE;
}

void fake_new_incarnation(struct fake *f)
{
	f->incarnation++;
	f->is_dead = false;
	for (unsigned i = 0; i < f->count; i++) {
		f->apps[i].dead_attempts += f->apps[i].is_own_build;
		remove_place(&f->apps[i]);
	}
}
