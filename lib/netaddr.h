/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which network addresses a server that somebody else named may have. Private, loopback, link-local, metadata and every
 * other reserved range (IANA special-purpose registries, RFC 6890) is refused, whatever form it is written in:
 * IPv4-mapped addresses are judged as the IPv4 address they hold; NAT64, 6to4 and Teredo, which lead to an IPv4 address
 * behind a translator, as reserved. The operator's list of networks comes first. Pure, but for netaddr_check_host().
 * All threads.
 */
#ifndef LIB_NETADDR_H
#define LIB_NETADDR_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"

struct sockaddr;

struct netaddr_list; /* networks, as CIDR */

/* text: networks separated by blanks or commas, "10.1.0.0/16, fd00::/8, 192.168.1.5"; "" or NULL: none. Host bits must
 * be zero. A network of IPv4-mapped addresses is the IPv4 network. ERR_INPUT. */
bool netaddr_list_parse(const char *text, struct netaddr_list **ret_list, struct err *e) MUST_CHECK;
struct netaddr_list *netaddr_list_copy(const struct netaddr_list *list);
void netaddr_list_free(struct netaddr_list **list);

enum netaddr_rule {
	NETADDR_NOT_RESERVED, /* in the list, or not reserved */
	NETADDR_LISTED        /* in the list: for what is secret and would go in the clear */
};

bool netaddr_is_reserved(const struct sockaddr *address); /* families other than IPv4 and IPv6 are */
/* allowed may be NULL: an empty list. */
bool netaddr_may_connect(const struct netaddr_list *allowed, enum netaddr_rule rule, const struct sockaddr *address);

#define NETADDR_RESOLVE_MS 5000
/*
 * Resolves host (a name or a literal, as in a URL: "[::1]" too) and judges every address that it has now. Blocks up to
 * NETADDR_RESOLVE_MS. ERR_DENIED: one of them is refused; ERR_MISSING: the name is not known; ERR_DOWN: the name
 * servers give no answer, try again; ERR_BUSY: too many look-ups hang at the moment. This is for an early word to
 * whoever types the address in; names move: who connects asks netaddr_may_connect() again.
 */
bool netaddr_check_host(const struct netaddr_list *allowed, enum netaddr_rule rule, const char *host,
			struct err *e) MUST_CHECK;

#endif
