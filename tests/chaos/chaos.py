#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One chaos run after the other: chaos.py --minutes 5 --seed 7 [--seed 8 …] [--report FILE] [--keep]

A run starts its own servers, keeps a mix of lifecycle requests and chats going while faults come in the order
that the seed gives, heals all, waits for rest and checks. Exit status 1: something was wrong.
"""
import argparse
import collections
import json
import pathlib
import random
import signal
import sys
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "integration")]

import checks  # noqa: E402
import faults  # noqa: E402
import harness  # noqa: E402
from clients import Load  # noqa: E402
import pool as pools  # noqa: E402

# Faults make warnings. What must never be logged is an error, but for these.
EXPECTED = [r"Z warn ", r"^\[.*\[ERR\]", r"(?i)Z error .*(nats|bus|mariadb|database|connection|lease)"]

GRACE_S = 2  # from the moment that all programs are ready until nothing is left of the last fault
CALM_S = 8
SAID_MAX = 5  # violations of one kind


def run(seed, minutes, workers=3, nats_nodes=None, is_kept=False, only=None, say=print):
    """One run. Returns its report. Every third seed has a NATS cluster."""
    began = time.time()
    nats_nodes = nats_nodes or (3 if seed % 3 == 0 else 1)
    report = {"seed": seed, "minutes": minutes, "workers": workers, "nats_nodes": nats_nodes,
              "repeat": f"make chaos SEED={seed} MINUTES={minutes:g}" + (f" ONLY={','.join(only)}" if only else "")}

    def note(text):
        say(f"  {time.time() - began:6.1f} s  {text}")

    say(f"chaos: seed {seed}, {minutes:g} minutes, {workers} workers, {nats_nodes} nats-server; again with: {report['repeat']}")
    pool = pools.Pool(workers, nats_nodes, note)
    found, counts, injected, clients, quiet = [], {}, [], None, None
    try:
        pool.start()
        clients = pool.load = Load(pool, seed)
        pool.rest = lambda when: rest(pool, clients, when, found, note)
        clients.start()
        note("the load runs")
        broken = None
        try:
            injected = faults.run(pool, seed, time.time() + minutes * 60, note, only)
        except Exception as e:  # the end is checked all the same
            broken = checks.Violation("not whole after a fault", f"{e!r}")
        if not broken:
            quiet = calm(pool, clients, seed, note)
        clients.stop()
        note("all healed, the load has stopped")
        judge = checks.Checks(pool, clients, injected, quiet)
        if broken:
            judge.violations.append(broken)
        else:
            try:
                pool.wait_whole()
            except AssertionError as e:
                judge.found("not whole after the last fault", str(e))
        found += judge.run()
        counts = judge.counts
    except Exception:
        found.append(checks.Violation("the run broke off", traceback.format_exc()))
        if clients:
            clients.over.set()
    finally:
        pool.watch.stop()
        found += [checks.Violation(kind, text) for kind, text in pool.watch.found.values()]
        pool.allow(*EXPECTED)
        complaints = pool.close(is_kept or bool(found))
    found += [checks.Violation("process", text) for text in complaints]
    report |= {
        "steps": [[f.name, f.what, round(f.began - began, 1), round((f.ended or f.began) - began, 1)] for f in injected],
        "faults": dict(collections.Counter(f.name for f in injected)),
        "counts": dict(sorted(counts.items())),
        "operations": counts.get("operations", 0),
        "turns": len(clients.turns) if clients else 0,
        "answered": sum(v for k, v in counts.items() if k.startswith("turns: 200")),
        "started_by_supervisor": pool.supervised,
        "violations": [str(v) for v in found],
        "folder": str(pool.folder) if found or is_kept else None,
        "seconds": round(time.time() - began, 1),
    }
    say_found(found, say)
    say(f"chaos: seed {seed}: {minutes:g} minutes, {len(injected)} faults, {report['operations']} operations, {report['turns']} turns "
        f"({report['answered']} answered), {len(found)} violations")
    if found:
        say(f"  the folder is kept: {pool.folder}; again with: {report['repeat']}")
    return report


def say_found(found, say):
    said = collections.Counter()
    for v in found:
        said[v.kind] += 1
        if said[v.kind] <= SAID_MAX:
            say(f"VIOLATION {v}")
    for kind, number in said.items():
        if number > SAID_MAX:
            say(f"VIOLATION {kind}: {number - SAID_MAX} more")


def rest(pool, clients, when, found, note):
    """In the middle of a run, while no client asks: all must come to what the rows say."""
    pool.wait_whole()
    with clients.paused():
        judge = checks.Checks(pool, clients, [])
        judge.check_rest(when)
    found.extend(judge.violations)
    note(f"at rest while {when}: {len(judge.violations)} violations")


def calm(pool, clients, seed, note):
    """Without a fault, and with all requests at a few Apps: now no request may be lost and no operation left open."""
    r = random.Random(f"calm {seed}")
    try:
        pool.wait_whole()
    except AssertionError:
        return None  # it is found again, and said, at the end
    time.sleep(GRACE_S)
    began = time.time()
    note("calm, and a storm of requests")
    able = [t for t in clients.targets if not t.is_gone and not t.is_crabby]
    with clients.aim(r.sample(able, min(3, len(able))), is_storm=True), faults.slow_links(pool):
        while time.time() < began + CALM_S:
            pool.watch.look_for_left_open(began)
            time.sleep(0.5)
    return began, time.time()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--seed", type=int, action="append", help="several are run one after the other; default: one at random")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--nats", type=int, choices=(1, 3), help="nodes of NATS; default: 3 for every third seed, else 1")
    parser.add_argument("--only", type=lambda text: text.split(","), help="faults of these alone: " + ",".join(
        sorted({f.touches for f in faults.FAULTS})))
    parser.add_argument("--report", type=pathlib.Path, help="a file for the reports as JSON, a line for each run")
    parser.add_argument("--keep", action="store_true", help="keep the folders with the logs")
    args = parser.parse_args()
    bad = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))  # ends the servers too
    try:
        for seed in args.seed or [random.SystemRandom().randrange(10**6)]:
            report = run(seed, args.minutes, args.workers, args.nats, args.keep, args.only, say=lambda text: print(text, flush=True))
            bad += bool(report["violations"])
            if args.report:
                with args.report.open("a") as f:
                    f.write(json.dumps(report) + "\n")
    finally:
        harness.remove_template()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
