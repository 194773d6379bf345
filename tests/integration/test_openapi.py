# SPDX-License-Identifier: Apache-2.0
"""docs/openapi.yaml against the program: the fields, headers and codes of its answers, roles, and the bounds of what it takes."""
import json
import re
import sys
import uuid

import jsonschema
import pytest
import yaml

from api import Api, Http, Org
from harness import SOURCE, eventually

sys.path.insert(0, str(SOURCE / "tests/fake"))
import provider as fake  # noqa: E402

OPTIONS = {"llm": {"allowed_networks": "127.0.0.0/8", "breaker_failures": 1, "attempts_max": 1, "retry_max_s": 1}}
ALLOWED = ["model call failed", "breaker llm_config", "App failed"]
EVERYWHERE = {"busy", "internal", "not_found", "method_not_allowed"}
DOCUMENT = yaml.safe_load((SOURCE / "docs/openapi.yaml").read_text())
ROLES = ("member", "org_admin", "sys_admin")


# --- the document ---


def resolve(node):
    """What stands behind a $ref, and its name."""
    name = ""
    while "$ref" in node:
        at, name = DOCUMENT, node["$ref"].rpartition("/")[2]
        for step in node["$ref"].removeprefix("#/").split("/"):
            at = at[step]
        node = at
    return node, name


def strict(schema, at):
    """The schema without references, in which a field that is not described is wrong, as in x-is-closed ones anyway. x-at
    says where its fields are described."""
    schema, name = resolve(schema)
    at = name or at
    made = {k: v for k, v in schema.items() if k not in ("properties", "items", "oneOf", "allOf")}
    made["x-at"], made["x-is-closed"] = {}, schema.get("additionalProperties") is False
    if "properties" in schema:
        made["properties"] = {k: strict(v, f"{at}.{k}") for k, v in schema["properties"].items()}
        made["x-at"] = {k: f"{at}.{k}" for k in made["properties"]}
    for part in (strict(p, at) for p in schema.get("allOf", [])):
        made = {**part, **made, "x-at": {**part["x-at"], **made["x-at"]},
                "properties": {**part["properties"], **made.get("properties", {})}}
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    if "items" in schema:
        made["items"] = strict(schema["items"], f"{at}[]")
    if "oneOf" in schema:
        made["oneOf"] = [strict(s, at) for s in schema["oneOf"]]
    return made


def is_valid(schema, value):
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).is_valid(value)


def fields_of(schema):
    """All that it describes."""
    found = set(schema["x-at"].values())
    for inner in [*schema.get("properties", {}).values(), *schema.get("oneOf", []), *([schema["items"]] if "items" in schema else [])]:
        found |= fields_of(inner)
    return found


def fields_in(schema, value):
    """Those of them that the value has."""
    found = set()
    if isinstance(value, dict):
        for k in value.keys() & schema.get("properties", {}).keys():
            found |= {schema["x-at"][k]} | fields_in(schema["properties"][k], value[k])
    for inner in schema.get("oneOf", []):
        if is_valid(inner, value):
            found |= fields_in(inner, value)
    for v in value if isinstance(value, list) and "items" in schema else []:
        found |= fields_in(schema["items"], v)
    return found


OPERATIONS = [(m.upper(), p, op) for p, methods in DOCUMENT["paths"].items() for m, op in methods.items() if m != "parameters"]


def operation_of(method, path):
    """A path without braces is looked for first."""
    for m, template, op in sorted(OPERATIONS, key=lambda o: "{" in o[1]):
        if m == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path.partition("?")[0]):
            return op
    raise AssertionError(f"{method} {path} is not described")


class Seen:
    """What was answered so far, each held against the document."""

    def __init__(self):
        self.fields, self.described, self.operations = set(), set(), set()
        for _, _, op in OPERATIONS:
            for answer in op["responses"].values():
                for kind, content in resolve(answer)[0].get("content", {}).items():
                    for schema in self.schemas(kind, content["schema"]).values():
                        self.described |= fields_of(schema)

    @staticmethod
    def schemas(kind, schema):
        """By the event's name, "" where it has none."""
        node, name = resolve(schema)
        if kind != "text/event-stream":
            return {"": strict(schema, "answer")}
        events = node.get("x-events") or {"": node["x-chunk"]}
        return {k: strict(v, f"{name}.{k}") for k, v in events.items()}

    def look(self, schema, value, what):
        errors = [f"{e.json_path}: {e.message}" for e in jsonschema.Draft202012Validator(
            schema, format_checker=jsonschema.FormatChecker()).iter_errors(value)]
        assert not errors, (what, errors, value)
        self.fields |= fields_in(schema, value)

    def answer(self, method, path, r):
        op, what = operation_of(method, path), f"{method} {path}: {r}"
        is_success = str(r.status) in op["responses"]
        described = resolve(op["responses"][str(r.status) if is_success else "default"])[0]
        kind = r.headers.get("Content-Type", "").partition(";")[0]
        if is_success:
            self.operations.add(op["operationId"])
            for name in ("Location", "Preference-Applied"):
                has = name in r.headers
                assert has == (name in described.get("headers", {})) or (name, has) == ("Preference-Applied", False), (name, what)
        else:
            assert r.code in {*op["x-problem-codes"], *EVERYWHERE}, what
        if not r.body or op["operationId"] in ("adminPage", "adminFile") and is_success:
            return
        schemas = self.schemas(kind, described["content"][kind]["schema"])
        if kind != "text/event-stream":
            self.look(schemas[""], r.json, what)
            return
        for event in r.body.decode().split("\n\n"):
            parts = dict(line.split(": ", 1) for line in event.splitlines() if not line.startswith(":"))
            if parts and parts["data"] != "[DONE]":
                self.look(schemas[parts.get("event", "")], json.loads(parts["data"]), what)


