/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of sealing_keys and sealing_key_holders. Whoever seals holds a shared lock on the current key's row until its
 * commit; the switch takes all rows of keys that are not retired. So behind a switch nothing is sealed with an old key
 * that the switch could not see.
 */
#include "core/sealing_key.h"

#include <stdio.h>
#include <string.h>

#include "core/sql.h"
#include "lib/arena.h"
#include "lib/db.h"

static const char SQL_KEY_LIST[] = "SELECT k.key_id, k.fingerprint, k.state, " SQL_UTC("k.created_at") ", " SQL_UTC(
	"k.changed_at") ", "
			"(SELECT COUNT(*) FROM sealed_values v WHERE v.key_id = k.key_id) "
			"FROM sealing_keys k ORDER BY k.created_at, k.key_id LIMIT ?";
static const char SQL_KEY_CURRENT[] =
	"SELECT key_id, fingerprint FROM sealing_keys WHERE is_current = 1 LOCK IN SHARE MODE";
static const char SQL_KEY_INSERT[] =
	"INSERT INTO sealing_keys (key_id, fingerprint, state, created_at, changed_at) "
	"SELECT ?, ?, IF(COUNT(*) = 0, 'current', 'new'), UTC_TIMESTAMP(3), UTC_TIMESTAMP(3) FROM sealing_keys "
	"WHERE state <> 'retired'";
static const char SQL_KEY_STATE[] = "SELECT state FROM sealing_keys WHERE key_id = ? FOR UPDATE";
static const char SQL_KEYS_OLD[] = "UPDATE sealing_keys SET state = 'old', changed_at = UTC_TIMESTAMP(3) "
				   "WHERE state IN ('new', 'current') AND key_id <> ?";
static const char SQL_KEY_SET_STATE[] =
	"UPDATE sealing_keys SET state = ?, changed_at = UTC_TIMESTAMP(3) WHERE key_id = ?";
static const char SQL_KEY_IS_USED[] = "SELECT 1 FROM sealed_values WHERE key_id = ? LIMIT 1";

static const char SQL_HOLDER_FORGET[] = "DELETE FROM sealing_key_holders WHERE process_id = ?";
static const char SQL_HOLDER_FORGET_OLD[] =
	"DELETE FROM sealing_key_holders WHERE seen_at < UTC_TIMESTAMP(3) - INTERVAL 1 DAY LIMIT 1000";
static const char SQL_HOLDER_INSERT[] =
	"INSERT INTO sealing_key_holders (process_id, key_id, program, host, fingerprint, seen_at) "
	"VALUES (?, ?, ?, ?, ?, UTC_TIMESTAMP(3))";
/* The row without a key says that the process runs. */
static const char SQL_HOLDER_LIST[] = "SELECT r.process_id, r.program, r.host, " SQL_UTC(
	"r.seen_at") ", k.key_id, h.key_id IS NOT NULL, h.fingerprint <=> k.fingerprint "
		     "FROM sealing_key_holders r JOIN sealing_keys k ON k.state <> 'retired' "
		     "LEFT JOIN sealing_key_holders h ON h.process_id = r.process_id AND h.key_id = k.key_id "
		     "WHERE r.key_id = '' AND r.seen_at > UTC_TIMESTAMP(3) - INTERVAL ? SECOND "
		     "ORDER BY h.fingerprint <=> k.fingerprint, r.program, r.host, r.process_id, k.created_at, "
		     "k.key_id LIMIT ?";

static const char *const states[] = {
	[SEALING_NEW] = "new",
	[SEALING_CURRENT] = "current",
	[SEALING_OLD] = "old",
	[SEALING_RETIRED] = "retired",
};

const char *sealing_key_state_name(enum sealing_key_state state)
{
	return (size_t)state < ARRAY_LEN(states) ? states[state] : "unknown";
}

static bool state_parse(const char *s, enum sealing_key_state *ret_state)
{
	for (size_t i = 0; s && i < ARRAY_LEN(states); i++) {
		if (strcmp(states[i], s) == 0) {
			*ret_state = (enum sealing_key_state)i;
			return true;
		}
	}
	return false;
}

