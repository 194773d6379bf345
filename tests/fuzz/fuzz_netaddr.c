/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of networks: what is refused leaves nothing behind but the reason; what is taken allows more than no list
 * does, never less, and IPv4 the same in both its forms. The first sixteen bytes are an address, the rest is the list.
 */
#include "lib/netaddr.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/xalloc.h"
#include "tests/fuzz/fuzz.h"

#define ADDRESS_BYTES 16

static bool may_connect(const struct netaddr_list *list, const struct sockaddr *address)
{
	return netaddr_may_connect(list, NETADDR_NOT_RESERVED, address);
}

static bool is_listed(const struct netaddr_list *list, const struct sockaddr *address)
{
	return netaddr_may_connect(list, NETADDR_LISTED, address);
}

static void judge(const struct netaddr_list *list, const uint8_t bytes[ADDRESS_BYTES])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	struct sockaddr_in in = {.sin_family = AF_INET};
	const struct sockaddr *six = (const struct sockaddr *)&in6, *four = (const struct sockaddr *)&in;

	memcpy(&in6.sin6_addr, bytes, ADDRESS_BYTES);
	MUST(may_connect(NULL, six) == !netaddr_is_reserved(six));
	MUST(may_connect(list, six) == (is_listed(list, six) || !netaddr_is_reserved(six)));
	MUST(!is_listed(NULL, six));

	memcpy(&in6.sin6_addr, mapped, sizeof(mapped));
	memcpy(&in.sin_addr, bytes + sizeof(mapped), sizeof(in.sin_addr));
	memcpy((uint8_t *)&in6.sin6_addr + sizeof(mapped), &in.sin_addr, sizeof(in.sin_addr));
	MUST(netaddr_is_reserved(four) == netaddr_is_reserved(six));
	MUST(is_listed(list, four) == is_listed(list, six));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct netaddr_list *list = NULL;
	struct err e = {0};

	if (size < ADDRESS_BYTES)
		return 0;
	char *text = xmemdup(data + ADDRESS_BYTES, size - ADDRESS_BYTES);
	if (netaddr_list_parse(text, &list, &e))
		judge(list, data);
	else
		MUST(!list && e.code == ERR_INPUT && e.text[0]);
	netaddr_list_free(&list);
	MUST(!list);
	free(text);
	return 0;
}
