/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One epoll set, edge-triggered, as looked-at bytes stay readable. Everything has
 * the same timeout, so the list in order of arrival is the list in order of
 * deadlines. Whoever may be served moves to a second list, and counts up an
 * eventfd of which each serving thread takes one.
 *
 * A peer whose socket buffer is full of what we have not read cannot send more. So
 * a body is waited for only STALL_MS, and as slow it is then read.
 */
#include "fcgi-app/anteroom.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "fcgi-app/fcgi_head.h"
#include "lib/clock.h"
#include "lib/secret.h"
#include "lib/xalloc.h"

#define EVENTS_MAX 64
#define TICK_MS 100
#define STALL_MS 3000
#define STACK_BYTES (256 * 1024)

struct guest {
	int fd;
	int64_t came_ms;
	bool has_head; /* only its body is missing */
	bool is_large; /* and that will not fit */
	bool is_slow;  /* as it was taken */
	struct guest *prev, *next;
};

struct anteroom {
	struct anteroom_options options;
	int epoll_fd, wake_fd, ready_fd;
	pthread_t thread;
	bool has_thread;
	void *buffer; /* the thread's */
	_Atomic unsigned ready_count;
	pthread_mutex_t lock;  /* what follows */
	struct guest *waiting; /* in order of arrival */
	struct guest *ready;
	_Atomic unsigned waiting_count, slow_count; /* written under the lock, read also without */
	bool is_stopping;
};

/* --- looking --- */

struct look {
	enum glance glance;
	bool is_silent; /* nothing has come yet */
	bool has_input_end, has_head, is_large;
};

static ssize_t peek(int fd, void *buffer)
{
	ssize_t got;

	do {
		got = recv(fd, buffer, FCGI_HEAD_MAX, MSG_PEEK | MSG_DONTWAIT);
	} while (got < 0 && errno == EINTR);
	return got;
}

static struct look judge(const void *buffer, size_t len)
{
	struct look look = {.glance = GLANCE_WAIT};
	struct fcgi_head head;

	switch (fcgi_head_scan(buffer, len, &head)) {
	case FCGI_HEAD_PARTIAL:
		break;
	case FCGI_HEAD_BROKEN:
		look.glance = GLANCE_CLOSE;
		break;
	case FCGI_HEAD_WHOLE:
		look.has_head = true;
		look.has_input_end = head.has_input_end;
		look.is_large = len == FCGI_HEAD_MAX || head.body_bytes > FCGI_HEAD_MAX / 2;
		look.glance = head.is_input_whole ? GLANCE_WHOLE : GLANCE_WAIT;
		break;
	}
	return look;
}

/* A token may be among the bytes, so they are wiped. */
static struct look look_once(int fd, void *buffer)
{
	struct look look = {.glance = GLANCE_WAIT};
	ssize_t got = peek(fd, buffer);

	if (got > 0) {
		look = judge(buffer, (size_t)got);
		secret_wipe(buffer, (size_t)got);
	} else if (got == 0 || errno != EAGAIN) {
		look.glance = GLANCE_CLOSE;
	} else {
		look.is_silent = true;
	}
	return look;
}

enum glance anteroom_glance(int fd, void *buffer, int patience_ms, bool *ret_has_input_end)
{
	struct look look = look_once(fd, buffer);
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	if (look.is_silent && patience_ms > 0 && poll(&pfd, 1, patience_ms) > 0)
		look = look_once(fd, buffer);
	*ret_has_input_end = look.has_input_end;
	return look.glance;
}

/* --- leaving, with the lock held --- */

static void leave_waiting(struct anteroom *room, struct guest *g)
{
	(void)epoll_ctl(room->epoll_fd, EPOLL_CTL_DEL, g->fd, NULL);
	DL_DELETE(room->waiting, g);
	room->waiting_count--;
}

static void send_away(struct anteroom *room, struct guest *g)
{
	leave_waiting(room, g);
	(void)close(g->fd);
	free(g);
}

static void make_ready(struct anteroom *room, struct guest *g, bool is_slow)
{
	const uint64_t one = 1;

	leave_waiting(room, g);
	g->is_slow = is_slow;
	room->slow_count += is_slow;
	DL_APPEND(room->ready, g);
	atomic_fetch_add(&room->ready_count, 1);
	(void)!write(room->ready_fd, &one, sizeof(one));
}

/* --- the thread --- */

/* Something has come, or has ended. has_hung_up: nothing more will come. */
static void look_again(struct anteroom *room, struct guest *g, bool has_hung_up)
{
	struct look look = look_once(g->fd, room->buffer);

	g->has_head = look.has_head;
	g->is_large = look.is_large;
	if (look.glance == GLANCE_CLOSE || (look.glance == GLANCE_WAIT && has_hung_up))
		send_away(room, g);
	else if (look.glance == GLANCE_WHOLE)
		make_ready(room, g, false);
}

static bool is_to_be_read(const struct guest *g, int64_t now_ms)
{
	return g->has_head && (g->is_large || now_ms - g->came_ms >= STALL_MS);
}

/* What time alone decides, and the places of the slow. */
static void tick(struct anteroom *room)
{
	int64_t now_ms = clock_now_ms();
	struct guest *g, *next;

	DL_FOREACH_SAFE (room->waiting, g, next) {
		if (is_to_be_read(g, now_ms) && room->slow_count < room->options.slow_max)
			make_ready(room, g, true);
		else if (now_ms - g->came_ms >= room->options.timeout_ms ||
			 room->waiting_count > room->options.connections_max)
			send_away(room, g);
	}
}

