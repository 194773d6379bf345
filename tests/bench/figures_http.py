# SPDX-License-Identifier: Apache-2.0
"""Requests a second through lighttpd, beside a FastCGI program that prints a constant: lifecycle, chat, not loaded."""
import os
import pathlib

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


def cpu_us(programs):
    """Processor time so far, in user space and in the kernel."""
    us = {}
    for p in programs:
        fields = pathlib.Path(f"/proc/{p.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        us[p.name] = (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")
    return us


class Turns:
    """Rounds of floor and figure, floor and figure. The same requests go to both where no floor (request, port) is
    given; floors are those of an earlier figure, not measured again."""

    def __init__(self, stack, request, clients, between=lambda: None, floor=None, floors=None, seconds=SECONDS, **kind):
        self.floors, self.figures, self.us = list(floors or []), [], {}
        floor = None if floors else floor or (request, stack.floor.lighttpd.port)
        for warmed, port in filter(None, (floor, (request, stack.lighttpd.port))):
            warmed.start(port, clients, WARM_UP).result()
        between()
        for _ in range(ROUNDS):
            if floor:
                self.floors.append(floor[0].run(floor[1], clients, seconds))
            before = cpu_us(stack.programs)
            self.figures.append(request.run(stack.lighttpd.port, clients, seconds, **kind))
            between()
            for name, us in cpu_us(stack.programs).items():
                self.us[name] = self.us.get(name, 0) + us - before[name]

    def figure(self, name, reach, note=""):
        requests = sum(r.requests for r in self.figures)
        cost = ", ".join(f"{name} {us / requests:.0f}" for name, us in sorted(self.us.items(), key=lambda x: -x[1]))
        note = "; ".join(filter(None, [note, f"processor time of a request in us: {cost}"]))
        return Figure(name, "requests/s", [r.rate for r in self.figures], reach and (">=", reach, "ratio"),
                      [r.rate for r in self.floors], [r.p50_ms for r in self.figures], [r.p99_ms for r in self.figures], note)


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
        turns = Turns(stack, load.lifecycle(org, "load", apps.ids), 16, between=settled)
        made, asked = stack.db.number(counted) - before, sum(r.requests for r in turns.figures)
        assert made >= asked, f"{asked} answers but {made} operations"
        bad = stack.db.run("SELECT state, COUNT(*) FROM operations WHERE state IN ('failed', 'superseded') GROUP BY 1")
        assert not bad, bad
        return [turns.figure("lifecycle 202, 16 clients", 0.30,
                             f"{LIFECYCLE_APPS} hot Apps in turn, the worker acts on each load meanwhile")]


def chat():
    with servers(floor=True) as stack:
        org = stack.new_org()
        app = org.new_app(tier="hot")
        org.admin.load(app)
        assert org.member.chat_ok(app, "hello world") == "hello world"
        turns = Turns(stack, load.chat(org, [app]), 32)
        pool = stack.next_flush()
        counted = stack.db.run("SELECT turns, errors FROM instance_stats")[0]
        assert int(counted[0]) >= sum(r.requests for r in turns.figures) and counted[1] == "0", (counted, pool)
        return [turns.figure("chat turn, 32 clients", 0.40)]


def not_loaded():
    with servers(floor=True) as stack:
        org = stack.new_org()
        app = org.new_app(tier="hot")
        r = org.member.chat(app)
        assert (r.status, r.code) == (503, "instance_not_loaded"), r
        turns = Turns(stack, load.chat(org, [app]), 32, is_refusal=True)
        return [turns.figure("not-loaded 503, 32 clients", 0.40)]


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
