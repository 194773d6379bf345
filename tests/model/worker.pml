/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker: its pool's state of the App (worker/pool/steps.c), its lease (worker/lease_keeper.c), its reconcile. The
 * names are those of the pool; each App has one step in flight.
 *
 * A step is its transaction and the pool's taking in of the answer, together: what comes between the two (an event, a
 * lost incarnation) does the same just after. A worker that is paused, hangs or is cut off is one that takes no step
 * while its lease ends, which may come before any of them. Waits for build slots are left out: one App has them all.
 */

/* --- the process --- */
mtype:process = { UP, DOWN, DEAD }; /* DOWN: it will be started again; DEAD: it will not */
mtype:process process[WORKERS];
byte who[WORKERS];        /* engine->who.incarnation; 0: none yet */
byte keeper_who[WORKERS]; /* the lease keeper's; another one is not taken over by the loop yet */
#ifdef MUTANT_LEASE_COUNTS_FROM_ITS_ANSWER
bool valid_until[WORKERS]; /* by the worker's own clock */
#define IS_VALID_HERE(w) (valid_until[w])
#else
#define IS_VALID_HERE(w) (lease_valid[w]) /* its own clock ends no later */
#endif

/* lease_keeper_is_valid: without it no load is asked for, no turn begun */
#define IS_LEASE_VALID(w) (IS_VALID_HERE(w) && keeper_who[w] == who[w])
#ifdef MUTANT_TURNS_ASK_NO_LEASE
#define LEASE_KEEPER_IS_VALID(w) true
#elif defined(MUTANT_LEASE_VALID_BEFORE_TAKEN_OVER)
#define LEASE_KEEPER_IS_VALID(w) IS_VALID_HERE(w)
#else
#define LEASE_KEEPER_IS_VALID(w) IS_LEASE_VALID(w)
#endif

/* --- struct pool_app --- */
mtype:step = { READ, CLAIM, UNDO, BUILD, SUBSCRIBE, READY, FAILED_STEP, GIVE_BACK, DRAINING, UNSUBSCRIBE, GONE };
mtype:step step[WORKERS]; /* 0: STEP_NONE */
mtype:evict = { IDLE, SURPLUS };
mtype:evict evict[WORKERS];
byte cur[WORKERS]; /* the copy that serves: its generation; 0: none */
byte cur_hash[WORKERS];
byte built[WORKERS]; /* the next copy: the claim's generation */
byte built_hash[WORKERS];
byte at[WORKERS];                /* app->generation: that the step in flight writes */
byte failed_generation[WORKERS]; /* 0: !is_failed */
bool is_rebuild[WORKERS];        /* CLAIM_HOW_REBUILD */
bool is_version_new[WORKERS];
bool is_dirty[WORKERS];
bool is_subscribed[WORKERS];
bool is_leaving[WORKERS];
bool has_placement[WORKERS];
bool has_event[WORKERS]; /* a pulled event that is not acked */
#if REPLICAS > 1
byte passes[WORKERS]; /* of its events to the other worker, in a row */
#define PASSES_MAX 1  /* 20 in steps.c: what counts is that there is an end to it */
#endif
byte turn[WORKERS];      /* a turn in flight: the generation of its copy; 0: none */
#define HANDED_OVER 255

/* pool_has */
#define POOL_HAS(w) (step[w] != 0 || cur[w] != 0 || failed_generation[w] != 0 || is_leaving[w])

/* pool_turn_begin, behind the look at the lease (may_begin): would a chat that is handled now be served? */
#define WOULD_SERVE(w)                                                                                                 \
	(process[w] == UP && LEASE_KEEPER_IS_VALID(w) && cur[w] != 0 && (!is_leaving[w] || is_subscribed[w]))

/* Only who has the App heeds a change (pool_look). */
inline publish_change()
{
	change[0] = change[0] || POOL_HAS(0);
	change[1] = change[1] || POOL_HAS(1)
}

inline pool_events_back(w)
{
	if
	:: has_event[w] ->
		has_event[w] = false;
		publish_load()
	:: else
	fi
}

