# SPDX-License-Identifier: Apache-2.0
"""Where things are, and how a story waits."""
import contextlib
import os
import pathlib
import random
import re
import signal
import socket
import threading
import time

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("HEARTH_BUILD", SOURCE)).resolve()
SLOW = float(os.environ.get("HEARTH_TEST_SLOW", "1"))  # on a slow machine: all time limits times this
KEEP = os.environ.get("HEARTH_TEST_KEEP")  # keep the folders for a look
PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"

SANITIZER_SPOKE = re.compile(
    r"(ERROR|WARNING|SUMMARY): \w*Sanitizer|runtime error: |AddressSanitizer:|LeakSanitizer|ThreadSanitizer:"
)
OUR_LINE = re.compile(r"^\S+Z (debug|info|warn|error) (\S+): (.*)$")
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
    "TSAN_OPTIONS": "exitcode=99:halt_on_error=0:second_deadlock_stack=1",
}


def _interrupt(_signum, _frame):
    raise KeyboardInterrupt


# So that what was started is ended too when a run is ended from outside, by timeout(1) say.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, _interrupt)


def program(name):
    """The path of a built program."""
    for folder in ("", "fcgi-app", "worker", "ctl"):
        path = BUILD / folder / name
        if path.is_file():
            return str(path)
    raise FileNotFoundError(f"{name} is not built in {BUILD}; set HEARTH_BUILD")


class NotYet(AssertionError):
    pass


def eventually(ask, timeout=15, what=None, every=0.02):
    """Asks until the answer is true (an assertion that fails inside counts as not yet) and returns it."""
    deadline = time.monotonic() + timeout * SLOW
    problem = None
    while True:
        is_last = time.monotonic() > deadline
        try:
            answer = ask()
            if answer:
                return answer
            problem = f"last answer: {answer!r}"
        except AssertionError as e:
            problem = str(e)
        if is_last:
            raise NotYet(f"not so after {timeout * SLOW:g} s: {what or ask}; {problem}")
        time.sleep(every)


def at_once(*calls):
    """Runs the calls at the same moment, each on a thread, and returns their results in order."""
    barrier = threading.Barrier(len(calls))
    results = [None] * len(calls)
    errors = []

    def run(i, call):
        try:
            barrier.wait()
            results[i] = call()
        except BaseException as e:  # noqa: B902 - raised again below
            errors.append(e)

    threads = [threading.Thread(target=run, args=(i, c), daemon=True) for i, c in enumerate(calls)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]
    return results


class Background(threading.Thread):
    """A call on a thread of its own; join() gives its result or raises what it raised."""

    def __init__(self, call, *args, **kwargs):
        super().__init__(daemon=True)
        self._call, self._result, self._error = lambda: call(*args, **kwargs), None, None
        self.start()

    def run(self):
        try:
            self._result = self._call()
        except BaseException as e:  # noqa: B902
            self._error = e

    def join(self, timeout=60):
        super().join(timeout * SLOW)
        assert not self.is_alive(), "the call in the background does not end"
        if self._error:
            raise self._error
        return self._result


PORTS_GIVEN = set()


def free_port():
    """One that nobody listens on, given once, outside of the range from which the system gives ports to those who name none."""
    while True:
        port = random.randrange(10000, 30000)
        if port in PORTS_GIVEN:
            continue
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            PORTS_GIVEN.add(port)
            return port
