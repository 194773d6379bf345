# SPDX-License-Identifier: Apache-2.0
"""A FastCGI client (FastCGI specification, sections 3 and 5): one request on one connection, no web server between."""
import socket
import struct

BEGIN_REQUEST, END_REQUEST, PARAMS, STDIN, STDOUT = 1, 3, 4, 5, 6
RESPONDER = 1


def record(kind, content=b"", request_id=1):
    return struct.pack("!BBHHBx", 1, kind, request_id, len(content), 0) + content


def pair(name, value):
    name, value = name.encode(), value.encode()
    lengths = b"".join(struct.pack("!B", n) if n < 128 else struct.pack("!I", n | 0x80000000)
                       for n in (len(name), len(value)))
    return lengths + name + value


class Request:
    """Sends the request at once; `read` reads the answer, `hang_up` closes the connection as a web server would."""

    def __init__(self, path, method, uri, token, body=b""):
        params = {
            "REQUEST_METHOD": method, "REQUEST_URI": uri, "SCRIPT_NAME": uri, "QUERY_STRING": "",
            "SERVER_PROTOCOL": "HTTP/1.1", "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body)),
            "HTTP_AUTHORIZATION": f"Bearer {token}", "REMOTE_ADDR": "127.0.0.1",
        }
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(30)
        self.socket.connect(str(path))
        self.socket.sendall(
            record(BEGIN_REQUEST, struct.pack("!HB5x", RESPONDER, 0))
            + record(PARAMS, b"".join(pair(n, v) for n, v in params.items())) + record(PARAMS)
            + b"".join(record(STDIN, body[i:i + 60000]) for i in range(0, len(body), 60000)) + record(STDIN))

    def read(self):
        """All of STDOUT until END_REQUEST."""
        out, stream = b"", self.socket.makefile("rb")
        while True:
            _, kind, _, length, padding = struct.unpack("!BBHHBx", stream.read(8))
            content = stream.read(length)
            stream.read(padding)
            if kind == END_REQUEST:
                return out
            if kind == STDOUT:
                out += content

    def hang_up(self):
        self.socket.close()
