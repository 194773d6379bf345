/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration from a typed table. libinih cuts the lines into section, key
 * and value; its reader callback is ours, which gives three things it lacks:
 * the line number while a key is handled, a refusal of lines it would split,
 * and section names that are checked even when no key follows. Lines reach it
 * without leading blanks, so that none is taken as a continuation.
 * Only the first error is reported. A value of a secret is never in a message.
 */
#include "lib/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ini.h>

#include "lib/secret.h"
#include "lib/xalloc.h"

#define NAME_SIZE 128
#define SECRET_MAX_BYTES 4096
#define SUGGEST_DISTANCE 3

struct reading {
	const struct conf_option *table;
	size_t count;
	void *settings;
	const char *path;
	FILE *file;
	int line;
	bool *was_set; /* per option: its key stood in this file */
	bool failed;
	struct err *e;
};

/* --- fields --- */

static void *field(const struct conf_option *option, void *settings)
{
	return (char *)settings + option->offset;
}

static const void *const_field(const struct conf_option *option, const void *settings)
{
	return (const char *)settings + option->offset;
}

static void free_string(const struct conf_option *option, char **s)
{
	if (*s && option->flags & CONF_SECRET)
		secret_wipe(*s, strlen(*s));
	free(*s);
	*s = NULL;
}

static bool set_string(const struct conf_option *option, const char *text, char **ret_s, struct err *e)
{
	if (text && option->max > 0 && strlen(text) > (size_t)option->max)
		return err_set(e, ERR_INPUT, "%s: longer than %" PRId64 " characters", option->name, option->max);
	free_string(option, ret_s);
	*ret_s = text ? xstrdup(text) : NULL;
	return true;
}

static bool set_int(const struct conf_option *option, const char *text, int64_t *ret_n, struct err *e)
{
	char *end;

	errno = 0;
	long long n = strtoll(text, &end, 10);
	if (end == text || *end != '\0' || errno == ERANGE || n < option->min || n > option->max)
		return err_set(e, ERR_INPUT, "%s: not a whole number from %" PRId64 " to %" PRId64 ": '%.40s'",
			       option->name, option->min, option->max, text);
	*ret_n = n;
	return true;
}

static bool set_bool(const struct conf_option *option, const char *text, bool *ret_b, struct err *e)
{
	static const char *const yes[] = {"yes", "true", "on", "1"};
	static const char *const no[] = {"no", "false", "off", "0"};

	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		if (strcasecmp(text, yes[i]) != 0 && strcasecmp(text, no[i]) != 0)
			continue;
		*ret_b = strcasecmp(text, yes[i]) == 0;
		return true;
	}
	return err_set(e, ERR_INPUT, "%s: neither yes nor no: '%.40s'", option->name, text);
}

static bool set_enum(const struct conf_option *option, const char *text, int *ret_index, struct err *e)
{
	char known[128] = "";

	for (int i = 0; option->names[i]; i++) {
		if (strcmp(text, option->names[i]) == 0) {
			*ret_index = i;
			return true;
		}
		size_t used = strlen(known);
		(void)snprintf(known + used, sizeof(known) - used, "%s%s", i > 0 ? ", " : "", option->names[i]);
	}
	return err_set(e, ERR_INPUT, "%s: '%.40s' is none of: %s", option->name, text, known);
}

static bool set_field(const struct conf_option *option, const char *text, void *settings, struct err *e)
{
	switch (option->type) {
	case CONF_STRING:
		return set_string(option, text, field(option, settings), e);
	case CONF_INT:
		return set_int(option, text, field(option, settings), e);
	case CONF_BOOL:
		return set_bool(option, text, field(option, settings), e);
	case CONF_ENUM:
		return set_enum(option, text, field(option, settings), e);
	}
	return err_set(e, ERR_INTERNAL, "%s: unknown type", option->name);
}

bool conf_defaults(const struct conf_option *table, size_t count, void *settings, struct err *e)
{
	for (size_t i = 0; i < count; i++) {
		if (!table[i].default_text && table[i].type != CONF_STRING)
			return err_set(e, ERR_INTERNAL, "%s: has no default", table[i].name);
		if (!set_field(&table[i], table[i].default_text, settings, e))
			return err_ctx(e, "default");
	}
	return true;
}

void conf_clear(const struct conf_option *table, size_t count, void *settings)
{
	for (size_t i = 0; i < count; i++) {
		if (table[i].type == CONF_STRING)
			free_string(&table[i], field(&table[i], settings));
	}
}

/* --- names --- */

static size_t section_len(const char *name)
{
	return strcspn(name, ".");
}

