"""What pyproject, constraints and changelog say of the same thing agrees."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest

import attrcloak

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)(?:\[[^\]]*\])?(?P<range>.*)")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): version for name, version in pins}


def declared() -> dict[str, str]:
    extras = chain.from_iterable(PROJECT["optional-dependencies"].values())
    found = [match for match in map(REQUIREMENT.fullmatch, [*PROJECT["dependencies"], *extras]) if match]
    return {normal(match["name"]): match["range"] for match in found if normal(match["name"]) != "attrcloak"}


@pytest.mark.parametrize("name", sorted(declared()))
def test_every_dependency_is_pinned(name: str) -> None:
    assert name in pinned()


def test_the_exact_pin_of_torch_is_the_same_in_both() -> None:
    assert declared()["torch"] == f"=={pinned()['torch']}"


def test_constraints_name_no_index_and_no_local_build() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"https?:|^-|index-url|@ ", text, flags=re.MULTILINE)
    assert not any("+" in version for version in pinned().values())


def test_version_is_one() -> None:
    assert PROJECT["version"] == attrcloak.__version__
    assert f"## [{attrcloak.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "src" / "attrcloak" / "py.typed").is_file()