class CheckedHttp(Http):
    """Looks at each answer."""

    def __init__(self, port, seen):
        super().__init__(port)
        self.seen = seen

    def request(self, method, path, *args, **more):
        r = super().request(method, path, *args, **more)
        self.seen.answer(method, path, r)
        return r


@pytest.fixture
def seen(stack):
    """The stack's clients, orgs' too, look at each answer."""
    was, seen = stack.http, Seen()
    stack.http = stack.sys.http = CheckedHttp(was.port, seen)
    yield seen
    stack.http = stack.sys.http = was


@pytest.fixture
def provider():
    with fake.Provider() as p:
        yield p


def user(text):
    return [{"role": "user", "content": text}]


# --- answers ---


def use_organizations(sys, org):
    path = f"/api/admin/orgs/{org.id}"
    assert sys.get("/api/admin/orgs?limit=1").status == sys.get(path).status == 200
    assert sys.patch(path, {"quotas": {"hot": 50}, "ttl_seconds": 60}).status == 200
    assert sys.patch(path, {"ttl_seconds": 0}).code == "invalid"
    assert sys.patch(path + "/status", {"status": "active"}).status == 200
    for tokens, body in (("/api/admin/tokens", {"name": "x"}), (f"/api/orgs/{org.id}/tokens", {"name": "x", "role": "member"})):
        made = sys.post(tokens, body)
        assert made.status == 201 and sys.get(tokens).status == 200
        assert sys.delete(f"{tokens}/{made.json['token_id']}").status == 204


def use_echo(org):
    admin, app = org.admin, org.new_app(tier="hot", name="echo", config={"prefix": "> ", "word_delay_ms": 1, "build_delay_ms": 1, "build_fail": None})
    assert admin.lifecycle("load", app, wait=30).json["state"] == "succeeded"
    assert org.member.chat_ok(app) == "> hello" and org.member.chat(app, stream=True).status == 200
    assert admin.patch(admin.app_path(app), {"name": "echo", "replicas": 1}).status == 200
    assert admin.configure(app, prefix="< ", build_fail="broken by the story")["state"] == "failed"
    assert admin.get(admin.app_path(app, "/versions")).status == admin.get(admin.app_path(app, "/versions/2?compare=1")).status == 200
    back = admin.post(admin.app_path(app, "/rollback"), {"version": 1})
    assert back.status == 200 and admin.ended(back.json["operation_id"])["state"] == "succeeded"
    for model in ("echo", app):
        assert org.member.get(f"/v1/models/{model}").status == 200
        for more in ({}, {"stream": True, "stream_options": {"include_usage": True}}):
            assert org.member.post("/v1/chat/completions", {"model": model, "messages": user("x"), **more}).status == 200
    assert org.member.get("/v1/models").json["data"] and org.member.get("/v1/models/nosuch").code == "model_not_found"
    for tail in ("", "/operations", "/stats"):
        assert admin.get(admin.app_path(app, tail)).status == 200
    assert admin.lifecycle("reload", app).status == admin.lifecycle("unload", app).status == 202
    eventually(lambda: org.member.chat(app).code == "instance_not_loaded", 20)
    assert admin.patch(admin.app_path(app, "/status"), {"status": "suspended"}).status == 200
    assert org.member.chat(app).code == "instance_suspended"
    assert org.member.post("/v1/chat/completions", {"model": app, "messages": user("x")}).code == "instance_suspended"
    assert admin.delete(admin.app_path(app)).json["is_deleted"] and admin.get(admin.app_path(app)).code == "instance_deleted"
    failing = org.new_app(tier="hot", config={"build_fail": "broken by the story"})
    assert admin.lifecycle("load", failing, wait=30).json["state"] == "failed"
    eventually(lambda: org.member.chat(failing).json.get("reason") == "broken by the story")  # and is not just tried again


