/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases. A row of workers is one name; its incarnation is the start that owns
 * it now. Two things end an incarnation: a later start takes the name
 * (lease_register), or recovery declares it dead by giving the row another
 * incarnation (recovery_reap). Either way every statement of the old one that says
 * worker_id and incarnation finds no row from then on. An expired lease that
 * nobody reaped may be renewed: after an outage of the database the healthy go on.
 *
 * Who may start at all is decided before, by an advisory lock on the name: two
 * processes that share a name would else declare each other dead for ever.
 *
 * The row stays when its worker is dead, since it holds the number of the last
 * statistics flush of the process; recovery_prune removes it after a day.
 */
#include "core/lease.h"

#include <stdio.h>
#include <string.h>

#include "lib/secret.h"

/* The row exists and is locked after it; a new one has an expired lease. */
static const char SQL_MAKE_ROW[] =
	"INSERT INTO workers (worker_id, incarnation, process_id, host, machine_id, lease_until, hot_ceiling,"
	" demand_ceiling, started_at)"
	" VALUES (?, ?, ?, ?, ?, UTC_TIMESTAMP(3) - INTERVAL 1 SECOND, ?, ?, UTC_TIMESTAMP(3))"
	" ON DUPLICATE KEY UPDATE worker_id = VALUES(worker_id)";
static const char SQL_OWNER[] = "SELECT machine_id, process_id, last_flush, lease_until > UTC_TIMESTAMP(3) FROM "
				"workers WHERE worker_id = ? FOR UPDATE";
static const char SQL_REGISTER[] =
	"UPDATE workers SET incarnation = ?, process_id = ?, host = ?, machine_id = ?, state = 'active',"
	" lease_until = UTC_TIMESTAMP(3) + INTERVAL ? SECOND, hot_ceiling = ?, demand_ceiling = ?, last_flush = ?, "
	"started_at = UTC_TIMESTAMP(3)"
	" WHERE worker_id = ?";
static const char SQL_RENEW[] =
	"UPDATE workers SET lease_until = UTC_TIMESTAMP(3) + INTERVAL ? SECOND WHERE worker_id = ? AND incarnation = ?";
static const char SQL_LEAVE[] = "UPDATE workers SET state = 'leaving' WHERE worker_id = ? AND incarnation = ?";
static const char SQL_REMOVE[] = "DELETE FROM workers WHERE worker_id = ? AND incarnation = ?";
/*
 * Live workers but one, each with its newest statistics row (one step from the end of the primary key; MAX would
 * read all of them); a worker that has not flushed yet counts as empty.
 */
#define ROOM_ELSEWHERE(count, ceiling)                                                                                 \
	"SELECT EXISTS (SELECT 1 FROM workers w LEFT JOIN worker_stats s ON s.worker_id = w.worker_id"                 \
	" AND s.flushed_at = (SELECT n.flushed_at FROM worker_stats n WHERE n.worker_id = w.worker_id"                 \
	" ORDER BY n.flushed_at DESC LIMIT 1)"                                                                         \
	" WHERE w.lease_until > UTC_TIMESTAMP(3) AND w.state = 'active' AND w.worker_id <> ?"                          \
	" AND COALESCE(s." count ", 0) < w." ceiling ")"
static const char SQL_ROOM_HOT[] = ROOM_ELSEWHERE("hot_count", "hot_ceiling");
static const char SQL_ROOM_DEMAND[] = ROOM_ELSEWHERE("demand_count", "demand_ceiling");
static const char SQL_CEILINGS[] =
	"UPDATE workers SET hot_ceiling = ?, demand_ceiling = ? WHERE worker_id = ? AND incarnation = ?";
static const char SQL_COUNT_LIVE[] =
	"SELECT COUNT(*) FROM workers WHERE lease_until > UTC_TIMESTAMP(3) AND state = 'active' AND worker_id <> ?";

enum { OWNER_MACHINE, OWNER_PROCESS, OWNER_LAST_FLUSH, OWNER_IS_VALID };

struct registering {
	const struct worker_registration *r;
	uint64_t last_flush;
};

static void bind_who(struct db *db, const struct worker_identity *who)
{
	db_bind_str(db, who->worker_id);
	db_bind_id(db, &who->incarnation);
}

/* Of a name that may be longer than that of a lock. */
enum db_result lease_take_name(struct db *db, const char *worker_id, struct err *e)
{
	char hash[SECRET_HASH_HEX_SIZE];
	char lock[32];

	secret_hash_hex(worker_id, strlen(worker_id), hash);
	(void)snprintf(lock, sizeof(lock), "worker.%.24s", hash);
	return db_lock(db, lock, 0, e);
}

