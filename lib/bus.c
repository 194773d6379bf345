/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NATS connection, publishing, subscriptions and their end. bus_private.h
 * tells what lies in which file.
 *
 * A subscription is given back to the library (destroyed) by one thread only,
 * the drainer, and only after a flush succeeded behind its UNSUB, or after the
 * connection was closed: the library's read thread uses a subscription without
 * holding a reference while it delivers a message. Until then the bus_sub, and with it the
 * owner's closure, stays. Its last handler has returned when the library
 * calls on_complete.
 *
 * The library's own drain starts a thread for each subscription, so the drainer
 * hands it DRAIN_BATCH of them at a time.
 */
#include "lib/bus_private.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "lib/log.h"
#include "lib/secret.h"
#include "lib/xalloc.h"

#define CONNECT_TIMEOUT_MS 2000
#define WRITE_DEADLINE_MS 5000
#define RECONNECT_WAIT_MS 250
#define RECONNECT_JITTER_MS 100
#define CLOSE_FLUSH_MS 1000
#define PINGS_OUT_MAX 2
#define PENDING_BYTES_MAX (64 * 1024 * 1024)
#define PAYLOAD_DEFAULT (1024 * 1024)
#define URLS_MAX 16
#define DRAIN_BATCH 64
#define DRAIN_TIMEOUT_MS 5000
#define DRAIN_FLUSH_MS 2000
#define GIVE_BACK_COUNT 32
#define GIVE_BACK_BYTES 65536

struct bus_sub {
	struct bus *bus;
	natsSubscription *handle;
	bus_handler handler;
	void *closure;
	bool is_complete; /* no handler runs or will run; under bus->mutex */
	struct bus_sub *prev, *next;
};

/* One bus_drain. */
struct drain_job {
	struct bus_sub **subs;
	size_t count;
	void (*drained)(void *closure);
	void *closure;
	struct drain_job *next;
};

/* --- errors, subjects --- */

static enum err_code code_of(natsStatus status)
{
	switch (status) {
	case NATS_INSUFFICIENT_BUFFER: /* the reconnect buffer of no size: not connected */
	case NATS_CONNECTION_CLOSED:
	case NATS_CONNECTION_DISCONNECTED:
	case NATS_NO_SERVER:
	case NATS_NO_SERVER_SUPPORT: /* headers before the server has introduced itself */
	case NATS_STALE_CONNECTION:
	case NATS_NOT_YET_CONNECTED:
	case NATS_IO_ERROR:
	case NATS_DRAINING:
	case NATS_NO_RESPONDERS:
	case NATS_INVALID_SUBSCRIPTION: /* ended with the connection */
		return ERR_DOWN;
	case NATS_TIMEOUT:
		return ERR_TIMEOUT;
	case NATS_MAX_PAYLOAD:
		return ERR_LIMIT;
	case NATS_INVALID_SUBJECT:
		return ERR_INPUT;
	case NATS_CONNECTION_AUTH_FAILED:
	case NATS_NOT_PERMITTED:
		return ERR_DENIED;
	default:
		return ERR_INTERNAL;
	}
}

bool bus_fail(natsStatus status, const char *what, struct err *e)
{
	return err_set(e, code_of(status), "%s: %s", what, natsStatus_GetText(status));
}

bool bus_subject_is_plain(const char *subject)
{
	size_t len = strlen(subject);

	if (len == 0 || len > BUS_SUBJECT_MAX || subject[0] == '.' || subject[len - 1] == '.')
		return false;
	for (const char *p = subject; *p; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '*' || *p == '>' || (*p == '.' && p[1] == '.'))
			return false;
	return true;
}

/* --- state, on the library's one thread for such events --- */

static void state_set(struct bus *bus, bool is_up)
{
	(void)pthread_mutex_lock(&bus->mutex);
	bus->is_up = is_up;
	bus->is_state_known = true;
	(void)pthread_mutex_unlock(&bus->mutex);
	if (!is_up)
		call_table_connection_lost(bus->calls);
	if (bus->options.state_changed)
		bus->options.state_changed(bus->options.closure, is_up);
}

static void on_up(natsConnection *connection, void *closure)
{
	(void)connection;
	state_set(closure, true);
}

static void on_down(natsConnection *connection, void *closure)
{
	(void)connection;
	state_set(closure, false);
}

