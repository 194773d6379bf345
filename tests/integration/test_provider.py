# SPDX-License-Identifier: Apache-2.0
"""A model provider that is slow, fails, flaps or is dead, and one whose name leads elsewhere by now."""
import signal
import sys
import uuid

import pytest

from harness import BUILD, SANITIZERS, SOURCE, Stack, eventually

sys.path.insert(0, str(SOURCE / "tests/fake"))
import provider as fake  # noqa: E402

OPTIONS = {"llm": {"allowed_networks": "127.0.0.0/8", "attempts_max": 1, "breaker_failures": 3, "breaker_pause_s": 5,
                   "breaker_pause_max_s": 6, "first_byte_timeout_s": 5, "idle_timeout_s": 5}}
ALLOWED = ["model call failed", "breaker llm_config"]


@pytest.fixture(scope="module")
def provider():
    with fake.Provider() as p:
        yield p


def new_agent(org, llm, model, **config):
    app = org.new_app(tier="hot", framework_type="agent", config={"llm_config_id": llm, "model": model, **config})
    org.admin.load(app)
    return app


def breakers(api, path):
    r = api.get(path)
    assert r.status == 200, r
    return r.json["breakers"]


def test_a_breaker_opens_shows_tries_and_closes(stack, org, provider):
    llm = org.new_llm_config("openai", provider.url)
    provider.script("b", fake.status(500))
    app = new_agent(org, llm, "b", history={"messages": 0})
    for _ in range(3):
        assert org.member.chat(app).code == "provider_unavailable"
    r = org.member.chat(app)  # not even asked
    assert r.code == "provider_unavailable" and "pause" in r.json["detail"] and 1 <= int(r.headers["Retry-After"]) <= 5
    assert len(provider.asked("b")) == 3
    shown = eventually(lambda: breakers(stack.sys, "/api/admin/pool/stats"), 20)
    # Failures are those of the provider, not the turns that it was not asked for.
    assert [(b["llm_config_id"], b["org_id"], b["model"], b["failures"]) for b in shown] == [(llm, org.id, "b", 3)]
    assert shown[0]["state"] in ("open", "half_open") and shown[0]["worker_id"] == "w1"
    mine = f"/api/orgs/{org.id}/pool/stats"
    assert [b["model"] for b in breakers(org.admin, mine)] == ["b"]
    other = stack.new_org()
    assert breakers(other.admin, f"/api/orgs/{other.id}/pool/stats") == []
    # It flaps: after each pause one call tries, and the next pause is longer.
    eventually(lambda: org.member.chat(app) and len(provider.asked("b")) == 4, 30)
    provider.script("b", fake.text("well again"))
    eventually(lambda: org.member.chat(app).status == 200, 30)
    for _ in range(5):
        assert org.member.chat_ok(app) == "well again"
    eventually(lambda: breakers(stack.sys, "/api/admin/pool/stats") == [], 20)


def test_another_model_of_the_same_provider_goes_on(org, provider):
    llm = org.new_llm_config("openai", provider.url)
    provider.script("bad", fake.status(500))
    provider.script("good", fake.text("x"))
    bad, good = new_agent(org, llm, "bad"), new_agent(org, llm, "good")
    for _ in range(4):
        assert org.member.chat(bad).code == "provider_unavailable"
    assert org.member.chat_ok(good) == "x"


@pytest.mark.parametrize("answer", [fake.hang, fake.hang_after("so")], ids=["before the answer", "in the answer"])
def test_a_provider_that_falls_silent_is_given_up(org, provider, answer):
    llm = org.new_llm_config("openai", provider.url)
    provider.script("s", answer)
    app = new_agent(org, llm, "s")
    r = org.member.chat(app)
    assert (r.status, r.code) == (504, "provider_timeout"), r


def test_a_slow_provider_is_waited_for_as_long_as_it_speaks(org, provider):
    llm = org.new_llm_config("openai", provider.url)
    provider.script("w", fake.text(*"abcdefg", delay=1))
    app = new_agent(org, llm, "w")
    assert org.member.chat_ok(app) == "abcdefg"


def test_a_dead_provider_is_told_at_once(org):
    llm = org.new_llm_config("openai", "http://127.0.0.1:1/v1")
    app = new_agent(org, llm, "d", probe="none")
    r = org.member.chat(app)
    assert r.code == "provider_unavailable" and "not reachable" in r.json["detail"]


def test_the_networks_of_providers_are_not_open_to_tools(org, provider):
    llm = org.new_llm_config("openai", provider.url)
    page = provider.url.replace("/v1", "/page")
    provider.script("t", fake.call("fetch_url", {"url": page}), fake.text("x"))
    app = new_agent(org, llm, "t", tools=["fetch_url"], fetch_url={"allow": [page.replace("/page", "/")]})
    assert org.member.chat_ok(app) == "x"
    assert provider.asked("t")[-1]["messages"][-1]["content"] == "The address is reserved, and not in tools.allowed_networks."


