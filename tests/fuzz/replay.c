/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_<parser> [FILE...]: runs the target on each file, without names on every file of its corpus, and on each of its
 * prefixes of up to PREFIX_BYTES: what was cut short is the commonest broken input. The last name printed is the one
 * that failed.
 */
#include <dirent.h>
#include <stdbool.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

#define FILE_BYTES_MAX (4 * 1024 * 1024)
#define PREFIX_BYTES 256
#define PATH_SIZE 4096

/* In a block of its very size, so that a sanitizer sees a read past the end. */
static void run_on(const char *bytes, size_t len)
{
	uint8_t *exact = malloc(len > 0 ? len : 1);

	MUST(exact);
	memcpy(exact, bytes, len);
	(void)LLVMFuzzerTestOneInput(exact, len);
	free(exact);
}

static void replay(const char *path)
{
	char *bytes = malloc(FILE_BYTES_MAX);
	FILE *f = fopen(path, "rb");

	printf("%s\n", path);
	(void)fflush(stdout);
	MUST(bytes && f);
	size_t len = fread(bytes, 1, FILE_BYTES_MAX, f);
	MUST(len < FILE_BYTES_MAX && !ferror(f));
	(void)fclose(f);
	run_on(bytes, len);
	for (size_t part = 0; part < len && part < PREFIX_BYTES; part++)
		run_on(bytes, part);
	free(bytes);
}

/* How many there were. */
static unsigned replay_folder(const char *folder)
{
	DIR *dir = opendir(folder);
	const struct dirent *entry;
	char path[PATH_SIZE];
	unsigned count = 0;

	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		MUST(snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) < (int)sizeof(path));
		replay(path);
		count++;
	}
	if (dir)
		(void)closedir(dir);
	return count;
}

int main(int argc, char **argv)
{
	const char *name = strstr(argv[0], "fuzz_");
	char folder[PATH_SIZE];

	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	if (argc > 1)
		return EXIT_SUCCESS;
	for (const char *later = name; later; later = strstr(later + 1, "fuzz_"))
		name = later;
	MUST(name && snprintf(folder, sizeof(folder), "%s/%s", FUZZ_CORPUS, name + 5) < (int)sizeof(folder));
	unsigned count = replay_folder(folder);
	printf("%u inputs\n", count);
	return count > 0 ? EXIT_SUCCESS : EXIT_FAILURE; /* a corpus that is not found is no success */
}
