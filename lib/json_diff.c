/* SPDX-License-Identifier: Apache-2.0 */
/* One walk over both values at once, with the pointer to where it stands in a buffer that grows and shrinks. */
#include "lib/json_diff.h"

#include <stdint.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/json.h"
#include "lib/xalloc.h"

struct walk {
	const struct json_diff_limits *limits;
	struct jval *list;
	size_t count, bytes;
	struct buf path;
	bool is_full;
};

/* One side of a member: JSON's null is a value, an absent member is none. */
struct side {
	struct jval *value;
	bool is_there;
};

static void push_char(struct buf *path, char c)
{
	if (c == '~')
		buf_append(path, "~0", 2);
	else if (c == '/')
		buf_append(path, "~1", 2);
	else
		buf_append(path, &c, 1);
}

static void push_key(struct buf *path, const char *key)
{
	buf_append(path, "/", 1);
	for (; *key != '\0'; key++)
		push_char(path, *key);
}

static size_t text_len(const struct side *side)
{
	size_t len = 0;

	if (side->is_there)
		(void)jval_text(side->value, &len);
	return len;
}

static void add_side(struct jval *difference, const char *name, const struct side *side)
{
	if (side->is_there)
		jval_add(difference, name, side->value ? jval_ref(side->value) : NULL);
}

static void add(struct walk *w, const struct side *from, const struct side *to)
{
	size_t len = w->path.len + text_len(from) + text_len(to);

	if (buf_has_failed(&w->path))
		xalloc_die();
	if (w->is_full || w->count == w->limits->count_max || len > w->limits->bytes_max - w->bytes) {
		w->is_full = true;
		return;
	}
	struct jval *difference = jval_new_object();
	jval_add(difference, "path", jval_new_string(buf_str(&w->path), w->path.len));
	add_side(difference, "from", from);
	add_side(difference, "to", to);
	jval_push(w->list, difference);
	w->count++;
	w->bytes += len;
}

static void compare(struct walk *w, const struct side *from, const struct side *to);

static void compare_member(struct walk *w, const char *key, const struct side *from, const struct side *to)
{
	size_t len = w->path.len;

	push_key(&w->path, key);
	compare(w, from, to);
	buf_truncate(&w->path, len);
}

/* --- objects --- */

struct pair {
	struct walk *walk;
	const struct jval *other;
	bool is_second; /* its members that the first has not are what is new */
};

static bool each_member(void *closure, const char *key, struct jval *v)
{
	const struct pair *pair = closure;
	const struct side mine = {v, true};
	const struct side theirs = {jval_get(pair->other, key), jval_has(pair->other, key)};

	if (!pair->is_second)
		compare_member(pair->walk, key, &mine, &theirs);
	else if (!theirs.is_there)
		compare_member(pair->walk, key, &theirs, &mine);
	return !pair->walk->is_full;
}

static void compare_objects(struct walk *w, const struct jval *from, const struct jval *to)
{
	struct pair first = {w, to, false}, second = {w, from, true};

	jval_each(from, each_member, &first);
	if (!w->is_full)
		jval_each(to, each_member, &second);
}

/* --- arrays --- */

static void compare_arrays(struct walk *w, const struct jval *from, const struct jval *to)
{
	size_t from_len = jval_array_len(from), to_len = jval_array_len(to);
	size_t len = w->path.len;

	for (size_t i = 0; (i < from_len || i < to_len) && !w->is_full; i++) {
		const struct side a = {jval_array_at(from, i), i < from_len};
		const struct side b = {jval_array_at(to, i), i < to_len};

		buf_printf(&w->path, "/%zu", i);
		compare(w, &a, &b);
		buf_truncate(&w->path, len);
	}
}

static bool is_same_text(const struct jval *a, const struct jval *b)
{
	size_t a_len, b_len;
	const char *a_text = jval_text(a, &a_len), *b_text = jval_text(b, &b_len);

	return a_len == b_len && memcmp(a_text, b_text, a_len) == 0;
}

static void compare(struct walk *w, const struct side *from, const struct side *to)
{
	enum jval_type type = jval_type(from->value);
	bool is_same_kind = from->is_there && to->is_there && type == jval_type(to->value);

	if (is_same_kind && type == JVAL_OBJECT)
		compare_objects(w, from->value, to->value);
	else if (is_same_kind && type == JVAL_ARRAY)
		compare_arrays(w, from->value, to->value);
	else if (!is_same_kind || !is_same_text(from->value, to->value))
		add(w, from, to);
}

struct jval *json_diff(struct jval *from, struct jval *to, const struct json_diff_limits *limits, bool *ret_is_complete)
{
	struct walk w = {.limits = limits, .list = jval_new_array()};
	const struct side a = {from, true}, b = {to, true};

	buf_init(&w.path, SIZE_MAX / 2); /* a path is no longer than the value that it leads into */
	compare(&w, &a, &b);
	buf_clear(&w.path);
	*ret_is_complete = !w.is_full;
	return w.list;
}
