/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of AI Apps. A change goes in three steps: instance_apply makes the
 * row as it will be (`next`) beside the row as it is, decides from the two and
 * from what is held what that means for the pool (struct plan), and writes row
 * and operation. Nothing here asks the bus.
 *
 * A copy below unload_generation is doomed: it drains whatever else is asked, so
 * a change does not count it as a copy that could be reloaded.
 */
#include "core/instance.h"

#include <stdio.h>
#include <string.h>

#include "core/framework.h"
#include "core/llm_config.h"
#include "core/operation.h"
#include "core/sql.h"
#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/db.h"
#include "lib/xalloc.h"

static const char SQL_INSTANCE_ORG_LOCK[] =
	"SELECT status = 'active', quota_instances FROM organizations WHERE org_id = ? FOR UPDATE";
static const char SQL_INSTANCE_COUNT[] =
	"SELECT COUNT(*) FROM orchestrator_instances WHERE org_id = ? AND living_name IS NOT NULL";
static const char SQL_INSTANCE_INSERT[] =
	"INSERT INTO orchestrator_instances (instance_id, org_id, name, framework_type, mode, status, tier, "
	"desired_state, replicas, ttl_seconds, config, config_hash, llm_config_id, active_plugin_ids, created_at, "
	"updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))";

/* The best placement on workers that live, as its rank and reason in one text: "2" < "2some reason". */
#define BEST_PLACEMENT                                                                                                 \
	"(SELECT MIN(CONCAT(FIELD(p.state, 'ready', 'loading', 'draining', 'failed'), COALESCE(p.reason, ''))) "       \
	"FROM placements p JOIN workers w ON w.worker_id = p.worker_id AND w.incarnation = p.incarnation "             \
	"WHERE p.instance_id = i.instance_id AND w.lease_until > UTC_TIMESTAMP(3))"

#define LLM_GENERATION "IF(i.good_llm_config_id = i.llm_config_id, i.good_llm_generation, 0)"

static const char SQL_INSTANCE_BY_ID[] =
	"SELECT " INSTANCE_COLUMNS("i.config") ", " LLM_GENERATION ", " BEST_PLACEMENT
					       " FROM orchestrator_instances i WHERE i.instance_id = ?";
static const char SQL_INSTANCE_LIST[] = "SELECT " INSTANCE_COLUMNS(
	"IF(LENGTH(i.config) <= ?, i.config, NULL)") ", " LLM_GENERATION ", " BEST_PLACEMENT
						     " FROM orchestrator_instances i WHERE i.org_id = ? AND "
						     "i.deleted_at IS NULL AND i.instance_id > ? "
						     "ORDER BY i.instance_id LIMIT ?";

static const char SQL_INSTANCE_CONFIG[] = "SELECT config FROM orchestrator_instances WHERE instance_id = ?";
static const char SQL_INSTANCE_HOLDING[] =
	"SELECT o.status = 'active', (SELECT COUNT(*) FROM placements p JOIN workers w ON w.worker_id = p.worker_id "
	"WHERE p.instance_id = ? AND p.generation >= ? AND " SQL_IS_LIVE "), "
	"(SELECT COUNT(*) FROM placements p WHERE p.instance_id = ? AND p.state <> 'failed'), "
	"EXISTS (SELECT 1 FROM operations op WHERE op.instance_id = ? AND op.is_open = 1 AND op.action <> 'unload') "
	"FROM organizations o WHERE o.org_id = ?";
static const char SQL_INSTANCE_HOT_QUOTA[] =
	"SELECT o.quota_hot <= (SELECT COUNT(*) FROM orchestrator_instances i WHERE i.org_id = o.org_id "
	"AND i.wanted_hot = 1 AND i.instance_id <> ?) FROM organizations o WHERE o.org_id = ?";
static const char SQL_INSTANCE_WRITE_WANTED[] =
	"UPDATE orchestrator_instances SET desired_state = ?, tier = ?, generation = ?, rebuild_generation = ?, "
	"unload_generation = ?, attempts = 0, failures = 0, next_attempt_at = NULL, failure_reason = NULL, "
	"updated_at = UTC_TIMESTAMP(3) WHERE instance_id = ?";
