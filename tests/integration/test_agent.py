# SPDX-License-Identifier: Apache-2.0
"""AI Apps with a model: turns, tools, bounds, cancelling, a provider that is odd, slow, failing or dead."""
import json
import re
import secrets
import sys
import threading
import time

import pytest

from harness import SOURCE, Background, eventually, text_of

sys.path.insert(0, str(SOURCE / "tests/fake"))
import provider as fake  # noqa: E402

OPTIONS = {"app": {"threads_max": 1100}, "tools": {"allowed_networks": "127.0.0.0/8"},
           "llm": {"allowed_networks": "127.0.0.0/8", "breaker_failures": 0, "retry_max_s": 1, "first_byte_timeout_s": 600},
           "worker": {"turn_queue_max": 2, "turn_queue_wait_s": 6}}
ALLOWED = ["model call failed", "breaker llm_config", "App failed .* reason=probe_failed"]


@pytest.fixture(scope="module")
def provider():
    with fake.Provider() as p:
        yield p


@pytest.fixture(params=["openai", "anthropic"])
def kind(request):
    return request.param


@pytest.fixture
def llm(org, provider, kind):
    return org.new_llm_config(kind, provider.url)


@pytest.fixture
def openai(org, provider):
    return org.new_llm_config("openai", provider.url)


def new_agent(org, llm, model, **config):
    app = org.new_app(tier="hot", framework_type="agent", config={"llm_config_id": llm, "model": model, **config})
    org.admin.load(app)
    return app


