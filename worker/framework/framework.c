/* SPDX-License-Identifier: Apache-2.0 */
/* The table of frameworks that this worker can build. */
#include "worker/framework/framework.h"

#include <string.h>

#include "lib/macros.h"

static const struct framework_impl *const frameworks[] = {
	&framework_echo,
	&framework_agent,
};

const struct framework_impl *framework_impl(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(frameworks); i++) {
		if (strcmp(frameworks[i]->name, name) == 0)
			return frameworks[i];
	}
	return NULL;
}
