import numpy as np
import pytest

from attrcloak.data import Attribute, EmbeddingTable, Ids, Interactions, UserAttributes
from attrcloak.data.census import Census
from attrcloak.errors import InvalidInput


def test_ids_join_numbers_and_text():
    assert Ids(np.array(["7", "8"])).rows(np.array([8, 7], dtype=object)).tolist() == [1, 0]
    assert Ids(np.array([7, 8])).rows(["8", "9"]).tolist() == [1, -1]


@pytest.mark.parametrize(
    "values", [[1, 1], ["a", None], [float("nan"), "a"], [[1]], [1.5], np.array([2**63], np.uint64)]
)
def test_ids_refuse(values):
    array = (
        np.array(values, dtype=object) if isinstance(values, list) and isinstance(values[-1], str | None) else values
    )
    with pytest.raises(InvalidInput):
        Ids(np.asarray(array))


def test_marks_of_another_length_are_a_problem_not_a_crash():
    with pytest.raises(InvalidInput, match="marks"):
        Attribute("g", ("a", "b"), np.array([0, 1], dtype=np.int32), np.array([True, False, True]))


def test_people_join_by_id_and_unknown_never_marked():
    people = UserAttributes.from_values([3, 1], g=["b", np.float32("nan")]).align(Ids(np.array([1, 2, 3])))
    assert people["g"].codes.tolist() == [-1, -1, 0]
    assert people["g"].marks.tolist() == [False, False, True]


def test_merge_and_drop_classes():
    people = UserAttributes.from_values(range(5), g=["a", "b", "c", "a", None])
    assert people.merge_classes("g", ["b", "c"], "rest")["g"].codes.tolist() == [0, 1, 1, 0, -1]
    assert people.drop_classes("g", 2)["g"].codes.tolist() == [0, -1, -1, 0, -1]


def test_an_intersection_is_known_and_marked_where_all_its_parts_are():
    people = UserAttributes.from_values(range(6), g=["F", "M", "F", None, "M", "F"], a=["1", "2", "10", "1", None, "1"])
    crossed = people.mark({"g": [0, 1, 2], "a": [1, 2, 3, 5]}).cross("g", "a")
    both = crossed["g x a"]
    assert crossed.names == ("g", "a", "g x a")
    assert both.classes == ("F x 1", "F x 10", "M x 2")
    assert both.codes.tolist() == [0, 2, 1, -1, -1, 0]
    assert both.marks.tolist() == [False, True, True, False, False, False]


@pytest.mark.parametrize("names", [(), ("g",), ("g", "g"), ("g", "height")])
def test_an_intersection_needs_two_attributes_that_exist(names):
    with pytest.raises(InvalidInput):
        UserAttributes.from_values(range(2), g=["a", "b"]).cross(*names)


def test_a_cover_set_is_drawn_from_those_who_asked_for_nothing_and_takes_the_same_marks():
    people = UserAttributes.from_values(range(100), g=["a", "b"] * 50, h=["c", None] * 50).mark(
        {"g": range(10), "h": range(0, 10, 2)}
    )
    covered = people.cover(0.5, np.random.default_rng(0))
    assert (covered["g"].marks[:10] == people["g"].marks[:10]).all()
    assert covered["g"].marks[10:].sum() == 45
    asked_h = covered["h"].marks
    assert asked_h[10:].any()
    assert not (asked_h & ~covered["h"].known).any()
    assert not (asked_h[10:] & ~covered["g"].marks[10:]).any(), "nobody asked for h alone"
    assert (people.cover(0.0, np.random.default_rng(0))["g"].marks == people["g"].marks).all()


