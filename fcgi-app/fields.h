/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a JSON object into a struct from a table of fields, with strict types
 * and ranges. The struct holds the defaults before; what is absent stays. All
 * errors are collected, a member that the table does not name is one too.
 *
 *   FIELD_TEXT    const char *    characters min..max, UTF-8, no control characters
 *   FIELD_STRING  struct span     bytes min..max, anything that JSON can say
 *   FIELD_INT     int64_t         min..max
 *   FIELD_BOOL    bool
 *   FIELD_WORD    int             index into words
 *   FIELD_ID      struct id       "" where the text is no id and FIELD_LAX is set
 *   FIELD_OBJECT  const struct jval *
 *   FIELD_ARRAY   const struct jval *   at most max elements
 *   FIELD_TIME    int64_t         RFC 3339 → Unix milliseconds
 */
#ifndef FCGI_APP_FIELDS_H
#define FCGI_APP_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/framework.h"

struct arena;
struct jval;

#define FIELD_ERRORS_MAX 16

enum field_type {
	FIELD_TEXT,
	FIELD_STRING,
	FIELD_INT,
	FIELD_BOOL,
	FIELD_WORD,
	FIELD_ID,
	FIELD_OBJECT,
	FIELD_ARRAY,
	FIELD_TIME
};
enum field_flag {
	FIELD_REQUIRED = 1,
	FIELD_NULLABLE = 2, /* null leaves the default, or sets an int64_t to null_value */
	FIELD_LAX = 4       /* FIELD_ID: a malformed id is no error here but "" */
};

struct span {
	const char *data; /* NUL-terminated behind len, no NUL inside */
	size_t len;
};

struct field {
	const char *name;
	enum field_type type;
	unsigned flags;
	size_t offset;
	int64_t min, max;
	const char *const *words; /* NULL-terminated */
	int64_t null_value;
};

struct field_errors {
	struct arena *mem;
	struct field_error list[FIELD_ERRORS_MAX];
	size_t count;
};

/* prefix: "" or "quotas." in the names of errors. Strings are borrowed from object. True: this object had no error. */
bool fields_read(const struct jval *object, const char *prefix, const struct field *fields, size_t count,
		 void *ret_struct, struct field_errors *errors);
/* Adds one; past FIELD_ERRORS_MAX it is dropped. reason must live in mem or be a constant; field is copied. */
void fields_fail(struct field_errors *errors, const char *field, const char *reason);
/* Of a member of field whose name is the client's own: it is cut. member NULL: of field itself. */
void fields_fail_member(struct field_errors *errors, const char *field, const char *member, const char *reason);

/* "2026-01-02T03:04:05[.678](Z|+01:00)". */
bool fields_parse_time(const char *text, size_t len, int64_t *ret_unix_ms);

#endif
