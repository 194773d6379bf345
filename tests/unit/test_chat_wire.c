/* SPDX-License-Identifier: Apache-2.0 */
#include "core/chat_wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/macros.h"
#include "lib/xalloc.h"
#include "tests/unit/harness.h"

#define ORG "0192f0c1-0000-7000-8000-000000000001"
#define APP "0192f0c1-0000-7000-8000-000000000002"
#define SESSION "0192f0c1-0000-7000-8000-000000000003"
#define IDS "{\"v\":1,\"instance_id\":\"" APP "\",\"org_id\":\"" ORG "\",\"session_id\":\"" SESSION "\""
#define REST ",\"stream\":true,\"deadline_unix_ms\":5,\"request_id\":\"r\",\"message\":\"hi\"}"

static void subjects_fit_their_sizes(void)
{
	const struct id app = {APP};
	char subject[CHAT_SUBJECT_SIZE];

	chat_subject(&app, subject);
	CU_ASSERT_STRING_EQUAL(subject, "hearth.chat." APP);
}

static void check_round_trip(const char *message, size_t len)
{
	struct chat_request back, request = {
					  .instance_id = {APP},
					  .org_id = {ORG},
					  .session_id = {SESSION},
					  .message = message,
					  .message_len = len,
					  .stream = true,
					  .deadline_unix_ms = INT64_C(1767225600123),
					  .request_id = "r\"1",
				  };
	struct arena *mem = arena_new(1 << 20);
	struct buf out;
	struct err e;

	buf_init(&out, CHAT_REQUEST_BYTES_MAX);
	chat_request_encode(&request, &out);
	CU_ASSERT_FALSE_FATAL(buf_has_failed(&out));
	CU_ASSERT_TRUE_FATAL(chat_request_parse(out.data, out.len, mem, &back, &e));
	CU_ASSERT_TRUE(id_equal(&back.instance_id, &request.instance_id));
	CU_ASSERT_TRUE(id_equal(&back.org_id, &request.org_id));
	CU_ASSERT_TRUE(id_equal(&back.session_id, &request.session_id));
	CU_ASSERT_EQUAL(back.message_len, len);
	CU_ASSERT_EQUAL(memcmp(back.message, message, len), 0);
	CU_ASSERT_TRUE(back.stream);
	CU_ASSERT_EQUAL(back.deadline_unix_ms, request.deadline_unix_ms);
	CU_ASSERT_STRING_EQUAL(back.request_id, "r\"1");
	buf_clear(&out);
	arena_free(&mem);
}

static void requests_parse_back(void)
{
	static char longest[CHAT_MESSAGE_BYTES_MAX];

	check_round_trip("hello \xf0\x9f\x94\xa5\n\"x\"", 14);
	check_round_trip("", 0);
	memset(longest, 1, sizeof(longest)); /* each byte becomes six */
	check_round_trip(longest, sizeof(longest));
}

static const struct {
	int line;
	bool is_good;
	const char *data;
} requests[] = {
	{__LINE__, true, IDS REST},
	{__LINE__, true,
	 IDS ",\"stream\":false,\"deadline_unix_ms\":5,\"request_id\":null,\"message\":\"\",\"new\":1}"},
	{__LINE__, false, ""},
	{__LINE__, false, "[]"},
	{__LINE__, false, IDS "}"},
	{__LINE__, false, IDS ",\"stream\":1,\"deadline_unix_ms\":5,\"message\":\"\"}"},
	{__LINE__, false, IDS ",\"stream\":true,\"message\":\"\"}"},
	{__LINE__, false, IDS ",\"stream\":true,\"deadline_unix_ms\":5}"},
	{__LINE__, false, IDS ",\"stream\":true,\"deadline_unix_ms\":5,\"message\":\"\",\"request_id\":1}"},
	{__LINE__, false, "{\"v\":1,\"instance_id\":\">\",\"org_id\":\"" ORG "\",\"session_id\":\"" SESSION "\"" REST},
	{__LINE__, false, "{\"v\":1,\"instance_id\":\"" APP "\",\"org_id\":\"" ORG "\"" REST},
	{__LINE__, false, "{\"instance_id\":\"" APP "\",\"org_id\":\"" ORG "\",\"session_id\":\"" SESSION "\"" REST},
};

static void a_broken_request_is_refused(void)
{
	struct arena *mem = arena_new(65536);

	for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
		struct chat_request request;
		struct err e = {0};
		bool ok = chat_request_parse(requests[i].data, strlen(requests[i].data), mem, &request, &e);
		if (ok != requests[i].is_good)
			printf("line %d: %s\n", requests[i].line, e.text);
		CU_ASSERT_EQUAL(ok, requests[i].is_good);
		CU_ASSERT_EQUAL(e.code, requests[i].is_good ? ERR_NONE : ERR_INPUT);
	}
	arena_free(&mem);
}

