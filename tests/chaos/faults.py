# SPDX-License-Identifier: Apache-2.0
"""The faults, and the plan that a seed makes of them.

A fault is a context manager: it injects, yields, and heals. What it touches keeps two faults of one step from
breaking the same thing. To add one: write the function, give it a row in FAULTS.
"""
import contextlib
import dataclasses
import random
import shutil
import threading
import time
import typing

from pool import OPTIONS

LEASE_S = OPTIONS["worker"]["lease_s"]
SHORT, LONG = (0.3, 2.0), (LEASE_S + 1, LEASE_S + 3)


@dataclasses.dataclass(frozen=True)
class Fault:
    name: str
    touches: str
    weight: int
    seconds: tuple
    inject: typing.Callable  # (pool, random) -> context manager


def stop_somehow(pool, r, programs):
    for program in programs:
        pool.kill(program) if r.random() < 0.5 else pool.terminate(program)


def names(programs):
    return ", ".join(p.name for p in programs)


def _killed(*pick):
    @contextlib.contextmanager
    def fault(pool, r):
        programs = [p for choose in pick for p in choose(pool, r)]
        for program in programs:
            pool.kill(program)
        yield names(programs)
        for program in programs:
            pool.back(program)
    return fault


def _terminated(pick):
    @contextlib.contextmanager
    def fault(pool, r):
        programs = pick(pool, r)
        for program in programs:
            pool.terminate(program)
        yield names(programs)
        for program in programs:
            pool.back(program)
    return fault


def _frozen(pick):
    @contextlib.contextmanager
    def fault(pool, r):
        programs = pick(pool, r)
        pool.expect_running(*programs)
        for program in programs:
            program.freeze()
        yield names(programs)
        for program in programs:
            program.thaw()
    return fault


def a_worker(pool, r):
    return [r.choice(pool.workers)]


def two_workers(pool, r):
    return r.sample(pool.workers, 2) if len(pool.workers) > 1 else list(pool.workers)


def every_worker(pool, _):
    return list(pool.workers)


def an_app(pool, r):
    return [r.choice(pool.apps)]


def every_app(pool, _):
    return list(pool.apps)


def a_node(pool, r):
    """Of NATS."""
    return [r.choice(pool.nats_nodes)]


def every_node(pool, _):
    return list(pool.nats_nodes)


def some_nodes(pool, r):
    return a_node(pool, r) if r.random() < 0.5 else every_node(pool, r)


def database(pool, _):
    return [pool.db]


@contextlib.contextmanager
def store_wiped_stopped(pool, r):
    nodes = some_nodes(pool, r)
    stop_somehow(pool, r, nodes)
    for node in nodes:
        shutil.rmtree(node.store, ignore_errors=True)
    yield names(nodes)
    for node in nodes:
        pool.back(node)


@contextlib.contextmanager
def store_wiped_running(pool, r):
    """Behind the server's back; it is started anew later, as whoever did that would."""
    nodes = some_nodes(pool, r)
    pool.expect_running(*nodes)
    for node in nodes:
        shutil.rmtree(node.store, ignore_errors=True)
    yield names(nodes)
    stop_somehow(pool, r, nodes)
    for node in nodes:
        shutil.rmtree(node.store, ignore_errors=True)
        pool.back(node)


@contextlib.contextmanager
def store_full(pool, _):
    """The file system of JetStream's store is full: a real ENOSPC. nats-server switches JetStream off then, or (2.9.10)
    stands still and does not even hear SIGTERM; it is killed and started anew."""
    nodes = every_node(pool, None)
    pool.expect_running(*nodes)
    pool.fill_store()
    yield names(nodes)
    pool.empty_store()
    for node in nodes:
        pool.kill(node)
        pool.back(node)


@contextlib.contextmanager
def backup_taken(pool, _):
    pool.back_up()
    yield f"backup {len(pool.backups) - 1}"


@contextlib.contextmanager
def backup_restored(pool, r):
    if not pool.backups:
        pool.back_up()
        yield "there was none: taken"
        return
    number = r.randrange(len(pool.backups))
    pool.restore(pool.backups[number])
    yield f"backup {number}"


def proxies(pool, r):
    """Some connections of one program: to the bus, to the database, or both."""
    link = r.choice(pool.links)
    which = r.choice(["bus", "database", "both"])
    return f"{link.name}: {which}", [*(link.bus if which != "database" else []), *([link.database] if which != "bus" else [])]


@contextlib.contextmanager
def connections_reset(pool, r):
    what, chosen = proxies(pool, r)
    for proxy in chosen:
        proxy.reset()
    yield what


@contextlib.contextmanager
def connections_cut(pool, r):
    what, chosen = proxies(pool, r)
    for proxy in chosen:
        proxy.cut()
    yield what
    for proxy in chosen:
        proxy.mend()


@contextlib.contextmanager
def connections_held(pool, r):
    """Half-open: nothing is passed on, nothing is closed."""
    what, chosen = proxies(pool, r)
    for proxy in chosen:
        proxy.hold()
    yield what
    for proxy in chosen:
        proxy.mend()


@contextlib.contextmanager
def connections_delayed(pool, r):
    """Passed on in bursts."""
    what, chosen = proxies(pool, r)
    over = threading.Event()

    def bursts():
        while not over.is_set():
            for proxy in chosen:
                proxy.hold()
            over.wait(0.25)
            for proxy in chosen:
                proxy.mend()
            over.wait(0.02)

    thread = threading.Thread(target=bursts, daemon=True)
    thread.start()
    yield what
    over.set()
    thread.join()


