-- SPDX-License-Identifier: Apache-2.0
-- Hearth in MariaDB, first step: the database and one user per program. As root:
--   1. mariadb < mariadb-setup.sql     (change the three passwords first)
--   2. hearthctl migrate               (makes and upgrades the tables)
--   3. mariadb < mariadb-grants.sql    (what each program may do with them; again after each upgrade)

CREATE DATABASE IF NOT EXISTS hearth CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE USER IF NOT EXISTS hearth_ctl@localhost IDENTIFIED BY 'change-me-ctl';
CREATE USER IF NOT EXISTS hearth_app@localhost IDENTIFIED BY 'change-me-app';
CREATE USER IF NOT EXISTS hearth_worker@localhost IDENTIFIED BY 'change-me-worker';

-- hearthctl makes tables and reads all; it changes rows only where mariadb-grants.sql allows it.
GRANT CREATE, ALTER, DROP, INDEX, REFERENCES, SELECT, INSERT ON hearth.* TO hearth_ctl@localhost;
GRANT CREATE, UPDATE ON hearth.schema_migrations TO hearth_ctl@localhost;
