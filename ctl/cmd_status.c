/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hearthctl status: what an operator asks first at night. Each part is looked at
 * even where another one is away; the first that is not well gives the status.
 */
#include "ctl/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/event.h"
#include "core/schema.h"
#include "core/stats.h"
#include "lib/arena.h"
#include "lib/bus.h"
#include "lib/json.h"

#define BUS_WAIT_S 3
#define BUS_ANSWER_MS 2000

static const char SQL_OPEN[] = "SELECT COUNT(*), TIMESTAMPDIFF(SECOND, MIN(accepted_at), UTC_TIMESTAMP(3)) "
			       "FROM operations WHERE is_open = 1";

struct findings {
	enum ctl_exit exit;
	bool has_database, has_schema, has_bus;
	bool has_backlog; /* the load stream and its consumer are there */
	struct bus_consumer_info backlog;
	uint64_t open_operations;
	int64_t oldest_s;
	struct pool_worker *workers;
	unsigned worker_count;
	struct expired_worker *expired;
	unsigned expired_count;
};

static void note(struct findings *s, enum ctl_exit exit_status)
{
	if (s->exit == CTL_OK)
		s->exit = exit_status;
}

/* --- looking --- */

static bool read_operations(struct ctl *ctl, struct findings *s, struct err *e)
{
	db_use(ctl->db, SQL_OPEN);
	if (db_step(ctl->db, e) != DB_ROW)
		return err_ctx(e, "operations");
	s->open_operations = db_col_u64(ctl->db, 0);
	s->oldest_s = db_col_i64(ctl->db, 1);
	db_done(ctl->db);
	return true;
}

static void look_at_database(struct ctl *ctl, struct findings *s)
{
	int lease_s = (int)ctl->settings.worker.lease_s;
	struct err e = {0};

	enum ctl_exit status = ctl_connect(ctl, true);
	s->has_database = status == CTL_OK || status == CTL_WRONG_SCHEMA;
	s->has_schema = status == CTL_OK;
	note(s, status);
	if (!s->has_schema)
		return;
	if (!read_operations(ctl, s, &e) ||
	    !stats_pool(ctl->db, ctl->mem, lease_s, &s->workers, &s->worker_count, &e) ||
	    !stats_expired(ctl->db, ctl->mem, lease_s, &s->expired, &s->expired_count, &e))
		note(s, ctl_fail("status", &e));
}

/* On a thread of the library. */
static void on_state(void *closure, bool is_up)
{
	if (is_up)
		(void)sem_post(closure);
}

static bool wait_for(sem_t *up)
{
	struct timespec until;
	int rc;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += BUS_WAIT_S;
	do
		rc = sem_clockwait(up, CLOCK_MONOTONIC, &until);
	while (rc != 0 && errno == EINTR);
	return rc == 0;
}

static void look_at_bus(struct ctl *ctl, struct findings *s)
{
	struct bus_options options;
	struct bus *bus = NULL;
	struct err e = {0};
	sem_t up;

	if (sem_init(&up, 0, 0) != 0)
		return;
	settings_bus_options(&ctl->settings, SETTINGS_CTL, &options);
	options.state_changed = on_state;
	options.closure = &up;
	if (!bus_open(&options, &bus, &e))
		(void)ctl_fail("bus", &e);
	else if (!wait_for(&up))
		fprintf(stderr, "hearthctl: bus: no connection to %s within %d s: is it there, is the login right?\n",
			options.url, BUS_WAIT_S);
	else
		s->has_bus = true;
	s->has_backlog =
		s->has_bus && bus_consumer_info(bus, EVENT_STREAM, EVENT_CONSUMER, BUS_ANSWER_MS, &s->backlog, &e);
	if (s->has_bus && !s->has_backlog)
		fprintf(stderr, "hearthctl: bus: %s (a worker makes the stream when it starts)\n", e.text);
	if (!s->has_bus)
		note(s, CTL_NO_BUS);
	bus_close(&bus);
	(void)sem_destroy(&up);
}

/* --- telling --- */

static struct jval *worker_json(const struct pool_worker *w)
{
	struct jval *o = jval_new_object();

	jval_add_string(o, "worker_id", w->worker_id);
	jval_add_string(o, "state", w->state);
	jval_add_int(o, "lease_age_ms", w->lease_age_ms);
	jval_add_int(o, "hot_tier_count", w->stats.hot_count);
	jval_add_int(o, "demand_tier_count", w->stats.demand_count);
	jval_add_int(o, "loading_count", w->stats.loading_count);
	jval_add_int(o, "failed_count", w->stats.failed_count);
	jval_add_int(o, "hot_ceiling", w->hot_ceiling);
	jval_add_int(o, "demand_ceiling", w->demand_ceiling);
	jval_add_int(o, "memory_bytes", (int64_t)w->stats.memory_bytes);
	jval_add_int(o, "turns_in_flight", w->stats.turns_in_flight);
	jval_add_string(o, "flushed_at", w->flushed_at);
	return o;
}

