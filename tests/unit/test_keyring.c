/* SPDX-License-Identifier: Apache-2.0 */
#include "core/keyring.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/macros.h"
#include "tests/unit/harness.h"

#define KEY_A "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
#define KEY_B "AgIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
#define ABOUT "llm_key|org|config|1"

static char path[64];
static struct err err;

static int start(void)
{
	(void)snprintf(path, sizeof(path), "/tmp/test-keyring-%d", (int)getpid());
	return secret_init(&err) ? 0 : 1;
}

static int stop(void)
{
	return unlink(path);
}

/* In place of the one before, as a careful editor does it. */
static void put_mode(const char *text, mode_t mode)
{
	char fresh[80];

	(void)snprintf(fresh, sizeof(fresh), "%s.new", path);
	FILE *f = fopen(fresh, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(f);
	CU_ASSERT_TRUE(fputs(text, f) >= 0);
	(void)fclose(f);
	CU_ASSERT_EQUAL(chmod(fresh, mode), 0);
	CU_ASSERT_EQUAL(rename(fresh, path), 0);
}

static void put(const char *text)
{
	put_mode(text, 0600);
}

static unsigned count_of(struct keyring *ring)
{
	struct keyring_key keys[KEYRING_KEYS_MAX];

	return keyring_list(ring, keys);
}

/* --- the file --- */

static void a_ring_is_read_with_its_comments(void)
{
	struct keyring *ring = keyring_new(path);
	struct keyring_key keys[KEYRING_KEYS_MAX];
	bool is_changed = false;

	put("# ring\n\nk1 " KEY_A "\r\n\tk-2\n");
	CU_ASSERT_FALSE(keyring_refresh(ring, &is_changed, &err));
	put("# ring\n\nk1 " KEY_A "\r\n   \nk_2\t " KEY_B);
	CU_ASSERT_TRUE(keyring_refresh(ring, &is_changed, &err));
	CU_ASSERT_TRUE(is_changed);
	CU_ASSERT_EQUAL_FATAL(keyring_list(ring, keys), 2);
	CU_ASSERT_STRING_EQUAL(keys[0].key_id, "k1");
	CU_ASSERT_STRING_EQUAL(keys[1].key_id, "k_2");
	CU_ASSERT_EQUAL(strlen(keys[0].fingerprint), SECRET_FINGERPRINT_LEN);
	CU_ASSERT_STRING_NOT_EQUAL(keys[0].fingerprint, keys[1].fingerprint);
	CU_ASSERT_TRUE(keyring_refresh(ring, &is_changed, &err));
	CU_ASSERT_FALSE(is_changed);
	keyring_free(&ring);
	CU_ASSERT_PTR_NULL(ring);
}

static const struct {
	int line;
	const char *text;
	const char *said; /* in the error, which shows no key */
} wrong[] = {
	{__LINE__, "k1", "line 1"},
	{__LINE__, KEY_A "\n", "line 1"},
	{__LINE__, "k1 " KEY_A "\nk.2 " KEY_A "\n", "line 2"},
	{__LINE__, "k1 " KEY_A "\n\nk1 " KEY_B "\n", "line 3: key k1 stands there twice"},
	{__LINE__, "k1 " KEY_A " more\n", "line 1"},
	{__LINE__, "k1 AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHw==\n", "line 1"},
	{__LINE__, "a-name-of-thirty-three-characters1 " KEY_A "\n", "line 1"},
	{__LINE__, "k1 " KEY_A "\x01", "line 1"},
};

static void a_ring_that_is_wrong_leaves_the_keys_as_they_were(void)
{
	struct keyring *ring = keyring_new(path);

	put("k1 " KEY_A "\n");
	CU_ASSERT_TRUE(keyring_refresh(ring, NULL, &err));
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		put(wrong[i].text);
		CHECK_ROW(&wrong[i], !keyring_refresh(ring, NULL, &err) && err.code == ERR_INPUT);
		CHECK_ROW(&wrong[i], strstr(err.text, wrong[i].said) && strstr(err.text, path));
		CHECK_ROW(&wrong[i], !strstr(err.text, "AQIDBAUG"));
		CHECK_ROW(&wrong[i], keyring_refresh(ring, NULL, &err)); /* said once */
		CHECK_ROW(&wrong[i], count_of(ring) == 1);
	}
	CU_ASSERT_EQUAL(unlink(path), 0);
	CU_ASSERT_FALSE(keyring_refresh(ring, NULL, &err));
	CU_ASSERT_EQUAL(err.code, ERR_MISSING);
	CU_ASSERT_EQUAL(count_of(ring), 1);
	put("");
	CU_ASSERT_TRUE(keyring_refresh(ring, NULL, &err));
	CU_ASSERT_EQUAL(count_of(ring), 0);
	keyring_free(&ring);
}

