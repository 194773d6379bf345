/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool's rules, each race by name, with the clock and every answer in the
 * test's hand. What nobody thought of is test_pool_sim's.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/macros.h"
#include "tests/unit/harness.h"
#include "tests/unit/pool_check.h"
#include "tests/unit/pool_driver.h"

static struct driver d;

static struct fake_app *row(unsigned app)
{
	return &d.fake.apps[app];
}

static unsigned loaded(unsigned org, enum tier tier)
{
	unsigned app = driver_add(&d, org, tier);

	driver_load(&d, app);
	EXPECT(driver_serves(&d, app) != 0);
	return app;
}

static void unload(unsigned app, int64_t drain_s)
{
	fake_unload(row(app), drain_s);
	driver_look(&d, app);
}

static bool is_reason(unsigned app, const char *reason)
{
	return strcmp(row(app)->reason, reason) == 0;
}

/* --- eviction --- */

static void a_target_revived_while_it_is_being_evicted_serves_on(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_DEMAND);
	driver_hold(&d, app, PA_DRAINING);
	driver_advance(&d, DRIVER_TTL_MS);
	EXPECT(driver_is_at(&d, app, PA_DRAINING));
	driver_perform(&d, app); /* `draining` is committed, the answer is on its way */
	unsigned turn = driver_turn(&d, app);
	EXPECT(turn != DRIVER_NO_TURN);
	driver_release(&d, app, PA_DRAINING);
	EXPECT(driver_serves(&d, app) != 0);
	EXPECT(d.apps[app].seen[PA_UNSUBSCRIBE] == 0);
	EXPECT(row(app)->place == PLACE_READY);
	driver_turn_end(&d, turn);
	EXPECT(driver_runtimes(&d, app) == 1);
	driver_close(&d);
}

static void a_load_that_comes_while_it_is_evicted_brings_it_back(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_DEMAND);
	driver_hold(&d, app, PA_UNSUBSCRIBE);
	driver_advance(&d, DRIVER_TTL_MS);
	EXPECT(driver_is_at(&d, app, PA_UNSUBSCRIBE));
	driver_demand(&d, app);
	driver_release(&d, app, PA_UNSUBSCRIBE);
	EXPECT(driver_serves(&d, app) != 0);
	EXPECT(row(app)->load_op == 0);
	EXPECT(driver_runtimes(&d, app) == 1);
	driver_close(&d);
}

static void an_eviction_asked_for_while_loading_takes_nobody(void)
{
	driver_open(&d);
	driver_configure(&d, 8, 1, 2);
	unsigned loading = driver_add(&d, 0, TIER_DEMAND), other = driver_add(&d, 0, TIER_DEMAND);
	driver_hold(&d, loading, PA_BUILD);
	driver_load(&d, loading);
	driver_load(&d, other);
	EXPECT(is_reason(other, "demand_ceiling"));
	EXPECT(driver_is_at(&d, loading, PA_BUILD));
	driver_release(&d, loading, PA_BUILD);
	EXPECT(driver_serves(&d, loading) != 0);
	EXPECT(d.apps[loading].evicted[EVICT_ROOM] == 0);
	driver_close(&d);
}

static void nobody_is_evicted_before_it_served_the_request_it_was_loaded_for(void)
{
	driver_open(&d);
	driver_configure(&d, 8, 1, 2);
	unsigned first = driver_add(&d, 0, TIER_DEMAND), second = driver_add(&d, 0, TIER_DEMAND);
	driver_demand(&d, first);
	driver_demand(&d, second);
	EXPECT(driver_serves(&d, first) != 0);
	EXPECT(is_reason(second, "demand_ceiling"));
	driver_turn_end(&d, driver_turn(&d, first));
	driver_advance(&d, 1000); /* the refusal's own delay */
	driver_demand(&d, second);
	EXPECT(driver_serves(&d, first) == 0);
	EXPECT(d.apps[first].evicted[EVICT_ROOM] == 1);
	EXPECT(driver_serves(&d, second) != 0);
	driver_close(&d);
}

