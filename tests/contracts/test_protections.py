"""What every protection during training has to pass. A new name in PROTECTED is tested here without a new test."""

import json
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attrcloak.data.attributes import UserAttributes
from attrcloak.data.datasets.planted import planted_interactions, planted_leak
from attrcloak.data.ids import Ids
from attrcloak.data.interactions import NO_ITEM, Split
from attrcloak.errors import NotSupported
from attrcloak.recommenders import MODELS, Recommender, train
from attrcloak.recommenders.protected import PROTECTED, protected_class

ALL = pytest.mark.parametrize("name", PROTECTED)
SETTINGS: dict[str, dict[str, Any]] = {
    "als": {"factors": 4, "iterations": 3},
    "bpr": {"factors": 4, "iterations": 3},
    **{name: {"factors": 4, "batch": 256, "epochs": 6} for name in ("bpr-mf", "ncf", "lightgcn")},
}
FEW = {"receraser": {"shards": 3}, "blurme": {"share": 0.2}, "ldp-sh": {"epsilon": 2.0}, "rap": {"hidden": (8,)}}
"""Settings under which 150 users with 15 items each are enough."""


class Interrupted(Exception):
    """Somebody pressed a key."""


@pytest.fixture(scope="module")
def world() -> tuple[Split, UserAttributes]:
    """Ids in no order, one label in ten unknown, and of those who have one two in three who asked."""
    table, people = planted_leak("linear", users=150, dim=5, strength=3.0, seed=0)
    interactions = planted_interactions(table, items=60, each=15)
    ids = Ids(np.random.default_rng(0).permutation(1000)[:150])
    interactions = replace(interactions, users=ids)
    labels = [people["group"].classes[code] for code in people["group"].codes]
    known = UserAttributes.from_values(
        ids, group=[None if row % 10 == 0 else label for row, label in enumerate(labels)]
    )
    asked = np.arange(150)[(np.arange(150) % 10 > 0) & (np.arange(150) % 3 > 0)]
    return interactions.leave_one_out(0), known.mark({"group": ids.values[asked]})


def fit(name: str, backbone: str, split: Split, people: UserAttributes, **options: Any) -> Recommender:
    """A small training under a protection."""
    model: Recommender = protected_class(name)(**FEW[name]).fit(
        backbone, split, people, settings=SETTINGS[backbone], **options
    )
    return model


def same(one: Recommender, other: Recommender) -> bool:
    return one.users.fingerprint() == other.users.fingerprint() and np.array_equal(one.items, other.items)


@ALL
@pytest.mark.parametrize("backbone", MODELS)
def test_every_recommender_is_trained_or_refused_by_name(
    name: str, backbone: str, world: tuple[Split, UserAttributes]
) -> None:
    split, people = world
    if name == "rap" and backbone in ("als", "bpr"):
        with pytest.raises(NotSupported, match=f"'{backbone}'.*use bpr-mf, ncf or lightgcn"):
            fit(name, backbone, split, people)
        return
    model = fit(name, backbone, split, people)
    plain = train(backbone, split, settings=SETTINGS[backbone])
    assert model.name == backbone
    assert model.users.ids.equals(split.train.users)
    assert model.items.shape[0] == len(split.train.items)
    assert np.isfinite(model.users.vectors).all()
    assert not same(model, plain)
    assert model.seconds > 0


@ALL
def test_the_input_is_untouched_and_test_items_are_never_read(name: str, world: tuple[Split, UserAttributes]) -> None:
    split, people = world
    matrix, codes = split.train.matrix.toarray(), people.marked_codes().copy()
    blind = replace(split, test_items=np.full_like(split.test_items, NO_ITEM))
    assert same(fit(name, "bpr-mf", split, people), fit(name, "bpr-mf", blind, people))
    np.testing.assert_array_equal(split.train.matrix.toarray(), matrix)
    np.testing.assert_array_equal(people.marked_codes(), codes)


@ALL
def test_the_same_seed_gives_the_same_vectors_and_another_one_others(
    name: str, world: tuple[Split, UserAttributes]
) -> None:
    one, again, other = (fit(name, "bpr-mf", *world, seed=seed) for seed in (1, 1, 2))
    assert same(one, again)
    assert not same(one, other)
    assert one.seed == 1


@ALL
def test_people_are_joined_by_id(name: str, world: tuple[Split, UserAttributes]) -> None:
    split, people = world
    shuffled = people.align(Ids(np.random.default_rng(1).permutation(people.ids.values)))
    assert same(fit(name, "bpr-mf", split, people), fit(name, "bpr-mf", split, shuffled))


@ALL
def test_settings_round_trip_and_stand_in_the_result(name: str, world: tuple[Split, UserAttributes]) -> None:
    kind = protected_class(name)
    method = kind(**FEW[name])
    assert kind(**asdict(method)) == method
    assert kind.name == name
    with pytest.raises(AttributeError):
        method.name = "other"
    said = json.loads(json.dumps(fit(name, "bpr-mf", *world).settings["protection"]))
    assert said["name"] == name
    assert kind(**{each.name: said[each.name] for each in fields(kind)}) == method


@ALL
def test_progress_counts_up(name: str, world: tuple[Split, UserAttributes]) -> None:
    calls: list[tuple[str, int, int]] = []
    fit(name, "bpr-mf", *world, progress=lambda *call: calls.append(call))
    assert all(0 <= done <= total for _, done, total in calls)
    last = {stage: (done, total) for stage, done, total in calls}
    assert all(done == total for done, total in last.values())
    assert any("training bpr-mf" in stage for stage, _, _ in calls)


def interrupting(after: int, trained: list[str]) -> Callable[[str, int, int], None]:
    """Notes every epoch, and stops everything at one of them."""

    def progress(stage: str, done: int, total: int) -> None:
        if "training" in stage:
            trained.append(f"{stage} {done}")
            if len(trained) == after:
                raise Interrupted

    return progress


@ALL
@pytest.mark.parametrize("backbone", ["bpr-mf", "ncf"])
def test_an_interrupted_training_goes_on_and_ends_in_the_same_vectors(
    name: str, backbone: str, world: tuple[Split, UserAttributes], tmp_path: Path
) -> None:
    epochs: list[str] = []
    whole = fit(name, backbone, *world, progress=interrupting(0, epochs))
    # In the last training of several, and late in it: what was done before must not be done again.
    before: list[str] = []
    with pytest.raises(Interrupted):
        fit(name, backbone, *world, progress=interrupting(len(epochs) - 1, before), checkpoints=tmp_path / "states")
    after: list[str] = []
    went_on = fit(name, backbone, *world, progress=interrupting(0, after), checkpoints=tmp_path / "states")
    assert same(went_on, whole)
    assert went_on.settings == whole.settings
    assert after == epochs[len(epochs) - len(after) :]
    assert len(after) <= 2  # a state is kept every second epoch


@ALL
def test_interrupted_runs_count_in_the_seconds(name: str, world: tuple[Split, UserAttributes], tmp_path: Path) -> None:
    first = fit(name, "bpr-mf", *world, checkpoints=tmp_path)
    assert list(tmp_path.rglob("*.safetensors"))
    again = fit(name, "bpr-mf", *world, checkpoints=tmp_path)
    assert same(first, again)
    assert again.seconds > 0.5 * first.seconds
