/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/netaddr.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/macros.h"
#include "tests/unit/harness.h"

/* text: IPv4 or IPv6, strictly. */
static struct sockaddr_storage address_of(const char *text)
{
	struct sockaddr_storage storage = {0};
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
		memcpy(&storage, &in, sizeof(in));
	else if (inet_pton(AF_INET6, text, &in6.sin6_addr) == 1)
		memcpy(&storage, &in6, sizeof(in6));
	else
		CU_FAIL_FATAL("no address");
	return storage;
}

static bool is_refused(const char *text)
{
	struct sockaddr_storage storage = address_of(text);
	const struct sockaddr *address = (const struct sockaddr *)&storage;

	CU_ASSERT_EQUAL(netaddr_may_connect(NULL, NETADDR_NOT_RESERVED, address), !netaddr_is_reserved(address));
	CU_ASSERT_FALSE(netaddr_may_connect(NULL, NETADDR_LISTED, address));
	return netaddr_is_reserved(address);
}

/* before, after: the public neighbours; NULL where the neighbour is of another reserved range. */
struct range {
	int line;
	const char *before, *first, *last, *after;
};

static const struct range ipv4_ranges[] = {
	{__LINE__, NULL, "0.0.0.0", "0.255.255.255", "1.0.0.0"},
	{__LINE__, "9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0"},
	{__LINE__, "100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0"},
	{__LINE__, "126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0"},
	{__LINE__, "168.63.129.15", "168.63.129.16", "168.63.129.16", "168.63.129.17"},
	{__LINE__, "169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0"},
	{__LINE__, "172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0"},
	{__LINE__, "191.255.255.255", "192.0.0.0", "192.0.0.255", "192.0.1.0"},
	{__LINE__, "192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0"},
	{__LINE__, "192.31.195.255", "192.31.196.0", "192.31.196.255", "192.31.197.0"},
	{__LINE__, "192.52.192.255", "192.52.193.0", "192.52.193.255", "192.52.194.0"},
	{__LINE__, "192.88.98.255", "192.88.99.0", "192.88.99.255", "192.88.100.0"},
	{__LINE__, "192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0"},
	{__LINE__, "192.175.47.255", "192.175.48.0", "192.175.48.255", "192.175.49.0"},
	{__LINE__, "198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0"},
	{__LINE__, "198.51.99.255", "198.51.100.0", "198.51.100.255", "198.51.101.0"},
	{__LINE__, "203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0"},
	{__LINE__, "223.255.255.255", "224.0.0.0", "239.255.255.255", NULL},
	{__LINE__, NULL, "240.0.0.0", "255.255.255.255", NULL},
};

#define ONES4 ":ffff:ffff:ffff:ffff"

