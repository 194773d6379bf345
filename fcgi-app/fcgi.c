/* SPDX-License-Identifier: Apache-2.0 */
/*
 * We accept by ourselves and hand the descriptor to libfcgi, because its own
 * accept cannot be woken for a stop, knows no timeouts, and would read the
 * parameters of a slow peer without one. FCGX_Accept_r takes a connection that is
 * already there for a kept one; InitRequest with socket -1 makes sure that it
 * never accepts another. Each thread waits in its own epoll set with
 * EPOLLEXCLUSIVE, so that one connection wakes one thread.
 *
 * The usual request is there when its connection is accepted, or a moment later: the
 * thread that accepted it looks, and serves it. All others go to the anteroom, from
 * which any thread takes them when they are ready.
 *
 * libfcgi's writes give up at SO_SNDTIMEO; a signal would look like an error to
 * it, so signals are blocked in these threads.
 */
#include "fcgi-app/fcgi.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <fcgiapp.h>

#include "fcgi-app/anteroom.h"
#include "fcgi-app/fcgi_head.h"
#include "lib/clock.h"
#include "lib/xalloc.h"

#define BACK_OFF_MS 100
#define PATIENCE_MS 5        /* a web server's request follows its connect() at once */
#define PATIENT_WITH 16      /* with more than so many in the anteroom there is no patience: they would use it up */
#define WAITING_MAX 4096     /* connections in the anteroom, and at most half of the descriptors */
#define STOP_PATIENCE_MS 500 /* requests that were on their way when it was stopped may still come */
#define LATE_END_S 2         /* so long the end of an empty input may come after the answer */
#define SLOW_BODY_TIMES 10   /* a slow body may take so many times io_timeout_s in all */
#define WRITE_MAX (1 << 20)  /* FCGX_PutStr counts with int */

struct fcgi {
	struct anteroom *anteroom;
	int listen_fd;
	int stop_fd; /* an eventfd, readable for ever once stopped */
	int io_timeout_s;
	bool is_local; /* AF_UNIX */
	bool is_ours;  /* AF_UNIX, and no other process has it */
	_Atomic bool is_stopped;
	_Atomic int64_t stopped_ms;
};

struct fcgi_conn {
	struct fcgi *fcgi;
	FCGX_Request request;
	int epoll_fd;
	void *buffer; /* for a glance */
	bool has_failed;
	bool has_input_end; /* it had come before the request was read */
	bool has_read_all;  /* the end of the input was read */
	bool is_slow;
	int64_t read_until_ms; /* is_slow */
};

/* --- the listen socket --- */

static bool fail_errno(struct err *e, const char *what)
{
	return err_set(e, ERR_INTERNAL, "%s: %s", what, strerror(errno));
}

static bool bind_and_listen(int fd, const struct sockaddr *addr, socklen_t len, int backlog, struct err *e)
{
	if (bind(fd, addr, len) != 0)
		return err_set(e, errno == EADDRINUSE ? ERR_CONFLICT : ERR_INTERNAL, "bind: %s", strerror(errno));
	if (listen(fd, backlog) != 0)
		return fail_errno(e, "listen");
	return true;
}

/* Removes the socket that a process left behind; not one that somebody listens on, and nothing that is no socket. */
static bool remove_stale(const char *path, const struct sockaddr_un *addr, struct err *e)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return errno == ENOENT || fail_errno(e, path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, ERR_CONFLICT, "%s exists and is no socket", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fail_errno(e, "socket");
	bool is_alive = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 || errno == EAGAIN;
	(void)close(fd);
	if (is_alive)
		return err_set(e, ERR_CONFLICT, "another process listens on %s", path);
	return unlink(path) == 0 || fail_errno(e, path);
}

static bool listen_on_path(const struct fcgi_options *o, int *ret_fd, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	size_t len = strlen(o->socket);

	if (len >= sizeof(addr.sun_path))
		return err_set(e, ERR_INPUT, "the path of the socket is longer than %zu bytes",
			       sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, o->socket, len + 1);
	if (!remove_stale(o->socket, &addr, e))
		return false;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fail_errno(e, "socket");
	mode_t mask = umask(0777); /* nobody gets in between bind and chmod */
	bool ok = bind_and_listen(fd, (const struct sockaddr *)&addr, sizeof(addr), o->backlog, e);
	(void)umask(mask);
	if (ok && chmod(o->socket, o->mode & 0777) != 0)
		ok = fail_errno(e, "chmod");
	if (!ok) {
		(void)close(fd);
		return false;
	}
	*ret_fd = fd;
	return true;
}

