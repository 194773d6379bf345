/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pool statistics. For the sys_admin one row per live worker is read, so it costs
 * the same whatever the number of Apps; an org's counts come from its placements.
 */
#include "fcgi-app/handlers.h"

#include <string.h>

#include "core/settings.h"
#include "core/stats.h"
#include "fcgi-app/app.h"
#include "fcgi-app/auth.h"
#include "fcgi-app/busline.h"
#include "fcgi-app/request.h"
#include "lib/clock.h"
#include "lib/json.h"

struct totals {
	uint64_t hot, demand, loading, failed, models, bundles, memory_bytes, turns_in_flight;
	const char *as_of; /* the oldest row */
	int64_t oldest_age_ms, newest_age_ms;
	const struct pool_worker *newest;
};

static void note_age(struct totals *t, const struct pool_worker *w)
{
	if (w->flushed_age_ms < 0)
		return;
	if (!t->as_of || w->flushed_age_ms > t->oldest_age_ms) {
		t->oldest_age_ms = w->flushed_age_ms;
		t->as_of = w->flushed_at;
	}
	if (!t->newest || w->flushed_age_ms < t->newest_age_ms) {
		t->newest_age_ms = w->flushed_age_ms;
		t->newest = w;
	}
}

static struct totals add_up(const struct pool_worker *workers, unsigned count)
{
	struct totals t = {0};

	for (unsigned i = 0; i < count; i++) {
		const struct worker_stats *s = &workers[i].stats;
		t.hot += s->hot_count;
		t.demand += s->demand_count;
		t.loading += s->loading_count;
		t.failed += s->failed_count;
		t.models += s->model_count;
		t.bundles += s->bundle_count;
		t.memory_bytes += s->memory_bytes;
		t.turns_in_flight += s->turns_in_flight;
		note_age(&t, &workers[i]);
	}
	return t;
}

static struct jval *render_worker(const struct pool_worker *w)
{
	struct jval *o = jval_new_object();

	jval_add_string(o, "worker_id", w->worker_id);
	jval_add_string(o, "state", w->state);
	jval_add_int(o, "lease_age_ms", w->lease_age_ms);
	jval_add_int(o, "hot_tier_count", w->stats.hot_count);
	jval_add_int(o, "demand_tier_count", w->stats.demand_count);
	jval_add_int(o, "hot_ceiling", w->hot_ceiling);
	jval_add_int(o, "demand_ceiling", w->demand_ceiling);
	jval_add_int(o, "memory_bytes", (int64_t)w->stats.memory_bytes);
	jval_add_int(o, "turns_in_flight", w->stats.turns_in_flight);
	jval_add_int(o, "loading_count", w->stats.loading_count);
	jval_add_int(o, "failed_count", w->stats.failed_count);
	jval_add_string(o, "flushed_at", w->flushed_at);
	return o;
}

static struct jval *render_bus(struct app *app, const struct totals *t)
{
	struct jval *o = jval_new_object();

	jval_add_bool(o, "connected", busline_is_up(app->bus));
	jval_add_int(o, "events_waiting", t->newest ? (int64_t)t->newest->stats.events_waiting : 0);
	jval_add_int(o, "redelivered", t->newest ? (int64_t)t->newest->stats.events_redelivered : 0);
	return o;
}

#define BREAKERS_BYTES_MAX ((size_t)65536)

static void add_breaker(struct jval *list, struct jval *breaker, const struct pool_worker *w, const struct id *org_id)
{
	const char *org = jval_string(jval_get(breaker, "org_id"), NULL);

	if (!org || (org_id && strcmp(org, org_id->text) != 0))
		return;
	jval_add_string(breaker, "worker_id", w->worker_id);
	jval_push(list, jval_ref(breaker));
}

/* Models whose provider is given a pause, as the workers last said; org_id NULL: all orgs'. */
static struct jval *render_breakers(const struct pool_worker *workers, unsigned count, const struct id *org_id)
{
	const struct json_limits limits = {.bytes_max = BREAKERS_BYTES_MAX, .depth_max = 4};
	struct jval *list = jval_new_array();

	for (unsigned i = 0; i < count; i++) {
		const char *text = workers[i].stats.breakers;
		struct jval *breakers = NULL;

		if (!text || !jval_parse(text, strlen(text), &limits, &breakers, NULL))
			continue;
		for (size_t k = 0; k < jval_array_len(breakers); k++)
			add_breaker(list, jval_array_at(breakers, k), &workers[i], org_id);
		jval_free(&breakers);
	}
	return list;
}

static struct jval *render_pool(struct app *app, const struct pool_worker *workers, unsigned count)
{
	struct totals t = add_up(workers, count);
	struct jval *o = jval_new_object();
	struct jval *list = jval_new_array();

	for (unsigned i = 0; i < count; i++)
		jval_push(list, render_worker(&workers[i]));
	jval_add_int(o, "total_instances", (int64_t)(t.hot + t.demand));
	jval_add_int(o, "hot_tier_count", (int64_t)t.hot);
	jval_add_int(o, "demand_tier_count", (int64_t)t.demand);
	jval_add_int(o, "loading_count", (int64_t)t.loading);
	jval_add_int(o, "failed_count", (int64_t)t.failed);
	jval_add_int(o, "shared_model_count", (int64_t)t.models);
	jval_add_int(o, "shared_bundle_count", (int64_t)t.bundles);
	jval_add_int(o, "memory_bytes", (int64_t)t.memory_bytes);
	jval_add_int(o, "turns_in_flight", (int64_t)t.turns_in_flight);
	jval_add_string(o, "as_of", t.as_of);
	jval_add(o, "workers", list);
	jval_add(o, "bus", render_bus(app, &t));
	jval_add(o, "breakers", render_breakers(workers, count, NULL));
	return o;
}

