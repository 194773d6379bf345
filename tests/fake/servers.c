/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/servers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/macros.h"
#include "lib/xalloc.h"

#define READY_TRIES 3000
#define READY_PAUSE_MS 10
#define EXIT_SKIPPED 77
#define ARGS_MAX 24
#define DIRS_MAX 8
#define PORT_MIN 10000
#define PORT_COUNT 20000

struct server {
	char *argv[ARGS_MAX];
	int argc;
	char *log;
	char *socket; /* NULL: TCP */
	char *url;
	int port;
	pid_t pid; /* 0: not running */
};

static char *dirs[DIRS_MAX];
static int dir_count;

static void NORETURN PRINTF_LIKE(2, 3) quit(int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
	exit(status);
}

/* --- folders --- */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_dirs(void)
{
	for (int i = 0; i < dir_count; i++) {
		(void)nftw(dirs[i], remove_one, 16, FTW_DEPTH | FTW_PHYS);
		free(dirs[i]);
	}
	dir_count = 0;
}

const char *server_dir_make(void)
{
	const char *tmp = getenv("TMPDIR");
	char *dir = xasprintf("%s/hearth-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");

	if (dir_count == DIRS_MAX || !mkdtemp(dir))
		quit(EXIT_FAILURE, "no folder for the test: %s", strerror(errno));
	if (dir_count == 0)
		(void)atexit(remove_dirs);
	dirs[dir_count++] = dir;
	return dir;
}

/* --- processes --- */

static void add_arg(struct server *s, char *arg)
{
	if (s->argc == ARGS_MAX - 1)
		quit(EXIT_FAILURE, "too many arguments for a server");
	s->argv[s->argc++] = arg;
}

/* In the child. */
static void NORETURN exec_server(char *const *argv, const char *log)
{
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fd >= 0) {
		(void)dup2(fd, STDOUT_FILENO);
		(void)dup2(fd, STDERR_FILENO);
	}
	(void)execvp(argv[0], argv);
	_exit(127);
}

static pid_t spawn(char *const *argv, const char *log)
{
	const char *path = getenv("PATH");
	char *wide = xasprintf("%s:/usr/local/sbin:/usr/sbin:/sbin", path ? path : "/usr/bin:/bin");
	pid_t pid;

	if (!path || !strstr(path, ":/usr/sbin:/sbin"))
		(void)setenv("PATH", wide, 1);
	free(wide);
	pid = fork();
	if (pid < 0)
		quit(EXIT_FAILURE, "fork: %s", strerror(errno));
	if (pid == 0)
		exec_server(argv, log);
	return pid;
}

