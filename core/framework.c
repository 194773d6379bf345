/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of frameworks and the checks of their configurations. A check looks
 * at each field; one that it does not know is refused by its name. To add a
 * framework: a check, a list of modes and a row here, a reader of its
 * configuration for the worker, and its file in worker/framework/.
 */
#include "core/framework.h"

#include <stdint.h>
#include <string.h>

#include "core/agent_config.h"
#include "core/framework_private.h"
#include "lib/json.h"
#include "lib/macros.h"

#define ECHO_PREFIX_MAX 16384
#define ECHO_WORD_DELAY_MAX 60000
#define ECHO_BUILD_DELAY_MAX 600000
#define ECHO_BUILD_FAIL_MAX 255
#define CONFIG_BYTES_MAX ((size_t)16 * 1024 * 1024) /* of one that was accepted already */
#define CONFIG_DEPTH_MAX 64

void error_list_add_member(struct error_list *list, const char *field, const char *member, const char *reason)
{
	if (list->count < list->max)
		list->errors[list->count] = (struct field_error){field, reason, member};
	list->count++;
}

void error_list_add(struct error_list *list, const char *field, const char *reason)
{
	error_list_add_member(list, field, NULL, reason);
}

static bool is_string_of(const struct jval *v, size_t min, size_t max)
{
	size_t len;

	return jval_string(v, &len) && len >= min && len <= max;
}

static bool is_int_from_0_to(const struct jval *v, int64_t max)
{
	return jval_type(v) == JVAL_INT && jval_int(v) >= 0 && jval_int(v) <= max;
}

struct unknown_search {
	const char *const *known; /* NULL-terminated */
	struct error_list *list;
	const char *field;
};

static bool is_known(void *closure, const char *key, struct jval *v)
{
	struct unknown_search *search = closure;

	(void)v;
	for (size_t i = 0; search->known[i]; i++)
		if (strcmp(search->known[i], key) == 0)
			return true;
	error_list_add_member(search->list, search->field, key, "is not a field of this framework");
	return search->list->count < search->list->max;
}

void error_list_refuse_unknown(struct error_list *list, const struct jval *object, const char *const *known,
			       const char *field)
{
	struct unknown_search search = {.known = known, .list = list, .field = field};

	if (jval_type(object) == JVAL_NULL)
		return;
	if (jval_type(object) != JVAL_OBJECT) {
		error_list_add(list, field, "must be an object");
		return;
	}
	jval_each(object, is_known, &search);
}

static size_t echo_check(const struct jval *config, struct field_error *errors, size_t max)
{
	static const char *const known[] = {"prefix", "word_delay_ms", "build_delay_ms", "build_fail", NULL};
	struct error_list list = {errors, max, 0};
	const struct jval *fail = jval_get(config, "build_fail");

	if (jval_has(config, "prefix") && !is_string_of(jval_get(config, "prefix"), 0, ECHO_PREFIX_MAX))
		error_list_add(&list, "config.prefix", "must be a string of at most 16384 bytes");
	if (jval_has(config, "word_delay_ms") &&
	    !is_int_from_0_to(jval_get(config, "word_delay_ms"), ECHO_WORD_DELAY_MAX))
		error_list_add(&list, "config.word_delay_ms", "must be an integer from 0 to 60000");
	if (jval_has(config, "build_delay_ms") &&
	    !is_int_from_0_to(jval_get(config, "build_delay_ms"), ECHO_BUILD_DELAY_MAX))
		error_list_add(&list, "config.build_delay_ms", "must be an integer from 0 to 600000");
	if (jval_type(fail) != JVAL_NULL && !is_string_of(fail, 1, ECHO_BUILD_FAIL_MAX))
		error_list_add(&list, "config.build_fail", "must be null or a string of 1 to 255 bytes");
	error_list_refuse_unknown(&list, config, known, "config");
	return list.count;
}

void echo_config_read(const struct jval *config, struct echo_config *ret_config)
{
	const char *prefix = jval_string(jval_get(config, "prefix"), NULL);

	*ret_config = (struct echo_config){
		.prefix = prefix ? prefix : "",
		.word_delay_ms = (int)jval_int(jval_get(config, "word_delay_ms")),
		.build_delay_ms = (int)jval_int(jval_get(config, "build_delay_ms")),
		.build_fail = jval_string(jval_get(config, "build_fail"), NULL),
	};
}

const char *framework_llm_config_id(const char *framework, const struct jval *config)
{
	return strcmp(framework, FRAMEWORK_AGENT) == 0 ? jval_string(jval_get(config, "llm_config_id"), NULL) : NULL;
}

struct id framework_llm_config_of(const char *framework, const char *config)
{
	const struct json_limits limits = {.bytes_max = CONFIG_BYTES_MAX, .depth_max = CONFIG_DEPTH_MAX};
	struct jval *parsed = NULL;
	struct id id = {""};
	const char *text;

	if (strcmp(framework, FRAMEWORK_AGENT) != 0 || !jval_parse(config, strlen(config), &limits, &parsed, NULL))
		return id;
	text = framework_llm_config_id(framework, parsed);
	if (text)
		(void)id_parse(text, strlen(text), &id);
	jval_free(&parsed);
	return id;
}

static const char *const single_only[] = {"single", NULL};

static const struct framework frameworks[] = {
	{.name = FRAMEWORK_DEFAULT, .modes = single_only, .check = echo_check},
	{.name = FRAMEWORK_AGENT, .modes = single_only, .check = agent_config_check},
};

const struct framework *framework_find(const char *name)
{
	for (size_t i = 0; name && i < ARRAY_LEN(frameworks); i++)
		if (strcmp(frameworks[i].name, name) == 0)
			return &frameworks[i];
	return NULL;
}

const struct framework *framework_at(size_t i)
{
	return i < ARRAY_LEN(frameworks) ? &frameworks[i] : NULL;
}

bool framework_has_mode(const struct framework *f, const char *mode)
{
	for (size_t i = 0; mode && f->modes[i]; i++)
		if (strcmp(f->modes[i], mode) == 0)
			return true;
	return false;
}
