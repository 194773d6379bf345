/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole request, as our code sees it behind libfcgi: lines NAME=value, an empty line, the body. It goes through the
 * router and its handler, which finds no database, and is answered; BASE_PATH= sets the option to /base. So every body
 * meets the fields of its route. The answer must be one that no client can be led astray with.
 */
#include <string.h>

#include "core/settings.h"
#include "fcgi-app/accept_line.h"
#include "fcgi-app/access_cache.h"
#include "fcgi-app/app.h"
#include "fcgi-app/fcgi.h"
#include "fcgi-app/fields.h"
#include "fcgi-app/gate.h"
#include "fcgi-app/page.h"
#include "fcgi-app/request.h"
#include "fcgi-app/response.h"
#include "fcgi-app/router.h"
#include "fcgi-app/waits.h"
#include "lib/arena.h"
#include "lib/db.h"
#include "lib/json.h"
#include "lib/log.h"
#include "tests/fake/fcgi_fake.h"
#include "tests/fuzz/fuzz.h"

#define BODY_MAX 65536
#define MEMORY_MAX (1 << 20)
#define ANSWER_MAX (4 << 20)

static struct settings settings;
static struct app app;

static void set_up(void)
{
	const struct db_options nowhere = {.socket = "/nonexistent/mysqld.sock", .connect_timeout_s = 1};
	struct err e = {0};

	if (app.settings)
		return;
	log_set_level(LOG_LEVEL_ERROR);
	MUST(db_library_init(&e));
	settings.app.body_max_bytes = BODY_MAX;
	settings.app.request_memory_max_bytes = MEMORY_MAX;
	app.settings = &settings;
	app.db_pool = db_pool_new(&nowhere, 2);
	app.waits = waits_new();
	app.cache = access_cache_new();
	app.accepts = accept_line_new();
	app.gate = gate_new(8);
}

/* --- the input --- */

/* Cuts the lines up in place; the body is what is left. */
static void read_input(char *text, size_t len, struct fcgi_conn *conn)
{
	char *end = text + len;

	while (text < end) {
		char *newline = memchr(text, '\n', (size_t)(end - text));
		char *stop = newline ? newline : end;
		*stop = '\0';
		if (*text && conn->param_count < FCGI_FAKE_PARAMS_MAX)
			conn->params[conn->param_count++] = text;
		bool is_last = stop == text;
		text = newline ? stop + 1 : end;
		if (is_last)
			break;
	}
	conn->body = text;
	conn->body_len = (size_t)(end - text);
}

/* --- what must hold --- */

static void check_id(const struct id *id)
{
	struct id parsed;

	MUST(!id_is_set(id) || id_parse(id->text, strlen(id->text), &parsed));
}

static void check_request(struct request *req, size_t authorization_len)
{
	const char *authorization = fcgi_param(req->conn, "HTTP_AUTHORIZATION");
	struct page page = {.limit = 12345}, untouched = page;
	struct field_error error = {0};
	bool is_good = true;

	MUST(request_id_is_good(req->request_id));
	for (size_t i = 0; authorization && i < authorization_len; i++)
		MUST(authorization[i] == '\0'); /* wiped, whatever it was */
	MUST(!req->source_ip || strlen(req->source_ip) <= 45);
	check_id(&req->org_id);
	check_id(&req->instance_id);
	check_id(&req->item_id);
	if (request_page(req, &page, &error)) {
		MUST(page.limit >= 1 && page.limit <= PAGE_LIMIT_MAX);
		check_id(&page.after);
	} else {
		MUST(error.field && error.reason && memcmp(&page, &untouched, sizeof(page)) == 0);
	}
	const char *value = request_query(req, "limit", &is_good);
	MUST(!value || (is_good && utf8_is_valid(value, strlen(value))));
	int wait_s = request_prefer_wait(req);
	MUST(wait_s >= -1 && wait_s <= REQUEST_WAIT_MAX_S);
}

/* Header lines of printable characters up to an empty one; returns the body. */
static const char *check_head(const char *at)
{
	while (strncmp(at, "\r\n", 2) != 0) {
		size_t name = strspn(at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-");
		size_t len = strcspn(at, "\r\n");
		MUST(name > 0 && strncmp(at + name, ": ", 2) == 0);
		for (size_t i = 0; i < len; i++)
			MUST((unsigned char)at[i] >= 0x20 && at[i] != 0x7f);
		MUST(strncmp(at + len, "\r\n", 2) == 0);
		at += len + 2;
	}
	return at + 2;
}

static void check_answer(const struct request *req, const struct response *res, const struct buf *answer)
{
	const struct json_limits limits = {.bytes_max = ANSWER_MAX, .depth_max = 64};
	struct jval *root = NULL;
	struct err e = {0};

	MUST(!buf_has_failed(answer) && strlen(buf_str(answer)) == answer->len);
	MUST(strncmp(buf_str(answer), "Status: ", 8) == 0);
	MUST(res->status >= 200 && res->status <= 504 && res->problem != PROBLEM_INTERNAL);
	const char *body = check_head(buf_str(answer));
	if (res->problem == PROBLEM_NONE || req->is_head)
		return;
	MUST(jval_parse(body, strlen(body), &limits, &root, &e));
	MUST(jval_string(jval_get(root, "code"), NULL) && jval_int(jval_get(root, "status")) == res->status);
	MUST(res->problem != PROBLEM_INVALID || jval_array_len(jval_get(root, "errors")) > 0);
	jval_free(&root);
}

/* Probes and pages look at the bus and at files, not at the request. */
static bool is_ours_to_call(const struct route *route)
{
	return route->permission != PERM_NONE;
}

static void serve(struct request *req, bool is_target)
{
	struct response res = {0};
	struct err e = {0};
	enum next next = NEXT_SEND;
	enum problem problem = is_target ? router_match(req, &res.allow) : PROBLEM_NOT_FOUND;

	if (problem != PROBLEM_NONE)
		next = refuse(&res, problem, NULL);
	else if (is_ours_to_call(req->route))
		next = req->route->handler(req, &res, &e);
	else
		next = answer(&res, 204, NULL);
	if (next == NEXT_FAIL) {
		MUST(e.code != ERR_NONE && e.text[0]);
		next = refuse(&res, problem_of_err(&e), NULL);
	}
	if (next == NEXT_SEND)
		MUST(response_send(req, &res));
	check_answer(req, &res, &req->conn->answer);
	response_clear(&res);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	struct fcgi_conn conn = {0};
	struct arena *mem = arena_new(MEMORY_MAX);
	struct request req;

	MUST(text);
	memcpy(text, data, size);
	text[size] = '\0';
	set_up();
	read_input(text, size, &conn);
	buf_init(&conn.answer, ANSWER_MAX);
	const char *authorization = fcgi_param(&conn, "HTTP_AUTHORIZATION");
	size_t authorization_len = authorization ? strlen(authorization) : 0;
	settings.app.base_path = (char *)(uintptr_t)(fcgi_param(&conn, "BASE_PATH") ? "/base" : "");
	bool is_target = request_begin(&req, &app, &conn, mem);
	check_request(&req, authorization_len);
	serve(&req, is_target);
	request_end(&req);
	buf_clear(&conn.answer);
	arena_free(&mem);
	free(text);
	return 0;
}
