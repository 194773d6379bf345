/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call of a model: a request, its stream read by the model's dialect, and its end.
 *
 *   begin → attempt → head → events … → end
 *              ↑         └ an error before any event, worth another try: pause ┐
 *              └────────────────────────────────────────────────────────────────┘
 *
 * The end is told as soon as the stream says that it is over. What the server still sends then is read by the same
 * transfer, without its caller, so that the connection can be used again; a server that does not end is cut by the idle
 * limit.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utlist.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/secret.h"
#include "lib/sse_parse.h"
#include "lib/xalloc.h"
#include "worker/model/private.h"

#define ERROR_BYTES_MAX ((size_t)16384) /* of an error's body */
#define WHOLE_DEPTH_MAX 32
#define URL_SIZE (LLM_URL_MAX + 64)
#define SECRET_SHOWN_MAX 4 /* so much of one says nothing */
#define LINGER_MS 1000     /* behind its end a stream is read on for so long, and so far */
#define LINGER_BYTES 65536

enum reading {
	READING_NOTHING, /* no head yet */
	READING_EVENTS,
	READING_WHOLE, /* a JSON answer, or a probe's */
	READING_ERROR  /* a status that is no success */
};

struct model_call {
	struct model *model;
	struct model_sink sink;
	model_probed probed; /* a probe: instead of the sink; on a connection of its own, tried once */
	void *closure;       /* of probed */
	bool is_listing;     /* a probe that asks for the list of models */
	int64_t deadline_ms;
	struct buf request;
	const char *path;
	/* this attempt */
	unsigned attempt;
	struct http_call *http;
	struct breaker_ticket ticket;
	bool has_ticket; /* it was not given back */
	enum reading reading;
	int status;
	int64_t retry_after_ms;
	bool has_begun;                /* an event of the answer has come */
	bool is_told;                  /* its end was told: only the transfer is left */
	size_t lingered;               /* bytes since */
	bool is_overdue;               /* the caller's time was over, which says nothing of the provider */
	bool is_reading, is_cancelled; /* cancelled from within its sink: freed when the reading returns */
	struct sse_parse sse;
	struct answer answer;
	struct buf body;  /* READING_WHOLE, READING_ERROR */
	struct err error; /* of reading */
	uv_timer_t timer; /* of a pause between attempts, or behind the end */
	bool has_timer;
	struct model_call *prev, *next;
};

/* --- its memory --- */

static void attempt_clear(struct model_call *c)
{
	sse_parse_clear(&c->sse);
	answer_clear(&c->answer);
	buf_clear(&c->body);
}

static void call_free(struct model_call *c)
{
	attempt_clear(c);
	buf_clear(&c->request);
	free(c);
}

static void timer_closed(uv_handle_t *handle)
{
	call_free(handle->data);
}

/* No callback comes any more. */
static void call_drop(struct model_call *c)
{
	DL_DELETE(c->model->models->calls, c);
	model_call_gone(c->model);
	if (c->has_timer)
		uv_close((uv_handle_t *)&c->timer, timer_closed);
	else
		call_free(c);
}

/* --- failures --- */

/* A secret, and what a cut has left of it at the end. */
static void mask(char *text, const char *secret)
{
	size_t secret_len = strlen(secret), len = strlen(text);

	if (secret_len < SECRET_SHOWN_MAX)
		return;
	for (char *at = text; (at = strstr(at, secret)) != NULL; at += secret_len)
		memset(at, '*', secret_len);
	for (size_t part = secret_len < len ? secret_len : len; part >= SECRET_SHOWN_MAX; part--) {
		if (memcmp(text + len - part, secret, part) == 0) {
			memset(text + len - part, '*', part);
			return;
		}
	}
}

/* What the provider wrote, for the log: without what is secret, on one line, within its quotes. */
static void clean_text(const struct model *model, char *text)
{
	if (model->secret)
		mask(text, model->secret);
	for (unsigned i = model->headers_count - model->extra_headers; i < model->headers_count; i++)
		mask(text, model->headers[i].value);
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ')
			*c = ' ';
		else if (*c == '"')
			*c = '\'';
}

