# SPDX-License-Identifier: Apache-2.0
"""Requests a second through lighttpd, beside a FastCGI program that prints a constant: lifecycle, chat, not loaded."""
from harness import eventually

import load
import scale
from rows import Figure
from servers import servers

ROUNDS = 3
SECONDS = 4
WARM_UP = 1
LIFECYCLE_APPS = 1000
MANY_APPS = 1000000


def in_turns(stack, request, clients, between=lambda: None, **kind):
    """Rounds of floor and figure, floor and figure; the same requests go to both."""
    floors, figures = [], []
    for port, seconds in ((stack.floor.lighttpd.port, WARM_UP), (stack.lighttpd.port, WARM_UP)):
        load.Load.start(request, port, clients, seconds).result()
    for _ in range(ROUNDS):
        between()
        floors.append(request.run(stack.floor.lighttpd.port, clients, SECONDS))
        figures.append(request.run(stack.lighttpd.port, clients, SECONDS, **kind))
    return floors, figures


def figure_of(name, reach, floors, figures, note=""):
    return Figure(name, "requests/s", [r.rate for r in figures], (">=", reach, "ratio"), [r.rate for r in floors],
                  [r.p50_ms for r in figures], [r.p99_ms for r in figures], note)


def lifecycle():
    """Loads of Apps that are hot and held: each is a transaction, a publish that is acked, and work for the worker."""
    with servers(floor=True) as stack:
        org = stack.new_org(quotas=scale.BIG_QUOTAS)
        apps = scale.Apps(stack, org, LIFECYCLE_APPS)
        apps.load()
        counted = "SELECT COUNT(*) FROM operations WHERE source = 'api_load' AND request_id <> 'bulk'"

        def settled():
            eventually(lambda: apps.open_operations() == 0, 120, "the worker has ended all operations", every=0.25)

        before = stack.db.number(counted)
        floors, figures = in_turns(stack, load.lifecycle(org, "load", apps.ids), 16, between=settled)
        settled()
        made, asked = stack.db.number(counted) - before, sum(r.requests for r in figures)
        assert made >= asked, f"{asked} answers but {made} operations"
        bad = stack.db.run("SELECT state, COUNT(*) FROM operations WHERE state IN ('failed', 'superseded') GROUP BY 1")
        assert not bad, bad
        return [figure_of("lifecycle 202, 16 clients", 0.30, floors, figures,
                          f"{LIFECYCLE_APPS} hot Apps in turn, the worker acts on each load meanwhile")]


def chat():
    with servers(floor=True) as stack:
        org = stack.new_org()
        app = org.new_app(tier="hot")
        org.admin.load(app)
        assert org.member.chat_ok(app, "hello world") == "hello world"
        floors, figures = in_turns(stack, load.chat(org, [app]), 32)
        pool = stack.next_flush()
        turns = stack.db.run("SELECT turns, errors FROM instance_stats")[0]
        assert int(turns[0]) >= sum(r.requests for r in figures) and turns[1] == "0", (turns, pool)
        return [figure_of("chat turn, 32 clients", 0.40, floors, figures)]


def not_loaded():
    with servers(floor=True) as stack:
        org = stack.new_org()
        app = org.new_app(tier="hot")
        r = org.member.chat(app)
        assert (r.status, r.code) == (503, "instance_not_loaded"), r
        floors, figures = in_turns(stack, load.chat(org, [app]), 32, is_refusal=True)
        return [figure_of("not-loaded 503, 32 clients", 0.40, floors, figures)]


def pool_stats():
    """One small pool and one with a million registered Apps, both of one worker that holds ten."""
    with servers() as ten, servers() as million:
        requests = []
        for stack, more in ((ten, 0), (million, MANY_APPS - 10)):
            org = stack.new_org(quotas=scale.BIG_QUOTAS)
            scale.Apps(stack, org, 10).load()
            if more:
                scale.Apps(stack, org, more)
            stack.next_flush()
            assert stack.pool()["hot_tier_count"] == 10
            requests.append(load.Load("GET", "/api/admin/pool/stats", stack.sys.token))
            requests[-1].run(stack.lighttpd.port, 4, WARM_UP)
        small, big = [], []
        for _ in range(ROUNDS):
            small.append(requests[0].run(ten.lighttpd.port, 4, SECONDS))
            big.append(requests[1].run(million.lighttpd.port, 4, SECONDS))
        return [Figure(f"pool stats at {MANY_APPS:,} Apps", "ms/request", [1e3 / r.rate for r in big],
                       ("<=", 1.2, "ratio"), [1e3 / r.rate for r in small], [r.p50_ms for r in big],
                       [r.p99_ms for r in big], "floor: the same at 10 Apps; one worker with ten of them loaded; 4 clients")]


GROUPS = {"lifecycle": lifecycle, "chat": chat, "not_loaded": not_loaded, "pool_stats": pool_stats}
