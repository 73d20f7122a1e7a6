"""Class deviations that leak go to the sizes and correlations of chance; those of chance stay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from attrcloak.moments.cell_key import CellKey
from attrcloak.moments.cell_moments import ClassMoments, cell_moments
from attrcloak.unlearning.chance_goals import (
    blocks_of,
    leaking_blocks,
    leaks,
    like_chance,
    mean_goals,
    of_spectra,
    spectra_of_chance,
)

USERS = np.array([2000, 700, 250, 60])
ORDER = np.array([1.5, 0.5, -0.5, -1.5])


def by_chance(rng, width, users=USERS):
    """Standardised class deviations of labels dealt out at random, as the formula has them."""
    labels = np.repeat(np.arange(len(users)), users)
    x = rng.normal(size=(len(labels), width))
    means = np.stack([x[labels == k].mean(axis=0) for k in range(len(users))]) - x.mean(axis=0)
    return means / np.sqrt(1 / users - 1 / users.sum())[:, None]


def leaky(rng, width=60):
    """Classes in an order: neighbours deviate alike, by much more than chance."""
    return by_chance(rng, width) + 2 * (ORDER * np.sqrt(USERS / 250))[:, None] * rng.normal(size=width)


def uneven(rng, width=200):
    """Two classes that differ a lot in a third of the coordinates and hardly in the others, so not in normal sizes."""
    users = np.array([500, 500])
    apart = rng.choice([-1.0, 1.0], width) * rng.choice([0.2, 0.2, 4.0], width)
    return np.stack([apart, -apart]), users


def correlations(deviations):
    return deviations @ deviations.T / deviations.shape[1]


def test_by_chance_deviations_have_the_correlations_that_are_aimed_at():
    rng = np.random.default_rng(0)
    measured = np.mean([correlations(by_chance(rng, 40)) for _ in range(60)], axis=0)
    goal = like_chance(leaky(rng), USERS)
    np.testing.assert_allclose(correlations(goal), measured, atol=0.08)


def test_two_classes_that_are_as_large_are_off_by_as_much_either_way():
    one, other = spectra_of_chance(20, np.array([40, 40]))
    np.testing.assert_allclose(one, -one[::-1], atol=0.1 * one.max())
    np.testing.assert_allclose(one, other, atol=0.1 * one.max())


@pytest.mark.parametrize("users", [20, 30, 60, 2000])
def test_a_class_gets_the_spectrum_that_so_many_users_have_by_chance(users):
    rng, q = np.random.default_rng(1), 30

    def off(white):
        return white.T @ white / len(white) - np.eye(q)

    by_chance = np.mean([np.linalg.eigvalsh(off(rng.normal(size=(users, q)))) for _ in range(50)], axis=0)
    spectra = spectra_of_chance(q, np.array([users, 1_000_000]))  # beside very many others
    np.testing.assert_allclose(spectra[0], by_chance, atol=0.1 * by_chance.max())
    direction = rng.normal(size=q)
    goal, _ = of_spectra(np.stack([np.outer(direction, direction)] * 2), spectra)
    np.testing.assert_allclose((goal**2).sum(), (direction @ direction) ** 2)
    found = np.linalg.eigvalsh(goal)
    np.testing.assert_allclose(found / found.std(), spectra[0] / spectra[0].std())


def test_what_is_chance_stays_to_the_bit():
    rng = np.random.default_rng(1)
    kept = 0
    for _ in range(20):
        deviations = by_chance(rng, 60)
        kept += like_chance(deviations, USERS) is deviations
    assert kept >= 18


def test_a_leak_gets_normal_sizes_and_keeps_signs_where_it_was_strong():
    deviations = leaky(np.random.default_rng(2))
    goal = like_chance(deviations, USERS)
    np.testing.assert_allclose((goal**2).mean(axis=1), 1, atol=1e-3)
    for row in goal:
        assert kstest(row, "norm").pvalue > 0.05
    strong = np.abs(deviations) > 2 * np.sqrt((deviations**2).mean())
    assert (np.sign(goal) == np.sign(deviations))[strong].mean() > 0.9
    assert ((goal - deviations) ** 2).sum() < ((by_chance(np.random.default_rng(3), 60) - deviations) ** 2).sum()


def test_sizes_that_are_not_normal_become_so():
    deviations, users = uneven(np.random.default_rng(8))
    assert kstest(deviations[0] / deviations[0].std(), "norm").pvalue < 1e-3
    goal = like_chance(deviations, users)
    assert kstest(np.abs(goal[0]), "halfnorm").pvalue > 0.2
    np.testing.assert_array_equal(np.sign(goal), np.sign(deviations))


def test_one_class_among_many_that_is_far_off_is_a_leak():
    rng = np.random.default_rng(9)
    users = np.full(21, 200)
    deviations = by_chance(rng, 64, users)
    assert not leaks(deviations)
    deviations[4] *= 1.5
    assert (deviations**2).mean() < 1.079
    assert leaks(deviations)
    goal = like_chance(deviations, users)
    assert (goal[4] ** 2).mean() == pytest.approx(1, abs=0.02)


def test_blocks_that_hardly_leak_do_so_together():
    rng = np.random.default_rng(12)
    np.array([500, 500])
    some = rng.normal(size=384)
    some *= np.repeat([np.sqrt(1.25), 1.0], [256, 128]) / np.repeat(
        np.sqrt((some.reshape(6, 64) ** 2).mean(axis=1)), 64
    )
    blocks = blocks_of(384, 64, 2)
    deviations = np.stack([some, -some])
    assert not any(leaks(deviations[:, block]) for block in blocks)
    assert leaking_blocks(deviations, blocks) == blocks[:4]


def test_with_fewer_coordinates_than_classes_sizes_are_near_chance_and_neighbours_less_alike():
    rng = np.random.default_rng(10)
    users = np.full(12, 150)
    order = np.linspace(-1.6, 1.6, 12)[:, None]
    before = by_chance(rng, 5, users) + 8 * order * rng.normal(size=5)
    after = like_chance(before, users)
    np.testing.assert_allclose((after**2).mean(), 1, atol=0.35)
    assert np.corrcoef(before)[0, 1] > 0.9
    assert np.corrcoef(after)[0, 1] < np.corrcoef(before)[0, 1] - 0.1


def test_known_and_unknown_users_agree_no_more_than_labels_at_random_do():
    """Over splits of the users of a class, which no attacker chose."""
    rng = np.random.default_rng(4)
    n, width = 900, 300
    labels = (np.arange(n) < 300).astype(int)
    x = rng.normal(size=(n, width))
    x[labels == 1] += 0.15 * rng.choice([-1, 1], width)

    def agreement(x):
        found = []
        for _ in range(200):
            known = rng.random(n) < 0.5
            gap = [
                x[(labels == 1) & part].mean(axis=0) - x[(labels == 0) & part].mean(axis=0) for part in (known, ~known)
            ]
            found.append(gap[0] @ gap[1] / np.sqrt((gap[0] @ gap[0]) * (gap[1] @ gap[1])))
        return np.mean(found)

    users = np.bincount(labels)
    size = np.sqrt(1 / users - 1 / n)[:, None]
    own = np.stack([x[labels == k].mean(axis=0) for k in range(2)]) - x.mean(axis=0)
    goal = size * like_chance(own / size, users)
    assert agreement(x) > 0.5
    assert abs(agreement(x + (goal - own)[labels])) < 0.03


def test_three_classes_that_lie_in_an_order_do_not_show_it_after():
    rng = np.random.default_rng(5)
    before, after = leaky(rng), like_chance(leaky(rng), USERS)
    assert np.corrcoef(before)[0, 1] > 0.7
    share = USERS / USERS.sum()
    chance = -np.sqrt(share[0] * share[1] / ((1 - share[0]) * (1 - share[1])))
    assert np.corrcoef(after)[0, 1] == pytest.approx(chance, abs=0.1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=8), st.integers(1, 40), st.integers(0, 99))
def test_deviations_of_all_users_together_add_up_to_nothing(users, width, seed):
    users = np.array(users)
    deviations = 5 * by_chance(np.random.default_rng(seed), width, users) if len(users) > 1 else np.zeros((1, width))
    goal = like_chance(deviations, users)
    assert np.isfinite(goal).all()
    weights = users * np.sqrt(1 / users - 1 / users.sum())
    np.testing.assert_allclose(
        weights @ goal, 0, atol=1e-4 * max(np.abs(weights).max(), 1) * max(np.abs(goal).max(), 1)
    )


def moments_of(x, labels, classes):
    key, cells = CellKey.of(("a",), (tuple(map(str, range(classes))),), labels[:, None].astype(np.int32))
    return cell_moments(x, cells, key).marginals()[0]


def test_class_means_come_to_chance_in_every_direction_and_empty_classes_stay():
    rng = np.random.default_rng(6)
    labels = rng.choice(3, 3000, p=[0.5, 0.4, 0.1])
    x = rng.normal(size=(3000, 40)) @ np.diag(np.geomspace(3, 0.1, 40))
    x[labels == 1, :20] += 0.4 * x.std(axis=0)[:20]
    own = moments_of(x, labels, 4)
    goal = mean_goals(own)
    np.testing.assert_array_equal(goal.count, own.count)
    np.testing.assert_array_equal(goal.mean[3], own.mean[3])
    np.testing.assert_allclose(goal.global_mean, own.global_mean, atol=1e-6)

    def ratio(moments: ClassMoments) -> float:
        apart = (moments.mean[:3] - moments.global_mean) / np.sqrt(np.diag(own.within))
        return float((apart**2 / (1 / own.count[:3] - 1 / 3000)[:, None])[:, :20].mean())

    assert ratio(own) > 10
    assert ratio(goal) == pytest.approx(1, abs=0.3)


def test_directions_that_do_not_vary_stay():
    rng = np.random.default_rng(7)
    labels = np.arange(400) % 2
    x = np.column_stack([rng.normal(size=400) + labels, np.full(400, 2.0)])
    goal = mean_goals(moments_of(x, labels, 2))
    np.testing.assert_allclose(goal.mean[:, 1], 2.0, rtol=1e-12)
    assert abs(goal.mean[1, 0] - goal.mean[0, 0]) < 0.3


def test_what_no_class_varies_in_has_one_mean_for_all():
    """A column that is the class itself: within classes it has no variance to compare with."""
    rng = np.random.default_rng(11)
    labels = np.arange(600) % 3
    x = np.column_stack([rng.normal(size=(600, 3)), labels])
    own = moments_of(x, labels, 3)
    np.testing.assert_allclose(mean_goals(own).mean[:, 3], 1.0, atol=1e-9)


@pytest.mark.parametrize(
    ("coordinates", "classes", "blocks"), [(64, 2, 8), (64, 7, 4), (64, 21, 1), (5, 2, 1), (0, 2, 0)]
)
def test_blocks_hold_all_coordinates_and_enough_of_them(coordinates, classes, blocks):
    found = blocks_of(coordinates, 8, classes)
    assert len(found) == blocks
    assert [i for block in found for i in range(block.start, block.stop)] == list(range(coordinates))
    assert all(block.stop - block.start >= min(max(8, 2 * classes), coordinates) for block in found)


def test_no_run_of_coordinates_shows_more_than_another():
    """Classes show most in the coordinates that come first, and would keep the largest sizes for them."""
    rng = np.random.default_rng(21)
    users = np.array([900, 1100])
    falling = np.linspace(6, 1.5, 64) * rng.choice([-1.0, 1.0], 64)
    goal = like_chance(np.stack([falling, -falling]), users)
    for run in blocks_of(64, 8, 0):
        np.testing.assert_allclose((goal[:, run] ** 2).mean(axis=1), 1, atol=1e-5)


def test_runs_are_evened_out_over_all_classes_and_not_for_each():
    """Eight numbers of one class have a mean square of 1 +- .5 by chance, and to set that moves noise for nothing."""
    goal = like_chance(leaky(np.random.default_rng(23), 64), USERS)
    by_class = np.array([(goal[:, run] ** 2).mean(axis=1) for run in blocks_of(64, 8, 0)])
    np.testing.assert_allclose(by_class.mean(axis=1), 1, atol=0.1)
    assert by_class.std(axis=0).min() > 0.2


def test_means_deviate_as_users_vary_by_now():
    rng = np.random.default_rng(22)
    labels = rng.integers(0, 2, 3000)
    x = rng.normal(size=(3000, 8)) + 0.3 * labels[:, None]
    own = moments_of(x, labels, 2)
    narrower = moments_of(0.5 * x, labels, 2)
    first, later = mean_goals(own), mean_goals(own, narrower)
    np.testing.assert_allclose(later.mean - own.global_mean, 0.5 * (first.mean - own.global_mean), rtol=1e-6)
    np.testing.assert_allclose(mean_goals(own, own).mean, first.mean, atol=1e-9)