def test_who_asks_is_kept_where_the_class_is_not_known_and_counted():
    ids = Ids(np.array([1, 2, 3, 4, 9]))
    people = UserAttributes.from_values(ids, g=["a", None, "b", "a", "a"], h=["x", "x", "y", None, "y"])
    asked = people.mark({"g": [1, 2, 9], "h": [2, 4]})
    assert asked["g"].asks.tolist() == [True, True, False, False, True]
    assert asked["g"].marks.tolist() == [True, False, False, False, True]
    both = asked.cross("g", "h")["g x h"]
    assert (both.asks.tolist(), both.marks.any()) == ([False, True, False, False, False], False)
    table = Ids(np.array([4, 3, 2, 1, 7]))
    census = Census.of(asked, table)
    assert (census.users, census.moving, census.unknown, census.by_request) == (5, 2, 1, True)
    assert census.classes == {"g": {"a": 2, "b": 1}, "h": {"x": 2, "y": 1}}
    assert census.asked == {"g": {"a": 1, "b": 0}, "h": {"x": 1, "y": 0}}
    assert (census.unmet, census.elsewhere) == ({"g": 1, "h": 1}, {"g": 1, "h": 0})
    everybody = Census.of(people, table, ["h"])
    assert (everybody.moving, everybody.by_request) == (3, False)
    assert (everybody.unmet, everybody.elsewhere) == ({"h": 2}, {"h": 0})
    covered = asked.cover(1.0, np.random.default_rng(0), among=table)
    assert Census.of(covered, table).unmet == census.unmet
    assert covered["g"].marks.tolist() == [True, False, *covered["g"].marks[2:4].tolist(), True]


def test_a_cover_among_the_users_of_a_table_is_drawn_as_if_nobody_else_were_listed():
    people = UserAttributes.from_values(Ids.range(60), g=["a", "b"] * 30).mark({"g": np.arange(0, 60, 6)})
    table = Ids(np.arange(50)[::-1].copy())
    here = people.align(table).cover(0.5, np.random.default_rng(1))
    listed = people.cover(0.5, np.random.default_rng(1), among=table)
    assert (listed.align(table)["g"].marks == here["g"].marks).all()
    assert (listed["g"].asks[50:] == people["g"].asks[50:]).all()
    with pytest.raises(InvalidInput, match="none of the 1 users of the table is among the 60 listed people"):
        people.cover(0.5, np.random.default_rng(1), among=Ids(np.array([99])))


def test_a_cover_set_needs_a_share_and_somebody_to_cover():
    people = UserAttributes.from_values(range(4), g=["a", "b"] * 2)
    with pytest.raises(InvalidInput, match="0 to 1"):
        people.cover(1.5, np.random.default_rng(0))
    with pytest.raises(InvalidInput, match="nobody asked"):
        people.mark({}).cover(0.5, np.random.default_rng(0))


def test_only_some_of_those_who_asked():
    people = UserAttributes.from_values(range(4), g=["a", "b"] * 2).mark({"g": [0, 1, 2]})
    assert people.only(Ids(np.array([2])))["g"].marks.tolist() == [False, False, True, False]
    with pytest.raises(InvalidInput, match="1 of the 2 users named asked for nothing"):
        people.only(Ids(np.array([2, 3])))
    with pytest.raises(InvalidInput, match="1 of the 1 users named are not listed"):
        people.only(Ids(np.array([9])))


def test_embeddings_keep_frozen_columns_and_unchanged_rows():
    table = EmbeddingTable(Ids.range(3), np.arange(9, dtype=np.float32).reshape(3, 3), frozen_columns=(2,))
    moved = table.with_free(np.zeros((3, 2)), np.array([True, False, False]))
    assert moved.vectors.tolist() == [[0, 0, 2], [3, 4, 5], [6, 7, 8]]


def test_a_pair_is_kept_at_its_last_time_and_the_last_item_is_held_out():
    data = Interactions.from_ids(np.array([1, 1, 1, 1]), np.array([5, 6, 5, 7]), np.array([9, 1, 3, 0]))
    assert len(data) == 3
    assert data.items.values[data.leave_one_out().test_items].tolist() == [5]


def test_last_item_needs_an_entry_a_user():
    with pytest.raises(InvalidInput, match="last_item"):
        Interactions(
            Ids.range(1), Ids.range(1), np.zeros(1, np.int32), np.zeros(1, np.int32), last_item=np.zeros(2, np.int32)
        )