/* The messages count as all of it does. */
static void a_request_is_so_long_and_no_longer(void)
{
	static const char head[] = IDS ",\"stream\":true,\"deadline_unix_ms\":5,\"message\":\"\",\"messages\":[\"";
	struct arena *mem = arena_new(65536);
	char *data = xmalloc(CHAT_REQUEST_BYTES_MAX + 2);
	struct chat_request request;
	struct err e = {0};

	memset(data, 'x', CHAT_REQUEST_BYTES_MAX + 1);
	memcpy(data, head, sizeof(head) - 1);
	memcpy(data + CHAT_REQUEST_BYTES_MAX - 3, "\"]} ", 5);
	CU_ASSERT_TRUE(chat_request_parse(data, CHAT_REQUEST_BYTES_MAX, mem, &request, &e));
	chat_request_clear(&request);
	CU_ASSERT_FALSE(chat_request_parse(data, CHAT_REQUEST_BYTES_MAX + 1, mem, &request, &e));
	CU_ASSERT_EQUAL(e.code, ERR_INPUT);
	free(data);
	arena_free(&mem);
}

static void a_request_that_is_too_large_for_its_arena_is_refused(void)
{
	struct arena *mem = arena_new(1);
	struct chat_request request;
	struct err e;

	CU_ASSERT_FALSE(chat_request_parse(IDS REST, strlen(IDS REST), mem, &request, &e));
	CU_ASSERT_EQUAL(e.code, ERR_INPUT);
	arena_free(&mem);
}

static void replies_are_one_line_and_a_body(void)
{
	struct buf out;

	buf_init(&out, 1024);
	chat_reply_encode(0, CHAT_ACCEPTED, CHAT_CANCEL_PREFIX "a.1", NULL, 0, &out);
	chat_reply_encode(1, CHAT_EVENT, "message", "{}", 2, &out);
	chat_reply_encode(UINT64_MAX, CHAT_KEEPALIVE, NULL, NULL, 0, &out);
	chat_reply_encode(3, CHAT_END, "200", "{\n}", 3, &out);
	CU_ASSERT_STRING_EQUAL(buf_str(&out), "0 accepted hearth.cancel.a.1\n1 event message\n{}"
					      "18446744073709551615 keepalive -\n3 end 200\n{\n}");
	buf_clear(&out);
}

static const struct {
	int line;
	const char *data;
	uint64_t n;
	enum chat_kind kind;
	const char *arg;
	int status;
	const char *body;
} replies[] = {
	{__LINE__, "0 accepted hearth.cancel.a.1\n", 0, CHAT_ACCEPTED, "hearth.cancel.a.1", 0, ""},
	{__LINE__, "12 event message\n{\"a\":1}\n", 12, CHAT_EVENT, "message", 0, "{\"a\":1}\n"},
	{__LINE__, "18446744073709551615 keepalive -\n", UINT64_MAX, CHAT_KEEPALIVE, "-", 0, ""},
	{__LINE__, "3 end 503\n{}", 3, CHAT_END, "503", 503, "{}"},
};

static void replies_parse(void)
{
	for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
		struct chat_reply r;
		struct err e;
		CU_ASSERT_TRUE_FATAL(chat_reply_parse(replies[i].data, strlen(replies[i].data), &r, &e));
		CU_ASSERT_EQUAL(r.n, replies[i].n);
		CU_ASSERT_EQUAL(r.kind, replies[i].kind);
		CU_ASSERT_EQUAL(r.status, replies[i].status);
		CU_ASSERT_EQUAL_FATAL(r.arg_len, strlen(replies[i].arg));
		CU_ASSERT_EQUAL(memcmp(r.arg, replies[i].arg, r.arg_len), 0);
		CU_ASSERT_EQUAL_FATAL(r.body_len, strlen(replies[i].body));
		CU_ASSERT_EQUAL(memcmp(r.body, replies[i].body, r.body_len), 0);
	}
}

static const struct {
	int line;
	const char *data;
} broken[] = {
	{__LINE__, ""},
	{__LINE__, "0"},
	{__LINE__, "0 "},
	{__LINE__, " event x\n"},
	{__LINE__, "-1 event x\n"},
	{__LINE__, "1x event x\n"},
	{__LINE__, "18446744073709551616 event x\n"},
	{__LINE__, "0 events x\n"},
	{__LINE__, "0 even x\n"},
	{__LINE__, "0  event x\n"},
	{__LINE__, "0 event x"},
	{__LINE__, "0 event \n"},
	{__LINE__, "0 event\n"},
	{__LINE__, "0 event a b\n"},
	{__LINE__, "0 end x\n"},
	{__LINE__, "0 end 199\n"},
	{__LINE__, "0 end 600\n"},
	{__LINE__, "0 end 99999999999999999999\n"},
};

static void a_broken_reply_is_refused(void)
{
	for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
		/* an exact copy, so that the sanitizer sees a read beyond it */
		size_t len = strlen(broken[i].data);
		char *data = memcpy(malloc(len > 0 ? len : 1), broken[i].data, len);
		struct chat_reply r;
		struct err e = {0};
		if (chat_reply_parse(data, len, &r, &e))
			printf("line %d was taken\n", broken[i].line);
		CU_ASSERT_EQUAL(e.code, ERR_INPUT);
		free(data);
	}
}

static CU_TestInfo cases[] = {
	CASE(subjects_fit_their_sizes),
	CASE(requests_parse_back),
	CASE(a_broken_request_is_refused),
	CASE(a_request_is_so_long_and_no_longer),
	CASE(a_request_that_is_too_large_for_its_arena_is_refused),
	CASE(replies_are_one_line_and_a_body),
	CASE(replies_parse),
	CASE(a_broken_reply_is_refused),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{.pName = "chat_wire", .pTests = cases},
	CU_SUITE_INFO_NULL,
};
