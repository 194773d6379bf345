/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json-c holds the values and writes them; reading is done here, by one pass
 * of recursive descent over RFC 8259. json-c's own reader, strict or not, lets
 * a repeated key replace the first, bends large integers to the nearest it can
 * hold, and does not say where in the text an error is.
 *
 * What bounds a hostile text: its length, its depth (recursion), and the count
 * of its values, because "{}," is 3 bytes of text but about 800 of memory.
 * json-c seeds its key hashes at random. Memory that runs out aborts (xalloc.h).
 *
 * Values that are never changed may be read by several threads, except with
 * jval_text(), for which json-c keeps the text inside the value.
 */
#include "lib/json.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "lib/buf.h"
#include "lib/secret.h"
#include "lib/xalloc.h"

#define DEPTH_MAX 64
#define VALUE_COUNT_MAX 65536
#define DOUBLE_TEXT_SIZE 32

struct reader {
	const char *text;
	size_t len;
	size_t at;
	int depth_left;
	size_t values_left;
	struct buf scratch; /* the key, number or escaped string being read */
	struct err *e;
};

static bool read_value(struct reader *r, struct json_object **ret_value);

/* --- between our handles and json-c's --- */

static struct json_object *obj_of(const struct jval *v)
{
	return (struct json_object *)v;
}

static struct jval *val_of(struct json_object *o)
{
	return (struct jval *)o;
}

/* json-c answers NULL only when memory is out. */
static struct json_object *made(struct json_object *o)
{
	if (!o)
		xalloc_die();
	return o;
}

static void must_be_0(int result)
{
	if (result != 0)
		xalloc_die();
}

/* --- UTF-8 --- */

/* Bytes of the valid sequence at s, 0 if there is none (RFC 3629: shortest form, no surrogates). */
static size_t utf8_sequence_len(const unsigned char *s, size_t left)
{
	unsigned char low = 0x80, high = 0xbf; /* bounds of the second byte */
	size_t len;

	if (left == 0 || s[0] < 0x80)
		return left > 0;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		len = 2;
	else if ((s[0] & 0xf0) == 0xe0)
		len = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		len = 4;
	else
		return 0;
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (left < len || s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	return len;
}

bool utf8_is_valid(const char *s, size_t len)
{
	size_t step;

	for (size_t at = 0; at < len; at += step) {
		step = utf8_sequence_len((const unsigned char *)s + at, len - at);
		if (step == 0)
			return false;
	}
	return true;
}

static void append_utf8(struct buf *out, uint32_t c)
{
	char s[4];
	size_t len = 0;

	if (c < 0x80) {
		s[len++] = (char)c;
	} else if (c < 0x800) {
		s[len++] = (char)(0xc0 | c >> 6);
	} else if (c < 0x10000) {
		s[len++] = (char)(0xe0 | c >> 12);
		s[len++] = (char)(0x80 | (c >> 6 & 0x3f));
	} else {
		s[len++] = (char)(0xf0 | c >> 18);
		s[len++] = (char)(0x80 | (c >> 12 & 0x3f));
		s[len++] = (char)(0x80 | (c >> 6 & 0x3f));
	}
	if (c >= 0x80)
		s[len++] = (char)(0x80 | (c & 0x3f));
	buf_append(out, s, len);
}

/* --- reading --- */

static bool fail_at(struct reader *r, size_t at, const char *what)
{
	return err_set(r->e, ERR_INPUT, "JSON: %s at byte %zu", what, at);
}

static bool fail(struct reader *r, const char *what)
{
	return fail_at(r, r->at, r->at < r->len ? what : "unexpected end");
}

/* The byte at hand, -1 at the end. */
static int peek(const struct reader *r)
{
	return r->at < r->len ? (unsigned char)r->text[r->at] : -1;
}

static bool skip_char(struct reader *r, char c)
{
	if (peek(r) != c)
		return false;
	r->at++;
	return true;
}

static void skip_space(struct reader *r)
{
	while (peek(r) == ' ' || peek(r) == '\n' || peek(r) == '\r' || peek(r) == '\t')
		r->at++;
}

static bool read_hex4(struct reader *r, uint32_t *ret_unit)
{
	uint32_t unit = 0;

	for (int i = 0; i < 4; i++, r->at++) {
		int c = peek(r);
		if (c >= '0' && c <= '9')
			unit = unit << 4 | (uint32_t)(c - '0');
		else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'))
			unit = unit << 4 | (uint32_t)((c | 0x20) - 'a' + 10);
		else
			return fail(r, "four hex digits are missing");
	}
	*ret_unit = unit;
	return true;
}

/* Behind "\u": one code point, which may take a second \u. start is the backslash. */
static bool read_unicode_escape(struct reader *r, size_t start)
{
	uint32_t c, low;

	if (!read_hex4(r, &c))
		return false;
	if (c == 0)
		return fail_at(r, start, "NUL in a string");
	if (c >= 0xd800 && c <= 0xdbff && skip_char(r, '\\') && skip_char(r, 'u')) {
		if (!read_hex4(r, &low))
			return false;
		if (low < 0xdc00 || low > 0xdfff)
			return fail_at(r, start, "half of a surrogate pair");
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	}
	if (c >= 0xd800 && c <= 0xdfff)
		return fail_at(r, start, "half of a surrogate pair");
	append_utf8(&r->scratch, c);
	return true;
}

static bool read_escape(struct reader *r)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	size_t start = r->at++;
	int c = peek(r);
	const char *found = c > 0 ? strchr(from, c) : NULL;

	if (c == 'u') {
		r->at++;
		return read_unicode_escape(r, start);
	}
	if (!found)
		return fail(r, "unknown escape");
	r->at++;
	buf_append(&r->scratch, to + (found - from), 1);
	return true;
}

