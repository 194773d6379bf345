/* SPDX-License-Identifier: Apache-2.0 */
#include "fcgi-app/router.h"

#include <string.h>

#include "fcgi-app/handlers.h"
#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/json.h"
#include "tests/unit/harness.h"

#define ORG "0192f0c1-0000-7000-8000-000000000001"
#define APP "0192f0c1-0000-7000-8000-000000000002"
#define APPS "/api/orgs/" ORG "/orchestrators"

static struct arena *mem;

/* The problem of METHOD target; *req has the rest. */
static enum problem match(const char *method, const char *target, struct request *req, const char **allow)
{
	bool is_head;

	*req = (struct request){.mem = mem};
	*allow = NULL;
	req->method = request_parse_method(method, &is_head);
	return request_parse_target(req, target, "") ? router_match(req, allow) : PROBLEM_NOT_FOUND;
}

static const struct {
	int line;
	const char *method, *target;
	route_handler handler;
} found[] = {
	{__LINE__, "GET", "/healthz", h_probe_health},
	{__LINE__, "HEAD", "/readyz?x=1", h_probe_ready},
	{__LINE__, "GET", "/admin", h_dashboard_redirect},
	{__LINE__, "GET", "/admin/", h_dashboard_file},
	{__LINE__, "GET", "/admin/admin.js", h_dashboard_file},
	{__LINE__, "POST", APPS, h_instance_create},
	{__LINE__, "GET", APPS "?limit=5", h_instance_list},
	{__LINE__, "PATCH", APPS "/" APP, h_instance_change},
	{__LINE__, "POST", APPS "/" APP "/load", h_lifecycle_load},
	{__LINE__, "POST", APPS "/" APP "/lo%61d", h_lifecycle_load},
	{__LINE__, "GET", "/api/orgs/" ORG "/operations/" APP, h_operation_get},
	{__LINE__, "DELETE", "/api/orgs/" ORG "/tokens/" APP, h_token_revoke},
	{__LINE__, "DELETE", "/api/admin/tokens/" APP, h_token_revoke},
	{__LINE__, "POST", "/api/orgs/" ORG "/chat/completion", h_chat},
	{__LINE__, "GET", "http://some.host/api/admin/orgs/" ORG, h_org_get},
};

static void each_target_has_its_handler(void)
{
	struct request req;
	const char *allow;

	for (size_t i = 0; i < ARRAY_LEN(found); i++) {
		enum problem p = match(found[i].method, found[i].target, &req, &allow);
		if (p != PROBLEM_NONE || req.route->handler != found[i].handler)
			printf("row of line %d\n", found[i].line);
		CU_ASSERT_EQUAL_FATAL(p, PROBLEM_NONE);
		CU_ASSERT_TRUE(req.route->handler == found[i].handler);
	}
}

static void what_has_no_route_is_not_found(void)
{
	static const char *const targets[] = {
		"/",
		"/api",
		"/api/orgs",
		APPS "/",
		APPS "//",
		APPS "/" APP "/load/",
		"/healthz/",
		"/healthz/x",
		"//healthz",
		"healthz",
		"",
		"/api/orgs//orchestrators",
		"/a/b/c/d/e/f/g/h/i/j",
		"/admin/a/b",
		APPS "/" APP "/nothing",
		"/admin%2f",
	};
	struct request req;
	const char *allow;

	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		if (match("GET", targets[i], &req, &allow) != PROBLEM_NOT_FOUND)
			printf("%s\n", targets[i]);
		CU_ASSERT_EQUAL(match("GET", targets[i], &req, &allow), PROBLEM_NOT_FOUND);
	}
}

static void another_method_says_which_are_allowed(void)
{
	struct request req;
	const char *allow;

	CU_ASSERT_EQUAL(match("PUT", APPS "/" APP, &req, &allow), PROBLEM_METHOD_NOT_ALLOWED);
	CU_ASSERT_STRING_EQUAL(allow, "GET, HEAD, PATCH, DELETE");
	CU_ASSERT_EQUAL(match("GET", APPS "/" APP "/load", &req, &allow), PROBLEM_METHOD_NOT_ALLOWED);
	CU_ASSERT_STRING_EQUAL(allow, "POST");
	CU_ASSERT_EQUAL(match("get", "/healthz", &req, &allow), PROBLEM_METHOD_NOT_ALLOWED);
}

