/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The option table of hearth.conf and what happens between the file and the
 * programs: the file over the defaults, empty values away, what is not given
 * filled in, the password of the program that runs, and the checks that concern
 * more than one option. Every program checks the whole file but reads only its
 * own password, so none needs to see another's secrets.
 * Options marked CONF_RELOAD can be taken over by a running program
 * (settings_reload).
 */
#include "core/settings.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/lease.h"
#include "lib/buf.h"
#include "lib/conf.h"
#include "lib/netaddr.h"
#include "lib/xalloc.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "unknown"
#endif

#define DEFAULT_PATH HEARTH_SYSCONFDIR "/hearth/hearth.conf"
#define DEFAULT_DATABASE_SOCKET "/run/mysqld/mysqld.sock"
#define ENV_PATH "HEARTH_CONFIG"
#define ENV_DATABASE_PASSWORD "HEARTH_DATABASE_PASSWORD"
#define ENV_NATS_PASSWORD "HEARTH_NATS_PASSWORD"
#define UNIX_SOCKET_PATH_MAX 107 /* sun_path less its NUL */
#define USER_MAX 80              /* MariaDB's longest user name */
#define EXIT_USAGE 2
#define NAMES_BYTES_MAX 8192

static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};
static const char *const log_targets[] = {"stderr", "syslog", NULL};

#define FIELD(field) offsetof(struct settings, field)
#define TEXT(option, field, text, longest, line) RELOADABLE_TEXT(option, field, text, longest, 0, line)
#define RELOADABLE_TEXT(option, field, text, longest, flag, line)                                                      \
	{                                                                                                              \
		.name = option, .type = CONF_STRING, .offset = FIELD(field), .default_text = text, .max = longest,     \
		.flags = (flag), .help = line                                                                          \
	}
#define NUMBER(option, field, text, lowest, highest, flag, line)                                                       \
	{                                                                                                              \
		.name = option, .type = CONF_INT, .offset = FIELD(field), .default_text = text, .min = lowest,         \
		.max = highest, .flags = flag, .help = line                                                            \
	}
#define WORD(option, field, text, words, flag, line)                                                                   \
	{                                                                                                              \
		.name = option, .type = CONF_ENUM, .offset = FIELD(field), .default_text = text, .names = words,       \
		.flags = flag, .help = line                                                                            \
	}
#define PASSWORD(option, field, line)                                                                                  \
	{                                                                                                              \
		.name = option, .type = CONF_STRING, .offset = FIELD(field), .max = 4096, .flags = CONF_SECRET,        \
		.help = line                                                                                           \
	}
#define DATABASE_LOGIN(program)                                                                                        \
	TEXT(#program ".database_user", program.database.user, NULL, USER_MAX,                                         \
	     "MariaDB user; the process's user where not set"),                                                        \
		PASSWORD(#program ".database_password", program.database.password,                                     \
			 "its password; better in a file or in " ENV_DATABASE_PASSWORD),                               \
		TEXT(#program ".database_password_file", program.database.password_file, NULL, 4095,                   \
		     "file whose first line is the password, mode 0600 or 0640")
