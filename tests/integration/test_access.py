# SPDX-License-Identifier: Apache-2.0
"""Suspend and delete; expired and revoked tokens; a suspended org."""
import datetime
import time

from harness import Api, eventually


def in_seconds(n):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=n)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_suspending_an_app_unloads_it_and_reactivating_brings_a_hot_one_back(stack, org):
    app = org.new_app(tier="hot")
    org.admin.load(app)
    r = org.admin.patch(org.admin.app_path(app, "/status"), {"status": "suspended"})
    assert r.status == 200 and r.json["status"] == "suspended"
    eventually(lambda: org.member.chat(app).code == "instance_suspended", 5)
    eventually(lambda: stack.placements(app) == [], 10)
    assert org.admin.app(app)["state"] == "unloaded"
    assert org.admin.patch(org.admin.app_path(app, "/status"), {"status": "active"}).status == 200
    eventually(lambda: org.member.chat(app, "x").status == 200, 20)


def test_a_stream_of_an_app_that_is_suspended_ends_whole(stack, org):
    app = org.new_app(tier="hot", config={"word_delay_ms": 50})
    org.admin.load(app)
    stream = org.member.chat_stream(app, "word " * 30)
    stream.first()
    org.admin.patch(org.admin.app_path(app, "/status"), {"status": "suspended"})
    assert stream.rest()[-1].data.get("done") is True
    eventually(lambda: stack.placements(app) == [], 10)


def test_deleting_an_app_unloads_it_and_takes_it_out_of_the_list(stack, org):
    app = org.new_app(tier="hot")
    org.admin.load(app)
    assert org.admin.delete(org.admin.app_path(app)).status in (200, 202, 204)
    eventually(lambda: org.member.chat(app).code == "instance_deleted", 5)
    eventually(lambda: stack.placements(app) == [], 10)
    assert org.admin.get(f"/api/orgs/{org.id}/orchestrators").json["items"] == []
    eventually(lambda: stack.db.number(f"SELECT COUNT(*) FROM operations WHERE instance_id = '{app}' AND is_open = 1") == 0)
    assert org.admin.get(org.admin.app_path(app)).code == "instance_deleted"


def test_an_expired_token_is_none(stack, org):
    app = org.new_app(tier="hot")
    org.admin.load(app)
    made = org.new_token("org_admin", expires_at=in_seconds(10))
    assert made["expires_at"]
    api = Api(stack.http, made["token"], org.id)
    assert api.get(api.app_path(app)).status == 200
    assert api.chat(app).status == 200
    eventually(lambda: api.get(api.app_path(app)).code == "unauthorized", 30)
    eventually(lambda: api.chat(app).code == "unauthorized", 3)


def test_a_token_cannot_be_made_expired(org):
    r = org.admin.post(f"/api/orgs/{org.id}/tokens", {"name": "x", "role": "member", "expires_at": in_seconds(-10)})
    assert (r.status, r.code) == (422, "invalid"), r
    r = org.admin.post(f"/api/orgs/{org.id}/tokens", {"name": "x", "role": "member", "expires_at": "tomorrow"})
    assert (r.status, r.code) == (422, "invalid"), r


def test_a_revoked_token_is_refused_at_once(stack, org):
    app = org.new_app(tier="hot")
    org.admin.load(app)
    made = org.new_token("org_admin")
    api = Api(stack.http, made["token"], org.id)
    assert api.chat(app).status == 200  # now it is remembered for the chat path
    assert org.admin.delete(f"/api/orgs/{org.id}/tokens/{made['token_id']}").status in (200, 204)
    revoked = time.monotonic()
    r = api.lifecycle("load", app)
    assert (r.status, r.code) == (401, "unauthorized"), r
    while api.chat(app).status == 200:
        assert time.monotonic() - revoked < 1.5
    assert api.chat(app).code == "unauthorized"
    (listed,) = [t for t in org.admin.get(f"/api/orgs/{org.id}/tokens").json["items"] if t["token_id"] == made["token_id"]]
    assert listed["revoked_at"]
    # Again is no error.
    assert org.admin.delete(f"/api/orgs/{org.id}/tokens/{made['token_id']}").status in (200, 204)


