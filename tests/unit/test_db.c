/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lib/db against a real server. A proxy between the two cuts the connection
 * around one command, so that a test knows what the server did and the
 * client does not.
 */
#include "lib/db.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/secret.h"
#include "lib/xalloc.h"
#include "tests/fake/servers.h"
#include "tests/unit/harness.h"

#define LONG_TEXT (1024 * 1024)
#define COMMAND_QUERY 0x03
#define COMMAND_EXECUTE 0x17

static struct server *server;
static const char *folder;
static struct db_options options;
static struct db *db;
static struct err err;

/* --- helpers --- */

static void exec_on(struct db *d, const char *sql)
{
	struct err e = {0};

	db_use(d, sql);
	if (!db_exec(d, &e))
		(void)fprintf(stderr, "%s: %s\n", sql, e.text);
	CU_ASSERT_EQUAL(e.code, ERR_NONE);
}

static int64_t number_on(struct db *d, const char *sql)
{
	struct err e = {0};
	int64_t n = -1;

	db_use(d, sql);
	if (db_step(d, &e) == DB_ROW)
		n = db_col_i64(d, 0);
	else
		(void)fprintf(stderr, "%s: %s\n", sql, e.text);
	db_done(d);
	return n;
}

static struct db *open_with(const struct db_options *o)
{
	struct db *d = NULL;

	if (!db_open(o, &d, &err)) {
		(void)fprintf(stderr, "cannot connect: %s\n", err.text);
		exit(EXIT_FAILURE);
	}
	return d;
}

static void pause_ms(int ms)
{
	const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	(void)nanosleep(&t, NULL);
}

/* Polls until the server has ended that session. */
static void wait_gone(int64_t connection)
{
	for (int i = 0; i < 1000; i++) {
		struct err e = {0};
		int64_t n = 1;

		db_use(db, "SELECT COUNT(*) FROM information_schema.processlist WHERE id = ?");
		db_bind_i64(db, connection);
		if (db_step(db, &e) == DB_ROW)
			n = db_col_i64(db, 0);
		db_done(db);
		if (n == 0)
			return;
		pause_ms(10);
	}
	CU_FAIL("the session did not end");
}

static void kill_session(struct db *victim)
{
	int64_t id = number_on(victim, "SELECT CONNECTION_ID()");
	struct err e = {0};

	db_use(db, "KILL ?");
	db_bind_i64(db, id);
	CU_ASSERT_TRUE(db_exec(db, &e));
	wait_gone(id);
}

/* --- the proxy --- */

enum cut { CUT_NOT, CUT_BEFORE, CUT_AFTER };

static struct {
	int listener;
	pthread_t thread;
	char path[108];
	int port; /* 0: UNIX */
	_Atomic int cut;
	_Atomic int command;
} proxy;

static bool is_cut_here(const unsigned char *data, ssize_t len)
{
	if (proxy.cut == CUT_NOT || len < 5 || data[4] != proxy.command)
		return false;
	return proxy.command != COMMAND_QUERY || (len >= 11 && memcmp(data + 5, "COMMIT", 6) == 0);
}

static int connect_server(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", server_socket(server));
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0)
		return fd;
	(void)close(fd);
	return -1;
}

/* One way of a connection. False at its end. */
static bool pump(int from, int to, bool is_request)
{
	static unsigned char data[65536];
	ssize_t len = read(from, data, sizeof(data));

	if (len <= 0)
		return false;
	if (is_request && is_cut_here(data, len)) {
		int cut = proxy.cut;

		proxy.cut = CUT_NOT;
		if (cut == CUT_BEFORE || write(to, data, (size_t)len) != len)
			return false;
		(void)!read(to, data, sizeof(data)); /* its answer: now it is done */
		return false;
	}
	return write(to, data, (size_t)len) == len;
}

static void serve(int client)
{
	struct pollfd p[2] = {{.fd = client, .events = POLLIN}, {.fd = connect_server(), .events = POLLIN}};
	bool goes_on = p[1].fd >= 0;

	while (goes_on && poll(p, 2, -1) > 0) {
		if (p[0].revents)
			goes_on = pump(p[0].fd, p[1].fd, true);
		else if (p[1].revents)
			goes_on = pump(p[1].fd, p[0].fd, false);
	}
	(void)close(p[0].fd);
	if (p[1].fd >= 0)
		(void)close(p[1].fd);
}

