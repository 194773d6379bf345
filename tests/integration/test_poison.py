# SPDX-License-Identifier: Apache-2.0
"""An App whose build kills its worker: after the third time it is failed(poison), and it takes nobody with it."""
from harness import eventually

ALLOWED = [r"(?i)lease|incarnation|recover|reap|attempt|poison|fail|no responders|instance_not_loaded"]
OPTIONS = {"worker": {"builds_max": 4}}


def building(stack, app):
    now = stack.worker.incarnation()
    return now and stack.db.value(f"SELECT 1 FROM placements WHERE instance_id = '{app}' AND state = 'loading' AND incarnation = '{now}'")


def test_three_builds_that_kill_the_worker_are_enough(stack, org):
    good = [org.new_app(tier="hot", config={"prefix": f"{i} "}) for i in range(4)]
    for app in good:
        org.admin.load(app)
    bad = org.new_app(tier="hot", config={"build_delay_ms": 60000})
    op = org.admin.lifecycle("load", bad).json["operation_id"]
    for attempt in range(1, 4):
        eventually(lambda: building(stack, bad), 40, f"attempt {attempt} is under way")
        assert stack.db.value(f"SELECT attempts FROM orchestrator_instances WHERE instance_id = '{bad}'") == str(attempt)
        stack.worker.kill()
        stack.worker.start()
    op = org.admin.ended(op, 40)
    assert op["state"] == "failed" and "poison" in op["reason"], op
    shown = org.admin.app(bad)
    assert shown["state"] == "failed" and "poison" in shown["state_reason"], shown
    for i, app in enumerate(good):
        eventually(lambda: org.member.chat(app, "x").status == 200, 30)
        assert org.member.chat_ok(app, "x") == f"{i} x"
        assert [o["state"] for o in org.admin.operations(app) if o["state"] == "failed"] == []
    # It is left alone: nobody builds it again behind the operator's back.
    r = org.member.chat(bad)
    assert r.status == 503 and r.code in ("instance_failed", "instance_not_loaded"), r
    assert stack.placements(bad) == [] or stack.placements(bad)[0][3] == "failed"
    # A new generation clears it.
    org.admin.configure(bad, prefix="cured ")
    org.admin.load(bad)
    assert org.member.chat_ok(bad, "x") == "cured x"


def test_a_demand_app_is_poisoned_too(stack, org):
    bad = org.new_app(config={"build_delay_ms": 60000})
    op = org.admin.lifecycle("load", bad).json["operation_id"]
    for _ in range(3):
        eventually(lambda: building(stack, bad), 40)
        stack.worker.kill()
        stack.worker.start()
    op = org.admin.ended(op, 40)
    assert op["state"] == "failed" and "poison" in op["reason"], op
    r = org.member.chat(bad)
    assert (r.status, r.code) == (503, "instance_failed") and "poison" in r.json["reason"], r