/* The last event of a connection. After the unlock the bus may be gone. */
static void on_closed(natsConnection *connection, void *closure)
{
	struct bus *bus = closure;
	bool is_told;

	(void)connection;
	(void)pthread_mutex_lock(&bus->mutex);
	bus->is_up = false;
	bus->is_ended = true;
	is_told = bus->is_open && !bus->is_closing && bus->options.closed;
	(void)pthread_mutex_unlock(&bus->mutex);
	call_table_connection_lost(bus->calls);
	if (is_told)
		bus->options.closed(bus->options.closure);
	(void)pthread_mutex_lock(&bus->mutex);
	bus->is_closed = true;
	(void)pthread_cond_broadcast(&bus->changed);
	(void)pthread_mutex_unlock(&bus->mutex);
}

/* Must not touch the subscription: it may be gone. */
static void on_error(natsConnection *connection, natsSubscription *subscription, natsStatus status, void *closure)
{
	(void)connection;
	(void)subscription;
	(void)closure;
	log_debug("bus error", "status=\"%s\"", natsStatus_GetText(status));
}

/* --- connecting --- */

static void options_copy(struct bus_options *to, const struct bus_options *from)
{
	*to = *from;
	to->url = xstrdup(from->url);
	to->name = from->name ? xstrdup(from->name) : NULL;
	to->user = from->user ? xstrdup(from->user) : NULL;
	to->password = from->password ? xstrdup(from->password) : NULL;
	to->creds_file = from->creds_file && *from->creds_file ? xstrdup(from->creds_file) : NULL;
	to->tls_ca = from->tls_ca && *from->tls_ca ? xstrdup(from->tls_ca) : NULL;
	to->inbox_prefix = xstrdup(from->inbox_prefix);
}

static void options_clear(struct bus_options *options)
{
	if (options->password)
		secret_wipe((char *)options->password, strlen(options->password));
	free((char *)options->url);
	free((char *)options->name);
	free((char *)options->user);
	free((char *)options->password);
	free((char *)options->creds_file);
	free((char *)options->tls_ca);
	free((char *)options->inbox_prefix);
}

static natsStatus set_servers(natsOptions *no, const char *urls)
{
	const char *list[URLS_MAX];
	int count = 0;
	char *copy = xstrdup(urls), *rest = NULL;
	natsStatus s;

	for (char *url = strtok_r(copy, ", ", &rest); url && count < URLS_MAX; url = strtok_r(NULL, ", ", &rest))
		list[count++] = url;
	s = count > 0 ? natsOptions_SetServers(no, list, count) : NATS_INVALID_ARG;
	free(copy);
	return s;
}

static natsStatus set_identity(natsOptions *no, const struct bus_options *o)
{
	natsStatus s = NATS_OK;

	if (o->name)
		s = natsOptions_SetName(no, o->name);
	if (s == NATS_OK && o->user)
		s = natsOptions_SetUserInfo(no, o->user, o->password ? o->password : "");
	if (s == NATS_OK && o->creds_file)
		s = natsOptions_SetUserCredentialsFromFiles(no, o->creds_file, NULL);
	if (s == NATS_OK && o->tls_ca)
		s = natsOptions_SetSecure(no, true);
	if (s == NATS_OK && o->tls_ca)
		s = natsOptions_LoadCATrustedCertificates(no, o->tls_ca);
	if (s == NATS_OK)
		s = natsOptions_SetCustomInboxPrefix(no, o->inbox_prefix);
	return s;
}

static natsStatus set_behaviour(natsOptions *no, const struct bus_options *o)
{
	natsStatus s = natsOptions_SetTimeout(no, CONNECT_TIMEOUT_MS);

	if (s == NATS_OK)
		s = natsOptions_SetMaxReconnect(no, -1);
	if (s == NATS_OK)
		s = natsOptions_SetReconnectWait(no, RECONNECT_WAIT_MS);
	if (s == NATS_OK)
		s = natsOptions_SetReconnectJitter(no, RECONNECT_JITTER_MS, RECONNECT_JITTER_MS);
	if (s == NATS_OK)
		s = natsOptions_SetReconnectBufSize(no, 0); /* publishing fails while disconnected */
	if (s == NATS_OK)
		s = natsOptions_SetPingInterval(no, o->ping_interval_ms > 0 ? o->ping_interval_ms : 5000);
	if (s == NATS_OK)
		s = natsOptions_SetMaxPingsOut(no, PINGS_OUT_MAX);
	if (s == NATS_OK)
		s = natsOptions_SetWriteDeadline(no, WRITE_DEADLINE_MS);
	if (s == NATS_OK)
		s = natsOptions_SetSendAsap(no, o->send_asap);
	if (s == NATS_OK)
		s = natsOptions_UseGlobalMessageDelivery(no, true);
	return s;
}

