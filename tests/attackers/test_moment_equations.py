"""The moment-equation attack reads labels off exact class moments, and nothing off a table that was left alone."""

import numpy as np
import pytest

from attrcloak.attackers import MomentEquations, moment_equation_attack
from attrcloak.moments.cell_moments import ClassMoments


def root(matrix: np.ndarray, power: float) -> np.ndarray:
    values, directions = np.linalg.eigh(matrix)
    return (directions * values**power) @ directions.T


def moments(x: np.ndarray, labels: np.ndarray) -> ClassMoments:
    classes = range(labels.max() + 1)
    return ClassMoments(
        np.bincount(labels),
        np.stack([x[labels == k].mean(axis=0) for k in classes]),
        np.stack([np.cov(x[labels == k].T, bias=True) for k in classes]),
    )


def released(x: np.ndarray, labels: np.ndarray, target: ClassMoments) -> np.ndarray:
    """Every class whitened and coloured to its target, exactly."""
    moved = np.empty_like(x)
    for k in range(labels.max() + 1):
        inside = labels == k
        centred = x[inside] - x[inside].mean(axis=0)
        map_ = root(np.cov(centred.T, bias=True), -0.5) @ root(target.covariance[k], 0.5)
        moved[inside] = centred @ map_ + target.mean[k]
    return moved


def example(users: int = 900, dim: int = 16, classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(0)
    labels = rng.choice(classes, p=np.array([0.5, 0.3, 0.2]), size=users)
    x = rng.normal(size=(users, dim)) + rng.normal(size=(classes, dim))[labels]
    return x, labels, rng


def balanced(scores: np.ndarray, labels: np.ndarray) -> float:
    answers = scores.argmax(axis=1)
    return float(np.mean([(answers[labels == k] == k).mean() for k in range(scores.shape[1])]))


@pytest.mark.parametrize(("share", "least"), [(0.8, 0.99), (0.9, 0.99)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_equal_class_moments_give_the_labels_away(share: float, least: float, dtype: type) -> None:
    x, labels, rng = example(users=600)
    same = ClassMoments(np.bincount(labels), np.zeros((3, 16)), np.tile(np.eye(16), (3, 1, 1)))
    moved = released(x, labels, same).astype(dtype)
    known = rng.random(len(x)) < share
    assert balanced(moment_equation_attack(moved, labels, known, 3), labels[~known]) > least


def test_fewer_equations_than_unknown_users_still_give_much() -> None:
    x, labels, rng = example(users=600)
    same = ClassMoments(np.bincount(labels), np.zeros((3, 16)), np.tile(np.eye(16), (3, 1, 1)))
    known = rng.random(len(x)) < 0.5
    found = balanced(moment_equation_attack(released(x, labels, same), labels, known, 3), labels[~known])
    assert 0.6 < found <= 1


def test_a_secret_target_hides_what_a_known_one_gives_away() -> None:
    x, labels, rng = example()
    drawn = moments(x, rng.permutation(labels))
    moved = released(x, labels, drawn)
    known = rng.random(len(x)) < 0.9
    informed = moment_equation_attack(moved, labels, known, 3, target=drawn)
    blind = moment_equation_attack(moved, labels, known, 3)
    assert balanced(informed, labels[~known]) > 0.95
    assert balanced(blind, labels[~known]) < 0.6


def test_vectors_that_know_nothing_give_nothing() -> None:
    _, labels, rng = example(users=3000)
    known = rng.random(len(labels)) < 0.5
    found = balanced(moment_equation_attack(rng.normal(size=(3000, 16)), labels, known, 3), labels[~known])
    assert abs(found - 1 / 3) < 0.05


def test_unknown_labels_are_never_read() -> None:
    x, labels, rng = example()
    known = rng.random(len(x)) < 0.5
    scores = moment_equation_attack(x, labels, known, 3)
    hidden = np.where(known, labels, 0)
    np.testing.assert_array_equal(scores, moment_equation_attack(x, hidden, known, 3))


def test_a_singular_table_and_few_directions_are_no_trouble() -> None:
    x, labels, rng = example()
    wide = np.hstack((x, x[:, :3], np.zeros((len(x), 1))))
    known = rng.random(len(x)) < 0.8
    np.testing.assert_allclose(moment_equation_attack(wide, labels, known, 3).argmax(axis=1).shape, ((~known).sum(),))
    few = moment_equation_attack(x, labels, known, 3, settings=MomentEquations(max_dim=4))
    assert np.isfinite(few).all()
