/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file is parsed as a whole into new entries, which then take the old ones' place; a key that is used is copied out
 * under the lock and wiped after. What the file was when it was looked at last is kept by its inode's change time,
 * which a new mode moves too.
 */
#include "core/keyring.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/conf.h"
#include "lib/macros.h"
#include "lib/xalloc.h"

#define BLANKS " \t\r"
#define PREFIX_LEN (sizeof(SEALED_PREFIX) - 1)
/* As long a file may change without another time of change: two changes in one tick of the clock that it is taken from
 * (10 ms in kernels before 6.13, up to 2 s in some file systems). */
#define SETTLE_MS 2000

struct entry {
	char key_id[KEY_ID_SIZE];
	struct secret_key key;
};

struct entries {
	struct entry list[KEYRING_KEYS_MAX];
	unsigned count;
};

/* What tells one state of the file from another; all 0: it is not there. */
struct identity {
	dev_t device;
	ino_t inode;
	off_t size;
	struct timespec changed;
};

struct keyring {
	char *path; /* NULL: none */
	pthread_mutex_t lock;
	/* Under the lock: */
	struct entries entries;
	struct identity seen;
	bool has_looked, is_unreadable;
	bool is_settled; /* another change would show in `seen` */
	bool has_news;   /* for keyring_refresh's caller, whoever read it */
};

struct keyring *keyring_new(const char *path)
{
	struct keyring *ring = xcalloc(1, sizeof(*ring));

	ring->path = path ? xstrdup(path) : NULL;
	pthread_mutex_init(&ring->lock, NULL);
	return ring;
}

void keyring_free(struct keyring **ring)
{
	if (!*ring)
		return;
	pthread_mutex_destroy(&(*ring)->lock);
	secret_wipe(&(*ring)->entries, sizeof((*ring)->entries));
	free((*ring)->path);
	free(*ring);
	*ring = NULL;
}

/* --- the text --- */

bool key_id_is_wellformed(const char *s, size_t len)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

	return len >= 1 && len <= KEY_ID_LEN_MAX && strspn(s, allowed) >= len;
}

static const struct entry *find(const struct entries *entries, const char *key_id)
{
	for (unsigned i = 0; i < entries->count; i++)
		if (strcmp(entries->list[i].key_id, key_id) == 0)
			return &entries->list[i];
	return NULL;
}

/* One line of the file, without its newline. What is wrong is said without showing any of it. */
static bool parse_line(const char *line, size_t len, struct entries *entries, struct err *e)
{
	struct entry *entry = &entries->list[entries->count];
	size_t id_len, gap;

	while (len > 0 && strchr(BLANKS, line[len - 1]))
		len--;
	if (len == 0 || line[0] == '#')
		return true;
	if (entries->count == KEYRING_KEYS_MAX)
		return err_set(e, ERR_INPUT, "more than %d keys", KEYRING_KEYS_MAX);
	for (id_len = 0; id_len < len && !strchr(BLANKS, line[id_len]);)
		id_len++;
	for (gap = id_len; gap < len && strchr(BLANKS, line[gap]);)
		gap++;
	if (!key_id_is_wellformed(line, id_len) || !secret_key_parse(line + gap, len - gap, &entry->key))
		return err_set(e, ERR_INPUT, "not '<id> <base64 of 32 bytes>'");
	memcpy(entry->key_id, line, id_len);
	entry->key_id[id_len] = '\0';
	if (find(entries, entry->key_id))
		return err_set(e, ERR_INPUT, "key %s stands there twice", entry->key_id);
	entries->count++;
	return true;
}

static bool parse(const char *text, size_t len, struct entries *ret_entries, struct err *e)
{
	struct entries entries = {.count = 0};
	const char *at = text, *end = text + len;
	unsigned number = 1;
	bool ok = !memchr(text, '\0', len) || err_set(e, ERR_INPUT, "holds a NUL byte");

	for (; ok && at < end; number++) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		const char *line_end = newline ? newline : end;

		if (!parse_line(at, (size_t)(line_end - at), &entries, e))
			ok = err_ctx(e, "line %u", number);
		at = newline ? newline + 1 : end;
	}
	if (ok)
		*ret_entries = entries;
	secret_wipe(&entries, sizeof(entries));
	return ok;
}

