/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A FastCGI client (FastCGI specification, sections 3 and 5) that speaks to an application's socket directly, and
 * badly where it is told to: every field of a record is the caller's, bytes may be sent one by one, and it may hang
 * up at any point. fcgi_client_main.c makes a program of it for the stories.
 *
 *   fcgi_client_open → fcgi_client_begin, fcgi_client_param …, fcgi_client_params, fcgi_client_input …
 *   → fcgi_client_read → fcgi_client_close
 */
#ifndef TESTS_FAKE_FCGI_CLIENT_H
#define TESTS_FAKE_FCGI_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"

enum fcgi_type {
	FCGI_TYPE_BEGIN = 1,
	FCGI_TYPE_ABORT,
	FCGI_TYPE_END,
	FCGI_TYPE_PARAMS,
	FCGI_TYPE_STDIN,
	FCGI_TYPE_STDOUT
};

struct fcgi_record {
	uint8_t version, type;
	uint16_t id, len; /* len as it is written, whatever follows */
	uint8_t padding;  /* so many bytes are sent behind the content */
};

struct fcgi_client {
	int fd;
	int drip_ms; /* -1: all at once; else a pause after each byte */
	struct buf params;
	struct buf answer;
	uint32_t app_status;
};

enum fcgi_outcome {
	FCGI_ANSWERED, /* the answer is whole, in `answer` */
	FCGI_CLOSED,   /* the application hung up before */
	FCGI_TIMEOUT
};

/* A path, or a port of 127.0.0.1. False: nobody listens. */
bool fcgi_client_open(struct fcgi_client *c, const char *socket);
void fcgi_client_close(struct fcgi_client *c);
/* All of these: false once the application has hung up. */
bool fcgi_client_raw(struct fcgi_client *c, const void *bytes, size_t len);
bool fcgi_client_record(struct fcgi_client *c, const struct fcgi_record *record, const void *content, size_t len);
/* A record of request 1, as it should be. */
bool fcgi_client_send(struct fcgi_client *c, enum fcgi_type type, const void *content, size_t len);
bool fcgi_client_begin(struct fcgi_client *c);
/* Adds to `params`; fcgi_client_params sends them, and the record that ends them. */
void fcgi_client_param(struct fcgi_client *c, const char *name, const char *value);
bool fcgi_client_params(struct fcgi_client *c);
/* The body, and the record that ends it. */
bool fcgi_client_input(struct fcgi_client *c, const void *body, size_t len);
/* No more is sent; the answer can still be read. */
void fcgi_client_half_close(struct fcgi_client *c);
enum fcgi_outcome fcgi_client_read(struct fcgi_client *c, int timeout_ms);

#endif
