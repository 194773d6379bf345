-- SPDX-License-Identifier: Apache-2.0
-- Every configuration that an App has had, the newest of them (core/version.h): written by whoever writes the App's row, in
-- the same transaction. Lock order: after orchestrator_instances.

CREATE TABLE instance_versions (
  instance_id       UUID NOT NULL,
  version           INT UNSIGNED NOT NULL,             -- from 1; what is dropped leaves a gap
  org_id            UUID NOT NULL,
  framework_type    VARCHAR(32) NOT NULL,
  mode              VARCHAR(32) NOT NULL,
  config            LONGTEXT NOT NULL,                 -- canonical JSON
  config_hash       CHAR(64) NOT NULL,
  active_plugin_ids TEXT NOT NULL,
  token_id          UUID NULL,                         -- whose change it was; NULL: before there were versions
  source            ENUM('create','config','rollback') NOT NULL,
  of_version        INT UNSIGNED NULL,                 -- of a rollback: the one it went back to
  created_at        DATETIME(3) NOT NULL,
  PRIMARY KEY (instance_id, version),
  CONSTRAINT instance_versions_of FOREIGN KEY (instance_id) REFERENCES orchestrator_instances (instance_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

ALTER TABLE orchestrator_instances
  ADD COLUMN version INT UNSIGNED NOT NULL DEFAULT 1 AFTER active_plugin_ids; -- the present one

INSERT INTO instance_versions (instance_id, version, org_id, framework_type, mode, config, config_hash,
    active_plugin_ids, source, created_at)
  SELECT instance_id, version, org_id, framework_type, mode, config, config_hash, active_plugin_ids, 'create', created_at
  FROM orchestrator_instances;
