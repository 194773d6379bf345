/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections whose request has not come yet. They wait here, all on one thread, so
 * that a peer that is silent or slow costs a descriptor and not a serving thread.
 * A connection leaves
 *
 *   whole: its parameters have come, and its body as far as that fits;
 *   slow: its parameters have come, its body is too long to be waited for here or has kept us waiting. At most
 *   slow_max of these are with the serving threads at a time;
 *   or closed: after timeout_ms, when its peer has gone, when it sends what is no request, or as the one that has
 * waited longest when there are more than connections_max.
 *
 * All bytes stay in the socket: they are only looked at.
 */
#ifndef FCGI_APP_ANTEROOM_H
#define FCGI_APP_ANTEROOM_H

#include <stdbool.h>

#include "lib/err.h"

struct anteroom;

struct anteroom_options {
	int timeout_ms;
	unsigned slow_max;
	unsigned connections_max;
};

/* Starts its thread; signals are blocked already. */
bool anteroom_open(const struct anteroom_options *options, struct anteroom **ret_room, struct err *e) MUST_CHECK;
/* Ends the thread and closes what waits. Accepts NULL. After the last call of anything else. */
void anteroom_close(struct anteroom **room);

enum glance {
	GLANCE_WHOLE,
	GLANCE_WAIT, /* for anteroom_put */
	GLANCE_CLOSE /* no request, or none any more */
};
/*
 * Looks at a connection that was just accepted; patience_ms: so long it waits for the first bytes. buffer:
 * FCGI_HEAD_MAX bytes of the caller's, wiped afterwards. *ret_has_input_end: nothing more will be read.
 */
enum glance anteroom_glance(int fd, void *buffer, int patience_ms, bool *ret_has_input_end);

/* Any thread. The connection is the room's from here on. */
void anteroom_put(struct anteroom *room, int fd);
/* A connection to be served, now the caller's; -1: none. *ret_is_slow: anteroom_slow_is_over when it is done. */
int anteroom_take(struct anteroom *room, bool *ret_is_slow);
void anteroom_slow_is_over(struct anteroom *room);
/* To be polled: readable while there is something to take. */
int anteroom_fd(const struct anteroom *room);

struct anteroom_counts {
	unsigned waiting;
	unsigned slow; /* with the serving threads */
};
struct anteroom_counts anteroom_counts(struct anteroom *room);

#endif
