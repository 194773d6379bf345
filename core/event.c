/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events as JSON. Encoding writes only words from closed sets, checked ids and
 * quoted text. Parsing trusts nothing: an event that is not what the subject
 * says, or does not fit its fields, is ERR_INPUT, and the caller logs and ends it.
 */
#include "core/event.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/operation.h"
#include "lib/buf.h"
#include "lib/json.h"

#define EVENT_VERSION 1
#define EVENT_DEPTH_MAX 8
#define ALL "_all"

static const char *const prefixes[] = {
	[EVENT_LOAD] = "hearth.load.",
	[EVENT_CHANGE] = "hearth.change.",
	[EVENT_REPORT] = "hearth.event.",
};

static const char *token_of(const struct id *id)
{
	return id && id_is_set(id) ? id->text : ALL;
}

void event_subject(enum event_kind kind, const struct id *org_id, const struct id *instance_id,
		   char ret_subject[EVENT_SUBJECT_SIZE])
{
	snprintf(ret_subject, EVENT_SUBJECT_SIZE, "%s%s.%s", prefixes[kind], token_of(org_id), token_of(instance_id));
}

void event_of_operation(const struct operation *op, struct event *ret_event)
{
	*ret_event = (struct event){
		.operation_id = op->operation_id,
		.instance_id = op->instance_id,
		.org_id = op->org_id,
		.action = op->action,
		.tier = op->tier,
		.generation = op->generation,
		.source = op->source,
	};
	if (op->request_id)
		snprintf(ret_event->request_id, sizeof(ret_event->request_id), "%s", op->request_id);
}

static void add_id(struct jval *obj, const char *key, const struct id *id)
{
	jval_add_string(obj, key, id_is_set(id) ? id->text : NULL);
}

/* Nothing for "". The fields are cut to their size, perhaps within a character: its rest is left out. */
static void add_text(struct jval *obj, const char *key, const char *text)
{
	size_t len = strlen(text);

	while (!utf8_is_valid(text, len))
		len--;
	if (len > 0)
		jval_add(obj, key, jval_new_string(text, len));
}

void event_encode(const struct event *event, struct buf *out)
{
	struct jval *root = jval_new_object();
	size_t len;

	jval_add_int(root, "v", EVENT_VERSION);
	add_id(root, "operation_id", &event->operation_id);
	add_id(root, "instance_id", &event->instance_id);
	add_id(root, "org_id", &event->org_id);
	jval_add_string(root, "action", action_name(event->action));
	jval_add_string(root, "tier", tier_name(event->tier));
	jval_add_int(root, "generation", (int64_t)event->generation);
	jval_add_string(root, "source", source_name(event->source));
	add_text(root, "request_id", event->request_id);
	add_text(root, "state", event->state);
	add_text(root, "reason", event->reason);
	const char *text = jval_text(root, &len);
	buf_append(out, text, len);
	jval_free(&root);
}

/* An id, or nothing: absent, null and "" leave *ret_id empty. */
static bool read_id(const struct jval *root, const char *key, struct id *ret_id, struct err *e)
{
	const struct jval *v = jval_get(root, key);
	size_t len;

	*ret_id = (struct id){""};
	if (jval_type(v) == JVAL_NULL)
		return true;
	const char *s = jval_string(v, &len);
	if (!s || (len > 0 && !id_parse(s, len, ret_id)))
		return err_set(e, ERR_INPUT, "%s is not an id", key);
	return true;
}

/* Copies a string that fits; absent and null give "". */
static bool read_text(const struct jval *root, const char *key, char *ret_text, size_t size, struct err *e)
{
	const struct jval *v = jval_get(root, key);
	size_t len;

	ret_text[0] = '\0';
	if (jval_type(v) == JVAL_NULL)
		return true;
	const char *s = jval_string(v, &len);
	if (!s || len >= size)
		return err_set(e, ERR_INPUT, "%s is not a string below %zu bytes", key, size);
	memcpy(ret_text, s, len + 1);
	return true;
}

static bool read_words(const struct jval *root, struct event *event, struct err *e)
{
	if (!action_parse(jval_string(jval_get(root, "action"), NULL), &event->action))
		return err_set(e, ERR_INPUT, "action is not known");
	if (!tier_parse(jval_string(jval_get(root, "tier"), NULL), &event->tier))
		return err_set(e, ERR_INPUT, "tier is not known");
	if (!source_parse(jval_string(jval_get(root, "source"), NULL), &event->source))
		return err_set(e, ERR_INPUT, "source is not known");
	return true;
}

static bool read_generation(const struct jval *root, uint64_t *ret_generation, struct err *e)
{
	const struct jval *v = jval_get(root, "generation");

	if (jval_type(v) != JVAL_INT || jval_int(v) < 0)
		return err_set(e, ERR_INPUT, "generation is not a number from 0");
	*ret_generation = (uint64_t)jval_int(v);
	return true;
}

static bool read_event(const struct jval *root, struct event *event, struct err *e)
{
	if (jval_type(root) != JVAL_OBJECT || jval_int(jval_get(root, "v")) != EVENT_VERSION)
		return err_set(e, ERR_INPUT, "not an object of version %d", EVENT_VERSION);
	return read_id(root, "operation_id", &event->operation_id, e) &&
	       read_id(root, "instance_id", &event->instance_id, e) && read_id(root, "org_id", &event->org_id, e) &&
	       read_words(root, event, e) && read_generation(root, &event->generation, e) &&
	       read_text(root, "request_id", event->request_id, sizeof(event->request_id), e) &&
	       read_text(root, "state", event->state, sizeof(event->state), e) &&
	       read_text(root, "reason", event->reason, sizeof(event->reason), e);
}

/* An event may only stand on the subject that event_subject() gives its ids. */
static bool check_subject(const char *subject, const struct event *event, struct err *e)
{
	char expected[EVENT_SUBJECT_SIZE];

	for (enum event_kind kind = EVENT_LOAD; kind <= EVENT_REPORT; kind++) {
		event_subject(kind, &event->org_id, &event->instance_id, expected);
		if (strcmp(subject, expected) == 0)
			return true;
	}
	return err_set(e, ERR_INPUT, "its ids are not those of its subject");
}

bool event_parse(const char *subject, const char *data, size_t len, struct event *ret_event, struct err *e)
{
	const struct json_limits limits = {.bytes_max = EVENT_BYTES_MAX, .depth_max = EVENT_DEPTH_MAX};
	struct event event = {0};
	struct jval *root = NULL;
	bool ok = false;

	if (!jval_parse(data, len, &limits, &root, e)) {
		if (e) /* too long or too deep is as broken as the rest */
			e->code = ERR_INPUT;
		goto out;
	}
	if (!read_event(root, &event, e) || !check_subject(subject, &event, e))
		goto out;
	*ret_event = event;
	ok = true;
out:
	if (!ok)
		err_ctx(e, "event on %.100s", subject);
	jval_free(&root);
	return ok;
}

void event_msg_id(const struct id *operation_id, unsigned publish_count, char ret_msg_id[EVENT_MSG_ID_SIZE])
{
	if (publish_count == 0)
		snprintf(ret_msg_id, EVENT_MSG_ID_SIZE, "%s", operation_id->text);
	else
		snprintf(ret_msg_id, EVENT_MSG_ID_SIZE, "%s.%u", operation_id->text, publish_count);
}
