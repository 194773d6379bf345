# SPDX-License-Identifier: Apache-2.0
"""Another org's token gets nothing of this org's: for every route of `hearth.fcgi --routes`, so that a new route cannot be forgotten."""
import json
import re
import subprocess
import uuid

import pytest

from harness import PATH, SANITIZERS, program

SECRET = "only-for-the-owner"
OPEN = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/admin"), ("GET", "/admin/"), ("GET", "/admin/{file}")}


def routes():
    out = subprocess.run([program("hearth.fcgi"), "--routes"], capture_output=True, text=True, check=True,
                         env={"PATH": PATH, **SANITIZERS}).stdout
    return json.loads(out)


ROUTES = routes()
CLOSED = [r for r in ROUTES if (r["method"], r["path"]) not in OPEN]


def name(route):
    return f"{route['method']} {route['path']}"


class World:
    """An org with something in it of every kind, and a stranger."""

    def __init__(self, stack):
        self.stack = stack
        self.owner = stack.new_org(name=f"{SECRET}-org")
        self.stranger = stack.new_org()
        self.app = self.owner.new_app(tier="hot", name=f"{SECRET}-app", config={"prefix": SECRET})
        self.operation = self.owner.admin.load(self.app)["operation_id"]
        self.owner.admin.configure(self.app, prefix=f"{SECRET} ")  # so that there is something to go back to
        self.token = self.owner.new_token("member")["token_id"]
        self.llm_config = self.owner.llm_config(name=f"{SECRET}-llm")["llm_config_id"]
        self.conversation = self.new_conversation(stack.db)
        self.own_app = self.stranger.new_app()

    def new_conversation(self, db):
        """Of the token above, with the secret in it."""
        made = str(uuid.uuid4())
        db.run(f"INSERT INTO conversations (conversation_id, org_id, token_id, instance_id, message_count, created_at, updated_at) "
               f"VALUES ('{made}', '{self.owner.id}', '{self.token}', '{self.app}', 1, NOW(3), NOW(3))")
        db.run(f"INSERT INTO conversation_messages (conversation_id, n, role, content, created_at) "
               f"VALUES ('{made}', 1, 'user', '{SECRET}', NOW(3))")
        return made

    def items(self, route):
        """What {item} is in this route."""
        known = {"/operations/": self.operation, "/llm-configs/": self.llm_config, "/tokens/": self.token,
                 "/conversations/": self.conversation}
        return next((item for part, item in known.items() if part in route["path"]), "{item}")

    def path(self, route, org, app):
        path = route["path"].replace("{org}", org.id).replace("{id}", app).replace("{item}", self.items(route))
        path = path.replace("{file}", app).replace("{version}", "1")
        assert "{" not in path, f"this story does not know what to put into {path}"
        return path

    def body(self, route):
        if route["path"].endswith("/chat/completion"):
            return {"instance_id": self.app, "message": "x", "stream": False}
        if route["path"].endswith("/chat/completions"):
            return {"model": self.app, "messages": [{"role": "user", "content": "x"}]}
        bodies = {"/rollback": {"version": 1}, "/config": {"config": {"prefix": "stolen"}}, "/status": {"status": "suspended"}, "/tokens": {"name": "t", "role": "member"},
                  "/orchestrators": {"name": "stolen", "framework_type": "echo"}, "/orgs": {"name": "stolen"},
                  "/llm-configs": {"name": "stolen", "provider": "openai", "base_url": "https://1.1.1.1", "api_key": "k"}}
        for end, body in bodies.items():
            if route["path"].endswith(end):
                return body
        return {"name": "stolen"} if route["method"] == "PATCH" else None

    def send(self, route, path, token):
        body = self.body(route) if route["method"] in ("POST", "PATCH", "PUT") else None
        return self.stack.http.request(route["method"], path, token, body)

    def state(self):
        """All rows of the owner that a request could have changed."""
        db = self.stack.db
        return [db.run(f"SELECT * FROM {table} WHERE org_id = '{self.owner.id}' ORDER BY 1")
                for table in ("organizations", "orchestrator_instances", "operations", "placements", "llm_configs", "sealed_values", "conversations", "instance_versions")] + [
            db.run(f"SELECT token_id, role, revoked_at, expires_at FROM api_tokens WHERE org_id = '{self.owner.id}' ORDER BY 1")]


@pytest.fixture(scope="module")
def world(module_stack):
    return World(module_stack)


def is_openai(route):
    return route["path"].startswith("/v1/")


def nothing_of_the_owner(r):
    text = r.body.decode()
    assert SECRET not in text, r


def test_the_list_of_routes_is_the_whole_api():
    paths = {(r["method"], r["path"]) for r in ROUTES}
    assert ("POST", "/api/orgs/{org}/orchestrators/{id}/load") in paths and ("POST", "/api/orgs/{org}/chat/completion") in paths
    assert len(paths) == len(ROUTES) > 25
    for r in ROUTES:
        assert set(re.findall(r"{(\w+)}", r["path"])) <= {"org", "id", "item", "version", "file"}, r
        # Who needs no token gives nothing of anybody.
        assert ((r["method"], r["path"]) in OPEN) == (r["permission"] in (None, "", "none")), r


@pytest.mark.parametrize("route", CLOSED, ids=name)
def test_without_a_token_nothing(stack, world, route):
    before = world.state()
    r = world.send(route, world.path(route, world.owner, world.app), None)
    assert (r.status, r.code) == (401, "invalid_api_key" if is_openai(route) else "unauthorized"), r
    nothing_of_the_owner(r)
    assert world.state() == before


@pytest.mark.parametrize("role", ["org_admin", "member"])
@pytest.mark.parametrize("route", CLOSED, ids=name)
def test_with_a_strangers_token_nothing_of_the_owner(stack, world, route, role):
    token = (world.stranger.admin if role == "org_admin" else world.stranger.member).token
    before = world.state()
    r = world.send(route, world.path(route, world.owner, world.app), token)
    if is_openai(route):  # no org in the path: the token's own is meant
        assert r.status == 200 and world.app not in r.body.decode() or r.code in ("instance_forbidden", "model_not_found"), r
    else:
        assert r.status == 403 and r.code in ("org_mismatch", "forbidden"), r
    if route["scope"] in ("org", "instance"):
        assert r.code == "org_mismatch", r
    nothing_of_the_owner(r)
    assert world.state() == before


@pytest.mark.parametrize("route", [r for r in CLOSED if r["scope"] in ("org", "instance")], ids=name)
def test_the_owners_things_are_not_found_under_the_strangers_org(stack, world, route):
    before = world.state()
    r = world.send(route, world.path(route, world.stranger, world.app), world.stranger.admin.token)
    names_a_thing = "{id}" in route["path"] or "{item}" in route["path"] or route["path"].endswith("/chat/completion")
    if names_a_thing:
        assert r.status in (403, 404) and r.code in (
            "instance_forbidden", "operation_not_found", "token_not_found", "llm_config_not_found", "conversation_not_found"), r
    nothing_of_the_owner(r)
    assert world.state() == before


def test_the_owner_is_served(world, stack):
    """The same paths are no dead ends."""
    assert SECRET in world.owner.member.chat_ok(world.app, "x")
    for tail in ("", "/versions/1", "/versions/2?compare=1"):
        assert SECRET in world.owner.admin.get(world.owner.admin.app_path(world.app, tail)).body.decode()
