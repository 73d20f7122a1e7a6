"""Calibrated: the released moments are those of the drawn classes, and nothing else is given away."""

import numpy as np
import pytest

from attrcloak.data import EmbeddingTable, Ids, UserAttributes
from attrcloak.errors import InvalidInput, InvalidSettings, NotSupported
from attrcloak.moments import CellKey, cell_moments
from attrcloak.unlearning import Calibrated, run
from attrcloak.unlearning.null_draw import null_labels

KEY = b"0123456789abcdef0123456789abcdef"


def leaky(seed: int = 0, users: int = 900, dim: int = 6, scoring: str = "unknown"):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, users)
    groups = rng.integers(0, 3, users)
    x = rng.normal(size=(users, dim)) * (1 + 0.6 * labels[:, None]) + 1.5 * np.eye(dim)[groups] + 0.5 * labels[:, None]
    people = UserAttributes.from_values(np.arange(users), gender=labels.tolist(), age=groups.tolist())
    return EmbeddingTable(Ids.range(users), x, scoring=scoring), people


def class_moments(table, codes, people, attribute):
    key, cells = CellKey.of(people.names, [people[name].classes for name in people.names], codes)
    return cell_moments(table.free, cells, key).marginal(attribute)


def test_released_class_moments_are_those_of_the_secretly_drawn_classes():
    table, people = leaky()
    method = Calibrated(slices=0, sweeps=30, own_per_dimension=0.0, noise=1.0, ridge=0.0)
    result = run(method, table, people, key=KEY)
    codes = people.marked_codes()
    drawn = null_labels(codes, table.ids.values, KEY)
    for attribute in (0, 1):
        released = class_moments(result.table, codes, people, attribute)
        target = class_moments(table, drawn, people, attribute)
        np.testing.assert_allclose(released.mean, target.mean, atol=1e-6)
        np.testing.assert_allclose(released.covariance, target.covariance, atol=1e-5)


def test_matching_means_only_is_one_shift_a_class():
    table, people = leaky()
    result = run(Calibrated(match="mean", slices=0), table, people, key=KEY)
    np.testing.assert_allclose(result.eraser.matrices, np.tile(np.eye(6), (6, 1, 1)), atol=1e-12)


