/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the handlers share. Lending connections: the schema is looked at once, at
 * the first contact, as the program also starts while the database is away, and
 * must not touch tables that are not what its SQL was written for.
 */
#include "fcgi-app/app.h"

#include "core/access.h"
#include "core/schema.h"
#include "core/token.h"
#include "lib/db.h"
#include "lib/log.h"
#include "lib/netaddr.h"

#define TAKE_TIMEOUT_MS 2000

static bool check_schema(struct app *app, struct db *db, struct err *e)
{
	if (atomic_load_explicit(&app->is_schema_good, memory_order_relaxed))
		return true;
	if (schema_check(db, e)) {
		atomic_store_explicit(&app->is_schema_good, true, memory_order_relaxed);
		return true;
	}
	if (e->code == ERR_MISSING) {
		log_error("the database's schema does not fit", "reason=\"%s\" answer=503", e->text);
		e->code = ERR_DOWN;
	}
	return false;
}

bool app_db_take(struct app *app, enum app_share share, struct db **ret_db, struct err *e)
{
	struct db_pool_stats stats = db_pool_stats(app->db_pool);
	unsigned half = stats.size > 1 ? stats.size / 2 : 1;
	struct db *db = NULL;

	if (!db_take(app->db_pool, share == APP_LIFECYCLE ? half : 0, TAKE_TIMEOUT_MS, &db, e))
		return false;
	if (!check_schema(app, db, e)) {
		db_give(app->db_pool, &db);
		return false;
	}
	*ret_db = db;
	return true;
}

void app_db_give(struct app *app, struct db **db)
{
	if (*db)
		db_give(app->db_pool, db);
}

struct netaddr_list *app_llm_networks(struct app *app)
{
	(void)pthread_mutex_lock(&app->llm_networks_mutex);
	struct netaddr_list *copy = netaddr_list_copy(app->llm_networks);
	(void)pthread_mutex_unlock(&app->llm_networks_mutex);
	return copy;
}

bool app_set_llm_networks(struct app *app, const char *networks, struct err *e)
{
	struct netaddr_list *fresh, *old;

	if (!netaddr_list_parse(networks, &fresh, e))
		return false;
	(void)pthread_mutex_lock(&app->llm_networks_mutex);
	old = app->llm_networks;
	app->llm_networks = fresh;
	(void)pthread_mutex_unlock(&app->llm_networks_mutex);
	netaddr_list_free(&old);
	return true;
}

void app_touch_token(struct db *db, const struct caller *caller)
{
	if (caller->touch_due)
		token_touch(db, &caller->token_id);
}
