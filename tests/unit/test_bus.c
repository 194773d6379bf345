/* SPDX-License-Identifier: Apache-2.0 */
/* lib/bus against a real server that is killed, stopped and wiped as the cases need it. */
#include "lib/bus.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/macros.h"
#include "lib/secret.h"
#include "lib/xalloc.h"
#include "tests/fake/servers.h"
#include "tests/unit/harness.h"

#define WAIT_MS 60000 /* only a failure waits so long */
#define QUEUE_MAX 8
#define RACE_SUBS 64
#define RACE_MS 1500
#define RACE_CALLERS 4
#define STREAM "TEST_LOADS"
#define DURABLE "loaders"

static struct server *server;
static const char *folder;
static struct err err;

/* What a bus told about itself. */
struct news {
	_Atomic int ups, downs, closed;
};

static struct news news;
static struct bus *bus;   /* asks */
static struct bus *other; /* answers */

/* --- helpers --- */

static void pause_ms(int ms)
{
	const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	(void)nanosleep(&t, NULL);
}

#define WAIT_FOR(condition)                                                                                            \
	do {                                                                                                           \
		int64_t give_up_ms = clock_now_ms() + WAIT_MS;                                                         \
		while (!(condition) && clock_now_ms() < give_up_ms)                                                    \
			pause_ms(2);                                                                                   \
		CU_ASSERT(condition);                                                                                  \
	} while (0)

static bool is_up_in_time(const struct bus *b)
{
	int64_t give_up_ms = clock_now_ms() + WAIT_MS;

	while (!bus_is_up(b) && clock_now_ms() < give_up_ms)
		pause_ms(2);
	return bus_is_up(b);
}

static void on_state(void *closure, bool is_up)
{
	struct news *n = closure;

	if (is_up)
		n->ups++;
	else
		n->downs++;
}

static void on_closed(void *closure)
{
	((struct news *)closure)->closed++;
}

static struct bus_options options_for(const struct server *s, struct news *n)
{
	return (struct bus_options){.url = server_url(s),
				    .name = "test",
				    .inbox_prefix = "_INBOX_TEST",
				    .ping_interval_ms = 5000,
				    .send_asap = true,
				    .delivery_threads = 3,
				    .call_queue_max = QUEUE_MAX,
				    .state_changed = on_state,
				    .closed = on_closed,
				    .closure = n};
}

static struct bus *open_bus(const struct bus_options *o)
{
	struct bus *b = NULL;

	if (!bus_open(o, &b, &err)) {
		(void)fprintf(stderr, "bus_open: %s\n", err.text);
		exit(EXIT_FAILURE);
	}
	return b;
}

static void publish(struct bus *b, const char *subject, const char *reply, const char *text)
{
	struct err e = {0};

	if (!bus_publish(b, subject, reply, text, strlen(text), &e))
		(void)fprintf(stderr, "%s: %s\n", subject, e.text);
	CU_ASSERT_EQUAL(e.code, ERR_NONE);
}

static struct bus_sub *subscribe(struct bus *b, const char *subject, const char *queue, bus_handler handler,
				 void *closure)
{
	struct bus_sub *sub = NULL;
	struct err e = {0};

	if (!bus_subscribe(b, subject, queue, 0, handler, closure, &sub, &e))
		(void)fprintf(stderr, "%s: %s\n", subject, e.text);
	CU_ASSERT_PTR_NOT_NULL_FATAL(sub);
	return sub;
}

static struct bus_call *call(const char *subject, const char *text)
{
	struct bus_call *c = NULL;
	struct err e = {0};

	if (!bus_call_start(bus, subject, text, strlen(text), &c, &e))
		(void)fprintf(stderr, "%s: %s\n", subject, e.text);
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	return c;
}

static void flush(struct bus *b)
{
	CU_ASSERT_TRUE(bus_flush(b, WAIT_MS, &err));
}

/* The text of the next reply, or a word for what came instead. */
static const char *next_text(struct bus_call *c, int timeout_ms)
{
	static char text[64];
	struct bus_msg *m = NULL;

	switch (bus_call_next(c, timeout_ms, &m)) {
	case BUS_TIMEOUT:
		return "timeout";
	case BUS_NO_RESPONDERS:
		return "no responders";
	case BUS_DOWN:
		return "down";
	case BUS_OVERFLOW:
		return "overflow";
	case BUS_MSG:
		break;
	}
	(void)snprintf(text, sizeof(text), "%.60s", bus_msg_data(m, NULL));
	bus_msg_free(&m);
	return text;
}

static void count_drained(void *closure)
{
	(*(_Atomic int *)closure)++;
}

static void drain(struct bus *b, struct bus_sub **subs, size_t count)
{
	_Atomic int drained = 0;

	bus_drain(b, subs, count, count_drained, &drained);
	WAIT_FOR(drained == 1);
}

/* --- messages --- */

