# SPDX-License-Identifier: Apache-2.0
"""Real servers for the stories: MariaDB, nats-server, lighttpd, hearth.fcgi, hearth-worker.

    stack = Stack(worker={"ttl_s": 1})       # all of them, in a folder of their own
    stack = Stack(workers=3, nats_nodes=3)   # several workers, on a NATS cluster
    org = stack.new_org()
    app = org.new_app(tier="hot")
    org.admin.load(app)

A Stack starts the programs on UNIX sockets and free loopback ports, waits until
each is ready, and stops them by pid. Nothing here sleeps to let something happen:
`eventually` asks until it is so. `Stack.check` fails the test during which a
program died by a signal nobody sent, a sanitizer spoke, or a program logged a
warning or an error that the story did not allow (`stack.allow(regex)`).

The programs are those of $HEARTH_BUILD, the files of the source tree that this
lies in. Python's standard library only.
"""
import contextlib
import os
import pathlib
import re
import secrets
import shutil
import signal
import subprocess
import tempfile

# What stories need of the other files they take from here.
from api import Api, Event, Http, Org, Response, Stream, text_of  # noqa: F401
from basics import (  # noqa: F401
    BUILD, Background, KEEP, NotYet, OUR_LINE, PATH, SANITIZERS, SANITIZER_SPOKE, SLOW, SOURCE,
    at_once, eventually, free_port, program)
from programs import App, Lighttpd, MariaDB, Nats, NatsClient, Ours, Program, USERS, Worker, user_name  # noqa: F401

# Fast enough for stories; what a story is about it sets itself.
DEFAULTS = {
    "log": {"level": "debug"},
    "app": {"threads_max": 64, "demand_wait_s": 20, "publish_timeout_ms": 10000},
    "worker": {"lease_s": 4, "recovery_s": 1, "reconcile_s": 2, "stats_s": 1, "drain_s": 20},
}


