# SPDX-License-Identifier: Apache-2.0
"""Load on an HTTP port: wrk with wrk.lua. Used by the bench and by the stories of test_scale.py."""
import json
import pathlib
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


class Result:
    """What one run of wrk saw. refused: answers of status 400 and above; broken: socket errors and timeouts."""

    def __init__(self, requests, seconds, refused, broken, p50_ms, p99_ms, max_ms):
        self.requests, self.seconds, self.refused, self.broken = requests, seconds, refused, broken
        self.p50_ms, self.p99_ms, self.max_ms = p50_ms, p99_ms, max_ms

    @property
    def rate(self):
        return self.requests / self.seconds

    def __repr__(self):
        return f"{self.requests} requests, {self.refused} refused, {self.broken} broken, p99 {self.p99_ms} ms"


class Load:
    """One kind of request, for a list of ids; @ID@ in path and body stands for the next one."""

    def __init__(self, method, path, token, body="", ids=("",)):
        self.method, self.path, self.token, self.ids = method, path, token, ids
        self.body = body if isinstance(body, str) else json.dumps(body)

    def run(self, port, clients, seconds, is_refusal=False):
        """wrk for so many seconds; fails where an answer is not what is wanted (is_refusal: status 400 and above)."""
        r = self.start(port, clients, seconds).result()
        assert r.requests > 0 and r.broken == 0, r
        assert r.refused == (r.requests if is_refusal else 0), r
        return r

    def start(self, port, clients, seconds):
        return Running(self, port, clients, seconds)


class Running:
    """wrk while it runs."""

    def __init__(self, load, port, clients, seconds):
        self.ids = tempfile.NamedTemporaryFile("w", prefix="hearth-ids-")
        self.ids.write("".join(f"{i}\n" for i in load.ids))
        self.ids.flush()
        self.process = subprocess.Popen(
            ["wrk", "--threads", "1", "--connections", str(clients), "--duration", f"{seconds}s", "--timeout", "60s",
             "--script", str(HERE / "wrk.lua"), f"http://127.0.0.1:{port}/", "--",
             load.method, load.path, load.token, load.body, self.ids.name],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def result(self):
        out, _ = self.process.communicate()
        self.ids.close()
        assert self.process.returncode == 0, out
        return Result(**json.loads(out.splitlines()[-1]))


def chat(org, ids, message="hello world"):
    """Chats that are not streamed."""
    return Load("POST", org.member.chat_path, org.member.token,
                {"instance_id": "@ID@", "message": message, "stream": False}, ids)


def lifecycle(org, what, ids):
    return Load("POST", org.admin.app_path("@ID@", "/" + what), org.admin.token, "{}", ids)
