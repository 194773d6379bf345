/* SPDX-License-Identifier: Apache-2.0 */
/* Rows as the JSON that clients rely on (DESIGN 9). Every function makes a new object. */
#ifndef FCGI_APP_RENDER_H
#define FCGI_APP_RENDER_H

#include "core/audit.h"
#include "core/instance.h"
#include "core/llm_config.h"
#include "core/operation.h"
#include "core/org.h"
#include "core/token.h"
#include "core/version.h"

struct jval;

struct jval *render_org(const struct org *org);
/* Never holds the token itself: whoever made it adds that. */
struct jval *render_token(const struct token *token);
struct jval *render_instance(const struct instance *instance);
struct jval *render_operation(const struct operation *op);
/* Masked: whether there is a key and its hint, and the names of the headers. */
struct jval *render_llm_config(const struct llm_config_view *view);
/* With the configuration where it was read. */
struct jval *render_version(const struct version *v);
struct jval *render_audit(const struct audit_entry *entry);

/* JSON text of a row; NULL where it cannot be read (nobody but us writes it). */
struct jval *render_stored(const char *text);
/* id "" adds null. */
void render_add_id(struct jval *obj, const char *key, const struct id *id);
/* {"items":items,"next":next}; next NULL or "": null. items is taken over. */
struct jval *render_page(struct jval *items, const struct id *next);

#endif
