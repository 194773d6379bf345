/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP/1.1 client over curl's multi interface, which only http.c includes. It has no loop and no thread of its own:
 * its owner's loop watches the sockets and the alarm that it asks for (struct http_hooks). One thread; nothing blocks
 * (names are resolved on curl's threads). The process ignores SIGPIPE.
 *
 * Connections are kept and used again. Redirects are not followed, proxies of the environment are not used, addresses
 * that `may_connect` refuses are not connected to: it is asked with the resolved address, each time a socket is opened,
 * and before each request, so that a connection which was kept is judged anew.
 *
 * A call goes: http_start() → head → body … → end. Each end comes once; a cancelled call has none.
 */
#ifndef LIB_HTTP_H
#define LIB_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

struct http;
struct http_call;
struct sockaddr;

enum http_events { HTTP_READ = 1, HTTP_WRITE = 2 };

/* What the owner's loop does. These call nothing of this header; they are called from within each of its functions. */
struct http_hooks {
	void *closure;
	/* Watch fd for these events (or'ed; 0: not any more). *slot is the owner's, one per socket, NULL at first. */
	void (*watch)(void *closure, int fd, int events, void **slot);
	/* Call http_alarm() in so many ms (0: as soon as possible; -1: not at all). Replaces the one before. */
	void (*alarm)(void *closure, int64_t ms);
	/* Calls are open: call http_tick() some times a second. False: none is open any more. */
	void (*ticks)(void *closure, bool is_wanted);
};

struct http_options {
	struct http_hooks hooks;
	/* NULL: everywhere. has_tls: the URL is https. */
	bool (*may_connect)(void *closure, bool has_tls, const struct sockaddr *address);
	void *may_connect_closure;
	int64_t connections_max, connections_per_host_max; /* 0: no limit; calls beyond it wait */
	const char *ca_file;                               /* NULL: the system's */
};

struct http_header {
	const char *name, *value;
};

struct http_request {
	const char *method;                /* "GET", "POST", "DELETE" */
	const char *url;                   /* http or https, without a user's name */
	const struct http_header *headers; /* others than those of the connection and of the body's length */
	unsigned headers_count;
	const char *body; /* NULL: none. Copied. */
	size_t body_len;
	/*
	 * 0: no limit. Until the connection, with TLS, stands (from when one may be opened); from http_start() until
	 * the head of the answer is whole; between two parts of the body; from http_start() to the end.
	 */
	int64_t connect_ms, first_byte_ms, idle_ms, total_ms;
	size_t body_max; /* of the answer, in bytes */
	bool is_fresh;   /* on a connection of its own: a probe sees the server's present state */
};

struct http_head {
	int status;               /* 200 to 999 */
	const char *content_type; /* "" where absent; borrowed, until the call's end */
	int64_t retry_after_ms;   /* -1: not said. From seconds or an HTTP date (RFC 9110 10.2.3). */
};

enum http_outcome {
	HTTP_COMPLETE,
	HTTP_CANCELLED,   /* a sink said enough */
	HTTP_REFUSED,     /* may_connect said no */
	HTTP_NO_HOST,     /* the name is not known, or the name servers give no answer */
	HTTP_UNREACHABLE, /* no connection */
	HTTP_NO_TLS,      /* no TLS with it, or its certificate is not trusted */
	HTTP_TIMEOUT,     /* detail: "connect", "first byte", "idle", "total" */
	HTTP_BROKEN,      /* it broke in the middle, or was no HTTP */
	HTTP_TOO_LARGE    /* the body, or the head */
};

/*
 * What a call reports to. All on the owner's thread, inside http_socket_ready(), http_alarm() or http_tick(), never
 * inside http_start(). From within, calls may be started and cancelled; the rest of this header is not for there.
 */
struct http_sink {
	void *closure;
	void (*head)(void *closure, const struct http_head *head); /* once, before the first body; NULL: not wanted */
	/* Any split. False: enough; `end` comes with HTTP_CANCELLED. */
	bool (*body)(void *closure, const char *data, size_t len);
	/* Once, the last; the call is gone. detail: a constant text for the log, without secrets. */
	void (*end)(void *closure, enum http_outcome outcome, const char *detail);
};

/* hooks and ca_file are copied. */
struct http *http_new(const struct http_options *options, struct err *e) MUST_CHECK;
/* Ends all calls without a word. */
void http_free(struct http **http);
/* Everything of request may be gone afterwards. NULL: e (ERR_INPUT: not a URL, a method or a header that may be sent).
 */
struct http_call *http_start(struct http *http, const struct http_request *request, const struct http_sink *sink,
			     struct err *e);
/* The sink is not called any more. Also from within a sink of the same call, but for `end`. */
void http_cancel(struct http_call *call);

void http_socket_ready(struct http *http, int fd, int events); /* an error is both events */
void http_alarm(struct http *http);
/* Looks after first-byte and idle limits. now_ms: clock_now_ms(). */
void http_tick(struct http *http, int64_t now_ms);
unsigned http_calls(const struct http *http); /* open ones */

/* Once per process, before any thread. */
bool http_library_init(struct err *e) MUST_CHECK;
void http_library_end(void);

#endif
