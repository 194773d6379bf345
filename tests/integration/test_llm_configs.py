# SPDX-License-Identifier: Apache-2.0
"""LLM configs: saved, shown without their keys, changed, removed; what may be saved, and by whom."""
import json
import subprocess

import pytest

from harness import Background, NatsClient, eventually, program

KEY = "sk-0123456789-abcdef-wxyz"
NOBODY = "http://127.0.0.2:9/v1"  # where Apps that are built may look in vain
OPTIONS = {"llm": {"allowed_networks": "127.0.0.2, 1.1.2.0/24"}}


def path(org, item=None):
    return f"/api/orgs/{org.id}/llm-configs" + (f"/{item}" if item else "")


def body(**fields):
    return {"name": "main", "provider": "openai", "base_url": "https://1.1.1.1/v1", "api_key": KEY, **fields}


def agent(org, llm_config_id, **fields):
    return org.admin.post(f"/api/orgs/{org.id}/orchestrators", {
        "name": "agent", "framework_type": "agent", "config": {"llm_config_id": llm_config_id, "model": "m"}, **fields})


def errors(r):
    assert (r.status, r.code) == (422, "invalid"), r
    return {e["field"]: e["reason"] for e in r.json["errors"]}


# --- saving and showing ---


def test_one_is_saved_and_shown_without_its_key(stack, org):
    made = org.admin.post(path(org), body(extra_headers={"X-Team": "secret-team", "X-Other": "o"}, defaults={"temperature": 0.5}))
    assert made.status == 201, made
    llm = made.json
    assert made.headers["Location"] == path(org, llm["llm_config_id"])
    assert {k: llm[k] for k in ("name", "provider", "base_url", "has_key", "key_hint", "defaults", "generation", "used_by")} == {
        "name": "main", "provider": "openai", "base_url": "https://1.1.1.1/v1", "has_key": True, "key_hint": "…wxyz",
        "defaults": {"temperature": 0.5}, "generation": 1, "used_by": 0}
    assert sorted(llm["extra_headers"]) == ["X-Other", "X-Team"] and llm["created_at"] == llm["updated_at"]
    assert "api_key" not in llm
    assert org.admin.get(path(org, llm["llm_config_id"])).json == llm
    assert org.admin.get(path(org)).json == {"items": [llm], "next": None}
    shown = made.body + org.admin.get(path(org)).body
    assert b"secret-team" not in shown and KEY.encode() not in shown
    rows = stack.db.run(f"SELECT * FROM sealed_values WHERE org_id = '{org.id}'; SELECT * FROM llm_config_generations")
    assert len([r for r in rows if "llm_key" in r]) == 1 and KEY not in str(rows) and "secret-team" not in str(rows)


def test_the_least_is_enough_and_a_short_key_has_no_hint(org):
    r = org.admin.post(path(org), {"name": "least", "provider": "anthropic", "base_url": "https://1.1.1.1/"})
    assert r.status == 201, r
    assert (r.json["base_url"], r.json["has_key"], r.json["key_hint"], r.json["extra_headers"], r.json["defaults"]) == (
        "https://1.1.1.1", False, None, [], {})
    assert org.admin.post(path(org), body(name="short", api_key="k" * 15)).json["key_hint"] is None


def test_pages_follow_each_other(org):
    made = [org.llm_config(name=f"llm {i}")["llm_config_id"] for i in range(5)]
    first = org.admin.get(path(org) + "?limit=3").json
    second = org.admin.get(path(org) + f"?limit=3&after={first['next']}").json
    assert [x["llm_config_id"] for x in first["items"] + second["items"]] == made and second["next"] is None


# --- what may be saved ---