static const struct range ipv6_ranges[] = {
	/* all that is no global unicast */
	{__LINE__, NULL, "::", "::ffff:ffff", NULL},
	{__LINE__, NULL, "::fffe:ffff:ffff", "::fffe:ffff:ffff", "::ffff:1.0.0.0"},
	{__LINE__, "::ffff:223.255.255.255", "::ffff:224.0.0.0", "::1:0:0:0", NULL},
	{__LINE__, NULL, "::ffff:0:0:0", "::ffff:0:ffff:ffff", NULL},
	{__LINE__, NULL, "64:ff9b::", "64:ff9b::ffff:ffff", NULL},
	{__LINE__, NULL, "64:ff9b::8.8.8.8", "64:ff9b::127.0.0.1", NULL},
	{__LINE__, NULL, "64:ff9b:1::", "64:ff9b:1:ffff" ONES4, NULL},
	{__LINE__, NULL, "100::", "100::ffff:ffff:ffff:ffff", NULL},
	{__LINE__, NULL, "1::", "1fff:ffff:ffff:ffff" ONES4, "2000::"},
	{__LINE__, "3fff:ffff:ffff:ffff" ONES4, "4000::", "5f00::1", NULL},
	{__LINE__, NULL, "fc00::", "fdff:ffff:ffff:ffff" ONES4, NULL},
	{__LINE__, NULL, "fe80::", "febf:ffff:ffff:ffff" ONES4, NULL},
	{__LINE__, NULL, "fec0::", "feff:ffff:ffff:ffff" ONES4, NULL},
	{__LINE__, NULL, "ff00::", "ffff:ffff:ffff:ffff" ONES4, NULL},
	{__LINE__, NULL, "::1", "fd00:ec2::254", NULL},
	/* reserved ranges of global unicast */
	{__LINE__, "2000:ffff:ffff:ffff" ONES4, "2001::", "2001:0:ffff:ffff" ONES4, NULL},
	{__LINE__, NULL, "2001:2::", "2001:2:0:ffff" ONES4, NULL},
	{__LINE__, NULL, "2001:10::", "2001:2f:ffff:ffff" ONES4, NULL},
	{__LINE__, NULL, "2001:30::", "2001:1ff:ffff:ffff" ONES4, "2001:200::"},
	{__LINE__, "2001:db7:ffff:ffff" ONES4, "2001:db8::", "2001:db8:ffff:ffff" ONES4, "2001:db9::"},
	{__LINE__, "2001:ffff:ffff:ffff" ONES4, "2002::", "2002:ffff:ffff:ffff" ONES4, "2003::"},
	{__LINE__, NULL, "2002:808:808::", "2002:7f00:1::", NULL},
	{__LINE__, "2620:4f:7fff:ffff" ONES4, "2620:4f:8000::", "2620:4f:8000:ffff" ONES4, "2620:4f:8001::"},
	{__LINE__, "3ffe:ffff:ffff:ffff" ONES4, "3fff::", "3fff:fff:ffff:ffff" ONES4, "3fff:1000::"},
};

static void check_ranges(const struct range *ranges, size_t count, const char *prefix)
{
	char text[INET6_ADDRSTRLEN];

	for (size_t i = 0; i < count; i++) {
		const struct range *r = &ranges[i];
		const char *refused[] = {r->first, r->last}, *taken[] = {r->before, r->after};
		for (size_t j = 0; j < 2; j++) {
			(void)snprintf(text, sizeof(text), "%s%s", prefix, refused[j]);
			CHECK_ROW(r, is_refused(text));
			(void)snprintf(text, sizeof(text), "%s%s", prefix, taken[j] ? taken[j] : "");
			CHECK_ROW(r, !taken[j] || !is_refused(text));
		}
	}
}

static void reserved_ranges_of_ipv4_are_refused_and_nothing_beside_them(void)
{
	check_ranges(ipv4_ranges, ARRAY_LEN(ipv4_ranges), "");
}

static void a_mapped_address_is_judged_as_what_it_holds(void)
{
	check_ranges(ipv4_ranges, ARRAY_LEN(ipv4_ranges), "::ffff:");
}

static void reserved_ranges_of_ipv6_are_refused_and_nothing_beside_them(void)
{
	check_ranges(ipv6_ranges, ARRAY_LEN(ipv6_ranges), "");
}

static void other_families_are_refused(void)
{
	const struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/run/x"};
	struct netaddr_list *all = NULL;
	struct err e = {0};

	CU_ASSERT(netaddr_is_reserved((const struct sockaddr *)&un));
	CU_ASSERT_FATAL(netaddr_list_parse("0.0.0.0/0, ::/0", &all, &e));
	CU_ASSERT_FALSE(netaddr_may_connect(all, NETADDR_NOT_RESERVED, (const struct sockaddr *)&un));
	CU_ASSERT_FALSE(netaddr_may_connect(all, NETADDR_LISTED, (const struct sockaddr *)&un));
	netaddr_list_free(&all);
}

/* --- the list --- */

