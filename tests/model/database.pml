/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MariaDB: the rows of one App, its open operations, its placements, the workers' leases, and
 * what every transaction does with them. The names are those of core/; one transaction is one atomic step, since all of
 * them hold the App's row lock from their first statement to the commit.
 *
 * Time is not counted. A lease is valid or it is not, a backoff runs or it is over.
 */

/* --- orchestrator_instances --- */
byte generation = 1;
byte rebuild_generation;
byte unload_generation;
byte config_hash = 1;
bool is_desired_loaded;
bool is_active = true;
bool is_backoff;  /* next_attempt_at is in the future */
byte attempts;

#ifdef TIER_DEMAND
#define IS_HOT false
#else
#define IS_HOT true
#endif
#define IS_WANTED_HOT (IS_HOT && is_desired_loaded && is_active)

/* --- operations --- */
/*
 * Only open ones are kept. That of a request stands at the generation it made; a recovery or demand load is made only
 * where no load is open (copies_need_recovery, SQL_DEMAND_INSERT), so there is at most one: its generation, or 0.
 */
mtype:action = { LOAD, UNLOAD, RELOAD };
mtype:action op[GENERATION_MAX + 1];
byte op_extra;

/* History, for the properties: the highest generation of an unload that has succeeded. */
byte unload_succeeded;

/* --- placements, workers: one row for each worker's name --- */
mtype:place = { LOADING, PLACED_READY, PLACED_DRAINING, PLACED_FAILED };
mtype:place place[WORKERS]; /* 0: no row */
byte place_incarnation[WORKERS];
byte place_generation[WORKERS];
byte place_build[WORKERS]; /* build_generation; 0: NULL */

byte incarnation[WORKERS]; /* of the workers row; NOBODY: declared dead */
bool lease_valid[WORKERS]; /* lease_until is in the future */
bool is_leaving_worker[WORKERS];

#define NOBODY 0
#define STANDS(p) (place_incarnation[p] == incarnation[p])
/* SQL_IS_LIVE */
#define IS_LIVE(p)                                                                                                     \
	(STANDS(p) && lease_valid[p] && !is_leaving_worker[p] && (place[p] == LOADING || place[p] == PLACED_READY))

/* --- bus --- */
/* Events never say what to do, so only their number counts. */
byte loads;           /* that wait in the stream HEARTH_LOADS */
bool change[WORKERS]; /* one waits in the worker's subscription of hearth.change */

inline publish_load()
{
	if
	:: loads < LOADS_MAX -> loads++
	:: else
	fi
}

/* --- core/copies.c --- */
#define IS_ACTIVE_WORKER(p) (lease_valid[p] && !is_leaving_worker[p])
#define LIVE_WORKERS (IS_ACTIVE_WORKER(0) + IS_ACTIVE_WORKER(1))
/* copies_wanted: REPLICAS is 1 or 2 */
#define WANTED (REPLICAS == 1 || LIVE_WORKERS < 2 -> 1 : 2)
#define OWN_ROW(w) (place[w] != 0 && place_incarnation[w] == who[w])
#define IS_BUILD(p) (place[p] != 0 && STANDS(p) && lease_valid[p] && place_build[p] == generation)
/* Not idle: somebody drains, or builds, and its end will be heard of. */
#define IS_BUSY(p)                                                                                                     \
	(place[p] == PLACED_DRAINING ||                                                                                \
	 (place[p] != 0 && STANDS(p) && lease_valid[p] && (place[p] == LOADING || place_build[p] != 0)))
#define IS_READY_LIVE(p) (IS_LIVE(p) && place[p] == PLACED_READY)
#define IS_BEHIND(p) (IS_LIVE(p) && place_generation[p] != generation)

hidden byte c_live;   /* as in struct copies, the next three too: without the copy of who asks */
hidden byte c_ready;
hidden byte c_behind;
hidden byte c_builds;
hidden byte c_has_open_load;
hidden byte c_has_own;
hidden byte c_is_own_build;
hidden byte c_is_registered;

