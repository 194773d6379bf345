/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening, reopening, subscribing. Handlers run on the library's threads and
 * only look at the subject: ids in it were checked by whoever published, and are
 * checked again here.
 *
 * After a gap in the connection changes may have been missed: the cache is
 * emptied and every waiter reads its row.
 */
#include "fcgi-app/busline.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/event.h"
#include "core/settings.h"
#include "fcgi-app/access_cache.h"
#include "fcgi-app/waits.h"
#include "lib/bus.h"
#include "lib/log.h"
#include "lib/xalloc.h"

/* A worker sends one message per word as fast as it can, a client reads as it can: room for a long answer. */
#define CALL_QUEUE_MAX 16384

struct busline {
	const struct settings *settings;
	struct waits *waits;
	struct access_cache *cache;
	pthread_mutex_t lock;
	pthread_cond_t is_idle;
	struct bus *bus;
	unsigned users; /* of bus */
	struct bus_sub *events, *changes;
	_Atomic bool is_closed; /* the library gave the connection up */
	_Atomic bool is_clustered;
	_Atomic bool is_ending; /* we close it ourselves: no news */
};

/* --- on the library's threads --- */

static void on_state(void *closure, bool is_up)
{
	struct busline *line = closure;
	const struct id all = {""};

	if (is_up)
		log_info("connected to the bus", NULL);
	else if (!line->is_ending)
		log_warn("the bus is away: chats answer 503, events are published later", NULL);
	access_cache_drop(line->cache, &all, &all);
	waits_wake_all(line->waits);
}

static void on_closed(void *closure)
{
	struct busline *line = closure;

	atomic_store(&line->is_closed, true);
}

/* hearth.<kind>.<org>.<instance>; `_all`, and what is no id, gives "". */
static void ids_of(const char *subject, struct id *ret_org, struct id *ret_instance)
{
	const char *instance = strrchr(subject, '.');
	const char *org = instance;

	*ret_org = *ret_instance = (struct id){""};
	while (org && org > subject && org[-1] != '.')
		org--;
	if (!instance)
		return;
	(void)id_parse(instance + 1, strlen(instance + 1), ret_instance);
	(void)id_parse(org, (size_t)(instance - org), ret_org);
}

static void on_event(void *closure, struct bus_msg *m)
{
	struct busline *line = closure;
	struct id org, instance;

	ids_of(bus_msg_subject(m), &org, &instance);
	if (id_is_set(&instance))
		waits_wake(line->waits, &instance);
	bus_msg_free(&m);
}

static void on_change(void *closure, struct bus_msg *m)
{
	struct busline *line = closure;
	struct id org, instance;

	ids_of(bus_msg_subject(m), &org, &instance);
	access_cache_drop(line->cache, &org, &instance);
	bus_msg_free(&m);
}

/* --- opening --- */

static bool open_bus(struct busline *line, struct bus **ret_bus, struct err *e)
{
	struct bus_options options = {0};

	settings_bus_options(line->settings, SETTINGS_APP, &options);
	options.call_queue_max = CALL_QUEUE_MAX;
	options.state_changed = on_state;
	options.closed = on_closed;
	options.closure = line;
	return bus_open(&options, ret_bus, e);
}

static void subscribe(struct busline *line)
{
	struct err e = {0};

	if (!line->events && !bus_subscribe(line->bus, EVENT_EVENTS_ALL, NULL, 0, on_event, line, &line->events, &e))
		log_debug("not subscribed to events yet", "error=\"%s\"", e.text);
	if (!line->changes &&
	    !bus_subscribe(line->bus, EVENT_CHANGES_ALL, NULL, 0, on_change, line, &line->changes, &e))
		log_debug("not subscribed to changes yet", "error=\"%s\"", e.text);
}

bool busline_open(const struct settings *settings, struct waits *waits, struct access_cache *cache,
		  struct busline **ret_line, struct err *e)
{
	struct busline *line = xcalloc(1, sizeof(*line));

	line->settings = settings;
	line->waits = waits;
	line->cache = cache;
	pthread_mutex_init(&line->lock, NULL);
	pthread_cond_init(&line->is_idle, NULL);
	if (!open_bus(line, &line->bus, e)) {
		busline_close(&line);
		return false;
	}
	busline_tend(line);
	*ret_line = line;
	return true;
}

void busline_close(struct busline **line)
{
	if (!*line)
		return;
	(*line)->is_ending = true;
	if ((*line)->bus)
		bus_close(&(*line)->bus);
	pthread_cond_destroy(&(*line)->is_idle);
	pthread_mutex_destroy(&(*line)->lock);
	free(*line);
	*line = NULL;
}

/* --- lending --- */

struct bus *busline_take(struct busline *line)
{
	pthread_mutex_lock(&line->lock);
	struct bus *bus = line->bus;
	line->users++;
	pthread_mutex_unlock(&line->lock);
	return bus;
}

void busline_give(struct busline *line, struct bus *bus)
{
	(void)bus;
	pthread_mutex_lock(&line->lock);
	if (--line->users == 0)
		pthread_cond_signal(&line->is_idle);
	pthread_mutex_unlock(&line->lock);
}

bool busline_is_up(struct busline *line)
{
	struct bus *bus = busline_take(line);
	bool is_up = bus_is_up(bus);

	busline_give(line, bus);
	return is_up;
}

/* Calls on a closed connection end at once, so a moment without users comes soon. */
static void replace_bus(struct busline *line, struct bus *bus)
{
	struct bus *old;

	pthread_mutex_lock(&line->lock);
	while (line->users > 0)
		pthread_cond_wait(&line->is_idle, &line->lock);
	old = line->bus;
	line->bus = bus;
	pthread_mutex_unlock(&line->lock);
	bus_close(&old);
	line->events = line->changes = NULL; /* they went with it */
}

static void reopen(struct busline *line)
{
	struct bus *bus = NULL;
	struct err e = {0};

	atomic_store(&line->is_closed, false);
	if (!open_bus(line, &bus, &e)) {
		log_error("the bus connection could not be opened anew, trying again", "error=\"%s\"", e.text);
		atomic_store(&line->is_closed, true);
		return;
	}
	replace_bus(line, bus);
	log_warn("the bus connection was closed for good and is opened anew", NULL);
}

void busline_tend(struct busline *line)
{
	if (atomic_load(&line->is_closed))
		reopen(line);
	if (!line->events || !line->changes)
		subscribe(line);
	atomic_store(&line->is_clustered, bus_is_clustered(line->bus)); /* only this thread replaces the bus */
}

bool busline_is_clustered(const struct busline *line)
{
	return atomic_load(&line->is_clustered);
}
