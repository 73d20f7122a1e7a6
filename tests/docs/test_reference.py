"""The reference pages say what the code says."""

import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("page", ["cli.md", "methods.md", "../reproduction.md", "../scale.md"])
def test_generated_parts_are_current(page: str) -> None:
    build = runpy.run_path(str(DOCS / "build_reference.py"))
    expected = build["rebuilt"](page)
    assert (DOCS / "reference" / page).read_text(encoding="utf-8") == expected, "run: make reference"


def test_every_setting_is_explained() -> None:
    build = runpy.run_path(str(DOCS / "build_reference.py"))
    unexplained = [line for line in build["methods"]().splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert not unexplained


def test_every_option_is_explained() -> None:
    build = runpy.run_path(str(DOCS / "build_reference.py"))
    unexplained = [
        line for line in build["commands"]().splitlines() if line.startswith("| `") and line.endswith("|  |")
    ]
    assert not unexplained
