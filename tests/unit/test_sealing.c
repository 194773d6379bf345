/* SPDX-License-Identifier: Apache-2.0 */
/* core/sealing_key and core/sealed_value against a real server. */
#include "core/sealed_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/keyring.h"
#include "core/sealing_key.h"
#include "lib/arena.h"
#include "tests/fake/servers.h"
#include "tests/unit/harness.h"
#include "tests/unit/sql_fixture.h"

static struct err err;
static char path[256];
static char *text; /* of the ring */
static struct keyring *ring;

static int start(void)
{
	(void)fixture_start();
	(void)snprintf(path, sizeof(path), "%s/keys", server_dir_make());
	return 0;
}

static void put_ring(void)
{
	char fresh[300];

	(void)snprintf(fresh, sizeof(fresh), "%s.new", path);
	FILE *f = fopen(fresh, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	CU_ASSERT_TRUE(fputs(text, f) >= 0);
	(void)fclose(f);
	CU_ASSERT_EQUAL(chmod(fresh, 0600), 0);
	CU_ASSERT_EQUAL(rename(fresh, path), 0);
	CU_ASSERT_TRUE(keyring_refresh(ring, NULL, &err));
}

/* Into the file, and what may be said of it. */
static struct keyring_key in_ring(const char *key_id)
{
	struct keyring_key key = {.key_id = ""};
	struct secret_key fresh;
	char *longer;

	secret_key_new(&fresh);
	secret_key_fingerprint(&fresh, key.fingerprint);
	(void)snprintf(key.key_id, sizeof(key.key_id), "%s", key_id);
	CU_ASSERT_TRUE_FATAL(keyring_text_add(text, key_id, &fresh, &longer, &err));
	free(text);
	text = longer;
	put_ring();
	return key;
}

static enum sealing_key_state add(const struct keyring_key *key)
{
	enum sealing_key_state state = SEALING_RETIRED;
	enum problem problem = PROBLEM_INTERNAL;

	CU_ASSERT_TRUE(sealing_key_add(fx.db, key, &state, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_NONE);
	return state;
}

/* In ring and database. */
static struct keyring_key made(const char *key_id)
{
	struct keyring_key key = in_ring(key_id);

	(void)add(&key);
	return key;
}

/* Each case begins with an empty ring and no rows. */
static void set_up(void)
{
	fixture_run(fx.db, "DELETE FROM sealed_values; DELETE FROM sealing_keys; DELETE FROM sealing_key_holders");
	text = strdup("# empty\n");
	ring = keyring_new(path);
	put_ring();
	err_clear(&err);
}

static void tear_down(void)
{
	keyring_free(&ring);
	free(text);
}

/* --- values --- */

struct putting {
	struct sealed_place place;
	const char *text;
	struct id sealed_id;
	enum problem problem;
};

static bool put_body(struct db *db, void *closure, struct err *e)
{
	struct putting *p = closure;

	return sealed_value_put(db, ring, &p->place, p->text, strlen(p->text), &p->sealed_id, &p->problem, e);
}

static struct putting put_text(const char *what)
{
	struct putting p = {.place = {.purpose = "test", .org_id = id_new(), .owner_id = id_new(), .generation = 7},
			    .text = what,
			    .problem = PROBLEM_INTERNAL};

	CU_ASSERT_TRUE(db_transaction(fx.db, put_body, &p, &err));
	return p;
}

static const char *sealed_of(const struct id *sealed_id)
{
	return fixture_text("SELECT sealed FROM sealed_values WHERE sealed_id = ?", sealed_id);
}

static const char *key_of(const struct id *sealed_id)
{
	return fixture_text("SELECT key_id FROM sealed_values WHERE sealed_id = ?", sealed_id);
}

static bool opens(const struct sealed_place *place, const char *sealed, const char *expected)
{
	char *data = NULL;
	size_t len = 0;
	bool ok = sealed_value_open(ring, place, sealed, &data, &len, &err) && strcmp(data, expected) == 0;

	secret_free(&data, len);
	return ok;
}

static bool is_refused(const struct sealed_place *place, const char *sealed)
{
	char *data = NULL;
	size_t len = 0;

	err_clear(&err);
	bool ok = !sealed_value_open(ring, place, sealed, &data, &len, &err) && !data && err.code == ERR_DENIED;
	secret_free(&data, len);
	return ok;
}

static void without_a_current_key_nothing_is_sealed(void)
{
	struct keyring_key foreign = {.key_id = "elsewhere", .fingerprint = "00000000000000000000000000000000"};

	CU_ASSERT_EQUAL(put_text("secret").problem, PROBLEM_NO_SEALING_KEY);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "keys new"));
	/* One that this host has not got yet. */
	CU_ASSERT_EQUAL(add(&foreign), SEALING_CURRENT);
	CU_ASSERT_EQUAL(put_text("secret").problem, PROBLEM_NO_SEALING_KEY);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "elsewhere"));
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM sealed_values", NULL), 0);
	/* Another key under its id is not it. */
	(void)in_ring("elsewhere");
	CU_ASSERT_EQUAL(put_text("secret").problem, PROBLEM_NO_SEALING_KEY);
}

