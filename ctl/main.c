/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hearthctl [--config FILE] [--json] COMMAND …: finds the command's row, reads
 * the command line by it and runs it. Options may stand before or behind the
 * command and its operand; "--" ends them. --check, --dump and --version are
 * every program's and belong to settings_from_args.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ctl.h"
#include "lib/arena.h"
#include "lib/db.h"
#include "lib/log.h"
#include "lib/secret.h"
#include "lib/xalloc.h"

#define MEMORY_MAX ((size_t)64 << 20)
#define FIRST_VALUE 256 /* getopt's number of a command's first option: above every letter */

static const struct ctl_command *const tables[] = {
	ctl_migrate_commands, ctl_org_commands, ctl_token_commands, ctl_keys_commands, ctl_status_commands,
};

struct command_line {
	const char *config;
	bool json, help, is_settings; /* is_settings: --check, --dump or --version */
	struct ctl_args args;
};

/* --- usage --- */

static void print_words(FILE *out, const struct ctl_command *c)
{
	fprintf(out, "%s%s%s%s%s", c->noun, c->verb ? " " : "", c->verb ? c->verb : "", c->operand ? " " : "",
		c->operand ? c->operand : "");
}

/* Of one noun's commands alone, or of all where it is NULL. */
static void print_commands(FILE *out, const char *noun)
{
	for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
		for (const struct ctl_command *c = tables[i]; c->noun; c++) {
			if (noun && strcmp(c->noun, noun) != 0)
				continue;
			fprintf(out, "  ");
			print_words(out, c);
			fprintf(out, "\n        %s\n", c->help);
		}
	}
}

static void print_noun_help(const char *noun)
{
	printf("usage: hearthctl [--config FILE] [--json] %s COMMAND\n\nCommands:\n", noun);
	print_commands(stdout, noun);
	printf("\n'hearthctl %s COMMAND --help' shows a command's options.\n", noun);
}

static char *usage_text(void)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return xstrdup("");
	fprintf(out, "usage: hearthctl [--config FILE] [--json] COMMAND\n\nCommands:\n");
	print_commands(out, NULL);
	fprintf(out, "\nOptions:\n"
		     "  -c, --config FILE  the configuration (else $HEARTH_CONFIG, else the system's)\n"
		     "  --json             results as JSON\n"
		     "  --check [FILE]     validate the configuration, change nothing\n"
		     "  --dump             print the values in force, without secrets\n"
		     "  --version, --help\n\n"
		     "'hearthctl COMMAND --help' shows a command's options. Status: 0 done, 1 failed, 2 wrong use,\n"
		     "3 database not reachable, 4 bus not reachable, 5 wrong schema, 6 outcome unknown.\n");
	(void)fclose(out);
	return text;
}

static void print_usage(FILE *out)
{
	char *text = usage_text();

	fputs(text, out);
	free(text);
}

static void print_help(const struct ctl_command *c)
{
	printf("usage: hearthctl ");
	print_words(stdout, c);
	printf("%s\n\n%s\n", c->options[0].name ? " [OPTION…]" : "", c->help);
	if (c->options[0].name)
		printf("\nOptions:\n");
	for (const struct ctl_option *o = c->options; o->name; o++)
		printf("  --%s%s%s\n        %s\n", o->name, o->value ? " " : "", o->value ? o->value : "", o->help);
}

static int wrong_use(const char *what, const char *word)
{
	fprintf(stderr, "hearthctl: %s%s%s%s\n", what, word ? " '" : "", word ? word : "", word ? "'" : "");
	fprintf(stderr, "Try 'hearthctl --help'.\n");
	return CTL_USAGE;
}

/* --- the command line --- */

/* Words before the command. False: getopt has said what is wrong. */
static bool read_globals(int argc, char **argv, struct command_line *line)
{
	static const struct option known[] = {
		{"config", required_argument, NULL, 'c'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
		{"check", optional_argument, NULL, 's'},
		{"dump", no_argument, NULL, 's'},
		{"version", no_argument, NULL, 's'},
		{NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "+c:hV", known, NULL)) != -1) {
		switch (c) {
		case 'c':
			line->config = optarg;
			break;
		case 'j':
			line->json = true;
			break;
		case 'h':
			line->help = true;
			return true;
		case 's':
		case 'V':
			line->is_settings = true;
			return true;
		default:
			return false;
		}
	}
	return true;
}