def use_llm_configs(org, llm):
    path = f"/api/orgs/{org.id}/llm-configs"
    assert org.admin.get(path).status == org.admin.get(f"{path}/{llm}").status == 200
    assert org.admin.patch(f"{path}/{llm}", {"defaults": {"temperature": 0.5}}).status == 200
    assert org.admin.delete(f"{path}/{llm}").json["used_by"]
    spare = org.llm_config(extra_headers={"X-Team": "t"})["llm_config_id"]
    assert org.admin.delete(f"{path}/{spare}").status == 204


def use_agent(org, provider):
    config = {"llm_config_id": org.new_llm_config("openai", provider.url), "model": "m", "system_prompt": "Be kind.",
              "parameters": {"temperature": 1}, "tools": ["calculator", "fetch_url"], "fetch_url": {"allow": ["https://docs.example.com/"]},
              "limits": {"hops": 3, "tool_calls": 3, "seconds": 60, "tokens": 1000, "bytes": 4096, "turns": 5},
              "history": {"messages": 10, "tokens": 1000}, "probe": "connect", "openai": {"parameters": ["seed"], "client_tools": True}}
    app = org.new_app(tier="hot", framework_type="agent", name="agent", config=config)
    org.admin.load(app)
    provider.script("m", fake.call("calculator", {"expression": "6*7"}), fake.text("It is 42."))
    assert org.member.chat(app, stream=True).status == 200
    conversations = f"/api/orgs/{org.id}/conversations"
    one, = org.member.get(conversations).json["items"]
    assert org.member.get(f"{conversations}/{one['conversation_id']}").json["messages"]
    assert org.member.delete(f"{conversations}/{one['conversation_id']}").status == 204
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    provider.script("m", fake.call("weather", {"town": "Bonn"}))
    for stream in (False, True):
        r = org.member.post("/v1/chat/completions", {"model": "agent", "messages": user("x"), "tools": tools, "stream": stream})
        assert r.status == 200 and b"Bonn" in r.body
    use_llm_configs(org, config["llm_config_id"])
    eventually(lambda: org.admin.app(app)["generation"] == 3 and org.admin.app(app)["state"] == "ready", 30)
    # Its breaker opens; what had begun is told in the stream, what had not as a problem.
    cut = fake.raw(fake.chunk(content="a"), is_cut=True)
    provider.script("m", cut)
    assert b'"error"' in org.member.post("/v1/chat/completions", {"model": "agent", "messages": user("x"), "stream": True}).body
    assert org.member.chat(app).code == "provider_unavailable"
    assert b"event: error" in org.member.chat(app, stream=True).body


def use_pool(stack, org):
    w2 = stack.add_worker("w2")
    stack.allow(r"(?i)lease|incarnation|recover|reap")
    w2.kill()
    eventually(lambda: stack.pool()["workers_expired"], 30)
    eventually(lambda: stack.pool()["breakers"] and org.admin.get(f"/api/orgs/{org.id}/pool/stats").json["breakers"], 30)
    for path in ("/api/admin/health", "/api/admin/audit?limit=200", "/healthz", "/readyz", "/admin", "/admin/", "/admin/admin.js"):
        assert stack.sys.get(path).status < 400, path


def test_each_answer_is_as_the_document_says_and_each_field_of_it_is_answered(stack, seen, provider):
    org = Org(stack)
    use_organizations(stack.sys, org)
    use_echo(org)
    use_agent(org, provider)
    use_pool(stack, org)
    assert org.admin.get(org.admin.app_path("", "").rstrip("/")).status == 200
    assert seen.described - seen.fields == set()
    assert seen.operations == {op["operationId"] for _, _, op in OPERATIONS}


# --- roles ---


def test_an_operation_is_for_the_roles_that_the_document_names(stack, org):
    apis = dict(zip(ROLES, (org.member, org.admin, Api(stack.http, stack.sys.token, org.id))))
    stranger = stack.new_org().admin
    for method, template, op in OPERATIONS:
        nobody = str(uuid.uuid4())
        path = template.replace("{org}", org.id).replace("{version}", "1").replace("{file}", nobody)
        path = path.replace("{id}", nobody).replace("{item}", nobody)
        body = {} if method in ("POST", "PATCH") else None
        without = stack.http.request(method, path, None, body)
        assert (without.status == 401) == ("x-roles" in op), (method, path, without)
        if "x-roles" not in op:
            continue
        assert ("forbidden" in op["x-problem-codes"]) == (len(op["x-roles"]) < len(ROLES)), path
        for role, api in apis.items():
            r = api.call(method, path, body)
            assert (r.code == "forbidden") == (role not in op["x-roles"]), (role, method, path, r)
        foreign = stranger.call(method, path, body)
        assert (foreign.code == "org_mismatch") == ("{org}" in template) == ("org_mismatch" in op["x-problem-codes"]), (path, foreign)


