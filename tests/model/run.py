#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""run.py SOURCE BUILD [NAME...]: checks the model of the protocol, each scenario and each mutant with spin.

A scenario must hold; a mutant (one rule of the protocol taken away) must break the property that is named here. Prints
one line per case and leaves BUILD/results.xml; exits 1 unless all are as they should be. NAME: only these.
With --trail NAME: the execution that broke NAME's property, as the changes of the state.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import resource
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

MEMORY_MAX = 3 << 30  # two run at once
DEPTH_MAX = 200000

# What is explored: name, sizes. LIVENESS: comes_to_rest; SPINNING: no_spinning; cycles are looked for, so the sizes are
# smaller.
SCENARIOS = {
    "two_requests_and_a_fault": "REQUESTS=2 FAULTS=1",
    "two_requests_and_two_faults": "REQUESTS=2 FAULTS=2",
    "a_turn_in_flight": "REQUESTS=2 FAULTS=1 USES=1",
    "on_demand": "REQUESTS=1 FAULTS=1 USES=2 TIER_DEMAND",
    "two_copies": "REQUESTS=2 FAULTS=1 REPLICAS=2",
    "suspended_and_active_again": "REQUESTS=2 FAULTS=1 SUSPENDS",
    "poisoned": "REQUESTS=2 FAULTS=2 ATTEMPTS_MAX=1",
    "comes_to_rest": "REQUESTS=2 FAULTS=1 LIVENESS",
    "comes_to_rest_two_faults": "REQUESTS=1 FAULTS=2 LIVENESS",
    "comes_to_rest_two_copies": "REQUESTS=1 FAULTS=1 REPLICAS=2 LIVENESS",
    "comes_to_rest_on_demand": "REQUESTS=1 FAULTS=1 USES=2 TIER_DEMAND LIVENESS",
    "comes_to_rest_suspended": "REQUESTS=2 FAULTS=1 SUSPENDS LIVENESS",
    "comes_to_rest_poisoned": "REQUESTS=2 FAULTS=1 ATTEMPTS_MAX=1 LIVENESS",
    "no_spinning": "REQUESTS=2 FAULTS=1 SPINNING",
    "no_spinning_two_copies": "REQUESTS=1 FAULTS=1 REPLICAS=2 SPINNING",
    "no_spinning_on_demand": "REQUESTS=1 FAULTS=1 USES=2 TIER_DEMAND SPINNING",
}
# How spin is to look, and the name of the property that a cycle breaks.
CYCLES = {"LIVENESS": (["-DNFAIR=4"], ["-a", "-f"], "comes_to_rest"), "SPINNING": ([], ["-a"], "no_spinning")}
# What is taken away: the property that breaks, and the sizes in which it does.
MUTANTS = {
    "A_HELD_COPY_IGNORES_UNLOADS": ("the_end_is_what_the_row_says", "REQUESTS=2"),
    "A_LATE_LEASE_IS_A_LOST_ONE": ("ready_copies_are_reachable", "REQUESTS=2"),
    "ATTEMPTS_ARE_NOT_GIVEN_BACK": ("who_is_suspected_has_killed", "REQUESTS=1 ATTEMPTS_MAX=1"),
    "CHANGES_ARE_PASSED_ON": ("no_spinning", "REQUESTS=2 SPINNING"),
    "CLAIMED_WITHOUT_AN_OPERATION": ("the_end_is_what_the_row_says", "REQUESTS=2"),
    "DECLARED_DEAD_ON_AN_OLD_LOOK": ("no_turn_below_unload", "REQUESTS=2"),
    "EVENTS_ARE_PASSED_ON_FOR_EVER": ("no_spinning", "REQUESTS=1 REPLICAS=2 SPINNING"),
    "GONE_BEFORE_UNSUBSCRIBED": ("no_turn_below_unload", "REQUESTS=2"),
    "ITS_ROW_IS_CLAIMED_WHILE_IT_SERVES": ("no_turn_below_unload", "REQUESTS=2 FAULTS=0 USES=2 TIER_DEMAND"),
    "LEASE_COUNTS_FROM_ITS_ANSWER": ("no_turn_below_unload", "REQUESTS=2"),
    "LEASE_VALID_BEFORE_TAKEN_OVER": ("no_turn_below_unload", "REQUESTS=2"),
    "NOTHING_IS_PUBLISHED_AGAIN": ("every_operation_has_ended", "REQUESTS=2"),
    "NOTHING_IS_SUPERSEDED": ("the_end_is_what_the_row_says", "REQUESTS=2 LIVENESS"),
    "NO_RECONCILE": ("no_copy_too_many", "REQUESTS=2"),
    "NO_SWEEP": ("the_end_is_what_the_row_says", "REQUESTS=2"),
    "NUMBERS_ARE_NOT_TAKEN_OVER": ("comes_to_rest", "REQUESTS=2 LIVENESS"),
    "READY_BEFORE_SUBSCRIBED": ("ready_copies_are_reachable", "REQUESTS=2"),
    "REAPED_WITHOUT_DECLARING": ("no_turn_below_unload", "REQUESTS=2"),
    "REBUILD_CLAIMED_AFTER_UNLOAD": ("the_end_is_what_the_row_says", "REQUESTS=3"),
    "RECOVERY_ENDS_NOTHING": ("comes_to_rest", "REQUESTS=2 LIVENESS"),
    "RENEWED_WHATEVER_INCARNATION": ("no_turn_below_unload", "REQUESTS=2"),
    "TAKEN_OVER_WITH_ITS_COPIES": ("no_turn_below_unload", "REQUESTS=2"),
    "TURNS_ASK_NO_LEASE": ("no_turn_below_unload", "REQUESTS=2"),
    "UNLOAD_WAITS_FOR_LIVE_COPIES_ONLY": ("no_turn_below_unload", "REQUESTS=2"),
    "UNLOAD_WAITS_NOT_FOR_DRAINING": ("no_turn_below_unload", "REQUESTS=2"),
    "UNSUBSCRIBED_BEFORE_DRAINING": ("ready_copies_are_reachable", "REQUESTS=2"),
    "WHAT_MUST_BE_REBUILT_IS_NOT_READY": ("no_turn_below_unload", "REQUESTS=3"),
}


