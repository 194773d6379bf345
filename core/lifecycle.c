/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One accepted request is access_check (the App's row locked), the row's UPDATE,
 * superseded operations, the operation, the audit row. Requests about different Apps that come together share a
 * transaction, and each of these steps is one round trip for all of them.
 *
 * Only a request that makes one more App wanted hot needs the org's row, which comes first
 * in the lock order but is known to be needed only when the App's row was read.
 * So the first try goes without; a request that turns out to need it is left over, and tried again on its own with the
 * org locked first. Loads of Apps that are wanted already, by far most of them, never meet at the org. Left over are
 * also a second request about the same App, and one whose row somebody else holds: nobody waits for another's App.
 */
#include "core/lifecycle.h"

#include <stdio.h>
#include <string.h>

#include "core/instance.h"
#include "core/sql.h"
#include "lib/arena.h"
#include "lib/db.h"

#define DETAIL_SIZE 64

/* One transaction. */
struct accepting {
	struct lifecycle_step **steps;
	unsigned count;
	/* Of those that are accepted: */
	struct lifecycle_step *taken[SQL_SET_MAX];
	struct instance next[SQL_SET_MAX]; /* the row as it will be */
	unsigned taken_count;
};

static const char *audit_action(enum action action)
{
	static const char *const names[] = {
		[ACTION_LOAD] = "instance.load",
		[ACTION_UNLOAD] = "instance.unload",
		[ACTION_RELOAD] = "instance.reload",
	};

	return names[action];
}

static enum source source_of(enum action action)
{
	static const enum source sources[] = {
		[ACTION_LOAD] = SOURCE_API_LOAD,
		[ACTION_UNLOAD] = SOURCE_API_UNLOAD,
		[ACTION_RELOAD] = SOURCE_API_RELOAD,
	};

	return sources[action];
}

static struct audit_entry audit_of(const struct lifecycle_request *request, const struct access *access,
				   enum problem problem)
{
	struct audit_entry entry = {
		.org_id = request->access.org_id,
		.token_id = access->caller.token_id,
		.role = id_is_set(&access->caller.token_id) ? role_name(access->caller.role) : NULL,
		.action = audit_action(request->action),
		.result = problem,
		.origin = request->origin,
	};

	if (id_is_set(&request->access.instance_id))
		entry.target = request->access.instance_id.text;
	return entry;
}

/* The row as the request wants it. is_loaded: a live copy stands that no unload has doomed. */
static struct instance next_row(const struct lifecycle_request *request, const struct instance *current, bool is_loaded)
{
	struct instance next = *current;

	next.generation = current->generation + 1;
	if (request->tier >= 0)
		next.tier = (enum tier)request->tier;
	switch (request->action) {
	case ACTION_LOAD:
		next.desired_state = DESIRED_LOADED;
		break;
	case ACTION_UNLOAD:
		next.desired_state = DESIRED_UNLOADED;
		next.unload_generation = next.generation;
		break;
	case ACTION_RELOAD:
		next.rebuild_generation = next.generation;
		if (!is_loaded)
			next.desired_state = DESIRED_LOADED;
		break;
	}
	return next;
}

/* Refuses one more hot App than the org may have, or finds that the org's row must be locked first. */
static bool check_quota(struct db *db, struct lifecycle_step *step, const struct instance *next, struct err *e)
{
	bool is_met = false;

	if (!instance_is_wanted_hot(next) || instance_is_wanted_hot(&step->accepted.access.instance))
		return true;
	step->is_left_over = !step->has_org_lock;
	if (step->is_left_over)
		return true;
	if (!instance_hot_quota_is_met(db, next, &is_met, e))
		return false;
	if (is_met)
		step->problem = PROBLEM_QUOTA_HOT;
	return true;
}

static void make_operation(struct lifecycle_step *step, const struct instance *next, const struct holding *holding)
{
	const struct lifecycle_request *request = step->request;
	bool is_done = request->action == ACTION_UNLOAD && holding->held == 0;

	step->accepted.op = (struct operation){
		.operation_id = request->operation_id,
		.instance_id = next->instance_id,
		.org_id = next->org_id,
		.action = request->action,
		.tier = next->tier,
		.generation = next->generation,
		.state = is_done ? OP_SUCCEEDED : OP_ACCEPTED,
		.source = source_of(request->action),
		.request_id = request->origin.request_id,
		.fresh = request->action == ACTION_RELOAD && request->fresh,
		.drain_s = request->action == ACTION_UNLOAD ? request->drain_s : -1,
	};
	step->accepted.use_loads =
		request->action == ACTION_LOAD || (request->action == ACTION_RELOAD && holding->live == 0);
}

/* Its row is locked and it may be asked: is it taken? */
static bool decide(struct db *db, struct accepting *a, struct lifecycle_step *step, struct err *e)
{
	struct instance *next = &a->next[a->taken_count];
	struct holding holding = {0};

	if (step->is_left_over || step->problem != PROBLEM_NONE)
		return true;
	/* A load is the same whatever is held. */
	if (step->request->action != ACTION_LOAD && !instance_holding(db, &step->accepted.access.instance, &holding, e))
		return false;
	*next = next_row(step->request, &step->accepted.access.instance, holding.live > 0);
	if (!check_quota(db, step, next, e))
		return false;
	if (step->is_left_over || step->problem != PROBLEM_NONE)
		return true;
	make_operation(step, next, &holding);
	a->taken[a->taken_count++] = step;
	return true;
}

static bool supersede(struct db *db, const struct accepting *a, struct err *e)
{
	const struct operation *ops[SQL_SET_MAX];
	unsigned count = 0;

	for (unsigned i = 0; i < a->taken_count; i++) {
		const struct lifecycle_accepted *accepted = &a->taken[i]->accepted;

		/* An open unload can only be of an App that was once told to unload. */
		if (accepted->op.action == ACTION_UNLOAD || accepted->access.instance.unload_generation > 0)
			ops[count++] = &accepted->op;
	}
	return count == 0 || operation_supersede_set(db, ops, count, e);
}

static bool insert_operations(struct db *db, const struct accepting *a, struct err *e)
{
	const struct operation *ops[SQL_SET_MAX];

	for (unsigned i = 0; i < a->taken_count; i++)
		ops[i] = &a->taken[i]->accepted.op;
	return operation_insert_set(db, ops, a->taken_count, e);
}

static bool write_audit(struct db *db, const struct accepting *a, struct err *e)
{
	struct audit_entry entries[SQL_SET_MAX];
	char details[SQL_SET_MAX][DETAIL_SIZE];

	for (unsigned i = 0; i < a->taken_count; i++) {
		const struct lifecycle_step *step = a->taken[i];

		entries[i] = audit_of(step->request, &step->accepted.access, PROBLEM_NONE);
		(void)snprintf(details[i], DETAIL_SIZE, "operation=%s", step->accepted.op.operation_id.text);
		entries[i].detail = details[i];
	}
	return audit_write_set(db, entries, a->taken_count, e);
}

static bool write_taken(struct db *db, struct accepting *a, struct err *e)
{
	if (a->taken_count == 0)
		return true;
	if (!instance_write_wanted_set(db, a->next, a->taken_count, e) || !supersede(db, a, e) ||
	    !insert_operations(db, a, e) || !write_audit(db, a, e))
		return false;
	for (unsigned i = 0; i < a->taken_count; i++) {
		struct lifecycle_step *step = a->taken[i];
		struct operation *op = &step->accepted.op;

		step->accepted.access.instance = a->next[i];
		/* One that is over at once has its times from the database. */
		if (!op_is_open(op->state) &&
		    !operation_get(db, step->mem, NULL, &step->request->operation_id, op, &step->problem, e))
			return false;
	}
	return true;
}

/* --- who may ask --- */

static struct access_request access_of(const struct lifecycle_step *step)
{
	struct access_request access = step->request->access;

	access.lock_instance = true;
	access.lock_org = step->has_org_lock;
	access.must_be_active = step->request->action != ACTION_UNLOAD;
	return access;
}

static bool check_one(struct db *db, struct lifecycle_step *step, struct err *e)
{
	struct access_request access = access_of(step);

	return access_check(db, step->mem, &access, &step->accepted.access, &step->problem, e);
}

static bool is_of_earlier_app(const struct accepting *a, unsigned at)
{
	for (unsigned i = 0; i < at; i++)
		if (id_equal(&a->steps[i]->request->access.instance_id, &a->steps[at]->request->access.instance_id))
			return true;
	return false;
}

static bool check_set(struct db *db, struct accepting *a, struct err *e)
{
	struct access_request requests[SQL_SET_MAX];
	struct access_step checks[SQL_SET_MAX];
	struct lifecycle_step *checked[SQL_SET_MAX];
	unsigned count = 0;

	for (unsigned i = 0; i < a->count; i++) {
		struct lifecycle_step *step = a->steps[i];

		step->is_left_over = !id_is_set(&step->request->access.instance_id) || is_of_earlier_app(a, i);
		if (step->is_left_over)
			continue;
		requests[count] = access_of(step);
		checks[count] = (struct access_step){.request = &requests[count], .mem = step->mem};
		checked[count++] = step;
	}
	if (count > 0 && !access_check_set(db, checks, count, e))
		return false;
	for (unsigned i = 0; i < count; i++) {
		checked[i]->is_left_over = checks[i].is_left_over;
		checked[i]->accepted.access = checks[i].access;
		checked[i]->problem = checks[i].problem;
	}
	return true;
}

static bool accept_body(struct db *db, void *closure, struct err *e)
{
	struct accepting *a = closure;

	a->taken_count = 0;
	for (unsigned i = 0; i < a->count; i++) {
		memset(&a->steps[i]->accepted, 0, sizeof(a->steps[i]->accepted));
		a->steps[i]->is_left_over = false;
		a->steps[i]->problem = PROBLEM_NONE;
	}
	if (!(a->count == 1 ? check_one(db, a->steps[0], e) : check_set(db, a, e)))
		return false;
	for (unsigned i = 0; i < a->count; i++)
		if (!decide(db, a, a->steps[i], e))
			return false;
	return write_taken(db, a, e);
}

/* --- the calls --- */

/* A refusal that cannot be recorded is no answer: nothing was written, so the caller says that the database is away. */
static bool audit_refusal(struct db *db, const struct lifecycle_step *step, struct err *e)
{
	struct audit_entry entry = audit_of(step->request, &step->accepted.access, step->problem);

	if (audit_write(db, &entry, e))
		return true;
	if (e->code == ERR_UNCERTAIN)
		e->code = ERR_DOWN;
	return false;
}

static void accept_one(struct db *db, struct lifecycle_step *step)
{
	struct accepting a = {.steps = &step, .count = 1};

	step->has_org_lock = false;
	err_clear(&step->e);
	step->ok = db_transaction(db, accept_body, &a, &step->e);
	if (step->ok && step->is_left_over) {
		step->has_org_lock = true;
		step->ok = db_transaction(db, accept_body, &a, &step->e);
	}
	if (step->ok && step->problem != PROBLEM_NONE)
		step->ok = audit_refusal(db, step, &step->e);
}

static void accept_set(struct db *db, struct lifecycle_step **steps, unsigned count)
{
	struct accepting a = {.steps = steps, .count = count};
	struct err e = {0};
	bool ok;

	for (unsigned i = 0; i < count; i++)
		steps[i]->has_org_lock = false;
	ok = count > 1 && db_transaction(db, accept_body, &a, &e);
	for (unsigned i = 0; i < count; i++) {
		struct lifecycle_step *step = steps[i];

		err_clear(&step->e);
		step->ok = ok;
		if (e.code == ERR_DOWN || e.code == ERR_UNCERTAIN)
			step->e = e;
		else if (!ok || step->is_left_over)
			accept_one(db, step);
		else if (step->problem != PROBLEM_NONE)
			step->ok = audit_refusal(db, step, &step->e);
	}
}

void lifecycle_accept(struct db *db, struct lifecycle_step **steps, unsigned count)
{
	for (unsigned at = 0; at < count; at += SQL_SET_MAX)
		accept_set(db, steps + at, count - at < SQL_SET_MAX ? count - at : SQL_SET_MAX);
}
