# SPDX-License-Identifier: Apache-2.0
"""The face that OpenAI's clients speak to: the official client for Node on echo and agent Apps, and bodies by hand."""
import json
import shutil
import subprocess
import sys

import pytest

from harness import BUILD, PATH, SLOW, SOURCE

sys.path.insert(0, str(SOURCE / "tests/fake"))
import provider as fake  # noqa: E402

OPTIONS = {"llm": {"allowed_networks": "127.0.0.0/8", "breaker_failures": 0, "attempts_max": 1}}
ALLOWED = ["model call failed"]
CLIENT = BUILD / "node_modules/openai/index.mjs"
needs_node = pytest.mark.skipif(not shutil.which("node") or not CLIENT.exists(),
                                reason="no node, or the openai client was not installed (scripts/check does it)")


@pytest.fixture(scope="module")
def provider():
    with fake.Provider() as p:
        yield p


@pytest.fixture
def llm(org, provider):
    return org.new_llm_config("openai", provider.url)


@pytest.fixture
def echo(org):
    app = org.new_app(tier="hot", name="echo", config={"prefix": "> "})
    org.admin.load(app)
    return app


def new_agent(org, llm, model, **config):
    app = org.new_app(tier="hot", framework_type="agent", config={"llm_config_id": llm, "model": model, **config})
    org.admin.load(app)
    return app


@pytest.fixture
def client(stack, org):
    """Runs one call of the official client with the member's token."""
    def run(call, key=None, **args):
        spec = {"url": f"http://127.0.0.1:{stack.lighttpd.port}/v1", "key": key or org.member.token, "call": call, "args": args}
        done = subprocess.run(["node", str(SOURCE / "tests/integration/openai_client.mjs"), str(CLIENT), json.dumps(spec)],
                              capture_output=True, text=True, timeout=60 * SLOW, env={"PATH": PATH})
        assert done.returncode == 0 and done.stdout, done.stderr
        return json.loads(done.stdout)
    return run


def user(text):
    return [{"role": "user", "content": text}]


def complete(org, body, token=None):
    return org.stack.http.request("POST", "/v1/chat/completions", token or org.member.token, body)


# --- the official client ---

@needs_node
def test_the_client_gets_a_completion(client, org, echo):
    for model in ("echo", echo):
        ok = client("chat", model=model, messages=user("hello you"))["ok"]
        assert ok["object"] == "chat.completion" and ok["model"] == model and ok["id"].startswith("chatcmpl-")
        choice, = ok["choices"]
        assert choice["message"] == {"role": "assistant", "content": "> hello you"} and choice["finish_reason"] == "stop"
        assert ok["usage"]["total_tokens"] == ok["usage"]["prompt_tokens"] + ok["usage"]["completion_tokens"] > 0


@needs_node
def test_the_client_reads_a_stream(client, echo):
    chunks = client("stream", model="echo", messages=user("a b c"))["ok"]["chunks"]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == "> a b c"
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [c["choices"][0]["finish_reason"] for c in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert len({c["id"] for c in chunks}) == 1 and {c["object"] for c in chunks} == {"chat.completion.chunk"}
    assert not any(c.get("usage") for c in chunks)
    chunks = client("stream", model="echo", messages=user("a"), stream_options={"include_usage": True})["ok"]["chunks"]
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 2


@needs_node
def test_the_clients_own_helper_puts_a_stream_together(client, org, provider, llm):
    provider.script("h", fake.text("Hello ", "wörld", tokens=(3, 2)))
    app = new_agent(org, llm, "h")
    ok = client("runner", model=app, messages=user("x"), stream_options={"include_usage": True})["ok"]
    assert ok["completion"]["choices"][0]["message"]["content"] == "Hello wörld"
    assert ok["usage"]["total_tokens"] == 5


@needs_node
def test_an_agent_gets_the_whole_conversation(client, org, provider, llm):
    provider.script("w", fake.text("yes"))
    app = new_agent(org, llm, "w", system_prompt="House rules.", openai={"parameters": ["temperature", "stop", "max_tokens"]})
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one"},
                {"role": "assistant", "content": "two"}, {"role": "user", "content": [{"type": "text", "text": "three"}]}]
    ok = client("chat", model=app, messages=messages, temperature=0.25, stop=["END"], max_tokens=9)["ok"]
    assert ok["choices"][0]["message"]["content"] == "yes"
    asked = provider.asked("w")[-1]
    assert [(m["role"], m["content"]) for m in asked["messages"]] == [
        ("system", "House rules."), ("system", "Be brief."), ("user", "one"), ("assistant", "two"), ("user", "three")]
    assert (asked["temperature"], asked["stop"], asked["max_tokens"]) == (0.25, ["END"], 9)


