# SPDX-License-Identifier: Apache-2.0
"""Chat turns of an `agent` App through Hearth to a model provider on loopback, beside nginx before the same provider.

The provider is llm_endpoint.c, which answers each chat with the same short stream in one write, so that it is nowhere
the bottleneck. Straight to it and through nginx go the requests that Hearth makes of a turn; their answers are streams
in any case. The turns keep no conversation where the figure does not say so.
"""
import contextlib
import json
import os
import pwd
import socket
import statistics
import time

import harness
import load
import scale
from figures_http import Turns
from rows import Figure
from servers import servers

MODEL = "bench"
MESSAGE = "hello world"
ANSWER = "hello world"
OPTIONS = {"llm": {"allowed_networks": "127.0.0.1/32"}}
CLIENTS = 32
ROUNDS = 3
SECONDS = 3
LATENCY_SECONDS = 1
STREAMS = 100
CONVERSATIONS = 320
MEMORY_APPS = 10000


def answers(port):
    try:
        return harness.Http(port).request("GET", "/v1/models").status == 200
    except OSError:
        return False


class Endpoint(harness.Program):
    """The provider."""

    name = "llm_endpoint"

    def __init__(self, stack):
        super().__init__(stack)
        self.port = harness.free_port()

    def command(self):
        return [str(harness.BUILD / "tests/bench/llm_endpoint"), str(self.port)]

    def is_ready(self):
        return answers(self.port)

    def is_bad_line(self, line):
        return bool(line.strip())


