# SPDX-License-Identifier: Apache-2.0
"""The programs of a stack, each one process with its log and pid file; and a plain NATS client."""
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time

from api import Http
from basics import OUR_LINE, PATH, SANITIZERS, SANITIZER_SPOKE, SLOW, SOURCE, eventually, free_port, program
from nats_proxies import RouteProxy
from proxy import Proxy

USERS = ("app", "worker", "ctl")


def user_name():
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


class Program:
    """One process with its log and pid file."""

    name = "program"
    is_exit_status_good = False  # also one that is not 0

    def __init__(self, stack):
        self.stack = stack
        self.log = stack.folder / "log" / f"{self.name}.log"
        self.process = None
        self.checked = 0  # bytes of the log that were looked at
        self.is_expected_to_die = self.is_stopping = False

    def command(self):
        raise NotImplementedError

    def environment(self):
        return {}

    def is_ready(self):
        raise NotImplementedError

    def spawn(self):
        assert not self.is_running(), f"{self.name} runs already"
        self.log.parent.mkdir(exist_ok=True)
        env = {"PATH": PATH, "LC_ALL": "C", "HOME": str(self.stack.folder), **SANITIZERS, **self.environment()}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=env, cwd=self.stack.folder, start_new_session=True)
        self.is_expected_to_die = self.is_stopping = False
        pid_folder = self.stack.folder / "pid"
        pid_folder.mkdir(exist_ok=True)
        (pid_folder / f"{self.name}.pid").write_text(f"{self.process.pid}\n")

    def wait_ready(self, timeout=60):
        def ready():
            if not self.is_running():
                raise RuntimeError(f"{self.name} ended with {self.process.returncode} at its start:\n{self.tail()}")
            return self.is_ready()

        eventually(ready, timeout, f"{self.name} is ready")

    def start(self):
        self.spawn()
        self.wait_ready()

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        if number in (signal.SIGKILL,):
            self.is_expected_to_die = True
        self.process.send_signal(number)

    def kill(self):
        """SIGKILL, and waits until it is gone."""
        self.signal(signal.SIGKILL)
        self.process.wait(30)

    def begin_stop(self):
        """SIGTERM, once. A stopped process handles it only when it goes on."""
        if self.is_running() and not self.is_stopping:
            self.is_stopping = True
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGCONT)

    def stop(self, timeout=60):
        """SIGTERM; returns the exit status. One that does not stop is killed and fails the test."""
        if self.process is None:
            return None
        if self.is_running():
            self.begin_stop()
            try:
                self.process.wait(timeout * SLOW)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"{self.name} did not stop on SIGTERM:\n{self.tail()}") from None
        return self.process.returncode

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def raw(self, start=0):
        with contextlib.suppress(FileNotFoundError):
            with open(self.log, "rb") as f:
                f.seek(start)
                return f.read()
        return b""

    def text(self, start=0):
        return self.raw(start).decode(errors="replace")

    def tail(self, lines=60):
        return "\n".join(self.text().splitlines()[-lines:])

    def complaints(self, allowed):
        """What is wrong with it since the last look."""
        raw = self.raw(self.checked)
        if self.is_running():
            raw = raw[:raw.rfind(b"\n") + 1]  # a line that is just being written is looked at the next time
        self.checked += len(raw)
        new = raw.decode(errors="replace")
        found = []
        text = self.without_known_faults(new)
        spoke = SANITIZER_SPOKE.search(text)
        if spoke:
            at = max(0, spoke.start() - 200)
            found.append(f"{self.name}: a sanitizer spoke:\n{text[at:at + 6000]}")
        for line in new.splitlines():
            if self.is_bad_line(line) and not any(p.search(line) for p in allowed):
                found.append(f"{self.name}: unexpected in its log: {line}")
        status = self.process.poll() if self.process else None
        if status is not None and status < 0 and not self.is_expected_to_die:
            found.append(f"{self.name} died by signal {-status}:\n{self.tail()}")
        if status == 99:
            found.append(f"{self.name} was ended by a sanitizer:\n{self.tail()}")
        return found

    def is_bad_line(self, line):
        return False

    def without_known_faults(self, text):
        return text