static int wait_exit(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void NORETURN quit_with_log(const struct server *s, int status)
{
	char line[512];
	FILE *f = fopen(s->log, "r");

	while (f && fgets(line, sizeof(line), f))
		(void)fputs(line, stderr);
	quit(status == 127 ? EXIT_SKIPPED : EXIT_FAILURE, "%s %s", s->argv[0],
	     status == 127 ? "is not installed" : "does not start");
}

/* --- readiness: both servers greet whoever connects --- */

static int connect_to(const struct server *s)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct sockaddr_in in = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(s->socket ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int rc;

	if (s->socket) {
		(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", s->socket);
		rc = connect(fd, (struct sockaddr *)&un, sizeof(un));
	} else {
		rc = connect(fd, (struct sockaddr *)&in, sizeof(in));
	}
	if (rc == 0)
		return fd;
	(void)close(fd);
	return -1;
}

static bool is_greeting(const struct server *s)
{
	char c;
	int fd = connect_to(s);
	bool ok = fd >= 0 && read(fd, &c, 1) == 1;

	if (fd >= 0)
		(void)close(fd);
	return ok;
}

static void run(struct server *s)
{
	const struct timespec pause = {.tv_nsec = READY_PAUSE_MS * 1000000};
	int status;

	s->pid = spawn(s->argv, s->log);
	for (int i = 0; i < READY_TRIES; i++) {
		if (is_greeting(s))
			return;
		if (waitpid(s->pid, &status, WNOHANG) == s->pid)
			quit_with_log(s, WIFEXITED(status) ? WEXITSTATUS(status) : 128);
		(void)nanosleep(&pause, NULL);
	}
	server_kill(s);
	quit_with_log(s, 1);
}

/* --- MariaDB --- */

static void install_database(struct server *s, const char *dir)
{
	char *data = xasprintf("--datadir=%s/data", dir), *tmp = xasprintf("--tmpdir=%s", dir);
	char program[] = "mariadb-install-db", no_defaults[] = "--no-defaults", no_test[] = "--skip-test-db",
	     root[] = "--auth-root-authentication-method=normal", names[] = "--force" /* names need not be looked up */,
	     small[] = "--innodb-log-file-size=4M", user[] = "--user=root";
	char *argv[] = {program, no_defaults, data, tmp, root, no_test, names, small, geteuid() == 0 ? user : NULL,
			NULL};
	int status = wait_exit(spawn(argv, s->log));

	free(data);
	free(tmp);
	if (status != 0)
		quit_with_log(s, status);
}

struct server *server_mariadb_start(const char *dir)
{
	struct server *s = xcalloc(1, sizeof(*s));

	s->log = xasprintf("%s/mariadb.log", dir);
	s->socket = xasprintf("%s/mariadb.sock", dir);
	add_arg(s, xstrdup("mariadbd"));
	add_arg(s, xstrdup("--no-defaults"));
	add_arg(s, xstrdup("--skip-networking"));
	add_arg(s, xasprintf("--datadir=%s/data", dir));
	/* A server that starts clears away what looks like temporary tables in a folder that it shares with others. */
	add_arg(s, xasprintf("--tmpdir=%s", dir));
	add_arg(s, xasprintf("--socket=%s", s->socket));
	add_arg(s, xasprintf("--pid-file=%s/mariadb.pid", dir));
	add_arg(s, xstrdup("--innodb-buffer-pool-size=32M"));
	add_arg(s, xstrdup("--innodb-log-file-size=4M"));
	add_arg(s, xstrdup("--innodb-flush-log-at-trx-commit=0"));
	add_arg(s, xstrdup("--max-allowed-packet=16M"));
	if (geteuid() == 0)
		add_arg(s, xstrdup("--user=root"));
	install_database(s, dir);
	run(s);
	return s;
}

/* --- NATS --- */

/* Outside of the range from which the system gives ports to those who name none. */
int server_port_free(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;
	uint16_t chance;

	do {
		if (getrandom(&chance, sizeof(chance), 0) != (ssize_t)sizeof(chance))
			quit(EXIT_FAILURE, "no free port: %s", strerror(errno));
		in.sin_port = htons((uint16_t)(PORT_MIN + chance % PORT_COUNT));
		rc = bind(fd, (struct sockaddr *)&in, sizeof(in));
	} while (rc != 0 && errno == EADDRINUSE);
	if (rc != 0)
		quit(EXIT_FAILURE, "no free port: %s", strerror(errno));
	(void)close(fd);
	return ntohs(in.sin_port);
}

static void write_nats_config(const char *path, const char *dir, int port, const char *extra)
{
	FILE *f = fopen(path, "w");

	if (!f)
		quit(EXIT_FAILURE, "%s: %s", path, strerror(errno));
	(void)fprintf(f, "listen: \"127.0.0.1:%d\"\njetstream { store_dir: \"%s/jetstream\" }\n%s\n", port, dir,
		      extra ? extra : "");
	(void)fclose(f);
}

struct server *server_nats_start(const char *dir, const char *extra)
{
	struct server *s = xcalloc(1, sizeof(*s));
	char *config = xasprintf("%s/nats.conf", dir);

	s->port = server_port_free();
	s->url = xasprintf("nats://127.0.0.1:%d", s->port);
	s->log = xasprintf("%s/nats.log", dir);
	write_nats_config(config, dir, s->port, extra);
	add_arg(s, xstrdup("nats-server"));
	add_arg(s, xstrdup("-c"));
	add_arg(s, config);
	run(s);
	return s;
}

/* --- both --- */

const char *server_socket(const struct server *server)
{
	return server->socket;
}

const char *server_url(const struct server *server)
{
	return server->url;
}

int server_port(const struct server *server)
{
	return server->port;
}

pid_t server_pid(const struct server *server)
{
	return server->pid;
}

static void end(struct server *server, int signal_number)
{
	if (server->pid == 0)
		return;
	(void)kill(server->pid, signal_number);
	(void)wait_exit(server->pid);
	server->pid = 0;
}

void server_kill(struct server *server)
{
	end(server, SIGKILL);
}

void server_restart(struct server *server)
{
	run(server);
}

void server_stop(struct server **server)
{
	struct server *s = *server;

	*server = NULL;
	if (!s)
		return;
	end(s, SIGTERM);
	for (int i = 0; i < s->argc; i++)
		free(s->argv[i]);
	free(s->log);
	free(s->socket);
	free(s->url);
	free(s);
}
