/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LLM configs: how an organization reaches its model provider, with its own key. Each change is a new generation, kept
 * as long as an App may have to go back to it. The key and the extra headers are sealed (core/sealed_value.h), bound to
 * organization, row and the generation that set them; they are opened in a worker that builds an App, nowhere else. Who
 * changes an LLM config without them (hearth.fcgi) does not even read them: the new generation refers to the same ones.
 */
#ifndef CORE_LLM_CONFIG_H
#define CORE_LLM_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/llm_check.h"
#include "core/problem.h"
#include "lib/err.h"
#include "lib/id.h"
#include "lib/secret.h"

struct arena;
struct db;
struct keyring;

enum llm_provider { LLM_OPENAI, LLM_ANTHROPIC };

#define LLM_CONFIGS_MAX 200 /* of an organization */
#define LLM_NAME_MAX 100
#define LLM_HEADERS_MAX 16                                      /* extra headers */
#define LLM_HEADERS_BYTES_MAX 8192                              /* names and values */
#define LLM_HEADERS_TEXT_MAX (2 * LLM_HEADERS_BYTES_MAX + 1024) /* as JSON, however much of it is escaped */
#define LLM_DEFAULTS_BYTES_MAX 8192
#define LLM_HINT_KEY_LEN_MIN 16 /* of a shorter key, its last four characters would say too much */

/* One generation, as a worker needs it to build: strings live in the arena it was read into. */
struct llm_config {
	struct id llm_config_id, org_id;
	uint64_t generation;
	enum llm_provider provider;
	const char *base_url;        /* "https://api.openai.com/v1", without a slash at the end */
	const char *sealed_key;      /* "hs1.…"; NULL: the provider needs none */
	const char *sealed_headers;  /* sealed JSON object of strings; NULL: none */
	uint64_t key_generation;     /* which generation set the key … */
	uint64_t headers_generation; /* … and the headers */
	const char *defaults;        /* JSON object: model parameters that an App may override; "{}" */
};

const char *llm_provider_name(enum llm_provider provider);
bool llm_provider_parse(const char *s, enum llm_provider *ret_provider);

/* The key, or the JSON object of extra headers, in the clear: *ret_text goes to secret_free as soon as it was used.
 * NULL where there is none. ERR_MISSING: its sealing key is not in the ring; ERR_DENIED: it is not this LLM config's.
 */
bool llm_config_open_key(struct keyring *ring, const struct llm_config *llm, char **ret_text, size_t *ret_len,
			 struct err *e) MUST_CHECK;
bool llm_config_open_headers(struct keyring *ring, const struct llm_config *llm, char **ret_text, size_t *ret_len,
			     struct err *e) MUST_CHECK;

/* What a copy is compared by: made of the hash of the App's configuration, its LLM config and its generation. Without
 * an LLM config ("") it is the configuration's. */
void llm_version_hash(const char *config_hash, const struct id *llm_config_id, uint64_t generation,
		      char ret_hex[SECRET_HASH_HEX_SIZE]);

/* --- the rows --- */

/* As people see it: nothing of a key but its end. */
struct llm_config_view {
	struct id llm_config_id, org_id;
	const char *name;
	uint64_t generation;
	enum llm_provider provider;
	const char *base_url;
	bool has_key;
	const char *key_hint;                /* its last four characters; NULL: none, or too short a key */
	const char *header_names;            /* JSON array */
	const char *defaults;                /* JSON object */
	uint64_t used_by;                    /* living Apps */
	const char *created_at, *updated_at; /* RFC 3339 */
};

enum llm_secret_step { LLM_SECRET_KEEP, LLM_SECRET_SET, LLM_SECRET_REMOVE };

/* NULL / -1: leave as it is. For a new one all but the secrets are given. */
struct llm_config_change {
	const char *name;
	int provider;         /* enum llm_provider */
	const char *base_url; /* checked; slashes at its end are left away */
	const char *defaults; /* canonical */
	enum llm_secret_step key_step, headers_step;
	const char *key; /* LLM_SECRET_SET */
	size_t key_len;
	const char *headers, *header_names; /* LLM_SECRET_SET: canonical object of strings, array of its names */
};

/* The three that write do so in the caller's transaction, which rolls back where there is a problem. */

/* Locks the org. PROBLEM_QUOTA_LLM_CONFIGS, PROBLEM_NAME_TAKEN, PROBLEM_NO_SEALING_KEY. */
bool llm_config_create(struct db *db, struct keyring *ring, const struct id *llm_config_id, const struct id *org_id,
		       const struct llm_config_change *values, enum problem *ret_problem, struct err *e) MUST_CHECK;
/* PROBLEM_LLM_CONFIG_NOT_FOUND, also for one of another org. */
bool llm_config_get(struct db *db, struct arena *mem, const struct id *org_id, const struct id *llm_config_id,
		    struct llm_config_view *ret_view, enum problem *ret_problem, struct err *e) MUST_CHECK;
/* In order of id. */
bool llm_config_list(struct db *db, struct arena *mem, const struct id *org_id, const struct id *after, unsigned limit,
		     struct llm_config_view **ret_views, unsigned *ret_count, struct err *e) MUST_CHECK;
struct llm_config_changed {
	uint64_t apps; /* that use it; above 0: the caller publishes one `_all` change after the commit */
	bool is_key_missing, are_headers_missing; /* PROBLEM_INVALID: what must be given with this change */
};
/*
 * Changes what differs (a key or headers that are set always do). Where more than the name differs it is a new
 * generation: the Apps that use it get a new one too, in one set-based UPDATE, and a reload operation (source
 * config_change) where a copy exists or a hot App is wanted. Generations that nothing goes back to are removed.
 * A saved key and saved headers do not follow to another provider or origin: who may change where it leads could read
 * them there. They are set or removed with the same change, else PROBLEM_INVALID.
 * PROBLEM_LLM_CONFIG_NOT_FOUND, PROBLEM_NAME_TAKEN, PROBLEM_NO_SEALING_KEY.
 */
bool llm_config_change(struct db *db, struct arena *mem, struct keyring *ring, const struct id *org_id,
		       const struct id *llm_config_id, const struct llm_config_change *change, const char *request_id,
		       struct llm_config_changed *ret_changed, enum problem *ret_problem, struct err *e) MUST_CHECK;
/* With all its generations and secrets; an App whose last good version used it has none any more.
 * PROBLEM_LLM_CONFIG_NOT_FOUND, PROBLEM_LLM_CONFIG_IN_USE (llm_config_users says by whom). */
bool llm_config_delete(struct db *db, const struct id *org_id, const struct id *llm_config_id,
		       enum problem *ret_problem, struct err *e) MUST_CHECK;

struct llm_config_user {
	struct id instance_id;
	const char *name;
};
/* Living Apps that use it, up to limit. */
bool llm_config_users(struct db *db, struct arena *mem, const struct id *org_id, const struct id *llm_config_id,
		      unsigned limit, struct llm_config_user **ret_users, unsigned *ret_count,
		      struct err *e) MUST_CHECK;

/* --- for core/instance.c --- */

/* PROBLEM_LLM_CONFIG_NOT_FOUND where the org has none of that id. In a transaction, it stays until its end. */
bool llm_config_is_of_org(struct db *db, const struct id *org_id, const struct id *llm_config_id,
			  enum problem *ret_problem, struct err *e) MUST_CHECK;

#endif
