/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hearth.conf: one file for all programs, from the typed table in settings.c.
 * main owns the struct and passes what is needed; nothing here is global.
 * To add an option: a field here, a row there, conf/hearth.conf.sample and
 * docs/hearth.conf.5.md (a test fails while one is missing).
 */
#ifndef CORE_SETTINGS_H
#define CORE_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/db.h"
#include "lib/bus.h"
#include "lib/err.h"
#include "lib/log.h"

enum settings_program { SETTINGS_APP, SETTINGS_WORKER, SETTINGS_CTL };

/* The login of one program; its password comes from HEARTH_DATABASE_PASSWORD / HEARTH_NATS_PASSWORD, else the file,
 * else the key. */
struct settings_login {
	char *user;     /* NULL: for MariaDB the name of the process's user, for NATS none */
	char *password; /* CONF_SECRET */
	char *password_file;
};

struct settings {
	char *path; /* of the file, absolute */
	struct {
		char *socket, *host, *name, *tls_ca;
		int64_t port, connect_timeout_s, io_timeout_s;
	} database;
	struct {
		char *url, *tls_ca, *creds_file;
		int64_t stream_replicas, stream_max_bytes;
	} nats;
	struct {
		char *file; /* the key ring; NULL: none, nothing can be sealed or opened */
	} keys;
	struct {
		int64_t connect_timeout_s, first_byte_timeout_s, idle_timeout_s;
		int64_t attempts_max;
		int64_t retry_max_s; /* the longest pause between two attempts, also of a Retry-After */
		int64_t answer_max_bytes;
		int64_t connections_max; /* of one worker, to all providers; 0: no limit */
		int64_t breaker_failures, breaker_pause_s, breaker_pause_max_s;
		char *ca_file;          /* NULL: the system's */
		char *allowed_networks; /* CIDR list (lib/netaddr.h), also for http; NULL: none */
	} llm;
	struct {
		char *allowed_networks; /* as llm's, of pages that tools read */
	} tools;
	struct {
		int level;  /* enum log_level */
		int target; /* enum log_target */
	} log;
	struct {
		struct settings_login database, nats;
		char *socket;        /* path, or 127.0.0.1:port; NULL: descriptor 0, as a web server hands it over */
		int64_t socket_mode; /* 660 as written, read as octal digits */
		int64_t socket_backlog;
		char *base_path;     /* "" or "/prefix" */
		char *dashboard_dir; /* the admin page's files */
		int64_t threads_max;
		int64_t database_connections; /* 0: 8 per core */
		int64_t body_max_bytes;
		int64_t request_memory_max_bytes;
		int64_t io_timeout_s; /* a web server that reads or writes nothing for so long is given up */
		int64_t keepalive_s;  /* a silent stream gets a comment so often */
		int64_t publish_timeout_ms;
		int64_t demand_wait_s; /* a first chat waits for its load so long */
		int64_t turn_timeout_s;
		int64_t shutdown_s; /* SIGTERM: requests in hand may take so long */
	} app;
	struct {
		struct settings_login database, nats;
		char *name;       /* NULL: the host's name */
		char *machine_id; /* NULL: /etc/machine-id, else the host's name */
		int64_t hot_ceiling, demand_ceiling;
		int64_t builds_max; /* build slots */
		int64_t database_connections;
		int64_t ttl_s;   /* demand Apps whose App and org set none */
		int64_t drain_s; /* unload and SIGTERM wait for turns so long */
		int64_t build_timeout_s;
		int64_t turns_max;                         /* in flight; past it 429 too_many_turns */
		int64_t org_turns_max;                     /* of one organization; 0: no limit */
		int64_t turn_queue_max, turn_queue_wait_s; /* turns beyond an App's or organization's limit */
		int64_t lease_s, recovery_s, reconcile_s, stats_s;
		int64_t history_hours; /* worker_stats rows are kept so long */
	} worker;
	struct {
		struct settings_login database, nats;
		char *schema_dir;
	} ctl;
};

/* path NULL: HEARTH_CONFIG, else $(sysconfdir)/hearth/hearth.conf. Reads, checks, resolves passwords of `program`.
 * *ret_path (may be NULL) is the file used, malloc'd. */
bool settings_load(const char *path, enum settings_program program, struct settings *ret_settings, char **ret_path,
		   struct err *e) MUST_CHECK;
void settings_clear(struct settings *s); /* wipes secrets */
/* For SIGHUP: reads the file again and, where all of it is valid, takes over the options marked CONF_RELOAD; texts
 * that were borrowed from them are gone. */
bool settings_reload(struct settings *s, enum settings_program program, struct err *e) MUST_CHECK;
/* One warning that names, without values, the options that the program reads, that differ, and that hold only from a
 * start on. settings_reload says it too. */
void settings_warn_of_restart(const struct settings *running, const struct settings *fresh,
			      enum settings_program program);
/* Effective values without secrets. */
void settings_dump(const struct settings *s, FILE *out);

/* What lib/ needs of them, for one program. Pointers are borrowed from s. */
void settings_db_options(const struct settings *s, enum settings_program program, struct db_options *ret_options);
void settings_bus_options(const struct settings *s, enum settings_program program, struct bus_options *ret_options);
const struct settings_login *settings_database_login(const struct settings *s, enum settings_program program);

/*
 * The options every program has: --config FILE, --check, --dump, --version, --help. Returns true when main should go
 * on; else *ret_exit is the status to end with, and what there was to say is said.
 */
bool settings_from_args(int argc, char **argv, enum settings_program program, const char *usage,
			struct settings *ret_settings, int *ret_exit);

#endif
