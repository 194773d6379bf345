/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hearth.fcgi: the HTTP API behind a web server, over FastCGI. It keeps no
 * state: any number of these may run side by side.
 *
 * The main thread makes everything, starts the serving threads, and then only
 * waits for signals and tends the bus connection. SIGTERM, SIGINT and SIGUSR1
 * (a web server that manages its processes): stop accepting, finish what is in hand, end. SIGHUP: what may
 * change of the configuration file. All signals are blocked in all other
 * threads. An unreachable database or bus is no reason not to start: requests are answered
 * 503 until it is there; a database of an older schema is.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "core/key_watch.h"
#include "core/keyring.h"
#include "core/schema.h"
#include "core/settings.h"
#include "fcgi-app/accept_line.h"
#include "fcgi-app/access_cache.h"
#include "fcgi-app/app.h"
#include "fcgi-app/busline.h"
#include "fcgi-app/fcgi.h"
#include "fcgi-app/gate.h"
#include "fcgi-app/router.h"
#include "fcgi-app/serve.h"
#include "fcgi-app/waits.h"
#include "lib/buf.h"
#include "lib/db.h"
#include "lib/log.h"
#include "lib/netaddr.h"
#include "lib/secret.h"

#define PROGRAM "hearth.fcgi"
#define TEND_INTERVAL_MS 1000
#define CUT_MS 3000 /* for turns that are told to end */
#define CONNECTIONS_PER_CORE 8
#define ROUTES_BYTES_MAX 65536

static const char usage[] = "usage: " PROGRAM " [--config FILE] [--check | --dump]\n"
			    "       " PROGRAM " --routes | --version | --help\n"
			    "Serves Hearth's HTTP API over FastCGI, on app.socket or on the socket at descriptor 0.\n";

struct program {
	struct settings settings;
	struct app app;
	struct fcgi *fcgi;
	struct servers *servers;
	struct key_watch *key_watch;
	int signal_fd;
};

/* --- start --- */

static int print_routes(void)
{
	struct buf out;

	buf_init(&out, ROUTES_BYTES_MAX);
	router_print(&out);
	printf("%s\n", buf_str(&out));
	buf_clear(&out);
	return EXIT_SUCCESS;
}

/* Before any thread: they inherit the mask. */
static bool take_signals(struct program *p, struct err *e)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGHUP);
	if (sigaction(SIGPIPE, &ignore, NULL) != 0 || pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
		return err_set(e, ERR_INTERNAL, "signals: %s", strerror(errno));
	p->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return p->signal_fd >= 0 || err_set(e, ERR_INTERNAL, "signalfd: %s", strerror(errno));
}

static unsigned connection_count(const struct settings *s)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (s->app.database_connections > 0)
		return (unsigned)s->app.database_connections;
	return CONNECTIONS_PER_CORE * (unsigned)(cores > 0 ? cores : 1);
}

/* False only where the database is there and its schema is not what we need. */
static bool check_schema(struct app *app, struct err *e)
{
	struct db *db = NULL;
	bool ok = true;

	if (!db_take(app->db_pool, 0, TEND_INTERVAL_MS, &db, e)) {
		log_warn("the database is not there yet: requests are answered 503 until it is", "error=\"%s\"",
			 e->text);
		return true;
	}
	if (schema_check(db, e))
		atomic_store(&app->is_schema_good, true);
	else
		ok = e->code != ERR_MISSING && e->code != ERR_CONFLICT;
	db_give(app->db_pool, &db);
	return ok;
}

static bool make_app(struct program *p, struct err *e)
{
	const struct id process_id = id_new();
	struct app *app = &p->app;
	struct db_options options = {0};

	app->settings = &p->settings;
	settings_db_options(&p->settings, SETTINGS_APP, &options);
	app->db_pool = db_pool_new(&options, connection_count(&p->settings));
	app->waits = waits_new();
	app->cache = access_cache_new();
	app->accepts = accept_line_new();
	app->gate = gate_new((unsigned)p->settings.app.threads_max);
	if (!check_schema(app, e))
		return false;
	(void)pthread_mutex_init(&app->llm_networks_mutex, NULL);
	if (!app_set_llm_networks(app, p->settings.llm.allowed_networks, e))
		return false;
	app->keys = keyring_new(p->settings.keys.file);
	p->key_watch = key_watch_start(app->keys, &options, PROGRAM, &process_id);
	return busline_open(&p->settings, app->waits, app->cache, &app->bus, e);
}

/* "660" is written as it is meant: octal. */
static unsigned octal(int64_t digits)
{
	return (unsigned)(digits / 100 % 10 * 64 + digits / 10 % 10 * 8 + digits % 10);
}

