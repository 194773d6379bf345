/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of pages that an App's tools may read, and the prefixes that its configuration allows: one set of rules for
 * who saves a prefix and who reads a page. Pure. Where a name leads is judged later (lib/netaddr.h).
 */
#ifndef CORE_PAGE_URL_H
#define CORE_PAGE_URL_H

#include <stdbool.h>
#include <stddef.h>

/* http or https, and as it stands: nothing but visible ASCII, no user, nothing that could lead elsewhere than it seems
 * to ("..", an encoded dot or slash). */
bool page_url_is_plain(const char *url);
/* A plain address with a path, up to some boundary of it: "https://host/" or "https://host/path". */
bool page_url_is_prefix(const char *prefix, size_t len);
/* url: plain. "https://host/a" allows "https://host/a/b" and "https://host/a?b", not "https://host/ab". */
bool page_url_is_below(const char *url, const char *prefix);

#endif
