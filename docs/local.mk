# SPDX-License-Identifier: Apache-2.0
# The manual is Markdown; where pandoc is installed it becomes man pages too.
dist_doc_DATA = %D%/hearth.conf.5.md %D%/hearth.fcgi.8.md %D%/hearth-worker.8.md %D%/hearthctl.8.md \
	%D%/agents.md %D%/growth.svg %D%/operations.md %D%/performance.md %D%/web-servers.md %D%/openapi.yaml
if HAVE_PANDOC
HEARTH_MANS = %D%/hearth.conf.5 %D%/hearth.fcgi.8 %D%/hearth-worker.8 %D%/hearthctl.8
man_MANS = $(HEARTH_MANS)
CLEANFILES += $(HEARTH_MANS)

$(HEARTH_MANS): Makefile
	$(AM_V_GEN)mkdir -p %D% && $(PANDOC) -s -f markdown-smart -t man --shift-heading-level-by=-1 -o $@ $(srcdir)/$@.md
%D%/hearth.conf.5: %D%/hearth.conf.5.md
%D%/hearth.fcgi.8: %D%/hearth.fcgi.8.md
%D%/hearth-worker.8: %D%/hearth-worker.8.md
%D%/hearthctl.8: %D%/hearthctl.8.md
endif
