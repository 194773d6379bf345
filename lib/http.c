/* SPDX-License-Identifier: Apache-2.0 */
/*
 * curl's multi interface, driven by sockets (curl_multi_socket_action).
 *
 * The one trap of it: while curl_multi_socket_action() runs (is_inside), and so in every sink but `end`, no call may be
 * added or removed. A call that is started there is added, one that is cancelled there is removed, when it has returned
 * (settle). `end` is called outside.
 *
 * A call is one block: the struct, its header lines as curl wants them, their text. It is wiped, as headers hold keys.
 * What curl itself copies of them is overwritten when it is freed (secret_hide_process), or by the next call's.
 */
#include "lib/http.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <curl/curl.h>
#include <utlist.h>

#include "lib/clock.h"
#include "lib/secret.h"
#include "lib/xalloc.h"

#define HEAD_BYTES_MAX (64 * 1024) /* with all 1xx answers before it and trailers behind the body */
#define CONTENT_TYPE_SIZE 128
#define IDLE_MAX 64   /* easy handles that wait for the next call */
#define KEPT_MAX 1024 /* connections that are kept, where no limit is set */
#define RETRY_AFTER_MAX_S (7 * 24 * 3600)
#define NO_LIMIT_MS 2000000000L /* curl takes 0 as 300 s for connecting */

struct http_call {
	struct http *http;
	CURL *easy;
	struct http_sink sink;
	struct http_head head;
	char content_type[CONTENT_TYPE_SIZE];
	int64_t first_byte_ms, idle_ms, total_ms;
	int64_t started_ms, progress_ms;
	size_t head_left, body_left; /* bytes that may still come */
	bool has_tls;
	bool is_added;     /* to the multi handle */
	bool has_head;     /* the sink knows it */
	bool is_cancelled; /* while is_inside: settle() frees it */
	bool is_enough, is_too_large;
	bool is_refused, is_tried; /* an address, another */
	struct http_call *prev, *next;
	size_t block_bytes;
	struct curl_slist lines[]; /* and their text behind them */
};

struct http {
	CURLM *multi;
	struct http_hooks hooks;
	bool (*may_connect)(void *closure, bool has_tls, const struct sockaddr *address);
	void *may_connect_closure;
	char *ca_file;
	bool has_ca_bundle; /* of the system, in one file */
	struct http_call *calls;
	struct http_call *next_in_tick; /* where http_tick() goes on */
	unsigned open;                  /* calls without the cancelled ones */
	bool is_inside, is_unsettled;
	CURL *idle[IDLE_MAX];
	unsigned idle_count;
};

/* --- library --- */

bool http_library_init(struct err *e)
{
	const unsigned needed = CURL_VERSION_SSL | CURL_VERSION_ASYNCHDNS;

	if (curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK)
		return err_set(e, ERR_INTERNAL, "libcurl does not start");
	if (((unsigned)curl_version_info(CURLVERSION_NOW)->features & needed) != needed)
		return err_set(e, ERR_INTERNAL, "this libcurl has no TLS, or waits for name servers");
	return true;
}

void http_library_end(void)
{
	curl_global_cleanup();
}

static void must(CURLMcode code)
{
	if (code == CURLM_OUT_OF_MEMORY)
		xalloc_die();
	assert(code == CURLM_OK || code == CURLM_BAD_SOCKET); /* a socket that curl had closed already */
}

/* --- hooks --- */

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *closure, void *slot)
{
	struct http *http = closure;
	void *owners = slot;
	int events = 0;

	(void)easy;
	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		events |= HTTP_READ;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		events |= HTTP_WRITE;
	http->hooks.watch(http->hooks.closure, fd, events, &owners);
	if (owners != slot)
		(void)curl_multi_assign(http->multi, fd, owners);
	return 0;
}

static int on_alarm(CURLM *multi, long ms, void *closure)
{
	struct http *http = closure;

	(void)multi;
	http->hooks.alarm(http->hooks.closure, ms);
	return 0;
}

