/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a token may do with an App, kept for at most a second, for the chat path
 * only; lifecycle requests and reads never look here. Only permissions that were given are kept. Bounded: a
 * set that is full forgets its oldest. A change event of an App or org drops what it concerns; that
 * second is the bound for an event that was lost. All threads.
 */
#ifndef FCGI_APP_ACCESS_CACHE_H
#define FCGI_APP_ACCESS_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/names.h"
#include "core/problem.h"
#include "lib/id.h"
#include "lib/secret.h"

struct access_cache;

#define ACCESS_CACHE_MS 1000

struct access_key {
	uint8_t token_hash[SECRET_HASH_BYTES];
	struct id org_id;
	struct id instance_id; /* "": the token and the org alone */
};

/* What chat needs to know. */
struct access_known {
	struct id token_id;
	struct id token_org_id; /* "": sys_admin */
	struct id org_id;       /* the App's; "" where none was asked for */
	enum role role;
	enum tier tier;
	enum problem absence; /* why nobody holds the App, as last read; PROBLEM_NONE: not looked at */
	int64_t read_ms;      /* before the database was asked; what is known ends ACCESS_CACHE_MS after it */
};

struct access_cache *access_cache_new(void);
void access_cache_free(struct access_cache **cache);

bool access_cache_get(struct access_cache *cache, const struct access_key *key, int64_t now_ms,
		      struct access_known *ret_known);
void access_cache_put(struct access_cache *cache, const struct access_key *key, const struct access_known *known);
/* instance_id "" drops all of the org, org_id "" too everything. */
void access_cache_drop(struct access_cache *cache, const struct id *org_id, const struct id *instance_id);

#endif
