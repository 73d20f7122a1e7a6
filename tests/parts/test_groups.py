"""The join of people with a table in files finds the cells and refuses what the join in memory finds and refuses."""

import time
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attrcloak.data.ids import Ids
from attrcloak.data.people_files import read_people
from attrcloak.errors import InvalidInput
from attrcloak.parts import Groups, Location, groups, join_people, open_parts, people_scan

TABLE = [*range(0, 60, 2), 1001, 1003]
CSV = ["user_id,gender,age,town"] + [
    f"{i},{'FM'[i % 2] if i % 7 else ''},{18 + i if i % 5 else ''},{['north', 'south ', 'north '][i % 3]}"
    for i in range(50)
]


@pytest.fixture
def world(tmp_path, write_parquet, monkeypatch):
    monkeypatch.setattr(people_scan, "_ROWS", 16)
    monkeypatch.chdir(tmp_path)
    x = np.zeros((len(TABLE), 3), dtype=np.float32)
    write_parquet(tmp_path / "table" / "a.parquet", x[:10], TABLE[:10])
    write_parquet(tmp_path / "table" / "b.parquet", x[10:], TABLE[10:])
    (tmp_path / "people.csv").write_text("\n".join(CSV) + "\n")
    return tmp_path


def joined(world, people="people.csv", requests=None, **options) -> Groups:
    folder = world / f"join{len(list(world.iterdir()))}"
    folder.mkdir()
    place = None if requests is None else Location.of(requests)
    parts = open_parts(Location.of("table"))
    found, _ = join_people(parts, Location.of(people), place, folder, table="table", **options)
    assert {path.name for path in folder.iterdir()} == {"rows"}
    return found


def same_as_in_memory(found: Groups, people) -> None:
    aligned = people.align(Ids(np.array(TABLE)))
    rows = np.concatenate([found.rows(0).read(0, 10), found.rows(1).read(0, len(TABLE))])
    assert tuple(found.classes) == people.names
    for j, name in enumerate(people.names):
        assert found.classes[name] == people[name].classes
        np.testing.assert_array_equal(found.codes[rows, j], aligned[name].codes)
        np.testing.assert_array_equal(found.marks[rows, j], aligned[name].marks)
    cells = aligned.cells()
    np.testing.assert_array_equal(found.key.combinations, cells.key.combinations)
    np.testing.assert_array_equal(found.cell_of_group[rows], cells.of_user)
    np.testing.assert_array_equal(found.counts, np.bincount(rows, minlength=len(found.counts)))
    assert found.moving == cells.moves.sum()


def test_ids_are_read_no_further_once_the_people_are_found_to_be_of_no_use(world):
    read = []

    def ids(first):
        for start in range(0, 100_000, 10):
            read.append(start)
            time.sleep(0.001)
            yield np.arange(start, start + 10)

    with pytest.raises(InvalidInput, match="there is no column 'height'"):
        join_people(
            [SimpleNamespace(ids=ids, rows=100_000, id_column=None)], Location.of("people.csv"), None, world,
            table="table", columns=["height"],
        )  # fmt: skip
    assert len(read) < 5000


def test_cells_are_those_of_the_join_in_memory(world):
    same_as_in_memory(joined(world), read_people("people.csv"))
    same_as_in_memory(joined(world, columns=["town"]), read_people("people.csv", columns=["town"]))


def test_people_may_lie_in_many_files_of_any_kind_and_order(world):
    table = pa.table({"user_id": list(range(50))[::-1], "gender": [line.split(",")[1] or None for line in CSV[:0:-1]]})
    (world / "people").mkdir()
    pq.write_table(table.slice(0, 30), "people/x.parquet")
    pq.write_table(table.slice(30), "people/y.parquet")
    same_as_in_memory(joined(world, "people"), read_people("people.csv", columns=["gender"]))


def test_numbers_with_gaps_are_the_classes_they_are_in_memory(world):
    values = [None if i % 9 == 0 else float(i % 4) for i in range(50)]
    ages = [None if i % 9 == 0 else 20.5 + i for i in range(50)]
    people = pa.table({"user_id": range(50), "rating": values, "age": ages, "level": [i % 3 for i in range(50)]})
    pq.write_table(people, "people.parquet")
    same_as_in_memory(joined(world, "people.parquet"), read_people("people.parquet"))


