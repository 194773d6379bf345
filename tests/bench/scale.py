# SPDX-License-Identifier: Apache-2.0
"""Many Apps at once, and the scenarios that need them; used by the bench and by test_scale.py.

Apps makes rows by SQL and sends events straight to NATS: what is made is what the
programs would have made for as many accepted requests. The scenarios return what
they saw and fail where a promise is broken.
"""
import itertools
import json
import os
import threading
import time

import load
from harness import Background, NatsClient, eventually

BIG_QUOTAS = {"instances": 4000000, "hot": 4000000, "demand": 4000000}

_blocks = itertools.count(1)


class Apps:
    """n registered Apps of one org, copies of one that HTTP has made. Ids are number 1 to n of a block of their own."""

    def __init__(self, stack, org, n, tier="hot", **fields):
        self.stack, self.org, self.n, self.tier = stack, org, n, tier
        self.block, self.generation = next(_blocks), 1
        pattern = org.new_app(tier=tier, **fields)
        stack.db.run(
            "INSERT INTO orchestrator_instances (instance_id, org_id, name, framework_type, mode, status, tier,"
            " desired_state, config, config_hash, llm_config_id, active_plugin_ids, created_at, updated_at)"
            f" SELECT {self._id('0193')}, org_id, CONCAT('bulk-{self.block}-', seq), framework_type, mode, status, tier,"
            " 'unloaded', config, config_hash, llm_config_id, active_plugin_ids, created_at, updated_at"
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

    def accept(self, action):
        """The rows of one accepted load or unload of each App. Recovery publishes none of them for a minute."""
        self.generation += 1
        wanted = {"load": "desired_state = 'loaded'",
                  "unload": f"desired_state = 'unloaded', unload_generation = {self.generation}"}[action]
        self.stack.db.run(f"""
            START TRANSACTION;
            UPDATE orchestrator_instances SET {wanted}, generation = {self.generation} WHERE instance_id {self.is_mine};
            INSERT INTO operations (operation_id, instance_id, org_id, action, tier, generation, source, state,
             request_id, next_publish_at, accepted_at)
             SELECT {self._id(self._operation)}, {self._id('0193')}, '{self.org.id}', '{action}', '{self.tier}',
             {self.generation}, 'api_{action}', 'accepted', 'bulk', UTC_TIMESTAMP(3) + INTERVAL 60 SECOND,
             UTC_TIMESTAMP(3) FROM seq_1_to_{self.n};
            COMMIT;""")

    @property
    def _operation(self):
        return f"{0x1000 + self.generation:04x}"

    def publish(self, action):
        """Their events, as the application publishes them; loads: returns once the stream has all of them."""
        kind = "load" if action == "load" else "change"
        before = self._last_sequence()
        client = NatsClient(self.stack, "app")
        for i in range(1, self.n + 1):
            event = json.dumps({"v": 1, "operation_id": self.id(i, self._operation), "instance_id": self.id(i),
                                "org_id": self.org.id, "action": action, "tier": self.tier,
                                "generation": self.generation, "source": f"api_{action}",
                                "request_id": "bulk"}).encode()
            head = f"NATS/1.0\r\nNats-Msg-Id: {self.id(i, self._operation)}\r\n\r\n".encode()
            client.socket.sendall(b"HPUB hearth.%s.%s.%s %d %d\r\n%s%s\r\n" % (
                kind.encode(), self.org.id.encode(), self.id(i).encode(), len(head), len(head) + len(event), head,
                event))
        errors = client.flush()
        client.close()
        assert not errors, errors
        if kind == "load":
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
        self.accept("load")
        self.publish("load")
        self.wait_ready(timeout)

    def unload(self, timeout=300):
        self.accept("unload")
        self.publish("unload")
        eventually(lambda: self.open_operations() == 0, timeout, f"{self.n} Apps are unloaded", every=0.25)
        left = self.stack.db.run(f"SELECT state, COUNT(*) FROM placements WHERE instance_id {self.is_mine} GROUP BY 1")
        assert not left, left

    def forget(self):
        """No longer wanted, and held by nobody; only while no worker runs."""
        self.stack.db.run(f"""
            UPDATE orchestrator_instances SET desired_state = 'unloaded' WHERE instance_id {self.is_mine};
            DELETE FROM placements WHERE instance_id {self.is_mine};""")


# --- what a process costs ---


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))


