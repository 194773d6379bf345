/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fuzz target is fuzz_<parser>.c with this one function and what must hold of whatever comes in; corpus/<parser>/
 * holds inputs that once mattered. Linked with replay.c it replays them (make check); with clang's libFuzzer it looks
 * for more (configure --enable-fuzzing, make fuzz).
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold; where it does not, the input is kept by the fuzzer and named by the replay. */
#define MUST(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			(void)fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);           \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

#endif