bool keyring_text_add(const char *text, const char *key_id, const struct secret_key *key, char **ret_text,
		      struct err *e)
{
	static const char head[] = "# Hearth's key ring: the same on all hosts, for its programs only.\n";
	size_t len = text ? strlen(text) : 0;
	char key_text[SECRET_KEY_TEXT_SIZE];
	struct entries entries;

	if (text && !parse(text, len, &entries, e))
		return false;
	bool is_there = text && find(&entries, key_id);
	bool is_full = text && entries.count == KEYRING_KEYS_MAX;
	secret_wipe(&entries, sizeof(entries));
	if (is_there)
		return err_set(e, ERR_CONFLICT, "key %s is in the ring already", key_id);
	if (is_full)
		return err_set(e, ERR_LIMIT, "the ring has %d keys: retire one first", KEYRING_KEYS_MAX);
	secret_key_text(key, key_text);
	bool needs_newline = len > 0 && text[len - 1] != '\n';
	*ret_text = xasprintf("%s%s%s %s\n", text ? text : head, needs_newline ? "\n" : "", key_id, key_text);
	secret_wipe(key_text, sizeof(key_text));
	return true;
}

bool keyring_text_remove(const char *text, const char *key_id, char **ret_text, struct err *e)
{
	size_t id_len = strlen(key_id), kept = 0;
	char *out = xcalloc(1, strlen(text) + 1);
	bool is_found = false;

	for (const char *at = text; *at != '\0';) {
		size_t len = strcspn(at, "\n");

		len += at[len] == '\n';
		if (strncmp(at, key_id, id_len) == 0 && strchr(BLANKS, at[id_len])) {
			is_found = true;
		} else {
			memcpy(out + kept, at, len);
			kept += len;
		}
		at += len;
	}
	if (!is_found) {
		secret_free(&out, kept);
		return err_set(e, ERR_MISSING, "key %s is not in the ring", key_id);
	}
	*ret_text = out;
	return true;
}

/* --- the file --- */

static struct identity identity_of(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return (struct identity){.size = 0};
	return (struct identity){.device = st.st_dev, .inode = st.st_ino, .size = st.st_size, .changed = st.st_ctim};
}

