"""PAU: its gradient is that of the coding rate, what it holds stays, and what it cannot see stays readable."""

import numpy as np
import pytest

from attrcloak.data import EmbeddingTable, Ids, UserAttributes
from attrcloak.errors import InvalidSettings
from attrcloak.unlearning import PAU, run
from attrcloak.unlearning.coding_rate import coding_rate, rate_loss, with_class_norms


def planted(users: int = 400, dim: int = 4, seed: int = 0):
    """One class lies along the first axis, the other along the second; both have the same mean and size."""
    rng = np.random.default_rng(seed)
    labels = np.arange(users) % 2
    x = rng.normal(size=(users, dim)) * 0.3
    x[np.arange(users), labels] *= 8
    town = rng.integers(0, 3, users)
    x[:, 3] *= 1 + town
    return EmbeddingTable(Ids.range(users), x), UserAttributes.from_values(np.arange(users), a=labels, b=town)


def reduction(vectors, codes, scale=2.0):
    """R - R^c, in units of the root mean square coordinate."""
    z = vectors / np.sqrt((vectors**2).mean())
    within = sum((codes == k).mean() * coding_rate(z[codes == k], scale)[0] for k in np.unique(codes))
    return coding_rate(z, scale)[0] - within


def test_the_rate_is_the_paper_s_and_its_gradient_is_right():
    """R = 1/2 log det(I + d / (m eps^2) Z Z^T) with Z (d, m), by its own determinant; the gradient by differences."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 3))
    squared_distortion = 0.4
    rate, gradient = coding_rate(x, 3 / squared_distortion)
    z = x.T
    wide = np.linalg.slogdet(np.eye(7) + 3 / (7 * squared_distortion) * z.T @ z)[1] / 2
    assert rate == pytest.approx(wide, rel=1e-12)
    for index in np.ndindex(*x.shape):
        nudge = np.zeros_like(x)
        nudge[index] = 1e-6
        up, down = (coding_rate(x + sign * nudge, 3 / squared_distortion)[0] for sign in (1, -1))
        assert gradient[index] == pytest.approx((up - down) / 2e-6, abs=1e-8)


@pytest.mark.parametrize("wanted", [0.1, 10.0])
def test_the_loss_is_the_paper_s_and_its_gradient_is_right(wanted):
    """On both sides of b, with classes of different sizes and a user who did not ask."""
    x = np.random.default_rng(0).normal(size=(9, 2))
    column = np.array([0, 0, 0, 0, 0, 2, 2, 2, -1])

    def loss(x):
        own, rest = x[:5], x[5:8]
        rates = [np.linalg.slogdet(np.eye(2) + 2.0 / len(part) * part.T @ part)[1] / 2 for part in (x[:8], own, rest)]
        return -(5 / 8 * rates[1] + 3 / 8 * rates[2] - 3.0 * abs(rates[0] - wanted))

    value, gradient = rate_loss(x, column, 2.0, 3.0, wanted)
    assert value == pytest.approx(loss(x), rel=1e-12)
    for index in np.ndindex(*x.shape):
        nudge = np.zeros_like(x)
        nudge[index] = 1e-6
        assert gradient[index] == pytest.approx((loss(x + nudge) - loss(x - nudge)) / 2e-6, abs=1e-8)


def test_the_whole_rate_is_never_below_that_within_classes():
    table, people = planted()
    assert reduction(table.vectors, people["a"].codes) > 0.1
    same = np.tile(table.vectors[:200], (2, 1))
    assert reduction(same, np.repeat([0, 1], 200)) == pytest.approx(0.0, abs=1e-12)


def test_classes_become_alike_while_rate_and_class_norms_stay():
    table, people = planted()
    result = run(PAU(), table, people)
    before, after = table.vectors, result.table.vectors
    # Classes of "b" differ in size, which is held, so that something has to remain.
    for name, most in (("a", 0.1), ("b", 0.5)):
        codes = people[name].codes
        assert reduction(after, codes) < most * reduction(before, codes)
        for k in range(len(people[name].classes)):
            assert (after[codes == k] ** 2).sum() == pytest.approx((before[codes == k] ** 2).sum(), rel=1e-6)
    unit = np.sqrt((before**2).mean())
    rates = [coding_rate(x / unit, 2.0)[0] for x in (before, after)]
    assert rates[1] == pytest.approx(rates[0], rel=0.03)
    assert result.stopped == "max steps"
    assert result.objective_after < 0.5 * result.objective_before


def test_class_means_that_mirror_each_other_are_not_seen():
    """Second moments about the origin are equal when one class mean is minus the other: a blind spot of the rate."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    x = rng.normal(size=(400, 3)) + np.where(labels, 1.0, -1.0)[:, None] * [2.0, 0.0, 0.0]
    people = UserAttributes.from_values(np.arange(400), a=labels)
    after = run(PAU(steps=200), EmbeddingTable(Ids.range(400), x), people).table.vectors
    assert abs(after[labels == 1, 0].mean() - after[labels == 0, 0].mean()) > 1.0


def test_norms_of_all_classes_of_all_attributes_are_met_together_and_zero_vectors_stay():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    x[4] = 0
    a, b = rng.integers(-1, 2, 50), rng.integers(-1, 3, 50)
    targets = [np.array([(x[codes == k] ** 2).sum() for k in range(codes.max() + 1)]) for codes in (a, b)]
    disturbed = x * rng.uniform(0.5, 2.0, size=(50, 1))
    held = with_class_norms(disturbed, [a, b], targets)
    for codes, target in zip((a, b), targets, strict=True):
        np.testing.assert_allclose([(held[codes == k] ** 2).sum() for k in range(len(target))], target, rtol=1e-5)
    np.testing.assert_array_equal(held[4], 0)
    np.testing.assert_array_equal(held[(a < 0) & (b < 0)], disturbed[(a < 0) & (b < 0)])


def test_scale_does_not_matter():
    table, people = planted()
    method = PAU(steps=40)
    once = run(method, table, people).table.vectors
    large = EmbeddingTable(table.ids, 1024 * table.vectors)
    np.testing.assert_allclose(run(method, large, people).table.vectors / 1024, once, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"learning_rate": 0.0}, {"distortion": 0.0}, {"rate_weight": -1.0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidSettings):
        PAU(**wrong)
