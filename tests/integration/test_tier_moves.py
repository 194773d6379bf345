# SPDX-License-Identifier: Apache-2.0
"""Demand to hot and hot to demand while a stream runs: no rebuild, no failed turn."""
import pytest

from harness import Background, eventually, text_of

WORDS = " ".join(f"w{i}" for i in range(30))


def builds(stack, app):
    stack.next_flush()
    return stack.db.number(f"SELECT loads + reloads FROM instance_stats WHERE instance_id = '{app}'")


def move_by_load(org, app, tier):
    return org.admin.load(app, {"tier": tier})


def move_by_patch(org, app, tier):
    r = org.admin.patch(org.admin.app_path(app), {"tier": tier})
    assert r.status == 200, r
    op = org.admin.ended(r.json["operation_id"])
    assert op["state"] == "succeeded", op
    return op


@pytest.mark.parametrize("move", [move_by_load, move_by_patch])
@pytest.mark.parametrize("old, new", [("demand", "hot"), ("hot", "demand")])
def test_the_move_happens_under_the_stream(stack, org, old, new, move):
    app = org.new_app(tier=old, config={"word_delay_ms": 100})
    org.admin.load(app)
    built = builds(stack, app)
    stream = org.member.chat_stream(app, WORDS)
    stream.first()
    over, failed = [], []

    def chat_on():
        while not over:
            r = org.member.chat(app, "x")
            if r.status != 200:
                failed.append(r)

    chats = Background(chat_on)
    op = move(org, app, new)
    assert op["tier"] == new
    assert [p[1] for p in stack.placements(app)] == [new]
    assert org.admin.app(app)["tier"] == new and org.admin.app(app)["is_ready"]
    events = stream.rest()
    over.append(True)
    chats.join()
    assert not failed, failed
    assert events[-1].data.get("done") is True and text_of(events) == WORDS
    assert builds(stack, app) == built
    eventually(lambda: stack.next_flush()[f"{new}_tier_count"] == stack.db.number(
        f"SELECT COUNT(*) FROM placements WHERE tier = '{new}' AND state = 'ready'"))


def test_a_hot_app_moved_to_demand_leaves_when_idle_and_one_moved_to_hot_stays(stack, org):
    leaves, stays = org.new_app(tier="hot", ttl_seconds=1), org.new_app(tier="demand", ttl_seconds=1)
    org.admin.load(leaves)
    org.admin.load(stays, {"tier": "hot"})
    org.admin.load(leaves, {"tier": "demand"})
    eventually(lambda: org.admin.app(leaves)["state"] == "unloaded", 20)
    assert org.admin.app(stays)["state"] == "ready"


def test_a_move_of_an_app_that_is_not_loaded_only_changes_the_row(org):
    app = org.new_app()
    r = org.admin.patch(org.admin.app_path(app), {"tier": "hot"})
    assert r.status == 200 and r.json["tier"] == "hot"
    assert org.admin.operations(app) == []
