# SPDX-License-Identifier: Apache-2.0
"""Tokens, passwords and the keys of LLM configs: in no log, dump, error or command line, for no other process to read, and not kept in memory."""
import json
import os
import pathlib
import re
import secrets
import shutil
import subprocess

import pytest

import fastcgi
import harness
from harness import SANITIZERS, SOURCE, eventually, program

PROGRAMS = ("hearth.fcgi", "hearth-worker", "hearthctl")


@pytest.fixture(scope="module")
def module_stack():
    # A sanitizer keeps what was freed; the usual allocator is told by the program to overwrite it.
    before = SANITIZERS["ASAN_OPTIONS"]
    SANITIZERS["ASAN_OPTIONS"] = before + ":max_free_fill_size=16777216"
    stack = harness.Stack(app={"threads_max": 8})
    stack.allowed_always = []
    yield stack
    found = stack.stop()
    SANITIZERS["ASAN_OPTIONS"] = before
    assert not found, "\n".join(found)


def run(stack, name, *args, **environment):
    done = subprocess.run([program(name), "--config", str(stack.conf), *args], capture_output=True, text=True,
                          env={"PATH": harness.PATH, "LC_ALL": "C", **SANITIZERS, **environment}, timeout=60 * harness.SLOW)
    return done.returncode, done.stdout + done.stderr


def all_secrets(stack):
    return [stack.secret(f"{who}-{kind}") for who in harness.USERS for kind in ("database", "nats")]


# --- files ---


def test_the_socket_has_the_mode_of_the_configuration(stack):
    assert oct(stack.app.socket.stat().st_mode & 0o7777) == "0o660"


@pytest.mark.parametrize("name,who", [("hearth.fcgi", "app"), ("hearth-worker", "worker"), ("hearthctl", "ctl")])
def test_a_password_file_that_others_may_touch_is_refused(stack, name, who):
    args = ("status",) if name == "hearthctl" else ("--check",)
    path = stack.folder / "secret" / f"{who}-database"
    try:
        for mode in (0o644, 0o604, 0o660, 0o602, 0o666):
            path.chmod(mode)
            status, said = run(stack, name, *args)
            assert status == 1 and f"mode {mode:o} gives it to others" in said, (oct(mode), said)
            assert not [s for s in all_secrets(stack) if s in said]
        for mode in (0o600, 0o640, 0o400):
            path.chmod(mode)
            assert run(stack, name, *args)[0] == 0, oct(mode)
    finally:
        path.chmod(0o600)


def test_a_password_in_a_file_that_everyone_reads_is_warned_of_and_not_shown(stack):
    conf = stack.folder / "open.conf"
    conf.write_text(stack.conf.read_text().replace("[ctl]\n", "[ctl]\ndatabase_password = hush-hush-hush\n"))
    conf.chmod(0o644)
    status, said = run(stack, "hearth.fcgi", "--check", str(conf))
    assert "everyone can read a password" in said and "hush" not in said
    conf.chmod(0o640)
    assert "everyone" not in run(stack, "hearth.fcgi", "--check", str(conf))[1]


def test_a_dump_holds_no_password_wherever_it_came_from(stack):
    with_password = stack.folder / "password.conf"
    with_password.write_text(re.sub(r"(?m)^database_password_file = .*$", "database_password = hush-hush-hush",
                                    stack.conf.read_text()))
    with_password.chmod(0o600)
    for name in PROGRAMS[:2]:
        for environment in ({}, {"HEARTH_DATABASE_PASSWORD": "hush-from-outside", "HEARTH_NATS_PASSWORD": "hush-from-there"},
                            {"HEARTH_CONFIG": str(with_password)}):
            done = subprocess.run([program(name), "--dump", "--config", environment.get("HEARTH_CONFIG", str(stack.conf))],
                                  capture_output=True, text=True, env={"PATH": harness.PATH, **SANITIZERS, **environment})
            assert done.returncode == 0 and "[database]" in done.stdout, done.stderr
            assert "hush" not in done.stdout + done.stderr
            assert not [s for s in all_secrets(stack) if s in done.stdout + done.stderr]


# --- what is said ---


def test_logs_answers_and_command_lines_hold_no_secret(stack, org):
    """At level debug, after requests that are refused in every way."""
    app = org.new_app(tier="hot", config={"prefix": "x"})
    org.admin.load(app)
    tokens = [org.admin.token, org.member.token, stack.sys.token, "hrt_" + "N" * 43, "hrt_short", "hrt_" + "M" * 44]
    answers = []
    for token in tokens:
        for method, path, body in (("GET", org.admin.app_path(app), None), ("POST", org.admin.chat_path, {"instance_id": app}),
                                   ("POST", org.admin.chat_path, {"message": token}), ("GET", f"/nowhere/{app}", None),
                                   ("POST", org.admin.app_path(app, "/load"), {token: 1}),
                                   ("PATCH", org.admin.app_path(app, "/config"), {"config": {"build_fail": 7}})):
            answers.append((token, stack.http.request(method, path, token, body)))
    stack.allow("broken", "failed")
    for token, r in answers:
        shown = r.body.decode() + str(r.headers)
        if "is not a field" not in shown:  # a name that the client itself sent in the body
            assert token not in shown, r
        assert not [s for s in all_secrets(stack) if s in shown]
    for p in (stack.app, stack.worker, stack.lighttpd, stack.nats):
        text = p.text() + pathlib.Path(f"/proc/{p.pid}/cmdline").read_bytes().decode()
        for secret in [*tokens, *all_secrets(stack)]:
            assert secret not in text, (p.name, secret)
    assert "route=" in stack.app.text()