/* pool_app_remove */
inline pool_app_remove(w)
{
	step[w] = 0;
	evict[w] = 0;
	cur[w] = 0;
	cur_hash[w] = 0;
	built[w] = 0;
	built_hash[w] = 0;
	at[w] = 0;
	failed_generation[w] = 0;
	is_rebuild[w] = false;
	is_version_new[w] = false;
	is_dirty[w] = false;
	is_subscribed[w] = false;
	is_leaving[w] = false;
	has_placement[w] = false;
#if REPLICAS > 1
	passes[w] = 0;
#endif
	has_event[w] = false
}

/*
 * step_lose: all of it ends without a word to the database. Its steps (unsubscribe, free) change nothing that others
 * see, since a lost App takes no turn.
 */
inline step_lose(w)
{
	pool_events_back(w);
	pool_app_remove(w)
}

inline step_bring_up(w, how)
{
	is_rebuild[w] = how;
	step[w] = CLAIM
}

inline rest(w)
{
	has_event[w] = false; /* pool_events_done: acked */
	step[w] = 0;
	evict[w] = 0;
	at[w] = 0;
	if
	:: cur[w] != 0 || failed_generation[w] != 0 -> skip
	:: else ->
		if
		:: turn[w] != 0 -> is_leaving[w] = true /* turns of a copy that was unloaded are all there is */
		:: else ->
			if
			:: has_placement[w] -> step[w] = GONE
			:: else -> pool_app_remove(w)
			fi
		fi
	fi
}

inline advance_leaving(w)
{
	if
	:: is_subscribed[w] -> step[w] = UNSUBSCRIBE
	:: else ->
		if
		:: turn[w] == 0 -> /* end_leaving */
			cur[w] = 0;
			cur_hash[w] = 0;
			is_leaving[w] = false;
			step[w] = (has_placement[w] -> GONE : READ)
		:: else ->
			if
			:: is_dirty[w] ->
				is_dirty[w] = false;
				step[w] = READ
			:: else -> has_event[w] = false
			fi
		fi
	fi
}

inline step_advance(w)
{
	step[w] = 0;
	if
	:: is_leaving[w] -> advance_leaving(w)
	:: else ->
		if
		:: is_dirty[w] ->
			is_dirty[w] = false;
			step[w] = READ
		:: else -> rest(w)
		fi
	fi
}

/* An input while a step is in flight marks the App dirty. */
inline look(w)
{
	is_dirty[w] = true;
	if
	:: step[w] == 0 -> step_advance(w)
	:: else
	fi
}

inline leave(w)
{
	evict[w] = 0;
#ifdef MUTANT_UNSUBSCRIBED_BEFORE_DRAINING
	step[w] = (is_subscribed[w] -> UNSUBSCRIBE : DRAINING)
#else
	step[w] = DRAINING
#endif
}

/* --- decisions on the row: DESIGN 6, "What a worker does with its copy" --- */
#define IS_BELOW_UNLOAD(g) (g < unload_generation || g > generation)
#define IS_REBUILD_DUE(w) (cur[w] < rebuild_generation || cur_hash[w] != config_hash)
#define IS_LOAD_WANTED (is_active && HAS_LOAD_WANTED && !is_backoff)

inline decide_held(w)
{
#ifdef MUTANT_A_HELD_COPY_IGNORES_UNLOADS
	if
	:: false -> skip
#else
	if
	:: !is_active || IS_BELOW_UNLOAD(cur[w]) ->
		is_dirty[w] = is_dirty[w] || IS_LOAD_WANTED; /* built anew beside what drains */
		leave(w)
#endif
	:: else ->
		if
		:: IS_REBUILD_DUE(w) ->
			if
			:: is_backoff -> step_advance(w)
			:: else -> step_bring_up(w, true)
			fi
		:: else ->
			if
#ifdef MUTANT_NUMBERS_ARE_NOT_TAKEN_OVER
			:: false ->
#else
			:: cur[w] != generation || HAS_LOAD_WANTED -> /* adopt */
#endif
				at[w] = generation;
				step[w] = READY
			:: else -> step_advance(w)
			fi
		fi
	fi
}

inline decide_leaving(w)
{
	if
	:: IS_LOAD_WANTED && !is_subscribed[w] ->
		turn[w] = (turn[w] != 0 -> HANDED_OVER : 0); /* the placement row is the new copy's from now on */
		is_leaving[w] = false;
		cur[w] = 0;
		cur_hash[w] = 0;
		step_bring_up(w, false)
	:: else -> step_advance(w)
	fi
}

