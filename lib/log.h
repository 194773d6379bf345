/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line per event, `key=value` fields after the message, to stderr (with
 * journald's `<level>` prefix when stderr is the journal) or to syslog.
 * A context (request=… or instance=…) set once on a thread stands on every
 * line of that thread. lib/ logs nothing above debug. All threads.
 *
 *   log_info("operation finished", "operation=%s state=%s", id, state);
 *   2026-01-02T03:04:05.678Z info hearth-worker: operation finished operation=… state=…
 *
 * Control characters in the formatted fields are replaced by '?', so no
 * outside text can forge a line. Secrets are never passed here.
 */
#ifndef LIB_LOG_H
#define LIB_LOG_H

#include <stdbool.h>

#include "lib/macros.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_target { LOG_TARGET_STDERR, LOG_TARGET_SYSLOG };

/* program is kept by pointer. Before the first call: info, to stderr, "hearth". */
void log_open(const char *program, enum log_level level, enum log_target target);
void log_set_level(enum log_level level);
/* Formats this thread's context, at most 160 bytes; NULL ends it. */
void log_set_context(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* msg: what failed or happened, a constant; fmt: the fields, may be NULL. */
void log_write(enum log_level level, const char *msg, const char *fmt, ...) PRINTF_LIKE(3, 4);
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