static void a_request_that_arrives_while_the_ttl_stop_runs_is_served(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_DEMAND);
	driver_hold(&d, app, PA_UNSUBSCRIBE);
	driver_advance(&d, DRIVER_TTL_MS);
	unsigned turn = driver_turn(&d, app);
	EXPECT(turn != DRIVER_NO_TURN);
	driver_release(&d, app, PA_UNSUBSCRIBE);
	EXPECT(driver_runtimes(&d, app) == 1);
	EXPECT(row(app)->has_place);
	driver_turn_end(&d, turn);
	EXPECT(driver_runtimes(&d, app) == 0);
	EXPECT(!row(app)->has_place);
	EXPECT(!driver_has(&d, app));
	driver_close(&d);
}

/* It serves from its subscription on; that it is ready is written after. */
static void a_request_served_before_the_copy_was_recorded_pins_nothing(void)
{
	driver_open(&d);
	driver_configure(&d, 8, 1, 2);
	unsigned first = driver_add(&d, 0, TIER_DEMAND), second = driver_add(&d, 0, TIER_DEMAND);
	driver_hold(&d, first, PA_READY);
	driver_demand(&d, first);
	EXPECT(driver_is_at(&d, first, PA_READY));
	driver_turn_end(&d, driver_turn(&d, first));
	driver_release(&d, first, PA_READY);
	driver_demand(&d, second);
	EXPECT(driver_serves(&d, second) != 0);
	EXPECT(d.apps[first].evicted[EVICT_ROOM] == 1);
	driver_close(&d);
}

static void a_turn_in_flight_keeps_its_app_from_being_evicted(void)
{
	driver_open(&d);
	driver_configure(&d, 8, 1, 2);
	unsigned busy = loaded(0, TIER_DEMAND), other = driver_add(&d, 0, TIER_DEMAND);
	unsigned turn = driver_turn(&d, busy);
	driver_load(&d, other);
	EXPECT(driver_serves(&d, busy) != 0);
	EXPECT(is_reason(other, "demand_ceiling"));
	driver_turn_end(&d, turn);
	driver_close(&d);
}

static void the_same_org_makes_room_first_and_the_least_recently_used(void)
{
	driver_open(&d);
	driver_configure(&d, 8, 3, 2);
	unsigned foreign = loaded(1, TIER_DEMAND), older = loaded(0, TIER_DEMAND), newer = loaded(0, TIER_DEMAND);
	driver_turn_end(&d, driver_turn(&d, older));
	driver_turn_end(&d, driver_turn(&d, newer));
	driver_turn_end(&d, driver_turn(&d, older)); /* now newer was used least recently */
	unsigned fourth = driver_add(&d, 0, TIER_DEMAND);
	driver_load(&d, fourth);
	EXPECT(driver_serves(&d, foreign) != 0);
	EXPECT(driver_serves(&d, older) != 0);
	EXPECT(driver_serves(&d, newer) == 0);
	unsigned stranger = driver_add(&d, 2, TIER_DEMAND);
	driver_load(&d, stranger);
	EXPECT(driver_serves(&d, foreign) == 0); /* of all, it was used least recently */
	EXPECT(driver_serves(&d, stranger) != 0);
	driver_close(&d);
}

static void an_org_at_its_quota_makes_room_among_its_own(void)
{
	driver_open(&d);
	d.fake.quota_demand[0] = 1;
	unsigned foreign = loaded(1, TIER_DEMAND), own = loaded(0, TIER_DEMAND), next = driver_add(&d, 0, TIER_DEMAND);
	driver_load(&d, next);
	EXPECT(d.apps[own].evicted[EVICT_QUOTA] == 1);
	EXPECT(driver_serves(&d, next) != 0);
	EXPECT(driver_serves(&d, foreign) != 0);
	unsigned turn = driver_turn(&d, next);
	driver_load(&d, own);
	EXPECT(is_reason(own, "demand_quota"));
	EXPECT(driver_serves(&d, next) != 0);
	driver_turn_end(&d, turn);
	driver_close(&d);
}

