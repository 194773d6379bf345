/* SPDX-License-Identifier: Apache-2.0 */
/* What may stand in an address without being written otherwise: RFC 3986. */
#include "core/page_url.h"

#include <string.h>
#include <strings.h>

#define URL_MAX 2048
#define PREFIX_MAX 1024

static const char *behind_scheme(const char *url)
{
	if (strncmp(url, "https://", 8) == 0)
		return url + 8;
	return strncmp(url, "http://", 7) == 0 ? url + 7 : NULL;
}

bool page_url_is_plain(const char *url)
{
	const char *authority = behind_scheme(url);

	if (!authority || strlen(url) > URL_MAX)
		return false;
	for (const char *c = url; *c; c++)
		if ((unsigned char)*c <= ' ' || (unsigned char)*c >= 0x7f || strchr("\\\"<>^`{|}", *c))
			return false;
	size_t len = strcspn(authority, "/?#");
	if (len == 0 || memchr(authority, '@', len) || memchr(authority, '%', len))
		return false;
	return !strstr(authority, "/..") && !strcasestr(authority, "%2e") && !strcasestr(authority, "%2f") &&
	       !strcasestr(authority, "%5c");
}

bool page_url_is_prefix(const char *prefix, size_t len)
{
	return len <= PREFIX_MAX && strlen(prefix) == len && page_url_is_plain(prefix) &&
	       strchr(behind_scheme(prefix), '/') && !strpbrk(prefix, "@%?#");
}

bool page_url_is_below(const char *url, const char *prefix)
{
	size_t len = strlen(prefix);

	if (strncmp(url, prefix, len) != 0)
		return false;
	return prefix[len - 1] == '/' || url[len] == '\0' || url[len] == '/' || url[len] == '?' || url[len] == '#';
}
