# SPDX-License-Identifier: Apache-2.0
"""Three workers on a NATS cluster of three share the loads by their free build slots."""
import collections

from harness import at_once, eventually
from nats_proxies import Pulls

# w1 has many slots, w2 few, w3 has no room for hot Apps.
OPTIONS = {"nats_nodes": 3, "is_proxied": True,
           "workers": [{"builds_max": 8}, {"builds_max": 2}, {"builds_max": 16, "hot_ceiling": 0}]}
# When the others stop, w3 is offered what it has no room for.
ALLOWED = [r"App failed .* reason=hot_ceiling"]


def ask_all(org, apps):
    """Asks for all at once."""
    return at_once(*(lambda app=app: org.admin.lifecycle("load", app).json["operation_id"] for app in apps))


def taken_by(org, operations):
    """How many each worker has taken."""
    ended = [org.admin.ended(op, 40) for op in operations]
    assert {op["state"] for op in ended} == {"succeeded"}, ended
    return collections.Counter(op["worker_id"] for op in ended)


def test_a_worker_with_more_build_slots_takes_more_and_one_without_room_none(stack):
    org = stack.new_org()
    stack.wait_all_ask()
    apps = [org.new_app(tier="hot", config={"build_delay_ms": 1500}) for _ in range(20)]
    taken = taken_by(org, ask_all(org, apps))
    assert taken["w3"] == 0
    assert taken["w1"] > 2 * taken["w2"] > 0, taken
    for app in apps:
        assert org.member.chat_ok(app, "x") == "x"


def test_demand_apps_go_to_the_worker_that_has_room_only_for_them(stack):
    """Hot ones that are asked for while these are built go to the others."""
    org = stack.new_org()
    stack.wait_all_ask()
    demand = [org.new_app(config={"build_delay_ms": 300}) for _ in range(24)]
    hot = [org.new_app(tier="hot", config={"build_delay_ms": 300}) for _ in range(12)]
    operations = ask_all(org, demand), ask_all(org, hot)
    taken, taken_hot = (taken_by(org, ops) for ops in operations)
    assert taken["w3"] > taken["w2"] > 0, taken
    assert taken_hot["w3"] == 0, taken_hot


def test_a_worker_asks_for_as_many_loads_at_a_time_as_it_has_build_slots(stack):
    stack.allow(r"bus|not subscribed|no responders")
    for worker in stack.workers:
        asked = Pulls(worker.bus)
        for proxy in worker.bus:
            proxy.reset()  # it asks anew
        slots = worker.options["worker"]["builds_max"]
        eventually(lambda: asked.batch == slots, 30, f"{worker.worker_id} asks for {slots}")


def test_the_pool_counts_what_each_worker_holds(stack):
    pool = stack.next_flush()
    held = {w["worker_id"]: w for w in pool["workers"]}
    for worker in stack.workers:
        placed = len(worker.placed())
        shown = held[worker.worker_id]
        assert shown["hot_tier_count"] + shown["demand_tier_count"] == placed, (worker.worker_id, shown)
    assert held["w3"]["hot_tier_count"] == held["w3"]["hot_ceiling"] == 0
    assert pool["total_instances"] == sum(len(w.placed()) for w in stack.workers)
    eventually(lambda: stack.pool()["bus"]["events_waiting"] == 0)
