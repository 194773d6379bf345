# SPDX-License-Identifier: Apache-2.0
"""The key ring: made, copied, checked, rotated while everything works; and everything that may be wrong with it."""
import contextlib
import json
import subprocess
import threading

import pytest

import harness
from harness import PATH, Background, eventually, user_name

KEY = "sk-0123456789-abcdef-wxyz"


@pytest.fixture
def stack():
    """Its own for each story: the keys are the database's."""
    stack = harness.Stack()
    yield stack
    found = stack.stop()
    assert not found, "\n".join(found)


def path(org, item=None):
    return f"/api/orgs/{org.id}/llm-configs" + (f"/{item}" if item else "")


def body(**fields):
    return {"name": "main", "provider": "openai", "base_url": "https://1.1.1.1/v1", "api_key": KEY, **fields}


def ring(stack):
    return stack.folder / "secret" / "keys"


def ids(file):
    return [line.split()[0] for line in file.read_text().splitlines() if line and line[0] != "#"]


def keys(stack):
    """{key id: state} as hearthctl lists them."""
    return {k["key_id"]: k["state"] for k in json.loads(stack.ctl("keys", "list", "--json"))["items"]}


def sealed_with(stack):
    return {row[0]: int(row[1]) for row in stack.db.run("SELECT key_id, COUNT(*) FROM sealed_values GROUP BY key_id")}


def is_distributed(stack):
    return stack.ctl_run("keys", "distribute-check").returncode == 0


def put(file, text, mode=0o600):
    new = file.with_name("put")
    new.write_text(text)
    new.chmod(mode)
    new.rename(file)


class Load(threading.Thread):
    """Saves, changes, reads and removes LLM configs and chats, until told to stop; what went wrong is kept."""

    KEPT = 40  # of those that it saved, the newest: an organization has so many at most

    def __init__(self, org, app):
        super().__init__(daemon=True)
        self.org, self.app, self.wrong, self.turns, self.saved = org, app, [], 0, []
        self.is_stopping = threading.Event()
        self.start()

    def run(self):
        try:
            while not self.is_stopping.is_set():
                self.turn()
        except BaseException as e:  # noqa: B902
            self.wrong.append(repr(e))

    def turn(self):
        llm = self.org.llm_config(api_key=KEY)
        item = path(self.org, llm["llm_config_id"])
        answers = [self.org.admin.patch(item, {"api_key": KEY + "2"}), self.org.admin.patch(item, {"defaults": {"a": 1}}),
                   self.org.admin.get(item), self.org.member.chat(self.app, "x")]
        self.saved.append(item)
        if len(self.saved) > self.KEPT:
            answers.append(self.org.admin.delete(self.saved.pop(0)))
        self.wrong += [r for r in answers if r.status not in (200, 204)]
        self.turns += 1

    def goes_on(self):
        turns = self.turns
        eventually(lambda: self.wrong or self.turns >= turns + 5, 60, "saving goes on")
        assert not self.wrong, self.wrong[:5]

    def end(self):
        self.is_stopping.set()
        self.join(120 * harness.SLOW)
        assert not self.is_alive()


def test_a_rotation_while_everything_works(stack):
    org = stack.new_org()
    app = org.new_app(tier="hot")
    org.admin.load(app)
    first, = keys(stack)
    assert keys(stack) == {first: "current"} and ids(ring(stack)) == [first]
    load = Load(org, app)
    load.goes_on()
    for i in range(120):
        org.llm_config(name=f"filler {i}")

    second = stack.ctl("keys", "new").strip()
    assert keys(stack) == {first: "current", second: "new"} and ids(ring(stack)) == [first, second]
    assert oct(ring(stack).stat().st_mode & 0o777) == "0o600"  # as it was
    # Of a file that has changed the programs hear by themselves.
    eventually(lambda: is_distributed(stack), 30, "all programs hold the new key")
    refused = stack.ctl_run("keys", "retire", first)
    assert refused.returncode == 1 and refused.stderr.startswith(f"hearthctl: retiring key {first}: it is the current one."), refused
    assert "'hearthctl keys new'" in refused.stderr and "'hearthctl keys reseal'" in refused.stderr

    assert "sealed anew" in stack.ctl("keys", "reseal")
    assert keys(stack) == {first: "old", second: "current"}
    load.goes_on()  # with the new key
    load.end()
    assert not load.wrong, load.wrong[:5]
    assert set(sealed_with(stack)) == {second} and sealed_with(stack)[second] == 120 + len(load.saved)

    assert "retired" in stack.ctl("keys", "retire", first)
    assert keys(stack) == {first: "retired", second: "current"} and ids(ring(stack)) == [second]
    eventually(lambda: stack.db.number(f"SELECT COUNT(*) FROM sealing_key_holders WHERE key_id = '{first}'") == 0, 30)
    assert is_distributed(stack)
    assert org.admin.post(path(org), body()).status == 201
    audit = [row[0] for row in stack.db.run("SELECT action FROM audit_log WHERE action LIKE 'key.%' ORDER BY audit_id")]
    assert audit == ["key.new", "key.new", "key.current", "key.retire"]


