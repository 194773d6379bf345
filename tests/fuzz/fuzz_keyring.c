/* SPDX-License-Identifier: Apache-2.0 */
/* The key ring's file, and sealed values: what is accepted can be added to and taken from; nothing opens but what was
 * sealed. */
#include "core/keyring.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/buf.h"
#include "tests/fuzz/fuzz.h"

#define PATH_SIZE 64
#define OWN_ID "fuzz-own"

/* A ring of that text; NULL: it is refused. */
static struct keyring *ring_of(const void *text, size_t len)
{
	int fd = memfd_create("keys", MFD_CLOEXEC);
	char path[PATH_SIZE];
	struct err e = {0};

	MUST(fd >= 0 && fchmod(fd, 0600) == 0 && write(fd, text, len) == (ssize_t)len);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	struct keyring *ring = keyring_new(path);
	if (!keyring_refresh(ring, NULL, &e)) {
		MUST(e.code == ERR_INPUT && e.text[0]);
		keyring_free(&ring);
	}
	(void)close(fd);
	return ring;
}

static unsigned count_of(struct keyring *ring)
{
	struct keyring_key keys[KEYRING_KEYS_MAX];
	unsigned count = keyring_list(ring, keys);

	MUST(count <= KEYRING_KEYS_MAX);
	for (unsigned i = 0; i < count; i++)
		MUST(key_id_is_wellformed(keys[i].key_id, strlen(keys[i].key_id)) &&
		     strlen(keys[i].fingerprint) == SECRET_FINGERPRINT_LEN);
	return count;
}

/* One more key, and without it again. */
static void check_changes(const char *text, unsigned count)
{
	struct secret_key key;
	struct err e = {0};
	char *longer, *back;

	secret_key_new(&key);
	if (!keyring_text_add(text, OWN_ID, &key, &longer, &e)) {
		MUST(e.code == ERR_CONFLICT || (e.code == ERR_LIMIT && count == KEYRING_KEYS_MAX));
		return;
	}
	struct keyring *ring = ring_of(longer, strlen(longer));
	if (ring) { /* else the file is too long */
		MUST(count_of(ring) == count + 1);
		keyring_free(&ring);
	}
	MUST(keyring_text_remove(longer, OWN_ID, &back, &e));
	ring = ring_of(back, strlen(back));
	MUST(ring && count_of(ring) == count);
	keyring_free(&ring);
	free(longer);
	free(back);
}

/* The input as a sealed value, and as what is sealed. */
static void check_sealing(struct keyring *ring, const char *text, size_t len)
{
	struct err e = {0};
	struct buf out;
	char *data;
	size_t data_len;

	MUST(!keyring_open(ring, "about", text, &data, &data_len, &e) && e.code != ERR_NONE);
	buf_init(&out, 4 * len + 1024);
	MUST(keyring_seal(ring, "own", NULL, text, text, len, &out, &e));
	MUST(keyring_open(ring, text, out.data, &data, &data_len, &e));
	MUST(data_len == len && memcmp(data, text, len) == 0);
	secret_free(&data, data_len);
	buf_clear(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char own_text[] = "own AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=\n";
	struct err e = {0};

	MUST(secret_init(&e));
	char *text = strndup((const char *)data, size);
	MUST(text);
	struct keyring *ring = ring_of(data, size), *own = ring_of(own_text, sizeof(own_text) - 1);

	if (ring && strlen(text) == size)
		check_changes(text, count_of(ring));
	keyring_free(&ring);
	check_sealing(own, text, strlen(text));
	keyring_free(&own);
	free(text);
	return 0;
}
