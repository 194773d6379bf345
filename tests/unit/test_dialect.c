/* SPDX-License-Identifier: Apache-2.0 */
/* What providers send, with every oddity that is known of them, and what Hearth sends to them. */
#include "worker/model/dialect.h"

#include <string.h>

#include "lib/json.h"
#include "lib/sse_parse.h"
#include "tests/unit/harness.h"
#include "worker/model/answer.h"

#define OPENAI LLM_OPENAI
#define ANTHROPIC LLM_ANTHROPIC

/* The pieces of text, each behind a '|', as they were reported. */
static char pieces[4096];

struct reading {
	const struct dialect *dialect;
	struct answer answer;
	struct err e;
	bool is_over;
};

static void on_text(void *closure, const char *text, size_t len)
{
	(void)closure;
	strncat(pieces, "|", sizeof(pieces) - strlen(pieces) - 1);
	strncat(pieces, text, len < sizeof(pieces) - strlen(pieces) - 1 ? len : 0);
}

static bool on_event(void *closure, const char *name, const char *data, size_t len)
{
	struct reading *r = closure;

	return r->dialect->read_event(&r->answer, name, data, len, &r->is_over, &r->e);
}

/* A whole stream, cut into pieces of `step` bytes. True: a whole answer. */
static bool read_stream(struct reading *r, enum llm_provider provider, const char *stream, size_t step)
{
	struct sse_parse sse;
	size_t len = strlen(stream);
	bool ok = true;

	*r = (struct reading){.dialect = dialect_of(provider)};
	pieces[0] = '\0';
	answer_init(&r->answer, 4096);
	r->answer.on_text = on_text;
	sse_parse_init(&sse, 65536, on_event, r);
	for (size_t at = 0; ok && at < len; at += step)
		ok = sse_parse_feed(&sse, stream + at, len - at < step ? len - at : step, &r->e) &&
		     r->e.code == ERR_NONE;
	ok = ok && sse_parse_end(&sse, &r->e) && r->e.code == ERR_NONE && answer_complete(&r->answer, &r->e);
	sse_parse_clear(&sse);
	return ok;
}

/* "name(arguments)#id" of each call, separated by blanks. */
static void write_calls(const struct answer *a, char *out, size_t size)
{
	size_t len = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < a->calls_count; i++)
		len += (size_t)snprintf(out + len, size - len, "%s%s(%s)#%s", i > 0 ? " " : "", a->calls[i]->name,
					buf_str(&a->calls[i]->arguments), a->calls[i]->id);
}

/* clang-format off */
#define CHUNK(delta) "data: {\"choices\":[{\"index\":0,\"delta\":" delta "}]}\n\n"
#define FINISH(reason) "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" reason "\"}]}\n\n"
#define DONE "data: [DONE]\n\n"
#define CALL(item) CHUNK("{\"tool_calls\":[" item "]}")

