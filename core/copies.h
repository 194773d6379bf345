/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a decision about one App's copies is made from: its row, locked, then its
 * organization, the copies on all workers, and the worker that asks. Shared by
 * placement.c and recovery.c; both work inside a transaction of theirs.
 *
 *   copies_lock    the row lock; nothing about the App changes from here to the commit
 *   copies_read    a second statement, so that what it reads is not older than the lock
 *   decide, write, operation_settle
 *
 * Live: loading or ready, on a worker whose incarnation stands, whose lease is valid, and that is not leaving.
 */
#ifndef CORE_COPIES_H
#define CORE_COPIES_H

#include <stdbool.h>
#include <stdint.h>

#include "core/lease.h"
#include "core/names.h"
#include "core/operation.h"
#include "core/sql.h"
#include "lib/db.h"
#include "lib/id.h"
#include "lib/secret.h"

struct copies {
	/* Of the App's row, from copies_lock. */
	struct id instance_id, org_id;
	bool is_app_active; /* active and not deleted */
	bool is_wanted_hot; /* that, hot and to be loaded */
	enum tier tier;
	enum desired desired_state;
	uint64_t generation, rebuild_generation, unload_generation;
	uint32_t replicas, attempts;
	int64_t ttl_seconds; /* the App's own; -1: none */
	int64_t retry_in_ms; /* > 0: backoff */
	bool has_trouble;    /* attempts, failures, backoff or a failure's reason stand in the row */
	char config_hash[SECRET_HASH_HEX_SIZE], good_config_hash[SECRET_HASH_HEX_SIZE]; /* good: "" for none */
	struct id llm_config_id, good_llm_config_id;                                    /* "": none */
	uint64_t good_llm_generation;
	/* From copies_read. */
	bool is_active;                  /* org and App */
	bool is_good;                    /* the row's version is the last good one */
	char hash[SECRET_HASH_HEX_SIZE]; /* of the row's version: llm_version_hash */
	uint32_t quota_hot, quota_demand;
	unsigned live_workers;   /* only counted where replicas is above 1, else 1 */
	bool has_open;           /* any open operation: without one there is nothing to settle */
	bool has_open_load;      /* an open load, reload, demand or recovery operation */
	bool fresh;              /* one of them is a reload with fresh */
	int64_t org_ttl_seconds; /* -1: none */
	bool is_registered;      /* the asking worker: its incarnation stands … */
	bool is_lease_valid;     /* … with a valid lease … */
	bool is_leaving;         /* … and leaves */
	unsigned live, ready;    /* copies of others (of all where nobody asks); ready ones are among the live */
	unsigned behind; /* live ones of others that are not at the row's generation, or run its previous version */
	unsigned builds; /* going on at this generation on workers with a valid lease, ours included */
	bool is_busy;    /* somebody drains, or builds: its end will be heard of */
	bool has_own;    /* a placement of the asking incarnation */
	enum place_state own_state;
	uint64_t own_generation;
	bool is_own_build; /* we build this generation */
};

/*
 * Of 1 to SQL_SET_MAX Apps. skip_locked: those that another transaction holds are left out; else they are waited for.
 * ret_copies has the found ones first, in any order: *ret_count.
 */
bool copies_lock(struct db *db, const struct id_set *set, bool skip_locked, struct copies *ret_copies,
		 unsigned *ret_count, struct err *e) MUST_CHECK;
/* After copies_lock, of 1 to SQL_SET_MAX. who NULL: nobody asks. */
bool copies_read(struct db *db, const struct worker_identity *who, struct copies *copies, unsigned count,
		 struct err *e) MUST_CHECK;

/* That App's among them; NULL: it is not there. */
struct copies *copies_find(struct copies *copies, unsigned count, const struct id *instance_id);
/* How many copies there should be: replicas, at most one on each live worker, at least one. */
unsigned copies_wanted(const struct copies *c);
/* Builds at this generation that began and had no result because their worker died. */
unsigned copies_dead_attempts(const struct copies *c);
/* A hot App that must be held, lacks copies, and that nothing brings back yet: no open operation, backoff or poison. */
bool copies_need_recovery(const struct copies *c);
/* The recovery operation, to be inserted. */
void copies_recovery(const struct copies *c, struct operation *ret_op);
/* Fails what is open with "poison", which stays on the row as the reason. */
bool copies_poison(struct db *db, const struct copies *c, const char *worker_id, unsigned *ret_ended,
		   struct err *e) MUST_CHECK;

#endif
