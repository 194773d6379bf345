# SPDX-License-Identifier: Apache-2.0
"""make bench: the figures that Hearth promises, each beside its floor, on real servers.

Runs the groups that are named (all where none is), prints one table, writes
bench-results.json (and .md, the table for docs/) into $HEARTH_RESULTS. A figure that is not reached is shown as
such and fails nothing; an unexpected answer fails the run. Floor and figure are
measured in turns, and the median of the rounds counts: other work on the machine
then hits both.
"""
import json
import os
import pathlib
import shutil
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

import figures_http  # noqa: E402
import figures_llm  # noqa: E402
import figures_pool  # noqa: E402
import figures_streams  # noqa: E402
import harness  # noqa: E402
import rows  # noqa: E402

ALL = {**figures_http.GROUPS, **figures_llm.GROUPS, **figures_pool.GROUPS, **figures_streams.GROUPS}
GROUPS = {name: ALL[name] for name in ("lifecycle", "chat", "not_loaded", "llm", "memory", "loads", "streams", "reloads",
                                       "takeover", "cycles", "pool_stats")}


def main(names):
    unknown = [n for n in names if n not in GROUPS]
    if unknown:
        sys.exit(f"bench: no such figure: {' '.join(unknown)}; there are: {' '.join(GROUPS)}")
    missing = [p for p in ("wrk", "lighttpd", "nginx", "mariadbd", "nats-server") if not shutil.which(p, path=harness.PATH)]
    if missing:
        sys.exit(f"bench: missing programs: {' '.join(missing)} (Debian has each in a package of about that name)")
    began, results = time.monotonic(), []
    try:
        for name in names or GROUPS:
            start = time.monotonic()
            results += GROUPS[name]()
            print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    finally:
        harness.remove_template()
    rows.print_table(results)
    print(f"\n{rows.conditions()}\nTook {time.monotonic() - began:.0f} s.")
    folder = pathlib.Path(os.environ.get("HEARTH_RESULTS", "."))
    (folder / "bench-results.json").write_text(json.dumps([r.json() for r in results], indent=1) + "\n")
    (folder / "bench-results.md").write_text(rows.page(results))
    print(f"Written: {folder}/bench-results.json and .md")


if __name__ == "__main__":
    main(sys.argv[1:])
