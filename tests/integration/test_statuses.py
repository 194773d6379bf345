# SPDX-License-Identifier: Apache-2.0
"""Every status and code of the API, each where it belongs. Those of a stopped bus or database have their own stories."""
import pytest

from harness import eventually

OPTIONS = {
    "app": {"demand_wait_s": 1, "turn_timeout_s": 6},
    "worker": {"turns_max": 4, "drain_s": 1},
}
NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def orgs(module_stack):
    return module_stack.new_org(), module_stack.new_org()


@pytest.fixture
def org(stack, orgs):
    return orgs[0]


@pytest.fixture
def other(stack, orgs):
    return orgs[1]


def refused(r, status, code):
    """The whole shape of a problem document, and what must not be in it."""
    assert (r.status, r.code) == (status, code), r
    document = r.json
    assert r.headers["Content-Type"].startswith("application/problem+json")
    assert document["status"] == status and document["title"] and document["type"]
    assert "detail" in document and r.headers["X-Request-Id"]
    assert (status == 422) == ("errors" in document)
    if status == 401:
        assert r.headers["WWW-Authenticate"].startswith("Bearer")
    for word in ("SQL", "mysql", "mariadb", "errno", "/tmp/"):
        assert word not in r.body.decode()
    return r


# --- 400, 413, 415, 422 ---


@pytest.mark.parametrize("body", [b"{", b"{} {}", b'{"name":}', b'{"name":"\xff\xfe"}', b"{'name':1}",
                                  b'{"name":"a","name":"b"}', b'{"a":' * 2000 + b"1" + b"}" * 2000, b"\x00"])
def test_400_bad_json(org, body):
    refused(org.admin.post(f"/api/orgs/{org.id}/orchestrators", body, {"Content-Type": "application/json"}), 400, "bad_json")


def test_413_too_large(org):
    body = b'{"name":"' + b"x" * 1_200_000 + b'"}'
    refused(org.admin.post(f"/api/orgs/{org.id}/orchestrators", body, {"Content-Type": "application/json"}), 413, "too_large")


@pytest.mark.parametrize("type_", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_415_unsupported_type(org, type_):
    refused(org.admin.post(f"/api/orgs/{org.id}/orchestrators", b"{}", {"Content-Type": type_}), 415, "unsupported_type")


@pytest.mark.parametrize("body, field", [
    ({}, "name"),
    ({"name": ""}, "name"),
    ({"name": "x" * 101}, "name"),
    ({"name": 7}, "name"),
    ({"name": "x", "framework_type": "nonsense"}, "framework_type"),
    ({"name": "x", "framework_type": "echo", "mode": "nonsense"}, "mode"),
    ({"name": "x", "framework_type": "echo", "tier": "warm"}, "tier"),
    ({"name": "x", "framework_type": "echo", "config": []}, "config"),
    ({"name": "x", "framework_type": "echo", "config": {"word_delay_ms": -1}}, "config.word_delay_ms"),
    ({"name": "x", "framework_type": "echo", "config": {"prefix": 1}}, "config.prefix"),
    ({"name": "x", "framework_type": "echo", "ttl_seconds": -5}, "ttl_seconds"),
    ({"name": "x", "framework_type": "echo", "replicas": 0}, "replicas"),
    ({"name": "x", "framework_type": "echo", "replicas": 1.5}, "replicas"),
])
def test_422_invalid_names_the_field(org, body, field):
    r = refused(org.admin.post(f"/api/orgs/{org.id}/orchestrators", body), 422, "invalid")
    assert field in [e["field"] for e in r.json["errors"]], r
    assert all(e["reason"] for e in r.json["errors"])


@pytest.mark.parametrize("tail, body", [("/load", {"tier": "warm"}), ("/unload", {"drain_s": "long"}), ("/reload", {"fresh": 1})])
def test_422_invalid_in_a_lifecycle_request(org, tail, body):
    app = org.new_app()
    refused(org.admin.post(org.admin.app_path(app, tail), body), 422, "invalid")
    assert org.admin.operations(app) == []


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"1"])
def test_422_invalid_where_the_body_is_no_object(org, body):
    refused(org.admin.post(f"/api/orgs/{org.id}/orchestrators", body, {"Content-Type": "application/json"}), 422, "invalid")


