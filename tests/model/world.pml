/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who acts: the operator, the faults, two workers, recovery; and what must hold. Requests and faults are bounded; at any
 * moment the world may decide that there are no more of them. From then on every execution must come to rest, and what
 * must hold then is asserted there. What must hold always is asserted after every step.
 */
byte requests_left = REQUESTS;
byte faults_left = FAULTS;
#if USES > 0
byte uses_left = USES;
#else
#define uses_left 0
#endif
bool has_begun; /* something has happened to a worker; until then both are the same, so it happens to the first */
bool is_ended; /* the whole has come to rest */

/* --- what must always hold --- */
hidden byte no_turn_below_unload;
hidden byte ready_copies_are_reachable;
hidden byte who_is_suspected_has_killed;
#if ATTEMPTS_MAX == 1
byte deaths; /* workers that died or lost their lease */
#define DIES deaths++
#else
#define DIES skip
#endif

/* Sections 4 and 7: an unload that has succeeded is the end of every turn on what it unloaded. */
#define SERVES_BELOW_UNLOAD(w)                                                                                         \
	((WOULD_SERVE(w) && cur[w] < unload_succeeded) ||                                                              \
	 (process[w] == UP && LEASE_KEEPER_IS_VALID(w) && turn[w] != 0 && turn[w] < unload_succeeded))
/* Section 6, the order at the end: who counts as ready can be asked. */
#define READY_UNREACHABLE(w) (process[w] == UP && IS_READY_LIVE(w) && place_incarnation[w] == who[w] && !is_subscribed[w])

inline holds()
{
	no_turn_below_unload = !SERVES_BELOW_UNLOAD(0) && !SERVES_BELOW_UNLOAD(1);
	assert(no_turn_below_unload);
	ready_copies_are_reachable = !READY_UNREACHABLE(0) && !READY_UNREACHABLE(1);
	assert(ready_copies_are_reachable);
#if ATTEMPTS_MAX == 1
	who_is_suspected_has_killed = attempts <= deaths + IS_BUILD(0) + IS_BUILD(1);
	assert(who_is_suspected_has_killed)
#endif
}

/* --- the operator and chats --- */
active proctype operator()
{
end:
	do
	:: d_step { requests_left > 0 && is_active -> requests_left--; accept_load(); holds() }
	:: d_step { requests_left > 0 -> requests_left--; accept_unload(); holds() }
	:: d_step { requests_left > 0 && is_active -> requests_left--; accept_reload(); holds() }
	:: d_step { requests_left > 0 -> requests_left--; accept_config(); holds() }
#ifdef SUSPENDS
	:: d_step { requests_left > 0 && is_active -> requests_left--; accept_suspend(); holds() }
	:: d_step { requests_left > 0 && !is_active -> requests_left--; accept_activate(); holds() }
#endif
#ifdef TIER_DEMAND
	:: d_step { uses_left > 0 && is_active && !is_backoff && !HAS_LOAD_WANTED -> uses_left--; accept_demand(); holds() }
#endif
	:: d_step { requests_left + faults_left + uses_left > 0 ->
		requests_left = 0;
		faults_left = 0;
#if USES > 0
		uses_left = 0
#endif
	}
#ifdef SPINNING
	:: d_step { requests_left + faults_left + uses_left == 0 && !is_quiet -> is_quiet = true }
#endif
	:: is_ended -> break
	od
}

/* --- recovery_pass.c, by whichever worker leads --- */
inline recovery_reap(p_)
{
	take_turn(REAP);
	remove_placement(p_);
	recover_apps(true)
}

/* declare_dead: the lease is read again under the row's lock */
inline declare_dead(p_)
{
	take_turn(REAP);
	incarnation[p_] = NOBODY
}

