/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Actions of the pool that need the database, or the bus's answer. Each is a step of one App; steps wait in a line of
 * their kind, and a job takes all that stand there, up to a set. Only few jobs of a line run at once: while the
 * database is busy the line grows, and the longer it is the less each step costs. A step that comes alone goes at once.
 *
 *   pool action → step → line → job on the thread pool (core/placement.h, a set at a time) → answer to the pool
 */
#ifndef WORKER_STEP_LINES_H
#define WORKER_STEP_LINES_H

struct engine;
struct pool_action;

/* PA_READ, PA_CLAIM, PA_READY, PA_FAILED, PA_GIVE_BACK, PA_DRAINING, PA_GONE, PA_CEILING; and PA_SUBSCRIBE once it is
 * subscribed: waits for the server to have taken it. */
void step_lines_add(struct engine *engine, const struct pool_action *action);
/* At the end of each pump: starts jobs for what waits. */
void step_lines_go(struct engine *engine);

#endif