#define NATS_LOGIN(program)                                                                                            \
	TEXT(#program ".nats_user", program.nats.user, NULL, 256, "NATS user; none where not set"),                    \
		PASSWORD(#program ".nats_password", program.nats.password,                                             \
			 "its password; better in a file or in " ENV_NATS_PASSWORD),                                   \
		TEXT(#program ".nats_password_file", program.nats.password_file, NULL, 4095,                           \
		     "file whose first line is the password, mode 0600 or 0640")

static const struct conf_option options[] = {
	TEXT("database.socket", database.socket, NULL, UNIX_SOCKET_PATH_MAX,
	     "MariaDB's UNIX socket; " DEFAULT_DATABASE_SOCKET " where no host is set"),
	TEXT("database.host", database.host, NULL, 255, "MariaDB's host, for TCP in place of the socket"),
	NUMBER("database.port", database.port, "3306", 1, 65535, 0, "MariaDB's TCP port"),
	TEXT("database.name", database.name, "hearth", 64, "the database"),
	TEXT("database.tls_ca", database.tls_ca, NULL, 4095, "CA file: TLS with the host's name verified; needs host"),
	NUMBER("database.connect_timeout_s", database.connect_timeout_s, "3", 1, 60, 0,
	       "seconds to wait for a connection"),
	NUMBER("database.io_timeout_s", database.io_timeout_s, "10", 1, 600, 0,
	       "seconds to wait for an answer before the connection is given up"),

	TEXT("nats.url", nats.url, "nats://127.0.0.1:4222", 1024,
	     "one or more nats:// or tls:// addresses, comma-separated, without user and password"),
	TEXT("nats.tls_ca", nats.tls_ca, NULL, 4095, "CA file: TLS with the host's name verified"),
	TEXT("nats.creds_file", nats.creds_file, NULL, 4095, "NATS credentials file, in place of user and password"),
	NUMBER("nats.stream_replicas", nats.stream_replicas, "1", 1, 5, 0,
	       "copies of the load stream in a NATS cluster, a count"),
	NUMBER("nats.stream_max_bytes", nats.stream_max_bytes, "268435456", 1048576, INT64_C(1) << 40, 0,
	       "the load stream's size limit in bytes; the oldest events go first"),

	TEXT("keys.file", keys.file, NULL, 4095,
	     "the key ring for secrets, mode 0600 or 0640, the same on all hosts; made by hearthctl keys new"),

	NUMBER("llm.connect_timeout_s", llm.connect_timeout_s, "10", 1, 300, CONF_RELOAD,
	       "seconds to reach a model provider"),
	NUMBER("llm.first_byte_timeout_s", llm.first_byte_timeout_s, "60", 1, 3600, CONF_RELOAD,
	       "seconds until a provider begins to answer"),
	NUMBER("llm.idle_timeout_s", llm.idle_timeout_s, "60", 1, 3600, CONF_RELOAD,
	       "seconds of silence in the middle of an answer"),
	NUMBER("llm.attempts_max", llm.attempts_max, "3", 1, 10, CONF_RELOAD,
	       "attempts of one call, while nothing of an answer has come: after 429, 5xx, no connection"),
	NUMBER("llm.retry_max_s", llm.retry_max_s, "10", 1, 300, CONF_RELOAD,
	       "seconds between two attempts at most; a Retry-After beyond it is passed on to the client"),
	NUMBER("llm.answer_max_bytes", llm.answer_max_bytes, "1048576", 4096, 67108864, CONF_RELOAD,
	       "the text of one answer of a model, in bytes"),
	NUMBER("llm.connections_max", llm.connections_max, "0", 0, 100000, 0,
	       "connections of one worker to all providers; 0: no limit; each call under way takes one"),
	NUMBER("llm.breaker_failures", llm.breaker_failures, "5", 0, 1000, CONF_RELOAD,
	       "failures in a row after which a provider is given a pause; 0: never"),
	NUMBER("llm.breaker_pause_s", llm.breaker_pause_s, "10", 1, 3600, CONF_RELOAD,
	       "the first pause, in seconds; each next one is twice as long"),
	NUMBER("llm.breaker_pause_max_s", llm.breaker_pause_max_s, "120", 1, 86400, CONF_RELOAD,
	       "the longest pause, in seconds"),
	RELOADABLE_TEXT(
		"llm.allowed_networks", llm.allowed_networks, NULL, 4095, CONF_RELOAD,
		"networks where an LLM provider may be though they are reserved, or with http://, as 10.1.0.0/16, "
		"fd00::/8"),
	TEXT("llm.ca_file", llm.ca_file, NULL, 4095,
	     "certificates that providers' are checked against; default: the system's"),

	RELOADABLE_TEXT(
		"tools.allowed_networks", tools.allowed_networks, NULL, 4095, CONF_RELOAD,
		"reserved networks where the pages that tools read may be all the same, as 10.1.0.0/16, fd00::/8"),

	WORD("log.level", log.level, "info", log_levels, CONF_RELOAD, "least level written: debug, info, warn, error"),
	WORD("log.target", log.target, "stderr", log_targets, 0, "stderr (for the journal too) or syslog"),

	DATABASE_LOGIN(app),
	NATS_LOGIN(app),
	TEXT("app.socket", app.socket, NULL, UNIX_SOCKET_PATH_MAX,
	     "where to listen: a path or 127.0.0.1:port; not set: descriptor 0, from the web server"),
	NUMBER("app.socket_mode", app.socket_mode, "660", 0, 777, 0, "mode of the socket's file, octal digits"),
	NUMBER("app.socket_backlog", app.socket_backlog, "4096", 1, 65535, 0,
	       "connections that may wait to be accepted, a count; the kernel caps it at somaxconn"),
	TEXT("app.base_path", app.base_path, "", 255,
	     "path under which the web server shows Hearth, as /prefix; empty: the root"),
	TEXT("app.dashboard_dir", app.dashboard_dir, HEARTH_DATADIR "/dashboard", 4095,
	     "directory of the admin page's files"),
	NUMBER("app.threads_max", app.threads_max, "64", 4, 4096, 0,
	       "requests served at once, a count; each stream or wait holds one"),
	NUMBER("app.database_connections", app.database_connections, "0", 0, 1024, 0,
	       "MariaDB connections at most, a count; 0: 8 per core"),
	NUMBER("app.body_max_bytes", app.body_max_bytes, "1048576", 1024, 16777216, 0,
	       "longest request body in bytes; longer: 413"),
	NUMBER("app.request_memory_max_bytes", app.request_memory_max_bytes, "8388608", 65536, 1073741824, 0,
	       "memory that one request may take, in bytes; at least twice body_max_bytes"),
	NUMBER("app.io_timeout_s", app.io_timeout_s, "30", 1, 3600, 0,
	       "seconds after which a web server that reads or writes nothing is given up"),
	NUMBER("app.keepalive_s", app.keepalive_s, "10", 1, 60, 0,
	       "seconds of silence after which a stream gets a comment, so that nobody on its way gives it up"),
	NUMBER("app.publish_timeout_ms", app.publish_timeout_ms, "1000", 10, 10000, 0,
	       "milliseconds to wait for the bus to take an accepted request"),
	NUMBER("app.demand_wait_s", app.demand_wait_s, "30", 0, 300, 0,
	       "seconds that a first chat waits for its App to load; then 503 instance_loading"),
	NUMBER("app.turn_timeout_s", app.turn_timeout_s, "300", 1, 3600, 0,
	       "seconds that one chat turn may take; then 504 turn_timeout"),
	NUMBER("app.shutdown_s", app.shutdown_s, "30", 0, 3600, 0,
	       "seconds that requests in hand may still take after SIGTERM"),

	DATABASE_LOGIN(worker),
	NATS_LOGIN(worker),
	TEXT("worker.name", worker.name, NULL, WORKER_ID_MAX,
	     "the worker's name, one of its kind in the pool; the host's name where not set"),
	TEXT("worker.machine_id", worker.machine_id, NULL, WORKER_ID_MAX,
	     "tells a restart from a name used twice; /etc/machine-id where not set"),
	NUMBER("worker.hot_ceiling", worker.hot_ceiling, "10000", 0, 10000000, CONF_RELOAD,
	       "hot Apps held at most, a count"),
	NUMBER("worker.demand_ceiling", worker.demand_ceiling, "10000", 0, 10000000, CONF_RELOAD,
	       "demand Apps held at most, a count"),
	NUMBER("worker.builds_max", worker.builds_max, "64", 1, 1024, CONF_RELOAD, "Apps built at once, a count"),
	NUMBER("worker.database_connections", worker.database_connections, "8", 2, 256, 0,
	       "MariaDB connections at most, a count, beside the lease's own"),
	NUMBER("worker.ttl_s", worker.ttl_s, "300", 1, 31536000, CONF_RELOAD,
	       "seconds after which an idle demand App leaves, where App and org set none"),
	NUMBER("worker.drain_s", worker.drain_s, "30", 0, 3600, CONF_RELOAD,
	       "seconds that unload and SIGTERM wait for turns in flight"),
	NUMBER("worker.build_timeout_s", worker.build_timeout_s, "120", 1, 3600, CONF_RELOAD,
	       "seconds that the build of one App may take"),
	NUMBER("worker.turns_max", worker.turns_max, "10000", 1, 1000000, CONF_RELOAD,
	       "turns in flight at most, a count; past it 429 too_many_turns"),
	NUMBER("worker.org_turns_max", worker.org_turns_max, "0", 0, 1000000, CONF_RELOAD,
	       "turns of one organization at once on this worker; 0: no limit; more wait, then get 429 too_many_turns"),
	NUMBER("worker.turn_queue_max", worker.turn_queue_max, "64", 0, 100000, CONF_RELOAD,
	       "turns of one organization that wait because a limit of its own or of an App is met"),
	NUMBER("worker.turn_queue_wait_s", worker.turn_queue_wait_s, "10", 1, 600, CONF_RELOAD,
	       "seconds that such a turn waits at most"),
	NUMBER("worker.lease_s", worker.lease_s, "15", 2, 300, 0,
	       "seconds without renewal after which a worker counts as dead; the same on all workers"),
	NUMBER("worker.recovery_s", worker.recovery_s, "2", 1, 60, 0,
	       "seconds between two passes of recovery; at most lease_s"),
	NUMBER("worker.reconcile_s", worker.reconcile_s, "30", 1, 3600, 0,
	       "seconds between two comparisons of what is held with the database"),
	NUMBER("worker.stats_s", worker.stats_s, "5", 1, 300, 0, "seconds between two flushes of the statistics"),
	NUMBER("worker.history_hours", worker.history_hours, "24", 1, 8760, 0,
	       "hours for which the pool's history is kept"),

	DATABASE_LOGIN(ctl),
	NATS_LOGIN(ctl),
	TEXT("ctl.schema_dir", ctl.schema_dir, HEARTH_DATADIR "/schema", 4095, "directory of the schema's SQL files"),
};

/* What the programs that run on read: how the names of those options begin. */
static const char *const app_reads[] = {"database.", "nats.", "keys.", "log.", "app.", "worker.lease_s", NULL};
static const char *const worker_reads[] = {"database.",         "nats.", "keys.", "log.", "llm.", "tools.", "worker.",
					   "app.demand_wait_s", NULL};

static const struct {
	const char *name;                  /* of the program */
	const char *inbox_prefix;          /* one each, so that NATS permissions can keep them apart */
	size_t database_login, nats_login; /* offsets of its logins */
	unsigned lock_wait_timeout_s, idle_transaction_timeout_s;
	unsigned delivery_threads;
	size_t call_queue_max;
	const char *const *reads;
} programs[] = {
	[SETTINGS_APP] = {"hearth.fcgi", "_INBOX_APP", FIELD(app.database), FIELD(app.nats), 3, 10, 2, 1024, app_reads},
	[SETTINGS_WORKER] = {"hearth-worker", "_INBOX_WORKER", FIELD(worker.database), FIELD(worker.nats), 3, 10, 1, 64,
			     worker_reads},
	[SETTINGS_CTL] = {"hearthctl", "_INBOX_CTL", FIELD(ctl.database), FIELD(ctl.nats), 30, 0, 1, 16, NULL},
};
#define CTL_IO_TIMEOUT_S 3600 /* a migration of large tables takes its time */

/* --- logins --- */

const struct settings_login *settings_database_login(const struct settings *s, enum settings_program program)
{
	return (const void *)((const char *)s + programs[program].database_login);
}

static const struct settings_login *nats_login(const struct settings *s, enum settings_program program)
{
	return (const void *)((const char *)s + programs[program].nats_login);
}

static void replace_secret(char **field, char *value)
{
	if (*field)
		explicit_bzero(*field, strlen(*field));
	free(*field);
	*field = value;
}

/* The environment's password, else the file's, else the key's, which is there already. */
static bool resolve_password(struct settings_login *login, const char *env, struct err *e)
{
	const char *from_env = getenv(env);
	char *secret = NULL;

	if (from_env && *from_env) {
		replace_secret(&login->password, xstrdup(from_env));
		return true;
	}
	if (!login->password_file)
		return true;
	if (!conf_read_secret(login->password_file, &secret, e))
		return err_ctx(e, "password file");
	replace_secret(&login->password, secret);
	return true;
}

/* MariaDB's own default follows $USER and the terminal's login; unix_socket authentication wants who we are. */
static void default_database_user(struct settings_login *login)
{
	const struct passwd *pw = login->user ? NULL : getpwuid(geteuid());

	if (pw)
		login->user = xstrdup(pw->pw_name);
}

/* --- checks --- */

/* `key =` without a value means not set, where that is the default. */
static void drop_empty_texts(struct settings *s)
{
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		if (options[i].type != CONF_STRING || options[i].default_text)
			continue;
		char **text = (char **)(void *)((char *)s + options[i].offset);
		if (*text && !**text) {
			free(*text);
			*text = NULL;
		}
	}
}

