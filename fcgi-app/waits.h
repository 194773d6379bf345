/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who waits for news of an App: a request that waits for its operation says
 * so before it reads the row, and is woken by the App's hearth.event. Being woken
 * promises nothing; the waiter reads the row again, as it does about once a
 * second without any event. All threads.
 */
#ifndef FCGI_APP_WAITS_H
#define FCGI_APP_WAITS_H

#include <pthread.h>
#include <stdbool.h>

#include "lib/id.h"

struct waits;

/* Lives on the waiter's stack; its fields are waits.c's. */
struct wait {
	struct wait *next, **link;
	struct id instance_id;
	pthread_cond_t cond;
	bool is_woken;
};

struct waits *waits_new(void);
void waits_free(struct waits **waits);

/* From here on events of the App are noticed. Ended by waits_end, always. */
void waits_begin(struct waits *waits, struct wait *w, const struct id *instance_id);
/* True: woken since the begin or the last call. False: timeout_ms are over. */
bool waits_for(struct waits *waits, struct wait *w, int timeout_ms);
void waits_end(struct waits *waits, struct wait *w);

void waits_wake(struct waits *waits, const struct id *instance_id);
/* After a gap in the events, and for a stop. */
void waits_wake_all(struct waits *waits);

#endif
