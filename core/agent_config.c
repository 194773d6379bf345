/* SPDX-License-Identifier: Apache-2.0 */
/* Checks and reads an agent's configuration. The numbers are one table, used by both. */
#include "core/agent_config.h"

#include <string.h>

#include "core/framework.h"
#include "core/framework_private.h"
#include "core/llm_check.h"
#include "core/page_url.h"
#include "lib/json.h"
#include "lib/macros.h"

#define MODEL_NAME_MAX 200
#define PROMPT_MAX 65536
#define PARAMETERS_BYTES_MAX 16384
#define TOOLS_MAX 16
#define PREFIXES_MAX 32

/* Numbers that stand in an object of the configuration. */
static const struct number {
	const char *object, *name, *field;
	int64_t min, max, preset;
	const char *reason;
	size_t offset;
} numbers[] = {
#define NUMBER(object, name, min, max, preset, member)                                                                 \
	{                                                                                                              \
		object, name, "config." object "." name, min, max, preset,                                             \
			"must be an integer from " #min " to " #max, offsetof(struct agent_config, member)             \
	}
	NUMBER("limits", "hops", 1, 50, 8, hops),
	NUMBER("limits", "tool_calls", 0, 256, 32, tool_calls),
	NUMBER("limits", "seconds", 1, 3600, 120, seconds),
	NUMBER("limits", "tokens", 0, 10000000, 0, tokens),
	NUMBER("limits", "bytes", 1024, 524288, 262144, bytes),
	NUMBER("limits", "turns", 0, 10000, 0, turns),
	NUMBER("history", "messages", 0, 1000, 50, history_messages),
	NUMBER("history", "tokens", 1, 1000000, 8000, history_tokens),
#undef NUMBER
};

static const char *const tool_names[] = {"current_time", "calculator", "fetch_url", NULL};
static const char *const probe_names[] = {"none", "connect", "call", NULL};
static const char *const parameter_names[] = {"temperature", "top_p", "max_tokens", "max_completion_tokens",
					      "stop",        "seed",  NULL};

static int find_name(const char *const *names, const char *name)
{
	for (int i = 0; name && names[i]; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}

static bool is_array_of(const struct jval *v, const char *const *names, size_t max)
{
	if (jval_type(v) == JVAL_NULL)
		return true;
	if (jval_type(v) != JVAL_ARRAY || jval_array_len(v) > max)
		return false;
	for (size_t i = 0; i < jval_array_len(v); i++) {
		const char *name = jval_string(jval_array_at(v, i), NULL);
		if (find_name(names, name) < 0)
			return false;
		for (size_t k = 0; k < i; k++)
			if (strcmp(jval_string(jval_array_at(v, k), NULL), name) == 0)
				return false;
	}
	return true;
}

static bool are_prefixes(const struct jval *v)
{
	if (jval_type(v) != JVAL_ARRAY || jval_array_len(v) == 0 || jval_array_len(v) > PREFIXES_MAX)
		return false;
	for (size_t i = 0; i < jval_array_len(v); i++) {
		size_t len;
		const char *text = jval_string(jval_array_at(v, i), &len);
		if (!text || !page_url_is_prefix(text, len))
			return false;
	}
	return true;
}

static bool has_tool(const struct jval *config, const char *name)
{
	const struct jval *tools = jval_get(config, "tools");

	for (size_t i = 0; i < jval_array_len(tools); i++) {
		const char *tool = jval_string(jval_array_at(tools, i), NULL);
		if (tool && strcmp(tool, name) == 0)
			return true;
	}
	return false;
}

static void check_tools(const struct jval *config, struct error_list *list)
{
	static const char *const fetch_names[] = {"allow", NULL};
	const struct jval *fetch = jval_get(config, "fetch_url");

	if (!is_array_of(jval_get(config, "tools"), tool_names, TOOLS_MAX))
		error_list_add(list, "config.tools",
			       "must be an array of different tools: current_time, calculator, fetch_url");
	error_list_refuse_unknown(list, fetch, fetch_names, "config.fetch_url");
	if (jval_type(fetch) != JVAL_NULL && jval_type(fetch) != JVAL_OBJECT)
		return;
	if ((fetch || has_tool(config, "fetch_url")) && !are_prefixes(jval_get(fetch, "allow")))
		error_list_add(list, "config.fetch_url.allow",
			       "must be an array of 1 to 32 addresses in ASCII, each with a path: https://host/ or "
			       "https://host/path");
}

static void check_parameters(const struct jval *config, struct error_list *list)
{
	const struct jval *parameters = jval_get(config, "parameters");
	size_t len = 0;

	if (jval_type(parameters) == JVAL_NULL)
		return;
	if (jval_type(parameters) == JVAL_OBJECT)
		(void)jval_text(parameters, &len);
	if (jval_type(parameters) != JVAL_OBJECT || len > PARAMETERS_BYTES_MAX) {
		error_list_add(list, "config.parameters", "must be an object of at most 16384 bytes");
		return;
	}
	for (size_t i = 0; llm_own_fields[i]; i++)
		if (jval_has(parameters, llm_own_fields[i]))
			error_list_add_member(list, "config.parameters", llm_own_fields[i], "is set by Hearth itself");
}

static void check_numbers(const struct jval *config, struct error_list *list)
{
	static const char *const limit_names[] = {"hops", "tool_calls", "seconds", "tokens", "bytes", "turns", NULL};
	static const char *const history_names[] = {"messages", "tokens", NULL};

	error_list_refuse_unknown(list, jval_get(config, "limits"), limit_names, "config.limits");
	error_list_refuse_unknown(list, jval_get(config, "history"), history_names, "config.history");
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		const struct number *n = &numbers[i];
		const struct jval *v = jval_get(jval_get(config, n->object), n->name);

		if (jval_type(v) != JVAL_NULL &&
		    (jval_type(v) != JVAL_INT || jval_int(v) < n->min || jval_int(v) > n->max))
			error_list_add(list, n->field, n->reason);
	}
}