static void *proxy_main(void *arg)
{
	int client;

	(void)arg;
	while ((client = accept4(proxy.listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		serve(client);
	return NULL;
}

static void proxy_start(bool is_tcp)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(in);

	(void)snprintf(proxy.path, sizeof(proxy.path), "%.90s/proxy.sock", folder);
	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", proxy.path);
	(void)unlink(proxy.path);
	proxy.cut = CUT_NOT;
	proxy.listener = socket(is_tcp ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(proxy.listener, is_tcp ? (struct sockaddr *)&in : (struct sockaddr *)&un,
		 is_tcp ? sizeof(in) : sizeof(un)) != 0 ||
	    listen(proxy.listener, 8) != 0 || getsockname(proxy.listener, (struct sockaddr *)&in, &len) != 0)
		CU_FAIL_FATAL("no proxy");
	proxy.port = is_tcp ? ntohs(in.sin_port) : 0;
	(void)pthread_create(&proxy.thread, NULL, proxy_main, NULL);
}

/* After its clients are gone. */
static void proxy_stop(void)
{
	(void)shutdown(proxy.listener, SHUT_RDWR);
	(void)pthread_join(proxy.thread, NULL);
	(void)close(proxy.listener);
}

static struct db *open_through_proxy(void)
{
	struct db_options o = options;

	o.socket = proxy.path;
	return open_with(&o);
}

/* --- connecting --- */

static void a_missing_server_is_down(void)
{
	struct db_options o = options;
	struct db *d = NULL;

	o.socket = "/nonexistent/socket";
	CU_ASSERT_FALSE(db_open(&o, &d, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	CU_ASSERT_PTR_NULL(d);
	o.socket = NULL;
	o.host = "127.0.0.1";
	o.port = (unsigned)server_port_free();
	CU_ASSERT_FALSE(db_open(&o, &d, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
}

static void a_refused_login_is_denied(void)
{
	struct db_options o = options;
	struct db *d = NULL;

	exec_on(db, "CREATE USER IF NOT EXISTS someone@localhost IDENTIFIED BY 'right'");
	o.user = "someone";
	o.password = "wrong";
	CU_ASSERT_FALSE(db_open(&o, &d, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DENIED);
	o.password = "right"; /* but no grant on the database */
	CU_ASSERT_FALSE(db_open(&o, &d, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DENIED);
}

static void an_unknown_database_is_missing(void)
{
	struct db_options o = options;
	struct db *d = NULL;

	o.database = "nowhere";
	CU_ASSERT_FALSE(db_open(&o, &d, &err));
	CU_ASSERT_EQUAL(err.code, ERR_MISSING);
}

static void tls_is_not_silently_left_out(void)
{
	struct db_options o = options;
	struct db *d = NULL;

	proxy_start(true);
	o.socket = NULL;
	o.host = "127.0.0.1";
	o.port = (unsigned)proxy.port;
	CU_ASSERT_TRUE_FATAL(db_open(&o, &d, &err));
	db_close(&d);
	o.tls_ca = "/etc/ssl/certs/ca-certificates.crt";
	CU_ASSERT_FALSE(db_open(&o, &d, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	db_close(&d);
	proxy_stop();
}

static void the_session_is_set_up(void)
{
	struct db_options o = options;
	struct db *d;

	o.lock_wait_timeout_s = 3;
	o.idle_transaction_timeout_s = 4;
	o.wait_timeout_s = 5;
	d = open_with(&o);
	db_use(d, "SELECT @@time_zone, @@sql_mode, @@tx_isolation, @@character_set_connection, "
		  "@@innodb_lock_wait_timeout, @@idle_transaction_timeout, @@wait_timeout");
	CU_ASSERT_EQUAL_FATAL(db_step(d, &err), DB_ROW);
	CU_ASSERT_STRING_EQUAL(db_col_str(d, 0), "+00:00");
	CU_ASSERT_STRING_EQUAL(db_col_str(d, 1), "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION");
	CU_ASSERT_STRING_EQUAL(db_col_str(d, 2), "READ-COMMITTED");
	CU_ASSERT_STRING_EQUAL(db_col_str(d, 3), "utf8mb4");
	CU_ASSERT_EQUAL(db_col_i64(d, 4), 3);
	CU_ASSERT_EQUAL(db_col_i64(d, 5), 4);
	CU_ASSERT_STRING_EQUAL(db_col_str(d, 6), "5");
	CU_ASSERT_EQUAL(db_step(d, &err), DB_DONE);
	db_close(&d);
}

/* --- statements and values --- */

static void bind_all(const struct id *id)
{
	db_bind_id(db, id);
	db_bind_u64(db, UINT64_MAX);
	db_bind_i64(db, INT64_MIN);
	db_bind_str(db, "h\xc3\xb6rth");
	db_bind_str(db, "2026-01-02 03:04:05.678");
	db_bind_bytes(db, "\0\1\2\xff", 4);
	db_bind_strn(db, "{\"a\":1}XX", 7);
	db_bind_null(db);
	db_bind_u64(db, 1);
}

static const char SQL_BULK_INSERT[] = "INSERT INTO bulk (id, u, i, s, b, n) VALUES (?, ?, ?, ?, ?, ?)";

static void bind_bulk_row(const struct id *id, int i)
{
	db_bind_id(db, id);
	db_bind_u64(db, UINT64_MAX - (unsigned)i);
	db_bind_i64(db, -i);
	db_bind_str(db, i % 3 == 0 ? NULL : i % 3 == 1 ? "" : "h\xc3\xb6rth");
	db_bind_bytes(db, "\0\1\2\xff", (size_t)(i % 5));
	db_bind_null(db);
}

static int64_t bulk_count(const char *sql)
{
	int64_t n;

	db_use(db, sql);
	CU_ASSERT_EQUAL_FATAL(db_step(db, &err), DB_ROW);
	n = db_col_i64(db, 0);
	db_done(db);
	return n;
}

static void many_rows_go_in_one_round_trip(void)
{
	static const char bulk_update[] = "UPDATE bulk SET n = ? WHERE id = ?";
	struct id ids[100];

	exec_on(db,
		"CREATE OR REPLACE TABLE bulk (k INT AUTO_INCREMENT UNIQUE, id UUID PRIMARY KEY, u BIGINT UNSIGNED, "
		"i BIGINT, s VARCHAR(20), b VARBINARY(16), n INT) CHARSET utf8mb4");
	for (int round = 0; round < 2; round++) { /* the second time the statement was used for one row in between */
		exec_on(db, "TRUNCATE bulk");
		db_use(db, SQL_BULK_INSERT);
		for (int i = 0; i < 100; i++) {
			ids[i] = id_new();
			if (i > 0)
				db_next_row(db);
			bind_bulk_row(&ids[i], i);
		}
		CU_ASSERT_TRUE_FATAL(db_exec(db, &err));
		CU_ASSERT_EQUAL(db_affected(db), 100);
		CU_ASSERT_EQUAL(bulk_count("SELECT COUNT(*) FROM bulk WHERE u = 18446744073709551615 - (k - 1) AND "
					   "i = 1 - k AND n IS NULL AND LENGTH(b) = (k - 1) % 5 AND s <=> "
					   "ELT(1 + (k - 1) % 3, NULL, '', 'h\xc3\xb6rth')"),
				100);
		struct id other = id_new();
		db_use(db, SQL_BULK_INSERT);
		bind_bulk_row(&other, 100);
		CU_ASSERT_TRUE(db_exec(db, &err));
		CU_ASSERT_EQUAL(bulk_count("SELECT COUNT(*) FROM bulk"), 101);
	}
	db_use(db, bulk_update);
	for (int i = 0; i < 100; i++) {
		if (i > 0)
			db_next_row(db);
		db_bind_i64(db, i);
		db_bind_id(db, &ids[i]);
	}
	CU_ASSERT_TRUE(db_exec(db, &err));
	CU_ASSERT_EQUAL(db_affected(db), 100);
	CU_ASSERT_EQUAL(bulk_count("SELECT COUNT(*) FROM bulk WHERE n = k - 1"), 100);
}

static bool bulk_with_a_duplicate(struct db *d, void *closure, struct err *e)
{
	const struct id *ids = closure;

	db_use(d, SQL_BULK_INSERT);
	for (int i = 0; i < 3; i++) {
		if (i > 0)
			db_next_row(d);
		bind_bulk_row(&ids[i % 2], i);
	}
	return db_exec(d, e);
}

static void one_row_that_fails_fails_them_all(void)
{
	struct id ids[2] = {id_new(), id_new()};
	struct err e = {0};

	exec_on(db,
		"CREATE OR REPLACE TABLE bulk (k INT AUTO_INCREMENT UNIQUE, id UUID PRIMARY KEY, u BIGINT UNSIGNED, "
		"i BIGINT, s VARCHAR(20), b VARBINARY(16), n INT)");
	CU_ASSERT_FALSE(db_transaction(db, bulk_with_a_duplicate, ids, &e));
	CU_ASSERT_EQUAL(e.code, ERR_CONFLICT);
	CU_ASSERT_EQUAL(bulk_count("SELECT COUNT(*) FROM bulk"), 0);
	db_use(db, SQL_BULK_INSERT);
	bind_bulk_row(&ids[0], 0);
	db_next_row(db);
	CU_ASSERT_FALSE(db_exec(db, &e)); /* the second row's parameters are missing */
	CU_ASSERT_EQUAL(e.code, ERR_INTERNAL);
}

static void values_come_back_as_they_were(void)
{
	struct id id = id_new(), none = {""}, back;
	size_t len = 0;

	exec_on(db, "CREATE OR REPLACE TABLE vals (id UUID PRIMARY KEY, u BIGINT UNSIGNED, i BIGINT, s VARCHAR(20), "
		    "t DATETIME(3), b VARBINARY(16), j JSON, n INT, flag BOOLEAN, other UUID)");
	db_use(db, "INSERT INTO vals VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
	bind_all(&id);
	db_bind_id(db, &none);
	CU_ASSERT_TRUE_FATAL(db_exec(db, &err));
	CU_ASSERT_EQUAL(db_affected(db), 1);
	db_use(db, "SELECT id, u, i, s, t, b, j, n, flag, SUM(flag), other, 1.5, 1 - 2 FROM vals WHERE id = ?");
	db_bind_id(db, &id);
	CU_ASSERT_EQUAL_FATAL(db_step(db, &err), DB_ROW);
	back = db_col_id(db, 0);
	CU_ASSERT_TRUE(id_equal(&back, &id));
	CU_ASSERT_EQUAL(db_col_u64(db, 1), UINT64_MAX);
	CU_ASSERT_STRING_EQUAL(db_col_str(db, 1), "18446744073709551615");
	CU_ASSERT_EQUAL(db_col_i64(db, 2), INT64_MIN);
	CU_ASSERT_STRING_EQUAL(db_col_str(db, 2), "-9223372036854775808");
	CU_ASSERT_STRING_EQUAL(db_col_str(db, 3), "h\xc3\xb6rth");
	CU_ASSERT_STRING_EQUAL(db_col_str(db, 4), "2026-01-02 03:04:05.678");
	CU_ASSERT_EQUAL(memcmp(db_col_bytes(db, 5, &len), "\0\1\2\xff", 4), 0);
	CU_ASSERT_EQUAL(len, 4);
	CU_ASSERT_STRING_EQUAL(db_col_str(db, 6), "{\"a\":1}");
	CU_ASSERT_TRUE(db_col_is_null(db, 7));
	CU_ASSERT_PTR_NULL(db_col_str(db, 7));
	CU_ASSERT_EQUAL(db_col_i64(db, 7), 0);
	CU_ASSERT_EQUAL(db_col_i64(db, 8), 1);
	CU_ASSERT_EQUAL(db_col_i64(db, 9), 1); /* a DECIMAL */
	CU_ASSERT_TRUE(db_col_is_null(db, 10));
	CU_ASSERT_FALSE(db_col_id(db, 10).text[0]);
	CU_ASSERT_STRING_EQUAL(db_col_str(db, 11), "1.5");
	CU_ASSERT_EQUAL(db_col_i64(db, 12), -1);
	CU_ASSERT_EQUAL(db_step(db, &err), DB_DONE);
	CU_ASSERT_EQUAL(db_step(db, &err), DB_DONE);
}

static void long_texts_come_back_whole(void)
{
	char *text = xmalloc(LONG_TEXT + 1);
	const char *back;
	size_t len;

	memset(text, 'x', LONG_TEXT);
	text[LONG_TEXT] = '\0';
	text[LONG_TEXT - 1] = 'z';
	exec_on(db, "CREATE OR REPLACE TABLE texts (k INT PRIMARY KEY, a LONGTEXT, b VARCHAR(200))");
	for (int k = 0; k < 4; k++) {
		db_use(db, "INSERT INTO texts VALUES (?, ?, ?)");
		db_bind_i64(db, k);
		db_bind_strn(db, text, k % 2 ? LONG_TEXT : (size_t)k);
		db_bind_strn(db, text, k == 2 ? 200 : 64);
		CU_ASSERT_TRUE(db_exec(db, &err));
	}
	for (int round = 0; round < 2; round++) {
		db_use(db, "SELECT a, b FROM texts ORDER BY k");
		for (int k = 0; k < 4; k++) {
			CU_ASSERT_EQUAL_FATAL(db_step(db, &err), DB_ROW);
			back = db_col_bytes(db, 0, &len);
			CU_ASSERT_EQUAL(len, k % 2 ? LONG_TEXT : (size_t)k);
			CU_ASSERT_EQUAL(memcmp(back, text, len), 0);
			CU_ASSERT_EQUAL(back[len], '\0');
			CU_ASSERT_EQUAL(strlen(db_col_str(db, 1)), k == 2 ? 200 : 64);
		}
		CU_ASSERT_EQUAL(db_step(db, &err), DB_DONE);
	}
	free(text);
}

static void statements_are_prepared_once(void)
{
	static const char sql[] = "SELECT ? + 1";
	int64_t before;

	(void)number_on(db, "SELECT variable_value FROM information_schema.session_status "
			    "WHERE variable_name = 'COM_STMT_PREPARE'");
	before = number_on(db, "SELECT variable_value FROM information_schema.session_status "
			       "WHERE variable_name = 'COM_STMT_PREPARE'");
	for (int i = 0; i < 10; i++) {
		db_use(db, sql);
		db_bind_i64(db, i);
		CU_ASSERT_EQUAL_FATAL(db_step(db, &err), DB_ROW);
		CU_ASSERT_EQUAL(db_col_i64(db, 0), i + 1);
		db_done(db);
		CU_ASSERT_EQUAL(db_col_i64(db, 0), i + 1); /* columns live on until the next use */
	}
	CU_ASSERT(number_on(db, "SELECT variable_value FROM information_schema.session_status "
				"WHERE variable_name = 'COM_STMT_PREPARE'") <= before + 2);
}

static void found_rows_are_counted(void)
{
	exec_on(db, "CREATE OR REPLACE TABLE things (k INT PRIMARY KEY, v INT, UNIQUE (v))");
	exec_on(db, "INSERT INTO things VALUES (1, 1), (2, 2)");
	CU_ASSERT_EQUAL(db_affected(db), 2);
	exec_on(db, "UPDATE things SET v = 1 WHERE k = 1");
	CU_ASSERT_EQUAL(db_affected(db), 1);
	exec_on(db, "UPDATE things SET v = 1 WHERE k = 77");
	CU_ASSERT_EQUAL(db_affected(db), 0);
}

static void a_result_can_be_left_early(void)
{
	db_use(db, "SELECT k FROM things");
	CU_ASSERT_EQUAL(db_step(db, &err), DB_ROW);
	CU_ASSERT_EQUAL(number_on(db, "SELECT COUNT(*) FROM things"), 2);
	db_use(db, "SELECT k FROM things");
	CU_ASSERT_EQUAL(db_step(db, &err), DB_ROW);
	CU_ASSERT_EQUAL(db_step(db, &err), DB_ROW);
	CU_ASSERT_EQUAL(db_step(db, &err), DB_DONE);
}

static void mistakes_are_reported_by_the_step(void)
{
	db_use(db, "SELECT nonsense FROM nowhere");
	CU_ASSERT_EQUAL(db_step(db, &err), DB_FAIL);
	CU_ASSERT_EQUAL(err.code, ERR_INTERNAL);
	CU_ASSERT_EQUAL(db_step(db, &err), DB_FAIL);
	db_use(db, "SELECT ? + ?");
	db_bind_i64(db, 1);
	CU_ASSERT_EQUAL(db_step(db, &err), DB_FAIL);
	CU_ASSERT_EQUAL(err.code, ERR_INTERNAL);
	CU_ASSERT_EQUAL(number_on(db, "SELECT 5"), 5);
}

static void a_duplicate_is_a_conflict(void)
{
	db_use(db, "INSERT INTO things VALUES (3, 2)");
	CU_ASSERT_FALSE(db_exec(db, &err));
	CU_ASSERT_EQUAL(err.code, ERR_CONFLICT);
}

static void a_statement_that_takes_too_long_is_a_timeout(void)
{
	struct db *d = open_with(&options);

	exec_on(d, "SET SESSION max_statement_time = 2"); /* the short one is within it on any machine */
	db_use(d, "SELECT COUNT(*) FROM information_schema.collations a, information_schema.collations b, "
		  "information_schema.collations c, information_schema.collations d");
	CU_ASSERT_EQUAL(db_step(d, &err), DB_FAIL);
	CU_ASSERT_EQUAL(err.code, ERR_TIMEOUT);
	CU_ASSERT_EQUAL(number_on(d, "SELECT 5"), 5);
	db_close(&d);
}

static void a_table_may_change_under_a_prepared_statement(void)
{
	static const char sql[] = "SELECT * FROM changing";

	exec_on(db, "CREATE OR REPLACE TABLE changing (a INT)");
	exec_on(db, "INSERT INTO changing VALUES (1)");
	CU_ASSERT_EQUAL(number_on(db, sql), 1);
	exec_on(db, "ALTER TABLE changing ADD COLUMN b VARCHAR(10) DEFAULT 'new'");
	db_use(db, sql);
	(void)!db_step(db, &err); /* may fail once */
	db_use(db, sql);
	CU_ASSERT_EQUAL_FATAL(db_step(db, &err), DB_ROW);
	CU_ASSERT_STRING_EQUAL(db_col_str(db, 1), "new");
	db_done(db);
}

/* --- transactions --- */

struct steps {
	struct db *other;
	int runs;
	bool is_ok;
	const char *sql;
};

static bool body_exec(struct db *d, void *closure, struct err *e)
{
	struct steps *steps = closure;

	steps->runs++;
	db_use(d, steps->sql);
	if (!db_exec(d, e))
		return false;
	return steps->is_ok || err_set(e, ERR_MISSING, "changed my mind");
}

static void a_body_that_fails_is_rolled_back(void)
{
	struct steps steps = {.sql = "INSERT INTO things VALUES (10, 10)", .is_ok = false};

	CU_ASSERT_FALSE(db_transaction(db, body_exec, &steps, &err));
	CU_ASSERT_EQUAL(err.code, ERR_MISSING);
	CU_ASSERT_EQUAL(steps.runs, 1);
	CU_ASSERT_FALSE(db_in_transaction(db));
	CU_ASSERT_EQUAL(number_on(db, "SELECT COUNT(*) FROM things WHERE k = 10"), 0);
	steps.is_ok = true;
	CU_ASSERT_TRUE(db_transaction(db, body_exec, &steps, &err));
	CU_ASSERT_EQUAL(number_on(db, "SELECT COUNT(*) FROM things WHERE k = 10"), 1);
}

/* The other session's lock is released from within the second attempt. */
static bool body_wait_for_lock(struct db *d, void *closure, struct err *e)
{
	struct steps *steps = closure;

	if (++steps->runs == 2)
		exec_on(steps->other, "COMMIT");
	db_use(d, "UPDATE things SET v = 20 WHERE k = 10");
	return db_exec(d, e);
}

static void a_lock_wait_that_times_out_is_tried_again(void)
{
	struct db_options o = options;
	struct steps steps = {.other = open_with(&options)};
	struct db *d;

	o.lock_wait_timeout_s = 1;
	d = open_with(&o);
	exec_on(steps.other, "START TRANSACTION");
	exec_on(steps.other, "UPDATE things SET v = 19 WHERE k = 10");
	db_use(d, "UPDATE things SET v = 20 WHERE k = 10");
	CU_ASSERT_FALSE(db_exec(d, &err));
	CU_ASSERT_EQUAL(err.code, ERR_BUSY);
	CU_ASSERT_TRUE(db_transaction(d, body_wait_for_lock, &steps, &err));
	CU_ASSERT_EQUAL(steps.runs, 2);
	CU_ASSERT_EQUAL(number_on(db, "SELECT v FROM things WHERE k = 10"), 20);
	db_close(&d);
	db_close(&steps.other);
}

struct crossing {
	pthread_barrier_t *barrier;
	int first, second, runs;
	bool ok;
};

static bool body_cross(struct db *d, void *closure, struct err *e)
{
	struct crossing *c = closure;

	db_use(d, "UPDATE counters SET n = n + 1 WHERE k = ?");
	db_bind_i64(d, c->first);
	if (!db_exec(d, e))
		return false;
	if (c->runs++ == 0)
		(void)pthread_barrier_wait(c->barrier);
	db_use(d, "UPDATE counters SET n = n + 1 WHERE k = ?");
	db_bind_i64(d, c->second);
	return db_exec(d, e);
}

static void *cross_main(void *closure)
{
	struct crossing *c = closure;
	struct db *d = open_with(&options);
	struct err e = {0};

	c->ok = db_transaction(d, body_cross, c, &e);
	db_close(&d);
	return NULL;
}

static void a_deadlock_is_tried_again(void)
{
	pthread_barrier_t barrier;
	pthread_t thread[2];
	struct crossing c[2] = {{.barrier = &barrier, .first = 1, .second = 2},
				{.barrier = &barrier, .first = 2, .second = 1}};

	exec_on(db, "CREATE OR REPLACE TABLE counters (k INT PRIMARY KEY, n INT)");
	exec_on(db, "INSERT INTO counters VALUES (1, 0), (2, 0)");
	(void)pthread_barrier_init(&barrier, NULL, 2);
	for (int i = 0; i < 2; i++)
		(void)pthread_create(&thread[i], NULL, cross_main, &c[i]);
	for (int i = 0; i < 2; i++)
		(void)pthread_join(thread[i], NULL);
	(void)pthread_barrier_destroy(&barrier);
	CU_ASSERT_TRUE(c[0].ok && c[1].ok);
	CU_ASSERT_EQUAL(c[0].runs + c[1].runs, 3);
	CU_ASSERT_EQUAL(number_on(db, "SELECT SUM(n) FROM counters"), 4);
}

static bool body_killed(struct db *d, void *closure, struct err *e)
{
	struct steps *steps = closure;

	steps->runs++;
	db_use(d, "INSERT INTO things VALUES (30, 30)");
	if (!db_exec(d, e))
		return false;
	kill_session(d);
	if (!steps->sql)
		return true;
	db_use(d, steps->sql);
	return db_exec(d, e);
}

static void a_connection_lost_within_a_transaction_is_down(void)
{
	struct steps steps = {.sql = "SELECT 1"};
	struct db *d = open_with(&options);

	CU_ASSERT_FALSE(db_transaction(d, body_killed, &steps, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	CU_ASSERT_EQUAL(steps.runs, 1);
	CU_ASSERT_EQUAL(number_on(d, "SELECT COUNT(*) FROM things WHERE k = 30"), 0);
	steps.sql = NULL; /* found out by COMMIT only */
	CU_ASSERT_FALSE(db_transaction(d, body_killed, &steps, &err));
	CU_ASSERT_EQUAL(err.code, ERR_UNCERTAIN);
	CU_ASSERT_EQUAL(number_on(d, "SELECT COUNT(*) FROM things WHERE k = 30"), 0);
	db_close(&d);
}

static void the_outcome_of_a_lost_commit_is_uncertain(void)
{
	static const struct {
		int line;
		enum cut cut;
		int rows;
	} rows[] = {{__LINE__, CUT_BEFORE, 0}, {__LINE__, CUT_AFTER, 1}};
	struct db *d;

	proxy_start(false);
	d = open_through_proxy();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct steps steps = {.sql = "INSERT INTO things VALUES (40, 40)", .is_ok = true};

		proxy.command = COMMAND_QUERY;
		proxy.cut = (int)rows[i].cut;
		CU_ASSERT_FALSE(db_transaction(d, body_exec, &steps, &err));
		CU_ASSERT_EQUAL(err.code, ERR_UNCERTAIN);
		CU_ASSERT_EQUAL(steps.runs, 1);
		CU_ASSERT_EQUAL(number_on(d, "SELECT COUNT(*) FROM things WHERE k = 40"), rows[i].rows);
	}
	db_close(&d);
	proxy_stop();
}

static void the_outcome_of_a_lost_single_write_is_uncertain(void)
{
	static const struct {
		int line;
		const char *sql;
		enum cut cut;
		enum err_code code;
		int rows;
	} rows[] = {
		{__LINE__, "INSERT INTO things VALUES (50, 50)", CUT_BEFORE, ERR_UNCERTAIN, 0},
		{__LINE__, "INSERT INTO things VALUES (50, 50)", CUT_AFTER, ERR_UNCERTAIN, 1},
		{__LINE__, "SELECT v FROM things", CUT_AFTER, ERR_DOWN, 1},
	};
	struct db *d;

	proxy_start(false);
	d = open_through_proxy();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		(void)number_on(d, "SELECT 1");
		proxy.command = COMMAND_EXECUTE;
		proxy.cut = (int)rows[i].cut;
		db_use(d, rows[i].sql);
		CU_ASSERT_EQUAL(db_step(d, &err), DB_FAIL);
		CU_ASSERT_EQUAL(err.code, rows[i].code);
		CU_ASSERT_EQUAL(number_on(d, "SELECT COUNT(*) FROM things WHERE k = 50"), rows[i].rows);
	}
	db_close(&d);
	proxy_stop();
}

/* --- lost connections --- */

static void a_killed_session_is_opened_again(void)
{
	struct db *d = open_with(&options);
	int64_t id = number_on(d, "SELECT CONNECTION_ID()");

	kill_session(d);
	CU_ASSERT_NOT_EQUAL(number_on(d, "SELECT CONNECTION_ID()"), id);
	kill_session(d);
	CU_ASSERT_TRUE(db_ensure(d, &err));
	db_close(&d);
}

static void a_session_ended_for_idleness_is_opened_again(void)
{
	struct db_options o = options;
	struct db *d;
	int64_t id;

	o.wait_timeout_s = 1;
	d = open_with(&o);
	id = number_on(d, "SELECT CONNECTION_ID()");
	wait_gone(id);
	exec_on(d, "UPDATE things SET v = 1 WHERE k = 1");
	CU_ASSERT_NOT_EQUAL(number_on(d, "SELECT CONNECTION_ID()"), id);
	db_close(&d);
}

static void a_restarted_server_is_found_again(void)
{
	server_kill(server);
	db_use(db, "SELECT 1");
	CU_ASSERT_EQUAL(db_step(db, &err), DB_FAIL);
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	CU_ASSERT_FALSE(db_ensure(db, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	server_restart(server);
	CU_ASSERT_EQUAL(number_on(db, "SELECT 1"), 1);
}

/* --- scripts and locks --- */

static void scripts_run_statement_by_statement(void)
{
	static const struct {
		int line;
		const char *sql, *text; /* part of the error, NULL: none */
	} rows[] = {
		{__LINE__, "CREATE OR REPLACE TABLE s1 (a INT); INSERT INTO s1 VALUES (1),(2); SELECT * FROM s1", NULL},
		{__LINE__, "INSERT INTO s1 VALUES (3);\n\n-- the end; really\n", NULL},
		{__LINE__, "INSERT INTO s1 VALUES (4); INSERT INTO nowhere VALUES (1); DROP TABLE s1", "statement 2"},
		{__LINE__, "INSERT INTO s1 VALUES (5); INSERT INTO s1 VALUES (6", "statement 2"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		err_clear(&err);
		bool ok = db_run_script(db, rows[i].sql, strlen(rows[i].sql), &err);

		CU_ASSERT_EQUAL(ok, rows[i].text == NULL);
		if (rows[i].text && !strstr(err.text, rows[i].text))
			(void)fprintf(stderr, "line %d: %s\n", rows[i].line, err.text);
		CU_ASSERT(!rows[i].text || strstr(err.text, rows[i].text));
	}
	CU_ASSERT_EQUAL(number_on(db, "SELECT COUNT(*) FROM s1"), 5);
	db_use(db, "SELECT 1; SELECT 2"); /* elsewhere one statement is one statement */
	CU_ASSERT_EQUAL(db_step(db, &err), DB_FAIL);
}

static void an_advisory_lock_is_held_by_one(void)
{
	struct db *d = open_with(&options);

	CU_ASSERT_EQUAL(db_lock(d, "hearth-test", 0, &err), DB_ROW);
	CU_ASSERT_EQUAL(db_lock(db, "hearth-test", 0, &err), DB_DONE);
	db_unlock(d, "hearth-test");
	CU_ASSERT_EQUAL(db_lock(db, "hearth-test", 0, &err), DB_ROW);
	db_unlock(db, "hearth-test");
	CU_ASSERT_EQUAL(db_lock(d, "hearth-test", 0, &err), DB_ROW);
	kill_session(d);
	db_use(d, "SELECT 1"); /* not as if nothing had happened */
	CU_ASSERT_EQUAL(db_step(d, &err), DB_FAIL);
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	CU_ASSERT_EQUAL(number_on(d, "SELECT 1"), 1);
	CU_ASSERT_EQUAL(db_lock(db, "hearth-test", 0, &err), DB_ROW);
	db_unlock(db, "hearth-test");
	db_close(&d);
}

/* --- pool --- */

static void a_pool_lends_what_it_has(void)
{
	struct db_pool *pool = db_pool_new(&options, 2);
	struct db *a = NULL, *b = NULL, *c = NULL, *first;

	CU_ASSERT_EQUAL(db_pool_stats(pool).open, 0);
	CU_ASSERT_TRUE_FATAL(db_take(pool, 0, 0, &a, &err));
	CU_ASSERT_TRUE_FATAL(db_take(pool, 0, 0, &b, &err));
	CU_ASSERT_FALSE(db_take(pool, 0, 20, &c, &err));
	CU_ASSERT_EQUAL(err.code, ERR_BUSY);
	CU_ASSERT_EQUAL(db_pool_stats(pool).lent, 2);
	CU_ASSERT_EQUAL(db_pool_stats(pool).waits, 1);
	first = a;
	db_give(pool, &b);
	db_give(pool, &a);
	CU_ASSERT_PTR_NULL(a);
	CU_ASSERT_TRUE_FATAL(db_take(pool, 0, 0, &c, &err));
	CU_ASSERT_PTR_EQUAL(c, first); /* last in, first out */
	db_give(pool, &c);
	CU_ASSERT_EQUAL(db_pool_stats(pool).open, 2);
	db_pool_free(&pool);
	CU_ASSERT_PTR_NULL(pool);
}

static void a_share_of_the_pool_is_kept_free(void)
{
	struct db_pool *pool = db_pool_new(&options, 3);
	struct db *a = NULL, *b = NULL, *c = NULL;

	CU_ASSERT_TRUE_FATAL(db_take(pool, 1, 0, &a, &err));
	CU_ASSERT_FALSE(db_take(pool, 1, 0, &b, &err));
	CU_ASSERT_EQUAL(err.code, ERR_BUSY);
	CU_ASSERT_TRUE(db_take(pool, 2, 0, &b, &err));
	CU_ASSERT_TRUE(db_take(pool, 0, 0, &c, &err));
	db_give(pool, &a);
	CU_ASSERT_TRUE(db_take(pool, 1, 0, &a, &err));
	db_give(pool, &a);
	db_give(pool, &b);
	db_give(pool, &c);
	db_pool_free(&pool);
}

static void what_is_given_back_is_clean(void)
{
	struct db_pool *pool = db_pool_new(&options, 1);
	struct db *d = NULL;

	CU_ASSERT_TRUE_FATAL(db_take(pool, 0, 0, &d, &err));
	db_use(d, "SELECT k FROM things");
	CU_ASSERT_EQUAL(db_step(d, &err), DB_ROW);
	db_give(pool, &d);
	CU_ASSERT_TRUE_FATAL(db_take(pool, 0, 0, &d, &err));
	CU_ASSERT_EQUAL(number_on(d, "SELECT @@in_transaction"), 0);
	kill_session(d);
	db_give(pool, &d);
	CU_ASSERT_TRUE_FATAL(db_take(pool, 0, 0, &d, &err));
	CU_ASSERT_EQUAL(number_on(d, "SELECT 1"), 1);
	db_give(pool, &d);
	db_pool_free(&pool);
}

static void a_server_known_to_be_down_is_answered_at_once(void)
{
	struct db_options o = options;
	struct db_pool *pool;
	struct db *d = NULL;

	o.socket = "/nonexistent/socket";
	pool = db_pool_new(&o, 2);
	clock_set_for_test(1000, 0);
	CU_ASSERT_FALSE(db_take(pool, 0, 5000, &d, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	CU_ASSERT_TRUE(db_pool_stats(pool).is_down);
	clock_set_for_test(1999, 0);
	err_clear(&err);
	CU_ASSERT_FALSE(db_take(pool, 0, 5000, &d, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	clock_set_for_test(-1, 0);
	CU_ASSERT_EQUAL(db_pool_stats(pool).lent, 0);
	db_pool_free(&pool);
}

static void a_pool_survives_a_restart_of_the_server(void)
{
	struct db_pool *pool = db_pool_new(&options, 2);
	struct db *a = NULL, *b = NULL;
	bool ok = false;

	CU_ASSERT_TRUE_FATAL(db_take(pool, 0, 0, &a, &err));
	CU_ASSERT_TRUE_FATAL(db_take(pool, 0, 0, &b, &err));
	db_give(pool, &a);
	server_kill(server);
	CU_ASSERT_FALSE(db_take(pool, 0, 0, &a, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	CU_ASSERT_TRUE(db_pool_stats(pool).is_down);
	server_restart(server);
	for (int i = 0; i < 300 && !ok; i++) {
		ok = db_take(pool, 0, 0, &a, &err);
		if (!ok)
			pause_ms(10);
	}
	CU_ASSERT_TRUE_FATAL(ok);
	CU_ASSERT_FALSE(db_pool_stats(pool).is_down);
	CU_ASSERT_EQUAL(number_on(a, "SELECT 1"), 1);
	db_give(pool, &a);
	db_give(pool, &b);
	CU_ASSERT_TRUE(db_ensure(db, &err));
	db_pool_free(&pool);
}

static void a_full_server_does_not_take_down_the_pool(void)
{
	struct db_options o = options;
	struct db_pool *pool;
	struct db *a = NULL, *b = NULL;

	exec_on(db, "CREATE OR REPLACE USER few@localhost WITH MAX_USER_CONNECTIONS 1");
	exec_on(db, "GRANT ALL ON test.* TO few@localhost");
	o.user = "few";
	pool = db_pool_new(&o, 2);
	CU_ASSERT_TRUE_FATAL(db_take(pool, 0, 0, &a, &err));
	CU_ASSERT_FALSE(db_take(pool, 0, 0, &b, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	CU_ASSERT_FALSE(db_pool_stats(pool).is_down);
	db_give(pool, &a);
	CU_ASSERT_TRUE(db_take(pool, 0, 0, &a, &err));
	db_give(pool, &a);
	db_pool_free(&pool);
}

struct crowd {
	struct db_pool *pool;
	unsigned share_max;
	_Atomic int *done;
};

static void *crowd_main(void *closure)
{
	struct crowd *c = closure;

	for (int i = 0; i < 200; i++) {
		struct err e = {0};
		struct db *d = NULL;

		if (!db_take(c->pool, c->share_max, 20000, &d, &e))
			continue;
		db_use(d, "UPDATE counters SET n = n + 1 WHERE k = 1");
		if (db_exec(d, &e))
			(*c->done)++;
		db_give(c->pool, &d);
	}
	return NULL;
}

static void a_crowd_shares_a_small_pool(void)
{
	struct db_pool *pool = db_pool_new(&options, 3);
	_Atomic int done = 0;
	struct crowd c[2] = {{pool, 0, &done}, {pool, 1, &done}};
	pthread_t thread[12];

	exec_on(db, "UPDATE counters SET n = 0");
	for (int i = 0; i < 12; i++)
		(void)pthread_create(&thread[i], NULL, crowd_main, &c[i % 2]);
	for (int i = 0; i < 12; i++)
		(void)pthread_join(thread[i], NULL);
	CU_ASSERT_EQUAL(done, 12 * 200);
	CU_ASSERT_EQUAL(number_on(db, "SELECT n FROM counters WHERE k = 1"), 12 * 200);
	CU_ASSERT_EQUAL(db_pool_stats(pool).lent, 0);
	db_pool_free(&pool);
}

/* --- suite --- */

static int suite_start(void)
{
	struct db_options o = {.user = "root", .connect_timeout_s = 5, .io_timeout_s = 20};

	folder = server_dir_make();
	server = server_mariadb_start(folder);
	o.socket = server_socket(server);
	options = o;
	if (!secret_init(&err) || !db_library_init(&err) || !db_open(&options, &db, &err))
		return 1;
	db_use(db, "CREATE DATABASE test");
	if (!db_exec(db, &err))
		return 1;
	db_close(&db);
	options.database = "test";
	return db_open(&options, &db, &err) ? 0 : 1;
}

static int suite_end(void)
{
	db_close(&db);
	db_library_end();
	server_stop(&server);
	return 0;
}

static CU_TestInfo cases[] = {
	{"a missing server is down", a_missing_server_is_down},
	{"a refused login is denied", a_refused_login_is_denied},
	{"an unknown database is missing", an_unknown_database_is_missing},
	{"TLS is not silently left out", tls_is_not_silently_left_out},
	{"the session is set up", the_session_is_set_up},
	{"values come back as they were", values_come_back_as_they_were},
	{"many rows go in one round trip", many_rows_go_in_one_round_trip},
	{"one row that fails fails them all", one_row_that_fails_fails_them_all},
	{"long texts come back whole", long_texts_come_back_whole},
	{"statements are prepared once", statements_are_prepared_once},
	{"found rows are counted", found_rows_are_counted},
	{"a result can be left early", a_result_can_be_left_early},
	{"mistakes are reported by the step", mistakes_are_reported_by_the_step},
	{"a duplicate is a conflict", a_duplicate_is_a_conflict},
	{"a statement that takes too long is a timeout", a_statement_that_takes_too_long_is_a_timeout},
	{"a table may change under a prepared statement", a_table_may_change_under_a_prepared_statement},
	{"a body that fails is rolled back", a_body_that_fails_is_rolled_back},
	{"a lock wait that times out is tried again", a_lock_wait_that_times_out_is_tried_again},
	{"a deadlock is tried again", a_deadlock_is_tried_again},
	{"a connection lost within a transaction is down", a_connection_lost_within_a_transaction_is_down},
	{"the outcome of a lost commit is uncertain", the_outcome_of_a_lost_commit_is_uncertain},
	{"the outcome of a lost single write is uncertain", the_outcome_of_a_lost_single_write_is_uncertain},
	{"a killed session is opened again", a_killed_session_is_opened_again},
	{"a session ended for idleness is opened again", a_session_ended_for_idleness_is_opened_again},
	{"a restarted server is found again", a_restarted_server_is_found_again},
	{"scripts run statement by statement", scripts_run_statement_by_statement},
	{"an advisory lock is held by one", an_advisory_lock_is_held_by_one},
	{"a pool lends what it has", a_pool_lends_what_it_has},
	{"a share of the pool is kept free", a_share_of_the_pool_is_kept_free},
	{"what is given back is clean", what_is_given_back_is_clean},
	{"a server known to be down is answered at once", a_server_known_to_be_down_is_answered_at_once},
	{"a pool survives a restart of the server", a_pool_survives_a_restart_of_the_server},
	{"a full server does not take down the pool", a_full_server_does_not_take_down_the_pool},
	{"a crowd shares a small pool", a_crowd_shares_a_small_pool},
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"db", suite_start, suite_end, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
