/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One accepted request is one transaction: access_check (the App's row locked),
 * the row's UPDATE, superseded operations, the operation, the audit row.
 *
 * Only a request that makes one more App wanted hot needs the org's row, which comes first
 * in the lock order but is known to be needed only when the App's row was read.
 * So the first try goes without; where it turns out to need it, the transaction
 * ends without a write and a second one locks the org first. Loads of Apps that are
 * wanted already, by far most of them, never meet at the org.
 */
#include "core/lifecycle.h"

#include <stdio.h>
#include <string.h>

#include "core/instance.h"
#include "lib/arena.h"
#include "lib/db.h"

struct accepting {
	struct arena *mem;
	const struct lifecycle_request *request;
	bool has_org_lock;
	bool needs_org_lock; /* try again with it */
	struct lifecycle_accepted accepted;
	enum problem problem;
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

static bool check(struct db *db, struct accepting *a, struct err *e)
{
	struct access_request access = a->request->access;

	access.lock_instance = true;
	access.lock_org = a->has_org_lock;
	access.must_be_active = a->request->action != ACTION_UNLOAD;
	return access_check(db, a->mem, &access, &a->accepted.access, &a->problem, e);
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
static bool check_quota(struct db *db, struct accepting *a, const struct instance *next, struct err *e)
{
	bool is_met = false;

	if (!instance_is_wanted_hot(next) || instance_is_wanted_hot(&a->accepted.access.instance))
		return true;
	a->needs_org_lock = !a->has_org_lock;
	if (a->needs_org_lock)
		return true;
	if (!instance_hot_quota_is_met(db, next, &is_met, e))
		return false;
	if (is_met)
		a->problem = PROBLEM_QUOTA_HOT;
	return true;
}

static void make_operation(struct accepting *a, const struct instance *next, const struct holding *holding)
{
	const struct lifecycle_request *request = a->request;
	bool is_done = request->action == ACTION_UNLOAD && holding->held == 0;

	a->accepted.op = (struct operation){
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
	a->accepted.use_loads =
		request->action == ACTION_LOAD || (request->action == ACTION_RELOAD && holding->live == 0);
}

static bool write_accepted(struct db *db, struct accepting *a, const struct instance *next, struct err *e)
{
	struct operation *op = &a->accepted.op;
	struct audit_entry entry = audit_of(a->request, &a->accepted.access, PROBLEM_NONE);
	char detail[64];
	/* An open unload can only be of an App that was once told to unload. */
	bool may_supersede = op->action == ACTION_UNLOAD || a->accepted.access.instance.unload_generation > 0;

	(void)snprintf(detail, sizeof(detail), "operation=%s", op->operation_id.text);
	entry.detail = detail;
	if (!instance_write_wanted(db, next, e) ||
	    (may_supersede && !operation_supersede(db, &op->instance_id, op->action, NULL, e)) ||
	    !operation_insert(db, op, e) || !audit_write(db, &entry, e))
		return false;
	return op_is_open(op->state) || operation_get(db, a->mem, NULL, &a->request->operation_id, op, &a->problem, e);
}

static bool accept_body(struct db *db, void *closure, struct err *e)
{
	struct accepting *a = closure;
	struct holding holding = {0};
	struct instance next;

	a->needs_org_lock = false;
	memset(&a->accepted, 0, sizeof(a->accepted));
	if (!check(db, a, e))
		return false;
	if (a->problem != PROBLEM_NONE)
		return true;
	/* A load is the same whatever is held. */
	if (a->request->action != ACTION_LOAD && !instance_holding(db, &a->accepted.access.instance, &holding, e))
		return false;
	next = next_row(a->request, &a->accepted.access.instance, holding.live > 0);
	if (!check_quota(db, a, &next, e))
		return false;
	if (a->needs_org_lock || a->problem != PROBLEM_NONE)
		return true;
	make_operation(a, &next, &holding);
	if (!write_accepted(db, a, &next, e))
		return false;
	a->accepted.access.instance = next;
	return true;
}

/* A refusal that cannot be recorded is no answer: nothing was written, so the caller says that the database is away. */
static bool audit_refusal(struct db *db, const struct accepting *a, struct err *e)
{
	struct audit_entry entry = audit_of(a->request, &a->accepted.access, a->problem);

	if (audit_write(db, &entry, e))
		return true;
	if (e && e->code == ERR_UNCERTAIN)
		e->code = ERR_DOWN;
	return false;
}

bool lifecycle_accept(struct db *db, struct arena *mem, const struct lifecycle_request *request,
		      struct lifecycle_accepted *ret_accepted, enum problem *ret_problem, struct err *e)
{
	struct accepting a = {.mem = mem, .request = request};

	if (!db_transaction(db, accept_body, &a, e))
		return false;
	if (a.needs_org_lock) {
		a.has_org_lock = true;
		if (!db_transaction(db, accept_body, &a, e))
			return false;
	}
	if (a.problem != PROBLEM_NONE && !audit_refusal(db, &a, e))
		return false;
	*ret_accepted = a.accepted;
	*ret_problem = a.problem;
	return true;
}
