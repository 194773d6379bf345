/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many chat streams at once: opens COUNT connections to 127.0.0.1:PORT, sends the request that stands in FILE
 * (HTTP/1.0, so that nothing is chunked) on each at once, and reads all to their ends. A chunk is a read that brings at
 * least one `message` event; the gap is the time since the chunk before it on the same stream. Prints one line of JSON.
 * A stream is whole when it was a 200 and ended with "done":true after WORDS message events.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SILENCE_MS 60000 /* so long nothing on any stream: they are lost */
#define CARRY 31         /* bytes of a read that may begin a word of the next: one less than the longest sought */

static const char mark_message[] = "event: message\n";
static const char mark_done[] = "\"done\":true";

struct stream {
	int fd;
	int64_t last_us; /* of the last chunk; 0: none yet */
	unsigned messages;
	bool is_ok, is_done, has_head;
	char carry[CARRY + 1];
	size_t carry_len;
};

struct client {
	int epoll_fd;
	struct stream *streams;
	unsigned count, open, words;
	uint32_t *gaps_us;
	size_t gap_count, gap_max;
	const char *request;
	size_t request_len;
	struct sockaddr_in address;
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Nothing but a request of a few hundred bytes on an empty socket: it is taken whole. */
static void stream_open(struct client *c, struct stream *s)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};

	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->fd < 0 || connect(s->fd, (const struct sockaddr *)&c->address, sizeof(c->address)) != 0)
		die("connect");
	if (write(s->fd, c->request, c->request_len) != (ssize_t)c->request_len)
		die("write");
	if (fcntl(s->fd, F_SETFL, O_NONBLOCK) != 0 || epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, s->fd, &event) != 0)
		die("epoll_ctl");
	c->open++;
}

static unsigned count_of(const char *text, size_t len, size_t old, const char *mark)
{
	size_t mark_len = strlen(mark);
	const char *at = text + (old >= mark_len ? old - mark_len + 1 : 0); /* what ends in the new part */
	unsigned n = 0;

	while ((at = memmem(at, len - (size_t)(at - text), mark, mark_len)) != NULL) {
		at += mark_len;
		n++;
	}
	return n;
}

static void note_chunk(struct client *c, struct stream *s)
{
	int64_t now = now_us();

	if (s->last_us != 0 && c->gap_count < c->gap_max)
		c->gaps_us[c->gap_count++] = (uint32_t)(now - s->last_us);
	s->last_us = now;
}

static void stream_take(struct client *c, struct stream *s, char *text, size_t old, size_t got)
{
	size_t len = old + got;
	unsigned messages = count_of(text, len, old, mark_message);

	if (!s->has_head) {
		s->has_head = true;
		s->is_ok = len > 12 && memcmp(text + 9, "200", 3) == 0;
	}
	s->messages += messages;
	if (messages > 0)
		note_chunk(c, s);
	s->is_done |= count_of(text, len, old, mark_done) > 0;
	s->carry_len = len < CARRY ? len : CARRY;
	memcpy(s->carry, text + len - s->carry_len, s->carry_len);
}

static void stream_read(struct client *c, struct stream *s)
{
	static char text[CARRY + 65536];

	memcpy(text, s->carry, s->carry_len);
	ssize_t got = read(s->fd, text + s->carry_len, 65536);
	if (got > 0) {
		stream_take(c, s, text, s->carry_len, (size_t)got);
	} else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
		(void)close(s->fd);
		s->fd = -1;
		c->open--;
	}
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static double gap_ms(const struct client *c, unsigned percent)
{
	size_t rank = (c->gap_count * percent + 99) / 100; /* nearest rank */

	return rank == 0 ? 0 : c->gaps_us[rank - 1] / 1e3;
}

static void report(struct client *c, double seconds)
{
	unsigned whole = 0;

	for (unsigned i = 0; i < c->count; i++) {
		const struct stream *s = &c->streams[i];
		whole += s->is_ok && s->is_done && s->messages == c->words;
	}
	qsort(c->gaps_us, c->gap_count, sizeof(*c->gaps_us), by_size);
	printf("{\"streams\":%u,\"whole\":%u,\"chunks\":%zu,\"seconds\":%.3f,\"p50_ms\":%.3f,\"p99_ms\":%.3f,"
	       "\"max_ms\":%.3f}\n",
	       c->count, whole, c->gap_count, seconds, gap_ms(c, 50), gap_ms(c, 99), gap_ms(c, 100));
}

static void run(struct client *c)
{
	struct epoll_event events[256];

	for (unsigned i = 0; i < c->count; i++)
		stream_open(c, &c->streams[i]);
	while (c->open > 0) {
		int n = epoll_wait(c->epoll_fd, events, 256, SILENCE_MS);
		if (n == 0)
			return;
		for (int i = 0; i < n; i++)
			stream_read(c, events[i].data.ptr);
	}
}

static char *read_file(const char *path, size_t *ret_len)
{
	static char text[8192];
	FILE *f = fopen(path, "rb");

	if (!f)
		die(path);
	*ret_len = fread(text, 1, sizeof(text), f);
	(void)fclose(f);
	return text;
}

int main(int argc, char **argv)
{
	struct client c = {.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};

	if (argc != 5) {
		fprintf(stderr, "usage: stream_client PORT COUNT WORDS FILE\n");
		return 2;
	}
	c.address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
	c.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	c.count = (unsigned)atoi(argv[2]);
	c.words = (unsigned)atoi(argv[3]);
	c.request = read_file(argv[4], &c.request_len);
	c.gap_max = (size_t)c.count * c.words;
	c.streams = calloc(c.count, sizeof(*c.streams));
	c.gaps_us = calloc(c.gap_max, sizeof(*c.gaps_us));
	if (c.epoll_fd < 0 || !c.streams || !c.gaps_us)
		die("start");
	int64_t start = now_us();
	run(&c);
	report(&c, (double)(now_us() - start) / 1e6);
	free(c.streams);
	free(c.gaps_us);
	return 0;
}
