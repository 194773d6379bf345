/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A step is made on the loop, its work is done on the thread pool by the job that took it, its answer is given to the
 * pool on the loop. Steps of one job are of one incarnation: a write carries it for all.
 */
#include "worker/step_lines.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "core/event.h"
#include "core/placement.h"
#include "lib/arena.h"
#include "lib/bus.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/xalloc.h"
#include "worker/engine.h"
#include "worker/lifecycle.h"
#include "worker/pool/pool.h"
#include "worker/stats_book.h"

#define CLAIM_MEMORY_MAX (8 * 1024 * 1024) /* two configurations of at most 1 MiB, parsed */
#define FLUSH_TIMEOUT_MS 2000
#define SET_MAX 64
#define JOBS_MAX 2 /* of one line at once */

struct step {
	struct engine *engine;
	struct pool_app *app;
	struct pool_action action;
	struct worker_identity who;
	char hash[SECRET_HASH_HEX_SIZE], reason[REASON_MAX + 1];
	struct step *prev, *next;
	/* answers */
	struct app_row row;
	struct claim_step claim;
	struct place_step place;
	bool elsewhere;
};

/* What one job takes from a line. */
struct set {
	struct step_line *line;
	unsigned count;
	struct step *steps[SET_MAX];
};

static void log_failed(const struct step *s, const char *what, const struct err *e)
{
	if (atomic_load(&s->engine->gave_up_ms) != 0)
		return; /* said once, for all */
	log_warn(what, "instance=%s error=%s next=retry", s->action.instance_id.text, e->text);
}

static struct step *step_new(struct engine *engine, const struct pool_action *a)
{
	struct step *s = xcalloc(1, sizeof(*s));

	s->engine = engine;
	s->app = a->app;
	s->action = *a;
	s->who = engine->who;
	if (a->hash != NULL)
		s->action.hash = memcpy(s->hash, a->hash, sizeof(s->hash));
	if (a->reason != NULL) {
		(void)snprintf(s->reason, sizeof(s->reason), "%s", a->reason);
		s->action.reason = s->reason;
	}
	return s;
}

static void step_free(struct step *s)
{
	arena_free(&s->claim.mem);
	free(s);
}

/* --- reading the row --- */

static bool work_read(struct db *db, struct set *set, struct err *e)
{
	struct app_row rows[SET_MAX];
	struct id ids[SET_MAX];

	for (unsigned i = 0; i < set->count; i++)
		ids[i] = set->steps[i]->action.instance_id;
	if (!placement_read(db, ids, set->count, rows, e))
		return false;
	for (unsigned i = 0; i < set->count; i++)
		set->steps[i]->row = rows[i];
	return true;
}

static void done_read(struct step *s, bool ok, const struct err *e)
{
	if (!ok)
		log_failed(s, "row not read", e);
	pool_row_read(s->engine->pool, s->app, ok ? &s->row : NULL, clock_now_ms());
}

/* --- claiming --- */

static bool work_claim(struct db *db, struct set *set, struct err *e)
{
	struct claim_step *steps[SET_MAX];

	(void)e;
	for (unsigned i = 0; i < set->count; i++) {
		struct step *s = set->steps[i];

		s->claim.instance_id = s->action.instance_id;
		s->claim.how = s->action.how;
		s->claim.mem = arena_new(CLAIM_MEMORY_MAX);
		steps[i] = &s->claim;
	}
	placement_claim_set(db, &set->steps[0]->who, steps, set->count);
	return true;
}

/* For whoever may make one more copy. */
static void publish_load(const struct step *s)
{
	const struct app_row *row = &s->claim.claim.row;

	lifecycle_publish(s->engine, true,
			  &(struct event){
				  .operation_id = s->place.next_op,
				  .instance_id = s->action.instance_id,
				  .org_id = s->action.org_id,
				  .tier = row->tier,
				  .generation = row->generation,
			  });
}

static const char *claim_failure(enum claim_result result)
{
	switch (result) {
	case CLAIM_QUOTA_HOT:
		return "quota_hot";
	case CLAIM_POISON:
		return "poison";
	default:
		return NULL;
	}
}

static void done_claim(struct step *s, bool ok, const struct err *e)
{
	struct claim_step *c = &s->claim;

	if (!ok) {
		c->result = CLAIM_FAIL;
		c->e = *e;
	}
	if (c->result == CLAIM_FAIL)
		log_failed(s, "App not claimed", &c->e);
	const char *failure = claim_failure(c->result);
	if (c->result == CLAIM_BUILD && c->claim.want_more)
		publish_load(s);
	if (c->claim.ended > 0 || failure != NULL)
		engine_report(s->engine, &s->action.org_id, &s->action.instance_id,
			      failure != NULL ? "failed" : "ready", failure);
	if (c->result == CLAIM_BUILD)
		lifecycle_take_claim(s->app, &c->mem, &c->claim);
	pool_claimed(s->engine->pool, s->app, c->result, &c->claim, clock_now_ms());
}

