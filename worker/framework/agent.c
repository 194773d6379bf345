/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent: a turn against a model with tools.
 *
 *   messages → model → text, and it is over
 *      ↑         └ tool calls → all at once, results ┐
 *      └──────────────────────────────────────────────┘   one round is a hop
 *
 * Bounded in hops, tool calls, seconds, tokens and bytes: a turn that meets a bound fails with `turn_limit`, or
 * `turn_timeout`. Text goes to the client as it comes, of every hop; `response` is the same text. Whatever is wrong
 * with a tool call (no such tool, arguments that are no JSON, a failure) is told to the model, not to the client.
 *
 * A caller that brings tools of its own (where the App allows it) is given the calls of those: the turn ends with them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/agent_config.h"
#include "core/problem.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/xalloc.h"
#include "worker/framework/framework.h"
#include "worker/model/model.h"
#include "worker/tool/tool.h"

#define PROBE_MS 15000
#define EVENT_RESULT_MAX ((size_t)4096) /* bytes of a tool's arguments and result that the client is shown */
#define EVENT_TEXT_MAX ((size_t)65536)  /* bytes of text in one event: the bus takes a message of 1 MiB */
#define ARGUMENTS_DEPTH_MAX 32
#define KEY_UNREADABLE                                                                                                 \
	"llm_key_unreadable: The key of the LLM config cannot be opened here. Save it again, or let an administrator " \
	"look at the worker's key ring."

struct agent {
	struct model *model;
	struct tool_box *box; /* NULL: no tools */
	int64_t tokens, bytes;
	uint32_t seconds, turns, history_messages, history_tokens;
	uint16_t hops, tool_calls;
	uint8_t caller_parameters; /* agent_parameter_bit() */
	bool has_client_tools;
	size_t prompt_len;
	char prompt[];
};

static void agent_free(void *runtime)
{
	struct agent *agent = runtime;

	model_unref(&agent->model);
	tool_box_free(&agent->box);
	free(agent);
}

static size_t agent_memory_bytes(const void *runtime)
{
	const struct agent *agent = runtime;

	return sizeof(*agent) + agent->prompt_len + 1 + (agent->box ? tool_box_memory_bytes(agent->box) : 0);
}

static void agent_history(const void *runtime, struct history_limits *ret_limits)
{
	const struct agent *agent = runtime;

	*ret_limits = (struct history_limits){
		.messages = agent->history_messages,
		.tokens = agent->history_tokens,
		.seconds = agent->seconds,
	};
}

static unsigned agent_turns_max(const void *runtime)
{
	return ((const struct agent *)runtime)->turns;
}

/* --- build --- */

struct agent_build {
	struct agent *agent;
	struct model_call *probe;
	build_done done;
	void *closure;
};

static struct agent *agent_new(const struct agent_config *config)
{
	size_t len = strlen(config->system_prompt);
	struct agent *agent = xcalloc(1, sizeof(*agent) + len + 1);

	agent->tokens = config->tokens;
	agent->bytes = config->bytes;
	agent->seconds = (uint32_t)config->seconds;
	agent->turns = (uint32_t)config->turns;
	agent->history_messages = (uint32_t)config->history_messages;
	agent->history_tokens = (uint32_t)config->history_tokens;
	agent->hops = (uint16_t)config->hops;
	agent->tool_calls = (uint16_t)config->tool_calls;
	agent->caller_parameters = (uint8_t)config->caller_parameters;
	agent->has_client_tools = config->has_client_tools;
	agent->prompt_len = len;
	memcpy(agent->prompt, config->system_prompt, len);
	return agent;
}

/* NULL: *ret_reason. */
static struct agent *assemble(const struct framework_env *env, const struct build_request *request,
			      const struct agent_config *config, const char **ret_reason)
{
	struct agent *agent;
	struct err e = {0};

	*ret_reason = "llm_config_missing";
	if (!request->llm)
		return NULL;
	agent = agent_new(config);
	agent->model = model_ref(env->models, request->llm, config->model, config->parameters, &e);
	*ret_reason = e.code == ERR_DENIED ? KEY_UNREADABLE : "llm_config_unusable";
	if (agent->model && jval_array_len(config->tools) > 0) {
		agent->box = tool_box_new();
		*ret_reason = "tools_unusable";
		if (!tools_builtin_add(agent->box, request->config, &e)) {
			agent_free(agent);
			return NULL;
		}
	}
	if (!agent->model) {
		agent_free(agent);
		return NULL;
	}
	return agent;
}