static natsStatus set_events(natsOptions *no, struct bus *bus)
{
	natsStatus s = natsOptions_SetErrorHandler(no, on_error, bus);

	if (s == NATS_OK)
		s = natsOptions_SetClosedCB(no, on_closed, bus);
	if (s == NATS_OK)
		s = natsOptions_SetDisconnectedCB(no, on_down, bus);
	if (s == NATS_OK)
		s = natsOptions_SetReconnectedCB(no, on_up, bus);
	if (s == NATS_OK)
		s = natsOptions_SetRetryOnFailedConnect(no, true, on_up, bus);
	return s;
}

static bool make_nats_options(struct bus *bus, struct err *e)
{
	const struct bus_options *o = &bus->options;
	natsStatus s = nats_SetMessageDeliveryPoolSize(o->delivery_threads > 0 ? (int)o->delivery_threads : 1);

	if (s == NATS_OK)
		s = natsOptions_Create(&bus->nats_options);
	if (s == NATS_OK)
		s = set_servers(bus->nats_options, o->url);
	if (s == NATS_OK)
		s = set_identity(bus->nats_options, o);
	if (s == NATS_OK)
		s = set_behaviour(bus->nats_options, o);
	if (s == NATS_OK)
		s = set_events(bus->nats_options, bus);
	return s == NATS_OK || bus_fail(s, "preparing the NATS connection", e);
}

/* The first connect succeeds here without an event, or goes on in the background and ends in on_up. */
static bool connect_now(struct bus *bus, struct err *e)
{
	natsStatus s = natsConnection_Connect(&bus->connection, bus->nats_options);
	bool is_news;

	if (s != NATS_OK && s != NATS_NOT_YET_CONNECTED)
		return bus_fail(s, "connecting to NATS", e);
	(void)pthread_mutex_lock(&bus->mutex);
	is_news = s == NATS_OK && !bus->is_state_known;
	if (is_news)
		bus->is_up = true;
	(void)pthread_mutex_unlock(&bus->mutex);
	if (is_news && bus->options.state_changed)
		bus->options.state_changed(bus->options.closure, true);
	return true;
}

static void make_inbox(struct bus *bus)
{
	uint8_t random[12];
	char *p = bus->inbox + snprintf(bus->inbox, sizeof(bus->inbox), "%.100s.", bus->options.inbox_prefix);

	secret_random(random, sizeof(random));
	for (size_t i = 0; i < sizeof(random); i++)
		p += snprintf(p, 3, "%02x", random[i]);
}

bool bus_is_up(const struct bus *bus)
{
	struct bus *b = (struct bus *)bus; /* for its mutex */
	bool is_up;

	(void)pthread_mutex_lock(&b->mutex);
	is_up = b->is_up;
	(void)pthread_mutex_unlock(&b->mutex);
	return is_up;
}

bool bus_is_clustered(struct bus *bus)
{
	char **servers = NULL;
	int count = 0;

	if (natsConnection_GetDiscoveredServers(bus->connection, &servers, &count) != NATS_OK)
		return false;
	for (int i = 0; i < count; i++)
		free(servers[i]);
	free(servers);
	return count > 0 || strpbrk(bus->options.url, ", ");
}

size_t bus_payload_max(struct bus *bus)
{
	int64_t max = natsConnection_GetMaxPayload(bus->connection);

	return max > 0 ? (size_t)max : PAYLOAD_DEFAULT;
}

void bus_inbox_subject(struct bus *bus, const char *word, char *ret_subject, size_t size)
{
	(void)snprintf(ret_subject, size, "%s.%s", bus->inbox, word);
}

/* --- publishing --- */

bool bus_publish(struct bus *bus, const char *subject, const char *reply, const void *data, size_t len, struct err *e)
{
	natsStatus s;

	if (!bus_subject_is_plain(subject) || (reply && !bus_subject_is_plain(reply)))
		return err_set(e, ERR_INPUT, "not a subject to publish to: %.100s", subject);
	if (len > INT_MAX)
		return err_set(e, ERR_LIMIT, "a message of %zu bytes is more than the bus takes", len);
	if (reply)
		s = natsConnection_PublishRequest(bus->connection, subject, reply, data, (int)len);
	else
		s = natsConnection_Publish(bus->connection, subject, data, (int)len);
	if (s == NATS_TIMEOUT)
		s = NATS_IO_ERROR; /* the write deadline: the connection is of no use */
	return s == NATS_OK || bus_fail(s, subject, e);
}