/* FastCGI has no authentication: only loopback is taken. */
static bool parse_loopback(const char *text, struct sockaddr_in *ret_addr)
{
	const char *colon = strrchr(text, ':');
	char host[INET_ADDRSTRLEN];
	char *end;

	if (!colon || (size_t)(colon - text) >= sizeof(host))
		return false;
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	long port = strtol(colon + 1, &end, 10);
	if (end == colon + 1 || *end || port < 1 || port > 65535)
		return false;
	*ret_addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	return inet_pton(AF_INET, host, &ret_addr->sin_addr) == 1 && ntohl(ret_addr->sin_addr.s_addr) >> 24 == 127;
}

static bool listen_on_port(const struct fcgi_options *o, int *ret_fd, struct err *e)
{
	struct sockaddr_in addr;
	const int on = 1;

	if (!parse_loopback(o->socket, &addr))
		return err_set(e, ERR_INPUT, "app.socket is neither a path nor 127.0.0.1:port: %s", o->socket);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fail_errno(e, "socket");
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* accepted sockets inherit it */
	if (!bind_and_listen(fd, (const struct sockaddr *)&addr, sizeof(addr), o->backlog, e)) {
		(void)close(fd);
		return false;
	}
	*ret_fd = fd;
	return true;
}

/* As mod_fcgid, lighttpd's bin-path and spawn-fcgi hand it over. */
static bool take_inherited(int *ret_fd, struct err *e)
{
	int is_listening = 0;
	socklen_t len = sizeof(is_listening);

	if (getsockopt(STDIN_FILENO, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &len) != 0 || !is_listening)
		return err_set(e, ERR_INPUT,
			       "descriptor 0 is no listening socket: set app.socket, or let a web server start this");
	int flags = fcntl(STDIN_FILENO, F_GETFL);
	if (flags < 0 || fcntl(STDIN_FILENO, F_SETFL, flags | O_NONBLOCK) != 0)
		return fail_errno(e, "fcntl");
	*ret_fd = STDIN_FILENO;
	return true;
}

static bool open_listener(const struct fcgi_options *o, int *ret_fd, struct err *e)
{
	if (!o->socket || !o->socket[0])
		return take_inherited(ret_fd, e);
	if (o->socket[0] == '/')
		return listen_on_path(o, ret_fd, e);
	return listen_on_port(o, ret_fd, e);
}

static bool is_unix(int fd)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);

	return getsockname(fd, (struct sockaddr *)&addr, &len) == 0 && addr.ss_family == AF_UNIX;
}

static bool open_anteroom(const struct fcgi_options *o, struct anteroom **ret_room, struct err *e)
{
	struct anteroom_options options = {
		.timeout_ms = o->io_timeout_s * 1000,
		.slow_max = o->threads > 1 ? o->threads / 2 : 1,
		.connections_max = WAITING_MAX,
	};
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur / 2 < WAITING_MAX)
		options.connections_max = (unsigned)(files.rlim_cur / 2);
	return anteroom_open(&options, ret_room, e);
}

bool fcgi_open(const struct fcgi_options *options, struct fcgi **ret_fcgi, struct err *e)
{
	struct fcgi *f = xcalloc(1, sizeof(*f));

	f->listen_fd = -1;
	f->io_timeout_s = options->io_timeout_s;
	f->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->stop_fd < 0) {
		(void)fail_errno(e, "eventfd");
		goto fail;
	}
	if (FCGX_Init() != 0) {
		(void)err_set(e, ERR_INTERNAL, "libfcgi could not be initialised");
		goto fail;
	}
	if (!open_listener(options, &f->listen_fd, e) || !open_anteroom(options, &f->anteroom, e))
		goto fail;
	f->is_local = is_unix(f->listen_fd);
	f->is_ours = f->is_local && options->socket && options->socket[0];
	*ret_fcgi = f;
	return true;
fail:
	fcgi_close(&f);
	return err_ctx(e, "listen");
}

/*
 * A socket of our own is shut first: from then on the kernel refuses connections, at once, and a successor may
 * listen there; those that wait already are still handed out. One that was handed over to us belongs to others too.
 */
void fcgi_stop(struct fcgi *fcgi)
{
	const uint64_t one = 1;

	if (fcgi->is_ours)
		(void)shutdown(fcgi->listen_fd, SHUT_RD);
	atomic_store(&fcgi->stopped_ms, clock_now_ms());
	atomic_store(&fcgi->is_stopped, true);
	(void)!write(fcgi->stop_fd, &one, sizeof(one));
}

void fcgi_close(struct fcgi **fcgi)
{
	struct fcgi *f = *fcgi;

	if (!f)
		return;
	anteroom_close(&f->anteroom);
	if (f->listen_fd >= 0)
		(void)close(f->listen_fd);
	if (f->stop_fd >= 0)
		(void)close(f->stop_fd);
	free(f);
	*fcgi = NULL;
}

struct fcgi_counts fcgi_counts(const struct fcgi *fcgi)
{
	struct anteroom_counts counts = anteroom_counts(fcgi->anteroom);

