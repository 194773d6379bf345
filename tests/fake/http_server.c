/* SPDX-License-Identifier: Apache-2.0 */
/* Threads and blocking sockets: the plainest server there is. A stop shuts the sockets down, which wakes everybody. */
#include "tests/fake/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/xalloc.h"

#define REQUEST_MAX ((size_t)16 << 20)
#define BACKLOG 512

struct fake_http_conn {
	struct fake_http *server;
	int fd;
	bool is_over; /* fd is closed; under the server's mutex */
	pthread_t thread;
	struct fake_http_conn *next;
};

struct fake_http {
	fake_http_handler handler;
	void *closure;
	int fd, port;
	pthread_t thread;
	atomic_uint connections, requests, hangups;
	pthread_mutex_t mutex; /* the list, is_stopping */
	struct fake_http_conn *conns;
	bool is_stopping;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* --- a connection --- */

bool fake_http_send(struct fake_http_conn *conn, const void *data, size_t len)
{
	const char *at = data;

	while (len > 0) {
		ssize_t sent = send(conn->fd, at, len, MSG_NOSIGNAL);
		if (sent <= 0)
			return false;
		at += sent;
		len -= (size_t)sent;
	}
	return true;
}

bool fake_http_say(struct fake_http_conn *conn, const char *fmt, ...)
{
	char text[4096];
	va_list args;

	va_start(args, fmt);
	int len = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (len < 0 || (size_t)len >= sizeof(text))
		die("fake_http_say");
	return fake_http_send(conn, text, (size_t)len);
}

/* False: the end. */
static bool read_more(struct fake_http_conn *conn, struct buf *in)
{
	char piece[16384];
	ssize_t got = recv(conn->fd, piece, sizeof(piece), 0);

	if (got <= 0) {
		pthread_mutex_lock(&conn->server->mutex);
		if (!conn->server->is_stopping)
			atomic_fetch_add(&conn->server->hangups, 1);
		pthread_mutex_unlock(&conn->server->mutex);
		return false;
	}
	buf_append(in, piece, (size_t)got);
	return !buf_has_failed(in);
}

bool fake_http_hang(struct fake_http_conn *conn)
{
	struct buf ignored;

	buf_init(&ignored, REQUEST_MAX);
	while (read_more(conn, &ignored))
		;
	buf_clear(&ignored);
	return false;
}

/* Reads one request and has it answered; what came behind it stays in `in`. False: the connection ends. */
static bool serve_one(struct fake_http_conn *conn, struct buf *in, unsigned number)
{
	const char *end, *length;

	while (!(end = strstr(buf_str(in), "\r\n\r\n"))) {
		if (!read_more(conn, in))
			return false;
	}
	size_t head_len = (size_t)(end - in->data) + 4;
	char *head = xmemdup(in->data, head_len);
	size_t body_len = (length = strcasestr(head, "\r\nContent-Length:")) ? strtoul(length + 17, NULL, 10) : 0;
	bool goes_on = true;
	while (goes_on && in->len < head_len + body_len)
		goes_on = read_more(conn, in);
	if (goes_on) {
		char *body = xmemdup(in->data + head_len, body_len);
		char *path = xstrdup(strchr(head, ' ') ? strchr(head, ' ') + 1 : "");
		path[strcspn(path, " \r")] = '\0';
		const struct fake_http_request request = {head, path, body, body_len, number};
		atomic_fetch_add(&conn->server->requests, 1);
		goes_on = conn->server->handler(conn->server->closure, conn, &request);
		free(path);
		free(body);
		size_t rest = in->len - head_len - body_len;
		memmove(in->data, in->data + head_len + body_len, rest + 1);
		in->len = rest;
	}
	free(head);
	return goes_on;
}

static void *conn_run(void *closure)
{
	struct fake_http_conn *conn = closure;
	struct buf in;

	buf_init(&in, REQUEST_MAX);
	for (unsigned number = 1; serve_one(conn, &in, number); number++)
		;
	buf_clear(&in);
	pthread_mutex_lock(&conn->server->mutex);
	conn->is_over = true;
	(void)close(conn->fd);
	pthread_mutex_unlock(&conn->server->mutex);
	return NULL;
}

/* --- the server --- */

static bool conn_start(struct fake_http *s, int fd)
{
	const int on = 1;
	struct fake_http_conn *conn = xcalloc(1, sizeof(*conn));

	conn->server = s;
	conn->fd = fd;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	atomic_fetch_add(&s->connections, 1);
	pthread_mutex_lock(&s->mutex);
	bool goes_on = !s->is_stopping;
	if (goes_on) {
		if (pthread_create(&conn->thread, NULL, conn_run, conn) != 0)
			die("pthread_create");
		conn->next = s->conns;
		s->conns = conn;
	}
	pthread_mutex_unlock(&s->mutex);
	if (!goes_on) {
		(void)close(fd);
		free(conn);
	}
	return goes_on;
}

static void *accept_run(void *closure)
{
	struct fake_http *s = closure;
	int fd;

	while ((fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		if (!conn_start(s, fd))
			break;
	}
	return NULL;
}

struct fake_http *fake_http_start(fake_http_handler handler, void *closure)
{
	struct fake_http *s = xcalloc(1, sizeof(*s));
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);

	s->handler = handler;
	s->closure = closure;
	(void)pthread_mutex_init(&s->mutex, NULL);
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->fd < 0 || bind(s->fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
	    listen(s->fd, BACKLOG) != 0 || getsockname(s->fd, (struct sockaddr *)&address, &len) != 0)
		die("fake_http_start");
	s->port = ntohs(address.sin_port);
	if (pthread_create(&s->thread, NULL, accept_run, s) != 0)
		die("pthread_create");
	return s;
}

void fake_http_stop(struct fake_http **server)
{
	struct fake_http *s = *server;
	struct fake_http_conn *conn;

	*server = NULL;
	if (!s)
		return;
	pthread_mutex_lock(&s->mutex);
	s->is_stopping = true;
	for (conn = s->conns; conn; conn = conn->next) {
		if (!conn->is_over)
			(void)shutdown(conn->fd, SHUT_RDWR);
	}
	pthread_mutex_unlock(&s->mutex);
	(void)shutdown(s->fd, SHUT_RDWR);
	(void)pthread_join(s->thread, NULL);
	while ((conn = s->conns)) {
		s->conns = conn->next;
		(void)pthread_join(conn->thread, NULL);
		free(conn);
	}
	(void)close(s->fd);
	(void)pthread_mutex_destroy(&s->mutex);
	free(s);
}

int fake_http_port(const struct fake_http *server)
{
	return server->port;
}

unsigned fake_http_connections(struct fake_http *server)
{
	return atomic_load(&server->connections);
}

unsigned fake_http_requests(struct fake_http *server)
{
	return atomic_load(&server->requests);
}

unsigned fake_http_hangups(struct fake_http *server)
{
	return atomic_load(&server->hangups);
}
