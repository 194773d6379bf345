/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts the parts, runs the loop, ends them in order. Start: bus and database may both be away; the worker waits for
 * them. It takes events once it is registered. SIGTERM: no more events, the lease says leaving, the pool drains (hot
 * Apps are handed over where another worker lives), statistics are flushed, then the loop ends.
 */
#include "worker/engine.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/event.h"
#include "core/key_watch.h"
#include "core/keyring.h"
#include "core/schema.h"
#include "lib/buf.h"
#include "lib/bus.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/xalloc.h"
#include "worker/chat.h"
#include "worker/events.h"
#include "worker/history.h"
#include "worker/inbox.h"
#include "worker/lease_keeper.h"
#include "worker/lifecycle.h"
#include "worker/pool/pool.h"
#include "worker/reconcile.h"
#include "worker/recovery_pass.h"
#include "worker/runtime.h"
#include "worker/stats_book.h"
#include "worker/step_lines.h"

#define INBOX_CHATS_MAX 100000
#define HEART_MS 250
#define DB_TAKE_MS 10000
#define ROOM_RETRY_MS 10000
#define STEP_RETRY_MS 1000
#define LAST_FLUSH_MS 3000
#define GIVE_UP_MS 10000 /* after the turns were cut */

/* --- jobs --- */

struct job {
	uv_work_t work;
	struct engine *engine;
	job_work run;
	job_done done;
	void *data;
	int64_t queued_ms;
	bool needs_db, ok;
	struct err e;
};

static bool is_given_up(const struct job *job)
{
	int64_t gave_up_ms = atomic_load(&job->engine->gave_up_ms);

	return gave_up_ms != 0 && job->queued_ms < gave_up_ms;
}

static void job_run(uv_work_t *work)
{
	struct job *job = work->data;
	struct db *db = NULL;

	if (is_given_up(job)) {
		err_set(&job->e, ERR_BUSY, "the worker stops");
		return;
	}
	if (!job->needs_db) {
		job->ok = job->run(NULL, job->data, &job->e);
		return;
	}
	if (!db_take(job->engine->db, 0, DB_TAKE_MS, &db, &job->e))
		return;
	job->ok = job->run(db, job->data, &job->e);
	db_give(job->engine->db, &db);
}

static void job_after(uv_work_t *work, int status)
{
	struct job *job = work->data;
	struct engine *engine = job->engine;

	(void)status;
	engine->jobs_in_flight--;
	job->done(engine, job->data, job->ok, &job->e);
	free(job);
	engine_pump(engine);
}

static void job_queue(struct engine *engine, job_work work, job_done done, void *data, bool needs_db)
{
	struct job *job = xcalloc(1, sizeof(*job));

	job->work.data = job;
	job->engine = engine;
	job->run = work;
	job->done = done;
	job->data = data;
	job->queued_ms = clock_now_ms();
	job->needs_db = needs_db;
	engine->jobs_in_flight++;
	if (uv_queue_work(&engine->loop, &job->work, job_run, job_after) != 0)
		abort();
}

void engine_job(struct engine *engine, job_work work, job_done done, void *data)
{
	job_queue(engine, work, done, data, true);
}

void engine_job_without_db(struct engine *engine, job_work work, job_done done, void *data)
{
	job_queue(engine, work, done, data, false);
}

/* --- the pump --- */

static void on_wake(uv_timer_t *timer)
{
	struct engine *engine = timer->data;

	pool_tick(engine->pool, clock_now_ms());
	engine_pump(engine);
}

static void arm(struct engine *engine)
{
	int64_t wake_ms = pool_next_wake(engine->pool), now_ms = clock_now_ms();

	if (wake_ms == INT64_MAX)
		uv_timer_stop(&engine->wake);
	else
		uv_timer_start(&engine->wake, on_wake, wake_ms > now_ms ? (uint64_t)(wake_ms - now_ms) : 0, 0);
}

void engine_pump(struct engine *engine)
{
	struct pool_action action;

	if (engine->is_pumping || engine->is_finished)
		return; /* the one up the stack goes on */
	engine->is_pumping = true;
	while (pool_next_action(engine->pool, &action))
		lifecycle_perform(engine, &action);
	engine->is_pumping = false;
	lifecycle_leave_subjects(engine);
	step_lines_go(engine);
	arm(engine);
	events_ask(engine);
}

