# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += lib/libhearth.a
lib_libhearth_a_CFLAGS = $(AM_CFLAGS) $(JSON_C_CFLAGS) $(MARIADB_CFLAGS) $(NATS_CFLAGS) $(SODIUM_CFLAGS) $(INIH_CFLAGS) $(CURL_CFLAGS)
lib_libhearth_a_SOURCES = \
	%D%/arena.c %D%/arena.h %D%/buf.c %D%/buf.h %D%/bus.c %D%/bus.h %D%/bus_call.c %D%/bus_private.h %D%/bus_stream.c %D%/clock.c %D%/clock.h \
	%D%/cond.c %D%/cond.h %D%/conf.c %D%/conf.h %D%/db.c %D%/db.h %D%/db_pool.c %D%/db_private.h %D%/db_stmt.c %D%/err.c %D%/err.h %D%/http.c %D%/http.h %D%/id.c %D%/id.h \
	%D%/json.c %D%/json.h %D%/json_diff.c %D%/json_diff.h %D%/log.c %D%/log.h %D%/macros.h %D%/netaddr.c %D%/netaddr.h %D%/secret.c %D%/secret.h \
	%D%/sse_parse.c %D%/sse_parse.h %D%/xalloc.c %D%/xalloc.h
# What a program that links libhearth.a needs beside it; $(CURL_LIBS) too where it uses lib/http.h.
LIBHEARTH_LIBS = lib/libhearth.a $(JSON_C_LIBS) $(MARIADB_LIBS) $(NATS_LIBS) $(SODIUM_LIBS) $(INIH_LIBS) -lpthread
