/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts what happened to each App and writes it to MariaDB every stats_s: one worker_stats row and one batch of what
 * changed. A flush that failed is repeated with the same number until it counted, so an outage loses nothing.
 */
#ifndef WORKER_STATS_BOOK_H
#define WORKER_STATS_BOOK_H

#include <stdbool.h>

#include "core/stats.h"

struct engine;
struct stats_book;

struct stats_book *stats_book_new(void);
void stats_book_free(struct stats_book **book);
/* The counters of one App since the last flush; add to them. Valid until the next call. */
struct instance_delta *stats_book_app(struct engine *engine, const struct id *instance_id, const struct id *org_id);
/* The worker's totals; add to them. */
struct worker_stats *stats_book_totals(struct engine *engine);
/* Flushes where it is due (now: at once). Answers come on the loop. */
void stats_book_second(struct engine *engine, bool now);
/* Nothing waits to be written. */
bool stats_book_is_clean(const struct engine *engine);

#endif
