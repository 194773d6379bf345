/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/placement_one.h"

enum claim_result one_claim(struct db *db, struct arena *mem, const struct worker_identity *who,
			    const struct id *instance_id, unsigned how, struct claim *ret_claim, struct err *e)
{
	struct claim_step step = {.instance_id = *instance_id, .how = how, .mem = mem};
	struct claim_step *steps = &step;

	placement_claim_set(db, who, &steps, 1);
	if (step.result == CLAIM_FAIL)
		err_set(e, step.e.code, "%s", step.e.text);
	else
		*ret_claim = step.claim;
	return step.result;
}

static enum place_result record(struct db *db, const struct worker_identity *who, struct place_step *step,
				struct err *e)
{
	placement_record_set(db, who, &step, 1);
	if (step->result == PLACE_FAIL)
		err_set(e, step->e.code, "%s", step->e.text);
	return step->result;
}

enum place_result one_ready(struct db *db, const struct worker_identity *who, const struct id *instance_id,
			    uint64_t generation, enum tier tier, const char *hash, const char *reason, struct err *e)
{
	struct place_step step = {
		.kind = PLACE_STEP_READY,
		.instance_id = *instance_id,
		.generation = generation,
		.tier = tier,
		.hash = hash,
		.reason = reason,
	};

	return record(db, who, &step, e);
}

enum place_result one_failed(struct db *db, const struct worker_identity *who, const struct id *instance_id,
			     uint64_t generation, const char *reason, bool keep, int retry_s, struct err *e)
{
	struct place_step step = {
		.kind = PLACE_STEP_FAILED,
		.instance_id = *instance_id,
		.generation = generation,
		.reason = reason,
		.keep = keep,
		.retry_s = retry_s,
	};

	return record(db, who, &step, e);
}

enum place_result one_draining(struct db *db, const struct worker_identity *who, const struct id *instance_id,
			       bool hand_over, struct id *ret_next_op, struct err *e)
{
	struct place_step step = {.kind = PLACE_STEP_DRAINING, .instance_id = *instance_id, .hand_over = hand_over};
	enum place_result result = record(db, who, &step, e);

	*ret_next_op = step.next_op;
	return result;
}

enum place_result one_step(struct db *db, const struct worker_identity *who, const struct id *instance_id,
			   enum place_step_kind kind, struct err *e)
{
	struct place_step step = {.kind = kind, .instance_id = *instance_id};

	return record(db, who, &step, e);
}
