"""LDP-SH: probabilities of randomised response, lengths of profiles, unbiased counts, and the price."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attrcloak.data.attributes import UserAttributes
from attrcloak.data.datasets import load
from attrcloak.data.ids import Ids
from attrcloak.data.interactions import NO_ITEM, Interactions
from attrcloak.errors import InvalidInput, InvalidSettings
from attrcloak.evaluation import evaluate
from attrcloak.recommenders import train
from attrcloak.recommenders.protected import profiles, protected_class
from attrcloak.recommenders.protected.ldp_sh import LDPSH, decoded, randomised_response, report, signs

SUBSAMPLES = pytest.mark.parametrize("subsample", ["told", "flipped-in"])


def example(users: int = 200, items: int = 150) -> tuple[Interactions, UserAttributes]:
    """Profiles of 10 to 30 items with times and ratings; every second user asks."""
    rng = np.random.default_rng(0)
    rows = [(user, item) for user in range(users) for item in rng.choice(items, 10 + user % 21, replace=False)]
    u, i = np.array(rows).T
    interactions = Interactions.from_ids(u, i, rng.permutation(len(u)), rng.integers(1, 6, len(u)))
    people = UserAttributes.from_values(Ids.range(users), kind=["a", "b"] * (users // 2))
    return interactions, people.mark({"kind": np.arange(0, users, 2)})


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_bits_turn_with_the_stated_probability(epsilon: float) -> None:
    rng = np.random.default_rng(0)
    profile, items, rounds = np.arange(30), 100, 2000
    told = np.array(
        [np.bincount(randomised_response(profile, items, epsilon, rng), minlength=items) for _ in range(rounds)]
    )
    turned = 1 / (np.exp(epsilon) + 1)
    # Four standard deviations of a mean of independent bits.
    for bits, expected in ((told[:, :30], 1 - turned), (told[:, 30:], turned)):
        assert abs(bits.mean() - expected) < 4 * np.sqrt(turned * (1 - turned) / bits.size)
    each = told.mean(axis=0) - np.where(np.arange(items) < 30, 1 - turned, turned)
    assert np.abs(each).max() < 5 * np.sqrt(turned * (1 - turned) / rounds)


@SUBSAMPLES
def test_infinite_epsilon_changes_nothing(subsample: Any) -> None:
    interactions, people = example()
    for epsilon in (float("inf"), 800.0):
        method = LDPSH(epsilon=epsilon, subsample=subsample)
        assert method.obfuscate(interactions, people) is interactions


@SUBSAMPLES
@pytest.mark.parametrize("epsilon", [0.3, 2.0, 6.0])
def test_profiles_keep_their_length_or_get_shorter(subsample: Any, epsilon: float) -> None:
    interactions, people = example()
    after = LDPSH(epsilon=epsilon, subsample=subsample).obfuscate(interactions, people)
    before_lengths, lengths = (np.bincount(x.user_rows, minlength=200) for x in (interactions, after))
    assert (lengths <= before_lengths).all()
    if epsilon == 0.3:  # about 40 % of 150 bits are told, more than any profile holds
        np.testing.assert_array_equal(lengths, before_lengths)


@SUBSAMPLES
def test_who_did_not_ask_keeps_the_profile(subsample: Any) -> None:
    interactions, people = example()
    after = LDPSH(epsilon=1.0, subsample=subsample).obfuscate(interactions, people)
    before_rows, after_rows = interactions.matrix.toarray(), after.matrix.toarray()
    marks = people["kind"].marks
    np.testing.assert_array_equal(after_rows[~marks], before_rows[~marks])
    assert (after_rows[marks] != before_rows[marks]).any(axis=1).mean() > 0.95
    rest = [
        [tuple(row) for row in zip(x.user_rows, x.item_rows, x.times, x.ratings, strict=True) if not marks[row[0]]]  # type: ignore[arg-type]
        for x in (interactions, after)
    ]
    assert rest[0] == rest[1]


def test_the_share_of_true_items_is_that_of_the_subsample() -> None:
    interactions, people = example(users=400)
    epsilon, n, items = 2.0, 20.0, 150
    kept = 1 / (1 + np.exp(-epsilon))
    expected = {"told": n * kept / (n * kept + (items - n) * (1 - kept)), "flipped-in": kept}
    for subsample, share in expected.items():
        after = LDPSH(epsilon=epsilon, subsample=subsample).obfuscate(interactions, people)  # type: ignore[arg-type]
        marks = people["kind"].marks
        true = (after.matrix.toarray() * interactions.matrix.toarray())[marks].sum()
        assert abs(true / after.matrix.toarray()[marks].sum() - share) < 0.03


@SUBSAMPLES
def test_the_subsample_favours_no_item(subsample: Any) -> None:
    interactions, people = example(users=400)
    after = LDPSH(epsilon=0.3, subsample=subsample).obfuscate(interactions, people)
    new = (after.matrix.toarray() > interactions.matrix.toarray())[people["kind"].marks].sum(axis=0)
    assert abs(new[:75].sum() / new.sum() - 0.5) < 4 * 0.5 / np.sqrt(new.sum())


def test_kept_and_added_items_have_times_and_ratings() -> None:
    interactions, people = example()
    after = LDPSH(epsilon=2.0).obfuscate(interactions, people)
    known = {
        (u, i): (t, r)
        for u, i, t, r in zip(
            interactions.user_rows,
            interactions.item_rows,
            interactions.times,
            interactions.ratings,
            strict=True,  # type: ignore[arg-type]
        )
    }
    times_of = [set(interactions.times[interactions.user_rows == user]) for user in range(200)]  # type: ignore[index]
    added_times: dict[int, set[int]] = {}
    for u, i, t, r in zip(after.user_rows, after.item_rows, after.times, after.ratings, strict=True):  # type: ignore[arg-type]
        if (u, i) in known:
            assert known[u, i] == (t, r)
        else:
            assert t in times_of[u]
            assert 1 <= r <= 5
            added_times.setdefault(u, set()).add(t)
    assert np.mean([len(times) for times in added_times.values()]) > 2


def test_fit_states_the_budget_repeats_and_never_reads_test_items() -> None:
    interactions, people = example()
    split = interactions.leave_one_out(0)
    before = split.train.matrix.toarray()
    kind = protected_class("ldp-sh")
    blind = replace(split, test_items=np.full_like(split.test_items, NO_ITEM))
    small = {"factors": 4, "iterations": 2}
    calls: list[tuple[str, int, int]] = []
    one, same, other = (
        kind(epsilon=1.5).fit("als", s, people, settings=small, seed=seed, progress=lambda *call: calls.append(call))
        for s, seed in ((split, 1), (blind, 1), (split, 2))
    )
    assert one.users.fingerprint() == same.users.fingerprint() != other.users.fingerprint()
    np.testing.assert_array_equal(split.train.matrix.toarray(), before)
    lengths = np.bincount(split.train.user_rows)[people["kind"].marks]
    assert one.settings["protection"] == {
        "name": "ldp-sh",
        "epsilon": 1.5,
        "subsample": "told",
        "mean_total_epsilon": pytest.approx(1.5 * lengths.mean()),
        "largest_total_epsilon": pytest.approx(1.5 * lengths.max()),
    }
    assert all(np.isfinite(one.history))
    assert {stage for stage, _, _ in calls} == {"randomising profiles", "training als"}


def test_a_validation_item_turned_on_does_not_say_when_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    interactions, people = example(items=40)
    split = interactions.leave_one_out(0)
    seen = []
    monkeypatch.setattr(profiles, "train", lambda name, given, **rest: seen.append(given) or train(name, given, **rest))
    LDPSH(epsilon=1.0).fit("als", split, people, settings={"factors": 4, "iterations": 2})
    given = seen[0]
    matrix = given.train.matrix.toarray()
    told = matrix[np.arange(200), split.validation_items] > 0
    assert told.any()
    np.testing.assert_array_equal(given.validation_items, np.where(told, NO_ITEM, split.validation_items))


def test_the_budget_of_flipped_in_counts_the_look_at_the_truth() -> None:
    lengths = np.array([10, 20])
    np.testing.assert_allclose(LDPSH(epsilon=1.0).total_epsilon(lengths, 100), [10, 20])
    np.testing.assert_allclose(
        LDPSH(epsilon=1.0, subsample="flipped-in").total_epsilon(lengths, 100),
        [10 * (1 + np.log(90)), 20 * (1 + np.log(80))],
    )


def test_swapping_one_item_costs_what_is_stated_for_flipped_in() -> None:
    """Exact probabilities of a tiny mechanism: profile {0} or {1} of five items, output {0}."""
    epsilon, items = 1.0, 5
    kept = 1 / (1 + np.exp(-epsilon))
    # From {1}: item 1 is turned off and item 0 is the fill, one of the equally likely four.
    nothing_turned_on = kept ** (items - 1)
    from_other = (1 - kept) * (1 - nothing_turned_on) / (items - 1)
    rng = np.random.default_rng(0)
    people = UserAttributes.from_values(Ids.range(items), kind=["a", "b", "a", "b", "a"])
    # Users 1 to 4 only make the catalogue five items long; user 0 holds item 1.
    one = Interactions.from_ids(np.arange(items), np.array([1, 0, 2, 3, 4]))
    method = LDPSH(epsilon=epsilon, subsample="flipped-in")
    draws = [method.obfuscate(one, people, seed=int(seed)) for seed in rng.integers(0, 2**31, 2000)]
    found = np.mean([drawn.matrix.toarray()[0, 0] > 0 for drawn in draws])
    assert abs(found - from_other) < 4 * np.sqrt(from_other / 2000)
    assert np.log(kept / from_other) > epsilon + 0.9 * np.log(items - 1)


def test_succinct_histogram_is_unbiased_and_has_the_stated_spread() -> None:
    items, width, epsilon, reports = 8, 32, 1.0, 600
    held = np.repeat(np.arange(items), [300, 150, 75, 50, 25, 0, 0, 0])
    rng = np.random.default_rng(0)
    estimates = []
    for seed in range(400):
        projection = signs(items, width, seed)
        estimates.append(decoded(*report(held, projection, epsilon, rng), projection))
    spread = np.sqrt(reports) / np.tanh(epsilon / 2)
    error = np.mean(estimates, axis=0) - np.bincount(held, minlength=items)
    assert np.abs(error).max() < 4 * 1.3 * spread / np.sqrt(400)
    found = np.std(estimates, axis=0)
    assert (found > 0.85 * spread).all()
    assert (found < np.sqrt(spread**2 + (held.size**2) / width) * 1.15).all()


def test_a_report_is_one_coordinate_whose_sign_is_kept_with_the_stated_probability() -> None:
    projection = signs(3, 16, seed=1)
    held = np.full(20_000, 2)
    coordinate, told = report(held, projection, 1.0, np.random.default_rng(0))
    kept = np.sign(told) == projection[2, coordinate]
    probability = np.e / (np.e + 1)
    assert abs(kept.mean() - probability) < 4 * np.sqrt(probability * (1 - probability) / len(held))
    np.testing.assert_allclose(np.abs(told), 4 * (np.e + 1) / (np.e - 1))
    assert np.bincount(coordinate, minlength=16).min() > 0.85 * len(held) / 16


def test_a_profile_without_an_answer_is_one_clear_error() -> None:
    people = UserAttributes.from_values(Ids.range(1), kind=["a"])
    interactions = Interactions.from_ids(np.array([0]), np.array([0]))
    with pytest.raises(InvalidInput, match="none of the 1 users tells a single item"):
        LDPSH(epsilon=0.1).obfuscate(interactions, people, seed=2)


def test_nobody_asks_nothing_changes() -> None:
    interactions, people = example()
    assert LDPSH(epsilon=0.1).obfuscate(interactions, people.mark({})) is interactions
    model = LDPSH().fit("als", interactions.leave_one_out(0), people.mark({}), settings={"factors": 4})
    assert model.settings["protection"]["largest_total_epsilon"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epsilon": 0}, "epsilon is 0"),
        ({"epsilon": -1.0}, "epsilon is -1"),
        ({"epsilon": float("nan")}, "epsilon is nan"),
        ({"subsample": "all"}, "no subsample 'all'"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSettings, match=message):
        LDPSH(**settings)


@pytest.mark.data
@pytest.mark.slow
def test_it_costs_much_utility_on_movielens(shared_data: Callable[[str], Path]) -> None:
    dataset = load("ml-100k", shared_data("ml-100k"))
    split = dataset.interactions.leave_one_out(0)
    original, protected = train("als", split), LDPSH().fit("als", split, dataset.people)
    found = {
        (model, protocol): evaluate(lambda rows, m=m: m.score(m.users.vectors[rows]), split, protocol=protocol).values[  # type: ignore[misc,arg-type]
            "ndcg@10"
        ]
        for model, m in (("before", original), ("after", protected))
        for protocol in ("leave-one-out", "paper")
    }
    assert found["after", "leave-one-out"] < 0.75 * found["before", "leave-one-out"]
    assert 0.10 < found["before", "paper"] - found["after", "paper"] < 0.22