void engine_report(struct engine *engine, const struct id *org_id, const struct id *instance_id, const char *state,
		   const char *reason)
{
	struct event event = {
		.instance_id = *instance_id, .org_id = *org_id, .action = ACTION_LOAD, .source = SOURCE_RECOVERY};
	char subject[EVENT_SUBJECT_SIZE];
	struct buf body;
	struct err e = {0};

	(void)snprintf(event.state, sizeof(event.state), "%s", state);
	(void)snprintf(event.reason, sizeof(event.reason), "%s", reason != NULL ? reason : "");
	event_subject(EVENT_REPORT, org_id, instance_id, subject);
	buf_init(&body, EVENT_BYTES_MAX);
	event_encode(&event, &body);
	if (!bus_publish(engine->bus, subject, NULL, body.data, body.len, &e))
		log_debug("report not published; waiters look by themselves", "instance=%s error=%s", instance_id->text,
			  e.text);
	buf_clear(&body);
}

/* --- stopping --- */

struct others {
	char worker_id[WORKER_ID_MAX + 1];
	unsigned count;
};

static bool work_others(struct db *db, void *data, struct err *e)
{
	struct others *o = data;
	unsigned count;

	if (!lease_count_live(db, o->worker_id, &count, e))
		return false;
	o->count = count;
	return true;
}

static void look_for_others(struct engine *engine, job_done done)
{
	struct others *o = xcalloc(1, sizeof(*o));

	memcpy(o->worker_id, engine->who.worker_id, sizeof(o->worker_id));
	engine->is_looking = true;
	engine_job(engine, work_others, done, o);
}

static void done_others(struct engine *engine, void *data, bool ok, const struct err *e)
{
	struct others *o = data;

	engine->is_looking = false;
	engine->has_others = ok && o->count > 0;
	if (!ok)
		log_warn("other workers not read; leaving as if alone", "error=%s", e->text);
	if (engine->has_others)
		events_hear_reports(engine);
	lease_keeper_leave(engine->lease);
	pool_stop(engine->pool, engine->has_others, engine->stop_deadline_ms, clock_now_ms());
	free(o);
}

/* Those we hand over to may be stopping too: workers of one host often stop together. */
static void done_others_again(struct engine *engine, void *data, bool ok, const struct err *e)
{
	struct others *o = data;

	(void)e;
	engine->is_looking = false;
	if (ok && o->count == 0) {
		engine->has_others = false;
		log_info("no other worker is left; nothing more is handed over", NULL);
		pool_stop(engine->pool, false, engine->stop_deadline_ms, clock_now_ms());
	}
	free(o);
}

static void stop(struct engine *engine, const char *why)
{
	if (engine->is_stopping) {
		log_info("already stopping", "signal=%s", why);
		return;
	}
	engine->is_stopping = true;
	engine->stop_deadline_ms = clock_now_ms() + engine->settings->worker.drain_s * 1000;
	if (engine->recovery != NULL)
		recovery_pass_end(engine->recovery);
	log_info("stopping: finishing turns", "signal=%s turns=%u", why, pool_counts(engine->pool).turns_in_flight);
	look_for_others(engine, done_others);
}

static void close_handles(struct engine *engine)
{
	engine->is_finished = true;
	inbox_close(&engine->inbox);
	runtime_close(&engine->runtime);
	chats_close(engine->chats);
	uv_close((uv_handle_t *)&engine->wake, NULL);
	uv_close((uv_handle_t *)&engine->second, NULL);
	uv_close((uv_handle_t *)&engine->sigterm, NULL);
	uv_close((uv_handle_t *)&engine->sigint, NULL);
	uv_close((uv_handle_t *)&engine->sighup, NULL);
}

/* Drained: the threads end, the last counts are written, the handles close, and with them the loop. */
static void finish(struct engine *engine)
{
	recovery_pass_stop(&engine->recovery);
	lease_keeper_stop(&engine->lease, true);
	bus_close(&engine->bus);
	close_handles(engine);
}