static const char SQL_INSTANCE_WRITE_SETTINGS[] =
	"UPDATE orchestrator_instances SET name = ?, mode = ?, status = ?, replicas = ?, ttl_seconds = ?, "
	"config = COALESCE(?, config), config_hash = ?, llm_config_id = ?, active_plugin_ids = ?, version = ?, "
	"good_llm_config_id = IF(?, NULL, good_llm_config_id), "
	"deleted_at = IF(?, UTC_TIMESTAMP(3), deleted_at), updated_at = UTC_TIMESTAMP(3) WHERE instance_id = ?";

static const char SQL_INSTANCE_BY_NAME[] =
	"SELECT instance_id FROM orchestrator_instances WHERE org_id = ? AND living_name = ?";

enum {
	ROW_ID,
	ROW_ORG,
	ROW_NAME,
	ROW_FRAMEWORK,
	ROW_MODE,
	ROW_STATUS,
	ROW_TIER,
	ROW_DESIRED,
	ROW_REPLICAS,
	ROW_TTL,
	ROW_CONFIG,
	ROW_HASH,
	ROW_LLM_CONFIG,
	ROW_PLUGINS,
	ROW_VERSION,
	ROW_GENERATION,
	ROW_REBUILD,
	ROW_UNLOAD,
	ROW_IS_DELETED,
	ROW_FAILURE,
	ROW_CREATED,
	ROW_UPDATED,
	ROW_LLM_GENERATION,
	ROW_PLACEMENT
};
_Static_assert(ROW_LLM_GENERATION == INSTANCE_COLUMN_COUNT, "INSTANCE_COLUMNS and their enum");

void instance_config_hash(const char *framework, const char *mode, const char *config, const char *plugin_ids,
			  char ret_hex[SECRET_HASH_HEX_SIZE])
{
	const char *parts[] = {framework, mode, config, plugin_ids};
	struct buf text;

	buf_init(&text, SIZE_MAX / 2); /* what is hashed was bounded when it came in */
	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		buf_append(&text, parts[i], strlen(parts[i]) + 1); /* the NUL keeps them apart */
	if (buf_has_failed(&text))
		xalloc_die();
	secret_hash_hex(text.data, text.len, ret_hex);
	buf_clear(&text);
}

/* --- reading --- */

bool instance_find_name(struct db *db, const struct id *org_id, const char *name, struct id *ret_instance_id,
			struct err *e)
{
	enum db_result result;

	*ret_instance_id = (struct id){""};
	db_use(db, SQL_INSTANCE_BY_NAME);
	db_bind_id(db, org_id);
	db_bind_str(db, name);
	result = sql_first(db, e);
	if (result == DB_ROW)
		*ret_instance_id = db_col_id(db, 0);
	db_done(db);
	return result != DB_FAIL;
}

void instance_from_row(struct db *db, struct arena *mem, unsigned first, struct instance *ret_instance)
{
	struct instance *i = ret_instance;

	memset(i, 0, sizeof(*i));
	i->instance_id = db_col_id(db, first + ROW_ID);
	i->org_id = db_col_id(db, first + ROW_ORG);
	i->name = sql_str(db, mem, first + ROW_NAME);
	i->framework_type = sql_str(db, mem, first + ROW_FRAMEWORK);
	i->mode = sql_str(db, mem, first + ROW_MODE);
	(void)status_parse(db_col_str(db, first + ROW_STATUS), &i->status);
	(void)tier_parse(db_col_str(db, first + ROW_TIER), &i->tier);
	(void)desired_parse(db_col_str(db, first + ROW_DESIRED), &i->desired_state);
	i->replicas = (uint32_t)db_col_u64(db, first + ROW_REPLICAS);
	i->ttl_seconds = db_col_is_null(db, first + ROW_TTL) ? -1 : db_col_i64(db, first + ROW_TTL);
	i->config = sql_str(db, mem, first + ROW_CONFIG);
	(void)snprintf(i->config_hash, sizeof(i->config_hash), "%s", db_col_str(db, first + ROW_HASH));
	i->llm_config_id = db_col_id(db, first + ROW_LLM_CONFIG);
	i->active_plugin_ids = sql_str(db, mem, first + ROW_PLUGINS);
	i->version = (uint32_t)db_col_u64(db, first + ROW_VERSION);
	i->generation = db_col_u64(db, first + ROW_GENERATION);
	i->rebuild_generation = db_col_u64(db, first + ROW_REBUILD);
	i->unload_generation = db_col_u64(db, first + ROW_UNLOAD);
	i->is_deleted = db_col_i64(db, first + ROW_IS_DELETED) != 0;
	i->failure_reason = sql_str(db, mem, first + ROW_FAILURE);
	i->created_at = sql_str(db, mem, first + ROW_CREATED);
	i->updated_at = sql_str(db, mem, first + ROW_UPDATED);
}