def test_422_invalid_in_a_chat(org):
    app = org.new_app()
    for body in ({"instance_id": app}, {"instance_id": app, "message": 1}, {"message": "x"}, {"instance_id": app, "message": "x", "stream": "yes"},
                 {"instance_id": app, "message": "x", "conversation_id": "nonsense"}):
        refused(org.member.post(org.member.chat_path, body), 422, "invalid")


def test_422_invalid_page(org):
    for query in ("limit=0", "limit=x", "limit=100000", "after=nonsense"):
        refused(org.admin.get(f"/api/orgs/{org.id}/orchestrators?{query}"), 422, "invalid")


# --- 401, 403 ---


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer x", "Bearer hrt_" + "A" * 43, "Basic abc", "hrt_" + "A" * 43])
def test_401_unauthorized(org, stack, header):
    app = org.new_app()
    headers = {"Authorization": header} if header is not None else {}
    for method, path in (("POST", org.admin.app_path(app, "/load")), ("GET", org.admin.app_path(app)), ("GET", "/api/admin/pool/stats")):
        refused(stack.http.request(method, path, headers=headers), 401, "unauthorized")
    refused(stack.http.request("POST", org.admin.chat_path, body={"instance_id": app, "message": "x"}, headers=headers), 401, "unauthorized")


def test_403_forbidden_where_the_role_lacks_the_permission(org):
    app = org.new_app()
    for tail in ("/load", "/unload", "/reload"):
        refused(org.member.post(org.member.app_path(app, tail)), 403, "forbidden")
    refused(org.member.post(f"/api/orgs/{org.id}/orchestrators", {"name": "x", "framework_type": "echo"}), 403, "forbidden")
    refused(org.member.delete(org.member.app_path(app)), 403, "forbidden")
    refused(org.member.get(f"/api/orgs/{org.id}/tokens"), 403, "forbidden")
    refused(org.member.get(f"/api/orgs/{org.id}/pool/stats"), 403, "forbidden")
    for path in ("/api/admin/orgs", "/api/admin/pool/stats", "/api/admin/audit", "/api/admin/health"):
        refused(org.admin.get(path), 403, "forbidden")


def test_403_forbidden_for_a_token_above_the_own_role(org):
    refused(org.admin.post(f"/api/orgs/{org.id}/tokens", {"name": "x", "role": "sys_admin"}), 403, "forbidden")


def test_403_org_mismatch(org, other):
    app = org.new_app()
    refused(other.admin.get(org.admin.app_path(app)), 403, "org_mismatch")
    refused(other.admin.post(org.admin.app_path(app, "/load")), 403, "org_mismatch")
    refused(other.member.post(org.member.chat_path, {"instance_id": app, "message": "x"}), 403, "org_mismatch")
    # Which orgs exist is not said either.
    refused(other.admin.get(f"/api/orgs/{NOBODY}/orchestrators"), 403, "org_mismatch")


def test_403_instance_forbidden(org, other):
    app = org.new_app()
    for tail in ("/load", "/unload", "/reload"):
        refused(other.admin.post(other.admin.app_path(app, tail)), 403, "instance_forbidden")
    refused(other.admin.get(other.admin.app_path(app)), 403, "instance_forbidden")
    refused(other.member.chat(app), 403, "instance_forbidden")


# --- 404, 405, 410 ---


def test_404_not_found(org):
    for path in ("/", "/api", "/api/nothing", f"/api/orgs/{org.id}/nothing", "/api/orgs", "/admin/nothing"):
        refused(org.admin.get(path), 404, "not_found")


