/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The beginning of a FastCGI connection. What is let through libfcgi must take without waiting for more, and see as we
 * saw it; what is refused stays refused, whatever comes behind it.
 */
#include "fcgi-app/fcgi_head.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <fcgiapp.h>

#include "tests/fuzz/fuzz.h"

#define WRITE_MAX 32768 /* both ends are ours: what is written must fit the socket */

/* libfcgi on the very bytes, the connection still open behind them. */
static void check_with_library(const uint8_t *data, size_t size, const struct fcgi_head *head)
{
	const struct timeval patience = {.tv_sec = 5}; /* only a failure waits so long */
	FCGX_Request request;
	int ends[2];

	MUST(FCGX_Init() == 0 && FCGX_InitRequest(&request, -1, FCGI_FAIL_ACCEPT_ON_INTR) == 0);
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	MUST(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0);
	MUST(send(ends[1], data, size, MSG_NOSIGNAL) == (ssize_t)size);
	request.ipcFd = ends[0];
	request.keepConnection = 1;
	MUST(FCGX_Accept_r(&request) == 0);
	const char *length = FCGX_GetParam("CONTENT_LENGTH", request.envp);
	MUST(head->body_bytes < 0 || (length && strtoll(length, NULL, 10) == head->body_bytes));
	char body[256];
	while (head->has_input_end && FCGX_GetStr(body, sizeof(body), request.in) == (int)sizeof(body))
		;
	MUST(!head->has_input_end || FCGX_GetError(request.in) == 0);
	(void)close(ends[1]);
	request.keepConnection = 1; /* no waiting for a peer that is us */
	FCGX_Finish_r(&request);
	if (request.ipcFd >= 0)
		(void)close(ends[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fcgi_head head, part;
	enum fcgi_head_state state = fcgi_head_scan(data, size, &head);
	size_t cut = size / 2;
	enum fcgi_head_state before = fcgi_head_scan(data, cut, &part);

	MUST((state == FCGI_HEAD_BROKEN) == (head.reason != NULL));
	if (state == FCGI_HEAD_WHOLE)
		MUST(head.len <= size && head.len <= FCGI_HEAD_MAX && before != FCGI_HEAD_BROKEN);
	if (before == FCGI_HEAD_BROKEN)
		MUST(state == FCGI_HEAD_BROKEN);
	if (before == FCGI_HEAD_WHOLE && state == FCGI_HEAD_WHOLE)
		MUST(part.len == head.len && part.body_bytes == head.body_bytes &&
		     (!part.is_input_whole || head.is_input_whole));
	if (state == FCGI_HEAD_WHOLE && size <= WRITE_MAX)
		check_with_library(data, size, &head);
	return 0;
}
