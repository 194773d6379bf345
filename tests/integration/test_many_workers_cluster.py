# SPDX-License-Identifier: Apache-2.0
"""A NATS cluster whose servers die and come back: no operation is lost, and chats go on."""
import contextlib
import json

import pytest

import fastcgi
from harness import eventually
from nats_proxies import FrontProxy

OPTIONS = {"nats_nodes": 3, "workers": 3, "are_routes_proxied": True}
# Whatever nats-server says while it elects is its own affair.
ALLOWED = [r"(?i)bus|nats|stream|consumer|publish|event|no responders|chat request|lease|hearth-loaders|HEARTH_LOADS|"
           r"JetStream|RAFT|not subscribed"]


@pytest.fixture
def org(stack, passing_org):
    """Each test begins and ends with all servers."""
    yield passing_org
    for node in stack.nats_nodes:
        if not node.is_running():
            node.start()
    eventually(lambda: all(node.is_in_cluster() for node in stack.nats_nodes), 60)
    eventually(lambda: stack.http.request("GET", "/readyz").status == 200, 60)
    eventually(stack.nothing_is_open, 60)


def node_with(stack, client):
    return eventually(lambda: next((n for n in stack.nats_nodes if n.is_running() and client in n.clients()), None), 30)


def node_of(stack, role):
    if role == "application":
        return node_with(stack, "hearth.fcgi")
    if role == "worker":
        return node_with(stack, "hearth-worker w1")
    stream, consumer = eventually(stack.stream)
    return stack.node_of((stream if role == "stream" else consumer)["cluster"]["leader"])


def all_answer(org, apps):
    for app in apps:
        eventually(lambda: org.member.chat(app, "x").status == 200, 40)


@pytest.mark.parametrize("role", ["stream", "consumer", "application", "worker"])
def test_a_server_that_dies_costs_no_operation_and_chats_go_on(stack, org, role):
    stack.wait_all_ask()
    before = org.hot_apps(6)
    slow = [org.new_app(tier="hot", config={"build_delay_ms": 500}) for _ in range(6)]
    operations = [org.admin.lifecycle("load", app).json["operation_id"] for app in slow]
    node_of(stack, role).kill()
    during = [org.new_app(tier="hot") for _ in range(6)]
    accepted = [org.admin.lifecycle("load", app) for app in during]
    assert {r.status for r in accepted} == {202}
    operations += [r.json["operation_id"] for r in accepted]
    gone = before.pop()
    operations.append(org.admin.lifecycle("unload", gone).json["operation_id"])
    assert {org.admin.ended(op, 60)["state"] for op in operations} == {"succeeded"}
    all_answer(org, before + slow + during)
    assert org.member.chat(gone).code == "instance_not_loaded"


def test_all_servers_restarted_lose_nothing(stack, org):
    before = org.hot_apps(6)
    for node in stack.nats_nodes:
        node.begin_stop()
    for node in stack.nats_nodes:
        node.stop()
    during = [org.new_app(tier="hot") for _ in range(6)]
    accepted = [org.admin.lifecycle("load", app) for app in during]
    assert {r.status for r in accepted} == {202}
    assert not any(r.json["published"] for r in accepted)
    for node in stack.nats_nodes:
        node.spawn()
    stack.wait_nats_ready()
    for r in accepted:
        assert org.admin.ended(r.json["operation_id"], 60)["state"] == "succeeded"
    all_answer(org, before + during)


def test_two_of_three_servers_away_stop_the_loads_and_not_the_chats(stack, org):
    """Chats need no quorum; what was accepted is done when it is back."""
    before = org.hot_apps(4, replicas=3)
    # The stream's leader is one of them: it would keep what it has heard in vain, and store it when the others are back.
    leader = node_of(stack, "stream")
    away = leader, next(n for n in stack.nats_nodes if n is not leader)
    for node in away:
        node.kill()
    all_answer(org, before)
    app = org.new_app(tier="hot")
    r = org.admin.lifecycle("load", app)
    assert r.status == 202 and r.json["published"] is False
    for node in away:
        node.start()
    assert org.admin.ended(r.json["operation_id"], 60)["state"] == "succeeded"
    all_answer(org, [app])


@contextlib.contextmanager
def news_of_holders_kept_back(stack):
    """The servers do not tell each other who has begun to hold an App, until it ends or is told to: tell(app, node)."""
    def tell(app, node):
        for one in stack.nats_nodes:
            one.route.tell()
        eventually(lambda: app in json.dumps(node.look("/routez?subs=1")), 30, f"{node.name} has heard of it")

    for one in stack.nats_nodes:
        one.route.keep(b" hearth.chat.")
    try:
        yield tell
    finally:
        for one in stack.nats_nodes:
            one.route.tell()


@contextlib.contextmanager
def application_at(stack, node):
    """The application is started anew, with its first connection to this node, through a proxy."""
    front = FrontProxy(("127.0.0.1", node.port))
    assert stack.app.stop() == 0
    stack.write_conf(nats={"url": f"nats://127.0.0.1:{front.port}"})
    try:
        stack.app.start()
        yield front
    finally:
        assert stack.app.stop() == 0
        stack.write_conf()
        stack.app.start()
        front.close()


def test_an_app_that_was_just_loaded_is_found_from_every_server(stack, org):
    """Who holds it spreads among the servers by itself: the application asks once more before it says 503."""
    with news_of_holders_kept_back(stack) as tell:
        app, = org.hot_apps(1)
        holder, = stack.holders(app)
        node = next(n for n in stack.nats_nodes if n is not node_with(stack, f"hearth-worker {holder}"))
        with application_at(stack, node) as front:
            # The news comes between its two questions. Asked at once: also one that has just started knows the cluster.
            front.before_nobody = lambda: tell(app, node)
            client = fastcgi.Request(stack.app.socket, "POST", org.member.chat_path, org.member.token,
                                     json.dumps({"instance_id": app, "message": "x", "stream": False}).encode())
            answer = client.read()
            client.hang_up()
            assert front.before_nobody is None, "the first question found it already"
            assert answer.startswith(b"Status: 200"), answer


def test_a_program_that_was_told_of_one_server_finds_the_others(stack, org):
    apps = org.hot_apps(4)
    first = stack.nats_nodes[0]
    assert stack.app.stop() == 0
    stack.write_conf(nats={"url": f"nats://127.0.0.1:{first.port}"})
    try:
        stack.app.start()
        assert node_with(stack, "hearth.fcgi") is first
        first.kill()
        all_answer(org, apps)
    finally:
        stack.write_conf()