static void probe_reason(const struct model_failure *failure, char *ret_reason, size_t size)
{
	(void)snprintf(ret_reason, size, "probe_failed: %s", failure->text);
}

static void on_probed(void *closure, const struct model_failure *failure)
{
	struct agent_build *build = closure;
	struct agent *agent = build->agent;
	char reason[256];

	if (failure) {
		probe_reason(failure, reason, sizeof(reason));
		build->done(build->closure, NULL, reason);
		agent_free(agent);
	} else {
		build->done(build->closure, agent, NULL);
	}
	free(build);
}

static void *agent_build(const struct framework_env *env, const struct build_request *request, build_done done,
			 void *closure)
{
	struct agent_config config;
	struct model_failure failure;
	const char *reason;
	char text[256];

	agent_config_read(request->config, &config);
	struct agent *agent = assemble(env, request, &config, &reason);
	if (!agent || config.probe == AGENT_PROBE_NONE) {
		done(closure, agent, agent ? NULL : reason);
		return NULL;
	}
	struct agent_build *build = xcalloc(1, sizeof(*build));
	build->agent = agent;
	build->done = done;
	build->closure = closure;
	build->probe =
		model_probe(agent->model, config.probe == AGENT_PROBE_CALL ? MODEL_PROBE_CALL : MODEL_PROBE_CONNECT,
			    clock_now_ms() + PROBE_MS, on_probed, build, &failure);
	if (build->probe)
		return build;
	probe_reason(&failure, text, sizeof(text));
	done(closure, NULL, text);
	agent_free(agent);
	free(build);
	return NULL;
}

static void agent_build_cancel(void *handle)
{
	struct agent_build *build = handle;

	model_call_cancel(build->probe);
	agent_free(build->agent);
	free(build);
}

/* --- turn --- */

/* One tool call under way. */
struct job {
	struct turn *turn;
	struct tool_run *run; /* NULL: not begun, or done */
	char *id, *name;
	char *result;
	size_t result_len;
	bool is_done, is_error;
	int64_t began_us;
};

struct turn {
	const struct agent *agent;
	const struct framework_env *env;
	const struct chat_request *request;
	struct turn_sink sink;
	struct jval *messages; /* array */
	struct jval *tools;    /* ours and the caller's; NULL: none */
	struct model_call *call;
	struct job *jobs;
	unsigned jobs_count, jobs_open;
	bool is_starting;  /* jobs are being begun: their ends are looked at afterwards */
	bool *ret_is_over; /* of agent_turn, while it runs; else NULL */
	unsigned hops, tool_calls;
	uint64_t tokens_in, tokens_out;
	struct buf text;
	size_t bytes_left;
	int64_t deadline_ms;
	int64_t call_began_us, tools_began_us, provider_us, tools_us;
};

static void jobs_clear(struct turn *t)
{
	for (unsigned i = 0; i < t->jobs_count; i++) {
		free(t->jobs[i].id);
		free(t->jobs[i].name);
		free(t->jobs[i].result);
	}
	free(t->jobs);
	t->jobs = NULL;
	t->jobs_count = 0;
}

static void turn_free(struct turn *t)
{
	jobs_clear(t);
	jval_free(&t->messages);
	jval_free(&t->tools);
	buf_clear(&t->text);
	free(t);
}

static void turn_end(struct turn *t, struct turn_result *result)
{
	result->current_agent = "agent";
	result->agent_hops = (int)t->hops;
	result->tokens_in = t->tokens_in;
	result->tokens_out = t->tokens_out;
	result->provider_us = t->provider_us;
	result->tools_us = t->tools_us;
	if (t->ret_is_over)
		*t->ret_is_over = true;
	t->sink.end(t->sink.closure, result);
	turn_free(t);
}