static void a_ring_that_others_may_touch_is_refused(void)
{
	static const struct {
		int line;
		mode_t mode;
		bool is_good;
	} modes[] = {
		{__LINE__, 0600, true},  {__LINE__, 0640, true},  {__LINE__, 0400, true},  {__LINE__, 0440, true},
		{__LINE__, 0644, false}, {__LINE__, 0604, false}, {__LINE__, 0660, false}, {__LINE__, 0602, false},
		{__LINE__, 0650, false}, {__LINE__, 0666, false},
	};
	struct keyring *ring = keyring_new(path);

	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		put_mode("k1 " KEY_A "\n", modes[i].mode);
		CHECK_ROW(&modes[i], keyring_refresh(ring, NULL, &err) == modes[i].is_good);
		CHECK_ROW(&modes[i], modes[i].is_good || err.code == ERR_DENIED);
	}
	/* A mode that was mended is seen, though nothing was written. */
	put_mode("k1 " KEY_A "\nk2 " KEY_B "\n", 0644);
	CU_ASSERT_FALSE(keyring_refresh(ring, NULL, &err));
	CU_ASSERT_EQUAL(count_of(ring), 1);
	CU_ASSERT_EQUAL(chmod(path, 0600), 0);
	CU_ASSERT_TRUE(keyring_refresh(ring, NULL, &err));
	CU_ASSERT_EQUAL(count_of(ring), 2);
	keyring_free(&ring);
}

/* With the same keys as before: who said that it cannot be read, says that it was. */
static void a_ring_that_was_mended_is_news(void)
{
	struct keyring *ring = keyring_new(path);
	char away[80];
	bool is_changed = true;

	(void)snprintf(away, sizeof(away), "%s.away", path);
	put("k1 " KEY_A "\n");
	CU_ASSERT_TRUE(keyring_refresh(ring, &is_changed, &err) && is_changed);
	CU_ASSERT_EQUAL(chmod(path, 0644), 0);
	CU_ASSERT_FALSE(keyring_refresh(ring, &is_changed, &err));
	CU_ASSERT_EQUAL(chmod(path, 0640), 0);
	CU_ASSERT_TRUE(keyring_refresh(ring, &is_changed, &err) && is_changed);
	CU_ASSERT_TRUE(keyring_refresh(ring, &is_changed, &err) && !is_changed);
	CU_ASSERT_EQUAL(rename(path, away), 0);
	CU_ASSERT_FALSE(keyring_refresh(ring, &is_changed, &err));
	CU_ASSERT_EQUAL(rename(away, path), 0);
	CU_ASSERT_TRUE(keyring_refresh(ring, &is_changed, &err) && is_changed);
	keyring_free(&ring);
}

