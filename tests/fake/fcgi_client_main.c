/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fcgi_client SOCKET: does what the lines on its input say, on one connection:
 *
 *   begin                      BEGIN_REQUEST of a responder, request 1
 *   param NAME=VALUE           adds a parameter; `params` sends them and their end
 *   input LENGTH               sends so many bytes of what follows this line as the body, and its end
 *   part LENGTH                the same without the end
 *   record VERSION TYPE ID LENGTH PADDING HEX   a record of just these numbers with the bytes of HEX ("-": none)
 *   raw HEX
 *   drip MS                    from here on byte by byte; -1: no more
 *   half-close
 *   read MS                    prints "answered STATUS LENGTH" and the answer, "closed", or "timeout"
 *
 * Each line but `read` prints "ok", or "closed" where the application has hung up. The end of the input hangs up.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fake/fcgi_client.h"

#define LINE_MAX_BYTES (256 * 1024)

static size_t unhex(char *text)
{
	size_t len = 0;
	unsigned byte;

	for (const char *at = text; sscanf(at, "%2x", &byte) == 1; at += 2)
		text[len++] = (char)byte;
	return len;
}

static bool send_record(struct fcgi_client *c, char *args)
{
	unsigned version, type, id, len, padding;
	int used = 0;

	if (sscanf(args, "%u %u %u %u %u %n", &version, &type, &id, &len, &padding, &used) != 5)
		exit(EXIT_FAILURE);
	const struct fcgi_record record = {.version = (uint8_t)version,
					   .type = (uint8_t)type,
					   .id = (uint16_t)id,
					   .len = (uint16_t)len,
					   .padding = (uint8_t)padding};
	return fcgi_client_record(c, &record, args + used, unhex(args + used));
}

static bool send_input(struct fcgi_client *c, const char *args, bool is_part)
{
	size_t len = strtoul(args, NULL, 10);
	char *body = malloc(len + 1);
	bool ok;

	if (!body || fread(body, 1, len, stdin) != len)
		exit(EXIT_FAILURE);
	ok = is_part ? fcgi_client_send(c, FCGI_TYPE_STDIN, body, len) : fcgi_client_input(c, body, len);
	free(body);
	return ok;
}

static void read_answer(struct fcgi_client *c, const char *args)
{
	switch (fcgi_client_read(c, (int)strtol(args, NULL, 10))) {
	case FCGI_ANSWERED:
		printf("answered %u %zu\n", c->app_status, c->answer.len);
		(void)fwrite(buf_str(&c->answer), 1, c->answer.len, stdout);
		break;
	case FCGI_CLOSED:
		printf("closed\n");
		break;
	case FCGI_TIMEOUT:
		printf("timeout\n");
		break;
	}
}

static bool send_param(struct fcgi_client *c, char *args)
{
	char *equals = strchr(args, '=');

	if (!equals)
		exit(EXIT_FAILURE);
	*equals = '\0';
	fcgi_client_param(c, args, equals + 1);
	return true;
}

static bool run(struct fcgi_client *c, const char *word, char *args)
{
	if (strcmp(word, "begin") == 0)
		return fcgi_client_begin(c);
	if (strcmp(word, "param") == 0)
		return send_param(c, args);
	if (strcmp(word, "params") == 0)
		return fcgi_client_params(c);
	if (strcmp(word, "input") == 0 || strcmp(word, "part") == 0)
		return send_input(c, args, word[0] == 'p');
	if (strcmp(word, "record") == 0)
		return send_record(c, args);
	if (strcmp(word, "raw") == 0)
		return fcgi_client_raw(c, args, unhex(args));
	if (strcmp(word, "drip") == 0)
		c->drip_ms = (int)strtol(args, NULL, 10);
	else if (strcmp(word, "half-close") == 0)
		fcgi_client_half_close(c);
	else
		exit(EXIT_FAILURE);
	return true;
}

int main(int argc, char **argv)
{
	static char line[LINE_MAX_BYTES];
	struct fcgi_client c;

	if (argc != 2 || !fcgi_client_open(&c, argv[1])) {
		printf("nobody listens\n");
		return EXIT_FAILURE;
	}
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		char *args = line + strcspn(line, " ");
		if (*args)
			*args++ = '\0';
		if (strcmp(line, "read") == 0)
			read_answer(&c, args);
		else
			printf("%s\n", run(&c, line, args) ? "ok" : "closed");
		(void)fflush(stdout);
	}
	fcgi_client_close(&c);
	return EXIT_SUCCESS;
}
