# SPDX-License-Identifier: Apache-2.0
"""nats-server is stopped, and its JetStream folder is wiped: nothing that was accepted is lost."""
import time

import pytest

from harness import eventually

ALLOWED = [r"(?i)bus|nats|stream|publish|consumer|subscri|events?\b|no responders|connection"]


@pytest.fixture
def bus_stopped(stack):
    def stop():
        stack.nats.stop()
        eventually(lambda: stack.http.request("GET", "/healthz").status == 200)
    yield stop
    if not stack.nats.is_running():
        stack.nats.start()
    eventually(lambda: stack.http.request("GET", "/readyz").status == 200, 30)


def test_a_load_is_accepted_without_the_bus_and_succeeds_once_it_is_back(stack, org, bus_stopped):
    app = org.new_app(tier="hot")
    bus_stopped()
    started = time.monotonic()
    r = org.admin.lifecycle("load", app)
    assert time.monotonic() - started < 5
    assert r.status == 202 and r.json["published"] is False
    assert r.json["message"] != "Load event published"
    op = r.json["operation_id"]
    assert org.admin.operation(op)["state"] == "accepted"
    stack.nats.start()
    assert org.admin.ended(op, 40)["state"] == "succeeded"
    eventually(lambda: org.member.chat(app, "x").status == 200)


def test_the_same_with_a_wiped_jetstream_folder(stack, org, bus_stopped):
    before, during = org.new_app(tier="hot"), org.new_app(tier="hot")
    org.admin.load(before)
    bus_stopped()
    op = org.admin.lifecycle("load", during).json["operation_id"]
    stack.nats.wipe()
    stack.nats.start()
    assert org.admin.ended(op, 40)["state"] == "succeeded"
    for app in (before, during):
        eventually(lambda: org.member.chat(app, "x").status == 200)
    later = org.new_app(tier="hot")
    org.admin.load(later)


def test_a_jetstream_folder_wiped_behind_everybodys_back_heals(stack, org, bus_stopped):
    """The server comes back empty, with nothing accepted meanwhile: the next load finds no stream."""
    bus_stopped()
    stack.nats.wipe()
    stack.nats.start()
    app = org.new_app(tier="hot")
    r = org.admin.lifecycle("load", app)
    assert r.status == 202
    assert org.admin.ended(r.json["operation_id"], 40)["state"] == "succeeded"


def test_unload_and_reload_without_the_bus_are_done_by_reconcile_or_when_it_is_back(stack, org, bus_stopped):
    gone, anew = org.new_app(tier="hot"), org.new_app(tier="hot", config={"prefix": "a "})
    org.admin.load(gone)
    org.admin.load(anew)
    bus_stopped()
    unload = org.admin.lifecycle("unload", gone).json
    reload_ = org.admin.lifecycle("reload", anew).json
    assert unload["published"] is False and reload_["published"] is False
    stack.nats.start()
    for op in (unload, reload_):
        assert org.admin.ended(op["operation_id"], 40)["state"] == "succeeded"
    eventually(lambda: org.member.chat(anew, "x").status == 200)
    assert org.member.chat(gone).code == "instance_not_loaded"


def test_a_chat_without_the_bus_is_a_clear_503(stack, org, bus_stopped):
    hot, demand = org.new_app(tier="hot"), org.new_app()
    org.admin.load(hot)
    bus_stopped()
    for app in (hot, demand):
        r = org.member.chat(app)
        assert (r.status, r.code) == (503, "bus_unavailable"), r
    assert stack.http.request("GET", "/readyz").status == 503
    assert org.admin.app(hot)["name"]  # what needs no bus goes on
    pool = stack.pool()
    assert pool["bus"]["connected"] is False
    stack.nats.start()
    eventually(lambda: org.member.chat(hot).status == 200, 30)
    eventually(lambda: org.member.chat(demand).status == 200, 30)
    eventually(lambda: stack.pool()["bus"]["connected"], 20)


def test_a_stream_that_loses_the_bus_ends_with_an_error_event(stack, org, bus_stopped):
    app = org.new_app(tier="hot", config={"word_delay_ms": 100})
    org.admin.load(app)
    stream = org.member.chat_stream(app, "word " * 200)
    stream.first()
    bus_stopped()
    last = stream.rest()[-1]
    assert last.name == "error" and last.data["code"] == "bus_unavailable", last
    stack.nats.start()
    eventually(lambda: org.member.chat(app, "x").status == 200, 30)
    eventually(lambda: stack.pool()["turns_in_flight"] == 0, 30)


def test_no_program_was_restarted(stack):
    assert stack.app.is_running() and stack.worker.is_running()
    assert stack.db.value("SELECT COUNT(*) FROM operations WHERE is_open = 1") == "0"
