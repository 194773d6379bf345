/* SPDX-License-Identifier: Apache-2.0 */
/* The small parsers: ids, tokens, request ids, Prefer, Content-Type, times. */
#include <string.h>

#include "fcgi-app/fields.h"
#include "fcgi-app/request.h"
#include "lib/clock.h"
#include "lib/id.h"
#include "lib/json.h"
#include "lib/secret.h"
#include "tests/fuzz/fuzz.h"

static void check_id(const char *s, size_t len)
{
	struct id id = {"untouched"};

	if (!id_parse(s, len, &id)) {
		MUST(strcmp(id.text, "untouched") == 0);
		return;
	}
	MUST(len == ID_TEXT_LEN && memcmp(id.text, s, len) == 0 && !id.text[len]);
	MUST(strspn(id.text, "0123456789abcdef-") == len);
	struct id_bin bin = id_to_bin(&id);
	struct id again = id_from_bin(&bin);
	MUST(id_equal(&id, &again));
}

static void check_token(const char *s, size_t len)
{
	if (!secret_token_is_wellformed(s, len))
		return;
	MUST(len == SECRET_TOKEN_LEN && memcmp(s, SECRET_TOKEN_PREFIX, strlen(SECRET_TOKEN_PREFIX)) == 0);
	for (size_t i = 0; i < len; i++)
		MUST((unsigned char)s[i] > ' ' && (unsigned char)s[i] < 0x7f);
}

static void check_time(const char *s, size_t len)
{
	int64_t unix_ms = -1, again = -1;
	char text[CLOCK_RFC3339_SIZE];

	if (!fields_parse_time(s, len, &unix_ms)) {
		MUST(unix_ms == -1);
		return;
	}
	MUST(unix_ms >= -INT64_C(86400000)); /* 1970 in a zone ahead of UTC */
	if (unix_ms < 0 || unix_ms > INT64_C(253402300799999))
		return; /* a zone moved it out of the four-digit years */
	clock_rfc3339(unix_ms, text);
	MUST(fields_parse_time(text, strlen(text), &again) && again == unix_ms);
	MUST(clock_parse_rfc3339(text, &again) && again == unix_ms);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *s = strndup((const char *)data, size);
	bool is_head;

	MUST(s);
	size_t len = strlen(s);
	check_id((const char *)data, size);
	check_token((const char *)data, size);
	check_time(s, len);
	if (request_id_is_good(s))
		MUST(len > 0 && len <= REQUEST_ID_MAX && !strpbrk(s, " \t\r\n\"=%/"));
	int wait_s = request_parse_prefer(s);
	MUST(wait_s >= -1 && wait_s <= REQUEST_WAIT_MAX_S);
	(void)request_is_json_type(s);
	if (request_parse_method(s, &is_head) != METHOD_GET)
		MUST(!is_head);
	int64_t unix_ms = 0;
	if (clock_parse_rfc3339(s, &unix_ms))
		MUST(len >= 20);
	(void)utf8_is_valid((const char *)data, size);
	free(s);
	return 0;
}