	return (struct fcgi_counts){.waiting = counts.waiting, .slow = counts.slow};
}

/* --- one thread's connection --- */

static bool watch(int epoll_fd, int fd, uint32_t events, struct err *e)
{
	struct epoll_event event = {.events = events, .data.fd = fd};

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 || fail_errno(e, "epoll_ctl");
}

bool fcgi_conn_new(struct fcgi *fcgi, struct fcgi_conn **ret_conn, struct err *e)
{
	struct fcgi_conn *c = xcalloc(1, sizeof(*c));

	c->fcgi = fcgi;
	c->buffer = xmalloc(FCGI_HEAD_MAX);
	c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (c->epoll_fd < 0)
		(void)fail_errno(e, "epoll_create1");
	else if (FCGX_InitRequest(&c->request, -1, FCGI_FAIL_ACCEPT_ON_INTR) != 0)
		(void)err_set(e, ERR_INTERNAL, "libfcgi made no request");
	else if (watch(c->epoll_fd, fcgi->stop_fd, EPOLLIN, e) &&
		 watch(c->epoll_fd, fcgi->listen_fd, EPOLLIN | EPOLLEXCLUSIVE, e) &&
		 watch(c->epoll_fd, anteroom_fd(fcgi->anteroom), EPOLLIN | EPOLLEXCLUSIVE, e)) {
		*ret_conn = c;
		return true;
	}
	fcgi_conn_free(&c);
	return false;
}

void fcgi_conn_free(struct fcgi_conn **conn)
{
	if (!*conn)
		return;
	if ((*conn)->epoll_fd >= 0)
		(void)close((*conn)->epoll_fd);
	free((*conn)->buffer);
	free(*conn);
	*conn = NULL;
}

static void end_slow(struct fcgi_conn *conn)
{
	if (conn->is_slow)
		anteroom_slow_is_over(conn->fcgi->anteroom);
	conn->is_slow = false;
}

static void set_timeout(int fd, int which, int seconds)
{
	const struct timeval timeout = {.tv_sec = seconds};

	(void)setsockopt(fd, SOL_SOCKET, which, &timeout, sizeof(timeout));
}

/* True: somebody else was faster, or the peer was gone again. */
static bool is_passing(int error)
{
	return error == EAGAIN || error == EWOULDBLOCK || error == EINTR || error == ECONNABORTED || error == EPROTO ||
	       error == EINVAL; /* shut a moment ago: is_stopped follows */
}

/* The connection's request is there. */
static bool is_to_be_served(struct fcgi_conn *c, int fd)
{
	struct anteroom *room = c->fcgi->anteroom;
	int patience_ms = anteroom_counts(room).waiting <= PATIENT_WITH ? PATIENCE_MS : 0;

	switch (anteroom_glance(fd, c->buffer, patience_ms, &c->has_input_end)) {
	case GLANCE_WHOLE:
		return true;
	case GLANCE_WAIT:
		anteroom_put(room, fd);
		break;
	case GLANCE_CLOSE:
		(void)close(fd);
		break;
	}
	return false;
}

/* -1 with errno; EAGAIN: there is none; EINTR: it was none to be served yet; EINVAL: the socket was shut and none is
 * left. */
static int accept_one(struct fcgi_conn *c)
{
	int fd = accept4(c->fcgi->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0 || is_to_be_served(c, fd))
		return fd;
	errno = EINTR;
	return -1;
}

static int take_one(struct fcgi_conn *c)
{
	int fd = anteroom_take(c->fcgi->anteroom, &c->is_slow);

	if (fd >= 0 && c->is_slow)
		c->read_until_ms = clock_now_ms() + (int64_t)SLOW_BODY_TIMES * c->fcgi->io_timeout_s * 1000;
	return fd;
}

/* A connection: one that has waited, one that is there already, else the next one. -1 with errno. */
static int next_connection(struct fcgi_conn *c)
{
	struct epoll_event events[3];
	int fd = take_one(c);

	if (fd < 0)
		fd = accept_one(c);
	if (fd >= 0 || errno != EAGAIN)
		return fd;
	(void)epoll_wait(c->epoll_fd, events, 3, -1);
	errno = EINTR;
	return -1;
}

/* The same once stopped, when whoever waits already is still served. EINVAL: nobody is left. */
static int last_connection(struct fcgi_conn *c)
{
	struct pollfd pfd = {.fd = anteroom_fd(c->fcgi->anteroom), .events = POLLIN};
	int fd = take_one(c);

	if (fd >= 0)
		return fd;
	errno = EINVAL;
	if (c->fcgi->is_ours)
		fd = accept_one(c);
	if (fd >= 0 || errno == EINTR)
		return fd;
	errno = EINVAL;
	if (anteroom_counts(c->fcgi->anteroom).waiting > 0 &&
	    clock_now_ms() < atomic_load(&c->fcgi->stopped_ms) + STOP_PATIENCE_MS) {
		(void)poll(&pfd, 1, STOP_PATIENCE_MS / 10);
		errno = EINTR;
	}
	return -1;
}

