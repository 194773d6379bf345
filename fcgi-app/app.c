/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lending connections. The schema is looked at once, at the first contact: the
 * program also starts while the database is away, and must not touch tables
 * that are not what its SQL was written for.
 */
#include "fcgi-app/app.h"

#include "core/access.h"
#include "core/schema.h"
#include "core/token.h"
#include "lib/db.h"
#include "lib/log.h"

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

void app_touch_token(struct db *db, const struct caller *caller)
{
	if (caller->touch_due)
		token_touch(db, &caller->token_id);
}
