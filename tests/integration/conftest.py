# SPDX-License-Identifier: Apache-2.0
"""Fixtures. A story (module) has one stack; its OPTIONS are what the stack's hearth.conf says beside the defaults."""
import pytest

import harness


@pytest.fixture(scope="session", autouse=True)
def template():
    yield
    harness.remove_template()


@pytest.fixture(scope="module")
def module_stack(request):
    stack = harness.Stack(**getattr(request.module, "OPTIONS", {}))
    stack.allowed_always = getattr(request.module, "ALLOWED", [])
    yield stack
    stack.allow(*stack.allowed_always)
    found = stack.stop()
    assert not found, "\n".join(found)


@pytest.fixture
def stack(module_stack):
    """The module's servers; after each test their logs are looked at."""
    module_stack.allow(*module_stack.allowed_always)
    yield module_stack
    module_stack.check()


@pytest.fixture
def org(stack):
    return stack.new_org()


@pytest.fixture
def passing_org(stack):
    """One whose Apps are unloaded after the test."""
    org = stack.new_org()
    yield org
    org.suspend()
