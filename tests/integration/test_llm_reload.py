# SPDX-License-Identifier: Apache-2.0
"""LLM configs under agents that run: whom a change reloads, keys that are rotated meanwhile, and a key ring that is wrong."""
import json
import sys
import threading

import pytest

from harness import SOURCE, eventually

sys.path.insert(0, str(SOURCE / "tests/fake"))
import provider as fake  # noqa: E402

OPTIONS = {"llm": {"allowed_networks": "127.0.0.0/8"}}
MANY, FEW = 90, 10


@pytest.fixture(scope="module")
def provider():
    with fake.Provider() as p:
        p.script("m", fake.text("fine"))
        yield p


def last_headers(provider, model):
    """Those of the turn that was asked last; a probe asks no model."""
    with provider.lock:
        return [r["headers"] for r in provider.requests if r["model"] == model][-1]


def agents(org, llm, count):
    return org.hot_apps(count, framework_type="agent", config={"llm_config_id": llm, "model": "m"})


def key_of(provider, org, app):
    """With which a turn of it reaches its provider."""
    assert org.member.chat_ok(app) == "fine"
    return last_headers(provider, "m")["Authorization"]


def placed(stack, apps):
    return {row[0]: row[1:] for row in stack.db.run(
        "SELECT instance_id, generation, state, placed_at, changed_at FROM placements") if row[0] in apps}


def test_a_change_reloads_exactly_the_agents_that_use_it(stack, org, provider):
    used, other = (org.new_llm_config("openai", provider.url, api_key=key) for key in ("sk-old-used-0123456", "sk-old-other-012345"))
    few, many = agents(org, used, FEW), agents(org, other, MANY)
    before = placed(stack, many)
    assert len(before) == MANY
    r = org.admin.patch(f"/api/orgs/{org.id}/llm-configs/{used}", {"api_key": "sk-new-used-0123456"})
    assert r.status == 200 and r.json["used_by"] == FEW, r
    changes = stack.db.run(f"SELECT operation_id, instance_id FROM operations WHERE org_id = '{org.id}' AND source = 'config_change'")
    assert sorted(app for _, app in changes) == sorted(few)
    assert {org.admin.ended(op, 60)["state"] for op, _ in changes} == {"succeeded"}
    assert placed(stack, many) == before
    for app in few[:3]:
        assert key_of(provider, org, app) == "Bearer sk-new-used-0123456"
    assert key_of(provider, org, many[0]) == "Bearer sk-old-other-012345"
    org.suspend()


def rotate(stack, counts):
    """Three times; before and after each switch some turns and builds come to their end."""
    first = json.loads(stack.ctl("keys", "list", "--json"))["items"][-1]["key_id"]
    for _ in range(3):
        done = dict(counts)
        eventually(lambda done=done: all(counts[k] >= done[k] + 3 for k in counts), 60, "turns and builds go on")
        new = stack.ctl("keys", "new").strip()
        eventually(lambda: stack.ctl_run("keys", "distribute-check").returncode == 0, 30)
        stack.ctl("keys", "reseal")
        assert stack.db.value("SELECT GROUP_CONCAT(DISTINCT key_id) FROM sealed_values") == new
        done = dict(counts)
        eventually(lambda done=done: all(counts[k] >= done[k] + 3 for k in counts), 60, "turns and builds go on")
        stack.ctl("keys", "retire", first)
        first = new


def test_turns_and_builds_go_on_while_keys_are_rotated(stack, org, provider):
    llms = [org.new_llm_config("openai", provider.url) for _ in range(2)]
    chatted, built = (agents(org, llm, 1)[0] for llm in llms)
    wrong, counts, is_over = [], {"turns": 0, "builds": 0}, threading.Event()

    def chat():
        while not is_over.is_set():
            r = org.member.chat(chatted)
            wrong.extend([r] if r.status != 200 else [])
            counts["turns"] += 1

    def build():
        while not is_over.is_set():
            r = org.admin.lifecycle("reload", built, wait=30)
            wrong.extend([r] if r.status != 200 or r.json["state"] != "succeeded" else [])
            counts["builds"] += 1

    threads = [threading.Thread(target=call, daemon=True) for call in (chat, build)]
    for t in threads:
        t.start()
    try:
        rotate(stack, counts)
    finally:
        is_over.set()
    for t in threads:
        t.join(60)
    assert not wrong, wrong[:3]
    org.suspend()


def test_headers_arrive_as_they_were_saved(org, provider):
    headers = {"X-Quotes": '"\\' * 2000, "X-More": '"' * 3000, "X-Plain": "a, b; c"}
    app = agents(org, org.new_llm_config("openai", provider.url, extra_headers=headers), 1)[0]
    assert org.member.chat_ok(app) == "fine"
    arrived = last_headers(provider, "m")
    assert {name: arrived[name] for name in headers} == headers
    org.suspend()


def test_a_worker_with_a_wrong_ring_builds_nothing_that_needs_a_key(stack, org, provider):
    stack.allow("cannot be opened", "App failed")
    ring = stack.folder / "secret" / "keys"
    right = ring.read_text()
    llm = org.new_llm_config("openai", provider.url)
    app = org.new_app(tier="hot", framework_type="agent", config={"llm_config_id": llm, "model": "m"})
    unreadable = ("llm_key_unreadable: The key of the LLM config cannot be opened here. Save it again, or let an administrator "
                  "look at the worker's key ring.")
    key_id = [line for line in right.splitlines() if line[0] != "#"][-1].split()[0]

    def put(text):
        new = ring.with_name("keys.new")
        new.write_text(text)
        new.chmod(0o600)
        new.rename(ring)

    def load():
        return org.admin.ended(org.admin.lifecycle("load", app).json["operation_id"])

    def wait_read(words, count):
        """By both programs, and hearthctl."""
        eventually(lambda: stack.ctl_run("keys", "distribute-check").stdout.count(words) == count, 30)

    try:
        put(f"{key_id} {'A' * 43}=\n")  # the same id, another key
        wait_read("holds another key", 3)
        assert load()["reason"] == unreadable
        eventually(lambda: org.admin.app(app)["state"] == "failed")  # and not just tried again
        put("# no key at all\n")
        wait_read("lacks key", 3)
        assert load()["reason"] == unreadable
    finally:
        put(right)
    wait_read("hold all keys", 1)
    assert load()["state"] == "succeeded"
    assert org.member.chat_ok(app) == "fine"
    org.suspend()
