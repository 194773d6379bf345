# SPDX-License-Identifier: Apache-2.0
"""What the programs' users may do on the bus and what not, and what a stranger achieves who may do everything."""
import contextlib
import json
import random
import secrets
import socket
import time
import uuid

import pytest

import harness
from harness import NatsClient, eventually

STRANGER = '\t\t{ user: "stranger", password: "%s" }\n'
REFUSED = r"\[ERR\].*(Violation|Permissions)"


class OpenNats(harness.Nats):
    """With one user more, who may publish and hear all."""

    def command(self):
        command = super().command()
        users = self.stack.folder / "nats-users.conf"
        before = users.read_text()
        after = before.replace("\tusers: [\n", "\tusers: [\n" + STRANGER % self.stack.secret("stranger-nats"))
        assert after != before
        users.write_text(after)
        return command


@pytest.fixture(scope="module")
def module_stack():
    stack = harness.Stack(start=False, app={"threads_max": 8})
    stack.nats = OpenNats(stack)
    stack.nats_nodes = [stack.nats]
    stack.allowed_always = []
    try:
        stack.start()
    except BaseException:
        stack.kill_all()
        raise
    yield stack
    found = stack.stop()
    assert not found, "\n".join(found)


@pytest.fixture
def stranger(stack):
    with contextlib.closing(NatsClient(stack, "stranger")) as client:
        yield client


@pytest.fixture
def served(stack, org):
    """Whatever a test did: afterwards the same processes serve, and the App answers its own organization alone."""
    app = org.new_app(tier="hot")
    org.admin.load(app)
    pids = stack.worker.pid, stack.app.pid
    incarnation = stack.worker.incarnation()
    yield app
    assert org.member.chat_ok(app, "still here") == "still here"
    assert (stack.worker.pid, stack.app.pid) == pids and stack.worker.incarnation() == incarnation
    assert [p[3] for p in stack.placements(app)] == ["ready"]


# --- permissions ---

IDS = "0192f0c1-0000-7000-8000-000000000001.0192f0c1-0000-7000-8000-000000000002"
LOADS = "HEARTH_LOADS"
LOADERS = "HEARTH_LOADS.hearth-loaders"
NOBODYS = [">", "hearth", "hearth.other", "hearth.load", "other", "_INBOX.x", "_INBOX_WORKER.x", "_INBOX_CTL.x",
           "$SYS.REQ.SERVER.PING", "$SYS.ACCOUNT.x.CLAIMS.UPDATE", "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST",
           f"$JS.API.STREAM.PURGE.{LOADS}", f"$JS.API.STREAM.MSG.GET.{LOADS}", f"$JS.API.STREAM.MSG.DELETE.{LOADS}",
           "$JS.API.STREAM.CREATE.OTHER", "$JS.API.STREAM.DELETE.OTHER", f"$JS.API.CONSUMER.DELETE.{LOADERS}",
           f"$JS.API.CONSUMER.CREATE.{LOADS}", f"$JS.API.CONSUMER.DURABLE.CREATE.{LOADS}.other",
           f"$JS.API.STREAM.SNAPSHOT.{LOADS}", f"$JS.API.DIRECT.GET.{LOADS}"]
WORKERS_ALONE = [f"hearth.event.{IDS}", f"$JS.API.STREAM.CREATE.{LOADS}", f"$JS.API.STREAM.UPDATE.{LOADS}",
                 f"$JS.API.STREAM.DELETE.{LOADS}", f"$JS.API.CONSUMER.DURABLE.CREATE.{LOADERS}",
                 f"$JS.API.CONSUMER.MSG.NEXT.{LOADERS}", f"$JS.ACK.{LOADERS}.1.1.1.1.0", "_INBOX_APP.x"]
DEAF_TO = [">", "*", "*.>", "hearth.>", "hearth.*", "hearth.load.>", "_INBOX.>", "$JS.>", "$JS.API.>", "$JS.ACK.>", "$SYS.>",
           "$JS.EVENT.ADVISORY.>", "$NRG.>"]