static struct jval *render_expired(const struct expired_worker *workers, unsigned count)
{
	struct jval *list = jval_new_array();

	for (unsigned i = 0; i < count; i++) {
		struct jval *o = jval_new_object();

		jval_add_string(o, "worker_id", workers[i].worker_id);
		jval_add_string(o, "host", workers[i].host);
		jval_add_int(o, "lease_age_ms", workers[i].lease_age_ms);
		jval_push(list, o);
	}
	return list;
}

enum next h_stats_pool(struct request *req, struct response *res, struct err *e)
{
	int lease_s = (int)req->app->settings->worker.lease_s;
	struct pool_worker *workers = NULL;
	struct expired_worker *expired = NULL;
	unsigned count = 0, expired_count = 0;
	struct visit v = {0};
	enum next next;

	if (!auth_enter(req, res, &v, &next, e))
		goto out;
	next = NEXT_FAIL;
	if (stats_pool(v.db, req->mem, lease_s, &workers, &count, e) &&
	    stats_expired(v.db, req->mem, lease_s, &expired, &expired_count, e)) {
		struct jval *pool = render_pool(req->app, workers, count);

		jval_add(pool, "workers_expired", render_expired(expired, expired_count));
		next = answer(res, 200, pool);
	}
out:
	auth_leave(req, &v);
	return next;
}

static struct jval *render_org_stats(const struct org_stats *s)
{
	char now[CLOCK_RFC3339_SIZE];
	struct jval *o = jval_new_object();

	clock_rfc3339(clock_unix_ms(), now);
	jval_add_int(o, "total_instances", (int64_t)s->hot_count + s->demand_count);
	jval_add_int(o, "hot_tier_count", s->hot_count);
	jval_add_int(o, "demand_tier_count", s->demand_count);
	jval_add_int(o, "loading_count", s->loading_count);
	jval_add_int(o, "failed_count", s->failed_count);
	jval_add_int(o, "draining_count", s->draining_count);
	jval_add_int(o, "instances", s->instances);
	jval_add_string(o, "as_of", now);
	return o;
}

enum next h_stats_org(struct request *req, struct response *res, struct err *e)
{
	struct pool_worker *workers = NULL;
	unsigned count = 0;
	struct org_stats stats;
	struct visit v = {0};
	enum next next;

	if (!auth_enter(req, res, &v, &next, e))
		goto out;
	next = NEXT_FAIL;
	if (stats_org(v.db, &req->org_id, &stats, e) &&
	    stats_pool(v.db, req->mem, (int)req->app->settings->worker.lease_s, &workers, &count, e)) {
		struct jval *o = render_org_stats(&stats);

		jval_add(o, "breakers", render_breakers(workers, count, &req->org_id));
		next = answer(res, 200, o);
	}
out:
	auth_leave(req, &v);
	return next;
}

static void add_ms(struct jval *o, const char *key, uint64_t sum_us, uint64_t count)
{
	jval_add_double(o, key, count > 0 ? (double)sum_us / (double)count / 1000 : 0);
}

/* Of a turn's time, what was spent on the provider and on tools; the rest is Hearth's. */
static struct jval *render_app_stats(const struct app_stats *s)
{
	struct jval *o = jval_new_object(), *latency = jval_new_object(), *evicted = jval_new_object();

	jval_add_int(o, "turns", (int64_t)s->turns);
	jval_add_int(o, "errors", (int64_t)s->errors);
	jval_add_int(o, "loads", (int64_t)s->loads);
	jval_add_int(o, "cold_starts", (int64_t)s->cold_starts);
	jval_add_int(o, "reloads", (int64_t)s->reloads);
	jval_add_int(o, "failed_builds", (int64_t)s->failed_builds);
	jval_add_int(evicted, "idle", (int64_t)s->evicted_idle);
	jval_add_int(evicted, "room", (int64_t)s->evicted_room);
	jval_add_int(evicted, "quota", (int64_t)s->evicted_quota);
	jval_add(o, "evicted", evicted);
	jval_add_int(o, "tokens_in", (int64_t)s->tokens_in);
	jval_add_int(o, "tokens_out", (int64_t)s->tokens_out);
	add_ms(latency, "mean_ms", s->latency_us_sum, s->turns);
	add_ms(latency, "max_ms", s->latency_us_max, 1);
	add_ms(latency, "provider_mean_ms", s->provider_us_sum, s->turns);
	add_ms(latency, "tools_mean_ms", s->tools_us_sum, s->turns);
	jval_add(o, "latency", latency);
	add_ms(o, "build_mean_ms", s->build_us_sum, s->loads + s->reloads);
	jval_add_string(o, "last_turn_at", s->last_turn_at);
	return o;
}

enum next h_stats_app(struct request *req, struct response *res, struct err *e)
{
	struct app_stats stats;
	struct visit v = {0};
	enum next next;

	if (!auth_enter(req, res, &v, &next, e))
		goto out;
	next = NEXT_FAIL;
	if (stats_app(v.db, req->mem, &req->instance_id, &stats, e))
		next = answer(res, 200, render_app_stats(&stats));
out:
	auth_leave(req, &v);
	return next;
}
