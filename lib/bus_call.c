/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls: requests whose replies come to <inbox>.c.<token>, all over the
 * connection's one permanent subscription, as subscriptions that come and go with
 * each request would cost more and are where the client library is weakest.
 *
 * The token names a slot of the table and the slot's generation, so that a late
 * reply to an ended call finds nobody. Calls are used again and freed with their
 * table, so a reply is handed over, and its waiter woken, under no lock of the table:
 * one that was ended meanwhile has another generation, and whoever is woken by
 * mistake looks and goes on waiting.
 */
#include "lib/bus_private.h"
#include "lib/cond.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "lib/xalloc.h"

#define QUEUE_MAX_DEFAULT 1024
#define STATUS_NO_RESPONDERS 503

struct reply {
	struct bus_msg *m;
	struct reply *next;
};

struct bus_call {
	struct call_table *table;
	uint32_t slot;
	struct bus_call *next_free; /* under the table's mutex */
	pthread_mutex_t mutex;      /* what follows */
	pthread_cond_t changed;
	bool is_open;
	uint32_t generation;
	struct reply *first, **end;
	size_t count, count_max;
	bool is_overflown, has_no_responders, is_down;
	int fd; /* -1 until asked for */
	bool is_fd_readable;
};

struct call_table {
	pthread_mutex_t mutex;
	struct bus_call **calls; /* by slot */
	uint32_t count;
	struct bus_call *first_free;
};

/* --- the table --- */

struct call_table *call_table_new(void)
{
	struct call_table *table = xcalloc(1, sizeof(*table));

	(void)pthread_mutex_init(&table->mutex, NULL);
	return table;
}

void call_table_free(struct call_table **table)
{
	struct call_table *t = *table;

	*table = NULL;
	if (!t)
		return;
	for (uint32_t i = 0; i < t->count; i++) {
		(void)pthread_cond_destroy(&t->calls[i]->changed);
		(void)pthread_mutex_destroy(&t->calls[i]->mutex);
		free(t->calls[i]);
	}
	(void)pthread_mutex_destroy(&t->mutex);
	free(t->calls);
	free(t);
}

/* With the mutex held and no call free. */
static void table_grow(struct call_table *table)
{
	uint32_t count = table->count > 0 ? 2 * table->count : 64;

	table->calls = xrealloc(table->calls, count * sizeof(*table->calls));
	for (uint32_t i = table->count; i < count; i++) {
		struct bus_call *call = xcalloc(1, sizeof(*call));

		(void)pthread_mutex_init(&call->mutex, NULL);
		cond_init(&call->changed);
		call->table = table;
		call->slot = i;
		call->fd = -1;
		call->next_free = table->first_free;
		table->first_free = call;
		table->calls[i] = call;
	}
	table->count = count;
}

static struct bus_call *table_take(struct call_table *table)
{
	struct bus_call *call;

	(void)pthread_mutex_lock(&table->mutex);
	if (!table->first_free)
		table_grow(table);
	call = table->first_free;
	table->first_free = call->next_free;
	(void)pthread_mutex_unlock(&table->mutex);
	return call;
}

static void table_give(struct bus_call *call)
{
	struct call_table *table = call->table;

	(void)pthread_mutex_lock(&table->mutex);
	call->next_free = table->first_free;
	table->first_free = call;
	(void)pthread_mutex_unlock(&table->mutex);
}

/* <slot>-<generation>, both in hexadecimal. */
static bool parse_token(const char *subject, uint32_t *ret_slot, uint32_t *ret_generation)
{
	const char *token = strrchr(subject, '.');
	char *rest;

	if (!token)
		return false;
	*ret_slot = (uint32_t)strtoul(token + 1, &rest, 16);
	if (rest == token + 1 || *rest != '-')
		return false;
	*ret_generation = (uint32_t)strtoul(rest + 1, &rest, 16);
	return *rest == '\0';
}

/* NULL for what is no slot of ours. Whether the call in it is the one that is meant, its generation tells. */
static struct bus_call *table_find(struct call_table *table, uint32_t slot)
{
	struct bus_call *call = NULL;

	(void)pthread_mutex_lock(&table->mutex);
	if (slot < table->count)
		call = table->calls[slot];
	(void)pthread_mutex_unlock(&table->mutex);
	return call;
}

/* --- receiving --- */

/* With the call's mutex held: the file descriptor is readable while there is something to be had without waiting. */
static void show_on_fd(struct bus_call *call)
{
	bool is_readable = call->first || call->is_overflown || call->has_no_responders || call->is_down;
	uint64_t n = 1;

	if (call->fd < 0 || is_readable == call->is_fd_readable)
		return;
	call->is_fd_readable = is_readable;
	if (is_readable)
		(void)!write(call->fd, &n, sizeof(n));
	else
		(void)!read(call->fd, &n, sizeof(n));
}

static void queue_add(struct bus_call *call, struct bus_msg *m)
{
	struct reply *reply = xmalloc(sizeof(*reply));

	*reply = (struct reply){.m = m};
	*call->end = reply;
	call->end = &reply->next;
	call->count++;
}

static struct bus_msg *queue_take(struct bus_call *call)
{
	struct reply *reply = call->first;
	struct bus_msg *m = reply->m;

	call->first = reply->next;
	if (!call->first)
		call->end = &call->first;
	call->count--;
	free(reply);
	return m;
}

/* With the call's mutex held. NULL, or m where there is no place for it. */
static struct bus_msg *call_receive(struct bus_call *call, struct bus_msg *m)
{
	if (bus_msg_status(m) == STATUS_NO_RESPONDERS) {
		call->has_no_responders = true;
	} else if (call->is_overflown || call->count == call->count_max) {
		call->is_overflown = true;
	} else {
		queue_add(call, m);
		m = NULL;
	}
	show_on_fd(call);
	return m;
}

