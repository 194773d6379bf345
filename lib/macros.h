/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes that the compiler checks for us. */
#ifndef LIB_MACROS_H
#define LIB_MACROS_H

#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define MUST_CHECK __attribute__((warn_unused_result))
#define NORETURN __attribute__((noreturn))
#define STRINGIFY_(x) #x
#define STRINGIFY(x) STRINGIFY_(x)
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
