/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The serving threads: each accepts, answers, logs one line, and begins again
 * until the listen socket is stopped. All of a request's memory is one arena,
 * capped, which the next request of the thread uses again.
 */
#ifndef FCGI_APP_SERVE_H
#define FCGI_APP_SERVE_H

#include <stdbool.h>

#include "lib/err.h"

struct app;
struct fcgi;
struct servers;

/* Starts the first thread; up to max are made as requests come. False: it could not be made; servers_free as ever. */
bool servers_start(struct app *app, struct fcgi *fcgi, unsigned max, struct servers **ret_servers,
		   struct err *e) MUST_CHECK;
/* Waits until all have ended, after fcgi_stop; false: some have not within timeout_ms. */
bool servers_wait(struct servers *servers, int timeout_ms);
/* After they have all ended. Accepts NULL. */
void servers_free(struct servers **servers);

#endif