static bool check_database(const struct settings *s, struct err *e)
{
	if (s->database.socket && s->database.host)
		return err_set(e, ERR_INPUT, "database.socket and database.host are both set: keep one");
	if (s->database.socket && s->database.socket[0] != '/')
		return err_set(e, ERR_INPUT, "database.socket is not an absolute path");
	if (s->database.tls_ca && !s->database.host)
		return err_set(e, ERR_INPUT, "database.tls_ca needs database.host: a UNIX socket has no TLS");
	if (!s->database.name[0])
		return err_set(e, ERR_INPUT, "database.name is empty");
	return true;
}

static bool check_nats_url(const char *url, size_t len, struct err *e)
{
	if (memchr(url, '@', len))
		return err_set(e, ERR_INPUT,
			       "nats.url holds a user or password: use app.nats_user, worker.nats_user …");
	if (len > 7 && strncmp(url, "nats://", 7) == 0)
		return true;
	if (len > 6 && strncmp(url, "tls://", 6) == 0)
		return true;
	return err_set(e, ERR_INPUT, "nats.url: an address does not begin with nats:// or tls://");
}

static bool check_nats(const struct settings *s, struct err *e)
{
	for (const char *url = s->nats.url; url;) {
		url += strspn(url, " ");
		size_t len = strcspn(url, ",");
		if (!check_nats_url(url, len, e))
			return false;
		url = url[len] ? url + len + 1 : NULL;
	}
	return true;
}