def test_a_key_of_an_llm_config_is_nowhere_but_in_its_seal(stack, org):
    """Not in answers, also not in refusals; not in the database, nor in what the programs write."""
    key, header = "sk-" + secrets.token_hex(24), "seven-" + secrets.token_hex(8)
    where = f"/api/orgs/{org.id}/llm-configs"
    good = {"name": "main", "provider": "openai", "base_url": "https://1.1.1.1/v1", "api_key": key, "extra_headers": {"X-Team": header}}
    made = org.admin.post(where, good)
    item = f"{where}/{made.json['llm_config_id']}"
    stack.allow("refused", "not taken")
    answers = [made, org.admin.get(item), org.admin.get(where), org.admin.patch(item, {"api_key": key + "2"}), org.admin.post(where, good),
               org.admin.post(where, {**good, "provider": key}), org.admin.post(where, {**good, "base_url": f"https://{key}@1.1.1.1"}),
               org.admin.post(where, {**good, "base_url": "http://127.0.0.1"}), org.admin.post(where, {**good, "name": 7}),
               org.admin.post(where, {**good, "extra_headers": {"X-Team": header + "\n"}}), org.member.post(where, good),
               stack.sys.post(where, good), stack.http.request("POST", where, None, good), org.admin.post(where, json.dumps(good)[:-1]),
               org.admin.post(f"/api/orgs/{org.id}/orchestrators", {"name": "agent", "framework_type": "agent", "config": {
                   "llm_config_id": made.json["llm_config_id"], "model": "m"}})]
    assert [r.status for r in answers] == [201, 200, 200, 200, 409, 422, 422, 422, 422, 422, 403, 403, 401, 400, 201]
    ring = (stack.folder / "secret" / "keys").read_text().split()[-1]
    hidden = [key, header, ring]
    for r in answers:
        assert not [s for s in hidden if s in r.body.decode() + str(r.headers)], r
    for table in ("sealed_values", "llm_config_generations", "llm_configs", "audit_log", "operations", "orchestrator_instances"):
        assert not [s for s in hidden if s in str(stack.db.run(f"SELECT * FROM {table}"))], table
    for p in (stack.app, stack.worker, stack.lighttpd, stack.nats, stack.db):
        text = p.text() + pathlib.Path(f"/proc/{p.pid}/cmdline").read_bytes().decode()
        assert not [s for s in hidden if s in text], p.name
    for name, *args in (("hearth.fcgi", "--dump"), ("hearth-worker", "--dump"), ("hearthctl", "keys", "list"),
                        ("hearthctl", "keys", "distribute-check", "--json")):
        assert not [s for s in hidden if s in run(stack, name, *args)[1]]


# --- who may look ---


def environ_as(uid, pid):
    """Whether a process of that user may look into another one; environ needs the same right as a debugger's first look."""
    code = f"import os; os.setgroups([]); os.setgid({uid}); os.setuid({uid}); open('/proc/{pid}/environ','rb').read()"
    return subprocess.run(["/usr/bin/python3", "-c", code], capture_output=True).returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("name", PROGRAMS[:2])
def test_nobody_of_the_same_user_may_look_into_a_program(stack, name, tmp_path_factory):
    uid = 65534
    folder = tmp_path_factory.mktemp("nobody")
    for part in (folder, *folder.parents):
        if part != pathlib.Path("/") and "pytest" in str(part):
            part.chmod(0o755)
    binary = shutil.copy2(program(name), folder / name)
    conf = folder / "hearth.conf"
    # Neither database nor bus are there: both programs wait for them.
    conf.write_text(f"[database]\nsocket = {folder}/none\n[nats]\nurl = nats://127.0.0.1:1\n[app]\nsocket = {folder}/a.sock\n"
                    "database_password = hush\n[worker]\nname = nobody\ndatabase_password = hush\n")
    conf.chmod(0o644)
    folder.chmod(0o777)
    log = open(folder / "log", "wb")

    def become_nobody():
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)

    control = subprocess.Popen(["/bin/sleep", "60"], preexec_fn=become_nobody)
    ours = subprocess.Popen([binary, "--config", str(conf)], preexec_fn=become_nobody, stdin=subprocess.DEVNULL,
                            stdout=log, stderr=log, env={"PATH": harness.PATH, **SANITIZERS})
    try:
        eventually(lambda: (folder / "log").read_bytes().count(b"\n") > 1, what=f"{name} runs")
        eventually(lambda: environ_as(uid, control.pid), what="one process of nobody's may look into another")
        assert not environ_as(uid, ours.pid)
        assert pathlib.Path(f"/proc/{ours.pid}/mem").stat().st_uid == 0
        assert re.search(r"Max core file size +0 +0 ", pathlib.Path(f"/proc/{ours.pid}/limits").read_text())
    finally:
        for process in (control, ours):
            process.kill()
            process.wait()
        log.close()


