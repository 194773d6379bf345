/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handlers that routes.c names, one file h_<noun>.c per resource. Each runs
 * on one of the serving threads, takes what it needs from the request, fills the
 * response, and holds a database connection no longer than it works with it.
 */
#ifndef FCGI_APP_HANDLERS_H
#define FCGI_APP_HANDLERS_H

#include "fcgi-app/response.h"
#include "lib/err.h"

struct request;

enum next h_org_create(struct request *req, struct response *res, struct err *e);
enum next h_org_list(struct request *req, struct response *res, struct err *e);
enum next h_org_get(struct request *req, struct response *res, struct err *e);
enum next h_org_change(struct request *req, struct response *res, struct err *e);
enum next h_org_status(struct request *req, struct response *res, struct err *e);

enum next h_token_create(struct request *req, struct response *res, struct err *e);
enum next h_token_list(struct request *req, struct response *res, struct err *e);
enum next h_token_revoke(struct request *req, struct response *res, struct err *e);

enum next h_llm_config_create(struct request *req, struct response *res, struct err *e);
enum next h_llm_config_list(struct request *req, struct response *res, struct err *e);
enum next h_llm_config_get(struct request *req, struct response *res, struct err *e);
enum next h_llm_config_change(struct request *req, struct response *res, struct err *e);
enum next h_llm_config_delete(struct request *req, struct response *res, struct err *e);

enum next h_instance_create(struct request *req, struct response *res, struct err *e);
enum next h_instance_list(struct request *req, struct response *res, struct err *e);
enum next h_instance_get(struct request *req, struct response *res, struct err *e);
enum next h_instance_change(struct request *req, struct response *res, struct err *e);
enum next h_instance_config(struct request *req, struct response *res, struct err *e);
enum next h_instance_status(struct request *req, struct response *res, struct err *e);
enum next h_instance_delete(struct request *req, struct response *res, struct err *e);
enum next h_instance_rollback(struct request *req, struct response *res, struct err *e);

enum next h_version_list(struct request *req, struct response *res, struct err *e);
enum next h_version_get(struct request *req, struct response *res, struct err *e);

enum next h_lifecycle_load(struct request *req, struct response *res, struct err *e);
enum next h_lifecycle_unload(struct request *req, struct response *res, struct err *e);
enum next h_lifecycle_reload(struct request *req, struct response *res, struct err *e);

enum next h_operation_list(struct request *req, struct response *res, struct err *e);
enum next h_operation_get(struct request *req, struct response *res, struct err *e);

enum next h_chat(struct request *req, struct response *res, struct err *e);

enum next h_conversation_list(struct request *req, struct response *res, struct err *e);
enum next h_conversation_get(struct request *req, struct response *res, struct err *e);
enum next h_conversation_delete(struct request *req, struct response *res, struct err *e);

enum next h_openai_complete(struct request *req, struct response *res, struct err *e);
enum next h_openai_models(struct request *req, struct response *res, struct err *e);
enum next h_openai_model(struct request *req, struct response *res, struct err *e);

enum next h_stats_pool(struct request *req, struct response *res, struct err *e);
enum next h_stats_app(struct request *req, struct response *res, struct err *e);
enum next h_stats_org(struct request *req, struct response *res, struct err *e);

enum next h_admin_health(struct request *req, struct response *res, struct err *e);
enum next h_admin_audit(struct request *req, struct response *res, struct err *e);

enum next h_probe_health(struct request *req, struct response *res, struct err *e);
enum next h_probe_ready(struct request *req, struct response *res, struct err *e);

enum next h_dashboard_file(struct request *req, struct response *res, struct err *e);
enum next h_dashboard_redirect(struct request *req, struct response *res, struct err *e);

#endif
