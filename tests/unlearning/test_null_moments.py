"""Moments of classes under random labels: what a permutation gives, drawn without users."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrcloak.errors import InvalidInput
from attrcloak.moments.cell_key import CellKey
from attrcloak.moments.cell_moments import CellMoments, cell_moments
from attrcloak.unlearning import Calibrated
from attrcloak.unlearning.null_draw import secret_generator
from attrcloak.unlearning.null_moments import null_marginals, solve_calibrated


def table(seed: int, users: int = 400, d: int = 4) -> tuple[np.ndarray, np.ndarray, CellKey, np.ndarray]:
    """Vectors with a leak, codes of two attributes (some unknown), and the cells."""
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.choice([-1, 0, 1], users, p=[0.1, 0.6, 0.3]), rng.choice([-1, 0, 1, 2], users)], axis=1)
    vectors = rng.normal(size=(users, d)) @ rng.normal(size=(d, d)) + codes[:, :1]
    key, cells = CellKey.of(("a", "b"), (("x", "y"), ("p", "q", "r")), codes)
    return vectors, codes, key, cells


def moments(seed: int, users: int = 400, d: int = 4) -> CellMoments:
    vectors, _, key, cells = table(seed, users, d)
    return cell_moments(vectors, cells, key)


@given(st.integers(0, 10_000))
def test_drawn_classes_add_up_to_the_table_and_are_covariances(seed):
    own = moments(seed)
    for was, drawn in zip(own.marginals(), null_marginals(own, np.random.default_rng(seed)), strict=True):
        np.testing.assert_array_equal(drawn.count, was.count)
        np.testing.assert_allclose(drawn.global_mean, was.global_mean, atol=1e-10)
        np.testing.assert_allclose(drawn.global_covariance, was.global_covariance, atol=1e-9)
        assert np.linalg.eigvalsh(drawn.covariance).min() > -1e-10


def test_its_spread_is_that_of_permuted_labels():
    """Means: S (1 / n_k - 1 / N). Covariances: what 1500 permutations of Gaussian vectors give."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 3))
    codes = (np.arange(300) < 60).astype(np.int32)[:, None]
    key, cells = CellKey.of(("a",), (("x", "y"),), codes)
    own = cell_moments(vectors, cells, key)
    drawn = [null_marginals(own, rng)[0] for _ in range(1500)]
    permuted = [cell_moments(vectors, rng.permutation(cells), key).marginal(0) for _ in range(1500)]
    means = np.array([m.mean[1] for m in drawn])
    expected = own.marginal(0).global_covariance * (1 / 60 - 1 / 300)
    np.testing.assert_allclose(np.cov(means.T), expected, atol=0.15 * expected.max())
    for what in ("mean", "covariance"):
        by_draw, by_order = (
            np.array([getattr(m, what) for m in found]).reshape(1500, 2, -1) for found in (drawn, permuted)
        )
        np.testing.assert_allclose(by_draw.mean(axis=0), by_order.mean(axis=0), atol=4 * by_order.std() / np.sqrt(1500))
        np.testing.assert_allclose(by_draw.std(axis=0).mean(axis=1), by_order.std(axis=0).mean(axis=1), rtol=0.12)


def test_attributes_share_the_draw_so_joint_structure_is_kept():
    """Two attributes that are the same one have the same null, as under one permutation of users."""
    vectors, codes, _, _ = table(3)
    twice = np.stack([codes[:, 0], codes[:, 0]], axis=1)
    key, cells = CellKey.of(("a", "again"), (("x", "y"), ("x", "y")), twice)
    one, two = null_marginals(cell_moments(vectors, cells, key), np.random.default_rng(5))
    np.testing.assert_allclose(one.mean, two.mean, atol=1e-12)
    np.testing.assert_allclose(one.covariance, two.covariance, atol=1e-12)


def test_small_and_empty_classes_are_drawn_too():
    vectors, codes, _, _ = table(4, users=100, d=6)
    codes[:, 1] = np.where(np.arange(100) < 2, 0, np.where(codes[:, 1] >= 0, 1, -1))
    codes[5, 1] = 1
    key, cells = CellKey.of(("a", "b"), (("x", "y"), ("p", "q", "nobody")), codes)
    own = cell_moments(vectors, cells, key)
    drawn = null_marginals(own, np.random.default_rng(0))[1]
    assert np.isfinite(drawn.covariance).all()
    np.testing.assert_array_equal(drawn.covariance[2], 0)
    np.testing.assert_array_equal(drawn.mean[2], 0)


def test_fewer_users_than_dimensions_are_refused_by_name():
    with pytest.raises(InvalidInput, match=r"attribute 'a': \d+ users for 30 dimensions"):
        null_marginals(moments(0, users=20, d=30), np.random.default_rng(0))


def test_the_calibrated_solution_comes_from_the_key_and_brings_classes_to_the_null():
    own = moments(7, users=4000)
    method = Calibrated(own_per_dimension=0.0, noise=1.0, sweeps=30)
    one, two, other = (solve_calibrated(method, own, key).eraser for key in (b"k" * 32, b"k" * 32, b"l" * 32))
    np.testing.assert_array_equal(one.matrices, two.matrices)
    assert np.abs(one.offsets - other.offsets).max() > 1e-3
    after = own.mapped(one.matrices, one.offsets)
    null = null_marginals(own, secret_generator(b"k" * 32, b"null moments"))
    for now, goal in zip(after.marginals(), null, strict=True):
        np.testing.assert_allclose(now.mean, goal.mean, atol=0.02)
        np.testing.assert_allclose(now.covariance, goal.covariance, atol=0.1)
