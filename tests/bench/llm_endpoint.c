/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model provider that costs next to nothing, for the bench: on 127.0.0.1:PORT it answers a POST to …/chat/completions
 * with the same short stream of events each time, in one write, and a GET of …/models with an empty list. HTTP/1.1 with
 * connections that stay; one request after the other on each. Usage: llm_endpoint PORT; ends on SIGTERM.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_MAX 8192

static const char *const events[] = {
	"data: "
	"{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"bench\",\"choices\":"
	"[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n",
	"data: "
	"{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"bench\",\"choices\":"
	"[{\"index\":0,\"delta\":{\"content\":\"hello\"},\"finish_reason\":null}]}\n\n",
	"data: "
	"{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"bench\",\"choices\":"
	"[{\"index\":0,\"delta\":{\"content\":\" world\"},\"finish_reason\":null}]}\n\n",
	"data: "
	"{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"bench\",\"choices\":"
	"[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
	"data: "
	"{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"bench\",\"choices\":[],"
	"\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,\"total_tokens\":9}}\n\n",
	"data: [DONE]\n\n",
};

static const char list[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n"
			   "{\"object\":\"list\",\"data\":[]}";
static const char not_found[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
static char chat[4096];
static size_t chat_len;

struct connection {
	int fd;
	char head[HEAD_MAX]; /* of the request that comes in, and what of its body came with it */
	size_t len, body_left;
	bool is_in_body;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Each event is a chunk of its own, as a provider sends them. */
static void make_chat(void)
{
	int n = snprintf(chat, sizeof(chat),
			 "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");

	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		n += snprintf(chat + n, sizeof(chat) - (size_t)n, "%zx\r\n%s\r\n", strlen(events[i]), events[i]);
	n += snprintf(chat + n, sizeof(chat) - (size_t)n, "0\r\n\r\n");
	chat_len = (size_t)n;
}

/* False: the connection is of no more use. */
static bool answer(struct connection *c)
{
	const char *text = not_found;
	size_t len = sizeof(not_found) - 1;

	c->head[strcspn(c->head, "\r")] = '\0';
	if (strncmp(c->head, "POST ", 5) == 0 && strstr(c->head, "/chat/completions ")) {
		text = chat;
		len = chat_len;
	} else if (strncmp(c->head, "GET ", 4) == 0 && strstr(c->head, "/models ")) {
		text = list;
		len = sizeof(list) - 1;
	}
	c->len = 0;
	c->is_in_body = false;
	return write(c->fd, text, len) == (ssize_t)len; /* some hundred bytes on an empty socket: taken whole */
}

static size_t body_len(const char *head)
{
	const char *line = strcasestr(head, "\r\nContent-Length:");

	return line ? strtoul(line + strlen("\r\nContent-Length:"), NULL, 10) : 0;
}

/* The head is kept for the answer, the body is counted. */
static bool take_head(struct connection *c)
{
	ssize_t got = read(c->fd, c->head + c->len, sizeof(c->head) - 1 - c->len);

	if (got <= 0)
		return got < 0 && errno == EAGAIN;
	c->len += (size_t)got;
	c->head[c->len] = '\0';
	char *end = strstr(c->head, "\r\n\r\n");
	if (!end)
		return c->len < sizeof(c->head) - 1;
	size_t more = c->len - (size_t)(end + 4 - c->head), wanted = body_len(c->head);
	if (more > wanted)
		return false; /* of a next request: nobody who measures sends one */
	c->body_left = wanted - more;
	c->is_in_body = c->body_left > 0;
	return c->is_in_body || answer(c);
}

static bool take_body(struct connection *c)
{
	char away[65536];
	ssize_t got = read(c->fd, away, c->body_left < sizeof(away) ? c->body_left : sizeof(away));

	if (got <= 0)
		return got < 0 && errno == EAGAIN;
	c->body_left -= (size_t)got;
	return c->body_left > 0 || answer(c);
}

static int listen_on(const char *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 1024) != 0)
		die("listen");
	return fd;
}

static void accept_one(int listener, int epoll_fd)
{
	struct connection *c = calloc(1, sizeof(*c));
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
	int on = 1;

	if (!c || (c->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0)
		die("accept");
	(void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0)
		die("epoll_ctl");
}

static void serve(struct connection *c)
{
	if (c->is_in_body ? take_body(c) : take_head(c))
		return;
	(void)close(c->fd);
	free(c);
}

static void leave(int signum)
{
	(void)signum;
	_exit(0);
}

int main(int argc, char **argv)
{
	struct epoll_event ready[256], event = {.events = EPOLLIN};
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);

	if (argc != 2) {
		fprintf(stderr, "usage: llm_endpoint PORT\n");
		return 2;
	}
	(void)signal(SIGTERM, leave);
	(void)signal(SIGPIPE, SIG_IGN);
	make_chat();
	int listener = listen_on(argv[1]);
	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event) != 0)
		die("epoll");
	for (;;) {
		int n = epoll_wait(epoll_fd, ready, 256, -1);
		for (int i = 0; i < n; i++) {
			if (ready[i].data.ptr)
				serve(ready[i].data.ptr);
			else
				accept_one(listener, epoll_fd);
		}
	}
}
