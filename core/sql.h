/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the SQL of several modules of core/ shares: expressions, the columns of
 * the rows that more than one module reads, and the small steps around a
 * statement. Private to core/.
 *
 * A row reader takes the first of its columns, so that one statement may hold
 * several rows side by side: SELECT … ORG_COLUMNS ", " INSTANCE_COLUMNS ….
 * Whoever changes a list changes its reader's enum (org.c, instance.c, operation.c).
 */
#ifndef CORE_SQL_H
#define CORE_SQL_H

#include <stdbool.h>
#include <stddef.h>

#include "core/problem.h"
#include "lib/db.h"
#include "lib/id.h"
#include "lib/macros.h"

struct arena;
struct instance;
struct llm_config;
struct operation;
struct org;

/* A DATETIME(3) column as RFC 3339 text. */
#define SQL_UTC(column) "CONCAT(REPLACE(" column ", ' ', 'T'), 'Z')"

/* True for a placement p of an incarnation that is live; w is the workers row of its worker_id. */
#define SQL_IS_LIVE                                                                                                    \
	"w.incarnation = p.incarnation AND w.state = 'active' AND w.lease_until > UTC_TIMESTAMP(3) "                   \
	"AND p.state IN ('loading', 'ready')"

/* The first and the last of all ids, for pages that start at an end. */
#define SQL_ID_FIRST "00000000-0000-0000-0000-000000000000"
#define SQL_ID_LAST "ffffffff-ffff-ffff-ffff-ffffffffffff"

#define SQL_PAGE_MAX 1000 /* rows of one list, whatever was asked for */

/*
 * One statement for one row, for up to SQL_SET_FEW or for up to SQL_SET_MAX: SQL_SET(NAME, "… IN ", "…") makes them,
 * sql_use_set takes the one that fits. Places that are left over cost, about 1 µs each, whence the one between. A list
 * of markers, and not a JSON_TABLE: an UPDATE of one table reads the others without locks, one of several does not.
 * Name the index (FORCE INDEX): for a list as long as this the optimizer may rather read the whole table, and a write
 * would then wait for everybody's rows.
 */
#define SQL_SET_MAX 64
#define SQL_SET_FEW 8
enum sql_set { SET_ONE, SET_FEW, SET_MANY };
struct id_set {
	struct id ids[SQL_SET_MAX];
	unsigned count;
};
/* It is not in it yet. */
void id_set_add(struct id_set *set, const struct id *id);
/* Its place; -1: it is not in it. */
int id_set_find(const struct id_set *set, const struct id *id);
#define SQL_MARKS_8 "?, ?, ?, ?, ?, ?, ?, ?"
#define SQL_MARKS_32 SQL_MARKS_8 ", " SQL_MARKS_8 ", " SQL_MARKS_8 ", " SQL_MARKS_8
#define SQL_SET(name, before, after)                                                                                   \
	static const char *const name[] = {                                                                            \
		[SET_ONE] = before "(?)" after,                                                                        \
		[SET_FEW] = before "(" SQL_MARKS_8 ")" after,                                                          \
		[SET_MANY] = before "(" SQL_MARKS_32 ", " SQL_MARKS_32 ")" after,                                      \
	}

#define ORG_COLUMNS                                                                                                    \
	"o.org_id, o.name, o.status, o.quota_instances, o.quota_hot, o.quota_demand, o.ttl_seconds, " SQL_UTC(         \
		"o.created_at") ", " SQL_UTC("o.updated_at")
#define ORG_COLUMN_COUNT 9
/* Reads ORG_COLUMNS from the column `first` on. */
void org_from_row(struct db *db, struct arena *mem, unsigned first, struct org *ret_org);

/* config: "i.config", or "NULL" where it is not wanted. */
#define INSTANCE_COLUMNS(config)                                                                                       \
	"i.instance_id, i.org_id, i.name, i.framework_type, i.mode, i.status, i.tier, i.desired_state, i.replicas, "   \
	"i.ttl_seconds, " config ", i.config_hash, i.llm_config_id, i.active_plugin_ids, i.version, i.generation, "    \
	"i.rebuild_generation, "                                                                                       \
	"i.unload_generation, i.deleted_at IS NOT NULL, i.failure_reason, " SQL_UTC("i.created_at") ", " SQL_UTC(      \
		"i.updated_at")
#define INSTANCE_COLUMN_COUNT 22
void instance_from_row(struct db *db, struct arena *mem, unsigned first, struct instance *ret_instance);