def test_a_turn_is_streamed_as_it_comes(org, provider, llm):
    provider.script("m", fake.text("Hello ", "wörld ", "🔥", tokens=(11, 3)))
    app = new_agent(org, llm, "m", system_prompt="Be kind.")
    stream = org.member.chat_stream(app, "hi")
    assert stream.status == 200
    events = stream.rest()
    assert text_of(events) == "Hello wörld 🔥"
    assert [e.name for e in events] == ["metadata", "agent", "message", "message", "message", "metadata"]
    assert events[-1].data["usage"] == {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
    assert events[-1].data["finish_reason"] == "stop"
    r = org.member.chat(app, "hi")
    assert r.json["response"] == "Hello wörld 🔥" and r.json["agent_hops"] == 1 and r.json["current_agent"] == "agent"
    asked = provider.asked("m")[-1]
    system = asked.get("system") or asked["messages"][0]["content"]
    assert system == "Be kind."
    last = asked["messages"][-1]
    assert last["role"] == "user" and "hi" in json.dumps(last["content"])


def results_in(asked):
    """What the model was told of its tool calls at last: (id, result), in either dialect."""
    last = asked["messages"][-1]
    if last["role"] == "user":
        return [(part["tool_use_id"], "".join(p["text"] for p in part["content"])) for part in last["content"]]
    return [(m["tool_call_id"], m["content"]) for m in asked["messages"] if m["role"] == "tool"]


def test_tools_are_called_at_once_and_their_results_go_back(org, provider, llm):
    provider.script("t", fake.calls(("calculator", {"expression": "6*7"}), ("current_time", {})), fake.text("It is 42."))
    app = new_agent(org, llm, "t", tools=["calculator", "current_time"])
    events = org.member.chat_stream(app, "what?").rest()
    tools = [e.data for e in events if e.name == "tool"]
    assert [(t["state"], t["name"]) for t in tools if t["state"] == "called"] == [("called", "calculator"), ("called", "current_time")]
    assert {t["name"]: t["result"] for t in tools if t["state"] == "done"}["calculator"] == "42"
    assert not any(t["is_error"] for t in tools if t["state"] == "done")
    assert text_of(events) == "It is 42."
    assert [e.data["hop"] for e in events if e.name == "agent"] == [1, 2]
    assert events[-1].data["usage"]["total_tokens"] == 24
    # Each result with its call's id, in the order of the calls.
    results = results_in(provider.asked("t")[-1])
    assert [i for i, _ in results] == ["t0", "t1"] and results[0][1] == "42" and re.match(r"20\d\d-", results[1][1]), results


@pytest.mark.parametrize("name,arguments,says", [
    ("calculator", "no JSON at all", "not valid JSON"),
    ("calculator", '{"expression": 6}', "must be a string"),
    ("calculator", '{"expression": "6*"}', "a number is expected"),
    ("nosuch", "{}", "no tool of this name"),
], ids=["no JSON", "a wrong type", "a wrong sum", "no such tool"])
def test_what_is_wrong_with_a_call_is_told_to_the_model(org, provider, openai, name, arguments, says):
    provider.script("w", fake.call(name, arguments), fake.text("sorry"))
    app = new_agent(org, openai, "w", tools=["calculator"])
    assert org.member.chat_ok(app) == "sorry"
    assert says in provider.asked("w")[-1]["messages"][-1]["content"]


def again(h, body):
    fake.call("calculator", {"expression": "1"})(h)


@pytest.mark.parametrize("limits,answer,code,says,asks", [
    ({"hops": 3}, again, "turn_limit", "more hops", 3),
    ({"tool_calls": 2}, again, "turn_limit", "more tool calls", 3),
    ({"tokens": 30}, again, "turn_limit", "more tokens", 3),  # 12 each time
    ({"bytes": 1024}, fake.endless, "turn_limit", "answer is longer", 1),
    ({"seconds": 1}, fake.hang, "turn_timeout", "took longer", 1),
    ({"seconds": 1}, fake.hang_after("so"), "turn_timeout", "took longer", 1),
], ids=["hops", "tool calls", "tokens", "bytes", "seconds", "seconds in the middle"])
def test_a_bound_ends_the_turn(org, provider, openai, limits, answer, code, says, asks):
    provider.script("b", answer)
    app = new_agent(org, openai, "b", tools=["calculator"], limits=limits)
    before = len(provider.asked("b"))
    r = org.member.chat(app)
    assert r.code == code and says in r.json["detail"], r  # this bound, and none of the others
    asked = len(provider.asked("b")) - before
    assert asked == asks or asked == 0 and "seconds" in limits  # which may be over before it is asked
    error = org.member.chat_stream(app).rest()[-1]
    assert error.name == "error" and error.data["code"] == code
    provider.script("b", fake.text("fine"))
    eventually(lambda: org.member.chat(app).json.get("response") == "fine")


def test_the_arguments_of_tool_calls_count_too(org, provider, openai):
    long = fake.call("calculator", {"expression": "1" + " " * 400})  # its result is short
    provider.script("ar", long, long, long, fake.text("x"))
    app = new_agent(org, openai, "ar", tools=["calculator"], limits={"bytes": 1024})
    r = org.member.chat(app)
    assert r.code == "turn_limit" and "tool calls are longer" in r.json["detail"], r
    assert len(provider.asked("ar")) == 3


def test_a_whole_answer_longer_than_the_turn_may_hold_ends_it(org, provider, openai):
    provider.script("wa", lambda h: h.whole(200, {"choices": [{"message": {"content": "x" * 5000}, "finish_reason": "stop"}]}))
    app = new_agent(org, openai, "wa", limits={"bytes": 1024})
    assert org.member.chat(app).code == "turn_limit"


def test_what_a_tool_is_asked_is_shown_in_part_where_it_is_long(org, provider, openai):
    long = {"index": 0, "id": "c", "function": {"name": "calculator", "arguments": json.dumps({"expression": "\u0001" * 60000})}}
    provider.script("la", fake.raw(fake.chunk(tool_calls=[long]), fake.finish("tool_calls")), fake.text("done"))
    app = new_agent(org, openai, "la", tools=["calculator"], limits={"bytes": 524288})
    events = org.member.chat_stream(app).rest()
    assert text_of(events) == "done", [e for e in events if e.name == "error"]
    assert len([e for e in events if e.name == "tool"][0].data["arguments"]) <= 4096


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_leads_nowhere(org, provider, openai, status):
    """A key, and what people write, goes to the place that was judged when it was saved; a page comes from the list."""
    elsewhere = lambda h: h.whole(status, "", Location=provider.url + "/elsewhere")  # noqa: E731
    provider.script("rp", elsewhere, fake.text("followed"))
    r = org.member.chat(new_agent(org, openai, "rp"))
    assert (r.status, r.code) == (502, "provider_failed") and str(status) in r.json["detail"], r
    provider.listing = elsewhere
    page = provider.url + "/page"
    provider.script("rf", fake.call("fetch_url", {"url": page}), fake.text("x"))
    app = new_agent(org, openai, "rf", tools=["fetch_url"], fetch_url={"allow": [page]}, probe="none")
    assert org.member.chat_ok(app) == "x"
    provider.listing = None
    assert provider.asked("rf")[-1]["messages"][-1]["content"] == f"The server answered {status}."
    with provider.lock:
        assert not [r for r in provider.requests if r["path"].endswith("/elsewhere")]


def test_a_page_without_an_end_is_told_to_the_model_and_the_turn_goes_on(org, provider, openai):
    """Something comes all the time; so it takes what a page may take in all, 30 s."""
    provider.listing = fake.trickle
    provider.script("we", fake.call("fetch_url", {"url": provider.url.replace("/v1", "/page")}), fake.text("so be it"))
    app = new_agent(org, openai, "we", tools=["fetch_url"], fetch_url={"allow": [provider.url.replace("/v1", "/")]}, probe="none")
    assert org.member.chat_ok(app) == "so be it"
    provider.listing = None
    assert provider.asked("we")[-1]["messages"][-1]["content"] == "The server took too long."


def test_a_page_keeps_its_last_character(org, provider, openai):
    provider.listing = lambda h: h.whole(200, "café", "text/plain; charset=utf-8")
    provider.script("lc", fake.call("fetch_url", {"url": provider.url.replace("/v1", "/page")}), fake.text("x"))
    app = new_agent(org, openai, "lc", tools=["fetch_url"], fetch_url={"allow": [provider.url.replace("/v1", "/")]}, probe="none")
    assert org.member.chat_ok(app) == "x"
    provider.listing = None
    assert provider.asked("lc")[-1]["messages"][-1]["content"] == "café"


DONE = fake.finish("stop")
ODD = {
    "CRLF": [fake.chunk(content="a").replace("\n", "\r\n"), DONE.replace("\n", "\r\n")],
    "CR": [fake.chunk(content="a").replace("\n", "\r"), DONE.replace("\n", "\r")],
    "comments and blank lines": [": hello\n\n\n\n", fake.chunk(content="a"), ":\n\n", DONE],
    "split at every byte": [bytes([b]) for b in (fake.chunk(content="a") + DONE).encode()],
    "no DONE": [fake.chunk(content="a"), fake.finish("stop").replace("data: [DONE]\n\n", "")],
    "choices null with the usage": [fake.chunk(content="a"), fake.finish("stop").replace('"choices": []', '"choices": null')],
    "choices absent with the usage": [fake.chunk(content="a"), fake.finish("stop").replace('"choices": [], ', "")],
}


@pytest.mark.parametrize("oddity", ODD)
def test_an_odd_stream_is_met_with_grace(org, provider, openai, oddity):
    provider.script("o", fake.raw(*ODD[oddity]))
    app = new_agent(org, openai, "o")
    assert org.member.chat_ok(app) == "a"


@pytest.fixture
def anthropic(org, provider):
    return org.new_llm_config("anthropic", provider.url)


A_START = fake.anthropic_start(3) + fake.named("content_block_start", index=0, content_block={"type": "text", "text": ""})
A_TEXT = fake.named("content_block_delta", index=0, delta={"type": "text_delta", "text": "a"})
A_END = fake.anthropic_end("end_turn", 2)
A_ODD = {
    "CRLF": [(A_START + A_TEXT + A_END).replace("\n", "\r\n")],
    "CR": [(A_START + A_TEXT + A_END).replace("\n", "\r")],
    "pings, comments and unknown events": [A_START, ": x\n\n", fake.named("ping"), A_TEXT, fake.named("news", x=1), A_END],
    "split at every byte": [bytes([b]) for b in (A_START + A_TEXT + A_END).encode()],
    "thinking": [A_START, fake.named("content_block_delta", index=9, delta={"type": "thinking_delta", "thinking": "hm"}), A_TEXT, A_END],
    "no message_stop": [A_START, A_TEXT, A_END.split("event: message_stop")[0]],
    "names in the data alone": [(A_START + A_TEXT + A_END).replace("event: ", ": ")],
}


@pytest.mark.parametrize("oddity", A_ODD)
def test_an_odd_stream_of_the_other_kind_is_met_with_grace(org, provider, anthropic, oddity):
    provider.script("ao", fake.raw(*A_ODD[oddity]))
    app = new_agent(org, anthropic, "ao")
    assert org.member.chat_ok(app) == "a"


A_BROKEN = {
    "no stop reason": (fake.raw(A_START, A_TEXT), "provider_failed"),
    "an error inside": (fake.raw(A_START, A_TEXT, fake.named("error", error={"type": "overloaded_error", "message": "x"})),
                        "provider_unavailable"),
    "HTML": (lambda h: h.whole(200, "<html>", "text/html"), "provider_failed"),
    "529": (fake.status(529), "provider_unavailable"),
    "without end": (lambda h: [h.head(), h.say(A_START), [h.say(A_TEXT.replace('"a"', '"' + "x" * 1000 + '"')) for _ in range(2000)]],
                    "turn_limit"),
}


@pytest.mark.parametrize("what", A_BROKEN)
def test_a_provider_of_the_other_kind_that_fails_is_told(org, provider, anthropic, what):
    answer, code = A_BROKEN[what]
    provider.script("ab", answer)
    app = new_agent(org, anthropic, "ab")
    assert org.member.chat(app).code == code
    provider.script("ab", fake.text("fine"))
    assert org.member.chat_ok(app) == "fine"


def test_characters_split_between_chunks_stay_whole(org, provider, openai):
    body = json.dumps({"choices": [{"delta": {"content": "wö🔥"}}]}, ensure_ascii=False).encode()
    stream = b"data: " + body + b"\n\n"
    provider.script("u", fake.raw(*[stream[i:i + 1] for i in range(len(stream))], DONE))
    app = new_agent(org, openai, "u")
    assert org.member.chat_ok(app) == "wö🔥"


ODD_CALLS = {
    "whole in one delta": [{"index": 0, "id": "c", "function": {"name": "calculator", "arguments": '{"expression":"6*7"}'}}],
    "without index": [{"id": "c", "function": {"name": "calculator", "arguments": '{"expression":"6*7"}'}}],
    "without id": [{"index": 0, "function": {"name": "calculator", "arguments": '{"expression":"6*7"}'}}],
    "without both": [{"function": {"name": "calculator", "arguments": '{"expression":"6*7"}'}}],
    "arguments as an object": [{"index": 0, "id": "c", "function": {"name": "calculator", "arguments": {"expression": "6*7"}}}],
}


@pytest.mark.parametrize("oddity", ODD_CALLS)
def test_an_odd_tool_call_is_carried_out(org, provider, openai, oddity):
    provider.script("c", fake.raw(fake.chunk(tool_calls=ODD_CALLS[oddity]), fake.finish("tool_calls")), fake.text("done"))
    app = new_agent(org, openai, "c", tools=["calculator"])
    assert org.member.chat_ok(app) == "done"
    assert provider.asked("c")[-1]["messages"][-1]["content"] == "42"


BROKEN = {
    "no finish reason": (fake.raw(fake.chunk(content="a"), fake.data("[DONE]")), "provider_failed", 502),
    "an error inside": (fake.raw(fake.chunk(content="a"), fake.data({"error": {"message": "boom"}})), "provider_unavailable", 503),
    "HTML": (lambda h: h.whole(200, "<html>", "text/html"), "provider_failed", 502),
    "no JSON": (fake.raw("data: {nonsense\n\n"), "provider_failed", 502),
    "cut": (fake.raw(fake.chunk(content="a"), is_cut=True), "provider_failed", 502),
    "401": (fake.status(401), "provider_refused", 502),
    "503": (fake.status(503), "provider_unavailable", 503),
    "429": (fake.status(429, Retry_After="30"), "provider_limited", 429),
    "no answer": (fake.drop, "provider_failed", 502),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_provider_that_fails_is_told_and_the_app_stays(org, provider, openai, what):
    answer, code, status = BROKEN[what]
    provider.script("f", answer)
    app = new_agent(org, openai, "f")
    r = org.member.chat(app)
    assert (r.status, r.code) == (status, code), r
    if what == "429":
        assert r.headers["Retry-After"] == "30"
    error = org.member.chat_stream(app).rest()[-1]
    assert error.name == "error" and error.data["code"] == code
    provider.script("f", fake.text("fine"))
    assert org.member.chat_ok(app) == "fine"


def test_a_key_that_is_used_is_said_nowhere(stack, org, provider, kind):
    """At level debug; also where the provider repeats it in what it says is wrong."""
    key, header = "sk-" + secrets.token_hex(24), "seven-" + secrets.token_hex(8)
    llm = org.new_llm_config(kind, provider.url, api_key=key, extra_headers={"X-Team": header})
    provider.script("said", fake.text("x"), fake.status(401, f"Incorrect API key provided: {key}, {header}"))
    app = new_agent(org, llm, "said")
    assert org.member.chat_ok(app) == "x"
    with provider.lock:
        sent = [r["headers"] for r in provider.requests if r["model"] == "said"][-1]
    assert key in str(sent) and sent["X-Team"] == header
    answers = [org.member.chat(app).body.decode(), str(org.member.chat_stream(app).rest())]
    provider.listing = fake.status(401, f"Incorrect API key provided: {key}, {header}")
    answers.append(str(org.admin.lifecycle("reload", app, wait=30).json))
    provider.listing = None
    assert "provider_refused" in answers[0] and "provider_refused" in answers[1] and "probe_failed" in answers[2], answers
    answers += [p.text() for p in (stack.app, stack.worker, stack.lighttpd, stack.nats)]
    assert not [a for a in answers if key in a or header in a]


def test_what_had_not_begun_is_tried_again(org, provider, openai):
    provider.script("r", fake.status(503), fake.status(429, Retry_After="0"), fake.text("fine"))
    app = new_agent(org, openai, "r")
    assert org.member.chat_ok(app) == "fine"
    assert len(provider.asked("r")) == 3


@pytest.mark.parametrize("stage", ["before the answer", "in the answer", "in a tool"])
def test_a_client_that_hangs_up_stops_the_provider(stack, org, provider, openai, stage):
    app = new_agent(org, openai, "g", tools=["fetch_url"], fetch_url={"allow": [provider.url.replace("/v1", "/")]})
    begun = threading.Event()

    def page(h):
        begun.set()
        fake.trickle(h)

    def begin(h):
        begun.set()
        (fake.hang if stage == "before the answer" else fake.hang_after("so"))(h)

    provider.listing = page
    provider.script("g", fake.call("fetch_url", {"url": provider.url.replace("/v1", "/page")}) if stage == "in a tool" else begin)
    gone = provider.gone
    stream = org.member.chat_stream(app)
    stream.first()
    assert begun.wait(20)
    if stage == "in the answer":
        assert next(e for e in stream if e.name == "message").data["content"] == "so"
    stream.hang_up()
    # A page that comes in time is given up by itself after 30 s: that does not count.
    eventually(lambda: provider.gone > gone, 9 if stage == "in a tool" else 40, "the provider's side was hung up")
    eventually(lambda: stack.next_flush()["turns_in_flight"] == 0, 20)
    provider.listing = None


def test_turns_beyond_the_apps_limit_wait_and_then_are_turned_away(org, provider, openai):
    gate = threading.Event()

    def slow(h):
        gate.wait(120)
        fake.text("ok")(h)

    provider.script("q", slow)
    app = new_agent(org, openai, "q", limits={"turns": 1})
    first = Background(org.member.chat, app)
    eventually(lambda: len(provider.asked("q")) == 1)
    waiting = [Background(org.member.chat, app) for _ in range(2)]
    late = [w.join() for w in waiting]  # the queue's deadline
    assert {r.code for r in late} == {"too_many_turns"} and {r.status for r in late} == {429}
    assert {r.json["detail"] for r in late} == {"The turn waited as long as it may."}
    assert all(int(r.headers["Retry-After"]) >= 1 for r in late)
    gate.set()
    assert first.join().json["response"] == "ok"
    assert len(provider.asked("q")) == 1


def test_one_that_waits_goes_on_when_another_has_ended(org, provider, openai):
    gate = threading.Semaphore(0)

    def slow(h):
        gate.acquire()
        fake.text("ok")(h)

    provider.script("n", slow)
    app = new_agent(org, openai, "n", limits={"turns": 1})
    turns = [Background(org.member.chat, app) for _ in range(3)]
    eventually(lambda: len(provider.asked("n")) == 1)
    for n in range(1, 4):
        eventually(lambda n=n: len(provider.asked("n")) == n)
        gate.release()
    assert [t.join().status for t in turns].count(200) >= 2


def test_a_model_is_shared_and_leaves_with_its_last_app(stack, org, provider, openai):
    provider.script("s", fake.text("x"))
    before = stack.next_flush()["shared_model_count"]
    apps = [new_agent(org, openai, "s") for _ in range(5)]
    eventually(lambda: stack.next_flush()["shared_model_count"] == before + 1, 20)
    for app in apps[:4]:
        org.admin.unload(app)
    assert stack.next_flush()["shared_model_count"] == before + 1
    org.admin.unload(apps[4])
    eventually(lambda: stack.next_flush()["shared_model_count"] == before, 20)


def test_an_app_shows_its_tokens_and_where_its_time_went(stack, org, provider, openai):
    def slow(h):
        time.sleep(0.3)
        fake.call("fetch_url", {"url": provider.url.replace("/v1", "/page")}, tokens=(10, 4))(h)

    def page(h):
        time.sleep(0.2)
        h.whole(200, "text", "text/plain")

    provider.script("z", slow, fake.text("x", tokens=(20, 1)))
    app = new_agent(org, openai, "z", tools=["fetch_url"], fetch_url={"allow": [provider.url.replace("/v1", "/")]})
    path = org.member.app_path(app, "/stats")
    assert org.member.get(path).json["turns"] == 0
    # No turn of the App: it was refused before.
    assert org.member.chat(app, conversation_id="01a222a6-334c-75f4-80b4-25d94effcda8").code == "conversation_not_found"
    provider.listing = page
    assert org.member.chat(app).status == 200
    provider.listing = None
    seen = eventually(lambda: (s := org.member.get(path).json)["turns"] == 1 and s, 20)
    assert (seen["tokens_in"], seen["tokens_out"], seen["errors"], seen["loads"]) == (30, 5, 0, 1)
    latency = seen["latency"]
    assert latency["provider_mean_ms"] >= 300 and latency["tools_mean_ms"] >= 200
    assert latency["mean_ms"] >= latency["provider_mean_ms"] + latency["tools_mean_ms"]
    assert seen["last_turn_at"]


@pytest.mark.parametrize("probe", ["connect", "call"])
def test_a_probe_that_fails_fails_the_load_with_its_reason(org, provider, openai, probe):
    provider.listing = fake.status(401)
    provider.script("p", fake.status(401))
    app = org.new_app(tier="hot", framework_type="agent", config={"llm_config_id": openai, "model": "p", "probe": probe})
    op = org.admin.ended(org.admin.lifecycle("load", app).json["operation_id"])
    assert op["state"] == "failed" and op["reason"] == "probe_failed: The model provider answered 401.", op
    # It is tried again meanwhile, and nobody may look just then.
    eventually(lambda: org.admin.app(app)["state_reason"] == op["reason"])
    eventually(lambda: org.member.chat(app).code == "instance_failed")
    provider.listing = None


@pytest.mark.parametrize("url,said", [
    ("https://[::ffff:10.0.0.1]/v1", "The model provider's address is not allowed: it is reserved, and not in llm.allowed_networks."),
    ("http://[3000::1]:9/v1", "The model provider's address is not allowed with http: use https for a public one, or an administrator "
                          "allows it in llm.allowed_networks.")])
def test_an_address_that_is_not_allowed_is_not_connected_to(stack, org, provider, url, said):
    """The worker's own look, at each connection: a name may lead elsewhere by now. A build says it, too."""
    llm = org.new_llm_config("openai", "http://127.0.0.1:1/v1")
    stack.db.run(f"UPDATE llm_config_generations SET base_url = '{url}' WHERE llm_config_id = '{llm}'")
    app = new_agent(org, llm, "x", probe="none")
    r = org.member.chat(app)
    assert (r.status, r.code, r.json["detail"]) == (502, "provider_refused", said), r
    app = org.new_app(tier="hot", framework_type="agent", config={"llm_config_id": llm, "model": "x", "probe": "connect"})
    op = org.admin.ended(org.admin.lifecycle("load", app).json["operation_id"])
    assert (op["state"], op["reason"]) == ("failed", f"probe_failed: {said}"), op


def test_a_page_without_a_secret_may_be_asked_for_in_the_clear(stack, org, provider, openai):
    """That http is refused is about providers. (Nobody is at this one, which is given to nobody.)"""
    page = "http://[3000::1]:9/"
    provider.script("clear", fake.call("fetch_url", {"url": page}), fake.text("x"))
    app = new_agent(org, openai, "clear", tools=["fetch_url"], fetch_url={"allow": [page]})
    assert org.member.chat_ok(app) == "x"
    assert provider.asked("clear")[-1]["messages"][-1]["content"] != "The address is reserved, and not in tools.allowed_networks."


def test_a_thousand_turns_at_once_through_one_worker(stack, org, provider, openai):
    """All of them are with the provider before the first is answered."""
    gate = threading.Event()
    count = 1000

    def slow(h, body):
        gate.wait(600)
        fake.echo_last(h, body)

    provider.script("k", slow)
    app = new_agent(org, openai, "k")
    turns = [Background(org.member.chat, app, f"turn {i}") for i in range(count)]
    eventually(lambda: len(provider.asked("k")) == count, 60)
    assert stack.next_flush()["turns_in_flight"] == count
    gate.set()
    answers = [t.join() for t in turns]
    assert [a.json["response"].replace(" ", "") for a in answers] == [f"turn{i}" for i in range(count)]
