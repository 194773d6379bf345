/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a request. The target comes from REQUEST_URI, because PATH_INFO and
 * SCRIPT_NAME differ between web servers and are decoded by them in their own
 * ways. A path is decoded segment by segment, so that %2F never makes a slash.
 */
#include "fcgi-app/request.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/framework.h"
#include "core/settings.h"
#include "fcgi-app/app.h"
#include "fcgi-app/fcgi.h"
#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/xalloc.h"

#define TARGET_BYTES_MAX 8192
#define BODY_FIRST_BYTES 16384
#define SOURCE_IP_MAX 45
#define UNDECODABLE "%"

/* --- the target --- */

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* len bytes with their %XX decoded; NULL for a malformed one, a control character, or text that is not UTF-8. */
static char *decode(struct arena *mem, const char *s, size_t len)
{
	char *out = arena_memdup(mem, s, len);
	size_t to = 0;

	if (!out)
		return NULL;
	for (size_t i = 0; i < len; i++) {
		int c = (unsigned char)s[i];
		if (c == '%') {
			int high = i + 2 < len ? hex_value(s[i + 1]) : -1;
			int low = high >= 0 ? hex_value(s[i + 2]) : -1;
			if (low < 0)
				return NULL;
			c = high * 16 + low;
			i += 2;
		}
		if (c < 0x20 || c == 0x7f)
			return NULL;
		out[to++] = (char)c;
	}
	out[to] = '\0';
	return utf8_is_valid(out, to) ? out : NULL;
}

/* A proxy may pass on "http://host/path". */
static const char *skip_authority(const char *uri)
{
	const char *host = NULL;

	if (strncasecmp(uri, "http://", 7) == 0)
		host = uri + 7;
	else if (strncasecmp(uri, "https://", 8) == 0)
		host = uri + 8;
	if (!host)
		return uri;
	const char *slash = strchr(host, '/');
	return slash ? slash : "/";
}

static bool strip_base(const char **path, const char *base_path)
{
	size_t len = base_path ? strlen(base_path) : 0;

	if (strncmp(*path, base_path ? base_path : "", len) != 0)
		return false;
	*path += len;
	return (*path)[0] == '/';
}

static bool split_path(struct request *req, const char *path, size_t len)
{
	const char *end = path + len;

	while (path < end) { /* path stands on a slash */
		path++;
		size_t part = strcspn(path, "/?#");
		if (part > (size_t)(end - path))
			part = (size_t)(end - path);
		if (part == 0) {
			req->ends_with_slash = true;
			return path == end && req->segment_count > 0;
		}
		if (req->segment_count == REQUEST_SEGMENTS_MAX)
			return false;
		/* What cannot be decoded stands for no id and no word of ours, but it stands there: its neighbours
		 * count. */
		const char *segment = decode(req->mem, path, part);
		req->segments[req->segment_count++] = segment ? segment : UNDECODABLE;
		path += part;
	}
	return true;
}

bool request_parse_target(struct request *req, const char *uri, const char *base_path)
{
	req->segment_count = 0;
	req->ends_with_slash = false;
	req->query = "";
	if (!uri || strnlen(uri, TARGET_BYTES_MAX) == TARGET_BYTES_MAX)
		return false;
	const char *path = skip_authority(uri);
	if (!strip_base(&path, base_path))
		return false;
	size_t len = strcspn(path, "?#");
	if (path[len] == '?')
		req->query = path + len + 1;
	return split_path(req, path, len);
}

/* --- headers --- */

enum method request_parse_method(const char *text, bool *ret_is_head)
{
	static const struct {
		const char *name;
		enum method method;
	} methods[] = {
		{"GET", METHOD_GET},     {"HEAD", METHOD_GET},      {"POST", METHOD_POST},
		{"PATCH", METHOD_PATCH}, {"DELETE", METHOD_DELETE},
	};

	*ret_is_head = text && strcmp(text, "HEAD") == 0;
	for (size_t i = 0; text && i < ARRAY_LEN(methods); i++)
		if (strcmp(text, methods[i].name) == 0)
			return methods[i].method;
	return METHOD_OTHER;
}

bool request_id_is_good(const char *text)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t len = text ? strnlen(text, REQUEST_ID_MAX + 1) : 0;

	return len > 0 && len <= REQUEST_ID_MAX && strspn(text, allowed) == len;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static const char *skip_blanks(const char *s)
{
	while (is_blank(*s))
		s++;
	return s;
}

