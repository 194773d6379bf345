/* SPDX-License-Identifier: Apache-2.0 */
/* What the checks of the frameworks' configurations share. Private to them. */
#ifndef CORE_FRAMEWORK_PRIVATE_H
#define CORE_FRAMEWORK_PRIVATE_H

#include "core/framework.h"

/* Errors beyond max are counted, not kept. */
struct error_list {
	struct field_error *errors;
	size_t max, count;
};

/* Both strings must be constants. */
void error_list_add(struct error_list *list, const char *field, const char *reason);
/* The same of a member of field; its name is borrowed from the config, or a constant. */
void error_list_add_member(struct error_list *list, const char *field, const char *member, const char *reason);
/* A misspelt field would else be ignored in silence. known: NULL-terminated. An object is NULL, or must be one. */
void error_list_refuse_unknown(struct error_list *list, const struct jval *object, const char *const *known,
			       const char *field);

#endif