static const struct {
	int line;
	const char *list, *address;
	bool is_listed;
} allowed_rows[] = {
	{__LINE__, "10.1.0.0/16", "10.1.0.0", true},
	{__LINE__, "10.1.0.0/16", "10.1.255.255", true},
	{__LINE__, "10.1.0.0/16", "10.0.255.255", false},
	{__LINE__, "10.1.0.0/16", "10.2.0.0", false},
	{__LINE__, "10.1.0.0/16", "::ffff:10.1.2.3", true},
	{__LINE__, "::ffff:10.1.0.0/112", "10.1.2.3", true},
	{__LINE__, "::ffff:10.1.0.0/112", "10.2.2.3", false},
	{__LINE__, "192.168.1.5", "192.168.1.5", true},
	{__LINE__, "192.168.1.5", "192.168.1.4", false},
	{__LINE__, "192.168.1.4/31", "192.168.1.5", true},
	{__LINE__, "192.168.1.4/31", "192.168.1.6", false},
	{__LINE__, "10.128.0.0/9", "10.128.0.1", true},
	{__LINE__, "10.128.0.0/9", "10.127.255.255", false},
	{__LINE__, "0.0.0.0/0", "127.0.0.1", true},
	{__LINE__, "0.0.0.0/0", "::1", false},
	{__LINE__, "::/0", "::1", true},
	{__LINE__, "::/0", "127.0.0.1", false},
	{__LINE__, "::/0", "::ffff:127.0.0.1", false},
	{__LINE__, "::/64", "::ffff:127.0.0.1", false},
	{__LINE__, "::1", "::1", true},
	{__LINE__, "::1", "::2", false},
	{__LINE__, "fd00::/8", "fdff::1", true},
	{__LINE__, "fd00::/8", "fc00::1", false},
	{__LINE__, " 10.1.0.0/16,\n\tfd00::/8 , 192.168.1.5 ,", "192.168.1.5", true},
	{__LINE__, " 10.1.0.0/16,\n\tfd00::/8 , 192.168.1.5 ,", "fd00::1", true},
	{__LINE__, " 10.1.0.0/16,\n\tfd00::/8 , 192.168.1.5 ,", "10.1.0.1", true},
	{__LINE__, " 10.1.0.0/16,\n\tfd00::/8 , 192.168.1.5 ,", "192.168.1.6", false},
	{__LINE__, "8.8.8.0/24", "8.8.8.8", true}, /* public ones, too */
	{__LINE__, "8.8.8.0/24", "8.8.4.4", false},
	{__LINE__, "8.8.8.0/24", "::ffff:8.8.8.8", true},
	{__LINE__, "2606:4700::/32", "2606:4700::1", true},
	{__LINE__, "2606:4700::/32", "2606:4701::1", false},
	{__LINE__, "0.0.0.0/0", "8.8.8.8", true},
	{__LINE__, "10.1.0.0/16", "8.8.8.8", false},
	{__LINE__, "", "10.0.0.1", false},
	{__LINE__, "", "8.8.8.8", false},
	{__LINE__, " , ", "10.0.0.1", false},
	{__LINE__, NULL, "10.0.0.1", false},
	{__LINE__, NULL, "8.8.8.8", false},
};

static const struct sockaddr *generic(const struct sockaddr_storage *address)
{
	return (const struct sockaddr *)address;
}

/* The list takes nothing away from what is allowed without it. */
static void a_network_of_the_list_is_allowed_and_nothing_else(void)
{
	for (size_t i = 0; i < ARRAY_LEN(allowed_rows); i++) {
		struct sockaddr_storage address = address_of(allowed_rows[i].address);
		struct netaddr_list *list = NULL;
		struct err e = {0};
		CHECK_ROW(&allowed_rows[i], netaddr_list_parse(allowed_rows[i].list, &list, &e));
		bool is_listed = allowed_rows[i].is_listed, is_reserved = netaddr_is_reserved(generic(&address));
		CHECK_ROW(&allowed_rows[i], netaddr_may_connect(list, NETADDR_LISTED, generic(&address)) == is_listed);
		CHECK_ROW(&allowed_rows[i], netaddr_may_connect(list, NETADDR_NOT_RESERVED, generic(&address)) ==
						    (is_listed || !is_reserved));
		netaddr_list_free(&list);
		CHECK_ROW(&allowed_rows[i], !list);
	}
}

