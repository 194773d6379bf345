/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a response in the CGI form that FastCGI takes: a Status line, headers,
 * a blank line, the body. Header values are constants, ids, or checked before
 * they come here; append_header refuses a line end all the same.
 */
#include "fcgi-app/response.h"

#include <inttypes.h>
#include <string.h>

#include "core/settings.h"
#include "fcgi-app/app.h"
#include "fcgi-app/fcgi.h"
#include "fcgi-app/fields.h"
#include "fcgi-app/openai_doc.h"
#include "fcgi-app/problem_doc.h"
#include "fcgi-app/request.h"
#include "fcgi-app/sse.h"
#include "lib/buf.h"
#include "lib/json.h"

#define HEAD_BYTES_MAX 8192

static const struct {
	int status;
	const char *phrase;
} phrases[] = {
	{200, "OK"},
	{201, "Created"},
	{202, "Accepted"},
	{204, "No Content"},
	{304, "Not Modified"},
	{308, "Permanent Redirect"},
	{400, "Bad Request"},
	{401, "Unauthorized"},
	{403, "Forbidden"},
	{404, "Not Found"},
	{405, "Method Not Allowed"},
	{409, "Conflict"},
	{410, "Gone"},
	{413, "Content Too Large"},
	{415, "Unsupported Media Type"},
	{422, "Unprocessable Content"},
	{429, "Too Many Requests"},
	{500, "Internal Server Error"},
	{502, "Bad Gateway"},
	{503, "Service Unavailable"},
	{504, "Gateway Timeout"},
};

static const char *phrase_of(int status)
{
	for (size_t i = 0; i < ARRAY_LEN(phrases); i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "Unknown";
}

enum next refuse(struct response *res, enum problem problem, const char *detail)
{
	res->problem = problem;
	res->detail = detail;
	if (res->retry_after_s == 0)
		res->retry_after_s = problem_retry_after_s(problem);
	return NEXT_SEND;
}

enum next refuse_fields(struct response *res, const struct field_errors *errors)
{
	res->errors = errors;
	return refuse(res, PROBLEM_INVALID, NULL);
}

enum next answer(struct response *res, int status, struct jval *json)
{
	res->status = status;
	jval_free(&res->json);
	res->json = json;
	return NEXT_SEND;
}

static void append_header(struct buf *head, const char *name, const char *value)
{
	if (value && !strpbrk(value, "\r\n"))
		buf_printf(head, "%s: %s\r\n", name, value);
}

static void append_common(struct buf *head, const struct request *req, const struct response *res)
{
	buf_printf(head, "Status: %d %s\r\n", res->status, phrase_of(res->status));
	append_header(head, "X-Request-Id", req->request_id);
	append_header(head, "X-Content-Type-Options", "nosniff");
	append_header(head, "Cache-Control", res->cache_control ? res->cache_control : "no-store");
}

static void append_special(struct buf *head, const struct request *req, const struct response *res)
{
	const char *base = req->app->settings->app.base_path;

	if (res->location && !strpbrk(res->location, "\r\n"))
		buf_printf(head, "Location: %s%s\r\n", base ? base : "", res->location);
	append_header(head, "Allow", res->allow);
	append_header(head, "Preference-Applied", res->preference_applied);
	append_header(head, "ETag", res->etag);
	if (res->status == 401)
		append_header(head, "WWW-Authenticate", "Bearer");
	if (res->retry_after_s > 0)
		buf_printf(head, "Retry-After: %d\r\n", res->retry_after_s);
	if (res->security_policy) {
		append_header(head, "Content-Security-Policy", res->security_policy);
		append_header(head, "Referrer-Policy", "no-referrer");
		append_header(head, "X-Frame-Options", "DENY");
	}
}

/* Below /v1 errors look as clients of OpenAI's API expect them. */
static bool is_openai(const struct request *req)
{
	return req->segment_count > 0 && strcmp(req->segments[0], "v1") == 0;
}

static void make_openai_error(struct response *res)
{
	(void)answer(res, openai_status(res->problem),
		     openai_error(res->problem, res->detail ? res->detail : res->reason, res->param));
	res->raw_type = NULL;
	res->raw = NULL;
}

/* Turns a refusal into its document. */
static void make_problem(const struct request *req, struct response *res)
{
	const struct problem_doc doc = {
		.problem = res->problem,
		.detail = res->detail,
		.reason = res->reason,
		.request_id = req->request_id,
		.extra_name = res->extra_name,
		.extra = res->extra,
		.errors = res->errors ? res->errors->list : NULL,
		.error_count = res->errors ? res->errors->count : 0,
	};

	(void)answer(res, problem_status(res->problem), problem_doc_new(&doc));
	res->raw_type = PROBLEM_DOC_TYPE;
	res->raw = NULL;
}

bool response_send(struct request *req, struct response *res)
{
	struct buf head;
	bool ok;

	if (res->problem != PROBLEM_NONE && is_openai(req))
		make_openai_error(res);
	else if (res->problem != PROBLEM_NONE)
		make_problem(req, res);
	if (res->json) {
		res->raw = jval_text(res->json, &res->raw_len);
		res->raw_type = res->raw_type ? res->raw_type : "application/json";
	}
	buf_init(&head, HEAD_BYTES_MAX);
	append_common(&head, req, res);
	append_special(&head, req, res);
	append_header(&head, "Content-Type", res->raw ? res->raw_type : NULL);
	if (res->status != 204 && res->status != 304)
		buf_printf(&head, "Content-Length: %zu\r\n", res->raw ? res->raw_len : 0);
	buf_append_str(&head, "\r\n");
	ok = !buf_has_failed(&head) && fcgi_write(req->conn, head.data, head.len);
	if (ok && res->raw && !req->is_head)
		ok = fcgi_write(req->conn, res->raw, res->raw_len);
	buf_clear(&head);
	return ok;
}

bool response_begin_stream(struct request *req, struct response *res)
{
	struct buf head;
	bool ok;

	res->status = 200;
	buf_init(&head, HEAD_BYTES_MAX);
	append_common(&head, req, res);
	append_header(&head, "Content-Type", SSE_TYPE);
	append_header(&head, "X-Accel-Buffering", "no"); /* nginx would collect the stream */
	buf_append_str(&head, "\r\n");
	ok = !buf_has_failed(&head) && fcgi_write(req->conn, head.data, head.len);
	buf_clear(&head);
	return ok;
}

void response_clear(struct response *res)
{
	jval_free(&res->json);
	jval_free(&res->extra);
}
