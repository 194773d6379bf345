/* SPDX-License-Identifier: Apache-2.0 */
#include "core/llm_check.h"

#include <string.h>

#include "lib/macros.h"
#include "tests/unit/harness.h"

static const struct {
	int line;
	const char *url;
	const char *host; /* NULL: refused */
	unsigned port;
} urls[] = {
	{__LINE__, "https://api.openai.com/v1", "api.openai.com", 443},
	{__LINE__, "http://127.0.0.1:8080", "127.0.0.1", 8080},
	{__LINE__, "https://[::1]:443/v1/", "[::1]", 443},
	{__LINE__, "https://host_with-all.of.it/a%20b/~c;d=e,f@g:h/", "host_with-all.of.it", 443},
	{__LINE__, "http://2130706433/", "2130706433", 80}, /* an address as well: the resolver says which */
	{__LINE__, "https://host:080/", "host", 80},
	{__LINE__, "http://host:65535", "host", 65535},
	{__LINE__, "", NULL, 0},
	{__LINE__, "https://", NULL, 0},
	{__LINE__, "https:///v1", NULL, 0},
	{__LINE__, "HTTPS://host/", NULL, 0},
	{__LINE__, "ftp://host/", NULL, 0},
	{__LINE__, "https://host/v1/chat/completions", NULL, 0}, /* these are asked for behind it */
	{__LINE__, "https://host/chat/completions//", NULL, 0},
	{__LINE__, "https://host/v1/messages", NULL, 0},
	{__LINE__, "https://host/messages/", NULL, 0},
	{__LINE__, "https://host/v1/messagesx", "host", 443},
	{__LINE__, "file:///etc/passwd", NULL, 0},
	{__LINE__, "https://user@host/", NULL, 0},
	{__LINE__, "https://user:password@host/", NULL, 0},
	{__LINE__, "https://host/v1?x=1", NULL, 0},
	{__LINE__, "https://host/v1#x", NULL, 0},
	{__LINE__, "https://host\\@other/", NULL, 0},
	{__LINE__, "https://ho st/", NULL, 0},
	{__LINE__, "https://host/a b", NULL, 0},
	{__LINE__, "https://host/\r\nX: y", NULL, 0},
	{__LINE__, "https://h\xc3\xb6st/", NULL, 0},
	{__LINE__, "https://host/%2", NULL, 0},
	{__LINE__, "https://host/%zz", NULL, 0},
	{__LINE__, "https://host:", NULL, 0},
	{__LINE__, "https://host:0/", NULL, 0},
	{__LINE__, "https://host:65536/", NULL, 0},
	{__LINE__, "https://host:123456/", NULL, 0},
	{__LINE__, "https://host:1x/", NULL, 0},
	{__LINE__, "https://[::1/", NULL, 0},
	{__LINE__, "https://[]/", NULL, 0},
	{__LINE__, "https://[fe80::1%25eth0]/", NULL, 0},
	{__LINE__, "https://:443/", NULL, 0},
};

static void only_plain_urls_of_a_host_are_taken(void)
{
	struct llm_origin origin;
	char longest[LLM_URL_MAX + 3];

	for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
		const char *reason = llm_url_check(urls[i].url, strlen(urls[i].url), &origin);

		CHECK_ROW(&urls[i], (reason == NULL) == (urls[i].host != NULL));
		if (reason || !urls[i].host)
			continue;
		CHECK_ROW(&urls[i], strcmp(origin.host, urls[i].host) == 0 && origin.port == urls[i].port);
		CHECK_ROW(&urls[i], origin.has_tls == (urls[i].url[4] == 's'));
	}
	(void)snprintf(longest, sizeof(longest), "https://host/");
	memset(longest + 13, 'a', sizeof(longest) - 14);
	longest[LLM_URL_MAX] = '\0';
	CU_ASSERT_PTR_NULL(llm_url_check(longest, strlen(longest), &origin));
	longest[LLM_URL_MAX] = 'a';
	longest[LLM_URL_MAX + 1] = '\0';
	CU_ASSERT_PTR_NOT_NULL(llm_url_check(longest, strlen(longest), &origin));
	memset(longest + 8, 'h', LLM_HOST_SIZE);
	CU_ASSERT_PTR_NOT_NULL(llm_url_check(longest, LLM_URL_MAX, &origin));
	CU_ASSERT_PTR_NOT_NULL(llm_url_check("https://ho\0st", 13, &origin));
}

static const struct {
	int line;
	const char *name, *value;
	bool is_good;
} headers[] = {
	{__LINE__, "X-Team", "a team, of two", true},
	{__LINE__, "anthropic-beta", "tools-2024", true},
	{__LINE__, "api-key", "0123", true},
	{__LINE__, "!#$%&'*+-.^_`|~", "x", true},
	{__LINE__, "", "x", false},
	{__LINE__, "X Team", "x", false},
	{__LINE__, "X-Team:", "x", false},
	{__LINE__, "X-T\xc3\xa4m", "x", false},
	{__LINE__, "X-T\r\nY", "x", false},
	{__LINE__, "X-Team", "", false},
	{__LINE__, "X-Team", " x", false},
	{__LINE__, "X-Team", "x ", false},
	{__LINE__, "X-Team", "a\r\nHost: b", false},
	{__LINE__, "X-Team", "a\nb", false},
	{__LINE__, "X-Team", "a\tb", false},
	{__LINE__, "X-Team", "\xc3\xa4", false},
	{__LINE__, "authorization", "x", false},
	{__LINE__, "Host", "x", false},
	{__LINE__, "CONTENT-LENGTH", "1", false},
	{__LINE__, "Transfer-Encoding", "chunked", false},
	{__LINE__, "Connection", "close", false},
	{__LINE__, "Proxy-Authorization", "x", false},
	{__LINE__, "te", "x", false},
};

static void a_header_can_neither_break_a_request_nor_pose_as_another(void)
{
	char longest[66];

	for (size_t i = 0; i < ARRAY_LEN(headers); i++)
		CHECK_ROW(&headers[i], (llm_header_check(headers[i].name, headers[i].value, strlen(headers[i].value)) ==
					NULL) == headers[i].is_good);
	memset(longest, 'a', sizeof(longest));
	longest[64] = '\0';
	CU_ASSERT_PTR_NULL(llm_header_check(longest, "x", 1));
	longest[64] = 'a';
	longest[65] = '\0';
	CU_ASSERT_PTR_NOT_NULL(llm_header_check(longest, "x", 1));
	CU_ASSERT_PTR_NULL(llm_key_check("k", 1));
	CU_ASSERT_PTR_NOT_NULL(llm_key_check("", 0));
	CU_ASSERT_PTR_NOT_NULL(llm_key_check("a b", 3));
	CU_ASSERT_PTR_NOT_NULL(llm_key_check("a\nb", 3));
	CU_ASSERT_PTR_NOT_NULL(llm_key_check("a\xc3\xa4", 3));
}

static CU_TestInfo cases[] = {
	CASE(only_plain_urls_of_a_host_are_taken),
	CASE(a_header_can_neither_break_a_request_nor_pose_as_another),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"llm_check", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
