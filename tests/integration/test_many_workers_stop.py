# SPDX-License-Identifier: Apache-2.0
"""Workers that stop hand their hot Apps over: one after the other, all at once, the last one; no turn fails."""
import pytest

from harness import Background, eventually, text_of

# A stop that waited for its deadline would hang here.
OPTIONS = {"nats_nodes": 3, "workers": 3, "worker": {"drain_s": 600}}
ALLOWED = []


@pytest.fixture
def org(stack, passing_org):
    """Each test begins and ends with all three workers."""
    for worker in stack.workers:
        if not worker.is_running():
            worker.start()
    stack.wait_all_ask()
    yield passing_org
    eventually(stack.nothing_is_open, 40)


class Load:
    """Clients that chat all the time with all Apps, one after the other; leaves with what was not answered by 200.

    In a cluster NATS drops a request that another node has sent on its way when the copy leaves: now and then one turn is
    told so, after 2 s.
    """

    def __init__(self, org, apps, clients=4):
        self.org, self.apps, self.count, self.is_over = org, apps, 0, False
        self.failed, self.dropped = [], []
        self.clients = [Background(self.ask, i) for i in range(clients)]

    def ask(self, i):
        while not self.is_over:
            app = self.apps[i % len(self.apps)]
            r = self.org.member.chat(app, f"turn {i}")
            if r.status != 200 or r.json["response"] != f"turn {i}":
                (self.dropped if r.code == "worker_unresponsive" else self.failed).append((app, r))
            self.count += 1
            i += 1

    def goes_on(self, turns=40):
        until = self.count + turns
        eventually(lambda: self.count >= until, 60)

    def __enter__(self):
        self.goes_on()
        return self

    def __exit__(self, *_):
        self.is_over = True
        for c in self.clients:
            c.join()


def test_a_worker_stopped_under_load_hands_its_hot_apps_over_and_no_turn_fails(stack, org):
    apps = org.hot_apps(12)
    leaving, mine = stack.busiest(apps)
    with Load(org, apps) as load:
        assert leaving.stop() == 0
        load.goes_on()
    assert load.failed == [] and len(load.dropped) <= 2, load.dropped
    assert mine and not any(leaving.worker_id in stack.holders(app) for app in apps)
    for app in mine:
        assert [o["state"] for o in org.admin.operations(app) if o["source"] == "recovery"] == ["succeeded"]


def test_a_stop_in_the_middle_of_a_load_fails_no_turn_either(stack, org):
    """The App has an open load already, so that no recovery operation is made: it must be waited for all the same."""
    app, = org.hot_apps(1, config={"build_delay_ms": 1500})
    leaving, _ = stack.busiest([app])
    with Load(org, [app]) as load:
        op = org.admin.lifecycle("reload", app).json["operation_id"]
        assert leaving.stop() == 0
        load.goes_on()
    assert load.failed == [] and len(load.dropped) <= 2, load.dropped
    assert org.admin.ended(op, 40)["state"] in ("succeeded", "superseded")


def test_a_rolling_restart_of_all_workers_under_load_fails_no_turn(stack, org):
    apps = org.hot_apps(12) + org.hot_apps(2, replicas=2)
    with Load(org, apps) as load:
        for worker in stack.workers:
            assert worker.stop() == 0
            worker.start()
            load.goes_on()
    assert load.failed == [] and len(load.dropped) <= 2, load.dropped


def test_demand_apps_are_not_handed_over_and_the_next_chat_loads_them_elsewhere(stack, org):
    apps = [org.new_app() for _ in range(6)]
    for app in apps:
        org.member.chat_ok(app)
    leaving, mine = stack.busiest(apps)
    with Load(org, apps) as load:
        assert leaving.stop() == 0
        load.goes_on()
    assert load.failed == [] and len(load.dropped) <= 2, load.dropped
    assert not any(o["source"] == "recovery" for app in mine for o in org.admin.operations(app))
    for app in apps:
        assert org.member.chat_ok(app, "x") == "x"
        assert leaving.worker_id not in stack.holders(app)


def test_a_stopping_worker_finishes_its_stream_and_is_shown_as_leaving(stack, org):
    app, = org.hot_apps(1, config={"word_delay_ms": 100})
    leaving, _ = stack.busiest([app])
    words = " ".join(f"w{i}" for i in range(80))
    stream = org.member.chat_stream(app, words)
    stream.first()
    stopping = Background(leaving.stop)
    shown = eventually(lambda: next((w for w in stack.pool()["workers"] if w["worker_id"] == leaving.worker_id
                                     and w["state"] == "leaving"), None), 20)
    assert shown["lease_age_ms"] < 4000
    assert any(leaving.worker_id in line and "leaving" in line for line in stack.ctl("status").splitlines())
    assert text_of(stream.rest()) == words
    assert stopping.join() == 0
    assert all(w["worker_id"] != leaving.worker_id for w in stack.pool()["workers"])


def test_workers_that_stop_all_at_once_do_not_wait_for_each_other(stack, org):
    apps = org.hot_apps(9)
    for worker in stack.workers:
        worker.begin_stop()
    for worker in stack.workers:
        assert worker.stop() == 0
    assert stack.db.number("SELECT COUNT(*) FROM workers") == 0
    for app in apps:
        assert org.member.chat(app).code == "instance_not_loaded"
    for worker in stack.workers:
        worker.start()
    for app in apps:
        eventually(lambda: org.member.chat(app, "x").status == 200, 40)


def test_the_last_worker_finishes_its_turns_and_leaves_at_once(stack, org):
    last, *others = stack.workers
    for other in others:
        assert other.stop() == 0
    app, = org.hot_apps(1, config={"word_delay_ms": 50})
    words = " ".join(f"w{i}" for i in range(30))
    stream = org.member.chat_stream(app, words)
    stream.first()
    assert last.stop() == 0
    assert text_of(stream.rest()) == words
    shown = org.admin.app(app)
    assert (shown["state"], shown["desired_state"]) == ("unloaded", "loaded")
    others[0].start()
    eventually(lambda: org.member.chat(app, "x").status == 200, 40)
