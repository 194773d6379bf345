/* SPDX-License-Identifier: Apache-2.0 */
/* Random bytes, token hashes, sealing, wiping; the only file that includes libsodium. All threads. */
#ifndef LIB_SECRET_H
#define LIB_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

struct buf;

#define SECRET_HASH_BYTES 32
#define SECRET_HASH_HEX_SIZE (2 * SECRET_HASH_BYTES + 1)
#define SECRET_TOKEN_PREFIX "hrt_"
#define SECRET_TOKEN_LEN 47 /* prefix and 43 characters of unpadded URL-safe base64: 256 bits */
#define SECRET_TOKEN_SIZE (SECRET_TOKEN_LEN + 1)

#define SECRET_KEY_BYTES 32
#define SECRET_KEY_TEXT_LEN 44 /* base64 with its padding */
#define SECRET_KEY_TEXT_SIZE (SECRET_KEY_TEXT_LEN + 1)
#define SECRET_FINGERPRINT_LEN 32 /* hex: 128 bits */
#define SECRET_FINGERPRINT_SIZE (SECRET_FINGERPRINT_LEN + 1)
#define SECRET_SEALED_OVERHEAD 40 /* bytes before base64: nonce 24, tag 16 */

/* Once in main, before any thread. */
bool secret_init(struct err *e) MUST_CHECK;
void secret_random(void *ret_bytes, size_t len);
/* A fresh bearer token. The caller wipes it after use. */
void secret_token_new(char ret_token[SECRET_TOKEN_SIZE]);
/* False unless s has the shape of a token. */
bool secret_token_is_wellformed(const char *s, size_t len);
/* SHA-256 (enough for 256 random bits: nothing to guess). */
void secret_hash(const void *data, size_t len, uint8_t ret_hash[SECRET_HASH_BYTES]);
void secret_hash_hex(const void *data, size_t len, char ret_hex[SECRET_HASH_HEX_SIZE]);
bool secret_equal(const void *a, const void *b, size_t len); /* constant time */
void secret_wipe(void *data, size_t len);

/*
 * Sealing: XChaCha20-Poly1305 (IETF), a random nonce for each, so one key seals as often as it likes. `about` is what
 * the value belongs to: it is no secret, is not in the text, and must be the same when it is opened.
 */
struct secret_key {
	uint8_t bytes[SECRET_KEY_BYTES];
};
void secret_key_new(struct secret_key *ret_key);
/* The key's text as a key file has it; the caller wipes it. */
void secret_key_text(const struct secret_key *key, char ret_text[SECRET_KEY_TEXT_SIZE]);
/* False: not the text of a key. */
bool secret_key_parse(const char *text, size_t len, struct secret_key *ret_key) MUST_CHECK;
/* Tells keys apart and nothing else about them. */
void secret_key_fingerprint(const struct secret_key *key, char ret_hex[SECRET_FINGERPRINT_SIZE]);
/* Appends unpadded URL-safe base64 of nonce and ciphertext. */
void secret_seal(const struct secret_key *key, const char *about, const void *data, size_t len, struct buf *out);
/*
 * *ret_data is malloc'd, with a NUL behind its len bytes: give it to secret_free. ERR_INPUT: not a sealed text;
 * ERR_DENIED: of another key, about something else, or changed (which of them cannot be told).
 */
bool secret_open(const struct secret_key *key, const char *about, const char *text, size_t text_len, char **ret_data,
		 size_t *ret_len, struct err *e) MUST_CHECK;
/* Wipes and frees; accepts NULL. */
void secret_free(char **data, size_t len);
/*
 * Nobody but root may look into the process from here on: no core, no ptrace, no /proc/PID/mem or environ for others of
 * the same user. Large blocks that libraries free are overwritten, as they do not wipe what passed through them.
 */
void secret_hide_process(void);

#endif
