/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every reconcile_s: compares what the pool holds with the rows, in batches, and deletes placements of this incarnation
 * that it does not hold. One batch in flight at a time.
 */
#ifndef WORKER_RECONCILE_H
#define WORKER_RECONCILE_H

struct engine;
struct reconcile;

struct reconcile *reconcile_new(void);
void reconcile_free(struct reconcile **reconcile);
/* Every second: begins a round where one is due. */
void reconcile_second(struct engine *engine);
/* A round now (the bus was away: changes may have been missed). */
void reconcile_soon(struct engine *engine);

#endif
