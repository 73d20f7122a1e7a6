"""What every test may use: real data sets where they exist, and the same random examples in every run."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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
