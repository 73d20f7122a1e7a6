"""The MGDA weight: shortest combination, against a grid and against torchjd."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchjd.aggregation import MGDA

from attrcloak.moments import leakage_weight


def gradients(seed: int):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(2, 6)) * rng.uniform(0.1, 3, size=(2, 1))


def weight_of(leak, rec, lower: float = 0.0):
    return leakage_weight(rec @ rec, rec @ leak, leak @ leak, lower)


@given(st.integers(0, 10_000))
def test_no_point_of_a_grid_gives_a_shorter_combination(seed):
    leak, rec = gradients(seed)
    a = weight_of(leak, rec)
    grid = np.linspace(0, 1, 101)[:, None]
    lengths = np.linalg.norm(grid * leak + (1 - grid) * rec, axis=1)
    assert np.linalg.norm(a * leak + (1 - a) * rec) <= lengths.min() + 1e-12


@given(st.integers(0, 10_000))
def test_the_step_conflicts_with_neither_gradient(seed):
    leak, rec = gradients(seed)
    a = weight_of(leak, rec)
    step = a * leak + (1 - a) * rec
    assert step @ leak >= -1e-10
    assert step @ rec >= -1e-10


@pytest.mark.parametrize("seed", range(5))
def test_it_is_torchjds_mgda(seed):
    leak, rec = gradients(seed)
    a = weight_of(leak, rec)
    theirs = MGDA(epsilon=1e-12, max_iters=10_000)(torch.tensor(np.stack([leak, rec]))).numpy()
    np.testing.assert_allclose(a * leak + (1 - a) * rec, theirs, atol=1e-3)


def test_at_the_start_of_df_only_the_floor_makes_anything_move():
    leak = np.array([1.0, 2.0])
    nothing = np.zeros(2)
    assert weight_of(leak, nothing) == 0.0
    assert weight_of(leak, nothing, lower=0.1) == 0.1
