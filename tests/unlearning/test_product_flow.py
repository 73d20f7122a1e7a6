"""Products that leak come to chance, in their sizes and in the spectrum of what a class shows; others stay."""

import numpy as np
import pytest

from attrcloak.attackers import ATTACKERS
from attrcloak.unlearning import product_flow
from attrcloak.unlearning.product_flow import ProductFlow


def leaning(users=2400, dim=12, size=0.5, heavy=False, seed=0):
    """One class is wider along one direction that is no axis, the other along another."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, users)
    x = rng.normal(size=(users, dim))
    for k in range(2):
        along = rng.normal(size=dim)
        along /= np.linalg.norm(along)
        x[codes == k] += size * (x[codes == k] @ along)[:, None] * along
    if heavy:
        x *= rng.gamma(1.0, size=users)[:, None] + 0.2
    return x @ np.diag(np.geomspace(2, 0.3, dim)), codes[:, None].astype(np.int32)


def flown(x, codes, rounds=20):
    flow = ProductFlow(x, codes)
    for _ in range(rounds):
        x = x + flow.steps(x)
    return x


def accuracy(attacker, x, codes):
    found = []
    for seed in range(3):
        known = np.random.default_rng(seed).random(len(x)) < 0.7
        scores = ATTACKERS[attacker]().fit_predict(x[known], codes[known, 0], x[~known], 2, seed)
        right = scores.argmax(axis=1) == codes[~known, 0]
        found.append(np.mean([right[codes[~known, 0] == k].mean() for k in range(2)]))
    return np.mean(found)


@pytest.mark.parametrize("heavy", [False, True])
def test_qda_tells_and_after_the_flow_it_does_not(heavy):
    x, codes = leaning(heavy=heavy)
    assert accuracy("qda", x, codes) > 0.58
    assert abs(accuracy("qda", flown(x, codes), codes) - 0.5) < 0.035


def test_what_one_direction_shows_is_no_larger_than_the_largest_of_chance():
    x, codes = leaning()
    flow = ProductFlow(x, codes)
    before = np.linalg.eigvalsh(flow._matrices(flow._deviations(flow._drawn_in(x)) * flow._chance))
    after = np.linalg.eigvalsh(flow._matrices(flow._goal * flow._chance))
    shuffled = np.random.default_rng(1).permutation(codes)
    chance = np.linalg.eigvalsh(flow._matrices(ProductFlow(x, shuffled)._goal * flow._chance))
    largest = [np.abs(each).max() for each in (before, after, chance)]
    assert largest[0] > 2 * largest[2]
    assert largest[1] < 1.2 * largest[2]
    assert (flow._goal**2).mean() == pytest.approx(1, abs=0.05)


def test_wide_directions_which_show_more_come_to_chance_as_distances_weigh_them():
    """What a class shows lies in the widest directions; weighed by how wide they are its size is chance's too."""
    x, codes = leaning(users=4000, dim=40, size=0.0)
    x[codes[:, 0] == 0, :4] *= 1.25
    width = np.linalg.norm(ProductFlow(x, codes)._whitening.back, axis=1)

    def weighed(labels, goal):
        flow = ProductFlow(x, labels)
        shown = flow._goal if goal else flow._deviations(flow._drawn_in(x))
        return ((flow._matrices(shown * flow._chance)[0] * np.outer(width, width)) ** 2).sum()

    chance = np.mean([weighed(np.random.default_rng(n).permutation(codes), False) for n in range(10)])
    assert weighed(codes, False) > 3 * chance
    assert weighed(codes, True) < 1.5 * chance


def test_the_goals_are_reached_and_then_nobody_moves():
    x, codes = leaning()
    flow = ProductFlow(x, codes)
    gaps = []
    for _ in range(25):
        gaps.append(((flow._deviations(flow._drawn_in(x)) - flow._goal) ** 2).mean())
        x = x + flow.steps(x)
    assert gaps[-1] < 0.02 < 1 < gaps[0]
    np.testing.assert_array_equal(flow.steps(x), 0)


def test_attributes_that_say_the_same_do_not_go_too_far_together():
    x, codes = leaning()
    moved = flown(x, np.repeat(codes, 8, axis=1), rounds=40)
    assert ((moved - x) ** 2).sum() < 1.5 * ((flown(x, codes) - x) ** 2).sum()
    assert abs(accuracy("qda", moved, codes) - 0.5) < 0.035


def test_age_groups_in_an_order_do_not_correlate_after():
    rng = np.random.default_rng(2)
    x, _ = leaning(size=0.0)
    codes = rng.integers(0, 4, len(x))
    x[:, :3] *= (0.8 + 0.13 * codes)[:, None]
    flow = ProductFlow(x, codes[:, None].astype(np.int32))
    before = np.corrcoef(flow._deviations(flow._drawn_in(x))[:, flow._blocks[0]])
    after = np.corrcoef(flow._goal[:, flow._blocks[0]])
    assert before[0, 1] > 0.2
    assert before[0, 3] < -0.6
    np.testing.assert_allclose(after[~np.eye(4, dtype=bool)], -1 / 3, atol=0.2)


