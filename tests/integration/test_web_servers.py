# SPDX-License-Identifier: Apache-2.0
"""The same HTTP stories behind each web server, with the files of conf/ that are shipped.

Where a server cannot do a thing the story says what it does instead (docs/web-servers.md says why), and
fails once that has changed.
"""
import json
import os
import signal
import time

import pytest

from fronts import BASE, FRONTS, SITE_FILES, AppBelow, Front
from harness import SLOW, Background, at_once, eventually, text_of

OPTIONS = {"app": {"socket_mode": 666, "keepalive_s": 1}}
LONG = "word " * 600  # at 100 ms a word: a minute
LIMIT = 1048576       # app.body_max_bytes
IDLE_S = round(6 * SLOW)
THREADS_OF_ONE = 12   # main, one that serves, one that waits, and those of the NATS library


@pytest.fixture(scope="module")
def module_stack(module_stack):
    module_stack.below = AppBelow(module_stack)
    module_stack.add_front(module_stack.below)
    return module_stack


@pytest.fixture(scope="module", params=FRONTS, ids=lambda kind: kind.name)
def front(request, module_stack):
    front = module_stack.add_front(request.param(module_stack))
    yield front
    module_stack.take_front(front)


@pytest.fixture(scope="module")
def tenant(module_stack):
    """An org with a hot App that answers at once."""
    org = module_stack.new_org()
    org.app = org.new_app(tier="hot", config={"prefix": "> "})
    org.admin.load(org.app)
    org.slow = org.new_app(tier="hot", config={"word_delay_ms": 100})
    org.admin.load(org.slow)
    return org


@pytest.fixture
def admin(front, tenant, stack):
    return front.api(tenant.admin)


@pytest.fixture
def member(front, tenant, stack):
    return front.api(tenant.member)


def is_ours(r):
    """A problem document of Hearth's, whole: what it says of itself agrees with what came with it."""
    doc = r.json
    return (r.headers["Content-Type"].startswith("application/problem+json") and doc["status"] == r.status
            and doc["request_id"] == r.headers["X-Request-Id"] and doc["code"] and doc["detail"]
            and r.headers["Cache-Control"] == "no-store")


# --- requests and answers ---


def test_the_authorization_header_arrives(front, tenant, member):
    path = f"/api/orgs/{tenant.id}/orchestrators"
    assert member.get(path).status == 200
    r = front.http.request("GET", path)
    assert (r.status, r.code, r.headers["WWW-Authenticate"]) == (401, "unauthorized", "Bearer")
    assert front.http.request("GET", path, "hrt_" + "x" * 43).status == 401


def test_json_goes_in_and_comes_out_byte_for_byte(tenant, admin, member):
    message = "two  spaces, ümläut, 日本語, \"quotes\"\\ and a\nline\r\nend"
    assert member.chat_ok(tenant.app, message) == "> " + message
    r = admin.post(f"/api/orgs/{tenant.id}/orchestrators", {"name": "näme", "framework_type": "echo"})
    assert r.status == 201 and r.headers["Location"].endswith(r.json["instance_id"])
    app = r.json["instance_id"]
    assert admin.app(app)["name"] == "näme"
    assert admin.patch(admin.app_path(app, "/config"), {"config": {"prefix": "é"}}).json["config"] == {"prefix": "é"}
    assert admin.delete(admin.app_path(app)).status == 200
    assert admin.get(admin.app_path(app)).status == 410


def test_a_long_answer_arrives_whole(tenant, member):
    message = "".join(f"{i:0128} " for i in range(1600))  # 200 KB
    assert member.chat_ok(tenant.app, message) == "> " + message
    assert text_of(member.chat_stream(tenant.app, message)) == "> " + message