active proctype recovery()
{
end:
	do
#ifdef MUTANT_DECLARED_DEAD_ON_AN_OLD_LOOK
	:: d_step { !seen_expired[0] && !lease_valid[0] -> seen_expired[0] = true }
	:: d_step { !seen_expired[1] && !lease_valid[1] -> seen_expired[1] = true }
#endif
	:: d_step { LEADER && IS_DECLARABLE(0) && HAS_TURN(REAP) -> declare_dead(0); holds() }
	:: d_step { LEADER && IS_DECLARABLE(1) && HAS_TURN(REAP) -> declare_dead(1); holds() }
	:: d_step { LEADER && IS_REAPABLE(0) && HAS_TURN(REAP) -> recovery_reap(0); holds() }
	:: d_step { LEADER && IS_REAPABLE(1) && HAS_TURN(REAP) -> recovery_reap(1); holds() }
	/* next_attempt_at has passed; recovery_retry is this and the sweep */
	:: d_step { is_backoff && HAS_TURN(RETRY) -> take_turn(RETRY); is_backoff = false }
	:: d_step { SWEEP_FINDS && HAS_TURN(SWEEP) -> take_turn(SWEEP); recover_apps(false); holds() }
	:: d_step { REPUBLISH_FINDS && REPUBLISH_HAS_TURN -> take_turn(REPUBLISH); recovery_republish(); holds() }
	od
}

/* --- workers --- */
hidden byte n;

/* id_new: one that nothing which is left bears */
inline id_new(w)
{
	n = 1;
	do
	:: n == place_incarnation[w] || n == who[w] || n == keeper_who[w] -> n++
	:: else -> break
	od
}

/* lease_register: at once, whatever incarnation stands */
inline lease_register(w)
{
	id_new(w);
	keeper_who[w] = n;
	incarnation[w] = n;
	lease_valid[w] = true;
#ifdef MUTANT_LEASE_COUNTS_FROM_ITS_ANSWER
	valid_until[w] = true
#endif
}

/* lease_renew, and what the keeper makes of its answer */
inline renew(w)
{
	if
#ifndef MUTANT_RENEWED_WHATEVER_INCARNATION
	:: incarnation[w] != keeper_who[w] -> lease_register(w)
#endif
	:: else ->
		lease_valid[w] = true;
#ifdef MUTANT_LEASE_COUNTS_FROM_ITS_ANSWER
		valid_until[w] = true
#endif
	fi
}

/* engine.c: new_incarnation */
inline new_incarnation(w)
{
#ifndef MUTANT_TAKEN_OVER_WITH_ITS_COPIES
	step_lose(w);
	turn[w] = 0; /* it may go on for drain_s; it began before */
#endif
	who[w] = keeper_who[w]
}

#define CAN_BEGIN(w) (w == 0 || has_begun)

inline crash(w, how)
{
	has_begun = true;
	faults_left--;
	DIES;
	pool_events_back(w); /* not acked: it comes again */
	pool_app_remove(w);
	turn[w] = 0;
	change[w] = false;
	who[w] = 0;
	keeper_who[w] = 0;
	process[w] = how
}

inline pool_load_event(w)
{
	has_event[w] = true;
	if
	:: POOL_HAS(w) -> look(w)
	:: else -> step_bring_up(w, false)
	fi
}

/* A worker is four processes: its lease, what comes in, the App's step, and what it does now and then. */