/*
 * Long after the deadline there is still something: a build that hangs, a queue of writes. What is left is let go
 * unwritten, as if this incarnation were dead, which its lease's end tells the others.
 */
static void give_up(struct engine *engine)
{
	log_warn("stopping takes too long; what is left is let go", "jobs=%u", engine->jobs_in_flight);
	atomic_store(&engine->gave_up_ms, clock_now_ms());
	pool_lose_all(engine->pool, clock_now_ms());
	lifecycle_stop_builds(engine);
}

static void stopping_second(struct engine *engine)
{
	if (!pool_is_stopping(engine->pool) || !pool_is_empty(engine->pool)) {
		if (atomic_load(&engine->gave_up_ms) == 0 && clock_now_ms() > engine->stop_deadline_ms + GIVE_UP_MS)
			give_up(engine);
		else if (engine->has_others && !engine->is_looking)
			look_for_others(engine, done_others_again);
		stats_book_second(engine, false);
		return;
	}
	if (engine->drained_ms == 0) {
		engine->drained_ms = clock_now_ms();
		log_info("drained", NULL);
	}
	bool is_late = clock_now_ms() - engine->drained_ms > LAST_FLUSH_MS;
	if (!stats_book_is_clean(engine) && !is_late)
		stats_book_second(engine, true);
	else if (engine->jobs_in_flight == 0)
		finish(engine);
}

/* --- what comes in --- */

static void new_incarnation(struct engine *engine, const struct worker_identity *who)
{
	if (engine->is_registered)
		pool_lose_all(engine->pool, clock_now_ms());
	engine->who = *who;
	engine->is_registered = true;
	lease_keeper_taken_over(engine->lease);
	chats_new_incarnation(engine);
	recovery_pass_own_start(engine->recovery, who);
}

static void refused(struct engine *engine)
{
	if (engine->is_stopping)
		return; /* it is said again and again */
	log_error("this worker's name is in use by another process, here or on another machine; set worker.name",
		  "worker=%s", engine->who.worker_id);
	engine->exit_status = 1;
	stop(engine, "name refused");
}

static void on_item(void *closure, struct inbox_item *item)
{
	struct engine *engine = closure;

	switch (item->kind) {
	case INBOX_CHAT:
		chat_request(engine, item->msg);
		break;
	case INBOX_CANCEL:
		chat_cancel(engine, item->msg);
		break;
	case INBOX_PULLED:
		events_pulled(engine, &item->msg);
		break;
	case INBOX_CHANGE:
		events_change(engine, item->msg);
		break;
	case INBOX_REPORT:
		events_report(engine, item->msg);
		break;
	case INBOX_DRAINED:
		lifecycle_drained(engine, item->data);
		break;
	case INBOX_BUS_UP:
		log_info("bus connected", NULL);
		events_bus_up(engine);
		reconcile_soon(engine);
		break;
	case INBOX_BUS_DOWN:
		log_warn("bus lost; connecting again", NULL);
		break;
	case INBOX_BUS_CLOSED:
		log_error("the bus closed the connection for good; ending, so that the supervisor starts anew", NULL);
		engine->exit_status = 1;
		stop(engine, "bus closed");
		break;
	case INBOX_LEASE:
		new_incarnation(engine, &item->identity);
		break;
	case INBOX_LEASE_REFUSED:
		refused(engine);
		break;
	}
	engine_pump(engine);
}

static void on_bus_state(void *closure, bool is_up)
{
	struct engine *engine = closure;

	atomic_store(&engine->bus_is_up, is_up);
	atomic_store(&engine->bus_down_since_ms, is_up ? 0 : clock_now_ms());
	inbox_put(engine->inbox, &(struct inbox_item){.kind = is_up ? INBOX_BUS_UP : INBOX_BUS_DOWN});
}

static void on_bus_closed(void *closure)
{
	struct engine *engine = closure;

	inbox_put(engine->inbox, &(struct inbox_item){.kind = INBOX_BUS_CLOSED});
}

