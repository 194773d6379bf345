/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch_url: a page of an allow-listed address, as text. The address comes from a model that may have been talked into
 * anything, so it must begin with one of the App's prefixes as it stands (core/page_url.h); redirects are not followed;
 * and where the name leads is judged as a provider's address is (struct http).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/page_url.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/http.h"
#include "lib/json.h"
#include "lib/xalloc.h"
#include "worker/tool/html_text.h"
#include "worker/tool/tool.h"

#define PAGE_BYTES_MAX ((size_t)512 * 1024)
#define CONNECT_MS 5000
#define FIRST_BYTE_MS 15000
#define IDLE_MS 10000
#define TOTAL_MS 30000

struct tool_run {
	struct tool_sink sink;
	struct http_call *http;
	int status;
	bool is_text, is_html;
	struct buf page;
};

/* --- what may be fetched --- */

static bool is_allowed(const struct jval *allow, const char *url)
{
	if (!page_url_is_plain(url))
		return false;
	for (size_t i = 0; i < jval_array_len(allow); i++) {
		size_t len;
		const char *prefix = jval_string(jval_array_at(allow, i), &len);
		if (prefix && page_url_is_prefix(prefix, len) && page_url_is_below(url, prefix))
			return true;
	}
	return false;
}

/* --- the page --- */

/* The length without a character that was cut at the end. */
static size_t whole_characters(const char *text, size_t len)
{
	size_t at = len;

	while (at > 0 && len - at < 3 && ((unsigned char)text[at - 1] & 0xc0) == 0x80)
		at--;
	unsigned char lead = at > 0 ? (unsigned char)text[at - 1] : 0;
	size_t needs = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;

	return needs > 1 && at - 1 + needs > len ? at - 1 : len;
}

static void tell_page(const struct tool_run *run)
{
	struct buf text;
	const struct buf *page = &run->page;

	buf_init(&text, PAGE_BYTES_MAX + 1);
	if (run->is_html) {
		html_text(buf_str(page), page->len, &text);
		page = &text;
	}
	size_t len = page->len > TOOL_RESULT_MAX ? TOOL_RESULT_MAX : page->len;
	len = whole_characters(buf_str(page), len);
	if (utf8_is_valid(buf_str(page), len) && !memchr(buf_str(page), '\0', len))
		run->sink.done(run->sink.closure, false, buf_str(page), len);
	else
		run->sink.done(run->sink.closure, true, "The page is no UTF-8 text.",
			       strlen("The page is no UTF-8 text."));
	buf_clear(&text);
}

static void tell_error(const struct tool_sink *sink, const char *text)
{
	sink->done(sink->closure, true, text, strlen(text));
}

static void run_free(struct tool_run *run)
{
	buf_clear(&run->page);
	free(run);
}

static bool has_type(const char *type, const char *wanted)
{
	return strncasecmp(type, wanted, strlen(wanted)) == 0;
}

static void on_head(void *closure, const struct http_head *head)
{
	struct tool_run *run = closure;
	const char *type = head->content_type;

	run->status = head->status;
	run->is_html = has_type(type, "text/html") || has_type(type, "application/xhtml+xml");
	run->is_text = run->is_html || has_type(type, "text/") || has_type(type, "application/json") ||
		       has_type(type, "application/xml") || strcasestr(type, "+json") || strcasestr(type, "+xml");
}

/* What is longer than may be read is cut, not refused. */
static bool on_body(void *closure, const char *data, size_t len)
{
	struct tool_run *run = closure;
	size_t room = PAGE_BYTES_MAX - run->page.len;

	if (run->status != 200 || !run->is_text)
		return false;
	buf_append(&run->page, data, len < room ? len : room);
	return len <= room;
}

static void on_end(void *closure, enum http_outcome outcome, const char *detail)
{
	struct tool_run *run = closure;
	char text[160];

	(void)detail;
	if (run->status != 0 && run->status != 200) {
		(void)snprintf(text, sizeof(text), "The server answered %d.", run->status);
		tell_error(&run->sink, text);
	} else if (run->status == 200 && !run->is_text) {
		tell_error(&run->sink, "The page is no text.");
	} else if (outcome == HTTP_COMPLETE || (outcome == HTTP_CANCELLED && run->page.len == PAGE_BYTES_MAX)) {
		tell_page(run);
	} else {
		tell_error(&run->sink, outcome == HTTP_REFUSED
					       ? "The address is reserved, and not in tools.allowed_networks."
				       : outcome == HTTP_TIMEOUT ? "The server took too long."
								 : "The page could not be read.");
	}
	run_free(run);
}

/* --- the tool --- */

static struct tool_run *fetch(const struct tool *tool, const struct tool_env *env, const struct jval *arguments,
			      int64_t deadline_ms, const struct tool_sink *sink)
{
	const char *url = jval_string(jval_get(arguments, "url"), NULL);
	int64_t left_ms = deadline_ms != 0 ? deadline_ms - clock_now_ms() : TOTAL_MS;
	const struct http_header headers[] = {{"Accept", "text/*, application/json, application/xml;q=0.9"}};
	struct err e = {0};

	if (!url || !is_allowed(tool->state, url)) {
		tell_error(sink, url ? "The address is not one that this App may fetch." : "\"url\" must be a string.");
		return NULL;
	}
	if (left_ms <= 0) {
		tell_error(sink, "The turn's time is over.");
		return NULL;
	}
	struct tool_run *run = xcalloc(1, sizeof(*run));
	run->sink = *sink;
	buf_init(&run->page, PAGE_BYTES_MAX);
	run->http =
		http_start(env->http,
			   &(struct http_request){
				   .method = "GET",
				   .url = url,
				   .headers = headers,
				   .headers_count = 1,
				   .connect_ms = CONNECT_MS,
				   .first_byte_ms = FIRST_BYTE_MS,
				   .idle_ms = IDLE_MS,
				   .total_ms = left_ms < TOTAL_MS ? left_ms : TOTAL_MS,
				   .body_max = 4 * PAGE_BYTES_MAX,
			   },
			   &(struct http_sink){.closure = run, .head = on_head, .body = on_body, .end = on_end}, &e);
	if (run->http)
		return run;
	run_free(run);
	tell_error(sink, "The address cannot be used.");
	return NULL;
}

static void fetch_cancel(struct tool_run *run)
{
	http_cancel(run->http);
	run_free(run);
}

static void free_state(void *state)
{
	struct jval *allow = state;

	jval_free(&allow);
}

bool tool_fetch_url(struct tool_box *box, const struct jval *allow, struct err *e)
{
	static const struct tool_impl impl = {.call = fetch, .cancel = fetch_cancel, .free_state = free_state};
	static const char schema[] = "{\"type\":\"object\",\"properties\":{\"url\":{\"type\":\"string\"}},"
				     "\"required\":[\"url\"]}";
	const struct json_limits limits = {.bytes_max = sizeof(schema), .depth_max = 8};
	struct tool tool = {
		.impl = &impl,
		.name = "fetch_url",
		.description = "Reads a page of an allowed address as text.",
	};

	if (!jval_parse(schema, sizeof(schema) - 1, &limits, &tool.parameters, e))
		return false;
	tool.state = allow ? jval_ref((struct jval *)allow) : jval_new_array();
	return tool_box_add(box, &tool, e);
}
