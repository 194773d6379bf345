# SPDX-License-Identifier: Apache-2.0
"""Clients: HTTP, event streams, the API as a role of an org sees it."""
import contextlib
import http.client
import json
import secrets
import socket
import struct

from basics import SLOW, eventually


class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The problem document's code, below /v1 the error's; None where it is none."""
        if self.status >= 400 and self.body.startswith(b'{"error":'):
            return self.json["error"]["code"]
        if "application/problem+json" not in self.headers.get("Content-Type", ""):
            return None
        return self.json["code"]

    def __repr__(self):
        return f"<{self.status} {self.body[:400]!r}>"


class Event:
    def __init__(self, name, data):
        self.name, self.data = name, data

    def __repr__(self):
        return f"{self.name}: {self.data}"


class Stream:
    """A response that is read while it comes: server-sent events."""

    def __init__(self, connection, response):
        self.connection, self.response = connection, response
        self.status, self.headers = response.status, response.headers
        self.comments = 0

    def __iter__(self):
        name, data = "message", []
        while True:
            line = self.response.readline()
            if not line:
                assert not data, f"the stream ended inside an event: {data}"
                return
            line = line.rstrip(b"\r\n").decode()
            if not line:
                if data:
                    yield Event(name, json.loads("\n".join(data)))
                name, data = "message", []
            elif line.startswith(":"):
                self.comments += 1
            else:
                key, _, value = line.partition(":")
                value = value[1:] if value.startswith(" ") else value
                if key == "event":
                    name = value
                elif key == "data":
                    data.append(value)

    def first(self):
        """The first metadata event: from here on the turn is accepted."""
        event = next(iter(self))
        assert event.name == "metadata", event
        return event

    def rest(self):
        return list(self)

    def hang_up(self):
        """Goes away as a browser does whose window is closed: with a reset."""
        sock = self.connection.sock or self.response.fp.raw._sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        self.response.close()
        self.connection.close()


def text_of(events):
    """The answer that a stream's message events make."""
    return "".join(e.data["content"] for e in events if e.name == "message")


class Http:
    """One connection per request, to 127.0.0.1:port."""

    def __init__(self, port):
        self.port = port

    def _send(self, method, path, token=None, body=None, headers=None, timeout=60):
        headers = dict(headers or {})
        if token:
            headers.setdefault("Authorization", f"Bearer {token}")
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        if isinstance(body, str):
            body = body.encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout * SLOW)
        connection.request(method, path, body=body, headers=headers)
        return connection, connection.getresponse()

    def request(self, method, path, token=None, body=None, headers=None, timeout=60):
        connection, response = self._send(method, path, token, body, headers, timeout)
        with contextlib.closing(connection):
            return Response(response.status, response.headers, response.read())

    def stream(self, method, path, token=None, body=None, headers=None, timeout=60):
        return Stream(*self._send(method, path, token, body, headers, timeout))

    def raw(self, data, timeout=60):
        """A socket on which the bytes were sent: for what http.client refuses to send."""
        s = socket.create_connection(("127.0.0.1", self.port), timeout=timeout * SLOW)
        s.sendall(data)
        return s


