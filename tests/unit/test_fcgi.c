/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fcgi.c and the anteroom against a client that misbehaves. The application is one thread that answers every request
 * with the length of its body: one thread that is held up would be seen at once.
 */
#include "fcgi-app/fcgi.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fcgi-app/fcgi_head.h"
#include "lib/clock.h"
#include "lib/macros.h"
#include "tests/fake/fcgi_client.h"
#include "tests/unit/harness.h"

#define WAIT_MS 20000 /* only a failure waits so long */
#define SILENT_COUNT 200

static char folder[] = "/tmp/test_fcgi.XXXXXX";
static char path[sizeof(folder) + 16];
static struct fcgi *fcgi;
static pthread_t thread;

/* --- the application --- */

static void serve_one(struct fcgi_conn *conn)
{
	char body[4096], answer[64];
	size_t len = 0, got;

	do { /* a GET has no body that anybody would read */
		got = strcmp(fcgi_param(conn, "REQUEST_METHOD"), "GET") == 0 ? 0 : fcgi_read(conn, body, sizeof(body));
		len += got;
	} while (got == sizeof(body));
	int n = snprintf(answer, sizeof(answer), "Status: 200 OK\r\n\r\n%zu", len);
	(void)fcgi_write(conn, answer, (size_t)n);
	fcgi_finish(conn);
}

static void *serve(void *closure)
{
	struct fcgi_conn *conn = NULL;
	enum accept_next next;
	struct err e;

	(void)closure;
	if (!fcgi_conn_new(fcgi, &conn, &e))
		return NULL;
	while ((next = fcgi_accept(conn, &e)) != ACCEPT_STOPPED)
		if (next == ACCEPT_REQUEST)
			serve_one(conn);
	fcgi_conn_free(&conn);
	return NULL;
}

static void start(int io_timeout_s)
{
	const struct fcgi_options options = {
		.socket = path, .mode = 0600, .backlog = 512, .io_timeout_s = io_timeout_s, .threads = 1};
	struct err e;

	CU_ASSERT_TRUE_FATAL(fcgi_open(&options, &fcgi, &e));
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, serve, NULL), 0);
}

static void stop(void)
{
	fcgi_stop(fcgi);
	(void)pthread_join(thread, NULL);
	fcgi_close(&fcgi);
}

/* --- the client --- */

static void open_client(struct fcgi_client *c)
{
	CU_ASSERT_TRUE_FATAL(fcgi_client_open(c, path));
}

/* A request as it should be, up to its parameters. */
static void begin(struct fcgi_client *c, const char *method, const char *content_length)
{
	open_client(c);
	CU_ASSERT_TRUE(fcgi_client_begin(c));
	fcgi_client_param(c, "REQUEST_METHOD", method);
	if (content_length)
		fcgi_client_param(c, "CONTENT_LENGTH", content_length);
}

static bool is_answer(struct fcgi_client *c, const char *expected)
{
	bool ok = fcgi_client_read(c, WAIT_MS) == FCGI_ANSWERED && strstr(buf_str(&c->answer), "\r\n\r\n") &&
		  strcmp(strstr(buf_str(&c->answer), "\r\n\r\n") + 4, expected) == 0;

	fcgi_client_close(c);
	return ok;
}

static bool is_closed(struct fcgi_client *c)
{
	bool ok = fcgi_client_read(c, WAIT_MS) == FCGI_CLOSED;

	fcgi_client_close(c);
	return ok;
}

/* The application's only thread is free. */
static bool is_served(void)
{
	struct fcgi_client c;

	begin(&c, "GET", NULL);
	(void)(fcgi_client_params(&c) && fcgi_client_input(&c, "", 0));
	return is_answer(&c, "0");
}

/* --- requests as they should be --- */