static void a_value_opens_in_its_own_place_only(void)
{
	(void)made("k1");
	struct putting p = put_text("secret");
	struct sealed_place other = p.place;

	CU_ASSERT_EQUAL_FATAL(p.problem, PROBLEM_NONE);
	const char *sealed = sealed_of(&p.sealed_id);
	CU_ASSERT_PTR_NULL(strstr(sealed, "secret"));
	CU_ASSERT_EQUAL(strncmp(sealed, "hs1.k1.", 7), 0);
	CU_ASSERT_TRUE(opens(&p.place, sealed, "secret"));
	other.generation = 8;
	CU_ASSERT_TRUE(is_refused(&other, sealed));
	other = p.place;
	other.org_id = id_new();
	CU_ASSERT_TRUE(is_refused(&other, sealed));
	other = p.place;
	other.owner_id = id_new();
	CU_ASSERT_TRUE(is_refused(&other, sealed));
	other = p.place;
	other.purpose = "tes";
	CU_ASSERT_TRUE(is_refused(&other, sealed));
}

/* --- keys --- */

static bool current_body(struct db *db, void *closure, struct err *e)
{
	return sealing_key_make_current(db, closure, e);
}

static void make_current(const char *key_id)
{
	char id[KEY_ID_SIZE];

	(void)snprintf(id, sizeof(id), "%s", key_id);
	CU_ASSERT_TRUE(db_transaction(fx.db, current_body, id, &err));
}

struct retiring {
	const char *key_id;
	enum retirement result;
};

static bool retire_body(struct db *db, void *closure, struct err *e)
{
	struct retiring *r = closure;

	return sealing_key_retire(db, r->key_id, &r->result, e);
}

static enum retirement retire(const char *key_id)
{
	struct retiring r = {.key_id = key_id};

	CU_ASSERT_TRUE(db_transaction(fx.db, retire_body, &r, &err));
	return r.result;
}

/* "k1:old k2:current" */
static const char *states(void)
{
	return fixture_text(
		"SELECT GROUP_CONCAT(CONCAT(key_id, ':', state) ORDER BY key_id SEPARATOR ' ') FROM sealing_keys",
		NULL);
}

static void the_first_key_is_current_and_an_id_is_used_once(void)
{
	struct keyring_key k1 = made("k1"), k2 = in_ring("k2");
	enum sealing_key_state state;
	enum problem problem;
	struct sealing_key *keys;
	unsigned count;

	CU_ASSERT_EQUAL(add(&k2), SEALING_NEW);
	CU_ASSERT_STRING_EQUAL(states(), "k1:current k2:new");
	CU_ASSERT_TRUE(sealing_key_add(fx.db, &k1, &state, &problem, &err));
	CU_ASSERT_EQUAL(problem, PROBLEM_NAME_TAKEN);
	(void)put_text("one");
	(void)put_text("two");
	CU_ASSERT_TRUE_FATAL(sealing_key_list(fx.db, fx.mem, &keys, &count, &err));
	CU_ASSERT_EQUAL_FATAL(count, 2);
	CU_ASSERT_STRING_EQUAL(keys[0].key.key_id, "k1");
	CU_ASSERT_STRING_EQUAL(keys[0].key.fingerprint, k1.fingerprint);
	CU_ASSERT_EQUAL(keys[0].state, SEALING_CURRENT);
	CU_ASSERT_EQUAL(keys[0].sealed_count, 2);
	CU_ASSERT_EQUAL(keys[1].sealed_count, 0);
	CU_ASSERT_EQUAL(keys[1].created_at[10], 'T');
}

