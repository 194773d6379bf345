# SPDX-License-Identifier: Apache-2.0
"""Drives tests/fake/fcgi_client: one FastCGI connection, no web server between, and as bad as a story wants it."""
import subprocess

from harness import BUILD, SLOW

BEGIN, ABORT, PARAMS, STDIN = 1, 2, 4, 5


class Client:
    """One connection. The calls that send return False once the application has hung up."""

    def __init__(self, path):
        self.process = subprocess.Popen([BUILD / "tests/fake/fcgi_client", str(path)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def send(self, line, content=b""):
        self.process.stdin.write(line.encode() + b"\n" + content)
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer in (b"ok", b"closed"), answer
        return answer == b"ok"

    def begin(self):
        return self.send("begin")

    def params(self, **params):
        for name, value in params.items():
            self.send(f"param {name}={value}")
        return self.send("params")

    def record(self, kind, content=b"", request_id=1, version=1, length=None, padding=0):
        length = len(content) if length is None else length
        return self.send(f"record {version} {kind} {request_id} {length} {padding} {content.hex() or '-'}")

    def read(self, timeout=30):
        """The answer; None: the application hung up without one."""
        self.process.stdin.write(f"read {int(timeout * SLOW * 1000)}\n".encode())
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        assert answer != [b"timeout"], "neither an answer nor a hang-up"
        return self.process.stdout.read(int(answer[2])) if answer[0] == b"answered" else None

    def hang_up(self):
        """Closes the connection, as a web server does whose client has gone."""
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(30) == 0


class Request(Client):
    """A request as it should be, sent at once."""

    def __init__(self, path, method, uri, token, body=b""):
        super().__init__(path)
        self.begin()
        self.params(REQUEST_METHOD=method, REQUEST_URI=uri, SCRIPT_NAME=uri, QUERY_STRING="",
                    SERVER_PROTOCOL="HTTP/1.1", CONTENT_TYPE="application/json", CONTENT_LENGTH=len(body),
                    HTTP_AUTHORIZATION=f"Bearer {token}", REMOTE_ADDR="127.0.0.1")
        self.send(f"input {len(body)}", body)
