/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fixed table of sets. The set follows from the App (from the org, for an
 * entry without one) and not from the token, so that an App's change looks at one
 * set only; ways within a set are the tokens that use it. One lock for a
 * few sets each.
 */
#include "fcgi-app/access_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "lib/xalloc.h"

#define SET_COUNT 1024
#define WAY_COUNT 8
#define LOCK_COUNT 64

struct entry {
	int64_t until_ms; /* 0: free */
	uint8_t token_hash[SECRET_HASH_BYTES];
	struct id_bin org_id, instance_id; /* of the key; zero: none */
	struct id_bin apps_org_id;         /* the App's, whatever the key has */
	struct access_known known;
};

struct access_cache {
	pthread_mutex_t locks[LOCK_COUNT];
	struct entry sets[SET_COUNT][WAY_COUNT];
};

struct access_cache *access_cache_new(void)
{
	struct access_cache *cache = xcalloc(1, sizeof(*cache));

	for (size_t i = 0; i < LOCK_COUNT; i++)
		pthread_mutex_init(&cache->locks[i], NULL);
	return cache;
}

void access_cache_free(struct access_cache **cache)
{
	if (!*cache)
		return;
	for (size_t i = 0; i < LOCK_COUNT; i++)
		pthread_mutex_destroy(&(*cache)->locks[i]);
	free(*cache);
	*cache = NULL;
}

static struct id_bin bin_of(const struct id *id)
{
	return id_is_set(id) ? id_to_bin(id) : (struct id_bin){{0}};
}

static bool bin_equal(const struct id_bin *a, const struct id_bin *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* The end of a UUID is random in every version that we meet; a poor one only fills one set. */
static size_t set_of(const struct id_bin *id)
{
	return ((size_t)id->b[13] ^ (size_t)id->b[14] << 8 ^ (size_t)id->b[15]) % SET_COUNT;
}

static size_t set_of_key(const struct access_key *key)
{
	struct id_bin id = bin_of(id_is_set(&key->instance_id) ? &key->instance_id : &key->org_id);

	if (!id_is_set(&key->instance_id) && !id_is_set(&key->org_id))
		memcpy(id.b, key->token_hash, sizeof(id.b));
	return set_of(&id);
}

static bool is_match(const struct entry *entry, const struct access_key *key)
{
	struct id_bin org_id = bin_of(&key->org_id), instance_id = bin_of(&key->instance_id);

	return bin_equal(&entry->instance_id, &instance_id) && bin_equal(&entry->org_id, &org_id) &&
	       memcmp(entry->token_hash, key->token_hash, SECRET_HASH_BYTES) == 0;
}

static pthread_mutex_t *lock_set(struct access_cache *cache, size_t set)
{
	pthread_mutex_t *lock = &cache->locks[set % LOCK_COUNT];

	pthread_mutex_lock(lock);
	return lock;
}

bool access_cache_get(struct access_cache *cache, const struct access_key *key, int64_t now_ms,
		      struct access_known *ret_known)
{
	size_t set = set_of_key(key);
	bool is_found = false;

	pthread_mutex_t *lock = lock_set(cache, set);
	for (size_t i = 0; i < WAY_COUNT && !is_found; i++) {
		struct entry *entry = &cache->sets[set][i];
		if (entry->until_ms > now_ms && is_match(entry, key)) {
			*ret_known = entry->known;
			is_found = true;
		}
	}
	pthread_mutex_unlock(lock);
	return is_found;
}

/* The entry of the key, else the one that ends first. */
static struct entry *place_for(struct entry *ways, const struct access_key *key)
{
	struct entry *oldest = &ways[0];

	for (size_t i = 0; i < WAY_COUNT; i++) {
		if (ways[i].until_ms > 0 && is_match(&ways[i], key))
			return &ways[i];
		if (ways[i].until_ms < oldest->until_ms)
			oldest = &ways[i];
	}
	return oldest;
}

void access_cache_put(struct access_cache *cache, const struct access_key *key, const struct access_known *known)
{
	size_t set = set_of_key(key);

	pthread_mutex_t *lock = lock_set(cache, set);
	struct entry *entry = place_for(cache->sets[set], key);
	entry->until_ms = known->read_ms + ACCESS_CACHE_MS;
	memcpy(entry->token_hash, key->token_hash, SECRET_HASH_BYTES);
	entry->org_id = bin_of(&key->org_id);
	entry->instance_id = bin_of(&key->instance_id);
	entry->apps_org_id = bin_of(&known->org_id);
	entry->known = *known;
	pthread_mutex_unlock(lock);
}

/* NULL stands for all. */
static void drop_from_set(struct access_cache *cache, size_t set, const struct id_bin *org_id,
			  const struct id_bin *instance_id)
{
	pthread_mutex_t *lock = lock_set(cache, set);
	for (size_t i = 0; i < WAY_COUNT; i++) {
		struct entry *entry = &cache->sets[set][i];
		if ((!org_id || bin_equal(&entry->org_id, org_id) || bin_equal(&entry->apps_org_id, org_id)) &&
		    (!instance_id || bin_equal(&entry->instance_id, instance_id)))
			entry->until_ms = 0;
	}
	pthread_mutex_unlock(lock);
}

void access_cache_drop(struct access_cache *cache, const struct id *org_id, const struct id *instance_id)
{
	struct id_bin org = bin_of(org_id), instance = bin_of(instance_id);

	if (id_is_set(instance_id)) {
		drop_from_set(cache, set_of(&instance), NULL, &instance);
		return;
	}
	for (size_t set = 0; set < SET_COUNT; set++)
		drop_from_set(cache, set, id_is_set(org_id) ? &org : NULL, NULL);
}