bool bus_flush(struct bus *bus, int timeout_ms, struct err *e)
{
	natsStatus s;

	/* While it reconnects the library would hold the ping back, and us until the timeout. */
	if (natsConnection_Status(bus->connection) != NATS_CONN_STATUS_CONNECTED)
		return err_set(e, ERR_DOWN, "flush: not connected to NATS");
	s = natsConnection_FlushTimeout(bus->connection, timeout_ms);
	return s == NATS_OK || bus_fail(s, "flush", e);
}

/* --- messages: a bus_msg is a natsMsg --- */

static natsMsg *nats_msg(const struct bus_msg *m)
{
	return (natsMsg *)m;
}

const char *bus_msg_subject(const struct bus_msg *m)
{
	return natsMsg_GetSubject(nats_msg(m));
}

const char *bus_msg_reply(const struct bus_msg *m)
{
	return natsMsg_GetReply(nats_msg(m));
}

const char *bus_msg_data(const struct bus_msg *m, size_t *ret_len)
{
	const char *data = natsMsg_GetData(nats_msg(m));

	if (ret_len)
		*ret_len = (size_t)natsMsg_GetDataLength(nats_msg(m));
	return data ? data : "";
}

int bus_msg_status(const struct bus_msg *m)
{
	const char *status = NULL;

	if (natsMsg_GetDataLength(nats_msg(m)) > 0 || natsMsgHeader_Get(nats_msg(m), "Status", &status) != NATS_OK ||
	    !status)
		return 0;
	return (int)strtol(status, NULL, 10);
}

/*
 * The library frees a received message on a thread of its own, and each one that is given back wakes that thread. So
 * they are given back in batches, for which it wakes once.
 */
static struct {
	pthread_mutex_t mutex;
	natsMsg *msgs[GIVE_BACK_COUNT];
	size_t count, bytes;
} given = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* Takes the batch when it is large enough, or in any case. */
static size_t take_given(natsMsg **ret_batch, bool in_any_case)
{
	size_t count = 0;

	if (in_any_case || given.count == GIVE_BACK_COUNT || given.bytes > GIVE_BACK_BYTES) {
		count = given.count;
		memcpy(ret_batch, given.msgs, count * sizeof(given.msgs[0]));
		given.count = given.bytes = 0;
	}
	return count;
}

static void give_back(natsMsg *const *batch, size_t count)
{
	for (size_t i = 0; i < count; i++)
		natsMsg_Destroy(batch[i]);
}

static void give_back_all(void)
{
	natsMsg *batch[GIVE_BACK_COUNT];

	(void)pthread_mutex_lock(&given.mutex);
	size_t count = take_given(batch, true);
	(void)pthread_mutex_unlock(&given.mutex);
	give_back(batch, count);
}

void bus_msg_free(struct bus_msg **m)
{
	natsMsg *batch[GIVE_BACK_COUNT], *msg = nats_msg(*m);

	*m = NULL;
	if (!msg)
		return;
	(void)pthread_mutex_lock(&given.mutex);
	given.msgs[given.count++] = msg;
	given.bytes += (size_t)natsMsg_GetDataLength(msg);
	size_t count = take_given(batch, false);
	(void)pthread_mutex_unlock(&given.mutex);
	give_back(batch, count);
}

/* --- subscriptions --- */

static void on_message(natsConnection *connection, natsSubscription *subscription, natsMsg *msg, void *closure)
{
	struct bus_sub *sub = closure;

	(void)connection;
	(void)subscription;
	if (msg)
		sub->handler(sub->closure, (struct bus_msg *)msg);
}

static void on_complete(void *closure)
{
	struct bus_sub *sub = closure;
	struct bus *bus = sub->bus;

	(void)pthread_mutex_lock(&bus->mutex);
	sub->is_complete = true;
	(void)pthread_cond_broadcast(&bus->changed);
	(void)pthread_mutex_unlock(&bus->mutex);
}

