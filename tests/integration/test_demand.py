# SPDX-License-Identifier: Apache-2.0
"""Demand Apps: first chats at once make one load, idle ones leave, the next chat loads them again."""
import time

from harness import Background, at_once, eventually, text_of

OPTIONS = {"app": {"threads_max": 320, "database_connections": 16}}


def loads(org, app):
    return [op for op in org.admin.operations(app) if op["action"] == "load"]


def test_a_hundred_first_chats_at_once_make_one_load_and_all_are_answered(stack, org):
    app = org.new_app(config={"prefix": "p ", "build_delay_ms": 500})
    answers = at_once(*[lambda i=i: org.member.chat(app, str(i)) for i in range(100)])
    assert [(r.status, r.json.get("response")) for r in answers] == [(200, f"p {i}") for i in range(100)]
    # A chat that found nobody just before it was ready may ask once more, and is told that it is there.
    ops = eventually(lambda: (found := loads(org, app)) and all(op["finished_at"] for op in found) and found)
    assert {(op["source"], op["state"]) for op in ops} == {("demand", "succeeded")}
    assert len([op for op in ops if op["started_at"]]) == 1, ops
    stack.next_flush()
    assert stack.db.run(f"SELECT loads, cold_starts, turns FROM instance_stats WHERE instance_id = '{app}'") == [["1", "1", "100"]]
    op = org.admin.lifecycle("unload", app).json["operation_id"]
    assert org.admin.ended(op)["state"] == "succeeded"
    op = org.admin.lifecycle("load", app).json["operation_id"]  # for nobody that waits
    assert org.admin.ended(op)["state"] == "succeeded"
    stack.next_flush()
    assert stack.db.run(f"SELECT loads, cold_starts FROM instance_stats WHERE instance_id = '{app}'") == [["2", "1"]]


def test_first_chats_join_a_load_that_was_asked_for_already(stack, org):
    app = org.new_app(config={"build_delay_ms": 500})
    op = org.admin.lifecycle("load", app).json["operation_id"]
    assert all(r.status == 200 for r in at_once(*[lambda: org.member.chat(app)] * 10))
    assert org.admin.ended(op)["state"] == "succeeded"
    stack.next_flush()
    assert stack.db.value(f"SELECT loads FROM instance_stats WHERE instance_id = '{app}'") == "1"


def test_an_idle_app_leaves_after_its_ttl_and_the_next_chat_loads_it_again(stack, org):
    app = org.new_app(ttl_seconds=1, config={"prefix": "p "})
    assert org.member.chat_ok(app, "a") == "p a"
    eventually(lambda: stack.placements(app) == [], 20)
    assert org.admin.app(app)["state"] == "unloaded"
    assert org.member.chat_ok(app, "b") == "p b"
    assert len(loads(org, app)) == 2
    eventually(lambda: stack.placements(app) == [], 20)
    eventually(lambda: stack.db.value(f"SELECT evicted_idle FROM instance_stats WHERE instance_id = '{app}'") == "2", 10)


def test_the_orgs_ttl_counts_where_the_app_has_none(stack):
    org = stack.new_org(ttl_seconds=1)
    short, long_ = org.new_app(), org.new_app(ttl_seconds=600)
    org.member.chat_ok(short)
    org.member.chat_ok(long_)
    eventually(lambda: stack.placements(short) == [], 20)
    assert stack.placements(long_) != []


def test_a_stream_longer_than_the_ttl_holds_the_app_to_its_last_byte(stack, org):
    app = org.new_app(ttl_seconds=3, config={"word_delay_ms": 100})
    words = " ".join(f"w{i}" for i in range(70))
    stream = org.member.chat_stream(app, words)
    stream.first()
    reader = Background(stream.rest)
    while reader.is_alive():
        # Looking touches no TTL, and the copy is there as long as the stream.
        assert org.admin.app(app)["is_ready"] or not reader.is_alive()
    assert text_of(reader.join()) == words
    eventually(lambda: stack.placements(app) == [], 20)


def test_looking_at_an_app_does_not_keep_it(stack, org):
    app = org.new_app(ttl_seconds=2)
    org.member.chat_ok(app)
    started = time.monotonic()
    while org.admin.app(app)["state"] != "unloaded":
        stack.pool()
        org.admin.get(f"/api/orgs/{org.id}/orchestrators")
        assert time.monotonic() - started < 20, "listings keep it from leaving"


def test_chats_right_at_the_end_of_the_ttl_are_answered(stack, org):
    """A request that meets the eviction is served by the leaving copy or waits for the next load; none fails."""
    app = org.new_app(ttl_seconds=1)
    for i in range(6):
        assert org.member.chat_ok(app, "a") == "a"
        last = time.monotonic()
        eventually(lambda: time.monotonic() - last > 0.9 + i * 0.04, 5)
        assert org.member.chat_ok(app, "b") == "b"


def test_a_load_call_loads_a_demand_app_before_its_first_chat(org):
    app = org.new_app()
    org.admin.load(app)
    assert org.admin.app(app)["is_ready"]
    org.member.chat_ok(app)
    assert len(loads(org, app)) == 1


def test_a_build_that_keeps_failing_is_not_tried_by_every_chat(stack, org):
    stack.allow("App failed .*never")
    app = org.new_app(config={"build_fail": "never"})
    answers = at_once(*[lambda: org.member.chat(app)] * 20)
    assert all((r.status, r.code) == (503, "instance_failed") for r in answers), answers
    answers = [org.member.chat(app) for _ in range(10)]
    assert all(r.code == "instance_failed" for r in answers)
    stack.next_flush()
    assert stack.db.number(f"SELECT failed_builds FROM instance_stats WHERE instance_id = '{app}'") <= 4
    org.admin.configure(app, prefix="now ")  # a new version has no backoff
    assert org.member.chat_ok(app, "x") == "now x"


def test_one_copy_of_several_is_enough_for_the_chat_that_waits(stack, org):
    """A worker that only seems to live: the load wants a copy there too, and stays open."""
    stack.db.run("INSERT INTO workers (worker_id, incarnation, process_id, host, machine_id, lease_until, hot_ceiling, demand_ceiling, "
                 "started_at) VALUES ('ghost', UUID(), UUID(), 'ghost', 'ghost', UTC_TIMESTAMP(3) + INTERVAL 1 HOUR, 9, 9, UTC_TIMESTAMP(3))")
    try:
        app = org.new_app(replicas=2)
        assert org.member.chat_ok(app, "x") == "x"
        assert [o["state"] for o in org.admin.operations(app)] == ["running"]
    finally:
        stack.db.run("DELETE FROM workers WHERE worker_id = 'ghost'")
    eventually(lambda: [o["state"] for o in org.admin.operations(app)] == ["succeeded"])
