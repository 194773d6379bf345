# SPDX-License-Identifier: Apache-2.0
"""The main job, end to end: create, load, chat, reload, unload; what the API, the statistics and the audit log say of it."""
import re

from harness import eventually, text_of

UUID7 = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")


def test_an_app_is_created_with_all_its_fields(org):
    r = org.admin.post(f"/api/orgs/{org.id}/orchestrators", {"name": "first", "framework_type": "echo", "config": {"prefix": "> "}})
    assert r.status == 201
    app = r.json
    assert r.headers["Location"].endswith(f"/api/orgs/{org.id}/orchestrators/{app['instance_id']}")
    assert UUID7.match(app["instance_id"])
    assert org.admin.get(r.headers["Location"]).json["instance_id"] == app["instance_id"]
    expected = {"org_id": org.id, "name": "first", "framework_type": "echo", "mode": "single", "status": "active",
                "config": {"prefix": "> "}, "tier": "demand", "ttl_seconds": None, "replicas": 1,
                "desired_state": "unloaded", "is_ready": False, "state": "unloaded", "state_reason": None,
                "llm_config_generation": None}
    assert {k: app[k] for k in expected} == expected
    assert app["generation"] >= 1 and app["config_hash"] and TIME.match(app["created_at"]) and TIME.match(app["updated_at"])


def test_a_load_is_accepted_and_its_operation_succeeds(org):
    app = org.new_app(tier="hot")
    r = org.admin.lifecycle("load", app)
    assert r.status == 202
    assert r.json["message"] == "Load event published"
    assert (r.json["instance_id"], r.json["tier"], r.json["published"]) == (app, "hot", True)
    assert r.headers["Location"].endswith(f"/api/orgs/{org.id}/operations/{r.json['operation_id']}")
    op = org.admin.ended(r.json["operation_id"])
    assert (op["state"], op["action"], op["tier"], op["source"], op["worker_id"]) == ("succeeded", "load", "hot", "api_load", "w1")
    assert op["reason"] is None and op["generation"] == r.json["generation"]
    assert all(TIME.match(op[k]) for k in ("accepted_at", "started_at", "finished_at"))
    shown = org.admin.app(app)
    assert (shown["state"], shown["is_ready"], shown["desired_state"], shown["generation"]) == ("ready", True, "loaded", op["generation"])


def test_a_chat_that_is_not_streamed_answers_byte_for_byte(org):
    app = org.new_app(tier="hot", config={"prefix": "Echo: "})
    org.admin.load(app)
    message = "two  spaces, ümläut, 日本語, \"quotes\"\nand a line"
    r = org.member.chat(app, message)
    assert r.status == 200
    assert r.json["response"] == "Echo: " + message
    assert UUID7.match(r.json["session_id"])
    assert {"agent_hops", "current_agent", "usage"} <= r.json.keys()


def test_a_chat_is_streamed_word_by_word(org):
    app = org.new_app(tier="hot", config={"prefix": "Echo: "})
    org.admin.load(app)
    stream = org.member.chat_stream(app, "one two three")
    assert stream.status == 200
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    assert "no-store" in stream.headers["Cache-Control"]
    events = stream.rest()
    assert events[0].name == "metadata" and UUID7.match(events[0].data["session_id"])
    assert events[-1].name == "metadata" and events[-1].data["done"] is True
    assert events[-1].data["session_id"] == events[0].data["session_id"] and "usage" in events[-1].data
    words = [e for e in events if e.name == "message"]
    assert len(words) == 4 and all(e.data["role"] == "assistant" for e in words)
    assert text_of(events) == "Echo: one two three"


def test_a_conversation_keeps_its_id(org):
    app = org.new_app(tier="hot")
    org.admin.load(app)
    first = org.member.chat(app, "a").json["session_id"]
    assert org.member.chat(app, "b", conversation_id=first).json["session_id"] == first


def test_a_chat_with_a_hot_app_that_is_not_loaded_says_so_and_loads_nothing(org):
    app = org.new_app(tier="hot")
    r = org.member.chat(app)
    assert (r.status, r.code) == (503, "instance_not_loaded")
    assert int(r.headers["Retry-After"]) > 0
    assert org.admin.operations(app) == []


def test_the_first_chat_with_a_demand_app_loads_it(org):
    app = org.new_app(config={"prefix": "p "})
    assert org.member.chat_ok(app, "x") == "p x"
    assert [(op["source"], op["state"]) for op in org.admin.operations(app)] == [("demand", "succeeded")]
    assert org.admin.app(app)["is_ready"] and org.admin.app(app)["desired_state"] == "unloaded"


