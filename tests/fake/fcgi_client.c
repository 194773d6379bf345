/* SPDX-License-Identifier: Apache-2.0 */
/* Records out, records in. */
#include "tests/fake/fcgi_client.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/clock.h"

#define HEADER_BYTES 8
#define RECORD_MAX 65535
#define ANSWER_MAX (64 * 1024 * 1024)

static int connect_to(const char *where)
{
	struct sockaddr_in port = {.sin_family = AF_INET,
				   .sin_port = htons((uint16_t)strtoul(where, NULL, 10)),
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_un path = {.sun_family = AF_UNIX};
	bool is_path = where[0] == '/';
	int fd = socket(is_path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)memccpy(path.sun_path, where, 0, sizeof(path.sun_path) - 1);
	const struct sockaddr *address = is_path ? (const void *)&path : (const void *)&port;
	if (fd >= 0 && connect(fd, address, is_path ? sizeof(path) : sizeof(port)) != 0) {
		(void)close(fd);
		fd = -1;
	}
	return fd;
}

bool fcgi_client_open(struct fcgi_client *c, const char *where)
{
	*c = (struct fcgi_client){.fd = connect_to(where), .drip_ms = -1};
	buf_init(&c->params, ANSWER_MAX);
	buf_init(&c->answer, ANSWER_MAX);
	return c->fd >= 0;
}

void fcgi_client_close(struct fcgi_client *c)
{
	if (c->fd >= 0)
		(void)close(c->fd);
	c->fd = -1;
	buf_clear(&c->params);
	buf_clear(&c->answer);
}

bool fcgi_client_raw(struct fcgi_client *c, const void *bytes, size_t len)
{
	const char *at = bytes;

	while (len > 0) {
		ssize_t sent = send(c->fd, at, c->drip_ms < 0 ? len : 1, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return false;
		at += sent;
		len -= (size_t)sent;
		if (c->drip_ms > 0)
			(void)poll(NULL, 0, c->drip_ms);
	}
	return true;
}

bool fcgi_client_record(struct fcgi_client *c, const struct fcgi_record *r, const void *content, size_t len)
{
	static const char padding[UINT8_MAX];
	const uint8_t header[HEADER_BYTES] = {
		r->version, r->type, (uint8_t)(r->id >> 8), (uint8_t)r->id, (uint8_t)(r->len >> 8), (uint8_t)r->len,
		r->padding, 0};
	struct buf out;
	bool ok;

	buf_init(&out, ANSWER_MAX);
	buf_append(&out, header, sizeof(header));
	buf_append(&out, content, len);
	buf_append(&out, padding, r->padding);
	ok = fcgi_client_raw(c, out.data, out.len);
	buf_clear(&out);
	return ok;
}

bool fcgi_client_send(struct fcgi_client *c, enum fcgi_type type, const void *content, size_t len)
{
	const struct fcgi_record record = {.version = 1, .type = (uint8_t)type, .id = 1, .len = (uint16_t)len};

	return fcgi_client_record(c, &record, content, len);
}

bool fcgi_client_begin(struct fcgi_client *c)
{
	static const uint8_t responder[8] = {0, 1};

	return fcgi_client_send(c, FCGI_TYPE_BEGIN, responder, sizeof(responder));
}

static void add_length(struct buf *params, size_t len)
{
	const uint8_t bytes[4] = {(uint8_t)(len >> 24 | 0x80), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len};

	if (len < 128)
		buf_append(params, &bytes[3], 1);
	else
		buf_append(params, bytes, sizeof(bytes));
}

void fcgi_client_param(struct fcgi_client *c, const char *name, const char *value)
{
	add_length(&c->params, strlen(name));
	add_length(&c->params, strlen(value));
	buf_append_str(&c->params, name);
	buf_append_str(&c->params, value);
}

/* As many records as it takes, and the empty one. */
static bool send_stream(struct fcgi_client *c, enum fcgi_type type, const char *data, size_t len)
{
	while (len > 0) {
		size_t part = len < RECORD_MAX ? len : RECORD_MAX;
		if (!fcgi_client_send(c, type, data, part))
			return false;
		data += part;
		len -= part;
	}
	return fcgi_client_send(c, type, "", 0);
}

bool fcgi_client_params(struct fcgi_client *c)
{
	bool ok = send_stream(c, FCGI_TYPE_PARAMS, buf_str(&c->params), c->params.len);

	buf_reset(&c->params);
	return ok;
}

bool fcgi_client_input(struct fcgi_client *c, const void *body, size_t len)
{
	return send_stream(c, FCGI_TYPE_STDIN, body, len);
}

void fcgi_client_half_close(struct fcgi_client *c)
{
	(void)shutdown(c->fd, SHUT_WR);
}

/* Exactly len bytes. */
static enum fcgi_outcome read_bytes(struct fcgi_client *c, void *bytes, size_t len, int64_t until_ms)
{
	char *at = bytes;

	while (len > 0) {
		struct pollfd pfd = {.fd = c->fd, .events = POLLIN};
		int64_t left_ms = until_ms - clock_now_ms();
		if (left_ms <= 0 || poll(&pfd, 1, (int)left_ms) == 0)
			return FCGI_TIMEOUT;
		ssize_t got = recv(c->fd, at, len, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return FCGI_CLOSED;
		at += got;
		len -= (size_t)got;
	}
	return FCGI_ANSWERED;
}

enum fcgi_outcome fcgi_client_read(struct fcgi_client *c, int timeout_ms)
{
	int64_t until_ms = clock_now_ms() + timeout_ms;
	uint8_t header[HEADER_BYTES], content[RECORD_MAX + UINT8_MAX];
	enum fcgi_outcome outcome;

	for (;;) {
		outcome = read_bytes(c, header, sizeof(header), until_ms);
		if (outcome != FCGI_ANSWERED)
			return outcome;
		size_t len = (size_t)header[4] << 8 | header[5];
		outcome = read_bytes(c, content, len + header[6], until_ms);
		if (outcome != FCGI_ANSWERED)
			return outcome;
		if (header[1] == FCGI_TYPE_STDOUT)
			buf_append(&c->answer, content, len);
		if (header[1] == FCGI_TYPE_END) {
			c->app_status = (uint32_t)content[0] << 24 | (uint32_t)content[1] << 16 |
					(uint32_t)content[2] << 8 | content[3];
			return FCGI_ANSWERED;
		}
	}
}
