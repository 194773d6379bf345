# SPDX-License-Identifier: Apache-2.0
"""The servers of a chaos run: MariaDB, one nats-server or a cluster, two hearth.fcgi behind a lighttpd each, several workers.

The first application and the first worker speak to the servers directly, the others through a Link, whose
connections a fault can break, hold or delay. JetStream's store is a small file system of its own where that can be
mounted (as root), so that it can be full.
"""
import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
import time

from harness import Api, App, Http, Lighttpd, PATH, Program, Stack, Worker, eventually, program
from traps import BusProxy, DatabaseProxy
from watch import Watch

OPTIONS = {
    "app": {"threads_max": 48, "demand_wait_s": 10, "shutdown_s": 8, "turn_timeout_s": 30},
    "worker": {"lease_s": 4, "recovery_s": 1, "reconcile_s": 2, "stats_s": 1, "drain_s": 3, "ttl_s": 20},
    "database": {"connect_timeout_s": 2, "io_timeout_s": 4},
}
STORE_MIB = 48


class SecondApp(App):
    name = "hearth.fcgi-2"

    def command(self):
        return [program("hearth.fcgi"), "--config", str(self.stack.conf)]


class SecondLighttpd(Lighttpd):
    name = "lighttpd-2"


class ChaosWorker(Worker):
    """Its spawn asks the database nothing: that may be away."""

    spawn = Program.spawn

    def command(self):
        return [program("hearth-worker"), "--config", str(self.stack.folder / f"{self.worker_id}.conf")]


class Link:
    """What stands between one program and its servers."""

    def __init__(self, pool, name):
        self.name, self.is_worker = name, name != "app"
        self.bus = [BusProxy(("127.0.0.1", node.port)) for node in pool.nats_nodes]
        self.database = DatabaseProxy(pool.db.socket, pool.folder / f"db-{name}.sock")

    def conf(self):
        return {"nats": {"url": ",".join(f"nats://127.0.0.1:{proxy.port}" for proxy in self.bus)},
                "database": {"socket": self.database.path}}

    def close(self):
        for proxy in (*self.bus, self.database):
            proxy.close()


class Side:
    """The second application: a folder, a configuration and a web server of its own."""

    def __init__(self, pool):
        self.pool, self.folder = pool, pool.folder / "second"
        self.ours_environment = pool.ours_environment
        self.folder.mkdir()
        self.conf = self.folder / "hearth.conf"
        self.app = SecondApp(self)
        self.lighttpd = SecondLighttpd(self)


@dataclasses.dataclass
class Backup:
    """A copy of MariaDB's stopped data folder."""

    path: object
    began: float
    ended: float


@dataclasses.dataclass
class Restore:
    backup: Backup
    began: float
    ended: float = None


