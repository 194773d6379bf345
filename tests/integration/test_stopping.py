# SPDX-License-Identifier: Apache-2.0
"""Orderly stops and starts of the application: what is in hand is finished, and it starts in any order."""
import re
import signal
import time

import pytest

import fastcgi
from harness import App, Background, Http, Stack, eventually, program, text_of

class Successor(App):
    """Listens where the stack's application did."""

    name = "hearth.fcgi-successor"


class SmallApp(App):
    name = "hearth.fcgi-small"

    def __init__(self, stack):
        super().__init__(stack)
        self.socket = stack.folder / "small.sock"

    def command(self):
        self.stack.write_conf(self.stack.folder / "small.conf", app={"socket": self.socket, "threads_max": 4})
        return [program("hearth.fcgi"), "--config", str(self.stack.folder / "small.conf")]


ALLOWED = [r"(?i)lease|bus|nats|database|mariadb|connect|recover|stream|event"]


@pytest.fixture
def app_up(stack):
    yield
    if not stack.app.is_running():
        stack.app.start()
    eventually(lambda: stack.http.request("GET", "/readyz").status == 200, 30)


def test_sigterm_lets_a_stream_end_and_then_the_application_is_gone(stack, org, app_up):
    app = org.new_app(tier="hot", config={"word_delay_ms": 50})
    org.admin.load(app)
    words = " ".join(f"w{i}" for i in range(30))
    stream = org.member.chat_stream(app, words)
    stream.first()
    stopping = Background(stack.app.stop)
    assert text_of(stream.rest()) == words
    assert stopping.join() == 0


def test_a_successor_takes_the_socket_while_streams_are_finished(stack, org, app_up):
    app = org.new_app(tier="hot", config={"word_delay_ms": 50})
    org.admin.load(app)
    words = " ".join(f"w{i}" for i in range(200))
    stream = org.member.chat_stream(app, words)
    stream.first()
    stack.app.signal(signal.SIGTERM)
    eventually(lambda: not stack.app.is_ready(), 20)  # the socket takes nobody any more
    successor = stack.add_front(Successor(stack))
    eventually(lambda: stack.http.request("GET", "/healthz").status == 200, 20)
    assert stack.app.is_running()
    assert text_of(stream.rest()) == words
    assert stack.app.process.wait(60) == 0
    assert org.member.chat_ok(app, "x") == "x"
    stack.take_front(successor)


def test_requests_that_wait_at_the_socket_are_answered_before_the_end(stack, org):
    app = org.new_app(tier="hot", config={"word_delay_ms": 100})
    org.admin.load(app)
    small = stack.add_front(SmallApp(stack))
    body = b'{"instance_id":"%s","message":"a b","stream":false}' % app.encode()
    small.freeze()
    waiting = [fastcgi.Request(small.socket, "POST", org.member.chat_path, org.member.token, body) for _ in range(40)]
    small.signal(signal.SIGTERM)
    small.thaw()
    answers = [request.read() for request in waiting]
    # With so few threads some are refused, but by us.
    assert {answer.split(b"\r\n")[0][:11] for answer in answers} <= {b"Status: 200", b"Status: 503"}
    assert sum(b'"response":"a b"' in answer for answer in answers) >= 2
    assert small.process.wait(60) == 0
    stack.take_front(small)


def test_sigterm_of_an_idle_application_is_quick(stack, app_up):
    started = time.monotonic()
    assert stack.app.stop() == 0
    assert time.monotonic() - started < 15


def test_requests_during_a_restart_are_answered_or_refused_by_the_web_server(stack, org, app_up):
    app = org.new_app(tier="hot")
    org.admin.load(app)
    over, seen = [], []

    def hammer():
        while not over:
            r = org.member.chat(app, "x")
            seen.append(r.status)
            assert r.status in (200, 500, 502, 503), r

    clients = [Background(hammer) for _ in range(4)]
    eventually(lambda: len(seen) > 20)
    assert stack.app.stop() == 0
    stack.app.start()
    n = len(seen)
    eventually(lambda: 200 in seen[n:], 20)
    over.append(True)
    for c in clients:
        c.join()


def test_sighup_takes_over_the_log_level(stack, org, app_up):
    app = org.new_app(tier="hot")
    org.admin.load(app)

    def speaks(program):
        before = len(program.text())
        assert org.member.chat(app).status == 200
        return len(program.text()) > before

    for level, wanted in (("error", False), ("debug", True)):
        stack.write_conf(log={"level": level})
        for program in (stack.app, stack.worker):
            program.signal(signal.SIGHUP)
            eventually(lambda: speaks(program) == wanted, 10, f"{program.name} writes as {level} says")


def test_sighup_with_a_wrong_file_keeps_the_old_one(stack, org, app_up):
    stack.allow("configuration", "hot_ceiling")
    app = org.new_app(tier="hot")
    org.admin.load(app)
    stack.write_conf(worker={"hot_ceiling": "many"})
    for program in (stack.app, stack.worker):
        before = len(program.text())
        program.signal(signal.SIGHUP)
        eventually(lambda: "the old one stays" in program.text()[before:], 10)
        # One line of the log, with the reason.
        line, = [line for line in program.text()[before:].splitlines() if "hot_ceiling" in line]
        assert re.search(r"Z error hearth.* configuration not taken over.*hearth\.conf:\d+:.*hot_ceiling", line), line
    assert org.member.chat(app).status == 200
    stack.write_conf()


def test_sighup_names_what_needs_a_restart(stack, app_up):
    stack.allow("take effect with a restart")
    said = 'configuration: these options take effect with a restart options="%s"\n'
    stack.write_conf(llm={"ca_file": "/x", "connections_max": 7, "attempts_max": 2}, app={"keepalive_s": 7})
    for program, names in ((stack.app, "app.keepalive_s"), (stack.worker, "llm.connections_max llm.ca_file")):
        program.signal(signal.SIGHUP)
        eventually(lambda: said % names in program.text(), 10)
    stack.write_conf()
    for program in (stack.app, stack.worker):
        before = len(program.text())
        program.signal(signal.SIGHUP)
        eventually(lambda: "configuration taken over" in program.text()[before:], 10)
        assert "restart" not in program.text()[before:]


def test_sighup_takes_over_a_ceiling(stack, org, app_up):
    stack.allow("App failed .*hot_ceiling")
    stack.write_conf(worker={"hot_ceiling": 0})
    stack.worker.signal(signal.SIGHUP)
    eventually(lambda: stack.db.value("SELECT hot_ceiling FROM workers WHERE worker_id = 'w1'") == "0", 10)
    app = org.new_app(tier="hot")
    op = org.admin.ended(org.admin.lifecycle("load", app).json["operation_id"])
    stack.write_conf()
    stack.worker.signal(signal.SIGHUP)
    assert op["state"] == "failed" and "hot_ceiling" in op["reason"], op
    org.admin.unload(app)


def test_the_programs_start_before_database_and_bus(stack):
    """In any order: what is not there is waited for."""
    late = Stack(start=False)
    late.allow(".")
    try:
        late.nats.spawn()
        late.nats.wait_ready()  # to know its port
        late.nats.stop()
        late.write_conf()
        late.worker.spawn()
        late.app.start()
        late.lighttpd.start()
        http = Http(late.lighttpd.port)
        assert http.request("GET", "/healthz").status == 200
        assert http.request("GET", "/readyz").status == 503
        late.db.start()
        late.nats.start()
        eventually(lambda: http.request("GET", "/readyz").status == 200, 40)
        eventually(late.worker.incarnation, 40)
    finally:
        found = late.stop()
    assert not found, "\n".join(found)
