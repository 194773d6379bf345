/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A resolver in the test's hand: preloaded into a program, it answers names from the file that HEARTH_TEST_HOSTS names,
 * lines of "address name", read at each look-up, and leaves all others to the system's. A name on several lines has
 * all their addresses, in that order.
 */
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int (*resolve)(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **ret);

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
		struct addrinfo **restrict ret)
{
	resolve next = (resolve)dlsym(RTLD_NEXT, "getaddrinfo");
	const char *path = getenv("HEARTH_TEST_HOSTS");
	FILE *f = node != NULL && path != NULL ? fopen(path, "re") : NULL;
	struct addrinfo *found = NULL, **end = &found;
	char address[64], known[256];
	int result = 0;

	while (f != NULL && result == 0 && fscanf(f, "%63s %255s", address, known) == 2) {
		if (strcmp(known, node) == 0)
			result = next(address, service, hints, end);
		while (result == 0 && *end != NULL)
			end = &(*end)->ai_next;
	}
	if (f != NULL)
		(void)fclose(f);
	if (found == NULL)
		return result != 0 ? result : next(node, service, hints, ret);
	*ret = found;
	return 0;
}
