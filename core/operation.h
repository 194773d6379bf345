/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations: accepted lifecycle requests with their outcomes, and the outbox.
 *
 *   accepted → running → succeeded | failed(reason) | superseded
 *
 * A load ends when as many copies as wanted are ready at its generation or later; an unload when no placement below its
 * generation is left; a reload when one is ready at its generation or later and none below may serve: loading or ready,
 * of an incarnation that stands, even where its lease has just run out, since it may be renewed. Whoever changes a
 * placement calls operation_settle in the same transaction, under the App's row lock.
 */
#ifndef CORE_OPERATION_H
#define CORE_OPERATION_H

#include <stdbool.h>
#include <stdint.h>

#include "core/names.h"
#include "core/problem.h"
#include "lib/id.h"

struct arena;
struct db;
struct id_set;

struct operation {
	struct id operation_id, instance_id, org_id;
	enum action action;
	enum tier tier;
	uint64_t generation;
	enum op_state state;
	const char *reason; /* NULL: none */
	enum source source;
	const char *worker_id; /* NULL: none yet */
	const char *request_id;
	bool fresh;
	int64_t drain_s;                                    /* -1: the configured one */
	const char *accepted_at, *started_at, *finished_at; /* RFC 3339, NULL: not yet */
};

/* Inserts it in its state (OP_ACCEPTED; OP_SUCCEEDED where there was nothing to do), next_publish_at 5 s from now.
 * Inside the caller's transaction. */
bool operation_insert(struct db *db, const struct operation *op, struct err *e) MUST_CHECK;
/* Several in one round trip; at least one. */
bool operation_insert_set(struct db *db, const struct operation *const *ops, unsigned count, struct err *e) MUST_CHECK;
/*
 * Older open operations of the App that wanted something else become superseded: a load or reload ends open unloads and
 * an unload ends open loads and reloads. Those that wanted the same stay open and end together with the new one. except
 * may be NULL.
 */
bool operation_supersede(struct db *db, const struct id *instance_id, enum action wanted, const struct id *except,
			 struct err *e) MUST_CHECK;
/* Before each of these operations is inserted; at least one. */
bool operation_supersede_set(struct db *db, const struct operation *const *ops, unsigned count,
			     struct err *e) MUST_CHECK;
/* PROBLEM_OPERATION_NOT_FOUND; also for one of another org (org_id NULL: any). */
bool operation_get(struct db *db, struct arena *mem, const struct id *org_id, const struct id *operation_id,
		   struct operation *ret_op, enum problem *ret_problem, struct err *e) MUST_CHECK;
/* Newest first: after is the last id of the page before. */
bool operation_list(struct db *db, struct arena *mem, const struct id *instance_id, const struct id *after,
		    unsigned limit, struct operation **ret_ops, unsigned *ret_count, struct err *e) MUST_CHECK;

/* Ends every open operation of the App that its placements fulfil now. worker_id NULL: the app did it. The App's row is
 * locked. *ret_ended counts them. */
bool operation_settle(struct db *db, const struct id *instance_id, const char *worker_id, unsigned *ret_ended,
		      struct err *e) MUST_CHECK;
/* The same for up to SQL_SET_MAX (core/sql.h) locked Apps, at least one; *ret_ended is the sum. */
bool operation_settle_set(struct db *db, const struct id_set *instance_ids, const char *worker_id, unsigned *ret_ended,
			  struct err *e) MUST_CHECK;
/* Fails every open load and reload up to the generation. */
bool operation_fail(struct db *db, const struct id *instance_id, uint64_t generation, const char *reason,
		    const char *worker_id, unsigned *ret_ended, struct err *e) MUST_CHECK;

/*
 * A demand load by chat: one open operation per (App, generation), which everyone joins; the row is not touched.
 * *ret_op is the open one, *ret_is_new whether this call made it. PROBLEM_INSTANCE_FAILED with *ret_retry_after_s while
 * a backoff runs, PROBLEM_INSTANCE_NOT_LOADED where it has become hot and nothing is open. One transaction of its own.
 */
bool operation_demand(struct db *db, struct arena *mem, const struct id *instance_id, const char *request_id,
		      struct operation *ret_op, bool *ret_is_new, int *ret_retry_after_s, const char **ret_reason,
		      enum problem *ret_problem, struct err *e) MUST_CHECK;

#endif
