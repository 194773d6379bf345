# SPDX-License-Identifier: Apache-2.0
"""A model provider whose every byte a test says, for both kinds of API.

    with Provider() as p:                 # http://127.0.0.1:<port>, base URL p.url
        p.script("m", text("Hello"))      # what the model "m" answers, from now on
        p.script("t", call("calculator", {"expression": "6*7"}), text("It is 42."))

A script is a list of answers, given in turn; the last one again and again. An answer is a function that is called with
the handler (`say`, `event`, `request`) or one of the makers below. What was asked stands in `requests`, by model; a
request of the OpenAI kind is answered in its dialect, one to /messages in Anthropic's.
"""
import contextlib
import http.server
import json
import socket
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    # --- for answers ---

    def head(self, status=200, content_type="text/event-stream", **headers):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def say(self, data):
        """One chunk of the body."""
        data = data.encode() if isinstance(data, str) else data
        if data:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()

    def end(self):
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def whole(self, status, body, content_type="application/json", **headers):
        body = body if isinstance(body, (bytes, str)) else json.dumps(body)
        body = body.encode() if isinstance(body, str) else body
        self.head(status, content_type, Content_Length=str(len(body)), **headers)
        self.wfile.write(body)
        self.wfile.flush()

    @property
    def is_anthropic(self):
        return self.path.endswith("/messages")

    def wait_gone(self, seconds=60):
        """Until the client has hung up; True: it has, and is counted."""
        self.connection.settimeout(seconds)
        with contextlib.suppress(ConnectionResetError):
            try:
                if self.connection.recv(1) != b"":
                    return False
            except (socket.timeout, TimeoutError):
                return False
        self.server.provider.note_gone()
        return True

    # --- serving ---

    def do_GET(self):
        self.server.provider.note("", self, None)
        answer = self.server.provider.listing
        if answer:
            self.give(answer)
        else:
            self.whole(200, {"object": "list", "data": []})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.server.provider.next_answer(body.get("model"))
        self.server.provider.note(body.get("model"), self, body)  # who sees it may be sure which answer it was given
        self.give(answer, *[body] if answer.__code__.co_argcount > 1 else [])

    def give(self, answer, *body):
        """An answer, to its end or until the client hangs up: a write may notice that as well as wait_gone."""
        try:
            answer(self, *body)
        except (BrokenPipeError, ConnectionResetError):
            self.server.provider.note_gone()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def process_request(self, *connection):
        self.provider.connections += 1  # on the one thread that accepts
        super().process_request(*connection)

    def handle_error(self, *_):
        pass


class Provider:
    def __init__(self, port=0):
        self.server = Server(("127.0.0.1", port), Handler)
        self.server.provider = self
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.lock = threading.Lock()
        self.scripts, self.requests = {}, []
        self.listing = None
        self.connections = 0
        self.gone = 0  # clients that hung up in the middle of an answer
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def script(self, model, *answers):
        with self.lock:
            self.scripts[model] = list(answers)

    def note(self, model, handler, body):
        with self.lock:
            self.requests.append({"model": model, "path": handler.path, "headers": dict(handler.headers), "body": body})

    def asked(self, model):
        with self.lock:
            return [r["body"] for r in self.requests if r["model"] == model]

    def next_answer(self, model):
        with self.lock:
            answers = self.scripts.get(model)
            if not answers:
                return lambda handler: handler.whole(404, {"error": {"message": f"no model {model}"}})
            return answers.pop(0) if len(answers) > 1 else answers[0]

    def note_gone(self):
        with self.lock:
            self.gone += 1


# --- what to say, in either dialect ---

def data(value):
    return f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n"


def named(name, **value):
    return f"event: {name}\n" + data({"type": name, **value})


def chunk(**delta):
    return data({"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


def finish(reason, tokens=(7, 5)):
    return (data({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
            + data({"choices": [], "usage": {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}}) + data("[DONE]"))


def anthropic_start(tokens):
    return named("message_start", message={"usage": {"input_tokens": tokens, "output_tokens": 1}})


def anthropic_end(reason, tokens):
    return (named("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": tokens})
            + named("message_stop"))


def text(*pieces, tokens=(7, 5), delay=0):
    """An answer of text, a piece at a time."""
    def answer(h):
        h.head()
        if h.is_anthropic:
            h.say(anthropic_start(tokens[0]) + named("content_block_start", index=0, content_block={"type": "text", "text": ""}))
        for piece in pieces:
            if delay:
                time.sleep(delay)
            h.say(named("content_block_delta", index=0, delta={"type": "text_delta", "text": piece}) if h.is_anthropic
                  else chunk(content=piece))
        h.say(anthropic_end("end_turn", tokens[1]) if h.is_anthropic else finish("stop", tokens))
        h.end()
    return answer


def calls(*wanted, before="", tokens=(7, 5)):
    """An answer that asks for tools: (name, arguments) each; arguments that are no dict are sent as they are."""
    def answer(h):
        h.head()
        texts = [a if isinstance(a, str) else json.dumps(a) for _, a in wanted]
        if h.is_anthropic:
            h.say(anthropic_start(tokens[0]))
            for i, ((name, _), arguments) in enumerate(zip(wanted, texts)):
                h.say(named("content_block_start", index=i,
                            content_block={"type": "tool_use", "id": f"t{i}", "name": name, "input": {}})
                      + named("content_block_delta", index=i,
                              delta={"type": "input_json_delta", "partial_json": arguments})
                      + named("content_block_stop", index=i))
            h.say(anthropic_end("tool_use", tokens[1]))
        else:
            if before:
                h.say(chunk(content=before))
            for i, ((name, _), arguments) in enumerate(zip(wanted, texts)):
                h.say(chunk(tool_calls=[{"index": i, "id": f"t{i}", "type": "function",
                                         "function": {"name": name, "arguments": ""}}]))
                for at in range(0, len(arguments), 5):
                    h.say(chunk(tool_calls=[{"index": i, "function": {"arguments": arguments[at:at + 5]}}]))
            h.say(finish("tool_calls", tokens))
        h.end()
    return answer


def call(name, arguments, **more):
    return calls((name, arguments), **more)


def echo_last(h, body):
    """The text of the last message, word by word."""
    last = body["messages"][-1]["content"]
    if isinstance(last, list):
        last = "".join(part.get("text", "") for part in last)
    text(*(last or "").split(" "))(h)


def status(code, message="no", **headers):
    def answer(h):
        h.whole(code, {"error": {"message": message}}, **headers)
    return answer


def hang(h):
    """Says nothing."""
    h.wait_gone()


def hang_after(*pieces):
    """Says something and then nothing."""
    def answer(h):
        h.head()
        for piece in pieces:
            h.say(chunk(content=piece))
        h.wait_gone()
    return answer


def trickle(h):
    """A page without end, a little at a time."""
    h.head(content_type="text/plain")
    while not h.wait_gone(0.5):
        h.say("x")


def raw(*pieces, content_type="text/event-stream", is_cut=False):
    """Bytes as they are, a piece a chunk; is_cut: the connection breaks behind them."""
    def answer(h):
        h.head(content_type=content_type)
        for piece in pieces:
            h.say(piece)
        if is_cut:
            h.close_connection = True
        else:
            h.end()
    return answer


def drop(h):
    """Hangs up without an answer."""
    h.close_connection = True


def endless(h):
    h.head()
    while True:
        h.say(chunk(content="x" * 1000))


if __name__ == "__main__":  # by hand: a provider that echoes
    import sys
    provider = Provider(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    provider.next_answer = lambda model: echo_last
    print(provider.url, flush=True)
    threading.Event().wait()