@needs_node
def test_tools_of_the_caller_are_called_by_the_caller(client, org, provider, llm):
    provider.script("t", fake.call("weather", {"town": "Bonn"}), fake.text("It is sunny."))
    app = new_agent(org, llm, "t", tools=["calculator"], openai={"client_tools": True})
    ok = client("tools", model=app, messages=user("weather?"))["ok"]
    assert ok == {"content": "It is sunny.", "seen": ["Bonn"]}
    last = provider.asked("t")[-1]
    assert [t["function"]["name"] for t in last["tools"]] == ["calculator", "weather"]
    assert last["messages"][-1] == {"role": "tool", "content": "sunny in Bonn", "tool_call_id": "t0"}


@needs_node
def test_a_stream_carries_the_callers_tool_calls(client, org, provider, llm):
    provider.script("s", fake.call("weather", {"town": "Bonn"}))
    app = new_agent(org, llm, "s", openai={"client_tools": True})
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    chunks = client("stream", model=app, messages=user("x"), tools=tools)["ok"]["chunks"]
    calls = [c["choices"][0]["delta"]["tool_calls"] for c in chunks if c["choices"][0]["delta"].get("tool_calls")]
    assert calls == [[{"index": 0, "id": "t0", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Bonn"}'}}]]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@needs_node
def test_the_client_lists_the_apps_of_its_org(stack, client, org, echo):
    suspended = org.new_app(name="away")
    org.admin.patch(org.admin.app_path(suspended, "/status"), {"status": "suspended"})
    stack.new_org().new_app(name="foreign")
    models = client("models")["ok"]["all"]
    assert [(m["id"], m["object"], m["instance_id"]) for m in models] == [("echo", "model", echo)]
    assert models[0]["created"] > 1600000000
    assert client("model", model="echo")["ok"]["instance_id"] == echo
    assert client("model", model="foreign")["error"]["class"] == "NotFoundError"


@needs_node
@pytest.mark.parametrize("what,error", [
    ("key", ("AuthenticationError", 401, "invalid_api_key")),
    ("model", ("NotFoundError", 404, "model_not_found")),
    ("not loaded", ("InternalServerError", 503, "instance_not_loaded")),
    ("suspended", ("PermissionDeniedError", 403, "instance_suspended")),
    ("messages", ("BadRequestError", 400, "invalid")),
])
def test_the_client_understands_our_errors(client, org, echo, what, error):
    args = {"model": "echo", "messages": user("x")}
    if what == "key":
        args["key"] = "hrt_" + "x" * 43
    elif what == "model":
        args["model"] = "nosuch"
    elif what == "not loaded":
        args["model"] = org.new_app(tier="hot")
    elif what == "suspended":
        org.admin.patch(org.admin.app_path(echo, "/status"), {"status": "suspended"})
    else:
        args["messages"] = []
    found = client("chat", **args)["error"]
    assert (found["class"], found["status"], found["code"]) == error


@needs_node
def test_the_client_understands_a_failure_in_the_middle_of_a_stream(client, org, provider, llm):
    provider.script("f", fake.raw(fake.chunk(content="so"), fake.data({"error": {"message": "boom"}})))
    app = new_agent(org, llm, "f")
    error = client("stream", model=app, messages=user("x"))["error"]
    assert error["code"] == "provider_unavailable" and "failed" in error["message"]


# --- by hand ---

@pytest.mark.parametrize("change,param", [
    ({"model": None}, "model"),
    ({"model": 7}, "model"),
    ({"messages": None}, "messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages[0].content"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    ({"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "x"}]}]}, "messages[0].tool_calls"),
    ({"messages": [7]}, "messages[0].role"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"n": 2}, "n"),
    ({"temperature": 3}, "temperature"),
    ({"top_p": -1}, "top_p"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"stop": [1]}, "stop"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [{"type": "retrieval"}]}, "tools[0].type"),
    ({"tools": [{"type": "function", "function": {"name": "a", "parameters": 1}}]}, "tools[0].function.parameters"),
    ({"tools": [{"type": "function", "function": {"name": "a"}}], "tool_choice": "maybe"}, "tool_choice"),
    ({"tools": [{"type": "function", "function": {"name": "a"}}], "tool_choice": {"type": "function", "function": {"name": "b"}}}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"stream_options": 5}, "stream_options"),
    ({"presence_penalty": 1.5}, "presence_penalty"),
    ({"logit_bias": {"1": 5}}, "logit_bias"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"nonsense": "x"}, "nonsense"),
])
def test_what_is_wrong_is_named(org, echo, change, param):
    r = complete(org, {"model": "echo", "messages": user("x"), **change})
    assert r.status == 400, r
    error = r.json["error"]
    assert error["type"] == "invalid_request_error" and error["param"] == param, error
    assert error["message"].startswith(param + ": ")


def test_what_says_nothing_or_changes_nothing_is_taken(org, echo):
    r = complete(org, {"model": "echo", "messages": user("x"), "user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "auto",
                       "presence_penalty": 0, "logit_bias": {}, "logprobs": False, "functions": [], "reasoning_effort": None,
                       "tool_choice": "auto", "tools": []})
    assert r.status == 200, r


@needs_node
def test_what_a_provider_refuses_is_not_asked_again(client, org, provider, llm):
    """The client repeats what failed with 5xx."""
    provider.script("re", fake.status(404))
    app = new_agent(org, llm, "re", probe="none")
    error = client("chat", model=app, messages=user("x"))["error"]
    assert (error["status"], error["code"]) == (400, "provider_refused") and len(provider.asked("re")) == 1

@pytest.mark.parametrize("body,status", [(b"{", 400), (b"[]", 400), (b"", 400), (b'"x"', 400)])
def test_a_body_that_is_no_object_is_refused_in_that_apis_shape(org, body, status):
    r = org.stack.http.request("POST", "/v1/chat/completions", org.member.token, body, {"Content-Type": "application/json"})
    assert r.status == status and r.json["error"]["message"], r


def test_a_route_below_v1_that_is_not_there_is_told_in_that_apis_shape(org):
    r = org.stack.http.request("GET", "/v1/nosuch", org.member.token)
    assert r.status == 404 and r.json["error"]["code"] == "not_found"
    r = org.stack.http.request("GET", "/v1/chat/completions", org.member.token)
    assert r.status == 405 and r.headers["Allow"] == "POST" and r.json["error"]["code"] == "method_not_allowed"


def test_without_a_token_the_body_is_not_looked_at(org):
    r = org.stack.http.request("POST", "/v1/chat/completions", None, {"nonsense": 1})
    assert r.status == 401 and r.json["error"]["code"] == "invalid_api_key"


def test_what_the_app_does_not_allow_its_callers_is_refused(org, provider, llm):
    provider.script("n", fake.text("x"))
    app = new_agent(org, llm, "n", openai={"parameters": ["stop"]})
    assert complete(org, {"model": app, "messages": user("x"), "stop": "END"}).status == 200
    r = complete(org, {"model": app, "messages": user("x"), "temperature": 0})
    assert r.status == 400 and "temperature" in r.json["error"]["message"], r
    tools = [{"type": "function", "function": {"name": "weather"}}]
    r = complete(org, {"model": app, "messages": user("x"), "tools": tools})
    assert r.status == 400 and "tools" in r.json["error"]["message"], r


def test_an_app_of_another_org_cannot_be_addressed(stack, org, echo):
    other = stack.new_org()
    r = complete(other, {"model": echo, "messages": user("x")})
    assert r.status == 403 and r.json["error"]["code"] == "instance_forbidden"
    assert complete(other, {"model": "echo", "messages": user("x")}).status == 404


def test_a_sys_admin_addresses_apps_by_id(stack, org, echo):
    r = complete(org, {"model": echo, "messages": user("x")}, stack.sys.token)
    assert r.status == 200 and r.json["choices"][0]["message"]["content"] == "> x"
    assert complete(org, {"model": "echo", "messages": user("x")}, stack.sys.token).status == 404


def test_a_demand_app_is_loaded_by_its_first_completion(org):
    app = org.new_app(tier="demand")
    assert complete(org, {"model": app, "messages": user("x")}).status == 200