/* After its password is resolved. */
static bool check_nats_login(const struct settings *s, const struct settings_login *login, struct err *e)
{
	if (login->user && s->nats.creds_file)
		return err_set(e, ERR_INPUT, "nats.creds_file and a nats_user are both set: keep one");
	if (login->user && !login->password)
		return err_set(e, ERR_INPUT, "nats_user '%.80s' has no password: set nats_password_file", login->user);
	if (!login->user && login->password)
		return err_set(e, ERR_INPUT, "a NATS password is set, but no nats_user");
	return true;
}

/* "127.0.0.1:9000": four numbers and a port, so that nobody listens on all interfaces by leaving out the first half. */
static bool is_address_and_port(const char *s)
{
	unsigned a, b, c, d, port;
	int end = 0;

	if (sscanf(s, "%3u.%3u.%3u.%3u:%5u%n", &a, &b, &c, &d, &port, &end) != 5 || s[end])
		return false;
	return a < 256 && b < 256 && c < 256 && d < 256 && port > 0 && port < 65536;
}

static bool is_base_path(const char *s)
{
	size_t len = strlen(s);

	if (len == 0)
		return true;
	return s[0] == '/' && s[len - 1] != '/' && !strstr(s, "//") && s[strcspn(s, "?#% \t")] == '\0';
}

