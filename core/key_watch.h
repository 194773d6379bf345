/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps a running program's key ring as its file is: a thread that looks at the file each second, and tells the
 * database which keys this process holds, each minute and at once when they changed. `hearthctl keys distribute-check`
 * reads it.
 */
#ifndef CORE_KEY_WATCH_H
#define CORE_KEY_WATCH_H

#include "lib/id.h"

struct db_options;
struct key_watch;
struct keyring;

/* Reads the ring's file before it returns; what is wrong with it is logged. What options and program point to is
 * borrowed until the stop. Its connection is open only while it reports. */
struct key_watch *key_watch_start(struct keyring *ring, const struct db_options *options, const char *program,
				  const struct id *process_id);
/* Looks and reports now. Any thread. */
void key_watch_wake(struct key_watch *watch);
/* The process ends: it is said, where the database is there. Accepts NULL. */
void key_watch_stop(struct key_watch **watch);

#endif
