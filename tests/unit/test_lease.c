/* SPDX-License-Identifier: Apache-2.0 */
/* core/lease against a real server. */
#include "core/lease.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/harness.h"
#include "tests/unit/sql_fixture.h"

#define LEASE_S 15
#define RACES 20

static struct err err;

static struct worker_registration registration(const char *name, const char *machine)
{
	struct worker_registration r = {
		.host = "host", .machine_id = machine, .hot_ceiling = 10, .demand_ceiling = 20, .lease_s = LEASE_S};

	(void)snprintf(r.who.worker_id, sizeof(r.who.worker_id), "%s", name);
	r.who.incarnation = id_new();
	r.who.process_id = id_new();
	return r;
}

/* A registered worker of a new name. */
static struct worker_registration registered(const char *machine)
{
	struct id name = id_new();
	struct worker_registration r = registration(name.text, machine);
	uint64_t last_flush;

	CU_ASSERT_TRUE_FATAL(lease_register(fx.db, &r, &last_flush, &err));
	return r;
}

static void expire(const struct worker_registration *r)
{
	fixture_run(fx.db, "UPDATE workers SET lease_until = NOW(3) - INTERVAL 1 SECOND WHERE worker_id = '%s'",
		    r->who.worker_id);
}

static int64_t lease_left_ms(const struct worker_registration *r)
{
	return fixture_number("SELECT TIMESTAMPDIFF(MICROSECOND, NOW(3), lease_until) DIV 1000 FROM workers"
			      " WHERE incarnation = ?",
			      &r->who.incarnation);
}

static void a_new_name_gets_a_lease_and_no_flushes(void)
{
	struct worker_registration r = registration("new-name", "machine");
	uint64_t last_flush = 99;

	CU_ASSERT_TRUE(lease_register(fx.db, &r, &last_flush, &err));
	CU_ASSERT_EQUAL(last_flush, 0);
	CU_ASSERT(lease_left_ms(&r) > (LEASE_S - 5) * 1000);
	CU_ASSERT_EQUAL(fixture_number("SELECT hot_ceiling + demand_ceiling FROM workers WHERE incarnation = ?",
				       &r.who.incarnation),
			30);
}

static void another_machine_waits_until_the_lease_has_run_out(void)
{
	struct worker_registration first = registered("machine-1");
	struct worker_registration second = registration(first.who.worker_id, "machine-2");
	uint64_t last_flush = 99;

	CU_ASSERT_FALSE(lease_register(fx.db, &second, &last_flush, &err));
	CU_ASSERT_EQUAL(err.code, ERR_CONFLICT);
	CU_ASSERT_EQUAL(lease_renew(fx.db, &first.who, LEASE_S, &err), LEASE_HELD);
	expire(&first);
	CU_ASSERT_TRUE(lease_register(fx.db, &second, &last_flush, &err));
	CU_ASSERT_EQUAL(lease_renew(fx.db, &first.who, LEASE_S, &err), LEASE_LOST);
	CU_ASSERT_EQUAL(lease_renew(fx.db, &second.who, LEASE_S, &err), LEASE_HELD);
}

static void a_start_on_the_same_machine_ends_the_earlier_incarnation(void)
{
	struct worker_registration first = registered("machine");
	struct worker_registration second = registration(first.who.worker_id, "machine");
	uint64_t last_flush = 99;

	fixture_run(fx.db, "UPDATE workers SET last_flush = 7, state = 'leaving' WHERE worker_id = '%s'",
		    first.who.worker_id);
	CU_ASSERT_TRUE(lease_register(fx.db, &second, &last_flush, &err));
	CU_ASSERT_EQUAL(last_flush, 0);
	CU_ASSERT_EQUAL(lease_renew(fx.db, &first.who, LEASE_S, &err), LEASE_LOST);
	CU_ASSERT_EQUAL(lease_leave(fx.db, &first.who, &err), LEASE_LOST);
	CU_ASSERT_STRING_EQUAL(fixture_text("SELECT state FROM workers WHERE incarnation = ?", &second.who.incarnation),
			       "active");
}