static const struct good_row {
	int line;
	enum llm_provider provider;
	const char *stream;
	const char *text, *calls;
	enum answer_finish finish;
	uint64_t tokens_in, tokens_out;
} good_rows[] = {
	{__LINE__, OPENAI,
	 CHUNK("{\"role\":\"assistant\",\"content\":\"\"}") CHUNK("{\"content\":\"Hi \"}") CHUNK("{\"content\":"
												 "\"you\"}") FINISH(
		 "stop") "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n" DONE,
	 "Hi you", "", FINISH_STOP, 3, 2},
	/* usage with choices null, or without them */
	{__LINE__, OPENAI,
	 CHUNK("{\"content\":\"a\"}") FINISH(
		 "stop") "data: {\"choices\":null,\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n" DONE,
	 "a", "", FINISH_STOP, 3, 2},
	{__LINE__, OPENAI,
	 CHUNK("{\"content\":\"a\"}")
		 FINISH("stop") "data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n" DONE,
	 "a", "", FINISH_STOP, 3, 2},
	/* usage that grows in each chunk, and null */
	{__LINE__, OPENAI,
	 "data: "
	 "{\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n"
	 "data: "
	 "{\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,"
	 "\"completion_tokens\":2}}\n\ndata: {\"choices\":[],\"usage\":null}\n\n",
	 "ab", "", FINISH_STOP, 3, 2},
	/* no [DONE]; no blank line at the end; CRLF; CR; comments and blank keep-alives; no blank behind the colon */
	{__LINE__, OPENAI, CHUNK("{\"content\":\"a\"}") FINISH("stop"), "a", "", FINISH_STOP, 0, 0},
	{__LINE__, OPENAI, CHUNK("{\"content\":\"a\"}") "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}", "a", "",
	 FINISH_STOP, 0, 0},
	{__LINE__, OPENAI,
	 "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\r\n\r\ndata: [DONE]\r\n\r\n",
	 "a", "", FINISH_STOP, 0, 0},
	{__LINE__, OPENAI,
	 "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\r\rdata: [DONE]\r\r", "a",
	 "", FINISH_STOP, 0, 0},
	{__LINE__, OPENAI,
	 ": OPENROUTER PROCESSING\n\n\n\n" CHUNK("{\"content\":\"a\"}") ":\n\ndata:\n\n" FINISH("stop"), "a", "",
	 FINISH_STOP, 0, 0},
	{__LINE__, OPENAI, "data:{\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n", "a",
	 "", FINISH_STOP, 0, 0},
	/* characters of several bytes, escaped and not */
	{__LINE__, OPENAI,
	 CHUNK("{\"content\":\"h\xc3\xa4 \xf0\x9f\x94\xa5\"}") CHUNK("{\"content\":\"\\u00fc\\ud83d\\udd25\"}")
		 FINISH("stop"),
	 "h\xc3\xa4 \xf0\x9f\x94\xa5\xc3\xbc\xf0\x9f\x94\xa5", "", FINISH_STOP, 0, 0},
	/* content null, absent, as parts; a refusal; fields of a vendor's own */
	{__LINE__, OPENAI,
	 CHUNK("{\"content\":null,\"reasoning_content\":\"hm\"}") CHUNK(
		 "{\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}") CHUNK("{\"refusal\":\"no\"}") FINISH("stop"),
	 "ano", "", FINISH_STOP, 0, 0},
	/* a second choice is not ours */
	{__LINE__, OPENAI,
	 CHUNK("{\"content\":\"a\"}") "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"x\"}}]}\n\n" FINISH(
		 "stop"),
	 "a", "", FINISH_STOP, 0, 0},
	{__LINE__, OPENAI, CHUNK("{\"content\":\"a\"}") FINISH("length"), "a", "", FINISH_LENGTH, 0, 0},
	{__LINE__, OPENAI, CHUNK("{\"content\":\"a\"}") FINISH("content_filter"), "a", "", FINISH_FILTER, 0, 0},
	{__LINE__, OPENAI, CHUNK("{\"content\":\"a\"}") FINISH("eos"), "a", "", FINISH_STOP, 0, 0},
	/* a call in pieces; two in parallel, their pieces mixed */
	{__LINE__, OPENAI,
	 CALL("{\"index\":0,\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}")
		 CALL("{\"index\":0,\"function\":{\"arguments\":\"{\\\"a\\\"\"}}")
			 CALL("{\"index\":0,\"function\":{\"arguments\":\":1}\"}}") FINISH("tool_calls"),
	 "", "f({\"a\":1})#c1", FINISH_TOOL_CALLS, 0, 0},
	{__LINE__, OPENAI,
	 CALL("{\"index\":0,\"id\":\"c1\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}},{\"index\":1,\"id\":\"c2\","
	      "\"function\":{\"name\":\"g\"}}") CALL("{\"index\":1,\"function\":{\"arguments\":\"[2]\"}}")
		 CALL("{\"index\":0,\"function\":{\"arguments\":\"[1]\"}}") FINISH("tool_calls"),
	 "", "f([1])#c1 g([2])#c2", FINISH_TOOL_CALLS, 0, 0},
	/* whole in one delta; without index; without id; without both */
	{__LINE__, OPENAI,
	 CALL("{\"id\":\"c1\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},{\"id\":\"c2\",\"function\":{"
	      "\"name\":\"g\",\"arguments\":\"{}\"}}") FINISH("tool_calls"),
	 "", "f({})#c1 g({})#c2", FINISH_TOOL_CALLS, 0, 0},
	{__LINE__, OPENAI,
	 CALL("{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}") FINISH("tool_calls"), "",
	 "f({})#call_1", FINISH_TOOL_CALLS, 0, 0},
	{__LINE__, OPENAI,
	 CALL("{\"function\":{\"name\":\"f\",\"arguments\":\"[1\"}}") CALL("{\"function\":{\"arguments\":\"]\"}}")
		 CALL("{\"function\":{\"name\":\"g\",\"arguments\":\"[2]\"}}") FINISH("tool_calls"),
	 "", "f([1])#call_1 g([2])#call_2", FINISH_TOOL_CALLS, 0, 0},
	/* the pieces of one, by its id alone */
	{__LINE__, OPENAI,
	 CALL("{\"id\":\"c1\",\"function\":{\"name\":\"f\",\"arguments\":\"[1\"}}")
		 CALL("{\"id\":\"c1\",\"function\":{\"arguments\":\"]\"}}") FINISH("tool_calls"),
	 "", "f([1])#c1", FINISH_TOOL_CALLS, 0, 0},
	/* all numbered 0 */
	{__LINE__, OPENAI,
	 CALL("{\"index\":0,\"id\":\"c1\",\"function\":{\"name\":\"f\",\"arguments\":\"[1]\"}}")
		 CALL("{\"index\":0,\"id\":\"c2\",\"function\":{\"name\":\"g\",\"arguments\":\"[2]\"}}")
			 FINISH("tool_calls"),
	 "", "f([1])#c1 g([2])#c2", FINISH_TOOL_CALLS, 0, 0},
	/* arguments as an object, empty, absent; "stop" as the reason; the old form */
	{__LINE__, OPENAI,
	 CALL("{\"index\":0,\"id\":\"c1\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}}") FINISH("stop"), "",
	 "f({\"a\":1})#c1", FINISH_STOP, 0, 0},
	{__LINE__, OPENAI, CALL("{\"index\":0,\"id\":\"c1\",\"function\":{\"name\":\"f\"}}") FINISH("tool_calls"), "",
	 "f({})#c1", FINISH_TOOL_CALLS, 0, 0},
	{__LINE__, OPENAI,
	 CHUNK("{\"function_call\":{\"name\":\"f\",\"arguments\":\"{\"}}")
		 CHUNK("{\"function_call\":{\"arguments\":\"}\"}}") FINISH("function_call"),
	 "", "f({})#call_1", FINISH_TOOL_CALLS, 0, 0},

#define START                                                                                                          \
	"event: message_start\ndata: "                                                                                 \
	"{\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n"
#define STOP(reason)                                                                                                   \
	"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"" reason                 \
	"\"},\"usage\":{\"output_tokens\":7}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
#define BLOCK(n, block)                                                                                                \
	"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":" #n                            \
	",\"content_block\":" block "}\n\n"
#define DELTA(n, delta)                                                                                                \
	"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":" #n ",\"delta\":" delta "}\n"  \
														"\n"
#define BLOCK_STOP(n) "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":" #n "}\n\n"
	{__LINE__, ANTHROPIC,
	 START BLOCK(0, "{\"type\":\"text\",\"text\":\"\"}") "event: ping\ndata: {\"type\":\"ping\"}\n\n" DELTA(
		 0, "{\"type\":\"text_delta\",\"text\":\"Hi \"}") DELTA(0, "{\"type\":\"text_delta\",\"text\":\"you\"}")
		 BLOCK_STOP(0) STOP("end_turn"),
	 "Hi you", "", FINISH_STOP, 5, 7},
	{__LINE__, ANTHROPIC,
	 START BLOCK(0, "{\"type\":\"text\",\"text\":\"a\"}") BLOCK_STOP(0)
		 BLOCK(1, "{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"f\",\"input\":{}}")
			 DELTA(1, "{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\"\"}") DELTA(
				 1, "{\"type\":\"input_json_delta\",\"partial_json\":\":1}\"}") BLOCK_STOP(1)
				 BLOCK(2, "{\"type\":\"tool_use\",\"id\":\"t2\",\"name\":\"g\",\"input\":{\"b\":2}}")
					 STOP("tool_use"),
	 "a", "f({\"a\":1})#t1 g({\"b\":2})#t2", FINISH_TOOL_CALLS, 5, 7},
	/* thinking, unknown blocks and unknown events are passed over; names only in the data, or only beside it */
	{__LINE__, ANTHROPIC,
	 START BLOCK(0, "{\"type\":\"thinking\",\"thinking\":\"\"}") DELTA(
		 0, "{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}")
		 DELTA(0, "{\"type\":\"signature_delta\",\"signature\":\"x\"}") "event: news\ndata: "
										"{\"type\":\"news\"}\n\n" BLOCK(
											1,
											"{\"type\":\"text\",\"text\":"
											"\"\"}") "data: "
												 "{\"type\":\"content_"
												 "block_delta\","
												 "\"index\":1,"
												 "\"delta\":{\"text\":"
												 "\"a\"}}\n\n"
												 "event: "
												 "content_block_"
												 "delta\ndata: "
												 "{\"index\":1,"
												 "\"delta\":{\"text\":"
												 "\"b\"}}\n\n" STOP(
													 "max_tokens"),
	 "ab", "", FINISH_LENGTH, 5, 7},
	{__LINE__, ANTHROPIC, START STOP("refusal"), "", "", FINISH_FILTER, 5, 7},
};

