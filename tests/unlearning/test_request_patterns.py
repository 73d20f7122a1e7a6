"""Learned from everybody, moved who asked: small moves, nothing that the others teach, nobody else touched."""

import numpy as np
import pytest

from attrcloak.data import Cells, EmbeddingTable, Ids, UserAttributes
from attrcloak.errors import InvalidSettings, NotSupported
from attrcloak.moments import cell_moments
from attrcloak.unlearning import Calibrated, run
from attrcloak.unlearning.null_moments import solve_calibrated

KEY = b"0123456789abcdef0123456789abcdef"
LEARNING = Calibrated(learned_from="everybody")


def world(users: int = 3000, dim: int = 12, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 2, users), rng.integers(0, 3, users)
    x = rng.normal(size=(users, dim))
    x[:, :4] *= 1 + 0.8 * labels[:, None]
    x[:, 4] += 0.7 * labels
    x[:, 5:8] += 0.8 * np.eye(3)[groups]
    people = UserAttributes.from_values(np.arange(users), gender=labels.tolist(), age=groups.tolist())
    return EmbeddingTable(Ids.range(users), x), people, labels


def asking(people: UserAttributes, who, *names: str) -> UserAttributes:
    return people.mark({name: people.ids.take(np.asarray(who)) for name in names})


def deviations(vectors, labels):
    """Half the difference of the classes' means and of their covariances."""
    low, high = vectors[labels == 0], vectors[labels == 1]
    return (high.mean(axis=0) - low.mean(axis=0)) / 2, (np.cov(high.T) - np.cov(low.T)) / 2


def test_what_the_others_teach_says_nothing_of_those_who_asked():
    """Over draws of who asks, deviations of both agree no more; with moves as large as if all had asked they did."""
    table, people, labels = world()
    before, after = [], []
    for draw in range(12):
        who = np.random.default_rng(draw).choice(len(labels), 300, replace=False)
        silent = np.setdiff1d(np.arange(len(labels)), who)
        moved = run(LEARNING, table, asking(people, who, "gender", "age"), key=bytes([draw]) * 32).table.vectors
        np.testing.assert_array_equal(moved[silent], table.vectors[silent])
        taught = deviations(table.vectors[silent], labels[silent])
        for vectors, found in ((table.vectors, before), (moved, after)):
            theirs = deviations(vectors[who], labels[who])
            found.append([float(np.vdot(a, b) / np.vdot(b, b)) for a, b in zip(theirs, taught, strict=True)])
    assert (np.mean(before, axis=0) > 0.8).all()
    standard_error = np.std(after, axis=0, ddof=1) / np.sqrt(len(after))
    assert (np.abs(np.mean(after, axis=0)) < 0.05 + 2 * standard_error).all()
    assert (standard_error < 0.1).all()


@pytest.mark.parametrize("learned_from", ["asked", "everybody"])
def test_where_all_ask_for_something_the_others_still_teach_what_they_did_not_ask_for(learned_from):
    rng = np.random.default_rng(1)
    gender, age = rng.integers(0, 2, (2, 6000))
    x = rng.normal(size=(6000, 8)) * np.where(age == 0, 1.15, 1.0)[:, None]
    x[:, 0] += 0.3 * gender
    table = EmbeddingTable(Ids.range(6000), x)
    people = UserAttributes.from_values(np.arange(6000), gender=gender.tolist(), age=age.tolist())
    few = np.arange(6000) < 600
    asked = people.mark({"gender": people.ids, "age": people.ids.take(np.flatnonzero(few))})

    def likeness(vectors) -> float:
        theirs, taught = (deviations(vectors[who], age[who])[1] for who in (few, ~few))
        return float(np.vdot(theirs, taught) / np.vdot(taught, taught))

    assert likeness(x) > 0.6
    method = Calibrated(slices=0, learned_from=learned_from)
    found = [likeness(run(method, table, asked, key=bytes([i]) * 32).table.vectors) for i in range(6)]
    assert abs(np.mean(found)) < 0.1


def test_who_is_silent_is_told_attribute_by_attribute():
    """Users 0 and 1 asked for both, or for gender; 2 for age, no gender known; 3 for nothing, no age known."""
    people = UserAttributes.from_values(range(4), gender=["F", "M", None, "F"], age=["a", "b", "a", None])
    cells = people.mark({"gender": [0, 1], "age": [0, 2]}).cells()
    assert cells.silent.tolist() == [[False, False], [False, True], [False, False], [True, False]]
    assert Cells(cells.key, cells.of_user).silent[2].tolist() == [True, False]  # not told whose class is known


