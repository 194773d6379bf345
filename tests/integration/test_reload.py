# SPDX-License-Identifier: Apache-2.0
"""Reload under chat load: no failed turn, and the answers switch from the old to the new configuration."""
import itertools
import threading

from harness import Background, eventually, text_of


class Chats:
    """Clients that chat without a pause; each answer is kept with the numbers of the versions that may have given it."""

    def __init__(self, org, app, clients=6):
        self.org, self.app, self.over = org, app, False
        self.oldest = 0  # the version that is certainly in place
        self.newest = 0  # the version that may be in place
        self.failed, self.count, self.lock = [], 0, threading.Lock()
        self.threads = [Background(self.run, i) for i in range(clients)]

    def run(self, i):
        for n in itertools.count():
            if self.over:
                return
            low = self.oldest
            r = self.org.member.chat(self.app, f"{i}.{n}")
            high = self.newest
            with self.lock:
                self.count += 1
                wanted = [f"v{v} {i}.{n}" for v in range(low, high + 1)]
                if r.status != 200 or r.json["response"] not in wanted:
                    self.failed.append((r, wanted))

    def end(self):
        self.over = True
        for t in self.threads:
            t.join()
        assert not self.failed, f"{len(self.failed)} of {self.count}: {self.failed[:3]}"
        return self.count


def test_no_turn_fails_and_each_answer_is_of_a_version_that_was_in_place(stack, org):
    app = org.new_app(tier="hot", config={"prefix": "v0 "})
    org.admin.load(app)
    chats = Chats(org, app)
    for version in range(1, 21):
        chats.newest = version
        op = org.admin.configure(app, prefix=f"v{version} ", build_delay_ms=20)
        assert op["state"] == "succeeded", op
        chats.oldest = version
    assert chats.end() > 50


def test_explicit_reloads_lose_no_turn_either(stack, org):
    app = org.new_app(tier="hot", config={"prefix": "v0 "})
    org.admin.load(app)
    chats = Chats(org, app)
    for i in range(20):
        org.admin.reload(app, {"fresh": i % 2 == 0})
    chats.end()
    assert int(stack.placements(app)[0][2]) == org.admin.app(app)["generation"]


def test_a_stream_that_began_before_ends_on_the_old_copy(stack, org):
    app = org.new_app(tier="hot", config={"prefix": "old ", "word_delay_ms": 100})
    org.admin.load(app)
    words = " ".join(f"w{i}" for i in range(20))
    stream = org.member.chat_stream(app, words)
    stream.first()
    assert org.admin.configure(app, prefix="new ")["state"] == "succeeded"
    assert org.member.chat_ok(app, "x") == "new x"
    assert text_of(stream.rest()) == "old " + words


def test_where_the_new_version_cannot_be_built_the_old_one_serves_on(stack, org):
    stack.allow("App failed .*broken by the story")
    app = org.new_app(tier="hot", config={"prefix": "v0 "})
    org.admin.load(app)
    chats = Chats(org, app, clients=2)
    op = org.admin.configure(app, prefix="v1 ", build_fail="broken by the story")
    assert op["state"] == "failed" and "broken by the story" in op["reason"], op
    assert org.member.chat_ok(app, "x") == "v0 x"
    chats.newest = 2
    assert org.admin.configure(app, prefix="v2 ")["state"] == "succeeded"
    chats.oldest = 2
    chats.end()
    assert org.member.chat_ok(app, "x") == "v2 x"


def test_after_a_restart_a_version_that_cannot_be_built_falls_back_to_the_last_good_one(stack, org):
    stack.allow(r"(?i)App failed|lease|incarnation|recover|reap")
    app = org.new_app(tier="hot", config={"prefix": "good "})
    org.admin.load(app)
    assert org.admin.configure(app, prefix="bad ", build_fail="broken by the story")["state"] == "failed"
    stack.worker.kill()
    stack.worker.start()
    eventually(lambda: org.admin.app(app)["state"] == "ready", 30)
    assert org.admin.app(app)["state_reason"] == "running_previous_version"
    assert org.member.chat_ok(app, "x") == "good x"
    org.admin.unload(app)  # else it is tried again, and fails again, during another story


def test_a_burst_of_reloads_ends_at_the_last(stack, org):
    app = org.new_app(tier="hot", config={"build_delay_ms": 50})
    org.admin.load(app)
    ops = [org.admin.lifecycle("reload", app).json["operation_id"] for _ in range(20)]
    assert all(org.admin.ended(op)["state"] in ("succeeded", "superseded") for op in ops)
    assert org.admin.operation(ops[-1])["state"] == "succeeded"
    assert int(stack.placements(app)[0][2]) == org.admin.app(app)["generation"]
