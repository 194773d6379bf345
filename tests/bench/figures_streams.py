# SPDX-License-Identifier: Apache-2.0
"""Many streams at once through one hearth.fcgi: the time between two chunks of a stream, beside that of one stream alone."""
import json
import subprocess
import tempfile

import harness
from rows import Figure
from servers import servers

ROUNDS = 3
STREAMS = 1000
WORD_DELAY_MS = 100  # a model that says ten words a second
WORDS = 60


class Streams:
    """Streams of one hot echo App, all begun at once. result: the line of stream_client.c."""

    def __init__(self, stack, org):
        self.stack, self.org = stack, org
        self.app = org.new_app(tier="hot", config={"word_delay_ms": WORD_DELAY_MS})
        org.admin.load(self.app)

    def run(self, count, words=WORDS):
        body = json.dumps({"instance_id": self.app, "message": "word " * words}).encode()
        head = (f"POST {self.org.member.chat_path} HTTP/1.0\r\nHost: localhost\r\n"
                f"Authorization: Bearer {self.org.member.token}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n").encode()
        with tempfile.NamedTemporaryFile(prefix="hearth-request-") as f:
            f.write(head + body)
            f.flush()
            done = subprocess.run([str(harness.BUILD / "tests/bench/stream_client"), str(self.stack.lighttpd.port),
                                   str(count), str(words), f.name], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["whole"] == count, f"streams were lost: {result}"
        return result


def streams():
    # A few threads never serve a stream (fcgi-app/gate.c).
    with servers(app={"threads_max": STREAMS + 100}) as stack:
        several = Streams(stack, stack.new_org())
        several.run(STREAMS // 10, 10)
        alone, many = [], []
        for _ in range(ROUNDS):
            alone.append(several.run(1))
            many.append(several.run(STREAMS))
        return [Figure(f"{STREAMS:,} streams at once, p99 gap", "ms", [r["p99_ms"] for r in many],
                       ("<=", 3, "ratio"), [r["p99_ms"] for r in alone], [r["p50_ms"] for r in many],
                       [r["p99_ms"] for r in many],
                       f"none lost; a word every {WORD_DELAY_MS} ms, {WORDS} words; floor: one stream alone")]


GROUPS = {"streams": streams}