/* --- the process and its lease --- */
proctype lease_keeper(byte w)
{
end:
	do
	:: d_step { CAN_BEGIN(w) && process[w] == UP && faults_left > 0 -> crash(w, DOWN); holds() }
	:: d_step { CAN_BEGIN(w) && process[w] == UP && faults_left > 0 && process[1 - w] != DEAD -> crash(w, DEAD); holds() }
	:: d_step { process[w] == DOWN ->
		process[w] = UP;
		lease_register(w);
		who[w] = keeper_who[w];
		holds() }
	:: d_step { process[w] != UP && lease_valid[w] -> lease_valid[w] = false; holds() }
	:: d_step { CAN_BEGIN(w) && process[w] == UP && faults_left > 0 && lease_valid[w] ->
		has_begun = true;
		faults_left--;
		DIES;
		lease_valid[w] = false;
		holds() }
	:: d_step { process[w] == UP && (!lease_valid[w] || incarnation[w] != keeper_who[w]) -> renew(w); holds() }
	:: d_step { process[w] == UP && keeper_who[w] != who[w] -> new_incarnation(w); holds() }
#ifdef MUTANT_LEASE_COUNTS_FROM_ITS_ANSWER
	:: d_step { valid_until[w] && !lease_valid[w] -> valid_until[w] = false }
#endif
	od
}

/* --- what comes in --- */
proctype inbox(byte w)
{
end:
	do
	:: d_step { CAN_BEGIN(w) && loads > 0 && CAN_TAKE_LOAD(w) && GETS_LOAD(w) ->
		has_begun = true;
		take_load(w);
		pool_load_event(w);
		holds() }
	/* While the row is to be read again anyway it may as well wait. */
	:: d_step { process[w] == UP && change[w] && !(step[w] != 0 && is_dirty[w]) ->
		change[w] = false;
		if
		:: POOL_HAS(w) -> look(w)
		:: else
		fi;
		holds() }
	:: d_step { faults_left > 0 && change[w] -> faults_left--; change[w] = false }
	:: d_step { faults_left > 0 && POOL_HAS(w) && !change[w] -> faults_left--; change[w] = true }
	:: d_step { faults_left > 0 && loads > 0 -> faults_left--; loads-- }
	:: d_step { faults_left > 0 && loads < LOADS_MAX && generation > 1 -> faults_left--; loads++ }
	od
}

/* --- the App's step --- */
proctype step_line(byte w)
{
end:
	do
	:: d_step { process[w] == UP && step[w] == READ -> pool_row_read(w); holds() }
	:: d_step { process[w] == UP && step[w] == CLAIM ->
		placement_claim(w, is_rebuild[w]);
		pool_claimed(w);
		holds() }
	:: d_step { process[w] == UP && step[w] == CLAIM && faults_left > 0 ->
		faults_left--;
		placement_claim(w, is_rebuild[w]);
		claim_failed(w);
		holds() }
	/* built, and the row read again */
	:: d_step { process[w] == UP && step[w] == BUILD -> check(w); holds() }
	:: d_step { process[w] == UP && step[w] == BUILD && faults_left > 0 ->
		faults_left--;
		built[w] = 0;
		built_hash[w] = 0;
		step[w] = FAILED_STEP;
		holds() }
	:: d_step { process[w] == UP && step[w] == SUBSCRIBE ->
		is_subscribed[w] = true;
#ifdef MUTANT_READY_BEFORE_SUBSCRIBED
		end_bring_up(w);
#else
		step[w] = READY;
#endif
		holds() }
	:: d_step { process[w] == UP && step[w] == UNSUBSCRIBE ->
		is_subscribed[w] = false;
#ifdef MUTANT_UNSUBSCRIBED_BEFORE_DRAINING
		if
		:: !is_leaving[w] -> step[w] = DRAINING
		:: else -> step_advance(w)
		fi;
#else
		step_advance(w);
#endif
		holds() }
	:: d_step { process[w] == UP && IS_WRITE(w) -> work_place(w); pool_recorded(w); holds() }
	:: d_step { process[w] == UP && IS_WRITE(w) && faults_left > 0 -> faults_left--; work_place(w); holds() }
	od
}

