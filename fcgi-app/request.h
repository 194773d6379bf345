/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP request: its target, headers and body as the handlers see them.
 * Everything lives in mem, which is cleared when the request ends; no handler
 * frees. Reading is strict: a target that cannot be decoded matches no route, a
 * body is compared with its limit before memory is taken for it.
 */
#ifndef FCGI_APP_REQUEST_H
#define FCGI_APP_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/access.h"
#include "core/audit.h"
#include "lib/id.h"
#include "lib/secret.h"

struct app;
struct arena;
struct fcgi_conn;
struct field_error;
struct jval;
struct route;

#define REQUEST_ID_MAX 64
#define REQUEST_SEGMENTS_MAX 8
#define REQUEST_BODY_DEPTH_MAX 32
#define REQUEST_WAIT_MAX_S 60
#define PAGE_LIMIT_DEFAULT 50
#define PAGE_LIMIT_MAX 200

enum method { METHOD_OTHER = 0, METHOD_GET = 1, METHOD_POST = 2, METHOD_PATCH = 4, METHOD_DELETE = 8 };

struct request {
	struct app *app;
	struct arena *mem;
	struct fcgi_conn *conn;
	int64_t started_us;

	enum method method; /* HEAD is GET with is_head */
	bool is_head;
	const char *segments[REQUEST_SEGMENTS_MAX]; /* of the path below base_path, decoded */
	unsigned segment_count;
	bool ends_with_slash;
	const char *query; /* undecoded, "" where none */
	char request_id[REQUEST_ID_MAX + 1];
	const char *source_ip;
	bool has_token;
	uint8_t token_hash[SECRET_HASH_BYTES];

	/* Set by the router from the pattern; "" where the text is no id, and where there is none. */
	const struct route *route;
	struct id org_id, instance_id, item_id;
	const char *file; /* {file} or {version}, as it stands there */

	/* Set as the request goes on, for its log line and its audit row. */
	struct caller caller;
	bool has_caller;
	struct jval *body; /* freed by request_end */
	bool has_secrets;  /* set by a handler: its strings are overwritten before it is freed */
	bool has_body;     /* false: it was empty; a body of `null` has none and yet is one */
};

/* Fills the head of *req from the connection. False: the target is nothing that could match a route. */
bool request_begin(struct request *req, struct app *app, struct fcgi_conn *conn, struct arena *mem);
void request_end(struct request *req);

/* The parts of it, by themselves for the tests. */
bool request_parse_target(struct request *req, const char *uri, const char *base_path);
enum method request_parse_method(const char *text, bool *ret_is_head);
bool request_id_is_good(const char *text);
/* The value of the preference `wait` in seconds, at most REQUEST_WAIT_MAX_S; -1 where there is none or it is malformed.
 */
int request_parse_prefer(const char *header);
bool request_is_json_type(const char *content_type);

int request_prefer_wait(struct request *req);
struct audit_origin request_origin(const struct request *req);

/*
 * Reads and parses the body into req->body. An empty one is good only where the body is_optional.
 * PROBLEM_TOO_LARGE, PROBLEM_UNSUPPORTED_TYPE, or PROBLEM_BAD_JSON with *ret_detail.
 */
enum problem request_read_body(struct request *req, bool is_optional, const char **ret_detail);

struct page {
	struct id after; /* "": from the start */
	unsigned limit;
};
/* From ?limit=&after=. False: *ret_error says which is wrong. */
bool request_page(const struct request *req, struct page *ret_page, struct field_error *ret_error);
/* A parameter of the query, decoded, in mem; NULL where absent. *ret_is_good false: malformed or given twice. */
const char *request_query(const struct request *req, const char *name, bool *ret_is_good);

#endif