REFUSED_URLS = {
    "https://127.0.0.1/": "not allowed", "http://127.0.0.1:8080/v1": "not allowed", "http://localhost/": "not allowed",
    "http://[::1]/": "not allowed", "http://[::ffff:127.0.0.1]/": "not allowed", "http://[::ffff:7f00:1]/": "not allowed",
    "http://10.0.0.1/": "not allowed", "http://172.16.0.1/": "not allowed", "http://192.168.1.1/": "not allowed",
    "http://169.254.169.254/latest/meta-data": "not allowed", "http://100.64.0.1/": "not allowed",
    "http://0.0.0.0/": "not allowed", "http://0/": "not allowed", "http://2130706433/": "not allowed",
    "http://0x7f.1/": "not allowed", "http://0177.0.0.1/": "not allowed", "http://127.1/": "not allowed",
    "http://224.0.0.1/": "not allowed", "http://255.255.255.255/": "not allowed", "http://[fc00::1]/": "not allowed",
    "http://[fe80::1]/": "not allowed", "http://[64:ff9b::7f00:1]/": "not allowed", "http://[2002:7f00:1::]/": "not allowed",
    "https://user:pass@1.1.1.1/": "user name", "https://1.1.1.1@127.0.0.1/": "user name",
    "https://1.1.1.1/v1?key=x": "query", "https://1.1.1.1/v1#x": "query", "ftp://1.1.1.1/": "must begin",
    "file:///etc/passwd": "must begin", "gopher://1.1.1.1/": "must begin", "//1.1.1.1/": "must begin", "": "must begin",
    "https://": "host", "https://:443/": "host", "https://1.1.1.1:0/": "port", "https://1.1.1.1 /": "blanks",
    "https://1.1.1.1/\r\nHost: x": "blanks", "https://1.1.1.1/" + "a" * 2048: "2048",
}


@pytest.mark.parametrize("url", REFUSED_URLS, ids=lambda u: u[:40])
def test_a_url_that_leads_inside_is_not_saved(org, url):
    assert REFUSED_URLS[url] in errors(org.admin.post(path(org), body(base_url=url)))["base_url"]
    assert org.admin.get(path(org)).json["items"] == []
    llm = org.llm_config()
    assert REFUSED_URLS[url] in errors(org.admin.patch(path(org, llm["llm_config_id"]), {"base_url": url}))["base_url"]
    assert org.admin.get(path(org, llm["llm_config_id"])).json == llm


@pytest.mark.parametrize("url", ["http://1.1.1.1/", "http://1.1.1.1:443/v1", "http://[2606:4700:4700::1111]/", "http://134744072/"])
def test_a_key_does_not_go_in_the_clear_to_a_public_address(org, url):
    said = "leads to an address that is not allowed with http: use https for a public one, or an administrator allows it in llm.allowed_networks"
    assert errors(org.admin.post(path(org), body(base_url=url))) == {"base_url": said}
    assert errors(org.admin.post(path(org), body(base_url=url, api_key=None))) == {"base_url": said}  # a prompt is a secret, too
    made = org.admin.post(path(org), body(base_url=url.replace("http:", "https:")))
    assert made.status == 201
    assert errors(org.admin.patch(path(org, made.json["llm_config_id"]), {"base_url": url})) == {"base_url": said}
    assert org.admin.get(path(org, made.json["llm_config_id"])).json == made.json


def test_the_operator_may_allow_a_network(org):
    for i, url in enumerate(("http://127.0.0.2:8080/v1", "https://127.0.0.2", "http://1.1.2.3/")):
        assert org.admin.post(path(org), body(name=f"llm {i}", base_url=url)).status == 201
    assert "not allowed" in errors(org.admin.post(path(org), body(base_url="http://127.0.0.3/")))["base_url"]
    assert "not allowed" in errors(org.admin.post(path(org), body(base_url="http://1.1.3.3/")))["base_url"]


def test_who_may_not_save_does_not_make_us_look_up_names(org):
    r = org.admin.post(path(org), body(base_url="https://nobody.invalid/"))
    # Without any name server it is not known whether it is known.
    assert r.code == "busy" or "not known" in errors(r)["base_url"]
    assert org.member.post(path(org), body(base_url="https://nobody.invalid/")).code == "forbidden"