/* clang-format on */

static void what_providers_stream_is_understood_however_it_is_cut(void)
{
	for (unsigned i = 0; i < sizeof(good_rows) / sizeof(good_rows[0]); i++) {
		const struct good_row *row = &good_rows[i];

		for (size_t step = 1; step < 100; step = step * 3 + 1) {
			struct reading r;
			char calls[1024];
			bool ok = read_stream(&r, row->provider, row->stream, step);

			CHECK_ROW(row, ok);
			CHECK_ROW(row, strcmp(buf_str(&r.answer.text), row->text) == 0);
			write_calls(&r.answer, calls, sizeof(calls));
			CHECK_ROW(row, strcmp(calls, row->calls) == 0);
			CHECK_ROW(row, r.answer.finish == row->finish);
			CHECK_ROW(row, r.answer.tokens_in == row->tokens_in && r.answer.tokens_out == row->tokens_out);
			answer_clear(&r.answer);
		}
	}
}

/* clang-format off */
static const struct bad_row {
	int line;
	enum llm_provider provider;
	const char *stream;
	enum err_code code;
	const char *says;
} bad_rows[] = {
	{__LINE__, OPENAI, "", ERR_INPUT, "finish reason"},
	{__LINE__, OPENAI, CHUNK("{\"content\":\"a\"}") DONE, ERR_INPUT, "finish reason"},
	{__LINE__, OPENAI, "data: {\"choices\":[\n\n", ERR_INPUT, "event"},
	{__LINE__, OPENAI, "data: <html>\n\n", ERR_INPUT, "event"},
	{__LINE__, OPENAI, CHUNK("{\"content\":\"a\"}") "data: {\"error\":{\"message\":\"overloaded\"}}\n\n", ERR_DOWN,
	 "overloaded"},
	{__LINE__, OPENAI, CHUNK("{\"content\":\"a\"}") "data: {\"error\":\"boom\"}\n\n", ERR_DOWN, "boom"},
	{__LINE__, OPENAI, "event: error\ndata: {\"message\":\"boom\"}\n\n", ERR_DOWN, "boom"},
	{__LINE__, OPENAI, CALL("{\"index\":0,\"id\":\"c\",\"function\":{\"arguments\":\"{}\"}}") FINISH("tool_calls"),
	 ERR_INPUT, "name"},
	{__LINE__, ANTHROPIC, START BLOCK(0, "{\"type\":\"text\",\"text\":\"a\"}"), ERR_INPUT, "finish reason"},
	{__LINE__, ANTHROPIC,
	 START "event: error\ndata: "
	       "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
	 ERR_DOWN, "Overloaded"},
	{__LINE__, ANTHROPIC, START DELTA(3, "{\"type\":\"input_json_delta\",\"partial_json\":\"1\"}"), ERR_INPUT,
	 "not begun"},
	{__LINE__, ANTHROPIC, START BLOCK(0, "{}") STOP("end_turn"), ERR_INPUT, "type"},
};

