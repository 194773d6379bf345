/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A turn's conversation, from the loop: taken and read before the turn, ended or given free after it, in jobs of the
 * thread pool. One for each turn that keeps one.
 */
#ifndef WORKER_HISTORY_H
#define WORKER_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/problem.h"

struct chat_request;
struct engine;
struct history;
struct history_limits;
struct jval;

/* On the loop, once. history is yours where problem is PROBLEM_NONE. */
typedef void (*history_begun)(void *closure, enum problem problem, struct jval *messages);
typedef void (*history_ended)(void *closure, enum problem problem);

/* request: of a caller with a token; borrowed until `begun`. */
struct history *history_begin(struct engine *engine, const struct chat_request *request,
			      const struct history_limits *limits, history_begun begun, void *closure);
/* Saves what both said; the texts are copied. `ended` tells whether they stand; the history is gone then. */
void history_end(struct history **history, const char *user, size_t user_len, const char *assistant,
		 size_t assistant_len, uint64_t tokens_in, uint64_t tokens_out, history_ended ended, void *closure);
/* Gives the conversation free, nothing is saved; `ended` tells that this was tried (and goes on by itself). */
void history_abandon(struct history **history, history_ended ended, void *closure);
/* Every second: those that could not be given free are tried again, one after the other. */
void histories_second(struct engine *engine);
/* At the end: they are free when their turns' time is over. */
void histories_free(struct engine *engine);

#endif
