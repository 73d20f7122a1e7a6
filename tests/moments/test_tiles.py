"""Blocks, tiles, threads and memory layouts change how fast the two passes are, and nothing else."""

import sys
import threading
from itertools import pairwise

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from attrcloak.errors import InvalidInput
from attrcloak.moments import CellKey, Eraser, cell_moments, tile_passes, tiles

USERS, DIM, CELLS = 997, 4, 7
KEY = CellKey(("a",), (tuple("012345"),), np.arange(-1, 6)[:, None])


def table(dtype=np.float32):
    """Two large cells, one of a single user, one empty, and the one of those who asked for nothing."""
    rng = np.random.default_rng(0)
    cells = rng.choice([0, 1, 2, 3, 4], size=USERS, p=[0.3, 0.5, 0.1, 0.08, 0.02])
    cells[USERS // 2] = 6
    return (rng.normal(size=(USERS, DIM)) + cells[:, None]).astype(dtype), cells


def eraser() -> Eraser:
    rng = np.random.default_rng(1)
    return Eraser(KEY, rng.normal(size=(CELLS, DIM, DIM)), rng.normal(size=(CELLS, DIM)))


def both_passes(x, cells):
    moments = cell_moments(x, cells, KEY)
    return moments.count, moments.mean, moments.scatter, eraser().apply(x, cells)


@pytest.fixture(params=["numpy", "compiled"])
def passes(request, monkeypatch):
    """Who does the passes over tiles, however small the table is."""
    if request.param == "compiled":
        pytest.importorskip("numba")
        monkeypatch.setattr(tile_passes, "NUMBERS_WORTH_COMPILING", 0)
    return request.param


@pytest.fixture
def small_tiles(monkeypatch, passes):
    """Tiles of at most 16 rows and 4 runs in blocks of 160 rows, so that cells span tiles and blocks in every way."""
    monkeypatch.setattr(tiles, "NUMBERS_PER_TILE", 16 * DIM)
    monkeypatch.setattr(tiles, "NUMBERS_PER_BLOCK", 160 * DIM)
    monkeypatch.setattr(tiles, "ROWS_PER_CELL", 1)


@pytest.mark.usefixtures("small_tiles")
def test_every_row_is_in_one_tile_under_its_own_cell():
    x, cells = table()
    cells[::7] = -1
    for block in tiles.blocks_by_cell(x, cells, CELLS):
        inside = cells[block.rows]
        np.testing.assert_array_equal(block.vectors, x[block.rows])
        assert sorted(np.concatenate([tile.rows for tile in block.tiles])) == list(range(len(inside)))
        for tile in block.tiles:
            np.testing.assert_array_equal(np.repeat(tile.cells, np.diff(tile.edges)), inside[tile.rows])
            assert len(tile.rows) <= 16
            assert len(tile.cells) <= 4
            assert (np.diff(tile.cells) > 0).all()
            for begin, end in pairwise(tile.edges):
                assert (np.diff(tile.rows[begin:end]) > 0).all()


def test_compiled_and_numpy_agree_to_rounding(monkeypatch):
    pytest.importorskip("numba")
    x, cells = table()
    x += 1e4
    expected = both_passes(x, cells)
    monkeypatch.setattr(tile_passes, "NUMBERS_WORTH_COMPILING", 0)
    assert type(tile_passes.tile_passes(x.size)).__name__ == "CompiledPasses"
    count, mean, scatter, moved = both_passes(x, cells)
    np.testing.assert_array_equal(count, expected[0])
    np.testing.assert_allclose(mean, expected[1], rtol=1e-15)
    np.testing.assert_allclose(scatter, expected[2], rtol=1e-11, atol=1e-11)
    np.testing.assert_array_equal(moved, expected[3])


@pytest.mark.usefixtures("passes")
def test_small_tiles_give_the_same_as_one_tile(request):
    x, cells = table()
    whole = both_passes(x, cells)
    request.getfixturevalue("small_tiles")
    for one, many in zip(whole, both_passes(x, cells), strict=True):
        np.testing.assert_allclose(many, one, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("small_tiles")
def test_the_number_of_threads_changes_no_bit_and_is_left_as_it_was():
    x, cells = table()
    results = []
    for threads in (1, 2, 5):
        with threadpool_limits(threads, "blas"):
            results.append(both_passes(x, cells))
            assert {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"} == {threads}
    for other in results[1:]:
        for one, more in zip(results[0], other, strict=True):
            assert one.tobytes() == more.tobytes()


def test_tiles_go_to_threads_that_have_one_blas_thread_each():
    def told(_):
        return threading.get_ident(), *(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")

    with threadpool_limits(3, "blas"):
        with tiles.map_over_tiles(tiles.rows_per_tile(DIM) + 1, DIM) as over:
            several = [*over(told, [None] * 20)]
        with tiles.map_over_tiles(tiles.rows_per_tile(DIM), DIM) as over:
            one = [*over(told, [None])]
    assert threading.get_ident() not in {thread for thread, *_ in several}
    assert {count for _, *counts in several for count in counts} == {1}
    assert one[0][0] == threading.get_ident()


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("layout", ["read-only", "memory-mapped", "by columns", "strided"])
def test_type_and_layout_change_nothing_and_the_input_is_left_alone(dtype, layout, tmp_path):
    x, cells = table(dtype)
    expected = both_passes(x.astype(np.float64), cells)
    if layout == "read-only":
        x.setflags(write=False)
    elif layout == "memory-mapped":
        np.save(tmp_path / "x.npy", x)
        x = np.load(tmp_path / "x.npy", mmap_mode="r")
    elif layout == "by columns":
        x = np.asfortranarray(x)
    else:
        x = np.repeat(x, 2, axis=1)[:, ::2]
    before = np.array(x)
    count, mean, scatter, moved = both_passes(x, cells)
    for given, wanted in zip((count, mean, scatter), expected, strict=False):
        np.testing.assert_array_equal(given, wanted)
    assert moved.dtype == dtype
    np.testing.assert_array_equal(moved[cells > 0], expected[3][cells > 0].astype(dtype))
    assert moved[cells == 0].tobytes() == before[cells == 0].tobytes()
    np.testing.assert_array_equal(x, before)


@pytest.mark.usefixtures("small_tiles")
def test_the_result_can_go_to_a_memory_map(tmp_path):
    x, cells = table()
    file = np.lib.format.open_memmap(tmp_path / "moved.npy", mode="w+", dtype=x.dtype, shape=x.shape)
    assert eraser().apply(x, cells, out=file) is file
    file.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "moved.npy"), eraser().apply(x, cells))


@pytest.mark.parametrize(
    "out", [np.empty((USERS, DIM)), np.empty((USERS, DIM + 1), np.float32), np.empty((DIM, USERS), np.float32).T]
)
def test_a_place_that_does_not_fit_the_table_is_refused(out):
    with pytest.raises(InvalidInput, match="expected float32"):
        eraser().apply(*table(), out=out)


@pytest.mark.usefixtures("small_tiles")
def test_users_in_no_cell_stay_wherever_they_stand():
    x, cells = table()
    cells[::3] = -1
    moved = eraser().apply(x, cells)
    assert moved[::3].tobytes() == x[::3].tobytes()
    asked = cells > 0
    np.testing.assert_allclose(moved[asked], eraser().apply(x[asked], cells[asked]), rtol=1e-6)


def test_as_many_cells_as_users_and_more_than_sixteen_bits_count():
    x = np.random.default_rng(2).normal(size=(70_000, 1))
    key = CellKey(("a",), (tuple(map(str, range(70_000))),), np.arange(70_000)[:, None])
    cells = np.random.default_rng(3).permutation(70_000)
    moments = cell_moments(x, cells, key)
    np.testing.assert_array_equal(moments.mean[cells], x)
    assert (moments.count == 1).all()
    assert not moments.scatter.any()
    shifts = np.arange(70_000.0)[:, None]
    np.testing.assert_array_equal(Eraser(key, np.ones((70_000, 1, 1)), shifts).apply(x, cells), x + shifts[cells])


@pytest.mark.parametrize(
    "pass_over", [lambda x, cells: cell_moments(x, cells, KEY), lambda *table: eraser().apply(*table)]
)
def test_a_table_and_cells_of_different_lengths_are_refused(pass_over):
    x, cells = table()
    with pytest.raises(InvalidInput, match=r"997 rows need the cell of each"):
        pass_over(x, np.append(cells, 1))


def test_without_a_place_to_keep_it_in_every_process_compiles_for_itself(monkeypatch):
    caching = pytest.importorskip("numba.core.caching")
    compiling = pytest.importorskip("attrcloak.moments.compiling")
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])

    def twice(number):
        return number + number

    assert compiling.compiled("contract")(twice)(4) == 8


def test_without_numba_large_tables_go_the_numpy_way(monkeypatch):
    monkeypatch.setitem(sys.modules, "attrcloak.moments.compiled_passes", None)
    tile_passes._compiled.cache_clear()
    try:
        assert isinstance(tile_passes.tile_passes(1 << 30), tile_passes.NumpyPasses)
    finally:
        tile_passes._compiled.cache_clear()
