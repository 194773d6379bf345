/* SPDX-License-Identifier: Apache-2.0 */
/* Buckets of doubly linked lists by the App's id, one lock for all: an event costs one look into one bucket. */
#include "fcgi-app/waits.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "lib/cond.h"
#include "lib/xalloc.h"

#define BUCKET_COUNT 512

struct waits {
	pthread_mutex_t lock;
	struct wait *buckets[BUCKET_COUNT];
};

struct waits *waits_new(void)
{
	struct waits *waits = xcalloc(1, sizeof(*waits));

	pthread_mutex_init(&waits->lock, NULL);
	return waits;
}

void waits_free(struct waits **waits)
{
	if (!*waits)
		return;
	pthread_mutex_destroy(&(*waits)->lock);
	free(*waits);
	*waits = NULL;
}

static struct wait **bucket_of(struct waits *waits, const struct id *id)
{
	size_t hash = 5381;

	for (const char *c = id->text; *c; c++)
		hash = hash * 33 + (unsigned char)*c;
	return &waits->buckets[hash % BUCKET_COUNT];
}

void waits_begin(struct waits *waits, struct wait *w, const struct id *instance_id)
{
	*w = (struct wait){.instance_id = *instance_id};
	cond_init(&w->cond);
	pthread_mutex_lock(&waits->lock);
	struct wait **bucket = bucket_of(waits, instance_id);
	w->next = *bucket;
	w->link = bucket;
	if (w->next)
		w->next->link = &w->next;
	*bucket = w;
	pthread_mutex_unlock(&waits->lock);
}

bool waits_for(struct waits *waits, struct wait *w, int timeout_ms)
{
	const struct timespec until = cond_deadline(timeout_ms);
	int result = 0;

	pthread_mutex_lock(&waits->lock);
	while (!w->is_woken && result != ETIMEDOUT)
		result = pthread_cond_timedwait(&w->cond, &waits->lock, &until);
	bool was_woken = w->is_woken;
	w->is_woken = false;
	pthread_mutex_unlock(&waits->lock);
	return was_woken;
}

void waits_end(struct waits *waits, struct wait *w)
{
	pthread_mutex_lock(&waits->lock);
	*w->link = w->next;
	if (w->next)
		w->next->link = w->link;
	pthread_mutex_unlock(&waits->lock);
	pthread_cond_destroy(&w->cond);
}

static void wake(struct wait *w)
{
	w->is_woken = true;
	pthread_cond_signal(&w->cond);
}

void waits_wake(struct waits *waits, const struct id *instance_id)
{
	pthread_mutex_lock(&waits->lock);
	for (struct wait *w = *bucket_of(waits, instance_id); w; w = w->next)
		if (id_equal(&w->instance_id, instance_id))
			wake(w);
	pthread_mutex_unlock(&waits->lock);
}

void waits_wake_all(struct waits *waits)
{
	pthread_mutex_lock(&waits->lock);
	for (size_t i = 0; i < BUCKET_COUNT; i++)
		for (struct wait *w = waits->buckets[i]; w; w = w->next)
			wake(w);
	pthread_mutex_unlock(&waits->lock);
}
