/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Performs the pool's actions: rows through jobs, builds through the factory,
 * subscriptions on the bus; and gives the answers back to the pool.
 */
#ifndef WORKER_LIFECYCLE_H
#define WORKER_LIFECYCLE_H

struct chat_request;
struct engine;
struct pool_action;
struct turn;
struct turn_sink;

/* Called by engine_pump for each action. */
void lifecycle_perform(struct engine *engine, const struct pool_action *action);
/* At the end of each pump: hands the subscriptions that leave to the bus, many at once. */
void lifecycle_leave_subjects(struct engine *engine);
/* Ends every build under way, without a result. For Apps that are lost. */
void lifecycle_stop_builds(struct engine *engine);
/* INBOX_DRAINED has come. */
void lifecycle_drained(struct engine *engine, void *data);
/* A turn on a copy's runtime, as the pool gave it; see framework_impl.turn. */
struct turn *lifecycle_turn(struct engine *engine, void *runtime, const struct chat_request *request,
			    const struct turn_sink *sink);
void lifecycle_turn_cancel(void *runtime, struct turn *turn);

#endif
