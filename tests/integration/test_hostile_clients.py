# SPDX-License-Identifier: Apache-2.0
"""Clients that are silent, slow, many, or send what is no request: the application stays answering."""
import contextlib
import json
import pathlib
import socket

import pytest

import fastcgi
from harness import eventually

# Who waits for the end of an idle one's time waits too long.
OPTIONS = {"app": {"threads_max": 8, "io_timeout_s": 3600}, "front": {"server.max-read-idle": 3600}}
IDLE = 1000


@pytest.fixture
def served(stack, org):
    """Afterwards the same process serves, and its threads are free: more requests than threads are answered."""
    app = org.new_app(tier="hot")
    org.admin.load(app)
    pid = stack.app.pid
    yield app
    for _ in range(12):
        assert org.member.chat_ok(app, "still here") == "still here"
    assert stack.app.pid == pid


def connect(stack):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(str(stack.app.socket))
    return s


def begun(stack, **params):
    """A request up to its parameters."""
    client = fastcgi.Client(stack.app.socket)
    client.begin()
    client.params(**params)
    return client


def test_a_thousand_silent_connections_at_the_socket_hold_nobody_up(stack, org, served):
    with contextlib.ExitStack() as idle:
        for _ in range(IDLE):
            idle.enter_context(contextlib.closing(connect(stack)))
        for i in range(50):
            assert org.member.chat_ok(served, str(i)) == str(i)
        assert org.admin.reload(served)["state"] == "succeeded"


def test_a_thousand_idle_clients_of_the_web_server_hold_nobody_up(stack, org, served):
    with contextlib.ExitStack() as idle:
        for i in range(IDLE):
            s = idle.enter_context(contextlib.closing(socket.create_connection(("127.0.0.1", stack.lighttpd.port), timeout=30)))
            if i % 2:
                s.sendall(b"POST /api/orgs HTTP/1.1\r\nHost: x\r\nContent-Le")
        for i in range(50):
            assert org.member.chat_ok(served, str(i)) == str(i)


def test_more_requests_that_stop_half_way_than_threads_hold_nobody_up(stack, org, served):
    with contextlib.ExitStack() as held:
        for _ in range(10):
            no_input = begun(stack, REQUEST_METHOD="POST", REQUEST_URI=org.member.chat_path, CONTENT_LENGTH=100)
            no_input.send("part 3", b"{  ")
            held.callback(no_input.hang_up)
            no_end = fastcgi.Client(stack.app.socket)
            no_end.begin()
            no_end.record(fastcgi.PARAMS, b"\x0e\x03REQ", length=500)
            held.callback(no_end.hang_up)
            large = begun(stack, REQUEST_METHOD="POST", REQUEST_URI=org.member.chat_path, CONTENT_LENGTH=900000,
                          HTTP_AUTHORIZATION=f"Bearer {org.member.token}")
            large.send("part 40000", b"[" * 40000)
            held.callback(large.hang_up)
        for i in range(30):
            assert org.member.chat_ok(served, str(i)) == str(i)


def test_what_is_no_request_is_hung_up_on(stack, org, served):
    for kind, content, more in (
            (fastcgi.BEGIN, b"\0\1\0\0\0\0\0\0", {"version": 2}), (fastcgi.BEGIN, b"\0\1\0\0\0\0\0\0", {"request_id": 0}),
            (fastcgi.BEGIN, b"\0\3\0\0\0\0\0\0", {}), (fastcgi.BEGIN, b"\0\1\0\0\0\0\0\0", {"padding": 8}),
            (9, b"\x0f\0FCGI_MPXS_CONNS", {"request_id": 0})):
        client = fastcgi.Client(stack.app.socket)
        client.record(kind, content, **more)
        assert client.read() is None, (kind, content, more)
        client.hang_up()
    # libfcgi's assertion would end the process on these lengths.
    for lengths in (b"\xff" * 8, b"\xff\xff\xff\xfe\x80\0\0\x10", b"\xc0\0\0\0\xc0\0\0\0", b"\x80\1\0\1\0"):
        client = fastcgi.Client(stack.app.socket)
        client.begin()
        client.record(fastcgi.PARAMS, lengths)
        assert client.read() is None, lengths
        client.hang_up()


