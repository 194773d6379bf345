# SPDX-License-Identifier: Apache-2.0
"""What the pool does by itself: loads a second, from event to ready."""
import scale
from figures_http import BIG_QUOTAS
from rows import Figure
from servers import servers

ROUNDS = 3
LOADS = 10000


def load_rate(stack, apps):
    """Loads a second of one worker that finds all events waiting: from its registration to its last ready placement.

    The worker is stopped before and started by this. The rows and events are those of accepted loads, made without
    HTTP, so that what is measured is the worker. Both times are the database's."""
    apps.accept_loads()
    apps.publish()
    stack.worker.start()
    apps.wait_ready()
    return float(stack.db.value(
        f"SELECT {apps.n} / (TIMESTAMPDIFF(MICROSECOND, w.started_at, MAX(p.changed_at)) / 1e6)"
        f" FROM workers w, placements p WHERE p.instance_id {apps.is_mine}"))


def loads():
    with servers(worker={"hot_ceiling": 200000}) as stack:
        org = stack.new_org(quotas=BIG_QUOTAS)
        rates = []
        for _ in range(ROUNDS):
            apps = scale.Apps(stack, org, LOADS)
            assert stack.worker.stop() == 0
            rates.append(load_rate(stack, apps))
            stack.worker.stop()
            apps.forget()
            stack.worker.start()
        return [Figure("loads, event to ready", "Apps/s", rates, (">=", 5000, "value"),
                       note=f"{LOADS:,} events waiting for one worker; from its start to the last ready")]


GROUPS = {"loads": loads}
