/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An address is judged as sixteen bytes, IPv4 in its mapped form ::ffff:a.b.c.d, so one kind of network serves both. Of
 * IPv6 only global unicast (2000::/3) is public at all. That leaves out, without a row of their own, ::, ::1,
 * IPv4-compatible ::/96, NAT64 64:ff9b::/96 and 64:ff9b:1::/48, discard 100::/64, segment routing 5f00::/16, unique
 * local fc00::/7, link-local fe80::/10, site-local fec0::/10 and multicast ff00::/8.
 */
#include "lib/netaddr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/cond.h"
#include "lib/xalloc.h"

#define ADDRESS_BYTES 16
#define MAPPED_BITS 96
#define NETWORK_TEXT_SIZE (INET6_ADDRSTRLEN + 4)
#define HOST_LEN_MAX 255

struct network {
	uint8_t bytes[ADDRESS_BYTES];
	uint8_t bits;
};

struct netaddr_list {
	size_t count;
	struct network networks[];
};

/* clang-format off */
#define MAPPED 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff
#define V4(a, b, c, d, bits) {{MAPPED, a, b, c, d}, MAPPED_BITS + (bits)}
#define V6(g, h, i, bits) {{(g) >> 8, (g) & 0xff, (h) >> 8, (h) & 0xff, (i) >> 8, (i) & 0xff}, bits}
/* clang-format on */

static const struct network mapped = V4(0, 0, 0, 0, 0);
static const struct network global_unicast = V6(0x2000, 0, 0, 3);
static const struct network reserved[] = {
	V4(0, 0, 0, 0, 8),            /* this network */
	V4(10, 0, 0, 0, 8),           /* private */
	V4(100, 64, 0, 0, 10),        /* carriers' NAT; metadata of Alibaba Cloud */
	V4(127, 0, 0, 0, 8),          /* loopback */
	V4(168, 63, 129, 16, 32),     /* the platform of Azure, seen from its machines */
	V4(169, 254, 0, 0, 16),       /* link-local; metadata of most clouds */
	V4(172, 16, 0, 0, 12),        /* private */
	V4(192, 0, 0, 0, 24),         /* protocol assignments; metadata of Oracle Cloud */
	V4(192, 0, 2, 0, 24),         /* documentation */
	V4(192, 31, 196, 0, 24),      /* AS112 */
	V4(192, 52, 193, 0, 24),      /* multicast tunnels */
	V4(192, 88, 99, 0, 24),       /* 6to4 relays */
	V4(192, 168, 0, 0, 16),       /* private */
	V4(192, 175, 48, 0, 24),      /* AS112 */
	V4(198, 18, 0, 0, 15),        /* benchmarks */
	V4(198, 51, 100, 0, 24),      /* documentation */
	V4(203, 0, 113, 0, 24),       /* documentation */
	V4(224, 0, 0, 0, 4),          /* multicast */
	V4(240, 0, 0, 0, 4),          /* for later; broadcast */
	V6(0x2001, 0, 0, 23),         /* protocol assignments: Teredo, ORCHID, benchmarks, … */
	V6(0x2001, 0xdb8, 0, 32),     /* documentation */
	V6(0x2002, 0, 0, 16),         /* 6to4 */
	V6(0x2620, 0x4f, 0x8000, 48), /* AS112 */
	V6(0x3fff, 0, 0, 20),         /* documentation */
};

static bool is_in(const struct network *network, const uint8_t address[ADDRESS_BYTES])
{
	size_t whole = network->bits / 8;
	unsigned rest = network->bits % 8;

	if (network->bits < MAPPED_BITS && memcmp(address, mapped.bytes, MAPPED_BITS / 8) == 0)
		return false; /* "::/0" is all of IPv6 and nothing of IPv4 */
	if (memcmp(network->bytes, address, whole) != 0)
		return false;
	return rest == 0 || ((network->bytes[whole] ^ address[whole]) >> (8 - rest)) == 0;
}

static bool is_in_any(const struct network *networks, size_t count, const uint8_t address[ADDRESS_BYTES])
{
	for (size_t i = 0; i < count; i++) {
		if (is_in(&networks[i], address))
			return true;
	}
	return false;
}

/* False: neither IPv4 nor IPv6. The structs are copied: a sockaddr may lie anywhere. */
static bool to_bytes(const struct sockaddr *address, uint8_t ret_bytes[ADDRESS_BYTES])
{
	if (address->sa_family == AF_INET) {
		struct sockaddr_in in;
		memcpy(&in, address, sizeof(in));
		memcpy(ret_bytes, mapped.bytes, MAPPED_BITS / 8);
		memcpy(ret_bytes + MAPPED_BITS / 8, &in.sin_addr, sizeof(in.sin_addr));
		return true;
	}
	if (address->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;
		memcpy(&in6, address, sizeof(in6));
		memcpy(ret_bytes, &in6.sin6_addr, ADDRESS_BYTES);
		return true;
	}
	return false;
}

