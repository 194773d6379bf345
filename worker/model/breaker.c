/* SPDX-License-Identifier: Apache-2.0 */
/* The circuit breaker's three states. A round is the time between two changes of state. */
#include "worker/model/breaker.h"

#define TRIAL_BUSY_MS 1000 /* when to ask again while the one call of a half open breaker is under way */
#define PAUSES_MAX 20      /* doublings; far beyond any pause_max_ms */

static void move(struct breaker *b, enum breaker_state state)
{
	b->state = state;
	b->round++;
	b->is_trying = false;
}

static void open_up(struct breaker *b, const struct breaker_config *config, int64_t now_ms)
{
	int64_t pause_ms = config->pause_ms << b->pauses;

	if (pause_ms > config->pause_max_ms)
		pause_ms = config->pause_max_ms;
	if (b->pauses < PAUSES_MAX)
		b->pauses++;
	b->open_until_ms = now_ms + pause_ms;
	move(b, BREAKER_OPEN);
}

bool breaker_may_call(struct breaker *b, int64_t now_ms, struct breaker_ticket *ret_ticket, int64_t *ret_wait_ms)
{
	if (b->state == BREAKER_OPEN && now_ms >= b->open_until_ms)
		move(b, BREAKER_HALF_OPEN);
	if (b->state == BREAKER_OPEN) {
		*ret_wait_ms = b->open_until_ms - now_ms;
		return false;
	}
	if (b->state == BREAKER_HALF_OPEN && b->is_trying) {
		*ret_wait_ms = TRIAL_BUSY_MS;
		return false;
	}
	b->is_trying = b->state == BREAKER_HALF_OPEN;
	*ret_ticket = (struct breaker_ticket){.round = b->round, .is_trial = b->is_trying};
	return true;
}

bool breaker_succeeded(struct breaker *b, struct breaker_ticket ticket)
{
	if (ticket.round != b->round)
		return false;
	b->failures = 0;
	if (!ticket.is_trial)
		return false;
	b->pauses = 0;
	move(b, BREAKER_CLOSED);
	return true;
}

bool breaker_failed(struct breaker *b, const struct breaker_config *config, struct breaker_ticket ticket,
		    int64_t now_ms)
{
	if (ticket.round != b->round)
		return false;
	b->failures++;
	if (!ticket.is_trial && (config->failures_max == 0 || b->failures < config->failures_max))
		return false;
	open_up(b, config, now_ms);
	return true;
}

void breaker_gave_up(struct breaker *b, struct breaker_ticket ticket)
{
	if (ticket.round == b->round && ticket.is_trial)
		b->is_trying = false;
}

const char *breaker_state_name(enum breaker_state state)
{
	static const char *const names[] = {"closed", "open", "half_open"};

	return names[state];
}
