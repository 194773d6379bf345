/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a handler answers. It fills one of these and returns NEXT_SEND; the
 * serving loop sends it with the headers that every response has. A stream
 * writes by itself, beginning with response_begin_stream, and returns NEXT_SENT.
 */
#ifndef FCGI_APP_RESPONSE_H
#define FCGI_APP_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/problem.h"
#include "lib/macros.h"

struct field_errors;
struct jval;
struct request;

enum next { NEXT_SEND, NEXT_SENT, NEXT_FAIL /* err says why; the table of problem.c says what the client is told */ };

struct response {
	int status;
	enum problem problem; /* not PROBLEM_NONE: a problem document is sent */
	const char *detail;   /* of the problem: a constant, or in the request's arena; never an error's text */
	const char *reason;   /* of the problem: an App's stored reason */
	const char *param;    /* of the problem, below /v1: the field that is wrong */
	const struct field_errors *errors;
	const char *extra_name; /* of the problem: one more member, and what it holds */
	struct jval *extra;     /* owned */
	struct jval *json;      /* owned */
	const char *location;   /* below base_path */
	const char *allow;
	const char *preference_applied;
	int retry_after_s;
	/* A body that is not JSON of ours: a page, or what a worker made. */
	const char *raw_type;
	const void *raw;
	size_t raw_len;
	const char *cache_control; /* NULL: no-store */
	const char *etag;
	const char *security_policy;
	bool is_quiet; /* a probe: its log line is for debugging only */
};

/* A refusal; detail NULL: the title is enough. */
enum next refuse(struct response *res, enum problem problem, const char *detail);
enum next refuse_fields(struct response *res, const struct field_errors *errors);
/* json becomes the response's. */
enum next answer(struct response *res, int status, struct jval *json);

/* Sends all of it. False: the client is gone. */
bool response_send(struct request *req, struct response *res);
/* Sends the head of an event stream. */
bool response_begin_stream(struct request *req, struct response *res);
void response_clear(struct response *res);

#endif