static void a_process_that_registers_anew_goes_on_with_its_flush_numbers(void)
{
	struct worker_registration r = registered("machine");
	uint64_t last_flush = 99;

	fixture_run(fx.db, "UPDATE workers SET last_flush = 7 WHERE worker_id = '%s'", r.who.worker_id);
	r.who.incarnation = id_new();
	CU_ASSERT_TRUE(lease_register(fx.db, &r, &last_flush, &err));
	CU_ASSERT_EQUAL(last_flush, 7);
}

static void an_expired_lease_that_nobody_reaped_can_be_renewed(void)
{
	struct worker_registration r = registered("machine");

	expire(&r);
	CU_ASSERT(lease_left_ms(&r) < 0);
	CU_ASSERT_EQUAL(lease_renew(fx.db, &r.who, LEASE_S, &err), LEASE_HELD);
	CU_ASSERT(lease_left_ms(&r) > 0);
	/* Found rows count, not changed ones: the same moment twice. */
	CU_ASSERT_EQUAL(lease_leave(fx.db, &r.who, &err), LEASE_HELD);
	CU_ASSERT_EQUAL(lease_leave(fx.db, &r.who, &err), LEASE_HELD);
}

static void only_valid_leases_of_those_who_stay_are_live(void)
{
	unsigned count = 99;

	fixture_run(fx.db, "DELETE FROM workers");
	struct worker_registration a = registered("machine");
	struct worker_registration b = registered("machine");
	struct worker_registration c = registered("machine");
	expire(&b);
	CU_ASSERT_TRUE(lease_count_live(fx.db, NULL, &count, &err));
	CU_ASSERT_EQUAL(count, 2);
	CU_ASSERT_EQUAL(lease_leave(fx.db, &c.who, &err), LEASE_HELD);
	CU_ASSERT_TRUE(lease_count_live(fx.db, NULL, &count, &err));
	CU_ASSERT_EQUAL(count, 1);
	CU_ASSERT_TRUE(lease_count_live(fx.db, a.who.worker_id, &count, &err));
	CU_ASSERT_EQUAL(count, 0);
}

/* What the newest row of another worker says; the longer its history, the less may it be read. */
static void room_elsewhere_is_what_others_flushed_last(void)
{
	bool has_room = true;

	fixture_run(fx.db, "DELETE FROM workers; DELETE FROM worker_stats");
	struct worker_registration here = registered("machine");
	CU_ASSERT_TRUE(lease_has_room_elsewhere(fx.db, here.who.worker_id, TIER_HOT, &has_room, &err));
	CU_ASSERT_FALSE(has_room);
	struct worker_registration other = registered("machine");
	CU_ASSERT_TRUE(lease_has_room_elsewhere(fx.db, here.who.worker_id, TIER_HOT, &has_room, &err));
	CU_ASSERT_TRUE(has_room); /* it has not flushed yet */
	fixture_run(fx.db,
		    "INSERT INTO worker_stats SELECT '%s', NOW(3) - INTERVAL seq SECOND, '%s', seq, IF(seq = 1, 10, 0),"
		    " IF(seq = 1, 19, 20), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL FROM seq_1_to_100",
		    other.who.worker_id, other.who.incarnation.text);
	CU_ASSERT_TRUE(lease_has_room_elsewhere(fx.db, here.who.worker_id, TIER_HOT, &has_room, &err));
	CU_ASSERT_FALSE(has_room);
	CU_ASSERT_TRUE(lease_has_room_elsewhere(fx.db, here.who.worker_id, TIER_DEMAND, &has_room, &err));
	CU_ASSERT_TRUE(has_room);
	expire(&other);
	CU_ASSERT_TRUE(lease_has_room_elsewhere(fx.db, here.who.worker_id, TIER_DEMAND, &has_room, &err));
	CU_ASSERT_FALSE(has_room);
}