/* clang-format on */

static void what_is_no_whole_answer_is_a_failure(void)
{
	for (unsigned i = 0; i < sizeof(bad_rows) / sizeof(bad_rows[0]); i++) {
		const struct bad_row *row = &bad_rows[i];
		struct reading r;

		CHECK_ROW(row, !read_stream(&r, row->provider, row->stream, 7));
		CHECK_ROW(row, r.e.code == row->code);
		CHECK_ROW(row, strstr(r.e.text, row->says) != NULL);
		answer_clear(&r.answer);
	}
}

static void an_answer_without_end_is_cut_at_its_allowance(void)
{
	static const char chunk[] = CHUNK("{\"content\":\"0123456789012345678901234567890123456789\"}");
	static const char call[] = CALL("{\"index\":0,\"id\":\"c\",\"function\":{\"name\":\"f\",\"arguments\":"
					"\"0123456789012345678901234567890123456789\"}}");
	const char *const endless[] = {chunk, call};

	for (unsigned i = 0; i < 2; i++) {
		struct reading r = {.dialect = &dialect_openai};
		struct sse_parse sse;
		unsigned n = 0;

		answer_init(&r.answer, 4096);
		sse_parse_init(&sse, 65536, on_event, &r);
		while (n < 1000 && sse_parse_feed(&sse, endless[i], strlen(endless[i]), &r.e) && r.e.code == ERR_NONE)
			n++;
		CU_ASSERT_EQUAL(n, 4096 / 40);
		CU_ASSERT_EQUAL(r.e.code, ERR_LIMIT);
		sse_parse_clear(&sse);
		answer_clear(&r.answer);
	}
}

