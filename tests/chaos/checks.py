# SPDX-License-Identifier: Apache-2.0
"""What must be true after a chaos run, whatever was broken meanwhile.

History is cut at each restored backup: what was accepted after the backup and before the restore is legitimately
unknown afterwards, and what was learnt before the restore is held against no answer after it. A request whose outcome the
client does not know is looked up in the database by its request id; where even that cannot tell, it counts as
"perhaps, at any time".
"""
import dataclasses
import re
import time

from harness import eventually
from clients import BROKEN

DRAIN_S = 10  # in which a copy that was told to unload has surely left the chat subject
UNRECORDED_S = 15  # after a restored backup, in which reconcile has surely written what is held
QUIET_S = 60  # times HEARTH_TEST_SLOW: until everything has come to rest after the last fault
DOWN = {"unload", "suspend", "delete"}
UP = {"load", "reload", "activate", "tier"}

# What a chat may be told, and what a request that changes something.
CHAT_CODES = {"instance_not_loaded", "instance_loading", "instance_failed", "instance_suspended", "instance_deleted", "busy",
              "worker_unresponsive", "bus_unavailable", "db_unavailable", "too_many_turns", "turn_timeout", "org_suspended"}
ASK_CODES = {"org_suspended", "instance_suspended", "instance_deleted", "db_unavailable", "outcome_unknown", "busy", "shutting_down"}
STREAM_ERRORS = {"worker_unresponsive", "bus_unavailable", "turn_timeout", "cancelled", "instance_not_loaded", "unloaded"}
TROUBLE = {"worker_unresponsive", "bus_unavailable", "db_unavailable", "outcome_unknown", "busy"}  # none of these while nothing is broken
WEB_SERVERS_OWN = {500, 502, 503, 504}
FAILURES = {"poison", "build_timeout", BROKEN}


@dataclasses.dataclass
class Violation:
    kind: str
    text: str

    def __str__(self):
        return f"{self.kind}: {self.text}"


def show(record):
    """A record in one line, with all its ids."""
    fields = {k: v for k, v in dataclasses.asdict(dataclasses.replace(record, target=None)).items() if v not in (None, "", False)}
    fields.pop("message", None)
    for key in ("began", "ended", "seen_at"):
        if key in fields:
            fields[key] = time.strftime("%H:%M:%S", time.gmtime(fields[key])) + f".{int(fields[key] * 1000) % 1000:03}"
    return f"App {record.target.id} ({record.target.tag}) " + " ".join(f"{k}={v!r}" for k, v in fields.items())


