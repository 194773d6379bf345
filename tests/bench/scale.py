# SPDX-License-Identifier: Apache-2.0
"""Many Apps at once, without HTTP: rows by SQL, events straight to NATS.

What is made here is what the programs would have made: rows, open operations and
events as after as many accepted loads. Used by the bench and by test_scale.py.
"""
import itertools
import json

from harness import NatsClient, eventually

_blocks = itertools.count(1)


class Apps:
    """n registered Apps of one org, copies of one that HTTP has made. Ids are number 1 to n of a block of their own."""

    def __init__(self, stack, org, n, tier="hot", config=None):
        self.stack, self.org, self.n, self.tier = stack, org, n, tier
        self.block = next(_blocks)
        pattern = org.new_app(tier=tier, config=config)
        stack.db.run(
            "INSERT INTO orchestrator_instances (instance_id, org_id, name, framework_type, mode, status, tier,"
            " desired_state, config, config_hash, active_plugin_ids, created_at, updated_at)"
            f" SELECT {self._id('0193')}, org_id, CONCAT('bulk-{self.block}-', seq), framework_type, mode, status, tier,"
            " 'unloaded', config, config_hash, active_plugin_ids, created_at, updated_at"
            f" FROM seq_1_to_{n}, orchestrator_instances WHERE instance_id = '{pattern}'")

    def _id(self, head):
        return f"CONCAT('{head}{self.block:04x}-0000-7000-8000-', LPAD(LOWER(HEX(seq)), 12, '0'))"

    def id(self, i, head="0193"):
        return f"{head}{self.block:04x}-0000-7000-8000-{i:012x}"

    @property
    def ids(self):
        return [self.id(i) for i in range(1, self.n + 1)]

    @property
    def is_mine(self):
        """As a condition on instance_id."""
        return f"BETWEEN '{self.id(0)}' AND '{self.id(self.n)}'"

    def accept_loads(self):
        """The rows of one accepted load of each App. Recovery publishes none of them for a minute."""
        self.stack.db.run(f"""
            START TRANSACTION;
            UPDATE orchestrator_instances SET desired_state = 'loaded', generation = 2 WHERE instance_id {self.is_mine};
            INSERT INTO operations (operation_id, instance_id, org_id, action, tier, generation, source, state,
             request_id, next_publish_at, accepted_at)
             SELECT {self._id('0194')}, {self._id('0193')}, '{self.org.id}', 'load', '{self.tier}', 2, 'api_load',
             'accepted', 'bulk', UTC_TIMESTAMP(3) + INTERVAL 60 SECOND, UTC_TIMESTAMP(3) FROM seq_1_to_{self.n};
            COMMIT;""")

    def publish(self):
        """Their events, as the application publishes them; returns once the stream has all of them."""
        before = self._last_sequence()
        client = NatsClient(self.stack, "app")
        for i in range(1, self.n + 1):
            event = json.dumps({"v": 1, "operation_id": self.id(i, "0194"), "instance_id": self.id(i),
                                "org_id": self.org.id, "action": "load", "tier": self.tier, "generation": 2,
                                "source": "api_load", "request_id": "bulk"}).encode()
            head = f"NATS/1.0\r\nNats-Msg-Id: {self.id(i, '0194')}\r\n\r\n".encode()
            client.socket.sendall(b"HPUB hearth.load.%s.%s %d %d\r\n%s%s\r\n" % (
                self.org.id.encode(), self.id(i).encode(), len(head), len(head) + len(event), head, event))
        errors = client.flush()
        client.close()
        assert not errors, errors
        eventually(lambda: self._last_sequence() >= before + self.n, 60, "the stream has all events")

    def _last_sequence(self):
        streams = self.stack.nats.look("/jsz?streams=true")["account_details"][0]["stream_detail"]
        return next(s["state"]["last_seq"] for s in streams if s["name"] == "HEARTH_LOADS")

    def open_operations(self):
        return self.stack.db.number(
            f"SELECT COUNT(*) FROM operations WHERE is_open = 1 AND instance_id {self.is_mine}")

    def ready(self, worker=None):
        who = f" AND worker_id = '{worker}'" if worker else ""
        return self.stack.db.number(
            f"SELECT COUNT(*) FROM placements WHERE state = 'ready' AND instance_id {self.is_mine}{who}")

    def wait_ready(self, timeout=300, worker=None):
        """Every App is ready and no operation of theirs is open or has failed."""
        eventually(lambda: self.open_operations() == 0 and self.ready(worker) == self.n, timeout,
                   f"{self.n} Apps are ready", every=0.25)
        failed = self.stack.db.run("SELECT reason, COUNT(*) FROM operations WHERE state = 'failed' AND"
                                   f" instance_id {self.is_mine} GROUP BY reason")
        assert not failed, failed

    def load(self, timeout=300):
        self.accept_loads()
        self.publish()
        self.wait_ready(timeout)

    def forget(self):
        """No longer wanted, and held by nobody; only while no worker runs."""
        self.stack.db.run(f"""
            UPDATE orchestrator_instances SET desired_state = 'unloaded' WHERE instance_id {self.is_mine};
            DELETE FROM placements WHERE instance_id {self.is_mine};""")
