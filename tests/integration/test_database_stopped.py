# SPDX-License-Identifier: Apache-2.0
"""MariaDB is stopped: clear 503s, everything comes back without a restart, and no count is lost."""
import time

import pytest

from harness import Background, eventually

ALLOWED = [r"(?i)database|mariadb|lease|db_unavailable|connect|statistic|flush|reconcil|recover|ERR_DOWN|server has gone|shut ?down|retr"]


@pytest.fixture
def database(stack):
    class Database:
        def stop(self):
            assert stack.db.stop() == 0

        def start(self):
            stack.db.start()
            eventually(lambda: stack.http.request("GET", "/readyz").status == 200, 30, "the application is ready again")

    yield Database()
    if not stack.db.is_running():
        stack.db.start()
    eventually(lambda: stack.http.request("GET", "/readyz").status == 200, 30)
    eventually(stack.worker.incarnation, 30)


def turns(stack, app):
    return stack.db.number(f"SELECT COALESCE(SUM(turns), 0) FROM instance_stats WHERE instance_id = '{app}'")


def test_requests_are_refused_clearly_and_served_again_without_a_restart(stack, org, database):
    app = org.new_app(tier="hot")
    org.admin.load(app)
    pids = stack.app.pid, stack.worker.pid
    database.stop()
    for ask in (lambda: org.admin.lifecycle("load", app), lambda: org.admin.get(org.admin.app_path(app)),
                lambda: org.admin.post(f"/api/orgs/{org.id}/orchestrators", {"name": "n", "framework_type": "echo"}),
                lambda: stack.sys.get("/api/admin/pool/stats")):
        started = time.monotonic()
        r = ask()
        assert (r.status, r.code) == (503, "db_unavailable"), r
        assert time.monotonic() - started < 6
    # What a chat's token may do is remembered for a second, not longer.
    eventually(lambda: org.member.chat(app).code == "db_unavailable", 5)
    assert stack.http.request("GET", "/healthz").status == 200
    assert stack.http.request("GET", "/readyz").status == 503
    database.start()
    eventually(lambda: org.member.chat(app, "x").status == 200, 30)
    org.admin.reload(app)
    assert (stack.app.pid, stack.worker.pid) == pids


def test_no_turn_is_lost_from_the_counts(stack, org, database):
    app = org.new_app(tier="hot")
    org.admin.load(app)
    served = 0
    for _ in range(10):
        served += org.member.chat(app).status == 200
    database.stop()
    while (r := org.member.chat(app)).status == 200:  # as long as the token is remembered
        served += 1
    assert r.code == "db_unavailable"
    database.start()
    eventually(lambda: org.member.chat(app).status == 200, 30)
    served += 1
    eventually(lambda: turns(stack, app) == served, 20, f"{served} turns are counted")


def test_an_outage_longer_than_a_lease_loses_no_app(stack, org, database):
    apps = [org.new_app(tier="hot") for _ in range(5)]
    for app in apps:
        org.admin.load(app)
    lease = float(stack.options["worker"]["lease_s"])
    database.stop()
    stopped = time.monotonic()
    eventually(lambda: time.monotonic() - stopped > lease + 2, lease + 10, "the lease is over")
    database.start()
    eventually(stack.worker.incarnation, 30, "the worker's lease is valid again")
    for app in apps:
        eventually(lambda: org.member.chat(app, "x").status == 200, 30)
    eventually(lambda: all(org.admin.app(app)["is_ready"] for app in apps), 30)
    eventually(lambda: stack.next_flush()["hot_tier_count"] == stack.db.number(
        "SELECT COUNT(*) FROM placements WHERE tier = 'hot' AND state = 'ready'"), 20)


def test_a_stream_goes_on_while_the_database_is_away(stack, org, database):
    app = org.new_app(tier="hot", config={"word_delay_ms": 50})
    org.admin.load(app)
    stream = org.member.chat_stream(app, "word " * 40)
    stream.first()
    database.stop()
    events = stream.rest()
    assert events[-1].data.get("done") is True, events[-1]
    database.start()


def test_requests_in_the_middle_of_a_restart_are_answered_or_refused_never_lost(stack, org, database):
    """Every 202 given while MariaDB goes down and comes back is an operation that exists and ends."""
    app = org.new_app(tier="hot")
    org.admin.load(app)
    accepted, over = [], []

    def hammer():
        while not over:
            r = org.admin.lifecycle("load", app)
            if r.status == 202:
                accepted.append(r.json["operation_id"])
            else:
                assert (r.status, r.code) in ((503, "db_unavailable"), (503, "outcome_unknown")), r
                if r.code == "outcome_unknown":
                    assert "/operations/" in r.headers["Location"]

    clients = [Background(hammer) for _ in range(4)]
    eventually(lambda: len(accepted) > 20, 20)
    for _ in range(3):
        n = len(accepted)
        database.stop()
        database.start()
        eventually(lambda: len(accepted) > n + 10, 30)
    over.append(True)
    for client in clients:
        client.join()
    for op in accepted:
        assert stack.db.value(f"SELECT 1 FROM operations WHERE operation_id = '{op}'") == "1"
    eventually(lambda: stack.db.number("SELECT COUNT(*) FROM operations WHERE is_open = 1") == 0, 40)
