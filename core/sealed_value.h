/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sealed values in the database. Each is written once, for one purpose and one place, and from then on only sealed anew
 * with another key; what uses it refers to its id. Whoever opens one says by itself which place it must be of: a row
 * that refers to another's value opens nothing.
 */
#ifndef CORE_SEALED_VALUE_H
#define CORE_SEALED_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/problem.h"
#include "lib/err.h"
#include "lib/id.h"

struct db;
struct keyring;

#define SEALED_VALUE_BYTES_MAX 65535 /* of the sealed text */
#define SEALED_ABOUT_SIZE 160

struct sealed_place {
	const char *purpose; /* "llm_key", "llm_headers": at most 32 letters and '_' */
	struct id org_id;    /* whose it is */
	struct id owner_id;  /* the row that it belongs to … */
	uint64_t generation; /* … and which generation of it set it */
};

/* What it is sealed about: "llm_key|<org>|<owner>|<generation>". */
void sealed_about(const struct sealed_place *place, char ret_about[SEALED_ABOUT_SIZE]);
/* Seals with the current key and inserts, inside the caller's transaction. PROBLEM_NO_SEALING_KEY: there is none, or
 * not in our key ring; e says which. */
bool sealed_value_put(struct db *db, struct keyring *ring, const struct sealed_place *place, const void *data,
		      size_t len, struct id *ret_sealed_id, enum problem *ret_problem, struct err *e) MUST_CHECK;
/* *ret_data goes to secret_free. As keyring_open. */
bool sealed_value_open(struct keyring *ring, const struct sealed_place *place, const char *sealed, char **ret_data,
		       size_t *ret_len, struct err *e) MUST_CHECK;

#define RESEAL_BATCH 50
struct resealing {
	const char *from, *to;     /* key ids; both are in the ring */
	struct id after;           /* "": from the start; moves on */
	unsigned seen;             /* in this batch; 0: it was the last */
	uint64_t resealed, failed; /* sums; failed: it does not open, and stays as it is */
	struct err last_failure;
};
/* One batch, in a transaction of its own. What was removed meanwhile, or sealed anew by somebody else, is passed over.
 */
bool sealed_value_reseal(struct db *db, struct keyring *ring, struct resealing *r, struct err *e) MUST_CHECK;

#endif
