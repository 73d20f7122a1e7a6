"""The join by file finds what a dictionary finds, by position and by bucket."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrcloak.parts import id_join
from attrcloak.parts.id_join import Listed, join
from attrcloak.parts.id_keys import KeyFile, keys_of


def listed(folder, name, ids, values) -> Listed:
    file = KeyFile(folder / f"{name}.keys")
    for start in range(0, len(ids), 7):
        file.add(keys_of(pa.array(ids[start : start + 7]), "id"))
    path = folder / f"{name}.values"
    np.array(values, dtype=np.int32).tofile(path)
    return Listed(file, path)


def pairs_of(ids) -> set[tuple[int, int]]:
    """Their keys."""
    keys = [keys_of(pa.array([id_]), "id") for id_ in ids]
    return {(int(key.low[0]), int(key.highs[0])) for key in keys}


DENSE = st.integers(-20, 60)
SPARSE = st.one_of(st.integers(-(2**62), 2**62), st.integers(0, 30))
TEXT = st.text("abc", max_size=3)


@pytest.mark.parametrize("ids", [DENSE, SPARSE, TEXT], ids=["dense", "sparse", "text"])
@pytest.mark.parametrize("most_scattered", [0, id_join._MOST_SCATTERED], ids=["sorted", "scattered"])
def test_a_join_finds_what_a_dictionary_finds(ids, most_scattered, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(id_join, "_MOST_SCATTERED", most_scattered)
    monkeypatch.setattr(id_join, "ROWS_PER_BUCKET", 5)
    monkeypatch.setattr(id_join, "ROWS_PER_CHUNK", 8)
    monkeypatch.setattr("attrcloak.parts.id_keys.ROWS_PER_CHUNK", 8)

    @given(
        st.lists(ids, min_size=1, max_size=40),
        st.lists(ids, min_size=1, max_size=40),
        st.lists(ids, max_size=20),
        st.randoms(),
    )
    def check(people, table, asking, random):
        folder = tmp_path_factory.mktemp("join")
        groups = [random.randrange(5) for _ in people]
        asked = [random.randrange(4) for _ in asking]  # 3: of the users whose requests count
        lists = listed(folder, "people", people, groups), listed(folder, "asks", asking, asked)
        rows = listed(folder, "table", table, []).keys
        found = join(lists[0], rows, lists[1], 3, folder / "groups", folder / "marks")
        last = dict(zip(people, groups, strict=True))
        again = {id_ for id_ in people if people.count(id_) > 1}
        got = np.fromfile(folder / "groups", dtype=np.int32)
        if not again:
            assert got.tolist() == [last.get(id_, -1) for id_ in table]
        assert found.in_people.count == len(again)
        assert found.in_table.count == len({id_ for id_ in table if table.count(id_) > 1})
        assert found.matched == sum(id_ in last for id_ in table)
        absent = [sum(a == j and id_ not in last for id_, a in zip(asking, asked, strict=True)) for j in range(3)]
        assert found.absent_asks.tolist() == absent
        elsewhere = [sum(a == j and id_ not in table for id_, a in zip(asking, asked, strict=True)) for j in range(3)]
        assert found.elsewhere_asks.tolist() == elsewhere
        named = {id_ for id_, a in zip(asking, asked, strict=True) if a == 3}
        assert found.absent_named.pairs == pairs_of(named - last.keys())
        assert found.elsewhere_named.pairs == pairs_of(named - set(table))
        others = {id_ for id_, a in zip(asking, asked, strict=True) if a < 3}
        assert found.absent.pairs == pairs_of(others - last.keys())
        masks = np.fromfile(folder / "marks", dtype=np.uint64)
        expected = [sum({1 << a for other, a in zip(asking, asked, strict=True) if other == id_}) for id_ in table]
        assert [m for m, id_ in zip(masks.tolist(), table, strict=True)] == expected
        left = {path.name for path in folder.iterdir()}
        assert all(name.split(".")[0] in ("people", "table", "asks", "groups", "marks") for name in left)

    check()


def test_repeated_ids_are_named_by_their_keys(tmp_path):
    people = listed(tmp_path, "people", [4, 5, 4, 4, 7, 5], [0] * 6)
    table = listed(tmp_path, "table", list(range(10)), []).keys
    found = join(people, table, None, 1, tmp_path / "groups", None)
    assert found.in_people.pairs == {(4, 0), (5, 0)}
