# SPDX-License-Identifier: Apache-2.0
"""The hot ceiling, the demand ceiling, and the quotas with two requests racing for the last place."""
import pytest

from harness import at_once, eventually

OPTIONS = {"worker": {"hot_ceiling": 2, "demand_ceiling": 2}}
ALLOWED = [r"(?i)ceiling|quota|no room|full"]


@pytest.fixture(autouse=True)
def empty_pool(stack):
    """Each test begins with room."""
    yield
    for org_id, app in stack.db.run("SELECT DISTINCT i.org_id, i.instance_id FROM orchestrator_instances i LEFT JOIN placements p "
                                    "USING (instance_id) WHERE i.deleted_at IS NULL AND (i.wanted_hot = 1 OR p.instance_id IS NOT NULL)"):
        stack.sys.post(f"/api/orgs/{org_id}/orchestrators/{app}/unload", {"drain_s": 0})
    eventually(lambda: stack.db.number("SELECT COUNT(*) FROM placements") == 0, 20)


def ready(stack, tier):
    return stack.db.number(f"SELECT COUNT(*) FROM placements WHERE tier = '{tier}' AND state = 'ready'")


# --- the worker's ceilings ---


def test_the_hot_tier_never_evicts_a_load_too_many_fails(stack, org):
    apps = [org.new_app(tier="hot") for _ in range(3)]
    for app in apps[:2]:
        org.admin.load(app)
    op = org.admin.ended(org.admin.lifecycle("load", apps[2]).json["operation_id"])
    assert op["state"] == "failed" and "hot_ceiling" in op["reason"], op
    assert all(org.member.chat(app).status == 200 for app in apps[:2])
    assert org.member.chat(apps[2]).status == 503
    # It is wanted still: once there is room it comes by itself.
    org.admin.unload(apps[0])
    eventually(lambda: org.admin.app(apps[2])["state"] == "ready", 40)


def test_a_burst_of_hot_loads_fills_the_tier_and_not_more(stack, org):
    apps = [org.new_app(tier="hot", config={"build_delay_ms": 200}) for _ in range(8)]
    ops = [r.json["operation_id"] for r in at_once(*[lambda a=a: org.admin.lifecycle("load", a) for a in apps])]
    ends = [org.admin.ended(op) for op in ops]
    assert sorted(op["state"] for op in ends) == ["failed"] * 6 + ["succeeded"] * 2
    assert all("hot_ceiling" in op["reason"] for op in ends if op["state"] == "failed")
    assert ready(stack, "hot") == 2


def test_the_demand_tier_evicts_the_app_that_was_used_longest_ago(stack, org):
    a, b, c = (org.new_app() for _ in range(3))
    org.member.chat_ok(a)
    org.member.chat_ok(b)
    org.member.chat_ok(a)
    org.member.chat_ok(c)
    eventually(lambda: stack.placements(b) == [], 10)
    assert stack.placements(a) and stack.placements(c)

    def is_counted():
        rows = stack.db.run(f"SELECT loads, evicted_room, evicted_idle, evicted_quota FROM instance_stats WHERE instance_id = '{b}'")
        assert [tuple(r) for r in rows] == [("1", "1", "0", "0")], (rows, stack.worker.tail())
        return True

    eventually(is_counted, 10)


def test_an_app_of_the_same_org_is_evicted_first(stack, org):
    other = stack.new_org()
    foreign, own, new = other.new_app(), org.new_app(), org.new_app()
    other.member.chat_ok(foreign)  # used longest ago, but another org's
    org.member.chat_ok(own)
    org.member.chat_ok(new)
    eventually(lambda: stack.placements(own) == [], 10)
    assert stack.placements(foreign)


def test_an_app_with_a_turn_in_flight_is_never_evicted(stack, org):
    busy = [org.new_app(config={"word_delay_ms": 200}) for _ in range(2)]
    streams = [org.member.chat_stream(app, "word " * 60) for app in busy]
    for stream in streams:
        stream.first()
    r = org.member.chat(org.new_app())
    assert (r.status, r.code) == (503, "instance_failed") and "demand_ceiling" in r.json["reason"], r
    op = org.admin.ended(org.admin.lifecycle("load", org.new_app()).json["operation_id"])
    assert op["state"] == "failed" and "demand_ceiling" in op["reason"], op
    assert all(stack.placements(app) for app in busy)
    for stream in streams:
        stream.hang_up()


def test_a_burst_of_first_chats_is_served_by_a_tier_that_is_too_small(stack, org):
    apps = [org.new_app(config={"prefix": f"{i} "}) for i in range(8)]

    def chat(i):
        return eventually(lambda: (r := org.member.chat(apps[i], "x")).status == 200 and r.json["response"], 30)

    assert at_once(*[lambda i=i: chat(i) for i in range(8)]) == [f"{i} x" for i in range(8)]
    eventually(lambda: ready(stack, "demand") <= 2, 10)


