# SPDX-License-Identifier: Apache-2.0
"""replicas: N copies on N workers, chats spread over them; and what reconcile finds that nobody told it."""
import collections

import pytest

from harness import eventually

OPTIONS = {"nats_nodes": 3, "workers": 3}
ALLOWED = []


@pytest.fixture
def org(stack, passing_org):
    yield passing_org
    eventually(stack.nothing_is_open, 40)


def set_replicas(org, app, n):
    r = org.admin.patch(org.admin.app_path(app), {"replicas": n})
    assert r.status == 200 and r.json["replicas"] == n, r


def copies(stack, app, n):
    """Waits until so many workers hold it."""
    return eventually(lambda: len(h := stack.holders(app)) == n and h, 30, f"{n} copies of {app}")


def turns(stack, app, count, org):
    """How many of so many chats each worker has served."""
    before = {w: w.text().count(f"turn ended instance={app}") for w in stack.workers}
    for _ in range(count):
        org.member.chat_ok(app)

    def served():
        found = collections.Counter({w.worker_id: w.text().count(f"turn ended instance={app}") - before[w]
                                     for w in stack.workers})
        return sum(found.values()) == count and found

    return eventually(served, what="each turn is in a log")


def test_an_app_with_replicas_is_ready_when_so_many_workers_hold_it_and_its_chats_are_spread(stack, org):
    for n in (2, 3):
        app, = org.hot_apps(1, replicas=n)
        holders = stack.holders(app)
        assert len(holders) == n, holders
        served = turns(stack, app, 60, org)
        assert sum(served.values()) == 60
        assert {w for w, count in served.items() if count} == set(holders), served


def test_replicas_are_raised_and_lowered_and_the_youngest_copy_goes_first(stack, org):
    app, = org.hot_apps(1)
    first = stack.holders(app)
    set_replicas(org, app, 2)
    second = [w for w in copies(stack, app, 2) if w not in first]
    set_replicas(org, app, 3)
    copies(stack, app, 3)
    set_replicas(org, app, 2)
    assert sorted(copies(stack, app, 2)) == sorted(first + second)
    set_replicas(org, app, 1)
    assert copies(stack, app, 1) == first
    eventually(lambda: len(stack.placements(app)) == 1)
    assert org.member.chat_ok(app, "x") == "x"


def test_a_worker_that_joins_gets_the_replica_that_is_missing(stack, org):
    app, = org.hot_apps(1, replicas=4)
    assert len(stack.holders(app)) == 3
    fourth = stack.add_worker("w4")
    try:
        assert "w4" in copies(stack, app, 4)
    finally:
        assert fourth.stop() == 0
        stack.more_workers.remove(fourth)
    copies(stack, app, 3)


def test_a_reload_and_an_unload_reach_every_copy(stack, org):
    app, = org.hot_apps(1, replicas=3)
    assert org.admin.configure(app, prefix="new ")["state"] == "succeeded"
    for _ in range(30):
        assert org.member.chat_ok(app, "x") == "new x"
    org.admin.reload(app)
    generation = org.admin.operations(app)[0]["generation"]
    assert {p[2] for p in stack.placements(app)} == {str(generation)}
    org.admin.unload(app)
    assert stack.placements(app) == []
    assert org.member.chat(app).code == "instance_not_loaded"


def test_the_dead_worker_of_a_replica_is_replaced_and_the_others_serve(stack, org):
    app, = org.hot_apps(1, replicas=2)
    dead = next(w for w in stack.workers if w.worker_id in stack.holders(app))
    dead.kill()
    stack.wait_off_the_bus(dead)
    for _ in range(20):
        assert org.member.chat_ok(app, "x") == "x"
    eventually(lambda: len(h := stack.holders(app)) == 2 and dead.worker_id not in h, 40)
    dead.start()


def test_a_demand_app_with_replicas_is_loaded_by_a_chat_on_as_many_workers(stack, org):
    app = org.new_app(replicas=2)
    assert org.member.chat_ok(app, "x") == "x"
    copies(stack, app, 2)


# --- reconcile ---


def test_a_row_changed_behind_the_buss_back_is_found(stack, org):
    app, = org.hot_apps(1, replicas=2)
    stack.db.run("UPDATE orchestrator_instances SET generation = generation + 5 WHERE instance_id = "
                 f"'{app}'")
    generation = stack.db.value(f"SELECT generation FROM orchestrator_instances WHERE instance_id = '{app}'")
    eventually(lambda: [p[2:] for p in stack.placements(app)] == [(generation, "ready")] * 2, 20)
    stack.db.run("UPDATE orchestrator_instances SET status = 'suspended' WHERE instance_id = "
                 f"'{app}'")
    eventually(lambda: stack.placements(app) == [], 20)


def test_a_placement_deleted_behind_a_copys_back_comes_back_or_the_copy_goes(stack, org):
    apps = org.hot_apps(6)
    stack.db.run("DELETE FROM placements WHERE instance_id IN (" + ", ".join(f"'{a}'" for a in apps) + ")")

    def is_right(app):
        """It is served by the one worker that the database says holds it."""
        holders = stack.holders(app)
        served_by = set(+turns(stack, app, 10, org))
        assert len(holders) == 1 and served_by == set(holders), (holders, served_by)
        return True

    for app in apps:
        eventually(lambda: is_right(app), 30)


def test_a_placement_that_nobody_holds_is_removed(stack, org):
    app = org.new_app(tier="hot")
    worker = stack.workers[1]
    stack.db.run("INSERT INTO placements (instance_id, worker_id, incarnation, org_id, tier, generation, state, "
                 "placed_at, changed_at) VALUES "
                 f"('{app}', '{worker.worker_id}', '{worker.incarnation()}', '{org.id}', 'hot', 1, 'ready', "
                 "UTC_TIMESTAMP(3), UTC_TIMESTAMP(3))")
    eventually(lambda: stack.placements(app) == [], 20)
