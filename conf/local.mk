# SPDX-License-Identifier: Apache-2.0
# Examples to copy from; none of them is put where a service would find it.
CONF_EXAMPLES = %D%/hearth.conf.sample %D%/lighttpd.conf %D%/lighttpd-vhost.conf %D%/lighttpd-bin-path.conf \
	%D%/apache-proxy-fcgi.conf %D%/apache-fcgid.conf %D%/nginx.conf %D%/nats.conf %D%/nats-cluster.conf \
	%D%/nats-users.conf %D%/mariadb-setup.sql %D%/mariadb-grants.sql %D%/hearth.tmpfiles %D%/hearth.sysusers
CONF_UNITS = %D%/hearth-fcgi.service %D%/hearth-worker.service
confexampledir = $(docdir)/examples
dist_confexample_DATA = $(CONF_EXAMPLES)
nodist_confexample_DATA = $(CONF_UNITS)
EXTRA_DIST += %D%/hearth-fcgi.service.in %D%/hearth-worker.service.in
CLEANFILES += $(CONF_UNITS)

$(CONF_UNITS): Makefile
	$(AM_V_GEN)mkdir -p %D% && sed -e 's|@libexecdir@|$(libexecdir)|g' -e 's|@sbindir@|$(sbindir)|g' \
		-e 's|@docdir@|$(docdir)|g' $(srcdir)/$@.in >$@.tmp && mv $@.tmp $@
%D%/hearth-fcgi.service: %D%/hearth-fcgi.service.in
%D%/hearth-worker.service: %D%/hearth-worker.service.in