def test_prefer_wait_answers_with_the_finished_operation(org):
    app = org.new_app(tier="hot", config={"build_delay_ms": 300})
    r = org.admin.lifecycle("load", app, wait=30)
    assert r.status == 200
    assert r.headers["Preference-Applied"].startswith("wait")
    assert (r.json["state"], r.json["instance_id"]) == ("succeeded", app)
    slow = org.new_app(tier="hot", config={"build_delay_ms": 5000})
    r = org.admin.lifecycle("load", slow, wait=1)
    assert r.status == 202 and r.json["operation_id"]
    org.admin.unload(slow)


def test_a_failed_build_is_the_operations_outcome(org, stack):
    stack.allow("App failed .*no such model")
    app = org.new_app(tier="hot", config={"build_fail": "no such model"})
    r = org.admin.lifecycle("load", app, wait=30)
    assert r.status == 200
    assert r.json["state"] == "failed" and "no such model" in r.json["reason"]
    shown = org.admin.app(app)
    assert shown["state"] == "failed" and "no such model" in shown["state_reason"]
    org.admin.unload(app)


def test_unload_ends_and_the_app_is_gone(org, stack):
    app = org.new_app(tier="hot")
    org.admin.load(app)
    op = org.admin.unload(app)
    assert (op["action"], op["source"]) == ("unload", "api_unload")
    assert org.admin.app(app)["state"] == "unloaded"
    assert stack.placements(app) == []
    assert org.member.chat(app).code == "instance_not_loaded"
    # Where nothing is held the application itself ends it.
    r = org.admin.lifecycle("unload", app, wait=5)
    assert r.status == 200 and r.json["state"] == "succeeded"


def test_a_reload_builds_anew_and_a_reload_of_nothing_is_a_load(org, stack):
    app = org.new_app(tier="hot", config={"prefix": "a "})
    assert org.admin.reload(app)["action"] == "reload"
    assert org.member.chat_ok(app, "x") == "a x"
    before = stack.placements(app)[0][2]
    org.admin.reload(app, {"fresh": True})
    assert int(stack.placements(app)[0][2]) > int(before)
    assert org.member.chat_ok(app, "x") == "a x"


def test_a_new_configuration_replaces_the_old_one_whole(org):
    app = org.new_app(tier="hot", config={"prefix": "old ", "word_delay_ms": 1})
    org.admin.load(app)
    op = org.admin.configure(app, prefix="new ")
    assert (op["state"], op["source"]) == ("succeeded", "config_change")
    assert org.member.chat_ok(app, "x") == "new x"
    assert org.admin.app(app)["config"] == {"prefix": "new "}
    resting = org.new_app(config={"prefix": "old "})
    assert org.admin.configure(resting, prefix="new ") is None  # not loaded: no operation
    assert org.member.chat_ok(resting, "x") == "new x"


def test_loading_a_loaded_app_is_cheap_and_succeeds(org, stack):
    app = org.new_app(tier="hot", config={"build_delay_ms": 200})
    org.admin.load(app)
    stack.next_flush()
    loads = stack.db.number(f"SELECT loads + reloads FROM instance_stats WHERE instance_id = '{app}'")
    org.admin.load(app)
    stack.next_flush()
    assert stack.db.number(f"SELECT loads + reloads FROM instance_stats WHERE instance_id = '{app}'") == loads
    assert int(stack.placements(app)[0][2]) == org.admin.app(app)["generation"]


def test_the_pools_statistics_count_what_is_held(stack):
    org = stack.new_org()
    hot, demand = org.new_app(tier="hot"), org.new_app()
    org.admin.load(hot)
    org.member.chat_ok(demand)
    pool = stack.next_flush()
    held = {tier: stack.db.number(f"SELECT COUNT(*) FROM placements WHERE state = 'ready' AND tier = '{tier}'")
            for tier in ("hot", "demand")}
    assert (pool["hot_tier_count"], pool["demand_tier_count"]) == (held["hot"], held["demand"])
    assert pool["total_instances"] == held["hot"] + held["demand"]
    assert pool["memory_bytes"] > 0 and pool["turns_in_flight"] == 0 and TIME.match(pool["as_of"])
    assert {"loading_count", "failed_count", "shared_model_count", "shared_bundle_count"} <= pool.keys()
    assert pool["bus"]["connected"] is True and {"events_waiting", "redelivered"} <= pool["bus"].keys()
    (worker,) = pool["workers"]
    assert worker["worker_id"] == "w1" and worker["state"] == "active" and worker["lease_age_ms"] < 15000
    assert {"hot_tier_count", "demand_tier_count", "hot_ceiling", "demand_ceiling", "memory_bytes", "turns_in_flight"} <= worker.keys()
    own = org.admin.get(f"/api/orgs/{org.id}/pool/stats")
    assert own.status == 200
    assert (own.json["hot_tier_count"], own.json["demand_tier_count"], own.json["total_instances"]) == (1, 1, 2)