static bool check_app(const struct settings *s, struct err *e)
{
	if (s->app.socket && s->app.socket[0] != '/' && !is_address_and_port(s->app.socket))
		return err_set(e, ERR_INPUT, "app.socket is neither an absolute path nor like 127.0.0.1:9000");
	for (int64_t mode = s->app.socket_mode; mode > 0; mode /= 10)
		if (mode % 10 > 7)
			return err_set(e, ERR_INPUT, "app.socket_mode: %d is not octal", (int)s->app.socket_mode);
	if (!is_base_path(s->app.base_path))
		return err_set(e, ERR_INPUT, "app.base_path is neither empty nor like /prefix");
	if (s->app.request_memory_max_bytes < 2 * s->app.body_max_bytes)
		return err_set(e, ERR_INPUT, "app.request_memory_max_bytes is below twice app.body_max_bytes");
	return true;
}

static bool check_networks(const char *text, const char *option, struct err *e)
{
	struct netaddr_list *list;

	if (!netaddr_list_parse(text, &list, e))
		return err_ctx(e, "%s", option);
	netaddr_list_free(&list);
	return true;
}

static bool check_llm(const struct settings *s, struct err *e)
{
	return check_networks(s->llm.allowed_networks, "llm.allowed_networks", e) &&
	       check_networks(s->tools.allowed_networks, "tools.allowed_networks", e);
}

