/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/secret.h"

#include <string.h>

#include "lib/macros.h"
#include "tests/unit/harness.h"

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

static CU_TestInfo cases[] = {
	CASE(random_bytes_fill_exactly_the_length),
	CASE(a_fresh_token_is_wellformed_and_new),
	CASE(other_shapes_are_no_token),
	CASE(the_hash_is_sha_256),
	CASE(equal_and_wipe_do_what_they_say),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"secret", start, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
