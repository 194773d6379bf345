/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JetStream by its own subjects instead of the client library's functions: so
 * publishing into a stream and management share the one inbox, need no
 * permission beyond the subject named here, and block nobody but the caller.
 * (The library's pull subscription overruns its list, see DESIGN.)
 *
 * Permissions to publish: $JS.API.STREAM.CREATE.S, $JS.API.STREAM.UPDATE.S,
 * $JS.API.STREAM.DELETE.S (only after its store vanished under the running
 * server), $JS.API.CONSUMER.DURABLE.CREATE.S.C, $JS.API.CONSUMER.INFO.S.C,
 * $JS.API.CONSUMER.MSG.NEXT.S.C, $JS.ACK.S.C.>.
 */
#include "lib/bus_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "lib/json.h"

#define ACK_PREFIX "$JS.ACK."
#define NS_PER_S INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)
#define ANSWER_BYTES_MAX (1024 * 1024)
#define ANSWER_DEPTH_MAX 16

/* The server's err_code, https://github.com/nats-io/nats-server/blob/main/server/errors.json */
#define JS_CONSUMER_STORE_FAILED 10012
#define JS_STREAM_NAME_EXISTS 10058

/* --- answers --- */

static enum err_code code_of_answer(int64_t http_code)
{
	return http_code == 404 ? ERR_MISSING : http_code >= 500 ? ERR_DOWN : ERR_INTERNAL;
}

/* The error member of an answer; *ret_number is its err_code, 0 where there is none. */
static bool check_answer(const struct jval *answer, int64_t *ret_number, struct err *e)
{
	const struct jval *error = jval_get(answer, "error");
	const char *text;

	*ret_number = 0;
	if (!error)
		return true;
	*ret_number = jval_int(jval_get(error, "err_code"));
	text = jval_string(jval_get(error, "description"), NULL);
	return err_set(e, code_of_answer(jval_int(jval_get(error, "code"))), "%s (JetStream error %" PRId64 ")",
		       text ? text : "refused", *ret_number);
}

static bool parse_answer(const struct bus_msg *m, struct jval **ret_answer, struct err *e)
{
	const struct json_limits limits = {.bytes_max = ANSWER_BYTES_MAX, .depth_max = ANSWER_DEPTH_MAX};
	size_t len;
	const char *text = bus_msg_data(m, &len);

	if (!jval_parse(text, len, &limits, ret_answer, e)) {
		if (e)
			e->code = ERR_INTERNAL;
		return err_ctx(e, "an answer of JetStream");
	}
	return true;
}

/* Waits for the one answer to a call and ends the call. timeout_code: what no answer in time is to the caller. */
static bool take_answer(struct bus_call *call, int timeout_ms, enum err_code timeout_code, struct jval **ret_answer,
			struct err *e)
{
	struct bus_msg *m = NULL;
	bool ok = false;

	switch (bus_call_next(call, timeout_ms, &m)) {
	case BUS_MSG:
		ok = parse_answer(m, ret_answer, e);
		bus_msg_free(&m);
		break;
	case BUS_NO_RESPONDERS:
		err_set(e, ERR_DOWN, "no stream, or no JetStream, takes it");
		break;
	case BUS_DOWN:
		err_set(e, timeout_code == ERR_TIMEOUT ? ERR_DOWN : timeout_code,
			"the connection was lost before the answer");
		break;
	case BUS_TIMEOUT:
	case BUS_OVERFLOW:
		err_set(e, timeout_code, "no answer within %d ms", timeout_ms);
		break;
	}
	bus_call_end(&call);
	return ok;
}

/* --- publishing --- */

bool bus_stream_publish_start(struct bus *bus, const char *subject, const char *msg_id, const void *data, size_t len,
			      struct bus_call **ret_call, struct err *e)
{
	return call_start(bus, subject, msg_id, data, len, ret_call, e);
}

bool bus_stream_publish_end(struct bus_call **call, int timeout_ms, bool *ret_is_duplicate, struct err *e)
{
	struct bus_call *taken = *call;
	struct jval *answer = NULL;
	int64_t number;
	bool ok;

	*call = NULL;
	if (!take_answer(taken, timeout_ms, ERR_UNCERTAIN, &answer, e))
		return false;
	ok = check_answer(answer, &number, e);
	if (!ok && e)
		e->code = ERR_DOWN;
	if (ok && !jval_has(answer, "stream"))
		ok = err_set(e, ERR_DOWN, "not a stream's acknowledgement");
	if (ok && ret_is_duplicate)
		*ret_is_duplicate = jval_bool(jval_get(answer, "duplicate"));
	jval_free(&answer);
	return ok;
}

bool bus_stream_publish(struct bus *bus, const char *subject, const char *msg_id, const void *data, size_t len,
			int timeout_ms, bool *ret_is_duplicate, struct err *e)
{
	struct bus_call *call = NULL;

	if (!bus_stream_publish_start(bus, subject, msg_id, data, len, &call, e))
		return false;
	return bus_stream_publish_end(&call, timeout_ms, ret_is_duplicate, e) || err_ctx(e, "%.100s", subject);
}

/* --- management --- */

/* Asks $JS.API.<what>. *ret_number is the server's err_code when it refused. */
static bool ask(struct bus *bus, const char *what, const struct jval *body, int timeout_ms, struct jval **ret_answer,
		int64_t *ret_number, struct err *e)
{
	char subject[BUS_SUBJECT_MAX];
	size_t len = 0;
	const char *text = body ? jval_text(body, &len) : NULL;
	struct bus_call *call = NULL;
	struct jval *answer = NULL;

	*ret_number = 0;
	(void)snprintf(subject, sizeof(subject), "$JS.API.%s", what);
	if (!bus_call_start(bus, subject, text, len, &call, e))
		return false;
	if (!take_answer(call, timeout_ms, ERR_TIMEOUT, &answer, e))
		return err_ctx(e, "%s", subject);
	if (!check_answer(answer, ret_number, e)) {
		jval_free(&answer);
		return err_ctx(e, "%s", subject);
	}
	if (ret_answer)
		*ret_answer = answer;
	else
		jval_free(&answer);
	return true;
}

static void add_subjects(struct jval *config, const char *subjects)
{
	struct jval *list = jval_new_array();

	for (const char *p = subjects; *p; p += strspn(p, ", ")) {
		size_t len = strcspn(p, ", ");

		jval_push(list, jval_new_string(p, len));
		p += len;
	}
	jval_add(config, "subjects", list);
}

static struct jval *stream_json(const struct bus_stream_config *config)
{
	struct jval *json = jval_new_object();

	jval_add_string(json, "name", config->name);
	add_subjects(json, config->subjects);
	jval_add_string(json, "retention", "limits");
	jval_add_string(json, "storage", "file");
	jval_add_string(json, "discard", "old");
	jval_add_int(json, "max_consumers", -1);
	jval_add_int(json, "max_msgs", -1);
	jval_add_int(json, "max_msgs_per_subject", -1);
	jval_add_int(json, "max_msg_size", -1);
	jval_add_int(json, "max_bytes", config->max_bytes > 0 ? config->max_bytes : -1);
	jval_add_int(json, "max_age", config->max_age_s * NS_PER_S);
	jval_add_int(json, "duplicate_window", config->duplicate_window_s * NS_PER_S);
	jval_add_int(json, "num_replicas", config->replicas > 0 ? config->replicas : 1);
	return json;
}

/* Creating what exists as wished is no error; what exists otherwise is updated. */
bool bus_stream_ensure(struct bus *bus, const struct bus_stream_config *config, int timeout_ms, struct err *e)
{
	struct jval *json = stream_json(config);
	char what[BUS_SUBJECT_MAX];
	int64_t number;
	bool ok;

	(void)snprintf(what, sizeof(what), "STREAM.CREATE.%.200s", config->name);
	ok = ask(bus, what, json, timeout_ms, NULL, &number, e);
	if (!ok && number == JS_STREAM_NAME_EXISTS) {
		(void)snprintf(what, sizeof(what), "STREAM.UPDATE.%.200s", config->name);
		ok = ask(bus, what, json, timeout_ms, NULL, &number, e);
	}
	jval_free(&json);
	return ok;
}

static struct jval *consumer_json(const struct bus_consumer_config *config)
{
	struct jval *json = jval_new_object();
	struct jval *inner = jval_new_object();

	jval_add_string(inner, "durable_name", config->durable);
	jval_add_string(inner, "deliver_policy", "all");
	jval_add_string(inner, "ack_policy", "explicit");
	jval_add_string(inner, "replay_policy", "instant");
	jval_add_int(inner, "max_deliver", -1);
	jval_add_int(inner, "ack_wait", config->ack_wait_s * NS_PER_S);
	jval_add_int(inner, "max_ack_pending", config->max_ack_pending);
	jval_add_string(json, "stream_name", config->stream);
	jval_add(json, "config", inner);
	return json;
}

/* Somebody removed the folder under the running server, which knows the stream but can no longer keep it. Only the
 * writing of a consumer tells: the stream looks well until its file is full. */
static bool is_store_gone(int64_t number, const struct err *e)
{
	return number == JS_CONSUMER_STORE_FAILED && strstr(e->text, "no such file");
}

static bool drop_stream(struct bus *bus, const char *name, int timeout_ms, struct err *e)
{
	char what[BUS_SUBJECT_MAX];
	int64_t number;

	(void)snprintf(what, sizeof(what), "STREAM.DELETE.%.200s", name);
	if (!ask(bus, what, NULL, timeout_ms, NULL, &number, e))
		return false;
	return err_set(e, ERR_MISSING, "the store of stream %s had vanished; it was dropped and can be made again",
		       name);
}

bool bus_consumer_ensure(struct bus *bus, const struct bus_consumer_config *config, int timeout_ms, struct err *e)
{
	struct jval *json = consumer_json(config);
	struct err reason = {0};
	char what[BUS_SUBJECT_MAX];
	int64_t number;
	bool ok;

	(void)snprintf(what, sizeof(what), "CONSUMER.DURABLE.CREATE.%.200s.%.200s", config->stream, config->durable);
	ok = ask(bus, what, json, timeout_ms, NULL, &number, &reason);
	jval_free(&json);
	if (!ok && is_store_gone(number, &reason))
		return drop_stream(bus, config->stream, timeout_ms, e);
	return ok || err_set(e, reason.code, "%s", reason.text);
}

bool bus_consumer_info(struct bus *bus, const char *stream, const char *durable, int timeout_ms,
		       struct bus_consumer_info *ret_info, struct err *e)
{
	char what[BUS_SUBJECT_MAX];
	struct jval *answer = NULL;
	int64_t number;

	(void)snprintf(what, sizeof(what), "CONSUMER.INFO.%.200s.%.200s", stream, durable);
	if (!ask(bus, what, NULL, timeout_ms, &answer, &number, e))
		return false;
	ret_info->waiting = (uint64_t)jval_int(jval_get(answer, "num_pending"));
	ret_info->in_flight = (uint64_t)jval_int(jval_get(answer, "num_ack_pending"));
	ret_info->redelivered = (uint64_t)jval_int(jval_get(answer, "num_redelivered"));
	jval_free(&answer);
	return true;
}

/* --- pulled messages --- */

bool bus_pull(struct bus *bus, const char *stream, const char *durable, const char *inbox_subject, int batch,
	      int64_t expires_ms, struct err *e)
{
	/* The server takes a heartbeat of at most half the expiry. */
	int64_t heartbeat_ms = expires_ms > 2 * BUS_PULL_HEARTBEAT_MS ? BUS_PULL_HEARTBEAT_MS : 0;
	char subject[BUS_SUBJECT_MAX], body[120];
	int len;

	(void)snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.MSG.NEXT.%.200s.%.200s", stream, durable);
	len = snprintf(body, sizeof(body), "{\"batch\":%d,\"expires\":%" PRId64 ",\"idle_heartbeat\":%" PRId64 "}",
		       batch, expires_ms * NS_PER_MS, heartbeat_ms * NS_PER_MS);
	return bus_publish(bus, subject, inbox_subject, body, (size_t)len, e);
}

static bool answer_pulled(struct bus *bus, const struct bus_msg *m, const char *text, struct err *e)
{
	const char *reply = bus_msg_reply(m);

	/* Anybody who may publish into our inbox could else make us publish where we may. */
	if (!reply || strncmp(reply, ACK_PREFIX, strlen(ACK_PREFIX)) != 0)
		return err_set(e, ERR_INPUT, "no message of a stream: it cannot be acknowledged");
	return bus_publish(bus, reply, NULL, text, strlen(text), e);
}

bool bus_ack(struct bus *bus, const struct bus_msg *m, struct err *e)
{
	return answer_pulled(bus, m, "+ACK", e);
}

bool bus_nak(struct bus *bus, const struct bus_msg *m, int64_t delay_ms, struct err *e)
{
	char text[64] = "-NAK";

	if (delay_ms > 0)
		(void)snprintf(text, sizeof(text), "-NAK {\"delay\":%" PRId64 "}", delay_ms * NS_PER_MS);
	return answer_pulled(bus, m, text, e);
}

bool bus_in_progress(struct bus *bus, const struct bus_msg *m, struct err *e)
{
	return answer_pulled(bus, m, "+WPI", e);
}

bool bus_term(struct bus *bus, const struct bus_msg *m, struct err *e)
{
	return answer_pulled(bus, m, "+TERM", e);
}
