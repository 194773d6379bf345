/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps this worker's lease from a thread and a connection of its own, so that
 * no query of the pool can delay it; renews only while the loop ticks and the
 * bus is not cut for a lease. News go to the inbox: INBOX_LEASE with each new incarnation.
 */
#ifndef WORKER_LEASE_KEEPER_H
#define WORKER_LEASE_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

struct engine;
struct lease_keeper;

/* Starts the thread, which registers as soon as the database is there. */
struct lease_keeper *lease_keeper_start(struct engine *engine);
/* Ends the thread. is_orderly: removes the workers row. Accepts NULL. */
void lease_keeper_stop(struct lease_keeper **keeper, bool is_orderly);
/* The loop has handled INBOX_LEASE: what earlier incarnations held takes no turn any more. */
void lease_keeper_taken_over(struct lease_keeper *keeper);
/* Leaving from now on (SIGTERM): renewals go on, new claims are refused. */
void lease_keeper_leave(struct lease_keeper *keeper);
/* May this worker take a new turn? Any thread. */
bool lease_keeper_is_valid(const struct lease_keeper *keeper);
/* Renewed without a gap for one lease period: it may reap others. Any thread. */
bool lease_keeper_is_steady(const struct lease_keeper *keeper);

#endif