static void a_request_is_answered(void)
{
	struct fcgi_client c;

	start(10);
	CU_ASSERT_TRUE(is_served());
	begin(&c, "POST", "5");
	CU_ASSERT_TRUE(fcgi_client_params(&c) && fcgi_client_input(&c, "hello", 5));
	CU_ASSERT_TRUE(is_answer(&c, "5"));
	stop();
}

static void a_request_in_single_bytes_is_answered(void)
{
	struct fcgi_client c;

	start(10);
	open_client(&c);
	c.drip_ms = 0;
	CU_ASSERT_TRUE(fcgi_client_begin(&c));
	fcgi_client_param(&c, "REQUEST_METHOD", "GET");
	CU_ASSERT_TRUE(fcgi_client_params(&c) && fcgi_client_input(&c, "", 0));
	CU_ASSERT_TRUE(is_answer(&c, "0"));
	stop();
}

static void a_body_longer_than_the_socket_takes_is_read(void)
{
	static char body[1000000];
	struct fcgi_client c;

	start(10);
	begin(&c, "POST", "1000000");
	CU_ASSERT_TRUE(fcgi_client_params(&c) && fcgi_client_input(&c, body, sizeof(body)));
	CU_ASSERT_TRUE(is_answer(&c, "1000000"));
	stop();
}

static void a_body_without_a_length_is_read_to_its_end(void)
{
	struct fcgi_client c;

	start(10);
	begin(&c, "POST", NULL);
	CU_ASSERT_TRUE(fcgi_client_params(&c) && fcgi_client_send(&c, FCGI_TYPE_STDIN, "abc", 3));
	CU_ASSERT_TRUE(is_served()); /* the end is still to come */
	CU_ASSERT_TRUE(fcgi_client_input(&c, "de", 2));
	CU_ASSERT_TRUE(is_answer(&c, "5"));
	stop();
}

/* --- peers that are slow --- */

static void silent_peers_hold_no_thread(void)
{
	struct fcgi_client silent[SILENT_COUNT];

	start(60);
	for (size_t i = 0; i < SILENT_COUNT; i++)
		open_client(&silent[i]);
	CU_ASSERT_TRUE(is_served());
	for (size_t i = 0; i < SILENT_COUNT; i++)
		fcgi_client_close(&silent[i]);
	CU_ASSERT_TRUE(is_served());
	stop();
}

static void a_request_that_stops_anywhere_holds_no_thread_and_is_given_up(void)
{
	struct fcgi_client cut[6];

	start(1);
	clock_set_for_test(1000, 0); /* all of them in one moment, however slow this machine is */
	begin(&cut[0], "GET", NULL);
	begin(&cut[1], "GET", NULL);
	CU_ASSERT_TRUE(fcgi_client_raw(&cut[1], "\1\4\0\1", 4));
	begin(&cut[2], "GET", NULL);
	CU_ASSERT_TRUE(fcgi_client_record(&cut[2], &(struct fcgi_record){1, 4, 1, 100, 0}, "\3", 1));
	begin(&cut[3], "POST", "5"); /* the parameters, but not their end */
	CU_ASSERT_TRUE(fcgi_client_send(&cut[3], FCGI_TYPE_PARAMS, cut[3].params.data, cut[3].params.len));
	begin(&cut[4], "POST", "5");
	CU_ASSERT_TRUE(fcgi_client_params(&cut[4]) && fcgi_client_send(&cut[4], FCGI_TYPE_STDIN, "hell", 4));
	begin(&cut[5], "POST", "5");
	CU_ASSERT_TRUE(fcgi_client_params(&cut[5]) &&
		       fcgi_client_record(&cut[5], &(struct fcgi_record){1, 5, 1, 5, 0}, "hell", 4));
	CU_ASSERT_TRUE(is_served());
	clock_set_for_test(2000, 0);
	for (size_t i = 0; i < ARRAY_LEN(cut); i++)
		CU_ASSERT_TRUE(is_closed(&cut[i]));
	clock_set_for_test(-1, 0);
	stop();
}

