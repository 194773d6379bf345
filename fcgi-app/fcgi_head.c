/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records (FastCGI specification, section 3.3) and, within PARAMS, names and
 * values with their lengths (3.4). A pair may be cut anywhere between records, so
 * the pairs are walked by a small machine that is fed piece by piece. Of all
 * parameters only the two that say how much body is to come are looked at.
 */
#include "fcgi-app/fcgi_head.h"

#include <string.h>

#define RECORD_VERSION 1
#define HEADER_BYTES 8
#define BEGIN_BYTES 8
#define ROLE_RESPONDER 1
#define LONG_LENGTH 0x80 /* the first byte of a length of four bytes */
#define NAME_KEPT 16     /* longer than both names that count */
#define VALUE_KEPT 20    /* longer than any number in question */

enum record_type { BEGIN_REQUEST = 1, PARAMS = 4, STDIN = 5 };

struct record {
	unsigned type, id;
	const uint8_t *content;
	size_t content_len;
	size_t total_len; /* with header and padding */
};

enum pair_part { NAME_LENGTH, VALUE_LENGTH, NAME, VALUE };

struct walk {
	enum pair_part at;
	unsigned length_bytes; /* of the length being read, so far */
	uint32_t length;
	size_t left; /* of the name or value */
	size_t name_len, value_len;
	size_t name_kept, value_kept;
	char name[NAME_KEPT], value[VALUE_KEPT];
	int64_t body_bytes;
	bool has_body_bytes, has_method, is_bodiless_method;
};

static enum fcgi_head_state broken(struct fcgi_head *head, const char *reason)
{
	head->reason = reason;
	return FCGI_HEAD_BROKEN;
}

/* --- names and values --- */

/* Digits alone; anything else counts as none here and is refused where the body is read. */
static int64_t parse_body_bytes(const char *s, size_t len)
{
	int64_t n = 0;

	if (len == 0 || len == VALUE_KEPT)
		return -1;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9' || n > INT64_MAX / 16)
			return -1;
		n = n * 10 + (s[i] - '0');
	}
	return n;
}

static bool is_name(const struct walk *w, const char *name)
{
	return w->name_kept == strlen(name) && memcmp(w->name, name, w->name_kept) == 0;
}

static bool is_value(const struct walk *w, const char *value)
{
	return w->value_kept == strlen(value) && memcmp(w->value, value, w->value_kept) == 0;
}

/* The first of a name counts, as it does when libfcgi is asked for it. */
static void end_pair(struct walk *w)
{
	if (is_name(w, "CONTENT_LENGTH") && !w->has_body_bytes) {
		w->has_body_bytes = true;
		w->body_bytes = parse_body_bytes(w->value, w->value_kept);
	} else if (is_name(w, "REQUEST_METHOD") && !w->has_method) {
		w->has_method = true;
		w->is_bodiless_method = is_value(w, "GET") || is_value(w, "HEAD");
	}
	w->at = NAME_LENGTH;
	w->name_kept = w->value_kept = 0;
}

static void begin_part(struct walk *w)
{
	if (w->at == NAME) {
		w->left = w->name_len;
		if (w->left > 0)
			return;
		w->at = VALUE;
	}
	w->left = w->value_len;
	if (w->left == 0)
		end_pair(w);
}

/* False: longer than all parameters together may be. */
static bool end_length(struct walk *w)
{
	size_t length = w->length;

	w->length_bytes = 0;
	w->length = 0;
	if (length > FCGI_HEAD_MAX)
		return false;
	if (w->at == NAME_LENGTH) {
		w->name_len = length;
		w->at = VALUE_LENGTH;
		return true;
	}
	w->value_len = length;
	w->at = NAME;
	begin_part(w);
	return true;
}

static bool feed_length(struct walk *w, uint8_t byte)
{
	if (w->length_bytes == 0 && !(byte & LONG_LENGTH)) {
		w->length = byte;
		return end_length(w);
	}
	w->length = w->length << 8 | (w->length_bytes == 0 ? byte & (LONG_LENGTH - 1) : byte);
	return ++w->length_bytes < 4 || end_length(w);
}

static void keep(char *kept, size_t *kept_len, size_t kept_max, const uint8_t *data, size_t len)
{
	if (len > kept_max - *kept_len)
		len = kept_max - *kept_len;
	memcpy(kept + *kept_len, data, len);
	*kept_len += len;
}

/* Takes of the name or value what there is; returns how much. */
static size_t feed_text(struct walk *w, const uint8_t *data, size_t len)
{
	if (len > w->left)
		len = w->left;
	if (w->at == NAME)
		keep(w->name, &w->name_kept, sizeof(w->name), data, len);
	else
		keep(w->value, &w->value_kept, sizeof(w->value), data, len);
	w->left -= len;
	if (w->left > 0)
		return len;
	if (w->at == NAME) {
		w->at = VALUE;
		begin_part(w);
	} else {
		end_pair(w);
	}
	return len;
}

