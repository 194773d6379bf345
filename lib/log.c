/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line is built on the stack and leaves with one write(2), so lines of
 * several threads do not mix and no lock is needed. journald has its own time
 * and name: there a line is "<6>message …". It is recognised by JOURNAL_STREAM,
 * which names the device and inode of the stream that systemd made.
 * log_open is called before threads start; the level may change at any time.
 */
#include "lib/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "lib/clock.h"

#define LINE_BYTES 2048
#define CONTEXT_BYTES 160

static const struct {
	const char *name;
	int priority; /* syslog's */
} levels[] = {
	[LOG_LEVEL_DEBUG] = {"debug", LOG_DEBUG},
	[LOG_LEVEL_INFO] = {"info", LOG_INFO},
	[LOG_LEVEL_WARN] = {"warn", LOG_WARNING},
	[LOG_LEVEL_ERROR] = {"error", LOG_ERR},
};

static const char *program_name = "hearth";
static enum log_target target_now = LOG_TARGET_STDERR;
static bool is_journal;
static _Atomic int level_now = LOG_LEVEL_INFO;
static _Thread_local char context[CONTEXT_BYTES + 1];

struct line {
	char text[LINE_BYTES];
	size_t len; /* without the newline, for which one byte is kept free */
};

static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
	       st.st_dev == device && st.st_ino == inode;
}

void log_open(const char *program, enum log_level level, enum log_target target)
{
	program_name = program;
	target_now = target;
	is_journal = stderr_is_journal();
	log_set_level(level);
	if (target == LOG_TARGET_SYSLOG)
		openlog(program, LOG_PID | LOG_NDELAY, LOG_DAEMON);
}

void log_set_level(enum log_level level)
{
	atomic_store(&level_now, (int)level);
}

/* Outside text must not be able to start a line or to steer a terminal. */
static void replace_controls(char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c < 0x20 || c == 0x7f)
			text[i] = '?';
	}
}

void log_set_context(const char *fmt, ...)
{
	va_list args;

	context[0] = '\0';
	if (!fmt)
		return;
	va_start(args, fmt);
	if (vsnprintf(context, sizeof(context), fmt, args) < 0)
		context[0] = '\0';
	va_end(args);
	replace_controls(context, strlen(context));
}

static PRINTF_LIKE(2, 0) void line_vprintf(struct line *line, const char *fmt, va_list args)
{
	size_t room = sizeof(line->text) - line->len;
	int len = vsnprintf(line->text + line->len, room, fmt, args);

	if (len < 0)
		return;
	size_t added = (size_t)len < room ? (size_t)len : room - 1;
	replace_controls(line->text + line->len, added);
	line->len += added;
}

static PRINTF_LIKE(2, 3) void line_printf(struct line *line, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	line_vprintf(line, fmt, args);
	va_end(args);
}

static void put_head(struct line *line, enum log_level level)
{
	char now[CLOCK_RFC3339_SIZE];

	if (target_now == LOG_TARGET_SYSLOG)
		return;
	if (is_journal) {
		line_printf(line, "<%d>", levels[level].priority);
		return;
	}
	clock_rfc3339(clock_unix_ms(), now);
	line_printf(line, "%s %s %s: ", now, levels[level].name, program_name);
}

static void send_line(struct line *line, enum log_level level)
{
	if (target_now == LOG_TARGET_SYSLOG) {
		syslog(levels[level].priority, "%s", line->text);
		return;
	}
	line->text[line->len] = '\n'; /* over the NUL */
	while (write(STDERR_FILENO, line->text, line->len + 1) < 0 && errno == EINTR)
		continue;
}

void log_write(enum log_level level, const char *msg, const char *fmt, ...)
{
	int saved_errno = errno;
	struct line line;
	va_list args;

	if ((int)level < atomic_load_explicit(&level_now, memory_order_relaxed))
		return;
	line.len = 0;
	put_head(&line, level);
	line_printf(&line, "%s", msg);
	if (context[0])
		line_printf(&line, " %s", context);
	if (fmt && fmt[0]) {
		line_printf(&line, " ");
		va_start(args, fmt);
		line_vprintf(&line, fmt, args);
		va_end(args);
	}
	send_line(&line, level);
	errno = saved_errno;
}