static struct model_failure failure_of(enum model_trouble trouble, const char *text)
{
	struct model_failure f = {.trouble = trouble, .retry_after_ms = -1};

	(void)snprintf(f.text, sizeof(f.text), "%s", text);
	return f;
}

static struct model_failure failure_of_status(const struct model_call *c)
{
	struct model_failure f = {.status = c->status, .retry_after_ms = c->retry_after_ms};

	if (c->status == 429)
		f.trouble = MODEL_LIMITED;
	else if (c->status >= 500)
		f.trouble = MODEL_UNAVAILABLE;
	else if (c->status >= 400)
		f.trouble = MODEL_REFUSED;
	else
		f.trouble = MODEL_BROKEN;
	(void)snprintf(f.text, sizeof(f.text), "The model provider answered %d.", c->status);
	return f;
}

static struct model_failure failure_of_outcome(const struct model *model, enum http_outcome outcome, const char *detail)
{
	switch (outcome) {
	case HTTP_REFUSED:
		return failure_of(MODEL_REFUSED,
				  strncmp(model->base_url, "http://", 7) == 0
					  ? "The model provider's address is not allowed with http: use https for a "
					    "public one, or an administrator allows it in llm.allowed_networks."
					  : "The model provider's address is not allowed: it is reserved, and not in "
					    "llm.allowed_networks.");
	case HTTP_NO_HOST:
		return failure_of(MODEL_UNAVAILABLE, "The model provider's name is not known.");
	case HTTP_UNREACHABLE:
		return failure_of(MODEL_UNAVAILABLE, "The model provider is not reachable.");
	case HTTP_NO_TLS:
		return failure_of(MODEL_UNAVAILABLE,
				  "There is no TLS with the model provider, or its certificate is not trusted.");
	case HTTP_TIMEOUT:
		if (strcmp(detail, "connect") == 0)
			return failure_of(MODEL_UNAVAILABLE, "The model provider is not reachable.");
		return failure_of(MODEL_TIMEOUT, "The model provider took too long.");
	case HTTP_TOO_LARGE:
		return failure_of(MODEL_TOO_LARGE, "The model provider's answer is longer than it may be.");
	case HTTP_BROKEN:
	case HTTP_COMPLETE:
	case HTTP_CANCELLED:
		break;
	}
	return failure_of(MODEL_BROKEN, "The model provider's answer broke off.");
}

/* What was read made no sense, or says that the provider failed. */
static struct model_failure failure_of_reading(const struct model_call *c)
{
	if (c->error.code == ERR_LIMIT)
		return failure_of(MODEL_TOO_LARGE, "The model provider's answer is longer than it may be.");
	if (c->error.code == ERR_DOWN)
		return failure_of(MODEL_UNAVAILABLE, "The model provider failed while it answered.");
	return failure_of(MODEL_BROKEN, "The model provider's answer could not be understood.");
}

/* --- the end --- */

static void note_breaker(const struct model *m, bool is_changed)
{
	if (is_changed)
		log_warn("breaker", "llm_config=%s model=%s state=%s", m->llm_config_id.text, m->name,
			 breaker_state_name(m->breaker.state));
}

static void count_end(struct model_call *c, const struct model_failure *failure)
{
	struct model *m = c->model;
	/* A provider that refuses or limits answers, and that is what a breaker is about. */
	bool is_answer = failure == NULL || failure->trouble == MODEL_REFUSED || failure->trouble == MODEL_LIMITED ||
			 failure->trouble == MODEL_TOO_LARGE;

	c->has_ticket = false;
	if (c->is_overdue)
		breaker_gave_up(&m->breaker, c->ticket);
	else if (is_answer)
		note_breaker(m, breaker_succeeded(&m->breaker, c->ticket));
	else
		note_breaker(m, breaker_failed(&m->breaker, &m->models->config.breaker, c->ticket, clock_now_ms()));
}

