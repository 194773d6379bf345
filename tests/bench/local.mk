# SPDX-License-Identifier: Apache-2.0
# make bench: the promised figures, with their floors. BENCH="chat lifecycle" measures a part.
# The programs are only built for it. A build with sanitizers or without -O2 is no measure: then another one is
# made beside it, in bench-build.
# make bench-growth: how the cost grows; longer, and not part of it. make bench-web-servers: what each web server
# costs. make bench-docs puts the results of the first two into docs/.
BENCH_FILES = %D%/bench.py %D%/figures_http.py %D%/figures_llm.py %D%/figures_pool.py %D%/figures_streams.py \
	%D%/growth.py %D%/load.py %D%/put_into_docs.py %D%/rows.py %D%/scale.py %D%/servers.py %D%/svg.py %D%/web_servers.py
EXTRA_DIST += $(BENCH_FILES) %D%/wrk.lua
BENCH_BINARIES = %D%/floor_fcgi %D%/llm_endpoint %D%/stream_client
EXTRA_PROGRAMS = $(BENCH_BINARIES)
CLEANFILES += $(BENCH_BINARIES) bench-results.json bench-results.md bench-growth.md growth.svg
%C%_floor_fcgi_CFLAGS = $(AM_CFLAGS) $(FCGI_CFLAGS)
%C%_floor_fcgi_LDADD = $(FCGI_LIBS)

BENCH =
BENCH_RUN = cd $(srcdir)/%D% && HEARTH_RESULTS=$(or $(HEARTH_RESULTS),$(abs_top_builddir)) \
	HEARTH_BUILD=$(abs_top_builddir) PYTHONDONTWRITEBYTECODE=1 $(PYTHON3)
.PHONY: bench bench-growth bench-web-servers bench-docs
if HAVE_FAST_BUILD
bench: all $(BENCH_BINARIES)
	$(AM_V_at)$(BENCH_RUN) bench.py $(BENCH)
bench-growth: all $(BENCH_BINARIES)
	$(AM_V_at)$(BENCH_RUN) growth.py $(BENCH)
bench-web-servers: all
	$(AM_V_at)$(BENCH_RUN) web_servers.py
else
bench bench-growth bench-web-servers: bench-build/Makefile
	$(AM_V_at)HEARTH_RESULTS=$(abs_top_builddir) $(MAKE) -C bench-build $@

bench-build/Makefile:
	@test ! -f $(srcdir)/config.status || { echo "This build has sanitizers or no -O2, and the source tree is" \
		"configured in place: run make distclean, then ./configure && make bench." >&2; exit 1; }
	$(AM_V_GEN)mkdir -p bench-build && cd bench-build && $(abs_top_srcdir)/configure -q CFLAGS="-O2 -g"

clean-local:
	rm -rf bench-build
endif
bench-docs:
	$(AM_V_at)$(BENCH_RUN) put_into_docs.py