static bool is_worker_name(const char *s)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";

	return s[strspn(s, allowed)] == '\0';
}

static bool check_worker(const struct settings *s, struct err *e)
{
	if (s->worker.name && !is_worker_name(s->worker.name))
		return err_set(e, ERR_INPUT, "worker.name holds other than letters, digits, '-', '_' and '.'");
	if (s->worker.machine_id && !is_worker_name(s->worker.machine_id))
		return err_set(e, ERR_INPUT, "worker.machine_id holds other than letters, digits, '-', '_' and '.'");
	if (s->worker.recovery_s > s->worker.lease_s)
		return err_set(e, ERR_INPUT, "worker.recovery_s is above worker.lease_s");
	return true;
}

/* A password in a file that everyone reads is none: said, not refused, since the file may be a test's. */
static void warn_of_open_file(const struct settings *s, const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0 || !(st.st_mode & S_IROTH))
		return;
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		if (!(options[i].flags & CONF_SECRET))
			continue;
		if (!*(char *const *)(const void *)((const char *)s + options[i].offset))
			continue;
		log_warn("everyone can read a password in the configuration; use a password file, or chmod o-r",
			 "file=%s option=%s", path, options[i].name);
		return;
	}
}

/* --- load --- */

static bool resolve(struct settings *s, enum settings_program program, const char *path, struct err *e)
{
	struct settings_login *database = (void *)((char *)s + programs[program].database_login);
	struct settings_login *nats = (void *)((char *)s + programs[program].nats_login);

	drop_empty_texts(s);
	if (!check_database(s, e) || !check_nats(s, e) || !check_llm(s, e) || !check_app(s, e) || !check_worker(s, e))
		return err_ctx(e, "%s", path);
	warn_of_open_file(s, path);
	if (!s->database.socket && !s->database.host)
		s->database.socket = xstrdup(DEFAULT_DATABASE_SOCKET);
	default_database_user(database);
	if (!resolve_password(database, ENV_DATABASE_PASSWORD, e) || !resolve_password(nats, ENV_NATS_PASSWORD, e) ||
	    !check_nats_login(s, nats, e))
		return err_ctx(e, "%s", path);
	return true;
}

