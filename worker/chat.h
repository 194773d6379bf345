/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chats: each request on hearth.chat.<instance> becomes a turn on the copy that the pool gives, and its events become
 * numbered replies (core/chat_wire.h).
 */
#ifndef WORKER_CHAT_H
#define WORKER_CHAT_H

#include <stdint.h>

struct bus_msg;
struct chats;
struct engine;
struct pool_copy;

struct chats *chats_new(struct engine *engine);
void chats_close(struct chats *chats); /* gives its handle back to the loop */
/* No turn may be left. */
void chats_free(struct chats **chats);
/* Listens to this incarnation's cancel subject. */
void chats_new_incarnation(struct engine *engine);
/* Takes over the limits of the settings. */
void chats_configure(struct engine *engine);
void chat_request(struct engine *engine, const struct bus_msg *msg);
void chat_cancel(struct engine *engine, const struct bus_msg *msg);
/* Cancels every turn of the copy: its drain time is over. */
void chat_cut(struct engine *engine, const struct pool_copy *copy);
/* Every second: keep-alives for silent turns, deadlines, turns that waited too long. */
void chats_second(struct engine *engine);

#endif
