"""Moments are statistics that merge, whoever computed the parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrcloak.errors import InvalidInput
from attrcloak.moments import CellKey, cell_moments

NAMES, CLASSES = ("a", "b"), (("0", "1"), ("0", "1", "2"))


def table(seed: int, users: int = 300, dim: int = 5):
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(-1, 2, users), rng.integers(-1, 3, users)], axis=1)
    return rng.normal(size=(users, dim)) + codes[:, [0]] + 50.0, codes


@given(st.integers(0, 10_000), st.integers(1, 299))
def test_shards_merge_to_the_whole_whatever_cells_they_saw(seed, at):
    x, codes = table(seed)
    key, cells = CellKey.of(NAMES, CLASSES, codes)
    whole = cell_moments(x, cells, key)
    parts = []
    for rows in (slice(at, None), slice(0, at)):
        part_key, part_cells = CellKey.of(NAMES, CLASSES, codes[rows])
        parts.append(cell_moments(x[rows], part_cells, part_key))
    for merged in (parts[0].merge(parts[1]), parts[1].merge(parts[0])):
        np.testing.assert_array_equal(merged.key.combinations, key.combinations)
        np.testing.assert_array_equal(merged.count, whole.count)
        np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-12)
        np.testing.assert_allclose(merged.scatter, whole.scatter, rtol=1e-10, atol=1e-9)


def test_marginals_equal_numpy_on_the_rows_of_each_class():
    x, codes = table(1)
    key, cells = CellKey.of(NAMES, CLASSES, codes)
    moments = cell_moments(x, cells, key)
    for attribute in (0, 1):
        marginal = moments.marginal(attribute)
        marked = codes[:, attribute] >= 0
        np.testing.assert_allclose(marginal.global_mean, x[marked].mean(axis=0))
        np.testing.assert_allclose(marginal.global_covariance, np.cov(x[marked].T, bias=True), atol=1e-12)
        for k in range(len(CLASSES[attribute])):
            rows = x[codes[:, attribute] == k]
            np.testing.assert_allclose(marginal.covariance[k], np.cov(rows.T, bias=True), atol=1e-12)


def test_moments_equal_numpy_on_the_rows_of_each_cell():
    x, codes = table(2)
    key, cells = CellKey.of(NAMES, CLASSES, codes)
    moments = cell_moments(x, cells, key)
    for cell in range(len(key)):
        rows = x[cells == cell]
        assert moments.count[cell] == len(rows)
        np.testing.assert_allclose(moments.mean[cell], rows.mean(axis=0), rtol=1e-14)
        np.testing.assert_allclose(moments.scatter[cell], np.cov(rows.T, bias=True) * len(rows), atol=1e-11)


def test_cells_nobody_is_in_count_nobody():
    key = CellKey(("a",), (("0", "1"),), np.array([[-1], [0], [1]]))
    moments = cell_moments(np.ones((4, 2)), np.ones(4, dtype=int), key)
    np.testing.assert_array_equal(moments.count, [0, 4, 0])
    np.testing.assert_array_equal(moments.mean, [[0, 0], [1, 1], [0, 0]])
    assert not moments.scatter.any()
    assert cell_moments(np.ones((0, 2)), np.ones(0, dtype=int), key).users == 0


def test_collinear_columns_in_float32_keep_a_covariance_without_negative_directions():
    """In float32 arithmetic the smallest eigenvalue comes out near -1e-4 of the largest, and a solver acts on it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 4)) @ rng.normal(size=(4, 8)) + 1000
    key = CellKey(("a",), (("0",),), np.array([[0]]))
    given = x.astype(np.float32)
    values = np.linalg.eigvalsh(cell_moments(given, np.zeros(len(x), dtype=int), key).scatter[0])
    exact = np.linalg.eigvalsh(np.cov(given.astype(np.float64).T, bias=True) * len(x))
    np.testing.assert_allclose(values, exact, atol=1e-12 * exact[-1])


@pytest.mark.parametrize("cells", [np.array([0, -1, 0]), np.array([-1, -1, -1])])
def test_users_without_a_cell_are_refused_and_counted(cells):
    key = CellKey(("a",), (("0",),), np.array([[0]]))
    with pytest.raises(InvalidInput, match=f"{(cells < 0).sum()} of 3 users"):
        cell_moments(np.ones((3, 2)), cells, key)


def test_a_large_common_offset_costs_no_accuracy():
    """The textbook formula E[xx] - E[x]E[x] would lose every digit here."""
    x, codes = table(3)
    key, cells = CellKey.of(NAMES, CLASSES, codes)
    near, far = cell_moments(x, cells, key), cell_moments(x + 1e7, cells, key)
    np.testing.assert_allclose(far.scatter, near.scatter, rtol=1e-6, atol=1e-5)


def test_mapped_moments_are_the_moments_of_the_mapped_rows():
    x, codes = table(4)
    key, cells = CellKey.of(NAMES, CLASSES, codes)
    rng = np.random.default_rng(0)
    matrices, offsets = rng.normal(size=(len(key), 5, 5)), rng.normal(size=(len(key), 5))
    rows = np.einsum("nij,nj->ni", matrices[cells], x) + offsets[cells]
    mapped, direct = cell_moments(x, cells, key).mapped(matrices, offsets), cell_moments(rows, cells, key)
    np.testing.assert_allclose(mapped.mean, direct.mean)
    np.testing.assert_allclose(mapped.scatter, direct.scatter, rtol=1e-9, atol=1e-7)


def test_moments_of_different_attributes_do_not_merge():
    x, codes = table(5)
    key, cells = CellKey.of(NAMES, CLASSES, codes)
    other, _ = CellKey.of(("a", "c"), CLASSES, codes)
    with pytest.raises(InvalidInput, match="cannot be merged"):
        cell_moments(x, cells, key).merge(cell_moments(x, cells, other))
