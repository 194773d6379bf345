/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hearthctl keys: the key ring of this host and the rows that say which key seals. A key is made here and goes into the
 * file, nowhere else: it is not printed, and no command takes one.
 *
 *   new               a key more, into file and rows
 *   distribute-check  does every running program hold every key?
 *   reseal            the newest becomes current, all values are sealed anew
 *   retire            one that seals nothing goes out of file and rows
 */
#include "ctl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/keyring.h"
#include "core/sealed_value.h"
#include "core/sealing_key.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/conf.h"
#include "lib/json.h"
#include "lib/secret.h"
#include "lib/xalloc.h"

#define LOCK "hearth.keys" /* one of these commands at a time */
#define LOCK_WAIT_S 10
#define DATE_LEN 10

/* --- the file --- */

/* *ret_text NULL: it is not there yet. */
static bool read_ring(const char *path, char **ret_text, size_t *ret_len, struct err *e)
{
	*ret_text = NULL;
	*ret_len = 0;
	if (conf_read_secret_text(path, KEYRING_FILE_BYTES_MAX, ret_text, ret_len, e))
		return true;
	if (e->code != ERR_MISSING)
		return false;
	err_clear(e);
	return true;
}

/* As the one that it replaces; a new one is readable for the folder's group, where that can be said. */
static bool set_owner(int fd, const char *path, struct err *e)
{
	char *copy = xstrdup(path);
	struct stat old, folder;
	bool is_new = stat(path, &old) != 0;
	bool ok = true;

	if (is_new)
		(void)!(stat(dirname(copy), &folder) == 0 && fchown(fd, (uid_t)-1, folder.st_gid) == 0 &&
			fchmod(fd, 0640) == 0);
	else
		ok = fchown(fd, old.st_uid, old.st_gid) == 0 && fchmod(fd, old.st_mode & 07777) == 0;
	free(copy);
	return ok || err_set(e, ERR_INTERNAL, "owner and mode of %s: %s", path, strerror(errno));
}

static bool write_all(int fd, const char *text, size_t len, struct err *e)
{
	while (len > 0) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno != EINTR)
			return err_set(e, ERR_INTERNAL, "writing: %s", strerror(errno));
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
	return fsync(fd) == 0 || err_set(e, ERR_INTERNAL, "writing: %s", strerror(errno));
}

static void sync_folder(const char *path)
{
	char *copy = xstrdup(path);
	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0) {
		(void)fsync(fd);
		(void)close(fd);
	}
	free(copy);
}

/* In its place at once, so that no program reads half of it. */
static bool write_ring(const char *path, const char *text, struct err *e)
{
	char *fresh = xasprintf("%s.new", path);
	int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	bool ok = false;

	if (fd < 0) {
		err_set(e, ERR_INTERNAL, "%s: %s", fresh, strerror(errno));
		goto out;
	}
	ok = set_owner(fd, path, e) && write_all(fd, text, strlen(text), e);
	if (ok && rename(fresh, path) != 0)
		ok = err_set(e, ERR_INTERNAL, "%s: %s", path, strerror(errno));
	if (ok)
		sync_folder(path);
	else
		(void)unlink(fresh);
	(void)close(fd);
out:
	free(fresh);
	return ok;
}

/* --- what all commands begin with --- */

struct work {
	struct ctl *ctl;
	const char *path;
	struct keyring *ring;
	bool has_file;
	struct sealing_key *keys; /* all rows, the oldest first */
	unsigned count;
};

static bool read_keys(struct work *w, struct err *e)
{
	return sealing_key_list(w->ctl->db, w->ctl->mem, &w->keys, &w->count, e);
}

/* What this host's file says of the key in that row. */
static enum held held_here(const struct work *w, const struct keyring_key *key)
{
	struct keyring_key own[KEYRING_KEYS_MAX];
	unsigned count = keyring_list(w->ring, own);

	for (unsigned i = 0; i < count; i++)
		if (strcmp(own[i].key_id, key->key_id) == 0)
			return strcmp(own[i].fingerprint, key->fingerprint) == 0 ? HELD : HELD_OTHER;
	return HELD_NOT;
}

