/* SPDX-License-Identifier: Apache-2.0 */
/* The thread of key_watch.h. A report that fails is tried again after some seconds; the program serves on meanwhile. */
#include "core/key_watch.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/keyring.h"
#include "core/sealing_key.h"
#include "lib/clock.h"
#include "lib/cond.h"
#include "lib/db.h"
#include "lib/log.h"
#include "lib/xalloc.h"

#define LOOK_MS 1000
#define REPORT_MS 60000
#define AGAIN_MS 5000

struct key_watch {
	struct keyring *ring;
	struct db_options options;
	struct key_holder holder;
	char host[256];
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool is_stopping, is_woken; /* under lock */
	/* the thread's own */
	int64_t report_due_ms;
	bool is_reported, was_refused;
};

static void look(struct key_watch *w)
{
	struct keyring_key keys[KEYRING_KEYS_MAX];
	bool is_changed = false;
	struct err e = {0};

	if (!keyring_refresh(w->ring, &is_changed, &e)) {
		log_error("the key ring cannot be read; the keys stay as they were", "error=\"%s\"", e.text);
		return;
	}
	if (!is_changed)
		return;
	log_info("key ring read", "keys=%u", keyring_list(w->ring, keys));
	w->report_due_ms = 0;
}

/* That the database is away is said by those who need it more. */
static void report_failed(struct key_watch *w, const struct err *e)
{
	bool is_refused = e->code != ERR_DOWN && e->code != ERR_UNCERTAIN && e->code != ERR_TIMEOUT;

	if (is_refused && !w->was_refused)
		log_warn("which keys are held here was not recorded", "error=\"%s\" next=retry", e->text);
	else
		log_debug("which keys are held here was not recorded", "error=\"%s\" next=retry", e->text);
	w->was_refused = is_refused;
}

static void report(struct key_watch *w)
{
	struct keyring_key keys[KEYRING_KEYS_MAX];
	unsigned count = keyring_list(w->ring, keys);
	struct db *db = NULL;
	struct err e = {0};
	bool ok = db_open(&w->options, &db, &e) && key_holder_report(db, &w->holder, keys, count, &e);

	db_close(&db);
	w->report_due_ms = clock_now_ms() + (ok ? REPORT_MS : AGAIN_MS);
	if (ok)
		w->is_reported = true;
	else
		report_failed(w, &e);
}

static void forget(struct key_watch *w)
{
	struct db *db = NULL;
	struct err e = {0};

	if (!db_open(&w->options, &db, &e) || !key_holder_forget(db, &w->holder.process_id, &e))
		log_debug("the end was not recorded", "error=\"%s\"", e.text);
	db_close(&db);
}

/* True: stop. */
static bool wait_a_moment(struct key_watch *w)
{
	struct timespec until = cond_deadline(LOOK_MS);

	pthread_mutex_lock(&w->lock);
	while (!w->is_stopping && !w->is_woken && pthread_cond_timedwait(&w->wake, &w->lock, &until) == 0)
		;
	if (w->is_woken)
		w->report_due_ms = 0;
	w->is_woken = false;
	bool is_stopping = w->is_stopping;
	pthread_mutex_unlock(&w->lock);
	return is_stopping;
}

static void *run(void *closure)
{
	struct key_watch *w = closure;

	do {
		look(w);
		if (clock_now_ms() >= w->report_due_ms)
			report(w);
	} while (!wait_a_moment(w));
	if (w->is_reported)
		forget(w);
	return NULL;
}

struct key_watch *key_watch_start(struct keyring *ring, const struct db_options *options, const char *program,
				  const struct id *process_id)
{
	struct key_watch *w = xcalloc(1, sizeof(*w));

	w->ring = ring;
	w->options = *options;
	if (gethostname(w->host, sizeof(w->host) - 1) != 0)
		(void)snprintf(w->host, sizeof(w->host), "localhost");
	w->holder = (struct key_holder){.process_id = *process_id, .program = program, .host = w->host};
	pthread_mutex_init(&w->lock, NULL);
	cond_init(&w->wake);
	look(w);
	if (pthread_create(&w->thread, NULL, run, w) != 0)
		abort();
	return w;
}

void key_watch_wake(struct key_watch *watch)
{
	pthread_mutex_lock(&watch->lock);
	watch->is_woken = true;
	pthread_cond_signal(&watch->wake);
	pthread_mutex_unlock(&watch->lock);
}

void key_watch_stop(struct key_watch **watch)
{
	struct key_watch *w = *watch;

	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->is_stopping = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	free(w);
	*watch = NULL;
}
