# SPDX-License-Identifier: Apache-2.0
"""The connection to MariaDB is lost during a COMMIT: the application looks the operation up before it answers."""
import re
import socket
import threading

import pytest

from harness import eventually

ALLOWED = [r"(?i)database|mariadb|db_unavailable|outcome|commit|connect|lost"]


class Proxy:
    """Stands between the application and MariaDB on a UNIX socket, and cuts a connection at its next COMMIT."""

    def __init__(self, path, target):
        self.path, self.target = str(path), str(target)
        self.cut = None  # "before" or "after" MariaDB has seen the COMMIT
        self.statement = None  # a part of a statement's text: cut after the COMMIT that follows its first use
        self.is_shut = False  # no new connections
        self.cuts = 0
        self.muted = set()  # connections whose answers are not passed on
        self.lock = threading.Lock()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.socket(socket.AF_UNIX)
            try:
                if self.is_shut:
                    raise OSError
                server.connect(self.target)
            except OSError:
                client.close()
                continue
            threading.Thread(target=self.to_server, args=(client, server), daemon=True).start()
            threading.Thread(target=self.to_client, args=(client, server), daemon=True).start()

    def is_cut(self, data, is_prepared):
        with self.lock:
            is_commit = re.search(rb"\x03COMMIT", data)
            if is_prepared and is_commit:
                self.cuts += 1
                return "after"
            if self.cut is None or not is_commit:
                return None
            how, self.cut = self.cut, None
            self.is_shut = how.endswith("shut")
            self.cuts += 1
            return how

    def to_server(self, client, server):
        is_prepared = False
        try:
            while data := client.recv(65536):
                how = self.is_cut(data, is_prepared)
                if how is None:
                    if self.statement and self.statement in data:
                        is_prepared, self.statement = True, None
                    server.sendall(data)
                    continue
                if how.startswith("after"):
                    # The answer is awaited, so that the COMMIT has happened, and not passed on.
                    self.muted.add(server)
                    server.sendall(data)
                    server.recv(1, socket.MSG_PEEK)
                break
        except OSError:
            pass
        self.end(client, server)

    def to_client(self, client, server):
        try:
            while data := server.recv(65536):
                if server in self.muted:
                    break
                client.sendall(data)
        except OSError:
            pass
        self.end(client, server)

    @staticmethod
    def end(*sockets):
        for s in sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


@pytest.fixture(scope="module")
def proxy(module_stack):
    """The application's connections go through the proxy; the worker's do not."""
    stack = module_stack
    proxy = Proxy(stack.folder / "proxy.sock", stack.db.socket)
    assert stack.app.stop() == 0
    stack.write_conf(database={"socket": proxy.path})
    stack.app.start()
    stack.write_conf()
    eventually(lambda: stack.http.request("GET", "/readyz").status == 200, 30)
    return proxy


def operation_ids(stack, app):
    return [row[0] for row in stack.db.run(f"SELECT operation_id FROM operations WHERE instance_id = '{app}'")]


def test_a_commit_that_happened_is_found_and_answered_with_202(stack, org, proxy):
    app = org.new_app()  # a hot one asks for the quota in a transaction of its own
    proxy.cut = "after"
    r = org.admin.lifecycle("load", app)
    assert proxy.cuts >= 1
    assert r.status == 202, r
    assert operation_ids(stack, app) == [r.json["operation_id"]]
    assert org.admin.ended(r.json["operation_id"])["state"] == "succeeded"


def test_a_commit_that_did_not_happen_is_refused_or_done_again(stack, org, proxy):
    app = org.new_app()  # a hot one asks for the quota in a transaction of its own
    before = proxy.cuts
    proxy.cut = "before"
    r = org.admin.lifecycle("load", app)
    assert proxy.cuts == before + 1
    if r.status == 202:
        assert operation_ids(stack, app) == [r.json["operation_id"]]
    else:
        assert (r.status, r.code) == (503, "db_unavailable"), r
        assert operation_ids(stack, app) == []


def test_where_nobody_can_be_asked_the_outcome_is_unknown_and_the_location_tells_where_to_look(stack, org, proxy):
    app = org.new_app()  # a hot one asks for the quota in a transaction of its own
    proxy.cut = "after shut"
    r = org.admin.lifecycle("load", app)
    # All other connections of the pool would still serve; a look-up on one of them is as good.
    proxy.is_shut = False
    if r.status == 202:
        assert operation_ids(stack, app) == [r.json["operation_id"]]
        return
    assert (r.status, r.code) == (503, "outcome_unknown"), r
    (op,) = operation_ids(stack, app)
    assert r.headers["Location"].endswith(f"/api/orgs/{org.id}/operations/{op}")
    eventually(lambda: org.admin.get(r.headers["Location"]).status == 200, 20)
    assert org.admin.ended(op, 40)["state"] == "succeeded"


def test_a_chat_whose_load_may_have_been_asked_for_is_told_to_come_again(stack, org, proxy):
    app = org.new_app()
    before = proxy.cuts
    proxy.statement = b"'demand'"
    r = org.member.chat(app)
    assert proxy.cuts == before + 1
    assert (r.status, r.code) == (503, "db_unavailable"), r
    assert org.member.chat_ok(app, "x") == "x"
    assert len(operation_ids(stack, app)) == 1  # it had been, and was joined
