/* SPDX-License-Identifier: Apache-2.0 */
/* Random bytes, token hashes, wiping; the only file that includes libsodium. All threads. */
#ifndef LIB_SECRET_H
#define LIB_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

#define SECRET_HASH_BYTES 32
#define SECRET_HASH_HEX_SIZE (2 * SECRET_HASH_BYTES + 1)
#define SECRET_TOKEN_PREFIX "hrt_"
#define SECRET_TOKEN_LEN 47 /* prefix and 43 characters of unpadded URL-safe base64: 256 bits */
#define SECRET_TOKEN_SIZE (SECRET_TOKEN_LEN + 1)

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
 * Nobody but root may look into the process from here on: no core, no ptrace, no /proc/PID/mem or environ for others of
 * the same user. Large blocks that libraries free are overwritten, as they do not wipe what passed through them.
 */
void secret_hide_process(void);

#endif