@pytest.mark.parametrize("fields,field", [
    ({"name": ""}, "name"), ({"name": "a\nb"}, "name"), ({"name": "x" * 101}, "name"), ({"name": None}, "name"),
    ({"provider": "other"}, "provider"), ({"provider": 1}, "provider"), ({"base_url": None}, "base_url"),
    ({"api_key": ""}, "api_key"), ({"api_key": "a b"}, "api_key"), ({"api_key": "a\r\nX: y"}, "api_key"),
    ({"api_key": "schlüssel"}, "api_key"), ({"api_key": "k" * 4097}, "api_key"), ({"api_key": 7}, "api_key"),
    ({"extra_headers": []}, "extra_headers"), ({"extra_headers": {"X": 1}}, "extra_headers.X"),
    ({"extra_headers": {"X-A": "1", "x-a": "2"}}, "extra_headers.x-a"), ({"extra_headers": {"Authorization": "x"}}, "extra_headers.Authorization"),
    ({"extra_headers": {"content-length": "1"}}, "extra_headers.content-length"), ({"extra_headers": {"A B": "x"}}, "extra_headers.A B"),
    ({"extra_headers": {"A": "x\r\nHost: y"}}, "extra_headers.A"), ({"extra_headers": {"Proxy-Connection": "x"}}, "extra_headers.Proxy-Connection"),
    ({"extra_headers": {f"X-{i}": "x" for i in range(17)}}, "extra_headers"),
    ({"extra_headers": {f"X-{i}": "x" * 4000 for i in range(3)}}, "extra_headers"),
    ({"defaults": None}, "defaults"), ({"defaults": []}, "defaults"), ({"defaults": {"a": "x" * 9000}}, "defaults"),
    ({"defaults": {"stream": None}}, "defaults.stream"), ({"defaults": {"model": "x"}}, "defaults.model"),
    ({"base_url": "https://1.1.1.1/v1/chat/completions"}, "base_url"), ({"base_url": "https://1.1.1.1/v1/messages/"}, "base_url"),
    ({"key": "x"}, "key"),
])
def test_a_wrong_field_is_named(org, fields, field):
    assert field in errors(org.admin.post(path(org), body(**fields)))
    assert org.admin.get(path(org)).json["items"] == []


def test_a_name_is_given_once(org):
    one, two = org.llm_config(name="one"), org.llm_config(name="two")
    assert org.admin.post(path(org), body(name="one")).code == "name_taken"
    assert org.admin.patch(path(org, two["llm_config_id"]), {"name": "one"}).code == "name_taken"
    assert one["llm_config_id"] != two["llm_config_id"]


def test_an_org_has_so_many_and_no_more(stack, org):
    """Also where the last place is asked for many times at once."""
    stack.db.run("INSERT INTO llm_configs (llm_config_id, org_id, name, created_at, updated_at) "
                 f"SELECT UUID(), '{org.id}', CONCAT('llm ', seq), NOW(3), NOW(3) FROM seq_2_to_200")
    busy = [Background(org.admin.post, path(org), body(name=f"one more {i}")) for i in range(24)]
    answers = [one.join(60) for one in busy]
    assert sorted((r.status, r.code) for r in answers) == [(201, None)] + 23 * [(409, "quota_llm_configs")], answers
    last = next(r.json["llm_config_id"] for r in answers if r.status == 201)
    assert org.admin.patch(path(org, last), {"name": "renamed"}).status == 200
    assert org.admin.delete(path(org, last)).status == 204
    assert org.admin.post(path(org), body()).status == 201


# --- who ---


def test_roles_may_what_is_theirs(stack, org):
    llm = org.llm_config()
    item = path(org, llm["llm_config_id"])
    for method, where, sent in (("GET", path(org), None), ("GET", item, None), ("POST", path(org), body()),
                                ("PATCH", item, {"name": "x"}), ("DELETE", item, None)):
        assert org.member.call(method, where, sent).code == "forbidden"
    # The operator sees that there is one, and may take it away; what could lead the key elsewhere is not the operator's.
    assert stack.sys.get(item).json == llm and stack.sys.get(path(org)).json["items"] == [llm]
    assert stack.sys.post(path(org), body()).code == "forbidden"
    for sent in ({"api_key": "x"}, {"base_url": "https://1.0.0.1"}, {"name": "x"}, {}):
        assert stack.sys.patch(item, sent).code == "forbidden"
    assert org.admin.get(item).json == llm
    assert stack.sys.delete(item).status == 204
    assert org.admin.get(item).code == "llm_config_not_found"


def test_another_orgs_is_not_there(stack, org):
    other = stack.new_org()
    llm = org.llm_config()
    item = f"/api/orgs/{other.id}/llm-configs/{llm['llm_config_id']}"
    for method, sent in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        assert other.admin.call(method, item, sent).code == "llm_config_not_found"
    assert "config.llm_config_id" in errors(agent(other, llm["llm_config_id"]))
    assert org.admin.get(path(org, llm["llm_config_id"])).json == llm


def test_a_suspended_org_saves_nothing_and_may_take_away(stack, org):
    llm = org.llm_config()
    item = path(org, llm["llm_config_id"])
    org.suspend()
    assert org.admin.post(path(org), body()).code == "org_suspended"
    assert org.admin.patch(item, {"name": "x"}).code == "org_suspended"
    assert org.admin.delete(item).status == 204


