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
import http.client
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

from proxy import Proxy

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
        try:
            answer = ask()
            if answer:
                return answer
            problem = f"last answer: {answer!r}"
        except AssertionError as e:
            problem = str(e)
        if time.monotonic() > deadline:
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


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# --- HTTP ---


class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The problem document's code, None where it is none."""
        if "application/problem+json" not in self.headers.get("Content-Type", ""):
            return None
        return self.json["code"]

    def __repr__(self):
        return f"<{self.status} {self.body[:400]!r}>"


class Event:
    def __init__(self, name, data):
        self.name, self.data = name, data

    def __repr__(self):
        return f"{self.name}: {self.data}"


class Stream:
    """A response that is read while it comes: server-sent events."""

    def __init__(self, connection, response):
        self.connection, self.response = connection, response
        self.status, self.headers = response.status, response.headers
        self.comments = 0

    def __iter__(self):
        name, data = "message", []
        while True:
            line = self.response.readline()
            if not line:
                assert not data, f"the stream ended inside an event: {data}"
                return
            line = line.rstrip(b"\r\n").decode()
            if not line:
                if data:
                    yield Event(name, json.loads("\n".join(data)))
                name, data = "message", []
            elif line.startswith(":"):
                self.comments += 1
            else:
                key, _, value = line.partition(":")
                value = value[1:] if value.startswith(" ") else value
                if key == "event":
                    name = value
                elif key == "data":
                    data.append(value)

    def first(self):
        """The first metadata event: from here on the turn is accepted."""
        event = next(iter(self))
        assert event.name == "metadata", event
        return event

    def rest(self):
        return list(self)

    def hang_up(self):
        """Goes away as a browser does whose window is closed: with a reset."""
        sock = self.connection.sock or self.response.fp.raw._sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        self.response.close()
        self.connection.close()


def text_of(events):
    """The answer that a stream's message events make."""
    return "".join(e.data["content"] for e in events if e.name == "message")


class Http:
    """One connection per request, to 127.0.0.1:port."""

    def __init__(self, port):
        self.port = port

    def _send(self, method, path, token=None, body=None, headers=None, timeout=60):
        headers = dict(headers or {})
        if token:
            headers.setdefault("Authorization", f"Bearer {token}")
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        if isinstance(body, str):
            body = body.encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout * SLOW)
        connection.request(method, path, body=body, headers=headers)
        return connection, connection.getresponse()

    def request(self, method, path, token=None, body=None, headers=None, timeout=60):
        connection, response = self._send(method, path, token, body, headers, timeout)
        with contextlib.closing(connection):
            return Response(response.status, response.headers, response.read())

    def stream(self, method, path, token=None, body=None, headers=None, timeout=60):
        return Stream(*self._send(method, path, token, body, headers, timeout))

    def raw(self, data, timeout=60):
        """A socket on which the bytes were sent: for what http.client refuses to send."""
        s = socket.create_connection(("127.0.0.1", self.port), timeout=timeout * SLOW)
        s.sendall(data)
        return s


class Api:
    """The API with one token. The calls return the Response; what ends in _ok has looked at it."""

    def __init__(self, http, token, org_id=None):
        self.http, self.token, self.org_id = http, token, org_id

    def call(self, method, path, body=None, headers=None, timeout=60):
        return self.http.request(method, path, self.token, body, headers, timeout)

    def get(self, path, headers=None):
        return self.call("GET", path, headers=headers)

    def post(self, path, body=None, headers=None):
        return self.call("POST", path, body, headers)

    def patch(self, path, body=None, headers=None):
        return self.call("PATCH", path, body, headers)

    def delete(self, path):
        return self.call("DELETE", path)

    # What follows is of the org.
    def app_path(self, app, tail=""):
        return f"/api/orgs/{self.org_id}/orchestrators/{app}{tail}"

    def app(self, app):
        r = self.get(self.app_path(app))
        assert r.status == 200, r
        return r.json

    def operation(self, operation_id):
        r = self.get(f"/api/orgs/{self.org_id}/operations/{operation_id}")
        assert r.status == 200, r
        return r.json

    def operations(self, app):
        items, after = [], None
        while True:
            r = self.get(self.app_path(app, "/operations?limit=100" + (f"&after={after}" if after else "")))
            assert r.status == 200, r
            items += r.json["items"]
            after = r.json["next"]
            if not after:
                return items

    def lifecycle(self, what, app, body=None, wait=None):
        return self.post(self.app_path(app, "/" + what), body, {"Prefer": f"wait={wait}"} if wait else None)

    def ended(self, operation_id, timeout=20):
        """The operation, once it has ended."""
        return eventually(
            lambda: (op := self.operation(operation_id))["state"] not in ("accepted", "running") and op,
            timeout,
            f"operation {operation_id} has ended",
        )

    def lifecycle_ok(self, what, app, body=None):
        """Asks for it, waits, and wants it to have succeeded."""
        r = self.lifecycle(what, app, body)
        assert r.status == 202, r
        op = self.ended(r.json["operation_id"])
        assert op["state"] == "succeeded", op
        return op

    def load(self, app, body=None):
        return self.lifecycle_ok("load", app, body)

    def unload(self, app, body=None):
        return self.lifecycle_ok("unload", app, body)

    def reload(self, app, body=None):
        return self.lifecycle_ok("reload", app, body)

    def configure(self, app, **config):
        """Replaces the configuration and waits for what that causes."""
        r = self.patch(self.app_path(app, "/config"), {"config": config})
        assert r.status == 200, r
        if r.json["operation_id"]:
            return self.ended(r.json["operation_id"])
        return None

    @property
    def chat_path(self):
        return f"/api/orgs/{self.org_id}/chat/completion"

    def chat(self, app, message="hello", timeout=60, **more):
        return self.call("POST", self.chat_path, {"instance_id": app, "message": message, "stream": False, **more},
                         timeout=timeout)

    def chat_ok(self, app, message="hello"):
        r = self.chat(app, message)
        assert r.status == 200, r
        return r.json["response"]

    def chat_stream(self, app, message="hello", timeout=60, **more):
        return self.http.stream("POST", self.chat_path, self.token,
                                {"instance_id": app, "message": message, **more}, timeout=timeout)


