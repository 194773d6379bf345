/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line that lies whole in the piece that was fed is read where it is; only one that was split is copied together. The
 * same stream gives the same events however it is split, and fails at the same event (fuzz_sse).
 */
#include "lib/sse_parse.h"

#include <string.h>

#define BOM "\xef\xbb\xbf"
#define BOM_LEN 3

void sse_parse_init(struct sse_parse *p, size_t event_max, sse_parse_event event, void *closure)
{
	*p = (struct sse_parse){.event = event, .closure = closure};
	buf_init(&p->line, event_max);
	buf_init(&p->data, event_max);
}

void sse_parse_clear(struct sse_parse *p)
{
	buf_clear(&p->line);
	buf_clear(&p->data);
	p->is_over = true;
}

static bool too_large(struct sse_parse *p, struct err *e)
{
	p->has_failed = true;
	return err_set(e, ERR_LIMIT, "an event of the stream is larger than %zu bytes", p->line.max_bytes);
}

static void dispatch(struct sse_parse *p)
{
	if (p->has_data)
		p->is_over = !p->event(p->closure, p->name, buf_str(&p->data), p->data.len);
	buf_reset(&p->data);
	p->name[0] = '\0';
	p->has_data = false;
}

static void set_name(struct sse_parse *p, const char *value, size_t len)
{
	if (len >= sizeof(p->name))
		len = sizeof(p->name) - 1;
	memcpy(p->name, value, len);
	p->name[len] = '\0';
}

static void add_data(struct sse_parse *p, const char *value, size_t len)
{
	if (p->has_data)
		buf_append(&p->data, "\n", 1);
	buf_append(&p->data, value, len);
	p->has_data = true;
}

static bool is_field(const char *line, size_t len, const char *name)
{
	return len == strlen(name) && memcmp(line, name, len) == 0;
}

/* One line, without its end. */
static bool take_line(struct sse_parse *p, const char *line, size_t len, struct err *e)
{
	if (len > p->line.max_bytes)
		return too_large(p, e);
	if (!p->is_past_start && len >= BOM_LEN && memcmp(line, BOM, BOM_LEN) == 0) {
		line += BOM_LEN;
		len -= BOM_LEN;
	}
	p->is_past_start = true;
	if (len == 0) {
		dispatch(p);
		return true;
	}
	const char *colon = memchr(line, ':', len);
	size_t name_len = colon ? (size_t)(colon - line) : len;
	const char *value = colon ? colon + 1 : line + len;
	size_t value_len = (size_t)(line + len - value);
	if (value_len > 0 && value[0] == ' ') {
		value++;
		value_len--;
	}
	if (is_field(line, name_len, "data"))
		add_data(p, value, value_len);
	else if (is_field(line, name_len, "event"))
		set_name(p, value, value_len);
	return !buf_has_failed(&p->data) || too_large(p, e);
}

/* What was kept of the line, and its rest. */
static bool take_split_line(struct sse_parse *p, const char *rest, size_t len, struct err *e)
{
	buf_append(&p->line, rest, len);
	if (buf_has_failed(&p->line))
		return too_large(p, e);
	bool ok = take_line(p, buf_str(&p->line), p->line.len, e);
	buf_reset(&p->line);
	return ok;
}

static size_t line_len(const char *data, size_t len)
{
	size_t i = 0;

	while (i < len && data[i] != '\n' && data[i] != '\r')
		i++;
	return i;
}

bool sse_parse_feed(struct sse_parse *p, const char *data, size_t len, struct err *e)
{
	if (p->has_failed)
		return too_large(p, e);
	while (len > 0 && !p->is_over) {
		if (p->skip_lf && data[0] == '\n') {
			data++;
			len--;
			p->skip_lf = false;
			continue;
		}
		p->skip_lf = false;
		size_t here = line_len(data, len);
		if (here == len) {
			buf_append(&p->line, data, len);
			return !buf_has_failed(&p->line) || too_large(p, e);
		}
		p->skip_lf = data[here] == '\r';
		if (!(p->line.len > 0 ? take_split_line(p, data, here, e) : take_line(p, data, here, e)))
			return false;
		data += here + 1;
		len -= here + 1;
	}
	return true;
}

bool sse_parse_end(struct sse_parse *p, struct err *e)
{
	if (p->has_failed)
		return too_large(p, e);
	if (p->is_over)
		return true;
	if (p->line.len > 0 && !take_split_line(p, "", 0, e))
		return false;
	if (!p->is_over)
		dispatch(p);
	p->is_over = true;
	return true;
}
