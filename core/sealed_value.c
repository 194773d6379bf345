/* SPDX-License-Identifier: Apache-2.0 */
/* Putting, opening and sealing anew. Plain text is wiped as soon as it is sealed. */
#include "core/sealed_value.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/keyring.h"
#include "core/sealing_key.h"
#include "core/sql.h"
#include "lib/buf.h"
#include "lib/db.h"
#include "lib/secret.h"
#include "lib/xalloc.h"

static const char SQL_SEALED_INSERT[] =
	"INSERT INTO sealed_values (sealed_id, purpose, org_id, owner_id, generation, key_id, sealed, sealed_at) "
	"VALUES (?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3))";
static const char SQL_SEALED_BATCH[] =
	"SELECT sealed_id, purpose, org_id, owner_id, generation, sealed FROM sealed_values "
	"FORCE INDEX (sealed_values_key) WHERE key_id = ? AND sealed_id > ? ORDER BY sealed_id LIMIT ?";
static const char SQL_SEALED_AGAIN[] = "UPDATE sealed_values SET sealed = ?, key_id = ?, sealed_at = UTC_TIMESTAMP(3) "
				       "WHERE sealed_id = ? AND key_id = ?";

enum { SEALED_ID, SEALED_PURPOSE, SEALED_ORG, SEALED_OWNER, SEALED_GENERATION, SEALED_TEXT };

void sealed_about(const struct sealed_place *place, char ret_about[SEALED_ABOUT_SIZE])
{
	(void)snprintf(ret_about, SEALED_ABOUT_SIZE, "%s|%s|%s|%" PRIu64, place->purpose, place->org_id.text,
		       place->owner_id.text, place->generation);
}

static bool insert(struct db *db, const struct sealed_place *place, const char *key_id, const struct buf *sealed,
		   struct id *ret_sealed_id, struct err *e)
{
	struct id sealed_id = id_new();

	db_use(db, SQL_SEALED_INSERT);
	db_bind_id(db, &sealed_id);
	db_bind_str(db, place->purpose);
	db_bind_id(db, &place->org_id);
	db_bind_id(db, &place->owner_id);
	db_bind_u64(db, place->generation);
	db_bind_str(db, key_id);
	db_bind_str(db, sealed->data);
	if (!db_exec(db, e))
		return false;
	*ret_sealed_id = sealed_id;
	return true;
}

bool sealed_value_put(struct db *db, struct keyring *ring, const struct sealed_place *place, const void *data,
		      size_t len, struct id *ret_sealed_id, enum problem *ret_problem, struct err *e)
{
	char about[SEALED_ABOUT_SIZE];
	struct keyring_key key;
	struct buf sealed;
	bool found, ok;

	*ret_problem = PROBLEM_NONE;
	if (!sealing_key_current(db, &key, &found, e))
		return false;
	if (!found) {
		*ret_problem = PROBLEM_NO_SEALING_KEY;
		err_set(e, ERR_MISSING, "no sealing key is current: hearthctl keys new");
		return true;
	}
	sealed_about(place, about);
	buf_init(&sealed, SEALED_VALUE_BYTES_MAX);
	ok = keyring_seal(ring, key.key_id, key.fingerprint, about, data, len, &sealed, e);
	if (ok) {
		ok = insert(db, place, key.key_id, &sealed, ret_sealed_id, e);
	} else if (e->code == ERR_MISSING) {
		*ret_problem = PROBLEM_NO_SEALING_KEY;
		ok = true;
	}
	buf_clear(&sealed);
	return ok;
}

bool sealed_value_open(struct keyring *ring, const struct sealed_place *place, const char *sealed, char **ret_data,
		       size_t *ret_len, struct err *e)
{
	char about[SEALED_ABOUT_SIZE];

	sealed_about(place, about);
	return keyring_open(ring, about, sealed, ret_data, ret_len, e);
}

/* --- sealing anew --- */

struct batch {
	struct keyring *ring;
	struct resealing *r; /* as it was before */
	struct resealing next;
	struct id ids[RESEAL_BATCH];
	char *sealed[RESEAL_BATCH]; /* with the new key; NULL: it does not open */
	unsigned count;
};

static void clear(struct batch *b)
{
	for (unsigned i = 0; i < b->count; i++)
		free(b->sealed[i]);
	b->count = 0;
	b->next = *b->r;
}

/* One row as it stands in the result. False only for what has nothing to do with this row. */
static bool seal_again(struct db *db, struct batch *b, struct err *e)
{
	const struct sealed_place place = {
		.purpose = db_col_str(db, SEALED_PURPOSE),
		.org_id = db_col_id(db, SEALED_ORG),
		.owner_id = db_col_id(db, SEALED_OWNER),
		.generation = db_col_u64(db, SEALED_GENERATION),
	};
	char about[SEALED_ABOUT_SIZE], *data;
	struct buf out;
	size_t len;

	b->ids[b->count] = db_col_id(db, SEALED_ID);
	b->sealed[b->count++] = NULL;
	if (!sealed_value_open(b->ring, &place, db_col_str(db, SEALED_TEXT), &data, &len, &b->next.last_failure)) {
		b->next.failed++;
		return true;
	}
	sealed_about(&place, about);
	buf_init(&out, SEALED_VALUE_BYTES_MAX);
	bool ok = keyring_seal(b->ring, b->r->to, NULL, about, data, len, &out, e);
	if (ok)
		b->sealed[b->count - 1] = xstrdup(buf_str(&out));
	secret_free(&data, len);
	buf_clear(&out);
	return ok;
}

static bool read_batch(struct db *db, struct batch *b, struct err *e)
{
	enum db_result result = DB_DONE;
	bool ok = true;

	db_use(db, SQL_SEALED_BATCH);
	db_bind_str(db, b->r->from);
	sql_bind_after(db, &b->r->after, SQL_ID_FIRST);
	db_bind_u64(db, RESEAL_BATCH);
	while (ok && b->count < RESEAL_BATCH && (result = db_step(db, e)) == DB_ROW)
		ok = seal_again(db, b, e);
	db_done(db);
	return ok && result != DB_FAIL;
}

static bool reseal(struct db *db, void *closure, struct err *e)
{
	struct batch *b = closure;

	clear(b);
	if (!read_batch(db, b, e))
		return false;
	for (unsigned i = 0; i < b->count; i++) {
		b->next.after = b->ids[i];
		if (!b->sealed[i])
			continue;
		db_use(db, SQL_SEALED_AGAIN);
		db_bind_str(db, b->sealed[i]);
		db_bind_str(db, b->r->to);
		db_bind_id(db, &b->ids[i]);
		db_bind_str(db, b->r->from);
		if (!db_exec(db, e))
			return false;
		b->next.resealed += db_affected(db);
	}
	b->next.seen = b->count;
	return true;
}

bool sealed_value_reseal(struct db *db, struct keyring *ring, struct resealing *r, struct err *e)
{
	struct batch b = {.ring = ring, .r = r};
	bool ok = db_transaction(db, reseal, &b, e);
	struct resealing next = b.next;

	clear(&b);
	if (ok)
		*r = next;
	return ok;
}