/* Moves over bytes that stand for themselves, up to a quote, a backslash or an error. */
static bool skip_plain(struct reader *r)
{
	const unsigned char *s = (const unsigned char *)r->text;

	while (r->at < r->len) {
		unsigned char c = s[r->at];
		if (c == '"' || c == '\\')
			return true;
		if (c < 0x20)
			return fail(r, "control character in a string");
		size_t step = c < 0x80 ? 1 : utf8_sequence_len(s + r->at, r->len - r->at);
		if (step == 0)
			return fail(r, "invalid UTF-8");
		r->at += step;
	}
	return fail(r, "");
}

/* The string at hand; *ret_s points into the text or, where it had escapes, into the scratch buffer. */
static bool read_string(struct reader *r, const char **ret_s, size_t *ret_len)
{
	size_t start = ++r->at;

	if (!skip_plain(r))
		return false;
	*ret_s = r->text + start;
	*ret_len = r->at - start;
	if (skip_char(r, '"'))
		return true;
	buf_reset(&r->scratch);
	buf_append(&r->scratch, *ret_s, *ret_len);
	while (!skip_char(r, '"')) {
		if (!read_escape(r))
			return false;
		start = r->at;
		if (!skip_plain(r))
			return false;
		buf_append(&r->scratch, r->text + start, r->at - start);
	}
	*ret_s = r->scratch.data;
	*ret_len = r->scratch.len;
	return true;
}

static bool skip_digits(struct reader *r)
{
	size_t start = r->at;

	while (peek(r) >= '0' && peek(r) <= '9')
		r->at++;
	return r->at > start || fail(r, "a digit is missing");
}

/* Moves over the grammar's number and says whether it has a fraction or an exponent. */
static bool skip_number(struct reader *r, bool *ret_is_double)
{
	size_t start;

	(void)skip_char(r, '-');
	start = r->at;
	if (!skip_digits(r))
		return false;
	if (r->text[start] == '0' && r->at > start + 1)
		return fail_at(r, start, "number with a leading zero");
	*ret_is_double = peek(r) == '.' || (peek(r) | 0x20) == 'e';
	if (skip_char(r, '.') && !skip_digits(r))
		return false;
	if (skip_char(r, 'e') || skip_char(r, 'E')) {
		if (!skip_char(r, '+'))
			(void)skip_char(r, '-');
		return skip_digits(r);
	}
	return true;
}

static bool read_number(struct reader *r, struct json_object **ret_value)
{
	size_t start = r->at;
	bool is_double = false;

	if (!skip_number(r, &is_double))
		return false;
	buf_reset(&r->scratch);
	buf_append(&r->scratch, r->text + start, r->at - start);
	errno = 0;
	if (is_double) {
		double d = strtod(r->scratch.data, NULL);
		if (!isfinite(d))
			return fail_at(r, start, "number out of range");
		*ret_value = made(json_object_new_double_s(d, r->scratch.data));
		return true;
	}
	long long n = strtoll(r->scratch.data, NULL, 10);
	if (errno == ERANGE)
		return fail_at(r, start, "number out of range");
	*ret_value = made(json_object_new_int64(n));
	return true;
}