static bool lock(struct ctl *ctl, struct err *e)
{
	switch (db_lock(ctl->db, LOCK, LOCK_WAIT_S, e)) {
	case DB_ROW:
		return true;
	case DB_DONE:
		return err_set(e, ERR_BUSY, "another hearthctl is at the keys");
	case DB_FAIL:
		break;
	}
	return false;
}

/* Without it no key is HERE: one line says why. */
static void say_no_file(const struct work *w)
{
	if (!w->has_file)
		fprintf(stderr, "hearthctl: the key ring %s does not exist: %s\n", w->path,
			w->count > 0 ? "copy that of another host here" : "'hearthctl keys new' makes it");
}

static bool read_file_and_keys(struct work *w, struct err *e)
{
	w->has_file = keyring_refresh(w->ring, NULL, e);
	return (w->has_file || e->code == ERR_MISSING) && read_keys(w, e);
}

static const char *const what = "keys"; /* in front of messages */

static enum ctl_exit begin(struct ctl *ctl, struct work *w)
{
	struct err e = {0};

	*w = (struct work){.ctl = ctl, .path = ctl->settings.keys.file};
	if (!w->path) {
		err_set(&e, ERR_INPUT, "keys.file is not set in the configuration");
		return ctl_fail(what, &e);
	}
	enum ctl_exit status = ctl_connect(ctl, true);
	if (status != CTL_OK)
		return status;
	w->ring = keyring_new(w->path);
	/* Behind the lock: what another command wrote is seen. */
	if (!lock(ctl, &e) || !read_file_and_keys(w, &e)) {
		keyring_free(&w->ring);
		/* ERR_DENIED would be taken for the database's. */
		e.code = e.code == ERR_DENIED ? ERR_INPUT : e.code;
		return ctl_fail(what, &e);
	}
	return CTL_OK;
}

static void end(struct work *w)
{
	keyring_free(&w->ring);
}

static const struct sealing_key *find_key(const struct work *w, const char *key_id)
{
	for (unsigned i = 0; i < w->count; i++)
		if (strcmp(w->keys[i].key.key_id, key_id) == 0)
			return &w->keys[i];
	return NULL;
}

/* --- new --- */

enum { NEW_FORCE };

/* "2026-11-28-7f3a" */
static void make_id(char ret_id[KEY_ID_SIZE])
{
	char now[CLOCK_RFC3339_SIZE];
	uint8_t random[2];

	clock_rfc3339(clock_unix_ms(), now);
	secret_random(random, sizeof(random));
	(void)snprintf(ret_id, KEY_ID_SIZE, "%.*s-%02x%02x", DATE_LEN, now, random[0], random[1]);
}

/* A ring that lacks keys is some other host's business: what is made here would not be its continuation. */
static bool check_whole(const struct work *w, struct err *e)
{
	for (unsigned i = 0; i < w->count; i++) {
		const struct sealing_key *key = &w->keys[i];

		if (key->state != SEALING_RETIRED && held_here(w, &key->key) != HELD)
			return err_set(e, ERR_CONFLICT,
				       "%s lacks key %s: copy the key ring of another host here first, or use --force",
				       w->path, key->key.key_id);
	}
	return true;
}

struct addition {
	struct keyring_key key;
	enum sealing_key_state state;
};

static bool add_body(struct db *db, void *closure, enum problem *ret_problem, struct err *e)
{
	struct addition *a = closure;

	return sealing_key_add(db, &a->key, &a->state, ret_problem, e);
}

/* The file first: a row without a key anywhere could become current. */
static bool add_to_file(const struct work *w, struct addition *a, struct err *e)
{
	char *text, *longer = NULL;
	struct secret_key key;
	size_t len;

	if (!read_ring(w->path, &text, &len, e))
		return false;
	secret_key_new(&key);
	make_id(a->key.key_id);
	secret_key_fingerprint(&key, a->key.fingerprint);
	bool ok = keyring_text_add(text, a->key.key_id, &key, &longer, e) && write_ring(w->path, longer, e);
	secret_wipe(&key, sizeof(key));
	secret_free(&text, len);
	secret_free(&longer, longer ? strlen(longer) : 0);
	return ok;
}

