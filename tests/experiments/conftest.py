"""A small experiment, run once for all tests here."""

from pathlib import Path

import pytest

from attrcloak.data.datasets import Dataset
from attrcloak.data.datasets.planted import planted_interactions, planted_leak
from attrcloak.experiments import Measurement, Plan, run


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    """240 users whose taste follows their group."""
    table, people = planted_leak("linear", users=240, dim=6, strength=3.0, seed=0)
    return Dataset("planted", planted_interactions(table, items=60, each=12), people, "made up", "<a generator>")


@pytest.fixture(scope="session")
def plan() -> Plan:
    """ALS and three methods, one of them at two settings, in both protocols."""
    return Plan(
        title="small",
        table="table4",
        measures=("attacks", "utility", "seconds", "shapes"),
        datasets=("planted",),
        methods=("original", "leace", "noise", "blurme"),
        attackers=("logistic", "random"),
        seeds=2,
        settings={"both": {"als": {"factors": 8}}, "sound": {"als": {"iterations": 5}}},
        grid={"noise": {"scale": [0.5, 2.0]}},
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the measurements are kept."""
    return tmp_path_factory.mktemp("experiment")


@pytest.fixture(scope="session")
def measured(plan: Plan, dataset: Dataset, folder: Path) -> list[Measurement]:
    """Every cell of the plan."""
    return run(plan, dataset, folder)
