"""AttrCloak-DD: both objectives count, the weight is MGDA's, and settings mean the same at every size and scale."""

from dataclasses import dataclass

import numpy as np
import pytest

from attrcloak.data import EmbeddingTable, Ids, UserAttributes
from attrcloak.errors import InvalidSettings, NotSupported
from attrcloak.moments import cell_moments, leakage_weight, surrogate
from attrcloak.unlearning import AttrCloakDD, run


@dataclass
class TowardsHome:
    """A stand-in for a recommender's loss whose answer is known: the mean squared distance from given vectors."""

    home: np.ndarray
    noise: float = 0.0
    strength: float = 1.0

    def gradient(self, user_vectors, rng):
        apart = user_vectors - self.home + self.noise * rng.normal(size=self.home.shape)
        return self.strength * float((apart**2).sum() / len(apart)), 2 * self.strength * apart / len(apart)


def planted(users: int = 400, dim: int = 4, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = np.arange(users) % 2
    x = rng.normal(size=(users, dim)) + 1.5 * labels[:, None] * np.eye(dim)[0]
    x[labels == 1, 1] *= 2
    people = UserAttributes.from_values(np.arange(users), a=labels.tolist())
    return EmbeddingTable(Ids.range(users), x), people


def test_leakage_falls_and_the_trace_tells_both_objectives():
    table, people = planted()
    result = run(AttrCloakDD(), table, people, recommendation=TowardsHome(table.vectors, strength=0.02))
    assert result.stopped in ("converged", "max steps")
    assert 1 < result.steps <= 300
    assert result.objective_after < 0.05 * result.objective_before
    assert result.trace[0].drift == 0.0
    assert result.trace[-1].drift > 0.0
    assert all(0.5 <= step.weight <= 1.0 for step in result.trace)


def test_one_step_is_the_mgda_combination_of_both_gradients():
    """The leakage gradient by differences of the surrogate, not by the formula under test."""
    table, people = planted(users=40, dim=2)
    x, home = table.vectors, table.vectors + 1.0
    method = AttrCloakDD.paper()
    result = run(AttrCloakDD(steps=1, min_leakage_weight=0.0), table, people, recommendation=TowardsHome(home))
    variance = x.var(axis=0).mean()

    def leakage(vectors):
        cells = people.cells()
        return surrogate(cell_moments(vectors, cells.of_user, cells.key).marginal(0), method.ridge * variance)

    leak = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        nudge = np.zeros_like(x)
        nudge[index] = 1e-5
        leak[index] = (leakage(x + nudge) - leakage(x - nudge)) / 2e-5
    pull = 2 * (x - home) / len(x)
    weight = leakage_weight((pull**2).sum(), (pull * leak).sum(), (leak**2).sum())
    assert result.trace[0].weight == pytest.approx(weight, rel=1e-6)
    expected = x - method.learning_rate * variance * len(x) * (weight * leak + (1 - weight) * pull)
    np.testing.assert_allclose(result.table.vectors, expected, atol=1e-8)


def test_the_recommenders_loss_holds_vectors_back():
    table, people = planted()
    free = run(AttrCloakDD(min_leakage_weight=1.0), table, people, recommendation=TowardsHome(table.vectors))
    held = run(AttrCloakDD(min_leakage_weight=0.5), table, people, recommendation=TowardsHome(table.vectors))
    assert held.relative_move < free.relative_move
    assert held.objective_after > free.objective_after


def test_neither_scale_nor_size_changes_what_a_step_means():
    table, people = planted()
    method = AttrCloakDD(steps=40, min_leakage_weight=1.0)
    once = run(method, table, people, recommendation=TowardsHome(table.vectors)).table.vectors
    large = EmbeddingTable(table.ids, 1000 * table.vectors)
    scaled = run(method, large, people, recommendation=TowardsHome(large.vectors)).table.vectors
    np.testing.assert_allclose(scaled / 1000, once, rtol=1e-8, atol=1e-9)
    twice = EmbeddingTable(Ids.range(800), np.tile(table.vectors, (2, 1)))
    both = UserAttributes.from_values(np.arange(800), a=[i % 2 for i in range(800)])
    doubled = run(method, twice, both, recommendation=TowardsHome(twice.vectors)).table.vectors
    np.testing.assert_allclose(doubled[:400], once, rtol=1e-8, atol=1e-9)


def test_a_gradient_on_users_who_did_not_ask_neither_moves_them_nor_counts_in_the_weight():
    table, people = planted()
    some = people.mark({"a": np.arange(200)})
    quiet, loud = table.vectors.copy(), table.vectors.copy()
    loud[200:] += 1e6
    results = [run(AttrCloakDD(steps=5), table, some, recommendation=TowardsHome(home)) for home in (quiet, loud)]
    np.testing.assert_array_equal(results[0].table.vectors, results[1].table.vectors)
    np.testing.assert_array_equal(results[0].table.vectors[200:], table.vectors[200:])


def test_the_seed_draws_the_batches():
    table, people = planted()
    loss = TowardsHome(table.vectors, noise=1.0)
    first, again, other = (
        run(AttrCloakDD(steps=5), table, people, recommendation=loss, seed=s).table.vectors for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("floor", [0.5, 1.0])
@pytest.mark.parametrize("rate", [5.0, 50.0, 500.0])
def test_steps_that_are_too_long_stop_as_diverged_and_hand_out_nothing_worse_than_they_were_given(rate, floor):
    """The surrogate ignores scale, so a table thrown far away can look as if it leaked nothing."""
    table, people = planted()
    method = AttrCloakDD(learning_rate=rate, min_leakage_weight=floor)
    result = run(method, table, people, recommendation=TowardsHome(table.vectors, strength=0.02))
    assert result.stopped == "diverged"
    assert result.steps < 300
    assert result.objective_after <= result.objective_before
    assert result.relative_move <= 10.0


def test_it_stops_where_neither_objective_can_be_lowered_without_the_other():
    """At the start L^R has no gradient here, so the paper's weight is 0 and the start is already such a point."""
    table, people = planted()
    result = run(AttrCloakDD.paper(), table, people, recommendation=TowardsHome(table.vectors))
    assert result.stopped == "converged"
    assert result.steps == 1
    np.testing.assert_array_equal(result.table.vectors, table.vectors)


def test_without_a_loss_it_says_what_to_use_instead():
    table, people = planted()
    with pytest.raises(NotSupported, match="attrcloak-df or calibrated"):
        run(AttrCloakDD(), table, people)


def test_the_paper_clips_the_weight_to_the_unit_interval():
    assert AttrCloakDD.paper().min_leakage_weight == 0.0


@pytest.mark.parametrize("wrong", [{"min_leakage_weight": 1.5}, {"steps": 0}, {"learning_rate": 0.0}, {"ridge": -1.0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidSettings):
        AttrCloakDD(**wrong)
