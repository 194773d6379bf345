/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the HTTP client stand on: a real server on 127.0.0.1 with one path for each way to answer, a loop
 * of poll(2) that the test turns by itself, and calls that note all that they are told. One stage; remade for each
 * case.
 */
#ifndef TESTS_UNIT_HTTP_STAGE_H
#define TESTS_UNIT_HTTP_STAGE_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/http.h"
#include "tests/fake/http_server.h"

#define STAGE_SOCKETS_MAX 128
#define STAGE_UNIX_MS 1767323045678 /* 2026-01-02T03:04:05.678Z */

struct stage_loop {
	struct pollfd fds[STAGE_SOCKETS_MAX];
	nfds_t count;
	int64_t alarm_ms; /* when; -1: none */
	bool is_ticking;
	struct http *http;
};

struct stage {
	struct fake_http *server;
	struct buf last_head, last_body; /* as "/echo" saw them; read when it has answered */
	struct stage_loop loop;
	struct http *http;
};
extern struct stage stage;

/* A suite's four functions. */
int stage_init(void);
int stage_clean(void);
void stage_set_up(void); /* a server, and a client without options */
void stage_tear_down(void);

/* Of the site, that the client's own tests use. */
bool stage_answer(void *closure, struct fake_http_conn *conn, const struct fake_http_request *request);
void stage_client_new(const struct http_options *wanted); /* its hooks are the stage's */
void stage_client_free(void);
void stage_turn(void);
/* Turns until the server has counted so many. */
void stage_run_until(unsigned (*count)(struct fake_http *), unsigned wanted);
int64_t stage_real_ms(void);
/* A port whose queue of connections is full: further ones get no answer. The caller closes fds. */
int stage_full_port(int fds[3]);

/* --- a call --- */

enum call_plan { TO_THE_END, ENOUGH, CANCEL_IN_HEAD, CANCEL_IN_BODY, CANCEL_OTHER_TOO };

struct call {
	struct http_call *handle;
	enum call_plan plan;
	struct call *other; /* is cancelled in the head of this one where it runs, else started there */
	struct call *next;  /* the same in the end of this one */
	int64_t clock_ms;   /* where not 0: the clock stands there from the head on */
	unsigned heads, parts, ends;
	struct http_head head;
	char content_type[128];
	struct buf body; /* the test clears it */
	enum http_outcome outcome;
	char detail[64];
};

/* request.url: NULL for path on the stage's server; method and body_max have defaults. */
void call_start_with(struct call *call, const char *path, struct http_request request);
void call_start(struct call *call, const char *path);
void call_run(struct call *call); /* to its end */
void call_run_to_body(struct call *call);
void call_get_with(struct call *call, const char *path, struct http_request request);
void call_get(struct call *call, const char *path);
/* It got "/hello" whole; it had no end and gets none. Both clear it. */
void call_check_hello(struct call *call);
void call_check_silent(struct call *call);
/* A whole call of "/hello". */
void call_hello(void);

#endif