static void count_open(struct http *http, int change)
{
	bool was_busy = http->open > 0;

	http->open += (unsigned)change;
	if ((http->open > 0) != was_busy)
		http->hooks.ticks(http->hooks.closure, http->open > 0);
}

/* --- what curl tells of a call --- */

static curl_socket_t on_open_socket(void *closure, curlsocktype purpose, struct curl_sockaddr *address)
{
	struct http_call *call = closure;
	const struct http *http = call->http;

	(void)purpose;
	if (http->may_connect && !http->may_connect(http->may_connect_closure, call->has_tls, &address->addr)) {
		call->is_refused = true;
		return CURL_SOCKET_BAD;
	}
	call->is_tried = true;
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Before a request is sent, on a kept connection too: where it leads may be refused by now. */
static int on_request(void *closure, char *server_ip, char *own_ip, int server_port, int own_port)
{
	struct http_call *call = closure;
	const struct http *http = call->http;
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)server_port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)server_port)};
	const struct sockaddr *address = NULL;

	(void)own_ip;
	(void)own_port;
	if (!http->may_connect)
		return CURL_PREREQFUNC_OK;
	if (inet_pton(AF_INET, server_ip, &in.sin_addr) == 1)
		address = (const struct sockaddr *)&in;
	else if (inet_pton(AF_INET6, server_ip, &in6.sin6_addr) == 1)
		address = (const struct sockaddr *)&in6;
	if (address && http->may_connect(http->may_connect_closure, call->has_tls, address))
		return CURL_PREREQFUNC_OK;
	call->is_refused = true;
	return CURL_PREREQFUNC_ABORT;
}

/* The value where line is such a header, without blanks around it; NULL else. */
static const char *header_value(const char *line, size_t len, const char *name, size_t *ret_len)
{
	size_t name_len = strlen(name);

	if (len <= name_len || strncasecmp(line, name, name_len) != 0 || line[name_len] != ':')
		return NULL;
	line += name_len + 1;
	len -= name_len + 1;
	while (len > 0 && (*line == ' ' || *line == '\t')) {
		line++;
		len--;
	}
	while (len > 0 && strchr(" \t\r\n", line[len - 1]))
		len--;
	*ret_len = len;
	return line;
}

static int64_t parse_retry_after(const char *value, size_t len)
{
	char text[64];
	int64_t seconds = 0;

	if (len == 0 || len >= sizeof(text))
		return -1;
	memcpy(text, value, len);
	text[len] = '\0';
	if (strspn(text, "0123456789") == len) {
		for (size_t i = 0; i < len && seconds <= RETRY_AFTER_MAX_S; i++)
			seconds = seconds * 10 + (text[i] - '0');
	} else {
		int64_t when = (int64_t)curl_getdate(text, NULL);
		if (when < 0)
			return -1;
		seconds = when - clock_unix_ms() / 1000;
	}
	if (seconds < 0)
		seconds = 0;
	return 1000 * (seconds < RETRY_AFTER_MAX_S ? seconds : RETRY_AFTER_MAX_S);
}

static void begin_head(struct http_call *call)
{
	call->content_type[0] = '\0';
	call->head = (struct http_head){.content_type = call->content_type, .retry_after_ms = -1};
}

static void take_header(struct http_call *call, const char *line, size_t len)
{
	const char *value;
	size_t value_len;

	if ((value = header_value(line, len, "Content-Type", &value_len))) {
		if (value_len >= sizeof(call->content_type))
			value_len = sizeof(call->content_type) - 1;
		memcpy(call->content_type, value, value_len);
		call->content_type[value_len] = '\0';
	} else if ((value = header_value(line, len, "Retry-After", &value_len))) {
		call->head.retry_after_ms = parse_retry_after(value, value_len);
	}
}

/* The head is whole, unless it was that of a 1xx answer, which another one follows. */
static void end_head(struct http_call *call)
{
	long status = 0;

	(void)curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200)
		return;
	call->head.status = (int)status;
	call->has_head = true;
	if (call->sink.head)
		call->sink.head(call->sink.closure, &call->head);
}

