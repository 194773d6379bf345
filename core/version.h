/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The versions of an App: each configuration (with mode and plugins) that it has had, numbered from 1. instance_create
 * and instance_apply write one in the transaction that changes the App's row; a version is never changed.
 */
#ifndef CORE_VERSION_H
#define CORE_VERSION_H

#include <stdbool.h>
#include <stdint.h>

#include "core/problem.h"
#include "lib/err.h"
#include "lib/id.h"
#include "lib/macros.h"
#include "lib/secret.h"

struct arena;
struct db;

#define VERSIONS_KEPT                                                                                                  \
	200 /* of each App at most: the newest, and among them or beside them the one that was last ready */

enum version_source { VERSION_CREATE, VERSION_CONFIG, VERSION_ROLLBACK };
const char *version_source_name(enum version_source source);

struct version {
	uint32_t version;
	const char *framework_type, *mode, *config, *active_plugin_ids; /* only from version_get */
	char config_hash[SECRET_HASH_HEX_SIZE];
	enum version_source source;
	uint32_t of_version;    /* 0: no rollback */
	struct id token_id;     /* "": not known */
	const char *token_name; /* NULL: no token of the App's org */
	const char *created_at; /* RFC 3339 */
	bool is_current;
	bool is_good; /* what the App was last ready with */
};

/* Whose change it is, and of which kind. */
struct version_mark {
	struct id token_id;
	enum version_source source;
	uint32_t of_version;
};

/* In the transaction that has written the App's row, at its number; drops what is too old. */
bool version_record(struct db *db, const struct id *instance_id, uint32_t version, const struct version_mark *mark,
		    struct err *e) MUST_CHECK;

/* The newest first, those before `before` (0: all). */
bool version_list(struct db *db, struct arena *mem, const struct id *instance_id, uint32_t before, unsigned limit,
		  struct version **ret_versions, unsigned *ret_count, struct err *e) MUST_CHECK;
/* PROBLEM_VERSION_NOT_FOUND. */
bool version_get(struct db *db, struct arena *mem, const struct id *instance_id, uint32_t version,
		 struct version *ret_version, enum problem *ret_problem, struct err *e) MUST_CHECK;

#endif
