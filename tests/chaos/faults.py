# SPDX-License-Identifier: Apache-2.0
"""The faults, and the plan that a seed makes of them.

A fault is a context manager: it injects, yields, and heals. What it touches keeps two faults of one step from
breaking the same thing. To add one: write the function, give it a row in FAULTS.
"""
import contextlib
import dataclasses
import itertools
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
    is_alone: bool = False  # no other fault beside it
    is_aimed: bool = False  # at one promise of the design: every second step is one of these, each in turn


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
    thread = threading.Thread(target=_bursts, args=(chosen, over, 0.25), daemon=True)
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


def held_by(pool, worker_id):
    """The Apps on one worker, for the clients to aim at."""
    return pool.load.by_id(pool.watch.placed.get(worker_id, ()))


@contextlib.contextmanager
def worker_frozen_and_aimed_at(pool, r):
    """Its Apps are changed while it stands still past its lease, and asked when it goes on with what it had."""
    worker = r.choice(pool.workers)
    pool.expect_running(worker)
    with pool.load.aim(held_by(pool, worker.worker_id), is_storm=True):
        worker.freeze()
        yield worker.name
        worker.thaw()
        time.sleep(1)


@contextlib.contextmanager
def changes_lost(pool, r):
    """Workers hear of no change: what they missed, they find by themselves."""
    links = [link for link in pool.links if link.is_worker]
    chosen = links if r.random() < 0.5 else [r.choice(links)]
    _lose_changes(chosen, True)
    yield names(chosen)
    _lose_changes(chosen, False)


def _lose_changes(links, is_lost):
    for link in links:
        for proxy in link.bus:
            proxy.lost_prefix = b"hearth.change." if is_lost else None


def _lease_not_renewed(is_deaf):
    """A worker goes on, but its lease runs out and others take its Apps; one that is deaf does not hear what is changed."""
    @contextlib.contextmanager
    def fault(pool, r):
        link = r.choice([link for link in pool.links if link.is_worker])
        with pool.load.aim(held_by(pool, link.name), is_storm=is_deaf):
            link.database.refuse_lease(True)
            if is_deaf:
                _lose_changes([link], True)
            yield link.name
            if is_deaf:
                _lose_changes([link], False)
            link.database.refuse_lease(False)
    return fault


@contextlib.contextmanager
def commits_cut(pool, r):
    """Connections that end at a COMMIT: MariaDB never gets it, or its answer is lost."""
    link = r.choice([link for link in pool.links if not link.is_worker] if r.random() < 0.6 else pool.links)
    chance, own = r.uniform(0.1, 0.5), random.Random(r.random())
    link.database.cut_commit = lambda: own.choice(["before", "after"]) if own.random() < chance else None
    yield f"{link.name}: {chance:.0%}"
    link.database.cut_commit = None


@contextlib.contextmanager
def org_suspended_unheard(pool, r):
    """No operation tells of it, so workers that miss the one event find it by themselves."""
    org = r.choice(pool.load.orgs)
    links = [link for link in pool.links if link.is_worker]
    _lose_changes(links, True)
    is_done = pool.load.set_org(org, "suspended")
    yield f"{org.id}"
    _lose_changes(links, False)
    if is_done:
        pool.rest("an organization is suspended")
        pool.load.set_org(org, "active")


@contextlib.contextmanager
def backup_restored_soon(pool, r):
    """Within the same incarnations: the workers hold what the rows know nothing of, and the rows what nobody holds."""
    pool.back_up()
    yield f"backup {len(pool.backups) - 1}"
    pool.restore(pool.backups[-1])
    pool.rest("a backup is restored")


@contextlib.contextmanager
def bus_away(pool, _):
    """What is accepted meanwhile is told to nobody; nor does a later request, when the bus is back, repair that."""
    nodes = every_node(pool, None)
    for node in nodes:
        pool.kill(node)
    yield names(nodes)
    with pool.load.paused():
        for node in nodes:
            pool.back(node)
        pool.rest("the bus is back")


@contextlib.contextmanager
def slow_links(pool, seconds=0.03):
    """No fault: what the workers hear and say comes in small bursts."""
    chosen, over = [proxy for link in pool.links if link.is_worker for proxy in link.bus], threading.Event()
    thread = threading.Thread(target=_bursts, args=(chosen, over, seconds), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _bursts(chosen, over, seconds):
    while not over.is_set():
        for proxy in chosen:
            proxy.hold()
        over.wait(seconds)
        for proxy in chosen:
            proxy.mend()
        over.wait(0.02)


FAULTS = [
    Fault("worker killed", "worker", 5, (0.1, 6), _killed(a_worker)),
    Fault("two workers killed", "worker", 2, (0.1, 6), _killed(two_workers)),
    Fault("all workers killed", "worker", 2, (0.1, 3), _killed(every_worker)),
    Fault("worker terminated", "worker", 4, (0.1, 3), _terminated(a_worker)),
    Fault("worker frozen briefly", "worker", 3, SHORT, _frozen(a_worker)),
    Fault("worker frozen past its lease", "worker", 4, LONG, _frozen(a_worker)),
    Fault("all workers frozen past their leases", "worker", 1, LONG, _frozen(every_worker)),
    Fault("worker frozen past its lease, aimed at", "worker", 4, (LEASE_S + 2, LEASE_S + 5), worker_frozen_and_aimed_at, is_aimed=True),
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
    Fault("changes lost", "link", 2, (1, 5), changes_lost, is_aimed=True),
    Fault("lease not renewed", "link", 2, (LEASE_S + 3, LEASE_S + 6), _lease_not_renewed(is_deaf=False), is_aimed=True),
    Fault("lease not renewed, deaf", "link", 3, (LEASE_S + 5, LEASE_S + 8), _lease_not_renewed(is_deaf=True), is_aimed=True),
    Fault("connections cut at COMMIT", "link", 5, (2, 5), commits_cut, is_aimed=True),
    Fault("organization suspended, unheard", "org", 2, (0.5, 2), org_suspended_unheard, is_alone=True, is_aimed=True),
    Fault("bus away, then rest", "nats", 2, (2, 4), bus_away, is_alone=True, is_aimed=True),
    Fault("backup restored soon", "db", 2, (1, 3), backup_restored_soon, is_alone=True, is_aimed=True),
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
    named = {f.name: f for f in table}
    aimed = []
    for number in itertools.count():
        if not aimed:
            aimed = [f for f in table if f.is_aimed]
            r.shuffle(aimed)
        # Each run that is not very short has an old backup, and goes back to it.
        first = {3: named.get("backup taken"), 9: named.get("backup restored")}.get(number) or (aimed.pop() if number % 2 == 0 and aimed else None)
        yield Step(_beside(r, table, first), r.uniform(0.2, 2.5), r.random() < 0.4, r.randrange(2**32))


def _beside(r, table, first):
    """The faults of one step, with first where there is one."""
    chosen = [first] if first else []
    for _ in range(r.choice([0, 0, 0, 1] if first else [1, 1, 1, 2, 2, 3])):
        left = [f for f in table if f.touches not in {g.touches for g in chosen} and not (chosen and f.is_alone)]
        if not left or (chosen and chosen[0].is_alone):
            break
        chosen.append(r.choices(left, [f.weight for f in left])[0])
    return [(f, r.uniform(*f.seconds)) for f in chosen]


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