/* One line of the head at a time; anything but its length ends the call. */
static size_t on_header(char *line, size_t size, size_t count, void *closure)
{
	struct http_call *call = closure;
	size_t len = size * count;

	if (len > call->head_left) {
		call->is_too_large = true;
		return 0;
	}
	call->head_left -= len;
	call->progress_ms = clock_now_ms();
	if (call->has_head)
		return len; /* a trailer */
	if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
		begin_head(call);
	else if (line[0] == '\r' || line[0] == '\n')
		end_head(call);
	else
		take_header(call, line, len);
	return len;
}

static size_t on_body(char *data, size_t size, size_t count, void *closure)
{
	struct http_call *call = closure;
	size_t len = size * count;

	if (len > call->body_left) {
		call->is_too_large = true;
		return CURL_WRITEFUNC_ERROR;
	}
	call->body_left -= len;
	call->progress_ms = clock_now_ms();
	call->is_enough = !call->sink.body(call->sink.closure, data, len);
	return call->is_enough ? CURL_WRITEFUNC_ERROR : len;
}

/* --- requests --- */

/* What curl itself says of the connection and of the body's length. */
static bool is_curls_own(const char *name)
{
	static const char *const names[] = {"Connection", "Content-Length",    "Expect", "Host", "Keep-Alive", "TE",
					    "Trailer",    "Transfer-Encoding", "Upgrade"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcasecmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

static bool is_token(const char *s)
{
	static const char token_chars[] = "!#$%&'*+-.^_`|~0123456789"
					  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

	return s[0] != '\0' && s[strspn(s, token_chars)] == '\0';
}

static bool is_one_line(const char *s)
{
	for (; *s; s++) {
		if (((unsigned char)*s < ' ' && *s != '\t') || *s == 0x7f)
			return false;
	}
	return true;
}

static bool is_https(const char *url)
{
	return strncasecmp(url, "https://", 8) == 0;
}

static bool is_http_url(const char *url)
{
	size_t scheme_len = strncasecmp(url, "http://", 7) == 0 ? 7 : is_https(url) ? 8 : 0;

	if (scheme_len == 0 || url[scheme_len] == '/') /* curl takes "http:///host", too */
		return false;
	CURLU *parsed = curl_url();
	if (!parsed)
		xalloc_die();
	CURLUcode code = curl_url_set(parsed, CURLUPART_URL, url, CURLU_DISALLOW_USER);
	curl_url_cleanup(parsed);
	if (code == CURLUE_OUT_OF_MEMORY)
		xalloc_die();
	return code == CURLUE_OK;
}

/* The texts name no value: it may be a key. */
static bool check_request(const struct http_request *request, struct err *e)
{
	if (!is_http_url(request->url))
		return err_set(e, ERR_INPUT, "not a URL that may be called");
	if (strcmp(request->method, "GET") != 0 && strcmp(request->method, "POST") != 0 &&
	    strcmp(request->method, "DELETE") != 0)
		return err_set(e, ERR_INPUT, "not a method that may be sent: %s", request->method);
	for (unsigned i = 0; i < request->headers_count; i++) {
		const struct http_header *header = &request->headers[i];
		if (!is_token(header->name) || is_curls_own(header->name) || !is_one_line(header->value))
			return err_set(e, ERR_INPUT, "not a header that may be sent: %s", header->name);
	}
	return true;
}

/* What curl would add by itself and must not: these have no value, so nothing is sent. A type given before stands. */
static struct curl_slist no_content_type = {.data = (char[]){"Content-Type:"}};
static struct curl_slist no_expect = {.data = (char[]){"Expect:"}, .next = &no_content_type};

static struct http_call *call_new(const struct http_request *request)
{
	size_t lines_bytes = request->headers_count * sizeof(struct curl_slist), text_bytes = 0;

	for (unsigned i = 0; i < request->headers_count; i++)
		text_bytes += strlen(request->headers[i].name) + strlen(request->headers[i].value) + sizeof(": ");
	size_t block_bytes = sizeof(struct http_call) + lines_bytes + text_bytes;
	struct http_call *call = xcalloc(1, block_bytes);
	char *text = (char *)call->lines + lines_bytes, *end = (char *)call + block_bytes;

	call->block_bytes = block_bytes;
	call->has_tls = is_https(request->url);
	for (unsigned i = 0; i < request->headers_count; i++) {
		const struct http_header *header = &request->headers[i];
		bool is_last = i + 1 == request->headers_count;
		call->lines[i] = (struct curl_slist){text, is_last ? &no_expect : &call->lines[i + 1]};
		/* curl's way to say that a header has no value is a semicolon */
		text += 1 + snprintf(text, (size_t)(end - text), header->value[0] ? "%s: %s" : "%s;", header->name,
				     header->value);
	}
	return call;
}

/* The first that fails is reported. */
#define SET(option, value)                                                                                             \
	do {                                                                                                           \
		if (code == CURLE_OK)                                                                                  \
			code = curl_easy_setopt(easy, option, value);                                                  \
	} while (0)

/* The same for every call. */
static CURLcode set_policy(const struct http *http, CURL *easy)
{
	CURLcode code = CURLE_OK;

	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L); /* else the end of a call would wait for its name server */
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	/* curl keeps the certificates that it read for the next connection only where no folder of them is set. */
	if (http->ca_file)
		SET(CURLOPT_CAINFO, http->ca_file);
	if (http->ca_file || http->has_ca_bundle)
		SET(CURLOPT_CAPATH, NULL);
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	SET(CURLOPT_PREREQFUNCTION, on_request);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	return code;
}

static long curls_limit(int64_t ms)
{
	return ms > 0 && ms < NO_LIMIT_MS ? (long)ms : NO_LIMIT_MS;
}

static CURLcode set_request(struct http_call *call, const struct http_request *request)
{
	CURL *easy = call->easy;
	CURLcode code = CURLE_OK;

	SET(CURLOPT_PRIVATE, call);
	SET(CURLOPT_OPENSOCKETDATA, call);
	SET(CURLOPT_PREREQDATA, call);
	SET(CURLOPT_HEADERDATA, call);
	SET(CURLOPT_WRITEDATA, call);
	SET(CURLOPT_URL, request->url);
	SET(CURLOPT_HTTPHEADER, request->headers_count > 0 ? call->lines : &no_expect);
	if (request->body || strcmp(request->method, "POST") == 0) {
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(request->body ? request->body_len : 0));
		SET(CURLOPT_COPYPOSTFIELDS, request->body ? request->body : "");
	}
	SET(CURLOPT_CUSTOMREQUEST, request->method);
	SET(CURLOPT_CONNECTTIMEOUT_MS, curls_limit(request->connect_ms));
	SET(CURLOPT_TIMEOUT_MS, curls_limit(request->total_ms));
	SET(CURLOPT_FRESH_CONNECT, (long)request->is_fresh);
	SET(CURLOPT_FORBID_REUSE, (long)request->is_fresh);
	return code;
}

