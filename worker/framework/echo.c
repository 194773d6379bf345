/* SPDX-License-Identifier: Apache-2.0 */
/*
 * echo: answers prefix + message, byte for byte, one `message` event per word.
 * Deterministic and without a network: the embedded default, and what tests and
 * benchmarks hold the pool with. Delays are timers on the loop: a word_delay_ms between words, a build_delay_ms before
 * the build is done; build_fail makes it fail with that reason. A long answer without a delay is said in portions, so
 * that neither the loop nor the queue of the client's side is flooded.
 *
 * A word is a run of other bytes with the white space behind it, so the words joined are the answer. Usage counts
 * words.
 */
#include <stdlib.h>
#include <string.h>

#include "core/framework.h"
#include "lib/buf.h"
#include "lib/json.h"
#include "lib/xalloc.h"
#include "worker/framework/framework.h"

#define PORTION_WORDS 64
#define PORTION_PAUSE_MS 1

struct echo {
	int word_delay_ms;
	size_t prefix_len;
	char prefix[];
};

struct echo_build {
	uv_timer_t timer;
	struct echo *echo; /* NULL: it is to fail */
	char *reason;
	build_done done;
	void *closure;
};

struct turn {
	uv_timer_t timer;
	struct turn_sink sink;
	const struct chat_request *request;
	char *answer;
	size_t len, at;
	uint64_t words_out;
	bool is_started; /* the timer is a live handle */
	int word_delay_ms;
};

static void echo_free(void *runtime)
{
	free(runtime);
}

static size_t echo_memory_bytes(const void *runtime)
{
	const struct echo *echo = runtime;

	return sizeof(*echo) + echo->prefix_len + 1;
}

/* --- build --- */

static struct echo *echo_new(const struct echo_config *config)
{
	size_t len = strlen(config->prefix);
	struct echo *echo = xmalloc(sizeof(*echo) + len + 1);

	echo->word_delay_ms = config->word_delay_ms;
	echo->prefix_len = len;
	memcpy(echo->prefix, config->prefix, len + 1);
	return echo;
}

static void build_closed(uv_handle_t *handle)
{
	struct echo_build *build = handle->data;

	free(build->reason);
	free(build->echo);
	free(build);
}

static void build_timer_fired(uv_timer_t *timer)
{
	struct echo_build *build = timer->data;
	struct echo *echo = build->echo;

	build->echo = NULL;
	build->done(build->closure, echo, build->reason);
	uv_close((uv_handle_t *)timer, build_closed);
}

static void *echo_build(const struct framework_env *env, const struct build_request *request, build_done done,
			void *closure)
{
	struct echo_config config;

	echo_config_read(request->config, &config);
	struct echo *echo = config.build_fail == NULL ? echo_new(&config) : NULL;
	if (config.build_delay_ms == 0) {
		done(closure, echo, config.build_fail);
		return NULL;
	}
	struct echo_build *build = xcalloc(1, sizeof(*build));
	build->echo = echo;
	build->reason = config.build_fail != NULL ? xstrdup(config.build_fail) : NULL;
	build->done = done;
	build->closure = closure;
	uv_timer_init(env->loop, &build->timer);
	build->timer.data = build;
	uv_timer_start(&build->timer, build_timer_fired, (uint64_t)config.build_delay_ms, 0);
	return build;
}

static void echo_build_cancel(void *handle)
{
	struct echo_build *build = handle;

	uv_close((uv_handle_t *)&build->timer, build_closed);
}

/* --- turn --- */

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static size_t word_end(const char *text, size_t len, size_t at)
{
	while (at < len && !is_space(text[at]))
		at++;
	while (at < len && is_space(text[at]))
		at++;
	return at;
}

static uint64_t count_words(const char *text, size_t len)
{
	uint64_t count = 0;

	for (size_t at = 0; at < len; at = word_end(text, len, at))
		count++;
	return count;
}

static void send_object(struct turn *turn, const char *name, struct jval *object)
{
	size_t len;
	const char *text = jval_text(object, &len);

	turn->sink.event(turn->sink.closure, name, text, len);
	jval_free(&object);
}

static void send_next_word(struct turn *turn)
{
	size_t end = word_end(turn->answer, turn->len, turn->at);
	struct jval *message = jval_new_object();

	jval_add(message, "content", jval_new_string(turn->answer + turn->at, end - turn->at));
	jval_add_string(message, "role", "assistant");
	turn->at = end;
	turn->words_out++;
	send_object(turn, "message", message);
}

static void turn_closed(uv_handle_t *handle)
{
	struct turn *turn = handle->data;

	free(turn->answer);
	free(turn);
}

static void turn_end(struct turn *turn, const struct turn_result *result)
{
	turn->sink.end(turn->sink.closure, result);
	if (turn->is_started)
		uv_close((uv_handle_t *)&turn->timer, turn_closed);
	else
		turn_closed((uv_handle_t *)&turn->timer);
}

static void turn_succeed(struct turn *turn)
{
	struct turn_result result = {
		.status = 200,
		.response = turn->request->stream ? NULL : turn->answer,
		.response_len = turn->len,
		.current_agent = "echo",
		.tokens_in = count_words(turn->request->message, turn->request->message_len),
		.tokens_out = count_words(turn->answer, turn->len),
	};

	turn_end(turn, &result);
}

/* Says up to so many words. True: that was all. */
static bool say(struct turn *turn, unsigned words)
{
	for (; turn->at < turn->len && words > 0; words--) {
		if (turn->request->stream)
			send_next_word(turn);
		else
			turn->at = word_end(turn->answer, turn->len, turn->at);
	}
	return turn->at >= turn->len;
}

static void turn_timer_fired(uv_timer_t *timer)
{
	struct turn *turn = timer->data;

	if (say(turn, turn->word_delay_ms > 0 ? 1 : PORTION_WORDS))
		turn_succeed(turn);
}

static struct turn *echo_turn(void *runtime, const struct framework_env *env, const struct chat_request *request,
			      const struct turn_sink *sink)
{
	const struct echo *echo = runtime;
	struct turn *turn = xcalloc(1, sizeof(*turn));

	turn->sink = *sink;
	turn->request = request;
	turn->timer.data = turn;
	turn->word_delay_ms = echo->word_delay_ms;
	turn->len = echo->prefix_len + request->message_len;
	turn->answer = xmalloc(turn->len + 1);
	memcpy(turn->answer, echo->prefix, echo->prefix_len);
	memcpy(turn->answer + echo->prefix_len, request->message, request->message_len);
	turn->answer[turn->len] = '\0';
	if (echo->word_delay_ms == 0 && (!request->stream || say(turn, PORTION_WORDS))) {
		turn_succeed(turn);
		return NULL;
	}
	uv_timer_init(env->loop, &turn->timer);
	turn->is_started = true;
	uint64_t delay_ms = echo->word_delay_ms > 0 ? (uint64_t)echo->word_delay_ms : PORTION_PAUSE_MS;
	uv_timer_start(&turn->timer, turn_timer_fired, delay_ms, delay_ms);
	return turn;
}

static void echo_turn_cancel(struct turn *turn)
{
	struct turn_result result = {.status = 499, .code = "cancelled", .detail = "The turn was cancelled."};

	turn_end(turn, &result);
}

const struct framework_impl framework_echo = {
	.name = "echo",
	.build = echo_build,
	.build_cancel = echo_build_cancel,
	.free = echo_free,
	.memory_bytes = echo_memory_bytes,
	.turn = echo_turn,
	.turn_cancel = echo_turn_cancel,
};
