"""label-free: class means give away what chance does, not less, and one map serves everybody."""

import numpy as np
import pytest

from attrcloak.data import EmbeddingTable, Ids, UserAttributes
from attrcloak.data.datasets.planted import planted_leak
from attrcloak.errors import InvalidSettings
from attrcloak.unlearning import LEACE, LabelFree, run
from attrcloak.unlearning.label_free import mean_directions

KEY = b"a key that only these tests know"


def two_attributes(users: int = 2000, dim: int = 8) -> tuple[EmbeddingTable, UserAttributes]:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, users), rng.integers(0, 4, users)
    x = rng.normal(size=(users, dim)) @ rng.normal(size=(dim, dim)) + 3
    x[:, 0] += 2.0 * a
    x[:, 1:4] += np.eye(4)[b][:, 1:] * 1.5
    return EmbeddingTable(Ids.range(users), x), UserAttributes.from_values(range(users), a=a, b=b)


def energy(table: EmbeddingTable, codes: np.ndarray) -> float:
    """Between-class part of the variance in whitened coordinates, as a multiple of what labels without meaning have."""
    x = table.free - table.free.mean(axis=0)
    values, directions = np.linalg.eigh(x.T @ x / len(x))
    kept = values > 1e-9 * values[-1]
    white = x @ (directions[:, kept] / np.sqrt(values[kept]))
    classes = np.unique(codes)
    between = sum((codes == k).mean() * (white[codes == k].mean(axis=0) ** 2).sum() for k in classes)
    return float(between * len(x) / (kept.sum() * (len(classes) - 1)))


def test_one_attribute_ends_exactly_at_chance_and_leace_below() -> None:
    table, people = planted_leak("linear", users=2000, dim=8, strength=2.0, seed=0)
    codes = people["group"].codes
    assert energy(table, codes) > 20
    assert energy(run(LabelFree(), table, people, key=KEY).table, codes) == pytest.approx(1.0, abs=1e-6)
    assert energy(run(LEACE(), table, people).table, codes) < 1e-9


def test_several_attributes_end_near_chance_with_as_many_directions_as_leace() -> None:
    table, people = two_attributes()
    ours, leace = run(LabelFree(), table, people, key=KEY), run(LEACE(), table, people)
    for name in people.names:
        assert energy(table, people[name].codes) > 10
        assert 0.2 < energy(ours.table, people[name].codes) < 1.8
    rank = [np.linalg.matrix_rank(result.eraser.matrices[-1]) for result in (ours, leace)]
    assert rank[0] == rank[1] == 4


def test_what_is_within_chance_already_costs_no_direction() -> None:
    """Twenty classes of which one stands out: LEACE erases nineteen directions."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, 4000)
    x = rng.normal(size=(4000, 30))
    x[labels == 3, 0] += 3.0
    table, people = EmbeddingTable(Ids.range(4000), x), UserAttributes.from_values(range(4000), a=labels)
    ours, leace = run(LabelFree(), table, people, key=KEY), run(LEACE(), table, people)
    assert energy(table, labels) > 1.5
    assert energy(ours.table, labels) == pytest.approx(1.0, abs=0.01)
    assert [np.linalg.matrix_rank(r.eraser.matrices[0]) for r in (ours, leace) if r.eraser] == [29, 11]


def test_labels_without_meaning_move_nobody() -> None:
    """Where they happen to be below chance. Above it, one direction is turned until they are at it."""
    rng = np.random.default_rng(1)
    tables = [(rng.normal(size=(500, 6)), rng.integers(0, 2, 500)) for _ in range(12)]
    moved = 0
    for x, labels in tables:
        table = EmbeddingTable(Ids.range(500), x)
        result = run(LabelFree(), table, UserAttributes.from_values(range(500), a=labels), key=KEY).table
        moved += int((result.vectors != table.vectors).any())
        assert energy(result, labels) <= max(1.0, energy(table, labels)) + 1e-6
    assert 0 < moved < 12


def test_the_map_is_the_same_for_every_class() -> None:
    table, people = two_attributes()
    eraser = run(LabelFree(), table, people, key=KEY).eraser
    assert eraser is not None
    assert (eraser.matrices == eraser.matrices[0]).all()
    assert (eraser.offsets == eraser.offsets[0]).all()


def test_an_exchange_keeps_the_spread_along_what_is_erased_and_the_mean_does_not() -> None:
    table, people = planted_leak("linear", users=1500, dim=6, strength=2.0, seed=0)
    covariance = [
        np.linalg.matrix_rank(np.cov(run(LabelFree(erased=how), table, people, key=KEY).table.free.T), tol=1e-6)
        for how in ("mean", "exchange")
    ]
    assert covariance == [5, 6]
    exchanged = run(LabelFree(erased="exchange"), table, people, key=KEY)
    assert exchanged.eraser is None
    assert energy(exchanged.table, people["group"].codes) < 3


def test_covariance_directions_go_after_those_of_the_means() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 3000)
    x = rng.normal(size=(3000, 6))
    x[labels == 1, 2] *= 3
    people = UserAttributes.from_values(range(3000), a=labels)
    table = EmbeddingTable(Ids.range(3000), x)
    without, with_one = (
        run(LabelFree(covariance_directions=count), table, people, key=KEY).table.free for count in (0, 1)
    )
    ratio = [vectors[labels == 1, 2].std() / vectors[labels == 0, 2].std() for vectors in (without, with_one)]
    assert ratio[0] > 2.5
    assert with_one[:, 2].std() < 0.3 * without[:, 2].std()


def test_the_last_direction_is_turned_by_the_key() -> None:
    table, people = planted_leak("linear", users=800, dim=6, strength=2.0, seed=0)
    one, same, other = (run(LabelFree(), table, people, key=key).table.vectors for key in (KEY, KEY, b"x" * 32))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert run(LabelFree(), table, people, key=KEY).key_commitment


def test_directions_stop_at_the_dimensions() -> None:
    basis = mean_directions([np.eye(3)], [1e-12], np.random.default_rng(0))
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-12)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidSettings):
        LabelFree(covariance_directions=-1)
