/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A recursive descent over the grammar of decimal.h, on GMP's rationals. Sizes are looked at before each operation that
 * could make them grow, since GMP ends the process when memory runs out.
 */
#include "worker/tool/decimal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <gmp.h>

#define DEPTH_MAX 64
#define EXPONENT_MAX 999 /* of a number as of a power */
#define DIGITS_MAX 512   /* of a number as it is written */

struct parse {
	const char *start, *at;
	int depth;
	struct err *e;
};

static bool fail(struct parse *p, const char *what)
{
	return err_set(p->e, ERR_INPUT, "%s at position %zu", what, (size_t)(p->at - p->start) + 1);
}

static void skip_blanks(struct parse *p)
{
	while (*p->at == ' ' || *p->at == '\t')
		p->at++;
}

static bool take(struct parse *p, char c)
{
	skip_blanks(p);
	if (*p->at != c)
		return false;
	p->at++;
	return true;
}

static size_t bits_of(const mpq_t q)
{
	return mpz_sizeinbase(mpq_numref(q), 2) + mpz_sizeinbase(mpq_denref(q), 2);
}

static bool fits(struct parse *p, size_t bits)
{
	return bits <= DECIMAL_BITS_MAX || err_set(p->e, ERR_LIMIT, "the numbers become too large");
}

static void power_of_ten(mpz_t ret, unsigned long n)
{
	mpz_ui_pow_ui(ret, 10, n);
}

/* ret *= 10^n */
static void shift(mpq_t ret, long n)
{
	mpz_t power;

	mpz_init(power);
	power_of_ten(power, (unsigned long)labs(n));
	if (n >= 0)
		mpz_mul(mpq_numref(ret), mpq_numref(ret), power);
	else
		mpz_mul(mpq_denref(ret), mpq_denref(ret), power);
	mpq_canonicalize(ret);
	mpz_clear(power);
}

/* "e-3" behind a number. */
static bool read_exponent(struct parse *p, long *ret_exponent)
{
	const char *at = p->at + 1;
	bool is_negative = *at == '-';
	long n = 0;

	if (*at == '+' || *at == '-')
		at++;
	if (!isdigit((unsigned char)*at))
		return fail(p, "an exponent without digits");
	for (; isdigit((unsigned char)*at); at++) {
		n = n * 10 + (*at - '0');
		if (n > EXPONENT_MAX)
			return fail(p, "an exponent that is too large");
	}
	p->at = at;
	*ret_exponent = is_negative ? -n : n;
	return true;
}

static bool read_number(struct parse *p, mpq_t ret)
{
	char digits[DIGITS_MAX + 1];
	size_t len = 0;
	long places = 0, exponent = 0;
	bool is_past_point = false;

	for (; isdigit((unsigned char)*p->at) || (*p->at == '.' && !is_past_point); p->at++) {
		if (*p->at == '.') {
			is_past_point = true;
			continue;
		}
		if (len == DIGITS_MAX)
			return fail(p, "a number with too many digits");
		digits[len++] = *p->at;
		places += is_past_point;
	}
	digits[len] = '\0';
	if (len == 0)
		return fail(p, "a number is expected");
	if ((*p->at == 'e' || *p->at == 'E') && !read_exponent(p, &exponent))
		return false;
	(void)mpz_set_str(mpq_numref(ret), digits, 10);
	mpz_set_ui(mpq_denref(ret), 1);
	shift(ret, exponent - places);
	return true;
}

static bool read_expression(struct parse *p, mpq_t ret);
static bool read_factor(struct parse *p, mpq_t ret);

static bool read_primary(struct parse *p, mpq_t ret)
{
	if (!take(p, '(')) /* which skipped blanks */
		return read_number(p, ret);
	return read_expression(p, ret) && (take(p, ')') || fail(p, "a closing parenthesis is expected"));
}

static bool raise(struct parse *p, mpq_t base, const mpq_t exponent)
{
	if (mpz_cmp_ui(mpq_denref(exponent), 1) != 0)
		return fail(p, "an exponent that is no whole number");
	if (mpz_cmpabs_ui(mpq_numref(exponent), EXPONENT_MAX) > 0)
		return fail(p, "an exponent that is too large");
	long n = mpz_get_si(mpq_numref(exponent));
	if (n < 0) {
		if (mpq_sgn(base) == 0)
			return fail(p, "a division by zero");
		mpq_inv(base, base);
		n = -n;
	}
	if (!fits(p, bits_of(base) * (size_t)n))
		return false;
	mpz_pow_ui(mpq_numref(base), mpq_numref(base), (unsigned long)n);
	mpz_pow_ui(mpq_denref(base), mpq_denref(base), (unsigned long)n);
	return true;
}

static bool read_power(struct parse *p, mpq_t ret)
{
	mpq_t exponent;

	if (!read_primary(p, ret))
		return false;
	if (!take(p, '^'))
		return true;
	mpq_init(exponent);
	bool ok = read_factor(p, exponent) && raise(p, ret, exponent);
	mpq_clear(exponent);
	return ok;
}

static bool read_factor(struct parse *p, mpq_t ret)
{
	bool ok;

	if (++p->depth > DEPTH_MAX)
		return fail(p, "nested too deeply");
	if (take(p, '-')) {
		ok = read_factor(p, ret);
		mpq_neg(ret, ret);
	} else if (take(p, '+')) {
		ok = read_factor(p, ret);
	} else {
		ok = read_power(p, ret);
	}
	p->depth--;
	return ok;
}