static void a_stream_holds_the_ttl_to_its_last_byte_but_looking_does_not(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_DEMAND);
	struct id_bin *ids;
	unsigned turn = driver_turn(&d, app);
	driver_advance(&d, 10 * (int64_t)DRIVER_TTL_MS);
	EXPECT(driver_serves(&d, app) != 0);
	driver_turn_end(&d, turn);
	for (int i = 0; i < 10; i++) {
		driver_advance(&d, DRIVER_TTL_MS / 10 - (i == 9));
		EXPECT(pool_counts(d.pool).demand == 1);
		EXPECT(driver_has(&d, app));
		EXPECT(pool_ids(d.pool, &ids) == 1);
		free(ids);
		driver_compare(&d, app);
		driver_look(&d, app);
	}
	EXPECT(driver_serves(&d, app) != 0);
	driver_advance(&d, 1);
	EXPECT(!driver_has(&d, app));
	EXPECT(d.apps[app].evicted[EVICT_IDLE] == 1);
	driver_close(&d);
}

static void clients_that_open_demand_apps_and_hang_up_block_nobody_for_long(void)
{
	driver_open(&d);
	driver_configure(&d, 8, 3, 2);
	unsigned opened[3];
	for (size_t i = 0; i < ARRAY_LEN(opened); i++) {
		opened[i] = driver_add(&d, 0, TIER_DEMAND);
		driver_demand(&d, opened[i]); /* and its client is gone: no turn ever comes */
		driver_advance(&d, 10);
	}
	unsigned next = driver_add(&d, 0, TIER_DEMAND);
	driver_demand(&d, next);
	EXPECT(is_reason(next, "demand_ceiling"));
	driver_advance(&d, DRIVER_PIN_MS);
	driver_demand(&d, next);
	EXPECT(driver_serves(&d, next) != 0);
	EXPECT(driver_serves(&d, opened[0]) == 0);
	EXPECT(driver_serves(&d, opened[1]) != 0);
	driver_advance(&d, DRIVER_TTL_MS + DRIVER_PIN_MS);
	EXPECT(pool_is_empty(d.pool));
	driver_close(&d);
}

/* --- ceilings --- */

static void the_ceiling_holds_under_a_burst_of_loads(void)
{
	driver_open(&d);
	driver_configure(&d, 4, 4, 2);
	unsigned apps[12], served = 0, refused = 0;
	for (size_t i = 0; i < ARRAY_LEN(apps); i++) {
		apps[i] = driver_add(&d, 0, TIER_HOT);
		driver_hold(&d, apps[i], PA_BUILD);
		driver_load(&d, apps[i]);
		EXPECT(pool_counts(d.pool).loading <= 4);
	}
	for (size_t i = 0; i < ARRAY_LEN(apps); i++)
		driver_release(&d, apps[i], PA_BUILD);
	for (size_t i = 0; i < ARRAY_LEN(apps); i++) {
		served += driver_serves(&d, apps[i]) != 0;
		refused += is_reason(apps[i], "hot_ceiling");
	}
	EXPECT(served == 4);
	EXPECT(refused == 8);
	driver_close(&d);
}

static void a_full_hot_tier_gives_the_event_to_a_worker_with_room(void)
{
	driver_open(&d);
	driver_configure(&d, 1, 1, 2);
	d.fake.has_room_elsewhere = true;
	unsigned held = loaded(0, TIER_HOT), other = driver_add(&d, 0, TIER_HOT);
	driver_load(&d, other);
	EXPECT(d.events_back == 1);
	EXPECT(row(other)->loads_failed == 0);
	EXPECT(driver_serves(&d, held) != 0);
	driver_close(&d);
}

static void a_move_into_a_full_tier_fails_and_is_tried_again(void)
{
	driver_open(&d);
	driver_configure(&d, 1, 8, 2);
	unsigned hot = loaded(0, TIER_HOT), mover = loaded(0, TIER_DEMAND);
	uint64_t generation = driver_serves(&d, mover);
	fake_tier(row(mover), TIER_HOT);
	driver_look(&d, mover);
	EXPECT(is_reason(mover, "hot_ceiling"));
	EXPECT(driver_serves(&d, mover) == generation);
	EXPECT(driver_tier(&d, mover) == TIER_DEMAND);
	unload(hot, -1);
	driver_advance(&d, 2 * DRIVER_ROOM_RETRY_MS);
	EXPECT(driver_tier(&d, mover) == TIER_HOT);
	EXPECT(driver_serves(&d, mover) == row(mover)->row.generation);
	EXPECT(d.apps[mover].seen[PA_BUILD] == 1); /* moved, not built again */
	driver_close(&d);
}