def test_changes_and_refusals_are_in_the_audit_log(stack, org):
    llm = org.llm_config()
    item = path(org, llm["llm_config_id"])
    org.admin.patch(item, {"api_key": KEY})
    org.member.delete(item)
    org.admin.delete(item)
    rows = stack.db.run(f"SELECT action, result, detail FROM audit_log WHERE target = '{llm['llm_config_id']}' ORDER BY audit_id")
    assert rows == [["llm_config.create", "ok", None], ["llm_config.change", "ok", "api_key"],
                    ["llm_config.delete", "forbidden", None], ["llm_config.delete", "ok", None]]


# --- changing ---


def test_a_change_leaves_the_rest_and_is_a_new_generation(stack, org):
    llm = org.llm_config(api_key=KEY, extra_headers={"X-A": "1"}, defaults={"a": 1})
    item = path(org, llm["llm_config_id"])

    def changed(**fields):
        r = org.admin.patch(item, fields)
        assert r.status == 200, r
        return r.json

    assert changed() == llm == changed(name=llm["name"], base_url=llm["base_url"] + "/", defaults={"a": 1})
    now = changed(base_url="https://1.1.1.1/v2")
    assert (now["generation"], now["key_hint"], now["extra_headers"], now["defaults"]) == (2, "…wxyz", ["X-A"], {"a": 1})
    assert changed(name="renamed")["generation"] == 2
    now = changed(api_key=None)
    assert (now["generation"], now["has_key"], now["key_hint"], now["extra_headers"]) == (3, False, None, ["X-A"])
    assert changed(api_key=None)["generation"] == 3
    assert changed(extra_headers={"X-B": "2"})["extra_headers"] == ["X-B"]
    assert changed(extra_headers=None)["extra_headers"] == []
    assert changed(api_key="k" * 20)["key_hint"] == "…kkkk"
    # What nothing goes back to is gone.
    of_it = f"WHERE {{}} = '{llm['llm_config_id']}'"
    assert stack.db.number("SELECT COUNT(*) FROM llm_config_generations " + of_it.format("llm_config_id")) == 1
    assert stack.db.number("SELECT COUNT(*) FROM sealed_values " + of_it.format("owner_id")) == 1


def test_changes_at_the_same_time_come_one_after_the_other(stack, org):
    """None is lost, and each finds what the one before it has left."""
    llm = org.llm_config(api_key=KEY, extra_headers={"X-A": "1"})
    item = path(org, llm["llm_config_id"])
    fields = [{"defaults": {"a": i}} for i in range(1, 7)] + [{"api_key": "k" * 16}, {"extra_headers": None}]
    busy = [Background(org.admin.patch, item, one) for one in fields]
    got = [b.join() for b in busy]
    assert {r.status for r in got} == {200}, got
    assert sorted(r.json["generation"] for r in got) == list(range(2, len(fields) + 2))
    now = org.admin.get(item).json
    assert now == max((r.json for r in got), key=lambda x: x["generation"])
    assert (now["key_hint"], now["extra_headers"]) == ("…kkkk", [])
    assert stack.db.number(f"SELECT COUNT(*) FROM sealed_values WHERE owner_id = '{llm['llm_config_id']}'") == 1


def test_a_saved_secret_is_not_sent_elsewhere(org):
    """Who may change an LLM config never sees its key, and so does not by letting it lead to a server of their own."""
    llm = org.llm_config(api_key=KEY, extra_headers={"X-A": "1"})
    item = path(org, llm["llm_config_id"])
    for fields in ({"base_url": "https://1.0.0.1/v1"}, {"base_url": "https://1.1.1.1:444/v1"}, {"base_url": "http://1.1.2.1/v1"},
                   {"provider": "anthropic"}, {"provider": "anthropic", "base_url": "https://1.0.0.1", "name": "x", "defaults": {}}):
        said = errors(org.admin.patch(item, fields))
        assert sorted(said) == ["api_key", "extra_headers"] and set(said.values()) == {
            "must be given again, or null, where provider or the scheme, host or port of base_url changes: a saved one is not sent elsewhere"}
        assert list(errors(org.admin.patch(item, {**fields, "api_key": "k" * 16}))) == ["extra_headers"]
        assert list(errors(org.admin.patch(item, {**fields, "extra_headers": {"X-A": "1"}}))) == ["api_key"]
        assert org.admin.get(item).json == llm
    assert org.admin.patch(item, {"base_url": "https://1.1.1.1:443/other"}).status == 200
    moved = org.admin.patch(item, {"base_url": "https://1.0.0.1", "api_key": "k" * 16, "extra_headers": None})
    assert moved.status == 200 and (moved.json["key_hint"], moved.json["extra_headers"]) == ("…kkkk", []), moved
    assert org.admin.patch(item, {"provider": "anthropic", "api_key": None}).json["has_key"] is False
    assert org.admin.patch(item, {"provider": "openai", "base_url": "https://1.1.1.1"}).status == 200


