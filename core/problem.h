/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every refusal that Hearth gives, once: its code, its HTTP status, its title.
 * A function of core/ that can refuse sets *ret_problem (PROBLEM_NONE when it did
 * what was asked) and returns true; it returns false only when the database or
 * the system failed. The code is what clients, audit_log.result and logs show.
 */
#ifndef CORE_PROBLEM_H
#define CORE_PROBLEM_H

#include "lib/err.h"

enum problem {
	PROBLEM_NONE,
	PROBLEM_BAD_JSON,
	PROBLEM_TOO_LARGE,
	PROBLEM_UNSUPPORTED_TYPE,
	PROBLEM_INVALID,
	PROBLEM_UNAUTHORIZED,
	PROBLEM_FORBIDDEN,
	PROBLEM_ORG_MISMATCH,
	PROBLEM_INSTANCE_FORBIDDEN,
	PROBLEM_NOT_FOUND,
	PROBLEM_ORG_NOT_FOUND,
	PROBLEM_INSTANCE_NOT_FOUND,
	PROBLEM_OPERATION_NOT_FOUND,
	PROBLEM_TOKEN_NOT_FOUND,
	PROBLEM_LLM_CONFIG_NOT_FOUND,
	PROBLEM_INSTANCE_DELETED,
	PROBLEM_METHOD_NOT_ALLOWED,
	PROBLEM_ORG_SUSPENDED,
	PROBLEM_INSTANCE_SUSPENDED,
	PROBLEM_QUOTA_INSTANCES,
	PROBLEM_QUOTA_HOT,
	PROBLEM_QUOTA_LLM_CONFIGS,
	PROBLEM_NAME_TAKEN,
	PROBLEM_LLM_CONFIG_IN_USE,
	PROBLEM_NO_SEALING_KEY,
	PROBLEM_CONVERSATION_NOT_FOUND,
	PROBLEM_VERSION_NOT_FOUND,
	PROBLEM_CONVERSATION_BUSY, /* another turn of it is under way */
	PROBLEM_TOO_MANY_TURNS,
	PROBLEM_DB_UNAVAILABLE,
	PROBLEM_BUS_UNAVAILABLE,
	PROBLEM_OUTCOME_UNKNOWN,
	PROBLEM_INSTANCE_NOT_LOADED,
	PROBLEM_INSTANCE_LOADING,
	PROBLEM_INSTANCE_FAILED,
	PROBLEM_WORKER_UNRESPONSIVE,
	PROBLEM_TURN_TIMEOUT,
	PROBLEM_TURN_LIMIT,           /* a bound of the App: hops, tool calls, tokens, bytes */
	PROBLEM_PROVIDER_REFUSED,     /* 4xx, or its address is not allowed: asking again is no use */
	PROBLEM_PROVIDER_FAILED,      /* it answered what is no answer */
	PROBLEM_PROVIDER_UNAVAILABLE, /* not reached, failing, or given a pause by its breaker */
	PROBLEM_PROVIDER_LIMITED,     /* it answered 429 */
	PROBLEM_PROVIDER_TIMEOUT,
	PROBLEM_INTERNAL, /* 500 internal: our mistake; the log has the request id */
	PROBLEM_BUSY,     /* 503 busy: all database connections or threads are taken */
	PROBLEM_COUNT
};

const char *problem_code(enum problem p);  /* "instance_not_loaded"; "ok" for PROBLEM_NONE */
int problem_status(enum problem p);        /* 503; 200 for PROBLEM_NONE */
const char *problem_title(enum problem p); /* short, for people, the same for every occurrence */
bool problem_parse(const char *code, enum problem *ret_p);
/* The one table from an error of ours to what the client is told: ERR_DOWN db_unavailable, ERR_UNCERTAIN
 * outcome_unknown, … */
enum problem problem_of_err(const struct err *e);

#endif
