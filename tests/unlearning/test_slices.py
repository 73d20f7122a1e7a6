"""Slices move what deviates more than chance, and leave the rest where it was."""

import numpy as np
import pytest

from attrcloak.unlearning.slices import slice_steps


def rounds(x, labels, drawn, count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        basis, _ = np.linalg.qr(rng.normal(size=(x.shape[1], x.shape[1])))
        x = x + slice_steps(x, labels[:, None], drawn[:, None], basis)
    return x


@pytest.mark.parametrize(("users", "most"), [(1500, 0.01), (6000, 0.02)])
def test_without_a_leak_next_to_nothing_moves(users, most):
    """Small classes keep what is chance; large ones take the draw's, which is small."""
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(users, 32)), rng.integers(0, 3, users)
    moved = rounds(x, labels, rng.permutation(labels), 5)
    assert ((moved - x) ** 2).sum() < most * (x**2).sum()


def test_heavier_tails_of_one_class_are_taken_from_it():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 4000)
    x = rng.normal(size=(4000, 8))
    heavy = rng.laplace(size=(4000, 8))
    x[labels == 1] = heavy[labels == 1] / heavy[labels == 1].std(axis=0)

    def kurtosis_gap(x) -> float:
        fourth = [np.mean((x[labels == k] / x[labels == k].std(axis=0)) ** 4) for k in (0, 1)]
        return abs(fourth[0] - fourth[1])

    moved = x + slice_steps(x, labels[:, None], rng.permutation(labels)[:, None], np.eye(8))
    assert kurtosis_gap(moved) < 0.25 * kurtosis_gap(x)


def test_users_who_marked_nothing_and_classes_of_a_few_stay():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2, -1], [400, 400, 6, 100])
    x = rng.normal(size=(906, 4)) + 2.0 * (labels == 1)[:, None]
    moved = rounds(x, labels, np.r_[rng.permutation(labels[:806]), labels[806:]], 3)
    np.testing.assert_allclose(moved[800:], x[800:], atol=1e-12)
    assert not np.allclose(moved[:800], x[:800])