enum accept_next fcgi_accept(struct fcgi_conn *conn, struct err *e)
{
	struct fcgi *f = conn->fcgi;

	for (;;) {
		conn->is_slow = conn->has_input_end = false;
		bool is_stopped = atomic_load(&f->is_stopped);
		int fd = is_stopped ? last_connection(conn) : next_connection(conn);
		if (fd < 0 && is_stopped && errno == EINVAL)
			return ACCEPT_STOPPED;
		if (fd < 0 && is_passing(errno))
			continue;
		if (fd < 0) { /* no descriptors or no memory left: they come back */
			(void)fail_errno(e, "accept");
			(void)poll(NULL, 0, BACK_OFF_MS);
			return ACCEPT_AGAIN;
		}
		set_timeout(fd, SO_SNDTIMEO, f->io_timeout_s);
		if (!conn->has_input_end)
			set_timeout(fd, SO_RCVTIMEO, f->io_timeout_s);
		conn->request.ipcFd = fd;
		conn->request.keepConnection = 1; /* else the library closes it before it reads */
		conn->has_failed = conn->has_read_all = false;
		if (FCGX_Accept_r(&conn->request) == 0)
			return ACCEPT_REQUEST;
		end_slow(conn);
	}
}

char *fcgi_param(struct fcgi_conn *conn, const char *name)
{
	return FCGX_GetParam(name, conn->request.envp);
}

/* At most what the library can give without asking the peer again, so that a slow one can be given up in between. */
static int slow_want(const struct fcgi_conn *conn, int want)
{
	ptrdiff_t there = conn->request.in->stop - conn->request.in->rdNext;

	if (there < 1)
		return 1;
	return there < want ? (int)there : want;
}

size_t fcgi_read(struct fcgi_conn *conn, void *data, size_t len)
{
	char *at = data;
	size_t left = len;

	while (left > 0) {
		int want = left > WRITE_MAX ? WRITE_MAX : (int)left;
		if (conn->is_slow && clock_now_ms() > conn->read_until_ms)
			break;
		if (conn->is_slow)
			want = slow_want(conn, want);
		int got = FCGX_GetStr(at, want, conn->request.in);
		conn->has_read_all = got < want;
		if (got <= 0)
			break;
		at += got;
		left -= (size_t)got;
	}
	return len - left;
}

bool fcgi_write(struct fcgi_conn *conn, const void *data, size_t len)
{
	const char *at = data;

	while (len > 0 && !conn->has_failed) {
		int want = len > WRITE_MAX ? WRITE_MAX : (int)len;
		if (FCGX_PutStr(at, want, conn->request.out) != want)
			conn->has_failed = true;
		at += want;
		len -= (size_t)want;
	}
	return !conn->has_failed;
}

bool fcgi_flush(struct fcgi_conn *conn)
{
	if (!conn->has_failed && FCGX_FFlush(conn->request.out) != 0)
		conn->has_failed = true;
	return !conn->has_failed;
}

/* A web server may send the record that ends an empty input after we have answered; it must find us there. */
static void await_end_of_input(struct fcgi_conn *conn)
{
	const char *length = fcgi_param(conn, "CONTENT_LENGTH");
	char c;

	if (conn->has_read_all || (length && *length && strcmp(length, "0") != 0))
		return;
	if (!conn->has_input_end)
		set_timeout(conn->request.ipcFd, SO_RCVTIMEO, LATE_END_S);
	(void)fcgi_read(conn, &c, 1);
}

/*
 * The library's own close waits until the peer has closed too, for the sake of input that is still on its way. Where
 * all input was read, a local socket can be closed at once: what we have sent stays readable.
 */
void fcgi_finish(struct fcgi_conn *conn)
{
	int fd = conn->request.ipcFd;
	bool can_close_at_once;

	await_end_of_input(conn);
	can_close_at_once = conn->fcgi->is_local && conn->has_read_all;
	conn->request.keepConnection = can_close_at_once;
	FCGX_Finish_r(&conn->request);
	if (conn->request.ipcFd >= 0) {
		(void)close(fd);
		conn->request.ipcFd = -1;
	}
	end_slow(conn);
}

bool fcgi_client_is_gone(struct fcgi_conn *conn)
{
	struct pollfd pfd = {.fd = conn->request.ipcFd, .events = POLLRDHUP};

	if (conn->has_failed)
		return true;
	return poll(&pfd, 1, 0) > 0 && (pfd.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL));
}

int fcgi_fd(const struct fcgi_conn *conn)
{
	return conn->request.ipcFd;
}
