# SPDX-License-Identifier: Apache-2.0
"""The servers of the bench: a Stack with the settings of a production host, and the floor beside it."""
import contextlib
import socket

import harness
import rows

FLOOR_THREADS = 64  # as app.threads_max

# None: the program's own default, where the stories have a faster one.
PRODUCTION = {
    "log": {"level": None},
    "app": {"threads_max": None, "demand_wait_s": None},
    "worker": {"lease_s": None, "recovery_s": None, "reconcile_s": None, "stats_s": None, "drain_s": None},
}
MARIADB = ["--innodb-flush-log-at-trx-commit=1", "--innodb-buffer-pool-size=1G", "--innodb-log-file-size=512M"]


class Floor(harness.Program):
    """The FastCGI program that prints a constant."""

    name = "floor_fcgi"

    def __init__(self, stack):
        super().__init__(stack)
        self.socket = stack.folder / "floor.sock"

    def command(self):
        return [str(harness.BUILD / "tests/bench/floor_fcgi"), str(self.socket), str(FLOOR_THREADS)]

    def is_ready(self):
        with socket.socket(socket.AF_UNIX) as s:
            with contextlib.suppress(OSError):
                s.connect(str(self.socket))
                return True
        return False


class FloorStack:
    """lighttpd, set up as for Hearth, before the floor."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.app = Floor(self)
        self.lighttpd = harness.Lighttpd(self)

    def start(self):
        self.app.start()
        self.lighttpd.start()

    def stop(self):
        self.lighttpd.stop()
        self.app.stop()


@contextlib.contextmanager
def servers(floor=False, allow=(), mariadb=(), **options):
    """Yields the Stack, stack.floor beside it where asked for; fails where a program complains."""
    sections = {s: {**PRODUCTION.get(s, {}), **options.get(s, {})} for s in {*PRODUCTION, *options}}
    stack = harness.Stack(start=False, **sections)
    stack.db.more_options = [*MARIADB, *mariadb]
    stack.floor = FloorStack(stack.folder / "floor") if floor else None
    is_over = False
    try:
        stack.start()
        rows.note_settings(stack)
        if floor:
            stack.floor.start()
        yield stack
        is_over = True
    finally:
        if floor:
            stack.floor.stop()
        if not is_over:
            print("\n".join(p.tail(20) for p in stack.programs if p.process))
            stack.kill_all()
    stack.allow(*allow)
    found = stack.stop()
    assert not found, "\n".join(found)
