"""Erasers: apply, compose, invert, save and load."""

import numpy as np
import pytest

from attrcloak.errors import InvalidInput, NotSupported, UnreadableFile
from attrcloak.moments import CellKey, Eraser

CODES = np.array([[0], [1], [-1], [1], [0], [-1]])
KEY, CELLS = CellKey.of(("gender",), (("F", "M"),), CODES)


def some_eraser(seed: int = 0, dim: int = 3) -> Eraser:
    rng = np.random.default_rng(seed)
    return Eraser(KEY, rng.normal(size=(len(KEY), dim, dim)) + 2 * np.eye(dim), rng.normal(size=(len(KEY), dim)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_users_who_asked_for_nothing_come_out_bit_identical_and_the_type_stays(dtype):
    x = np.random.default_rng(1).normal(size=(6, 3)).astype(dtype)
    before = x.copy()
    y = some_eraser().apply(x, CELLS)
    assert y.dtype == dtype
    assert y[[2, 5]].tobytes() == x[[2, 5]].tobytes()
    assert not np.array_equal(y[0], x[0])
    np.testing.assert_array_equal(x, before)


def test_each_user_gets_the_map_of_its_own_cell():
    eraser = some_eraser()
    x = np.random.default_rng(1).normal(size=(6, 3))
    y = eraser.apply(x, CELLS)
    for row, cell in enumerate(CELLS):
        np.testing.assert_allclose(y[row], eraser.matrices[cell] @ x[row] + eraser.offsets[cell])


def test_composing_is_applying_one_after_the_other():
    x = np.random.default_rng(1).normal(size=(6, 3))
    first, second = some_eraser(0), some_eraser(1)
    np.testing.assert_allclose(
        first.compose(second).apply(x, CELLS), second.apply(first.apply(x, CELLS), CELLS), rtol=1e-12
    )


def test_the_inverse_undoes():
    x = np.random.default_rng(1).normal(size=(6, 3))
    eraser = some_eraser()
    np.testing.assert_allclose(eraser.inverse().apply(eraser.apply(x, CELLS), CELLS), x, rtol=1e-9)


def test_a_projection_cannot_be_inverted_and_says_for_which_cell():
    matrices = some_eraser().matrices.copy()
    matrices[1] = np.diag([1.0, 1.0, 0.0])
    with pytest.raises(NotSupported, match="gender="):
        Eraser(KEY, matrices, np.zeros((len(KEY), 3))).inverse()


def test_a_file_gives_the_same_eraser_back(tmp_path):
    eraser = some_eraser()
    eraser.save(tmp_path / "map.safetensors")
    again = Eraser.load(tmp_path / "map.safetensors")
    np.testing.assert_array_equal(again.matrices, eraser.matrices)
    np.testing.assert_array_equal(again.offsets, eraser.offsets)
    assert again.key.classes == KEY.classes
    assert (tmp_path / "map.safetensors").stat().st_mode & 0o077 == 0, "a secret is for its owner only"
    assert [p.name for p in tmp_path.iterdir()] == ["map.safetensors"]


def test_other_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "map.safetensors"
    some_eraser().save(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UnreadableFile, match="cannot be read"):
        Eraser.load(path)
    with pytest.raises(UnreadableFile):
        Eraser.load(tmp_path / "absent.safetensors")


def test_a_table_of_another_width_is_refused():
    with pytest.raises(InvalidInput, match="3 dimensions"):
        some_eraser().apply(np.zeros((6, 4)), CELLS)