static void a_loaded_app_moves_between_the_tiers_under_its_turn(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_DEMAND), turn = driver_turn(&d, app);
	fake_tier(row(app), TIER_HOT);
	driver_look(&d, app);
	EXPECT(driver_tier(&d, app) == TIER_HOT);
	EXPECT(pool_counts(d.pool).hot == 1);
	fake_tier(row(app), TIER_DEMAND);
	driver_look(&d, app);
	EXPECT(driver_tier(&d, app) == TIER_DEMAND);
	EXPECT(driver_turns(&d, app) == 1);
	EXPECT(d.apps[app].seen[PA_BUILD] == 1);
	driver_turn_end(&d, turn);
	driver_close(&d);
}

/* --- events --- */

static void the_same_load_twice_late_and_out_of_order_makes_one_copy(void)
{
	driver_open(&d);
	unsigned app = driver_add(&d, 0, TIER_HOT);
	driver_hold(&d, app, PA_BUILD);
	driver_load(&d, app);
	driver_event(&d, app, false); /* twice, while it is built */
	driver_release(&d, app, PA_BUILD);
	EXPECT(driver_serves(&d, app) != 0);
	driver_event(&d, app, false); /* late */
	EXPECT(d.apps[app].seen[PA_BUILD] == 1);
	EXPECT(d.apps[app].seen[PA_CLAIM] == 1);
	unload(app, -1);
	driver_event(&d, app, false); /* the load's event after the unload's */
	EXPECT(!driver_has(&d, app));
	EXPECT(row(app)->unloads_done == 1);
	EXPECT(d.events_done == 4);
	driver_close(&d);
}

/* A load of it; its placement is ready, but others are to hold more copies. */
static void load_short(unsigned app)
{
	driver_hold(&d, app, PA_READY);
	driver_load(&d, app);
	driver_perform(&d, app);
	d.apps[app].step.done = POOL_SHORT;
	driver_answer(&d, app);
	driver_release(&d, app, PA_READY);
}

static void where_copies_are_missing_the_event_goes_on_to_other_workers_but_not_for_ever(void)
{
	driver_open(&d);
	unsigned app = driver_add(&d, 0, TIER_HOT);
	for (unsigned i = 1; i <= 20; i++) {
		load_short(app); /* the first is built, the others find it held */
		EXPECT(d.events_back == i);
	}
	EXPECT(d.apps[app].seen[PA_BUILD] == 1);
	load_short(app);
	EXPECT(d.events_back == 20 && d.events_done == 1);
	load_short(app); /* published again later */
	EXPECT(d.events_back == 21);
	driver_load(&d, app);
	EXPECT(d.events_back == 21 && d.events_done == 2);
	driver_close(&d);
}

/* Whoever has the App hears a change, who published it too; here it has a failed placement of it. */
static void an_event_is_passed_on_to_those_who_hold_the_app_once(void)
{
	driver_open(&d);
	unsigned app = driver_add(&d, 0, TIER_HOT);
	fake_config(row(app), FAKE_BAD);
	driver_load(&d, app);
	EXPECT(row(app)->place == PLACE_FAILED);
	row(app)->is_elsewhere = true; /* until the load, which asks for the next number */
	driver_load(&d, app);
	EXPECT(d.apps[app].seen[PA_PASS_ON] == 1);
	EXPECT(d.events_done == 2);
	driver_look(&d, app); /* what was published, while the others have not finished */
	EXPECT(d.apps[app].seen[PA_CLAIM] == 3);
	EXPECT(d.apps[app].seen[PA_PASS_ON] == 1);
	driver_event(&d, app, false);
	EXPECT(d.apps[app].seen[PA_PASS_ON] == 2);
	driver_close(&d);
}

static void two_row_reads_answered_in_the_wrong_order_end_at_the_newer_row(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_HOT);
	driver_hold(&d, app, PA_READ);
	driver_look(&d, app);
	driver_perform(&d, app); /* this answer says: nothing new */
	fake_config(row(app), 'b');
	driver_look(&d, app); /* what it tells comes while the older answer is on its way */
	driver_release(&d, app, PA_READ);
	EXPECT(driver_version(&d, app) == 'b');
	EXPECT(driver_serves(&d, app) == row(app)->row.generation);
	driver_close(&d);
}