struct box {
	pthread_mutex_t mutex;
	char text[64], subject[64], reply[64];
	size_t len;
	_Atomic int count;
};

static void into_box(void *closure, struct bus_msg *m)
{
	struct box *box = closure;
	const char *reply = bus_msg_reply(m);

	(void)pthread_mutex_lock(&box->mutex);
	(void)snprintf(box->text, sizeof(box->text), "%s", bus_msg_data(m, &box->len));
	(void)snprintf(box->subject, sizeof(box->subject), "%s", bus_msg_subject(m));
	(void)snprintf(box->reply, sizeof(box->reply), "%s", reply ? reply : "-");
	(void)pthread_mutex_unlock(&box->mutex);
	bus_msg_free(&m);
	box->count++;
}

static void messages_arrive_as_they_were(void)
{
	struct box box = {.mutex = PTHREAD_MUTEX_INITIALIZER};
	struct bus_sub *sub = subscribe(other, "test.*.box", NULL, into_box, &box);

	flush(other);
	publish(bus, "test.1.box", NULL, "hello");
	WAIT_FOR(box.count == 1);
	CU_ASSERT_STRING_EQUAL(box.text, "hello");
	CU_ASSERT_EQUAL(box.len, 5);
	CU_ASSERT_STRING_EQUAL(box.subject, "test.1.box");
	CU_ASSERT_STRING_EQUAL(box.reply, "-");
	publish(bus, "test.2.box", "reply.here", "");
	WAIT_FOR(box.count == 2);
	CU_ASSERT_STRING_EQUAL(box.text, "");
	CU_ASSERT_STRING_EQUAL(box.reply, "reply.here");
	drain(other, &sub, 1);
}

static void only_plain_subjects_are_published_to(void)
{
	static const struct {
		int line;
		const char *subject;
	} rows[] = {
		{__LINE__, ""},   {__LINE__, "a.*"}, {__LINE__, "a.>"},      {__LINE__, "a b"},  {__LINE__, "a..b"},
		{__LINE__, ".a"}, {__LINE__, "a."},  {__LINE__, "a\r\nPUB"}, {__LINE__, "a\tb"}, {__LINE__, "a\x7f"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CU_ASSERT_FALSE(bus_publish(bus, rows[i].subject, NULL, "x", 1, &err));
		CU_ASSERT_EQUAL(err.code, ERR_INPUT);
		CU_ASSERT_FALSE(bus_publish(bus, "fine", rows[i].subject, "x", 1, &err));
		CU_ASSERT_EQUAL(err.code, ERR_INPUT);
	}
}

static void a_message_beyond_the_limit_is_refused(void)
{
	size_t max = bus_payload_max(bus);
	char *data = xcalloc(1, max + 1);

	CU_ASSERT_EQUAL(max, 1024 * 1024);
	CU_ASSERT_FALSE(bus_publish(bus, "big", NULL, data, max + 1, &err));
	CU_ASSERT_EQUAL(err.code, ERR_LIMIT);
	CU_ASSERT_TRUE(bus_publish(bus, "big", NULL, data, max, &err));
	flush(bus);
	CU_ASSERT_FALSE(bus_is_clustered(bus));
	free(data);
}

/* --- calls --- */

/* Answers "n" with n messages: n, n - 1, … 1. */
static void count_down(void *closure, struct bus_msg *m)
{
	int n = atoi(bus_msg_data(m, NULL));

	(void)closure;
	for (; n > 0; n--) {
		char text[16];

		(void)snprintf(text, sizeof(text), "%d", n);
		(void)!bus_publish(other, bus_msg_reply(m), NULL, text, strlen(text), NULL);
	}
	bus_msg_free(&m);
}

static void replies_come_one_by_one(void)
{
	struct bus_sub *sub = subscribe(other, "test.count", "q", count_down, NULL);
	struct bus_call *a, *b;

	flush(other);
	a = call("test.count", "3");
	b = call("test.count", "1");
	CU_ASSERT_STRING_EQUAL(next_text(a, WAIT_MS), "3");
	CU_ASSERT_STRING_EQUAL(next_text(b, WAIT_MS), "1");
	CU_ASSERT_STRING_EQUAL(next_text(a, WAIT_MS), "2");
	CU_ASSERT_STRING_EQUAL(next_text(a, WAIT_MS), "1");
	CU_ASSERT_STRING_EQUAL(next_text(a, 20), "timeout");
	CU_ASSERT_STRING_EQUAL(next_text(a, 0), "timeout");
	bus_call_end(&a);
	bus_call_end(&b);
	CU_ASSERT_PTR_NULL(a);
	drain(other, &sub, 1);
}

static void nobody_there_is_told_at_once(void)
{
	struct bus_call *c = call("test.nobody", "x");

	CU_ASSERT_STRING_EQUAL(next_text(c, WAIT_MS), "no responders");
	CU_ASSERT_STRING_EQUAL(next_text(c, 0), "no responders");
	bus_call_end(&c);
}

static void a_reply_to_an_ended_call_is_dropped(void)
{
	struct box box = {.mutex = PTHREAD_MUTEX_INITIALIZER};
	struct bus_sub *sub = subscribe(other, "test.late", NULL, into_box, &box);
	struct bus_call *a, *b;
	char late[64];

	flush(other);
	a = call("test.late", "x");
	WAIT_FOR(box.count == 1);
	bus_call_end(&a);
	(void)snprintf(late, sizeof(late), "%s", box.reply);
	b = call("test.late", "y"); /* takes the slot of a */
	WAIT_FOR(box.count == 2);
	publish(other, late, NULL, "late");
	publish(other, box.reply, NULL, "in time");
	CU_ASSERT_STRING_EQUAL(next_text(b, WAIT_MS), "in time");
	bus_call_end(&b);
	drain(other, &sub, 1);
}

static void a_full_queue_ends_the_call(void)
{
	struct bus_sub *sub = subscribe(other, "test.count", NULL, count_down, NULL);
	struct bus_call *c, *later;

	flush(other);
	c = call("test.count", "20");
	later = call("test.count", "1");
	CU_ASSERT_STRING_EQUAL(next_text(later, WAIT_MS), "1"); /* so all replies to the first are there */
	for (int i = 0; i < QUEUE_MAX; i++)
		CU_ASSERT_EQUAL(atoi(next_text(c, 0)), 20 - i);
	CU_ASSERT_STRING_EQUAL(next_text(c, 0), "overflow");
	CU_ASSERT_STRING_EQUAL(next_text(c, 0), "overflow");
	bus_call_end(&c);
	bus_call_end(&later);
	drain(other, &sub, 1);
}

static bool is_readable(int fd, int timeout_ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, timeout_ms) == 1;
}