class MariaDB(Program):
    name = "mariadbd"

    def __init__(self, stack, template=None):
        super().__init__(stack)
        self.data = stack.folder / "mariadb"
        self.more_options = []  # after those of options(), so they win
        self.socket = stack.folder / "mariadb.sock"
        if template:
            subprocess.run(["cp", "-a", "--reflink=auto", str(template), str(self.data)], check=True)

    def options(self):
        return [
            f"--datadir={self.data}", f"--socket={self.socket}", f"--pid-file={self.stack.folder}/mariadb.pid",
            f"--tmpdir={self.stack.folder}", "--skip-networking", "--skip-name-resolve", "--skip-log-bin",
            "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--innodb-flush-log-at-trx-commit=2",
            "--performance-schema=OFF", "--max-connections=300",
        ] + (["--user=root"] if os.geteuid() == 0 else [])

    def command(self):
        return ["mariadbd", "--no-defaults", *self.options(), *self.more_options]

    def is_ready(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5)
            try:
                s.connect(str(self.socket))
                return len(s.recv(64)) > 0  # the server speaks first
            except OSError:
                return False

    def install(self):
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={self.data}", "--skip-test-db", "--force",  # names need not be looked up
             "--auth-root-authentication-method=socket", f"--auth-root-socket-user={user_name()}",
             # Of its own: a server that starts removes the temporary tables of all others in a shared one.
             f"--tmpdir={self.stack.folder}", "--innodb-log-file-size=16M"] + (["--user=root"] if os.geteuid() == 0 else []),
            check=True, stdout=subprocess.DEVNULL, env={"PATH": PATH, "LC_ALL": "C"})

    def run(self, sql, database="hearth"):
        """Runs SQL as root; returns rows of strings (None for NULL)."""
        done = subprocess.run(
            ["mariadb", "--no-defaults", f"--socket={self.socket}", f"--user={user_name()}", "--batch",
             "--skip-column-names", "--default-character-set=utf8mb4", *([database] if database else [])],
            input=sql, capture_output=True, text=True, env={"PATH": PATH, "LC_ALL": "C.UTF-8"})
        assert done.returncode == 0, f"{sql}\n{done.stderr}"
        return [[None if c == "NULL" else c for c in line.split("\t")] for line in done.stdout.splitlines()]

    def value(self, sql):
        rows = self.run(sql)
        return rows[0][0] if rows else None

    def number(self, sql):
        return int(self.value(sql))


class Nats(Program):
    """A NATS server: alone, or node `number` of the stack's cluster."""

    is_exit_status_good = True  # ends with 1 on SIGTERM

    def __init__(self, stack, number=None):
        self.name = f"nats-server-{number}" if number else "nats-server"
        super().__init__(stack)
        self.port = self.monitor = self.route_port = self.route = None
        self.store = stack.folder / self.name
        self.ports = stack.folder / f"{self.name}-ports"
        if number:
            # The others must know where it is before it runs.
            self.port, self.route_port = free_port(), free_port()
            if stack.are_routes_proxied:
                self.route = RouteProxy(("127.0.0.1", self.route_port))

    def route_address(self):
        """Where the others of its cluster connect to it."""
        return f"127.0.0.1:{self.route.port if self.route else self.route_port}"

    def server_conf(self):
        """The example of conf/ with our addresses."""
        text = (SOURCE / "conf" / ("nats-cluster.conf" if self.route_port else "nats.conf")).read_text()
        lines = {"listen": f'"127.0.0.1:{self.port or -1}"', "\tstore_dir": f'"{self.store}"', "ping_interval": '"2s"'}
        if self.route_port:
            others = [n for n in self.stack.nats_nodes if n is not self]
            routes = ", ".join(f'"nats://route:change-me-route@{n.route_address()}"' for n in others)
            text = re.sub(r"(?s)\troutes: \[.*?\]", f"\troutes: [{routes}]", text)
            more = f'\tadvertise: "{self.route_address()}"\n'
            more += f"\tno_advertise: {str(not self.stack.is_nats_advertised).lower()}"
            lines |= {"server_name": self.name, "\tlisten": f'"127.0.0.1:{self.route_port}"\n{more}'}
        for key, value in lines.items():
            text, n = re.subn(rf"(?m)^{key}:.*$", lambda m: f"{key}: {value}", text)
            assert n == 1, key
        return text + f'ports_file_dir: "{self.ports}"\nhttp: "127.0.0.1:-1"\n'

    def command(self):
        self.ports.mkdir(exist_ok=True)
        for old in self.ports.iterdir():
            old.unlink()
        conf = self.stack.folder / f"{self.name}.conf"
        conf.write_text(self.server_conf())
        shutil.copy(SOURCE / "conf/nats-users.conf", self.stack.folder)
        return ["nats-server", "-c", str(conf)]

    def environment(self):
        return {f"HEARTH_NATS_{who.upper()}_PASSWORD": self.stack.secret(f"{who}-nats") for who in USERS}

    def is_ready(self):
        for path in self.ports.glob("*.ports"):
            with contextlib.suppress(ValueError, KeyError, OSError):
                ports = json.loads(path.read_text())
                self.monitor = Http(int(ports["monitoring"][0].rsplit(":", 1)[1]))
                self.port = int(ports["nats"][0].rsplit(":", 1)[1])
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
                    return s.recv(16).startswith(b"INFO")
        return False

    def look(self, path):
        """An answer of its monitoring."""
        r = self.monitor.request("GET", path)
        assert r.status == 200, r
        return r.json

    def is_in_cluster(self):
        """Joined, and with a leader for JetStream."""
        try:
            return bool(self.look("/jsz").get("meta_cluster", {}).get("leader"))
        except OSError:
            return False

    def takes_loads(self):
        """The stream is led here, or by another node that this one knows to take them."""
        try:
            here = self.look("/subsz?subs=1&limit=10000").get("subscriptions_list") or []
            there = [s for r in self.look("/routez?subs=1")["routes"] for s in r.get("subscriptions_list") or []]
        except OSError:
            return False
        return "hearth.load.>" in [s["subject"] for s in here] + there

    def clients(self):
        """The names of the programs that are connected here, as they call themselves."""
        return sorted(c.get("name", "") for c in self.look("/connz")["connections"])

    def wipe(self):
        """Takes JetStream's folder away; only while it is stopped."""
        assert not self.is_running()
        shutil.rmtree(self.store)

    def without_known_faults(self, text):
        # 2.9 falls over itself where it is asked for a stream while it shuts down.
        return re.sub(r"panic: runtime error: [^\n]*\n(?:[^\n]*\n){0,6}[^\n]*\(\*Account\)\.Interest\(0x0,", "", text)

    def is_bad_line(self, line):
        # Of a cluster some node is always the first that runs, and the last.
        if self.route_port and re.search(r"connect to route|rid:\d", line):
            return False
        # [ERR] also stands before a refused publish or subscription: a permission that is missing.
        return "[ERR]" in line or "[FTL]" in line