static bool read_word(struct reader *r, const char *word)
{
	size_t len = strlen(word);

	if (r->len - r->at < len || memcmp(r->text + r->at, word, len) != 0)
		return fail(r, "not a value");
	r->at += len;
	return true;
}

static bool enter(struct reader *r)
{
	if (r->depth_left <= 0)
		return err_set(r->e, ERR_LIMIT, "JSON: nested too deep at byte %zu", r->at);
	r->depth_left--;
	r->at++;
	skip_space(r);
	return true;
}

/* Behind a member or element: more after a comma, or the end of it at close. */
static bool read_next(struct reader *r, char close, bool *ret_more)
{
	skip_space(r);
	*ret_more = skip_char(r, ',');
	if (!*ret_more) {
		if (skip_char(r, close))
			return true;
		return fail(r, close == ']' ? "',' or ']' is missing" : "',' or '}' is missing");
	}
	skip_space(r);
	return true;
}

static bool read_elements(struct reader *r, struct json_object *array)
{
	bool has_more = !skip_char(r, ']');

	while (has_more) {
		struct json_object *value;
		if (!read_value(r, &value))
			return false;
		must_be_0(json_object_array_add(array, value));
		if (!read_next(r, ']', &has_more))
			return false;
	}
	return true;
}

static bool read_member(struct reader *r, struct json_object *obj)
{
	struct json_object *value;
	size_t start = r->at, len;
	const char *s;

	if (peek(r) != '"')
		return fail(r, "a key in double quotes is missing");
	if (!read_string(r, &s, &len))
		return false;
	char *key = xmemdup(s, len);
	bool ok = false;
	if (json_object_object_get_ex(obj, key, NULL)) {
		(void)fail_at(r, start, "duplicate key");
		goto out;
	}
	skip_space(r);
	if (!skip_char(r, ':')) {
		(void)fail(r, "':' is missing");
		goto out;
	}
	skip_space(r);
	if (!read_value(r, &value))
		goto out;
	must_be_0(json_object_object_add_ex(obj, key, value, JSON_C_OBJECT_ADD_KEY_IS_NEW));
	ok = true;
out:
	free(key);
	return ok;
}

static bool read_members(struct reader *r, struct json_object *obj)
{
	bool has_more = !skip_char(r, '}');

	while (has_more) {
		if (!read_member(r, obj) || !read_next(r, '}', &has_more))
			return false;
	}
	return true;
}

static bool read_container(struct reader *r, struct json_object **ret_value)
{
	bool is_array = peek(r) == '[';

	if (!enter(r))
		return false;
	struct json_object *o = made(is_array ? json_object_new_array() : json_object_new_object());
	if (!(is_array ? read_elements(r, o) : read_members(r, o))) {
		json_object_put(o);
		return false;
	}
	r->depth_left++;
	*ret_value = o;
	return true;
}

static bool read_text_value(struct reader *r, struct json_object **ret_value)
{
	const char *s;
	size_t len;

	if (!read_string(r, &s, &len))
		return false;
	*ret_value = made(json_object_new_string_len(s, (int)len));
	return true;
}

static bool read_bool(struct reader *r, bool b, struct json_object **ret_value)
{
	if (!read_word(r, b ? "true" : "false"))
		return false;
	*ret_value = made(json_object_new_boolean(b));
	return true;
}

/* *ret_value is NULL for null. */
static bool read_value(struct reader *r, struct json_object **ret_value)
{
	if (r->values_left-- == 0)
		return err_set(r->e, ERR_LIMIT, "JSON: more than %d values", VALUE_COUNT_MAX);
	switch (peek(r)) {
	case '{':
	case '[':
		return read_container(r, ret_value);
	case '"':
		return read_text_value(r, ret_value);
	case 't':
		return read_bool(r, true, ret_value);
	case 'f':
		return read_bool(r, false, ret_value);
	case 'n':
		*ret_value = NULL;
		return read_word(r, "null");
	case '-':
	case '0' ... '9':
		return read_number(r, ret_value);
	default:
		return fail(r, "not a value");
	}
}