/* At the text behind `wait`: = number, quoted or not, and the end of the preference. */
static int parse_wait(const char *s)
{
	int n = 0;

	s = skip_blanks(s);
	if (*s != '=')
		return -1;
	s = skip_blanks(s + 1);
	bool is_quoted = *s == '"';
	s += is_quoted;
	if (*s < '0' || *s > '9')
		return -1;
	for (; *s >= '0' && *s <= '9'; s++)
		n = n > REQUEST_WAIT_MAX_S ? n : n * 10 + (*s - '0');
	if (is_quoted && *s++ != '"')
		return -1;
	s = skip_blanks(s);
	if (*s && *s != ',' && *s != ';')
		return -1;
	return n > REQUEST_WAIT_MAX_S ? REQUEST_WAIT_MAX_S : n;
}

int request_parse_prefer(const char *header)
{
	while (header && *header) {
		header = skip_blanks(header);
		size_t name = strcspn(header, " \t=,;");
		if (name == 4 && strncasecmp(header, "wait", 4) == 0)
			return parse_wait(header + 4);
		header = strchr(header, ',');
		header = header ? header + 1 : NULL;
	}
	return -1;
}

bool request_is_json_type(const char *content_type)
{
	size_t len;

	if (!content_type || !*content_type) /* RFC 9110 8.3 lets the recipient guess */
		return true;
	content_type = skip_blanks(content_type);
	len = strcspn(content_type, "; \t");
	return len == 16 && strncasecmp(content_type, "application/json", len) == 0;
}

/* The token is hashed and wiped at once: nothing behind this line ever sees it. */
static void read_token(struct request *req, char *header)
{
	if (!header)
		return;
	size_t len = strlen(header);
	if (len > 7 && strncasecmp(header, "Bearer ", 7) == 0) {
		const char *token = skip_blanks(header + 7);
		size_t token_len = strlen(token);
		while (token_len > 0 && is_blank(token[token_len - 1]))
			token_len--;
		if (secret_token_is_wellformed(token, token_len)) {
			secret_hash(token, token_len, req->token_hash);
			req->has_token = true;
		}
	}
	secret_wipe(header, len);
}

static void read_request_id(struct request *req, const char *header)
{
	if (request_id_is_good(header)) {
		memcpy(req->request_id, header, strlen(header) + 1);
	} else {
		struct id id = id_new();
		memcpy(req->request_id, id.text, sizeof(id.text));
	}
}

bool request_begin(struct request *req, struct app *app, struct fcgi_conn *conn, struct arena *mem)
{
	*req = (struct request){.app = app, .conn = conn, .mem = mem, .started_us = clock_now_us()};
	const char *ip = fcgi_param(conn, "REMOTE_ADDR");

	req->method = request_parse_method(fcgi_param(conn, "REQUEST_METHOD"), &req->is_head);
	req->source_ip = ip && strnlen(ip, SOURCE_IP_MAX + 1) <= SOURCE_IP_MAX ? ip : NULL;
	read_request_id(req, fcgi_param(conn, "HTTP_X_REQUEST_ID"));
	read_token(req, fcgi_param(conn, "HTTP_AUTHORIZATION"));
	return request_parse_target(req, fcgi_param(conn, "REQUEST_URI"), app->settings->app.base_path);
}

void request_end(struct request *req)
{
	if (req->has_secrets)
		jval_wipe(req->body);
	jval_free(&req->body);
	secret_wipe(req->token_hash, sizeof(req->token_hash));
}

int request_prefer_wait(struct request *req)
{
	return request_parse_prefer(fcgi_param(req->conn, "HTTP_PREFER"));
}

struct audit_origin request_origin(const struct request *req)
{
	return (struct audit_origin){.source_ip = req->source_ip, .request_id = req->request_id};
}

/* --- the body --- */

/* False: CONTENT_LENGTH is not a number. *ret_is_known false: there is none (a chunked upload). */
static bool content_length(struct request *req, size_t *ret_len, bool *ret_is_known)
{
	const char *text = fcgi_param(req->conn, "CONTENT_LENGTH");
	unsigned long long n = 0;

	*ret_is_known = text && *text;
	*ret_len = 0;
	for (; text && *text; text++) {
		if (*text < '0' || *text > '9' || n > SIZE_MAX / 16)
			return false;
		n = n * 10 + (unsigned)(*text - '0');
	}
	*ret_len = (size_t)n;
	return true;
}

