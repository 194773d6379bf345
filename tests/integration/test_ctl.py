# SPDX-License-Identifier: Apache-2.0
"""hearthctl, the schema, and what the programs say to a wrong configuration."""
import json
import re
import shutil
import subprocess

import pytest

from harness import PATH, SANITIZERS, SOURCE, Api, at_once, eventually, program


def run(name, *args):
    return subprocess.run([program(name), *args], capture_output=True, text=True, env={"PATH": PATH, **SANITIZERS}, timeout=60)


def test_a_second_migrate_changes_nothing(stack):
    before = stack.db.run("SHOW TABLES")
    done = stack.ctl_run("migrate")
    assert done.returncode == 0, done.stderr
    assert stack.db.run("SHOW TABLES") == before


def test_two_migrates_at_once_are_one(stack):
    assert [d.returncode for d in at_once(*[lambda: stack.ctl_run("migrate")] * 3)] == [0, 0, 0]


def test_a_changed_file_that_was_applied_is_an_error(stack):
    changed = stack.folder / "changed-schema"
    shutil.copytree(SOURCE / "schema", changed)
    (changed / "001_init.sql").write_text((changed / "001_init.sql").read_text() + "-- changed\n")
    stack.write_conf(ctl={"schema_dir": changed})
    done = stack.ctl_run("migrate")
    stack.write_conf()
    assert done.returncode != 0 and "001_init.sql" in done.stderr, done.stderr


def test_the_programs_refuse_an_older_schema_and_say_what_to_do(stack):
    stack.db.run("CREATE DATABASE empty_one; GRANT SELECT ON empty_one.* TO hearth_app@localhost; "
                 "GRANT SELECT ON empty_one.* TO hearth_worker@localhost")
    conf = stack.folder / "empty.conf"
    stack.write_conf(conf, database={"name": "empty_one"}, app={"socket": stack.folder / "other.sock"})
    for name in ("hearth.fcgi", "hearth-worker"):
        done = run(name, "--config", str(conf))
        assert done.returncode != 0 and "hearthctl migrate" in done.stderr, (name, done)


def test_organizations_and_tokens(stack):
    stack.ctl("org", "create", "made by ctl")
    (org_id,) = [o["org_id"] for o in json.loads(stack.ctl("org", "list", "--json"))["items"] if o["name"] == "made by ctl"]
    assert "made by ctl" in stack.ctl("org", "list")
    token = stack.ctl("token", "create", "--org", org_id, "--role", "org_admin", "by ctl")
    assert token.startswith("hrt_") and token.count("\n") == 1  # nothing else on stdout
    api = Api(stack.http, token.strip(), org_id)
    assert api.get(f"/api/orgs/{org_id}/orchestrators").status == 200
    listed = stack.ctl("token", "list", "--org", org_id, "--json")
    assert token.strip() not in listed
    (token_id,) = [t["token_id"] for t in json.loads(listed)["items"] if t["name"] == "by ctl"]
    stack.ctl("token", "revoke", token_id)
    eventually(lambda: api.get(f"/api/orgs/{org_id}/orchestrators").code == "unauthorized", 3)


def test_status_shows_the_pool(stack):
    assert "w1" in stack.ctl("status")
    assert "w1" in json.dumps(json.loads(stack.ctl("status", "--json")))


@pytest.mark.parametrize("args", [(), ("nonsense",), ("org",), ("token", "create"), ("token", "create", "--role", "king", "x"),
                                  ("token", "create", "--role", "member", "x"), ("org", "create"), ("token", "revoke", "nonsense")])
def test_wrong_use_is_an_error_with_a_word_of_help(stack, args):
    done = stack.ctl_run(*args)
    assert done.returncode != 0 and done.stdout == "" and done.stderr.strip(), done


@pytest.mark.parametrize("args, words", [
    (("token", "create", "x"), "--role is missing: member, org_admin or sys_admin"),
    (("token", "create", "--role", "king", "x"), "--role: 'king' is not member, org_admin or sys_admin"),
])
def test_what_is_wrong_with_a_role_is_said(stack, args, words):
    assert stack.ctl_run(*args).stderr.startswith(f"hearthctl: {words}\n")


def test_a_refusal_begins_with_words(stack):
    stack.ctl("org", "create", "twice")
    done = stack.ctl_run("org", "create", "twice")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "hearthctl: making organization twice: The name is taken (name_taken)\n"
    unknown = "00000000-0000-7000-8000-000000000000"
    done = stack.ctl_run("token", "revoke", unknown)
    assert done.stderr == f"hearthctl: revoking token {unknown}: There is no such token (token_not_found)\n"


@pytest.mark.parametrize("noun, verbs", [("keys", {"new", "list", "distribute-check", "reseal", "retire"}), ("org", {"create", "list"}),
                                         ("token", {"create", "list", "revoke"})])
def test_the_help_of_a_noun_shows_its_commands_alone(noun, verbs):
    done = run("hearthctl", noun, "--help")
    assert done.returncode == 0 and run("hearthctl", noun, "-h").stdout == done.stdout
    shown = [line.split() for line in done.stdout.splitlines() if re.match(r"  \S", line)]
    assert {words[0] for words in shown} == {noun} and {words[1] for words in shown} == verbs


@pytest.mark.parametrize("name", ["hearth.fcgi", "hearth-worker", "hearthctl"])
def test_help_version_check_and_dump(stack, name):
    assert "--config" in run(name, "--help").stdout
    assert run(name, "--version").stdout.startswith(name)
    done = run(name, "--config", str(stack.conf), "--check")
    assert done.returncode == 0, done.stderr
    done = run(name, "--config", str(stack.conf), "--dump")
    assert done.returncode == 0 and "[database]" in done.stdout
    for what in ("app-database", "worker-database", "app-nats", "worker-nats", "ctl-database"):
        assert stack.secret(what) not in done.stdout


@pytest.mark.parametrize("name", ["hearth.fcgi", "hearth-worker", "hearthctl"])
@pytest.mark.parametrize("line, word", [("colour = red", "colour"), ("lease_s = 100000", "lease_s"), ("lease_s = soon", "lease_s")])
def test_a_wrong_option_is_named_with_its_line(stack, name, line, word):
    conf = stack.folder / "wrong.conf"
    conf.write_text(f"[worker]\nname = x\n{line}\n")
    done = run(name, "--config", str(conf), "--check")
    assert done.returncode != 0 and word in done.stderr and "3" in done.stderr, done.stderr


def test_a_missing_file_is_named(stack):
    done = run("hearth-worker", "--config", "/nonexistent/hearth.conf", "--check")
    assert done.returncode != 0 and "/nonexistent/hearth.conf" in done.stderr


def test_the_dump_is_itself_a_valid_configuration(stack):
    again = stack.folder / "again.conf"
    again.write_text(run("hearth-worker", "--config", str(stack.conf), "--dump").stdout)
    again.chmod(0o600)
    assert run("hearth-worker", "--config", str(again), "--check").returncode == 0


def test_the_openapi_document_has_every_route_and_no_other():
    described, path = set(), None
    for line in (SOURCE / "docs/openapi.yaml").read_text().splitlines():
        if m := re.fullmatch(r"  (/\S*):", line):
            path = m.group(1)
        elif (m := re.fullmatch(r"    (get|post|patch|delete|put):", line)) and path:
            described.add((m.group(1).upper(), path))
    assert described == {(r["method"], r["path"]) for r in json.loads(run("hearth.fcgi", "--routes").stdout)}