static natsStatus sub_start(struct bus_sub *sub, const char *subject, const char *queue, size_t pending_max)
{
	natsConnection *connection = sub->bus->connection;
	natsStatus s;

	if (queue)
		s = natsConnection_QueueSubscribe(&sub->handle, connection, subject, queue, on_message, sub);
	else
		s = natsConnection_Subscribe(&sub->handle, connection, subject, on_message, sub);
	if (s != NATS_OK)
		return s;
	/* Both fail only where the connection was closed meanwhile. */
	if (pending_max > 0)
		s = natsSubscription_SetPendingLimits(sub->handle, (int)pending_max, PENDING_BYTES_MAX);
	if (s == NATS_OK)
		s = natsSubscription_SetOnCompleteCB(sub->handle, on_complete, sub);
	return s;
}

bool bus_subscribe(struct bus *bus, const char *subject, const char *queue, size_t pending_max, bus_handler handler,
		   void *closure, struct bus_sub **ret_sub, struct err *e)
{
	struct bus_sub *sub = xcalloc(1, sizeof(*sub));
	natsStatus s;

	sub->bus = bus;
	sub->handler = handler;
	sub->closure = closure;
	s = sub_start(sub, subject, queue, pending_max);
	if (s != NATS_OK && !sub->handle) {
		free(sub);
		return bus_fail(s, subject, e);
	}
	sub->is_complete = s != NATS_OK; /* nobody will tell */
	(void)pthread_mutex_lock(&bus->mutex);
	DL_APPEND(bus->subs, sub);
	(void)pthread_mutex_unlock(&bus->mutex);
	if (s != NATS_OK) /* bus_close frees it, when certainly nothing runs any more */
		return bus_fail(s, subject, e);
	*ret_sub = sub;
	return true;
}

/* --- the end of subscriptions --- */

/* Waits until no handler of these runs any more. */
static void wait_complete(struct bus *bus, struct bus_sub **subs, size_t count)
{
	(void)pthread_mutex_lock(&bus->mutex);
	for (size_t i = 0; i < count; i++)
		while (!subs[i]->is_complete)
			(void)pthread_cond_wait(&bus->changed, &bus->mutex);
	(void)pthread_mutex_unlock(&bus->mutex);
}

/* Only where the library's read thread cannot hold them: see the head of this file. */
static void destroy_all(struct bus_sub **list)
{
	struct bus_sub *sub, *next;

	DL_FOREACH_SAFE (*list, sub, next) {
		DL_DELETE(*list, sub);
		natsSubscription_Destroy(sub->handle);
		free(sub);
	}
}

/* Without a flush that succeeds they wait for that of a later batch, or for bus_close. */
static void bury_batch(struct bus *bus, struct bus_sub **subs, size_t count)
{
	(void)pthread_mutex_lock(&bus->mutex);
	for (size_t i = 0; i < count; i++) {
		DL_DELETE(bus->subs, subs[i]);
		DL_APPEND(bus->dead, subs[i]);
	}
	(void)pthread_mutex_unlock(&bus->mutex);
	/* The list of the dead is touched by this thread, and by bus_close when this thread has ended. */
	if (bus_flush(bus, DRAIN_FLUSH_MS, NULL))
		destroy_all(&bus->dead);
}

static void drain_batch(struct bus *bus, struct bus_sub **subs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		/* Without a connection nothing is on the way, and the library would wait for it. */
		bool is_connected = natsConnection_Status(bus->connection) == NATS_CONN_STATUS_CONNECTED;

		if (!is_connected || natsSubscription_DrainTimeout(subs[i]->handle, DRAIN_TIMEOUT_MS) != NATS_OK)
			(void)natsSubscription_Unsubscribe(subs[i]->handle);
	}
	wait_complete(bus, subs, count);
	bury_batch(bus, subs, count);
}

static void drain_job_run(struct bus *bus, struct drain_job *job)
{
	for (size_t done = 0; done < job->count; done += DRAIN_BATCH) {
		size_t left = job->count - done;

		drain_batch(bus, job->subs + done, left < DRAIN_BATCH ? left : DRAIN_BATCH);
	}
	if (job->drained)
		job->drained(job->closure);
	free(job->subs);
	free(job);
}

/* The next bus_drain, or NULL when the bus is closed and none is left. */
static struct drain_job *drain_job_next(struct bus *bus)
{
	struct drain_job *job;

	(void)pthread_mutex_lock(&bus->mutex);
	while (!bus->drain_jobs && !bus->is_closing)
		(void)pthread_cond_wait(&bus->changed, &bus->mutex);
	job = bus->drain_jobs;
	if (job)
		LL_DELETE(bus->drain_jobs, job);
	(void)pthread_mutex_unlock(&bus->mutex);
	return job;
}

