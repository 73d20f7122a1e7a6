"""What Numba has no words for does what NumPy's word for it does."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba")

from numba.core.errors import TypingError

from attrcloak.moments.compiling import compiled
from attrcloak.moments.machine_calls import add_gram, dsyrk_address, fetch_ahead


@compiled()
def gram_of_the_first(dsyrk, x, rows, gram):
    add_gram(dsyrk, x[:rows], gram)


@compiled()
def fetched(x):
    for row in range(len(x)):
        fetch_ahead(x, row, x.shape[1] - 1)


@pytest.mark.parametrize(("rows", "dim"), [(0, 3), (1, 1), (5, 3), (128, 64), (300, 65)])
def test_the_gram_matrix_is_added_below_the_diagonal_and_nothing_is_written_above(rows, dim):
    rng = np.random.default_rng(rows + dim)
    x, gram = rng.normal(size=(rows + 2, dim)), rng.normal(size=(dim, dim))
    before = gram.copy()
    gram_of_the_first(dsyrk_address(), x, rows, gram)
    expected = before + x[:rows].T @ x[:rows]
    below = np.tril_indices(dim)
    np.testing.assert_allclose(gram[below], expected[below], rtol=1e-13, atol=1e-13)
    above = np.triu_indices(dim, 1)
    np.testing.assert_array_equal(gram[above], before[above])


@pytest.mark.parametrize("x", [np.ones((4, 3), np.float32), np.ones((3, 4)).T, np.ones(4)])
def test_arrays_of_another_type_or_layout_are_refused(x):
    @compiled()
    def gram(dsyrk, x, gram):
        add_gram(dsyrk, x, gram)

    with pytest.raises(TypingError, match="rows in one piece"):
        gram(dsyrk_address(), x, np.zeros((3, 3)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fetching_ahead_changes_nothing(dtype):
    x = np.arange(12, dtype=dtype).reshape(4, 3)
    x.setflags(write=False)
    fetched(x)
    np.testing.assert_array_equal(x, np.arange(12, dtype=dtype).reshape(4, 3))


def test_a_later_process_takes_the_kept_code_up_whatever_the_address(tmp_path):
    """Compiled once, called twice: the second process has the routine elsewhere and compiles nothing."""
    code = """
import numpy as np
from attrcloak.moments import compiled_passes, tiles
x, rows = np.ones((9, 3), np.float32), np.arange(9)
tile = tiles.Tile(rows, np.array([0]), np.array([0, 9]))
mean, scatter = compiled_passes.CompiledPasses().tile_moments(x, tile)
assert (mean == 1).all() and (scatter == 0).all()
print(sum(compiled_passes._moments.stats.cache_misses.values()))
"""
    misses = [
        int(
            subprocess.run(
                [sys.executable, "-c", code],
                env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for _ in range(2)
    ]
    assert misses == [1, 0]