static void a_long_body_that_stops_takes_the_place_of_one_slow_peer_and_is_given_up(void)
{
	static char part[50000];
	struct fcgi_client c;

	start(5);
	begin(&c, "POST", "1000000");
	CU_ASSERT_TRUE(fcgi_client_params(&c) && fcgi_client_send(&c, FCGI_TYPE_STDIN, part, sizeof(part)));
	CU_ASSERT_TRUE(is_answer(&c, "50000")); /* the handler sees that it is short */
	CU_ASSERT_TRUE(is_served());
	CU_ASSERT_EQUAL(fcgi_counts(fcgi).slow, 0);
	stop();
}

static void a_body_that_drips_for_ever_is_given_up(void)
{
	static char part[50000];
	struct fcgi_client c;
	int sent = 0;

	start(5);
	clock_set_for_test(1000, 0);
	begin(&c, "POST", "1000000");
	CU_ASSERT_TRUE(fcgi_client_params(&c) && fcgi_client_send(&c, FCGI_TYPE_STDIN, part, sizeof(part)));
	for (int i = 0; i < WAIT_MS && fcgi_counts(fcgi).slow == 0; i++)
		(void)poll(NULL, 0, 1);
	/* One byte each second. */
	while (fcgi_client_read(&c, 20) == FCGI_TIMEOUT && sent < 3000) {
		sent += fcgi_client_send(&c, FCGI_TYPE_STDIN, "x", 1);
		clock_set_for_test(1000 + 1000 * (int64_t)sent, 0);
	}
	CU_ASSERT_TRUE(sent > 50 && sent < 3000);
	clock_set_for_test(-1, 0);
	fcgi_client_close(&c);
	CU_ASSERT_TRUE(is_served());
	stop();
}

static void an_end_of_input_that_never_comes_is_not_waited_for_long(void)
{
	struct fcgi_client c;

	start(60);
	begin(&c, "GET", NULL);
	CU_ASSERT_TRUE(fcgi_client_params(&c));
	CU_ASSERT_EQUAL(fcgi_client_read(&c, 15000), FCGI_ANSWERED);
	CU_ASSERT_TRUE(is_served());
	fcgi_client_close(&c);
	stop();
}

/* --- peers that hang up --- */

static void a_hang_up_anywhere_is_survived(void)
{
	struct fcgi_client c;

	start(10);
	open_client(&c);
	fcgi_client_close(&c);
	begin(&c, "GET", NULL);
	fcgi_client_close(&c);
	begin(&c, "POST", "5");
	CU_ASSERT_TRUE(fcgi_client_params(&c) && fcgi_client_send(&c, FCGI_TYPE_STDIN, "he", 2));
	fcgi_client_close(&c);
	begin(&c, "POST", "5");
	CU_ASSERT_TRUE(fcgi_client_params(&c) && fcgi_client_input(&c, "hello", 5));
	fcgi_client_close(&c);
	CU_ASSERT_TRUE(is_served());
	stop();
}

static void half_closing_behind_a_request_still_gets_the_answer(void)
{
	struct fcgi_client c;

	start(10);
	begin(&c, "POST", "5");
	CU_ASSERT_TRUE(fcgi_client_params(&c) && fcgi_client_input(&c, "hello", 5));
	fcgi_client_half_close(&c);
	CU_ASSERT_TRUE(is_answer(&c, "5"));
	begin(&c, "POST", "5");
	CU_ASSERT_TRUE(fcgi_client_params(&c) && fcgi_client_send(&c, FCGI_TYPE_STDIN, "he", 2));
	fcgi_client_half_close(&c);
	CU_ASSERT_TRUE(is_closed(&c)); /* at once: nothing more can come */
	CU_ASSERT_TRUE(is_served());
	stop();
}

/* --- peers that send what is no request --- */

