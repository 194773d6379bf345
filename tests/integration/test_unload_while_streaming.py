# SPDX-License-Identifier: Apache-2.0
"""Unload while a stream runs: the stream ends whole, then the App is gone."""
import time

import pytest

from harness import Background, eventually, text_of

WORDS = " ".join(f"w{i}" for i in range(60))


@pytest.mark.parametrize("tier", ["hot", "demand"])
def test_the_stream_ends_whole_and_the_operation_after_it(stack, org, tier):
    app = org.new_app(tier=tier, config={"word_delay_ms": 100})
    org.admin.load(app)
    stream = org.member.chat_stream(app, WORDS)
    stream.first()
    op = org.admin.lifecycle("unload", app).json["operation_id"]
    eventually(lambda: stack.placements(app)[0][3] == "draining")
    assert org.admin.operation(op)["state"] in ("accepted", "running")
    assert org.admin.app(app)["state"] == "draining"
    events = stream.rest()
    assert events[-1].data.get("done") is True, events[-1]
    assert text_of(events) == WORDS
    assert org.admin.ended(op)["state"] == "succeeded"
    assert stack.placements(app) == []


def test_a_chat_after_the_unload_is_refused_while_the_old_stream_runs_on(stack, org):
    app = org.new_app(tier="hot", config={"word_delay_ms": 100})
    org.admin.load(app)
    stream = org.member.chat_stream(app, WORDS)
    stream.first()
    op = org.admin.lifecycle("unload", app).json["operation_id"]
    eventually(lambda: org.member.chat(app).code == "instance_not_loaded")
    assert org.admin.operation(op)["state"] in ("accepted", "running")
    assert text_of(stream.rest()) == WORDS
    assert org.admin.ended(op)["state"] == "succeeded"


def test_drain_s_0_cuts_the_stream_at_once(stack, org):
    app = org.new_app(tier="hot", config={"word_delay_ms": 1000})
    org.admin.load(app)
    stream = org.member.chat_stream(app, WORDS)
    stream.first()
    started = time.monotonic()
    org.admin.unload(app, {"drain_s": 0})
    last = stream.rest()[-1]
    assert time.monotonic() - started < 10
    assert last.name == "error" and (last.data["status"], last.data["code"]) == (503, "instance_not_loaded"), last


def test_a_plain_chat_that_is_cut_is_told_that_the_app_was_unloaded(stack, org):
    app = org.new_app(tier="hot", config={"word_delay_ms": 1000})
    org.admin.load(app)
    chat = Background(org.member.chat, app, WORDS)
    eventually(lambda: stack.pool()["turns_in_flight"] == 1, 20)
    org.admin.unload(app, {"drain_s": 0})
    r = chat.join()
    assert (r.status, r.code) == (503, "instance_not_loaded"), r


def test_drain_s_bounds_the_wait(stack, org):
    app = org.new_app(tier="hot", config={"word_delay_ms": 1000})
    org.admin.load(app)
    stream = org.member.chat_stream(app, WORDS)
    stream.first()
    started = time.monotonic()
    org.admin.unload(app, {"drain_s": 1})
    assert 0.9 < time.monotonic() - started < 12
    assert stream.rest()[-1].name == "error"


def test_an_app_loaded_again_while_it_drains_is_built_beside_the_draining_copy(stack, org):
    app = org.new_app(tier="hot", config={"prefix": "old ", "word_delay_ms": 100})
    org.admin.load(app)
    stream = org.member.chat_stream(app, WORDS)
    stream.first()
    unload = org.admin.lifecycle("unload", app).json["operation_id"]
    eventually(lambda: stack.placements(app)[0][3] == "draining")
    load = org.admin.lifecycle("load", app).json["operation_id"]
    assert org.admin.ended(load)["state"] == "succeeded"
    assert org.member.chat_ok(app, "x") == "old x"
    assert text_of(stream.rest()) == "old " + WORDS
    assert org.admin.ended(unload)["state"] in ("succeeded", "superseded")
    assert org.admin.app(app)["state"] == "ready"