static bool remove_from_file(const struct work *w, const char *key_id, bool *ret_was_there, struct err *e)
{
	char *text, *shorter = NULL;
	size_t len;

	*ret_was_there = false;
	if (!read_ring(w->path, &text, &len, e))
		return false;
	bool ok = text && keyring_text_remove(text, key_id, &shorter, e);
	*ret_was_there = ok;
	if (ok)
		ok = write_ring(w->path, shorter, e);
	else if (!text || e->code == ERR_MISSING)
		ok = true;
	secret_free(&text, len);
	secret_free(&shorter, shorter ? strlen(shorter) : 0);
	return ok;
}

static void say_new(const struct work *w, const struct addition *a)
{
	bool is_current = a->state == SEALING_CURRENT;

	if (w->ctl->json) {
		struct jval *o = jval_new_object();
		jval_add_string(o, "key_id", a->key.key_id);
		jval_add_string(o, "fingerprint", a->key.fingerprint);
		jval_add_string(o, "state", sealing_key_state_name(a->state));
		jval_add_string(o, "file", w->path);
		ctl_print_json(&o);
		return;
	}
	printf("%s\n", a->key.key_id);
	fprintf(stderr,
		"hearthctl: the key is in %s, and %s. Copy the file to all hosts,\n"
		"hearthctl: see to it that the programs may read it, then: hearthctl keys %s\n",
		w->path, is_current ? "seals from now on" : "does not seal yet",
		is_current ? "distribute-check" : "distribute-check, hearthctl keys reseal");
}

static enum ctl_exit make(struct ctl *ctl, const struct ctl_args *args)
{
	struct addition a = {.state = SEALING_NEW};
	struct err e = {0};
	struct work w;
	bool was_there;
	enum ctl_exit status = begin(ctl, &w);

	if (status != CTL_OK)
		return status;
	if ((!args->values[NEW_FORCE] && !check_whole(&w, &e)) || !add_to_file(&w, &a, &e)) {
		end(&w);
		return ctl_fail("keys new", &e);
	}
	struct ctl_change change = {
		.action = "key.new", .doing = "adding key", .text = a.key.key_id, .body = add_body, .closure = &a};
	status = ctl_change_run(ctl, &change);
	if (status == CTL_OK)
		say_new(&w, &a);
	else if (status != CTL_UNCERTAIN && !remove_from_file(&w, a.key.key_id, &was_there, &e))
		(void)ctl_fail("keys new", &e);
	end(&w);
	return status;
}

/* --- list --- */

static const char *const held_words[] = {[HELD] = "yes", [HELD_NOT] = "no", [HELD_OTHER] = "other"};

static void print_key(const struct work *w, const struct sealing_key *k)
{
	printf("%-*s  %-7s  %8" PRIu64 "  %-5s  %-24s  %s\n", KEY_ID_LEN_MAX, k->key.key_id,
	       sealing_key_state_name(k->state), k->sealed_count, held_words[held_here(w, &k->key)], k->created_at,
	       k->key.fingerprint);
}

static struct jval *key_json(const struct work *w, const struct sealing_key *k)
{
	struct jval *o = jval_new_object();

	jval_add_string(o, "key_id", k->key.key_id);
	jval_add_string(o, "state", sealing_key_state_name(k->state));
	jval_add_int(o, "sealed", (int64_t)k->sealed_count);
	jval_add_string(o, "here", held_words[held_here(w, &k->key)]);
	jval_add_string(o, "fingerprint", k->key.fingerprint);
	jval_add_string(o, "created_at", k->created_at);
	jval_add_string(o, "changed_at", k->changed_at);
	return o;
}

static enum ctl_exit list(struct ctl *ctl, const struct ctl_args *args)
{
	struct jval *o = jval_new_object(), *items = jval_new_array();
	struct work w;
	enum ctl_exit status = begin(ctl, &w);