static const struct {
	int line;
	struct fcgi_record record; /* behind BEGIN_REQUEST, or in its place where type is BEGIN */
	const char *content;
	size_t len;
} unsound[] = {
	{__LINE__, {2, 1, 1, 8, 0}, "\0\1\0\0\0\0\0\0", 8},       /* version */
	{__LINE__, {1, 1, 0, 8, 0}, "\0\1\0\0\0\0\0\0", 8},       /* request 0 */
	{__LINE__, {1, 1, 1, 8, 0}, "\0\2\0\0\0\0\0\0", 8},       /* authorizer */
	{__LINE__, {1, 1, 1, 9, 0}, "\0\1\0\0\0\0\0\0\0", 9},     /* length */
	{__LINE__, {1, 1, 1, 8, 8}, "\0\1\0\0\0\0\0\0", 8},       /* padding, which libfcgi takes for a record */
	{__LINE__, {1, 4, 1, 0, 8}, "", 0},                       /* the same */
	{__LINE__, {1, 4, 2, 2, 0}, "\0\0", 2},                   /* another request */
	{__LINE__, {1, 5, 1, 2, 0}, "ab", 2},                     /* input before parameters */
	{__LINE__, {1, 2, 1, 0, 0}, "", 0},                       /* abort */
	{__LINE__, {1, 9, 0, 16, 0}, "\x0e\0FCGI_MAX_CONNS", 16}, /* management */
	{__LINE__, {1, 99, 1, 0, 0}, "", 0},                      /* unknown type */
	{__LINE__, {1, 4, 1, 8, 0}, "\xff\xff\xff\xff\xff\xff\xff\xff", 8}, /* two huge lengths */
	{__LINE__, {1, 4, 1, 8, 0}, "\xc0\x00\x00\x00\xc0\x00\x00\x00", 8}, /* whose sum overflows */
	{__LINE__, {1, 4, 1, 8, 0}, "\x80\x10\x00\x00\x80\x00\x00\x01", 8}, /* 1 MiB */
	{__LINE__, {1, 4, 1, 6, 255}, "\1\3A\0b\0", 6},                     /* NULs */
};

static void what_is_no_request_is_closed_at_once_and_the_next_one_served(void)
{
	struct fcgi_client c;

	start(60);
	for (size_t i = 0; i < ARRAY_LEN(unsound); i++) {
		open_client(&c);
		if (unsound[i].record.type != FCGI_TYPE_BEGIN)
			CU_ASSERT_TRUE(fcgi_client_begin(&c));
		(void)fcgi_client_record(&c, &unsound[i].record, unsound[i].content, unsound[i].len);
		if (!is_closed(&c)) {
			printf("row of line %d\n", unsound[i].line);
			CU_FAIL("not closed");
		}
		CU_ASSERT_TRUE(is_served());
	}
	stop();
}

static void parameters_above_their_limit_are_refused_below_it_taken(void)
{
	static char value[FCGI_HEAD_MAX];
	struct fcgi_client c;

	start(60);
	memset(value, 'x', sizeof(value) - 1);
	begin(&c, "GET", NULL);
	fcgi_client_param(&c, "HTTP_X", value);
	(void)(fcgi_client_params(&c) && fcgi_client_input(&c, "", 0));
	CU_ASSERT_TRUE(is_closed(&c));
	value[FCGI_HEAD_MAX - 1000] = '\0';
	begin(&c, "GET", NULL);
	fcgi_client_param(&c, "HTTP_X", value);
	(void)(fcgi_client_params(&c) && fcgi_client_input(&c, "", 0));
	CU_ASSERT_TRUE(is_answer(&c, "0"));
	stop();
}

/* --- the socket itself --- */

