# SPDX-License-Identifier: Apache-2.0
"""Three workers that die, freeze, lose the bus or the database, or share a name: leases, fencing and recovery."""
import contextlib
import subprocess
import threading

import pytest

from harness import PATH, Background, NatsClient, Worker, eventually, user_name

OPTIONS = {"nats_nodes": 3, "workers": 3, "is_proxied": True}
ALLOWED = [r"(?i)lease|declared dead|recover|bus|nats|unfinished|connect|database|not written|reconcile|placement|"
           r"worker_unresponsive|no responders|step|db_unavailable|statistics|not read"]


@pytest.fixture
def org(stack, passing_org):
    """Each test begins and ends with all three workers, and with nothing left to do."""
    yield passing_org
    for worker in stack.workers:
        worker.mend()
        if worker.is_running():
            worker.thaw()
        else:
            worker.start()
    for worker in stack.workers:
        eventually(worker.incarnation, 30, f"{worker.worker_id} is registered")
    eventually(stack.nothing_is_open, 60)


def all_held_without(stack, apps, worker):
    """Each App has one copy, and none is the worker's."""
    return lambda: all(len(h) == 1 and worker.worker_id not in h for h in (stack.holders(a) for a in apps))


def test_a_worker_killed_loses_no_operation_and_its_apps_come_back_elsewhere(stack, org):
    apps = org.hot_apps(9)
    dead, mine = stack.busiest(apps)
    slow = [org.new_app(tier="hot", config={"build_delay_ms": 3000}) for _ in range(9)]
    operations = [org.admin.lifecycle("load", app).json["operation_id"] for app in slow]
    eventually(lambda: dead.placed("loading"))
    dead.kill()
    assert {org.admin.ended(op, 60)["state"] for op in operations} == {"succeeded"}
    eventually(all_held_without(stack, apps + slow, dead), 40)
    for app in apps + slow:
        assert org.member.chat_ok(app, "x") == "x"
    for app in mine:
        assert [o["state"] for o in org.admin.operations(app) if o["source"] == "recovery"] == ["succeeded"]
    pool = stack.pool()
    assert dead.worker_id not in [w["worker_id"] for w in pool["workers"]]
    assert [w["worker_id"] for w in pool["workers_expired"]] == [dead.worker_id]
    assert any(dead.worker_id in line and "expired" in line for line in stack.ctl("status").splitlines())


def test_an_app_with_a_copy_elsewhere_is_served_all_the_time_while_a_worker_dies(stack, org):
    app, = org.hot_apps(1, replicas=2)
    eventually(lambda: len(stack.holders(app)) == 2, 20)
    dead = next(w for w in stack.workers if w.worker_id == stack.holders(app)[0])
    dead.kill()
    stack.wait_off_the_bus(dead)
    for _ in range(50):
        assert org.member.chat_ok(app, "x") == "x"
    eventually(lambda: len(stack.holders(app)) == 2 and dead.worker_id not in stack.holders(app), 40)


def test_a_worker_frozen_past_its_lease_gives_up_its_copies_and_registers_anew(stack, org):
    apps = org.hot_apps(9)
    frozen, _ = stack.busiest(apps)
    before = frozen.incarnation()
    frozen.freeze()
    eventually(all_held_without(stack, apps, frozen), 60)
    # What it held is changed meanwhile: whoever answers with the old text is stale.
    for app in apps:
        op = org.admin.configure(app, prefix="new ")
        assert op["state"] == "succeeded", op
    thawed, over = threading.Event(), threading.Event()
    answers, answers_after = [], []

    def ask():
        while not over.is_set():
            for app in apps:
                # What is asked before may have been given to it, and wait there in vain.
                kept = answers_after if thawed.is_set() else answers
                kept.append(org.member.chat(app, "x"))

    asking = [Background(ask) for _ in range(3)]
    eventually(lambda: len(answers) > 20)
    frozen.thaw()
    thawed.set()
    eventually(lambda: frozen.incarnation() not in (None, before), 30, "it has registered anew")
    n = len(answers_after)
    eventually(lambda: len(answers_after) > n + 100, 30)
    over.set()
    for a in asking:
        a.join()
    assert {a.json["response"] for a in answers + answers_after if a.status == 200} == {"new x"}
    assert [a for a in answers_after if a.status != 200] == []
    assert "declared dead" in frozen.text()
    assert stack.db.number(f"SELECT COUNT(*) FROM placements WHERE incarnation = '{before}'") == 0


def test_a_frozen_worker_is_cut_from_the_bus_and_swallows_no_chats_for_long(stack, org):
    app, = org.hot_apps(1, replicas=3)
    eventually(lambda: len(stack.holders(app)) == 3, 20)
    frozen = stack.workers[0]
    frozen.freeze()
    stack.wait_off_the_bus(frozen)
    for _ in range(30):
        assert org.member.chat_ok(app, "x") == "x"


