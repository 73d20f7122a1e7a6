"""Cells: one combination of classes a user, -1 for unknown or not marked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrcloak.errors import InvalidInput, UnknownCell
from attrcloak.moments import CellKey

NAMES = ("gender", "age")
CLASSES = (("F", "M"), ("young", "old"))


def test_every_user_is_in_the_cell_of_its_own_codes():
    codes = np.array([[0, 1], [-1, -1], [1, 0], [0, 1], [0, -1]])
    key, cells = CellKey.of(NAMES, CLASSES, codes)
    np.testing.assert_array_equal(key.combinations[cells], codes)
    assert len(key) == 4
    assert key.unmarked.sum() == 1


@given(st.integers(0, 10_000), st.integers(0, 60), st.integers(1, 4), st.sampled_from([2, 5, 2**31 - 2]))
def test_cells_come_out_as_numpy_sorts_distinct_rows(seed, users, attributes, classes):
    codes = np.random.default_rng(seed).integers(-1, classes, size=(users, attributes), dtype=np.int32)
    key, cells = CellKey.of(["a"] * attributes, [["0"]] * attributes, codes)
    combinations, inverse = np.unique(codes, axis=0, return_inverse=True)
    np.testing.assert_array_equal(key.combinations, combinations)
    np.testing.assert_array_equal(cells, inverse.reshape(-1))


def test_locate_finds_the_same_cells_again_and_lets_unmarked_users_pass():
    codes = np.array([[0, 1], [1, 0]])
    key, cells = CellKey.of(NAMES, CLASSES, codes)
    np.testing.assert_array_equal(key.locate(codes), cells)
    np.testing.assert_array_equal(key.locate(np.array([[-1, -1]])), [-1])


def test_an_unseen_combination_is_named_and_counted():
    key, _ = CellKey.of(NAMES, CLASSES, np.array([[0, 1]]))
    with pytest.raises(UnknownCell, match=r"gender=M, age=young \(2 users\)"):
        key.locate(np.array([[1, 0], [1, 0], [0, 1]]))


def test_a_cell_listed_twice_is_refused():
    with pytest.raises(InvalidInput, match="listed twice"):
        CellKey(NAMES, CLASSES, np.array([[0, 0], [0, 0]]))