/* By writing to a page that is dirty already: the kernel leaves the file's times, as an old one does within a tick. */
static void a_change_that_its_times_do_not_show_is_seen_while_the_file_is_young(void)
{
	static const char one[] = "k1 " KEY_A "\n", other[] = "k1 " KEY_B "\n", broken[] = "k1!" KEY_A "\n";
	struct keyring *ring = keyring_new(path);
	struct keyring_key keys[KEYRING_KEYS_MAX];
	char fingerprint[SECRET_FINGERPRINT_SIZE];
	struct stat st;
	bool is_changed;

	_Static_assert(sizeof(one) == sizeof(other) && sizeof(one) == sizeof(broken), "its size shows nothing either");
	put(one);
	int fd = open(path, O_RDWR);
	char *page = mmap(NULL, sizeof(one), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CU_ASSERT_FATAL(page != MAP_FAILED);
	page[0] = one[0];
	CU_ASSERT_EQUAL(stat(path, &st), 0);
	clock_set_for_test(1000, (int64_t)st.st_ctim.tv_sec * 1000 + 1900);
	CU_ASSERT_TRUE(keyring_refresh(ring, NULL, &err));
	CU_ASSERT_EQUAL(keyring_list(ring, keys), 1);
	memcpy(fingerprint, keys[0].fingerprint, sizeof(fingerprint));

	memcpy(page, broken, sizeof(broken) - 1);
	CU_ASSERT_FALSE(keyring_refresh(ring, NULL, &err));
	CU_ASSERT_TRUE(keyring_refresh(ring, NULL, &err)); /* said once */
	memcpy(page, other, sizeof(other) - 1);
	CU_ASSERT_TRUE(keyring_refresh(ring, &is_changed, &err) && is_changed);
	CU_ASSERT_EQUAL(keyring_list(ring, keys), 1);
	CU_ASSERT_STRING_NOT_EQUAL(keys[0].fingerprint, fingerprint);

	clock_set_for_test(-1, 0);
	CU_ASSERT_EQUAL(munmap(page, sizeof(one)), 0);
	CU_ASSERT_EQUAL(close(fd), 0);
	keyring_free(&ring);
}

static void a_ring_has_room_for_so_many_keys(void)
{
	struct keyring *ring = keyring_new(path);
	char *text = NULL;
	struct secret_key key;

	for (unsigned i = 0; i < KEYRING_KEYS_MAX; i++) {
		char id[KEY_ID_SIZE], *longer;

		(void)snprintf(id, sizeof(id), "key-%u", i);
		secret_key_new(&key);
		CU_ASSERT_TRUE_FATAL(keyring_text_add(text, id, &key, &longer, &err));
		free(text);
		text = longer;
	}
	put(text);
	CU_ASSERT_TRUE(keyring_refresh(ring, NULL, &err));
	CU_ASSERT_EQUAL(count_of(ring), KEYRING_KEYS_MAX);
	char *more;
	CU_ASSERT_FALSE(keyring_text_add(text, "one-more", &key, &more, &err));
	CU_ASSERT_EQUAL(err.code, ERR_LIMIT);
	free(text);
	keyring_free(&ring);
}

/* --- sealing --- */

static char *sealed_by(struct keyring *ring, const char *key_id, const char *text)
{
	struct buf out;

	buf_init(&out, 4096);
	CU_ASSERT_TRUE_FATAL(keyring_seal(ring, key_id, NULL, ABOUT, text, strlen(text), &out, &err));
	return out.data;
}

static enum err_code open_it(struct keyring *ring, const char *about, const char *sealed, const char *expected)
{
	char *text = NULL;
	size_t len = 0;

	err_clear(&err);
	if (keyring_open(ring, about, sealed, &text, &len, &err))
		CU_ASSERT_STRING_EQUAL(text, expected);
	secret_free(&text, len);
	return err.code;
}

static void what_one_ring_sealed_opens_in_another_with_the_key(void)
{
	struct keyring *a = keyring_new(path), *b = keyring_new(path);

	put("k1 " KEY_A "\nk2 " KEY_B "\n");
	char *sealed = sealed_by(a, "k2", "secret"); /* it reads the file by itself */

	CU_ASSERT_EQUAL(strncmp(sealed, "hs1.k2.", 7), 0);
	CU_ASSERT_EQUAL(open_it(b, ABOUT, sealed, "secret"), ERR_NONE);
	CU_ASSERT_EQUAL(open_it(b, "llm_key|org|config|2", sealed, ""), ERR_DENIED);
	sealed[5] = '1'; /* another key's id */
	CU_ASSERT_EQUAL(open_it(b, ABOUT, sealed, ""), ERR_DENIED);
	free(sealed);
	keyring_free(&a);
	keyring_free(&b);
}

static void a_wrong_ring_opens_nothing(void)
{
	struct keyring *ring = keyring_new(path), *none = keyring_new(NULL);

	put("k1 " KEY_A "\n");
	char *sealed = sealed_by(ring, "k1", "secret");
	put("k1 " KEY_B "\n");
	CU_ASSERT_TRUE(keyring_refresh(ring, NULL, &err));
	CU_ASSERT_EQUAL(open_it(ring, ABOUT, sealed, ""), ERR_DENIED);
	put("k2 " KEY_A "\n");
	CU_ASSERT_TRUE(keyring_refresh(ring, NULL, &err));
	CU_ASSERT_EQUAL(open_it(ring, ABOUT, sealed, ""), ERR_MISSING);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "k1"));
	CU_ASSERT_EQUAL(open_it(none, ABOUT, sealed, ""), ERR_MISSING);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.text, "keys.file"));
	free(sealed);
	keyring_free(&ring);
	keyring_free(&none);
}

static void a_key_that_came_meanwhile_is_found(void)
{
	struct keyring *ring = keyring_new(path), *other = keyring_new(path);

	put("k1 " KEY_A "\n");
	CU_ASSERT_TRUE(keyring_refresh(ring, NULL, &err));
	put("k1 " KEY_A "\nk2 " KEY_B "\n");
	char *sealed = sealed_by(other, "k2", "secret");
	CU_ASSERT_EQUAL(count_of(ring), 1);
	CU_ASSERT_EQUAL(open_it(ring, ABOUT, sealed, "secret"), ERR_NONE);
	CU_ASSERT_EQUAL(count_of(ring), 2);
	free(sealed);
	keyring_free(&ring);
	keyring_free(&other);
}

