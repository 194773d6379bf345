# SPDX-License-Identifier: Apache-2.0
"""The worker is killed with SIGKILL, stopped with SIGTERM, or frozen: operations succeed after its restart, the hot set is back."""

import pytest

from harness import Background, eventually

ALLOWED = [r"(?i)lease|incarnation|recover|declared dead|reap|unfinished|attempt|no responders|worker_unresponsive|silence|instance_not_loaded"]


@pytest.fixture
def worker(stack):
    yield stack.worker
    stack.worker.thaw() if stack.worker.is_running() else stack.worker.start()
    eventually(stack.worker.incarnation, 30)


def building(stack, app):
    """The App's build has begun in the living incarnation."""
    now = stack.worker.incarnation()
    return now and stack.db.value(f"SELECT 1 FROM placements WHERE instance_id = '{app}' AND state = 'loading' AND incarnation = '{now}'")


def test_killed_in_mid_build_the_operation_succeeds_after_the_restart_and_the_hot_set_is_back(stack, org, worker):
    hot = [org.new_app(tier="hot", config={"prefix": f"{i} "}) for i in range(5)]
    for app in hot:
        org.admin.load(app)
    slow = org.new_app(tier="hot", config={"build_delay_ms": 4000})
    op = org.admin.lifecycle("load", slow).json["operation_id"]
    eventually(lambda: building(stack, slow))
    assert org.admin.operation(op)["state"] == "running"
    worker.kill()
    stack.wait_off_the_bus(worker)
    for app in hot:
        r = org.member.chat(app)
        assert (r.status, r.code) == (503, "instance_not_loaded"), r
    worker.start()
    op = org.admin.ended(op, 40)
    assert op["state"] == "succeeded", op
    for i, app in enumerate(hot):
        eventually(lambda: org.member.chat(app, "x").status == 200, 30)
        assert org.member.chat_ok(app, "x") == f"{i} x"
        assert [o["state"] for o in org.admin.operations(app) if o["source"] == "recovery"] == ["succeeded"]


def test_a_demand_app_is_not_restored_but_loaded_by_the_next_chat(stack, org, worker):
    app = org.new_app()
    org.member.chat_ok(app)
    worker.kill()
    worker.start()
    eventually(lambda: stack.placements(app) == [], 20)
    assert org.admin.app(app)["state"] == "unloaded"
    assert org.member.chat_ok(app, "x") == "x"


def test_a_stream_whose_worker_dies_ends_with_an_error_event(stack, org, worker):
    app = org.new_app(tier="hot", config={"word_delay_ms": 100})
    org.admin.load(app)
    stream = org.member.chat_stream(app, "word " * 300, timeout=90)
    stream.first()
    worker.kill()
    reader = Background(stream.rest)
    worker.start()
    last = reader.join(60)[-1]
    assert last.name == "error" and last.data["code"] == "worker_unresponsive", last


def test_sigterm_ends_turns_in_flight_and_the_hot_set_is_back_after_the_start(stack, org, worker):
    app = org.new_app(tier="hot", config={"word_delay_ms": 50})
    org.admin.load(app)
    stream = org.member.chat_stream(app, "word " * 30)
    stream.first()
    stopping = Background(worker.stop)
    events = stream.rest()
    assert events[-1].data.get("done") is True, events[-1]
    assert stopping.join() == 0
    assert stack.db.number("SELECT COUNT(*) FROM workers") == 0
    shown = org.admin.app(app)
    assert (shown["state"], shown["desired_state"]) == ("unloaded", "loaded")
    worker.start()
    eventually(lambda: org.member.chat(app, "x").status == 200, 30)


def test_sigterm_in_mid_build_gives_the_attempt_back(stack, org, worker):
    app = org.new_app(tier="hot", config={"build_delay_ms": 4000})
    op = org.admin.lifecycle("load", app).json["operation_id"]
    eventually(lambda: building(stack, app))
    assert worker.stop() == 0
    assert stack.db.value(f"SELECT attempts FROM orchestrator_instances WHERE instance_id = '{app}'") == "0"
    assert org.admin.operation(op)["state"] in ("accepted", "running")
    worker.start()
    assert org.admin.ended(op, 40)["state"] == "succeeded"


def test_frozen_for_longer_than_a_lease_it_registers_anew_and_holds_the_hot_set_again(stack, org, worker):
    """Alone in the pool nobody reaps it; with a second worker its Apps move there."""
    stack.allow("bus lost")  # the server has cut it off, since it answered no ping
    apps = [org.new_app(tier="hot") for _ in range(4)]
    for app in apps:
        org.admin.load(app)
    second = stack.add_worker("w2")
    before = worker.incarnation()
    worker.freeze()
    try:
        for app in apps:
            eventually(lambda: [p[0] for p in stack.placements(app) if p[3] == "ready"] == ["w2"], 40)
            eventually(lambda: org.member.chat(app, "x").status == 200, 30)
    finally:
        worker.thaw()
    eventually(lambda: worker.incarnation() not in (None, before), 30, "it has registered anew")
    assert second.stop() == 0
    stack.more_workers.remove(second)
    for app in apps:
        eventually(lambda: [p[0] for p in stack.placements(app) if p[3] == "ready"] == ["w1"], 40)
        eventually(lambda: org.member.chat(app, "x").status == 200, 30)


def test_nothing_is_left_open(stack):
    eventually(lambda: stack.db.number("SELECT COUNT(*) FROM operations WHERE is_open = 1") == 0, 40)
