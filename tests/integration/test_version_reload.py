# SPDX-License-Identifier: Apache-2.0
"""A version that cannot be built never takes the place of one that serves: not at a reload, not after a restart.

The provider of these stories takes some keys and refuses the others, so that what cannot be built can become buildable,
and its answers say which key they were asked with.
"""
import sys
import threading

import pytest

from harness import SOURCE, Background, eventually

sys.path.insert(0, str(SOURCE / "tests/fake"))
import provider as fake  # noqa: E402

OPTIONS = {"llm": {"allowed_networks": "127.0.0.0/8", "breaker_failures": 0, "retry_max_s": 1}}
ALLOWED = ["App failed .* reason=probe_failed", "model call failed"]
OLD, NEW = "sk-old-old-old-old-old", "sk-new-new-new-new-new"
REFUSED = "probe_failed: The model provider answered 401."


class Keys:
    """Whom the provider answers: "<model> by <key>"; the key NEW is refused until it is let in, and waits while held."""

    def __init__(self, provider):
        self.good, self.provider = {OLD}, provider
        self.tried, self.may_go = 0, threading.Event()
        self.may_go.set()
        provider.listing = self.list_models
        for model in ("m", "n"):
            provider.script(model, self.answer)

    def is_good(self, h):
        key = h.headers["Authorization"].removeprefix("Bearer ")
        if key != OLD:
            self.tried += 1
            self.may_go.wait(60)
        return key in self.good

    def probed_with_old(self):
        """How often a build has asked for the list of models with the key that is good."""
        with self.provider.lock:
            return sum(r["model"] == "" and r["headers"]["Authorization"].endswith(OLD) for r in self.provider.requests)

    def hold(self):
        self.tried = 0
        self.may_go.clear()

    def wait_tried(self):
        eventually(lambda: self.tried > 0, 20, "a build tries the new key")

    def list_models(self, h):
        h.whole(200, {"data": []}) if self.is_good(h) else fake.status(401)(h)

    def answer(self, h, body):
        key = h.headers["Authorization"].split("-")[1]
        fake.text(body["model"], " by ", key)(h) if self.is_good(h) else fake.status(401)(h)


class Chats:
    """Clients that chat without a pause; every answer must be one of those that may be given at the time."""

    all = []

    def __init__(self, org, app, may, clients=3):
        self.all.append(self)
        self.org, self.app, self.may, self.over = org, app, {may}, False
        self.failed, self.seen, self.lock = [], [], threading.Lock()
        self.threads = [Background(self.run) for _ in range(clients)]

    def run(self):
        while not self.over:
            before = set(self.may)
            r = self.org.member.chat(self.app)
            with self.lock:
                if r.status == 200:
                    self.seen.append(r.json["response"])
                if r.status != 200 or r.json["response"] not in before | set(self.may):
                    self.failed.append(r)

    def answered(self, text, count=5):
        """Until so many more turns have given it."""
        start = len(self.seen)
        eventually(lambda: self.seen[start:].count(text) >= count, 40, f"{text} is answered")
        self.check()

    def check(self):
        assert not self.failed and self.seen, f"{len(self.failed)} failed: {self.failed[:3]}"

    def end(self):
        self.over = True
        for t in self.threads:
            t.join()
        self.check()


@pytest.fixture
def keys():
    with fake.Provider() as p:
        yield Keys(p)
        while Chats.all:  # a story that fails leaves them at it
            Chats.all.pop().over = True


@pytest.fixture
def org(passing_org):
    return passing_org


@pytest.fixture(params=["connect", "call"])
def probe(request):
    return request.param


def new_llm(org, keys, key=OLD):
    return org.new_llm_config("openai", keys.provider.url, api_key=key)


def new_agent(org, llm, probe, model="m", **more):
    app = org.new_app(tier="hot", framework_type="agent", config={"llm_config_id": llm, "model": model, "probe": probe}, **more)
    org.admin.load(app)
    return app


def set_key(org, llm, key):
    r = org.admin.patch(f"/api/orgs/{org.id}/llm-configs/{llm}", {"api_key": key})
    assert r.status == 200, r