static void more_calls_than_may_be_are_refused(void)
{
	struct answer a;
	struct err e = {0};

	answer_init(&a, 100);
	for (int i = 0; i < ANSWER_CALLS_MAX; i++)
		CU_ASSERT_PTR_NOT_NULL(answer_add_call(&a, i, "id", "f", &e));
	CU_ASSERT_PTR_NULL(answer_add_call(&a, 99, "id", "f", &e));
	CU_ASSERT_EQUAL(e.code, ERR_LIMIT);
	answer_clear(&a);
}

/* A whole answer, of a server that takes no notice of "stream". */
static void a_whole_answer_is_taken_too(void)
{
	static const struct {
		int line;
		enum llm_provider provider;
		const char *body, *text, *calls;
	} rows[] = {
		{__LINE__, OPENAI,
		 "{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"a\"},\"finish_reason\":\"stop\"}],"
		 "\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}",
		 "a", ""},
		{__LINE__, OPENAI,
		 "{\"choices\":[{\"message\":{\"content\":null,\"tool_calls\":[{\"id\":\"c1\",\"function\":{\"name\":"
		 "\"f\",\"arguments\":\"{}\"}}]},"
		 "\"finish_reason\":\"tool_calls\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}",
		 "", "f({})#c1"},
		{__LINE__, ANTHROPIC,
		 "{\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"f\","
		 "\"input\":{\"x\":1}}],"
		 "\"stop_reason\":\"tool_use\",\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}",
		 "a", "f({\"x\":1})#t1"},
	};
	const struct json_limits limits = {.bytes_max = 4096, .depth_max = 16};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct answer a;
		struct err e = {0};
		struct jval *root = NULL;
		char calls[256];

		answer_init(&a, 4096);
		CU_ASSERT_TRUE_FATAL(jval_parse(rows[i].body, strlen(rows[i].body), &limits, &root, &e));
		CHECK_ROW(&rows[i], dialect_of(rows[i].provider)->read_whole(&a, root, &e) && answer_complete(&a, &e));
		write_calls(&a, calls, sizeof(calls));
		CHECK_ROW(&rows[i], strcmp(buf_str(&a.text), rows[i].text) == 0 && strcmp(calls, rows[i].calls) == 0);
		CHECK_ROW(&rows[i], a.tokens_in == 1 && a.tokens_out == 2);
		jval_free(&root);
		answer_clear(&a);
	}
}

/* --- requests --- */

static struct jval *parse(const char *text)
{
	const struct json_limits limits = {.bytes_max = 8192, .depth_max = 32};
	struct jval *root = NULL;
	struct err e = {0};

	if (text && !jval_parse(text, strlen(text), &limits, &root, &e))
		CU_FAIL_FATAL("a test's JSON");
	return root;
}

