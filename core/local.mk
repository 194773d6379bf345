# SPDX-License-Identifier: Apache-2.0
noinst_LIBRARIES += core/libcore.a
core_libcore_a_SOURCES = \
	%D%/access.c %D%/access.h %D%/agent_config.c %D%/agent_config.h %D%/audit.c %D%/audit.h %D%/chat_wire.c %D%/chat_wire.h %D%/conversation.c %D%/conversation.h %D%/copies.c %D%/copies.h %D%/event.c %D%/event.h \
	%D%/framework.c %D%/framework.h %D%/framework_private.h %D%/instance.c %D%/instance.h %D%/lease.c %D%/lease.h %D%/lifecycle.c %D%/lifecycle.h \
	%D%/key_watch.c %D%/key_watch.h %D%/keyring.c %D%/keyring.h %D%/llm_check.c %D%/llm_check.h %D%/llm_config.c %D%/llm_config.h %D%/sealed_value.c %D%/sealed_value.h %D%/sealing_key.c %D%/sealing_key.h \
	%D%/names.c %D%/names.h %D%/operation.c %D%/operation.h %D%/org.c %D%/org.h %D%/page_url.c %D%/page_url.h %D%/permission.c %D%/permission.h \
	%D%/placement.c %D%/placement.h %D%/placement_claim.c %D%/placement_private.h %D%/placement_read.c %D%/problem.c %D%/problem.h %D%/quota.c %D%/quota.h %D%/recovery.c %D%/recovery.h %D%/recovery_private.h %D%/recovery_publish.c %D%/schema.c %D%/schema.h \
	%D%/settings.c %D%/settings.h %D%/sql.c %D%/sql.h %D%/stats.c %D%/stats.h %D%/token.c %D%/token.h %D%/version.c %D%/version.h
