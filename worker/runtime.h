/* SPDX-License-Identifier: Apache-2.0 */
/* What frameworks use of the worker: the HTTP client, the shared models, the secrets' keys. On the loop's thread. */
#ifndef WORKER_RUNTIME_H
#define WORKER_RUNTIME_H

#include "lib/err.h"

struct engine;
struct framework_env;
struct models;
struct runtime;

struct runtime *runtime_new(struct engine *engine, struct err *e) MUST_CHECK;
/* The options of [llm] and [tools] that can be taken over while it runs (hearth.conf(5)). */
void runtime_configure(struct runtime *runtime);
/* No App is held any more. Its handles are gone after further turns of the loop. Accepts NULL. */
void runtime_close(struct runtime **runtime);
const struct framework_env *runtime_env(const struct runtime *runtime);
struct models *runtime_models(const struct runtime *runtime);

#endif
