-- SPDX-License-Identifier: Apache-2.0
-- Hearth in MariaDB, third step (see mariadb-setup.sql): after each `hearthctl migrate`. Repeating it does no harm.
-- audit_log: INSERT and SELECT, for everybody. No program may change or remove what it says.
-- sealed_values: hearth.fcgi writes secrets and never reads them; the workers, which need them, never write them;
-- hearthctl seals them anew.

USE hearth;

GRANT SELECT ON * TO hearth_worker@localhost;

-- Table by table, as one column is not for it.
GRANT SELECT ON schema_migrations      TO hearth_app@localhost;
GRANT SELECT ON workers                TO hearth_app@localhost;
GRANT SELECT ON placements             TO hearth_app@localhost;
GRANT SELECT ON worker_stats           TO hearth_app@localhost;
GRANT SELECT ON instance_stats         TO hearth_app@localhost;
GRANT SELECT ON sealing_keys           TO hearth_app@localhost;
GRANT SELECT ON conversation_messages  TO hearth_app@localhost;
GRANT SELECT, DELETE         ON conversations          TO hearth_app@localhost;
GRANT SELECT, INSERT, DELETE ON instance_versions      TO hearth_app@localhost;
GRANT SELECT, INSERT         ON audit_log              TO hearth_app@localhost;
GRANT SELECT, INSERT, UPDATE ON organizations          TO hearth_app@localhost;
GRANT SELECT, INSERT, UPDATE ON api_tokens             TO hearth_app@localhost;
GRANT SELECT, INSERT, UPDATE ON orchestrator_instances TO hearth_app@localhost;
GRANT SELECT, INSERT, UPDATE ON operations             TO hearth_app@localhost;
GRANT SELECT, INSERT, UPDATE, DELETE ON llm_configs    TO hearth_app@localhost;
GRANT SELECT, INSERT, DELETE ON llm_config_generations TO hearth_app@localhost;
GRANT SELECT, INSERT, DELETE ON sealing_key_holders    TO hearth_app@localhost;
GRANT SELECT (sealed_id, purpose, org_id, owner_id, generation, key_id, sealed_at), INSERT, DELETE
  ON sealed_values TO hearth_app@localhost;
-- What earlier versions granted is taken back. (Granted once more before, as only what is there can be.)
GRANT SELECT ON * TO hearth_app@localhost;
REVOKE SELECT ON * FROM hearth_app@localhost;

GRANT UPDATE                 ON orchestrator_instances TO hearth_worker@localhost;
GRANT INSERT, UPDATE         ON operations             TO hearth_worker@localhost;
GRANT INSERT, UPDATE, DELETE ON workers                TO hearth_worker@localhost;
GRANT INSERT, UPDATE, DELETE ON placements             TO hearth_worker@localhost;
GRANT INSERT, UPDATE, DELETE ON worker_stats           TO hearth_worker@localhost;
GRANT INSERT, UPDATE, DELETE ON instance_stats         TO hearth_worker@localhost;
GRANT INSERT, DELETE         ON sealing_key_holders    TO hearth_worker@localhost;
GRANT INSERT, UPDATE, DELETE ON conversations          TO hearth_worker@localhost;
GRANT INSERT                 ON conversation_messages  TO hearth_worker@localhost;

GRANT UPDATE ON organizations TO hearth_ctl@localhost;
GRANT UPDATE ON api_tokens    TO hearth_ctl@localhost;
GRANT UPDATE ON sealing_keys  TO hearth_ctl@localhost;
GRANT UPDATE ON sealed_values TO hearth_ctl@localhost;