bool jval_parse(const char *text, size_t len, const struct json_limits *limits, struct jval **ret_root, struct err *e)
{
	struct json_object *root = NULL;
	struct reader r = {
		.text = text,
		.len = len,
		.depth_left = limits->depth_max < DEPTH_MAX ? limits->depth_max : DEPTH_MAX,
		.values_left = VALUE_COUNT_MAX,
		.e = e,
	};

	if (len > limits->bytes_max || len > INT32_MAX)
		return err_set(e, ERR_LIMIT, "JSON: %zu bytes, the limit is %zu", len, limits->bytes_max);
	buf_init_secret(&r.scratch, len);
	skip_space(&r);
	bool ok = read_value(&r, &root);
	skip_space(&r);
	if (ok && r.at < r.len) {
		ok = fail(&r, "text after the value");
		json_object_put(root);
	}
	buf_clear(&r.scratch);
	if (ok)
		*ret_root = val_of(root);
	return ok;
}

void jval_free(struct jval **root)
{
	json_object_put(obj_of(*root));
	*root = NULL;
}

static bool wipe_member(void *closure, const char *key, struct jval *v)
{
	(void)closure;
	(void)key;
	jval_wipe(v);
	return true;
}

void jval_wipe(struct jval *root)
{
	size_t len;
	const char *s = jval_string(root, &len);

	if (s)
		secret_wipe((char *)s, len); /* the library's own copy of it */
	for (size_t i = 0; i < jval_array_len(root); i++)
		jval_wipe(jval_array_at(root, i));
	jval_each(root, wipe_member, NULL);
}

/* --- looking --- */

enum jval_type jval_type(const struct jval *v)
{
	switch (json_object_get_type(obj_of(v))) {
	case json_type_boolean:
		return JVAL_BOOL;
	case json_type_int:
		return JVAL_INT;
	case json_type_double:
		return JVAL_DOUBLE;
	case json_type_string:
		return JVAL_STRING;
	case json_type_array:
		return JVAL_ARRAY;
	case json_type_object:
		return JVAL_OBJECT;
	case json_type_null:
		break;
	}
	return JVAL_NULL;
}

bool jval_bool(const struct jval *v)
{
	return jval_type(v) == JVAL_BOOL && json_object_get_boolean(obj_of(v));
}

int64_t jval_int(const struct jval *v)
{
	return jval_type(v) == JVAL_INT ? json_object_get_int64(obj_of(v)) : 0;
}

double jval_double(const struct jval *v)
{
	if (jval_type(v) == JVAL_INT)
		return (double)jval_int(v);
	return jval_type(v) == JVAL_DOUBLE ? json_object_get_double(obj_of(v)) : 0;
}

const char *jval_string(const struct jval *v, size_t *ret_len)
{
	if (jval_type(v) != JVAL_STRING)
		return NULL;
	if (ret_len)
		*ret_len = (size_t)json_object_get_string_len(obj_of(v));
	return json_object_get_string(obj_of(v));
}

size_t jval_array_len(const struct jval *v)
{
	return jval_type(v) == JVAL_ARRAY ? json_object_array_length(obj_of(v)) : 0;
}

struct jval *jval_array_at(const struct jval *v, size_t i)
{
	return i < jval_array_len(v) ? val_of(json_object_array_get_idx(obj_of(v), i)) : NULL;
}

struct jval *jval_get(const struct jval *obj, const char *key)
{
	struct json_object *value = NULL;

	if (jval_type(obj) != JVAL_OBJECT || !json_object_object_get_ex(obj_of(obj), key, &value))
		return NULL;
	return val_of(value);
}

bool jval_has(const struct jval *obj, const char *key)
{
	return jval_type(obj) == JVAL_OBJECT && json_object_object_get_ex(obj_of(obj), key, NULL);
}

void jval_each(const struct jval *obj, bool (*cb)(void *closure, const char *key, struct jval *v), void *closure)
{
	if (jval_type(obj) != JVAL_OBJECT)
		return;
	json_object_object_foreach(obj_of(obj), key, value)
	{
		if (!cb(closure, key, val_of(value)))
			return;
	}
}

/* --- building --- */

struct jval *jval_new_object(void)
{
	return val_of(made(json_object_new_object()));
}

struct jval *jval_new_array(void)
{
	return val_of(made(json_object_new_array()));
}

struct jval *jval_new_string(const char *s, size_t len)
{
	return s ? val_of(made(json_object_new_string_len(s, (int)len))) : NULL;
}