/* --- turns, reconcile --- */
proctype now_and_then(byte w)
{
end:
	do
#if USES > 0
	:: d_step { uses_left > 0 && turn[w] == 0 && WOULD_SERVE(w) -> uses_left--; turn[w] = cur[w]; holds() }
	:: d_step { process[w] == UP && turn[w] != 0 ->
		turn[w] = 0;
		if
		:: POOL_HAS(w) && step[w] == 0 -> step_advance(w)
		:: else
		fi;
		holds() }
#endif
#ifdef TIER_DEMAND
	:: d_step { process[w] == UP && uses_left > 0 && step[w] == 0 && cur[w] != 0 && !is_leaving[w] &&
		turn[w] == 0 ->
		uses_left--;
		evict[w] = IDLE;
		step[w] = DRAINING;
		holds() }
#endif

	:: d_step { HELD_FINDS(w) && COMPARE_FINDS(w) && HAS_TURN(w) -> take_turn(w); look(w); holds() }
	:: d_step { HELD_FINDS(w) && COMPARE_FINDS_UNRECORDED(w) && HAS_TURN(w) -> take_turn(w); stay(w); holds() }
	:: d_step { HELD_FINDS(w) && COMPARE_FINDS_SURPLUS(w) && HAS_TURN(w) ->
		take_turn(w);
		evict[w] = SURPLUS;
		step[w] = DRAINING;
		holds() }
	:: d_step { ORPHAN_FINDS(w) && HAS_TURN(w) -> take_turn(w); placement_gone(w); holds() }
	od
}

/* --- at rest --- */
#define IS_CLOSED_EXTRA (op_extra == 0)
#define HOLDS(p) (cur[p] != 0 || (place[p] != 0 && place[p] != PLACED_FAILED))
#define SERVES(p)                                                                                                      \
	(IS_READY_NOW(p) && process[p] == UP && is_subscribed[p] && WOULD_SERVE(p) && cur[p] == generation &&             \
	 cur_hash[p] == config_hash)
/* Of a poisoned App nothing is built any more; what served when the last attempt died serves on, as it is. */
#define SERVES_ON(p) (IS_READY_LIVE(p) && is_subscribed[p] && WOULD_SERVE(p) && !IS_BELOW_UNLOAD(cur[p]))

active proctype rest_of_the_world()
{
	bool every_operation_has_ended;
	bool the_end_is_what_the_row_says;
	bool no_copy_too_many;

	timeout ->
#ifdef SPINNING
	is_ended = true;
#else
	d_step {
		every_operation_has_ended = !HAS_LOAD_WANTED && !HAS_OPEN_UNLOAD;
		assert(every_operation_has_ended);
		no_copy_too_many = HOLDS(0) + HOLDS(1) <= WANTED;
		assert(no_copy_too_many);
#ifdef TIER_DEMAND
		the_end_is_what_the_row_says = (!HOLDS(0) || SERVES(0)) && (!HOLDS(1) || SERVES(1)) &&
					       (is_active || !HOLDS(0) && !HOLDS(1));
#else
		the_end_is_what_the_row_says =
			(!IS_WANTED_HOT && !HOLDS(0) && !HOLDS(1)) ||
			(IS_WANTED_HOT && !IS_POISON && SERVES(0) + SERVES(1) == WANTED) ||
			(IS_WANTED_HOT && IS_POISON && (!HOLDS(0) || SERVES_ON(0)) && (!HOLDS(1) || SERVES_ON(1)));
#endif
		assert(the_end_is_what_the_row_says);
		is_ended = true
	}
#endif
}

init {
	d_step {
		process[0] = UP;
		process[1] = UP;
		lease_register(0);
		lease_register(1);
		who[0] = keeper_who[0];
		who[1] = keeper_who[1]
	};
	atomic {
		run lease_keeper(0);
		run inbox(0);
		run step_line(0);
		run now_and_then(0);
		run lease_keeper(1);
		run inbox(1);
		run step_line(1);
		run now_and_then(1)
	}
}

#ifdef LIVENESS
ltl comes_to_rest { <> is_ended }
#endif
#ifdef SPINNING
ltl no_spinning { [] (is_quiet -> <> is_ended) }
#endif
