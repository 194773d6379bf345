/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random bytes, token hashes, sealing, wiping. Only libsodium's constant-time and
 * self-wiping primitives are used here, nothing home-made.
 */
#include "lib/secret.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <sodium.h>

#include "lib/buf.h"
#include "lib/xalloc.h"

#define PREFIX_LEN (sizeof(SECRET_TOKEN_PREFIX) - 1)
#define TOKEN_RANDOM_BYTES 32
#define FREED_BYTE 0xdb
#define URLSAFE sodium_base64_VARIANT_URLSAFE_NO_PADDING
#define NONCE_BYTES crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_BYTES crypto_aead_xchacha20poly1305_ietf_ABYTES

_Static_assert(PREFIX_LEN + sodium_base64_ENCODED_LEN(TOKEN_RANDOM_BYTES, URLSAFE) == SECRET_TOKEN_SIZE, "token size");
_Static_assert(SECRET_HASH_BYTES == crypto_hash_sha256_BYTES, "hash size");
_Static_assert(SECRET_KEY_BYTES == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "key size");
_Static_assert(SECRET_KEY_TEXT_SIZE == sodium_base64_ENCODED_LEN(SECRET_KEY_BYTES, sodium_base64_VARIANT_ORIGINAL),
	       "key text size");
_Static_assert(SECRET_SEALED_OVERHEAD == NONCE_BYTES + TAG_BYTES, "sealed size");

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
	sodium_bin2base64(ret_token + PREFIX_LEN, SECRET_TOKEN_SIZE - PREFIX_LEN, bytes, sizeof(bytes), URLSAFE);
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

/* --- sealing --- */

void secret_key_new(struct secret_key *ret_key)
{
	crypto_aead_xchacha20poly1305_ietf_keygen(ret_key->bytes);
}

void secret_key_text(const struct secret_key *key, char ret_text[SECRET_KEY_TEXT_SIZE])
{
	sodium_bin2base64(ret_text, SECRET_KEY_TEXT_SIZE, key->bytes, sizeof(key->bytes),
			  sodium_base64_VARIANT_ORIGINAL);
}

bool secret_key_parse(const char *text, size_t len, struct secret_key *ret_key)
{
	struct secret_key key;
	size_t got = 0;
	bool ok = len == SECRET_KEY_TEXT_LEN &&
		  sodium_base642bin(key.bytes, sizeof(key.bytes), text, len, NULL, &got, NULL,
				    sodium_base64_VARIANT_ORIGINAL) == 0 &&
		  got == sizeof(key.bytes);

	if (ok)
		*ret_key = key;
	sodium_memzero(&key, sizeof(key));
	return ok;
}

void secret_key_fingerprint(const struct secret_key *key, char ret_hex[SECRET_FINGERPRINT_SIZE])
{
	static const unsigned char what[] = "hearth sealing key";
	unsigned char hash[SECRET_FINGERPRINT_LEN / 2];

	(void)crypto_generichash(hash, sizeof(hash), what, sizeof(what) - 1, key->bytes, sizeof(key->bytes));
	sodium_bin2hex(ret_hex, SECRET_FINGERPRINT_SIZE, hash, sizeof(hash));
}

void secret_seal(const struct secret_key *key, const char *about, const void *data, size_t len, struct buf *out)
{
	size_t sealed_len = NONCE_BYTES + len + TAG_BYTES;
	size_t text_size = sodium_base64_encoded_len(sealed_len, URLSAFE);
	unsigned char *sealed = xmalloc(sealed_len);
	char *text = xmalloc(text_size);

	randombytes_buf(sealed, NONCE_BYTES);
	(void)crypto_aead_xchacha20poly1305_ietf_encrypt(sealed + NONCE_BYTES, NULL, data, len,
							 (const unsigned char *)about, strlen(about), NULL, sealed,
							 key->bytes);
	buf_append_str(out, sodium_bin2base64(text, text_size, sealed, sealed_len, URLSAFE));
	free(sealed);
	free(text);
}

bool secret_open(const struct secret_key *key, const char *about, const char *text, size_t text_len, char **ret_data,
		 size_t *ret_len, struct err *e)
{
	size_t size = text_len / 4 * 3 + 3, sealed_len = 0;
	unsigned char *sealed = xmalloc(size);
	unsigned long long len = 0;
	char *data = NULL;
	bool ok = false;

	if (sodium_base642bin(sealed, size, text, text_len, NULL, &sealed_len, NULL, URLSAFE) != 0 ||
	    sealed_len < NONCE_BYTES + TAG_BYTES) {
		err_set(e, ERR_INPUT, "not a sealed value");
		goto out;
	}
	data = xmalloc(sealed_len - NONCE_BYTES - TAG_BYTES + 1);
	if (crypto_aead_xchacha20poly1305_ietf_decrypt((unsigned char *)data, &len, NULL, sealed + NONCE_BYTES,
						       sealed_len - NONCE_BYTES, (const unsigned char *)about,
						       strlen(about), sealed, key->bytes) != 0) {
		free(data); /* nothing was written to it */
		err_set(e, ERR_DENIED, "the sealed value does not open: another key, another place, or changed");
		goto out;
	}
	data[len] = '\0';
	*ret_data = data;
	*ret_len = (size_t)len;
	ok = true;
out:
	free(sealed);
	return ok;
}

void secret_free(char **data, size_t len)
{
	if (*data)
		sodium_memzero(*data, len);
	free(*data);
	*data = NULL;
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