# user: (may publish, must not publish, may hear, must not hear)
RIGHTS = {
    "app": (
        [f"hearth.change.{IDS}", "hearth.chat.x", "hearth.cancel.x.1", f"$JS.API.CONSUMER.INFO.{LOADERS}"],
        [*NOBODYS, *WORKERS_ALONE, "hearth.chat.x.y", f"$JS.API.STREAM.INFO.{LOADS}"],
        ["_INBOX_APP.>", "hearth.event.>", "hearth.change.>"],
        [*DEAF_TO, "hearth.chat.*", "hearth.chat.>", "hearth.cancel.>", "_INBOX_WORKER.>", "_INBOX_CTL.>"],
    ),
    "worker": (
        [f"hearth.change.{IDS}", f"hearth.event.{IDS}", "_INBOX_APP.x", f"$JS.API.STREAM.INFO.{LOADS}"],
        [*NOBODYS, "hearth.chat.x", "hearth.cancel.x.1", f"$JS.ACK.{LOADS}.other.1.1.1.1.0",
         f"$JS.API.CONSUMER.MSG.NEXT.{LOADS}.other"],
        ["_INBOX_WORKER.>", "hearth.chat.x", "hearth.change.>", "hearth.event.>", "hearth.cancel.>"],
        # nats-server 2.9 takes the > of hearth.chat.> for a word that * covers; there is nothing below to be heard.
        [*DEAF_TO, "_INBOX_APP.>", "_INBOX_CTL.>"],
    ),
    "ctl": (
        [f"hearth.change.{IDS}", f"$JS.API.STREAM.INFO.{LOADS}", f"$JS.API.CONSUMER.INFO.{LOADERS}"],
        [*NOBODYS, *WORKERS_ALONE, f"hearth.load.{IDS}", "hearth.chat.x", "hearth.cancel.x.1"],
        ["_INBOX_CTL.>"],
        [*DEAF_TO, "hearth.chat.*", "hearth.change.>", "hearth.event.>", "hearth.cancel.>", "_INBOX_APP.>", "_INBOX_WORKER.>"],
    ),
}


def complaints_of(stack, user, verb, subject):
    """What the server says to the one act, on a connection of its own."""
    with contextlib.closing(NatsClient(stack, user)) as client:
        line = f"PUB {subject} 0\r\n\r\n" if verb == "publish" else f"SUB {subject} 77\r\nUNSUB 77\r\n"
        client.socket.sendall(line.encode())
        return client.flush()


@pytest.mark.parametrize("user", RIGHTS)
def test_a_programs_user_may_do_what_it_needs_and_nothing_else(stack, user):
    stack.allow(REFUSED, "broken change ignored")
    may_publish, must_not_publish, may_hear, must_not_hear = RIGHTS[user]
    for subject in may_publish:
        assert complaints_of(stack, user, "publish", subject) == [], (user, subject)
    for subject in must_not_publish:
        if subject == ">" or subject == f"_INBOX_{user.upper()}.x":
            continue  # the first is no subject to publish on
        assert "Permissions Violation" in str(complaints_of(stack, user, "publish", subject)), (user, subject)
    for subject in may_hear:
        if subject != "hearth.chat.x":  # a listener there hides that nobody holds the App
            assert complaints_of(stack, user, "subscribe", subject) == [], (user, subject)
    for subject in must_not_hear:
        assert "Permissions Violation" in str(complaints_of(stack, user, "subscribe", subject)), (user, subject)


def test_a_wrong_password_and_no_login_are_refused(stack):
    stack.allow(r"\[ERR\].*[Aa]uthenti")
    for login in ({}, {"user": "app", "pass": "x"}, {"user": "app"}, {"user": "nobody", "pass": stack.secret("app-nats")}):
        client = NatsClient.__new__(NatsClient)
        client.socket = socket.create_connection(("127.0.0.1", stack.nats.port), timeout=30)
        client.file = client.socket.makefile("rb")
        client.file.readline()
        client.send("CONNECT", {"verbose": False, **login})
        client.socket.sendall(b"PING\r\n")
        assert b"Authorization Violation" in client.file.readline(), login
        client.close()


# --- a stranger who may do everything ---


def event(org, app, **more):
    return {"v": 1, "operation_id": str(uuid.uuid4()), "instance_id": app, "org_id": org, "action": "load", "tier": "hot",
            "generation": 1, "source": "api_load", "request_id": "forged", **more}