@contextlib.contextmanager
def connections_reset_often(pool, r):
    """Again and again, in the middle of whatever is on its way."""
    what, chosen = proxies(pool, r)
    over = threading.Event()

    def resets():
        while not over.wait(0.15):
            for proxy in chosen:
                proxy.reset()

    thread = threading.Thread(target=resets, daemon=True)
    thread.start()
    yield what
    over.set()
    thread.join()


FAULTS = [
    Fault("worker killed", "worker", 5, (0.1, 6), _killed(a_worker)),
    Fault("two workers killed", "worker", 2, (0.1, 6), _killed(two_workers)),
    Fault("all workers killed", "worker", 2, (0.1, 3), _killed(every_worker)),
    Fault("worker terminated", "worker", 4, (0.1, 3), _terminated(a_worker)),
    Fault("worker frozen briefly", "worker", 3, SHORT, _frozen(a_worker)),
    Fault("worker frozen past its lease", "worker", 4, LONG, _frozen(a_worker)),
    Fault("all workers frozen past their leases", "worker", 1, LONG, _frozen(every_worker)),
    Fault("app killed", "app", 3, (0.1, 3), _killed(an_app)),
    Fault("app terminated", "app", 2, (0.1, 3), _terminated(an_app)),
    Fault("both apps killed", "app", 1, (0.1, 2), _killed(every_app)),
    Fault("app frozen briefly", "app", 1, SHORT, _frozen(an_app)),
    Fault("app frozen long", "app", 1, LONG, _frozen(an_app)),
    Fault("nats-server killed", "nats", 3, (0.1, 5), _killed(some_nodes)),
    Fault("nats-server terminated", "nats", 2, (0.1, 5), _terminated(some_nodes)),
    Fault("nats-server frozen briefly", "nats", 2, SHORT, _frozen(some_nodes)),
    Fault("nats-server frozen long", "nats", 2, LONG, _frozen(some_nodes)),
    Fault("JetStream wiped while stopped", "nats", 2, (0.1, 3), store_wiped_stopped),
    Fault("JetStream wiped while running", "nats", 2, (1, 4), store_wiped_running),
    Fault("JetStream's disk full", "nats", 2, (2, 5), store_full),
    Fault("mariadbd killed", "db", 4, (0.1, 5), _killed(database)),
    Fault("mariadbd terminated", "db", 2, (0.1, 5), _terminated(database)),
    Fault("mariadbd frozen briefly", "db", 2, SHORT, _frozen(database)),
    Fault("mariadbd frozen long", "db", 2, LONG, _frozen(database)),
    Fault("backup taken", "db", 1, (0.1, 0.5), backup_taken),
    Fault("backup restored", "db", 1, (0.1, 0.5), backup_restored),
    Fault("connections reset", "link", 4, (0.1, 0.5), connections_reset),
    Fault("connections reset often", "link", 3, (1, 4), connections_reset_often),
    Fault("connections cut", "link", 3, (0.5, 6), connections_cut),
    Fault("connections held", "link", 3, (0.5, 7), connections_held),
    Fault("connections delayed", "link", 2, (1, 4), connections_delayed),
]


@dataclasses.dataclass
class Step:
    faults: list  # [(Fault, seconds)], one inside the other
    calm: float  # seconds after it
    is_whole: bool  # wait until everything is ready again
    seed: int


def plan(seed, has_small_store=True, only=None):
    """Endless: the steps that a seed gives. only: of what they may touch."""
    r = random.Random(f"faults {seed}")
    table = [f for f in FAULTS if (has_small_store or f.inject is not store_full) and (not only or f.touches in only)]
    named = {f.name: f for f in FAULTS}
    number = 0
    while True:
        faults = []
        for _ in range(r.choice([1, 1, 1, 2, 2, 3])):
            left = [f for f in table if f.touches not in {g.touches for g, _ in faults}]
            if not left:
                break
            fault = r.choices(left, [f.weight for f in left])[0]
            faults.append((fault, r.uniform(*fault.seconds)))
        # Each run that is not very short has an old backup, and goes back to it.
        if number in (1, 5) and (not only or "db" in only):
            fault = named["backup taken" if number == 1 else "backup restored"]
            faults = [(fault, 0.2)] + [f for f in faults if f[0].touches != "db"][:1]
        yield Step(faults, r.uniform(0.2, 2.5), r.random() < 0.4, r.randrange(2**32))
        number += 1


@dataclasses.dataclass
class Injected:
    name: str
    touches: str
    what: str
    began: float
    ended: float = None


def run(pool, seed, until, say, only=None):
    """Runs the plan until the time is over; returns what was injected, all healed."""
    done = []
    for step in plan(seed, pool.has_small_store, only):
        if time.time() >= until:
            break
        r = random.Random(step.seed)
        with contextlib.ExitStack() as stack:
            for fault, seconds in step.faults:
                injected = Injected(fault.name, fault.touches, "", time.time())
                done.append(injected)
                stack.callback(setattr_now, injected)
                injected.what = stack.enter_context(fault.inject(pool, r))
                say(f"{fault.name}: {injected.what}")
                time.sleep(seconds)
        if step.is_whole:
            pool.wait_whole()
            say("whole")
        time.sleep(step.calm)
    return done


def setattr_now(injected):
    injected.ended = time.time()
