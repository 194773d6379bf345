/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The beginning of a FastCGI connection, looked at before libfcgi reads it:
 * BEGIN_REQUEST, the parameters, and what there is of the body. The library has no
 * limit and trusts every length; what this lets through it takes without waiting
 * and without trouble. Pure: it looks at bytes and keeps nothing.
 */
#ifndef FCGI_APP_FCGI_HEAD_H
#define FCGI_APP_FCGI_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FCGI_HEAD_MAX 65536 /* a request's parameters end within so many bytes, records' headers included */

enum fcgi_head_state {
	FCGI_HEAD_PARTIAL, /* good so far */
	FCGI_HEAD_WHOLE,   /* the parameters have come */
	FCGI_HEAD_BROKEN   /* no request of ours, whatever comes */
};

struct fcgi_head {
	size_t len;          /* WHOLE: up to where the parameters end */
	bool is_input_whole; /* WHOLE: so has the body, as far as it was announced */
	bool has_input_end;  /* WHOLE: and the record that ends it */
	int64_t body_bytes;  /* WHOLE: CONTENT_LENGTH, -1 where there is none */
	const char *reason;  /* BROKEN: a constant */
};

/* The first len bytes of a connection. What is not WHOLE within FCGI_HEAD_MAX is BROKEN. */
enum fcgi_head_state fcgi_head_scan(const uint8_t *data, size_t len, struct fcgi_head *ret_head);

#endif
