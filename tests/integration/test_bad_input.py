# SPDX-License-Identifier: Apache-2.0
"""Malformed and oversized bodies, broken requests, slow clients: each gets its answer, and nobody else notices."""
import json
import random
import socket
import time

import pytest

from harness import Background, at_once, eventually

OPTIONS = {"app": {"threads_max": 8, "io_timeout_s": 40}}


@pytest.fixture
def served(stack, org):
    """After the test all is as before: requests are answered at once."""
    app = org.new_app(tier="hot")
    org.admin.load(app)
    yield app
    started = time.monotonic()
    assert org.member.chat_ok(app, "x") == "x"
    assert stack.http.request("GET", "/healthz").status == 200
    assert time.monotonic() - started < 20


def head(org, length, method="POST", path=None):
    return (f"{method} {path or org.member.chat_path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {org.member.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").encode()


def answer(s):
    data = b""
    while chunk := s.recv(65536):
        data += chunk
    s.close()
    return data


def test_bodies_of_noise_are_refused(stack, org, served):
    rng = random.Random(7)
    for _ in range(60):
        r = org.member.post(org.member.chat_path, rng.randbytes(rng.randrange(1, 3000)), {"Content-Type": "application/json"})
        assert (r.status, r.code) == (400, "bad_json"), r


def test_every_prefix_and_every_broken_byte_of_a_body_is_refused_or_understood(stack, org, served):
    good = json.dumps({"instance_id": served, "message": "x", "stream": False}).encode()
    for i in range(len(good)):
        assert org.member.post(org.member.chat_path, good[:i], {"Content-Type": "application/json"}).status in (400, 422)
    rng = random.Random(8)
    for _ in range(80):
        body = bytearray(good)
        body[rng.randrange(len(body))] = rng.randrange(256)
        assert org.member.post(org.member.chat_path, bytes(body), {"Content-Type": "application/json"}).status in (200, 400, 403, 404, 422)


@pytest.mark.parametrize("body", [
    b'{"message":' + b"[" * 100000, b'{"message":"\\ud800"}', b'{"message":"\\u0000"}', b'{"message":1e999999}', b'{"message":' + b"9" * 100000 + b"}",
    b'{"' + b"k" * 500000 + b'":1}', b"{" + b",".join(b'"k%d":1' % i for i in range(50000)) + b"}",
])
def test_hostile_json_is_refused(stack, org, served, body):
    r = org.member.post(org.member.chat_path, body, {"Content-Type": "application/json"})
    assert r.status in (400, 413, 422), r


def test_a_body_above_the_limit_is_refused_by_the_application_a_much_longer_one_by_the_web_server(stack, org, served):
    r = org.member.post(org.member.chat_path, b'{"message":"' + b"x" * 1100000 + b'"}', {"Content-Type": "application/json"})
    assert (r.status, r.code) == (413, "too_large")
    s = org.member.http.raw(head(org, 50_000_000))
    assert b" 413 " in answer(s).split(b"\r\n")[0]


def test_a_message_above_its_limit_is_refused(stack, org, served):
    r = org.member.chat(served, "x" * 300000)
    assert (r.status, r.code) == (422, "invalid"), r
    assert org.member.chat_ok(served, "x" * 200000) == "x" * 200000


def test_a_body_shorter_than_it_says_is_no_request(stack, org, served):
    s = org.member.http.raw(head(org, 1000) + b'{"message"')
    s.shutdown(socket.SHUT_WR)
    line = answer(s).split(b"\r\n")[0]
    assert line == b"" or b" 400 " in line, line


def test_slow_uploads_hold_nobody_up(stack, org, served):
    """More dribbling clients than the application has threads."""
    body = json.dumps({"instance_id": served, "message": "slow", "stream": False}).encode()
    slow = [org.member.http.raw(head(org, len(body)) + body[:5]) for _ in range(30)]
    started = time.monotonic()
    for _ in range(10):
        assert org.member.chat_ok(served, "fast") == "fast"
    assert time.monotonic() - started < 20
    for s in slow:
        for i in range(5, len(body), 7):
            s.sendall(body[i:i + 7])
    for s in slow:
        data = answer(s)
        # All come in at the same moment in the end: eight threads may say so.
        assert data.startswith(b"HTTP/1.1 200") and b'"slow"' in data or data.startswith(b"HTTP/1.1 503") and b'"busy"' in data, data