def test_404_org_not_found(stack):
    refused(stack.sys.get(f"/api/orgs/{NOBODY}/orchestrators"), 404, "org_not_found")
    refused(stack.sys.get("/api/orgs/nonsense/orchestrators"), 404, "org_not_found")
    refused(stack.sys.get(f"/api/admin/orgs/{NOBODY}"), 404, "org_not_found")


@pytest.mark.parametrize("app", [NOBODY, "nonsense", NOBODY.replace("0", "A"), NOBODY + "0"])
def test_404_instance_not_found(org, app):
    refused(org.admin.get(org.admin.app_path(app)), 404, "instance_not_found")
    refused(org.admin.post(org.admin.app_path(app, "/load")), 404, "instance_not_found")


def test_404_operation_not_found(org, other):
    app = org.new_app(tier="hot")
    op = org.admin.load(app)["operation_id"]
    for path in (f"/api/orgs/{org.id}/operations/{NOBODY}", f"/api/orgs/{org.id}/operations/nonsense"):
        refused(org.admin.get(path), 404, "operation_not_found")
    refused(other.admin.get(f"/api/orgs/{other.id}/operations/{op}"), 404, "operation_not_found")
    org.admin.unload(app)


def test_404_token_not_found(org, other):
    foreign = other.new_token("member")["token_id"]
    for token in (NOBODY, "nonsense", foreign):
        refused(org.admin.delete(f"/api/orgs/{org.id}/tokens/{token}"), 404, "token_not_found")


def test_405_method_not_allowed_says_what_is(org):
    app = org.new_app()
    r = refused(org.admin.call("PUT", org.admin.app_path(app)), 405, "method_not_allowed")
    allowed = {m.strip() for m in r.headers["Allow"].split(",")}
    assert {"GET", "PATCH", "DELETE"} <= allowed and "POST" not in allowed
    assert "POST" in refused(org.admin.get(org.admin.app_path(app, "/load")), 405, "method_not_allowed").headers["Allow"]


def test_410_instance_deleted(org):
    app = org.new_app()
    assert org.admin.delete(org.admin.app_path(app)).status in (200, 202, 204)
    refused(org.admin.get(org.admin.app_path(app)), 410, "instance_deleted")
    refused(org.admin.post(org.admin.app_path(app, "/load")), 410, "instance_deleted")
    eventually(lambda: refused(org.member.chat(app), 410, "instance_deleted"), 5)


# --- 409 ---


def test_409_instance_suspended(org):
    app = org.new_app()
    assert org.admin.patch(org.admin.app_path(app, "/status"), {"status": "suspended"}).status == 200
    refused(org.admin.post(org.admin.app_path(app, "/load")), 409, "instance_suspended")
    refused(org.admin.post(org.admin.app_path(app, "/reload")), 409, "instance_suspended")
    eventually(lambda: refused(org.member.chat(app), 409, "instance_suspended"), 5)


def test_409_org_suspended(stack):
    org = stack.new_org()
    app = org.new_app()
    assert stack.sys.patch(f"/api/admin/orgs/{org.id}/status", {"status": "suspended"}).status == 200
    refused(org.admin.post(org.admin.app_path(app, "/load")), 409, "org_suspended")
    eventually(lambda: refused(org.member.chat(app), 409, "org_suspended"), 5)


def test_409_name_taken(org, stack):
    body = {"name": "one of its kind", "framework_type": "echo"}
    first = org.admin.post(f"/api/orgs/{org.id}/orchestrators", body)
    assert first.status == 201
    refused(org.admin.post(f"/api/orgs/{org.id}/orchestrators", body), 409, "name_taken")
    refused(stack.sys.post("/api/admin/orgs", {"name": org.name}), 409, "name_taken")
    # The name of a deleted App is free again.
    org.admin.delete(org.admin.app_path(first.json["instance_id"]))
    assert org.admin.post(f"/api/orgs/{org.id}/orchestrators", body).status == 201


def test_409_quota_instances(stack):
    org = stack.new_org(quotas={"instances": 1})
    org.new_app()
    refused(org.admin.post(f"/api/orgs/{org.id}/orchestrators", {"name": "two", "framework_type": "echo"}), 409, "quota_instances")


