# SPDX-License-Identifier: Apache-2.0
"""Short chaos runs (tests/chaos/README.md) on one nats-server and on a cluster. `make chaos` draws seeds."""
import sys

import pytest

import harness

sys.path.append(str(harness.SOURCE / "tests/chaos"))

import chaos  # noqa: E402

MINUTES = 0.3


@pytest.mark.parametrize("seed", [92, 6], ids=["one nats-server", "a NATS cluster"])
def test_nothing_is_lost_and_nothing_wrong_is_answered_while_everything_is_killed(seed):
    report = chaos.run(seed, MINUTES)
    assert report["operations"] > 0 and report["answered"] > 0 and report["faults"], report
    assert not report["violations"], f"again with: {report['repeat']}; its folder: {report['folder']}\n" + "\n".join(report["violations"])
