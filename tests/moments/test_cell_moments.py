"""Moments are statistics that merge, whoever computed the parts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrcloak.errors import InvalidInput
from attrcloak.moments import CellKey, cell_moments
from attrcloak.moments import cell_moments as function

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


def test_more_rows_than_a_chunk_give_the_same_as_one_chunk(monkeypatch):
    x, codes = table(2)
    key, cells = CellKey.of(NAMES, CLASSES, codes)
    whole = cell_moments(x, cells, key)
    monkeypatch.setitem(function.__globals__, "ROWS_PER_CHUNK", 7)
    chunked = cell_moments(x, cells, key)
    np.testing.assert_allclose(chunked.scatter, whole.scatter, rtol=1e-10, atol=1e-9)


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