def test_slices_bring_shapes_that_moments_cannot_see_to_the_drawn_class():
    """Same mean and variance, two bumps against one: only quantiles tell the classes apart."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2000)
    bumps = rng.choice([-1.0, 1.0], 2000) + 0.1 * rng.normal(size=2000)
    first = np.where(labels, bumps / bumps.std(), rng.normal(size=2000))
    x = np.stack([first, rng.normal(size=2000)], axis=1)
    people = UserAttributes.from_values(np.arange(2000), a=labels.tolist())
    table = EmbeddingTable(Ids.range(2000), x)

    def middle_share_gap(vectors) -> float:
        middle = np.abs(vectors[:, 0]) < 0.5
        return abs(middle[labels == 1].mean() - middle[labels == 0].mean())

    affine = run(Calibrated(slices=0), table, people, key=KEY).table.vectors
    sliced = run(Calibrated(slices=20), table, people, key=KEY).table.vectors
    assert middle_share_gap(affine) > 0.25
    assert middle_share_gap(sliced) < 0.08


def test_one_length_first_where_only_the_direction_ranks_and_refused_where_it_does_not():
    table, people = leaky(scoring="dot")
    result = run(Calibrated(), table, people, key=KEY)
    assert result.scaling == "unit"
    np.testing.assert_allclose(result.lengths, np.linalg.norm(table.vectors, axis=1))
    biased = EmbeddingTable(table.ids, np.c_[table.vectors, np.ones(900)], frozen_columns=(6,), scoring="dot+constant")
    assert run(Calibrated(), biased, people, key=KEY).scaling == "none"
    with pytest.raises(NotSupported, match="set length to 'keep'"):
        run(Calibrated(length="unit"), biased, people, key=KEY)


def test_the_key_decides_the_draw_and_is_nowhere_in_the_result():
    table, people = leaky()
    first, again = (run(Calibrated(), table, people, key=KEY) for _ in range(2))
    other = run(Calibrated(), table, people)
    np.testing.assert_array_equal(first.table.vectors, again.table.vectors)
    assert first.key_commitment == again.key_commitment != other.key_commitment
    assert not np.array_equal(first.table.vectors, other.table.vectors)
    assert KEY not in repr(first).encode()
    assert KEY.decode() not in repr(first)


@pytest.mark.parametrize("slices", [0, 3])
def test_beside_item_biases_everybody_is_scaled_by_one_factor_below_one(slices):
    table, people = leaky()
    method = Calibrated(slices=slices, length="keep")
    biased = EmbeddingTable(table.ids, np.c_[table.vectors, np.ones(900)], frozen_columns=(6,), scoring="dot+constant")
    results = [run(method, each, people, key=KEY) for each in (table, biased)]
    plain, scaled = (each.table.free for each in results)
    factors = scaled / plain
    np.testing.assert_allclose(factors, factors[0, 0], rtol=1e-6)
    assert 0.3 < factors[0, 0] < 1
    np.testing.assert_allclose([each.scale for each in results], [1, factors[0, 0]], rtol=1e-6)
    # No other factor brings the new vectors closer to the old ones.
    for other in (0.97, 1.03):
        assert ((scaled - biased.free) ** 2).sum() < ((other * scaled - biased.free) ** 2).sum()


def test_the_scale_does_not_tell_who_asked():
    table, people = leaky()
    some = people.mark({"gender": people.ids.values[:600], "age": people.ids.values[:600]})
    biased = EmbeddingTable(table.ids, np.c_[table.vectors, np.ones(900)], frozen_columns=(6,), scoring="dot+constant")
    method = Calibrated(slices=0, length="keep")
    plain, kept = (run(method, each, some, key=KEY).table.free for each in (table, biased))
    np.testing.assert_array_equal(plain, kept)


@pytest.mark.parametrize("slices", [0, 1])
def test_covariances_tell_nothing_to_those_who_learn_from_users_who_did_not_ask(slices):
    """What is chance among few who asked is in part what the class is like, and the others show that."""
    rng = np.random.default_rng(1)
    dim, labels = 8, rng.integers(0, 2, 6000)
    loud = np.where(labels[:, None] == 0, 1.15, 1.0) * np.ones(dim)
    x = rng.normal(size=(6000, dim)) * loud
    people = UserAttributes.from_values(np.arange(6000), a=labels.tolist())
    some = people.mark({"a": np.arange(600)})
    table = EmbeddingTable(Ids.range(6000), x)

    def likeness(vectors) -> float:
        """How far the covariances of those who asked differ in the way that those of the others do; 1 before."""
        asked, others = (
            np.subtract(*(np.cov(each[who == k].T) for k in (0, 1)))
            for each, who in ((vectors[:600], labels[:600]), (x[600:], labels[600:]))
        )
        return float(np.vdot(asked, others) / np.vdot(others, others))

    def mean_likeness(method, asking) -> float:
        keys = [bytes([i]) * 32 for i in range(6)]
        return float(np.mean([likeness(run(method, table, asking, key=key).table.vectors) for key in keys]))

    assert likeness(x) > 0.6
    assert abs(mean_likeness(Calibrated(slices=slices), some)) < 0.15
    # Where everybody asked there is nobody else to learn from, and what is kept is kept.
    methods = (Calibrated(slices=slices), Calibrated(slices=slices, own_per_dimension=0.0))
    assert mean_likeness(methods[0], people) != mean_likeness(methods[1], people)
    assert mean_likeness(methods[0], some) == mean_likeness(methods[1], some)


def test_a_direction_of_little_spread_is_calibrated_as_well_as_a_wide_one():
    """Attackers standardise: a class mean a thousand times smaller than the widest direction counts as much."""
    rng = np.random.default_rng(3)
    users, dim = 3000, 8
    labels = rng.integers(0, 10, users)
    spread = np.geomspace(1.0, 1e-2, dim)
    x = (rng.normal(size=(users, dim)) + 0.3 * rng.normal(size=(10, dim))[labels]) * spread
    people = UserAttributes.from_values(np.arange(users), a=labels.tolist())
    table = EmbeddingTable(Ids.range(users), x)
    distances = []
    for key in (b"a", b"b", b"c", b"d"):
        free = run(Calibrated(), table, people, key=key * 32).table.free
        standard = (free - free.mean(axis=0)) / free.std(axis=0)
        means = np.stack([standard[labels == k].mean(axis=0) for k in range(10)])
        distances.append(float((np.bincount(labels) @ means**2)[-3:].sum()))
    # Under permuted labels this sum over three narrow dimensions is chi-squared with 3 * 9 degrees of freedom.
    assert 27 / 1.5 < np.mean(distances) < 27 * 1.5


def test_vectors_of_one_length_keep_it():
    """Off the sphere they would tell the class: an affine map of a sphere is an ellipsoid, one for each class."""
    table, people = leaky(dim=12, scoring="dot")
    moved = run(Calibrated(exchange=0.0), table, people, key=KEY).table.vectors
    lengths = np.linalg.norm(moved, axis=1)
    np.testing.assert_allclose(lengths, lengths[0], rtol=1e-9)


def test_a_class_cannot_be_told_by_the_ellipsoid_it_lies_on():
    """Vectors of one length, one class shifted: on its own sphere, whose centre the class mean gives."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 3000)
    x = rng.normal(size=(3000, 8)) + 0.8 * labels[:, None]
    table = EmbeddingTable(Ids.range(3000), x, scoring="dot")
    people = UserAttributes.from_values(np.arange(3000), a=labels.tolist())

    def spread_of_lengths(vectors) -> float:
        lengths = np.linalg.norm(vectors, axis=1)
        return float(lengths.std() / lengths.mean())

    affine = run(Calibrated(slices=0), table, people, key=KEY).table.vectors
    refined = run(Calibrated(exchange=0.0), table, people, key=KEY).table.vectors
    assert spread_of_lengths(affine) > 0.1
    assert spread_of_lengths(refined) < 1e-6


