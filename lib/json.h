/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON over json-c, which only json.c includes. A value is `struct jval`, an
 * opaque reference; a document is owned by whoever parsed or made its root and
 * freed with jval_free(); everything reached from it is borrowed from it.
 *
 * Parsing is strict (RFC 8259): whole input, valid UTF-8, no NUL in strings, no
 * duplicate keys, numbers in range, limits on size, depth and count (65536 values).
 */
#ifndef LIB_JSON_H
#define LIB_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

struct buf;
struct jval;

struct json_limits {
	size_t bytes_max;
	int depth_max; /* nesting of arrays and objects, at most 64 */
};

enum jval_type { JVAL_NULL, JVAL_BOOL, JVAL_INT, JVAL_DOUBLE, JVAL_STRING, JVAL_ARRAY, JVAL_OBJECT };

/* ERR_INPUT with a text that names the offset, ERR_LIMIT when over a limit. *ret_root is yours. */
bool jval_parse(const char *text, size_t len, const struct json_limits *limits, struct jval **ret_root,
		struct err *e) MUST_CHECK;
void jval_free(struct jval **root);
/* Overwrites its strings, at every level: before it is freed, where they are secret. (Keys are not.) */
void jval_wipe(struct jval *root);

enum jval_type jval_type(const struct jval *v); /* JVAL_NULL for NULL */
bool jval_bool(const struct jval *v);           /* false unless JVAL_BOOL */
int64_t jval_int(const struct jval *v);         /* 0 unless JVAL_INT */
double jval_double(const struct jval *v);       /* JVAL_INT too; 0 otherwise */
/* The bytes, NUL-terminated, without NUL inside; *ret_len may be NULL. NULL unless JVAL_STRING. */
const char *jval_string(const struct jval *v, size_t *ret_len);
size_t jval_array_len(const struct jval *v);
struct jval *jval_array_at(const struct jval *v, size_t i);
/* NULL where absent; a member that is null gives a non-NULL handle only through jval_has. */
struct jval *jval_get(const struct jval *obj, const char *key);
bool jval_has(const struct jval *obj, const char *key);
/* Calls back for each member in order; stops when cb returns false. */
void jval_each(const struct jval *obj, bool (*cb)(void *closure, const char *key, struct jval *v), void *closure);

/* Building. A NULL string adds null. `add` gives the child to obj; `push` to the array. */
struct jval *jval_new_object(void);
struct jval *jval_new_array(void);
struct jval *jval_new_string(const char *s, size_t len);
void jval_add(struct jval *obj, const char *key, struct jval *child); /* child NULL: null */
void jval_add_string(struct jval *obj, const char *key, const char *s);
void jval_add_int(struct jval *obj, const char *key, int64_t n);
void jval_add_bool(struct jval *obj, const char *key, bool b);
void jval_add_double(struct jval *obj, const char *key, double n);
void jval_remove(struct jval *obj, const char *key);
void jval_push(struct jval *array, struct jval *child);
/* A second owner of the same value (it is never changed afterwards). */
struct jval *jval_ref(struct jval *v);

/* Compact text. Borrowed from v until it is changed or freed. */
const char *jval_text(const struct jval *v, size_t *ret_len);
/* Text with keys sorted at every level: equal values have equal text, so it can be hashed. Appended to out. */
void jval_canonical(const struct jval *v, struct buf *out);
bool utf8_is_valid(const char *s, size_t len);

#endif