def test_users_whose_class_nobody_knows_change_nothing_for_those_who_asked():
    """Nobody can learn from them, so the others move as if they were not in the table."""
    table, _, labels = world(users=600)
    names = {"gender": [None if row < 5 else int(label) for row, label in enumerate(labels)]}
    some_unknown = UserAttributes.from_values(range(600), **names)
    alone = UserAttributes.from_values(range(5, 600), gender=labels[5:].tolist())
    smaller = EmbeddingTable(Ids(np.arange(5, 600)), table.vectors[5:])
    one, two = run(Calibrated(), table, some_unknown, key=KEY), run(Calibrated(), smaller, alone, key=KEY)
    np.testing.assert_allclose(one.table.vectors[5:], two.table.vectors, atol=1e-9)


def test_few_who_ask_move_less_than_by_their_own_moments_alone():
    table, people, _ = world(users=4000, dim=24)
    some = asking(people, np.arange(120), "gender", "age")
    learning, alone = (run(method, table, some, key=KEY).relative_move for method in (LEARNING, Calibrated()))
    assert learning < 0.6 * alone


@pytest.mark.parametrize("slices", [0, 3])
def test_whoever_asked_for_one_attribute_moves_as_where_all_asked_for_one(slices):
    table, people, _ = world()
    method = Calibrated(learned_from="everybody", slices=slices)
    ids = people.ids
    mixed = people.mark({"gender": ids.take(np.arange(200)), "age": ids.take(np.arange(100))})
    together = run(method, table, mixed, key=KEY)
    apart = run(method, table, asking(people, np.arange(200), "gender"), attributes=["gender"], key=KEY)
    np.testing.assert_allclose(together.table.vectors[100:200], apart.table.vectors[100:200], atol=1e-9)
    assert np.abs(together.table.vectors[:100] - apart.table.vectors[:100]).max() > 0.1


def test_the_affine_form_leaves_an_eraser_for_those_who_asked():
    table, people, _ = world()
    some = asking(people, np.arange(200), "gender", "age")
    result = run(Calibrated(learned_from="everybody", slices=0), table, some, key=KEY)
    again = result.eraser.apply(table.vectors, some.cells().of_user)
    np.testing.assert_allclose(again, result.table.vectors, atol=1e-12)


def test_where_everybody_asked_there_is_nothing_to_learn_from_others():
    table, people, _ = world(users=400)
    one, two = (run(method, table, people, key=KEY).table.vectors for method in (LEARNING, Calibrated()))
    np.testing.assert_array_equal(one, two)


def test_users_whom_earlier_runs_moved_teach_nothing():
    """They hide the leak of the others: with half of them in, less would be taken than is there."""
    table, people, labels = world()
    first = run(LEARNING, table, asking(people, np.arange(1500), "gender", "age"), key=KEY).table
    late = asking(people, np.arange(1500, 1800), "gender", "age")

    def left(people) -> float:
        moved = run(LEARNING, first, people, key=b"k" * 32).table.vectors
        taught = deviations(table.vectors[1800:], labels[1800:])[1]
        return float(np.vdot(deviations(moved[1500:1800], labels[1500:1800])[1], taught) / np.vdot(taught, taught))

    assert left(late) > 0.25
    assert left(late.without(people.ids.take(np.arange(1500)))) < 0.15


def test_forgetting_the_classes_of_some_leaves_those_who_ask_and_who_is_not_listed():
    _, people, _ = world(users=20)
    some = asking(people, [0, 1], "gender").without([0, 5, 77])
    assert some["gender"].known.tolist() == [user != 5 for user in range(20)]
    # Whoever asks for one attribute now may have been moved for another before, and no longer shows it.
    assert some["age"].known.tolist() == [user not in (0, 5) for user in range(20)]
    assert np.flatnonzero(some["gender"].marks).tolist() == [0, 1]


def test_moments_of_files_do_not_tell_what_the_others_are():
    table, people, _ = world(users=400)
    cells = asking(people, np.arange(100), "gender").cells(["gender"])
    with pytest.raises(NotSupported, match="set learned_from to 'asked'"):
        solve_calibrated(LEARNING, cell_moments(table.vectors, cells.of_user, cells.key), KEY)


def test_moments_of_files_tell_for_which_attribute_there_are_others():
    """Where all asked for gender, what a class may keep of its own counts there; not for age, which few asked for."""
    table, people, _ = world(users=400)
    ids = people.ids
    cells = people.mark({"gender": ids, "age": ids.take(np.arange(100))}).cells(["gender", "age"])
    moments = cell_moments(table.vectors, cells.of_user, cells.key)
    kept, drawn = (
        moments.mapped(eraser.matrices, eraser.offsets).marginals()
        for eraser in (
            solve_calibrated(Calibrated(sweeps=40, own_per_dimension=p), moments, KEY).eraser for p in (12.0, 0.0)
        )
    )
    apart = [float(np.abs(a.covariance - b.covariance).max()) for a, b in zip(kept, drawn, strict=True)]
    assert apart[0] > 0.1
    assert apart[1] < 0.1 * apart[0]


def test_only_two_ways_to_learn():
    with pytest.raises(InvalidSettings, match="learned_from is 'all'"):
        Calibrated(learned_from="all")
