"""Pieces hold every row once, in batches that are neither too large nor too many."""

import numpy as np
import pytest

from attrcloak.moments.pieces import rounds

DIM, ROWS = 5, 160


@pytest.mark.parametrize("largest", [500, 5000])
def test_rounds_hold_every_row_once_within_bounds_and_pad_little(largest):
    sizes = np.array([0, 1, 19, 20, 21, largest, 7, 0, 163, 60])
    starts = np.cumsum(sizes) - sizes + 11
    rows, padded = [], 0
    for first, *others in rounds(starts, sizes, DIM, ROWS * DIM):
        np.testing.assert_array_equal(first.lanes, np.arange(len(first.cells)))
        for batch in (first, *others):
            np.testing.assert_array_equal(first.cells[batch.lanes], batch.cells)
            assert batch.lengths[0] == batch.lengths.max() >= batch.lengths.min() >= 1
            assert len(batch.cells) * max(batch.lengths[0], DIM) <= ROWS
            padded += len(batch.cells) * batch.lengths[0]
            for cell, start, length in zip(batch.cells, batch.starts, batch.lengths, strict=True):
                assert starts[cell] <= start
                assert start + length <= starts[cell] + sizes[cell]
                rows += range(start, start + length)
    assert sorted(rows) == list(range(11, 11 + sizes.sum()))
    assert padded <= sizes.sum() + 2 * ROWS


def test_thousands_of_cells_and_a_large_one_are_as_many_batches_as_their_rows_fill():
    sizes = np.random.default_rng(0).integers(0, 60, size=5000)
    sizes[77] = 1_000_000
    batches = [batch for several in rounds(np.cumsum(sizes) - sizes, sizes, 64, 1 << 24) for batch in several]
    assert len(batches) == 4 + 3  # of full pieces and of tails


def test_lanes_of_about_one_depth_share_their_batches():
    """41 and 20 full pieces in batches of 8 go 8 deep, in 6 and 3 lanes, of which the shallowest, of one, is left."""
    several = list(rounds(np.array([0, 820]), np.array([820, 400]), DIM, ROWS * DIM))
    assert [len(batches) for batches in several] == [8, 1]
    assert [len(batch.cells) for batch in several[0]] == [8, 8, 8, 8, 7, 7, 7, 7]
    assert several[1][0].cells.tolist() == [0]