static void start_timer(struct model_call *c, uv_timer_cb over, int64_t ms)
{
	if (!c->has_timer) {
		uv_timer_init(c->model->models->config.loop, &c->timer);
		c->timer.data = c;
		c->has_timer = true;
	}
	uv_timer_start(&c->timer, over, (uint64_t)ms, 0);
}

static void linger_over(uv_timer_t *timer)
{
	struct model_call *c = timer->data;

	http_cancel(c->http);
	call_drop(c);
}

static void tell(struct model_call *c, const struct model_failure *failure)
{
	if (failure == NULL) {
		c->model->tokens_in += c->answer.tokens_in;
		c->model->tokens_out += c->answer.tokens_out;
	}
	c->is_told = true;
	if (c->http)
		start_timer(c, linger_over, LINGER_MS);
	if (c->probed)
		c->probed(c->closure, failure);
	else
		c->sink.end(c->sink.closure, failure ? NULL : &c->answer, failure);
}

static bool attempt(struct model_call *c, struct model_failure *ret_failure);

static void pause_over(uv_timer_t *timer)
{
	struct model_call *c = timer->data;
	struct model_failure failure;

	if (attempt(c, &failure))
		return;
	tell(c, &failure);
	call_drop(c);
}

static bool is_worth_another_try(const struct model_call *c, const struct model_failure *failure)
{
	if (c->has_begun || c->probed || c->attempt >= c->model->models->config.attempts_max ||
	    c->model->breaker.state == BREAKER_OPEN)
		return false;
	if (failure->trouble == MODEL_LIMITED)
		return true;
	/* A kept connection that the server had closed is curl's affair. */
	return failure->trouble == MODEL_UNAVAILABLE && failure->status != 501 && failure->status != 505;
}

/* What the server asks for, else doubling with a chance part, so that many callers do not come back at once. -1: longer
 * than may be waited. */
static int64_t pause_before_next(const struct model_call *c, const struct model_failure *failure)
{
	const struct models_config *config = &c->model->models->config;
	int64_t pause_ms = config->retry_ms << (c->attempt - 1);
	uint32_t chance;

	if (pause_ms > config->retry_max_ms)
		pause_ms = config->retry_max_ms;
	secret_random(&chance, sizeof(chance));
	pause_ms = pause_ms / 2 + chance % (uint32_t)(pause_ms / 2 + 1);
	if (failure->retry_after_ms > config->retry_max_ms)
		return -1;
	if (failure->retry_after_ms > pause_ms)
		pause_ms = failure->retry_after_ms;
	return c->deadline_ms == 0 || clock_now_ms() + pause_ms < c->deadline_ms ? pause_ms : -1;
}

/* True: another attempt follows. */
static bool try_again(struct model_call *c, const struct model_failure *failure)
{
	int64_t pause_ms;

	if (!is_worth_another_try(c, failure) || (pause_ms = pause_before_next(c, failure)) < 0)
		return false;
	start_timer(c, pause_over, pause_ms);
	return true;
}

static void log_failure(const struct model_call *c, const struct model_failure *failure, const char *detail,
			bool is_tried_again)
{
	log_warn("model call failed", "llm_config=%s model=%s attempt=%u status=%d error=\"%s\" next=%s",
		 c->model->llm_config_id.text, c->model->name, c->attempt, failure->status, detail,
		 is_tried_again ? "retry" : "fail");
}

static void end_attempt(struct model_call *c, const struct model_failure *failure, const char *detail)
{
	count_end(c, failure);
	if (failure) {
		bool is_tried_again = try_again(c, failure);
		log_failure(c, failure, detail, is_tried_again);
		if (is_tried_again) {
			attempt_clear(c);
			return;
		}
	}
	tell(c, failure);
	call_drop(c);
}

/* --- reading --- */

