/* SPDX-License-Identifier: Apache-2.0 */
/* hearthctl org create, org list. */
#include "ctl/ctl.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/instance.h"
#include "core/org.h"
#include "lib/arena.h"
#include "lib/json.h"

#define PAGE 500

/* --- create --- */

enum { CREATE_INSTANCES, CREATE_HOT, CREATE_DEMAND, CREATE_TTL };

static bool create_body(struct db *db, void *closure, enum problem *ret_problem, struct err *e)
{
	return org_create(db, closure, ret_problem, e);
}

static enum ctl_exit create(struct ctl *ctl, const struct ctl_args *args)
{
	int64_t instances = ORG_QUOTA_INSTANCES_DEFAULT, hot = ORG_QUOTA_TIER_DEFAULT, demand = ORG_QUOTA_TIER_DEFAULT;
	int64_t ttl = -1;

	if (!ctl_name(args, ORG_NAME_MAX) || !ctl_number(args, CREATE_INSTANCES, 0, ORG_QUOTA_MAX, &instances) ||
	    !ctl_number(args, CREATE_HOT, 0, ORG_QUOTA_MAX, &hot) ||
	    !ctl_number(args, CREATE_DEMAND, 0, ORG_QUOTA_MAX, &demand) ||
	    !ctl_number(args, CREATE_TTL, 1, INSTANCE_TTL_MAX, &ttl))
		return CTL_USAGE;
	struct org org = {
		.org_id = id_new(),
		.name = args->operand,
		.quota_instances = (uint32_t)instances,
		.quota_hot = (uint32_t)hot,
		.quota_demand = (uint32_t)demand,
		.ttl_seconds = ttl,
	};
	struct ctl_change change = {
		.action = "org.create",
		.doing = "making organization",
		.org_id = org.org_id,
		.target = org.org_id,
		.text = org.name,
		.body = create_body,
		.closure = &org,
	};
	enum ctl_exit status = ctl_connect(ctl, true);
	if (status == CTL_OK)
		status = ctl_change_run(ctl, &change);
	if (status != CTL_OK)
		return status;
	if (!ctl->json) {
		printf("%s\n", org.org_id.text);
		return CTL_OK;
	}
	struct jval *o = jval_new_object();
	jval_add_string(o, "org_id", org.org_id.text);
	jval_add_string(o, "name", org.name);
	ctl_print_json(&o);
	return CTL_OK;
}

/* --- list --- */

static struct jval *org_json(const struct org *org)
{
	struct jval *o = jval_new_object(), *quotas = jval_new_object();

	jval_add_string(o, "org_id", org->org_id.text);
	jval_add_string(o, "name", org->name);
	jval_add_string(o, "status", status_name(org->status));
	jval_add_int(quotas, "instances", org->quota_instances);
	jval_add_int(quotas, "hot", org->quota_hot);
	jval_add_int(quotas, "demand", org->quota_demand);
	jval_add(o, "quotas", quotas);
	if (org->ttl_seconds >= 0)
		jval_add_int(o, "ttl_seconds", org->ttl_seconds);
	else
		jval_add(o, "ttl_seconds", NULL);
	jval_add_string(o, "created_at", org->created_at);
	return o;
}

static void print_org(const struct org *org)
{
	char ttl[24] = "-";

	if (org->ttl_seconds >= 0)
		(void)snprintf(ttl, sizeof(ttl), "%" PRId64, org->ttl_seconds);
	printf("%-36s  %-9s  %9" PRIu32 "  %8" PRIu32 "  %8" PRIu32 "  %8s  %s\n", org->org_id.text,
	       status_name(org->status), org->quota_instances, org->quota_hot, org->quota_demand, ttl, org->name);
}

/* items NULL: as lines. */
static bool list_all(struct ctl *ctl, struct jval *items, struct err *e)
{
	struct id after = {""};
	struct org *orgs;
	unsigned count;

	do {
		arena_clear(ctl->mem);
		if (!org_list(ctl->db, ctl->mem, &after, PAGE, &orgs, &count, e))
			return false;
		for (unsigned i = 0; i < count; i++) {
			if (items)
				jval_push(items, org_json(&orgs[i]));
			else
				print_org(&orgs[i]);
			after = orgs[i].org_id;
		}
	} while (count == PAGE);
	return true;
}

static enum ctl_exit list(struct ctl *ctl, const struct ctl_args *args)
{
	struct jval *o = NULL, *items = NULL;
	struct err e = {0};

	(void)args;
	enum ctl_exit status = ctl_connect(ctl, true);
	if (status != CTL_OK)
		return status;
	if (ctl->json) {
		o = jval_new_object();
		items = jval_new_array();
		jval_add(o, "items", items);
	} else {
		printf("%-36s  %-9s  %9s  %8s  %8s  %8s  %s\n", "ORG", "STATUS", "INSTANCES", "HOT", "DEMAND", "TTL",
		       "NAME");
	}
	if (!list_all(ctl, items, &e))
		status = ctl_fail("org list", &e);
	else if (ctl->json)
		ctl_print_json(&o);
	jval_free(&o);
	return status;
}

const struct ctl_command ctl_org_commands[] = {
	{
		.noun = "org",
		.verb = "create",
		.operand = "NAME",
		.help = "make an organization; prints its id",
		.options =
			{
				[CREATE_INSTANCES] = {"quota-instances", "N", "AI Apps it may have (default 1000)"},
				[CREATE_HOT] = {"quota-hot", "N", "hot Apps it may have loaded (default 100)"},
				[CREATE_DEMAND] = {"quota-demand", "N", "demand Apps it may have loaded (default 100)"},
				[CREATE_TTL] = {"ttl", "SECONDS",
						"idle time of its demand Apps (default: the worker's)"},
			},
		.run = create,
	},
	{.noun = "org", .verb = "list", .help = "show all organizations", .run = list},
	{.noun = NULL},
};