/* Reads key_id and fingerprint from the column `first` on. */
static void key_from_row(struct db *db, unsigned first, struct keyring_key *ret_key)
{
	(void)snprintf(ret_key->key_id, sizeof(ret_key->key_id), "%s", db_col_str(db, first));
	(void)snprintf(ret_key->fingerprint, sizeof(ret_key->fingerprint), "%s", db_col_str(db, first + 1));
}

/* --- the keys --- */

static void key_from_list(struct db *db, struct arena *mem, void *ret_row)
{
	enum { KEY_ID, KEY_FINGERPRINT, KEY_STATE, KEY_CREATED, KEY_CHANGED, KEY_COUNT };
	struct sealing_key *key = ret_row;

	key_from_row(db, KEY_ID, &key->key);
	(void)state_parse(db_col_str(db, KEY_STATE), &key->state);
	key->created_at = sql_str(db, mem, KEY_CREATED);
	key->changed_at = sql_str(db, mem, KEY_CHANGED);
	key->sealed_count = db_col_u64(db, KEY_COUNT);
}

bool sealing_key_list(struct db *db, struct arena *mem, struct sealing_key **ret_keys, unsigned *ret_count,
		      struct err *e)
{
	void *rows;

	db_use(db, SQL_KEY_LIST);
	db_bind_u64(db, SQL_PAGE_MAX);
	if (!sql_collect(db, mem, key_from_list, sizeof(struct sealing_key), SQL_PAGE_MAX, &rows, ret_count, e))
		return false;
	*ret_keys = rows;
	return true;
}

/* Who has waited for a switch stands where the old one was, and the new one may lie before it in the index: so what is
 * not found is looked for once more, from the start. */
bool sealing_key_current(struct db *db, struct keyring_key *ret_key, bool *ret_found, struct err *e)
{
	enum db_result result = DB_DONE;

	for (unsigned looks = 0; looks < 2 && result == DB_DONE; looks++) {
		db_use(db, SQL_KEY_CURRENT);
		result = sql_first(db, e);
	}
	if (result == DB_ROW)
		key_from_row(db, 0, ret_key);
	*ret_found = result == DB_ROW;
	return result != DB_FAIL;
}

static bool read_state(struct db *db, const char *key_id, enum sealing_key_state *ret_state, bool *ret_found,
		       struct err *e)
{
	db_use(db, SQL_KEY_STATE);
	db_bind_str(db, key_id);
	enum db_result result = sql_first(db, e);
	*ret_found = result == DB_ROW && state_parse(db_col_str(db, 0), ret_state);
	return result != DB_FAIL;
}

struct addition {
	const struct keyring_key *key;
	enum sealing_key_state state;
	enum problem problem;
};

static bool add(struct db *db, void *closure, struct err *e)
{
	struct addition *a = closure;
	struct err reason = {0};
	bool found;

	a->problem = PROBLEM_NONE;
	db_use(db, SQL_KEY_INSERT);
	db_bind_str(db, a->key->key_id);
	db_bind_str(db, a->key->fingerprint);
	if (db_exec(db, &reason))
		return read_state(db, a->key->key_id, &a->state, &found, e);
	if (reason.code != ERR_CONFLICT)
		return err_set(e, reason.code, "%s", reason.text);
	a->problem = PROBLEM_NAME_TAKEN;
	return true;
}

bool sealing_key_add(struct db *db, const struct keyring_key *key, enum sealing_key_state *ret_state,
		     enum problem *ret_problem, struct err *e)
{
	struct addition a = {.key = key, .state = SEALING_NEW};

	if (!sql_atomic(db, add, &a, e))
		return false;
	*ret_state = a.state;
	*ret_problem = a.problem;
	return true;
}

static bool set_state(struct db *db, const char *key_id, enum sealing_key_state state, struct err *e)
{
	db_use(db, SQL_KEY_SET_STATE);
	db_bind_str(db, states[state]);
	db_bind_str(db, key_id);
	return db_exec(db, e);
}