/* best: BEST_PLACEMENT's text, NULL where nothing is placed. */
static void set_state(struct instance *instance, const char *best)
{
	static const enum app_state ranks[] = {APP_READY, APP_LOADING, APP_DRAINING, APP_FAILED};
	size_t rank = best ? (size_t)(best[0] - '1') : ARRAY_LEN(ranks);

	instance->state_reason = instance->failure_reason;
	if (rank < ARRAY_LEN(ranks)) {
		instance->state = ranks[rank];
		if (best[1] != '\0')
			instance->state_reason = best + 1;
	} else {
		instance->state = instance->failure_reason ? APP_FAILED : APP_UNLOADED;
	}
}

static void read_with_state(struct db *db, struct arena *mem, void *ret_row)
{
	struct instance *instance = ret_row;

	instance_from_row(db, mem, 0, instance);
	instance->llm_generation = db_col_u64(db, ROW_LLM_GENERATION);
	set_state(instance, sql_str(db, mem, ROW_PLACEMENT));
}

bool instance_get(struct db *db, struct arena *mem, const struct id *instance_id, struct instance *ret_instance,
		  enum problem *ret_problem, struct err *e)
{
	enum db_result result;

	db_use(db, SQL_INSTANCE_BY_ID);
	db_bind_id(db, instance_id);
	result = sql_first(db, e);
	if (result == DB_FAIL)
		return false;
	if (result == DB_ROW)
		read_with_state(db, mem, ret_instance);
	*ret_problem = result == DB_ROW ? PROBLEM_NONE : PROBLEM_INSTANCE_NOT_FOUND;
	return sql_mem_ok(mem, e);
}

bool instance_list(struct db *db, struct arena *mem, const struct id *org_id, const struct id *after, unsigned limit,
		   struct instance **ret_instances, unsigned *ret_count, struct err *e)
{
	void *rows;

	db_use(db, SQL_INSTANCE_LIST);
	db_bind_u64(db, INSTANCE_LIST_CONFIG_MAX);
	db_bind_id(db, org_id);
	sql_bind_after(db, after, SQL_ID_FIRST);
	db_bind_u64(db, sql_page(limit));
	if (!sql_collect(db, mem, read_with_state, sizeof(struct instance), limit, &rows, ret_count, e))
		return false;
	*ret_instances = rows;
	return true;
}

bool instance_holding(struct db *db, const struct instance *instance, struct holding *ret_holding, struct err *e)
{
	enum db_result result;

	db_use(db, SQL_INSTANCE_HOLDING);
	db_bind_id(db, &instance->instance_id);
	db_bind_u64(db, instance->unload_generation);
	db_bind_id(db, &instance->instance_id);
	db_bind_id(db, &instance->instance_id);
	db_bind_id(db, &instance->org_id);
	result = sql_first(db, e);
	if (result == DB_DONE)
		return err_set(e, ERR_MISSING, "App %s has no org", instance->instance_id.text);
	if (result == DB_FAIL)
		return false;
	ret_holding->is_org_active = db_col_i64(db, 0) != 0;
	ret_holding->live = (unsigned)db_col_u64(db, 1);
	ret_holding->held = (unsigned)db_col_u64(db, 2);
	ret_holding->has_open_load = db_col_i64(db, 3) != 0;
	return true;
}

bool instance_is_wanted_hot(const struct instance *instance)
{
	return instance->tier == TIER_HOT && instance->desired_state == DESIRED_LOADED &&
	       instance->status == STATUS_ACTIVE && !instance->is_deleted;
}

bool instance_hot_quota_is_met(struct db *db, const struct instance *instance, bool *ret_is_met, struct err *e)
{
	enum db_result result;

	db_use(db, SQL_INSTANCE_HOT_QUOTA);
	db_bind_id(db, &instance->instance_id);
	db_bind_id(db, &instance->org_id);
	result = sql_first(db, e);
	if (result == DB_ROW)
		*ret_is_met = db_col_i64(db, 0) != 0;
	return result == DB_ROW;
}

/* --- creating --- */

