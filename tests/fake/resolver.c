/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A resolver in the test's hand: preloaded into a program, it answers names from the file that HEARTH_TEST_HOSTS names,
 * lines of "address name", read at each look-up, and leaves all others to the system's.
 */
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int (*resolve)(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **ret);

static int find(const char *name, char *ret_address)
{
	const char *path = getenv("HEARTH_TEST_HOSTS");
	FILE *f = path != NULL ? fopen(path, "re") : NULL;
	char address[64], known[256];
	int is_found = 0;

	while (f != NULL && !is_found && fscanf(f, "%63s %255s", address, known) == 2)
		is_found = strcmp(known, name) == 0;
	if (f != NULL)
		(void)fclose(f);
	if (is_found)
		(void)snprintf(ret_address, sizeof(address), "%s", address);
	return is_found;
}

int getaddrinfo(const char *restrict node, const char *restrict service, const struct addrinfo *restrict hints,
		struct addrinfo **restrict ret)
{
	resolve next = (resolve)dlsym(RTLD_NEXT, "getaddrinfo");
	char address[64];

	if (node != NULL && find(node, address))
		node = address;
	return next(node, service, hints, ret);
}
