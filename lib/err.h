/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors by value: the code says what the caller can do, the text says what
 * happened. The struct lives on the caller's stack and is the last parameter
 * of every fallible function, which returns false when it has set it.
 * The text is for logs and operators, never for an HTTP client.
 */
#ifndef LIB_ERR_H
#define LIB_ERR_H

#include <stdbool.h>

#include "lib/macros.h"

enum err_code {
	ERR_NONE,
	ERR_INPUT,     /* what came from outside is wrong: tell them, do not retry */
	ERR_DENIED,    /* not allowed */
	ERR_MISSING,   /* it does not exist */
	ERR_CONFLICT,  /* someone else changed it first, or a unique name is taken */
	ERR_LIMIT,     /* a size, count or memory limit was met */
	ERR_BUSY,      /* nothing wrong; try again later */
	ERR_TIMEOUT,   /* no answer in time; nothing was written */
	ERR_DOWN,      /* the database or the bus is not reachable; nothing was written */
	ERR_UNCERTAIN, /* a write may have happened: look before repeating */
	ERR_INTERNAL   /* our mistake, or the system's */
};

struct err {
	enum err_code code;
	char text[240];
};

/* Sets code and text; returns false, so that `return err_set(…)` reads well. e may be NULL. */
bool err_set(struct err *e, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Puts "context: " in front of the text; returns false. */
bool err_ctx(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Back to ERR_NONE. */
void err_clear(struct err *e);
/* "none", "input", … for logs. */
const char *err_name(enum err_code code);

#endif