/* --- calls --- */

static CURL *easy_take(struct http *http)
{
	CURL *easy = http->idle_count > 0 ? http->idle[--http->idle_count] : curl_easy_init();

	if (!easy)
		xalloc_die();
	return easy;
}

static void easy_give(struct http *http, CURL *easy)
{
	if (http->idle_count == IDLE_MAX) {
		curl_easy_cleanup(easy);
		return;
	}
	curl_easy_reset(easy);
	http->idle[http->idle_count++] = easy;
}

/* Not while is_inside. */
static void call_free(struct http_call *call)
{
	struct http *http = call->http;

	if (http->next_in_tick == call)
		http->next_in_tick = call->next;
	DL_DELETE(http->calls, call);
	if (call->is_added)
		must(curl_multi_remove_handle(http->multi, call->easy));
	easy_give(http, call->easy);
	secret_wipe(call, call->block_bytes);
	free(call);
}

static void call_end(struct http_call *call, enum http_outcome outcome, const char *detail)
{
	const struct http_sink sink = call->sink;

	count_open(call->http, -1);
	call_free(call);
	sink.end(sink.closure, outcome, detail);
}

static void call_add(struct http_call *call)
{
	call->is_added = true;
	must(curl_multi_add_handle(call->http->multi, call->easy));
}

