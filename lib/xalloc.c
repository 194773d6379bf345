/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocation that does not fail. The last words go out with write(2), since
 * stdio may need the memory that is not there.
 */
#include "lib/xalloc.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void xalloc_die(void)
{
	static const char text[] = "<2>out of memory, aborting\n";
	ssize_t ignored = write(STDERR_FILENO, text, sizeof(text) - 1);

	(void)ignored;
	abort();
}

void *xmalloc(size_t size)
{
	void *ptr = malloc(size ? size : 1);

	if (!ptr)
		xalloc_die();
	return ptr;
}

void *xcalloc(size_t count, size_t size)
{
	void *ptr = count && size ? calloc(count, size) : calloc(1, 1);

	if (!ptr)
		xalloc_die();
	return ptr;
}

void *xrealloc(void *ptr, size_t size)
{
	void *grown = realloc(ptr, size ? size : 1);

	if (!grown)
		xalloc_die();
	return grown;
}

char *xstrdup(const char *s)
{
	return xmemdup(s, strlen(s));
}

char *xmemdup(const void *data, size_t len)
{
	char *copy = xmalloc(len + 1);

	if (len > 0)
		memcpy(copy, data, len);
	copy[len] = '\0';
	return copy;
}

char *xasprintf(const char *fmt, ...)
{
	char *text = NULL;
	va_list args;

	va_start(args, fmt);
	int len = vasprintf(&text, fmt, args);
	va_end(args);
	if (len < 0)
		xalloc_die();
	return text;
}