# --- memory ---


def is_of_thread_sanitizer():
    return b"__tsan_init" in pathlib.Path(harness.program("hearth.fcgi")).read_bytes()


def memory_holds(pid, text):
    """How often the text is in the process's memory; only root may look."""
    found = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            where, rights = line.split()[:2]
            start, end = (int(x, 16) for x in where.split("-"))
            if "w" not in rights or "[v" in line or end - start > 1 << 30:  # a sanitizer's shadow is larger than all we have
                continue
            while start < end:
                try:
                    memory.seek(start)
                    piece = memory.read(min(end - start, 1 << 22))
                except (OSError, OverflowError, ValueError):
                    break  # a shadow of a sanitizer, or gone
                if not piece:
                    break
                found += piece.count(text)
                start += len(piece)
    return found




@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into a program")
@pytest.mark.skipif(is_of_thread_sanitizer(), reason="its allocator overwrites nothing that is freed")
def test_a_key_is_gone_from_memory_when_it_is_sealed(stack, org):
    """Whatever the body looked like, and whatever became of it."""
    key, header = "sk-" + secrets.token_hex(24), "seven-" + secrets.token_hex(40)
    where = f"/api/orgs/{org.id}/llm-configs"
    good = {"name": "main", "provider": "openai", "base_url": "https://1.1.1.1/v1", "api_key": key, "extra_headers": {"X-Team": header}}
    escaped = json.dumps(good).replace(key, "\\u0073" + key[1:])  # decoded in another place than it was read
    item = f"{where}/{org.admin.post(where, good).json['llm_config_id']}"
    for sent in ({**good, "name": "two"}, escaped.replace("main", "three"), {**good, "name": "many", "defaults": {"a": "x" * 6000}},
                 {**good, "provider": "none"}, {**good, "base_url": "http://127.0.0.1"}, good, json.dumps(good)[:-1], {"x": [{"y": key}]}):
        assert org.admin.post(where, sent).status in (201, 400, 409, 422)
    assert org.admin.patch(item, {"api_key": key, "extra_headers": {"X-Other": header}}).status == 200
    assert org.member.post(where, good).status == 403
    # The last thing that is parsed at all, so that nothing else comes into its place.
    assert org.admin.post(where, json.dumps({"provider": "none", "api_key": key}).replace(key, "\\u0073" + key[1:])).status == 422
    for text in (key, header):
        # An allocator writes into the first bytes of what is freed.
        eventually(lambda text=text: memory_holds(stack.app.pid, text[20:].encode()) == 0, 20, "nothing of it is left in memory")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into a program")
@pytest.mark.skipif(is_of_thread_sanitizer(), reason="its allocator overwrites nothing that is freed")
def test_a_token_is_gone_from_memory_when_its_request_is_over(stack, org):
    token = org.new_token("org_admin")["token"]
    # The application made it and showed it; of that, too, nothing may be told apart: a fresh process.
    stack.app.stop()
    stack.app.start()
    pid, text = stack.app.pid, token[4:].encode()
    assert memory_holds(pid, text) == 0
    slow = org.new_app(tier="hot", config={"word_delay_ms": 100})
    org.admin.load(slow)
    body = b'{"instance_id":"%s","message":"%s"}' % (slow.encode(), b"word " * 20)
    stream = fastcgi.Request(stack.app.socket, "POST", org.admin.chat_path, token, body)
    stream.read()
    stream.hang_up()
    for uri in (org.admin.app_path(slow), f"/api/orgs/{org.id}/orchestrators", "/nowhere"):
        client = fastcgi.Request(stack.app.socket, "GET", uri, token)
        assert client.read()
        client.hang_up()
    late = fastcgi.Client(stack.app.socket)  # one that went through the anteroom
    late.begin()
    late.params(REQUEST_METHOD="POST", REQUEST_URI=org.admin.app_path(slow, "/reload"), CONTENT_LENGTH=2,
                HTTP_AUTHORIZATION=f"Bearer {token}")
    late.send("input 2", b"{}")
    assert b" 202 " in late.read()
    late.hang_up()
    broken = fastcgi.Client(stack.app.socket)
    broken.begin()
    broken.params(REQUEST_METHOD="GET", REQUEST_URI="/", HTTP_AUTHORIZATION=f"Bearer {token}")
    broken.hang_up()
    eventually(lambda: memory_holds(pid, text) == 0, 20, "no token is left in memory")