static const char *timeout_detail(const struct http_call *call)
{
	curl_off_t spent_us = 0;

	(void)curl_easy_getinfo(call->easy, CURLINFO_TOTAL_TIME_T, &spent_us);
	return call->total_ms > 0 && spent_us >= call->total_ms * 1000 ? "total" : "connect";
}

static enum http_outcome outcome_of(const struct http_call *call, CURLcode code, const char **ret_detail)
{
	*ret_detail = curl_easy_strerror(code);
	if (call->is_too_large) {
		*ret_detail = call->has_head ? "body" : "head";
		return HTTP_TOO_LARGE;
	}
	if (call->is_enough) {
		*ret_detail = "enough";
		return HTTP_CANCELLED;
	}
	/* A host of several addresses may have some that are refused, and another that does not answer. */
	if (call->is_refused &&
	    ((code == CURLE_COULDNT_CONNECT && !call->is_tried) || code == CURLE_ABORTED_BY_CALLBACK)) {
		*ret_detail = "address not allowed";
		return HTTP_REFUSED;
	}
	switch ((int)code) {
	case CURLE_OK:
		return HTTP_COMPLETE;
	case CURLE_COULDNT_RESOLVE_HOST:
		return HTTP_NO_HOST;
	case CURLE_COULDNT_CONNECT:
		return HTTP_UNREACHABLE;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
		return HTTP_NO_TLS;
	case CURLE_OPERATION_TIMEDOUT:
		*ret_detail = timeout_detail(call);
		return HTTP_TIMEOUT;
	case CURLE_OUT_OF_MEMORY: /* what curl says of a line, too, that is longer than it takes */
		*ret_detail = "head";
		return HTTP_TOO_LARGE;
	default:
		return HTTP_BROKEN;
	}
}