class Pool(Stack):
    def __init__(self, workers=3, nats_nodes=1, say=print):
        super().__init__(start=False, nats_nodes=nats_nodes, **OPTIONS)
        self.is_nats_advertised = False  # or a client would learn the way around its proxy
        self.side = Side(self)
        self.worker, *self.more_workers = [ChaosWorker(self, f"w{i + 1}") for i in range(workers)]
        self.apps = [self.app, self.side.app]
        self.links = []
        self.load = None  # the clients, once they run
        self.rest = None  # a function that lets all come to rest and checks it
        self.watch = Watch(self.db, say)
        self.backups, self.restores = [], []
        self.complaints_kept = []  # what was wrong when a fault looked
        self.has_small_store = False
        self.stopped = set()  # by a fault
        self.log_began = {}  # the log's size at the last start
        self.supervised = 0  # workers that a supervisor had to start anew

    @property
    def programs(self):
        return [self.lighttpd, self.side.lighttpd, *self.apps, *self.workers, *self.nats_nodes, self.db]

    @property
    def ours(self):
        return [*self.apps, *self.workers]

    @classmethod
    def template(cls):
        return Stack.template()

    def start(self):
        self._mount_store()
        self.db.spawn()
        for node in self.nats_nodes:
            node.spawn()
        self.db.wait_ready()
        self.watch.start()
        self.wait_nats_ready()
        self.write_conf()
        for i, worker in enumerate(self.workers):
            link = self._new_link(worker.worker_id) if i > 0 else {}
            self.write_conf(self.folder / f"{worker.worker_id}.conf", worker={"name": worker.worker_id}, **link)
            worker.spawn()
        self.write_conf(self.side.conf, app={"socket": self.side.app.socket}, **self._new_link("app"))
        for program_ in (*self.apps, self.lighttpd, self.side.lighttpd):
            program_.start()
        self.http = Http(self.lighttpd.port)
        self.fronts = [self.http, Http(self.side.lighttpd.port)]
        self.wait_whole()
        self.sys = Api(self.http, self.ctl("token", "create", "--role", "sys_admin", "chaos").strip())

    def _new_link(self, name):
        link = Link(self, name)
        self.links.append(link)
        return link.conf()

    def _mount_store(self):
        self.store_folder = self.folder / "store"
        self.store_folder.mkdir()
        if os.geteuid() == 0:
            done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={STORE_MIB}m", "hearth-chaos", str(self.store_folder)],
                                  capture_output=True, env={"PATH": PATH})
            self.has_small_store = done.returncode == 0
        for node in self.nats_nodes:
            node.store = self.store_folder / node.name

    # --- what faults need ---

    def expect_running(self, *programs):
        """A program that is not there was not stopped by us."""
        self.supervise()
        for program_ in programs:
            if not program_.is_running():
                self.complaints_kept.append(
                    f"{program_.name} had ended with {program_.process.returncode} by itself:\n{program_.tail(20)}")

    def supervise(self):
        """As a supervisor does: a worker that ended to be started anew is. nats.c gives a first connection up for good where
        it is taken and then closed, which the links do whose server is away."""
        for worker in self.workers:
            if worker not in self.stopped and not worker.is_running() and worker.process.returncode == 1 \
                    and "so that the supervisor starts anew" in worker.tail(20):
                worker.spawn()
                self.supervised += 1

    def kill(self, program_):
        self.expect_running(program_)
        self.stopped.add(program_)
        if program_.is_running():
            program_.kill()

    def terminate(self, program_):
        """SIGTERM; of our programs only an orderly end is right."""
        self.expect_running(program_)
        self.stopped.add(program_)
        try:
            status = program_.stop()
        except AssertionError as e:
            self.complaints_kept.append(str(e))
            return
        if status == -signal.SIGTERM and self.has_said_nothing(program_):
            program_.is_expected_to_die = True  # it came before the program could take notice of signals
        elif status != 0 and program_ in self.ours:
            self.complaints_kept.append(f"{program_.name} ended with status {status}:\n{program_.tail(20)}")

    def has_said_nothing(self, program_):
        """Since its last start."""
        return program_ in self.log_began and not program_.text(self.log_began[program_]).strip()

    def back(self, program_):
        """Starts it again; our own programs may wait for what is away, the servers are waited for."""
        self.stopped.discard(program_)
        if program_.is_running():
            return
        self.log_began[program_] = program_.log.stat().st_size
        program_.spawn()
        if program_ not in self.ours:
            program_.wait_ready()

    def back_up(self):
        """Stops MariaDB, copies its folder, starts it."""
        began = time.time()
        self.terminate(self.db)
        path = self.folder / f"backup-{len(self.backups)}"
        subprocess.run(["cp", "-a", "--reflink=auto", str(self.db.data), str(path)], check=True)
        self.back(self.db)
        self.backups.append(Backup(path, began, time.time()))

    def restore(self, backup):
        self.restores.append(Restore(backup, time.time()))
        self.watch.read()
        self.terminate(self.db)
        shutil.rmtree(self.db.data)
        subprocess.run(["cp", "-a", "--reflink=auto", str(backup.path), str(self.db.data)], check=True)
        self.back(self.db)
        self.restores[-1].ended = time.time()

    def fill_store(self):
        """Until nothing fits any more."""
        with contextlib.suppress(OSError), open(self.store_folder / "filler", "wb", buffering=0) as f:
            while True:
                f.write(b"\0" * 4096)

    def empty_store(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.store_folder / "filler")

    def is_whole(self):
        self.supervise()
        assert all(p.is_running() for p in self.programs), [p.name for p in self.programs if not p.is_running()]
        for front in self.fronts:
            r = front.request("GET", "/readyz", timeout=10)
            assert r.status == 200, r
        live = self.db.number("SELECT COUNT(*) FROM workers WHERE state = 'active' AND lease_until > UTC_TIMESTAMP(3)")
        assert live == len(self.workers), f"{live} workers are live"
        return True

    def wait_whole(self, timeout=60):
        def whole():
            try:
                return self.is_whole()
            except OSError as e:
                raise AssertionError(str(e)) from None

        eventually(whole, timeout, "all programs run and are ready", every=0.2)

    # --- the end ---

    def close(self, is_kept):
        """Ends everything; returns complaints about exits and logs."""
        for program_ in self.programs:
            if program_.process is not None:
                self.terminate(program_)
        for link in self.links:
            link.close()
        found = self.complaints() + self.complaints_kept
        if self.has_small_store:
            subprocess.run(["umount", "-l", str(self.store_folder)], env={"PATH": PATH})
        if not is_kept and not found:
            shutil.rmtree(self.folder, ignore_errors=True)
        return found