/* Locks the org and finds out what forbids one more App. */
static bool check_room(struct db *db, const struct id *org_id, enum problem *ret_problem, struct err *e)
{
	enum db_result result;
	uint64_t quota;

	db_use(db, SQL_INSTANCE_ORG_LOCK);
	db_bind_id(db, org_id);
	result = sql_first(db, e);
	if (result == DB_FAIL)
		return false;
	*ret_problem = result == DB_DONE        ? PROBLEM_ORG_NOT_FOUND
		       : db_col_i64(db, 0) == 0 ? PROBLEM_ORG_SUSPENDED
						: PROBLEM_NONE;
	if (*ret_problem != PROBLEM_NONE)
		return true;
	quota = db_col_u64(db, 1);
	db_use(db, SQL_INSTANCE_COUNT);
	db_bind_id(db, org_id);
	if (sql_first(db, e) != DB_ROW)
		return false;
	if (db_col_u64(db, 0) >= quota)
		*ret_problem = PROBLEM_QUOTA_INSTANCES;
	return true;
}

static bool check_llm_config(struct db *db, const struct id *org_id, const struct id *llm_config_id,
			     enum problem *ret_problem, struct err *e)
{
	*ret_problem = PROBLEM_NONE;
	return !id_is_set(llm_config_id) || llm_config_is_of_org(db, org_id, llm_config_id, ret_problem, e);
}

bool instance_create(struct db *db, const struct instance *instance, const struct id *token_id,
		     enum problem *ret_problem, struct err *e)
{
	const struct version_mark mark = {.token_id = *token_id, .source = VERSION_CREATE};
	const struct id llm_config_id = framework_llm_config_of(instance->framework_type, instance->config);

	if (!check_room(db, &instance->org_id, ret_problem, e))
		return false;
	if (*ret_problem == PROBLEM_NONE && !check_llm_config(db, &instance->org_id, &llm_config_id, ret_problem, e))
		return false;
	if (*ret_problem != PROBLEM_NONE)
		return true;
	db_use(db, SQL_INSTANCE_INSERT);
	db_bind_id(db, &instance->instance_id);
	db_bind_id(db, &instance->org_id);
	db_bind_str(db, instance->name);
	db_bind_str(db, instance->framework_type);
	db_bind_str(db, instance->mode);
	db_bind_str(db, status_name(instance->status));
	db_bind_str(db, tier_name(instance->tier));
	db_bind_str(db, desired_name(instance->desired_state));
	db_bind_u64(db, instance->replicas);
	sql_bind_from(db, instance->ttl_seconds, 0);
	db_bind_str(db, instance->config);
	db_bind_str(db, instance->config_hash);
	db_bind_id(db, &llm_config_id);
	db_bind_str(db, instance->active_plugin_ids ? instance->active_plugin_ids : "[]");
	if (!sql_exec_named(db, ret_problem, e))
		return false;
	return *ret_problem != PROBLEM_NONE || version_record(db, &instance->instance_id, 1, &mark, e);
}

/* --- changing --- */

/* What a change means. */
struct plan {
	struct instance next; /* the row as it will be */
	bool is_changed;
	bool concerns_pool;
	bool is_version_new;
	bool turns_off;     /* suspended or deleted by this change */
	enum action action; /* that brings the pool there */
	enum source source;
	bool is_wanted; /* an operation is needed */
	struct holding holding;
};

static bool differs(const char *to, const char *from)
{
	return to && strcmp(to, from) != 0;
}

/* The hash of the changed build. A config that the caller has neither read nor changed is read here. */
static bool next_hash(struct db *db, const struct instance_change *change, struct instance *next, struct err *e)
{
	const char *config = change->config ? change->config : next->config;

	if (!config) {
		db_use(db, SQL_INSTANCE_CONFIG);
		db_bind_id(db, &next->instance_id);
		if (sql_first(db, e) != DB_ROW)
			return false;
		config = db_col_str(db, 0);
	}
	instance_config_hash(next->framework_type, next->mode, config, next->active_plugin_ids, next->config_hash);
	return true;
}

