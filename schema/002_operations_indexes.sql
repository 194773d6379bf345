-- SPDX-License-Identifier: Apache-2.0
-- One index less to write for what is open: operations_open also holds at most one demand load of each generation, which
-- operations_demand did (is_open is 1 where demand_key is set, and rows with a NULL are as many as there are).
-- No list of an organization's operations exists, so nothing reads operations_org.
ALTER TABLE operations
  DROP INDEX operations_open,
  DROP INDEX operations_demand,
  DROP INDEX operations_org,
  ADD UNIQUE INDEX operations_open (instance_id, is_open, demand_key);
