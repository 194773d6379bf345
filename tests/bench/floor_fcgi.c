/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor that `make bench` divides by: a FastCGI program on plain libfcgi that reads its input and prints a
 * constant, with as many threads as hearth.fcgi has. Usage: floor_fcgi SOCKET THREADS; ends on SIGTERM.
 */
#include <fcgiapp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static const char answer[] = "Content-Type: application/json\r\n\r\n"
			     "{\"session_id\":\"01930000-0000-7000-8000-000000000000\",\"response\":\"hello world\","
			     "\"agent_hops\":0,\"current_agent\":\"echo\",\"usage\":{\"input_tokens\":2}}";

static void *serve(void *closure)
{
	const int *listener = closure;
	FCGX_Request request;
	char body[4096];

	if (FCGX_InitRequest(&request, *listener, 0) != 0)
		exit(1);
	while (FCGX_Accept_r(&request) >= 0) {
		while (FCGX_GetStr(body, sizeof(body), request.in) > 0)
			;
		(void)FCGX_PutStr(answer, sizeof(answer) - 1, request.out);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	int threads = argc == 3 ? atoi(argv[2]) : 0;
	int listener, signum;
	sigset_t stop;
	pthread_t thread;

	if (threads < 1 || FCGX_Init() != 0 || (listener = FCGX_OpenSocket(argv[1], 4096)) < 0) {
		fprintf(stderr, "usage: floor_fcgi SOCKET THREADS\n");
		return 2;
	}
	(void)sigemptyset(&stop);
	(void)sigaddset(&stop, SIGTERM);
	(void)pthread_sigmask(SIG_BLOCK, &stop, NULL);
	for (int i = 0; i < threads; i++)
		if (pthread_create(&thread, NULL, serve, &listener) != 0)
			return 1;
	(void)sigwait(&stop, &signum);
	return 0;
}