static const char *choose_path(const char *path)
{
	const char *from_env = getenv(ENV_PATH);

	if (path)
		return path;
	return from_env && *from_env ? from_env : DEFAULT_PATH;
}

/* A link in it stays one: what it points to may be another file at the next reading. */
static char *absolute_path(const char *path)
{
	char folder[PATH_MAX];

	if (path[0] == '/' || !getcwd(folder, sizeof(folder)))
		return xstrdup(path);
	return xasprintf("%s/%s", folder, path);
}

bool settings_load(const char *path, enum settings_program program, struct settings *ret_settings, char **ret_path,
		   struct err *e)
{
	struct settings s = {0};
	const char *chosen = choose_path(path);

	if (!conf_defaults(options, ARRAY_LEN(options), &s, e))
		goto fail;
	if (!conf_read_file(options, ARRAY_LEN(options), chosen, &s, e)) {
		if (!path && !getenv(ENV_PATH))
			err_ctx(e, "no --config and no " ENV_PATH);
		goto fail;
	}
	if (!resolve(&s, program, chosen, e))
		goto fail;
	s.path = absolute_path(chosen);
	*ret_settings = s;
	if (ret_path)
		*ret_path = xstrdup(chosen);
	return true;
fail:
	settings_clear(&s);
	return false;
}

void settings_clear(struct settings *s)
{
	conf_clear(options, ARRAY_LEN(options), s);
	free(s->path);
	s->path = NULL;
}

/* --- reload --- */

static const size_t sizes[] = {
	[CONF_STRING] = sizeof(char *),
	[CONF_INT] = sizeof(int64_t),
	[CONF_BOOL] = sizeof(bool),
	[CONF_ENUM] = sizeof(int),
};

static bool differs(const struct conf_option *option, const struct settings *a, const struct settings *b)
{
	const char *here = (const char *)a + option->offset, *there = (const char *)b + option->offset;

	if (option->type != CONF_STRING)
		return memcmp(here, there, sizes[option->type]) != 0;
	const char *one = *(char *const *)(const void *)here, *other = *(char *const *)(const void *)there;
	return one && other ? strcmp(one, other) != 0 : one != other;
}

static bool is_read_by(enum settings_program program, const struct conf_option *option)
{
	for (const char *const *prefix = programs[program].reads; prefix && *prefix; prefix++)
		if (strncmp(option->name, *prefix, strlen(*prefix)) == 0)
			return true;
	return false;
}

void settings_warn_of_restart(const struct settings *running, const struct settings *fresh,
			      enum settings_program program)
{
	struct buf names;

	buf_init(&names, NAMES_BYTES_MAX);
	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		if (!(options[i].flags & CONF_RELOAD) && is_read_by(program, &options[i]) &&
		    differs(&options[i], running, fresh))
			buf_printf(&names, "%s%s", names.len > 0 ? " " : "", options[i].name);
	if (names.len > 0)
		log_warn("configuration: these options take effect with a restart", "options=\"%s\"", buf_str(&names));
	buf_clear(&names);
}

/* fresh gets the old value, and frees it. */
static void take_over(const struct conf_option *option, struct settings *s, struct settings *fresh)
{
	char *here = (char *)s + option->offset, *there = (char *)fresh + option->offset;
	char old[sizeof(int64_t)];

	memcpy(old, here, sizes[option->type]);
	memcpy(here, there, sizes[option->type]);
	memcpy(there, old, sizes[option->type]);
}

bool settings_reload(struct settings *s, enum settings_program program, struct err *e)
{
	struct settings fresh;

	if (!settings_load(s->path, program, &fresh, NULL, e))
		return false;
	settings_warn_of_restart(s, &fresh, program);
	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		if (options[i].flags & CONF_RELOAD)
			take_over(&options[i], s, &fresh);
	settings_clear(&fresh);
	return true;
}

void settings_dump(const struct settings *s, FILE *out)
{
	conf_dump(options, ARRAY_LEN(options), s, out);
}

/* --- what lib/ needs --- */