static bool is_reserved(const uint8_t address[ADDRESS_BYTES])
{
	return !(is_in(&mapped, address) || is_in(&global_unicast, address)) ||
	       is_in_any(reserved, ARRAY_LEN(reserved), address);
}

bool netaddr_is_reserved(const struct sockaddr *address)
{
	uint8_t bytes[ADDRESS_BYTES];

	return !to_bytes(address, bytes) || is_reserved(bytes);
}

bool netaddr_may_connect(const struct netaddr_list *allowed, enum netaddr_rule rule, const struct sockaddr *address)
{
	uint8_t bytes[ADDRESS_BYTES];

	if (!to_bytes(address, bytes))
		return false;
	return (allowed && is_in_any(allowed->networks, allowed->count, bytes)) ||
	       (rule == NETADDR_NOT_RESERVED && !is_reserved(bytes));
}

/* --- the operator's list --- */

/* 0 to max, without a sign or leading zeros. */
static bool parse_bits(const char *s, unsigned max, unsigned *ret_bits)
{
	unsigned bits = 0;
	size_t len = strlen(s);

	if (len == 0 || len > 3 || (s[0] == '0' && len > 1))
		return false;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return false;
		bits = bits * 10 + (unsigned)(*s - '0');
	}
	if (bits > max)
		return false;
	*ret_bits = bits;
	return true;
}

static bool has_host_bits(const struct network *network)
{
	for (unsigned bit = network->bits; bit < 8 * ADDRESS_BYTES; bit++) {
		if (network->bytes[bit / 8] & (0x80 >> bit % 8))
			return true;
	}
	return false;
}

/* text is taken apart. */
static bool parse_network(char *text, struct network *ret, struct err *e)
{
	struct network network = {.bits = 0};
	char *slash = strchr(text, '/');
	unsigned base = 0, bits;

	if (slash)
		*slash = '\0';
	if (inet_pton(AF_INET, text, network.bytes + MAPPED_BITS / 8) == 1) {
		memcpy(network.bytes, mapped.bytes, MAPPED_BITS / 8);
		base = MAPPED_BITS;
	} else if (inet_pton(AF_INET6, text, network.bytes) != 1) {
		return err_set(e, ERR_INPUT, "no network: %s", text);
	}
	bits = 8 * ADDRESS_BYTES - base;
	if (slash && !parse_bits(slash + 1, bits, &bits))
		return err_set(e, ERR_INPUT, "no length of a network's prefix: %s/%s", text, slash + 1);
	network.bits = (uint8_t)(base + bits);
	if (has_host_bits(&network))
		return err_set(e, ERR_INPUT, "bits behind the prefix of %s/%u are not zero", text, bits);
	*ret = network;
	return true;
}

bool netaddr_list_parse(const char *text, struct netaddr_list **ret_list, struct err *e)
{
	static const char separators[] = ", \t\r\n";
	struct netaddr_list *list = xcalloc(1, sizeof(*list));
	char word[NETWORK_TEXT_SIZE];

	for (text = text ? text : ""; *(text += strspn(text, separators));) {
		size_t len = strcspn(text, separators);
		if (len >= sizeof(word)) {
			err_set(e, ERR_INPUT, "no network: %.*s", (int)sizeof(word), text);
			goto fail;
		}
		memcpy(word, text, len);
		word[len] = '\0';
		text += len;
		list = xrealloc(list, sizeof(*list) + (list->count + 1) * sizeof(list->networks[0]));
		if (!parse_network(word, &list->networks[list->count], e))
			goto fail;
		list->count++;
	}
	*ret_list = list;
	return true;
fail:
	free(list);
	return false;
}

struct netaddr_list *netaddr_list_copy(const struct netaddr_list *list)
{
	size_t bytes = sizeof(*list) + list->count * sizeof(list->networks[0]);

	return memcpy(xmalloc(bytes), list, bytes);
}

void netaddr_list_free(struct netaddr_list **list)
{
	free(*list);
	*list = NULL;
}

/* --- a host's addresses --- */

/*
 * getaddrinfo() has no limit of time and cannot be interrupted, so it runs on a thread of its own that is left behind
 * where it takes too long. LOOKUPS_MAX bounds how many can hang. Whoever comes last frees the look-up.
 */
#define LOOKUPS_MAX 32

struct lookup {
	char host[HOST_LEN_MAX + 1];
	struct addrinfo *found;
	int result; /* of getaddrinfo() */
	bool is_done, is_left;
	pthread_cond_t done;
};

