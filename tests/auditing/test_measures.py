"""Measures against scikit-learn, naive loops and cases whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from attrcloak.auditing.intervals import bootstrap_interval
from attrcloak.auditing.measures import auc, balanced_accuracy, class_means, permutation_p, relabelling


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_balanced_accuracy_and_auc_are_scikit_learn_s(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    codes = np.concatenate((np.arange(classes), rng.integers(classes, size=60)))
    scores = np.round(rng.random((len(codes), classes)), 1)
    predicted = scores.argmax(axis=1)
    assert balanced_accuracy(predicted, codes, classes) == pytest.approx(balanced_accuracy_score(codes, predicted))
    expected = np.mean([roc_auc_score(codes == k, scores[:, k]) for k in range(classes)])
    assert auc(scores, codes) == pytest.approx(expected)


def test_class_means_leave_out_users_who_were_not_attacked() -> None:
    rates = np.array([[1.0, 0.0, np.nan, 0.5]])
    np.testing.assert_allclose(class_means(rates, np.array([0, 0, 1, 1]), 2), [[0.5, 0.5]])


def test_a_relabelling_undoes_a_permutation_of_answers() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(4, size=400)
    turned = np.array([2, 0, 3, 1])
    predicted = np.where(rng.random(400) < 0.7, turned[codes], rng.integers(4, size=400))
    names = relabelling(predicted, codes, 4)
    np.testing.assert_array_equal(names[turned], np.arange(4))


def test_a_relabelling_is_one_to_one_and_not_taken_by_luck() -> None:
    rng = np.random.default_rng(1)
    changed = 0
    for _ in range(100):
        names = relabelling(rng.integers(20, size=300), rng.integers(20, size=300), 20)
        np.testing.assert_array_equal(np.sort(names), np.arange(20))
        changed += int((names != np.arange(20)).any())
    assert changed < 35


def test_right_answers_stay_as_they_are() -> None:
    codes = np.random.default_rng(2).integers(5, size=200)
    np.testing.assert_array_equal(relabelling(codes, codes, 5), np.arange(5))


def test_permutation_p_is_small_for_a_leak_on_either_side_and_even_without() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(2, size=400)
    right = np.where(rng.random(400) < 0.65, codes, 1 - codes)
    assert permutation_p(np.eye(2)[right], codes, 999, rng) == pytest.approx(0.001)
    assert permutation_p(np.eye(2)[1 - right], codes, 999, rng) == pytest.approx(0.001)
    even = [permutation_p(np.eye(2)[rng.integers(2, size=100)], codes[:100], 99, rng) for _ in range(200)]
    assert 0.4 < np.mean(even) < 0.65
    assert 0.01 < np.mean(np.array(even) <= 0.1) < 0.2


def test_intervals_cover_and_shrink() -> None:
    rng = np.random.default_rng(0)
    covered, widths = 0, []
    for _ in range(100):
        codes = np.repeat([0, 1], [60, 140])
        rates = (rng.random((1, 200)) < np.where(codes, 0.6, 0.8)).astype(float)
        low, high = bootstrap_interval(rates, codes, 2, 200, rng)
        covered += low <= 0.7 <= high
        widths.append(high - low)
    assert covered >= 87
    big = np.repeat([0, 1], [6000, 14000])
    low, high = bootstrap_interval((rng.random((1, 20000)) < 0.7).astype(float), big, 2, 200, rng)
    assert high - low < 0.25 * np.mean(widths)


def test_intervals_hold_the_luck_of_seeds_too() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1], 100)
    same = np.tile((rng.random(200) < 0.6).astype(float), (3, 1))
    apart = np.stack([(np.random.default_rng(0).random(200) < share).astype(float) for share in (0.4, 0.6, 0.8)])
    (a, b), (c, d) = (bootstrap_interval(rates, codes, 2, 500, np.random.default_rng(1)) for rates in (same, apart))
    assert d - c > 1.3 * (b - a)
