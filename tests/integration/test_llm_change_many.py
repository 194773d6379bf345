# SPDX-License-Identifier: Apache-2.0
"""A change of an LLM config touches the Apps that use it and no other, among a thousand that are loaded and chat."""
import itertools
import sys
import threading

from harness import SOURCE, Background, eventually

sys.path.insert(0, str(SOURCE / "tests/fake"))
import provider as fake  # noqa: E402

OPTIONS = {"llm": {"allowed_networks": "127.0.0.0/8", "breaker_failures": 0}}
OTHERS, USERS = 990, 10
OLD, NEW = "sk-old-old-old-old-old", "sk-new-new-new-new-new"


class Chats:
    """Clients that go round the Apps without a pause."""

    def __init__(self, org, apps, clients=4):
        self.org, self.apps, self.over = org, apps, False
        self.failed, self.counts, self.lock = [], dict.fromkeys(apps, 0), threading.Lock()
        self.threads = [Background(self.run, i) for i in range(clients)]

    def run(self, first):
        for i in itertools.count(first):
            if self.over:
                return
            app = self.apps[i % len(self.apps)]
            r = self.org.member.chat(app, "x")
            with self.lock:
                self.counts[app] += 1
                if r.status != 200:
                    self.failed.append((app, r))

    def round(self):
        """Until each App has been asked once more."""
        before = dict(self.counts)
        eventually(lambda: all(self.counts[a] > before[a] for a in self.apps), 60, "each App has been asked")

    def end(self):
        self.over = True
        for t in self.threads:
            t.join()
        assert not self.failed, f"{len(self.failed)} of {sum(self.counts.values())}: {self.failed[:3]}"
        return sum(self.counts.values())


def listed(apps):
    return ", ".join(f"'{a}'" for a in apps)


def facts(stack, apps):
    """Whatever a reload, or a look at it that changes something, would change."""
    return stack.db.run(
        "SELECT i.instance_id, i.generation, i.version, i.updated_at, p.worker_id, p.incarnation, p.generation, p.state, p.placed_at, p.changed_at "
        f"FROM orchestrator_instances i JOIN placements p USING (instance_id) WHERE i.instance_id IN ({listed(apps)}) ORDER BY 1")


def builds(stack, apps):
    """Each App's builds so far, that have been counted."""
    stack.next_flush()
    return dict(stack.db.run(f"SELECT instance_id, loads + reloads FROM instance_stats WHERE instance_id IN ({listed(apps)})"))


def test_those_that_use_it_are_rebuilt_and_no_other(stack):
    org = stack.new_org(quotas={"hot": 2000, "instances": 2000})
    with fake.Provider() as provider:
        for model in ("m", "n"):
            provider.script(model, fake.echo_last)
        llm, other_llm = (org.new_llm_config("openai", provider.url, api_key=OLD) for _ in range(2))
        others = org.hot_apps(OTHERS - 2)
        # Two use an LLM config as well: another one.
        others += org.hot_apps(2, framework_type="agent", config={"llm_config_id": other_llm, "model": "n"})
        users = org.hot_apps(USERS, framework_type="agent", config={"llm_config_id": llm, "model": "m"})
        before, built = facts(stack, others), builds(stack, others + users)
        assert len(before) == OTHERS and set(built.values()) == {"1"}
        operations = stack.db.number("SELECT COUNT(*) FROM operations")
        chats = Chats(org, users + others[::50] + others[-2:])
        chats.round()

        # As long as no build can end, the old copies serve.
        may_end, probes = threading.Event(), len(provider.asked(""))

        def slow(h):
            may_end.wait(60)
            h.whole(200, {"object": "list", "data": []})

        provider.listing = slow
        r = org.admin.patch(f"/api/orgs/{org.id}/llm-configs/{llm}", {"api_key": NEW})
        assert r.status == 200 and r.json["used_by"] == USERS, r
        eventually(lambda: len(provider.asked("")) > probes, 20, "a build has begun")
        chats.round()
        may_end.set()
        for app in users:
            newest = org.admin.ended(org.admin.operations(app)[0]["operation_id"], 40)
            assert (newest["source"], newest["action"], newest["state"]) == ("config_change", "reload", "succeeded"), newest
        chats.round()
        keys = [r["headers"]["Authorization"] for r in provider.requests]
        count = len(keys)
        chats.round()
        assert chats.end() > 3 * (USERS + 20)

        assert stack.db.number("SELECT COUNT(*) FROM operations") == operations + USERS
        assert facts(stack, others) == before
        now = builds(stack, others + users)
        assert {a: now[a] for a in others} == {a: built[a] for a in others}
        assert [now[a] for a in users] == ["2"] * USERS
        later = provider.requests[count:]
        assert {r["headers"]["Authorization"] for r in later if r["model"] == "m"} == {f"Bearer {NEW}"}
        assert {r["headers"]["Authorization"] for r in later if r["model"] == "n"} == {f"Bearer {OLD}"}
        org.suspend()