class Org:
    """One organization with a token of each role."""

    def __init__(self, stack, name=None, **fields):
        self.stack = stack
        self.name = name or f"org-{secrets.token_hex(6)}"
        r = stack.sys.post("/api/admin/orgs", {"name": self.name, **fields})
        assert r.status == 201, r
        self.id = r.json["org_id"]
        self.admin = Api(stack.http, self.new_token("org_admin")["token"], self.id)
        self.member = Api(stack.http, self.new_token("member")["token"], self.id)

    def new_token(self, role, **fields):
        r = self.stack.sys.post(f"/api/orgs/{self.id}/tokens", {"name": f"{role} {secrets.token_hex(4)}",
                                                                "role": role, **fields})
        assert r.status == 201, r
        return r.json

    def new_app(self, tier="demand", config=None, **fields):
        """Makes an echo App and returns its id."""
        r = self.admin.post(f"/api/orgs/{self.id}/orchestrators", {
            "name": f"app-{secrets.token_hex(6)}", "framework_type": "echo", "tier": tier, "config": config or {},
            **fields})
        assert r.status == 201, r
        return r.json["instance_id"]

    def hot_apps(self, count, **fields):
        """Makes as many hot Apps, loads them all at once, and returns their ids."""
        apps = [self.new_app(tier="hot", **fields) for _ in range(count)]
        operations = [self.admin.lifecycle("load", app).json["operation_id"] for app in apps]
        ended = [self.admin.ended(op, 40) for op in operations]
        assert {op["state"] for op in ended} == {"succeeded"}, ended
        return apps

    def suspend(self):
        """All its Apps leave."""
        r = self.stack.sys.patch(f"/api/admin/orgs/{self.id}/status", {"status": "suspended"})
        assert r.status == 200, r


# --- programs ---


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

    def text(self, start=0):
        with contextlib.suppress(FileNotFoundError):
            with open(self.log, "rb") as f:
                f.seek(start)
                return f.read().decode(errors="replace")
        return ""

    def tail(self, lines=60):
        return "\n".join(self.text().splitlines()[-lines:])

    def complaints(self, allowed):
        """What is wrong with it since the last look."""
        new = self.text(self.checked)
        self.checked += len(new.encode(errors="replace")) if "\ufffd" in new else len(new.encode())
        found = []
        if SANITIZER_SPOKE.search(new):
            at = max(0, SANITIZER_SPOKE.search(new).start() - 200)
            found.append(f"{self.name}: a sanitizer spoke:\n{new[at:at + 6000]}")
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
        self.port = self.monitor = self.route_port = None
        self.store = stack.folder / self.name
        self.ports = stack.folder / f"{self.name}-ports"
        if number:
            # The others must know where it is before it runs.
            self.port, self.route_port = free_port(), free_port()

    def server_conf(self):
        """The example of conf/ with our addresses."""
        text = (SOURCE / "conf" / ("nats-cluster.conf" if self.route_port else "nats.conf")).read_text()
        lines = {"listen": f'"127.0.0.1:{self.port or -1}"', "\tstore_dir": f'"{self.store}"', "ping_interval": '"2s"'}
        if self.route_port:
            routes = ", ".join(f'"nats://route:change-me-route@127.0.0.1:{n.route_port}"' for n in self.stack.nats_nodes)
            text = re.sub(r"(?s)\troutes: \[.*?\]", f"\troutes: [{routes}]", text)
            advertise = f"\tno_advertise: {str(not self.stack.is_nats_advertised).lower()}"
            lines |= {"server_name": self.name, "\tlisten": f'"127.0.0.1:{self.route_port}"\n{advertise}'}
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

    def clients(self):
        """The names of the programs that are connected here, as they call themselves."""
        return sorted(c.get("name", "") for c in self.look("/connz")["connections"])

    def wipe(self):
        """Takes JetStream's folder away; only while it is stopped."""
        assert not self.is_running()
        shutil.rmtree(self.store)

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
            assert line, f"nats-server hung up: {errors}"
            if line.startswith(b"-ERR"):
                errors.append(line.decode().strip())

    def close(self):
        self.file.close()
        self.socket.close()


