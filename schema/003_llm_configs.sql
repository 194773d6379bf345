-- SPDX-License-Identifier: Apache-2.0
-- LLM configs, and the secrets that belong to them. Lock order: organizations, orchestrator_instances, llm_configs,
-- sealing_keys, sealed_values, placements, operations.

-- Which keys there are; the keys themselves are in the key ring, a file on each host.
CREATE TABLE sealing_keys (
  key_id      VARCHAR(32) NOT NULL PRIMARY KEY,
  fingerprint CHAR(32) NOT NULL,
  state       ENUM('new','current','old','retired') NOT NULL,
  created_at  DATETIME(3) NOT NULL,
  changed_at  DATETIME(3) NOT NULL,
  is_current  TINYINT AS (IF(state = 'current', 1, NULL)) PERSISTENT, -- the one that seals
  UNIQUE KEY sealing_keys_current (is_current)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Which running process holds which key, as it says itself each minute. key_id '': it runs.
CREATE TABLE sealing_key_holders (
  process_id  UUID NOT NULL,
  key_id      VARCHAR(32) NOT NULL,
  program     VARCHAR(32) NOT NULL,
  host        VARCHAR(255) NOT NULL,
  fingerprint CHAR(32) NOT NULL,
  seen_at     DATETIME(3) NOT NULL,
  PRIMARY KEY (process_id, key_id),
  KEY sealing_key_holders_seen (seen_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Each is bound to its purpose, organization, owner and generation: a copy in another row does not open.
CREATE TABLE sealed_values (
  sealed_id  UUID NOT NULL PRIMARY KEY,
  purpose    VARCHAR(32) NOT NULL,
  org_id     UUID NOT NULL,
  owner_id   UUID NOT NULL,                            -- the LLM config
  generation BIGINT UNSIGNED NOT NULL,                 -- of the owner, which set it; later ones may use it too
  key_id     VARCHAR(32) NOT NULL,                     -- with which it is sealed now
  sealed     TEXT CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  sealed_at  DATETIME(3) NOT NULL,
  KEY sealed_values_key (key_id, sealed_id),
  KEY sealed_values_owner (owner_id),
  CONSTRAINT sealed_values_key FOREIGN KEY (key_id) REFERENCES sealing_keys (key_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE llm_configs (
  llm_config_id UUID NOT NULL PRIMARY KEY,
  org_id        UUID NOT NULL,
  name          VARCHAR(100) NOT NULL,
  generation    BIGINT UNSIGNED NOT NULL DEFAULT 1,    -- the newest
  created_at    DATETIME(3) NOT NULL,
  updated_at    DATETIME(3) NOT NULL,
  UNIQUE KEY llm_configs_name (org_id, name),
  UNIQUE KEY llm_configs_org (org_id, llm_config_id),  -- Apps refer to it: an App uses those of its own org only
  CONSTRAINT llm_configs_org FOREIGN KEY (org_id) REFERENCES organizations (org_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- The newest generation of each, and those that an App was last ready with.
CREATE TABLE llm_config_generations (
  llm_config_id     UUID NOT NULL,
  generation        BIGINT UNSIGNED NOT NULL,
  provider          ENUM('openai','anthropic') NOT NULL,
  base_url          VARCHAR(2048) NOT NULL,
  key_sealed_id     UUID NULL,                         -- NULL: the provider needs no key
  key_hint          VARCHAR(4) NULL,                   -- its last characters
  headers_sealed_id UUID NULL,
  header_names      TEXT NOT NULL,                     -- JSON array
  defaults          TEXT NOT NULL,                     -- JSON object
  created_at        DATETIME(3) NOT NULL,
  PRIMARY KEY (llm_config_id, generation),
  KEY llm_generations_key (key_sealed_id),
  KEY llm_generations_headers (headers_sealed_id),
  CONSTRAINT llm_generations_config FOREIGN KEY (llm_config_id) REFERENCES llm_configs (llm_config_id),
  CONSTRAINT llm_generations_key FOREIGN KEY (key_sealed_id) REFERENCES sealed_values (sealed_id),
  CONSTRAINT llm_generations_headers FOREIGN KEY (headers_sealed_id) REFERENCES sealed_values (sealed_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

ALTER TABLE orchestrator_instances
  ADD COLUMN llm_config_id UUID NULL AFTER config_hash,                  -- as the config says; NULL where it is deleted
  ADD COLUMN good_llm_config_id UUID NULL AFTER good_config_hash,        -- of the last version that was ready
  ADD COLUMN good_llm_generation BIGINT UNSIGNED NULL AFTER good_llm_config_id,
  ADD KEY instances_llm (org_id, llm_config_id),
  ADD KEY instances_good_llm (good_llm_config_id, good_llm_generation),
  ADD CONSTRAINT instances_llm FOREIGN KEY (org_id, llm_config_id) REFERENCES llm_configs (org_id, llm_config_id);