static pthread_mutex_t lookups_mutex = PTHREAD_MUTEX_INITIALIZER; /* all look-ups, too */
static unsigned lookups;

static int resolve(const char *host, int flags, struct addrinfo **ret_found)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags};

	return getaddrinfo(host, NULL, &hints, ret_found);
}

static void lookup_free(struct lookup *lookup)
{
	if (lookup->found)
		freeaddrinfo(lookup->found);
	(void)pthread_cond_destroy(&lookup->done);
	free(lookup);
}

static void *lookup_run(void *closure)
{
	struct lookup *lookup = closure;
	struct addrinfo *found = NULL;
	int result = resolve(lookup->host, 0, &found);

	pthread_mutex_lock(&lookups_mutex);
	lookups--;
	lookup->found = found;
	lookup->result = result;
	lookup->is_done = true;
	bool is_left = lookup->is_left;
	pthread_cond_signal(&lookup->done);
	pthread_mutex_unlock(&lookups_mutex);
	if (is_left)
		lookup_free(lookup);
	return NULL;
}

/* The thread takes no signals: they are for the program's own. */
static int start_thread(struct lookup *lookup)
{
	pthread_t thread;
	sigset_t all, before;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &before);
	int error = pthread_create(&thread, NULL, lookup_run, lookup);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error == 0)
		(void)pthread_detach(thread);
	return error;
}

/* True: getaddrinfo() came back, with whatever result. */
static bool lookup_wait(const char *host, int *ret_result, struct addrinfo **ret_found, struct err *e)
{
	struct lookup *lookup = xcalloc(1, sizeof(*lookup));
	const struct timespec deadline = cond_deadline(NETADDR_RESOLVE_MS);
	int error = 0;

	memcpy(lookup->host, host, strlen(host));
	cond_init(&lookup->done);
	pthread_mutex_lock(&lookups_mutex);
	error = lookups < LOOKUPS_MAX ? start_thread(lookup) : EAGAIN;
	if (error != 0) {
		pthread_mutex_unlock(&lookups_mutex);
		lookup_free(lookup);
		return err_set(e, ERR_BUSY, "too many names are being looked up: %s", strerror(error));
	}
	lookups++;
	while (!lookup->is_done && error == 0)
		error = pthread_cond_timedwait(&lookup->done, &lookups_mutex, &deadline);
	bool is_done = lookup->is_done;
	lookup->is_left = !is_done;
	pthread_mutex_unlock(&lookups_mutex);
	if (!is_done)
		return err_set(e, ERR_DOWN, "%s: the name servers give no answer", host);
	*ret_result = lookup->result;
	*ret_found = lookup->found;
	lookup->found = NULL;
	lookup_free(lookup);
	return true;
}

static bool judge(const struct netaddr_list *allowed, enum netaddr_rule rule, const char *host,
		  const struct addrinfo *found, struct err *e)
{
	for (; found; found = found->ai_next) {
		if (!netaddr_may_connect(allowed, rule, found->ai_addr)) {
			char text[INET6_ADDRSTRLEN] = "another family";
			(void)getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof(text), NULL, 0,
					  NI_NUMERICHOST);
			return err_set(e, ERR_DENIED, "%s: the address %s is not allowed", host, text);
		}
	}
	return true;
}

static bool resolve_failed(const char *host, int result, struct err *e)
{
	switch (result) {
	case EAI_NONAME:
	case EAI_NODATA:
	case EAI_ADDRFAMILY:
		return err_set(e, ERR_MISSING, "%s: there is no such host", host);
	case EAI_MEMORY:
		xalloc_die();
	default:
		return err_set(e, ERR_DOWN, "%s: %s", host, gai_strerror(result));
	}
}

bool netaddr_check_host(const struct netaddr_list *allowed, enum netaddr_rule rule, const char *host, struct err *e)
{
	struct addrinfo *found = NULL;
	char name[HOST_LEN_MAX + 1];
	size_t len = strlen(host);
	int result;

	if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
		host++;
		len -= 2;
	}
	if (len == 0 || len >= sizeof(name))
		return err_set(e, ERR_MISSING, "no host has a name of %zu characters", len);
	memcpy(name, host, len);
	name[len] = '\0';
	result = resolve(name, AI_NUMERICHOST, &found); /* takes "127.1" and "0x7f000001", too; needs no server */
	if (result == EAI_NONAME && !lookup_wait(name, &result, &found, e))
		return false;
	if (result != 0)
		return resolve_failed(name, result, e);
	bool ok = judge(allowed, rule, name, found, e);
	freeaddrinfo(found);
	return ok;
}
