/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who leads takes what stands in line, itself first, and answers all of it. When it has done so, and somebody stands in
 * line again, the first of those is made the next leader; so nobody waits while nobody leads.
 */
#include "fcgi-app/accept_line.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/lifecycle.h"
#include "fcgi-app/app.h"
#include "lib/cond.h"
#include "lib/xalloc.h"

#define LEADERS_MAX 2
#define SET_MAX 64

struct waiter {
	struct lifecycle_step *step;
	struct waiter *next;
	pthread_cond_t changed;
	bool is_leader, is_answered;
};

struct accept_line {
	pthread_mutex_t mutex;
	struct waiter *first, **end;
	unsigned leader_count;
};

struct accept_line *accept_line_new(void)
{
	struct accept_line *line = xcalloc(1, sizeof(*line));

	(void)pthread_mutex_init(&line->mutex, NULL);
	line->end = &line->first;
	return line;
}

void accept_line_free(struct accept_line **line)
{
	if (*line)
		(void)pthread_mutex_destroy(&(*line)->mutex);
	free(*line);
	*line = NULL;
}

/* --- with the mutex held --- */

static void enqueue(struct accept_line *line, struct waiter *w)
{
	*line->end = w;
	line->end = &w->next;
}

static struct waiter *dequeue(struct accept_line *line)
{
	struct waiter *w = line->first;

	line->first = w->next;
	if (!line->first)
		line->end = &line->first;
	return w;
}

/* The first in line may lead. */
static void appoint(struct accept_line *line)
{
	if (!line->first || line->first->is_leader || line->leader_count == LEADERS_MAX)
		return;
	line->leader_count++;
	line->first->is_leader = true;
	(void)pthread_cond_signal(&line->first->changed);
}

/* --- without --- */

static void answer_set(struct app *app, struct lifecycle_step **steps, unsigned count)
{
	struct db *db = NULL;
	struct err e = {0};

	if (!app_db_take(app, APP_LIFECYCLE, &db, &e)) {
		for (unsigned i = 0; i < count; i++) {
			steps[i]->ok = false;
			steps[i]->e = e;
		}
		return;
	}
	lifecycle_accept(db, steps, count);
	for (unsigned i = 0; i < count; i++)
		if (steps[i]->ok && steps[i]->problem == PROBLEM_NONE)
			app_touch_token(db, &steps[i]->accepted.access.caller);
	app_db_give(app, &db);
}

static void lead(struct app *app, struct accept_line *line)
{
	struct lifecycle_step *steps[SET_MAX];
	struct waiter *set[SET_MAX];
	unsigned count = 0;

	while (line->first && count < SET_MAX) {
		set[count] = dequeue(line);
		steps[count] = set[count]->step;
		count++;
	}
	(void)pthread_mutex_unlock(&line->mutex);
	answer_set(app, steps, count);
	(void)pthread_mutex_lock(&line->mutex);
	for (unsigned i = 0; i < count; i++) {
		set[i]->is_answered = true;
		(void)pthread_cond_signal(&set[i]->changed);
	}
	line->leader_count--;
	appoint(line);
}

void accept_line_pass(struct app *app, struct lifecycle_step *step)
{
	struct accept_line *line = app->accepts;
	struct waiter w = {.step = step};

	cond_init(&w.changed);
	(void)pthread_mutex_lock(&line->mutex);
	enqueue(line, &w);
	if (line->first == &w)
		appoint(line);
	while (!w.is_answered && !w.is_leader)
		(void)pthread_cond_wait(&w.changed, &line->mutex);
	if (w.is_leader)
		lead(app, line);
	(void)pthread_mutex_unlock(&line->mutex);
	(void)pthread_cond_destroy(&w.changed);
}
