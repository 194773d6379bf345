# SPDX-License-Identifier: Apache-2.0
"""make bench-docs: puts what make bench and make bench-growth have left in the build tree into docs/ of the source tree.

In docs/performance.md the text between <!-- NAME begin --> and <!-- NAME end --> is
replaced; what was not measured stays.
"""
import os
import pathlib
import re
import shutil

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
RESULTS = pathlib.Path(os.environ.get("HEARTH_RESULTS", "."))


def put(page, name):
    path = RESULTS / f"{name}.md"
    if not path.exists():
        return page
    print(f"{path} -> {DOCS}/performance.md")
    page, n = re.subn(rf"(<!-- {name} begin -->\n).*?(<!-- {name} end -->)",
                      lambda m: f"{m[1]}\n{path.read_text()}\n{m[2]}", page, flags=re.S)
    assert n == 1, f"docs/performance.md has no place for {name}"
    return page


def main():
    page = DOCS / "performance.md"
    text = page.read_text()
    for name in ("bench-results", "bench-growth"):
        text = put(text, name)
    page.write_text(text)
    if (RESULTS / "growth.svg").exists():
        shutil.copy(RESULTS / "growth.svg", DOCS / "growth.svg")


if __name__ == "__main__":
    main()