/* copies_read for a worker, with the incarnation that asks */
inline copies_read(w)
{
	c_has_own = OWN_ROW(w);
	c_is_own_build = c_has_own && place_build[w] == generation;
	c_live = IS_LIVE(1 - w) + (!c_has_own && IS_LIVE(w));
	c_ready = IS_READY_LIVE(1 - w) + (!c_has_own && IS_READY_LIVE(w));
	c_behind = IS_BEHIND(1 - w) + (!c_has_own && IS_BEHIND(w));
	c_builds = IS_BUILD(0) + IS_BUILD(1);
	c_has_open_load = HAS_LOAD_WANTED;
	c_is_registered = (incarnation[w] == who[w])
}

/* copies_read where nobody asks: recovery */
inline copies_read_all()
{
	c_live = IS_LIVE(0) + IS_LIVE(1);
	c_builds = IS_BUILD(0) + IS_BUILD(1);
	c_has_open_load = HAS_LOAD_WANTED
}

#define DEAD_ATTEMPTS (attempts > c_builds -> attempts - c_builds : 0)
#define IS_POISONED ((DEAD_ATTEMPTS) >= ATTEMPTS_MAX)
#define NEEDS_RECOVERY                                                                                                 \
	(IS_WANTED_HOT && !c_has_open_load && !is_backoff && !IS_POISONED && c_live < WANTED)

/* copies_recover; the event is published after the commit */
inline copies_recover()
{
	op_extra = generation;
	publish_load()
}

/* --- core/operation.c --- */
#define FULFILS(p, g) (place_generation[p] >= g && place_generation[p] <= generation)
#define IS_BELOW(p, g) (place_generation[p] < g || place_generation[p] > generation)

#ifdef MUTANT_UNLOAD_WAITS_FOR_LIVE_COPIES_ONLY
#define IS_HELD(p) (IS_LIVE(p))
#elif defined(MUTANT_UNLOAD_WAITS_NOT_FOR_DRAINING)
#define IS_HELD(p) (place[p] != 0 && place[p] != PLACED_FAILED && place[p] != PLACED_DRAINING)
#else
#define IS_HELD(p) (place[p] != 0 && place[p] != PLACED_FAILED)
#endif

#define HOLDS_UNLOAD(p, g) (IS_HELD(p) && IS_BELOW(p, g))
#define UNLOAD_IS_FULFILLED(g) (!HOLDS_UNLOAD(0, g) && !HOLDS_UNLOAD(1, g))
#define READY_FOR(g) ((IS_READY_LIVE(0) && FULFILS(0, g)) + (IS_READY_LIVE(1) && FULFILS(1, g)))
#define MAY_SERVE(p) (STANDS(p) && (place[p] == LOADING || place[p] == PLACED_READY))
#define MAY_SERVE_BELOW(g) ((MAY_SERVE(0) && IS_BELOW(0, g)) || (MAY_SERVE(1) && IS_BELOW(1, g)))
#define RELOAD_IS_FULFILLED(g) (READY_FOR(g) > 0 && !MAY_SERVE_BELOW(g))
#define LOAD_IS_FULFILLED(g) (READY_FOR(g) >= WANTED)

hidden byte g;

inline unload_ends(at_)
{
	op[at_] = 0;
	unload_succeeded = (unload_succeeded > at_ -> unload_succeeded : at_)
}

/* SQL_OPERATION_SETTLE */
inline operation_settle()
{
	for (g : 2 .. GENERATION_MAX) {
		if
		:: op[g] == UNLOAD && UNLOAD_IS_FULFILLED(g) -> unload_ends(g)
		:: op[g] == RELOAD && RELOAD_IS_FULFILLED(g) -> op[g] = 0
		:: op[g] == LOAD && LOAD_IS_FULFILLED(g) -> op[g] = 0
		:: else
		fi
	};
	if
	:: op_extra != 0 && LOAD_IS_FULFILLED(op_extra) -> op_extra = 0
	:: else
	fi
}