# --- Apps ---


def test_an_app_names_one_of_its_own_org(stack, org):
    llm = org.llm_config()
    none, other_orgs = "019ac5a0-0000-7000-8000-000000000000", stack.new_org().llm_config()["llm_config_id"]
    for wrong in ("nothing", "", None, 7, none, other_orgs):
        assert "config.llm_config_id" in errors(agent(org, wrong))
    app = agent(org, llm["llm_config_id"])
    assert app.status == 201 and app.json["config"]["llm_config_id"] == llm["llm_config_id"], app
    app = app.json["instance_id"]
    for wrong in (none, other_orgs):
        r = org.admin.patch(org.admin.app_path(app, "/config"), {"config": {"llm_config_id": wrong, "model": "m"}})
        assert "config.llm_config_id" in errors(r)
    assert org.admin.app(app)["config"]["llm_config_id"] == llm["llm_config_id"]
    assert org.admin.get(path(org, llm["llm_config_id"])).json["used_by"] == 1


def test_one_that_is_used_is_not_removed(org):
    llm, other = org.llm_config(), org.llm_config()
    item = path(org, llm["llm_config_id"])
    app = agent(org, llm["llm_config_id"]).json["instance_id"]
    r = org.admin.delete(item)
    assert (r.status, r.code) == (409, "llm_config_in_use"), r
    assert r.json["used_by"] == [{"instance_id": app, "name": "agent"}]
    assert org.admin.patch(org.admin.app_path(app, "/config"), {"config": {"llm_config_id": other["llm_config_id"], "model": "m"}}).status == 200
    assert org.admin.delete(item).status == 204
    assert org.admin.delete(path(org, other["llm_config_id"])).code == "llm_config_in_use"
    assert org.admin.delete(org.admin.app_path(app)).status in (200, 204)
    assert org.admin.delete(path(org, other["llm_config_id"])).status == 204


def test_many_users_are_not_all_named(org):
    llm = org.llm_config()
    for i in range(25):
        r = org.admin.post(f"/api/orgs/{org.id}/orchestrators", {
            "name": f"agent {i:02}", "framework_type": "agent", "config": {"llm_config_id": llm["llm_config_id"], "model": "m"}})
        assert r.status == 201, r
    assert len(org.admin.delete(path(org, llm["llm_config_id"])).json["used_by"]) == 20
    assert org.admin.get(path(org, llm["llm_config_id"])).json["used_by"] == 25


def test_a_change_reloads_the_apps_that_use_it_and_no_other(stack, org):
    """Wanted hot is enough; whether the build succeeds does not matter here."""
    llm, other = org.llm_config(base_url=NOBODY), org.llm_config(base_url=NOBODY)
    apps = {}
    for name, uses in (("uses", llm), ("uses another", other)):
        r = org.admin.post(f"/api/orgs/{org.id}/orchestrators", {
            "name": name, "framework_type": "agent", "tier": "hot", "config": {"llm_config_id": uses["llm_config_id"], "model": "m"}})
        apps[name] = r.json["instance_id"]
        stack.db.run(f"UPDATE orchestrator_instances SET desired_state = 'loaded' WHERE instance_id = '{apps[name]}'")
    stack.allow("App failed", "model call failed")
    before = org.admin.app(apps["uses another"])
    assert org.admin.patch(path(org, llm["llm_config_id"]), {"defaults": {"a": 1}}).status == 200
    changes = [op for op in org.admin.operations(apps["uses"]) if op["source"] == "config_change"]
    assert [(op["action"], op["generation"]) for op in changes] == [("reload", 2)]
    assert not [op for op in org.admin.operations(apps["uses another"]) if op["source"] == "config_change"]
    assert org.admin.app(apps["uses another"])["generation"] == before["generation"]
    # It is worked on: nobody holds a copy, so recovery publishes it, and a worker looks.
    eventually(lambda: org.admin.operation(changes[0]["operation_id"])["state"] != "accepted", 30)
    org.suspend()