def limit_memory():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))


class Case:
    """One verifier: made in a folder of its own, run to its end or to its first error."""

    def __init__(self, build, name, sizes, expected=None):
        self.folder = build / name
        self.name = name
        self.defines = ["-D" + size for size in sizes.split()]
        self.compile, self.search, self.of_cycle = (["-DSAFETY"], [], None)
        for mode in CYCLES.keys() & set(sizes.split()):
            self.compile, self.search, self.of_cycle = CYCLES[mode]
        if expected is not None:
            self.defines.append("-DMUTANT_" + name)
        self.expected = expected
        self.problem = None
        self.states = self.seconds = 0

    def call(self, *command):
        done = subprocess.run(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False, preexec_fn=limit_memory)
        return done.stdout

    def run(self, source):
        begun = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in ("pan", "pan.c", "hearth.pml.trail"):
            (self.folder / old).unlink(missing_ok=True)
        said = self.call("spin", "-a", *self.defines, str(source / "hearth.pml"))
        if (self.folder / "pan.c").exists():
            said += self.call("gcc", "-O0" if self.expected else "-O1", "-w", "-DCOLLAPSE", *self.compile, "-o", "pan", "pan.c")
        if (self.folder / "pan").exists():
            said += self.call("./pan", "-n", f"-m{DEPTH_MAX}", *self.search)
        (self.folder / "said").write_text(said)
        self.judge(said)
        self.seconds = time.monotonic() - begun
        return self

    def judge(self, said):
        states = re.search(r"^\s*(\d+) states, stored", said, re.M)
        self.states = int(states.group(1)) if states else 0
        is_whole = re.search(r"errors: 0$", said, re.M) and "Search not completed" not in said
        broken = re.search(r"^pan:\d+: (?:assertion violated \(*(\w+)|(acceptance cycle)|(invalid end state))", said, re.M)
        broken = next((word for word in broken.groups() if word), None) if broken else None
        if broken == "acceptance cycle":
            broken = self.of_cycle
        if broken is None and not is_whole:
            self.problem = "not checked to the end: " + " ".join(said.split())[-300:]
        elif broken != self.expected:
            self.problem = f"{broken or 'no property'} broken, expected {self.expected or 'none'}"


def all_cases(build):
    cases = [Case(build, name, sizes) for name, sizes in SCENARIOS.items()]
    return cases + [Case(build, name, sizes, expected) for name, (expected, sizes) in MUTANTS.items()]


def write_results(build, cases):
    suite = ElementTree.Element("testsuite", name="model", tests=str(len(cases)))
    for case in cases:
        element = ElementTree.SubElement(suite, "testcase", classname="model", name=case.name, time=f"{case.seconds:.1f}")
        if case.problem:
            ElementTree.SubElement(element, "failure", message=case.problem)
    ElementTree.ElementTree(suite).write(build / "results.xml", encoding="utf-8", xml_declaration=True)


NOISE = re.compile(r"(c_|h_|g$|n$|no_turn|ready_copies|who_is|want_more|new_hash|answer|every_|no_copy|the_end)")


def show_trail(case, source):
    """The trail that pan left, without what is only looked at: who acted, and which variables changed."""
    said = case.call("spin", "-k", "hearth.pml.trail", "-p", "-g", *case.defines, str(source / "hearth.pml"))
    values, last = {}, None
    for line in said.splitlines():
        if "START OF CYCLE" in line:
            print("from here on again and again:")
        step = re.match(r"\s*(\d+):\s+proc\s+\d+ \((\w+).*?:(\d+) \(state", line)
        if step and step.group(1) != last:
            last = step.group(1)
            print(f"{last}: {step.group(2)}, line {step.group(3)}")
        change = re.match(r"\s+(\w+(?:\[\d\])?) = (\w+)$", line)
        if change and not NOISE.match(change.group(1)) and values.get(change.group(1), "0") != change.group(2):
            print(f"      {change.group(1)} = {change.group(2)}")
        if change:
            values[change.group(1)] = change.group(2)


def main():
    parser = argparse.ArgumentParser(usage="run.py SOURCE BUILD [--jobs N] [--trail] [NAME...]")
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--trail", action="store_true")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    args = parser.parse_intermixed_args()
    source, build = args.source.resolve(), args.build.resolve()
    cases = [case for case in all_cases(build) if not args.names or case.name in args.names]
    if args.trail:
        for case in cases:
            show_trail(case, source)
        return 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as threads:
        for case in threads.map(lambda case: case.run(source), cases):
            kind = "MUTANT_" if case.expected else ""
            good = f"breaks {case.expected}" if case.expected else "holds"
            print(f"{'FAILED' if case.problem else 'passed'} {kind}{case.name}: {case.problem or good} "
                  f"({case.states} states, {case.seconds:.0f} s)", flush=True)
    write_results(build, cases)
    failed = sum(1 for case in cases if case.problem)
    print(f"model: {len(cases) - failed} passed, {failed} failed")
    return 0 if failed == 0 and cases else 1


if __name__ == "__main__":
    sys.exit(main())