/* --- placements --- */

static enum place_step_kind kind_of(const struct pool_action *a)
{
	switch (a->kind) {
	case PA_READY:
		return PLACE_STEP_READY;
	case PA_FAILED:
		return PLACE_STEP_FAILED;
	case PA_GIVE_BACK:
		return PLACE_STEP_GIVE_BACK;
	case PA_DRAINING:
		return a->evict == EVICT_SURPLUS ? PLACE_STEP_SURPLUS : PLACE_STEP_DRAINING;
	case PA_GONE:
		return PLACE_STEP_GONE;
	default:
		abort(); /* not a write */
	}
}

static bool work_record(struct db *db, struct set *set, struct err *e)
{
	struct place_step *steps[SET_MAX];

	(void)e;
	for (unsigned i = 0; i < set->count; i++) {
		struct step *s = set->steps[i];
		const struct pool_action *a = &s->action;

		s->place = (struct place_step){
			.kind = kind_of(a),
			.instance_id = a->instance_id,
			.generation = a->generation,
			.tier = a->tier,
			.hash = a->hash,
			.reason = a->reason,
			.keep = a->keep,
			.retry_s = a->retry_s,
			.hand_over = a->hand_over,
		};
		steps[i] = &s->place;
	}
	placement_record_set(db, &set->steps[0]->who, steps, set->count);
	return true;
}

static enum pool_done pool_done_of(enum place_result result)
{
	switch (result) {
	case PLACE_OK:
		return POOL_DONE;
	case PLACE_SHORT:
		return POOL_SHORT;
	case PLACE_CHANGED:
		return POOL_CHANGED;
	case PLACE_LOST:
		return POOL_LOST;
	case PLACE_FAIL:
		break;
	}
	return POOL_RETRY;
}

static void count_eviction(const struct step *s)
{
	struct engine *engine = s->engine;
	struct instance_delta *delta = stats_book_app(engine, &s->action.instance_id, &s->action.org_id);

	if (s->action.evict == EVICT_NONE || s->action.evict == EVICT_SURPLUS)
		return;
	stats_book_totals(engine)->evictions_total++;
	delta->evicted_idle += s->action.evict == EVICT_IDLE;
	delta->evicted_room += s->action.evict == EVICT_ROOM;
	delta->evicted_quota += s->action.evict == EVICT_QUOTA;
}

/* What people and waiters are told when a placement has changed. */
static void tell(const struct step *s)
{
	struct engine *engine = s->engine;
	const struct pool_action *a = &s->action;
	static const char *const evictions[] = {"none", "idle", "room", "quota", "surplus"};

	switch (a->kind) {
	case PA_READY:
		log_info("App ready", "instance=%s org=%s tier=%s generation=%llu%s%s", a->instance_id.text,
			 a->org_id.text, tier_name(a->tier), (unsigned long long)a->generation,
			 a->reason ? " reason=" : "", a->reason ? a->reason : "");
		/* Stopping, it is about to leave, and a "ready" that we hear ends our hand-over. */
		engine_report(engine, &a->org_id, &a->instance_id, engine->is_stopping ? "draining" : "ready",
			      a->reason);
		break;
	case PA_FAILED:
		log_warn("App failed", "instance=%s org=%s generation=%llu reason=%s", a->instance_id.text,
			 a->org_id.text, (unsigned long long)a->generation, a->reason);
		stats_book_app(engine, &a->instance_id, &a->org_id)->failed_builds += a->retry_s == 0;
		engine_report(engine, &a->org_id, &a->instance_id, "failed", a->reason);
		break;
	case PA_DRAINING:
		log_info("App draining", "instance=%s org=%s evicted=%s", a->instance_id.text, a->org_id.text,
			 evictions[a->evict]);
		count_eviction(s);
		break;
	case PA_GIVE_BACK:
		log_debug("build given back", "instance=%s", a->instance_id.text);
		engine_report(engine, &a->org_id, &a->instance_id,
			      lifecycle_is_subscribed(s->app) ? "loading" : "unloaded", NULL);
		break;
	case PA_GONE:
		log_info("App unloaded", "instance=%s org=%s", a->instance_id.text, a->org_id.text);
		engine_report(engine, &a->org_id, &a->instance_id, "unloaded", NULL);
		break;
	default:
		break;
	}
}

