/* SPDX-License-Identifier: Apache-2.0 */
/* What differs between two JSON values. Pure. */
#ifndef LIB_JSON_DIFF_H
#define LIB_JSON_DIFF_H

#include <stdbool.h>
#include <stddef.h>

struct jval;

struct json_diff_limits {
	size_t count_max; /* of differences */
	size_t bytes_max; /* of their paths and values together */
};

/*
 * An array of {"path","from","to"}, yours: path is the JSON pointer (RFC 6901) of the smallest values that differ; from
 * is absent where the first has no such member, to where the second has none. Objects are compared by key and arrays by
 * place, in the order of the first; an object and an array are never alike, nor are 1 and 1.0. The array ends before
 * the difference that would pass a limit, and *ret_is_complete is false then. The values are shared with the two.
 */
struct jval *json_diff(struct jval *from, struct jval *to, const struct json_diff_limits *limits,
		       bool *ret_is_complete);

#endif
