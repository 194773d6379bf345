/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the threads of hearth.fcgi share. main makes it before the first thread
 * and takes it apart after the last; every member guards itself.
 */
#ifndef FCGI_APP_APP_H
#define FCGI_APP_APP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "lib/err.h"

struct accept_line;
struct access_cache;
struct busline;
struct caller;
struct db;
struct db_pool;
struct gate;
struct keyring;
struct netaddr_list;
struct settings;
struct waits;

enum app_share { APP_ANY, APP_LIFECYCLE }; /* lifecycle requests hold at most half of the connections together */

struct app {
	const struct settings *settings;
	struct db_pool *db_pool;
	struct busline *bus;
	struct waits *waits;
	struct access_cache *cache;
	struct accept_line *accepts;
	struct gate *gate;
	struct keyring *keys;
	pthread_mutex_t llm_networks_mutex;
	struct netaddr_list *llm_networks; /* where a provider may be though they are reserved, or without TLS */
	_Atomic bool is_schema_good;       /* checked at the first contact with the database */
	_Atomic bool is_stopping;          /* SIGTERM: no new waits */
	_Atomic bool is_cutting;           /* the time to finish is up: turns end now */
	_Atomic unsigned requests_in_hand;
};

/*
 * A connection to a database of the right schema. ERR_BUSY: all are lent. ERR_DOWN: the server is away, or its schema
 * is older than this program, which the log then says.
 */
bool app_db_take(struct app *app, enum app_share share, struct db **ret_db, struct err *e) MUST_CHECK;
/* Accepts a NULL connection. */
void app_db_give(struct app *app, struct db **db);
/* llm.allowed_networks as it is now, for the caller to free: a look-up takes long, and the list may change meanwhile.
 */
struct netaddr_list *app_llm_networks(struct app *app);
/* From the start, and again on SIGHUP. ERR_INPUT: the old one stays. */
bool app_set_llm_networks(struct app *app, const char *networks, struct err *e) MUST_CHECK;
/* Notes the use of the caller's token where that is due; outside of a transaction, best effort. */
void app_touch_token(struct db *db, const struct caller *caller);

#endif