# --- what may be sent ---


def refused(schema, value):
    """Values beside the given one that the schema does not take."""
    wrong = []
    if "integer" in schema["type"]:
        wrong += [schema["minimum"] - 1, schema["maximum"] + 1, "1", 1.5]
    if "string" in schema["type"]:
        wrong += ["nosuch"] if "enum" in schema or schema.get("format") else ["x" * (schema["maxLength"] + 1), 1]
        wrong += [""] if schema.get("minLength") else []
    if schema["type"] == "array":
        wrong += [["nosuch"], {}]
        wrong += [value * 2] if schema.get("uniqueItems") else [value[:1] * (schema["maxItems"] + 1)] if value else []
    if schema["type"] == "object":
        wrong += [[], 1]
    return wrong + ([2] if schema["type"] == "boolean" else [])


def taken(schema, value):
    """Those that it takes."""
    right = [value, *schema.get("enum", [])]
    if "integer" in schema["type"]:
        right += [schema["minimum"], schema["maximum"]]
    if "maxLength" in schema:
        right += ["x" * n for n in (max(1, schema.get("minLength", 0)), schema["maxLength"])]
    return right + ([None] if "null" in schema["type"] else [])


def variants(schema, whole):
    """(object, whether it is to be taken), each with one field of it other than it is in the whole."""
    for name, field in schema["properties"].items():
        value = whole[name]
        if field["type"] == "object" and "properties" in field:
            for inner, is_right in variants(field, value):
                yield {**whole, name: inner}, is_right
        for v in taken(field, value):
            yield {**whole, name: v}, True
        for v in refused(field, value):
            yield {**whole, name: v}, False
    for name in schema.get("required", []):
        yield {k: v for k, v in whole.items() if k != name}, False
    if schema["x-is-closed"]:
        yield {**whole, "nosuch": 1}, False


def whole_of(schema, **known):
    """All fields, with their defaults, or what is known."""
    return {k: known[k] if k in known else whole_of(v) if "properties" in v else v["default"] for k, v in schema["properties"].items()}


def bounds_hold(schema, whole, send):
    count = 0
    for body, is_right in variants(schema, whole):
        r = send(body)
        assert (r.status == 200) == is_right and r.status in (200, 422), (is_right, body, r)
        count += 1
    assert count > 10


def test_a_config_is_taken_as_the_document_says(org):
    llm = org.new_llm_config("openai", "http://127.0.0.1:9/v1")
    agent, echo = (strict({"$ref": f"#/components/schemas/{name}"}, "") for name in ("AgentConfig", "EchoConfig"))
    allow = ["https://docs.example.com/"]
    whole = whole_of(agent, llm_config_id=llm, model="m", fetch_url={"allow": allow}, tools=["fetch_url"])
    whole["openai"]["parameters"] = ["seed"]
    for framework, schema, config in (("agent", agent, whole), ("echo", echo, whole_of(echo))):
        assert is_valid(schema, config)
        app = org.new_app(framework_type=framework, config=config)
        bounds_hold(schema, config, lambda c, app=app: org.admin.patch(org.admin.app_path(app, "/config"), {"config": c}))


def test_the_defaults_of_an_agent_are_the_documents():
    numbers = re.findall(r'NUMBER\("(\w+)", "(\w+)", (\d+), (\d+), (\d+), ', (SOURCE / "core/agent_config.c").read_text())
    schema = DOCUMENT["components"]["schemas"]["AgentConfig"]["properties"]
    described = {(group, name): (f["minimum"], f["maximum"], f["default"])
                 for group in ("limits", "history") for name, f in schema[group]["properties"].items()}
    assert {(group, name): tuple(map(int, rest)) for group, name, *rest in numbers} == described and described


def test_changes_are_taken_as_the_document_says(stack, org):
    app, name = strict({"$ref": "#/components/schemas/AppChange"}, ""), strict({"$ref": "#/components/schemas/OrgChange"}, "")
    one = org.new_app()
    bounds_hold(app, {"name": "x", "mode": "single", "tier": "demand", "ttl_seconds": 60, "replicas": 1, "active_plugin_ids": []},
                lambda body: org.admin.patch(org.admin.app_path(one), body))
    bounds_hold(name, {"name": org.name, "quotas": {"instances": 10, "hot": 10, "demand": 10}, "ttl_seconds": 60},
                lambda body: stack.sys.patch(f"/api/admin/orgs/{org.id}", body))