def test_fewer_users_than_products_have_components_too(monkeypatch):
    monkeypatch.setattr(product_flow, "_USERS_A_PRODUCT", 0.5)
    x, codes = leaning(users=90, dim=14)
    flow = ProductFlow(x, codes)
    y = flow._drawn_in(x)
    products = (y[:, flow._pairs[0]] * y[:, flow._pairs[1]] * flow._weights) @ flow._components
    assert flow._components.shape == (105, 89)
    np.testing.assert_allclose(flow._components.T @ flow._components, np.eye(89), atol=1e-4)
    assert np.abs(np.corrcoef(products.T) - np.eye(89)).max() < 0.01


def test_classes_that_are_chance_already_stay():
    x, codes = leaning()
    stayed = [not ProductFlow(x, np.random.default_rng(n).permutation(codes)).steps(x).any() for n in range(10)]
    assert sum(stayed) >= 8


def test_components_are_uncorrelated_and_deviate_by_one_by_chance():
    x, codes = leaning(heavy=True)
    flow = ProductFlow(x, codes)
    y = flow._drawn_in(x)
    products = (y[:, flow._pairs[0]] * y[:, flow._pairs[1]] * flow._weights) @ flow._components
    assert np.abs(np.corrcoef(products.T) - np.eye(products.shape[1])).max() < 0.01
    sizes = []
    for n in range(40):
        drawn = ProductFlow(x, np.random.default_rng(n).permutation(codes))
        sizes.append((drawn._deviations(y) ** 2).mean())
    assert np.mean(sizes) == pytest.approx(1, abs=0.06)


def test_only_the_widest_directions_are_looked_at_where_there_are_many(monkeypatch):
    monkeypatch.setattr(product_flow, "MOST_DIRECTIONS", 4)
    x, codes = leaning()
    flow = ProductFlow(x, codes)
    assert flow._goal.shape[1] == 10
    assert np.isfinite(flow.steps(x)).all()


def test_few_users_have_goals_in_few_directions():
    x, codes = leaning(users=90, dim=14)
    assert len(ProductFlow(x, codes)._pairs[0]) == 9 * 10 / 2  # two users a product


def test_narrow_directions_count_beside_a_very_wide_one():
    x, codes = leaning(users=3000, dim=6, size=1.0)
    wide = np.column_stack([500 * np.random.default_rng(0).normal(size=len(x)), x])
    assert abs(accuracy("qda", flown(wide, codes, rounds=30), codes) - 0.5) < 0.04 < accuracy("qda", wide, codes) - 0.5


def test_users_without_a_class_stay():
    x, codes = leaning()
    codes[:40] = -1
    moved = flown(x, codes, rounds=2)
    np.testing.assert_array_equal(moved[:40], x[:40])
    assert (moved[40:] != x[40:]).any()


def test_several_attributes_empty_classes_and_constant_columns():
    x, codes = leaning()
    x = np.column_stack([x, np.full(len(x), 3.0)])
    twice = np.column_stack([codes, 2 * codes]).astype(np.int32)  # nobody is of the second attribute's class 1
    moved = flown(x, twice)
    assert np.isfinite(moved).all()
    np.testing.assert_allclose(moved[:, -1], 3.0, rtol=1e-12)
    assert abs(accuracy("qda", moved[:, :-1], codes) - 0.5) < 0.04


@pytest.mark.parametrize(
    "x", [np.zeros((40, 3)), np.ones((3, 2)), np.zeros((40, 0)), np.random.default_rng(0).normal(size=(5, 3))]
)
def test_tables_with_too_little_in_them_stay_finite(x):
    codes = (np.arange(len(x)) % 2)[:, None].astype(np.int32)
    assert np.isfinite(flown(x, codes, rounds=2)).all()


def test_without_classes_nobody_moves():
    x = np.random.default_rng(0).normal(size=(60, 4))
    np.testing.assert_array_equal(flown(x, np.full((60, 1), -1, dtype=np.int32), rounds=2), x)


def test_what_is_chance_goes_by_how_users_vary_now():
    x, codes = leaning()
    flow = ProductFlow(x, codes)
    before = flow._chance.copy()
    flow.look_again(x)
    np.testing.assert_allclose(flow._chance, before, rtol=1e-4)
    shuffled = np.random.default_rng(2).permuted(x, axis=0)  # lengths come from many users now, and vary less
    narrower = x.mean(axis=0) + np.where(np.arange(x.shape[1]) < x.shape[1] // 2, 0.5, 1.0) * (
        shuffled - x.mean(axis=0)
    )
    flow.look_again(narrower)
    y = flow._drawn_in(narrower)
    components = (y[:, flow._pairs[0]] * y[:, flow._pairs[1]] * flow._weights) @ flow._components
    expected = np.sqrt(np.outer(1 / flow._users - 1 / len(x), components.var(axis=0)))
    np.testing.assert_allclose(flow._chance, expected, rtol=1e-3)
    assert (flow._chance < 0.8 * before).any()