def settle(stack, stranger, app, org):
    """All that was published before has been handled: what came behind it was."""
    assert stranger.flush() == []
    assert org.member.chat_ok(app, "after") == "after"
    r = org.admin.reload(app)
    assert r["state"] == "succeeded"


def nothing_waits(stack):
    """Each event of the stream was acknowledged or ended, as the server says."""
    found = stack.stream()
    return found and (found[1]["num_pending"], found[1]["num_ack_pending"]) == (0, 0)


BROKEN = [b"", b"{", b"null", b"[]", b"\x00" * 100, b"\xff" * 2000, b"x" * 5000, b"[" * 4000, json.dumps({"v": 2}).encode(),
          json.dumps({"v": 1}).encode()]


def test_broken_events_of_every_kind_are_ended(stack, org, served, stranger):
    stack.allow("broken event ended", "broken change ignored")
    rng = random.Random(3)
    good = json.dumps(event(org.id, served)).encode()
    payloads = [*BROKEN, b"y" * 900000, *(good[:i] for i in range(0, len(good), 9)),
                *(bytes(b if rng.random() > 0.02 else rng.randrange(256) for b in good) for _ in range(40))]
    for kind in ("load", "change", "event"):
        for payload in payloads:
            stranger.publish(f"hearth.{kind}.{org.id}.{served}", payload)
            stranger.publish(f"hearth.{kind}.x.y", payload)
    settle(stack, stranger, served, org)
    eventually(lambda: nothing_waits(stack), 30, "no event is unread or unanswered")
    eventually(lambda: stack.pool()["bus"]["events_waiting"] == 0, 30)


def test_forged_events_load_unload_and_cross_nothing(stack, org, served, stranger):
    other = stack.new_org()
    theirs = other.new_app(tier="hot")  # never loaded
    for forged in (event(org.id, theirs), event(other.id, theirs), event(other.id, theirs, generation=2**63 - 1),
                   event(other.id, theirs, action="reload", tier="demand"), event(str(uuid.uuid4()), theirs),
                   event(org.id, str(uuid.uuid4())), event(other.id, served), event(other.id, served, action="unload"),
                   event(org.id, served, action="unload", generation=2**62), event(org.id, served, source="demand")):
        for kind in ("load", "change", "event"):
            for _ in range(3):  # a replay is the same once more
                stranger.publish(f"hearth.{kind}.{forged['org_id']}.{forged['instance_id']}", forged)
    for subject in (f"hearth.change.{org.id}._all", "hearth.change._all._all"):
        stranger.publish(subject, event(None if "_all._all" in subject else org.id, None, operation_id=None, action="unload"))
    stranger.publish(f"hearth.event.{org.id}.{served}", event(org.id, served, state="ready", reason="x"))
    settle(stack, stranger, served, org)
    eventually(lambda: nothing_waits(stack), 30, "no event is unread or unanswered")
    eventually(lambda: stack.pool()["bus"]["events_waiting"] == 0, 30)
    assert stack.placements(theirs) == []
    assert (other.member.chat(theirs).status, other.member.chat(theirs).code) == (503, "instance_not_loaded")
    other.admin.load(theirs)  # what was forged before has left nothing behind
    assert other.member.chat_ok(theirs, "mine") == "mine"
    assert stack.db.value(f"SELECT COUNT(*) FROM operations WHERE instance_id = '{theirs}'") == "1"


def chat(org, app, **more):
    return {"v": 1, "instance_id": app, "org_id": org, "session_id": app, "stream": False, "message": "forged",
            "deadline_unix_ms": int(time.time() * 1000) + 60000, **more}


def hear(stack, *subjects):
    """A second connection of the stranger that collects what comes on the subjects."""
    client = NatsClient(stack, "stranger")
    for i, subject in enumerate(subjects):
        client.socket.sendall(f"SUB {subject} {1000 + i}\r\n".encode())
    assert client.flush() == []
    return client


def messages(client):
    """All messages so far: subject and payload of each."""
    client.socket.sendall(b"PING\r\n")
    found = []
    while not (line := client.file.readline()).startswith(b"PONG"):
        assert line
        if line.startswith((b"MSG", b"HMSG")):
            words = line.split()
            found.append((words[1].decode(), client.file.read(int(words[-1]) + 2)))
    return found


