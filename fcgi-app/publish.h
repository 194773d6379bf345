/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telling the workers, after the commit and with no database connection held.
 * An event that does not get out is no loss: recovery publishes the operation
 * again, reconcile finds the row. Waits at most app.publish_timeout_ms, and not at all while
 * the bus is known to be away.
 */
#ifndef FCGI_APP_PUBLISH_H
#define FCGI_APP_PUBLISH_H

#include <stdbool.h>

#include "core/names.h"
#include "lib/id.h"

struct app;
struct operation;

/* True: the bus has it. Also tells our own waiters and forgets what the access cache knows of the App. */
bool publish_operation(struct app *app, const struct operation *op, bool use_loads);
/* "Look at this row again" without an operation. instance_id "": all Apps of the org. */
bool publish_change(struct app *app, const struct id *org_id, const struct id *instance_id, enum action action,
		    enum source source, const char *request_id);
/* This process forgets all that its access cache knows. */
void publish_forget(struct app *app);

#endif