/* Reads to the end of the input, so that nothing but a hang-up makes the connection readable afterwards. */
static enum problem read_all(struct request *req, size_t max, struct buf *body)
{
	size_t piece = max + 1 < BODY_FIRST_BYTES ? max + 1 : BODY_FIRST_BYTES;
	char *chunk = arena_alloc(req->mem, piece);
	size_t got;

	if (!chunk)
		return PROBLEM_TOO_LARGE;
	do {
		got = fcgi_read(req->conn, chunk, piece);
		buf_append(body, chunk, got);
		secret_wipe(chunk, got); /* the arena keeps its first block for the next request */
		if (buf_has_failed(body))
			return PROBLEM_TOO_LARGE;
	} while (got == piece);
	return PROBLEM_NONE;
}

static enum problem parse_body(struct request *req, const struct buf *body, const char **ret_detail)
{
	const struct json_limits limits = {.bytes_max = body->max_bytes, .depth_max = REQUEST_BODY_DEPTH_MAX};
	struct err e = {0};

	if (body->len == 0)
		return PROBLEM_NONE;
	if (!request_is_json_type(fcgi_param(req->conn, "CONTENT_TYPE")))
		return PROBLEM_UNSUPPORTED_TYPE;
	req->has_body = jval_parse(body->data, body->len, &limits, &req->body, &e);
	if (req->has_body)
		return PROBLEM_NONE;
	/* Where it is wrong, and how; nothing of the body itself. */
	*ret_detail = e.code == ERR_LIMIT ? "The body is nested too deeply or holds too many values."
					  : arena_strdup(req->mem, e.text);
	return PROBLEM_BAD_JSON;
}

enum problem request_read_body(struct request *req, bool is_optional, const char **ret_detail)
{
	size_t max = (size_t)req->app->settings->app.body_max_bytes;
	enum problem problem;
	size_t announced;
	bool is_known;
	struct buf body;

	*ret_detail = NULL;
	if (!content_length(req, &announced, &is_known) || announced > max)
		return PROBLEM_TOO_LARGE;
	buf_init_secret(&body, is_known ? announced : max);
	problem = read_all(req, is_known ? announced : max, &body);
	if (problem == PROBLEM_NONE && is_known && body.len < announced) {
		*ret_detail = "The body is shorter than announced.";
		problem = PROBLEM_BAD_JSON;
	}
	if (problem == PROBLEM_NONE)
		problem = parse_body(req, &body, ret_detail);
	buf_clear(&body);
	if (problem == PROBLEM_NONE && !req->has_body && !is_optional) {
		*ret_detail = "A JSON object is needed as the body.";
		problem = PROBLEM_BAD_JSON;
	}
	return problem;
}

/* --- the query --- */

const char *request_query(const struct request *req, const char *name, bool *ret_is_good)
{
	size_t name_len = strlen(name);
	const char *found = NULL;
	size_t len;

	*ret_is_good = true;
	for (const char *at = req->query; *at && *at != '#'; at += len + (at[len] == '&')) {
		len = strcspn(at, "&#");
		if (len < name_len || strncmp(at, name, name_len) != 0 || (len > name_len && at[name_len] != '='))
			continue;
		const char *value = len > name_len ? at + name_len + 1 : at + name_len;
		*ret_is_good = *ret_is_good && !found;
		found = decode(req->mem, value, (size_t)(at + len - value));
		if (!found)
			*ret_is_good = false;
		if (!*ret_is_good)
			return NULL;
	}
	return found;
}

static bool parse_limit(const char *text, unsigned *ret_limit)
{
	unsigned n = 0;

	if (!*text || strlen(text) > 3)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		n = n * 10 + (unsigned)(*text - '0');
	}
	*ret_limit = n;
	return n >= 1 && n <= PAGE_LIMIT_MAX;
}

bool request_page(const struct request *req, struct page *ret_page, struct field_error *ret_error)
{
	struct page page = {.limit = PAGE_LIMIT_DEFAULT};
	bool is_good;

	const char *limit = request_query(req, "limit", &is_good);
	if (!is_good || (limit && !parse_limit(limit, &page.limit))) {
		*ret_error = (struct field_error){.field = "limit", .reason = "must be an integer from 1 to 200"};
		return false;
	}
	const char *after = request_query(req, "after", &is_good);
	if (!is_good || (after && !id_parse(after, strlen(after), &page.after))) {
		*ret_error = (struct field_error){.field = "after", .reason = "must be the id that `next` gave"};
		return false;
	}
	*ret_page = page;
	return true;
}