def locked(stack):
    """The session that holds the lock of recovery."""
    return stack.db.value("SELECT IS_USED_LOCK('hearth.hearth.recovery')")


def test_a_leader_of_recovery_that_freezes_loses_its_lock_and_another_one_recovers(stack, org):
    apps = org.hot_apps(9)
    leader, _ = stack.busiest(apps)
    others = [w for w in stack.workers if w is not leader]
    for other in others:
        other.freeze()
    # Its pass waits for the bus, so that it is met within it.
    leader.cut_off("hold")

    def caught():
        if not locked(stack):
            return None
        leader.freeze()
        session = locked(stack)
        if not session:
            leader.thaw()
        return session

    session = eventually(caught)
    for other in others:
        other.thaw()
    eventually(all_held_without(stack, apps, leader), 60)
    assert locked(stack) != session
    for app in apps:
        assert len([o for o in org.admin.operations(app) if o["source"] == "recovery"]) <= 1


def test_a_worker_that_cannot_renew_serves_no_turn_before_it_has(stack, org):
    """It alone is awake: nobody declares it dead, so that it may go on with what it holds."""
    app, = org.hot_apps(1)
    alone = next(w for w in stack.workers if w.worker_id in stack.holders(app))
    before = alone.incarnation()
    for other in stack.workers:
        if other is not alone:
            other.freeze()
    alone.database.hold()
    with contextlib.closing(NatsClient(stack, "app")) as nats:
        eventually(lambda: nats.chat(org, app)[0] == 503, 30, "its lease has run out")
        for _ in range(20):
            status, answer = nats.chat(org, app)
            assert (status, answer["code"]) == (503, "worker_unresponsive")
        alone.database.mend()
        eventually(lambda: nats.chat(org, app)[0] == 200, 30)
    assert alone.incarnation() == before


def test_a_worker_without_the_database_serves_nothing_that_another_one_holds_by_now(stack, org):
    apps = org.hot_apps(9)
    stale, mine = stack.busiest(apps)
    before = stale.incarnation()
    stale.database.hold()
    eventually(all_held_without(stack, apps, stale), 60)
    for app in mine:
        assert org.admin.configure(app, prefix="new ")["state"] == "succeeded"
    answers = []
    with contextlib.closing(NatsClient(stack, "app")) as nats:
        for app in mine * 10:
            answers.append(nats.chat(org, app))
    assert {a["response"] for status, a in answers if status == 200} == {"new x"}
    refused = {a["code"] for status, a in answers if status != 200}
    assert refused == {"worker_unresponsive"}, "the stale one is asked as well"
    # The application asks again where one worker turns it away: nine times, of which all meet the stale one once in 512.
    turned_away = [app for app in mine * 5 if org.member.chat(app, "x").status != 200]
    assert len(turned_away) <= 2, turned_away
    stale.database.mend()
    eventually(lambda: stale.incarnation() not in (None, before), 30)
    eventually(all_held_without(stack, mine, stale), 20)


def test_an_outage_of_the_database_longer_than_a_lease_moves_nothing(stack, org):
    apps = org.hot_apps(9)
    before = {app: stack.placements(app) for app in apps}
    incarnations = [w.incarnation() for w in stack.workers]
    assert stack.db.stop() == 0
    with contextlib.closing(NatsClient(stack, "app")) as nats:
        for app in apps:
            eventually(lambda: nats.chat(org, app)[0] == 503, 30, "its worker's lease has run out")
    stack.db.start()
    for worker in stack.workers:
        eventually(worker.incarnation, 30)
    for app in apps:
        eventually(lambda: org.member.chat(app, "x").status == 200, 30)
    # Until somebody may reap again, and has looked.
    stack.next_flush()
    eventually(lambda: stack.db.number("SELECT COUNT(*) FROM workers WHERE lease_until > UTC_TIMESTAMP(3)") == 3)
    assert [w.incarnation() for w in stack.workers] == incarnations
    assert {app: stack.placements(app) for app in apps} == before
    assert not any(o["source"] == "recovery" for app in apps for o in org.admin.operations(app))


def test_a_worker_that_has_just_come_declares_nobody_dead(stack, org):
    """It first holds its own lease for as long as that lasts: others may only look dead, as after an outage."""
    apps = org.hot_apps(9)
    before = {app: stack.placements(app) for app in apps}
    for worker in stack.workers:
        worker.database.hold()
    eventually(lambda: stack.db.number("SELECT COUNT(*) FROM workers WHERE lease_until > UTC_TIMESTAMP(3)") == 0, 30)
    fresh = stack.add_worker("w4", lease_s=60)
    try:
        eventually(lambda: "leading recovery" in fresh.text(), 30)
        eventually(lambda: locked(stack) is None, 30, "its first pass is over")
        assert {app: stack.placements(app) for app in apps} == before
    finally:
        assert fresh.stop() == 0
        stack.more_workers.remove(fresh)