static void a_row_that_changed_after_the_build_decides_again(void)
{
	driver_open(&d);
	unsigned app = driver_add(&d, 0, TIER_HOT);
	driver_hold(&d, app, PA_BUILD);
	driver_load(&d, app);
	driver_perform(&d, app); /* built from 'a' */
	fake_config(row(app), 'b');
	driver_release(&d, app, PA_BUILD);
	EXPECT(driver_version(&d, app) == 'b');
	EXPECT(driver_runtimes(&d, app) == 1);
	driver_close(&d);
}

static void a_build_that_ends_after_its_unload_serves_nobody(void)
{
	driver_open(&d);
	unsigned app = driver_add(&d, 0, TIER_HOT);
	driver_hold(&d, app, PA_BUILD);
	driver_load(&d, app);
	unload(app, -1);
	driver_release(&d, app, PA_BUILD);
	EXPECT(d.apps[app].seen[PA_SUBSCRIBE] == 0);
	EXPECT(driver_runtimes(&d, app) == 0);
	EXPECT(!driver_has(&d, app));
	EXPECT(row(app)->unloads_done == 1);
	driver_close(&d);
}

static void an_unload_that_comes_before_a_rebuild_is_claimed_wins(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_HOT);
	driver_hold(&d, app, PA_CLAIM);
	fake_reload(row(app));
	driver_look(&d, app);
	EXPECT(driver_is_at(&d, app, PA_CLAIM));
	fake_unload(row(app), -1); /* its event is lost */
	driver_release(&d, app, PA_CLAIM);
	EXPECT(d.apps[app].seen[PA_BUILD] == 1);
	EXPECT(!driver_has(&d, app));
	EXPECT(row(app)->unloads_done == 1);
	driver_close(&d);
}

static void an_app_wanted_again_while_it_drains_is_built_beside(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_HOT), turn = driver_turn(&d, app);
	unload(app, -1);
	EXPECT(driver_serves(&d, app) == 0);
	driver_load(&d, app);
	EXPECT(driver_serves(&d, app) == row(app)->row.generation);
	EXPECT(driver_runtimes(&d, app) == 2);
	driver_turn_end(&d, turn);
	EXPECT(driver_runtimes(&d, app) == 1);
	driver_close(&d);
}

/* --- builds that fail --- */

static void a_build_that_keeps_failing_waits_longer_and_the_old_copy_serves(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_HOT);
	fake_config(row(app), FAKE_BAD);
	driver_look(&d, app);
	EXPECT(driver_version(&d, app) == 'a');
	EXPECT(row(app)->loads_failed == 1);
	unsigned builds = d.apps[app].seen[PA_BUILD];
	driver_advance(&d, 999);
	EXPECT(d.apps[app].seen[PA_BUILD] == builds);
	driver_advance(&d, 60000);
	unsigned tries = d.apps[app].seen[PA_BUILD] - builds;
	EXPECT(tries >= 2);
	EXPECT(tries <= 7); /* doubling from one second, not every second */
	EXPECT(driver_version(&d, app) == 'a');
	fake_config(row(app), 'c');
	driver_look(&d, app);
	EXPECT(driver_version(&d, app) == 'c');
	driver_close(&d);
}

static void without_an_old_copy_the_last_good_version_serves(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_HOT);
	unload(app, -1);
	fake_config(row(app), FAKE_BAD);
	driver_load(&d, app);
	EXPECT(driver_version(&d, app) == 'a');
	EXPECT(row(app)->is_fallback);
	EXPECT(row(app)->loads_failed == 1);
	fake_config(row(app), 'c');
	driver_look(&d, app);
	EXPECT(driver_version(&d, app) == 'c');
	EXPECT(!row(app)->is_fallback);
	driver_close(&d);
}

static void what_was_never_ready_fails_with_its_reason(void)
{
	driver_open(&d);
	unsigned app = driver_add(&d, 0, TIER_DEMAND);
	fake_config(row(app), FAKE_BAD);
	driver_load(&d, app);
	EXPECT(is_reason(app, "build failed"));
	EXPECT(pool_counts(d.pool).failed == 1);
	EXPECT(row(app)->place == PLACE_FAILED);
	driver_advance(&d, DRIVER_TTL_MS); /* nobody asks for it any more */
	EXPECT(pool_is_empty(d.pool));
	driver_close(&d);
}