class Stack:
    """All servers together. worker=, app=, … are options of hearth.conf beside DEFAULTS.

    workers is how many, w1 to wN, or a list with the own options of each. nats_nodes > 1 makes a NATS cluster, with
    the stream on up to three of them. ours_environment is added to that of Hearth's programs. is_proxied puts a proxy between each worker and each of its servers,
    are_routes_proxied one before each NATS server of a cluster, for the others of it. front is what lighttpd.conf says
    otherwise than conf/: {"server.max-read-idle": 5}.
    """

    _template = None

    def __init__(self, start=True, workers=1, nats_nodes=1, is_proxied=False, ours_environment=None, are_routes_proxied=False,
                 front=None, **options):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hearth-"))
        self.conf = self.folder / "hearth.conf"
        self.secrets = {}
        self.ours_environment = ours_environment or {}
        self.options = {section: {**DEFAULTS.get(section, {}), **options.get(section, {})}
                        for section in {*DEFAULTS, *options}}
        self.allowed, self.allowed_before = [], []
        self.db = MariaDB(self, self.template())
        self.is_proxied = is_proxied
        self.is_nats_advertised = not is_proxied  # or a client would learn the way around its proxy
        self.are_routes_proxied = are_routes_proxied
        self.nats_nodes = [Nats(self, i + 1 if nats_nodes > 1 else None) for i in range(nats_nodes)]
        self.nats = self.nats_nodes[0]
        self.app = App(self)
        own = workers if isinstance(workers, list) else [{}] * workers
        self.worker = Worker(self, **({"worker": own[0]} if own[0] else {}))
        self.more_workers = [Worker(self, f"w{i}", worker=one) for i, one in enumerate(own[1:], 2)]
        self.lighttpd = Lighttpd(self, front)
        self.fronts = []
        if start:
            try:
                self.start()
            except BaseException:
                self.kill_all()
                raise

    @property
    def workers(self):
        return [self.worker, *self.more_workers]

    @property
    def programs(self):
        return [*self.fronts, self.lighttpd, self.app, *self.workers, *self.nats_nodes, self.db]

    # --- what the programs read ---

    def secret(self, name):
        # The template's database has these users already: one set of passwords for the whole session.
        return SECRETS.setdefault(name, "p" + secrets.token_hex(16))

    def secret_file(self, name):
        path = self.folder / "secret" / name
        if not path.exists():  # written once: a program that starts may be reading it
            path.parent.mkdir(exist_ok=True)
            path.touch(0o600)
            path.write_text(self.secret(name) + "\n")
        return path

    def key_ring(self):
        """The file with the key that the template's database knows."""
        path = self.folder / "secret" / "keys"
        if KEY_RING and not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.touch(0o600)
            path.write_text(KEY_RING[0])
        return path

    def sections(self):
        def login(who, *kinds):
            return {f"{kind}_{key}": value for kind in kinds for key, value in (
                ("user", f"hearth_{who}" if kind == "database" else who),
                ("password_file", self.secret_file(f"{who}-{kind}")))}

        ports = [node.port or 4222 for node in self.nats_nodes]
        sections = {
            "database": {"socket": self.db.socket},
            "keys": {"file": self.key_ring()},
            "nats": {"url": ",".join(f"nats://127.0.0.1:{p}" for p in ports), "stream_replicas": min(3, len(ports))},
            "app": {"socket": self.app.socket, "dashboard_dir": SOURCE / "fcgi-app/dashboard",
                    **login("app", "database", "nats")},
            "worker": {"name": "w1", **login("worker", "database", "nats")},
            "ctl": {"schema_dir": SOURCE / "schema", **login("ctl", "database", "nats")},
        }
        for section, values in self.options.items():
            sections.setdefault(section, {}).update(values)
        return sections

    def write_conf(self, path=None, **changes):
        lines = []
        for section, values in {**dict.fromkeys(changes, {}), **self.sections()}.items():
            values = {**values, **changes.get(section, {})}
            lines += [f"[{section}]", *(f"{k} = {v}" for k, v in values.items() if v is not None), ""]
        # At once: a program may be told to read it again while it is written.
        new = self.folder / "hearth.conf.new"
        new.write_text("\n".join(lines))
        new.chmod(0o600)
        new.rename(path or self.conf)

    def conf_of_worker(self, worker):
        """The stack's file, or where the worker differs one of its own."""
        changes = {section: dict(values) for section, values in worker.options.items()}
        if worker.bus:
            changes.setdefault("nats", {})["url"] = ",".join(f"nats://127.0.0.1:{p.port}" for p in worker.bus)
            changes.setdefault("database", {})["socket"] = worker.database.path
        if worker is self.worker and not changes:
            return self.conf
        changes.setdefault("worker", {})["name"] = worker.worker_id
        path = self.folder / f"hearth-{worker.worker_id}.conf"
        self.write_conf(path, **changes)
        return path

    # --- starting and stopping ---

    @classmethod
    def template(cls):
        """A data folder with schema, users and grants, made once for the session."""
        if cls._template is None:
            cls._template = make_template()
        return cls._template

    def start(self):
        self.db.spawn()
        for node in self.nats_nodes:
            node.spawn()
        self.db.wait_ready()
        self.wait_nats_ready()
        self.write_conf()
        for worker in self.workers:
            worker.spawn()
        self.app.start()
        self.lighttpd.start()
        for worker in self.workers:
            worker.wait_ready()
        if self.workers:
            eventually(self.stream, 60, "a worker has made the stream")
            # In a cluster each node learns of it by itself, a little later.
            eventually(lambda: all(n.takes_loads() for n in self.nats_nodes), 60, "the stream takes events")
        self.http = Http(self.lighttpd.port)
        eventually(lambda: self.http.request("GET", "/readyz").status == 200, 30, "the application is ready")
        self.sys = Api(self.http, self.ctl("token", "create", "--role", "sys_admin", "tests").strip())

    def wait_nats_ready(self):
        for node in self.nats_nodes:
            node.wait_ready()
        if len(self.nats_nodes) > 1:
            eventually(lambda: all(n.is_in_cluster() for n in self.nats_nodes), 60, "the NATS cluster has formed")

    def ctl(self, *args, check=True):
        """Runs hearthctl and returns what it printed."""
        done = self.ctl_run(*args)
        assert not check or done.returncode == 0, f"hearthctl {args}: {done.returncode}\n{done.stderr}"
        return done.stdout

    def ctl_run(self, *args):
        done = subprocess.run([program("hearthctl"), "--config", str(self.conf), *args], capture_output=True,
                              text=True, env={"PATH": PATH, "LC_ALL": "C", **SANITIZERS}, timeout=120 * SLOW)
        assert not SANITIZER_SPOKE.search(done.stderr), done.stderr
        return done

    def new_org(self, **fields):
        return Org(self, **fields)

    def add_worker(self, name, **options):
        """One more; options are those of its [worker] section."""
        worker = Worker(self, name, worker=options)
        self.more_workers.append(worker)
        worker.start()
        return worker

    def add_front(self, program_):
        """Starts a further web server, or what it needs, which then belongs to the stack; see fronts.py."""
        self.fronts.insert(0, program_)
        program_.start()
        return program_

    def take_front(self, program_):
        """Stops it in an orderly way; it belongs to the stack no more."""
        status = program_.stop()
        self.fronts.remove(program_)
        found = program_.complaints(self.allowed)
        assert not found and (status == 0 or program_.is_exit_status_good), (status, *found)

    def stop(self):
        """Stops all, in order; returns complaints."""
        found = []
        for worker in self.workers:  # together: one after the other would hand over to the next
            worker.begin_stop()
        for program_ in self.programs:
            try:
                status = program_.stop()
                if status and status > 0 and not program_.is_exit_status_good:
                    found.append(f"{program_.name} ended with status {status}:\n{program_.tail()}")
            except AssertionError as e:
                found.append(str(e))
        found += self.complaints()
        if not KEEP and not found:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif found:
            found.append(f"(the folder is kept: {self.folder})")
        return found

    def kill_all(self):
        for program_ in self.programs:
            if program_.is_running():
                program_.is_expected_to_die = True
                os.killpg(program_.pid, signal.SIGKILL)  # with what a web server has started
                program_.process.wait(30)

    # --- looking for trouble ---

    def allow(self, *patterns):
        """Log lines of level warn and error, and nats-server's errors, that this test expects."""
        self.allowed += [re.compile(p) for p in patterns]

    def complaints(self):
        # What the test before expected may be logged late, and reconcile be overtaken by an unload while it reads.
        allowed = [*self.allowed, *self.allowed_before, re.compile("placement that is not held goes")]
        return [c for p in self.programs for c in p.complaints(allowed)]

    def check(self):
        found = self.complaints()
        self.allowed, self.allowed_before = [], self.allowed
        assert not found, "\n".join(found)

    # --- looking at it ---

    def pool(self):
        r = self.sys.get("/api/admin/pool/stats")
        assert r.status == 200, r
        return r.json

    def stream(self):
        """(stream, consumer) as a server's monitoring shows them, with their leaders in a cluster; None while unknown."""
        for node in self.nats_nodes:
            with contextlib.suppress(OSError, KeyError, IndexError):
                stream = node.look("/jsz?accounts=1&streams=1&consumers=1")["account_details"][0]["stream_detail"][0]
                consumer = stream["consumer_detail"][0]
                # The requests that wait are known to the consumer's leader alone.
                if len(self.nats_nodes) == 1 or consumer["cluster"]["leader"] == node.name:
                    return stream, consumer
        return None

    def wait_all_ask(self):
        """Until each worker has a request for load events open."""
        live = len([w for w in self.workers if w.is_running()])

        def all_ask():
            seen = self.stream()
            assert seen, "nobody leads the consumer"
            consumer = seen[1]
            assert consumer["num_waiting"] == live, {k: consumer.get(k) for k in ("num_waiting", "num_pending", "num_ack_pending", "cluster")}
            return True

        eventually(all_ask, 30, "all workers ask for loads")

    def wait_off_the_bus(self, worker):
        """Until no server takes it for alive: what is given to it before waits there in vain."""
        name = f"hearth-worker {worker.worker_id}"
        eventually(lambda: not any(name in node.clients() for node in self.nats_nodes if node.is_running()), 40,
                   f"nats-server has done with {worker.worker_id}")

    def node_of(self, name):
        return next(n for n in self.nats_nodes if n.name == name)

    def next_flush(self):
        """The pool's statistics, of flushes that began after this call: of each worker's second one, since the first may have
        been gathered before it."""
        before = self.db.value("SELECT UTC_TIMESTAMP(3)").replace(" ", "T")
        live = self.db.number("SELECT COUNT(*) FROM workers WHERE lease_until > UTC_TIMESTAMP(3)")

        def flushed():
            n = self.db.number("SELECT COUNT(*) FROM (SELECT worker_id FROM worker_stats "
                               f"WHERE flushed_at > '{before}' GROUP BY worker_id HAVING COUNT(*) > 1) twice")
            return n >= max(live, 1) and self.pool()

        return eventually(flushed, 20, "the workers have flushed their statistics")

    def wait_in_flight(self, count):
        """Until the statistics show so many turns; where they showed that many before it, this says nothing."""
        eventually(lambda: self.pool()["turns_in_flight"] == count, 20, f"{count} turns are in flight")

    def holders(self, app):
        """The workers that serve it: whose living incarnation holds it ready."""
        return [row[0] for row in self.db.run(
            "SELECT worker_id FROM placements p JOIN workers w USING (worker_id, incarnation) "
            f"WHERE instance_id = '{app}' AND p.state = 'ready' AND w.state = 'active' ORDER BY 1")]

    def busiest(self, apps):
        """The worker that holds most of them, and which."""
        return max(((w, sorted(set(w.placed()) & set(apps))) for w in self.workers), key=lambda found: len(found[1]))

    def nothing_is_open(self):
        return self.db.number("SELECT COUNT(*) FROM operations WHERE is_open = 1") == 0

    def placements(self, app):
        """(worker, tier, generation, state) of each copy."""
        return [tuple(row) for row in self.db.run(
            f"SELECT worker_id, tier, generation, state FROM placements WHERE instance_id = '{app}' ORDER BY 1")]


SECRETS = {}
KEY_RING = []  # its text, once the template is made


def make_template():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hearth-template-"))

    class Bare:
        pass

    bare = Bare()
    bare.folder = folder
    db = MariaDB(bare)
    db.install()
    db.start()
    try:
        stack = Stack.__new__(Stack)
        stack.folder, stack.conf, stack.options = folder, folder / "hearth.conf", {}
        stack.db, stack.nats_nodes, stack.app = db, [Nats(stack)], App(stack)
        sql = (SOURCE / "conf/mariadb-setup.sql").read_text()
        for who in USERS:
            sql = sql.replace(f"change-me-{who}", stack.secret(f"{who}-database"))
        db.run(sql, database=None)
        stack.write_conf()
        stack.ctl("migrate")
        stack.ctl("keys", "new")
        KEY_RING.append(stack.key_ring().read_text())
        db.run((SOURCE / "conf/mariadb-grants.sql").read_text(), database=None)
    finally:
        status = db.stop()
    assert status == 0, db.tail()
    return db.data


def remove_template():
    if Stack._template:
        shutil.rmtree(Stack._template.parent, ignore_errors=True)