def test_a_move_into_a_full_tier_fails_and_the_copy_stays(stack, org):
    hot = [org.new_app(tier="hot") for _ in range(2)]
    for app in hot:
        org.admin.load(app)
    app = org.new_app()
    org.member.chat_ok(app)
    op = org.admin.ended(org.admin.lifecycle("load", app, {"tier": "hot"}).json["operation_id"])
    assert op["state"] == "failed" and "hot_ceiling" in op["reason"], op
    assert [p[1] for p in stack.placements(app)] == ["demand"]
    assert org.member.chat_ok(app, "x") == "x"
    org.admin.unload(hot[0])
    eventually(lambda: [p[1] for p in stack.placements(app)] == ["hot"], 40)


# --- quotas ---


@pytest.mark.parametrize("round_", range(5))
def test_two_creates_race_for_the_last_place(stack, round_):
    org = stack.new_org(quotas={"instances": 1})
    answers = at_once(*[lambda i=i: org.admin.post(f"/api/orgs/{org.id}/orchestrators", {"name": f"n{i}", "framework_type": "echo"}) for i in range(2)])
    assert sorted((r.status, r.code) for r in answers) == [(201, None), (409, "quota_instances")], answers


@pytest.mark.parametrize("round_", range(5))
def test_two_hot_loads_race_for_the_last_place(stack, round_):
    org = stack.new_org(quotas={"hot": 1})
    apps = [org.new_app(tier="hot") for _ in range(2)]
    answers = at_once(*[lambda a=a: org.admin.lifecycle("load", a) for a in apps])
    assert sorted((r.status, r.code) for r in answers) == [(202, None), (409, "quota_hot")], answers
    (won,) = [r for r in answers if r.status == 202]
    assert org.admin.ended(won.json["operation_id"])["state"] == "succeeded"
    loser = apps[[r.status for r in answers].index(409)]
    assert org.admin.app(loser)["desired_state"] == "unloaded"


def test_a_hot_load_and_a_move_to_hot_race_for_the_last_place(stack):
    org = stack.new_org(quotas={"hot": 1})
    hot, demand = org.new_app(tier="hot"), org.new_app()
    org.admin.load(demand)
    answers = at_once(lambda: org.admin.lifecycle("load", hot), lambda: org.admin.patch(org.admin.app_path(demand), {"tier": "hot"}))
    assert sorted(r.status for r in answers)[1] == 409 and [r.code for r in answers if r.status == 409] == ["quota_hot"], answers


@pytest.mark.parametrize("round_", range(3))
def test_two_first_chats_race_for_the_last_demand_place(stack, round_):
    org = stack.new_org(quotas={"demand": 1})
    apps = [org.new_app(config={"word_delay_ms": 100, "build_delay_ms": 100}) for _ in range(2)]
    # Not refused: the org's own idle one goes first; a busy one stays and the other fails with the reason.
    answers = at_once(*[lambda a=a: org.member.chat(a, "a b c d e f g h i j") for a in apps])
    assert 200 in [r.status for r in answers], answers
    for r in answers:
        assert r.status == 200 or (r.code == "instance_failed" and "demand_quota" in r.json["reason"]), r
    assert stack.db.number(f"SELECT COUNT(*) FROM placements WHERE org_id = '{org.id}' AND state IN ('ready', 'loading')") <= 1


def test_the_demand_quota_evicts_the_orgs_own_idle_app(stack):
    org = stack.new_org(quotas={"demand": 1})
    old, new = org.new_app(), org.new_app()
    org.member.chat_ok(old)
    eventually(lambda: org.member.chat(new, "x").status == 200, 10)
    eventually(lambda: stack.placements(old) == [], 10)

    def is_counted():
        rows = stack.db.run(f"SELECT loads, evicted_room, evicted_quota FROM instance_stats WHERE instance_id = '{old}'")
        assert [tuple(r) for r in rows] == [("1", "0", "1")], (rows, stack.worker.tail())
        return True

    eventually(is_counted, 10)


def test_the_demand_quota_with_a_busy_app_fails_with_its_name(stack):
    org = stack.new_org(quotas={"demand": 1})
    busy, new = org.new_app(config={"word_delay_ms": 200}), org.new_app()
    stream = org.member.chat_stream(busy, "word " * 60)
    stream.first()
    r = org.member.chat(new)
    assert (r.status, r.code) == (503, "instance_failed") and "demand_quota" in r.json["reason"], r
    stream.hang_up()


def test_a_hot_quota_that_was_lowered_is_met_by_the_running_claim(stack):
    org = stack.new_org(quotas={"hot": 2})
    apps = [org.new_app(tier="hot") for _ in range(2)]
    for app in apps:
        org.admin.load(app)
    assert stack.sys.patch(f"/api/admin/orgs/{org.id}", {"quotas": {"hot": 1}}).status == 200
    assert all(org.member.chat(app).status == 200 for app in apps)  # nobody is thrown out
    org.admin.unload(apps[0])
    r = org.admin.lifecycle("load", apps[0])
    assert (r.status, r.code) == (409, "quota_hot"), r