static const struct request_row {
	int line;
	enum llm_provider provider;
	const char *messages, *tools, *choice, *parameters;
	const char *body; /* canonical; NULL: refused */
} request_rows[] = {
	{__LINE__, OPENAI, "[{\"role\":\"user\",\"content\":\"a\"}]", NULL, NULL, NULL,
	 "{\"messages\":[{\"content\":\"a\",\"role\":\"user\"}],\"model\":\"m\",\"stream\":true,\"stream_options\":{"
	 "\"include_usage\":true}}"},
	/* a parameter that is null takes a field out */
	{__LINE__, OPENAI, "[]", NULL, NULL, "{\"stream_options\":null,\"temperature\":0.5}",
	 "{\"messages\":[],\"model\":\"m\",\"stream\":true,\"temperature\":0.5}"},
	/* what Hearth sets stays */
	{__LINE__, OPENAI, "[]", NULL, NULL, "{\"model\":\"x\",\"messages\":1,\"stream_options\":null}",
	 "{\"messages\":[],\"model\":\"m\",\"stream\":true}"},
	{__LINE__, OPENAI, "[]", "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]", "\"required\"",
	 "{\"stream_options\":null}",
	 "{\"messages\":[],\"model\":\"m\",\"stream\":true,\"tool_choice\":\"required\",\"tools\":[{\"function\":{"
	 "\"name\":\"f\"},\"type\":\"function\"}]}"},
	{__LINE__, OPENAI, "[]", "[]", "\"required\"", "{\"stream_options\":null}",
	 "{\"messages\":[],\"model\":\"m\",\"stream\":true}"},

	{__LINE__, ANTHROPIC,
	 "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"system\",\"content\":\"t\"},{\"role\":\"user\","
	 "\"content\":\"a\"}]",
	 NULL, NULL, NULL,
	 "{\"max_tokens\":4096,\"messages\":[{\"content\":[{\"text\":\"a\",\"type\":\"text\"}],\"role\":\"user\"}],"
	 "\"model\":\"m\",\"stream\":true,"
	 "\"system\":\"s\\u000a\\u000at\"}"},
	/* messages of one role are joined; tools' results are a user's; calls are blocks, broken arguments an empty
	   object */
	{__LINE__, ANTHROPIC,
	 "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"b\"}]},"
	 "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\",\"function\":{\"name\":\"f\","
	 "\"arguments\":\"{\\\"x\\\":1}\"}},"
	 "{\"id\":\"2\",\"function\":{\"name\":\"g\",\"arguments\":\"nonsense\"}}]},"
	 "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"r\"},{\"role\":\"tool\",\"tool_call_id\":\"2\","
	 "\"content\":\"\"}]",
	 NULL, NULL, "{\"max_tokens\":9}",
	 "{\"max_tokens\":9,\"messages\":[{\"content\":[{\"text\":\"a\",\"type\":\"text\"},{\"text\":\"b\",\"type\":"
	 "\"text\"}],\"role\":\"user\"},"
	 "{\"content\":[{\"id\":\"1\",\"input\":{\"x\":1},\"name\":\"f\",\"type\":\"tool_use\"},{\"id\":\"2\","
	 "\"input\":{},\"name\":\"g\",\"type\":\"tool_use\"}],"
	 "\"role\":\"assistant\"},{\"content\":[{\"content\":[{\"text\":\"r\",\"type\":\"text\"}],\"tool_use_id\":"
	 "\"1\",\"type\":\"tool_result\"},"
	 "{\"content\":[],\"tool_use_id\":\"2\",\"type\":\"tool_result\"}],\"role\":\"user\"}],\"model\":\"m\","
	 "\"stream\":true}"},
	{__LINE__, ANTHROPIC, "[]",
	 "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\",\"parameters\":{\"type\":"
	 "\"object\"}}}]",
	 "\"required\"", "{\"stop\":\"x\",\"max_completion_tokens\":3,\"stream_options\":{}}",
	 "{\"max_tokens\":3,\"messages\":[],\"model\":\"m\",\"stop_sequences\":[\"x\"],\"stream\":true,\"tool_choice\":"
	 "{\"type\":\"any\"},"
	 "\"tools\":[{\"description\":\"d\",\"input_schema\":{\"type\":\"object\"},\"name\":\"f\"}]}"},
	{__LINE__, ANTHROPIC, "[]", "[{\"function\":{\"name\":\"f\"}}]",
	 "{\"type\":\"function\",\"function\":{\"name\":\"f\"}}", "{\"stop\":[\"x\",\"y\"]}",
	 "{\"max_tokens\":4096,\"messages\":[],\"model\":\"m\",\"stop_sequences\":[\"x\",\"y\"],\"stream\":true,"
	 "\"tool_choice\":{\"name\":\"f\",\"type\":\"tool\"},\"tools\":[{\"input_schema\":{\"type\":\"object\"},"
	 "\"name\":\"f\"}]}"},
	/* an answer that was empty is no message: the API refuses one without blocks */
	{__LINE__, ANTHROPIC,
	 "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"\"},{\"role\":\"user\","
	 "\"content\":\"b\"}]",
	 NULL, NULL, "{\"max_tokens\":9}",
	 "{\"max_tokens\":9,\"messages\":[{\"content\":[{\"text\":\"a\",\"type\":\"text\"},{\"text\":\"b\",\"type\":"
	 "\"text\"}],\"role\":\"user\"}],\"model\":\"m\",\"stream\":true}"},
	{__LINE__, ANTHROPIC, "[{\"content\":\"a\"}]", NULL, NULL, NULL, NULL},
	{__LINE__, ANTHROPIC,
	 "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}}]}]", NULL, NULL, NULL,
	 NULL},
};