static void check_openai(const struct jval *config, struct error_list *list)
{
	static const char *const known[] = {"parameters", "client_tools", NULL};
	const struct jval *openai = jval_get(config, "openai"), *tools = jval_get(openai, "client_tools");

	error_list_refuse_unknown(list, openai, known, "config.openai");
	if (!is_array_of(jval_get(openai, "parameters"), parameter_names, ARRAY_LEN(parameter_names)))
		error_list_add(list, "config.openai.parameters",
			       "must be an array of temperature, top_p, max_tokens, max_completion_tokens, stop, seed");
	if (jval_type(tools) != JVAL_NULL && jval_type(tools) != JVAL_BOOL)
		error_list_add(list, "config.openai.client_tools", "must be true or false");
}

static bool is_string_of(const struct jval *v, size_t min, size_t max)
{
	size_t len;

	return jval_string(v, &len) && len >= min && len <= max;
}

size_t agent_config_check(const struct jval *config, struct field_error *errors, size_t max)
{
	static const char *const known[] = {
		"llm_config_id", "model",   "system_prompt", "parameters", "tools", "fetch_url",
		"limits",        "history", "probe",         "openai",     NULL};
	struct error_list list = {errors, max, 0};
	size_t len = 0;
	const char *id = jval_string(jval_get(config, "llm_config_id"), &len);
	const struct jval *prompt = jval_get(config, "system_prompt"), *probe = jval_get(config, "probe");
	struct id parsed;

	if (!id || !id_parse(id, len, &parsed))
		error_list_add(&list, "config.llm_config_id", "must be the id of an LLM config of the organization");
	if (!is_string_of(jval_get(config, "model"), 1, MODEL_NAME_MAX))
		error_list_add(&list, "config.model", "must be a string of 1 to 200 bytes");
	if (jval_type(prompt) != JVAL_NULL && !is_string_of(prompt, 0, PROMPT_MAX))
		error_list_add(&list, "config.system_prompt", "must be a string of at most 65536 bytes");
	if (jval_type(probe) != JVAL_NULL && find_name(probe_names, jval_string(probe, NULL)) < 0)
		error_list_add(&list, "config.probe", "must be none, connect or call");
	check_parameters(config, &list);
	check_tools(config, &list);
	check_numbers(config, &list);
	check_openai(config, &list);
	error_list_refuse_unknown(&list, config, known, "config");
	return list.count;
}

unsigned agent_parameter_bit(const char *name)
{
	int at = find_name(parameter_names, name);

	return at < 0 ? 0 : 1U << at;
}

static unsigned bits_of(const struct jval *names)
{
	unsigned bits = 0;

	for (size_t i = 0; i < jval_array_len(names); i++)
		bits |= agent_parameter_bit(jval_string(jval_array_at(names, i), NULL));
	return bits;
}

void agent_config_read(const struct jval *config, struct agent_config *ret_config)
{
	const struct jval *openai = jval_get(config, "openai");
	const char *prompt = jval_string(jval_get(config, "system_prompt"), NULL);
	int probe = find_name(probe_names, jval_string(jval_get(config, "probe"), NULL));
	size_t len = 0;
	const char *id = jval_string(jval_get(config, "llm_config_id"), &len);
	struct agent_config read = {
		.model = jval_string(jval_get(config, "model"), NULL),
		.system_prompt = prompt ? prompt : "",
		.parameters = jval_get(config, "parameters"),
		.tools = jval_get(config, "tools"),
		.probe = probe < 0 ? AGENT_PROBE_CONNECT : (enum agent_probe)probe,
		.caller_parameters = bits_of(jval_get(openai, "parameters")),
		.has_client_tools = jval_bool(jval_get(openai, "client_tools")),
	};

	if (id)
		(void)id_parse(id, len, &read.llm_config_id);
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
		const struct number *n = &numbers[i];
		const struct jval *v = jval_get(jval_get(config, n->object), n->name);
		int64_t value = jval_type(v) == JVAL_INT ? jval_int(v) : n->preset;

		memcpy((char *)&read + n->offset, &value, sizeof(value));
	}
	*ret_config = read;
}