def test_bodies_longer_and_shorter_than_announced_are_told_so(stack, org, served):
    good = json.dumps({"instance_id": served, "message": "x", "stream": False}).encode()
    for announced, body, status in ((len(good), good + b"x" * 500, b"413"), (len(good) + 1, good, b"400"), (len(good), good, b"200")):
        client = begun(stack, REQUEST_METHOD="POST", REQUEST_URI=org.member.chat_path, CONTENT_LENGTH=announced,
                       CONTENT_TYPE="application/json", HTTP_AUTHORIZATION=f"Bearer {org.member.token}")
        client.send(f"input {len(body)}", body)
        answer = client.read()
        client.hang_up()
        assert answer.startswith(b"Status: " + status), (announced, answer)


def test_header_floods_are_refused_or_answered(stack, org, served):
    for headers in ({f"X-{i}": "v" for i in range(3000)}, {"X": "v" * 60000}, {"X" * 30000: "v"}):
        with contextlib.suppress(OSError):  # the web server may hang up while we send
            r = org.member.call("GET", org.member.app_path(served), headers=headers)
            assert r.status in (200, 400, 413, 431), r.status
    many = {f"HTTP_X_{i}": "v" for i in range(2000)}
    client = begun(stack, REQUEST_METHOD="GET", REQUEST_URI="/healthz", **many)
    client.send("input 0")
    assert client.read().startswith(b"Status: 200")
    client.hang_up()
    client = begun(stack, REQUEST_METHOD="GET", REQUEST_URI="/healthz", **{f"HTTP_X_{i}": "v" * 1000 for i in range(100)})
    assert client.read() is None  # more than parameters may have together
    client.hang_up()


def chat_in_chunks(stack, member, chunks):
    """(status, whether the application gave it)"""
    s = stack.http.raw(f"POST {member.chat_path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                       f"Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n"
                       f"Authorization: Bearer {member.token}\r\n\r\n".encode() + chunks)
    with contextlib.closing(s), s.makefile("rb") as answer:
        return int(answer.readline().split()[1]), b"X-Request-Id" in answer.read()


def test_chunked_garbage_is_refused_by_the_web_server(stack, org, served):
    """What is in the chunks would be answered: only their frames are wrong."""
    good = json.dumps({"instance_id": served, "message": "x", "stream": False}).encode()
    size, end = b"%x\r\n" % len(good), b"\r\n0\r\n\r\n"
    assert chat_in_chunks(stack, org.member, size + good + end) == (200, True)
    for first, last in ((b"zz\r\n", end), (b"f" * 18 + b"\r\n", end), (b"-" + size, end), (size, b"XX" + end)):
        status, is_ours = chat_in_chunks(stack, org.member, first + good + last)
        assert status in (400, 411) and not is_ours, (first, last, status, is_ours)


def test_hang_ups_in_the_middle_leave_nothing_behind(stack, org, served):
    for i in range(30):
        client = begun(stack, REQUEST_METHOD="POST", REQUEST_URI=org.member.chat_path, CONTENT_LENGTH=100)
        if i % 3 == 1:
            client.send("part 10", b"0123456789")
        if i % 3 == 2:
            client.send("half-close")
            assert client.read() is None
        client.hang_up()
    eventually(lambda: stack.next_flush()["turns_in_flight"] == 0)
    # The kernel lists the socket that is listened at, and every connection that the application still holds.
    eventually(lambda: pathlib.Path("/proc/net/unix").read_text().count(f"{stack.app.socket}\n") == 1, 30, "none is held")