class Checks:
    def __init__(self, pool, load, injected, calm=None):
        self.pool, self.load, self.injected = pool, load, injected
        self.calm = calm  # (began, ended): nothing was broken
        self.violations = []
        self.counts = {}
        self.restores = pool.restores

    def found(self, kind, text):
        self.violations.append(Violation(kind, text))

    def run(self):
        self.wait_for_rest()
        self.read_database()
        self.resolve()
        self.check_operations()
        self.check_recorded()
        self.check_generations()
        self.check_answers()
        self.check_turns()
        self.check_served()
        self.check_calm()
        for text in self.load.trouble:
            self.found("client", text)
        return self.violations

    def check_rest(self, when):
        """In the middle of a run, while no client asks."""
        self.wait_for_rest()
        self.check_served()
        self.violations = [Violation(v.kind, f"{v.text}; while {when}") for v in self.violations]

    # --- rest ---

    def wait_for_rest(self):
        """Every operation ended, every App as its row says; what is still not so when time is up is a violation."""
        wrong = []

        def rests():
            wrong[:] = [("open operation", f"{r}") for r in self.pool.db.run(
                "SELECT operation_id, instance_id, action, tier, generation, source, state, publish_count, next_publish_at, accepted_at "
                "FROM operations WHERE is_open = 1 LIMIT 20")]
            wrong[:] += self.differences()
            assert not wrong, wrong[:3]
            return True

        try:
            eventually(rests, QUIET_S, "everything has come to rest", every=0.3)
        except AssertionError:
            for kind, text in wrong:
                self.found(kind, text)

    def differences(self):
        """Where the pool is not what the rows say."""
        db = self.pool.db
        wrong = [("placement of a dead incarnation", f"{r}") for r in db.run(
            "SELECT p.instance_id, p.worker_id, p.incarnation, p.state, p.generation FROM placements p LEFT JOIN workers w ON "
            "w.worker_id = p.worker_id AND w.incarnation = p.incarnation AND w.lease_until > UTC_TIMESTAMP(3) WHERE w.worker_id IS NULL")]
        rows = db.run(
            "SELECT i.instance_id, IF(o.status = 'active', i.status, 'suspended'), i.deleted_at IS NOT NULL, i.tier, i.desired_state, i.generation, i.replicas, i.unload_generation, "
            "COALESCE(i.failure_reason, ''), JSON_VALUE(i.config, '$.build_fail') IS NOT NULL, p.worker_id, p.tier, p.generation, p.state, "
            "COALESCE(p.reason, '') FROM orchestrator_instances i JOIN organizations o USING (org_id) LEFT JOIN placements p USING (instance_id)")
        apps = {}
        for row in rows:
            apps.setdefault(tuple(row[:10]), []).extend([tuple(row[10:])] if row[10] else [])
        workers = len(self.pool.workers)
        for row, copies in apps.items():
            wrong += [("App is not as its row says", f"{text}; row {row}, copies {copies}") for text in self.judge(row, copies, workers)]
        return wrong

    @staticmethod
    def judge(row, copies, workers):
        _, status, deleted, tier, desired, generation, replicas, _, failure, is_broken = row
        may_fail = is_broken == "1" or failure == "poison"
        is_wanted = status == "active" and deleted == "0" and (tier == "demand" or desired == "loaded")
        if not is_wanted and copies:
            yield "it is held and not wanted"
            return
        if may_fail:
            return
        for worker, p_tier, p_generation, state, reason in copies:
            if (p_tier, p_generation, state, reason) != (tier, generation, "ready", ""):
                yield f"its copy on {worker} differs"
        wanted = min(int(replicas), workers)
        if tier == "hot" and is_wanted and len(copies) != wanted:
            yield f"{len(copies)} copies, {wanted} are wanted"
        if tier == "demand" and len(copies) > wanted:
            yield f"{len(copies)} copies, {wanted} are the most"

    # --- what became of the requests ---

    def read_database(self):
        db = self.pool.db
        keys = ("operation_id", "instance_id", "action", "generation", "state", "reason", "source", "request_id")
        self.operations = {r[0]: dict(zip(keys, r)) for r in db.run(f"SELECT {', '.join(keys)} FROM operations")}
        self.by_request = {o["request_id"]: o for o in self.operations.values() if o["request_id"] and o["source"] not in ("demand", "recovery")}
        self.audited = {r[0] for r in db.run("SELECT request_id FROM audit_log WHERE result = 'ok' AND request_id LIKE 'chaos-%'")}
        self.unloaded_at = {r[0]: int(r[1]) for r in db.run("SELECT instance_id, unload_generation FROM orchestrator_instances")}
        self.of_app = {}
        for o in self.operations.values():
            self.of_app.setdefault(o["instance_id"], []).append(o)

    def epoch(self, record):
        """Between which restores it lies; None where a restore fell into it."""
        end = record.ended or float("inf")
        if any(r.began <= end and record.began <= (r.ended or float("inf")) for r in self.restores):
            return None
        return sum(r.began <= record.began for r in self.restores)

    def must_be_known(self, at_began, at_ended):
        """No restore has thrown it away."""
        return all(r.began > (at_ended or float("inf")) and (at_ended or float("inf")) < r.backup.began
                   for r in self.restores if (r.ended or float("inf")) >= at_began)

    def resolve(self):
        """Each request: happened (is_accepted, with its generation), did not, or perhaps."""
        for a in self.load.asked:
            a.epoch = self.epoch(a)
            a.is_perhaps = False
            if a.is_accepted:
                a.is_perhaps = a.epoch is None or a.generation is None
                continue
            row = self.by_request.get(a.request_id)
            happened = row is not None or a.request_id in self.audited
            is_refused = a.status is not None and a.code is not None and a.code not in ("outcome_unknown", "internal")
            if happened and is_refused:
                self.found("refused, but done", f"{show(a)}; {row}")
            if row is not None:
                a.generation, a.operation_id = int(row["generation"]), row["operation_id"]
            if not is_refused:
                a.is_perhaps = (happened and row is None) or not self.must_be_known(a.began, a.ended) or a.epoch is None
                a.has_happened_unseen = happened
        self.of_target = {}
        for a in self.load.asked:
            if a.is_accepted or a.is_perhaps or getattr(a, "has_happened_unseen", False):
                self.of_target.setdefault(a.target, []).append(a)

    # --- operations ---

    def check_operations(self):
        for a in self.load.asked:
            if not a.is_accepted or not a.operation_id:
                continue
            self.count("operations")
            if not self.must_be_known(a.began, a.ended):
                self.count("operations lost by a restored backup, or perhaps")
                continue
            row = self.operations.get(a.operation_id)
            if row is None:
                self.found("accepted operation is lost", show(a))
                continue
            self.check_end(a, row)
            if a.seen_at and self.must_be_known(a.seen_at, a.seen_at) and row["state"] != a.seen_state:
                self.found("ended operation has changed", f"{show(a)}; now {row}")

    def check_end(self, a, row):
        state, reason = row["state"], row["reason"]
        is_unload = row["action"] == "unload"
        if state == "succeeded":
            return
        if state == "superseded" and reason == "org_suspended":
            self.count("operations superseded by the suspension of their organization")
        elif state == "superseded":
            generation = int(row["generation"])
            # An unload, suspension or deletion of an App that is not held needs no operation: the App's row knows of it.
            later = any(o["action"] != "unload" and int(o["generation"]) > generation for o in self.of_app[row["instance_id"]]) \
                if is_unload else self.unloaded_at.get(row["instance_id"], 0) > generation
            if not later:
                self.found("superseded by nothing", f"{show(a)}; {row}")
        elif state == "failed" and not is_unload and (reason in FAILURES):
            self.count(f"operations failed: {reason}")
            if reason == BROKEN and not a.target.is_crabby:
                self.found("failed without a reason to", f"{show(a)}; {row}")
        elif state in ("accepted", "running"):
            pass  # said already
        else:
            self.found("wrong end", f"{show(a)}; {row}")

    def check_generations(self):
        """Each change of an App has a generation of its own, and a later one a higher one."""
        for target, asked in self.of_target.items():
            for epoch in range(len(self.restores) + 1):
                known = sorted((a for a in asked if a.is_accepted and not a.is_perhaps and a.epoch == epoch), key=lambda a: a.began)
                seen = {}
                for a in known:
                    before = [b for b in known if b.ended < a.began and b.generation > a.generation]
                    if before:
                        self.found("a later change has a lower generation", f"{show(a)}; before it {show(before[0])}")
                    if a.operation_id and seen.setdefault(a.generation, a) is not a:
                        self.found("two changes have one generation", f"{show(a)}; {show(seen[a.generation])}")

    def check_recorded(self):
        """What was accepted is in the audit log, which is written in the same transaction."""
        for a in self.load.asked:
            if a.is_accepted and self.must_be_known(a.began, a.ended) and a.request_id not in self.audited:
                self.found("accepted change is not recorded", show(a))

    # --- what clients were told ---

    def check_answers(self):
        for a in self.load.asked:
            if a.is_accepted or a.status is None:
                continue
            if a.code is None and a.status in WEB_SERVERS_OWN:
                self.count("requests answered by the web server alone")
            elif a.status == 404:
                self.check_missing(a)
            elif a.code not in ASK_CODES:
                self.found("unexpected answer", show(a))
        for t in self.load.turns:
            if t.status == 200 and t.ending != "error":
                continue
            if t.status == 200:
                if t.code not in STREAM_ERRORS:
                    self.found("unexpected end of a stream", show(t))
            elif t.status is None or (t.code is None and t.status in WEB_SERVERS_OWN):
                self.count("chats answered by the web server alone, or not")
            elif t.status == 404:
                self.check_missing(t)
            elif t.code not in CHAT_CODES:
                self.found("unexpected answer", show(t))

    def check_calm(self):
        """While nothing was broken each request gets an answer of its own."""
        if not self.calm:
            return
        began, ended = self.calm
        for t in (*self.load.turns, *self.load.asked):
            if t.began < began or t.ended is None or t.ended > ended:
                continue
            self.count("requests in the calm")
            # In a cluster a request may reach the leaving worker's node just behind its farewell, and NATS drops it there.
            is_dropped = t.code == "worker_unresponsive" and len(self.pool.nats_nodes) > 1
            if is_dropped:
                self.count("requests in the calm that the cluster dropped")
            elif t.status is None or t.code in TROUBLE or (t.code is None and t.status in WEB_SERVERS_OWN) or \
                    getattr(t, "ending", None) == "cut":
                self.found("lost while nothing was broken", show(t))

    def check_missing(self, record):
        """404 is only right for an App made after a backup that was restored."""
        made = record.target.created_at
        if not any(r.began <= (record.ended or record.began) and r.backup.began <= made for r in self.restores):
            self.found("an App is unknown", show(record))

    # --- turns ---

    def check_turns(self):
        for t in self.load.turns:
            if t.status != 200:
                self.count(f"turns: {t.status} {t.code or ''}".strip())
                continue
            self.count(f"turns: 200{' ' + t.ending if t.ending else ''}")
            if t.ending == "cut" and not self.overlaps("app", t):
                self.found("a stream was cut without an error event", show(t))
            version = self.check_text(t)
            if version is not None and self.epoch(t) is not None:
                self.check_allowed(t, version, self.epoch(t))

    def overlaps(self, touches, t):
        return any(f.touches == touches and f.began <= t.ended + 1 and t.began <= (f.ended or float("inf")) + 1 for f in self.injected)

    def is_a_worker_leaving(self, t):
        return any(f.name == "worker terminated" and f.began <= t.ended and t.began <= (f.ended or float("inf")) for f in self.injected)

    def is_a_copy_draining(self, t, mine, by, may):
        """It was told to unload a moment ago, and before it had left the App was wanted again: loads and reloads do not wait for it."""
        oldest = min((a.generation for a in mine if a.generation is not None), default=0)
        doomed = any(d.kind in DOWN and t.began - d.began < DRAIN_S and not (d.seen_state == "succeeded" and d.seen_at < t.began) and
                     (d.generation is None or oldest < d.generation <= by.generation) for d in may)
        return doomed or any(org is t.target.org and at < t.ended and t.began - at < DRAIN_S for org, at in self.load.suspended)

    def check_text(self, t):
        """The version that answered; None where no whole prefix came."""
        m = re.match(r"(\w+):(\d+) ", t.text)
        if not m:
            if t.ending is None or t.ending == "done" or not re.match(r"\w*:?\d*$", t.text):
                self.found("wrong answer", f"{show(t)} message={t.message!r}")
            return None
        whole = m.group(0) + t.message
        if m.group(1) != t.target.tag:
            self.found("answered by a foreign App", f"{show(t)}")
            return None
        is_whole = t.ending is None or t.ending == "done"
        if (t.text != whole) if is_whole else not whole.startswith(t.text):
            self.found("wrong answer", f"{show(t)} message={t.message!r}")
        return int(m.group(2))

    def in_force(self, asked, epoch, at):
        """Those whose effect the clients could know of at that time: the operation was seen succeeded, or none was needed.

        A new configuration that needed none is known only by a later load: copies that an unload has doomed still drain."""
        for a in asked:
            if a.is_accepted and not a.is_perhaps and a.epoch == epoch:
                if a.operation_id is None and a.ended < at or a.seen_state == "succeeded" and a.seen_at < at:
                    yield a

    def is_just_restored(self, t):
        """The rows may not know of every copy yet, so an unload or a reload may have ended without it."""
        return any(r.ended and r.ended <= t.ended and t.began - r.ended < UNRECORDED_S for r in self.restores)

    def check_allowed(self, t, version, epoch):
        if self.is_just_restored(t):
            self.count("turns: 200 just after a backup was restored")
            return
        asked = self.of_target.get(t.target, [])
        # What may have happened until the answer.
        may = [a for a in asked if a.began < t.ended and (a.epoch == epoch or a.epoch is None)]

        def is_later(a, generation):
            return a.is_perhaps or a.generation is None or a.generation > generation

        known = list(self.in_force(asked, epoch, t.began))
        for down in known:
            if down.kind not in DOWN or (down.kind == "unload" and down.tier != "hot"):
                continue
            if not any(u.kind in UP and is_later(u, down.generation) for u in may):
                self.found("answered by an unloaded App", f"{show(t)}; {show(down)}")
                return
        self.check_version(t, version, epoch, known, may, is_later)

    def check_version(self, t, version, epoch, known, may, is_later):
        mine = [a for a in may if a.version == version]
        if not mine and not any(a.version == version for a in self.load.asked if a.target is t.target):
            self.found("answered with a configuration that nobody set", show(t))
            return
        configs = [a for a in may if a.version is not None]
        floor = by = None
        for a in known:
            if a.kind in ("config", "load", "reload") and a.operation_id:
                below = [c for c in configs if not c.is_perhaps and c.generation is not None and c.generation <= a.generation]
                newest = max(below, key=lambda c: c.generation, default=None)
                if newest is not None and (floor is None or newest.generation > floor.generation):
                    floor, by = newest, a
        if floor is None or version == floor.version or any(is_later(a, floor.generation) for a in mine):
            return
        if self.is_a_worker_leaving(t):
            # Its copies drain and are not rebuilt. A reload does not wait for them; what reaches them before they have
            # left the chat subject is served.
            self.count("turns: 200 by the old configuration on a worker that leaves")
            return
        if self.is_a_copy_draining(t, mine, by, may):
            self.count("turns: 200 by the old configuration of a copy that drains")
            return
        self.found("answered with an old configuration", f"{show(t)} version={version}; in force {show(floor)}")

    # --- what is held serves ---

    def check_served(self):
        rows = self.pool.db.run(
            "SELECT i.instance_id, IF(o.status = 'active', i.status, 'org'), i.deleted_at IS NOT NULL, i.tier, i.desired_state, "
            "JSON_VALUE(i.config, '$.prefix'), JSON_VALUE(i.config, '$.build_fail') IS NOT NULL OR COALESCE(i.failure_reason, '') <> '', "
            "i.org_id FROM orchestrator_instances i JOIN organizations o USING (org_id)")
        orgs = {org.id: org for org in self.load.orgs}
        for app, status, deleted, tier, desired, prefix, may_fail, org_id in rows:
            for i in range(2 * len(self.pool.workers)):  # the copies take turns
                problem = self.ask_once(orgs[org_id], app, i, status, deleted, tier, desired, prefix, may_fail == "1")
                if problem:
                    self.found("not served as its row says", f"App {app} ({prefix}): {problem}; {status} {tier} {desired} deleted={deleted}")
                    break

    def ask_once(self, org, app, i, status, deleted, tier, desired, prefix, may_fail):
        api = org.member
        r = self.pool.fronts[i % 2].request("POST", api.chat_path, api.token, {"instance_id": app, "message": "x y", "stream": False})
        if status == "org":
            right = r.code in ("org_suspended", "instance_deleted")
        elif deleted == "1":
            right = r.code == "instance_deleted"
        elif status == "suspended":
            right = r.code == "instance_suspended"
        elif tier == "hot" and desired == "unloaded":
            right = r.code == "instance_not_loaded"
        elif may_fail:
            right = r.code in ("instance_failed", "instance_not_loaded", "instance_loading") or \
                r.status == 200 and r.json["response"].split(":")[0] == prefix.split(":")[0]
        else:
            right = r.status == 200 and r.json["response"] == prefix + "x y"
        return None if right else r

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1