/* The row as the change makes it. */
static bool make_next(struct db *db, const struct instance_change *change, struct instance *next, struct err *e)
{
	if (change->name)
		next->name = change->name;
	if (change->tier >= 0)
		next->tier = (enum tier)change->tier;
	if (change->ttl_seconds >= 0)
		next->ttl_seconds = change->ttl_seconds > 0 ? change->ttl_seconds : -1;
	if (change->replicas >= 0)
		next->replicas = (uint32_t)change->replicas;
	if (change->mode)
		next->mode = change->mode;
	if (change->active_plugin_ids)
		next->active_plugin_ids = change->active_plugin_ids;
	if (change->status >= 0)
		next->status = (enum status)change->status;
	if (change->is_delete) {
		next->is_deleted = true;
		next->desired_state = DESIRED_UNLOADED;
	}
	if (change->config)
		next->llm_config_id = framework_llm_config_of(next->framework_type, change->config);
	if (next->is_deleted) /* or it would count as a user of it for ever */
		next->llm_config_id = (struct id){""};
	if (!change->config && !change->mode && !change->active_plugin_ids)
		return true;
	return next_hash(db, change, next, e);
}

/* What the difference between the two rows asks of the pool. */
static void make_plan(const struct instance *current, struct plan *plan)
{
	const struct instance *next = &plan->next;
	bool is_place_new = next->tier != current->tier || next->replicas != current->replicas ||
			    next->ttl_seconds != current->ttl_seconds;
	bool is_status_new = next->status != current->status || next->is_deleted != current->is_deleted;
	bool is_off = next->status == STATUS_SUSPENDED || next->is_deleted;

	plan->is_version_new = strcmp(next->config_hash, current->config_hash) != 0;
	plan->concerns_pool = plan->is_version_new || is_place_new || is_status_new;
	plan->is_changed = plan->concerns_pool || differs(next->name, current->name);
	plan->turns_off = is_off && is_status_new;
	plan->source = is_status_new ? SOURCE_STATUS_CHANGE : SOURCE_CONFIG_CHANGE;
	plan->action = is_off ? ACTION_UNLOAD : plan->is_version_new ? ACTION_RELOAD : ACTION_LOAD;
	if (!plan->concerns_pool)
		return;
	plan->next.generation = current->generation + 1;
	plan->next.version += plan->is_version_new;
	if (plan->turns_off)
		plan->next.unload_generation = plan->next.generation;
}

/* A demand App that is held, or about to be, and becomes hot is wanted from then on: a hot copy is never there by
 * chance. */
static void want_if_made_hot(const struct instance *current, struct plan *plan)
{
	bool is_made_hot = plan->next.tier == TIER_HOT && current->tier != TIER_HOT;

	if (is_made_hot && plan->action != ACTION_UNLOAD && (plan->holding.live > 0 || plan->holding.has_open_load))
		plan->next.desired_state = DESIRED_LOADED;
}

static bool plan_change(struct db *db, const struct instance *current, const struct instance_change *change,
			struct plan *plan, struct err *e)
{
	plan->next = *current;
	if (!make_next(db, change, &plan->next, e))
		return false;
	make_plan(current, plan);
	if (!plan->concerns_pool)
		return true;
	if (!instance_holding(db, current, &plan->holding, e))
		return false;
	want_if_made_hot(current, plan);
	if (plan->action == ACTION_UNLOAD)
		plan->is_wanted = plan->turns_off && plan->holding.held > 0;
	else
		plan->is_wanted =
			plan->holding.is_org_active && (plan->holding.live > 0 || instance_is_wanted_hot(&plan->next));
	return true;
}

/* One more hot App is wanted, or held, after the change. */
static bool raises_hot(const struct instance *current, const struct plan *plan)
{
	if (instance_is_wanted_hot(&plan->next))
		return !instance_is_wanted_hot(current);
	return plan->action != ACTION_UNLOAD && plan->holding.live > 0 && plan->next.tier == TIER_HOT &&
	       current->tier != TIER_HOT;
}

static void bind_wanted(struct db *db, const struct instance *instance)
{
	db_bind_str(db, desired_name(instance->desired_state));
	db_bind_str(db, tier_name(instance->tier));
	db_bind_u64(db, instance->generation);
	db_bind_u64(db, instance->rebuild_generation);
	db_bind_u64(db, instance->unload_generation);
	db_bind_id(db, &instance->instance_id);
}

bool instance_write_wanted_set(struct db *db, const struct instance *instances, unsigned count, struct err *e)
{
	db_use(db, SQL_INSTANCE_WRITE_WANTED);
	for (unsigned i = 0; i < count; i++) {
		if (i > 0)
			db_next_row(db);
		bind_wanted(db, &instances[i]);
	}
	return db_exec(db, e);
}