class NatsClient:
    """As much of the NATS protocol as a story needs: publish as one of the users, listen as it may."""

    def __init__(self, stack, user, node=None):
        self.socket = socket.create_connection(("127.0.0.1", (node or stack.nats).port), timeout=30)
        self.file = self.socket.makefile("rb")
        self.file.readline()  # INFO
        self.inbox = f"_INBOX_{user.upper()}.{secrets.token_hex(8)}"
        self.sid = 0
        self.send("CONNECT", {"user": user, "pass": stack.secret(f"{user}-nats"), "verbose": False, "headers": True, "no_responders": True})
        self.flush()

    def send(self, verb, document):
        self.socket.sendall(f"{verb} {json.dumps(document)}\r\n".encode())

    def publish(self, subject, data, reply=""):
        data = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.socket.sendall(f"PUB {subject} {reply} {len(data)}\r\n".encode() + data + b"\r\n")

    def request(self, subject, data):
        """Publishes, and returns (status, text) of the first reply; 503 and no text where nobody listens."""
        self.sid += 1
        inbox = f"{self.inbox}.{self.sid}"
        self.socket.sendall(f"SUB {inbox} {self.sid}\r\nUNSUB {self.sid} 1\r\n".encode())
        self.publish(subject, data, inbox)
        while True:
            line = self.file.readline()
            assert line, "nats-server hung up"
            words = line.split()
            if words[0] == b"PING":
                self.socket.sendall(b"PONG\r\n")
            if words[0] not in (b"MSG", b"HMSG"):
                continue
            body = self.file.read(int(words[-1]) + 2)[:-2]
            if int(words[2]) != self.sid:
                continue
            if words[0] == b"MSG":
                return None, body.decode()
            head = body[:int(words[-2])].decode()
            return int(head.split()[1]), body[len(head):].decode()

    def chat(self, org, app, message="x"):
        """A chat past the application: (HTTP status, answer), (None, None) where nobody holds the App."""
        status, text = self.request(f"hearth.chat.{app}", {
            "v": 1, "instance_id": app, "org_id": org.id, "session_id": app, "stream": False, "message": message,
            "deadline_unix_ms": int(time.time() * 1000) + 60000})
        if status:
            return None, None
        head, _, body = text.partition("\n")
        n, kind, arg = head.split()
        assert (n, kind) == ("0", "end"), text
        return int(arg), json.loads(body)

    def flush(self):
        """The server has read all that was sent; returns its complaints."""
        self.socket.sendall(b"PING\r\n")
        errors = []
        while True:
            line = self.file.readline()
            if line.startswith(b"PONG"):
                return errors
            if line.startswith(b"PING"):
                self.socket.sendall(b"PONG\r\n")
            assert line, f"nats-server hung up: {errors}"
            if line.startswith(b"-ERR"):
                errors.append(line.decode().strip())

    def close(self):
        self.file.close()
        self.socket.close()


