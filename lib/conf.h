/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration files from one typed table (core/settings.c has Hearth's).
 * The syntax is INI, read with libinih: [section], key = value, ; or # comments.
 * An option is named "section.key". Unknown keys, values out of range, keys given
 * twice and sections misspelt are errors that name file and line.
 */
#ifndef LIB_CONF_H
#define LIB_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "lib/err.h"

enum conf_type {
	CONF_STRING, /* char *, owned by the settings; NULL where the default is NULL */
	CONF_INT,    /* int64_t */
	CONF_BOOL,   /* bool; yes/no, true/false, on/off, 1/0 */
	CONF_ENUM    /* int, index into names */
};

enum conf_flag {
	CONF_RELOAD = 1, /* taken over on SIGHUP */
	CONF_SECRET = 2  /* CONF_STRING: dump shows only whether it is set; wiped by conf_clear */
};

struct conf_option {
	const char *name; /* "section.key" */
	enum conf_type type;
	size_t offset; /* of the field in the settings struct */
	const char *default_text;
	int64_t min, max;         /* CONF_INT; CONF_STRING: max is the longest length */
	const char *const *names; /* CONF_ENUM, NULL-terminated */
	unsigned flags;
	const char *help; /* one line, with the unit */
};

/* Sets every field to its default. settings points to zeroed memory. */
bool conf_defaults(const struct conf_option *table, size_t count, void *settings, struct err *e) MUST_CHECK;
/* Reads the file over the present values. */
bool conf_read_file(const struct conf_option *table, size_t count, const char *path, void *settings,
		    struct err *e) MUST_CHECK;
/* Frees the strings. */
void conf_clear(const struct conf_option *table, size_t count, void *settings);
/* Effective values as a configuration file with the help lines as comments; secrets are not in it. */
void conf_dump(const struct conf_option *table, size_t count, const void *settings, FILE *out);
/* The first line of a secret file, without its newline, at most 4 KiB. Refuses a file that others may read
 * (mode & 077 other than group-read). Malloc'd; the caller wipes and frees it. */
bool conf_read_secret(const char *path, char **ret_secret, struct err *e) MUST_CHECK;
/* The whole of such a file, up to bytes_max, with a NUL behind it: give it to secret_free. */
bool conf_read_secret_text(const char *path, size_t bytes_max, char **ret_text, size_t *ret_len,
			   struct err *e) MUST_CHECK;

#endif
