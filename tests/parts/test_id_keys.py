"""Ids as keys: the same user has the same key however the id is written, and no two ids share one."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrcloak.data.ids import Ids
from attrcloak.errors import InvalidInput
from attrcloak.parts.id_keys import KeyFile, keys_of, uniform


def pairs(column) -> list[tuple[int, int]]:
    keys = keys_of(column, "user_id")
    return list(zip(keys.low.tolist(), keys.highs.tolist(), strict=True))


ANY_ID = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str), st.text(max_size=40), st.from_regex(r"0*[0-9]{17,20}", fullmatch=True)
)


@given(st.lists(ANY_ID, min_size=1, max_size=40))
def test_two_ids_have_one_key_exactly_when_they_are_one_user(texts):
    keys = pairs(pa.array(texts, type=pa.string()))
    for a, key_a in zip(texts, keys, strict=True):
        for b, key_b in zip(texts, keys, strict=True):
            assert (a == b) == (key_a == key_b), (a, b)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30))
def test_numbers_and_the_same_numbers_as_text_are_the_same_users(numbers):
    as_numbers = pairs(np.array(numbers, dtype=np.int64))
    assert as_numbers == pairs(pa.array(numbers))
    assert as_numbers == pairs(pa.array([str(number) for number in numbers]))
    assert as_numbers == pairs(pa.array([*map(str, numbers), "x"]))[:-1]


def test_batches_slices_and_dictionaries_make_no_difference():
    texts = pa.array(["ann", "bob", "", "cy" * 30, "7", "dörte"])
    whole = pairs(texts)
    assert pairs(texts.slice(2, 3)) == whole[2:5]
    assert pairs(texts.dictionary_encode()) == whole
    assert pairs(texts.cast(pa.large_string())) == whole


def test_many_similar_texts_have_keys_of_their_own():
    texts = [f"user-{number:09d}@example.org" for number in range(100_000)] + [f"{n:032x}" for n in range(100_000)]
    keys = keys_of(pa.array(texts), "user_id")
    assert len(np.unique(keys.low)) == len(texts) == len(np.unique(keys.highs))


def test_missing_ids_are_counted_and_other_types_refused():
    with pytest.raises(InvalidInput, match=r"2 rows have no id \(rows 11, 12\)"):
        keys_of(pa.array(["a", None, None]), "user_id", first_row=10)
    with pytest.raises(InvalidInput, match="whole numbers or text"):
        keys_of(pa.array([1.5]), "user_id")
    with pytest.raises(InvalidInput, match=r"2\^63"):
        keys_of(pa.array([2**63], type=pa.uint64()), "user_id")


def test_a_file_of_keys_gives_them_back_also_where_text_comes_late(tmp_path):
    file = KeyFile(tmp_path / "keys")
    columns = [pa.array([5, -3, 9]), pa.array([], type=pa.int64()), pa.array(["x", "12", "y"]), pa.array([4])]
    for column in columns:
        file.add(keys_of(column, "user_id"))
    assert (file.rows, file.has_text) == (7, True)
    [(start, keys)] = list(file.chunks())
    expected = [pair for column in columns for pair in pairs(column)]
    assert start == 0
    assert list(zip(keys.low.tolist(), keys.highs.tolist(), strict=True)) == expected
    file.remove()
    assert not list(tmp_path.iterdir())


def test_a_sample_by_hash_is_even():
    values = uniform(keys_of(np.arange(100_000), "user_id")).astype(np.float64) / 2.0**64
    counts = np.bincount((values * 20).astype(int), minlength=20)
    assert abs(counts - 5000).max() < 5 * np.sqrt(5000)


def test_ids_in_memory_agree():
    """Keys are equal exactly where ``Ids.rows`` finds a user."""
    table, wanted = np.array([1, 10, 100]), ["1", "01", "100", "x"]
    found = Ids(table).rows(np.array(wanted))
    by_key = [pairs(table).index(key) if key in pairs(table) else -1 for key in pairs(pa.array(wanted))]
    assert by_key == found.tolist()
