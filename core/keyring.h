/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The key ring: the keys that seal secrets, read from a file that is the same on all hosts. One key per line,
 *
 *   <id> <base64 of 32 bytes>
 *
 * empty lines and those that begin with # are skipped. It is read again where it has changed; what cannot be read
 * leaves the keys as they are. Which of them seals now is a row in the database (core/sealing_key.h).
 *
 * A sealed value is ASCII text, `hs1.<key id>.<base64url of nonce and ciphertext>`, and opens only where `about`, its
 * purpose and the place that it belongs to, is the one that it was sealed for.
 *
 * All threads. A program without a ring works until something is to be sealed or opened.
 */
#ifndef CORE_KEYRING_H
#define CORE_KEYRING_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"
#include "lib/secret.h"

struct buf;

#define KEY_ID_LEN_MAX 32 /* letters, digits, '-' and '_' */
#define KEY_ID_SIZE (KEY_ID_LEN_MAX + 1)
#define KEYRING_KEYS_MAX 32
#define KEYRING_FILE_BYTES_MAX 16384
#define SEALED_PREFIX "hs1."

struct keyring;

/* What may be said of a key. */
struct keyring_key {
	char key_id[KEY_ID_SIZE];
	char fingerprint[SECRET_FINGERPRINT_SIZE];
};

/* Reads nothing yet. path NULL: there is no ring. */
struct keyring *keyring_new(const char *path);
/* Wipes the keys. */
void keyring_free(struct keyring **ring);
/*
 * Reads the file where it has changed since it was last looked at; cheap where not. *ret_changed (may be NULL): since
 * the last call the keys became others, or the file readable again. False once for each thing that is wrong with the
 * file: ERR_MISSING, ERR_DENIED (its mode gives it to others), ERR_INPUT.
 */
bool keyring_refresh(struct keyring *ring, bool *ret_changed, struct err *e) MUST_CHECK;
/* How many. */
unsigned keyring_list(struct keyring *ring, struct keyring_key ret_keys[KEYRING_KEYS_MAX]);

/* Appends the sealed value. ERR_MISSING: the key is not in the ring, or has another fingerprint (NULL: any). Looks at
 * the file again before it says so. */
bool keyring_seal(struct keyring *ring, const char *key_id, const char *fingerprint, const char *about,
		  const void *data, size_t len, struct buf *out, struct err *e) MUST_CHECK;
/* *ret_data goes to secret_free. ERR_MISSING: its key is not in the ring; else as secret_open. */
bool keyring_open(struct keyring *ring, const char *about, const char *sealed, char **ret_data, size_t *ret_len,
		  struct err *e) MUST_CHECK;

bool key_id_is_wellformed(const char *s, size_t len);
/* The ring's text with one more line; NULL for text: a new one. ERR_CONFLICT: the id is in it. The caller frees with
 * secret_free. */
bool keyring_text_add(const char *text, const char *key_id, const struct secret_key *key, char **ret_text,
		      struct err *e) MUST_CHECK;
/* Without that key's line. ERR_MISSING: it is not in it. */
bool keyring_text_remove(const char *text, const char *key_id, char **ret_text, struct err *e) MUST_CHECK;

#endif