static void a_call_can_be_polled(void)
{
	struct bus_sub *sub = subscribe(other, "test.count", NULL, count_down, NULL);
	struct bus_call *c;
	int fd;

	flush(other);
	c = call("test.count", "2");
	fd = bus_call_fd(c);
	CU_ASSERT_TRUE(is_readable(fd, WAIT_MS));
	CU_ASSERT_STRING_EQUAL(next_text(c, WAIT_MS), "2");
	CU_ASSERT_STRING_EQUAL(next_text(c, WAIT_MS), "1");
	CU_ASSERT_FALSE(is_readable(fd, 0));
	CU_ASSERT_EQUAL(bus_call_fd(c), fd);
	bus_call_end(&c);
	c = call("test.nobody", "x");
	CU_ASSERT_TRUE(is_readable(bus_call_fd(c), WAIT_MS));
	CU_ASSERT_STRING_EQUAL(next_text(c, 0), "no responders");
	CU_ASSERT_TRUE(is_readable(bus_call_fd(c), 0));
	bus_call_end(&c);
	drain(other, &sub, 1);
}

/* --- connections that come and go --- */

static void a_bus_opens_without_a_server(void)
{
	struct news n = {0};
	struct server *late = server_nats_start(server_dir_make(), NULL);
	struct bus_options o = options_for(late, &n);
	struct box box = {.mutex = PTHREAD_MUTEX_INITIALIZER};
	struct bus_call *c = NULL;
	struct bus *b;

	server_kill(late);
	b = open_bus(&o);
	CU_ASSERT_FALSE(bus_is_up(b));
	(void)subscribe(b, "test.early", NULL, into_box, &box);
	CU_ASSERT_FALSE(bus_publish(b, "test.early", NULL, "x", 1, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	CU_ASSERT_FALSE(bus_call_start(b, "test.early", "x", 1, &c, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	CU_ASSERT_FALSE(bus_stream_publish(b, "test.early", "id", "x", 1, 1000, NULL, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	CU_ASSERT_FALSE(bus_flush(b, WAIT_MS, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	CU_ASSERT_EQUAL(bus_payload_max(b), 1024 * 1024);
	server_restart(late);
	WAIT_FOR(bus_is_up(b));
	WAIT_FOR(n.ups == 1);
	publish(b, "test.early", NULL, "now");
	WAIT_FOR(box.count == 1);
	CU_ASSERT_TRUE_FATAL(bus_call_start(b, "test.nobody", "x", 1, &c, &err));
	CU_ASSERT_STRING_EQUAL(next_text(c, WAIT_MS), "no responders");
	bus_call_end(&c);
	bus_close(&b);
	CU_ASSERT_EQUAL(n.closed, 0);
	server_stop(&late);
}

static void a_bus_closes_without_a_server(void)
{
	struct news n = {0};
	struct bus_options o = options_for(server, &n);
	struct bus_sub *sub;
	struct bus *b;
	char *url = xasprintf("nats://127.0.0.1:%d", server_port_free());
	_Atomic int drained = 0;

	o.url = url;
	b = open_bus(&o);
	sub = subscribe(b, "test.x", NULL, into_box, NULL);
	bus_drain(b, &sub, 1, count_drained, &drained);
	bus_close(&b);
	CU_ASSERT_EQUAL(drained, 1);
	free(url);
}

static void a_lost_connection_ends_the_calls_and_comes_back(void)
{
	struct bus_sub *sub = subscribe(other, "test.count", NULL, count_down, NULL);
	struct bus_call *c;
	int downs = news.downs, ups = news.ups;

	flush(other);
	c = call("test.count", "1");
	WAIT_FOR(is_readable(bus_call_fd(c), 0));
	server_kill(server);
	WAIT_FOR(news.downs == downs + 1);
	CU_ASSERT_FALSE(bus_is_up(bus));
	CU_ASSERT_STRING_EQUAL(next_text(c, 0), "1");
	CU_ASSERT_STRING_EQUAL(next_text(c, WAIT_MS), "down");
	CU_ASSERT_STRING_EQUAL(next_text(c, 0), "down");
	CU_ASSERT_TRUE(is_readable(bus_call_fd(c), 0));
	bus_call_end(&c);
	CU_ASSERT_FALSE(bus_publish(bus, "test.x", NULL, "x", 1, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	server_restart(server);
	WAIT_FOR(news.ups == ups + 1 && bus_is_up(other));
	CU_ASSERT_TRUE(bus_is_up(bus));
	flush(other);
	c = call("test.count", "1");
	CU_ASSERT_STRING_EQUAL(next_text(c, WAIT_MS), "1");
	bus_call_end(&c);
	drain(other, &sub, 1);
}

static void a_frozen_server_is_noticed(void)
{
	struct news n = {0};
	struct bus_options o = options_for(server, &n);
	struct bus *b;

	o.ping_interval_ms = 200;
	b = open_bus(&o);
	CU_ASSERT_TRUE(is_up_in_time(b));
	(void)kill(server_pid(server), SIGSTOP);
	WAIT_FOR(n.downs > 0 && !bus_is_up(b));
	(void)kill(server_pid(server), SIGCONT);
	WAIT_FOR(n.ups == n.downs + 1 && bus_is_up(b));
	bus_close(&b);
	WAIT_FOR(bus_is_up(bus) && bus_is_up(other));
}

static void an_error_of_the_server_closes_for_good(void)
{
	struct news n = {0};
	struct server *strict = server_nats_start(server_dir_make(), "max_subscriptions: 2");
	struct bus_options o = options_for(strict, &n);
	struct bus *b = open_bus(&o);
	struct bus_sub *sub;

	CU_ASSERT_TRUE(is_up_in_time(b));
	for (int i = 0; i < 2; i++) /* either may meet the closed connection already */
		(void)!bus_subscribe(b, "test.x", NULL, 0, into_box, NULL, &sub, NULL);
	WAIT_FOR(n.closed == 1);
	CU_ASSERT_FALSE(bus_is_up(b));
	CU_ASSERT_FALSE(bus_publish(b, "test.1", NULL, "x", 1, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	bus_close(&b);
	CU_ASSERT_EQUAL(n.closed, 1);
	server_stop(&strict);
}

static void a_wrong_password_closes_for_good(void)
{
	struct news n = {0};
	struct server *strict = server_nats_start(server_dir_make(), "authorization { user: app, password: right }");
	struct bus_options o = options_for(strict, &n);
	struct bus *b = NULL;

	o.user = "app";
	o.password = "wrong";
	/* The library tries twice, in the background. */
	if (bus_open(&o, &b, &err))
		WAIT_FOR(n.closed == 1);
	else
		CU_ASSERT_EQUAL(err.code, ERR_DENIED);
	bus_close(&b);
	o.password = "right";
	b = open_bus(&o);
	CU_ASSERT_TRUE(is_up_in_time(b));
	bus_close(&b);
	server_stop(&strict);
}

/* --- the end of subscriptions --- */

struct slow_box {
	_Atomic int started, ended, drained_at;
};

static void slowly(void *closure, struct bus_msg *m)
{
	struct slow_box *box = closure;

	box->started++;
	pause_ms(5);
	bus_msg_free(&m);
	box->ended++;
}

static void note_drained(void *closure)
{
	struct slow_box *box = closure;

	box->drained_at = box->ended;
}

static void a_drain_handles_what_is_on_the_way(void)
{
	struct slow_box box = {.drained_at = -1};
	struct bus_sub *sub = subscribe(other, "test.slow", NULL, slowly, &box);

	flush(other);
	for (int i = 0; i < 20; i++)
		publish(bus, "test.slow", NULL, "x");
	flush(bus);
	bus_drain(other, &sub, 1, note_drained, &box);
	WAIT_FOR(box.drained_at >= 0);
	CU_ASSERT_EQUAL(box.drained_at, 20);
	CU_ASSERT_EQUAL(box.started, 20);
}

static void many_are_drained_in_one_go(void)
{
	enum { COUNT = 2000 };
	struct bus_sub **subs = xcalloc(COUNT, sizeof(struct bus_sub *));
	struct bus_call *c;
	char subject[32];

	for (int i = 0; i < COUNT; i++) {
		(void)snprintf(subject, sizeof(subject), "test.many.%d", i);
		subs[i] = subscribe(other, subject, "q", count_down, NULL);
	}
	flush(other);
	c = call("test.many.1999", "1");
	CU_ASSERT_STRING_EQUAL(next_text(c, WAIT_MS), "1");
	bus_call_end(&c);
	drain(other, subs, COUNT);
	c = call("test.many.1999", "1");
	CU_ASSERT_STRING_EQUAL(next_text(c, WAIT_MS), "no responders");
	bus_call_end(&c);
	free(subs);
}

static void a_drain_ends_without_a_connection(void)
{
	struct bus_sub *subs[640]; /* ten batches */
	int64_t start_ms;

	for (size_t i = 0; i < ARRAY_LEN(subs); i++)
		subs[i] = subscribe(other, "test.away", NULL, count_down, NULL);
	flush(other);
	server_kill(server);
	WAIT_FOR(!bus_is_up(other));
	start_ms = clock_now_ms();
	drain(other, subs, ARRAY_LEN(subs));
	CU_ASSERT(clock_now_ms() - start_ms <
		  10000); /* no flush was waited for: that would be two seconds for each batch */
	server_restart(server);
	WAIT_FOR(bus_is_up(other) && bus_is_up(bus));
}

/* Requests that race with the end of their subscription: each must get its answer or the no-responders status. */
struct race {
	_Atomic bool is_over;
	_Atomic int answered, nobody, lost;
};

static void *race_caller_main(void *closure)
{
	struct race *race = closure;

	for (unsigned i = 0; !race->is_over; i++) {
		char subject[32];
		struct bus_call *c = NULL;
		const char *text;
		struct bus_msg *m = NULL;

		(void)snprintf(subject, sizeof(subject), "test.race.%u", i % RACE_SUBS);
		if (!bus_call_start(bus, subject, "1", 1, &c, NULL))
			continue;
		switch (bus_call_next(c, WAIT_MS, &m)) {
		case BUS_MSG:
			race->answered++;
			text = NULL;
			break;
		case BUS_NO_RESPONDERS:
			race->nobody++;
			text = NULL;
			break;
		default:
			race->lost++;
			text = subject;
			break;
		}
		if (text)
			(void)fprintf(stderr, "no answer from %s\n", text);
		if (m)
			bus_msg_free(&m);
		bus_call_end(&c);
	}
	return NULL;
}

static struct bus_sub *race_subscribe(int i)
{
	char subject[32];

	(void)snprintf(subject, sizeof(subject), "test.race.%d", i);
	return subscribe(other, subject, "q", count_down, NULL);
}

static void no_request_is_lost_at_the_end_of_a_subscription(void)
{
	struct race race = {0};
	pthread_t thread[RACE_CALLERS];
	struct bus_sub *subs[RACE_SUBS];
	_Atomic int drained = 0;
	int drains = 0;
	int64_t end_ms = clock_now_ms() + RACE_MS;

	for (int i = 0; i < RACE_SUBS; i++)
		subs[i] = race_subscribe(i);
	flush(other);
	for (int i = 0; i < RACE_CALLERS; i++)
		(void)pthread_create(&thread[i], NULL, race_caller_main, &race);
	while (clock_now_ms() < end_ms) {
		int from = drains * 8 % RACE_SUBS;

		bus_drain(other, subs + from, 8, count_drained, &drained);
		drains++;
		WAIT_FOR(drained >= drains - 2);
		for (int i = from; i < from + 8; i++)
			subs[i] = race_subscribe(i);
	}
	race.is_over = true;
	for (int i = 0; i < RACE_CALLERS; i++)
		(void)pthread_join(thread[i], NULL);
	WAIT_FOR(drained == drains);
	(void)fprintf(stderr, "(%d drained, %d answered, %d nobody) ", drains * 8, race.answered, race.nobody);
	CU_ASSERT(race.answered > 0);
	CU_ASSERT_EQUAL(race.lost, 0);
	drain(other, subs, RACE_SUBS);
}

/* --- streams --- */

static const struct bus_stream_config stream = {
	.name = STREAM, .subjects = "test.load.>", .max_age_s = 3600, .duplicate_window_s = 120, .replicas = 1};
static const struct bus_consumer_config consumer = {
	.stream = STREAM, .durable = DURABLE, .ack_wait_s = 1, .max_ack_pending = 1000};

struct pulled {
	pthread_mutex_t mutex;
	struct bus_msg *m; /* the last event */
	_Atomic int events, status;
};

static void into_pulled(void *closure, struct bus_msg *m)
{
	struct pulled *p = closure;
	int status = bus_msg_status(m);

	(void)pthread_mutex_lock(&p->mutex);
	if (status != 0) {
		bus_msg_free(&m);
	} else {
		if (p->m)
			bus_msg_free(&p->m);
		p->m = m;
	}
	(void)pthread_mutex_unlock(&p->mutex);
	if (status != 0)
		p->status = status;
	else
		p->events++;
}

static void ensure_all(void)
{
	if (!bus_stream_ensure(bus, &stream, WAIT_MS, &err) || !bus_consumer_ensure(bus, &consumer, WAIT_MS, &err)) {
		(void)fprintf(stderr, "%s\n", err.text);
		CU_FAIL("the stream cannot be made");
	}
}

static struct bus_consumer_info info(void)
{
	struct bus_consumer_info i = {0};

	CU_ASSERT_TRUE(bus_consumer_info(bus, STREAM, DURABLE, WAIT_MS, &i, &err));
	return i;
}

static bool publish_event(const char *id)
{
	bool is_duplicate = false;

	if (!bus_stream_publish(bus, "test.load.a", id, id, strlen(id), WAIT_MS, &is_duplicate, &err)) {
		(void)fprintf(stderr, "%s\n", err.text);
		CU_FAIL("not published");
	}
	return is_duplicate;
}

static void what_is_missing_is_said(void)
{
	struct bus_consumer_info i;

	CU_ASSERT_FALSE(bus_stream_publish(bus, "test.load.a", "1", "x", 1, WAIT_MS, NULL, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	CU_ASSERT_FALSE(bus_consumer_info(bus, STREAM, DURABLE, WAIT_MS, &i, &err));
	CU_ASSERT_EQUAL(err.code, ERR_MISSING);
	CU_ASSERT_FALSE(bus_consumer_ensure(bus, &consumer, WAIT_MS, &err));
	CU_ASSERT_EQUAL(err.code, ERR_MISSING);
}

static void streams_are_made_and_updated(void)
{
	struct bus_stream_config changed = stream;
	struct bus_consumer_config other_consumer = consumer;

	ensure_all();
	ensure_all();
	changed.max_age_s = 1800;
	CU_ASSERT_TRUE(bus_stream_ensure(bus, &changed, WAIT_MS, &err));
	other_consumer.max_ack_pending = 10;
	CU_ASSERT_TRUE(bus_consumer_ensure(bus, &other_consumer, WAIT_MS, &err));
	ensure_all();
	changed.replicas = 3;
	CU_ASSERT_FALSE(bus_stream_ensure(bus, &changed, WAIT_MS, &err));
}

static void a_repeated_event_is_a_duplicate(void)
{
	CU_ASSERT_FALSE(publish_event("one"));
	CU_ASSERT_TRUE(publish_event("one"));
	CU_ASSERT_FALSE(publish_event("one.2"));
	CU_ASSERT_EQUAL(info().waiting, 2);
}

static void events_are_pulled_and_acknowledged(void)
{
	struct pulled p = {.mutex = PTHREAD_MUTEX_INITIALIZER};
	struct bus_sub *sub;
	char inbox[200];

	bus_inbox_subject(bus, "pull", inbox, sizeof(inbox));
	CU_ASSERT_EQUAL(strncmp(inbox, "_INBOX_TEST.", 12), 0);
	sub = subscribe(bus, inbox, NULL, into_pulled, &p);
	CU_ASSERT_TRUE(bus_pull(bus, STREAM, DURABLE, inbox, 1, 5000, &err));
	WAIT_FOR(p.events == 1);
	CU_ASSERT_EQUAL(info().in_flight, 1);
	CU_ASSERT_TRUE(bus_in_progress(bus, p.m, &err));
	CU_ASSERT_TRUE(bus_nak(bus, p.m, 20, &err)); /* comes again, delayed */
	CU_ASSERT_TRUE(bus_pull(bus, STREAM, DURABLE, inbox, 2, 5000, &err));
	WAIT_FOR(p.events == 3);
	CU_ASSERT_TRUE(bus_ack(bus, p.m, &err));
	CU_ASSERT_TRUE(bus_pull(bus, STREAM, DURABLE, inbox, 1, 5000, &err));
	WAIT_FOR(p.events == 4); /* the one not acknowledged within ack_wait_s */
	CU_ASSERT_TRUE(bus_term(bus, p.m, &err));
	flush(bus);
	WAIT_FOR(info().in_flight == 0);
	CU_ASSERT_EQUAL(info().waiting, 0);
	CU_ASSERT_TRUE(bus_pull(bus, STREAM, DURABLE, inbox, 1, 50, &err));
	WAIT_FOR(p.status == 408);
	CU_ASSERT_TRUE(bus_pull(bus, STREAM, DURABLE, inbox, 1, 10000, &err));
	WAIT_FOR(p.status == 100); /* nothing there, but the request is known */
	drain(bus, &sub, 1);
	bus_msg_free(&p.m);
}

static void a_message_of_nobody_cannot_be_acknowledged(void)
{
	struct pulled p = {.mutex = PTHREAD_MUTEX_INITIALIZER};
	struct bus_sub *sub = subscribe(bus, "test.plain", NULL, into_pulled, &p);

	publish(bus, "test.plain", NULL, "x");
	WAIT_FOR(p.events == 1);
	CU_ASSERT_FALSE(bus_ack(bus, p.m, &err));
	CU_ASSERT_EQUAL(err.code, ERR_INPUT);
	drain(bus, &sub, 1);
	bus_msg_free(&p.m);
}

static void streams_survive_a_killed_server(void)
{
	(void)publish_event("before");
	server_kill(server);
	WAIT_FOR(!bus_is_up(bus));
	CU_ASSERT_FALSE(bus_stream_publish(bus, "test.load.a", "during", "x", 1, WAIT_MS, NULL, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	server_restart(server);
	WAIT_FOR(bus_is_up(bus) && bus_is_up(other));
	CU_ASSERT_TRUE(publish_event("before"));
	CU_ASSERT_EQUAL(info().waiting, 1);
}

static void wipe_store(void)
{
	char *jetstream = xasprintf("%s/jetstream", folder);
	char rm[] = "rm", rf[] = "-rf";
	char *argv[] = {rm, rf, jetstream, NULL};
	pid_t pid = fork();

	if (pid == 0) {
		(void)execvp(rm, argv);
		_exit(1);
	}
	(void)waitpid(pid, NULL, 0);
	free(jetstream);
}

static void a_wiped_store_is_made_again(void)
{
	server_kill(server);
	wipe_store();
	server_restart(server);
	WAIT_FOR(bus_is_up(bus) && bus_is_up(other));
	CU_ASSERT_FALSE(bus_stream_publish(bus, "test.load.a", "x", "x", 1, WAIT_MS, NULL, &err));
	CU_ASSERT_EQUAL(err.code, ERR_DOWN);
	ensure_all();
	CU_ASSERT_FALSE(publish_event("before"));
}

/* The server goes on with what it has in memory, and writes into files that nobody can open any more. */
static void a_store_wiped_under_the_server_is_made_again(void)
{
	struct pulled p = {.mutex = PTHREAD_MUTEX_INITIALIZER};
	struct bus_sub *sub;
	char inbox[200];

	wipe_store();
	CU_ASSERT_TRUE(bus_stream_ensure(bus, &stream, WAIT_MS, &err));
	CU_ASSERT_FALSE(bus_consumer_ensure(bus, &consumer, WAIT_MS, &err));
	CU_ASSERT_EQUAL(err.code, ERR_MISSING);
	ensure_all();
	CU_ASSERT_FALSE(publish_event("before"));
	bus_inbox_subject(bus, "pull", inbox, sizeof(inbox));
	sub = subscribe(bus, inbox, NULL, into_pulled, &p);
	CU_ASSERT_TRUE(bus_pull(bus, STREAM, DURABLE, inbox, 1, 5000, &err));
	WAIT_FOR(p.events == 1);
	drain(bus, &sub, 1);
	bus_msg_free(&p.m);
}

static void an_unanswered_publish_is_uncertain(void)
{
	struct box box = {.mutex = PTHREAD_MUTEX_INITIALIZER};
	struct bus_sub *sub = subscribe(other, "test.silent", NULL, into_box, &box);
	struct bus_call *silent = NULL, *heard = NULL;

	flush(other);
	CU_ASSERT_FALSE(bus_stream_publish(bus, "test.silent", "1", "x", 1, 50, NULL, &err));
	CU_ASSERT_EQUAL(err.code, ERR_UNCERTAIN);
	CU_ASSERT_TRUE(bus_stream_publish_start(bus, "test.silent", "1", "x", 1, &silent, &err));
	CU_ASSERT_TRUE(bus_stream_publish_start(bus, "test.load.a", "heard", "x", 1, &heard, &err));
	CU_ASSERT_FALSE(bus_stream_publish_end(&silent, 50, NULL, &err));
	CU_ASSERT_EQUAL(err.code, ERR_UNCERTAIN);
	CU_ASSERT_TRUE(bus_stream_publish_end(&heard, WAIT_MS, NULL, &err));
	CU_ASSERT_PTR_NULL(silent);
	CU_ASSERT_PTR_NULL(heard);
	drain(other, &sub, 1);
}

static void many_publishes_are_under_way_at_once(void)
{
	static const struct {
		const char *id;
		bool is_duplicate;
	} rows[] = {{"many.1", false}, {"many.2", false}, {"many.1", true}, {"many.3", false}};
	struct bus_call *calls[ARRAY_LEN(rows)] = {NULL};
	uint64_t before = info().waiting;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		CU_ASSERT_TRUE(bus_stream_publish_start(bus, "test.load.a", rows[i].id, "x", 1, &calls[i], &err));
	for (size_t i = ARRAY_LEN(rows); i-- > 0;) {
		bool is_duplicate = !rows[i].is_duplicate;

		CU_ASSERT_TRUE(bus_stream_publish_end(&calls[i], WAIT_MS, &is_duplicate, &err));
		CU_ASSERT_EQUAL(is_duplicate, rows[i].is_duplicate);
	}
	CU_ASSERT_EQUAL(info().waiting, before + 3);
}

/* What conf/nats.conf grants a worker must be enough. */
static void few_permissions_are_enough(void)
{
	static const char extra[] =
		"authorization { users = [ { user: w, password: w, permissions { publish { allow: ["
		"\"test.load.>\", \"$JS.API.STREAM.CREATE." STREAM "\", \"$JS.API.STREAM.UPDATE." STREAM "\","
		"\"$JS.API.CONSUMER.DURABLE.CREATE." STREAM "." DURABLE "\", \"$JS.API.CONSUMER.INFO." STREAM
		"." DURABLE "\", \"$JS.API.CONSUMER.MSG.NEXT." STREAM "." DURABLE "\", \"$JS.ACK." STREAM "." DURABLE
		".>\" ] },"
		" subscribe { allow: [\"_INBOX_TEST.>\"] } } } ] }";
	struct news n = {0};
	struct server *strict = server_nats_start(server_dir_make(), extra);
	struct bus_options o = options_for(strict, &n);
	struct bus *saved = bus;

	o.user = o.password = "w";
	bus = open_bus(&o);
	CU_ASSERT_TRUE(is_up_in_time(bus));
	ensure_all();
	CU_ASSERT_FALSE(publish_event("one"));
	CU_ASSERT_FALSE(publish_event("two"));
	events_are_pulled_and_acknowledged();
	bus_close(&bus);
	bus = saved;
	server_stop(&strict);
}

/* --- suite --- */

static int suite_start(void)
{
	struct bus_options o;

	folder = server_dir_make();
	server = server_nats_start(folder, NULL);
	o = options_for(server, &news);
	if (!secret_init(&err) || !bus_open(&o, &bus, &err))
		return 1;
	o.closure = NULL;
	o.state_changed = NULL;
	o.closed = NULL;
	return bus_open(&o, &other, &err) && is_up_in_time(bus) && is_up_in_time(other) ? 0 : 1;
}

static int suite_end(void)
{
	bus_close(&bus);
	bus_close(&other);
	server_stop(&server);
	return news.closed;
}

static CU_TestInfo cases[] = {
	{"messages arrive as they were", messages_arrive_as_they_were},
	{"only plain subjects are published to", only_plain_subjects_are_published_to},
	{"a message beyond the limit is refused", a_message_beyond_the_limit_is_refused},
	{"replies come one by one", replies_come_one_by_one},
	{"nobody there is told at once", nobody_there_is_told_at_once},
	{"a reply to an ended call is dropped", a_reply_to_an_ended_call_is_dropped},
	{"a full queue ends the call", a_full_queue_ends_the_call},
	{"a call can be polled", a_call_can_be_polled},
	{"a bus opens without a server", a_bus_opens_without_a_server},
	{"a bus closes without a server", a_bus_closes_without_a_server},
	{"a lost connection ends the calls and comes back", a_lost_connection_ends_the_calls_and_comes_back},
	{"a frozen server is noticed", a_frozen_server_is_noticed},
	{"an error of the server closes for good", an_error_of_the_server_closes_for_good},
	{"a wrong password closes for good", a_wrong_password_closes_for_good},
	{"a drain handles what is on the way", a_drain_handles_what_is_on_the_way},
	{"many are drained in one go", many_are_drained_in_one_go},
	{"a drain ends without a connection", a_drain_ends_without_a_connection},
	{"no request is lost at the end of a subscription", no_request_is_lost_at_the_end_of_a_subscription},
	{"what is missing is said", what_is_missing_is_said},
	{"streams are made and updated", streams_are_made_and_updated},
	{"a repeated event is a duplicate", a_repeated_event_is_a_duplicate},
	{"events are pulled and acknowledged", events_are_pulled_and_acknowledged},
	{"a message of nobody cannot be acknowledged", a_message_of_nobody_cannot_be_acknowledged},
	{"streams survive a killed server", streams_survive_a_killed_server},
	{"a wiped store is made again", a_wiped_store_is_made_again},
	{"a store wiped under the server is made again", a_store_wiped_under_the_server_is_made_again},
	{"an unanswered publish is uncertain", an_unanswered_publish_is_uncertain},
	{"many publishes are under way at once", many_publishes_are_under_way_at_once},
	{"few permissions are enough", few_permissions_are_enough},
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"bus", suite_start, suite_end, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
