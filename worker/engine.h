/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine: what surrounds the pure pool. One libuv loop owns the pool and
 * everything in this struct that is not marked otherwise; no other thread touches it.
 *
 *   NATS threads → inbox → loop → pool → actions → lifecycle.c (jobs on the thread pool, builds, subscriptions) → pool
 *   the lease has its own connection and thread (lease_keeper.c), recovery another (recovery_pass.c)
 *
 * Every callback on the loop that gave the pool an input ends with engine_pump().
 */
#ifndef WORKER_ENGINE_H
#define WORKER_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "core/lease.h"
#include "core/settings.h"
#include "lib/db.h"

struct build;
struct bus;
struct bus_sub;
struct chats;
struct drained;
struct events;
struct history;
struct inbox;
struct key_watch;
struct keyring;
struct lease_keeper;
struct pool;
struct recovery_pass;
struct reconcile;
struct runtime;
struct stats_book;
struct step;

/* Steps that wait for a job of their kind (step_lines.h). */
enum step_line_kind {
	STEP_LINE_READ,
	STEP_LINE_CLAIM,
	STEP_LINE_RECORD,
	STEP_LINE_CEILING,
	STEP_LINE_FLUSH,
	STEP_LINES
};
struct step_line {
	struct step *steps;
	unsigned jobs; /* that run */
};

struct engine {
	const struct settings *settings;
	struct settings *reloadable; /* the same; written on SIGHUP, by the loop alone */
	uv_loop_t loop;
	struct bus *bus;      /* its functions: any thread */
	struct db_pool *db;   /* any thread */
	struct inbox *inbox;  /* inbox_put: any thread */
	struct keyring *keys; /* any thread */
	struct key_watch *key_watch;
	struct pool *pool;
	struct worker_identity who; /* of the present incarnation */
	char host[256], machine_id[65];
	char bus_name[128]; /* as nats-server lists its clients */
	struct lease_keeper *lease;
	struct recovery_pass *recovery;
	struct events *events;
	struct chats *chats;
	struct reconcile *reconcile;
	struct stats_book *stats;
	struct history *histories; /* history.c: conversations to be given free */
	struct runtime *runtime;   /* what frameworks use */
	struct step_line lines[STEP_LINES];
	struct build *builds;    /* lifecycle.c: under way */
	struct drained *leaving; /* lifecycle.c: chat subjects that this pump leaves */
	uv_timer_t wake;         /* at the pool's next deadline */
	uv_timer_t second;       /* the heart beat: silences, deadlines, pulls */
	uv_signal_t sigterm, sigint, sighup;
	atomic_uint_least64_t ticks; /* of the loop; the lease is renewed only while it goes on */
	atomic_bool bus_is_up;
	_Atomic int64_t bus_down_since_ms;
	unsigned jobs_in_flight;
	bool is_registered; /* `who` is valid */
	bool is_pumping;
	bool is_stopping, is_finished;
	bool has_others, is_looking; /* is_stopping: other live workers, when last looked */
	int64_t stop_deadline_ms;    /* is_stopping: turns are cut then */
	_Atomic int64_t gave_up_ms;  /* a stop that took too long: jobs queued before do nothing; 0: not */
	int64_t drained_ms;          /* when the pool was found empty; 0: not yet */
	int exit_status;
};

/* Runs until SIGTERM has drained it (0), or until it cannot go on (1). SIGHUP takes the reload options over into
 * settings. */
int engine_run(struct settings *settings);

/* Performs what the pool asks for, arms its timer, asks for events. */
void engine_pump(struct engine *engine);

/*
 * Runs work on the thread pool with a borrowed connection, then done on the loop. Where no connection is to be had
 * work is not called and e in done is set. data is yours throughout.
 */
typedef bool (*job_work)(struct db *db, void *data, struct err *e);
typedef void (*job_done)(struct engine *engine, void *data, bool ok, const struct err *e);
void engine_job(struct engine *engine, job_work work, job_done done, void *data);
/* The same without a connection: db is NULL. For what waits on the bus. */
void engine_job_without_db(struct engine *engine, job_work work, job_done done, void *data);

/* Tells waiters of an App's state: hearth.event. state: "ready", "failed", "unloaded", …; reason may be NULL. */
void engine_report(struct engine *engine, const struct id *org_id, const struct id *instance_id, const char *state,
		   const char *reason);

#endif