static void *drainer_main(void *closure)
{
	struct bus *bus = closure;
	struct drain_job *job;

	while ((job = drain_job_next(bus)))
		drain_job_run(bus, job);
	nats_ReleaseThreadMemory();
	return NULL;
}

void bus_drain(struct bus *bus, struct bus_sub **subs, size_t count, void (*drained)(void *closure), void *closure)
{
	struct drain_job *job = xcalloc(1, sizeof(*job));

	job->subs = (struct bus_sub **)(void *)xmemdup(subs, count * sizeof(struct bus_sub *));
	job->count = count;
	job->drained = drained;
	job->closure = closure;
	(void)pthread_mutex_lock(&bus->mutex);
	LL_APPEND(bus->drain_jobs, job);
	(void)pthread_cond_broadcast(&bus->changed);
	(void)pthread_mutex_unlock(&bus->mutex);
}

/* --- opening and closing --- */

static void bus_free(struct bus *bus)
{
	natsConnection_Destroy(bus->connection);
	natsOptions_Destroy(bus->nats_options);
	call_table_free(&bus->calls);
	options_clear(&bus->options);
	(void)pthread_cond_destroy(&bus->changed);
	(void)pthread_mutex_destroy(&bus->mutex);
	free(bus);
}

/* False where the connection has already ended, for a refused login, say. */
static bool mark_open(struct bus *bus)
{
	(void)pthread_mutex_lock(&bus->mutex);
	bus->is_open = !bus->is_ended;
	(void)pthread_mutex_unlock(&bus->mutex);
	return bus->is_open;
}

/* Why the connection ended before it was open. As it would try for ever, having no server left can only mean that
 * each refused the login, or that TLS did not come about. */
static bool explain_end(struct bus *bus, struct err *e)
{
	const char *text = NULL;
	natsStatus s = natsConnection_GetLastError(bus->connection, &text);

	if (s == NATS_NO_SERVER || s == NATS_CONNECTION_AUTH_FAILED)
		return err_set(e, ERR_DENIED, "connecting to NATS: each server refused the login or the TLS handshake");
	return err_set(e, ERR_DOWN, "connecting to NATS: %s", natsStatus_GetText(s));
}

static bool start(struct bus *bus, struct err *e)
{
	char subject[BUS_SUBJECT_MAX];

	if (pthread_create(&bus->drainer, NULL, drainer_main, bus) != 0)
		return err_set(e, ERR_INTERNAL, "no thread for the bus can be made");
	bus->has_drainer = true;
	(void)snprintf(subject, sizeof(subject), "%s.c.*", bus->inbox);
	if (bus_subscribe(bus, subject, NULL, 0, call_table_deliver, bus, &bus->inbox_sub, e) && mark_open(bus))
		return true;
	return explain_end(bus, e);
}

bool bus_open(const struct bus_options *options, struct bus **ret_bus, struct err *e)
{
	struct bus *bus = xcalloc(1, sizeof(*bus));

	(void)pthread_mutex_init(&bus->mutex, NULL);
	(void)pthread_cond_init(&bus->changed, NULL);
	options_copy(&bus->options, options);
	bus->calls = call_table_new();
	make_inbox(bus);
	if (!make_nats_options(bus, e) || !connect_now(bus, e)) {
		bus_free(bus);
		return false;
	}
	if (!start(bus, e)) {
		bus_close(&bus);
		return false;
	}
	*ret_bus = bus;
	return true;
}

void bus_close(struct bus **bus)
{
	struct bus *b = *bus;
	struct bus_sub *sub;

	*bus = NULL;
	if (!b)
		return;
	(void)!bus_flush(b, CLOSE_FLUSH_MS, NULL);
	(void)pthread_mutex_lock(&b->mutex);
	b->is_closing = true;
	(void)pthread_cond_broadcast(&b->changed);
	(void)pthread_mutex_unlock(&b->mutex);
	natsConnection_Close(b->connection);
	if (b->has_drainer)
		(void)pthread_join(b->drainer, NULL);
	(void)pthread_mutex_lock(&b->mutex);
	while (!b->is_closed)
		(void)pthread_cond_wait(&b->changed, &b->mutex);
	DL_FOREACH (b->subs, sub)
		while (!sub->is_complete)
			(void)pthread_cond_wait(&b->changed, &b->mutex);
	(void)pthread_mutex_unlock(&b->mutex);
	destroy_all(&b->subs);
	destroy_all(&b->dead);
	give_back_all();
	bus_free(b);
}