def test_every_refusal_passes_through_unchanged(stack, front, tenant, admin, member):
    other = stack.new_org()
    foreign, gone, asleep, cold = other.new_app(), tenant.new_app(), tenant.new_app(), tenant.new_app(tier="hot")
    assert admin.delete(admin.app_path(gone)).status == 200
    assert admin.patch(admin.app_path(asleep, "/status"), {"status": "suspended"}).status == 200
    chat = {"instance_id": tenant.app, "message": "x", "stream": False}
    as_json, as_text = {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}
    expected = [
        (400, "bad_json", member.post(member.chat_path, b"{", as_json)),
        (401, "unauthorized", front.http.request("POST", member.chat_path, None, chat)),
        (403, "forbidden", member.lifecycle("load", tenant.app)),
        (403, "org_mismatch", member.get(f"/api/orgs/{other.id}/orchestrators")),
        (403, "instance_forbidden", admin.lifecycle("load", foreign)),
        (404, "not_found", member.get("/api/nothing/here")),
        (404, "instance_not_found", member.get(member.app_path("0190b5a0-0000-7000-8000-000000000000"))),
        (405, "method_not_allowed", member.delete(member.chat_path)),
        (409, "instance_suspended", admin.lifecycle("load", asleep)),
        (410, "instance_deleted", admin.lifecycle("load", gone)),
        (413, "too_large", member.post(member.chat_path, b" " * (LIMIT + 1), as_json)),
        (415, "unsupported_type", member.post(member.chat_path, json.dumps(chat).encode(), as_text)),
        (422, "invalid", member.post(member.chat_path, {**chat, "message": ""})),
        (503, "instance_not_loaded", member.chat(cold)),
    ]
    for status, code, r in expected:
        assert (r.status, r.code) == (status, code), r
        assert is_ours(r), (code, dict(r.headers), r)
    by_code = {code: r for _, code, r in expected}
    assert "POST" in by_code["method_not_allowed"].headers["Allow"]
    assert int(by_code["instance_not_loaded"].headers["Retry-After"]) > 0
    assert by_code["invalid"].json["errors"][0]["field"] == "message"


@pytest.mark.parametrize("size", [LIMIT + 1, 1500000, 2 * LIMIT - 1])
def test_a_body_over_our_limit_gets_our_refusal(member, size):
    r = member.post(member.chat_path, b"x" * size, {"Content-Type": "application/json"})
    assert (r.status, r.code) == (413, "too_large") and is_ours(r), r


def test_a_body_over_the_servers_limit_is_refused_too(front, member):
    r = member.post(member.chat_path, b"x" * (2 * LIMIT + 100000), {"Content-Type": "application/json"})
    # mod_fcgid has no 413; mod_proxy passes what has a length on, and Hearth refuses it unread.
    assert r.status == (500 if front.name == "apache-fcgid" else 413), r
    assert (r.code == "too_large") == (front.name == "apache-proxy-fcgi"), r


def chunked(front, member, body, size):
    """Sends the body in chunks, without a length, and returns status and body of the answer."""
    s = front.http.raw(f"POST {member.chat_path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {member.token}\r\n"
                       "Content-Type: application/json\r\nConnection: close\r\n"
                       "Transfer-Encoding: chunked\r\n\r\n".encode())
    for i in range(0, len(body), size):
        piece = body[i:i + size]
        s.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
    s.sendall(b"0\r\n\r\n")
    with s, s.makefile("rb") as file:
        answer = file.read()
    return int(answer.split()[1]), answer


def test_a_body_in_chunks_arrives(front, tenant, member):
    body = json.dumps({"instance_id": tenant.app, "message": "one two", "stream": False}).encode()
    status, answer = chunked(front, member, body, 7)
    assert status == 200 and b'"response":"> one two"' in answer, answer


def test_a_body_in_chunks_over_our_limit_gets_our_refusal(front, member):
    status, answer = chunked(front, member, b" " * 1500000, 50000)
    assert status == 413 and b'"code":"too_large"' in answer, answer