def test_a_change_is_told_once_for_all_apps_and_only_where_somebody_uses_it(stack, org):
    """One event, whatever their number: each worker looks at those of the org that it holds."""
    llm, unused = org.llm_config(), org.llm_config()
    for i in range(3):
        agent(org, llm["llm_config_id"], name=f"agent {i}")
    listener = NatsClient(stack, "worker")
    listener.socket.sendall(f"SUB hearth.change.{org.id}.> 99\r\n".encode())
    assert listener.flush() == []
    for one, fields in ((unused, {"defaults": {"a": 1}}), (llm, {}), (llm, {"name": "renamed"}), (llm, {"defaults": {"a": 1}})):
        assert org.admin.patch(path(org, one["llm_config_id"]), fields).status == 200
    org.admin.patch(org.admin.app_path(org.new_app()), {"ttl_seconds": 7})  # the last one to be heard of
    heard = []
    while not heard or heard[-1].endswith("_all"):
        line = listener.file.readline()
        assert line, "nats-server hung up"
        if line.startswith(b"MSG"):
            heard.append(line.split()[1].decode())
            listener.file.read(int(line.split()[-1]) + 2)
    assert heard[:-1] == [f"hearth.change.{org.id}._all"]


def test_changes_of_apps_and_of_what_they_use_meet_without_a_failure(stack, org):
    stack.allow("App failed", "model call failed")  # this is about the rows
    llms = [org.llm_config(base_url=NOBODY)["llm_config_id"] for _ in range(2)]
    apps = [agent(org, llms[i % 2], name=f"agent {i}").json["instance_id"] for i in range(6)]
    for i in range(2):
        agent(org, llms[i], name=f"always {i}")

    def switch(app):
        return [org.admin.patch(org.admin.app_path(app, "/config"), {"config": {"llm_config_id": llms[i % 2], "model": f"m{i}"}}) for i in range(15)]

    def change(llm):
        return [org.admin.patch(path(org, llm), {"defaults": {"a": i}}) for i in range(30)]

    def load(app):
        return [org.admin.lifecycle(what, app) for _ in range(10) for what in ("load", "unload")]

    def remove(llm):
        return [r for r in [org.admin.delete(path(org, llm)) for _ in range(20)] if r.code != "llm_config_in_use"]

    busy = [Background(call, one) for call, ones in ((switch, apps), (change, llms), (load, apps[:2]), (remove, llms)) for one in ones]
    answers = [r for b in busy for r in b.join(120)]
    assert [r for r in answers if r.status not in (200, 202)] == []
    # Each App's row names one of them, the one that its configuration names.
    for app in apps:
        assert org.admin.app(app)["config"]["llm_config_id"] in llms
    assert sum(org.admin.get(path(org, llm)).json["used_by"] for llm in llms) == 8
    org.suspend()


# --- a program without a key ring ---


def test_without_a_key_ring_all_works_but_saving_keys(stack, org):
    stack.allow("an LLM config was not saved")
    stack.write_conf(keys={"file": None})
    stack.app.stop()
    stack.app.start()
    try:
        r = org.admin.post(path(org), body())
        assert (r.status, r.code) == (409, "no_sealing_key"), r
        assert org.admin.get(path(org)).json["items"] == []
        without = org.admin.post(path(org), body(api_key=None))
        assert without.status == 201 and without.json["has_key"] is False
        app = org.new_app(tier="hot")
        org.admin.load(app)
        assert org.member.chat_ok(app, "x") == "x"
    finally:
        stack.write_conf()
        stack.app.stop()
        stack.app.start()
    assert org.admin.post(path(org), body(name="with a key")).status == 201


def test_a_list_of_networks_that_is_wrong_is_refused_at_the_start(stack):
    conf = stack.folder / "networks.conf"
    stack.write_conf(conf, llm={"allowed_networks": "10.0.0.1/8"})
    done = subprocess.run([program("hearth.fcgi"), "--check", str(conf)], capture_output=True, text=True)
    assert done.returncode == 1 and "llm.allowed_networks" in done.stderr, done
    assert json.dumps(done.stdout) == '""'