	(void)args;
	jval_add(o, "items", items);
	if (status == CTL_OK)
		say_no_file(&w);
	if (status == CTL_OK && !ctl->json)
		printf("%-*s  %-7s  %8s  %-5s  %-24s  %s\n", KEY_ID_LEN_MAX, "KEY", "STATE", "SEALED", "HERE",
		       "CREATED", "FINGERPRINT");
	for (unsigned i = 0; status == CTL_OK && i < w.count; i++) {
		if (ctl->json)
			jval_push(items, key_json(&w, &w.keys[i]));
		else
			print_key(&w, &w.keys[i]);
	}
	if (status == CTL_OK && ctl->json)
		ctl_print_json(&o);
	jval_free(&o);
	end(&w);
	return status;
}

/* --- distribute-check --- */

struct check {
	struct key_held *held; /* of running programs, and of this host's file */
	unsigned count, lacking;
};

/* The file that hearthctl reads is this host's, whether a program runs here or not. */
static bool check_file(const struct work *w, struct check *c, struct err *e)
{
	struct key_held *all = arena_alloc(w->ctl->mem, (c->count + w->count) * sizeof(*all));

	if (!all)
		return err_set(e, ERR_LIMIT, "too many keys and programs");
	memcpy(all, c->held, c->count * sizeof(*all));
	c->held = all;
	for (unsigned i = 0; i < w->count; i++) {
		const struct keyring_key *key = &w->keys[i].key;

		if (w->keys[i].state == SEALING_RETIRED)
			continue;
		all[c->count++] = (struct key_held){
			.holder = {.program = w->path, .host = "this host"},
			.key_id = key->key_id,
			.held = held_here(w, key),
		};
	}
	return true;
}

static bool check_all(const struct work *w, struct check *ret_check, struct err *e)
{
	struct check c = {.lacking = 0};

	if (!key_holder_list(w->ctl->db, w->ctl->mem, &c.held, &c.count, e) || !check_file(w, &c, e))
		return false;
	for (unsigned i = 0; i < c.count; i++)
		c.lacking += c.held[i].held != HELD;
	*ret_check = c;
	return true;
}

static void print_check_json(const struct check *c)
{
	struct jval *o = jval_new_object(), *items = jval_new_array();

	for (unsigned i = 0; i < c->count; i++) {
		const struct key_holder *holder = &c->held[i].holder;
		struct jval *one = jval_new_object();

		jval_add_string(one, "program", holder->program);
		jval_add_string(one, "host", holder->host);
		jval_add_string(one, "process_id", id_is_set(&holder->process_id) ? holder->process_id.text : NULL);
		jval_add_string(one, "key_id", c->held[i].key_id);
		jval_add_string(one, "held", held_words[c->held[i].held]);
		jval_add_string(one, "seen_at", holder->seen_at);
		jval_push(items, one);
	}
	jval_add_bool(o, "is_complete", c->lacking == 0);
	jval_add(o, "items", items);
	ctl_print_json(&o);
}

static unsigned count_programs(const struct check *c)
{
	unsigned programs = 0;

	/* Each process comes with each key. */
	for (unsigned i = 0; i < c->count; i++) {
		bool is_first = id_is_set(&c->held[i].holder.process_id);

		for (unsigned j = 0; j < i && is_first; j++)
			is_first = !id_equal(&c->held[i].holder.process_id, &c->held[j].holder.process_id);
		programs += is_first;
	}
	return programs;
}

static void print_check(const struct check *c)
{
	static const char *const words[] = {[HELD_NOT] = "lacks", [HELD_OTHER] = "holds another key under the id of"};

	for (unsigned i = 0; i < c->count; i++)
		if (c->held[i].held != HELD)
			printf("%s on %s %s key %s\n", c->held[i].holder.program, c->held[i].holder.host,
			       words[c->held[i].held], c->held[i].key_id);
	if (c->lacking == 0)
		printf("this host's key ring and %u running programs hold all keys\n", count_programs(c));
}

static enum ctl_exit distribute_check(struct ctl *ctl, const struct ctl_args *args)
{
	struct check c = {.lacking = 0};
	struct err e = {0};
	struct work w;
	enum ctl_exit status = begin(ctl, &w);

	(void)args;
	if (status != CTL_OK)
		return status;
	say_no_file(&w);
	if (!check_all(&w, &c, &e))
		status = ctl_fail("keys distribute-check", &e);
	else if (ctl->json)
		print_check_json(&c);
	else
		print_check(&c);
	end(&w);
	return status == CTL_OK && c.lacking > 0 ? CTL_FAILED : status;
}

