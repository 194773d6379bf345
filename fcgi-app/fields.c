/* SPDX-License-Identifier: Apache-2.0 */
/* The table-driven reader of JSON objects: one small function per type. */
#include "fcgi-app/fields.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/arena.h"
#include "lib/id.h"
#include "lib/json.h"
#include "lib/macros.h"

#define NAME_SHOWN_MAX 64

struct reading {
	const char *prefix;
	const struct field *fields;
	size_t count;
	struct field_errors *errors;
};

void fields_fail(struct field_errors *errors, const char *field, const char *reason)
{
	char *name = arena_strdup(errors->mem, field);

	if (errors->count == FIELD_ERRORS_MAX)
		return;
	errors->list[errors->count++] =
		(struct field_error){.field = name ? name : "?", .reason = reason ? reason : "is not valid"};
}

/* The name may be the client's own: cut, but not within a character. */
static void fail_cut(struct field_errors *errors, const char *before, const char *name, const char *reason)
{
	size_t len = strnlen(name, NAME_SHOWN_MAX);

	while (!utf8_is_valid(name, len))
		len--;
	char *full = arena_printf(errors->mem, "%s%.*s", before, (int)len, name);

	fields_fail(errors, full ? full : "?", reason);
}

void fields_fail_member(struct field_errors *errors, const char *field, const char *member, const char *reason)
{
	char *before = member ? arena_printf(errors->mem, "%s.", field) : NULL;

	if (before)
		fail_cut(errors, before, member, reason);
	else
		fields_fail(errors, field, reason);
}

static void fail(struct reading *r, const char *name, const char *reason)
{
	fail_cut(r->errors, r->prefix, name, reason);
}

/* --- the types: NULL when the value was taken, else the reason --- */

/* Characters of valid UTF-8; -1 where a control character is among them (C0, DEL, C1). */
static int64_t count_characters(const char *s, size_t len)
{
	int64_t n = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];
		unsigned char next = i + 1 < len ? (unsigned char)s[i + 1] : 0;
		if (c < 0x20 || c == 0x7f || (c == 0xc2 && next >= 0x80 && next <= 0x9f))
			return -1;
		n += (c & 0xc0) != 0x80;
	}
	return n;
}

static const char *read_text(const struct field *f, const struct jval *v, void *to, struct arena *mem)
{
	size_t len;
	const char *s = jval_string(v, &len);
	int64_t n = s ? count_characters(s, len) : -1;

	if (n < f->min || n > f->max)
		return arena_printf(
			mem, "must be a string of %" PRId64 " to %" PRId64 " characters, without control characters",
			f->min, f->max);
	memcpy(to, &s, sizeof(s));
	return NULL;
}

static const char *read_string(const struct field *f, const struct jval *v, void *to, struct arena *mem)
{
	struct span span;

	span.data = jval_string(v, &span.len);
	if (!span.data || (int64_t)span.len < f->min || (int64_t)span.len > f->max)
		return arena_printf(mem, "must be a string of %" PRId64 " to %" PRId64 " bytes", f->min, f->max);
	memcpy(to, &span, sizeof(span));
	return NULL;
}

static const char *read_int(const struct field *f, const struct jval *v, void *to, struct arena *mem)
{
	int64_t n = jval_int(v);

	if (jval_type(v) != JVAL_INT || n < f->min || n > f->max)
		return arena_printf(mem, "must be an integer from %" PRId64 " to %" PRId64, f->min, f->max);
	memcpy(to, &n, sizeof(n));
	return NULL;
}

static const char *read_bool(const struct jval *v, void *to)
{
	bool b = jval_bool(v);

	if (jval_type(v) != JVAL_BOOL)
		return "must be true or false";
	memcpy(to, &b, sizeof(b));
	return NULL;
}

static const char *list_words(const struct field *f, struct arena *mem)
{
	const char *list = "must be one of:";

	for (const char *const *w = f->words; *w && list; w++)
		list = arena_printf(mem, "%s%s %s", list, w == f->words ? "" : ",", *w);
	return list ? list : "is not a known word";
}

static const char *read_word(const struct field *f, const struct jval *v, void *to, struct arena *mem)
{
	const char *s = jval_string(v, NULL);

	for (int i = 0; s && f->words[i]; i++) {
		if (strcmp(s, f->words[i]) == 0) {
			memcpy(to, &i, sizeof(i));
			return NULL;
		}
	}
	return list_words(f, mem);
}

static const char *read_id(const struct field *f, const struct jval *v, void *to)
{
	struct id id = {""};
	size_t len;
	const char *s = jval_string(v, &len);

	if (!s || (!id_parse(s, len, &id) && !(f->flags & FIELD_LAX)))
		return "must be an id: a UUID in lower case";
	memcpy(to, &id, sizeof(id));
	return NULL;
}

static const char *read_container(const struct field *f, const struct jval *v, void *to, struct arena *mem)
{
	if (f->type == FIELD_OBJECT && jval_type(v) != JVAL_OBJECT)
		return "must be an object";
	if (f->type == FIELD_ARRAY && (jval_type(v) != JVAL_ARRAY || jval_array_len(v) > (size_t)f->max))
		return arena_printf(mem, "must be an array of at most %" PRId64 " elements", f->max);
	memcpy(to, &v, sizeof(v));
	return NULL;
}

