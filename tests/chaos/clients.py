# SPDX-License-Identifier: Apache-2.0
"""The clients of a chaos run: lifecycle requests and chats, each recorded with what was answered.

What a client asks for follows from the seed and its number. Each App has a tag; its configuration's prefix is
"<tag>:<version> ", so an answer tells whose it is and of which configuration. No version is ever used twice. Every
request has an id of its own, by which the database can be asked later what became of it.
"""
import contextlib
import dataclasses
import http.client
import itertools
import json
import random
import socket
import threading
import time

ORGS, APPS_PER_ORG = 3, 6
CHATTERS, STREAMERS, OPERATORS = 4, 2, 6
PATIENCE_S = 45  # no answer for so long is a hang
WATCH_S = 4  # how long an operator looks for the end of what it asked for
AIMED = 0.7  # of the requests, where something is aimed at
BROKEN = "chaos says no"  # the reason of a build that is meant to fail


class Target:
    """One AI App as the clients know it."""

    def __init__(self, org, tag, is_crabby):
        self.org, self.tag, self.is_crabby = org, tag, is_crabby
        self.id = None
        self.created_at = None  # when the answer to its creation came
        self.is_gone = False  # deleted, or unknown after a restored backup: not asked for any more
        self._version = 0
        self._lock = threading.Lock()

    def next_version(self):
        with self._lock:
            self._version += 1
            return self._version

    def config(self, version, r, is_broken=False):
        return {"prefix": f"{self.tag}:{version} ", "build_delay_ms": r.choice([0, 0, 0, 20, 150, 400]),
                "word_delay_ms": r.choice([0, 0, 0, 8, 25]), **({"build_fail": BROKEN} if is_broken else {})}


@dataclasses.dataclass
class Asked:
    """A request that changes an App."""

    target: Target
    kind: str  # create load unload reload config tier suspend activate delete
    request_id: str
    began: float
    ended: float = None
    status: int = None  # None: no answer
    code: str = None
    operation_id: str = None
    generation: int = None
    tier: str = None  # the App's, as it was answered
    version: int = None  # of a new configuration
    is_broken: bool = False  # that configuration cannot be built
    is_accepted: bool = False
    seen_at: float = None  # when the operation was first seen ended
    seen_state: str = None
    seen_reason: str = None


@dataclasses.dataclass
class Turn:
    """A chat."""

    target: Target
    request_id: str
    message: str
    is_stream: bool
    began: float
    ended: float = None
    status: int = None  # None: no answer
    code: str = None
    text: str = ""
    ending: str = None  # of a stream: done, error, cut