static void requests_have_the_shape_that_each_provider_takes(void)
{
	for (unsigned i = 0; i < sizeof(request_rows) / sizeof(request_rows[0]); i++) {
		const struct request_row *row = &request_rows[i];
		struct model_request request = {
			.model = "m",
			.messages = parse(row->messages),
			.tools = parse(row->tools),
			.tool_choice = parse(row->choice),
			.parameters = parse(row->parameters),
		};
		struct buf out, canonical;
		struct err e = {0};

		buf_init(&out, 65536);
		buf_init(&canonical, 65536);
		bool ok = dialect_of(row->provider)->encode(&request, &out, &e);
		CHECK_ROW(row, ok == (row->body != NULL));
		if (ok && row->body) {
			struct jval *body = parse(buf_str(&out));
			jval_canonical(body, &canonical);
			CHECK_ROW(row, strcmp(buf_str(&canonical), row->body) == 0);
			jval_free(&body);
		}
		buf_clear(&out);
		buf_clear(&canonical);
		jval_free(&request.messages);
		jval_free(&request.tools);
		jval_free(&request.tool_choice);
		jval_free(&request.parameters);
	}
}

static void a_request_larger_than_it_may_be_is_refused(void)
{
	for (int p = OPENAI; p <= ANTHROPIC; p++) {
		struct model_request request = {
			.model = "m", .messages = parse("[{\"role\":\"user\",\"content\":\"aaaaaaaaaaaaaaaa\"}]")};
		struct buf out;
		struct err e = {0};

		buf_init(&out, 40);
		CU_ASSERT_FALSE(dialect_of((enum llm_provider)p)->encode(&request, &out, &e));
		CU_ASSERT_EQUAL(e.code, ERR_LIMIT);
		buf_clear(&out);
		jval_free(&request.messages);
	}
}

static void the_answer_goes_back_as_a_message(void)
{
	struct reading r;
	struct buf canonical;

	CU_ASSERT_TRUE(
		read_stream(&r, OPENAI,
			    CALL("{\"index\":0,\"id\":\"c1\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}")
				    FINISH("tool_calls"),
			    9));
	struct jval *message = answer_message(&r.answer);
	buf_init(&canonical, 4096);
	jval_canonical(message, &canonical);
	CU_ASSERT_STRING_EQUAL(
		buf_str(&canonical),
		"{\"content\":null,\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"arguments\":\"{}\",\"name\":"
		"\"f\"},\"id\":\"c1\",\"type\":\"function\"}]}");
	jval_free(&message);
	buf_clear(&canonical);
	answer_clear(&r.answer);
}

static CU_TestInfo cases[] = {
	CASE(what_providers_stream_is_understood_however_it_is_cut),
	CASE(what_is_no_whole_answer_is_a_failure),
	CASE(an_answer_without_end_is_cut_at_its_allowance),
	CASE(more_calls_than_may_be_are_refused),
	CASE(a_whole_answer_is_taken_too),
	CASE(requests_have_the_shape_that_each_provider_takes),
	CASE(a_request_larger_than_it_may_be_is_refused),
	CASE(the_answer_goes_back_as_a_message),
	CU_TEST_INFO_NULL,
};

CU_SuiteInfo suites[] = {
	{"dialect", NULL, NULL, NULL, NULL, cases},
	CU_SUITE_INFO_NULL,
};
