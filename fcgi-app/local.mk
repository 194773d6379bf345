# SPDX-License-Identifier: Apache-2.0
# All but main.c is a library, so that unit tests can link it.
noinst_LIBRARIES += fcgi-app/libapp.a
fcgi_app_libapp_a_CFLAGS = $(AM_CFLAGS) $(FCGI_CFLAGS)
fcgi_app_libapp_a_SOURCES = \
	%D%/accept_line.c %D%/accept_line.h %D%/access_cache.c %D%/access_cache.h %D%/anteroom.c %D%/anteroom.h %D%/app.c %D%/app.h %D%/auth.c %D%/auth.h %D%/body.c %D%/body.h \
	%D%/busline.c %D%/busline.h %D%/chat_run.c %D%/chat_run.h %D%/fcgi.c %D%/fcgi.h %D%/fcgi_head.c %D%/fcgi_head.h %D%/fields.c %D%/fields.h %D%/gate.c %D%/gate.h \
	%D%/h_admin.c %D%/h_chat.c %D%/h_conversation.c %D%/h_dashboard.c %D%/h_instance.c %D%/h_lifecycle.c %D%/h_llm_config.c %D%/h_openai.c %D%/h_operation.c \
	%D%/h_org.c %D%/h_probe.c %D%/h_stats.c %D%/h_token.c %D%/h_version.c %D%/handlers.h %D%/page.c %D%/page.h \
	%D%/openai_doc.c %D%/openai_doc.h %D%/openai_request.c %D%/openai_request.h %D%/problem_doc.c %D%/problem_doc.h %D%/publish.c %D%/publish.h %D%/render.c %D%/render.h \
	%D%/request.c %D%/request.h %D%/response.c %D%/response.h %D%/router.c %D%/router.h %D%/routes.c \
	%D%/serve.c %D%/serve.h %D%/sse.c %D%/sse.h %D%/turn.c %D%/turn.h %D%/waits.c %D%/waits.h \
	%D%/write.c %D%/write.h

libexec_PROGRAMS = fcgi-app/hearth.fcgi
fcgi_app_hearth_fcgi_SOURCES = %D%/main.c
fcgi_app_hearth_fcgi_LDADD = fcgi-app/libapp.a core/libcore.a $(LIBHEARTH_LIBS) $(FCGI_LIBS)

dashboarddir = $(pkgdatadir)/dashboard
dist_dashboard_DATA = %D%/dashboard/index.html %D%/dashboard/admin.css %D%/dashboard/admin.js
