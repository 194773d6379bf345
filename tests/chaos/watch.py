# SPDX-License-Identifier: Apache-2.0
"""The database's own watch: triggers that look at every write of the programs, and note what must never be written.

A note is part of the transaction that makes it: what is rolled back was never written. The notes are read all the
time, and before a backup takes their place.
"""
import contextlib
import threading

POLL_S = 0.5

LIVE = "w.lease_until > UTC_TIMESTAMP(3) AND w.state = 'active'"
# Copies of one operation's App (DESIGN 4). A copy above the row's generation, of a restored backup, counts as below.
COPIES = ("FROM hearth.placements p JOIN hearth.orchestrator_instances i ON i.instance_id = p.instance_id LEFT JOIN hearth.workers w "
          "ON w.worker_id = p.worker_id AND w.incarnation = p.incarnation WHERE p.instance_id = {op}.instance_id AND ")
BELOW = "(p.generation < {op}.generation OR p.generation > i.generation)"
READY = (f"(SELECT COUNT(*) {COPIES} {LIVE} AND p.state = 'ready' AND COALESCE(p.reason, '') <> 'running_previous_version' "
         "AND p.generation >= {op}.generation AND p.generation <= i.generation)")
WANTED = ("GREATEST(1, LEAST((SELECT i.replicas FROM hearth.orchestrator_instances i WHERE i.instance_id = {op}.instance_id), "
          f"(SELECT COUNT(*) FROM hearth.workers w WHERE {LIVE})))")
FULFILLED = (f"(CASE {{op}}.action WHEN 'unload' THEN (SELECT COUNT(*) {COPIES} p.state <> 'failed' AND {BELOW}) = 0 "
             f"WHEN 'reload' THEN {READY} > 0 AND "
             f"(SELECT COUNT(*) {COPIES} w.worker_id IS NOT NULL AND p.state IN ('loading', 'ready') AND {BELOW}) = 0 "
             f"ELSE {READY} >= {WANTED} END)")

# A transaction may have read its incarnation just before that ended; one that began later cannot. trx_started has no fractions.
DEAD_WRITES = """
  IF (SELECT COUNT(*) FROM hearth.workers w WHERE w.worker_id = NEW.worker_id AND w.incarnation = NEW.incarnation) = 0
    AND COALESCE((SELECT MAX(e.ended_at) FROM chaos.ended e WHERE e.incarnation = NEW.incarnation), '2000-01-01') <
      (SELECT t.trx_started FROM information_schema.innodb_trx t WHERE t.trx_mysql_thread_id = CONNECTION_ID()) - INTERVAL 1 SECOND
  THEN INSERT INTO chaos.found (kind, text) VALUES ('written by a dead incarnation', CONCAT('placement of App ', NEW.instance_id,
    ' on ', NEW.worker_id, ', incarnation ', NEW.incarnation, ', ', NEW.state, ' at generation ', NEW.generation));
  END IF;"""
DOOMED = """
  IF NEW.state = 'ready' AND {changed} AND (SELECT COUNT(*) FROM hearth.orchestrator_instances i WHERE i.instance_id = NEW.instance_id
    AND i.status = 'active' AND i.deleted_at IS NULL AND NEW.generation BETWEEN i.unload_generation AND i.generation) = 0
  THEN INSERT INTO chaos.found (kind, text) VALUES ('ready but unloaded', CONCAT('placement of App ', NEW.instance_id, ' on ',
    NEW.worker_id, ' at generation ', NEW.generation));
  END IF;"""
SUCCEEDED = """
  IF NEW.state = 'succeeded' AND NOT """ + FULFILLED.format(op="NEW") + """
  THEN INSERT INTO chaos.found (kind, text) VALUES ('succeeded but not fulfilled', CONCAT(NEW.action, ' ', NEW.operation_id, ' of App ',
    NEW.instance_id, ', generation ', NEW.generation, '; copies ', COALESCE((SELECT GROUP_CONCAT(p.worker_id, ' ', p.state, ' ', p.generation)
    FROM hearth.placements p WHERE p.instance_id = NEW.instance_id), 'none')));
  END IF;"""

