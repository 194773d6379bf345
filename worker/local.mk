# SPDX-License-Identifier: Apache-2.0
# The pool, the factory and the way to models are libraries of their own, so that tests link them without the engine.
noinst_LIBRARIES += worker/libpool.a worker/libframework.a worker/libmodel.a
worker_libpool_a_SOURCES = %D%/pool/pool.c %D%/pool/pool.h %D%/pool/private.h %D%/pool/steps.c %D%/pool/timers.c %D%/pool/timers.h
worker_libframework_a_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS) $(GMP_CFLAGS)
worker_libframework_a_SOURCES = %D%/framework/framework.c %D%/framework/framework.h %D%/framework/agent.c %D%/framework/echo.c %D%/framework/skeleton.c \
	%D%/tool/builtin.c %D%/tool/decimal.c %D%/tool/decimal.h %D%/tool/fetch_url.c %D%/tool/html_text.c %D%/tool/html_text.h %D%/tool/tool.c %D%/tool/tool.h \
	%D%/turnstile.c %D%/turnstile.h
worker_libmodel_a_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
worker_libmodel_a_SOURCES = %D%/http_loop.c %D%/http_loop.h \
	%D%/model/answer.c %D%/model/answer.h %D%/model/anthropic.c %D%/model/breaker.c %D%/model/breaker.h %D%/model/dialect.c %D%/model/dialect.h \
	%D%/model/model.c %D%/model/model.h %D%/model/model_call.c %D%/model/openai.c %D%/model/private.h
# What a program that links libframework.a needs beside it.
LIBFRAMEWORK_LIBS = worker/libframework.a worker/libmodel.a core/libcore.a $(LIBHEARTH_LIBS) $(CURL_LIBS) $(GMP_LIBS) $(UV_LIBS)
sbin_PROGRAMS = worker/hearth-worker
worker_hearth_worker_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
worker_hearth_worker_SOURCES = \
	%D%/chat.c %D%/chat.h %D%/engine.c %D%/engine.h %D%/events.c %D%/events.h %D%/history.c %D%/history.h %D%/inbox.c %D%/inbox.h \
	%D%/lease_keeper.c %D%/lease_keeper.h %D%/lifecycle.c %D%/lifecycle.h %D%/main.c \
	%D%/reconcile.c %D%/reconcile.h %D%/recovery_pass.c %D%/recovery_pass.h %D%/runtime.c %D%/runtime.h %D%/stats_book.c %D%/stats_book.h \
	%D%/step_lines.c %D%/step_lines.h
worker_hearth_worker_LDADD = worker/libpool.a $(LIBFRAMEWORK_LIBS)
