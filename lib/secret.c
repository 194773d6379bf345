/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random bytes, token hashes, wiping. Only libsodium's constant-time and
 * self-wiping primitives are used here, nothing home-made.
 */
#include "lib/secret.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <sodium.h>

#define PREFIX_LEN (sizeof(SECRET_TOKEN_PREFIX) - 1)
#define TOKEN_RANDOM_BYTES 32
#define FREED_BYTE 0xdb

_Static_assert(PREFIX_LEN + sodium_base64_ENCODED_LEN(TOKEN_RANDOM_BYTES, sodium_base64_VARIANT_URLSAFE_NO_PADDING) ==
		       SECRET_TOKEN_SIZE,
	       "token size");
_Static_assert(SECRET_HASH_BYTES == crypto_hash_sha256_BYTES, "hash size");

bool secret_init(struct err *e)
{
	if (sodium_init() < 0)
		return err_set(e, ERR_INTERNAL, "libsodium does not start");
	return true;
}

void secret_random(void *ret_bytes, size_t len)
{
	randombytes_buf(ret_bytes, len);
}

void secret_token_new(char ret_token[SECRET_TOKEN_SIZE])
{
	unsigned char bytes[TOKEN_RANDOM_BYTES];

	randombytes_buf(bytes, sizeof(bytes));
	memcpy(ret_token, SECRET_TOKEN_PREFIX, PREFIX_LEN);
	sodium_bin2base64(ret_token + PREFIX_LEN, SECRET_TOKEN_SIZE - PREFIX_LEN, bytes, sizeof(bytes),
			  sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	sodium_memzero(bytes, sizeof(bytes));
}

static bool is_base64url(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool secret_token_is_wellformed(const char *s, size_t len)
{
	if (!s || len != SECRET_TOKEN_LEN || memcmp(s, SECRET_TOKEN_PREFIX, PREFIX_LEN) != 0)
		return false;
	for (size_t i = PREFIX_LEN; i < len; i++) {
		if (!is_base64url(s[i]))
			return false;
	}
	return true;
}

void secret_hash(const void *data, size_t len, uint8_t ret_hash[SECRET_HASH_BYTES])
{
	crypto_hash_sha256(ret_hash, data, len);
}

void secret_hash_hex(const void *data, size_t len, char ret_hex[SECRET_HASH_HEX_SIZE])
{
	uint8_t hash[SECRET_HASH_BYTES];

	secret_hash(data, len, hash);
	sodium_bin2hex(ret_hex, SECRET_HASH_HEX_SIZE, hash, sizeof(hash));
}

bool secret_equal(const void *a, const void *b, size_t len)
{
	return sodium_memcmp(a, b, len) == 0;
}

void secret_wipe(void *data, size_t len)
{
	sodium_memzero(data, len);
}

#if defined(__SANITIZE_ADDRESS__)
/* The search for leaks at the very end looks into the process. */
static void show_process(void)
{
	(void)prctl(PR_SET_DUMPABLE, 1);
}
#endif

void secret_hide_process(void)
{
	const struct rlimit none = {0};

	(void)prctl(PR_SET_DUMPABLE, 0);
	(void)setrlimit(RLIMIT_CORE, &none);
	(void)mallopt(M_PERTURB, FREED_BYTE);
#if defined(__SANITIZE_ADDRESS__)
	(void)atexit(show_process);
#endif
}
