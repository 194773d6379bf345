/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The recovery thread: heals what no event heals (core/recovery.h), from a
 * connection of its own. Of all workers, the one that holds the advisory lock does it, every recovery_s.
 */
#ifndef WORKER_RECOVERY_PASS_H
#define WORKER_RECOVERY_PASS_H

struct engine;
struct recovery_pass;
struct worker_identity;

struct recovery_pass *recovery_pass_start(struct engine *engine);
/* No further pass; does not wait for the one under way. A worker that leaves heals nobody: its own copies would be
 * missed first. */
void recovery_pass_end(struct recovery_pass *pass);
void recovery_pass_stop(struct recovery_pass **pass); /* accepts NULL */
/* A new incarnation of this worker: what an earlier one held is given back to the pool at once. */
void recovery_pass_own_start(struct recovery_pass *pass, const struct worker_identity *who);

#endif