void jval_add(struct jval *obj, const char *key, struct jval *child)
{
	must_be_0(json_object_object_add(obj_of(obj), key, obj_of(child)));
}

void jval_add_string(struct jval *obj, const char *key, const char *s)
{
	jval_add(obj, key, jval_new_string(s, s ? strlen(s) : 0));
}

void jval_add_int(struct jval *obj, const char *key, int64_t n)
{
	jval_add(obj, key, val_of(made(json_object_new_int64(n))));
}

/* The shortest text that reads as n again. */
static const char *double_text(double n, char text[DOUBLE_TEXT_SIZE])
{
	for (int digits = DBL_DIG; digits <= DBL_DECIMAL_DIG; digits++) {
		(void)snprintf(text, DOUBLE_TEXT_SIZE, "%.*g", digits, n);
		if (strtod(text, NULL) == n)
			break;
	}
	return text;
}

void jval_add_double(struct jval *obj, const char *key, double n)
{
	char text[DOUBLE_TEXT_SIZE];

	jval_add(obj, key, val_of(made(json_object_new_double_s(n, double_text(n, text)))));
}

void jval_remove(struct jval *obj, const char *key)
{
	json_object_object_del(obj_of(obj), key);
}

void jval_add_bool(struct jval *obj, const char *key, bool b)
{
	jval_add(obj, key, val_of(made(json_object_new_boolean(b))));
}

void jval_push(struct jval *array, struct jval *child)
{
	must_be_0(json_object_array_add(obj_of(array), obj_of(child)));
}

struct jval *jval_ref(struct jval *v)
{
	return val_of(json_object_get(obj_of(v)));
}

/* --- writing --- */

const char *jval_text(const struct jval *v, size_t *ret_len)
{
	size_t len = 0;
	const char *text = json_object_to_json_string_length(
		obj_of(v), JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);

	if (!text)
		xalloc_die();
	if (ret_len)
		*ret_len = len;
	return text;
}

static void write_string(struct buf *out, const char *s, size_t len)
{
	buf_append(out, "\"", 1);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];
		if (c == '"' || c == '\\')
			buf_append(out, "\\", 1);
		if (c < 0x20)
			buf_printf(out, "\\u%04x", c);
		else
			buf_append(out, s + i, 1);
	}
	buf_append(out, "\"", 1);
}

static int by_key(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void write_object(const struct jval *obj, struct buf *out)
{
	size_t count = (size_t)json_object_object_length(obj_of(obj)), i = 0;
	const char **keys = xcalloc(count, sizeof(*keys));

	json_object_object_foreach(obj_of(obj), key, value)
	{
		(void)value;
		keys[i++] = key;
	}
	qsort(keys, count, sizeof(*keys), by_key);
	buf_append(out, "{", 1);
	for (i = 0; i < count; i++) {
		if (i > 0)
			buf_append(out, ",", 1);
		write_string(out, keys[i], strlen(keys[i]));
		buf_append(out, ":", 1);
		jval_canonical(jval_get(obj, keys[i]), out);
	}
	buf_append(out, "}", 1);
	free(keys);
}

static void write_array(const struct jval *array, struct buf *out)
{
	buf_append(out, "[", 1);
	for (size_t i = 0; i < jval_array_len(array); i++) {
		if (i > 0)
			buf_append(out, ",", 1);
		jval_canonical(jval_array_at(array, i), out);
	}
	buf_append(out, "]", 1);
}

void jval_canonical(const struct jval *v, struct buf *out)
{
	char number[DOUBLE_TEXT_SIZE];
	size_t len = 0;
	const char *s;

	switch (jval_type(v)) {
	case JVAL_NULL:
		buf_append_str(out, "null");
		break;
	case JVAL_BOOL:
		buf_append_str(out, jval_bool(v) ? "true" : "false");
		break;
	case JVAL_INT:
		buf_printf(out, "%" PRId64, jval_int(v));
		break;
	case JVAL_DOUBLE:
		buf_append_str(out, double_text(jval_double(v), number));
		break;
	case JVAL_STRING:
		s = jval_string(v, &len);
		write_string(out, s, len);
		break;
	case JVAL_ARRAY:
		write_array(v, out);
		break;
	case JVAL_OBJECT:
		write_object(v, out);
		break;
	}
}
