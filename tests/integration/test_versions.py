# SPDX-License-Identifier: Apache-2.0
"""Versions of an App's configuration: written with each change, listed, compared, gone back to."""
import pytest

from harness import Background, eventually

VERSIONED = ("mode", "config", "active_plugin_ids")


def versions(org, app, query="", api=None):
    r = (api or org.admin).get(org.admin.app_path(app, f"/versions{query}"))
    assert r.status == 200, r
    return r.json


def version(org, app, n, query=""):
    r = org.admin.get(org.admin.app_path(app, f"/versions/{n}{query}"))
    assert r.status == 200, r
    return r.json


def roll_back(org, app, n):
    return org.admin.post(org.admin.app_path(app, "/rollback"), {"version": n})


def numbers(page):
    return [v["version"] for v in page["items"]]


# --- written and shown ---


def test_each_change_of_the_configuration_is_a_version(stack, org):
    app = org.new_app(config={"prefix": "1 "})
    assert org.admin.app(app)["version"] == 1
    org.admin.configure(app, prefix="2 ")
    org.admin.configure(app, prefix="2 ")  # nothing new
    for change in ({"name": "renamed"}, {"tier": "hot"}, {"ttl_seconds": 9}, {"replicas": 2}, {"mode": "single"}):
        assert org.admin.patch(org.admin.app_path(app), change).status == 200
    stack.sys.patch(org.admin.app_path(app, "/config"), {"config": {"prefix": "3 "}})
    page = versions(org, app)
    assert numbers(page) == [3, 2, 1] and page["next"] is None and org.admin.app(app)["version"] == 3
    assert [v["source"] for v in page["items"]] == ["config", "config", "create"]
    assert [v["is_current"] for v in page["items"]] == [True, False, False]
    assert not any(v["is_good"] or v["of_version"] for v in page["items"])
    # Who: the org's own by its name, the operator by its id alone.
    tokens = {t["token_id"]: t["name"] for t in org.admin.get(f"/api/orgs/{org.id}/tokens").json["items"]}
    assert [v["token_name"] for v in page["items"]] == [None, tokens[page["items"][1]["token_id"]], tokens[page["items"][2]["token_id"]]]
    assert page["items"][0]["token_id"] and page["items"][0]["token_id"] not in tokens
    assert "config" not in page["items"][0]
    first = version(org, app, 1)
    assert first["config"] == {"prefix": "1 "} and first["mode"] == "single" and first["framework_type"] == "echo"
    assert first == {**page["items"][2], **{k: first[k] for k in (*VERSIONED, "framework_type")}}
    assert version(org, app, 3)["config_hash"] == org.admin.app(app)["config_hash"]


def test_pages_follow_each_other(org):
    app = org.new_app()
    for i in range(6):
        org.admin.configure(app, prefix=f"{i} ")
    first = versions(org, app, "?limit=3")
    second = versions(org, app, f"?limit=3&after={first['next']}")
    third = versions(org, app, f"?limit=3&after={second['next']}")
    assert (numbers(first), numbers(second), numbers(third), third["next"]) == ([7, 6, 5], [4, 3, 2], [1], None)
    for query in ("?limit=0", "?limit=201", "?after=x", "?after=-1", "?limit=1&limit=2"):
        assert org.admin.get(org.admin.app_path(app, f"/versions{query}")).code == "invalid", query


def test_two_are_compared_by_json_pointers(org):
    app = org.new_app(config={"prefix": "a", "word_delay_ms": 1})
    org.admin.configure(app, prefix="b", build_delay_ms=0)
    two = version(org, app, 2, "?compare=1")
    assert two["compared_with"] == 1 and two["differences_complete"] is True and two["config"]["prefix"] == "b"
    assert sorted(two["differences"], key=lambda d: d["path"]) == [
        {"path": "/build_delay_ms", "to": 0}, {"path": "/prefix", "from": "a", "to": "b"}, {"path": "/word_delay_ms", "from": 1}]
    back = version(org, app, 1, "?compare=2")["differences"]
    assert {"path": "/prefix", "from": "b", "to": "a"} in back and len(back) == 3
    assert version(org, app, 2, "?compare=2")["differences"] == []


@pytest.mark.parametrize("n", ["0", "3", "x", "-1", "1.0", "01x", "4294967297", "99999999999999999999999"])
def test_what_is_no_version_is_not_found(org, n):
    app = org.new_app()
    assert org.admin.get(org.admin.app_path(app, f"/versions/{n}")).code == "version_not_found"
    assert org.admin.get(org.admin.app_path(app, f"/versions/1?compare={n}")).code == "version_not_found"
    assert org.admin.get(org.admin.app_path(app, "/versions/1?compare=1&compare=1")).code == "invalid"


def test_a_member_reads_and_does_not_go_back(stack, org):
    app = org.new_app(config={"prefix": "1 "})
    org.admin.configure(app, prefix="2 ")
    assert numbers(versions(org, app, api=org.member)) == [2, 1]
    assert org.member.get(org.admin.app_path(app, "/versions/1?compare=2")).status == 200
    assert org.member.post(org.admin.app_path(app, "/rollback"), {"version": 1}).code == "forbidden"
    assert org.admin.app(app)["config"] == {"prefix": "2 "}
    org.admin.delete(org.admin.app_path(app))
    for tail in ("/versions", "/versions/1"):
        assert org.admin.get(org.admin.app_path(app, tail)).code == "instance_deleted"
    assert roll_back(org, app, 1).code == "instance_deleted"