class Proxy(harness.Program):
    """nginx, as one sets it up before such a provider: connections to it are kept."""

    name = "nginx"

    def __init__(self, stack, endpoint):
        super().__init__(stack)
        self.port, self.endpoint = harness.free_port(), endpoint
        self.folder = stack.folder / self.name
        self.folder.mkdir()

    def command(self):
        kinds = ("client_body", "fastcgi", "proxy", "scgi", "uwsgi")
        temporary = "\n".join(f"\t{kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        conf = self.folder / "nginx.conf"
        conf.write_text(f"""
{"user " + pwd.getpwuid(os.geteuid()).pw_name + ";" if os.geteuid() == 0 else ""}
daemon off;
worker_processes auto;
pid {self.folder}/pid;
error_log {self.log} warn;
events {{ }}
http {{
	access_log off;
	keepalive_requests 1000000000;
{temporary}
	upstream provider {{
		server 127.0.0.1:{self.endpoint.port};
		keepalive {CLIENTS};
		keepalive_requests 1000000000;
	}}
	server {{
		listen 127.0.0.1:{self.port};
		location / {{
			proxy_pass http://provider;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
		}}
	}}
}}
""")
        return ["nginx", "-p", str(self.folder), "-c", str(conf), "-e", str(self.log)]

    def is_ready(self):
        return answers(self.port)

    def is_bad_line(self, line):
        return bool(line.strip())


@contextlib.contextmanager
def llm_servers(**options):
    """Yields a Stack with stack.endpoint and stack.nginx."""
    with servers(**OPTIONS, **options) as stack:
        stack.endpoint = stack.add_front(Endpoint(stack))
        stack.nginx = Proxy(stack, stack.endpoint)
        stack.nginx.start()
        try:
            yield stack
        finally:
            stack.nginx.stop()
        found = stack.nginx.complaints([])
        assert not found, found


def new_agent(stack, org, **config):
    llm = org.new_llm_config("openai", f"http://127.0.0.1:{stack.endpoint.port}/v1")
    return {"framework_type": "agent", "config": {"llm_config_id": llm, "model": MODEL, "probe": "none", **config}}


def loaded(org, fields):
    app = org.new_app(tier="hot", **fields)
    org.admin.load(app)
    assert org.member.chat_ok(app, MESSAGE) == ANSWER
    return app


# What the worker asks the provider in a turn without history.
STRAIGHT = load.Load("POST", "/v1/chat/completions", "none", {
    "stream": True, "stream_options": {"include_usage": True}, "model": MODEL,
    "messages": [{"role": "user", "content": MESSAGE}]})


def check_turns(stack, asked):
    stack.next_flush()
    turns, errors = (int(x) for x in stack.db.run("SELECT SUM(turns), SUM(errors) FROM instance_stats")[0])
    assert turns >= asked and errors == 0, (turns, asked, errors)


class Latency:
    """One client, one request after the other: straight, through nginx, through Hearth, and again."""

    def __init__(self, stack, turn):
        ways = {"straight": (STRAIGHT, stack.endpoint.port), "nginx": (STRAIGHT, stack.nginx.port),
                "hearth": (turn, stack.lighttpd.port)}
        self.rounds = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, (request, port) in ways.items():
                self.rounds[way].append(request.run(port, 1, LATENCY_SECONDS))

    def of(self, way, name):
        return statistics.median(getattr(r, name) for r in self.rounds[way])

    def figure(self):
        added = [h.p50_ms - s.p50_ms for h, s in zip(self.rounds["hearth"], self.rounds["straight"])]
        ways = "; ".join(f"{w} p50 {self.of(w, 'p50_ms'):.3f}, p99 {self.of(w, 'p99_ms'):.3f} ms" for w in self.rounds)
        return Figure("LLM turn, one client: added to p50", "ms", added, ("<=", 0.5, "value"),
                      p50_ms=[r.p50_ms for r in self.rounds["hearth"]], p99_ms=[r.p99_ms for r in self.rounds["hearth"]],
                      note=f"against straight calls of the provider; {ways}")


def first_text_ms(port, request, text, last):
    """From the request to the first text of the model, one stream after the other; each is read to its last bytes."""
    times = []
    body = request.body.encode()
    head = (f"POST {request.path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {request.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode()
    for _ in range(STREAMS):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as s:
            began, seen, came_ms = time.perf_counter(), b"", None
            s.sendall(head + body)
            while last not in seen:
                data = s.recv(65536)
                assert data, seen
                seen += data
                if came_ms is None and text in seen:
                    came_ms = (time.perf_counter() - began) * 1000
            times.append(came_ms)
    return statistics.median(times)


def first_text(stack, org, app):
    chat = load.Load("POST", org.member.chat_path, org.member.token, json.dumps({"instance_id": app, "message": MESSAGE}))
    straight, hearth = [], []
    for _ in range(ROUNDS):
        straight.append(first_text_ms(stack.endpoint.port, STRAIGHT, b'"content":"hello"', b"[DONE]"))
        hearth.append(first_text_ms(stack.lighttpd.port, chat, b"event: message", b'"done":true'))
    return Figure("LLM stream, one client: added to the first text", "ms", [h - s for h, s in zip(hearth, straight)],
                  note=f"against straight calls; medians of {STREAMS} streams, straight {statistics.median(straight):.3f},"
                  f" Hearth {statistics.median(hearth):.3f} ms")


def with_history(stack, org, agent, floors):
    """Turns that go on in conversations: read before the model is asked, and written before the end is told."""
    app = loaded(org, agent)
    ids = [org.member.chat(app, MESSAGE).json["session_id"] for _ in range(CONVERSATIONS)]
    turn = load.Load("POST", org.member.chat_path, org.member.token,
                     {"instance_id": app, "message": MESSAGE, "stream": False, "conversation_id": "@ID@"}, ids)
    turns = Turns(stack, turn, CLIENTS, floors=floors, seconds=SECONDS)
    one = turn.run(stack.lighttpd.port, 1, LATENCY_SECONDS)
    longest = stack.db.number("SELECT MAX(n) FROM (SELECT COUNT(*) n FROM conversation_messages GROUP BY conversation_id) c")
    return turns.figure("LLM turn in a conversation, 32 clients", None,
                        f"floor as above; {CONVERSATIONS} conversations in turn, at the end of up to {longest} messages;"
                        f" one client: p50 {one.p50_ms:.3f}, p99 {one.p99_ms:.3f} ms")


def memory():
    with llm_servers(worker={"hot_ceiling": MEMORY_APPS}) as stack:
        org = stack.new_org(quotas=scale.BIG_QUOTAS)
        apps = scale.Apps(stack, org, MEMORY_APPS, **new_agent(stack, org))
        before = scale.rss_kib(stack.worker.pid)
        apps.load()
        assert stack.next_flush()["shared_model_count"] == 1
        each = (scale.rss_kib(stack.worker.pid) - before) / MEMORY_APPS
        return Figure(f"memory of a hot agent App among {MEMORY_APPS:,}", "KiB", [each],
                      note=f"all share one model; RSS of the worker, against {before / 1024:.1f} MiB before the first")


def llm():
    with llm_servers() as stack:
        org = stack.new_org()
        app = loaded(org, new_agent(stack, org, history={"messages": 0}))
        turn = load.chat(org, [app], MESSAGE)
        turns = Turns(stack, turn, CLIENTS, floor=(STRAIGHT, stack.nginx.port), seconds=SECONDS)
        check_turns(stack, sum(r.requests for r in turns.figures))
        straight = STRAIGHT.run(stack.endpoint.port, CLIENTS, LATENCY_SECONDS)
        found = [turns.figure("LLM turn, 32 clients", 0.20, f"floor: nginx; straight {straight.rate:,.0f} requests/s"),
                 Latency(stack, turn).figure(), first_text(stack, org, app),
                 with_history(stack, org, new_agent(stack, org), turns.floors)]
    return [*found, memory()]


GROUPS = {"llm": llm}
