/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A change of the database by a request: the check of access, the change and
 * its audit row in one transaction. A refusal rolls all of it back; its
 * audit row is written afterwards by the serving loop.
 */
#ifndef FCGI_APP_WRITE_H
#define FCGI_APP_WRITE_H

#include <stdbool.h>

#include "core/access.h"
#include "lib/err.h"

struct db;
struct request;
struct write;

/* Runs inside the transaction, again after a deadlock. Sets w->problem to refuse, w->target for the audit row. */
typedef bool (*write_body)(struct db *db, struct write *w, struct err *e);

struct write {
	struct request *req;
	struct access_request ask; /* write_init fills it; the handler may set locks */
	write_body body;
	void *closure;
	/* Set by the run. */
	struct access access;
	enum problem problem;
	const char *detail;
	struct id org_id, target; /* for the audit row */
	const char *audit_detail; /* NULL: none */
};

enum write_result {
	WRITE_DONE,
	WRITE_REFUSED /* w->problem */,
	WRITE_FAILED /* e; ERR_UNCERTAIN: look whether it was done */
};

void write_init(struct write *w, struct request *req, write_body body, void *closure);
enum write_result write_run(struct write *w, struct err *e);

#endif
