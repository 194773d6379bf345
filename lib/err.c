/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors by value. Texts are formatted into a local buffer first, so a format
 * argument may be the old text of the same error; a text that is too long is cut.
 */
#include "lib/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {
	[ERR_NONE] = "none",           [ERR_INPUT] = "input",       [ERR_DENIED] = "denied",
	[ERR_MISSING] = "missing",     [ERR_CONFLICT] = "conflict", [ERR_LIMIT] = "limit",
	[ERR_BUSY] = "busy",           [ERR_TIMEOUT] = "timeout",   [ERR_DOWN] = "down",
	[ERR_UNCERTAIN] = "uncertain", [ERR_INTERNAL] = "internal",
};

/* Appends what fits; text always ends with a NUL. */
static void append(char *text, size_t size, const char *more)
{
	size_t used = strlen(text);
	size_t len = strnlen(more, size - used - 1);

	memcpy(text + used, more, len);
	text[used + len] = '\0';
}

bool err_set(struct err *e, enum err_code code, const char *fmt, ...)
{
	char text[sizeof(e->text)];
	va_list args;

	if (!e)
		return false;
	va_start(args, fmt);
	if (vsnprintf(text, sizeof(text), fmt, args) < 0)
		text[0] = '\0';
	va_end(args);
	e->code = code;
	memcpy(e->text, text, strlen(text) + 1);
	return false;
}

bool err_ctx(struct err *e, const char *fmt, ...)
{
	char text[sizeof(e->text)];
	va_list args;

	if (!e)
		return false;
	va_start(args, fmt);
	if (vsnprintf(text, sizeof(text), fmt, args) < 0)
		text[0] = '\0';
	va_end(args);
	append(text, sizeof(text), ": ");
	append(text, sizeof(text), e->text);
	memcpy(e->text, text, strlen(text) + 1);
	return false;
}

void err_clear(struct err *e)
{
	if (!e)
		return;
	e->code = ERR_NONE;
	e->text[0] = '\0';
}

const char *err_name(enum err_code code)
{
	return (size_t)code < ARRAY_LEN(names) ? names[code] : "unknown";
}
