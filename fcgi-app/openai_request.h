/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The body of POST /v1/chat/completions, checked and put into what a worker takes: messages, tools and parameters with
 * just the fields that Hearth knows. Which parameters and tools an AI App lets its callers set is the App's own affair,
 * and its worker's answer. Pure.
 */
#ifndef FCGI_APP_OPENAI_REQUEST_H
#define FCGI_APP_OPENAI_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

struct arena;
struct jval;

#define OPENAI_MESSAGES_MAX 2048
#define OPENAI_TOOLS_MAX 128

struct openai_request {
	const char *model; /* an App's id or name; borrowed from the body */
	bool stream, include_usage;
	const char *message; /* the text of the last message of a user, "" where there is none; in the arena */
	size_t message_len;
	/* Owned: openai_request_clear(). */
	struct jval *messages, *tools, *tool_choice, *parameters; /* NULL: none */
};

/* False: *ret_param is the field that is wrong ("messages[3].content") and *ret_reason says how; both in the arena or
 * constants. What was read so far is to be cleared all the same. */
bool openai_request_read(const struct jval *body, struct arena *mem, struct openai_request *ret_request,
			 const char **ret_param, const char **ret_reason);
void openai_request_clear(struct openai_request *request);

#endif