static void the_switch_waits_for_those_who_seal(void)
{
	struct db *saver = fixture_connect();
	struct keyring_key key;
	bool found;

	(void)made("k1");
	(void)made("k2");
	fixture_run(fx.db, "SET SESSION innodb_lock_wait_timeout = 1");
	fixture_run(saver, "START TRANSACTION");
	CU_ASSERT_TRUE(sealing_key_current(saver, &key, &found, &err));
	CU_ASSERT_TRUE(found);
	CU_ASSERT_STRING_EQUAL(key.key_id, "k1");
	char id[] = "k2";
	CU_ASSERT_FALSE(db_transaction(fx.db, current_body, id, &err));
	CU_ASSERT_STRING_EQUAL(states(), "k1:current k2:new");
	fixture_run(saver, "COMMIT");
	make_current("k2");
	CU_ASSERT_STRING_EQUAL(states(), "k1:old k2:current");
	fixture_run(fx.db, "SET SESSION innodb_lock_wait_timeout = 10");
	db_close(&saver);
}

static void only_what_seals_nothing_is_retired(void)
{
	(void)made("k1");
	struct putting p = put_text("secret");

	(void)made("k2");
	CU_ASSERT_EQUAL(retire("nobody"), RETIRE_UNKNOWN);
	CU_ASSERT_EQUAL(retire("k1"), RETIRE_CURRENT);
	make_current("k2");
	CU_ASSERT_EQUAL(retire("k1"), RETIRE_IN_USE);
	CU_ASSERT_STRING_EQUAL(states(), "k1:old k2:current");
	struct resealing r = {.from = "k1", .to = "k2"};
	CU_ASSERT_TRUE(sealed_value_reseal(fx.db, ring, &r, &err));
	CU_ASSERT_EQUAL(retire("k1"), RETIRED);
	CU_ASSERT_EQUAL(retire("k1"), RETIRED);
	CU_ASSERT_STRING_EQUAL(states(), "k1:retired k2:current");
	CU_ASSERT_TRUE(opens(&p.place, sealed_of(&p.sealed_id), "secret"));
	/* The next one is new: there is a current one. */
	(void)made("k3");
	CU_ASSERT_STRING_EQUAL(states(), "k1:retired k2:current k3:new");
}

static void all_values_are_sealed_anew_in_batches(void)
{
	enum { COUNT = 2 * RESEAL_BATCH + 3 };
	static struct putting p[COUNT];
	char words[COUNT][16];
	struct resealing r = {.from = "k1", .to = "k2"};
	unsigned batches = 0;

	(void)made("k1");
	for (unsigned i = 0; i < COUNT; i++) {
		(void)snprintf(words[i], sizeof(words[i]), "secret %u", i);
		p[i] = put_text(words[i]);
	}
	(void)made("k2");
	make_current("k2");
	/* One was damaged, one is sealed with the new key already. */
	fixture_run(fx.db, "UPDATE sealed_values SET sealed = CONCAT(sealed, 'A') WHERE sealed_id = '%s'",
		    p[1].sealed_id.text);
	struct putting fresh = put_text("fresh");
	CU_ASSERT_STRING_EQUAL(key_of(&fresh.sealed_id), "k2");
	do {
		CU_ASSERT_TRUE_FATAL(sealed_value_reseal(fx.db, ring, &r, &err));
		CU_ASSERT_TRUE(r.seen <= RESEAL_BATCH);
		batches++;
	} while (r.seen > 0);
	CU_ASSERT_EQUAL(batches, 4);
	CU_ASSERT_EQUAL(r.resealed, COUNT - 1);
	CU_ASSERT_EQUAL(r.failed, 1);
	CU_ASSERT_EQUAL(r.last_failure.code, ERR_INPUT);
	for (unsigned i = 0; i < COUNT; i++) {
		CU_ASSERT_STRING_EQUAL(key_of(&p[i].sealed_id), i == 1 ? "k1" : "k2");
		CU_ASSERT_EQUAL(opens(&p[i].place, sealed_of(&p[i].sealed_id), words[i]), i != 1);
	}
}

