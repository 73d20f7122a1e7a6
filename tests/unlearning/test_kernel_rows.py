"""Rows of kernels: sums and weights are those of the definition, compiled or not."""

import sys

import numpy as np
import pytest

from attrcloak.unlearning import kernel_rows
from attrcloak.unlearning.kernel_rows import BANDS, References, numpy_rows


def example(rows=9, others=40, seed=0):
    """Two attributes of 2 and 3 classes, some users without one."""
    rng = np.random.default_rng(seed)

    def codes(count):
        column = rng.integers(0, [2, 3], (count, 2))
        return np.where(rng.random((count, 2)) < 0.2, -1, column + np.array([0, 2])).astype(np.int32)

    own, drawn = codes(others).T.copy(), codes(others).T.copy()
    away, toward = rng.random((2, 5)).astype(np.float32)
    speeds = rng.normal(size=(5, BANDS)).astype(np.float32)
    kernel = rng.random((rows, others)).astype(np.float32)
    return kernel, codes(rows), References(own, drawn, away, toward, speeds)


def by_definition(kernel, codes, references):
    powers = np.stack([kernel.astype(float) ** 2**b for b in range(BANDS + 1)])
    density = powers.sum(axis=2).T
    within = np.zeros((*codes.shape, BANDS))
    weights = np.zeros(kernel.shape)
    for i, a in np.argwhere(codes >= 0):
        c = codes[i, a]
        same, chosen = references.own[a] == c, references.drawn[a] == c
        within[i, a] = (powers[:BANDS, i] * same).sum(axis=1)
        speed = references.speeds[c] / density[i, :BANDS]
        weights[i] += (references.away[c] * same - references.toward[c] * chosen) * (speed @ powers[:BANDS, i])
    return within, density, weights


@pytest.mark.parametrize("compiled", [False, True])
def test_sums_and_weights_are_those_of_the_definition(compiled):
    rows = pytest.importorskip("attrcloak.unlearning.compiled_kernel_rows").compiled_rows if compiled else numpy_rows
    kernel, codes, references = example()
    within, density, weights = by_definition(kernel, codes, references)
    sums = rows(kernel, codes, references)
    np.testing.assert_allclose(sums.within, within, rtol=1e-5)
    np.testing.assert_allclose(sums.density, density, rtol=1e-5)
    np.testing.assert_allclose(kernel, weights, rtol=1e-4, atol=1e-5)


def test_few_pairs_are_not_worth_compiling_for():
    assert kernel_rows.choose_rows(1000) is numpy_rows


def test_without_numba_it_goes_the_numpy_way(monkeypatch):
    monkeypatch.setitem(sys.modules, "attrcloak.unlearning.compiled_kernel_rows", None)
    kernel_rows._compiled.cache_clear()
    try:
        assert kernel_rows.choose_rows(1 << 30) is numpy_rows
    finally:
        kernel_rows._compiled.cache_clear()
