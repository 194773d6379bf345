/* SPDX-License-Identifier: Apache-2.0 */
/* A request target: method and target in one line, as in HTTP. */
#include "fcgi-app/router.h"

#include <string.h>

#include "lib/arena.h"
#include "lib/json.h"
#include "tests/fuzz/fuzz.h"

static void check_segments(const struct request *req)
{
	MUST(req->segment_count <= REQUEST_SEGMENTS_MAX);
	for (unsigned i = 0; i < req->segment_count; i++) {
		const char *s = req->segments[i];
		MUST(*s && utf8_is_valid(s, strlen(s)));
		for (; *s; s++)
			MUST((unsigned char)*s >= 0x20 && *s != 0x7f);
	}
}

/* An id is "" or has the one form that ids have: it may become part of a subject. */
static void check_id(const struct id *id)
{
	struct id parsed;

	MUST(!id_is_set(id) || id_parse(id->text, strlen(id->text), &parsed));
}

static unsigned count_segments(const char *pattern)
{
	unsigned n = 0;

	for (; *pattern; pattern++)
		n += *pattern == '/' && pattern[1];
	return n;
}

static void check_match(struct request *req, enum problem problem, const char *allow)
{
	static const enum method all[] = {METHOD_GET, METHOD_POST, METHOD_PATCH, METHOD_DELETE};
	unsigned fitting = 0;

	if (problem == PROBLEM_NONE) {
		MUST(req->route && req->route->method == req->method && req->route->handler);
		MUST(count_segments(req->route->pattern) == req->segment_count);
		return;
	}
	MUST(!req->route && !id_is_set(&req->org_id) && !id_is_set(&req->instance_id));
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct request other = *req;
		const char *ignored = NULL;
		other.method = all[i];
		if (router_match(&other, &ignored) == PROBLEM_NONE) {
			fitting++;
			MUST(problem == PROBLEM_METHOD_NOT_ALLOWED && strstr(allow, router_method_name(all[i])));
		}
	}
	MUST(problem == (fitting > 0 ? PROBLEM_METHOD_NOT_ALLOWED : PROBLEM_NOT_FOUND));
}

static void route(struct arena *mem, const char *method, const char *uri, const char *base_path)
{
	struct request req = {.mem = mem};
	const char *allow = NULL;
	enum problem problem;

	req.method = request_parse_method(method, &req.is_head);
	if (!request_parse_target(&req, uri, base_path)) {
		MUST(req.segment_count <= REQUEST_SEGMENTS_MAX);
		return;
	}
	MUST(req.query >= uri || !*req.query);
	check_segments(&req);
	problem = router_match(&req, &allow);
	check_id(&req.org_id);
	check_id(&req.instance_id);
	check_id(&req.item_id);
	check_match(&req, problem, allow);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *line = strndup((const char *)data, size);
	char *blank = line ? strchr(line, ' ') : NULL;
	struct arena *mem = arena_new(1 << 20);

	MUST(line);
	if (blank) {
		*blank = '\0';
		route(mem, line, blank + 1, "");
		route(mem, line, blank + 1, "/base");
	}
	arena_free(&mem);
	free(line);
	return 0;
}