static bool listen_now(struct program *p, struct err *e)
{
	const struct fcgi_options options = {
		.socket = p->settings.app.socket,
		.mode = octal(p->settings.app.socket_mode),
		.backlog = (int)p->settings.app.socket_backlog,
		.io_timeout_s = (int)p->settings.app.io_timeout_s,
		.threads = (unsigned)p->settings.app.threads_max,
	};

	return fcgi_open(&options, &p->fcgi, e);
}

/* Connections that wait take a descriptor each. */
static void raise_limits(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
}

static bool start(struct program *p, struct err *e)
{
	raise_limits();
	secret_hide_process();
	return take_signals(p, e) && secret_init(e) && db_library_init(e) && listen_now(p, e) && make_app(p, e) &&
	       servers_start(&p->app, p->fcgi, (unsigned)p->settings.app.threads_max, &p->servers, e);
}

/* --- running --- */

/* The threads read p->settings: they stay as they are. */
static void reload(struct program *p)
{
	struct settings fresh;
	struct err e = {0};

	key_watch_wake(p->key_watch);
	if (!settings_load(p->settings.path, SETTINGS_APP, &fresh, NULL, &e)) {
		log_error("configuration not taken over; the old one stays", "error=\"%s\"", e.text);
		return;
	}
	settings_warn_of_restart(&p->settings, &fresh, SETTINGS_APP);
	log_set_level((enum log_level)fresh.log.level);
	if (!app_set_llm_networks(&p->app, fresh.llm.allowed_networks, &e))
		log_error("networks not taken over", "error=%s", e.text);
	log_info("configuration taken over", NULL);
	settings_clear(&fresh);
}

/* True: end. */
static bool take_signal(struct program *p)
{
	struct signalfd_siginfo info;

	if (read(p->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return false;
	if (info.ssi_signo == SIGHUP) {
		reload(p);
		return false;
	}
	log_info("stopping: finishing what is in hand", "signal=%u", info.ssi_signo);
	return true;
}

static void run_until_signal(struct program *p)
{
	struct pollfd pfd = {.fd = p->signal_fd, .events = POLLIN};

	log_info("serving", "socket=%s threads=%lld", p->settings.app.socket ? p->settings.app.socket : "inherited",
		 (long long)p->settings.app.threads_max);
	do {
		pfd.revents = 0;
		(void)poll(&pfd, 1, TEND_INTERVAL_MS);
		busline_tend(p->app.bus);
	} while (!(pfd.revents & POLLIN) || !take_signal(p));
}

/* --- end --- */

/* False: threads still run, so nothing they use may be freed. */
static bool stop_servers(struct program *p)
{
	if (!p->servers)
		return true;
	atomic_store(&p->app.is_stopping, true);
	fcgi_stop(p->fcgi);
	waits_wake_all(p->app.waits);
	if (servers_wait(p->servers, (int)p->settings.app.shutdown_s * 1000))
		return true;
	log_warn("some requests did not end in time and are cut", NULL);
	atomic_store(&p->app.is_cutting, true);
	waits_wake_all(p->app.waits);
	return servers_wait(p->servers, CUT_MS);
}

static void take_apart(struct program *p)
{
	servers_free(&p->servers);
	fcgi_close(&p->fcgi);
	if (p->app.bus)
		busline_close(&p->app.bus);
	gate_free(&p->app.gate);
	accept_line_free(&p->app.accepts);
	access_cache_free(&p->app.cache);
	key_watch_stop(&p->key_watch);
	keyring_free(&p->app.keys);
	netaddr_list_free(&p->app.llm_networks);
	waits_free(&p->app.waits);
	if (p->app.db_pool)
		db_pool_free(&p->app.db_pool);
	db_library_end();
	if (p->signal_fd >= 0)
		(void)close(p->signal_fd);
	settings_clear(&p->settings);
}

int main(int argc, char **argv)
{
	static struct program p = {.signal_fd =
					   -1}; /* on no stack: threads that are cut off may outlive main's frame */
	int status = EXIT_SUCCESS;
	struct err e = {0};

	if (argc == 2 && strcmp(argv[1], "--routes") == 0)
		return print_routes();
	if (!settings_from_args(argc, argv, SETTINGS_APP, usage, &p.settings, &status))
		return status;
	log_open(PROGRAM, (enum log_level)p.settings.log.level, (enum log_target)p.settings.log.target);
	if (start(&p, &e)) {
		run_until_signal(&p);
	} else {
		log_error("not started", "reason=\"%s\"", e.text);
		status = EXIT_FAILURE;
	}
	if (!stop_servers(&p)) {
		log_warn("ended with requests in hand", NULL);
		_exit(status);
	}
	take_apart(&p);
	log_info("ended", NULL);
	return status;
}
