/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tools that need nothing but the worker: the time, a calculator. fetch_url.c stands by itself. To add one: a
 * function `tool_<name>` that adds it, a row in `builtins`, its name in core/framework.c.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/macros.h"
#include "worker/tool/decimal.h"
#include "worker/tool/tool.h"

#define SCHEMA_DEPTH_MAX 8

static bool add(struct tool_box *box, struct tool tool, const char *schema, struct err *e)
{
	const struct json_limits limits = {.bytes_max = 4096, .depth_max = SCHEMA_DEPTH_MAX};

	return jval_parse(schema, strlen(schema), &limits, &tool.parameters, e) && tool_box_add(box, &tool, e);
}

static void answer(const struct tool_sink *sink, bool is_error, const char *text)
{
	sink->done(sink->closure, is_error, text, strlen(text));
}

static void nothing_to_cancel(struct tool_run *run)
{
	(void)run;
}

/* --- current_time --- */

static struct tool_run *current_time_call(const struct tool *tool, const struct tool_env *env,
					  const struct jval *arguments, int64_t deadline_ms,
					  const struct tool_sink *sink)
{
	time_t now = (time_t)(clock_unix_ms() / 1000);
	char text[64];
	struct tm utc;

	(void)tool;
	(void)env;
	(void)arguments;
	(void)deadline_ms;
	(void)gmtime_r(&now, &utc);
	(void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ (%A)", &utc);
	answer(sink, false, text);
	return NULL;
}

bool tool_current_time(struct tool_box *box, struct err *e)
{
	static const struct tool_impl impl = {.call = current_time_call, .cancel = nothing_to_cancel};

	return add(box,
		   (struct tool){
			   .impl = &impl, .name = "current_time", .description = "The present date and time, in UTC."},
		   "{\"type\":\"object\",\"properties\":{}}", e);
}

/* --- calculator --- */

static struct tool_run *calculator_call(const struct tool *tool, const struct tool_env *env,
					const struct jval *arguments, int64_t deadline_ms, const struct tool_sink *sink)
{
	const char *expression = jval_string(jval_get(arguments, "expression"), NULL);
	char text[DECIMAL_TEXT_SIZE];
	struct err e = {0};

	(void)tool;
	(void)env;
	(void)deadline_ms;
	if (!expression)
		answer(sink, true, "\"expression\" must be a string.");
	else if (decimal_evaluate(expression, text, &e))
		answer(sink, false, text);
	else
		answer(sink, true, e.text);
	return NULL;
}

bool tool_calculator(struct tool_box *box, struct err *e)
{
	static const struct tool_impl impl = {.call = calculator_call, .cancel = nothing_to_cancel};

	return add(
		box,
		(struct tool){.impl = &impl,
			      .name = "calculator",
			      .description = "Calculates exactly with decimal numbers: + - * / % ^ and parentheses."},
		"{\"type\":\"object\",\"properties\":{\"expression\":{\"type\":\"string\","
		"\"description\":\"for example (12.5 + 7) * 3\"}},\"required\":[\"expression\"]}",
		e);
}

/* --- the table --- */

static bool add_fetch_url(struct tool_box *box, const struct jval *config, struct err *e)
{
	return tool_fetch_url(box, jval_get(jval_get(config, "fetch_url"), "allow"), e);
}

static bool add_current_time(struct tool_box *box, const struct jval *config, struct err *e)
{
	(void)config;
	return tool_current_time(box, e);
}

static bool add_calculator(struct tool_box *box, const struct jval *config, struct err *e)
{
	(void)config;
	return tool_calculator(box, e);
}

static const struct {
	const char *name;
	bool (*add)(struct tool_box *box, const struct jval *config, struct err *e);
} builtins[] = {
	{"current_time", add_current_time},
	{"calculator", add_calculator},
	{"fetch_url", add_fetch_url},
};

bool tools_builtin_add(struct tool_box *box, const struct jval *config, struct err *e)
{
	const struct jval *names = jval_get(config, "tools");

	for (size_t i = 0; i < jval_array_len(names); i++) {
		const char *name = jval_string(jval_array_at(names, i), NULL);

		for (size_t k = 0; k < ARRAY_LEN(builtins); k++)
			if (name && strcmp(builtins[k].name, name) == 0 && !builtins[k].add(box, config, e))
				return false;
	}
	return true;
}
