/* SPDX-License-Identifier: Apache-2.0 */
/* What an LLM config sends its requests to, and with: addresses, keys, extra headers. None may break a request apart or
 * name another host than the one that was looked up. */
#include "core/llm_check.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

static bool is_visible(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)s[i] <= ' ' || (unsigned char)s[i] >= 0x7f)
			return false;
	return true;
}

static void check_url(const char *url, size_t len)
{
	struct llm_origin origin = {.host = "untouched"};
	const char *host = origin.host;

	if (llm_url_check(url, len, &origin)) {
		MUST(strcmp(host, "untouched") == 0 && origin.port == 0);
		return;
	}
	MUST(strncmp(url, origin.has_tls ? "https://" : "http://", origin.has_tls ? 8 : 7) == 0);
	MUST(origin.port >= 1 && origin.port <= 65535);
	MUST(len <= LLM_URL_MAX && is_visible(url, len) && !strpbrk(url, "?#\\\"<>^`{|}"));
	const char *authority = strstr(url, "://") + 3;
	size_t authority_len = strcspn(authority, "/"), host_len = strlen(host);
	MUST(host_len > 0 && host_len <= authority_len && memcmp(authority, host, host_len) == 0);
	MUST(!memchr(authority, '@', authority_len));
	MUST(authority_len == host_len || authority[host_len] == ':');
	MUST(host[0] == '[' || !strpbrk(host, ":[]%@"));
}

/* Up to the first line feed a name, behind it a value. */
static void check_header(const char *text)
{
	size_t name_len = strcspn(text, "\n");
	char *name = strndup(text, name_len);
	const char *value = text[name_len] ? text + name_len + 1 : "";

	MUST(name);
	if (!llm_header_check(name, value, strlen(value))) {
		MUST(name_len > 0 && is_visible(name, name_len) && !strpbrk(name, ":()<>@,;\\\"/[]?={} "));
		MUST(*value && !strpbrk(value, "\r\n\t\x7f"));
		MUST(strcasecmp(name, "authorization") != 0 && strcasecmp(name, "content-length") != 0);
	}
	free(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *s = strndup((const char *)data, size);

	MUST(s);
	size_t len = strlen(s);
	check_url(s, len);
	check_header(s);
	if (!llm_key_check(s, len))
		MUST(len > 0 && len <= LLM_KEY_MAX && is_visible(s, len));
	free(s);
	return 0;
}