def test_head_options_and_odd_methods(front, member):
    get, head = (front.http.request(m, "/healthz") for m in ("GET", "HEAD"))
    assert (head.status, head.body) == (200, b"") and head.headers["Content-Type"] == get.headers["Content-Type"]
    # mod_proxy_fcgi, which passes each record on at once, gives no lengths.
    assert head.headers["Content-Length"] == (None if front.name == "apache-proxy-fcgi" else str(len(get.body)))
    for method in ("OPTIONS", "PUT", "PROPFIND"):
        r = front.http.request(method, "/healthz", headers={"Content-Length": "0"})
        assert (r.status, r.code) == (405, "method_not_allowed") and is_ours(r), r
        assert "GET" in r.headers["Allow"], dict(r.headers)
    # lighttpd does not know it and says so itself.
    r = front.http.request("BREW", "/healthz", headers={"Content-Length": "0"})
    assert r.status == (501 if front.name.startswith("lighttpd") else 405), r


def test_a_long_query_and_a_long_path_arrive(front, member):
    assert front.http.request("GET", "/healthz?q=" + "x" * 7000).status == 200
    for path in ("/" + "y" * 2000, "/" + "/".join(["z" * 300] * 5)):
        r = front.http.request("GET", path, member.token)
        assert r.status == 404 and is_ours(r), (path[:20], r)
    # To mod_fcgid a path is the name of a file, and that may be no longer than 4096 bytes.
    assert front.http.request("GET", "/" + "y" * 5000).status == (403 if front.name == "apache-fcgid" else 404)
    r = front.http.request("GET", "/healthz?q=" + "x" * 70000)
    assert r.status in (400, 414, 431), r


def test_encoded_paths_mean_what_they_say(front, tenant, member):
    assert front.http.request("GET", "/%68ealthz").status == 200
    assert member.get(f"/api/orgs/{tenant.id.upper().lower()}/orchestrators?limit=%31").status == 200
    for path in ("/healthz/", "//healthz", "/./healthz", "/x/../healthz", "/%2e/healthz", "/x/%2e%2e/healthz",
                 "/healthz%2F", "/%2Fhealthz", "/healthz/..%2freadyz", "/healthz%3Fq", "/healthz;q",
                 f"/api/orgs/{tenant.id}%2Forchestrators", f"/api/orgs/{tenant.id}/./orchestrators"):
        r = member.get(path)
        assert r.status == 404 and is_ours(r), (path, r)


def test_the_callers_address_and_request_id_arrive(stack, front, tenant, admin):
    name = f"story-{front.name}"
    r = admin.post(admin.app_path(tenant.app, "/load"), None, {"X-Request-Id": name})
    assert r.status == 202 and r.headers["X-Request-Id"] == name
    assert stack.db.run(f"SELECT DISTINCT source_ip FROM audit_log WHERE request_id = '{name}'") == [["127.0.0.1"]]


def test_many_requests_at_once(front, tenant, member):
    count = 8 if front.name == "apache-fcgid" else 48
    answers = at_once(*(lambda i=i: member.chat_ok(tenant.app, f"number {i}") for i in range(count)))
    assert answers == [f"> number {i}" for i in range(count)]


# --- streams ---


def test_each_event_arrives_before_the_next_is_sent(tenant, admin, member):
    app = tenant.new_app(tier="hot", config={"word_delay_ms": int(1500 * SLOW)})
    admin.load(app)
    asked = time.monotonic()
    stream = member.chat_stream(app, "one two three four")
    stream.first()
    assert next(iter(stream)).data["content"] == "one "
    # What was seen is all that was sent: the rest is never said.
    admin.unload(app, {"drain_s": 0})
    rest = stream.rest()
    assert rest[-1].name == "error" and (text_of(rest) == "" or time.monotonic() - asked > 2 * 1.5 * SLOW), rest


@pytest.fixture
def impatient(front):
    """For one story the server's idle timeouts are short."""
    def restart(idle_s):
        front.stop()
        front.idle_s = idle_s
        front.start()
        eventually(lambda: front.http.request("GET", "/healthz").status == 200, 20)

    restart(IDLE_S)
    yield
    restart(Front.idle_s)