def descriptors(stack, program, user):
    """Without its connections to MariaDB, which are opened when they are needed, up to a fixed number."""
    connections = stack.db.number(f"SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{user}'")
    return len(os.listdir(f"/proc/{program.pid}/fd")) - connections


# --- scenarios ---


class Reloads:
    """Explicit reloads, one after the other per App, until they are told to end and enough were made."""

    def __init__(self, org, apps, at_least):
        self.org, self.at_least, self.count, self.over = org, at_least, 0, False
        self.lock = threading.Lock()
        self.threads = [Background(self._run, app) for app in apps]

    def _run(self, app):
        while not (self.over and self.count >= self.at_least):
            r = self.org.admin.lifecycle("reload", app, wait=60)
            assert r.status == 200 and r.json["state"] == "succeeded", r
            with self.lock:
                self.count += 1

    def is_alive(self):
        return all(t.is_alive() for t in self.threads)

    def end(self):
        self.over = True
        for t in self.threads:
            t.join(600)
        return self.count


def reloads_under_chat(stack, org, reloads=1000, turns=50000, clients=8):
    """Reloads of eight Apps while wrk chats with them, until both counts are reached.

    Returns (turns, failed turns, seconds, reloads)."""
    apps = [org.new_app(tier="hot") for _ in range(8)]
    for app in apps:
        org.admin.load(app)
    done, failed, seconds = 0, 0, 0
    making = Reloads(org, apps, reloads)
    while done < turns or (making.count < reloads and making.is_alive()):
        r = load.chat(org, apps).start(stack.lighttpd.port, clients, 5).result()
        done, failed, seconds = done + r.requests, failed + r.refused + r.broken, seconds + r.seconds
    return done, failed, seconds, making.end()


def worker_killed(stack, org, n, load_timeout=600):
    """n hot Apps on one worker; it is killed while further loads of them are accepted; a second one takes over.

    Returns (seconds from the kill until all are ready there, accepted operations). None may be lost or fail."""
    apps = Apps(stack, org, n)
    apps.load(load_timeout)
    assert apps.ready(stack.worker.worker_id) == n
    second = stack.add_worker("w2")
    accepting = load.lifecycle(org, "load", apps.ids).start(stack.lighttpd.port, 4, 2)
    before = stack.db.number("SELECT COUNT(*) FROM operations")
    eventually(lambda: stack.db.number("SELECT COUNT(*) FROM operations") > before, what="loads are accepted")
    killed_at = time.monotonic()
    stack.worker.kill()
    answers = accepting.result()
    assert answers.refused == 0 and answers.broken == 0, answers
    apps.wait_ready(load_timeout, second.worker_id)
    seconds = time.monotonic() - killed_at
    accepted = stack.db.number("SELECT COUNT(*) FROM operations WHERE request_id <> 'bulk' AND source = 'api_load'")
    assert accepted >= answers.requests, f"{answers.requests} were answered 202, {accepted} are known"
    ends = stack.db.run("SELECT state, COUNT(*) FROM operations GROUP BY state")
    assert [state for state, _ in ends] == ["succeeded"], ends
    return seconds, answers.requests


class Held:
    """What worker and nats-server hold when all is quiet."""

    def __init__(self, stack):
        varz = stack.nats.look("/varz")
        self.rss_kib = rss_kib(stack.worker.pid)
        self.descriptors = (descriptors(stack, stack.worker, "hearth_worker"),
                            descriptors(stack, stack.app, "hearth_app"))
        self.nats_subscriptions, self.nats_connections = varz["subscriptions"], varz["connections"]
        self.nats_mib = varz["mem"] / 2**20

    def __repr__(self):
        return (f"worker {self.rss_kib} KiB, descriptors {self.descriptors}, nats-server: {self.nats_subscriptions}"
                f" subscriptions, {self.nats_connections} connections, {self.nats_mib:.1f} MiB")


def load_cycles(stack, org, at_once, rounds, timeout=300):
    """Loads and unloads of so many Apps at once, so many times, after two rounds that warm up. Returns what was held
    before and after."""
    apps = Apps(stack, org, at_once)
    first = None
    for i in range(2 + rounds):
        first = Held(stack) if i == 2 else first
        apps.load(timeout)
        apps.unload(timeout)
    return first, Held(stack)
