/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP client on a libuv loop: a poll handle per socket, a timer for its alarm, one for its ticks while calls are
 * open. On the loop's thread. */
#ifndef WORKER_HTTP_LOOP_H
#define WORKER_HTTP_LOOP_H

#include <uv.h>

#include "lib/err.h"
#include "lib/http.h"

struct http_loop;

/* options: hooks are set here. */
struct http_loop *http_loop_new(uv_loop_t *loop, const struct http_options *options, struct err *e) MUST_CHECK;
struct http *http_loop_client(const struct http_loop *h); /* until http_loop_close() */
/* Ends all calls without a word. Its handles, and it with the last of them, are gone after further turns of the loop.
 * Accepts NULL. */
void http_loop_close(struct http_loop **h);

#endif