static bool is_section(const struct reading *r, const char *section, size_t len)
{
	for (size_t i = 0; i < r->count; i++) {
		if (section_len(r->table[i].name) == len && memcmp(r->table[i].name, section, len) == 0)
			return true;
	}
	return false;
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* How many letters must be changed, added or taken away to make b of a (Levenshtein). */
static size_t distance(const char *a, const char *b)
{
	size_t row[NAME_SIZE];
	size_t width = strnlen(b, NAME_SIZE - 1);

	for (size_t j = 0; j <= width; j++)
		row[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t diagonal = row[0];
		row[0] = i + 1;
		for (size_t j = 0; j < width; j++) {
			size_t changed = diagonal + (a[i] != b[j]);
			diagonal = row[j + 1];
			row[j + 1] = min_size(changed, min_size(row[j], diagonal) + 1);
		}
	}
	return row[width];
}

/* The known name that was probably meant, NULL if none is close. */
static const char *nearest_name(const struct reading *r, const char *name)
{
	const char *best = NULL;
	size_t best_distance = SUGGEST_DISTANCE + 1;

	for (size_t i = 0; i < r->count; i++) {
		size_t d = distance(name, r->table[i].name);
		if (d < best_distance) {
			best = r->table[i].name;
			best_distance = d;
		}
	}
	return best;
}

/* --- reading --- */

/* Keeps the first error, with its place in front. Returns 0, which inih takes as an error. */
static int fail_here(struct reading *r, const struct err *why)
{
	if (!r->failed)
		err_set(r->e, why->code, "%s:%d: %s", r->path, r->line, why->text);
	r->failed = true;
	return 0;
}

static int unknown_key(struct reading *r, const char *name)
{
	const char *meant = nearest_name(r, name);
	struct err why;

	if (meant)
		err_set(&why, ERR_INPUT, "unknown key '%s', did you mean '%s'?", name, meant);
	else
		err_set(&why, ERR_INPUT, "unknown key '%s'", name);
	return fail_here(r, &why);
}

static int on_key(void *closure, const char *section, const char *key, const char *value)
{
	struct reading *r = closure;
	char name[NAME_SIZE];
	struct err why;
	size_t i = 0;

	(void)snprintf(name, sizeof(name), "%s.%s", section, key);
	while (i < r->count && strcmp(r->table[i].name, name) != 0)
		i++;
	if (i == r->count)
		return unknown_key(r, name);
	if (r->was_set[i]) {
		err_set(&why, ERR_INPUT, "%s: given twice", name);
		return fail_here(r, &why);
	}
	r->was_set[i] = true;
	if (!set_field(&r->table[i], value, r->settings, &why))
		return fail_here(r, &why);
	return 1;
}

static void check_section(struct reading *r, const char *line)
{
	size_t len = strcspn(line + 1, "]");
	struct err why;

	if (line[1 + len] != ']' || is_section(r, line + 1, len))
		return;
	err_set(&why, ERR_INPUT, "unknown section '%.*s'", (int)len, line + 1);
	(void)fail_here(r, &why);
}

/* inih's source of lines; NULL ends the reading. */
static char *next_line(char *line, int size, void *closure)
{
	struct reading *r = closure;
	struct err why;

	if (r->failed || !fgets(line, size, r->file))
		return NULL;
	r->line++;
	if (!strchr(line, '\n') && !feof(r->file)) {
		err_set(&why, ERR_INPUT, "longer than %d characters", size - 2);
		(void)fail_here(r, &why);
		return NULL;
	}
	size_t blanks = strspn(line, " \t");
	memmove(line, line + blanks, strlen(line + blanks) + 1);
	if (line[0] == '[')
		check_section(r, line);
	return line;
}

bool conf_read_file(const struct conf_option *table, size_t count, const char *path, void *settings, struct err *e)
{
	struct reading r = {.table = table, .count = count, .settings = settings, .path = path, .e = e};

	r.file = fopen(path, "re");
	if (!r.file)
		return err_set(e, errno == ENOENT ? ERR_MISSING : ERR_DENIED, "%s: %s", path, strerror(errno));
	r.was_set = xcalloc(count, sizeof(*r.was_set));
	int bad_line = ini_parse_stream(next_line, &r, on_key, &r);
	if (!r.failed && ferror(r.file))
		r.failed = !err_set(e, ERR_INTERNAL, "%s: cannot be read", path);
	if (!r.failed && bad_line != 0)
		r.failed = !err_set(e, ERR_INPUT, "%s:%d: neither 'key = value' nor '[section]'", path, bad_line);
	free(r.was_set);
	(void)fclose(r.file);
	return !r.failed;
}

/* --- dump --- */

static void dump_value(const struct conf_option *option, const void *settings, FILE *out)
{
	const char *key = option->name + section_len(option->name) + 1;
	const void *value = const_field(option, settings);
	const char *s;

	switch (option->type) {
	case CONF_STRING:
		s = *(const char *const *)value;
		if (option->flags & CONF_SECRET)
			(void)fprintf(out, "# %s is %s\n", key, s && s[0] ? "set" : "not set");
		else
			(void)fprintf(out, "%s%s = %s\n", s ? "" : "# ", key, s ? s : "");
		break;
	case CONF_INT:
		(void)fprintf(out, "%s = %" PRId64 "\n", key, *(const int64_t *)value);
		break;
	case CONF_BOOL:
		(void)fprintf(out, "%s = %s\n", key, *(const bool *)value ? "yes" : "no");
		break;
	case CONF_ENUM:
		(void)fprintf(out, "%s = %s\n", key, option->names[*(const int *)value]);
		break;
	}
}

void conf_dump(const struct conf_option *table, size_t count, const void *settings, FILE *out)
{
	const char *section = "";

	for (size_t i = 0; i < count; i++) {
		size_t len = section_len(table[i].name);
		if (len != section_len(section) || strncmp(section, table[i].name, len) != 0)
			(void)fprintf(out, "%s[%.*s]\n", i > 0 ? "\n" : "", (int)len, table[i].name);
		section = table[i].name;
		(void)fprintf(out, "# %s\n", table[i].help);
		dump_value(&table[i], settings, out);
	}
}

/* --- secret files --- */

static bool check_secret_file(int fd, const char *path, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return err_set(e, ERR_INTERNAL, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_INPUT, "%s: not a regular file", path);
	if (st.st_mode & 077 & ~(mode_t)S_IRGRP)
		return err_set(e, ERR_DENIED, "%s: mode %03o gives it to others, use 0600 or 0640", path,
			       (unsigned)st.st_mode & 0777);
	return true;
}

/* Up to size bytes; false on a read error. */
static bool read_fully(int fd, char *bytes, size_t size, size_t *ret_len)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(fd, bytes + len, size - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	*ret_len = len;
	return true;
}

/* The length of the first line, without a carriage return. */
static size_t first_line_len(const char *bytes, size_t len)
{
	const char *newline = memchr(bytes, '\n', len);

	if (newline)
		len = (size_t)(newline - bytes);
	return len > 0 && bytes[len - 1] == '\r' ? len - 1 : len;
}

/* The descriptor; -1: e. */
static int open_secret_file(const char *path, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0) {
		err_set(e, errno == ENOENT ? ERR_MISSING : ERR_DENIED, "%s: %s", path, strerror(errno));
		return -1;
	}
	if (check_secret_file(fd, path, e))
		return fd;
	(void)close(fd);
	return -1;
}