void call_table_deliver(void *closure, struct bus_msg *m)
{
	struct bus_call *call = NULL;
	uint32_t slot, generation;

	if (parse_token(bus_msg_subject(m), &slot, &generation))
		call = table_find(((struct bus *)closure)->calls, slot);
	if (call) {
		(void)pthread_mutex_lock(&call->mutex);
		if (call->is_open && call->generation == generation)
			m = call_receive(call, m);
		(void)pthread_mutex_unlock(&call->mutex);
		/* Behind the unlock, so that whoever wakes need not wait for it. */
		(void)pthread_cond_signal(&call->changed);
	}
	bus_msg_free(&m);
}

void call_table_connection_lost(struct call_table *table)
{
	(void)pthread_mutex_lock(&table->mutex);
	for (uint32_t i = 0; i < table->count; i++) {
		struct bus_call *call = table->calls[i];

		(void)pthread_mutex_lock(&call->mutex);
		call->is_down = true;
		if (call->is_open)
			show_on_fd(call);
		(void)pthread_mutex_unlock(&call->mutex);
		(void)pthread_cond_signal(&call->changed);
	}
	(void)pthread_mutex_unlock(&table->mutex);
}

/* --- calling --- */

static struct bus_call *call_open(struct bus *bus)
{
	struct bus_call *call = table_take(bus->calls);

	(void)pthread_mutex_lock(&call->mutex);
	call->is_open = true;
	call->generation++;
	call->first = NULL;
	call->end = &call->first;
	call->count = 0;
	call->count_max = bus->options.call_queue_max > 0 ? bus->options.call_queue_max : QUEUE_MAX_DEFAULT;
	call->is_overflown = call->has_no_responders = call->is_down = call->is_fd_readable = false;
	(void)pthread_mutex_unlock(&call->mutex);
	return call;
}

static bool publish_with_id(struct bus *bus, const char *subject, const char *reply, const char *msg_id,
			    const void *data, size_t len, struct err *e)
{
	natsMsg *msg = NULL;
	natsStatus s;

	if (!bus_subject_is_plain(subject) || len > bus_payload_max(bus))
		return err_set(e, ERR_INPUT, "not a message to publish: %.100s, %zu bytes", subject, len);
	s = natsMsg_Create(&msg, subject, reply, data, (int)len);
	if (s == NATS_OK)
		s = natsMsgHeader_Set(msg, "Nats-Msg-Id", msg_id);
	if (s == NATS_OK)
		s = natsConnection_PublishMsg(bus->connection, msg);
	natsMsg_Destroy(msg);
	if (s == NATS_TIMEOUT)
		s = NATS_IO_ERROR; /* the write deadline: the connection is of no use */
	return s == NATS_OK || bus_fail(s, subject, e);
}

bool call_start(struct bus *bus, const char *subject, const char *msg_id, const void *data, size_t len,
		struct bus_call **ret_call, struct err *e)
{
	struct bus_call *call = call_open(bus);
	char reply[BUS_SUBJECT_MAX];
	bool ok;

	(void)snprintf(reply, sizeof(reply), "%s.c.%" PRIx32 "-%" PRIx32, bus->inbox, call->slot, call->generation);
	if (msg_id)
		ok = publish_with_id(bus, subject, reply, msg_id, data, len, e);
	else
		ok = bus_publish(bus, subject, reply, data, len, e);
	if (!ok) {
		bus_call_end(&call);
		return false;
	}
	*ret_call = call;
	return true;
}

bool bus_call_start(struct bus *bus, const char *subject, const void *data, size_t len, struct bus_call **ret_call,
		    struct err *e)
{
	return call_start(bus, subject, NULL, data, len, ret_call, e);
}

/* With the call's mutex held. BUS_TIMEOUT: nothing there. */
static enum bus_next look(struct bus_call *call, struct bus_msg **ret_msg)
{
	if (call->first) {
		*ret_msg = queue_take(call);
		show_on_fd(call);
		return BUS_MSG;
	}
	if (call->is_overflown)
		return BUS_OVERFLOW;
	if (call->has_no_responders)
		return BUS_NO_RESPONDERS;
	return call->is_down ? BUS_DOWN : BUS_TIMEOUT;
}

enum bus_next bus_call_next(struct bus_call *call, int timeout_ms, struct bus_msg **ret_msg)
{
	struct timespec deadline = cond_deadline(timeout_ms);
	enum bus_next next;
	int rc = timeout_ms > 0 ? 0 : ETIMEDOUT;

	(void)pthread_mutex_lock(&call->mutex);
	while ((next = look(call, ret_msg)) == BUS_TIMEOUT && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&call->changed, &call->mutex, &deadline);
	(void)pthread_mutex_unlock(&call->mutex);
	return next;
}

void bus_call_end(struct bus_call **call)
{
	struct bus_call *c = *call;

	*call = NULL;
	if (!c)
		return;
	(void)pthread_mutex_lock(&c->mutex);
	c->is_open = false;
	(void)pthread_mutex_unlock(&c->mutex);
	while (c->first) { /* nobody adds to it any more */
		struct bus_msg *m = queue_take(c);

		bus_msg_free(&m);
	}
	if (c->fd >= 0)
		(void)close(c->fd);
	c->fd = -1;
	table_give(c);
}

int bus_call_fd(struct bus_call *call)
{
	int fd;

	(void)pthread_mutex_lock(&call->mutex);
	if (call->fd < 0) {
		call->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		call->is_fd_readable = false;
		show_on_fd(call);
	}
	fd = call->fd;
	(void)pthread_mutex_unlock(&call->mutex);
	return fd;
}
