# SPDX-License-Identifier: Apache-2.0
# The pool, the factory and the way to models are libraries of their own, so that tests link them without the engine.
noinst_LIBRARIES += worker/libpool.a worker/libframework.a worker/libmodel.a
worker_libpool_a_SOURCES = %D%/pool/pool.c %D%/pool/pool.h %D%/pool/private.h %D%/pool/steps.c %D%/pool/timers.c %D%/pool/timers.h
worker_libframework_a_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
worker_libframework_a_SOURCES = %D%/framework/framework.c %D%/framework/framework.h %D%/framework/echo.c %D%/framework/skeleton.c
worker_libmodel_a_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
worker_libmodel_a_SOURCES = %D%/http_loop.c %D%/http_loop.h
sbin_PROGRAMS = worker/hearth-worker
worker_hearth_worker_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
worker_hearth_worker_SOURCES = \
	%D%/chat.c %D%/chat.h %D%/engine.c %D%/engine.h %D%/events.c %D%/events.h %D%/inbox.c %D%/inbox.h \
	%D%/lease_keeper.c %D%/lease_keeper.h %D%/lifecycle.c %D%/lifecycle.h %D%/main.c \
	%D%/reconcile.c %D%/reconcile.h %D%/recovery_pass.c %D%/recovery_pass.h %D%/stats_book.c %D%/stats_book.h \
	%D%/step_lines.c %D%/step_lines.h
worker_hearth_worker_LDADD = worker/libpool.a worker/libframework.a worker/libmodel.a core/libcore.a $(LIBHEARTH_LIBS) $(CURL_LIBS) $(UV_LIBS)
