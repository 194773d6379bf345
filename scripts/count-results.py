#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""count-results.py BUILD: what the tests of a build tree said, counted in cases.

Reads the CUnit programs' logs (tests/unit/*.log with automake's *.trs beside
them), pytest's results.xml and the model's. Prints failures and skips, then one last line
"N passed, N failed"; exits 1 unless something passed and nothing failed.
"""
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree

SUMMARY = re.compile(r"^\s*tests\s+\d+\s+\d+\s+(\d+)\s+(\d+)\s+\d+", re.M)
RESULT = re.compile(r"^:test-result: (\w+)", re.M)


class Count:
    def __init__(self):
        self.passed = self.failed = 0
        self.notes = []

    def add(self, passed, failed, note=None):
        self.passed += passed
        self.failed += failed
        if note:
            self.notes.append(note)


def count_unit(build, count):
    """One CUnit program per .trs; a program that ends without a summary, or badly after a good one, is a failed case."""
    for trs in sorted((build / "tests").rglob("*.trs")):
        name = trs.stem
        result = RESULT.search(trs.read_text(errors="replace"))
        result = result.group(1) if result else "ERROR"
        log = trs.with_suffix(".log").read_text(errors="replace") if trs.with_suffix(".log").exists() else ""
        summary = SUMMARY.search(log)
        if result == "SKIP":
            count.add(0, 1, f"skipped: unit {name}")
            continue
        passed, failed = map(int, summary.groups()) if summary else (0, 0)
        if result == "PASS" and not summary:
            passed = 1  # a program without CUnit is one case
        if result != "PASS" and failed == 0:
            failed = 1
        count.add(passed, failed, f"failed: unit {name}" if failed else None)


def needs_node(case):
    skipped = case.find("skipped")
    return skipped is not None and "no node" in skipped.get("message", "")


def count_integration(build, count):
    path = build / "tests/integration/results.xml"
    if not path.exists():
        count.add(0, 1, "failed: the integration tests left no results")
        return
    cases = {}
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        # A case whose teardown failed too comes twice.
        bad = next((k for k in ("failure", "error", "skipped") if case.find(k) is not None), None)
        if name not in cases or bad:
            cases[name] = (bad, needs_node(case))
    for name, (bad, is_node) in cases.items():
        if bad is None:
            count.add(1, 0)
        elif bad == "skipped":
            count.add(0, 0 if is_node else 1, f"skipped: {name}")
        else:
            count.add(0, 1, f"failed: {name}")
    if not cases:
        count.add(0, 1, "failed: no integration test ran")


def count_model(build, count):
    """Scenarios that must hold, mutants that must not."""
    path = build / "tests/model/results.xml"
    cases = list(ElementTree.parse(path).iter("testcase")) if path.exists() else []
    for case in cases:
        is_bad = case.find("failure") is not None
        count.add(not is_bad, is_bad, f"failed: model {case.get('name')}" if is_bad else None)
    if not cases:
        count.add(0, 1, "failed: the model was not checked")


def main():
    build = pathlib.Path(sys.argv[1])
    count = Count()
    count_unit(build, count)
    count_integration(build, count)
    count_model(build, count)
    for note in sorted(count.notes):
        print(note)
    print(f"{count.passed} passed, {count.failed} failed")
    return 0 if count.failed == 0 and count.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
