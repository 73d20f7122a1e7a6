"""BlurMe: who gets how many items of which kind, and what that does to a recommender and its attackers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attrcloak.auditing import SOUND, audit
from attrcloak.data.attributes import UserAttributes
from attrcloak.data.datasets import load
from attrcloak.data.datasets.planted import planted_interactions, planted_leak
from attrcloak.data.ids import Ids
from attrcloak.data.interactions import NO_ITEM, Interactions, Split
from attrcloak.errors import InvalidInput, InvalidSettings
from attrcloak.evaluation import evaluate
from attrcloak.recommenders import train
from attrcloak.recommenders.protected import profiles, protected_class
from attrcloak.recommenders.protected.blurme import BlurMe, item_coefficients

STRATEGIES = pytest.mark.parametrize("strategy", ["greedy", "sampled", "random"])


def example(users: int = 120, items: int = 60, each: int = 20) -> tuple[Interactions, UserAttributes]:
    """Taste follows "group"; two in three users ask for it, one in two for "town", which says nothing."""
    table, people = planted_leak("linear", users=users, dim=6, strength=4.0, seed=0)
    rng = np.random.default_rng(0)
    group = [people["group"].classes[code] for code in people["group"].codes]
    town = rng.choice(["north", "south", "west"], size=users).tolist()
    both = UserAttributes.from_values(people.ids, group=group, town=town)
    interactions = planted_interactions(table, items=items, each=each)
    interactions = replace(interactions, ratings=rng.integers(1, 6, len(interactions)).astype(np.float32))
    asked = {"group": np.flatnonzero(np.arange(users) % 3 > 0), "town": np.arange(0, users, 2)}
    return interactions, both.mark(asked)


def added(before: Interactions, after: Interactions) -> np.ndarray[Any, Any]:
    """(U, I) items only in the new profiles; nothing may be missing from them."""
    difference = after.matrix.toarray() - before.matrix.toarray()
    assert difference.min() >= 0
    return difference > 0


@STRATEGIES
def test_each_user_gets_the_share_for_each_attribute_asked_for(strategy: Any) -> None:
    interactions, people = example()
    after = BlurMe(share=0.1, strategy=strategy).obfuscate(interactions, people)
    counts = added(interactions, after).sum(axis=1)
    asked = people["group"].marks.astype(int) + people["town"].marks
    np.testing.assert_array_equal(counts, 2 * asked)
    assert (asked == 0).any()
    assert (asked == 2).any()
    # What was there stands first and unchanged; a pair that occurs twice would have been refused.
    for name in ("user_rows", "item_rows", "times", "ratings"):
        np.testing.assert_array_equal(getattr(after, name)[: len(interactions)], getattr(interactions, name))


def test_a_small_share_is_still_one_item() -> None:
    interactions, people = example()
    after = BlurMe(share=0.001).obfuscate(interactions, people.select(["group"]))
    np.testing.assert_array_equal(added(interactions, after).sum(axis=1), people["group"].marks)


@STRATEGIES
def test_items_speak_against_the_class_of_the_user(strategy: Any) -> None:
    interactions, people = example()
    people = people.select(["group"])
    after = BlurMe(share=0.2, strategy=strategy, strengths=(0.1,)).obfuscate(interactions, people, seed=3)
    coefficients = item_coefficients(interactions, people["group"], (0.1,), 5, np.random.default_rng(3))
    np.testing.assert_allclose(coefficients[0], -coefficients[1])
    new, owned = added(interactions, after), interactions.matrix.toarray() > 0
    for user in np.flatnonzero(people["group"].marks):
        own = coefficients[people["group"].codes[user]]
        assert (own[new[user]] < 0).all()
        if strategy == "greedy":
            left = ~owned[user] & ~new[user]
            assert own[new[user]].max() <= own[left].min()


def test_sampled_prefers_large_coefficients_and_random_does_not() -> None:
    coefficients = np.array([-4.0, -2.0, -1.0, -1.0])
    counts = {}
    for strategy in ("sampled", "random"):
        rng = np.random.default_rng(0)
        method = BlurMe(strategy=strategy)  # type: ignore[arg-type]
        drawn = [int(method._chosen(np.arange(4), 1, coefficients, rng)[0]) for _ in range(4000)]
        counts[strategy] = np.bincount(drawn, minlength=4) / 4000
    np.testing.assert_allclose(counts["sampled"], [0.5, 0.25, 0.125, 0.125], atol=0.03)
    np.testing.assert_allclose(counts["random"], 0.25, atol=0.03)


def test_coefficients_find_the_items_of_each_of_three_classes() -> None:
    rng = np.random.default_rng(0)
    codes = np.arange(150) % 3
    liked = rng.random((150, 30)) < np.where(np.arange(30) // 10 == codes[:, None], 0.6, 0.2)
    users, items = np.nonzero(liked)
    people = UserAttributes.from_values(Ids.range(150), kind=[("x", "y", "z")[code] for code in codes])
    interactions = Interactions.from_ids(users, items)
    found = item_coefficients(interactions, people["kind"], (0.1, 1.0), 3, np.random.default_rng(0))
    own = np.arange(30) // 10 == np.arange(3)[:, None]
    assert found[own].min() > found[~own].mean()
    after = BlurMe(strategy="greedy").obfuscate(interactions, people)
    new = added(interactions, after)
    for code in range(3):
        assert not new[codes == code][:, own[code]].any()


def test_added_items_get_a_time_of_the_user_and_the_mean_rating_of_the_item() -> None:
    interactions, people = example()
    after = BlurMe().obfuscate(interactions, people)
    assert after.times is not None
    assert after.ratings is not None
    assert interactions.ratings is not None
    for place in range(len(interactions), len(after)):
        user, item = after.user_rows[place], after.item_rows[place]
        assert after.times[place] in interactions.times[interactions.user_rows == user]  # type: ignore[index]
        rated = interactions.ratings[interactions.item_rows == item]
        expected = rated.mean() if len(rated) else interactions.ratings.mean()
        assert after.ratings[place] == pytest.approx(expected, rel=1e-5)
    plain = replace(interactions, times=None, ratings=None)
    without = BlurMe().obfuscate(plain, people)
    assert without.times is None
    assert without.ratings is None


def test_validation_items_are_rated_and_test_items_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    interactions, people = example()
    split = interactions.leave_one_out(0)
    seen: list[Split] = []
    monkeypatch.setattr(profiles, "train", lambda name, given, **rest: seen.append(given) or train(name, given, **rest))
    method, small = BlurMe(share=0.5, strategy="greedy"), {"factors": 4, "iterations": 2}
    model = method.fit("als", split, people, settings=small)
    blind = replace(split, test_items=np.full_like(split.test_items, NO_ITEM))
    assert model.users.fingerprint() == method.fit("als", blind, people, settings=small).users.fingerprint()
    rows = np.flatnonzero(split.validation_items != NO_ITEM)
    assert (seen[0].train.matrix.toarray()[rows, split.validation_items[rows]] == 0).all()
    np.testing.assert_array_equal(seen[0].validation_items, split.validation_items)
    np.testing.assert_array_equal(seen[0].test_items, split.test_items)


def test_fit_says_what_it_did_and_repeats() -> None:
    interactions, people = example()
    split = interactions.leave_one_out(0)
    before = split.train.matrix.toarray()
    calls: list[tuple[str, int, int]] = []
    kind = protected_class("blurme")
    fit = [
        kind(share=0.1).fit(
            "als", split, people, settings={"factors": 4}, seed=seed, progress=lambda *call: calls.append(call)
        )
        for seed in (1, 1, 2)
    ]
    assert fit[0].name == "als"
    assert fit[0].settings["factors"] == 4
    said = fit[0].settings["protection"]
    assert said["name"] == "blurme"
    assert said["added"] == 2 * (people["group"].marks.sum() + people["town"].marks.sum())
    assert kind(**{key: value for key, value in said.items() if key not in ("name", "added")}) == kind(share=0.1)
    assert fit[0].users.fingerprint() == fit[1].users.fingerprint() != fit[2].users.fingerprint()
    np.testing.assert_array_equal(split.train.matrix.toarray(), before)
    assert {stage for stage, _, _ in calls} == {"reading group", "reading town", "training als"}
    assert all(0 < done <= total for _, done, total in calls)


def test_nobody_asks_nothing_changes() -> None:
    interactions, people = example()
    assert BlurMe().obfuscate(interactions, people.mark({})) is interactions
    model = BlurMe().fit("als", interactions.leave_one_out(0), people.mark({}), settings={"factors": 4})
    plain = train("als", interactions.leave_one_out(0), settings={"factors": 4})
    assert model.users.fingerprint() == plain.users.fingerprint()


def test_a_used_up_list_gives_what_there_is() -> None:
    people = UserAttributes.from_values(Ids.range(4), kind=["a", "a", "b", "b"])
    interactions = Interactions.from_ids(np.array([0, 0, 1, 1, 2, 2, 3, 3]), np.array([0, 1, 0, 1, 2, 1, 2, 1]))
    after = BlurMe(share=1.0, folds=2).obfuscate(interactions, people)
    np.testing.assert_array_equal(added(interactions, after).sum(axis=1), 1)


def test_small_and_unknown_classes_do_not_stop_it() -> None:
    interactions, people = example()
    names = np.array([people["group"].classes[code] for code in people["group"].codes], dtype=object)
    names[:1], names[1:3], names[3:9] = "lone", "pair", ""
    strange = UserAttributes.from_values(people.ids, group=names.tolist())
    after = BlurMe().obfuscate(interactions, strange)
    counts = added(interactions, after).sum(axis=1)
    assert (counts[[*range(3), *range(9, 120)]] == 1).all()
    assert (counts[3:9] == 0).all()


def test_one_class_is_refused_by_name() -> None:
    interactions, people = example()
    alike = UserAttributes.from_values(people.ids, group=["a"] * len(people))
    with pytest.raises(InvalidInput, match=r"attribute 'group': only 1 of its 1 classes .* leave the attribute out"):
        BlurMe().obfuscate(interactions, alike)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 0}, "share is 0"),
        ({"share": 1.5}, "share is 1.5"),
        ({"share": float("nan")}, "share is nan"),
        ({"strategy": "best"}, "no strategy 'best'"),
        ({"strengths": ()}, "strengths are"),
        ({"strengths": (0.1, 0)}, "strengths are"),
        ({"folds": 1}, "folds is 1"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSettings, match=message):
        BlurMe(**settings)


@pytest.mark.data
@pytest.mark.slow
def test_on_movielens_utility_stays_and_greedy_choice_gives_the_class_away(
    shared_data: Callable[[str], Path],
) -> None:
    dataset = load("ml-100k", shared_data("ml-100k"))
    split = dataset.interactions.leave_one_out(0)
    quick = replace(SOUND, known=(0.8,), seeds=1, permutations=99, resamples=99, equations_known=())
    utility, attacked = {}, {}
    models = {
        "original": train("als", split),
        "sampled": BlurMe().fit("als", split, dataset.people),
        "greedy": BlurMe(strategy="greedy").fit("als", split, dataset.people),
    }
    for name, model in models.items():
        utility[name] = evaluate(lambda rows, m=model: m.score(m.users.vectors[rows]), split).values["ndcg@10"]  # type: ignore[misc]
        report = audit(model.users, dataset.people, attributes=["gender"], attackers=["logistic"], protocol=quick)
        attacked[name] = report.results[0].balanced_accuracy
    assert utility["sampled"] >= 0.85 * utility["original"]
    assert attacked["sampled"] < attacked["original"] - 0.03
    assert attacked["greedy"] > 0.9