class Lighttpd(Program):
    name = "lighttpd"
    is_exit_status_good = True  # ends with 1 on SIGTERM while a connection is open

    def __init__(self, stack):
        super().__init__(stack)
        self.port = free_port()

    def command(self):
        folder = self.stack.folder
        values = {
            "address": '"127.0.0.1"', "port": str(self.port), "socket": f'"{self.stack.app.socket}"',
            "errorlog": f'"{self.log}"', "pidfile": f'"{folder}/lighttpd.pid"', "uploads": f'"{folder}/uploads"',
        }
        (folder / "uploads").mkdir(exist_ok=True)
        text = (SOURCE / "conf/lighttpd.conf").read_text()
        for name, value in values.items():
            text, n = re.subn(rf"(?m)^var\.{name}\b.*$", lambda m: f"var.{name} = {value}", text)
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


USERS = ("app", "worker", "ctl")


def user_name():
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


# Fast enough for stories; what a story is about it sets itself.
DEFAULTS = {
    "log": {"level": "debug"},
    "app": {"threads_max": 64, "demand_wait_s": 20},
    "worker": {"lease_s": 4, "recovery_s": 1, "reconcile_s": 2, "stats_s": 1, "drain_s": 20},
}


class Stack:
    """All servers together. worker=, app=, … are options of hearth.conf beside DEFAULTS.

    workers is how many, w1 to wN, or a list with the own options of each. nats_nodes > 1 makes a NATS cluster, with
    the stream on up to three of them. is_proxied puts a proxy between each worker and each of its servers.
    """

    _template = None

    def __init__(self, start=True, workers=1, nats_nodes=1, is_proxied=False, **options):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hearth-"))
        self.conf = self.folder / "hearth.conf"
        self.secrets = {}
        self.options = {section: {**DEFAULTS.get(section, {}), **options.get(section, {})}
                        for section in {*DEFAULTS, *options}}
        self.allowed = []
        self.db = MariaDB(self, self.template())
        self.is_proxied = is_proxied
        self.is_nats_advertised = not is_proxied  # or a client would learn the way around its proxy
        self.nats_nodes = [Nats(self, i + 1 if nats_nodes > 1 else None) for i in range(nats_nodes)]
        self.nats = self.nats_nodes[0]
        self.app = App(self)
        own = workers if isinstance(workers, list) else [{}] * workers
        self.worker = Worker(self, **({"worker": own[0]} if own[0] else {}))
        self.more_workers = [Worker(self, f"w{i}", worker=one) for i, one in enumerate(own[1:], 2)]
        self.lighttpd = Lighttpd(self)
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

    def sections(self):
        def login(who, *kinds):
            return {f"{kind}_{key}": value for kind in kinds for key, value in (
                ("user", f"hearth_{who}" if kind == "database" else who),
                ("password_file", self.secret_file(f"{who}-{kind}")))}

        ports = [node.port or 4222 for node in self.nats_nodes]
        sections = {
            "database": {"socket": self.db.socket},
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
        for section, values in self.sections().items():
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
        return [c for p in self.programs for c in p.complaints(self.allowed)]

    def check(self):
        found = self.complaints()
        self.allowed = []
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
        eventually(lambda: (s := self.stream()) and s[1]["num_waiting"] == live, 30, "all workers ask for loads")

    def node_of(self, name):
        return next(n for n in self.nats_nodes if n.name == name)

    def next_flush(self):
        """The pool's statistics, of a flush that began after this call."""
        before = self.db.value("SELECT UTC_TIMESTAMP(3)").replace(" ", "T")
        live = self.db.number("SELECT COUNT(*) FROM workers WHERE lease_until > UTC_TIMESTAMP(3)")

        def flushed():
            n = self.db.number(f"SELECT COUNT(DISTINCT worker_id) FROM worker_stats WHERE flushed_at > '{before}'")
            return n >= live and self.pool()

        return eventually(flushed, 20, "the workers have flushed their statistics")

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
        db.run((SOURCE / "conf/mariadb-grants.sql").read_text(), database=None)
    finally:
        status = db.stop()
    assert status == 0, db.tail()
    return db.data


def remove_template():
    if Stack._template:
        shutil.rmtree(Stack._template.parent, ignore_errors=True)