bool sealing_key_make_current(struct db *db, const char *key_id, struct err *e)
{
	db_use(db, SQL_KEYS_OLD);
	db_bind_str(db, key_id);
	return db_exec(db, e) && set_state(db, key_id, SEALING_CURRENT, e);
}

bool sealing_key_retire(struct db *db, const char *key_id, enum retirement *ret_retirement, struct err *e)
{
	enum sealing_key_state state = SEALING_NEW;
	enum db_result used;
	bool found;

	if (!read_state(db, key_id, &state, &found, e))
		return false;
	*ret_retirement = !found                     ? RETIRE_UNKNOWN
			  : state == SEALING_CURRENT ? RETIRE_CURRENT
			  : state == SEALING_RETIRED ? RETIRED
						     : RETIRE_IN_USE;
	if (*ret_retirement != RETIRE_IN_USE)
		return true;
	db_use(db, SQL_KEY_IS_USED);
	db_bind_str(db, key_id);
	used = sql_first(db, e);
	if (used != DB_DONE)
		return used == DB_ROW;
	*ret_retirement = RETIRED;
	return set_state(db, key_id, SEALING_RETIRED, e);
}

/* --- who holds what --- */

struct report {
	const struct key_holder *holder;
	const struct keyring_key *keys;
	unsigned count;
};

static void bind_held(struct db *db, const struct key_holder *holder, const char *key_id, const char *fingerprint)
{
	db_bind_id(db, &holder->process_id);
	db_bind_str(db, key_id);
	sql_bind_text(db, holder->program, 32);
	sql_bind_text(db, holder->host, 255);
	db_bind_str(db, fingerprint);
}

static bool report(struct db *db, void *closure, struct err *e)
{
	const struct report *r = closure;

	db_use(db, SQL_HOLDER_FORGET);
	db_bind_id(db, &r->holder->process_id);
	if (!db_exec(db, e))
		return false;
	db_use(db, SQL_HOLDER_INSERT);
	bind_held(db, r->holder, "", "");
	for (unsigned i = 0; i < r->count; i++) {
		db_next_row(db);
		bind_held(db, r->holder, r->keys[i].key_id, r->keys[i].fingerprint);
	}
	return db_exec(db, e);
}

bool key_holder_report(struct db *db, const struct key_holder *holder, const struct keyring_key *keys, unsigned count,
		       struct err *e)
{
	struct report r = {.holder = holder, .keys = keys, .count = count};

	db_use(db, SQL_HOLDER_FORGET_OLD);
	return db_exec(db, e) && db_transaction(db, report, &r, e);
}

bool key_holder_forget(struct db *db, const struct id *process_id, struct err *e)
{
	db_use(db, SQL_HOLDER_FORGET);
	db_bind_id(db, process_id);
	return db_exec(db, e);
}

static void held_from_row(struct db *db, struct arena *mem, void *ret_row)
{
	enum { HELD_PROCESS, HELD_PROGRAM, HELD_HOST, HELD_SEEN, HELD_KEY, HELD_ANY, HELD_SAME };
	struct key_held *held = ret_row;

	held->holder.process_id = db_col_id(db, HELD_PROCESS);
	held->holder.program = sql_str(db, mem, HELD_PROGRAM);
	held->holder.host = sql_str(db, mem, HELD_HOST);
	held->holder.seen_at = sql_str(db, mem, HELD_SEEN);
	held->key_id = sql_str(db, mem, HELD_KEY);
	held->held = db_col_i64(db, HELD_SAME) != 0 ? HELD : db_col_i64(db, HELD_ANY) != 0 ? HELD_OTHER : HELD_NOT;
}

bool key_holder_list(struct db *db, struct arena *mem, struct key_held **ret_held, unsigned *ret_count, struct err *e)
{
	void *rows;

	db_use(db, SQL_HOLDER_LIST);
	db_bind_u64(db, HOLDER_SEEN_S);
	db_bind_u64(db, SQL_PAGE_MAX);
	if (!sql_collect(db, mem, held_from_row, sizeof(struct key_held), SQL_PAGE_MAX, &rows, ret_count, e))
		return false;
	*ret_held = rows;
	return true;
}
