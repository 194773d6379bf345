/* SPDX-License-Identifier: Apache-2.0 */
/* Loads go into the stream under the operation's id, so that a repeat within its window counts once; changes are
 * flushed. */
#include "fcgi-app/publish.h"

#include <stdio.h>

#include "core/event.h"
#include "core/operation.h"
#include "core/settings.h"
#include "fcgi-app/access_cache.h"
#include "fcgi-app/app.h"
#include "fcgi-app/busline.h"
#include "fcgi-app/waits.h"
#include "lib/buf.h"
#include "lib/bus.h"
#include "lib/log.h"

static bool send_load(struct bus *bus, const struct event *event, const struct buf *data, int timeout_ms, struct err *e)
{
	char subject[EVENT_SUBJECT_SIZE], msg_id[EVENT_MSG_ID_SIZE];
	bool is_duplicate;

	event_subject(EVENT_LOAD, &event->org_id, &event->instance_id, subject);
	event_msg_id(&event->operation_id, 0, msg_id);
	return bus_stream_publish(bus, subject, msg_id, data->data, data->len, timeout_ms, &is_duplicate, e);
}

static bool send_change(struct bus *bus, const struct event *event, const struct buf *data, int timeout_ms,
			struct err *e)
{
	char subject[EVENT_SUBJECT_SIZE];

	event_subject(EVENT_CHANGE, &event->org_id, &event->instance_id, subject);
	return bus_publish(bus, subject, NULL, data->data, data->len, e) && bus_flush(bus, timeout_ms, e);
}

static bool send(struct app *app, const struct event *event, bool use_loads)
{
	int timeout_ms = (int)app->settings->app.publish_timeout_ms;
	struct bus *bus = busline_take(app->bus);
	struct err e = {0};
	struct buf data;
	bool ok = false;

	buf_init(&data, EVENT_BYTES_MAX);
	event_encode(event, &data);
	if (!bus_is_up(bus))
		err_set(&e, ERR_DOWN, "the bus is away");
	else if (use_loads)
		ok = send_load(bus, event, &data, timeout_ms, &e);
	else
		ok = send_change(bus, event, &data, timeout_ms, &e);
	buf_clear(&data);
	busline_give(app->bus, bus);
	if (!ok)
		log_warn("an event was not published; recovery will do it", "operation=%s instance=%s error=\"%s\"",
			 event->operation_id.text, event->instance_id.text, e.text);
	return ok;
}

bool publish_operation(struct app *app, const struct operation *op, bool use_loads)
{
	struct event event;

	event_of_operation(op, &event);
	access_cache_drop(app->cache, &op->org_id, &op->instance_id);
	waits_wake(app->waits, &op->instance_id);
	return send(app, &event, use_loads);
}

bool publish_change(struct app *app, const struct id *org_id, const struct id *instance_id, enum action action,
		    enum source source, const char *request_id)
{
	struct event event = {
		.org_id = *org_id,
		.instance_id = *instance_id,
		.action = action,
		.tier = TIER_DEMAND,
		.source = source,
	};

	snprintf(event.request_id, sizeof(event.request_id), "%s", request_id);
	access_cache_drop(app->cache, org_id, instance_id);
	if (id_is_set(instance_id))
		waits_wake(app->waits, instance_id);
	else
		waits_wake_all(app->waits);
	return send(app, &event, false);
}

void publish_forget(struct app *app)
{
	const struct id all = {""};

	access_cache_drop(app->cache, &all, &all);
}
