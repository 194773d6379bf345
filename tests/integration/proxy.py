# SPDX-License-Identifier: Apache-2.0
"""A relay between a program and a server, whose connections a story can cut or hold.

    proxy = Proxy(("127.0.0.1", 4222))                # listens on a free loopback port: proxy.port
    proxy = Proxy("/run/mariadb.sock", "/tmp/p.sock") # listens on a UNIX socket
    proxy.cut()      # ends all connections with a reset and refuses new ones, as a dead host does
    proxy.hold()     # says nothing any more and keeps all open, as a lost network does
    proxy.mend()     # goes on: what was held is passed on, new connections are taken
    proxy.reset()    # ends all connections once; new ones are taken

One thread with a selector relays all connections. The target is connected to when
a client comes; where it cannot be reached the client is hung up on.
"""
import collections
import contextlib
import os
import selectors
import socket
import struct
import threading

CHUNK = 65536
BACKLOG_MAX = 1 << 20  # bytes that wait for one slow reader before the other side is no longer read

OPEN, HELD, CUT = "open", "held", "cut"


class End:
    """One socket of a pair, with what waits to be written to it."""

    def __init__(self, sock, is_client):
        self.sock, self.is_client, self.other = sock, is_client, None
        self.waiting = collections.deque()
        self.waiting_bytes = 0
        self.is_finished = False  # its other side has sent all


class Proxy:
    def __init__(self, target, path=None):
        self.target, self.path = target, str(path) if path else None
        self.state = OPEN
        self.accepted = 0  # connections so far
        self._selector = selectors.DefaultSelector()
        self._ends = set()
        self._asked = collections.deque()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ, self._on_woken)
        self._address = None
        self._listen()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def port(self):
        return self._address[1]

    def cut(self):
        self._ask(self._do_cut)

    def hold(self):
        self._ask(self._do_hold)

    def mend(self):
        self._ask(self._do_mend)

    def reset(self):
        self._ask(self._do_reset)

    def close(self):
        """Ends the proxy; it cannot be used again."""
        self._ask(self._do_close)
        self._thread.join()

    def look_at(self, end, data):
        """What is passed on of what an end has sent; an OSError ends the connection. For those who know the protocol."""
        return data

    # --- from another thread to the relay's ---

    def _ask(self, what):
        done = threading.Event()
        self._asked.append((what, done))
        self._wake.send(b"x")
        assert done.wait(30), "the proxy's thread has died"

    def _on_woken(self, _):
        self._woken.recv(CHUNK)
        while self._asked:
            what, done = self._asked.popleft()
            what()
            done.set()

    # --- on the relay's thread ---

    def _run(self):
        while not self._is_closing:
            for key, events in self._selector.select():
                # An end that was closed in this round has left the selector.
                if key.fileobj.fileno() >= 0:
                    key.data(events)

    def _listen(self):
        if self.path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(self.path)
        else:
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(self._address or ("127.0.0.1", 0))
        self._address = self._listener.getsockname()
        self._listener.listen(256)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _hang_up_listener(self):
        self._selector.unregister(self._listener)
        self._listener.close()

    def _do_cut(self):
        if self.state == CUT:
            return
        self._hang_up_listener()
        self._do_reset()
        self.state = CUT

    def _do_hold(self):
        assert self.state == OPEN, self.state
        self.state = HELD
        for end in self._ends:
            self._watch(end)

    def _do_mend(self):
        if self.state == CUT:
            self._listen()
        self.state = OPEN
        for end in self._ends:
            self._watch(end)

    def _do_reset(self):
        for end in list(self._ends):
            if end in self._ends:
                self._drop(end, is_reset=True)

    def _do_close(self):
        self._do_cut()
        self._is_closing = True
        if self.path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)

    def _accept(self, _):
        with contextlib.suppress(BlockingIOError, ConnectionError):
            client, _ = self._listener.accept()
            self.accepted += 1
            server = socket.socket(socket.AF_INET if isinstance(self.target, tuple) else socket.AF_UNIX)
            server.settimeout(5)
            try:
                server.connect(self.target if isinstance(self.target, tuple) else str(self.target))
            except OSError:
                client.close()
                server.close()
                return
            ends = End(client, True), End(server, False)
            for end, other in (ends, ends[::-1]):
                end.other = other
                end.sock.setblocking(False)
                if end.sock.family == socket.AF_INET:
                    end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._ends.add(end)
                self._selector.register(end.sock, selectors.EVENT_READ, lambda events, e=end: self._on_ready(e, events))
            for end in ends:
                self._watch(end)

    def _watch(self, end):
        """What the end is waited for; the selector takes no empty set, so a silent one leaves it."""
        events = 0
        if self.state == OPEN:
            if not end.other.is_finished and end.other.waiting_bytes < BACKLOG_MAX:
                events |= selectors.EVENT_READ
            if end.waiting:
                events |= selectors.EVENT_WRITE
        is_in = end.sock in self._selector.get_map()
        call = lambda ready, e=end: self._on_ready(e, ready)  # noqa: E731
        if events and is_in:
            self._selector.modify(end.sock, events, call)
        elif events:
            self._selector.register(end.sock, events, call)
        elif is_in:
            self._selector.unregister(end.sock)

    def _on_ready(self, end, events):
        try:
            if events & selectors.EVENT_READ:
                self._read(end)
            if events & selectors.EVENT_WRITE:
                self._write(end)
        except BlockingIOError:
            pass
        except OSError:
            self._drop(end)
            return
        if end in self._ends:
            self._watch(end)
            self._watch(end.other)

    def _read(self, end):
        data = end.sock.recv(CHUNK)
        if not data:
            end.other.is_finished = True
        elif passed := self.look_at(end, data):
            end.other.waiting.append(passed)
            end.other.waiting_bytes += len(passed)
        self._write(end.other)

    def _write(self, end):
        while end.waiting:
            data = end.waiting[0]
            try:
                n = end.sock.send(data)
            except BlockingIOError:
                return
            end.waiting_bytes -= n
            if n < len(data):
                end.waiting[0] = data[n:]
                return
            end.waiting.popleft()
        if end.is_finished:
            if end.other.is_finished:
                self._drop(end)
            else:
                end.sock.shutdown(socket.SHUT_WR)

    def _drop(self, end, is_reset=False):
        for one in (end, end.other):
            self._ends.discard(one)
            if one.sock in self._selector.get_map():
                self._selector.unregister(one.sock)
            if is_reset and one.sock.family == socket.AF_INET:
                one.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.sock.close()