static bool on_event(void *closure, const char *name, const char *data, size_t len)
{
	struct model_call *c = closure;
	bool is_over = false;

	if (c->is_told)
		return true;
	c->has_begun = true;
	if (!c->model->dialect->read_event(&c->answer, name, data, len, &is_over, &c->error) || c->is_cancelled)
		return false;
	if (c->ticket.is_trial) /* it answers: the others need not wait for the end of this answer */
		note_breaker(c->model, breaker_succeeded(&c->model->breaker, c->ticket));
	if (is_over && answer_complete(&c->answer, &c->error)) {
		count_end(c, NULL);
		tell(c, NULL);
	}
	return c->error.code == ERR_NONE;
}

static void on_head(void *closure, const struct http_head *head)
{
	struct model_call *c = closure;
	bool is_json = strncasecmp(head->content_type, "application/json", strlen("application/json")) == 0;
	bool is_events = strncasecmp(head->content_type, "text/event-stream", strlen("text/event-stream")) == 0;

	/* A list of models that is not there is an answer too; a key that is not taken is a 401. */
	bool is_fine = (head->status >= 200 && head->status <= 299) ||
		       (c->is_listing && (head->status == 404 || head->status == 405));

	c->status = head->status;
	c->retry_after_ms = head->retry_after_ms;
	if (!is_fine)
		c->reading = READING_ERROR;
	else if (is_json || c->is_listing)
		c->reading = READING_WHOLE;
	else
		c->reading = READING_EVENTS;
	if (c->reading == READING_EVENTS && !is_events && head->content_type[0] != '\0')
		err_set(&c->error, ERR_INPUT, "an answer of type %.60s", head->content_type);
}

static bool read_events(struct model_call *c, const char *data, size_t len)
{
	c->is_reading = true;
	bool ok = sse_parse_feed(&c->sse, data, len, &c->error) && c->error.code == ERR_NONE;
	c->is_reading = false;
	if (!c->is_cancelled)
		return ok;
	call_drop(c);
	return false;
}

static bool on_body(void *closure, const char *data, size_t len)
{
	struct model_call *c = closure;

	if (c->is_told) /* read to its end, so that the connection stays; but not for ever */
		return (c->lingered += len) <= LINGER_BYTES;
	if (c->is_listing && c->reading == READING_WHOLE)
		return false; /* the head was the answer */
	if (c->error.code != ERR_NONE)
		return false;
	if (c->reading == READING_EVENTS)
		return read_events(c, data, len);
	if (c->reading == READING_ERROR && c->body.len + len > ERROR_BYTES_MAX)
		return true;
	buf_append(&c->body, data, len);
	return !buf_has_failed(&c->body) || err_set(&c->error, ERR_LIMIT, "longer than an answer may be");
}

/* The whole body of a server that does not stream. */
static bool read_whole(struct model_call *c)
{
	const struct json_limits limits = {
		.bytes_max = c->model->models->config.answer_max,
		.depth_max = WHOLE_DEPTH_MAX,
	};
	struct jval *root = NULL;

	bool ok = jval_parse(buf_str(&c->body), c->body.len, &limits, &root, &c->error) &&
		  c->model->dialect->read_whole(&c->answer, root, &c->error) && answer_complete(&c->answer, &c->error);
	jval_free(&root);
	return ok;
}

/* What an error's body says, for the log. */
static void read_error_text(const struct model_call *c, char *ret_text, size_t size)
{
	const struct json_limits limits = {.bytes_max = ERROR_BYTES_MAX, .depth_max = WHOLE_DEPTH_MAX};
	struct jval *root = NULL;

	ret_text[0] = '\0';
	if (jval_parse(buf_str(&c->body), c->body.len, &limits, &root, NULL))
		dialect_error_text(root, ret_text, size);
	jval_free(&root);
	clean_text(c->model, ret_text);
}