def test_a_silent_stream_outlives_the_servers_idle_timeouts(impatient, tenant, admin, member):
    app = tenant.new_app(tier="hot", config={"word_delay_ms": IDLE_S * 2000})
    admin.load(app)
    stream = member.chat_stream(app, "late")
    assert text_of(stream.rest()) == "late"
    assert stream.comments >= 2
    admin.unload(app)


@pytest.mark.parametrize("how", ["hang_up", "close"])
def test_a_stream_that_is_hung_up_ends_its_turn(stack, tenant, member, how):
    streams = [member.chat_stream(tenant.slow, LONG) for _ in range(3)]
    for stream in streams:
        stream.first()
    stack.wait_in_flight(3)
    for stream in streams:
        getattr(stream, how)()
    stack.wait_in_flight(0)


def test_a_silent_stream_that_is_hung_up_ends_its_turn(stack, tenant, admin, member):
    app = tenant.new_app(tier="hot", config={"word_delay_ms": 60000})
    admin.load(app)
    stream = member.chat_stream(app, "late")
    stream.first()
    stack.wait_in_flight(1)
    stream.hang_up()
    stack.wait_in_flight(0)


def test_a_plain_chat_that_is_hung_up(stack, front, tenant, admin, member):
    app = tenant.new_app(tier="hot", config={"word_delay_ms": 100})
    admin.load(app)
    body = json.dumps({"instance_id": app, "message": LONG, "stream": False})
    s = front.http.raw(f"POST {member.chat_path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {member.token}\r\n"
                       f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    stack.wait_in_flight(1)
    s.close()
    if front.name == "nginx":
        stack.wait_in_flight(0)
    else:
        # The others do not look at their client before there is something to send; app.turn_timeout_s is the bound.
        assert [stack.next_flush()["turns_in_flight"] for _ in range(2)] == [1, 1]
    admin.unload(app, {"drain_s": 0})
    stack.wait_in_flight(0)


# --- under a path of a host that exists already ---


def test_a_host_that_exists_keeps_its_own(front, member):
    for path, text in [("/", SITE_FILES["index.html"]), *(("/" + name, text) for name, text in SITE_FILES.items()),
                       (f"{BASE}/../shop/list.txt", SITE_FILES["shop/list.txt"])]:
        r = front.site.request("GET", path)
        assert (r.status, r.body.decode()) == (200, text), (path, r)
    for path in ("/healthz", BASE, BASE + "x/healthz", "/api/orgs"):
        r = front.site.request("GET", path)
        assert r.status in (301, 404) and r.code is None, (path, r)


def test_hearth_lives_under_its_path(front, tenant, stack):
    site = front.site
    assert site.request("GET", f"{BASE}/healthz").json == {"status": "ok"}
    r = site.request("GET", f"{BASE}/nothing")
    assert r.status == 404 and is_ours(r)
    assert site.request("GET", f"/shop/../{BASE}/healthz").status == 404  # ours or the server's
    body = {"name": f"below {front.name}", "framework_type": "echo", "tier": "hot", "config": {"prefix": "b "}}
    r = site.request("POST", f"{BASE}/api/orgs/{tenant.id}/orchestrators", tenant.admin.token, body)
    assert r.status == 201 and r.headers["Location"].startswith(f"{BASE}/api/orgs/"), dict(r.headers)
    app = r.json["instance_id"]
    assert site.request("GET", r.headers["Location"], tenant.member.token).json["instance_id"] == app
    tenant.admin.load(app)
    chat = {"instance_id": app, "message": "one two"}
    stream = site.stream("POST", BASE + tenant.member.chat_path, tenant.member.token, chat)
    assert text_of(stream) == "b one two"
    r = site.request("POST", BASE + tenant.member.chat_path, tenant.member.token, b" " * 1500000,
                     {"Content-Type": "application/json"})
    assert (r.status, r.code) == (413, "too_large")


# --- stopping and dying ---


def test_without_the_application_the_server_refuses_and_comes_back_by_itself(stack, front):
    if front.starts_it:
        return kill_what_the_server_started(front)
    assert stack.app.stop() == 0
    for _ in range(3):
        r = front.http.request("GET", "/healthz")
        assert r.status == (502 if front.name == "nginx" else 503) and r.code is None, r
    assert front.site.request("GET", "/").status == 200
    stack.app.start()
    eventually(lambda: front.http.request("GET", "/healthz").status == 200, 20)
    eventually(lambda: front.http.request("GET", "/readyz").status == 200, 20)


def kill_what_the_server_started(front):
    eventually(lambda: front.http.request("GET", "/healthz").status == 200, 20)
    killed = front.children()
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: front.http.request("GET", "/healthz").status == 200, 20)
    assert front.children() and not set(front.children()) & set(killed)