static struct jval *expired_json(const struct findings *s)
{
	struct jval *list = jval_new_array();

	for (unsigned i = 0; i < s->expired_count; i++) {
		struct jval *o = jval_new_object();

		jval_add_string(o, "worker_id", s->expired[i].worker_id);
		jval_add_string(o, "host", s->expired[i].host);
		jval_add_int(o, "lease_age_ms", s->expired[i].lease_age_ms);
		jval_push(list, o);
	}
	return list;
}

static struct jval *part_json(bool is_ok)
{
	struct jval *o = jval_new_object();

	jval_add_bool(o, "ok", is_ok);
	return o;
}

static void print_json(const struct findings *s)
{
	struct jval *o = jval_new_object(), *bus = part_json(s->has_bus), *schema = part_json(s->has_schema);

	jval_add(o, "database", part_json(s->has_database));
	jval_add_int(schema, "needed", SCHEMA_VERSION);
	jval_add(o, "schema", schema);
	if (s->has_backlog) {
		jval_add_int(bus, "events_waiting", (int64_t)s->backlog.waiting);
		jval_add_int(bus, "redelivered", (int64_t)s->backlog.redelivered);
	}
	jval_add(o, "bus", bus);
	if (s->has_schema) {
		struct jval *workers = jval_new_array();
		for (unsigned i = 0; i < s->worker_count; i++)
			jval_push(workers, worker_json(&s->workers[i]));
		jval_add_int(o, "open_operations", (int64_t)s->open_operations);
		jval_add(o, "workers", workers);
		jval_add(o, "workers_expired", expired_json(s));
	}
	ctl_print_json(&o);
}

static void print_workers(const struct findings *s)
{
	printf("workers     %u live, %u expired\n", s->worker_count, s->expired_count);
	if (s->worker_count + s->expired_count == 0)
		return;
	printf("\n%-20s  %-8s  %9s  %17s  %17s  %7s  %7s  %7s  %9s\n", "WORKER", "STATE", "LEASE AGE", "HOT", "DEMAND",
	       "LOADING", "FAILED", "TURNS", "MEMORY");
	for (unsigned i = 0; i < s->worker_count; i++) {
		const struct pool_worker *w = &s->workers[i];
		char hot[32], demand[32];
		(void)snprintf(hot, sizeof(hot), "%" PRIu32 "/%" PRIu32, w->stats.hot_count, w->hot_ceiling);
		(void)snprintf(demand, sizeof(demand), "%" PRIu32 "/%" PRIu32, w->stats.demand_count,
			       w->demand_ceiling);
		printf("%-20s  %-8s  %6" PRId64 " ms  %17s  %17s  %7" PRIu32 "  %7" PRIu32 "  %7" PRIu32 "  %5" PRIu64
		       " MiB\n",
		       w->worker_id, w->state, w->lease_age_ms, hot, demand, w->stats.loading_count,
		       w->stats.failed_count, w->stats.turns_in_flight, w->stats.memory_bytes >> 20);
	}
	for (unsigned i = 0; i < s->expired_count; i++)
		printf("%-20s  %-8s  %6" PRId64 " ms  on %s: dead, hung or cut off\n", s->expired[i].worker_id,
		       "expired", s->expired[i].lease_age_ms, s->expired[i].host);
}

static void print_text(const struct ctl *ctl, const struct findings *s)
{
	printf("database    %s\n", s->has_database ? "reachable" : "NOT reachable");
	if (s->has_database)
		printf("schema      %s (this program's version is %d)\n", s->has_schema ? "right" : "NOT right",
		       SCHEMA_VERSION);
	printf("bus         %s, %s\n", s->has_bus ? "reachable" : "NOT reachable", ctl->settings.nats.url);
	if (s->has_backlog)
		printf("loads       %" PRIu64 " waiting, %" PRIu64 " with workers\n", s->backlog.waiting,
		       s->backlog.in_flight);
	if (!s->has_schema)
		return;
	printf("operations  %" PRIu64 " open", s->open_operations);
	if (s->open_operations > 0)
		printf(", the oldest for %" PRId64 " s", s->oldest_s);
	printf("\n");
	print_workers(s);
}

static enum ctl_exit status_run(struct ctl *ctl, const struct ctl_args *args)
{
	struct findings s = {0};

	(void)args;
	look_at_database(ctl, &s);
	look_at_bus(ctl, &s);
	if (ctl->json)
		print_json(&s);
	else
		print_text(ctl, &s);
	return s.exit;
}

const struct ctl_command ctl_status_commands[] = {
	{.noun = "status", .help = "show database, schema, bus, open operations and live workers", .run = status_run},
	{.noun = NULL},
};
