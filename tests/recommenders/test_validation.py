"""The score that decides when to stop: seen items are masked, ties count against, nobody to score is None."""

import numpy as np
import pytest

from attrcloak.data.ids import Ids
from attrcloak.data.interactions import Interactions, Split
from attrcloak.recommenders.validation import validation_ndcg


def split_with(validation: list[int]) -> Split:
    train = Interactions(Ids.range(2), Ids.range(4), np.array([0, 1], dtype=np.int32), np.array([0, 1], dtype=np.int32))
    held_out = np.array(validation, dtype=np.int32)
    return Split(train, np.full(2, -1, dtype=np.int32), held_out, 0)


def test_by_hand() -> None:
    items = np.diag([4.0, 3.0, 2.0, 1.0])
    # User 0 has seen item 0; item 2 stands behind item 1. User 1 has seen item 1; item 0 is first.
    value = validation_ndcg(np.ones((2, 4)), items, split_with([2, 0]))
    assert value == pytest.approx((1 / np.log2(3) + 1) / 2)


def test_users_without_a_validation_item_do_not_count() -> None:
    items = np.diag([4.0, 3.0, 2.0, 1.0])
    assert validation_ndcg(np.ones((2, 4)), items, split_with([-1, 0])) == 1
    assert validation_ndcg(np.ones((2, 4)), items, split_with([-1, -1])) is None


def test_equal_scores_count_against_the_model() -> None:
    assert validation_ndcg(np.zeros((2, 4)), np.ones((4, 4)), split_with([2, 0])) == pytest.approx(1 / np.log2(4))
