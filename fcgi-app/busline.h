/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The app's one connection to the bus, with its two standing subscriptions:
 * hearth.event wakes waiters, hearth.change empties the access cache. The client
 * library reconnects by itself; when it gives a connection up for good, the
 * main thread's busline_tend opens another. Requests borrow the bus, so that
 * the old one is closed only after the last of them.
 */
#ifndef FCGI_APP_BUSLINE_H
#define FCGI_APP_BUSLINE_H

#include <stdbool.h>

#include "lib/err.h"

struct access_cache;
struct bus;
struct busline;
struct settings;
struct waits;

/* settings, waits and cache live longer than it. */
bool busline_open(const struct settings *settings, struct waits *waits, struct access_cache *cache,
		  struct busline **ret_line, struct err *e) MUST_CHECK;
/* After the last busline_give. */
void busline_close(struct busline **line);
/* Never NULL; may be down. */
struct bus *busline_take(struct busline *line);
void busline_give(struct busline *line, struct bus *bus);
bool busline_is_up(struct busline *line);
/* As of the last busline_tend: asking the library each time takes its connection's lock. */
bool busline_is_clustered(const struct busline *line);
/* Main thread, about once a second: opens anew what was closed, subscribes what could not be subscribed yet. */
void busline_tend(struct busline *line);

#endif
