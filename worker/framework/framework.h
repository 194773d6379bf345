/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The orchestrator factory: how a framework builds an AI App, probes it, runs
 * its turns, frees it. One file per framework (skeleton.c is a template to
 * copy), one row in framework.c; its name, modes and configuration check stand in core/framework.c.
 *
 * Everything runs on the worker's loop and must not block: what takes time uses libuv (timers, sockets, curl's multi
 * interface). A function that reports through a callback may do so before it returns.
 */
#ifndef WORKER_FRAMEWORK_FRAMEWORK_H
#define WORKER_FRAMEWORK_FRAMEWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "core/chat_wire.h"
#include "lib/id.h"
#include "worker/tool/tool.h"

struct jval;
struct llm_config;
struct models;
struct turn;
struct turn_result;

/* What frameworks may use of the worker. */
struct framework_env {
	uv_loop_t *loop;
	struct models *models;
	struct tool_env tools;
};

/* What a build is made from. Borrowed until `done`. */
struct build_request {
	struct id instance_id, org_id;
	const char *mode;
	const struct jval *config;
	const struct llm_config *llm; /* that the configuration names, its secrets sealed; NULL: it names none */
	bool fresh;                   /* restart shared parts too */
};

/* runtime NULL: the build failed, reason says why (a short text for the operation). */
typedef void (*build_done)(void *closure, void *runtime, const char *reason);

/* Of the conversation that a turn goes on from. */
struct history_limits {
	int64_t messages, tokens; /* that it takes in; messages 0: none is kept */
	int64_t seconds;          /* that a turn may last */
};

/* What a turn reports to. After `end` nothing more comes. */
struct turn_sink {
	void *closure;
	/* name: metadata, agent, tool or message; data: a JSON object's text, borrowed. */
	void (*event)(void *closure, const char *name, const char *data, size_t len);
	void (*end)(void *closure, const struct turn_result *result);
};

struct turn_result {
	int status;           /* 200, or the status that the failure stands for */
	const char *code;     /* of a failure: a problem's code */
	const char *detail;   /* of a failure, for the client */
	const char *response; /* the whole answer; may be NULL for a request that is streamed and keeps no history */
	size_t response_len;
	int agent_hops;
	const char *current_agent;
	uint64_t tokens_in, tokens_out;
	const char *finish;            /* why the model ended, as OpenAI names it; NULL: "stop" */
	const struct jval *tool_calls; /* for the caller to carry out, as OpenAI has them in a message; NULL: none */
	int64_t retry_after_ms;        /* of a failure; 0: not known */
	int64_t provider_us, tools_us; /* of the turn's time: waiting for the model's provider, for tools */
};

struct framework_impl {
	const char *name;
	/* Builds and probes. Returns a handle for build_cancel, NULL where `done` was called already. */
	void *(*build)(const struct framework_env *env, const struct build_request *request, build_done done,
		       void *closure);
	/* `done` is not called any more. */
	void (*build_cancel)(void *build);
	void (*free)(void *runtime);
	/* Bytes that one copy takes beside what it shares, for the statistics. */
	size_t (*memory_bytes)(const void *runtime);
	/* Runs a turn; request is borrowed until `end`. Returns a handle for turn_cancel, NULL where it has ended
	 * already. */
	struct turn *(*turn)(void *runtime, const struct framework_env *env, const struct chat_request *request,
			     const struct turn_sink *sink);
	/* Ends it soon, with `end` (status 499 code "cancelled" where nothing better is known). */
	void (*turn_cancel)(struct turn *turn);
	/* NULL: no conversation is kept. */
	void (*history)(const void *runtime, struct history_limits *ret_limits);
	/* Turns at once on one copy; 0: no limit of its own. NULL: none ever. */
	unsigned (*turns_max)(const void *runtime);
};

/* NULL: no such framework in this worker. */
const struct framework_impl *framework_impl(const char *name);

extern const struct framework_impl framework_echo, framework_agent;

#endif
