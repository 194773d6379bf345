/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups (an App, an organization) exist while a turn of theirs is in or waits. A turn that leaves makes room in its
 * own App and organization only, so the one queue to be looked through is its organization's.
 */
#include "worker/turnstile.h"

#include <stdlib.h>
#include <uthash.h>
#include <utlist.h>

#include "lib/xalloc.h"

struct turnstile_group {
	struct id id;
	unsigned in, passes;          /* passes: in or waiting */
	struct turnstile_pass *queue; /* organizations: in order */
	unsigned waiting;
	bool has_room; /* organizations: a turn left, and nobody has looked since */
	struct turnstile_group *roomy_next;
	UT_hash_handle hh;
};

struct turnstile {
	struct turnstile_config config;
	struct turnstile_group *apps, *orgs;
	struct turnstile_group *roomy; /* organizations to be looked at by turnstile_next */
	unsigned waiting;
};

struct turnstile *turnstile_new(const struct turnstile_config *config)
{
	struct turnstile *ts = xcalloc(1, sizeof(*ts));

	ts->config = *config;
	return ts;
}

void turnstile_free(struct turnstile **ts)
{
	free(*ts);
	*ts = NULL;
}

void turnstile_configure(struct turnstile *ts, const struct turnstile_config *config)
{
	ts->config = *config;
}

static struct turnstile_group *join(struct turnstile_group **table, const struct id *id)
{
	struct turnstile_group *group;

	HASH_FIND(hh, *table, id->text, sizeof(id->text), group);
	if (!group) {
		group = xcalloc(1, sizeof(*group));
		group->id = *id;
		HASH_ADD(hh, *table, id.text, sizeof(id->text), group);
	}
	group->passes++;
	return group;
}

static void part(struct turnstile_group **table, struct turnstile_group *group)
{
	if (--group->passes > 0 || group->has_room)
		return;
	HASH_DELETE(hh, *table, group);
	free(group);
}

static bool has_room(const struct turnstile *ts, const struct turnstile_pass *pass)
{
	return (pass->app_max == 0 || pass->app->in < pass->app_max) &&
	       (ts->config.org_max == 0 || pass->org->in < ts->config.org_max);
}

static void go_in(struct turnstile_pass *pass)
{
	pass->is_in = true;
	pass->app->in++;
	pass->org->in++;
}

static void stop_waiting(struct turnstile *ts, struct turnstile_pass *pass)
{
	DL_DELETE(pass->org->queue, pass);
	pass->org->waiting--;
	ts->waiting--;
	pass->is_waiting = false;
}

static void forget(struct turnstile *ts, struct turnstile_pass *pass)
{
	part(&ts->apps, pass->app);
	part(&ts->orgs, pass->org);
	pass->app = pass->org = NULL;
}

enum turnstile_result turnstile_enter(struct turnstile *ts, struct turnstile_pass *pass, const struct id *app,
				      const struct id *org, unsigned app_max, int64_t now_ms)
{
	if (app_max == 0 && ts->config.org_max == 0)
		return TURNSTILE_IN;
	pass->app_max = app_max;
	pass->app = join(&ts->apps, app);
	pass->org = join(&ts->orgs, org);
	if (has_room(ts, pass)) {
		go_in(pass);
		return TURNSTILE_IN;
	}
	if (pass->org->waiting >= ts->config.queue_max) {
		forget(ts, pass);
		return TURNSTILE_FULL;
	}
	pass->until_ms = now_ms + ts->config.wait_ms;
	pass->is_waiting = true;
	DL_APPEND(pass->org->queue, pass);
	pass->org->waiting++;
	ts->waiting++;
	return TURNSTILE_WAITS;
}

static void note_room(struct turnstile *ts, struct turnstile_group *org)
{
	if (org->has_room || org->waiting == 0)
		return;
	org->has_room = true;
	org->roomy_next = ts->roomy;
	ts->roomy = org;
}

void turnstile_leave(struct turnstile *ts, struct turnstile_pass *pass)
{
	if (pass->is_waiting) {
		stop_waiting(ts, pass);
	} else if (pass->is_in) {
		pass->is_in = false;
		pass->app->in--;
		pass->org->in--;
		note_room(ts, pass->org);
	} else {
		return;
	}
	forget(ts, pass);
}

struct turnstile_pass *turnstile_next(struct turnstile *ts)
{
	while (ts->roomy) {
		struct turnstile_group *org = ts->roomy;
		struct turnstile_pass *pass;

		DL_FOREACH (org->queue, pass) {
			if (!has_room(ts, pass))
				continue;
			stop_waiting(ts, pass);
			go_in(pass);
			return pass;
		}
		ts->roomy = org->roomy_next;
		org->has_room = false;
		org->passes++; /* for part() to look at */
		part(&ts->orgs, org);
	}
	return NULL;
}

struct turnstile_pass *turnstile_expired(struct turnstile *ts, int64_t now_ms)
{
	struct turnstile_group *org, *next;

	if (ts->waiting == 0)
		return NULL;
	HASH_ITER (hh, ts->orgs, org, next) {
		struct turnstile_pass *first = org->queue; /* who came first waits the longest */
		if (first && first->until_ms <= now_ms) {
			turnstile_leave(ts, first);
			return first;
		}
	}
	return NULL;
}

unsigned turnstile_waiting(const struct turnstile *ts)
{
	return ts->waiting;
}
