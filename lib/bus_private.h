/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the bus share: bus.c (connection, publishing,
 * subscriptions), bus_call.c (requests), bus_stream.c (JetStream). Only these
 * include nats.h.
 *
 * Locks: bus->mutex, calls->mutex, then call->mutex, never the other way round;
 * none is held while a handler or a function of the client library runs.
 */
#ifndef LIB_BUS_PRIVATE_H
#define LIB_BUS_PRIVATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <nats/nats.h>

#include "lib/bus.h"

#define BUS_SUBJECT_MAX 512

struct call_table;
struct drain_job;

struct bus {
	struct bus_options options; /* strings are ours */
	natsOptions *nats_options;
	natsConnection *connection;
	char inbox[160]; /* <inbox_prefix>.<unique> */
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool is_up, is_state_known;
	bool is_open;             /* bus_open has succeeded: from here on its owner is told of the end */
	bool is_closing;          /* bus_close has begun */
	bool is_ended, is_closed; /* on_closed has begun, is done */
	struct bus_sub *subs;     /* in use or being drained */
	struct bus_sub *dead;     /* at their end, not destroyed yet */
	struct call_table *calls;
	struct bus_sub *inbox_sub; /* where the replies to all calls come in */
	pthread_t drainer;
	bool has_drainer;
	struct drain_job *drain_jobs;
};

/* --- bus.c --- */

/* Sets what a failed function of the client library means to a caller; returns false. */
bool bus_fail(natsStatus status, const char *what, struct err *e);
/* Tokens without blanks and wildcards. */
bool bus_subject_is_plain(const char *subject);

/* --- bus_call.c --- */

struct call_table *call_table_new(void);
void call_table_free(struct call_table **table);
/* The handler of the inbox subscription; closure is the bus. */
void call_table_deliver(void *closure, struct bus_msg *m);
/* Every open call ends behind what it has received. */
void call_table_connection_lost(struct call_table *table);
/* bus_call_start with a Nats-Msg-Id header where msg_id is not NULL. */
bool call_start(struct bus *bus, const char *subject, const char *msg_id, const void *data, size_t len,
		struct bus_call **ret_call, struct err *e) MUST_CHECK;

#endif