static void ids_of_the_path_are_taken(void)
{
	struct request req;
	const char *allow;

	CU_ASSERT_EQUAL(match("POST", APPS "/" APP "/load", &req, &allow), PROBLEM_NONE);
	CU_ASSERT_STRING_EQUAL(req.org_id.text, ORG);
	CU_ASSERT_STRING_EQUAL(req.instance_id.text, APP);
	CU_ASSERT_EQUAL(match("GET", "/api/orgs/" ORG "/operations/" APP, &req, &allow), PROBLEM_NONE);
	CU_ASSERT_STRING_EQUAL(req.item_id.text, APP);
	CU_ASSERT_FALSE(id_is_set(&req.instance_id));
}

static void a_malformed_id_matches_and_names_nothing(void)
{
	static const char *const ids[] = {
		"x", "0192F0C1-0000-7000-8000-000000000002", APP "0", "%00", "%zz", "%ff", "..", "%2e%2e%2f"};
	char target[256];
	struct request req;
	const char *allow;

	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		snprintf(target, sizeof(target), APPS "/%s/load", ids[i]);
		CU_ASSERT_EQUAL(match("POST", target, &req, &allow), PROBLEM_NONE);
		CU_ASSERT_FALSE(id_is_set(&req.instance_id));
		CU_ASSERT_TRUE(id_is_set(&req.org_id));
	}
}

/* Everything below an org needs a token, every change is audited. */
static void no_route_forgets_its_permission(void)
{
	for (size_t i = 0; i < route_count; i++) {
		const struct route *r = &routes[i];
		bool is_api = strncmp(r->pattern, "/api/", 5) == 0 || strncmp(r->pattern, "/v1/", 4) == 0;
		CU_ASSERT_EQUAL(is_api, r->permission != PERM_NONE);
		CU_ASSERT_TRUE(!route_has_instance(r) || route_has_org(r));
		CU_ASSERT_EQUAL(strncmp(r->pattern, "/api/admin/", 11) == 0, r->permission == PERM_ADMIN);
		if (r->handler != h_chat && r->handler != h_openai_complete)
			CU_ASSERT_EQUAL(r->method != METHOD_GET, r->audited != NULL);
	}
}

static void no_route_is_hidden_by_another(void)
{
	for (size_t i = 0; i < route_count; i++)
		for (size_t j = 0; j < i; j++)
			CU_ASSERT_FALSE(routes[i].method == routes[j].method &&
					strcmp(routes[i].pattern, routes[j].pattern) == 0);
}

static void the_printed_table_is_json_with_a_row_for_each(void)
{
	const struct json_limits limits = {.bytes_max = 65536, .depth_max = 4};
	struct jval *list = NULL;
	struct buf out;
	struct err e;

	buf_init(&out, 65536);
	router_print(&out);
	CU_ASSERT_FALSE_FATAL(buf_has_failed(&out));
	CU_ASSERT_TRUE_FATAL(jval_parse(out.data, out.len, &limits, &list, &e));
	CU_ASSERT_EQUAL(jval_array_len(list), route_count);
	for (size_t i = 0; i < jval_array_len(list); i++) {
		const struct jval *row = jval_array_at(list, i);
		CU_ASSERT_STRING_EQUAL(jval_string(jval_get(row, "path"), NULL), routes[i].pattern);
		CU_ASSERT_PTR_NOT_NULL(jval_string(jval_get(row, "method"), NULL));
		CU_ASSERT_PTR_NOT_NULL(jval_string(jval_get(row, "scope"), NULL));
	}
	jval_free(&list);
	buf_clear(&out);
}

static CU_TestInfo cases[] = {
	{"each_target_has_its_handler", each_target_has_its_handler},
	{"what_has_no_route_is_not_found", what_has_no_route_is_not_found},
	{"another_method_says_which_are_allowed", another_method_says_which_are_allowed},
	{"ids_of_the_path_are_taken", ids_of_the_path_are_taken},
	{"a_malformed_id_matches_and_names_nothing", a_malformed_id_matches_and_names_nothing},
	{"no_route_forgets_its_permission", no_route_forgets_its_permission},
	{"no_route_is_hidden_by_another", no_route_is_hidden_by_another},
	{"the_printed_table_is_json_with_a_row_for_each", the_printed_table_is_json_with_a_row_for_each},
	CU_TEST_INFO_NULL,
};

static void set_up(void)
{
	mem = arena_new(1 << 20);
}

static void tear_down(void)
{
	arena_free(&mem);
}

CU_SuiteInfo suites[] = {
	{"router", NULL, NULL, set_up, tear_down, cases},
	CU_SUITE_INFO_NULL,
};
