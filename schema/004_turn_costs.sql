-- SPDX-License-Identifier: Apache-2.0
-- Where a turn's time goes, and which model providers are failing.

ALTER TABLE instance_stats
  ADD COLUMN provider_us_sum BIGINT UNSIGNED NOT NULL DEFAULT 0 AFTER latency_us_max, -- of latency_us_sum: waiting for the model's provider
  ADD COLUMN tools_us_sum    BIGINT UNSIGNED NOT NULL DEFAULT 0 AFTER provider_us_sum; -- … for tools

ALTER TABLE worker_stats
  ADD COLUMN breakers TEXT NULL; -- JSON array: models whose circuit breaker is not closed; NULL: none