static void what_is_removed_meanwhile_is_passed_over(void)
{
	struct resealing r = {.from = "k1", .to = "k2"};
	struct db *other = fixture_connect();

	(void)made("k1");
	struct putting p = put_text("secret");
	(void)made("k2");
	make_current("k2");
	CU_ASSERT_EQUAL(p.problem, PROBLEM_NONE);
	fixture_run(other, "DELETE FROM sealed_values");
	CU_ASSERT_TRUE(sealed_value_reseal(fx.db, ring, &r, &err));
	CU_ASSERT_EQUAL(r.resealed + r.failed + r.seen, 0);
	db_close(&other);
}

/* --- holders --- */

static void report(const struct id *process, const char *program, const struct keyring_key *keys, unsigned count)
{
	const struct key_holder holder = {.process_id = *process, .program = program, .host = "h1"};

	CU_ASSERT_TRUE(key_holder_report(fx.db, &holder, keys, count, &err));
}

/* What the check finds, lacking ones first: "worker:k2:not app:k1:held" */
static const char *found(void)
{
	static const char *const words[] = {[HELD] = "held", [HELD_NOT] = "not", [HELD_OTHER] = "other"};
	static char said[400];
	struct key_held *held;
	unsigned count;
	size_t len = 0;

	CU_ASSERT_TRUE_FATAL(key_holder_list(fx.db, fx.mem, &held, &count, &err));
	said[0] = '\0';
	for (unsigned i = 0; i < count; i++)
		len += (size_t)snprintf(said + len, sizeof(said) - len, "%s%s:%s:%s", i > 0 ? " " : "",
					held[i].holder.program, held[i].key_id, words[held[i].held]);
	return said;
}

static void who_lacks_a_key_is_found(void)
{
	struct keyring_key keys[2] = {made("k1"), made("k2")}, other = {.key_id = "k1"};
	struct id app = id_new(), worker = id_new();

	memset(other.fingerprint, 'f', SECRET_FINGERPRINT_LEN);
	CU_ASSERT_STRING_EQUAL(found(), "");
	report(&app, "app", keys, 2);
	report(&worker, "worker", keys, 1);
	CU_ASSERT_STRING_EQUAL(found(), "worker:k2:not app:k1:held app:k2:held worker:k1:held");
	report(&worker, "worker", &other, 1);
	CU_ASSERT_STRING_EQUAL(found(), "worker:k1:other worker:k2:not app:k1:held app:k2:held");
	report(&worker, "worker", NULL, 0); /* it runs, without a ring */
	CU_ASSERT_STRING_EQUAL(found(), "worker:k1:not worker:k2:not app:k1:held app:k2:held");
	make_current("k2");
	CU_ASSERT_EQUAL(retire("k1"), RETIRED);
	CU_ASSERT_STRING_EQUAL(found(), "worker:k2:not app:k2:held");
	CU_ASSERT_TRUE(key_holder_forget(fx.db, &worker, &err));
	CU_ASSERT_STRING_EQUAL(found(), "app:k2:held");
	fixture_run(fx.db, "UPDATE sealing_key_holders SET seen_at = UTC_TIMESTAMP(3) - INTERVAL 151 SECOND");
	CU_ASSERT_STRING_EQUAL(found(), "");
	fixture_run(fx.db, "UPDATE sealing_key_holders SET seen_at = UTC_TIMESTAMP(3) - INTERVAL 25 HOUR");
	report(&worker, "worker", keys, 2);
	CU_ASSERT_EQUAL(fixture_number("SELECT COUNT(*) FROM sealing_key_holders WHERE process_id = ?", &app), 0);
}

static CU_TestInfo cases[] = {
	CASE(without_a_current_key_nothing_is_sealed),
	CASE(a_value_opens_in_its_own_place_only),
	CASE(the_first_key_is_current_and_an_id_is_used_once),
	CASE(the_switch_waits_for_those_who_seal),
	CASE(only_what_seals_nothing_is_retired),
	CASE(all_values_are_sealed_anew_in_batches),
	CASE(what_is_removed_meanwhile_is_passed_over),
	CASE(who_lacks_a_key_is_found),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"sealing", start, fixture_stop, set_up, tear_down, cases},
	CU_SUITE_INFO_NULL,
};
