-- SPDX-License-Identifier: Apache-2.0
-- Hearth in MariaDB, third step (see mariadb-setup.sql): after each `hearthctl migrate`. Repeating it does no harm.
-- audit_log: INSERT and SELECT, for everybody. No program may change or remove what it says.

USE hearth;

GRANT SELECT ON * TO hearth_app@localhost;
GRANT SELECT ON * TO hearth_worker@localhost;

GRANT INSERT, UPDATE ON organizations          TO hearth_app@localhost;
GRANT INSERT, UPDATE ON api_tokens             TO hearth_app@localhost;
GRANT INSERT, UPDATE ON orchestrator_instances TO hearth_app@localhost;
GRANT INSERT, UPDATE ON operations             TO hearth_app@localhost;
GRANT INSERT         ON audit_log              TO hearth_app@localhost;

GRANT UPDATE                 ON orchestrator_instances TO hearth_worker@localhost;
GRANT INSERT, UPDATE         ON operations             TO hearth_worker@localhost;
GRANT INSERT, UPDATE, DELETE ON workers                TO hearth_worker@localhost;
GRANT INSERT, UPDATE, DELETE ON placements             TO hearth_worker@localhost;
GRANT INSERT, UPDATE, DELETE ON worker_stats           TO hearth_worker@localhost;
GRANT INSERT, UPDATE, DELETE ON instance_stats         TO hearth_worker@localhost;

GRANT UPDATE ON organizations TO hearth_ctl@localhost;
GRANT UPDATE ON api_tokens    TO hearth_ctl@localhost;