def test_the_narrowest_directions_are_exchanged_among_users_and_nothing_is_lost_of_them():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1000)
    x = rng.normal(size=(1000, 4)) * [1.0, 1.0, 1.0, 0.01]
    x[:, 3] += 0.05 * labels
    people = UserAttributes.from_values(np.arange(1000), a=labels.tolist())
    table = EmbeddingTable(Ids.range(1000), x)
    moved = run(Calibrated(slices=1), table, people, key=KEY).table.vectors
    gap = abs(moved[labels == 1, 3].mean() - moved[labels == 0, 3].mean())
    assert gap < 0.01
    assert moved[:, 3].std() == pytest.approx(x[:, 3].std(), rel=0.02)


@pytest.mark.parametrize(
    "settings",
    [
        {"strength": 0.0},
        {"strength": 1.1},
        {"exchange": 1.0},
        {"exchange": -0.1},
        {"noise": -1.0},
        {"own_per_dimension": -1},
    ],
)
def test_settings_out_of_range_are_named(settings):
    with pytest.raises(InvalidSettings, match=next(iter(settings))):
        Calibrated(**settings)


def test_an_attribute_that_nobody_asked_for_is_let_be():
    table, people = leaky()
    some = people.mark({"gender": people.ids.values[:500]})
    both = run(Calibrated(), table, some, key=KEY).table.vectors
    alone = run(Calibrated(), table, some, attributes=["gender"], key=KEY).table.vectors
    np.testing.assert_allclose(both, alone)
    np.testing.assert_array_equal(both[500:], table.vectors[500:])


@pytest.mark.parametrize("slices", [0, 2])
def test_strength_is_a_share_of_the_way(slices):
    table, people = leaky()
    whole = run(Calibrated(slices=slices), table, people, key=KEY)
    half = run(Calibrated(slices=slices, strength=0.5), table, people, key=KEY)
    np.testing.assert_allclose(half.table.vectors, (table.vectors + whole.table.vectors) / 2, atol=1e-9)
    if slices == 0:
        again = half.eraser.apply(table.vectors, people.cells().of_user)
        np.testing.assert_allclose(again, half.table.vectors, atol=1e-9)


def test_part_of_the_way_ends_at_the_one_length_too():
    table, people = leaky(dim=12, scoring="dot")
    moved = run(Calibrated(exchange=0.0, strength=0.5), table, people, key=KEY).table.vectors
    lengths = np.linalg.norm(moved, axis=1)
    np.testing.assert_allclose(lengths, lengths[0], rtol=1e-9)


def test_fewer_users_than_dimensions_are_a_clear_error_where_maps_cannot_be_solved():
    rng = np.random.default_rng(0)
    table = EmbeddingTable(Ids.range(30), rng.normal(size=(30, 40)))
    people = UserAttributes.from_values(range(30), g=rng.integers(0, 2, 30).tolist(), a=rng.integers(0, 3, 30).tolist())
    with pytest.raises(InvalidInput, match="in 40 dimensions"):
        run(Calibrated(slices=0), table, people, key=b"x" * 32)
