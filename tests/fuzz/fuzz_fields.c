/* SPDX-License-Identifier: Apache-2.0 */
/* A body against a table with a field of every type and flag; the tables of the handlers are fuzz_request's. */
#include "fcgi-app/fields.h"

#include <string.h>

#include "lib/arena.h"
#include "lib/id.h"
#include "lib/json.h"
#include "tests/fuzz/fuzz.h"

#define NONE INT64_C(-7)

struct body {
	const char *text;
	struct span string;
	int64_t number, nullable, time;
	bool flag;
	int word;
	struct id id, lax;
	const struct jval *object, *array;
};

static const char *const words[] = {"hot", "demand", NULL};

#define AT(member) .name = #member, .offset = offsetof(struct body, member)
static const struct field table[] = {
	{AT(text), .type = FIELD_TEXT, .min = 1, .max = 8},
	{AT(string), .type = FIELD_STRING, .min = 2, .max = 16},
	{AT(number), .type = FIELD_INT, .min = -3, .max = 3},
	{AT(nullable), .type = FIELD_INT, .flags = FIELD_NULLABLE, .min = 0, .max = INT64_MAX, .null_value = NONE},
	{AT(time), .type = FIELD_TIME, .flags = FIELD_REQUIRED | FIELD_NULLABLE, .null_value = NONE},
	{AT(flag), .type = FIELD_BOOL},
	{AT(word), .type = FIELD_WORD, .words = words},
	{AT(id), .type = FIELD_ID},
	{AT(lax), .type = FIELD_ID, .flags = FIELD_LAX},
	{AT(object), .type = FIELD_OBJECT},
	{AT(array), .type = FIELD_ARRAY, .max = 3},
};

static void check_values(const struct body *b)
{
	struct id id;

	MUST(!b->text || (b->text[0] && strlen(b->text) <= 32 && utf8_is_valid(b->text, strlen(b->text))));
	MUST(!b->string.data || (b->string.len >= 2 && b->string.len <= 16 && !b->string.data[b->string.len]));
	MUST(b->number >= -3 && b->number <= 3);
	MUST(b->nullable >= 0 || b->nullable == NONE);
	MUST(b->word == 0 || b->word == 1);
	MUST(!id_is_set(&b->id) || id_parse(b->id.text, strlen(b->id.text), &id));
	MUST(!id_is_set(&b->lax) || id_parse(b->lax.text, strlen(b->lax.text), &id));
	MUST(!b->object || jval_type(b->object) == JVAL_OBJECT);
	MUST(!b->array || (jval_type(b->array) == JVAL_ARRAY && jval_array_len(b->array) <= 3));
}

/* They are shown to the client as JSON. */
static void check_errors(const struct field_errors *errors)
{
	MUST(errors->count <= FIELD_ERRORS_MAX);
	for (size_t i = 0; i < errors->count; i++) {
		const struct field_error *one = &errors->list[i];
		MUST(utf8_is_valid(one->field, strlen(one->field)) && utf8_is_valid(one->reason, strlen(one->reason)));
		MUST(one->reason[0]);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct json_limits limits = {.bytes_max = 1 << 20, .depth_max = 32};
	struct body body = {.nullable = NONE, .time = NONE};
	struct field_errors errors = {.mem = arena_new(1 << 16)};
	struct jval *root = NULL;
	struct err e = {0};

	if (jval_parse((const char *)data, size, &limits, &root, &e)) {
		bool ok = fields_read(root, "", table, sizeof(table) / sizeof(table[0]), &body, &errors);
		MUST(ok == (errors.count == 0));
		check_values(&body);
		check_errors(&errors);
	}
	jval_free(&root);
	arena_free(&errors.mem);
	return 0;
}
