/* SPDX-License-Identifier: Apache-2.0 */
/* JSON: what is accepted is written and read back to the same; what is refused leaves nothing behind but the reason. */
#include "lib/json.h"

#include <string.h>

#include "lib/buf.h"
#include "tests/fuzz/fuzz.h"

#define DEPTH_MAX 32
#define BYTES_MAX (1 << 20)

static const struct json_limits limits = {.bytes_max = BYTES_MAX, .depth_max = DEPTH_MAX};
/* Written text may be longer than it was: 1e9 becomes 1000000000.0. */
static const struct json_limits wide = {.bytes_max = 64 * (size_t)BYTES_MAX, .depth_max = DEPTH_MAX};

static void check(const struct jval *v, int depth);

static bool check_member(void *closure, const char *key, struct jval *v)
{
	MUST(utf8_is_valid(key, strlen(key)));
	check(v, *(const int *)closure + 1);
	return true;
}

static void check(const struct jval *v, int depth)
{
	const char *s;
	size_t len;

	MUST(depth <= DEPTH_MAX);
	switch (jval_type(v)) {
	case JVAL_STRING:
		s = jval_string(v, &len);
		MUST(s && strlen(s) == len && utf8_is_valid(s, len));
		break;
	case JVAL_ARRAY:
		for (size_t i = 0; i < jval_array_len(v); i++)
			check(jval_array_at(v, i), depth + 1);
		break;
	case JVAL_OBJECT:
		jval_each(v, check_member, &depth);
		break;
	case JVAL_NULL:
	case JVAL_BOOL:
	case JVAL_INT:
	case JVAL_DOUBLE:
		break;
	}
}

static void canonical(const struct jval *v, struct buf *out)
{
	buf_init(out, wide.bytes_max);
	jval_canonical(v, out);
	MUST(!buf_has_failed(out));
}

static void read_back(const struct jval *v)
{
	struct jval *again = NULL;
	struct buf first, second;
	struct err e = {0};
	size_t len, again_len;
	const char *text = jval_text(v, &len);

	MUST(jval_parse(text, len, &wide, &again, &e));
	MUST(jval_type(again) == jval_type(v));
	const char *again_text = jval_text(again, &again_len);
	MUST(again_len == len && memcmp(again_text, text, len) == 0);
	canonical(v, &first);
	canonical(again, &second);
	MUST(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
	jval_free(&again);
	MUST(jval_parse(first.data, first.len, &wide, &again, &e)); /* what is hashed is JSON, too */
	jval_free(&again);
	buf_clear(&first);
	buf_clear(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct jval *untouched = (struct jval *)(uintptr_t)&limits;
	struct jval *root = untouched;
	struct err e = {0};

	if (!jval_parse((const char *)data, size, &limits, &root, &e)) {
		MUST(root == untouched);
		MUST((e.code == ERR_INPUT || e.code == ERR_LIMIT) && e.text[0]);
		return 0;
	}
	check(root, 1);
	read_back(root);
	jval_free(&root);
	MUST(!root);
	return 0;
}