inline decide_not_held(w)
{
	if
	:: IS_LOAD_WANTED -> step_bring_up(w, false)
	:: else ->
		if
		:: !is_active || IS_BELOW_UNLOAD(failed_generation[w]) -> failed_generation[w] = 0
		:: else
		fi;
		step_advance(w)
	fi
}

/* pool_row_read at STEP_READ */
inline pool_row_read(w)
{
	if
	:: is_leaving[w] -> decide_leaving(w)
	:: else ->
		if
		:: cur[w] != 0 -> decide_held(w)
		:: else -> decide_not_held(w)
		fi
	fi
}

/* pool_row_read at STEP_CHECK: built, may it serve? */
inline check(w)
{
	if
	:: !is_active || IS_BELOW_UNLOAD(built[w]) || built[w] < rebuild_generation || built_hash[w] != config_hash ->
		is_dirty[w] = true;
		step[w] = GIVE_BACK
	:: else ->
		cur[w] = generation;
		at[w] = generation;
		cur_hash[w] = built_hash[w];
		is_version_new[w] = true;
#ifdef MUTANT_READY_BEFORE_SUBSCRIBED
		step[w] = READY
#else
		step[w] = (is_subscribed[w] -> READY : SUBSCRIBE)
#endif
	fi;
	built[w] = 0;
	built_hash[w] = 0
}

/* --- answers --- */
inline end_bring_up(w)
{
	is_rebuild[w] = false;
	step_advance(w)
}

inline claimed_build(w)
{
	has_placement[w] = true;
	failed_generation[w] = 0;
	at[w] = generation;
	built[w] = generation;
	built_hash[w] = config_hash;
	step[w] = BUILD;
	if
	:: want_more -> publish_load()
	:: else
	fi
}

/* CLAIM_FAIL */
inline claim_failed(w)
{
	pool_events_back(w);
	step[w] = UNDO
}

inline pass_to_holders(w)
{
#ifdef MUTANT_CHANGES_ARE_PASSED_ON
	publish_change();
#endif
	if
	:: has_event[w] ->
		publish_change();
		has_event[w] = false
	:: else
	fi
}

inline pool_claimed(w)
{
	if
	:: answer == BUILD_IT -> claimed_build(w)
	:: answer == LOST -> step_lose(w)
	:: answer == FAILED -> claim_failed(w)
	:: answer == NOT_WANTED ->
		is_dirty[w] = is_dirty[w] || is_rebuild[w];
		end_bring_up(w)
	:: answer == PASS_ON ->
		pass_to_holders(w);
		end_bring_up(w)
	:: else -> end_bring_up(w)
	fi
}

inline pass_on(w, is_short)
{
#if REPLICAS > 1
	if
	:: is_short && passes[w] < PASSES_MAX ->
		if
		:: has_event[w] ->
#ifndef MUTANT_EVENTS_ARE_PASSED_ON_FOR_EVER
			passes[w]++;
#endif
			pool_events_back(w)
		:: else
		fi
	:: else -> passes[w] = 0
	fi
#else
	skip
#endif
}

inline ready_done(w)
{
	cur[w] = at[w];
	is_version_new[w] = false;
	failed_generation[w] = 0;
#ifdef MUTANT_READY_BEFORE_SUBSCRIBED
	if
	:: !is_subscribed[w] -> step[w] = SUBSCRIBE
	:: else -> end_bring_up(w)
	fi
#else
	end_bring_up(w)
#endif
}

inline failed_done(w)
{
	if
	:: cur[w] == 0 -> failed_generation[w] = at[w]
	:: else -> is_dirty[w] = true
	fi;
	end_bring_up(w)
}

/* Serves on; its row may say `draining`. */
inline stay(w)
{
	at[w] = cur[w];
	step[w] = READY
}

inline draining_done(w)
{
	if
	:: answer == CHANGED && evict[w] == SURPLUS -> stay(w)
	:: else ->
		if
		:: evict[w] == IDLE && turn[w] != 0 -> stay(w) /* revive */
		:: else ->
			is_leaving[w] = true;
#ifdef MUTANT_GONE_BEFORE_UNSUBSCRIBED
			step[w] = GONE
#else
			advance_leaving(w)
#endif
		fi
	fi;
	evict[w] = 0
}

