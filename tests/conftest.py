"""What every test may use: real data sets where they exist, and the same random examples in every run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from attrcloak.comparison import ComparisonReport

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile(
    "repeatable", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", parent=settings.get_profile("repeatable"), derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """``shared_data("ml-100k")``: the folder of that name among the real data sets, or the test is skipped."""
    root = Path(os.environ.get("ATTRCLOAK_DATA") or ROOT.parent / "shared" / "data")

    def folder(name: str) -> Path:
        found = root / name
        if not found.is_dir():
            pytest.skip(f"no real data set {name!r}: set ATTRCLOAK_DATA to a folder that holds it")
        return found

    return folder


@pytest.fixture(scope="session")
def compared() -> "ComparisonReport":
    """ALS and three methods on 900 made-up users: their taste follows "group", and "town" has a class of five users.

    Keys are drawn anew in every run, so there are enough users for what is tested to hold under any of them.
    """
    from dataclasses import replace

    import numpy as np

    from attrcloak.auditing import SOUND
    from attrcloak.comparison import compare
    from attrcloak.data.attributes import UserAttributes
    from attrcloak.data.datasets import Dataset
    from attrcloak.data.datasets.planted import planted_interactions, planted_leak

    table, people = planted_leak("linear", users=900, dim=6, strength=3.0, seed=0)
    town = np.where(np.arange(900) < 5, "tiny", np.random.default_rng(0).choice(["north", "south"], size=900))
    group = [people["group"].classes[code] for code in people["group"].codes]
    both = UserAttributes.from_values(people.ids, group=group, town=town.tolist())
    dataset = Dataset("planted", planted_interactions(table, items=80, each=15), both, "made up", "<a generator>")
    quick = replace(SOUND, known=(0.2, 0.8), seeds=1, permutations=99, resamples=99, equations_known=(0.5,))
    methods = ["calibrated", "attrcloak-df", "leace"]
    return compare(dataset, "als", methods, protocol=quick, attackers=("logistic", "qda"))


@pytest.fixture(scope="session")
def report(compared: "ComparisonReport") -> "dict[str, Any]":
    """The same as report.json has it."""
    return compared.to_json()
