/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The request half of fcgi-app/fcgi.h without a socket: parameters and a body from memory, the answer into a buffer.
 * For tests of what reads a request; linked in place of fcgi.c.
 */
#ifndef TESTS_FAKE_FCGI_FAKE_H
#define TESTS_FAKE_FCGI_FAKE_H

#include <stddef.h>

#include "lib/buf.h"

#define FCGI_FAKE_PARAMS_MAX 32

struct fcgi_conn {
	char *params[FCGI_FAKE_PARAMS_MAX + 1]; /* "NAME=value", the caller's; NULL-terminated */
	size_t param_count;
	const char *body;
	size_t body_len, body_used;
	struct buf answer; /* the caller makes and clears it */
};

#endif
