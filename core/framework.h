/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pure half of the orchestrator factory: names, modes and the check of a
 * configuration, so that the app answers 422 from it. The half that builds and
 * runs is worker/framework/. A further framework is one entry in framework.c
 * and one file there.
 */
#ifndef CORE_FRAMEWORK_H
#define CORE_FRAMEWORK_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/err.h"
#include "lib/id.h"

struct jval;

#define FRAMEWORK_DEFAULT "echo"
#define FRAMEWORK_AGENT "agent"

/* One field that is wrong: both strings are constants or live as long as config. */
struct field_error {
	const char *field;  /* "config.word_delay_ms" */
	const char *reason; /* "must be an integer from 0 to 60000" */
	const char *member; /* of field, in the client's own words: borrowed from the config; NULL: field itself */
};

struct framework {
	const char *name;
	const char *const *modes; /* NULL-terminated; the first is the default */
	/* Fills up to max errors, returns how many there are; 0: the config is good. config is an object. */
	size_t (*check)(const struct jval *config, struct field_error *errors, size_t max);
};

const struct framework *framework_find(const char *name); /* NULL: unknown */
const struct framework *framework_at(size_t i);           /* NULL past the last */
/* The LLM config that a configuration names, as it stands there; NULL: none, or the framework uses none. */
const char *framework_llm_config_id(const char *framework, const struct jval *config);
/* The same of a configuration's text, "" where there is none that could be one. */
struct id framework_llm_config_of(const char *framework, const char *config);
bool framework_has_mode(const struct framework *f, const char *mode);

/* `echo`'s configuration, with defaults for what is absent. Strings are borrowed from config. */
struct echo_config {
	const char *prefix;
	int word_delay_ms;
	int build_delay_ms;
	const char *build_fail; /* NULL: the build succeeds; else the reason */
};
void echo_config_read(const struct jval *config, struct echo_config *ret_config);

#endif