static bool is_same(const struct identity *a, const struct identity *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size &&
	       a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

static bool read_file(const char *path, struct entries *ret_entries, struct err *e)
{
	char *text;
	size_t len;

	if (!conf_read_secret_text(path, KEYRING_FILE_BYTES_MAX, &text, &len, e))
		return false;
	bool ok = parse(text, len, ret_entries, e) || err_ctx(e, "%s", path);
	secret_free(&text, len);
	return ok;
}

static bool is_settled(const struct identity *identity)
{
	int64_t changed_ms = (int64_t)identity->changed.tv_sec * 1000 + identity->changed.tv_nsec / 1000000;

	return clock_unix_ms() - changed_ms >= SETTLE_MS;
}

static bool refresh_locked(struct keyring *ring, struct err *e)
{
	struct entries fresh;
	struct identity now;
	struct err told;

	if (!ring->path)
		return true;
	/* Looked at before it is read: one that is replaced meanwhile is read again the next time. */
	now = identity_of(ring->path);
	bool is_known = ring->has_looked && is_same(&now, &ring->seen);
	if (is_known && ring->is_settled)
		return true;
	bool is_told = is_known && ring->is_unreadable;
	ring->has_looked = true;
	ring->seen = now;
	ring->is_settled = is_settled(&now);
	if (!read_file(ring->path, &fresh, is_told ? &told : e)) {
		ring->is_unreadable = true;
		return is_told;
	}
	if (ring->is_unreadable || fresh.count != ring->entries.count ||
	    memcmp(&fresh, &ring->entries, sizeof(fresh)) != 0)
		ring->has_news = true;
	ring->is_unreadable = false;
	ring->entries = fresh;
	secret_wipe(&fresh, sizeof(fresh));
	return true;
}

bool keyring_refresh(struct keyring *ring, bool *ret_changed, struct err *e)
{
	pthread_mutex_lock(&ring->lock);
	bool ok = refresh_locked(ring, e);
	if (ok && ret_changed) {
		*ret_changed = ring->has_news;
		ring->has_news = false;
	}
	pthread_mutex_unlock(&ring->lock);
	return ok;
}

unsigned keyring_list(struct keyring *ring, struct keyring_key ret_keys[KEYRING_KEYS_MAX])
{
	unsigned count;

	pthread_mutex_lock(&ring->lock);
	count = ring->entries.count;
	for (unsigned i = 0; i < count; i++) {
		memcpy(ret_keys[i].key_id, ring->entries.list[i].key_id, KEY_ID_SIZE);
		secret_key_fingerprint(&ring->entries.list[i].key, ret_keys[i].fingerprint);
	}
	pthread_mutex_unlock(&ring->lock);
	return count;
}

/* --- sealing and opening --- */

static bool copy_key(const struct keyring *ring, const char *key_id, const char *fingerprint,
		     struct secret_key *ret_key)
{
	const struct entry *entry = find(&ring->entries, key_id);
	char own[SECRET_FINGERPRINT_SIZE];

	if (!entry)
		return false;
	secret_key_fingerprint(&entry->key, own);
	if (fingerprint && strcmp(own, fingerprint) != 0)
		return false;
	*ret_key = entry->key;
	return true;
}

/* The file may have it by now. */
static bool take_key(struct keyring *ring, const char *key_id, const char *fingerprint, struct secret_key *ret_key,
		     struct err *e)
{
	struct err reason = {0};

	pthread_mutex_lock(&ring->lock);
	bool ok = copy_key(ring, key_id, fingerprint, ret_key) ||
		  (refresh_locked(ring, &reason) && copy_key(ring, key_id, fingerprint, ret_key));
	pthread_mutex_unlock(&ring->lock);
	if (ok)
		return true;
	if (reason.code != ERR_NONE)
		return err_set(e, ERR_MISSING, "key %s is not there: %s", key_id, reason.text);
	return err_set(e, ERR_MISSING, "key %s is not in the key ring%s", key_id,
		       ring->path ? "" : ", as keys.file is not set");
}

bool keyring_seal(struct keyring *ring, const char *key_id, const char *fingerprint, const char *about,
		  const void *data, size_t len, struct buf *out, struct err *e)
{
	struct secret_key key;

	if (!take_key(ring, key_id, fingerprint, &key, e))
		return false;
	buf_printf(out, SEALED_PREFIX "%s.", key_id);
	secret_seal(&key, about, data, len, out);
	secret_wipe(&key, sizeof(key));
	return !buf_has_failed(out) || err_set(e, ERR_LIMIT, "the sealed value is too long");
}

bool keyring_open(struct keyring *ring, const char *about, const char *sealed, char **ret_data, size_t *ret_len,
		  struct err *e)
{
	char key_id[KEY_ID_SIZE];
	struct secret_key key;

	if (strncmp(sealed, SEALED_PREFIX, PREFIX_LEN) != 0)
		return err_set(e, ERR_INPUT, "not a sealed value of a known kind");
	sealed += PREFIX_LEN;
	size_t id_len = strcspn(sealed, ".");
	if (sealed[id_len] != '.' || !key_id_is_wellformed(sealed, id_len))
		return err_set(e, ERR_INPUT, "not a sealed value: no key id");
	memcpy(key_id, sealed, id_len);
	key_id[id_len] = '\0';
	sealed += id_len + 1;
	if (!take_key(ring, key_id, NULL, &key, e))
		return false;
	bool ok =
		secret_open(&key, about, sealed, strlen(sealed), ret_data, ret_len, e) || err_ctx(e, "key %s", key_id);
	secret_wipe(&key, sizeof(key));
	return ok;
}