static bool feed(struct walk *w, const uint8_t *data, size_t len, struct fcgi_head *head)
{
	while (len > 0) {
		size_t taken = 1;

		if (w->at == NAME || w->at == VALUE) {
			taken = feed_text(w, data, len);
			if (memchr(data, 0, taken))
				return !broken(head, "a parameter holds a NUL");
		} else if (!feed_length(w, *data)) {
			return !broken(head, "a parameter is too long");
		}
		data += taken;
		len -= taken;
	}
	return true;
}

/* --- records --- */

/* False: it has not come whole. */
static bool next_record(const uint8_t *data, size_t len, struct record *ret_record)
{
	if (len < HEADER_BYTES)
		return false;
	*ret_record = (struct record){
		.type = data[1],
		.id = (unsigned)data[2] << 8 | data[3],
		.content = data + HEADER_BYTES,
		.content_len = (size_t)data[4] << 8 | data[5],
	};
	ret_record->total_len = HEADER_BYTES + ret_record->content_len + data[6];
	return len >= ret_record->total_len;
}

/* What a record's first bytes tell already. */
static const char *fault_of(const uint8_t *data, size_t len, unsigned type, unsigned id)
{
	if (len >= 1 && data[0] != RECORD_VERSION)
		return "not FastCGI of version 1";
	if (len >= 2 && data[1] != type)
		return "a record of another type than may come here";
	if (len >= 4 && (((unsigned)data[2] << 8 | data[3]) == 0 || (id && ((unsigned)data[2] << 8 | data[3]) != id)))
		return "a record of another request";
	return NULL;
}

/* Adds up the body; the rest of what is there may be cut anywhere. */
static bool scan_input(const uint8_t *data, size_t len, unsigned id, const struct walk *w, struct fcgi_head *head)
{
	int64_t got = 0;
	struct record r = {0};

	while (len > 0 && !head->has_input_end) {
		const char *fault = fault_of(data, len, STDIN, id);
		if (fault)
			return !broken(head, fault);
		if (!next_record(data, len, &r)) {
			if (len > HEADER_BYTES)
				got += (int64_t)(len - HEADER_BYTES < r.content_len ? len - HEADER_BYTES
										    : r.content_len);
			break;
		}
		got += (int64_t)r.content_len;
		head->has_input_end = r.content_len == 0;
		data += r.total_len;
		len -= r.total_len;
	}
	head->body_bytes = w->has_body_bytes ? w->body_bytes : -1;
	if (head->body_bytes >= 0)
		head->is_input_whole = head->has_input_end || got >= head->body_bytes;
	else
		head->is_input_whole = head->has_input_end || w->is_bodiless_method;
	return true;
}

/* Behind BEGIN_REQUEST and the end of the parameters libfcgi takes padding for the next record. */
static bool is_padded(const struct record *r)
{
	return r->total_len > HEADER_BYTES + r->content_len;
}

static bool begin_is_good(const struct record *r, struct fcgi_head *head)
{
	if (r->content_len != BEGIN_BYTES)
		return !broken(head, "a BEGIN_REQUEST of another length");
	if (is_padded(r))
		return !broken(head, "a padded BEGIN_REQUEST");
	if (((unsigned)r->content[0] << 8 | r->content[1]) != ROLE_RESPONDER)
		return !broken(head, "another role than responder");
	return true;
}

static enum fcgi_head_state scan(const uint8_t *data, size_t len, struct fcgi_head *head)
{
	struct walk w = {.at = NAME_LENGTH, .body_bytes = -1};
	unsigned type = BEGIN_REQUEST, id = 0;
	struct record r = {0};
	size_t at = 0;

	do {
		const char *fault = fault_of(data + at, len - at, type, id);
		if (fault)
			return broken(head, fault);
		if (!next_record(data + at, len - at, &r))
			return FCGI_HEAD_PARTIAL;
		if (type == BEGIN_REQUEST && !begin_is_good(&r, head))
			return FCGI_HEAD_BROKEN;
		if (type == PARAMS && !feed(&w, r.content, r.content_len, head))
			return FCGI_HEAD_BROKEN;
		at += r.total_len;
		id = r.id;
		type = PARAMS;
	} while (r.type != PARAMS || r.content_len > 0);
	if (is_padded(&r))
		return broken(head, "a padded end of the parameters");
	if (w.at != NAME_LENGTH || w.length_bytes > 0)
		return broken(head, "the parameters end within one");
	head->len = at;
	return scan_input(data + at, len - at, id, &w, head) ? FCGI_HEAD_WHOLE : FCGI_HEAD_BROKEN;
}

enum fcgi_head_state fcgi_head_scan(const uint8_t *data, size_t len, struct fcgi_head *ret_head)
{
	enum fcgi_head_state state;

	*ret_head = (struct fcgi_head){.body_bytes = -1};
	state = scan(data, len, ret_head);
	if ((state == FCGI_HEAD_PARTIAL && len >= FCGI_HEAD_MAX) ||
	    (state == FCGI_HEAD_WHOLE && ret_head->len > FCGI_HEAD_MAX))
		return broken(ret_head, "more parameters than may be");
	return state;
}
