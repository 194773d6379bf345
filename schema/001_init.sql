-- SPDX-License-Identifier: Apache-2.0
-- Hearth's first schema. Forward-only: an applied file is never changed, the next one is added.
-- Times are UTC, DATETIME(3). Ids are UUIDs version 7, made by the programs. State names equal the C enums.
-- Lock order everywhere: organizations, orchestrator_instances, placements, operations.

CREATE TABLE organizations (
  org_id          UUID NOT NULL PRIMARY KEY,
  name            VARCHAR(100) NOT NULL,
  status          ENUM('active','suspended') NOT NULL DEFAULT 'active',
  quota_instances INT UNSIGNED NOT NULL DEFAULT 1000,  -- living Apps
  quota_hot       INT UNSIGNED NOT NULL DEFAULT 100,   -- hot Apps wanted loaded
  quota_demand    INT UNSIGNED NOT NULL DEFAULT 100,   -- demand copies held at once, on all workers
  ttl_seconds     INT UNSIGNED NULL,                   -- idle TTL of demand Apps that set none
  created_at      DATETIME(3) NOT NULL,
  updated_at      DATETIME(3) NOT NULL,
  UNIQUE KEY organizations_name (name)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE api_tokens (
  token_id     UUID NOT NULL PRIMARY KEY,
  org_id       UUID NULL,                              -- NULL: sys_admin
  name         VARCHAR(100) NOT NULL,
  role         ENUM('member','org_admin','sys_admin') NOT NULL,
  token_hash   BINARY(32) NOT NULL,                    -- SHA-256 of the token; the token itself is nowhere
  created_at   DATETIME(3) NOT NULL,
  expires_at   DATETIME(3) NULL,
  revoked_at   DATETIME(3) NULL,
  last_used_at DATETIME(3) NULL,                       -- to the minute
  UNIQUE KEY api_tokens_hash (token_hash),
  KEY api_tokens_org (org_id, token_id),
  CONSTRAINT api_tokens_org FOREIGN KEY (org_id) REFERENCES organizations (org_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE orchestrator_instances (
  instance_id        UUID NOT NULL PRIMARY KEY,
  org_id             UUID NOT NULL,
  name               VARCHAR(100) NOT NULL,
  framework_type     VARCHAR(32) NOT NULL,
  mode               VARCHAR(32) NOT NULL,
  status             ENUM('active','suspended') NOT NULL DEFAULT 'active',
  tier               ENUM('hot','demand') NOT NULL DEFAULT 'demand',
  desired_state      ENUM('unloaded','loaded') NOT NULL DEFAULT 'unloaded',
  replicas           SMALLINT UNSIGNED NOT NULL DEFAULT 1,
  ttl_seconds        INT UNSIGNED NULL,
  config             LONGTEXT NOT NULL,                -- canonical JSON
  config_hash        CHAR(64) NOT NULL,                -- SHA-256 of framework, mode, config, plugins
  active_plugin_ids  TEXT NOT NULL DEFAULT '[]',       -- JSON array of ids
  generation         BIGINT UNSIGNED NOT NULL DEFAULT 1,
  rebuild_generation BIGINT UNSIGNED NOT NULL DEFAULT 0, -- copies below are rebuilt
  unload_generation  BIGINT UNSIGNED NOT NULL DEFAULT 0, -- copies below drain
  attempts           INT UNSIGNED NOT NULL DEFAULT 0,  -- builds begun at this generation that had no result
  failures           INT UNSIGNED NOT NULL DEFAULT 0,  -- builds failed in a row at this generation
  next_attempt_at    DATETIME(3) NULL,                 -- no build before; NULL: any time
  failure_reason     VARCHAR(255) NULL,                -- of the last failed build at this generation
  good_mode          VARCHAR(32) NULL,                 -- the last version that was ready
  good_config        LONGTEXT NULL,
  good_config_hash   CHAR(64) NULL,
  created_at         DATETIME(3) NOT NULL,
  updated_at         DATETIME(3) NOT NULL,
  deleted_at         DATETIME(3) NULL,
  living_name        VARCHAR(100) AS (IF(deleted_at IS NULL, name, NULL)) PERSISTENT,
  -- the hot Apps that must be held; NULL for all others, so the index holds only them
  wanted_hot         TINYINT AS (IF(deleted_at IS NULL AND status = 'active' AND tier = 'hot' AND desired_state = 'loaded', 1, NULL)) PERSISTENT,
  UNIQUE KEY instances_name (org_id, living_name),
  KEY instances_org (org_id, deleted_at, instance_id), -- the living ones, page by page
  KEY instances_wanted_hot (wanted_hot, instance_id),
  KEY instances_org_hot (org_id, wanted_hot),
  KEY instances_next_attempt (wanted_hot, next_attempt_at),
  CONSTRAINT instances_org FOREIGN KEY (org_id) REFERENCES organizations (org_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE operations (
  operation_id    UUID NOT NULL PRIMARY KEY,
  instance_id     UUID NOT NULL,
  org_id          UUID NOT NULL,
  action          ENUM('load','unload','reload') NOT NULL,
  tier            ENUM('hot','demand') NOT NULL,
  generation      BIGINT UNSIGNED NOT NULL,
  source          ENUM('api_load','api_unload','api_reload','config_change','status_change','demand','recovery') NOT NULL,
  state           ENUM('accepted','running','succeeded','failed','superseded') NOT NULL DEFAULT 'accepted',
  reason          VARCHAR(255) NULL,
  worker_id       VARCHAR(64) NULL,                    -- who ran or ended it
  request_id      VARCHAR(64) NULL,
  fresh           TINYINT NOT NULL DEFAULT 0,          -- reload: restart shared bundles too
  drain_s         INT UNSIGNED NULL,                   -- unload: the caller's limit for turns in flight
  publish_count   INT UNSIGNED NOT NULL DEFAULT 0,     -- times published again
  next_publish_at DATETIME(3) NOT NULL,                -- recovery publishes it again from then on
  accepted_at     DATETIME(3) NOT NULL,
  started_at      DATETIME(3) NULL,
  finished_at     DATETIME(3) NULL,
  is_open         TINYINT AS (IF(state IN ('accepted','running'), 1, NULL)) PERSISTENT,
  -- one open operation per App and generation for demand loads by chat
  demand_key      BIGINT UNSIGNED AS (IF(source = 'demand' AND state IN ('accepted','running'), generation, NULL)) PERSISTENT,
  KEY operations_open (instance_id, is_open),
  KEY operations_instance (instance_id, operation_id),
  KEY operations_org (org_id, operation_id),
  KEY operations_publish (is_open, next_publish_at),
  UNIQUE KEY operations_demand (instance_id, demand_key),
  CONSTRAINT operations_instance FOREIGN KEY (instance_id) REFERENCES orchestrator_instances (instance_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE workers (
  worker_id      VARCHAR(64) NOT NULL PRIMARY KEY,     -- the configured name
  incarnation    UUID NOT NULL,                        -- one start; every write of a worker carries it
  process_id     UUID NOT NULL,                        -- one process; its flush numbers go on over incarnations
  host           VARCHAR(255) NOT NULL,
  machine_id     VARCHAR(64) NOT NULL,                 -- the same name from another machine is refused while its lease is valid
  state          ENUM('active','leaving') NOT NULL DEFAULT 'active',
  lease_until    DATETIME(3) NOT NULL,
  hot_ceiling    INT UNSIGNED NOT NULL,
  demand_ceiling INT UNSIGNED NOT NULL,
  last_flush     BIGINT UNSIGNED NOT NULL DEFAULT 0,   -- the number of the last statistics flush that counted
  started_at     DATETIME(3) NOT NULL,
  KEY workers_lease (lease_until)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Which worker holds which App. No foreign key to workers: a row of a dead incarnation is what recovery looks for.
CREATE TABLE placements (
  instance_id UUID NOT NULL,
  worker_id   VARCHAR(64) NOT NULL,
  incarnation UUID NOT NULL,
  org_id      UUID NOT NULL,
  tier        ENUM('hot','demand') NOT NULL,
  generation  BIGINT UNSIGNED NOT NULL,
  state       ENUM('loading','ready','draining','failed') NOT NULL,
  reason      VARCHAR(255) NULL,
  build_generation BIGINT UNSIGNED NULL,               -- what is being built here, also beside a ready copy; NULL: nothing
  placed_at   DATETIME(3) NOT NULL,
  changed_at  DATETIME(3) NOT NULL,
  PRIMARY KEY (instance_id, worker_id),
  KEY placements_worker (worker_id, incarnation, instance_id),
  KEY placements_org (org_id, tier, state),
  CONSTRAINT placements_instance FOREIGN KEY (instance_id) REFERENCES orchestrator_instances (instance_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- One row per worker and flush; old rows are removed in bounded steps.
CREATE TABLE worker_stats (
  worker_id         VARCHAR(64) NOT NULL,
  flushed_at        DATETIME(3) NOT NULL,
  incarnation       UUID NOT NULL,
  flush_number      BIGINT UNSIGNED NOT NULL,
  hot_count         INT UNSIGNED NOT NULL,
  demand_count      INT UNSIGNED NOT NULL,
  loading_count     INT UNSIGNED NOT NULL,
  failed_count      INT UNSIGNED NOT NULL,
  model_count       INT UNSIGNED NOT NULL,
  bundle_count      INT UNSIGNED NOT NULL,
  memory_bytes      BIGINT UNSIGNED NOT NULL,
  turns_in_flight   INT UNSIGNED NOT NULL,
  turns_total       BIGINT UNSIGNED NOT NULL,          -- since the process began
  errors_total      BIGINT UNSIGNED NOT NULL,
  loads_total       BIGINT UNSIGNED NOT NULL,
  evictions_total   BIGINT UNSIGNED NOT NULL,
  events_waiting    BIGINT UNSIGNED NOT NULL,          -- in the loads consumer, as this worker saw it
  events_redelivered BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (worker_id, flushed_at),
  KEY worker_stats_time (flushed_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE instance_stats (
  instance_id    UUID NOT NULL PRIMARY KEY,
  org_id         UUID NOT NULL,
  turns          BIGINT UNSIGNED NOT NULL DEFAULT 0,
  errors         BIGINT UNSIGNED NOT NULL DEFAULT 0,
  loads          BIGINT UNSIGNED NOT NULL DEFAULT 0,
  cold_starts    BIGINT UNSIGNED NOT NULL DEFAULT 0,   -- loads that a chat waited for
  reloads        BIGINT UNSIGNED NOT NULL DEFAULT 0,
  failed_builds  BIGINT UNSIGNED NOT NULL DEFAULT 0,
  evicted_idle   BIGINT UNSIGNED NOT NULL DEFAULT 0,
  evicted_room   BIGINT UNSIGNED NOT NULL DEFAULT 0,   -- to make room in the tier
  evicted_quota  BIGINT UNSIGNED NOT NULL DEFAULT 0,   -- to make room in the org's quota
  tokens_in      BIGINT UNSIGNED NOT NULL DEFAULT 0,
  tokens_out     BIGINT UNSIGNED NOT NULL DEFAULT 0,
  latency_us_sum BIGINT UNSIGNED NOT NULL DEFAULT 0,   -- of ended turns, in the worker
  latency_us_max BIGINT UNSIGNED NOT NULL DEFAULT 0,
  build_us_sum   BIGINT UNSIGNED NOT NULL DEFAULT 0,
  last_turn_at   DATETIME(3) NULL,
  updated_at     DATETIME(3) NOT NULL,
  KEY instance_stats_org (org_id, instance_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

-- Who did what to what, from where, with which result; refusals too. The programs may only insert and read.
CREATE TABLE audit_log (
  audit_id   UUID NOT NULL PRIMARY KEY,                -- version 7: in order of time
  at         DATETIME(3) NOT NULL,
  org_id     UUID NULL,
  token_id   UUID NULL,
  role       VARCHAR(16) NULL,
  action     VARCHAR(64) NOT NULL,
  target     VARCHAR(64) NULL,                         -- the id of what it was done to
  result     VARCHAR(32) NOT NULL,                     -- 'ok' or the problem's code
  source_ip  VARCHAR(45) NULL,
  request_id VARCHAR(64) NULL,
  detail     VARCHAR(255) NULL,
  KEY audit_org (org_id, audit_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
