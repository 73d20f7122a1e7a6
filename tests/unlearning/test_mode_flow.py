"""Modes that leak are brought to chance, modes that do not are left alone, and so are users without a class."""

import numpy as np
import pytest

from attrcloak.attackers import ATTACKERS
from attrcloak.unlearning import mode_flow
from attrcloak.unlearning.mode_flow import ModeFlow


def stretched(users=1200, dim=6, seed=0):
    """Two classes with one mean: one is wider along one direction, the other along another."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, users)
    x = rng.normal(size=(users, dim))
    x[codes == 0, 0] *= 1.8
    x[codes == 1, 1] *= 1.8
    for k in range(2):
        x[codes == k] -= x[codes == k].mean(axis=0)
    return x, codes[:, None].astype(np.int32)


def flown(x, codes, rounds=12, seed=0):
    flow = ModeFlow(x, codes, np.random.default_rng(seed))
    for _ in range(rounds):
        x = x + flow.steps(x)
    return x


def qda_accuracy(x, codes, seed=0):
    known = np.random.default_rng(seed).random(len(x)) < 0.7
    scores = ATTACKERS["qda"]().fit_predict(x[known], codes[known, 0], x[~known], 2, 0)
    right = scores.argmax(axis=1) == codes[~known, 0]
    return np.mean([right[codes[~known, 0] == k].mean() for k in range(2)])


def test_qda_tells_and_after_the_flow_it_does_not():
    x, codes = stretched()
    assert qda_accuracy(x, codes) > 0.65
    after = np.mean([qda_accuracy(flown(x, codes), codes, seed) for seed in range(3)])
    assert abs(after - 0.5) < 0.05


def test_classes_that_are_chance_already_hardly_move():
    x, codes = stretched()
    codes = np.random.default_rng(3).permutation(codes)
    moved = ((flown(x, codes) - x) ** 2).sum()
    leaky, true = stretched()
    assert moved < 0.05 * ((flown(leaky, true) - leaky) ** 2).sum()


def test_goals_of_a_leak_are_at_chance_and_those_of_chance_are_where_it_is():
    x, codes = stretched()
    flow = ModeFlow(x, codes, np.random.default_rng(0))
    chance = np.random.default_rng(1).normal(size=flow._variance.shape) * np.sqrt(flow._variance)
    chance[1] = -chance[0] * flow._users[0] / flow._users[1]  # two classes deviate in opposite ways
    np.testing.assert_array_equal(flow._goals(chance), chance)
    goal = flow._goals(3 * chance)
    for block in flow._blocks:
        size = (goal[:, block] ** 2 / flow._variance[:, block]).mean()
        assert size == pytest.approx(1, abs=1e-3)
    assert (np.sign(goal) == np.sign(chance)).mean() > 0.99


def test_modes_are_uncorrelated():
    x, codes = stretched()
    flow = ModeFlow(x, codes, np.random.default_rng(0))
    z = flow._scale.standardised(x)
    modes = (flow._kernel(z) @ flow._modes).astype(np.float64)
    assert modes.shape[1] > 100
    correlation = np.corrcoef(modes.T) - np.eye(modes.shape[1])
    assert np.abs(correlation).max() < 0.02


def test_that_some_classes_are_unknown_is_no_leak():
    x, codes = stretched()
    known = np.arange(len(x)) % 2 == 0
    rng = np.random.default_rng(5)
    x = rng.normal(size=x.shape)
    x[known] += 0.5
    codes[known, 0] = rng.permutation(codes[known, 0])
    codes[~known] = -1
    assert ((flown(x, codes) - x) ** 2).mean() < 0.001 * x.var()


def test_several_attributes_empty_classes_and_constant_columns():
    x, codes = stretched()
    x = np.column_stack([x, np.full(len(x), 3.0)])
    twice = np.column_stack([codes, 2 * codes]).astype(np.int32)  # nobody is of the second attribute's class 1
    moved = flown(x, twice)
    assert np.isfinite(moved).all()
    np.testing.assert_array_equal(moved[:, -1], x[:, -1])
    assert abs(qda_accuracy(moved[:, :-1], codes) - 0.5) < 0.07


def test_the_gap_closes_round_by_round():
    x, codes = stretched()
    flow = ModeFlow(x, codes, np.random.default_rng(0))
    gaps = []
    for _ in range(10):
        x = x + flow.steps(x)
        gaps.append(flow._last.sum())
    assert gaps[-1] < 0.2 * gaps[0]


def test_portions_of_rows_change_nothing(monkeypatch):
    x, codes = stretched(users=300)
    flow, again = (ModeFlow(x, codes, np.random.default_rng(0)) for _ in range(2))
    whole = flow.steps(x)
    monkeypatch.setattr(mode_flow, "_ROWS_AT_ONCE", 37)
    np.testing.assert_allclose(again.steps(x), whole, atol=1e-3)


def test_modes_of_some_users_serve_all(monkeypatch):
    monkeypatch.setattr(mode_flow, "MOST_LANDMARKS", 600)
    x, codes = stretched()
    after = np.mean([qda_accuracy(flown(x, codes), codes, seed) for seed in range(3)])
    assert abs(after - 0.5) < 0.05


def test_users_without_a_class_stay():
    x, codes = stretched(users=300)
    codes[:40] = -1
    moved = flown(x, codes, rounds=2)
    np.testing.assert_array_equal(moved[:40], x[:40])
    assert (moved[40:] != x[40:]).any()


@pytest.mark.parametrize(
    "x", [np.zeros((40, 3)), np.ones((3, 2)), np.zeros((40, 0)), np.random.default_rng(0).normal(size=(5, 3))]
)
def test_tables_with_too_little_in_them_stay_finite(x):
    codes = (np.arange(len(x)) % 2)[:, None].astype(np.int32)
    assert np.isfinite(flown(x, codes, rounds=2)).all()


def test_without_classes_nobody_moves():
    x = np.random.default_rng(0).normal(size=(60, 4))
    nobody = np.full((60, 1), -1, dtype=np.int32)
    np.testing.assert_array_equal(flown(x, nobody, rounds=2), x)
