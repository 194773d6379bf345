# SPDX-License-Identifier: Apache-2.0
"""What the pool does by itself: loads a second, memory of an App, reloads under load, the loss of a worker."""
import scale
from rows import Figure
from servers import servers

ROUNDS = 3
PROBE = 1000  # Apps of a first round, which says how many a round of some seconds takes
ROUND_SECONDS = 5
LOADS_MAX = 20000
MEMORY_APPS = 100000
TAKEOVER_APPS = 10000
LEASE_S = 15
CYCLES_AT_ONCE, CYCLE_ROUNDS = 1000, 10


def load_rate(stack, org, n):
    """Loads a second of one worker that finds all events waiting: from its registration to its last ready placement.

    The rows and events are those of accepted loads, made without HTTP while no worker runs, so that what is measured is
    the worker. Both times are the database's."""
    apps = scale.Apps(stack, org, n)
    assert stack.worker.stop() == 0
    apps.accept("load")
    apps.publish("load")
    stack.worker.start()
    apps.wait_ready()
    rate = float(stack.db.value(
        f"SELECT {n} / (TIMESTAMPDIFF(MICROSECOND, w.started_at, MAX(p.changed_at)) / 1e6)"
        f" FROM workers w, placements p WHERE p.instance_id {apps.is_mine}"))
    stack.worker.stop()
    apps.forget()
    stack.worker.start()
    return rate


def loads():
    with servers(worker={"hot_ceiling": MEMORY_APPS}) as stack:
        org = stack.new_org(quotas=scale.BIG_QUOTAS)
        n = max(PROBE, min(LOADS_MAX, int(load_rate(stack, org, PROBE) * ROUND_SECONDS)))
        rates = [load_rate(stack, org, n) for _ in range(ROUNDS)]
        return [Figure("loads, event to ready", "Apps/s", rates, (">=", 5000, "value"),
                       note=f"{n:,} events waiting for one worker; from its start to the last ready")]


def memory():
    with servers(worker={"hot_ceiling": MEMORY_APPS}) as stack:
        org = stack.new_org(quotas=scale.BIG_QUOTAS)
        apps = scale.Apps(stack, org, MEMORY_APPS)
        before = scale.rss_kib(stack.worker.pid)
        apps.load(1200)
        each = (scale.rss_kib(stack.worker.pid) - before) / MEMORY_APPS
        return [Figure(f"memory of a hot App among {MEMORY_APPS:,}", "KiB", [each], ("<=", 4, "value"),
                       note=f"RSS of the worker, against {before / 1024:.1f} MiB before the first")]


def reloads():
    with servers() as stack:
        turns, failed, seconds, count = scale.reloads_under_chat(stack, stack.new_org())
        return [Figure(f"{count:,} reloads under {turns:,} chat turns", "failed turns", [failed], ("<=", 0, "value"),
                       note=f"{turns / seconds:,.0f} turns/s and {count / seconds:,.0f} reloads/s meanwhile")]


def takeover():
    allow = [r"(?i)lease|incarnation|recover|declared dead|reap|unfinished|attempt"]
    with servers(allow=allow, worker={"hot_ceiling": TAKEOVER_APPS}) as stack:
        org = stack.new_org(quotas=scale.BIG_QUOTAS)
        seconds, accepted = scale.worker_killed(stack, org, TAKEOVER_APPS)
        return [Figure(f"worker killed with {TAKEOVER_APPS:,} hot Apps", "s", [seconds], ("<=", LEASE_S + 15, "value"),
                       note=f"until all were ready on another; 0 of {accepted} operations that were accepted meanwhile lost")]


def cycles():
    with servers(allow=[r"placement that is not held"]) as stack:
        first, last = scale.load_cycles(stack, stack.new_org(quotas=scale.BIG_QUOTAS), CYCLES_AT_ONCE, CYCLE_ROUNDS)
        assert last.descriptors == first.descriptors and last.nats_subscriptions == first.nats_subscriptions, (first, last)
        return [Figure(f"worker after {CYCLES_AT_ONCE * CYCLE_ROUNDS:,} loads and unloads", "MiB",
                       [last.rss_kib / 1024], ("<=", 1.1, "ratio"), [first.rss_kib / 1024],
                       note="RSS; floor: after the first 2,000; descriptors and subscriptions are the same;"
                       f" nats-server {first.nats_mib:.0f} -> {last.nats_mib:.0f} MiB")]


GROUPS = {"loads": loads, "memory": memory, "reloads": reloads, "takeover": takeover, "cycles": cycles}