inline gone_done(w)
{
	has_placement[w] = false;
	failed_generation[w] = 0;
	is_dirty[w] = is_dirty[w] || has_event[w];
	step_advance(w)
}

inline pool_recorded(w)
{
	is_dirty[w] = is_dirty[w] || (answer == CHANGED);
	if
	:: answer == LOST -> step_lose(w)
	:: else ->
		if
		:: step[w] == READY ->
			pass_on(w, answer == SHORT);
			ready_done(w)
		:: step[w] == FAILED_STEP -> failed_done(w)
		:: step[w] == GIVE_BACK ->
			has_placement[w] = (cur[w] != 0);
			end_bring_up(w)
		:: step[w] == UNDO -> end_bring_up(w)
		:: step[w] == DRAINING -> draining_done(w)
		:: step[w] == GONE -> gone_done(w)
		fi
	fi
}

/* --- lifecycle.c: what a step does in the database --- */
#define IS_WRITE(w)                                                                                                    \
	(step[w] == READY || step[w] == FAILED_STEP || step[w] == GIVE_BACK || step[w] == UNDO || step[w] == DRAINING ||   \
	 step[w] == GONE)

/* work_place */
inline work_place(w)
{
	if
	:: step[w] == READY ->
		new_hash = (is_version_new[w] -> cur_hash[w] : 0);
		placement_ready(w, at[w])
	:: step[w] == FAILED_STEP -> placement_failed(w, at[w], cur[w] != 0)
	:: step[w] == GIVE_BACK || step[w] == UNDO -> placement_give_back(w)
	:: step[w] == DRAINING && evict[w] == SURPLUS -> placement_drop_surplus(w)
	:: step[w] == DRAINING && evict[w] != SURPLUS -> placement_draining(w)
	:: step[w] == GONE -> placement_gone(w)
	fi
}

/* --- reconcile.c: has a comparison of this worker's copy with the row anything to do? --- */
/* pool_compare, and then the decision on the row. That of a poisoned App is asked for, and refused, every time. */
#define IS_POISON (attempts >= ATTEMPTS_MAX)
#define COMPARE_FINDS_HELD(w)                                                                                          \
	(cur[w] != 0 && !is_leaving[w] &&                                                                              \
	 (!is_active || IS_BELOW_UNLOAD(cur[w]) || (IS_REBUILD_DUE(w) && !is_backoff && !IS_POISON) ||                 \
	  (cur[w] != generation && !IS_REBUILD_DUE(w))))
#define COMPARE_FINDS_LEAVING(w) (is_leaving[w] && IS_LOAD_WANTED)
#define COMPARE_FINDS_FAILED(w)                                                                                        \
	(failed_generation[w] != 0 &&                                                                                  \
	 (IS_LOAD_WANTED || !is_active || IS_BELOW_UNLOAD(failed_generation[w])))
#define COMPARE_FINDS(w) (COMPARE_FINDS_HELD(w) || COMPARE_FINDS_LEAVING(w) || COMPARE_FINDS_FAILED(w))
#define COMPARE_IS_SAME(w) (cur[w] != 0 && !is_leaving[w] && cur[w] == generation && !IS_REBUILD_DUE(w))
/* is_recorded and is_surplus of SQL_APPS_HELD */
#define COMPARE_FINDS_UNRECORDED(w)                                                                                    \
	(COMPARE_IS_SAME(w) &&                                                                                         \
	 !(OWN_ROW(w) && place[w] == PLACED_READY && place_generation[w] == generation && place_build[w] == 0))
#define COMPARE_FINDS_SURPLUS(w)                                                                                       \
	(COMPARE_IS_SAME(w) && !COMPARE_FINDS_UNRECORDED(w) && IS_READY_LIVE(0) + IS_READY_LIVE(1) > REPLICAS)
/* work_orphan: a placement of this incarnation that the pool does not hold */
#define IS_ORPHAN(w) (place[w] != 0 && place_incarnation[w] == who[w] && !POOL_HAS(w))