/* A transfer that has ended. True: the answer is whole. */
static bool is_whole(struct model_call *c, enum http_outcome outcome)
{
	if (c->error.code != ERR_NONE || c->reading == READING_ERROR || c->reading == READING_NOTHING)
		return false;
	if (c->is_listing)
		return true;
	if (c->reading == READING_WHOLE)
		return outcome == HTTP_COMPLETE && read_whole(c);
	if (outcome == HTTP_COMPLETE && !sse_parse_end(&c->sse, &c->error))
		return false;
	/* It said why it ended; that the connection then broke or stayed open takes nothing away. */
	if (c->answer.finish != FINISH_NONE && outcome != HTTP_TOO_LARGE)
		return answer_complete(&c->answer, &c->error);
	return outcome == HTTP_COMPLETE && answer_complete(&c->answer, &c->error);
}

static void on_end(void *closure, enum http_outcome outcome, const char *detail)
{
	struct model_call *c = closure;
	struct model_failure failure;
	char text[160];

	c->http = NULL;
	if (c->is_told) {
		call_drop(c);
		return;
	}
	c->is_reading = true; /* what is read here may be the text at which the caller cancels */
	bool is_good = is_whole(c, outcome);
	c->is_reading = false;
	if (c->is_cancelled) {
		call_drop(c);
	} else if (is_good) {
		if (!c->is_told) /* the last event had no blank line behind it */
			end_attempt(c, NULL, NULL);
		else
			call_drop(c);
	} else if (c->error.code != ERR_NONE) {
		failure = failure_of_reading(c);
		clean_text(c->model, c->error.text);
		end_attempt(c, &failure, c->error.text);
	} else if (c->reading == READING_ERROR) {
		failure = failure_of_status(c);
		read_error_text(c, text, sizeof(text));
		end_attempt(c, &failure, text);
	} else {
		failure = failure_of_outcome(c->model, outcome, detail);
		c->is_overdue = outcome == HTTP_TIMEOUT && strcmp(detail, "total") == 0;
		end_attempt(c, &failure, detail);
	}
}

/* --- the beginning --- */

static bool may_call(struct model_call *c, struct model_failure *ret_failure)
{
	int64_t wait_ms;

	c->has_ticket = breaker_may_call(&c->model->breaker, clock_now_ms(), &c->ticket, &wait_ms);
	if (c->has_ticket)
		return true;
	*ret_failure = failure_of(MODEL_UNAVAILABLE, "The model provider has failed repeatedly and is given a pause.");
	ret_failure->retry_after_ms = wait_ms;
	return false;
}

static bool attempt(struct model_call *c, struct model_failure *ret_failure)
{
	const struct models_config *config = &c->model->models->config;
	char url[URL_SIZE];
	struct err e = {0};
	int64_t left_ms = c->deadline_ms != 0 ? c->deadline_ms - clock_now_ms() : 0;

	if (c->deadline_ms != 0 && left_ms <= 0) {
		*ret_failure = failure_of(MODEL_TIMEOUT, "The model provider took too long.");
		return false;
	}
	if (!may_call(c, ret_failure))
		return false;
	c->attempt++;
	c->model->calls++;
	c->reading = READING_NOTHING;
	c->status = 0;
	c->retry_after_ms = -1;
	c->error = (struct err){0};
	c->is_overdue = false;
	sse_parse_init(&c->sse, STREAM_EVENT_BYTES_MAX, on_event, c);
	answer_init(&c->answer, config->answer_max);
	c->answer.on_text = c->sink.text;
	c->answer.closure = c->sink.closure;
	buf_init(&c->body, config->answer_max);
	(void)snprintf(url, sizeof(url), "%s%s", c->model->base_url, c->path);
	struct http_request request = {
		.method = c->is_listing ? "GET" : "POST",
		.url = url,
		.headers = c->model->headers,
		.headers_count = c->model->headers_count,
		.body = c->request.data,
		.body_len = c->request.len,
		.connect_ms = config->connect_ms,
		.first_byte_ms = config->first_byte_ms,
		.idle_ms = config->idle_ms,
		.total_ms = left_ms,
		.body_max = 8 * config->answer_max, /* each event is many times the text that it brings */
		.is_fresh = c->probed != NULL,
	};
	struct http_sink sink = {.closure = c, .head = on_head, .body = on_body, .end = on_end};
	c->http = http_start(config->http, &request, &sink, &e);
	if (c->http)
		return true;
	c->has_ticket = false;
	breaker_gave_up(&c->model->breaker, c->ticket);
	log_warn("model not called", "llm_config=%s error=%s", c->model->llm_config_id.text, e.text);
	*ret_failure = failure_of(MODEL_REFUSED, "The model provider's address cannot be used.");
	return false;
}

