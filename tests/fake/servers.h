/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real servers for tests: each in its own folder, as a child that dies with the
 * test. A start returns when the server answers, and ends the program with 77
 * (automake's "skipped") when the server is not installed, with 1 when it does not come up.
 */
#ifndef TESTS_FAKE_SERVERS_H
#define TESTS_FAKE_SERVERS_H

#include <sys/types.h>

struct server;

/* A new folder below $TMPDIR, removed with all in it at the end of the program. Owned by this module. */
const char *server_dir_make(void);

/* UNIX socket only; root needs no password. */
struct server *server_mariadb_start(const char *dir);
/* 127.0.0.1, a free port, JetStream in <dir>/jetstream. extra: further lines of the configuration, or NULL. */
struct server *server_nats_start(const char *dir, const char *extra);
/* A port of 127.0.0.1 that nobody listens on. */
int server_port_free(void);

const char *server_socket(const struct server *server); /* MariaDB's */
const char *server_url(const struct server *server);    /* of NATS: nats://127.0.0.1:port */
int server_port(const struct server *server);
pid_t server_pid(const struct server *server);

void server_kill(struct server *server); /* SIGKILL, and waits */
/* After server_kill: the same data, the same address. Returns when it answers. */
void server_restart(struct server *server);
/* SIGTERM, and waits. Accepts NULL and a killed one. */
void server_stop(struct server **server);

#endif
