# SPDX-License-Identifier: Apache-2.0
"""scripts/quickstart: what it makes of answers, and what it refuses before it builds or starts anything."""
import json
import shutil
import subprocess

import pytest

from harness import PATH, SOURCE


def run(*command, given="", **env):
    return subprocess.run(command, input=given, capture_output=True, text=True, env={"PATH": PATH, **env}, timeout=60)


def json_sh(command, document):
    done = run("sh", "-c", f'. "$1/scripts/json.sh"; {command}', "sh", str(SOURCE), given=document)
    assert done.returncode == 0 and done.stderr == "", done
    return done.stdout


@pytest.mark.parametrize("value", ["plain", "", "with http: use https, or {an administrator} allows it", 'says "no", twice', "C:\\new\\", "é"])
def test_a_field_is_read_whole(value):
    document = json.dumps({"n": 1, "x_reason": "other", "reason": value, "of": {"reason": "inner"}}, ensure_ascii=False)
    assert json_sh("field reason", document) == value + "\n"


@pytest.mark.parametrize("document, words", [
    ({"title": "T", "detail": "D, d.", "errors": [{"field": "base_url", "reason": "must, x"}, {"field": "api_key", "reason": "y; z"}]},
     "base_url must, x; api_key y; z"),
    ({"title": "T", "status": 409, "detail": "The name is taken, as said."}, "The name is taken, as said."),
    ({"title": "T"}, "T"),
])
def test_a_refusal_is_said_in_words(document, words):
    assert json_sh('refusal "$(cat)"', json.dumps(document)) == words


def test_no_answer_is_said_too():
    assert json_sh('refusal "$(cat)"', "") == "there was no answer"
    assert json_sh('refusal "$(cat)"', "<html>") == "<html>"


@pytest.fixture
def tree(tmp_path):
    """The scripts alone: nothing can be built here."""
    shutil.copytree(SOURCE / "scripts", tmp_path / "scripts")
    return tmp_path


@pytest.mark.parametrize("url", ["api.openai.com/v1", "ftp://example.com/v1", "https://", "https:///v1", "http://:80/v1",
                                 "https://user:secret@example.com", "https://exa mple.com", "https://[]/v1"])
def test_a_wrong_address_of_a_model_is_refused_first(tree, url):
    done = run(str(tree / "scripts/quickstart"), "--no-install", HEARTH_LLM_BASE_URL=url, HEARTH_LLM_MODEL="m", HEARTH_PORT="none")
    assert done.returncode == 1 and "HEARTH_LLM_BASE_URL must be http:// or https://" in done.stderr, done
    assert "secret" not in done.stderr and sorted(p.name for p in tree.iterdir()) == ["scripts"]


@pytest.mark.parametrize("url", ["https://api.openai.com/v1", "http://127.0.0.1:8000", "http://[::1]:8000/v1", "https://host_1/a"])
def test_a_right_address_is_not(tree, url):
    done = run(str(tree / "scripts/quickstart"), "--no-install", HEARTH_LLM_BASE_URL=url, HEARTH_LLM_MODEL="m", HEARTH_PORT="none")
    assert done.returncode == 1 and done.stderr == "quickstart: HEARTH_PORT is no port: none\n", done