def last_operation(org, app):
    return org.admin.ended(org.admin.operations(app)[0]["operation_id"])


def version(org, app, n):
    return org.admin.get(org.admin.app_path(app, f"/versions/{n}")).json


def roll_back(org, app, n):
    r = org.admin.post(org.admin.app_path(app, "/rollback"), {"version": n})
    assert r.status == 200, r
    return org.admin.ended(r.json["operation_id"])


def looks(org, app, state, reason):
    a = org.admin.app(app)
    assert (a["state"], a["state_reason"]) == (state, reason), a
    return True


def restart(stack):
    stack.allow(r"(?i)lease|incarnation|recover|reap")
    stack.worker.kill()
    stack.worker.start()


def generations(stack, llm):
    return [int(row[0]) for row in stack.db.run(f"SELECT generation FROM llm_config_generations WHERE llm_config_id = '{llm}' ORDER BY 1")]


# --- while it serves ---


def test_a_config_whose_probe_fails_leaves_the_old_copy_serving(stack, org, keys, probe):
    app = new_agent(org, new_llm(org, keys), probe)
    bad = new_llm(org, keys, NEW)
    chats = Chats(org, app, "m by old")
    # As long as the build goes on, and after it.
    keys.hold()
    changing = Background(org.admin.configure, app, llm_config_id=bad, model="n", probe=probe)
    keys.wait_tried()
    chats.answered("m by old")
    keys.may_go.set()
    op = changing.join()
    assert (op["state"], op["reason"], op["source"]) == ("failed", REFUSED, "config_change"), op
    looks(org, app, "ready", REFUSED)
    assert org.admin.app(app)["version"] == 2 and org.admin.app(app)["config"]["model"] == "n"
    assert version(org, app, 1)["is_good"] and not version(org, app, 2)["is_good"] and version(org, app, 2)["is_current"]
    chats.answered("m by old")
    # The next attempts fail as well, and nobody notices.
    failures = stack.db.number(f"SELECT failures FROM orchestrator_instances WHERE instance_id = '{app}'")
    eventually(lambda: stack.db.number(f"SELECT failures FROM orchestrator_instances WHERE instance_id = '{app}'") > failures, 30)
    looks(org, app, "ready", REFUSED)
    # Back to what serves: no copy is built for it.
    probes = keys.probed_with_old()
    assert roll_back(org, app, 1)["state"] == "succeeded"
    looks(org, app, "ready", None)
    assert keys.probed_with_old() == probes
    chats.answered("m by old")
    chats.end()


def test_what_has_become_buildable_is_taken_without_anybody_asking(org, keys, probe):
    app = new_agent(org, new_llm(org, keys), probe)
    bad = new_llm(org, keys, NEW)
    chats = Chats(org, app, "m by old")
    assert org.admin.configure(app, llm_config_id=bad, model="n", probe=probe)["state"] == "failed"
    chats.may = {"m by old", "n by new"}
    keys.good.add(NEW)
    chats.answered("n by new")
    eventually(lambda: looks(org, app, "ready", None))
    assert version(org, app, 2)["is_good"]
    chats.may = {"n by new"}
    chats.answered("n by new")
    chats.end()


def test_a_key_that_the_provider_refuses_leaves_the_old_one_serving(stack, org, keys, probe):
    llm = new_llm(org, keys)
    app = new_agent(org, llm, probe)
    before = org.admin.app(app)
    chats = Chats(org, app, "m by old")
    keys.hold()
    set_key(org, llm, NEW)
    keys.wait_tried()
    chats.answered("m by old")
    keys.may_go.set()
    op = last_operation(org, app)
    assert (op["state"], op["reason"], op["source"]) == ("failed", REFUSED, "config_change"), op
    looks(org, app, "ready", REFUSED)
    assert org.admin.app(app)["version"] == before["version"] == 1 and org.admin.app(app)["config_hash"] == before["config_hash"]
    chats.answered("m by old")
    assert generations(stack, llm) == [1, 2]
    chats.may = {"m by old", "m by new"}
    keys.good.add(NEW)
    chats.answered("m by new")
    eventually(lambda: looks(org, app, "ready", None))
    chats.end()