def test_requests_mark_who_asks_for_what(world):
    (world / "asks.csv").write_text("user_id,attribute\n" + "4,gender\n6,town\n4,town\n7,gender\n6,town\n")
    asked = read_people("people.csv").mark({"gender": [4, 7], "town": [6, 4, 6]})
    same_as_in_memory(joined(world, requests="asks.csv"), asked)


def test_what_was_saved_is_loaded_and_rows_can_be_sent(world):
    import pickle

    found = joined(world)
    found.save(world / "groups.json")
    again = Groups.load(world / "groups.json", found.rows_file)
    same_as_in_memory(again, read_people("people.csv"))
    sent = pickle.loads(pickle.dumps(again.rows(1)))  # noqa: S301
    assert sent.file is None
    np.testing.assert_array_equal(sent.read(3, 9), found.rows(1).read(3, 9))


BAD = {
    "repeated numbers": (
        ["1,F", "2,M", "1,M", "2,F", "5,F"],
        {},
        "2 ids occur more than once (1 in other.csv row 0 and other.csv row 2; 2 in",
    ),
    "repeated text": (
        ["ann,F", "bo,M", "ann,M"],
        {},
        "1 ids occur more than once (ann in other.csv row 0 and other.csv row 2)",
    ),
    "strangers": (["ann,F", "bo,M"], {}, "none of the 32 users of the table is among the 2 listed"),
    "no id": ([",F", "2,M"], {}, "1 rows have no id (rows 0)"),
    "no rows": ([], {}, "no rows"),
    "misspelt": (["2,F"], {"columns": ["gendre"]}, "did you mean 'gender'"),
    "names": ([f"{i},n{i}" for i in range(300)], {}, "more distinct values than the 200"),
}


@pytest.mark.parametrize(("lines", "options", "word"), BAD.values(), ids=BAD)
def test_bad_people_are_refused_with_names_and_counts(world, lines, options, word):
    (world / "other.csv").write_text("\n".join(["user_id,gender", *lines]) + "\n")
    with pytest.raises(InvalidInput) as error:
        joined(world, "other.csv", **options)
    assert "other.csv" in str(error.value) or "table" in str(error.value)
    assert word in str(error.value), str(error.value)


def test_ids_alone_are_no_people(world):
    (world / "other.csv").write_text("user_id\n2\n")
    with pytest.raises(InvalidInput, match="no attributes"):
        joined(world, "other.csv")


def test_bad_requests_are_refused_with_names_and_counts(world):
    for content, word in (
        ("user,attribute\n4,gender\n", "no column user_id; .*, and there are: user, attribute"),
        ("user_id,attribute\n4,height\n", "requests for height"),
        (
            "user_id,attribute\n4,gender\n777,gender\n778,gender\n",
            r"2 for gender\): 777 \(asks.csv row 1\), 778 \(asks",
        ),
    ):
        (world / "asks.csv").write_text(content)
        with pytest.raises(InvalidInput, match=word):
            joined(world, requests="asks.csv")


def test_a_user_who_is_twice_in_the_table_is_named(world, write_parquet):
    write_parquet(world / "table" / "c.parquet", np.zeros((2, 3), dtype=np.float32), [4, 2000])
    with pytest.raises(
        InvalidInput, match=r"table: 1 ids occur more than once \(4 in [ab]\.parquet row \d+ and c\.parquet row 0\)"
    ):
        joined(world)


def test_the_sample_is_of_known_users_with_small_classes_whole(tmp_path, write_parquet, monkeypatch):
    monkeypatch.setattr(groups, "MOST_SAMPLED", 400)
    rare = np.arange(6000) % 600 == 0
    pq.write_table(
        pa.table({"user_id": np.arange(6000), "kind": np.where(rare, "rare", "plain")}), tmp_path / "people.parquet"
    )
    x = np.zeros((8000, 2), dtype=np.float32)
    samples = []
    for name, order, cuts in (("one", np.arange(8000), [0, 8000]), ("two", np.arange(8000)[::-1], [0, 3000, 8000])):
        for low, high in pairwise(cuts):
            write_parquet(tmp_path / name / f"{low}.parquet", x[low:high], order[low:high])
        (tmp_path / f"join-{name}").mkdir()
        parts = open_parts(Location.of(tmp_path / name))
        _, rows = join_people(
            parts, Location.of(tmp_path / "people.parquet"), None, tmp_path / f"join-{name}", table=name
        )
        samples.append(order[rows])
    np.testing.assert_array_equal(*samples)
    chosen = samples[0]
    assert chosen.max() < 6000
    assert rare[chosen[chosen < 6000]].sum() == 10
    assert 250 < len(chosen) < 450