static void turn_fail(struct turn *t, enum problem problem, const char *detail, int64_t retry_after_ms)
{
	turn_end(t, &(struct turn_result){
			    .status = problem_status(problem),
			    .code = problem_code(problem),
			    .detail = detail,
			    .retry_after_ms = retry_after_ms > 0 ? retry_after_ms : 0,
		    });
}

static void turn_fail_model(struct turn *t, const struct model_failure *failure)
{
	static const enum problem problems[] = {
		[MODEL_REFUSED] = PROBLEM_PROVIDER_REFUSED, [MODEL_UNAVAILABLE] = PROBLEM_PROVIDER_UNAVAILABLE,
		[MODEL_LIMITED] = PROBLEM_PROVIDER_LIMITED, [MODEL_TIMEOUT] = PROBLEM_PROVIDER_TIMEOUT,
		[MODEL_BROKEN] = PROBLEM_PROVIDER_FAILED,   [MODEL_TOO_LARGE] = PROBLEM_TURN_LIMIT,
	};

	if (failure->trouble == MODEL_TIMEOUT && clock_now_ms() >= t->deadline_ms)
		turn_fail(t, PROBLEM_TURN_TIMEOUT, "The turn took longer than it may.", 0);
	else
		turn_fail(t, problems[failure->trouble], failure->text, failure->retry_after_ms);
}

static void turn_succeed(struct turn *t, const char *finish, const struct jval *tool_calls)
{
	turn_end(t, &(struct turn_result){
			    .status = 200,
			    .response = buf_str(&t->text),
			    .response_len = t->text.len,
			    .finish = finish,
			    .tool_calls = tool_calls,
		    });
}

/* --- what the client sees --- */

static void send_object(struct turn *t, const char *name, struct jval *object)
{
	size_t len;
	const char *text = jval_text(object, &len);

	t->sink.event(t->sink.closure, name, text, len);
	jval_free(&object);
}

static void show_hop(struct turn *t)
{
	struct jval *data;

	if (!t->request->stream)
		return;
	data = jval_new_object();
	jval_add_string(data, "agent", "agent");
	jval_add_int(data, "hop", (int64_t)t->hops);
	send_object(t, "agent", data);
}

/* The length of what fits without a character that is cut. */
static size_t cut_text(const char *text, size_t len, size_t max)
{
	if (len <= max)
		return len;
	while (max > 0 && ((unsigned char)text[max] & 0xc0) == 0x80)
		max--;
	return max;
}

static void show_text(struct turn *t, const char *text, size_t len)
{
	while (t->request->stream && len > 0) {
		size_t part = cut_text(text, len, EVENT_TEXT_MAX);
		struct jval *data = jval_new_object();

		jval_add(data, "content", jval_new_string(text, part));
		jval_add_string(data, "role", "assistant");
		send_object(t, "message", data);
		text += part;
		len -= part;
	}
}

static void show_call(struct turn *t, const struct answer_call *call)
{
	struct jval *data;

	if (!t->request->stream)
		return;
	data = jval_new_object();
	jval_add_string(data, "state", "called");
	jval_add_string(data, "id", call->id);
	jval_add_string(data, "name", call->name);
	jval_add(data, "arguments",
		 jval_new_string(buf_str(&call->arguments),
				 cut_text(buf_str(&call->arguments), call->arguments.len, EVENT_RESULT_MAX)));
	send_object(t, "tool", data);
}

static void show_result(struct turn *t, const struct job *job)
{
	struct jval *data;

	if (!t->request->stream)
		return;
	data = jval_new_object();
	jval_add_string(data, "state", "done");
	jval_add_string(data, "id", job->id);
	jval_add_string(data, "name", job->name);
	jval_add_bool(data, "is_error", job->is_error);
	jval_add_int(data, "took_ms", (clock_now_us() - job->began_us) / 1000);
	jval_add(data, "result",
		 jval_new_string(job->result, cut_text(job->result, job->result_len, EVENT_RESULT_MAX)));
	send_object(t, "tool", data);
}

/* --- the messages --- */

static void push_message(struct jval *messages, const char *role, const char *text, size_t len)
{
	struct jval *message = jval_new_object();

	jval_add_string(message, "role", role);
	jval_add(message, "content", jval_new_string(text, len));
	jval_push(messages, message);
}