/* The remainder with the sign of the divisor, as in a - b * floor(a / b). */
static void modulo(mpq_t left, const mpq_t right)
{
	mpq_t quotient;

	mpq_init(quotient);
	mpq_div(quotient, left, right);
	mpz_fdiv_q(mpq_numref(quotient), mpq_numref(quotient), mpq_denref(quotient));
	mpz_set_ui(mpq_denref(quotient), 1);
	mpq_mul(quotient, quotient, right);
	mpq_sub(left, left, quotient);
	mpq_clear(quotient);
}

static bool apply(struct parse *p, mpq_t left, char op, const mpq_t right)
{
	if (!fits(p, bits_of(left) + bits_of(right)))
		return false;
	if ((op == '/' || op == '%') && mpq_sgn(right) == 0)
		return fail(p, "a division by zero");
	switch (op) {
	case '+':
		mpq_add(left, left, right);
		break;
	case '-':
		mpq_sub(left, left, right);
		break;
	case '*':
		mpq_mul(left, left, right);
		break;
	case '/':
		mpq_div(left, left, right);
		break;
	default:
		modulo(left, right);
		break;
	}
	return true;
}

typedef bool (*read_operand)(struct parse *p, mpq_t ret);

/* operand (one of ops, operand)* */
static bool read_chain(struct parse *p, mpq_t ret, read_operand operand, const char *ops)
{
	mpq_t right;
	bool ok = operand(p, ret);

	mpq_init(right);
	skip_blanks(p);
	while (ok && *p->at && strchr(ops, *p->at)) {
		char op = *p->at++;
		ok = operand(p, right) && apply(p, ret, op, right);
		skip_blanks(p);
	}
	mpq_clear(right);
	return ok;
}

static bool read_term(struct parse *p, mpq_t ret)
{
	return read_chain(p, ret, read_factor, "*/%");
}

static bool read_expression(struct parse *p, mpq_t ret)
{
	return read_chain(p, ret, read_term, "+-");
}

/* The decimal places of a value that ends; false: it does not. */
static bool ends_after(const mpq_t value, long *ret_places)
{
	mpz_t rest, factor;

	mpz_init(rest);
	mpz_init_set_ui(factor, 2);
	long twos = (long)mpz_remove(rest, mpq_denref(value), factor);
	mpz_set_ui(factor, 5);
	long fives = (long)mpz_remove(rest, rest, factor);
	bool ends = mpz_cmp_ui(rest, 1) == 0;
	mpz_clear(rest);
	mpz_clear(factor);
	*ret_places = twos > fives ? twos : fives;
	return ends;
}

/* How many decimal places are to be shown: all of a value that ends, else DECIMAL_DIGITS significant digits. */
static long places_of(const mpq_t value)
{
	long places;

	if (ends_after(value, &places))
		return places;
	/* The sizes may each be one digit too large, so it may be one digit more or less. */
	places = DECIMAL_DIGITS + (long)mpz_sizeinbase(mpq_denref(value), 10) -
		 (long)mpz_sizeinbase(mpq_numref(value), 10);
	return places > 0 ? places : 0;
}

/* value * 10^places, rounded half away from zero. */
static void scaled(mpz_t ret, const mpq_t value, long places)
{
	mpz_t power;

	mpz_init(power);
	power_of_ten(power, (unsigned long)places);
	mpz_mul(ret, mpq_numref(value), power);
	mpz_mul_2exp(ret, ret, 1);
	if (mpz_sgn(ret) < 0)
		mpz_sub(ret, ret, mpq_denref(value));
	else
		mpz_add(ret, ret, mpq_denref(value));
	mpz_mul_2exp(power, mpq_denref(value), 1);
	mpz_tdiv_q(ret, ret, power);
	mpz_clear(power);
}

/* digits, without a sign, with a point before the last `places` of them; zeros at the end go. */
static void write_digits(char *out, const char *digits, size_t places)
{
	size_t len = strlen(digits), whole = len > places ? len - places : 0;

	if (whole == 0)
		*out++ = '0';
	memcpy(out, digits, whole);
	out += whole;
	if (places > 0) {
		*out++ = '.';
		for (size_t i = len; i < places; i++)
			*out++ = '0';
		memcpy(out, digits + whole, len - whole);
		out += len - whole;
		while (out[-1] == '0')
			out--;
		if (out[-1] == '.')
			out--;
	}
	*out = '\0';
}

static bool write_value(const mpq_t value, char ret_text[DECIMAL_TEXT_SIZE], struct err *e)
{
	long places = places_of(value);
	char *digits = NULL;
	mpz_t whole;
	bool ok = true;

	mpz_init(whole);
	scaled(whole, value, places);
	bool is_negative = mpz_sgn(whole) < 0;
	mpz_abs(whole, whole);
	if (mpz_sizeinbase(whole, 10) + (size_t)places + 8 > DECIMAL_TEXT_SIZE) {
		ok = err_set(e, ERR_LIMIT, "the result is too long");
	} else {
		digits = mpz_get_str(NULL, 10, whole);
		if (is_negative)
			*ret_text++ = '-';
		write_digits(ret_text, digits, (size_t)places);
		free(digits);
	}
	mpz_clear(whole);
	return ok;
}

bool decimal_evaluate(const char *expression, char ret_text[DECIMAL_TEXT_SIZE], struct err *e)
{
	struct parse p = {.start = expression, .at = expression, .e = e};
	mpq_t value;

	if (strlen(expression) > DECIMAL_EXPRESSION_MAX)
		return err_set(e, ERR_LIMIT, "the expression is longer than %d bytes", DECIMAL_EXPRESSION_MAX);
	mpq_init(value);
	bool ok = read_expression(&p, value) && (*p.at == '\0' || fail(&p, "something that is no operator")) &&
		  write_value(value, ret_text, e);
	mpq_clear(value);
	return ok;
}
