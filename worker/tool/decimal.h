/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exact arithmetic on decimal numbers: 0.1 + 0.2 is 0.3. Rational numbers within (GMP, which only decimal.c includes),
 * rounded once, at the end. Bounded: a number that grows beyond DECIMAL_BITS_MAX is refused, not computed.
 *
 *   expression = term (('+'|'-') term)*        term = factor (('*'|'/'|'%') factor)*
 *   factor = ('+'|'-') factor | power          power = primary ('^' factor)?      whole exponents, at most 999
 *   primary = number | '(' expression ')'      number = 12  12.5  .5  1.5e-3
 */
#ifndef WORKER_TOOL_DECIMAL_H
#define WORKER_TOOL_DECIMAL_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"

#define DECIMAL_EXPRESSION_MAX 1024 /* bytes */
#define DECIMAL_DIGITS 34           /* significant ones, about, of a result that does not end */
#define DECIMAL_BITS_MAX 16384
#define DECIMAL_TEXT_SIZE 6144 /* of any result, with its NUL */

/* The result in plain digits. ERR_INPUT with a text for who wrote the expression: where it is wrong, a division by
 * zero; ERR_LIMIT: too large. */
bool decimal_evaluate(const char *expression, char ret_text[DECIMAL_TEXT_SIZE], struct err *e) MUST_CHECK;

#endif
