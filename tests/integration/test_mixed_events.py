# SPDX-License-Identifier: Apache-2.0
"""A thousand mixed events on 50 Apps in random order, some twice, late or forged: the pool ends as the rows say."""
import os
import queue
import random

from harness import Background, NatsClient, eventually

ALLOWED = [r"(?i)event"]  # broken events are logged
OPTIONS = {"app": {"threads_max": 128}, "worker": {"drain_s": 5}}
SEED = int(os.environ.get("HEARTH_TEST_SEED", "20260101"))
APPS, EVENTS, CLIENTS = 50, 1000, 8


class Mix:
    def __init__(self, stack):
        self.stack, self.org = stack, stack.new_org(quotas={"hot": 1000, "demand": 1000})
        self.random = random.Random(SEED)
        self.apps = [self.org.new_app(tier=self.random.choice(["hot", "demand"]), config={"prefix": "0 "}, ttl_seconds=600)
                     for _ in range(APPS)]
        self.unexpected, self.accepted = [], queue.SimpleQueue()

    def plan(self):
        """What to do, in an order that the seed gives."""
        kinds = ["load"] * 6 + ["unload"] * 3 + ["reload"] * 4 + ["config"] * 3 + ["tier"] * 3 + ["chat"] * 5 + ["bus"] * 3
        return [(self.random.choice(kinds), self.random.choice(self.apps), self.random.random()) for _ in range(EVENTS)]

    def do(self, nats, kind, app, x):
        admin = self.org.admin
        if kind == "bus":
            return self.on_the_bus(nats, app, x)
        if kind == "chat":
            r = self.org.member.chat(app, "x")
            good = r.status == 200 and r.json["response"].endswith(" x") or r.code in ("instance_not_loaded", "instance_loading")
        elif kind == "config":
            r = admin.patch(admin.app_path(app, "/config"), {"config": {"prefix": f"{x} ", "build_delay_ms": int(x * 30)}})
            good = r.status == 200
        elif kind == "tier":
            r = admin.patch(admin.app_path(app), {"tier": "hot" if x < 0.5 else "demand"})
            good = r.status == 200
        else:
            body = {"tier": "hot" if x < 0.15 else "demand"} if kind == "load" and x < 0.3 else None
            r = admin.lifecycle(kind, app, body)
            good = r.status == 202
            if good:
                self.accepted.put(r.json["operation_id"])
        if not good:
            self.unexpected.append((kind, r))

    def on_the_bus(self, nats, app, x):
        """An event of long ago, or one that never was: only a reason to look at the row again."""
        event = {"v": 1, "operation_id": app, "instance_id": app, "org_id": self.org.id, "action": "load" if x < 0.5 else "unload",
                 "tier": "hot" if x < 0.3 else "demand", "generation": int(x * 100), "source": "api_load", "request_id": "late", "more": [1]}
        subject = f"hearth.{'load' if x < 0.5 else 'change'}.{self.org.id}.{app}"
        for _ in range(2):
            nats.publish(subject, event if x > 0.1 else b'{"v":1,"broken"')
        assert nats.flush() == []

    def client(self, work):
        nats = NatsClient(self.stack, "app")
        while True:
            try:
                what = work.get_nowait()
            except queue.Empty:
                nats.close()
                return
            self.do(nats, *what)

    def run(self):
        work = queue.SimpleQueue()
        for what in self.plan():
            work.put(what)
        for client in [Background(self.client, work) for _ in range(CLIENTS)]:
            client.join(300)


def differences(stack, org):
    """Where the pool is not what the rows say."""
    wrong = []
    rows = stack.db.run("SELECT i.instance_id, i.tier, i.desired_state, i.generation, p.tier, p.generation, p.state, p.reason FROM "
                        f"orchestrator_instances i LEFT JOIN placements p USING (instance_id) WHERE i.org_id = '{org.id}'")
    for app, tier, desired, generation, p_tier, p_generation, p_state, reason in rows:
        if p_state is None:
            if tier == "hot" and desired == "loaded":
                wrong.append(f"{app} is hot and wanted, but nowhere")
        elif (p_state, p_tier, p_generation, reason) != ("ready", tier, generation, None):
            wrong.append(f"{app}: row {tier} {desired} {generation}, copy {p_tier} {p_generation} {p_state} {reason}")
        elif tier == "hot" and desired == "unloaded":
            wrong.append(f"{app} is hot and not wanted, but held")
    assert len(rows) == APPS, "an App has two copies"
    return wrong


def test_the_pool_ends_as_the_rows_say(stack):
    mix = Mix(stack)
    mix.run()
    assert not mix.unexpected, f"{len(mix.unexpected)}: {mix.unexpected[:5]} (seed {SEED})"
    eventually(lambda: stack.db.number("SELECT COUNT(*) FROM operations WHERE is_open = 1") == 0, 60,
               f"every operation is finished (seed {SEED})")

    def settled():
        wrong = differences(stack, mix.org)
        assert not wrong, f"{wrong} (seed {SEED})"
        return True

    eventually(settled, 30)
    states = dict(stack.db.run(f"SELECT state, COUNT(*) FROM operations WHERE org_id = '{mix.org.id}' GROUP BY state"))
    assert set(states) <= {"succeeded", "superseded"}, states
    while not mix.accepted.empty():
        assert stack.db.value(f"SELECT state FROM operations WHERE operation_id = '{mix.accepted.get()}'") in ("succeeded", "superseded")

    def statistics_equal_placements():
        pool = stack.next_flush()
        held = dict(stack.db.run("SELECT tier, COUNT(*) FROM placements WHERE state = 'ready' GROUP BY tier"))
        assert (pool["hot_tier_count"], pool["demand_tier_count"]) == (int(held.get("hot", 0)), int(held.get("demand", 0)))
        assert pool["loading_count"] == pool["failed_count"] == pool["turns_in_flight"] == 0
        return True

    # One flush; but a statement about two moments may need a second look.
    eventually(statistics_equal_placements, 15)
    # And what is held serves, with the configuration of its row.
    for app, config in stack.db.run("SELECT instance_id, JSON_VALUE(config, '$.prefix') FROM orchestrator_instances JOIN placements "
                                    f"USING (instance_id) WHERE org_id = '{mix.org.id}'".replace("org_id", "placements.org_id")):
        assert mix.org.member.chat_ok(app, "x") == f"{config}x"