static void push_all(struct jval *messages, const struct jval *more)
{
	for (size_t i = 0; i < jval_array_len(more); i++)
		jval_push(messages, jval_ref(jval_array_at(more, i)));
}

static struct jval *first_messages(const struct agent *agent, const struct chat_request *request)
{
	struct jval *messages = jval_new_array();

	if (agent->prompt_len > 0)
		push_message(messages, "system", agent->prompt, agent->prompt_len);
	push_all(messages, request->history);
	if (request->messages)
		push_all(messages, request->messages);
	else
		push_message(messages, "user", request->message, request->message_len);
	return messages;
}

static struct jval *all_tools(const struct agent *agent, const struct chat_request *request)
{
	struct jval *ours = agent->box ? tool_box_value(agent->box) : NULL;
	struct jval *all;

	if (!request->tools)
		return ours ? jval_ref(ours) : NULL;
	all = jval_new_array();
	push_all(all, ours);
	for (size_t i = 0; i < jval_array_len(request->tools); i++) {
		struct jval *tool = jval_array_at(request->tools, i);
		const char *name = jval_string(jval_get(jval_get(tool, "function"), "name"), NULL);
		if (name && !(agent->box && tool_box_find(agent->box, name))) /* ours win */
			jval_push(all, jval_ref(tool));
	}
	return all;
}

/* --- hops --- */

static void next_hop(struct turn *t);

static const struct tool *tool_of(const struct turn *t, const char *name)
{
	return t->agent->box ? tool_box_find(t->agent->box, name) : NULL;
}

/* A tool of the caller's has that name, and none of ours. */
static bool is_callers(const struct turn *t, const char *name)
{
	for (size_t i = 0; i < jval_array_len(t->request->tools); i++) {
		const struct jval *tool = jval_array_at(t->request->tools, i);
		const char *its = jval_string(jval_get(jval_get(tool, "function"), "name"), NULL);
		if (its && strcmp(its, name) == 0)
			return tool_of(t, name) == NULL;
	}
	return false;
}

/* The calls that the caller is to carry out; NULL: none. Yours. */
static struct jval *callers_calls(const struct turn *t, const struct jval *message)
{
	const struct jval *calls = jval_get(message, "tool_calls");
	struct jval *theirs = jval_new_array();

	for (size_t i = 0; i < jval_array_len(calls); i++) {
		struct jval *call = jval_array_at(calls, i);
		if (is_callers(t, jval_string(jval_get(jval_get(call, "function"), "name"), NULL)))
			jval_push(theirs, jval_ref(call));
	}
	if (jval_array_len(theirs) == 0)
		jval_free(&theirs);
	return theirs;
}

/* All results are there, in the order of the calls. */
static void take_results(struct turn *t)
{
	t->tools_us += clock_now_us() - t->tools_began_us;
	for (unsigned i = 0; i < t->jobs_count; i++) {
		const struct job *job = &t->jobs[i];
		struct jval *message = jval_new_object();

		jval_add_string(message, "role", "tool");
		jval_add_string(message, "tool_call_id", job->id);
		jval_add(message, "content", jval_new_string(job->result, job->result_len));
		jval_push(t->messages, message);
	}
	jobs_clear(t);
	next_hop(t);
}

static void on_tool_done(void *closure, bool is_error, const char *text, size_t len)
{
	struct job *job = closure;
	struct turn *t = job->turn;

	len = cut_text(text, len, TOOL_RESULT_MAX);
	if (len > t->bytes_left) /* the rest of the turn's allowance: the next hop meets the bound */
		len = cut_text(text, len, t->bytes_left);
	t->bytes_left -= len;
	job->run = NULL;
	job->is_done = true;
	job->is_error = is_error;
	job->result = xmalloc(len + 1);
	memcpy(job->result, text, len);
	job->result[len] = '\0';
	job->result_len = len;
	show_result(t, job);
	if (--t->jobs_open == 0 && !t->is_starting)
		take_results(t);
}

static void job_refuse(struct job *job, const char *text)
{
	on_tool_done(job, true, text, strlen(text));
}