static bool make_row(struct db *db, const struct worker_registration *r, struct err *e)
{
	db_use(db, SQL_MAKE_ROW);
	bind_who(db, &r->who);
	db_bind_id(db, &r->who.process_id);
	db_bind_str(db, r->host);
	db_bind_str(db, r->machine_id);
	db_bind_u64(db, r->hot_ceiling);
	db_bind_u64(db, r->demand_ceiling);
	return db_exec(db, e);
}

/* A process that registers anew goes on with its flush numbers; another one begins at 0. */
static bool check_owner(struct db *db, const struct worker_registration *r, uint64_t *ret_last_flush, struct err *e)
{
	db_use(db, SQL_OWNER);
	db_bind_str(db, r->who.worker_id);
	switch (db_step(db, e)) {
	case DB_ROW:
		break;
	case DB_DONE:
		return err_set(e, ERR_BUSY, "worker %s: its row was removed meanwhile", r->who.worker_id);
	case DB_FAIL:
		return false;
	}
	if (db_col_i64(db, OWNER_IS_VALID) && strcmp(db_col_str(db, OWNER_MACHINE), r->machine_id) != 0)
		return err_set(e, ERR_CONFLICT, "worker %s is registered from another machine, and its lease is valid",
			       r->who.worker_id);
	struct id process_id = db_col_id(db, OWNER_PROCESS);
	*ret_last_flush = id_equal(&process_id, &r->who.process_id) ? db_col_u64(db, OWNER_LAST_FLUSH) : 0;
	return true;
}

static bool register_body(struct db *db, void *closure, struct err *e)
{
	struct registering *job = closure;
	const struct worker_registration *r = job->r;

	if (!make_row(db, r, e) || !check_owner(db, r, &job->last_flush, e))
		return false;
	db_use(db, SQL_REGISTER);
	db_bind_id(db, &r->who.incarnation);
	db_bind_id(db, &r->who.process_id);
	db_bind_str(db, r->host);
	db_bind_str(db, r->machine_id);
	db_bind_i64(db, r->lease_s);
	db_bind_u64(db, r->hot_ceiling);
	db_bind_u64(db, r->demand_ceiling);
	db_bind_u64(db, job->last_flush);
	db_bind_str(db, r->who.worker_id);
	return db_exec(db, e);
}

bool lease_register(struct db *db, const struct worker_registration *r, uint64_t *ret_last_flush, struct err *e)
{
	struct registering job = {.r = r};

	if (!db_transaction(db, register_body, &job, e))
		return false;
	*ret_last_flush = job.last_flush;
	return true;
}

/* Runs the write that is bound: found rows tell whether the incarnation still stands. */
static enum lease_result exec_held(struct db *db, struct err *e)
{
	if (!db_exec(db, e))
		return LEASE_FAIL;
	return db_affected(db) > 0 ? LEASE_HELD : LEASE_LOST;
}

enum lease_result lease_renew(struct db *db, const struct worker_identity *who, int lease_s, struct err *e)
{
	db_use(db, SQL_RENEW);
	db_bind_i64(db, lease_s);
	bind_who(db, who);
	return exec_held(db, e);
}

enum lease_result lease_set_ceilings(struct db *db, const struct worker_identity *who, uint32_t hot_ceiling,
				     uint32_t demand_ceiling, struct err *e)
{
	db_use(db, SQL_CEILINGS);
	db_bind_u64(db, hot_ceiling);
	db_bind_u64(db, demand_ceiling);
	bind_who(db, who);
	return exec_held(db, e);
}

enum lease_result lease_leave(struct db *db, const struct worker_identity *who, struct err *e)
{
	db_use(db, SQL_LEAVE);
	bind_who(db, who);
	return exec_held(db, e);
}

bool lease_remove(struct db *db, const struct worker_identity *who, struct err *e)
{
	db_use(db, SQL_REMOVE);
	bind_who(db, who);
	return db_exec(db, e);
}

bool lease_count_live(struct db *db, const char *except, unsigned *ret_count, struct err *e)
{
	db_use(db, SQL_COUNT_LIVE);
	db_bind_str(db, except ? except : "");
	if (db_step(db, e) != DB_ROW)
		return false;
	*ret_count = (unsigned)db_col_u64(db, 0);
	db_done(db);
	return true;
}

bool lease_has_room_elsewhere(struct db *db, const char *worker_id, enum tier tier, bool *ret_has_room, struct err *e)
{
	db_use(db, tier == TIER_HOT ? SQL_ROOM_HOT : SQL_ROOM_DEMAND);
	db_bind_str(db, worker_id);
	if (db_step(db, e) != DB_ROW)
		return false;
	*ret_has_room = db_col_i64(db, 0) != 0;
	db_done(db);
	return true;
}