/* SQL_OPERATION_FAIL */
inline operation_fail(up_to)
{
	for (g : 2 .. GENERATION_MAX) {
		if
		:: g <= up_to && op[g] != 0 && op[g] != UNLOAD -> op[g] = 0
		:: else
		fi
	};
	if
	:: op_extra <= up_to -> op_extra = 0
	:: else
	fi
}

/* SQL_OPERATION_SUPERSEDE: what wanted something else is over. */
inline operation_supersede(by_unload)
{
#ifdef MUTANT_NOTHING_IS_SUPERSEDED
	skip
#else
	for (g : 2 .. GENERATION_MAX) {
		if
		:: op[g] != 0 && (op[g] == UNLOAD) != by_unload -> op[g] = 0
		:: else
		fi
	};
	if
	:: by_unload -> op_extra = 0
	:: else
	fi
#endif
}

/* --- core/lifecycle.c, core/instance.c: an accepted request --- */
hidden byte h_held;
hidden byte h_live;

/* instance_holding */
inline instance_holding()
{
	h_held = (place[0] != 0 && place[0] != PLACED_FAILED) + (place[1] != 0 && place[1] != PLACED_FAILED);
	h_live = (IS_LIVE(0) && place_generation[0] >= unload_generation) +
		 (IS_LIVE(1) && place_generation[1] >= unload_generation)
}

/* SQL_INSTANCE_WRITE_WANTED */
inline instance_write_wanted()
{
	generation++;
	attempts = 0;
	is_backoff = false
}

inline accept_load()
{
	instance_write_wanted();
	is_desired_loaded = true;
	operation_supersede(false);
	op[generation] = LOAD;
	publish_load()
}

inline accept_unload()
{
	instance_holding();
	instance_write_wanted();
	is_desired_loaded = false;
	unload_generation = generation;
	operation_supersede(true);
	op[generation] = UNLOAD;
	if
	:: h_held == 0 -> unload_ends(generation)
	:: else -> publish_change()
	fi
}

inline publish_reload()
{
	if
	:: h_live == 0 -> publish_load()
	:: else -> publish_change()
	fi
}

inline accept_reload()
{
	instance_holding();
	instance_write_wanted();
	rebuild_generation = generation;
	is_desired_loaded = is_desired_loaded || h_live == 0;
	operation_supersede(false);
	op[generation] = RELOAD;
	publish_reload()
}

/* PATCH …/config: instance_apply */
inline accept_config()
{
	instance_holding();
	instance_write_wanted();
	config_hash++;
	if
	:: h_live > 0 || IS_WANTED_HOT ->
		operation_supersede(false);
		op[generation] = RELOAD;
		publish_reload()
	:: else -> publish_change()
	fi
}

/* PATCH …/status: instance_apply */
inline accept_suspend()
{
	instance_holding();
	instance_write_wanted();
	is_active = false;
	unload_generation = generation;
	operation_supersede(true);
	if
	:: h_held > 0 -> op[generation] = UNLOAD
	:: else
	fi;
	publish_change()
}

inline accept_activate()
{
	instance_holding();
	instance_write_wanted();
	is_active = true;
	if
	:: h_live > 0 || IS_WANTED_HOT ->
		operation_supersede(false);
		op[generation] = LOAD;
		publish_load()
	:: else -> publish_change()
	fi
}

/* operation_demand: a chat finds nothing loaded; another one joins what is open. */
inline accept_demand()
{
	op_extra = generation;
	publish_load()
}

/* --- core/placement.c: a worker's transactions --- */
mtype:answer = { OK, SHORT, CHANGED, LOST, FAILED, BUILD_IT, NOT_WANTED, PASS_ON, OTHERS_DO };
hidden byte answer;
hidden byte want_more;

/* open_app: does the incarnation stand that writes? */
inline open_app(w)
{
	copies_read(w);
	answer = (c_is_registered -> OK : LOST)
}

