/* SPDX-License-Identifier: Apache-2.0 */
/* An event: its subject in the first line, the payload behind it. */
#include "core/event.h"

#include <string.h>

#include "lib/buf.h"
#include "tests/fuzz/fuzz.h"

#define UNTOUCHED 0xa5

static bool is_id(const struct id *id)
{
	struct id parsed;

	return !id_is_set(id) || id_parse(id->text, strlen(id->text), &parsed);
}

/* The kind whose subject it stands on; one there must be. */
static enum event_kind kind_of(const char *subject, const struct event *event)
{
	char expected[EVENT_SUBJECT_SIZE];

	for (enum event_kind kind = EVENT_LOAD; kind <= EVENT_REPORT; kind++) {
		event_subject(kind, &event->org_id, &event->instance_id, expected);
		if (strcmp(expected, subject) == 0)
			return kind;
	}
	MUST(!"an event on a subject of its own");
	return EVENT_LOAD;
}

static void check(const char *subject, const struct event *event)
{
	struct event again;
	struct buf out;
	struct err e = {0};

	MUST(is_id(&event->operation_id) && is_id(&event->instance_id) && is_id(&event->org_id));
	MUST(event->generation <= INT64_MAX);
	(void)kind_of(subject, event);
	buf_init(&out, 16 * EVENT_BYTES_MAX);
	event_encode(event, &out);
	MUST(!buf_has_failed(&out));
	if (out.len <= EVENT_BYTES_MAX) {
		memset(&again, 0, sizeof(again));
		MUST(event_parse(subject, out.data, out.len, &again, &e));
		MUST(id_equal(&again.operation_id, &event->operation_id) &&
		     id_equal(&again.instance_id, &event->instance_id) && id_equal(&again.org_id, &event->org_id));
		MUST(again.action == event->action && again.tier == event->tier && again.source == event->source &&
		     again.generation == event->generation);
		MUST(strcmp(again.request_id, event->request_id) == 0 && strcmp(again.state, event->state) == 0 &&
		     strcmp(again.reason, event->reason) == 0);
	}
	buf_clear(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *newline = size > 0 ? memchr(data, '\n', size) : NULL;
	size_t subject_len = newline ? (size_t)(newline - data) : size;
	size_t used = newline ? subject_len + 1 : size;
	char *subject = strndup((const char *)data, subject_len);
	struct event event, untouched;
	struct err e = {0};

	MUST(subject);
	memset(&event, UNTOUCHED, sizeof(event));
	memset(&untouched, UNTOUCHED, sizeof(untouched));
	if (event_parse(subject, (const char *)data + used, size - used, &event, &e)) {
		check(subject, &event);
	} else {
		MUST(e.code == ERR_INPUT && e.text[0]);
		MUST(memcmp(&event, &untouched, sizeof(event)) == 0);
	}
	free(subject);
	return 0;
}
