# SPDX-License-Identifier: Apache-2.0
bin_PROGRAMS = ctl/hearthctl
ctl_hearthctl_SOURCES = %D%/main.c %D%/ctl.c %D%/ctl.h \
	%D%/cmd_keys.c %D%/cmd_migrate.c %D%/cmd_org.c %D%/cmd_status.c %D%/cmd_token.c
ctl_hearthctl_LDADD = core/libcore.a $(LIBHEARTH_LIBS)