void settings_db_options(const struct settings *s, enum settings_program program, struct db_options *ret_options)
{
	const struct settings_login *login = settings_database_login(s, program);

	*ret_options = (struct db_options){
		.socket = s->database.socket,
		.host = s->database.host,
		.port = (unsigned)s->database.port,
		.user = login->user,
		.password = login->password,
		.database = s->database.name,
		.tls_ca = s->database.tls_ca,
		.connect_timeout_s = (unsigned)s->database.connect_timeout_s,
		.io_timeout_s = program == SETTINGS_CTL ? CTL_IO_TIMEOUT_S : (unsigned)s->database.io_timeout_s,
		.lock_wait_timeout_s = programs[program].lock_wait_timeout_s,
		.idle_transaction_timeout_s = programs[program].idle_transaction_timeout_s,
	};
}

void settings_bus_options(const struct settings *s, enum settings_program program, struct bus_options *ret_options)
{
	const struct settings_login *login = nats_login(s, program);

	*ret_options = (struct bus_options){
		.url = s->nats.url,
		.name = programs[program].name,
		.user = login->user,
		.password = login->password,
		.creds_file = s->nats.creds_file,
		.tls_ca = s->nats.tls_ca,
		.inbox_prefix = programs[program].inbox_prefix,
		.ping_interval_ms = 5000,
		.send_asap = true,
		.delivery_threads = programs[program].delivery_threads,
		.call_queue_max = programs[program].call_queue_max,
	};
}

/* --- the command line --- */

struct command_line {
	const char *path;
	bool is_check, is_dump;
};

/* True to go on; else *ret_exit. */
static bool parse_args(int argc, char **argv, const char *program, const char *usage, struct command_line *line,
		       int *ret_exit)
{
	static const struct option known[] = {
		{"config", required_argument, NULL, 'c'}, {"check", optional_argument, NULL, 'k'},
		{"dump", no_argument, NULL, 'd'},         {"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
	};
	int c;

	optind = 0; /* from the start, whoever parsed before */
	while ((c = getopt_long(argc, argv, "c:hV", known, NULL)) != -1) {
		switch (c) {
		case 'k':
			line->is_check = true;
			line->path = optarg ? optarg : line->path;
			break;
		case 'c':
			line->path = optarg;
			break;
		case 'd':
			line->is_dump = true;
			break;
		case 'V':
			printf("%s %s\n", program, PACKAGE_VERSION);
			*ret_exit = EXIT_SUCCESS;
			return false;
		case 'h':
			printf("%s", usage);
			*ret_exit = EXIT_SUCCESS;
			return false;
		default: /* getopt_long has said what is wrong */
			fprintf(stderr, "%s", usage);
			*ret_exit = EXIT_USAGE;
			return false;
		}
	}
	if (line->is_check && optind < argc)
		line->path = argv[optind++];
	if (optind == argc)
		return true;
	fprintf(stderr, "%s: '%s' is not expected here\n%s", program, argv[optind], usage);
	*ret_exit = EXIT_USAGE;
	return false;
}

bool settings_from_args(int argc, char **argv, enum settings_program program, const char *usage,
			struct settings *ret_settings, int *ret_exit)
{
	const char *name = programs[program].name;
	struct command_line line = {0};
	struct settings s;
	char *path = NULL;
	struct err e;

	if (!parse_args(argc, argv, name, usage, &line, ret_exit))
		return false;
	if (!settings_load(line.path, program, &s, &path, &e)) {
		fprintf(stderr, "%s: %s\n", name, e.text);
		*ret_exit = EXIT_FAILURE;
		return false;
	}
	if (!line.is_check && !line.is_dump) {
		free(path);
		*ret_settings = s;
		return true;
	}
	if (line.is_dump)
		settings_dump(&s, stdout);
	if (line.is_check)
		printf("%s: %s is valid\n", name, path);
	free(path);
	settings_clear(&s);
	*ret_exit = EXIT_SUCCESS;
	return false;
}
