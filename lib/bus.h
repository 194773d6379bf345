/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NATS. The only file that includes nats.h is bus.c. One struct bus is one
 * connection that reconnects for ever; when the library closes it for good (see
 * closed in bus_options) the owner makes a new one or ends the process.
 *
 * Threads: every function may be called from any thread. Handlers run on the
 * library's threads: they copy or hand over the message and return at once.
 *
 * Nothing is buffered while the connection is away: publishing then fails with
 * ERR_DOWN at once.
 */
#ifndef LIB_BUS_H
#define LIB_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/err.h"

struct bus;
struct bus_sub;
struct bus_call;
struct bus_msg;

struct bus_options {
	const char *url;  /* one or several, comma-separated; no user or password inside */
	const char *name; /* shown by the server's monitoring */
	const char *user; /* NULL: none */
	const char *password;
	const char *creds_file;    /* NULL: none */
	const char *tls_ca;        /* NULL: no TLS */
	const char *inbox_prefix;  /* "_INBOX_APP": replies come to <prefix>.<unique>.> */
	int ping_interval_ms;      /* 5000; two misses cut the connection */
	bool send_asap;            /* flush each publish in the caller (latency over throughput) */
	unsigned delivery_threads; /* of the process-wide pool, at least 1 */
	size_t call_queue_max;     /* replies that may wait in one call, in messages */
	/* On a library thread (when bus_open connects at once: on its caller's); may be NULL. up: connected or
	 * connected again; down: lost. */
	void (*state_changed)(void *closure, bool is_up);
	void (*closed)(void *closure); /* the connection will not come back by itself */
	void *closure;
};

/* Does not fail because the server is away: connects in the background. options are copied. A refused login is
 * ERR_DENIED here, or a call of closed later. */
bool bus_open(const struct bus_options *options, struct bus **ret_bus, struct err *e) MUST_CHECK;
/* Flushes at most 1 s, closes, waits until no handler runs. */
void bus_close(struct bus **bus);
bool bus_is_up(const struct bus *bus);
bool bus_is_clustered(struct bus *bus);  /* the server told of further cluster members */
size_t bus_payload_max(struct bus *bus); /* the server's limit, 1 MiB before the first connect */

/* --- publish --- */
/* subject: checked to be tokens without blanks and wildcards. reply NULL: none. */
bool bus_publish(struct bus *bus, const char *subject, const char *reply, const void *data, size_t len,
		 struct err *e) MUST_CHECK;
/* The server has processed all that was published before. */
bool bus_flush(struct bus *bus, int timeout_ms, struct err *e) MUST_CHECK;
/* Publishes into a stream and waits for its PubAck. ERR_DOWN: no connection, no stream, or refused; ERR_UNCERTAIN: no
 * ack in time. */
bool bus_stream_publish(struct bus *bus, const char *subject, const char *msg_id, const void *data, size_t len,
			int timeout_ms, bool *ret_is_duplicate, struct err *e) MUST_CHECK;
/* Its two halves, so that many may be under way at once. The second waits, and ends the call whatever comes. */
bool bus_stream_publish_start(struct bus *bus, const char *subject, const char *msg_id, const void *data, size_t len,
			      struct bus_call **ret_call, struct err *e) MUST_CHECK;
bool bus_stream_publish_end(struct bus_call **call, int timeout_ms, bool *ret_is_duplicate, struct err *e) MUST_CHECK;

/* --- messages --- */
const char *bus_msg_subject(const struct bus_msg *m);
const char *bus_msg_reply(const struct bus_msg *m);                 /* NULL where none */
const char *bus_msg_data(const struct bus_msg *m, size_t *ret_len); /* NUL-terminated behind len */
/* The Status header of a server's reply to a pull request (100, 404, 408, 409, 503); 0 for an ordinary message. */
int bus_msg_status(const struct bus_msg *m);
void bus_msg_free(struct bus_msg **m);

/* --- subscriptions --- */
/* m is the handler's: hand it on or bus_msg_free it. */
typedef void (*bus_handler)(void *closure, struct bus_msg *m);
/* queue NULL: plain. closure is kept until the subscription is gone. pending_max: messages that may wait, 0 =
 * library's. */
bool bus_subscribe(struct bus *bus, const char *subject, const char *queue, size_t pending_max, bus_handler handler,
		   void *closure, struct bus_sub **ret_sub, struct err *e) MUST_CHECK;
