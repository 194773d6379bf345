# SPDX-License-Identifier: Apache-2.0
"""Conversations: what a turn remembers, who sees it, and that two turns never mix."""
import sys
import threading

import pytest

from harness import SOURCE, Background, eventually, text_of

sys.path.insert(0, str(SOURCE / "tests/fake"))
import provider as fake  # noqa: E402

OPTIONS = {"llm": {"allowed_networks": "127.0.0.0/8", "attempts_max": 1}}
ALLOWED = ["model call failed", "conversation not (begun|saved)", "database", "lost", "statistics not", "recovery pass failed", "lease", "reconcile"]


@pytest.fixture(scope="module")
def provider():
    with fake.Provider() as p:
        yield p


@pytest.fixture
def llm(org, provider):
    return org.new_llm_config("openai", provider.url)


def new_agent(org, llm, model, **config):
    app = org.new_app(tier="hot", framework_type="agent", config={"llm_config_id": llm, "model": model, **config})
    org.admin.load(app)
    return app


def said(provider, model):
    """What the model was given last, without what the App itself says."""
    return [(m["role"], m["content"]) for m in provider.asked(model)[-1]["messages"] if m["role"] != "system"]


def path(org, conversation="", query=""):
    return f"/api/orgs/{org.id}/conversations" + (f"/{conversation}" if conversation else "") + query


def messages(api, org, conversation):
    r = api.get(path(org, conversation))
    assert r.status == 200, r
    return [(m["role"], m["content"]) for m in r.json["messages"]]


def test_a_turn_goes_on_from_what_was_said(org, provider, llm):
    provider.script("m", fake.text("one"), fake.text("two"), fake.text("three"))
    app = new_agent(org, llm, "m", system_prompt="S")
    first = org.member.chat(app, "a").json
    assert said(provider, "m") == [("user", "a")]
    r = org.member.chat(app, "b", conversation_id=first["session_id"])
    assert r.json["session_id"] == first["session_id"] and r.json["response"] == "two"
    assert said(provider, "m") == [("user", "a"), ("assistant", "one"), ("user", "b")]
    events = org.member.chat_stream(app, "c", conversation_id=first["session_id"]).rest()
    assert text_of(events) == "three" and events[0].data["session_id"] == first["session_id"]
    assert messages(org.member, org, first["session_id"]) == [
        ("user", "a"), ("assistant", "one"), ("user", "b"), ("assistant", "two"), ("user", "c"), ("assistant", "three")]


