/* SPDX-License-Identifier: Apache-2.0 */
/* Accepting a load, unload or reload: DESIGN 4, steps 1 and 2, in one transaction. */
#ifndef CORE_LIFECYCLE_H
#define CORE_LIFECYCLE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/access.h"
#include "core/audit.h"
#include "core/operation.h"

struct lifecycle_request {
	enum action action;
	int tier;                     /* enum tier from the body, -1: the stored one */
	bool fresh;                   /* reload */
	int64_t drain_s;              /* unload, -1: the configured one */
	struct id operation_id;       /* made by the caller */
	struct access_request access; /* permission, org, instance and token; the locks are set here */
	struct audit_origin origin;
};

struct lifecycle_accepted {
	struct operation op; /* already succeeded where there was nothing to do (unload of what is not held); its times
				only then */
	bool use_loads;      /* publish on hearth.load (load, and reload where nothing is loaded), else hearth.change */
	struct access access;
};

/* One of several. */
struct lifecycle_step {
	const struct lifecycle_request *request;
	struct arena *mem; /* of the answer's strings */
	/* the answer */
	bool ok;
	struct lifecycle_accepted accepted;
	enum problem problem;
	struct err e; /* not ok */
	/* lifecycle.c's own */
	bool has_org_lock, is_left_over;
};

/*
 * Any count; the more at once, the less each costs, as most of them share transactions. A refusal (problem) is audited
 * too, in a transaction of its own. Not ok: ERR_DOWN nothing was written, ERR_UNCERTAIN the commit's outcome is
 * unknown: operation_get on a new connection tells.
 */
void lifecycle_accept(struct db *db, struct lifecycle_step **steps, unsigned count);

#endif