static struct model_call *call_new(struct model *model, int64_t deadline_ms, const char *path)
{
	struct model_call *c = xcalloc(1, sizeof(*c));

	c->model = model;
	c->deadline_ms = deadline_ms;
	c->path = path;
	buf_init(&c->request, model->models->config.request_max);
	model->calls_open++;
	DL_APPEND(model->models->calls, c);
	return c;
}

/* NULL, and c is gone, where it cannot begin. */
static struct model_call *begin(struct model_call *c, struct model_failure *ret_failure)
{
	if (attempt(c, ret_failure))
		return c;
	call_drop(c);
	return NULL;
}

static bool encode(struct model_call *c, const struct model_ask *ask, struct model_failure *ret_failure)
{
	struct jval *parameters =
		ask->parameters ? model_merge(c->model->parameters, ask->parameters) : jval_ref(c->model->parameters);
	struct model_request request = {
		.model = c->model->name,
		.messages = ask->messages,
		.tools = ask->tools,
		.tool_choice = ask->tool_choice,
		.parameters = parameters,
	};
	struct err e = {0};
	bool ok = c->model->dialect->encode(&request, &c->request, &e);

	jval_free(&parameters);
	if (!ok)
		*ret_failure =
			e.code == ERR_LIMIT
				? failure_of(MODEL_TOO_LARGE, "The request to the model is larger than it may be.")
				: failure_of(MODEL_REFUSED, "The model provider does not take such a message.");
	return ok;
}

struct model_call *model_call(struct model *model, const struct model_ask *ask, const struct model_sink *sink,
			      struct model_failure *ret_failure)
{
	struct model_call *c = call_new(model, ask->deadline_ms, model->dialect->chat_path);

	c->sink = *sink;
	if (encode(c, ask, ret_failure))
		return begin(c, ret_failure);
	call_drop(c);
	return NULL;
}

void model_call_cancel(struct model_call *c)
{
	if (c->http)
		http_cancel(c->http);
	if (c->has_ticket)
		breaker_gave_up(&c->model->breaker, c->ticket);
	c->has_ticket = false;
	c->answer.on_text = NULL;
	c->is_cancelled = true;
	if (!c->is_reading)
		call_drop(c);
}

/* --- probing --- */

/* The least that a model can be asked for. */
static bool encode_ping(struct model_call *c, struct model_failure *ret_failure)
{
	const char *limit =
		jval_has(c->model->parameters, "max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
	struct jval *messages = jval_new_array(), *message = jval_new_object(), *parameters = jval_new_object();
	struct model_ask ask = {.messages = messages, .parameters = parameters};

	jval_add_string(message, "role", "user");
	jval_add_string(message, "content", "ping");
	jval_push(messages, message);
	jval_add_int(parameters, limit, 1);
	bool ok = encode(c, &ask, ret_failure);
	jval_free(&messages);
	jval_free(&parameters);
	return ok;
}

struct model_call *model_probe(struct model *model, enum model_probe kind, int64_t deadline_ms, model_probed probed,
			       void *closure, struct model_failure *ret_failure)
{
	bool is_listing = kind == MODEL_PROBE_CONNECT;
	struct model_call *c =
		call_new(model, deadline_ms, is_listing ? model->dialect->models_path : model->dialect->chat_path);

	c->probed = probed;
	c->closure = closure;
	c->is_listing = is_listing;
	if (is_listing || encode_ping(c, ret_failure))
		return begin(c, ret_failure);
	call_drop(c);
	return NULL;
}
