"""Who is known and who is attacked."""

import numpy as np
import pytest

from attrcloak.auditing import PAPER, SOUND, Protocol
from attrcloak.auditing.protocols import rotations
from attrcloak.errors import InvalidSettings


@pytest.mark.parametrize(("known", "count"), [(0.8, 5), (0.2, 5), (0.5, 2), (0.05, 5), (0.7, 4)])
def test_rotations_keep_shares_in_every_class(known: float, count: int) -> None:
    codes = np.repeat([0, 1, 2], [500, 200, 40])
    splits = rotations(codes, known, 5, 0)
    assert len(splits) == count
    for split in splits:
        for k, size in enumerate((500, 200, 40)):
            assert abs(split[codes == k].sum() - known * size) <= 1


def test_80_percent_in_five_rotations_attacks_everybody_once() -> None:
    codes = np.random.default_rng(0).integers(3, size=301)
    np.testing.assert_array_equal(np.sum([~split for split in rotations(codes, 0.8, 5, 1)], axis=0), 1)


def test_20_percent_in_five_rotations_knows_everybody_once() -> None:
    codes = np.random.default_rng(0).integers(3, size=301)
    np.testing.assert_array_equal(np.sum(rotations(codes, 0.2, 5, 1), axis=0), 1)


def test_seeds_draw_other_splits() -> None:
    codes = np.zeros(100, dtype=int)
    assert (rotations(codes, 0.8, 5, 0)[0] != rotations(codes, 0.8, 5, 1)[0]).any()
    assert (rotations(codes, 0.8, 5, 0)[0] == rotations(codes, 0.8, 5, 0)[0]).all()


def test_the_named_protocols() -> None:
    assert (SOUND.known, SOUND.folds, SOUND.metric) == ((0.2, 0.8), 5, "balanced_accuracy")
    assert SOUND.seeds >= 3
    assert SOUND.permutations >= 999
    assert (PAPER.known, PAPER.folds, PAPER.seeds, PAPER.metric) == ((0.2,), 1, 1, "accuracy")


@pytest.mark.parametrize("wrong", [{"known": ()}, {"known": (1.0,)}, {"folds": 0}, {"seeds": 0}, {"permutations": 10}])
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(InvalidSettings):
        Protocol(name="mine", **wrong)