static void a_suspect_builds_alone(void)
{
	driver_open(&d);
	unsigned healthy = driver_add(&d, 0, TIER_HOT), suspect = driver_add(&d, 0, TIER_HOT);
	unsigned late = driver_add(&d, 0, TIER_HOT);
	driver_hold(&d, healthy, PA_BUILD);
	driver_hold(&d, suspect, PA_BUILD);
	fake_load(row(suspect));
	row(suspect)->dead_attempts = 1;
	driver_load(&d, healthy);
	driver_event(&d, suspect, false);
	EXPECT(!driver_is_at(&d, suspect, PA_BUILD));
	driver_release(&d, healthy, PA_BUILD);
	EXPECT(driver_is_at(&d, suspect, PA_BUILD));
	driver_load(&d, late);
	EXPECT(d.apps[late].seen[PA_CLAIM] == 0);
	driver_release(&d, suspect, PA_BUILD);
	EXPECT(driver_serves(&d, suspect) != 0);
	EXPECT(driver_serves(&d, late) != 0);
	driver_close(&d);
}

/* --- reload and unload --- */

static void a_reload_swaps_and_the_old_copy_ends_with_its_turns(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_HOT), old = driver_turn(&d, app);
	driver_hold(&d, app, PA_BUILD);
	fake_config(row(app), 'b');
	driver_look(&d, app);
	unsigned during = driver_turn(&d, app); /* while the new one is built, the old one serves */
	EXPECT(during != DRIVER_NO_TURN);
	driver_release(&d, app, PA_BUILD);
	EXPECT(driver_version(&d, app) == 'b');
	EXPECT(driver_runtimes(&d, app) == 2);
	EXPECT(d.apps[app].seen[PA_UNSUBSCRIBE] == 0);
	driver_turn_end(&d, old);
	EXPECT(driver_runtimes(&d, app) == 2);
	driver_turn_end(&d, during);
	EXPECT(driver_runtimes(&d, app) == 1);
	driver_close(&d);
}

static void a_reload_by_request_always_rebuilds_and_a_load_does_not(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_HOT);
	driver_load(&d, app);
	EXPECT(d.apps[app].seen[PA_BUILD] == 1);
	EXPECT(driver_serves(&d, app) == row(app)->row.generation);
	fake_reload(row(app));
	driver_look(&d, app);
	EXPECT(d.apps[app].seen[PA_BUILD] == 2);
	unload(app, -1);
	fake_reload(row(app));
	driver_event(&d, app, false); /* where nothing is loaded it is a load */
	EXPECT(driver_serves(&d, app) == row(app)->row.generation);
	driver_close(&d);
}

static void an_unload_waits_for_turns_and_cuts_them_at_its_limit(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_HOT), turn = driver_turn(&d, app);
	unload(app, -1);
	EXPECT(driver_turn(&d, app) == DRIVER_NO_TURN || driver_serves(&d, app) == 0);
	driver_advance(&d, DRIVER_DRAIN_MS - 1);
	EXPECT(!d.turns[turn].is_cut);
	driver_advance(&d, 1);
	EXPECT(d.turns[turn].is_cut);
	for (unsigned i = 0; i < DRIVER_TURNS_MAX; i++)
		driver_turn_end(&d, i);
	EXPECT(!driver_has(&d, app));
	EXPECT(row(app)->unloads_done == 1);
	driver_close(&d);
}

static void an_unload_with_no_drain_time_cuts_at_once(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_HOT), turn = driver_turn(&d, app);
	unload(app, 0);
	driver_advance(&d, 0);
	EXPECT(d.turns[turn].is_cut);
	driver_turn_end(&d, turn);
	EXPECT(!driver_has(&d, app));
	driver_close(&d);
}

static void a_restored_backup_counts_as_below_both_marks(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_HOT);
	driver_load(&d, app);
	driver_load(&d, app);
	fake_restore(row(app), 1);
	driver_compare(&d, app);
	EXPECT(driver_serves(&d, app) <= row(app)->row.generation);
	driver_close(&d);
}

