# SPDX-License-Identifier: Apache-2.0
"""Proxies that know a little of what they relay, so that a fault can hit one kind of message and leave all others."""
from proxy import Proxy

COMMIT = b"\x03COMMIT"  # a query packet
RENEWAL = b"UPDATE workers SET lease_until"  # seen when a session prepares it


class DatabaseProxy(Proxy):
    """Ends connections at a COMMIT, before MariaDB has it or before its answer; or those that renew the lease."""

    def __init__(self, *args):
        self.cut_commit = None  # a function: "before", "after" or None for the COMMIT that comes
        self.is_lease_refused = False
        super().__init__(*args)

    def refuse_lease(self, is_refused):
        def do():
            self.is_lease_refused = is_refused
            for end in [e for e in self._ends if getattr(e, "is_renewing", False)]:
                if is_refused and end in self._ends:
                    self._drop(end)
        self._ask(do)

    def look_at(self, end, data):
        if not end.is_client:
            if getattr(end, "is_last_answer", False):
                raise ConnectionAbortedError
            return data
        if RENEWAL in data:
            end.is_renewing = True
            if self.is_lease_refused:
                raise ConnectionAbortedError
        if self.cut_commit and COMMIT in data:
            how = self.cut_commit()
            if how == "before":
                raise ConnectionAbortedError
            end.other.is_last_answer = how == "after"
        return data


class BusProxy(Proxy):
    """Loses what the server sends on some subjects."""

    def __init__(self, *args):
        self.lost_prefix = None  # of subjects
        self.lost = 0  # messages
        super().__init__(*args)

    def look_at(self, end, data):
        return data if end.is_client else self._filter(end, data)

    def _filter(self, end, data):
        rest, passed = getattr(end, "rest", b"") + data, []
        size, is_lost = getattr(end, "payload", (0, False))  # what is still to come of the message that has begun
        while rest:
            if size > 0:
                piece, rest = rest[:size], rest[size:]
                size -= len(piece)
            else:
                line, is_whole, after = rest.partition(b"\r\n")
                if not is_whole:
                    break
                words, piece, rest = line.split(b" "), line + b"\r\n", after
                is_message = words[0] in (b"MSG", b"HMSG")
                size = int(words[-1]) + 2 if is_message else 0
                is_lost = bool(is_message and self.lost_prefix and words[1].startswith(self.lost_prefix))
                self.lost += is_lost
            if not is_lost:
                passed.append(piece)
        end.rest, end.payload = rest, (size, is_lost)
        return b"".join(passed)