def test_a_revoked_token_is_refused_below_v1_too(stack, org):
    """No organization stands in the path there: what is remembered is found by the token itself. Nobody tells hearth.fcgi of
    what hearthctl does, so it is remembered to its end."""
    org.admin.load(org.new_app(tier="hot", name="echo"))
    made, other = (org.new_token("member") for _ in range(2))
    ask = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
    api, stays = (Api(stack.http, one["token"]) for one in (made, other))
    for one in (api, stays):
        eventually(lambda one=one: one.post("/v1/chat/completions", ask).status == 200, 30)  # now it is remembered
    stack.ctl("token", "revoke", made["token_id"])
    revoked = begun = time.monotonic()
    while api.post("/v1/chat/completions", ask).status == 200:
        assert begun - revoked < 1
        begun = time.monotonic()
    assert api.post("/v1/chat/completions", ask).status == 401
    assert stays.post("/v1/chat/completions", ask).status == 200


def test_a_token_is_shown_once_and_stored_as_a_hash(stack, org):
    made = org.new_token("member")
    assert made["token"].startswith("hrt_") and {"token_id", "name", "role", "org_id", "expires_at"} <= made.keys()
    assert made["token"] not in org.admin.get(f"/api/orgs/{org.id}/tokens?limit=100").body.decode()
    assert stack.db.value(f"SELECT HEX(token_hash) = SHA2('{made['token']}', 256) FROM api_tokens WHERE token_id = '{made['token_id']}'") == "1"
    assert made["token"] not in stack.app.text() + stack.worker.text()
    eventually(lambda: Api(stack.http, made["token"], org.id).get(f"/api/orgs/{org.id}/orchestrators").status == 200)
    eventually(lambda: [t["last_used_at"] for t in org.admin.get(f"/api/orgs/{org.id}/tokens").json["items"]
                        if t["token_id"] == made["token_id"]][0])


def test_a_suspended_org_is_refused_everything_that_runs_and_comes_back_whole(stack):
    org = stack.new_org()
    hot = [org.new_app(tier="hot") for _ in range(3)]
    demand = org.new_app()
    for app in hot:
        org.admin.load(app)
    org.member.chat_ok(demand)
    r = stack.sys.patch(f"/api/admin/orgs/{org.id}/status", {"status": "suspended"})
    assert r.status == 200, r
    assert org.admin.lifecycle("load", hot[0]).code == "org_suspended"
    eventually(lambda: org.member.chat(hot[0]).code == "org_suspended", 5)
    eventually(lambda: all(stack.placements(app) == [] for app in [*hot, demand]), 10)
    assert org.admin.app(hot[0])["state"] == "unloaded"  # reading is allowed
    assert stack.sys.patch(f"/api/admin/orgs/{org.id}/status", {"status": "active"}).status == 200
    for app in hot:
        eventually(lambda: org.member.chat(app, "x").status == 200, 30)
    assert org.member.chat_ok(demand, "x") == "x"


def test_one_suspended_org_does_not_touch_another(stack):
    a, b = stack.new_org(), stack.new_org()
    app = b.new_app(tier="hot")
    b.admin.load(app)
    stack.sys.patch(f"/api/admin/orgs/{a.id}/status", {"status": "suspended"})
    assert b.member.chat_ok(app, "x") == "x"


def test_a_sys_admin_may_act_in_every_org(stack, org):
    app = org.new_app(tier="hot")
    sys_in_org = Api(stack.http, stack.sys.token, org.id)
    sys_in_org.load(app)
    assert sys_in_org.chat_ok(app, "x") == "x"


def test_roles_may_be_given_up_to_the_own_one(stack, org):
    assert org.admin.post(f"/api/orgs/{org.id}/tokens", {"name": "a", "role": "org_admin"}).status == 201
    assert org.admin.post(f"/api/orgs/{org.id}/tokens", {"name": "s", "role": "sys_admin"}).code == "forbidden"
    assert org.member.post(f"/api/orgs/{org.id}/tokens", {"name": "m", "role": "member"}).code == "forbidden"
    made = stack.sys.post("/api/admin/tokens", {"name": "s", "role": "sys_admin"})
    assert made.status == 201 and made.json["org_id"] is None
    assert Api(stack.http, made.json["token"]).get("/api/admin/orgs").status == 200