bool conf_read_secret_text(const char *path, size_t bytes_max, char **ret_text, size_t *ret_len, struct err *e)
{
	int fd = open_secret_file(path, e);
	size_t len = 0;

	if (fd < 0)
		return false;
	char *bytes = xcalloc(1, bytes_max + 1); /* one more: to see that it is too long, and for the NUL */
	bool ok = read_fully(fd, bytes, bytes_max + 1, &len);
	if (!ok)
		err_set(e, ERR_INTERNAL, "%s: %s", path, strerror(errno));
	else if (len > bytes_max)
		ok = err_set(e, ERR_INPUT, "%s: longer than %zu bytes", path, bytes_max);
	(void)close(fd);
	if (!ok) {
		secret_free(&bytes, len);
		return false;
	}
	*ret_text = bytes;
	*ret_len = len;
	return true;
}

bool conf_read_secret(const char *path, char **ret_secret, struct err *e)
{
	char bytes[SECRET_MAX_BYTES + 2]; /* two more: a newline, and to see that it is too long */
	int fd = open_secret_file(path, e);
	bool ok = false;
	size_t len;

	if (fd < 0)
		return false;
	if (!read_fully(fd, bytes, sizeof(bytes), &len)) {
		err_set(e, ERR_INTERNAL, "%s: %s", path, strerror(errno));
		goto out;
	}
	len = first_line_len(bytes, len);
	if (len == 0 || len > SECRET_MAX_BYTES || memchr(bytes, '\0', len)) {
		err_set(e, ERR_INPUT, "%s: the first line is not a text of 1 to %d bytes", path, SECRET_MAX_BYTES);
		goto out;
	}
	*ret_secret = xmemdup(bytes, len);
	ok = true;
out:
	secret_wipe(bytes, sizeof(bytes));
	(void)close(fd);
	return ok;
}