static void on_heart(uv_timer_t *timer)
{
	struct engine *engine = timer->data;

	if (atomic_fetch_add(&engine->ticks, 1) % (1000 / HEART_MS) != 0)
		return;
	engine->is_pumping = true; /* lists are walked here: what ends on the way is pumped below */
	chats_second(engine);
	histories_second(engine);
	events_second(engine);
	reconcile_second(engine);
	if (engine->is_stopping)
		stopping_second(engine);
	else
		stats_book_second(engine, false);
	engine->is_pumping = false;
	engine_pump(engine);
}

static struct pool_config pool_config_of(const struct settings *s)
{
	return (struct pool_config){
		.builds_max = (unsigned)s->worker.builds_max,
		.hot_ceiling = (uint32_t)s->worker.hot_ceiling,
		.demand_ceiling = (uint32_t)s->worker.demand_ceiling,
		.ttl_ms = s->worker.ttl_s * 1000,
		.drain_ms = s->worker.drain_s * 1000,
		.pin_ms = s->app.demand_wait_s * 1000,
		.room_retry_ms = ROOM_RETRY_MS,
		.step_retry_ms = STEP_RETRY_MS,
	};
}

struct ceilings {
	struct worker_identity who;
	uint32_t hot, demand;
};

static bool work_ceilings(struct db *db, void *data, struct err *e)
{
	struct ceilings *c = data;

	return lease_set_ceilings(db, &c->who, c->hot, c->demand, e) != LEASE_FAIL;
}

static void done_ceilings(struct engine *engine, void *data, bool ok, const struct err *e)
{
	(void)engine;
	if (!ok)
		log_warn("new ceilings not recorded; they hold here, and show after the next start", "error=%s",
			 e->text);
	free(data);
}

static void reload(struct engine *engine)
{
	struct ceilings *c;
	struct err e = {0};

	key_watch_wake(engine->key_watch);
	if (!settings_reload(engine->reloadable, SETTINGS_WORKER, &e)) {
		log_error("configuration not taken over; the old one stays", "error=%s", e.text);
		return;
	}
	log_set_level((enum log_level)engine->settings->log.level);
	struct pool_config config = pool_config_of(engine->settings);
	pool_configure(engine->pool, &config);
	chats_configure(engine);
	runtime_configure(engine->runtime);
	c = xcalloc(1, sizeof(*c));
	c->who = engine->who;
	c->hot = config.hot_ceiling;
	c->demand = config.demand_ceiling;
	engine_job(engine, work_ceilings, done_ceilings, c);
	log_info("configuration taken over", "hot_ceiling=%u demand_ceiling=%u builds_max=%u", c->hot, c->demand,
		 config.builds_max);
}

static void on_signal(uv_signal_t *handle, int signum)
{
	struct engine *engine = handle->data;

	if (signum == SIGHUP)
		reload(engine);
	else
		stop(engine, signum == SIGTERM ? "SIGTERM" : "SIGINT");
	engine_pump(engine);
}

/* --- starting --- */

/* The machine's own id, else its host name: tells a restart from a name used twice. */
static void read_machine_id(struct engine *engine)
{
	const char *id = engine->settings->worker.machine_id;

	if (id != NULL) {
		(void)snprintf(engine->machine_id, sizeof(engine->machine_id), "%.64s", id);
		return;
	}
	FILE *f = fopen("/etc/machine-id", "re");
	if (f == NULL || fscanf(f, "%64s", engine->machine_id) != 1)
		(void)snprintf(engine->machine_id, sizeof(engine->machine_id), "%.64s", engine->host);
	if (f != NULL)
		(void)fclose(f);
}

static void name_worker(struct engine *engine)
{
	const char *name = engine->settings->worker.name;

	if (gethostname(engine->host, sizeof(engine->host) - 1) != 0)
		(void)snprintf(engine->host, sizeof(engine->host), "localhost");
	(void)snprintf(engine->who.worker_id, sizeof(engine->who.worker_id), "%.64s",
		       name != NULL && name[0] != '\0' ? name : engine->host);
	engine->who.process_id = id_new();
	read_machine_id(engine);
}

