/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/secret.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/macros.h"
#include "tests/unit/harness.h"

static char shown[200]; /* what opened last */

static int start(void)
{
	struct err e;

	return secret_init(&e) && secret_init(&e) ? 0 : 1;
}

static void random_bytes_fill_exactly_the_length(void)
{
	unsigned char a[40] = {0}, b[40] = {0};

	secret_random(a, 32);
	secret_random(b, 32);
	CU_ASSERT_NOT_EQUAL(memcmp(a, b, 32), 0);
	CU_ASSERT_EQUAL(memcmp(a + 32, "\0\0\0\0\0\0\0", 8), 0);
}

static void a_fresh_token_is_wellformed_and_new(void)
{
	char a[SECRET_TOKEN_SIZE], b[SECRET_TOKEN_SIZE];

	for (int i = 0; i < 1000; i++) {
		secret_token_new(a);
		CU_ASSERT_EQUAL_FATAL(strlen(a), SECRET_TOKEN_LEN);
		CU_ASSERT_TRUE_FATAL(secret_token_is_wellformed(a, SECRET_TOKEN_LEN));
	}
	secret_token_new(b);
	CU_ASSERT_STRING_NOT_EQUAL(a, b);
	CU_ASSERT_EQUAL(strncmp(a, SECRET_TOKEN_PREFIX, 4), 0);
}