def test_any_version_is_gone_back_to_under_load(org, keys):
    llm = new_llm(org, keys)
    app = new_agent(org, llm, "call")
    assert org.admin.configure(app, llm_config_id=llm, model="n", probe="call")["state"] == "succeeded"
    assert org.admin.configure(app, llm_config_id=new_llm(org, keys, NEW), model="m", probe="call")["state"] == "failed"
    chats = Chats(org, app, "n by old")
    for n, says in ((1, "m by old"), (2, "n by old"), (4, "m by old")):
        chats.may = chats.may | {says}
        assert roll_back(org, app, n)["state"] == "succeeded"
        chats.answered(says)
        chats.may = {says}
    assert roll_back(org, app, 3)["state"] == "failed"
    looks(org, app, "ready", REFUSED)
    chats.answered("m by old")
    chats.end()


# --- after a restart ---


def test_after_a_restart_the_last_good_version_serves_until_the_new_one_can_be_built(stack, org, keys, probe):
    app = new_agent(org, new_llm(org, keys), probe)
    assert org.admin.configure(app, llm_config_id=new_llm(org, keys, NEW), model="n", probe=probe)["state"] == "failed"
    restart(stack)
    eventually(lambda: looks(org, app, "ready", "running_previous_version"), 40)
    assert org.member.chat_ok(app) == "m by old"
    assert org.admin.app(app)["llm_config_generation"] is None  # of the old LLM config it would be 1
    chats = Chats(org, app, "m by old")
    chats.may = {"m by old", "n by new"}
    keys.good.add(NEW)
    chats.answered("n by new")
    eventually(lambda: looks(org, app, "ready", None))
    chats.end()


def test_after_a_restart_the_old_key_serves_until_the_new_one_is_taken(stack, org, keys, probe):
    llm = new_llm(org, keys)
    app = new_agent(org, llm, probe)
    set_key(org, llm, NEW)
    assert last_operation(org, app)["state"] == "failed"
    restart(stack)
    eventually(lambda: looks(org, app, "ready", "running_previous_version"), 40)
    assert org.member.chat_ok(app) == "m by old"
    assert org.admin.app(app)["llm_config_generation"] == 1
    # A change beside it does not take the good generation away, nor a second restart.
    set_key(org, llm, NEW + "x")
    assert last_operation(org, app)["state"] == "failed"
    assert generations(stack, llm) == [1, 3]
    restart(stack)
    eventually(lambda: looks(org, app, "ready", "running_previous_version"), 40)
    chats = Chats(org, app, "m by old")
    chats.may = {"m by old", "m by new"}
    keys.good.add(NEW + "x")
    chats.answered("m by new")
    eventually(lambda: looks(org, app, "ready", None))
    assert org.admin.app(app)["llm_config_generation"] == 3
    chats.end()
    org.admin.patch(f"/api/orgs/{org.id}/llm-configs/{llm}", {"api_key": OLD})
    assert last_operation(org, app)["state"] == "succeeded" and 1 not in generations(stack, llm)


def test_an_app_that_was_never_ready_has_nothing_to_fall_back_to(stack, org, keys):
    app = org.new_app(tier="hot", framework_type="agent", config={"llm_config_id": new_llm(org, keys, NEW), "model": "m", "probe": "connect"})
    op = org.admin.ended(org.admin.lifecycle("load", app).json["operation_id"])
    assert (op["state"], op["reason"]) == ("failed", REFUSED), op
    # It is tried again meanwhile, and nobody may look just then.
    eventually(lambda: looks(org, app, "failed", REFUSED))
    assert org.admin.app(app)["llm_config_generation"] is None
    eventually(lambda: org.member.chat(app).code == "instance_failed")
    keys.good.add(NEW)
    eventually(lambda: looks(org, app, "ready", None), 40)
    assert org.admin.app(app)["llm_config_generation"] == 1
    assert org.member.chat_ok(app) == "m by new"