static void the_socket_has_its_mode_whatever_the_umask(void)
{
	static const unsigned modes[] = {0600, 0660, 0666, 0};
	struct fcgi_options options = {.socket = path, .backlog = 1, .io_timeout_s = 1, .threads = 1};
	struct stat st;
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		mode_t mask = umask(i % 2 ? 0 : 077);
		options.mode = modes[i];
		CU_ASSERT_TRUE_FATAL(fcgi_open(&options, &fcgi, &e));
		CU_ASSERT_TRUE(stat(path, &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 07777) == modes[i]);
		CU_ASSERT_EQUAL(umask(mask), i % 2 ? 0 : 077); /* as it was */
		fcgi_close(&fcgi);
	}
}

static void a_socket_in_use_and_a_file_are_not_replaced(void)
{
	const struct fcgi_options options = {
		.socket = path, .mode = 0600, .backlog = 1, .io_timeout_s = 1, .threads = 1};
	struct fcgi *second = NULL;
	struct err e;

	CU_ASSERT_TRUE_FATAL(fcgi_open(&options, &fcgi, &e));
	CU_ASSERT_FALSE(fcgi_open(&options, &second, &e));
	CU_ASSERT_EQUAL(e.code, ERR_CONFLICT);
	fcgi_close(&fcgi);
	CU_ASSERT_EQUAL(unlink(path), 0);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	CU_ASSERT_TRUE(fd >= 0 && close(fd) == 0);
	CU_ASSERT_FALSE(fcgi_open(&options, &second, &e));
	CU_ASSERT_EQUAL(e.code, ERR_CONFLICT);
	CU_ASSERT_PTR_NULL(second);
	CU_ASSERT_EQUAL(unlink(path), 0);
}

static CU_TestInfo cases[] = {
	{"a_request_is_answered", a_request_is_answered},
	{"a_request_in_single_bytes_is_answered", a_request_in_single_bytes_is_answered},
	{"a_body_longer_than_the_socket_takes_is_read", a_body_longer_than_the_socket_takes_is_read},
	{"a_body_without_a_length_is_read_to_its_end", a_body_without_a_length_is_read_to_its_end},
	{"silent_peers_hold_no_thread", silent_peers_hold_no_thread},
	{"a_request_that_stops_anywhere_holds_no_thread_and_is_given_up",
	 a_request_that_stops_anywhere_holds_no_thread_and_is_given_up},
	{"a_long_body_that_stops_takes_the_place_of_one_slow_peer_and_is_given_up",
	 a_long_body_that_stops_takes_the_place_of_one_slow_peer_and_is_given_up},
	{"a_body_that_drips_for_ever_is_given_up", a_body_that_drips_for_ever_is_given_up},
	{"an_end_of_input_that_never_comes_is_not_waited_for_long",
	 an_end_of_input_that_never_comes_is_not_waited_for_long},
	{"a_hang_up_anywhere_is_survived", a_hang_up_anywhere_is_survived},
	{"half_closing_behind_a_request_still_gets_the_answer", half_closing_behind_a_request_still_gets_the_answer},
	{"what_is_no_request_is_closed_at_once_and_the_next_one_served",
	 what_is_no_request_is_closed_at_once_and_the_next_one_served},
	{"parameters_above_their_limit_are_refused_below_it_taken",
	 parameters_above_their_limit_are_refused_below_it_taken},
	{"the_socket_has_its_mode_whatever_the_umask", the_socket_has_its_mode_whatever_the_umask},
	{"a_socket_in_use_and_a_file_are_not_replaced", a_socket_in_use_and_a_file_are_not_replaced},
	CU_TEST_INFO_NULL,
};

static int make_folder(void)
{
	if (!mkdtemp(folder))
		return 1;
	(void)snprintf(path, sizeof(path), "%s/app.sock", folder);
	return 0;
}

static int remove_folder(void)
{
	(void)unlink(path);
	return rmdir(folder);
}

CU_SuiteInfo suites[] = {
	{.pName = "fcgi", .pInitFunc = make_folder, .pCleanupFunc = remove_folder, .pTests = cases},
	CU_SUITE_INFO_NULL,
};