# --- going back ---


def test_any_version_can_be_gone_back_to_while_it_serves(stack, org):
    app = org.new_app(tier="hot", config={"prefix": "1 "})
    org.admin.load(app)
    for n in (2, 3):
        assert org.admin.configure(app, prefix=f"{n} ")["state"] == "succeeded"
    newest = 3
    for n in (1, 3, 2, 4):  # 4 is itself one that went back to 1
        r = roll_back(org, app, n)
        assert r.status == 200, r
        newest += 1
        op = org.admin.ended(r.json["operation_id"])
        assert (op["state"], op["source"], op["action"]) == ("succeeded", "config_change", "reload"), op
        prefix = f"{1 if n == 4 else n} "
        assert r.json["version"] == newest and r.json["config"] == {"prefix": prefix}
        assert org.member.chat_ok(app, "x") == prefix + "x"
        seen = versions(org, app)["items"][0]
        assert (seen["version"], seen["source"], seen["of_version"], seen["is_current"], seen["is_good"]) == (newest, "rollback", n, True, True)
        assert version(org, app, newest, f"?compare={n}")["differences"] == []
    r = roll_back(org, app, newest)  # it is so already
    assert r.status == 200 and r.json["operation_id"] is None and r.json["version"] == newest
    audit = stack.sys.get(f"/api/admin/audit?org_id={org.id}").json["items"]
    rows = [(a["result"], a["target"], a["detail"]) for a in audit if a["action"] == "instance.rollback"]
    assert ("ok", app, "version=3") in rows and len(rows) == 5


def test_going_back_is_refused_where_a_change_would_be(stack, org):
    app = org.new_app(config={"prefix": "1 "})
    org.admin.configure(app, prefix="2 ")
    assert roll_back(org, app, 9).code == "version_not_found"
    for body in ({}, {"version": 0}, {"version": "1"}, {"version": None}, {"version": 1.5}, {"version": 2**32}, {"version": 1, "x": 1}):
        assert org.admin.post(org.admin.app_path(app, "/rollback"), body).code == "invalid", body
    # A version that an older release took, and this one would not.
    stack.db.run(f"UPDATE instance_versions SET config = '{{\"prefix\":7}}' WHERE instance_id = '{app}' AND version = 1")
    r = roll_back(org, app, 1)
    assert r.code == "invalid" and [e["field"] for e in r.json["errors"]] == ["config.prefix"], r
    stack.db.run(f"UPDATE instance_versions SET config = '{{}}', mode = 'gone' WHERE instance_id = '{app}' AND version = 1")
    r = roll_back(org, app, 1)
    assert r.code == "invalid" and [e["field"] for e in r.json["errors"]] == ["mode"], r
    org.suspend()
    assert roll_back(org, app, 1).code == "org_suspended"
    assert org.admin.app(app)["config"] == {"prefix": "2 "} and numbers(versions(org, app)) == [2, 1]


def test_going_back_to_an_llm_config_that_is_gone_names_the_field(org):
    old, new = org.llm_config()["llm_config_id"], org.llm_config()["llm_config_id"]
    app = org.new_app(framework_type="agent", config={"llm_config_id": old, "model": "m"})
    assert org.admin.configure(app, llm_config_id=new, model="m") is None
    assert roll_back(org, app, 1).json["config"]["llm_config_id"] == old
    assert roll_back(org, app, 2).json["config"]["llm_config_id"] == new
    assert org.admin.delete(f"/api/orgs/{org.id}/llm-configs/{old}").status == 204
    r = roll_back(org, app, 1)
    assert (r.status, r.code) == (422, "invalid") and [e["field"] for e in r.json["errors"]] == ["config.llm_config_id"], r
    assert org.admin.app(app)["version"] == 4


def test_changes_at_the_same_time_are_numbered_one_after_the_other(org):
    app = org.new_app()
    turns = [Background(org.admin.patch, org.admin.app_path(app, "/config"), {"config": {"prefix": f"{i} "}}) for i in range(12)]
    got = [t.join() for t in turns]
    assert {r.status for r in got} == {200}
    assert sorted(r.json["version"] for r in got) == list(range(2, 14))
    page = versions(org, app)
    assert numbers(page) == list(range(13, 0, -1))
    for r in got:
        assert version(org, app, r.json["version"])["config"] == r.json["config"]


def test_the_oldest_go_and_the_good_one_stays(stack, org):
    app = org.new_app(tier="hot", config={"prefix": "good "})
    org.admin.load(app)
    eventually(lambda: version(org, app, 1)["is_good"])
    org.admin.unload(app)
    for i in range(210):
        assert org.admin.patch(org.admin.app_path(app, "/config"), {"config": {"prefix": f"{i} "}}).status == 200
    kept = numbers(versions(org, app, "?limit=200"))
    assert len(kept) == 200 and kept[0] == 211 and kept[-2:] == [13, 1]
    assert roll_back(org, app, 2).code == "version_not_found"
    assert roll_back(org, app, 1).json["config"] == {"prefix": "good "}