/* At the same generation, but before it was ready; or before it was claimed. */
static void what_a_restored_backup_does_not_know_is_written_again(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_HOT), lost = loaded(0, TIER_DEMAND);
	row(app)->place = PLACE_LOADING;
	fake_demand(row(lost));
	row(lost)->has_place = false;
	driver_compare(&d, app);
	driver_compare(&d, lost);
	EXPECT(row(app)->place == PLACE_READY);
	EXPECT(row(lost)->has_place && row(lost)->place == PLACE_READY);
	EXPECT(row(lost)->load_op == 0);
	EXPECT(driver_serves(&d, app) == row(app)->row.generation);
	driver_close(&d);
}

/* Restored, the row counts again: an unload gets the number that the copy has already. */
static void a_hot_copy_with_the_number_of_an_unload_leaves(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_HOT), demand = loaded(0, TIER_DEMAND);

	for (unsigned i = 0; i < 2; i++) {
		struct fake_app *a = row(i == 0 ? app : demand);

		a->row.unload_generation = a->row.generation;
		a->row.desired_state = DESIRED_UNLOADED;
		a->load_op = 0;
	}
	driver_compare(&d, app);
	driver_compare(&d, demand);
	EXPECT(!driver_has(&d, app));
	EXPECT(driver_has(&d, demand)); /* a chat may have loaded it since */
	driver_close(&d);
}

/* --- the worker as a whole --- */

static void a_lone_worker_that_stops_finishes_its_turns_and_leaves(void)
{
	driver_open(&d);
	unsigned busy = loaded(0, TIER_HOT), idle = loaded(0, TIER_DEMAND), turn = driver_turn(&d, busy);
	driver_stop(&d, false, 10000);
	EXPECT(!driver_has(&d, idle));
	EXPECT(driver_has(&d, busy));
	driver_event(&d, idle, false);
	EXPECT(d.events_back == 1); /* no more events */
	driver_turn_end(&d, turn);
	EXPECT(pool_is_empty(d.pool));
	driver_close(&d);
}

static void a_worker_with_others_serves_hot_apps_until_they_are_handed_over(void)
{
	driver_open(&d);
	unsigned hot = loaded(0, TIER_HOT), late = loaded(0, TIER_HOT), demand = loaded(0, TIER_DEMAND);
	driver_stop(&d, true, 10000);
	EXPECT(d.apps[hot].last_hand_over);
	EXPECT(!driver_has(&d, demand));
	unsigned turn = driver_turn(&d, hot);
	EXPECT(turn != DRIVER_NO_TURN);
	driver_handed_over(&d, hot);
	EXPECT(d.apps[hot].has_left);
	EXPECT(!d.apps[late].has_left);
	driver_turn_end(&d, turn);
	driver_advance(&d, 10000); /* the deadline */
	EXPECT(pool_is_empty(d.pool));
	driver_close(&d);
}

static void what_nobody_is_left_to_take_over_is_let_go(void)
{
	driver_open(&d);
	unsigned busy = loaded(0, TIER_HOT), idle = loaded(0, TIER_HOT);
	driver_stop(&d, true, 10000);
	unsigned turn = driver_turn(&d, busy);
	driver_stop(&d, false, 10000);
	EXPECT(!driver_has(&d, idle));
	EXPECT(driver_has(&d, busy));
	driver_turn_end(&d, turn);
	EXPECT(pool_is_empty(d.pool));
	driver_close(&d);
}

static void a_lost_incarnation_lets_go_without_a_write(void)
{
	driver_open(&d);
	unsigned app = loaded(0, TIER_HOT), turn = driver_turn(&d, app);
	unsigned gone = d.apps[app].seen[PA_GONE], draining = d.apps[app].seen[PA_DRAINING];
	driver_lose(&d);
	EXPECT(driver_turn(&d, app) == DRIVER_NO_TURN);
	EXPECT(driver_runtimes(&d, app) == 1); /* until its turn has ended */
	driver_turn_end(&d, turn);
	EXPECT(driver_runtimes(&d, app) == 0);
	EXPECT(d.apps[app].seen[PA_GONE] == gone);
	EXPECT(d.apps[app].seen[PA_DRAINING] == draining);
	driver_close(&d);
}