SETUP = """
CREATE DATABASE chaos;
CREATE TABLE chaos.found (number BIGINT AUTO_INCREMENT PRIMARY KEY, at DATETIME(3) NOT NULL DEFAULT UTC_TIMESTAMP(3),
  kind VARCHAR(100) NOT NULL, text TEXT NOT NULL) ENGINE=InnoDB;
CREATE TABLE chaos.ended (incarnation UUID NOT NULL, ended_at DATETIME(3) NOT NULL, KEY (incarnation)) ENGINE=InnoDB;
DELIMITER //
CREATE TRIGGER chaos_worker_updated AFTER UPDATE ON workers FOR EACH ROW
  IF NEW.incarnation <> OLD.incarnation THEN INSERT INTO chaos.ended VALUES (OLD.incarnation, UTC_TIMESTAMP(3)); END IF//
CREATE TRIGGER chaos_worker_deleted AFTER DELETE ON workers FOR EACH ROW
  INSERT INTO chaos.ended VALUES (OLD.incarnation, UTC_TIMESTAMP(3))//
CREATE TRIGGER chaos_placement_inserted AFTER INSERT ON placements FOR EACH ROW BEGIN""" + DEAD_WRITES + DOOMED.format(changed="TRUE") + """
END//
CREATE TRIGGER chaos_placement_updated AFTER UPDATE ON placements FOR EACH ROW BEGIN""" + DEAD_WRITES + DOOMED.format(
    changed="(OLD.state <> 'ready' OR OLD.generation <> NEW.generation)") + """
END//
CREATE TRIGGER chaos_operation_inserted AFTER INSERT ON operations FOR EACH ROW BEGIN""" + SUCCEEDED + """
END//
CREATE TRIGGER chaos_operation_updated AFTER UPDATE ON operations FOR EACH ROW BEGIN
  IF OLD.is_open IS NULL AND NEW.state <> OLD.state
  THEN INSERT INTO chaos.found (kind, text) VALUES ('ended operation has changed', CONCAT('operation ', NEW.operation_id, ' of App ',
    NEW.instance_id, ': ', OLD.state, ', then ', NEW.state));
  END IF;
  IF OLD.is_open = 1 THEN""" + SUCCEEDED + """
  END IF;
END//
CREATE TRIGGER chaos_instance_updated AFTER UPDATE ON orchestrator_instances FOR EACH ROW
  IF NEW.generation < OLD.generation OR NEW.unload_generation < OLD.unload_generation OR NEW.rebuild_generation < OLD.rebuild_generation
    OR GREATEST(NEW.unload_generation, NEW.rebuild_generation) > NEW.generation
  THEN INSERT INTO chaos.found (kind, text) VALUES ('a generation has fallen', CONCAT('App ', NEW.instance_id, ': ', OLD.generation, ' ',
    OLD.unload_generation, ' ', OLD.rebuild_generation, ', then ', NEW.generation, ' ', NEW.unload_generation, ' ', NEW.rebuild_generation));
  END IF//
DELIMITER ;
"""

# A demand load may be asked for in the moment in which its App becomes ready.
LEFT_OPEN = ("SELECT op.operation_id, op.instance_id, op.action, op.generation, op.source FROM hearth.operations op WHERE op.is_open = 1 "
             "AND op.accepted_at >= FROM_UNIXTIME({since}) AND op.source NOT IN ('demand', 'recovery') AND " + FULFILLED.format(op="op"))


class Watch:
    """Reads the notes."""

    def __init__(self, db, say):
        self.db, self.say = db, say
        self.found = {}  # by number; what a restored backup brings back is known already
        self.placed = {}  # worker -> ids of Apps, when last looked
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self.db.run(SETUP)
        self._thread.start()

    def stop(self):
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
            self._read_if_there()

    def read(self):
        with self._lock:
            for number, at, kind, text in self.db.run("SELECT number, at, kind, text FROM chaos.found ORDER BY number"):
                self._note((number, at), kind, f"{text}, at {at}")

    def look_for_left_open(self, since):
        """While no lease runs out: whoever fulfils an operation ends it in the same transaction."""
        for row in self.db.run("SET time_zone = '+00:00'; " + LEFT_OPEN.format(since=since)):
            self._note(row[0], "fulfilled but left open", f"{row}")

    def _note(self, key, kind, text):
        if key not in self.found:
            self.found[key] = kind, text
            self.say(f"{kind}: {text}")

    def _run(self):
        while not self._over.wait(POLL_S):
            self._read_if_there()

    def _read_if_there(self):
        with contextlib.suppress(AssertionError):  # MariaDB is away
            self.read()
            placed = {}
            for worker, app in self.db.run("SELECT worker_id, instance_id FROM placements"):
                placed.setdefault(worker, set()).add(app)
            self.placed = placed
