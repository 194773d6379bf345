/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may be saved of an LLM config: addresses, keys, headers, parameters. Pure; a check returns NULL, or what is
 * wrong, as a constant text for the client. Where an address leads is judged later (lib/netaddr.h).
 */
#ifndef CORE_LLM_CHECK_H
#define CORE_LLM_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/netaddr.h"

#define LLM_URL_MAX 2048
#define LLM_HOST_SIZE 256
#define LLM_KEY_MAX 4096
/* What the dialects ask for behind a base_url. */
#define LLM_OPENAI_PATH "/chat/completions"
#define LLM_ANTHROPIC_PATH "/messages"

/* What of a request to a model Hearth itself sets: neither defaults nor an App's parameters name it. NULL-terminated.
 */
extern const char *const llm_own_fields[];

/* Whom a base_url leads to. */
struct llm_origin {
	bool has_tls;             /* https */
	char host[LLM_HOST_SIZE]; /* as the URL has it, "[::1]" too */
	unsigned port;
};
/* http or https, a host, no user, query or fragment. */
const char *llm_url_check(const char *url, size_t len, struct llm_origin *ret_origin);
/* Which addresses it may be at: without TLS key and prompts go in the clear. */
enum netaddr_rule llm_address_rule(bool has_tls);
const char *llm_key_check(const char *key, size_t len);
const char *llm_header_check(const char *name, const char *value, size_t value_len);

#endif
