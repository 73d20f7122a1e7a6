"""The null draw: a permutation of labels from the key and the ids alone."""

import numpy as np

from attrcloak.unlearning.null_draw import null_labels

IDS = np.arange(400)
CODES = np.random.default_rng(0).integers(0, 3, (400, 2)).astype(np.int32)


def test_class_counts_and_marks_are_kept_and_labels_are_not():
    codes = CODES.copy()
    codes[:50, 0] = -1
    drawn = null_labels(codes, IDS, b"key")
    np.testing.assert_array_equal(drawn == -1, codes == -1)
    for column in (0, 1):
        np.testing.assert_array_equal(np.bincount(drawn[:, column] + 1), np.bincount(codes[:, column] + 1))
    agreement = (drawn[50:] == codes[50:]).mean()
    assert 0.25 < agreement < 0.42, "as often as chance, one in three"


def test_combinations_travel_together_where_everybody_marked_the_same():
    drawn = null_labels(CODES, IDS, b"key")
    assert sorted(map(tuple, drawn.tolist())) == sorted(map(tuple, CODES.tolist()))


def test_the_draw_belongs_to_users_not_to_rows():
    order = np.random.default_rng(1).permutation(400)
    np.testing.assert_array_equal(null_labels(CODES[order], IDS[order], b"key"), null_labels(CODES, IDS, b"key")[order])


def test_another_key_gives_another_draw():
    assert (null_labels(CODES, IDS, b"key") != null_labels(CODES, IDS, b"other")).any()
