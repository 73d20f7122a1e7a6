"""Goals of calibrated classes: deviations as large as chance, own ones where they are only chance."""

import numpy as np
import pytest

from attrcloak.moments import CellKey, cell_moments
from attrcloak.moments.cell_moments import ClassMoments
from attrcloak.unlearning.null_goals import null_goals


def class_moments(x, labels) -> ClassMoments:
    key, cells = CellKey.of(("a",), (tuple("abcde"),), labels[:, None].astype(np.int32))
    return cell_moments(x, cells, key).marginal(0)


def deviation(moments: ClassMoments) -> float:
    """Mean squared entry of the class covariances about the pooled one, in units of sampling noise."""
    d = moments.mean.shape[1]
    present = np.flatnonzero(moments.count)
    each = [((moments.covariance[k] - moments.within) ** 2).sum() * moments.count[k] for k in present]
    return float(np.mean(each)) / d**2


@pytest.fixture
def drawn_and_leaking():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat([0, 1, 2], [600, 300, 100]))
    x = rng.normal(size=(1000, 16))
    x[labels == 0, :8] *= 1.8
    return class_moments(x, labels), class_moments(x, rng.permutation(labels)), x, labels


def test_a_class_that_deviates_by_chance_only_keeps_most_of_its_covariance():
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat([0, 1], 500))
    x = rng.normal(size=(1000, 16))
    own, drawn = class_moments(x, labels), class_moments(x, rng.permutation(labels))
    goal = null_goals(own, drawn, own_per_dimension=1e9, noise=1.0)
    moved = ((goal.covariance - own.covariance) ** 2).sum()
    assert moved < 0.5 * ((drawn.covariance - own.covariance) ** 2).sum()
    np.testing.assert_array_equal(goal.mean, drawn.mean)


@pytest.mark.parametrize("own_per_dimension", [0.0, 3.0, 1e9])
def test_a_leaking_class_ends_with_the_deviation_of_a_drawn_one(drawn_and_leaking, own_per_dimension):
    own, drawn, _, _ = drawn_and_leaking
    goal = null_goals(own, drawn, own_per_dimension, noise=1.0)
    assert deviation(own) > 5 * deviation(drawn)
    assert 0.6 < deviation(goal) / deviation(drawn) < 1.5


def test_nothing_of_ones_own_is_the_draw_itself(drawn_and_leaking):
    own, drawn, _, _ = drawn_and_leaking
    goal = null_goals(own, drawn, own_per_dimension=0.0, noise=1.0)
    np.testing.assert_allclose(goal.covariance, drawn.covariance, atol=1e-10)


def test_more_noise_is_more_deviation(drawn_and_leaking):
    own, drawn, _, _ = drawn_and_leaking
    quiet, loud = (null_goals(own, drawn, 12.0, noise) for noise in (1.0, 2.0))
    assert deviation(loud) > 1.5 * deviation(quiet)


def test_empty_classes_and_classes_of_one_user_are_borne(drawn_and_leaking):
    _, _, x, labels = drawn_and_leaking
    labels = labels.copy()
    labels[0] = 4
    own = class_moments(x, labels)
    goal = null_goals(own, own, 12.0, 1.0)
    assert np.isfinite(goal.covariance).all()
    assert np.linalg.eigvalsh(goal.covariance[[0, 1, 2, 4]]).min() > -1e-10
    assert not goal.covariance[3].any()


def test_classes_of_one_user_each_have_goals_too():
    x = np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 5.0]])
    own, drawn = class_moments(x, np.array([0, 1, 2])), class_moments(x, np.array([1, 2, 0]))
    goal = null_goals(own, drawn, own_per_dimension=12.0, noise=1.0, taught=1.0)
    assert np.isfinite(goal.mean).all()
    assert np.isfinite(goal.covariance).all()
    assert np.abs(goal.mean).max() < 100
