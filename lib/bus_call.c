/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls: requests whose replies come to <inbox>.c.<token>, all over the
 * connection's one permanent subscription, as subscriptions that come and go with
 * each request would cost more and are where the client library is weakest.
 *
 * The token names a slot of the table and the slot's generation, so that a late
 * reply to an ended call finds nobody. The table's mutex is held while a reply
 * is handed to a call: whoever ended a call under it can free the call.
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
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	struct reply *first, **end;
	size_t count, count_max;
	bool is_overflown, has_no_responders, is_down;
	int fd; /* -1 until asked for */
	bool is_fd_readable;
};

struct call_slot {
	struct bus_call *call; /* NULL: free */
	uint32_t generation;
	uint32_t next_free;
};

struct call_table {
	pthread_mutex_t mutex;
	struct call_slot *slots;
	uint32_t count;
	uint32_t first_free; /* count: none */
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
	(void)pthread_mutex_destroy(&t->mutex);
	free(t->slots);
	free(t);
}

/* With the mutex held and no slot free. */
static void table_grow(struct call_table *table)
{
	uint32_t count = table->count > 0 ? 2 * table->count : 64;

	table->slots = xrealloc(table->slots, count * sizeof(*table->slots));
	for (uint32_t i = table->count; i < count; i++)
		table->slots[i] = (struct call_slot){.next_free = i + 1};
	table->first_free = table->count;
	table->count = count;
}

/* Returns the generation of the call's slot. */
static uint32_t table_add(struct call_table *table, struct bus_call *call)
{
	struct call_slot *slot;
	uint32_t generation;

	(void)pthread_mutex_lock(&table->mutex);
	if (table->first_free == table->count)
		table_grow(table);
	call->slot = table->first_free;
	slot = &table->slots[call->slot];
	table->first_free = slot->next_free;
	slot->call = call;
	generation = ++slot->generation;
	(void)pthread_mutex_unlock(&table->mutex);
	return generation;
}

static void table_remove(struct call_table *table, const struct bus_call *call)
{
	struct call_slot *slot;

	(void)pthread_mutex_lock(&table->mutex);
	slot = &table->slots[call->slot];
	slot->call = NULL;
	slot->next_free = table->first_free;
	table->first_free = call->slot;
	(void)pthread_mutex_unlock(&table->mutex);
}

/* With the mutex held. NULL for an ended call, and for what is no token of ours. */
static struct bus_call *table_find(struct call_table *table, const char *subject)
{
	const char *token = strrchr(subject, '.');
	uint32_t slot, generation;

	if (!token || sscanf(token, ".%" SCNx32 "-%" SCNx32, &slot, &generation) != 2)
		return NULL;
	if (slot >= table->count || table->slots[slot].generation != generation)
		return NULL;
	return table->slots[slot].call;
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

/* Takes m over. */
static void call_receive(struct bus_call *call, struct bus_msg *m)
{
	(void)pthread_mutex_lock(&call->mutex);
	if (bus_msg_status(m) == STATUS_NO_RESPONDERS) {
		call->has_no_responders = true;
	} else if (call->is_overflown || call->count == call->count_max) {
		call->is_overflown = true;
	} else {
		queue_add(call, m);
		m = NULL;
	}
	show_on_fd(call);
	(void)pthread_cond_signal(&call->changed);
	(void)pthread_mutex_unlock(&call->mutex);
	bus_msg_free(&m);
}

void call_table_deliver(void *closure, struct bus_msg *m)
{
	struct call_table *table = ((struct bus *)closure)->calls;
	struct bus_call *call;

	(void)pthread_mutex_lock(&table->mutex);
	call = table_find(table, bus_msg_subject(m));
	if (call)
		call_receive(call, m);
	(void)pthread_mutex_unlock(&table->mutex);
	if (!call)
		bus_msg_free(&m);
}

void call_table_connection_lost(struct call_table *table)
{
	(void)pthread_mutex_lock(&table->mutex);
	for (uint32_t i = 0; i < table->count; i++) {
		struct bus_call *call = table->slots[i].call;

		if (!call)
			continue;
		(void)pthread_mutex_lock(&call->mutex);
		call->is_down = true;
		show_on_fd(call);
		(void)pthread_cond_signal(&call->changed);
		(void)pthread_mutex_unlock(&call->mutex);
	}
	(void)pthread_mutex_unlock(&table->mutex);
}

/* --- calling --- */

static struct bus_call *call_new(struct bus *bus)
{
	struct bus_call *call = xcalloc(1, sizeof(*call));

	(void)pthread_mutex_init(&call->mutex, NULL);
	cond_init(&call->changed);
	call->table = bus->calls;
	call->end = &call->first;
	call->count_max = bus->options.call_queue_max > 0 ? bus->options.call_queue_max : QUEUE_MAX_DEFAULT;
	call->fd = -1;
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
	struct bus_call *call = call_new(bus);
	uint32_t generation = table_add(call->table, call);
	char reply[BUS_SUBJECT_MAX];
	bool ok;

	(void)snprintf(reply, sizeof(reply), "%s.c.%" PRIx32 "-%" PRIx32, bus->inbox, call->slot, generation);
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
	table_remove(c->table, c);
	while (c->first) {
		struct bus_msg *m = queue_take(c);

		bus_msg_free(&m);
	}
	if (c->fd >= 0)
		(void)close(c->fd);
	(void)pthread_cond_destroy(&c->changed);
	(void)pthread_mutex_destroy(&c->mutex);
	free(c);
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
