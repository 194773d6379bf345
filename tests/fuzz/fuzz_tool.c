/* SPDX-License-Identifier: Apache-2.0 */
/* What models and pages write for the built-in tools: sums and HTML. */
#include <string.h>

#include "lib/buf.h"
#include "tests/fuzz/fuzz.h"
#include "worker/tool/decimal.h"
#include "worker/tool/html_text.h"

static void check_sum(const char *text)
{
	char result[DECIMAL_TEXT_SIZE], again[DECIMAL_TEXT_SIZE];
	struct err e = {0};

	if (!decimal_evaluate(text, result, &e)) {
		MUST(e.code == ERR_INPUT || e.code == ERR_LIMIT);
		return;
	}
	MUST(result[0] != '\0' && strspn(result, "-.0123456789") == strlen(result));
	/* What comes out is a number, and itself. */
	if (strlen(result) <= 500)
		MUST(decimal_evaluate(result, again, &e) && strcmp(result, again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[2048];
	struct buf out;

	if (size >= sizeof(text))
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	check_sum(text);
	buf_init(&out, size + 1);
	html_text((const char *)data, size, &out);
	MUST(!buf_has_failed(&out));
	buf_clear(&out);
	return 0;
}
