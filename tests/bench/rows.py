# SPDX-License-Identifier: Apache-2.0
"""A figure, how it is put together from rounds, and how it is shown."""
import os
import platform
import statistics

_settings = {}


def note_settings(stack):
    """What the durable half of the servers was really set to; shown under the table."""
    flush, log, pool = stack.db.run(
        "SELECT @@innodb_flush_log_at_trx_commit, @@log_bin, @@innodb_buffer_pool_size >> 20")[0]
    _settings["MariaDB"] = f"innodb_flush_log_at_trx_commit={flush} log_bin={log} innodb_buffer_pool_size={pool}M"


class Figure:
    """One row. reach is (">=" or "<=", number, of): of the "ratio" or of the "value"; None: it is only to be known."""

    def __init__(self, figure, unit, values, reach=None, floors=None, p50_ms=None, p99_ms=None, note=""):
        self.figure, self.unit, self.note = figure, unit, note
        self.values, self.floors = values, floors
        self.value = statistics.median(values)
        self.floor = statistics.median(floors) if floors else None
        self.ratio = self.value / self.floor if self.floor else None
        self.reach, self.holds = None, None
        if reach:
            sign, bound, of = reach
            measured = self.ratio if of == "ratio" else self.value
            self.reach, self.holds = f"{of} {sign} {bound:g}", measured >= bound if sign == ">=" else measured <= bound
        self.p50_ms = statistics.median(p50_ms) if p50_ms else None
        self.p99_ms = statistics.median(p99_ms) if p99_ms else None

    def json(self):
        return {"figure": self.figure, "value": rounded(self.value), "unit": self.unit, "floor": rounded(self.floor),
                "ratio": rounded(self.ratio), "reach": self.reach, "holds": self.holds}


def rounded(x):
    """Four digits are more than a figure is worth."""
    return None if x is None else float(f"{x:.4g}")


def shown(x):
    if x is None:
        return "-"
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"


def cells(r):
    spread = f"{shown(min(r.values))}..{shown(max(r.values))}" if len(r.values) > 1 else "-"
    holds = {True: "yes", False: "NO", None: "-"}[r.holds]
    return [r.figure, shown(r.value), r.unit, shown(r.floor), shown(r.ratio), r.reach or "-", holds, spread,
            shown(r.p50_ms), shown(r.p99_ms)]


HEAD = ["figure", "value", "unit", "floor", "ratio", "reach", "holds", "rounds", "p50 ms", "p99 ms"]


def print_table(results):
    table = [HEAD] + [cells(r) for r in results]
    widths = [max(len(line[i]) for line in table) for i in range(len(HEAD))]
    for line in table:
        print("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip())
    print("\n".join(notes(results)))


def notes(results):
    return [f"{r.figure}: {r.note}" for r in results if r.note]


def markdown(head, body):
    return "".join("| " + " | ".join(line) + " |\n" for line in [head, ["---"] * len(head), *body])


def page(results):
    """The same for docs/performance.md."""
    listed = "".join(f"- {line}\n" for line in notes(results) + conditions().splitlines())
    return markdown(HEAD, [cells(r) for r in results]) + "\n" + listed


def conditions():
    cores = len(os.sched_getaffinity(0))
    return "\n".join([f"Machine: {cores} cores, {platform.machine()}, Linux {platform.release()}; "
                      "load generator and servers on the same cores."]
                     + [f"{k}: {v}" for k, v in _settings.items()])