def test_turns_are_counted_for_each_app(org, stack):
    app = org.new_app(tier="hot")
    org.admin.load(app)
    for i in range(5):
        org.member.chat_ok(app, str(i))
    eventually(lambda: stack.db.value(f"SELECT turns FROM instance_stats WHERE instance_id = '{app}'") == "5", 20)
    assert stack.db.value(f"SELECT loads FROM instance_stats WHERE instance_id = '{app}'") == "1"


def test_lists_have_pages(org):
    apps = sorted(org.new_app() for _ in range(5))
    got, after = [], ""
    while True:
        r = org.admin.get(f"/api/orgs/{org.id}/orchestrators?limit=2{after}")
        assert r.status == 200 and len(r.json["items"]) <= 2
        got += [a["instance_id"] for a in r.json["items"]]
        if r.json["next"] is None:
            break
        after = "&after=" + r.json["next"]
    assert got == apps


def test_operations_are_listed_newest_first(org):
    app = org.new_app(tier="hot")
    done = [org.admin.load(app)["operation_id"], org.admin.unload(app)["operation_id"]]
    assert [op["operation_id"] for op in org.admin.operations(app)] == done[::-1]


def test_the_audit_log_has_what_was_done_and_what_was_refused(org, stack):
    app = org.new_app(tier="hot")
    org.admin.load(app)
    assert org.member.lifecycle("load", app).status == 403
    entries = stack.sys.get(f"/api/admin/audit?org_id={org.id}&limit=100").json["items"]
    mine = [(e["action"], e["result"]) for e in entries if e.get("target") == app]
    assert ("instance.load", "ok") in mine and ("instance.load", "forbidden") in mine and ("instance.create", "ok") in mine
    assert all(org.admin.token not in str(e) for e in entries)


def test_no_program_may_change_the_audit_log(stack):
    for user in ("app", "worker", "ctl"):
        grants = str(stack.db.run(f"SHOW GRANTS FOR hearth_{user}@localhost"))
        assert not re.search(r"(UPDATE|DELETE)[^\]]* ON `hearth`\.(\*|`audit_log`)", grants), grants
        assert "ALL PRIVILEGES" not in grants


def test_the_probes_answer_without_a_token(stack):
    assert stack.http.request("GET", "/healthz").status == 200
    assert stack.http.request("GET", "/readyz").status == 200


def test_admin_health_names_the_parts(stack):
    r = stack.sys.get("/api/admin/health")
    assert r.status == 200 and "database" in str(r.json) and "bus" in str(r.json)


def test_the_admin_page_is_served_with_a_strict_policy(stack):
    r = stack.http.request("GET", "/admin/")
    assert r.status == 200 and r.headers["Content-Type"].startswith("text/html")
    policy = r.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy or "default-src 'self'" in policy
    assert "unsafe-inline" not in policy and "unsafe-eval" not in policy
    page = r.body.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>", page) and "https://" not in re.sub(r"<!--.*?-->", "", page)
    for link in re.findall(r'(?:src|href)="((?!data:)[^"#][^"]*)"', page):
        assert stack.http.request("GET", "/admin/" + link).status == 200, link


def test_a_request_id_is_taken_answered_and_carried_to_the_worker(org, stack):
    app = org.new_app(tier="hot")
    r = org.admin.post(org.admin.app_path(app, "/load"), None, {"X-Request-Id": "story-4711"})
    assert r.headers["X-Request-Id"] == "story-4711"
    org.admin.ended(r.json["operation_id"])
    assert stack.db.value(f"SELECT request_id FROM operations WHERE operation_id = '{r.json['operation_id']}'") == "story-4711"
    assert "story-4711" in stack.app.text()
    assert org.admin.get(org.admin.app_path(app)).headers["X-Request-Id"]


def test_two_workers_share_the_loads_and_hand_over_on_sigterm(stack):
    org = stack.new_org()
    second = stack.add_worker("w2")
    apps = [org.new_app(tier="hot") for _ in range(6)]
    for app in apps:
        org.admin.load(app)
    assert second.stop() == 0
    stack.more_workers.remove(second)
    for app in apps:
        eventually(lambda: [p[0] for p in stack.placements(app) if p[3] == "ready"] == ["w1"], 20)
        assert org.member.chat_ok(app, "x") == "x"
