/* SPDX-License-Identifier: Apache-2.0 */
/* clang-format off */
/*
 * The configuration of the framework `agent`: a turn against a model with tools.
 *
 *   {"llm_config_id": "…", "model": "…",                   required
 *    "system_prompt": "",
 *    "parameters": {},                                     of the model, above the LLM config's defaults
 *    "tools": ["current_time", "calculator", "fetch_url"],
 *    "fetch_url": {"allow": ["https://docs.example.com/"]},
 *    "limits": {"hops": 8, "tool_calls": 32, "seconds": 120, "tokens": 0, "bytes": 262144, "turns": 0},
 *    "history": {"messages": 50, "tokens": 8000},          of a conversation, taken into a turn; messages 0: none is kept
 *    "probe": "connect",                                   before a copy is swapped in: none, connect, call (one token)
 *    "openai": {"parameters": [], "client_tools": false}}  what callers of /v1/chat/completions may set
 */
/* clang-format on */
#ifndef CORE_AGENT_CONFIG_H
#define CORE_AGENT_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/id.h"

struct field_error;
struct jval;

enum agent_probe { AGENT_PROBE_NONE, AGENT_PROBE_CONNECT, AGENT_PROBE_CALL };

struct agent_config { /* strings and values are borrowed from the configuration */
	struct id llm_config_id;
	const char *model, *system_prompt;
	struct jval *parameters; /* NULL: none */
	struct jval *tools;      /* array of names; NULL: none */
	int64_t hops, tool_calls, seconds;
	int64_t tokens, turns; /* 0: no limit */
	int64_t bytes;         /* of what one turn's answers may hold together */
	int64_t history_messages, history_tokens;
	enum agent_probe probe;
	unsigned caller_parameters; /* agent_parameter_bit() of each */
	bool has_client_tools;
};

/* As struct framework's `check`. */
size_t agent_config_check(const struct jval *config, struct field_error *errors, size_t max);
/* 0: none that an App could let its callers set. */
unsigned agent_parameter_bit(const char *name);
/* Of a configuration that passed the check. */
void agent_config_read(const struct jval *config, struct agent_config *ret_config);

#endif