def test_requests_while_the_application_is_restarted(stack, front, tenant, member):
    """Each is answered, by Hearth or by the server; a stream that runs is finished."""
    stream = member.chat_stream(tenant.slow, "w " * 20)
    stream.first()
    over, seen = [], []

    def hammer():
        while not over:
            r = member.chat(tenant.app, "x")
            seen.append(r.status)
            assert r.status in (200, 500, 502, 503), r
            assert r.status != 200 or r.json["response"] == "> x"

    clients = [Background(hammer) for _ in range(4)]
    eventually(lambda: seen.count(200) > 20)
    if front.starts_it:
        # Another process of the server's takes over, as after a change of the configuration.
        for pid in front.children():
            os.kill(pid, signal.SIGTERM)
    else:
        assert stack.app.stop() == 0
        stack.app.start()
    assert text_of(stream.rest()) == "w " * 20
    n = len(seen)
    eventually(lambda: 200 in seen[n:], 20)
    over.append(True)
    for client in clients:
        client.join()


def test_a_stop_of_the_server_ends_what_it_started(stack, front):
    if front.starts_it:
        # mod_fcgid may not have noticed yet that its processes were ended by the story before this one.
        eventually(lambda: front.http.request("GET", "/healthz").status == 200, 20)
        assert front.children()
    front.stop()
    eventually(lambda: front.children() == [], 20)
    front.start()
    eventually(lambda: front.http.request("GET", "/healthz").status == 200, 20)


# --- what mod_fcgid costs ---


def connections(stack):
    """Of hearth.fcgi: to MariaDB, to NATS."""
    to_db = stack.db.number("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'hearth_app'")
    clients = stack.nats.look("/connz?limit=1000")["connections"]
    return to_db, sum(c.get("name", "").startswith("hearth.fcgi") for c in clients)


def thread_count(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


def test_what_streams_cost(stack, front, tenant, member):
    """Under mod_fcgid a process each, with two connections and a few threads; else threads of the one process."""
    front.stop()
    # The application's own two are all that is left.
    eventually(lambda: front.children() == [] and connections(stack)[1] == 2, 20)
    before = connections(stack)
    front.start()
    streams = [member.chat_stream(tenant.slow, LONG) for _ in range(4)]
    for stream in streams:
        stream.first()
    if front.starts_it and front.name != "apache-fcgid":
        # One for each host; nobody has waited for the second.
        eventually(lambda: len(front.children()) == 2 and connections(stack)[1] == before[1] + 2, 20)
    children, after = front.children(), connections(stack)
    threads = [thread_count(pid) for pid in children]
    for stream in streams:
        stream.hang_up()
    eventually(lambda: stack.next_flush()["turns_in_flight"] == 0, 20)
    added = [b - a for a, b in zip(before, after)]
    if front.name == "apache-fcgid":
        assert len(children) >= 4 and all(1 <= n <= len(children) for n in added), (children, added)
        assert max(threads) <= THREADS_OF_ONE, threads
    elif not front.starts_it:
        assert children == [] and added[1] == 0, (children, added)
