/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two books: `open` takes what happens now; `closed` is being written, and is
 * written again with its number until it counted. Only then is the next one closed. An App is in a book only while
 * something changed.
 */
#include "worker/stats_book.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uthash.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/xalloc.h"
#include "worker/engine.h"
#include "worker/events.h"
#include "worker/model/model.h"
#include "worker/pool/pool.h"
#include "worker/runtime.h"

struct entry {
	struct id_bin id;
	struct instance_delta delta;
	UT_hash_handle hh;
};

struct flush {
	struct worker_identity who;
	uint64_t number;
	struct worker_stats stats;
	struct instance_delta *deltas;
	unsigned count;
	char *breakers; /* of stats */
	enum lease_result result;
};

struct stats_book {
	struct entry *open;
	struct worker_stats totals;
	struct flush *closed; /* NULL: nothing waits */
	uint64_t number;
	int64_t due_ms;
	bool is_flushing, was_down;
};

struct stats_book *stats_book_new(void)
{
	return xcalloc(1, sizeof(struct stats_book));
}

static void flush_free(struct flush **flush)
{
	if (*flush == NULL)
		return;
	free((*flush)->deltas);
	free((*flush)->breakers);
	free(*flush);
	*flush = NULL;
}

static void entries_free(struct stats_book *book)
{
	struct entry *entry, *next;

	HASH_ITER (hh, book->open, entry, next) {
		HASH_DELETE(hh, book->open, entry);
		free(entry);
	}
}

void stats_book_free(struct stats_book **book)
{
	if (*book == NULL)
		return;
	entries_free(*book);
	flush_free(&(*book)->closed);
	free(*book);
	*book = NULL;
}

struct instance_delta *stats_book_app(struct engine *engine, const struct id *instance_id, const struct id *org_id)
{
	struct stats_book *book = engine->stats;
	struct id_bin id = id_to_bin(instance_id);
	struct entry *entry;

	HASH_FIND(hh, book->open, &id, sizeof(id), entry);
	if (entry == NULL) {
		entry = xcalloc(1, sizeof(*entry));
		entry->id = id;
		entry->delta.instance_id = *instance_id;
		entry->delta.org_id = *org_id;
		HASH_ADD(hh, book->open, id, sizeof(entry->id), entry);
	}
	return &entry->delta;
}

struct worker_stats *stats_book_totals(struct engine *engine)
{
	return &engine->stats->totals;
}

static uint64_t resident_bytes(void)
{
	unsigned long long size, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (f == NULL)
		return 0;
	if (fscanf(f, "%llu %llu", &size, &resident) != 2)
		resident = 0;
	(void)fclose(f);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

#define BREAKERS_MAX 100 /* shown; more than these fail for one reason */

static void add_breaker(void *closure, const struct model_look *look)
{
	struct jval *list = closure, *o;

	if (look->breaker == BREAKER_CLOSED || jval_array_len(list) == BREAKERS_MAX)
		return;
	o = jval_new_object();
	jval_add_string(o, "llm_config_id", look->llm_config_id.text);
	jval_add_string(o, "org_id", look->org_id.text);
	jval_add_string(o, "model", look->name);
	jval_add_string(o, "state", breaker_state_name(look->breaker));
	jval_add_int(o, "retry_in_ms", look->breaker_wait_ms);
	jval_add_int(o, "failures", look->failures);
	jval_push(list, o);
}

/* malloc'd; NULL: all are closed. */
static char *open_breakers(const struct models *models)
{
	struct jval *list = jval_new_array();
	char *text = NULL;

	models_each(models, clock_now_ms(), add_breaker, list);
	if (jval_array_len(list) > 0)
		text = xstrdup(jval_text(list, NULL));
	jval_free(&list);
	return text;
}

static void fill_gauges(struct engine *engine, struct worker_stats *stats)
{
	struct pool_counts n = pool_counts(engine->pool);

	stats->hot_count = n.hot;
	stats->demand_count = n.demand;
	stats->loading_count = n.loading;
	stats->failed_count = n.failed;
	stats->turns_in_flight = n.turns_in_flight;
	stats->memory_bytes = resident_bytes();
	stats->model_count = models_count(runtime_models(engine->runtime));
	events_waiting(engine, &stats->events_waiting, &stats->events_redelivered);
}

/* Takes what is open as the next flush. */
static void close_book(struct engine *engine)
{
	struct stats_book *book = engine->stats;
	struct flush *flush = xcalloc(1, sizeof(*flush));
	struct entry *entry, *next;

	flush->number = ++book->number;
	flush->deltas = xcalloc(HASH_COUNT(book->open) + 1, sizeof(*flush->deltas));
	HASH_ITER (hh, book->open, entry, next)
		flush->deltas[flush->count++] = entry->delta;
	entries_free(book);
	flush->stats = book->totals;
	fill_gauges(engine, &flush->stats);
	flush->breakers = open_breakers(runtime_models(engine->runtime));
	flush->stats.breakers = flush->breakers;
	book->closed = flush;
}

static bool work_flush(struct db *db, void *data, struct err *e)
{
	struct flush *flush = data;

	flush->result = stats_flush(db, &flush->who, flush->number, &flush->stats, flush->deltas, flush->count, e);
	return flush->result != LEASE_FAIL;
}

static void done_flush(struct engine *engine, void *data, bool ok, const struct err *e)
{
	struct stats_book *book = engine->stats;
	struct flush *flush = data;

	book->is_flushing = false;
	if (ok && flush->result == LEASE_HELD)
		flush_free(&book->closed);
	else if (!book->was_down)
		log_warn("statistics not written; kept, and written again", "number=%llu error=%s",
			 (unsigned long long)flush->number, ok ? "declared dead" : e->text);
	book->was_down = book->closed != NULL;
}

void stats_book_second(struct engine *engine, bool now)
{
	struct stats_book *book = engine->stats;
	int64_t now_ms = clock_now_ms();

	if (book->is_flushing || !engine->is_registered || (!now && now_ms < book->due_ms))
		return;
	book->due_ms = now_ms + engine->settings->worker.stats_s * 1000;
	if (book->closed == NULL)
		close_book(engine);
	book->closed->who = engine->who;
	book->is_flushing = true;
	engine_job(engine, work_flush, done_flush, book->closed);
}

bool stats_book_is_clean(const struct engine *engine)
{
	return engine->stats->closed == NULL && engine->stats->open == NULL;
}