def test_a_worker_cut_off_from_the_bus_for_long_stops_renewing_and_rejoins_later(stack, org):
    apps = org.hot_apps(9)
    lonely, _ = stack.busiest(apps)
    before = lonely.incarnation()
    lonely.cut_off()
    eventually(all_held_without(stack, apps, lonely), 60)
    for app in apps:
        assert org.member.chat_ok(app, "x") == "x"
    lonely.mend()
    eventually(lambda: lonely.incarnation() not in (None, before), 30)
    for app in apps:
        assert org.member.chat_ok(app, "x") == "x"
    stack.wait_all_ask()
    later = org.hot_apps(12, config={"build_delay_ms": 300})
    assert set(lonely.placed()) & set(later), "it takes loads again"


def test_a_short_cut_of_the_bus_loses_nothing(stack, org):
    apps = org.hot_apps(9)
    cut, held = stack.busiest(apps)
    before = cut.incarnation()
    cut.cut_off()
    eventually(lambda: org.member.chat(held[0]).status != 200)
    slow = org.new_app(tier="hot", config={"build_delay_ms": 300})
    op = org.admin.lifecycle("load", slow).json["operation_id"]
    cut.mend()
    for app in apps:
        eventually(lambda: org.member.chat(app, "x").status == 200, 20)
    assert org.admin.ended(op, 40)["state"] == "succeeded"
    assert cut.incarnation() == before
    assert set(held) <= set(cut.placed())


def test_a_worker_that_connects_again_has_one_request_for_loads_open(stack, org):
    """The end of the request that the lost connection left behind is not taken for the end of its successor's."""
    for worker in stack.workers * 2:
        name = f"hearth-worker {worker.worker_id}"
        worker.cut_off()
        eventually(lambda name=name: not any(name in node.clients() for node in stack.nats_nodes))
        worker.mend()
        eventually(lambda name=name: any(name in node.clients() for node in stack.nats_nodes))
    stack.wait_all_ask()


def test_a_name_used_twice_is_refused_and_the_first_goes_on(stack, org):
    first = stack.workers[0]
    before = first.incarnation()
    for machine in (None, "another-machine"):
        second = Worker(stack, first.worker_id, worker={"machine_id": machine} if machine else {})
        second.log = second.log.with_name(f"second-{machine}.log")
        second.bus, second.database = first.bus, first.database
        second.spawn()
        try:
            eventually(lambda: not second.is_running(), 60, "it gives up")
        finally:
            if second.is_running():
                second.kill()
        assert second.process.returncode == 1
        assert "name is in use" in second.text()
        assert first.incarnation() == before
    apps = org.hot_apps(6)
    for app in apps:
        assert org.member.chat_ok(app, "x") == "x"


def test_another_machine_gets_a_name_only_after_its_lease(stack, org):
    apps = org.hot_apps(9)
    first, _ = stack.busiest(apps)
    first.kill()
    moved = Worker(stack, first.worker_id, worker={"machine_id": "another-machine"})
    moved.log = moved.log.with_name("moved.log")
    moved.bus, moved.database = first.bus, first.database
    moved.former = stack.db.value(f"SELECT incarnation FROM workers WHERE worker_id = '{first.worker_id}'")
    moved.spawn()
    try:
        moved.wait_ready()
        assert "registered from another machine" in moved.text()
        eventually(lambda: all(len(stack.holders(a)) == 1 for a in apps), 40)
    finally:
        assert moved.stop() == 0


@contextlib.contextmanager
def nobody_leads(stack):
    """Holds the lock of recovery, so that no worker can."""
    client = subprocess.Popen(
        ["mariadb", "--no-defaults", f"--socket={stack.db.socket}", f"--user={user_name()}", "--batch", "--unbuffered",
         "--skip-column-names", "hearth"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PATH": PATH})
    try:
        client.stdin.write("SELECT GET_LOCK('hearth.hearth.recovery', 60);\n")
        client.stdin.flush()
        assert client.stdout.readline().strip() == "1"
        yield
    finally:
        client.communicate()


def test_a_worker_restarted_quickly_under_its_name_reaps_its_old_incarnation_itself(stack, org):
    """At once: neither its lease's end nor a leader of recovery is waited for."""
    apps = org.hot_apps(9)
    quick, mine = stack.busiest(apps)
    before = quick.incarnation()
    with nobody_leads(stack):
        quick.kill()
        quick.start()
        eventually(lambda: stack.db.number(f"SELECT COUNT(*) FROM placements WHERE incarnation = '{before}'") == 0, 20)
        for app in mine:
            eventually(lambda: org.member.chat(app, "x").status == 200, 30)