def heard(client):
    """The subjects of all messages so far."""
    return [subject for subject, _ in messages(client)]


def test_a_chat_in_another_organizations_name_is_answered_as_not_loaded(stack, org, served, stranger):
    stack.allow("chat request for an App of another organization")
    stranger.inbox = f"_INBOX_APP.{secrets.token_hex(8)}"
    assert stranger.chat(org, served, "mine")[0] == 200
    other = stack.new_org()
    status, answer = stranger.chat(other, served, "theirs")
    assert (status, answer["code"]) == (503, "instance_not_loaded")
    assert stack.db.number(f"SELECT COUNT(*) FROM instance_stats WHERE org_id = '{other.id}'") == 0


def test_a_worker_answers_into_no_subject_but_an_applications_inbox(stack, org, served, stranger):
    load, change = f"hearth.load.{org.id}.{served}", f"hearth.change.{org.id}.{served}"
    targets = [load, change, "$JS.API.STREAM.PURGE.HEARTH_LOADS", "$JS.API.STREAM.DELETE.HEARTH_LOADS", "_INBOX_APPX.1",
               "_INBOX_WORKER.x", "hearth.cancel.x.1", f"hearth.chat.{served}", "other"]
    mine = f"_INBOX_APP.{secrets.token_hex(8)}"
    with contextlib.closing(hear(stack, ">")) as ears:
        for target in targets:
            stranger.publish(f"hearth.chat.{served}", chat(org.id, served), reply=target)
        stranger.publish(f"hearth.chat.{served}", chat(org.id, served))
        stranger.publish(f"hearth.chat.{served}", chat(org.id, served), reply=mine)
        assert stranger.flush() == []
        seen = []
        eventually(lambda: seen.extend(heard(ears)) or mine in seen, 20)
    assert not set(seen) & {*targets} - {f"hearth.chat.{served}"}
    assert seen.count(f"hearth.chat.{served}") == len(targets) + 2


def test_broken_chats_are_refused_and_late_ones_dropped(stack, org, served, stranger):
    stack.allow("broken chat request", "chat request for another App than its subject's")
    inbox = f"_INBOX_APP.{secrets.token_hex(8)}"
    subject = f"hearth.chat.{served}"
    good = chat(org.id, served)
    refused = [*BROKEN, b"z" * 1000000, json.dumps({**good, "message": "m" * 300000}).encode(), json.dumps({**good, "stream": "yes"}).encode(),
               json.dumps({**good, "org_id": "x"}).encode(), json.dumps({**good, "instance_id": str(uuid.uuid4())}).encode(),
               json.dumps({**good, "request_id": {"a": 1}}).encode()]
    with contextlib.closing(hear(stack, inbox + ".>")) as ears:
        for i, payload in enumerate(refused):
            stranger.publish(subject, payload, reply=f"{inbox}.{i}")
        stranger.publish(subject, {**good, "deadline_unix_ms": 1}, reply=f"{inbox}.late")
        stranger.publish(subject, {**good, "deadline_unix_ms": -2**63}, reply=f"{inbox}.later")
        stranger.publish(subject, {**good, "request_id": "a\r\nb=c", "message": "\r\n\r\n"}, reply=f"{inbox}.last")
        assert stranger.flush() == []
        seen = []
        eventually(lambda: seen.extend(heard(ears)) or f"{inbox}.last" in seen, 20)
    assert sorted(seen) == sorted([f"{inbox}.{i}" for i in range(len(refused))] + [f"{inbox}.last"])


