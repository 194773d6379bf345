/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tools: what a model may ask an agent to do. A tool comes from a source: those built in here, the servers of plugins
 * elsewhere; an agent sees them alike. A tool box is the tools of one App.
 *
 * Everything runs on the worker's loop and must not block. What a tool is asked, and what it answers, comes from
 * outside: arguments are whatever the model wrote, parsed as JSON but not checked against the schema.
 */
#ifndef WORKER_TOOL_TOOL_H
#define WORKER_TOOL_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "lib/err.h"

struct http;
struct jval;
struct tool;
struct tool_box;
struct tool_run;

#define TOOL_WIRE_NAME_MAX 64 /* [A-Za-z0-9_-]: what every provider allows */
#define TOOL_RESULT_MAX ((size_t)65536)

/* What tools may use. */
struct tool_env {
	uv_loop_t *loop;
	struct http *http;
};

struct tool_sink {
	void *closure;
	/* Once, also before `call` has returned. is_error: the text tells the model what went wrong. Cut at
	 * TOOL_RESULT_MAX. Borrowed. */
	void (*done)(void *closure, bool is_error, const char *text, size_t len);
};

struct tool_impl {
	/* NULL: done already. deadline_ms by clock_now_ms(). arguments: any JSON value, borrowed until it returns. */
	struct tool_run *(*call)(const struct tool *tool, const struct tool_env *env, const struct jval *arguments,
				 int64_t deadline_ms, const struct tool_sink *sink);
	void (*cancel)(struct tool_run *run); /* the sink is not called any more */
	void (*free_state)(void *state);      /* of struct tool; NULL: nothing to free */
};

struct tool {
	const struct tool_impl *impl;
	const char *name;                       /* as its source calls it; lives as long as the tool */
	char wire_name[TOOL_WIRE_NAME_MAX + 1]; /* as the model sees it; unique in the box */
	const char *description;
	struct jval *parameters; /* JSON Schema; owned */
	void *state;
};

struct tool_box *tool_box_new(void);
void tool_box_free(struct tool_box **box); /* no run of its tools is open */
/* Takes *tool over (parameters and state too) and gives it its wire name. ERR_LIMIT: too many. */
bool tool_box_add(struct tool_box *box, const struct tool *tool, struct err *e) MUST_CHECK;
unsigned tool_box_count(const struct tool_box *box);
const struct tool *tool_box_find(const struct tool_box *box, const char *wire_name); /* NULL: none */
/* For the model: an array in the shape of OpenAI's chat completions; borrowed. NULL where there are no tools. */
struct jval *tool_box_value(const struct tool_box *box);
size_t tool_box_memory_bytes(const struct tool_box *box);

/* --- built in --- */

/* The built-in tools of an agent's configuration: config.tools, an array of names, and their own settings
 * (config.fetch_url). Checked by core/framework.c. */
bool tools_builtin_add(struct tool_box *box, const struct jval *config, struct err *e) MUST_CHECK;

bool tool_current_time(struct tool_box *box, struct err *e) MUST_CHECK;
bool tool_calculator(struct tool_box *box, struct err *e) MUST_CHECK;
/* allow: array of URL prefixes. */
bool tool_fetch_url(struct tool_box *box, const struct jval *allow, struct err *e) MUST_CHECK;

#endif