/* --- reseal --- */

enum { RESEAL_FORCE };

/* The newest one that never was current, else the current one: then what an earlier run left over is sealed anew. */
static const struct sealing_key *choose_key(const struct work *w)
{
	const struct sealing_key *chosen = NULL;

	for (unsigned i = 0; i < w->count; i++) {
		const struct sealing_key *k = &w->keys[i];

		if (k->state == SEALING_NEW || (k->state == SEALING_CURRENT && !chosen))
			chosen = k;
	}
	return chosen;
}

static bool current_body(struct db *db, void *closure, enum problem *ret_problem, struct err *e)
{
	const struct sealing_key *key = closure;

	*ret_problem = PROBLEM_NONE;
	return sealing_key_make_current(db, key->key.key_id, e);
}

static enum ctl_exit make_current(struct ctl *ctl, const struct sealing_key *key)
{
	struct sealing_key copy = *key;
	struct ctl_change change = {
		.action = "key.current",
		.doing = "switching to key",
		.text = copy.key.key_id,
		.body = current_body,
		.closure = &copy,
	};

	return key->state == SEALING_CURRENT ? CTL_OK : ctl_change_run(ctl, &change);
}

struct outcome {
	uint64_t resealed, failed;
	struct err last_failure;
};

/* Key by key, batch by batch; it may be broken off and begun again at any time. */
static bool reseal_all(const struct work *w, const char *to, struct outcome *ret_outcome, struct err *e)
{
	for (unsigned i = 0; i < w->count; i++) {
		struct resealing r = {.from = w->keys[i].key.key_id, .to = to};

		if (strcmp(r.from, to) == 0)
			continue;
		do {
			if (!sealed_value_reseal(w->ctl->db, w->ring, &r, e))
				return false;
		} while (r.seen > 0);
		ret_outcome->resealed += r.resealed;
		ret_outcome->failed += r.failed;
		if (r.failed > 0)
			ret_outcome->last_failure = r.last_failure;
	}
	return true;
}

static void say_resealed(const struct ctl *ctl, const char *key_id, const struct outcome *o)
{
	if (o->failed > 0)
		fprintf(stderr, "hearthctl: %" PRIu64 " values stay as they were; the last one: %s\n", o->failed,
			o->last_failure.text);
	if (!ctl->json) {
		printf("key %s seals now; %" PRIu64 " values were sealed anew\n", key_id, o->resealed);
		return;
	}
	struct jval *json = jval_new_object();
	jval_add_string(json, "key_id", key_id);
	jval_add_int(json, "resealed", (int64_t)o->resealed);
	jval_add_int(json, "failed", (int64_t)o->failed);
	ctl_print_json(&json);
}

/* False: it has said why not. */
static bool may_switch(const struct work *w, const struct sealing_key *key, bool is_forced)
{
	struct check c = {.lacking = 0};
	struct err e = {0};

	if (!key) {
		err_set(&e, ERR_MISSING, "there is no key: hearthctl keys new");
		return ctl_fail("keys reseal", &e) == CTL_OK;
	}
	if (held_here(w, &key->key) != HELD) {
		err_set(&e, ERR_MISSING, "%s lacks key %s", w->path, key->key.key_id);
		return ctl_fail("keys reseal", &e) == CTL_OK;
	}
	if (is_forced)
		return true;
	if (!check_all(w, &c, &e))
		return ctl_fail("keys reseal", &e) == CTL_OK;
	if (c.lacking == 0)
		return true;
	err_set(&e, ERR_CONFLICT, "some program lacks a key, see 'hearthctl keys distribute-check'; --force goes on");
	return ctl_fail("keys reseal", &e) == CTL_OK;
}

static enum ctl_exit reseal(struct ctl *ctl, const struct ctl_args *args)
{
	struct outcome outcome = {.resealed = 0};
	struct err e = {0};
	struct work w;
	enum ctl_exit status = begin(ctl, &w);

