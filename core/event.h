/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What travels on hearth.load, hearth.change and hearth.event: a JSON object {"v":1,"operation_id","instance_id",
 * "org_id","action","tier","generation","source","request_id"}. An event never says what to do, only which row to look
 * at. Unknown fields are ignored. On hearth.event "state" and "reason" of the operation or copy stand beside them.
 */
#ifndef CORE_EVENT_H
#define CORE_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/names.h"
#include "lib/err.h"
#include "lib/id.h"

struct buf;
struct operation;

#define EVENT_STREAM "HEARTH_LOADS"
#define EVENT_CONSUMER "hearth-loaders"
#define EVENT_LOADS_ALL "hearth.load.>"
#define EVENT_CHANGES_ALL "hearth.change.>"
#define EVENT_EVENTS_ALL "hearth.event.>"
#define EVENT_BYTES_MAX 4096
#define EVENT_SUBJECT_SIZE 112
#define EVENT_MSG_ID_SIZE 64

struct event {
	struct id operation_id; /* "": of no operation */
	struct id instance_id;  /* "": many Apps of the org */
	struct id org_id;       /* "": many orgs */
	enum action action;
	enum tier tier;
	uint64_t generation;
	enum source source;
	char request_id[65]; /* "": none */
	char state[16];      /* hearth.event only: an op_state or app_state name, or "" */
	char reason[256];
};

enum event_kind { EVENT_LOAD, EVENT_CHANGE, EVENT_REPORT /* hearth.event */ };

/* hearth.<kind>.<org>.<instance>; `_all` stands for an id that is not set. */
void event_subject(enum event_kind kind, const struct id *org_id, const struct id *instance_id,
		   char ret_subject[EVENT_SUBJECT_SIZE]);
void event_of_operation(const struct operation *op, struct event *ret_event);
/* Appends the JSON. */
void event_encode(const struct event *event, struct buf *out);
/* ERR_INPUT for anything that is not such an object or whose ids differ from the subject's. */
bool event_parse(const char *subject, const char *data, size_t len, struct event *ret_event, struct err *e) MUST_CHECK;
/* "<operation_id>" first, "<operation_id>.<n>" when published again. */
void event_msg_id(const struct id *operation_id, unsigned publish_count, char ret_msg_id[EVENT_MSG_ID_SIZE]);

#endif