class Lighttpd(Program):
    name = "lighttpd"
    is_exit_status_good = True  # ends with 1 on SIGTERM while a connection is open

    def __init__(self, stack, settings=None):
        super().__init__(stack)
        self.port = free_port()
        self.settings = settings or {}

    def command(self):
        folder = self.stack.folder
        values = {
            "var.address": '"127.0.0.1"', "var.port": self.port, "var.socket": f'"{self.stack.app.socket}"',
            "var.errorlog": f'"{self.log}"', "var.pidfile": f'"{folder}/lighttpd.pid"',
            "var.uploads": f'"{folder}/uploads"', **self.settings,
        }
        (folder / "uploads").mkdir(exist_ok=True)
        text = (SOURCE / "conf/lighttpd.conf").read_text()
        for name, value in values.items():
            text, n = re.subn(rf"(?m)^{re.escape(name)}\b.*$", lambda m: f"{name} = {value}", text)
            assert n == 1, name
        (folder / "lighttpd.conf").write_text(text)
        return ["lighttpd", "-D", "-f", str(folder / "lighttpd.conf")]

    def is_ready(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            return True
        except OSError:
            return False


class Ours(Program):
    """A program of Hearth's."""

    def environment(self):
        return self.stack.ours_environment

    def is_bad_line(self, line):
        m = OUR_LINE.match(line)
        if m:
            return m.group(1) in ("warn", "error")
        # Whatever else is on stderr nobody meant to write there.
        return bool(line.strip())


class App(Ours):
    name = "hearth.fcgi"

    def __init__(self, stack):
        super().__init__(stack)
        self.socket = stack.folder / "app.sock"

    def command(self):
        return [program("hearth.fcgi"), "--config", str(self.stack.conf)]

    def is_ready(self):
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(str(self.socket))
                return True
            except OSError:
                return False


class Worker(Ours):
    """options are its own values of hearth.conf, by section: {"worker": {"hot_ceiling": 5}}."""

    name = "hearth-worker"

    def __init__(self, stack, name=None, **options):
        if name:
            self.name = f"hearth-worker-{name}"
        self.worker_id = name or "w1"
        self.options = options
        self.former = None
        self.bus, self.database = [], None  # its proxies, where the stack is_proxied: one for each NATS server
        super().__init__(stack)

    def command(self):
        return [program("hearth-worker"), "--config", str(self.stack.conf_of_worker(self))]

    def incarnation(self):
        return self.stack.db.value(f"SELECT incarnation FROM workers WHERE worker_id = '{self.worker_id}' AND "
                                   "state = 'active' AND lease_until > UTC_TIMESTAMP(3)")

    def spawn(self):
        if self.stack.is_proxied and not self.bus:
            self.bus = [Proxy(("127.0.0.1", node.port)) for node in self.stack.nats_nodes]
            self.database = Proxy(self.stack.db.socket, self.stack.folder / f"mariadb-{self.worker_id}.sock")
        if self.stack.db.is_running():
            self.former = self.stack.db.value(
                f"SELECT incarnation FROM workers WHERE worker_id = '{self.worker_id}'")
        super().spawn()

    def is_ready(self):
        now = self.incarnation()
        return now is not None and now != self.former

    def cut_off(self, how="cut"):
        """From the bus: "cut" for connections that are refused, "hold" for silence."""
        for proxy in self.bus:
            getattr(proxy, how)()

    def mend(self):
        for proxy in (*self.bus, self.database):
            proxy.mend()

    def placed(self, state="ready"):
        """The Apps that the database says it holds."""
        return [row[0] for row in self.stack.db.run(
            "SELECT instance_id FROM placements JOIN workers USING (worker_id, incarnation) "
            f"WHERE worker_id = '{self.worker_id}' AND placements.state = '{state}' ORDER BY 1")]
