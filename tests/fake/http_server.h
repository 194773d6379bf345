/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small HTTP/1.1 server on 127.0.0.1 whose every byte the test says: a thread for each connection reads a request
 * whole, and the test's handler answers it in its own words. Of TLS it knows nothing.
 */
#ifndef TESTS_FAKE_HTTP_SERVER_H
#define TESTS_FAKE_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/macros.h"

struct fake_http;
struct fake_http_conn;

struct fake_http_request {
	const char *head; /* as it came, with its empty line */
	const char *path;
	const char *body;
	size_t body_len;
	unsigned number; /* on this connection, from 1 */
};

/* On the connection's thread. False: the connection is closed. */
typedef bool (*fake_http_handler)(void *closure, struct fake_http_conn *conn, const struct fake_http_request *request);

struct fake_http *fake_http_start(fake_http_handler handler, void *closure);
/* Ends all connections and waits for their threads. */
void fake_http_stop(struct fake_http **server);

int fake_http_port(const struct fake_http *server);
/* So far: accepted ones; whole ones that came; connections that the client ended. */
unsigned fake_http_connections(struct fake_http *server);
unsigned fake_http_requests(struct fake_http *server);
unsigned fake_http_hangups(struct fake_http *server);

/* For handlers. Each is one send. False: nobody takes it. */
bool fake_http_say(struct fake_http_conn *conn, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool fake_http_send(struct fake_http_conn *conn, const void *data, size_t len);
/* Until the client has hung up, or the server stops. Returns false, for the handler to return. */
bool fake_http_hang(struct fake_http_conn *conn);

#endif