def test_forged_replies_to_an_applications_inbox_end_no_stream_of_others(stack, org, served, stranger):
    stack.allow("a worker's reply could not be read", "replies of a worker were lost")
    slow = org.new_app(tier="hot", config={"word_delay_ms": 100})
    org.admin.load(slow)
    with contextlib.closing(hear(stack, "_INBOX_APP.>")) as ears:
        stream = org.member.chat_stream(slow, "word " * 20)
        stream.first()
        seen = []
        eventually(lambda: seen.extend(heard(ears)) or seen, 20)
        inbox = seen[0]
        # Who guesses the inbox of a turn can end that turn, and no other: each call has a token of its own.
        prefix = inbox.rsplit(".", 1)[0]
        for payload in (b"", b"x", b"0 end 200\n{}", b"99 end 200\n{}", b"1 event message\n\r\n\r\ndata: x", b"1 accepted hearth.load.a.b\n",
                        b"\xff" * 1000, b"18446744073709551615 end 200\n"):
            for token in ("0-0", "ffffffff-ffffffff", "x", "1-", "-1", "0-99999999999999999999", "7fffffff-1"):
                stranger.publish(f"{prefix}.{token}", payload)
            stranger.publish(prefix, payload)
        assert stranger.flush() == []
        events = stream.rest()
        assert events[-1].data.get("done") is True
        heard(ears)
        victim = org.member.chat_stream(slow, "word " * 300)
        victim.first()
        seen = []
        eventually(lambda: seen.extend(heard(ears)) or seen, 20)
        stranger.publish(seen[0], b"7777 end 200\n{}")  # numbers out of order: as if replies were lost
        last = victim.rest()[-1]
        assert (last.name, last.data["code"]) == ("error", "worker_unresponsive")
    assert org.member.chat_ok(served, "x") == "x"
    eventually(lambda: stack.next_flush()["turns_in_flight"] == 0, 30)


def test_forged_cancels_end_no_turn(stack, org, served, stranger):
    slow = org.new_app(tier="hot", config={"word_delay_ms": 100})
    org.admin.load(slow)
    with contextlib.closing(hear(stack, "_INBOX_APP.>")) as ears:
        stream = org.member.chat_stream(slow, "word " * 20)
        stream.first()
        seen = []
        eventually(lambda: seen.extend(p for _, p in messages(ears) if b" accepted " in p) or seen, 20)
    # "0 accepted hearth.cancel.INCARNATION.TURN"
    mine, number = seen[0].split()[2].decode().split(".")[2:]
    assert mine == stack.worker.incarnation()
    for incarnation in (str(uuid.uuid4()), "x", "y"):
        for turn in (number, "1", "0", "-1", "18446744073709551616", "x"):
            stranger.publish(f"hearth.cancel.{incarnation}.{turn}", b"z" * 1000)
    for turn in ("0", "-1", "99999999999999999999", "x", "1x"):
        stranger.publish(f"hearth.cancel.{mine}.{turn}", b"")
    assert stranger.flush() == []
    assert stream.rest()[-1].data.get("done") is True


def test_forged_pulls_are_acknowledged_to_nobody(stack, org, served, stranger):
    """Into the worker's own inbox, as if the stream had sent it."""
    stack.allow("broken event ended")
    with contextlib.closing(hear(stack, "_INBOX_WORKER.>")) as ears:
        org.admin.load(org.new_app(tier="hot"))
        seen = []
        eventually(lambda: seen.extend(heard(ears)) or [s for s in seen if ".pull." in s], 20)
    pull = next(s for s in seen if ".pull." in s)
    targets = [f"hearth.load.{org.id}.{served}", f"hearth.event.{org.id}.x", "_INBOX_APP.x"]  # what a worker may publish on
    with contextlib.closing(hear(stack, *targets)) as ears:
        for payload in (b"", b"{", json.dumps(event(org.id, served)).encode()):
            stranger.publish(pull, payload)
            for target in targets:
                stranger.publish(pull, payload, reply=target)
        settle(stack, stranger, served, org)
        assert not set(heard(ears)) & set(targets)


def test_a_flood_holds_nobody_up_for_long(stack, org, served, stranger):
    stack.allow("broken event ended", "broken change ignored", "broken chat request")
    for i in range(3000):
        stranger.publish(f"hearth.change.{org.id}.{served}", event(org.id, served))
        stranger.publish(f"hearth.chat.{served}", b"{", reply="_INBOX_APP.flood.1")
        if i % 3 == 0:
            stranger.publish(f"hearth.load.{org.id}.{uuid.uuid4()}", b"{}")
    settle(stack, stranger, served, org)
    eventually(lambda: nothing_waits(stack), 60, "no event is unread or unanswered")
    eventually(lambda: stack.pool()["bus"]["events_waiting"] == 0, 30)
