/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sealing keys as the database knows them: their states, and which running program holds which. The keys themselves
 * are in the key ring (core/keyring.h), never here.
 *
 *   new → current → old → retired
 *
 * One is current: it seals, on all hosts, from the commit that made it so. Old ones still open. Of a retired key
 * nothing is left but its row, so that no id is used twice.
 */
#ifndef CORE_SEALING_KEY_H
#define CORE_SEALING_KEY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/keyring.h"
#include "core/problem.h"
#include "lib/id.h"

struct arena;
struct db;

#define HOLDER_SEEN_S 150 /* a program that reported so lately runs; it reports each minute */

enum sealing_key_state { SEALING_NEW, SEALING_CURRENT, SEALING_OLD, SEALING_RETIRED };
const char *sealing_key_state_name(enum sealing_key_state state);

struct sealing_key {
	struct keyring_key key;
	enum sealing_key_state state;
	uint64_t sealed_count;               /* values that it seals */
	const char *created_at, *changed_at; /* RFC 3339 */
};

/* The oldest first, at most SQL_PAGE_MAX (core/sql.h). */
bool sealing_key_list(struct db *db, struct arena *mem, struct sealing_key **ret_keys, unsigned *ret_count,
		      struct err *e) MUST_CHECK;
/*
 * The one that seals, in the caller's transaction, and the current one until that ends: whoever makes another one
 * current waits. *ret_found false: there is none yet.
 */
bool sealing_key_current(struct db *db, struct keyring_key *ret_key, bool *ret_found, struct err *e) MUST_CHECK;
/* The first one becomes current at once, in *ret_state. PROBLEM_NAME_TAKEN: the id was used before. */
bool sealing_key_add(struct db *db, const struct keyring_key *key, enum sealing_key_state *ret_state,
		     enum problem *ret_problem, struct err *e) MUST_CHECK;
/* All others that are not retired become old. When it returns true, whatever was sealed with another one is committed
 * or will not be. Inside the caller's transaction. */
bool sealing_key_make_current(struct db *db, const char *key_id, struct err *e) MUST_CHECK;

enum retirement { RETIRED, RETIRE_UNKNOWN, RETIRE_CURRENT, RETIRE_IN_USE };
/* Only one that seals nothing any more, nor will. Inside the caller's transaction. */
bool sealing_key_retire(struct db *db, const char *key_id, enum retirement *ret_retirement, struct err *e) MUST_CHECK;

/* --- who holds what --- */

struct key_holder {
	struct id process_id;
	const char *program, *host, *seen_at;
};

/* What this process holds, whole, as it is now; also that it runs and holds none. Removes what nobody has reported for
 * long. A transaction of its own. */
bool key_holder_report(struct db *db, const struct key_holder *holder, const struct keyring_key *keys, unsigned count,
		       struct err *e) MUST_CHECK;
/* It ends. */
bool key_holder_forget(struct db *db, const struct id *process_id, struct err *e) MUST_CHECK;

/* One running program and one key that is not retired. */
struct key_held {
	struct key_holder holder;
	const char *key_id;
	enum held { HELD, HELD_NOT, HELD_OTHER } held; /* OTHER: another key under that id */
};
/* All such pairs, what is lacking first; at most SQL_PAGE_MAX (core/sql.h). */
bool key_holder_list(struct db *db, struct arena *mem, struct key_held **ret_held, unsigned *ret_count,
		     struct err *e) MUST_CHECK;

#endif
