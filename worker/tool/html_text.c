/* SPDX-License-Identifier: Apache-2.0 */
/* Goes through the page once. Runs of white space become one blank; block elements begin a line. */
#include "worker/tool/html_text.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/buf.h"
#include "lib/macros.h"

#define TAG_NAME_MAX 15

struct page {
	const char *at, *end;
	struct buf *out;
	char gap; /* what stands before the next text: 0, ' ' or '\n' */
};

static void put(struct page *p, const char *text, size_t len)
{
	if (p->gap && p->out->len > 0)
		buf_append(p->out, &p->gap, 1);
	p->gap = 0;
	buf_append(p->out, text, len);
}

static bool is_name(const char *name, const char *const *list)
{
	for (size_t i = 0; list[i]; i++)
		if (strcasecmp(list[i], name) == 0)
			return true;
	return false;
}

/* To behind the next occurrence of the text, without regard to case; the end where there is none. */
static void skip_past(struct page *p, const char *text)
{
	size_t len = strlen(text);

	for (; p->at < p->end; p->at++) {
		if ((size_t)(p->end - p->at) >= len && strncasecmp(p->at, text, len) == 0) {
			p->at += len;
			return;
		}
	}
}

/* A tag's end, past quoted attributes. */
static void skip_tag(struct page *p)
{
	char quote = 0;

	for (; p->at < p->end; p->at++) {
		if (quote) {
			if (*p->at == quote)
				quote = 0;
		} else if (*p->at == '"' || *p->at == '\'') {
			quote = *p->at;
		} else if (*p->at == '>') {
			p->at++;
			return;
		}
	}
}

/* At '<'. */
static void read_tag(struct page *p)
{
	static const char *const blocks[] = {"p",  "br", "div", "li", "ul", "ol",  "tr", "table", "h1",
					     "h2", "h3", "h4",  "h5", "h6", "pre", "hr", "title", NULL};
	char name[TAG_NAME_MAX + 1];
	size_t len = 0;

	if (p->end - p->at >= 4 && memcmp(p->at, "<!--", 4) == 0) {
		p->at += 4;
		skip_past(p, "-->");
		return;
	}
	p->at++;
	bool is_end = p->at < p->end && *p->at == '/';
	p->at += is_end;
	while (p->at < p->end && len < TAG_NAME_MAX && *p->at != '>' && *p->at != ' ' && *p->at != '/' &&
	       *p->at != '\n' && *p->at != '\t')
		name[len++] = *p->at++;
	name[len] = '\0';
	skip_tag(p);
	if (!is_end && strcasecmp(name, "script") == 0)
		skip_past(p, "</script");
	else if (!is_end && strcasecmp(name, "style") == 0)
		skip_past(p, "</style");
	else if (is_name(name, blocks))
		p->gap = '\n';
	if (!is_end && (strcasecmp(name, "script") == 0 || strcasecmp(name, "style") == 0))
		skip_tag(p);
}

static void put_code_point(struct page *p, unsigned long c)
{
	char utf8[4];
	size_t len;

	if (c < 0x20 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		c = ' ';
	if (c < 0x80) {
		utf8[0] = (char)c;
		len = 1;
	} else if (c < 0x800) {
		utf8[0] = (char)(0xc0 | c >> 6);
		utf8[1] = (char)(0x80 | (c & 0x3f));
		len = 2;
	} else if (c < 0x10000) {
		utf8[0] = (char)(0xe0 | c >> 12);
		utf8[1] = (char)(0x80 | (c >> 6 & 0x3f));
		utf8[2] = (char)(0x80 | (c & 0x3f));
		len = 3;
	} else {
		utf8[0] = (char)(0xf0 | c >> 18);
		utf8[1] = (char)(0x80 | (c >> 12 & 0x3f));
		utf8[2] = (char)(0x80 | (c >> 6 & 0x3f));
		utf8[3] = (char)(0x80 | (c & 0x3f));
		len = 4;
	}
	put(p, utf8, len);
}

/* At '&'. The names that text is full of; others stay as they are. */
static void read_entity(struct page *p)
{
	static const struct {
		const char *name;
		unsigned long code_point;
	} entities[] = {{"amp;", '&'}, {"lt;", '<'}, {"gt;", '>'}, {"quot;", '"'}, {"apos;", '\''}, {"nbsp;", ' '}};
	size_t left = (size_t)(p->end - ++p->at);
	char number[12] = "";

	for (size_t i = 0; i < ARRAY_LEN(entities); i++) {
		size_t len = strlen(entities[i].name);
		if (left >= len && memcmp(p->at, entities[i].name, len) == 0) {
			p->at += len;
			put_code_point(p, entities[i].code_point);
			return;
		}
	}
	if (left > 0 && *p->at == '#') {
		memcpy(number, p->at + 1, left - 1 < sizeof(number) - 1 ? left - 1 : sizeof(number) - 1);
		bool is_hex = number[0] == 'x' || number[0] == 'X';
		char *end;
		unsigned long c = strtoul(number + is_hex, &end, is_hex ? 16 : 10);
		if (*end == ';' && end > number + is_hex) {
			p->at += 2 + (end - number);
			put_code_point(p, c);
			return;
		}
	}
	put(p, "&", 1);
}

void html_text(const char *html, size_t len, struct buf *out)
{
	struct page p = {.at = html, .end = html + len, .out = out};

	while (p.at < p.end) {
		char c = *p.at;

		if (c == '<') {
			read_tag(&p);
		} else if (c == '&') {
			read_entity(&p);
		} else if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f') {
			if (p.gap == 0)
				p.gap = ' ';
			p.at++;
		} else {
			put(&p, p.at++, 1);
		}
	}
}
