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

struct jval;
struct keyring;
struct llm_config;
struct turn;
struct turn_result;

/* What a build is made from. Borrowed until `done`. */
struct build_request {
	struct id instance_id, org_id;
	const char *mode;
	const struct jval *config;
	const struct llm_config
		*llm;         /* that the configuration names, its secrets sealed as they were read; NULL: none */
	struct keyring *keys; /* to open them with */
	bool fresh;           /* restart shared parts too */
};

/* runtime NULL: the build failed, reason says why (a short text for the operation). */
typedef void (*build_done)(void *closure, void *runtime, const char *reason);

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
	const char *response; /* the whole answer, for a request that is not streamed; NULL otherwise */
	size_t response_len;
	int agent_hops;
	const char *current_agent;
	uint64_t tokens_in, tokens_out;
};

struct framework_impl {
	const char *name;
	/* Builds and probes. Returns a handle for build_cancel, NULL where `done` was called already. */
	void *(*build)(uv_loop_t *loop, const struct build_request *request, build_done done, void *closure);
	/* `done` is not called any more. */
	void (*build_cancel)(void *build);
	void (*free)(void *runtime);
	/* Bytes that one copy takes beside what it shares, for the statistics. */
	size_t (*memory_bytes)(const void *runtime);
	/* Runs a turn; request is borrowed until `end`. Returns a handle for turn_cancel, NULL where it has ended
	 * already. */
	struct turn *(*turn)(void *runtime, uv_loop_t *loop, const struct chat_request *request,
			     const struct turn_sink *sink);
	/* Ends it soon, with `end` (status 499 code "cancelled" where nothing better is known). */
	void (*turn_cancel)(struct turn *turn);
};

/* NULL: no such framework in this worker. */
const struct framework_impl *framework_impl(const char *name);

extern const struct framework_impl framework_echo;

#endif