static void done_record(struct step *s, bool ok, const struct err *e)
{
	struct pool *pool = s->engine->pool;
	struct place_step *p = &s->place;
	int64_t now_ms = clock_now_ms();

	if (!ok) {
		p->result = PLACE_FAIL;
		p->e = *e;
	}
	if (p->result == PLACE_FAIL)
		log_failed(s, "placement not written", &p->e);
	else if (p->result == PLACE_OK || p->result == PLACE_SHORT)
		tell(s);
	bool is_handed_over = p->result != PLACE_FAIL && id_is_set(&p->next_op);
	if (is_handed_over)
		publish_load(s);
	pool_recorded(pool, s->app, pool_done_of(p->result), now_ms);
	if (s->action.kind == PA_DRAINING && !is_handed_over)
		pool_handed_over(pool, &s->action.instance_id, now_ms);
}

/* --- ceilings --- */

static bool work_ceiling(struct db *db, struct set *set, struct err *e)
{
	for (unsigned i = 0; i < set->count; i++) {
		struct step *s = set->steps[i];

		if (!lease_has_room_elsewhere(db, s->who.worker_id, s->action.tier, &s->elsewhere, e))
			return false;
	}
	return true;
}

static void done_ceiling(struct step *s, bool ok, const struct err *e)
{
	if (!ok)
		log_failed(s, "other workers' room not read", e);
	pool_ceiling_answer(s->engine->pool, s->app, !ok || s->elsewhere, clock_now_ms());
}

/* --- subscribed: has the server taken it? --- */

static bool work_flush(struct db *db, struct set *set, struct err *e)
{
	(void)db;
	return bus_flush(set->steps[0]->engine->bus, FLUSH_TIMEOUT_MS, e);
}

static void done_flush(struct step *s, bool ok, const struct err *e)
{
	if (!ok)
		log_failed(s, "chat subject not subscribed", e);
	pool_subscribed(s->engine->pool, s->app, ok, clock_now_ms());
}

/* --- lines --- */

static const struct kind {
	bool (*work)(struct db *db, struct set *set, struct err *e);
	void (*done)(struct step *s, bool ok, const struct err *e);
	bool without_db;
} kinds[STEP_LINES] = {
	[STEP_LINE_READ] = {work_read, done_read, false},
	[STEP_LINE_CLAIM] = {work_claim, done_claim, false},
	[STEP_LINE_RECORD] = {work_record, done_record, false},
	[STEP_LINE_CEILING] = {work_ceiling, done_ceiling, false},
	[STEP_LINE_FLUSH] = {work_flush, done_flush, true},
};

static enum step_line_kind line_of(enum pool_action_kind kind)
{
	switch (kind) {
	case PA_READ:
		return STEP_LINE_READ;
	case PA_CLAIM:
		return STEP_LINE_CLAIM;
	case PA_CEILING:
		return STEP_LINE_CEILING;
	case PA_SUBSCRIBE:
		return STEP_LINE_FLUSH;
	default:
		return STEP_LINE_RECORD;
	}
}

static const struct kind *kind_of_line(const struct engine *engine, const struct step_line *line)
{
	return &kinds[line - engine->lines];
}

static bool work_set(struct db *db, void *data, struct err *e)
{
	struct set *set = data;

	return kind_of_line(set->steps[0]->engine, set->line)->work(db, set, e);
}

static void done_set(struct engine *engine, void *data, bool ok, const struct err *e)
{
	struct set *set = data;

	set->line->jobs--;
	for (unsigned i = 0; i < set->count; i++) {
		kind_of_line(engine, set->line)->done(set->steps[i], ok, e);
		step_free(set->steps[i]);
	}
	free(set);
}

static struct set *take_set(struct step_line *line)
{
	struct set *set = xcalloc(1, sizeof(*set));
	const struct id incarnation = line->steps->who.incarnation;

	set->line = line;
	while (line->steps != NULL && set->count < SET_MAX && id_equal(&line->steps->who.incarnation, &incarnation)) {
		struct step *s = line->steps;

		DL_DELETE(line->steps, s);
		set->steps[set->count++] = s;
	}
	return set;
}

void step_lines_add(struct engine *engine, const struct pool_action *action)
{
	struct step *s = step_new(engine, action);

	DL_APPEND(engine->lines[line_of(action->kind)].steps, s);
}

void step_lines_go(struct engine *engine)
{
	for (struct step_line *line = engine->lines; line < engine->lines + STEP_LINES; line++) {
		while (line->steps != NULL && line->jobs < JOBS_MAX) {
			struct set *set = take_set(line);

			line->jobs++;
			if (kind_of_line(engine, line)->without_db)
				engine_job_without_db(engine, work_set, done_set, set);
			else
				engine_job(engine, work_set, done_set, set);
		}
	}
}