inline remove_placement(w)
{
	place[w] = 0;
	place_incarnation[w] = 0;
	place_generation[w] = 0;
	place_build[w] = 0
}

inline attempt_back()
{
#ifdef MUTANT_ATTEMPTS_ARE_NOT_GIVEN_BACK
	skip
#else
	attempts = (c_is_own_build && attempts > 0 -> attempts - 1 : attempts)
#endif
}

#ifdef MUTANT_REBUILD_CLAIMED_AFTER_UNLOAD
#define IS_OWN_ENDING(w) false
#else
/* What was unloaded since its row was read is not rebuilt, nor is its row taken over for a new load. */
#define IS_OWN_ENDING(w)                                                                                               \
	(c_has_own && (place[w] == PLACED_DRAINING || place_generation[w] < unload_generation ||                       \
		       place_generation[w] > generation))
#endif

inline claim_build(w, beside)
{
	answer = BUILD_IT;
	want_more = (c_live + 1 < WANTED);
	if
	:: beside && c_has_own && place[w] == PLACED_READY -> skip /* SQL_PLACE_BUILD: it serves on */
	:: else -> /* SQL_PLACE_LOADING: a row in our name is taken over, whatever its incarnation */
		place[w] = LOADING;
		place_incarnation[w] = who[w];
		place_generation[w] = generation;
		if
		:: c_has_own -> operation_settle() /* settle_taken_over: an unload waited for what drained */
		:: else
		fi
	fi;
	place_build[w] = generation;
	attempts = (c_is_own_build -> attempts : attempts + 1)
}

/* claim_decide */
inline placement_claim(w, asks_rebuild)
{
	copies_read(w);
	want_more = false;
	if
	:: !c_is_registered -> answer = LOST
#ifdef MUTANT_A_LATE_LEASE_IS_A_LOST_ONE
	:: c_is_registered && !lease_valid[w] -> answer = LOST
#else
	:: c_is_registered && (!lease_valid[w] || is_leaving_worker[w]) -> answer = FAILED
#endif
	:: else ->
		if
		:: !is_active ->
			answer = NOT_WANTED;
			operation_settle()
		:: else ->
			if
			:: is_backoff -> answer = OTHERS_DO /* CLAIM_BACKOFF */
			:: else ->
				if
				:: IS_POISONED -> claim_poisoned(w)
				:: else -> claim_wanted(w, asks_rebuild)
				fi
			fi
		fi
	fi
}

inline claim_poisoned(w)
{
	if
	:: place[w] != 0 && (place_incarnation[w] != who[w] || place[w] == LOADING || place[w] == PLACED_FAILED) ->
		remove_placement(w)
	:: else
	fi;
	operation_fail(generation);
	answer = OTHERS_DO
}

inline claim_wanted(w, beside)
{
	if
#ifndef MUTANT_ITS_ROW_IS_CLAIMED_WHILE_IT_SERVES
	:: beside && IS_OWN_ENDING(w) ->
		answer = NOT_WANTED;
		operation_settle()
#endif
	:: beside && !IS_OWN_ENDING(w) -> claim_build(w, true)
	:: else ->
		if
		:: c_ready >= WANTED ->
			answer = (c_behind > 0 -> PASS_ON : OTHERS_DO); /* CLAIM_ENOUGH */
			operation_settle()
		:: else ->
			if
			:: c_live >= WANTED -> answer = OTHERS_DO /* CLAIM_LOADING */
#ifndef MUTANT_CLAIMED_WITHOUT_AN_OPERATION
			:: c_live < WANTED && !c_has_open_load ->
				answer = NOT_WANTED;
				operation_settle()
#endif
			:: else -> claim_build(w, false)
			fi
		fi
	fi
}

hidden byte new_hash; /* 0: NULL, the copy is not new */

/* May a copy of `gen` serve the row as it is? One that must be rebuilt serves until then. */
#ifdef MUTANT_WHAT_MUST_BE_REBUILT_IS_NOT_READY
#define MAY_SERVE(gen)                                                                                                 \
	(is_active && gen <= generation && gen >= unload_generation && gen >= rebuild_generation &&                    \
	 (gen == generation || new_hash == 0 || new_hash == config_hash))