static void job_start(struct turn *t, struct job *job, const struct answer_call *call)
{
	const struct json_limits limits = {.bytes_max = TOOL_RESULT_MAX, .depth_max = ARGUMENTS_DEPTH_MAX};
	const struct tool *tool = tool_of(t, call->name);
	struct tool_sink sink = {.closure = job, .done = on_tool_done};
	struct jval *arguments = NULL;

	job->turn = t;
	job->id = xstrdup(call->id);
	job->name = xstrdup(call->name);
	job->began_us = clock_now_us();
	if (!tool) {
		job_refuse(job, "There is no tool of this name.");
	} else if (!jval_parse(buf_str(&call->arguments), call->arguments.len, &limits, &arguments, NULL)) {
		job_refuse(job, "The arguments are not valid JSON.");
	} else {
		struct tool_run *run = tool->impl->call(tool, &t->env->tools, arguments, t->deadline_ms, &sink);
		if (!job->is_done)
			job->run = run;
	}
	jval_free(&arguments);
}

static void run_tools(struct turn *t, const struct answer *answer)
{
	t->tools_began_us = clock_now_us();
	t->jobs = xcalloc(answer->calls_count, sizeof(*t->jobs));
	t->jobs_count = t->jobs_open = answer->calls_count;
	t->is_starting = true;
	for (unsigned i = 0; i < answer->calls_count; i++) {
		show_call(t, answer->calls[i]);
		job_start(t, &t->jobs[i], answer->calls[i]);
	}
	t->is_starting = false;
	if (t->jobs_open == 0)
		take_results(t);
}

/* What they ask for goes into the next request too. False: more than the turn may hold. */
static bool take_arguments(struct turn *t, const struct answer *answer)
{
	for (unsigned i = 0; i < answer->calls_count; i++) {
		size_t len = answer->calls[i]->arguments.len;

		if (len > t->bytes_left)
			return false;
		t->bytes_left -= len;
	}
	return true;
}

static void handle_calls(struct turn *t, const struct answer *answer)
{
	if (!take_arguments(t, answer)) {
		turn_fail(t, PROBLEM_TURN_LIMIT, "The turn's tool calls are longer than they may be.", 0);
		return;
	}
	struct jval *message = answer_message(answer);
	struct jval *theirs = callers_calls(t, message);

	jval_push(t->messages, message);
	t->tool_calls += answer->calls_count;
	if (theirs) {
		turn_succeed(t, answer_finish_name(FINISH_TOOL_CALLS), theirs);
		jval_free(&theirs);
	} else if (t->tool_calls > t->agent->tool_calls) {
		turn_fail(t, PROBLEM_TURN_LIMIT, "The turn asked for more tool calls than it may.", 0);
	} else {
		run_tools(t, answer);
	}
}

static void on_model_end(void *closure, const struct answer *answer, const struct model_failure *failure)
{
	struct turn *t = closure;

	t->call = NULL;
	t->provider_us += clock_now_us() - t->call_began_us;
	if (failure) {
		turn_fail_model(t, failure);
		return;
	}
	t->tokens_in += answer->tokens_in;
	t->tokens_out += answer->tokens_out;
	/* Calls that were cut at the limit of tokens are not carried out: their arguments may be half. */
	if (answer->calls_count > 0 && answer->finish != FINISH_LENGTH && answer->finish != FINISH_FILTER)
		handle_calls(t, answer);
	else
		turn_succeed(t, answer_finish_name(answer->finish), NULL);
}

static void on_model_text(void *closure, const char *text, size_t len)
{
	struct turn *t = closure;

	if (len > t->bytes_left) {
		model_call_cancel(t->call);
		t->call = NULL;
		turn_fail(t, PROBLEM_TURN_LIMIT, "The turn's answer is longer than it may be.", 0);
		return;
	}
	t->bytes_left -= len;
	buf_append(&t->text, text, len);
	show_text(t, text, len);
}

