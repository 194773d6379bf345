/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A locked list and a uv_async. A producer appends and wakes; the loop takes
 * the whole list and handles it without the lock. Most items are small, so a
 * lease's identity is carried by pointer.
 */
#include "worker/inbox.h"

#include <pthread.h>
#include <stdlib.h>

#include "lib/bus.h"
#include "lib/xalloc.h"

struct node {
	struct node *next;
	enum inbox_kind kind;
	struct bus_msg *msg;
	void *data;
	struct worker_identity *identity;
};

struct inbox {
	uv_async_t async;
	pthread_mutex_t lock;
	struct node *first, **tail;
	size_t count, max;
	inbox_handler handler;
	void *closure;
};

static struct node *take_all(struct inbox *inbox)
{
	pthread_mutex_lock(&inbox->lock);
	struct node *first = inbox->first;
	inbox->first = NULL;
	inbox->tail = &inbox->first;
	inbox->count = 0;
	pthread_mutex_unlock(&inbox->lock);
	return first;
}

static void on_async(uv_async_t *async)
{
	struct inbox *inbox = async->data;
	struct node *node = take_all(inbox);

	while (node != NULL) {
		struct node *next = node->next;
		struct inbox_item item = {.kind = node->kind, .msg = node->msg, .data = node->data};
		if (node->identity != NULL)
			item.identity = *node->identity;
		free(node->identity);
		free(node);
		inbox->handler(inbox->closure, &item);
		bus_msg_free(&item.msg);
		node = next;
	}
}

struct inbox *inbox_new(uv_loop_t *loop, size_t max, inbox_handler handler, void *closure)
{
	struct inbox *inbox = xcalloc(1, sizeof(*inbox));

	pthread_mutex_init(&inbox->lock, NULL);
	inbox->tail = &inbox->first;
	inbox->max = max;
	inbox->handler = handler;
	inbox->closure = closure;
	uv_async_init(loop, &inbox->async, on_async);
	inbox->async.data = inbox;
	return inbox;
}

static void on_closed(uv_handle_t *handle)
{
	struct inbox *inbox = handle->data;

	pthread_mutex_destroy(&inbox->lock);
	free(inbox);
}

void inbox_close(struct inbox **inbox_p)
{
	struct inbox *inbox = *inbox_p;

	if (inbox == NULL)
		return;
	struct node *node = take_all(inbox);
	while (node != NULL) {
		struct node *next = node->next;
		bus_msg_free(&node->msg);
		free(node->identity);
		free(node);
		node = next;
	}
	uv_close((uv_handle_t *)&inbox->async, on_closed);
	*inbox_p = NULL;
}

void inbox_put(struct inbox *inbox, const struct inbox_item *item)
{
	struct node *node = xcalloc(1, sizeof(*node));

	node->kind = item->kind;
	node->msg = item->msg;
	node->data = item->data;
	if (item->kind == INBOX_LEASE) {
		node->identity = xmalloc(sizeof(*node->identity));
		*node->identity = item->identity;
	}
	pthread_mutex_lock(&inbox->lock);
	bool is_full = inbox->count >= inbox->max && item->kind == INBOX_CHAT;
	if (!is_full) {
		*inbox->tail = node;
		inbox->tail = &node->next;
		inbox->count++;
	}
	pthread_mutex_unlock(&inbox->lock);
	if (is_full) {
		bus_msg_free(&node->msg);
		free(node);
		return;
	}
	uv_async_send(&inbox->async);
}