#define OPERATION_COLUMNS                                                                                              \
	"op.operation_id, op.instance_id, op.org_id, op.action, op.tier, op.generation, op.state, op.reason, "         \
	"op.source, op.worker_id, op.request_id, op.fresh, op.drain_s, " SQL_UTC("op.accepted_at") ", " SQL_UTC(       \
		"op.started_at") ", " SQL_UTC("op.finished_at")
#define OPERATION_COLUMN_COUNT 16
void operation_from_row(struct db *db, struct arena *mem, unsigned first, struct operation *ret_op);

/* g: a generation of an LLM config, i: an App of its org, k and h: the sealed key and headers (LEFT JOINs). */
#define LLM_CONFIG_COLUMNS                                                                                             \
	"g.llm_config_id, i.org_id, g.generation, g.provider, g.base_url, k.sealed, k.generation, h.sealed, "          \
	"h.generation, g.defaults"
#define LLM_CONFIG_SECRETS                                                                                             \
	" LEFT JOIN sealed_values k ON k.sealed_id = g.key_sealed_id"                                                  \
	" LEFT JOIN sealed_values h ON h.sealed_id = g.headers_sealed_id"
void llm_config_from_row(struct db *db, struct arena *mem, unsigned first, struct llm_config *ret_llm);

/* A new id as id_new makes them (RFC 9562 5.7), for each row of an INSERT … SELECT. */
#define SQL_NEW_ID                                                                                                     \
	"LOWER(CONCAT_WS('-', LEFT(LPAD(HEX(CAST(UNIX_TIMESTAMP(UTC_TIMESTAMP(3)) * 1000 AS UNSIGNED)), 12, '0'), 8)," \
	" RIGHT(HEX(CAST(UNIX_TIMESTAMP(UTC_TIMESTAMP(3)) * 1000 AS UNSIGNED)), 4),"                                   \
	" CONCAT('7', LEFT(HEX(RANDOM_BYTES(2)), 3)),"                                                                 \
	" CONCAT(SUBSTR('89ab', 1 + FLOOR(RAND() * 4), 1), LEFT(HEX(RANDOM_BYTES(2)), 3)), HEX(RANDOM_BYTES(6))))"

/* Runs body in the open transaction, else in one of its own. */
bool sql_atomic(struct db *db, db_body body, void *closure, struct err *e) MUST_CHECK;
/* Binds at most chars_max characters, so that a text from outside always fits its column. NULL binds NULL. */
void sql_bind_text(struct db *db, const char *s, size_t chars_max);
/* Binds a number, NULL where it is below least. */
void sql_bind_from(struct db *db, int64_t n, int64_t least);
/* Binds the id a page starts behind; none: the given end. */
void sql_bind_after(struct db *db, const struct id *after, const char *end);
/* The statement that fits the count of ids (1 to SQL_SET_MAX), which sql_bind_set binds where its list stands. */
void sql_use_set(struct db *db, const char *const *sql, const struct id_set *set);
/* The ids, the last one again and again where the list has more places. */
void sql_bind_set(struct db *db, const struct id_set *set);
/* The whole of it for a statement without other parameters; an empty set is done already. */
bool sql_exec_set(struct db *db, const char *const *sql, const struct id_set *set, struct err *e) MUST_CHECK;
/* Runs a write whose only conflict is that the name is taken; *ret_problem: PROBLEM_NONE or PROBLEM_NAME_TAKEN. */
bool sql_exec_named(struct db *db, enum problem *ret_problem, struct err *e) MUST_CHECK;
/* The only row of a statement: its columns stay readable. */
enum db_result sql_first(struct db *db, struct err *e) MUST_CHECK;
/* A column's text in mem, NULL where it is NULL. */
const char *sql_str(struct db *db, struct arena *mem, unsigned i);
/* False and ERR_LIMIT when mem ran out while rows were read. */
bool sql_mem_ok(const struct arena *mem, struct err *e) MUST_CHECK;

/* The LIMIT of a list. */
unsigned sql_page(unsigned limit);
/* Reads all rows of the running statement, at most limit, into an array in mem. */
typedef void (*sql_row_fn)(struct db *db, struct arena *mem, void *ret_row);
bool sql_collect(struct db *db, struct arena *mem, sql_row_fn read, size_t row_size, unsigned limit, void **ret_rows,
		 unsigned *ret_count, struct err *e) MUST_CHECK;

#endif
