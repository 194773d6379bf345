/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may be left waiting, and for how long. Without LIVENESS: anything, for ever. With it every process goes on (weak
 * fairness), and where several wait for the same thing they take turns:
 *
 *   periodic tasks  are seconds apart, the steps milliseconds: they come when nothing else is left to do, and none comes
 *                   again before every other one that finds something has come;
 *   loads           the bus gives them to those that ask, in turn: a worker takes at most IN_A_ROW_MAX in a row that the
 *                   other one could have had.
 */
#define IS_CALM(w) (process[w] != UP || (step[w] == 0 && !change[w] && lease_valid[w] && keeper_who[w] == who[w]))
#define CALM (loads == 0 && IS_CALM(0) && IS_CALM(1))

/* events_ask */
#define CAN_TAKE_LOAD(w) (process[w] == UP && IS_LEASE_VALID(w))

/* --- what each periodic task finds to do --- */
#define CAN_LEAD(w) (process[w] == UP && lease_valid[w] && incarnation[w] == keeper_who[w])
#define LEADER (CAN_LEAD(0) || CAN_LEAD(1))
#define IS_READY_NOW(p) (IS_READY_LIVE(p) && place_generation[p] == generation)

#ifdef MUTANT_DECLARED_DEAD_ON_AN_OLD_LOOK
bool seen_expired[WORKERS];
#define SEEMS_DEAD(p) (seen_expired[p])
#else
#define SEEMS_DEAD(p) (!lease_valid[p])
#endif
#define IS_DECLARABLE(p) (incarnation[p] != NOBODY && place[p] != 0 && STANDS(p) && SEEMS_DEAD(p))
#ifdef MUTANT_REAPED_WITHOUT_DECLARING
#define IS_REAPABLE(p) (place[p] != 0 && (!STANDS(p) || !lease_valid[p]))
#else
#define IS_REAPABLE(p) (place[p] != 0 && !STANDS(p))
#endif
#define REAP_FINDS (LEADER && (IS_DECLARABLE(0) || IS_DECLARABLE(1) || IS_REAPABLE(0) || IS_REAPABLE(1)))

/* The sweep's look, and copies_need_recovery */
#ifdef MUTANT_NO_SWEEP
#define SWEEP_FINDS false
#else
#define SWEEP_FINDS                                                                                                    \
	(LEADER && IS_WANTED_HOT && !HAS_LOAD_WANTED && !is_backoff &&                                                 \
	 attempts < ATTEMPTS_MAX + IS_BUILD(0) + IS_BUILD(1) && IS_LIVE(0) + IS_LIVE(1) < WANTED)
#endif

/* Only what publishing again would change: the event waits already, or nobody has the App, or nothing ends. */
#define IS_NEWS ((HAS_LOAD_WANTED && loads == 0) || (POOL_HAS(0) && !change[0]) || (POOL_HAS(1) && !change[1]))
#define IS_FULFILLED                                                                                                   \
	((HAS_OPEN_UNLOAD && UNLOAD_IS_FULFILLED(unload_generation)) ||                                                \
	 (HAS_LOAD_WANTED && IS_READY_NOW(0) + IS_READY_NOW(1) >= WANTED))
#ifdef MUTANT_NOTHING_IS_PUBLISHED_AGAIN
#define REPUBLISH_FINDS false
#else
#define REPUBLISH_FINDS                                                                                                \
	(LEADER && (HAS_LOAD_WANTED || HAS_OPEN_UNLOAD) && !IS_BUSY(0) && !IS_BUSY(1) &&                               \
	 (IS_FULFILLED || (!is_backoff && IS_NEWS)))
#endif

#define RECONCILE_LOOKS(w) (COMPARE_FINDS(w) || COMPARE_FINDS_UNRECORDED(w) || COMPARE_FINDS_SURPLUS(w))
#ifdef MUTANT_NO_RECONCILE
#define HELD_FINDS(w) false
#else
#define HELD_FINDS(w) (process[w] == UP && step[w] == 0 && RECONCILE_LOOKS(w))
#endif
#ifdef MUTANT_PLACEMENTS_NOBODY_HOLDS_STAY
#define ORPHAN_FINDS(w) false
#else
#define ORPHAN_FINDS(w) (process[w] == UP && IS_ORPHAN(w))
#endif
#define RECONCILE_FINDS(w) (HELD_FINDS(w) || ORPHAN_FINDS(w))

/* --- turns --- */
/* The tasks: the worker's number is that of its reconcile. */
#define REAP 2
#define RETRY 3
#define SWEEP 4
#define REPUBLISH 5

#ifdef LIVENESS
byte had_turn; /* a bit for each task */
#define HAD_TURN(t) (had_turn & (1 << t))
#define WAITS(t, finds) (!HAD_TURN(t) && finds)
#define SOME_TASK_WAITS                                                                                                \
	(WAITS(0, RECONCILE_FINDS(0)) || WAITS(1, RECONCILE_FINDS(1)) || WAITS(REAP, REAP_FINDS) ||                    \
	 WAITS(RETRY, is_backoff) || WAITS(SWEEP, SWEEP_FINDS) || WAITS(REPUBLISH, REPUBLISH_FINDS))
#define HAS_TURN(t) (CALM && (!HAD_TURN(t) || !SOME_TASK_WAITS))

inline take_turn(t)
{
	had_turn = (HAD_TURN(t) -> 0 : had_turn) | (1 << t)
}

#ifndef IN_A_ROW_MAX
#define IN_A_ROW_MAX 2
#endif
byte in_a_row[WORKERS];
#define GETS_LOAD(w) (in_a_row[w] < IN_A_ROW_MAX || !CAN_TAKE_LOAD(1 - w))

inline take_load(w)
{
	in_a_row[w] = (CAN_TAKE_LOAD(1 - w) -> in_a_row[w] + 1 : 0);
	in_a_row[1 - w] = 0;
	loads--
}
#else
#ifdef SPINNING
bool is_quiet; /* no periodic task comes any more */
#define HAS_TURN(t) (!is_quiet)
#else
#define HAS_TURN(t) true
#endif
#define GETS_LOAD(w) true

inline take_turn(t)
{
	skip
}

inline take_load(w)
{
	loads--
}
#endif
/* Publishing again comes seconds after what it repeats; an earlier one is the fault of an event that is repeated. */
#define REPUBLISH_HAS_TURN (CALM && HAS_TURN(REPUBLISH))
