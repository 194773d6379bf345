/* SPDX-License-Identifier: Apache-2.0 */
#include "fcgi-app/access_cache.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/harness.h"

static struct access_cache *cache;

static struct id id_of(unsigned n)
{
	struct id id;

	snprintf(id.text, sizeof(id.text), "0192f0c1-0000-7000-8000-%012x", n);
	return id;
}

/* instance 0: the token and the org alone. org 0: none is named, as below /v1. */
static struct access_key key_of(unsigned token, unsigned org, unsigned instance)
{
	struct access_key key = {.org_id = {""}};

	memcpy(key.token_hash + 13, &token, sizeof(token)); /* where its set comes from, if it comes from the token */
	if (org > 0)
		key.org_id = id_of(org);
	if (instance > 0)
		key.instance_id = id_of(instance);
	return key;
}

static void put(unsigned token, unsigned org, unsigned instance, int64_t read_ms)
{
	struct access_key key = key_of(token, org, instance);
	const struct access_known known = {.token_id = id_of(token), .tier = TIER_HOT, .read_ms = read_ms};

	access_cache_put(cache, &key, &known);
}

static bool has(unsigned token, unsigned org, unsigned instance, int64_t now_ms)
{
	struct access_key key = key_of(token, org, instance);
	struct access_known known = {0};
	bool is_found = access_cache_get(cache, &key, now_ms, &known);

	if (is_found) {
		struct id token_id = id_of(token);
		CU_ASSERT_TRUE(id_equal(&known.token_id, &token_id));
		CU_ASSERT_EQUAL(known.tier, TIER_HOT);
	}
	return is_found;
}

static void drop(unsigned org, unsigned instance)
{
	struct id none = {""};
	struct id org_id = org > 0 ? id_of(org) : none, instance_id = instance > 0 ? id_of(instance) : none;

	access_cache_drop(cache, &org_id, &instance_id);
}

static void an_entry_lasts_a_second_from_the_read(void)
{
	put(1, 10, 100, 5000);
	CU_ASSERT_TRUE(has(1, 10, 100, 5000));
	CU_ASSERT_TRUE(has(1, 10, 100, 5999));
	CU_ASSERT_FALSE(has(1, 10, 100, 6000));
}

static void only_the_very_same_key_finds_it(void)
{
	put(1, 10, 100, 5000);
	CU_ASSERT_FALSE(has(2, 10, 100, 5000));
	CU_ASSERT_FALSE(has(1, 11, 100, 5000));
	CU_ASSERT_FALSE(has(1, 10, 101, 5000));
	CU_ASSERT_FALSE(has(1, 10, 0, 5000));
}

/* Of the tokens 1 to 200, without an org and an App. */
static unsigned tokens_known(int64_t now_ms)
{
	unsigned count = 0;

	for (unsigned token = 1; token <= 200; token++)
		count += has(token, 0, 0, now_ms);
	return count;
}

static void what_a_token_alone_may_is_found_by_its_hash(void)
{
	/* Each in a set of its own: one set would keep eight of them. */
	for (unsigned token = 1; token <= 200; token++)
		put(token, 0, 0, 5000);
	CU_ASSERT_EQUAL(tokens_known(5999), 200);
	CU_ASSERT_FALSE(has(201, 0, 0, 5000));
	CU_ASSERT_FALSE(has(1, 10, 0, 5000));
	CU_ASSERT_FALSE(has(1, 0, 100, 5000));
	CU_ASSERT_EQUAL(tokens_known(6000), 0); /* of which some may be revoked by now */
	drop(0, 0);
	CU_ASSERT_EQUAL(tokens_known(5000), 0);
}

static void a_change_of_an_app_drops_it_for_every_token(void)
{
	put(1, 10, 100, 5000);
	put(2, 10, 100, 5000);
	put(1, 10, 101, 5000);
	put(1, 10, 0, 5000);
	drop(10, 100);
	CU_ASSERT_FALSE(has(1, 10, 100, 5000));
	CU_ASSERT_FALSE(has(2, 10, 100, 5000));
	CU_ASSERT_TRUE(has(1, 10, 101, 5000));
	CU_ASSERT_TRUE(has(1, 10, 0, 5000));
}

static void a_change_of_many_drops_the_org(void)
{
	put(1, 10, 100, 5000);
	put(1, 10, 0, 5000);
	put(1, 11, 200, 5000);
	drop(10, 0);
	CU_ASSERT_FALSE(has(1, 10, 100, 5000));
	CU_ASSERT_FALSE(has(1, 10, 0, 5000));
	CU_ASSERT_TRUE(has(1, 11, 200, 5000));
	drop(0, 0);
	CU_ASSERT_FALSE(has(1, 11, 200, 5000));
}

static void a_full_set_forgets_the_oldest_only(void)
{
	for (unsigned token = 1; token <= 9; token++)
		put(token, 10, 100, 5000 + token);
	CU_ASSERT_FALSE(has(1, 10, 100, 5010));
	for (unsigned token = 2; token <= 9; token++)
		CU_ASSERT_TRUE(has(token, 10, 100, 5010));
}

static void the_same_key_again_takes_no_second_place(void)
{
	for (unsigned token = 1; token <= 8; token++)
		put(token, 10, 100, 5000);
	for (int i = 0; i < 20; i++)
		put(3, 10, 100, 5500);
	CU_ASSERT_TRUE(has(3, 10, 100, 6400));
	for (unsigned token = 1; token <= 8; token++)
		CU_ASSERT_TRUE(has(token, 10, 100, 5600));
}

static void a_million_keys_take_no_more_memory_than_one(void)
{
	for (unsigned i = 1; i <= 1000000; i++)
		put(i, i % 1000 + 1, i, 5000);
	CU_ASSERT_TRUE(has(1000000, 1000000 % 1000 + 1, 1000000, 5000));
}

static void set_up(void)
{
	cache = access_cache_new();
}

static void tear_down(void)
{
	access_cache_free(&cache);
}

static CU_TestInfo cases[] = {
	{"an_entry_lasts_a_second_from_the_read", an_entry_lasts_a_second_from_the_read},
	{"only_the_very_same_key_finds_it", only_the_very_same_key_finds_it},
	{"what_a_token_alone_may_is_found_by_its_hash", what_a_token_alone_may_is_found_by_its_hash},
	{"a_change_of_an_app_drops_it_for_every_token", a_change_of_an_app_drops_it_for_every_token},
	{"a_change_of_many_drops_the_org", a_change_of_many_drops_the_org},
	{"a_full_set_forgets_the_oldest_only", a_full_set_forgets_the_oldest_only},
	{"the_same_key_again_takes_no_second_place", the_same_key_again_takes_no_second_place},
	{"a_million_keys_take_no_more_memory_than_one", a_million_keys_take_no_more_memory_than_one},
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"access_cache", NULL, NULL, set_up, tear_down, cases},
	CU_SUITE_INFO_NULL,
};