#else
#define MAY_SERVE(gen) (is_active && gen <= generation && gen >= unload_generation)
#endif

/* ready_body */
inline placement_ready(w, gen)
{
	open_app(w);
	if
	:: answer == LOST
	:: else ->
		answer = (gen != generation -> CHANGED : (c_has_open_load && c_live + 1 < WANTED -> SHORT : OK));
		if
		:: !MAY_SERVE(gen) -> answer = CHANGED
		:: else ->
			place[w] = PLACED_READY;
			place_incarnation[w] = who[w];
			place_generation[w] = gen;
			place_build[w] = 0;
			if
			:: gen == generation ->
				attempts = 0;
				is_backoff = false
			:: else
			fi;
			operation_settle()
		fi
	fi
}

/* failed_body */
inline placement_failed(w, gen, is_kept)
{
	open_app(w);
	if
	:: answer == LOST
	:: else ->
		if
		:: gen == generation ->
			attempts = 0;
			is_backoff = true
		:: else -> answer = CHANGED
		fi;
		if
		:: OWN_ROW(w) ->
			place_build[w] = 0;
			place[w] = (is_kept -> place[w] : PLACED_FAILED)
		:: else
		fi;
		operation_fail(gen);
		operation_settle()
	fi
}

inline placement_give_back(w)
{
	open_app(w);
	if
	:: answer == LOST
	:: else ->
		if
		:: c_has_own ->
			attempt_back();
			if
			:: place[w] == LOADING -> remove_placement(w)
			:: else -> place_build[w] = 0
			fi
		:: else
		fi;
		operation_settle()
	fi
}

inline placement_draining(w)
{
	open_app(w);
	if
	:: answer == LOST
	:: else ->
		attempt_back();
		if
		:: OWN_ROW(w) ->
			place[w] = PLACED_DRAINING;
			place_build[w] = 0
		:: else
		fi;
		operation_settle()
	fi
}

inline placement_gone(w)
{
	open_app(w);
	if
	:: answer == LOST
	:: else ->
		attempt_back();
		if
		:: OWN_ROW(w) -> remove_placement(w)
		:: else
		fi;
		operation_settle()
	fi
}

/* surplus_body. Who is the youngest is open here: each may be. answer CHANGED: not dropped. */
inline placement_drop_surplus(w)
{
	open_app(w);
	if
	:: answer == LOST
	:: else ->
		if
		:: c_has_own && place[w] == PLACED_READY && !c_is_own_build && place_generation[w] == generation &&
		   c_behind == 0 && c_ready >= WANTED ->
			place[w] = PLACED_DRAINING;
			operation_settle()
		:: else -> answer = CHANGED
		fi
	fi
}

/* --- core/recovery.c --- */

inline recovery_settle()
{
#ifdef MUTANT_RECOVERY_ENDS_NOTHING
	skip
#else
	operation_settle()
#endif
}

/* What follows prepare() in chunk_body, for one App. */
inline recover_apps(is_reap)
{
	copies_read_all();
	recovery_settle();
	if
	:: IS_POISONED && c_live == 0 && (is_reap || c_has_open_load) -> operation_fail(generation)
	:: else
	fi;
	if
	:: NEEDS_RECOVERY -> copies_recover()
	:: else
	fi
}

/* publish_body, for one App */
inline recovery_republish()
{
	copies_read_all();
	recovery_settle();
	if
	:: IS_POISONED && c_live == 0 && c_has_open_load -> operation_fail(generation)
	:: else
	fi;
	if
	:: (HAS_LOAD_WANTED || HAS_OPEN_UNLOAD) && !is_backoff ->
		if
		:: HAS_LOAD_WANTED && c_live < WANTED -> publish_load()
		:: else -> publish_change()
		fi
	:: else
	fi
}