static void *run(void *closure)
{
	struct epoll_event events[EVENTS_MAX];
	struct anteroom *room = closure;
	bool is_stopping = false;
	uint64_t ignored;
	int timeout_ms = -1;

	while (!is_stopping) {
		int count = epoll_wait(room->epoll_fd, events, EVENTS_MAX, timeout_ms);
		pthread_mutex_lock(&room->lock);
		for (int i = 0; i < count; i++) {
			struct guest *g = events[i].data.ptr;
			if (g)
				look_again(room, g, events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
			else
				(void)!read(room->wake_fd, &ignored, sizeof(ignored));
		}
		tick(room);
		is_stopping = room->is_stopping;
		timeout_ms = room->waiting ? TICK_MS : -1;
		pthread_mutex_unlock(&room->lock);
	}
	return NULL;
}

/* --- for the serving threads --- */

static void wake(struct anteroom *room)
{
	const uint64_t one = 1;

	(void)!write(room->wake_fd, &one, sizeof(one));
}

void anteroom_put(struct anteroom *room, int fd)
{
	struct guest *g = xcalloc(1, sizeof(*g));
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = g};

	g->fd = fd;
	g->came_ms = clock_now_ms();
	pthread_mutex_lock(&room->lock);
	DL_APPEND(room->waiting, g);
	room->waiting_count++;
	/* What has come already wakes the thread; of a silent one it must learn for the sake of its deadline. */
	bool is_news = room->waiting_count == 1 || room->waiting_count > room->options.connections_max;
	if (epoll_ctl(room->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		send_away(room, g); /* no event of it can be on its way; of all others only the thread disposes */
	pthread_mutex_unlock(&room->lock);
	if (is_news)
		wake(room);
}

int anteroom_take(struct anteroom *room, bool *ret_is_slow)
{
	uint64_t one;

	if (atomic_load_explicit(&room->ready_count, memory_order_relaxed) == 0 ||
	    read(room->ready_fd, &one, sizeof(one)) != (ssize_t)sizeof(one))
		return -1;
	pthread_mutex_lock(&room->lock);
	struct guest *g = room->ready;
	DL_DELETE(room->ready, g);
	pthread_mutex_unlock(&room->lock);
	atomic_fetch_sub(&room->ready_count, 1);
	int fd = g->fd;
	*ret_is_slow = g->is_slow;
	free(g);
	return fd;
}

void anteroom_slow_is_over(struct anteroom *room)
{
	pthread_mutex_lock(&room->lock);
	room->slow_count--;
	pthread_mutex_unlock(&room->lock);
}

int anteroom_fd(const struct anteroom *room)
{
	return room->ready_fd;
}

struct anteroom_counts anteroom_counts(struct anteroom *room)
{
	return (struct anteroom_counts){
		.waiting = atomic_load_explicit(&room->waiting_count, memory_order_relaxed),
		.slow = atomic_load_explicit(&room->slow_count, memory_order_relaxed),
	};
}

/* --- opening and closing --- */

static bool start(struct anteroom *room, struct err *e)
{
	struct epoll_event wake_event = {.events = EPOLLIN, .data.ptr = NULL};
	pthread_attr_t attr;

	room->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	room->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	room->ready_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
	if (room->epoll_fd < 0 || room->wake_fd < 0 || room->ready_fd < 0 ||
	    epoll_ctl(room->epoll_fd, EPOLL_CTL_ADD, room->wake_fd, &wake_event) != 0)
		return err_set(e, ERR_INTERNAL, "anteroom: %s", strerror(errno));
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	int error = pthread_create(&room->thread, &attr, run, room);
	pthread_attr_destroy(&attr);
	if (error != 0)
		return err_set(e, ERR_INTERNAL, "anteroom: no thread: %s", strerror(error));
	room->has_thread = true;
	return true;
}

bool anteroom_open(const struct anteroom_options *options, struct anteroom **ret_room, struct err *e)
{
	struct anteroom *room = xcalloc(1, sizeof(*room));

	room->options = *options;
	room->epoll_fd = room->wake_fd = room->ready_fd = -1;
	room->buffer = xmalloc(FCGI_HEAD_MAX);
	pthread_mutex_init(&room->lock, NULL);
	if (start(room, e)) {
		*ret_room = room;
		return true;
	}
	anteroom_close(&room);
	return false;
}

static void close_all(struct guest *list)
{
	struct guest *g, *next;

	DL_FOREACH_SAFE (list, g, next) {
		(void)close(g->fd);
		free(g);
	}
}

static void close_fd(int fd)
{
	if (fd >= 0)
		(void)close(fd);
}

void anteroom_close(struct anteroom **room)
{
	struct anteroom *r = *room;

	*room = NULL;
	if (!r)
		return;
	if (r->has_thread) {
		pthread_mutex_lock(&r->lock);
		r->is_stopping = true;
		pthread_mutex_unlock(&r->lock);
		wake(r);
		(void)pthread_join(r->thread, NULL);
	}
	close_all(r->waiting);
	close_all(r->ready);
	close_fd(r->epoll_fd);
	close_fd(r->wake_fd);
	close_fd(r->ready_fd);
	pthread_mutex_destroy(&r->lock);
	free(r->buffer);
	free(r);
}