/* The row of the words at argv; *ret_words is how many it took. NULL: *ret_has_noun says whether the first is known. */
static const struct ctl_command *find_command(char **argv, int *ret_words, bool *ret_has_noun)
{
	*ret_has_noun = false;
	for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
		for (const struct ctl_command *c = tables[i]; c->noun; c++) {
			if (strcmp(c->noun, argv[0]) != 0)
				continue;
			*ret_has_noun = true;
			*ret_words = c->verb ? 2 : 1;
			if (!c->verb || (argv[1] && strcmp(c->verb, argv[1]) == 0))
				return c;
		}
	}
	return NULL;
}

/* Everything behind the command's words: argv[0] is the last of them. */
static bool read_options(int argc, char **argv, struct command_line *line)
{
	struct option known[CTL_OPTIONS_MAX + 4] = {
		{"config", required_argument, NULL, 'c'},
		{"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},
	};
	const struct ctl_command *command = line->args.command;
	int c;

	for (int i = 0; command->options[i].name; i++)
		known[3 + i] = (struct option){command->options[i].name,
					       command->options[i].value ? required_argument : no_argument, NULL,
					       FIRST_VALUE + i};
	optind = 0;
	while ((c = getopt_long(argc, argv, "c:h", known, NULL)) != -1) {
		if (c == 'c')
			line->config = optarg;
		else if (c == 'j')
			line->json = true;
		else if (c == 'h')
			line->help = true;
		else if (c >= FIRST_VALUE)
			line->args.values[c - FIRST_VALUE] = optarg ? optarg : "";
		else
			return false;
	}
	return true;
}

/* The operand that the command wants, no more. */
static bool read_operand(int argc, char **argv, struct ctl_args *args)
{
	int count = argc - optind, wanted = args->command->operand ? 1 : 0;

	if (count > wanted) {
		(void)ctl_usage(args, "'%s' is not expected", argv[optind + wanted]);
		return false;
	}
	if (count < wanted) {
		(void)ctl_usage(args, "%s is missing", args->command->operand);
		return false;
	}
	args->operand = wanted > 0 ? argv[optind] : NULL;
	return true;
}

/* --- run --- */

static int run_command(const struct command_line *line)
{
	struct ctl ctl = {.json = line->json};
	struct err e = {0};
	int status = CTL_FAILED;

	if (!db_library_init(&e) || !secret_init(&e) ||
	    !settings_load(line->config, SETTINGS_CTL, &ctl.settings, NULL, &e)) {
		fprintf(stderr, "hearthctl: %s\n", e.text);
		return CTL_FAILED;
	}
	log_open("hearthctl", ctl.settings.log.level, LOG_TARGET_STDERR);
	ctl.mem = arena_new(MEMORY_MAX);
	status = (int)line->args.command->run(&ctl, &line->args);
	db_close(&ctl.db);
	arena_free(&ctl.mem);
	settings_clear(&ctl.settings);
	db_library_end();
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "hearthctl: the result could not be written\n");
		return status == CTL_OK ? CTL_FAILED : status;
	}
	return status;
}

/* --check, --dump, --version: the whole line is theirs. */
static int run_settings(int argc, char **argv)
{
	char *usage = usage_text();
	struct settings settings;
	int status = CTL_USAGE;

	if (settings_from_args(argc, argv, SETTINGS_CTL, usage, &settings, &status))
		settings_clear(&settings);
	free(usage);
	return status;
}

/* argv: the command's words and what follows. */
static int find_and_run(int argc, char **argv, struct command_line *line)
{
	static char program[] = "hearthctl";
	bool has_noun;
	int words;

	line->args.command = find_command(argv, &words, &has_noun);
	if (!line->args.command && has_noun && argv[1] &&
	    (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		print_noun_help(argv[0]);
		return CTL_OK;
	}
	if (!line->args.command && has_noun)
		return wrong_use(argv[1] ? "there is no such subcommand:" : "a subcommand is missing behind",
				 argv[1] ? argv[1] : argv[0]);
	if (!line->args.command)
		return wrong_use("there is no such command:", argv[0]);
	argv[words - 1] = program; /* getopt's name for us */
	if (!read_options(argc - words + 1, argv + words - 1, line))
		return ctl_usage(&line->args, "wrong option");
	if (line->help) {
		print_help(line->args.command);
		return CTL_OK;
	}
	if (!read_operand(argc - words + 1, argv + words - 1, &line->args))
		return CTL_USAGE;
	return run_command(line);
}

int main(int argc, char **argv)
{
	struct command_line line = {0};

	if (!read_globals(argc, argv, &line))
		return wrong_use("wrong option before the command", NULL);
	if (line.is_settings)
		return run_settings(argc, argv);
	if (line.help) {
		print_usage(stdout);
		return CTL_OK;
	}
	if (optind == argc) {
		print_usage(stderr);
		return CTL_USAGE;
	}
	return find_and_run(argc - optind, argv + optind, &line);
}