def test_a_client_that_does_not_read_its_stream_holds_nobody_up(stack, org, served):
    app = org.new_app(tier="hot", config={"word_delay_ms": 1})
    org.admin.load(app)
    body = json.dumps({"instance_id": app, "message": "word " * 40000}).encode()
    lazy = []
    for _ in range(3):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", stack.lighttpd.port))
        s.sendall(head(org, len(body)) + body)
        lazy.append(s)
    for _ in range(20):
        assert org.member.chat_ok(served, "x") == "x"
    for s in lazy:
        s.close()
    eventually(lambda: stack.next_flush()["turns_in_flight"] == 0, 40)


def test_more_streams_than_threads_leave_lifecycle_requests_and_probes_served(stack, org, served):
    app = org.new_app(tier="hot", config={"word_delay_ms": 300})
    org.admin.load(app)
    streams = [Background(org.member.chat_stream, app, "word " * 15) for _ in range(12)]
    streams = [s.join() for s in streams]
    assert {s.status for s in streams} <= {200, 503}
    assert 200 in {s.status for s in streams}
    assert stack.http.request("GET", "/healthz").status == 200
    assert org.admin.lifecycle("load", served).status == 202
    for s in streams:
        if s.status == 200:
            assert s.rest()[-1].data.get("done") is True


@pytest.mark.parametrize("line", [
    b"GET /api/orgs/%2e%2e/orchestrators HTTP/1.1", b"GET /api/orgs/..%2f..%2fetc/orchestrators HTTP/1.1", b"GET /admin/..%2f..%2f..%2fetc%2fpasswd HTTP/1.1",
    b"GET /admin/%2e%2e/%2e%2e/app.c HTTP/1.1", b"GET /api/orgs/%ff%fe/orchestrators HTTP/1.1", b"GET /api//orgs HTTP/1.1", b"FOO /healthz HTTP/1.1",
    b"GET /" + b"a" * 6000 + b" HTTP/1.1", b"GET /healthz?" + b"a=b&" * 1000 + b" HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET http://other/healthz HTTP/1.1",
])
def test_strange_targets_find_nothing(stack, org, served, line):
    s = org.member.http.raw(line + f"\r\nHost: x\r\nAuthorization: Bearer {org.member.token}\r\nConnection: close\r\n\r\n".encode())
    data = answer(s)
    status = int(data.split(b" ")[1])
    assert status in (200, 400, 401, 403, 404, 405, 414, 431, 501), data[:300]
    assert b"root:" not in data and b"#include" not in data
    if status == 200:
        assert b"/healthz" in line or line.startswith(b"OPTIONS")


def test_strange_headers_are_no_trouble(stack, org, served):
    for headers in ({"Prefer": "wait=99999999999999999999"}, {"Prefer": "wait=-1"}, {"Prefer": "wait"}, {"X-Request-Id": "x" * 3000},
                    {"X-Request-Id": "a b\tc"}, {"Accept": "x" * 5000}):
        r = org.admin.get(org.admin.app_path(served), headers)
        assert r.status == 200, (headers, r)
        assert len(r.headers["X-Request-Id"]) <= 64
    for token in ("x" * 5000, "hrt_" + "A" * 42, "hrt_" + "A" * 44):
        r = stack.http.request("GET", org.admin.app_path(served), headers={"Authorization": f"Bearer {token}"})
        assert (r.status, r.code) == (401, "unauthorized"), r


def test_names_in_every_language_and_with_markup_come_back_as_they_were(stack, org, served):
    for name in ("Ünïcödé 日本語", "<script>alert(1)</script>", "'; DROP TABLE organizations; --", "a\"b\\c", "%s%n%d", "😀"):
        app = org.new_app(name=name)
        assert org.admin.app(app)["name"] == name
    r = org.admin.post(f"/api/orgs/{org.id}/orchestrators", {"name": "a\u0000b", "framework_type": "echo"})
    assert r.status in (400, 422)


def test_a_hundred_requests_at_once_on_eight_threads_are_all_answered(stack, org, served):
    answers = at_once(*[lambda i=i: org.member.chat(served, str(i)) for i in range(100)])
    statuses = {r.status for r in answers}
    assert statuses <= {200, 503}, statuses
    assert all(r.json["response"] == str(i) for i, r in enumerate(answers) if r.status == 200)
    assert all(r.code in ("busy", "too_many_turns") for r in answers if r.status == 503)