@pytest.fixture(scope="module")
def rebound(tmp_path_factory):
    """A stack that may reach nothing inside but 192.0.2.0/24, and the names that its programs look up."""
    hosts = tmp_path_factory.mktemp("names") / "hosts"
    hosts.write_text("")
    stack = Stack(llm={"allowed_networks": "192.0.2.0/24"}, ours_environment={
        "LD_PRELOAD": str(BUILD / "tests/fake/resolver.so"), "HEARTH_TEST_HOSTS": str(hosts),
        "ASAN_OPTIONS": SANITIZERS["ASAN_OPTIONS"] + ":verify_asan_link_order=0"})
    stack.allow(*ALLOWED)
    yield stack, hosts
    found = stack.stop()
    assert not found, "\n".join(found)


@pytest.mark.parametrize("scheme,fine", [("https", "1.1.1.1"), ("http", "192.0.2.1")])
@pytest.mark.parametrize("order", [1, -1], ids=["the last", "the first"])
def test_a_name_with_one_address_inside_is_not_saved(rebound, scheme, fine, order):
    """A name may have several, and which one is taken is not ours to say."""
    stack, hosts = rebound
    org = stack.new_org()

    def save(*addresses):
        hosts.write_text("".join(f"{a} several.example\n" for a in addresses[::order]))
        return org.admin.post(f"/api/orgs/{org.id}/llm-configs", {"name": "x", "provider": "openai", "base_url": f"{scheme}://several.example/v1"})

    for inside in INSIDE:
        r = save(fine, fine, inside)
        assert r.status == 422 and "not allowed" in r.json["errors"][0]["reason"], (inside, r)
    assert save(fine, fine).status == 201


INSIDE = ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
# The address it has when it is saved, and later. Of https every public one is fine, of http what the operator lists.
REBOUND = [("https", "1.1.1.1", inside) for inside in INSIDE] + [("http", "192.0.2.1", later) for later in [*INSIDE, "3000::1"]]


@pytest.mark.parametrize("scheme,before,later", REBOUND)
def test_a_name_that_leads_elsewhere_by_now_is_not_followed(rebound, provider, scheme, before, later):
    """Where it leads was fine when the LLM config was saved."""
    stack, hosts = rebound
    org = stack.new_org()
    url = f"{scheme}://models.example:{provider.port}/v1"
    hosts.write_text(f"{later} models.example\n")
    r = org.admin.post(f"/api/orgs/{org.id}/llm-configs", {"name": "x", "provider": "openai", "base_url": url})
    assert r.status == 422 and r.json["errors"][0]["field"] == "base_url", r
    hosts.write_text(f"{before} models.example\n")
    llm = org.new_llm_config("openai", url)
    hosts.write_text(f"{later} models.example\n")
    app = new_agent(org, llm, "r", probe="none")
    connections = provider.connections
    r = org.member.chat(app)
    assert r.code == "provider_refused" and "address is not allowed" in r.json["detail"], r
    assert ("use https" in r.json["detail"]) == (scheme == "http"), r
    assert provider.connections == connections


def test_sighup_takes_over_what_providers_may_do(stack, org, provider):
    """Of the limits one is looked at. The networks hold for connections that are kept, too, and for the tools' pages."""
    stack.allow(*ALLOWED)
    llm = org.new_llm_config("openai", provider.url)
    provider.script("h", fake.text("here"))
    app = new_agent(org, llm, "h", history={"messages": 0})
    assert org.member.chat_ok(app) == "here"

    def take_over(**options):
        stack.write_conf(llm={**OPTIONS["llm"], **options})
        for program in (stack.app, stack.worker):
            program.signal(signal.SIGHUP)

    def save():
        return org.admin.post(f"/api/orgs/{org.id}/llm-configs", {"name": str(uuid.uuid4()), "provider": "openai", "base_url": provider.url})

    take_over(allowed_networks="10.0.0.0/8")
    eventually(lambda: org.member.chat(app).code == "provider_refused", 20)
    connections = provider.connections
    eventually(lambda: save().status == 422, 20)
    assert "not allowed" in org.member.chat(app).json["detail"] and provider.connections == connections
    take_over(attempts_max=3, breaker_failures=0)
    eventually(lambda: org.member.chat(app).status == 200, 20)
    eventually(lambda: save().status == 201, 20)
    provider.script("h", fake.status(503), fake.status(503), fake.text("at last"))
    assert org.member.chat_ok(app) == "at last"
    take_over()
    provider.script("h", fake.status(503))
    eventually(lambda: "pause" in org.member.chat(app).json["detail"], 20)
