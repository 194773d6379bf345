# SPDX-License-Identifier: Apache-2.0
"""make bench-growth: how the cost grows with Apps that are loaded, streams, clients and Apps that are registered.

Runs the parts that are named (all where none is); each prints a table. With all of
them, bench-growth.md (the tables) and growth.svg go to $HEARTH_RESULTS. One run
of each point, so a point is less sure than a figure of make bench.
"""
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

import figures_streams  # noqa: E402
import harness  # noqa: E402
import load  # noqa: E402
import rows  # noqa: E402
import scale  # noqa: E402
import svg  # noqa: E402
from servers import servers  # noqa: E402

SECONDS = 4
CHAT_APPS = 1000  # of the loaded ones, so many are chatted with
LOADED = [10, 100, 1000, 10000, 100000]
STREAMS = [1, 3, 10, 30, 100, 300, 1000]
CLIENTS = [1, 2, 5, 10, 20, 50, 100, 200]
REGISTERED = [10, 100, 1000, 10000, 100000, 1000000]
RESTART_ALLOW = [r"(?i)lease|incarnation|recover|declared dead|reap|unfinished|attempt"]


class Part:
    """What was measured, in rows of (x, value, ...), and how the picture shows it."""

    def __init__(self, title, x_label, y_label, columns, shown):
        self.title, self.x_label, self.y_label, self.columns, self.shown = title, x_label, y_label, columns, shown
        self.points = []

    def add(self, *values):
        self.points.append(values)
        print(self.title, *[f"{c}={rows.shown(v)}" for c, v in zip([self.x_label, *self.columns], values)],
              sep="  ", file=sys.stderr, flush=True)

    def markdown(self):
        head = [self.x_label, *self.columns]
        body = [[f"{p[0]:,}", *map(rows.shown, p[1:])] for p in self.points]
        return rows.markdown(head, body)

    def panel(self):
        series = {self.columns[i]: [(p[0], p[i + 1]) for p in self.points] for i in self.shown}
        return svg.Panel(self.title, self.x_label, self.y_label, series)


def loaded():
    part = Part("Apps loaded on one worker", "hot Apps loaded", "MiB, ms",
                ["worker MiB", "chat p50 ms", "chats/s"], [0, 1])
    with servers(worker={"hot_ceiling": LOADED[-1]}) as stack:
        org, ids = stack.new_org(quotas=scale.BIG_QUOTAS), []
        for n in LOADED:
            apps = scale.Apps(stack, org, n - len(ids))
            apps.load(1200)
            ids += apps.ids
            r = load.chat(org, ids[::max(1, n // CHAT_APPS)]).run(stack.lighttpd.port, 8, SECONDS)
            part.add(n, scale.rss_kib(stack.worker.pid) / 1024, r.p50_ms, r.rate)
    return part


def streams():
    part = Part("Streams at once through one hearth.fcgi", "streams", "gap between chunks, ms",
                ["gap p50 ms", "gap p99 ms"], [0, 1])
    with servers(app={"threads_max": STREAMS[-1] + 100}) as stack:
        several = figures_streams.Streams(stack, stack.new_org())
        several.run(100, 10)
        for n in STREAMS:
            r = several.run(n)
            part.add(n, r["p50_ms"], r["p99_ms"])
    return part


def clients():
    part = Part("Clients that chat at once", "clients", "latency, ms",
                ["chat p50 ms", "chat p99 ms", "chats/s"], [0, 1])
    with servers() as stack:
        org = stack.new_org()
        app = org.new_app(tier="hot")
        org.admin.load(app)
        for n in CLIENTS:
            r = load.chat(org, [app]).run(stack.lighttpd.port, n, SECONDS)
            part.add(n, r.p50_ms, r.p99_ms, r.rate)
    return part


def restart_ms(stack, apps):
    """From the start of a worker that was killed until the Apps it held are ready again: recovery without the lease."""
    stack.worker.kill()
    stack.worker.start()
    now = stack.worker.incarnation()
    again = f"FROM placements WHERE state = 'ready' AND incarnation = '{now}' AND instance_id {apps.is_mine}"
    harness.eventually(lambda: stack.db.number(f"SELECT COUNT(*) {again}") == apps.n, 60, "its Apps are back")
    return stack.db.number(f"SELECT TIMESTAMPDIFF(MICROSECOND, (SELECT started_at FROM workers), MAX(placed_at))"
                           f" DIV 1000 {again}")


def registered():
    part = Part("Apps registered, ten of them loaded", "Apps registered", "ms",
                ["pool stats ms", "list page ms", "recovery ms"], [0, 1, 2])
    with servers(allow=RESTART_ALLOW) as stack:
        org, total = stack.new_org(quotas=scale.BIG_QUOTAS), 10
        ten = scale.Apps(stack, org, total)
        ten.load()
        for n in REGISTERED:
            if n > total:
                scale.Apps(stack, org, n - total)
                total = n
            recovery = restart_ms(stack, ten)
            stack.next_flush()
            stats = load.Load("GET", "/api/admin/pool/stats", stack.sys.token).run(stack.lighttpd.port, 1, SECONDS)
            page = load.Load("GET", f"/api/orgs/{org.id}/orchestrators?limit=50",
                             org.admin.token).run(stack.lighttpd.port, 1, SECONDS)
            part.add(n, stats.p50_ms, page.p50_ms, recovery)
    return part


PARTS = {"loaded": loaded, "streams": streams, "clients": clients, "registered": registered}


def main(names):
    unknown = [n for n in names if n not in PARTS]
    if unknown:
        sys.exit(f"growth: no such part: {' '.join(unknown)}; there are: {' '.join(PARTS)}")
    try:
        parts = [PARTS[name]() for name in names or PARTS]
    finally:
        harness.remove_template()
    text = "\n".join(f"{p.title}:\n\n{p.markdown()}" for p in parts)
    print(text)
    if not names:
        text = "![How the cost grows](growth.svg)\n\n" + text
        folder = pathlib.Path(os.environ.get("HEARTH_RESULTS", "."))
        (folder / "bench-growth.md").write_text(text)
        (folder / "growth.svg").write_text(svg.picture([p.panel() for p in parts]))


if __name__ == "__main__":
    main(sys.argv[1:])