@contextlib.contextmanager
def switching(stack, key_id):
    """The transaction in which that key becomes the current one: within the block none is, and behind it that one."""
    client = subprocess.Popen(
        ["mariadb", "--no-defaults", f"--socket={stack.db.socket}", f"--user={user_name()}", "--batch", "--unbuffered",
         "--skip-column-names", "hearth"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PATH": PATH})
    try:
        client.stdin.write("START TRANSACTION; UPDATE sealing_keys SET state = 'old' WHERE state = 'current'; SELECT 'begun';\n")
        client.stdin.flush()
        assert client.stdout.readline().strip() == "begun"
        yield
        client.stdin.write(f"UPDATE sealing_keys SET state = 'current' WHERE key_id = '{key_id}'; COMMIT;\n")
    finally:
        client.communicate()


def test_who_saves_during_a_switch_seals_with_the_new_key(stack):
    """Whichever of the two ids comes first in an index."""
    org = stack.new_org()
    first, = keys(stack)
    second = stack.ctl("keys", "new").strip()
    eventually(lambda: is_distributed(stack), 30)
    for key_id in (second, first):
        with switching(stack, key_id):
            saving = Background(org.admin.post, path(org), body(name=f"with {key_id}"))
            eventually(lambda: stack.db.number("SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'") == 1,
                       what="who saves waits for the switch")
        r = saving.join()
        assert r.status == 201, r
        assert stack.db.value(f"SELECT key_id FROM sealed_values WHERE owner_id = '{r.json['llm_config_id']}'") == key_id


def test_a_key_that_still_seals_is_not_retired(stack):
    org = stack.new_org()
    org.llm_config()
    first, = keys(stack)
    second = stack.ctl("keys", "new").strip()
    eventually(lambda: is_distributed(stack), 30)
    stack.ctl("keys", "reseal")
    # As a program did that had read the old row just before the switch and was slow to commit.
    stack.db.run(f"UPDATE sealed_values SET key_id = '{first}'")
    refused = stack.ctl_run("keys", "retire", first)
    assert refused.returncode == 1 and "values are sealed with it" in refused.stderr, refused
    assert keys(stack) == {first: "old", second: "current"} and ids(ring(stack)) == [first, second]
    stack.db.run(f"UPDATE sealed_values SET key_id = '{second}'")
    stack.ctl("keys", "retire", first)
    assert stack.ctl_run("keys", "retire", first).returncode == 0  # on a further host
    assert stack.ctl_run("keys", "retire", "nothing").returncode == 1


def wait_three_say_what_they_hold(stack):
    """The application and two workers."""
    eventually(lambda: stack.db.number("SELECT COUNT(DISTINCT process_id) FROM sealing_key_holders") == 3, 30)


def test_a_worker_on_a_host_without_the_new_key_is_named(stack):
    org = stack.new_org()
    org.llm_config()
    first, = keys(stack)
    elsewhere = stack.folder / "keys-of-w2"
    put(elsewhere, ring(stack).read_text())
    w2 = harness.Worker(stack, "w2", keys={"file": elsewhere})
    stack.more_workers.append(w2)
    w2.start()
    wait_three_say_what_they_hold(stack)
    assert is_distributed(stack)

    second = stack.ctl("keys", "new").strip()
    said = eventually(lambda: (d := stack.ctl_run("keys", "distribute-check")).stdout.count("lacks") == 1 and d, 30)
    assert said.returncode == 1 and "hearth-worker on" in said.stdout and f"lacks key {second}" in said.stdout
    as_json = json.loads(stack.ctl("keys", "distribute-check", "--json", check=False))
    assert as_json["is_complete"] is False
    assert [(i["program"], i["key_id"], i["held"]) for i in as_json["items"] if i["held"] != "yes"] == [("hearth-worker", second, "no")]
    refused = stack.ctl_run("keys", "reseal")
    assert refused.returncode == 1 and "distribute-check" in refused.stderr and keys(stack)[first] == "current"

    # Another key under its id is no better.
    other = "B" if ring(stack).read_text().strip()[-5] == "A" else "A"
    lines = ring(stack).read_text().splitlines()
    put(elsewhere, "\n".join([*lines[:-1], f"{second} {other}{lines[-1].split()[1][1:]}"]) + "\n")
    eventually(lambda: "another key under the id" in stack.ctl_run("keys", "distribute-check").stdout, 30)
    assert stack.ctl_run("keys", "reseal").returncode == 1

    # Copied as it is, a signal is enough; and what does not run any more lacks nothing.
    put(elsewhere, ring(stack).read_text())
    w2.process.send_signal(harness.signal.SIGHUP)
    eventually(lambda: is_distributed(stack), 30)
    assert stack.ctl_run("keys", "reseal").returncode == 0
    third = stack.ctl("keys", "new").strip()
    eventually(lambda: not is_distributed(stack), 30)
    assert w2.stop() == 0
    eventually(lambda: is_distributed(stack), 30, "a worker that has stopped is not waited for")
    assert keys(stack) == {first: "old", second: "current", third: "new"}


def test_a_switch_can_be_forced(stack):
    first, = keys(stack)
    elsewhere = stack.folder / "keys-of-w2"
    put(elsewhere, ring(stack).read_text())
    w2 = harness.Worker(stack, "w2", keys={"file": elsewhere})
    stack.more_workers.append(w2)
    w2.start()
    wait_three_say_what_they_hold(stack)
    second = stack.ctl("keys", "new").strip()
    eventually(lambda: stack.ctl_run("keys", "distribute-check").stdout.count("\n") == 1, 30)
    assert stack.ctl_run("keys", "reseal").returncode == 1
    assert stack.ctl_run("keys", "reseal", "--force").returncode == 0
    assert keys(stack) == {first: "old", second: "current"}


def test_a_wrong_ring_seals_nothing(stack):
    """The ring of another installation: the same id, another key."""
    org = stack.new_org()
    org.llm_config()
    right = ring(stack).read_text()
    key_id = ids(ring(stack))[0]
    stack.allow("an LLM config was not saved")
    put(ring(stack), f"{key_id} {'A' * 42}A=\n")
    names = iter(range(10000))
    eventually(lambda: org.admin.post(path(org), body(name=f"{next(names)}")).code == "no_sealing_key", 30)
    assert stack.ctl_run("keys", "distribute-check").returncode == 1
    refused = stack.ctl_run("keys", "new")
    assert refused.returncode == 1 and "copy the key ring of another host" in refused.stderr
    failed = stack.ctl_run("keys", "reseal")
    assert failed.returncode == 1 and "lacks key" in failed.stderr
    put(ring(stack), right)
    eventually(lambda: org.admin.post(path(org), body(name="again")).status == 201, 30)


def test_a_damaged_value_is_named_and_the_others_are_sealed_anew(stack):
    org = stack.new_org()
    made = [org.llm_config(name=f"llm {i}")["llm_config_id"] for i in range(3)]
    stack.db.run(f"UPDATE sealed_values a JOIN sealed_values b ON b.owner_id = '{made[0]}' SET a.sealed = b.sealed WHERE a.owner_id = '{made[1]}'")
    first, = keys(stack)
    second = stack.ctl("keys", "new").strip()
    eventually(lambda: is_distributed(stack), 30)
    done = stack.ctl_run("keys", "reseal")
    assert done.returncode == 1 and "1 values stay as they were" in done.stderr, done
    assert sealed_with(stack) == {first: 1, second: 2}
    assert stack.ctl_run("keys", "retire", first).returncode == 1


def test_a_ring_that_others_may_read_is_refused(stack):
    org = stack.new_org()
    text = ring(stack).read_text()
    stack.allow("the key ring cannot be read")
    put(ring(stack), text.replace("#", "##", 1), 0o644)
    eventually(lambda: "gives it to others" in stack.app.text() and "gives it to others" in stack.worker.text(), 30)
    done = stack.ctl_run("keys", "list")
    assert done.returncode == 1 and "mode 644 gives it to others" in done.stderr
    assert org.admin.post(path(org), body()).status == 201  # the keys stay as they were
    before = {program: len(program.text()) for program in (stack.app, stack.worker)}
    ring(stack).chmod(0o640)
    for program, at in before.items():  # the same keys as before, but the error is not the log's last word
        eventually(lambda: "key ring read" in program.text()[at:], 30)
    assert stack.ctl_run("keys", "list").returncode == 0
    # A program that starts with such a file has no keys.
    ring(stack).chmod(0o644)
    stack.app.stop()
    stack.app.start()
    stack.allow("an LLM config was not saved")
    assert org.admin.post(path(org), body(name="two")).code == "no_sealing_key"
    ring(stack).chmod(0o600)
    eventually(lambda: org.admin.post(path(org), body(name="three")).status == 201, 30)


def test_a_ring_that_is_missing_is_said_so(stack):
    stack.allow("the key ring cannot be read")
    words = f"hearthctl: the key ring {ring(stack)} does not exist: copy that of another host here\n"
    assert words not in stack.ctl_run("keys", "list").stderr
    away = ring(stack).rename(stack.folder / "keys-away")
    listed, checked = stack.ctl_run("keys", "list"), stack.ctl_run("keys", "distribute-check", "--json")
    assert (listed.returncode, listed.stderr) == (0, words) and " no " in listed.stdout
    assert (checked.returncode, checked.stderr) == (1, words) and not json.loads(checked.stdout)["is_complete"]
    assert words in stack.ctl_run("keys", "reseal").stderr
    away.rename(ring(stack))


def test_the_first_ring_of_an_installation(stack):
    stack.db.run("DELETE FROM sealing_keys")
    ring(stack).unlink()
    stack.allow("the key ring cannot be read", "an LLM config was not saved")
    org = stack.new_org()
    stack.app.stop()
    stack.app.start()
    assert org.admin.post(path(org), body()).code == "no_sealing_key"
    assert stack.ctl_run("keys", "reseal").returncode == 1
    for verb in ("list", "distribute-check", "reseal"):
        assert f"the key ring {ring(stack)} does not exist: 'hearthctl keys new' makes it\n" in stack.ctl_run("keys", verb).stderr
    made = stack.ctl_run("keys", "new", "--json")
    key = json.loads(made.stdout)
    assert made.returncode == 0 and key["state"] == "current" and ids(ring(stack)) == [key["key_id"]]
    assert oct(ring(stack).stat().st_mode & 0o777) == "0o640"
    eventually(lambda: org.admin.post(path(org), body()).status == 201, 30)
    secret = ring(stack).read_text().split()[-1]
    assert secret not in made.stdout + made.stderr
    assert "file is not set" in run_without_ring(stack).stderr


def run_without_ring(stack):
    stack.write_conf(keys={"file": None})
    try:
        done = stack.ctl_run("keys", "new")
    finally:
        stack.write_conf()
    assert done.returncode == 1, done
    return done


def test_commands_at_the_keys_do_not_meet(stack):
    made = [Background(stack.ctl_run, "keys", "new") for _ in range(4)]
    done = [b.join(120) for b in made]
    assert {d.returncode for d in done} == {0}, done
    assert len(ids(ring(stack))) == 5 == len(set(ids(ring(stack)))) and len(keys(stack)) == 5