static void removing_takes_only_the_own_incarnation(void)
{
	struct worker_registration old = registered("machine");
	struct worker_registration now = registration(old.who.worker_id, "machine");
	uint64_t last_flush;

	CU_ASSERT_TRUE(lease_register(fx.db, &now, &last_flush, &err));
	CU_ASSERT_TRUE(lease_remove(fx.db, &old.who, &err));
	CU_ASSERT_EQUAL(lease_renew(fx.db, &now.who, LEASE_S, &err), LEASE_HELD);
	CU_ASSERT_TRUE(lease_remove(fx.db, &now.who, &err));
	CU_ASSERT_EQUAL(lease_renew(fx.db, &now.who, LEASE_S, &err), LEASE_LOST);
}

struct racer {
	pthread_barrier_t *barrier;
	struct db *db;
	struct worker_registration r;
	bool ok;
	struct err err;
};

static void *race(void *closure)
{
	struct racer *racer = closure;
	uint64_t last_flush;

	(void)pthread_barrier_wait(racer->barrier);
	racer->ok = lease_register(racer->db, &racer->r, &last_flush, &racer->err);
	return NULL;
}

static void of_two_machines_at_once_one_gets_the_name(void)
{
	struct db *sessions[2] = {fixture_connect(), fixture_connect()};
	pthread_barrier_t barrier;

	(void)pthread_barrier_init(&barrier, NULL, 2);
	for (int round = 0; round < RACES; round++) {
		struct id name = id_new();
		struct racer racers[2];
		pthread_t threads[2];

		for (int i = 0; i < 2; i++) {
			racers[i] = (struct racer){.barrier = &barrier,
						   .db = sessions[i],
						   .r = registration(name.text, i ? "machine-1" : "machine-2")};
			(void)pthread_create(&threads[i], NULL, race, &racers[i]);
		}
		for (int i = 0; i < 2; i++)
			(void)pthread_join(threads[i], NULL);
		CU_ASSERT_NOT_EQUAL(racers[0].ok, racers[1].ok);
		CU_ASSERT_EQUAL(racers[racers[0].ok ? 1 : 0].err.code, ERR_CONFLICT);
		CU_ASSERT_EQUAL(lease_renew(fx.db, &racers[racers[0].ok ? 0 : 1].r.who, LEASE_S, &err), LEASE_HELD);
	}
	(void)pthread_barrier_destroy(&barrier);
	db_close(&sessions[0]);
	db_close(&sessions[1]);
}

static void a_name_is_of_one_session_until_that_ends(void)
{
	static const char name[] = "a-name-of-sixty-four-characters-which-is-as-long-as-one-may-be-..";
	struct db *first = fixture_connect(), *second = fixture_connect();

	CU_ASSERT_EQUAL(lease_take_name(first, name, &err), DB_ROW);
	CU_ASSERT_EQUAL(lease_take_name(first, name, &err), DB_ROW);
	CU_ASSERT_EQUAL(lease_take_name(second, name, &err), DB_DONE);
	CU_ASSERT_EQUAL(lease_take_name(second, "another", &err), DB_ROW);
	db_close(&first);
	for (int i = 0; i < 1000 && lease_take_name(second, name, &err) == DB_DONE; i++)
		(void)poll(NULL, 0, 5); /* the server sees the hang-up a moment later */
	first = fixture_connect();
	CU_ASSERT_EQUAL(lease_take_name(first, name, &err), DB_DONE);
	db_close(&first);
	db_close(&second);
}

static CU_TestInfo lease_cases[] = {
	CASE(a_name_is_of_one_session_until_that_ends),
	CASE(a_new_name_gets_a_lease_and_no_flushes),
	CASE(another_machine_waits_until_the_lease_has_run_out),
	CASE(a_start_on_the_same_machine_ends_the_earlier_incarnation),
	CASE(a_process_that_registers_anew_goes_on_with_its_flush_numbers),
	CASE(an_expired_lease_that_nobody_reaped_can_be_renewed),
	CASE(only_valid_leases_of_those_who_stay_are_live),
	CASE(room_elsewhere_is_what_others_flushed_last),
	CASE(removing_takes_only_the_own_incarnation),
	CASE(of_two_machines_at_once_one_gets_the_name),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"lease", fixture_start, fixture_stop, NULL, NULL, lease_cases},
	CU_SUITE_INFO_NULL,
};