static void other_shapes_are_no_token(void)
{
	static const struct {
		int line;
		const char *text;
		bool is_token;
	} rows[] = {
		{__LINE__, "hrt_AZaz09-_AZaz09-_AZaz09-_AZaz09-_AZaz09-_AZa", true},
		{__LINE__, "hrt_AZaz09-_AZaz09-_AZaz09-_AZaz09-_AZaz09-_AZ", false},
		{__LINE__, "hrt_AZaz09-_AZaz09-_AZaz09-_AZaz09-_AZaz09-_AZaz", false},
		{__LINE__, "hrx_AZaz09-_AZaz09-_AZaz09-_AZaz09-_AZaz09-_AZa", false},
		{__LINE__, "hrt_AZaz09-_AZaz09-_AZaz09-_AZaz09-_AZaz09-_AZ=", false},
		{__LINE__, "hrt_AZaz09-_AZaz09+_AZaz09-_AZaz09-_AZaz09-_AZa", false},
		{__LINE__, "hrt_AZaz09-_AZaz09 _AZaz09-_AZaz09-_AZaz09-_AZa", false},
		{__LINE__, "", false},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		CHECK_ROW(&rows[i], secret_token_is_wellformed(rows[i].text, strlen(rows[i].text)) == rows[i].is_token);
	CU_ASSERT_FALSE(secret_token_is_wellformed(NULL, 0));
}

/* The vectors of FIPS 180-2. */
static void the_hash_is_sha_256(void)
{
	char hex[SECRET_HASH_HEX_SIZE];

	secret_hash_hex("abc", 3, hex);
	CU_ASSERT_STRING_EQUAL(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	secret_hash_hex("", 0, hex);
	CU_ASSERT_STRING_EQUAL(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void equal_and_wipe_do_what_they_say(void)
{
	char a[] = "secret one", b[] = "secret two", c[] = "secret one";

	CU_ASSERT_TRUE(secret_equal(a, c, sizeof(a)));
	CU_ASSERT_FALSE(secret_equal(a, b, sizeof(a)));
	CU_ASSERT_TRUE(secret_equal(a, b, 7));
	secret_wipe(a, sizeof(a));
	for (size_t i = 0; i < sizeof(a); i++)
		CU_ASSERT_EQUAL(a[i], 0);
}

/* --- sealing --- */

#define ABOUT "llm_key|org|config|1"

static struct secret_key key_of(unsigned char first)
{
	struct secret_key key;

	for (size_t i = 0; i < sizeof(key.bytes); i++)
		key.bytes[i] = (unsigned char)(first + i);
	return key;
}

/* A sealed value, to be freed. */
static char *sealed_of(const struct secret_key *key, const char *about, const char *text)
{
	struct buf out;

	buf_init(&out, 65536);
	secret_seal(key, about, text, strlen(text), &out);
	CU_ASSERT_FALSE_FATAL(buf_has_failed(&out));
	return out.data;
}

/* ERR_NONE and the text in `shown` where it opens. */
static enum err_code open_it(const struct secret_key *key, const char *about, const char *sealed, size_t len)
{
	struct err e = {0};
	char *data = NULL;
	size_t data_len = 0;

	if (!secret_open(key, about, sealed, len, &data, &data_len, &e)) {
		CU_ASSERT_PTR_NULL(data);
		return e.code;
	}
	CU_ASSERT_EQUAL_FATAL(data_len, strlen(data));
	(void)snprintf(shown, sizeof(shown), "%s", data);
	secret_free(&data, data_len);
	CU_ASSERT_PTR_NULL(data);
	return ERR_NONE;
}

static void what_was_sealed_opens(void)
{
	static const char *const texts[] = {"", "k", "sk-0123456789abcdef",
					    "ein Schl\xc3\xbcssel, der etwas l\xc3\xa4nger ist"};
	struct secret_key key = key_of(1);

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		char *sealed = sealed_of(&key, ABOUT, texts[i]);

		CU_ASSERT_EQUAL(strspn(sealed, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
				strlen(sealed));
		CU_ASSERT_EQUAL(strlen(sealed), ((strlen(texts[i]) + SECRET_SEALED_OVERHEAD) * 4 + 2) / 3);
		CU_ASSERT_EQUAL(open_it(&key, ABOUT, sealed, strlen(sealed)), ERR_NONE);
		CU_ASSERT_STRING_EQUAL(shown, texts[i]);
		free(sealed);
	}
}

static void the_same_is_never_sealed_the_same(void)
{
	struct secret_key key = key_of(1);
	char *a = sealed_of(&key, ABOUT, "twice"), *b = sealed_of(&key, ABOUT, "twice");

	CU_ASSERT_STRING_NOT_EQUAL(a, b);
	CU_ASSERT_NOT_EQUAL(strncmp(a, b, 32), 0); /* the nonces differ already */
	free(a);
	free(b);
}

static void another_key_or_place_does_not_open_it(void)
{
	static const char *const places[] = {"",
					     "llm_key|org|config|2",
					     "llm_key|org|config|",
					     "llm_headers|org|config|1",
					     "llm_key|org|config|11",
					     "llm_key|other|config|1"};
	struct secret_key key = key_of(1), other = key_of(2);
	char *sealed = sealed_of(&key, ABOUT, "secret");

	CU_ASSERT_EQUAL(open_it(&other, ABOUT, sealed, strlen(sealed)), ERR_DENIED);
	other = key;
	other.bytes[31] ^= 1;
	CU_ASSERT_EQUAL(open_it(&other, ABOUT, sealed, strlen(sealed)), ERR_DENIED);
	for (size_t i = 0; i < ARRAY_LEN(places); i++)
		CU_ASSERT_EQUAL(open_it(&key, places[i], sealed, strlen(sealed)), ERR_DENIED);
	free(sealed);
}

static void a_cut_value_does_not_open(void)
{
	struct secret_key key = key_of(1);
	char *sealed = sealed_of(&key, ABOUT, "secret");

	for (size_t len = 0; len < strlen(sealed); len++) {
		enum err_code code = open_it(&key, ABOUT, sealed, len);

		CU_ASSERT_TRUE(code == ERR_INPUT || code == ERR_DENIED);
		if (len * 3 / 4 < SECRET_SEALED_OVERHEAD)
			CU_ASSERT_EQUAL(code, ERR_INPUT);
	}
	free(sealed);
}

static void a_changed_byte_does_not_open(void)
{
	struct secret_key key = key_of(1);
	char *sealed = sealed_of(&key, ABOUT, "secret");

	for (size_t i = 0; i < strlen(sealed); i++) {
		char was = sealed[i];

		sealed[i] = was == 'A' ? 'B' : 'A';
		CU_ASSERT_NOT_EQUAL(open_it(&key, ABOUT, sealed, strlen(sealed)), ERR_NONE);
		sealed[i] = was;
	}
	CU_ASSERT_EQUAL(open_it(&key, ABOUT, sealed, strlen(sealed)), ERR_NONE);
	free(sealed);
}

static void what_is_no_base64_is_no_sealed_value(void)
{
	static const char *const tails[] = {"=", " ", "\n", "+", "/", ".", "\xc3\xa4"};
	struct secret_key key = key_of(1);
	char *sealed = sealed_of(&key, ABOUT, "ab"), text[200];

	for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
		(void)snprintf(text, sizeof(text), "%s%s", sealed, tails[i]);
		CU_ASSERT_EQUAL(open_it(&key, ABOUT, text, strlen(text)), ERR_INPUT);
		(void)snprintf(text, sizeof(text), "%s%s", tails[i], sealed);
		CU_ASSERT_EQUAL(open_it(&key, ABOUT, text, strlen(text)), ERR_INPUT);
	}
	free(sealed);
}

static void sealing_stops_at_the_buffers_end(void)
{
	struct secret_key key = key_of(1);
	struct buf out;

	buf_init(&out, 60);
	secret_seal(&key, ABOUT, "a longer text", 13, &out);
	CU_ASSERT_TRUE(buf_has_failed(&out));
	buf_clear(&out);
}

static void a_keys_text_is_read_back_and_nothing_else_is(void)
{
	static const char *const wrong[] = {"",
					    "AAAA",
					    "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA",
					    "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA-",
					    "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAh", /* 33 bytes */
					    "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyB=", /* a bit too many */
					    "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=\n"};
	struct secret_key key = key_of(1), back;
	char text[SECRET_KEY_TEXT_SIZE];

	secret_key_text(&key, text);
	CU_ASSERT_STRING_EQUAL(text, "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=");
	CU_ASSERT_TRUE(secret_key_parse(text, strlen(text), &back));
	CU_ASSERT_EQUAL(memcmp(&key, &back, sizeof(key)), 0);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		CU_ASSERT_FALSE(secret_key_parse(wrong[i], strlen(wrong[i]), &back));
	secret_key_new(&key);
	secret_key_new(&back);
	CU_ASSERT_NOT_EQUAL(memcmp(&key, &back, sizeof(key)), 0);
}

static void a_fingerprint_tells_keys_apart(void)
{
	char a[SECRET_FINGERPRINT_SIZE], again[SECRET_FINGERPRINT_SIZE], b[SECRET_FINGERPRINT_SIZE];
	struct secret_key one = key_of(1), two = key_of(2);

	secret_key_fingerprint(&one, a);
	secret_key_fingerprint(&one, again);
	secret_key_fingerprint(&two, b);
	CU_ASSERT_EQUAL(strlen(a), SECRET_FINGERPRINT_LEN);
	CU_ASSERT_STRING_EQUAL(a, again);
	CU_ASSERT_STRING_NOT_EQUAL(a, b);
}

static CU_TestInfo cases[] = {
	CASE(random_bytes_fill_exactly_the_length),
	CASE(a_fresh_token_is_wellformed_and_new),
	CASE(other_shapes_are_no_token),
	CASE(the_hash_is_sha_256),
	CASE(equal_and_wipe_do_what_they_say),
	CASE(what_was_sealed_opens),
	CASE(the_same_is_never_sealed_the_same),
	CASE(another_key_or_place_does_not_open_it),
	CASE(a_cut_value_does_not_open),
	CASE(a_changed_byte_does_not_open),
	CASE(what_is_no_base64_is_no_sealed_value),
	CASE(sealing_stops_at_the_buffers_end),
	CASE(a_keys_text_is_read_back_and_nothing_else_is),
	CASE(a_fingerprint_tells_keys_apart),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"secret", start, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
