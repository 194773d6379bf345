/* SPDX-License-Identifier: Apache-2.0 */
/* The schema's version: what the programs need and what the database has. */
#ifndef CORE_SCHEMA_H
#define CORE_SCHEMA_H

#include <stdbool.h>

#include "lib/err.h"
#include "lib/macros.h"

struct db;

#define SCHEMA_VERSION 7 /* of the last file in schema/ */

/* ERR_MISSING with the words to do (`hearthctl migrate`) when the database is older or has no schema. */
bool schema_check(struct db *db, struct err *e) MUST_CHECK;
/*
 * Applies the files NNN_*.sql of dir that are not applied yet, in order, under an advisory lock, and records each with
 * its checksum. ERR_CONFLICT when an applied file was changed. *ret_applied counts; report (may be NULL) is told of
 * each.
 */
bool schema_migrate(struct db *db, const char *dir, void (*report)(const char *file), unsigned *ret_applied,
		    struct err *e) MUST_CHECK;

#endif
