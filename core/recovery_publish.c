/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outbox: open operations that nobody acted on are published again. Those that are due are found by their index and
 * decided in sets, as in recovery.c.
 */
#include "core/recovery.h"

#include "core/copies.h"
#include "core/recovery_private.h"
#include "core/sql.h"
#include "lib/arena.h"
#include "lib/db.h"

#define MEMORY_MAX 262144 /* texts of the operations of one set */

/* A scalar subquery and no EXISTS, as in recovery.c. */
static const char SQL_TO_PUBLISH[] =
	"SELECT op.instance_id, op.operation_id FROM operations op"
	" WHERE op.is_open = 1 AND op.next_publish_at <= UTC_TIMESTAMP(3) AND"
	" (SELECT COUNT(*) FROM placements p"
	" LEFT JOIN workers w ON w.worker_id = p.worker_id AND w.incarnation = p.incarnation"
	" AND w.lease_until > UTC_TIMESTAMP(3)"
	" WHERE p.instance_id = op.instance_id AND (p.state = 'draining' OR"
	" (w.worker_id IS NOT NULL AND (p.state = 'loading' OR p.build_generation IS NOT NULL)))) = 0"
	" ORDER BY op.next_publish_at LIMIT ?";
/* The first time again after 10 s, then twice as long each time. Assignments run from left to right. */
SQL_SET(SQL_PUBLISHED,
	"UPDATE operations FORCE INDEX (PRIMARY) SET publish_count = publish_count + 1,"
	" next_publish_at = UTC_TIMESTAMP(3) + INTERVAL LEAST(300, 5 << LEAST(publish_count, 6)) SECOND"
	" WHERE operation_id IN ",
	" AND is_open = 1");
static const char SQL_PUBLISH_LATER[] =
	"UPDATE operations SET next_publish_at = UTC_TIMESTAMP(3) + INTERVAL ? * 1000 MICROSECOND"
	" WHERE operation_id = ? AND is_open = 1";
SQL_SET(SQL_OPERATIONS,
	"SELECT " OPERATION_COLUMNS
	", op.publish_count FROM operations op FORCE INDEX (PRIMARY) WHERE op.operation_id IN ",
	"");
enum { OPERATION_PUBLISH_COUNT = OPERATION_COLUMN_COUNT };

struct due {
	struct id instance_id, operation_id;
};

struct publishing {
	struct arena *mem;
	const struct due *due;
	unsigned count;
	struct republish done[SQL_SET_MAX];
	unsigned done_count;
};

static bool lock_due(struct db *db, const struct publishing *p, struct recovery_locked *apps, struct err *e)
{
	struct id_set ids = {.count = 0};

	for (unsigned i = 0; i < p->count; i++)
		if (id_set_find(&ids, &p->due[i].instance_id) < 0)
			id_set_add(&ids, &p->due[i].instance_id);
	return copies_lock(db, &ids, true, apps->copies, &apps->count, e) &&
	       (apps->count == 0 || copies_read(db, NULL, apps->copies, apps->count, e));
}

/* What somebody drains or builds will be heard of. */
static void leave_the_busy(struct recovery_locked *apps)
{
	unsigned left = 0;

	for (unsigned i = 0; i < apps->count; i++)
		if (!apps->copies[i].is_busy)
			apps->copies[left++] = apps->copies[i];
	apps->count = left;
}

static bool postpone(struct db *db, const struct due *due, int64_t delay_ms, struct err *e)
{
	db_use(db, SQL_PUBLISH_LATER);
	db_bind_i64(db, delay_ms);
	db_bind_id(db, &due->operation_id);
	return db_exec(db, e);
}

/* When each comes again. While a backoff runs there is nothing to say: it is published when that is over. */
static bool set_next(struct db *db, const struct publishing *p, struct recovery_locked *apps, struct id_set *ret_due,
		     struct err *e)
{
	struct id_set now = {.count = 0};

	ret_due->count = 0;
	for (unsigned i = 0; i < p->count; i++) {
		const struct copies *c = copies_find(apps->copies, apps->count, &p->due[i].instance_id);

		if (!c)
			continue;
		id_set_add(ret_due, &p->due[i].operation_id);
		if (c->retry_in_ms <= 0)
			id_set_add(&now, &p->due[i].operation_id);
		else if (!postpone(db, &p->due[i], c->retry_in_ms, e))
			return false;
	}
	return sql_exec_set(db, SQL_PUBLISHED, &now, e);
}

static void republish_from_row(struct db *db, struct publishing *p, struct recovery_locked *apps)
{
	struct republish r = {.use_loads = false};
	const struct copies *c;

	operation_from_row(db, p->mem, 0, &r.op);
	r.publish_count = (unsigned)db_col_u64(db, OPERATION_PUBLISH_COUNT);
	c = copies_find(apps->copies, apps->count, &r.op.instance_id);
	r.use_loads = r.op.action != ACTION_UNLOAD && c->live < copies_wanted(c);
	r.ended = apps->ended[c - apps->copies];
	if (r.ended > 0 || (op_is_open(r.op.state) && c->retry_in_ms <= 0))
		p->done[p->done_count++] = r;
}

static bool read_operations(struct db *db, struct publishing *p, struct recovery_locked *apps, const struct id_set *due,
			    struct err *e)
{
	enum db_result result;

	if (due->count == 0)
		return true;
	sql_use_set(db, SQL_OPERATIONS, due);
	sql_bind_set(db, due);
	while ((result = db_step(db, e)) == DB_ROW)
		republish_from_row(db, p, apps);
	return result == DB_DONE && sql_mem_ok(p->mem, e);
}

static bool publish_body(struct db *db, void *closure, struct err *e)
{
	struct publishing *p = closure;
	struct recovery_locked apps;
	struct id_set due;

	p->done_count = 0;
	arena_clear(p->mem);
	if (!lock_due(db, p, &apps, e))
		return false;
	leave_the_busy(&apps);
	return recovery_settle(db, &apps, e) && recovery_fail_poisoned(db, &apps, true, e) &&
	       set_next(db, p, &apps, &due, e) && read_operations(db, p, &apps, &due, e);
}

static bool read_due(struct db *db, struct due *ret_due, unsigned max, unsigned *ret_count, struct err *e)
{
	enum db_result result = DB_DONE;
	unsigned count = 0;

	db_use(db, SQL_TO_PUBLISH);
	db_bind_u64(db, max);
	while (count < max && (result = db_step(db, e)) == DB_ROW) {
		ret_due[count].instance_id = db_col_id(db, 0);
		ret_due[count++].operation_id = db_col_id(db, 1);
	}
	db_done(db);
	*ret_count = count;
	return result != DB_FAIL;
}

bool recovery_republish(struct db *db, unsigned max, republish_fn fn, void *closure, unsigned *ret_count, struct err *e)
{
	struct publishing p = {.mem = arena_new(MEMORY_MAX)};
	struct due due[RECOVERY_PUBLISH_MAX];
	unsigned published = 0;
	unsigned count;
	bool ok = read_due(db, due, max < RECOVERY_PUBLISH_MAX ? max : RECOVERY_PUBLISH_MAX, &count, e);

	for (unsigned at = 0; ok && at < count; at += SQL_SET_MAX) {
		p.due = due + at;
		p.count = count - at < SQL_SET_MAX ? count - at : SQL_SET_MAX;
		ok = db_transaction(db, publish_body, &p, e);
		for (unsigned i = 0; ok && i < p.done_count; i++) {
			published += op_is_open(p.done[i].op.state);
			fn(closure, &p.done[i]);
		}
	}
	arena_free(&p.mem);
	*ret_count = published;
	return ok;
}