static const char *read_time(const struct jval *v, void *to)
{
	int64_t unix_ms = 0;
	size_t len;
	const char *s = jval_string(v, &len);

	if (!s || !fields_parse_time(s, len, &unix_ms))
		return "must be a time as in RFC 3339: 2026-01-02T03:04:05Z";
	memcpy(to, &unix_ms, sizeof(unix_ms));
	return NULL;
}

static const char *read_value(const struct field *f, const struct jval *v, void *to, struct arena *mem)
{
	switch (f->type) {
	case FIELD_TEXT:
		return read_text(f, v, to, mem);
	case FIELD_STRING:
		return read_string(f, v, to, mem);
	case FIELD_INT:
		return read_int(f, v, to, mem);
	case FIELD_BOOL:
		return read_bool(v, to);
	case FIELD_WORD:
		return read_word(f, v, to, mem);
	case FIELD_ID:
		return read_id(f, v, to);
	case FIELD_OBJECT:
	case FIELD_ARRAY:
		return read_container(f, v, to, mem);
	case FIELD_TIME:
		return read_time(v, to);
	}
	return "is not valid";
}

/* --- the object --- */

static void set_null(const struct field *f, void *to)
{
	if (f->type == FIELD_INT || f->type == FIELD_TIME)
		memcpy(to, &f->null_value, sizeof(f->null_value));
}

static void read_field(struct reading *r, const struct field *f, const struct jval *object, char *base)
{
	const struct jval *v = jval_get(object, f->name);
	void *to = base + f->offset;

	if (!jval_has(object, f->name)) {
		if (f->flags & FIELD_REQUIRED)
			fail(r, f->name, "is required");
		return;
	}
	if (jval_type(v) == JVAL_NULL && (f->flags & FIELD_NULLABLE)) {
		set_null(f, to);
		return;
	}
	const char *reason = read_value(f, v, to, r->errors->mem);
	if (reason)
		fail(r, f->name, reason);
}

static bool check_name(void *closure, const char *key, struct jval *v)
{
	struct reading *r = closure;

	(void)v;
	for (size_t i = 0; i < r->count; i++)
		if (strcmp(r->fields[i].name, key) == 0)
			return true;
	fail(r, key, "is not a field of this request");
	return r->errors->count < FIELD_ERRORS_MAX;
}

bool fields_read(const struct jval *object, const char *prefix, const struct field *fields, size_t count,
		 void *ret_struct, struct field_errors *errors)
{
	struct reading r = {.prefix = prefix, .fields = fields, .count = count, .errors = errors};
	size_t before = errors->count;

	if (jval_type(object) != JVAL_OBJECT) {
		fields_fail(errors, prefix, "the body must be a JSON object");
		return false;
	}
	jval_each(object, check_name, &r);
	for (size_t i = 0; i < count; i++)
		read_field(&r, &fields[i], object, ret_struct);
	return errors->count == before;
}

/* --- RFC 3339 --- */

static bool digits(const char *s, size_t count, int *ret_n)
{
	int n = 0;

	for (size_t i = 0; i < count; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		n = n * 10 + (s[i] - '0');
	}
	*ret_n = n;
	return true;
}

static int days_of(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && is_leap);
}

/* Fraction of a second and zone, from *s on to its end. */
static bool parse_tail(const char *s, int *ret_ms, int *ret_offset_min)
{
	int hours, minutes;

	*ret_ms = 0;
	if (*s == '.') {
		int weight = 100;
		if (s[1] < '0' || s[1] > '9')
			return false;
		for (s++; *s >= '0' && *s <= '9'; s++, weight /= 10)
			*ret_ms += (*s - '0') * weight;
	}
	*ret_offset_min = 0;
	if ((*s == 'Z' || *s == 'z') && !s[1])
		return true;
	if ((*s != '+' && *s != '-') || strlen(s) != 6 || s[3] != ':' || !digits(s + 1, 2, &hours) ||
	    !digits(s + 4, 2, &minutes) || hours > 23 || minutes > 59)
		return false;
	*ret_offset_min = (*s == '-' ? -1 : 1) * (hours * 60 + minutes);
	return true;
}

bool fields_parse_time(const char *text, size_t len, int64_t *ret_unix_ms)
{
	int year, month, day, hour, minute, second, ms, offset_min;

	if (len < 20 || strlen(text) != len || text[4] != '-' || text[7] != '-' ||
	    (text[10] != 'T' && text[10] != 't') || text[13] != ':' || text[16] != ':')
		return false;
	if (!digits(text, 4, &year) || !digits(text + 5, 2, &month) || !digits(text + 8, 2, &day) ||
	    !digits(text + 11, 2, &hour) || !digits(text + 14, 2, &minute) || !digits(text + 17, 2, &second) ||
	    !parse_tail(text + 19, &ms, &offset_min))
		return false;
	if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days_of(year, month) || hour > 23 ||
	    minute > 59 || second > 60)
		return false;
	struct tm tm = {.tm_year = year - 1900,
			.tm_mon = month - 1,
			.tm_mday = day,
			.tm_hour = hour,
			.tm_min = minute,
			.tm_sec = second};
	*ret_unix_ms = ((int64_t)timegm(&tm) - offset_min * 60) * 1000 + ms;
	return true;
}
