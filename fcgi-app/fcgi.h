/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FastCGI. The only file that includes fcgiapp.h is fcgi.c. One struct fcgi is
 * the listen socket, shared by all threads; one struct fcgi_conn belongs to one
 * thread and carries one request at a time:
 *
 *   fcgi_accept → fcgi_param, fcgi_read … → fcgi_write, fcgi_flush … → fcgi_finish
 *
 * A connection is closed after its request, also where the web server would keep
 * it: a kept one would pin a thread.
 *
 * Who can connect is trusted to be a web server (FastCGI has no authentication: the
 * mode of the socket is the wall), but neither to be quick nor to be sound: a
 * connection reaches a thread, and libfcgi, only once its parameters have come, were
 * read through by fcgi_head.c and end within FCGI_HEAD_MAX bytes; until then it waits
 * in the anteroom. So no length that a peer sends ever reaches the library unseen
 * (it asserts, and so ends the process, on two huge ones: the successor of
 * CVE-2025-23016), and no silent or slow peer holds a thread, but for bodies that
 * are long or stall, which together hold at most half of them.
 */
#ifndef FCGI_APP_FCGI_H
#define FCGI_APP_FCGI_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"

struct fcgi;
struct fcgi_conn;

struct fcgi_options {
	const char *socket; /* a path, or 127.0.0.1:port; NULL: descriptor 0 is the listening socket */
	unsigned mode;      /* of the path */
	int backlog;
	int io_timeout_s; /* a peer's request may take so long to come, one read or write of it later also */
	unsigned threads; /* that will serve */
};

/* Once in main, with the signals already blocked. ERR_CONFLICT: another process listens there. */
bool fcgi_open(const struct fcgi_options *options, struct fcgi **ret_fcgi, struct err *e) MUST_CHECK;
/* Every fcgi_accept, present and future, returns ACCEPT_STOPPED, on a path of our own once nobody waits there any more.
 * Any thread. */
void fcgi_stop(struct fcgi *fcgi);
/* No new connections are taken by the kernel from here on, unless the socket was handed over. After the threads. */
void fcgi_close(struct fcgi **fcgi);

struct fcgi_counts {
	unsigned waiting; /* connections without a thread */
	unsigned slow;    /* threads that wait for a body */
};
struct fcgi_counts fcgi_counts(const struct fcgi *fcgi);

bool fcgi_conn_new(struct fcgi *fcgi, struct fcgi_conn **ret_conn, struct err *e) MUST_CHECK;
void fcgi_conn_free(struct fcgi_conn **conn);

enum accept_next { ACCEPT_REQUEST, ACCEPT_AGAIN /* e says why; waited a little */, ACCEPT_STOPPED };
/* Waits for a request and reads its parameters. */
enum accept_next fcgi_accept(struct fcgi_conn *conn, struct err *e);
/* The web server's parameter, NULL where absent. Lives until fcgi_finish; may be wiped. */
char *fcgi_param(struct fcgi_conn *conn, const char *name);
/* Up to len bytes of the body; fewer only at its end or when the peer failed. */
size_t fcgi_read(struct fcgi_conn *conn, void *data, size_t len);
/* False once the peer is gone or too slow; then all later writes fail. */
bool fcgi_write(struct fcgi_conn *conn, const void *data, size_t len);
bool fcgi_flush(struct fcgi_conn *conn);
/* Sends what is left and closes the connection. Waits a little for the peer to have read it. */
void fcgi_finish(struct fcgi_conn *conn);

/* The web server has closed the connection: its client hung up. Reads nothing. */
bool fcgi_client_is_gone(struct fcgi_conn *conn);
/* To be polled for POLLRDHUP beside something else; -1 where there is none. */
int fcgi_fd(const struct fcgi_conn *conn);

#endif
