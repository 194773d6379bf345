/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The heap of deadlines. Each node knows its place, so moving a deadline costs
 * log n and needs no search. Nodes are owned by whoever embeds them.
 */
#include "worker/pool/timers.h"

#include <stdlib.h>

#include "lib/xalloc.h"

static void put(struct timers *t, size_t i, struct timer_node *node)
{
	t->nodes[i] = node;
	node->place = i + 1;
}

static void sift_up(struct timers *t, size_t i)
{
	struct timer_node *node = t->nodes[i];

	while (i > 0 && t->nodes[(i - 1) / 2]->at_ms > node->at_ms) {
		put(t, i, t->nodes[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	put(t, i, node);
}

static void sift_down(struct timers *t, size_t i)
{
	struct timer_node *node = t->nodes[i];

	for (;;) {
		size_t child = 2 * i + 1;
		if (child >= t->count)
			break;
		if (child + 1 < t->count && t->nodes[child + 1]->at_ms < t->nodes[child]->at_ms)
			child++;
		if (t->nodes[child]->at_ms >= node->at_ms)
			break;
		put(t, i, t->nodes[child]);
		i = child;
	}
	put(t, i, node);
}

static void take_out(struct timers *t, struct timer_node *node)
{
	size_t i = node->place - 1;
	struct timer_node *last = t->nodes[--t->count];

	node->place = 0;
	if (last == node)
		return;
	put(t, i, last);
	sift_up(t, i);
	sift_down(t, last->place - 1);
}

void timers_set(struct timers *t, struct timer_node *node, int64_t at_ms)
{
	if (node->place != 0 && node->at_ms == at_ms)
		return;
	if (node->place != 0)
		take_out(t, node);
	node->at_ms = at_ms;
	if (at_ms == TIMER_NEVER)
		return;
	if (t->count == t->cap) {
		t->cap = t->cap == 0 ? 4 : 2 * t->cap;
		t->nodes = xrealloc(t->nodes, t->cap * sizeof(*t->nodes));
	}
	put(t, t->count++, node);
	sift_up(t, t->count - 1);
}

struct timer_node *timers_first(const struct timers *t)
{
	return t->count > 0 ? t->nodes[0] : NULL;
}

void timers_clear(struct timers *t)
{
	free(t->nodes);
	*t = (struct timers){0};
}