/* What could not be done while curl ran, and the calls that it has ended. */
static void settle(struct http *http)
{
	struct http_call *call, *next;
	const CURLMsg *message;
	int ignored;

	if (http->is_unsettled) {
		http->is_unsettled = false;
		DL_FOREACH_SAFE (http->calls, call, next) {
			if (call->is_cancelled)
				call_free(call);
			else if (!call->is_added)
				call_add(call);
		}
	}
	while ((message = curl_multi_info_read(http->multi, &ignored))) {
		CURLcode code = message->data.result;
		const char *detail;
		char *private = NULL;
		(void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
		call = (struct http_call *)(void *)private;
		enum http_outcome outcome = outcome_of(call, code, &detail);
		call_end(call, outcome, detail);
	}
}

static void drive(struct http *http, curl_socket_t fd, int events)
{
	int running;

	assert(!http->is_inside);
	http->is_inside = true;
	must(curl_multi_socket_action(http->multi, fd, events, &running));
	http->is_inside = false;
	settle(http);
}

struct http_call *http_start(struct http *http, const struct http_request *request, const struct http_sink *sink,
			     struct err *e)
{
	if (!check_request(request, e))
		return NULL;
	struct http_call *call = call_new(request);
	call->http = http;
	call->easy = easy_take(http);
	call->sink = *sink;
	call->first_byte_ms = request->first_byte_ms;
	call->idle_ms = request->idle_ms;
	call->total_ms = request->total_ms;
	call->started_ms = call->progress_ms = clock_now_ms();
	call->head_left = HEAD_BYTES_MAX;
	call->body_left = request->body_max;
	begin_head(call);
	DL_APPEND(http->calls, call);
	CURLcode code = set_policy(http, call->easy);
	if (code == CURLE_OK)
		code = set_request(call, request);
	if (code == CURLE_OUT_OF_MEMORY)
		xalloc_die();
	if (code != CURLE_OK) {
		call_free(call);
		err_set(e, ERR_INTERNAL, "libcurl: %s", curl_easy_strerror(code));
		return NULL;
	}
	if (http->is_inside)
		http->is_unsettled = true;
	else
		call_add(call);
	count_open(http, 1);
	return call;
}

static bool hear_no_more(void *closure, const char *data, size_t len)
{
	(void)closure;
	(void)data;
	(void)len;
	return false;
}

void http_cancel(struct http_call *call)
{
	struct http *http = call->http;

	count_open(http, -1);
	if (!http->is_inside) {
		call_free(call);
		return;
	}
	call->sink = (struct http_sink){.body = hear_no_more}; /* curl may go on with it until settle() */
	call->is_cancelled = true;
	http->is_unsettled = true;
}

void http_socket_ready(struct http *http, int fd, int events)
{
	drive(http, fd, (events & HTTP_READ ? CURL_CSELECT_IN : 0) | (events & HTTP_WRITE ? CURL_CSELECT_OUT : 0));
}

void http_alarm(struct http *http)
{
	drive(http, CURL_SOCKET_TIMEOUT, 0);
}

static bool is_overdue(int64_t since_ms, int64_t limit_ms, int64_t now_ms)
{
	return limit_ms > 0 && now_ms - since_ms >= limit_ms;
}

void http_tick(struct http *http, int64_t now_ms)
{
	struct http_call *call;

	assert(!http->is_inside);
	for (http->next_in_tick = http->calls; (call = http->next_in_tick);) {
		http->next_in_tick = call->next; /* moved on by call_free(), as `end` may cancel others */
		if (!call->has_head && is_overdue(call->started_ms, call->first_byte_ms, now_ms))
			call_end(call, HTTP_TIMEOUT, "first byte");
		else if (call->has_head && is_overdue(call->progress_ms, call->idle_ms, now_ms))
			call_end(call, HTTP_TIMEOUT, "idle");
	}
}

unsigned http_calls(const struct http *http)
{
	return http->open;
}

/* --- the client --- */

static bool set_up(struct http *http, const struct http_options *options, struct err *e)
{
	CURLM *multi = http->multi;
	CURL *easy = easy_take(http);
	char *bundle = NULL;
	int64_t kept = options->connections_max > 0 ? options->connections_max : KEPT_MAX;

	must(curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket));
	must(curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, http));
	must(curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_alarm));
	must(curl_multi_setopt(multi, CURLMOPT_TIMERDATA, http));
	must(curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)kept));
	must(curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)options->connections_max));
	must(curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)options->connections_per_host_max));
	(void)curl_easy_getinfo(easy, CURLINFO_CAINFO, &bundle);
	http->has_ca_bundle = bundle && access(bundle, R_OK) == 0;
	CURLcode code = set_policy(http, easy); /* all calls do the same: better found out now */
	easy_give(http, easy);
	return code == CURLE_OK || err_set(e, ERR_INTERNAL, "libcurl: %s", curl_easy_strerror(code));
}

struct http *http_new(const struct http_options *options, struct err *e)
{
	struct http *http = xcalloc(1, sizeof(*http));

	http->hooks = options->hooks;
	http->may_connect = options->may_connect;
	http->may_connect_closure = options->may_connect_closure;
	http->ca_file = options->ca_file ? xstrdup(options->ca_file) : NULL;
	http->multi = curl_multi_init();
	if (!http->multi)
		xalloc_die();
	if (!set_up(http, options, e))
		http_free(&http);
	return http;
}

void http_free(struct http **http)
{
	struct http *h = *http;

	*http = NULL;
	if (!h)
		return;
	assert(!h->is_inside);
	while (h->calls)
		http_cancel(h->calls);
	while (h->idle_count > 0)
		curl_easy_cleanup(h->idle[--h->idle_count]);
	(void)curl_multi_cleanup(h->multi);
	free(h->ca_file);
	free(h);
}
