/* SPDX-License-Identifier: Apache-2.0 */
/* An AI App's configuration, as every framework's check sees it. */
#include "core/framework.h"

#include <string.h>

#include "lib/buf.h"
#include "lib/json.h"
#include "tests/fuzz/fuzz.h"

#define ERRORS_MAX 16

static void check_errors(const struct field_error *errors, size_t count)
{
	for (size_t i = 0; i < count && i < ERRORS_MAX; i++)
		MUST(errors[i].field && errors[i].field[0] && errors[i].reason && errors[i].reason[0]);
	for (size_t i = count; i < ERRORS_MAX; i++)
		MUST(!errors[i].field && !errors[i].reason);
}

static void check_echo(const struct jval *config)
{
	struct echo_config echo;

	echo_config_read(config, &echo);
	MUST(echo.prefix && utf8_is_valid(echo.prefix, strlen(echo.prefix)));
	MUST(echo.word_delay_ms >= 0 && echo.build_delay_ms >= 0);
	MUST(!echo.build_fail || echo.build_fail[0]);
}

/* A configuration is stored in its canonical form (where 1.0 is 1): what was good must stay it. */
static void check_stored(const struct framework *f, const struct jval *config)
{
	const struct json_limits limits = {.bytes_max = 1 << 24, .depth_max = 32};
	struct field_error errors[ERRORS_MAX];
	struct jval *stored = NULL;
	struct buf out;
	struct err e = {0};

	buf_init(&out, limits.bytes_max);
	jval_canonical(config, &out);
	MUST(!buf_has_failed(&out) && jval_parse(out.data, out.len, &limits, &stored, &e));
	MUST(f->check(stored, errors, ERRORS_MAX) == 0);
	jval_free(&stored);
	buf_clear(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct json_limits limits = {.bytes_max = 1 << 20, .depth_max = 32};
	const struct framework *f;
	struct jval *config = NULL;
	struct err e = {0};

	if (!jval_parse((const char *)data, size, &limits, &config, &e))
		return 0;
	for (size_t i = 0; jval_type(config) == JVAL_OBJECT && (f = framework_at(i)); i++) {
		struct field_error errors[ERRORS_MAX] = {{0}};
		size_t count = f->check(config, errors, ERRORS_MAX);
		check_errors(errors, count);
		if (count == 0)
			check_stored(f, config);
		if (count == 0 && strcmp(f->name, "echo") == 0)
			check_echo(config);
	}
	jval_free(&config);
	return 0;
}
