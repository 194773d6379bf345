# SPDX-License-Identifier: Apache-2.0
# A target is fuzz_<parser>.c, corpus/<parser>/ and a block of five lines. make check replays the corpora; after
# configure --enable-fuzzing (clang), `make fuzz FUZZ_SECONDS=60` looks for more and keeps it in tests/fuzz/found/.
FUZZ_TARGETS =
FUZZ_CFLAGS = $(AM_CFLAGS) -DFUZZ_CORPUS='"$(abs_top_srcdir)/%D%/corpus"'
FUZZ_SECONDS = 60
EXTRA_DIST += %D%/corpus %D%/fuzz.h %D%/replay.c
if FUZZING
FUZZ_MAIN = %D%/fuzz.h
FUZZ_LINK = $(AM_LDFLAGS) -fsanitize=fuzzer
noinst_PROGRAMS += $(FUZZ_TARGETS)
else
FUZZ_MAIN = %D%/fuzz.h %D%/replay.c
FUZZ_LINK = $(AM_LDFLAGS)
check_PROGRAMS += $(FUZZ_TARGETS)
TESTS += $(FUZZ_TARGETS)
endif

FUZZ_TARGETS += %D%/fuzz_json
%C%_fuzz_json_SOURCES = %D%/fuzz_json.c $(FUZZ_MAIN)
%C%_fuzz_json_CFLAGS = $(FUZZ_CFLAGS)
%C%_fuzz_json_LDFLAGS = $(FUZZ_LINK)
%C%_fuzz_json_LDADD = $(LIBHEARTH_LIBS)

FUZZ_TARGETS += %D%/fuzz_sse
%C%_fuzz_sse_SOURCES = %D%/fuzz_sse.c $(FUZZ_MAIN)
%C%_fuzz_sse_CFLAGS = $(FUZZ_CFLAGS)
%C%_fuzz_sse_LDFLAGS = $(FUZZ_LINK)
%C%_fuzz_sse_LDADD = $(LIBHEARTH_LIBS)

FUZZ_TARGETS += %D%/fuzz_answer
%C%_fuzz_answer_SOURCES = %D%/fuzz_answer.c $(FUZZ_MAIN)
%C%_fuzz_answer_CFLAGS = $(FUZZ_CFLAGS)
%C%_fuzz_answer_LDFLAGS = $(FUZZ_LINK)
%C%_fuzz_answer_LDADD = $(LIBFRAMEWORK_LIBS)

FUZZ_TARGETS += %D%/fuzz_tool
%C%_fuzz_tool_SOURCES = %D%/fuzz_tool.c $(FUZZ_MAIN)
%C%_fuzz_tool_CFLAGS = $(FUZZ_CFLAGS)
%C%_fuzz_tool_LDFLAGS = $(FUZZ_LINK)
%C%_fuzz_tool_LDADD = $(LIBFRAMEWORK_LIBS)

FUZZ_TARGETS += %D%/fuzz_openai_request
%C%_fuzz_openai_request_SOURCES = %D%/fuzz_openai_request.c $(FUZZ_MAIN)
%C%_fuzz_openai_request_CFLAGS = $(FUZZ_CFLAGS)
%C%_fuzz_openai_request_LDFLAGS = $(FUZZ_LINK)
%C%_fuzz_openai_request_LDADD = fcgi-app/libapp.a core/libcore.a $(LIBHEARTH_LIBS) $(FCGI_LIBS)

FUZZ_TARGETS += %D%/fuzz_netaddr
%C%_fuzz_netaddr_SOURCES = %D%/fuzz_netaddr.c $(FUZZ_MAIN)
%C%_fuzz_netaddr_CFLAGS = $(FUZZ_CFLAGS)
%C%_fuzz_netaddr_LDFLAGS = $(FUZZ_LINK)
%C%_fuzz_netaddr_LDADD = $(LIBHEARTH_LIBS)

FUZZ_TARGETS += %D%/fuzz_keyring
%C%_fuzz_keyring_SOURCES = %D%/fuzz_keyring.c $(FUZZ_MAIN)
%C%_fuzz_keyring_CFLAGS = $(FUZZ_CFLAGS)
%C%_fuzz_keyring_LDFLAGS = $(FUZZ_LINK)
%C%_fuzz_keyring_LDADD = core/libcore.a $(LIBHEARTH_LIBS)

FUZZ_TARGETS += %D%/fuzz_llm_url
%C%_fuzz_llm_url_SOURCES = %D%/fuzz_llm_url.c $(FUZZ_MAIN)
%C%_fuzz_llm_url_CFLAGS = $(FUZZ_CFLAGS)
%C%_fuzz_llm_url_LDFLAGS = $(FUZZ_LINK)
%C%_fuzz_llm_url_LDADD = core/libcore.a $(LIBHEARTH_LIBS)

