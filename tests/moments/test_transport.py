"""Optimal transport of Gaussians: exact pushes, least moves, a stationary barycentre, and singular covariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrcloak.moments.transport import barycentre, gaussian_map, psd_sqrt

SEEDS = st.integers(0, 10_000)


def covariance(rng: np.random.Generator, dim: int, rank: int | None = None) -> np.ndarray:
    factor = rng.normal(size=(dim, rank or 2 * dim))
    return factor @ factor.T / factor.shape[1]


@given(SEEDS)
def test_square_roots_square_back_also_when_stacked(seed):
    rng = np.random.default_rng(seed)
    stack = np.stack([covariance(rng, 5), covariance(rng, 5, rank=2)])
    roots = psd_sqrt(stack)
    np.testing.assert_allclose(roots @ roots, stack, atol=1e-12)
    np.testing.assert_allclose(roots[1], psd_sqrt(stack[1]), atol=1e-12)


@given(SEEDS)
def test_the_map_pushes_one_covariance_exactly_onto_the_other(seed):
    rng = np.random.default_rng(seed)
    source, target = covariance(rng, 6), covariance(rng, 6)
    a = gaussian_map(source, target)
    np.testing.assert_allclose(a @ source @ a, target, atol=1e-9)
    np.testing.assert_allclose(a, a.T, atol=1e-10)
    assert np.linalg.eigvalsh((a + a.T) / 2).min() > -1e-10


@given(SEEDS)
def test_no_other_linear_map_between_the_two_moves_less(seed):
    """Every A with A S A^T = T is T^1/2 Q S^-1/2, Q orthogonal; its mean squared move is tr((A-I) S (A-I)^T)."""
    rng = np.random.default_rng(seed)
    source, target = covariance(rng, 4), covariance(rng, 4)

    def move(a: np.ndarray) -> float:
        return float(np.trace((a - np.eye(4)) @ source @ (a - np.eye(4)).T))

    best = move(gaussian_map(source, target))
    half, inverse_half = psd_sqrt(target), np.linalg.inv(psd_sqrt(source))
    for turn in [np.eye(4), *(np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(20))]:
        assert best <= move(half @ turn @ inverse_half) + 1e-9


def test_directions_without_variance_are_left_alone():
    source, target = np.diag([4.0, 0.0, 1.0]), np.diag([1.0, 9.0, 1.0])
    np.testing.assert_allclose(gaussian_map(source, target), np.diag([0.5, 1.0, 1.0]), atol=1e-12)
    np.testing.assert_allclose(gaussian_map(np.zeros((3, 3)), target), np.eye(3))


def test_a_constant_target_collapses():
    np.testing.assert_allclose(gaussian_map(np.eye(2), np.diag([0.0, 1.0])), np.diag([0.0, 1.0]), atol=1e-12)


@settings(max_examples=30)
@given(SEEDS)
def test_at_the_barycentre_the_mean_of_the_maps_is_the_identity(seed):
    """The first-order condition, and unlike the iteration it is checked with the maps out of the barycentre."""
    rng = np.random.default_rng(seed)
    stack, weights = np.stack([covariance(rng, 5) for _ in range(4)]), rng.dirichlet(np.ones(4))
    centre = barycentre(stack, weights)
    maps = np.stack([gaussian_map(centre, each) for each in stack])
    np.testing.assert_allclose(np.tensordot(weights, maps, axes=1), np.eye(5), atol=1e-8)


@given(SEEDS)
def test_the_barycentre_of_commuting_covariances_averages_standard_deviations(seed):
    rng = np.random.default_rng(seed)
    deviations, weights = rng.uniform(0.2, 3.0, size=(3, 4)), rng.dirichlet(np.ones(3))
    stack = np.stack([np.diag(each**2) for each in deviations])
    np.testing.assert_allclose(barycentre(stack, weights), np.diag((weights @ deviations) ** 2), atol=1e-9)


def test_the_barycentre_costs_less_than_the_plain_average_or_either_end():
    rng = np.random.default_rng(0)
    stack, weights = np.stack([covariance(rng, 5), 4 * covariance(rng, 5)]), np.array([0.3, 0.7])

    def cost(centre: np.ndarray) -> float:
        root = psd_sqrt(centre)
        apart = [np.trace(centre + each - 2 * psd_sqrt(root @ each @ root)) for each in stack]
        return float(weights @ apart)

    best = cost(barycentre(stack, weights))
    for other in (*stack, np.tensordot(weights, stack, axes=1), np.eye(5)):
        assert best < cost(other)


def test_weights_need_no_norm_and_classes_of_weight_zero_do_not_count():
    rng = np.random.default_rng(1)
    stack = np.stack([covariance(rng, 4) for _ in range(3)])
    wild = np.concatenate([stack, np.full((1, 4, 4), np.nan)])
    expected = barycentre(stack, np.array([0.25, 0.25, 0.5]))
    np.testing.assert_allclose(barycentre(wild, np.array([1.0, 1.0, 2.0, 0.0])), expected, atol=1e-12)


def test_one_covariance_is_its_own_barycentre():
    own = covariance(np.random.default_rng(2), 4)
    np.testing.assert_allclose(barycentre(own[None], np.ones(1)), own, atol=1e-12)


@pytest.mark.parametrize("constant", [[0], [0, 3]])
def test_a_direction_no_class_varies_in_stays_without_variance(constant):
    rng = np.random.default_rng(3)
    keep = np.ones(5)
    keep[constant] = 0.0
    stack = np.stack([covariance(rng, 5) * keep[:, None] * keep for _ in range(3)])
    centre = barycentre(stack, np.ones(3))
    varying = np.flatnonzero(keep)
    inner = np.ix_(varying, varying)
    np.testing.assert_allclose(centre[constant], 0.0, atol=1e-9)
    np.testing.assert_allclose(centre[inner], barycentre(stack[:, varying[:, None], varying], np.ones(3)), atol=1e-8)


def test_covariances_that_share_a_slanted_subspace_have_their_barycentre_in_it():
    rng = np.random.default_rng(4)
    basis = np.linalg.qr(rng.normal(size=(6, 3)))[0]
    stack = np.stack([basis @ covariance(rng, 3) @ basis.T for _ in range(3)])
    small = barycentre(basis.T @ stack @ basis, np.ones(3))
    np.testing.assert_allclose(barycentre(stack, np.ones(3)), basis @ small @ basis.T, atol=1e-7)