bool instance_write_wanted(struct db *db, const struct instance *instance, struct err *e)
{
	return instance_write_wanted_set(db, instance, 1, e);
}

static bool write_settings(struct db *db, const struct instance_change *change, const struct instance *next,
			   enum problem *ret_problem, struct err *e)
{
	db_use(db, SQL_INSTANCE_WRITE_SETTINGS);
	db_bind_str(db, next->name);
	db_bind_str(db, next->mode);
	db_bind_str(db, status_name(next->status));
	db_bind_u64(db, next->replicas);
	sql_bind_from(db, next->ttl_seconds, 0);
	db_bind_str(db, change->config);
	db_bind_str(db, next->config_hash);
	db_bind_id(db, &next->llm_config_id);
	db_bind_str(db, next->active_plugin_ids);
	db_bind_u64(db, next->version);
	db_bind_i64(db, next->is_deleted);
	db_bind_i64(db, next->is_deleted);
	db_bind_id(db, &next->instance_id);
	return sql_exec_named(db, ret_problem, e);
}

static bool write_operation(struct db *db, const struct plan *plan, const struct id *operation_id,
			    const char *request_id, struct err *e)
{
	struct operation op = {
		.operation_id = *operation_id,
		.instance_id = plan->next.instance_id,
		.org_id = plan->next.org_id,
		.action = plan->action,
		.tier = plan->next.tier,
		.generation = plan->next.generation,
		.state = OP_ACCEPTED,
		.source = plan->source,
		.request_id = request_id,
		.drain_s = -1,
	};

	/* What is unloaded for good ends open loads even where nothing is held. */
	if ((plan->is_wanted || plan->turns_off) && !operation_supersede(db, &op.instance_id, plan->action, NULL, e))
		return false;
	return !plan->is_wanted || operation_insert(db, &op, e);
}

static bool write_version(struct db *db, const struct instance_change *change, const struct instance *next,
			  struct err *e)
{
	const struct version_mark mark = {
		.token_id = change->token_id,
		.source = change->of_version > 0 ? VERSION_ROLLBACK : VERSION_CONFIG,
		.of_version = change->of_version,
	};

	return version_record(db, &next->instance_id, next->version, &mark, e);
}

static bool write_plan(struct db *db, const struct instance_change *change, const struct plan *plan,
		       const struct id *operation_id, const char *request_id, enum problem *ret_problem, struct err *e)
{
	if (!write_settings(db, change, &plan->next, ret_problem, e))
		return false;
	if (*ret_problem != PROBLEM_NONE || !plan->concerns_pool)
		return true;
	if (plan->is_version_new && !write_version(db, change, &plan->next, e))
		return false;
	return instance_write_wanted(db, &plan->next, e) && write_operation(db, plan, operation_id, request_id, e);
}

bool instance_apply(struct db *db, const struct instance *current, const struct instance_change *change,
		    const struct id *operation_id, const char *request_id, struct instance_changed *ret_changed,
		    enum problem *ret_problem, struct err *e)
{
	struct plan plan = {0};
	bool is_met = false;

	if (!plan_change(db, current, change, &plan, e))
		return false;
	*ret_changed = (struct instance_changed){.generation = current->generation, .action = plan.action};
	*ret_problem = PROBLEM_NONE;
	if (!plan.is_changed)
		return true;
	/* The one that it uses already is there, and somebody may be changing it. */
	if (!id_equal(&plan.next.llm_config_id, &current->llm_config_id) &&
	    !check_llm_config(db, &plan.next.org_id, &plan.next.llm_config_id, ret_problem, e))
		return false;
	if (*ret_problem != PROBLEM_NONE)
		return true;
	if (raises_hot(current, &plan) && !instance_hot_quota_is_met(db, &plan.next, &is_met, e))
		return false;
	if (is_met) {
		*ret_problem = PROBLEM_QUOTA_HOT;
		return true;
	}
	if (!write_plan(db, change, &plan, operation_id, request_id, ret_problem, e))
		return false;
	if (*ret_problem != PROBLEM_NONE)
		return true;
	ret_changed->is_changed = true;
	ret_changed->generation = plan.next.generation;
	if (plan.is_wanted)
		ret_changed->operation_id = *operation_id;
	ret_changed->use_loads = plan.is_wanted && (plan.action == ACTION_LOAD ||
						    (plan.action == ACTION_RELOAD && plan.holding.live == 0));
	return true;
}
