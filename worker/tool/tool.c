/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tool box of an App, and the names that models see: providers allow fewer characters than tools may have in their
 * names, so what is not allowed becomes an underscore, and what is then the same gets a number.
 */
#include "worker/tool/tool.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/xalloc.h"

#define TOOLS_MAX 128
#define NUMBER_LEN_MAX 4 /* "_128" */

struct tool_box {
	struct tool *tools;
	unsigned count;
	struct jval *value; /* for the model; NULL while there are no tools */
};

struct tool_box *tool_box_new(void)
{
	return xcalloc(1, sizeof(struct tool_box));
}

void tool_box_free(struct tool_box **handle)
{
	struct tool_box *box = *handle;

	if (!box)
		return;
	for (unsigned i = 0; i < box->count; i++) {
		struct tool *tool = &box->tools[i];
		jval_free(&tool->parameters);
		if (tool->impl->free_state)
			tool->impl->free_state(tool->state);
	}
	jval_free(&box->value);
	free(box->tools);
	free(box);
	*handle = NULL;
}

static void give_wire_name(const struct tool_box *box, struct tool *tool)
{
	size_t len = 0;

	for (const char *c = tool->name; *c && len < TOOL_WIRE_NAME_MAX; c++) {
		unsigned char byte = (unsigned char)*c;
		tool->wire_name[len++] = (byte < 0x80 && isalnum(byte)) || byte == '_' || byte == '-' ? *c : '_';
	}
	if (len == 0)
		tool->wire_name[len++] = '_';
	tool->wire_name[len] = '\0';
	if (len > TOOL_WIRE_NAME_MAX - NUMBER_LEN_MAX)
		len = TOOL_WIRE_NAME_MAX - NUMBER_LEN_MAX;
	for (unsigned n = 2; tool_box_find(box, tool->wire_name); n++)
		(void)snprintf(tool->wire_name + len, sizeof(tool->wire_name) - len, "_%u", n);
}

static struct jval *tool_value(const struct tool *tool)
{
	struct jval *value = jval_new_object(), *function = jval_new_object();

	jval_add_string(function, "name", tool->wire_name);
	jval_add_string(function, "description", tool->description);
	jval_add(function, "parameters", jval_ref(tool->parameters));
	jval_add_string(value, "type", "function");
	jval_add(value, "function", function);
	return value;
}

bool tool_box_add(struct tool_box *box, const struct tool *given, struct err *e)
{
	struct tool tool = *given;

	if (box->count == TOOLS_MAX) {
		jval_free(&tool.parameters);
		if (tool.impl->free_state)
			tool.impl->free_state(tool.state);
		return err_set(e, ERR_LIMIT, "more than %d tools", TOOLS_MAX);
	}
	give_wire_name(box, &tool);
	box->tools = xrealloc(box->tools, (box->count + 1) * sizeof(tool));
	box->tools[box->count++] = tool;
	if (!box->value)
		box->value = jval_new_array();
	jval_push(box->value, tool_value(&tool));
	return true;
}

unsigned tool_box_count(const struct tool_box *box)
{
	return box->count;
}

const struct tool *tool_box_find(const struct tool_box *box, const char *wire_name)
{
	for (unsigned i = 0; i < box->count; i++)
		if (strcmp(box->tools[i].wire_name, wire_name) == 0)
			return &box->tools[i];
	return NULL;
}

struct jval *tool_box_value(const struct tool_box *box)
{
	return box->value;
}

size_t tool_box_memory_bytes(const struct tool_box *box)
{
	size_t len = 0;

	if (box->value)
		(void)jval_text(box->value, &len);
	return sizeof(*box) + box->count * sizeof(*box->tools) + 2 * len; /* values, and the schemas they share */
}