/* Reconcile reads the placements a moment before it asks: the load that comes then must not lose its own. */
static void an_orphan_that_is_wanted_meanwhile_is_ended_first_and_built_after(void)
{
	driver_open(&d);
	unsigned app = driver_add(&d, 0, TIER_HOT);
	row(app)->has_place = true;
	row(app)->place = PLACE_READY;
	driver_hold(&d, app, PA_GONE);
	driver_orphan(&d, app);
	EXPECT(driver_is_at(&d, app, PA_GONE));
	driver_load(&d, app);
	driver_orphan(&d, app);
	driver_release(&d, app, PA_GONE);
	EXPECT(driver_serves(&d, app) == row(app)->row.generation);
	EXPECT(row(app)->has_place);
	driver_orphan(&d, app); /* late */
	EXPECT(row(app)->has_place);
	driver_close(&d);
}

static CU_TestInfo cases[] = {
	CASE(a_target_revived_while_it_is_being_evicted_serves_on),
	CASE(a_load_that_comes_while_it_is_evicted_brings_it_back),
	CASE(an_eviction_asked_for_while_loading_takes_nobody),
	CASE(nobody_is_evicted_before_it_served_the_request_it_was_loaded_for),
	CASE(a_request_that_arrives_while_the_ttl_stop_runs_is_served),
	CASE(a_request_served_before_the_copy_was_recorded_pins_nothing),
	CASE(a_turn_in_flight_keeps_its_app_from_being_evicted),
	CASE(the_same_org_makes_room_first_and_the_least_recently_used),
	CASE(an_org_at_its_quota_makes_room_among_its_own),
	CASE(a_stream_holds_the_ttl_to_its_last_byte_but_looking_does_not),
	CASE(clients_that_open_demand_apps_and_hang_up_block_nobody_for_long),
	CASE(the_ceiling_holds_under_a_burst_of_loads),
	CASE(a_full_hot_tier_gives_the_event_to_a_worker_with_room),
	CASE(a_move_into_a_full_tier_fails_and_is_tried_again),
	CASE(a_loaded_app_moves_between_the_tiers_under_its_turn),
	CASE(the_same_load_twice_late_and_out_of_order_makes_one_copy),
	CASE(where_copies_are_missing_the_event_goes_on_to_other_workers_but_not_for_ever),
	CASE(an_event_is_passed_on_to_those_who_hold_the_app_once),
	CASE(two_row_reads_answered_in_the_wrong_order_end_at_the_newer_row),
	CASE(a_row_that_changed_after_the_build_decides_again),
	CASE(a_build_that_ends_after_its_unload_serves_nobody),
	CASE(an_unload_that_comes_before_a_rebuild_is_claimed_wins),
	CASE(an_app_wanted_again_while_it_drains_is_built_beside),
	CASE(a_build_that_keeps_failing_waits_longer_and_the_old_copy_serves),
	CASE(without_an_old_copy_the_last_good_version_serves),
	CASE(what_was_never_ready_fails_with_its_reason),
	CASE(a_suspect_builds_alone),
	CASE(a_reload_swaps_and_the_old_copy_ends_with_its_turns),
	CASE(a_reload_by_request_always_rebuilds_and_a_load_does_not),
	CASE(an_unload_waits_for_turns_and_cuts_them_at_its_limit),
	CASE(an_unload_with_no_drain_time_cuts_at_once),
	CASE(a_restored_backup_counts_as_below_both_marks),
	CASE(what_a_restored_backup_does_not_know_is_written_again),
	CASE(a_hot_copy_with_the_number_of_an_unload_leaves),
	CASE(a_lone_worker_that_stops_finishes_its_turns_and_leaves),
	CASE(a_worker_with_others_serves_hot_apps_until_they_are_handed_over),
	CASE(what_nobody_is_left_to_take_over_is_let_go),
	CASE(a_lost_incarnation_lets_go_without_a_write),
	CASE(an_orphan_that_is_wanted_meanwhile_is_ended_first_and_built_after),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{.pName = "pool", .pTests = cases},
	CU_SUITE_INFO_NULL,
};