static void next_hop(struct turn *t)
{
	struct model_sink sink = {.closure = t, .text = on_model_text, .end = on_model_end};
	struct model_failure failure;
	struct model_ask ask = {
		.messages = t->messages,
		.tools = t->tools,
		.tool_choice = t->hops == 0 ? t->request->tool_choice : NULL,
		.parameters = t->request->parameters,
		.deadline_ms = t->deadline_ms,
	};

	if (t->hops >= t->agent->hops) {
		turn_fail(t, PROBLEM_TURN_LIMIT, "The turn took more hops than it may.", 0);
		return;
	}
	if (t->hops > 0 && t->bytes_left == 0) {
		turn_fail(t, PROBLEM_TURN_LIMIT, "The turn's answers are longer than they may be.", 0);
		return;
	}
	if (t->agent->tokens > 0 && t->tokens_in + t->tokens_out >= (uint64_t)t->agent->tokens) {
		turn_fail(t, PROBLEM_TURN_LIMIT, "The turn took more tokens than it may.", 0);
		return;
	}
	t->hops++;
	show_hop(t);
	t->call_began_us = clock_now_us();
	t->call = model_call(t->agent->model, &ask, &sink, &failure);
	if (!t->call)
		turn_fail_model(t, &failure);
}

/* Stops at the first that the App does not let its callers set. */
struct forbidden_search {
	unsigned allowed;
	const char *name; /* found */
};

static bool is_allowed(void *closure, const char *key, struct jval *value)
{
	struct forbidden_search *search = closure;

	(void)value;
	if (search->allowed & agent_parameter_bit(key))
		return true;
	search->name = key;
	return false;
}

/* What the caller may not set; NULL: nothing. */
static const char *forbidden_field(const struct agent *agent, const struct chat_request *request)
{
	struct forbidden_search search = {.allowed = agent->caller_parameters};

	if (request->tools && !agent->has_client_tools)
		return "tools";
	if (request->parameters)
		jval_each(request->parameters, is_allowed, &search);
	return search.name;
}

static void refuse_field(const struct turn_sink *sink, const char *name)
{
	char detail[128];

	(void)snprintf(detail, sizeof(detail), "The AI App does not let its callers set %s.", name);
	sink->end(sink->closure, &(struct turn_result){
					 .status = problem_status(PROBLEM_INVALID),
					 .code = problem_code(PROBLEM_INVALID),
					 .detail = detail,
					 .current_agent = "agent",
				 });
}

static int64_t deadline_of(const struct agent *agent, const struct chat_request *request)
{
	int64_t left_ms = (int64_t)agent->seconds * 1000, theirs_ms;

	if (request->deadline_unix_ms != 0) {
		theirs_ms = request->deadline_unix_ms - clock_unix_ms();
		if (theirs_ms < left_ms)
			left_ms = theirs_ms > 0 ? theirs_ms : 0;
	}
	return clock_now_ms() + left_ms;
}

static struct turn *agent_turn(void *runtime, const struct framework_env *env, const struct chat_request *request,
			       const struct turn_sink *sink)
{
	const struct agent *agent = runtime;
	const char *forbidden = forbidden_field(agent, request);
	bool is_over = false;

	if (forbidden) {
		refuse_field(sink, forbidden);
		return NULL;
	}
	struct turn *t = xcalloc(1, sizeof(*t));
	t->agent = agent;
	t->env = env;
	t->request = request;
	t->sink = *sink;
	t->messages = first_messages(agent, request);
	t->tools = all_tools(agent, request);
	t->bytes_left = (size_t)agent->bytes;
	buf_init(&t->text, (size_t)agent->bytes);
	t->deadline_ms = deadline_of(agent, request);
	t->ret_is_over = &is_over;
	next_hop(t);
	if (is_over)
		return NULL;
	t->ret_is_over = NULL;
	return t;
}

static void agent_turn_cancel(struct turn *t)
{
	struct turn_result result = {.status = 499, .code = "cancelled", .detail = "The turn was cancelled."};

	if (t->call)
		model_call_cancel(t->call);
	t->call = NULL;
	for (unsigned i = 0; i < t->jobs_count; i++) {
		struct job *job = &t->jobs[i];
		if (job->run)
			tool_of(t, job->name)->impl->cancel(job->run);
		job->run = NULL;
	}
	turn_end(t, &result);
}

const struct framework_impl framework_agent = {
	.name = "agent",
	.build = agent_build,
	.build_cancel = agent_build_cancel,
	.free = agent_free,
	.memory_bytes = agent_memory_bytes,
	.turn = agent_turn,
	.turn_cancel = agent_turn_cancel,
	.history = agent_history,
	.turns_max = agent_turns_max,
};
