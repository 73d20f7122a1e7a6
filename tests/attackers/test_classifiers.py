"""Every attacker finds a leak that is there, finds none that is not, and repeats itself."""

import numpy as np
import pytest

from attrcloak.attackers import (
    ATTACKERS,
    Attacker,
    KNNAttacker,
    LogisticRegressionAttacker,
    MLPAttacker,
    QDAAttacker,
    RandomAttacker,
    XGBoostAttacker,
)
from attrcloak.attackers.classifiers import standardised, weights
from attrcloak.data.datasets.planted import planted_leak

ALL: list[Attacker] = [kind() for name, kind in ATTACKERS.items() if name != "random"]


def balanced(attacker: Attacker, x: np.ndarray, labels: np.ndarray, classes: int = 2) -> float:
    """Balanced accuracy on the last third after training on the rest."""
    cut = 2 * len(x) // 3
    answers = attacker.fit_predict(x[:cut], labels[:cut], x[cut:], classes, 0).argmax(axis=1)
    return float(np.mean([(answers[labels[cut:] == k] == k).mean() for k in np.unique(labels[cut:])]))


@pytest.mark.parametrize("attacker", ALL, ids=lambda a: a.name)
def test_a_planted_leak_is_found_and_shuffled_labels_are_not(attacker: Attacker) -> None:
    table, people = planted_leak("linear", users=900, dim=8, strength=3.0)
    labels = people["group"].codes
    assert balanced(attacker, table.free, labels) > 0.8
    shuffled = np.random.default_rng(1).permutation(labels)
    assert abs(balanced(attacker, table.free, shuffled) - 0.5) < 0.09


@pytest.mark.parametrize("attacker", [MLPAttacker(), XGBoostAttacker(), QDAAttacker(), KNNAttacker()], ids=repr)
def test_a_leak_in_the_variance_is_seen_by_all_but_the_linear_one(attacker: Attacker) -> None:
    table, people = planted_leak("quadratic", users=1200, dim=6, strength=3.0)
    labels = people["group"].codes
    assert balanced(attacker, table.free, labels) > 0.6
    assert balanced(LogisticRegressionAttacker(), table.free, labels) < 0.58


def test_a_leak_in_three_columns_at_once_is_seen_by_the_network() -> None:
    table, people = planted_leak("higher-order", users=4000, dim=6)
    assert balanced(MLPAttacker(), table.free, people["group"].codes) > 0.7
    assert balanced(QDAAttacker(), table.free, people["group"].codes) < 0.56


@pytest.mark.parametrize("attacker", ALL, ids=lambda a: a.name)
def test_scores_are_shares_and_repeat_under_a_seed(attacker: Attacker) -> None:
    rng = np.random.default_rng(3)
    x, labels = rng.normal(size=(150, 5)), rng.integers(3, size=150)
    first = attacker.fit_predict(x[:100], labels[:100], x[100:], 3, 7)
    np.testing.assert_array_equal(first, attacker.fit_predict(x[:100], labels[:100], x[100:], 3, 7))
    assert first.shape == (50, 3)
    assert (first >= 0).all()
    np.testing.assert_allclose(first.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("attacker", ALL, ids=lambda a: a.name)
def test_a_class_without_known_users_gets_no_score(attacker: Attacker) -> None:
    rng = np.random.default_rng(4)
    x, labels = rng.normal(size=(80, 4)), rng.choice([0, 3], size=80)
    scores = attacker.fit_predict(x[:60], labels[:60], x[60:], 5, 0)
    assert (scores[:, [1, 2, 4]] == 0).all()
    alone = attacker.fit_predict(x[:60], np.full(60, 2), x[60:], 5, 0)
    assert (alone.argmax(axis=1) == 2).all()


@pytest.mark.parametrize("attacker", ALL, ids=lambda a: a.name)
def test_a_rare_class_counts_as_much_as_a_common_one(attacker: Attacker) -> None:
    rng = np.random.default_rng(5)
    labels = (rng.random(1500) < 0.1).astype(int)
    x = rng.normal(size=(1500, 4)) + 1.5 * labels[:, None] * np.array([1, 0, 0, 0])
    cut = 1000
    answers = attacker.fit_predict(x[:cut], labels[:cut], x[cut:], 2, 0).argmax(axis=1)
    assert (answers[labels[cut:] == 1] == 1).mean() > 0.5


@pytest.mark.parametrize("attacker", ALL, ids=lambda a: a.name)
def test_constant_columns_and_huge_values_do_no_harm(attacker: Attacker) -> None:
    table, people = planted_leak("linear", users=600, dim=4, strength=3.0)
    x = np.column_stack((table.free * 1e6 + 1e7, np.full(600, 3.3)))
    x[0, 1] = 1e30
    assert balanced(attacker, x, people["group"].codes) > 0.75


def test_weights_give_every_class_the_same_total() -> None:
    codes = np.array([0] * 90 + [1] * 10)
    found = weights(codes, 2, balanced=True)
    assert found[codes == 0].sum() == pytest.approx(found[codes == 1].sum())
    assert found.mean() == pytest.approx(1)
    assert (weights(codes, 2, balanced=False) == 1).all()


def test_the_network_s_gradient_is_that_of_its_loss() -> None:
    """One step with a tiny penalty-free batch goes downhill: the loss after training is far below that before."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    labels = ((x[:, 0] * x[:, 1]) > 0).astype(int)
    scores = MLPAttacker(min_steps=1500, penalty=0.0).fit_predict(x, labels, x, 2, 0)
    assert -np.log(scores[np.arange(400), labels]).mean() < 0.1


def test_standardised_takes_mean_and_deviation_from_the_known_users() -> None:
    rng = np.random.default_rng(0)
    train, test = standardised(rng.normal(5, 3, size=(500, 2)), np.array([[5.0, 5.0]]))
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(axis=0), 1, atol=1e-5)
    assert np.abs(test).max() < 0.3


def test_the_random_attacker_reads_nothing_and_answers_every_class_alike() -> None:
    table, people = planted_leak("linear", users=6000, dim=4, strength=5.0)
    labels = people["group"].codes
    answers = RandomAttacker().fit_predict(table.free[:3000], labels[:3000], table.free[3000:], 2, 0).argmax(axis=1)
    assert abs(answers.mean() - 0.5) < 0.04  # four standard errors
    assert abs(balanced(RandomAttacker(), table.free, labels) - 0.5) < 0.05