static void nothing_is_sealed_with_another_key_of_that_name(void)
{
	struct keyring *ring = keyring_new(path);
	struct keyring_key keys[KEYRING_KEYS_MAX];
	struct buf out;

	put("k1 " KEY_A "\nk2 " KEY_B "\n");
	buf_init(&out, 4096);
	CU_ASSERT_TRUE(keyring_refresh(ring, NULL, &err));
	CU_ASSERT_EQUAL_FATAL(keyring_list(ring, keys), 2);
	CU_ASSERT_FALSE(keyring_seal(ring, "k1", keys[1].fingerprint, ABOUT, "x", 1, &out, &err));
	CU_ASSERT_EQUAL(err.code, ERR_MISSING);
	CU_ASSERT_FALSE(keyring_seal(ring, "k3", NULL, ABOUT, "x", 1, &out, &err));
	CU_ASSERT_EQUAL(err.code, ERR_MISSING);
	CU_ASSERT_EQUAL(out.len, 0);
	CU_ASSERT_TRUE(keyring_seal(ring, "k1", keys[0].fingerprint, ABOUT, "x", 1, &out, &err));
	buf_clear(&out);
	keyring_free(&ring);
}

static void what_is_no_sealed_value_is_said_so(void)
{
	static const char *const rows[] = {
		"",        "hs1",         "hs1.",       "hs1.k1", "hs1..AAAA", "hs2.k1.AAAA", "hs1.k 1.AAAA",
		"hs1.k1.", "hs1.k1.AAAA", "hs1.k1.===="};
	struct keyring *ring = keyring_new(path);

	put("k1 " KEY_A "\n");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		CU_ASSERT_EQUAL(open_it(ring, ABOUT, rows[i], ""), ERR_INPUT);
	keyring_free(&ring);
}

/* --- the text --- */

static void a_line_is_added_and_taken_away(void)
{
	struct secret_key key;
	char *one, *two, *back;

	CU_ASSERT_TRUE(secret_key_parse(KEY_A, SECRET_KEY_TEXT_LEN, &key));
	CU_ASSERT_TRUE_FATAL(keyring_text_add(NULL, "k1", &key, &one, &err));
	CU_ASSERT_EQUAL(one[0], '#');
	CU_ASSERT_PTR_NOT_NULL(strstr(one, "\nk1 " KEY_A "\n"));
	one[strlen(one) - 1] = '\0'; /* its last newline is not there */
	CU_ASSERT_TRUE_FATAL(keyring_text_add(one, "k11", &key, &two, &err));
	CU_ASSERT_PTR_NOT_NULL(strstr(two, "\nk1 " KEY_A "\nk11 " KEY_A "\n"));
	CU_ASSERT_FALSE(keyring_text_add(two, "k11", &key, &back, &err));
	CU_ASSERT_EQUAL(err.code, ERR_CONFLICT);
	CU_ASSERT_FALSE(keyring_text_remove(two, "k", &back, &err));
	CU_ASSERT_EQUAL(err.code, ERR_MISSING);
	CU_ASSERT_TRUE_FATAL(keyring_text_remove(two, "k1", &back, &err));
	CU_ASSERT_PTR_NULL(strstr(back, "\nk1 "));
	CU_ASSERT_PTR_NOT_NULL(strstr(back, "\nk11 " KEY_A "\n"));
	free(one);
	free(two);
	free(back);
}

static CU_TestInfo cases[] = {
	CASE(a_ring_is_read_with_its_comments),
	CASE(a_ring_that_is_wrong_leaves_the_keys_as_they_were),
	CASE(a_ring_that_others_may_touch_is_refused),
	CASE(a_ring_that_was_mended_is_news),
	CASE(a_change_that_its_times_do_not_show_is_seen_while_the_file_is_young),
	CASE(a_ring_has_room_for_so_many_keys),
	CASE(what_one_ring_sealed_opens_in_another_with_the_key),
	CASE(a_wrong_ring_opens_nothing),
	CASE(a_key_that_came_meanwhile_is_found),
	CASE(nothing_is_sealed_with_another_key_of_that_name),
	CASE(what_is_no_sealed_value_is_said_so),
	CASE(a_line_is_added_and_taken_away),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"keyring", start, stop, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
