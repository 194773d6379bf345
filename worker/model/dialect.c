/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of providers, and what their errors have in common. */
#include "worker/model/dialect.h"

#include <stdio.h>

#include "lib/json.h"

const struct dialect *dialect_of(enum llm_provider provider)
{
	return provider == LLM_ANTHROPIC ? &dialect_anthropic : &dialect_openai;
}

void dialect_error_text(const struct jval *root, char *ret_text, size_t size)
{
	const struct jval *error = jval_get(root, "error");
	const char *text = jval_string(error, NULL);

	if (!text)
		text = jval_string(jval_get(error, "message"), NULL);
	if (!text)
		text = jval_string(jval_get(error, "type"), NULL);
	if (!text)
		text = jval_string(jval_get(root, "message"), NULL);
	(void)snprintf(ret_text, size, "%s", text ? text : "");
}
