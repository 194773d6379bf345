/* SPDX-License-Identifier: Apache-2.0 */
/*
 * skeleton: a framework that does nothing, to be copied. To add a framework:
 *
 *   1. copy this file to worker/framework/<name>.c, rename, and add it to worker/local.mk
 *   2. a row in worker/framework/framework.c and its declaration in framework.h
 *   3. its name, modes and configuration check in core/framework.c
 *   4. a story in tests/integration
 *
 * Rules: everything runs on the loop, so nothing blocks; `done` and `end` are called exactly once, unless the build was
 * cancelled; between `turn` and `end` the runtime stays alive; what `turn` returns is only used for turn_cancel.
 */
#include <stdlib.h>

#include "lib/xalloc.h"
#include "worker/framework/framework.h"

struct skeleton {
	int unused; /* what one copy keeps: a few hundred bytes at most, share the rest */
};

static void *skeleton_build(const struct framework_env *env, const struct build_request *request, build_done done,
			    void *closure)
{
	(void)env;
	(void)request; /* read request->config here; it is gone after done */
	done(closure, xcalloc(1, sizeof(struct skeleton)), NULL);
	return NULL; /* nothing goes on, so there is nothing to cancel */
}

static void skeleton_build_cancel(void *build)
{
	(void)build;
}

static void skeleton_free(void *runtime)
{
	free(runtime);
}

static size_t skeleton_memory_bytes(const void *runtime)
{
	(void)runtime;
	return sizeof(struct skeleton);
}

static struct turn *skeleton_turn(void *runtime, const struct framework_env *env, const struct chat_request *request,
				  const struct turn_sink *sink)
{
	struct turn_result result = {.status = 200, .current_agent = "skeleton"};

	(void)runtime;
	(void)env;
	if (!request->stream)
		result.response = "";
	sink->end(sink->closure, &result);
	return NULL; /* over already */
}

static void skeleton_turn_cancel(struct turn *turn)
{
	(void)turn;
}

extern const struct framework_impl framework_skeleton;
const struct framework_impl framework_skeleton = {
	.name = "skeleton",
	.build = skeleton_build,
	.build_cancel = skeleton_build_cancel,
	.free = skeleton_free,
	.memory_bytes = skeleton_memory_bytes,
	.turn = skeleton_turn,
	.turn_cancel = skeleton_turn_cancel,
};
