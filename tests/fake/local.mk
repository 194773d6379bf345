# SPDX-License-Identifier: Apache-2.0
# What the stories drive beside the real servers.
noinst_PROGRAMS += %D%/fcgi_client
%C%_fcgi_client_SOURCES = %D%/fcgi_client.c %D%/fcgi_client.h %D%/fcgi_client_main.c
%C%_fcgi_client_LDADD = lib/libhearth.a -lpthread
EXTRA_DIST += %D%/provider.py
# Preloaded into programs under test, so without their sanitizers.
noinst_DATA = %D%/resolver.so
CLEANFILES += %D%/resolver.so
EXTRA_DIST += %D%/resolver.c
%D%/resolver.so: %D%/resolver.c
	$(AM_V_CC)$(CC) -D_GNU_SOURCE -O1 -fPIC -shared -o $@ $(srcdir)/%D%/resolver.c
