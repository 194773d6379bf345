# SPDX-License-Identifier: Apache-2.0
"""Proxies that know as much of the NATS protocol as a story needs of them.

    route.keep(b" hearth.chat.")   # what the servers tell each other of such subscriptions is kept back
    route.tell()                   # and passed on
    front.before_nobody = call     # calls it before the next "no responders" reaches the client
    asked = Pulls(worker.bus)      # asked.batch: how many events the last request for some was for
"""
import re

from proxy import Proxy


class RouteProxy(Proxy):
    """Stands before a server's port for the others of its cluster. What it passes on are whole operations."""

    def __init__(self, target):
        self._kept_subject = None
        self._kept, self._rest = [], {}
        super().__init__(target)

    def keep(self, subject):
        self._kept_subject = subject

    def tell(self):
        self._kept_subject = None
        self._ask(self._do_tell)

    def _do_tell(self):
        kept, self._kept = self._kept, []
        for end, operation in kept:
            if end in self._ends:
                end.waiting.append(operation)
                end.waiting_bytes += len(operation)
                self._watch(end)

    def look_at(self, end, data):
        rest = self._rest.pop(end, b"") + data
        passed = []
        while length := self._operation_length(rest):
            operation, rest = rest[:length], rest[length:]
            if self._kept_subject and operation.startswith(b"RS+ ") and self._kept_subject in operation:
                self._kept.append((end.other, operation))
            else:
                passed.append(operation)
        if rest:
            self._rest[end] = rest
        return b"".join(passed)

    @staticmethod
    def _operation_length(data):
        """0: it has not come whole."""
        line, newline, _ = data.partition(b"\r\n")
        if not newline:
            return 0
        length = len(line) + 2
        if line.startswith((b"RMSG ", b"HMSG ")):
            length += int(line.split()[-1]) + 2
        return length if length <= len(data) else 0


class FrontProxy(Proxy):
    """Stands between a client and its server."""

    before_nobody = None

    def look_at(self, end, data):
        if self.before_nobody and not end.is_client and b"NATS/1.0 503" in data:
            call, self.before_nobody = self.before_nobody, None
            call()
        return data


class Pulls:
    """Looks at what goes through a client's proxies; they forward as before."""

    REQUEST = re.compile(rb"\$JS\.API\.CONSUMER\.MSG\.NEXT\.\S+ \S+ \d+\r\n\{\"batch\":(\d+)")

    def __init__(self, proxies):
        self.batch = None
        self._last = {}
        for proxy in proxies:
            proxy.look_at = self._look_at

    def _look_at(self, end, data):
        if end.is_client:
            seen = self._last.get(end, b"") + data
            for found in self.REQUEST.finditer(seen):
                self.batch = int(found[1])
            self._last[end] = seen[-200:]  # one may come in two parts
        return data
