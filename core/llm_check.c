/* SPDX-License-Identifier: Apache-2.0 */
/* Narrow on purpose: what is taken here goes into requests as it stands. */
#include "core/llm_check.h"

#include <string.h>
#include <strings.h>

#include "lib/macros.h"

#define HEADER_NAME_MAX 64
#define HEADER_VALUE_MAX 4096

const char *const llm_own_fields[] = {"model", "messages", "system", "stream", "tools", "tool_choice", "n", NULL};

static bool is_visible(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (s[i] < 0x21 || s[i] > 0x7e)
			return false;
	return true;
}

static bool is_all_of(const char *s, size_t len, const char *allowed)
{
	return strspn(s, allowed) >= len;
}

#define ALNUM "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

/* From behind the host: nothing, which is the scheme's own, or ":" and 1 to 65535. */
static bool read_port(const char *s, size_t len, bool has_tls, unsigned *ret_port)
{
	unsigned port = 0;

	if (len == 0) {
		*ret_port = has_tls ? 443 : 80;
		return true;
	}
	if (s[0] != ':' || len < 2 || len > 6 || !is_all_of(s + 1, len - 1, "0123456789"))
		return false;
	for (size_t i = 1; i < len; i++)
		port = port * 10 + (unsigned)(s[i] - '0');
	if (port < 1 || port > 65535)
		return false;
	*ret_port = port;
	return true;
}

/* A name, an IPv4 or an IPv6 address in brackets; 0: none of them. */
static size_t host_len(const char *s, size_t len)
{
	const char *end;
	size_t n;

	if (len > 0 && s[0] == '[') {
		end = memchr(s, ']', len);
		n = end ? (size_t)(end - s) + 1 : 0;
		return n > 2 && is_all_of(s + 1, n - 2, "0123456789abcdefABCDEF:.") ? n : 0;
	}
	n = strspn(s, ALNUM "-._");
	return n < len ? n : len;
}

static bool is_path(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (s[i] != '%' && !strchr(ALNUM "-._~!$&'()*+,;=:@/", s[i]))
			return false;
		if (s[i] == '%' && (i + 2 >= len || !is_all_of(s + i + 1, 2, "0123456789abcdefABCDEF")))
			return false;
	}
	return true;
}

/* But for slashes behind it. */
static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), end_len = strlen(end);

	while (len > 0 && text[len - 1] == '/')
		len--;
	return len >= end_len && strncmp(text + len - end_len, end, end_len) == 0;
}

const char *llm_url_check(const char *url, size_t len, struct llm_origin *ret_origin)
{
	struct llm_origin origin = {.has_tls = strncmp(url, "https://", 8) == 0};
	const char *rest = url + (origin.has_tls ? 8 : 7);
	size_t authority, host;

	if (len > LLM_URL_MAX || strlen(url) != len)
		return "must be a URL of at most 2048 characters";
	if (!origin.has_tls && strncmp(url, "http://", 7) != 0)
		return "must begin with https:// or http://";
	if (!is_visible(url, len))
		return "must not hold blanks, control characters or characters beyond ASCII";
	if (strpbrk(rest, "?#"))
		return "must have no query and no fragment";
	authority = strcspn(rest, "/");
	if (memchr(rest, '@', authority))
		return "must hold no user name or password";
	host = host_len(rest, authority);
	if (host == 0 || host >= LLM_HOST_SIZE ||
	    !read_port(rest + host, authority - host, origin.has_tls, &origin.port))
		return "must name a host, with a port from 1 to 65535 where one is given";
	if (!is_path(rest + authority, strlen(rest + authority)))
		return "has a path with characters that must be percent-encoded";
	if (ends_with(rest, LLM_OPENAI_PATH) || ends_with(rest, LLM_ANTHROPIC_PATH))
		return "must end before " LLM_OPENAI_PATH " or " LLM_ANTHROPIC_PATH ", which Hearth adds";
	memcpy(origin.host, rest, host);
	*ret_origin = origin;
	return NULL;
}

enum netaddr_rule llm_address_rule(bool has_tls)
{
	return has_tls ? NETADDR_NOT_RESERVED : NETADDR_LISTED;
}

const char *llm_key_check(const char *key, size_t len)
{
	if (len < 1 || len > LLM_KEY_MAX || !is_visible(key, len))
		return "must be a string of 1 to 4096 visible ASCII characters";
	return NULL;
}

/* Those that the request itself is made of, and those that a proxy would take as its own (RFC 9110 7.6.1). */
static bool is_reserved_header(const char *name)
{
	static const char *const reserved[] = {
		"Accept-Encoding", "Authorization",     "Connection", "Content-Encoding",
		"Content-Length",  "Content-Type",      "Expect",     "Host",
		"HTTP2-Settings",  "Keep-Alive",        "TE",         "Trailer",
		"Upgrade",         "Transfer-Encoding",
	};

	for (size_t i = 0; i < ARRAY_LEN(reserved); i++)
		if (strcasecmp(reserved[i], name) == 0)
			return true;
	return strncasecmp(name, "Proxy-", 6) == 0;
}

const char *llm_header_check(const char *name, const char *value, size_t value_len)
{
	size_t name_len = strlen(name);

	if (name_len < 1 || name_len > HEADER_NAME_MAX || !is_all_of(name, name_len, ALNUM "!#$%&'*+-.^_`|~"))
		return "is not the name of a header: 1 to 64 letters, digits and any of !#$%&'*+-.^_`|~";
	if (is_reserved_header(name))
		return "is a header that Hearth sets by itself";
	if (value_len < 1 || value_len > HEADER_VALUE_MAX || value[0] == ' ' || value[value_len - 1] == ' ')
		return "must be a string of 1 to 4096 characters, without blanks at its ends";
	for (size_t i = 0; i < value_len; i++)
		if (value[i] < 0x20 || value[i] > 0x7e)
			return "must hold no control characters and none beyond ASCII";
	return NULL;
}
