# SPDX-License-Identifier: Apache-2.0
"""A client that hangs up ends its turn in the worker, long before the answer would have ended."""
import time

import fastcgi
from harness import Background, eventually

LONG = "word " * 600  # at 100 ms a word: a minute


def busy_app(org, **config):
    app = org.new_app(tier="hot", config={"word_delay_ms": 100, **config})
    org.admin.load(app)
    return app


def turns_end(stack):
    started = time.monotonic()
    eventually(lambda: stack.next_flush()["turns_in_flight"] == 0, 20, "no turn is in flight")
    assert time.monotonic() - started < 20


def test_a_stream_that_is_hung_up_ends_the_turn(stack, org):
    app = busy_app(org)
    streams = [org.member.chat_stream(app, LONG) for _ in range(5)]
    for stream in streams:
        stream.first()
    stack.wait_in_flight(5)
    for stream in streams:
        stream.hang_up()
    turns_end(stack)


def test_a_client_that_just_closes_its_socket_ends_the_turn_too(stack, org):
    app = busy_app(org)
    stream = org.member.chat_stream(app, LONG)
    stream.first()
    stream.close()
    turns_end(stack)


def test_a_turn_that_is_silent_ends_too(stack, org):
    app = busy_app(org, word_delay_ms=60000)
    stream = org.member.chat_stream(app, "a b")
    stream.first()
    stack.wait_in_flight(1)
    stream.hang_up()
    turns_end(stack)


def test_a_chat_that_is_not_streamed_ends_too(stack, org):
    # Without lighttpd between: until a back end answers, lighttpd does not look whether its client is still there.
    app = busy_app(org)
    body = b'{"instance_id":"%s","message":"%s","stream":false}' % (app.encode(), LONG.encode())
    chat = fastcgi.Request(stack.app.socket, "POST", org.member.chat_path, org.member.token, body)
    stack.wait_in_flight(1)
    chat.hang_up()
    turns_end(stack)


def test_clients_that_open_demand_apps_and_hang_up_leave_nothing_pinned(stack, org):
    apps = [org.new_app(ttl_seconds=1, config={"build_delay_ms": 500, "word_delay_ms": 100}) for _ in range(10)]
    for app in apps:
        stream = Background(org.member.chat_stream, app, LONG).join()
        stream.hang_up()
    turns_end(stack)
    for app in apps:
        eventually(lambda: stack.placements(app) == [], 30)
    assert stack.db.number("SELECT COUNT(*) FROM operations WHERE is_open = 1") == 0


def test_other_turns_of_the_same_app_go_on(stack, org):
    app = busy_app(org)
    quits, stays = org.member.chat_stream(app, LONG), org.member.chat_stream(app, "word " * 30)
    quits.first()
    stays.first()
    quits.hang_up()
    assert stays.rest()[-1].data.get("done") is True