/*
 * Leaves without losing a request (natsSubscription_Drain): the server stops sending, what is on the way is still
 * handled, then `drained` is called once, on some thread, after the last handler of each has returned. The subs are
 * consumed. Blocks no caller; many may be drained in one call, which costs one flush, not a thread each.
 */
void bus_drain(struct bus *bus, struct bus_sub **subs, size_t count, void (*drained)(void *closure), void *closure);

/* --- calls: one request, one or more replies on the connection's own permanent wildcard inbox --- */
enum bus_next { BUS_MSG, BUS_TIMEOUT, BUS_NO_RESPONDERS, BUS_DOWN, BUS_OVERFLOW };

/* Sends the request. The call is yours; its replies wait in a queue of call_queue_max. */
bool bus_call_start(struct bus *bus, const char *subject, const void *data, size_t len, struct bus_call **ret_call,
		    struct err *e) MUST_CHECK;
/* The next reply, waiting at most timeout_ms (0: only look). BUS_MSG: *ret_msg is yours. BUS_OVERFLOW and
 * BUS_NO_RESPONDERS stay; BUS_DOWN means the connection was lost since the start: replies may be missing. */
enum bus_next bus_call_next(struct bus_call *call, int timeout_ms, struct bus_msg **ret_msg);
/* Late replies are dropped from here on. Accepts NULL. */
void bus_call_end(struct bus_call **call);
/* A file descriptor that is readable while replies (or an end) wait, for poll() beside a client's socket. Made at first
 * use, owned by the call; -1 where none can be had. */
int bus_call_fd(struct bus_call *call);

/* --- JetStream management (worker) --- */
struct bus_stream_config {
	const char *name;
	const char *subjects;
	int64_t max_age_s;
	int64_t duplicate_window_s;
	int replicas;
	int64_t max_bytes;
};
struct bus_consumer_config {
	const char *stream;
	const char *durable;
	int64_t ack_wait_s;
	int64_t max_ack_pending;
};
/* Make it, or update it where it differs. File storage, limits retention, discard old. Blocks up to timeout_ms. */
bool bus_stream_ensure(struct bus *bus, const struct bus_stream_config *config, int timeout_ms,
		       struct err *e) MUST_CHECK;
/* Durable pull consumer, explicit acks, deliver all, no limit of deliveries. ERR_MISSING: there is no such stream, or
 * its files vanished under the running server and it was dropped: ensure it, then ask again. */
bool bus_consumer_ensure(struct bus *bus, const struct bus_consumer_config *config, int timeout_ms,
			 struct err *e) MUST_CHECK;
struct bus_consumer_info {
	uint64_t waiting;
	uint64_t in_flight;
	uint64_t redelivered;
};
bool bus_consumer_info(struct bus *bus, const char *stream, const char *durable, int timeout_ms,
		       struct bus_consumer_info *ret_info, struct err *e) MUST_CHECK;
/*
 * Asks for up to batch events: they, and the server's statuses, come to inbox_subject (subscribed by the caller).
 * Nothing at all comes where stream or consumer do not exist (bus_consumer_info tells), or where the request fell
 * between two leaders of a cluster. A request of more than two BUS_PULL_HEARTBEAT_MS is therefore answered with status
 * 100 that often while nothing else comes: where that stays away, ask anew.
 */
#define BUS_PULL_HEARTBEAT_MS 1000
bool bus_pull(struct bus *bus, const char *stream, const char *durable, const char *inbox_subject, int batch,
	      int64_t expires_ms, struct err *e) MUST_CHECK;
/* <inbox_prefix>.<unique>.<word>: a subject for the caller's own subscription. */
void bus_inbox_subject(struct bus *bus, const char *word, char *ret_subject, size_t size);
/* For a pulled message, by its reply subject. Fire and forget. */
bool bus_ack(struct bus *bus, const struct bus_msg *m, struct err *e) MUST_CHECK;
bool bus_nak(struct bus *bus, const struct bus_msg *m, int64_t delay_ms, struct err *e) MUST_CHECK;
bool bus_in_progress(struct bus *bus, const struct bus_msg *m, struct err *e) MUST_CHECK;
bool bus_term(struct bus *bus, const struct bus_msg *m, struct err *e) MUST_CHECK;

#endif
