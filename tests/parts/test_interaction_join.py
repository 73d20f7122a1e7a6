"""Interactions come to the users of each part as a dictionary would bring them, in bounded memory."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrcloak.errors import InvalidInput, UnreadableFile
from attrcloak.parts import Location, interaction_join, join_people, open_parts
from attrcloak.parts.id_keys import keys_of, uniform
from attrcloak.parts.interaction_join import deal_interactions
from attrcloak.parts.item_table import read_items
from attrcloak.parts.user_items import UserItemsFile


def table(folder, ids, cuts):
    """Users in files cut at these rows; every third has no known class, so does not move."""
    (folder / "table").mkdir()
    for name, (low, high) in enumerate(zip([0, *cuts], [*cuts, len(ids)], strict=True)):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(2 * (high - low), dtype=np.float32)), 2)
        pq.write_table(
            pa.table({"user_id": pa.array(ids[low:high]), "vectors": lists}), folder / f"table/{name}.parquet"
        )
    kinds = [None if row % 3 == 0 else "ab"[row % 2] for row in range(len(ids))]
    pq.write_table(
        pa.table({"user_id": pa.array(ids), "kind": pa.array(kinds, pa.string())}), folder / "people.parquet"
    )


def write_items(folder, ids):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2 * len(ids), dtype=np.float32)), 2)
    pq.write_table(pa.table({"item_id": pa.array(ids), "vectors": lists}), folder / "items.parquet")


def deal(folder, source="pairs.csv"):
    parts = open_parts(Location.of(folder / "table"))
    for name in ("join", "work", "out", "unfinished"):
        (folder / name).mkdir()
    groups, _ = join_people(parts, Location.of(folder / "people.parquet"), None, folder / "join", table="table")
    items = read_items(Location.of(folder / "items.parquet"))
    target = Location.of(folder / "out")
    found = deal_interactions(
        Location.of(folder / source), parts, groups, items, folder / "work", target,
        table="table", unfinished=Location.of(folder / "unfinished"),
    )  # fmt: skip
    return parts, items, target, found


NUMBERS = st.lists(st.integers(0, 2**62), min_size=1, max_size=30, unique=True)
TEXT = st.lists(st.text("abcdefghijk", min_size=1, max_size=12), min_size=1, max_size=30, unique=True)


@pytest.mark.parametrize("ids", [NUMBERS, TEXT], ids=["numbers", "text"])
def test_every_user_who_moves_gets_their_items_once_in_order(ids, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(interaction_join, "ROWS_PER_BUCKET", 8)

    @given(ids, st.lists(st.text("xyz", min_size=1, max_size=4), min_size=1, max_size=12, unique=True), st.data())
    def check(users, items, data):
        folder = tmp_path_factory.mktemp("deal")
        cuts = sorted(data.draw(st.lists(st.integers(0, len(users)), max_size=3)))
        table(folder, users, cuts)
        write_items(folder, items)
        pairs = data.draw(st.lists(st.tuples(st.sampled_from(users), st.sampled_from(items)), min_size=1, max_size=60))
        (folder / "pairs.csv").write_text("\n".join(["item_id,user_id", *[f"{i},{u}" for u, i in pairs]]) + "\n")
        parts, table_of_items, target, found = deal(folder)
        seen = {user: sorted({items.index(i) for u, i in pairs if u == user}) for user in users}
        distinct = {user: rows for user, rows in seen.items() if len(rows) < len(items)}
        assert found.interactions == len(pairs)
        assert found.repeated == len(pairs) - len(set(pairs))
        assert found.useful == sum(map(len, distinct.values()))
        for part, (low, high) in zip(parts, zip([0, *cuts], [*cuts, len(users)], strict=True), strict=True):
            moving = [users[row] for row in range(low, high) if row % 3]
            got = UserItemsFile(target, part.name).read(0, len(moving))
            assert got.users.tolist() == uniform(keys_of(pa.array(moving or users), "id")).tolist()[: len(moving)]
            lists = [got.items[a:b].tolist() for a, b in zip(got.starts, got.starts[1:], strict=False)]
            assert lists == [distinct.get(user, []) for user in moving]
            for first in range(len(moving)):
                some = UserItemsFile(target, part.name).read(first, len(moving))
                np.testing.assert_array_equal(some.items, got.slice(first, len(moving)).items)
                np.testing.assert_array_equal(some.starts, got.slice(first, len(moving)).starts)
        np.testing.assert_array_equal(table_of_items.vectors[:, 0], 2 * np.arange(len(items)))
        assert not list((folder / "work").iterdir())
        assert not list((folder / "unfinished").iterdir())

    check()


@pytest.fixture
def small(tmp_path):
    table(tmp_path, list(range(10)), [4])
    write_items(tmp_path, [5, 6, 7])
    return tmp_path


def test_users_and_items_that_are_not_known_are_counted_and_named_together(small):
    rows = [(1, 5), (1, 99), (77, 5), (77, 6), (78, 7), (79, 5), (80, 98)]
    (small / "pairs.csv").write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u, i in rows))
    with pytest.raises(InvalidInput) as error:
        deal(small)
    assert len(error.value.problems) == 2
    assert "5 of 7 interactions are of 4 users that are not in table (77, 78, 79, ...)" in error.value.problems[0]
    assert "2 of 7 interactions are of 2 items that are not among the items (98, 99)" in error.value.problems[1]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("user_id,item_id\n", "there is a header but no interactions"),
        ("user_id,movie\n1,2\n", "no column 'item_id'"),
        ("user_id,item_id\n1,5\n,6\n", r"column 'user_id': 1 rows have no id \(rows 1\)"),
    ],
)
def test_files_that_hold_no_interactions_are_refused(small, content, word):
    (small / "pairs.csv").write_text(content)
    with pytest.raises(InvalidInput, match=word):
        deal(small)


def test_items_are_checked_as_they_are_read(small):
    (small / "pairs.csv").write_text("user_id,item_id\n1,5\n")
    write_items(small, [5, 6, 5])
    with pytest.raises(InvalidInput, match=r"items.parquet: 1 item ids occur more than once"):
        deal(small)
    vectors = np.ones((4, 2))
    vectors[[1, 3]] = np.nan
    np.save(small / "items.npy", vectors)
    with pytest.raises(InvalidInput, match=r"items.npy: 2 item vectors hold NaN or infinity \(rows 1, 3\)"):
        read_items(Location.of(small / "items.npy"))
    with pytest.raises(UnreadableFile, match="no such file"):
        read_items(Location.of(small / "gone.npy"))