class Api:
    """The API with one token. The calls return the Response; what ends in _ok has looked at it."""

    def __init__(self, http, token, org_id=None):
        self.http, self.token, self.org_id = http, token, org_id

    def call(self, method, path, body=None, headers=None, timeout=60):
        return self.http.request(method, path, self.token, body, headers, timeout)

    def get(self, path, headers=None):
        return self.call("GET", path, headers=headers)

    def post(self, path, body=None, headers=None):
        return self.call("POST", path, body, headers)

    def patch(self, path, body=None, headers=None):
        return self.call("PATCH", path, body, headers)

    def delete(self, path):
        return self.call("DELETE", path)

    # What follows is of the org.
    def app_path(self, app, tail=""):
        return f"/api/orgs/{self.org_id}/orchestrators/{app}{tail}"

    def app(self, app):
        r = self.get(self.app_path(app))
        assert r.status == 200, r
        return r.json

    def operation(self, operation_id):
        r = self.get(f"/api/orgs/{self.org_id}/operations/{operation_id}")
        assert r.status == 200, r
        return r.json

    def operations(self, app):
        items, after = [], None
        while True:
            r = self.get(self.app_path(app, "/operations?limit=100" + (f"&after={after}" if after else "")))
            assert r.status == 200, r
            items += r.json["items"]
            after = r.json["next"]
            if not after:
                return items

    def lifecycle(self, what, app, body=None, wait=None):
        return self.post(self.app_path(app, "/" + what), body, {"Prefer": f"wait={wait}"} if wait else None)

    def ended(self, operation_id, timeout=20):
        """The operation, once it has ended."""
        return eventually(
            lambda: (op := self.operation(operation_id))["state"] not in ("accepted", "running") and op,
            timeout,
            f"operation {operation_id} has ended",
        )

    def lifecycle_ok(self, what, app, body=None):
        """Asks for it, waits, and wants it to have succeeded."""
        r = self.lifecycle(what, app, body)
        assert r.status == 202, r
        op = self.ended(r.json["operation_id"])
        assert op["state"] == "succeeded", op
        return op

    def load(self, app, body=None):
        return self.lifecycle_ok("load", app, body)

    def unload(self, app, body=None):
        return self.lifecycle_ok("unload", app, body)

    def reload(self, app, body=None):
        return self.lifecycle_ok("reload", app, body)

    def configure(self, app, **config):
        """Replaces the configuration and waits for what that causes."""
        r = self.patch(self.app_path(app, "/config"), {"config": config})
        assert r.status == 200, r
        if r.json["operation_id"]:
            return self.ended(r.json["operation_id"])
        return None

    @property
    def chat_path(self):
        return f"/api/orgs/{self.org_id}/chat/completion"

    def chat(self, app, message="hello", timeout=60, **more):
        return self.call("POST", self.chat_path, {"instance_id": app, "message": message, "stream": False, **more},
                         timeout=timeout)

    def chat_ok(self, app, message="hello"):
        r = self.chat(app, message)
        assert r.status == 200, r
        return r.json["response"]

    def chat_stream(self, app, message="hello", timeout=60, **more):
        return self.http.stream("POST", self.chat_path, self.token,
                                {"instance_id": app, "message": message, **more}, timeout=timeout)


class Org:
    """One organization with a token of each role."""

    def __init__(self, stack, name=None, **fields):
        self.stack = stack
        self.name = name or f"org-{secrets.token_hex(6)}"
        r = stack.sys.post("/api/admin/orgs", {"name": self.name, **fields})
        assert r.status == 201, r
        self.id = r.json["org_id"]
        self.admin = Api(stack.http, self.new_token("org_admin")["token"], self.id)
        self.member = Api(stack.http, self.new_token("member")["token"], self.id)

    def new_token(self, role, **fields):
        r = self.stack.sys.post(f"/api/orgs/{self.id}/tokens", {"name": f"{role} {secrets.token_hex(4)}",
                                                                "role": role, **fields})
        assert r.status == 201, r
        return r.json

    def new_app(self, tier="demand", config=None, **fields):
        """Makes an echo App and returns its id."""
        r = self.admin.post(f"/api/orgs/{self.id}/orchestrators", {
            "name": f"app-{secrets.token_hex(6)}", "framework_type": "echo", "tier": tier, "config": config or {},
            **fields})
        assert r.status == 201, r
        return r.json["instance_id"]

    def llm_config(self, **fields):
        """Makes an LLM config, with a key, and returns what was answered."""
        r = self.admin.post(f"/api/orgs/{self.id}/llm-configs", {
            "name": f"llm-{secrets.token_hex(6)}", "provider": "openai", "base_url": "https://1.1.1.1/v1",
            "api_key": f"sk-{secrets.token_hex(16)}", **fields})
        assert r.status == 201, r
        return r.json

    def new_llm_config(self, provider, base_url, **fields):
        """The same of this provider; returns its id."""
        return self.llm_config(provider=provider, base_url=base_url, **fields)["llm_config_id"]

    def hot_apps(self, count, **fields):
        """Makes as many hot Apps, loads them all at once, and returns their ids."""
        apps = [self.new_app(tier="hot", **fields) for _ in range(count)]
        operations = [self.admin.lifecycle("load", app).json["operation_id"] for app in apps]
        ended = [self.admin.ended(op, 40) for op in operations]
        assert {op["state"] for op in ended} == {"succeeded"}, ended
        return apps

    def suspend(self):
        """All its Apps leave."""
        r = self.stack.sys.patch(f"/api/admin/orgs/{self.id}/status", {"status": "suspended"})
        assert r.status == 200, r