static void start_handles(struct engine *engine)
{
	uv_timer_init(&engine->loop, &engine->wake);
	uv_timer_init(&engine->loop, &engine->second);
	uv_signal_init(&engine->loop, &engine->sigterm);
	uv_signal_init(&engine->loop, &engine->sigint);
	uv_signal_init(&engine->loop, &engine->sighup);
	engine->wake.data = engine->second.data = engine;
	engine->sigterm.data = engine->sigint.data = engine->sighup.data = engine;
	uv_timer_start(&engine->second, on_heart, HEART_MS, HEART_MS);
	uv_signal_start(&engine->sigterm, on_signal, SIGTERM);
	uv_signal_start(&engine->sigint, on_signal, SIGINT);
	uv_signal_start(&engine->sighup, on_signal, SIGHUP);
}

static bool start_bus(struct engine *engine, struct err *e)
{
	struct bus_options options;

	settings_bus_options(engine->settings, SETTINGS_WORKER, &options);
	(void)snprintf(engine->bus_name, sizeof(engine->bus_name), "%s %s", options.name, engine->who.worker_id);
	options.name = engine->bus_name;
	options.state_changed = on_bus_state;
	options.closed = on_bus_closed;
	options.closure = engine;
	atomic_store(&engine->bus_down_since_ms, clock_now_ms());
	return bus_open(&options, &engine->bus, e);
}

/* An older schema is refused; a database that is away is waited for. */
static bool check_schema(struct engine *engine, struct err *e)
{
	struct db *db = NULL;

	if (!db_take(engine->db, 0, DB_TAKE_MS, &db, e)) {
		if (e->code == ERR_DENIED || e->code == ERR_MISSING)
			return false;
		log_warn("database not reachable; waiting for it", "error=%s", e->text);
		err_clear(e);
		return true;
	}
	bool ok = schema_check(db, e);
	db_give(engine->db, &db);
	return ok || e->code == ERR_DOWN;
}

static void free_parts(struct engine *engine)
{
	recovery_pass_stop(&engine->recovery);
	lease_keeper_stop(&engine->lease, false);
	bus_close(&engine->bus);
	events_free(&engine->events);
	chats_free(&engine->chats);
	histories_free(engine);
	stats_book_free(&engine->stats);
	reconcile_free(&engine->reconcile);
	key_watch_stop(&engine->key_watch);
	keyring_free(&engine->keys);
	pool_free(&engine->pool);
	db_pool_free(&engine->db);
}

int engine_run(struct settings *settings)
{
	struct engine engine = {.settings = settings, .reloadable = settings};
	struct pool_config config = pool_config_of(settings);
	struct db_options db_options;
	struct err e = {0};

	name_worker(&engine);
	settings_db_options(settings, SETTINGS_WORKER, &db_options);
	engine.db = db_pool_new(&db_options, (unsigned)settings->worker.database_connections);
	if (!check_schema(&engine, &e)) {
		log_error("cannot start", "error=%s", e.text);
		db_pool_free(&engine.db);
		return 1;
	}
	if (uv_loop_init(&engine.loop) != 0)
		abort();
	engine.keys = keyring_new(settings->keys.file);
	engine.key_watch = key_watch_start(engine.keys, &db_options, "hearth-worker", &engine.who.process_id);
	engine.pool = pool_new(&config);
	engine.stats = stats_book_new();
	engine.reconcile = reconcile_new();
	engine.chats = chats_new(&engine);
	engine.inbox = inbox_new(&engine.loop, INBOX_CHATS_MAX, on_item, &engine);
	start_handles(&engine);
	engine.runtime = runtime_new(&engine, &e);
	if (engine.runtime != NULL && start_bus(&engine, &e)) {
		engine.events = events_new(&engine);
		engine.lease = lease_keeper_start(&engine);
		engine.recovery = recovery_pass_start(&engine);
		log_info("started", "worker=%s host=%s", engine.who.worker_id, engine.host);
	} else {
		log_error("cannot start", "error=%s", e.text);
		engine.exit_status = 1;
		close_handles(&engine);
	}
	uv_run(&engine.loop, UV_RUN_DEFAULT);
	free_parts(&engine);
	if (uv_loop_close(&engine.loop) != 0)
		log_debug("loop not empty", NULL);
	log_info("stopped", "worker=%s", engine.who.worker_id);
	return engine.exit_status;
}