def test_its_owner_lists_reads_and_deletes_it(stack, org, provider, llm):
    provider.script("o", fake.text("yes", tokens=(3, 1)))
    app = new_agent(org, llm, "o")
    ids = [org.member.chat(app, f"q{i}").json["session_id"] for i in range(3)]
    page = org.member.get(path(org, query="?limit=2")).json
    assert [c["conversation_id"] for c in page["items"]] == ids[:2] and page["next"] == ids[1]
    rest = org.member.get(path(org, query=f"?after={ids[1]}")).json
    assert [c["conversation_id"] for c in rest["items"]] == ids[2:] and rest["next"] is None
    whole = org.member.get(path(org, ids[0])).json
    assert (whole["instance_id"], whole["message_count"]) == (app, 2)
    assert whole["messages"][1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    part = org.member.get(path(org, ids[0], "?limit=1")).json
    assert [m["n"] for m in part["messages"]] == [1] and part["next"] == 1
    assert [m["n"] for m in org.member.get(path(org, ids[0], "?after=1")).json["messages"]] == [2]
    assert org.member.get(path(org, ids[0], "?after=x")).status == 422
    # Nobody else's token, not even an admin's, sees it.
    for api in (org.admin, stack.sys):
        assert api.get(path(org)).json["items"] == []
        assert api.get(path(org, ids[0])).code == "conversation_not_found"
        assert api.delete(path(org, ids[0])).code == "conversation_not_found"
        assert api.call("POST", org.member.chat_path, {"instance_id": app, "message": "x", "stream": False,
                                                       "conversation_id": ids[0]}).code == "conversation_not_found"
    assert org.member.delete(path(org, ids[0])).status == 204
    assert org.member.get(path(org, ids[0])).code == "conversation_not_found"
    assert org.member.delete(path(org, ids[0])).code == "conversation_not_found"
    assert org.member.chat(app, "x", conversation_id=ids[0]).code == "conversation_not_found"


def test_a_conversation_belongs_to_one_app(org, provider, llm):
    provider.script("p", fake.text("yes"))
    app, other = new_agent(org, llm, "p"), new_agent(org, llm, "p")
    session = org.member.chat(app, "a").json["session_id"]
    r = org.member.chat(other, "b", conversation_id=session)
    assert (r.status, r.code) == (404, "conversation_not_found")


@pytest.mark.parametrize("history,kept", [
    ({"messages": 2}, [("user", "q3"), ("assistant", "a3")]),
    ({"messages": 3}, [("user", "q3"), ("assistant", "a3")]),  # an answer without its question is none
    ({"tokens": 17}, [("user", "q2"), ("assistant", "a2"), ("user", "q3"), ("assistant", "a3")]),
], ids=["messages", "an odd number", "tokens"])
def test_the_window_is_bounded(org, provider, llm, history, kept):
    provider.script("w", *[fake.text(f"a{i}") for i in range(5)])
    app = new_agent(org, llm, "w", history=history)
    session = org.member.chat(app, "q0").json["session_id"]
    for i in range(1, 5):
        assert org.member.chat(app, f"q{i}", conversation_id=session).status == 200
    assert said(provider, "w") == [*kept, ("user", "q4")]


def test_without_a_history_nothing_is_kept(org, provider, llm):
    provider.script("n", fake.text("yes"))
    app = new_agent(org, llm, "n", history={"messages": 0})
    session = org.member.chat(app, "a").json["session_id"]
    assert org.member.get(path(org, session)).code == "conversation_not_found"
    assert org.member.chat(app, "b", conversation_id=session).status == 200
    assert said(provider, "n") == [("user", "b")]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_second_turn_at_once_is_refused(org, provider, llm, stream):
    gate, model = threading.Event(), f"s-{stream}"

    def slow(h):
        gate.wait(30)
        fake.text("late")(h)

    provider.script(model, fake.text("one"), slow, fake.text("three"))
    app = new_agent(org, llm, model)
    session = org.member.chat(app, "a").json["session_id"]
    first = Background(org.member.chat, app, "b", conversation_id=session)
    eventually(lambda: len(provider.asked(model)) == 2)
    r = org.member.chat(app, "c", conversation_id=session, stream=stream)
    assert (r.status, r.code) == (409, "conversation_busy") and r.headers["Retry-After"]
    gate.set()
    assert first.join().json["response"] == "late"
    assert org.member.chat(app, "d", conversation_id=session).json["response"] == "three"
    assert messages(org.member, org, session) == [
        ("user", "a"), ("assistant", "one"), ("user", "b"), ("assistant", "late"), ("user", "d"), ("assistant", "three")]


def test_a_turn_that_fails_or_is_hung_up_leaves_neither_message(stack, org, provider, llm):
    provider.script("f", fake.text("one"), fake.status(500), fake.hang_after("so"), fake.text("four"))
    app = new_agent(org, llm, "f")
    session = org.member.chat(app, "a").json["session_id"]
    assert org.member.chat(app, "b", conversation_id=session).code == "provider_unavailable"
    stream = org.member.chat_stream(app, "c", conversation_id=session)
    stream.first()
    eventually(lambda: len(provider.asked("f")) == 3)
    stream.hang_up()
    eventually(lambda: (r := org.member.chat(app, "d", conversation_id=session)).status == 200 and r, 40)
    assert messages(org.member, org, session) == [("user", "a"), ("assistant", "one"), ("user", "d"), ("assistant", "four")]
    # A conversation that would have begun with such a turn is not there.
    provider.script("f", fake.status(500))
    before = stack.db.number("SELECT COUNT(*) FROM conversations")
    assert org.member.chat(app, "x").code == "provider_unavailable"
    eventually(lambda: stack.db.number("SELECT COUNT(*) FROM conversations") == before)


def test_a_conversation_deleted_under_its_turn_is_not_written_to(org, provider, llm):
    gate = threading.Event()

    def slow(h):
        gate.wait(30)
        fake.text("late")(h)

    provider.script("d", fake.text("one"), slow)
    app = new_agent(org, llm, "d")
    session = org.member.chat(app, "a").json["session_id"]
    turn = Background(org.member.chat, app, "b", conversation_id=session)
    eventually(lambda: len(provider.asked("d")) == 2)
    assert org.member.delete(path(org, session)).status == 204
    gate.set()
    assert turn.join().code == "conversation_not_found"
    assert org.member.get(path(org, session)).status == 404


def test_a_worker_that_dies_holds_its_conversation_no_longer_than_its_turn(stack, org, provider, llm):
    provider.script("k", fake.text("one"), fake.hang, fake.text("three"))
    app = new_agent(org, llm, "k", limits={"seconds": 200})
    session = org.member.chat(app, "a").json["session_id"]
    turn = Background(org.member.chat, app, "b", conversation_id=session, timeout=90)
    eventually(lambda: len(provider.asked("k")) == 2)
    stack.worker.kill()
    # As long as the App lets a turn last and saving it may take; its request would wait for 300 s.
    left_s = stack.db.number(f"SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), turn_until) FROM conversations WHERE conversation_id = '{session}'")
    assert 100 < left_s <= 230
    stack.worker.start()
    turn.join(90)
    eventually(lambda: org.admin.app(app)["is_ready"], 30)
    assert org.member.chat(app, "c", conversation_id=session).code == "conversation_busy"
    stack.db.run(f"UPDATE conversations SET turn_until = UTC_TIMESTAMP(3) WHERE conversation_id = '{session}'")  # its time is over
    assert org.member.chat(app, "c", conversation_id=session).json["response"] == "three"
    assert messages(org.member, org, session) == [("user", "a"), ("assistant", "one"), ("user", "c"), ("assistant", "three")]


def test_what_a_worker_that_dies_in_a_first_turn_leaves_is_removed(stack, org, provider, llm):
    provider.script("e", fake.hang)
    app = new_agent(org, llm, "e")
    turn = Background(org.member.chat, app, "a", timeout=90)
    eventually(lambda: provider.asked("e"))
    stack.worker.kill()
    of_it = f"FROM conversations WHERE instance_id = '{app}'"
    assert stack.db.number(f"SELECT COUNT(*) {of_it} AND message_count = 0") == 1
    stack.db.run(f"UPDATE conversations SET turn_until = UTC_TIMESTAMP(3) WHERE instance_id = '{app}'")  # its time is over
    stack.worker.start()
    turn.join(90)
    eventually(lambda: stack.db.number(f"SELECT COUNT(*) {of_it}") == 0, 90)


def test_long_messages_come_in_pages_and_not_all_are_read(stack, org, provider, llm):
    provider.script("l", fake.text("yes"))
    app = new_agent(org, llm, "l", history={"tokens": 100})
    session = org.member.chat(app, "a").json["session_id"]
    stack.db.run(f"INSERT INTO conversation_messages (conversation_id, n, role, content, created_at) "
                 f"SELECT '{session}', seq + 2, IF(seq % 2, 'user', 'assistant'), REPEAT('x', 300000), NOW(3) FROM seq_1_to_200;"
                 f"UPDATE conversations SET message_count = 202 WHERE conversation_id = '{session}'")
    before = stack.next_flush()["memory_bytes"]
    assert org.member.chat(app, "b", conversation_id=session).status == 200
    assert said(provider, "l") == [("user", "b")]
    assert stack.next_flush()["memory_bytes"] - before < 30_000_000  # of 60 MB
    seen, after = [], 0
    while after is not None:
        page = org.member.get(path(org, session, f"?after={after}&limit=200")).json
        seen += [m["n"] for m in page["messages"]]
        assert len(page["messages"]) <= 3
        after = page["next"] if len(seen) < 12 else None
    assert seen == list(range(1, len(seen) + 1)) and len(seen) >= 12


def test_a_deleted_conversation_is_in_the_audit_log(stack, org, provider, llm):
    provider.script("au", fake.text("yes"))
    session = org.member.chat(new_agent(org, llm, "au"), "a").json["session_id"]
    assert org.member.delete(path(org, session)).status == 204
    rows = stack.db.run(f"SELECT result FROM audit_log WHERE action = 'conversation.delete' AND target = '{session}'")
    assert [list(row) for row in rows] == [["ok"]]


def test_a_database_that_was_away_leaves_no_conversation_locked(stack, org, provider, llm):
    gate = threading.Event()

    def slow(h):
        gate.wait(60)
        fake.text("late")(h)

    provider.script("db", fake.text("one"), slow, fake.text("three"))
    app = new_agent(org, llm, "db")
    session = org.member.chat(app, "a").json["session_id"]
    turn = Background(org.member.chat, app, "b", conversation_id=session)
    eventually(lambda: len(provider.asked("db")) == 2)
    stack.db.kill()
    gate.set()
    assert turn.join().status == 503
    stack.db.start()
    eventually(lambda: org.member.chat(app, "c", conversation_id=session).status == 200, 40)
    assert [m for _, m in messages(org.member, org, session)] == ["a", "one", "c", "three"]
