/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hearth-worker: options, settings, the process's own state (limits, not
 * dumpable, in the background where asked), then the engine.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/settings.h"
#include "lib/db.h"
#include "lib/http.h"
#include "lib/log.h"
#include "lib/secret.h"
#include "worker/engine.h"

static const char usage[] = "Usage: hearth-worker [--config FILE] [--daemon] [--pid-file FILE]\n"
			    "       hearth-worker --check [FILE] | --dump | --version | --help\n"
			    "\n"
			    "Holds AI Apps ready: takes load events from NATS, builds the Apps, answers their\n"
			    "chats, and records what it does in MariaDB.\n"
			    "\n"
			    "  -c, --config FILE   configuration (else HEARTH_CONFIG, else the installed one)\n"
			    "      --check [FILE]  validate the configuration and exit\n"
			    "      --dump          print the effective configuration without secrets and exit\n"
			    "      --daemon        go to the background (logs should go to syslog then)\n"
			    "      --pid-file FILE write the process id there\n"
			    "\n"
			    "Signals: SIGTERM and SIGINT drain and stop; SIGHUP takes over the (reload) options.\n";

struct background {
	bool is_daemon;
	const char *pid_file;
};

/* Takes --daemon and --pid-file out of argv; the rest is settings_from_args'. */
static int take_background(int argc, char **argv, struct background *ret_background)
{
	int kept = 1;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--daemon") == 0)
			ret_background->is_daemon = true;
		else if (strcmp(argv[i], "--pid-file") == 0 && i + 1 < argc)
			ret_background->pid_file = argv[++i];
		else
			argv[kept++] = argv[i];
	}
	argv[kept] = NULL;
	return kept;
}

static bool write_pid(const char *path)
{
	FILE *f = fopen(path, "we");

	if (f == NULL)
		return false;
	bool ok = fprintf(f, "%ld\n", (long)getpid()) > 0;
	return fclose(f) == 0 && ok;
}

static void set_limits(const struct settings *s)
{
	struct rlimit files;
	char threads[32];

	secret_hide_process();
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	/* One thread per connection, and two that wait on the bus. */
	(void)snprintf(threads, sizeof(threads), "%lld", (long long)s->worker.database_connections + 2);
	(void)setenv("UV_THREADPOOL_SIZE", threads, 1);
	(void)signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
	struct background background = {0};
	struct settings settings = {0};
	struct err e = {0};
	int exit_status = 1;

	argc = take_background(argc, argv, &background);
	if (!settings_from_args(argc, argv, SETTINGS_WORKER, usage, &settings, &exit_status))
		return exit_status;
	log_open("hearth-worker", (enum log_level)settings.log.level, (enum log_target)settings.log.target);
	set_limits(&settings);
	if (background.is_daemon && daemon(0, settings.log.target == LOG_TARGET_STDERR) != 0) {
		log_error("cannot go to the background", NULL);
		goto out;
	}
	if (background.pid_file != NULL && !write_pid(background.pid_file)) {
		log_error("cannot write the pid file", "path=%s", background.pid_file);
		goto out;
	}
	if (!secret_init(&e) || !http_library_init(&e) || !db_library_init(&e)) {
		log_error("cannot start", "error=%s", e.text);
		goto out;
	}
	exit_status = engine_run(&settings);
	db_library_end();
	http_library_end();
	if (background.pid_file != NULL)
		(void)unlink(background.pid_file);
out:
	settings_clear(&settings);
	return exit_status;
}
