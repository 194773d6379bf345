/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Performs the pool's actions: rows through jobs, builds through the factory,
 * subscriptions on the bus; and gives the answers back to the pool.
 */
#ifndef WORKER_LIFECYCLE_H
#define WORKER_LIFECYCLE_H

#include <stdbool.h>
#include <stdint.h>

struct arena;
struct chat_request;
struct claim;
struct engine;
struct event;
struct history_limits;
struct pool_action;
struct pool_app;
struct turn;
struct turn_sink;

/* Called by engine_pump for each action. */
void lifecycle_perform(struct engine *engine, const struct pool_action *action);
/* The App is claimed and will be built: takes the arena that holds its row. */
void lifecycle_take_claim(struct pool_app *app, struct arena **mem, const struct claim *claim);
bool lifecycle_is_subscribed(struct pool_app *app);
/* At the end of each pump: hands the subscriptions that leave to the bus, many at once. */
void lifecycle_leave_subjects(struct engine *engine);
/* Ends every build under way, without a result. For Apps that are lost. */
void lifecycle_stop_builds(struct engine *engine);
/* An event of the worker's own, of `what`'s App: for everyone who may make one more copy, or (false) holds one. */
void lifecycle_publish(struct engine *engine, bool use_loads, const struct event *what);
/* INBOX_DRAINED has come. */
void lifecycle_drained(struct engine *engine, void *data);
/* A turn on a copy's runtime, as the pool gave it; see framework_impl.turn. */
struct turn *lifecycle_turn(struct engine *engine, void *runtime, const struct chat_request *request,
			    const struct turn_sink *sink);
/* See framework_impl.history. */
void lifecycle_history(const void *runtime, struct history_limits *ret_limits);
/* Turns at once on it; 0: no limit of its own. */
unsigned lifecycle_turns_max(const void *runtime);
void lifecycle_turn_cancel(void *runtime, struct turn *turn);

#endif