class Load:
    def __init__(self, pool, seed):
        self.pool, self.seed = pool, seed
        self.asked, self.turns, self.trouble = [], [], []
        self.over = threading.Event()
        self.targets = []
        self.aimed = []  # Targets that most requests go to meanwhile
        self.is_storm = False  # chats without a pause
        self.suspended = []  # (organization, when)
        self._is_paused = False
        self._busy = 0
        self._changed = threading.Condition()
        self._number = 0
        self._tags = itertools.count()
        self._lock = threading.Lock()
        r = random.Random(f"load {seed}")
        self.orgs = [pool.new_org(quotas={"instances": 2000, "hot": 2000, "demand": 2000}) for _ in range(ORGS)]
        for i in range(ORGS * APPS_PER_ORG):
            self.create(self.orgs[i % ORGS], r, pool.fronts[0])
        assert len(self.targets) == ORGS * APPS_PER_ORG, self.asked

    def start(self):
        clients = [(self.chatter, False)] * CHATTERS + [(self.chatter, True)] * STREAMERS + [(self.operator, None)] * OPERATORS
        self.threads = [threading.Thread(target=self._client, args=(call, f"{self.seed} {i}", arg), daemon=True)
                        for i, (call, arg) in enumerate(clients)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.over.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self.threads:
            thread.join()

    def _client(self, call, seed, arg):
        r = random.Random(f"client {seed}")
        try:
            while self._enter():
                try:
                    call(r, arg)
                finally:
                    self._leave()
        except BaseException as e:  # noqa: B902 - a client that dies is a fault of the runner, and must be seen
            import traceback

            self.trouble.append(f"a client died: {e!r}\n{traceback.format_exc()}")

    def _enter(self):
        with self._changed:
            self._changed.wait_for(lambda: not self._is_paused or self.over.is_set())
            self._busy += 1
        return not self.over.is_set()

    def _leave(self):
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()

    @contextlib.contextmanager
    def paused(self):
        """No client is at anything meanwhile."""
        with self._changed:
            self._is_paused = True
            self._changed.wait_for(lambda: self._busy == 0)
        try:
            yield
        finally:
            with self._changed:
                self._is_paused = False
                self._changed.notify_all()

    @contextlib.contextmanager
    def aim(self, targets, is_storm=False):
        self.aimed, self.is_storm = list(targets), is_storm
        try:
            yield
        finally:
            self.aimed, self.is_storm = [], False

    def pick(self, r):
        """An App that is asked for something."""
        aimed = self.aimed
        return r.choice(aimed) if aimed and r.random() < AIMED else r.choice(self.targets)

    def by_id(self, ids):
        return [t for t in self.targets if t.id in ids and not t.is_gone]

    # --- asking ---

    def request_id(self):
        with self._lock:
            self._number += 1
            return f"chaos-{self.seed}-{self._number}"

    def call(self, front, record, token, method, path, body=None, headers=None):
        """One request; fills in what was answered and returns its JSON, None where there was none."""
        headers = {"X-Request-Id": record.request_id, **(headers or {})}
        try:
            response = front.request(method, path, token, body, headers, timeout=PATIENCE_S)
        except (OSError, http.client.HTTPException) as e:
            record.ended = time.time()
            if isinstance(e, (socket.timeout, TimeoutError)):
                self.trouble.append(f"no answer in {PATIENCE_S} s: {record}")
            return None
        record.ended = time.time()
        record.status = response.status
        try:
            document = json.loads(response.body)
        except ValueError:
            return None  # the web server's own page
        record.code = document.get("code") if response.status >= 400 else None
        return document

    def ask(self, target, kind, front, method, tail, body=None, **fields):
        asked = Asked(target, kind, self.request_id(), time.time(), **fields)
        path = f"/api/orgs/{target.org.id}/orchestrators" + (f"/{target.id}{tail}" if target.id else "")
        self.asked.append(asked)
        document = self.call(front, asked, target.org.admin.token, method, path, body)
        asked.is_accepted = asked.status in (200, 201, 202) and document is not None
        if asked.is_accepted:
            asked.operation_id, asked.generation = document.get("operation_id"), document.get("generation")
            asked.tier = document.get("tier")
        if kind == "create" and document and document.get("instance_id"):
            target.id, target.created_at = document["instance_id"], asked.ended
        if asked.status in (404, 410):
            target.is_gone = True
        return asked

    def create(self, org, r, front):
        target = Target(org, f"s{self.seed}a{next(self._tags)}", is_crabby=r.random() < 0.2)
        version = target.next_version()
        self.ask(target, "create", front, "POST", "", {
            "name": target.tag, "framework_type": "echo", "tier": r.choice(["hot", "hot", "demand"]),
            "replicas": r.choice([1, 1, 1, 2, 3]), "config": target.config(version, r)}, version=version)
        if target.id:
            self.targets.append(target)

    def set_org(self, org, status):
        """Suspends or activates an organization; returns whether it was done."""
        for _ in range(20):
            r = self.pool.fronts[0].request("PATCH", f"/api/admin/orgs/{org.id}/status", self.pool.sys.token, {"status": status}, timeout=PATIENCE_S)
            if r.status == 200:
                if status == "suspended":
                    self.suspended.append((org, time.time()))
                return True
            self.over.wait(0.3)
        return False

    # --- operators ---

    def operator(self, r, _):
        front, target = r.choice(self.pool.fronts), self.pick(r)
        kind = r.choices(["load", "unload", "reload", "config", "tier", "suspend", "create", "delete"],
                         [9, 5, 5, 6, 3, 1, 1, 0.5])[0]
        x, pause = r.random(), r.uniform(0.02, 0.2)
        if kind == "create":
            self.create(target.org, r, front)
        elif not target.is_gone:
            getattr(self, kind)(target, r, x, front)
        self.over.wait(pause)

    def watch(self, asked, r, front):
        """Looks until the operation has ended; often, what was asked for is tried at once."""
        if not asked.is_accepted or not asked.operation_id or r.random() < 0.3:
            return
        until = time.time() + WATCH_S
        while time.time() < until and not self.over.is_set():
            look = Asked(asked.target, "look", self.request_id(), time.time())
            document = self.call(front, look, asked.target.org.member.token, "GET",
                                 f"/api/orgs/{asked.target.org.id}/operations/{asked.operation_id}")
            if look.status == 200 and document and document["state"] not in ("accepted", "running"):
                asked.seen_state, asked.seen_reason, asked.seen_at = document["state"], document["reason"], look.ended
                break
            self.over.wait(0.1)
        if asked.seen_state == "succeeded":
            for _ in range(r.choice([0, 1, 3])):
                self.chat(asked.target, r, r.random() < 0.3, r.choice(self.pool.fronts))

    def load(self, target, r, x, front):
        body = {"tier": "hot" if x < 0.1 else "demand"} if x < 0.2 else {}
        self.watch(self.ask(target, "load", front, "POST", "/load", body), r, front)

    def unload(self, target, r, x, front):
        self.watch(self.ask(target, "unload", front, "POST", "/unload", {"drain_s": 0} if x < 0.3 else {}), r, front)

    def reload(self, target, r, x, front):
        self.watch(self.ask(target, "reload", front, "POST", "/reload", {"fresh": True} if x < 0.2 else {}), r, front)

    def config(self, target, r, x, front):
        version, is_broken = target.next_version(), target.is_crabby and x < 0.4
        body = {"config": target.config(version, r, is_broken)}
        self.watch(self.ask(target, "config", front, "PATCH", "/config", body, version=version, is_broken=is_broken), r, front)

    def tier(self, target, r, x, front):
        self.watch(self.ask(target, "tier", front, "PATCH", "", {"tier": "hot" if x < 0.6 else "demand"}), r, front)

    def suspend(self, target, r, x, front):
        self.watch(self.ask(target, "suspend", front, "PATCH", "/status", {"status": "suspended"}), r, front)
        self.over.wait(x)
        for _ in range(20):  # or the Apps would be suspended one after the other
            asked = self.ask(target, "activate", front, "PATCH", "/status", {"status": "active"})
            if asked.is_accepted or target.is_gone or self.over.wait(0.5):
                break

    def delete(self, target, r, x, front):
        asked = self.ask(target, "delete", front, "DELETE", "")
        target.is_gone |= asked.is_accepted
        self.watch(asked, r, front)

    # --- chatters ---

    def chatter(self, r, is_stream):
        target, front, pause = self.pick(r), r.choice(self.pool.fronts), r.uniform(0.005, 0.08)
        if not target.is_gone:
            self.chat(target, r, is_stream, front)
        self.over.wait(0 if self.is_storm else pause)

    def chat(self, target, r, is_stream, front):
        words = 1 if self.is_storm else r.choice([1, 2, 5, 20])
        message = " ".join(r.choice(["eins", "zwei", "drei", "für", "\U0001f525", "x" * 50]) for _ in range(words))
        turn = Turn(target, self.request_id(), message, is_stream, time.time())
        self.turns.append(turn)
        path = f"/api/orgs/{target.org.id}/chat/completion"
        body = {"instance_id": target.id, "message": message, "stream": is_stream}
        if is_stream:
            self._stream(turn, front, target.org.member.token, path, body)
        else:
            document = self.call(front, turn, target.org.member.token, "POST", path, body)
            if turn.status == 200 and document:
                turn.text = document["response"]
        if turn.status == 404:
            target.is_gone = True

    def _stream(self, turn, front, token, path, body):
        try:
            stream = front.stream("POST", path, token, body, {"X-Request-Id": turn.request_id}, timeout=PATIENCE_S)
            turn.status = stream.status
            if turn.status != 200:
                answer = stream.response.read()
                stream.close()
                turn.ended = time.time()
                turn.code = json.loads(answer).get("code")
                return
            turn.ending = "cut"
            for event in stream:
                if event.name == "message":
                    turn.text += event.data["content"]
                elif event.name == "error":
                    turn.ending, turn.code = "error", event.data["code"]
                elif event.data.get("done"):
                    turn.ending = "done"
            stream.close()
        except (OSError, http.client.HTTPException, ValueError, AssertionError) as e:
            if isinstance(e, (socket.timeout, TimeoutError)):
                self.trouble.append(f"no answer in {PATIENCE_S} s: {turn}")
        turn.ended = time.time()
