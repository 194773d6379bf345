# SPDX-License-Identifier: Apache-2.0
# A new file is one more name here, and SCHEMA_VERSION in core/schema.h.
schemadir = $(pkgdatadir)/schema
dist_schema_DATA = %D%/001_init.sql %D%/002_operations_indexes.sql %D%/003_llm_configs.sql %D%/004_turn_costs.sql %D%/005_conversations.sql %D%/006_versions.sql %D%/007_empty_conversations.sql
EXTRA_DIST += %D%/README.md