	if (status != CTL_OK)
		return status;
	say_no_file(&w);
	const struct sealing_key *key = choose_key(&w);
	if (!may_switch(&w, key, args->values[RESEAL_FORCE] != NULL))
		status = CTL_FAILED;
	if (status == CTL_OK)
		status = make_current(ctl, key);
	if (status == CTL_OK && !reseal_all(&w, key->key.key_id, &outcome, &e))
		status = ctl_fail("keys reseal", &e);
	if (status == CTL_OK)
		say_resealed(ctl, key->key.key_id, &outcome);
	end(&w);
	return status == CTL_OK && outcome.failed > 0 ? CTL_FAILED : status;
}

/* --- retire --- */

static bool retire_body(struct db *db, void *closure, enum problem *ret_problem, struct err *e)
{
	const char *key_id = closure;
	enum retirement retirement;

	*ret_problem = PROBLEM_NONE;
	if (!sealing_key_retire(db, key_id, &retirement, e))
		return false;
	switch (retirement) {
	case RETIRED:
		return true;
	case RETIRE_UNKNOWN:
		return err_set(e, ERR_MISSING, "there is no such key; 'hearthctl keys list' shows them");
	case RETIRE_CURRENT:
		return err_set(
			e, ERR_CONFLICT,
			"it is the current one. Make another with 'hearthctl keys new', copy the key ring to all "
			"hosts, and let it seal with 'hearthctl keys reseal'");
	case RETIRE_IN_USE:
		return err_set(e, ERR_CONFLICT, "values are sealed with it; 'hearthctl keys reseal' seals them anew");
	}
	return false;
}

static enum ctl_exit retire(struct ctl *ctl, const struct ctl_args *args)
{
	char key_id[KEY_ID_SIZE];
	bool was_there = false;
	struct err e = {0};
	struct work w;

	if (!key_id_is_wellformed(args->operand, strlen(args->operand)))
		return ctl_usage(args, "'%s' is not the id of a key", args->operand);
	(void)snprintf(key_id, sizeof(key_id), "%s", args->operand);
	enum ctl_exit status = begin(ctl, &w);
	if (status != CTL_OK)
		return status;
	const struct sealing_key *key = find_key(&w, key_id);
	struct ctl_change change = {.action = "key.retire",
				    .doing = "retiring key",
				    .text = key_id,
				    .body = retire_body,
				    .closure = key_id};
	/* On a further host only the file is left to do. */
	if (!key || key->state != SEALING_RETIRED)
		status = ctl_change_run(ctl, &change);
	if (status == CTL_OK && !remove_from_file(&w, key_id, &was_there, &e))
		status = ctl_fail("keys retire", &e);
	if (status == CTL_OK && ctl->json) {
		struct jval *o = jval_new_object();
		jval_add_string(o, "key_id", key_id);
		jval_add_bool(o, "was_in_file", was_there);
		ctl_print_json(&o);
	} else if (status == CTL_OK) {
		printf("key %s is retired%s\n", key_id, was_there ? ", and out of this host's key ring" : "");
	}
	end(&w);
	return status;
}

const struct ctl_command ctl_keys_commands[] = {
	{
		.noun = "keys",
		.verb = "new",
		.help = "make a sealing key, in this host's key ring (keys.file); prints its id. The first one seals "
			"at once",
		.options = {[NEW_FORCE] = {"force", NULL, "also where this host's key ring lacks others"}},
		.run = make,
	},
	{.noun = "keys", .verb = "list", .help = "show the sealing keys, and how much each seals", .run = list},
	{
		.noun = "keys",
		.verb = "distribute-check",
		.help = "name the running programs that lack a sealing key; status 1 where one does",
		.run = distribute_check,
	},
	{
		.noun = "keys",
		.verb = "reseal",
		.help = "let the newest key seal, and seal all stored secrets anew with it, while the programs work",
		.options = {[RESEAL_FORCE] = {"force", NULL,
					      "also where a running program lacks a key; never where this "
					      "host's own key ring lacks the newest one"}},
		.run = reseal,
	},
	{
		.noun = "keys",
		.verb = "retire",
		.operand = "KEY_ID",
		.help = "end a key that seals nothing any more, and take it out of this host's key ring",
		.run = retire,
	},
	{.noun = NULL},
};