FUZZ_TARGETS += %D%/fuzz_event
%C%_fuzz_event_SOURCES = %D%/fuzz_event.c $(FUZZ_MAIN)
%C%_fuzz_event_CFLAGS = $(FUZZ_CFLAGS)
%C%_fuzz_event_LDFLAGS = $(FUZZ_LINK)
%C%_fuzz_event_LDADD = core/libcore.a $(LIBHEARTH_LIBS)

FUZZ_TARGETS += %D%/fuzz_chat_wire
%C%_fuzz_chat_wire_SOURCES = %D%/fuzz_chat_wire.c $(FUZZ_MAIN)
%C%_fuzz_chat_wire_CFLAGS = $(FUZZ_CFLAGS)
%C%_fuzz_chat_wire_LDFLAGS = $(FUZZ_LINK)
%C%_fuzz_chat_wire_LDADD = core/libcore.a $(LIBHEARTH_LIBS)

FUZZ_TARGETS += %D%/fuzz_conf
%C%_fuzz_conf_SOURCES = %D%/fuzz_conf.c $(FUZZ_MAIN)
%C%_fuzz_conf_CFLAGS = $(FUZZ_CFLAGS)
%C%_fuzz_conf_LDFLAGS = $(FUZZ_LINK)
%C%_fuzz_conf_LDADD = core/libcore.a $(LIBHEARTH_LIBS)

FUZZ_TARGETS += %D%/fuzz_framework
%C%_fuzz_framework_SOURCES = %D%/fuzz_framework.c $(FUZZ_MAIN)
%C%_fuzz_framework_CFLAGS = $(FUZZ_CFLAGS)
%C%_fuzz_framework_LDFLAGS = $(FUZZ_LINK)
%C%_fuzz_framework_LDADD = core/libcore.a $(LIBHEARTH_LIBS)

FUZZ_TARGETS += %D%/fuzz_router
%C%_fuzz_router_SOURCES = %D%/fuzz_router.c $(FUZZ_MAIN)
%C%_fuzz_router_CFLAGS = $(FUZZ_CFLAGS)
%C%_fuzz_router_LDFLAGS = $(FUZZ_LINK)
%C%_fuzz_router_LDADD = fcgi-app/libapp.a core/libcore.a $(LIBHEARTH_LIBS) $(FCGI_LIBS)

FUZZ_TARGETS += %D%/fuzz_ids
%C%_fuzz_ids_SOURCES = %D%/fuzz_ids.c $(FUZZ_MAIN)
%C%_fuzz_ids_CFLAGS = $(FUZZ_CFLAGS)
%C%_fuzz_ids_LDFLAGS = $(FUZZ_LINK)
%C%_fuzz_ids_LDADD = fcgi-app/libapp.a core/libcore.a $(LIBHEARTH_LIBS) $(FCGI_LIBS)

FUZZ_TARGETS += %D%/fuzz_fields
%C%_fuzz_fields_SOURCES = %D%/fuzz_fields.c $(FUZZ_MAIN)
%C%_fuzz_fields_CFLAGS = $(FUZZ_CFLAGS)
%C%_fuzz_fields_LDFLAGS = $(FUZZ_LINK)
%C%_fuzz_fields_LDADD = fcgi-app/libapp.a core/libcore.a $(LIBHEARTH_LIBS) $(FCGI_LIBS)

FUZZ_TARGETS += %D%/fuzz_fcgi_head
%C%_fuzz_fcgi_head_SOURCES = %D%/fuzz_fcgi_head.c $(FUZZ_MAIN)
%C%_fuzz_fcgi_head_CFLAGS = $(FUZZ_CFLAGS) $(FCGI_CFLAGS)
%C%_fuzz_fcgi_head_LDFLAGS = $(FUZZ_LINK)
%C%_fuzz_fcgi_head_LDADD = fcgi-app/libapp.a core/libcore.a $(LIBHEARTH_LIBS) $(FCGI_LIBS)

FUZZ_TARGETS += %D%/fuzz_request
%C%_fuzz_request_SOURCES = %D%/fuzz_request.c tests/fake/fcgi_fake.c tests/fake/fcgi_fake.h $(FUZZ_MAIN)
%C%_fuzz_request_CFLAGS = $(FUZZ_CFLAGS)
%C%_fuzz_request_LDFLAGS = $(FUZZ_LINK)
%C%_fuzz_request_LDADD = fcgi-app/libapp.a core/libcore.a $(LIBHEARTH_LIBS) $(FCGI_LIBS)

.PHONY: fuzz
if FUZZING
fuzz: $(FUZZ_TARGETS)
	$(AM_V_at)for target in $(FUZZ_TARGETS); do \
		name=$${target##*/fuzz_}; \
		mkdir -p %D%/found/$$name || exit 1; \
		echo "fuzz_$$name: $(FUZZ_SECONDS) s"; \
		$$target -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1 \
			-artifact_prefix=%D%/found/$$name- %D%/found/$$name $(abs_top_srcdir)/%D%/corpus/$$name || exit 1; \
	done
else
fuzz:
	@echo 'fuzzing needs clang and its libFuzzer: CC=clang ./configure --enable-fuzzing'; exit 1
endif