def test_409_quota_hot(stack):
    org = stack.new_org(quotas={"hot": 1})
    first, second, third = org.new_app(tier="hot"), org.new_app(tier="hot"), org.new_app()
    org.admin.load(first)
    refused(org.admin.post(org.admin.app_path(second, "/load")), 409, "quota_hot")
    refused(org.admin.post(org.admin.app_path(third, "/load"), {"tier": "hot"}), 409, "quota_hot")
    assert org.admin.app(third)["tier"] == "demand"


# --- 429, 503, 504 ---


def test_429_too_many_turns(org):
    app = org.new_app(tier="hot", config={"word_delay_ms": 1000})
    org.admin.load(app)
    streams = [org.member.chat_stream(app, "word " * 20) for _ in range(4)]
    for stream in streams:
        stream.first()
    refused(org.member.chat(app), 429, "too_many_turns")
    for stream in streams:
        stream.hang_up()
    org.admin.unload(app, {"drain_s": 0})


def test_503_instance_not_loaded(org):
    app = org.new_app(tier="hot")
    r = refused(org.member.chat(app), 503, "instance_not_loaded")
    assert int(r.headers["Retry-After"]) > 0
    r = org.member.chat_stream(app)  # a refused stream is a problem document, no stream
    assert r.status == 503 and r.headers["Content-Type"].startswith("application/problem+json")
    r.close()


def test_503_instance_loading(org):
    app = org.new_app(config={"build_delay_ms": 8000})
    r = refused(org.member.chat(app), 503, "instance_loading")
    assert int(r.headers["Retry-After"]) > 0
    eventually(lambda: org.admin.app(app)["is_ready"], 20)
    assert org.member.chat_ok(app, "x") == "x"


def test_503_instance_failed_with_the_reason_and_no_second_build(stack, org):
    stack.allow("App failed .*the model is gone")
    app = org.new_app(config={"build_fail": "the model is gone"})
    r = refused(org.member.chat(app), 503, "instance_failed")
    assert r.json["reason"] == "the model is gone"
    r = refused(org.member.chat(app), 503, "instance_failed")
    assert int(r.headers["Retry-After"]) > 0


def test_503_worker_unresponsive(stack, org):
    app = org.new_app(tier="hot")
    org.admin.load(app)
    stack.allow(".")  # a worker that was frozen has much to say
    stack.worker.freeze()
    try:
        refused(org.member.chat(app), 503, "worker_unresponsive")
    finally:
        stack.worker.thaw()
    eventually(lambda: org.member.chat(app).status == 200, 30)


def test_504_turn_timeout(org):
    app = org.new_app(tier="hot", config={"word_delay_ms": 9000})
    org.admin.load(app)
    refused(org.member.chat(app, "a b c"), 504, "turn_timeout")
    events = org.member.chat_stream(app, "a b c").rest()
    assert events[-1].name == "error" and events[-1].data["code"] == "turn_timeout" and events[-1].data["status"] == 504
    assert events[-1].data["detail"]


def test_refusals_come_in_the_order_of_the_design(stack, orgs):
    org, other = orgs
    app = org.new_app()
    path = org.admin.app_path(app, "/load")
    org.admin.patch(org.admin.app_path(app, "/status"), {"status": "suspended"})
    refused(stack.http.request("POST", path), 401, "unauthorized")
    refused(other.member.post(path), 403, "org_mismatch")
    refused(org.member.post(path), 403, "forbidden")
    refused(org.member.post(org.member.app_path(NOBODY, "/load")), 403, "forbidden")
    refused(org.admin.post(org.admin.app_path(NOBODY, "/load")), 404, "instance_not_found")
    refused(org.admin.post(path), 409, "instance_suspended")
    org.admin.delete(org.admin.app_path(app))
    refused(org.admin.post(path), 410, "instance_deleted")


def test_a_head_request_is_a_get_without_body(stack):
    r = stack.http.request("HEAD", "/healthz")
    assert r.status == 200 and r.body == b""
