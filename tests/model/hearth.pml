/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol of one App: README.md in this folder says what is modelled and how to read a trail. Here: the sizes of a
 * scenario (set with -D), the properties, and the processes.
 */
#ifndef REPLICAS
#define REPLICAS 1
#endif
#ifndef REQUESTS
#define REQUESTS 2 /* load, unload, reload, configuration, status: the operator's */
#endif
/*
 * Faults, of any kind: a crash; a lease that ends under a worker that lives (paused, hung, cut off); an event that the
 * bus loses, or brings once more; a build that fails; a commit whose answer is lost.
 */
#ifndef FAULTS
#define FAULTS 1
#endif
#ifndef USES
#define USES 0 /* turns that are in flight for a while; chats that find a demand App not loaded, TTLs that are over */
#endif
#ifndef ATTEMPTS_MAX
#define ATTEMPTS_MAX 3
#endif

#define WORKERS 2
#define GENERATION_MAX (1 + REQUESTS)
#define LOADS_MAX 2

/* Guards cannot loop. */
#define IS_LOAD(o) (o == LOAD || o == RELOAD)
#if REQUESTS == 1
#define SOME_OPERATION(is) (is(op[2]))
#elif REQUESTS == 2
#define SOME_OPERATION(is) (is(op[2]) || is(op[3]))
#elif REQUESTS == 3
#define SOME_OPERATION(is) (is(op[2]) || is(op[3]) || is(op[4]))
#else
#define SOME_OPERATION(is) (is(op[2]) || is(op[3]) || is(op[4]) || is(op[5]))
#endif
#define IS_UNLOAD(o) (o == UNLOAD)
#define HAS_LOAD_WANTED (op_extra != 0 || SOME_OPERATION(IS_LOAD))
#define HAS_OPEN_UNLOAD SOME_OPERATION(IS_UNLOAD)

#include "database.pml"
#include "worker.pml"
#include "fair.pml"
#include "world.pml"
