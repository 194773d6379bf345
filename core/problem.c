/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of refusals. Codes and statuses are a promise to clients; titles
 * are for people and may be reworded. The text of an error never reaches a
 * client: problem_of_err() turns its code, and only that, into a refusal.
 */
#include "core/problem.h"

#include <stddef.h>
#include <string.h>

static const struct {
	const char *code;
	int status;
	const char *title;
} problems[PROBLEM_COUNT] = {
	[PROBLEM_NONE] = {"ok", 200, "OK"},
	[PROBLEM_BAD_JSON] = {"bad_json", 400, "The body is not valid JSON"},
	[PROBLEM_TOO_LARGE] = {"too_large", 413, "The body is too large"},
	[PROBLEM_UNSUPPORTED_TYPE] = {"unsupported_type", 415, "The body's media type is not supported"},
	[PROBLEM_INVALID] = {"invalid", 422, "Some fields are not valid"},
	[PROBLEM_UNAUTHORIZED] = {"unauthorized", 401, "A valid token is needed"},
	[PROBLEM_FORBIDDEN] = {"forbidden", 403, "The token's role does not permit this"},
	[PROBLEM_ORG_MISMATCH] = {"org_mismatch", 403, "The token belongs to another organization"},
	[PROBLEM_INSTANCE_FORBIDDEN] = {"instance_forbidden", 403, "The AI App belongs to another organization"},
	[PROBLEM_NOT_FOUND] = {"not_found", 404, "There is nothing at this address"},
	[PROBLEM_ORG_NOT_FOUND] = {"org_not_found", 404, "There is no such organization"},
	[PROBLEM_INSTANCE_NOT_FOUND] = {"instance_not_found", 404, "There is no such AI App"},
	[PROBLEM_OPERATION_NOT_FOUND] = {"operation_not_found", 404, "There is no such operation"},
	[PROBLEM_TOKEN_NOT_FOUND] = {"token_not_found", 404, "There is no such token"},
	[PROBLEM_LLM_CONFIG_NOT_FOUND] = {"llm_config_not_found", 404, "There is no such LLM config"},
	[PROBLEM_INSTANCE_DELETED] = {"instance_deleted", 410, "The AI App was deleted"},
	[PROBLEM_METHOD_NOT_ALLOWED] = {"method_not_allowed", 405, "The method is not allowed here"},
	[PROBLEM_ORG_SUSPENDED] = {"org_suspended", 409, "The organization is suspended"},
	[PROBLEM_INSTANCE_SUSPENDED] = {"instance_suspended", 409, "The AI App is suspended"},
	[PROBLEM_QUOTA_INSTANCES] = {"quota_instances", 409, "The organization's quota of AI Apps is used up"},
	[PROBLEM_QUOTA_HOT] = {"quota_hot", 409, "The organization's quota of hot AI Apps is used up"},
	[PROBLEM_QUOTA_LLM_CONFIGS] = {"quota_llm_configs", 409, "The organization has as many LLM configs as it may"},
	[PROBLEM_NAME_TAKEN] = {"name_taken", 409, "The name is taken"},
	[PROBLEM_LLM_CONFIG_IN_USE] = {"llm_config_in_use", 409, "AI Apps use the LLM config"},
	[PROBLEM_NO_SEALING_KEY] = {"no_sealing_key", 409, "There is no key to seal secrets with"},
	[PROBLEM_CONVERSATION_NOT_FOUND] = {"conversation_not_found", 404, "There is no such conversation"},
	[PROBLEM_VERSION_NOT_FOUND] = {"version_not_found", 404, "There is no such version of the AI App"},
	[PROBLEM_CONVERSATION_BUSY] = {"conversation_busy", 409, "Another turn of the conversation is under way"},
	[PROBLEM_TOO_MANY_TURNS] = {"too_many_turns", 429, "Too many turns are in flight"},
	[PROBLEM_DB_UNAVAILABLE] = {"db_unavailable", 503, "The database is not reachable"},
	[PROBLEM_BUS_UNAVAILABLE] = {"bus_unavailable", 503, "The message bus is not reachable"},
	[PROBLEM_OUTCOME_UNKNOWN] = {"outcome_unknown", 503, "Whether the change was made is not known"},
	[PROBLEM_INSTANCE_NOT_LOADED] = {"instance_not_loaded", 503, "The AI App is not loaded"},
	[PROBLEM_INSTANCE_LOADING] = {"instance_loading", 503, "The AI App is still loading"},
	[PROBLEM_INSTANCE_FAILED] = {"instance_failed", 503, "The AI App could not be loaded"},
	[PROBLEM_WORKER_UNRESPONSIVE] = {"worker_unresponsive", 503, "The worker does not answer"},
	[PROBLEM_TURN_TIMEOUT] = {"turn_timeout", 504, "The turn took too long"},
	[PROBLEM_TURN_LIMIT] = {"turn_limit", 500, "The turn met a bound of the AI App"},
	[PROBLEM_PROVIDER_REFUSED] = {"provider_refused", 502, "The model provider refused"},
	[PROBLEM_PROVIDER_FAILED] = {"provider_failed", 502, "The model provider failed"},
	[PROBLEM_PROVIDER_UNAVAILABLE] = {"provider_unavailable", 503, "The model provider is not available"},
	[PROBLEM_PROVIDER_LIMITED] = {"provider_limited", 429, "The model provider limits requests"},
	[PROBLEM_PROVIDER_TIMEOUT] = {"provider_timeout", 504, "The model provider took too long"},
	[PROBLEM_INTERNAL] = {"internal", 500, "An internal error occurred"},
	[PROBLEM_BUSY] = {"busy", 503, "The server is busy"},
};

static size_t row_of(enum problem p)
{
	return (size_t)p < PROBLEM_COUNT ? (size_t)p : PROBLEM_INTERNAL;
}

const char *problem_code(enum problem p)
{
	return problems[row_of(p)].code;
}

int problem_status(enum problem p)
{
	return problems[row_of(p)].status;
}

const char *problem_title(enum problem p)
{
	return problems[row_of(p)].title;
}

bool problem_parse(const char *code, enum problem *ret_p)
{
	for (size_t i = 0; code && i < PROBLEM_COUNT; i++) {
		if (strcmp(problems[i].code, code) == 0) {
			*ret_p = (enum problem)i;
			return true;
		}
	}
	return false;
}

enum problem problem_of_err(const struct err *e)
{
	switch (e->code) {
	case ERR_NONE:
		return PROBLEM_NONE;
	case ERR_INPUT:
		return PROBLEM_INVALID;
	case ERR_LIMIT:
		return PROBLEM_TOO_LARGE;
	case ERR_CONFLICT: /* a transaction that was retried in vain */
	case ERR_BUSY:
	case ERR_TIMEOUT:
		return PROBLEM_BUSY;
	case ERR_DENIED:  /* the database refuses our login … */
	case ERR_MISSING: /* … or has no schema: the operator's to mend, not the client's */
	case ERR_DOWN:
		return PROBLEM_DB_UNAVAILABLE;
	case ERR_UNCERTAIN:
		return PROBLEM_OUTCOME_UNKNOWN;
	case ERR_INTERNAL:
		break;
	}
	return PROBLEM_INTERNAL;
}