static const struct {
	int line;
	const char *list;
} wrong_lists[] = {
	{__LINE__, "10.1.0.0/15"},
	{__LINE__, "10.1.0.1/16"},
	{__LINE__, "128.0.0.0/0"},
	{__LINE__, "fd00::1/64"},
	{__LINE__, "10.0.0.0/33"},
	{__LINE__, "10.0.0.0/"},
	{__LINE__, "10.0.0.0/-1"},
	{__LINE__, "10.0.0.0/+8"},
	{__LINE__, "10.0.0.0/08"},
	{__LINE__, "10.0.0.0/8x"},
	{__LINE__, "10.0.0.0/8/8"},
	{__LINE__, "10.0.0.0/0000008"},
	{__LINE__, "10.0.0.0/255.0.0.0"},
	{__LINE__, "fd00::/129"},
	{__LINE__, "10/8"},
	{__LINE__, "10.0.0"},
	{__LINE__, "127.1"},
	{__LINE__, "0x7f.0.0.1"},
	{__LINE__, "localhost"},
	{__LINE__, "/8"},
	{__LINE__, "10.0.0.0/8;fd00::/8"},
	{__LINE__, "10.0.0.0/8, x"},
	{__LINE__, "[::1]"},
	{__LINE__, "fe80::1%lo"},
	{__LINE__, "::ffff:0.0.0.0/95"},
	{__LINE__, "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"},
};

static void a_list_that_is_none_is_refused_with_its_word(void)
{
	for (size_t i = 0; i < ARRAY_LEN(wrong_lists); i++) {
		struct netaddr_list *list = NULL;
		struct err e = {0};
		CHECK_ROW(&wrong_lists[i], !netaddr_list_parse(wrong_lists[i].list, &list, &e));
		CHECK_ROW(&wrong_lists[i], e.code == ERR_INPUT && e.text[0] && !list);
	}
}

/* --- hosts --- */

static const struct {
	int line;
	const char *list, *host;
	enum err_code code;
} host_rows[] = {
	{__LINE__, NULL, "8.8.8.8", ERR_NONE},
	{__LINE__, NULL, "2606:4700::1111", ERR_NONE},
	{__LINE__, NULL, "[2606:4700::1111]", ERR_NONE},
	{__LINE__, NULL, "127.0.0.1", ERR_DENIED},
	{__LINE__, NULL, "169.254.169.254", ERR_DENIED},
	{__LINE__, NULL, "[fd00:ec2::254]", ERR_DENIED},
	{__LINE__, NULL, "::1", ERR_DENIED},
	{__LINE__, NULL, "[::1]", ERR_DENIED},
	{__LINE__, NULL, "[::]", ERR_DENIED},
	{__LINE__, NULL, "[::ffff:127.0.0.1]", ERR_DENIED},
	{__LINE__, NULL, "[::ffff:7f00:1]", ERR_DENIED},
	{__LINE__, NULL, "[::127.0.0.1]", ERR_DENIED},
	{__LINE__, NULL, "[64:ff9b::127.0.0.1]", ERR_DENIED},
	/* spellings that the resolver takes */
	{__LINE__, NULL, "127.1", ERR_DENIED},
	{__LINE__, NULL, "0", ERR_DENIED},
	{__LINE__, NULL, "0x7f.1", ERR_DENIED},
	{__LINE__, NULL, "0x7f000001", ERR_DENIED},
	{__LINE__, NULL, "2130706433", ERR_DENIED},
	{__LINE__, NULL, "0177.0.0.1", ERR_DENIED},
	{__LINE__, NULL, "017700000001", ERR_DENIED},
	{__LINE__, NULL, "10.256", ERR_DENIED},
	{__LINE__, NULL, "0xa9fea9fe", ERR_DENIED},
	{__LINE__, NULL, "134744072", ERR_NONE}, /* 8.8.8.8 */
	/* names */
	{__LINE__, NULL, "localhost", ERR_DENIED},
	{__LINE__, NULL, "LOCALHOST", ERR_DENIED},
	{__LINE__, "127.0.0.0/8, ::1", "localhost", ERR_NONE},
	{__LINE__, "127.0.0.0/8", "127.1", ERR_NONE},
	{__LINE__, "10.0.0.0/8", "localhost", ERR_DENIED},
	{__LINE__, NULL, "", ERR_MISSING},
	{__LINE__, NULL, "[]", ERR_MISSING},
};

