/* SPDX-License-Identifier: Apache-2.0 */
/* core/placement's writes one App at a time, as most cases want them; with the answer as the result. */
#ifndef TESTS_UNIT_PLACEMENT_ONE_H
#define TESTS_UNIT_PLACEMENT_ONE_H

#include "core/placement.h"

enum claim_result one_claim(struct db *db, struct arena *mem, const struct worker_identity *who,
			    const struct id *instance_id, unsigned how, struct claim *ret_claim, struct err *e);
enum place_result one_ready(struct db *db, const struct worker_identity *who, const struct id *instance_id,
			    uint64_t generation, enum tier tier, const char *hash, const char *reason, struct err *e);
enum place_result one_failed(struct db *db, const struct worker_identity *who, const struct id *instance_id,
			     uint64_t generation, const char *reason, bool keep, int retry_s, struct err *e);
enum place_result one_draining(struct db *db, const struct worker_identity *who, const struct id *instance_id,
			       bool hand_over, struct id *ret_next_op, struct err *e);
/* PLACE_STEP_GIVE_BACK, PLACE_STEP_GONE, PLACE_STEP_SURPLUS. */
enum place_result one_step(struct db *db, const struct worker_identity *who, const struct id *instance_id,
			   enum place_step_kind kind, struct err *e);

#endif
