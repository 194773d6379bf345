/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What other threads hand to the loop: bus messages from NATS's threads, news
 * from the lease and recovery threads. inbox_put may be called from any
 * thread; items are handled on the loop, in order, by the one handler.
 */
#ifndef WORKER_INBOX_H
#define WORKER_INBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "core/lease.h"

struct bus_msg;

enum inbox_kind {
	INBOX_CHAT,    /* msg: a chat request */
	INBOX_CANCEL,  /* msg: a turn is to be cancelled */
	INBOX_PULLED,  /* msg: an event of the loads consumer, or a status of a pull request */
	INBOX_CHANGE,  /* msg: hearth.change */
	INBOX_REPORT,  /* msg: hearth.event, while hot Apps are handed over */
	INBOX_DRAINED, /* data: what was passed to bus_drain */
	INBOX_BUS_UP,
	INBOX_BUS_DOWN,
	INBOX_BUS_CLOSED,
	INBOX_LEASE,        /* identity: this worker's new incarnation; the old one is dead */
	INBOX_LEASE_REFUSED /* the name is taken: end */
};

struct inbox_item {
	enum inbox_kind kind;
	struct bus_msg *msg;
	void *data;
	struct worker_identity identity;
};

struct inbox;
typedef void (*inbox_handler)(void *closure, struct inbox_item *item);

/* max: chats beyond so many waiting items are dropped, their senders give up by themselves; nothing else is. */
struct inbox *inbox_new(uv_loop_t *loop, size_t max, inbox_handler handler, void *closure);
/* Closes the async handle; memory goes when the loop has run. Items left are freed. */
void inbox_close(struct inbox **inbox);
/* Takes item->msg over. */
void inbox_put(struct inbox *inbox, const struct inbox_item *item);

#endif