/* A machine may know no name at all, not even this one. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **ret)
{
	typedef int (*function)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

	if (node != NULL && strcasecmp(node, "localhost") == 0)
		node = "127.0.0.1";
	return ((function)dlsym(RTLD_NEXT, "getaddrinfo"))(node, service, hints, ret);
}

static void a_host_is_judged_by_the_addresses_it_has(void)
{
	for (size_t i = 0; i < ARRAY_LEN(host_rows); i++) {
		struct netaddr_list *list = NULL;
		struct err e = {0};
		CHECK_ROW(&host_rows[i], netaddr_list_parse(host_rows[i].list, &list, &e));
		bool ok = netaddr_check_host(list, NETADDR_NOT_RESERVED, host_rows[i].host, &e);
		CHECK_ROW(&host_rows[i], ok == (host_rows[i].code == ERR_NONE) && e.code == host_rows[i].code);
		netaddr_list_free(&list);
	}
}

static const struct {
	int line;
	const char *list, *host;
	enum err_code code;
} listed_rows[] = {
	{__LINE__, NULL, "1.1.1.1", ERR_DENIED},
	{__LINE__, "1.1.1.0/24", "1.1.1.1", ERR_NONE},
	{__LINE__, "1.1.1.0/24", "1.0.0.1", ERR_DENIED},
	{__LINE__, "10.0.0.0/8", "[2606:4700:4700::1111]", ERR_DENIED},
	{__LINE__, "2606:4700::/32", "[2606:4700:4700::1111]", ERR_NONE},
	{__LINE__, "127.0.0.0/8", "localhost", ERR_NONE},
	{__LINE__, "10.0.0.0/8", "localhost", ERR_DENIED},
};

static void where_only_the_list_counts_a_public_host_must_be_in_it(void)
{
	for (size_t i = 0; i < ARRAY_LEN(listed_rows); i++) {
		struct netaddr_list *list = NULL;
		struct err e = {0};
		CHECK_ROW(&listed_rows[i], netaddr_list_parse(listed_rows[i].list, &list, &e));
		bool ok = netaddr_check_host(list, NETADDR_LISTED, listed_rows[i].host, &e);
		CHECK_ROW(&listed_rows[i], ok == (listed_rows[i].code == ERR_NONE) && e.code == listed_rows[i].code);
		netaddr_list_free(&list);
	}
}

static void a_name_that_is_not_known_is_no_permission(void)
{
	char endless[1000];
	struct err e = {0};

	CU_ASSERT_FALSE(netaddr_check_host(NULL, NETADDR_NOT_RESERVED, "no-such-host.invalid", &e));
	CU_ASSERT(e.code == ERR_MISSING || e.code == ERR_DOWN); /* DOWN: this machine has no name servers */
	memset(endless, 'a', sizeof(endless) - 1);
	endless[sizeof(endless) - 1] = '\0';
	CU_ASSERT_FALSE(netaddr_check_host(NULL, NETADDR_NOT_RESERVED, endless, &e));
	CU_ASSERT_EQUAL(e.code, ERR_MISSING);
}

static CU_TestInfo cases[] = {
	CASE(reserved_ranges_of_ipv4_are_refused_and_nothing_beside_them),
	CASE(a_mapped_address_is_judged_as_what_it_holds),
	CASE(reserved_ranges_of_ipv6_are_refused_and_nothing_beside_them),
	CASE(other_families_are_refused),
	CASE(a_network_of_the_list_is_allowed_and_nothing_else),
	CASE(a_list_that_is_none_is_refused_with_its_word),
	CASE(a_host_is_judged_by_the_addresses_it_has),
	CASE(where_only_the_list_counts_a_public_host_must_be_in_it),
	CASE(a_name_that_is_not_known_is_no_permission),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"netaddr", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
