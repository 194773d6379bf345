/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events: asks the loads consumer for as many as there are build slots free,
 * keeps those in hand alive, acks or gives them back; hears hearth.change.
 */
#ifndef WORKER_EVENTS_H
#define WORKER_EVENTS_H

#include <stdint.h>

struct bus_msg;
struct engine;
struct events;

struct events *events_new(struct engine *engine);
void events_free(struct events **events);
/* The bus is there (again): subscriptions are the library's, stream and consumer are made where missing. */
void events_bus_up(struct engine *engine);
/* A pulled message or a status; msg stays the caller's unless it is taken (then *msg is NULL). */
void events_pulled(struct engine *engine, struct bus_msg **msg);
void events_change(struct engine *engine, const struct bus_msg *msg);
/* From now on: other workers' reports. */
void events_hear_reports(struct engine *engine);
/* Another worker's report, heard while hot Apps are handed over. */
void events_report(struct engine *engine, const struct bus_msg *msg);
/* Asks for events where slots are free. Called at the end of every pump. */
void events_ask(struct engine *engine);
/* Every second: keeps held events from being delivered again. */
void events_second(struct engine *engine);
/* The pool has done with it. */
void events_done(struct engine *engine, void *event);
void events_back(struct engine *engine, void *event, int64_t delay_ms);
void events_waiting(const struct engine *engine, uint64_t *ret_waiting, uint64_t *ret_redelivered);

#endif
